// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * Makes packets, and counts or drops them at the other end of a link: run with BPF_F_TEST_XDP_LIVE_FRAMES,
 * `generate` sends each frame out of an interface, with the next of so many source addresses.
 */
#include <linux/bpf.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "generate.h"

const volatile __u32 interface = 0;
const volatile __u32 sources = 1; /* how many different ones */
const volatile __u32 routed =
	0; /* IPv4 that a router sends on: sources of 10.1.0.0/16, sums that are right */

static __u32 counter;

/* The source and the sum, in the words that are added up; and what a router has changed, since frames are
 * used again. */
static __attribute__((always_inline)) inline void routed_make(__be16 *link, __u16 number)
{
	__be16 *words = link + 7;
	__u32 sum = 0;
	int i;

	link[0] = link[3] = bpf_htons(0x0200);
	link[1] = link[4] = 0;
	link[2] = bpf_htons(0x0101);
	link[5] = bpf_htons(0x0102);
	words[4] = bpf_htons(64 << 8 | 17);
	words[5] = 0;
	words[6] = bpf_htons(0x0a01);
	words[7] = bpf_htons(number);
#pragma clang loop unroll(full)
	for (i = 0; i < 10; i++)
		sum += words[i];
	sum = (sum & 0xffff) + (sum >> 16);
	words[5] = ~((sum & 0xffff) + (sum >> 16));
}

SEC("xdp") int generate(struct xdp_md *context)
{
	void *data = (void *)(long)context->data, *end = (void *)(long)context->data_end;

	if (data + 60 > end)
		return XDP_ABORTED;
	/* the source's first word, or its second of IPv6; whoever receives this looks at no checksum, or it
	 * is right */
	if (routed)
		routed_make(data, counter + 2);
	else
		*(__be32 *)(data + 26) = bpf_htonl(generate_source(counter));
	if (++counter >= sources)
		counter = 0;
	return bpf_redirect(interface, 0);
}

/* What nothing can be faster than. */
SEC("xdp.frags") int bare_drop(struct xdp_md *context)
{
	return XDP_DROP;
}

SEC("xdp.frags") int bare_pass(struct xdp_md *context)
{
	return XDP_PASS;
}

char _license[] SEC("license") = "Dual BSD/GPL";
