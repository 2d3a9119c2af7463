/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Traces that clients ask for: POST /v1/trace, and the list of probes.
 *
 * A trace lives as long as its client listens.
 */
#ifndef WEIR_AGENT_TRACES_H
#define WEIR_AGENT_TRACES_H

#include "agent/module.h"

extern const struct module trace_module;

#endif
