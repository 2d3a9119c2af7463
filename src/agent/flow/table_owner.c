// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* Owners of flows: who a flow's is, and what is held back until that is clear (table.h). */
#include <netinet/in.h>
#include <string.h>

#include "agent/flow/table_internal.h"

/* A connection that nobody has accepted, or that nobody seems to have, is waited for so long. */
#define HOLD_MAX_NS 30000000000ULL

/* Where a flow that holds something back has its other direction on another interface: so many are asked. */
#define REVERSE_INTERFACES 16

bool table_owner_is_clear(uint32_t owner)
{
	return owner >= OWNER_FIRST && !(owner & OWNER_INHERITED);
}

/* How much an owner tells: of two the one that tells more is kept. */
static int owner_rank(uint32_t owner)
{
	if (table_owner_is_clear(owner))
		return 4;
	if (owner & OWNER_INHERITED)
		return 3;
	return owner == OWNER_FORWARDED ? 2 : owner == OWNER_KERNEL ? 1 : 0;
}

static void flow_set_owner(struct table *table, struct table_flow *flow, uint32_t owner)
{
	if (flow->owner == owner)
		return;
	table_total_flows(table, TABLE_OWNERS, flow->owner_total, -1);
	flow->owner = owner;
	flow->owner_total = table_owner_get(table, flow->owner);
	table_total_flows(table, TABLE_OWNERS, flow->owner_total, 1);
}

void table_flow_take_owner(struct table *table, struct table_flow *flow, const struct table_delta *delta)
{
	int known = owner_rank(flow->owner), seen = owner_rank(delta->owner);
	bool replaced = seen > known || (seen == known && delta->last_ns >= flow->last_ns) ||
	                (seen == 3 && delta->first_ns > flow->last_ns);

	if (replaced)
		flow_set_owner(table, flow, delta->owner);
}

/* The flow of the other direction, `widely` on any interface. */
static const struct table_flow *flow_reverse(struct table *table, const struct table_flow *flow, bool widely)
{
	uint32_t asked = 0, i = flow->reverse;
	struct table_key key;

	if ((i == TABLE_NONE && !widely) || !table_key_reverse(&flow->key, &key))
		return NULL;
	/* the place may have become another flow's */
	if (i < table->memory->flows_used && table->flows[i].state == TABLE_LIVE &&
		memcmp(&table->flows[i].key, &key, sizeof(key)) == 0)
		return &table->flows[i];
	for (uint32_t n = 1; widely && n < table->interface_count; n++) {
		if (table->interface_of[n] == TABLE_NONE || n == flow->key.ifindex)
			continue;
		if (++asked > REVERSE_INTERFACES)
			break;
		key.ifindex = n;
		i = table_find_flow(table, &key);
		if (i != TABLE_NONE)
			return &table->flows[i];
	}
	return NULL;
}

/* Whose: who answers knows best whose is what came in, and who sends whose is what went out. */
static uint32_t flow_owner(struct table *table, const struct table_flow *flow, bool widely)
{
	const struct table_flow *reverse = flow_reverse(table, flow, widely);
	uint32_t own = flow->owner, other = reverse ? reverse->owner : OWNER_UNKNOWN;

	if (table_owner_is_clear(own) && table_owner_is_clear(other))
		return flow->key.kind & FLOW_KIND_OUT ? own : other;
	return owner_rank(other) > owner_rank(own) ? other : own;
}

uint32_t table_flow_owner(struct table *table, uint32_t flow)
{
	return flow_owner(table, &table->flows[flow], false) & ~OWNER_INHERITED;
}

uint32_t table_flow_total(struct table *table, const struct table_flow *flow, uint32_t owner)
{
	return owner == flow->owner ? flow->owner_total : table_owner_get(table, owner);
}

/*
 * May a later collection tell more about whose it is?  Of what began while this one went over the cache it
 * has seen some lines and others not: what one says alone (that the kernel answers) another may know better.
 */
static bool owner_may_show(const struct table_flow *flow, uint32_t owner, uint64_t now_ns)
{
	if (table_owner_is_clear(owner))
		return false;
	if (flow->first_ns >= now_ns)
		return true;
	if (now_ns - flow->first_ns >= HOLD_MAX_NS)
		return false;
	return owner & OWNER_INHERITED || (owner == OWNER_UNKNOWN && flow->key.proto == IPPROTO_TCP);
}

