/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* A packet at XDP as the programs of services read it. */
#ifndef WEIR_BPF_SERVICE_READ_H
#define WEIR_BPF_SERVICE_READ_H

#include "bpf/lib/service_fragment.h"
#include "bpf/lib/service_work.h"

/* Reads the whole packet.  1: it is IP, and all of it is here. */
packet_function int service_read(struct xdp_md *context)
{
	void *data = (void *)(long)context->data, *end = (void *)(long)context->data_end;
	struct service_work *work = service_work();
	struct packet *p;
	__u32 room;

	if (!work || data + 38 > end)
		return 0;
	p = &work->packet;
	__builtin_memset(p, 0, sizeof(*p));
	p->reason = packet_parse(context, data, end, 1, 0, p);
	if (p->reason != PARSE_OK || !p->family)
		return 0;
	__builtin_memcpy(work->link, data, SERVICE_LINK_MAX);
	work->bytes = bpf_xdp_get_buff_len(context);
	work->ifindex = context->ingress_ifindex;
	room = work->bytes - p->l3_offset;
	if (p->family == 4) {
		__be16 total;

		if (packet_load(context, p->l3_offset + 2, &total, 2))
			return 0;
		work->ip_bytes = bpf_ntohs(total);
	} else {
		__be16 payload;

		if (packet_load(context, p->l3_offset + 4, &payload, 2) || !payload)
			return 0;
		work->ip_bytes = bpf_ntohs(payload) + sizeof(struct packet_ip6);
	}
	return work->ip_bytes <= room && work->ip_bytes > 20;
}

#endif
