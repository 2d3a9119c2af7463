/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Forwarding at XDP (bpf/forward.bpf.c, shared/forward.h): loaded with the first sentence.
 *
 * Its maps are pinned, so it works on when the agent is gone, and the next agent reads the numbers back.
 */
#ifndef WEIR_ENGINE_FORWARD_H
#define WEIR_ENGINE_FORWARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "basic/error.h"
#include "engine/engine.h"
#include "shared/forward.h"

extern const struct engine_part forward_part;

/* Sentences are wanted from now on, in force or waiting for it, or none are any more: loads the program and
 * puts it into its place, or takes it away from there. */
int engine_forward_want(struct engine *engine, bool wanted, struct error *error);
/* Generic XDP has come into use: if forwarding is wanted, its program for that is there, too. */
int engine_forward_renew(struct engine *engine, struct error *error);
bool engine_forward_wanted(const struct engine *engine);

/* The rule (id) that each number has, 0: none; FORWARD_NUMBERS of them, to be written.  NULL: there never was
 * a sentence. */
uint32_t *engine_forward_rules(const struct engine *engine);

struct engine_forward_port {
	uint32_t index; /* of the interface that packets are taken from */
	struct forward_port port;
};
/* Writes the ports of the place that is in force, or of the other one: these are there afterwards, and no
 * others.  0 or a negative errno with `error`. */
int engine_forward_ports(struct engine *engine, bool other, const struct engine_forward_port *ports,
	size_t count, struct error *error);

/* The interfaces that frames may be sent to from native XDP. */
int engine_forward_targets(struct engine *engine, const uint32_t *indexes, size_t count, struct error *error);

/* The interfaces of a switch, by its number; its maps are made where there are none. */
int engine_forward_switch(
	struct engine *engine, uint32_t number, const uint32_t *members, size_t count, struct error *error);
/* The number is free: what a switch has learned goes. */
void engine_forward_forget(struct engine *engine, uint32_t number);
/* How many addresses a switch remembers.  A look through its table: not for every question. */
size_t engine_forward_heard(const struct engine *engine, uint32_t number);

void engine_forward_count(const struct engine *engine, uint32_t number, struct forward_count *ret_count);
void engine_forward_count_clear(struct engine *engine, uint32_t number);

/* Does an interface take frames from native XDP?  1, 0, or -EOPNOTSUPP: this kernel does not tell. */
int engine_takes_frames(struct engine *engine, uint32_t index);

#endif
