/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Rules that limit: how much of what they fit may pass.
 *
 * Every limit has a place in `rule_limits`, which the agent writes before a policy names it and which stays
 * as it is while one does.  Sources and destinations have their buckets in one LRU map, which the agent puts
 * into the slot of `limit_sources` with the first such limit; who was longest not seen makes room.
 */
#ifndef WEIR_BPF_LIMIT_H
#define WEIR_BPF_LIMIT_H

#include <linux/bpf.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "bpf/lib/bucket.h"
#include "shared/policy.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, POLICY_LIMITS_MAX);
	__type(key, __u32);
	__type(value, struct policy_limit);
} rule_limits SEC(".maps");

/* Of limits for all that a rule fits. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, POLICY_LIMITS_MAX);
	__type(key, __u32);
	__type(value, struct token_bucket);
} limit_rules SEC(".maps");

struct limit_sources_map {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, POLICY_LIMITED_MAX);
	__uint(key_size, sizeof(struct policy_limited));
	__uint(value_size, sizeof(struct token_bucket));
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 1);
	__type(key, __u32);
	__array(values, struct limit_sources_map);
} limit_sources SEC(".maps");

/* How many sources and destinations have got buckets, by limit.  Less those that have one now it is how many
 * made room for others. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, POLICY_LIMITS_MAX);
	__type(key, __u32);
	__type(value, __u64);
} limit_made SEC(".maps");

/* Connections that are there: the agent puts it right where entries of the LRU of embryos went unseen. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, POLICY_CONNECTED_MAX);
	__type(key, struct policy_limit_key);
	__type(value, __u32);
} limit_connections SEC(".maps");

enum limit_verdict {
	LIMIT_WITHIN,
	LIMIT_OVER,
	LIMIT_FULL, /* no room to tell this source apart: passes, and the caller counts it */
};

/* The leading `bits` of an address. */
static __always_inline void limit_address(const __be32 *address, __u32 bits, __be32 *ret_key)
{
	__u32 i;

#pragma clang loop unroll(full)
	for (i = 0; i < 4; i++) {
		__u32 left = bits > 32 * i ? bits - 32 * i : 0;

		ret_key[i] = left >= 32 ? address[i]
		             : left     ? address[i] & bpf_htonl(~(0xffffffffU >> left))
		                        : 0;
	}
}

static __always_inline struct token_bucket *limit_bucket(
	__u32 place, const struct policy_limit *limit, const struct policy_facts *facts)
{
	struct policy_limited key = {
		.place = place, .generation = limit->generation, .family = facts->family};
	const struct token_bucket full = {};
	struct token_bucket *bucket;
	__u32 first = 0;
	void *sources;

	if (limit->per == POLICY_PER_RULE)
		return bpf_map_lookup_elem(&limit_rules, &place);
	sources = bpf_map_lookup_elem(&limit_sources, &first);
	if (!sources)
		return NULL;
	limit_address(limit->per == POLICY_PER_SOURCE ? facts->src : facts->dst,
		facts->family == 6 ? limit->prefix6 : limit->prefix4, key.address);
	bucket = bpf_map_lookup_elem(sources, &key);
	if (bucket)
		return bucket;
	/* another CPU may be first: then its bucket is the one */
	if (bpf_map_update_elem(sources, &key, &full, BPF_NOEXIST) == 0) {
		__u64 *made = bpf_map_lookup_elem(&limit_made, &place);

		if (made)
			__sync_fetch_and_add(made, 1);
	}
	return bpf_map_lookup_elem(sources, &key);
}

/* May these packets pass?  If so they are taken off the bucket.  Limits of connections are not judged here.
 */
__attribute__((noinline)) int limit_judge(
	__u32 place, const struct policy_facts *facts, __u32 packets, __u32 bytes)
{
	const struct policy_limit *limit = bpf_map_lookup_elem(&rule_limits, &place);
	struct token_bucket *bucket;

	if (!limit || !facts || limit->unit == POLICY_LIMIT_CONNECTIONS)
		return LIMIT_WITHIN;
	bucket = limit_bucket(place, limit, facts);
	if (!bucket)
		return LIMIT_FULL;
	return token_bucket_consume(bucket, &limit->clock,
		       limit->unit == POLICY_LIMIT_PACKETS ? packets : bytes, bpf_ktime_get_ns())
	               ? LIMIT_WITHIN
	               : LIMIT_OVER;
}

