// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* The documents of the API: what is selected, in which order, and how it reads (docs/api.md). */
#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "agent/flow/names.h"
#include "agent/internal.h"
#include "agent/owner/owners.h"
#include "basic/cleanup.h"
#include "basic/clock.h"

#define NS_PER_S 1000000000ULL

/* -- small parts -- */

char *answer_time_print(char buffer[static ANSWER_TIME_MAX], uint64_t realtime_ns)
{
	time_t seconds = (time_t)(realtime_ns / NS_PER_S);
	char day[32];
	struct tm parts;

	gmtime_r(&seconds, &parts);
	strftime(day, sizeof(day), "%Y-%m-%dT%H:%M:%S", &parts);
	snprintf(buffer, ANSWER_TIME_MAX, "%s.%03uZ", day, (unsigned int)(realtime_ns % NS_PER_S / 1000000));
	return buffer;
}

void answer_wall_time(struct json_write *out, const char *key, uint64_t realtime_ns)
{
	char text[ANSWER_TIME_MAX];

	json_write_string(out, key, answer_time_print(text, realtime_ns));
}

uint64_t answer_wall_ns(uint64_t monotonic_ns)
{
	return clock_ns(CLOCK_REALTIME) - (agent_now_ns() - monotonic_ns);
}

void answer_time(struct json_write *out, const char *key, uint64_t monotonic_ns)
{
	answer_wall_time(out, key, answer_wall_ns(monotonic_ns));
}

void answer_counts(struct json_write *out, const char *key, const struct table_counts *counts)
{
	json_write_object_begin(out, key);
	json_write_number(out, "packets", counts->packets);
	json_write_number(out, "bytes", counts->bytes);
	json_write_object_end(out);
}

static void write_losses(struct json_write *out, const struct losses *losses)
{
	json_write_object_begin(out, "losses");
	json_write_number(out, "seen", losses->seen);
	json_write_number(out, "cached", losses->cached);
	json_write_number(out, "emitted", losses->emitted);
	json_write_number(out, "lost", losses->lost);
	json_write_object_end(out);
}

static struct address key_address(const __be32 words[4], uint8_t kind)
{
	struct address address = {.family = kind & FLOW_KIND_IPV4 ? 4 : 6};

	memcpy(address.bytes, words, address.family == 4 ? 4 : 16);
	return address;
}

void answer_address(struct json_write *out, const char *key, const struct address *address)
{
	char text[ADDRESS_TEXT_MAX];

	json_write_string(out, key, address_print(text, sizeof(text), address));
}

void answer_protocol(struct json_write *out, uint8_t proto)
{
	const char *name = protocol_name(proto);
	char number[8];

	snprintf(number, sizeof(number), "%u", proto);
	json_write_string(out, "proto", name ? name : number);
}

/* -- flows -- */

static const char *flow_interface(const struct agent *agent, const struct table_flow *flow)
{
	return flow->interface == TABLE_OTHER
	               ? "?"
	               : table_total(agent->table, TABLE_INTERFACES, flow->interface)->name;
}

static bool is_flow(const struct table_flow *flow)
{
	return flow->state == TABLE_LIVE && flow->key.kind & (FLOW_KIND_IPV4 | FLOW_KIND_IPV6);
}

bool answer_flow_fits(struct agent *agent, uint32_t index, const struct match *match)
{
	const struct table_flow *flow = table_flow(agent->table, index);
	const struct table_key *key = &flow->key;
	struct match_subject subject = {
		.direction = key->kind & FLOW_KIND_OUT ? MATCH_OUT : MATCH_IN,
		.interface = flow_interface(agent, flow),
		.family = key->kind & FLOW_KIND_IPV4 ? 4 : 6,
		.protocol = key->proto,
		.source = key_address(key->src, key->kind),
		.destination = key_address(key->dst, key->kind),
		.has_ports = key->kind & FLOW_KIND_PORTS,
		.source_port = ntohs(key->sport),
		.destination_port = ntohs(key->dport),
		.tcp_flags = flow->tcp_flags,
		.icmp_type = key->kind & FLOW_KIND_ICMP ? ntohs(key->dport) >> 8 : -1,
		.vlan = key->kind & FLOW_KIND_TAGGED ? key->vlan : -1,
		.fragment = key->kind & FLOW_KIND_FRAGMENT,
	};

	if (!is_flow(flow))
		return false;
	if (match->owner.kind != OWNER_ANY)
		subject.owner = owner_identity(agent, table_flow_owner(agent->table, index));
	return match_fits(match, &subject);
}

