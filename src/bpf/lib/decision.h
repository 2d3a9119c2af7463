/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* The decision about one packet (bpf/decide.bpf.c): what is asked on the way, what was found out so far, and
 * the maps of policies, owners and tenants that it comes from. */
#ifndef WEIR_BPF_DECISION_H
#define WEIR_BPF_DECISION_H

#include "bpf/lib/act.h"
#include "bpf/lib/bucket.h"
#include "bpf/lib/cache.h"
#include "bpf/lib/connection.h"
#include "bpf/lib/decide.h"
#include "bpf/lib/memory.h"
#include "bpf/lib/policy.h"
#include "bpf/lib/tell.h"

#define DECIDE_NEXT ACT_NEXT
#define DECIDE_DROP ACT_DROP

#define DECIDE_MIRRORS_MAX 4 /* of one packet */

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 2 * POLICY_NUMBER_MAX);
	__type(key, __u32);
	__array(values, struct unit_memory);
} policies SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, POLICY_RATES);
	__type(key, __u32);
	__type(value, struct policy_rate);
} decide_rates SEC(".maps");

/* Which owner conditions of a policy fit a process. */
struct decide_owner_key {
	__u64 brought; /* tells the policy */
	__u32 owner, reserved;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, struct decide_owner_key);
	__type(value, __u64);
} decide_owners SEC(".maps");

/* Whose policy, where the interface does not tell (bpf/lib/tenant.h): by a level of the owner's cgroup path.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 4096);
	__type(key, __u64);
	__type(value, struct policy_grant);
} tenant_cgroups SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, POLICY_EXPRESSION_PLACE(2 * POLICY_NUMBER_MAX, 0));
	__type(key, __u32);
	__type(value, __u32);
} decide_expressions SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct policy_chain);
} decide_chain SEC(".maps");

struct decide_verdict {
	__u32 rule, counter;
	__u32 action;
	__u32 log;
	__u32 ifindex; /* REDIRECT */
	__u32 reject;  /* enum policy_reject */
	__u32 state;   /* the rule asks for the state */
};

/*
 * What is found out about one packet.  In a map, not on the stack: for the room, and since a verifier that
 * looks at a loop's body once must not take for certain what that wrote.
 */
struct decide_work {
	struct policy_facts facts;
	struct connection_sight sight;
	struct policy_cursor cursor;
	__u32 decided; /* unit of the rule; 0: none */
	__u32 mac;     /* the same, of the last that rewrites addresses */
	__u32 dscp;    /* 64: not rewritten */
	__u32 mirror_count, mirrors[DECIDE_MIRRORS_MAX];
	__u32 passed;   /* rules that fitted and went on */
	__u32 over;     /* its limit was reached: dropped */
	__u32 judged;   /* limits that are still to come and were judged at XDP */
	__u32 uncached; /* the next packet is to be asked about again */
	struct decide_verdict verdict;
	struct policy_explanation explanation;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, DECIDE_SLOTS);
	__type(key, __u32);
	__type(value, struct decide_work);
} decide_works SEC(".maps");

/* Pointers to what belongs to one packet. */
struct decision {
	struct __sk_buff *skb;
	struct decide_ask *ask;
	struct decide_work *work;
	const struct policy_now *in_force;
	void *policy; /* the memory */
	const struct policy_header *header;
	struct connection *connection; /* NULL: none */
	__u32 number, place;
};

packet_inline int decide_rate_allows(__u32 which)
{
	struct policy_rate *rate = bpf_map_lookup_elem(&decide_rates, &which);

	return rate && token_bucket_consume(&rate->bucket, &rate->clock, 1, bpf_ktime_get_ns());
}

#endif
