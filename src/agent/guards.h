/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Socket rules: the list of them, from the configuration file and from people, as it is in the kernel.
 *
 * A rule keeps its id, and so its counters, as long as its sentence stays.  Rules of the file stand in its
 * order; rules that came through the API stay where they were put among them when the file is read again.
 */
#ifndef WEIR_AGENT_GUARDS_H
#define WEIR_AGENT_GUARDS_H

#include "agent/module.h"
#include "basic/error.h"

struct agent;

/* Puts the rules of the agent's configuration in place of those of the one before.  0 or a negative errno,
 * and then nothing has changed. */
int guards_configure(struct agent *agent, struct error *error);

extern const struct module guard_module;

#endif
