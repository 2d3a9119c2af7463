// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* A source of packets: run over and over on the same frame, which it sends out of an interface. */
#include <linux/bpf.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

const volatile __u32 source_interface = 0;
const volatile __u32 source_flows = 1; /* a power of two */

static __u32 counter;

SEC("xdp") int source_send(struct xdp_md *xdp)
{
	void *data = (void *)(long)xdp->data, *end = (void *)(long)xdp->data_end;
	__be16 *port = data + 34; /* Ethernet, IPv4, UDP */

	if ((void *)(port + 1) > end)
		return XDP_ABORTED;
	*port = bpf_htons(1024 + (counter++ & (source_flows - 1)));
	return bpf_redirect(source_interface, 0);
}

char _license[] SEC("license") = "Dual BSD/GPL";
