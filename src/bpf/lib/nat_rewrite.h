/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * A packet of nat gets its new addresses and ports, and its checksums what follows from that (RFC 1624, 3).
 *
 * A checksum may still be to be made: what a neighbour on veth or tun sends has only the sum of its pseudo
 * header there, and that it has is lost when XDP sends it on.  Such a packet shows itself: its checksum is
 * that sum, and is wrong.  It gets a whole one here.  Where generic XDP runs the kernel keeps what it knows
 * with the packet and makes the checksum itself: there the sum of the pseudo header is kept right.
 */
#ifndef WEIR_BPF_NAT_REWRITE_H
#define WEIR_BPF_NAT_REWRITE_H

#include "bpf/lib/encapsulate.h"
#include "bpf/lib/nat_table.h"

/* Offset of the checksum in the transport header; 0: nat does not touch it. */
packet_inline __u32 nat_sum_offset(__u8 proto)
{
	if (proto == PACKET_PROTO_TCP)
		return 16;
	if (nat_has_id(proto))
		return 2;
	return nat_has_ports(proto) ? 6 : 0;
}

packet_inline __u16 nat_fold(__u64 sum)
{
	return ~checksum_fold(sum);
}

/* What the new addresses add to a sum in place of the old ones. */
packet_inline __u64 nat_addresses_differ(const struct packet *p, const struct service_flow *flow)
{
	__u64 sum = 0;
	int i;

	PACKET_UNROLL
	for (i = 0; i < 4; i++) {
		sum += (__u64)(__u32)~p->src[i] + flow->src[i];
		sum += (__u64)(__u32)~p->dst[i] + flow->dst[i];
	}
	return sum;
}

packet_inline __u64 nat_pseudo(const struct packet *p, __u32 bytes)
{
	__u64 sum = bpf_htons(p->proto) + bpf_htons(bytes);
	int i;

	PACKET_UNROLL
	for (i = 0; i < 4; i++)
		sum += (__u64)p->src[i] + p->dst[i];
	return sum;
}

/* -- the way to a client -- */

/* From the kernel's tables, into the entry of its answers; where those know none, the way that its packets
 * came.  0, or enum service_loss + 1. */
packet_inline __u32 nat_way_look(
	struct xdp_md *context, struct service_flow *flow, __u32 ifindex, __u8 family, __u32 now)
{
	struct bpf_fib_lookup route = {.tot_len = 1}; /* or it does not tell the MTU */
	long fate;

	if (flow->checked && now - flow->checked < ENCAPSULATE_HOP_TICKS)
		return 0;
	route.ifindex = ifindex;
	if (family == 4) {
		route.family = ENCAPSULATE_AF_INET;
		route.ipv4_src = flow->src[0];
		route.ipv4_dst = flow->dst[0];
	} else {
		route.family = ENCAPSULATE_AF_INET6;
		__builtin_memcpy(route.ipv6_src, flow->src, 16);
		__builtin_memcpy(route.ipv6_dst, flow->dst, 16);
	}
	fate = bpf_fib_lookup(context, &route, sizeof(route), 0);
	if (fate == BPF_FIB_LKUP_RET_SUCCESS) {
		if (flow->ifindex != route.ifindex)
			flow->ifindex = route.ifindex;
		if (flow->mtu != route.mtu_result)
			flow->mtu = route.mtu_result;
		mac_learn(flow->dmac, route.dmac);
		mac_learn(flow->smac, route.smac);
		flow->checked = now ? now : 1;
		return 0;
	}
	if (fate != BPF_FIB_LKUP_RET_NO_NEIGH && fate != BPF_FIB_LKUP_RET_FWD_DISABLED)
		return SERVICE_LOST_NO_ROUTE + 1;
	if (!flow->ifindex)
		return fate == BPF_FIB_LKUP_RET_NO_NEIGH ? SERVICE_LOST_NO_NEIGHBOUR + 1
		                                         : SERVICE_LOST_NO_ROUTE + 1;
	return 0;
}

/* -- checksums that are still to be made -- */

