/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * ICMP of services: errors go to the backend of the connection that they speak of, echo requests to the
 * address are answered, and senders are told when a packet does not fit the way to its backend.
 */
#ifndef WEIR_BPF_SERVICE_ICMP_H
#define WEIR_BPF_SERVICE_ICMP_H

#include "bpf/lib/encapsulate.h"
#include "bpf/lib/service_work.h"

#define SERVICE_TOLD_MAX 64 /* a tick and CPU */

/* What an error quotes of the packet that it is about. */
#define SERVICE_QUOTE4 84
#define SERVICE_QUOTE6 248
#define SERVICE_MTU6   1280 /* every link carries as much (RFC 8200, 5) */

enum {
	SERVICE_ICMP_UNREACHABLE = 3,
	SERVICE_ICMP_FRAGMENT_NEEDED = 4, /* its code */
	SERVICE_ICMP_ECHO = 8,
	SERVICE_ICMP_EXCEEDED = 11,
	SERVICE_ICMP_PARAMETER = 12,
	SERVICE_ICMP6_UNREACHABLE = 1,
	SERVICE_ICMP6_TOO_BIG = 2,
	SERVICE_ICMP6_PARAMETER = 4,
	SERVICE_ICMP6_ECHO = 128,
};

packet_inline int service_is_error(const struct packet *p)
{
	__u8 type = bpf_ntohs(p->dport) >> 8;

	if (p->family == 4)
		return type == SERVICE_ICMP_UNREACHABLE || type == SERVICE_ICMP_EXCEEDED ||
		       type == SERVICE_ICMP_PARAMETER;
	return type >= SERVICE_ICMP6_UNREACHABLE && type <= SERVICE_ICMP6_PARAMETER;
}

packet_inline int service_is_echo(const struct packet *p)
{
	return bpf_ntohs(p->dport) >> 8 == (p->family == 4 ? SERVICE_ICMP_ECHO : SERVICE_ICMP6_ECHO);
}

/* The packet that an ICMP error quotes, read as one of its connection's other direction: what is quoted was
 * sent by whom the error is for.  Into *key all but its ports, and behind its headers *offset.  0: there is
 * none. */
packet_inline int service_read_quoted(
	struct xdp_md *context, const struct packet *p, struct service_key *key, __u32 *offset)
{
	__u32 at = p->l4_offset + 8;

	__builtin_memset(key, 0, sizeof(*key));
	key->family = p->family;
	if (key->family == 4) {
		struct packet_ip4 ip;

		if (packet_load(context, at, &ip, sizeof(ip)) || ip.version_ihl >> 4 != 4 ||
			(ip.version_ihl & 15) < 5 || ip.fragment & bpf_htons(0x1fff) || ip.src != p->dst[0])
			return 0;
		key->proto = ip.proto;
		key->src[0] = ip.dst;
		key->dst[0] = ip.src;
		*offset = at + (ip.version_ihl & 15) * 4;
	} else {
		struct packet_walk walk = {};
		struct packet_ip6 ip;

		if (packet_load(context, at, &ip, sizeof(ip)) || ip.src[0] != p->dst64[0] ||
			ip.src[1] != p->dst64[1])
			return 0;
		__builtin_memcpy(key->src, ip.dst, 16);
		__builtin_memcpy(key->dst, ip.src, 16);
		walk.offset = at + sizeof(ip);
		walk.proto = ip.proto;
		if (packet_is_extension(ip.proto))
			packet_walk_extensions(context, &walk);
		if (walk.reason || walk.fragment == PACKET_FRAGMENT_LATER)
			return 0;
		key->proto = walk.proto;
		*offset = walk.offset;
	}
	return 1;
}

/* The connection that an ICMP error speaks of: what is quoted was sent by the service.  1: work->key is it.
 */
packet_function int service_read_error(struct xdp_md *context)
{
	struct service_work *work = service_work();
	struct service_key *key;
	__be16 ports[2];
	__u32 offset = 0;

	if (!work)
		return 0;
	key = &work->key;
	if (!service_read_quoted(context, &work->packet, key, &offset))
		return 0;
	if (key->proto != PACKET_PROTO_TCP && key->proto != PACKET_PROTO_UDP &&
		key->proto != PACKET_PROTO_SCTP && key->proto != PACKET_PROTO_UDPLITE &&
		key->proto != PACKET_PROTO_DCCP)
		return 1;
	if (packet_load(context, offset, ports, sizeof(ports)))
		return 0;
	key->sport = ports[1];
	key->dport = ports[0];
	return 1;
}

