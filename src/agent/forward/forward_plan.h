/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* What becomes of sentences that forward, with the interfaces that are there: for forwards.c. */
#ifndef WEIR_AGENT_FORWARD_PLAN_H
#define WEIR_AGENT_FORWARD_PLAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/internal.h"
#include "agent/rule/rulebook.h"
#include "engine/forward.h"

#define FORWARD_REASON_MAX 192

/* Interfaces at one moment.  Whether one takes frames from XDP is asked for when it matters. */
struct forward_look {
	struct agent *agent;
	bool ready; /* it is known which interfaces are weir's */
	struct engine_interface *interfaces;
	size_t count;
	int8_t *takes; /* of each: 1, -1: not; 0: not asked yet */
};

struct forward_state {
	bool known, active;
	bool generic;                    /* XDP is generic where its packets come in */
	char reason[FORWARD_REASON_MAX]; /* why it waits, or does less than it says; empty: nothing is missing
	                                  */
};

/* A sentence, and what becomes of it. */
struct forward_sentence {
	const struct rule_entry *entry;
	uint16_t number;
	struct forward_state state;
	uint32_t members[FORWARD_INTERFACES_MAX]; /* SWITCH: interfaces */
	size_t member_count;
};

struct forward_plan {
	struct engine_forward_port *ports; /* to be freed */
	size_t count;
};

/* 0 or a negative errno; forward_look_close() undoes. */
int forward_look_open(struct agent *agent, bool ready, struct forward_look *ret_look);
void forward_look_close(struct forward_look *look);
bool forward_look_takes(struct forward_look *look, size_t interface);

/* Does the sentence have to do with an interface of this name? */
bool forward_plan_names(const struct forward_text *forward, const char *name);
/* Fills in what becomes of the sentence, and adds its ports.  0 or -ENOMEM with `error`. */
int forward_plan_add(struct forward_plan *plan, struct forward_look *look, struct forward_sentence *sentence,
	struct error *error);

#endif
