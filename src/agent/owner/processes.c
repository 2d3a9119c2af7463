// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* What processes, users, units, … have moved: GET /v1/processes and GET /v1/owners, and who talks with a
 * host. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "agent/internal.h"
#include "agent/owner/owners.h"
#include "agent/owner/sockets.h"
#include "basic/cleanup.h"

#define NOWHERE         UINT32_MAX
#define INDEX_NAMES_MAX 3 /* processes that a host names */
#define NAME_WITHOUT    ""

/* What one identity, one process or one group has moved. */
struct sum {
	const struct owner *owner; /* the latest identity of it */
	const char *name;          /* what it is grouped by */
	struct table_counts in, out;
	uint64_t rate_in_bps, rate_out_bps;
	uint64_t first_ns, last_ns;
	uint32_t flows, processes;
};

/* What is no process', in the order of the words. */
enum no_process { FORWARDED, KERNEL, UNKNOWN, OTHER, NO_PROCESS_COUNT };
static const char *const no_process_words[] = {"forwarded", "kernel", "unknown", "other"};
static const uint32_t no_process_ids[] = {OWNER_FORWARDED, OWNER_KERNEL, OWNER_UNKNOWN};

struct sums {
	struct sum *sums;
	size_t count;
	struct sum none[NO_PROCESS_COUNT];
	bool from_totals;
};

static void cleanup_sums(struct sums *sums)
{
	free(sums->sums);
}

/* -- adding up -- */

/* Can the totals answer?  They know who and which way, and nothing else. */
static bool is_for_totals(const struct match *match)
{
	struct match rest = *match;

	rest.direction = MATCH_BOTH;
	rest.owner.kind = OWNER_ANY;
	return match_is_address_only(&rest) && !rest.family && !rest.from.has_prefix && !rest.to.has_prefix &&
	       !rest.either.has_prefix;
}

static void add_total(struct sum *sum, const struct table_total *total, enum match_direction direction)
{
	if (direction != MATCH_OUT) {
		sum->in = total->in;
		sum->rate_in_bps = total->rate_in.bps;
	}
	if (direction != MATCH_IN) {
		sum->out = total->out;
		sum->rate_out_bps = total->rate_out.bps;
	}
	sum->first_ns = total->first_ns;
	sum->last_ns = total->last_ns;
	sum->flows = total->flows;
}

static void add_flow(struct sum *sum, const struct table_flow *flow)
{
	bool out = flow->key.kind & FLOW_KIND_OUT;
	struct table_counts *counts = out ? &sum->out : &sum->in;

	counts->packets += flow->counts.packets;
	counts->bytes += flow->counts.bytes;
	*(out ? &sum->rate_out_bps : &sum->rate_in_bps) += flow->rate.bps;
	if (!sum->first_ns || flow->first_ns < sum->first_ns)
		sum->first_ns = flow->first_ns;
	if (flow->last_ns > sum->last_ns)
		sum->last_ns = flow->last_ns;
	sum->flows++;
}

static void add_sum(struct sum *sum, const struct sum *more)
{
	sum->in.packets += more->in.packets;
	sum->in.bytes += more->in.bytes;
	sum->out.packets += more->out.packets;
	sum->out.bytes += more->out.bytes;
	sum->rate_in_bps += more->rate_in_bps;
	sum->rate_out_bps += more->rate_out_bps;
	if (more->first_ns && (!sum->first_ns || more->first_ns < sum->first_ns))
		sum->first_ns = more->first_ns;
	if (more->last_ns > sum->last_ns)
		sum->last_ns = more->last_ns;
	sum->flows += more->flows;
}

static void sums_from_totals(struct agent *agent, const struct match *match, struct sums *sums)
{
	for (uint32_t i = 0; i < sums->count; i++) {
		const struct owner *owner = owner_at(agent, i);
		uint32_t total = owner ? table_find_owner(agent->table, owner->id) : TABLE_NONE;

		if (!owner || !owner_match_fits(&match->owner, owner))
			continue;
		sums->sums[i].owner = owner;
		if (total != TABLE_NONE)
			add_total(&sums->sums[i], table_total(agent->table, TABLE_OWNERS, total),
				match->direction);
	}
	if (match->owner.kind != OWNER_ANY)
		return;
	for (int i = 0; i < OTHER; i++) {
		uint32_t total = table_find_owner(agent->table, no_process_ids[i]);

		if (total != TABLE_NONE)
			add_total(&sums->none[i], table_total(agent->table, TABLE_OWNERS, total),
				match->direction);
	}
	add_total(&sums->none[OTHER], table_total(agent->table, TABLE_OWNERS, TABLE_OTHER), match->direction);
}

