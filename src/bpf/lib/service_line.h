/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Accounts packets of services, in the same flow cache as the programs in tc do (bpf/lib/flow.h), which never
 * see them; and keeps the backend in the flow's line.
 *
 * Whose they are needs no look: they pass through.
 */
#ifndef WEIR_BPF_SERVICE_LINE_H
#define WEIR_BPF_SERVICE_LINE_H

#include "bpf/lib/emit.h"
#include "bpf/lib/service_work.h"

/* How many there are on the wire of what the program got in one. */
#ifndef SERVICE_PACKETS
#define SERVICE_PACKETS(work) 1
#endif

packet_inline void service_hit(struct service_work *work, struct flow_counts *counts,
	struct flow_marks *marks, const struct flow_sight *sight, __u32 backend)
{
	work->known = 1;
	work->last = counts->last;
	work->tcp_flags = marks->tcp_flags;
	work->backend = backend;
	counts->bytes += sight->bytes;
	counts->packets += sight->packets;
	counts->last = sight->now;
	*(__u32 *)marks |= FLOW_MARKS(work->packet.tcp_flags, sight->origin, 0);
}

packet_inline void service_account4(
	struct service_work *work, const struct flow_sight *sight, struct flow_stats *stats)
{
	const struct packet *p = &work->packet;
	__u64 addresses = p->src[0] | (__u64)p->dst[0] << 32;
	__u64 ports = p->sport | (__u32)p->dport << 16 | (__u64)sight->ifindex << 32;
	__u32 kinds = p->proto | sight->kind << 8 | (__u32)p->vlan << 16;
	__u64 hash = flow_hash4(addresses, ports, kinds);
	__u32 set_index = hash & (flow_sets4 - 1), home = hash >> 62, way, i;
	__u32 index = sight->cpu * flow_sets4 + set_index;
	struct flow_set4 *set = bpf_map_lookup_elem(&flow_cache4, &index);
	struct flow_line4 *line;

	if (!set)
		return;
	work->set = index;
	PACKET_UNROLL
	for (i = 0; i < FLOW_WAYS; i++) {
		way = (home + i) % FLOW_WAYS;
		line = &set->line[way];
		if (*(__u64 *)&line->src != addresses || *(__u64 *)&line->sport != ports ||
			*(__u32 *)&line->proto != kinds)
			continue;
		if (flow_is_full(&line->counts))
			goto push_out;
		service_hit(work, &line->counts, &line->marks, sight, line->decision.backend);
		goto counted;
	}
	way = FLOW_VICTIM(set, home, sight->now);
	line = &set->line[way];
	if (line->serial) {
	push_out:
		if (flow_forgoes(stats, sight->now, sight->origin == FLOW_ORIGIN_INITIATOR) ||
			!flow_emit4(line, stats, sight->cpu, set_index * FLOW_WAYS + way)) {
			flow_refuse(stats, sight->now, sight->packets, sight->bytes);
			return;
		}
		flow_publish(line->serial, 0);
	}
	*(__u64 *)&line->src = addresses;
	*(__u64 *)&line->sport = ports;
	*(__u32 *)&line->proto = kinds;
	flow_fill(line, line, sight, p->tcp_flags);
	flow_publish(line->serial, flow_next_serial(stats));
counted:
	work->way = way + 1;
	stats->cached += sight->packets;
}

packet_inline void service_account6(
	struct service_work *work, const struct flow_sight *sight, struct flow_stats *stats)
{
	const struct packet *p = &work->packet;
	const __u64 *src = p->src64, *dst = p->dst64;
	__u64 ports = p->sport | (__u32)p->dport << 16 | (__u64)sight->ifindex << 32;
	__u32 kinds = p->proto | sight->kind << 8 | (__u32)p->vlan << 16;
	__u64 hash = flow_mix(flow_mix(src[0], src[1], flow_seed[0]), dst[0], flow_seed[1]);
	__u32 set_index, home, way, index, i;
	struct flow_rest_set6 *rest_set;
	struct flow_line6 *line;
	struct flow_rest6 *rest;
	struct flow_set6 *set;

