/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * The one parser.  It fills a struct packet with offsets and values, never with pointers, so that everything
 * behind it (flow, rule, shape, service) can be a separately verified function and can be tested in user
 * space: this file compiles for BPF and, for the fuzzer and the unit tests, for the host.
 *
 * What it reads: Ethernet with up to two VLAN tags (802.1Q, 802.1ad) or no link header at all; IPv4 with
 * options; IPv6 with up to eight extension headers; first and later fragments; TCP, UDP, UDP-Lite, SCTP,
 * DCCP, ICMP, ICMPv6.  A later fragment has no ports, whatever its payload looks like.
 */
#ifndef WEIR_BPF_PACKET_H
#define WEIR_BPF_PACKET_H

#include <linux/types.h>

#include "shared/flow.h"
#include "shared/reason.h"

/*
 * Who includes this for BPF says first what the program's context is: PACKET_CONTEXT (struct __sk_buff or
 * struct xdp_md) and packet_load(context, offset, to, bytes), which copies from the packet and returns 0, or
 * not.
 */
#ifdef __bpf__
#include <bpf/bpf_endian.h>
#ifndef PACKET_CONTEXT
#error "define PACKET_CONTEXT and packet_load before this header"
#endif
#define packet_inline   static __attribute__((always_inline)) inline
#define packet_function __attribute__((noinline))
#define PACKET_UNROLL   _Pragma("clang loop unroll(full)")
#else
#include <arpa/inet.h>
#include <string.h>
#define bpf_htons(x)    htons(x)
#define bpf_ntohs(x)    ntohs(x)
#define packet_inline   static inline
#define packet_function static inline
#define PACKET_UNROLL

struct packet_memory {
	const __u8 *data;
	__u32 length;
};

#define PACKET_CONTEXT struct packet_memory

static inline int packet_load(const struct packet_memory *memory, __u32 offset, void *to, __u32 bytes)
{
	if (offset > memory->length || bytes > memory->length - offset)
		return -1;
	memcpy(to, memory->data + offset, bytes);
	return 0;
}
#endif

#define PACKET_EXTENSIONS_MAX 8 /* IPv6 extension headers that are walked */
#define PACKET_VLANS_MAX      2

/* How far from the start a transport header may stand; behind it there must be room for one where the
 * verifier knows a buffer's size.  Eight extension headers never lead so far. */
#ifndef PACKET_REACH
#define PACKET_REACH 0x7fff
#endif

/* All that the parser may want to look at lies within so many bytes unless a packet is unusual: Ethernet, two
 * tags, IPv6, a handful of extension headers, TCP with options. */
#define PACKET_HEADERS_USUAL 192

enum packet_fragment {
	PACKET_WHOLE,
	PACKET_FRAGMENT_FIRST,
	PACKET_FRAGMENT_LATER,
};

struct packet {
	union {
		__u32 src[4]; /* network byte order; IPv4 uses [0] */
		__u64 src64[2];
	};
	union {
		__u32 dst[4];
		__u64 dst64[2];
	};
	__be16 sport, dport; /* ports; ICMP: echo identifier (or 0), type << 8 | code */
	__be16 ethertype;    /* of the network layer */
	__u16 vlan;          /* innermost VLAN id, host byte order; valid with vlan_depth */
	__u16 l3_offset;     /* from the start of the packet data */
	__u16 l4_offset;     /* 0 while unknown */
	__u16 header_bytes;  /* up to the payload of the transport header, where it could be read */
	__u8 vlan_depth;
	__u8 family;      /* 4, 6; 0: not IP or unreadable */
	__u8 proto;       /* IP protocol number, behind IPv6 extension headers */
	__u8 fragment;    /* enum packet_fragment */
	__u8 kind;        /* FLOW_KIND_*: what addresses and ports mean, as a flow's key says it */
	__u8 tcp_flags;   /* FIN is bit 0 */
	__u8 tos;         /* IPv4 TOS or IPv6 traffic class: DSCP << 2 | ECN */
	__u8 reason;      /* enum parse_reason */
	__u8 zero_window; /* TCP: the sender can take no more (and this is neither SYN nor RST) */
};

/* The numbers as the RFCs and IEEE 802.1Q have them; uapi headers that define them differ between BPF and
 * libc. */
