// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
#include "agent/flow/collect.h"
#include "basic/clock.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* So many records of one CPU before somebody else has a turn. */
#define RECORDS_AT_ONCE 65536

/* A reader that meets a packet in the middle waits for its end.  That is nanoseconds away, unless the CPU
 * that works on it is itself waiting (a guest's, while its host does something else): then sleeping is better
 * than spinning. */
#define STATS_SPINS   1000
#define STATS_TRIES   2000
#define STATS_WAIT_NS 100000

/* A line, of either family, brought to one form. */
struct line_copy {
	struct table_key key;
	uint32_t serial;
	struct flow_counts counts;
	struct flow_marks marks;
	uint32_t first;
	struct flow_decision decision;
};

struct collector {
	struct engine *engine;
	struct table *table;
	uint64_t now_ns; /* of this round, and the datapath's clock at the same moment */
	uint32_t now_tick;
	uint64_t tick_ns;
	uint64_t all_at_ns; /* of the last collect_all() */
	uint64_t budget;    /* records that may still be read in this turn */
	/* lines whose last tenant's record was not seen in the first pass */
	struct {
		unsigned int cpu;
		uint32_t line;
		bool ipv6;
	} * pending;
	size_t pending_count, pending_room;
};

/* A tick of the recent past as CLOCK_MONOTONIC time. */
static uint64_t tick_time(const struct collector *collector, uint32_t tick)
{
	uint32_t age = collector->now_tick - tick;

	if (age > UINT32_MAX / 2)
		return collector->now_ns; /* written after we looked at the clock */
	return collector->now_ns - age * collector->tick_ns;
}

static void look_at_clocks(struct collector *collector)
{
	collector->now_ns = clock_ns(CLOCK_MONOTONIC);
	/* cannot fail once it has worked; if it did, times would stand still, counters not */
	engine_clock(collector->engine, &collector->now_tick, &collector->tick_ns);
}

static struct line_copy copy4(const struct flow_line4 *line)
{
	return (struct line_copy){
		.key = {.src = {line->src},
			.dst = {line->dst},
			.sport = line->sport,
			.dport = line->dport,
			.ifindex = line->ifindex,
			.proto = line->proto,
			.kind = line->kind,
			.vlan = line->vlan},
		.counts = line->counts,
		.marks = line->marks,
		.first = line->first,
		.decision = line->decision,
	};
}

static struct line_copy copy6(const struct flow_line6 *line, const struct flow_rest6 *rest)
{
	struct line_copy copy = {
		.key = {.sport = line->sport,
			.dport = line->dport,
			.ifindex = line->ifindex,
			.proto = line->proto,
			.kind = line->kind,
			.vlan = line->vlan},
		.counts = line->counts,
		.marks = line->marks,
		.first = rest->first,
		.decision = rest->decision,
	};

	memcpy(copy.key.src, line->src, sizeof(copy.key.src));
	memcpy(copy.key.dst, line->dst, sizeof(copy.key.dst));
	return copy;
}

/* What became of the last packet that rules were asked about. */
static enum table_verdict verdict_of(const struct line_copy *copy)
{
	if (copy->marks.origin & FLOW_DROPPED)
		return TABLE_DROPPED;
	return copy->marks.origin & FLOW_VERDICT_MASK ? TABLE_ACCEPTED : TABLE_NOT_JUDGED;
}

/* Accounts what a tenant has counted beyond `before`. */
static void account(struct collector *collector, const struct line_copy *copy,
	const struct table_line *before, struct table_line *target, struct table_line after, unsigned int cpu,
	uint64_t position)
{
	bool known = before && before->serial == copy->serial;
	uint64_t bytes = known ? before->bytes & ~TABLE_LINE_LEFT : 0;
	struct table_delta delta = {
		.key = copy->key,
		.counts = {copy->counts.packets - (known ? before->packets : 0), copy->counts.bytes - bytes},
		.first_ns = tick_time(collector, copy->first),
		.last_ns = tick_time(collector, copy->counts.last),
		.tcp_flags = copy->marks.tcp_flags,
		.origin = copy->marks.origin & (FLOW_ORIGIN_INITIATOR | FLOW_ORIGIN_RESPONDER),
		.verdict = verdict_of(copy),
		.rule = copy->decision.rule,
		.backend = copy->decision.backend,
		.owner = copy->decision.owner,
		.line = target,
		.accounted = after,
		.cpu = cpu,
		.position = position,
	};

	/* what was accounted before belongs to a flow that may have ended since; this part began after it */
	if (known)
		delta.first_ns = delta.last_ns;
	table_account(collector->table, &delta);
}

