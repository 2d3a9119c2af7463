/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* The merged table from inside: what its files share. */
#ifndef WEIR_AGENT_TABLE_INTERNAL_H
#define WEIR_AGENT_TABLE_INTERNAL_H

#include "agent/flow/table.h"

#define CPUS_MAX    4096
#define JOURNAL_MAX 16
#define NOT_HELD    (TABLE_NONE - 1) /* next_held of a flow that is not on the list */

enum table_region {
	REGION_STATE,
	REGION_FLOWS,
	REGION_HOSTS,
	REGION_PORTS,
	REGION_INTERFACES,
	REGION_OWNERS,
	REGION_LINES4,
	REGION_LINES6,
	REGION_COUNT
};

/* A word in a region: where, in a form that holds in the next process too, and what it is to become. */
struct journal_entry {
	uint32_t region;
	uint32_t pad;
	uint64_t offset;
	uint64_t value;
};

struct table_journal {
	uint32_t count; /* entries that are to be written; 0: nothing is open */
	uint32_t pad;
	struct journal_entry entry[JOURNAL_MAX];
};

/* The start of region "state". */
struct table_memory {
	struct table_journal journal;
	uint64_t seed;
	uint32_t flows_used; /* entries that were ever used; grows only */
	uint32_t totals_used[TABLE_POOLS];
	struct table_counts sampled_out, refused;
	struct table_ended ended;
	uint64_t tick_ns;
	uint64_t done[CPUS_MAX]; /* position of the last record of each CPU, plus 1 */
};

struct table_pool {
	struct engine_region *region;
	struct table_total *totals;
	uint32_t *heads, mask;
	uint32_t limit;
	uint32_t free_list;
};

struct table {
	struct engine *engine;
	struct engine_region regions[REGION_COUNT];
	struct table_memory *memory;
	struct table_journal journal; /* in preparation */
	uint64_t *targets[JOURNAL_MAX];
	struct table_limits limits;
	struct table_flow *flows;
	uint32_t flows_limit, live, free_list;
	uint32_t *heads, mask;
	struct table_pool pools[TABLE_POOLS];
	uint32_t *interface_of; /* total by ifindex; TABLE_NONE: not known */
	uint32_t interface_count;
	uint32_t held_list;
	struct table_counts held_in, held_out;
};

/* These are asked for each line of a scan, so they are here. */

static inline void table_journal_add(
	struct table *table, enum table_region region, uint64_t *target, uint64_t value)
{
	uint32_t i = table->journal.count++;

	table->targets[i] = target;
	table->journal.entry[i] = (struct journal_entry){
		.region = region,
		.offset = (uint64_t)((char *)target - (char *)table->regions[region].base),
		.value = value,
	};
}

static inline uint64_t table_hash(uint64_t seed, const void *data, size_t bytes)
{
	const uint32_t *words = data;
	uint64_t hash = seed;

	for (size_t i = 0; i < bytes / sizeof(*words); i++) {
		hash = (hash ^ words[i]) * 0x9fb21c651e98df25ULL;
		hash ^= hash >> 32;
	}
	return hash;
}

static inline uint32_t *table_flow_head(struct table *table, const struct table_key *key)
{
	return &table->heads[table_hash(table->memory->seed, key, sizeof(*key)) & table->mask];
}

static inline uint32_t *table_total_head(struct table *table, struct table_pool *pool, const uint8_t *key)
{
	return &pool->heads[table_hash(table->memory->seed, key, sizeof(pool->totals->key)) & pool->mask];
}

/* All that was added, or nothing of it: where there is an agent after this one, too. */
void table_journal_commit(struct table *table);

/* table.c */
uint32_t table_owner_get(struct table *table, uint32_t owner);
void table_total_flows(struct table *table, enum table_pool_name pool, uint32_t total, int change);
void table_total_add(
	struct table *table, enum table_pool_name pool, uint32_t i, const struct table_delta *delta);
void table_flow_link(struct table *table, uint32_t i);
/* The key of the other direction; false: there is none. */
bool table_key_reverse(const struct table_key *key, struct table_key *ret_reverse);

/* table_owner.c */
bool table_owner_is_clear(uint32_t owner);
/* The flow's owner after this delta.  A connection that began after everything known of the flow is a new
 * one, in the place of one of the same addresses and ports. */
void table_flow_take_owner(struct table *table, struct table_flow *flow, const struct table_delta *delta);
/* The entry of an owner, which most often is the one the flow has. */
uint32_t table_flow_total(struct table *table, const struct table_flow *flow, uint32_t owner);
void table_held_change(struct table *table, const struct table_flow *flow, uint64_t packets, uint64_t bytes);
void table_held_link(struct table *table, uint32_t i);
void table_flow_hold(struct table *table, uint32_t i, const struct table_delta *delta);
/* Gives the owner what the flow holds back.  False: it is not clear yet who that is, and there is time
 * (`final`: there is none). */
bool table_flow_charge(struct table *table, uint32_t i, uint64_t now_ns, bool final);
void table_charge_all(struct table *table, uint64_t now_ns);

/* table_open.c */
uint32_t table_power_of_two(uint32_t at_least);

#endif
