/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Reads a whole frame at XDP. */
#ifndef WEIR_BPF_FRAME_H
#define WEIR_BPF_FRAME_H

#include "bpf/lib/packet.h"

/* What stands in the frame, into `p`, with p->reason.  Verified once for all its calls. */
packet_function int frame_read(struct xdp_md *context, struct packet *p)
{
	void *data = (void *)(long)context->data, *end = (void *)(long)context->data_end;

	if (!p)
		return 0;
	__builtin_memset(p, 0, sizeof(*p));
	p->reason = packet_parse(context, data, end, 1, 0, p);
	return 0;
}

#endif
