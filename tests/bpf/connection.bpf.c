// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* What connection_look() and connection_commit() say to a packet, at a time that the test chooses. */
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#define PACKET_CONTEXT                          struct __sk_buff
#define packet_load(context, offset, to, bytes) bpf_skb_load_bytes(context, offset, to, bytes)

#include "bpf/lib/connection.h"

__u32 now = 1;
__u32 followed = 1;
__u32 rule = 0;

static __always_inline int ask(struct __sk_buff *skb, int accept)
{
	struct connection_sight sight = {.now = now, .followed = followed, .length = skb->len, .rule = rule};
	struct packet memory = {}, *p = &memory;
	struct connection *known;
	int state;

	asm volatile("" : "+r"(p));
	p->reason = packet_parse(skb, (void *)(long)skb->data, (void *)(long)skb->data_end, 1, 0, p);
	known = connection_look(skb, p, &sight);
	state = sight.state;
	if (accept)
		connection_commit(p, &sight, known);
	return state;
}

SEC("tc") int connection_drop(struct __sk_buff *skb)
{
	return ask(skb, 0);
}

SEC("tc") int connection_accept(struct __sk_buff *skb)
{
	return ask(skb, 1);
}

char _license[] SEC("license") = "Dual BSD/GPL";
