// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * The prefixes stand in binary trees with compressed paths: one for each entry of the root, for those that
 * are at least as long as the root's bits, and one for the shorter ones, which many entries share.  From such
 * a tree an entry, with all that is below it, is built at once: what changes is built anew from the lowest
 * node on that the prefix lies in as a whole.
 */
#include "compile/trie.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "basic/cleanup.h"
#include "bpf/lib/trie.h"

#define FEW          5   /* prefixes below an entry that are built anew rather than looked through */
#define NODE8_FROM   48  /* prefixes below a new node that make it one of 256 entries */
#define NODE4_UP_TO  128 /* prefixes that make one of 16 entries grow */
#define LIST_BITS    16
#define LIST_MAX     16
#define SKIP_MIN     4
#define ROOT_NO_SLOT UINT32_MAX

/* From the highest bit on; IPv4 in the highest 32. */
struct bits {
	uint64_t high, low;
};

/* One of the tree: a prefix that has a number, or the place where two paths part. */
struct node {
	struct bits bits;
	uint32_t child[2]; /* 0: none */
	uint16_t number;
	uint8_t length;
	bool held; /* it is a prefix of the trie */
};

enum block_class { BLOCK_1, BLOCK_2, BLOCK_32, BLOCK_CLASSES };

static const uint32_t block_units[BLOCK_CLASSES] = {1, 2, 32};

struct block {
	uint32_t unit;
	enum block_class class;
};

struct blocks {
	struct block *blocks;
	size_t count, room;
};

struct pending {
	__u64 *entry;
	__u64 value;
};

struct trie {
	uint8_t family;
	uint8_t address_bits;
	uint32_t bits;

	struct node *nodes; /* [0] is none */
	uint32_t node_count, node_room, node_free;
	size_t count;
	uint32_t short_tree;
	uint32_t *trees; /* by entry of the root */

	bool hold;
	uint64_t *dirty; /* a bit for each entry of the root */

	struct policy_unit *units;
	size_t unit_count, used;
	uint32_t free[BLOCK_CLASSES]; /* chained by their first word; 0: none */
	struct blocks retired;

	/* the change that is being made */
	struct blocks fresh, stale;
	struct pending *pending;
	size_t pending_count, pending_room;
	int failure;
};

static struct bits bits_of(const struct address *address)
{
	struct bits bits = {0};
	uint32_t words[4];

	memcpy(words, address->bytes, sizeof(words));
	bits.high = (uint64_t)ntohl(words[0]) << 32;
	if (address->family == 6) {
		bits.high |= ntohl(words[1]);
		bits.low = (uint64_t)ntohl(words[2]) << 32 | ntohl(words[3]);
	}
	return bits;
}

static struct bits bits_mask(unsigned int length)
{
	return (struct bits){
		.high = length == 0    ? 0
	                : length >= 64 ? UINT64_MAX
	                               : UINT64_MAX << (64 - length),
		.low = length <= 64 ? 0 : UINT64_MAX << (128 - length),
	};
}

static struct bits bits_and(struct bits a, struct bits b)
{
	return (struct bits){a.high & b.high, a.low & b.low};
}

/* Without the first `count` (0..127) bits. */
static struct bits bits_shift(struct bits bits, unsigned int count)
{
	if (count >= 64)
		return (struct bits){count > 64 ? bits.low << (count - 64) : bits.low, 0};
	if (!count)
		return bits;
	return (struct bits){bits.high << count | bits.low >> (64 - count), bits.low << count};
}

static unsigned int bits_at(struct bits bits, unsigned int position)
{
	uint64_t word = position < 64 ? bits.high : bits.low;

	return word >> (63 - position % 64) & 1;
}

/* How many leading bits are the same, at most `most`. */
static unsigned int bits_common(struct bits a, struct bits b, unsigned int most)
{
	unsigned int common = a.high != b.high ? (unsigned int)__builtin_clzll(a.high ^ b.high)
	                      : a.low != b.low ? 64 + (unsigned int)__builtin_clzll(a.low ^ b.low)
	                                       : 128;

	return common < most ? common : most;
}

static bool bits_begin(struct bits bits, struct bits with, unsigned int length)
{
	return bits_common(bits, with, length) == length;
}

static __u64 entry_leaf(uint32_t number)
{
	return number;
}

