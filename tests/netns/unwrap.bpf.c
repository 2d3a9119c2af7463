// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* The backend's end of a tunnel, for kernels that have none: takes IP in IP, and GUE at its port, apart. */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/udp.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define GUE_PORT 6080

SEC("xdp") int unwrap(struct xdp_md *context)
{
	void *data = (void *)(long)context->data, *end = (void *)(long)context->data_end;
	struct ethhdr *link = data, kept;
	struct udphdr *udp;
	__u32 around;
	__u8 proto;

	if (data + sizeof(*link) + sizeof(struct ipv6hdr) + sizeof(*udp) + 1 > end)
		return XDP_PASS;
	if (link->h_proto == bpf_htons(ETH_P_IP)) {
		around = sizeof(struct iphdr);
		proto = ((struct iphdr *)(link + 1))->protocol;
	} else if (link->h_proto == bpf_htons(ETH_P_IPV6)) {
		around = sizeof(struct ipv6hdr);
		proto = ((struct ipv6hdr *)(link + 1))->nexthdr;
	} else {
		return XDP_PASS;
	}
	kept = *link;
	if (proto == IPPROTO_UDP) {
		udp = (void *)(link + 1) + around;
		if (udp->dest != bpf_htons(GUE_PORT))
			return XDP_PASS;
		around += sizeof(*udp);
		proto = *(__u8 *)(udp + 1) >> 4 == 6 ? IPPROTO_IPV6 : IPPROTO_IPIP;
	}
	if (proto != IPPROTO_IPIP && proto != IPPROTO_IPV6)
		return XDP_PASS;
	kept.h_proto = bpf_htons(proto == IPPROTO_IPV6 ? ETH_P_IPV6 : ETH_P_IP);
	if (bpf_xdp_adjust_head(context, (int)around))
		return XDP_DROP;
	data = (void *)(long)context->data;
	end = (void *)(long)context->data_end;
	if (data + sizeof(kept) > end)
		return XDP_DROP;
	*(struct ethhdr *)data = kept;
	return XDP_PASS;
}

/* What is sent back at XDP over a veth pair arrives only where the other end has a program, too. */
SEC("xdp") int pass(struct xdp_md *context)
{
	(void)context;
	return XDP_PASS;
}

char _license[] SEC("license") = "Dual BSD/GPL";
