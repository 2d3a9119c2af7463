// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* Limits of rules (bpf/lib/limit.h): their places, and room for sources. */
#include <errno.h>
#include <string.h>
#include <time.h>

#include "basic/cleanup.h"
#include "compile/bucket.h"
#include "engine/internal.h"
#include "engine/policy.h"

static uint64_t monotonic_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* Buckets of sources and destinations take memory from the first limit on that needs them. */
static int sources_make(int slot)
{
	_cleanup_close_ int map = -1;
	__u32 key = 0, present;

	if (bpf_map_lookup_elem(slot, &key, &present) == 0)
		return 0;
	map = bpf_map_create(BPF_MAP_TYPE_LRU_HASH, "limit_sources", sizeof(struct policy_limited),
		sizeof(struct token_bucket), POLICY_LIMITED_MAX, NULL);
	if (map < 0)
		return map;
	return bpf_map_update_elem(slot, &key, &map, BPF_ANY) < 0 ? -errno : 0;
}

int engine_policy_limit(struct engine *engine, uint32_t place, const struct policy_limit *limit)
{
	static const struct token_bucket full;
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
		r = token_clock_start(&limit->rate, monotonic_ns(), &next.clock);
	if (r == 0 && limit->unit != POLICY_LIMIT_CONNECTIONS && limit->per != POLICY_PER_RULE)
		r = sources_make(component_map(object, "limit_sources"));
	if (r < 0)
		return r;
	if (bpf_map_update_elem(rules, &place, &full, BPF_ANY) < 0 ||
		bpf_map_update_elem(limits, &place, &next, BPF_ANY) < 0)
		return -errno;
	return 0;
}
