/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Steering (docs/api.md, /v1/steers): which sentences there are follows from the rules; here they are made
 * into books for the kernel (engine/steer.h), which change with the rules.
 *
 * A change of rules goes: steers_prepare() looks whether its sentences can be, steers_bring() writes their
 * book beside the one in force, the switch of the rules (bit STEER_PLACE) takes it into force, and
 * steers_settle() takes away what no book needs any more.  CPUs that go offline, and come back, make another
 * book in between.
 */
#ifndef WEIR_AGENT_STEERS_H
#define WEIR_AGENT_STEERS_H

#include <stdbool.h>

#include "agent/module.h"
#include "agent/rule/rulebook.h"
#include "basic/error.h"

struct agent;

/* Can these be?  `absent`: CPUs may come later.  0, or a negative errno with `error`, and nothing has
 * changed. */
int steers_prepare(struct agent *agent, const struct rulebook *book, bool absent, struct error *error);
/* Are the sentences of both books the same? */
bool steers_same(const struct rulebook *a, const struct rulebook *b);
bool steers_name_sets(const struct rulebook *book); /* any set at all */
bool steers_present(const struct rulebook *book);   /* any sentence at all */
/* Writes the book of `next` beside the one in force.  0 or a negative errno with `error`. */
int steers_bring(struct agent *agent, const struct rulebook *next, struct error *error);
/* The rulebook in force has its book in force; `waiting`: the one before may come back. */
void steers_settle(struct agent *agent, bool waiting);

struct packet_description;
/* Which sentence takes such a packet, and to which CPU; nothing where none does. */
void steers_explain(struct agent *agent, const struct packet_description *packet, struct json_write *out);

/* Interfaces have got XDP, or lost it. */
void steers_follow(struct agent *agent);

extern const struct module steer_module;

#endif
