// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* Families of processes: their maps, and the programs that note who is born into them. */
#include "engine/family.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "basic/cleanup.h"
#include "basic/clock.h"
#include "basic/log.h"
#include "engine/internal.h"
#include "family.skel.h"

#define LIVING_NS    200000000
#define SEARCHES_MAX 64 /* for descendants: one for each generation whose ids go the wrong way, at most */

struct family_engine {
	struct family_bpf *skeleton; /* NULL: there never was a family */
	bool attached;
	struct family_set living; /* as it was … */
	uint64_t looked_ns;       /* … then */
};

static struct family_engine *family_of(const struct engine *engine)
{
	return engine_part_state(engine, &family_part);
}

/* -- loading -- */

static int programs_attach(struct engine *engine, struct family_engine *family, struct error *error)
{
	int r;

	if (family->attached)
		return 0;
	r = component_attach_trace(engine, family->skeleton->progs.family_fork, error);
	if (r == 0)
		r = component_attach_trace(engine, family->skeleton->progs.family_exit, error);
	family->attached = r == 0;
	return r;
}

static void programs_detach(struct engine *engine, struct family_engine *family)
{
	component_detach_trace(engine, family->skeleton->progs.family_fork);
	component_detach_trace(engine, family->skeleton->progs.family_exit);
	family->attached = false;
}

static int family_load(struct engine *engine, struct family_engine *family, struct error *error)
{
	int r;

	if (family->skeleton)
		return 0;
	family->skeleton = family_bpf__open();
	if (!family->skeleton)
		return error_set(error, -errno, "cannot open the families' programs: %s", strerror(errno));
	r = component_load(engine, family->skeleton->obj, "family", error);
	if (r < 0) {
		family_bpf__destroy(family->skeleton);
		family->skeleton = NULL;
	}
	return r;
}

static int state_read(const struct family_engine *family, struct family_state *ret_state)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(bpf_map__fd(family->skeleton->maps.family_state), &zero, ret_state) < 0
	               ? -errno
	               : 0;
}

static bool set_is_empty(const struct family_set *set)
{
	for (int i = 0; i < FAMILY_WORDS; i++)
		if (set->word[i])
			return false;
	return true;
}

static void family_close(void *state)
{
	struct family_engine *family = state;

	family_bpf__destroy(family->skeleton);
	free(family);
}

static int family_open(struct engine *engine, void **ret_state, struct error *error)
{
	struct family_engine *family = calloc(1, sizeof(*family));
	struct family_state now = {};
	char path[PATH_MAX];
	_cleanup_close_ int left = bpf_obj_get(pins_path(&engine->pins, path, "family_state"));
	int r;

	if (!family)
		return error_set(error, -ENOMEM, "out of memory");
	*ret_state = family;
	if (left < 0)
		return 0;
	r = family_load(engine, family, error);
	if (r == 0 && state_read(family, &now) == 0 && !set_is_empty(&now.alive))
		r = programs_attach(engine, family, error);
	return r;
}

const struct engine_part family_part = {"family", family_open, family_close};

/* -- members -- */

/* Walks over a map of processes.  The function may take away the one it is called for. */
typedef void family_walk_function(
	int map, const struct family_process *process, const struct family_set *set, void *context);

static void members_walk(int map, family_walk_function *function, void *context)
{
	struct family_process process, next;
	bool more = bpf_map_get_next_key(map, NULL, &process) == 0;
	struct family_set set;

	/* one that goes away meanwhile has the walk begin again: not for ever */
	for (uint32_t i = 0; more && i < 4 * FAMILY_MEMBERS_MAX; i++) {
		more = bpf_map_get_next_key(map, &process, &next) == 0;
		if (bpf_map_lookup_elem(map, &process, &set) == 0)
			function(map, &process, &set, context);
		process = next;
	}
}

