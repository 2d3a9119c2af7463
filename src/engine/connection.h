/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * The connection table in the kernel (shared/connection.h), which the programs of decision write
 * (bpf/lib/connection.h): its sizes and times, walking it, taking entries away and putting some in.
 *
 * It is there with the first policy.  Before, there is nothing to walk, and nothing can be put in.
 */
#ifndef WEIR_ENGINE_CONNECTION_H
#define WEIR_ENGINE_CONNECTION_H

#include "engine/engine.h"
#include "shared/connection.h"
#include "shared/policy.h"

struct engine_connection_settings {
	uint32_t connections, embryos; /* entries; a table that is there keeps its own */
	uint64_t ns[CONNECTION_FAMILIES][CONNECTION_STAGES]; /* without a packet; 0: for ever */
};

/* Takes effect at once, but for the sizes. 0 or a negative errno. */
int engine_connection_set(
	struct engine *engine, const struct engine_connection_settings *settings, struct error *error);

/* Is there a table? */
bool engine_connection_there(struct engine *engine);
/* The sizes of the one that is there (times as they were set). */
void engine_connection_settings(struct engine *engine, struct engine_connection_settings *ret_settings);

/* Times in ticks since the entry's `last`; false: it goes on for ever, or for longer than that. */
bool engine_connection_is_gone(
	struct engine *engine, const struct connection_key *key, const struct connection *c, uint32_t tick);

/* How far a walk has come.  Zeroed, it begins. */
struct engine_connection_cursor {
	bool started, embryos;
	uint32_t batch;
};

/* Gets an entry as it was a moment ago; a non-zero result ends the walk. */
typedef int engine_connection_function(
	void *context, const struct connection_key *key, const struct connection *c, bool embryo);
/* Walks about `budget` entries on, the established first.  1: that was the last of all (and the cursor is
 * zeroed); 0: there are more; else a negative errno or the function's result. */
int engine_connection_walk(struct engine *engine, struct engine_connection_cursor *cursor, size_t budget,
	engine_connection_function *function, void *context);

/* The entry as it is now.  0 or -ENOENT. */
int engine_connection_get(struct engine *engine, const struct connection_key *key, bool embryo,
	struct connection *ret_connection);
/* Takes it away.  0 or -ENOENT. */
int engine_connection_delete(struct engine *engine, const struct connection_key *key, bool embryo);
/* Puts one among the established.  -EEXIST: it is there, -E2BIG: there is no room. */
int engine_connection_put(
	struct engine *engine, const struct connection_key *key, const struct connection *c);

/* An entry that was taken away counts no more for the limit it counted for. */
void engine_connection_uncount(struct engine *engine, const struct connection *c);

/* Whom connections are counted for, and how many the kernel believes there are. */
struct engine_connection_count {
	struct policy_limit_key key;
	uint32_t count;
};
/* All of them, *ret_counts to be freed.  0 or a negative errno. */
int engine_connection_counts(
	struct engine *engine, struct engine_connection_count **ret_counts, size_t *ret_length);
/* Puts a count right by adding; what comes to nothing is taken away. */
void engine_connection_recount(struct engine *engine, const struct policy_limit_key *key, int64_t add);

/* Sums over all CPUs, since the table is there. */
void engine_connection_stats(struct engine *engine, struct connection_stats *ret_stats);

#endif
