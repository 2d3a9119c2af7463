// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * The prefixes stand in binary trees with compressed paths: one for each entry of the root, for those that
 * are at least as long as what leads to it, one for the shorter ones, which many entries share, and one for
 * those that are not inside what is common: they lie outside, or around all of the root.  From such
 * a tree an entry, with all that is below it, is built at once: what changes is built anew from the lowest
 * node on that the prefix lies in as a whole.
 */
#include "compile/trie.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "bpf/lib/trie.h"
#include "compile/trie_internal.h"

#define FEW          5           /* prefixes below an entry that are built anew rather than looked through */
#define MIDDLE_UP_TO (20U << 16) /* prefixes: 20 of random ones fit a pack, 32 do not all */
#define NODE4_UP_TO  128         /* prefixes that make one of 16 entries grow */
#define NODE8_UP_TO  (2 * NODE16_FROM)
#define WIDE_FROM    (2U << 16) /* prefixes: two in an entry's unit */
#define COMMON_FROM  1024U      /* prefixes: fewer say little of those that will come */
#define NODE8_LOOKS  255 /* of so many prefixes and one more, one counts whether a node of 256 is to grow */

static struct policy_unit *home_of(const struct trie *trie, uint32_t slot)
{
	return trie->wide ? trie->units + TRIE_ROOT + slot : NULL;
}

static __u64 *root_entry(const struct trie *trie, uint32_t slot)
{
	return trie->wide ? trie->units[TRIE_ROOT + slot].word : trie->units[TRIE_ROOT].word + slot;
}

static struct trie_bits slot_bits(const struct trie *trie, uint32_t slot)
{
	struct trie_bits bits = trie->common;

	bits.high |= (uint64_t)slot << (64 - trie->depth);
	return bits;
}

static uint32_t slot_outside(const struct trie *trie, uint32_t slot)
{
	struct trie_bits bits = slot_bits(trie, slot);
	uint32_t around = trie_tree_cover(trie, trie->outside_tree, bits, trie->common_length, 0);

	return trie_tree_cover(trie, trie->short_tree, bits, trie->depth, around);
}

static void slot_rewrite(struct trie *trie, uint32_t slot)
{
	trie_change_entry(trie, root_entry(trie, slot),
		trie_build(
			trie, trie->trees[slot], trie->depth, slot_outside(trie, slot), home_of(trie, slot)));
}

static __u64 *outside_entry(const struct trie *trie)
{
	return trie->units->word + TRIE_HEAD_OUTSIDE;
}

static void outside_rewrite(struct trie *trie)
{
	trie_change_entry(trie, outside_entry(trie), trie_build(trie, trie->outside_tree, 0, 0, NULL));
}

/* To count so many takes longer than all the rest of a change. */
static bool node8_grows(const struct trie *trie, uint32_t tree, struct trie_bits bits, unsigned int depth)
{
	const uint64_t mixed = (bits.high ^ bits.low) * 0x9e3779b97f4a7c15ULL;

	return !(mixed >> 32 & NODE8_LOOKS) && trie->address_bits - depth >= 16 &&
	       trie_tree_count(trie, tree, NODE8_UP_TO) == NODE8_UP_TO;
}

/* Writes an entry for a tree anew, but for what has nothing to do with this prefix. */
static void entry_touch(struct trie *trie, __u64 *entry, struct policy_unit *home, uint32_t tree,
	unsigned int depth, uint32_t outside, struct trie_bits bits, unsigned int length)
{
	for (;;) {
		__u64 kind = TRIE_KIND(*entry);
		struct policy_unit *unit = trie->units + (uint32_t)*entry;
		struct trie_bits rest = bits_shift(bits, depth);
		unsigned int step;
		__u64 *inside;

		if (kind == TRIE_SKIP) {
			struct trie_skip *skip = (struct trie_skip *)unit;

			if (((rest.high ^ skip->value[0]) & skip->mask[0]) |
				((rest.low ^ skip->value[1]) & skip->mask[1]))
				break;
			step = (unsigned int)skip->length;
			inside = &skip->inside;
		} else if (kind == TRIE_NODE16) {
			step = 16;
			inside = unit->word + (rest.high >> 48);
		} else if (kind == TRIE_NODE8 && !node8_grows(trie, tree, bits, depth)) {
			step = 8;
			inside = unit->word + (rest.high >> 56);
		} else if (kind == TRIE_NODE4 &&
			   (trie->address_bits - depth < 8 ||
				   trie_tree_count(trie, tree, NODE4_UP_TO) < NODE4_UP_TO)) {
			step = 4;
			inside = unit->word + (rest.high >> 60);
		} else {
			break;
		}
		if (length < depth + step || trie_tree_count(trie, tree, FEW + 1) <= FEW)
			break;
		depth += step;
		tree = trie_tree_inside(trie, tree, bits, depth, &outside);
		entry = inside;
		home = NULL;
	}
	trie_change_entry(trie, entry, trie_build(trie, tree, depth, outside, home));
}

