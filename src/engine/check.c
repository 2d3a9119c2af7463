// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* Loading the programs of checks and putting them at their hooks: last at tc egress, first at tc ingress. */
#include "engine/check.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "basic/cleanup.h"
#include "check.skel.h"
#include "engine/internal.h"

/* Names of Linux 6.6's uapi that Debian 12's headers do not have yet. */
#define TCX_INGRESS   ((enum bpf_attach_type)46)
#define TCX_EGRESS    ((enum bpf_attach_type)47)
#define LINK_F_BEFORE (1U << 3)
#define LINK_F_AFTER  (1U << 4)
#define LINK_F_LINK   (1U << 13) /* the relative is a link */

enum direction { DIRECTION_IN, DIRECTION_OUT, DIRECTIONS };

struct check_hook {
	uint32_t index;
	bool seen;    /* among those there are */
	bool watched; /* weir's own programs were there already */
	int links[DIRECTIONS];
	struct engine_filter filters[DIRECTIONS];
};

struct check_kernel {
	struct engine *engine;
	struct check_bpf *skeleton; /* NULL: there is no such check */
	struct check_hook *hooks;
	size_t count;
	__u32 running;
};

static struct check_kernel *check_of(const struct engine *engine)
{
	return engine_part_state(engine, &check_part);
}

/* -- hooks -- */

static void hook_remove(struct check_kernel *check, struct check_hook *hook)
{
	for (int i = DIRECTION_IN; i < DIRECTIONS; i++) {
		if (hook->links[i] >= 0)
			close(TAKE_FD(hook->links[i]));
		engine_filter_remove(check->engine, hook->index, i == DIRECTION_OUT, &hook->filters[i]);
		hook->filters[i] = (struct engine_filter){};
	}
}

static int program_of(const struct check_kernel *check, enum direction direction, bool ethernet)
{
	const struct bpf_program *programs[DIRECTIONS][2] = {
		{check->skeleton->progs.check_in_raw, check->skeleton->progs.check_in},
		{check->skeleton->progs.check_out_raw, check->skeleton->progs.check_out},
	};

	return bpf_program__fd(programs[direction][ethernet]);
}

static int tcx_add(
	struct engine *engine, const struct engine_interface *interface, struct check_hook *hook, int own)
{
	const struct check_kernel *check = check_of(engine);
	static const enum bpf_attach_type types[DIRECTIONS] = {TCX_INGRESS, TCX_EGRESS};

	for (int i = DIRECTION_IN; i < DIRECTIONS; i++) {
		LIBBPF_OPTS(bpf_link_create_opts, options, .flags = LINK_F_BEFORE);

		if (i == DIRECTION_OUT && own >= 0) {
			options.flags = LINK_F_AFTER | LINK_F_LINK;
			options.target_btf_id =
				(__u32)own; /* tcx.relative_fd, in the same place of the union */
		}
		hook->links[i] = bpf_link_create(
			program_of(check, i, interface->ethernet), (int)interface->index, types[i], &options);
		if (hook->links[i] < 0)
			return hook->links[i];
	}
	return 0;
}

static int clsact_add(
	struct engine *engine, const struct engine_interface *interface, struct check_hook *hook, int own)
{
	const struct check_kernel *check = check_of(engine);
	int r = 0;

	(void)own;
	for (int i = DIRECTION_IN; i < DIRECTIONS && r == 0; i++)
		r = engine_filter_add(engine, interface->index, i == DIRECTION_OUT, i == DIRECTION_OUT,
			program_of(check, i, interface->ethernet), &hook->filters[i]);
	return r;
}

static bool own_is_there(const struct engine *engine, uint32_t index, int link)
{
	struct engine_clsact entry;

	return link >= 0 || bpf_map_lookup_elem(engine->hooks_map, &index, &entry) == 0;
}

static int hook_add(struct engine *engine, const struct engine_interface *interface, struct check_hook *hook)
{
	bool tcx = engine_has(engine, "tcx");
	_cleanup_close_ int own = tcx ? engine_hook_link(engine, interface->index, true) : -1;
	int r;

	hook->index = interface->index;
	hook->watched = own_is_there(engine, interface->index, own);
	r = (tcx ? tcx_add : clsact_add)(engine, interface, hook, own);
	if (r < 0)
		hook_remove(check_of(engine), hook);
	return r;
}

/* Is it there, between the wire and weir's own programs? */
static bool hook_is_right(const struct engine *engine, const struct check_hook *hook)
{
	_cleanup_close_ int own = engine_hook_link(engine, hook->index, true);

	return (hook->links[DIRECTION_IN] >= 0 || hook->filters[DIRECTION_IN].priority) &&
	       hook->watched == own_is_there(engine, hook->index, own);
}

static struct check_hook *hook_find(const struct check_kernel *check, uint32_t index)
{
	for (size_t i = 0; i < check->count; i++)
		if (check->hooks[i].index == index)
			return &check->hooks[i];
	return NULL;
}

static int hook_update(struct engine *engine, const struct engine_interface *interface, struct error *error)
{
	struct check_kernel *check = check_of(engine);
	struct check_hook *hook = hook_find(check, interface->index), *hooks;
	int r = 0;

	if (!hook) {
		hooks = reallocarray(check->hooks, check->count + 1, sizeof(struct check_hook));
		if (!hooks)
			return error_set(error, -ENOMEM, "out of memory");
		check->hooks = hooks;
		hook = &hooks[check->count++];
		*hook = (struct check_hook){.links = {-1, -1}};
		r = hook_add(engine, interface, hook);
	} else if (!hook_is_right(engine, hook)) {
		hook_remove(check, hook);
		r = hook_add(engine, interface, hook);
	}
	hook->index = interface->index;
	hook->seen = true;
	return r < 0 ? error_set(error, r, "cannot check backends through interface '%s': %s",
			       interface->name, strerror(-r))
	             : 0;
}

