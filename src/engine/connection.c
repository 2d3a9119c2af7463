// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
#include "engine/connection.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/internal.h"
#include "engine/policy.h"

#define BATCH 1024 /* entries read in one call */

/* Datagrams in fragments under way at one time, whose first one was accepted. */
#define FRAGMENTS 4096
#define SIZE_MIN  65536

/* Ticks are compared by their difference: what is longer is for ever. */
#define TICKS_MAX (1U << 30)

/* Map that is there; negative: none is. */
static int map_of(const struct engine *engine, const char *name)
{
	const struct bpf_object *object = engine_policy_loaded(engine);

	return object ? component_map(object, name) : -ENOENT;
}

static int table_of(const struct engine *engine, bool embryos)
{
	return map_of(engine, embryos ? "embryos" : "connections");
}

static uint32_t size_of(int map)
{
	struct bpf_map_info info = {};
	__u32 length = sizeof(info);

	return map < 0 || bpf_obj_get_info_by_fd(map, &info, &length) < 0 ? 0 : info.max_entries;
}

bool engine_connection_there(struct engine *engine)
{
	return table_of(engine, false) >= 0;
}

/* -- settings -- */

static uint32_t ticks_of(const struct engine *engine, uint64_t ns)
{
	uint64_t ticks = ns / engine->tick_ns;

	return ticks > TICKS_MAX ? 0 : (uint32_t)ticks;
}

int engine_connections_prepare(struct engine *engine, struct bpf_object *object)
{
	const struct engine_connection_settings *settings = &engine->connections;
	const struct {
		const char *name;
		uint32_t size;
	} maps[] = {
		/* what is adopted keeps its own sizes; where nobody has said any, as when another version's
	         * datapath is adopted, small ones have to do */
		{"connections", settings->connections ? settings->connections : SIZE_MIN},
		{"embryos", settings->embryos ? settings->embryos : SIZE_MIN},
		{"fragments", FRAGMENTS},
	};

	for (size_t i = 0; i < sizeof(maps) / sizeof(maps[0]); i++) {
		struct bpf_map *map = bpf_object__find_map_by_name(object, maps[i].name);
		int r = map ? bpf_map__set_max_entries(map, maps[i].size) : 0;

		if (r < 0)
			return r;
	}
	return 0;
}

int engine_connections_start(struct engine *engine)
{
	int map = engine->connections.connections ? map_of(engine, "connection_times") : -ENOENT;

	/* until the agent has said what they are, those of the agent before hold */
	for (unsigned int proto = 0; proto < 256 && map >= 0; proto++)
		for (unsigned int stage = 0; stage < CONNECTION_STAGES; stage++) {
			__u32 index = connection_times_of((__u8)proto, (__u8)stage);
			__u32 family = index / CONNECTION_STAGES;
			__u32 ticks = ticks_of(engine, engine->connections.ns[family][stage]);

			if (bpf_map_update_elem(map, &index, &ticks, BPF_ANY) < 0)
				return -errno;
		}
	return 0;
}

int engine_connection_set(
	struct engine *engine, const struct engine_connection_settings *settings, struct error *error)
{
	int r;

	engine->connections = *settings;
	r = engine_connections_start(engine);
	return r < 0 ? error_set(error, r, "cannot set the times of connections: %s", strerror(-r)) : 0;
}

void engine_connection_settings(struct engine *engine, struct engine_connection_settings *ret_settings)
{
	*ret_settings = engine->connections;
	if (!engine_connection_there(engine))
		return;
	ret_settings->connections = size_of(table_of(engine, false));
	ret_settings->embryos = size_of(table_of(engine, true));
}

bool engine_connection_is_gone(
	struct engine *engine, const struct connection_key *key, const struct connection *c, uint32_t tick)
{
	__u32 family = connection_times_of(key->proto, 0) / CONNECTION_STAGES;
	uint32_t ticks = ticks_of(engine, engine->connections.ns[family][c->stage % CONNECTION_STAGES]);

	return ticks && (int32_t)(tick - c->last) > (int32_t)ticks;
}

/* -- entries -- */

/* What one call reads. */
struct batch {
	struct connection_key keys[BATCH];
	struct connection values[BATCH];
};

