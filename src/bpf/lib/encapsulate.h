/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Sends a packet to its backend: the way there, from the kernel's tables; what is put around the packet
 * (bpf/lib/tunnel.h); and out.
 */
#ifndef WEIR_BPF_ENCAPSULATE_H
#define WEIR_BPF_ENCAPSULATE_H

#include "bpf/lib/service_work.h"
#include "bpf/lib/tunnel.h"

#define ENCAPSULATE_HOP_TICKS 4 /* that a way is good for without another look */

#define ENCAPSULATE_AF_INET  2 /* as bpf_fib_lookup() wants them */
#define ENCAPSULATE_AF_INET6 10

/* -- the way -- */

packet_inline int hop_is_fresh(const struct service_backend *backend, __u32 now)
{
	return backend->hop & SERVICE_HOP_KNOWN && now - backend->checked < ENCAPSULATE_HOP_TICKS;
}

packet_inline void mac_learn(__u8 *to, const __u8 *from)
{
	__u16 *to_words = (void *)to;
	const __u16 *from_words = (const void *)from;
	int i;

	PACKET_UNROLL
	for (i = 0; i < 3; i++)
		if (to_words[i] != from_words[i])
			to_words[i] = from_words[i];
}

packet_inline void hop_learn(struct service_backend *backend, const struct bpf_fib_lookup *route)
{
	/* several CPUs may write the same; what has not changed is not touched */
	if (backend->ifindex != route->ifindex)
		backend->ifindex = route->ifindex;
	if (backend->mtu != route->mtu_result)
		backend->mtu = route->mtu_result;
	mac_learn(backend->dmac, route->dmac);
	mac_learn(backend->smac, route->smac);
}

/* Asks the kernel for the way to the packet's backend.  0, or enum service_loss + 1. */
packet_function int service_hop(struct xdp_md *context)
{
	struct service_work *work = service_work();
	struct bpf_fib_lookup route = {.tot_len = 1}; /* or it does not tell the MTU */
	struct service_backend *backend;
	struct service_source *source;
	int known, gateway;
	__u32 number;
	long fate;

	if (!work)
		return SERVICE_LOST_NO_ROUTE + 1;
	number = work->backend;
	backend = service_backend(number);
	if (!backend)
		return SERVICE_LOST_NO_BACKEND + 1;
	known = backend->hop & SERVICE_HOP_KNOWN;
	if (!known && backend->checked == work->now && backend->hop & SERVICE_HOP_WAIT)
		return SERVICE_LOST_NO_NEIGHBOUR + 1;
	route.ifindex = work->ifindex;
	if (backend->family == 4) {
		route.family = ENCAPSULATE_AF_INET;
		route.ipv4_src = backend->source;
		route.ipv4_dst = backend->address[0];
	} else {
		route.family = ENCAPSULATE_AF_INET6;
		source = bpf_map_lookup_elem(&service_sources, &number);
		if (source)
			__builtin_memcpy(route.ipv6_src, source->address6, 16);
		__builtin_memcpy(route.ipv6_dst, backend->address, 16);
	}
	fate = bpf_fib_lookup(context, &route, sizeof(route), 0);
	backend->checked = work->now;
	if (fate == BPF_FIB_LKUP_RET_FWD_DISABLED && known)
		return 0; /* the agent has told the way */
	gateway = backend->family == 4 ? route.ipv4_dst != backend->address[0]
	                               : ((route.ipv6_dst[0] ^ backend->address[0]) |
						 (route.ipv6_dst[1] ^ backend->address[1]) |
						 (route.ipv6_dst[2] ^ backend->address[2]) |
						 (route.ipv6_dst[3] ^ backend->address[3])) != 0;
	if (fate == BPF_FIB_LKUP_RET_SUCCESS && !(gateway && work->deliver == SERVICE_L2)) {
		hop_learn(backend, &route);
		backend->hop = SERVICE_HOP_KNOWN;
		return 0;
	}
	if (fate == BPF_FIB_LKUP_RET_NO_NEIGH) {
		backend->ifindex = route.ifindex;
		backend->hop = SERVICE_HOP_WAIT;
		return SERVICE_LOST_NO_NEIGHBOUR + 1;
	}
	backend->hop = 0;
	return SERVICE_LOST_NO_ROUTE + 1;
}

/* -- the link header -- */

packet_inline void link_to(void *data, const struct service_backend *backend)
{
	const __u16 *dmac = (const void *)backend->dmac, *smac = (const void *)backend->smac;
	__u16 *to = data;
	int i;

	PACKET_UNROLL
	for (i = 0; i < 3; i++) {
		to[i] = dmac[i];
		to[i + 3] = smac[i];
	}
}

/* The link header but its addresses: tags stay on the link that the packet came by.  There is room for two.
 */
packet_inline void link_tags(void *data, const struct service_work *work, __u32 bytes, __be16 ethertype)
{
	if (bytes == 22) {
		__builtin_memcpy(data + 12, work->link + 12, 8);
		*(__be16 *)(data + 20) = ethertype;
	} else if (bytes == 18) {
		__builtin_memcpy(data + 12, work->link + 12, 4);
		*(__be16 *)(data + 16) = ethertype;
	} else {
		*(__be16 *)(data + 12) = ethertype;
	}
}

/* -- out -- */

/* Delivers what service_choose() has found a backend for: XDP_TX, XDP_REDIRECT, or XDP_DROP with the reason
 * counted. */
packet_function int service_deliver(struct xdp_md *context)
{
	struct service_work *work = service_work();
	const struct service *service = work ? service_of(work) : (void *)0;
	__u32 link, bytes, around;
	struct service_backend *backend;
	struct service_count *count;
	void *data, *end, *outer;
	__be16 ethertype;

	if (!service)
		return XDP_DROP;
	backend = service_backend(work->backend);
	if (!backend)
		return XDP_DROP;
	link = work->packet.l3_offset;
	around = encapsulate_bytes(service, backend);
	bytes = backend->ifindex == work->ifindex ? link : 14;
	if (link < 14 || link > SERVICE_LINK_MAX || work->ip_bytes + around > 0xffff)
		goto lost;
	if (around + bytes != link && bpf_xdp_adjust_head(context, (int)link - (int)(around + bytes)))
		goto lost;
	data = (void *)(long)context->data;
	end = (void *)(long)context->data_end;
	asm volatile("" : "+r"(bytes)); /* or the mask is left out, which is all that the verifier believes */
	outer = data + (bytes & 31);
	if (data + SERVICE_LINK_MAX > end)
		goto lost;
	ethertype = bpf_htons(work->packet.family == 6 ? PACKET_ETH_IPV6 : PACKET_ETH_IPV4);
	if (around) {
		struct tunnel tunnel = {
			.client = work->key.family == 4 ? work->key.src[0] : work->key.src[3],
			.port = work->sport,
			.tos = work->packet.tos,
			.backend = work->backend,
		};

		if (outer + sizeof(struct packet_ip6) + sizeof(struct encapsulate_udp) > end)
			goto lost;
		ethertype =
			encapsulate(outer, service, backend, &tunnel, work->ip_bytes, work->packet.family);
	}
	link_to(data, backend);
	link_tags(data, work, bytes, ethertype);
	count = service_count(work->backend);
	if (count) {
		count->packets++;
		count->bytes += work->bytes;
		count->last = work->now;
		count->icmp += work->error;
	}
	return backend->ifindex == work->ifindex ? XDP_TX : bpf_redirect(backend->ifindex, 0);
lost:
	service_lose(work->number, SERVICE_LOST_HEADER);
	return XDP_DROP;
}

#endif
