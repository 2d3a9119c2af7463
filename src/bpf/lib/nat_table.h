/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Connections of nat, and the ports that they get.
 *
 * Each has two entries, one for each direction, in `service_embryos` until both hosts have spoken and the
 * client then speaks again, and in `service_flows` from there on.  An entry has what a packet of its
 * direction gets, so the key of the other direction follows from it (nat_other()).
 *
 * A port is taken by the entry of the answers: who puts it into `service_embryos` (BPF_NOEXIST) while there
 * is none in `service_flows` has it.  An established entry is written before the embryo goes, so there is no
 * moment at which two can have the same.  Ports of connections that are over are taken as they are met,
 * whether there is an agent that sweeps or not.  Where all are in use those go that both hosts ended a second
 * ago, which else keep theirs for as long as TIME_WAIT, and beginnings: a flood of these has only ports of
 * others to take, and of what has ended.
 */
#ifndef WEIR_BPF_NAT_TABLE_H
#define WEIR_BPF_NAT_TABLE_H

#include "bpf/lib/service_choose.h"
#include "bpf/lib/service_icmp.h"
#include "bpf/lib/service_work.h"

#define NAT_TRIES      48       /* places that are asked for one that is free … */
#define NAT_SEARCH     256      /* … and, in a hurry, for one that could be */
#define NAT_STEP       16777259 /* a prime larger than any span: all places, in no order */
#define NAT_CHUNK      256
#define NAT_ERROR_TCP  20 /* bytes of a quoted header that are rewritten: with the checksum of TCP */
#define NAT_CLOSING    (SERVICE_FLOW_FIN | SERVICE_FLOW_FIN2 | SERVICE_FLOW_RST)
#define NAT_CLOSED     (SERVICE_FLOW_FIN | SERVICE_FLOW_FIN2)
#define NAT_END_S      60 /* TIME_WAIT */
#define NAT_RST_S      2
#define NAT_EMBRYO_S   15 /* a beginning of TCP that goes on nowhere */
#define NAT_ONCE_S     30 /* … of others: a question and its answer */
#define NAT_HURRY_S    1  /* … and what both have ended, where no other port is left */
#define NAT_TCP_S      7800
#define NAT_IDLE_S     180
#define NAT_DIRECTIONS 2

/* A packet on its way through nat. */
struct nat_work {
	struct service_key key;    /* its connection, in its direction */
	struct service_key other;  /* … and in the other */
	struct service_flow flow;  /* what it gets */
	struct service_flow back;  /* what answers get */
	struct service_key client; /* of a connection that may be over */
	__u32 start, span;         /* places: ports and addresses together */
	__u32 first, ports;
	__u32 hurry_from;
	__u32 full_tick, full; /* no place was found then, to this backend */
	__u8 embryo;           /* where the entries are */
	__u8 taken;
	__u8 partial;            /* the checksum is still to be made */
	__u8 generic;            /* … by the kernel, which knows of it */
	__u8 quoted_proto;       /* of an error */
	__u16 sum_offset;        /* of the checksum in the transport header; 0: none */
	__u32 quoted, quoted_l4; /* offsets */
	__u32 sum_at, sum_bytes; /* what is still to be added up */
	__u64 sum;
	__be32 before[12], after[12]; /* of quoted headers */
	__u8 chunk[NAT_CHUNK];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct nat_work);
} nat_works SEC(".maps");

packet_inline struct nat_work *nat_work(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&nat_works, &zero);
}

/* Protocols whose ports are rewritten.  SCTP's checksum would have to be made of all its bytes: its ports
 * stay. */
packet_inline int nat_has_ports(__u8 proto)
{
	return proto == PACKET_PROTO_TCP || proto == PACKET_PROTO_UDP || proto == PACKET_PROTO_UDPLITE ||
	       proto == PACKET_PROTO_DCCP;
}

packet_inline int nat_has_id(__u8 proto)
{
	return proto == PACKET_PROTO_ICMP || proto == PACKET_PROTO_ICMP6;
}

/* -- entries -- */

