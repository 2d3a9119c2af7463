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
#define BALANCE_NAT    0x100
#define BALANCE_ANSWER 0x101

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

/* All but what is usual, once the address is known to be a service's: a verdict, or BALANCE_NAT. */
static __noinline int balance_any(struct xdp_md *context, __u32 place, __u32 address, __u32 now)
{
	struct service_work *work = service_work();

	if (!work)
		return XDP_PASS;
	work->now = now;
	work->place = place;
	work->address = address;
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

packet_inline int balance_judge(struct xdp_md *context)
{
	void *data = (void *)(long)context->data, *end = (void *)(long)context->data_end;
	__u32 now = bpf_jiffies64(), place = service_place(now), address, answer, offset;
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
		answer = service_answer4(book, head, ip->dst);
		if (!address)
			return answer ? BALANCE_ANSWER : XDP_PASS;
		if (offset == 14)
			verdict = quick4(context, book, head, address, now);
	} else if (ethertype == bpf_htons(PACKET_ETH_IPV6)) {
		struct packet_ip6 *ip = data + offset;

		if ((void *)(ip + 1) > end)
			return XDP_PASS;
		address = service_address6(book, head, (const __be32 *)ip->dst);
		answer = service_answer6(book, head, (const __be32 *)ip->dst);
		if (!address)
			return answer ? BALANCE_ANSWER : XDP_PASS;
		if (offset == 14)
			verdict = quick6(context, book, head, address, now);
	} else {
		return XDP_PASS;
	}
	if (verdict < 0)
		verdict = balance_any(context, place, address, now);
	/* an address may be a service's, and nat send from it, too */
	return verdict == XDP_PASS && answer ? BALANCE_ANSWER : verdict;
}

SEC("xdp") int balance(struct xdp_md *context)
{
	int verdict = balance_judge(context);

	if (verdict == BALANCE_NAT) {
		bpf_tail_call(context, &service_programs, SERVICE_PROGRAM_NAT);
		verdict = XDP_PASS;
	}
	if (verdict == BALANCE_ANSWER) {
		bpf_tail_call(context, &service_programs, SERVICE_PROGRAM_ANSWER);
		verdict = XDP_PASS;
	}
	return verdict == XDP_PASS ? chain_pass(context, CHAIN_FORWARD) : verdict;
}

char _license[] SEC("license") = "Dual BSD/GPL";