struct flow_order {
	const struct agent *agent;
	const struct query *query;
};

static int compare_numbers(uint64_t a, uint64_t b)
{
	return (a > b) - (a < b);
}

static int compare_flows(const void *left, const void *right, void *context)
{
	const struct flow_order *order = context;
	const struct table_flow *a = table_flow(order->agent->table, *(const uint32_t *)left);
	const struct table_flow *b = table_flow(order->agent->table, *(const uint32_t *)right);
	struct address address_a, address_b;
	int result = 0;

	switch (order->query->sort) {
	case SORT_PACKETS:
		result = compare_numbers(a->counts.packets, b->counts.packets);
		break;
	case SORT_RATE:
		result = compare_numbers(a->rate.bps, b->rate.bps);
		break;
	case SORT_FIRST:
		result = compare_numbers(a->first_ns, b->first_ns);
		break;
	case SORT_LAST:
		result = compare_numbers(a->last_ns, b->last_ns);
		break;
	case SORT_DURATION:
		result = compare_numbers(a->last_ns - a->first_ns, b->last_ns - b->first_ns);
		break;
	case SORT_SRC:
		address_a = key_address(a->key.src, a->key.kind);
		address_b = key_address(b->key.src, b->key.kind);
		result = address_compare(&address_a, &address_b);
		break;
	case SORT_DST:
		address_a = key_address(a->key.dst, a->key.kind);
		address_b = key_address(b->key.dst, b->key.kind);
		result = address_compare(&address_a, &address_b);
		break;
	case SORT_SPORT:
		result = compare_numbers(ntohs(a->key.sport), ntohs(b->key.sport));
		break;
	case SORT_DPORT:
		result = compare_numbers(ntohs(a->key.dport), ntohs(b->key.dport));
		break;
	default:
		result = compare_numbers(a->counts.bytes, b->counts.bytes);
	}
	if (!order->query->ascending)
		result = -result;
	/* the same question gets the same order */
	return result ? result : compare_numbers(*(const uint32_t *)left, *(const uint32_t *)right);
}

int answer_select_flows(
	struct agent *agent, const struct query *query, uint32_t **ret_flows, size_t *ret_count)
{
	struct flow_order order = {agent, query};
	uint32_t room = table_flow_count(agent->table);
	uint32_t *flows = malloc((room + 1) * sizeof(*flows));
	size_t count = 0;

	if (!flows)
		return -ENOMEM;
	for (uint32_t i = 0; i < room; i++) {
		if (answer_flow_fits(agent, i, &query->match))
			flows[count++] = i;
	}
	qsort_r(flows, count, sizeof(*flows), compare_flows, &order);
	*ret_flows = flows;
	*ret_count = count < query->limit ? count : query->limit;
	return 0;
}

void answer_tcp_flags(struct json_write *out, uint8_t flags)
{
	static const struct {
		char letter;
		uint8_t bit;
	} letters[] = {{'S', 0x02}, {'A', 0x10}, {'P', 0x08}, {'F', 0x01}, {'R', 0x04}, {'U', 0x20},
		{'E', 0x40}, {'C', 0x80}};
	char text[sizeof(letters) / sizeof(letters[0]) + 1];
	size_t length = 0;

	for (size_t i = 0; i < sizeof(letters) / sizeof(letters[0]); i++)
		if (flags & letters[i].bit)
			text[length++] = letters[i].letter;
	text[length] = '\0';
	json_write_string(out, "tcp_flags", text);
}

