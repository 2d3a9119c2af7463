/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* The way to a backend, from the kernel's tables, for programs at XDP and at tc. */
#ifndef WEIR_BPF_SERVICE_HOP_H
#define WEIR_BPF_SERVICE_HOP_H

#include "bpf/lib/service_work.h"

#define ENCAPSULATE_HOP_TICKS 4 /* that a way is good for without another look */

#define ENCAPSULATE_AF_INET  2 /* as bpf_fib_lookup() wants them */
#define ENCAPSULATE_AF_INET6 10

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
packet_function int service_hop(PACKET_CONTEXT *context)
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

#endif
