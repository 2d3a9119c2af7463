// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * Services at XDP (shared/service.h): finds the backend of a packet, accounts it, and sends it there.
 *
 * The program at XDP (bpf/shield.bpf.c) goes on here with all that it does not drop.  What is not for a
 * service leaves as early as possible.  A packet is not changed before all is known about it; what this
 * program does not deliver for a reason of its own goes on as it came: to forwarding, steering, the stack.
 */
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#define PACKET_CONTEXT                          struct xdp_md
#define packet_load(context, offset, to, bytes) bpf_xdp_load_bytes(context, offset, to, bytes)

#include "bpf/lib/chain.h"
#include "bpf/lib/decide.h"
#include "bpf/lib/encapsulate.h"
#include "bpf/lib/packet.h"
#include "bpf/lib/service_choose.h"
#include "bpf/lib/service_find.h"
#include "bpf/lib/service_icmp.h"
#include "bpf/lib/service_line.h"
#include "bpf/lib/service_maps.h"
#include "bpf/lib/service_quick.h"
#include "bpf/lib/service_work.h"

#define BALANCE_FRAGMENT_TICKS CONNECTION_FRAGMENT_TICKS

#define BALANCE_NAT 0x100 /* no verdict: it goes on in another program */

/* Where a packet goes on behind a function that found something out. */
enum balance_fate { BALANCE_PASS, BALANCE_GO, BALANCE_ECHO };

/* -- reading -- */

/* Reads the whole packet. */
packet_function int balance_read(struct xdp_md *context)
{
	void *data = (void *)(long)context->data, *end = (void *)(long)context->data_end;
	struct service_work *work = service_work();
	struct packet *p;
	__u32 room;

	if (!work || data + 38 > end)
		return BALANCE_PASS;
	p = &work->packet;
	__builtin_memset(p, 0, sizeof(*p));
	p->reason = packet_parse(context, data, end, 1, 0, p);
	if (p->reason != PARSE_OK || !p->family)
		return BALANCE_PASS;
	__builtin_memcpy(work->link, data, SERVICE_LINK_MAX);
	work->bytes = bpf_xdp_get_buff_len(context);
	work->ifindex = context->ingress_ifindex;
	room = work->bytes - p->l3_offset;
	if (p->family == 4) {
		__be16 total;

		if (packet_load(context, p->l3_offset + 2, &total, 2))
			return BALANCE_PASS;
		work->ip_bytes = bpf_ntohs(total);
	} else {
		__be16 payload;

		if (packet_load(context, p->l3_offset + 4, &payload, 2) || !payload)
			return BALANCE_PASS;
		work->ip_bytes = bpf_ntohs(payload) + sizeof(struct packet_ip6);
	}
	return work->ip_bytes <= room && work->ip_bytes > 20 ? BALANCE_GO : BALANCE_PASS;
}

/* -- fragments -- */

packet_inline int balance_fragment_key(struct xdp_md *context, struct service_work *work)
{
	struct connection_fragment_key *key = &work->fragment;
	const struct packet *p = &work->packet;
	int i;

	__builtin_memset(key, 0, sizeof(*key));
	PACKET_UNROLL
	for (i = 0; i < 4; i++) {
		key->src[i] = p->src[i];
		key->dst[i] = p->dst[i];
	}
	key->family = p->family;
	key->proto = p->proto;
	if (p->family == 4) {
		__be16 id;

		if (packet_load(context, p->l3_offset + 4, &id, 2))
			return 0;
		key->id = id;
		return 1;
	}
	/* the fragment header stands last, but for what the first fragment has behind it */
	return !packet_load(context, work->fragment_offset + 4, &key->id, 4);
}

/* Where the fragment header of IPv6 is: 0: not found. */
packet_function int balance_find_fragment(struct xdp_md *context)
{
	struct service_work *work = service_work();
	struct packet_extension extension;
	__u32 offset, i;
	__u8 proto;

	if (!work)
		return 0;
	offset = work->packet.l3_offset + sizeof(struct packet_ip6);
	if (packet_load(context, work->packet.l3_offset + 6, &proto, 1))
		return 0;
	for (i = 0; i < PACKET_EXTENSIONS_MAX; i++) {
		if (proto == PACKET_PROTO_FRAGMENT)
			return offset;
		if (!packet_is_extension(proto) ||
			packet_load(context, offset, &extension, sizeof(extension)))
			return 0;
		proto = extension.next;
		offset += (extension.length + 1) * 8;
	}
	return 0;
}

