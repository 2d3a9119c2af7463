/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* The sets that a packet's addresses are in, for what rules compare. */
#ifndef WEIR_BPF_FACTS_SETS_H
#define WEIR_BPF_FACTS_SETS_H

#include "bpf/lib/facts.h"
#include "bpf/lib/policy.h"
#include "bpf/lib/set.h"

/* The combination of sets that an address is in.  Not static: so the verifier goes through the search once
 * for all its calls, whatever its callers know. */
packet_function __u32 facts_set(__u32 family, __u64 high, __u64 low, __u32 place)
{
	return family == 4 ? set_find4(place, high >> 32) : set_find6(place, high, low);
}

/* Those of source and destination, where `asked` has the field. */
packet_inline void facts_sets(struct policy_facts *facts, __u32 asked, __u32 place)
{
	if (!facts->family)
		return;
	if (asked & 1 << POLICY_BY_SRC_SETS)
		facts->src_sets =
			facts_set(facts->family, policy_high(facts->src), policy_high(facts->src + 2), place);
	if (asked & 1 << POLICY_BY_DST_SETS)
		facts->dst_sets =
			facts_set(facts->family, policy_high(facts->dst), policy_high(facts->dst + 2), place);
}

#endif
