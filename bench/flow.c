// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * bench-flow: what accounting costs, in nanoseconds a packet, side by side in one run.
 *
 * For 1, 1,024, 65,536 and 1,048,576 flows, IPv4 and IPv6: weir's entry program with its parser, next to a
 * hash map shared by all CPUs (parser, atomics and bpf_ktime_get_ns; and the same with the coarse clock),
 * next to the parser alone.  Figures are net of the wrapper with an empty program behind it, measured next to
 * each.  Rounds are interleaved and their order rotates; the median is printed.  While weir runs, a second
 * thread reads the rings, as the agent does.
 *
 * Usage: bench-flow [-c CPU] [-n REPEAT] [-r ROUNDS] [-l LINES]
 */
#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "flow_bench.skel.h"
#include "rounds.h"
#include "shared/flow.h"
#include "watch.skel.h"

#define RING_BYTES (4U << 20)
#define ORDER      (1U << 20)

static const uint8_t packet4[] = {2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0,           /* Ethernet */
	0x45, 0, 0, 50, 0, 0, 0x40, 0, 64, 6, 0, 0, 11, 0, 0, 0, 10, 9, 0, 2,         /* IPv4 */
	0x13, 0x88, 0x01, 0xbb, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x10, 1, 0, 0, 0, 0, 0, /* TCP */
	0, 0, 0, 0, 0, 0, 0, 0, 0, 0};
static const uint8_t packet6[] = {2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x86, 0xdd,       /* Ethernet */
	0x60, 0, 0, 0, 0, 30, 6, 64, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, /* IPv6 */
	0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2,                              /* to */
	0x13, 0x88, 0x01, 0xbb, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x10, 1, 0, 0, 0, 0, 0,   /* TCP */
	0, 0, 0, 0, 0, 0, 0, 0, 0, 0};

enum subject { EMPTY, PARSE, WEIR, SHARED, SHARED_COARSE, SUBJECTS };

struct bench {
	struct flow_bench_bpf *programs;
	struct watch_bpf *watch;
	struct rounds rounds;
	uint32_t lines;
	int subjects[SUBJECTS];
	struct ring_buffer *rings;
	pthread_t reader;
	volatile bool stop;
};

static uint32_t run(const struct bench *bench, const void *packet, uint32_t size, uint32_t repeat)
{
	return program_run(bench->programs->progs.bench_wrap, packet, size, repeat);
}

static void aim(const struct bench *bench, enum subject subject)
{
	uint32_t zero = 0;

	if (bpf_map_update_elem(
		    bpf_map__fd(bench->programs->maps.next), &zero, &bench->subjects[subject], BPF_ANY) < 0)
		die("program array", errno);
}

static int ignore(void *context, void *record, size_t size)
{
	(void)context;
	(void)record;
	(void)size;
	return 0;
}

static void *read_rings(void *context)
{
	struct bench *bench = context;
	cpu_set_t cpus;

	CPU_ZERO(&cpus);
	CPU_SET(bench->rounds.cpu ? 0 : 1, &cpus);
	pthread_setaffinity_np(pthread_self(), sizeof(cpus), &cpus);
	while (!bench->stop) {
		/* sleep as the agent does: the datapath wakes us when a quarter of a ring is full */
		if (ring_buffer__poll(bench->rings, 100) < 0)
			break;
		ring_buffer__consume(bench->rings);
	}
	return NULL;
}

static struct flow_stats sum_stats(const struct bench *bench)
{
	struct flow_stats sum = {};
	int cpus = libbpf_num_possible_cpus();

	for (uint32_t cpu = 0; cpu < (uint32_t)cpus; cpu++) {
		struct flow_stats stats;

		if (bpf_map_lookup_elem(bpf_map__fd(bench->watch->maps.flow_stats), &cpu, &stats) < 0)
			die("read counters", errno);
		sum.seen += stats.seen;
		sum.cached += stats.cached;
		sum.emitted += stats.emitted;
		sum.lost += stats.lost;
	}
	return sum;
}

