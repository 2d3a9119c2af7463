// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * Forwarding at XDP (shared/forward.h): by the kernel's routes, from one interface to another, and as a
 * switch.
 *
 * What is not for it, and all that only the stack can do (no neighbour yet, too large, options, its own
 * addresses), goes on as it came.  Packets that are sent on are accounted here, in the same flow cache as the
 * programs in tc do, which never see them.
 */
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#define PACKET_CONTEXT                          struct xdp_md
#define packet_load(context, offset, to, bytes) bpf_xdp_load_bytes(context, offset, to, bytes)

#include "bpf/lib/account.h"
#include "bpf/lib/chain.h"
#include "bpf/lib/decide.h"
#include "bpf/lib/live.h"
#include "bpf/lib/packet.h"
#include "shared/forward.h"

#define FORWARD_AF_INET  2 /* as bpf_fib_lookup() wants them */
#define FORWARD_AF_INET6 10

const volatile __u32 forward_age_ticks = 300000; /* a switch forgets what it has not heard for so long */
const volatile __u32 forward_note_ticks = 1000;  /* … and writes down so often that it was heard */

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, FORWARD_PORTS_MAX);
	__type(key, struct forward_key);
	__type(value, struct forward_port);
} forward_ports SEC(".maps");

/* Interfaces that take frames from XDP. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, FORWARD_PORTS_MAX);
	__type(key, __u32);
	__type(value, __u32);
} forward_targets SEC(".maps");

struct forward_table {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, FORWARD_MACS_MAX);
	__uint(key_size, sizeof(struct forward_mac));
	__uint(value_size, sizeof(struct forward_place));
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, FORWARD_NUMBERS);
	__type(key, __u32);
	__array(values, struct forward_table);
} forward_tables SEC(".maps");

struct forward_switch {
	__uint(type, BPF_MAP_TYPE_DEVMAP_HASH);
	__uint(max_entries, FORWARD_MEMBERS);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(__u32));
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, FORWARD_NUMBERS);
	__type(key, __u32);
	__array(values, struct forward_switch);
} forward_members SEC(".maps");

/* The agent sets the size: FORWARD_NUMBERS a CPU. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct forward_count);
} forward_counts SEC(".maps");

/* For the agent: the rule (id) that has a number; 0: none. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, FORWARD_NUMBERS);
	__type(key, __u32);
	__type(value, __u32);
} forward_rules SEC(".maps");

packet_inline struct forward_count *forward_count(__u32 number)
{
	__u32 place = bpf_get_smp_processor_id() * FORWARD_NUMBERS + (number & (FORWARD_NUMBERS - 1));

	return bpf_map_lookup_elem(&forward_counts, &place);
}

packet_inline struct forward_port *forward_port(__u32 ifindex, __u32 now)
{
	__u32 zero = 0;
	const struct policy_now *in_force = bpf_map_lookup_elem(&policy_now, &zero);
	struct forward_key key = {.ifindex = ifindex};
	__u64 places;

	if (!in_force)
		return 0;
	places = decide_lapsed(in_force, now) ? in_force->places_before : in_force->places;
	key.place = places >> FORWARD_PLACE & 1;
	return bpf_map_lookup_elem(&forward_ports, &key);
}

/* -- as a switch -- */

/* The reserved group addresses 01-80-C2-00-00-0X: for who is at the other end of the cable. */
packet_inline int mac_is_of_link(const __u8 *mac)
{
	return mac[0] == 0x01 && mac[1] == 0x80 && mac[2] == 0xc2 && !mac[3] && !mac[4] && !(mac[5] & 0xf0);
}

packet_inline int mac_is(const __u8 *mac, const __u8 *other)
{
	const __u16 *a = (const void *)mac, *b = (const void *)other;

	return a[0] == b[0] && a[1] == b[1] && a[2] == b[2];
}

packet_inline void mac_copy(__u8 *to, const __u8 *from)
{
	__u16 *a = (void *)to;
	const __u16 *b = (const void *)from;

	a[0] = b[0];
	a[1] = b[1];
	a[2] = b[2];
}

packet_inline void switch_learn(
	void *table, const struct forward_mac *from, __u32 ifindex, __u32 now, struct forward_count *count)
{
	struct forward_place *known = bpf_map_lookup_elem(table, from);

	if (!known) {
		struct forward_place place = {.ifindex = ifindex, .seen = now};

		bpf_map_update_elem(table, from, &place, BPF_ANY);
		return;
	}
	if (known->ifindex != ifindex) {
		known->ifindex = ifindex;
		known->seen = now;
		count->moved++;
	}
	/* what all CPUs read is written seldom */
	if (now - known->seen >= forward_note_ticks)
		known->seen = now;
}

