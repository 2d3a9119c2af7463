/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Services in the kernel (shared/service.h): books beside each other, switched with the policies
 * (engine/policy.h, bit SERVICE_PLACE), rings by number, backends, and the connections that are written down.
 *
 * Everything is pinned: without the agent the datapath goes on, and the next one reads it back.  The maps are
 * made with the first service.
 */
#ifndef WEIR_ENGINE_SERVICE_H
#define WEIR_ENGINE_SERVICE_H

#include <stdbool.h>
#include <stdint.h>

#include "compile/service.h"
#include "engine/component.h"
#include "shared/service.h"

extern const struct engine_part service_part;

/* Was there ever a service, in this agent's time or before? */
bool engine_service_used(const struct engine *engine);
/* Makes the maps, if there are none.  `flows`: connections that may be written down; maps that are there keep
 * their size. */
int engine_service_prepare(struct engine *engine, uint32_t flows, struct error *error);

/* -- books -- */

/* Writes a book into the place that is not in force, behind engine_service_wait().  An empty image: no
 * services. */
int engine_service_bring(struct engine *engine, const struct service_image *image, struct error *error);
/* From now on connections of a service (its unit in the book in force) may be written down, also if the book
 * that is brought next is not confirmed. */
void engine_service_keep(struct engine *engine, uint32_t unit);
/* The book in force, or the other one.  NULL: there are no maps. */
const struct policy_unit *engine_service_book(const struct engine *engine, bool other);

/* -- rings -- */

/* The slots of a ring: SERVICE_RING_SLOTS numbers of backends.  NULL: there is no such ring. */
const uint16_t *engine_service_ring(const struct engine *engine, uint32_t number);
/* Writes the first `count` slots of a ring that no packet reads, behind engine_service_wait().  Its memory is
 * made where there is none. */
int engine_service_ring_set(
	struct engine *engine, uint32_t number, const uint16_t *slots, uint32_t count, struct error *error);
/* Writes one slot of a ring that packets read. */
void engine_service_ring_put(struct engine *engine, uint32_t number, uint32_t slot, uint16_t backend);
/* Waits until no packet reads what fell out of use before this call. */
void engine_service_wait(void);

/* -- backends and counters: mapped -- */

struct engine_service_memory {
	unsigned int cpus;
	struct service_backend *backends;   /* SERVICE_BACKENDS_MAX */
	struct service_source *sources;     /* the same */
	struct service_load *loads;         /* the same */
	const struct service_count *counts; /* a CPU's after another's */
	const struct service_lost *losses;  /* SERVICES_MAX a CPU */
};
/* NULL: there are no maps. */
const struct engine_service_memory *engine_service_memory(const struct engine *engine);
/* Sums of all CPUs. */
void engine_service_count(const struct engine *engine, uint32_t backend, struct service_count *ret_count);
void engine_service_lost(const struct engine *engine, uint32_t service, struct service_lost *ret_lost);
/* Begins anew with nothing counted. */
void engine_service_count_clear(struct engine *engine, uint32_t backend);
void engine_service_lost_clear(struct engine *engine, uint32_t service);

/* Do an interface's packets come by generic XDP? */
void engine_service_generic(struct engine *engine, uint32_t ifindex, bool generic);

/* -- connections that are written down -- */

/* 0, -EEXIST: it is there already, -E2BIG: there is no room. */
int engine_service_flow_put(
	struct engine *engine, const struct service_key *key, const struct service_flow *flow);
/* As it is now.  0 or -ENOENT. */
int engine_service_flow_get(
	struct engine *engine, const struct service_key *key, struct service_flow *ret_flow);
/* The same of a connection that has only begun. */
int engine_service_embryo_get(
	struct engine *engine, const struct service_key *key, struct service_flow *ret_flow);
int engine_service_flow_delete(struct engine *engine, const struct service_key *key);

/* How far a walk has come.  Zeroed, it begins. */
struct engine_service_cursor {
	bool started;
	uint32_t batch;
};
typedef void engine_service_flow_function(
	void *context, const struct service_key *key, const struct service_flow *flow);
/* Walks about `budget` entries on.  1: that was the last (and the cursor is zeroed); 0: there are more; or a
 * negative errno. */
int engine_service_flow_walk(struct engine *engine, struct engine_service_cursor *cursor, size_t budget,
	engine_service_flow_function *function, void *context);
/* The same of connections that have only begun. */
int engine_service_embryo_walk(struct engine *engine, struct engine_service_cursor *cursor, size_t budget,
	engine_service_flow_function *function, void *context);
/* Room for so many. */
uint32_t engine_service_flow_room(const struct engine *engine);

/* -- ways to backends -- */

/* How the kernel would send to an address. */
struct engine_hop {
	uint32_t index;
	bool local;    /* it is this host's own */
	bool several;  /* of all hosts of a network, or any of some */
	bool gateway;  /* through another host */
	bool has_from; /* … and this is what it would send from: 4 or 16 bytes */
	uint8_t from[16];
};
/* Of an address of 4 or 16 bytes.  0, -ENETUNREACH or -ENOMEM. */
int engine_hop_find(struct engine *engine, uint8_t family, const uint8_t *to, struct engine_hop *ret_hop);
/* Has the kernel look for the neighbour on the way there, and keep it. */
int engine_neighbour_use(struct engine *engine, uint8_t family, const uint8_t *to);

#endif
