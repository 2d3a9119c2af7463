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
 * Puts a policy in place of the one before, between two calls: each is judged by one of them.  `texts` are
 * those of policy->rules, one each.  Rules that were there before keep their counters; what belongs to those
 * that are gone goes. `next_id` is remembered for the next agent.  On failure the old policy stays whole.  0
 * or a negative errno.
 */
int engine_guard_install(struct engine *engine, const struct guard_policy *policy,
	const struct guard_text *texts, uint32_t next_id, struct error *error);

/* The policy that is in the kernel, and with it the id that the next rule will have (1 when there never was
 * one).  An empty policy where there are no rules.  Needs the privileges of the start.  0 or a negative
 * errno. */
int engine_guard_read(struct engine *engine, struct guard_policy *ret_policy, uint32_t *ret_next_id);

/* 0 or -ENOENT. */
int engine_guard_text(struct engine *engine, uint32_t id, struct guard_text *ret_text);
int engine_guard_hits(struct engine *engine, uint32_t id, struct guard_hits *ret_hits);

void engine_guard_stats(struct engine *engine, struct guard_stats *ret_stats);

/* Readable when calls were denied; -1 as long as there never was a rule. */
int engine_guard_fd(struct engine *engine);
typedef void engine_guard_function(void *context, const struct guard_denial *denial);
void engine_guard_denials(struct engine *engine, engine_guard_function *function, void *context);

#endif
