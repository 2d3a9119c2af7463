// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * What bench/flow measures beside weir's own programs: a wrapper that varies the flow, an empty program, the
 * parser alone, and the accounting that everybody writes first, a hash map of flows shared by all CPUs.
 *
 * BPF_PROG_TEST_RUN runs a program many times on one packet and restores nothing.  The wrapper writes the
 * flow's source address into the packet and tail-calls the program under test; no program measured here
 * changes the packet.
 */
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#define PACKET_CONTEXT                          struct __sk_buff
#define packet_load(context, offset, to, bytes) bpf_skb_load_bytes(context, offset, to, bytes)

#include "bpf/lib/packet.h"

#define ORDER_LENGTH (1U << 20)

const volatile __u32 address_offset = 26; /* of the 32 bits that make the flow */
__u32 flow_mask = 0;                      /* flows - 1; flows is a power of two */
__u32 use_order = 0;                      /* flows come in the order of the map, not scattered evenly */
__u32 counter = 0;
const volatile __u32 walk_classes = 10000;

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} next SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, ORDER_LENGTH);
	__type(key, __u32);
	__type(value, __u32);
} order SEC(".maps");

SEC("tc") int bench_wrap(struct __sk_buff *skb)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	__u32 flow = counter++, index = flow & (ORDER_LENGTH - 1), *ordered;

	if (use_order) {
		ordered = bpf_map_lookup_elem(&order, &index);
		flow = ordered ? *ordered : 0;
	} else {
		flow = (flow * 2654435761U) & flow_mask; /* odd multiplier: visits every flow, scattered */
	}
	if (address_offset > 64 || data + address_offset + 4 > end)
		return 2;
	*(__u32 *)(data + address_offset) = __builtin_bswap32(0x0b000000U + flow);
	bpf_tail_call(skb, &next, 0);
	return 2;
}

SEC("tc") int bench_empty(struct __sk_buff *skb)
{
	(void)skb;
	return -1;
}

#define WALK_LINES 16384

struct line {
	__u64 words[8];
};

/* CPU-local in the bench: what a class's packet touches, a cache line each, as far apart as weir's own. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, WALK_LINES);
	__type(key, __u32);
	__type(value, struct line);
} walk_path SEC(".maps"), walk_rule SEC(".maps"), walk_bucket SEC(".maps"), walk_count SEC(".maps");

static __attribute__((always_inline)) __u32 walk_index(struct __sk_buff *skb)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;

	if (address_offset > 64 || data + address_offset + 4 > end)
		return 0;
	return 1 + __builtin_bswap32(*(__u32 *)(data + address_offset)) % walk_classes;
}

/* A counter in one line for each class: the least that 10,000 buckets, wherever they are, can cost. */
SEC("tc") int bench_walk_line(struct __sk_buff *skb)
{
	__u32 index = walk_index(skb);
	struct line *bucket = bpf_map_lookup_elem(&walk_bucket, &index);

	if (bucket)
		bucket->words[0] += skb->len;
	return -1;
}

/* The lines that weir has for a class: the path tells which the others are. */
SEC("tc") int bench_walk_lines(struct __sk_buff *skb)
{
	__u32 index = walk_index(skb);
	struct line *path = bpf_map_lookup_elem(&walk_path, &index), *bucket, *rule, *count;

	if (!path)
		return -1;
	index += path->words[0]; /* 0 */
	rule = bpf_map_lookup_elem(&walk_rule, &index);
	count = bpf_map_lookup_elem(&walk_count, &index);
	bucket = bpf_map_lookup_elem(&walk_bucket, &index);
	if (!rule || !count || !bucket)
		return -1;
	rule->words[0] += skb->len;
	count->words[0] += skb->len;
	__sync_fetch_and_add(&bucket->words[0], skb->len);
	return -1;
}

struct key {
	__u32 src[4], dst[4];
	__u32 ports, ifindex;
	__u32 proto;
};

struct value {
	__u64 packets, bytes, first, last;
	__u32 flags, pad;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1 << 21);
	__type(key, struct key);
	__type(value, struct value);
} shared SEC(".maps");

struct key4 {
	__u32 src, dst;
	__u32 ports, ifindex;
	__u32 proto;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1 << 21);
	__type(key, struct key4);
	__type(value, struct value);
} shared4 SEC(".maps");

static __attribute__((always_inline)) int parse(struct __sk_buff *skb, struct packet *p)
{
	*p = (struct packet){};
	return packet_parse(skb, (void *)(long)skb->data, (void *)(long)skb->data_end, 1, 0, p);
}

SEC("tc") int bench_parse(struct __sk_buff *skb)
{
	struct packet p;

	/* use what was read, or the compiler reads nothing */
	return parse(skb, &p) == 0 && p.src[0] + p.dst[0] + p.sport + p.dport + p.tcp_flags == 1 ? 0 : -1;
}

static __attribute__((always_inline)) int account(struct __sk_buff *skb, int coarse)
{
	struct value *value, fresh = {};
	struct packet p;
	struct key4 key4 = {};
	struct key key = {};
	__u64 now = coarse ? bpf_ktime_get_coarse_ns() : bpf_ktime_get_ns();

	if (parse(skb, &p))
		return -1;
	if (p.family == 4) {
		key4.src = p.src[0];
		key4.dst = p.dst[0];
		key4.ports = p.sport | p.dport << 16;
		key4.ifindex = skb->ifindex;
		key4.proto = p.proto;
		value = bpf_map_lookup_elem(&shared4, &key4);
	} else {
		__builtin_memcpy(key.src, p.src, sizeof(key.src));
		__builtin_memcpy(key.dst, p.dst, sizeof(key.dst));
		key.ports = p.sport | p.dport << 16;
		key.ifindex = skb->ifindex;
		key.proto = p.proto;
		value = bpf_map_lookup_elem(&shared, &key);
	}
	if (value) {
		__sync_fetch_and_add(&value->packets, 1);
		__sync_fetch_and_add(&value->bytes, skb->len);
		value->last = now;
		value->flags |= p.tcp_flags;
		return -1;
	}
	fresh.packets = 1;
	fresh.bytes = skb->len;
	fresh.first = fresh.last = now;
	fresh.flags = p.tcp_flags;
	if (p.family == 4)
		bpf_map_update_elem(&shared4, &key4, &fresh, BPF_ANY);
	else
		bpf_map_update_elem(&shared, &key, &fresh, BPF_ANY);
	return -1;
}

SEC("tc") int bench_shared(struct __sk_buff *skb)
{
	return account(skb, 0);
}

SEC("tc") int bench_shared_coarse(struct __sk_buff *skb)
{
	return account(skb, 1);
}

char _license[] SEC("license") = "Dual BSD/GPL";