static void slot_mark(struct trie *trie, uint32_t slot)
{
	trie->dirty[slot / 64] |= 1ULL << slot % 64;
}

static uint32_t slot_of(const struct trie *trie, struct trie_bits bits)
{
	return (uint32_t)(bits_shift(bits, trie->common_length).high >> (64 - trie->bits));
}

/* Does all of the prefix begin with the common bits? */
static bool is_common(const struct trie *trie, struct trie_bits bits, unsigned int length)
{
	return length >= trie->common_length && bits_begin(bits, trie->common, trie->common_length);
}

static uint32_t *tree_of(struct trie *trie, struct trie_bits bits, unsigned int length)
{
	return !is_common(trie, bits, length) ? &trie->outside_tree
	       : length < trie->depth         ? &trie->short_tree
	                                      : &trie->trees[slot_of(trie, bits)];
}

/* The entries of the root that a prefix has to do with. */
static uint32_t slots_of(const struct trie *trie, struct trie_bits bits, unsigned int length, uint32_t *first)
{
	*first = 0;
	if (length < trie->common_length)
		return bits_begin(trie->common, bits, length) ? 1U << trie->bits : 0;
	if (!is_common(trie, bits, length))
		return 0;
	*first = slot_of(trie, bits);
	return length < trie->depth ? 1U << (trie->depth - length) : 1;
}

/* Writes, or notes, what a prefix that has come, changed or gone means. */
static int prefix_touch(struct trie *trie, struct trie_bits bits, unsigned int length)
{
	uint32_t first, count = slots_of(trie, bits, length, &first);
	bool outside = !is_common(trie, bits, length);

	if (trie->hold) {
		trie->outside_dirty |= outside;
		for (uint32_t i = 0; i < count; i++)
			slot_mark(trie, first + i);
		return 0;
	}
	if (outside)
		entry_touch(trie, outside_entry(trie), NULL, trie->outside_tree, 0, 0, bits, length);
	if (!outside && length >= trie->depth)
		entry_touch(trie, root_entry(trie, first), home_of(trie, first), trie->trees[first],
			trie->depth, slot_outside(trie, first), bits, length);
	else
		for (uint32_t i = 0; i < count; i++)
			slot_rewrite(trie, first + i);
	return trie_change_end(trie);
}

static bool shape_valid(const struct trie_shape *shape)
{
	uint32_t bits = TRIE_ROOT_BITS(shape->root), most = shape->family == 4 ? 0 : TRIE_COMMON_MAX;

	return !(shape->root & ~(TRIE_WIDE | 31U)) &&
	       (bits == TRIE_ROOT_SMALL || bits == TRIE_ROOT_MIDDLE ||
		       (bits == TRIE_ROOT_LARGE && shape->family == 4)) &&
	       shape->common.length <= most;
}

uint32_t trie_root_bits(uint8_t family, size_t prefixes)
{
	return prefixes <= 64                            ? TRIE_ROOT_SMALL
	       : prefixes <= MIDDLE_UP_TO || family == 6 ? TRIE_ROOT_MIDDLE
	                                                 : TRIE_ROOT_LARGE;
}

struct trie_shape trie_shape_for(
	uint8_t family, size_t prefixes, const struct address *low, const struct address *high)
{
	struct trie_shape shape = {.family = family, .root = trie_root_bits(family, prefixes)};

	if (prefixes >= WIDE_FROM)
		shape.root |= TRIE_WIDE;
	if (family == 6 && prefixes >= COMMON_FROM && low && high) {
		shape.common.address = *low;
		shape.common.length = (uint8_t)bits_common(bits_of(low), bits_of(high), TRIE_COMMON_MAX);
	}
	return shape;
}

size_t trie_units_root(uint32_t root)
{
	return TRIE_ROOT + TRIE_ROOT_UNITS(root);
}

int trie_open(
	uint8_t family, uint32_t bits, struct policy_unit *units, size_t unit_count, struct trie **ret_trie)
{
	const struct trie_shape shape = {.family = family, .root = bits};

	return trie_open_as(&shape, units, unit_count, ret_trie);
}