static long nat_sum_step(__u32 i, struct xdp_md **context)
{
	struct nat_work *nat = nat_work();
	__u32 bytes;

	if (!nat || !nat->sum_bytes)
		return 1;
	bytes = nat->sum_bytes;
	if (bytes >= NAT_CHUNK) {
		if (bpf_xdp_load_bytes(*context, nat->sum_at, nat->chunk, NAT_CHUNK))
			return 1;
		bytes = NAT_CHUNK;
	} else {
		__builtin_memset(nat->chunk, 0, NAT_CHUNK);
		/* 1 to NAT_CHUNK in a way that Linux 6.1 sees, too */
		bytes = ((bytes - 1) & (NAT_CHUNK - 1)) + 1;
		if (bpf_xdp_load_bytes(*context, nat->sum_at, nat->chunk, bytes))
			return 1;
	}
	nat->sum += (__u32)bpf_csum_diff((void *)0, 0, (void *)nat->chunk, NAT_CHUNK, 0);
	nat->sum_at += bytes;
	nat->sum_bytes -= bytes;
	return 0;
}

/* Looks whether the checksum of a packet of TCP or UDP is still to be made.  Then `sum` is that of all its
 * bytes but the checksum, with the pseudo header. */
packet_function int nat_look(struct xdp_md *context)
{
	struct service_work *work = service_work();
	struct nat_work *nat = nat_work();
	const struct packet *p;
	__u32 bytes, ifindex;
	__u64 pseudo;
	__u16 checksum;

	if (!work || !nat)
		return 0;
	nat->partial = nat->generic = 0;
	p = &work->packet;
	if ((p->proto != PACKET_PROTO_TCP && p->proto != PACKET_PROTO_UDP) || p->fragment)
		return 0;
	if (packet_load(context, p->l4_offset + nat_sum_offset(p->proto), &checksum, 2))
		return 0;
	bytes = work->ip_bytes - (p->l4_offset - p->l3_offset);
	pseudo = nat_pseudo(p, bytes);
	if (nat_fold(pseudo) != checksum)
		return 0;
	nat->sum = pseudo;
	nat->sum_at = p->l4_offset;
	nat->sum_bytes = bytes;
	bpf_loop(65536 / NAT_CHUNK, nat_sum_step, &context, 0);
	/* right by chance */
	if (nat->sum_bytes || nat_fold(nat->sum) == 0xffff)
		return 0;
	nat->sum += (__u16)~checksum;
	nat->partial = 1;
	ifindex = work->ifindex;
	nat->generic = bpf_map_lookup_elem(&service_generic, &ifindex) != (void *)0;
	return 1;
}

/* -- the packet -- */

packet_inline __u16 nat_checksum(
	const struct nat_work *nat, __u8 proto, __u16 old, __u64 addresses, __u64 rest)
{
	__u16 checksum;

	if (nat->partial && nat->generic)
		return nat_fold(old + addresses);
	if (nat->partial)
		checksum = checksum_fold(nat_fold(nat->sum) + addresses + rest);
	else if (proto == PACKET_PROTO_UDP && !old)
		return 0;
	else
		checksum = checksum_fold((__u64)(__u16)~old + addresses + rest);
	return checksum || proto != PACKET_PROTO_UDP ? checksum : 0xffff;
}

/* Ports or identifier of the transport header, and its checksum.  0: it is not there. */
packet_inline int nat_rewrite_l4(
	struct xdp_md *context, const struct service_work *work, struct nat_work *nat, __u64 addresses)
{
	const struct packet *p = &work->packet;
	__u32 at = p->l4_offset, offset = nat_sum_offset(p->proto);
	__be16 ports[2], before;
	__u16 checksum;
	__u64 rest;

	if (!offset)
		return 1;
	if (packet_load(context, at + offset, &checksum, 2))
		return 0;
	if (p->proto == PACKET_PROTO_ICMP)
		addresses = 0; /* has no pseudo header */
	if (nat_has_id(p->proto)) {
		if (packet_load(context, at + 4, &before, 2))
			return 0;
		/* the identifier stands on the client's side */
		ports[0] = nat->flow.flags & SERVICE_FLOW_ANSWER ? nat->flow.dport : nat->flow.sport;
		rest = (__u64)(__u16)~before + ports[0];
		if (bpf_xdp_store_bytes(context, at + 4, ports, 2))
			return 0;
	} else {
		rest = (__u64)(__u16)~p->sport + nat->flow.sport + (__u16)~p->dport + nat->flow.dport;
		ports[0] = nat->flow.sport;
		ports[1] = nat->flow.dport;
		if (bpf_xdp_store_bytes(context, at, ports, 4))
			return 0;
	}
	checksum = nat_checksum(nat, p->proto, checksum, addresses, rest);
	return !bpf_xdp_store_bytes(context, at + offset, &checksum, 2);
}

