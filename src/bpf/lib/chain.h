/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * The programs behind the one at XDP (bpf/shield.bpf.c): who lets a packet pass hands it on to the next that
 * is there, in the order of the enum.  An empty place is stepped over; behind the last one comes the stack.
 */
#ifndef WEIR_BPF_CHAIN_H
#define WEIR_BPF_CHAIN_H

#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "shared/forward.h"

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, CHAIN_PROGRAMS);
	__type(key, __u32);
	__type(value, __u32);
} chain_programs SEC(".maps");

/* Hands on to the first program from this place on; comes back where there is none.  To be called by the
 * entry program itself. */
static __attribute__((always_inline)) inline int chain_pass(struct xdp_md *context, enum chain_program place)
{
	if (place <= CHAIN_BALANCE)
		bpf_tail_call(context, &chain_programs, CHAIN_BALANCE);
	if (place <= CHAIN_FORWARD)
		bpf_tail_call(context, &chain_programs, CHAIN_FORWARD);
	bpf_tail_call(context, &chain_programs, CHAIN_STEER);
	return XDP_PASS;
}

#endif
