// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
#include "agent/probe/drops.h"

#include <arpa/inet.h>
#include <errno.h>
#include <event2/buffer.h>
#include <event2/event.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>

#include "agent/internal.h"
#include "agent/owner/owners.h"
#include "basic/cleanup.h"
#include "basic/log.h"
#include "engine/drop.h"

#define RECENT_MAX 1024   /* records that are kept */
#define LOOK_US    110000 /* until the table of flows may be brought up to date again */

/* The sum of what found no room of its own, as a reason. */
#define OTHER_REASON "other"

/* A record, with what may be gone when somebody asks. */
struct recent {
	struct drop_record record;
	char interface[ENGINE_NAME_MAX];
};

struct drops {
	struct agent *agent;
	struct feed *feed;
	struct recent *recent; /* a ring of RECENT_MAX */
	uint64_t count;        /* records so far; the last RECENT_MAX of them are there */
	uint64_t told;         /* of these, those that followers were told */
	struct event *look;    /* brings the table up to date, and has the others told */
};

/* A reason with its sums, which stand one behind the other. */
struct reason_sum {
	char name[DROP_NAME_MAX];
	uint64_t packets, bytes, last_ns;
	struct engine_drop_sum *places;
	size_t place_count;
};

/* Everything that was counted, by reason. */
struct picture {
	struct engine_drop_sum *sums;
	struct reason_sum *reasons;
	size_t reason_count;
	uint64_t packets, bytes;
	struct drop_stats stats;
	uint64_t missed;
};

static void picture_free(struct picture *picture)
{
	free(picture->sums);
	free(picture->reasons);
}

/* -- the picture -- */

static int compare_sums(const void *left, const void *right)
{
	const struct engine_drop_sum *a = left, *b = right;

	if (a->key.reason != b->key.reason)
		return a->key.reason < b->key.reason ? -1 : 1;
	if (a->packets != b->packets)
		return a->packets > b->packets ? -1 : 1;
	return (a->key.location > b->key.location) - (a->key.location < b->key.location);
}

static void reason_add(struct reason_sum *reason, uint64_t packets, uint64_t bytes, uint64_t last_ns)
{
	reason->packets += packets;
	reason->bytes += bytes;
	if (last_ns > reason->last_ns)
		reason->last_ns = last_ns;
}

static void picture_group(struct engine *engine, struct picture *picture, size_t count)
{
	struct reason_sum *reason = NULL;

	for (size_t i = 0; i < count; i++) {
		struct engine_drop_sum *sum = &picture->sums[i];

		if (!i || sum->key.reason != sum[-1].key.reason) {
			reason = &picture->reasons[picture->reason_count++];
			reason->places = sum;
			engine_drop_reason_name(engine, sum->key.reason, reason->name);
		}
		reason->place_count++;
		reason_add(reason, sum->packets, sum->bytes, sum->last_ns);
	}
	if (picture->stats.other.packets) {
		reason = &picture->reasons[picture->reason_count++];
		snprintf(reason->name, sizeof(reason->name), OTHER_REASON);
		reason_add(reason, picture->stats.other.packets, picture->stats.other.bytes,
			picture->stats.other.last);
	}
	for (size_t i = 0; i < picture->reason_count; i++) {
		picture->packets += picture->reasons[i].packets;
		picture->bytes += picture->reasons[i].bytes;
	}
}

static int picture_read(struct engine *engine, struct picture *picture)
{
	size_t count = 0;
	int r = engine_drop_sums(engine, &picture->sums, &count);

	if (r == 0)
		r = engine_drop_stats(engine, &picture->stats, &picture->missed);
	if (r < 0)
		return r;
	picture->reasons = calloc(count + 1, sizeof(*picture->reasons));
	if (!picture->reasons)
		return -ENOMEM;
	qsort(picture->sums, count, sizeof(*picture->sums), compare_sums);
	picture_group(engine, picture, count);
	return 0;
}