static int hooks_update(struct engine *engine, struct error *error)
{
	struct check_kernel *check = check_of(engine);
	_cleanup_free_ struct engine_interface *interfaces = NULL;
	size_t count, kept = 0;
	int r = engine_interfaces(engine, &interfaces, &count);

	if (r < 0)
		return error_set(error, r, "cannot list interfaces: %s", strerror(-r));
	for (size_t i = 0; i < check->count; i++)
		check->hooks[i].seen = false;
	for (size_t i = 0; i < count; i++)
		if (interfaces[i].up && !interfaces[i].loopback) {
			int failed = hook_update(engine, &interfaces[i], error);

			r = failed < 0 ? failed : r;
		}
	for (size_t i = 0; i < check->count; i++)
		if (check->hooks[i].seen)
			check->hooks[kept++] = check->hooks[i];
		else
			hook_remove(check, &check->hooks[i]);
	check->count = kept;
	return r;
}

/* -- loading -- */

static int check_load(struct engine *engine, struct check_kernel *check, struct error *error)
{
	int r;

	if (check->skeleton)
		return 0;
	check->skeleton = check_bpf__open();
	if (!check->skeleton)
		return error_set(error, -errno, "cannot open the checks' programs: %s", strerror(errno));
	r = component_load_unpinned(engine, check->skeleton->obj, "check", error);
	if (r < 0) {
		check_bpf__destroy(check->skeleton);
		check->skeleton = NULL;
	}
	return r;
}

static void check_unload(struct check_kernel *check)
{
	for (size_t i = 0; i < check->count; i++)
		hook_remove(check, &check->hooks[i]);
	free(check->hooks);
	check->hooks = NULL;
	check->count = 0;
	check->running = 0;
	check_bpf__destroy(check->skeleton);
	check->skeleton = NULL;
}

int engine_check_want(struct engine *engine, bool wanted, struct error *error)
{
	struct check_kernel *check = check_of(engine);
	int r;

	if (!wanted) {
		check_unload(check);
		return 0;
	}
	r = check_load(engine, check, error);
	return r < 0 ? r : hooks_update(engine, error);
}

/* -- checks -- */

static struct check_key key_out(const struct check_way *way, uint8_t proto)
{
	struct check_key key = {.port = way->local_port, .family = way->socket_family, .proto = proto};

	memcpy(key.local, way->local, sizeof(key.local));
	return key;
}

static struct check_key key_in(const struct check_way *way, uint8_t proto)
{
	struct check_key key = {.port = way->local_port, .family = way->family, .proto = proto};

	memcpy(key.local, way->from, sizeof(key.local));
	return key;
}

/* The programs look at packets as long as it is not 0. */
static void running_add(struct check_kernel *check, int more)
{
	__u32 zero = 0;

	check->running += (__u32)more;
	bpf_map_update_elem(
		bpf_map__fd(check->skeleton->maps.check_running), &zero, &check->running, BPF_ANY);
}

int engine_check_begin(struct engine *engine, const struct check_way *way, uint8_t proto)
{
	struct check_kernel *check = check_of(engine);
	struct check_key out = key_out(way, proto), in = key_in(way, proto);
	int map;

	if (!check->skeleton)
		return -ENOENT;
	map = bpf_map__fd(check->skeleton->maps.check_ways);
	if (bpf_map_update_elem(map, &out, way, BPF_NOEXIST) < 0)
		return -errno;
	if (memcmp(&in, &out, sizeof(in)) != 0 && bpf_map_update_elem(map, &in, way, BPF_NOEXIST) < 0) {
		int r = -errno;

		bpf_map_delete_elem(map, &out);
		return r;
	}
	running_add(check, 1);
	return 0;
}

void engine_check_end(struct engine *engine, const struct check_way *way, uint8_t proto)
{
	struct check_kernel *check = check_of(engine);
	struct check_key out = key_out(way, proto), in = key_in(way, proto);
	int map;

	if (!check->skeleton)
		return;
	map = bpf_map__fd(check->skeleton->maps.check_ways);
	if (bpf_map_delete_elem(map, &out) == 0)
		running_add(check, -1);
	if (memcmp(&in, &out, sizeof(in)) != 0)
		bpf_map_delete_elem(map, &in);
}

bool engine_check_sent(const struct engine *engine, const struct check_way *way, uint8_t proto)
{
	const struct check_kernel *check = check_of(engine);
	struct check_key out = key_out(way, proto);
	struct check_way now = {};

	return check->skeleton &&
	       bpf_map_lookup_elem(bpf_map__fd(check->skeleton->maps.check_ways), &out, &now) == 0 &&
	       now.sent > 0;
}

/* -- the part -- */

static void check_close(void *state)
{
	struct check_kernel *check = state;

	check_unload(check);
	free(check);
}

static int check_open(struct engine *engine, void **ret_state, struct error *error)
{
	struct check_kernel *check = calloc(1, sizeof(*check));

	if (!check)
		return error_set(error, -ENOMEM, "out of memory");
	check->engine = engine;
	*ret_state = check;
	return 0;
}

const struct engine_part check_part = {"check", check_open, check_close};
