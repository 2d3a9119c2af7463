// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* The program that forwards: its place in the chain, its ports, and the maps of switches. */
#include "engine/forward.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "engine/chain.h"
#include "engine/internal.h"
#include "engine/policy.h"
#include "engine/shield.h"
#include "forward.skel.h"

/* The maps of a switch. */
struct forward_maps {
	int table, members; /* -1: there is none */
};

struct forward {
	struct forward_bpf *skeleton; /* NULL: there never was a sentence */
	struct forward_bpf *whole;    /* for generic XDP; NULL: none has had that */
	struct forward_count *counts; /* mapped: FORWARD_NUMBERS a CPU */
	size_t counts_bytes;
	uint32_t *rules; /* mapped */
	struct forward_maps maps[FORWARD_NUMBERS];
	bool wanted;
};

static struct forward *forward_of(const struct engine *engine)
{
	return engine_part_state(engine, &forward_part);
}

/* -- loading -- */

static int memory_map(const struct bpf_map *map, size_t bytes, void **ret_memory, struct error *error)
{
	void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, bpf_map__fd(map), 0);

	if (memory == MAP_FAILED)
		return error_set(error, -errno, "cannot map %s: %s", bpf_map__name(map), strerror(errno));
	*ret_memory = memory;
	return 0;
}

static void memory_unmap(struct forward *forward)
{
	if (forward->counts)
		munmap(forward->counts, forward->counts_bytes);
	if (forward->rules)
		munmap(forward->rules, FORWARD_NUMBERS * sizeof(*forward->rules));
	forward->counts = NULL;
	forward->rules = NULL;
}

/* What an earlier agent made, while its maps may still be opened by their ids. */
static int inner_open(const struct bpf_map *outer, __u32 number)
{
	__u32 id;

	return bpf_map_lookup_elem(bpf_map__fd(outer), &number, &id) == 0 ? bpf_map_get_fd_by_id(id) : -1;
}

static void inner_adopt(struct forward *forward)
{
	for (__u32 i = 0; i < FORWARD_NUMBERS; i++)
		forward->maps[i] = (struct forward_maps){
			inner_open(forward->skeleton->maps.forward_tables, i),
			inner_open(forward->skeleton->maps.forward_members, i),
		};
}

static void skeleton_prepare(const struct engine *engine, struct forward_bpf *skeleton)
{
	const struct engine_view *view = &engine->view;
	uint32_t second = (uint32_t)(1000000000 / (engine->tick_ns ? engine->tick_ns : 1000000));

	ENGINE_TELL_FLOWS(engine, skeleton);
	skeleton->rodata->forward_age_ticks = FORWARD_AGE_S * second;
	skeleton->rodata->forward_note_ticks = second;
	bpf_map__set_max_entries(skeleton->maps.forward_counts, view->cpus * FORWARD_NUMBERS);
}

static int skeleton_load(struct engine *engine, struct forward *forward, struct error *error)
{
	struct forward_bpf *skeleton = forward->skeleton;
	int r;

	skeleton_prepare(engine, skeleton);
	forward->counts_bytes = (size_t)engine->view.cpus * FORWARD_NUMBERS * sizeof(struct forward_count);
	r = component_load(engine, skeleton->obj, "forwarding", error);
	if (r == 0)
		r = memory_map(skeleton->maps.forward_counts, forward->counts_bytes,
			(void **)&forward->counts, error);
	if (r == 0)
		r = memory_map(skeleton->maps.forward_rules, FORWARD_NUMBERS * sizeof(*forward->rules),
			(void **)&forward->rules, error);
	if (r == 0)
		inner_adopt(forward);
	return r;
}

static int forward_load(struct engine *engine, struct forward *forward, struct error *error)
{
	int r;

	if (forward->skeleton)
		return 0;
	forward->skeleton = forward_bpf__open();
	if (!forward->skeleton)
		return error_set(error, -errno, "cannot open the forwarding program: %s", strerror(errno));
	r = skeleton_load(engine, forward, error);
	if (r < 0) {
		memory_unmap(forward);
		forward_bpf__destroy(forward->skeleton);
		forward->skeleton = NULL;
	}
	return r;
}

