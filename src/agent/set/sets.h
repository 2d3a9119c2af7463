/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Sets: named lists of prefixes or ports that rules name (docs/api.md, /v1/sets).
 *
 * What is in them changes at any time, by commands, by expiry, with a whole policy.  Small changes of
 * addresses are made in the tries that the datapath reads; large ones are built beside them by a thread and
 * switched over at one point.  Sets of ports are compiled into the policies, so their change is a new policy.
 */
#ifndef WEIR_AGENT_SETS_H
#define WEIR_AGENT_SETS_H

#include <stdbool.h>
#include <stdint.h>

#include "agent/module.h"
#include "basic/error.h"
#include "compile/policy.h"
#include "model/policy.h"

struct agent;

/* What names of sets mean: fills set, port_set, combinations and their context; valid until the loop runs
 * again. */
void sets_world(struct agent *agent, struct policy_world *world);

/*
 * The sets of a whole policy.  First their contents are read and built where nobody looks; on failure nothing
 * has changed.  From then on sets_world() tells the new contents, for the policies to be compiled with.  Then
 * either all is given up, or switched (with bit SET_PLACE of `changed` if sets_prepared()) and committed.
 * With `pending` the contents of before are kept until the change is confirmed or rolled back.
 */
int sets_prepare(struct agent *agent, const struct policy_text *policy, struct error *error);
bool sets_loading(struct agent *agent);  /* is a list being loaded beside everything else? */
bool sets_prepared(struct agent *agent); /* are there changes of addresses to be switched? */
void sets_discard(struct agent *agent);
void sets_commit(struct agent *agent, bool pending);
void sets_confirm(struct agent *agent);
void sets_rollback(struct agent *agent); /* behind the datapath */

/* The combination of sets that an address is in, as the datapath finds it. */
uint32_t sets_combination(struct agent *agent, const struct address *address);

/* The sets as a policy file has them: all that have entries, or are named by rules.  To be freed with
 * policy_text_clear().  0 or -ENOMEM. */
int sets_text(struct agent *agent, struct policy_text *policy);

extern const struct module set_module;

#endif
