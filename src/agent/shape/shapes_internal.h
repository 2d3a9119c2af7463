/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Classes from inside: what agent/shape*.c share. */
#ifndef WEIR_AGENT_SHAPES_INTERNAL_H
#define WEIR_AGENT_SHAPES_INTERNAL_H

#include "agent/internal.h"
#include "agent/shape/shape_plan.h"
#include "agent/shape/shapes.h"
#include "engine/qdisc.h"
#include "engine/shape.h"

#define SHAPE_REASON_MAX 160

/* What holds a class's rate, and why. */
struct shape_choice {
	enum shape_engine engine;
	bool paced; /* HTB: TCP of this host is paced in front of its leaf */
	char reason[SHAPE_REASON_MAX];
};

/* An interface in one direction, as classes are on it. */
struct shape_tree {
	char interface[ENGINE_NAME_MAX];
	bool out;
	uint32_t index;           /* 0: it is not there */
	uint32_t queue;           /* the interface whose qdisc it is: the same, or an ifb; 0: none yet */
	enum shape_wish wish;     /* what classes on it ask for: HTB, FQ, IFB; AUTO: nothing */
	bool asked;               /* by a sentence, not by measuring */
	bool fresh;               /* by one that is not in force yet: refused where it cannot be */
	enum shape_engine engine; /* SHAPE_HTB, SHAPE_EDT; SHAPE_NONE: no queue */
	const char *reason;
	char refusal[SHAPE_REASON_MAX]; /* why there is none though one was asked for */
};

/* A tree of HTB as it was made last. */
struct shape_queue {
	uint32_t index; /* whose root it is; 0: none */
	struct engine_htb *classes;
	size_t count;
};

/* What is known of a class by its number. */
struct shape_live {
	bool there;                     /* the kernel has it */
	uint32_t place;                 /* in the plan of the rules in force */
	const struct rule_entry *entry; /* that made it what it is; only to be compared */
	struct shape_class class;
	uint64_t burst;
	struct shape_choice choice;
	/* over the last second or so */
	uint64_t sampled_ns, sampled_bytes, achieved_bps;
	uint64_t sampled_delay_ns, sampled_delayed, sampled_dropped, sampled_sent;
	uint64_t latency_us;
	uint64_t borrowed_bytes; /* beyond the guarantee, second by second */
	/* whether pacing does: seconds in a row that it did not, and that it would again */
	unsigned int inexact, exact;
	bool queued;                     /* a queue is wanted since pacing was not exact */
	const char *why;                 /* … in words */
	uint32_t sockets;                /* that its leaf of HTB has room for */
	struct engine_qdisc_count queue; /* of its HTB class */
};

struct shapes {
	struct agent *agent;
	struct shape_plan plan; /* of the rules in force */
	struct shape_tree trees[SHAPE_TREES_MAX];
	size_t tree_count;
	struct shape_queue queues[SHAPE_TREES_MAX];
	struct shape_live *live; /* SHAPE_CLASSES_MAX; NULL: there never was a class */
	struct rulebook *book;   /* in force */
	const struct rulebook *before;
	bool forget; /* paths of flows are not what they were */
	bool swept;  /* what earlier agents left is gone */
	struct event *timer, *pace_timer;
	bool paces;                      /* some class does */
	char paceless[SHAPE_REASON_MAX]; /* why none can; empty: they can */
};

struct shapes *shapes_of(const struct agent *agent);
/* The class in force of this number; NULL: there is none. */
const struct shape_node *shape_node_numbered(const struct shapes *shapes, uint32_t number);

/* shape_engine.c: which engine.  Fills trees and the choice of each node (`choices`, one a node). */
int shape_engines_choose(struct shapes *shapes, const struct shape_plan *plan, enum shape_plan_mode mode,
	struct shape_tree *trees, size_t *ret_trees, struct shape_choice *choices, struct error *error);
/* The choice once more, since a queue could not be made. */
void shape_engines_settle(
	const struct shape_plan *plan, struct shape_tree *trees, size_t count, struct shape_choice *choices);
/* A class's engine may have to change: asked every second. */
bool shape_engines_measure(struct shapes *shapes);

/* shape_htb.c: the tree of an interface, for the caller to free.  0 or -ENOMEM. */
int shape_htb_make(const struct shape_live *live, const struct shape_plan *plan, struct shape_tree *tree,
	struct engine_htb **ret_classes, size_t *ret_count);
/* On which a class stands; NULL: on none of these. */
struct shape_tree *shape_tree_find(struct shape_tree *trees, size_t count, const struct shape_node *node);
/* The minor number of a class in it. */
static inline uint32_t shape_htb_minor(const struct shape_node *node)
{
	return node->link ? QDISC_ROOT : node->rest ? QDISC_REST : node->number;
}

/* shape_answers.c */
extern const struct route shape_routes[];
void shape_answers_sample(struct shapes *shapes, uint64_t now_ns);
void shape_answers_metrics(struct shapes *shapes, struct evbuffer *out);

#endif
