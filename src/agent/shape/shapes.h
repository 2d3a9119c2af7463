/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Classes of traffic (docs/api.md, /v1/shapes): which there are follows from the rules (shape_plan.h), which
 * engine holds each is chosen here, and what the kernel has of them is kept in step.
 *
 * A change of rules goes: shapes_prepare() looks whether its classes can be, shapes_bring() makes them before
 * the rules that name them are in force, shapes_settle() takes away what no rule in force makes any more.
 */
#ifndef WEIR_AGENT_SHAPES_H
#define WEIR_AGENT_SHAPES_H

#include <stdbool.h>
#include <stdint.h>

#include "agent/api/reply.h"
#include "agent/module.h"
#include "agent/rule/rulebook.h"
#include "agent/shape/shape_plan.h"

struct agent;

/* Can these classes be?  Gives them their numbers.  0, or a negative errno with `error`, and nothing has
 * changed. */
int shapes_prepare(
	struct agent *agent, struct rulebook *book, enum shape_plan_mode mode, struct error *error);
/* Makes the classes of the book beside those in force.  0 or a negative errno with `error`. */
int shapes_bring(struct agent *agent, struct rulebook *book, struct error *error);
/* The classes are those of the rules in force; `before`: and those of before are not taken away (NULL: none
 * are kept). */
void shapes_settle(struct agent *agent, struct rulebook *now, const struct rulebook *before);
/* A rule in force has other rates. */
void shapes_interfaces_changed(struct agent *agent);

/* A class in force. */
struct shape_class_info {
	uint32_t id; /* of the sentence */
	const char *name, *text;
	const char *engine, *reason;
	uint64_t rate_bps;
};
/* false: there is none of this number. */
bool shapes_class(const struct agent *agent, uint16_t number, struct shape_class_info *ret_info);

extern const struct module shape_module;

#endif
