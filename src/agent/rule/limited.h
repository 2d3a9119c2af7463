/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Whom limits `per source` and `per destination` tell apart, and how many of them made room for others.
 *
 * The kernel does not tell what its LRU pushes out.  So the datapath counts the buckets it makes, and here
 * those that are there are counted, some thousand at a time: the difference was pushed out.  While packets
 * come it is a little behind; it is exact as soon as no new source comes for some seconds.
 */
#ifndef WEIR_AGENT_LIMITED_H
#define WEIR_AGENT_LIMITED_H

#include "agent/module.h"
#include "agent/rule/rulebook.h"

struct agent;
struct json_write;

/* "limited", "pushed_out" of a rule that limits so; nothing of others. */
void limits_write_entry(const struct agent *agent, struct json_write *out, const struct rule_entry *entry);
/* Fields of an object: of all rules. */
void limits_write_stats(const struct agent *agent, struct json_write *out);

extern const struct module limit_module;

#endif