int drops_packets(struct agent *agent, uint64_t *ret_packets)
{
	struct engine_drop_sum *sums = NULL;
	struct drop_stats stats;
	uint64_t missed, packets;
	size_t count = 0;
	int r = engine_drop_sums(agent->engine, &sums, &count);

	if (r == 0)
		r = engine_drop_stats(agent->engine, &stats, &missed);
	if (r == 0) {
		packets = stats.other.packets;
		for (size_t i = 0; i < count; i++)
			packets += sums[i].packets;
		*ret_packets = packets;
	}
	free(sums);
	return r;
}

static int compare_reasons(const void *left, const void *right, void *context)
{
	const struct reason_sum *a = left, *b = right;
	const struct query *query = context;
	uint64_t value_a = a->packets, value_b = b->packets;
	int names = strcmp(a->name, b->name), result;

	if (query->sort == SORT_BYTES) {
		value_a = a->bytes;
		value_b = b->bytes;
	} else if (query->sort == SORT_LAST) {
		value_a = a->last_ns;
		value_b = b->last_ns;
	}
	result = query->sort == SORT_REASON ? names : (value_a > value_b) - (value_a < value_b);
	if (!query->ascending)
		result = -result;
	return result ? result : names;
}

/* -- records -- */

static struct address record_address(const struct drop_record *record, const __be32 words[4])
{
	struct address address = {.family = record->kind & FLOW_KIND_IPV4 ? 4 : 6};

	memcpy(address.bytes, words, address.family == 4 ? 4 : 16);
	return address;
}

static bool has_addresses(const struct drop_record *record)
{
	return record->kind & (FLOW_KIND_IPV4 | FLOW_KIND_IPV6);
}

/* The owner that the flow is known to have, where the drop met no socket; remembered, as flows age out. */
static uint32_t recent_owner(struct agent *agent, struct recent *recent)
{
	struct drop_record *record = &recent->record;
	struct table_key key = {
		.sport = record->sport,
		.dport = record->dport,
		.ifindex = record->ifindex,
		.proto = record->proto,
		.kind = record->kind,
		.vlan = record->vlan,
	};
	uint32_t flow;

	if (record->owner != OWNER_UNKNOWN || !has_addresses(record))
		return record->owner;
	memcpy(key.src, record->src, sizeof(key.src));
	memcpy(key.dst, record->dst, sizeof(key.dst));
	flow = table_find_flow(agent->table, &key);
	if (flow != TABLE_NONE)
		record->owner = table_flow_owner(agent->table, flow);
	return record->owner;
}

/* What a feed's filter looks at, too. */
struct told {
	struct agent *agent;
	struct recent *recent;
};

/* `context` is a struct match, `event` a struct told. */
static bool recent_fits(const void *context, const void *event)
{
	const struct match *match = context;
	const struct told *told = event;
	const struct recent *recent = told->recent;
	const struct drop_record *record = &recent->record;
	struct match_subject subject = {
		.direction = record->marks & DROP_OUT ? MATCH_OUT : MATCH_IN,
		.interface = recent->interface,
		.family = !has_addresses(record)          ? 0
	                  : record->kind & FLOW_KIND_IPV4 ? 4
	                                                  : 6,
		.protocol = record->proto,
		.source = record_address(record, record->src),
		.destination = record_address(record, record->dst),
		.has_ports = record->kind & FLOW_KIND_PORTS,
		.source_port = ntohs(record->sport),
		.destination_port = ntohs(record->dport),
		.tcp_flags = record->tcp_flags,
		.icmp_type = record->kind & FLOW_KIND_ICMP ? ntohs(record->dport) >> 8 : -1,
		.vlan = record->kind & FLOW_KIND_TAGGED ? record->vlan : -1,
		.fragment = record->kind & FLOW_KIND_FRAGMENT,
	};

	if (match->owner.kind != OWNER_ANY)
		subject.owner = owner_identity(told->agent, recent_owner(told->agent, told->recent));
	return match_fits(match, &subject);
}

