/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* What rules compare (struct policy_facts), out of a packet that was read. */
#ifndef WEIR_BPF_FACTS_H
#define WEIR_BPF_FACTS_H

#include "bpf/lib/packet.h"
#include "shared/policy.h"

/* All that stands in the packet; who it belongs to, its state and its sets are the caller's to add. */
packet_inline void facts_read(const struct packet *p, __u32 ifindex, int out, struct policy_facts *facts)
{
	int ports = p->kind & FLOW_KIND_PORTS, i;

	for (i = 0; i < 4; i++) {
		facts->src[i] = p->src[i];
		facts->dst[i] = p->dst[i];
	}
	facts->ifindex = ifindex;
	facts->sport = ports ? bpf_ntohs(p->sport) : 65536;
	facts->dport = ports ? bpf_ntohs(p->dport) : 65536;
	facts->icmp = p->kind & FLOW_KIND_ICMP ? bpf_ntohs(p->dport) : 65536;
	facts->mark = 0;
	facts->flags = ports && p->proto == PACKET_PROTO_TCP ? p->tcp_flags : 256;
	facts->proto = p->family ? p->proto : 256;
	facts->vlan = p->vlan_depth ? p->vlan : 4096;
	facts->dscp = p->family ? p->tos >> 2 : 64;
	facts->family = p->family;
	facts->fragment = p->fragment;
	facts->out = out;
	facts->state = POLICY_STATE_NONE;
	facts->src_sets = facts->dst_sets = 0;
	facts->owners = 0;
	facts->expressions = 0;
}

#endif
