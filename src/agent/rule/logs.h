/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Logged and dropped packets, as the datapath records them (docs/api.md, /v1/log). */
#ifndef WEIR_AGENT_LOGS_H
#define WEIR_AGENT_LOGS_H

#include "agent/module.h"
#include "basic/error.h"

struct agent;

/* The ring comes with the first rule on packets: to be called behind it.  0 or a negative errno. */
int logs_wait(struct agent *agent, struct error *error);

extern const struct module log_module;

#endif
