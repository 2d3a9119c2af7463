/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Verifying policies: does the kernel's own code decide packets at every edge of the rules as a plain matcher
 * does that holds them against one rule after the other?
 */
#ifndef WEIR_AGENT_VERIFY_H
#define WEIR_AGENT_VERIFY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "basic/error.h"
#include "compile/policy.h"

struct engine;

#define VERIFY_SHADOWS_MAX 8

/* What came of it. */
struct verify_result {
	size_t checked; /* packets */
	/* ids of rules that never decide, and of those in front of them that leave nothing for them */
	struct verify_shadow {
		uint32_t hidden, hiding;
	} shadows[VERIFY_SHADOWS_MAX];
	size_t shadow_count; /* found: more than are told, maybe */
};

/*
 * Verifies what was brought to the place of policy `number` that is not in force.  `changed`: only at the
 * edges of these rules; NULL: of all, and rules that never decide are looked for.  `xdp` may be NULL: there
 * is no policy for XDP.  Adds to the result.  0; -EUCLEAN: a packet is not decided as it should be, and the
 * error names the rules; or another negative errno.
 */
int verify_policy(struct engine *engine, unsigned int number, const struct policy_order *tc,
	const struct policy_order *xdp, const bool *changed, struct verify_result *result,
	struct error *error);

#endif
