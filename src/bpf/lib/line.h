/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* The flow cache's memory (shared/flow.h). */
#ifndef WEIR_BPF_LINE_H
#define WEIR_BPF_LINE_H

#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "shared/flow.h"

/* The agent sets the numbers of entries: CPUs times sets, and CPUs. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct flow_set4);
} flow_cache4 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct flow_set6);
} flow_cache6 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct flow_rest_set6);
} flow_rest6 SEC(".maps");

#endif
