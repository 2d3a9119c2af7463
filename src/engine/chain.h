/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * The programs behind the one at XDP (bpf/lib/chain.h), and on which interfaces they want it.
 *
 * They stand in the pinned array `chain_programs`, so they work on when the agent is gone, and the next agent
 * puts its own there without a gap.
 */
#ifndef WEIR_ENGINE_CHAIN_H
#define WEIR_ENGINE_CHAIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "basic/error.h"
#include "engine/engine.h"
#include "shared/forward.h"

extern const struct engine_part chain_part;

/* Puts a program into its place, and loads the one in front of it if it is not there yet. */
int engine_chain_put(struct engine *engine, enum chain_program place, int program, struct error *error);
/* The same behind the program at generic XDP, where that is in use (engine_shield_is_whole()): one that was
 * loaded by component_load_whole().  Without it packets there go on. */
int engine_chain_put_whole(struct engine *engine, enum chain_program place, int program, struct error *error);
/* Takes both away from there. */
int engine_chain_take(struct engine *engine, enum chain_program place, struct error *error);
/* Has an earlier agent, or this one, put a program there? */
bool engine_chain_has(const struct engine *engine, enum chain_program place);

/* The interfaces, by their indexes, whose packets the program of a place is to see: instead of those of
 * before. They are the agent's to attach (engine_shield_attach()).  0 or -ENOMEM, and then nothing has
 * changed. */
int engine_chain_want(struct engine *engine, enum chain_program place, const uint32_t *indexes, size_t count);
bool engine_chain_wants(const struct engine *engine, uint32_t index);

#endif
