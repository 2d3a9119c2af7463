// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * Judges packets by the policies (shared/policy.h): those whose flow nothing was kept about, or nothing that
 * holds for them.  The entry programs (watch.bpf.c) hand them over by a tail call.
 */
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#define PACKET_CONTEXT                          struct __sk_buff
#define packet_load(context, offset, to, bytes) bpf_skb_load_bytes(context, offset, to, bytes)

#include "bpf/lib/cache.h"
#include "bpf/lib/decide.h"
#include "bpf/lib/limit.h"
#include "bpf/lib/packet.h"
#include "bpf/lib/seek.h"
#include "bpf/lib/set.h"

#define DECIDE_NEXT (-1) /* TCX_NEXT, TC_ACT_UNSPEC */

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 2 * POLICY_NUMBER_MAX);
	__type(key, __u32);
	__array(values, struct policy_memory);
} policies SEC(".maps");

/* For the shield's program, in the same places. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 2 * POLICY_NUMBER_MAX);
	__type(key, __u32);
	__array(values, struct policy_memory);
} policies_xdp SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20);
} rule_log SEC(".maps");

SEC("tc") int decide(struct __sk_buff *skb)
{
	__u32 zero = 0;
	struct decide_ask *ask = bpf_map_lookup_elem(&decide_asks, &zero);

	if (!ask)
		return DECIDE_NEXT;
	ask->owner = seek_owner(skb, &ask->packet, ask->out);
	return DECIDE_NEXT;
}

char _license[] SEC("license") = "Dual BSD/GPL";
