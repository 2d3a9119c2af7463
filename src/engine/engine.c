// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* Loading, adopting and removing the datapath. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "basic/cleanup.h"
#include "basic/clock.h"
#include "basic/log.h"
#include "engine/internal.h"
#include "engine/pace.h"
#include "watch.skel.h"

struct engine_ring_reader {
	unsigned int cpu;
	const volatile unsigned long *position; /* the kernel's: first byte not read yet */
	engine_record_function *function;
	void *context;
};

#define LOG_LINES_MAX 40 /* of one message of libbpf */

static const char *const program_names[PROGRAM_COUNT] = {
	[PROGRAM_ETHERNET_IN] = "watch_ethernet_in",
	[PROGRAM_ETHERNET_OUT] = "watch_ethernet_out",
	[PROGRAM_RAW_IN] = "watch_raw_in",
	[PROGRAM_RAW_OUT] = "watch_raw_out",
};

static int __attribute__((format(printf, 2, 0)))
log_libbpf(enum libbpf_print_level level, const char *format, va_list arguments)
{
	_cleanup_free_ char *text = NULL;
	size_t lines = 0;
	char *start;

	if (level == LIBBPF_DEBUG || vasprintf(&text, format, arguments) < 0)
		return 0;
	/* What fails is told in our own words; libbpf's help whoever debugs it.  The verifier's last lines
	 * say why. */
	start = text + strlen(text);
	while (start > text && lines <= LOG_LINES_MAX)
		lines += *--start == '\n';
	for (char *line = strtok(start, "\n"); line; line = strtok(NULL, "\n"))
		log_debug("%s", line);
	return 0;
}

static int read_network_namespace(struct engine_meta *meta, struct error *error)
{
	struct stat status;

	if (stat("/proc/self/ns/net", &status) < 0)
		return error_set(error, -errno, "cannot read /proc/self/ns/net: %s", strerror(errno));
	meta->network_namespace[0] = status.st_dev;
	meta->network_namespace[1] = status.st_ino;
	return 0;
}

static struct engine *engine_new(void)
{
	struct engine *engine = calloc(1, sizeof(*engine));

	if (!engine)
		return NULL;
	engine->pins.directory = engine->pins.keeper = -1;
	engine->hooks_map = engine->qdiscs_map = engine->clock_program = engine->live_map =
		engine->cgroup_root = -1;
	for (int i = 0; i < PROGRAM_COUNT; i++)
		engine->programs[i] = -1;
	return engine;
}

void engine_close(struct engine *engine)
{
	if (!engine)
		return;
	for (unsigned int cpu = 0; engine->rings && cpu < engine->view.cpus; cpu++)
		ring_buffer__free(engine->rings[cpu]);
	for (unsigned int cpu = 0; engine->readers && cpu < engine->view.cpus; cpu++)
		if (engine->readers[cpu].position)
			munmap((void *)engine->readers[cpu].position, (size_t)sysconf(_SC_PAGESIZE));
	free(engine->rings);
	free(engine->readers);
	if (engine->view.cache4)
		munmap((void *)engine->view.cache4, engine->cache4_bytes);
	if (engine->view.cache6)
		munmap((void *)engine->view.cache6, engine->cache6_bytes);
	if (engine->view.rest6)
		munmap((void *)engine->view.rest6, engine->rest6_bytes);
	if (engine->view.stats)
		munmap((void *)engine->view.stats, engine->stats_bytes);
	if (engine->hooks_map >= 0)
		close(engine->hooks_map);
	if (engine->qdiscs_map >= 0)
		close(engine->qdiscs_map);
	if (engine->clock_program >= 0)
		close(engine->clock_program);
	if (engine->live_map >= 0)
		close(engine->live_map);
	if (engine->cgroup_root >= 0)
		close(engine->cgroup_root);
	engine_parts_close(engine);
	engine_names_close(engine);
	watch_bpf__destroy(engine->skeleton);
	watch_bpf__destroy(engine->skeleton_raw);
	engine_netlink_close(engine);
	pins_close(&engine->pins);
	free(engine);
}

/* Reads the pinned meta map. -ENOENT: nothing is pinned here. */
static int meta_read(struct engine *engine, struct engine_meta *ret_meta)
{
	char path[PATH_MAX];
	_cleanup_close_ int fd = bpf_obj_get(pins_path(&engine->pins, path, "meta"));
	struct bpf_map_info info = {};
	__u32 length = sizeof(info), key = 0;

	if (fd < 0)
		return fd;
	if (bpf_obj_get_info_by_fd(fd, &info, &length) < 0)
		return -errno;
	if (info.value_size != sizeof(*ret_meta))
		return -EPROTO;
	return bpf_map_lookup_elem(fd, &key, ret_meta) < 0 ? -errno : 0;
}

