/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* What comes of a packet whose service is known, for programs at XDP and in tc: it is accounted, and its
 * backend and the way there are found. */
#ifndef WEIR_BPF_SERVICE_SETTLE_H
#define WEIR_BPF_SERVICE_SETTLE_H

#include "bpf/lib/service_choose.h"
#include "bpf/lib/service_fragment.h"
#include "bpf/lib/service_hop.h"
#include "bpf/lib/service_line.h"
#include "bpf/lib/service_work.h"

packet_inline void service_account_for(struct service_work *work, const struct service *service)
{
	__u32 of_fragment = work->backend;

	if (service->flags & SERVICE_NO_FLOWS)
		return;
	service_account();
	if (work->later || work->error) {
		/* the line is of other connections, too */
		work->known = work->way = 0;
		work->backend = of_fragment;
	}
}

/* The backend, with the way to it; NULL: there is none, and *lost is enum service_loss + 1. */
packet_inline struct service_backend *service_settle(
	PACKET_CONTEXT *context, struct service_work *work, __u32 *lost)
{
	struct service_backend *backend;

	if (!work->later || !service_usable(service_backend(work->backend), work->number, 0)) {
		*lost = service_choose(context);
		if (*lost)
			return (void *)0;
	}
	backend = service_backend(work->backend);
	if (!backend) {
		*lost = SERVICE_LOST_NO_BACKEND + 1;
		return (void *)0;
	}
	if (!hop_is_fresh(backend, work->now)) {
		*lost = service_hop(context);
		if (*lost)
			return (void *)0;
	}
	service_remember();
	if (work->packet.fragment == PACKET_FRAGMENT_FIRST)
		service_first(context);
	return backend;
}

#endif
