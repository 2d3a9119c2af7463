/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Is this event ours, and are we the ones to count it?
 *
 * Tracing programs see the whole host; weir belongs to one network namespace.  And the link of a tracing
 * program cannot be given another program, so a new agent attaches its own beside those of the last one: each
 * program carries the number of its load, and only those whose number stands in the map `live` do anything.
 * The agent changes that number when all of its programs are attached, so nothing is missed and nothing
 * counted twice.
 */
#ifndef WEIR_BPF_LIVE_H
#define WEIR_BPF_LIVE_H

#include "bpf/lib/kernel.h"

const volatile __u64 live_number = 0;     /* of this load; set by the engine */
const volatile __u64 netns_cookie = 0;    /* of the network namespace that weir belongs to */
const volatile __u64 realtime_offset = 0; /* CLOCK_REALTIME - CLOCK_MONOTONIC at load, ns */

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} live SEC(".maps");

static __always_inline int live_here(void)
{
	__u32 key = 0;
	__u64 *number = bpf_map_lookup_elem(&live, &key);

	return number && *number == live_number;
}

/* For pointers that the verifier knows (arguments of tp_btf and iter programs, and what hangs on them). */
static __always_inline int netns_is_ours(const struct sock *sk)
{
	return sk->__sk_common.skc_net.net->net_cookie == netns_cookie;
}

#endif
