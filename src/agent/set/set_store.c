// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
#include "agent/set/set_store.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "basic/cleanup.h"

#define HEAD_MAGIC  0x31737465737765ULL /* "wesets1" */
#define REGION_GROW 65536U              /* entries */
#define TABLE_FIRST 4096U
#define NONE        UINT32_MAX

struct expiry {
	uint64_t ns;
	uint32_t entry;
};

struct set_store {
	struct engine *engine;
	struct engine_region region;
	struct set_head *head;
	struct set_kept *entries;

	/* Open addressing; an entry's index, NONE where nobody ever was.  An entry that was freed keeps its
	 * place until the table is made anew: `family` 0 is met there and passed over. */
	uint32_t *table;
	size_t table_size, table_used;

	uint32_t *free_entries;
	size_t free_count, free_size;

	/* Binary heap.  What is in it may be out of date: the entry's own time counts. */
	struct expiry *heap;
	size_t heap_count, heap_size;

	size_t count[SET_MAX], expiring[SET_MAX];
	uint32_t combination_table[SET_COMBINATIONS_MAX * 2]; /* number + 1, by hash of the mask */
};

/* -- entries -- */

static struct set_kept key_of(unsigned int set, const struct set_entry *entry)
{
	struct set_kept key = {.set = (uint8_t)set};

	if (entry->kind == SET_PORTS) {
		key.family = SET_FAMILY_PORT;
		memcpy(key.bytes, &entry->ports.low, sizeof(entry->ports.low));
		memcpy(key.bytes + sizeof(entry->ports.low), &entry->ports.high, sizeof(entry->ports.high));
	} else {
		key.family = entry->prefix.address.family;
		key.length = entry->prefix.length;
		memcpy(key.bytes, entry->prefix.address.bytes, sizeof(key.bytes));
	}
	return key;
}

void set_store_entry(const struct set_kept *kept, struct set_entry *ret_entry)
{
	*ret_entry = (struct set_entry){.kind = SET_ADDRESSES};
	if (kept->family == SET_FAMILY_PORT) {
		ret_entry->kind = SET_PORTS;
		memcpy(&ret_entry->ports.low, kept->bytes, sizeof(ret_entry->ports.low));
		memcpy(&ret_entry->ports.high, kept->bytes + sizeof(ret_entry->ports.low),
			sizeof(ret_entry->ports.high));
		return;
	}
	ret_entry->prefix.address.family = kept->family;
	ret_entry->prefix.length = kept->length;
	memcpy(ret_entry->prefix.address.bytes, kept->bytes, sizeof(kept->bytes));
}

static uint64_t mix(uint64_t hash, uint64_t word)
{
	hash = (hash ^ word) * 0x9e3779b97f4a7c15ULL;
	return hash ^ hash >> 32;
}

static size_t key_hash(const struct set_kept *key)
{
	uint64_t words[2];

	memcpy(words, key->bytes, sizeof(words));
	return mix(mix(mix(0, words[0]), words[1]),
		key->family | (uint64_t)key->length << 8 | (uint64_t)key->set << 16);
}

static bool key_equal(const struct set_kept *a, const struct set_kept *b)
{
	return a->family == b->family && a->length == b->length && a->set == b->set &&
	       memcmp(a->bytes, b->bytes, sizeof(a->bytes)) == 0;
}

static void table_add(struct set_store *store, uint32_t entry)
{
	size_t place = key_hash(&store->entries[entry]) & (store->table_size - 1);

	while (store->table[place] != NONE)
		place = (place + 1) & (store->table_size - 1);
	store->table[place] = entry;
	store->table_used++;
}

/* Makes the table anew, without what was freed, and at most half full. */
static int table_make(struct set_store *store)
{
	size_t size = TABLE_FIRST, living = store->head->used - store->free_count;
	uint32_t *table;

	while (size < living * 2 + 2)
		size *= 2;
	table = malloc(size * sizeof(*table));
	if (!table)
		return -ENOMEM;
	memset(table, 0xff, size * sizeof(*table));
	free(store->table);
	store->table = table;
	store->table_size = size;
	store->table_used = 0;
	for (uint32_t i = 0; i < store->head->used; i++)
		if (store->entries[i].family)
			table_add(store, i);
	return 0;
}

