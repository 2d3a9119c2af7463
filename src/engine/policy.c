// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* Policies: the program that decides, and the memory that policies stand in. */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "basic/cleanup.h"
#include "basic/clock.h"
#include "engine/policy_internal.h"
#include "watch.skel.h"

#define LOG_RATE    1000 /* records a second, until the agent says another rate */
#define REJECT_RATE 1000 /* answers a second */
#define ROOM_PART   16   /* of a policy's units there is room for one more each */
#define ROOM_LEAST  64   /* units */
#define ROOM_UNITS  4096 /* that are never too many */

struct policy_engine *policy_of(const struct engine *engine)
{
	return engine_part_state(engine, &policy_part);
}

/* -- memory -- */

static void memory_close(struct policy_memory *memory)
{
	if (memory->units) {
		munmap(memory->units, memory->count * sizeof(struct policy_unit));
		close(memory->map);
	}
	*memory = (struct policy_memory){};
}

/* `map` is the memory's from then on. */
static int memory_map(int *map, size_t count, struct policy_memory *ret_memory)
{
	void *units =
		mmap(NULL, count * sizeof(struct policy_unit), PROT_READ | PROT_WRITE, MAP_SHARED, *map, 0);

	if (units == MAP_FAILED)
		return -errno;
	*ret_memory = (struct policy_memory){units, count, TAKE_FD(*map)};
	return 0;
}

static int hook_map(const struct policy_engine *policy, enum policy_hook hook)
{
	return bpf_map__fd(
		hook == HOOK_XDP ? policy->skeleton->maps.policies_xdp : policy->skeleton->maps.policies);
}

/* What an earlier agent left in a place. */
static int memory_adopt(struct policy_engine *policy, enum policy_hook hook, __u32 place)
{
	struct bpf_map_info info = {};
	__u32 length = sizeof(info), id;
	_cleanup_close_ int map = -1;

	if (bpf_map_lookup_elem(hook_map(policy, hook), &place, &id) < 0)
		return 0;
	map = bpf_map_get_fd_by_id(id);
	if (map < 0 || bpf_obj_get_info_by_fd(map, &info, &length) < 0)
		return -errno;
	return memory_map(&map, info.max_entries, &policy->memory[hook][place]);
}

static int memory_take_away(
	struct policy_engine *policy, enum policy_hook hook, __u32 place, struct error *error)
{
	if (bpf_map_delete_elem(hook_map(policy, hook), &place) < 0 && errno != ENOENT)
		return error_set(error, -errno, "cannot take a policy away: %s", strerror(errno));
	memory_close(&policy->memory[hook][place]);
	return 0;
}

/* Units for an image, and for some more, so that what comes with the next rules may be written there, too. */
static size_t memory_size(size_t units)
{
	return units + units / ROOM_PART + ROOM_LEAST;
}

/* A memory that is there and fits, without holding much more than it needs. */
static bool memory_fits(const struct policy_memory *memory, size_t units)
{
	return memory->units && units <= memory->count &&
	       memory->count <= memory_size(units) + units + ROOM_UNITS;
}

/* With `image` in it, or with nothing yet. */
static int memory_new(struct policy_engine *policy, enum policy_hook hook, __u32 place, size_t count,
	const struct policy_image *image, struct policy_memory *ret_memory)
{
	LIBBPF_OPTS(bpf_map_create_opts, options, .map_flags = BPF_F_MMAPABLE | BPF_F_INNER_MAP);
	struct policy_memory memory = {};
	_cleanup_close_ int map = bpf_map_create(BPF_MAP_TYPE_ARRAY, "policy", sizeof(__u32),
		sizeof(struct policy_unit), (__u32)count, &options);
	int r = map < 0 ? map : memory_map(&map, count, &memory);

	if (!memory.units)
		return r;
	if (image) {
		memcpy(memory.units, image->units, image->count * sizeof(struct policy_unit));
		((struct policy_header *)memory.units)->brought = clock_ns(CLOCK_MONOTONIC);
	}
	if (bpf_map_update_elem(hook_map(policy, hook), &place, &memory.map, BPF_ANY) < 0) {
		r = -errno;
		memory_close(&memory);
		return r;
	}
	*ret_memory = memory;
	return 0;
}

