/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Families of processes (shared/family.h): those that rules name by their id.
 *
 * Pinned: without the agent the datapath goes on noting who is born into them.  What does that is loaded with
 * the first family, and attached only while there is one.
 */
#ifndef WEIR_ENGINE_FAMILY_H
#define WEIR_ENGINE_FAMILY_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/component.h"
#include "shared/family.h"

extern const struct engine_part family_part;

/*
 * The number of the family of a process, which is made if there is none yet: with all that descend from the
 * process and live.  `start` in ticks of 10 ms since boot, as /proc/PID/stat tells.  -ESRCH: there is no such
 * process, and never was a family of it; -ENOSPC: too many families.
 */
int engine_family_get(
	struct engine *engine, uint32_t pid, uint64_t start, unsigned int *ret_family, struct error *error);

/* Ends all families but these. */
void engine_family_sweep(struct engine *engine, const struct family_set *used);

/* The families of which some process lives (as it was at most a fifth of a second ago). */
void engine_family_living(struct engine *engine, struct family_set *ret_living);

struct engine_family_stats {
	uint32_t families, families_max;
	uint32_t members, members_max; /* processes that live, of all families */
	uint64_t full;                 /* processes that found no room: they belong to none */
};
void engine_family_stats(struct engine *engine, struct engine_family_stats *ret_stats);

#endif
