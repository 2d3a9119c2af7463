/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * What the program at XDP (bpf/shield.bpf.c) shares with the agent, beside the policies.
 *
 * The map `shield_ways` has an entry for each place of the host's policy.  For each combination of sets that
 * a source may be in it says what the policy's rows would: so most of what is dropped costs no look into the
 * policy.
 *
 * The only entry of the map `shield_kept` is a Bloom filter with one hash: a bit for each address that a
 * connection has which was there before the last change of the rules.  Where the bit of a packet's source is
 * not set, the packet is of none of them.
 */
#ifndef WEIR_SHARED_SHIELD_H
#define WEIR_SHARED_SHIELD_H

#include <linux/types.h>

#include "shared/set.h"

#define SHIELD_PLACES 2

#define SHIELD_ASK     0u /* the policy has to be asked */
#define SHIELD_PASS    1u /* no rule here fits */
#define SHIELD_COUNTER 2u /* dropped: the rule's counter + 2 */

struct shield_ways {
	__u32 sets; /* rules ask for the sets of sources */
	__u32 reserved;
	__u32 way[SET_COMBINATIONS_MAX];
	__u32 rule[SET_COMBINATIONS_MAX]; /* id, where it is dropped */
};

#define SHIELD_KEPT_BITS 20 /* 128 KiB */

struct shield_kept {
	__u64 word[1 << (SHIELD_KEPT_BITS - 6)];
};

/* IPv4: the first word, the others 0. */
static inline __u32 shield_kept_bit(const __be32 address[4])
{
	__u64 high = (__u64)address[0] << 32 | address[1], low = (__u64)address[2] << 32 | address[3];

	return ((high * 0x9e3779b97f4a7c15ULL) ^ (low * 0xc2b2ae3d27d4eb4fULL)) * 0xd6e8feb86659fd93ULL >>
	       (64 - SHIELD_KEPT_BITS);
}

#endif
