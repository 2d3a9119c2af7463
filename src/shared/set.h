/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Sets of prefixes, as the datapath reads them.
 *
 * All sets share two tries (IPv4, IPv6).  Each stands in chunks of SET_CHUNK_UNITS units: array maps, one
 * behind the other in the map of maps `set_trie4` or `set_trie6`.  All are of one size, so that a lookup in
 * them is a few instructions, where memory of any size would cost a call for each line that is read.
 *
 * There are two places for tries, as for policies: bit SET_PLACE of policy_now.places says which is in force.
 * The only entry of the map `set_places` says where the trie of each place begins.  No root: no prefixes.  A
 * lookup tells the *combination* of sets that an address is in; combination 0 is none.  So a change of a set
 * changes the tries alone, in place, and policies are compiled without knowing what is in the sets: a policy
 * has one row for each combination, and is compiled anew before a combination that was not there yet gets
 * into the trie. Numbers of combinations are the same in both places and are not used again.
 *
 * Sets belong to the host: every policy may name them.  Sets of ports are compiled into the policies.
 */
#ifndef WEIR_SHARED_SET_H
#define WEIR_SHARED_SET_H

#include <linux/types.h>

#define SET_MAX              64      /* sets of addresses */
#define SET_COMBINATIONS_MAX 4096    /* combinations of them that occur */
#define SET_PLACE            63      /* bit of policy_now.places: no policy in force has this number */
#define SET_NAME_MAX         32      /* with the NUL */
#define SET_ENTRIES_MAX      4194304 /* of all sets */

#define SET_CHUNK_BITS  14
#define SET_CHUNK_UNITS (1u << SET_CHUNK_BITS)   /* 1 MiB */
#define SET_CHUNKS      2048                     /* of one trie at most: 2 GiB */
#define SET_SLOTS       3                        /* one for each place, and one to write the next trie into */
#define SET_CHUNK_WAIT  (SET_SLOTS * SET_CHUNKS) /* never read */

/*
 * Of each place, what the head of the trie says (shared/trie.h), so that nobody has to read it first: the
 * common bits (IPv6) in the upper half, then, eight bits each, how many they are, and the root (0: there is
 * no trie); in the lowest 16 the first chunk.
 */
#define SET_TRIE(chunk, root, common, length)                                                                \
	((__u64)(chunk) | (__u64)(root) << 16 | (__u64)(length) << 24 | ((common) >> 32 << 32))
#define SET_TRIE_CHUNK(trie)  ((__u32)(trie)&0xffff)
#define SET_TRIE_ROOT(trie)   ((__u32)((trie) >> 16) & 0xff)
#define SET_TRIE_COMMON(trie) ((__u32)((trie) >> 24) & 0x3f)

struct set_places {
	__u64 tries4[2], tries6[2];
};

#endif