/* Addresses, and one hop less. */
packet_inline int nat_rewrite_l3(struct xdp_md *context, const struct service_work *work,
	const struct service_flow *flow, __u64 addresses)
{
	void *data = (void *)(long)context->data, *end = (void *)(long)context->data_end;
	void *l3 = data + (work->packet.l3_offset & 31);

	if (work->packet.family == 4) {
		struct packet_ip4 *ip = l3;

		if ((void *)(ip + 1) > end)
			return 0;
		ip->checksum = checksum_fold((__u64)(__u16)~ip->checksum + addresses +
					     (__u16)~bpf_htons(ip->ttl << 8) + bpf_htons((ip->ttl - 1) << 8));
		ip->ttl--;
		ip->src = flow->src[0];
		ip->dst = flow->dst[0];
	} else {
		struct packet_ip6 *ip = l3;

		if ((void *)(ip + 1) > end)
			return 0;
		ip->hop_limit--;
		__builtin_memcpy(ip->src, flow->src, 16);
		__builtin_memcpy(ip->dst, flow->dst, 16);
	}
	return 1;
}

/* TTL or hop limit; 0: cannot be read. */
packet_inline __u8 nat_hops(struct xdp_md *context, const struct service_work *work)
{
	__u8 hops = 0;

	packet_load(context, work->packet.l3_offset + (work->packet.family == 4 ? 8 : 7), &hops, 1);
	return hops;
}

/* -- what an error quotes -- */

/* Finds the connection of what an ICMP error quotes, which went the other way: nat->key is its key in the
 * error's direction.  0: it cannot be read. */
packet_function int nat_read_quoted(struct xdp_md *context, __u32 answer)
{
	struct service_work *work = service_work();
	struct nat_work *nat = nat_work();
	struct service_key *key;
	__be16 ports[4];
	__u32 offset = 0;

	if (!work || !nat || work->packet.fragment)
		return 0;
	key = &nat->key;
	nat->quoted = work->packet.l4_offset + 8;
	if (!service_read_quoted(context, &work->packet, key, &offset))
		return 0;
	nat->quoted_l4 = offset;
	if (nat_has_id(key->proto)) {
		if (packet_load(context, offset, ports, sizeof(ports)))
			return 0;
		if (answer)
			key->dport = ports[2];
		else
			key->sport = ports[2];
		return 1;
	}
	if (!nat_has_ports(key->proto) && key->proto != PACKET_PROTO_SCTP)
		return 1;
	if (packet_load(context, offset, ports, 4))
		return 0;
	key->sport = ports[1];
	key->dport = ports[0];
	return 1;
}

/* Writes bytes of the quoted packet, a multiple of four at an even offset: what that adds to a sum. */
#define nat_requote(context, nat, offset, bytes)                                                             \
	(bpf_xdp_store_bytes(context, offset, (nat)->after, bytes)                                           \
			? 0                                                                                  \
			: (__u32)bpf_csum_diff((nat)->before, bytes, (nat)->after, bytes, 0))

