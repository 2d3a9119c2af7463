// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * Rings of services: another one only where the backends, their weights or their health have changed, and
 * where it differs, the ring of before beside it, for connections that began before and are not written down.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/service/services_internal.h"
#include "basic/cleanup.h"
#include "compile/maglev.h"

/* What is made while a book is: all rings that packets may read are taken. */
struct rings {
	struct services *services;
	const struct policy_unit *book; /* in force */
	uint8_t taken[SERVICE_RINGS_MAX];
	uint16_t slots[SERVICE_RING_SLOTS];
};

static const struct service *service_at(const struct policy_unit *book, uint32_t unit)
{
	return (const struct service *)&book[unit];
}

uint32_t service_unit(const struct policy_unit *book, uint32_t number)
{
	const struct service_book *head = (const struct service_book *)book;

	for (uint32_t i = 1; book && i <= head->count; i++)
		if (service_at(book, i)->number == number)
			return i;
	return 0;
}

static void rings_take(struct rings *rings)
{
	const struct service_book *head = (const struct service_book *)rings->book;

	rings->taken[0] = 1;
	for (uint32_t i = 1; head && i <= head->count; i++) {
		rings->taken[service_at(rings->book, i)->ring % SERVICE_RINGS_MAX] = 1;
		rings->taken[service_at(rings->book, i)->before % SERVICE_RINGS_MAX] = 1;
	}
}

static uint64_t hash_add(uint64_t hash, const void *bytes, size_t size)
{
	for (size_t i = 0; i < size; i++)
		hash = (hash ^ ((const uint8_t *)bytes)[i]) * 0x100000001b3ULL;
	return hash;
}

/* Never 0. */
static uint64_t making_of(
	const struct maglev_backend *backends, size_t count, enum service_choice choice, uint32_t slots)
{
	uint64_t hash = hash_add(0xcbf29ce484222325ULL, &slots, sizeof(slots));

	hash = hash_add(hash, &choice, sizeof(choice));
	for (size_t i = 0; i < count; i++) {
		hash = hash_add(hash, &backends[i].address, sizeof(backends[i].address));
		hash = hash_add(hash, &backends[i].port, sizeof(backends[i].port));
		hash = hash_add(hash, &backends[i].number, sizeof(backends[i].number));
		hash = hash_add(hash, &backends[i].weight, sizeof(backends[i].weight));
	}
	return hash ? hash : 1;
}

/* Those that get new connections.  The array is for the caller to free; NULL: no memory. */
static struct maglev_backend *backends_chosen(
	const struct services *services, const struct service_plan_entry *entry, size_t *ret_count)
{
	const struct service_text *text = entry->text;
	struct maglev_backend *backends = calloc(text->backend_count + 1, sizeof(*backends));

	*ret_count = 0;
	for (size_t i = 0; backends && i < text->backend_count; i++)
		if (service_plan_state(services, entry, i) == SERVICE_BACKEND_UP && text->backends[i].weight)
			backends[(*ret_count)++] = (struct maglev_backend){
				.address = text->backends[i].address,
				.port = service_backend_port(text, &text->backends[i]),
				.number = entry->backends[i],
				.weight = text->backends[i].weight,
			};
	return backends;
}

static int slots_make(struct rings *rings, const struct service_text *text,
	const struct maglev_backend *backends, size_t count, uint32_t *ret_slots)
{
	uint16_t *turns = NULL;
	int r;

	/* LEAST: for connections that go on and are not written down */
	if (text->choice != SERVICE_TURNS) {
		*ret_slots = text->slots ? text->slots : SERVICE_RING_SLOTS;
		return maglev_fill(backends, count, rings->slots, *ret_slots);
	}
	r = maglev_turns(backends, count, SERVICE_RING_SLOTS, &turns, ret_slots);
	if (r == 0 && *ret_slots)
		memcpy(rings->slots, turns, *ret_slots * sizeof(*turns));
	free(turns);
	return r;
}

