// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * Checks of backends that go the way of the packets (shared/check.h): the last program at tc egress, the
 * first at tc ingress.  Rules, classes and the flow cache see a connection to the backend's own address, as
 * the socket has it; the wire and the backend see one to the service's.
 *
 * They are there only as long as there are such checks, and return at once while none is under way.
 */
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#define PACKET_CONTEXT                          struct __sk_buff
#define packet_load(context, offset, to, bytes) bpf_skb_load_bytes(context, offset, to, bytes)

#include "bpf/lib/packet.h"
#include "bpf/lib/service_maps.h"
#include "bpf/lib/tunnel.h"
#include "shared/check.h"

#define CHECK_NEXT  (-1) /* TCX_NEXT and TC_ACT_UNSPEC */
#define CHECK_DROP  2    /* TC_ACT_SHOT */
#define CHECK_LINK  14   /* Ethernet */
#define CHECK_TTL   64
#define CHECK_UDP   ((__u32)sizeof(struct encapsulate_udp))
#define CHECK_IP4   ((__u32)sizeof(struct packet_ip4))
#define CHECK_IP6   ((__u32)sizeof(struct packet_ip6))
#define CHECK_ROOM4 (BPF_F_ADJ_ROOM_ENCAP_L3_IPV4)
#define CHECK_ROOM6 (BPF_F_ADJ_ROOM_ENCAP_L3_IPV6)

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, CHECK_WAYS_MAX);
	__type(key, struct check_key);
	__type(value, struct check_way);
} check_ways SEC(".maps");

/* How many are under way. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} check_running SEC(".maps");

struct check_packet {
	__be32 src[4], dst[4];
	__be16 sport, dport;
	__u32 l3, l4; /* offsets */
	__u16 bytes;  /* of the packet, from l3 on */
	__u8 family, proto, tos, ttl;
};

static __always_inline int check_is_on(void)
{
	__u32 zero = 0;
	const __u32 *running = bpf_map_lookup_elem(&check_running, &zero);

	return running && *running;
}

/* -- reading: what a socket of this host sends or gets has neither options nor extension headers -- */

static __always_inline int check_read4(struct __sk_buff *skb, __u32 at, struct check_packet *p)
{
	struct packet_ip4 ip;

	if (bpf_skb_load_bytes(skb, at, &ip, sizeof(ip)) || ip.version_ihl != 0x45 ||
		ip.fragment & bpf_htons(0x3fff))
		return 0;
	p->src[0] = ip.src;
	p->dst[0] = ip.dst;
	p->bytes = bpf_ntohs(ip.total_length);
	p->tos = ip.tos;
	p->ttl = ip.ttl;
	p->proto = ip.proto;
	p->family = 4;
	p->l4 = at + sizeof(ip);
	return 1;
}

static __always_inline int check_read6(struct __sk_buff *skb, __u32 at, struct check_packet *p)
{
	struct packet_ip6 ip;

	if (bpf_skb_load_bytes(skb, at, &ip, sizeof(ip)))
		return 0;
	__builtin_memcpy(p->src, ip.src, 16);
	__builtin_memcpy(p->dst, ip.dst, 16);
	p->bytes = bpf_ntohs(ip.payload_length) + sizeof(ip);
	p->tos = bpf_ntohl(ip.version_class_label) >> 20;
	p->ttl = ip.hop_limit;
	p->proto = ip.proto;
	p->family = 6;
	p->l4 = at + sizeof(ip);
	return 1;
}

/* An IP packet, its ports too if it has some.  0: it is nothing of ours. */
static __always_inline int check_read(struct __sk_buff *skb, __u32 family, __u32 at, struct check_packet *p)
{
	__be16 ports[2];

	p->l3 = at;
	if (!(family == 4 ? check_read4(skb, at, p) : check_read6(skb, at, p)))
		return 0;
	if (p->proto != PACKET_PROTO_TCP && p->proto != PACKET_PROTO_UDP)
		return 1;
	if (bpf_skb_load_bytes(skb, p->l4, ports, sizeof(ports)))
		return 0;
	p->sport = ports[0];
	p->dport = ports[1];
	return 1;
}

