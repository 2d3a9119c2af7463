/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Records of packets that rules log, and of some of those that rules drop (struct policy_log). */
#ifndef WEIR_BPF_TELL_H
#define WEIR_BPF_TELL_H

#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "bpf/lib/packet.h"
#include "shared/policy.h"

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20);
} rule_log SEC(".maps");

packet_inline void tell_packet(struct policy_log *record, const struct packet *p)
{
	for (int i = 0; i < 4; i++) {
		record->packet.src[i] = p->src[i];
		record->packet.dst[i] = p->dst[i];
	}
	record->packet.sport = p->sport;
	record->packet.dport = p->dport;
	record->packet.family = p->family;
	record->packet.proto = p->proto;
	record->packet.tcp_flags = p->tcp_flags;
	record->packet.reserved = p->kind;
}

/* How many of `bytes` fit into the record: 1..POLICY_LOG_BYTES.  None are as many as there cannot be: the
 * load fails. */
packet_inline __u32 tell_length(__u32 bytes)
{
	if (bytes > POLICY_LOG_BYTES)
		bytes = POLICY_LOG_BYTES;
	bytes--;
	asm volatile("" : "+r"(bytes));
	return (bytes & (POLICY_LOG_BYTES - 1)) + 1;
}

#endif
