/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Name: copies the beginning of a flow's payload where it may tell a name (shared/name.h says which).
 *
 * A flow that was looked at costs the test of a byte that accounting has just touched.  name_look() is a
 * function of its own, verified apart, and called for a flow's first packets only.
 */
#ifndef WEIR_BPF_NAME_H
#define WEIR_BPF_NAME_H

#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "bpf/lib/packet.h"
#include "shared/flow.h"
#include "shared/name.h"

const volatile __u32 names_on = 0; /* 0: the code is not even there */
const volatile __u32 name_ring_bytes = 4096;
const volatile __u32 name_ticks = 250; /* ticks of a second */

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} name_ring SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct name_stats);
} name_stats SEC(".maps");

/* Records a second that each CPU may copy.  The agent changes it while programs run. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} name_limit SEC(".maps");

/* Where a record is put together: it is too large for the stack. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct name_record);
} name_work SEC(".maps");

#define NAME_PORT_DNS 53

#define NAME_WORD(a, b, c, d) ((__u32)(a) << 24 | (__u32)(b) << 16 | (__u32)(c) << 8 | (__u32)(d))

/* Does a request of HTTP/1, or the preface of HTTP/2, begin so? */
packet_inline int name_is_http(const __u8 *begin)
{
	switch (NAME_WORD(begin[0], begin[1], begin[2], begin[3])) {
	case NAME_WORD('G', 'E', 'T', ' '):
	case NAME_WORD('P', 'O', 'S', 'T'):
	case NAME_WORD('H', 'E', 'A', 'D'):
	case NAME_WORD('P', 'U', 'T', ' '):
	case NAME_WORD('D', 'E', 'L', 'E'):
	case NAME_WORD('O', 'P', 'T', 'I'):
	case NAME_WORD('P', 'A', 'T', 'C'):
	case NAME_WORD('C', 'O', 'N', 'N'):
	case NAME_WORD('T', 'R', 'A', 'C'):
	case NAME_WORD('P', 'R', 'O', 'P'):
	case NAME_WORD('P', 'R', 'I', ' '):
		return 1;
	}
	return 0;
}

/* Bytes of payload by what the IP header says: behind it there may be padding. */
packet_inline __u32 name_payload(struct __sk_buff *skb, const struct packet *p)
{
	__u32 end = skb->len, offset = p->l3_offset + (p->family == 4 ? 2 : 4), stated;
	__be16 length;

	if (end <= p->header_bytes)
		return 0;
	if (bpf_skb_load_bytes(skb, offset, &length, sizeof(length)))
		return 0;
	stated = p->l3_offset + (p->family == 4 ? 0 : 40) + bpf_ntohs(length);
	if (length && stated < end) /* BIG TCP leaves 0 */
		end = stated;
	return end > p->header_bytes ? end - p->header_bytes : 0;
}

/* Does the beginning of a TCP payload tell a name?  0: no; NAME_DONE: yes; NAME_MORE: with the next packet.
 */
packet_inline __u8 name_begins(struct __sk_buff *skb, const struct packet *p, __u32 length)
{
	__u8 begin[9] = {}, end[4] = {};

	if (length < 5 || length > 0xffffff)
		return 0;
	if (length < sizeof(begin) ? bpf_skb_load_bytes(skb, p->header_bytes, begin, 5)
				   : bpf_skb_load_bytes(skb, p->header_bytes, begin, sizeof(begin)))
		return 0;
	if (begin[0] == 0x16 && begin[1] == 3) {
		/* a handshake; the message is a ClientHello, and says how long it is */
		if (length < sizeof(begin))
			return NAME_MORE;
		if (begin[5] != 1)
			return 0;
		return NAME_WORD(0, begin[6], begin[7], begin[8]) + sizeof(begin) > length ? NAME_MORE
		                                                                           : NAME_DONE;
	}
	if (!name_is_http(begin))
		return 0;
	/* an empty line ends the head of a request; where there is none, it may go on */
	if (bpf_skb_load_bytes(skb, p->header_bytes + length - sizeof(end), end, sizeof(end)))
		return NAME_DONE;
	return NAME_WORD(end[0], end[1], end[2], end[3]) == NAME_WORD('\r', '\n', '\r', '\n') ? NAME_DONE
	                                                                                      : NAME_MORE;
}

packet_inline int name_may_take(struct name_stats *stats)
{
	__u32 zero = 0, now = bpf_jiffies64(), *limit = bpf_map_lookup_elem(&name_limit, &zero);

	if (!limit || !*limit)
		return 0; /* switched off */
	if (now - stats->second >= name_ticks) {
		stats->second = now;
		stats->count = 0;
	}
	if (stats->count >= *limit) {
		stats->limited++;
		return 0;
	}
	stats->count++;
	return 1;
}

