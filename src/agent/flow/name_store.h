/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * A store: a bounded table of entries that outlive the agent.
 *
 * Entries are of one size, begin with a struct stored and a key, and stand in a region of the engine.  Each
 * has a checksum, so one that an agent was killed in the middle of writing is not believed.  The index, and
 * the order in which they were put, are made anew when a store is opened.
 */
#ifndef WEIR_AGENT_NAME_STORE_H
#define WEIR_AGENT_NAME_STORE_H

#include <stddef.h>
#include <stdint.h>

#include "basic/error.h"
#include "engine/engine.h"

struct stored {
	uint64_t check;  /* of everything behind it; 0: no entry */
	uint64_t put_ns; /* CLOCK_MONOTONIC time at which it was put here */
};

struct store;

/* `entry_bytes` is that of the whole entry, the key stands behind struct stored.  At most 2^20 entries. */
int store_open(struct engine *engine, const char *name, size_t entry_bytes, size_t key_bytes, uint32_t limit,
	struct store **ret_store, struct error *error);
void store_close(struct store *store); /* entries stay */
void store_clear(struct store *store); /* they go */

/* The entry of this key; NULL: there is none.  Valid until the next store_put(). */
const void *store_find(const struct store *store, const void *key);
/* Puts an entry, in place of the one of its key, of nothing, or of the one put longest ago.  Fills in the
 * struct stored. */
void store_put(struct store *store, void *entry, uint64_t now_ns);

/* Walking, the last one put first: `place` begins as STORE_END; NULL ends. */
#define STORE_END UINT32_MAX
const void *store_next(const struct store *store, uint32_t *place);

uint32_t store_count(const struct store *store);
uint32_t store_limit(const struct store *store);
uint64_t store_displaced(const struct store *store); /* entries that made room, since it was opened */
size_t store_bytes(const struct store *store);

#endif