static uint32_t table_find(const struct set_store *store, const struct set_kept *key)
{
	size_t place = key_hash(key) & (store->table_size - 1);

	for (; store->table[place] != NONE; place = (place + 1) & (store->table_size - 1))
		if (key_equal(&store->entries[store->table[place]], key))
			return store->table[place];
	return NONE;
}

/* -- expiry -- */

static void heap_sink(struct set_store *store, size_t place)
{
	struct expiry *heap = store->heap, moved = heap[place];
	size_t child;

	while ((child = place * 2 + 1) < store->heap_count) {
		if (child + 1 < store->heap_count && heap[child + 1].ns < heap[child].ns)
			child++;
		if (moved.ns <= heap[child].ns)
			break;
		heap[place] = heap[child];
		place = child;
	}
	heap[place] = moved;
}

/* Leaves out what is out of date: an entry that gets a new time again and again leaves the old ones here. */
static void heap_compact(struct set_store *store)
{
	size_t kept = 0;

	for (size_t i = 0; i < store->heap_count; i++) {
		const struct set_kept *entry = &store->entries[store->heap[i].entry];

		if (entry->family && entry->expires_ns == store->heap[i].ns)
			store->heap[kept++] = store->heap[i];
	}
	store->heap_count = kept;
	for (size_t i = kept / 2; i-- > 0;)
		heap_sink(store, i);
}

static int heap_add(struct set_store *store, uint64_t ns, uint32_t entry)
{
	size_t place;
	bool full = store->heap_count == store->heap_size;

	if (full)
		heap_compact(store);
	place = store->heap_count;
	if (full && place * 2 >= store->heap_size) {
		size_t size = store->heap_size ? store->heap_size * 2 : 1024;
		struct expiry *heap = realloc(store->heap, size * sizeof(*heap));

		if (!heap)
			return -ENOMEM;
		store->heap = heap;
		store->heap_size = size;
	}
	store->heap_count++;
	for (; place && store->heap[(place - 1) / 2].ns > ns; place = (place - 1) / 2)
		store->heap[place] = store->heap[(place - 1) / 2];
	store->heap[place] = (struct expiry){ns, entry};
	return 0;
}

int64_t set_store_expired(struct set_store *store, uint64_t now_ns)
{
	while (store->heap_count) {
		const struct expiry *first = &store->heap[0];
		const struct set_kept *entry = &store->entries[first->entry];
		uint32_t index = first->entry;
		bool true_yet = entry->family && entry->expires_ns == first->ns;

		if (true_yet && first->ns > now_ns)
			return -ENOENT;
		store->heap[0] = store->heap[--store->heap_count];
		if (store->heap_count)
			heap_sink(store, 0);
		if (true_yet && entry->flags & SET_NOW)
			return index;
	}
	return -ENOENT;
}

/* -- versions -- */

static void count_change(struct set_store *store, const struct set_kept *entry, int change)
{
	store->count[entry->set] += (size_t)change;
	if (entry->expires_ns)
		store->expiring[entry->set] += (size_t)change;
}

static int entry_free(struct set_store *store, uint32_t index)
{
	if (store->free_count == store->free_size) {
		size_t size = store->free_size ? store->free_size * 2 : 1024;
		uint32_t *entries = realloc(store->free_entries, size * sizeof(*entries));

		if (!entries)
			return -ENOMEM; /* found again with the next agent */
		store->free_entries = entries;
		store->free_size = size;
	}
	store->free_entries[store->free_count++] = index;
	return 0;
}

static void entry_set_flags(struct set_store *store, uint32_t index, uint8_t flags)
{
	struct set_kept *entry = &store->entries[index];
	uint8_t changed = entry->flags ^ flags;

	if (changed & SET_NOW)
		count_change(store, entry, flags & SET_NOW ? 1 : -1);
	entry->flags = flags;
	if (flags)
		return;
	entry->family = 0;
	entry_free(store, index);
}

