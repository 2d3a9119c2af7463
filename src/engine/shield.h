/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * The program at XDP (bpf/shield.bpf.c): attached to interfaces that have rules for it, beside nobody else.
 *
 * What it judges by is brought with the policies (engine_policy_bring()).  It is loaded with the first
 * interface; links are pinned, so it works on when the agent is gone, and the next agent puts its own program
 * into their place without a gap.
 */
#ifndef WEIR_ENGINE_SHIELD_H
#define WEIR_ENGINE_SHIELD_H

#include <stdbool.h>
#include <stdint.h>

#include "basic/error.h"
#include "engine/engine.h"
#include "shared/policy.h"

enum engine_shield_mode { ENGINE_SHIELD_OFF, ENGINE_SHIELD_NATIVE, ENGINE_SHIELD_GENERIC };

struct engine_shield {
	enum engine_shield_mode mode;
	uint32_t program; /* id; OFF: of somebody else's that is there, or 0 */
};

/* Do rules in force decide at XDP for this interface's packets, are there services, or does it forward or
 * steer?  By its index, and whose policy holds there. */
bool engine_shield_wanted(struct engine *engine, uint32_t index);

/* The rule (id) that drops such a packet at XDP, as far as limits let it come to that; 0: none does. */
uint32_t engine_shield_rule(struct engine *engine, const struct policy_facts *facts);

/*
 * Attaches, natively or (where that does not work, or is not wanted) generically.  What is attached as wanted
 * stays.  -EBUSY: somebody else's program is there, and stays; `error` says so in any case.
 */
int engine_shield_attach(struct engine *engine, const struct engine_interface *interface, bool native,
	bool generic, struct engine_shield *ret_shield, struct error *error);
void engine_shield_detach(struct engine *engine, uint32_t index);
/* What is attached. */
void engine_shield_query(struct engine *engine, uint32_t index, struct engine_shield *ret_shield);
/* Is generic XDP in use, or was it?  Then what stands behind the program there has a second program for it
 * (engine/chain.h). */
bool engine_shield_is_whole(const struct engine *engine);
/* Addresses of connections that go on (shared/shield.h); nothing where the program is not loaded. */
bool engine_shield_loaded(const struct engine *engine);
void engine_shield_kept_clear(struct engine *engine);
void engine_shield_kept_add(struct engine *engine, const uint32_t address[4]);
/* Lets go of interfaces that are not among these any more. */
void engine_shield_forget_gone(
	struct engine *engine, const struct engine_interface *interfaces, size_t count);

#endif