static int losses_watch(struct engine *engine, const struct forward_bpf *skeleton, struct error *error)
{
	int r = component_attach_trace(engine, skeleton->progs.forward_refused, error);

	return r < 0 ? r : component_attach_trace(engine, skeleton->progs.forward_dropped, error);
}

/* The program for generic XDP, where that is in use.  What it writes down is in the same maps. */
static int whole_put(struct engine *engine, struct forward *forward, struct error *error)
{
	int r = 0;

	if (!engine_shield_is_whole(engine))
		return 0;
	if (!forward->whole) {
		forward->whole = forward_bpf__open();
		if (!forward->whole)
			return error_set(
				error, -errno, "cannot open the forwarding program: %s", strerror(errno));
		skeleton_prepare(engine, forward->whole);
		bpf_program__set_autoload(forward->whole->progs.forward_refused, false);
		bpf_program__set_autoload(forward->whole->progs.forward_dropped, false);
		r = component_load_whole(engine, forward->whole->obj, "forwarding", error);
	}
	if (r == 0)
		return engine_chain_put_whole(
			engine, CHAIN_FORWARD, bpf_program__fd(forward->whole->progs.forward), error);
	forward_bpf__destroy(forward->whole);
	forward->whole = NULL;
	return r;
}

int engine_forward_renew(struct engine *engine, struct error *error)
{
	struct forward *forward = forward_of(engine);

	return forward && forward->wanted ? whole_put(engine, forward, error) : 0;
}

int engine_forward_want(struct engine *engine, bool wanted, struct error *error)
{
	struct forward *forward = forward_of(engine);
	int r = 0;

	if (wanted == forward->wanted)
		return 0;
	if (wanted) {
		r = forward_load(engine, forward, error);
		if (r == 0)
			r = engine_chain_put(engine, CHAIN_FORWARD,
				bpf_program__fd(forward->skeleton->progs.forward), error);
		if (r == 0)
			r = whole_put(engine, forward, error);
		if (r == 0)
			r = losses_watch(engine, forward->skeleton, error);
	} else {
		r = engine_chain_take(engine, CHAIN_FORWARD, error);
		component_detach_trace(engine, forward->skeleton->progs.forward_refused);
		component_detach_trace(engine, forward->skeleton->progs.forward_dropped);
	}
	if (r == 0)
		forward->wanted = wanted;
	return r;
}

bool engine_forward_wanted(const struct engine *engine)
{
	return forward_of(engine)->wanted;
}

uint32_t *engine_forward_rules(const struct engine *engine)
{
	return forward_of(engine)->rules;
}

/* -- ports and targets -- */

static int not_there(struct error *error)
{
	return error_set(error, -ENOENT, "the forwarding program is not loaded");
}

static uint32_t place_in_force(const struct engine *engine)
{
	struct policy_now now = {};

	engine_policy_now((struct engine *)engine, &now);
	return now.places >> FORWARD_PLACE & 1;
}

static bool port_is_kept(
	const struct forward_key *key, uint32_t place, const struct engine_forward_port *ports, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (ports[i].index == key->ifindex)
			return true;
	return key->place != place;
}

/* A place of a map's keys that fits `size` bytes; all of them are read before any goes, which a walk would
 * not survive. */
static size_t keys_read(int map, void *keys, size_t size, size_t room)
{
	const void *previous = NULL;
	size_t count = 0;

	while (count < room && bpf_map_get_next_key(map, previous, (char *)keys + count * size) == 0) {
		previous = (char *)keys + count * size;
		count++;
	}
	return count;
}

