/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Sends a packet at XDP to its backend: what is put around it (bpf/lib/tunnel.h), and out the way that
 * bpf/lib/service_hop.h has found.
 */
#ifndef WEIR_BPF_ENCAPSULATE_H
#define WEIR_BPF_ENCAPSULATE_H

#include <stddef.h>

#include "bpf/lib/service_hop.h"
#include "bpf/lib/service_work.h"
#include "bpf/lib/tunnel.h"

/* -- the link header -- */

packet_inline void link_to(void *data, const struct service_backend *backend)
{
	/* both addresses stand together, four bytes at a time */
	const __u32 *macs = (const void *)backend->dmac;
	__u32 *to = data;
	int i;

	PACKET_UNROLL
	for (i = 0; i < 3; i++)
		to[i] = macs[i];
}

_Static_assert(offsetof(struct service_backend, smac) == offsetof(struct service_backend, dmac) + 6 &&
		       offsetof(struct service_backend, dmac) % 4 == 0,
	"the addresses of a link header, in its order");

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
