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

/* What is decided once for all for a trie. */
struct trie_shape {
	uint8_t family;
	uint32_t root;        /* its bits, and TRIE_WIDE */
	struct prefix common; /* what most prefixes are inside, of at most TRIE_COMMON_MAX bits; IPv4: 0 */
};

/* How many bits the root is best to have for so many prefixes. */
uint32_t trie_root_bits(uint8_t family, size_t prefixes);
/* What is best for so many, given two of them that most of the others lie between (NULL: not known). */
struct trie_shape trie_shape_for(
	uint8_t family, size_t prefixes, const struct address *low, const struct address *high);
size_t trie_units_root(uint32_t root); /* the units that this alone takes */

/* An empty trie in units[0..unit_count), which are zeroes: everything is number 0.  0, -EINVAL, -ENOMEM or
 * -ENOSPC. */
int trie_open_as(
	const struct trie_shape *shape, struct policy_unit *units, size_t unit_count, struct trie **ret_trie);
/* With a root of `bits` bits (trie_root_bits()), not wide, and nothing in common. */
int trie_open(
	uint8_t family, uint32_t bits, struct policy_unit *units, size_t unit_count, struct trie **ret_trie);
void trie_close(struct trie *trie); /* the units stay as they are */

/* Called when the units do not suffice: it adds some behind them (zeroes) and says how many there are now, or
 * returns not 0.  NULL (at first): they never grow. */
typedef int trie_growth_function(void *context, size_t *unit_count);
void trie_grow_by(struct trie *trie, trie_growth_function *function, void *context);
int trie_more(struct trie *trie); /* calls it */

/* Many changes at once: from trie_hold() on they are only noted, trie_write() writes them.  -ENOSPC, -ENOMEM:
 * the units are as they were and the changes still noted. */
void trie_hold(struct trie *trie);
int trie_write(struct trie *trie);

/* From now on the prefix has this number (0..TRIE_NUMBER_MAX), wherever no longer prefix says otherwise; the
 * same prefix again replaces it.  -ENOSPC: the units do not suffice, and nothing has changed. */
int trie_set(struct trie *trie, const struct prefix *prefix, uint32_t number);
/* -ENOENT: it is not there. */
int trie_remove(struct trie *trie, const struct prefix *prefix);
size_t trie_count(const struct trie *trie); /* prefixes */
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

size_t trie_memory(const struct trie *trie); /* bytes of memory beside the units */

/* What the datapath would find. */
uint32_t trie_lookup(const struct policy_unit *units, size_t unit_count, const struct address *address);

#endif
