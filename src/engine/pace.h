/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Pacing (bpf/pace.bpf.c): the programs that give sockets their rates, and the control loop.
 *
 * Attached only while some class paces.  They go on without the agent.
 */
#ifndef WEIR_ENGINE_PACE_H
#define WEIR_ENGINE_PACE_H

#include "engine/component.h"
#include "shared/shape.h"

extern const struct engine_part pace_part;

/* Some class paces: makes sure that the programs are attached and the control loop can run.  To be called
 * before the first class of SHAPE_PACING is set, as often as one likes.  0 or a negative errno with an error.
 */
int engine_pace_start(struct engine *engine, struct error *error);

/* No class paces any more: all sockets get back what rates they had, and the programs go.  So before the
 * engine is removed. */
void engine_pace_stop(struct engine *engine);

/* To be called every 100 ms or so: gives rates to sockets that were open before they had a class. */
void engine_pace_tick(struct engine *engine);

/* What the control loop knows of a class; zero: nothing. */
void engine_pace_share(struct engine *engine, uint32_t number, struct shape_share *ret_share);

void engine_pace_stats(struct engine *engine, struct pace_stats *ret_stats);

#endif
