/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * What tracking connections wants to know of a packet beyond its ends: TCP's numbers and options, the packet
 * inside an ICMP error, which datagram a fragment belongs to.
 *
 * Copies, no pointers into the packet; compiles for BPF and, for the fuzzer, for the host.
 */
#ifndef WEIR_BPF_SEGMENT_H
#define WEIR_BPF_SEGMENT_H

#include "bpf/lib/packet.h"
#include "bpf/lib/window.h"
#include "shared/connection.h"

#ifndef __bpf__
#define bpf_htonl(x) htonl(x)
#define bpf_ntohl(x) ntohl(x)
#endif

/* -- TCP -- */

#define SEGMENT_TCP_BYTES     20 /* without options */
#define SEGMENT_OPTIONS_BYTES 40
#define SEGMENT_OPTION_END    0
#define SEGMENT_OPTION_NOP    1
#define SEGMENT_OPTION_SCALE  3
#define SEGMENT_OPTION_SACK   5
#define SEGMENT_SACK_BLOCKS   4

/* The usual options: two NOPs and a timestamp, nothing else. */
#define SEGMENT_OPTIONS_USUAL       0x0101080a
#define SEGMENT_OPTIONS_USUAL_BYTES 12

/* The highest right edge of the SACK option of `length` bytes at `offset`, if that is higher than s->sack. */
packet_function int segment_read_sack(
	PACKET_CONTEXT *context, __u32 offset, __u32 length, struct window_segment *s)
{
	__u32 block;

	if (!s)
		return -1;
	for (block = 0; block < SEGMENT_SACK_BLOCKS && block * 8 + 10 <= length; block++) {
		__be32 right;
		__u32 ahead;

		if (packet_load(context, offset + 6 + block * 8, &right, sizeof(right)))
			break;
		ahead = bpf_ntohl(right) - s->ack;
		if (ahead < 1U << 31 && ahead > s->sack - s->ack)
			s->sack = s->ack + ahead;
	}
	return 0;
}

/* Reads the options that matter from the `bytes` of them at `offset`.  Beside the usual ones they stand in
 * packets that are rare, so each is loaded by itself. */
packet_function int segment_read_options(
	PACKET_CONTEXT *context, __u32 offset, __u32 bytes, struct window_segment *s)
{
	__u32 end = offset + bytes, n;

	if (!s)
		return -1;
	for (n = 0; n < SEGMENT_OPTIONS_BYTES && offset + 2 <= end; n++) {
		__u8 option[3] = {};

		if (packet_load(context, offset, option, 2))
			return -1;
		if (option[0] == SEGMENT_OPTION_END)
			break;
		if (option[0] == SEGMENT_OPTION_NOP) {
			offset++;
			continue;
		}
		if (option[1] < 2 || offset + option[1] > end)
			break;
		if (option[0] == SEGMENT_OPTION_SCALE && option[1] == 3 && s->flags & WINDOW_SYN) {
			if (packet_load(context, offset, option, 3))
				return -1;
			s->scale = option[2] < WINDOW_SCALE_MAX ? option[2] : WINDOW_SCALE_MAX;
		}
		if (option[0] == SEGMENT_OPTION_SACK && s->flags & WINDOW_ACK)
			segment_read_sack(context, offset, option[1], s);
		offset += option[1];
	}
	return 0;
}

/* Headers mostly lie in the linear part, where they can be read without asking. */
#ifdef __bpf__
#define segment_load(context, offset, to)                                                                    \
	({                                                                                                   \
		__u32 offset_ = (offset)&PACKET_REACH;                                                       \
		__typeof__(to) linear_ = (void *)(long)(context)->data + offset_;                            \
		int short_ = (void *)(linear_ + 1) > (void *)(long)(context)->data_end;                      \
                                                                                                             \
		if (!short_)                                                                                 \
			*(to) = *linear_;                                                                    \
		short_ ? packet_load(context, offset_, to, sizeof(*(to))) : 0;                               \
	})
#else
#define segment_load(context, offset, to) packet_load(context, offset, to, sizeof(*(to)))
#endif

/* Reads the TCP header of a packet, which has `length` bytes from its link header on.  0, or -1: it says more
 * than there is. */
packet_function int segment_read(
	PACKET_CONTEXT *context, const struct packet *p, __u32 length, struct window_segment *s)
{
	__u32 total, options;
	struct packet_tcp tcp;
	__be16 said;
	__be32 first;

	if (!p || !s)
		return -1;
	if (segment_load(context, p->l4_offset, &tcp) ||
		segment_load(context, p->l3_offset + (p->family == 4 ? 2 : 4), &said))
		return -1;
	/* frames are padded, so the packet's own length counts; it is 0 where it does not fit (BIG TCP) */
	total = bpf_ntohs(said);
	if (total)
		total += p->l3_offset + (p->family == 4 ? 0 : sizeof(struct packet_ip6));
	else
		total = length;
	if (total < p->header_bytes || total > length)
		return -1;
	s->seq = bpf_ntohl(tcp.seq);
	s->ack = s->sack = bpf_ntohl(tcp.ack);
	s->window = bpf_ntohs(tcp.window);
	s->flags = tcp.flags;
	s->scale = CONNECTION_SCALE_NONE;
	s->end = s->seq + (total - p->header_bytes) + !!(tcp.flags & WINDOW_SYN) + !!(tcp.flags & WINDOW_FIN);
	options = p->header_bytes - p->l4_offset - SEGMENT_TCP_BYTES;
	if (!options)
		return 0;
	if (segment_load(context, p->l4_offset + SEGMENT_TCP_BYTES, &first))
		return -1;
	if (options == SEGMENT_OPTIONS_USUAL_BYTES && first == bpf_htonl(SEGMENT_OPTIONS_USUAL))
		return 0;
	return segment_read_options(context, p->l4_offset + SEGMENT_TCP_BYTES, options, s);
}

