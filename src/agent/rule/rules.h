/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * The rules that hold, and everything that changes them (docs/api.md, /v1/rules and /v1/policy).
 *
 * Every change goes one way: a copy of the book is changed, compiled, brought beside what is in force,
 * verified, and switched to at one point.  Where anything fails nothing has changed.
 */
#ifndef WEIR_AGENT_RULES_H
#define WEIR_AGENT_RULES_H

#include "agent/api/reply.h"
#include "agent/module.h"
#include "agent/rule/policies.h"
#include "agent/rule/rulebook.h"
#include "basic/error.h"

struct agent;

/* How a change is made. */
struct rules_change {
	bool cut;            /* connections that were there before do not go on against the rules */
	bool check;          /* only look whether it could be made */
	bool whole;          /* of a whole policy: a rollback comes back to the one before */
	bool all;            /* everything is verified, not only what has changed */
	bool absent;         /* interfaces that classes stand on may come later */
	uint64_t confirm_ns; /* to be confirmed within; 0: need not be */
	const struct policy_text *sets; /* the sets that come with it; NULL: they stay as they are */
	struct verify_result result;    /* set */
};

/* The book that is in force. */
const struct rulebook *rules_book(const struct agent *agent);
/* … and the one that comes back if the change that waits is not confirmed; NULL: none waits. */
const struct rulebook *rules_book_before(const struct agent *agent);

/*
 * Puts a book in place of the one in force; takes it over, also on failure.  Its new rules get their ids, the
 * policies that are not as they were a new generation.  0; -EBUSY: a change waits for its confirmation; or
 * another negative errno.
 */
int rules_commit(
	struct agent *agent, struct rulebook *next, struct rules_change *change, struct error *error);
/*
 * The same for what may take its time: the function is called once it is in place (0) or refused (a negative
 * errno), at once or, where there are many rules, or the first services, after another thread has compiled
 * and verified them, or loaded what services need; then `change` has its result.  All other changes are
 * refused with -EBUSY meanwhile.  What is refused at once is returned, and the function never called.
 */
typedef void rules_done_function(
	void *context, int r, const struct rules_change *change, const struct error *error);
int rules_commit_later(struct agent *agent, struct rulebook *next, const struct rules_change *change,
	rules_done_function *function, void *context, struct error *error);
bool rules_busy(const struct agent *agent); /* is one on its way? */
/* "applying", while one is. */
void rules_write_running(const struct agent *agent, struct json_write *out);
/* Of the change that waits.  -ENOENT: none does. */
int rules_confirm(struct agent *agent, struct error *error);
/* Back to before the change that waits, else to before the last whole policy; rules_can_roll_back(): is there
 * one?  As rules_commit_later(). */
bool rules_can_roll_back(const struct agent *agent, struct error *error);
int rules_rollback(struct agent *agent, rules_done_function *function, void *context, struct error *error);
/* May rules be changed now?  0 or -EBUSY: one waits for its confirmation, or is on its way. */
int rules_check_settled(const struct agent *agent, struct error *error);
/* When the change that waits is given up; false: none waits. */
bool rules_pending(const struct agent *agent, uint64_t *ret_deadline_ns);

/* The policy in force is in a file now: none of its rules but those that end counts as live any more. */
void rules_saved(struct agent *agent);

/* Elements of an array of warnings: rules in force whose interface is not there, and rules that never decide.
 */
void rules_write_absent(struct agent *agent, struct json_write *out);
void rules_write_shadows(struct agent *agent, struct json_write *out, const struct verify_result *result);
/* Answers a change that was refused: 404, 409 or 400, as the error's code says. */
void reply_refusal(struct evhttp_request *request, const struct error *error);

/* The rule that a parameter names by its id, in the book. */
int rules_named(const struct rulebook *book, const char *text, struct rule_policy **ret_policy,
	size_t *ret_place, struct error *error);

/* The parameters "cut", "check" and "confirm" of a request. */
int rules_change_read(const char *query, struct rules_change *ret_change, struct error *error);

/* Compiles everything anew, since names in rules may mean something else now, and switches over to that.
 * While a change waits for its confirmation, and where this fails, it is done later. */
int rules_refresh(struct agent *agent, struct error *error);
/* Switches over to the book of services that was brought beside the one in force; the rules stay. */
int rules_switch_services(struct agent *agent, struct error *error);
/* Compiles what is steered anew, and switches over to that; the rules stay. */
int rules_switch_steers(struct agent *agent, struct error *error);
/* Interfaces may have come, gone, or changed their names. */
void rules_interfaces_changed(struct agent *agent);
/* Does a rule in force, or one that a rollback brings back, name this set? */
bool rules_name_set(const struct agent *agent, const char *name);

/* Puts the rules of the agent's configuration in place of those of the one before.  0 or a negative errno,
 * and then nothing has changed. */
int rules_configure(struct agent *agent, struct error *error);

struct rule_places *rules_places(struct agent *agent);
/* An entry in force by its id; NULL: it is gone. */
struct rule_entry *rules_entry(const struct agent *agent, uint32_t id);
/* {"id":n,"text":"…"} under this key. */
void rules_write_name(const struct agent *agent, struct json_write *out, const char *key, uint32_t id);

extern const struct module rules_module;

/* rule_answers.c */
extern const struct route rule_routes[];
/* The policy that ?tenant= names; the host without.  0 or -ENOENT naming those that are there. */
int rules_policy_named(
	const struct rulebook *book, const char *query, struct rule_policy **ret_policy, struct error *error);

/* rule_list.c: GET /v1/rules, and one rule of it. */
void reply_rule_list(struct agent *agent, struct evhttp_request *request);
void rule_write_entry(struct agent *agent, struct json_write *out, const struct rule_policy *policy,
	const struct rule_slot *slot);
/* "pending", while a change waits for its confirmation. */
void rules_write_pending(const struct agent *agent, struct json_write *out);

#endif
