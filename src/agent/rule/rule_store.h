/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * What the next agent has to know of the rules: the books, in memory that outlives this one.
 *
 * There are two copies; a new one is written over the older, then becomes the newer by one word.  So a kill
 * at any moment leaves a whole one.  The state beside it says in the middle of what the agent was: what is in
 * force then, the datapath tells.
 */
#ifndef WEIR_AGENT_RULE_STORE_H
#define WEIR_AGENT_RULE_STORE_H

#include <stdbool.h>
#include <stdint.h>

#include "agent/rule/rulebook.h"
#include "engine/engine.h"

enum rule_state {
	RULES_SETTLED,   /* `now` is in force */
	RULES_SWITCHING, /* from `before` to `now` */
	RULES_PENDING,   /* `now`, until the deadline; then `before` */
	RULES_CONFIRMING,
	RULES_RETURNING, /* from `now` to `before` */
};

/* All that is kept. */
struct rule_record {
	enum rule_state state;
	uint32_t next_id;
	struct rulebook now;
	struct rulebook before; /* count 0: none; while not settled, what holds if `now` does not */
	struct rulebook back;   /* where a rollback goes to; count 0: nowhere */
	uint64_t deadline_ns;   /* CLOCK_MONOTONIC; of RULES_PENDING */
	bool whole;             /* the change that waits is one of a whole policy */
	uint64_t changed;       /* policies that a change under way switches over */
	uint64_t places_before; /* of policy_now, when `before` was in force */
};

/* `now` is in force for good: what was before is where a rollback goes to, or is forgotten. */
void rule_record_settle(struct rule_record *record);

struct rule_store {
	struct engine *engine;
	struct engine_region copies[2];
	unsigned int newer;
	uint64_t serial;
	uint64_t writings; /* that were begun */
};

int rule_store_open(struct engine *engine, struct rule_store *ret_store, struct error *error);
void rule_store_close(struct rule_store *store);

/* 0; -E2BIG with `error`: more than is kept; or another negative errno.  What was kept before stays then. */
int rule_store_write(struct rule_store *store, const struct rule_record *record, struct error *error);
/* Only the state has changed; RULES_SETTLED: as rule_record_settle() has changed the record, too. */
void rule_store_state(struct rule_store *store, enum rule_state state);

/* What an earlier agent kept.  A rule that cannot be read any more (its user is unknown now) is left out and
 * logged.  *ret_found is false where nothing was kept. */
int rule_store_read(struct rule_store *store, struct rule_places *places, struct rule_record *ret_record,
	bool *ret_found, struct error *error);

#endif