/* Whoever belongs to nothing else any more is forgotten. */
static void member_keep(
	int map, const struct family_process *process, const struct family_set *set, void *context)
{
	const struct family_set *alive = context;
	struct family_set kept = *set;
	bool changed = false;

	for (int i = 0; i < FAMILY_WORDS; i++) {
		kept.word[i] &= alive->word[i];
		changed |= kept.word[i] != set->word[i];
	}
	if (set_is_empty(&kept))
		bpf_map_delete_elem(map, process);
	else if (changed)
		bpf_map_update_elem(map, process, &kept, BPF_EXIST);
}

static void members_forget(const struct family_engine *family, const struct family_set *alive)
{
	struct family_set set = *alive;

	members_walk(bpf_map__fd(family->skeleton->maps.family_members), member_keep, &set);
	members_walk(bpf_map__fd(family->skeleton->maps.family_ended), member_keep, &set);
}

static void member_lives(
	int map, const struct family_process *process, const struct family_set *set, void *context)
{
	struct family_set *living = context;

	(void)map;
	(void)process;
	for (int i = 0; i < FAMILY_WORDS; i++)
		living->word[i] |= set->word[i];
}

static void member_count(
	int map, const struct family_process *process, const struct family_set *set, void *context)
{
	(void)map;
	(void)process;
	(void)set;
	++*(uint32_t *)context;
}

/* -- families -- */

/* Has the iterator go over all processes, until each belongs to its parent's families. */
static int members_find(struct family_engine *family, const struct family_process *root, struct error *error)
{
	int map = bpf_map__fd(family->skeleton->maps.family_state), r = 0;
	struct family_state state;
	__u32 zero = 0;

	for (int i = 0; i < SEARCHES_MAX && r == 0; i++) {
		struct bpf_link *link;
		_cleanup_close_ int fd = -1;
		char nothing[64];
		ssize_t length = 1;

		r = state_read(family, &state);
		state.root = *root;
		state.root_found = state.joined = 0;
		if (r == 0 && bpf_map_update_elem(map, &zero, &state, BPF_ANY) < 0)
			r = -errno;
		link = r == 0 ? bpf_program__attach_iter(family->skeleton->progs.family_find, NULL) : NULL;
		fd = link ? bpf_iter_create(bpf_link__fd(link)) : -1;
		if (r == 0 && fd < 0)
			r = -errno;
		while (fd >= 0 && length > 0)
			length = read(fd, nothing, sizeof(nothing));
		if (r == 0 && length < 0)
			r = -errno;
		bpf_link__destroy(link);
		if (r == 0)
			r = state_read(family, &state);
		if (r == 0 && !state.joined)
			break;
	}
	if (r < 0)
		return error_set(
			error, r, "cannot find the children of process %u: %s", root->pid, strerror(-r));
	if (!state.root_found)
		return error_set(error, -ESRCH, "there is no process %u", root->pid);
	return 0;
}

static int alive_set(struct family_engine *family, unsigned int number, bool alive)
{
	struct family_state state;
	__u32 zero = 0;
	int r = state_read(family, &state);

	if (r < 0)
		return r;
	state.alive.word[number / 64] &= ~(1ULL << (number % 64));
	state.alive.word[number / 64] |= (uint64_t)alive << (number % 64);
	return bpf_map_update_elem(bpf_map__fd(family->skeleton->maps.family_state), &zero, &state, BPF_ANY) <
	                       0
	               ? -errno
	               : 0;
}

static int family_make(struct engine *engine, struct family_engine *family, unsigned int number,
	const struct family_process *root, struct error *error)
{
	int members = bpf_map__fd(family->skeleton->maps.family_members), r;
	struct family_set set = {};
	struct family_state state;
	__u32 key = number;

	r = programs_attach(engine, family, error);
	if (r < 0)
		return r;
	r = state_read(family, &state);
	if (r == 0) {
		/* who still has this number from the one that had it before */
		members_forget(family, &state.alive);
		r = alive_set(family, number, true);
	}
	bpf_map_lookup_elem(members, root, &set);
	set.word[number / 64] |= 1ULL << (number % 64);
	if (r == 0 && (bpf_map_update_elem(members, root, &set, BPF_ANY) < 0 ||
			      bpf_map_update_elem(bpf_map__fd(family->skeleton->maps.family_roots), &key,
				      root, BPF_ANY) < 0))
		r = -errno;
	if (r < 0)
		return error_set(error, r, "cannot note process %u: %s", root->pid, strerror(-r));
	return members_find(family, root, error);
}