void answer_flow(struct agent *agent, struct json_write *out, uint32_t index)
{
	const struct table_flow *flow = table_flow(agent->table, index);
	const struct table_key *key = &flow->key;
	struct address src = key_address(key->src, key->kind), dst = key_address(key->dst, key->kind);

	if (!is_flow(flow))
		return; /* left the table between two pieces of the answer */
	json_write_object_begin(out, NULL);
	json_write_number(out, "family", src.family);
	answer_protocol(out, key->proto);
	answer_address(out, "src", &src);
	json_write_number(out, "sport", key->kind & FLOW_KIND_PORTS ? ntohs(key->sport) : 0);
	answer_address(out, "dst", &dst);
	json_write_number(out, "dport", key->kind & FLOW_KIND_PORTS ? ntohs(key->dport) : 0);
	json_write_string(out, "interface", flow_interface(agent, flow));
	json_write_string(out, "direction", key->kind & FLOW_KIND_OUT ? "out" : "in");
	owner_write(agent, out, table_flow_owner(agent->table, index));
	json_write_number(out, "packets", flow->counts.packets);
	json_write_number(out, "bytes", flow->counts.bytes);
	answer_time(out, "first", flow->first_ns);
	answer_time(out, "last", flow->last_ns);
	json_write_real(out, "duration", (double)(flow->last_ns - flow->first_ns) / 1e9, 3);
	if (key->proto == IPPROTO_TCP && key->kind & FLOW_KIND_PORTS)
		answer_tcp_flags(out, flow->tcp_flags);
	if (key->kind & FLOW_KIND_ICMP) {
		json_write_number(out, "icmp_type", ntohs(key->dport) >> 8);
		json_write_number(out, "icmp_code", ntohs(key->dport) & 0xff);
		if (key->sport)
			json_write_number(out, "icmp_id", ntohs(key->sport));
	}
	if (key->kind & FLOW_KIND_TAGGED)
		json_write_number(out, "vlan", key->vlan);
	if (key->kind & FLOW_KIND_FRAGMENT)
		json_write_boolean(out, "fragment", true);
	if (flow->sample_shift)
		json_write_number(out, "sample_rate", 1U << flow->sample_shift);
	names_write_flow(agent, out, key);
	json_write_number(out, "rate_bps", flow->rate.bps);
	json_write_string(out, "state", flow->tcp_flags & TABLE_CLOSING_FLAGS ? "closed" : "active");
	if (flow->verdict) {
		json_write_string(out, "verdict", flow->verdict == TABLE_DROPPED ? "drop" : "accept");
		json_write_number(out, "rule", flow->rule);
	}
	json_write_object_end(out);
	json_write_newline(out);
}

static void write_table_summary(const struct agent *agent, struct json_write *out)
{
	struct table_summary summary;

	table_summarize(agent->table, &summary);
	json_write_object_begin(out, "table");
	json_write_number(out, "flows", summary.flows);
	json_write_number(out, "limit", summary.flows_limit);
	json_write_number(out, "sample_rate", summary.sample_rate);
	answer_counts(out, "sampled_out", &summary.sampled_out);
	answer_counts(out, "refused", &summary.refused);
	json_write_number(out, "hosts", summary.hosts);
	json_write_number(out, "hosts_limit", summary.hosts_limit);
	json_write_object_begin(out, "ended");
	json_write_number(out, "idle", summary.ended.idle);
	json_write_number(out, "active", summary.ended.active);
	json_write_number(out, "closed", summary.ended.closed);
	json_write_number(out, "pressure", summary.ended.pressure);
	json_write_object_end(out);
	json_write_object_end(out);
}

void answer_list_end(struct agent *agent, struct json_write *out)
{
	struct losses losses;

	collect_losses(agent->engine, &losses);
	write_losses(out, &losses);
	write_table_summary(agent, out);
}

/* -- totals of hosts and ports -- */

/* A line of an answer: a total, or what the matching flows of one add up to. */
struct sum {
	uint32_t total;
	struct table_counts in, out;
	uint64_t rate_in_bps, rate_out_bps;
	uint64_t first_ns, last_ns;
	uint32_t flows;
};

struct sums {
	struct sum *sums;
	size_t count;
	struct sum other;
};

static void sum_from_total(struct sum *sum, const struct table_total *total, enum match_direction direction)
{
	*sum = (struct sum){.total = sum->total,
		.first_ns = total->first_ns,
		.last_ns = total->last_ns,
		.flows = total->flows};
	if (direction != MATCH_OUT) {
		sum->in = total->in;
		sum->rate_in_bps = total->rate_in.bps;
	}
	if (direction != MATCH_IN) {
		sum->out = total->out;
		sum->rate_out_bps = total->rate_out.bps;
	}
}

static void sum_add_flow(struct sum *sum, const struct table_flow *flow)
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

/* Does a host's total hold what the match asks for?  The remote end is where traffic comes from, or goes to.
 */
