/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Tries from inside: what their files share. */
#ifndef WEIR_COMPILE_TRIE_INTERNAL_H
#define WEIR_COMPILE_TRIE_INTERNAL_H

#include <arpa/inet.h>
#include <stdbool.h>
#include <string.h>

#include "compile/trie.h"

/* From the highest bit on; IPv4 in the highest 32. */
struct trie_bits {
	uint64_t high, low;
};

/* One of the tree: a prefix that has a number, or the place where two paths part.  There are two for each
 * prefix of a large set, so they take no more room than their family needs. */
struct trie_node {
	uint32_t child[2]; /* 0: none */
	uint16_t number;
	uint8_t length;
	bool held;       /* it is a prefix of the trie */
	uint32_t bits[]; /* from the highest on: one word of IPv4, four of IPv6 */
};

enum block_class {
	BLOCK_1,
	BLOCK_2,
	BLOCK_32,
	BLOCK_8192,
	BLOCK_CLASSES,
	BLOCK_HOME =
		BLOCK_CLASSES, /* what stands behind an entry of a wide root: only this entry can have it */
};

extern const uint32_t trie_block_units[BLOCK_CLASSES + 1];

struct trie_block {
	uint32_t unit;
	enum block_class class;
};

struct trie_blocks {
	struct trie_block *blocks;
	size_t count, room;
};

struct trie_pending {
	__u64 *entry;
	__u64 value;
};

struct trie {
	uint8_t family;
	uint8_t address_bits;
	uint32_t bits;
	bool wide;
	struct trie_bits common;
	unsigned int common_length, depth; /* bits in front of the root, and behind it */

	uint32_t *nodes; /* trie_node_at(); the first is none */
	size_t node_words;
	uint32_t node_count, node_room, node_free;
	size_t count;
	uint32_t short_tree;
	uint32_t *trees;       /* by entry of the root */
	uint32_t outside_tree; /* what does not begin with the common bits, or is shorter */

	bool hold, outside_dirty;
	uint64_t *dirty; /* a bit for each entry of the root */
	uint64_t *homes; /* of a wide root: what stands behind the entry is in use, or kept back */

	struct policy_unit *units;
	size_t unit_count, used;
	trie_growth_function *grow; /* NULL: the memory cannot grow */
	void *grow_context;
	uint32_t free[BLOCK_CLASSES]; /* chained by their first word; 0: none */
	struct trie_blocks retired;

	/* the change that is being made */
	struct trie_blocks fresh, stale;
	struct trie_pending *pending;
	size_t pending_count, pending_room;
	int failure;
};

static inline struct trie_bits bits_of(const struct address *address)
{
	struct trie_bits bits = {0};
	uint32_t words[4];

	memcpy(words, address->bytes, sizeof(words));
	bits.high = (uint64_t)ntohl(words[0]) << 32;
	if (address->family == 6) {
		bits.high |= ntohl(words[1]);
		bits.low = (uint64_t)ntohl(words[2]) << 32 | ntohl(words[3]);
	}
	return bits;
}

static inline struct trie_bits bits_mask(unsigned int length)
{
	return (struct trie_bits){
		.high = length == 0    ? 0
	                : length >= 64 ? UINT64_MAX
	                               : UINT64_MAX << (64 - length),
		.low = length <= 64 ? 0 : UINT64_MAX << (128 - length),
	};
}

static inline struct trie_bits bits_and(struct trie_bits a, struct trie_bits b)
{
	return (struct trie_bits){a.high & b.high, a.low & b.low};
}

/* Without the first `count` (0..128) bits. */
static inline struct trie_bits bits_shift(struct trie_bits bits, unsigned int count)
{
	if (count >= 128)
		return (struct trie_bits){0, 0};
	if (count >= 64)
		return (struct trie_bits){count > 64 ? bits.low << (count - 64) : bits.low, 0};
	if (!count)
		return bits;
	return (struct trie_bits){bits.high << count | bits.low >> (64 - count), bits.low << count};
}

static inline unsigned int bits_at(struct trie_bits bits, unsigned int position)
{
	uint64_t word = position < 64 ? bits.high : bits.low;

	return word >> (63 - position % 64) & 1;
}

/* How many leading bits are the same, at most `most`. */
static inline unsigned int bits_common(struct trie_bits a, struct trie_bits b, unsigned int most)
{
	unsigned int common = a.high != b.high ? (unsigned int)__builtin_clzll(a.high ^ b.high)
	                      : a.low != b.low ? 64 + (unsigned int)__builtin_clzll(a.low ^ b.low)
	                                       : 128;

	return common < most ? common : most;
}

static inline bool bits_begin(struct trie_bits bits, struct trie_bits with, unsigned int length)
{
	return bits_common(bits, with, length) == length;
}

static inline struct trie_node *trie_node_at(const struct trie *trie, uint32_t index)
{
	return (struct trie_node *)(trie->nodes + index * trie->node_words);
}

static inline struct trie_bits trie_node_bits(const struct trie *trie, const struct trie_node *node)
{
	struct trie_bits bits = {.high = (uint64_t)node->bits[0] << 32};

	if (trie->family == 6) {
		bits.high |= node->bits[1];
		bits.low = (uint64_t)node->bits[2] << 32 | node->bits[3];
	}
	return bits;
}

/* trie_tree.c */
/* Room for so many more nodes. */
bool trie_nodes_reserve(struct trie *trie, uint32_t more);
/* The node of a prefix, made if it is not there: room for two has to be reserved. */
uint32_t trie_tree_add(struct trie *trie, uint32_t *link, struct trie_bits bits, unsigned int length);
uint32_t trie_tree_find(const struct trie *trie, uint32_t index, struct trie_bits bits, unsigned int length);
/* Takes a prefix that is there out of its tree. */
void trie_tree_remove(struct trie *trie, uint32_t *link, struct trie_bits bits, unsigned int length);
/* How many prefixes there are in a tree, at most `most`. */
size_t trie_tree_count(const struct trie *trie, uint32_t index, size_t most);
/* The number of the longest prefix in a tree that contains this one and is shorter than `below`; `otherwise`
 * where there is none. */
uint32_t trie_tree_cover(const struct trie *trie, uint32_t index, struct trie_bits bits, unsigned int below,
	uint32_t otherwise);
/* The part of a tree that lies inside the first `depth` bits of `bits`; *outside becomes the number of what
 * is around. */
uint32_t trie_tree_inside(const struct trie *trie, uint32_t index, struct trie_bits bits, unsigned int depth,
	uint32_t *outside);

/* trie_build.c */
/* Prefixes below a new node that make it one of 65536 entries: then it takes 64 bytes for each. */
#define NODE16_FROM 8192

void trie_block_free(struct trie *trie, struct trie_block block);
/* The entry for a tree that lies inside the first `depth` bits of its prefixes.  `home`: the unit of the
 * entry, in a wide root; or NULL. */
__u64 trie_build(
	struct trie *trie, uint32_t index, unsigned int depth, uint32_t outside, struct policy_unit *home);
/* What is to be written at last, when all of the change is known to work. */
void trie_change_entry(struct trie *trie, __u64 *entry, __u64 value);
/* Writes the change, or nothing of it: 0, -ENOMEM or -ENOSPC. */
int trie_change_end(struct trie *trie);
/* Gives back the room that noting it took: of many changes at once that is a lot. */
void trie_change_free(struct trie *trie);

#endif