/* -- judged at XDP already -- */

/* What the program at XDP leaves in front of a packet (its metadata) for the one in tc: the first so many
 * limits that fit were judged, the packet was within them.  So none is judged twice, whatever stands between
 * them in the whole policy. */
struct limit_note {
	__u32 magic, generation; /* of the policy */
	__u32 judged;
};

#define LIMIT_NOTE 0x6c696d74 /* "limt" */

/* In tc. */
static __always_inline __u32 limit_judged(struct __sk_buff *skb, __u32 generation)
{
	const struct limit_note *note = (void *)(long)skb->data_meta;

	if ((void *)(note + 1) > (void *)(long)skb->data || note->magic != LIMIT_NOTE ||
		note->generation != generation)
		return 0;
	return note->judged;
}

/* At XDP, before the first: makes room; 0, or the driver has none. */
static __always_inline int limit_note_begin(struct xdp_md *context)
{
	return bpf_xdp_adjust_meta(context, -(int)sizeof(struct limit_note));
}

/* … and after the last.  No pointer to the packet is good any more. */
static __always_inline void limit_note_end(struct xdp_md *context, __u32 generation, __u32 judged)
{
	struct limit_note *note = (void *)(long)context->data_meta;

	if ((void *)(note + 1) > (void *)(long)context->data)
		return;
	note->magic = LIMIT_NOTE;
	note->generation = generation;
	note->judged = judged;
}

/* -- how many connections there may be -- */

/* Whom a connection counts for, in one number. */
static __always_inline __u64 limit_connection_key(
	const struct policy_limit *limit, const struct policy_facts *facts)
{
	__be32 address[4] = {};
	__u64 key = limit->generation;
	int i;

	if (limit->per == POLICY_PER_RULE)
		return key;
	limit_address(limit->per == POLICY_PER_SOURCE ? facts->src : facts->dst,
		facts->family == 6 ? limit->prefix6 : limit->prefix4, address);
	/* each step can be undone, so addresses of IPv4 never share a number */
	key = (key << 8 | facts->family) * 0x9e3779b97f4a7c15ULL;
#pragma clang loop unroll(full)
	for (i = 0; i < 4; i++) {
		key = (key ^ address[i]) * 0xd6e8feb86659fd93ULL;
		key ^= key >> 32;
	}
	return key;
}

/* One more, if there is room for it: *ret_key goes into the connection, with the place + 1. */
__attribute__((noinline)) int limit_connection_begin(
	__u32 place, const struct policy_facts *facts, __u64 *ret_key)
{
	const struct policy_limit *limit = bpf_map_lookup_elem(&rule_limits, &place);
	struct policy_limit_key key = {.place = place};
	__u32 none = 0, *count;

	if (!limit || !facts || !ret_key)
		return LIMIT_WITHIN;
	*ret_key = key.whom = limit_connection_key(limit, facts);
	count = bpf_map_lookup_elem(&limit_connections, &key);
	if (!count) {
		bpf_map_update_elem(&limit_connections, &key, &none, BPF_NOEXIST);
		count = bpf_map_lookup_elem(&limit_connections, &key);
	}
	if (!count)
		return LIMIT_FULL;
	if (__sync_fetch_and_add(count, 1) < limit->rate.burst)
		return LIMIT_WITHIN;
	__sync_fetch_and_sub(count, 1);
	return LIMIT_OVER;
}

/* The connection is gone, or did not come to be after all.  `limit` as it stands in the connection. */
static __always_inline void limit_connection_end(__u32 limit, __u64 whom)
{
	struct policy_limit_key key = {.place = limit - 1, .whom = whom};
	__u32 *count = limit ? bpf_map_lookup_elem(&limit_connections, &key) : (void *)0;

	if (count && *count)
		__sync_fetch_and_sub(count, 1);
}

#endif
