/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* What benches share: their options, a run of a program, and the middle of many.  What fails ends the bench.
 */
#ifndef WEIR_BENCH_ROUNDS_H
#define WEIR_BENCH_ROUNDS_H

#include <stddef.h>
#include <stdint.h>

struct bpf_program;

#define ROUNDS_MAX 101

struct rounds {
	int cpu, count;
	uint32_t repeat; /* packets a run */
};

/* Reads -c CPU, -n REPEAT and -r ROUNDS over what *rounds has, and one number more into *ret_number if `more`
 * names it ("-l LINES"), and moves to that CPU. */
void rounds_read(int argc, char **argv, struct rounds *rounds, const char *more, uint32_t *ret_number);

/* Sorts the values of so many rounds and returns the one in the middle. */
double rounds_median(double *values, int count);

/* BPF_PROG_TEST_RUN: ns a packet. */
uint32_t program_run(const struct bpf_program *program, const void *packet, size_t size, uint32_t repeat);

/* "bench-flow: what: why"; `r` is an errno, of either sign. */
_Noreturn void die(const char *what, int r);

#endif
