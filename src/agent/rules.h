/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * The rules that hold, and everything that changes them (docs/api.md, /v1/rules and /v1/policy).
 *
 * Every change goes one way: a copy of the book is changed, compiled, brought beside what is in force,
 * verified, and switched to at one point.  Where anything fails nothing has changed.
 */
#ifndef WEIR_AGENT_RULES_H
#define WEIR_AGENT_RULES_H

#include "agent/module.h"
#include "agent/rulebook.h"
#include "basic/error.h"

struct agent;

/* How a change is made. */
struct rules_change {
	bool cut;            /* connections that were there before do not go on against the rules */
	bool check;          /* only look whether it could be made */
	bool whole;          /* of a whole policy: a rollback comes back to the one before */
	uint64_t confirm_ns; /* to be confirmed within; 0: need not be */
	size_t checked;      /* set: packets on which the new policy was right */
};

/* The book that is in force. */
const struct rulebook *rules_book(const struct agent *agent);

/*
 * Puts a book in place of the one in force; takes it over, also on failure.  Its new rules get their ids, the
 * policies that are not as they were a new generation.  0; -EBUSY: a change waits for its confirmation; or
 * another negative errno.
 */
int rules_commit(
	struct agent *agent, struct rulebook *next, struct rules_change *change, struct error *error);
/* Of the change that waits.  -ENOENT: none does. */
int rules_confirm(struct agent *agent, struct error *error);
/* Back to before the change that waits, else to before the last whole policy.  -ENOENT: nothing to go back
 * to. */
int rules_rollback(struct agent *agent, struct error *error);
/* When the change that waits is given up; false: none waits. */
bool rules_pending(const struct agent *agent, uint64_t *ret_deadline_ns);

/* Compiles the policies again, as names of interfaces and sets mean something else now, and switches to them.
 * 0 or a negative errno, and then nothing has changed. */
int rules_refresh(struct agent *agent, struct error *error);
/* Does a rule in force, or one that a rollback brings back, name this set? */
bool rules_name_set(const struct agent *agent, const char *name);

/* The parameters "cut", "check" and "confirm" of a request. */
int rules_change_read(const char *query, struct rules_change *ret_change, struct error *error);

/* Puts the rules of the agent's configuration in place of those of the one before.  0 or a negative errno,
 * and then nothing has changed. */
int rules_configure(struct agent *agent, struct error *error);

struct rule_places *rules_places(struct agent *agent);
/* An entry in force by its id; NULL: it is gone. */
struct rule_entry *rules_entry(const struct agent *agent, uint32_t id);
/* {"id":n,"text":"…"} under this key. */
void rules_write_name(const struct agent *agent, struct json_write *out, const char *key, uint32_t id);

extern const struct module rules_module;

#endif
