// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * bench-classify: what it costs to find the rule that a packet fits, in nanoseconds, for the first 10, 100,
 * 1,000 and 10,000 filters of ClassBench's sets, for IPv4 and (the same addresses behind 2001:db8::/32) IPv6.
 *
 * Each run judges 16,384 packets, one after the other, that fit random rules of the set with random values;
 * one of five has random addresses.  Figures are net of a program that fetches the same packets and judges
 * none, measured next to each; the median of the rounds is printed.
 *
 * Usage: bench-classify [-r ROUNDS] [-d DIRECTORY OF THE SETS]
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "lib/policy.h"
#include "policy_test.skel.h"
#include "rounds.h"

#define HEADERS 16384U

static const size_t counts[] = {10, 100, 1000, 10000};
static const char *const sets[] = {"acl1", "fw1", "ipc1"};

struct header {
	struct policy_facts facts;
	uint32_t unit, fits, fickle, broken;
};

struct bench {
	struct policy_test_bpf *programs;
	struct header *headers;
	unsigned int rounds;
	const char *directory;
};

static void stop(const char *what)
{
	fprintf(stderr, "bench-classify: %s\n", what);
	exit(1);
}

static void bring(const struct bench *bench, const struct policy_image *image)
{
	LIBBPF_OPTS(bpf_map_create_opts, options, .map_flags = BPF_F_INNER_MAP | BPF_F_MMAPABLE);
	size_t bytes = image->count * sizeof(struct policy_unit);
	int map = bpf_map_create(BPF_MAP_TYPE_ARRAY, "policy", sizeof(uint32_t), sizeof(struct policy_unit),
		(uint32_t)image->count, &options);
	uint32_t zero = 0;
	void *memory;

	if (map < 0)
		stop("cannot make a map");
	memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, map, 0);
	if (memory == MAP_FAILED)
		stop("cannot map a map");
	memcpy(memory, image->units, bytes);
	munmap(memory, bytes);
	if (bpf_map_update_elem(bpf_map__fd(bench->programs->maps.policies), &zero, &map, 0))
		stop("cannot put a policy into its place");
	close(map);
}

static double run(const struct bench *bench, const struct bpf_program *program)
{
	char packet[64] = {0};
	LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = packet, .data_size_in = sizeof(packet),
		.repeat = (int)(HEADERS * 4));

	bench->programs->bss->turn = 0;
	if (bpf_prog_test_run_opts(bpf_program__fd(program), &options) || options.retval)
		stop("cannot run a program");
	return options.duration;
}

static double measure(
	const struct bench *bench, const struct policy_rules *rules, double *ret_compile_ms, double *ret_mib)
{
	double nets[ROUNDS_MAX];
	struct policy_headers headers;
	struct policy_image image;
	struct error error = {0};
	struct timespec start, end;
	uint64_t state = 4711;

	clock_gettime(CLOCK_MONOTONIC, &start);
	if (policy_compile(&rules->order, &image, &error))
		stop(error.what);
	clock_gettime(CLOCK_MONOTONIC, &end);
	*ret_compile_ms =
		(double)(end.tv_sec - start.tv_sec) * 1e3 + (double)(end.tv_nsec - start.tv_nsec) / 1e6;
	*ret_mib = (double)image.count * sizeof(*image.units) / 1048576;
	bring(bench, &image);
	policy_headers_fit(&headers, rules, HEADERS, &state);
	for (size_t i = 0; i < HEADERS; i++)
		bench->headers[i] = (struct header){.facts = headers.facts[i]};
	run(bench, bench->programs->progs.judge);
	for (unsigned int i = 0; i < bench->rounds; i++) {
		double nothing = run(bench, bench->programs->progs.judge_nothing);

		nets[i] = run(bench, bench->programs->progs.judge) - nothing;
	}
	policy_headers_clear(&headers);
	policy_image_clear(&image);
	return rounds_median(nets, (int)bench->rounds);
}

static void bench_set(const struct bench *bench, const char *set, unsigned int flags)
{
	double ten = 0;

	for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
		struct policy_rules rules = {0};
		double ns, compile_ms, mib;
		char path[512];

		snprintf(path, sizeof(path), "%s/%s_%s", bench->directory, set,
			counts[i] > 1000 ? "10k" : "1k");
		if (policy_rules_classbench(&rules, path, counts[i], flags)) {
			fprintf(stderr, "bench-classify: there is no %s\n", path);
			exit(3);
		}
		ns = measure(bench, &rules, &compile_ms, &mib);
		if (!i)
			ten = ns;
		printf("%-5s IPv%d %6zu rules %7.0f ns %6.2f x ten %8.1f ms to compile %7.1f MiB\n", set,
			flags & CLASSBENCH_IPV6 ? 6 : 4, rules.count, ns, ns / ten, compile_ms, mib);
		fflush(stdout);
		policy_rules_clear(&rules);
	}
}

int main(int count, char **words)
{
	struct bench bench = {.rounds = 15, .directory = SOURCE_ROOT "/../shared/data/classbench"};
	int option;

	while ((option = getopt(count, words, "r:d:")) > 0)
		if (option == 'r' && atoi(optarg) > 0 && atoi(optarg) <= ROUNDS_MAX)
			bench.rounds = (unsigned int)atoi(optarg);
		else if (option == 'd')
			bench.directory = optarg;
		else
			stop("usage: bench-classify [-r ROUNDS (1..101)] [-d DIRECTORY]");
	libbpf_set_print(NULL);
	bench.programs = policy_test_bpf__open();
	if (!bench.programs)
		stop("cannot open the programs");
	bench.programs->rodata->header_mask = HEADERS - 1;
	bpf_map__set_max_entries(bench.programs->maps.headers, HEADERS);
	if (policy_test_bpf__load(bench.programs))
		stop("the kernel does not load the programs (root?)");
	bench.headers = mmap(NULL, HEADERS * sizeof(*bench.headers), PROT_READ | PROT_WRITE, MAP_SHARED,
		bpf_map__fd(bench.programs->maps.headers), 0);
	if (bench.headers == MAP_FAILED)
		stop("cannot map a map");
	for (size_t i = 0; i < sizeof(sets) / sizeof(sets[0]); i++) {
		bench_set(&bench, sets[i], 0);
		bench_set(&bench, sets[i], CLASSBENCH_IPV6);
	}
	policy_test_bpf__destroy(bench.programs);
	return 0;
}
