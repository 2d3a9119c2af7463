/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Health checks of services' backends (weir(8), SERVICES, `check`).
 *
 * Each backend of a service with a check is asked every so often, from a moment of its own on, so that not
 * all are asked at once; never more than CHECKS_AT_ONCE are under way, others wait for their turn.  What
 * follows from the answers goes to services_backend_health().
 */
#ifndef WEIR_AGENT_CHECKS_H
#define WEIR_AGENT_CHECKS_H

#include <stdint.h>

#include "agent/module.h"
#include "agent/rule/rulebook.h"
#include "basic/address.h"
#include "basic/json_write.h"

#define CHECKS_AT_ONCE 48

struct agent;
struct check_target;

/* The services of this book are in force: their backends are checked from now on, others not any more.  What
 * is known of those that stay stays known. */
void checks_follow(struct agent *agent, const struct rulebook *book);

/* Interfaces have changed. */
void checks_reconcile(struct agent *agent);

/* What is known of a backend, `port` as the sentence has it; NULL: it is not checked. */
const struct check_target *checks_find(
	const struct agent *agent, const char *service, const struct address *address, uint16_t port);
/* Its last check, "check":{…}: a field of an object that is open. */
void check_target_write(const struct check_target *target, struct json_write *out);
/* How many it has passed and failed, since this agent is there. */
uint64_t check_target_passed(const struct check_target *target);
uint64_t check_target_failed(const struct check_target *target);

extern const struct module check_module;

#endif