packet_inline void link_swap(void *data)
{
	__u16 *mac = data;
	int i;

	PACKET_UNROLL
	for (i = 0; i < 3; i++) {
		__u16 other = mac[i];

		mac[i] = mac[i + 3];
		mac[i + 3] = other;
	}
}

/* An echo request to the address of a service: it is the service's own, so weir answers. */
packet_function int service_echo(struct xdp_md *context)
{
	void *data = (void *)(long)context->data, *end = (void *)(long)context->data_end, *l3;
	struct service_work *work = service_work();
	struct packet_icmp *icmp;
	struct service_lost *lost;
	__u32 link;

	if (!work)
		return XDP_PASS;
	link = work->packet.l3_offset & 31;
	l3 = data + link;
	if (data + 14 > end)
		return XDP_PASS;
	if (work->packet.family == 4) {
		struct packet_ip4 *ip = l3;
		__be32 client;

		icmp = (void *)(ip + 1);
		if ((void *)(icmp + 1) > end || ip->version_ihl != 0x45)
			return XDP_PASS;
		client = ip->src;
		ip->src = ip->dst;
		ip->dst = client;
		ip->checksum = checksum_fold((__u64)(__u16)~ip->checksum + (__u16)~bpf_htons(ip->ttl << 8) +
					     bpf_htons(ENCAPSULATE_TTL << 8));
		ip->ttl = ENCAPSULATE_TTL;
		icmp->type = 0;
		/* added, not taken from its complement: of nothing but zeroes that is the right one of two */
		icmp->checksum = ~checksum_fold((__u64)icmp->checksum + bpf_htons(SERVICE_ICMP_ECHO << 8));
	} else {
		struct packet_ip6 *ip = l3;
		__u64 client[2];

		icmp = (void *)(ip + 1);
		if ((void *)(icmp + 1) > end || ip->proto != PACKET_PROTO_ICMP6)
			return XDP_PASS;
		client[0] = ip->src[0];
		client[1] = ip->src[1];
		ip->src[0] = ip->dst[0];
		ip->src[1] = ip->dst[1];
		ip->dst[0] = client[0];
		ip->dst[1] = client[1];
		ip->hop_limit = ENCAPSULATE_TTL;
		icmp->type = SERVICE_ICMP6_ECHO + 1;
		icmp->checksum = checksum_fold((__u64)(__u16)~icmp->checksum + bpf_htons(1 << 8));
	}
	link_swap(data);
	lost = service_lost(0);
	if (lost)
		lost->answered++;
	return XDP_TX;
}