static int memory_put(struct policy_engine *policy, enum policy_hook hook, __u32 place,
	const struct policy_image *image, struct error *error)
{
	struct policy_memory *there = &policy->memory[hook][place], memory;
	int r;

	if (!image || !image->count)
		return memory_take_away(policy, hook, place, error);
	if (image->units == there->units && memory_fits(there, image->count)) {
		((struct policy_header *)there->units)->brought = clock_ns(CLOCK_MONOTONIC);
		return 0;
	}
	r = memory_new(policy, hook, place, memory_size(image->count), image, &memory);
	if (r < 0)
		return error_set(error, r, "cannot bring a policy of %zu KiB into the kernel: %s",
			image->count * sizeof(struct policy_unit) / 1024, strerror(-r));
	memory_close(there);
	*there = memory;
	return 0;
}

void policy_memory_match(struct policy_engine *policy, unsigned int number)
{
	__u32 place = policy_place(policy, number);

	for (int hook = 0; hook < HOOKS; hook++) {
		const struct policy_memory *in_force = &policy->memory[hook][place];
		struct policy_memory *there = &policy->memory[hook][place ^ 1], memory;

		if (there->count >= in_force->count ||
			memory_new(policy, hook, place ^ 1, in_force->count, NULL, &memory) < 0)
			continue;
		memory_close(there);
		*there = memory;
	}
}

/* The kernel comes back from a change of a map of maps when no program runs any more that began before it;
 * this one changes nothing. */
int policy_memory_wait(struct policy_engine *policy)
{
	for (int hook = 0; hook < HOOKS && policy->read; hook++)
		for (__u32 place = 0; place < PLACES && policy->read; place++) {
			const struct policy_memory *memory = &policy->memory[hook][place];

			if (!memory->units)
				continue;
			if (bpf_map_update_elem(hook_map(policy, hook), &place, &memory->map, BPF_ANY) < 0)
				return -errno;
			policy->read = false;
		}
	return 0;
}

int policy_memory_bring(struct policy_engine *policy, enum policy_hook hook, __u32 place,
	const struct policy_image *image, struct error *error)
{
	int r = memory_put(policy, hook, place, image, error);

	if (r == 0 && hook == HOOK_XDP)
		engine_shield_learn(policy->engine, place);
	return r;
}

const struct policy_unit *engine_policy_units(
	const struct engine *engine, bool xdp, uint32_t place, size_t *ret_count)
{
	const struct policy_memory *memory = &policy_of(engine)->memory[xdp ? HOOK_XDP : HOOK_TC][place];

	*ret_count = memory->count;
	return memory->units;
}

/* -- loading -- */

static int programs_load(struct policy_engine *policy, struct error *error)
{
	struct decide_bpf *skeleton = policy->skeleton;
	struct engine *engine = policy->engine;
	__u32 zero = 0;
	void *check;
	int program, r;

	skeleton->rodata->owner_off = !engine->watch.owners;
	r = engine_connections_prepare(engine, skeleton->obj);
	if (r < 0)
		return error_set(error, r, "cannot size the connection table: %s", strerror(-r));
	r = component_load(engine, skeleton->obj, "rule", error);
	if (r == 0 && engine_connections_start(engine) < 0)
		r = error_set(error, -EIO, "cannot set the times of connections");
	if (r == 0)
		policy_sources_adopt(policy);
	if (r == 0)
		r = policy_log_open(policy, error);
	for (int hook = 0; hook < HOOKS && r == 0; hook++)
		for (__u32 place = 0; place < PLACES && r == 0; place++) {
			r = memory_adopt(policy, hook, place);
			if (r < 0)
				error_set(error, r, "cannot adopt the policies: %s", strerror(-r));
		}
	if (r < 0)
		return r;
	check = mmap(NULL, sizeof(*policy->check), PROT_READ | PROT_WRITE, MAP_SHARED,
		bpf_map__fd(skeleton->maps.decide_checks), 0);
	if (check == MAP_FAILED)
		return error_set(error, -errno, "cannot map decide_checks: %s", strerror(errno));
	policy->check = check;
	r = policy_rate_set(policy, POLICY_RATE_LOG, policy->log_rate);
	if (r == 0)
		r = policy_rate_set(policy, POLICY_RATE_REJECT, REJECT_RATE);
	if (r < 0)
		return error_set(error, r, "cannot set the rules' rates: %s", strerror(-r));
	program = bpf_program__fd(skeleton->progs.decide);
	if (bpf_map_update_elem(bpf_map__fd(skeleton->maps.decide_programs), &zero, &program, BPF_ANY) < 0)
		return error_set(
			error, -errno, "cannot put the rules' program into its place: %s", strerror(errno));
	return 0;
}

