// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* Which policies are in force: the word that says so, what waits for a confirmation, and whose they are. */
#include <errno.h>
#include <string.h>

#include "basic/clock.h"
#include "engine/policy_internal.h"
#include "shared/forward.h"
#include "shared/guard.h"
#include "shared/service.h"

/* Ticks are compared by their difference, so none may stay further behind than this. */
#define TICK_AGE_MAX (1U << 30)

static uint32_t tick_now(const struct policy_engine *policy)
{
	uint32_t tick = 0;
	uint64_t tick_ns;

	engine_clock(policy->engine, &tick, &tick_ns); /* cannot fail once it has worked */
	return tick;
}

/* -- what is in force -- */

static bool tick_is_old(uint32_t tick, uint32_t now)
{
	return now - tick > TICK_AGE_MAX && now - tick < UINT32_MAX - TICK_AGE_MAX;
}

/* Decisions from before this call hold no more. */
static void forget(struct policy_engine *policy, bool cut)
{
	uint32_t since = tick_now(policy) + 1;

	if (cut)
		store(policy->now->cut, since ? since : 1);
	store(policy->now->since, since);
	store(policy->now->kept, cut ? POLICY_KEPT_NONE : POLICY_KEPT_SOME);
}

static bool asks_for_state(const struct policy_engine *policy, uint64_t places, uint64_t present)
{
	for (unsigned int number = 0; number < POLICY_NUMBER_MAX; number++) {
		const struct policy_unit *units =
			policy->memory[HOOK_TC][2 * number + (places >> number & 1)].units;

		if (present >> number & 1 && units &&
			((const struct policy_header *)units)->flags & POLICY_STATEFUL)
			return true;
	}
	return false;
}

/* From now on each packet of TCP comes to the connection table, or no more. */
static void follow_connections(struct policy_engine *policy, bool wanted)
{
	uint32_t since = tick_now(policy) + 1;

	if (!wanted)
		store(policy->now->stateful, 0);
	else if (!policy->now->stateful)
		store(policy->now->stateful, since ? since : 1);
}

/* What the datapath does by itself when the deadline has passed, made to last. */
static bool lapse(struct policy_engine *policy)
{
	struct policy_now *now = policy->now;

	if (!now->deadline || (int32_t)(tick_now(policy) - now->deadline) < 0)
		return false;
	policy->read = true;
	store(now->kept, POLICY_KEPT_SOME);
	store(now->places, now->places_before);
	store(now->present, now->present_before);
	store(now->active, now->present != 0);
	store(now->deadline, 0);
	follow_connections(policy, asks_for_state(policy, now->places, now->present));
	forget(policy, false);
	return true;
}

static int check_not_waiting(struct policy_engine *policy, struct error *error)
{
	lapse(policy);
	if (!policy->now->deadline)
		return 0;
	error_set(error, -EBUSY, "a change of the rules waits for its confirmation");
	return error_want(error, "'weir confirm' or 'weir rollback' first");
}

__u32 policy_place(const struct policy_engine *policy, unsigned int number)
{
	return 2 * number + (policy->now->places >> number & 1);
}

int engine_policy_room(struct engine *engine, unsigned int number, bool xdp,
	struct engine_policy_room *ret_room, struct error *error)
{
	struct policy_engine *policy = policy_of(engine);
	const struct policy_memory *memory;
	int r = policy_load(policy, error);

	if (r == 0)
		r = check_not_waiting(policy, error);
	if (r < 0)
		return r;
	memory = &policy->memory[xdp ? HOOK_XDP : HOOK_TC][policy_place(policy, number) ^ 1];
	r = memory->units ? policy_memory_wait(policy) : 0;
	if (r < 0)
		return error_set(
			error, r, "cannot wait for packets on their way through the rules: %s", strerror(-r));
	*ret_room = (struct engine_policy_room){memory->units, memory->count};
	return 0;
}

void engine_policy_rest(struct engine *engine)
{
	struct policy_engine *policy = policy_of(engine);

	if (!policy->skeleton)
		return;
	/* if something fails, whoever wants a room hears of it */
	for (unsigned int number = 0; number < POLICY_NUMBER_MAX && !policy->now->deadline; number++)
		if (policy->now->present >> number & 1)
			policy_memory_match(policy, number);
	policy_memory_wait(policy);
}

int engine_policy_bring(struct engine *engine, unsigned int number, const struct policy_image *image,
	const struct policy_image *xdp, struct error *error)
{
	struct policy_engine *policy = policy_of(engine);
	__u32 place;
	int r = policy_load(policy, error);

	if (r == 0)
		r = check_not_waiting(policy, error);
	if (r < 0)
		return r;
	place = policy_place(policy, number) ^ 1;
	if (image->expression_count)
		r = policy_expressions_bring(policy, place, image, error);
	if (r == 0)
		r = policy_memory_bring(policy, HOOK_TC, place, image, error);
	if (r == 0 && (xdp || policy->memory[HOOK_XDP][place].units))
		r = policy_memory_bring(policy, HOOK_XDP, place, xdp, error);
	return r;
}