/* A later fragment: has its first one gone by?  Then its ports are known. */
packet_function int balance_later(struct xdp_md *context)
{
	struct service_work *work = service_work();
	struct connection_fragment_key key;
	struct service_fragment *fragment;

	if (!work)
		return BALANCE_PASS;
	work->fragment_offset = work->packet.family == 6 ? balance_find_fragment(context) : 0;
	if (!balance_fragment_key(context, work))
		return BALANCE_PASS;
	key = work->fragment;
	fragment = bpf_map_lookup_elem(&service_fragments, &key);
	/* maybe of something that is no service's: the stack knows */
	if (!fragment || work->now - fragment->seen > BALANCE_FRAGMENT_TICKS) {
		service_lose(0, SERVICE_LOST_FRAGMENT);
		return BALANCE_PASS;
	}
	work->backend = fragment->backend;
	work->sport = fragment->sport;
	work->dport = fragment->dport;
	return BALANCE_GO;
}

/* A first fragment whose backend is known. */
packet_function int balance_first(struct xdp_md *context)
{
	struct service_work *work = service_work();
	struct service_fragment fragment = {};
	struct connection_fragment_key key;

	if (!work)
		return 0;
	work->fragment_offset = work->packet.family == 6 ? balance_find_fragment(context) : 0;
	if (!balance_fragment_key(context, work))
		return 0;
	key = work->fragment;
	fragment.seen = work->now;
	fragment.backend = work->backend;
	fragment.sport = work->packet.sport;
	fragment.dport = work->packet.dport;
	bpf_map_update_elem(&service_fragments, &key, &fragment, BPF_ANY);
	return 0;
}

/* -- which service -- */

packet_inline void balance_key(struct service_work *work)
{
	struct service_key *key = &work->key;
	const struct packet *p = &work->packet;
	int i;

	__builtin_memset(key, 0, sizeof(*key));
	PACKET_UNROLL
	for (i = 0; i < 4; i++) {
		key->src[i] = p->src[i];
		key->dst[i] = p->dst[i];
	}
	key->family = p->family;
	key->proto = p->proto;
	key->sport = work->sport;
	key->dport = work->dport;
}

/* Finds the service, and the connection as it is written down. */
packet_function int balance_sort(struct xdp_md *context)
{
	struct service_work *work = service_work();
	const struct service_book *head;
	const struct service *service;
	const struct packet *p;
	void *book;

	if (!work)
		return BALANCE_PASS;
	book = service_book(work);
	if (!book)
		return BALANCE_PASS;
	head = (const void *)trie_unit(book, 0);
	if (!head)
		return BALANCE_PASS;
	p = &work->packet;
	work->known = work->begins = work->error = work->later = 0;
	work->backend = work->way = 0;
	work->sport = p->kind & FLOW_KIND_PORTS ? p->sport : 0;
	work->dport = p->kind & FLOW_KIND_PORTS ? p->dport : 0;
	if (p->kind & FLOW_KIND_ICMP && service_is_error(p)) {
		if (!service_read_error(context))
			return BALANCE_PASS;
		work->error = 1;
		work->sport = work->key.sport;
		work->dport = work->key.dport;
		work->unit = service_find(book, head, work->address, work->key.proto, work->dport);
	} else {
		if (p->fragment == PACKET_FRAGMENT_LATER) {
			if (balance_later(context) == BALANCE_PASS)
				return BALANCE_PASS;
			work->later = 1;
		}
		balance_key(work);
		work->unit = service_find(book, head, work->address, p->proto, work->dport);
		if (!work->unit && p->kind & FLOW_KIND_ICMP && service_is_echo(p) && !p->fragment)
			return BALANCE_ECHO;
	}
	if (!work->unit)
		return BALANCE_PASS;
	service = (const void *)trie_unit(book, work->unit);
	if (!service)
		return BALANCE_PASS;
	work->number = service->number;
	work->deliver = service->deliver;
	work->begins = !work->error && p->proto == PACKET_PROTO_TCP &&
	               (p->tcp_flags & (PACKET_TCP_SYN | PACKET_TCP_ACK)) == PACKET_TCP_SYN;
	return BALANCE_GO;
}

/* -- all of it -- */

