/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Packets as tracing programs meet them: which network namespace they belong to, which way they go.
 */
#ifndef WEIR_BPF_HOME_H
#define WEIR_BPF_HOME_H

#include "bpf/lib/kernel.h"
#include "bpf/lib/live.h"

#define AF_INET   2
#define AF_INET6  10
#define AF_PACKET 17

#define SKB_DST_NOREF    1UL
#define SKB_HEADER_UNSET 0xffff

enum home { HOME_ELSEWHERE, HOME_HERE, HOME_UNASSIGNED };

/*
 * Whether the packet belongs to our network namespace.  The socket that it was for knows best; then the
 * device.  Where a packet waits in a socket's queue, something else stands in skb->dev, which leads to no
 * cookie (a load from an address that is none reads 0).  The socket that sent it comes last: it stays with
 * the packet on its way into another namespace.  Messages of netlink and Unix sockets are no packets.
 */
static __always_inline enum home home_of_cookie(__u64 cookie)
{
	return cookie == netns_cookie ? HOME_HERE : HOME_ELSEWHERE;
}

static __always_inline enum home home_of_socket(struct sock *sk)
{
	__u16 family = sk->__sk_common.skc_family;

	if (family != AF_INET && family != AF_INET6 && family != AF_PACKET)
		return HOME_ELSEWHERE;
	return home_of_cookie(sk->__sk_common.skc_net.net->net_cookie);
}

static __always_inline enum home home_of(struct sk_buff *skb, struct sock *sk)
{
	struct net_device *dev = skb->dev;
	struct dst_entry *dst;
	__u64 cookie = dev ? dev->nd_net.net->net_cookie : 0;

	if (cookie)
		return home_of_cookie(cookie);
	if (sk)
		return home_of_socket(sk);
	dst = (void *)(skb->_skb_refdst & ~SKB_DST_NOREF);
	return dst ? home_of_cookie(BPF_CORE_READ(dst, dev, nd_net.net, net_cookie)) : HOME_UNASSIGNED;
}

static __always_inline int skb_is_tagged(struct sk_buff *skb)
{
	struct sk_buff___bit *older = (void *)skb;

	if (bpf_core_field_exists(older->vlan_present))
		return BPF_CORE_READ_BITFIELD_PROBED(older, vlan_present);
	return skb->vlan_proto != 0;
}

/* Which way it went: forwarded packets have left the interface they came in through; what was made here never
 * came in through one, and has no link header yet or stands in front of it. */
static __always_inline int skb_goes_out(struct sk_buff *skb, int ifindex)
{
	if (skb->skb_iif)
		return ifindex && ifindex != skb->skb_iif;
	return skb->mac_header == SKB_HEADER_UNSET || skb->data - skb->head <= skb->mac_header;
}

#endif
