/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Where the sets' tries stand (shared/set.h). */
#ifndef WEIR_BPF_SET_H
#define WEIR_BPF_SET_H

#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "bpf/lib/trie.h"
#include "shared/set.h"

/* Without BPF_F_INNER_MAP, so that the kernel makes lookups in it inline. */
struct set_chunk {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, SET_CHUNK_UNITS);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(struct policy_unit));
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, SET_CHUNK_WAIT + 1);
	__type(key, __u32);
	__array(values, struct set_chunk);
} set_trie4 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, SET_CHUNK_WAIT + 1);
	__type(key, __u32);
	__array(values, struct set_chunk);
} set_trie6 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct set_places);
} set_places SEC(".maps");

/* The combination of sets that an address is in. */
trie_inline __u32 set_find4(__u32 place, __u32 address)
{
	__u32 zero = 0;
	const struct set_places *places = bpf_map_lookup_elem(&set_places, &zero);
	__u64 trie = places ? *(const volatile __u64 *)&places->tries4[place & 1] : 0;

	if (!SET_TRIE_ROOT(trie))
		return 0;
	return trie_find4_any(TRIE_IN_CHUNKS(&set_trie4), SET_TRIE_CHUNK(trie), SET_TRIE_ROOT(trie), address);
}

/* The address as two numbers: its first and its last 64 bits. */
trie_inline __u32 set_find6(__u32 place, __u64 high, __u64 low)
{
	__u32 zero = 0;
	const struct set_places *places = bpf_map_lookup_elem(&set_places, &zero);
	__u64 trie = places ? *(const volatile __u64 *)&places->tries6[place & 1] : 0;

	if (!SET_TRIE_ROOT(trie))
		return 0;
	return trie_find6_any(TRIE_IN_CHUNKS(&set_trie6), SET_TRIE_CHUNK(trie), SET_TRIE_ROOT(trie),
		(struct trie_common){trie, SET_TRIE_COMMON(trie)}, high, low);
}

#endif
