/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Services (docs/api.md, /v1/services): which there are follows from the rules; here they get their numbers,
 * rings and backends in the kernel, and connections stay where they are through each change.
 *
 * A change of rules goes: services_prepare() looks whether its services can be, services_bring() writes their
 * book beside the one in force, the switch of the rules (bit SERVICE_PLACE) takes it into force, and
 * services_settle() takes away what no book needs any more.  What health checks find makes another book in
 * between.
 */
#ifndef WEIR_AGENT_SERVICES_H
#define WEIR_AGENT_SERVICES_H

#include <stdbool.h>
#include <stdint.h>

#include "agent/module.h"
#include "agent/rule/rulebook.h"
#include "basic/address.h"
#include "basic/error.h"
#include "basic/json_write.h"

struct agent;
struct packet_description;

/* Can these services be?  `absent`: routes to their backends may come later.  0, or a negative errno with
 * `error` (and *ret_about, if that is not NULL: the service that has such a backend), and nothing has
 * changed. */
int services_prepare(struct agent *agent, const struct rulebook *book, bool absent,
	const struct rule_entry **ret_about, struct error *error);
/* Are the services of both books the same? */
bool services_same(const struct rulebook *a, const struct rulebook *b);
/* What the services of a book need in the kernel and is not there yet, to be loaded by another thread between
 * services_prepare() and services_bring() (engine/balance.h); NULL: nothing, or it is loaded when it is
 * needed. */
struct engine_balance_load *services_load(struct agent *agent, const struct rulebook *book);
/* Writes the services of `next` beside those of `now`, which are in force.  0 or a negative errno with
 * `error`. */
int services_bring(
	struct agent *agent, const struct rulebook *now, const struct rulebook *next, struct error *error);
/* The services are those of `now`; what `before` has (NULL: nothing) is kept, too. */
void services_settle(struct agent *agent, const struct rulebook *now, const struct rulebook *before);

/* What a check of a backend has found: a backend that is not up gets no connections, and those it has choose
 * anew.  `port` in host byte order, 0: the service's, as the sentence has it.  `reason` is shown. */
void services_backend_health(struct agent *agent, const char *service, const struct address *address,
	uint16_t port, bool up, const char *reason);

/* How a packet would be balanced: members of an object that is open.  The hook at which its service takes it,
 * and whether it gets to a backend; NULL: none does, whatever was written. */
const char *services_explain(struct agent *agent, const struct packet_description *packet,
	struct json_write *out, bool *ret_delivered);

/* Elements of an array: which rules do not see what services take.  `about`: only where it is that rule or
 * that service; NULL: all. */
void services_write_warnings(struct agent *agent, struct json_write *out, const struct rule_entry *about);

/* The number of a backend in the kernel; 0: it has none. */
uint32_t services_backend_number(
	const struct agent *agent, const char *service, const struct address *address, uint16_t port);

/* Is it down, as the last check has said, maybe one of an earlier agent? */
bool services_backend_down(
	const struct agent *agent, const char *service, const struct address *address, uint16_t port);

/* Is there a service of this name?  0 or -ENOENT with `error`. */
int services_expect(const struct agent *agent, const char *name, struct error *error);

extern const struct module service_module;

#endif
