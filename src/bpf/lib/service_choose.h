/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Which backend a packet goes to (shared/service.h tells the order in which that is found out).
 */
#ifndef WEIR_BPF_SERVICE_CHOOSE_H
#define WEIR_BPF_SERVICE_CHOOSE_H

#include "bpf/lib/service_work.h"

#define SERVICE_TOUCH_SHIFT                                                                                  \
	8 /* `last` of what is written down is right to so many ticks, as a power of two */
#define SERVICE_WRITTEN (SERVICE_KEEP | SERVICE_MOVED | SERVICE_KEPT)

/* Ticks of a second: the agent sets it. */
const volatile __u32 service_second = 250;

#define SERVICE_STALE_TICKS (service_second * 4 / 5) /* less than that after which ends are used again */
/* of an established connection without a packet that a SYN begins anew */
#define SERVICE_OVER_TICKS (60 * service_second)

packet_inline int service_usable(const struct service_backend *backend, __u32 number, int begins)
{
	return backend && backend->service == number &&
	       (backend->state == SERVICE_BACKEND_UP ||
		       (backend->state == SERVICE_BACKEND_DRAINING && !begins));
}

/* -- the ring -- */

packet_inline __u32 service_in_ring(__u32 ring, __u32 slot)
{
	void *memory = ring ? bpf_map_lookup_elem(&service_rings, &ring) : (void *)0;
	const struct policy_unit *unit = memory ? trie_unit(memory, slot >> 5) : (void *)0;

	return unit ? service_ring_backend(unit, slot) : 0;
}

packet_inline __u32 service_slot_of(const struct service *service, const struct service_work *work)
{
	const struct service_key *key = &work->key;
	__u64 ends = service_ends(work->sport, work->dport, key->proto);
	__u32 hash = key->family == 4
	                     ? service_hash4(service->seed, service->flags, key->src[0], key->dst[0], ends)
	                     : service_hash6(service->seed, service->flags, key->src, key->dst, ends);

	return service_slot(hash, service->slots);
}

/* -- choices without a ring of hashes -- */

#define SERVICE_LISTED_MAX   1024 /* backends of one service */
#define SERVICE_SEARCH_STEPS 11   /* to find one of them by halves */

/* What was found so far stands in `work`: a verifier that looks at a loop's body once must not take for
 * certain what that wrote. */
struct service_least {
	void *book;
	const struct service *service;
	struct service_work *work;
};

static long service_least_step(__u32 i, struct service_least *least)
{
	__u32 number = service_listed(least->book, least->service, i);
	const struct service_backend *backend = service_backend(number);
	struct service_load *load;
	__u64 load_of;

	if (!number)
		return 1;
	load = bpf_map_lookup_elem(&service_loads, &number);
	if (!load || !load->weight || !service_usable(backend, least->service->number, 1))
		return 0;
	load_of = (((__u64)load->connections + 1) << 32) / load->weight;
	if (!least->work->backend || load_of < least->work->least) {
		least->work->least = load_of;
		least->work->backend = number;
	}
	return 0;
}

packet_function int service_choose_least(void)
{
	struct service_work *work = service_work();
	struct service_least least = {.work = work};

	if (!work)
		return 0;
	work->backend = 0;
	least.book = service_book(work);
	if (!least.book)
		return 0;
	least.service = (const void *)trie_unit(least.book, work->unit);
	if (!least.service)
		return 0;
	bpf_loop(SERVICE_LISTED_MAX, service_least_step, &least, 0);
	return work->backend;
}

packet_inline __u32 service_choose_turn(const struct service *service)
{
	__u32 number = service->number, *turn = bpf_map_lookup_elem(&service_turns, &number);

	if (!turn || !service->slots)
		return 0;
	return service_in_ring(service->ring, __sync_fetch_and_add(turn, 1) % service->slots);
}

/* -- connection ids of QUIC (RFC 9000, 17) -- */

