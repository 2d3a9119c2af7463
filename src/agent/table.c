// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
#include "agent/table.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "basic/cleanup.h"
#include "basic/log.h"

#define PORTS_LIMIT      16384
#define INTERFACES_LIMIT 1024
#define CPUS_MAX         4096
#define JOURNAL_MAX      16
#define TICK_MIN_NS      900000000ULL /* rates over less are noise */

/* Sampling begins when the table is nearly full and doubles its rate in each of twelve steps from there. */
#define SAMPLE_FROM(limit) ((limit) / 16 * 15)
#define SAMPLE_STEP(limit) ((limit) / 16 / SAMPLE_SHIFT_MAX + 1)
#define SAMPLE_SHIFT_MAX   12

/* Under pressure a flow that was idle for so much of its time-out leaves early. */
#define PRESSURE_IDLE_PART 4

/* A connection that nobody has accepted, or that nobody seems to have, is waited for so long. */
#define HOLD_MAX_NS 30000000000ULL

/* Where a flow that holds something back has its other direction on another interface: so many are asked. */
#define REVERSE_INTERFACES 16

#define NOT_HELD (TABLE_NONE - 1)

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

static const char *const region_names[REGION_COUNT] = {
	"state", "flows", "hosts", "ports", "interfaces", "owners", "lines4", "lines6"};

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

/* -- journal -- */

static void journal_add(struct table *table, enum table_region region, uint64_t *target, uint64_t value)
{
	uint32_t i = table->journal.count++;

	table->targets[i] = target;
	table->journal.entry[i] = (struct journal_entry){
		.region = region,
		.offset = (uint64_t)((char *)target - (char *)table->regions[region].base),
		.value = value,
	};
}

static void journal_commit(struct table *table)
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

/* -- hashing -- */

static uint64_t hash_words(uint64_t seed, const void *data, size_t bytes)
{
	const uint32_t *words = data;
	uint64_t hash = seed;

	for (size_t i = 0; i < bytes / sizeof(*words); i++) {
		hash = (hash ^ words[i]) * 0x9fb21c651e98df25ULL;
		hash ^= hash >> 32;
	}
	return hash;
}

static uint32_t power_of_two(uint32_t at_least)
{
	uint32_t n = 1;

	while (n < at_least)
		n <<= 1;
	return n;
}

static uint32_t *heads_new(uint32_t entries, uint32_t *ret_mask)
{
	uint32_t count = power_of_two(entries), *heads = malloc(count * sizeof(*heads));

	if (heads)
		memset(heads, 0xff, count * sizeof(*heads)); /* TABLE_NONE */
	*ret_mask = count - 1;
	return heads;
}

static uint32_t *flow_head(struct table *table, const struct table_key *key)
{
	return &table->heads[hash_words(table->memory->seed, key, sizeof(*key)) & table->mask];
}

static uint32_t *total_head(struct table *table, struct table_pool *pool, const uint8_t *key)
{
	return &pool->heads[hash_words(table->memory->seed, key, sizeof(pool->totals->key)) & pool->mask];
}

/* -- totals -- */

