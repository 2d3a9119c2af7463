/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Act: what a tc program does to a packet besides letting it go on: answer and drop it, rewrite DSCP or MAC
 * addresses.
 *
 * An answer is made of the packet itself, which then goes back: a reset keeps its TCP header where the packet
 * had it, an ICMP error puts its headers in front.  Which matters, because the packet may be one whose
 * checksum is still to be filled in further on (CHECKSUM_PARTIAL: all that a local sender, a peer behind a
 * veth or a guest sends).  No program can change that, nor see it directly; so the answer is laid out such
 * that what will be filled in is right: in a reset at the same place, in an ICMP error inside the packet that
 * is quoted, and what it will be there is counted in before.
 *
 * Sources: RFC 9293 3.10.7.1 (resets), RFC 792, RFC 1122 3.2.2 and RFC 4443 2.4 (what may be answered), RFC
 * 1812 5.2.7.1 (codes).
 */
#ifndef WEIR_BPF_ACT_H
#define WEIR_BPF_ACT_H

#include <linux/bpf.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "bpf/lib/decide.h"
#include "bpf/lib/packet.h"
#include "shared/policy.h"

#define ACT_NEXT (-1) /* TCX_NEXT, TC_ACT_UNSPEC */
#define ACT_DROP 2    /* TCX_DROP, TC_ACT_SHOT */

#define ACT_LOOPBACK 1 /* its index, in every network namespace */

#define ACT_TTL        64
#define ACT_LINK_MAX   22  /* Ethernet with two tags */
#define ACT_QUOTE_MAX  128 /* of a packet inside an ICMP error: the headers of all but the oddest */
#define ACT_IP4_BYTES  20
#define ACT_IP6_BYTES  40
#define ACT_TCP_BYTES  20
#define ACT_ICMP_BYTES 8
#define ACT_TCP_SUM    16 /* where a TCP header has its checksum */
#define ACT_PROBE      0x5a5a
#define ACT_MTU6       1280 /* every link carries as much (RFC 8200, 5) */

/* For `how`, beside enum policy_reject: the packet is larger than the rest of the number. */
#define ACT_TOO_BIG 0x80000000U

