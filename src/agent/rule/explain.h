/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* What the rules in force do with a packet, and why (docs/api.md, /v1/explain). */
#ifndef WEIR_AGENT_EXPLAIN_H
#define WEIR_AGENT_EXPLAIN_H

#include "agent/module.h"

extern const struct module explain_module;

#endif