static int ring_put(struct rings *rings, const uint16_t *slots, uint32_t count, uint64_t making,
	uint32_t *ret_ring, struct error *error)
{
	uint32_t ring = 1;
	int r;

	while (ring < SERVICE_RINGS_MAX && rings->taken[ring])
		ring++;
	if (ring == SERVICE_RINGS_MAX)
		return error_set(error, -ENOSPC, "there are no more rings: %d are in use", SERVICE_RINGS_MAX);
	r = engine_service_ring_set(rings->services->agent->engine, ring, slots, count, error);
	if (r < 0)
		return r;
	rings->taken[ring] = 1;
	rings->services->ring_makings[ring] = making;
	*ret_ring = ring;
	return 0;
}

/* The ring of the unit in force, if it is the one that is wanted. */
static bool ring_stays(struct rings *rings, const struct service *now, uint64_t making, uint32_t slots)
{
	struct services *services = rings->services;
	const uint16_t *ring = now ? engine_service_ring(services->agent->engine, now->ring) : NULL;

	if (!ring || now->slots != slots)
		return false;
	/* of an earlier agent's it is not known what it was made of */
	if (services->ring_makings[now->ring] != making &&
		memcmp(ring, rings->slots, slots * sizeof(*ring)) != 0)
		return false;
	services->ring_makings[now->ring] = making;
	return true;
}

/*
 * What is not written down stands where one ring has it, from the first change on until nobody can be left of
 * that time: who begins elsewhere meanwhile is written down.  So each further change keeps that ring as the
 * one of before.  True: the ring that is wanted is that one.
 */
static bool ring_move(struct rings *rings, const struct service_plan_entry *entry, const struct service *now,
	struct service_input *input)
{
	struct services *services = rings->services;
	struct service_live *live = &services->live[entry->number];
	const uint16_t *before =
		now->before ? engine_service_ring(services->agent->engine, now->before) : NULL;

	live->before_ends_ns = agent_now_ns() + service_idle_ns(entry->text);
	input->before = before ? now->before : now->ring;
	if (!before || memcmp(before, rings->slots, input->slots * sizeof(*before)) != 0)
		return false;
	input->ring = now->before;
	input->before = 0;
	return true;
}

static int ring_bring(struct rings *rings, const struct service_plan_entry *entry,
	struct service_input *input, struct error *error)
{
	struct services *services = rings->services;
	struct service_live *live = &services->live[entry->number];
	uint32_t unit = service_unit(rings->book, entry->number);
	const struct service *now = unit ? service_at(rings->book, unit) : NULL;
	struct maglev_backend *backends;
	uint64_t making;
	size_t count;
	int r = 0;

	backends = backends_chosen(services, entry, &count);
	if (!backends)
		return error_set(error, -ENOMEM, "out of memory");
	making = making_of(backends, count, entry->text->choice, entry->text->slots);
	input->slots = now ? now->slots : 0;
	if (!now || services->ring_makings[now->ring] != making)
		r = slots_make(rings, entry->text, backends, count, &input->slots);
	free(backends);
	if (r < 0)
		return error_set(error, r, "out of memory");
	if (ring_stays(rings, now, making, input->slots)) {
		input->ring = now->ring;
		input->before = live->before_ends_ns ? now->before : 0;
		return 0;
	}
	if (now && now->ring) {
		live->kept = services->scan_due = true;
		engine_service_keep(services->agent->engine, unit);
	}
	if (now && now->ring && now->slots == input->slots && entry->text->choice == SERVICE_MAGLEV &&
		ring_move(rings, entry, now, input))
		return 0;
	return input->slots ? ring_put(rings, rings->slots, input->slots, making, &input->ring, error) : 0;
}

/* LEAST: the numbers of those that may be chosen. */
static int list_make(const struct services *services, const struct service_plan_entry *entry,
	struct service_input *input, struct error *error)
{
	const struct service_text *text = entry->text;
	uint16_t *numbers = calloc(text->backend_count + 1, sizeof(*numbers));

