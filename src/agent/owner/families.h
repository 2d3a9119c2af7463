/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Families: the processes that rules name by their id, with all that they start (shared/family.h). */
#ifndef WEIR_AGENT_FAMILIES_H
#define WEIR_AGENT_FAMILIES_H

#include <stdbool.h>
#include <stddef.h>

#include "agent/module.h"
#include "agent/rule/rulebook.h"

/* A rule `by pid` gets its family; others have none.  0, or -ESRCH, -ENOSPC with `error`. */
int families_join(struct agent *agent, struct rule_entry *entry, struct error *error);
/* For all rules of a book that comes from an earlier agent.  A process that is gone has no descendants that
 * could be found: then the rule is about nobody. */
void families_adopt(struct agent *agent, const struct rulebook *book);
/* Ends the families that no rule of these books names. */
void families_sweep(struct agent *agent, const struct rulebook *const *books, size_t count);
/* Is nobody left whom the rule is about: the process has ended, and all that it started? */
bool families_ended(struct agent *agent, const struct rule_entry *entry);

extern const struct module family_module;

#endif