static int collect_record(void *context, unsigned int cpu, uint64_t position, const void *data, size_t size)
{
	struct collector *collector = context;
	const struct engine_view *view = engine_view(collector->engine);
	const struct flow_record4 *record4 = data;
	const struct flow_record6 *record6 = data;
	struct table_line *line, after;
	struct line_copy copy;
	uint32_t lines;

	if (table_has_record(collector->table, cpu, position))
		return 0;
	if (size >= sizeof(*record6) && record6->family == 6) {
		lines = view->sets6 * FLOW_WAYS;
		copy = copy6(&record6->flow, &record6->rest);
		copy.serial = record6->rest.serial;
		line = table_lines6(collector->table);
	} else {
		lines = view->sets4 * FLOW_WAYS;
		copy = copy4(&record4->flow);
		copy.serial = record4->flow.serial;
		line = table_lines4(collector->table);
	}
	line += (size_t)cpu * lines + record4->line % lines;
	after = (struct table_line){copy.serial, copy.counts.packets, copy.counts.bytes | TABLE_LINE_LEFT};

	/* A line that was scanned under its next tenant already keeps that; the older tenant was never
	 * scanned. */
	if (line->serial != copy.serial && (int32_t)(copy.serial - line->serial) < 0 && line->serial)
		account(collector, &copy, NULL, NULL, after, cpu, position + 1);
	else
		account(collector, &copy, line, line, after, cpu, position + 1);
	return --collector->budget == 0;
}

static void drain(struct collector *collector, unsigned int cpu, uint64_t budget)
{
	collector->budget = budget;
	engine_ring_read(collector->engine, cpu, collect_record, collector);
}

static void postpone(struct collector *collector, unsigned int cpu, uint32_t line, bool ipv6)
{
	if (collector->pending_count == collector->pending_room) {
		size_t room = collector->pending_room ? collector->pending_room * 2 : 1024;
		void *grown = realloc(collector->pending, room * sizeof(*collector->pending));

		if (!grown)
			return; /* the next round finds it again */
		collector->pending = grown;
		collector->pending_room = room;
	}
	collector->pending[collector->pending_count].cpu = cpu;
	collector->pending[collector->pending_count].line = line;
	collector->pending[collector->pending_count++].ipv6 = ipv6;
}

/*
 * Accounts a line as it is now.  In the first pass a line with a new tenant whose last tenant was scanned but
 * has not sent its record is postponed: the record is in the ring by now, and has to be read before the line
 * is taken over.  In the second pass (`final`) the ring was read, so that record was lost, and the datapath
 * has counted it as lost.
 */
#define COLLECT_LINE(collector, cpu, index, cached, rest, known, ipv6, copy_line, final)                     \
	do {                                                                                                 \
		uint32_t serial_ = __atomic_load_n(&(rest)->serial, __ATOMIC_ACQUIRE);                       \
		struct line_copy copy_;                                                                      \
                                                                                                             \
		if (!serial_ ||                                                                              \
			(serial_ == (known)->serial && (cached)->counts.packets == (known)->packets))        \
			break;                                                                               \
		if (serial_ != (known)->serial && (known)->serial && !((known)->bytes & TABLE_LINE_LEFT) &&  \
			!(final)) {                                                                          \
			postpone(collector, cpu, index, ipv6);                                               \
			break;                                                                               \
		}                                                                                            \
		copy_ = copy_line;                                                                           \
		__atomic_thread_fence(__ATOMIC_ACQUIRE);                                                     \
		if (__atomic_load_n(&(rest)->serial, __ATOMIC_RELAXED) != serial_)                           \
			break; /* pushed out under our eyes: its record tells */                             \
		copy_.serial = serial_;                                                                      \
		account(collector, &copy_, known, known,                                                     \
			(struct table_line){serial_, copy_.counts.packets, copy_.counts.bytes}, cpu, 0);     \
	} while (0)

static void collect_line4(struct collector *collector, unsigned int cpu, uint32_t index, bool final)
{
	const struct engine_view *view = engine_view(collector->engine);
	size_t i = (size_t)cpu * view->sets4 * FLOW_WAYS + index;
	const struct flow_line4 *line = &view->cache4[i / FLOW_WAYS].line[i % FLOW_WAYS];
	struct table_line *known = &table_lines4(collector->table)[i];

	COLLECT_LINE(collector, cpu, index, line, line, known, false, copy4(line), final);
}

