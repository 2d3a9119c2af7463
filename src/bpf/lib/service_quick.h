/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Services, for what most packets are: whole, untagged, without IPv4 options or IPv6 extension headers, TCP
 * or UDP, of a flow that stands in its first way or of a new one for which that is free; to a backend whose
 * next hop is known.
 *
 * Changes nothing before all is clear; whatever is not as above, the functions behind it do.  Both ways are
 * held against each other by tests/bpf/service.c.
 */
#ifndef WEIR_BPF_SERVICE_QUICK_H
#define WEIR_BPF_SERVICE_QUICK_H

#include "bpf/lib/emit.h"
#include "bpf/lib/encapsulate.h"
#include "bpf/lib/service_choose.h"
#include "bpf/lib/service_find.h"
#include "bpf/lib/service_work.h"

#define QUICK_FRAGMENT 0x3fff /* offset, and whether more follow */

/* What was found out about a packet. */
struct quick {
	__u32 now, ifindex;
	__u32 bytes;    /* of the frame */
	__u32 ip_bytes; /* from the network header on */
	__u32 number;   /* of the backend */
	__u32 begins;
	__u32 flags; /* TCP */
	struct tunnel tunnel;
};

/* Ports and flags of what may go on here. */
packet_inline int quick_read(const struct packet_tcp *l4, __u8 proto, struct quick *quick)
{
	if (proto == PACKET_PROTO_UDP)
		return 1;
	quick->flags = l4->flags;
	quick->begins = (quick->flags & (PACKET_TCP_SYN | PACKET_TCP_ACK)) == PACKET_TCP_SYN;
	return proto == PACKET_PROTO_TCP && l4->data_offset >= 5 << 4 &&
	       !(quick->flags & (PACKET_TCP_FIN | PACKET_TCP_RST)) &&
	       (quick->begins || !(quick->flags & PACKET_TCP_SYN));
}

/* May the backend that the flow's line names be used, without a look at what is written down? */
packet_inline int quick_holds(const struct service *service, const struct service_backend *backend,
	const struct flow_counts *counts, const struct flow_marks *marks, const struct quick *quick)
{
	if (!service_usable(backend, service->number, quick->begins) ||
		(__s32)(counts->last - backend->since) <= 0 || flow_is_full(counts))
		return 0;
	if (service->flags & SERVICE_QUIC || (quick->begins && marks->tcp_flags != PACKET_TCP_SYN))
		return 0;
	if (!(service->flags & SERVICE_WRITTEN))
		return 1;
	return !service_is_due(counts->last, quick->now) &&
	       !(quick->flags & PACKET_TCP_ACK && !(marks->tcp_flags & PACKET_TCP_ACK));
}

/* Can it be sent there at once? */
packet_inline int quick_fits(
	const struct service *service, const struct service_backend *backend, const struct quick *quick)
{
	__u32 mtu;

	if (!hop_is_fresh(backend, quick->now))
		return 0;
	mtu = encapsulate_mtu(service, backend);
	return !mtu || quick->ip_bytes <= mtu;
}

/* Counts what goes on in a line that is there. */
packet_inline void quick_hit(struct flow_counts *counts, struct flow_marks *marks, const struct quick *quick)
{
	counts->bytes += quick->bytes;
	counts->packets++;
	counts->last = quick->now;
	*(__u32 *)marks |= FLOW_MARKS(quick->flags, quick->begins ? FLOW_ORIGIN_INITIATOR : 0, 0);
}

packet_inline void quick_count(struct quick *quick, int anew)
{
	struct service_count *count = service_count(quick->number);

	if (!count)
		return;
	count->packets++;
	count->bytes += quick->bytes;
	count->last = quick->now;
	count->connections += anew;
	quick->tunnel.backend = quick->number;
}