static uint32_t total_find(struct table *table, struct table_pool *pool, const uint8_t *key)
{
	uint32_t i = *total_head(table, pool, key);

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
	head = total_head(table, pool, key);
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

static uint32_t owner_get(struct table *table, uint32_t owner)
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
	uint32_t count = power_of_two(ifindex + 1), *grown;

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

static uint32_t flow_find(struct table *table, const struct table_key *key)
{
	uint32_t i = *flow_head(table, key);

	while (i != TABLE_NONE && memcmp(&table->flows[i].key, key, sizeof(*key)) != 0)
		i = table->flows[i].next;
	return i;
}

uint32_t table_find_flow(struct table *table, const struct table_key *key)
{
	return flow_find(table, key);
}

static void total_flows(struct table *table, enum table_pool_name pool, uint32_t total, int change)
{
	if (total != TABLE_NONE)
		table->pools[pool].totals[total].flows += (uint32_t)change;
}

static void flow_link(struct table *table, uint32_t i)
{
	struct table_flow *flow = &table->flows[i];
	uint32_t *head = flow_head(table, &flow->key);

	flow->next = *head;
	*head = i;
	table->live++;
	total_flows(table, TABLE_HOSTS, flow->host, 1);
	total_flows(table, TABLE_PORTS, flow->port, 1);
	total_flows(table, TABLE_INTERFACES, flow->interface, 1);
	total_flows(table, TABLE_OWNERS, flow->owner_total, 1);
}

static bool flow_charge(struct table *table, uint32_t i, uint64_t now_ns, bool final);

static void flow_free(struct table *table, uint32_t i)
{
	struct table_flow *flow = &table->flows[i];
	uint32_t *link = flow_head(table, &flow->key);

	if (flow->held.packets)
		flow_charge(table, i, 0, true);
	while (*link != i)
		link = &table->flows[*link].next;
	*link = flow->next;
	table->live--;
	total_flows(table, TABLE_HOSTS, flow->host, -1);
	total_flows(table, TABLE_PORTS, flow->port, -1);
	total_flows(table, TABLE_INTERFACES, flow->interface, -1);
	total_flows(table, TABLE_OWNERS, flow->owner_total, -1);
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

/* The key of the other direction; false: there is none. */
static bool key_reverse(const struct table_key *key, struct table_key *ret_reverse)
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

	if (!key_reverse(&flow->key, &key))
		return;
	flow->reverse = flow_find(table, &key);
	if (flow->reverse != TABLE_NONE)
		table->flows[flow->reverse].reverse = i;
}

/* Finds the flow or admits it; TABLE_NONE where it is sampled out (*ret_sampled) or there is no room. */
static uint32_t flow_get(struct table *table, const struct table_delta *delta, bool *ret_sampled)
{
	uint32_t i = flow_find(table, &delta->key), shift;
	struct table_flow *flow;

	*ret_sampled = false;
	if (i != TABLE_NONE)
		return i;
	shift = sample_shift(table);
	/* upper bits: the lower ones choose the chain */
	if (shift && hash_words(table->memory->seed, &delta->key, sizeof(delta->key)) >> (64 - shift)) {
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
		.owner_total = owner_get(table, delta->owner),
		.reverse = TABLE_NONE,
		.next_held = flow->next_held, /* the place may still be on the list */
	};
	flow_pair(table, i);
	flow_link(table, i);
	__atomic_store_n(&flow->state, TABLE_LIVE, __ATOMIC_RELEASE);
	return i;
}

static void total_add(
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
	journal_add(table, region, &counts->packets, counts->packets + delta->counts.packets);
	journal_add(table, region, &counts->bytes, counts->bytes + delta->counts.bytes);
}

static void counts_add(struct table *table, struct table_counts *counts, const struct table_delta *delta)
{
	journal_add(table, REGION_STATE, &counts->packets, counts->packets + delta->counts.packets);
	journal_add(table, REGION_STATE, &counts->bytes, counts->bytes + delta->counts.bytes);
}

/* -- owners -- */

static bool owner_is_clear(uint32_t owner)
{
	return owner >= OWNER_FIRST && !(owner & OWNER_INHERITED);
}

/* How much an owner tells: of two the one that tells more is kept. */
static int owner_rank(uint32_t owner)
{
	if (owner_is_clear(owner))
		return 4;
	if (owner & OWNER_INHERITED)
		return 3;
	return owner == OWNER_FORWARDED ? 2 : owner == OWNER_KERNEL ? 1 : 0;
}

static void flow_set_owner(struct table *table, struct table_flow *flow, uint32_t owner)
{
	if (flow->owner == owner)
		return;
	total_flows(table, TABLE_OWNERS, flow->owner_total, -1);
	flow->owner = owner;
	flow->owner_total = owner_get(table, flow->owner);
	total_flows(table, TABLE_OWNERS, flow->owner_total, 1);
}

/* The flow's owner after this delta.  A connection that began after everything known of the flow is a new
 * one, in the place of one of the same addresses and ports. */
static void flow_take_owner(struct table *table, struct table_flow *flow, const struct table_delta *delta)
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

	if ((i == TABLE_NONE && !widely) || !key_reverse(&flow->key, &key))
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
		i = flow_find(table, &key);
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

	if (owner_is_clear(own) && owner_is_clear(other))
		return flow->key.kind & FLOW_KIND_OUT ? own : other;
	return owner_rank(other) > owner_rank(own) ? other : own;
}

uint32_t table_flow_owner(struct table *table, uint32_t flow)
{
	return flow_owner(table, &table->flows[flow], false) & ~OWNER_INHERITED;
}

/* The entry of an owner, which most often is the one the flow has. */
static uint32_t flow_total(struct table *table, const struct table_flow *flow, uint32_t owner)
{
	return owner == flow->owner ? flow->owner_total : owner_get(table, owner);
}

static bool owner_may_show(const struct table_flow *flow, uint32_t owner, uint64_t now_ns)
{
	if (now_ns - flow->first_ns >= HOLD_MAX_NS)
		return false;
	return owner & OWNER_INHERITED || (owner == OWNER_UNKNOWN && flow->key.proto == IPPROTO_TCP);
}

static void held_change(struct table *table, const struct table_flow *flow, uint64_t packets, uint64_t bytes)
{
	struct table_counts *held = flow->key.kind & FLOW_KIND_OUT ? &table->held_out : &table->held_in;

	held->packets += packets;
	held->bytes += bytes;
}

