// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* The merged table's memory: opened, as an agent before this one may have left it, and limited. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "agent/flow/table_internal.h"

#define PORTS_LIMIT      16384
#define INTERFACES_LIMIT 1024

static const char *const region_names[REGION_COUNT] = {
	"state", "flows", "hosts", "ports", "interfaces", "owners", "lines4", "lines6"};

/* The agent before was killed between the journal and the last of its stores. */
static int journal_redo(struct table *table)
{
	struct table_journal *kept = &table->memory->journal;

	if (kept->count > JOURNAL_MAX)
		return -EBADMSG;
	for (uint32_t i = 0; i < kept->count; i++) {
		const struct journal_entry *entry = &kept->entry[i];

		if (entry->region >= REGION_COUNT || entry->offset % sizeof(uint64_t) ||
			entry->offset + sizeof(uint64_t) > table->regions[entry->region].size)
			return -EBADMSG;
		*(uint64_t *)((char *)table->regions[entry->region].base + entry->offset) = entry->value;
	}
	__atomic_store_n(&kept->count, 0, __ATOMIC_RELEASE);
	return 0;
}

uint32_t table_power_of_two(uint32_t at_least)
{
	uint32_t n = 1;

	while (n < at_least)
		n <<= 1;
	return n;
}

static uint32_t *heads_new(uint32_t entries, uint32_t *ret_mask)
{
	uint32_t count = table_power_of_two(entries), *heads = malloc(count * sizeof(*heads));

	if (heads)
		memset(heads, 0xff, count * sizeof(*heads)); /* TABLE_NONE */
	*ret_mask = count - 1;
	return heads;
}

static uint32_t reserve_flows(uint32_t limit)
{
	/* addresses cost nothing: leave room for a larger limit in a later configuration */
	return limit < 1U << 24 ? 1U << 24 : limit;
}

static int regions_open(struct table *table, struct error *error)
{
	const struct engine_view *view = engine_view(table->engine);
	size_t lines4 = (size_t)view->cpus * view->sets4 * FLOW_WAYS * sizeof(struct table_line);
	size_t lines6 = (size_t)view->cpus * view->sets6 * FLOW_WAYS * sizeof(struct table_line);
	const struct {
		size_t limit, now;
	} sizes[REGION_COUNT] = {
		[REGION_STATE] = {sizeof(struct table_memory), sizeof(struct table_memory)},
		[REGION_FLOWS] = {reserve_flows(table->limits.flows) * sizeof(struct table_flow), 0},
		[REGION_HOSTS] = {(size_t)(1U << 20) * sizeof(struct table_total),
			sizeof(struct table_total)},
		[REGION_PORTS] = {PORTS_LIMIT * sizeof(struct table_total), sizeof(struct table_total)},
		[REGION_INTERFACES] = {INTERFACES_LIMIT * sizeof(struct table_total),
			sizeof(struct table_total)},
		[REGION_OWNERS] = {(size_t)(1U << 20) * sizeof(struct table_total),
			sizeof(struct table_total)},
		[REGION_LINES4] = {lines4, lines4},
		[REGION_LINES6] = {lines6, lines6},
	};

	for (int i = 0; i < REGION_COUNT; i++) {
		int r = engine_region_open(
			table->engine, region_names[i], sizes[i].limit, &table->regions[i], error);

		if (r == 0)
			r = engine_region_grow(table->engine, &table->regions[i], sizes[i].now);
		if (r < 0)
			return error_set(error, r, "cannot get memory for the table of %s: %s",
				region_names[i], strerror(-r));
	}
	return 0;
}

