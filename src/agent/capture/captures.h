/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Captures: packets from the kernel's segments (shared/capture.h) to whoever asked, as pcapng.
 *
 * Each capture is an answer that does not end.  A client that reads too slowly loses packets, which are
 * counted; the agent keeps a few megabytes for it and leaves the rest in the kernel's rings.
 */
#ifndef WEIR_AGENT_CAPTURES_H
#define WEIR_AGENT_CAPTURES_H

#include "agent/module.h"

extern const struct module capture_module;

#endif