/* Makes the packet an error about itself. */
packet_function int service_tell(struct xdp_md *context, __u32 mtu)
{
	struct service_work *work = service_work();
	__u32 link, quote, headers, bytes;
	struct service_lost *lost;
	void *data, *end, *l3;
	__s64 sum;

	if (!work)
		return XDP_DROP;
	link = work->packet.l3_offset;
	if (link != 18 && link != 22)
		link = 14;
	if (work->told_tick != work->now) {
		work->told_tick = work->now;
		work->told = 0;
	}
	if (work->told >= SERVICE_TOLD_MAX || work->error)
		return XDP_DROP;
	work->told++;
	quote = work->packet.family == 4 ? SERVICE_QUOTE4 : SERVICE_QUOTE6;
	headers = (work->packet.family == 4 ? sizeof(struct packet_ip4) : sizeof(struct packet_ip6)) + 8;
	bytes = work->bytes;
	if (bytes < link + quote || bpf_xdp_adjust_tail(context, (int)(link + quote) - (int)bytes) ||
		bpf_xdp_adjust_head(context, -(int)headers))
		return XDP_DROP;
	data = (void *)(long)context->data;
	end = (void *)(long)context->data_end;
	if (data + SERVICE_LINK_MAX > end)
		return XDP_DROP;
	asm volatile("" : "+r"(link)); /* or the mask is left out, which is all that the verifier believes */
	l3 = data + (link & 31);
	__builtin_memcpy(data, work->link + 6, 6);
	__builtin_memcpy(data + 6, work->link, 6);
	link_tags(data, work, link, bpf_htons(work->packet.family == 4 ? PACKET_ETH_IPV4 : PACKET_ETH_IPV6));
	if (work->packet.family == 4) {
		struct packet_ip4 *ip = l3;
		struct packet_icmp *icmp = (void *)(ip + 1);

		if ((void *)icmp + 8 + SERVICE_QUOTE4 > end)
			return XDP_DROP;
		*ip = (struct packet_ip4){.version_ihl = 0x45,
			.total_length = bpf_htons(sizeof(*ip) + 8 + SERVICE_QUOTE4),
			.ttl = ENCAPSULATE_TTL,
			.proto = PACKET_PROTO_ICMP,
			.src = work->packet.dst[0],
			.dst = work->packet.src[0]};
		ip->checksum = checksum_fold(bpf_csum_diff((void *)0, 0, (void *)ip, sizeof(*ip), 0));
		icmp->type = SERVICE_ICMP_UNREACHABLE;
		icmp->code = SERVICE_ICMP_FRAGMENT_NEEDED;
		icmp->checksum = 0;
		icmp->id = 0;
		*(&icmp->id + 1) = bpf_htons(mtu);
		icmp->checksum =
			checksum_fold(bpf_csum_diff((void *)0, 0, (void *)icmp, 8 + SERVICE_QUOTE4, 0));
	} else {
		struct packet_ip6 *ip = l3;
		struct packet_icmp *icmp = (void *)(ip + 1);

		if ((void *)icmp + 8 + SERVICE_QUOTE6 > end)
			return XDP_DROP;
		ip->version_class_label = bpf_htonl(0x60000000);
		ip->payload_length = bpf_htons(8 + SERVICE_QUOTE6);
		ip->proto = PACKET_PROTO_ICMP6;
		ip->hop_limit = ENCAPSULATE_TTL;
		ip->src[0] = work->packet.dst64[0];
		ip->src[1] = work->packet.dst64[1];
		ip->dst[0] = work->packet.src64[0];
		ip->dst[1] = work->packet.src64[1];
		icmp->type = SERVICE_ICMP6_TOO_BIG;
		icmp->code = 0;
		icmp->checksum = 0;
		*(__be32 *)&icmp->id = bpf_htonl(mtu < SERVICE_MTU6 ? SERVICE_MTU6 : mtu);
		sum = bpf_csum_diff((void *)0, 0, (void *)ip->src, 32, 0);
		sum = bpf_csum_diff((void *)0, 0, (void *)icmp, 8 + SERVICE_QUOTE6, (__u32)sum);
		icmp->checksum =
			checksum_fold((__u64)(__u32)sum + ip->payload_length + bpf_htons(PACKET_PROTO_ICMP6));
	}
	lost = service_lost(work->number);
	if (lost)
		lost->told++;
	return XDP_TX;
}

/* -- the MSS of a connection -- */

/* Lowers what a SYN offers (RFC 9293, 3.7.1) where its option stands. */
packet_function int service_clamp(struct xdp_md *context, __u32 mss)
{
	struct service_work *work = service_work();
	__u32 offset, end_of, i;
	__u8 option[4];
	__be16 checksum;
	__u64 sum;

	if (!work)
		return 0;
	offset = work->packet.l4_offset + 20;
	end_of = work->packet.header_bytes;
	for (i = 0; i < 40 && offset + 4 <= end_of; i++) {
		if (packet_load(context, offset, option, 4) || !option[0])
			return 0;
		if (option[0] == 1) {
			offset++;
			continue;
		}
		if (option[1] < 2)
			return 0;
		if (option[0] == 2 && option[1] == 4) {
			__u32 old = option[2] << 8 | option[3], odd = (offset - work->packet.l4_offset) & 1;
			__u16 from = old, to = mss;

			if (old <= mss)
				return 0;
			option[2] = mss >> 8;
			option[3] = mss;
			if (packet_load(context, work->packet.l4_offset + 16, &checksum, 2))
				return 0;
			if (odd) {
				from = (__u16)(from << 8 | from >> 8);
				to = (__u16)(to << 8 | to >> 8);
			}
			sum = (__u64)(__u16)~checksum + (__u16)~bpf_htons(from) + bpf_htons(to);
			checksum = checksum_fold(sum);
			bpf_xdp_store_bytes(context, offset, option, 4);
			bpf_xdp_store_bytes(context, work->packet.l4_offset + 16, &checksum, 2);
			return 1;
		}
		offset += option[1];
	}
	return 0;
}

#endif