/* The quoted packet gets what it had on the other side. */
packet_function int nat_rewrite_quoted(struct xdp_md *context)
{
	struct service_work *work = service_work();
	struct nat_work *nat = nat_work();
	const struct service_flow *flow;
	__u32 bytes, offset, left;
	__u64 addresses, rest = 0;
	__u16 *sum, *half;
	__u8 proto;

	if (!work || !nat)
		return 0;
	flow = &nat->flow;
	proto = nat->key.proto;
	nat->sum = 0;
	/* what was sent by whom the error goes to */
	addresses = 0;
	if (work->packet.family == 4) {
		struct packet_ip4 *ip = (void *)nat->after;

		if (packet_load(context, nat->quoted, nat->before, sizeof(*ip)))
			return 0;
		__builtin_memcpy(nat->after, nat->before, sizeof(*ip));
		addresses = (__u64)(__u32)~ip->src + flow->dst[0] + (__u32)~ip->dst + flow->src[0];
		ip->checksum = checksum_fold((__u64)(__u16)~ip->checksum + addresses);
		ip->src = flow->dst[0];
		ip->dst = flow->src[0];
		nat->sum += nat_requote(context, nat, nat->quoted, sizeof(*ip));
	} else {
		int i;

		if (packet_load(context, nat->quoted + 8, nat->before, 32))
			return 0;
		PACKET_UNROLL
		for (i = 0; i < 4; i++) {
			nat->after[i] = flow->dst[i];
			nat->after[i + 4] = flow->src[i];
			addresses += (__u64)(__u32)~nat->before[i] + nat->after[i];
			addresses += (__u64)(__u32)~nat->before[i + 4] + nat->after[i + 4];
		}
		nat->sum += nat_requote(context, nat, nat->quoted + 8, 32);
	}
	offset = nat_sum_offset(proto);
	if (!offset)
		return 1;
	/* ports, and what of the checksum there is */
	if (packet_load(context, nat->quoted_l4, nat->before, 8))
		return 1;
	__builtin_memcpy(nat->after, nat->before, 8);
	half = (void *)nat->after;
	if (nat_has_id(proto)) {
		__be16 id = flow->flags & SERVICE_FLOW_ANSWER ? flow->dport : flow->sport;

		rest = (__u64)(__u16)~half[2] + id;
		half[2] = id;
		if (proto == PACKET_PROTO_ICMP)
			addresses = 0;
		half[1] = checksum_fold((__u64)(__u16)~half[1] + addresses + rest);
	} else {
		rest = (__u64)(__u16)~half[0] + flow->dport + (__u16)~half[1] + flow->sport;
		half[0] = flow->dport;
		half[1] = flow->sport;
		if (offset == 6 && !(proto == PACKET_PROTO_UDP && !half[3])) {
			half[3] = checksum_fold((__u64)(__u16)~half[3] + addresses + rest);
			if (!half[3] && proto == PACKET_PROTO_UDP)
				half[3] = 0xffff;
		}
	}
	nat->sum += nat_requote(context, nat, nat->quoted_l4, 8);
	/* that of TCP stands further back, and is not quoted by all */
	bytes = nat->quoted_l4 + 20;
	left = work->packet.l3_offset + work->ip_bytes;
	if (proto != PACKET_PROTO_TCP || bytes > left ||
		packet_load(context, nat->quoted_l4 + 16, nat->before, 4))
		return 1;
	nat->after[0] = nat->before[0];
	sum = (void *)nat->after;
	*sum = checksum_fold((__u64)(__u16) ~*sum + addresses + rest);
	nat->sum += nat_requote(context, nat, nat->quoted_l4 + 16, 4);
	return 1;
}

/* An ICMP error, whose own checksum covers all of that. */
packet_inline int nat_rewrite_error(
	struct xdp_md *context, const struct service_work *work, const struct nat_work *nat, __u64 addresses)
{
	__u32 at = work->packet.l4_offset + 2;
	__u16 checksum;

	if (packet_load(context, at, &checksum, 2))
		return 0;
	if (work->packet.proto == PACKET_PROTO_ICMP)
		addresses = 0;
	checksum = checksum_fold((__u64)(__u16)~checksum + addresses + nat->sum);
	return !bpf_xdp_store_bytes(context, at, &checksum, 2);
}

/* -- all of it -- */

/* 1: the packet is as its receiver is to see it. */
packet_function int nat_rewrite(struct xdp_md *context)
{
	struct service_work *work = service_work();
	struct nat_work *nat = nat_work();
	__u64 addresses;

	if (!work || !nat)
		return 0;
	addresses = nat_addresses_differ(&work->packet, &nat->flow);
	if (work->error) {
		if (!nat_rewrite_quoted(context) || !nat_rewrite_error(context, work, nat, addresses))
			return 0;
	} else if (!work->later && !nat_rewrite_l4(context, work, nat, addresses)) {
		return 0;
	}
	return nat_rewrite_l3(context, work, &nat->flow, addresses);
}

#endif