packet_function int service_choose_quic(PACKET_CONTEXT *context)
{
	struct service_work *work = service_work();
	const struct service *service = work ? service_of(work) : (void *)0;
	__u32 offset, i;
	__u8 bytes[8] = {};
	__u16 id;
	void *book;

	if (!service || work->packet.proto != PACKET_PROTO_UDP || work->error || work->later)
		return 0;
	offset = work->packet.l4_offset + 8;
	/* a long header: flags, version, length of the id; a short one: flags */
	if (packet_load(context, offset, bytes, 1))
		return 0;
	if (bytes[0] & 0x80) {
		if (packet_load(context, offset + 5, bytes, 4) || bytes[0] < 8)
			return 0;
		offset += 6;
	} else {
		offset += 1;
	}
	if (packet_load(context, offset, bytes, 3) || bytes[0] >> 6 != 1)
		return 0;
	id = (bytes[0] & 0x3f) << 10 | bytes[1] << 2 | bytes[2] >> 6;
	book = service_book(work);
	if (!book || !service->server_count)
		return 0;
	/* both in `work`: the verifier must find each step the same, or it follows all ways there are of so
	 * many */
	work->low = 0;
	work->high = service->server_count;
#pragma clang loop unroll(disable)
	for (i = 0; i < SERVICE_SEARCH_STEPS && work->low < work->high; i++) {
		__u32 middle = (work->low + work->high) / 2;
		const struct policy_unit *unit = trie_unit(book, service->servers + (middle >> 4));
		const struct service_server *server;

		if (!unit)
			return 0;
		server = (const struct service_server *)unit + (middle & 15);
		if (server->id == id)
			return server->backend;
		if (server->id < id)
			work->low = middle + 1;
		else
			work->high = middle;
	}
	return 0;
}

/* -- connections that are written down -- */

packet_inline void service_loads_add(__u32 number)
{
	struct service_load *load = bpf_map_lookup_elem(&service_loads, &number);

	if (load)
		__sync_fetch_and_add(&load->connections, 1);
}

/* Only LEAST counts them up. */
packet_inline void service_loads_less(__u32 number)
{
	struct service_load *load = bpf_map_lookup_elem(&service_loads, &number);

	if (load && (__s32)load->connections > 0)
		__sync_fetch_and_add(&load->connections, -1);
}

packet_inline __u8 service_flow_flags(const struct service_work *work)
{
	__u8 flags = work->packet.tcp_flags;

	return (flags & PACKET_TCP_FIN ? SERVICE_FLOW_FIN : 0) |
	       (flags & PACKET_TCP_RST ? SERVICE_FLOW_RST : 0);
}

/* What is seen for the first time is written where a flood of such can push out nothing else; what has been
 * seen before, to stay. */
packet_inline void service_write(const struct service_work *work, const struct service_key *key,
	const struct service_flow *flow, int seen)
{
	if (!seen) {
		if (!bpf_map_update_elem(&service_embryos, key, flow, BPF_ANY))
			return;
	} else if (!bpf_map_update_elem(&service_flows, key, flow, BPF_ANY)) {
		bpf_map_delete_elem(&service_embryos, key);
		return;
	}
	service_lose(work->number, SERVICE_LOST_NO_ROOM);
}

/* Writes the packet's connection down. */
packet_function int service_keep(int seen)
{
	struct service_work *work = service_work();
	struct service_flow flow = {};
	const struct service_backend *backend;
	struct service_key key;
	__u32 number;

	if (!work)
		return 0;
	number = work->backend;
	backend = service_backend(number);
	if (!backend)
		return 0;
	key = work->key;
	flow.last = work->now;
	flow.generation = backend->generation;
	flow.backend = number;
	flow.flags = service_flow_flags(work);
	service_write(work, &key, &flow, seen);
	return 0;
}

/* Nobody's any more: what is written down later is of another connection, and must not stand behind it. */
packet_inline void service_forget(const struct service_key *key, const struct service_flow *flow)
{
	const struct service_backend *backend = service_backend(flow->backend);

	if (!(flow->flags & (SERVICE_FLOW_FIN | SERVICE_FLOW_RST)) && backend &&
		backend->generation == flow->generation)
		service_loads_less(flow->backend);
	bpf_map_delete_elem(&service_flows, key);
	bpf_map_delete_elem(&service_embryos, key);
}

