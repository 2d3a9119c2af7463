/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Steering in the kernel (shared/steer.h): two books, switched with the policies (engine/policy.h, bit
 * STEER_PLACE), the queues of CPUs, and what is counted.
 *
 * All of it is made with the first sentence and pinned: without the agent the datapath goes on, and the next
 * agent reads it back.
 */
#ifndef WEIR_ENGINE_STEER_H
#define WEIR_ENGINE_STEER_H

#include <stdbool.h>
#include <stdint.h>

#include "compile/steer.h"
#include "engine/component.h"

extern const struct engine_part steer_part;

/* Was there ever a sentence that steers, in this agent's time or before? */
bool engine_steer_used(const struct engine *engine);
/* Loads the programs and makes the maps, where there are none. */
int engine_steer_prepare(struct engine *engine, struct error *error);

/* Writes a book into the place that is not in force; the CPUs of both get their queues, and what it counts
 * its places.  An empty image: nothing is steered. */
int engine_steer_bring(struct engine *engine, const struct policy_image *image, struct error *error);
/* What no book needs any more goes: queues, counters, and, when nothing is steered, the program from the
 * chain at XDP.  `before`: the book that is not in force may come back, and needs its own. */
int engine_steer_settle(struct engine *engine, bool before, struct error *error);
/* The book in force, or the other one.  NULL: there is none. */
const struct policy_unit *engine_steer_book(const struct engine *engine, bool other, size_t *ret_count);

struct packet;
struct policy_facts;
/* What the program at XDP does with a packet that it is asked about, by the book in force: the sentence's
 * rule, and the CPU that goes on with it.  0: nothing, it goes on where it comes in. */
uint32_t engine_steer_rule(const struct engine *engine, const struct packet *packet,
	const struct policy_facts *facts, unsigned int *ret_cpu);

/* The flags (STEER_*) of each interface, in both books.  To be called when they may be others, and for what
 * was brought. */
typedef uint32_t engine_steer_flags(void *context, uint32_t ifindex);
void engine_steer_follow(struct engine *engine, engine_steer_flags *flags, void *context);
/* Generic XDP has come into use: if something is steered, its program for that is there, too. */
int engine_steer_renew(struct engine *engine, struct error *error);

/* CPUs that are online now: those that can be steered to.  0 or a negative errno. */
int engine_steer_online(struct steer_cpus *ret_cpus);

/* Of a sentence (its rule's id), to a CPU: since it was made.  Sums of all CPUs that count. */
void engine_steer_count(
	const struct engine *engine, uint32_t rule, unsigned int cpu, struct steer_count *ret_count);
/* What a CPU has not got. */
void engine_steer_loss(const struct engine *engine, unsigned int cpu, struct steer_loss *ret_loss);
/* Is all that is dropped on the way counted?  Some kernel may not tell. */
bool engine_steer_losses_known(const struct engine *engine);

#endif
