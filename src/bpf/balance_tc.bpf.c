// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * Services in tc (shared/service.h), at ingress of interfaces whose XDP cannot be had, in front of weir's
 * other programs there: what balance.bpf.c does at XDP, with the same tables.
 *
 * What is not for a service goes on as it came.  A packet may stand for several here (GSO, GRO): it stays
 * whole where its segments fit the way, and whoever makes them gives each the header around it.  So do
 * checksums that a card was to make stay what they are.
 */
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#define PACKET_CONTEXT                          struct __sk_buff
#define packet_load(context, offset, to, bytes) bpf_skb_load_bytes(context, offset, to, bytes)

#define SERVICE_PACKETS(work) ((work)->packets)

#include "bpf/lib/act.h"
#include "bpf/lib/packet.h"
#include "bpf/lib/service_find.h"
#include "bpf/lib/service_icmp.h"
#include "bpf/lib/service_line.h"
#include "bpf/lib/service_maps.h"
#include "bpf/lib/service_rules.h"
#include "bpf/lib/service_settle.h"
#include "bpf/lib/service_sort.h"
#include "bpf/lib/service_work.h"
#include "bpf/lib/tunnel.h"

#define BALANCE_NEXT (-1) /* TCX_NEXT and TC_ACT_UNSPEC */
#define BALANCE_DROP 2    /* TCX_DROP and TC_ACT_SHOT */

#define BALANCE_LINK 14 /* Ethernet; tags stand beside the packet, but for a second one */

/* Room for what goes in front of a packet. */
#define BALANCE_AROUND_MAX (sizeof(struct packet_ip6) + sizeof(struct encapsulate_udp))
#define BALANCE_HEAD_MAX   64

/* -- reading -- */

/* What is in the packet, and for how many on the wire it stands.  1: it is IP, and all of it is here. */
packet_function int balance_read(struct __sk_buff *skb)
{
	struct service_work *work = service_work();
	void *data, *end;
	struct packet *p;
	__be16 bytes;

	if (!work ||
		bpf_skb_pull_data(skb, skb->len < PACKET_HEADERS_USUAL ? skb->len : PACKET_HEADERS_USUAL))
		return 0;
	data = (void *)(long)skb->data;
	end = (void *)(long)skb->data_end;
	p = &work->packet;
	__builtin_memset(p, 0, sizeof(*p));
	p->reason = packet_parse(skb, data, end, 1, 0, p);
	if (p->reason != PARSE_OK || !p->family || p->l3_offset != BALANCE_LINK)
		return 0;
	work->ifindex = skb->ifindex;
	work->packets = skb->gso_segs > 1 ? skb->gso_segs : 1;
	work->bytes = skb->len + (work->packets - 1) * p->header_bytes;
	if (skb->vlan_present) {
		p->vlan = skb->vlan_tci & 0xfff;
		p->vlan_depth++;
		p->kind |= FLOW_KIND_TAGGED;
		work->bytes += work->packets * 4;
	}
	if (packet_load(skb, BALANCE_LINK + (p->family == 4 ? 2 : 4), &bytes, sizeof(bytes)))
		return 0;
	work->ip_bytes = bpf_ntohs(bytes);
	/* longer than its header can say (BIG TCP) */
	if (!work->ip_bytes && skb->gso_size)
		work->ip_bytes = skb->len - BALANCE_LINK;
	else if (p->family == 6)
		work->ip_bytes += work->ip_bytes ? sizeof(struct packet_ip6) : 0;
	return work->ip_bytes <= skb->len - BALANCE_LINK && work->ip_bytes > 20;
}

/* -- what fits -- */

/* Tells the sender what would fit. */
packet_inline int balance_tell(struct __sk_buff *skb, struct service_work *work, __u32 mtu)
{
	struct service_lost *lost;
	__u32 number = work->number;

	if (work->told_tick != work->now) {
		work->told_tick = work->now;
		work->told = 0;
	}
	if (work->told >= SERVICE_TOLD_MAX || work->error || !act_answers(skb, &work->packet, 0))
		return BALANCE_DROP;
	work->told++;
	if (act_make_unreachable(skb, &work->packet, ACT_TOO_BIG | mtu))
		return BALANCE_DROP;
	lost = service_lost(number);
	if (lost)
		lost->told++;
	skb->mark = DECIDE_ANSWER_MARK;
	return bpf_redirect(skb->ifindex, 0);
}