/* Written last when loading: a datapath without it is half-made and is taken away. */
static int meta_write(struct engine *engine, struct error *error)
{
	_cleanup_close_ int fd =
		bpf_map_create(BPF_MAP_TYPE_ARRAY, "weir_meta", 4, sizeof(engine->meta), 1, NULL);
	char path[PATH_MAX];
	__u32 key = 0;

	if (fd < 0 || bpf_map_update_elem(fd, &key, &engine->meta, BPF_ANY) < 0 ||
		bpf_obj_pin(fd, pins_path(&engine->pins, path, "meta")) < 0)
		return error_set(
			error, -errno, "cannot pin a map in %s: %s", engine->pins.path, strerror(errno));
	return 0;
}

static int map_view(struct engine *engine, struct error *error)
{
	struct engine_view *view = &engine->view;
	struct {
		struct bpf_map *map;
		size_t bytes;
		const void **ret;
	} parts[] = {
		{engine->skeleton->maps.flow_cache4, engine->cache4_bytes, (const void **)&view->cache4},
		{engine->skeleton->maps.flow_cache6, engine->cache6_bytes, (const void **)&view->cache6},
		{engine->skeleton->maps.flow_rest6, engine->rest6_bytes, (const void **)&view->rest6},
		{engine->skeleton->maps.flow_stats, engine->stats_bytes, (const void **)&view->stats},
	};

	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		void *where = mmap(NULL, parts[i].bytes, PROT_READ, MAP_SHARED, bpf_map__fd(parts[i].map), 0);

		if (where == MAP_FAILED)
			return error_set(error, -errno, "cannot map %s: %s", bpf_map__name(parts[i].map),
				strerror(errno));
		*parts[i].ret = where;
	}
	return 0;
}

static int record_read(void *context, void *record, size_t size)
{
	struct engine_ring_reader *reader = context;

	/* libbpf moves the position on when this returns */
	return reader->function(reader->context, reader->cpu, *reader->position, record, size) ? -EINTR : 0;
}

static int ring_open(struct engine *engine, unsigned int cpu, struct error *error)
{
	_cleanup_close_ int ring = -1;
	char path[PATH_MAX], name[32];
	int r = 0;

	snprintf(name, sizeof(name), "ring_%u", cpu);
	pins_path(&engine->pins, path, name);
	if (engine->adopted) {
		ring = bpf_obj_get(path);
	} else {
		ring = bpf_map_create(
			BPF_MAP_TYPE_RINGBUF, "flow_ring", 0, 0, engine->meta.sizes.ring_bytes, NULL);
		if (ring >= 0 && (bpf_obj_pin(ring, path) < 0 ||
					 bpf_map_update_elem(bpf_map__fd(engine->skeleton->maps.flow_rings),
						 &cpu, &ring, BPF_ANY) < 0))
			r = -errno;
	}
	if (ring < 0)
		r = -errno;
	if (r == 0) {
		void *page = mmap(NULL, (size_t)sysconf(_SC_PAGESIZE), PROT_READ, MAP_SHARED, ring, 0);

		if (page == MAP_FAILED)
			return error_set(error, -errno, "cannot map a ring buffer: %s", strerror(errno));
		engine->readers[cpu] = (struct engine_ring_reader){.cpu = cpu, .position = page};
		engine->rings[cpu] = ring_buffer__new(ring, record_read, &engine->readers[cpu], NULL);
		if (!engine->rings[cpu])
			r = -errno;
	}
	return r < 0 ? error_set(error, r, "cannot make the ring buffer of CPU %u: %s", cpu, strerror(-r))
	             : 0;
}

/* Opens the programs, with maps of the wanted sizes or those that are pinned: those for interfaces with a
 * link header, or those for the others. */
static struct watch_bpf *programs_open(const struct engine *engine, bool raw)
{
	const struct engine_view *view = &engine->view;
	struct watch_bpf *skeleton = watch_bpf__open();

	if (!skeleton)
		return NULL;
	ENGINE_TELL_FLOWS(engine, skeleton);
	skeleton->rodata->owner_off = !engine->watch.owners;
	engine_names_prepare(engine, skeleton, engine->watch.names);

