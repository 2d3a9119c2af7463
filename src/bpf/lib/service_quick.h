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
#define QUICK_TURNS    (PACKET_TCP_FIN | PACKET_TCP_SYN | PACKET_TCP_RST)

/* What was found out about a packet. */
struct quick {
	__u32 now, ifindex;
	__u32 bytes;    /* of the frame */
	__u32 ip_bytes; /* from the network header on */
	__u32 number;   /* of the backend */
	__u32 begins;
	__u32 flags;  /* TCP */
	__u32 around; /* bytes that are put around it */
	struct tunnel tunnel;
};

/* Ports and flags of what may go on here. */
packet_inline int quick_read(const struct packet_tcp *l4, __u8 proto, struct quick *quick)
{
	if (proto == PACKET_PROTO_UDP)
		return 1;
	if (proto != PACKET_PROTO_TCP || l4->data_offset < 5 << 4)
		return 0;
	quick->flags = l4->flags;
	if (!(quick->flags & QUICK_TURNS))
		return 1;
	quick->begins = 1;
	return (quick->flags & (QUICK_TURNS | PACKET_TCP_ACK)) == PACKET_TCP_SYN;
}

/* May the backend that the flow's line names be used, without a look at what is written down?  What is usual
 * is asked first, and of what is rare only whether there is any. */
packet_inline int quick_holds(const struct service *service, const struct service_backend *backend,
	const struct flow_counts *counts, const struct flow_marks *marks, const struct quick *quick)
{
	if (!service_usable(backend, service->number, quick->begins))
		return 0;
	if ((__s32)(counts->last - backend->since) <= 0 || flow_is_full(counts))
		return 0;
	if (quick->begins && marks->tcp_flags != PACKET_TCP_SYN)
		return 0;
	if (__builtin_expect(!(service->flags & (SERVICE_WRITTEN | SERVICE_QUIC)), 1))
		return 1;
	if (service->flags & SERVICE_QUIC || service_is_due(counts->last, quick->now))
		return 0;
	return !(quick->flags & PACKET_TCP_ACK) || marks->tcp_flags & PACKET_TCP_ACK;
}

