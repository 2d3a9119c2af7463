/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Rules on sockets, as the kernel compares them. */
#ifndef WEIR_COMPILE_GUARD_H
#define WEIR_COMPILE_GUARD_H

#include "model/rule.h"
#include "shared/guard.h"

/* What a rule asks about the process, but the start of one that is named by its id. */
struct owner_condition owner_condition_compile(const struct owner_match *owner);

/* Everything but id, generation and the start of a process named by its id. */
struct guard_rule guard_compile(const struct rule *rule);

/* Writes the lists of a policy whose rules and count are set. */
void guard_list(struct guard_policy *policy);

#endif