static void open_watch(struct bench *bench)
{
	int cpus = libbpf_num_possible_cpus(), r;
	struct watch_bpf *watch = bench->watch = watch_bpf__open();

	if (!watch)
		die("open", errno);
	watch->rodata->flow_sets4 = watch->rodata->flow_sets6 = bench->lines / FLOW_WAYS;
	watch->rodata->flow_seed[0] = 0x9e3779b97f4a7c15ULL;
	watch->rodata->flow_seed[1] = 0xc2b2ae3d27d4eb4fULL;
	watch->rodata->flow_ring_bytes = RING_BYTES;
	watch->rodata->names_on = 1;
	bpf_map__set_max_entries(watch->maps.flow_cache4, (uint32_t)cpus * bench->lines / FLOW_WAYS);
	bpf_map__set_max_entries(watch->maps.flow_cache6, (uint32_t)cpus * bench->lines / FLOW_WAYS);
	bpf_map__set_max_entries(watch->maps.flow_rest6, (uint32_t)cpus * bench->lines / FLOW_WAYS);
	bpf_map__set_max_entries(watch->maps.flow_stats, (uint32_t)cpus);
	bpf_map__set_max_entries(watch->maps.flow_rings, (uint32_t)cpus);
	r = watch_bpf__load(watch);
	if (r < 0)
		die("load weir's programs (as root?)", r);
	for (uint32_t cpu = 0; cpu < (uint32_t)cpus; cpu++) {
		int ring = bpf_map_create(BPF_MAP_TYPE_RINGBUF, "bench_ring", 0, 0, RING_BYTES, NULL);

		if (ring < 0 ||
			bpf_map_update_elem(bpf_map__fd(watch->maps.flow_rings), &cpu, &ring, BPF_ANY) < 0)
			die("ring buffer", errno);
		if (!bench->rings)
			bench->rings = ring_buffer__new(ring, ignore, NULL, NULL);
		else
			ring_buffer__add(bench->rings, ring, ignore, NULL);
	}
}

/* Flow numbers drawn from Zipf's law with exponent 1, scattered over the addresses. */
static void fill_zipf(const struct bench *bench, uint32_t flows)
{
	uint32_t *order = mmap(NULL, ORDER * sizeof(*order), PROT_READ | PROT_WRITE, MAP_SHARED,
		bpf_map__fd(bench->programs->maps.order), 0);
	double total = log((double)flows) + 0.5772156649;
	uint64_t random = 88172645463325252ULL;

	if (order == MAP_FAILED)
		die("map the order of flows", errno);
	for (uint32_t i = 0; i < ORDER; i++) {
		double share;
		uint32_t rank;

		random ^= random << 13;
		random ^= random >> 7;
		random ^= random << 17;
		share = (double)(random >> 11) / 9007199254740992.0;
		rank = (uint32_t)exp(share * total); /* the harmonic numbers grow as the logarithm */
		order[i] = (rank * 2654435761U) & (flows - 1);
	}
	munmap(order, ORDER * sizeof(*order));
}

static void measure(struct bench *bench, int family, uint32_t flows, bool zipf)
{
	const void *packet = family == 4 ? packet4 : packet6;
	uint32_t size = family == 4 ? sizeof(packet4) : sizeof(packet6);
	static double net[SUBJECTS][ROUNDS_MAX];
	double median[SUBJECTS];

	bench->programs->bss->flow_mask = flows - 1;
	bench->programs->bss->use_order = zipf;
	if (zipf)
		fill_zipf(bench, flows);
	for (int s = PARSE; s < SUBJECTS; s++) { /* every flow is known before the clock runs */
		aim(bench, (enum subject)s);
		run(bench, packet, size, flows > 1000 ? flows * 2 : 2000);
	}
	for (int round = 0; round < bench->rounds.count; round++)
		for (int i = 0; i < SUBJECTS - 1; i++) {
			enum subject s = (enum subject)(PARSE + (i + round) % (SUBJECTS - 1));
			uint32_t before, after, gross;

			aim(bench, EMPTY);
			before = run(bench, packet, size, bench->rounds.repeat / 4);
			aim(bench, s);
			gross = run(bench, packet, size, bench->rounds.repeat);
			aim(bench, EMPTY);
			after = run(bench, packet, size, bench->rounds.repeat / 4);
			net[s][round] = (double)gross - (double)(before + after) / 2;
		}
	for (int s = PARSE; s < SUBJECTS; s++)
		median[s] = rounds_median(net[s], bench->rounds.count);
	printf("IPv%d %9u flows %-8s", family, flows, zipf ? "Zipf" : "uniform");
	for (int s = PARSE; s < SUBJECTS; s++)
		printf("  %7.1f", median[s]);
	printf("  %6.2f  %6.2f\n", median[WEIR] / median[SHARED], median[WEIR] / median[SHARED_COARSE]);
	fflush(stdout);
}