/* Chooses, and delivers. */
packet_inline int balance_deliver(struct xdp_md *context, struct service_work *work)
{
	const struct service *service = service_of(work);
	struct service_backend *backend;
	__u32 mtu, lost;

	if (!service)
		return XDP_PASS;
	if (!(service->flags & SERVICE_NO_FLOWS)) {
		__u32 of_fragment = work->backend;

		service_account();
		if (work->later || work->error) {
			/* the line is of other connections, too */
			work->known = work->way = 0;
			work->backend = of_fragment;
		}
	}
	if (service->deliver == SERVICE_NAT)
		return BALANCE_NAT;
	if (!work->later || !service_usable(service_backend(work->backend), work->number, 0)) {
		lost = service_choose(context);
		if (lost)
			goto lost;
	}
	backend = service_backend(work->backend);
	if (!backend)
		return XDP_PASS;
	if (!hop_is_fresh(backend, work->now)) {
		lost = service_hop(context);
		if (lost)
			goto lost;
	}
	service_remember();
	if (work->packet.fragment == PACKET_FRAGMENT_FIRST)
		balance_first(context);
	mtu = encapsulate_mtu(service, backend);
	if (mtu && work->ip_bytes > mtu) {
		service_lose(work->number, SERVICE_LOST_TOO_BIG);
		return service_tell(context, mtu);
	}
	if (service->mss && work->packet.tcp_flags & PACKET_TCP_SYN)
		service_clamp(context, service->mss);
	return service_deliver(context);
lost:
	service_lose(work->number, lost - 1);
	return XDP_DROP;
}

/* Which place of the books is in force. */
packet_inline __u32 balance_place(__u32 now)
{
	__u32 zero = 0;
	const struct policy_now *in_force = bpf_map_lookup_elem(&policy_now, &zero);
	__u64 places;

	if (!in_force)
		return 0;
	places = decide_lapsed(in_force, now) ? in_force->places_before : in_force->places;
	return places >> SERVICE_PLACE & 1;
}

/* All but what is usual, once the address is known to be a service's: a verdict, or BALANCE_NAT. */
static __noinline int balance_any(struct xdp_md *context, __u32 place, __u32 address, __u32 now)
{
	struct service_work *work = service_work();

	if (!work)
		return XDP_PASS;
	work->now = now;
	work->place = place;
	work->address = address;
	if (balance_read(context) == BALANCE_PASS)
		return XDP_PASS;
	switch (balance_sort(context)) {
	case BALANCE_GO:
		return balance_deliver(context, work);
	case BALANCE_ECHO:
		service_account();
		return service_echo(context);
	default:
		return XDP_PASS;
	}
}

packet_inline int balance_judge(struct xdp_md *context)
{
	void *data = (void *)(long)context->data, *end = (void *)(long)context->data_end;
	__u32 now = bpf_jiffies64(), place = balance_place(now), address, offset;
	void *book = bpf_map_lookup_elem(&service_books, &place);
	const struct service_book *head = book ? (const void *)trie_unit(book, 0) : (void *)0;
	int verdict = -1;
	__be16 ethertype;

	if (!head || !head->count)
		return XDP_PASS;
	offset = packet_network(data, end, &ethertype);
	if (!offset)
		return XDP_PASS;
	if (ethertype == bpf_htons(PACKET_ETH_IPV4)) {
		struct packet_ip4 *ip = data + offset;

		if ((void *)(ip + 1) > end)
			return XDP_PASS;
		address = service_address4(book, head, ip->dst);
		if (!address)
			return XDP_PASS;
		if (offset == 14)
			verdict = quick4(context, book, head, address, now);
	} else if (ethertype == bpf_htons(PACKET_ETH_IPV6)) {
		struct packet_ip6 *ip = data + offset;

		if ((void *)(ip + 1) > end)
			return XDP_PASS;
		address = service_address6(book, head, (const __be32 *)ip->dst);
		if (!address)
			return XDP_PASS;
		if (offset == 14)
			verdict = quick6(context, book, head, address, now);
	} else {
		return XDP_PASS;
	}
	return verdict < 0 ? balance_any(context, place, address, now) : verdict;
}

SEC("xdp.frags") int balance(struct xdp_md *context)
{
	int verdict = balance_judge(context);

	if (verdict == BALANCE_NAT) {
		bpf_tail_call(context, &service_programs, SERVICE_PROGRAM_NAT);
		verdict = XDP_PASS;
	}
	return verdict == XDP_PASS ? chain_pass(context, CHAIN_FORWARD) : verdict;
}

char _license[] SEC("license") = "Dual BSD/GPL";
