// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * What bench/connection measures: a look and a commit for each packet, behind a program that makes the packet
 * another one each time, next to that program and the parser alone.
 */
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#define PACKET_CONTEXT                          struct __sk_buff
#define packet_load(context, offset, to, bytes) bpf_skb_load_bytes(context, offset, to, bytes)

#include "bpf/lib/connection.h"

enum { BENCH_SAME, BENCH_STREAM, BENCH_MANY };

#define BENCH_PAYLOAD 1000

__u32 mode = BENCH_SAME;
__u32 mask = 0; /* BENCH_MANY: sources - 1 */
__u32 counter = 0;
__u64 states[8] = {};

struct frame {
	__u8 link[14];
	struct packet_ip4 ip;
	__be16 sport, dport;
	__be32 seq, ack;
} __attribute__((packed));

/* Data of the one end and the other's acknowledgement, by turns. */
static __always_inline void next_of_stream(struct frame *frame, __u32 n)
{
	__be32 address = frame->ip.src, number = frame->seq;
	__be16 port = frame->sport;

	frame->ip.src = frame->ip.dst;
	frame->ip.dst = address;
	frame->sport = frame->dport;
	frame->dport = port;
	if (n & 1) {
		frame->seq = frame->ack;
		frame->ack = bpf_htonl(bpf_ntohl(number) + BENCH_PAYLOAD);
		frame->ip.total_length = bpf_htons(40);
	} else {
		frame->seq = frame->ack;
		frame->ack = number;
		frame->ip.total_length = bpf_htons(40 + BENCH_PAYLOAD);
	}
}

static __always_inline int prepare(struct __sk_buff *skb, struct packet *p)
{
	struct frame *frame = (void *)(long)skb->data;
	__u32 n = counter++;

	if ((void *)(frame + 1) > (void *)(long)skb->data_end)
		return 0;
	if (mode == BENCH_STREAM)
		next_of_stream(frame, n);
	if (mode == BENCH_MANY)
		frame->ip.src = bpf_htonl(0x0b000000 + (n * 2654435761U & mask));
	*p = (struct packet){};
	p->reason = packet_parse(skb, (void *)(long)skb->data, (void *)(long)skb->data_end, 1, 0, p);
	return 1;
}

SEC("tc") int bench_plain(struct __sk_buff *skb)
{
	struct packet memory, *p = &memory;

	asm volatile("" : "+r"(p));
	if (!prepare(skb, p))
		return 2;
	asm volatile("" : : "r"(p) : "memory");
	return -1;
}

SEC("tc") int bench_connection(struct __sk_buff *skb)
{
	struct connection_sight sight = {.now = bpf_jiffies64(), .followed = 1, .length = skb->len};
	struct packet memory, *p = &memory;
	struct connection *known;
	__u32 state;

	asm volatile("" : "+r"(p));
	if (!prepare(skb, p))
		return 2;
	known = connection_look(skb, p, &sight);
	state = sight.state & 7;
	asm volatile("" : "+r"(state));
	connection_commit(p, &sight, known);
	state &= 7;
	states[state]++;
	return -1;
}

char _license[] SEC("license") = "Dual BSD/GPL";