enum {
	PACKET_ETH_IPV4 = 0x0800,
	PACKET_ETH_VLAN = 0x8100,
	PACKET_ETH_IPV6 = 0x86dd,
	PACKET_ETH_QINQ = 0x88a8,
	PACKET_PROTO_HOPOPTS = 0,
	PACKET_PROTO_ICMP = 1,
	PACKET_PROTO_TCP = 6,
	PACKET_PROTO_UDP = 17,
	PACKET_PROTO_DCCP = 33,
	PACKET_PROTO_ROUTING = 43,
	PACKET_PROTO_FRAGMENT = 44,
	PACKET_PROTO_AH = 51,
	PACKET_PROTO_ICMP6 = 58,
	PACKET_PROTO_DSTOPTS = 60,
	PACKET_PROTO_SCTP = 132,
	PACKET_PROTO_MOBILITY = 135,
	PACKET_PROTO_UDPLITE = 136,
	PACKET_PROTO_HIP = 139,
	PACKET_PROTO_SHIM6 = 140,
	PACKET_TCP_FIN = 1,
	PACKET_TCP_SYN = 2,
	PACKET_TCP_RST = 4,
	PACKET_TCP_ACK = 16,
};

struct packet_vlan {
	__be16 tci, ethertype;
};

struct packet_ip4 {
	__u8 version_ihl, tos;
	__be16 total_length, id, fragment; /* flags and offset: RFC 791 */
	__u8 ttl, proto;
	__be16 checksum;
	__be32 src, dst;
};

struct packet_ip6 {
	__be32 version_class_label;
	__be16 payload_length;
	__u8 proto, hop_limit;
	__u64 src[2], dst[2];
} __attribute__((packed));

struct packet_extension {
	__u8 next, length; /* in units of 8 bytes without the first; AH: of 4 bytes without the first two */
	__be16 fragment;   /* fragment header only: offset << 3 | more */
};

struct packet_tcp {
	__be16 sport, dport;
	__be32 seq, ack;
	__u8 data_offset, flags;
	__be16 window;
};

struct packet_icmp {
	__u8 type, code;
	__be16 checksum;
	__be16 id; /* echo request and reply */
};

/* Where the network header is: behind Ethernet and up to two tags; 0: too short. */
packet_inline __u32 packet_network(void *data, void *end, __be16 *ret_ethertype)
{
	__be16 ethertype;
	__u32 offset = 14;
	int i;

	if (data + 14 > end)
		return 0;
	ethertype = *(__be16 *)(data + 12);
	PACKET_UNROLL
	for (i = 0; i < PACKET_VLANS_MAX; i++) {
		struct packet_vlan *vlan = data + offset;

		if (__builtin_expect(ethertype != bpf_htons(PACKET_ETH_VLAN) &&
					     ethertype != bpf_htons(PACKET_ETH_QINQ),
			    1))
			break;
		if ((void *)(vlan + 1) > end)
			return 0;
		ethertype = vlan->ethertype;
		offset += sizeof(*vlan);
	}
	*ret_ethertype = ethertype;
	return offset;
}

packet_inline int packet_is_extension(__u8 proto)
{
	return proto == PACKET_PROTO_HOPOPTS || proto == PACKET_PROTO_ROUTING ||
	       proto == PACKET_PROTO_FRAGMENT || proto == PACKET_PROTO_AH || proto == PACKET_PROTO_DSTOPTS ||
	       proto == PACKET_PROTO_MOBILITY || proto == PACKET_PROTO_HIP || proto == PACKET_PROTO_SHIM6;
}

packet_inline int packet_is_echo(__u8 proto, __u8 type)
{
	return proto == PACKET_PROTO_ICMP ? type == 0 || type == 8 : type == 128 || type == 129;
}

/* A first fragment of so many bytes without all of the transport header that rules ask about.  Its own length
 * counts: what stands behind it in the frame is nothing that the receiver puts together (RFC 1858). */
packet_inline int packet_is_tiny(const struct packet *p, __s32 room)
{
	return p->fragment == PACKET_FRAGMENT_FIRST && room < (p->proto == PACKET_PROTO_TCP ? 20 : 8);
}

