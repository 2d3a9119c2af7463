// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* Loading, pinning and attaching what has an object of its own. */
#include "engine/component.h"

#include <bpf/btf.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "basic/cleanup.h"
#include "basic/clock.h"
#include "basic/log.h"
#include "engine/internal.h"

#define TRACE_PIN  "trace_"  /* trace_PROGRAM-NUMBER */
#define CGROUP_PIN "cgroup_" /* cgroup_PROGRAM */

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif

#ifndef __NR_fsopen
#define __NR_fsconfig 431
#define __NR_fsmount  432
#define __NR_fsopen   430
#endif
#define FS_CREATE 6 /* FSCONFIG_CMD_CREATE */

/* -- the place: network namespace and cgroup hierarchy -- */

static uint64_t read_netns_cookie(void)
{
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	uint64_t cookie = 0;
	socklen_t length = sizeof(cookie);

	if (fd < 0 || getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &length) < 0)
		log_debug("cannot read the cookie of the network namespace: %s", strerror(errno));
	return cookie;
}

/* A mount of our own that nobody sees: where the hierarchy is mounted for others does not matter, nor does
 * `ip netns exec`, which hides it. */
static int open_cgroup_root(void)
{
	_cleanup_close_ int context = (int)syscall(__NR_fsopen, "cgroup2", 1 /* FSOPEN_CLOEXEC */);
	_cleanup_close_ int mount = -1;
	int root;

	if (context < 0 || syscall(__NR_fsconfig, context, FS_CREATE, NULL, NULL, 0) < 0)
		return -errno;
	mount = (int)syscall(__NR_fsmount, context, 1 /* FSMOUNT_CLOEXEC */, 0);
	if (mount < 0)
		return -errno;
	root = openat(mount, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return root < 0 ? -errno : root;
}

/* -- loading -- */

/* Sets a variable of the read-only data, if the object has it. */
static int set_constant(struct bpf_object *object, const char *name, uint64_t value)
{
	const struct btf *btf = bpf_object__btf(object);
	const struct btf_type *section;
	int id = btf ? btf__find_by_name_kind(btf, ".rodata", BTF_KIND_DATASEC) : -1;
	const void *initial;
	struct bpf_map *map;
	size_t size = 0;
	char *data;
	int r;

	if (id < 0)
		return 0;
	bpf_object__for_each_map (map, object)
		if (bpf_map__is_internal(map) && strstr(bpf_map__name(map), ".rodata"))
			break;
	initial = map ? bpf_map__initial_value(map, &size) : NULL;
	if (!initial)
		return 0;
	data = malloc(size);
	if (!data)
		return -ENOMEM;
	memcpy(data, initial, size);
	section = btf__type_by_id(btf, (__u32)id);
	for (unsigned int i = 0; i < btf_vlen(section); i++) {
		const struct btf_var_secinfo *place = btf_var_secinfos(section) + i;
		const struct btf_type *variable = btf__type_by_id(btf, place->type);

		if (strcmp(btf__name_by_offset(btf, variable->name_off), name) == 0 &&
			place->size == sizeof(value) && place->offset + sizeof(value) <= size)
			memcpy(data + place->offset, &value, sizeof(value));
	}
	r = bpf_map__set_initial_value(map, data, size);
	free(data);
	return r;
}

/* The kernel lets only programs of one kind use such a map: those that take fragments, or the others. */
static bool map_is_of_kind(const struct bpf_map *map)
{
	enum bpf_map_type type = bpf_map__type(map);

	return type == BPF_MAP_TYPE_PROG_ARRAY || type == BPF_MAP_TYPE_DEVMAP ||
	       type == BPF_MAP_TYPE_DEVMAP_HASH || type == BPF_MAP_TYPE_CPUMAP;
}

static const char *map_path(
	const struct engine *engine, char path[static PATH_MAX], const struct bpf_map *map, bool whole)
{
	char name[64];

	snprintf(
		name, sizeof(name), "%s%s", bpf_map__name(map), whole && map_is_of_kind(map) ? "_whole" : "");
	return pins_path(&engine->pins, path, name);
}

/* -EPROTO: what is pinned is not what the programs know by that name. */
static int map_reuse(struct engine *engine, struct bpf_map *map, bool whole)
{
	char path[PATH_MAX];
	_cleanup_close_ int fd = bpf_obj_get(map_path(engine, path, map, whole));
	struct bpf_map_info info = {};
	__u32 length = sizeof(info);

	if (fd < 0)
		return fd;
	if (bpf_obj_get_info_by_fd(fd, &info, &length) < 0)
		return -errno;
	if (info.type != bpf_map__type(map) || info.key_size != bpf_map__key_size(map) ||
		info.value_size != bpf_map__value_size(map))
		return -EPROTO;
	return bpf_map__reuse_fd(map, fd); /* keeps a copy of its own */
}

static int map_pin(struct engine *engine, struct bpf_map *map, bool whole)
{
	char path[PATH_MAX];

	if (bpf_obj_pin(bpf_map__fd(map), map_path(engine, path, map, whole)) < 0)
		return errno == EEXIST ? 0 : -errno;
	return 0;
}

static int object_load(
	struct engine *engine, struct bpf_object *object, bool whole, const char *name, struct error *error)
{
	struct bpf_program *program;
	struct bpf_map *map;
	int r;

	bpf_object__for_each_program (program, object)
		if (bpf_program__type(program) == BPF_PROG_TYPE_XDP && !whole)
			bpf_program__set_flags(program, BPF_F_XDP_HAS_FRAGS);
	r = set_constant(object, "live_number", engine->live_number);
	if (r == 0)
		r = set_constant(object, "netns_cookie", engine->netns_cookie);
	if (r == 0)
		r = set_constant(
			object, "realtime_offset", clock_ns(CLOCK_REALTIME) - clock_ns(CLOCK_MONOTONIC));
	if (r < 0)
		return error_set(
			error, r, "cannot set the constants of the %s programs: %s", name, strerror(-r));
	bpf_object__for_each_map (map, object) {
		r = bpf_map__is_internal(map) ? -ENOENT : map_reuse(engine, map, whole);
		if (r == -EPROTO) {
			error_set(error, r, "%s/%s was made by another version of weir", engine->pins.path,
				bpf_map__name(map));
			return error_want(
				error, "'weir down' of that version removes it; its counters end there");
		}
		if (r < 0 && r != -ENOENT)
			return error_set(error, r, "cannot adopt %s/%s: %s", engine->pins.path,
				bpf_map__name(map), strerror(-r));
	}
	r = bpf_object__load(object);
	if (r < 0) {
		error_set(error, r, "cannot load the %s programs: %s", name, strerror(-r));
		if (r == -EPERM)
			error_want(error, "run as root, or with CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON");
		return r;
	}
	return 0;
}

static int object_load_and_pin(
	struct engine *engine, struct bpf_object *object, bool whole, const char *name, struct error *error)
{
	struct bpf_map *map;
	int r = object_load(engine, object, whole, name, error);

	if (r < 0)
		return r;
	bpf_object__for_each_map (map, object) {
		r = bpf_map__is_internal(map) ? 0 : map_pin(engine, map, whole);
		if (r < 0)
			return error_set(error, r, "cannot pin %s in %s: %s", bpf_map__name(map),
				engine->pins.path, strerror(-r));
	}
	return 0;
}

int component_load_unpinned(
	struct engine *engine, struct bpf_object *object, const char *name, struct error *error)
{
	return object_load(engine, object, false, name, error);
}

int component_load(struct engine *engine, struct bpf_object *object, const char *name, struct error *error)
{
	return object_load_and_pin(engine, object, false, name, error);
}

int component_load_whole(
	struct engine *engine, struct bpf_object *object, const char *name, struct error *error)
{
	return object_load_and_pin(engine, object, true, name, error);
}

int component_map(const struct bpf_object *object, const char *name)
{
	return bpf_object__find_map_fd_by_name(object, name);
}

int component_ring(const struct bpf_object *object, const char *map, ring_buffer_sample_fn function,
	void *context, struct ring_buffer **ret_ring, struct error *error)
{
	struct ring_buffer *ring = ring_buffer__new(component_map(object, map), function, context, NULL);

	if (!ring)
		return error_set(error, -errno, "cannot map the ring buffer %s: %s", map, strerror(errno));
	*ret_ring = ring;
	return 0;
}

/* -- attaching -- */

int component_open_cgroup(struct engine *engine, struct error *error)
{
	if (engine->cgroup_root < 0)
		engine->cgroup_root = open_cgroup_root();
	if (engine->cgroup_root < 0)
		return error_set(error, engine->cgroup_root, "cannot open the cgroup hierarchy: %s",
			strerror(-engine->cgroup_root));
	return 0;
}

int component_attach_cgroup(struct engine *engine, struct bpf_program *program, struct error *error)
{
	const char *name = bpf_program__name(program);
	char path[PATH_MAX], pin[64];
	_cleanup_close_ int link = -1;
	int r;

	snprintf(pin, sizeof(pin), CGROUP_PIN "%s", name);
	pins_path(&engine->pins, path, pin);
	link = bpf_obj_get(path);
	if (link >= 0) {
		if (bpf_link_update(link, bpf_program__fd(program), NULL) == 0)
			return 0;
		return error_set(error, -errno, "cannot replace %s: %s", name, strerror(errno));
	}
	r = component_open_cgroup(engine, error);
	if (r < 0)
		return r;
	link = bpf_link_create(bpf_program__fd(program), engine->cgroup_root,
		bpf_program__expected_attach_type(program), NULL);
	if (link < 0 || bpf_obj_pin(link, path) < 0)
		return error_set(
			error, -errno, "cannot attach %s to the root cgroup: %s", name, strerror(errno));
	return 0;
}

void component_detach_cgroup(struct engine *engine, const struct bpf_program *program)
{
	char pin[64];

	snprintf(pin, sizeof(pin), CGROUP_PIN "%s", bpf_program__name(program));
	pin_remove(&engine->pins, pin);
}

int component_attach_trace(struct engine *engine, struct bpf_program *program, struct error *error)
{
	struct bpf_link *link = bpf_program__attach(program);
	const char *name = bpf_program__name(program);
	char path[PATH_MAX], pin[96];
	int r;

	if (!link)
		return error_set(error, -errno, "cannot attach %s: %s", name, strerror(errno));
	snprintf(pin, sizeof(pin), TRACE_PIN "%s-%" PRIu64, name, engine->live_number);
	r = bpf_obj_pin(bpf_link__fd(link), pins_path(&engine->pins, path, pin)) < 0 ? -errno : 0;
	bpf_link__destroy(link); /* the pin holds it */
	return r < 0 ? error_set(error, r, "cannot pin %s in %s: %s", name, engine->pins.path, strerror(-r))
	             : 0;
}

void component_detach_trace(struct engine *engine, const struct bpf_program *program)
{
	char path[PATH_MAX], pin[96];

	snprintf(pin, sizeof(pin), TRACE_PIN "%s-%" PRIu64, bpf_program__name(program), engine->live_number);
	unlink(pins_path(&engine->pins, path, pin)); /* nothing else holds the link */
}

struct btf *component_kernel_types(void)
{
	static struct btf *kernel;

	if (!kernel)
		kernel = btf__load_vmlinux_btf();
	return kernel;
}

static bool kernel_has(const char *name, __u32 kind)
{
	const struct btf *kernel = component_kernel_types();

	return kernel && btf__find_by_name_kind(kernel, name, kind) >= 0;
}

bool component_has_tracepoint(const char *name)
{
	char type[128];

	snprintf(type, sizeof(type), "btf_trace_%s", name);
	return kernel_has(type, BTF_KIND_TYPEDEF);
}

bool component_has_function(const char *name)
{
	return kernel_has(name, BTF_KIND_FUNC);
}

/* -- going live -- */

/* Calls `function` for every pin of a tracing link. */
static void for_each_trace_pin(
	struct engine *engine, void (*function)(struct engine *engine, const char *pin, uint64_t number))
{
	struct pins_walk walk;
	const char *name;

	pins_walk_begin(&engine->pins, TRACE_PIN, &walk);
	while ((name = pins_walk_next(&walk))) {
		const char *number = strrchr(name, '-');

		if (number)
			function(engine, name, strtoull(number + 1, NULL, 10));
	}
}

static void forget_if_old(struct engine *engine, const char *pin, uint64_t number)
{
	if (number != engine->live_number)
		unlinkat(engine->pins.directory, pin, 0);
}

static void forget_if_new(struct engine *engine, const char *pin, uint64_t number)
{
	if (number == engine->live_number)
		unlinkat(engine->pins.directory, pin, 0);
}

int engine_place_open(struct engine *engine, struct error *error)
{
	char path[PATH_MAX];
	__u32 key = 0;
	__u64 number = 0;

	engine->netns_cookie = read_netns_cookie();
	pins_path(&engine->pins, path, "live");
	engine->live_map = bpf_obj_get(path);
	if (engine->live_map < 0) {
		engine->live_map = bpf_map_create(BPF_MAP_TYPE_ARRAY, "live", 4, 8, 1, NULL);
		if (engine->live_map < 0 || bpf_obj_pin(engine->live_map, path) < 0)
			return error_set(error, -errno, "cannot pin a map in %s: %s", engine->pins.path,
				strerror(errno));
	}
	if (bpf_map_lookup_elem(engine->live_map, &key, &number) < 0)
		return error_set(
			error, -errno, "cannot read %s/live: %s", engine->pins.path, strerror(errno));
	engine->live_number = number + 1;
	/* an agent that died while it attached may have left some with this number */
	for_each_trace_pin(engine, forget_if_new);
	return 0;
}

int engine_go_live(struct engine *engine, struct error *error)
{
	__u32 key = 0;

	if (bpf_map_update_elem(engine->live_map, &key, &engine->live_number, BPF_ANY) < 0)
		return error_set(
			error, -errno, "cannot write %s/live: %s", engine->pins.path, strerror(errno));
	for_each_trace_pin(engine, forget_if_old);
	return 0;
}

void engine_not_live(struct engine *engine)
{
	for_each_trace_pin(engine, forget_if_new);
}
