// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * The probes of `weir trace`: a program for each place, of which only those of the probe that was asked for
 * are loaded (engine/trace.c, where the table is).  Maps and options are those of one trace.
 *
 * What they have in common is in bpf/lib/trace.h.  All times are CLOCK_MONOTONIC.
 */
#include "bpf/lib/trace.h"

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