static void write_packet(struct json_write *out, const struct drop_record *record)
{
	struct address src = record_address(record, record->src), dst = record_address(record, record->dst);
	bool ports = record->kind & FLOW_KIND_PORTS;

	json_write_number(out, "family", src.family);
	answer_protocol(out, record->proto);
	answer_address(out, "src", &src);
	json_write_number(out, "sport", ports ? ntohs(record->sport) : 0);
	answer_address(out, "dst", &dst);
	json_write_number(out, "dport", ports ? ntohs(record->dport) : 0);
	if (record->proto == IPPROTO_TCP && ports)
		answer_tcp_flags(out, record->tcp_flags);
	if (record->kind & FLOW_KIND_ICMP) {
		json_write_number(out, "icmp_type", ntohs(record->dport) >> 8);
		json_write_number(out, "icmp_code", ntohs(record->dport) & 0xff);
		if (record->sport)
			json_write_number(out, "icmp_id", ntohs(record->sport));
	}
	if (record->kind & FLOW_KIND_FRAGMENT)
		json_write_boolean(out, "fragment", true);
}

static void recent_write(struct agent *agent, struct json_write *out, struct recent *recent)
{
	const struct drop_record *record = &recent->record;
	struct engine *engine = agent->engine;
	char reason[DROP_NAME_MAX], place[DROP_PLACE_MAX], ethertype[8];
	uint32_t owner = recent_owner(agent, recent);

	json_write_object_begin(out, NULL);
	answer_time(out, "time", record->time_ns);
	json_write_string(out, "reason", engine_drop_reason_name(engine, record->reason, reason));
	json_write_string(out, "place", engine_drop_place_name(engine, record->location, place));
	if (record->marks & DROP_BY_RULE)
		json_write_number(out, "rule", record->rule);
	if (*recent->interface)
		json_write_string(out, "interface", recent->interface);
	json_write_string(out, "direction", record->marks & DROP_OUT ? "out" : "in");
	if (has_addresses(record)) {
		write_packet(out, record);
	} else if (record->protocol) {
		snprintf(ethertype, sizeof(ethertype), "0x%04x", ntohs(record->protocol));
		json_write_string(out, "ethertype", ethertype);
	}
	if (record->kind & FLOW_KIND_TAGGED)
		json_write_number(out, "vlan", record->vlan);
	if (owner != OWNER_UNKNOWN)
		owner_write(agent, out, owner);
	json_write_number(out, "packets", record->packets);
	json_write_number(out, "bytes", record->bytes);
	json_write_object_end(out);
}

static void tell(struct drops *drops, struct recent *recent)
{
	struct json_write json = {};

	recent_write(drops->agent, &json, recent);
	feed_publish(drops->feed, &(struct told){drops->agent, recent}, &json);
	json_write_free(&json);
}

/* In their order, up to the first whose flow the table may not know yet: with `all` none waits any longer. */
static void tell_followers(struct drops *drops, bool all)
{
	if (!feed_has_followers(drops->feed))
		drops->told = drops->count;
	for (; drops->told < drops->count; drops->told++) {
		struct recent *recent = &drops->recent[drops->told % RECENT_MAX];

		if (!all && has_addresses(&recent->record) &&
			recent_owner(drops->agent, recent) == OWNER_UNKNOWN) {
			if (!evtimer_pending(drops->look, NULL))
				evtimer_add(drops->look, &(struct timeval){.tv_usec = LOOK_US});
			return;
		}
		tell(drops, recent);
	}
}

static void on_look(evutil_socket_t fd, short what, void *context)
{
	struct drops *drops = context;

	(void)fd;
	(void)what;
	if (feed_has_followers(drops->feed))
		agent_refresh_table(drops->agent);
	tell_followers(drops, true);
}

static void on_record(void *context, const struct drop_record *record)
{
	struct drops *drops = context;
	struct recent *recent = &drops->recent[drops->count % RECENT_MAX];

	/* the place of one that still waits is needed */
	if (drops->count - drops->told == RECENT_MAX) {
		if (feed_has_followers(drops->feed))
			tell(drops, recent);
		drops->told++;
	}
	drops->count++;
	*recent = (struct recent){.record = *record};
	if (record->ifindex && !if_indextoname(record->ifindex, recent->interface))
		snprintf(recent->interface, sizeof(recent->interface), "#%u", record->ifindex);
}

static void read_ring(struct drops *drops)
{
	engine_drop_ring_read(drops->agent->engine, on_record, drops);
	tell_followers(drops, false);
}

