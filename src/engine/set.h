/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Sets in the kernel (shared/set.h): the memory that the tries stand in.
 */
#ifndef WEIR_ENGINE_SET_H
#define WEIR_ENGINE_SET_H

#include "engine/engine.h"
#include "shared/policy.h"
#include "shared/set.h"

extern const struct engine_part set_part;

struct engine_set_memory {
	struct policy_unit *units; /* mapped, zeroed; stays where it is when the memory grows */
	size_t count;
	int *chunks; /* their maps */
};

/* New memory for a family's trie, of at least so many units: not read by anybody yet. */
int engine_set_memory_open(
	struct engine *engine, size_t units, struct engine_set_memory *ret_memory, struct error *error);
/* Until it is in a place it can grow.  -ENOSPC, -ENOMEM, …: it has not. */
int engine_set_memory_grow(struct engine_set_memory *memory, size_t units);
/* Puts it, with the trie that it holds, into one of the family's two places; without memory (NULL) the place
 * gets empty.  Packets see what was there or what is there now.  Returns when nobody reads any more what was
 * there. */
int engine_set_memory_bring(struct engine *engine, uint8_t family, unsigned int place,
	const struct engine_set_memory *memory, struct error *error);
void engine_set_memory_close(struct engine_set_memory *memory); /* unmaps; what is in a place stays */
/* Waits until nobody reads what fell out of use before this call. */
void engine_set_wait(struct engine *engine);

#endif