static __always_inline __u32 check_family(const struct __sk_buff *skb)
{
	return skb->protocol == bpf_htons(PACKET_ETH_IPV4)   ? 4
	       : skb->protocol == bpf_htons(PACKET_ETH_IPV6) ? 6
	                                                     : 0;
}

static __always_inline int check_same(const __be32 *a, const __be32 *b)
{
	return !((a[0] ^ b[0]) | (a[1] ^ b[1]) | (a[2] ^ b[2]) | (a[3] ^ b[3]));
}

static __always_inline struct check_way *check_find(const __be32 *local, __be16 port, __u8 family, __u8 proto)
{
	struct check_key key = {.port = port, .family = family, .proto = proto};

	__builtin_memcpy(key.local, local, sizeof(key.local));
	return bpf_map_lookup_elem(&check_ways, &key);
}

/* -- addresses -- */

static __always_inline int checksum_change(struct __sk_buff *skb, const struct check_packet *p, __s64 change)
{
	__u32 at = p->l4 + (p->proto == PACKET_PROTO_TCP ? 16 : 6);

	return (int)bpf_l4_csum_replace(skb, at, 0, (__u64)change,
		BPF_F_PSEUDO_HDR | (p->proto == PACKET_PROTO_UDP ? BPF_F_MARK_MANGLED_0 : 0));
}

/* Another address in place of the one `at` bytes into the header. */
static __always_inline int address_change(
	struct __sk_buff *skb, const struct check_packet *p, __u32 at, const __be32 *old, const __be32 *new)
{
	__be32 from[4], to[4];
	__s64 change;

	__builtin_memcpy(from, old, sizeof(from));
	__builtin_memcpy(to, new, sizeof(to));
	if (p->family == 4) {
		change = bpf_csum_diff(from, 4, to, 4, 0);
		/* what the header's own checksum makes up for is no change of the whole packet's */
		return checksum_change(skb, p, change) ||
		       bpf_l3_csum_replace(skb, p->l3 + 10, 0, (__u64)change, 0) ||
		       bpf_skb_store_bytes(skb, p->l3 + at, to, 4, 0);
	}
	change = bpf_csum_diff(from, 16, to, 16, 0);
	return checksum_change(skb, p, change) ||
	       bpf_skb_store_bytes(skb, p->l3 + at, to, 16, BPF_F_RECOMPUTE_CSUM);
}

/* IPv4 in IPv6: the socket's packet is of IPv6, what the backend takes out of the tunnel of IPv4. */
static __always_inline int to_ip4(struct __sk_buff *skb, struct check_packet *p, const struct check_way *way)
{
	struct packet_ip4 ip = {.version_ihl = 0x45,
		.tos = p->tos,
		.total_length = bpf_htons(p->bytes - CHECK_IP6 + CHECK_IP4),
		.fragment = bpf_htons(0x4000),
		.ttl = p->ttl,
		.proto = p->proto,
		.src = way->from[0],
		.dst = way->to[0]};
	__be32 old[8], new[2] = {way->from[0], way->to[0]};

	__builtin_memcpy(old, p->src, 16);
	__builtin_memcpy(old + 4, p->dst, 16);
	if (checksum_change(skb, p, bpf_csum_diff(old, sizeof(old), new, sizeof(new), 0)) ||
		bpf_skb_change_proto(skb, bpf_htons(PACKET_ETH_IPV4), 0))
		return -1;
	ip.checksum = checksum_fold((__u64)bpf_csum_diff(0, 0, (__be32 *)&ip, sizeof(ip), 0));
	p->bytes = p->bytes - CHECK_IP6 + CHECK_IP4;
	p->family = 4;
	return (int)bpf_skb_store_bytes(skb, p->l3, &ip, sizeof(ip), BPF_F_RECOMPUTE_CSUM);
}

