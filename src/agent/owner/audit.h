/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * The audit trail: who connected where, who listened, who was denied, and which policy changed by whom.
 *
 * It is bounded (`audit.entries`), the oldest go first, and it outlives the agent.  Changes have room of
 * their own, so that no number of connections pushes them out.
 */
#ifndef WEIR_AGENT_AUDIT_H
#define WEIR_AGENT_AUDIT_H

#include <stdbool.h>
#include <stdint.h>

#include "agent/module.h"
#include "shared/guard.h"
#include "shared/socket.h"

struct agent;
struct evhttp_request;

/* Notes that the policy changed, after it did: "deny connect by user guest to 10.0.0.0/8 (rule 4)".  The
 * client at the other end of `request` did it; NULL: the agent itself, by a signal.  Cut at 230 bytes. */
__attribute__((format(printf, 3, 4))) void audit_change(
	struct agent *agent, struct evhttp_request *request, const char *format, ...);

/* The same, of a change that takes its time: who asked for it is looked at while they are there. */
struct audit_who {
	uint32_t pid, uid; /* pid 0: the agent itself */
	char command[16];
};
struct audit_who audit_who(struct evhttp_request *request);
__attribute__((format(printf, 3, 4))) void audit_change_by(
	struct agent *agent, const struct audit_who *who, const char *format, ...);

/* Notes that a socket rule refused a call.  Of `what`: the time, addresses, ports, family, protocol and
 * owner.  `rule` is the rule's number. */
void audit_denied(struct agent *agent, const struct socket_head *what, enum guard_call call, uint32_t rule);

/* Notes what the socket monitor saw; events that the trail has no kind for are left out. */
void audit_socket(struct agent *agent, const struct socket_head *what);

bool audit_is_followed(const struct agent *agent);

extern const struct module audit_module;

#endif
