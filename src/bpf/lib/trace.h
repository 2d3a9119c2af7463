/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * What all probes of `weir trace` (bpf/trace.bpf.c) do: take what a place knows into a struct trace_sample,
 * and hand it to trace_say(), which filters it and makes an event of it or counts it in a histogram.
 * Durations keep their beginning in `trace_starts`.
 */
#ifndef WEIR_BPF_TRACE_H
#define WEIR_BPF_TRACE_H

#include "bpf/lib/kernel.h"
#include "bpf/lib/live.h"
#include "bpf/lib/owner.h"
#include "shared/trace.h"

#define AF_INET  2
#define AF_INET6 10

#define NS_PER_S 1000000000ULL

const volatile struct trace_options trace_options = {};

/* What a new histogram begins as. */
const struct trace_histogram trace_empty = {};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, TRACE_RING_BYTES);
} trace_ring SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(max_entries, TRACE_KEYS_MAX);
	__type(key, struct trace_key);
	__type(value, struct trace_histogram);
} trace_histograms SEC(".maps");

/* What a duration is of: a socket or packet, and which of its durations. */
struct trace_thing {
	__u64 what, which;
};

struct trace_start {
	__u64 ns;
	struct trace_sample sample;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, TRACE_STARTS_MAX);
	__type(key, struct trace_thing);
	__type(value, struct trace_start);
} trace_starts SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct trace_stats);
} trace_stats SEC(".maps");

/* -- filtering -- */

static __noinline int ports_fit(const volatile struct trace_end *end, __be16 port)
{
	__u16 number = bpf_ntohs(port);

	if (!end->range_count)
		return 1;
#pragma clang loop unroll(disable)
	for (__u32 i = 0; i < TRACE_RANGES_MAX; i++)
		if (i < end->range_count && number >= end->ranges[i].low && number <= end->ranges[i].high)
			return 1;
	return 0;
}

static __always_inline int address_fits(const volatile struct trace_end *end, const __be32 *address)
{
	if (!end->has_address)
		return 1;
	for (int i = 0; i < 4; i++)
		if ((address[i] & end->mask[i]) != end->address[i])
			return 0;
	return 1;
}

static __noinline int flow_fits(const struct trace_flow *flow)
{
	const volatile struct trace_filter *filter = &trace_options.filter;

	if (filter->family && flow->family != filter->family)
		return 0;
	if (filter->protocol >= 0 && flow->proto != filter->protocol)
		return 0;
	return address_fits(&filter->from, flow->src) && ports_fit(&filter->from, flow->sport) &&
	       address_fits(&filter->to, flow->dst) && ports_fit(&filter->to, flow->dport) &&
	       (address_fits(&filter->either, flow->src) || address_fits(&filter->either, flow->dst)) &&
	       (ports_fit(&filter->either, flow->sport) || ports_fit(&filter->either, flow->dport));
}

static __noinline int owner_fits(__u32 id)
{
	const volatile struct trace_filter *filter = &trace_options.filter;
	const struct owner *owner = id == TRACE_NO_OWNER ? (void *)0 : owner_get(id);

	if (!owner)
		return 0;
	switch (filter->owner_kind) {
	case TRACE_OWNER_PID:
		return owner->key.pid == filter->owner_number;
	case TRACE_OWNER_UID:
		return owner->key.uid == filter->owner_number;
	case TRACE_OWNER_GID:
		return owner->key.gid == filter->owner_number;
	case TRACE_OWNER_EXE:
		return owner->exe_hash == filter->owner_hash;
	case TRACE_OWNER_CONTAINER:
		return owner->container_hash == filter->owner_hash;
	}
#pragma clang loop unroll(disable)
	for (__u32 i = 0; i < OWNER_DEPTH_MAX; i++) {
		if (i >= owner->depth)
			break;
		if ((filter->owner_kind == TRACE_OWNER_CGROUP ? owner->path_hash[i] : owner->name_hash[i]) ==
			filter->owner_hash)
			return 1;
	}
	return 0;
}

static __always_inline int sample_fits(const struct trace_sample *sample)
{
	if (!trace_options.filter.on)
		return 1;
	if (trace_options.filter.interface && trace_options.filter.interface != sample->interface)
		return 0;
	return flow_fits(&sample->flow) &&
	       (trace_options.filter.owner_kind == TRACE_OWNER_ANY || owner_fits(sample->owner));
}

/* -- telling -- */

static __always_inline void histogram_add(struct trace_histogram *histogram, __u64 value)
{
	__u32 bucket = trace_bucket(value);

	__sync_fetch_and_add(&histogram->count, 1);
	__sync_fetch_and_add(&histogram->sum, value);
	if (value > histogram->max)
		histogram->max = value;
	if (bucket < TRACE_BUCKETS)
		__sync_fetch_and_add(&histogram->buckets[bucket], 1);
}