int trie_open_as(
	const struct trie_shape *shape, struct policy_unit *units, size_t unit_count, struct trie **ret_trie)
{
	uint32_t bits = TRIE_ROOT_BITS(shape->root);
	struct trie *trie;

	if (!shape_valid(shape))
		return -EINVAL;
	if (unit_count > TRIE_UNITS_MAX || unit_count < trie_units_root(shape->root))
		return -ENOSPC;
	trie = calloc(1, sizeof(*trie));
	if (!trie)
		return -ENOMEM;
	*trie = (struct trie){
		.family = shape->family,
		.address_bits = shape->family == 4 ? 32 : 128,
		.bits = bits,
		.wide = shape->root & TRIE_WIDE,
		.common = bits_and(bits_of(&shape->common.address), bits_mask(shape->common.length)),
		.common_length = shape->common.length,
		.depth = shape->common.length + bits,
		.units = units,
		.unit_count = unit_count,
		.used = trie_units_root(shape->root),
		.node_count = 1,
		.node_words = sizeof(struct trie_node) / sizeof(uint32_t) + (shape->family == 4 ? 1 : 4),
	};
	trie->trees = calloc((size_t)1 << bits, sizeof(*trie->trees));
	trie->dirty = calloc((size_t)1 << bits >> 6, sizeof(*trie->dirty));
	trie->homes = calloc((size_t)1 << bits >> 6, sizeof(*trie->homes));
	if (!trie->trees || !trie->dirty || !trie->homes || !trie_nodes_reserve(trie, 64)) {
		trie_close(trie);
		return -ENOMEM;
	}
	memset(trie->nodes, 0, trie->node_words * sizeof(*trie->nodes));
	*(struct trie_head *)units = (struct trie_head){
		.root = shape->root,
		.family = shape->family,
		.common = trie->common.high,
		.common_length = trie->common_length,
	};
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
	free(trie->homes);
	free(trie->retired.blocks);
	trie_change_free(trie);
	free(trie);
}

void trie_grow_by(struct trie *trie, trie_growth_function *function, void *context)
{
	trie->grow = function;
	trie->grow_context = context;
}

int trie_more(struct trie *trie)
{
	return trie->grow ? trie->grow(trie->grow_context, &trie->unit_count) : -ENOSPC;
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
	if (trie->outside_dirty)
		outside_rewrite(trie);
	r = trie_change_end(trie);
	if (r)
		return r;
	trie->outside_dirty = false;
	memset(trie->dirty, 0, words * sizeof(*trie->dirty));
	trie->hold = false;
	trie_change_free(trie);
	return 0;
}

static int prefix_set(struct trie *trie, struct trie_bits bits, unsigned int length, uint32_t number)
{
	uint32_t *tree = tree_of(trie, bits, length);
	uint16_t number_before = 0;
	struct trie_node *node;
	bool held_before;
	int r;

	if (!trie_nodes_reserve(trie, 2))
		return -ENOMEM;
	node = trie_node_at(trie, trie_tree_add(trie, tree, bits, length));
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
		trie_tree_remove(trie, tree, bits, length);
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
	struct trie_bits bits = bits_of(&prefix->address);
	uint32_t *tree, index;
	uint16_t number;
	int r;

	if (prefix->address.family != trie->family)
		return -ENOENT;
	tree = tree_of(trie, bits, prefix->length);
	index = trie_tree_find(trie, *tree, bits, prefix->length);
	if (!index)
		return -ENOENT;
	number = trie_node_at(trie, index)->number;
	trie_tree_remove(trie, tree, bits, prefix->length);
	r = prefix_touch(trie, bits, prefix->length);
	if (r) {
		/* what was freed is there to be used again */
		struct trie_node *node = trie_node_at(trie, trie_tree_add(trie, tree, bits, prefix->length));

		node->held = true;
		node->number = number;
		return r;
	}
	trie->count--;
	return 0;
}

int trie_get(const struct trie *trie, const struct prefix *prefix, uint32_t *ret_number)
{
	struct trie_bits bits = bits_of(&prefix->address);
	uint32_t index;

	if (prefix->address.family != trie->family)
		return -ENOENT;
	index = trie_tree_find(
		trie, *tree_of((struct trie *)trie, bits, prefix->length), bits, prefix->length);
	if (!index)
		return -ENOENT;
	*ret_number = trie_node_at(trie, index)->number;
	return 0;
}

int trie_cover(const struct trie *trie, const struct prefix *prefix, uint32_t *ret_number)
{
	struct trie_bits bits = bits_of(&prefix->address);
	uint32_t number;

	if (prefix->address.family != trie->family)
		return -ENOENT;
	number = trie_tree_cover(trie, trie->outside_tree, bits, prefix->length, UINT32_MAX);
	if (is_common(trie, bits, prefix->length))
		number = trie_tree_cover(trie, trie->short_tree, bits, prefix->length, number);
	if (is_common(trie, bits, prefix->length) && prefix->length > trie->depth)
		number =
			trie_tree_cover(trie, trie->trees[slot_of(trie, bits)], bits, prefix->length, number);
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
	const struct trie_node *node = trie_node_at(walk->trie, index);
	struct trie_bits bits = trie_node_bits(walk->trie, node);
	uint32_t words[4] = {htonl((uint32_t)(bits.high >> 32)), htonl((uint32_t)bits.high),
		htonl((uint32_t)(bits.low >> 32)), htonl((uint32_t)bits.low)};
	struct prefix prefix = {.address.family = walk->trie->family, .length = node->length};

	if (!node->held)
		return 0;
	memcpy(prefix.address.bytes, words, sizeof(words));
	return walk->function(walk->context, &prefix, node->number);
}

