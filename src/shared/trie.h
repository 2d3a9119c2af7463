/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Tries: from an address to a number, in a memory of 64-byte units (an array map, or a part of one).
 *
 * The root is an array of 65,536 entries for the first 16 bits of the address.  An entry is a leaf, with the
 * number that was looked for, or leads to a node: 16 entries for the next four bits (one unit), 256 entries
 * for the next eight (16 units), or a skip, which compares up to the whole rest of the address at once.
 * Numbers are pushed down to the leaves, so a lookup never goes back.  All words are in host byte order;
 * addresses are compared as numbers.
 *
 * A change is made by writing what is new in units that are not in use, then one entry.  A reader sees what
 * was or what will be.  Units that fall out of use may be written again only after every reader that might
 * have seen them is gone (an RCU grace period).
 */
#ifndef WEIR_SHARED_TRIE_H
#define WEIR_SHARED_TRIE_H

#include <linux/types.h>

#define TRIE_ROOT_BITS  16
#define TRIE_ROOT_UNITS (65536 / 16) /* of 64 bytes */

/* An entry: its kind in the two highest bits, below them a leaf's number or the unit of a node, counted from
 * the unit that the trie's owner says (so that a trie can stand anywhere in a memory). */
#define TRIE_LEAF                0u
#define TRIE_NODE4               1u
#define TRIE_NODE8               2u
#define TRIE_SKIP                3u
#define TRIE_KIND(e)             ((e) >> 30)
#define TRIE_NUMBER(e)           ((e)&0x3fffffff)
#define TRIE_ENTRY(kind, number) ((kind) << 30 | (number))

/* One unit.  If the first `length` bits of the address are those of `address`, the way goes on with `inside`,
 * else `outside` (a leaf). The bits that led here may be counted among `length`. */
struct trie_skip {
	__u32 address[4]; /* host byte order, most significant first; IPv4: [0] */
	__u32 length;     /* 17..128 */
	__u32 inside;     /* entry; the depth there is `length` */
	__u32 outside;
	__u32 reserved[9];
};

_Static_assert(sizeof(struct trie_skip) == 64, "a skip is one unit");

#define TRIE_STEPS4 5  /* entries behind the root that a lookup of an IPv4 address reads at most */
#define TRIE_STEPS6 32 /* IPv6 */

#endif