packet_inline void name_take(struct __sk_buff *skb, const struct packet *p, __u32 length, __u8 flags)
{
	__u32 zero = 0, bytes = length < NAME_DATA_MAX ? length : NAME_DATA_MAX;
	struct name_record *record = bpf_map_lookup_elem(&name_work, &zero);
	struct name_stats *stats = bpf_map_lookup_elem(&name_stats, &zero);
	__u64 wakeup = BPF_RB_NO_WAKEUP;
	__be32 seq = 0;
	int i;

	if (!record || !stats || !name_may_take(stats))
		return;
	if (p->proto == PACKET_PROTO_TCP)
		bpf_skb_load_bytes(skb, p->l4_offset + 4, &seq, sizeof(seq));
	/* changes nothing, and shows the verifier of Linux 6.1 that it is 1 to NAME_DATA_MAX */
	bytes--;
	asm volatile("" : "+r"(bytes));
	bytes = (bytes & (NAME_DATA_MAX - 1)) + 1;
	if (bpf_skb_load_bytes(skb, p->header_bytes, record->data, bytes))
		return;
	for (i = 0; i < 4; i++) {
		record->src[i] = i && p->family == 4 ? 0 : p->src[i];
		record->dst[i] = i && p->family == 4 ? 0 : p->dst[i];
	}
	record->sport = p->sport;
	record->dport = p->dport;
	record->seq = bpf_ntohl(seq);
	record->length = length;
	record->bytes = bytes;
	record->family = p->family;
	record->proto = p->proto;
	record->flags = flags;
	/* a wake-up costs more than all the rest */
	if (stats->taken % 32 == 0 && bpf_ringbuf_query(&name_ring, BPF_RB_AVAIL_DATA) >= name_ring_bytes / 4)
		wakeup = BPF_RB_FORCE_WAKEUP;
	if (bpf_ringbuf_output(
		    &name_ring, record, __builtin_offsetof(struct name_record, data) + bytes, wakeup))
		stats->lost++;
	else
		stats->taken++;
}

/* A packet without payload: of the handshake; who never says a word is not waited for. */
packet_inline void name_wait(struct flow_marks *marks)
{
	if (!(marks->names & NAME_MORE) && ++marks->names == NAME_MORE)
		marks->names = NAME_DONE;
}

/* Has name_look() to be called for a packet of a flow that is not done?  What is most often so is settled
 * here, without a call: the other end of a connection, and its handshake. */
packet_inline int name_is_due(struct __sk_buff *skb, const struct packet *p, struct flow_marks *marks)
{
	if (p->proto != PACKET_PROTO_TCP || !(p->kind & FLOW_KIND_PORTS) || p->reason != PARSE_OK ||
		p->sport == bpf_htons(NAME_PORT_DNS))
		return 1;
	if (marks->origin & FLOW_ORIGIN_RESPONDER)
		marks->names = NAME_DONE;
	else if (skb->len <= p->header_bytes)
		name_wait(marks);
	else
		return 1;
	return 0;
}

/* Looks at a packet of a flow that is not done. */
packet_function int name_look(struct __sk_buff *skb, struct packet *p, struct flow_marks *marks, int out)
{
	__u32 length;
	__u8 begins = NAME_DONE, flags = out ? NAME_FLAG_OUT : 0;
	int dns;

	if (!p || !marks)
		return 0;
	dns = p->sport == bpf_htons(NAME_PORT_DNS);
	if (!(p->kind & FLOW_KIND_PORTS) || p->reason != PARSE_OK ||
		!(p->proto == PACKET_PROTO_TCP || (p->proto == PACKET_PROTO_UDP && dns)) ||
		(marks->origin & FLOW_ORIGIN_RESPONDER && !dns)) {
		marks->names = NAME_DONE;
		return 0;
	}
	length = name_payload(skb, p);
	if (!length) {
		if (p->proto == PACKET_PROTO_TCP)
			name_wait(marks);
		return 0;
	}
	if (marks->names & NAME_MORE)
		flags |= NAME_FLAG_REST;
	else if (p->proto == PACKET_PROTO_TCP)
		begins = dns ? NAME_MORE : name_begins(skb, p, length);
	if (begins == NAME_MORE && length >= NAME_DATA_MAX)
		begins = NAME_DONE; /* what follows is not adjacent to the copy */
	/* port 53 of UDP stays open: each datagram is an answer */
	if (p->proto == PACKET_PROTO_TCP)
		marks->names = begins ? begins : NAME_DONE;
	if (!begins)
		return 0;
	if (begins == NAME_MORE)
		flags |= NAME_FLAG_MORE;
	if (marks->origin & FLOW_ORIGIN_INITIATOR)
		flags |= NAME_FLAG_SYN;
	name_take(skb, p, length, flags);
	return 0;
}

#endif
