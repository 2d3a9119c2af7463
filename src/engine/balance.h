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

/* What services need, loaded beforehand by another thread, since the kernel takes its time to verify it:
 *
 *     new     NULL: all of it is there, or there is no memory; `nat`: some are delivered so;
 *             `tc`: some interface has no XDP
 *     run     in the other thread: nobody else sees what it loads, and nobody else may load anything of it
 *     end     in the agent's: takes over what was loaded, as far as that went, and frees
 *
 * What it has not loaded, engine_service_prepare() and engine_balance_want() do.  0 or a negative errno with
 * `error`. */
struct engine_balance_load;
struct engine_balance_load *engine_balance_load_new(struct engine *engine, uint32_t flows, bool nat, bool tc);
int engine_balance_load_run(struct engine_balance_load *load, struct error *error);
int engine_balance_load_end(struct engine_balance_load *load, struct error *error);

/* A program that balance goes on in (enum service_program, bpf/lib/service_work.h); after the first want. */
int engine_balance_put(struct engine *engine, unsigned int place, int program, struct error *error);
/* The same for generic XDP, where that is in use (engine_shield_is_whole()). */
int engine_balance_put_whole(struct engine *engine, unsigned int place, int program, struct error *error);

#endif