int engine_family_get(
	struct engine *engine, uint32_t pid, uint64_t start, unsigned int *ret_family, struct error *error)
{
	struct family_engine *family = family_of(engine);
	const struct family_process root = {.pid = pid, .start = start};
	unsigned int number, found = FAMILIES_MAX;
	struct family_state state;
	int r = family_load(engine, family, error);

	if (r < 0)
		return r;
	r = state_read(family, &state);
	if (r < 0)
		return error_set(error, r, "cannot read the families: %s", strerror(-r));
	for (number = 0; number < FAMILIES_MAX; number++) {
		struct family_process other = {};
		__u32 key = number;

		if (!(state.alive.word[number / 64] >> (number % 64) & 1)) {
			found = found < FAMILIES_MAX ? found : number;
			continue;
		}
		if (bpf_map_lookup_elem(bpf_map__fd(family->skeleton->maps.family_roots), &key, &other) ==
				0 &&
			other.pid == root.pid && other.start == root.start)
			break;
	}
	if (number < FAMILIES_MAX) {
		*ret_family = number;
		return 0;
	}
	if (found == FAMILIES_MAX) {
		error_set(error, -ENOSPC, "the rules name more than %d processes", FAMILIES_MAX);
		return error_want(error, "one owner for several: a user, a cgroup");
	}
	r = family_make(engine, family, found, &root, error);
	if (r < 0) {
		alive_set(family, found, false);
		return r;
	}
	family->looked_ns = 0; /* a new family is looked for at once */
	*ret_family = found;
	return 0;
}

void engine_family_sweep(struct engine *engine, const struct family_set *used)
{
	struct family_engine *family = family_of(engine);
	struct family_state state;
	bool changed = false;
	__u32 zero = 0;

	if (!family->skeleton || state_read(family, &state) < 0)
		return;
	for (int i = 0; i < FAMILY_WORDS; i++) {
		changed |= state.alive.word[i] & ~used->word[i];
		state.alive.word[i] &= used->word[i];
	}
	if (!changed)
		return;
	if (bpf_map_update_elem(bpf_map__fd(family->skeleton->maps.family_state), &zero, &state, BPF_ANY) < 0)
		log_debug("cannot end families: %s", strerror(errno));
	if (set_is_empty(&state.alive))
		programs_detach(engine, family);
	members_forget(family, &state.alive);
}

void engine_family_living(struct engine *engine, struct family_set *ret_living)
{
	struct family_engine *family = family_of(engine);
	uint64_t now_ns = clock_ns(CLOCK_MONOTONIC);

	if (family->skeleton && now_ns - family->looked_ns > LIVING_NS) {
		family->living = (struct family_set){};
		members_walk(
			bpf_map__fd(family->skeleton->maps.family_members), member_lives, &family->living);
		family->looked_ns = now_ns;
	}
	*ret_living = family->living;
}

void engine_family_stats(struct engine *engine, struct engine_family_stats *ret_stats)
{
	const struct family_engine *family = family_of(engine);
	struct engine_family_stats stats = {.families_max = FAMILIES_MAX, .members_max = FAMILY_MEMBERS_MAX};
	struct family_state state;

	if (family->skeleton && state_read(family, &state) == 0) {
		members_walk(
			bpf_map__fd(family->skeleton->maps.family_members), member_count, &stats.members);
		for (unsigned int i = 0; i < FAMILIES_MAX; i++)
			stats.families += state.alive.word[i / 64] >> (i % 64) & 1;
		stats.full = state.full;
	}
	*ret_stats = stats;
}