static __noinline int sample_count(const struct trace_sample *sample)
{
	struct trace_key key = {};
	struct trace_histogram *histogram;

	switch (trace_options.by) {
	case TRACE_BY_OWNER:
		key.kind = TRACE_KEY_OWNER;
		key.words[0] =
			sample->owner == TRACE_NO_OWNER ? OWNER_UNKNOWN : sample->owner & ~OWNER_INHERITED;
		break;
	case TRACE_BY_INTERFACE:
		key.kind = TRACE_KEY_INTERFACE;
		key.words[0] = sample->interface;
		break;
	case TRACE_BY_REMOTE:
		key.kind = sample->flow.family == 4 ? TRACE_KEY_REMOTE4 : TRACE_KEY_REMOTE6;
		__builtin_memcpy(
			key.words, sample->incoming ? sample->flow.src : sample->flow.dst, sizeof(key.words));
		break;
	case TRACE_BY_CPU:
		key.kind = TRACE_KEY_CPU;
		key.words[0] = bpf_get_smp_processor_id();
		break;
	}
	histogram = bpf_map_lookup_elem(&trace_histograms, &key);
	if (!histogram) {
		bpf_map_update_elem(&trace_histograms, &key, &trace_empty, BPF_NOEXIST);
		histogram = bpf_map_lookup_elem(&trace_histograms, &key);
	}
	if (!histogram) {
		key = (struct trace_key){.kind = TRACE_KEY_OTHER}; /* there from the beginning */
		histogram = bpf_map_lookup_elem(&trace_histograms, &key);
	}
	if (histogram)
		histogram_add(histogram, sample->value);
	return 0;
}

static __noinline int sample_emit(const struct trace_sample *sample, struct trace_stats *stats)
{
	__u64 now = bpf_ktime_get_ns(), second = now / NS_PER_S;
	struct trace_record *record;

	if (!stats)
		return 0;
	if (stats->second != second) {
		stats->second = second;
		stats->in_second = 0;
	}
	if (stats->in_second++ >= TRACE_EVENTS_PER_SECOND) {
		__sync_fetch_and_add(&stats->limited, 1);
		return 0;
	}
	record = bpf_ringbuf_reserve(&trace_ring, sizeof(*record), 0);
	if (!record) {
		__sync_fetch_and_add(&stats->lost, 1);
		return 0;
	}
	record->time_ns = now;
	record->sample = *sample;
	record->cpu = bpf_get_smp_processor_id();
	record->reserved = 0;
	bpf_ringbuf_submit(record, BPF_RB_NO_WAKEUP); /* the agent looks by the clock */
	__sync_fetch_and_add(&stats->emitted, 1);
	return 0;
}

static __noinline int trace_say(const struct trace_sample *sample)
{
	__u32 zero = 0;
	struct trace_stats *stats = bpf_map_lookup_elem(&trace_stats, &zero);

	if (!stats || !sample_fits(sample))
		return 0;
	__sync_fetch_and_add(&stats->samples, 1);
	if (trace_options.histogram)
		sample_count(sample);
	else
		sample_emit(sample, stats);
	return 0;
}

/* -- durations -- */

static __always_inline void trace_begin(__u64 what, __u64 which, const struct trace_sample *sample)
{
	struct trace_thing thing = {.what = what, .which = which};
	struct trace_start start = {.ns = bpf_ktime_get_ns(), .sample = *sample};

	bpf_map_update_elem(&trace_starts, &thing, &start, BPF_ANY);
}

/* The time since the beginning, with what was known then.  0: there was none. */
static __always_inline int trace_finish(__u64 what, __u64 which, struct trace_sample *sample)
{
	struct trace_thing thing = {.what = what, .which = which};
	struct trace_start *start = bpf_map_lookup_elem(&trace_starts, &thing);
	__u64 now = bpf_ktime_get_ns();
	__u32 zero = 0;

	if (!start) {
		struct trace_stats *stats = bpf_map_lookup_elem(&trace_stats, &zero);

		if (stats)
			__sync_fetch_and_add(&stats->unstarted, 1);
		return 0;
	}
	*sample = start->sample;
	sample->value = now > start->ns ? now - start->ns : 0;
	bpf_map_delete_elem(&trace_starts, &thing);
	return 1;
}

static __always_inline void trace_end(__u64 what, __u64 which, __s32 detail)
{
	struct trace_sample sample;

	if (!trace_finish(what, which, &sample))
		return;
	sample.detail = detail;
	trace_say(&sample);
}

/* The same where the end may be anybody's. */
static __always_inline int trace_finish_begun(__u64 what, __u64 which, struct trace_sample *sample)
{
	struct trace_thing thing = {.what = what, .which = which};

	return bpf_map_lookup_elem(&trace_starts, &thing) && trace_finish(what, which, sample);
}

static __always_inline void trace_end_begun(__u64 what, __u64 which, __s32 detail)
{
	struct trace_sample sample;

	if (!trace_finish_begun(what, which, &sample))
		return;
	sample.detail = detail;
	trace_say(&sample);
}

/* -- what a place knows -- */

#define SAMPLE_NEW      ((struct trace_sample){.owner = TRACE_NO_OWNER})
#define SAMPLE_INCOMING ((struct trace_sample){.owner = TRACE_NO_OWNER, .incoming = 1})