/* Can it be sent there at once, with so many bytes around it?  As encapsulate_mtu() has it. */
packet_inline int quick_fits(
	const struct service *service, const struct service_backend *backend, struct quick *quick)
{
	if (!hop_is_fresh(backend, quick->now))
		return 0;
	quick->around = encapsulate_bytes(service, backend);
	if (quick->ip_bytes + quick->around > backend->mtu && backend->mtu > quick->around)
		return 0;
	return !service->mtu || quick->ip_bytes <= service->mtu;
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
	__u32 around = quick->around, ifindex = backend->ifindex;
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

/* -- the line of its flow -- */

struct quick_line4 {
	struct flow_line4 *line; /* NULL: it is not accounted */
	struct flow_stats *stats;
	__u64 addresses, ports;
	__u32 kinds, cpu, index, way;
	int found; /* else the line is another's, whose place it takes */
};

packet_inline void quick_key4(struct quick_line4 *at, const struct packet_ip4 *ip,
	const struct packet_tcp *l4, const struct quick *quick)
{
	at->addresses = ip->src | (__u64)ip->dst << 32;
	at->ports = l4->sport | (__u32)l4->dport << 16 | (__u64)quick->ifindex << 32;
	at->kinds = ip->proto | (__u32)(FLOW_KIND_IPV4 | FLOW_KIND_PORTS) << 8;
}

/* 0: there are no lines. */
packet_inline int quick_find4(struct quick_line4 *at, __u32 now)
{
	__u64 hash = flow_hash4(at->addresses, at->ports, at->kinds);
	struct flow_set4 *set;
	struct flow_line4 *line;
	/* not in *at: what a helper gets the address of is not kept in registers, nor what is beside it */
	__u32 cpu = bpf_get_smp_processor_id(), index = cpu * flow_sets4 + (hash & (flow_sets4 - 1));
	__u32 home = hash >> 62, i;

	set = bpf_map_lookup_elem(&flow_cache4, &index);
	at->stats = bpf_map_lookup_elem(&flow_stats, &cpu);
	if (!set || !at->stats)
		return 0;
	at->cpu = cpu;
	at->index = index;
	PACKET_UNROLL
	for (i = 0; i < FLOW_WAYS; i++) {
		line = &set->line[(home + i) % FLOW_WAYS];
		if (*(__u64 *)&line->src == at->addresses && *(__u64 *)&line->sport == at->ports &&
			*(__u32 *)&line->proto == at->kinds) {
			at->line = line;
			at->way = (home + i) % FLOW_WAYS;
			at->found = 1;
			return 1;
		}
	}
	at->way = FLOW_VICTIM(set, home, now);
	at->line = &set->line[at->way];
	return 1;
}

/* The line becomes this flow's.  0: it stays another's, since the ring is full, and the packet is counted
 * lost. */
packet_inline int quick_fill4(
	const struct quick_line4 *at, const struct quick *quick, const struct flow_decision *decision)
{
	struct flow_line4 *line = at->line;
	struct flow_sight sight = {.packets = 1,
		.bytes = quick->bytes,
		.now = quick->now,
		.owner = OWNER_FORWARDED,
		.origin = quick->begins ? FLOW_ORIGIN_INITIATOR : 0};

	at->stats->seen++;
	if (line->serial) {
		if (flow_forgoes(at->stats, quick->now, quick->begins) ||
			!flow_push4(line, at->stats, at->cpu,
				(at->index & (flow_sets4 - 1)) * FLOW_WAYS + at->way)) {
			flow_refuse(at->stats, quick->now, 1, quick->bytes);
			return 0;
		}
		flow_publish(line->serial, 0);
	}
	*(__u64 *)&line->src = at->addresses;
	*(__u64 *)&line->sport = at->ports;
	*(__u32 *)&line->proto = at->kinds;
	flow_fill(line, line, &sight, quick->flags);
	line->decision.rule = decision->rule;
	line->decision.backend = decision->backend;
	flow_publish(line->serial, flow_next_serial(at->stats));
	at->stats->cached++;
	return 1;
}

/* Counts the packet there: the line is found, or becomes its flow's.  0: it gets none. */
packet_inline int quick_account4(
	struct quick_line4 *at, const struct quick *quick, const struct flow_decision *decision)
{
	if (!at->found)
		return quick_fill4(at, quick, decision);
	at->stats->seen++;
	at->stats->cached++;
	quick_hit(&at->line->counts, &at->line->marks, quick);
	at->line->decision.rule = decision->rule;
	at->line->decision.backend = decision->backend;
	return 1;
}

struct quick_line6 {
	struct flow_line6 *line;
	struct flow_rest6 *rest; /* NULL: it is not accounted */
	struct flow_stats *stats;
	__u64 ports, src[2], dst[2];
	__u32 kinds, cpu, index, way;
	int found;
};

packet_inline void quick_key6(struct quick_line6 *at, const struct packet_ip6 *ip,
	const struct packet_tcp *l4, const struct quick *quick)
{
	at->src[0] = ip->src[0];
	at->src[1] = ip->src[1];
	at->dst[0] = ip->dst[0];
	at->dst[1] = ip->dst[1];
	at->ports = l4->sport | (__u32)l4->dport << 16 | (__u64)quick->ifindex << 32;
	at->kinds = ip->proto | (__u32)(FLOW_KIND_IPV6 | FLOW_KIND_PORTS) << 8;
}

packet_inline int quick_find6(struct quick_line6 *at, __u32 now)
{
	__u64 hash = flow_mix(flow_mix(at->src[0], at->src[1], flow_seed[0]), at->dst[0], flow_seed[1]);
	struct flow_rest_set6 *rest_set;
	struct flow_set6 *set;
	__u64 *line_src, *line_dst;
	struct flow_line6 *line;
	__u32 cpu = bpf_get_smp_processor_id(), home, index, i;

	hash = flow_mix(
		flow_mix(hash, at->dst[1], flow_seed[0]), at->ports ^ (__u64)at->kinds << 24, flow_seed[1]);
	index = cpu * flow_sets6 + (hash & (flow_sets6 - 1));
	set = bpf_map_lookup_elem(&flow_cache6, &index);
	rest_set = bpf_map_lookup_elem(&flow_rest6, &index);
	at->stats = bpf_map_lookup_elem(&flow_stats, &cpu);
	if (!set || !rest_set || !at->stats)
		return 0;
	at->cpu = cpu;
	at->index = index;
	home = hash >> 62;
	PACKET_UNROLL
	for (i = 0; i < FLOW_WAYS; i++) {
		line = &set->line[(home + i) % FLOW_WAYS];
		line_src = (__u64 *)line->src;
		line_dst = (__u64 *)line->dst;
		if (line_src[1] == at->src[1] && line_dst[1] == at->dst[1] &&
			*(__u64 *)&line->sport == at->ports && line_src[0] == at->src[0] &&
			line_dst[0] == at->dst[0] && *(__u32 *)&line->proto == at->kinds) {
			at->line = line;
			at->rest = &rest_set->line[(home + i) % FLOW_WAYS];
			at->way = (home + i) % FLOW_WAYS;
			at->found = 1;
			return 1;
		}
	}
	at->way = FLOW_VICTIM(set, home, now);
	at->line = &set->line[at->way];
	at->rest = &rest_set->line[at->way];
	return 1;
}

packet_inline int quick_fill6(
	const struct quick_line6 *at, const struct quick *quick, const struct flow_decision *decision)
{
	struct flow_line6 *line = at->line;
	struct flow_rest6 *rest = at->rest;
	struct flow_sight sight = {.packets = 1,
		.bytes = quick->bytes,
		.now = quick->now,
		.owner = OWNER_FORWARDED,
		.origin = quick->begins ? FLOW_ORIGIN_INITIATOR : 0};

	at->stats->seen++;
	if (rest->serial) {
		if (flow_forgoes(at->stats, quick->now, quick->begins) ||
			!flow_push6(line, rest, at->stats, at->cpu,
				(at->index & (flow_sets6 - 1)) * FLOW_WAYS + at->way)) {
			flow_refuse(at->stats, quick->now, 1, quick->bytes);
			return 0;
		}
		flow_publish(rest->serial, 0);
	}
	*(__u64 *)&line->src[0] = at->src[0];
	*(__u64 *)&line->src[2] = at->src[1];
	*(__u64 *)&line->dst[0] = at->dst[0];
	*(__u64 *)&line->dst[2] = at->dst[1];
	*(__u64 *)&line->sport = at->ports;
	*(__u32 *)&line->proto = at->kinds;
	flow_fill(line, rest, &sight, quick->flags);
	rest->decision.rule = decision->rule;
	rest->decision.backend = decision->backend;
	flow_publish(rest->serial, flow_next_serial(at->stats));
	at->stats->cached++;
	return 1;
}

packet_inline int quick_account6(
	struct quick_line6 *at, const struct quick *quick, const struct flow_decision *decision)
{
	if (!at->found)
		return quick_fill6(at, quick, decision);
	at->stats->seen++;
	at->stats->cached++;
	quick_hit(&at->line->counts, &at->line->marks, quick);
	at->rest->decision.rule = decision->rule;
	at->rest->decision.backend = decision->backend;
	return 1;
}

/* -- all of it -- */

/* What may go on here, of IPv4: 0: it may not. */
packet_inline int quick_read4(const void *data, const void *end, struct quick *quick)
{
	const struct packet_ip4 *ip = data + 14;
	const struct packet_tcp *l4 = (const void *)(ip + 1);

	if ((const void *)(l4 + 1) > end || ip->version_ihl != 0x45 ||
		ip->fragment & bpf_htons(QUICK_FRAGMENT) || !quick_read(l4, ip->proto, quick))
		return 0;
	quick->bytes = end - data;
	quick->ip_bytes = bpf_ntohs(ip->total_length);
	return quick->ip_bytes + 14 <= quick->bytes && quick->ip_bytes >= sizeof(*ip) + 8;
}

packet_inline int quick_read6(const void *data, const void *end, struct quick *quick)
{
	const struct packet_ip6 *ip = data + 14;
	const struct packet_tcp *l4 = (const void *)(ip + 1);

	if ((const void *)(l4 + 1) > end || *(const __u8 *)ip >> 4 != 6 || !quick_read(l4, ip->proto, quick))
		return 0;
	quick->bytes = end - data;
	quick->ip_bytes = bpf_ntohs(ip->payload_length) + sizeof(*ip);
	return quick->ip_bytes + 14 <= quick->bytes && quick->ip_bytes >= sizeof(*ip) + 8;
}

/* The verdict, or a negative number, and nothing has changed: QUICK_NAT, of a service that is delivered by
 * nat, and its unit is known; QUICK_LEFT.  Inline, since a call costs as much as all of the accounting. */
#define QUICK_LEFT (-1)
#define QUICK_NAT  (-2)

packet_inline int quick4(struct xdp_md *context, void *book, const struct service_book *head, __u32 address,
	__u32 now, __u32 *unit)
{
	void *data = (void *)(long)context->data, *end = (void *)(long)context->data_end;
	struct quick quick = {.now = now, .ifindex = context->ingress_ifindex};
	struct packet_ip4 *ip = data + 14;
	struct packet_tcp *l4 = (void *)(ip + 1);
	const struct service_backend *backend;
	struct flow_decision decision = {};
	const struct service *service;
	struct quick_line4 at = {};
	int anew;

	if (!quick_read4(data, end, &quick) || (void *)(l4 + 1) > end)
		return QUICK_LEFT;
	*unit = service_find(book, head, address, ip->proto, l4->dport);
	service = *unit ? (const void *)trie_unit(book, *unit) : (void *)0;
	if (!service || (quick.begins && service->mss))
		return QUICK_LEFT;
	if (service->deliver == SERVICE_NAT)
		return QUICK_NAT;
	quick.tunnel.client = ip->src;
	quick.tunnel.port = l4->sport;
	quick.tunnel.tos = ip->tos;
	quick_key4(&at, ip, l4, &quick);
	if (!(service->flags & SERVICE_NO_FLOWS)) {
		if (!quick_find4(&at, now))
			return QUICK_LEFT;
		if (at.found)
			goto hit;
	}
	if (service->flags & (SERVICE_WRITTEN | SERVICE_QUIC))
		return QUICK_LEFT;
	quick.number = service_in_ring(
		service->ring, service_slot(service_hash4(service->seed, service->flags, ip->src, ip->dst,
						    service_ends(l4->sport, l4->dport, ip->proto)),
				       service->slots));
	backend = service_backend(quick.number);
	if (!service_usable(backend, service->number, 1) || !quick_fits(service, backend, &quick))
		return QUICK_LEFT;
	/* what has no SYN begins with its first packet, if that is known */
	anew = quick.begins || (at.line && (at.kinds & 0xff) == PACKET_PROTO_UDP);
	/* or the compiler asks for the flag instead, and Linux 6.1 does not see that there is a line */
	asm volatile("" : "+r"(at.line));
	if (at.line) {
		decision.rule = service->rule;
		decision.backend = quick.number;
		quick_fill4(&at, &quick, &decision);
	}
	goto send;
hit:
	quick.number = at.line->decision.backend;
	backend = service_backend(quick.number);
	if (!quick_holds(service, backend, &at.line->counts, &at.line->marks, &quick) ||
		!quick_fits(service, backend, &quick))
		return QUICK_LEFT;
	at.stats->seen++;
	at.stats->cached++;
	quick_hit(&at.line->counts, &at.line->marks, &quick);
	anew = 0;
send:
	quick_count(&quick, anew);
	return quick_send(context, service, backend, &quick, 4);
}

/* The same for IPv6. */
packet_inline int quick6(struct xdp_md *context, void *book, const struct service_book *head, __u32 address,
	__u32 now, __u32 *unit)
{
	void *data = (void *)(long)context->data, *end = (void *)(long)context->data_end;
	struct quick quick = {.now = now, .ifindex = context->ingress_ifindex};
	struct packet_ip6 *ip = data + 14;
	struct packet_tcp *l4 = (void *)(ip + 1);
	const struct service_backend *backend;
	struct flow_decision decision = {};
	const struct service *service;
	struct quick_line6 at = {};
	__u8 proto;
	int anew;

	if (!quick_read6(data, end, &quick) || (void *)(l4 + 1) > end)
		return QUICK_LEFT;
	proto = ip->proto;
	*unit = service_find(book, head, address, proto, l4->dport);
	service = *unit ? (const void *)trie_unit(book, *unit) : (void *)0;
	if (!service || (quick.begins && service->mss))
		return QUICK_LEFT;
	if (service->deliver == SERVICE_NAT)
		return QUICK_NAT;
	quick.tunnel.client = *((__be32 *)ip->src + 3);
	quick.tunnel.port = l4->sport;
	quick.tunnel.tos = bpf_ntohs(*(__be16 *)ip) >> 4;
	quick_key6(&at, ip, l4, &quick);
	if (!(service->flags & SERVICE_NO_FLOWS)) {
		if (!quick_find6(&at, now))
			return QUICK_LEFT;
		if (at.found)
			goto hit;
	}
	if (service->flags & (SERVICE_WRITTEN | SERVICE_QUIC))
		return QUICK_LEFT;
	quick.number = service_in_ring(service->ring,
		service_slot(service_hash6(service->seed, service->flags, (__be32 *)at.src, (__be32 *)at.dst,
				     service_ends(l4->sport, l4->dport, proto)),
			service->slots));
	backend = service_backend(quick.number);
	if (!service_usable(backend, service->number, 1) || !quick_fits(service, backend, &quick))
		return QUICK_LEFT;
	anew = quick.begins || (at.rest && proto == PACKET_PROTO_UDP);
	asm volatile("" : "+r"(at.rest)); /* as above */
	if (at.rest) {
		decision.rule = service->rule;
		decision.backend = quick.number;
		quick_fill6(&at, &quick, &decision);
	}
	goto send;
hit:
	quick.number = at.rest->decision.backend;
	backend = service_backend(quick.number);
	if (!quick_holds(service, backend, &at.line->counts, &at.line->marks, &quick) ||
		!quick_fits(service, backend, &quick))
		return QUICK_LEFT;
	at.stats->seen++;
	at.stats->cached++;
	quick_hit(&at.line->counts, &at.line->marks, &quick);
	anew = 0;
send:
	quick_count(&quick, anew);
	return quick_send(context, service, backend, &quick, 6);
}

#endif