packet_inline int quick_send(struct xdp_md *context, const struct service *service,
	const struct service_backend *backend, const struct quick *quick, __u32 family)
{
	__u32 around = encapsulate_bytes(service, backend), ifindex = backend->ifindex;
	__be16 ethertype;
	void *data, *end;

	if (around && bpf_xdp_adjust_head(context, -(int)around))
		goto lost;
	data = (void *)(long)context->data;
	end = (void *)(long)context->data_end;
	if (data + 14 + sizeof(struct packet_ip6) + sizeof(struct encapsulate_udp) > end && around)
		goto lost;
	if (data + 14 > end)
		goto lost;
	link_to(data, backend);
	ethertype = bpf_htons(family == 6 ? PACKET_ETH_IPV6 : PACKET_ETH_IPV4);
	if (around)
		ethertype = encapsulate(data + 14, service, backend, &quick->tunnel, quick->ip_bytes, family);
	*(__be16 *)(data + 12) = ethertype;
	return ifindex == quick->ifindex ? XDP_TX : bpf_redirect(ifindex, 0);
lost:
	service_lose(service->number, SERVICE_LOST_HEADER);
	return XDP_DROP;
}

/* The verdict, or -1: left to others, and nothing has changed.  A function of its own for its stack alone. */
static __noinline int quick4(
	struct xdp_md *context, void *book, const struct service_book *head, __u32 address, __u32 now)
{
	void *data = (void *)(long)context->data, *end = (void *)(long)context->data_end;
	struct packet_ip4 *ip = data + 14;
	struct packet_tcp *l4 = (void *)(ip + 1);
	struct quick quick = {.now = now, .ifindex = context->ingress_ifindex};
	const struct service_backend *backend;
	const struct service *service;
	struct flow_line4 *line = (void *)0;
	struct flow_stats *stats = (void *)0;
	__u32 kinds, cpu = 0, unit, index = 0, way = 0;
	__u64 addresses, ports;
	int anew = 0;

	if ((void *)(l4 + 1) > end || ip->version_ihl != 0x45 || ip->fragment & bpf_htons(QUICK_FRAGMENT) ||
		!quick_read(l4, ip->proto, &quick))
		return -1;
	quick.bytes = end - data;
	quick.ip_bytes = bpf_ntohs(ip->total_length);
	if (quick.ip_bytes + 14 > quick.bytes || quick.ip_bytes < sizeof(*ip) + 8)
		return -1;
	unit = service_find(book, head, address, ip->proto, l4->dport);
	service = unit ? (const void *)trie_unit(book, unit) : (void *)0;
	if (!service || service->deliver == SERVICE_NAT || (quick.begins && service->mss))
		return -1;
	quick.tunnel.client = ip->src;
	quick.tunnel.port = l4->sport;
	quick.tunnel.tos = ip->tos;
	addresses = ip->src | (__u64)ip->dst << 32;
	ports = l4->sport | (__u32)l4->dport << 16 | (__u64)quick.ifindex << 32;
	kinds = ip->proto | (__u32)(FLOW_KIND_IPV4 | FLOW_KIND_PORTS) << 8;
	if (!(service->flags & SERVICE_NO_FLOWS)) {
		__u64 hash = flow_hash4(addresses, ports, kinds);
		struct flow_set4 *set;
		__u32 home, i;

		cpu = bpf_get_smp_processor_id();
		index = cpu * flow_sets4 + (hash & (flow_sets4 - 1));
		set = bpf_map_lookup_elem(&flow_cache4, &index);
		stats = bpf_map_lookup_elem(&flow_stats, &cpu);
		if (!set || !stats)
			return -1;
		home = hash >> 62;
		PACKET_UNROLL
		for (i = 0; i < FLOW_WAYS; i++) {
			line = &set->line[(home + i) % FLOW_WAYS];
			if (*(__u64 *)&line->src == addresses && *(__u64 *)&line->sport == ports &&
				*(__u32 *)&line->proto == kinds)
				goto hit;
		}
		way = FLOW_VICTIM(set, home, now);
		line = &set->line[way];
		anew = 1;
	}
	if (service->flags & (SERVICE_WRITTEN | SERVICE_QUIC))
		return -1;
	quick.number = service_in_ring(
		service->ring, service_slot(service_hash4(service->seed, service->flags, ip->src, ip->dst,
						    service_ends(l4->sport, l4->dport, ip->proto)),
				       service->slots));
	backend = service_backend(quick.number);
	if (!service_usable(backend, service->number, 1) || !quick_fits(service, backend, &quick))
		return -1;
	/* or the compiler asks for the flag instead, and Linux 6.1 does not see that there is a line */
	asm volatile("" : "+r"(line));
	if (line) {
		struct flow_sight sight = {.packets = 1,
			.bytes = quick.bytes,
			.now = now,
			.owner = OWNER_FORWARDED,
			.origin = quick.begins ? FLOW_ORIGIN_INITIATOR : 0};

		if (line->serial) {
			flow_emit4(line, stats, cpu, index % flow_sets4 * FLOW_WAYS + way);
			flow_publish(line->serial, 0);
		}
		*(__u64 *)&line->src = addresses;
		*(__u64 *)&line->sport = ports;
		*(__u32 *)&line->proto = kinds;
		flow_fill(line, line, &sight, quick.flags);
		line->decision.rule = service->rule;
		line->decision.backend = quick.number;
		flow_publish(line->serial, flow_next_serial(stats));
		stats->seen++;
		stats->cached++;
	}
	/* what has no SYN begins with its first packet, if that is known */
	anew = quick.begins || (anew && (kinds & 0xff) == PACKET_PROTO_UDP);
	goto send;
hit:
	quick.number = line->decision.backend;
	backend = service_backend(quick.number);
	if (!quick_holds(service, backend, &line->counts, &line->marks, &quick) ||
		!quick_fits(service, backend, &quick))
		return -1;
	stats->seen++;
	stats->cached++;
	quick_hit(&line->counts, &line->marks, &quick);
send:
	quick_count(&quick, anew);
	return quick_send(context, service, backend, &quick, 4);
}