static __u64 entry_one(struct bits rest, unsigned int length, uint32_t inside, uint32_t outside)
{
	uint64_t kept = length ? rest.high >> 40 & 0xffffffU << (24 - length) & 0xffffff : 0;

	return TRIE_ONE << 61 | (uint64_t)length << 56 | kept << 32 | (uint64_t)outside << 16 | inside;
}

static __u64 entry_unit(uint64_t kind, uint32_t unit)
{
	return kind << 61 | unit;
}

static bool blocks_add(struct trie *trie, struct blocks *blocks, struct block block)
{
	if (blocks->count == blocks->room) {
		size_t room = blocks->room ? blocks->room * 2 : 64;
		struct block *grown = realloc(blocks->blocks, room * sizeof(*grown));

		if (!grown) {
			trie->failure = -ENOMEM;
			return false;
		}
		blocks->blocks = grown;
		blocks->room = room;
	}
	blocks->blocks[blocks->count++] = block;
	return true;
}

static void block_free(struct trie *trie, struct block block)
{
	trie->units[block.unit].word[0] = trie->free[block.class];
	trie->free[block.class] = block.unit;
}

static bool block_take(struct trie *trie, enum block_class class, uint32_t *ret_unit)
{
	uint32_t unit = trie->free[class];

	if (unit) {
		trie->free[class] = (uint32_t)trie->units[unit].word[0];
		*ret_unit = unit;
		return true;
	}
	if (trie->unit_count - trie->used >= block_units[class]) {
		*ret_unit = (uint32_t)trie->used;
		trie->used += block_units[class];
		return true;
	}
	/* a larger one in pieces */
	for (enum block_class larger = class + 1; larger < BLOCK_CLASSES; larger++) {
		unit = trie->free[larger];
		if (!unit)
			continue;
		trie->free[larger] = (uint32_t)trie->units[unit].word[0];
		for (uint32_t i = block_units[class]; i < block_units[larger]; i += block_units[class])
			block_free(trie, (struct block){unit + i, class});
		*ret_unit = unit;
		return true;
	}
	return false;
}

/* Zeroes, or NULL. */
static struct policy_unit *block_new(struct trie *trie, enum block_class class, uint32_t *ret_unit)
{
	uint32_t unit;

	if (trie->failure)
		return NULL;
	if (!block_take(trie, class, &unit)) {
		trie->failure = -ENOSPC;
		return NULL;
	}
	if (!blocks_add(trie, &trie->fresh, (struct block){unit, class})) {
		block_free(trie, (struct block){unit, class});
		return NULL;
	}
	memset(trie->units + unit, 0, block_units[class] * sizeof(*trie->units));
	*ret_unit = unit;
	return trie->units + unit;
}

static bool nodes_reserve(struct trie *trie, uint32_t more)
{
	uint32_t room = trie->node_room;
	struct node *grown;

	while (room < trie->node_count + more)
		room = room ? room + room / 2 : 1024;
	if (room == trie->node_room)
		return true;
	grown = realloc(trie->nodes, (size_t)room * sizeof(*grown));
	if (!grown)
		return false;
	trie->nodes = grown;
	trie->node_room = room;
	return true;
}

static uint32_t node_new(struct trie *trie, struct bits bits, unsigned int length)
{
	uint32_t index = trie->node_free;

	if (index)
		trie->node_free = trie->nodes[index].child[0];
	else
		index = trie->node_count++;
	trie->nodes[index] =
		(struct node){.bits = bits_and(bits, bits_mask(length)), .length = (uint8_t)length};
	return index;
}

static void node_free(struct trie *trie, uint32_t index)
{
	trie->nodes[index].child[0] = trie->node_free;
	trie->node_free = index;
}

/* The node of a prefix, made if it is not there: room for two has to be reserved. */
static uint32_t tree_add(struct trie *trie, uint32_t *link, struct bits bits, unsigned int length)
{
	uint32_t fresh, above;

	while (*link) {
		struct node *node = trie->nodes + *link;
		unsigned int most = node->length < length ? node->length : length;
		unsigned int common = bits_common(node->bits, bits, most);

		if (common == node->length) {
			if (common == length)
				return *link;
			link = &node->child[bits_at(bits, common)];
			continue;
		}
		fresh = node_new(trie, bits, length);
		if (common == length) {
			trie->nodes[fresh].child[bits_at(node->bits, length)] = *link;
			*link = fresh;
			return fresh;
		}
		above = node_new(trie, bits, common);
		trie->nodes[above].child[bits_at(bits, common)] = fresh;
		trie->nodes[above].child[!bits_at(bits, common)] = *link;
		*link = above;
		return fresh;
	}
	*link = node_new(trie, bits, length);
	return *link;
}

