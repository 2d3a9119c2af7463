/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Nat, for what most packets are: as in bpf/lib/service_quick.h, of a connection that both hosts have spoken
 * in and neither has ended, with a whole checksum.
 *
 * What such a packet gets stands in `service_flows`.  That is a hash table: a packet that finds it there
 * touches five lines of memory.  So what it gets is remembered beside the line of its flow, for a second: a
 * port may be another's two seconds after the backend has reset its connection (NAT_RST_S).
 *
 * Changes nothing before all is clear; whatever is not as above, the functions behind it do.  Both ways are
 * held against each other by tests/bpf/service_nat.c.
 */
#ifndef WEIR_BPF_NAT_QUICK_H
#define WEIR_BPF_NAT_QUICK_H

#include "bpf/lib/nat_rewrite.h"
#include "bpf/lib/nat_table.h"
#include "bpf/lib/service_quick.h"

#define NAT_QUICK_BYTES 20 /* of a transport header: the checksum of TCP is among them */

/* -- what packets of a flow get -- */

/* Beside the line of the flow cache whose serial it has: no other line of this CPU has it. */
struct nat_line {
	__u32 serial;
	__u32 seen; /* tick of the entry that it was read from; of answers: of the way */
	__be16 sport, dport;
	__be32 src[4], dst[4];
	/* of answers: the way */
	__u32 ifindex;
	__u8 dmac[6], smac[6];
	__u16 mtu;
	__u16 backend;
};

_Static_assert(sizeof(struct nat_line) == 64, "one cache line");

const volatile __u32 nat_line_mask = 0; /* lines a CPU - 1 */

/* The agent sets the size: so many a CPU, of both families. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct nat_line);
} nat_lines SEC(".maps");

packet_inline struct nat_line *nat_line_of(__u32 cpu, __u32 line)
{
	__u32 index = cpu * (nat_line_mask + 1) + (line & nat_line_mask);

	return bpf_map_lookup_elem(&nat_lines, &index);
}

/* What a packet gets, from either place. */
struct nat_gets {
	const __be32 *src, *dst;
	__be16 sport, dport;
	const __u8 *dmac, *smac;
	__u32 ifindex;
};

packet_inline void nat_gets_line(struct nat_gets *gets, const struct nat_line *line)
{
	gets->src = line->src;
	gets->dst = line->dst;
	gets->sport = line->sport;
	gets->dport = line->dport;
	gets->dmac = line->dmac;
	gets->smac = line->smac;
	gets->ifindex = line->ifindex;
}

packet_inline void nat_gets_flow(struct nat_gets *gets, const struct service_flow *flow)
{
	gets->src = flow->src;
	gets->dst = flow->dst;
	gets->sport = flow->sport;
	gets->dport = flow->dport;
	gets->dmac = flow->dmac;
	gets->smac = flow->smac;
	gets->ifindex = flow->ifindex;
}

/* The line of the flow has this serial, and is of this connection. */
packet_inline void nat_line_fill(
	struct nat_line *line, const struct service_flow *flow, __u32 serial, __u32 seen)
{
	int i;

	line->serial = 0;
	line->seen = seen;
	line->sport = flow->sport;
	line->dport = flow->dport;
	PACKET_UNROLL
	for (i = 0; i < 4; i++) {
		line->src[i] = flow->src[i];
		line->dst[i] = flow->dst[i];
	}
	line->ifindex = flow->ifindex;
	line->mtu = flow->mtu;
	line->backend = flow->backend;
	mac_learn(line->dmac, flow->dmac);
	mac_learn(line->smac, flow->smac);
	line->serial = serial;
}

/* A packet of the flow went the long way: its connection may be another one by now. */
packet_inline void nat_line_forget(const struct service_work *work)
{
	struct nat_line *line;

	if (!work->way)
		return;
	line = nat_line_of(bpf_get_smp_processor_id(), work->set * FLOW_WAYS + work->way - 1);
	if (line && line->serial)
		line->serial = 0;
}