static bool host_fits(const struct table_total *total, const struct match *match)
{
	struct match_subject subject = {
		.family = total->family, .icmp_type = -1, .vlan = -1, .interface = ""};
	struct address remote = {.family = total->family};
	struct match local = *match;

	memcpy(remote.bytes, total->address, remote.family == 4 ? 4 : 16);
	subject.source = subject.destination = remote;
	local.direction = MATCH_BOTH;
	return match_fits(&local, &subject);
}

/* A total knows the remote end only: where traffic that comes in is from, where traffic that goes out is to.
 */
static bool is_for_totals(const struct match *match)
{
	if (!match_is_address_only(match) || match->either.has_prefix)
		return false;
	return (!match->from.has_prefix || match->direction == MATCH_IN) &&
	       (!match->to.has_prefix || match->direction == MATCH_OUT);
}

static int sums_from_totals(
	struct agent *agent, enum table_pool_name pool, const struct query *query, struct sums *sums)
{
	uint32_t count = table_total_count(agent->table, pool);

	sums->sums = calloc(count + 1, sizeof(*sums->sums));
	if (!sums->sums)
		return -ENOMEM;
	for (uint32_t i = 0; i < count; i++) {
		const struct table_total *total = table_total(agent->table, pool, i);
		struct sum sum = {.total = i};

		sum_from_total(&sum, total, query->match.direction);
		if (i == TABLE_OTHER)
			sums->other = sum;
		else if ((pool != TABLE_HOSTS || host_fits(total, &query->match)) &&
			 (sum.in.packets || sum.out.packets))
			sums->sums[sums->count++] = sum;
	}
	return 0;
}

static int sums_from_flows(
	struct agent *agent, enum table_pool_name pool, const struct query *query, struct sums *sums)
{
	uint32_t totals = table_total_count(agent->table, pool), flows = table_flow_count(agent->table);

	sums->sums = calloc(totals + 1, sizeof(*sums->sums));
	if (!sums->sums)
		return -ENOMEM;
	for (uint32_t i = 0; i < flows; i++) {
		const struct table_flow *flow = table_flow(agent->table, i);
		uint32_t total = pool == TABLE_HOSTS ? flow->host : flow->port;

		if (total != TABLE_NONE && answer_flow_fits(agent, i, &query->match))
			sum_add_flow(&sums->sums[total], flow);
	}
	sums->other = sums->sums[TABLE_OTHER];
	for (uint32_t i = TABLE_OTHER + 1; i < totals; i++) {
		if (!sums->sums[i].flows)
			continue;
		sums->sums[sums->count] = sums->sums[i];
		sums->sums[sums->count++].total = i;
	}
	return 0;
}

struct sum_order {
	const struct agent *agent;
	const struct query *query;
	enum table_pool_name pool;
};

static int compare_sums(const void *left, const void *right, void *context)
{
	const struct sum_order *order = context;
	const struct sum *a = left, *b = right;
	const struct table_total *total_a = table_total(order->agent->table, order->pool, a->total);
	const struct table_total *total_b = table_total(order->agent->table, order->pool, b->total);
	int result;

	switch (order->query->sort) {
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
	case SORT_PORT:
		result = compare_numbers(total_a->port, total_b->port);
		break;
	case SORT_ADDRESS:
		result = total_a->family != total_b->family
		                 ? compare_numbers(total_a->family, total_b->family)
		                 : memcmp(total_a->address, total_b->address, sizeof(total_a->address));
		break;
	default:
		result = compare_numbers(a->in.bytes + a->out.bytes, b->in.bytes + b->out.bytes);
	}
	if (!order->query->ascending)
		result = -result;
	return result ? result : compare_numbers(a->total, b->total);
}

static void write_sum(struct json_write *out, const struct sum *sum)
{
	answer_counts(out, "in", &sum->in);
	answer_counts(out, "out", &sum->out);
	json_write_number(out, "flows", sum->flows);
	json_write_number(out, "rate_in_bps", sum->rate_in_bps);
	json_write_number(out, "rate_out_bps", sum->rate_out_bps);
	if (sum->first_ns) {
		answer_time(out, "first", sum->first_ns);
		answer_time(out, "last", sum->last_ns);
	}
}

static void write_host_key(struct agent *agent, struct json_write *out, const struct table_total *total)
{
	struct address address = {.family = total->family};

	memcpy(address.bytes, total->address, address.family == 4 ? 4 : 16);
	answer_address(out, "address", &address);
	names_write_host(agent, out, &address);
}