static int walk_tree(struct walk *walk, uint32_t index)
{
	uint32_t child[2];
	int r;

	if (!index)
		return 0;
	memcpy(child, trie_node_at(walk->trie, index)->child, sizeof(child));
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
	memcpy(child, trie_node_at(trie, index)->child, sizeof(child));
	r = walk_slots(walk, slot_of(trie, trie_node_bits(trie, trie_node_at(trie, index))));
	if (!r)
		r = walk_node(walk, index);
	if (!r)
		r = walk_short(walk, child[0]);
	return r ? r : walk_short(walk, child[1]);
}

/* What begins with the common bits, as far as it is inside a prefix that does so, too. */
static int walk_common(struct walk *walk, struct trie_bits bits, unsigned int length)
{
	struct trie *trie = walk->trie;
	uint32_t outside;
	int r;

	walk->next = slot_of(trie, bits);
	if (length >= trie->depth)
		return walk_tree(
			walk, trie_tree_inside(trie, trie->trees[walk->next], bits, length, &outside));
	r = walk_short(walk, trie_tree_inside(trie, trie->short_tree, bits, length, &outside));
	return r ? r : walk_slots(walk, slot_of(trie, bits) + (1U << (trie->depth - length)));
}

static bool bits_before(struct trie_bits a, struct trie_bits b)
{
	return a.high < b.high || (a.high == b.high && a.low < b.low);
}

/* A tree of what is outside, with all that begins with the common bits before the first that comes after it
 * (`done`). */
static int walk_outside(struct walk *walk, uint32_t index, bool *done)
{
	struct trie *trie = walk->trie;
	uint32_t child[2];
	int r = 0;

	if (!index)
		return 0;
	memcpy(child, trie_node_at(trie, index)->child, sizeof(child));
	if (!*done && bits_before(trie->common, trie_node_bits(trie, trie_node_at(trie, index)))) {
		*done = true;
		r = walk_common(walk, trie->common, trie->common_length);
	}
	if (!r)
		r = walk_node(walk, index);
	if (!r)
		r = walk_outside(walk, child[0], done);
	return r ? r : walk_outside(walk, child[1], done);
}

int trie_walk(struct trie *trie, const struct prefix *prefix, trie_walk_function *function, void *context)
{
	struct trie_bits bits = bits_of(&prefix->address);
	struct walk walk = {.trie = trie, .function = function, .context = context};
	uint32_t outside;
	bool done;
	int r;

	if (prefix->address.family != trie->family)
		return 0;
	if (is_common(trie, bits, prefix->length))
		return walk_common(&walk, bits, prefix->length);
	/* either around the common bits, or beside them */
	done = !bits_begin(trie->common, bits, prefix->length);
	r = walk_outside(
		&walk, trie_tree_inside(trie, trie->outside_tree, bits, prefix->length, &outside), &done);
	return r || done ? r : walk_common(&walk, trie->common, trie->common_length);
}

size_t trie_count(const struct trie *trie)
{
	return trie->count;
}

void trie_reclaim(struct trie *trie)
{
	for (size_t i = 0; i < trie->retired.count; i++)
		trie_block_free(trie, trie->retired.blocks[i]);
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
		units += trie_block_units[trie->retired.blocks[i].class];
	return units;
}

size_t trie_memory(const struct trie *trie)
{
	return trie->node_room * trie->node_words * sizeof(*trie->nodes) +
	       ((size_t)1 << trie->bits) * (sizeof(*trie->trees) + 2 * sizeof(uint64_t) / 64) +
	       (trie->retired.room + trie->fresh.room + trie->stale.room) * sizeof(struct trie_block) +
	       trie->pending_room * sizeof(*trie->pending);
}

uint32_t trie_lookup(const struct policy_unit *units, size_t unit_count, const struct address *address)
{
	struct trie_memory memory = {units, unit_count};
	const struct trie_head *head = (const struct trie_head *)units;
	struct trie_bits bits = bits_of(address);

	return address->family == 4
	               ? trie_find4_any(TRIE_IN_MAP(&memory), 0, head->root, (uint32_t)(bits.high >> 32))
	               : trie_find6_any(TRIE_IN_MAP(&memory), 0, head->root,
				 (struct trie_common){head->common, head->common_length}, bits.high,
				 bits.low);
}