static int entry_take(struct set_store *store, uint32_t *ret_index)
{
	size_t bytes = sizeof(struct set_head) + ((size_t)store->head->used + 1) * sizeof(struct set_kept);
	int r = 0;

	if (store->free_count) {
		*ret_index = store->free_entries[--store->free_count];
		return 0;
	}
	if (store->head->used >= SET_ENTRIES_MAX)
		return -ENOSPC;
	if (bytes > store->region.size)
		r = engine_region_grow(store->engine, &store->region, bytes);
	if (r < 0)
		return r;
	*ret_index = store->head->used++;
	return 0;
}

int set_store_put(struct set_store *store, unsigned int set, const struct set_entry *entry,
	uint64_t expires_ns, uint8_t flags)
{
	struct set_slot *slot = &store->head->slots[set];
	struct set_kept key = key_of(set, entry);
	struct set_kept *kept;
	uint32_t index;
	int r;

	if (slot->kind != SET_EMPTY && slot->kind != entry->kind)
		return -EINVAL;
	index = table_find(store, &key);
	if (index != NONE) {
		kept = &store->entries[index];
		if (kept->flags & SET_NOW && flags & SET_NOW)
			store->expiring[set] += (size_t)(!!expires_ns - !!kept->expires_ns);
		if (flags & SET_NOW || !(kept->flags & SET_NOW))
			kept->expires_ns = expires_ns;
		r = (kept->flags & flags) != flags;
		entry_set_flags(store, index, kept->flags | flags);
	} else {
		r = store->table_used * 4 >= store->table_size * 3 ? table_make(store) : 0;
		if (r == 0)
			r = entry_take(store, &index);
		if (r < 0)
			return r;
		kept = &store->entries[index];
		key.expires_ns = expires_ns;
		key.family = 0; /* counts as free until all of it is there */
		*kept = key;
		kept->family = key_of(set, entry).family;
		entry_set_flags(store, index, flags);
		table_add(store, index);
		r = 1;
	}
	slot->kind = entry->kind;
	if (expires_ns && heap_add(store, expires_ns, index) < 0)
		return -ENOMEM;
	return r;
}

int set_store_remove(struct set_store *store, unsigned int set, const struct set_entry *entry, uint8_t flags)
{
	struct set_kept key = key_of(set, entry);
	uint32_t index = table_find(store, &key);

	if (index == NONE || !(store->entries[index].flags & flags))
		return 0;
	entry_set_flags(store, index, store->entries[index].flags & ~flags);
	return 1;
}

bool set_store_has(
	const struct set_store *store, unsigned int set, const struct set_entry *entry, uint8_t flags)
{
	struct set_kept key = key_of(set, entry);
	uint32_t index = table_find(store, &key);

	return index != NONE && store->entries[index].flags & flags;
}

void set_store_copy(struct set_store *store, uint64_t sets, uint8_t from, uint8_t to)
{
	for (uint32_t i = 0; i < store->head->used; i++) {
		const struct set_kept *entry = &store->entries[i];
		uint8_t flags = entry->flags & ~to;

		if (!entry->family || !(sets >> entry->set & 1))
			continue;
		if (entry->flags & from)
			flags |= to;
		if (flags != entry->flags)
			entry_set_flags(store, i, flags);
	}
}

/* -- sets -- */

int set_store_find(const struct set_store *store, const char *name)
{
	for (int i = 0; i < SET_MAX; i++)
		if (store->head->slots[i].name[0] && strcmp(store->head->slots[i].name, name) == 0)
			return i;
	return -ENOENT;
}

int set_store_make(struct set_store *store, const char *name, bool live)
{
	for (int i = 0; i < SET_MAX; i++) {
		struct set_slot *slot = &store->head->slots[i];

		if (slot->name[0])
			continue;
		slot->kind = SET_EMPTY;
		slot->live = live;
		memcpy(slot->name + 1, name + 1, strlen(name));
		slot->name[0] = name[0]; /* last: now it is there */
		return i;
	}
	return -ENOSPC;
}