/* Takes away the memory of policies that are not there any more. */
static void sweep(struct policy_engine *policy)
{
	for (unsigned int number = 0; number < POLICY_NUMBER_MAX; number++)
		for (int hook = 0; hook < HOOKS && !(policy->now->present >> number & 1); hook++)
			for (__u32 place = 2 * number; place < 2 * number + 2; place++)
				if (policy->memory[hook][place].units)
					policy_memory_bring(policy, hook, place, NULL, NULL);
}

/* The tick of a time; never 0, which means none. */
static uint32_t tick_of(const struct policy_engine *policy, uint64_t time_ns)
{
	uint64_t tick_ns = 1, now_ns = clock_ns(CLOCK_MONOTONIC), ahead;
	uint32_t tick = 0;

	engine_clock(policy->engine, &tick, &tick_ns);
	ahead = time_ns > now_ns ? (time_ns - now_ns + tick_ns - 1) / tick_ns : 0;
	tick += (uint32_t)(ahead < TICK_AGE_MAX ? ahead : TICK_AGE_MAX);
	return tick ? tick : 1;
}

int engine_policy_switch(struct engine *engine, uint64_t changed, uint64_t present, bool cut, bool tracking,
	uint64_t deadline_ns, struct error *error)
{
	struct policy_engine *policy = policy_of(engine);
	struct policy_now *now = policy->now;
	/* rules on sockets, services, what forwards and steers need nothing of what judges packets */
	int r = !(changed & ~(1ULL << GUARD_PLACE | 1ULL << SERVICE_PLACE | 1ULL << FORWARD_PLACE |
				    1ULL << STEER_PLACE)) &&
	                        !present
	                ? 0
	                : policy_load(policy, error);

	if (r == 0)
		r = check_not_waiting(policy, error);
	/* what is to be gone is an empty place */
	for (unsigned int number = 0; number < POLICY_NUMBER_MAX && r == 0; number++)
		for (int hook = 0; hook < HOOKS && r == 0; hook++) {
			__u32 place = policy_place(policy, number) ^ 1;

			if (changed >> number & 1 && !(present >> number & 1) &&
				policy->memory[hook][place].units)
				r = policy_memory_bring(policy, hook, place, NULL, error);
		}
	if (r < 0)
		return r;
	if (!cut)
		store(now->kept, POLICY_KEPT_SOME);
	store(now->places_before, now->places);
	store(now->present_before, now->present);
	if (deadline_ns)
		store(now->deadline, tick_of(policy, deadline_ns));
	store(now->tracking, tracking || (deadline_ns && now->tracking));
	follow_connections(
		policy, asks_for_state(policy, now->places ^ changed, present) ||
				(deadline_ns && asks_for_state(policy, now->places, now->present)));
	policy->read = true;
	store(now->present, present);
	if (present)
		store(now->active, 1);
	store(now->places, now->places ^ changed);
	forget(policy, cut);
	if (!deadline_ns) {
		store(now->active, present != 0);
		sweep(policy);
	}
	return 0;
}

int engine_policy_confirm(struct engine *engine, struct error *error)
{
	struct policy_engine *policy = policy_of(engine);
	struct policy_now *now = policy->now;

	if (lapse(policy))
		return error_set(error, -ETIMEDOUT,
			"the time to confirm has passed: what was in force before is again");
	if (!now->deadline)
		return error_set(error, -ENOENT, "no change of the rules waits for a confirmation");
	store(now->deadline, 0);
	store(now->active, now->present != 0);
	follow_connections(policy, asks_for_state(policy, now->places, now->present));
	forget(policy, false); /* the deadline may have passed a moment ago */
	sweep(policy);
	return 0;
}

int engine_policy_rollback(struct engine *engine, struct error *error)
{
	struct policy_engine *policy = policy_of(engine);
	struct policy_now *now = policy->now;

	if (lapse(policy))
		return 0;
	if (!now->deadline)
		return error_set(error, -ENOENT, "no change of the rules waits for a confirmation");
	policy->read = true;
	store(now->kept, POLICY_KEPT_SOME);
	store(now->present, now->present_before);
	store(now->places, now->places_before);
	store(now->deadline, 0);
	store(now->active, now->present != 0);
	follow_connections(policy, asks_for_state(policy, now->places, now->present));
	forget(policy, false);
	sweep(policy);
	return 0;
}