static uint32_t tree_find(const struct trie *trie, uint32_t index, struct bits bits, unsigned int length)
{
	while (index) {
		const struct node *node = trie->nodes + index;

		if (node->length > length || !bits_begin(bits, node->bits, node->length))
			return 0;
		if (node->length == length)
			return node->held ? index : 0;
		index = node->child[bits_at(bits, node->length)];
	}
	return 0;
}

/* Takes a prefix that is there out of its tree. */
static void tree_remove(struct trie *trie, uint32_t *link, struct bits bits, unsigned int length)
{
	uint32_t *above = NULL, index;
	struct node *node;

	for (node = trie->nodes + *link; node->length < length; node = trie->nodes + *link) {
		above = link;
		link = &node->child[bits_at(bits, node->length)];
	}
	node->held = false;
	if (node->child[0] && node->child[1])
		return;
	index = *link;
	*link = node->child[0] ? node->child[0] : node->child[1];
	node_free(trie, index);
	if (*link || !above)
		return;
	/* the place where two paths parted has only one left */
	index = *above;
	node = trie->nodes + index;
	if (node->held)
		return;
	*above = node->child[0] ? node->child[0] : node->child[1];
	node_free(trie, index);
}

static size_t tree_count(const struct trie *trie, uint32_t index, size_t most)
{
	const struct node *node = trie->nodes + index;
	size_t count;

	if (!index)
		return 0;
	count = node->held;
	for (int i = 0; i < 2 && count < most; i++)
		count += tree_count(trie, node->child[i], most - count);
	return count;
}

/* The number of the longest prefix in a tree that contains this one and is shorter than `below`; `otherwise`
 * where there is none. */
static uint32_t tree_cover(
	const struct trie *trie, uint32_t index, struct bits bits, unsigned int below, uint32_t otherwise)
{
	while (index) {
		const struct node *node = trie->nodes + index;

		if (node->length >= below || !bits_begin(bits, node->bits, node->length))
			break;
		if (node->held)
			otherwise = node->number;
		index = node->child[bits_at(bits, node->length)];
	}
	return otherwise;
}

/* The part of a tree that lies inside the first `depth` bits of `bits`; *outside becomes the number of what
 * is around. */
static uint32_t tree_inside(
	const struct trie *trie, uint32_t index, struct bits bits, unsigned int depth, uint32_t *outside)
{
	while (index) {
		const struct node *node = trie->nodes + index;

		if (node->length >= depth)
			return bits_begin(node->bits, bits, depth) ? index : 0;
		if (!bits_begin(bits, node->bits, node->length))
			return 0;
		if (node->held)
			*outside = node->number;
		index = node->child[bits_at(bits, node->length)];
	}
	return 0;
}

struct ranges {
	struct trie_list list;
	unsigned int count;
	unsigned int depth;
};

static bool ranges_add(struct ranges *ranges, uint32_t start, uint32_t number)
{
	unsigned int count = ranges->count;

	if (start > UINT16_MAX)
		return true;
	if (count && ranges->list.start[count - 1] == start)
		count--;
	if (count && ranges->list.number[count - 1] == number) {
		ranges->count = count;
		return true;
	}
	if (count == LIST_MAX)
		return false;
	ranges->list.start[count] = (uint16_t)start;
	ranges->list.number[count] = (uint16_t)number;
	ranges->count = count + 1;
	return true;
}

static bool ranges_walk(const struct trie *trie, uint32_t index, uint32_t outside, struct ranges *ranges)
{
	const struct node *node = trie->nodes + index;
	uint32_t start, number;

	if (!index)
		return true;
	if (node->length > ranges->depth + LIST_BITS)
		return false;
	start = (uint32_t)(bits_shift(node->bits, ranges->depth).high >> (64 - LIST_BITS));
	number = node->held ? node->number : outside;
	return ranges_add(ranges, start, number) && ranges_walk(trie, node->child[0], number, ranges) &&
	       ranges_walk(trie, node->child[1], number, ranges) &&
	       ranges_add(ranges, start + (1U << (ranges->depth + LIST_BITS - node->length)), outside);
}

