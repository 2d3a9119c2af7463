/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Policies from inside: what their files share. */
#ifndef WEIR_ENGINE_POLICY_INTERNAL_H
#define WEIR_ENGINE_POLICY_INTERNAL_H

#include "decide.skel.h"
#include "engine/internal.h"
#include "engine/policy.h"

#define PLACES (2 * POLICY_NUMBER_MAX)

enum policy_hook { HOOK_TC, HOOK_XDP, HOOKS };

/* The programs of an expression, by enum policy_expression_kind. */
struct policy_programs {
	char *text; /* NULL: a free place */
	int fds[POLICY_EXPRESSION_KINDS];
	uint64_t used; /* number of the policy brought last that has it */
};

#define PROGRAMS_MAX (4 * POLICY_EXPRESSIONS_MAX)

/* A policy's memory, mapped. */
struct policy_memory {
	struct policy_unit *units; /* NULL: none */
	size_t count;
	int map;
};

struct policy_clock {
	uint64_t now_ns, tick_ns;
	uint32_t tick;
};

struct policy_engine {
	struct engine *engine;
	struct decide_bpf *skeleton; /* NULL: there never was a policy */
	struct policy_now *now;      /* mapped; only the agent writes it */
	struct policy_clock clock;
	struct rule_count *counts; /* mapped, of all CPUs */
	struct policy_stats *stats;
	int limit_sources;          /* their buckets, while the agent knows them; -1 */
	struct policy_check *check; /* mapped */
	struct policy_memory memory[HOOKS][PLACES];
	bool read; /* some packet may still be judged by a place that is not in force */
	struct policy_programs programs[PROGRAMS_MAX];
	uint64_t brought;  /* policies */
	uint32_t log_rate; /* records a second */
	struct ring_buffer *log;
	engine_policy_log_function *function; /* who reads the log just now */
	void *context;
};

#define load(field)         __atomic_load_n(&(field), __ATOMIC_ACQUIRE)
#define store(field, value) __atomic_store_n(&(field), (value), __ATOMIC_RELEASE)

struct policy_engine *policy_of(const struct engine *engine);

/* Verifying these programs takes its time; who has no rules need not wait for that. */
int policy_load(struct policy_engine *policy, struct error *error);
/* Brings an image into a place, or takes away what stands there (`image` NULL, or empty). */
int policy_memory_bring(struct policy_engine *policy, enum policy_hook hook, __u32 place,
	const struct policy_image *image, struct error *error);

/* Makes the place of policy `number` that is not in force as large as the other, if it is not: so that the
 * first change does not wait for memory to be cleared. */
void policy_memory_match(struct policy_engine *policy, unsigned int number);

/* Waits until no packet is judged any more by what is not in force. */
int policy_memory_wait(struct policy_engine *policy);

/* Where policy `number` is in force from. */
__u32 policy_place(const struct policy_engine *policy, unsigned int number);

/* The programs of an image's expressions go into a place. */
int policy_expressions_bring(
	struct policy_engine *policy, __u32 place, const struct policy_image *image, struct error *error);
void policy_programs_close(struct policy_programs *programs);

/* The buckets that an earlier agent left. */
void policy_sources_adopt(struct policy_engine *policy);

/* So many a second are done at most. */
int policy_rate_set(struct policy_engine *policy, __u32 which, uint32_t a_second);
/* Opens the log once the programs are loaded. */
int policy_log_open(struct policy_engine *policy, struct error *error);

#endif
