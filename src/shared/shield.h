/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * What the program at XDP (bpf/shield.bpf.c) shares with the agent, beside the policies.
 *
 * The map `shield_ways` has an entry for each place of the host's policy.  For each combination of sets that
 * a source may be in it says what the policy's rows would: so most of what is dropped costs no look into the
 * policy.
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
	__u32 sets;    /* rules ask for the sets of sources */
	__u32 another; /* … or for something else, too: what SHIELD_PASS says holds for sources in no set */
	__u32 way[SET_COMBINATIONS_MAX];
};

#endif
