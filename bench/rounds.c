// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
#include "rounds.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#define REPEAT_MIN 1000

_Noreturn void die(const char *what, int r)
{
	fprintf(stderr, "%s: %s: %s\n", program_invocation_short_name, what, strerror(r < 0 ? -r : r));
	exit(1);
}

static _Noreturn void usage(const char *more)
{
	fprintf(stderr, "usage: %s [-c CPU] [-n REPEAT] [-r ROUNDS]%s%s%s\n", program_invocation_short_name,
		more ? " [" : "", more ? more : "", more ? "]" : "");
	exit(2);
}

void rounds_read(int argc, char **argv, struct rounds *rounds, const char *more, uint32_t *ret_number)
{
	const char letters[] = {'c', ':', 'n', ':', 'r', ':', more ? more[1] : '\0', ':', '\0'};
	cpu_set_t cpus;
	int option;

	while ((option = getopt(argc, argv, letters)) != -1) {
		if (option == 'c')
			rounds->cpu = atoi(optarg);
		else if (option == 'n')
			rounds->repeat = (uint32_t)strtoul(optarg, NULL, 10);
		else if (option == 'r')
			rounds->count = atoi(optarg);
		else if (more && option == more[1])
			*ret_number = (uint32_t)strtoul(optarg, NULL, 10);
		else
			usage(more);
	}
	if (rounds->count < 1 || rounds->count > ROUNDS_MAX || rounds->repeat < REPEAT_MIN) {
		fprintf(stderr, "%s: rounds 1..%d, repeat from %d\n", program_invocation_short_name,
			ROUNDS_MAX, REPEAT_MIN);
		exit(2);
	}
	CPU_ZERO(&cpus);
	CPU_SET((size_t)rounds->cpu, &cpus);
	sched_setaffinity(0, sizeof(cpus), &cpus);
	libbpf_set_strict_mode(LIBBPF_STRICT_ALL);
}

static int compare(const void *left, const void *right)
{
	double a = *(const double *)left, b = *(const double *)right;

	return (a > b) - (a < b);
}

double rounds_median(double *values, int count)
{
	qsort(values, (size_t)count, sizeof(*values), compare);
	return values[count / 2];
}

uint32_t program_run(const struct bpf_program *program, const void *packet, size_t size, uint32_t repeat)
{
	LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = packet, .data_size_in = (uint32_t)size,
		.repeat = (int)repeat);
	int r = bpf_prog_test_run_opts(bpf_program__fd(program), &options);

	if (r < 0)
		die("test run", r);
	return options.duration;
}