static __u64 build(struct trie *trie, uint32_t index, unsigned int depth, uint32_t outside);

static __u64 build_skip(
	struct trie *trie, uint32_t index, unsigned int depth, unsigned int length, uint32_t outside)
{
	struct bits value = bits_shift(trie->nodes[index].bits, depth), mask = bits_mask(length - depth);
	struct trie_skip *skip;
	struct policy_unit *unit;
	uint32_t number;

	unit = block_new(trie, BLOCK_1, &number);
	if (!unit)
		return 0;
	skip = (struct trie_skip *)unit;
	skip->value[0] = value.high & mask.high;
	skip->value[1] = value.low & mask.low;
	skip->mask[0] = mask.high;
	skip->mask[1] = mask.low;
	skip->length = length - depth;
	skip->outside = entry_leaf(outside);
	skip->inside = build(trie, index, length, outside);
	return entry_unit(TRIE_SKIP, number);
}

/* Fills entries[first..first + count), which stand for what is `depth` - log2(count) bits deep. */
static void build_entries(struct trie *trie, uint32_t index, __u64 *entries, uint32_t count,
	unsigned int depth, uint32_t outside)
{
	const struct node *node = trie->nodes + index;
	unsigned int bits = (unsigned int)__builtin_ctz(count), above = depth - bits;

	if (!index) {
		for (uint32_t i = 0; i < count; i++)
			entries[i] = entry_leaf(outside);
		return;
	}
	if (node->length == above && count > 1) {
		uint32_t low = node->child[0], high = node->child[1];
		uint32_t number = node->held ? node->number : outside;

		build_entries(trie, low, entries, count / 2, depth, number);
		build_entries(trie, high, entries + count / 2, count / 2, depth, number);
		return;
	}
	if (count == 1) {
		*entries = build(trie, index, depth, outside);
		return;
	}
	{
		uint32_t half = bits_at(node->bits, above) ? count / 2 : 0;

		build_entries(trie, index, entries + half, count / 2, depth, outside);
		build_entries(trie, 0, entries + (half ? 0 : count / 2), count / 2, depth, outside);
	}
}

/* The entry for a tree that lies inside the first `depth` bits of its prefixes. */
static __u64 build(struct trie *trie, uint32_t index, unsigned int depth, uint32_t outside)
{
	const struct node *node = trie->nodes + index;
	struct ranges ranges = {.depth = depth};
	struct policy_unit *unit;
	unsigned int bits;
	uint32_t number;

	if (!index || trie->failure)
		return entry_leaf(outside);
	if (!node->child[0] && !node->child[1]) {
		if (node->length == depth || node->number == outside)
			return entry_leaf(node->number);
		if (node->length - depth <= 24)
			return entry_one(
				bits_shift(node->bits, depth), node->length - depth, node->number, outside);
		return build_skip(trie, index, depth, node->length, outside);
	}
	if (ranges_add(&ranges, 0, outside) && ranges_walk(trie, index, outside, &ranges)) {
		if (ranges.count == 1)
			return entry_leaf(ranges.list.number[0]);
		unit = block_new(trie, BLOCK_1, &number);
		if (!unit)
			return 0;
		for (unsigned int i = ranges.count; i < LIST_MAX; i++) {
			ranges.list.start[i] = UINT16_MAX;
			ranges.list.number[i] = ranges.list.number[ranges.count - 1];
		}
		memcpy(unit, &ranges.list, sizeof(ranges.list));
		return entry_unit(TRIE_LIST, number);
	}
	/* by whole nodes, so that a path has no more steps than nodes of four bits alone would have */
	if (node->length - depth >= SKIP_MIN)
		return build_skip(trie, index, depth, depth + ((node->length - depth) & ~3U), outside);
	bits = trie->address_bits - depth >= 8 && tree_count(trie, index, NODE8_FROM) == NODE8_FROM ? 8 : 4;
	unit = block_new(trie, bits == 8 ? BLOCK_32 : BLOCK_2, &number);
	if (!unit)
		return 0;
	build_entries(trie, index, unit->word, 1U << bits, depth + bits, outside);
	return entry_unit(bits == 8 ? TRIE_NODE8 : TRIE_NODE4, number);
}