packet_inline int switch_flood(void *members, struct forward_count *count)
{
	count->flooded++;
	return bpf_redirect_map(members, 0, BPF_F_BROADCAST | BPF_F_EXCLUDE_INGRESS);
}

packet_inline int forward_among(
	struct xdp_md *context, const struct forward_port *port, struct forward_count *count, __u32 now)
{
	void *data = (void *)(long)context->data, *end = (void *)(long)context->data_end;
	__u32 number = port->number, ifindex = context->ingress_ifindex;
	struct forward_mac from = {}, to = {};
	struct forward_place *known;
	void *table, *members;
	__be16 ethertype;
	int verdict;

	if (data + 14 > end || mac_is_of_link(data) || mac_is(data, port->mac))
		return XDP_PASS;
	ethertype = *(__be16 *)(data + 12);
	if (ethertype == bpf_htons(PACKET_ETH_VLAN) || ethertype == bpf_htons(PACKET_ETH_QINQ)) {
		if (data + 18 > end)
			return XDP_PASS;
		from.vlan = to.vlan = bpf_ntohs(*(__be16 *)(data + 14)) & 0xfff;
	}
	mac_copy(to.mac, data);
	mac_copy(from.mac, data + 6);
	table = bpf_map_lookup_elem(&forward_tables, &number);
	members = bpf_map_lookup_elem(&forward_members, &number);
	if (!table || !members)
		return XDP_PASS;
	if (!(from.mac[0] & 1))
		switch_learn(table, &from, ifindex, now, count);
	if (to.mac[0] & 1)
		return switch_flood(members, count);
	known = bpf_map_lookup_elem(table, &to);
	if (!known || now - known->seen > forward_age_ticks)
		return switch_flood(members, count);
	if (known->ifindex == ifindex) {
		count->filtered++;
		return XDP_DROP;
	}
	verdict = bpf_redirect_map(members, known->ifindex, XDP_ABORTED);
	if (verdict == XDP_REDIRECT)
		return verdict;
	/* it does not belong to the switch any more */
	bpf_map_delete_elem(table, &to);
	return switch_flood(members, count);
}

/* -- by route -- */

/* What a router does not forward, or only with what the stack has to say about it: RFC 1812, 4.2.2.11, 5.3.7.
 */
packet_inline int address4_is_odd(__be32 address)
{
	__u32 first = bpf_ntohl(address) >> 24;

	return first == 0 || first == 127 || first >= 224;
}

/* Multicast, link-local (RFC 4291, 2.5.6), unspecified, loopback, IPv4-mapped. */
packet_inline int address6_is_odd(const __be32 *address)
{
	__u32 first = bpf_ntohl(address[0]);

	return first >> 24 == 0xff || first >> 22 == 0xfe80 >> 6 || !(address[0] | address[1]);
}

packet_inline __u16 route_sum(const struct packet_ip4 *ip)
{
	const __u16 *words = (const void *)ip;
	__u32 sum = 0;
	int i;

	PACKET_UNROLL
	for (i = 0; i < 10; i++)
		sum += words[i];
	sum = (sum & 0xffff) + (sum >> 16);
	return (sum & 0xffff) + (sum >> 16);
}

packet_inline int route_read4(const struct packet_ip4 *ip, __u32 room, struct bpf_fib_lookup *route)
{
	__u32 total = bpf_ntohs(ip->total_length);

	if (ip->version_ihl != 0x45 || ip->ttl <= 1 || total < sizeof(*ip) || total > room ||
		address4_is_odd(ip->src) || address4_is_odd(ip->dst) || route_sum(ip) != 0xffff)
		return 0;
	route->family = FORWARD_AF_INET;
	route->tos = ip->tos;
	route->l4_protocol = ip->proto;
	route->tot_len = total;
	route->ipv4_src = ip->src;
	route->ipv4_dst = ip->dst;
	return 1;
}

packet_inline int route_read6(const struct packet_ip6 *ip, __u32 room, struct bpf_fib_lookup *route)
{
	const __be32 *src = (const void *)ip->src, *dst = (const void *)ip->dst;
	__u32 total = bpf_ntohs(ip->payload_length) + sizeof(*ip);
	int i;

	/* options for each hop; a jumbogram */
	if (*(const __u8 *)ip >> 4 != 6 || ip->hop_limit <= 1 || ip->proto == PACKET_PROTO_HOPOPTS ||
		!ip->payload_length || total > room || address6_is_odd(src) || address6_is_odd(dst))
		return 0;
	route->family = FORWARD_AF_INET6;
	route->l4_protocol = ip->proto;
	route->tot_len = total;
	route->flowinfo = ip->version_class_label & bpf_htonl(0x0fffffff);
	PACKET_UNROLL
	for (i = 0; i < 4; i++) {
		route->ipv6_src[i] = src[i];
		route->ipv6_dst[i] = dst[i];
	}
	return 1;
}