void table_held_change(struct table *table, const struct table_flow *flow, uint64_t packets, uint64_t bytes)
{
	struct table_counts *held = flow->key.kind & FLOW_KIND_OUT ? &table->held_out : &table->held_in;

	held->packets += packets;
	held->bytes += bytes;
}

void table_held_link(struct table *table, uint32_t i)
{
	if (table->flows[i].next_held != NOT_HELD)
		return;
	table->flows[i].next_held = table->held_list;
	table->held_list = i;
}

void table_flow_hold(struct table *table, uint32_t i, const struct table_delta *delta)
{
	struct table_flow *flow = &table->flows[i];

	table_journal_add(
		table, REGION_FLOWS, &flow->held.packets, flow->held.packets + delta->counts.packets);
	table_journal_add(table, REGION_FLOWS, &flow->held.bytes, flow->held.bytes + delta->counts.bytes);
	table_held_change(table, flow, delta->counts.packets, delta->counts.bytes);
	table_held_link(table, i);
}

bool table_flow_charge(struct table *table, uint32_t i, uint64_t now_ns, bool final)
{
	struct table_flow *flow = &table->flows[i];
	uint32_t owner = flow_owner(table, flow, final);
	struct table_delta delta;

	if (!final && owner_may_show(flow, owner, now_ns))
		return false;
	delta = (struct table_delta){.key.kind = flow->key.kind,
		.counts = flow->held,
		.first_ns = flow->first_ns,
		.last_ns = flow->last_ns};
	table_held_change(table, flow, -flow->held.packets, -flow->held.bytes);
	table_total_add(table, TABLE_OWNERS, table_flow_total(table, flow, owner), &delta);
	table_journal_add(table, REGION_FLOWS, &flow->held.packets, 0);
	table_journal_add(table, REGION_FLOWS, &flow->held.bytes, 0);
	table_journal_commit(table);
	flow_set_owner(table, flow, owner);
	return true;
}

void table_charge_all(struct table *table, uint64_t now_ns)
{
	uint32_t *link = &table->held_list, i;

	while ((i = *link) != TABLE_NONE) {
		struct table_flow *flow = &table->flows[i];

		if (flow->state == TABLE_LIVE && flow->held.packets &&
			!table_flow_charge(table, i, now_ns, false)) {
			link = &flow->next_held;
			continue;
		}
		*link = flow->next_held;
		flow->next_held = NOT_HELD;
	}
}

bool table_forget_owner(struct table *table, uint32_t owner)
{
	struct table_pool *pool = &table->pools[TABLE_OWNERS];
	struct table_total *other = &pool->totals[TABLE_OTHER], *total;
	uint32_t i = table_find_owner(table, owner), *link;

	if (i == TABLE_NONE)
		return true;
	total = &pool->totals[i];
	if (total->flows)
		return false;
	other->rate_in.bytes += total->in.bytes; /* nothing that moves now */
	other->rate_out.bytes += total->out.bytes;
	table_journal_add(table, REGION_OWNERS, &other->in.packets, other->in.packets + total->in.packets);
	table_journal_add(table, REGION_OWNERS, &other->in.bytes, other->in.bytes + total->in.bytes);
	table_journal_add(table, REGION_OWNERS, &other->out.packets, other->out.packets + total->out.packets);
	table_journal_add(table, REGION_OWNERS, &other->out.bytes, other->out.bytes + total->out.bytes);
	table_journal_add(table, REGION_OWNERS, &total->in.packets, 0);
	table_journal_add(table, REGION_OWNERS, &total->in.bytes, 0);
	table_journal_add(table, REGION_OWNERS, &total->out.packets, 0);
	table_journal_add(table, REGION_OWNERS, &total->out.bytes, 0);
	table_journal_commit(table);
	for (link = table_total_head(table, pool, total->key); *link != i;)
		link = &pool->totals[*link].next;
	*link = total->next;
	total->state = TABLE_FREE;
	total->next = pool->free_list;
	pool->free_list = i;
	return true;
}
