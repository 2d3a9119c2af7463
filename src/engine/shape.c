// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* Classes: their maps, and the programs that packets go on to (bpf/shape.bpf.c). */
#include "engine/shape.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "basic/cleanup.h"
#include "basic/clock.h"
#include "compile/bucket.h"
#include "engine/internal.h"
#include "engine/policy.h"
#include "shape.skel.h"

#define NS_PER_S 1000000000ULL

#define TICK_SHIFT_MAX 16
#define SWEEP_AT       (SHAPE_HALF / 4 * 3)         /* paths in use: time for the other half */
#define SWEEP_NS       (10ULL * 1000 * 1000 * 1000) /* halves take turns no more often than this */

struct shape_kernel {
	struct shape_bpf *skeleton; /* NULL: there never was a class */
	/* mapped */
	struct shape_class *classes;
	struct shape_state *states;
	struct shape_count *counts; /* of all CPUs */
	struct shape_hint *hints;
	struct shape_numbering *numbering;
	unsigned int cpus;
	uint64_t swept_ns;
};

#define load(field)         __atomic_load_n(&(field), __ATOMIC_ACQUIRE)
#define store(field, value) __atomic_store_n(&(field), (value), __ATOMIC_RELEASE)

static struct shape_kernel *shape_of(const struct engine *engine)
{
	return engine_part_state(engine, &shape_part);
}

/* -- loading -- */

static size_t counts_bytes(const struct shape_kernel *shape)
{
	return (size_t)shape->cpus * SHAPE_CLASSES_MAX * sizeof(struct shape_count);
}

static void maps_unmap(struct shape_kernel *shape)
{
	if (shape->classes)
		munmap(shape->classes, SHAPE_CLASSES_MAX * sizeof(*shape->classes));
	if (shape->states)
		munmap(shape->states, SHAPE_CLASSES_MAX * sizeof(*shape->states));
	if (shape->counts)
		munmap(shape->counts, counts_bytes(shape));
	if (shape->hints)
		munmap(shape->hints, SHAPE_CLASSES_MAX * sizeof(*shape->hints));
	if (shape->numbering)
		munmap(shape->numbering, sizeof(*shape->numbering));
	shape->classes = NULL;
	shape->states = NULL;
	shape->counts = NULL;
	shape->hints = NULL;
	shape->numbering = NULL;
}

static int maps_map(struct shape_kernel *shape, struct error *error)
{
	const struct {
		const struct bpf_map *map;
		size_t bytes;
		int protection;
		void **ret;
	} parts[] = {
		{shape->skeleton->maps.shape_classes, SHAPE_CLASSES_MAX * sizeof(struct shape_class),
			PROT_READ | PROT_WRITE, (void **)&shape->classes},
		{shape->skeleton->maps.shape_states, SHAPE_CLASSES_MAX * sizeof(struct shape_state),
			PROT_READ | PROT_WRITE, (void **)&shape->states},
		{shape->skeleton->maps.shape_counts, counts_bytes(shape), PROT_READ | PROT_WRITE,
			(void **)&shape->counts},
		{shape->skeleton->maps.shape_hints, SHAPE_CLASSES_MAX * sizeof(struct shape_hint),
			PROT_READ | PROT_WRITE, (void **)&shape->hints},
		{shape->skeleton->maps.shape_numbering, sizeof(struct shape_numbering),
			PROT_READ | PROT_WRITE, (void **)&shape->numbering},
	};

	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		void *where = mmap(
			NULL, parts[i].bytes, parts[i].protection, MAP_SHARED, bpf_map__fd(parts[i].map), 0);

		if (where == MAP_FAILED)
			return error_set(error, -errno, "cannot map %s: %s", bpf_map__name(parts[i].map),
				strerror(errno));
		*parts[i].ret = where;
	}
	return 0;
}

/* How often a second is to be halved to be no shorter than a tick. */
static uint32_t tick_shift(const struct engine *engine)
{
	uint32_t tick, shift = 0;
	uint64_t tick_ns = NS_PER_S;

	if (engine_clock(engine, &tick, &tick_ns) == 0)
		while (shift < TICK_SHIFT_MAX && NS_PER_S >> (shift + 1) >= tick_ns)
			shift++;
	return shift;
}

