// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* The merged table: totals, flows, what is accounted to them, and time. */
#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/flow/table_internal.h"

#define TICK_MIN_NS 900000000ULL /* rates over less are noise */

/* Sampling begins when the table is nearly full and doubles its rate in each of twelve steps from there. */
#define SAMPLE_FROM(limit) ((limit) / 16 * 15)
#define SAMPLE_STEP(limit) ((limit) / 16 / SAMPLE_SHIFT_MAX + 1)
#define SAMPLE_SHIFT_MAX   12

/* Under pressure a flow that was idle for so much of its time-out leaves early. */
#define PRESSURE_IDLE_PART 4

void table_journal_commit(struct table *table)
{
	struct table_journal *kept = &table->memory->journal;

	memcpy(kept->entry, table->journal.entry, table->journal.count * sizeof(kept->entry[0]));
	__atomic_store_n(&kept->count, table->journal.count, __ATOMIC_RELEASE);
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	for (uint32_t i = 0; i < table->journal.count; i++)
		__atomic_store_n(table->targets[i], table->journal.entry[i].value, __ATOMIC_RELAXED);
	__atomic_store_n(&kept->count, 0, __ATOMIC_RELEASE);
	table->journal.count = 0;
}

/* -- totals -- */

static uint32_t total_find(struct table *table, struct table_pool *pool, const uint8_t *key)
{
	uint32_t i = *table_total_head(table, pool, key);

	while (i != TABLE_NONE && memcmp(pool->totals[i].key, key, sizeof(pool->totals[i].key)) != 0)
		i = pool->totals[i].next;
	return i;
}

/* Finds or makes the total of a key; what finds no room is TABLE_OTHER. */
static uint32_t total_get(struct table *table, enum table_pool_name name, const uint8_t key[20])
{
	struct table_pool *pool = &table->pools[name];
	uint32_t i = total_find(table, pool, key), *head, *used = &table->memory->totals_used[name];
	struct table_total *total;

	if (i != TABLE_NONE)
		return i;
	i = pool->free_list != TABLE_NONE ? pool->free_list : *used;
	if (i == *used && (i >= pool->limit || engine_region_grow(table->engine, pool->region,
						       (i + 1) * sizeof(*pool->totals)) < 0))
		return TABLE_OTHER;
	total = &pool->totals[i];
	if (i == pool->free_list)
		pool->free_list = total->next;
	*total = (struct table_total){};
	memcpy(total->key, key, sizeof(total->key));
	head = table_total_head(table, pool, key);
	total->next = *head;
	*head = i;
	__atomic_store_n(&total->state, TABLE_LIVE, __ATOMIC_RELEASE); /* now it is there for a next agent */
	if (i == *used)
		__atomic_store_n(used, i + 1, __ATOMIC_RELEASE);
	return i;
}

static uint32_t host_get(struct table *table, const struct table_key *key)
{
	struct table_total total;

	if (!(key->kind & (FLOW_KIND_IPV4 | FLOW_KIND_IPV6)))
		return TABLE_NONE;
	memset(&total, 0, sizeof(total)); /* all of the key, whichever part of it is used */
	memcpy(total.address, key->kind & FLOW_KIND_OUT ? key->dst : key->src, sizeof(total.address));
	total.family = key->kind & FLOW_KIND_IPV4 ? 4 : 6;
	return total_get(table, TABLE_HOSTS, total.key);
}

static uint16_t service_port(const struct table_key *key, uint8_t origin)
{
	uint16_t sport = ntohs(key->sport), dport = ntohs(key->dport);

	if (origin & FLOW_ORIGIN_INITIATOR)
		return dport;
	if (origin & FLOW_ORIGIN_RESPONDER)
		return sport;
	return sport && (sport < dport || !dport) ? sport : dport;
}

static uint32_t port_get(struct table *table, const struct table_key *key, uint8_t origin)
{
	struct table_total total;

	if (!(key->kind & FLOW_KIND_PORTS))
		return TABLE_NONE;
	memset(&total, 0, sizeof(total));
	total.port = service_port(key, origin);
	total.proto = key->proto;
	return total_get(table, TABLE_PORTS, total.key);
}

