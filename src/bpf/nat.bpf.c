// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * Services that are delivered by nat: source and destination are rewritten, so backends need no way to the
 * clients and nothing of weir's; their answers come back here and get what the client knows.
 *
 * Two programs that bpf/balance.bpf.c goes on in (bpf/lib/service_work.h).
 */
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#define PACKET_CONTEXT                          struct xdp_md
#define packet_load(context, offset, to, bytes) bpf_xdp_load_bytes(context, offset, to, bytes)

#include "bpf/lib/chain.h"
#include "bpf/lib/decide.h"
#include "bpf/lib/encapsulate.h"
#include "bpf/lib/nat_quick.h"
#include "bpf/lib/nat_rewrite.h"
#include "bpf/lib/nat_table.h"
#include "bpf/lib/service_line.h"
#include "bpf/lib/service_read.h"
#include "bpf/lib/service_tell.h"

/* -- to a backend -- */

/* The packet's key: with ports whatever affinity says, and with the identifier of an echo request.  0: it is
 * nothing that nat can send on. */
packet_function int nat_key(struct xdp_md *context)
{
	struct service_work *work = service_work();
	struct nat_work *nat = nat_work();
	const struct packet *p;

	if (!work || !nat)
		return 0;
	p = &work->packet;
	if (work->error)
		return nat_read_quoted(context, 0);
	nat->key = work->key;
	nat->key.sport = work->sport;
	nat->key.dport = work->dport;
	if (!nat_has_id(p->proto))
		return 1;
	if (!work->later) {
		if (!service_is_echo(p))
			return 0;
		nat->key.sport = p->sport;
	}
	nat->key.dport = 0;
	return 1;
}

/* The connection: 0, or enum service_loss + 1; SERVICE_LOSSES + 1: it is nobody's. */
packet_function int nat_connect(struct xdp_md *context)
{
	struct service_work *work = service_work();
	struct nat_work *nat = nat_work();
	int lost;

	if (!work || !nat)
		return SERVICE_LOSSES + 1;
	if (nat_find() && nat_goes_on()) {
		work->backend = nat->flow.backend;
		return 0;
	}
	if (work->error)
		return SERVICE_LOSSES + 1;
	if (work->later)
		return SERVICE_LOST_FRAGMENT + 1;
	lost = nat_choose(context);
	return lost ? lost : nat_take();
}

/* A SYN's MSS is lowered behind the rewriting, when its checksum is whole; where the kernel makes that, it is
 * as it was. */
packet_inline void nat_clamp(
	struct xdp_md *context, const struct service_work *work, const struct nat_work *nat, __u32 mss)
{
	__u32 at = work->packet.l4_offset + 16;
	__u16 checksum;

	if (!nat->partial || !nat->generic) {
		service_clamp(context, mss);
		return;
	}
	if (!packet_load(context, at, &checksum, 2) && service_clamp(context, mss))
		bpf_xdp_store_bytes(context, at, &checksum, 2);
}

/* It has no hop left: its sender is told, but of errors. */
packet_inline int nat_exceeded(struct xdp_md *context)
{
	const struct service_work *work = service_work();

	service_lose(work ? work->number : 0, SERVICE_LOST_TTL);
	return service_tell(context, 0);
}

packet_inline int nat_judge(struct xdp_md *context)
{
	struct service_work *work = service_work();
	const struct service *service = work ? service_of(work) : (void *)0;
	struct nat_work *nat = nat_work();
	const struct service_backend *backend;
	__u32 lost, mtu;

	if (!service || !nat || !nat_key(context))
		return XDP_PASS;
	/* an error about nothing of nat's is the host's */
	if (nat_hops(context, work) <= 1 && (!work->error || nat_find()))
		return nat_exceeded(context);
	nat_line_forget(work);
	lost = nat_connect(context);
	if (lost > SERVICE_LOSSES)
		return XDP_PASS;
	if (lost)
		goto lost;
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
		service_first(context);
	mtu = encapsulate_mtu(service, backend);
	if (mtu && work->ip_bytes > mtu) {
		service_lose(work->number, SERVICE_LOST_TOO_BIG);
		return service_tell(context, mtu);
	}
	nat_look(context);
	lost = SERVICE_LOST_HEADER + 1;
	if (!nat_rewrite(context))
		goto lost;
	if (service->mss && work->packet.tcp_flags & PACKET_TCP_SYN)
		nat_clamp(context, work, nat, service->mss);
	return service_deliver(context);
lost:
	service_lose(work->number, lost - 1);
	return XDP_DROP;
}

