/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * The connection table as the agent keeps it (shared/connection.h): what has timed out is taken away, some of
 * it every moment; what was there before anybody tracked is put in; GET /v1/connections shows it.
 */
#ifndef WEIR_AGENT_CONNECTIONS_H
#define WEIR_AGENT_CONNECTIONS_H

#include "agent/module.h"

/*
 * Puts in what is known to go on both ways: by the flow table, and by the sockets of this host.  To be called
 * right before rules that ask for the state (or that could end a connection) come into force where none did
 * before, and once more right after that, for what began in between.
 */
void connections_pick_up(struct agent *agent);

extern const struct module connections_module;

#endif
