/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Senders are told at XDP what fits the way to a backend, by ICMP and by the MSS of the other side; and that
 * a packet has come too far. */
#ifndef WEIR_BPF_SERVICE_TELL_H
#define WEIR_BPF_SERVICE_TELL_H

#include "bpf/lib/encapsulate.h"
#include "bpf/lib/service_icmp.h"
#include "bpf/lib/service_work.h"

/* What an error quotes of the packet that it is about, and of a smaller one: a header and eight bytes. */
#define SERVICE_QUOTE4       84
#define SERVICE_QUOTE6       248
#define SERVICE_QUOTE4_LEAST 28
#define SERVICE_QUOTE6_LEAST 48
#define SERVICE_MTU6         1280 /* every link carries as much (RFC 8200, 5) */

/* Can the packet's sender be told of it (RFC 1812, 4.3.2.7; RFC 4443, 2.4)? */
packet_inline int service_can_tell(const struct service_work *work)
{
	const struct packet *p = &work->packet;
	__u32 first = bpf_ntohl(p->src[0]) >> 24;

	if (work->error)
		return 0;
	if (p->family == 4)
		return p->fragment != PACKET_FRAGMENT_LATER && first && first < 224;
	return first != 0xff && (p->src64[0] || p->src64[1]);
}

/* The sum of an error with what it quotes, of one of two sizes; -1: it is not all there. */
packet_inline __s64 tell_sum(void *icmp, const void *end, int all, __u32 most, __u32 least, __u32 sum)
{
	if (!all)
		return icmp + 8 + least > end ? -1 : bpf_csum_diff((void *)0, 0, icmp, 8 + least, sum);
	return icmp + 8 + most > end ? -1 : bpf_csum_diff((void *)0, 0, icmp, 8 + most, sum);
}

/* Makes the packet an error about itself: it is larger than `mtu`; 0: it has no hop left. */
packet_function int service_tell(struct xdp_md *context, __u32 mtu)
{
	struct service_work *work = service_work();
	__u32 link, quote, least, headers, bytes, all;
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
	if (work->told >= SERVICE_TOLD_MAX || !service_can_tell(work))
		return XDP_DROP;
	work->told++;
	quote = work->packet.family == 4 ? SERVICE_QUOTE4 : SERVICE_QUOTE6;
	least = work->packet.family == 4 ? SERVICE_QUOTE4_LEAST : SERVICE_QUOTE6_LEAST;
	headers = (work->packet.family == 4 ? sizeof(struct packet_ip4) : sizeof(struct packet_ip6)) + 8;
	bytes = work->bytes;
	all = bytes >= link + quote;
	if (!all)
		quote = least;
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

		if ((void *)icmp + 8 + SERVICE_QUOTE4_LEAST > end)
			return XDP_DROP;
		*ip = (struct packet_ip4){.version_ihl = 0x45,
			.total_length = bpf_htons(sizeof(*ip) + 8 + quote),
			.ttl = ENCAPSULATE_TTL,
			.proto = PACKET_PROTO_ICMP,
			.src = work->packet.dst[0],
			.dst = work->packet.src[0]};
		ip->checksum = checksum_fold(bpf_csum_diff((void *)0, 0, (void *)ip, sizeof(*ip), 0));
		icmp->type = mtu ? SERVICE_ICMP_UNREACHABLE : SERVICE_ICMP_EXCEEDED;
		icmp->code = mtu ? SERVICE_ICMP_FRAGMENT_NEEDED : 0;
		icmp->checksum = 0;
		icmp->id = 0;
		*(&icmp->id + 1) = bpf_htons(mtu);
		sum = tell_sum(icmp, end, all, SERVICE_QUOTE4, SERVICE_QUOTE4_LEAST, 0);
		if (sum < 0)
			return XDP_DROP;
		icmp->checksum = checksum_fold((__u32)sum);
	} else {
		struct packet_ip6 *ip = l3;
		struct packet_icmp *icmp = (void *)(ip + 1);

		if ((void *)icmp + 8 + SERVICE_QUOTE6_LEAST > end)
			return XDP_DROP;
		ip->version_class_label = bpf_htonl(0x60000000);
		ip->payload_length = bpf_htons(8 + quote);
		ip->proto = PACKET_PROTO_ICMP6;
		ip->hop_limit = ENCAPSULATE_TTL;
		ip->src[0] = work->packet.dst64[0];
		ip->src[1] = work->packet.dst64[1];
		ip->dst[0] = work->packet.src64[0];
		ip->dst[1] = work->packet.src64[1];
		icmp->type = mtu ? SERVICE_ICMP6_TOO_BIG : SERVICE_ICMP6_EXCEEDED;
		icmp->code = 0;
		icmp->checksum = 0;
		*(__be32 *)&icmp->id = bpf_htonl(mtu && mtu < SERVICE_MTU6 ? SERVICE_MTU6 : mtu);
		sum = bpf_csum_diff((void *)0, 0, (void *)ip->src, 32, 0);
		sum = tell_sum(icmp, end, all, SERVICE_QUOTE6, SERVICE_QUOTE6_LEAST, (__u32)sum);
		if (sum < 0)
			return XDP_DROP;
		icmp->checksum =
			checksum_fold((__u64)(__u32)sum + ip->payload_length + bpf_htons(PACKET_PROTO_ICMP6));
	}
	lost = service_lost(work->number);
	if (lost && mtu)
		lost->told++;
	return XDP_TX;
}

/* Lowers what a SYN offers. */
packet_function int service_clamp(struct xdp_md *context, __u32 mss)
{
	struct service_work *work = service_work();
	__u16 from, to = mss;
	__u8 option[4];
	__be16 checksum;
	__u32 offset;

	offset = work ? service_seek_mss(context, work, option) : 0;
	if (!offset)
		return 0;
	from = option[2] << 8 | option[3];
	if (from <= to || packet_load(context, work->packet.l4_offset + 16, &checksum, 2))
		return 0;
	option[2] = mss >> 8;
	option[3] = mss;
	if ((offset - work->packet.l4_offset) & 1) {
		from = (__u16)(from << 8 | from >> 8);
		to = (__u16)(to << 8 | to >> 8);
	}
	checksum = checksum_fold((__u64)(__u16)~checksum + (__u16)~bpf_htons(from) + bpf_htons(to));
	bpf_xdp_store_bytes(context, offset, option, 4);
	bpf_xdp_store_bytes(context, work->packet.l4_offset + 16, &checksum, 2);
	return 1;
}

#endif