static void sums_from_flows(struct agent *agent, const struct match *match, struct sums *sums)
{
	uint32_t flows = table_flow_count(agent->table);

	for (uint32_t i = 0; i < flows; i++) {
		uint32_t owner, place = NOWHERE;
		enum no_process none = UNKNOWN;

		if (!answer_flow_fits(agent, i, match))
			continue;
		owner = table_flow_owner(agent->table, i);
		if (owner >= OWNER_FIRST) {
			place = owner_place(agent, owner);
			none = OTHER;
		}
		for (int n = 0; n < OTHER; n++)
			if (owner == no_process_ids[n])
				none = (enum no_process)n;
		/* places may have been added since they were counted, by looking for owners */
		if (place < sums->count) {
			sums->sums[place].owner = owner_at(agent, place);
			add_flow(&sums->sums[place], table_flow(agent->table, i));
		} else {
			add_flow(&sums->none[none], table_flow(agent->table, i));
		}
	}
}

/* -- grouping -- */

static int compare_numbers(uint64_t a, uint64_t b)
{
	return (a > b) - (a < b);
}

static int compare_processes(const struct owner *a, const struct owner *b)
{
	int result = compare_numbers(a->key.start_ns, b->key.start_ns);

	return result ? result : compare_numbers(a->key.pid, b->key.pid);
}

/* By process, the latest identity of each first. */
static int compare_identities(const void *left, const void *right)
{
	const struct sum *a = left, *b = right;
	int result = compare_processes(a->owner, b->owner);

	return result ? result : compare_numbers(b->owner->id, a->owner->id);
}

static int compare_names(const void *left, const void *right)
{
	const struct sum *a = left, *b = right;

	return strcmp(a->name, b->name);
}

static bool same_process(const struct sum *a, const struct sum *b)
{
	return compare_processes(a->owner, b->owner) == 0;
}

static bool same_name(const struct sum *a, const struct sum *b)
{
	return strcmp(a->name, b->name) == 0;
}

static void sums_merge(struct sums *sums, bool (*same)(const struct sum *a, const struct sum *b))
{
	size_t count = 0;

	for (size_t i = 0; i < sums->count; i++) {
		if (count && same(&sums->sums[count - 1], &sums->sums[i])) {
			add_sum(&sums->sums[count - 1], &sums->sums[i]);
			sums->sums[count - 1].processes += sums->sums[i].processes;
		} else {
			sums->sums[count++] = sums->sums[i];
		}
	}
	sums->count = count;
}

static const char *group_name(const struct owner_info *info, enum query_group by)
{
	const char *const names[] = {
		[GROUP_PROCESS] = info->owner.command,
		[GROUP_USER] = info->user,
		[GROUP_GROUP] = info->group,
		[GROUP_EXE] = info->owner.exe,
		[GROUP_CGROUP] = info->owner.cgroup,
		[GROUP_UNIT] = info->unit,
		[GROUP_CONTAINER] = info->container,
		[GROUP_POD] = info->pod,
	};

	return names[by];
}

/* A process that is gone and has moved nothing is not worth a line. */
static bool is_worth_telling(struct agent *agent, const struct sum *sum, bool from_totals)
{
	const struct owner_info *info;

	if (!sum->owner)
		return false;
	if (sum->in.packets || sum->out.packets || !from_totals)
		return true;
	info = owner_find(agent, sum->owner->id);
	return info && !info->ended_ns;
}

static int sums_make(struct agent *agent, const struct query *query, struct sums *sums)
{
	uint32_t places = owner_places(agent);
	size_t count = 0;

	*sums = (struct sums){
		.sums = calloc(places + 1, sizeof(*sums->sums)),
		.count = places,
		.from_totals = is_for_totals(&query->match),
	};
	if (!sums->sums)
		return -ENOMEM;
	(sums->from_totals ? sums_from_totals : sums_from_flows)(agent, &query->match, sums);
	for (uint32_t i = 0; i < places; i++)
		if (is_worth_telling(agent, &sums->sums[i], sums->from_totals))
			sums->sums[count++] = sums->sums[i];
	sums->count = count;
	qsort(sums->sums, sums->count, sizeof(*sums->sums), compare_identities);
	for (size_t i = 0; i < sums->count; i++)
		sums->sums[i].processes = i == 0 || !same_process(&sums->sums[i - 1], &sums->sums[i]);
	return 0;
}

/* -- order -- */

