/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * A change of single sentences of the rulebook that a request asks for: made in a copy of the book, which
 * takes its place when the kernel has it.  Rules, classes and services are all changed by this.
 *
 *     _cleanup_(edit_clear) struct edit edit = {.agent = agent, .request = request};
 *
 *     edit_begin(&edit, names, &error);             the parameters, the copy
 *     edit_use(&edit, policy, place);               the sentence that is meant
 *     edit_change(&edit, "to 20mbit", &error);      … and what becomes of it
 *     edit_commit(&edit, &error);
 */
#ifndef WEIR_AGENT_EDIT_H
#define WEIR_AGENT_EDIT_H

#include <stdbool.h>
#include <stddef.h>

#include "agent/internal.h"
#include "agent/rule/rules.h"
#include "basic/error.h"

struct edit {
	struct agent *agent;
	struct evhttp_request *request;
	struct rulebook next;
	struct rule_policy *policy; /* of `next`: whose list is changed */
	size_t place;               /* in it */
	struct rule_entry *entry;   /* which is meant; its use is the edit's */
	bool was_live;
	size_t count; /* how many went, where all of a list did */
	char *text;   /* what edit_read_text() found */
	struct rules_change change;
};

void edit_clear(struct edit *edit);
/* Reads the request's parameters, which are some of `parameters`, and copies the book in force.  0, -EINVAL
 * or -ENOMEM with `error`. */
int edit_begin(struct edit *edit, const char *const *parameters, struct error *error);
/* A sentence: the request's body, which may be long, or its parameter `text`. */
int edit_read_text(struct edit *edit, const char *example, struct error *error);
/* What is at this place is meant. */
void edit_use(struct edit *edit, struct rule_policy *policy, size_t place);

/* A new rule from a sentence, meant from now on, but not in a list yet. */
int edit_make(struct edit *edit, const char *sentence, struct error *error);
/* Puts the one that is meant into a list; `place` beyond the end: the end. */
int edit_insert(struct edit *edit, struct rule_policy *policy, size_t place, bool live, struct error *error);
/* Changes rates, weights, backends of the one that is meant (rule_entry_change()). */
int edit_change(struct edit *edit, const char *text, struct error *error);
/* Takes the one that is meant from its list. */
void edit_remove(struct edit *edit);

/* 0, or a negative errno with `error`, and nothing has changed. */
int edit_commit(struct edit *edit, struct error *error);

/* An element of an array of warnings, if a file has what was taken away. */
void edit_warn_of_file(const struct edit *edit, struct json_write *out, const char *what);
/* Answers that the one that was meant is gone. */
void edit_reply_deleted(const struct edit *edit);

#endif