/* All units of an entry fall out of use. */
static void entry_retire(struct trie *trie, __u64 entry)
{
	const struct policy_unit *unit = trie->units + (uint32_t)entry;
	const __u64 *entries = unit->word;
	__u64 kind = TRIE_KIND(entry);

	switch (kind) {
	case TRIE_LIST:
		blocks_add(trie, &trie->stale, (struct block){(uint32_t)entry, BLOCK_1});
		break;
	case TRIE_SKIP:
		blocks_add(trie, &trie->stale, (struct block){(uint32_t)entry, BLOCK_1});
		entry_retire(trie, ((const struct trie_skip *)unit)->inside);
		break;
	case TRIE_NODE4:
	case TRIE_NODE8:
		blocks_add(trie, &trie->stale,
			(struct block){(uint32_t)entry, kind == TRIE_NODE4 ? BLOCK_2 : BLOCK_32});
		for (int i = 0; i < (kind == TRIE_NODE4 ? 16 : 256); i++)
			entry_retire(trie, entries[i]);
		break;
	default:
		break;
	}
}

/* What is to be written at last, when all of the change is known to work. */
static void change_entry(struct trie *trie, __u64 *entry, __u64 value)
{
	if (*entry == value)
		return;
	if (trie->pending_count == trie->pending_room) {
		size_t room = trie->pending_room ? trie->pending_room * 2 : 16;
		struct pending *grown = realloc(trie->pending, room * sizeof(*grown));

		if (!grown) {
			trie->failure = -ENOMEM;
			return;
		}
		trie->pending = grown;
		trie->pending_room = room;
	}
	entry_retire(trie, *entry);
	trie->pending[trie->pending_count++] = (struct pending){entry, value};
}

static int change_end(struct trie *trie)
{
	int r = trie->failure;

	if (!r)
		for (size_t i = 0; i < trie->stale.count; i++)
			if (!blocks_add(trie, &trie->retired, trie->stale.blocks[i])) {
				trie->retired.count -= i;
				r = trie->failure;
				break;
			}
	if (r)
		for (size_t i = 0; i < trie->fresh.count; i++)
			block_free(trie, trie->fresh.blocks[i]);
	else
		for (size_t i = 0; i < trie->pending_count; i++)
			/* what it leads to is there first */
			__atomic_store_n(trie->pending[i].entry, trie->pending[i].value, __ATOMIC_RELEASE);
	trie->fresh.count = trie->stale.count = 0;
	trie->pending_count = 0;
	trie->failure = 0;
	return r;
}

static __u64 *root_entry(const struct trie *trie, uint32_t slot)
{
	return trie->units[TRIE_ROOT].word + slot;
}

static struct bits slot_bits(const struct trie *trie, uint32_t slot)
{
	return (struct bits){.high = (uint64_t)slot << (64 - trie->bits)};
}

static uint32_t slot_outside(const struct trie *trie, uint32_t slot)
{
	return tree_cover(trie, trie->short_tree, slot_bits(trie, slot), trie->bits, 0);
}

static void slot_rewrite(struct trie *trie, uint32_t slot)
{
	change_entry(trie, root_entry(trie, slot),
		build(trie, trie->trees[slot], trie->bits, slot_outside(trie, slot)));
}

