/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Socket rules in the kernel (shared/guard.h): put there as a whole, and read back by the next agent.
 */
#ifndef WEIR_ENGINE_GUARD_H
#define WEIR_ENGINE_GUARD_H

#include "engine/component.h"
#include "shared/guard.h"

extern const struct engine_part guard_part;

/*
 * Brings a policy to the place that is not in force; engine_policy_switch() with bit GUARD_PLACE in `changed`
 * switches over to it.  Rules that were there before keep their counters.  0 or a negative errno.
 */
int engine_guard_bring(struct engine *engine, const struct guard_policy *policy, struct error *error);

/* Was there ever a rule, in this agent's time or before? */
bool engine_guard_used(const struct engine *engine);

/* Takes away the counters of all rules but these: ids in ascending order. */
void engine_guard_sweep(struct engine *engine, const uint32_t *ids, size_t count);

/* 0 or -ENOENT. */
int engine_guard_hits(struct engine *engine, uint32_t id, struct guard_hits *ret_hits);

void engine_guard_stats(struct engine *engine, struct guard_stats *ret_stats);

/* Readable when calls were denied; -1 as long as there never was a rule. */
int engine_guard_fd(struct engine *engine);
typedef void engine_guard_function(void *context, const struct guard_denial *denial);
void engine_guard_denials(struct engine *engine, engine_guard_function *function, void *context);

#endif
