/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Classes in the kernel (shared/shape.h): what the agent asks for, what the datapath counted, and paths.
 *
 * Everything is pinned: without the agent the datapath goes on, and the next one reads it back.  The programs
 * and maps are loaded with the first class.
 */
#ifndef WEIR_ENGINE_SHAPE_H
#define WEIR_ENGINE_SHAPE_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/component.h"
#include "shared/policy.h"
#include "shared/shape.h"

extern const struct engine_part shape_part;

/* Was there ever a class, in this agent's time or before? */
bool engine_shape_used(const struct engine *engine);

/*
 * Makes a class, or changes it under way: of `class` all but the meters, which are made here of the ceiling
 * and `burst` (bytes; what a bucket holds when no packet came for long).  Buckets keep what they have.  A
 * class that is new (another generation) begins with nothing counted and full buckets.  0 or a negative errno
 * with an error.
 */
int engine_shape_class_set(struct engine *engine, uint32_t number, const struct shape_class *class,
	uint64_t burst, struct error *error);
/* No packet of any path counts for it any more; what it has counted stays until the number is used again. */
void engine_shape_class_clear(struct engine *engine, uint32_t number);
/* Reads back; -ENOENT: there is no such class. */
int engine_shape_class(struct engine *engine, uint32_t number, struct shape_class *ret_class);

/* An interface in one direction; NULL: it is no link any more.  Flows whose path was found before keep it
 * until engine_policy_forget(). */
int engine_shape_link_set(struct engine *engine, uint32_t ifindex, bool out, const struct shape_link *link,
	struct error *error);
int engine_shape_link(struct engine *engine, uint32_t ifindex, bool out, struct shape_link *ret_link);
/* Calls for each link. */
typedef void engine_shape_link_function(
	void *context, uint32_t ifindex, bool out, const struct shape_link *link);
void engine_shape_links(struct engine *engine, engine_shape_link_function *function, void *context);

/* The counter in rule_counts of the rule that makes a class; 0: no rule does.  For a class that was set. */
void engine_shape_counter_set(struct engine *engine, uint32_t number, uint32_t counter);
/* What is in the class's line of that rule's packets, and not in the counter: on one CPU. */
void engine_shape_plain(
	const struct engine *engine, unsigned int cpu, uint32_t number, struct rule_count *ret_count);

/* In wire packets and bytes. */
struct engine_shape_count {
	uint64_t sent_packets, sent_bytes;
	uint64_t dropped_packets, dropped_bytes;
	uint64_t marked_packets;            /* ECN */
	uint64_t delayed_packets, delay_ns; /* sent later than asked for, and by how much in sum */
};

/* Sum of all CPUs, and what the datapath keeps; zero for a class that there never was. */
void engine_shape_count(struct engine *engine, uint32_t number, struct engine_shape_count *ret_count);
void engine_shape_state(struct engine *engine, uint32_t number, struct shape_state *ret_state);

struct engine_shape_stats {
	uint32_t paths;      /* numbers in use, of the half in use */
	uint32_t paths_max;  /* of one half */
	uint64_t paths_full; /* packets of flows that got no number */
};
void engine_shape_stats(struct engine *engine, struct engine_shape_stats *ret_stats);
/* Makes room for paths where they are nearly used up; to be called every second or so. */
void engine_shape_sweep(struct engine *engine);

/* The path of the packet that engine_policy_explain() asked about last: classes, leaf first; 0: the end. Told
 * once. */
int engine_shape_explained(struct engine *engine, struct shape_path *ret_path);

#endif