int policy_load(struct policy_engine *policy, struct error *error)
{
	int r;

	if (policy->skeleton)
		return 0;
	policy->skeleton = decide_bpf__open();
	if (!policy->skeleton)
		return error_set(error, -errno, "cannot open the rules' programs: %s", strerror(errno));
	r = programs_load(policy, error);
	if (r < 0) {
		ring_buffer__free(policy->log);
		decide_bpf__destroy(policy->skeleton);
		policy->log = NULL;
		policy->skeleton = NULL;
	}
	return r;
}

int engine_policy_prepare(struct engine *engine, struct error *error)
{
	return policy_load(policy_of(engine), error);
}

int engine_policy_object(struct engine *engine, const struct bpf_object **ret_object)
{
	struct policy_engine *policy = policy_of(engine);
	int r = policy_load(policy, NULL);

	if (r == 0)
		*ret_object = policy->skeleton->obj;
	return r;
}

const struct bpf_object *engine_policy_loaded(const struct engine *engine)
{
	const struct policy_engine *policy = policy_of(engine);

	return policy && policy->skeleton ? policy->skeleton->obj : NULL;
}

static size_t counts_bytes(const struct engine *engine)
{
	return (size_t)engine->view.cpus * POLICY_COUNTERS_MAX * sizeof(struct rule_count);
}

static void policy_close(void *state)
{
	struct policy_engine *policy = state;

	for (int i = 0; i < PROGRAMS_MAX; i++)
		policy_programs_close(&policy->programs[i]);
	for (int hook = 0; hook < HOOKS; hook++)
		for (int place = 0; place < PLACES; place++)
			memory_close(&policy->memory[hook][place]);
	if (policy->now)
		munmap(policy->now, sizeof(*policy->now));
	if (policy->check)
		munmap(policy->check, sizeof(*policy->check));
	if (policy->counts)
		munmap(policy->counts, counts_bytes(policy->engine));
	if (policy->limit_sources >= 0)
		close(policy->limit_sources);
	ring_buffer__free(policy->log);
	decide_bpf__destroy(policy->skeleton);
	free(policy->stats);
	free(policy);
}

static int policy_open(struct engine *engine, void **ret_state, struct error *error)
{
	struct policy_engine *policy = calloc(1, sizeof(*policy));
	char path[PATH_MAX];
	_cleanup_close_ int left = bpf_obj_get(pins_path(&engine->pins, path, "policies"));
	void *now, *counts;

	if (!policy)
		return error_set(error, -ENOMEM, "out of memory");
	*ret_state = policy;
	policy->engine = engine;
	policy->limit_sources = -1;
	policy->log_rate = LOG_RATE;
	policy->read = true;
	policy->stats = calloc(engine->view.cpus, sizeof(*policy->stats));
	if (!policy->stats)
		return error_set(error, -ENOMEM, "out of memory");
	now = mmap(NULL, sizeof(*policy->now), PROT_READ | PROT_WRITE, MAP_SHARED,
		bpf_map__fd(engine->skeleton->maps.policy_now), 0);
	if (now == MAP_FAILED)
		return error_set(error, -errno, "cannot map policy_now: %s", strerror(errno));
	policy->now = now;
	counts = mmap(NULL, counts_bytes(engine), PROT_READ | PROT_WRITE, MAP_SHARED,
		bpf_map__fd(engine->skeleton->maps.rule_counts), 0);
	if (counts == MAP_FAILED)
		return error_set(error, -errno, "cannot map rule_counts: %s", strerror(errno));
	policy->counts = counts;
	return left >= 0 ? policy_load(policy, error) : 0;
}

const struct engine_part policy_part = {"policy", policy_open, policy_close};
