// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* The memory of sets.  The maps of maps are made here, and found by the programs' objects by their names. */
#include "engine/set.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "basic/cleanup.h"
#include "engine/internal.h"
#include "shared/trie.h"

#define CHUNK_BYTES (SET_CHUNK_UNITS * sizeof(struct policy_unit))

struct set_maps {
	int tries[2]; /* IPv4, IPv6 */
	int none;     /* a chunk that stands where no other does any more; -1: not needed yet */
	__u32 none_id;
	int places_map;
	struct set_places *places;
};

static void set_close(void *state)
{
	struct set_maps *maps = state;

	for (int i = 0; i < 2; i++)
		if (maps->tries[i] >= 0)
			close(maps->tries[i]);
	if (maps->none >= 0)
		close(maps->none);
	if (maps->places)
		munmap(maps->places, (size_t)sysconf(_SC_PAGESIZE));
	if (maps->places_map >= 0)
		close(maps->places_map);
	free(maps);
}

static int chunk_make(void)
{
	LIBBPF_OPTS(bpf_map_create_opts, options, .map_flags = BPF_F_MMAPABLE);

	return bpf_map_create(BPF_MAP_TYPE_ARRAY, "set_chunk", sizeof(__u32), sizeof(struct policy_unit),
		SET_CHUNK_UNITS, &options);
}

static int tries_make(const char *name)
{
	LIBBPF_OPTS(bpf_map_create_opts, options);
	_cleanup_close_ int inner = chunk_make();

	if (inner < 0)
		return inner;
	options.inner_map_fd = (__u32)inner;
	return bpf_map_create(
		BPF_MAP_TYPE_ARRAY_OF_MAPS, name, sizeof(__u32), sizeof(__u32), SET_CHUNK_WAIT + 1, &options);
}

static int places_make(const char *name)
{
	LIBBPF_OPTS(bpf_map_create_opts, options, .map_flags = BPF_F_MMAPABLE);

	return bpf_map_create(
		BPF_MAP_TYPE_ARRAY, name, sizeof(__u32), sizeof(struct set_places), 1, &options);
}

/* A map that the programs find pinned. */
static int map_get(struct engine *engine, const char *name, int (*make)(const char *name), int *ret_map,
	struct error *error)
{
	char path[PATH_MAX];
	_cleanup_close_ int map = bpf_obj_get(pins_path(&engine->pins, path, name));
	int r = 0;

	if (map < 0) {
		map = make(name);
		r = map < 0 ? map : bpf_obj_pin(map, path) < 0 ? -errno : 0;
	}
	if (r < 0)
		return error_set(error, r, "cannot make the map %s: %s", name, strerror(-r));
	*ret_map = TAKE_FD(map);
	return 0;
}

static int set_open(struct engine *engine, void **ret_state, struct error *error)
{
	struct set_maps *maps = malloc(sizeof(*maps));
	void *places;
	int r;

	if (!maps)
		return error_set(error, -ENOMEM, "out of memory");
	*maps = (struct set_maps){.tries = {-1, -1}, .none = -1, .places_map = -1};
	*ret_state = maps;
	r = map_get(engine, "set_trie4", tries_make, &maps->tries[0], error);
	if (r == 0)
		r = map_get(engine, "set_trie6", tries_make, &maps->tries[1], error);
	if (r == 0)
		r = map_get(engine, "set_places", places_make, &maps->places_map, error);
	if (r < 0)
		return r;
	places = mmap(
		NULL, (size_t)sysconf(_SC_PAGESIZE), PROT_READ | PROT_WRITE, MAP_SHARED, maps->places_map, 0);
	if (places == MAP_FAILED)
		return error_set(error, -errno, "cannot map set_places: %s", strerror(errno));
	maps->places = places;
	return 0;
}

const struct engine_part set_part = {"set", set_open, set_close};

/* -- memory -- */

static size_t chunks_of(const struct engine_set_memory *memory)
{
	return memory->count / SET_CHUNK_UNITS;
}

static int chunk_add(struct engine_set_memory *memory)
{
	size_t chunk = chunks_of(memory);
	_cleanup_close_ int map = -1;

	if (chunk == SET_CHUNKS)
		return -ENOSPC;
	map = chunk_make();
	if (map < 0)
		return map;
	if (mmap(memory->units + memory->count, CHUNK_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
		    map, 0) == MAP_FAILED)
		return -errno;
	memory->chunks[chunk] = TAKE_FD(map);
	memory->count += SET_CHUNK_UNITS;
	return 0;
}

int engine_set_memory_grow(struct engine_set_memory *memory, size_t units)
{
	int r = 0;

	while (memory->count < units && r == 0)
		r = chunk_add(memory);
	return r;
}

int engine_set_memory_open(
	struct engine *engine, size_t units, struct engine_set_memory *ret_memory, struct error *error)
{
	struct engine_set_memory memory = {};
	int r;