static struct table_total owner_key(uint32_t owner)
{
	struct table_total total;

	memset(&total, 0, sizeof(total));
	total.owner = owner & ~OWNER_INHERITED;
	return total;
}

uint32_t table_owner_get(struct table *table, uint32_t owner)
{
	struct table_total total = owner_key(owner);

	return total_get(table, TABLE_OWNERS, total.key);
}

uint32_t table_find_owner(struct table *table, uint32_t owner)
{
	struct table_total total = owner_key(owner);

	return total_find(table, &table->pools[TABLE_OWNERS], total.key);
}

static int interface_map(struct table *table, uint32_t ifindex)
{
	uint32_t count = table_power_of_two(ifindex + 1), *grown;

	if (ifindex < table->interface_count)
		return 0;
	if (ifindex >= 1U << 24)
		return -ERANGE;
	grown = realloc(table->interface_of, count * sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	memset(grown + table->interface_count, 0xff, (count - table->interface_count) * sizeof(*grown));
	table->interface_of = grown;
	table->interface_count = count;
	return 0;
}

uint32_t table_name_interface(struct table *table, uint32_t ifindex, const char *name)
{
	struct table_total total;
	uint32_t i;

	memset(&total, 0, sizeof(total));
	snprintf(total.name, sizeof(total.name), "%s", name);
	i = total_get(table, TABLE_INTERFACES, total.key);
	if (ifindex && interface_map(table, ifindex) == 0)
		table->interface_of[ifindex] = i;
	return i;
}

static uint32_t interface_get(const struct table *table, uint32_t ifindex)
{
	if (ifindex < table->interface_count && table->interface_of[ifindex] != TABLE_NONE)
		return table->interface_of[ifindex];
	return TABLE_OTHER;
}

/* -- flows -- */

static uint32_t sample_shift(const struct table *table)
{
	uint32_t from = SAMPLE_FROM(table->flows_limit), shift;

	if (table->live < from)
		return 0;
	shift = 1 + (table->live - from) / SAMPLE_STEP(table->flows_limit);
	return shift < SAMPLE_SHIFT_MAX ? shift : SAMPLE_SHIFT_MAX;
}

uint32_t table_find_flow(struct table *table, const struct table_key *key)
{
	uint32_t i = *table_flow_head(table, key);

	while (i != TABLE_NONE && memcmp(&table->flows[i].key, key, sizeof(*key)) != 0)
		i = table->flows[i].next;
	return i;
}

void table_total_flows(struct table *table, enum table_pool_name pool, uint32_t total, int change)
{
	if (total != TABLE_NONE)
		table->pools[pool].totals[total].flows += (uint32_t)change;
}

void table_flow_link(struct table *table, uint32_t i)
{
	struct table_flow *flow = &table->flows[i];
	uint32_t *head = table_flow_head(table, &flow->key);

	flow->next = *head;
	*head = i;
	table->live++;
	table_total_flows(table, TABLE_HOSTS, flow->host, 1);
	table_total_flows(table, TABLE_PORTS, flow->port, 1);
	table_total_flows(table, TABLE_INTERFACES, flow->interface, 1);
	table_total_flows(table, TABLE_OWNERS, flow->owner_total, 1);
}

static void flow_free(struct table *table, uint32_t i)
{
	struct table_flow *flow = &table->flows[i];
	uint32_t *link = table_flow_head(table, &flow->key);

	if (flow->held.packets)
		table_flow_charge(table, i, 0, true);
	while (*link != i)
		link = &table->flows[*link].next;
	*link = flow->next;
	table->live--;
	table_total_flows(table, TABLE_HOSTS, flow->host, -1);
	table_total_flows(table, TABLE_PORTS, flow->port, -1);
	table_total_flows(table, TABLE_INTERFACES, flow->interface, -1);
	table_total_flows(table, TABLE_OWNERS, flow->owner_total, -1);
	flow->state = TABLE_FREE;
	flow->next = table->free_list;
	table->free_list = i;
}

/* Room for a flow, or TABLE_NONE. */
static uint32_t flow_allocate(struct table *table)
{
	uint32_t i = table->free_list;

	if (i != TABLE_NONE) {
		table->free_list = table->flows[i].next;
		return i;
	}
	i = table->memory->flows_used;
	if (i >= table->flows_limit || engine_region_grow(table->engine, &table->regions[REGION_FLOWS],
					       (i + 1) * sizeof(*table->flows)) < 0)
		return TABLE_NONE;
	table->flows[i].next_held = NOT_HELD;
	table->memory->flows_used = i + 1;
	return i;
}

bool table_key_reverse(const struct table_key *key, struct table_key *ret_reverse)
{
	static const uint8_t echoes[][2] = {{8, 0}, {0, 8}, {128, 129}, {129, 128}};
	struct table_key reverse = *key;

	memcpy(reverse.src, key->dst, sizeof(reverse.src));
	memcpy(reverse.dst, key->src, sizeof(reverse.dst));
	reverse.kind ^= FLOW_KIND_OUT;
	*ret_reverse = reverse;
	if (!(key->kind & FLOW_KIND_ICMP)) {
		ret_reverse->sport = key->dport;
		ret_reverse->dport = key->sport;
		return true;
	}
	for (size_t i = 0; i < sizeof(echoes) / sizeof(echoes[0]); i++)
		if (key->dport == htons((uint16_t)(echoes[i][0] << 8))) {
			ret_reverse->dport = htons((uint16_t)(echoes[i][1] << 8));
			return true;
		}
	return false;
}

/* The two directions of a connection know each other from the moment the second is there. */
static void flow_pair(struct table *table, uint32_t i)
{
	struct table_flow *flow = &table->flows[i];
	struct table_key key;

	if (!table_key_reverse(&flow->key, &key))
		return;
	flow->reverse = table_find_flow(table, &key);
	if (flow->reverse != TABLE_NONE)
		table->flows[flow->reverse].reverse = i;
}

/* Finds the flow or admits it; TABLE_NONE where it is sampled out (*ret_sampled) or there is no room. */
static uint32_t flow_get(struct table *table, const struct table_delta *delta, bool *ret_sampled)
{
	uint32_t i = table_find_flow(table, &delta->key), shift;
	struct table_flow *flow;

	*ret_sampled = false;
	if (i != TABLE_NONE)
		return i;
	shift = sample_shift(table);
	/* upper bits: the lower ones choose the chain */
	if (shift && table_hash(table->memory->seed, &delta->key, sizeof(delta->key)) >> (64 - shift)) {
		*ret_sampled = true;
		return TABLE_NONE;
	}
	i = flow_allocate(table);
	if (i == TABLE_NONE)
		return i;
	flow = &table->flows[i];
	*flow = (struct table_flow){
		.key = delta->key,
		.first_ns = delta->first_ns,
		.last_ns = delta->last_ns,
		.host = host_get(table, &delta->key),
		.port = port_get(table, &delta->key, delta->origin),
		.interface = interface_get(table, delta->key.ifindex),
		.sample_shift = (uint8_t)shift,
		.owner = delta->owner,
		.owner_total = table_owner_get(table, delta->owner),
		.reverse = TABLE_NONE,
		.next_held = flow->next_held, /* the place may still be on the list */
	};
	flow_pair(table, i);
	table_flow_link(table, i);
	__atomic_store_n(&flow->state, TABLE_LIVE, __ATOMIC_RELEASE);
	return i;
}

void table_total_add(
	struct table *table, enum table_pool_name pool, uint32_t i, const struct table_delta *delta)
{
	enum table_region region = REGION_HOSTS + (enum table_region)pool;
	struct table_total *total;
	struct table_counts *counts;

	if (i == TABLE_NONE)
		return;
	total = &table->pools[pool].totals[i];
	counts = delta->key.kind & FLOW_KIND_OUT ? &total->out : &total->in;
	if (!total->first_ns || delta->first_ns < total->first_ns)
		total->first_ns = delta->first_ns;
	if (delta->last_ns > total->last_ns)
		total->last_ns = delta->last_ns;
	table_journal_add(table, region, &counts->packets, counts->packets + delta->counts.packets);
	table_journal_add(table, region, &counts->bytes, counts->bytes + delta->counts.bytes);
}

static void counts_add(struct table *table, struct table_counts *counts, const struct table_delta *delta)
{
	table_journal_add(table, REGION_STATE, &counts->packets, counts->packets + delta->counts.packets);
	table_journal_add(table, REGION_STATE, &counts->bytes, counts->bytes + delta->counts.bytes);
}

bool table_has_record(const struct table *table, unsigned int cpu, uint64_t position)
{
	return table->memory->done[cpu] == position + 1;
}

void table_account(struct table *table, const struct table_delta *delta)
{
	enum table_region lines = delta->key.kind & FLOW_KIND_IPV6 ? REGION_LINES6 : REGION_LINES4;
	uint64_t words[2];

	if (delta->counts.packets) {
		uint32_t host, port, interface = interface_get(table, delta->key.ifindex), i = TABLE_NONE,
				     owner = TABLE_NONE;
		bool is_flow = delta->key.kind & (FLOW_KIND_IPV4 | FLOW_KIND_IPV6), sampled = false;

		if (is_flow)
			i = flow_get(table, delta, &sampled);
		if (i != TABLE_NONE) {
			struct table_flow *flow = &table->flows[i];

			table_flow_take_owner(table, flow, delta);
			if (delta->first_ns < flow->first_ns)
				flow->first_ns = delta->first_ns;
			if (delta->last_ns >= flow->last_ns) {
				flow->last_ns = delta->last_ns;
				flow->rule = delta->rule;
				flow->verdict = delta->verdict;
				flow->backend = delta->backend;
			}
			flow->tcp_flags |= delta->tcp_flags;
			flow->origin |= delta->origin;
			host = flow->host;
			port = flow->port;
			table_journal_add(table, REGION_FLOWS, &flow->counts.packets,
				flow->counts.packets + delta->counts.packets);
			table_journal_add(table, REGION_FLOWS, &flow->counts.bytes,
				flow->counts.bytes + delta->counts.bytes);
			if (delta->key.kind & FLOW_KIND_OUT && table_owner_is_clear(delta->owner))
				owner = table_flow_total(table, flow, delta->owner);
			else
				table_flow_hold(table, i, delta);
		} else {
			owner = table_owner_get(table, delta->owner);
			host = host_get(table, &delta->key);
			port = port_get(table, &delta->key, delta->origin);
			if (is_flow)
				counts_add(table,
					sampled ? &table->memory->sampled_out : &table->memory->refused,
					delta);
		}
		table_total_add(table, TABLE_HOSTS, host, delta);
		table_total_add(table, TABLE_PORTS, port, delta);
		table_total_add(table, TABLE_INTERFACES, interface, delta);
		table_total_add(table, TABLE_OWNERS, owner, delta);
	}
	if (delta->line) {
		memcpy(words, &delta->accounted, sizeof(words));
		table_journal_add(table, lines, (uint64_t *)delta->line, words[0]);
		table_journal_add(table, lines, (uint64_t *)delta->line + 1, words[1]);
	}
	if (delta->position)
		table_journal_add(table, REGION_STATE, &table->memory->done[delta->cpu], delta->position);
	table_journal_commit(table);
}

/* -- time -- */

static void rate_tick(struct table_rate *rate, uint64_t bytes, uint64_t elapsed_ns)
{
	/* bytes may have begun anew with an active flow's new entry */
	uint64_t delta = bytes >= rate->bytes ? bytes - rate->bytes : bytes;

	if (!delta && !rate->bps)
		return;
	rate->bps = (uint64_t)((double)delta * 8e9 / (double)elapsed_ns);
	rate->bytes = bytes;
}

enum flow_end { FLOW_STAYS, FLOW_IDLE, FLOW_CLOSED, FLOW_PRESSURE };

static enum flow_end flow_end(
	const struct table *table, const struct table_flow *flow, uint64_t now_ns, bool pressure)
{
	uint64_t idle_ns = now_ns > flow->last_ns ? now_ns - flow->last_ns : 0;
	bool closed = flow->tcp_flags & TABLE_CLOSING_FLAGS;

	if (closed && idle_ns >= table->limits.closed_ns)
		return FLOW_CLOSED;
	if (idle_ns >= table->limits.idle_ns)
		return FLOW_IDLE;
	if (pressure && (closed || idle_ns >= table->limits.idle_ns / PRESSURE_IDLE_PART))
		return FLOW_PRESSURE;
	return FLOW_STAYS;
}

static void flow_tick(struct table *table, uint32_t i, uint64_t now_ns, uint64_t elapsed_ns, bool pressure)
{
	struct table_flow *flow = &table->flows[i];
	struct table_ended *ended = &table->memory->ended;

	rate_tick(&flow->rate, flow->counts.bytes, elapsed_ns);
	switch (flow_end(table, flow, now_ns, pressure)) {
	case FLOW_STAYS:
		if (table->limits.active_ns && now_ns - flow->first_ns >= table->limits.active_ns) {
			ended->active++;
			flow->counts = (struct table_counts){};
			flow->rate.bytes = 0;
			flow->first_ns = flow->last_ns;
		}
		return;
	case FLOW_IDLE:
		ended->idle++;
		break;
	case FLOW_CLOSED:
		ended->closed++;
		break;
	case FLOW_PRESSURE:
		ended->pressure++;
		break;
	}
	flow_free(table, i);
}

void table_tick(struct table *table, uint64_t now_ns)
{
	uint64_t elapsed_ns = now_ns - table->memory->tick_ns;
	bool pressure = table->live >= SAMPLE_FROM(table->flows_limit);

	table_charge_all(table, now_ns);
	if (elapsed_ns < TICK_MIN_NS)
		return;
	table->memory->tick_ns = now_ns;
	for (uint32_t i = 0; i < table->memory->flows_used; i++)
		if (table->flows[i].state == TABLE_LIVE)
			flow_tick(table, i, now_ns, elapsed_ns, pressure);
	for (int p = 0; p < TABLE_POOLS; p++)
		for (uint32_t i = 0; i < table->memory->totals_used[p]; i++) {
			struct table_total *total = &table->pools[p].totals[i];

			rate_tick(&total->rate_in, total->in.bytes, elapsed_ns);
			rate_tick(&total->rate_out, total->out.bytes, elapsed_ns);
		}
}

struct table_line *table_lines4(struct table *table)
{
	return table->regions[REGION_LINES4].base;
}

struct table_line *table_lines6(struct table *table)
{
	return table->regions[REGION_LINES6].base;
}

uint32_t table_flow_count(const struct table *table)
{
	return table->memory->flows_used;
}

const struct table_flow *table_flow(const struct table *table, uint32_t flow)
{
	return &table->flows[flow];
}

uint32_t table_total_count(const struct table *table, enum table_pool_name pool)
{
	return table->memory->totals_used[pool];
}

const struct table_total *table_total(const struct table *table, enum table_pool_name pool, uint32_t total)
{
	return &table->pools[pool].totals[total];
}

void table_summarize(const struct table *table, struct table_summary *ret_summary)
{
	*ret_summary = (struct table_summary){
		.flows = table->live,
		.flows_limit = table->flows_limit,
		.hosts = table->memory->totals_used[TABLE_HOSTS] - 1,
		.hosts_limit = table->pools[TABLE_HOSTS].limit,
		.sample_rate = 1U << sample_shift(table),
		.sampled_out = table->memory->sampled_out,
		.refused = table->memory->refused,
		.held_in = table->held_in,
		.held_out = table->held_out,
		.ended = table->memory->ended,
	};
	for (int i = 0; i < REGION_COUNT; i++)
		ret_summary->bytes += table->regions[i].size;
}
