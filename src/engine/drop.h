/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * The engine's part that counts and records drops (shared/drop.h).
 */
#ifndef WEIR_ENGINE_DROP_H
#define WEIR_ENGINE_DROP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/engine.h"
#include "shared/drop.h"

#define DROP_NAME_MAX  64  /* of a reason, with the NUL */
#define DROP_PLACE_MAX 160 /* of a place, with the NUL */

/* Counts and records from now on, or not; `rate` records a second, at most DROP_RATE_MAX.  0 or -errno. */
int engine_drop_set(struct engine *engine, bool watch, uint32_t rate);

/* What was counted of a reason at a place, by all CPUs. */
struct engine_drop_sum {
	struct drop_key key;
	uint64_t packets, bytes;
	uint64_t last_ns; /* CLOCK_MONOTONIC time of the last one, exact to a tick */
};
/* All sums, in no order; the array is the caller's to free.  0 or -errno. */
int engine_drop_sums(struct engine *engine, struct engine_drop_sum **ret_sums, size_t *ret_count);
/* All CPUs' stats in one, `other.last` as above in ns.  *ret_missed: drops that this agent's program could
 * not see, because they happened inside another one (an interrupt in the middle of it); neither counted nor
 * recorded. */
int engine_drop_stats(struct engine *engine, struct drop_stats *ret_stats, uint64_t *ret_missed);

/* Readable when there are records; engine_drop_ring_read() hands each to `function`. */
int engine_drop_ring_fd(struct engine *engine);
typedef void engine_drop_function(void *context, const struct drop_record *record);
void engine_drop_ring_read(struct engine *engine, engine_drop_function *function, void *context);

/* The reason's name as the running kernel's BTF has it, without "SKB_DROP_REASON_"; its number where BTF does
 * not know it.  Returns `buffer`, of DROP_NAME_MAX. */
char *engine_drop_reason_name(struct engine *engine, uint32_t reason, char *buffer);
/* The place as symbol and offset; "unknown" where the kernel hides its symbols.  Returns `buffer`, of
 * DROP_PLACE_MAX. */
char *engine_drop_place_name(struct engine *engine, uint64_t location, char *buffer);

#endif
