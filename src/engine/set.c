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

#define UNITS_MAX (1U << 26) /* 4 GiB */

#ifndef BPF_F_INNER_MAP
#define BPF_F_INNER_MAP (1U << 12)
#endif

struct set_maps {
	int tries[2]; /* IPv4, IPv6 */
};

static void set_close(void *state)
{
	struct set_maps *maps = state;

	for (int i = 0; i < 2; i++)
		if (maps->tries[i] >= 0)
			close(maps->tries[i]);
	free(maps);
}

/* A map of maps that the programs find pinned. */
static int tries_make(struct engine *engine, const char *name)
{
	LIBBPF_OPTS(bpf_map_create_opts, inner_options, .map_flags = BPF_F_MMAPABLE | BPF_F_INNER_MAP);
	char path[PATH_MAX];
	_cleanup_close_ int inner = -1, outer = bpf_obj_get(pins_path(&engine->pins, path, name));
	LIBBPF_OPTS(bpf_map_create_opts, options);

	if (outer >= 0)
		return TAKE_FD(outer);
	inner = bpf_map_create(
		BPF_MAP_TYPE_ARRAY, "set_trie", sizeof(__u32), sizeof(struct policy_unit), 1, &inner_options);
	if (inner < 0)
		return inner;
	options.inner_map_fd = (__u32)inner;
	outer = bpf_map_create(
		BPF_MAP_TYPE_ARRAY_OF_MAPS, name, sizeof(__u32), sizeof(__u32), SET_PLACES, &options);
	if (outer < 0)
		return outer;
	if (bpf_obj_pin(outer, path) < 0)
		return -errno;
	return TAKE_FD(outer);
}

static int set_open(struct engine *engine, void **ret_state, struct error *error)
{
	static const char *const names[2] = {"set_trie4", "set_trie6"};
	struct set_maps *maps = malloc(sizeof(*maps));

	if (!maps)
		return error_set(error, -ENOMEM, "out of memory");
	*maps = (struct set_maps){{-1, -1}};
	*ret_state = maps;
	for (int i = 0; i < 2; i++) {
		maps->tries[i] = tries_make(engine, names[i]);
		if (maps->tries[i] < 0)
			return error_set(error, maps->tries[i], "cannot make the map %s: %s", names[i],
				strerror(-maps->tries[i]));
	}
	return 0;
}

const struct engine_part set_part = {"set", set_open, set_close};

int engine_set_memory_open(
	struct engine *engine, size_t units, struct engine_set_memory *ret_memory, struct error *error)
{
	LIBBPF_OPTS(bpf_map_create_opts, options, .map_flags = BPF_F_MMAPABLE | BPF_F_INNER_MAP);
	struct engine_set_memory memory = {.count = units};
	_cleanup_close_ int map = -1;

	(void)engine;
	if (!units || units > UNITS_MAX)
		return error_set(error, -E2BIG, "sets of so many prefixes do not fit into one map");
	map = bpf_map_create(BPF_MAP_TYPE_ARRAY, "set_trie", sizeof(__u32), sizeof(struct policy_unit),
		(__u32)units, &options);
	if (map < 0)
		return error_set(error, map, "no memory for sets (%zu MiB): %s",
			units * sizeof(struct policy_unit) >> 20, strerror(-map));
	memory.units =
		mmap(NULL, units * sizeof(struct policy_unit), PROT_READ | PROT_WRITE, MAP_SHARED, map, 0);
	if (memory.units == MAP_FAILED)
		return error_set(error, -errno, "cannot map the memory of sets: %s", strerror(errno));
	memory.map = TAKE_FD(map);
	*ret_memory = memory;
	return 0;
}

/* The kernel waits for all readers of the old inner map before a change of a map of maps returns. */
int engine_set_memory_bring(struct engine *engine, uint8_t family, unsigned int place,
	const struct engine_set_memory *memory, struct error *error)
{
	const struct set_maps *maps = engine_part_state(engine, &set_part);
	__u32 key = place;
	int tries = maps->tries[family == 6], r;

	r = memory ? bpf_map_update_elem(tries, &key, &memory->map, BPF_ANY)
	           : bpf_map_delete_elem(tries, &key);
	if (r < 0 && (memory || errno != ENOENT))
		return error_set(error, -errno, "cannot put a set's memory in place: %s", strerror(errno));
	return 0;
}

void engine_set_memory_close(struct engine_set_memory *memory)
{
	if (!memory->units)
		return;
	munmap(memory->units, memory->count * sizeof(struct policy_unit));
	close(memory->map);
	*memory = (struct engine_set_memory){};
}

void engine_set_wait(struct engine *engine)
{
	const struct set_maps *maps = engine_part_state(engine, &set_part);
	LIBBPF_OPTS(bpf_map_create_opts, options, .map_flags = BPF_F_MMAPABLE | BPF_F_INNER_MAP);
	/* any change of a map of maps waits; this one puts a map where none is looked for and takes it away
	 */
	_cleanup_close_ int map = bpf_map_create(
		BPF_MAP_TYPE_ARRAY, "set_wait", sizeof(__u32), sizeof(struct policy_unit), 1, &options);
	__u32 key = SET_PLACE_WAIT;

	if (map >= 0 && bpf_map_update_elem(maps->tries[0], &key, &map, BPF_ANY) == 0)
		bpf_map_delete_elem(maps->tries[0], &key);
}
