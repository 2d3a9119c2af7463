/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * The program of services (bpf/balance.bpf.c) behind the program at XDP (engine/shield.h).
 *
 * It is loaded with the first service; its maps are those of engine/service.h.  It stands in its place of the
 * chain (engine/chain.h).
 */
#ifndef WEIR_ENGINE_BALANCE_H
#define WEIR_ENGINE_BALANCE_H

#include <stdbool.h>

#include "basic/error.h"
#include "engine/engine.h"

extern const struct engine_part balance_part;

/* Services are wanted from now on, in force or waiting for it, or none are any more: loads the program and
 * puts it into its place, or takes it away from there.  Interfaces are the agent's to attach
 * (engine_shield_attach()), which engine_shield_wanted() then wants. */
int engine_balance_want(struct engine *engine, bool wanted, struct error *error);
bool engine_balance_wanted(const struct engine *engine);

/* A program that balance goes on in (enum service_program, bpf/lib/service_work.h); after the first want. */
int engine_balance_put(struct engine *engine, unsigned int place, int program, struct error *error);

#endif
