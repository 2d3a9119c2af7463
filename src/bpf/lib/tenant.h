/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Policies as XDP and tc both know them: those at XDP, and whose policy holds on an interface. */
#ifndef WEIR_BPF_TENANT_H
#define WEIR_BPF_TENANT_H

#include "bpf/lib/decide.h"
#include "bpf/lib/memory.h"

/* The heads of policies, for the program at XDP (bpf/shield.bpf.c); in the same places as in `policies`. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 2 * POLICY_NUMBER_MAX);
	__type(key, __u32);
	__array(values, struct unit_memory);
} policies_xdp SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 4096);
	__type(key, __u32);
	__type(value, struct policy_grant);
} tenant_interfaces SEC(".maps");

/* The number of the policy of an interface's tenant; POLICY_HOST: it has none. */
decide_inline __u32 tenant_of_interface(__u32 ifindex, int lapsed)
{
	const struct policy_grant *tenant = bpf_map_lookup_elem(&tenant_interfaces, &ifindex);

	if (!tenant)
		return POLICY_HOST;
	return lapsed ? tenant->before : tenant->number;
}

#endif
