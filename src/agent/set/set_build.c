// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
#include "agent/set/set_build.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "basic/cleanup.h"

#define DEPTH_MAX 130 /* prefixes that contain one another */

static uint64_t mask_of(const struct set_store *store, uint32_t combination)
{
	return set_store_head(store)->combinations[combination];
}

/* -- building -- */

static int kept_compare(const void *a, const void *b, void *context)
{
	const struct set_kept *entries = context;
	const struct set_kept *x = &entries[*(const uint32_t *)a], *y = &entries[*(const uint32_t *)b];
	int r = memcmp(x->bytes, y->bytes, sizeof(x->bytes));

	return r ? r : x->length - y->length;
}

static struct prefix prefix_of(const struct set_kept *entry)
{
	struct set_entry result;

	set_store_entry(entry, &result);
	return result.prefix;
}

struct level {
	struct prefix prefix;
	uint64_t mask;
};

/* Writes sorted entries.  What contains a prefix comes before it, so a stack of those that are open is
 * enough. */
static int trie_fill(
	struct trie *trie, struct set_store *store, const uint32_t *order, size_t count, size_t *progress)
{
	const struct set_kept *entries = set_store_entries(store);
	struct level levels[DEPTH_MAX];
	size_t depth = 0, next;

	for (size_t i = 0; i < count; i = next) {
		struct prefix prefix = prefix_of(&entries[order[i]]);
		uint64_t mask = 0;
		int combination, r;

		for (next = i; next < count && !kept_compare(&order[i], &order[next], (void *)entries);
			next++)
			mask |= 1ULL << entries[order[next]].set;
		while (depth && !prefix_contains(&levels[depth - 1].prefix, &prefix.address))
			depth--;
		if (depth)
			mask |= levels[depth - 1].mask;
		levels[depth++] = (struct level){prefix, mask};
		combination = set_store_combination(store, mask);
		if (combination < 0)
			return -EOVERFLOW;
		r = trie_set(trie, &prefix, (uint32_t)combination);
		if (r < 0)
			return r;
		if (progress)
			__atomic_store_n(progress, *progress + (next - i), __ATOMIC_RELAXED);
	}
	return 0;
}

static int memory_more(void *context, size_t *unit_count)
{
	struct engine_set_memory *memory = context;
	int r = engine_set_memory_grow(memory, memory->count + 1);

	*unit_count = memory->count;
	return r;
}

/* Of sorted entries.  A few that lie far from the others do not count. */
static struct trie_shape shape_of(
	const struct set_store *store, uint8_t family, const uint32_t *order, size_t count)
{
	const struct set_kept *entries = set_store_entries(store);
	struct prefix low, high;

	if (!count)
		return trie_shape_for(family, 0, NULL, NULL);
	low = prefix_of(&entries[order[count / 64]]);
	high = prefix_of(&entries[order[count - 1 - count / 64]]);
	return trie_shape_for(family, count, &low.address, &high.address);
}

/* One family, in memory that grows until it suffices. */
static int family_build(struct engine *engine, struct set_store *store, uint8_t family, const uint32_t *order,
	size_t count, struct set_tries *tries, size_t *progress, struct error *error)
{
	const struct trie_shape shape = shape_of(store, family, order, count);
	struct engine_set_memory *memory = &tries->memory[family == 6];
	struct trie **trie = &tries->trie[family == 6];
	size_t room = 0;
	int r = engine_set_memory_open(engine, trie_units_root(shape.root), memory, error);

	if (r < 0)
		return r;
	r = trie_open_as(&shape, memory->units, memory->count, trie);
	if (r == 0) {
		trie_grow_by(*trie, memory_more, memory);
		trie_hold(*trie);
		r = trie_fill(*trie, store, order, count, progress);
	}
	if (r == 0)
		r = trie_write(*trie);
	/* what is read meanwhile does not grow, so there is some more for what comes later; what stands in a
	 * wide root goes elsewhere when it changes for the first time, and back the next time at best */
	if (r == 0)
		room = trie_units(*trie) + trie_units(*trie) / 4 +
		       (shape.root & TRIE_WIDE ? TRIE_ROOT_UNITS(shape.root) / 2 : 0);
	while (r == 0 && memory->count < room && trie_more(*trie) == 0)
		;
	if (r == 0)
		trie_grow_by(*trie, NULL, NULL);
	if (r == -EOVERFLOW) {
		error_set(error, -E2BIG, "the sets overlap in more than %d ways", SET_COMBINATIONS_MAX - 1);
		error_want(error, "fewer sets with the same addresses");
		return -E2BIG;
	}
	return r < 0 ? error_set(error, r, "cannot build a trie: %s", strerror(-r)) : 0;
}

int set_tries_build(struct engine *engine, struct set_store *store, uint8_t version,
	struct set_tries *ret_tries, size_t *progress, struct error *error)
{
	const struct set_kept *entries = set_store_entries(store);
	size_t used = set_store_head(store)->used;
	_cleanup_free_ uint32_t *order = malloc((used + 1) * sizeof(*order));
	struct set_tries tries = {};
	int r = 0;