/* What else stands in this place goes. */
static int ports_trim(int map, uint32_t place, const struct engine_forward_port *ports, size_t count)
{
	struct forward_key *keys = calloc(FORWARD_PORTS_MAX, sizeof(*keys));
	size_t there;

	if (!keys)
		return -ENOMEM;
	there = keys_read(map, keys, sizeof(*keys), FORWARD_PORTS_MAX);
	for (size_t i = 0; i < there; i++)
		if (!port_is_kept(&keys[i], place, ports, count))
			bpf_map_delete_elem(map, &keys[i]);
	free(keys);
	return 0;
}

int engine_forward_ports(struct engine *engine, bool other, const struct engine_forward_port *ports,
	size_t count, struct error *error)
{
	const struct forward *forward = forward_of(engine);
	uint32_t place = place_in_force(engine) ^ other;
	int map, r = 0;

	if (!forward->skeleton)
		return not_there(error);
	map = bpf_map__fd(forward->skeleton->maps.forward_ports);
	for (size_t i = 0; i < count && r == 0; i++) {
		const struct forward_key key = {ports[i].index, place};
		struct forward_port present;

		if (bpf_map_lookup_elem(map, &key, &present) == 0 &&
			memcmp(&present, &ports[i].port, sizeof(present)) == 0)
			continue;
		r = bpf_map_update_elem(map, &key, &ports[i].port, BPF_ANY) < 0 ? -errno : 0;
	}
	if (r == 0)
		r = ports_trim(map, place, ports, count);
	return r < 0 ? error_set(error, r, "cannot write the ports of forwarding: %s", strerror(-r)) : 0;
}

static bool index_is_in(uint32_t index, const uint32_t *indexes, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (indexes[i] == index)
			return true;
	return false;
}

/* These are the keys of a map afterwards, with themselves as values. */
static int indexes_write(int map, const uint32_t *indexes, size_t count, size_t room)
{
	__u32 *keys = calloc(room, sizeof(*keys));
	size_t there;
	int r = 0;

	if (!keys)
		return -ENOMEM;
	there = keys_read(map, keys, sizeof(*keys), room);
	for (size_t i = 0; i < there; i++)
		if (!index_is_in(keys[i], indexes, count))
			bpf_map_delete_elem(map, &keys[i]);
	for (size_t i = 0; i < count && r == 0; i++)
		if (!index_is_in(indexes[i], keys, there) &&
			bpf_map_update_elem(map, &indexes[i], &indexes[i], BPF_ANY) < 0)
			r = -errno;
	free(keys);
	return r;
}

int engine_forward_targets(struct engine *engine, const uint32_t *indexes, size_t count, struct error *error)
{
	const struct forward *forward = forward_of(engine);
	int r;

	if (!forward->skeleton)
		return not_there(error);
	r = indexes_write(
		bpf_map__fd(forward->skeleton->maps.forward_targets), indexes, count, FORWARD_PORTS_MAX);
	return r < 0 ? error_set(error, r, "cannot write the targets of forwarding: %s", strerror(-r)) : 0;
}

/* -- switches -- */

static int inner_put(const struct bpf_map *outer, __u32 number, int *inner, int made)
{
	if (made < 0)
		return made;
	if (bpf_map_update_elem(bpf_map__fd(outer), &number, &made, BPF_ANY) < 0) {
		int r = -errno;

		close(made);
		return r;
	}
	*inner = made;
	return 0;
}

int engine_forward_switch(
	struct engine *engine, uint32_t number, const uint32_t *members, size_t count, struct error *error)
{
	struct forward *forward = forward_of(engine);
	struct forward_maps *maps = &forward->maps[number % FORWARD_NUMBERS];
	int r = 0;

	if (!forward->skeleton)
		return not_there(error);
	if (maps->table < 0)
		r = inner_put(forward->skeleton->maps.forward_tables, number, &maps->table,
			bpf_map_create(BPF_MAP_TYPE_LRU_HASH, "forward_table", sizeof(struct forward_mac),
				sizeof(struct forward_place), FORWARD_MACS_MAX, NULL));
	if (r == 0 && maps->members < 0)
		r = inner_put(forward->skeleton->maps.forward_members, number, &maps->members,
			bpf_map_create(BPF_MAP_TYPE_DEVMAP_HASH, "forward_switch", sizeof(__u32),
				sizeof(__u32), FORWARD_MEMBERS, NULL));
	if (r == 0)
		r = indexes_write(maps->members, members, count, FORWARD_MEMBERS);
	return r < 0 ? error_set(error, r, "cannot make a switch: %s", strerror(-r)) : 0;
}

