/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * The socket monitor: what happened to sockets, which there are, and how they are doing (shared/socket.h).
 */
#ifndef WEIR_AGENT_SOCKETS_H
#define WEIR_AGENT_SOCKETS_H

#include <stdbool.h>
#include <stdint.h>

#include "agent/module.h"
#include "basic/json_write.h"
#include "model/match.h"
#include "shared/socket.h"

struct agent;

/* The TCP connections of one process. */
struct socket_totals {
	uint32_t connections; /* open now */
	uint64_t opened;      /* all that weir knows of */
	uint64_t retransmits; /* segments, of all of them */
	uint32_t srtt_us;     /* mean over those that are open; 0: none */
};

/* False: nothing is known of it.  Figures of open connections are up to a second old.  `start_ns` as in
 * struct owner_key. */
bool sockets_of_process(
	struct agent *agent, uint32_t pid, uint64_t start_ns, struct socket_totals *ret_totals);

/* Reads the events that wait in the kernel. */
void sockets_refresh(struct agent *agent);
/* Somebody follows what comes of events: they are read at once from now on. */
void sockets_hurry(struct agent *agent);
/* Events that found no room on their way to the agent. */
uint64_t sockets_lost(struct agent *agent);

/* Does a match mean this socket?  What was accepted, or listens, counts as "in": its source is the remote
 * end; all else as "out". */
bool socket_fits(struct agent *agent, const struct socket_head *head, const struct match *match);

/* Fields that every answer about sockets has: family, proto, local, lport, remote, rport. */
void socket_addresses_write(struct json_write *out, const struct socket_head *head);
const char *socket_event_name(unsigned int event); /* "listen" */
const char *socket_error_name(int error);          /* of an errno: "refused"; else its symbol */

extern const struct module sockets_module;

#endif