static int programs_load(struct engine *engine, struct shape_kernel *shape, struct error *error)
{
	const struct {
		enum shape_program place;
		const struct bpf_program *program;
	} programs[] = {
		{SHAPE_APPLY, shape->skeleton->progs.shape_apply},
		{SHAPE_FIND, shape->skeleton->progs.shape_find},
		{SHAPE_EXPLAIN, shape->skeleton->progs.shape_explain},
	};
	int r, map;

	shape->skeleton->rodata->shape_tick_shift = tick_shift(engine);
	shape->skeleton->rodata->shape_hold_shift = shape_hold_shift_of(shape->cpus);
	bpf_map__set_max_entries(shape->skeleton->maps.shape_counts, shape->cpus * SHAPE_CLASSES_MAX);
	r = component_load(engine, shape->skeleton->obj, "class", error);
	if (r == 0)
		r = maps_map(shape, error);
	if (r < 0)
		return r;
	map = bpf_map__fd(shape->skeleton->maps.shape_programs);
	for (size_t i = 0; i < sizeof(programs) / sizeof(programs[0]); i++) {
		__u32 place = programs[i].place;
		int program = bpf_program__fd(programs[i].program);

		if (bpf_map_update_elem(map, &place, &program, BPF_ANY) < 0)
			return error_set(error, -errno,
				"cannot put the classes' programs into their place: %s", strerror(errno));
	}
	return 0;
}

/* Verifying these programs and making their maps takes its time and memory; who has no classes needs neither.
 */
static int shape_load(struct engine *engine, struct shape_kernel *shape, struct error *error)
{
	int r;

	if (shape->skeleton)
		return 0;
	shape->skeleton = shape_bpf__open();
	if (!shape->skeleton)
		return error_set(error, -errno, "cannot open the classes' programs: %s", strerror(errno));
	r = programs_load(engine, shape, error);
	if (r < 0) {
		maps_unmap(shape);
		shape_bpf__destroy(shape->skeleton);
		shape->skeleton = NULL;
	}
	return r;
}

static void shape_close(void *state)
{
	struct shape_kernel *shape = state;

	maps_unmap(shape);
	shape_bpf__destroy(shape->skeleton);
	free(shape);
}

static int shape_open(struct engine *engine, void **ret_state, struct error *error)
{
	struct shape_kernel *shape = calloc(1, sizeof(*shape));
	char path[PATH_MAX];
	_cleanup_close_ int left = bpf_obj_get(pins_path(&engine->pins, path, "shape_classes"));

	if (!shape)
		return error_set(error, -ENOMEM, "out of memory");
	*ret_state = shape;
	shape->cpus = engine->view.cpus;
	return left >= 0 ? shape_load(engine, shape, error) : 0;
}

const struct engine_part shape_part = {"shape", shape_open, shape_close};

bool engine_shape_used(const struct engine *engine)
{
	return shape_of(engine)->skeleton;
}

int engine_shape_load(struct engine *engine, struct error *error)
{
	return shape_load(engine, shape_of(engine), error);
}

/* -- classes -- */

/* What packets read while it changes is one word. */
union shape_control {
	struct {
		__u8 engine, priority, meter, reserved;
		__u16 flags, weight;
	};
	uint64_t word;
};

_Static_assert(offsetof(struct shape_class, weight) + sizeof(__u16) - offsetof(struct shape_class, engine) ==
		       sizeof(union shape_control),
	"engine to weight are one word");

static uint64_t *control_of(struct shape_class *class)
{
	return (uint64_t *)(void *)&class->engine;
}

/* Makes the meter that is not in use: the time of the one that is goes on. */
static int meter_make(const struct shape_class *now, const struct shape_class *next, uint64_t burst,
	unsigned int *ret_meter, struct shape_meter *ret)
{
	const struct token_rate rate = {next->ceiling, burst, NS_PER_S};
	const struct shape_meter *used = &now->meters[now->meter & 1];
	struct shape_meter meter = {};
	uint64_t ahead;
	int r;

	*ret_meter = (now->meter & 1) ^ 1;
	if (next->ceiling) {
		bool going = now->generation == next->generation && used->clock.period;

		meter.clock = used->clock;
		r = going ? token_clock_change(&meter.clock, &rate, clock_ns(CLOCK_MONOTONIC))
		          : token_clock_start(&rate, clock_ns(CLOCK_MONOTONIC), &meter.clock);
		if (r < 0)
			return r;
		ahead = next->ceiling / 1000000 * (next->mark_ns / 1000) +
		        next->ceiling % 1000000 * (next->mark_ns / 1000) / 1000000;
		meter.mark = next->mark_ns && ahead < burst ? burst - ahead : 0;
	} else {
		/* buckets go on where a ceiling comes back; a share is saved up without one, too */
		meter = *used;
		meter.clock.burst = burst;
	}
	*ret = meter;
	return 0;
}

/* What packets found out of a class is no longer so, nor does a CPU hold anything of it. */
static void state_forget(struct shape_kernel *shape, uint32_t number)
{
	struct shape_state *state = &shape->states[number];

	store(state->fresh, ((load(state->fresh) >> 2) + 1) << 2 | SHAPE_STALE);
	__atomic_fetch_add(&shape->hints[number].recall, SHAPE_RECALL, __ATOMIC_SEQ_CST);
}