packet_inline struct service_flow *nat_entry(const struct service_key *key, int embryo)
{
	return embryo ? bpf_map_lookup_elem(&service_embryos, key) : bpf_map_lookup_elem(&service_flows, key);
}

packet_inline void nat_delete(const struct service_key *key, int embryo)
{
	if (embryo)
		bpf_map_delete_elem(&service_embryos, key);
	else
		bpf_map_delete_elem(&service_flows, key);
}

/* The key of the other direction. */
packet_inline void nat_other(
	const struct service_key *key, const struct service_flow *flow, struct service_key *other)
{
	int i;

	PACKET_UNROLL
	for (i = 0; i < 4; i++) {
		other->src[i] = flow->dst[i];
		other->dst[i] = flow->src[i];
	}
	other->sport = flow->dport;
	other->dport = flow->sport;
	other->family = key->family;
	other->proto = key->proto;
	other->reserved = 0;
}

/* Is `flow`, found by the key of the other direction, of the same connection? */
packet_inline int nat_belongs(const struct service_flow *flow, const struct service_key *key)
{
	return flow && flow->sport == key->dport && flow->dport == key->sport &&
	       flow->src[0] == key->dst[0] && flow->src[1] == key->dst[1] && flow->src[2] == key->dst[2] &&
	       flow->src[3] == key->dst[3] && flow->dst[0] == key->src[0] && flow->dst[1] == key->src[1] &&
	       flow->dst[2] == key->src[2] && flow->dst[3] == key->src[3];
}

packet_inline int nat_is_over(const struct service_flow *flow, __u8 proto, int embryo, int hurry, __u32 now)
{
	__s32 age = now - flow->last;
	__u32 seconds;

	if (flow->flags & SERVICE_FLOW_RST)
		seconds = NAT_RST_S;
	else if (flow->flags & NAT_CLOSING)
		seconds = hurry && (flow->flags & NAT_CLOSING) == NAT_CLOSED ? NAT_HURRY_S : NAT_END_S;
	else if (hurry && embryo)
		seconds = NAT_HURRY_S;
	else if (proto == PACKET_PROTO_TCP)
		seconds = embryo ? NAT_EMBRYO_S : NAT_TCP_S;
	else
		seconds = embryo ? NAT_ONCE_S : NAT_IDLE_S;
	return age > (__s32)(seconds * service_second);
}

/* Fills in the packet's entry, and the key of the other one.  0: there is none. */
packet_function int nat_find(void)
{
	struct nat_work *nat = nat_work();
	const struct service_flow *flow;

	if (!nat)
		return 0;
	nat->embryo = 0;
	flow = bpf_map_lookup_elem(&service_flows, &nat->key);
	if (!flow) {
		flow = bpf_map_lookup_elem(&service_embryos, &nat->key);
		nat->embryo = 1;
	}
	if (!flow)
		return 0;
	nat->flow = *flow;
	nat_other(&nat->key, &nat->flow, &nat->other);
	return 1;
}

/* Both entries into where a flood of beginnings pushes out nothing. */
packet_function int nat_establish(void)
{
	struct service_work *work = service_work();
	struct nat_work *nat = nat_work();
	const struct service_flow *back;

	if (!work || !nat)
		return 0;
	back = bpf_map_lookup_elem(&service_embryos, &nat->other);
	if (!back)
		return 0;
	nat->back = *back;
	if (bpf_map_update_elem(&service_flows, &nat->other, &nat->back, BPF_NOEXIST))
		goto full;
	if (bpf_map_update_elem(&service_flows, &nat->key, &nat->flow, BPF_ANY)) {
		bpf_map_delete_elem(&service_flows, &nat->other);
		goto full;
	}
	bpf_map_delete_elem(&service_embryos, &nat->key);
	bpf_map_delete_elem(&service_embryos, &nat->other);
	nat->embryo = 0;
	if (!(nat->flow.flags & NAT_CLOSING))
		service_loads_add(nat->flow.backend);
	return 1;
full:
	service_lose(work->number, SERVICE_LOST_NO_ROOM);
	return 0;
}

