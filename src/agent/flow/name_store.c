// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
#include "agent/flow/name_store.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define NONE STORE_END

/* Addresses are reserved for so many: what an agent with a larger limit left is seen, and cleared away. */
#define PLACES_MAX (1U << 20)

/* Of one place: the hash chain, and the order in which entries were put. */
struct link {
	uint32_t next;         /* in the chain */
	uint32_t newer, older; /* NONE at the ends */
};

struct store {
	struct engine *engine;
	struct engine_region region;
	size_t entry_bytes, key_bytes;
	uint32_t limit, used, count; /* places: allowed, ever used; with an entry */
	uint32_t *heads, mask;
	struct link *links;
	uint32_t newest, oldest;
	uint64_t seed, displaced;
};

static uint64_t hash_bytes(uint64_t seed, const void *bytes, size_t size)
{
	const uint8_t *at = bytes;
	uint64_t hash = seed ^ 0x9e3779b97f4a7c15ULL, word;

	for (; size; at += 8) {
		size_t part = size < 8 ? size : 8;

		word = 0;
		memcpy(&word, at, part);
		hash = (hash ^ word) * 0xff51afd7ed558ccdULL;
		hash ^= hash >> 32;
		size -= part;
	}
	return hash;
}

static struct stored *entry_at(const struct store *store, uint32_t place)
{
	return (struct stored *)((char *)store->region.base + place * store->entry_bytes);
}

static uint64_t check_of(const struct store *store, const struct stored *entry)
{
	return hash_bytes(1, &entry->put_ns, store->entry_bytes - offsetof(struct stored, put_ns)) | 1;
}

static uint32_t *head_of(const struct store *store, const void *key)
{
	return &store->heads[hash_bytes(store->seed, key, store->key_bytes) & store->mask];
}

static uint32_t place_of(const struct store *store, const void *key)
{
	uint32_t place = *head_of(store, key);

	while (place != NONE && memcmp(entry_at(store, place) + 1, key, store->key_bytes) != 0)
		place = store->links[place].next;
	return place;
}

/* -- order in which they were put -- */

static void order_add(struct store *store, uint32_t place)
{
	store->links[place].newer = NONE;
	store->links[place].older = store->newest;
	if (store->newest != NONE)
		store->links[store->newest].newer = place;
	else
		store->oldest = place;
	store->newest = place;
}

static void order_remove(struct store *store, uint32_t place)
{
	const struct link *link = &store->links[place];

	if (link->newer != NONE)
		store->links[link->newer].older = link->older;
	else
		store->newest = link->older;
	if (link->older != NONE)
		store->links[link->older].newer = link->newer;
	else
		store->oldest = link->newer;
}

/* -- index -- */

static void index_add(struct store *store, uint32_t place)
{
	uint32_t *head = head_of(store, entry_at(store, place) + 1);

	store->links[place].next = *head;
	*head = place;
	store->count++;
}

static void index_remove(struct store *store, uint32_t place)
{
	uint32_t *at = head_of(store, entry_at(store, place) + 1);

	while (*at != NONE && *at != place)
		at = &store->links[*at].next;
	if (*at == NONE)
		return; /* a place without an entry */
	*at = store->links[place].next;
	store->count--;
}

static int compare_age(const void *left, const void *right, void *context)
{
	uint64_t a = entry_at(context, *(const uint32_t *)left)->put_ns;
	uint64_t b = entry_at(context, *(const uint32_t *)right)->put_ns;

	return (a > b) - (a < b);
}

/* What an earlier agent left.  Places without a sound entry come first in the order: they are taken first. */
static int index_build(struct store *store)
{
	uint32_t room = (uint32_t)(store->region.size / store->entry_bytes), sound = 0, *places;

	if (room > store->limit) {
		memset(entry_at(store, store->limit), 0, (room - store->limit) * store->entry_bytes);
		room = store->limit;
	}
	while (room && !entry_at(store, room - 1)->check)
		room--;
	store->used = room;
	if (!room)
		return 0;
	places = malloc(room * sizeof(*places));
	if (!places)
		return -ENOMEM;
	for (uint32_t i = 0; i < room; i++) {
		struct stored *entry = entry_at(store, i);

		if (entry->check && entry->check == check_of(store, entry) &&
			place_of(store, entry + 1) == NONE) {
			index_add(store, i);
			places[sound++] = i;
		} else {
			memset(entry, 0, store->entry_bytes);
			order_add(store, i);
		}
	}
	qsort_r(places, sound, sizeof(*places), compare_age, store);
	for (uint32_t i = 0; i < sound; i++)
		order_add(store, places[i]);
	free(places);
	return 0;
}

