// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* Hands a packet to the classes as the entry programs do, each time anew: with the tick of now. */
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#define PACKET_CONTEXT                          struct __sk_buff
#define packet_load(context, offset, to, bytes) bpf_skb_load_bytes(context, offset, to, bytes)

#include "bpf/lib/cache.h"

__u32 path = 0, packets = 0, bytes = 0, out = 0;
__u32 ifindex = 0, way = 0, class_count = 0;
__u16 class_list[SHAPE_RULES_MAX] = {};

SEC("tc") int shape_hand_over(struct __sk_buff *skb)
{
	if (shape_ask_put(path, packets, bytes, bpf_jiffies64(), out))
		bpf_tail_call(skb, &shape_programs, SHAPE_APPLY);
	return -2;
}

/* The same for a packet that was just judged: the classes that rules gave it. */
SEC("tc") int shape_judged(struct __sk_buff *skb)
{
	struct decide_ask *ask = decide_ask_get();

	if (!ask)
		return -2;
	ask->packet.family = 4;
	ask->set = 1;
	ask->way = way;
	ask->now = bpf_jiffies64();
	ask->ifindex = ifindex;
	ask->packets = packets;
	ask->bytes = bytes;
	ask->out = out;
	ask->class_count = class_count;
	for (int i = 0; i < SHAPE_RULES_MAX; i++) {
		ask->classes[i] = class_list[i];
		ask->counters[i] = 200 + i;
	}
	bpf_tail_call(skb, &shape_programs, SHAPE_FIND);
	return -2;
}

char _license[] SEC("license") = "Dual BSD/GPL";
