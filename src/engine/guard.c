// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* Socket rules: the programs at the root cgroup, and the policy behind them. */
#include "engine/guard.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "basic/cleanup.h"
#include "engine/internal.h"
#include "engine/policy.h"
#include "guard.skel.h"

struct guard {
	struct guard_bpf *skeleton; /* NULL: there never was a rule */
	struct ring_buffer *ring;
	engine_guard_function *function; /* who reads the ring just now */
	void *context;
};

static int denial_read(void *context, void *record, size_t size)
{
	struct guard *guard = context;

	if (guard->function && size >= sizeof(struct guard_denial))
		guard->function(guard->context, record);
	return 0;
}

static void guard_close(void *state)
{
	struct guard *guard = state;

	ring_buffer__free(guard->ring);
	guard_bpf__destroy(guard->skeleton);
	free(guard);
}

static int skeleton_attach(struct engine *engine, struct guard *guard, struct error *error)
{
	struct bpf_program *program;
	int r = component_load(engine, guard->skeleton->obj, "socket rule", error);

	if (r == 0)
		r = component_ring(
			guard->skeleton->obj, "guard_ring", denial_read, guard, &guard->ring, error);
	if (r < 0)
		return r;
	bpf_object__for_each_program (program, guard->skeleton->obj) {
		r = component_attach_cgroup(engine, program, error);
		if (r < 0)
			return r;
	}
	return 0;
}

/* The kernel takes its time to verify these programs; who has no rules need not wait for that. */
static int guard_load(struct engine *engine, struct guard *guard, struct error *error)
{
	int r;

	if (guard->skeleton)
		return 0;
	guard->skeleton = guard_bpf__open();
	if (!guard->skeleton)
		return error_set(
			error, -errno, "cannot open the socket rules' programs: %s", strerror(errno));
	r = skeleton_attach(engine, guard, error);
	if (r < 0) {
		ring_buffer__free(guard->ring);
		guard_bpf__destroy(guard->skeleton);
		guard->ring = NULL;
		guard->skeleton = NULL;
	}
	return r;
}

static int guard_open(struct engine *engine, void **ret_state, struct error *error)
{
	struct guard *guard = calloc(1, sizeof(*guard));
	char path[PATH_MAX];
	_cleanup_close_ int left = bpf_obj_get(pins_path(&engine->pins, path, "guard_policies"));

	if (!guard)
		return error_set(error, -ENOMEM, "out of memory");
	*ret_state = guard;
	return left >= 0 ? guard_load(engine, guard, error) : component_open_cgroup(engine, error);
}

const struct engine_part guard_part = {"guard", guard_open, guard_close};

static struct guard *guard_of(const struct engine *engine)
{
	return engine_part_state(engine, &guard_part);
}

/* A map that holds the policy. */
static int policy_map(const struct guard_policy *policy, int *ret_map)
{
	_cleanup_close_ int map = -1;
	__u32 key = 0;

	map = bpf_map_create(BPF_MAP_TYPE_ARRAY, "guard_policy", sizeof(key), sizeof(*policy), 1, NULL);
	if (map < 0)
		return map;
	if (bpf_map_update_elem(map, &key, policy, BPF_ANY) < 0)
		return -errno;
	*ret_map = TAKE_FD(map);
	return 0;
}

/* Counters have to be there before calls are judged. */
static int hits_make(const struct guard_bpf *skeleton, const struct guard_policy *policy)
{
	static const struct guard_hits none;

	for (unsigned int i = 0; i < policy->count; i++)
		if (bpf_map_update_elem(bpf_map__fd(skeleton->maps.guard_hits), &policy->rules[i].id, &none,
			    BPF_NOEXIST) < 0 &&
			errno != EEXIST)
			return -errno;
	return 0;
}

static int compare_ids(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

void engine_guard_sweep(struct engine *engine, const uint32_t *ids, size_t count)
{
	const struct guard *guard = guard_of(engine);
	__u32 found[GUARD_HITS_MAX], id, *previous = NULL;
	size_t found_count = 0;
	int map;

	if (!guard->skeleton)
		return;
	map = bpf_map__fd(guard->skeleton->maps.guard_hits);
	while (found_count < GUARD_HITS_MAX && bpf_map_get_next_key(map, previous, &id) == 0) {
		found[found_count] = id;
		previous = &found[found_count++];
	}
	for (size_t i = 0; i < found_count; i++)
		if (!count || !bsearch(&found[i], ids, count, sizeof(*ids), compare_ids))
			bpf_map_delete_elem(map, &found[i]);
}

bool engine_guard_used(const struct engine *engine)
{
	return guard_of(engine)->skeleton;
}

int engine_guard_bring(struct engine *engine, const struct guard_policy *policy, struct error *error)
{
	struct guard *guard = guard_of(engine);
	_cleanup_close_ int map = -1;
	struct policy_now now = {};
	__u32 place;
	int slot, r;

	if (!guard->skeleton && !policy->count)
		return 0;
	r = guard_load(engine, guard, error);
	if (r == 0)
		r = engine_policy_now(engine, &now);
	if (r < 0)
		return r;
	place = (now.places >> GUARD_PLACE & 1) ^ 1;
	slot = bpf_map__fd(guard->skeleton->maps.guard_policies);
	r = hits_make(guard->skeleton, policy);
	if (r == 0 && policy->count)
		r = policy_map(policy, &map);
	if (r == 0 && policy->count)
		r = bpf_map_update_elem(slot, &place, &map, BPF_ANY) < 0 ? -errno : 0;
	else if (r == 0)
		r = bpf_map_delete_elem(slot, &place) < 0 && errno != ENOENT ? -errno : 0;
	if (r < 0)
		return error_set(error, r, "cannot put the socket rules into the kernel: %s", strerror(-r));
	return 0;
}

static int by_id(const struct bpf_map *map, uint32_t id, void *ret_value)
{
	return bpf_map_lookup_elem(bpf_map__fd(map), &id, ret_value) < 0 ? -errno : 0;
}

int engine_guard_hits(struct engine *engine, uint32_t id, struct guard_hits *ret_hits)
{
	const struct guard_bpf *skeleton = guard_of(engine)->skeleton;

	return skeleton ? by_id(skeleton->maps.guard_hits, id, ret_hits) : -ENOENT;
}

void engine_guard_stats(struct engine *engine, struct guard_stats *ret_stats)
{
	const struct guard_bpf *skeleton = guard_of(engine)->skeleton;

	if (!skeleton || by_id(skeleton->maps.guard_stats, 0, ret_stats) < 0)
		*ret_stats = (struct guard_stats){};
}

int engine_guard_fd(struct engine *engine)
{
	const struct guard *guard = guard_of(engine);

	return guard->ring ? ring_buffer__epoll_fd(guard->ring) : -1;
}

void engine_guard_denials(struct engine *engine, engine_guard_function *function, void *context)
{
	struct guard *guard = guard_of(engine);

	guard->function = function;
	guard->context = context;
	ring_buffer__consume(guard->ring);
}
