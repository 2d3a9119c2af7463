// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* How long the ring of a service takes: 65,537 slots, by backends and weights.  Prints medians of 51. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "compile/maglev.h"
#include "shared/service.h"

#define ROUNDS   51
#define BACKENDS 1000

static double now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

static int compare(const void *a, const void *b)
{
	return (*(const double *)a > *(const double *)b) - (*(const double *)a < *(const double *)b);
}

static int measure(const char *name, size_t count, uint32_t (*weight)(size_t i))
{
	static uint16_t slots[SERVICE_RING_SLOTS];
	static struct maglev_backend backends[BACKENDS];
	double times[ROUNDS];

	for (size_t i = 0; i < count; i++)
		backends[i] = (struct maglev_backend){
			.address = {.family = 4, .bytes = {10, 0, (uint8_t)(i >> 8), (uint8_t)i}},
			.number = (uint16_t)(i + 1),
			.weight = weight(i),
		};
	for (int i = 0; i < ROUNDS; i++) {
		double start = now_ms();

		if (maglev_fill(backends, count, slots, SERVICE_RING_SLOTS) < 0)
			return 1;
		times[i] = now_ms() - start;
	}
	qsort(times, ROUNDS, sizeof(*times), compare);
	printf("%-36s %7.2f ms  (worst %.2f)\n", name, times[ROUNDS / 2], times[ROUNDS - 1]);
	return 0;
}

static uint32_t weight_same(size_t i)
{
	(void)i;
	return 1;
}

static uint32_t weight_rising(size_t i)
{
	return (uint32_t)i + 1;
}

static uint32_t weight_one_large(size_t i)
{
	return i ? 1 : 65535;
}

int main(void)
{
	return measure("3 backends", 3, weight_same) || measure("100 backends", 100, weight_same) ||
	       measure("1000 backends", BACKENDS, weight_same) ||
	       measure("1000 backends, weights 1 to 1000", BACKENDS, weight_rising) ||
	       measure("1000 backends, one of weight 65535", BACKENDS, weight_one_large);
}