packet_inline void nat_quick_key4(
	struct service_key *key, const struct packet_ip4 *ip, const struct packet_tcp *l4)
{
	key->src[0] = ip->src;
	key->dst[0] = ip->dst;
	key->sport = l4->sport;
	key->dport = l4->dport;
	key->family = 4;
	key->proto = ip->proto;
}

packet_inline void nat_quick_key6(
	struct service_key *key, const struct packet_ip6 *ip, const struct packet_tcp *l4)
{
	const __be32 *src = (const void *)ip->src, *dst = (const void *)ip->dst;
	int i;

	PACKET_UNROLL
	for (i = 0; i < 4; i++) {
		key->src[i] = src[i];
		key->dst[i] = dst[i];
	}
	key->sport = l4->sport;
	key->dport = l4->dport;
	key->family = 6;
	key->proto = ip->proto;
}

/* -- the packet -- */

packet_inline __u16 *nat_quick_sum(struct packet_tcp *l4, __u8 proto)
{
	return proto == PACKET_PROTO_TCP ? (__u16 *)((void *)l4 + 16) : (__u16 *)((void *)l4 + 6);
}

/* What the packet's addresses and ports are before and after, and its pseudo header. */
struct nat_quick_sums {
	__u64 addresses, rest, pseudo;
};

packet_inline void nat_quick_sums4(struct nat_quick_sums *sums, const struct packet_ip4 *ip,
	const struct packet_tcp *l4, const struct nat_gets *gets, __u32 bytes)
{
	sums->addresses = (__u64)(__u32)~ip->src + gets->src[0] + (__u64)(__u32)~ip->dst + gets->dst[0];
	sums->rest = (__u64)(__u16)~l4->sport + gets->sport + (__u16)~l4->dport + gets->dport;
	sums->pseudo = (__u64)ip->src + ip->dst + bpf_htons(ip->proto) + bpf_htons(bytes);
}

packet_inline void nat_quick_sums6(struct nat_quick_sums *sums, const struct packet_ip6 *ip,
	const struct packet_tcp *l4, const struct nat_gets *gets, __u32 bytes)
{
	const __be32 *src = (const void *)ip->src, *dst = (const void *)ip->dst;
	int i;

	sums->addresses = 0;
	sums->pseudo = bpf_htons(ip->proto) + bpf_htons(bytes);
	PACKET_UNROLL
	for (i = 0; i < 4; i++) {
		sums->addresses += (__u64)(__u32)~src[i] + gets->src[i];
		sums->addresses += (__u64)(__u32)~dst[i] + gets->dst[i];
		sums->pseudo += (__u64)src[i] + dst[i];
	}
	sums->rest = (__u64)(__u16)~l4->sport + gets->sport + (__u16)~l4->dport + gets->dport;
}

/* Is the checksum a whole one, or none?  Else it is maybe still to be made (bpf/lib/nat_rewrite.h). */
packet_inline int nat_quick_is_whole(const struct nat_quick_sums *sums, __u16 checksum)
{
	return nat_fold(sums->pseudo) != checksum;
}

packet_inline void nat_quick_rewrite_l4(
	struct packet_tcp *l4, __u8 proto, const struct nat_gets *gets, const struct nat_quick_sums *sums)
{
	__u16 *at = nat_quick_sum(l4, proto), checksum = *at;

	l4->sport = gets->sport;
	l4->dport = gets->dport;
	if (proto == PACKET_PROTO_UDP && !checksum)
		return;
	checksum = checksum_fold((__u64)(__u16)~checksum + sums->addresses + sums->rest);
	*at = checksum || proto != PACKET_PROTO_UDP ? checksum : 0xffff;
}

packet_inline void nat_quick_rewrite4(
	struct packet_ip4 *ip, const struct nat_gets *gets, const struct nat_quick_sums *sums)
{
	ip->checksum = checksum_fold((__u64)(__u16)~ip->checksum + sums->addresses +
				     (__u16)~bpf_htons(ip->ttl << 8) + bpf_htons((ip->ttl - 1) << 8));
	ip->ttl--;
	ip->src = gets->src[0];
	ip->dst = gets->dst[0];
}

