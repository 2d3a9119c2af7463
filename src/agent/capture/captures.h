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
#include "model/alert.h"

struct agent;

/* Does a capture wait for something of this kind?  Then it is worth a text. */
bool captures_wait_for(const struct agent *agent, enum alert_kind kind);
/* Something has happened: what waits for it begins, with the packets of the time before, as soon as the event
 * loop goes on.  To be called from anywhere in the agent. */
void captures_alert(struct agent *agent, const struct alert *alert);

extern const struct module capture_module;

#endif
