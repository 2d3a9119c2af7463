/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * What is in force (shared/policy.h), for every program that judges packets: the word that says so, the
 * policies' places, and what is counted.
 */
#ifndef WEIR_BPF_DECIDE_H
#define WEIR_BPF_DECIDE_H

#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "shared/policy.h"

#define decide_inline static __attribute__((always_inline)) inline

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct policy_now);
} policy_now SEC(".maps");

/* CPU by CPU, POLICY_COUNTERS_MAX each: the agent sets the number of entries.  No per-CPU map, of which the
 * kernel allocates each entry by itself: that takes longer than all else at the agent's start. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct rule_count);
} rule_counts SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct policy_stats);
} policy_stats SEC(".maps");

/* Answers to rejected packets (bpf/lib/act.h) pass the hooks of their interface again, in the other
 * direction. They are known by this mark, which ends there.  No mark comes over a wire. */
#define DECIDE_ANSWER_MARK 0x77656972

/* An answer of ours on its way?  Then it is not judged again. */
decide_inline int decide_is_answer(struct __sk_buff *skb)
{
	if (__builtin_expect(skb->mark != DECIDE_ANSWER_MARK, 1))
		return 0;
	skb->mark = 0;
	return 1;
}

/* NULL: nobody is judged. */
decide_inline const struct policy_now *decide_in_force(void)
{
	__u32 zero = 0;
	const struct policy_now *in_force = bpf_map_lookup_elem(&policy_now, &zero);

	return in_force && in_force->active ? in_force : (void *)0;
}

/* Has the change that waited for a confirmation ended without one? */
decide_inline int decide_lapsed(const struct policy_now *in_force, __u32 now)
{
	__u32 deadline = in_force->deadline;

	return __builtin_expect(deadline != 0, 0) && (__s32)(now - deadline) >= 0;
}

/* The tick after which flows were decided by what is in force. */
decide_inline __u32 decide_since(const struct policy_now *in_force, __u32 now)
{
	__u32 since = in_force->since;

	if (decide_lapsed(in_force, now) && (__s32)(in_force->deadline - since) > 0)
		return in_force->deadline;
	return since;
}

/* Where policy `number` is in force from: its key in `policies` and `policies_xdp`. */
decide_inline __u32 decide_place(const struct policy_now *in_force, __u32 number, __u32 now)
{
	__u64 places = decide_lapsed(in_force, now) ? in_force->places_before : in_force->places;

	number &= POLICY_NUMBER_MAX - 1;
	return number * 2 + (places >> number & 1);
}

/* Is a dropped packet to be told of (policy_now.tell_gap)? */
decide_inline int decide_tell_due(const struct policy_now *in_force, __u32 now)
{
	return in_force->tell_gap && (__s32)(now - in_force->tell_next) >= 0;
}

/* It is told of.  CPUs that do this at once tell of one each. */
decide_inline void decide_tell_take(__u32 now)
{
	__u32 zero = 0, earliest;
	struct policy_now *in_force = bpf_map_lookup_elem(&policy_now, &zero);

	if (!in_force)
		return;
	earliest = now - (POLICY_TELL_BURST - 1) * in_force->tell_gap;
	if ((__s32)(earliest - in_force->tell_next) > 0)
		in_force->tell_next = earliest;
	in_force->tell_next += in_force->tell_gap;
}

/* One of the fields of struct policy_stats. */
#define decide_stat(field)                                                                                   \
	do {                                                                                                 \
		__u32 zero_ = 0;                                                                             \
		struct policy_stats *stats_ = bpf_map_lookup_elem(&policy_stats, &zero_);                    \
                                                                                                             \
		if (stats_)                                                                                  \
			stats_->field++;                                                                     \
	} while (0)

/* `packets` and `bytes` as on the wire. */
decide_inline void decide_count(__u32 counter, __u32 packets, __u64 bytes, __u32 now)
{
	__u32 place = bpf_get_smp_processor_id() * POLICY_COUNTERS_MAX + counter;
	struct rule_count *count;

	if (counter >= POLICY_COUNTERS_MAX)
		return;
	count = bpf_map_lookup_elem(&rule_counts, &place);
	if (!count)
		return;
	count->packets += packets;
	count->bytes += bytes;
	count->last = now;
}

#endif