packet_inline void nat_quick_rewrite6(struct packet_ip6 *ip, const struct nat_gets *gets)
{
	__be32 *src = (void *)ip->src, *dst = (void *)ip->dst;
	int i;

	ip->hop_limit--;
	PACKET_UNROLL
	for (i = 0; i < 4; i++) {
		src[i] = gets->src[i];
		dst[i] = gets->dst[i];
	}
}

packet_inline int nat_quick_send(struct quick *quick, void *data, const struct nat_gets *gets)
{
	const __u16 *to = (const void *)gets->dmac, *from = (const void *)gets->smac;
	__u16 *link = data;
	int i;

	PACKET_UNROLL
	for (i = 0; i < 3; i++) {
		link[i] = to[i];
		link[i + 3] = from[i];
	}
	return gets->ifindex == quick->ifindex ? XDP_TX : bpf_redirect(gets->ifindex, 0);
}

/* -- to a backend -- */

/* Does what stands beside the line still hold? */
packet_inline int nat_quick_holds(const struct nat_line *line, __u32 serial, __u32 now)
{
	return line->serial == serial && now - line->seen < service_second;
}

/* May packets go on to the backend, which is quick->number? */
packet_inline const struct service_backend *nat_quick_backend(
	const struct service *service, struct quick *quick)
{
	const struct service_backend *backend = service_backend(quick->number);

	if (!service_usable(backend, service->number, 0) || !quick_fits(service, backend, quick))
		return (void *)0;
	return backend;
}

/* The entry of a packet that goes on to its backend.  NULL: left. */
packet_inline struct service_flow *nat_quick_flow(const struct service_key *key)
{
	struct service_flow *flow = bpf_map_lookup_elem(&service_flows, key);

	if (!flow || flow->flags & (NAT_CLOSING | SERVICE_FLOW_ANSWER | SERVICE_FLOW_SOURCE))
		return (void *)0;
	return flow;
}

packet_inline void nat_quick_touch(struct service_flow *flow, __u32 now)
{
	if ((flow->last ^ now) >> SERVICE_TOUCH_SHIFT)
		flow->last = now;
}

/* The verdict, or -1: left to others, and nothing has changed. */
packet_inline int nat_quick4(struct xdp_md *context, const struct service *service, __u32 now)
{
	void *data = (void *)(long)context->data, *end = (void *)(long)context->data_end;
	struct quick quick = {.now = now, .ifindex = context->ingress_ifindex};
	struct packet_ip4 *ip = data + 14;
	struct packet_tcp *l4 = (void *)(ip + 1);
	struct flow_decision decision = {.rule = service->rule};
	int accounted = !(service->flags & SERVICE_NO_FLOWS);
	const struct service_backend *backend;
	struct nat_line *beside = (void *)0;
	struct service_flow *flow;
	struct quick_line4 at = {};
	struct service_key key = {};
	struct nat_quick_sums sums;
	struct nat_gets gets;

	if (!quick_read4(data, end, &quick) || (void *)l4 + NAT_QUICK_BYTES > end || quick.begins ||
		ip->ttl <= 1)
		return -1;
	if (accounted) {
		quick_key4(&at, ip, l4, &quick);
		if (!quick_find4(&at, now) || (at.found && flow_is_full(&at.line->counts)))
			return -1;
		beside = nat_line_of(at.cpu, at.index * FLOW_WAYS + at.way);
		if (!beside)
			return -1;
		if (at.found && nat_quick_holds(beside, at.line->serial, now)) {
			quick.number = beside->backend;
			backend = nat_quick_backend(service, &quick);
			if (!backend || (__s32)(beside->seen - backend->since) <= 0)
				return -1;
			nat_gets_line(&gets, beside);
			nat_quick_sums4(&sums, ip, l4, &gets, quick.ip_bytes - sizeof(*ip));
			if (!nat_quick_is_whole(&sums, *nat_quick_sum(l4, ip->proto)))
				return -1;
			at.stats->seen++;
			at.stats->cached++;
			quick_hit(&at.line->counts, &at.line->marks, &quick);
			goto known;
		}
	}
	nat_quick_key4(&key, ip, l4);
	flow = nat_quick_flow(&key);
	if (!flow)
		return -1;
	quick.number = flow->backend;
	backend = nat_quick_backend(service, &quick);
	if (!backend || backend->generation != flow->generation)
		return -1;
	nat_gets_flow(&gets, flow);
	nat_quick_sums4(&sums, ip, l4, &gets, quick.ip_bytes - sizeof(*ip));
	if (!nat_quick_is_whole(&sums, *nat_quick_sum(l4, ip->proto)))
		return -1;
	if (accounted && beside) {
		decision.backend = quick.number;
		if (quick_account4(&at, &quick, &decision))
			nat_line_fill(beside, flow, at.line->serial, now);
		flow->last = now; /* nobody takes its port while the line holds */
	} else {
		nat_quick_touch(flow, now);
	}
known:
	quick_count(&quick, 0);
	gets.dmac = backend->dmac;
	gets.smac = backend->smac;
	gets.ifindex = backend->ifindex;
	nat_quick_rewrite_l4(l4, ip->proto, &gets, &sums);
	nat_quick_rewrite4(ip, &gets, &sums);
	return nat_quick_send(&quick, data, &gets);
}

