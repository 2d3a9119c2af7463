// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
#include "engine/drop.h"

#include <bpf/btf.h>
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "basic/cleanup.h"
#include "basic/clock.h"
#include "basic/log.h"
#include "drop.skel.h"
#include "engine/internal.h"
#include "engine/policy.h"
#include "engine/reason.h"
#include "engine/symbol.h"

#define BTF_DIRECTORY "/sys/kernel/btf"
#define KALLSYMS      "/proc/kallsyms"

#define BOOT_SECONDS  300ULL /* how far below 0 the ticks begin (INITIAL_JIFFIES) */
#define BATCH         64     /* entries of drop_counts read in one call */
#define NS_PER_S      1000000000ULL
#define WINDOW_NS     (NS_PER_S / 10)
#define WINDOWED_RATE 100 /* a smaller one is kept in windows of a second */
#define SUBSYSTEMS    64  /* that are looked for in modules, each once */
#define SUBSYS_SHIFT  16

/* kfree_skb's prototype in BTF: void *, skb, location, reason and, where there is one, the socket */
#define PARAMETERS_WITH_SOCKET 5

struct drop_state {
	bool attached;
	struct drop_bpf *skeleton;
	struct ring_buffer *ring;
	struct drop_count *counts; /* BATCH entries of all CPUs, as drop_counts is read */
	struct drop_stats *stats;  /* of all CPUs */
	struct symbols *symbols;
	struct reasons reasons;
	uint64_t looked_for; /* subsystems: a bit each */
	engine_drop_function *function;
	void *context;
};

static struct drop_state *state_of(const struct engine *engine)
{
	return engine_part_state(engine, &drop_part);
}

/* -- what the kernel tells of itself -- */

bool engine_drop_has_socket(void)
{
	const struct btf *btf = component_kernel_types();
	int id = !btf ? -1 : btf__find_by_name_kind(btf, "btf_trace_kfree_skb", BTF_KIND_TYPEDEF);
	const struct btf_type *type = id < 0 ? NULL : btf__type_by_id(btf, (__u32)id);

	while (type && (btf_is_typedef(type) || btf_is_ptr(type)))
		type = btf__type_by_id(btf, type->type);
	return type && btf_is_func_proto(type) && btf_vlen(type) >= PARAMETERS_WITH_SOCKET;
}

static void open_symbols(struct drop_state *state)
{
	FILE *file = fopen(KALLSYMS, "re");

	if (!file || symbols_open(file, &state->symbols) < 0)
		log_debug("cannot read %s; places of drops have no names", KALLSYMS);
}

/* A subsystem's reasons that vmlinux does not know: those of a module. */
static void look_in_modules(struct drop_state *state)
{
	struct btf *kernel = component_kernel_types();
	DIR *list = kernel ? opendir(BTF_DIRECTORY) : NULL;
	struct dirent *entry;

	while (list && (entry = readdir(list))) {
		char path[PATH_MAX];
		struct btf *module;

		if (entry->d_name[0] == '.' || strcmp(entry->d_name, "vmlinux") == 0)
			continue;
		snprintf(path, sizeof(path), BTF_DIRECTORY "/%s", entry->d_name);
		module = btf__parse_split(path, kernel);
		if (!module)
			continue;
		reasons_add(&state->reasons, module, btf__type_cnt(kernel));
		btf__free(module);
	}
	if (list)
		closedir(list);
}

char *engine_drop_reason_name(struct engine *engine, uint32_t reason, char *buffer)
{
	struct drop_state *state = state_of(engine);
	uint32_t subsystem = reason >> SUBSYS_SHIFT;
	const char *name = reasons_find(&state->reasons, reason);

	if (!name && subsystem && subsystem < SUBSYSTEMS && !(state->looked_for & 1ULL << subsystem)) {
		state->looked_for |= 1ULL << subsystem;
		look_in_modules(state);
		name = reasons_find(&state->reasons, reason);
	}
	if (name)
		snprintf(buffer, DROP_NAME_MAX, "%s", name);
	else
		snprintf(buffer, DROP_NAME_MAX, "%" PRIu32, reason);
	return buffer;
}

char *engine_drop_place_name(struct engine *engine, uint64_t location, char *buffer)
{
	struct drop_state *state = state_of(engine);

	if (state->symbols)
		return symbols_place(state->symbols, location, buffer, DROP_PLACE_MAX);
	snprintf(buffer, DROP_PLACE_MAX, "unknown");
	return buffer;
}

/* -- counts -- */

/* The tracepoint costs every drop some 60 ns, whatever its program does: who does not watch drops has none.
 */