static void write_port_key(struct agent *agent, struct json_write *out, const struct table_total *total)
{
	(void)agent;
	answer_protocol(out, total->proto);
	json_write_number(out, "port", total->port);
}

static int answer_sums(struct agent *agent, const struct query *query, enum table_pool_name pool,
	const char *name, bool from_totals,
	void (*write_key)(struct agent *, struct json_write *, const struct table_total *),
	struct json_write *out)
{
	struct sum_order order = {agent, query, pool};
	struct owner_index *owners;
	struct sums sums = {};
	size_t count;
	int r = from_totals ? sums_from_totals(agent, pool, query, &sums)
	                    : sums_from_flows(agent, pool, query, &sums);

	if (r < 0)
		return r;
	owners = owner_index_new(agent, pool == TABLE_PORTS, &query->match);
	if (!owners) {
		free(sums.sums);
		return -ENOMEM;
	}
	qsort_r(sums.sums, sums.count, sizeof(*sums.sums), compare_sums, &order);
	count = sums.count < query->limit ? sums.count : query->limit;
	json_write_object_begin(out, NULL);
	json_write_array_begin(out, name);
	for (size_t i = 0; i < count; i++) {
		json_write_object_begin(out, NULL);
		write_key(agent, out, table_total(agent->table, pool, sums.sums[i].total));
		write_sum(out, &sums.sums[i]);
		owner_index_write(agent, owners, out, sums.sums[i].total);
		json_write_object_end(out);
		json_write_newline(out);
	}
	json_write_array_end(out);
	json_write_string(out, "source", from_totals ? "totals" : "flows");
	json_write_object_begin(out, "other");
	write_sum(out, &sums.other);
	json_write_object_end(out);
	answer_list_end(agent, out);
	json_write_object_end(out);
	owner_index_free(owners);
	free(sums.sums);
	return 0;
}

int answer_hosts(struct agent *agent, const struct query *query, struct json_write *out)
{
	return answer_sums(
		agent, query, TABLE_HOSTS, "hosts", is_for_totals(&query->match), write_host_key, out);
}

int answer_ports(struct agent *agent, const struct query *query, struct json_write *out)
{
	const struct match *match = &query->match;
	bool from_totals = match_is_address_only(match) && !match->family && !match->from.has_prefix &&
	                   !match->to.has_prefix && !match->either.has_prefix;

	return answer_sums(agent, query, TABLE_PORTS, "ports", from_totals, write_port_key, out);
}

/* -- interfaces and status -- */

static void write_kernel_counters(
	struct json_write *out, const char *key, const struct engine_counters *counters)
{
	json_write_object_begin(out, key);
	json_write_number(out, "packets", counters->packets);
	json_write_number(out, "bytes", counters->bytes);
	json_write_number(out, "dropped", counters->dropped);
	json_write_object_end(out);
}

static void write_hook(struct json_write *out, const char *hook, enum engine_hook_kind kind, uint32_t program)
{
	json_write_object_begin(out, NULL);
	json_write_string(out, "hook", hook);
	json_write_string(out, "kind", kind == ENGINE_HOOK_TCX ? "tcx" : "clsact");
	json_write_number(out, "program", program);
	json_write_object_end(out);
}

static void write_interface(const struct agent *agent, struct json_write *out, const struct watched *watched)
{
	static const char *const states[] = {"watched", "waiting", "failed"};
	uint32_t index = table_name_interface(agent->table, watched->index, watched->name);
	const struct table_total *total = table_total(agent->table, TABLE_INTERFACES, index);

	json_write_object_begin(out, NULL);
	json_write_string(out, "name", watched->name);
	if (watched->index)
		json_write_number(out, "index", watched->index);
	json_write_string(out, "state", states[watched->state]);
	if (watched->state == WATCH_FAILED)
		json_write_string(out, "error", watched->failure);
	if (watched->index)
		json_write_string(out, "link", watched->ethernet ? "ethernet" : "raw");
	json_write_array_begin(out, "hooks");
	if (watched->state == WATCH_WATCHED) {
		write_hook(out, "tc-ingress", watched->hooks.kind, watched->hooks.program_in);
		write_hook(out, "tc-egress", watched->hooks.kind, watched->hooks.program_out);
	}
	json_write_array_end(out);
	answer_counts(out, "in", &total->in);
	answer_counts(out, "out", &total->out);
	json_write_number(out, "rate_in_bps", total->rate_in.bps);
	json_write_number(out, "rate_out_bps", total->rate_out.bps);
	if (watched->index) {
		json_write_object_begin(out, "kernel");
		write_kernel_counters(out, "in", &watched->in);
		write_kernel_counters(out, "out", &watched->out);
		json_write_object_end(out);
	}
	json_write_object_end(out);
	json_write_newline(out);
}

