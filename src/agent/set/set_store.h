/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * What is in the sets: entries in memory that outlives the agent (a region), found again by a table that does
 * not.
 *
 * An entry belongs to one set.  Its flags say in which of three versions of the set it is: the one of now,
 * the one of before (to which a change that is not confirmed goes back), the one that is being prepared.  So
 * a change of any size comes about by one step for each entry, and an agent that is killed in the middle
 * leaves the version of now.
 */
#ifndef WEIR_AGENT_SET_STORE_H
#define WEIR_AGENT_SET_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "basic/error.h"
#include "engine/engine.h"
#include "model/set.h"
#include "shared/set.h"

#define SET_NOW    0x01
#define SET_BEFORE 0x02
#define SET_NEXT   0x04

#define SET_FAMILY_PORT                                                                                      \
	1 /* of an entry that is a range of ports: low and high in the first bytes, host byte order */

struct set_kept {
	uint8_t bytes[16];   /* as struct address */
	uint64_t expires_ns; /* CLOCK_MONOTONIC; 0: never */
	uint8_t family;      /* 4, 6, SET_FAMILY_PORT; 0: free */
	uint8_t length;      /* of the prefix */
	uint8_t set;         /* its number */
	uint8_t flags;       /* SET_NOW, … */
	uint32_t reserved;
};

/* A set: its number is its place.  Numbers are the bits of combinations. */
struct set_slot {
	char name[SET_NAME_MAX]; /* empty: free */
	uint32_t kind;           /* enum set_kind */
	uint32_t live;           /* came through the API, not from the configuration */
};

/* The beginning of the region. */
struct set_head {
	uint64_t magic;
	uint32_t used; /* entries behind the head, free ones among them */
	uint32_t combination_count;
	uint32_t pending; /* there is a version of before */
	uint32_t place;   /* of the datapath's two, where the version of now is */
	struct set_slot slots[SET_MAX];
	uint64_t combinations[SET_COMBINATIONS_MAX]; /* masks; [0] is 0 */
};

struct set_store;

/* Opens what an earlier agent left, if it did. */
int set_store_open(struct engine *engine, struct set_store **ret_store, struct error *error);
void set_store_close(struct set_store *store);

struct set_head *set_store_head(const struct set_store *store);
/* Entries: an array of set_head.used, with free ones. */
const struct set_kept *set_store_entries(const struct set_store *store);
/* In the version of now. */
size_t set_store_count(const struct set_store *store, unsigned int set);
size_t set_store_expiring(const struct set_store *store, unsigned int set);
size_t set_store_bytes(const struct set_store *store);

/* Number of a set, or -ENOENT. */
int set_store_find(const struct set_store *store, const char *name);
/* Number of a new set, or -ENOSPC. */
int set_store_make(struct set_store *store, const char *name, bool live);
/* Takes it away with all its entries, whichever version they are in. */
void set_store_destroy(struct set_store *store, unsigned int set);

/* Is the entry in one of these versions? */
bool set_store_has(
	const struct set_store *store, unsigned int set, const struct set_entry *entry, uint8_t flags);
/*
 * Puts an entry into versions (`flags`); where it is already, it gets the new time.  1: it is new in one of
 * them, 0: it was in all, -ENOSPC, -ENOMEM; -EINVAL: the set holds entries of the other kind.
 */
int set_store_put(struct set_store *store, unsigned int set, const struct set_entry *entry,
	uint64_t expires_ns, uint8_t flags);
/* Takes it out of versions: 1, or 0 if it was in none of them. */
int set_store_remove(struct set_store *store, unsigned int set, const struct set_entry *entry, uint8_t flags);

/* Versions as a whole, of all sets whose bit is in `sets`: version `to` (one flag) becomes as version `from`
 * (one flag, or 0: empty). */
void set_store_copy(struct set_store *store, uint64_t sets, uint8_t from, uint8_t to);

/* The entry of now whose time is over first: its index, or -ENOENT.  `now_ns`: only if it is over by then. */
int64_t set_store_expired(struct set_store *store, uint64_t now_ns);
void set_store_entry(const struct set_kept *kept, struct set_entry *ret_entry);

/* The number of a combination of sets, made if there is none yet; -ENOSPC: too many. */
int set_store_combination(struct set_store *store, uint64_t mask);

#endif