packet_inline __u16 act_fold(__u64 sum)
{
	PACKET_UNROLL
	for (int i = 0; i < 4; i++)
		sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

/* Will the checksum of this packet be filled in later?  The one helper that makes a difference tells: it
 * leaves such a packet's checksum alone unless the pseudo header changes. */
static __noinline int act_is_partial(struct __sk_buff *skb, __u32 offset)
{
	__u16 before = 0, after = 0;

	if (bpf_skb_load_bytes(skb, offset, &before, sizeof(before)) ||
		bpf_l4_csum_replace(skb, offset, 0, ACT_PROBE, sizeof(before)) ||
		bpf_skb_load_bytes(skb, offset, &after, sizeof(after)))
		return 0;
	bpf_skb_store_bytes(skb, offset, &before, sizeof(before), 0);
	return before == after;
}

/* Source and destination of the link, swapped. */
packet_inline void act_swap_link(__u8 *link)
{
	PACKET_UNROLL
	for (int i = 0; i < 6; i++) {
		__u8 byte = link[i];

		link[i] = link[i + 6];
		link[i + 6] = byte;
	}
}

packet_inline int act_is_group(const struct packet *p)
{
	__u8 src = *(const __u8 *)p->src, dst = *(const __u8 *)p->dst;

	if (p->family == 4)
		return !p->src[0] || src >= 224 || dst >= 224;
	return src == 0xff || dst == 0xff || !(p->src64[0] | p->src64[1]);
}

/* May anybody be answered about this packet at all? */
packet_inline int act_answers(const struct __sk_buff *skb, const struct packet *p, int out)
{
	__u8 type = bpf_ntohs(p->dport) >> 8;

	if (p->reason != PARSE_OK || !p->l4_offset || p->fragment == PACKET_FRAGMENT_LATER || act_is_group(p))
		return 0;
	/* a broadcast or somebody else's frame (PACKET_HOST is 0) */
	if (!out && skb->pkt_type)
		return 0;
	if (p->proto == PACKET_PROTO_TCP)
		return !(p->tcp_flags & PACKET_TCP_RST);
	if (p->kind & FLOW_KIND_ICMP) /* not about errors */
		return p->family == 4 ? type == 0 || type == 8 || (type >= 13 && type <= 18) : type >= 128;
	return 1;
}

/* Sum of the pseudo header of an answer: to where the packet came from.  Addresses that are not there (IPv4
 * has one word) are 0. */
static __noinline __u64 act_pseudo(const struct packet *p, __u32 proto, __u32 length)
{
	__u64 sum = bpf_htonl(proto);

	if (!p)
		return 0;
	sum += bpf_htonl(length);
	PACKET_UNROLL
	for (int i = 0; i < 4; i++)
		sum += (__u64)p->src[i] + p->dst[i];
	return sum;
}

/* The IP header of an answer, `length` bytes of payload behind it. */
packet_inline int act_store_ip(
	struct __sk_buff *skb, const struct packet *p, __u32 offset, __u32 header, __u32 proto, __u32 length)
{
	if (p->family == 4) {
		struct packet_ip4 ip = {
			.version_ihl = 4 << 4 | header / 4,
			.tos = 0,
			.total_length = bpf_htons(header + length),
			.fragment = bpf_htons(0x4000), /* do not fragment, so no id is needed (RFC 6864) */
			.ttl = ACT_TTL,
			.proto = proto,
			.src = p->dst[0],
			.dst = p->src[0],
		};
		/* what options there were are no operations now (1, four to a word) */
		__u64 sum = (__u32)bpf_csum_diff(NULL, 0, (void *)&ip, sizeof(ip), 0);

		sum += (header - sizeof(ip)) / 2 * 0x0101;
		ip.checksum = act_fold(sum);
		return bpf_skb_store_bytes(skb, offset, &ip, sizeof(ip), 0);
	} else {
		struct packet_ip6 ip = {
			.version_class_label = bpf_htonl(6 << 28),
			.payload_length = bpf_htons(header - sizeof(ip) + length),
			.proto = header > sizeof(ip) ? PACKET_PROTO_DSTOPTS : proto,
			.hop_limit = ACT_TTL,
		};

		ip.src[0] = p->dst64[0];
		ip.src[1] = p->dst64[1];
		ip.dst[0] = p->src64[0];
		ip.dst[1] = p->src64[1];
		return bpf_skb_store_bytes(skb, offset, &ip, sizeof(ip), 0);
	}
}

/* What stood between the IP and the TCP header, as something that says nothing: IPv4 options that are no
 * operations; one IPv6 header of destination options, padded (Pad1 is a zero byte).  In steps of 4 bytes. */
packet_inline int act_store_filler(
	struct __sk_buff *skb, const struct packet *p, __u32 offset, __u32 bytes, __u32 proto)
{
	__u32 filler = p->family == 4 ? 0x01010101 : 0;
	struct {
		__u8 next, length, pad[2];
	} extension = {.next = proto, .length = bytes / 8 - 1};

#pragma clang loop unroll(disable)
	for (__u32 at = 0; at < ACT_QUOTE_MAX && at < bytes; at += sizeof(filler))
		if (bpf_skb_store_bytes(skb, offset + at, &filler, sizeof(filler), 0))
			return -1;
	if (p->family == 6 && bytes)
		return bpf_skb_store_bytes(skb, offset, &extension, sizeof(extension), 0);
	return 0;
}

/* Turns a TCP packet into the reset that answers it.  0, or not. */
packet_function int act_make_reset(struct __sk_buff *skb, const struct packet *p)
{
	struct {
		__be16 sport, dport;
		__be32 seq, ack;
		__u8 offset, flags;
		__be16 window, checksum, urgent;
	} tcp;
	__u32 l3, l4, header, minimum, payload, length = 0;
	__u64 sum;
	int partial;

	if (!skb || !p)
		return -1;
	l3 = p->l3_offset;
	l4 = p->l4_offset;
	header = l4 - l3;
	minimum = p->family == 4 ? ACT_IP4_BYTES : ACT_IP6_BYTES;
	if (header < minimum || header - minimum > ACT_QUOTE_MAX)
		return -1;
	if (bpf_skb_load_bytes(skb, l4, &tcp, sizeof(tcp)))
		return -1;
	partial = act_is_partial(skb, l4 + ACT_TCP_SUM);

	/* how much of the sequence it takes: by the IP header, since a frame may be padded; a GRO packet's
	 * length is there, too, unless it is too big (0) */
	if (p->family == 4) {
		__be16 total = 0;

		bpf_skb_load_bytes(skb, l3 + 2, &total, sizeof(total));
		length = bpf_ntohs(total);
	} else {
		__be16 behind = 0;

		bpf_skb_load_bytes(skb, l3 + 4, &behind, sizeof(behind));
		length = behind ? bpf_ntohs(behind) + ACT_IP6_BYTES : 0;
	}
	if (!length)
		length = skb->len - l3;
	payload = length - header - (tcp.offset >> 4) * 4;
	payload += !!(tcp.flags & PACKET_TCP_SYN) + (tcp.flags & 1);

	if (bpf_skb_change_tail(skb, l4 + ACT_TCP_BYTES, 0))
		return -1;
	if (tcp.flags & 16) {
		tcp.seq = tcp.ack;
		tcp.ack = 0;
		tcp.flags = PACKET_TCP_RST;
	} else {
		tcp.ack = bpf_htonl(bpf_ntohl(tcp.seq) + payload);
		tcp.seq = 0;
		tcp.flags = PACKET_TCP_RST | 16;
	}
	tcp.sport = p->dport;
	tcp.dport = p->sport;
	tcp.offset = ACT_TCP_BYTES / 4 << 4;
	tcp.window = tcp.checksum = tcp.urgent = 0;
	sum = act_pseudo(p, PACKET_PROTO_TCP, ACT_TCP_BYTES);
	if (partial)
		tcp.checksum = ~act_fold(sum);
	else
		tcp.checksum = act_fold(sum + (__u32)bpf_csum_diff(NULL, 0, (void *)&tcp, sizeof(tcp), 0));
	if (bpf_skb_store_bytes(skb, l4, &tcp, sizeof(tcp), BPF_F_INVALIDATE_HASH) ||
		act_store_filler(skb, p, l3 + minimum, header - minimum, PACKET_PROTO_TCP))
		return -1;
	return act_store_ip(skb, p, l3, header, PACKET_PROTO_TCP, ACT_TCP_BYTES);
}

struct act_icmp {
	__u8 type, code;
	__be16 checksum;
	__be32 unused; /* too big: the MTU (RFC 1191, 4, and RFC 4443, 3.2) */
};

packet_inline struct act_icmp act_icmp_of(const struct packet *p, __u32 how)
{
	struct act_icmp icmp = {};
	__u32 mtu = how & ~ACT_TOO_BIG;

	if (how & ACT_TOO_BIG) {
		icmp.type = p->family == 4 ? 3 : 2;
		icmp.code = p->family == 4 ? 4 : 0;
		icmp.unused = bpf_htonl(p->family == 4 || mtu > ACT_MTU6 ? mtu : ACT_MTU6);
	} else if (p->family == 4) {
		icmp.type = 3;
		icmp.code = how == POLICY_REJECT_HOST ? 1 : how == POLICY_REJECT_PROHIBITED ? 13 : 3;
	} else {
		icmp.type = 1;
		icmp.code = how == POLICY_REJECT_HOST ? 3 : how == POLICY_REJECT_PROHIBITED ? 1 : 4;
	}
	return icmp;
}

/* Turns a packet into the ICMP error that answers it: link, IP, ICMP, and the headers of the packet, the
 * transport's as far as its checksum.  0, or not. */
packet_function int act_make_unreachable(struct __sk_buff *skb, const struct packet *p, __u32 how)
{
	__u8 quote[ACT_QUOTE_MAX] = {};
	__u32 l3, l4, ip, proto, head, bytes, filled = 0, sum_at;
	struct act_icmp icmp;
	__u64 sum;

	if (!skb || !p)
		return -1;
	l3 = p->l3_offset;
	l4 = p->l4_offset;
	ip = p->family == 4 ? ACT_IP4_BYTES : ACT_IP6_BYTES;
	proto = p->family == 4 ? PACKET_PROTO_ICMP : PACKET_PROTO_ICMP6;
	head = ip + ACT_ICMP_BYTES;
	bytes = l4 - l3 + (p->proto == PACKET_PROTO_TCP ? ACT_TCP_BYTES : 8);
	sum_at = l4 + (p->proto == PACKET_PROTO_TCP ? ACT_TCP_SUM : 6);
	if (l3 > ACT_LINK_MAX || bytes > ACT_QUOTE_MAX || l3 + bytes > skb->len)
		return -1;
	if ((p->proto == PACKET_PROTO_TCP || p->proto == PACKET_PROTO_UDP) && act_is_partial(skb, sum_at))
		filled = sum_at - l3;
	/* A shorter packet than its checksum's place is none that the kernel lets be. */
	if (bpf_skb_change_tail(skb, l3 + bytes, 0))
		return -1;
	bytes = ((bytes - 1) & (ACT_QUOTE_MAX - 1)) + 1;
	if (bpf_skb_load_bytes(skb, l3, quote, bytes))
		return -1;

	/* What is filled in later, in the quoted packet, is the sum of its transport header as far as it is
	 * quoted: the error's checksum is made of that. */
	if (filled) {
		__u32 from = (l4 - p->l3_offset) & (ACT_QUOTE_MAX - 1),
		      at = filled & (ACT_QUOTE_MAX - 1) & ~1;
		__u16 value;

		if (p->proto == PACKET_PROTO_TCP) {
			if (from > ACT_QUOTE_MAX - ACT_TCP_BYTES)
				return -1;
			value = act_fold(
				(__u32)bpf_csum_diff(NULL, 0, (void *)(quote + from), ACT_TCP_BYTES, 0));
		} else {
			if (from > ACT_QUOTE_MAX - 8)
				return -1;
			value = act_fold((__u32)bpf_csum_diff(NULL, 0, (void *)(quote + from), 8, 0));
			value = value ? value : 0xffff;
		}
		if (at > ACT_QUOTE_MAX - 2)
			return -1;
		*(__u8 *)(quote + at) = ((__u8 *)&value)[0];
		*(__u8 *)(quote + at + 1) = ((__u8 *)&value)[1];
	}
	icmp = act_icmp_of(p, how);
	sum = p->family == 6 ? act_pseudo(p, proto, ACT_ICMP_BYTES + bytes) : 0;
	sum += (__u32)bpf_csum_diff(NULL, 0, (void *)&icmp, sizeof(icmp), 0);
	sum += (__u32)bpf_csum_diff(NULL, 0, (void *)quote, bytes & ~3, 0);
	icmp.checksum = act_fold(sum);
	if (bpf_skb_change_head(skb, head, 0))
		return -1;
	if (l3) {
		/* the stack is short: the quote has done its work */
		l3 = ((l3 - 1) & 31) + 1;
		if (l3 > ACT_LINK_MAX || bpf_skb_load_bytes(skb, head, quote, l3))
			return -1;
		act_swap_link(quote);
		if (bpf_skb_store_bytes(skb, 0, quote, l3, 0))
			return -1;
	}
	if (bpf_skb_store_bytes(skb, l3 + ip, &icmp, sizeof(icmp), BPF_F_INVALIDATE_HASH))
		return -1;
	return act_store_ip(skb, p, l3, ip, proto, ACT_ICMP_BYTES + bytes);
}

/*
 * Answers the packet and drops it: what is to be returned from the program.  *ret_answered says whether there
 * was an answer; who calls keeps the rate.
 */
packet_function int act_reject(
	struct __sk_buff *skb, const struct packet *p, __u32 how, int out, int *ret_answered)
{
	int r;

	if (!skb || !p || !ret_answered)
		return ACT_DROP;
	*ret_answered = 0;
	if (!act_answers(skb, p, out))
		return ACT_DROP;
	if (p->proto == PACKET_PROTO_TCP && (how == POLICY_REJECT_DEFAULT || how == POLICY_REJECT_RESET)) {
		__u8 link[12];

		r = act_make_reset(skb, p);
		if (r == 0 && p->l3_offset >= sizeof(link)) {
			if (bpf_skb_load_bytes(skb, 0, link, sizeof(link)))
				return ACT_DROP;
			act_swap_link(link);
			r = bpf_skb_store_bytes(skb, 0, link, sizeof(link), 0);
		}
	} else {
		r = act_make_unreachable(skb, p, how);
	}
	if (r)
		return ACT_DROP;
	*ret_answered = 1;
	skb->mark = DECIDE_ANSWER_MARK;
	/* It comes in there by itself, and with the route that it has: without that, 127.0.0.1 is a martian.
	 */
	if (out && skb->ifindex == ACT_LOOPBACK)
		return ACT_NEXT;
	return bpf_redirect(skb->ifindex, out ? BPF_F_INGRESS : 0);
}

/* Writes the DSCP (0..63); the ECN bits stay (RFC 3168).  0 or a negative errno. */
packet_function int act_dscp(struct __sk_buff *skb, const struct packet *p, __u32 dscp)
{
	__be16 before = 0, after;
	__u16 word;

	if (!skb || !p || !p->family || bpf_skb_load_bytes(skb, p->l3_offset, &before, sizeof(before)))
		return -1;
	word = bpf_ntohs(before);
	if (p->family == 4) {
		after = bpf_htons((word & 0xff03) | (dscp & 63) << 2);
		if (bpf_l3_csum_replace(skb, p->l3_offset + 10, before, after, sizeof(before)))
			return -1;
	} else {
		after = bpf_htons((word & 0xf03f) | (dscp & 63) << 6);
	}
	return bpf_skb_store_bytes(skb, p->l3_offset, &after, sizeof(after), BPF_F_RECOMPUTE_CSUM);
}

/* Writes MAC addresses as the rule says; nothing where there are none.  0 or a negative errno. */
packet_function int act_mac(struct __sk_buff *skb, const struct packet *p, const struct policy_rule *rule)
{
	int r = 0;

	if (!skb || !p || !rule || p->l3_offset < 14)
		return 0;
	if (rule->flags & POLICY_RULE_MAC_DST)
		r = bpf_skb_store_bytes(skb, 0, rule->mac_dst, 6, 0);
	if (rule->flags & POLICY_RULE_MAC_SRC)
		r |= bpf_skb_store_bytes(skb, 6, rule->mac_src, 6, 0);
	return r;
}

#endif
