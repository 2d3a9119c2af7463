/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Does a process fit what a rule asks about its owner (struct owner_condition)? */
#ifndef WEIR_BPF_CONDITION_H
#define WEIR_BPF_CONDITION_H

#include "bpf/lib/family.h"
#include "shared/owner.h"

static __attribute__((always_inline)) inline int condition_name_fits(
	const struct owner_condition *condition, const struct owner *who)
{
	__u64 first = condition->hash[0];

	for (int i = 0; i < OWNER_DEPTH_MAX; i++) {
		__u64 hash = who->name_hash[i];

		if (!hash)
			return 0; /* the path ends here */
		if (hash == first)
			return 1;
		if (condition->hash[1] && (hash == condition->hash[1] || hash == condition->hash[2] ||
						  hash == condition->hash[3]))
			return 1;
	}
	return 0;
}

static __attribute__((always_inline)) inline int condition_fits(
	const struct owner_condition *condition, const struct owner *who)
{
	__u32 level = condition->number - 1;

	switch (condition->kind) {
	case OWNER_CONDITION_PID:
		if (who->key.pid == condition->number &&
			(!condition->hash[0] || who->key.start_ns / FAMILY_TICK_NS == condition->hash[0]))
			return 1;
		return condition->hash[1] &&
		       family_has(who->key.start_ns, who->key.pid, condition->hash[1] - 1);
	case OWNER_CONDITION_USER:
		return who->key.uid == condition->number;
	case OWNER_CONDITION_GROUP:
		return who->key.gid == condition->number;
	case OWNER_CONDITION_EXE:
		return who->exe_hash == condition->hash[0];
	case OWNER_CONDITION_CGROUP:
		return level < OWNER_DEPTH_MAX && who->path_hash[level] == condition->hash[0];
	case OWNER_CONDITION_NAME:
		return condition_name_fits(condition, who);
	case OWNER_CONDITION_CONTAINER:
		return who->container_hash == condition->hash[0];
	default:
		return 0;
	}
}

#endif
