/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Services in tc (bpf/balance_tc.bpf.c), at ingress of interfaces whose XDP cannot be had.
 *
 * The program is loaded with the first such interface; its maps are those of engine/service.h.  It stands in
 * front of weir's other programs there: on kernels with TCX as a link, pinned as "balance_IFINDEX", else as a
 * filter of clsact with a handle of its own.  Both work on when the agent is gone, and the next agent puts
 * its own program into their place.
 */
#ifndef WEIR_ENGINE_BALANCE_TC_H
#define WEIR_ENGINE_BALANCE_TC_H

#include <stdbool.h>
#include <stdint.h>

#include "basic/error.h"
#include "engine/engine.h"

extern const struct engine_part balance_tc_part;

/* Where engine_attach() has been before; what is attached stays.  0 or a negative errno with `error`. */
int engine_balance_tc_attach(
	struct engine *engine, const struct engine_interface *interface, struct error *error);
/* Nothing where nothing is attached.  engine_detach() does this, too. */
void engine_balance_tc_detach(struct engine *engine, uint32_t index);
/* Lets go of interfaces that are gone. */
void engine_balance_tc_forget_gone(
	struct engine *engine, const struct engine_interface *interfaces, size_t count);

#endif