/* The same for IPv6. */
packet_inline int nat_quick6(struct xdp_md *context, const struct service *service, __u32 now)
{
	void *data = (void *)(long)context->data, *end = (void *)(long)context->data_end;
	struct quick quick = {.now = now, .ifindex = context->ingress_ifindex};
	struct packet_ip6 *ip = data + 14;
	struct packet_tcp *l4 = (void *)(ip + 1);
	struct flow_decision decision = {.rule = service->rule};
	int accounted = !(service->flags & SERVICE_NO_FLOWS);
	const struct service_backend *backend;
	struct nat_line *beside = (void *)0;
	struct service_flow *flow;
	struct quick_line6 at = {};
	struct service_key key = {};
	struct nat_quick_sums sums;
	struct nat_gets gets;

	if (!quick_read6(data, end, &quick) || (void *)l4 + NAT_QUICK_BYTES > end || quick.begins ||
		ip->hop_limit <= 1)
		return -1;
	if (accounted) {
		quick_key6(&at, ip, l4, &quick);
		if (!quick_find6(&at, now) || (at.found && flow_is_full(&at.line->counts)))
			return -1;
		beside = nat_line_of(at.cpu, at.index * FLOW_WAYS + at.way);
		if (!beside)
			return -1;
		if (at.found && nat_quick_holds(beside, at.rest->serial, now)) {
			quick.number = beside->backend;
			backend = nat_quick_backend(service, &quick);
			if (!backend || (__s32)(beside->seen - backend->since) <= 0)
				return -1;
			nat_gets_line(&gets, beside);
			nat_quick_sums6(&sums, ip, l4, &gets, quick.ip_bytes - sizeof(*ip));
			if (!nat_quick_is_whole(&sums, *nat_quick_sum(l4, ip->proto)))
				return -1;
			at.stats->seen++;
			at.stats->cached++;
			quick_hit(&at.line->counts, &at.line->marks, &quick);
			goto known;
		}
	}
	nat_quick_key6(&key, ip, l4);
	flow = nat_quick_flow(&key);
	if (!flow)
		return -1;
	quick.number = flow->backend;
	backend = nat_quick_backend(service, &quick);
	if (!backend || backend->generation != flow->generation)
		return -1;
	nat_gets_flow(&gets, flow);
	nat_quick_sums6(&sums, ip, l4, &gets, quick.ip_bytes - sizeof(*ip));
	if (!nat_quick_is_whole(&sums, *nat_quick_sum(l4, ip->proto)))
		return -1;
	if (accounted && beside) {
		decision.backend = quick.number;
		if (quick_account6(&at, &quick, &decision))
			nat_line_fill(beside, flow, at.rest->serial, now);
		flow->last = now;
	} else {
		nat_quick_touch(flow, now);
	}
known:
	quick_count(&quick, 0);
	gets.dmac = backend->dmac;
	gets.smac = backend->smac;
	gets.ifindex = backend->ifindex;
	nat_quick_rewrite_l4(l4, ip->proto, &gets, &sums);
	nat_quick_rewrite6(ip, &gets);
	return nat_quick_send(&quick, data, &gets);
}

