/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Whole policies: from a file, and into one (docs/api.md, /v1/policy).
 */
#ifndef WEIR_AGENT_APPLY_H
#define WEIR_AGENT_APPLY_H

#include "agent/module.h"
#include "agent/rule/rulebook.h"
#include "basic/error.h"
#include "model/policy.h"

struct agent;

/*
 * The book that a policy makes out of the one in force: sentences that stay keep their entries.  With `keep`
 * the live rules of every list stay where they are, and the others are those of files; without, all rules are
 * those of the policy.
 */
int apply_book(struct agent *agent, const struct policy_text *policy, bool keep, struct rulebook *ret_book,
	struct error *error);

/*
 * Whether the sentences of a policy go together, as far as that can be told without an agent and a kernel:
 * classes have a place, and what they are promised is there.  `text` is the file's, `name` its name, for the
 * line and column of an error.  0, or a negative errno with `error`.
 */
int apply_check(const struct policy_text *policy, const char *text, const char *name, struct error *error);

/* Where the policy is kept for the next start.  0, or a negative errno: nowhere. */
int apply_save_path(struct agent *agent, char *buffer, size_t size, struct error *error);

extern const struct module apply_module;

#endif
