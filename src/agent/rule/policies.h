/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Rules on packets: from a list to the policy in the kernel that is to take its place, verified there.
 */
#ifndef WEIR_AGENT_POLICIES_H
#define WEIR_AGENT_POLICIES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/rule/rulebook.h"
#include "agent/rule/verify.h"
#include "basic/error.h"
#include "basic/json_write.h"
#include "engine/policy.h"

struct agent;
struct evbuffer;

/* Which rules are verified. */
enum policies_verify {
	POLICIES_NEW,   /* that are new, or behind another one than before */
	POLICIES_NAMES, /* that name what may mean something else now: sets, interfaces */
	POLICIES_ALL,
};

/* What names in rules mean at the moment, for whoever compiles some.  0 or a negative errno;
 * policies_names_close() undoes.  Where it stands it has to stay. */
struct policies_names {
	struct engine_interface *interfaces;
	size_t count;
	struct policy_world sets;
	struct policy_world world; /* of all of it */
};
int policies_names_open(struct agent *agent, struct policies_names *ret_names);
void policies_names_close(struct policies_names *names);

/* Is there anything to judge packets by? */
bool policies_present(const struct rule_policy *policy);
/* Are both the same for packets? */
bool policies_same(const struct rule_policy *a, const struct rule_policy *b);
bool policies_name_sets(const struct rule_policy *policy); /* any set at all */
/* Does the rule name this set? */
bool policies_name_set(const struct rule_entry *entry, const char *name);
/* Which interfaces the names in the rules mean at the moment: another number when others. */
uint64_t policies_interfaces(struct agent *agent, const struct rulebook *book);
/* Can rules of this book end a connection, or ask about one? */
bool policies_tracking(const struct rulebook *book);

/*
 * Compiles a policy, which comes after `before` (NULL: none), and brings it to its place that is not in
 * force, for tc and XDP, and has the kernel judge packets at the edges of its rules there; adds to the
 * result.  Rules that never decide are looked for with POLICIES_ALL.  -EUCLEAN: it does not judge a packet as
 * a plain matcher does; the error names the rule.  What is in force has not changed then.
 */
int policies_bring(struct agent *agent, const struct rule_policy *policy, const struct rule_policy *before,
	enum policies_verify verify, struct verify_result *result, struct error *error);

/*
 * The same in three steps, of which the long one in the middle may be another thread's, as long as no other
 * change of rules or sets is made.  `result` and what both policies hold stay where they are until the end.
 */
struct policies_work;
int policies_work_new(struct agent *agent, const struct rule_policy *policy, const struct rule_policy *before,
	enum policies_verify verify, struct verify_result *result, struct policies_work **ret_work,
	struct error *error);
int policies_work_run(struct policies_work *work, struct error *error);
int policies_work_end(struct policies_work *work, struct error *error);
void policies_work_free(struct policies_work *work); /* NULL is allowed */

/* Counters of default verdicts begin anew where the verdict is another one.  To be called behind the switch.
 */
void policies_begin_defaults(
	struct agent *agent, const struct rule_policy *policy, const struct rule_policy *before);

/* Gives interfaces and cgroups to the book's tenants.  `waiting`: those of before are kept, too. */
int policies_assign(struct agent *agent, const struct rulebook *book, bool waiting, struct error *error);

/* Words for what the datapath writes as numbers; of a state NULL: it says nothing. */
const char *policies_action(unsigned int action);
const char *policies_hook(unsigned int hook);
const char *policies_state(unsigned int state);

/* "packets", "bytes", "rate_pps", "rate_bps", "last_hit" of an entry. */
void policies_write_entry(const struct agent *agent, struct json_write *out, struct rule_entry *entry);
/* The object "default". */
void policies_write_defaults(const struct agent *agent, struct json_write *out, struct rule_policy *policy);
/* What a meter says now that the count is this one: moved at most twice a second, and forgotten after ten. */
void policies_meter(struct rule_meter *meter, const struct engine_policy_count *count);

/* Lines of the metrics page: packets and bytes of each rule of the host's list, the first so many by number,
 * the others in one sum; and what the datapath says of all. */
void policies_write_metrics(const struct agent *agent, struct evbuffer *out);
/* Fields of an object: what the datapath says of all rules. */
void policies_write_stats(const struct agent *agent, struct json_write *out);

#endif