static int pools_open(struct table *table)
{
	const uint32_t limits[TABLE_POOLS] = {[TABLE_HOSTS] = table->limits.hosts,
		[TABLE_PORTS] = PORTS_LIMIT,
		[TABLE_INTERFACES] = INTERFACES_LIMIT,
		[TABLE_OWNERS] = table->limits.owners};

	for (int p = 0; p < TABLE_POOLS; p++) {
		struct table_pool *pool = &table->pools[p];
		uint32_t *used = &table->memory->totals_used[p];

		pool->region = &table->regions[REGION_HOSTS + p];
		pool->totals = pool->region->base;
		pool->limit = limits[p];
		pool->free_list = TABLE_NONE;
		if (!*used) {
			pool->totals[TABLE_OTHER].state = TABLE_LIVE;
			*used = 1;
		}
		pool->heads = heads_new(pool->limit > *used ? pool->limit : *used, &pool->mask);
		if (!pool->heads)
			return -ENOMEM;
		for (uint32_t i = 0; i < *used; i++) {
			uint32_t *head = table_total_head(table, pool, pool->totals[i].key);

			pool->totals[i].flows = 0;
			if (i == TABLE_OTHER)
				continue;
			if (pool->totals[i].state != TABLE_LIVE)
				head = &pool->free_list;
			pool->totals[i].next = *head;
			*head = i;
		}
	}
	return 0;
}

/* Index, free list and numbers of flows are not kept: they follow from the entries. */
static int flows_open(struct table *table)
{
	uint32_t used = table->memory->flows_used;

	table->flows = table->regions[REGION_FLOWS].base;
	table->flows_limit = table->limits.flows > used ? table->limits.flows : used;
	table->heads = heads_new(table->flows_limit, &table->mask);
	if (!table->heads)
		return -ENOMEM;
	table->free_list = TABLE_NONE;
	table->held_list = TABLE_NONE;
	for (uint32_t i = used; i-- > 0;) {
		struct table_flow *flow = &table->flows[i];

		flow->next_held = NOT_HELD;
		if (flow->state == TABLE_LIVE) {
			flow->owner_total = table_owner_get(table, flow->owner);
			table_flow_link(table, i);
			table_held_change(table, flow, flow->held.packets, flow->held.bytes);
			if (flow->held.packets)
				table_held_link(table, i);
		} else {
			flow->next = table->free_list;
			table->free_list = i;
		}
	}
	return 0;
}

int table_open(struct engine *engine, const struct table_limits *limits, struct table **ret_table,
	struct error *error)
{
	struct table *table = calloc(1, sizeof(*table));
	int r;

	if (!table)
		return error_set(error, -ENOMEM, "out of memory");
	table->engine = engine;
	table->limits = *limits;
	r = regions_open(table, error);
	if (r < 0) {
		table_close(table);
		return r;
	}
	table->memory = table->regions[REGION_STATE].base;
	if (!table->memory->seed && getrandom(&table->memory->seed, sizeof(table->memory->seed), 0) !=
					    sizeof(table->memory->seed))
		r = -errno;
	if (r == 0)
		r = journal_redo(table);
	if (r == 0)
		r = pools_open(table);
	if (r == 0)
		r = flows_open(table);
	if (r < 0) {
		table_close(table);
		return error_set(error, r, "cannot open the table of flows: %s", strerror(-r));
	}
	*ret_table = table;
	return 0;
}

void table_close(struct table *table)
{
	if (!table)
		return;
	for (int p = 0; p < TABLE_POOLS; p++)
		free(table->pools[p].heads);
	for (int i = 0; i < REGION_COUNT; i++)
		engine_region_close(&table->regions[i]);
	free(table->heads);
	free(table->interface_of);
	free(table);
}

void table_set_limits(struct table *table, const struct table_limits *limits)
{
	table->limits = *limits;
	/* smaller limits than what is in use take effect as entries leave; hash heads keep their number */
	table->flows_limit =
		limits->flows > table->memory->flows_used ? limits->flows : table->memory->flows_used;
	table->pools[TABLE_HOSTS].limit = limits->hosts;
	table->pools[TABLE_OWNERS].limit = limits->owners;
}