int engine_policy_now(struct engine *engine, struct policy_now *ret_now)
{
	struct policy_engine *policy = policy_of(engine);
	uint32_t tick = tick_now(policy);

	lapse(policy);
	if (tick_is_old(policy->now->since, tick))
		store(policy->now->since, tick - TICK_AGE_MAX / 2);
	if (policy->now->stateful && tick_is_old(policy->now->stateful, tick))
		store(policy->now->stateful, tick - TICK_AGE_MAX / 2);
	if (policy->now->cut && tick_is_old(policy->now->cut, tick))
		store(policy->now->cut, tick - TICK_AGE_MAX / 2);
	if (tick_is_old(policy->now->tell_next, tick))
		store(policy->now->tell_next, tick);
	*ret_now = *policy->now;
	return 0;
}

void engine_policy_keep(struct engine *engine)
{
	store(policy_of(engine)->now->kept, POLICY_KEPT_SOME);
}

void engine_policy_kept(struct engine *engine, uint32_t since, enum policy_kept kept)
{
	struct policy_now *now = policy_of(engine)->now;

	if (now->since == since && now->kept != POLICY_KEPT_NONE)
		store(now->kept, kept);
}

int engine_policy_forget(struct engine *engine, bool cut)
{
	forget(policy_of(engine), cut);
	return 0;
}

/* -- tenants -- */

static bool tenants_have(
	const struct engine_policy_tenant *tenants, size_t count, bool interface, uint64_t key)
{
	for (size_t i = 0; i < count; i++)
		if (interface ? tenants[i].ifindex == key : !tenants[i].ifindex && tenants[i].cgroup == key)
			return true;
	return false;
}

/* What is nobody's any more; while it waits for a confirmation, what it was before is kept. */
static int tenants_forget(
	int map, bool interface, const struct engine_policy_tenant *tenants, size_t count, bool waiting)
{
	uint64_t keys[2 * ENGINE_POLICY_TENANTS_MAX] = {}, *previous = NULL;
	size_t found = 0;
	int r = 0;

	while (found < sizeof(keys) / sizeof(keys[0]) &&
		bpf_map_get_next_key(map, previous, &keys[found]) == 0)
		previous = &keys[found++];
	for (size_t i = 0; i < found && r == 0; i++) {
		struct policy_grant tenant = {};

		if (tenants_have(tenants, count, interface, keys[i]))
			continue;
		bpf_map_lookup_elem(map, &keys[i], &tenant);
		tenant = (struct policy_grant){.before = tenant.number};
		r = waiting && tenant.before ? bpf_map_update_elem(map, &keys[i], &tenant, BPF_ANY)
		                             : bpf_map_delete_elem(map, &keys[i]);
		r = r < 0 ? -errno : 0;
	}
	return r;
}

static int tenant_set(int map, const struct engine_policy_tenant *wanted, bool waiting)
{
	const void *key = wanted->ifindex ? (const void *)&wanted->ifindex : (const void *)&wanted->cgroup;
	struct policy_grant tenant = {};

	if (bpf_map_lookup_elem(map, key, &tenant) < 0 && errno != ENOENT)
		return -errno;
	tenant.before = waiting ? tenant.number : (uint16_t)wanted->number;
	tenant.number = (uint16_t)wanted->number;
	return bpf_map_update_elem(map, key, &tenant, BPF_ANY) < 0 ? -errno : 0;
}

int engine_policy_tenants(struct engine *engine, const struct engine_policy_tenant *tenants, size_t count,
	bool waiting, struct error *error)
{
	struct policy_engine *policy = policy_of(engine);
	uint32_t flags = 0;
	int maps[2], r = 0;

	if (!policy->skeleton && !count)
		return 0;
	r = policy_load(policy, error);
	if (r < 0)
		return r;
	maps[0] = bpf_map__fd(policy->skeleton->maps.tenant_interfaces);
	maps[1] = bpf_map__fd(policy->skeleton->maps.tenant_cgroups);
	for (size_t i = 0; i < count && r == 0; i++) {
		flags |= tenants[i].ifindex ? POLICY_TENANT_INTERFACES : POLICY_TENANT_CGROUPS;
		r = tenant_set(maps[!tenants[i].ifindex], &tenants[i], waiting);
	}
	for (int i = 0; i < 2 && r == 0; i++)
		r = tenants_forget(maps[i], i == 0, tenants, count, waiting);
	if (r < 0)
		return error_set(error, r, "cannot give interfaces to tenants: %s", strerror(-r));
	store(policy->now->tenants, flags | (waiting ? policy->now->tenants : 0));
	forget(policy, false);
	return 0;
}

uint32_t engine_policy_place_of(struct engine *engine, uint32_t index)
{
	struct policy_engine *policy = policy_of(engine);
	struct policy_grant grant = {};

	lapse(policy);
	if (policy->now->tenants & POLICY_TENANT_INTERFACES && policy->skeleton)
		bpf_map_lookup_elem(bpf_map__fd(policy->skeleton->maps.tenant_interfaces), &index, &grant);
	return policy_place(policy, grant.number);
}