/* -- from a backend -- */

/* Can the port be one of nat's? */
packet_inline int nat_quick_is_ours(const struct service_book *head, __be16 port)
{
	return head->answer_first <= bpf_ntohs(port) && bpf_ntohs(port) <= head->answer_last;
}

/* Does what stands beside the line of an answer still hold, and would the packet fit? */
packet_inline int nat_quick_holds_answer(const struct nat_line *line, __u32 serial, const struct quick *quick)
{
	return line->serial == serial && quick->now - line->seen < ENCAPSULATE_HOP_TICKS &&
	       !(line->mtu && quick->ip_bytes > line->mtu);
}

/* The entry of an answer whose way to the client is known.  NULL: left. */
packet_inline struct service_flow *nat_quick_answer(
	struct xdp_md *context, const struct service_key *key, const struct quick *quick)
{
	struct service_flow *flow = bpf_map_lookup_elem(&service_flows, key);

	if (!flow || (flow->flags &
			     (NAT_CLOSING | SERVICE_FLOW_ANSWER | SERVICE_FLOW_OPEN | SERVICE_FLOW_SOURCE)) !=
			     (SERVICE_FLOW_ANSWER | SERVICE_FLOW_OPEN))
		return (void *)0;
	if (nat_way_look(context, flow, quick->ifindex, key->family, quick->now) ||
		(flow->mtu && quick->ip_bytes > flow->mtu))
		return (void *)0;
	return flow;
}

packet_inline void nat_quick_count_answer(const struct quick *quick)
{
	struct service_count *count = service_count(quick->number);

	if (!count)
		return;
	count->answer_packets++;
	count->answer_bytes += quick->bytes;
}

packet_inline int nat_quick_answer4(struct xdp_md *context, const struct service_book *head, __u32 now)
{
	void *data = (void *)(long)context->data, *end = (void *)(long)context->data_end;
	struct quick quick = {.now = now, .ifindex = context->ingress_ifindex};
	struct packet_ip4 *ip = data + 14;
	struct packet_tcp *l4 = (void *)(ip + 1);
	struct flow_decision decision = {};
	struct nat_line *beside;
	struct service_flow *flow;
	struct quick_line4 at = {};
	struct service_key key = {};
	struct nat_quick_sums sums;
	struct nat_gets gets;

	if (!quick_read4(data, end, &quick) || (void *)l4 + NAT_QUICK_BYTES > end || quick.begins ||
		ip->ttl <= 1 || !nat_quick_is_ours(head, l4->dport))
		return -1;
	quick_key4(&at, ip, l4, &quick);
	if (!quick_find4(&at, now) || (at.found && flow_is_full(&at.line->counts)))
		return -1;
	beside = nat_line_of(at.cpu, at.index * FLOW_WAYS + at.way);
	if (!beside)
		return -1;
	if (at.found && nat_quick_holds_answer(beside, at.line->serial, &quick)) {
		quick.number = beside->backend;
		if (!service_backend(quick.number))
			return -1;
		nat_gets_line(&gets, beside);
		nat_quick_sums4(&sums, ip, l4, &gets, quick.ip_bytes - sizeof(*ip));
		if (!nat_quick_is_whole(&sums, *nat_quick_sum(l4, ip->proto)))
			return -1;
		at.stats->seen++;
		at.stats->cached++;
		quick_hit(&at.line->counts, &at.line->marks, &quick);
		goto known;
	}
	nat_quick_key4(&key, ip, l4);
	flow = nat_quick_answer(context, &key, &quick);
	if (!flow)
		return -1;
	quick.number = flow->backend;
	if (!service_backend(quick.number))
		return -1;
	nat_gets_flow(&gets, flow);
	nat_quick_sums4(&sums, ip, l4, &gets, quick.ip_bytes - sizeof(*ip));
	if (!nat_quick_is_whole(&sums, *nat_quick_sum(l4, ip->proto)))
		return -1;
	if (!(flow->flags & SERVICE_FLOW_QUIET)) {
		if (quick_account4(&at, &quick, &decision))
			nat_line_fill(beside, flow, at.line->serial, flow->checked ? flow->checked : now);
	}
	nat_quick_touch(flow, now);
known:
	nat_quick_count_answer(&quick);
	nat_quick_rewrite_l4(l4, ip->proto, &gets, &sums);
	nat_quick_rewrite4(ip, &gets, &sums);
	return nat_quick_send(&quick, data, &gets);
}