void set_store_destroy(struct set_store *store, unsigned int set)
{
	set_store_copy(store, 1ULL << set, 0, SET_NOW | SET_BEFORE | SET_NEXT);
	store->head->slots[set] = (struct set_slot){};
}

struct set_head *set_store_head(const struct set_store *store)
{
	return store->head;
}

const struct set_kept *set_store_entries(const struct set_store *store)
{
	return store->entries;
}

size_t set_store_count(const struct set_store *store, unsigned int set)
{
	return store->count[set];
}

size_t set_store_expiring(const struct set_store *store, unsigned int set)
{
	return store->expiring[set];
}

size_t set_store_bytes(const struct set_store *store)
{
	return store->region.size + store->table_size * sizeof(*store->table) +
	       store->heap_size * sizeof(*store->heap) + store->free_size * sizeof(*store->free_entries);
}

/* -- combinations -- */

static uint32_t *combination_place(struct set_store *store, uint64_t mask)
{
	size_t size = sizeof(store->combination_table) / sizeof(store->combination_table[0]);
	size_t place = mix(0, mask) & (size - 1);

	while (store->combination_table[place] &&
		store->head->combinations[store->combination_table[place] - 1] != mask)
		place = (place + 1) & (size - 1);
	return &store->combination_table[place];
}

int set_store_combination(struct set_store *store, uint64_t mask)
{
	struct set_head *head = store->head;
	uint32_t *place = combination_place(store, mask);

	if (*place)
		return (int)*place - 1;
	if (head->combination_count == SET_COMBINATIONS_MAX)
		return -ENOSPC;
	head->combinations[head->combination_count] = mask;
	*place = ++head->combination_count;
	return (int)*place - 1;
}

/* -- opening -- */

/* What an agent that was killed left in between, and the indices that are not kept. */
static int store_read(struct set_store *store)
{
	struct set_head *head = store->head;
	int r;

	for (uint32_t i = 0; i < head->combination_count; i++)
		*combination_place(store, head->combinations[i]) = i + 1;
	for (uint32_t i = 0; i < head->used; i++) {
		struct set_kept *entry = &store->entries[i];

		if (!entry->flags || entry->set >= SET_MAX || !head->slots[entry->set].name[0]) {
			entry->family = 0;
			entry->flags = 0;
		}
		if (!entry->family) {
			r = entry_free(store, i);
		} else {
			if (entry->flags & SET_NOW)
				count_change(store, entry, 1);
			r = entry->expires_ns ? heap_add(store, entry->expires_ns, i) : 0;
		}
		if (r < 0)
			return r;
	}
	return table_make(store);
}

int set_store_open(struct engine *engine, struct set_store **ret_store, struct error *error)
{
	struct set_store *store = calloc(1, sizeof(*store));
	int r;

	if (!store)
		return error_set(error, -ENOMEM, "out of memory");
	store->engine = engine;
	r = engine_region_open(engine, "sets",
		sizeof(struct set_head) + SET_ENTRIES_MAX * sizeof(struct set_kept), &store->region, error);
	if (r == 0) {
		r = engine_region_grow(engine, &store->region, sizeof(struct set_head));
		if (r < 0)
			error_set(error, r, "no memory for sets: %s", strerror(-r));
	}
	if (r < 0) {
		set_store_close(store);
		return r;
	}
	store->head = store->region.base;
	store->entries = (struct set_kept *)(store->head + 1);
	if (store->head->magic != HEAD_MAGIC) {
		store->head->combination_count = 1;
		store->head->magic = HEAD_MAGIC;
	}
	r = store_read(store);
	if (r < 0) {
		set_store_close(store);
		return error_set(error, r, "cannot read the sets: %s", strerror(-r));
	}
	*ret_store = store;
	return 0;
}

void set_store_close(struct set_store *store)
{
	if (!store)
		return;
	engine_region_close(&store->region);
	free(store->table);
	free(store->free_entries);
	free(store->heap);
	free(store);
}
