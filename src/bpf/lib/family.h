/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Does a process belong to a family (shared/family.h)? */
#ifndef WEIR_BPF_FAMILY_H
#define WEIR_BPF_FAMILY_H

#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "shared/family.h"

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, FAMILY_MEMBERS_MAX);
	__type(key, struct family_process);
	__type(value, struct family_set);
} family_members SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, FAMILY_ENDED_MAX);
	__type(key, struct family_process);
	__type(value, struct family_set);
} family_ended SEC(".maps");

/* A function of its own: the key's stack is not its callers'. */
static __attribute__((noinline, unused)) int family_has(__u64 start_ns, __u32 pid, __u32 family)
{
	struct family_process process = {.start = start_ns / FAMILY_TICK_NS, .pid = pid};
	const struct family_set *set = bpf_map_lookup_elem(&family_members, &process);

	if (!set)
		set = bpf_map_lookup_elem(&family_ended, &process);
	return set && set->word[family / 64 & (FAMILY_WORDS - 1)] >> (family & 63) & 1;
}

#endif
