/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Account, for what most packets are: IPv4 without options, whole, UDP or TCP, neither tagged nor several in
 * one, of a flow that stands in its first way and about which nothing is to be found out.
 *
 * What takes time there is not the arithmetic but code and memory that other packets have pushed out of the
 * caches meanwhile.  So this is short, keeps what it reads in registers, and changes nothing before all is
 * clear; whatever is not as above, bpf/lib/packet.h and bpf/lib/flow.h do.
 */
#ifndef WEIR_BPF_QUICK_H
#define WEIR_BPF_QUICK_H

#include "bpf/lib/flow.h"
#include "bpf/lib/packet.h"

#define QUICK_FRAGMENT 0x3fff /* offset, and whether more follow */

/* Of the link header there are `link_bytes`.  0: left to others, and nothing has changed. */
packet_inline int quick_account(struct __sk_buff *skb, __u32 link_bytes, int out,
	const struct policy_now *in_force, enum flow_fate *fate)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	struct packet_ip4 *ip = data + link_bytes;
	struct packet_tcp *l4 = (void *)(ip + 1);
	struct flow_sight sight = {.packets = 1, .now = flow_now()};
	__u32 held, index, settled, tcp_flags = 0;
	__u64 addresses, ports, hash;
	struct flow_stats *stats;
	struct flow_line4 *line;
	struct flow_set4 *set;
	__u32 kinds;

	if ((void *)(l4 + 1) > end || ip->version_ihl != 0x45 || ip->fragment & bpf_htons(QUICK_FRAGMENT) ||
		bpf_ntohs(ip->total_length) < sizeof(*ip))
		return 0;
	if (ip->proto == PACKET_PROTO_TCP) {
		tcp_flags = l4->flags;
		if (l4->data_offset < 5 << 4 || !l4->window ||
			tcp_flags & (PACKET_TCP_FIN | PACKET_TCP_SYN | PACKET_TCP_RST))
			return 0;
	} else if (ip->proto != PACKET_PROTO_UDP) {
		return 0;
	}
	sight.kind = FLOW_KIND_IPV4 | FLOW_KIND_PORTS | (out ? FLOW_KIND_OUT : 0);
	kinds = ip->proto | sight.kind << 8;
	addresses = ip->src | (__u64)ip->dst << 32;
	ports = l4->sport | (__u32)l4->dport << 16 | (__u64)skb->ifindex << 32;
	hash = flow_hash4(addresses, ports, kinds);
	sight.cpu = bpf_get_smp_processor_id();
	index = sight.cpu * flow_sets4 + (hash & (flow_sets4 - 1));
	set = bpf_map_lookup_elem(&flow_cache4, &index);
	stats = bpf_map_lookup_elem(&flow_stats, &sight.cpu);
	if (!set || !stats)
		return 0;
	line = &set->line[hash >> 62];
	if (*(__u64 *)&line->src != addresses || *(__u64 *)&line->sport != ports ||
		*(__u32 *)&line->proto != kinds || flow_is_full(&line->counts) ||
		(names_on && !(line->marks.names & NAME_DONE)))
		return 0;
	held = flow_held(in_force, &line->counts, &line->marks, sight.now);
	settled = flow_is_settled(in_force, held, line->counts.last, sight.now, tcp_flags);
	if (in_force && !settled)
		return 0;
	if (!owner_off && flow_seeks(&line->counts, &line->marks, &sight, tcp_flags)) {
		if (out || !flow_looks_spent(stats, sight.now))
			return 0;
		stats->postponed++;
		sight.origin = FLOW_OWNER_DUE;
	}
	sight.bytes = skb->len;
	stats->seen++;
	stats->cached++;
	flow_hit(&line->counts, &line->marks, &sight, tcp_flags);
	*fate = in_force ? flow_settle(&sight, held, &line->decision) : FLOW_PASS;
	return 1;
}

#endif
