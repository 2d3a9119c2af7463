/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Owners as the kernel records them (shared/owner.h): reading what bpf/owner.bpf.c writes. */
#ifndef WEIR_ENGINE_OWNER_H
#define WEIR_ENGINE_OWNER_H

#include "engine/engine.h"
#include "shared/owner.h"

/* Gets an identity; a non-zero result ends engine_owner_each(), and is ignored elsewhere. */
typedef int engine_owner_function(void *context, const struct owner *owner);

/* Readable when identities were recorded or processes have ended. */
int engine_owner_fd(struct engine *engine);
/* Reads what there is: new identities, and records with `ended` set, which hold nothing but the key of one
 * identity: all identities of that process (pid and start) have ended. */
void engine_owner_read(struct engine *engine, engine_owner_function *function, void *context);
/* One identity by its id.  0 or -ENOENT: none, or it was pushed out by newer ones. */
int engine_owner_get(struct engine *engine, uint32_t id, struct owner *ret_owner);
/* All that the kernel still knows, in no order. */
void engine_owner_each(struct engine *engine, engine_owner_function *function, void *context);
/* Has packets that are only asked about be somebody's who has no socket: as `owner` says, but its id, which
 * is OWNER_SUPPOSED; NULL: nobody's any more.  0 or -errno with `error` set. */
int engine_owner_suppose(struct engine *engine, const struct owner *owner, struct error *error);
void engine_owner_stats(struct engine *engine, struct owner_stats *ret_stats);

#endif