static void write_interfaces(const struct agent *agent, struct json_write *out)
{
	json_write_array_begin(out, "interfaces");
	for (size_t i = 0; i < agent->watched_count; i++)
		write_interface(agent, out, &agent->watched[i]);
	json_write_array_end(out);
}

void answer_interfaces(struct agent *agent, struct json_write *out)
{
	json_write_object_begin(out, NULL);
	write_interfaces(agent, out);
	answer_list_end(agent, out);
	json_write_object_end(out);
}

static void write_features(const struct agent *agent, struct json_write *out)
{
	size_t count;
	const struct engine_feature *features = engine_features(agent->engine, &count);

	json_write_array_begin(out, "features");
	for (size_t i = 0; i < count; i++) {
		json_write_object_begin(out, NULL);
		json_write_string(out, "name", features[i].name);
		json_write_boolean(out, "found", features[i].found);
		json_write_string(out, "for", features[i].purpose);
		if (features[i].replacement)
			json_write_string(out, "else", features[i].replacement);
		json_write_object_end(out);
	}
	json_write_array_end(out);
}

static void write_memory(const struct agent *agent, struct json_write *out)
{
	struct table_summary summary;

	table_summarize(agent->table, &summary);
	json_write_object_begin(out, "memory");
	json_write_number(out, "agent_bytes", memory_of_agent());
	json_write_number(out, "cache_bytes", engine_map_bytes(agent->engine));
	json_write_number(out, "ring_bytes",
		(uint64_t)engine_view(agent->engine)->cpus * engine_sizes(agent->engine)->ring_bytes);
	json_write_number(out, "table_bytes", summary.bytes);
	json_write_object_end(out);
}

static void write_parse_reasons(struct json_write *out, const struct losses *losses)
{
	json_write_array_begin(out, "parse");
	for (int i = PARSE_OK + 1; i < PARSE_REASON_COUNT; i++) {
		json_write_object_begin(out, NULL);
		json_write_string(out, "reason", parse_reason_name((enum parse_reason)i));
		json_write_number(out, "packets", losses->reasons[i]);
		json_write_object_end(out);
	}
	json_write_array_end(out);
}

void answer_status(struct agent *agent, struct json_write *out)
{
	struct losses losses;
	struct utsname system;

	collect_losses(agent->engine, &losses);
	uname(&system);
	json_write_object_begin(out, NULL);
	json_write_string(out, "version", WEIR_VERSION);
	json_write_number(out, "pid", (uint64_t)getpid());
	json_write_string(out, "host", system.nodename);
	json_write_string(out, "run_dir", agent->run_dir);
	json_write_string(out, "pins", engine_pins(agent->engine));
	if (agent->options->config_file)
		json_write_string(out, "config", agent->options->config_file);
	answer_time(out, "started", agent->started_ns);
	json_write_number(out, "uptime", (agent_now_ns() - agent->started_ns) / NS_PER_S);
	answer_time(out, "datapath_since", engine_since(agent->engine));
	json_write_string(out, "kernel", system.release);
	write_features(agent, out);
	write_losses(out, &losses);
	json_write_number(out, "lost_bytes", losses.lost_bytes);
	json_write_number(out, "records", losses.records);
	write_table_summary(agent, out);
	write_parse_reasons(out, &losses);
	write_memory(agent, out);
	write_interfaces(agent, out);
	modules_status(agent, out);
	json_write_object_end(out);
}

void answer_error(const struct error *error, struct json_write *out)
{
	json_write_object_begin(out, NULL);
	json_write_object_begin(out, "error");
	json_write_string(out, "what", error->what);
	if (*error->want)
		json_write_string(out, "want", error->want);
	if (*error->file)
		json_write_string(out, "file", error->file);
	if (error->line)
		json_write_number(out, "line", error->line);
	if (error->column) {
		json_write_string(out, "text", error->excerpt);
		json_write_number(out, "column", error->column);
		if (error->caret != error->column)
			json_write_number(out, "caret", error->caret);
	}
	json_write_object_end(out);
	json_write_object_end(out);
}