static __always_inline int net_is_ours(const struct net *net)
{
	return BPF_CORE_READ(net, net_cookie) == netns_cookie;
}

static __always_inline int device_is_ours(const struct net_device *device)
{
	return BPF_CORE_READ(device, nd_net.net, net_cookie) == netns_cookie;
}

/* In process context. */
static __always_inline int current_is_ours(void)
{
	struct task_struct *task = (void *)bpf_get_current_task();

	return net_is_ours(BPF_CORE_READ(task, nsproxy, net_ns));
}

static __noinline int flow_of_socket(struct trace_flow *flow, const struct sock *sk)
{
	__u16 family = BPF_CORE_READ(sk, __sk_common.skc_family);

	flow->proto = BPF_CORE_READ(sk, sk_protocol);
	flow->sport = bpf_htons(BPF_CORE_READ(sk, __sk_common.skc_num));
	if (!flow->sport) /* closed, or raw */
		flow->sport = BPF_CORE_READ((const struct inet_sock *)sk, inet_sport);
	flow->dport = BPF_CORE_READ(sk, __sk_common.skc_dport);
	if (family == AF_INET) {
		flow->family = 4;
		flow->src[0] = BPF_CORE_READ(sk, __sk_common.skc_rcv_saddr);
		flow->dst[0] = BPF_CORE_READ(sk, __sk_common.skc_daddr);
	} else if (family == AF_INET6) {
		flow->family = 6;
		BPF_CORE_READ_INTO(&flow->src, sk, __sk_common.skc_v6_rcv_saddr.in6_u.u6_addr32);
		BPF_CORE_READ_INTO(&flow->dst, sk, __sk_common.skc_v6_daddr.in6_u.u6_addr32);
		/* IPv4 through an IPv6 socket */
		if (!flow->dst[0] && !flow->dst[1] && flow->dst[2] == bpf_htonl(0xffff)) {
			flow->family = 4;
			flow->src[0] = flow->src[3];
			flow->dst[0] = flow->dst[3];
			for (int i = 1; i < 4; i++)
				flow->src[i] = flow->dst[i] = 0;
		}
	}
	return 0;
}

struct trace_ip4 {
	__u8 version_ihl, tos;
	__be16 length, id, fragment;
	__u8 ttl, proto;
	__be16 checksum;
	__be32 src, dst;
};

struct trace_ip6 {
	__be32 version_class_label;
	__be16 length;
	__u8 proto, hops;
	__be32 src[4], dst[4];
};

static __always_inline void flow_ports(struct trace_flow *flow, const unsigned char *transport)
{
	if (flow->proto == 6 || flow->proto == 17 || flow->proto == 132 || flow->proto == 136) {
		bpf_probe_read_kernel(&flow->sport, 2, transport);
		bpf_probe_read_kernel(&flow->dport, 2, transport + 2);
	}
}

/* Reads the IP header at `l3`.  Ports behind IPv6 extension headers are left out. */
static __noinline int flow_of_header(struct trace_flow *flow, const unsigned char *l3)
{
	__u8 version = 0;

	bpf_probe_read_kernel(&version, 1, l3);
	if (version >> 4 == 4) {
		struct trace_ip4 ip = {};

		bpf_probe_read_kernel(&ip, sizeof(ip), l3);
		flow->family = 4;
		flow->proto = ip.proto;
		flow->src[0] = ip.src;
		flow->dst[0] = ip.dst;
		if (!(ip.fragment & bpf_htons(0x1fff)))
			flow_ports(flow, l3 + (ip.version_ihl & 15) * 4);
	} else if (version >> 4 == 6) {
		struct trace_ip6 ip = {};

		bpf_probe_read_kernel(&ip, sizeof(ip), l3);
		flow->family = 6;
		flow->proto = ip.proto;
		__builtin_memcpy(flow->src, ip.src, sizeof(ip.src));
		__builtin_memcpy(flow->dst, ip.dst, sizeof(ip.dst));
		flow_ports(flow, l3 + sizeof(ip));
	}
	return 0;
}

static __always_inline void flow_of_packet(struct trace_flow *flow, const struct sk_buff *skb)
{
	flow_of_header(flow, BPF_CORE_READ(skb, head) + BPF_CORE_READ(skb, network_header));
}

/* Packets that pass through have no socket. */
static __always_inline void sample_own(struct trace_sample *sample, const struct sock *sk)
{
	if (sk)
		sample->owner = owner_of(sk);
}

#define SAMPLE_SOCKET(name, sk)                                                                              \
	struct trace_sample name = SAMPLE_NEW;                                                               \
	flow_of_socket(&name.flow, sk);                                                                      \
	name.owner = owner_of(sk)

/* A packet and the interface it is at. */
#define SAMPLE_PACKET(name, skb, device)                                                                     \
	struct trace_sample name = SAMPLE_NEW;                                                               \
	flow_of_packet(&name.flow, skb);                                                                     \
	name.interface = BPF_CORE_READ(device, ifindex)

#endif
