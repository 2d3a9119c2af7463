/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * ICMP of services: errors go to the backend of the connection that they speak of, echo requests to the
 * address are answered, and senders are told when a packet does not fit the way to its backend.
 */
#ifndef WEIR_BPF_SERVICE_ICMP_H
#define WEIR_BPF_SERVICE_ICMP_H

#include "bpf/lib/service_work.h"
#include "bpf/lib/tunnel.h"

#define SERVICE_TOLD_MAX 64 /* errors of ours, a tick and CPU */

enum {
	SERVICE_ICMP_UNREACHABLE = 3,
	SERVICE_ICMP_FRAGMENT_NEEDED = 4, /* its code */
	SERVICE_ICMP_ECHO = 8,
	SERVICE_ICMP_EXCEEDED = 11,
	SERVICE_ICMP_PARAMETER = 12,
	SERVICE_ICMP6_UNREACHABLE = 1,
	SERVICE_ICMP6_TOO_BIG = 2,
	SERVICE_ICMP6_EXCEEDED = 3,
	SERVICE_ICMP6_PARAMETER = 4,
	SERVICE_ICMP6_ECHO = 128,
	SERVICE_ICMP6_ROUTER = 133, /* the first of neighbour discovery (RFC 4861, 4) … */
	SERVICE_ICMP6_REDIRECT = 137,
};

packet_inline int service_is_error(const struct packet *p)
{
	__u8 type = bpf_ntohs(p->dport) >> 8;

	if (p->family == 4)
		return type == SERVICE_ICMP_UNREACHABLE || type == SERVICE_ICMP_EXCEEDED ||
		       type == SERVICE_ICMP_PARAMETER;
	return type >= SERVICE_ICMP6_UNREACHABLE && type <= SERVICE_ICMP6_PARAMETER;
}

/* Of hosts on one link about themselves, whatever service has the address. */
packet_inline int service_is_discovery(const struct packet *p)
{
	__u8 type = bpf_ntohs(p->dport) >> 8;

	return p->proto == PACKET_PROTO_ICMP6 && type >= SERVICE_ICMP6_ROUTER &&
	       type <= SERVICE_ICMP6_REDIRECT;
}

packet_inline int service_is_echo(const struct packet *p)
{
	return bpf_ntohs(p->dport) >> 8 == (p->family == 4 ? SERVICE_ICMP_ECHO : SERVICE_ICMP6_ECHO);
}

/* The packet that an ICMP error quotes, read as one of its connection's other direction: what is quoted was
 * sent by whom the error is for.  Into *key all but its ports, and behind its headers *offset.  0: there is
 * none. */
packet_inline int service_read_quoted(
	PACKET_CONTEXT *context, const struct packet *p, struct service_key *key, __u32 *offset)
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
packet_function int service_read_error(PACKET_CONTEXT *context)
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
packet_function int service_echo(PACKET_CONTEXT *context)
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

/* -- the MSS of a connection -- */

/* Where a SYN has its option of the MSS (RFC 9293, 3.7.1), which goes into option[4]; 0: nowhere.  Where it
 * has come to stands in `work`: the verifier then finds each step the same, or it would follow all ways there
 * are of so many. */
packet_inline __u32 service_seek_mss(PACKET_CONTEXT *context, struct service_work *work, __u8 *option)
{
	__u32 i;

	work->option = work->packet.l4_offset + 20;
#pragma clang loop unroll(disable)
	for (i = 0; i < 40 && work->option + 4 <= work->packet.header_bytes; i++) {
		if (packet_load(context, work->option, option, 4) || !option[0])
			return 0;
		if (option[0] == 1) {
			work->option++;
			continue;
		}
		if (option[1] < 2)
			return 0;
		if (option[0] == 2 && option[1] == 4)
			return work->option;
		work->option += option[1];
	}
	return 0;
}

#endif