static int compare_sums(const void *left, const void *right, void *context)
{
	const struct query *query = context;
	const struct sum *a = left, *b = right;
	int result;

	switch (query->sort) {
	case SORT_PACKETS:
		result = compare_numbers(a->in.packets + a->out.packets, b->in.packets + b->out.packets);
		break;
	case SORT_IN:
		result = compare_numbers(a->in.bytes, b->in.bytes);
		break;
	case SORT_OUT:
		result = compare_numbers(a->out.bytes, b->out.bytes);
		break;
	case SORT_RATE:
		result = compare_numbers(a->rate_in_bps + a->rate_out_bps, b->rate_in_bps + b->rate_out_bps);
		break;
	case SORT_FLOWS:
		result = compare_numbers(a->flows, b->flows);
		break;
	case SORT_NAME:
		result = strcmp(a->name, b->name);
		break;
	case SORT_PID:
		result = compare_numbers(a->owner->key.pid, b->owner->key.pid);
		break;
	case SORT_STARTED:
		result = compare_numbers(a->owner->key.start_ns, b->owner->key.start_ns);
		break;
	default:
		result = compare_numbers(a->in.bytes + a->out.bytes, b->in.bytes + b->out.bytes);
	}
	if (!query->ascending)
		result = -result;
	return result ? result : compare_numbers(a->owner->id, b->owner->id);
}

/* -- documents -- */

static void write_sum(struct json_write *out, const struct sum *sum)
{
	answer_counts(out, "in", &sum->in);
	answer_counts(out, "out", &sum->out);
	json_write_number(out, "rate_in_bps", sum->rate_in_bps);
	json_write_number(out, "rate_out_bps", sum->rate_out_bps);
	json_write_number(out, "flows", sum->flows);
	if (sum->first_ns) {
		answer_time(out, "first", sum->first_ns);
		answer_time(out, "last", sum->last_ns);
	}
}

/* CLOCK_BOOTTIME goes on while the host sleeps. */
static void write_started(struct json_write *out, uint64_t boot_ns)
{
	struct timespec boot, wall;
	uint64_t age_ns;

	clock_gettime(CLOCK_BOOTTIME, &boot);
	clock_gettime(CLOCK_REALTIME, &wall);
	age_ns = (uint64_t)boot.tv_sec * 1000000000 + (uint64_t)boot.tv_nsec - boot_ns;
	answer_wall_time(
		out, "started", (uint64_t)wall.tv_sec * 1000000000 + (uint64_t)wall.tv_nsec - age_ns);
}

static void write_process(struct agent *agent, struct json_write *out, const struct sum *sum)
{
	const struct owner_info *info = owner_find(agent, sum->owner->id);
	struct socket_totals sockets;

	if (!info)
		return;
	json_write_object_begin(out, NULL);
	owner_write_process(out, info);
	write_sum(out, sum);
	if (sockets_of_process(agent, info->owner.key.pid, info->owner.key.start_ns, &sockets)) {
		json_write_number(out, "connections", sockets.connections);
		json_write_number(out, "retransmits", sockets.retransmits);
		if (sockets.srtt_us)
			json_write_number(out, "srtt_us", sockets.srtt_us);
	}
	write_started(out, info->owner.key.start_ns);
	if (info->ended_ns)
		answer_time(out, "ended", info->ended_ns);
	json_write_object_end(out);
	json_write_newline(out);
}

static void write_group(struct json_write *out, const struct sum *sum)
{
	json_write_object_begin(out, NULL);
	json_write_string(out, "name", sum->name);
	json_write_number(out, "processes", sum->processes);
	write_sum(out, sum);
	json_write_object_end(out);
	json_write_newline(out);
}

/* What is no process', and what is not clear yet. */
static void write_end(struct agent *agent, struct json_write *out, const struct sums *sums)
{
	struct table_summary summary;

	json_write_array_end(out);
	json_write_string(out, "source", sums->from_totals ? "totals" : "flows");
	for (int i = 0; i < NO_PROCESS_COUNT; i++) {
		json_write_object_begin(out, no_process_words[i]);
		answer_counts(out, "in", &sums->none[i].in);
		answer_counts(out, "out", &sums->none[i].out);
		json_write_object_end(out);
	}
	table_summarize(agent->table, &summary);
	json_write_object_begin(out, "undecided");
	answer_counts(out, "in", &summary.held_in);
	answer_counts(out, "out", &summary.held_out);
	json_write_object_end(out);
	answer_list_end(agent, out);
	json_write_object_end(out);
}

static int answer_processes(struct agent *agent, const struct query *query, struct json_write *out)
{
	_cleanup_(cleanup_sums) struct sums sums = {};
	int r = sums_make(agent, query, &sums);

	if (r < 0)
		return r;
	sums_merge(&sums, same_process);
	for (size_t i = 0; i < sums.count; i++)
		sums.sums[i].name = sums.sums[i].owner->command;
	qsort_r(sums.sums, sums.count, sizeof(*sums.sums), compare_sums, (void *)query);
	json_write_object_begin(out, NULL);
	json_write_array_begin(out, "processes");
	for (size_t i = 0; i < sums.count && i < query->limit; i++)
		write_process(agent, out, &sums.sums[i]);
	write_end(agent, out, &sums);
	return 0;
}