	if (!numbers)
		return error_set(error, -ENOMEM, "out of memory");
	for (size_t i = 0; i < text->backend_count; i++)
		if (service_plan_state(services, entry, i) == SERVICE_BACKEND_UP && text->backends[i].weight)
			numbers[input->backend_count++] = entry->backends[i];
	input->backends = numbers;
	return 0;
}

static int server_compare(const void *left, const void *right)
{
	const struct service_server *a = left, *b = right;

	return a->id != b->id ? (int)a->id - (int)b->id : (int)a->backend - (int)b->backend;
}

/* QUIC: which backend an id names, those that drain included. */
static int servers_make(const struct services *services, const struct service_plan_entry *entry,
	struct service_input *input, struct error *error)
{
	const struct service_text *text = entry->text;
	struct service_server *servers = calloc(text->backend_count + 1, sizeof(*servers));

	if (!servers)
		return error_set(error, -ENOMEM, "out of memory");
	for (size_t i = 0; i < text->backend_count; i++) {
		const struct address *address = &text->backends[i].address;
		const uint8_t *last = address->bytes + (address->family == 4 ? 2 : 14);

		if (service_plan_state(services, entry, i) != SERVICE_BACKEND_DOWN)
			servers[input->server_count++] = (struct service_server){
				(uint16_t)(last[0] << 8 | last[1]), entry->backends[i]};
	}
	qsort(servers, input->server_count, sizeof(*servers), server_compare);
	input->servers = servers;
	return 0;
}

int service_rings_bring(struct services *services, const struct service_plan *plan,
	struct service_input *inputs, struct error *error)
{
	struct rings *rings = calloc(1, sizeof(*rings));
	int r = 0;

	if (!rings)
		return error_set(error, -ENOMEM, "out of memory");
	rings->services = services;
	rings->book = engine_service_book(services->agent->engine, false);
	rings_take(rings);
	for (size_t i = 0; i < plan->count && r == 0; i++) {
		const struct service_plan_entry *entry = &plan->entries[i];

		r = ring_bring(rings, entry, &inputs[i], error);
		if (r == 0 && entry->text->choice == SERVICE_LEAST)
			r = list_make(services, entry, &inputs[i], error);
		if (r == 0 && entry->text->quic)
			r = servers_make(services, entry, &inputs[i], error);
		inputs[i].kept = services->live[entry->number].kept;
	}
	free(rings);
	return r;
}

static void ring_patch(
	struct services *services, const struct service_plan_entry *entry, const struct service *now)
{
	const struct engine_service_memory *memory = engine_service_memory(services->agent->engine);
	const uint16_t *ring = engine_service_ring(services->agent->engine, now->ring);
	uint16_t *slots = calloc(SERVICE_RING_SLOTS, sizeof(*slots));
	struct maglev_backend *backends;
	size_t count;
	bool made;

	backends = backends_chosen(services, entry, &count);
	made = ring && slots && backends && now->slots >= 2 &&
	       maglev_fill(backends, count, slots, now->slots) == 0;
	if (made)
		services->ring_makings[now->ring] = 0;
	for (uint32_t i = 0; made && i < now->slots; i++)
		if (memory->backends[ring[i] % SERVICE_BACKENDS_MAX].state == SERVICE_BACKEND_DOWN)
			engine_service_ring_put(services->agent->engine, now->ring, i, slots[i]);
	free(backends);
	free(slots);
}

void service_rings_patch(struct services *services, const struct service_plan *plan)
{
	const struct policy_unit *book = engine_service_book(services->agent->engine, false);

	for (size_t i = 0; book && i < plan->count; i++) {
		uint32_t unit = service_unit(book, plan->entries[i].number);

		if (unit && plan->entries[i].text->check.kind != SERVICE_CHECK_NONE)
			ring_patch(services, &plan->entries[i], service_at(book, unit));
	}
}
