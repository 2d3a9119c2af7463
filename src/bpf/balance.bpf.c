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
#include "bpf/lib/encapsulate.h"
#include "bpf/lib/packet.h"
#include "bpf/lib/service_choose.h"
#include "bpf/lib/service_find.h"
#include "bpf/lib/service_icmp.h"
#include "bpf/lib/service_line.h"
#include "bpf/lib/service_maps.h"
#include "bpf/lib/service_quick.h"
#include "bpf/lib/service_read.h"
#include "bpf/lib/service_settle.h"
#include "bpf/lib/service_sort.h"
#include "bpf/lib/service_tell.h"
#include "bpf/lib/service_work.h"

/* No verdicts: it goes on in another program. */
#define BALANCE_NAT       0x100
#define BALANCE_ANSWER    0x101
#define BALANCE_NAT_QUICK 0x102
#define BALANCE_LONG      0x103

/* Chooses, and delivers. */
packet_inline int balance_deliver(struct xdp_md *context, struct service_work *work)
{
	const struct service *service = service_of(work);
	struct service_backend *backend;
	__u32 mtu, lost = 0;

	if (!service)
		return XDP_PASS;
	service_account_for(work, service);
	if (service->deliver == SERVICE_NAT)
		return BALANCE_NAT;
	backend = service_settle(context, work, &lost);
	if (!backend) {
		service_lose(work->number, lost - 1);
		return XDP_DROP;
	}
	mtu = encapsulate_mtu(service, backend);
	if (mtu && work->ip_bytes > mtu) {
		service_lose(work->number, SERVICE_LOST_TOO_BIG);
		return service_tell(context, mtu);
	}
	if (service->mss && work->packet.tcp_flags & PACKET_TCP_SYN)
		service_clamp(context, service->mss);
	return service_deliver(context);
}

/* -- what is usual -- */

packet_inline int balance_judge(struct xdp_md *context)
{
	void *data = (void *)(long)context->data, *end = (void *)(long)context->data_end;
	__u32 now = bpf_jiffies64(), place = service_place(now), address, unit = 0, offset;
	void *book = bpf_map_lookup_elem(&service_books, &place);
	const struct service_book *head = book ? (const void *)trie_unit(book, 0) : (void *)0;
	int verdict = QUICK_LEFT;
	struct service_work *work;
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
			return service_answer4(book, head, ip->dst) ? BALANCE_ANSWER : XDP_PASS;
		if (offset == 14)
			verdict = quick4(context, book, head, address, now, &unit);
	} else if (ethertype == bpf_htons(PACKET_ETH_IPV6)) {
		struct packet_ip6 *ip = data + offset;

		if ((void *)(ip + 1) > end)
			return XDP_PASS;
		address = service_address6(book, head, (const __be32 *)ip->dst);
		if (!address)
			return service_answer6(book, head, (const __be32 *)ip->dst) ? BALANCE_ANSWER
			                                                            : XDP_PASS;
		if (offset == 14)
			verdict = quick6(context, book, head, address, now, &unit);
	} else {
		return XDP_PASS;
	}
	if (verdict >= 0)
		return verdict;
	work = service_work();
	if (!work)
		return XDP_PASS;
	work->now = now;
	work->place = place;
	work->address = address;
	work->unit = unit;
	return verdict == QUICK_NAT ? BALANCE_NAT_QUICK : BALANCE_LONG;
}

SEC("xdp") int balance(struct xdp_md *context)
{
	int verdict = balance_judge(context);

	if (verdict == BALANCE_NAT_QUICK) {
		bpf_tail_call(context, &service_programs, SERVICE_PROGRAM_NAT_QUICK);
		verdict = BALANCE_LONG;
	}
	if (verdict == BALANCE_LONG) {
		bpf_tail_call(context, &service_programs, SERVICE_PROGRAM_LONG);
		verdict = XDP_PASS;
	}
	if (verdict == BALANCE_ANSWER) {
		bpf_tail_call(context, &service_programs, SERVICE_PROGRAM_ANSWER_QUICK);
		bpf_tail_call(context, &service_programs, SERVICE_PROGRAM_ANSWER);
		verdict = XDP_PASS;
	}
	return verdict == XDP_PASS ? chain_pass(context, CHAIN_FORWARD) : verdict;
}

/* -- all else -- */

/* A verdict, or BALANCE_NAT. */
packet_inline int balance_any(struct xdp_md *context, struct service_work *work)
{
	if (!service_read(context))
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

/* An address may be a service's, and nat send from it, too. */
packet_inline int balance_answers(struct xdp_md *context, const struct service_work *work)
{
	void *data = (void *)(long)context->data, *end = (void *)(long)context->data_end;
	void *book = service_book(work);
	const struct service_book *head = book ? (const void *)trie_unit(book, 0) : (void *)0;
	__be16 ethertype;
	__u32 offset = packet_network(data, end, &ethertype);
	struct packet_ip4 *ip4 = data + offset;
	struct packet_ip6 *ip6 = data + offset;

	if (!head || !offset || (void *)(ip4 + 1) > end)
		return 0;
	if (ethertype == bpf_htons(PACKET_ETH_IPV4))
		return service_answer4(book, head, ip4->dst) != 0;
	if ((void *)(ip6 + 1) > end)
		return 0;
	return service_answer6(book, head, (const __be32 *)ip6->dst) != 0;
}

SEC("xdp") int balance_long(struct xdp_md *context)
{
	struct service_work *work = service_work();
	int verdict = work ? balance_any(context, work) : XDP_PASS;

	if (verdict == BALANCE_NAT) {
		bpf_tail_call(context, &service_programs, SERVICE_PROGRAM_NAT);
		verdict = XDP_PASS;
	}
	if (verdict == XDP_PASS && work && balance_answers(context, work))
		bpf_tail_call(context, &service_programs, SERVICE_PROGRAM_ANSWER);
	return verdict == XDP_PASS ? chain_pass(context, CHAIN_FORWARD) : verdict;
}

char _license[] SEC("license") = "Dual BSD/GPL";
