/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Rings of consistent hashing (Eisenbud et al., "Maglev", NSDI 2016, 3.4): each backend has its own order of
 * all slots, made from what it is, not from where it stands in a list; in turns each takes the next slot of
 * its order that is free.  So who has the same backends and weights has the same ring, and where one backend
 * goes nearly all slots of the others stay.
 *
 * With weights the k-th turn of a backend comes at (k + 1/2) / weight.  Equal weights make the paper's
 * rounds; others get slots as near to their share as whole slots can be.
 */
#ifndef WEIR_COMPILE_MAGLEV_H
#define WEIR_COMPILE_MAGLEV_H

#include <stddef.h>
#include <stdint.h>

#include "basic/address.h"

struct maglev_backend {
	struct address address;
	uint16_t port;   /* host byte order */
	uint16_t number; /* what the slots get; not 0 */
	uint32_t weight; /* 0: no slots */
};

/* What a backend is, alone: it prefers slot (offset + k * skip) % slots before that of k + 1, and in each
 * round turns come by `name`, the lowest first. */
struct maglev_order {
	uint64_t name;
	uint32_t offset, skip;
};
struct maglev_order maglev_order(const struct maglev_backend *backend, uint32_t slot_count);

/* Fills slots[0..slot_count): a prime, 2 at least.  Without any weight all are 0.  0 or -ENOMEM. */
int maglev_fill(const struct maglev_backend *backends, size_t count, uint16_t *slots, uint32_t slot_count);

/* One round of turns (round robin by weights) in the same order: *ret_count of them, `most` at most, where
 * the weights have no shorter round.  0 or -ENOMEM; to be freed. */
int maglev_turns(const struct maglev_backend *backends, size_t count, uint32_t most, uint16_t **ret_turns,
	uint32_t *ret_count);

#endif