	hash = flow_mix(flow_mix(hash, dst[1], flow_seed[0]), ports ^ (__u64)kinds << 24, flow_seed[1]);
	set_index = hash & (flow_sets6 - 1);
	home = hash >> 62;
	index = sight->cpu * flow_sets6 + set_index;
	set = bpf_map_lookup_elem(&flow_cache6, &index);
	rest_set = bpf_map_lookup_elem(&flow_rest6, &index);
	if (!set || !rest_set)
		return;
	work->set = index;
	PACKET_UNROLL
	for (i = 0; i < FLOW_WAYS; i++) {
		__u64 *line_src, *line_dst;

		way = (home + i) % FLOW_WAYS;
		line = &set->line[way];
		line_src = (__u64 *)line->src;
		line_dst = (__u64 *)line->dst;
		if (line_src[1] != src[1] || line_dst[1] != dst[1] || *(__u64 *)&line->sport != ports ||
			line_src[0] != src[0] || line_dst[0] != dst[0] || *(__u32 *)&line->proto != kinds)
			continue;
		if (flow_is_full(&line->counts))
			goto push_out;
		service_hit(work, &line->counts, &line->marks, sight, rest_set->line[way].decision.backend);
		goto counted;
	}
	way = FLOW_VICTIM(set, home, sight->now);
push_out:
	line = &set->line[way];
	rest = &rest_set->line[way];
	if (rest->serial) {
		if (flow_forgoes(stats, sight->now, sight->origin == FLOW_ORIGIN_INITIATOR) ||
			!flow_emit6(line, rest, stats, sight->cpu, set_index * FLOW_WAYS + way)) {
			flow_refuse(stats, sight->now, sight->packets, sight->bytes);
			return;
		}
		flow_publish(rest->serial, 0);
	}
	*(__u64 *)&line->src[0] = src[0];
	*(__u64 *)&line->src[2] = src[1];
	*(__u64 *)&line->dst[0] = dst[0];
	*(__u64 *)&line->dst[2] = dst[1];
	*(__u64 *)&line->sport = ports;
	*(__u32 *)&line->proto = kinds;
	flow_fill(line, rest, sight, p->tcp_flags);
	flow_publish(rest->serial, flow_next_serial(stats));
counted:
	work->way = way + 1;
	stats->cached += sight->packets;
}

/* Counts the packet in its flow's line, and tells what that knew of the flow; where it gets none, as if there
 * were no lines. */
packet_function int service_account(void)
{
	struct service_work *work = service_work();
	struct flow_sight sight = {.cpu = bpf_get_smp_processor_id(), .owner = OWNER_FORWARDED};
	struct flow_stats *stats = bpf_map_lookup_elem(&flow_stats, &sight.cpu);

	if (!work || !stats)
		return 0;
	sight.packets = SERVICE_PACKETS(work);
	sight.ifindex = work->ifindex;
	sight.bytes = work->bytes;
	sight.now = work->now;
	sight.kind = work->packet.kind;
	if (work->packet.tcp_flags & PACKET_TCP_SYN)
		sight.origin = work->packet.tcp_flags & PACKET_TCP_ACK ? FLOW_ORIGIN_RESPONDER
		                                                       : FLOW_ORIGIN_INITIATOR;
	stats->seen += sight.packets;
	if (work->packet.family == 6)
		service_account6(work, &sight, stats);
	else
		service_account4(work, &sight, stats);
	return 0;
}

/* The flow's line knows from now on where its packets go, and that its connection is over where that lost its
 * backend: as if the client had sent a RST. */
packet_function int service_remember(void)
{
	struct service_work *work = service_work();
	struct flow_decision *decision;
	const struct service *service;
	struct flow_marks *marks;
	__u32 way, index;

	if (!work || !work->way)
		return 0;
	service = service_of(work);
	way = (work->way - 1) % FLOW_WAYS;
	index = work->set;
	if (work->packet.family == 6) {
		struct flow_rest_set6 *rest = bpf_map_lookup_elem(&flow_rest6, &index);
		struct flow_set6 *set = bpf_map_lookup_elem(&flow_cache6, &index);

		if (!rest || !set || !service)
			return 0;
		decision = &rest->line[way].decision;
		marks = &set->line[way].marks;
	} else {
		struct flow_set4 *set = bpf_map_lookup_elem(&flow_cache4, &index);

		if (!set || !service)
			return 0;
		decision = &set->line[way].decision;
		marks = &set->line[way].marks;
	}
	decision->rule = service->rule;
	decision->backend = work->backend;
	if (work->gone)
		*(__u32 *)marks |= FLOW_MARKS(PACKET_TCP_RST, 0, 0);
	return 0;
}

#endif
