/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* What this room shares about classic BPF. */
#ifndef WEIR_COMPILE_CLASSIC_H
#define WEIR_COMPILE_CLASSIC_H

#include <linux/filter.h>
#include <stdbool.h>

#include "compile/expression.h"

/* Absolute loads from here are questions about what stands beside the packet, as in the kernel. */
#define CLASSIC_BESIDE      ((__u32)SKF_AD_OFF)
#define CLASSIC_TYPE        (CLASSIC_BESIDE + SKF_AD_PKTTYPE)
#define CLASSIC_INTERFACE   (CLASSIC_BESIDE + SKF_AD_IFINDEX)
#define CLASSIC_TAG         (CLASSIC_BESIDE + SKF_AD_VLAN_TAG)
#define CLASSIC_TAG_PRESENT (CLASSIC_BESIDE + SKF_AD_VLAN_TAG_PRESENT)

#define CLASSIC_LOOPS_MAX 4

#define CLASSIC_OUTGOING 4 /* PACKET_OUTGOING */

/* Offset and size of a load lie below this, so that no sum of theirs overflows. */
#define CLASSIC_OFFSET_MAX 0x3fffffffU

/* Where a classic jump that was taken leads to. */
static inline size_t classic_ja_target(const struct sock_filter *filter, size_t at)
{
	return (size_t)((long)at + 1 + (int)filter->k);
}

/* libpcap writes such jumps for `protochain`, and no others. */
static inline bool classic_jumps_back(const struct sock_filter *filter)
{
	return filter->code == (BPF_JMP | BPF_JA) && (int)filter->k < 0;
}

static inline unsigned int classic_load_size(__u16 code)
{
	return BPF_SIZE(code) == BPF_W ? 4 : BPF_SIZE(code) == BPF_H ? 2 : 1;
}

/* Only instructions that there are, only jumps inside the program, only returns at its ends, nothing divided
 * by zero: 0 or -EINVAL; -E2BIG: more than CLASSIC_LOOPS_MAX loops. */
int classic_check(const struct expression_program *program);

/* The loops of a program, by the instructions that they begin with.  Two jumps to one place are one loop. */
struct classic_loops {
	size_t heads[CLASSIC_LOOPS_MAX];
	size_t count;
};

/* The number of the loop with this head, or -E2BIG. */
int classic_loop(struct classic_loops *loops, size_t head);

#endif
