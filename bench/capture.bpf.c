// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* A source of packets: each run sends copies of one frame out of an interface, as the stack would. */
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#define SOURCE_COPIES 64 /* a run */

const volatile __u32 source_interface = 0;

SEC("tc") int source_send(struct __sk_buff *skb)
{
	int i;

	for (i = 0; i < SOURCE_COPIES; i++)
		bpf_clone_redirect(skb, source_interface, 0);
	return 0;
}

char _license[] SEC("license") = "Dual BSD/GPL";
