/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * From rules on packets to a policy (shared/policy.h), and a plain second opinion about it.
 *
 * Pure functions on memory: no kernel, no files.
 */
#ifndef WEIR_COMPILE_POLICY_H
#define WEIR_COMPILE_POLICY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "basic/error.h"
#include "model/rule.h"
#include "shared/owner.h"
#include "shared/policy.h"

/* A rule on packets and what the agent keeps for it. */
struct policy_source {
	const struct rule *rule;
	uint32_t id, generation;
	uint32_t counter;
	uint32_t limit;     /* of a limit: its place in rule_limits */
	uint16_t class;     /* of a rule that shapes (rule_is_shape()): its class; 0: none, it does nothing */
	uint64_t pid_start; /* by pid: its start in ticks of 10 ms; 0: any */
	uint32_t family;    /* by pid: its family + 1 (shared/family.h); 0: it alone */
};

/* What names in rules mean at the moment. */
struct policy_world {
	void *context;
	/* Index of an interface; 0: there is none of this name (the rule fits nothing, until one comes). */
	uint32_t (*interface)(void *context, const char *name);
	/* Number of a set of addresses, 0..SET_MAX-1, or -1. */
	int (*set)(void *context, const char *name);
	/* Ports of a set: ranges in ascending order; NULL: there is none. */
	const struct port_range *(*port_set)(void *context, const char *name, size_t *ret_count);
	/* What a set is called that may have been meant; NULL: none (or nobody can say). */
	const char *(*set_near)(void *context, const char *name);
	/* Combinations of sets, as masks; [0] is 0. */
	const uint64_t *combinations;
	size_t combination_count;
};

struct policy_order {
	const struct policy_source *sources;
	size_t count;
	struct policy_default defaults[2]; /* in, out */
	uint32_t generation;
	const struct policy_world *world;
	/* For XDP: rules for packets that come in, as far as XDP can decide them: `drop` and `limit` without
	 * state, owner, expression, mark, log.  Others become DEFER; what stands behind the last that XDP
	 * decides is left out. */
	bool xdp;
	/* What its names mean, found out before (policy_views_open()); NULL: whoever has to know finds out.
	 */
	const struct policy_rule_views *views;
};

/* For an order that several functions are asked about.  As policy_compile(); the order stays as it is. */
int policy_views_open(
	const struct policy_order *order, struct policy_rule_views **ret_views, struct error *error);
void policy_views_close(struct policy_rule_views *views);

/* A policy in memory, to be copied into a map. */
struct policy_image {
	struct policy_unit *units;
	size_t count;                                    /* of units */
	const char *expressions[POLICY_EXPRESSIONS_MAX]; /* in the order of their bits; texts of the rules */
	size_t expression_count;
	bool lent; /* the units are in the caller's memory (policy_compile_in()) */
};

/* 0; -E2BIG: more rules, classes or memory than a policy may have, said in `error`; -ENOENT: a set that is
 * not there; -ENOMEM. */
int policy_compile(const struct policy_order *order, struct policy_image *ret_image, struct error *error);
/* The same in units[0..count), whatever stands there: without taking memory, and without copying it to where
 * it is read.  -ENOSPC, and nothing said: they do not suffice.  What stands there then is nothing. */
int policy_compile_in(const struct policy_order *order, struct policy_unit *units, size_t count,
	struct policy_image *ret_image, struct error *error);
void policy_image_clear(struct policy_image *image); /* of what was lent nothing is freed */

/* Would XDP decide this rule if nothing before it overlapped? */
bool policy_xdp_decides(const struct rule *rule);

/*
 * The plain second opinion: rules held against facts one after the other by what they say, without classes,
 * rows or tries.  (What many rules have in common, addresses and ports, is held against them first, for the
 * time that it takes.)
 */
struct policy_judge;
/* As policy_compile().  The order stays the caller's and has to stay as it is. */
int policy_judge_open(const struct policy_order *order, struct policy_judge **ret_judge, struct error *error);
void policy_judge_close(struct policy_judge *judge);
/* The place in the order of the first rule from `start` on that fits; order->count: none.  For XDP: of those
 * that the policy for XDP has. */
size_t policy_judge(const struct policy_judge *judge, const struct policy_facts *facts, size_t start);

/*
 * Facts at every edge that the rules have: for each rule, packets that just fit and that just do not, in each
 * field.  `changed` (may be NULL: all): only edges of these rules.  The function returns non-zero to end it.
 */
typedef int policy_edge_function(void *context, const struct policy_facts *facts);
int policy_edges(
	const struct policy_judge *judge, const bool *changed, policy_edge_function *function, void *context);

/* Calls the function for each rule that can never decide, since an earlier one that decides covers it. */
typedef void policy_shadow_function(void *context, size_t hidden, size_t hiding);
void policy_shadows(const struct policy_judge *judge, policy_shadow_function *function, void *context);

#endif
