// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* What stands behind the program at XDP. */
#include "engine/chain.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "basic/cleanup.h"
#include "engine/internal.h"

#define CHAIN_MAP "chain_programs"

struct chain {
	struct {
		uint32_t *indexes;
		size_t count;
	} wanted[CHAIN_PROGRAMS];
};

static const char *const names[] = {
	[CHAIN_BALANCE] = "services", [CHAIN_FORWARD] = "forwarding", [CHAIN_STEER] = "steering"};

static struct chain *chain_of(const struct engine *engine)
{
	return engine_part_state(engine, &chain_part);
}

static int map_open(const struct engine *engine, bool whole)
{
	char path[PATH_MAX];

	return bpf_obj_get(pins_path(&engine->pins, path, whole ? CHAIN_MAP "_whole" : CHAIN_MAP));
}

static int fail(enum chain_program place, int code, struct error *error)
{
	return error_set(error, code, "cannot put the program of %s into its place: %s", names[place],
		strerror(-code));
}

static int put(
	const struct engine *engine, enum chain_program place, bool whole, int program, struct error *error)
{
	_cleanup_close_ int map = map_open(engine, whole);
	__u32 key = place;

	if (map < 0)
		return fail(place, map, error);
	return bpf_map_update_elem(map, &key, &program, BPF_ANY) < 0 ? fail(place, -errno, error) : 0;
}

int engine_chain_put(struct engine *engine, enum chain_program place, int program, struct error *error)
{
	int r = engine_shield_load(engine, error);

	return r < 0 ? r : put(engine, place, false, program, error);
}

int engine_chain_put_whole(struct engine *engine, enum chain_program place, int program, struct error *error)
{
	return put(engine, place, true, program, error);
}

static int take(const struct engine *engine, enum chain_program place, bool whole, struct error *error)
{
	_cleanup_close_ int map = map_open(engine, whole);
	__u32 key = place;

	if (map == -ENOENT)
		return 0;
	if (map < 0)
		return fail(place, map, error);
	return bpf_map_delete_elem(map, &key) < 0 && errno != ENOENT ? fail(place, -errno, error) : 0;
}

int engine_chain_take(struct engine *engine, enum chain_program place, struct error *error)
{
	int r = take(engine, place, false, error);

	return r < 0 ? r : take(engine, place, true, error);
}

bool engine_chain_has(const struct engine *engine, enum chain_program place)
{
	_cleanup_close_ int map = map_open(engine, false);
	__u32 key = place, id;

	return map >= 0 && bpf_map_lookup_elem(map, &key, &id) == 0;
}

int engine_chain_want(struct engine *engine, enum chain_program place, const uint32_t *indexes, size_t count)
{
	struct chain *chain = chain_of(engine);
	uint32_t *copy = calloc(count + 1, sizeof(*copy));

	if (!copy)
		return -ENOMEM;
	if (count)
		memcpy(copy, indexes, count * sizeof(*copy));
	free(chain->wanted[place].indexes);
	chain->wanted[place].indexes = copy;
	chain->wanted[place].count = count;
	return 0;
}

bool engine_chain_wants(const struct engine *engine, uint32_t index)
{
	const struct chain *chain = chain_of(engine);

	for (unsigned int place = 0; place < CHAIN_PROGRAMS; place++)
		for (size_t i = 0; i < chain->wanted[place].count; i++)
			if (chain->wanted[place].indexes[i] == index)
				return true;
	return false;
}

static void chain_close(void *state)
{
	struct chain *chain = state;

	for (unsigned int place = 0; place < CHAIN_PROGRAMS; place++)
		free(chain->wanted[place].indexes);
	free(chain);
}

static int chain_open(struct engine *engine, void **ret_state, struct error *error)
{
	(void)engine;
	*ret_state = calloc(1, sizeof(struct chain));
	return *ret_state ? 0 : error_set(error, -ENOMEM, "out of memory");
}

const struct engine_part chain_part = {"chain", chain_open, chain_close};
