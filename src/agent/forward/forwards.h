/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Forwarding (docs/api.md, GET /v1/rules?verb=forward): which sentences there are follows from the rules;
 * here they get their numbers, and interfaces their ports in the kernel (shared/forward.h).
 *
 * A change of rules goes: forwards_prepare() looks whether its sentences can be, forwards_bring() writes
 * their ports beside those in force, the switch of the rules (bit FORWARD_PLACE) takes them into force, and
 * forwards_settle() takes away what no book needs any more.  When interfaces come and go, ports are written
 * in place.
 */
#ifndef WEIR_AGENT_FORWARDS_H
#define WEIR_AGENT_FORWARDS_H

#include <stdbool.h>
#include <stdint.h>

#include "agent/module.h"
#include "agent/rule/rulebook.h"
#include "basic/error.h"
#include "basic/json_write.h"
#include "shared/forward.h"

struct agent;
struct packet_description;

/* Can these be?  0, or -EINVAL with `error`. */
int forwards_prepare(struct agent *agent, const struct rulebook *book, struct error *error);
/* Bits of policy_now.places that switch over between these books. */
uint64_t forwards_changed(const struct rulebook *now, const struct rulebook *next);
/* Writes the ports of `next` beside those of `now`, which are in force.  0 or a negative errno with `error`.
 */
int forwards_bring(
	struct agent *agent, const struct rulebook *now, const struct rulebook *next, struct error *error);
/* What is in force is that of `now`; what `before` has (NULL: nothing) is kept, too. */
void forwards_settle(struct agent *agent, const struct rulebook *now, const struct rulebook *before);
/* Interfaces, or what weir does on them, may be others. */
void forwards_interfaces_changed(struct agent *agent);

/* Packets and bytes that a sentence has sent on; of one that does not forward nothing. */
void forwards_count(
	const struct agent *agent, const struct rule_entry *entry, struct forward_count *ret_count);
/* What the list of rules tells of a sentence that forwards: members of an object that is open. */
void forwards_write_entry(const struct agent *agent, struct json_write *out, const struct rule_entry *entry);
/* The sentence that takes a packet, if XDP does not drop it: a member of an object that is open.  Is there
 * one? */
bool forwards_explain(
	const struct agent *agent, const struct packet_description *packet, struct json_write *out);
/* Elements of an array of warnings: sentences that wait, and rules that do not see what is forwarded;
 * `about`: as far as they have to do with this one.  NULL: all. */
void forwards_write_warnings(struct agent *agent, struct json_write *out, const struct rule_entry *about);

extern const struct module forward_module;

#endif