	(void)engine;
	memory.chunks = malloc(SET_CHUNKS * sizeof(*memory.chunks));
	if (!memory.chunks)
		return error_set(error, -ENOMEM, "out of memory");
	/* room, so that it can grow in place */
	memory.units = mmap(NULL, SET_CHUNKS * CHUNK_BYTES, PROT_NONE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (memory.units == MAP_FAILED) {
		r = -errno;
		free(memory.chunks);
		return error_set(error, r, "no room for the memory of sets: %s", strerror(-r));
	}
	r = engine_set_memory_grow(&memory, units);
	if (r < 0) {
		engine_set_memory_close(&memory);
		return error_set(error, r, "no memory for sets (%zu MiB): %s",
			units * sizeof(struct policy_unit) >> 20, strerror(-r));
	}
	*ret_memory = memory;
	return 0;
}

void engine_set_memory_close(struct engine_set_memory *memory)
{
	if (!memory->chunks)
		return;
	for (size_t i = 0; i < chunks_of(memory); i++)
		close(memory->chunks[i]);
	free(memory->chunks);
	munmap(memory->units, SET_CHUNKS * CHUNK_BYTES);
	*memory = (struct engine_set_memory){};
}

/* -- places -- */

/* The kernel waits after each change of a map of maps until nobody reads what was there: once for all of
 * them, if it can (6.8). */
static int chunks_put(int tries, __u32 first, const int *chunks, size_t count)
{
	LIBBPF_OPTS(bpf_map_batch_opts, options);
	__u32 keys[SET_CHUNKS] = {}, n = (__u32)count;

	for (size_t i = 0; i < count; i++)
		keys[i] = first + (__u32)i;
	if (!count || bpf_map_update_batch(tries, keys, chunks, &n, &options) == 0)
		return 0;
	for (size_t i = 0; i < count; i++)
		if (bpf_map_update_elem(tries, &keys[i], &chunks[i], BPF_ANY) < 0)
			return -errno;
	return 0;
}

static int none_make(struct set_maps *maps)
{
	struct bpf_map_info info = {};
	__u32 size = sizeof(info);
	_cleanup_close_ int none = -1;

	if (maps->none >= 0)
		return 0;
	none = chunk_make();
	if (none < 0)
		return none;
	if (bpf_obj_get_info_by_fd(none, &info, &size) < 0)
		return -errno;
	maps->none_id = info.id;
	maps->none = TAKE_FD(none);
	return 0;
}

/* Frees the chunks of a slot from this one on.  To take each out would be a wait for each, so one that is
 * never read takes their places at once.  They are without a gap even where an agent was killed meanwhile. */
static int slot_clear(struct set_maps *maps, int tries, __u32 first, size_t from)
{
	int chunks[SET_CHUNKS];
	__u32 key, id;
	size_t count = 0;
	int r = none_make(maps);

	if (r < 0)
		return r;
	for (key = first + (__u32)from; from + count < SET_CHUNKS; key++) {
		if (bpf_map_lookup_elem(tries, &key, &id) < 0 || id == maps->none_id)
			break;
		chunks[count++] = maps->none;
	}
	return chunks_put(tries, first + (__u32)from, chunks, count);
}

/* The first chunk of the slot that no place has. */
static __u32 slot_free(const __u64 *tries)
{
	__u32 slot = 0;

	for (; slot < SET_SLOTS - 1; slot++) {
		bool used = false;

		for (int place = 0; place < 2; place++)
			used |= tries[place] && SET_TRIE_CHUNK(tries[place]) == slot * SET_CHUNKS;
		if (!used)
			break;
	}
	return slot * SET_CHUNKS;
}

int engine_set_memory_bring(struct engine *engine, uint8_t family, unsigned int place,
	const struct engine_set_memory *memory, struct error *error)
{
	struct set_maps *maps = engine_part_state(engine, &set_part);
	int tries = maps->tries[family == 6], r = 0;
	__u64 *places = family == 6 ? maps->places->tries6 : maps->places->tries4;
	__u64 before = places[place], now = 0;

	if (memory) {
		const struct trie_head *head = (const void *)memory->units;
		__u32 first = slot_free(places);

		r = slot_clear(maps, tries, first, chunks_of(memory));
		if (r == 0)
			r = chunks_put(tries, first, memory->chunks, chunks_of(memory));
		now = SET_TRIE(first, head->root, head->common, head->common_length);
	}
	if (r < 0)
		return error_set(error, r, "cannot put a set's memory in place: %s", strerror(-r));
	if (before == now)
		return 0;
	__atomic_store_n(&places[place], now, __ATOMIC_RELEASE);
	if (!before)
		return 0;
	engine_set_wait(engine);
	r = slot_clear(maps, tries, SET_TRIE_CHUNK(before), 0);
	return r < 0 ? error_set(error, r, "cannot free a set's memory: %s", strerror(-r)) : 0;
}

void engine_set_wait(struct engine *engine)
{
	struct set_maps *maps = engine_part_state(engine, &set_part);
	const __u32 key = SET_CHUNK_WAIT;

	/* any change of a map of maps waits; this one is where none is looked for */
	if (none_make(maps) == 0)
		bpf_map_update_elem(maps->tries[0], &key, &maps->none, BPF_ANY);
}