/* Reads the transport header at `l4`.  On failure the packet stays a packet of its protocol without ports. */
packet_inline enum parse_reason packet_read_l4(void *data, void *l4, void *end, struct packet *p)
{
	p->l4_offset = l4 - data;
	p->header_bytes = p->l4_offset;
	if (p->fragment == PACKET_FRAGMENT_LATER) {
		p->kind |= FLOW_KIND_FRAGMENT;
		return PARSE_OK;
	}

	if (p->proto == PACKET_PROTO_TCP) {
		struct packet_tcp *tcp = l4;
		__u32 bytes;

		if ((void *)(tcp + 1) > end)
			return PARSE_L4_SHORT;
		bytes = (tcp->data_offset >> 4) * 4;
		if (bytes < 20)
			return PARSE_L4_LENGTH;
		p->sport = tcp->sport;
		p->dport = tcp->dport;
		p->tcp_flags = tcp->flags;
		p->zero_window = !tcp->window && !(tcp->flags & (PACKET_TCP_SYN | PACKET_TCP_RST));
		p->header_bytes += bytes;
		p->kind |= FLOW_KIND_PORTS;
	} else if (p->proto == PACKET_PROTO_UDP || p->proto == PACKET_PROTO_UDPLITE ||
		   p->proto == PACKET_PROTO_SCTP || p->proto == PACKET_PROTO_DCCP) {
		__be16 *ports = l4;

		/* 8 bytes: all of UDP; of SCTP and DCCP (12) as much as every one of them has */
		if (l4 + 8 > end)
			return PARSE_L4_SHORT;
		p->sport = ports[0];
		p->dport = ports[1];
		p->header_bytes += p->proto == PACKET_PROTO_SCTP || p->proto == PACKET_PROTO_DCCP ? 12 : 8;
		p->kind |= FLOW_KIND_PORTS;
	} else if ((p->proto == PACKET_PROTO_ICMP && p->family == 4) ||
		   (p->proto == PACKET_PROTO_ICMP6 && p->family == 6)) {
		struct packet_icmp *icmp = l4;

		if (l4 + 8 > end)
			return PARSE_L4_SHORT;
		p->dport = bpf_htons(icmp->type << 8 | icmp->code);
		if (packet_is_echo(p->proto, icmp->type))
			p->sport = icmp->id;
		p->header_bytes += 8;
		p->kind |= FLOW_KIND_ICMP;
	}
	return PARSE_OK;
}

packet_inline enum parse_reason packet_read_ip4(void *data, void *l3, void *end, struct packet *p)
{
	struct packet_ip4 *ip = l3;
	__u32 header, total;
	__u16 fragment;

	if ((void *)(ip + 1) > end)
		return PARSE_IP_SHORT;
	if (ip->version_ihl >> 4 != 4)
		return PARSE_IP_VERSION;
	header = (ip->version_ihl & 15) * 4;
	total = bpf_ntohs(ip->total_length);
	/* BIG TCP leaves 0 in a length that does not fit */
	if (header < sizeof(*ip) || (total && total < header))
		return PARSE_IP_LENGTH;
	if (l3 + header > end)
		return PARSE_IP_SHORT;

	p->family = 4;
	p->kind |= FLOW_KIND_IPV4;
	p->src[0] = ip->src;
	p->dst[0] = ip->dst;
	p->proto = ip->proto;
	p->tos = ip->tos;
	fragment = bpf_ntohs(ip->fragment);
	if (fragment & 0x1fff)
		p->fragment = PACKET_FRAGMENT_LATER;
	else if (fragment & 0x2000)
		p->fragment = PACKET_FRAGMENT_FIRST;
	if (packet_is_tiny(p, (__s32)(total - header))) {
		p->l4_offset = p->header_bytes = l3 + header - data;
		return PARSE_L4_SHORT;
	}
	return packet_read_l4(data, l3 + header, end, p);
}

/* What the walk over IPv6 extension headers found. */
struct packet_walk {
	__u32 offset; /* of what follows the headers, from the start of the packet data */
	__u8 proto;   /* of what follows; after a failure, of the header that could not be read */
	__u8 fragment;
	__u8 reason;
};

/*
 * Walks the extension headers from walk->offset, where one of kind walk->proto stands.
 *
 * A function of its own, verified apart: eight headers of any kind and length inside the entry program would
 * make the verifier look at millions of paths.  Such packets are rare, so they can afford copies instead of
 * direct access, which also reach what lies outside the linear part.
 */
packet_function int packet_walk_extensions(PACKET_CONTEXT *context, struct packet_walk *walk)
{
	int i;

	if (!walk)
		return 0;
	for (i = 0; i < PACKET_EXTENSIONS_MAX; i++) {
		struct packet_extension extension;
		__u32 bytes;

		if (packet_load(context, walk->offset, &extension, sizeof(extension))) {
			walk->reason = PARSE_EXTENSION_SHORT;
			return 0;
		}
		bytes = (extension.length + 1) * 8;
		if (walk->proto == PACKET_PROTO_AH)
			bytes = (extension.length + 2) * 4;
		if (walk->proto == PACKET_PROTO_FRAGMENT) {
			__u16 fragment = bpf_ntohs(extension.fragment);

			bytes = 8;
			if (fragment >> 3)
				walk->fragment = PACKET_FRAGMENT_LATER;
			else if (fragment & 1)
				walk->fragment = PACKET_FRAGMENT_FIRST;
		}
		/* its last byte tells whether the whole header is there */
		if (packet_load(context, walk->offset + bytes - 1, &extension.length, 1)) {
			walk->reason = PARSE_EXTENSION_SHORT;
			return 0;
		}
		walk->offset += bytes;
		walk->proto = extension.next;
		/* what follows the header of a later fragment is payload, even where its number is an
		 * extension's (RFC 8200, 4.5) */
		if (walk->fragment == PACKET_FRAGMENT_LATER || !packet_is_extension(walk->proto))
			return 0;
	}
	walk->reason = PARSE_EXTENSION_DEPTH;
	return 0;
}