/* The same, but for what has nothing to do with this prefix. */
static void slot_touch(struct trie *trie, uint32_t slot, struct bits bits, unsigned int length)
{
	__u64 *entry = root_entry(trie, slot);
	uint32_t tree = trie->trees[slot], outside = slot_outside(trie, slot);
	unsigned int depth = trie->bits;

	for (;;) {
		__u64 kind = TRIE_KIND(*entry);
		struct policy_unit *unit = trie->units + (uint32_t)*entry;
		struct bits rest = bits_shift(bits, depth);
		unsigned int step;
		__u64 *inside;

		if (kind == TRIE_SKIP) {
			struct trie_skip *skip = (struct trie_skip *)unit;

			if (((rest.high ^ skip->value[0]) & skip->mask[0]) |
				((rest.low ^ skip->value[1]) & skip->mask[1]))
				break;
			step = (unsigned int)skip->length;
			inside = &skip->inside;
		} else if (kind == TRIE_NODE8) {
			step = 8;
			inside = unit->word + (rest.high >> 56);
		} else if (kind == TRIE_NODE4 && (trie->address_bits - depth < 8 ||
							 tree_count(trie, tree, NODE4_UP_TO) < NODE4_UP_TO)) {
			step = 4;
			inside = unit->word + (rest.high >> 60);
		} else {
			break;
		}
		if (length < depth + step || tree_count(trie, tree, FEW + 1) <= FEW)
			break;
		depth += step;
		tree = tree_inside(trie, tree, bits, depth, &outside);
		entry = inside;
	}
	change_entry(trie, entry, build(trie, tree, depth, outside));
}

static void slot_mark(struct trie *trie, uint32_t slot)
{
	trie->dirty[slot / 64] |= 1ULL << slot % 64;
}

static uint32_t slot_of(const struct trie *trie, struct bits bits)
{
	return (uint32_t)(bits.high >> (64 - trie->bits));
}

static uint32_t *tree_of(struct trie *trie, struct bits bits, unsigned int length)
{
	return length < trie->bits ? &trie->short_tree : &trie->trees[slot_of(trie, bits)];
}

/* Writes, or notes, what a prefix that has come, changed or gone means. */
static int prefix_touch(struct trie *trie, struct bits bits, unsigned int length)
{
	uint32_t first = slot_of(trie, bits), count = length < trie->bits ? 1U << (trie->bits - length) : 1;

	if (trie->hold) {
		for (uint32_t i = 0; i < count; i++)
			slot_mark(trie, first + i);
		return 0;
	}
	if (length < trie->bits)
		for (uint32_t i = 0; i < count; i++)
			slot_rewrite(trie, first + i);
	else
		slot_touch(trie, first, bits, length);
	return change_end(trie);
}

static bool bits_valid(uint8_t family, uint32_t bits)
{
	return bits == TRIE_ROOT_SMALL || bits == TRIE_ROOT_MIDDLE ||
	       (bits == TRIE_ROOT_LARGE && family == 4);
}

uint32_t trie_root_bits(uint8_t family, size_t prefixes)
{
	return prefixes <= 64                      ? TRIE_ROOT_SMALL
	       : prefixes <= 131072 || family == 6 ? TRIE_ROOT_MIDDLE
	                                           : TRIE_ROOT_LARGE;
}

size_t trie_units_for(uint8_t family, size_t prefixes)
{
	size_t root = TRIE_ROOT + TRIE_ROOT_UNITS(trie_root_bits(family, prefixes));

	/* what random and collected lists need, and half as much again */
	return root + 4096 + (family == 4 ? prefixes : prefixes * 5 / 2);
}

int trie_open(
	uint8_t family, uint32_t bits, struct policy_unit *units, size_t unit_count, struct trie **ret_trie)
{
	struct trie *trie;

	if (!bits_valid(family, bits))
		return -EINVAL;
	if (unit_count > UINT32_MAX || unit_count < TRIE_ROOT + TRIE_ROOT_UNITS(bits))
		return -ENOSPC;
	trie = calloc(1, sizeof(*trie));
	if (!trie)
		return -ENOMEM;
	*trie = (struct trie){
		.family = family,
		.address_bits = family == 4 ? 32 : 128,
		.bits = bits,
		.units = units,
		.unit_count = unit_count,
		.used = TRIE_ROOT + TRIE_ROOT_UNITS(bits),
		.node_count = 1,
	};
	trie->trees = calloc((size_t)1 << bits, sizeof(*trie->trees));
	trie->dirty = calloc((size_t)1 << bits >> 6, sizeof(*trie->dirty));
	if (!trie->trees || !trie->dirty || !nodes_reserve(trie, 64)) {
		trie_close(trie);
		return -ENOMEM;
	}
	memset(trie->nodes, 0, sizeof(*trie->nodes));
	*(struct trie_head *)units = (struct trie_head){.bits = bits, .family = family};
	*ret_trie = trie;
	return 0;
}