static void held_link(struct table *table, uint32_t i)
{
	if (table->flows[i].next_held != NOT_HELD)
		return;
	table->flows[i].next_held = table->held_list;
	table->held_list = i;
}

static void flow_hold(struct table *table, uint32_t i, const struct table_delta *delta)
{
	struct table_flow *flow = &table->flows[i];

	journal_add(table, REGION_FLOWS, &flow->held.packets, flow->held.packets + delta->counts.packets);
	journal_add(table, REGION_FLOWS, &flow->held.bytes, flow->held.bytes + delta->counts.bytes);
	held_change(table, flow, delta->counts.packets, delta->counts.bytes);
	held_link(table, i);
}

/* Gives the owner what the flow holds back.  False: it is not clear yet who that is, and there is time
 * (`final`: there is none). */
static bool flow_charge(struct table *table, uint32_t i, uint64_t now_ns, bool final)
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
	held_change(table, flow, -flow->held.packets, -flow->held.bytes);
	total_add(table, TABLE_OWNERS, flow_total(table, flow, owner), &delta);
	journal_add(table, REGION_FLOWS, &flow->held.packets, 0);
	journal_add(table, REGION_FLOWS, &flow->held.bytes, 0);
	journal_commit(table);
	flow_set_owner(table, flow, owner);
	return true;
}

static void charge_all(struct table *table, uint64_t now_ns)
{
	uint32_t *link = &table->held_list, i;

	while ((i = *link) != TABLE_NONE) {
		struct table_flow *flow = &table->flows[i];

		if (flow->state == TABLE_LIVE && flow->held.packets &&
			!flow_charge(table, i, now_ns, false)) {
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
	journal_add(table, REGION_OWNERS, &other->in.packets, other->in.packets + total->in.packets);
	journal_add(table, REGION_OWNERS, &other->in.bytes, other->in.bytes + total->in.bytes);
	journal_add(table, REGION_OWNERS, &other->out.packets, other->out.packets + total->out.packets);
	journal_add(table, REGION_OWNERS, &other->out.bytes, other->out.bytes + total->out.bytes);
	journal_add(table, REGION_OWNERS, &total->in.packets, 0);
	journal_add(table, REGION_OWNERS, &total->in.bytes, 0);
	journal_add(table, REGION_OWNERS, &total->out.packets, 0);
	journal_add(table, REGION_OWNERS, &total->out.bytes, 0);
	journal_commit(table);
	for (link = total_head(table, pool, total->key); *link != i;)
		link = &pool->totals[*link].next;
	*link = total->next;
	total->state = TABLE_FREE;
	total->next = pool->free_list;
	pool->free_list = i;
	return true;
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

			flow_take_owner(table, flow, delta);
			if (delta->first_ns < flow->first_ns)
				flow->first_ns = delta->first_ns;
			if (delta->last_ns >= flow->last_ns) {
				flow->last_ns = delta->last_ns;
				flow->rule = delta->rule;
				flow->verdict = delta->verdict;
			}
			flow->tcp_flags |= delta->tcp_flags;
			flow->origin |= delta->origin;
			host = flow->host;
			port = flow->port;
			journal_add(table, REGION_FLOWS, &flow->counts.packets,
				flow->counts.packets + delta->counts.packets);
			journal_add(table, REGION_FLOWS, &flow->counts.bytes,
				flow->counts.bytes + delta->counts.bytes);
			if (delta->key.kind & FLOW_KIND_OUT && owner_is_clear(delta->owner))
				owner = flow_total(table, flow, delta->owner);
			else
				flow_hold(table, i, delta);
		} else {
			owner = owner_get(table, delta->owner);
			host = host_get(table, &delta->key);
			port = port_get(table, &delta->key, delta->origin);
			if (is_flow)
				counts_add(table,
					sampled ? &table->memory->sampled_out : &table->memory->refused,
					delta);
		}
		total_add(table, TABLE_HOSTS, host, delta);
		total_add(table, TABLE_PORTS, port, delta);
		total_add(table, TABLE_INTERFACES, interface, delta);
		total_add(table, TABLE_OWNERS, owner, delta);
	}
	if (delta->line) {
		memcpy(words, &delta->accounted, sizeof(words));
		journal_add(table, lines, (uint64_t *)delta->line, words[0]);
		journal_add(table, lines, (uint64_t *)delta->line + 1, words[1]);
	}
	if (delta->position)
		journal_add(table, REGION_STATE, &table->memory->done[delta->cpu], delta->position);
	journal_commit(table);
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

	charge_all(table, now_ns);
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

/* -- opening -- */

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
			uint32_t *head = total_head(table, pool, pool->totals[i].key);

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
			flow->owner_total = owner_get(table, flow->owner);
			flow_link(table, i);
			held_change(table, flow, flow->held.packets, flow->held.bytes);
			if (flow->held.packets)
				held_link(table, i);
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
