/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Which interfaces have the program at XDP (engine/shield.h): those that are watched, have rules that XDP can
 * decide, and are not kept from it by the configuration (`xdp`) or by somebody else's program.  All rules are
 * judged in tc, too, so whoever has none misses nothing but speed.
 */
#ifndef WEIR_AGENT_SHIELDS_H
#define WEIR_AGENT_SHIELDS_H

#include "agent/module.h"
#include "engine/shield.h"
#include "model/rule.h"
#include "shared/policy.h"

struct agent;
struct rule_policy;

/* Brings what is attached to what is wanted; for whoever has changed the rules or the interfaces. */
void shields_reconcile(struct agent *agent);

/* Where a rule of a policy on packets is decided as early as it can be: "xdp" (on some interface at least
 * that the policy judges) or "tc". */
const char *shields_hook(struct agent *agent, const struct rule_policy *policy, const struct rule *rule);

/* Where services are balanced, on the interface of this name, or (empty) in all: "xdp", "xdp-generic" (on no
 * interface native), "tc" (on none has XDP), or "none". */
const char *shields_service_hook(const struct agent *agent, const char *interface);
/* The same by interface, and why not at XDP: "hooks". */
void shields_service_write(const struct agent *agent, struct json_write *out);
/* Are services to be balanced in tc on some interface, as far as can be said before XDP is asked for? */
bool shields_need_tc(const struct agent *agent);
/* May there be an interface with XDP, as the configuration is? */
bool shields_may(const struct agent *agent);

/* Does XDP see what comes in by this interface?  False: `reason` says why it does not. */
bool shields_reaches(const struct agent *agent, const char *interface, char reason[ERROR_TEXT_MAX]);

enum engine_shield_mode shields_mode(
	const struct agent *agent, uint32_t index); /* OFF: it does not see any */

/* Is such a packet dropped at XDP, by this rule? */
bool shields_drop(const struct agent *agent, const struct policy_facts *facts, uint32_t rule);

/* Why the program is not there though it is wanted; empty: it is, or nobody wants it. */
const char *shields_failure(const struct agent *agent, uint32_t index);

extern const struct module shield_module;

#endif