/* -- the packet inside an ICMP error -- */

packet_inline int segment_has_ports(__u8 proto)
{
	return proto == PACKET_PROTO_TCP || proto == PACKET_PROTO_UDP || proto == PACKET_PROTO_UDPLITE ||
	       proto == PACKET_PROTO_SCTP || proto == PACKET_PROTO_DCCP;
}

/* Goes over the IP header at *offset, of the family p->family; *offset is then what follows. */
packet_inline int segment_read_inner_ip(PACKET_CONTEXT *context, __u32 *offset, struct packet *p)
{
	struct packet_walk walk = {};

	if (p->family == 4) {
		struct packet_ip4 ip;

		if (packet_load(context, *offset, &ip, sizeof(ip)) || ip.version_ihl >> 4 != 4 ||
			(ip.version_ihl & 15) < 5 || bpf_ntohs(ip.fragment) & 0x1fff)
			return -1;
		p->src[0] = ip.src;
		p->dst[0] = ip.dst;
		p->proto = ip.proto;
		*offset += (ip.version_ihl & 15) * 4;
	} else {
		struct packet_ip6 ip;

		if (packet_load(context, *offset, &ip, sizeof(ip)) || *(__u8 *)&ip >> 4 != 6)
			return -1;
		p->src64[0] = ip.src[0];
		p->src64[1] = ip.src[1];
		p->dst64[0] = ip.dst[0];
		p->dst64[1] = ip.dst[1];
		walk.offset = *offset + sizeof(ip);
		walk.proto = ip.proto;
		if (packet_is_extension(walk.proto))
			packet_walk_extensions(context, &walk);
		if (walk.reason || walk.fragment == PACKET_FRAGMENT_LATER)
			return -1;
		p->proto = walk.proto;
		*offset = walk.offset;
	}
	return 0;
}

/* Reads the packet inside an ICMP error at `offset`: as much of it as names a connection.  p->family says
 * which it must be.  0, or -1: it names none. */
packet_function int segment_read_inner(PACKET_CONTEXT *context, __u32 offset, struct packet *p)
{
	__be16 head[4]; /* of the transport: so much is there (RFC 792) */
	int is_icmp;

	if (!p || segment_read_inner_ip(context, &offset, p))
		return -1;
	if (packet_load(context, offset, head, sizeof(head)))
		return -1;
	is_icmp = p->proto == (p->family == 4 ? PACKET_PROTO_ICMP : PACKET_PROTO_ICMP6);
	if (segment_has_ports(p->proto)) {
		p->kind = FLOW_KIND_PORTS;
		p->sport = head[0];
		p->dport = head[1];
	} else if (is_icmp) {
		if (!packet_is_echo(p->proto, bpf_ntohs(head[0]) >> 8))
			return -1; /* no error is sent about an error */
		p->kind = FLOW_KIND_ICMP;
		p->sport = head[2];
		p->dport = head[0];
	}
	return 0;
}

/* -- fragments -- */

struct segment_fragment6 {
	__u8 next, reserved;
	__be16 place;
	__be32 id;
};

/* Where the fragment header of an IPv6 packet stands; 0: nowhere. */
packet_inline __u32 segment_find_fragment(PACKET_CONTEXT *context, __u32 l3_offset)
{
	__u32 offset = l3_offset + sizeof(struct packet_ip6), i;
	__u8 proto;

	if (packet_load(context, l3_offset + 6, &proto, sizeof(proto)))
		return 0;
	for (i = 0; i < PACKET_EXTENSIONS_MAX; i++) {
		__u8 header[2];

		if (proto == PACKET_PROTO_FRAGMENT)
			return offset;
		if (!packet_is_extension(proto) || packet_load(context, offset, header, sizeof(header)))
			return 0;
		offset += proto == PACKET_PROTO_AH ? (header[1] + 2) * 4 : (header[1] + 1) * 8;
		proto = header[0];
	}
	return 0;
}

/* Which datagram a fragment belongs to, and where in it its bytes go.  0 or -1. */
packet_function int segment_read_fragment(
	PACKET_CONTEXT *context, const struct packet *p, struct connection_fragment_key *key, __u32 *place)
{
	struct segment_fragment6 header;
	__u32 offset;

	if (!p || !key || !place)
		return -1;
	key->family = p->family;
	key->proto = p->proto;
	__builtin_memcpy(key->src, p->src, sizeof(key->src));
	__builtin_memcpy(key->dst, p->dst, sizeof(key->dst));
	if (p->family == 4) {
		__be16 words[2]; /* id; flags and place */

		if (packet_load(context, p->l3_offset + 4, words, sizeof(words)))
			return -1;
		key->id = words[0];
		*place = (bpf_ntohs(words[1]) & 0x1fff) * 8;
		return 0;
	}
	offset = segment_find_fragment(context, p->l3_offset);
	if (!offset || packet_load(context, offset, &header, sizeof(header)))
		return -1;
	key->id = header.id;
	*place = bpf_ntohs(header.place) & ~7U;
	/* else there is a second header, which no sender writes */
	return (*place != 0) == (p->fragment == PACKET_FRAGMENT_LATER) ? 0 : -1;
}

#endif