packet_inline enum parse_reason packet_read_ip6(
	PACKET_CONTEXT *context, void *data, void *l3, void *end, struct packet *p)
{
	struct packet_ip6 *ip = l3;
	int i;

	if ((void *)(ip + 1) > end)
		return PARSE_IP_SHORT;
	if (*(__u8 *)l3 >> 4 != 6)
		return PARSE_IP_VERSION;

	p->family = 6;
	p->kind |= FLOW_KIND_IPV6;
	/* in the words they will be read in: a load of two stores waits for both */
	for (i = 0; i < 2; i++) {
		p->src64[i] = ip->src[i];
		p->dst64[i] = ip->dst[i];
	}
	p->tos = bpf_ntohs(*(__be16 *)l3) >> 4;
	p->proto = ip->proto;

	if (packet_is_extension(p->proto)) {
		struct packet_walk walk = {.offset = l3 + sizeof(*ip) - data, .proto = p->proto};
		__s32 room;

		packet_walk_extensions(context, &walk);
		p->proto = walk.proto;
		p->fragment = walk.fragment;
		if (walk.reason)
			return walk.reason;
		if (walk.offset > PACKET_REACH)
			return PARSE_L4_SHORT;
		room = p->l3_offset + sizeof(*ip) + bpf_ntohs(ip->payload_length) - walk.offset;
		if (packet_is_tiny(p, room)) {
			p->l4_offset = p->header_bytes = walk.offset;
			return PARSE_L4_SHORT;
		}
		return packet_read_l4(data, data + walk.offset, end, p);
	}
	return packet_read_l4(data, l3 + sizeof(*ip), end, p);
}

packet_inline int packet_is_tag(__be16 ethertype)
{
	return ethertype == bpf_htons(PACKET_ETH_VLAN) || ethertype == bpf_htons(PACKET_ETH_QINQ);
}

/* What packet_parse() does with what stands behind the Ethernet header and its tags. */
packet_inline enum parse_reason packet_parse_network(
	PACKET_CONTEXT *context, void *data, void *l3, void *end, __be16 ethertype, struct packet *p)
{
	p->ethertype = ethertype;
	p->l3_offset = l3 - data;
	p->header_bytes = p->l3_offset;
	if (__builtin_expect(ethertype == bpf_htons(PACKET_ETH_IPV4), 1))
		return packet_read_ip4(data, l3, end, p);
	if (ethertype == bpf_htons(PACKET_ETH_IPV6))
		return packet_read_ip6(context, data, l3, end, p);
	return packet_is_tag(ethertype) ? PARSE_VLAN_DEPTH : PARSE_NOT_IP;
}

/*
 * Reads the packet in [data, end) into `p`, which the caller has zeroed.
 *
 * `link` says whether an Ethernet header comes first; without one `ethertype` is what the kernel knows the
 * packet to be.  A tag that the NIC or the kernel took off the data is the caller's to add (p->vlan,
 * p->vlan_depth).
 */
packet_inline enum parse_reason packet_parse(
	PACKET_CONTEXT *context, void *data, void *end, int link, __be16 ethertype, struct packet *p)
{
	void *l3 = data;
	int i;

	if (link) {
		if (data + 14 > end)
			return PARSE_LINK_SHORT;
		ethertype = *(__be16 *)(data + 12);
		l3 += 14;
		PACKET_UNROLL
		for (i = 0; i < PACKET_VLANS_MAX; i++) {
			struct packet_vlan *vlan = l3;

			if (!packet_is_tag(ethertype))
				break;
			p->ethertype = ethertype;
			if ((void *)(vlan + 1) > end)
				return PARSE_LINK_SHORT;
			p->vlan = bpf_ntohs(vlan->tci) & 0xfff;
			p->vlan_depth++;
			p->kind |= FLOW_KIND_TAGGED;
			ethertype = vlan->ethertype;
			l3 += sizeof(*vlan);
		}
	}
	return packet_parse_network(context, data, l3, end, ethertype, p);
}

#endif
