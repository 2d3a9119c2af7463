/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Tries: from an address to a number, in a memory of 64-byte units (an array map, or a part of one).
 *
 * First comes a unit that says what all addresses in the root begin with (IPv6) and how many bits the root
 * takes, then the root: an entry for each value of the next 8, 16 or 18 bits of the address.  What begins
 * otherwise has one entry for itself, in the first unit.  An entry is one 64-bit word and says where an
 * address belongs, or where to go on:
 *
 *     leaf   a number
 *     one    the number of one prefix of up to 24 more bits, and the number of all that is outside
 *     list   a unit of up to 16 ranges of the next 16 bits
 *     pack   a unit of up to 32 prefixes of up to 16 more bits, all of the same number
 *     node   16 entries for the next four bits, 256 for the next eight, or 65536 for the next 16
 *     skip   a unit that compares up to 127 bits at once: the entry inside, the leaf outside
 *
 * Numbers are pushed down to where a lookup ends, so it never goes back.  What is large does not fit the
 * CPU's caches, and a read from memory costs more than all else: so entries stay few, and where there are
 * many prefixes the root is wide: each entry has a unit, with room for a pack's prefixes beside it.  A
 * million random IPv4 prefixes of one number take 4 MiB, of which a lookup reads one cache line.  All words
 * are in host byte order; addresses are compared as numbers, IPv4 in the highest 32 bits.
 *
 * A change is made by writing what is new in units that are not in use, then one entry.  A reader sees what
 * was or what will be.  Units that fall out of use may be written again only after every reader that might
 * have seen them is gone (an RCU grace period).
 */
#ifndef WEIR_SHARED_TRIE_H
#define WEIR_SHARED_TRIE_H

#include <linux/types.h>

/* What policies and tries are made of: a cache line. */
struct policy_unit {
	__u64 word[8];
};

/* Unit 0. */
struct trie_head {
	__u32 root; /* its bits: 8, 16 or 18; with TRIE_WIDE */
	__u32 family;
	__u64 common;        /* what addresses in the root begin with, from the highest bit on … */
	__u32 common_length; /* … so many bits: 0..TRIE_COMMON_MAX */
	__u32 reserved;
	__u64 outside; /* the entry for all others, of the whole address */
	__u64 unused[4];
};

#define TRIE_HEAD_OUTSIDE 3 /* its word */
#define TRIE_COMMON_MAX   32

/* The root begins at unit 1 and takes so many. */
#define TRIE_ROOT             1u
#define TRIE_ROOT_SMALL       8
#define TRIE_ROOT_MIDDLE      16
#define TRIE_ROOT_LARGE       18  /* IPv4 only */
#define TRIE_WIDE             96u /* to be added: an entry in each unit, not eight */
#define TRIE_ROOT_BITS(root)  ((root)&31)
#define TRIE_ROOT_FOLD(root)  (3u - ((root) >> 5 & 3)) /* log2 of the entries in a unit */
#define TRIE_ROOT_UNITS(root) (1u << (TRIE_ROOT_BITS(root) - TRIE_ROOT_FOLD(root)))

#define TRIE_NUMBER_MAX 65535

/*
 * An entry: its kind in the three highest bits.  Zeroes are the leaf of number 0.
 *
 *     leaf               0 : 3 |                                      number : 16
 *     one                1 : 3 | length : 5 | rest : 24 | outside : 16 | inside : 16
 *     pack               3 : 3 | outside : 16 | inside : 16 | halves : 2 | unit : 27
 *     list, nodes, skip  kind : 3 |                                   unit : 32, from unit 0 of the trie on
 *
 * `rest` are the next 24 bits of the prefix, `length` (0..24) of them count.
 */
#define TRIE_LEAF    0ull
#define TRIE_ONE     1ull
#define TRIE_LIST    2ull
#define TRIE_PACK    3ull
#define TRIE_NODE4   4ull /* two units */
#define TRIE_NODE8   5ull /* 32 units */
#define TRIE_SKIP    6ull
#define TRIE_NODE16  7ull /* 8192 units */
#define TRIE_KIND(e) ((e) >> 61)

#define TRIE_UNITS_MAX (1u << 27) /* 8 GiB */

/* How many bits of the address a node takes: 4, 8 or 16. */
#define TRIE_NODE_BITS(e) (4u << (((e) >> 61 & 1) << ((e) >> 62 & 1)))

/* Of range i: its first value (of the next 16 bits of the address; start[0] is 0), and its number.  Behind
 * the last one the starts are 65535 and the number is repeated. */
struct trie_list {
	__u16 start[16], number[16];
};

/*
 * Prefixes that do not overlap, half by half: the next bit of the address says which.  Of the 15 bits behind
 * it a key has the prefix's, from the highest bit on, then a one, then zeroes.  Bit h of the entry's `halves`
 * says whether half h has any; behind the last one the first is repeated.  There is no order.
 */
#define TRIE_PACK_KEYS  16
#define TRIE_PACK_BITS  16 /* of the address */
#define TRIE_PACK_HALF  27 /* bit of the entry: half 0 */
#define TRIE_PACK_IN    29
#define TRIE_PACK_OUT   45
#define TRIE_PACK_UNITS (TRIE_UNITS_MAX - 1)

struct trie_pack {
	__u16 key[2][TRIE_PACK_KEYS];
};

/* A pack whose unit is 0 stands behind its entry, in a wide root: half 0 in the first 14 keys.  Each half has
 * three words, and its part of the one between them. */
#define TRIE_HOME_KEYS  14
#define TRIE_IS_HOME(e) (((e) & (7ull << 61 | TRIE_PACK_UNITS)) == TRIE_PACK << 61)

struct trie_home {
	__u64 entry;
	__u16 key[2][TRIE_HOME_KEYS];
};

/* If (address ^ value) & mask, of the bits that are still to be looked at, is 0, the way goes on inside, with
 * `length` bits less to look at. */
struct trie_skip {
	__u64 value[2], mask[2];
	__u64 inside, outside; /* entries */
	__u64 length;          /* 1..127 */
	__u64 reserved;
};

_Static_assert(sizeof(struct policy_unit) == 64, "a unit is a cache line");
_Static_assert(sizeof(struct trie_head) == 64 && sizeof(struct trie_list) == 64 &&
		       sizeof(struct trie_pack) == 64 && sizeof(struct trie_home) == 64 &&
		       sizeof(struct trie_skip) == 64,
	"heads, lists, packs and skips are one unit");

/* Entries behind the root that a lookup reads at most. */
#define TRIE_STEPS4 8
#define TRIE_STEPS6 32

#endif
