// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* Limits of rules (bpf/lib/limit.h): their places, and room for sources. */
#include <errno.h>
#include <string.h>

#include "basic/cleanup.h"
#include "basic/clock.h"
#include "compile/bucket.h"
#include "engine/internal.h"
#include "engine/policy_internal.h"

#define BATCH 4096 /* entries read in one call */

/* Buckets of sources and destinations take memory from the first limit on that needs them. */
static int sources_make(struct policy_engine *policy, int slot)
{
	_cleanup_close_ int map = -1;
	__u32 key = 0, present;

	if (bpf_map_lookup_elem(slot, &key, &present) == 0)
		return 0;
	map = bpf_map_create(BPF_MAP_TYPE_LRU_HASH, "limit_sources", sizeof(struct policy_limited),
		sizeof(struct token_bucket), POLICY_LIMITED_MAX, NULL);
	if (map < 0)
		return map;
	if (bpf_map_update_elem(slot, &key, &map, BPF_ANY) < 0)
		return -errno;
	policy->limit_sources = TAKE_FD(map);
	return 0;
}

void policy_sources_adopt(struct policy_engine *policy)
{
	__u32 key = 0, id;

	if (policy->limit_sources < 0 &&
		bpf_map_lookup_elem(component_map(policy->skeleton->obj, "limit_sources"), &key, &id) == 0)
		policy->limit_sources = bpf_map_get_fd_by_id(id);
}

int engine_policy_limit(struct engine *engine, uint32_t place, const struct policy_limit *limit)
{
	static const struct token_bucket full;
	static const __u64 none;
	struct policy_limit present, next = *limit;
	const struct bpf_object *object;
	int limits, rules, r = engine_policy_object(engine, &object);

	if (r < 0)
		return r;
	limits = component_map(object, "rule_limits");
	rules = component_map(object, "limit_rules");
	if (bpf_map_lookup_elem(limits, &place, &present) < 0)
		return -errno;
	/* in use, perhaps: its buckets go on */
	if (present.generation == limit->generation && present.unit == limit->unit &&
		present.per == limit->per && present.prefix4 == limit->prefix4 &&
		present.prefix6 == limit->prefix6 &&
		memcmp(&present.rate, &limit->rate, sizeof(limit->rate)) == 0)
		return 0;
	if (limit->unit != POLICY_LIMIT_CONNECTIONS)
		r = token_clock_start(&limit->rate, clock_ns(CLOCK_MONOTONIC), &next.clock);
	if (r == 0 && limit->unit != POLICY_LIMIT_CONNECTIONS && limit->per != POLICY_PER_RULE)
		r = sources_make(policy_of(engine), component_map(object, "limit_sources"));
	if (r < 0)
		return r;
	if (bpf_map_update_elem(component_map(object, "limit_made"), &place, &none, BPF_ANY) < 0 ||
		bpf_map_update_elem(rules, &place, &full, BPF_ANY) < 0 ||
		bpf_map_update_elem(limits, &place, &next, BPF_ANY) < 0)
		return -errno;
	return 0;
}

bool engine_limit_sources(const struct engine *engine)
{
	return policy_of(engine)->limit_sources >= 0;
}

int engine_limit_made(struct engine *engine, uint64_t made[POLICY_LIMITS_MAX])
{
	const struct bpf_object *object = engine_policy_loaded(engine);
	int map = object ? component_map(object, "limit_made") : -1;
	_cleanup_free_ __u32 *places = NULL;
	__u32 count = POLICY_LIMITS_MAX, next;

	if (map < 0)
		return -ENOENT;
	places = calloc(POLICY_LIMITS_MAX, sizeof(*places));
	if (!places)
		return -ENOMEM;
	/* places come in their order, all in one call */
	return bpf_map_lookup_batch(map, NULL, &next, places, made, &count, NULL) < 0 && errno != ENOENT
	               ? -errno
	               : 0;
}

/* What one call reads. */
struct limited_batch {
	struct policy_limited keys[BATCH];
	struct token_bucket values[BATCH];
};

int engine_limit_walk(struct engine *engine, struct engine_limit_cursor *cursor,
	engine_limit_function *function, void *context)
{
	struct limited_batch *batch = malloc(sizeof(*batch));
	__u32 count = BATCH, next;
	int r;

	if (!batch)
		return -ENOMEM;
	r = bpf_map_lookup_batch(policy_of(engine)->limit_sources, cursor->started ? &cursor->batch : NULL,
		    &next, batch->keys, batch->values, &count, NULL) < 0
	            ? -errno
	            : 0;
	if (r == 0 || r == -ENOENT)
		for (__u32 i = 0; i < count; i++)
			function(context, &batch->keys[i]);
	free(batch);
	if (r == -ENOENT) {
		*cursor = (struct engine_limit_cursor){};
		return 1;
	}
	if (r == 0)
		*cursor = (struct engine_limit_cursor){.batch = next, .started = true};
	return r;
}