static void collect_line6(struct collector *collector, unsigned int cpu, uint32_t index, bool final)
{
	const struct engine_view *view = engine_view(collector->engine);
	size_t i = (size_t)cpu * view->sets6 * FLOW_WAYS + index;
	const struct flow_line6 *line = &view->cache6[i / FLOW_WAYS].line[i % FLOW_WAYS];
	const struct flow_rest6 *rest = &view->rest6[i / FLOW_WAYS].line[i % FLOW_WAYS];
	struct table_line *known = &table_lines6(collector->table)[i];

	COLLECT_LINE(collector, cpu, index, line, rest, known, true, copy6(line, rest), final);
}

void collect_ring(struct collector *collector, unsigned int cpu)
{
	look_at_clocks(collector);
	drain(collector, cpu, RECORDS_AT_ONCE);
}

void collect_all(struct collector *collector)
{
	const struct engine_view *view = engine_view(collector->engine);

	look_at_clocks(collector);
	collector->pending_count = 0;
	for (unsigned int cpu = 0; cpu < view->cpus; cpu++)
		drain(collector, cpu, RECORDS_AT_ONCE);
	for (unsigned int cpu = 0; cpu < view->cpus; cpu++) {
		for (uint32_t i = 0; i < view->sets4 * FLOW_WAYS; i++)
			collect_line4(collector, cpu, i, false);
		for (uint32_t i = 0; i < view->sets6 * FLOW_WAYS; i++)
			collect_line6(collector, cpu, i, false);
	}
	/* What was pushed out in front of the scan belongs to this collection: owners are decided by all that
	 * was there when it began.  As many as a ring can hold: all that were in it when the first pass
	 * ended, and an end even under a flood. */
	for (unsigned int cpu = 0; cpu < view->cpus; cpu++)
		drain(collector, cpu,
			engine_sizes(collector->engine)->ring_bytes / sizeof(struct flow_record4));
	for (size_t i = 0; i < collector->pending_count; i++)
		(collector->pending[i].ipv6 ? collect_line6 : collect_line4)(
			collector, collector->pending[i].cpu, collector->pending[i].line, true);
	collector->all_at_ns = collector->now_ns;
	table_tick(collector->table, collector->now_ns);
}

uint64_t collected_at(const struct collector *collector)
{
	return collector->all_at_ns;
}

static struct flow_stats read_stats(const struct flow_stats *stats)
{
	const struct timespec wait = {.tv_nsec = STATS_WAIT_NS};
	struct flow_stats copy;

	for (int tries = 0; tries < STATS_TRIES; tries++) {
		uint64_t seen = __atomic_load_n(&stats->seen, __ATOMIC_ACQUIRE);

		copy = *(const volatile struct flow_stats *)stats;
		__atomic_thread_fence(__ATOMIC_ACQUIRE);
		if (__atomic_load_n(&stats->seen, __ATOMIC_RELAXED) == seen && copy.seen == seen &&
			copy.cached + copy.emitted + copy.lost == seen)
			break;
		if (tries >= STATS_SPINS)
			nanosleep(&wait, NULL);
	}
	return copy;
}

void collect_losses(const struct engine *engine, struct losses *ret_losses)
{
	const struct engine_view *view = engine_view(engine);
	struct losses losses = {};

	for (unsigned int cpu = 0; cpu < view->cpus; cpu++) {
		struct flow_stats stats = read_stats(&view->stats[cpu]);

		losses.seen += stats.seen;
		losses.cached += stats.cached;
		losses.emitted += stats.emitted;
		losses.lost += stats.lost;
		losses.lost_bytes += stats.lost_bytes;
		losses.records += stats.records;
		losses.postponed += stats.postponed;
		for (int i = 0; i < PARSE_REASON_MAX; i++)
			losses.reasons[i] += stats.reasons[i];
	}
	*ret_losses = losses;
}

int collector_open(struct engine *engine, struct table *table, struct collector **ret_collector)
{
	struct collector *collector = calloc(1, sizeof(*collector));

	if (!collector)
		return -ENOMEM;
	collector->engine = engine;
	collector->table = table;
	*ret_collector = collector;
	return 0;
}

void collector_close(struct collector *collector)
{
	if (!collector)
		return;
	free(collector->pending);
	free(collector);
}