void engine_forward_forget(struct engine *engine, uint32_t number)
{
	struct forward *forward = forward_of(engine);
	struct forward_maps *maps = &forward->maps[number % FORWARD_NUMBERS];

	if (maps->table >= 0) {
		bpf_map_delete_elem(bpf_map__fd(forward->skeleton->maps.forward_tables), &number);
		close(maps->table);
	}
	if (maps->members >= 0) {
		bpf_map_delete_elem(bpf_map__fd(forward->skeleton->maps.forward_members), &number);
		close(maps->members);
	}
	*maps = (struct forward_maps){-1, -1};
}

size_t engine_forward_heard(const struct engine *engine, uint32_t number)
{
	const struct forward *forward = forward_of(engine);
	int table = forward->maps[number % FORWARD_NUMBERS].table;
	struct {
		/* a batch takes whole buckets, so there may come a few more than are looked for */
		struct forward_mac keys[2 * FORWARD_MACS_MAX];
		struct forward_place places[2 * FORWARD_MACS_MAX];
	} *heard = table < 0 ? NULL : malloc(sizeof(*heard));
	__u32 count = 2 * FORWARD_MACS_MAX, next = 0;

	if (!heard)
		return 0;
	if (bpf_map_lookup_batch(table, NULL, &next, heard->keys, heard->places, &count, NULL) < 0 &&
		errno != ENOENT)
		count = 0;
	free(heard);
	return count;
}

/* -- counters -- */

void engine_forward_count(const struct engine *engine, uint32_t number, struct forward_count *ret_count)
{
	const struct forward *forward = forward_of(engine);
	struct forward_count sum = {};

	for (unsigned int cpu = 0; forward->counts && cpu < engine->view.cpus; cpu++) {
		const struct forward_count *count = &forward->counts[(size_t)cpu * FORWARD_NUMBERS + number];

		for (size_t i = 0; i < offsetof(struct forward_count, last) / sizeof(uint64_t); i++)
			((uint64_t *)&sum)[i] +=
				__atomic_load_n((const uint64_t *)count + i, __ATOMIC_RELAXED);
		if (count->last && (!sum.last || (int32_t)(count->last - sum.last) > 0))
			sum.last = count->last;
	}
	*ret_count = sum;
}

void engine_forward_count_clear(struct engine *engine, uint32_t number)
{
	const struct forward *forward = forward_of(engine);

	for (unsigned int cpu = 0; forward->counts && cpu < engine->view.cpus; cpu++)
		memset(&forward->counts[(size_t)cpu * FORWARD_NUMBERS + number], 0,
			sizeof(struct forward_count));
}

/* -- the part -- */

static void forward_close(void *state)
{
	struct forward *forward = state;

	for (uint32_t i = 0; i < FORWARD_NUMBERS; i++) {
		if (forward->maps[i].table >= 0)
			close(forward->maps[i].table);
		if (forward->maps[i].members >= 0)
			close(forward->maps[i].members);
	}
	memory_unmap(forward);
	forward_bpf__destroy(forward->skeleton);
	forward_bpf__destroy(forward->whole);
	free(forward);
}

static int forward_open(struct engine *engine, void **ret_state, struct error *error)
{
	struct forward *forward = calloc(1, sizeof(*forward));

	if (!forward)
		return error_set(error, -ENOMEM, "out of memory");
	*ret_state = forward;
	for (uint32_t i = 0; i < FORWARD_NUMBERS; i++)
		forward->maps[i] = (struct forward_maps){-1, -1};
	return engine_chain_has(engine, CHAIN_FORWARD) ? engine_forward_want(engine, true, error) : 0;
}

const struct engine_part forward_part = {"forward", forward_open, forward_close};
