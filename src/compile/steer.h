/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * From sentences that steer to a book (shared/steer.h).
 *
 * Pure functions on memory: no kernel, no files.
 */
#ifndef WEIR_COMPILE_STEER_H
#define WEIR_COMPILE_STEER_H

#include <stddef.h>
#include <stdint.h>

#include "basic/error.h"
#include "compile/policy.h"
#include "shared/steer.h"

struct steer_input {
	const struct rule *rule; /* of the verb steer */
	uint32_t id;
};

struct steer_cpus {
	uint64_t words[STEER_CPUS_MAX / 64];
};

static inline bool steer_cpus_have(const struct steer_cpus *cpus, unsigned int cpu)
{
	return cpu < STEER_CPUS_MAX && cpus->words[cpu / 64] >> cpu % 64 & 1;
}

/*
 * `there`: CPUs that can be steered to; others are left out.  A sentence by rule gets one of its CPUs: of
 * those that the fewest sentences by rule before it have got, the first.
 *
 * 0 and an image that policy_image_clear() frees (count 0: no sentence, no book), or a negative errno as of
 * policy_compile(); -ENOSPC: more than STEER_LANES_MAX CPUs are named.
 */
int steer_compile(const struct steer_input *inputs, size_t count, const struct policy_world *world,
	const struct steer_cpus *there, struct policy_image *ret_image, struct error *error);

/* Of a book of `count` units: its sentences, in their order; NULL: it has none. */
const struct steer *steer_sentences(const struct policy_unit *book, size_t count, size_t *ret_count);
/* CPU number `place` (below steer->count) of a sentence of the book. */
unsigned int steer_cpu(const struct policy_unit *book, const struct steer *steer, size_t place);

#endif