static int drop_attach(struct engine *engine, struct drop_state *state, bool watch, struct error *error)
{
	struct bpf_program *program = state->skeleton->progs.drop_kfree_skb;
	int r = 0;

	if (watch && !state->attached)
		r = component_attach_trace(engine, program, error);
	else if (!watch && state->attached)
		component_detach_trace(engine, program);
	if (r == 0)
		state->attached = watch;
	return r;
}

int engine_drop_set(struct engine *engine, bool watch, uint32_t rate)
{
	struct drop_state *state = state_of(engine);
	uint64_t window_ns = rate >= WINDOWED_RATE ? WINDOW_NS : NS_PER_S;
	struct drop_settings settings = {
		.watch = watch,
		.window_ticks = (uint32_t)(window_ns / engine->tick_ns),
		.allowance = (uint32_t)(rate * window_ns / NS_PER_S),
	};
	__u32 key = 0;

	settings.reserve = settings.allowance / 4;
	if (bpf_map_update_elem(bpf_map__fd(state->skeleton->maps.drop_settings), &key, &settings, BPF_ANY) <
		0)
		return -errno;
	engine_policy_note_drops(engine, watch);
	return drop_attach(engine, state, watch, NULL);
}

/* The datapath's ticks on the agent's clock. */
struct ticks {
	uint64_t now, now_ns, tick_ns;
};

/* All 64 bits of the tick of now.  The kernel tells the lower half; the upper is about what has passed since
 * the boot, which begins five minutes before the lower half is 0. */
static int ticks_read(const struct engine *engine, struct ticks *ret_ticks)
{
	uint32_t tick;
	uint64_t about, tick_ns;
	int r = engine_clock(engine, &tick, &tick_ns);

	if (r < 0)
		return r;
	ret_ticks->now_ns = clock_ns(CLOCK_MONOTONIC);
	about = (uint32_t)(0 - BOOT_SECONDS * (NS_PER_S / tick_ns)) + ret_ticks->now_ns / tick_ns;
	ret_ticks->now = about + (uint64_t)(int64_t)(int32_t)(tick - (uint32_t)about);
	ret_ticks->tick_ns = tick_ns;
	return 0;
}

static uint64_t tick_time(const struct ticks *ticks, uint64_t tick)
{
	uint64_t ago = tick < ticks->now ? (ticks->now - tick) * ticks->tick_ns : 0;

	return ago < ticks->now_ns ? ticks->now_ns - ago : 0;
}

static void sum_cpus(struct engine_drop_sum *sum, const struct drop_count *counts, unsigned int cpus,
	const struct ticks *ticks)
{
	uint64_t last = 0;

	for (unsigned int cpu = 0; cpu < cpus; cpu++) {
		sum->packets += counts[cpu].packets;
		sum->bytes += counts[cpu].bytes;
		if (counts[cpu].last > last)
			last = counts[cpu].last;
	}
	sum->last_ns = tick_time(ticks, last);
}

static struct engine_drop_sum *sum_find(
	struct engine_drop_sum *sums, size_t *count, const struct drop_key *key)
{
	for (size_t i = 0; i < *count; i++)
		if (memcmp(&sums[i].key, key, sizeof(*key)) == 0)
			return &sums[i];
	sums[*count] = (struct engine_drop_sum){.key = *key};
	return &sums[(*count)++];
}

/* What tc has dropped stands apart. */
static int sum_tc(struct drop_state *state, unsigned int cpus, struct engine_drop_sum *sums, size_t *count,
	const struct ticks *ticks)
{
	__u32 zero = 0;

	if (bpf_map_lookup_elem(bpf_map__fd(state->skeleton->maps.drop_stats), &zero, state->stats) < 0)
		return -errno;
	for (unsigned int cpu = 0; cpu < cpus; cpu++) {
		for (size_t i = 0; i < DROP_TC_COUNT; i++) {
			const struct drop_at_tc *place = &state->stats[cpu].tc[i];
			struct engine_drop_sum *sum;
			uint64_t last_ns;

			if (!place->count.packets)
				continue;
			sum = sum_find(sums, count, &place->key);
			last_ns = sum->last_ns;
			sum_cpus(sum, &place->count, 1, ticks);
			if (sum->last_ns < last_ns)
				sum->last_ns = last_ns;
		}
	}
	return 0;
}