SEC("xdp") int nat(struct xdp_md *context)
{
	int verdict = nat_judge(context);

	return verdict == XDP_PASS ? chain_pass(context, CHAIN_FORWARD) : verdict;
}

/* -- what most packets to a backend are -- */

packet_inline int nat_quick_judge(struct xdp_md *context)
{
	void *data = (void *)(long)context->data, *end = (void *)(long)context->data_end;
	struct service_work *work = service_work();
	const struct service *service = work ? service_of(work) : (void *)0;

	if (!service || data + 14 > end)
		return -1;
	return *(__be16 *)(data + 12) == bpf_htons(PACKET_ETH_IPV4) ? nat_quick4(context, service, work->now)
	                                                            : nat_quick6(context, service, work->now);
}

SEC("xdp") int nat_quick(struct xdp_md *context)
{
	int verdict = nat_quick_judge(context);

	if (verdict >= 0)
		return verdict;
	bpf_tail_call(context, &service_programs, SERVICE_PROGRAM_LONG);
	return chain_pass(context, CHAIN_FORWARD);
}

/* -- from a backend -- */

/* The key of an answer.  0: it is none. */
packet_function int nat_answer_key(struct xdp_md *context)
{
	struct service_work *work = service_work();
	struct nat_work *nat = nat_work();
	const struct packet *p;
	struct service_key *key;
	__u8 type;
	int i;

	if (!work || !nat)
		return 0;
	p = &work->packet;
	key = &nat->key;
	if (p->kind & FLOW_KIND_ICMP && service_is_error(p)) {
		work->error = 1;
		return nat_read_quoted(context, 1);
	}
	work->sport = p->kind & FLOW_KIND_PORTS ? p->sport : 0;
	work->dport = p->kind & FLOW_KIND_PORTS ? p->dport : 0;
	if (p->fragment == PACKET_FRAGMENT_LATER) {
		if (!service_later(context))
			return 0;
		work->later = 1;
	}
	PACKET_UNROLL
	for (i = 0; i < 4; i++) {
		key->src[i] = p->src[i];
		key->dst[i] = p->dst[i];
	}
	key->family = p->family;
	key->proto = p->proto;
	key->reserved = 0;
	key->sport = work->sport;
	key->dport = work->dport;
	if (!nat_has_id(p->proto))
		return 1;
	type = bpf_ntohs(p->dport) >> 8;
	if (!work->later && type != (p->family == 4 ? 0 : SERVICE_ICMP6_ECHO + 1))
		return 0;
	key->dport = work->later ? work->sport : p->sport;
	key->sport = 0;
	return 1;
}

/* Can the port be one of nat's? */
packet_inline int nat_is_ours(const struct service_work *work, const struct nat_work *nat)
{
	void *book = service_book(work);
	const struct service_book *head = book ? (const void *)trie_unit(book, 0) : (void *)0;
	__u32 port = bpf_ntohs(nat->key.dport);

	if (!head)
		return 0;
	if (!nat_has_ports(nat->key.proto) && !nat_has_id(nat->key.proto))
		return 1;
	return head->answer_first <= port && port <= head->answer_last;
}

/* What an answer tells about its connection. */
packet_function int nat_answered(void)
{
	struct service_work *work = service_work();
	struct nat_work *nat = nat_work();
	struct service_flow *flow;
	__u8 flags;

	if (!work || !nat || work->error)
		return 0;
	flow = nat_entry(&nat->key, nat->embryo);
	if (!flow)
		return 0;
	nat_touch(nat, flow, work->now);
	flags = service_flow_flags(work);
	/* its end, not the client's */
	flags = ((flags & SERVICE_FLOW_FIN ? SERVICE_FLOW_FIN2 : 0) | (flags & SERVICE_FLOW_RST) |
			SERVICE_FLOW_OPEN) &
	        ~flow->flags;
	if (flags)
		nat_mark(nat, flow, flags, work->now);
	return 0;
}

/* The way to the client. */
packet_function int nat_way(struct xdp_md *context)
{
	struct service_work *work = service_work();
	struct nat_work *nat = nat_work();
	struct service_flow *flow;
	__u32 lost;

	if (!work || !nat)
		return SERVICE_LOST_NO_ROUTE + 1;
	flow = nat_entry(&nat->key, nat->embryo);
	if (!flow)
		return SERVICE_LOST_NO_ROUTE + 1;
	lost = nat_way_look(context, flow, work->ifindex, nat->key.family, work->now);
	if (lost)
		return lost;
	nat->flow.ifindex = flow->ifindex;
	nat->flow.mtu = flow->mtu;
	__builtin_memcpy(nat->flow.dmac, flow->dmac, 6);
	__builtin_memcpy(nat->flow.smac, flow->smac, 6);
	return 0;
}