static void on_ring(evutil_socket_t fd, short what, void *context)
{
	(void)fd;
	(void)what;
	read_ring(context);
}

/* -- answers -- */

static void write_reason(struct engine *engine, struct json_write *out, const struct reason_sum *reason)
{
	char place[DROP_PLACE_MAX];

	json_write_object_begin(out, NULL);
	json_write_string(out, "reason", reason->name);
	json_write_number(out, "packets", reason->packets);
	json_write_number(out, "bytes", reason->bytes);
	json_write_array_begin(out, "places");
	for (size_t i = 0; i < reason->place_count; i++) {
		json_write_object_begin(out, NULL);
		json_write_string(
			out, "place", engine_drop_place_name(engine, reason->places[i].key.location, place));
		json_write_number(out, "packets", reason->places[i].packets);
		json_write_object_end(out);
	}
	json_write_array_end(out);
	answer_time(out, "last", reason->last_ns);
	json_write_object_end(out);
	json_write_newline(out);
}

/* The newest first. */
static void write_recent(struct drops *drops, struct json_write *out, const struct query *query)
{
	uint64_t kept = drops->count < RECENT_MAX ? drops->count : RECENT_MAX, written = 0;

	json_write_array_begin(out, "recent");
	for (uint64_t i = 1; i <= kept && written < query->limit; i++) {
		struct recent *recent = &drops->recent[(drops->count - i) % RECENT_MAX];

		if (!recent_fits(&query->match, &(struct told){drops->agent, recent}))
			continue;
		recent_write(drops->agent, out, recent);
		json_write_newline(out);
		written++;
	}
	json_write_array_end(out);
}

static void write_stats(struct json_write *out, const struct picture *picture)
{
	json_write_number(out, "packets", picture->packets);
	json_write_number(out, "bytes", picture->bytes);
	json_write_number(out, "records", picture->stats.recorded);
	json_write_number(out, "unrecorded", picture->stats.unrecorded);
	json_write_number(out, "lost", picture->stats.lost);
	json_write_number(out, "missed", picture->missed);
	json_write_number(out, "unassigned", picture->stats.unassigned);
}

static void reply_drops(struct agent *agent, struct evhttp_request *request)
{
	struct picture picture = {};
	struct drops *drops = module_state(agent, &drop_module);
	struct json_write json = {};
	struct error error = {};
	struct query query;
	int r;

	if (query_parse(QUERY_DROPS, query_of(request), &query, &error) < 0) {
		reply_bad_request(request, &error);
		return;
	}
	r = picture_read(agent->engine, &picture);
	if (r < 0) {
		picture_free(&picture);
		reply_failure(request, r);
		return;
	}
	read_ring(drops);
	qsort_r(picture.reasons, picture.reason_count, sizeof(*picture.reasons), compare_reasons, &query);
	json_write_object_begin(&json, NULL);
	json_write_array_begin(&json, "drops");
	for (size_t i = 0; i < picture.reason_count && i < query.limit; i++)
		write_reason(agent->engine, &json, &picture.reasons[i]);
	json_write_array_end(&json);
	write_recent(drops, &json, &query);
	json_write_boolean(&json, "enabled", agent->config.drops_enabled);
	write_stats(&json, &picture);
	answer_list_end(agent, &json);
	json_write_object_end(&json);
	json_write_newline(&json);
	reply_json(request, HTTP_OK, "OK", &json);
	json_write_free(&json);
	picture_free(&picture);
}

static void reply_events(struct agent *agent, struct evhttp_request *request)
{
	static const char *const parameters[] = {"filter", NULL};
	struct drops *drops = module_state(agent, &drop_module);
	const char *query = query_of(request);
	_cleanup_free_ char *filter = query_value(query, "filter");
	struct match *match;
	struct error error = {};

	if (query_check(query, parameters, &error) < 0) {
		reply_bad_request(request, &error);
		return;
	}
	match = malloc(sizeof(*match));
	if (!match) {
		reply_failure(request, -ENOMEM);
		return;
	}
	if (match_parse(filter ? filter : "", match, &error) < 0) {
		free(match);
		reply_bad_request(request, &error);
		return;
	}
	feed_follow(drops->feed, request, recent_fits, match);
}