/* What is written down about the packet's connection: its backend, or 0. */
packet_function int service_kept(void)
{
	struct service_work *work = service_work();
	const struct service_backend *backend;
	struct service_flow *flow;
	struct service_flow known;
	int embryo = 0, over;
	struct service_key key;
	__u8 flags;

	if (!work)
		return 0;
	key = work->key;
	flow = bpf_map_lookup_elem(&service_flows, &key);
	if (!flow) {
		flow = bpf_map_lookup_elem(&service_embryos, &key);
		embryo = 1;
	}
	if (!flow)
		return 0;
	/* the same ports again */
	over = flow->flags & (SERVICE_FLOW_FIN | SERVICE_FLOW_RST) ||
	       (!embryo && work->now - flow->last > SERVICE_OVER_TICKS);
	over = over && work->begins && key.proto == PACKET_PROTO_TCP;
	backend = service_backend(flow->backend);
	if (over || !service_usable(backend, work->number, 0) || backend->generation != flow->generation) {
		if (!work->error)
			service_forget(&key, flow);
		work->over = over;
		work->gone = !over;
		return 0;
	}
	if (work->error)
		return flow->backend;
	flags = service_flow_flags(work);
	if (flags && !(flow->flags & (SERVICE_FLOW_FIN | SERVICE_FLOW_RST))) {
		flow->flags |= flags;
		service_loads_less(flow->backend);
	}
	if (embryo && !work->begins) {
		known = *flow;
		known.last = work->now;
		service_write(work, &key, &known, 1);
		return known.backend;
	}
	if ((flow->last ^ work->now) >> SERVICE_TOUCH_SHIFT)
		flow->last = work->now;
	return flow->backend;
}

/* -- affinity -- */

/* The backend that the packet's source has had lately, where the ring may say otherwise by now: 0, or one
 * that gets new connections. */
packet_function int service_affine(void)
{
	struct service_work *work = service_work();
	const struct service_backend *backend;
	struct service_flow *kept, flow;
	struct service_key key;

	if (!work)
		return 0;
	key = work->key;
	key.sport = key.dport = 0;
	kept = bpf_map_lookup_elem(&service_flows, &key);
	if (!kept)
		kept = bpf_map_lookup_elem(&service_embryos, &key);
	if (!kept)
		return 0;
	flow = *kept;
	backend = service_backend(flow.backend);
	if (!service_usable(backend, work->number, 1) || backend->generation != flow.generation) {
		/* or it would be the source's once more when it is back, amid datagrams that go elsewhere */
		bpf_map_delete_elem(&service_flows, &key);
		bpf_map_delete_elem(&service_embryos, &key);
		return 0;
	}
	flow.last = work->now;
	service_write(work, &key, &flow, 1);
	return flow.backend;
}

packet_function int service_affine_keep(void)
{
	struct service_work *work = service_work();
	struct service_flow flow = {.flags = SERVICE_FLOW_SOURCE};
	const struct service_backend *backend;
	struct service_key key;
	__u32 number;

	if (!work)
		return 0;
	number = work->backend;
	backend = service_backend(number);
	if (!backend)
		return 0;
	key = work->key;
	key.sport = key.dport = 0;
	flow.last = work->now;
	flow.generation = backend->generation;
	flow.backend = number;
	/* what is there is of a backend that gets no new connections any more */
	if (bpf_map_lookup_elem(&service_flows, &key))
		bpf_map_update_elem(&service_flows, &key, &flow, BPF_EXIST);
	else
		service_write(work, &key, &flow, 0);
	return 0;
}

/* -- all together -- */

/* May the ends of a line that was used last at `last` be another connection's by now? */
packet_inline int service_is_silent(__u32 last, __u32 now)
{
	return now - last > SERVICE_STALE_TICKS;
}

/* Is such a line to be held against what is written down?  Now and then, so that this is touched, too. */
packet_inline int service_is_due(__u32 last, __u32 now)
{
	return (last ^ now) >> SERVICE_TOUCH_SHIFT || service_is_silent(last, now);
}