	bpf_map__set_max_entries(skeleton->maps.flow_cache4, view->cpus * view->sets4);
	bpf_map__set_max_entries(skeleton->maps.flow_cache6, view->cpus * view->sets6);
	bpf_map__set_max_entries(skeleton->maps.flow_rest6, view->cpus * view->sets6);
	bpf_map__set_max_entries(skeleton->maps.flow_stats, view->cpus);
	bpf_map__set_max_entries(skeleton->maps.flow_rings, view->cpus);
	bpf_map__set_max_entries(skeleton->maps.rule_counts, view->cpus * POLICY_COUNTERS_MAX);
	bpf_program__set_autoload(skeleton->progs.watch_ethernet_in, !raw);
	bpf_program__set_autoload(skeleton->progs.watch_ethernet_out, !raw);
	bpf_program__set_autoload(skeleton->progs.watch_raw_in, raw);
	bpf_program__set_autoload(skeleton->progs.watch_raw_out, raw);
	return skeleton;
}

static int programs_load(
	struct engine *engine, bool raw, struct watch_bpf **ret_skeleton, struct error *error)
{
	struct watch_bpf *skeleton = programs_open(engine, raw);
	int r;

	if (!skeleton)
		return error_set(error, -errno, "cannot open the datapath's programs: %s", strerror(errno));
	r = component_load(engine, skeleton->obj, "flow", error);
	if (r == -ENOMEM || r == -E2BIG)
		error_want(error, "smaller sizes in flows.cache and flows.ring");
	if (r < 0) {
		watch_bpf__destroy(skeleton);
		return r;
	}
	for (int i = raw ? PROGRAM_RAW_IN : 0; i < (raw ? PROGRAM_COUNT : PROGRAM_RAW_IN); i++) {
		struct bpf_prog_info info = {};
		__u32 length = sizeof(info);

		engine->programs[i] =
			bpf_program__fd(bpf_object__find_program_by_name(skeleton->obj, program_names[i]));
		if (bpf_obj_get_info_by_fd(engine->programs[i], &info, &length) == 0)
			engine->program_ids[i] = info.id;
	}
	*ret_skeleton = skeleton;
	return 0;
}

/* Interfaces without a link header are rare: their programs are loaded for the first one. */
int engine_program(struct engine *engine, enum engine_program program)
{
	struct error error = {};
	int r = 0;

	if (program >= PROGRAM_RAW_IN && !engine->skeleton_raw)
		r = programs_load(engine, true, &engine->skeleton_raw, &error);
	if (r < 0)
		log_warning("%s", error.what);
	return r < 0 ? r : engine->programs[program];
}

static int load(struct engine *engine, struct error *error)
{
	const struct engine_sizes *sizes = &engine->meta.sizes;
	struct engine_view *view = &engine->view;

	view->cpus = engine->meta.cpus;
	view->sets4 = sizes->cache4_lines / FLOW_WAYS;
	view->sets6 = sizes->cache6_lines / FLOW_WAYS;
	engine->cache4_bytes = (size_t)view->cpus * view->sets4 * sizeof(struct flow_set4);
	engine->cache6_bytes = (size_t)view->cpus * view->sets6 * sizeof(struct flow_set6);
	engine->rest6_bytes = (size_t)view->cpus * view->sets6 * sizeof(struct flow_rest_set6);
	engine->stats_bytes = view->cpus * sizeof(struct flow_stats);
	return programs_load(engine, false, &engine->skeleton, error);
}

static int hooks_open(struct engine *engine, struct error *error)
{
	char path[PATH_MAX];

	pins_path(&engine->pins, path, "hooks");
	engine->hooks_map = bpf_obj_get(path);
	if (engine->hooks_map >= 0)
		return 0;
	engine->hooks_map =
		bpf_map_create(BPF_MAP_TYPE_HASH, "weir_hooks", 4, sizeof(struct engine_clsact), 4096, NULL);
	if (engine->hooks_map < 0 || bpf_obj_pin(engine->hooks_map, path) < 0)
		return error_set(
			error, -errno, "cannot pin a map in %s: %s", engine->pins.path, strerror(errno));
	return 0;
}

/* Only the kernel knows its tick counter, so a program of two instructions asks it.  The coarse clock moves
 * on by a tick, so its resolution is the tick's length.  A tracing program, because asking one that works on
 * packets makes a packet and drops it. */