/* Lowers the MSS that a SYN offers.  The kernel knows whether the checksum is made already. */
packet_function int balance_clamp(struct __sk_buff *skb, __u32 mss)
{
	struct service_work *work = service_work();
	__u16 from, to = mss;
	__u8 option[4];
	__u32 offset;

	offset = work ? service_seek_mss(skb, work, option) : 0;
	if (!offset)
		return 0;
	from = option[2] << 8 | option[3];
	if (from <= to)
		return 0;
	option[2] = mss >> 8;
	option[3] = mss;
	if ((offset - work->packet.l4_offset) & 1) {
		from = (__u16)(from << 8 | from >> 8);
		to = (__u16)(to << 8 | to >> 8);
	}
	return bpf_skb_store_bytes(skb, offset, option, sizeof(option), 0) ||
	       bpf_l4_csum_replace(
		       skb, work->packet.l4_offset + 16, bpf_htons(from), bpf_htons(to), sizeof(from));
}

/* -- out -- */

/* What the kernel has to know of the header around a packet to make segments of it. */
packet_inline __u64 balance_room_flags(const struct service *service, const struct service_backend *backend)
{
	__u64 flags = backend->family == 4 ? BPF_F_ADJ_ROOM_ENCAP_L3_IPV4 : BPF_F_ADJ_ROOM_ENCAP_L3_IPV6;

	return service->deliver == SERVICE_GUE ? flags | BPF_F_ADJ_ROOM_ENCAP_L4_UDP : flags;
}

/* Delivers what service_choose() has found a backend for.  `smaller`: its segments are made smaller by what
 * goes around them. */
packet_function int balance_out(struct __sk_buff *skb, __u32 smaller)
{
	struct service_work *work = service_work();
	const struct service *service = work ? service_of(work) : (void *)0;
	__u8 head[BALANCE_LINK + 2 + BALANCE_HEAD_MAX] = {};
	struct service_backend *backend;
	struct service_count *count;
	__u32 around, ifindex;
	__be16 ethertype;

	if (!service)
		return BALANCE_DROP;
	backend = service_backend(work->backend);
	if (!backend)
		return BALANCE_DROP;
	ifindex = backend->ifindex;
	around = encapsulate_bytes(service, backend);
	if (around) {
		__u32 bytes = work->ip_bytes, at;
		struct tunnel tunnel = {
			.client = work->key.family == 4 ? work->key.src[0] : work->key.src[3],
			.port = work->sport,
			.tos = work->packet.tos,
			.backend = work->backend,
		};

		if (bpf_skb_adjust_room(skb, around, BPF_ADJ_ROOM_MAC,
			    balance_room_flags(service, backend) | (smaller ? 0 : BPF_F_ADJ_ROOM_FIXED_GSO)))
			goto lost;
		/* too long to be said is 0, as with the kernel's own tunnels: segments have their lengths */
		if (bytes + around > 0xffff)
			bytes = (backend->family == 4 ? 0 : sizeof(struct packet_ip6)) - around;
		ethertype = encapsulate(
			head + BALANCE_LINK + 2, service, backend, &tunnel, bytes, work->packet.family);
		__builtin_memcpy(head + 2, backend->dmac, 12);
		*(__be16 *)(head + BALANCE_LINK) = ethertype;
		asm volatile("" : "+r"(around));
		at = ((BALANCE_LINK + around - 1) & (BALANCE_HEAD_MAX - 1)) + 1;
		if (bpf_skb_store_bytes(skb, 0, head + 2, at, BPF_F_INVALIDATE_HASH))
			goto lost;
	} else {
		__builtin_memcpy(head + 2, backend->dmac, 12);
		if (bpf_skb_store_bytes(skb, 0, head + 2, 12, 0))
			goto lost;
	}
	/* a tag stays on the link that the packet came by */
	if (skb->vlan_present && ifindex != work->ifindex && bpf_skb_vlan_pop(skb))
		goto lost;
	count = service_count(work->backend);
	if (count) {
		count->packets += work->packets;
		count->bytes += work->bytes;
		count->last = work->now;
		count->icmp += work->error;
	}
	/* judged it is */
	skb->mark = DECIDE_ANSWER_MARK;
	return bpf_redirect(ifindex, 0);
lost:
	service_lose(work->number, SERVICE_LOST_HEADER);
	return BALANCE_DROP;
}