int main(int argc, char **argv)
{
	struct bench bench = {.rounds = {.cpu = 1, .count = 11, .repeat = 1000000}, .lines = 131072};
	static const uint32_t flows[] = {1, 1024, 65536, 1048576};
	struct flow_stats before, after;
	int r;

	rounds_read(argc, argv, &bench.rounds, "-l LINES", &bench.lines);
	if (bench.lines < FLOW_WAYS || bench.lines & (bench.lines - 1)) {
		fprintf(stderr, "bench-flow: lines a power of two\n");
		return 2;
	}

	open_watch(&bench);
	r = pthread_create(&bench.reader, NULL, read_rings, &bench);
	if (r)
		die("thread", r);
	printf("accounting in tc: net ns per packet, median of %d interleaved rounds of %u packets; CPU %d\n"
	       "weir: cache of %u lines per CPU and family; ring of %u bytes, read by a thread on another "
	       "CPU\n\n",
		bench.rounds.count, bench.rounds.repeat, bench.rounds.cpu, bench.lines, RING_BYTES);
	printf("%-30s  %7s  %7s  %7s  %7s  %6s  %6s\n", "", "parser", "weir", "shared", "shared,", "weir /",
		"weir /");
	printf("%-30s  %7s  %7s  %7s  %7s  %6s  %6s\n", "", "alone", "", "hash", "coarse", "shared",
		"coarse");
	for (int family = 4; family <= 6; family += 2) {
		struct flow_bench_bpf *programs = bench.programs = flow_bench_bpf__open();

		if (!programs)
			die("open", errno);
		programs->rodata->address_offset = family == 4 ? 26 : 34;
		r = flow_bench_bpf__load(programs);
		if (r < 0)
			die("load the bench's programs", r);
		bench.subjects[EMPTY] = bpf_program__fd(programs->progs.bench_empty);
		bench.subjects[PARSE] = bpf_program__fd(programs->progs.bench_parse);
		bench.subjects[WEIR] = bpf_program__fd(bench.watch->progs.watch_ethernet_in);
		bench.subjects[SHARED] = bpf_program__fd(programs->progs.bench_shared);
		bench.subjects[SHARED_COARSE] = bpf_program__fd(programs->progs.bench_shared_coarse);
		for (size_t i = 0; i < sizeof(flows) / sizeof(flows[0]); i++)
			measure(&bench, family, flows[i], false);
		before = sum_stats(&bench);
		measure(&bench, family, 1048576, true);
		after = sum_stats(&bench);
		printf("     of %llu packets in 1M Zipf flows: %llu uncounted, %llu lost; seen - cached - "
		       "emitted - "
		       "lost = %lld\n",
			(unsigned long long)(after.seen - before.seen),
			(unsigned long long)(after.seen - after.cached - after.emitted - after.lost),
			(unsigned long long)(after.lost - before.lost),
			(long long)(after.seen - after.cached - after.emitted - after.lost));
		flow_bench_bpf__destroy(programs);
	}
	bench.stop = true;
	pthread_join(bench.reader, NULL);
	ring_buffer__free(bench.rings);
	watch_bpf__destroy(bench.watch);
	return 0;
}