static void index_empty(struct store *store)
{
	for (uint32_t i = 0; i <= store->mask; i++)
		store->heads[i] = NONE;
	store->newest = store->oldest = NONE;
	store->used = store->count = 0;
}

int store_open(struct engine *engine, const char *name, size_t entry_bytes, size_t key_bytes, uint32_t limit,
	struct store **ret_store, struct error *error)
{
	struct store *store = calloc(1, sizeof(*store));
	uint32_t heads = 64;
	int r;

	if (!store)
		return error_set(error, -ENOMEM, "out of memory");
	store->engine = engine;
	store->entry_bytes = entry_bytes;
	store->key_bytes = key_bytes;
	store->limit = limit;
	while (heads < limit)
		heads *= 2;
	store->mask = heads - 1;
	store->heads = malloc(heads * sizeof(*store->heads));
	store->links = calloc(limit, sizeof(*store->links));
	r = engine_region_open(engine, name, PLACES_MAX * entry_bytes, &store->region, error);
	if (r == 0 && (!store->heads || !store->links ||
			      getrandom(&store->seed, sizeof(store->seed), 0) != sizeof(store->seed)))
		r = error_set(error, -ENOMEM, "out of memory");
	if (r == 0) {
		index_empty(store);
		r = index_build(store);
	}
	if (r < 0) {
		store_close(store);
		return r;
	}
	*ret_store = store;
	return 0;
}

void store_close(struct store *store)
{
	if (!store)
		return;
	engine_region_close(&store->region);
	free(store->heads);
	free(store->links);
	free(store);
}

void store_clear(struct store *store)
{
	memset(store->region.base, 0, store->region.size);
	index_empty(store);
}

const void *store_find(const struct store *store, const void *key)
{
	uint32_t place = place_of(store, key);

	return place == NONE ? NULL : entry_at(store, place);
}

/* A place nobody needs: a new one, while there may be more; else the oldest's. */
static uint32_t place_take(struct store *store)
{
	uint32_t place = store->oldest;

	if (store->used < store->limit && (place == NONE || entry_at(store, place)->check) &&
		engine_region_grow(
			store->engine, &store->region, (size_t)(store->used + 1) * store->entry_bytes) == 0)
		return store->used++;
	if (place == NONE)
		return NONE; /* not even memory for the first */
	if (entry_at(store, place)->check) {
		index_remove(store, place);
		store->displaced++;
	}
	order_remove(store, place);
	return place;
}

void store_put(struct store *store, void *entry, uint64_t now_ns)
{
	struct stored *from = entry, *to;
	uint32_t place = place_of(store, from + 1);

	if (place != NONE) {
		index_remove(store, place);
		order_remove(store, place);
	} else {
		place = place_take(store);
	}
	if (place == NONE)
		return;
	from->put_ns = now_ns;
	from->check = check_of(store, from);
	to = entry_at(store, place);
	/* killed in the middle of it, the check does not fit */
	__atomic_store_n(&to->check, 0, __ATOMIC_RELEASE);
	memcpy(&to->put_ns, &from->put_ns, store->entry_bytes - offsetof(struct stored, put_ns));
	__atomic_store_n(&to->check, from->check, __ATOMIC_RELEASE);
	index_add(store, place);
	order_add(store, place);
}

const void *store_next(const struct store *store, uint32_t *place)
{
	*place = *place == STORE_END ? store->newest : store->links[*place].older;
	while (*place != NONE && !entry_at(store, *place)->check)
		*place = store->links[*place].older;
	return *place == NONE ? NULL : entry_at(store, *place);
}

uint32_t store_count(const struct store *store)
{
	return store->count;
}

uint32_t store_limit(const struct store *store)
{
	return store->limit;
}

uint64_t store_displaced(const struct store *store)
{
	return store->displaced;
}

size_t store_bytes(const struct store *store)
{
	return store->region.size;
}