int engine_drop_sums(struct engine *engine, struct engine_drop_sum **ret_sums, size_t *ret_count)
{
	struct drop_state *state = state_of(engine);
	unsigned int cpus = engine->view.cpus;
	struct engine_drop_sum *sums;
	struct drop_key keys[BATCH];
	__u32 position = 0, number;
	void *from = NULL;
	size_t count = 0;
	struct ticks ticks;
	int r = ticks_read(engine, &ticks);

	if (r < 0)
		return r;
	sums = calloc(DROP_PLACES_MAX + (size_t)DROP_TC_COUNT * cpus, sizeof(*sums));
	if (!sums)
		return -ENOMEM;
	do {
		number = BATCH;
		r = bpf_map_lookup_batch(bpf_map__fd(state->skeleton->maps.drop_counts), from, &position,
			keys, state->counts, &number, NULL);
		if (r < 0 && r != -ENOENT) {
			free(sums);
			return r;
		}
		for (__u32 i = 0; i < number && count < DROP_PLACES_MAX; i++) {
			sums[count].key = keys[i];
			sum_cpus(&sums[count++], state->counts + (size_t)i * cpus, cpus, &ticks);
		}
		from = &position;
	} while (r == 0);
	r = sum_tc(state, cpus, sums, &count, &ticks);
	if (r < 0) {
		free(sums);
		return r;
	}
	*ret_sums = sums;
	*ret_count = count;
	return 0;
}

int engine_drop_stats(struct engine *engine, struct drop_stats *ret_stats, uint64_t *ret_missed)
{
	struct drop_state *state = state_of(engine);
	unsigned int cpus = engine->view.cpus;
	struct drop_stats *stats = state->stats;
	struct bpf_prog_info info = {};
	struct drop_stats sum = {};
	__u32 key = 0, length = sizeof(info);
	struct ticks ticks;
	int r;

	if (bpf_map_lookup_elem(bpf_map__fd(state->skeleton->maps.drop_stats), &key, stats) < 0)
		return -errno;
	for (unsigned int cpu = 0; cpu < cpus; cpu++) {
		sum.drops += stats[cpu].drops;
		sum.recorded += stats[cpu].recorded;
		sum.unrecorded += stats[cpu].unrecorded;
		sum.lost += stats[cpu].lost;
		sum.unassigned += stats[cpu].unassigned;
		sum.other.packets += stats[cpu].other.packets;
		sum.other.bytes += stats[cpu].other.bytes;
		if (stats[cpu].other.last > sum.other.last)
			sum.other.last = stats[cpu].other.last;
	}
	if (bpf_obj_get_info_by_fd(bpf_program__fd(state->skeleton->progs.drop_kfree_skb), &info, &length) <
		0)
		return -errno;
	r = ticks_read(engine, &ticks);
	if (r < 0)
		return r;
	sum.other.last = tick_time(&ticks, sum.other.last);
	*ret_stats = sum;
	*ret_missed = info.recursion_misses;
	return 0;
}

/* -- records -- */

static int on_record(void *context, void *data, size_t size)
{
	struct drop_state *state = context;

	symbols_read(state->symbols); /* somebody will ask where it was */
	if (state->function && size >= sizeof(struct drop_record))
		state->function(state->context, data);
	return 0;
}

int engine_drop_ring_fd(struct engine *engine)
{
	return ring_buffer__epoll_fd(state_of(engine)->ring);
}

void engine_drop_ring_read(struct engine *engine, engine_drop_function *function, void *context)
{
	struct drop_state *state = state_of(engine);

	state->function = function;
	state->context = context;
	ring_buffer__consume(state->ring);
}

/* -- opening -- */

static void drop_close(void *opaque)
{
	struct drop_state *state = opaque;

	ring_buffer__free(state->ring);
	free(state->counts);
	free(state->stats);
	drop_bpf__destroy(state->skeleton);
	symbols_free(state->symbols);
	reasons_free(&state->reasons);
	free(state);
}

static int drop_open(struct engine *engine, void **ret_state, struct error *error)
{
	struct drop_state *state = *ret_state = calloc(1, sizeof(*state));
	const struct btf *kernel = component_kernel_types();
	int r;

	if (!state)
		return error_set(error, -ENOMEM, "out of memory");
	state->counts = calloc((size_t)BATCH * engine->meta.cpus, sizeof(*state->counts));
	state->stats = calloc(engine->meta.cpus, sizeof(*state->stats));
	if (!state->counts || !state->stats)
		return error_set(error, -ENOMEM, "out of memory");
	if (!kernel || reasons_add(&state->reasons, kernel, 1) < 0)
		return error_set(error, -EOPNOTSUPP, "cannot read the kernel's types: %s", strerror(errno));
	state->skeleton = drop_bpf__open();
	if (!state->skeleton)
		return error_set(error, -errno, "cannot open the drop programs: %s", strerror(errno));
	state->skeleton->rodata->has_socket_argument = engine_drop_has_socket();
	r = component_load(engine, state->skeleton->obj, "drop", error);
	if (r == 0)
		r = component_ring(state->skeleton->obj, "drop_ring", on_record, state, &state->ring, error);
	if (r == 0)
		r = drop_attach(engine, state, engine->watch.drops, error);
	if (r == 0)
		open_symbols(state);
	return r;
}

const struct engine_part drop_part = {.name = "drop", .open = drop_open, .close = drop_close};
