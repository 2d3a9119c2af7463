/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Writes tries (shared/trie.h): whole ones for policies, and such that change while they are read for sets.
 *
 * The memory is the caller's: an array of units that a map maps, or plain memory.  The builder keeps the
 * prefixes apart from it in a tree of its own, so that it can take one away again.
 */
#ifndef WEIR_COMPILE_TRIE_H
#define WEIR_COMPILE_TRIE_H

#include <stddef.h>
#include <stdint.h>

#include "basic/address.h"
#include "shared/policy.h"
#include "shared/trie.h"

struct trie;

/* An empty trie of a family in units[0..unit_count): everything is number 0.  Uses TRIE_ROOT_UNITS at once.
 * 0, -ENOMEM or -ENOSPC. */
int trie_open(uint8_t family, struct policy_unit *units, size_t unit_count, struct trie **ret_trie);
void trie_close(struct trie *trie); /* the units stay as they are */

/* From now on the prefix has this number, wherever no longer prefix says otherwise; the same prefix again
 * replaces it.  -ENOSPC: the units do not suffice, and nothing has changed. */
int trie_set(struct trie *trie, const struct prefix *prefix, uint32_t number);
/* -ENOENT: it is not there. */
int trie_remove(struct trie *trie, const struct prefix *prefix);
/* The number of exactly this prefix, or -ENOENT. */
int trie_get(const struct trie *trie, const struct prefix *prefix, uint32_t *ret_number);

/* The number of the longest prefix that contains this one and is not this one, or -ENOENT. */
int trie_cover(const struct trie *trie, const struct prefix *prefix, uint32_t *ret_number);
/* Calls the function for each prefix that is in the trie and inside `prefix` (itself included), in order: by
 * address, the shorter first, so that what contains another comes before it.  Numbers may be set meanwhile
 * (trie_set() of prefixes that are there), prefixes neither added nor removed.  Ends with the first non-zero
 * result. */
typedef int trie_walk_function(void *context, const struct prefix *prefix, uint32_t number);
int trie_walk(struct trie *trie, const struct prefix *prefix, trie_walk_function *function, void *context);

/* Units that fell out of use are kept back until this says that nobody reads them any more. */
void trie_reclaim(struct trie *trie);
size_t trie_units(const struct trie *trie);   /* in use or kept back, from unit 0 on */
size_t trie_retired(const struct trie *trie); /* kept back */

/* What the datapath would find. */
uint32_t trie_lookup(uint8_t family, const struct policy_unit *units, const struct address *address);

#endif
