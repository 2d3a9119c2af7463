/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * From the entries of sets to the tries that the datapath reads.
 *
 * The number of a prefix in a trie is the combination of all sets that have it or one that contains it.
 */
#ifndef WEIR_AGENT_SET_BUILD_H
#define WEIR_AGENT_SET_BUILD_H

#include "agent/set/set_store.h"
#include "compile/trie.h"
#include "engine/set.h"

struct set_tries {
	struct engine_set_memory memory[2]; /* IPv4, IPv6 */
	struct trie *trie[2];
};

/* Builds tries of one version (SET_NOW, …).  *progress (may be NULL) counts prefixes.  0, -ENOSPC: too many
 * combinations, -E2BIG, -ENOMEM. */
int set_tries_build(struct engine *engine, struct set_store *store, uint8_t version,
	struct set_tries *ret_tries, size_t *progress, struct error *error);
void set_tries_close(struct set_tries *tries);
size_t set_tries_bytes(const struct set_tries *tries);

/* Called before a combination gets into a trie that is in force.  0, or a negative errno that ends the
 * change. */
typedef int set_combination_function(void *context, unsigned int combination);

/*
 * A prefix comes into or goes out of one set, after the store knows.  -ENOSPC: there is no room in the memory
 * of the trie; then the tries have to be built anew.
 */
int set_tries_add(struct set_tries *tries, struct set_store *store, unsigned int set,
	const struct prefix *prefix, set_combination_function *function, void *context);
int set_tries_remove(struct set_tries *tries, struct set_store *store, unsigned int set,
	const struct prefix *prefix, set_combination_function *function, void *context);

#endif