	if (!order)
		return error_set(error, -ENOMEM, "out of memory");
	for (uint8_t family = 4; family <= 6 && r == 0; family += 2) {
		size_t count = 0;

		for (uint32_t i = 0; i < used; i++)
			if (entries[i].family == family && entries[i].flags & version)
				order[count++] = i;
		qsort_r(order, count, sizeof(*order), kept_compare, (void *)entries);
		r = family_build(engine, store, family, order, count, &tries, progress, error);
	}
	if (r < 0) {
		set_tries_close(&tries);
		return r;
	}
	*ret_tries = tries;
	return 0;
}

void set_tries_close(struct set_tries *tries)
{
	for (int i = 0; i < 2; i++) {
		if (tries->trie[i])
			trie_close(tries->trie[i]);
		engine_set_memory_close(&tries->memory[i]);
	}
	*tries = (struct set_tries){};
}

size_t set_tries_bytes(const struct set_tries *tries)
{
	size_t bytes = 0;

	for (int i = 0; i < 2; i++)
		bytes += tries->memory[i].count * sizeof(struct policy_unit) +
		         (tries->trie[i] ? trie_memory(tries->trie[i]) : 0);
	return bytes;
}

/* -- changing -- */

struct change {
	struct trie *trie;
	struct set_store *store;
	unsigned int set;
	const struct prefix *prefix;
	set_combination_function *function;
	void *context;
	bool has_cover;
	struct prefix cover; /* inside the prefix, and in the set itself: what is in it stays in the set */
};

static struct change change_of(const struct set_tries *tries, struct set_store *store, unsigned int set,
	const struct prefix *prefix, set_combination_function *function, void *context)
{
	return (struct change){
		.trie = tries->trie[prefix->address.family == 6],
		.store = store,
		.set = set,
		.prefix = prefix,
		.function = function,
		.context = context,
	};
}

static int number_set(struct change *change, const struct prefix *prefix, uint64_t mask)
{
	int combination = set_store_combination(change->store, mask), r;

	if (combination < 0)
		return -EOVERFLOW;
	r = change->function(change->context, (unsigned int)combination);
	return r < 0 ? r : trie_set(change->trie, prefix, (uint32_t)combination);
}

static bool is_itself(const struct change *change, const struct prefix *prefix)
{
	return prefix->length == change->prefix->length;
}

static int add_below(void *context, const struct prefix *prefix, uint32_t number)
{
	struct change *change = context;
	uint64_t mask = mask_of(change->store, number), with = mask | 1ULL << change->set;

	return is_itself(change, prefix) || with == mask ? 0 : number_set(change, prefix, with);
}

static int remove_below(void *context, const struct prefix *prefix, uint32_t number)
{
	struct change *change = context;
	struct set_entry entry = {.kind = SET_ADDRESSES, .prefix = *prefix};
	uint64_t mask = mask_of(change->store, number);

	if (is_itself(change, prefix) || (change->has_cover && prefix->length >= change->cover.length &&
						 prefix_contains(&change->cover, &prefix->address)))
		return 0;
	if (set_store_has(change->store, change->set, &entry, SET_NOW)) {
		change->cover = *prefix;
		change->has_cover = true;
		return 0;
	}
	return number_set(change, prefix, mask & ~(1ULL << change->set));
}

/* The sets of what contains the prefix. */
static uint64_t mask_above(const struct change *change)
{
	uint32_t number;

	return trie_cover(change->trie, change->prefix, &number) == 0 ? mask_of(change->store, number) : 0;
}

int set_tries_add(struct set_tries *tries, struct set_store *store, unsigned int set,
	const struct prefix *prefix, set_combination_function *function, void *context)
{
	struct change change = change_of(tries, store, set, prefix, function, context);
	uint32_t number;
	uint64_t mask;
	int r;

	mask = trie_get(change.trie, prefix, &number) == 0 ? mask_of(store, number) : mask_above(&change);
	r = number_set(&change, prefix, mask | 1ULL << set);
	return r < 0 ? r : trie_walk(change.trie, prefix, add_below, &change);
}

int set_tries_remove(struct set_tries *tries, struct set_store *store, unsigned int set,
	const struct prefix *prefix, set_combination_function *function, void *context)
{
	struct change change = change_of(tries, store, set, prefix, function, context);
	const struct set_entry entry = {.kind = SET_ADDRESSES, .prefix = *prefix};
	uint64_t above = mask_above(&change), mask = above;
	bool used = false;
	int r = 0;

	for (unsigned int other = 0; other < SET_MAX; other++) {
		if (set_store_head(store)->slots[other].name[0] &&
			set_store_has(store, other, &entry, SET_NOW)) {
			mask |= 1ULL << other;
			used = true;
		}
	}
	/* inside first: an address must not fall back on what is about to go */
	if (!(above >> set & 1))
		r = trie_walk(change.trie, prefix, remove_below, &change);
	if (r < 0)
		return r;
	return used ? number_set(&change, prefix, mask) : trie_remove(change.trie, prefix);
}
