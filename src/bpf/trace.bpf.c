// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * The probes of `weir trace`: a program for each place, of which only those of the probe that was asked for
 * are loaded (engine/trace.c, where the table is).  Maps and options are those of one trace.
 *
 * Each program takes what its place offers (flow, owner, interface) into a struct trace_sample and hands it
 * to trace_say(), which filters it and makes an event of it or counts it in a histogram.  Durations keep
 * their beginning in `trace_starts`.  All times are CLOCK_MONOTONIC.
 */
#include "shared/trace.h"
#include "bpf/lib/kernel.h"
#include "bpf/lib/live.h"
#include "bpf/lib/owner.h"

#define AF_INET  2
#define AF_INET6 10

#define NS_PER_S 1000000000ULL

/* include/net/tcp_states.h */
enum { TCP_ESTABLISHED = 1, TCP_SYN_SENT, TCP_SYN_RECV, TCP_CLOSE = 7, TCP_LISTEN = 10 };

/* include/net/neighbour.h, include/uapi/linux/neighbour.h */
#define NUD_INCOMPLETE 0x01
#define NUD_FAILED     0x20
#define NUD_VALID      0xde /* permanent, noarp, reachable, probe, stale, delay */

#define RTF_REJECT    0x0200 /* include/uapi/linux/ipv6_route.h */
#define RT_TABLE_MAIN 254    /* include/uapi/linux/rtnetlink.h */

/* include/uapi/asm-generic/errno.h */
#define EAGAIN      11
#define ENETUNREACH 101

enum { NEIGHBOUR_FOUND, NEIGHBOUR_FAILED };

#define SOFTIRQ_NET_TX 2
#define SOFTIRQ_NET_RX 3

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

/* -- TCP -- */

#define TCP_READ(sk, field) BPF_CORE_READ((const struct tcp_sock *)(sk), field)

/* tcp_probe: an established connection gets a segment. */
#define TCP_PROBE(program, expression)                                                                       \
	SEC("tp_btf/tcp_probe")                                                                              \
	int BPF_PROG(program, struct sock *sk)                                                               \
	{                                                                                                    \
		if (!netns_is_ours(sk))                                                                      \
			return 0;                                                                            \
		SAMPLE_SOCKET(sample, sk);                                                                   \
		sample.value = (expression);                                                                 \
		return trace_say(&sample);                                                                   \
	}

TCP_PROBE(tcp_cwnd, TCP_READ(sk, snd_cwnd))
TCP_PROBE(tcp_inflight, TCP_READ(sk, packets_out))
TCP_PROBE(tcp_window, TCP_READ(sk, snd_wnd))

SEC("tp_btf/tcp_probe")
int BPF_PROG(tcp_rtt, struct sock *sk)
{
	__u32 srtt = TCP_READ(sk, srtt_us);

	if (!srtt || !netns_is_ours(sk)) /* nothing was measured yet */
		return 0;
	SAMPLE_SOCKET(sample, sk);
	sample.value = (__u64)srtt * 1000 >> 3;
	return trace_say(&sample);
}

SEC("tp_btf/tcp_retransmit_skb")
int BPF_PROG(tcp_retransmit, struct sock *sk, struct sk_buff *skb)
{
	void *control = (void *)skb + bpf_core_field_offset(struct sk_buff___control, cb);

	if (!netns_is_ours(sk))
		return 0;
	SAMPLE_SOCKET(sample, sk);
	sample.value = BPF_CORE_READ((struct tcp_skb_cb *)control, tcp_gso_segs);
	sample.detail = BPF_CORE_READ(sk, __sk_common.skc_state);
	return trace_say(&sample);
}

/* The listener, and the connection that is to be. */
SEC("tp_btf/tcp_retransmit_synack")
int BPF_PROG(tcp_retransmit_synack, struct sock *sk, struct sock *request)
{
	if (!netns_is_ours(sk))
		return 0;
	SAMPLE_SOCKET(sample, sk);
	flow_of_socket(&sample.flow, request);
	sample.flow.proto = 6;
	sample.value = 1;
	sample.detail = TCP_SYN_RECV;
	return trace_say(&sample);
}

