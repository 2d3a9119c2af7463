/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* The kernel's clocks, in one number. */
#ifndef WEIR_BASIC_CLOCK_H
#define WEIR_BASIC_CLOCK_H

#include <stdint.h>
#include <time.h>

/* Nanoseconds of CLOCK_MONOTONIC, CLOCK_REALTIME, …; good for 584 years. */
static inline uint64_t clock_ns(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

#endif