static int walk(struct engine *engine, struct engine_connection_cursor *cursor, size_t budget,
	engine_connection_function *function, void *context, struct batch *batch)
{
	for (size_t seen = 0; seen < budget;) {
		int map = table_of(engine, cursor->embryos), r;
		__u32 count = BATCH, next;

		if (map < 0)
			return 1;
		r = bpf_map_lookup_batch(map, cursor->started ? &cursor->batch : NULL, &next, batch->keys,
			batch->values, &count, NULL);
		if (r < 0 && errno != ENOENT)
			return -errno;
		for (__u32 i = 0; i < count; i++) {
			int result = function(context, &batch->keys[i], &batch->values[i], cursor->embryos);

			if (result)
				return result;
		}
		seen += count + 1;
		cursor->started = true;
		cursor->batch = next;
		if (r == 0)
			continue;
		if (cursor->embryos)
			return 1;
		*cursor = (struct engine_connection_cursor){.embryos = true};
	}
	return 0;
}

int engine_connection_walk(struct engine *engine, struct engine_connection_cursor *cursor, size_t budget,
	engine_connection_function *function, void *context)
{
	struct batch *batch = malloc(sizeof(*batch));
	int r;

	if (!batch)
		return -ENOMEM;
	r = walk(engine, cursor, budget, function, context, batch);
	free(batch);
	if (r == 1)
		*cursor = (struct engine_connection_cursor){};
	return r;
}

int engine_connection_get(struct engine *engine, const struct connection_key *key, bool embryo,
	struct connection *ret_connection)
{
	struct connection c;
	int map = table_of(engine, embryo);

	if (map < 0)
		return map;
	if (bpf_map_lookup_elem(map, key, &c) < 0)
		return -errno;
	*ret_connection = c;
	return 0;
}

int engine_connection_delete(struct engine *engine, const struct connection_key *key, bool embryo)
{
	int map = table_of(engine, embryo);

	if (map < 0)
		return map;
	return bpf_map_delete_elem(map, key) < 0 ? -errno : 0;
}

int engine_connection_put(struct engine *engine, const struct connection_key *key, const struct connection *c)
{
	int map = table_of(engine, false);

	if (map < 0)
		return map;
	return bpf_map_update_elem(map, key, c, BPF_NOEXIST) < 0 ? -errno : 0;
}

void engine_connection_recount(struct engine *engine, const struct policy_limit_key *key, int64_t add)
{
	int map = map_of(engine, "limit_connections");
	__u32 count;
	int64_t sum;

	if (map < 0 || bpf_map_lookup_elem(map, key, &count) < 0)
		return;
	sum = (int64_t)count + add;
	count = sum > 0 ? (__u32)sum : 0;
	if (count)
		bpf_map_update_elem(map, key, &count, BPF_EXIST);
	else
		bpf_map_delete_elem(map, key);
}

void engine_connection_uncount(struct engine *engine, const struct connection *c)
{
	struct policy_limit_key key = {.place = c->limit - 1, .whom = c->limit_key};

	if (c->limit)
		engine_connection_recount(engine, &key, -1);
}

int engine_connection_counts(
	struct engine *engine, struct engine_connection_count **ret_counts, size_t *ret_length)
{
	int map = map_of(engine, "limit_connections"), r = 0;
	__u32 room = size_of(map), length = 0, batch = 0, count;
	struct policy_limit_key *keys = calloc(room + 1, sizeof(*keys));
	__u32 *values = calloc(room + 1, sizeof(*values));
	struct engine_connection_count *counts = calloc(room + 1, sizeof(*counts));

	if (!keys || !values || !counts)
		r = -ENOMEM;
	while (r == 0 && length < room) {
		count = room - length;
		if (bpf_map_lookup_batch(map, length ? &batch : NULL, &batch, keys + length, values + length,
			    &count, NULL) < 0) {
			length += errno == ENOENT ? count : 0;
			break;
		}
		length += count;
	}
	for (__u32 i = 0; r == 0 && i < length; i++)
		counts[i] = (struct engine_connection_count){.key = keys[i], .count = values[i]};
	free(keys);
	free(values);
	if (r < 0) {
		free(counts);
		return r;
	}
	*ret_counts = counts;
	*ret_length = length;
	return 0;
}

void engine_connection_stats(struct engine *engine, struct connection_stats *ret_stats)
{
	int map = map_of(engine, "connection_stats");
	struct connection_stats *cpus = map < 0 ? NULL : calloc(engine->view.cpus, sizeof(*cpus));
	struct connection_stats sum = {};
	__u32 key = 0;

	if (cpus && bpf_map_lookup_elem(map, &key, cpus) == 0)
		for (unsigned int cpu = 0; cpu < engine->view.cpus; cpu++) {
			const __u64 *from = (const __u64 *)&cpus[cpu];

			for (size_t i = 0; i < sizeof(sum) / sizeof(__u64); i++)
				((__u64 *)&sum)[i] += from[i];
		}
	free(cpus);
	*ret_stats = sum;
}