static void counts_clear(struct shape_kernel *shape, uint32_t number)
{
	for (unsigned int cpu = 0; cpu < shape->cpus; cpu++)
		shape->counts[(size_t)cpu * SHAPE_CLASSES_MAX + number] = (struct shape_count){};
}

int engine_shape_class_set(struct engine *engine, uint32_t number, const struct shape_class *class,
	uint64_t burst, struct error *error)
{
	struct shape_kernel *shape = shape_of(engine);
	union shape_control control = {.engine = class->engine,
		.priority = class->priority,
		.flags = class->flags,
		.weight = class->weight};
	struct shape_class *now;
	struct shape_meter meter;
	unsigned int other;
	int r;

	if (!number || number >= SHAPE_CLASSES_MAX || !class->generation)
		return error_set(error, -ERANGE, "there is no class %u", number);
	r = shape_load(engine, shape, error);
	if (r < 0)
		return r;
	now = &shape->classes[number];
	r = meter_make(now, class, burst, &other, &meter);
	if (r < 0)
		return error_set(
			error, r, "class %u cannot have this rate and burst: %s", number, strerror(-r));
	if (now->generation != class->generation) {
		store(now->generation, 0);
		shape->states[number] = (struct shape_state){};
		counts_clear(shape, number);
	}
	now->meters[other] = meter;
	control.meter = (__u8)other;
	store(now->parent, class->parent);
	store(shape->hints[number].parent, (__u16) class->parent);
	store(now->ifindex, class->ifindex);
	store(now->rule, class->rule);
	store(now->htb, class->htb);
	store(now->redirect, class->redirect);
	store(now->guarantee, class->guarantee);
	store(now->mark_ns, class->mark_ns);
	store(now->horizon_ns, class->horizon_ns);
	/* the rate and its meter: a packet in between has the old meter beside the new rate, of which the
	 * policer only takes how far to trust its last look at the clock */
	store(now->ceiling, class->ceiling);
	store(*control_of(now), control.word);
	store(now->generation, class->generation);
	state_forget(shape, number);
	return 0;
}

void engine_shape_class_clear(struct engine *engine, uint32_t number)
{
	struct shape_kernel *shape = shape_of(engine);

	if (!shape->classes || number >= SHAPE_CLASSES_MAX)
		return;
	store(shape->classes[number].generation, 0);
	state_forget(shape, number);
}

int engine_shape_class(struct engine *engine, uint32_t number, struct shape_class *ret_class)
{
	const struct shape_kernel *shape = shape_of(engine);

	if (!shape->classes || number >= SHAPE_CLASSES_MAX || !shape->classes[number].generation)
		return -ENOENT;
	*ret_class = shape->classes[number];
	return 0;
}

void engine_shape_counter_set(struct engine *engine, uint32_t number, uint32_t counter)
{
	const struct shape_kernel *shape = shape_of(engine);

	if (shape->states && number < SHAPE_CLASSES_MAX)
		store(shape->states[number].counter, counter);
}

void engine_shape_plain(
	const struct engine *engine, unsigned int cpu, uint32_t number, struct rule_count *ret_count)
{
	const struct shape_kernel *shape = shape_of(engine);
	const struct shape_count *count;

	*ret_count = (struct rule_count){};
	if (!shape->counts || number >= SHAPE_CLASSES_MAX)
		return;
	count = &shape->counts[(size_t)cpu * SHAPE_CLASSES_MAX + number];
	ret_count->packets = load(count->plain_packets);
	ret_count->bytes = load(count->plain_bytes);
	ret_count->last = load(count->plain_last);
}

void engine_shape_count(struct engine *engine, uint32_t number, struct engine_shape_count *ret_count)
{
	const struct shape_kernel *shape = shape_of(engine);
	struct engine_shape_count sum = {};

	for (unsigned int cpu = 0; shape->counts && number < SHAPE_CLASSES_MAX && cpu < shape->cpus; cpu++) {
		const struct shape_count *count = &shape->counts[(size_t)cpu * SHAPE_CLASSES_MAX + number];

		sum.sent_packets += load(count->sent_packets);
		sum.sent_bytes += load(count->sent_bytes);
		sum.dropped_packets += load(count->dropped_packets);
		sum.dropped_bytes += load(count->dropped_bytes);
		sum.marked_packets += load(count->marked_packets);
	}
	if (shape->states && number < SHAPE_CLASSES_MAX) {
		sum.delayed_packets = load(shape->states[number].delayed_packets);
		sum.delay_ns = load(shape->states[number].delay_ns);
	}
	*ret_count = sum;
}

void engine_shape_state(struct engine *engine, uint32_t number, struct shape_state *ret_state)
{
	const struct shape_kernel *shape = shape_of(engine);

	*ret_state =
		shape->states && number < SHAPE_CLASSES_MAX ? shape->states[number] : (struct shape_state){};
}