/* One hop less; the checksum by RFC 1624. */
packet_inline void route_lower4(struct packet_ip4 *ip)
{
	__u32 sum = ip->checksum;

	sum += bpf_htons(0x0100);
	ip->checksum = sum + (sum >= 0xffff);
	ip->ttl--;
}

packet_inline int forward_by_route(struct xdp_md *context, const struct forward_port *port)
{
	void *data = (void *)(long)context->data, *end = (void *)(long)context->data_end;
	__u32 room = bpf_xdp_get_buff_len(context) - 14, target;
	struct packet_ip4 *ip4 = data + 14;
	struct packet_ip6 *ip6 = data + 14;
	struct bpf_fib_lookup route = {};
	__be16 ethertype;

	if ((void *)(ip4 + 1) > end || !mac_is(data, port->mac))
		return XDP_PASS;
	ethertype = *(__be16 *)(data + 12);
	if (ethertype == bpf_htons(PACKET_ETH_IPV4)) {
		if (!route_read4(ip4, room, &route))
			return XDP_PASS;
	} else if (ethertype == bpf_htons(PACKET_ETH_IPV6)) {
		if ((void *)(ip6 + 1) > end || !route_read6(ip6, room, &route))
			return XDP_PASS;
	} else {
		return XDP_PASS;
	}
	route.ifindex = context->ingress_ifindex;
	if (bpf_fib_lookup(context, &route, sizeof(route), 0) != BPF_FIB_LKUP_RET_SUCCESS)
		return XDP_PASS;
	target = route.ifindex;
	/* back where it came from: the stack also tells the sender of the better way */
	if (target == context->ingress_ifindex ||
		(!port->any && !bpf_map_lookup_elem(&forward_targets, &target)))
		return XDP_PASS;
	if (ethertype == bpf_htons(PACKET_ETH_IPV4))
		route_lower4(ip4);
	else if ((void *)(ip6 + 1) <= end)
		ip6->hop_limit--;
	mac_copy(data, route.dmac);
	mac_copy(data + 6, route.smac);
	return bpf_redirect(target, 0);
}

/* -- all of it -- */

packet_inline int forward_send(
	struct xdp_md *context, const struct forward_port *port, struct forward_count *count, __u32 now)
{
	switch (port->way) {
	case FORWARD_BY_ROUTE:
		return forward_by_route(context, port);
	case FORWARD_TO:
		return bpf_redirect(port->to, 0);
	default:
		return forward_among(context, port, count, now);
	}
}

SEC("xdp") int forward(struct xdp_md *context)
{
	__u32 now = bpf_jiffies64();
	const struct forward_port *port = forward_port(context->ingress_ifindex, now);
	struct forward_count *count = port ? forward_count(port->number) : (void *)0;
	struct account *account = count ? account_get() : (void *)0;
	int verdict;

	if (!account)
		return chain_pass(context, CHAIN_STEER);
	verdict = forward_send(context, port, count, now);
	if (verdict == XDP_PASS) {
		count->passed++;
		return chain_pass(context, CHAIN_STEER);
	}
	account->ifindex = context->ingress_ifindex;
	account->bytes = bpf_xdp_get_buff_len(context);
	account->now = now;
	account->rule = port->rule;
	account->veth = port->veth;
	if (verdict == XDP_REDIRECT) {
		count->packets++;
		count->bytes += account->bytes;
		count->last = now;
	}
	account_packet(context);
	return verdict;
}

/* -- what the target did not take -- */

packet_inline int forward_lose(const struct net_device *from, __u32 packets)
{
	const struct forward_port *port;
	struct forward_count *count;

	if (from->nd_net.net->net_cookie != netns_cookie)
		return 0;
	port = forward_port(from->ifindex, bpf_jiffies64());
	count = port ? forward_count(port->number) : (void *)0;
	if (count)
		count->lost += packets;
	return 0;
}

/* Refused at once: there is no such interface, it is down, the frame is too large for it. */
SEC("tp_btf/xdp_redirect_err") int forward_refused(__u64 *context)
{
	const struct net_device *from = (void *)context[0];

	return live_here() ? forward_lose(from, 1) : 0;
}

/* … and by its driver, some at a time. */
SEC("tp_btf/xdp_devmap_xmit") int forward_dropped(__u64 *context)
{
	const struct net_device *from = (void *)context[0];
	int drops = context[3];

	return drops > 0 && live_here() ? forward_lose(from, drops) : 0;
}

char _license[] SEC("license") = "Dual BSD/GPL";
