// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* What policies have counted and logged. */
#include <errno.h>
#include <limits.h>

#include "basic/clock.h"
#include "compile/bucket.h"
#include "engine/policy_internal.h"
#include "engine/shape.h"

#define CLOCK_AGE_NS 1000000

/* Ticks and nanoseconds, read at most once a millisecond: the counters of thousands of rules are asked for at
 * once. */
static const struct policy_clock *clock_read(struct policy_engine *policy)
{
	struct policy_clock *clock = &policy->clock;
	uint64_t now_ns = clock_ns(CLOCK_MONOTONIC);

	if (!clock->now_ns || now_ns - clock->now_ns >= CLOCK_AGE_NS) {
		engine_clock(policy->engine, &clock->tick, &clock->tick_ns);
		clock->now_ns = now_ns;
	}
	return clock;
}

static struct rule_count *count_of(const struct policy_engine *policy, unsigned int cpu, uint32_t counter)
{
	return policy->counts + (size_t)cpu * POLICY_COUNTERS_MAX + counter;
}

static void count_add(struct engine_policy_count *sum, int32_t *age, const struct policy_clock *clock,
	const struct rule_count *count)
{
	int32_t ago = (int32_t)(clock->tick - load(count->last));

	sum->packets += load(count->packets);
	sum->bytes += load(count->bytes);
	if (load(count->packets) && ago < *age)
		*age = ago;
}

int engine_policy_count(
	struct engine *engine, uint32_t counter, uint32_t class, struct engine_policy_count *ret_count)
{
	struct policy_engine *policy = policy_of(engine);
	const struct policy_clock *clock = clock_read(policy);
	struct engine_policy_count sum = {};
	int32_t age = INT32_MAX;

	if (counter >= POLICY_COUNTERS_MAX)
		return -ENOENT;
	for (unsigned int cpu = 0; cpu < engine->view.cpus; cpu++) {
		struct rule_count plain;

		engine_shape_plain(engine, cpu, class, &plain);
		count_add(&sum, &age, clock, count_of(policy, cpu, counter));
		count_add(&sum, &age, clock, &plain);
	}
	if (age < 0)
		age = 0;
	if (sum.packets)
		sum.last_ns = clock->now_ns > (uint64_t)age * clock->tick_ns
		                      ? clock->now_ns - (uint64_t)age * clock->tick_ns
		                      : 1;
	*ret_count = sum;
	return 0;
}

int engine_policy_count_clear(struct engine *engine, uint32_t counter)
{
	const struct policy_engine *policy = policy_of(engine);

	if (counter >= POLICY_COUNTERS_MAX)
		return -ENOENT;
	for (unsigned int cpu = 0; cpu < engine->view.cpus; cpu++)
		*count_of(policy, cpu, counter) = (struct rule_count){};
	return 0;
}

void engine_policy_stats(struct engine *engine, struct policy_stats *ret_stats)
{
	const struct policy_engine *policy = policy_of(engine);
	struct policy_stats *stats = policy->stats;
	struct policy_stats sum = {};
	__u32 zero = 0;

	*ret_stats = sum;
	if (!policy->skeleton ||
		bpf_map_lookup_elem(bpf_map__fd(policy->skeleton->maps.policy_stats), &zero, stats) < 0)
		return;
	for (unsigned int cpu = 0; cpu < engine->view.cpus; cpu++) {
		sum.logged += stats[cpu].logged;
		sum.unlogged += stats[cpu].unlogged;
		sum.rejected += stats[cpu].rejected;
		sum.unanswered += stats[cpu].unanswered;
		sum.kept += stats[cpu].kept;
		sum.limited_full += stats[cpu].limited_full;
		sum.broken += stats[cpu].broken;
		sum.unreadable += stats[cpu].unreadable;
	}
	*ret_stats = sum;
}

/* -- the log -- */

static int log_read(void *context, void *record, size_t size)
{
	struct policy_engine *policy = context;

	if (policy->function && size >= sizeof(struct policy_log))
		policy->function(policy->context, record);
	return 0;
}

int policy_log_open(struct policy_engine *policy, struct error *error)
{
	return component_ring(policy->skeleton->obj, "rule_log", log_read, policy, &policy->log, error);
}

int policy_rate_set(struct policy_engine *policy, __u32 which, uint32_t a_second)
{
	const struct token_rate rate = {a_second, a_second, 1000000000};
	struct policy_rate value = {};
	int r = token_clock_start(&rate, clock_ns(CLOCK_MONOTONIC), &value.clock);

	if (r == 0 && bpf_map_update_elem(
			      bpf_map__fd(policy->skeleton->maps.decide_rates), &which, &value, BPF_ANY) < 0)
		r = -errno;
	return r;
}

int engine_policy_log_rate(struct engine *engine, uint32_t logged, uint32_t dropped)
{
	struct policy_engine *policy = policy_of(engine);
	uint64_t tick_ns = 1;
	uint32_t tick, gap = 0;

	engine_clock(engine, &tick, &tick_ns); /* cannot fail once it has worked */
	if (dropped) {
		gap = (uint32_t)(1000000000 / (tick_ns * dropped));
		gap = gap ? gap : 1;
	}
	store(policy->now->tell_next, tick - POLICY_TELL_BURST * gap);
	store(policy->now->tell_gap, gap);
	policy->log_rate = logged;
	return policy->skeleton ? policy_rate_set(policy, POLICY_RATE_LOG, logged) : 0;
}

void engine_policy_note_drops(struct engine *engine, bool watch)
{
	store(policy_of(engine)->now->noted, watch);
}

int engine_policy_log_fd(struct engine *engine)
{
	const struct policy_engine *policy = policy_of(engine);

	return policy->log ? ring_buffer__epoll_fd(policy->log) : -1;
}

void engine_policy_log_read(struct engine *engine, engine_policy_log_function *function, void *context)
{
	struct policy_engine *policy = policy_of(engine);

	policy->function = function;
	policy->context = context;
	if (policy->log)
		ring_buffer__consume(policy->log);
}
