// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * bench-class: what a packet's way through its classes costs in tc, in nanoseconds.
 *
 * Flows whose verdict is kept go through weir's entry program: without a class, with one policed class of
 * 10,000 whose path is plain (what the CPU holds of the bucket, the class's counters; shared/shape.h), with
 * the same under a number of its own ("path": another's rule led here, whose counter counts, too), and with
 * three levels (a policed class, a tenant, a policed link, which all flows share), which is plain again. What
 * a class costs is the difference.  "clock" reads the clock for each packet, which the policer saves within a
 * tick.  Two walks, which do nothing else, tell how much of that is cache lines: a counter for each class in
 * a line of its own, and the four lines that a class may cost (its path, and by that the rule's counter, the
 * bucket, the class's counters).  Figures are net of the wrapper with an empty program behind it; rounds are
 * interleaved and their order rotates; the median is printed.
 *
 * Usage: bench-class [-c CPU] [-n REPEAT] [-r ROUNDS]
 */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "basic/clock.h"
#include "compile/bucket.h"
#include "flow_bench.skel.h"
#include "rounds.h"
#include "shape.skel.h"
#include "shared/flow.h"
#include "shared/policy.h"
#include "shared/shape.h"
#include "watch.skel.h"

#define LINES      65536U /* a CPU */
#define CLASSES    10000U /* beside a tenant and a link */
#define TENANT     (CLASSES + 1)
#define LINK       (CLASSES + 2)
#define COUNTER    200U
#define TICK_SHIFT 6 /* no tick is longer than this */

static const uint8_t packet[] = {2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0,             /* Ethernet */
	0x45, 0, 0, 50, 0, 0, 0x40, 0, 64, 17, 0, 0, 11, 0, 0, 0, 10, 9, 0, 2,         /* IPv4 */
	0x13, 0x88, 0x01, 0xbb, 0, 30, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, /* UDP */
	0, 0, 0, 0, 0, 0, 0, 0};

enum subject {
	NONE,
	CLASS,
	CLASS_PATH,
	CLASS_CLOCK,
	TREE,
	SUBJECTS,
	WALK_LINE = SUBJECTS,
	WALK_LINES,
	MEASURED
};

static const char *const names[] = {
	"no class", "a class", "… path", "… clock", "3 levels", "1 line", "4 lines"};

/* A datapath of its own. */
struct datapath {
	struct watch_bpf *watch;
	struct shape_bpf *shape; /* NULL: flows without a class */
	struct flow_set4 *cache;
};

struct bench {
	struct flow_bench_bpf *programs;
	struct datapath paths[SUBJECTS];
	struct rounds rounds;
	int empty;
	uint32_t cpus;
};

static void *map_memory(const struct bpf_map *map, size_t bytes)
{
	void *where = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, bpf_map__fd(map), 0);

	if (where == MAP_FAILED)
		die(bpf_map__name(map), errno);
	return where;
}

static void aim(const struct bench *bench, int program)
{
	uint32_t zero = 0;

	if (bpf_map_update_elem(bpf_map__fd(bench->programs->maps.next), &zero, &program, BPF_ANY) < 0)
		die("program array", errno);
}

static uint32_t run(const struct bench *bench, uint32_t repeat)
{
	return program_run(bench->programs->progs.bench_wrap, packet, sizeof(packet), repeat);
}

static int program_of(const struct bench *bench, enum subject subject)
{
	if (subject == WALK_LINE)
		return bpf_program__fd(bench->programs->progs.bench_walk_line);
	if (subject == WALK_LINES)
		return bpf_program__fd(bench->programs->progs.bench_walk_lines);
	return bpf_program__fd(bench->paths[subject].watch->progs.watch_ethernet_in);
}

static void class_make(struct shape_class *class, uint32_t number, uint64_t ceiling, uint64_t burst)
{
	const struct token_rate rate = {ceiling, burst, 1000000000};

	*class = (struct shape_class){.generation = 1,
		.rule = number,
		.engine = ceiling ? SHAPE_POLICER : SHAPE_NONE,
		.weight = 1,
		.ceiling = ceiling};
	if (ceiling && token_clock_start(&rate, clock_ns(CLOCK_MONOTONIC), &class->meters[0].clock) < 0)
		die("a rate", ERANGE);
}

/* The number of the path whose lowest class is this one. */
static uint32_t path_of(enum subject subject, uint32_t class)
{
	return subject == CLASS_PATH ? SHAPE_CLASSES_MAX + class : class;
}

static void open_shape(const struct bench *bench, struct datapath *path, enum subject subject)
{
	struct shape_bpf *shape = path->shape = shape_bpf__open();
	struct shape_class *classes;
	struct shape_hint *hints;
	__u32 place = SHAPE_APPLY;
	int program, r;

	if (!shape)
		die("open", errno);
	/* with a "tick" as long as a second no burst is so much longer that the clock need not be read */
	shape->rodata->shape_tick_shift = subject == CLASS_CLOCK ? 0 : TICK_SHIFT;
	shape->rodata->shape_hold_shift = shape_hold_shift_of(bench->cpus);
	bpf_map__set_max_entries(shape->maps.shape_counts, bench->cpus * SHAPE_CLASSES_MAX);
	if (bpf_map__reuse_fd(shape->maps.shape_asks, bpf_map__fd(path->watch->maps.shape_asks)) < 0 ||
		bpf_map__reuse_fd(shape->maps.rule_counts, bpf_map__fd(path->watch->maps.rule_counts)) < 0)
		die("share maps", errno);
	r = shape_bpf__load(shape);
	if (r < 0)
		die("load the classes' programs", r);
	program = bpf_program__fd(shape->progs.shape_apply);
	if (bpf_map_update_elem(bpf_map__fd(path->watch->maps.shape_programs), &place, &program, BPF_ANY) < 0)
		die("program array", errno);
	classes = map_memory(shape->maps.shape_classes, SHAPE_CLASSES_MAX * sizeof(*classes));
	hints = map_memory(shape->maps.shape_hints, SHAPE_CLASSES_MAX * sizeof(*hints));
	for (uint32_t i = 1; i <= CLASSES; i++) {
		struct shape_path entry = {.class = {(__u16)i}, .counter = {(__u16)(COUNTER + i)}};
		__u32 number = path_of(subject, i);

		/* a rate that is not reached, and much more burst than a tick brings */
		class_make(&classes[i], i, 2000000000, 400000000);
		/* as shape_find would have it: whose own rule led here has no other counter */
		if (subject != CLASS_PATH) {
			entry.counter[0] = 0;
			entry.plain = 1;
		}
		if (subject == TREE) {
			hints[i].parent = TENANT;
			entry.class[1] = TENANT;
			entry.class[2] = LINK;
		}
		if (bpf_map_update_elem(bpf_map__fd(shape->maps.shape_paths), &number, &entry, BPF_ANY) < 0)
			die("a path", errno);
	}
	hints[TENANT].parent = LINK;
	class_make(&classes[TENANT], TENANT, 0, 0);
	class_make(&classes[LINK], LINK, 20000000000, 4000000000);
}

static void open_path(const struct bench *bench, struct datapath *path, enum subject subject)
{
	struct watch_bpf *watch = path->watch = watch_bpf__open();
	struct policy_now *now;
	int r;

	if (!watch)
		die("open", errno);
	watch->rodata->flow_sets4 = watch->rodata->flow_sets6 = LINES / FLOW_WAYS;
	watch->rodata->flow_seed[0] = 0x9e3779b97f4a7c15ULL;
	watch->rodata->flow_seed[1] = 0xc2b2ae3d27d4eb4fULL;
	watch->rodata->owner_off = 1;
	bpf_map__set_max_entries(watch->maps.flow_cache4, bench->cpus * LINES / FLOW_WAYS);
	bpf_map__set_max_entries(watch->maps.flow_stats, bench->cpus);
	bpf_map__set_max_entries(watch->maps.rule_counts, bench->cpus * POLICY_COUNTERS_MAX);
	r = watch_bpf__load(watch);
	if (r < 0)
		die("load weir's programs (as root?)", r);
	now = map_memory(watch->maps.policy_now, sizeof(*now));
	now->active = 1;
	path->cache = map_memory(
		watch->maps.flow_cache4, (size_t)bench->cpus * LINES / FLOW_WAYS * sizeof(struct flow_set4));
	if (subject != NONE)
		open_shape(bench, path, subject);
}

/* What the rules would have kept with the flows: accept, and the path of a class each. */
static void judge(const struct datapath *path, enum subject subject, uint32_t cpus)
{
	struct policy_now *now = map_memory(path->watch->maps.policy_now, sizeof(*now));

	for (size_t set = 0; set < (size_t)cpus * LINES / FLOW_WAYS; set++)
		for (int way = 0; way < FLOW_WAYS; way++) {
			struct flow_line4 *line = &path->cache[set].line[way];

			if (!line->serial)
				continue;
			line->marks.origin = FLOW_VERDICT_ACCEPT;
			line->decision.counter = POLICY_NO_COUNTER;
			line->decision.class =
				path->shape
					? (__u16)path_of(subject, 1 + __builtin_bswap32(line->src) % CLASSES)
					: 0;
			now->since = line->counts.last - 100000;
		}
	munmap(now, sizeof(*now));
}

static void measure(struct bench *bench, uint32_t flows)
{
	static double net[MEASURED][ROUNDS_MAX];
	double median[MEASURED];

	bench->programs->bss->flow_mask = flows - 1;
	for (int s = 0; s < SUBJECTS; s++) {
		aim(bench, program_of(bench, (enum subject)s));
		run(bench, flows * 2 + 100);
		judge(&bench->paths[s], (enum subject)s, bench->cpus);
		run(bench, flows * 2 + 100);
	}
	for (int round = 0; round < bench->rounds.count; round++)
		for (int i = 0; i < MEASURED; i++) {
			int s = (i + round) % MEASURED;
			uint32_t before, after, gross;

			aim(bench, bench->empty);
			before = run(bench, bench->rounds.repeat / 4);
			aim(bench, program_of(bench, (enum subject)s));
			gross = run(bench, bench->rounds.repeat);
			aim(bench, bench->empty);
			after = run(bench, bench->rounds.repeat / 4);
			net[s][round] = (double)gross - (double)(before + after) / 2;
		}
	for (int s = 0; s < MEASURED; s++)
		median[s] = rounds_median(net[s], bench->rounds.count);
	printf("%6u flows, %5u classes ", flows, flows < CLASSES ? flows : CLASSES);
	for (int s = 0; s < MEASURED; s++)
		printf("  %8.1f", median[s]);
	printf("  ");
	for (int s = 1; s < SUBJECTS; s++)
		printf("  %+8.1f", median[s] - median[NONE]);
	printf("\n");
	fflush(stdout);
}

/* All that was sent was let go and counted: or the figures are of something else. */
static void check(const struct bench *bench)
{
	for (int s = CLASS; s < SUBJECTS; s++) {
		struct shape_count *counts = map_memory(bench->paths[s].shape->maps.shape_counts,
			(size_t)bench->cpus * SHAPE_CLASSES_MAX * sizeof(*counts));
		uint64_t sent = 0, dropped = 0;

		for (size_t i = 0; i < (size_t)bench->cpus * SHAPE_CLASSES_MAX; i++) {
			sent += counts[i].sent_packets;
			dropped += counts[i].dropped_packets;
		}
		if (dropped || sent < (uint64_t)bench->rounds.count * bench->rounds.repeat) {
			fprintf(stderr, "bench-class: %s: %llu counted, %llu dropped\n", names[s],
				(unsigned long long)sent, (unsigned long long)dropped);
			exit(1);
		}
	}
}

int main(int argc, char **argv)
{
	struct bench bench = {.rounds = {.cpu = 1, .count = 11, .repeat = 1000000}};
	static const uint32_t flows[] = {1, 64, 1024, 16384};

	rounds_read(argc, argv, &bench.rounds, NULL, NULL);
	bench.cpus = (uint32_t)libbpf_num_possible_cpus();

	bench.programs = flow_bench_bpf__open_and_load();
	if (!bench.programs)
		die("load the bench's programs (as root?)", errno);
	bench.empty = bpf_program__fd(bench.programs->progs.bench_empty);
	for (int s = 0; s < SUBJECTS; s++)
		open_path(&bench, &bench.paths[s], (enum subject)s);
	printf("classes in tc: net ns per packet, median of %d interleaved rounds of %u packets; CPU %d; "
	       "%u classes\n\n%-28s",
		bench.rounds.count, bench.rounds.repeat, bench.rounds.cpu, CLASSES, "");
	for (int s = 0; s < MEASURED; s++)
		printf("  %8s", names[s]);
	printf("    more than without:\n");
	for (size_t i = 0; i < sizeof(flows) / sizeof(flows[0]); i++)
		measure(&bench, flows[i]);
	check(&bench);
	for (int s = 0; s < SUBJECTS; s++) {
		shape_bpf__destroy(bench.paths[s].shape);
		watch_bpf__destroy(bench.paths[s].watch);
	}
	flow_bench_bpf__destroy(bench.programs);
	return 0;
}