/* With affinity the client's address is written down, too, once it is seen to be its own. */
packet_function int nat_affinity(void)
{
	struct service_work *work = service_work();
	struct nat_work *nat = nat_work();
	struct service_flow flow = {.flags = SERVICE_FLOW_SOURCE};
	struct service_key key;

	if (!work || !nat)
		return 0;
	key = work->key;
	key.sport = key.dport = 0;
	flow.last = work->now;
	flow.generation = nat->flow.generation;
	flow.backend = nat->flow.backend;
	if (bpf_map_update_elem(&service_flows, &key, &flow, BPF_ANY))
		service_lose(work->number, SERVICE_LOST_NO_ROOM);
	return 0;
}

packet_inline void nat_count_end(__u32 backend)
{
	struct service_count *count = service_count(backend);

	if (count)
		count->ended++;
}

/* `flags` of a packet, into both entries. */
packet_inline void nat_mark(struct nat_work *nat, struct service_flow *flow, __u8 flags, __u32 now)
{
	struct service_flow *other = nat_entry(&nat->other, nat->embryo);
	int ends = flags & NAT_CLOSING && !(flow->flags & NAT_CLOSING);

	flow->flags |= flags;
	flow->last = now;
	nat->flow.flags |= flags;
	if (nat_belongs(other, &nat->key))
		other->flags |= flags;
	if (!ends)
		return;
	nat_count_end(flow->backend);
	if (!nat->embryo)
		service_loads_less(flow->backend);
}

/* The client begins anew from a port that it had before: so does the connection, on the same port. */
packet_inline void nat_begin_again(struct nat_work *nat, struct service_flow *flow)
{
	struct service_flow *other = nat_entry(&nat->other, nat->embryo);
	struct service_count *count = service_count(flow->backend);

	flow->flags &= ~NAT_CLOSING;
	nat->flow.flags &= ~NAT_CLOSING;
	if (other)
		other->flags &= ~NAT_CLOSING;
	if (count)
		count->connections++;
	if (!nat->embryo)
		service_loads_add(flow->backend);
}

/* What is about to end is told to the tick: its port may be wanted a second later. */
packet_inline void nat_touch(const struct nat_work *nat, struct service_flow *flow, __u32 now)
{
	if (nat->embryo || flow->flags & NAT_CLOSING || (flow->last ^ now) >> SERVICE_TOUCH_SHIFT)
		flow->last = now;
}

/* A packet of a client whose entry was found: 0: it counts no more, and a new one is to be made. */
packet_function int nat_goes_on(void)
{
	struct service_work *work = service_work();
	struct nat_work *nat = nat_work();
	const struct service_backend *backend;
	struct service_flow *flow;
	int again;
	__u8 flags;

	if (!work || !nat)
		return 0;
	flow = nat_entry(&nat->key, nat->embryo);
	backend = service_backend(nat->flow.backend);
	if (!flow || flow->flags & SERVICE_FLOW_ANSWER)
		return 0;
	if (work->error)
		return backend != (void *)0;
	/* A SYN that comes again before it is answered is of the same connection, also where its backend has
	 * begun to drain: the answer to the first may be on its way. */
	again = work->begins && flow->flags & NAT_CLOSING;
	if (!service_usable(backend, work->number, again) || backend->generation != flow->generation ||
		(nat->embryo && !nat_belongs(nat_entry(&nat->other, 1), &nat->key))) {
		nat_delete(&nat->key, nat->embryo);
		if (nat_belongs(nat_entry(&nat->other, nat->embryo), &nat->key))
			nat_delete(&nat->other, nat->embryo);
		return 0;
	}
	nat_touch(nat, flow, work->now);
	if (again)
		nat_begin_again(nat, flow);
	flags = service_flow_flags(work) & ~flow->flags;
	if (flags)
		nat_mark(nat, flow, flags, work->now);
	if (nat->embryo && !work->begins && nat->flow.flags & SERVICE_FLOW_OPEN) {
		const struct service *service;

		if (!nat_establish())
			return 1;
		service = service_of(work);
		if (service && service->flags & SERVICE_SOURCE)
			nat_affinity();
	}
	return 1;
}

