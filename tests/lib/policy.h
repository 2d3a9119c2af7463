/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Policies from sentences and from ClassBench's filters, and packets' facts to hold against them. */
#ifndef WEIR_TESTS_POLICY_H
#define WEIR_TESTS_POLICY_H

#include "compile/policy.h"

/* The order of a list of rules, in a world of a few interfaces and sets. */
struct policy_rules {
	struct rule *rules;
	struct policy_source *sources;
	size_t count;
	struct policy_order order;
};

/* Ends the process with a message where a sentence is none. */
void policy_rules_add(struct policy_rules *rules, const char *sentence);
void policy_rules_clear(struct policy_rules *rules);

enum classbench_flags {
	CLASSBENCH_IPV6 = 1,  /* addresses and their prefixes behind 2001:db8::/32 */
	CLASSBENCH_FLAGS = 2, /* with the filters' TCP flags */
};

/* The first `most` filters of a file, every other one a drop and an accept.  0, or -errno where it cannot be
 * read. */
int policy_rules_classbench(struct policy_rules *rules, const char *path, size_t most, unsigned int flags);

/* Rules of every kind. */
void policy_rules_random(struct policy_rules *rules, size_t count, uint64_t *state);

struct policy_headers {
	struct policy_facts *facts;
	size_t count;
};

/* At the rules' edges and beside them: half are edges as they are, the others have something of others. */
void policy_headers_make(
	struct policy_headers *headers, const struct policy_judge *judge, size_t count, uint64_t *state);
/* As they come: each fits a random rule with random values, but for one of five, which has random addresses.
 */
void policy_headers_fit(
	struct policy_headers *headers, const struct policy_rules *rules, size_t count, uint64_t *state);
void policy_headers_clear(struct policy_headers *headers);

#endif