void trie_close(struct trie *trie)
{
	if (!trie)
		return;
	free(trie->nodes);
	free(trie->trees);
	free(trie->dirty);
	free(trie->retired.blocks);
	free(trie->fresh.blocks);
	free(trie->stale.blocks);
	free(trie->pending);
	free(trie);
}

void trie_hold(struct trie *trie)
{
	trie->hold = true;
}

int trie_write(struct trie *trie)
{
	size_t words = (size_t)1 << trie->bits >> 6;
	int r;

	for (size_t i = 0; i < words; i++)
		for (uint64_t rest = trie->dirty[i]; rest && !trie->failure; rest &= rest - 1)
			slot_rewrite(trie, (uint32_t)(i * 64 + (size_t)__builtin_ctzll(rest)));
	r = change_end(trie);
	if (r)
		return r;
	memset(trie->dirty, 0, words * sizeof(*trie->dirty));
	trie->hold = false;
	return 0;
}

static int prefix_set(struct trie *trie, struct bits bits, unsigned int length, uint32_t number)
{
	uint32_t *tree = tree_of(trie, bits, length);
	uint16_t number_before = 0;
	struct node *node;
	bool held_before;
	int r;

	if (!nodes_reserve(trie, 2))
		return -ENOMEM;
	node = trie->nodes + tree_add(trie, tree, bits, length);
	held_before = node->held;
	if (held_before) {
		number_before = node->number;
		if (number_before == number)
			return 0;
	}
	node->held = true;
	node->number = (uint16_t)number;
	r = prefix_touch(trie, bits, length);
	if (!r) {
		trie->count += !held_before;
		return 0;
	}
	if (held_before)
		node->number = number_before;
	else
		tree_remove(trie, tree, bits, length);
	return r;
}

int trie_set(struct trie *trie, const struct prefix *prefix, uint32_t number)
{
	if (prefix->address.family != trie->family || number > TRIE_NUMBER_MAX)
		return -EINVAL;
	return prefix_set(trie, bits_of(&prefix->address), prefix->length, number);
}

int trie_remove(struct trie *trie, const struct prefix *prefix)
{
	struct bits bits = bits_of(&prefix->address);
	uint32_t *tree, index;
	uint16_t number;
	int r;

	if (prefix->address.family != trie->family)
		return -ENOENT;
	tree = tree_of(trie, bits, prefix->length);
	index = tree_find(trie, *tree, bits, prefix->length);
	if (!index)
		return -ENOENT;
	number = trie->nodes[index].number;
	tree_remove(trie, tree, bits, prefix->length);
	r = prefix_touch(trie, bits, prefix->length);
	if (r) {
		/* what was freed is there to be used again */
		struct node *node = trie->nodes + tree_add(trie, tree, bits, prefix->length);

		node->held = true;
		node->number = number;
		return r;
	}
	trie->count--;
	return 0;
}

int trie_get(const struct trie *trie, const struct prefix *prefix, uint32_t *ret_number)
{
	struct bits bits = bits_of(&prefix->address);
	uint32_t index;

	if (prefix->address.family != trie->family)
		return -ENOENT;
	index = tree_find(trie, *tree_of((struct trie *)trie, bits, prefix->length), bits, prefix->length);
	if (!index)
		return -ENOENT;
	*ret_number = trie->nodes[index].number;
	return 0;
}

int trie_cover(const struct trie *trie, const struct prefix *prefix, uint32_t *ret_number)
{
	struct bits bits = bits_of(&prefix->address);
	uint32_t number;

	if (prefix->address.family != trie->family)
		return -ENOENT;
	number = tree_cover(trie, trie->short_tree, bits, prefix->length, UINT32_MAX);
	if (prefix->length > trie->bits)
		number = tree_cover(trie, trie->trees[slot_of(trie, bits)], bits, prefix->length, number);
	if (number == UINT32_MAX)
		return -ENOENT;
	*ret_number = number;
	return 0;
}

struct walk {
	struct trie *trie;
	trie_walk_function *function;
	void *context;
	uint32_t next; /* entry of the root: all before it have been walked through */
};

static int walk_node(struct walk *walk, uint32_t index)
{
	struct node node = walk->trie->nodes[index];
	uint32_t words[4] = {htonl((uint32_t)(node.bits.high >> 32)), htonl((uint32_t)node.bits.high),
		htonl((uint32_t)(node.bits.low >> 32)), htonl((uint32_t)node.bits.low)};
	struct prefix prefix = {.address.family = walk->trie->family, .length = node.length};

	if (!node.held)
		return 0;
	memcpy(prefix.address.bytes, words, sizeof(words));
	return walk->function(walk->context, &prefix, node.number);
}