/* -- links -- */

int engine_shape_link_set(
	struct engine *engine, uint32_t ifindex, bool out, const struct shape_link *link, struct error *error)
{
	struct shape_kernel *shape = shape_of(engine);
	__u32 key = SHAPE_LINK_KEY(ifindex, out);
	int map, r;

	if (!link && !shape->skeleton)
		return 0;
	r = shape_load(engine, shape, error);
	if (r < 0)
		return r;
	map = bpf_map__fd(shape->skeleton->maps.shape_links);
	r = link ? bpf_map_update_elem(map, &key, link, BPF_ANY) : bpf_map_delete_elem(map, &key);
	if (r < 0 && (link || errno != ENOENT))
		return error_set(error, -errno, "cannot set a link: %s", strerror(errno));
	return 0;
}

int engine_shape_link(struct engine *engine, uint32_t ifindex, bool out, struct shape_link *ret_link)
{
	const struct shape_kernel *shape = shape_of(engine);
	__u32 key = SHAPE_LINK_KEY(ifindex, out);

	if (!shape->skeleton ||
		bpf_map_lookup_elem(bpf_map__fd(shape->skeleton->maps.shape_links), &key, ret_link) < 0)
		return -ENOENT;
	return 0;
}

void engine_shape_links(struct engine *engine, engine_shape_link_function *function, void *context)
{
	const struct shape_kernel *shape = shape_of(engine);
	__u32 keys[SHAPE_LINKS_MAX], *previous = NULL;
	size_t count = 0;
	int map;

	if (!shape->skeleton)
		return;
	/* first all of them: the function may take some away */
	map = bpf_map__fd(shape->skeleton->maps.shape_links);
	while (count < SHAPE_LINKS_MAX && bpf_map_get_next_key(map, previous, &keys[count]) == 0)
		previous = &keys[count++];
	for (size_t i = 0; i < count; i++) {
		struct shape_link link;

		if (bpf_map_lookup_elem(map, &keys[i], &link) == 0)
			function(context, keys[i] >> 1, keys[i] & 1, &link);
	}
}

/* -- paths -- */

void engine_shape_stats(struct engine *engine, struct engine_shape_stats *ret_stats)
{
	const struct shape_kernel *shape = shape_of(engine);
	struct engine_shape_stats stats = {.paths_max = SHAPE_HALF - 1};

	if (shape->numbering) {
		stats.paths = load(shape->numbering->made);
		if (stats.paths > stats.paths_max)
			stats.paths = stats.paths_max;
		stats.paths_full = load(shape->numbering->full);
	}
	*ret_stats = stats;
}

/* Takes away the numbers of a half.  Nothing refers to them: since the other half is in use every flow was
 * asked about anew. */
static void half_empty(const struct shape_kernel *shape, uint32_t half)
{
	int map = bpf_map__fd(shape->skeleton->maps.shape_path_numbers);
	struct shape_path key, next;
	bool more = bpf_map_get_next_key(map, NULL, &key) == 0;
	__u32 number;

	while (more) {
		more = bpf_map_get_next_key(map, &key, &next) == 0;
		if (bpf_map_lookup_elem(map, &key, &number) == 0 && SHAPE_HALF_OF(number) == half)
			bpf_map_delete_elem(map, &key);
		key = next;
	}
}

void engine_shape_sweep(struct engine *engine)
{
	struct shape_kernel *shape = shape_of(engine);
	uint32_t other;

	if (!shape->numbering || load(shape->numbering->made) < SWEEP_AT ||
		(shape->swept_ns && clock_ns(CLOCK_MONOTONIC) - shape->swept_ns < SWEEP_NS))
		return;
	other = (shape->numbering->half & 1) ^ 1;
	half_empty(shape, other);
	/* the number of those made is the half's that is in use: who sees a 0 too early sees room that there
	 * is in neither */
	store(shape->numbering->made, SHAPE_HALF);
	store(shape->numbering->half, other);
	store(shape->numbering->made, 0);
	engine_policy_forget(engine, false);
	shape->swept_ns = clock_ns(CLOCK_MONOTONIC);
}

int engine_shape_explained(struct engine *engine, struct shape_path *ret_path)
{
	const struct shape_kernel *shape = shape_of(engine);
	static const struct shape_path none;
	__u32 zero = 0;
	int map;

	if (!shape->skeleton)
		return -ENOENT;
	map = bpf_map__fd(shape->skeleton->maps.shape_explanation);
	if (bpf_map_lookup_elem(map, &zero, ret_path) < 0 ||
		bpf_map_update_elem(map, &zero, &none, BPF_ANY) < 0)
		return -errno;
	return 0;
}