/* … and the answer back. */
static __always_inline int to_ip6(struct __sk_buff *skb, struct check_packet *p, const struct check_way *way)
{
	struct packet_ip6 ip = {.version_class_label = bpf_htonl(0x60000000 | (__u32)p->tos << 20),
		.payload_length = bpf_htons(p->bytes - CHECK_IP4),
		.proto = p->proto,
		.hop_limit = p->ttl};
	__be32 old[2] = {p->src[0], p->dst[0]}, new[8];

	__builtin_memcpy(new, way->remote, 16);
	__builtin_memcpy(new + 4, way->local, 16);
	__builtin_memcpy(ip.src, way->remote, 16);
	__builtin_memcpy(ip.dst, way->local, 16);
	if (checksum_change(skb, p, bpf_csum_diff(old, sizeof(old), new, sizeof(new), 0)) ||
		bpf_skb_change_proto(skb, bpf_htons(PACKET_ETH_IPV6), 0))
		return -1;
	return (int)bpf_skb_store_bytes(skb, p->l3, &ip, sizeof(ip), BPF_F_RECOMPUTE_CSUM);
}

/* -- out -- */

/* Room for what goes around the packet, and that. */
static __always_inline int check_wrap(struct __sk_buff *skb, const struct check_packet *p,
	const struct check_way *way, __be16 *ret_ethertype)
{
	__u32 number = way->backend;
	const struct service_backend *backend = bpf_map_lookup_elem(&service_backends, &number);
	struct service service = {.deliver = way->deliver, .gue_port = way->gue_port};
	struct tunnel tunnel = {.client = way->family == 4 ? way->from[0] : way->from[3],
		.port = way->local_port,
		.tos = p->tos,
		.backend = number};
	__u8 outer[CHECK_IP6 + CHECK_UDP] __attribute__((aligned(8))) = {};
	int gue = way->deliver == SERVICE_GUE;
	__u64 flags = gue ? BPF_F_ADJ_ROOM_ENCAP_L4_UDP : 0;
	long failed;

	if (!backend)
		return -1;
	/* another backend may have got the number just now: then it is not this one's check */
	if (backend->family != way->socket_family || backend->address[0] != way->remote[0] ||
		(way->socket_family == 6 && !check_same(backend->address, way->remote)))
		return -1;
	*ret_ethertype = encapsulate(outer, &service, backend, &tunnel, p->bytes, p->family);
	if (way->socket_family == 4) {
		failed = bpf_skb_adjust_room(
			skb, CHECK_IP4 + (gue ? CHECK_UDP : 0), BPF_ADJ_ROOM_MAC, flags | CHECK_ROOM4);
		if (failed)
			return -1;
		return (int)(gue ? bpf_skb_store_bytes(skb, p->l3, outer, CHECK_IP4 + CHECK_UDP, 0)
				 : bpf_skb_store_bytes(skb, p->l3, outer, CHECK_IP4, 0));
	}
	failed = bpf_skb_adjust_room(
		skb, CHECK_IP6 + (gue ? CHECK_UDP : 0), BPF_ADJ_ROOM_MAC, flags | CHECK_ROOM6);
	if (failed)
		return -1;
	return (int)(gue ? bpf_skb_store_bytes(skb, p->l3, outer, CHECK_IP6 + CHECK_UDP, 0)
			 : bpf_skb_store_bytes(skb, p->l3, outer, CHECK_IP6, 0));
}

static __always_inline int check_go(struct __sk_buff *skb, __u32 link)
{
	struct check_packet p = {};
	struct check_way *way;
	__be16 ethertype;
	__u32 family;

	/* what is forwarded is somebody else's */
	if (!check_is_on() || skb->ingress_ifindex)
		return CHECK_NEXT;
	family = check_family(skb);
	if (!family || !check_read(skb, family, link, &p))
		return CHECK_NEXT;
	way = check_find(p.src, p.sport, p.family, p.proto);
	if (!way || p.dport != way->port || !check_same(p.dst, way->remote))
		return CHECK_NEXT;
	if (way->family == p.family ? address_change(skb, &p, p.family == 4 ? 16 : 24, p.dst, way->to)
				    : to_ip4(skb, &p, way))
		return CHECK_DROP;
	if (way->deliver != SERVICE_L2) {
		if (check_wrap(skb, &p, way, &ethertype) ||
			(link && bpf_skb_store_bytes(skb, link - 2, &ethertype, sizeof(ethertype), 0)))
			return CHECK_DROP;
	}
	way->sent++;
	return CHECK_NEXT;
}

/* -- in -- */

