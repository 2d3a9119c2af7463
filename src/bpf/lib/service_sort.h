/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Which service a packet is for, for programs at XDP and at tc. */
#ifndef WEIR_BPF_SERVICE_SORT_H
#define WEIR_BPF_SERVICE_SORT_H

#include "bpf/lib/service_find.h"
#include "bpf/lib/service_fragment.h"
#include "bpf/lib/service_icmp.h"
#include "bpf/lib/service_work.h"

/* Where a packet goes on behind a function that found something out. */
enum balance_fate { BALANCE_PASS, BALANCE_GO, BALANCE_ECHO };

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
packet_function int balance_sort(PACKET_CONTEXT *context)
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
	if (p->kind & FLOW_KIND_ICMP && service_is_discovery(p))
		return BALANCE_PASS;
	work->known = work->begins = work->error = work->later = work->gone = 0;
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
			if (!service_later(context)) {
				/* maybe of something that is no service's: the stack knows */
				service_lose(0, SERVICE_LOST_FRAGMENT);
				return BALANCE_PASS;
			}
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

#endif
