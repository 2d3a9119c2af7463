/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Policies in the kernel (shared/policy.h): brought there beside those in force, verified, switched over at
 * one point, and read back by the next agent.
 *
 * The program that decides (bpf/decide.bpf.c) is loaded with the first policy; the same object has the
 * programs that ask its own code: does this policy decide these packets as expected, and what would become of
 * this one?
 */
#ifndef WEIR_ENGINE_POLICY_H
#define WEIR_ENGINE_POLICY_H

#include "compile/policy.h"
#include "engine/engine.h"
#include "shared/connection.h"
#include "shared/policy.h"
#include "shared/set.h"

extern const struct engine_part policy_part;

/*
 * The memory of the place of policy `number` that is not in force, which no packet is judged by any more: to
 * be written anew (policy_compile_in()).  None (NULL, 0) where there is none yet.
 */
struct engine_policy_room {
	struct policy_unit *units;
	size_t count;
};
int engine_policy_room(struct engine *engine, unsigned int number, bool xdp,
	struct engine_policy_room *ret_room, struct error *error);
/* A moment when nobody waits: what was in force before the last switch becomes such a room, or one is made.
 * Never between engine_policy_bring() and its switch: what was brought stands in that place. */
void engine_policy_rest(struct engine *engine);

/*
 * Brings an image to the place of policy `number` that is not in force (for tc and, where it is not NULL, for
 * XDP); one that was made in the place's room stands there.  The policy in force is not touched.  Translated
 * expressions go with it.
 */
int engine_policy_bring(struct engine *engine, unsigned int number, const struct policy_image *image,
	const struct policy_image *xdp, struct error *error);

/* Judges facts by what was brought: ret_rules[i] is the first rule that fits, by its place in the order that
 * the policy was compiled from, or POLICY_NO_RULE.  Run by the real code, many facts at a time. */
int engine_policy_check(struct engine *engine, unsigned int number, bool xdp,
	const struct policy_facts *facts, uint32_t *ret_rules, size_t count, struct error *error);

/* Switches policies over to what was brought: `changed` has a bit for each, `present` those that have rules
 * or defaults afterwards. With a deadline (CLOCK_MONOTONIC, 0: none) the datapath itself goes back when it
 * has passed. */
int engine_policy_switch(struct engine *engine, uint64_t changed, uint64_t present, bool cut, bool tracking,
	uint64_t deadline_ns, struct error *error);
/* Whose interfaces and cgroups are: all of them.  To be called behind a switch that their policies came with;
 * `waiting`: it has a deadline, so until it is confirmed both what was and what is are kept. */
struct engine_policy_tenant {
	uint32_t ifindex; /* 0: a cgroup */
	uint64_t cgroup;  /* hash of its path, as in struct owner */
	unsigned int number;
};
#define ENGINE_POLICY_TENANTS_MAX 2048
int engine_policy_tenants(struct engine *engine, const struct engine_policy_tenant *tenants, size_t count,
	bool waiting, struct error *error);
int engine_policy_confirm(struct engine *engine, struct error *error);
int engine_policy_rollback(struct engine *engine, struct error *error); /* now */
/* What is in force: says whether a deadline is running, or has passed (then what was before is in force
 * again). */
int engine_policy_now(struct engine *engine, struct policy_now *ret_now);
/* Before a set changes: XDP looks for connections that go on. */
void engine_policy_keep(struct engine *engine);
/* What was found out about them, unless anything has changed after `since`. */
void engine_policy_kept(struct engine *engine, uint32_t since, enum policy_kept kept);
/* Decisions that were kept with flows hold no more (a set has changed). */
int engine_policy_forget(struct engine *engine, bool cut);

struct engine_policy_count {
	uint64_t packets, bytes;
	uint64_t last_ns; /* CLOCK_MONOTONIC, to a tick; 0: never */
};
/* Sum of all CPUs; `class`: that the counter's rule makes, or a number that none has. */
int engine_policy_count(
	struct engine *engine, uint32_t counter, uint32_t class, struct engine_policy_count *ret_count);
int engine_policy_count_clear(struct engine *engine, uint32_t counter);
int engine_policy_limit(struct engine *engine, uint32_t place, const struct policy_limit *limit);
/* Loads what rules on packets need, which takes its time when it is the first time. */
int engine_policy_prepare(struct engine *engine, struct error *error);
/* Sources and destinations that limits tell apart.  Were there ever any?  How many each limit, by its place,
 * has got buckets for since it began (-ENOENT: none).  And those that have one, some thousand a call: 0 and
 * there are more, 1 at the end, or a negative errno. */
struct engine_limit_cursor {
	bool started;
	uint32_t batch;
};
typedef void engine_limit_function(void *context, const struct policy_limited *limited);
bool engine_limit_sources(const struct engine *engine);
int engine_limit_made(struct engine *engine, uint64_t made[POLICY_LIMITS_MAX]);
int engine_limit_walk(struct engine *engine, struct engine_limit_cursor *cursor,
	engine_limit_function *function, void *context);
void engine_policy_stats(struct engine *engine, struct policy_stats *ret_stats);

/* Asks the real program about a packet: which rule (by id; 0: default), action, policy, hook. */
int engine_policy_explain(struct engine *engine, const void *packet, size_t size, bool ethernet,
	uint32_t ifindex, bool out, uint32_t owner, struct policy_explanation *ret_explanation,
	struct error *error);

/* The log.  Readable when there are records. */
int engine_policy_log_fd(struct engine *engine);
typedef void engine_policy_log_function(void *context, const struct policy_log *record);
void engine_policy_log_read(struct engine *engine, engine_policy_log_function *function, void *context);
/* Records a second: of packets that rules log, and of those dropped by others (no more than the clock has
 * ticks). */
int engine_policy_log_rate(struct engine *engine, uint32_t logged, uint32_t dropped);

/* Whether the kernel's drops are watched: then the program at XDP notes which rule dropped a packet. */
void engine_policy_note_drops(struct engine *engine, bool watch);

#endif