/* -- a backend for a new connection -- */

/* 0, or enum service_loss + 1. */
packet_function int nat_choose(struct xdp_md *context)
{
	struct service_work *work = service_work();
	const struct service *service = work ? service_of(work) : (void *)0;
	const struct service_backend *backend;
	struct service_count *count;

	if (!service)
		return SERVICE_LOST_NO_BACKEND + 1;
	work->backend = 0;
	if (service->flags & SERVICE_QUIC) {
		work->backend = service_choose_quic(context);
		if (!service_usable(service_backend(work->backend), service->number, 0))
			work->backend = 0;
	}
	if (!work->backend)
		service_choose_anew(work, service, 1);
	backend = service_backend(work->backend);
	if (!backend || backend->state == SERVICE_BACKEND_NONE ||
		(service->flags & SERVICE_CLOSED && !service_usable(backend, service->number, 0)))
		return SERVICE_LOST_NO_BACKEND + 1;
	count = service_count(work->backend);
	if (count)
		count->connections++;
	return 0;
}

/* -- a port -- */

/* The connection that has the port `nat->other`: is it over?  Then it goes.  1: it was taken away here. */
packet_inline int nat_evict(
	struct nat_work *nat, const struct service_flow *back, int embryo, int hurry, __u32 now)
{
	struct service_flow *flow;

	if (!nat_is_over(back, nat->other.proto, embryo, hurry, now))
		return 0;
	nat_other(&nat->other, back, &nat->client);
	flow = nat_entry(&nat->client, embryo);
	if (!nat_belongs(flow, &nat->other))
		flow = (void *)0;
	if (flow && !nat_is_over(flow, nat->other.proto, embryo, hurry, now))
		return 0;
	/* of several that come here at once one finds it */
	if (embryo ? bpf_map_delete_elem(&service_embryos, &nat->other)
		   : bpf_map_delete_elem(&service_flows, &nat->other))
		return 0;
	if (!flow)
		return 1;
	if (!embryo && !(flow->flags & NAT_CLOSING))
		service_loads_less(flow->backend);
	nat_delete(&nat->client, embryo);
	return 1;
}

/* The next place: 1 ends the search. */
static long nat_try(__u32 i, void *unused)
{
	const struct service_source *source;
	struct service_work *work = service_work();
	struct nat_work *nat = nat_work();
	const struct service_flow *back;
	__u32 place, number, hurry;
	__u64 low;

	if (!work || !nat || !nat->span || !nat->ports)
		return 1;
	hurry = i >= nat->hurry_from;
	number = work->backend;
	source = bpf_map_lookup_elem(&service_sources, &number);
	if (!source)
		return 1;
	place = (nat->start + i * NAT_STEP) % nat->span;
	if (nat->key.family == 4) {
		nat->other.dst[0] = bpf_htonl(bpf_ntohl(source->address4) + place / nat->ports);
	} else {
		low = (__u64)bpf_ntohl(source->address6[2]) << 32 | bpf_ntohl(source->address6[3]);
		low += place / nat->ports;
		nat->other.dst[0] = source->address6[0];
		nat->other.dst[1] = source->address6[1];
		nat->other.dst[2] = bpf_htonl(low >> 32);
		nat->other.dst[3] = bpf_htonl(low);
	}
	if (nat->first)
		nat->other.dport = bpf_htons(nat->first + place % nat->ports);
	back = bpf_map_lookup_elem(&service_flows, &nat->other);
	if (back && !nat_evict(nat, back, 0, hurry, work->now))
		return 0;
	back = bpf_map_lookup_elem(&service_embryos, &nat->other);
	if (back && !nat_evict(nat, back, 1, hurry, work->now))
		return 0;
	if (bpf_map_update_elem(&service_embryos, &nat->other, &nat->back, BPF_NOEXIST))
		return 0;
	/* established since we looked */
	if (bpf_map_lookup_elem(&service_flows, &nat->other)) {
		bpf_map_delete_elem(&service_embryos, &nat->other);
		return 0;
	}
	nat->taken = 1;
	return 1;
}