static int clock_open(struct engine *engine, struct error *error)
{
	struct bpf_insn code[] = {
		{.code = BPF_JMP | BPF_CALL, .imm = BPF_FUNC_jiffies64},
		{.code = BPF_JMP | BPF_EXIT},
	};
	struct timespec resolution;

	engine->clock_program =
		bpf_prog_load(BPF_PROG_TYPE_RAW_TRACEPOINT, "weir_clock", "Dual BSD/GPL", code, 2, NULL);
	if (engine->clock_program < 0 || clock_getres(CLOCK_MONOTONIC_COARSE, &resolution) < 0)
		return error_set(error, -errno, "cannot read the kernel's clock: %s", strerror(errno));
	engine->tick_ns = (uint64_t)resolution.tv_nsec;
	return 0;
}

int engine_clock(const struct engine *engine, uint32_t *ret_tick, uint64_t *ret_tick_ns)
{
	LIBBPF_OPTS(bpf_test_run_opts, options);
	int r = bpf_prog_test_run_opts(engine->clock_program, &options);

	if (r < 0)
		return r;
	*ret_tick = options.retval;
	*ret_tick_ns = engine->tick_ns;
	return 0;
}

static int check_features(const struct engine *engine, struct error *error)
{
	for (size_t i = 0; i < engine->feature_count; i++)
		if (!engine->features[i].found && !engine->features[i].replacement)
			return error_set(error, -EOPNOTSUPP,
				"this kernel lacks '%s', which weir needs for %s", engine->features[i].name,
				engine->features[i].purpose);
	return 0;
}

/* Without the right to use BPF every probe fails; say that, not that the kernel lacks everything. */
static int check_privileges(struct error *error)
{
	struct bpf_insn code[] = {
		{.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0},
		{.code = BPF_JMP | BPF_EXIT},
	};
	int fd = bpf_prog_load(BPF_PROG_TYPE_SCHED_CLS, "weir_probe", "Dual BSD/GPL", code, 2, NULL);

	if (fd >= 0) {
		close(fd);
		return 0;
	}
	if (fd == -ENOSYS) {
		error_set(error, fd, "this kernel has no BPF");
		return error_want(error, "a kernel with CONFIG_BPF_SYSCALL and CONFIG_NET_CLS_BPF");
	}
	error_set(error, fd, "not allowed to load BPF programs: %s", strerror(-fd));
	return error_want(error, "run as root, or with CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON");
}

/* Is what is pinned here ours to adopt?  0: load anew; 1: adopt. */
static int judge_left(struct engine *engine, const struct engine_meta *wanted, struct error *error)
{
	struct engine_meta meta = {};
	int r = meta_read(engine, &meta);

	if (r == -ENOENT)
		return 0;
	if (r == -EPROTO || (r == 0 && (meta.magic != META_MAGIC || meta.layout != META_LAYOUT))) {
		error_set(error, -EPROTO, "the datapath in %s was made by another version of weir",
			engine->pins.path);
		return error_want(error, "'weir down' of that version removes it; its counters end there");
	}
	if (r < 0)
		return error_set(error, r, "cannot read %s/meta: %s", engine->pins.path, strerror(-r));
	if (memcmp(meta.network_namespace, wanted->network_namespace, sizeof(meta.network_namespace)) != 0) {
		error_set(error, -EBUSY, "the datapath in %s belongs to another network namespace",
			engine->pins.path);
		return error_want(error, "another --run-dir, or 'weir down' with this one first");
	}
	if (meta.cpus != wanted->cpus)
		return error_set(error, -EPROTO, "the datapath in %s was made for %u CPUs, not %u",
			engine->pins.path, meta.cpus, wanted->cpus);
	engine->meta = meta;
	return 1;
}

static int engine_setup(
	struct engine *engine, const char *run_dir, const struct engine_sizes *sizes, struct error *error)
{
	struct engine_meta meta = {.magic = META_MAGIC, .layout = META_LAYOUT, .sizes = *sizes};
	int r = libbpf_num_possible_cpus();

	if (r < 0)
		return error_set(error, r, "cannot count CPUs: %s", strerror(-r));
	meta.cpus = (uint32_t)r;
	meta.since_ns = clock_ns(CLOCK_MONOTONIC);
	if (getrandom(meta.flow_seed, sizeof(meta.flow_seed), 0) != sizeof(meta.flow_seed))
		return error_set(error, -errno, "cannot get random numbers: %s", strerror(errno));
	meta.flow_seed[0] |= 1;
	meta.flow_seed[1] |= 1;
	r = read_network_namespace(&meta, error);
	if (r == 0)
		r = check_privileges(error);
	if (r < 0)
		return r;
	engine_probe_features(engine);
	r = check_features(engine, error);
	if (r == 0)
		r = pins_open(run_dir, true, &engine->pins, error);
	if (r == 0)
		r = judge_left(engine, &meta, error);
	if (r < 0)
		return r;
	engine->adopted = r;
	if (!engine->adopted)
		engine->meta = meta;

