/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Rules on sockets: those of the host's list, as they are in the kernel, and the calls that they deny.
 */
#ifndef WEIR_AGENT_GUARDS_H
#define WEIR_AGENT_GUARDS_H

#include "agent/module.h"
#include "agent/rule/rulebook.h"
#include "basic/error.h"
#include "shared/guard.h"

struct agent;
struct evbuffer;

/* Brings the rules on sockets of a list to their place beside those in force (engine/guard.h). */
int guards_bring(struct agent *agent, const struct rule_list *list, uint32_t generation, struct error *error);
/* Those in force were left by an earlier agent. */
int guards_adopt(struct agent *agent, struct error *error);

/* "call", "hits", "rate_hits", "last_hit" of an entry, and the totals. */
void guards_write_entry(const struct agent *agent, struct json_write *out, struct rule_entry *entry);
void guards_write_stats(const struct agent *agent, struct json_write *out);

/* "create", "bind", "connect" or "send". */
const char *guard_call_name(enum guard_call call);

extern const struct module guard_module;

#endif