/* What answers get, and the key that they will have, but for the address and port of nat. */
packet_inline void nat_prepare(struct service_work *work, struct nat_work *nat,
	const struct service_backend *backend, const struct service_source *source, int quiet)
{
	struct service_flow *back = &nat->back;
	__u8 proto = nat->key.proto;
	__u32 addresses = source->nat_addresses;
	int i;

	__builtin_memset(back, 0, sizeof(*back));
	back->last = work->now;
	back->generation = backend->generation;
	back->backend = work->backend;
	back->flags = SERVICE_FLOW_ANSWER | (quiet ? SERVICE_FLOW_QUIET : 0);
	PACKET_UNROLL
	for (i = 0; i < 4; i++) {
		back->src[i] = nat->key.dst[i];
		back->dst[i] = nat->key.src[i];
		nat->other.src[i] = backend->address[i];
		nat->other.dst[i] = 0;
	}
	back->sport = nat->key.dport;
	back->dport = nat->key.sport;
	/* a tag would have to be put on again: such clients are left to the kernel's tables */
	if (work->packet.l3_offset == 14) {
		back->ifindex = work->ifindex;
		__builtin_memcpy(back->dmac, work->link + 6, 6);
		__builtin_memcpy(back->smac, work->link, 6);
	}
	nat->other.family = nat->key.family;
	nat->other.proto = proto;
	nat->other.reserved = 0;
	nat->other.sport = backend->port && nat_has_ports(proto) ? backend->port : nat->key.dport;
	nat->other.dport = nat->key.sport;
	nat->first = 0;
	nat->ports = 1;
	if (nat_has_ports(proto) || nat_has_id(proto)) {
		nat->first = bpf_ntohs(source->first);
		nat->ports = bpf_ntohs(source->last) - nat->first + 1;
	}
	nat->span = (addresses ? addresses : 1) * nat->ports;
	nat->start = bpf_get_prandom_u32() & 0xffffff;
}

/* A port, and both entries.  0, or enum service_loss + 1. */
packet_function int nat_take(void)
{
	struct service_work *work = service_work();
	const struct service *service = work ? service_of(work) : (void *)0;
	struct nat_work *nat = nat_work();
	const struct service_backend *backend;
	const struct service_source *source;
	__u32 number, full;

	if (!service || !nat)
		return SERVICE_LOST_NO_BACKEND + 1;
	number = work->backend;
	backend = service_backend(number);
	source = bpf_map_lookup_elem(&service_sources, &number);
	if (!backend || !source || backend->family != nat->key.family)
		return SERVICE_LOST_NO_BACKEND + 1;
	nat_prepare(work, nat, backend, source, service->flags & SERVICE_NO_FLOWS);
	nat->taken = 0;
	/* a flood must not make each of its packets look everywhere */
	full = nat->full == number && nat->full_tick == work->now;
	nat->hurry_from = full ? 0 : NAT_TRIES;
	bpf_loop(full ? NAT_TRIES : NAT_SEARCH, nat_try, (void *)0, 0);
	if (!nat->taken) {
		nat->full = number;
		nat->full_tick = work->now;
		return SERVICE_LOST_NO_PORT + 1;
	}
	__builtin_memset(&nat->flow, 0, sizeof(nat->flow));
	nat->flow.last = work->now;
	nat->flow.generation = backend->generation;
	nat->flow.backend = number;
	nat->flow.flags = service_flow_flags(work);
	nat->flow.sport = nat->other.dport;
	nat->flow.dport = nat->other.sport;
	__builtin_memcpy(nat->flow.src, nat->other.dst, sizeof(nat->flow.src));
	__builtin_memcpy(nat->flow.dst, nat->other.src, sizeof(nat->flow.dst));
	nat->embryo = 1;
	if (!bpf_map_update_elem(&service_embryos, &nat->key, &nat->flow, BPF_NOEXIST))
		return 0;
	/* another packet of the same was quicker: its port it is */
	bpf_map_delete_elem(&service_embryos, &nat->other);
	return nat_find() ? 0 : SERVICE_LOST_NO_ROOM + 1;
}

#endif