/* The same for IPv6. */
packet_inline int nat_quick_answer6(struct xdp_md *context, const struct service_book *head, __u32 now)
{
	void *data = (void *)(long)context->data, *end = (void *)(long)context->data_end;
	struct quick quick = {.now = now, .ifindex = context->ingress_ifindex};
	struct packet_ip6 *ip = data + 14;
	struct packet_tcp *l4 = (void *)(ip + 1);
	struct flow_decision decision = {};
	struct nat_line *beside;
	struct service_flow *flow;
	struct quick_line6 at = {};
	struct service_key key = {};
	struct nat_quick_sums sums;
	struct nat_gets gets;

	if (!quick_read6(data, end, &quick) || (void *)l4 + NAT_QUICK_BYTES > end || quick.begins ||
		ip->hop_limit <= 1 || !nat_quick_is_ours(head, l4->dport))
		return -1;
	quick_key6(&at, ip, l4, &quick);
	if (!quick_find6(&at, now) || (at.found && flow_is_full(&at.line->counts)))
		return -1;
	beside = nat_line_of(at.cpu, at.index * FLOW_WAYS + at.way);
	if (!beside)
		return -1;
	if (at.found && nat_quick_holds_answer(beside, at.rest->serial, &quick)) {
		quick.number = beside->backend;
		if (!service_backend(quick.number))
			return -1;
		nat_gets_line(&gets, beside);
		nat_quick_sums6(&sums, ip, l4, &gets, quick.ip_bytes - sizeof(*ip));
		if (!nat_quick_is_whole(&sums, *nat_quick_sum(l4, ip->proto)))
			return -1;
		at.stats->seen++;
		at.stats->cached++;
		quick_hit(&at.line->counts, &at.line->marks, &quick);
		goto known;
	}
	nat_quick_key6(&key, ip, l4);
	flow = nat_quick_answer(context, &key, &quick);
	if (!flow)
		return -1;
	quick.number = flow->backend;
	if (!service_backend(quick.number))
		return -1;
	nat_gets_flow(&gets, flow);
	nat_quick_sums6(&sums, ip, l4, &gets, quick.ip_bytes - sizeof(*ip));
	if (!nat_quick_is_whole(&sums, *nat_quick_sum(l4, ip->proto)))
		return -1;
	if (!(flow->flags & SERVICE_FLOW_QUIET)) {
		if (quick_account6(&at, &quick, &decision))
			nat_line_fill(beside, flow, at.rest->serial, flow->checked ? flow->checked : now);
	}
	nat_quick_touch(flow, now);
known:
	nat_quick_count_answer(&quick);
	nat_quick_rewrite_l4(l4, ip->proto, &gets, &sums);
	nat_quick_rewrite6(ip, &gets);
	return nat_quick_send(&quick, data, &gets);
}

#endif
