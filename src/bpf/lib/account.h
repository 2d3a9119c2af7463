/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Accounts packets that XDP sends on (shared/forward.h), in the same flow cache as the programs in tc do
 * (bpf/lib/flow.h), which never see them.
 *
 * Whose they are needs no look: they pass through.
 */
#ifndef WEIR_BPF_ACCOUNT_H
#define WEIR_BPF_ACCOUNT_H

#include "bpf/lib/emit.h"
#include "bpf/lib/finish.h"

/* A packet, and what its flow's line is told of it. */
struct account {
	struct packet packet;
	__u32 ifindex; /* it came in by */
	__u32 bytes;   /* of the frame */
	__u32 now;     /* tick */
	__u32 rule;    /* id of what sends it on */
	__u32 veth;    /* it came from a veth: its checksum may not be finished */
	struct finish finish;
};

/* In a map: for the room, and since functions that are verified apart share it. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct account);
} accounts SEC(".maps");

packet_inline struct account *account_get(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&accounts, &zero);
}

packet_inline void account_hit(
	struct flow_counts *counts, struct flow_marks *marks, const struct flow_sight *sight, __u8 tcp_flags)
{
	counts->bytes += sight->bytes;
	counts->packets++;
	counts->last = sight->now;
	*(__u32 *)marks |= FLOW_MARKS(tcp_flags, sight->origin, 0);
}

packet_inline void account4(
	const struct account *account, const struct flow_sight *sight, struct flow_stats *stats)
{
	const struct packet *p = &account->packet;
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
	PACKET_UNROLL
	for (i = 0; i < FLOW_WAYS; i++) {
		way = (home + i) % FLOW_WAYS;
		line = &set->line[way];
		if (*(__u64 *)&line->src != addresses || *(__u64 *)&line->sport != ports ||
			*(__u32 *)&line->proto != kinds)
			continue;
		if (flow_is_full(&line->counts))
			goto push_out;
		account_hit(&line->counts, &line->marks, sight, p->tcp_flags);
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
	line->decision.rule = account->rule;
	flow_publish(line->serial, flow_next_serial(stats));
counted:
	stats->cached++;
}

packet_inline void account6(
	const struct account *account, const struct flow_sight *sight, struct flow_stats *stats)
{
	const struct packet *p = &account->packet;
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
	if (!set)
		return;
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
		account_hit(&line->counts, &line->marks, sight, p->tcp_flags);
		goto counted;
	}
	way = FLOW_VICTIM(set, home, sight->now);
push_out:
	rest_set = bpf_map_lookup_elem(&flow_rest6, &index);
	if (!rest_set)
		return;
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
	rest->decision.rule = account->rule;
	flow_publish(rest->serial, flow_next_serial(stats));
counted:
	stats->cached++;
}

/* Counts the packet in its flow's line; what is not IP, or cannot be read, too; and finishes its checksum. Of
 * `account` it is known when and where it came, and by what it is sent on. */
packet_function int account_packet(struct xdp_md *context)
{
	void *data = (void *)(long)context->data, *end = (void *)(long)context->data_end;
	struct flow_sight sight = {.cpu = bpf_get_smp_processor_id(), .packets = 1, .owner = OWNER_FORWARDED};
	struct flow_stats *stats = bpf_map_lookup_elem(&flow_stats, &sight.cpu);
	struct account *account = account_get();
	struct packet *p;
	__u32 reason;

	if (!account || !stats)
		return 0;
	p = &account->packet;
	__builtin_memset(p, 0, sizeof(*p));
	reason = packet_parse(context, data, end, 1, 0, p);
	p->reason = reason;
	if (account->veth && reason == PARSE_OK)
		finish_packet(context, p, &account->finish);
	sight.ifindex = account->ifindex;
	sight.bytes = account->bytes;
	sight.now = account->now;
	sight.kind = p->kind;
	if (p->tcp_flags & PACKET_TCP_SYN)
		sight.origin = p->tcp_flags & PACKET_TCP_ACK ? FLOW_ORIGIN_RESPONDER : FLOW_ORIGIN_INITIATOR;
	stats->seen++;
	if (reason != PARSE_OK) {
		asm volatile("" : "+r"(reason)); /* or the compiler knows better and drops the mask */
		stats->reasons[reason & (PARSE_REASON_MAX - 1)]++;
	}
	if (p->family == 6) {
		account6(account, &sight, stats);
		return 0;
	}
	if (!p->family) {
		p->src[0] = p->dst[0] = 0;
		p->proto = 0;
		p->sport = p->ethertype;
		p->dport = bpf_htons(p->reason);
	}
	account4(account, &sight, stats);
	return 0;
}

#endif