/* What was asked for `sk` may belong to a socket that is none yet, or to nobody. */
SEC("tp_btf/tcp_send_reset")
int BPF_PROG(tcp_reset_sent, struct sock *sk, struct sk_buff *skb)
{
	struct trace_sample sample = SAMPLE_NEW;

	if (sk) {
		if (!netns_is_ours(sk))
			return 0;
		flow_of_socket(&sample.flow, sk);
		sample.flow.proto = 6;
		sample.owner = owner_of(sk);
	} else if (skb) {
		struct trace_flow flow = {};

		if (!device_is_ours(BPF_CORE_READ(skb, dev)))
			return 0;
		flow_of_packet(&flow, skb); /* the packet that is answered */
		sample.flow = flow;
		__builtin_memcpy(sample.flow.src, flow.dst, sizeof(flow.dst));
		__builtin_memcpy(sample.flow.dst, flow.src, sizeof(flow.src));
		sample.flow.sport = flow.dport;
		sample.flow.dport = flow.sport;
	}
	sample.value = 1;
	sample.detail = 1;
	return trace_say(&sample);
}

SEC("tp_btf/tcp_receive_reset")
int BPF_PROG(tcp_reset_received, struct sock *sk)
{
	if (!netns_is_ours(sk))
		return 0;
	SAMPLE_SOCKET(sample, sk);
	sample.value = 1;
	return trace_say(&sample);
}

SEC("tp_btf/tcp_cong_state_set")
int BPF_PROG(tcp_congestion, struct sock *sk, __u8 state)
{
	__u8 before = BPF_CORE_READ_BITFIELD_PROBED((struct inet_connection_sock *)sk, icsk_ca_state);

	if (before == state || !netns_is_ours(sk))
		return 0;
	SAMPLE_SOCKET(sample, sk);
	sample.value = TCP_READ(sk, snd_cwnd);
	sample.detail = state;
	return trace_say(&sample);
}

