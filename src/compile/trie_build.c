// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* What the datapath reads of a trie: units, taken from one memory, and what becomes of an entry of the root.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "compile/trie_internal.h"

#define NODE8_FROM 48 /* prefixes below a new node that make it one of 256 entries */
#define LIST_BITS  16
#define LIST_MAX   16
#define SKIP_MIN   4

const uint32_t trie_block_units[BLOCK_CLASSES + 1] = {1, 2, 32, 8192, 0};

static __u64 entry_leaf(uint32_t number)
{
	return number;
}

static __u64 entry_one(struct trie_bits rest, unsigned int length, uint32_t inside, uint32_t outside)
{
	uint64_t kept = length ? rest.high >> 40 & 0xffffffU << (24 - length) & 0xffffff : 0;

	return TRIE_ONE << 61 | (uint64_t)length << 56 | kept << 32 | (uint64_t)outside << 16 | inside;
}

static __u64 entry_unit(uint64_t kind, uint32_t unit)
{
	return kind << 61 | unit;
}

static bool blocks_add(struct trie *trie, struct trie_blocks *blocks, struct trie_block block)
{
	if (blocks->count == blocks->room) {
		size_t room = blocks->room ? blocks->room * 2 : 64;
		struct trie_block *grown = realloc(blocks->blocks, room * sizeof(*grown));

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

static void home_give(struct trie *trie, uint32_t unit)
{
	trie->homes[(unit - TRIE_ROOT) / 64] &= ~(1ULL << (unit - TRIE_ROOT) % 64);
}

/* Is the room behind the entry of the root in this unit free?  Then it is taken. */
static bool home_take(struct trie *trie, uint32_t unit)
{
	uint64_t *word = &trie->homes[(unit - TRIE_ROOT) / 64], bit = 1ULL << (unit - TRIE_ROOT) % 64;

	if (*word & bit || !blocks_add(trie, &trie->fresh, (struct trie_block){unit, BLOCK_HOME}))
		return false;
	*word |= bit;
	return true;
}

void trie_block_free(struct trie *trie, struct trie_block block)
{
	if (block.class == BLOCK_HOME) {
		home_give(trie, block.unit);
		return;
	}
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
	if (trie->unit_count - trie->used >= trie_block_units[class]) {
		*ret_unit = (uint32_t)trie->used;
		trie->used += trie_block_units[class];
		return true;
	}
	/* a larger one in pieces */
	for (enum block_class larger = class + 1; larger < BLOCK_CLASSES; larger++) {
		unit = trie->free[larger];
		if (!unit)
			continue;
		trie->free[larger] = (uint32_t)trie->units[unit].word[0];
		/* NOLINTNEXTLINE(clang-analyzer-core.uninitialized.Assign): no class is behind the last */
		for (uint32_t i = trie_block_units[class]; i < trie_block_units[larger];
			i += trie_block_units[class])
			trie_block_free(trie, (struct trie_block){unit + i, class});
		*ret_unit = unit;
		return true;
	}
	return trie_more(trie) == 0 && block_take(trie, class, ret_unit);
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
	if (!blocks_add(trie, &trie->fresh, (struct trie_block){unit, class})) {
		trie_block_free(trie, (struct trie_block){unit, class});
		return NULL;
	}
	memset(trie->units + unit, 0, trie_block_units[class] * sizeof(*trie->units));
	*ret_unit = unit;
	return trie->units + unit;
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
	const struct trie_node *node = trie_node_at(trie, index);
	uint32_t start, number;

	if (!index)
		return true;
	if (node->length > ranges->depth + LIST_BITS)
		return false;
	start = (uint32_t)(bits_shift(trie_node_bits(trie, node), ranges->depth).high >> (64 - LIST_BITS));
	number = node->held ? node->number : outside;
	return ranges_add(ranges, start, number) && ranges_walk(trie, node->child[0], number, ranges) &&
	       ranges_walk(trie, node->child[1], number, ranges) &&
	       ranges_add(ranges, start + (1U << (ranges->depth + LIST_BITS - node->length)), outside);
}

struct pack {
	struct trie_pack pack;
	unsigned int count[2];
	unsigned int depth;
	uint32_t inside, outside;
};

static bool pack_add(struct pack *pack, const struct trie *trie, const struct trie_node *node)
{
	struct trie_bits bits = trie_node_bits(trie, node);
	unsigned int length = node->length - pack->depth - 1, half = bits_at(bits, pack->depth);
	uint32_t key = (uint32_t)(bits_shift(bits, pack->depth + 1).high >> 48) | 1U << (15 - length);

	if (pack->count[half] == TRIE_PACK_KEYS)
		return false;
	pack->pack.key[half][pack->count[half]++] = (uint16_t)key;
	return true;
}

static bool pack_walk(const struct trie *trie, uint32_t index, uint32_t number, struct pack *pack)
{
	const struct trie_node *node = trie_node_at(trie, index);

	if (!index)
		return true;
	if (node->length > pack->depth + TRIE_PACK_BITS)
		return false;
	if (node->held && node->number != number) {
		/* a hole in another one, or a second number */
		if (number != pack->outside)
			return false;
		if ((pack->count[0] || pack->count[1]) && pack->inside != node->number)
			return false;
		pack->inside = number = node->number;
		if (!pack_add(pack, trie, node))
			return false;
	}
	return pack_walk(trie, node->child[0], number, pack) && pack_walk(trie, node->child[1], number, pack);
}

/* What is inside a tree, if that is more than one number and can be packed. */
static bool pack_of(const struct trie *trie, uint32_t index, struct pack *pack)
{
	const struct trie_node *node = trie_node_at(trie, index);
	bool done;

	if (node->length > pack->depth) {
		done = pack_walk(trie, index, pack->outside, pack);
	} else {
		if (node->held)
			pack->outside = node->number;
		done = pack_walk(trie, node->child[0], pack->outside, pack) &&
		       pack_walk(trie, node->child[1], pack->outside, pack);
	}
	return done && (pack->count[0] || pack->count[1]);
}

/* Half by half; behind the last one the first is repeated.  A half without any has ones: of a zero the
 * datapath would borrow from the key beside it. */
static void keys_write(const struct pack *pack, uint16_t *keys, unsigned int most)
{
	for (unsigned int half = 0; half < 2; half++) {
		const uint16_t *key = pack->pack.key[half];

		for (unsigned int i = 0; i < most; i++)
			*keys++ = !pack->count[half] ? 1 : key[i < pack->count[half] ? i : 0];
	}
}

static __u64 build_pack(struct trie *trie, const struct pack *pack, struct policy_unit *home)
{
	struct policy_unit *unit;
	uint64_t halves = (pack->count[0] != 0) | (uint64_t)(pack->count[1] != 0) << 1;
	uint32_t number = 0;

	if (home && pack->count[0] <= TRIE_HOME_KEYS && pack->count[1] <= TRIE_HOME_KEYS &&
		home_take(trie, (uint32_t)(home - trie->units))) {
		keys_write(pack, ((struct trie_home *)home)->key[0], TRIE_HOME_KEYS);
	} else {
		unit = block_new(trie, BLOCK_1, &number);
		if (!unit)
			return 0;
		keys_write(pack, ((struct trie_pack *)unit)->key[0], TRIE_PACK_KEYS);
	}
	return TRIE_PACK << 61 | (uint64_t)pack->outside << TRIE_PACK_OUT |
	       (uint64_t)pack->inside << TRIE_PACK_IN | halves << TRIE_PACK_HALF | number;
}

static __u64 build_skip(
	struct trie *trie, uint32_t index, unsigned int depth, unsigned int length, uint32_t outside)
{
	struct trie_bits value = bits_shift(trie_node_bits(trie, trie_node_at(trie, index)), depth),
			 mask = bits_mask(length - depth);
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
	skip->inside = trie_build(trie, index, length, outside, NULL);
	return entry_unit(TRIE_SKIP, number);
}

/* Fills entries[first..first + count), which stand for what is `depth` - log2(count) bits deep. */
static void build_entries(struct trie *trie, uint32_t index, __u64 *entries, uint32_t count,
	unsigned int depth, uint32_t outside)
{
	const struct trie_node *node = trie_node_at(trie, index);
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
		*entries = trie_build(trie, index, depth, outside, NULL);
		return;
	}
	{
		uint32_t half = bits_at(trie_node_bits(trie, node), above) ? count / 2 : 0;

		build_entries(trie, index, entries + half, count / 2, depth, outside);
		build_entries(trie, 0, entries + (half ? 0 : count / 2), count / 2, depth, outside);
	}
}

struct node_kind {
	uint64_t kind;
	unsigned int bits;
	enum block_class class;
	size_t from; /* prefixes below a new node that make it one of these */
};

static const struct node_kind node_kinds[] = {
	{TRIE_NODE16, 16, BLOCK_8192, NODE16_FROM},
	{TRIE_NODE8, 8, BLOCK_32, NODE8_FROM},
	{TRIE_NODE4, 4, BLOCK_2, 0},
};

static const struct node_kind *node_kind_of(const struct trie *trie, uint32_t index, unsigned int depth)
{
	const struct node_kind *kind = node_kinds;

	while (kind->from && (trie->address_bits - depth < kind->bits ||
				     trie_tree_count(trie, index, kind->from) < kind->from))
		kind++;
	return kind;
}

__u64 trie_build(
	struct trie *trie, uint32_t index, unsigned int depth, uint32_t outside, struct policy_unit *home)
{
	const struct trie_node *node = trie_node_at(trie, index);
	struct pack pack = {.depth = depth, .outside = outside};
	struct ranges ranges = {.depth = depth};
	const struct node_kind *node_kind;
	struct policy_unit *unit;
	uint32_t number;

	if (!index || trie->failure)
		return entry_leaf(outside);
	if (!node->child[0] && !node->child[1]) {
		if (node->length == depth || node->number == outside)
			return entry_leaf(node->number);
		if (node->length - depth <= 24)
			return entry_one(bits_shift(trie_node_bits(trie, node), depth), node->length - depth,
				node->number, outside);
		return build_skip(trie, index, depth, node->length, outside);
	}
	if (pack_of(trie, index, &pack))
		return build_pack(trie, &pack, home);
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
	node_kind = node_kind_of(trie, index, depth);
	unit = block_new(trie, node_kind->class, &number);
	if (!unit)
		return 0;
	build_entries(trie, index, unit->word, 1U << node_kind->bits, depth + node_kind->bits, outside);
	return entry_unit(node_kind->kind, number);
}

/* All units of an entry fall out of use. */
static void entry_retire(struct trie *trie, __u64 entry)
{
	const struct policy_unit *unit = trie->units + (uint32_t)entry;
	const __u64 *entries = unit->word;
	__u64 kind = TRIE_KIND(entry);

	switch (kind) {
	case TRIE_LIST:
		blocks_add(trie, &trie->stale, (struct trie_block){(uint32_t)entry, BLOCK_1});
		break;
	case TRIE_PACK:
		blocks_add(
			trie, &trie->stale, (struct trie_block){(uint32_t)entry & TRIE_PACK_UNITS, BLOCK_1});
		break;
	case TRIE_SKIP:
		blocks_add(trie, &trie->stale, (struct trie_block){(uint32_t)entry, BLOCK_1});
		entry_retire(trie, ((const struct trie_skip *)unit)->inside);
		break;
	default:
		for (size_t n = 0; n < sizeof(node_kinds) / sizeof(node_kinds[0]); n++) {
			if (node_kinds[n].kind != kind)
				continue;
			blocks_add(trie, &trie->stale,
				(struct trie_block){(uint32_t)entry, node_kinds[n].class});
			for (uint32_t i = 0; i < 1U << node_kinds[n].bits; i++)
				entry_retire(trie, entries[i]);
		}
		break;
	}
}

void trie_change_entry(struct trie *trie, __u64 *entry, __u64 value)
{
	if (*entry == value)
		return;
	if (trie->pending_count == trie->pending_room) {
		size_t room = trie->pending_room ? trie->pending_room * 2 : 16;
		struct trie_pending *grown = realloc(trie->pending, room * sizeof(*grown));

		if (!grown) {
			trie->failure = -ENOMEM;
			return;
		}
		trie->pending = grown;
		trie->pending_room = room;
	}
	if (TRIE_IS_HOME(*entry))
		blocks_add(trie, &trie->stale,
			(struct trie_block){
				(uint32_t)((struct policy_unit *)entry - trie->units), BLOCK_HOME});
	else
		entry_retire(trie, *entry);
	trie->pending[trie->pending_count++] = (struct trie_pending){entry, value};
}

int trie_change_end(struct trie *trie)
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
			trie_block_free(trie, trie->fresh.blocks[i]);
	else
		for (size_t i = 0; i < trie->pending_count; i++)
			/* what it leads to is there first */
			__atomic_store_n(trie->pending[i].entry, trie->pending[i].value, __ATOMIC_RELEASE);
	trie->fresh.count = trie->stale.count = 0;
	trie->pending_count = 0;
	trie->failure = 0;
	return r;
}

void trie_change_free(struct trie *trie)
{
	free(trie->fresh.blocks);
	free(trie->stale.blocks);
	free(trie->pending);
	trie->fresh = trie->stale = (struct trie_blocks){};
	trie->pending = NULL;
	trie->pending_room = 0;
}