static void drops_status(struct agent *agent, void *state, struct json_write *out)
{
	struct picture picture = {};

	(void)state;
	if (picture_read(agent->engine, &picture) == 0) {
		json_write_object_begin(out, "drops");
		json_write_boolean(out, "enabled", agent->config.drops_enabled);
		json_write_number(out, "rate", agent->config.drops_rate);
		write_stats(out, &picture);
		json_write_object_end(out);
	}
	picture_free(&picture);
}

static void write_metrics(struct evbuffer *out, const struct picture *picture)
{
	const struct drop_stats *stats = &picture->stats;

	metrics_head(out, "weir_drops_total", "counter", "Packets that the kernel dropped, by its reason.");
	for (size_t i = 0; i < picture->reason_count; i++)
		metrics_labelled(out, "weir_drops_total", "reason", picture->reasons[i].name,
			picture->reasons[i].packets);
	metrics_head(out, "weir_drop_bytes_total", "counter", "Their bytes.");
	for (size_t i = 0; i < picture->reason_count; i++)
		metrics_labelled(out, "weir_drop_bytes_total", "reason", picture->reasons[i].name,
			picture->reasons[i].bytes);
	metrics_head(out, "weir_drop_records_total", "counter",
		"Drops that were recorded, that were more than the rate allows, that found no room.");
	metrics_labelled(out, "weir_drop_records_total", "fate", "recorded", stats->recorded);
	metrics_labelled(out, "weir_drop_records_total", "fate", "unrecorded", stats->unrecorded);
	metrics_labelled(out, "weir_drop_records_total", "fate", "lost", stats->lost);
	metrics_single(out, "weir_drops_missed_total", "counter",
		"Drops that were not counted, because another one was being counted.", picture->missed);
	metrics_single(out, "weir_drops_unassigned_total", "counter",
		"Drops that did not say to which network namespace they belong.", stats->unassigned);
}

static void drops_metrics(struct agent *agent, void *state, struct evbuffer *out)
{
	struct picture picture = {};

	(void)state;
	if (picture_read(agent->engine, &picture) == 0)
		write_metrics(out, &picture);
	picture_free(&picture);
}

/* -- the module -- */

static void drops_reload(struct agent *agent, void *state)
{
	int r = engine_drop_set(agent->engine, agent->config.drops_enabled, agent->config.drops_rate);

	(void)state;
	if (r < 0)
		log_warning("cannot change how drops are watched: %s", strerror(-r));
}

static void drops_close(void *state)
{
	struct drops *drops = state;

	feed_free(drops->feed);
	if (drops->look)
		event_free(drops->look);
	free(drops->recent);
	free(drops);
}

static int drops_open(struct agent *agent, void **ret_state, struct error *error)
{
	struct drops *drops = calloc(1, sizeof(*drops));
	int r;

	if (!drops)
		return error_set(error, -ENOMEM, "out of memory");
	drops->agent = agent;
	drops->feed = feed_new(agent);
	drops->recent = calloc(RECENT_MAX, sizeof(*drops->recent));
	drops->look = evtimer_new(agent->base, on_look, drops);
	r = drops->feed && drops->recent && drops->look ? 0 : -ENOMEM;
	if (r == 0)
		r = engine_drop_set(agent->engine, agent->config.drops_enabled, agent->config.drops_rate);
	if (r == 0)
		r = agent_wait_for(agent, engine_drop_ring_fd(agent->engine), on_ring, drops);
	if (r < 0) {
		drops_close(drops);
		return error_set(error, r, "cannot watch drops: %s", strerror(-r));
	}
	*ret_state = drops;
	return 0;
}

static const struct route drops_routes[] = {
	{"/v1/drops", EVHTTP_REQ_GET, reply_drops},
	{"/v1/drops/events", EVHTTP_REQ_GET, reply_events},
	{NULL},
};

const struct module drop_module = {
	.name = "drop",
	.open = drops_open,
	.close = drops_close,
	.reload = drops_reload,
	.status = drops_status,
	.metrics = drops_metrics,
	.routes = drops_routes,
};
