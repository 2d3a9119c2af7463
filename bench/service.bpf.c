// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * Around a program that changes packets, for BPF_PROG_TEST_RUN with `repeat`, which does not restore them:
 * cuts off what was put in front of the packet, writes its headers anew, with the next of so many sources,
 * and goes on in the program that is measured.
 */
#include <linux/bpf.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

const volatile __u32 packet_bytes = 74;
const volatile __u32 family = 4;
const volatile __u32 flow_mask = 0;   /* flows - 1: a power of two */
const volatile __u32 factor = 1;      /* odd: all flows come, in no order */
const volatile __u64 headers[8] = {}; /* the first 64 bytes */

static __u32 counter;

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} measured SEC(".maps");

SEC("xdp") int restore(struct xdp_md *context)
{
	long bytes = (long)context->data_end - (long)context->data;
	void *data, *end;
	__u64 *words;
	__u32 flow;
	int i;

	asm volatile("" : "+r"(bytes)); /* all 64 bits: no half of a pointer is subtracted */
	/* always: it costs as much around a program that puts nothing in front */
	if (bpf_xdp_adjust_head(context, (int)(bytes - packet_bytes)))
		return XDP_ABORTED;
	data = (void *)(long)context->data;
	end = (void *)(long)context->data_end;
	if (data + 64 > end)
		return XDP_ABORTED;
	words = data;
	_Pragma("clang loop unroll(full)") for (i = 0; i < 8; i++) words[i] = headers[i];
	flow = counter++ * factor & flow_mask;
	if (family == 4)
		*(__be32 *)(data + 26) = bpf_htonl(0x0b000000 | flow);
	else
		*(__be32 *)(data + 34) = bpf_htonl(flow);
	bpf_tail_call(context, &measured, 0);
	return XDP_ABORTED;
}

/* What nothing can be faster than. */
SEC("xdp") int bare_pass(struct xdp_md *context)
{
	return XDP_PASS;
}

/* What encapsulation takes at least: room in front. */
SEC("xdp") int bare_room20(struct xdp_md *context)
{
	return bpf_xdp_adjust_head(context, -20) ? XDP_ABORTED : XDP_TX;
}

char _license[] SEC("license") = "Dual BSD/GPL";