static int answer_owners(struct agent *agent, const struct query *query, struct json_write *out)
{
	_cleanup_(cleanup_sums) struct sums sums = {};
	int r = sums_make(agent, query, &sums);

	if (r < 0)
		return r;
	for (size_t i = 0; i < sums.count; i++) {
		const struct owner_info *info = owner_find(agent, sums.sums[i].owner->id);

		sums.sums[i].name = info ? group_name(info, query->by) : NAME_WITHOUT;
	}
	qsort(sums.sums, sums.count, sizeof(*sums.sums), compare_names);
	sums_merge(&sums, same_name);
	qsort_r(sums.sums, sums.count, sizeof(*sums.sums), compare_sums, (void *)query);
	json_write_object_begin(out, NULL);
	json_write_string(out, "by", query_groups[query->by]);
	json_write_array_begin(out, "owners");
	for (size_t i = 0; i < sums.count && i < query->limit; i++)
		write_group(out, &sums.sums[i]);
	write_end(agent, out, &sums);
	return 0;
}

static void reply_processes(struct agent *agent, struct evhttp_request *request)
{
	reply_totals(agent, request, QUERY_PROCESSES, answer_processes);
}

static void reply_owners(struct agent *agent, struct evhttp_request *request)
{
	reply_totals(agent, request, QUERY_OWNERS, answer_owners);
}

const struct route owner_routes[] = {
	{"/v1/processes", EVHTTP_REQ_GET, reply_processes},
	{"/v1/owners", EVHTTP_REQ_GET, reply_owners},
	{NULL},
};

/* -- who talks with a host, who has a port -- */

struct owner_use {
	uint32_t total, place; /* of the host or port; of the process' latest identity */
	uint64_t bytes;
};

struct owner_index {
	size_t count;
	struct owner_use uses[]; /* by total; of each, the largest first */
};

static int compare_uses(const void *left, const void *right)
{
	const struct owner_use *a = left, *b = right;
	int result = compare_numbers(a->total, b->total);

	return result ? result : compare_numbers(a->place, b->place);
}

static int compare_use_sizes(const void *left, const void *right)
{
	const struct owner_use *a = left, *b = right;
	int result = compare_numbers(a->total, b->total);

	if (!result)
		result = compare_numbers(b->bytes, a->bytes);
	return result ? result : compare_numbers(a->place, b->place);
}

struct owner_index *owner_index_new(struct agent *agent, bool ports, const struct match *match)
{
	uint32_t flows = table_flow_count(agent->table);
	struct owner_index *index = calloc(1, sizeof(*index) + flows * sizeof(index->uses[0]));
	size_t count = 0;

	if (!index)
		return NULL;
	for (uint32_t i = 0; i < flows; i++) {
		const struct table_flow *flow = table_flow(agent->table, i);
		uint32_t place, owner, total = ports ? flow->port : flow->host;

		if (!answer_flow_fits(agent, i, match) || total == TABLE_NONE)
			continue;
		owner = table_flow_owner(agent->table, i);
		place = owner >= OWNER_FIRST ? owner_place(agent, owner) : NOWHERE;
		if (place != NOWHERE)
			index->uses[index->count++] =
				(struct owner_use){total, owner_latest(agent, place), flow->counts.bytes};
	}
	qsort(index->uses, index->count, sizeof(index->uses[0]), compare_uses);
	for (size_t i = 0; i < index->count; i++) {
		if (count && compare_uses(&index->uses[count - 1], &index->uses[i]) == 0)
			index->uses[count - 1].bytes += index->uses[i].bytes;
		else
			index->uses[count++] = index->uses[i];
	}
	index->count = count;
	qsort(index->uses, index->count, sizeof(index->uses[0]), compare_use_sizes);
	return index;
}

void owner_index_write(
	struct agent *agent, const struct owner_index *index, struct json_write *out, uint32_t total)
{
	size_t low = 0, high = index->count, processes;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (index->uses[middle].total < total)
			low = middle + 1;
		else
			high = middle;
	}
	json_write_array_begin(out, "owners");
	for (processes = 0; low + processes < index->count && index->uses[low + processes].total == total;
		processes++) {
		const struct owner *owner = owner_at(agent, index->uses[low + processes].place);

		if (processes >= INDEX_NAMES_MAX || !owner)
			continue;
		json_write_object_begin(out, NULL);
		json_write_number(out, "pid", owner->key.pid);
		json_write_string(out, "command", owner->command);
		json_write_object_end(out);
	}
	json_write_array_end(out);
	json_write_number(out, "processes", processes);
}

void owner_index_free(struct owner_index *index)
{
	free(index);
}