	engine->rings = calloc(meta.cpus, sizeof(struct ring_buffer *));
	engine->readers = calloc(meta.cpus, sizeof(*engine->readers));
	if (!engine->rings || !engine->readers)
		return error_set(error, -ENOMEM, "out of memory");
	r = engine_netlink_open(engine, error);
	if (r == 0)
		r = clock_open(engine, error);
	if (r == 0)
		r = engine_place_open(engine, error);
	if (r == 0)
		r = load(engine, error);
	for (unsigned int cpu = 0; cpu < meta.cpus && r == 0; cpu++)
		r = ring_open(engine, cpu, error);
	if (r == 0)
		r = engine_names_open(engine, error);
	if (r == 0)
		r = map_view(engine, error);
	if (r == 0)
		r = hooks_open(engine, error);
	if (r == 0)
		r = engine_qdisc_open(engine, error);
	if (r == 0)
		r = engine_parts_open(engine, error);
	if (r == 0)
		r = engine_go_live(engine, error);
	if (r < 0) {
		engine_not_live(engine);
		return r;
	}
	if (!engine->adopted)
		return meta_write(engine, error);
	engine_replace_programs(engine);
	if (!engine_has(engine, "tcx"))
		engine_filter_sweep(engine);
	return 0;
}

int engine_open(const char *run_dir, const struct engine_sizes *sizes, const struct engine_watch *watch,
	struct engine **ret_engine, struct error *error)
{
	struct engine *engine = engine_new();
	int r;

	if (!engine)
		return error_set(error, -ENOMEM, "out of memory");
	engine->watch = *watch;
	libbpf_set_strict_mode(LIBBPF_STRICT_ALL);
	libbpf_set_print(log_libbpf);
	r = engine_setup(engine, run_dir, sizes, error);
	if (r < 0) {
		struct engine_meta meta;

		/* half-made: away with it; another's or adopted: hands off */
		if (engine->pins.directory >= 0 && !engine->adopted && meta_read(engine, &meta) == -ENOENT)
			engine_remove(engine, NULL);
		else
			engine_close(engine);
		return r;
	}
	*ret_engine = engine;
	return 0;
}

int engine_remove(struct engine *engine, struct error *error)
{
	int r;

	engine_pace_stop(engine);
	engine_detach_all(engine);
	engine_qdisc_remove_all(engine);
	r = pins_remove(&engine->pins, error);
	engine_close(engine);
	return r;
}

int engine_remove_left(const char *run_dir, bool *ret_found, struct error *error)
{
	struct engine *engine = engine_new();
	char path[PATH_MAX];
	int r;

	*ret_found = false;
	if (!engine)
		return error_set(error, -ENOMEM, "out of memory");
	libbpf_set_print(log_libbpf);
	r = pins_open(run_dir, false, &engine->pins, error);
	if (r < 0) {
		engine_close(engine);
		return r == -ENOENT ? 0 : r;
	}
	*ret_found = true;
	engine->hooks_map = bpf_obj_get(pins_path(&engine->pins, path, "hooks"));
	r = engine_netlink_open(engine, error);
	if (r < 0) {
		engine_close(engine);
		return r;
	}
	return engine_remove(engine, error);
}

bool engine_adopted(const struct engine *engine)
{
	return engine->adopted;
}

int engine_cgroup_root(const struct engine *engine)
{
	return engine->cgroup_root;
}

const char *engine_pins(const struct engine *engine)
{
	return engine->pins.path;
}

const struct engine_sizes *engine_sizes(const struct engine *engine)
{
	return &engine->meta.sizes;
}

uint64_t engine_since(const struct engine *engine)
{
	return engine->meta.since_ns;
}

size_t engine_map_bytes(const struct engine *engine)
{
	return engine->cache4_bytes + engine->cache6_bytes + engine->rest6_bytes + engine->stats_bytes;
}

const struct engine_view *engine_view(const struct engine *engine)
{
	return &engine->view;
}

int engine_ring_fd(const struct engine *engine, unsigned int cpu)
{
	return ring_buffer__epoll_fd(engine->rings[cpu]);
}

void engine_ring_read(
	struct engine *engine, unsigned int cpu, engine_record_function *function, void *context)
{
	engine->readers[cpu].function = function;
	engine->readers[cpu].context = context;
	ring_buffer__consume(engine->rings[cpu]);
}
