/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Names of flows and hosts, from what the datapath copied of the first bytes (shared/name.h).
 *
 * Two bounded tables: flows, with what their first bytes said; and addresses, with the name that a DNS answer
 * gave, or that was asked of them.  They stand in regions of the engine, so the next agent knows them too.
 * When one is full the entry learned longest ago makes room.
 */
#ifndef WEIR_AGENT_NAMES_H
#define WEIR_AGENT_NAMES_H

#include "agent/flow/table.h"
#include "agent/module.h"
#include "basic/address.h"
#include "basic/json_write.h"

/* Writes the field "app" into a flow's object, if anything is known (docs/api.md). */
void names_write_flow(struct agent *agent, struct json_write *out, const struct table_key *key);

/* Writes the fields "name" and "name_source" into a host's object, if a name is known. */
void names_write_host(struct agent *agent, struct json_write *out, const struct address *address);

extern const struct module name_module;

#endif