static int walk_tree(struct walk *walk, uint32_t index)
{
	uint32_t child[2];
	int r;

	if (!index)
		return 0;
	memcpy(child, walk->trie->nodes[index].child, sizeof(child));
	r = walk_node(walk, index);
	if (!r)
		r = walk_tree(walk, child[0]);
	return r ? r : walk_tree(walk, child[1]);
}

static int walk_slots(struct walk *walk, uint32_t end)
{
	for (; walk->next < end; walk->next++) {
		int r = walk_tree(walk, walk->trie->trees[walk->next]);

		if (r)
			return r;
	}
	return 0;
}

/* Of a tree of short prefixes, with what lies between them. */
static int walk_short(struct walk *walk, uint32_t index)
{
	struct trie *trie = walk->trie;
	uint32_t child[2];
	int r;

	if (!index)
		return 0;
	memcpy(child, trie->nodes[index].child, sizeof(child));
	r = walk_slots(walk, slot_of(trie, trie->nodes[index].bits));
	if (!r)
		r = walk_node(walk, index);
	if (!r)
		r = walk_short(walk, child[0]);
	return r ? r : walk_short(walk, child[1]);
}

int trie_walk(struct trie *trie, const struct prefix *prefix, trie_walk_function *function, void *context)
{
	struct bits bits = bits_of(&prefix->address);
	struct walk walk = {trie, function, context, slot_of(trie, bits)};
	uint32_t outside;
	int r;

	if (prefix->address.family != trie->family)
		return 0;
	if (prefix->length >= trie->bits)
		return walk_tree(
			&walk, tree_inside(trie, trie->trees[walk.next], bits, prefix->length, &outside));
	r = walk_short(&walk, tree_inside(trie, trie->short_tree, bits, prefix->length, &outside));
	return r ? r : walk_slots(&walk, slot_of(trie, bits) + (1U << (trie->bits - prefix->length)));
}

static int move_prefix(void *context, const struct prefix *prefix, uint32_t number)
{
	return trie_set(context, prefix, number);
}

int trie_move(struct trie *trie, uint32_t bits, struct policy_unit *units, size_t unit_count)
{
	struct prefix all = {.address.family = trie->family};
	struct trie *moved, swapped;
	int r;

	r = trie_open(trie->family, bits, units, unit_count, &moved);
	if (r)
		return r;
	trie_hold(moved);
	r = trie_walk(trie, &all, move_prefix, moved);
	if (!r)
		r = trie_write(moved);
	if (!r) {
		swapped = *trie;
		*trie = *moved;
		*moved = swapped;
	}
	trie_close(moved);
	return r;
}

size_t trie_count(const struct trie *trie)
{
	return trie->count;
}

void trie_reclaim(struct trie *trie)
{
	for (size_t i = 0; i < trie->retired.count; i++)
		block_free(trie, trie->retired.blocks[i]);
	trie->retired.count = 0;
}

size_t trie_units(const struct trie *trie)
{
	return trie->used;
}

size_t trie_retired(const struct trie *trie)
{
	size_t units = 0;

	for (size_t i = 0; i < trie->retired.count; i++)
		units += block_units[trie->retired.blocks[i].class];
	return units;
}

size_t trie_memory(const struct trie *trie)
{
	return trie->node_room * sizeof(*trie->nodes) + ((size_t)1 << trie->bits) * sizeof(*trie->trees) +
	       (trie->retired.room + trie->fresh.room + trie->stale.room) * sizeof(struct block) +
	       trie->pending_room * sizeof(*trie->pending);
}

uint32_t trie_lookup(const struct policy_unit *units, size_t unit_count, const struct address *address)
{
	struct trie_memory memory = {units, unit_count};
	struct bits bits = bits_of(address);
	uint32_t root = trie_bits(&memory);

	return address->family == 4 ? trie_find4(&memory, 0, root, (uint32_t)(bits.high >> 32))
	                            : trie_find6(&memory, 0, root, bits.high, bits.low);
}
