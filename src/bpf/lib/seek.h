/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Whose is this packet?  For tc programs.
 *
 * What leaves carries its socket.  What comes in does not yet: to look for the socket that it will reach
 * costs as much as all the rest of a miss.
 */
#ifndef WEIR_BPF_SEEK_H
#define WEIR_BPF_SEEK_H

#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "bpf/lib/owner.h"
#include "bpf/lib/packet.h"
#include "bpf/lib/socket.h"

const volatile __u64 owner_off = 0; /* nobody wants to know */

#define SEEK_AF_INET  2 /* as bpf_fib_lookup() wants them */
#define SEEK_AF_INET6 10

/* Was a socket passed to another process a moment ago?  For longer than flows go without a look. */
#define SEEK_PASSED_TICKS 2048

packet_inline int seek_passed(__u32 now)
{
	__u32 zero = 0, *passed = bpf_map_lookup_elem(&owner_passed, &zero);

	return passed && now - *passed < SEEK_PASSED_TICKS;
}

/* Would the packet go on to another host? */
static __noinline int seek_forwarded(struct __sk_buff *skb, const struct packet *p)
{
	struct bpf_fib_lookup route = {.ifindex = skb->ifindex, .l4_protocol = p->proto};
	long fate;

	if (p->family == 4) {
		route.family = SEEK_AF_INET;
		route.ipv4_src = p->src[0];
		route.ipv4_dst = p->dst[0];
	} else {
		route.family = SEEK_AF_INET6;
		__builtin_memcpy(route.ipv6_src, p->src, sizeof(route.ipv6_src));
		__builtin_memcpy(route.ipv6_dst, p->dst, sizeof(route.ipv6_dst));
	}
	fate = bpf_fib_lookup(skb, &route, sizeof(route), 0);
	return fate == BPF_FIB_LKUP_RET_SUCCESS || fate == BPF_FIB_LKUP_RET_NO_NEIGH ||
	       fate == BPF_FIB_LKUP_RET_FRAG_NEEDED || fate == BPF_FIB_LKUP_RET_UNSUPP_LWT;
}

/* The socket that a packet will reach; NULL: none.  To be released. */
packet_inline struct bpf_sock *seek_socket(struct __sk_buff *skb, const struct packet *p)
{
	struct bpf_sock_tuple tuple = {};
	__u32 size = sizeof(tuple.ipv4);

	if (p->family == 4) {
		tuple.ipv4.saddr = p->src[0];
		tuple.ipv4.daddr = p->dst[0];
		tuple.ipv4.sport = p->sport;
		tuple.ipv4.dport = p->dport;
	} else {
		size = sizeof(tuple.ipv6);
		__builtin_memcpy(tuple.ipv6.saddr, p->src, sizeof(tuple.ipv6.saddr));
		__builtin_memcpy(tuple.ipv6.daddr, p->dst, sizeof(tuple.ipv6.daddr));
		tuple.ipv6.sport = p->sport;
		tuple.ipv6.dport = p->dport;
	}
	if (p->proto == PACKET_PROTO_TCP)
		return bpf_sk_lookup_tcp(skb, &tuple, size, BPF_F_CURRENT_NETNS, 0);
	if (p->proto == PACKET_PROTO_UDP)
		return bpf_sk_lookup_udp(skb, &tuple, size, BPF_F_CURRENT_NETNS, 0);
	return NULL;
}

/* Who receives it? */
static __noinline __u32 seek_receiver(struct __sk_buff *skb, const struct packet *p)
{
	__u32 owner = OWNER_KERNEL;
	struct bpf_sock *sk;
	int anywhere;

	if (p->kind & FLOW_KIND_FRAGMENT)
		return seek_forwarded(skb, p) ? OWNER_FORWARDED : OWNER_UNKNOWN;
	sk = seek_socket(skb, p);
	if (sk) {
		owner = owner_of(sk);
		if (sk->state == BPF_TCP_LISTEN && owner >= OWNER_FIRST)
			owner |= OWNER_INHERITED; /* whoever accepts it is not known yet */
		anywhere = !sk->src_ip4 && !sk->src_ip6[0] && !sk->src_ip6[3];
		bpf_sk_release(sk);
		/* a socket that takes any address would take what only passes through, too */
		if (!anywhere)
			return owner;
	}
	return seek_forwarded(skb, p) ? OWNER_FORWARDED : owner;
}

/*
 * Whose is a socket for which no process is recorded?  A connection's at its beginning (SYN-ACK) or after its
 * end (TIME-WAIT) that shows.  Until it is accepted the kernel alone answers for it, but it is not the
 * kernel's: the kernel's own have a struct socket, too.
 */
static __noinline __u32 seek_of_none(struct __sk_buff *skb)
{
	struct bpf_sock *sk = skb->sk;
	struct tcp_sock *tp;

	if (!sk || !bpf_sk_fullsock(sk))
		return OWNER_UNKNOWN;
	tp = bpf_skc_to_tcp_sock(sk);
	return tp && !tp->inet_conn.icsk_inet.sk.sk_socket ? OWNER_UNKNOWN : OWNER_KERNEL;
}

packet_function __u32 seek_owner(struct __sk_buff *skb, const struct packet *p, int out)
{
	struct bpf_sock *sk;
	__u32 owner;

	if (!skb || !p || owner_off)
		return OWNER_UNKNOWN;
	if (!p->family)
		return OWNER_KERNEL;
	if (!out)
		return seek_receiver(skb, p);
	sk = skb->sk;
	if (!sk)
		return skb->ingress_ifindex ? OWNER_FORWARDED : OWNER_KERNEL;
	owner = owner_of(sk);
	return owner != OWNER_UNKNOWN ? owner : seek_of_none(skb);
}

/* Counts a zero window for the socket at this end: `out`, its own; else its peer's. */
packet_function int seek_zero_window(struct __sk_buff *skb, const struct packet *p, int out)
{
	struct bpf_sock *sk;

	if (!skb || !p)
		return 0;
	if (out) {
		sk = skb->sk;
		if (sk)
			socket_zero_window(sk, 1);
		return 0;
	}
	sk = seek_socket(skb, p);
	if (sk) {
		socket_zero_window(sk, 0);
		bpf_sk_release(sk);
	}
	return 0;
}

#endif