/* Chooses, and delivers. */
packet_inline int balance_deliver(struct __sk_buff *skb, struct service_work *work)
{
	const struct service *service = service_of(work);
	__u32 mtu, bytes, lost = 0, smaller = 0;
	struct service_backend *backend;

	/* nat is at XDP only */
	if (!service || service->deliver == SERVICE_NAT)
		return BALANCE_NEXT;
	if (service_ruled_out(skb))
		return BALANCE_DROP;
	service_account_for(work, service);
	backend = service_settle(skb, work, &lost);
	if (!backend) {
		service_lose(work->number, lost - 1);
		return BALANCE_DROP;
	}
	bytes = work->ip_bytes;
	if (skb->gso_size)
		bytes = work->packet.header_bytes - BALANCE_LINK + skb->gso_size;
	mtu = encapsulate_mtu(service, backend);
	if (mtu && bytes > mtu) {
		/* of TCP the kernel makes segments as large as it is told to */
		if (skb->gso_size && work->packet.proto == PACKET_PROTO_TCP)
			smaller = encapsulate_bytes(service, backend);
		if (bytes - smaller > mtu) {
			service_lose(work->number, SERVICE_LOST_TOO_BIG);
			return balance_tell(skb, work, mtu);
		}
	}
	if (service->mss && work->packet.tcp_flags & PACKET_TCP_SYN)
		balance_clamp(skb, service->mss);
	return balance_out(skb, smaller);
}

static __noinline int balance_any(struct __sk_buff *skb, __u32 place, __u32 address, __u32 now)
{
	struct service_work *work = service_work();

	if (!work)
		return BALANCE_NEXT;
	work->now = now;
	work->place = place;
	work->address = address;
	if (!balance_read(skb))
		return BALANCE_NEXT;
	switch (balance_sort(skb)) {
	case BALANCE_GO:
		return balance_deliver(skb, work);
	case BALANCE_ECHO:
		if (service_ruled_out(skb))
			return BALANCE_DROP;
		service_account();
		if (service_echo(skb) != XDP_TX)
			return BALANCE_NEXT;
		skb->mark = DECIDE_ANSWER_MARK;
		return bpf_redirect(skb->ifindex, 0);
	default:
		return BALANCE_NEXT;
	}
}

SEC("tc") int balance_tc(struct __sk_buff *skb)
{
	__u32 now = bpf_jiffies64(), place = service_place(now), address;
	void *book = bpf_map_lookup_elem(&service_books, &place), *data, *end;
	const struct service_book *head = book ? (const void *)trie_unit(book, 0) : (void *)0;
	__u32 bytes = BALANCE_LINK + sizeof(struct packet_ip6);

	/* for another host (PACKET_HOST is 0) */
	if (!head || !head->count || skb->pkt_type)
		return BALANCE_NEXT;
	if (skb->data_end - skb->data < bytes && bpf_skb_pull_data(skb, skb->len < bytes ? skb->len : bytes))
		return BALANCE_NEXT;
	data = (void *)(long)skb->data;
	end = (void *)(long)skb->data_end;
	if (skb->protocol == bpf_htons(PACKET_ETH_IPV4)) {
		struct packet_ip4 *ip = data + BALANCE_LINK;

		if ((void *)(ip + 1) > end)
			return BALANCE_NEXT;
		address = service_address4(book, head, ip->dst);
	} else if (skb->protocol == bpf_htons(PACKET_ETH_IPV6)) {
		struct packet_ip6 *ip = data + BALANCE_LINK;

		if ((void *)(ip + 1) > end)
			return BALANCE_NEXT;
		address = service_address6(book, head, (const __be32 *)ip->dst);
	} else {
		return BALANCE_NEXT;
	}
	return address ? balance_any(skb, place, address, now) : BALANCE_NEXT;
}

char _license[] SEC("license") = "Dual BSD/GPL";