/* The same for IPv6. */
static __noinline int quick6(
	struct xdp_md *context, void *book, const struct service_book *head, __u32 address, __u32 now)
{
	void *data = (void *)(long)context->data, *end = (void *)(long)context->data_end;
	struct packet_ip6 *ip = data + 14;
	struct packet_tcp *l4 = (void *)(ip + 1);
	struct quick quick = {.now = now, .ifindex = context->ingress_ifindex};
	const struct service_backend *backend;
	const struct service *service;
	struct flow_line6 *line = (void *)0;
	struct flow_rest6 *rest = (void *)0;
	struct flow_stats *stats = (void *)0;
	__u32 kinds, cpu = 0, unit, index = 0, way = 0;
	__u64 ports, src[2], dst[2];
	__u8 proto;
	int anew = 0;

	if ((void *)(l4 + 1) > end || *(__u8 *)ip >> 4 != 6 || !quick_read(l4, ip->proto, &quick))
		return -1;
	proto = ip->proto;
	quick.bytes = end - data;
	quick.ip_bytes = bpf_ntohs(ip->payload_length) + sizeof(*ip);
	if (quick.ip_bytes + 14 > quick.bytes || quick.ip_bytes < sizeof(*ip) + 8)
		return -1;
	unit = service_find(book, head, address, proto, l4->dport);
	service = unit ? (const void *)trie_unit(book, unit) : (void *)0;
	if (!service || service->deliver == SERVICE_NAT || (quick.begins && service->mss))
		return -1;
	quick.tunnel.client = *((__be32 *)ip->src + 3);
	quick.tunnel.port = l4->sport;
	quick.tunnel.tos = bpf_ntohs(*(__be16 *)ip) >> 4;
	src[0] = ip->src[0];
	src[1] = ip->src[1];
	dst[0] = ip->dst[0];
	dst[1] = ip->dst[1];
	ports = l4->sport | (__u32)l4->dport << 16 | (__u64)quick.ifindex << 32;
	kinds = proto | (__u32)(FLOW_KIND_IPV6 | FLOW_KIND_PORTS) << 8;
	if (!(service->flags & SERVICE_NO_FLOWS)) {
		__u64 hash = flow_mix(flow_mix(src[0], src[1], flow_seed[0]), dst[0], flow_seed[1]);
		struct flow_rest_set6 *rest_set;
		struct flow_set6 *set;
		__u64 *line_src, *line_dst;
		__u32 home, i;

		hash = flow_mix(
			flow_mix(hash, dst[1], flow_seed[0]), ports ^ (__u64)kinds << 24, flow_seed[1]);
		cpu = bpf_get_smp_processor_id();
		index = cpu * flow_sets6 + (hash & (flow_sets6 - 1));
		set = bpf_map_lookup_elem(&flow_cache6, &index);
		rest_set = bpf_map_lookup_elem(&flow_rest6, &index);
		stats = bpf_map_lookup_elem(&flow_stats, &cpu);
		if (!set || !rest_set || !stats)
			return -1;
		home = hash >> 62;
		PACKET_UNROLL
		for (i = 0; i < FLOW_WAYS; i++) {
			line = &set->line[(home + i) % FLOW_WAYS];
			rest = &rest_set->line[(home + i) % FLOW_WAYS];
			line_src = (__u64 *)line->src;
			line_dst = (__u64 *)line->dst;
			if (line_src[1] == src[1] && line_dst[1] == dst[1] &&
				*(__u64 *)&line->sport == ports && line_src[0] == src[0] &&
				line_dst[0] == dst[0] && *(__u32 *)&line->proto == kinds)
				goto hit;
		}
		way = FLOW_VICTIM(set, home, now);
		line = &set->line[way];
		rest = &rest_set->line[way];
		anew = 1;
	}
	if (service->flags & (SERVICE_WRITTEN | SERVICE_QUIC))
		return -1;
	quick.number = service_in_ring(
		service->ring, service_slot(service_hash6(service->seed, service->flags, (__be32 *)src,
						    (__be32 *)dst, service_ends(l4->sport, l4->dport, proto)),
				       service->slots));
	backend = service_backend(quick.number);
	if (!service_usable(backend, service->number, 1) || !quick_fits(service, backend, &quick))
		return -1;
	asm volatile("" : "+r"(rest)); /* as above */
	if (rest) {
		struct flow_sight sight = {.packets = 1,
			.bytes = quick.bytes,
			.now = now,
			.owner = OWNER_FORWARDED,
			.origin = quick.begins ? FLOW_ORIGIN_INITIATOR : 0};

		if (rest->serial) {
			flow_emit6(line, rest, stats, cpu, index % flow_sets6 * FLOW_WAYS + way);
			flow_publish(rest->serial, 0);
		}
		*(__u64 *)&line->src[0] = src[0];
		*(__u64 *)&line->src[2] = src[1];
		*(__u64 *)&line->dst[0] = dst[0];
		*(__u64 *)&line->dst[2] = dst[1];
		*(__u64 *)&line->sport = ports;
		*(__u32 *)&line->proto = kinds;
		flow_fill(line, rest, &sight, quick.flags);
		rest->decision.rule = service->rule;
		rest->decision.backend = quick.number;
		flow_publish(rest->serial, flow_next_serial(stats));
		stats->seen++;
		stats->cached++;
	}
	anew = quick.begins || (anew && proto == PACKET_PROTO_UDP);
	goto send;
hit:
	quick.number = rest->decision.backend;
	backend = service_backend(quick.number);
	if (!quick_holds(service, backend, &line->counts, &line->marks, &quick) ||
		!quick_fits(service, backend, &quick))
		return -1;
	stats->seen++;
	stats->cached++;
	quick_hit(&line->counts, &line->marks, &quick);
send:
	quick_count(&quick, anew);
	return quick_send(context, service, backend, &quick, 6);
}

#endif