static __always_inline int is_tcp(const struct sock *sk)
{
	return BPF_CORE_READ(sk, sk_protocol) == 6;
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(connect_latency, struct sock *sk, int before, int after)
{
	if (!is_tcp(sk) || !netns_is_ours(sk))
		return 0;
	if (after == TCP_SYN_SENT) {
		struct trace_sample sample = SAMPLE_NEW; /* not connected: what it is, the end knows */

		trace_begin((__u64)sk, 0, &sample);
	} else if (before == TCP_SYN_SENT) {
		SAMPLE_SOCKET(sample, sk);
		struct trace_sample begin;

		if (!trace_finish((__u64)sk, 0, &begin))
			return 0;
		sample.value = begin.value;
		sample.detail = BPF_CORE_READ(sk, sk_err);
		if (after == TCP_ESTABLISHED || sample.detail)
			trace_say(&sample);
	}
	return 0;
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(tcp_handshake, struct sock *sk, int before, int after)
{
	struct trace_sample sample;

	if (before != TCP_SYN_RECV || after != TCP_ESTABLISHED || !is_tcp(sk) || !netns_is_ours(sk))
		return 0;
	sample = SAMPLE_NEW; /* nobody has accepted it yet */
	flow_of_socket(&sample.flow, sk);
	sample.value = (__u64)TCP_READ(sk, srtt_us) * 1000 >> 3;
	return trace_say(&sample);
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(tcp_lifetime, struct sock *sk, int before, int after)
{
	if (!is_tcp(sk) || !netns_is_ours(sk))
		return 0;
	if (after == TCP_ESTABLISHED) {
		SAMPLE_SOCKET(sample, sk);

		trace_begin((__u64)sk, 0, &sample);
	} else if (after == TCP_CLOSE && before != TCP_SYN_SENT && before != TCP_CLOSE &&
		   before != TCP_LISTEN) {
		struct trace_sample sample;

		if (!trace_finish((__u64)sk, 0, &sample))
			return 0;
		sample.owner = owner_of(sk); /* who has accepted it, by now */
		trace_say(&sample);
	}
	return 0;
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(tcp_bytes, struct sock *sk, int before, int after)
{
	/* connections, not listeners and attempts */
	if (after != TCP_CLOSE || before == TCP_SYN_SENT || before == TCP_CLOSE || before == TCP_LISTEN ||
		!is_tcp(sk) || !netns_is_ours(sk))
		return 0;
	SAMPLE_SOCKET(sample, sk);
	sample.value = TCP_READ(sk, bytes_received) + TCP_READ(sk, bytes_sent) - TCP_READ(sk, bytes_retrans);
	if (BPF_CORE_READ(sk, __sk_common.skc_flags) & 1 << SOCK_DONE)
		sample.value--; /* the FIN that came */
	return trace_say(&sample);
}

/* -- sockets -- */

/* Two programs: a connection is finished, and accept() returns it. */
SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(accept_queued, struct sock *sk, int before, int after)
{
	if (before != TCP_SYN_RECV || after != TCP_ESTABLISHED || !is_tcp(sk) || !netns_is_ours(sk))
		return 0;
	SAMPLE_SOCKET(sample, sk);
	trace_begin((__u64)sk, 0, &sample);
	return 0;
}

static __always_inline struct sock *socket_of_file(struct file **files, __u64 number)
{
	struct file *file = (void *)0;
	struct socket *socket;

	bpf_probe_read_kernel(&file, sizeof(file), files + number);
	socket = BPF_CORE_READ(file, private_data);
	return BPF_CORE_READ(socket, sk);
}

/* Who listens is who accepts: the new socket was not used yet. */
SEC("tp_btf/sys_exit")
int BPF_PROG(accept_returned, struct pt_regs *regs, long result)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	struct trace_sample sample;
	struct file **files;
	__u64 listener = 0;
	__u32 call = 0;

	if (bpf_core_field_exists(struct pt_regs___x86, orig_ax)) {
		call = BPF_CORE_READ((struct pt_regs___x86 *)regs, orig_ax);
		listener = BPF_CORE_READ((struct pt_regs___x86 *)regs, di);
	} else if (bpf_core_field_exists(struct pt_regs___arm64, syscallno)) {
		call = BPF_CORE_READ((struct pt_regs___arm64 *)regs, syscallno);
		listener = BPF_CORE_READ((struct pt_regs___arm64 *)regs, orig_x0);
	}
	if ((call != trace_options.syscall_accept && call != trace_options.syscall_accept4) || result < 0)
		return 0;
	files = BPF_CORE_READ(task, files, fdt, fd);
	if (!trace_finish_begun((__u64)socket_of_file(files, result), 0, &sample))
		return 0;
	sample.owner = owner_of(socket_of_file(files, (__u32)listener));
	return trace_say(&sample);
}

/* A packet has come in: its time starts. */
static __always_inline int packet_begin(struct sk_buff *skb)
{
	struct net_device *device = BPF_CORE_READ(skb, dev);
	struct trace_sample sample = SAMPLE_INCOMING;

	if (!device_is_ours(device))
		return 0;
	flow_of_header(&sample.flow, BPF_CORE_READ(skb, data));
	sample.interface = BPF_CORE_READ(device, ifindex);
	trace_begin((__u64)skb, 0, &sample);
	return 0;
}

SEC("tp_btf/netif_receive_skb")
int BPF_PROG(receive_arrived, struct sk_buff *skb)
{
	return packet_begin(skb);
}

static __always_inline int same_flow(const struct trace_flow *a, const struct trace_flow *b)
{
	const __u64 *left = (const __u64 *)a, *right = (const __u64 *)b;

	for (unsigned int i = 0; i < sizeof(*a) / sizeof(*left); i++)
		if (left[i] != right[i])
			return 0;
	return 1;
}

/* Packets that nobody reads (acknowledgements) leave their beginning behind; what has the same address later
 * may be anything, also of local sockets. */
SEC("tp_btf/skb_copy_datagram_iovec")
int BPF_PROG(receive_copied, struct sk_buff *skb)
{
	struct trace_sample sample;
	struct trace_flow flow = {};

	if (!trace_finish_begun((__u64)skb, 0, &sample))
		return 0;
	flow_of_packet(&flow, skb);
	return same_flow(&flow, &sample.flow) ? trace_say(&sample) : 0;
}

SEC("tp_btf/skb_copy_datagram_iovec")
int BPF_PROG(skb_copy, struct sk_buff *skb, int length)
{
	struct trace_sample sample = SAMPLE_INCOMING;
	struct sock *sk = skb->sk;

	if (sk) {
		if (!netns_is_ours(sk))
			return 0;
		sample.owner = owner_of(sk);
	} else if (!current_is_ours()) { /* UDP does not say whose it is */
		return 0;
	}
	flow_of_packet(&sample.flow, skb);
	sample.value = length;
	return trace_say(&sample);
}

#define SOCKET_LENGTH(program, tracepoint)                                                                   \
	SEC("tp_btf/" tracepoint)                                                                            \
	int BPF_PROG(program, struct sock *sk, int result)                                                   \
	{                                                                                                    \
		if (!netns_is_ours(sk))                                                                      \
			return 0;                                                                            \
		SAMPLE_SOCKET(sample, sk);                                                                   \
		sample.value = result > 0 ? result : 0;                                                      \
		sample.detail = result < 0 ? -result : 0;                                                    \
		return trace_say(&sample);                                                                   \
	}

SOCKET_LENGTH(socket_send, "sock_send_length")
SOCKET_LENGTH(socket_receive, "sock_recv_length")

SEC("tp_btf/inet_sk_error_report")
int BPF_PROG(socket_error, struct sock *sk)
{
	if (!netns_is_ours(sk))
		return 0;
	SAMPLE_SOCKET(sample, sk);
	sample.value = 1;
	sample.detail = BPF_CORE_READ(sk, sk_err);
	return trace_say(&sample);
}

SEC("tp_btf/udp_fail_queue_rcv_skb")
int BPF_PROG(udp_queue_drop, int result, struct sock *sk)
{
	if (!netns_is_ours(sk))
		return 0;
	SAMPLE_SOCKET(sample, sk);
	sample.value = BPF_CORE_READ(sk, sk_backlog.rmem_alloc.counter);
	sample.detail = -result;
	return trace_say(&sample);
}

/* -- the way of packets -- */

SEC("tp_btf/softirq_entry")
int BPF_PROG(softirq_begin, unsigned int vector)
{
	struct trace_sample sample = SAMPLE_NEW;

	if (vector == SOFTIRQ_NET_RX || vector == SOFTIRQ_NET_TX)
		trace_begin(vector, bpf_get_smp_processor_id(), &sample);
	return 0;
}

SEC("tp_btf/softirq_exit")
int BPF_PROG(softirq_end, unsigned int vector)
{
	if (vector == SOFTIRQ_NET_RX || vector == SOFTIRQ_NET_TX)
		trace_end(vector, bpf_get_smp_processor_id(), vector);
	return 0;
}

/* Without an interface it is the backlog of a CPU, which is all network namespaces'. */
SEC("tp_btf/napi_poll")
int BPF_PROG(napi_poll, struct napi_struct *napi, int work, int budget)
{
	struct net_device *device = BPF_CORE_READ(napi, dev);
	struct trace_sample sample = SAMPLE_NEW;

	if (device && !device_is_ours(device))
		return 0;
	sample.interface = device ? BPF_CORE_READ(device, ifindex) : 0;
	sample.value = work;
	sample.detail = budget;
	return trace_say(&sample);
}

SEC("tp_btf/netif_rx")
int BPF_PROG(backlog_begin, struct sk_buff *skb)
{
	return packet_begin(skb);
}

SEC("tp_btf/netif_receive_skb")
int BPF_PROG(backlog_end, struct sk_buff *skb)
{
	if (device_is_ours(BPF_CORE_READ(skb, dev)))
		trace_end((__u64)skb, 0, 0);
	return 0;
}

SEC("tp_btf/netif_receive_skb")
int BPF_PROG(receive_size, struct sk_buff *skb)
{
	struct net_device *device = BPF_CORE_READ(skb, dev);
	struct trace_sample sample = SAMPLE_INCOMING;

	if (!device_is_ours(device))
		return 0;
	flow_of_header(&sample.flow, BPF_CORE_READ(skb, data));
	sample.interface = BPF_CORE_READ(device, ifindex);
	sample.value = BPF_CORE_READ(skb, len);
	return trace_say(&sample);
}

SEC("tp_btf/net_dev_start_xmit")
int BPF_PROG(transmit_size, struct sk_buff *skb, struct net_device *device)
{
	if (!device_is_ours(device))
		return 0;
	SAMPLE_PACKET(sample, skb, device);
	sample_own(&sample, skb->sk);
	sample.value = BPF_CORE_READ(skb, len);
	return trace_say(&sample);
}

SEC("tp_btf/net_dev_start_xmit")
int BPF_PROG(driver_begin, struct sk_buff *skb, struct net_device *device)
{
	if (!device_is_ours(device))
		return 0;
	SAMPLE_PACKET(sample, skb, device);
	sample_own(&sample, skb->sk);
	trace_begin((__u64)skb, (__u64)device, &sample);
	return 0;
}

/* The packet may be gone; its address is not. */
SEC("tp_btf/net_dev_xmit")
int BPF_PROG(driver_end, struct sk_buff *skb, int result, struct net_device *device)
{
	if (device_is_ours(device))
		trace_end((__u64)skb, (__u64)device, result);
	return 0;
}

SEC("tp_btf/qdisc_enqueue")
int BPF_PROG(qdisc_begin, struct Qdisc *qdisc, struct netdev_queue *queue, struct sk_buff *skb)
{
	struct net_device *device = BPF_CORE_READ(qdisc, dev_queue, dev);

	if (!skb || !device_is_ours(device))
		return 0;
	SAMPLE_PACKET(sample, skb, device);
	sample_own(&sample, skb->sk);
	trace_begin((__u64)skb, 0, &sample);
	return 0;
}

SEC("tp_btf/qdisc_dequeue")
int BPF_PROG(qdisc_end, struct Qdisc *qdisc, struct netdev_queue *queue, int packets, struct sk_buff *skb)
{
	if (skb && device_is_ours(BPF_CORE_READ(qdisc, dev_queue, dev)))
		trace_end((__u64)skb, 0, packets);
	return 0;
}

/* A first packet for a neighbour that nobody knew; the answer may be there before the call returns.  The
 * entry has no address yet, and not every kernel lets a program see the one that is asked for. */
SEC("tp_btf/neigh_create")
int BPF_PROG(neighbour_new, struct neigh_table *table, struct net_device *device, const void *address,
	struct neighbour *neighbour)
{
	struct trace_sample sample = SAMPLE_NEW;

	if (device_is_ours(device))
		trace_begin((__u64)neighbour, 0, &sample);
	return 0;
}

/* A packet for one that is known not to have answered. */
SEC("tp_btf/neigh_event_send_done")
int BPF_PROG(neighbour_again, struct neighbour *neighbour)
{
	struct trace_thing thing = {.what = (__u64)neighbour};
	struct trace_sample sample = SAMPLE_NEW;

	if ((BPF_CORE_READ(neighbour, nud_state) & NUD_INCOMPLETE) &&
		device_is_ours(BPF_CORE_READ(neighbour, dev)) &&
		!bpf_map_lookup_elem(&trace_starts, &thing)) /* it waits already */
		trace_begin((__u64)neighbour, 0, &sample);
	return 0;
}

static __always_inline int neighbour_end(struct neighbour *neighbour, __s32 outcome)
{
	struct trace_sample sample;

	if (!trace_finish_begun((__u64)neighbour, 0, &sample))
		return 0;
	sample.detail = outcome;
	sample.interface = BPF_CORE_READ(neighbour, dev, ifindex);
	if (BPF_CORE_READ(neighbour, tbl, family) == AF_INET) {
		sample.flow.family = 4;
		bpf_core_read(sample.flow.dst, 4, &neighbour->primary_key);
	} else {
		sample.flow.family = 6;
		bpf_core_read(sample.flow.dst, 16, &neighbour->primary_key);
	}
	return trace_say(&sample);
}

SEC("tp_btf/neigh_update")
int BPF_PROG(neighbour_found, struct neighbour *neighbour, const __u8 *lladdr, __u8 state)
{
	if ((state & NUD_VALID) && (BPF_CORE_READ(neighbour, nud_state) & NUD_INCOMPLETE))
		return neighbour_end(neighbour, NEIGHBOUR_FOUND);
	return 0;
}

SEC("tp_btf/neigh_timer_handler")
int BPF_PROG(neighbour_failed, struct neighbour *neighbour)
{
	if (BPF_CORE_READ(neighbour, nud_state) & NUD_FAILED)
		return neighbour_end(neighbour, NEIGHBOUR_FAILED);
	return 0;
}

/* A table that does not have it says EAGAIN, and the next one is asked; behind the main one comes none, as a
 * rule.  Others fail by what they have: unreachable, prohibited. */
SEC("tp_btf/fib_table_lookup")
int BPF_PROG(fib_failure4, __u32 table, struct flowi4 *question, void *hop, int result)
{
	struct trace_sample sample = SAMPLE_NEW;

	if (result == -EAGAIN && table == RT_TABLE_MAIN)
		result = -ENETUNREACH;
	if (!result || result == -EAGAIN)
		return 0;
	sample.flow.family = 4;
	sample.flow.src[0] = BPF_CORE_READ(question, saddr);
	sample.flow.dst[0] = BPF_CORE_READ(question, daddr);
	sample.value = 1;
	sample.detail = -result;
	return trace_say(&sample);
}

SEC("tp_btf/fib6_table_lookup")
int BPF_PROG(fib_failure6, struct net *net, struct fib6_result *result, struct fib6_table *table,
	struct flowi6 *question)
{
	struct trace_sample sample = SAMPLE_NEW;

	if (!(BPF_CORE_READ(result, fib6_flags) & RTF_REJECT) || !net_is_ours(net))
		return 0;
	if (BPF_CORE_READ(result, f6i) == BPF_CORE_READ(net, ipv6.fib6_null_entry) &&
		BPF_CORE_READ(table, tb6_id) != RT_TABLE_MAIN)
		return 0;
	sample.flow.family = 6;
	BPF_CORE_READ_INTO(&sample.flow.src, question, saddr.in6_u.u6_addr32);
	BPF_CORE_READ_INTO(&sample.flow.dst, question, daddr.in6_u.u6_addr32);
	sample.value = 1;
	sample.detail = ENETUNREACH;
	return trace_say(&sample);
}

SEC("tp_btf/xdp_exception")
int BPF_PROG(xdp_exception, struct net_device *device, void *program, __u32 action)
{
	struct trace_sample sample = SAMPLE_NEW;

	if (!device_is_ours(device))
		return 0;
	sample.interface = BPF_CORE_READ(device, ifindex);
	sample.value = 1;
	sample.detail = action;
	return trace_say(&sample);
}

/* -- functions: how long each call takes -- */

/* Of sockets, in process context; it may sleep and go on on another CPU. */
#define FUNCTION_SOCKET(function)                                                                            \
	SEC("fentry/" #function)                                                                             \
	int BPF_PROG(function##_begin, struct sock *sk)                                                      \
	{                                                                                                    \
		if (!netns_is_ours(sk))                                                                      \
			return 0;                                                                            \
		SAMPLE_SOCKET(sample, sk);                                                                   \
		trace_begin((__u64)sk, bpf_get_current_pid_tgid(), &sample);                                 \
		return 0;                                                                                    \
	}                                                                                                    \
	SEC("fexit/" #function)                                                                              \
	int BPF_PROG(function##_end, struct sock *sk)                                                        \
	{                                                                                                    \
		if (netns_is_ours(sk))                                                                       \
			trace_end((__u64)sk, bpf_get_current_pid_tgid(), 0);                                 \
		return 0;                                                                                    \
	}

/* Of packets: begins and ends on one CPU.  The packet may be gone at the end. */
#define FUNCTION_PACKET(function, comes_in)                                                                  \
	SEC("fentry/" #function)                                                                             \
	int BPF_PROG(function##_begin, struct sk_buff *skb)                                                  \
	{                                                                                                    \
		struct net_device *device = BPF_CORE_READ(skb, dev);                                         \
                                                                                                             \
		if (!device_is_ours(device))                                                                 \
			return 0;                                                                            \
		SAMPLE_PACKET(sample, skb, device);                                                          \
		sample.incoming = (comes_in);                                                                \
		trace_begin((__u64)skb, bpf_get_smp_processor_id(), &sample);                                \
		return 0;                                                                                    \
	}                                                                                                    \
	SEC("fexit/" #function)                                                                              \
	int BPF_PROG(function##_end, struct sk_buff *skb)                                                    \
	{                                                                                                    \
		trace_end_begun((__u64)skb, bpf_get_smp_processor_id(), 0);                                  \
		return 0;                                                                                    \
	}

FUNCTION_SOCKET(tcp_sendmsg)
FUNCTION_SOCKET(tcp_recvmsg)
FUNCTION_SOCKET(tcp_v4_connect)
FUNCTION_SOCKET(tcp_v6_connect)
FUNCTION_SOCKET(udp_sendmsg)
FUNCTION_SOCKET(udpv6_sendmsg)
FUNCTION_SOCKET(udp_recvmsg)
FUNCTION_SOCKET(udpv6_recvmsg)
FUNCTION_PACKET(ip_rcv, 1)
FUNCTION_PACKET(ipv6_rcv, 1)
FUNCTION_PACKET(tcp_v4_rcv, 1)
FUNCTION_PACKET(tcp_v6_rcv, 1)
FUNCTION_PACKET(udp_rcv, 1)
FUNCTION_PACKET(__dev_queue_xmit, 0)

char _license[] SEC("license") = "Dual BSD/GPL";
