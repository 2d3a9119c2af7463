/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Checks of backends that go the way of the packets (bpf/check.bpf.c).
 *
 * Nothing of it is pinned: checks are the agent's, and end with it.  On kernels without TCX the filters have
 * handles as those of captures, by which the next agent finds and removes them.
 */
#ifndef WEIR_ENGINE_CHECK_H
#define WEIR_ENGINE_CHECK_H

#include <stdbool.h>

#include "basic/error.h"
#include "engine/engine.h"
#include "shared/check.h"

extern const struct engine_part check_part;

/* There are such checks from now on, or none any more: loads the programs and puts them on all interfaces but
 * the loopback, or takes all of it away.  To be called again when interfaces have changed.  There are
 * services already. */
int engine_check_want(struct engine *engine, bool wanted, struct error *error);

/* A check begins, or ends: packets of this end go the way that is said.  The keys are two where the families
 * of service and backend differ.  0 or a negative errno; -ENOENT: nothing is loaded. */
int engine_check_begin(struct engine *engine, const struct check_way *way, uint8_t proto);
void engine_check_end(struct engine *engine, const struct check_way *way, uint8_t proto);
/* Has a packet of it gone that way? */
bool engine_check_sent(const struct engine *engine, const struct check_way *way, uint8_t proto);

#endif