/* One address in place of another in an ICMP message, `at`, and `sum` where its header's checksum is: in IPv4
 * that makes up for it.  ICMPv6 has one checksum, over the outer addresses, too. */
static __always_inline int error_change(struct __sk_buff *skb, const struct check_packet *p, __u32 at,
	__u32 sum, const __be32 *old, const __be32 *new)
{
	__be32 from[4], to[4];
	__s64 change;

	__builtin_memcpy(from, old, sizeof(from));
	__builtin_memcpy(to, new, sizeof(to));
	if (p->family == 4) {
		change = bpf_csum_diff(from, 4, to, 4, 0);
		return bpf_l3_csum_replace(skb, sum, 0, (__u64)change, 0) ||
		       bpf_skb_store_bytes(skb, at, to, 4, 0);
	}
	change = bpf_csum_diff(from, 16, to, 16, 0);
	return bpf_l4_csum_replace(skb, p->l4 + 2, 0, (__u64)change, 0) ||
	       bpf_skb_store_bytes(skb, at, to, 16, 0);
}

/* An ICMP error about a packet of a check: the kernel looks for the socket by what stands in it. */
static __always_inline int check_error(struct __sk_buff *skb, const struct check_packet *p)
{
	struct check_packet about = {};
	struct packet_icmp icmp;
	struct check_way *way;

	if (bpf_skb_load_bytes(skb, p->l4, &icmp, sizeof(icmp)))
		return CHECK_NEXT;
	/* destination unreachable, too big, time exceeded: RFC 792, 4443 */
	if (p->family == 4 ? icmp.type != 3 && icmp.type != 11 : icmp.type < 1 || icmp.type > 3)
		return CHECK_NEXT;
	if (!check_read(skb, p->family, p->l4 + 8, &about))
		return CHECK_NEXT;
	way = check_find(about.src, about.sport, about.family, about.proto);
	if (!way || way->family != way->socket_family || about.dport != way->port ||
		!check_same(about.dst, way->to))
		return CHECK_NEXT;
	if (error_change(
		    skb, p, about.l3 + (p->family == 4 ? 16 : 24), about.l3 + 10, about.dst, way->remote))
		return CHECK_DROP;
	/* mostly it is the service's address that tells it, which there may be no route to */
	if (check_same(p->src, way->to) &&
		error_change(skb, p, p->l3 + (p->family == 4 ? 12 : 8), p->l3 + 10, p->src, way->remote))
		return CHECK_DROP;
	way->answered++;
	return CHECK_NEXT;
}

static __always_inline int check_come(struct __sk_buff *skb, __u32 link)
{
	struct check_packet p = {};
	struct check_way *way;
	__be16 ethertype = bpf_htons(PACKET_ETH_IPV6);
	__u32 family;

	if (!check_is_on())
		return CHECK_NEXT;
	family = check_family(skb);
	if (!family || !check_read(skb, family, link, &p))
		return CHECK_NEXT;
	if (p.proto == (family == 4 ? PACKET_PROTO_ICMP : PACKET_PROTO_ICMP6))
		return check_error(skb, &p);
	way = check_find(p.dst, p.dport, p.family, p.proto);
	if (!way || p.sport != way->port || way->family != p.family || !check_same(p.src, way->to))
		return CHECK_NEXT;
	if (way->family == way->socket_family) {
		if (address_change(skb, &p, p.family == 4 ? 12 : 8, p.src, way->remote))
			return CHECK_DROP;
	} else if (to_ip6(skb, &p, way) ||
		   (link && bpf_skb_store_bytes(skb, link - 2, &ethertype, sizeof(ethertype), 0))) {
		return CHECK_DROP;
	}
	way->answered++;
	return CHECK_NEXT;
}

SEC("tc") int check_out(struct __sk_buff *skb)
{
	return check_go(skb, CHECK_LINK);
}

SEC("tc") int check_out_raw(struct __sk_buff *skb)
{
	return check_go(skb, 0);
}

SEC("tc") int check_in(struct __sk_buff *skb)
{
	return check_come(skb, CHECK_LINK);
}

SEC("tc") int check_in_raw(struct __sk_buff *skb)
{
	return check_come(skb, 0);
}

char _license[] SEC("license") = "Dual BSD/GPL";