/* Had the connection of a TCP packet a backend that is gone?  Whom it is sent to now ends it: nothing of it
 * is kept, and what begins with its ends is another. */
packet_inline int service_is_gone(
	const struct service_work *work, const struct service *service, __u32 backend_of_line)
{
	const struct service_backend *backend = service_backend(backend_of_line);

	if (work->begins || work->error || work->later || work->key.proto != PACKET_PROTO_TCP)
		return 0;
	return work->gone || (work->known && backend &&
				     (!service_usable(backend, service->number, 0) ||
					     (__s32)(work->last - backend->since) <= 0));
}

/* A packet whose line knows the backend: has what is written down to be touched, too? */
packet_inline int service_due(const struct service_work *work, const struct service *service)
{
	__u8 flags = work->packet.tcp_flags;

	if (!(service->flags & SERVICE_WRITTEN) || work->error)
		return 0;
	return service_is_due(work->last, work->now) || flags & (PACKET_TCP_FIN | PACKET_TCP_RST) ||
	       (flags & PACKET_TCP_ACK && !(work->tcp_flags & PACKET_TCP_ACK));
}

packet_inline __u32 service_held(const struct service_work *work, const struct service *service)
{
	const struct service_backend *backend = service_backend(work->backend);

	if (!work->known || !service_usable(backend, service->number, 0) ||
		(__s32)(work->last - backend->since) <= 0)
		return 0;
	/* A SYN that comes again is of the same connection as the first, also where its backend has begun to
	 * drain: the answer to the first may be on its way.  Else it begins another one. */
	if (work->begins && work->tcp_flags != PACKET_TCP_SYN)
		return 0;
	return work->backend;
}

/* Does a packet that nothing is known of go where new connections of its source do?  What shows no beginning
 * does, as long as that is asked: such a flow is written down wherever it is, since the source may get
 * another backend any time. */
packet_inline int service_strays(const struct service_work *work, const struct service *service)
{
	return service->flags & SERVICE_SOURCE && service->flags & SERVICE_WRITTEN &&
	       work->key.proto != PACKET_PROTO_TCP;
}

/* Would a packet that nothing is known of go elsewhere, now or later? */
packet_inline int service_differs(
	const struct service_work *work, const struct service *service, __u32 backend)
{
	__u32 slot;

	if (service->flags & SERVICE_KEEP || service_strays(work, service))
		return 1;
	slot = service_slot_of(service, work);
	return service_in_ring(service->ring, slot) != backend ||
	       (service->flags & SERVICE_MOVED && service_in_ring(service->before, slot) != backend);
}

/* Is the line of another connection that had the same ends?  That may be where packets of a connection come
 * by several CPUs: each has lines of its own.  What is not written down stands where the ring of before has
 * it; if it is not TCP, also where the ring in force does. */
packet_inline int service_is_stale(
	const struct service_work *work, const struct service *service, __u32 backend)
{
	__u32 slot;

	if (service->flags & SERVICE_KEEP || !service_is_silent(work->last, work->now))
		return 0;
	slot = service_slot_of(service, work);
	if (service->flags & SERVICE_MOVED && service_in_ring(service->before, slot) == backend)
		return 0;
	return (service->flags & SERVICE_MOVED && work->key.proto == PACKET_PROTO_TCP) ||
	       service_in_ring(service->ring, slot) != backend;
}

/* A SYN amid a connection that lives, as far as its line knows and nothing that is written down, is maybe a
 * stranger's: its backend asks (RFC 5961, 4), and what begins anew then begins behind a RST.  Not so where
 * the line is of a connection before the last one, whose packets came by other CPUs: the others would not
 * know where this one goes. */
packet_inline int service_lives(
	const struct service_work *work, const struct service *service, __u32 backend_of_line)
{
	const struct service_backend *backend = service_backend(backend_of_line);

	if (!work->known || !work->begins || work->over || !(work->tcp_flags & PACKET_TCP_ACK) ||
		work->tcp_flags & (PACKET_TCP_FIN | PACKET_TCP_RST) ||
		!service_usable(backend, service->number, 0) || (__s32)(work->last - backend->since) <= 0)
		return 0;
	if (!service_is_silent(work->last, work->now))
		return 1;
	return work->now - work->last <= SERVICE_OVER_TICKS && !(service->flags & SERVICE_KEEP) &&
	       !service_is_stale(work, service, backend_of_line);
}

