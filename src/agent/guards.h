/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Rules on sockets: those of the host's list, as they are in the kernel, and the calls that they deny.
 */
#ifndef WEIR_AGENT_GUARDS_H
#define WEIR_AGENT_GUARDS_H

#include "agent/module.h"
#include "agent/rulebook.h"
#include "basic/error.h"

struct agent;
struct evbuffer;

/* Puts the rules on sockets of a list in place of those before, all at one point.  0 or a negative errno, and
 * then nothing has changed. */
int guards_install(
	struct agent *agent, const struct rule_list *list, uint32_t generation, struct error *error);

/* "call", "hits", "last_hit" of an entry, and the totals. */
void guards_write_entry(const struct agent *agent, struct json_write *out, const struct rule_entry *entry);
void guards_write_stats(const struct agent *agent, struct json_write *out);

extern const struct module guard_module;

#endif