/* Out, to the client. */
packet_inline int nat_deliver(
	struct xdp_md *context, const struct service_work *work, const struct nat_work *nat)
{
	__u32 link = work->packet.l3_offset, same = nat->flow.ifindex == work->ifindex,
	      bytes = same ? link : 14;
	struct service_count *count;
	void *data, *end;

	if (link < 14 || link > SERVICE_LINK_MAX ||
		(bytes != link && bpf_xdp_adjust_head(context, (int)link - (int)bytes)))
		return XDP_DROP;
	data = (void *)(long)context->data;
	end = (void *)(long)context->data_end;
	if (data + SERVICE_LINK_MAX > end)
		return XDP_DROP;
	__builtin_memcpy(data, nat->flow.dmac, 6);
	__builtin_memcpy(data + 6, nat->flow.smac, 6);
	link_tags(data, work, bytes, bpf_htons(work->packet.family == 6 ? PACKET_ETH_IPV6 : PACKET_ETH_IPV4));
	count = service_count(nat->flow.backend);
	if (count) {
		count->answer_packets++;
		count->answer_bytes += work->bytes;
		count->icmp += work->error;
	}
	return same ? XDP_TX : bpf_redirect(nat->flow.ifindex, 0);
}

packet_inline int nat_answer_judge(struct xdp_md *context)
{
	struct service_work *work = service_work();
	struct nat_work *nat = nat_work();
	const struct service_backend *backend;
	__u32 lost;

	if (!work || !nat || !service_read(context))
		return XDP_PASS;
	work->now = bpf_jiffies64();
	work->place = service_place(work->now);
	work->known = work->begins = work->error = work->later = work->gone = 0;
	work->backend = work->way = 0;
	if (!nat_answer_key(context) || !nat_is_ours(work, nat) || !nat_find() ||
		!(nat->flow.flags & SERVICE_FLOW_ANSWER))
		return XDP_PASS;
	backend = service_backend(nat->flow.backend);
	if (!backend)
		return XDP_PASS;
	work->number = backend->service;
	if (!(nat->flow.flags & SERVICE_FLOW_QUIET))
		service_account();
	work->backend = nat->flow.backend;
	nat_answered();
	lost = nat_way(context);
	if (lost)
		goto lost;
	if (nat_hops(context, work) <= 1)
		return nat_exceeded(context);
	if (work->packet.fragment == PACKET_FRAGMENT_FIRST)
		service_first(context);
	if (nat->flow.mtu && work->ip_bytes > nat->flow.mtu) {
		service_lose(work->number, SERVICE_LOST_TOO_BIG);
		return service_tell(context, nat->flow.mtu);
	}
	nat_look(context);
	lost = SERVICE_LOST_HEADER + 1;
	if (!nat_rewrite(context))
		goto lost;
	return nat_deliver(context, work, nat);
lost:
	service_lose(work->number, lost - 1);
	return XDP_DROP;
}

SEC("xdp") int nat_answer(struct xdp_md *context)
{
	int verdict = nat_answer_judge(context);

	return verdict == XDP_PASS ? chain_pass(context, CHAIN_FORWARD) : verdict;
}

/* -- what most answers are -- */

packet_inline int nat_answer_quick_judge(struct xdp_md *context)
{
	void *data = (void *)(long)context->data, *end = (void *)(long)context->data_end;
	__u32 now = bpf_jiffies64(), place = service_place(now);
	void *book = bpf_map_lookup_elem(&service_books, &place);
	const struct service_book *head = book ? (const void *)trie_unit(book, 0) : (void *)0;

	if (!head || data + 14 > end)
		return -1;
	if (*(__be16 *)(data + 12) == bpf_htons(PACKET_ETH_IPV4))
		return nat_quick_answer4(context, head, now);
	if (*(__be16 *)(data + 12) == bpf_htons(PACKET_ETH_IPV6))
		return nat_quick_answer6(context, head, now);
	return -1;
}

SEC("xdp") int nat_answer_quick(struct xdp_md *context)
{
	int verdict = nat_answer_quick_judge(context);

	if (verdict >= 0)
		return verdict;
	bpf_tail_call(context, &service_programs, SERVICE_PROGRAM_ANSWER);
	return chain_pass(context, CHAIN_FORWARD);
}

char _license[] SEC("license") = "Dual BSD/GPL";