/* 1: it is to be written down. */
packet_inline int service_choose_anew(struct service_work *work, const struct service *service, int begins)
{
	__u32 slot, now, before;

	if (begins && service->flags & SERVICE_SOURCE && service->flags & SERVICE_WRITTEN) {
		work->backend = service_affine();
		if (work->backend)
			return service_differs(work, service, work->backend);
	}
	if (begins && service->choice == SERVICE_TURNS) {
		work->backend = service_choose_turn(service);
		return 1;
	}
	if (begins && service->choice == SERVICE_LEAST) {
		work->backend = service_choose_least();
		return 1;
	}
	slot = service_slot_of(service, work);
	now = service_in_ring(service->ring, slot);
	work->backend = now;
	if (!(service->flags & SERVICE_MOVED))
		return service->flags & SERVICE_KEEP || service_strays(work, service);
	before = service_in_ring(service->before, slot);
	if (before == now)
		return service->flags & SERVICE_KEEP || service_strays(work, service);
	if (begins)
		return 1;
	if (service_usable(service_backend(before), service->number, 0))
		work->backend = before;
	return 1;
}

/* Finds the backend; 0, or why there is none: enum service_loss + 1. */
packet_function int service_choose(PACKET_CONTEXT *context)
{
	struct service_work *work = service_work();
	const struct service *service = work ? service_of(work) : (void *)0;
	struct service_backend *backend;
	struct service_count *count;
	__u32 held, kept, line, written;
	int keep = 0, begins;

	if (!service)
		return SERVICE_LOST_NO_BACKEND + 1;
	written = service->flags & SERVICE_WRITTEN;
	if (!work->known)
		work->tcp_flags = 0;
	line = work->backend;
	held = service_held(work, service);
	/* an id that names a backend says more than the ends: those of one client may be another's by now */
	if (service->flags & SERVICE_QUIC) {
		work->backend = service_choose_quic(context);
		if (service_usable(service_backend(work->backend), service->number, 0))
			goto found;
	}
	if (held && service_due(work, service)) {
		kept = service_kept();
		work->backend = held;
		if (kept)
			held = kept;
		else if (service_is_stale(work, service, held))
			held = 0;
		else if (service_differs(work, service, held))
			service_keep(!service_flow_flags(work));
	}
	work->backend = held;
	work->over = work->gone = 0;
	if (held)
		goto found;
	work->backend = written ? service_kept() : 0;
	if (!work->backend && service_lives(work, service, line)) {
		work->backend = line;
		if (written && service_differs(work, service, line))
			service_keep(1);
	}
	if (!work->backend) {
		/* what has no SYN begins with its first packet */
		begins = work->begins || (work->key.proto != PACKET_PROTO_TCP && !work->error);
		work->gone = service_is_gone(work, service, line);
		keep = service_choose_anew(work, service, begins) && !work->gone;
		backend = service_backend(work->backend);
		if (!backend || backend->state == SERVICE_BACKEND_NONE ||
			(service->flags & SERVICE_CLOSED && !service_usable(backend, service->number, 0)))
			return SERVICE_LOST_NO_BACKEND + 1;
		if (begins && !work->error) {
			count = service_count(work->backend);
			if (count)
				count->connections++;
			if (service->choice == SERVICE_LEAST)
				service_loads_add(work->backend);
		}
		if (keep && !work->error) {
			struct service_lost *lost = service_lost(work->number);

			if (lost)
				lost->kept++;
			service_keep(0);
			if (begins && service->flags & SERVICE_SOURCE)
				service_affine_keep();
		}
	}
found:
	if (service_flow_flags(work) && !(work->tcp_flags & (PACKET_TCP_FIN | PACKET_TCP_RST))) {
		count = service_count(work->backend);
		if (count)
			count->ended++;
	}
	return 0;
}

#endif
