// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * The entry programs at tc ingress and egress: parse, account, hand on.
 *
 * Each direction has a program for interfaces with an Ethernet header and one for those without (tun, ipip):
 * which it is, the agent knows when it attaches, and the packet does not say.  What no rule drops ends in
 * TCX_NEXT, which for a clsact filter is TC_ACT_UNSPEC: whoever else is attached has its say as if weir were
 * not there.  What is to be judged and was not before goes on in the program of decide.bpf.c.
 */
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#define PACKET_CONTEXT                          struct __sk_buff
#define packet_load(context, offset, to, bytes) bpf_skb_load_bytes(context, offset, to, bytes)

#include "bpf/lib/decide.h"
#include "bpf/lib/flow.h"
#include "bpf/lib/packet.h"
#include "bpf/lib/quick.h"
#include "bpf/lib/set.h" /* its maps are there before there is a set */

#define WATCH_NEXT (-1) /* TCX_NEXT and TC_ACT_UNSPEC */
#define WATCH_DROP 2    /* TCX_DROP and TC_ACT_SHOT */

#define ETH_HLEN       14
#define VLAN_TAG_BYTES 4

enum watch_link { WATCH_RAW, WATCH_ETHERNET };
enum watch_direction { WATCH_IN, WATCH_OUT };

packet_inline int watch_is_short(enum parse_reason reason)
{
	return reason == PARSE_LINK_SHORT || reason == PARSE_IP_SHORT || reason == PARSE_EXTENSION_SHORT ||
	       reason == PARSE_L4_SHORT;
}

/* All that a packet may begin with.  Like what follows, in a function that is verified apart, not behind each
 * way that leads there. */
packet_function int watch_parse_any(struct __sk_buff *skb, int link, struct packet *p)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;

	if (!p)
		return 0;
	*p = (struct packet){};
	p->reason = packet_parse(skb, data, end, link, skb->protocol, p);
	return 0;
}

/* Headers may lie outside the linear part of the packet.  That is rare and looked for only when they are
 * missed. */
packet_function int watch_parse_again(struct __sk_buff *skb, int link, struct packet *p)
{
	if (p && !bpf_skb_pull_data(skb, skb->len < PACKET_HEADERS_USUAL ? skb->len : PACKET_HEADERS_USUAL))
		watch_parse_any(skb, link, p);
	return 0;
}

/* A tag in the packet is rare, too: the kernel keeps the first one beside it. */
packet_inline void watch_parse(struct __sk_buff *skb, enum watch_link link, struct packet *p)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end, *l3 = data;
	__be16 ethertype = skb->protocol;

	if (link == WATCH_ETHERNET) {
		l3 += ETH_HLEN;
		ethertype = l3 > end ? bpf_htons(PACKET_ETH_VLAN) : *(__be16 *)(data + 12);
	}
	if (link == WATCH_ETHERNET && packet_is_tag(ethertype)) {
		watch_parse_any(skb, link, p);
	} else {
		*p = (struct packet){};
		p->reason = packet_parse_network(skb, data, l3, end, ethertype, p);
	}
	/* Asked anew: up to where `data` was checked would keep the verifier from taking two ways for one. */
	if (__builtin_expect(watch_is_short(p->reason), 0) &&
		*(volatile __u32 *)&skb->data_end - *(volatile __u32 *)&skb->data < skb->len)
		watch_parse_again(skb, link, p);
}

/* May quick_account() look at it? */
packet_inline int watch_is_usual(struct __sk_buff *skb, enum watch_link link)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	__be16 ethertype = skb->protocol;

	if (skb->gso_size || skb->vlan_present || skb->mark == DECIDE_ANSWER_MARK)
		return 0;
	if (link == WATCH_ETHERNET) {
		if (data + ETH_HLEN > end)
			return 0;
		ethertype = *(__be16 *)(data + 12);
	}
	return ethertype == bpf_htons(PACKET_ETH_IPV4);
}

struct watch_memory {
	struct packet packet;
	__u64 slack;
};

packet_inline int watch(struct __sk_buff *skb, enum watch_link link, enum watch_direction direction)
{
	__u32 packets = skb->gso_segs, bytes = skb->len;
	struct watch_memory memory;
	struct packet *p = &memory.packet;
	const struct policy_now *in_force = decide_in_force();
	enum flow_fate fate;

	if (packets <= 1 && watch_is_usual(skb, link) &&
		quick_account(skb, link == WATCH_ETHERNET ? ETH_HLEN : 0, direction == WATCH_OUT, in_force,
			&fate)) {
		if (fate == FLOW_SHAPE)
			bpf_tail_call(skb, &shape_programs, SHAPE_APPLY);
		return fate == FLOW_DROP ? WATCH_DROP : WATCH_NEXT;
	}

	/* Opaque to the compiler, which would keep every field in a register of its own and spill them all,
	 * again and again, at every branch of the parser: that took twice the time.  And to the verifier, for
	 * which it might stand at one of two places (no packet has 2^31 bytes): so it knows nothing of what
	 * is in there and, behind the parser, goes through the rest once, not behind each way through it. */
	asm volatile("" : "+r"(p));
	p = (void *)p + (skb->len >> 31 << 3);
	watch_parse(skb, link, p);

	/* A GSO or GRO packet stands for several on the wire, each with headers of its own.  The kernel has
	 * done the sum for egress (it knows the inner headers of tunnels too); for ingress it is ours. */
	if (packets > 1) {
		bytes = direction == WATCH_OUT ? skb->wire_len : bytes + (packets - 1) * p->header_bytes;
	} else if (skb->gso_size && bytes > p->header_bytes) {
		/* from an untrusted source (a guest, packet sockets): nobody has counted the segments yet */
		packets = (bytes - p->header_bytes + skb->gso_size - 1) / skb->gso_size;
		bytes += packets ? (packets - 1) * p->header_bytes : 0;
	}
	packets += !packets;

	/* A tag beside the packet will be, or was, in it. */
	if (skb->vlan_present) {
		if (!p->vlan_depth)
			p->vlan = skb->vlan_tci & 0xfff;
		p->vlan_depth++;
		p->kind |= FLOW_KIND_TAGGED;
		bytes += packets * VLAN_TAG_BYTES;
	}

	if (in_force && decide_is_answer(skb))
		in_force = NULL;
	fate = flow_account(skb, p, skb->ifindex, direction == WATCH_OUT, packets, bytes, in_force);
	if (p->zero_window)
		seek_zero_window(skb, p, direction == WATCH_OUT);
	if (fate == FLOW_ASK)
		bpf_tail_call(skb, &decide_programs, 0);
	if (fate == FLOW_SHAPE)
		bpf_tail_call(skb, &shape_programs, SHAPE_APPLY);
	return fate == FLOW_DROP ? WATCH_DROP : WATCH_NEXT;
}

SEC("tc") int watch_ethernet_in(struct __sk_buff *skb)
{
	return watch(skb, WATCH_ETHERNET, WATCH_IN);
}

SEC("tc") int watch_ethernet_out(struct __sk_buff *skb)
{
	return watch(skb, WATCH_ETHERNET, WATCH_OUT);
}

SEC("tc") int watch_raw_in(struct __sk_buff *skb)
{
	return watch(skb, WATCH_RAW, WATCH_IN);
}

SEC("tc") int watch_raw_out(struct __sk_buff *skb)
{
	return watch(skb, WATCH_RAW, WATCH_OUT);
}

char _license[] SEC("license") = "Dual BSD/GPL";
