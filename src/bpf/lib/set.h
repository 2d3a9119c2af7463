/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Where the sets' tries stand (shared/set.h). */
#ifndef WEIR_BPF_SET_H
#define WEIR_BPF_SET_H

#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "bpf/lib/memory.h"
#include "shared/set.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, SET_PLACES);
	__type(key, __u32);
	__array(values, struct unit_memory);
} set_trie4 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, SET_PLACES);
	__type(key, __u32);
	__array(values, struct unit_memory);
} set_trie6 SEC(".maps");

#endif
