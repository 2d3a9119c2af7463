/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Where the sets' tries stand (shared/set.h). */
#ifndef WEIR_BPF_SET_H
#define WEIR_BPF_SET_H

#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "shared/policy.h"
#include "shared/set.h"

struct set_memory {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_INNER_MAP | BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(struct policy_unit));
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, SET_PLACES);
	__type(key, __u32);
	__array(values, struct set_memory);
} set_trie4 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, SET_PLACES);
	__type(key, __u32);
	__array(values, struct set_memory);
} set_trie6 SEC(".maps");

#endif
