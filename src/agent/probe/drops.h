/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Drops: what the kernel gave up, why, where, and of whom (engine/drop.h). */
#ifndef WEIR_AGENT_DROPS_H
#define WEIR_AGENT_DROPS_H

#include "agent/module.h"

struct agent;

/* Packets dropped so far, as `weir drops` counts them.  0 or a negative errno. */
int drops_packets(struct agent *agent, uint64_t *ret_packets);

extern const struct module drop_module;

#endif
