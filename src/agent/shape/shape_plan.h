/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * From rules to classes: which there are, below which they stand, and whether that can be.
 *
 * The plan of a book: a class for each sentence that makes one (model/shape.h), and for each link one more,
 * of what belongs to no other.  Nothing here asks the kernel or tells it anything.
 */
#ifndef WEIR_AGENT_SHAPE_PLAN_H
#define WEIR_AGENT_SHAPE_PLAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/rule/rulebook.h"
#include "basic/error.h"
#include "model/shape.h"
#include "shared/shape.h"

/* What is not accepted. */
enum shape_plan_mode {
	SHAPE_PLAN_STRICT, /* every mistake */
	SHAPE_PLAN_ABSENT, /* interfaces may come later */
	SHAPE_PLAN_KEEP,   /* what is in force stays: classes stand alone where there is no other place */
};

struct shape_node {
	struct rule_entry *entry; /* which makes it; as long as the book has it */
	uint16_t number;          /* of the class */
	uint32_t parent;          /* place in the plan; SHAPE_PLAN_NONE */
	uint32_t depth;           /* 0: no parent */
	uint32_t children;
	bool link; /* it is the root of an interface */
	bool rest; /* of a link: what no other class has; `entry` is the link's */
	bool out, in;
	bool anywhere;                       /* counts on other interfaces, too */
	char interface[MATCH_INTERFACE_MAX]; /* empty: all */
	uint64_t promised_bps;               /* to those below it */
};

#define SHAPE_PLAN_NONE UINT32_MAX
#define SHAPE_TREES_MAX 64 /* interfaces and directions with a queue */

struct shape_plan {
	struct shape_node *nodes; /* parents before their children */
	size_t count, room;
	char lonely[256]; /* a warning: classes that have nothing to share; empty: none */
};

/* Which index has the interface?  0: there is none. */
typedef uint32_t shape_plan_interface(void *context, const char *name);

/*
 * Makes the plan of a book, gives its classes their numbers, and tells each rule that shapes which it gives
 * packets (rule_slot.class).  `interface` is only asked with SHAPE_PLAN_STRICT.  0, or a negative errno with
 * `error`, and in *ret_about, if it is not NULL, the sentence that it is about.
 */
int shape_plan_make(struct rulebook *book, enum shape_plan_mode mode, shape_plan_interface *interface,
	void *context, struct shape_plan *ret_plan, const struct rule_entry **ret_about, struct error *error);
void shape_plan_clear(struct shape_plan *plan);
/* The name of a class as a person knows it: of a declared one; of a link its interface; else the sentence. */
const char *shape_node_name(const struct shape_node *node);
/* What it has by right, bits a second: its guarantee, and no less than those below it. */
uint64_t shape_node_promise(const struct shape_node *node);
const struct shape_terms *shape_node_terms(const struct shape_node *node);

#endif
