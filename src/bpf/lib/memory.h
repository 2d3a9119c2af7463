/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* The memory of a policy or a trie (shared/policy.h, shared/trie.h): what the agent puts into a map of maps.
 */
#ifndef WEIR_BPF_MEMORY_H
#define WEIR_BPF_MEMORY_H

#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "shared/policy.h"

struct unit_memory {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_INNER_MAP | BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(struct policy_unit));
};

#endif
