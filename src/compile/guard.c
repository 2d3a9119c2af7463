// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
#include "compile/guard.h"

#include <stdio.h>
#include <string.h>

_Static_assert(MATCH_PORT_RANGES_MAX <= GUARD_PORTS_MAX, "room for every list of ports");

_Static_assert((int)RULE_CREATE == (int)GUARD_CREATE && (int)RULE_BIND == (int)GUARD_BIND &&
		       (int)RULE_CONNECT == (int)GUARD_CONNECT && (int)RULE_SEND == (int)GUARD_SEND,
	"calls have one numbering");

static uint64_t hash(const char *text)
{
	return owner_hash(text, strlen(text));
}

static uint32_t cgroup_depth(const char *path)
{
	uint32_t depth = 0;

	for (; *path; path++)
		depth += *path == '/';
	return depth;
}

/* Kubernetes' names for a pod's cgroup: systemd's, whose slices have no dashes to spare, and plain ones. */
static void pod_names(const char *uid, __u64 hashes[OWNER_CONDITION_NAMES])
{
	static const char *const slices[] = {
		"kubepods-pod", "kubepods-burstable-pod", "kubepods-besteffort-pod"};
	char name[OWNER_PATH_MAX + 64], underscores[OWNER_PATH_MAX];
	size_t i;

	snprintf(underscores, sizeof(underscores), "%s", uid);
	for (char *p = underscores; *p; p++)
		if (*p == '-')
			*p = '_';
	for (i = 0; i < sizeof(slices) / sizeof(slices[0]); i++) {
		snprintf(name, sizeof(name), "%s%s.slice", slices[i], underscores);
		hashes[i] = hash(name);
	}
	snprintf(name, sizeof(name), "pod%s", uid);
	hashes[i] = hash(name);
}

struct owner_condition owner_condition_compile(const struct owner_match *owner)
{
	struct owner_condition condition = {.number = owner->number};

	switch (owner->kind) {
	case OWNER_ANY:
		condition.kind = OWNER_CONDITION_ANY;
		break;
	case OWNER_PID:
		condition.kind = OWNER_CONDITION_PID;
		break;
	case OWNER_USER:
		condition.kind = OWNER_CONDITION_USER;
		break;
	case OWNER_GROUP:
		condition.kind = OWNER_CONDITION_GROUP;
		break;
	case OWNER_EXE:
		condition.kind = OWNER_CONDITION_EXE;
		condition.hash[0] = hash(owner->text);
		break;
	case OWNER_CGROUP:
		condition.kind = OWNER_CONDITION_CGROUP;
		condition.hash[0] = hash(owner->text);
		condition.number = cgroup_depth(owner->text);
		break;
	case OWNER_UNIT:
		condition.kind = OWNER_CONDITION_NAME;
		condition.hash[0] = hash(owner->text);
		break;
	case OWNER_POD:
		condition.kind = OWNER_CONDITION_NAME;
		pod_names(owner->text, condition.hash);
		break;
	case OWNER_CONTAINER:
		condition.kind = OWNER_CONDITION_CONTAINER;
		condition.hash[0] = hash(owner->text);
		break;
	}
	return condition;
}

static void prefix_compile(const struct prefix *prefix, struct guard_rule *rule)
{
	uint8_t mask[16] = {};

	for (unsigned int bit = 0; bit < prefix->length; bit++)
		mask[bit / 8] |= (uint8_t)(0x80 >> bit % 8);
	memcpy(rule->mask, mask, sizeof(rule->mask));
	memcpy(rule->address, prefix->address.bytes, sizeof(rule->address));
	rule->family = prefix->address.family;
}

struct guard_rule guard_compile(const struct rule *rule)
{
	struct guard_rule result = {
		.allow = rule->verb == RULE_ALLOW,
		.call = (uint8_t)rule->socket.call,
		.family = rule->match.family,
		.type = rule->socket.type,
		.protocol = (int16_t)rule->match.protocol,
		.owner_not = rule->owner_not,
		.owner = owner_condition_compile(&rule->match.owner),
		.port_count = rule->match.to.port_count,
	};

	if (rule->match.to.has_prefix)
		prefix_compile(&rule->match.to.prefix, &result);
	for (unsigned int i = 0; i < rule->match.to.port_count; i++)
		result.ports[i] =
			(struct guard_ports){rule->match.to.ports[i].low, rule->match.to.ports[i].high};
	return result;
}

static void list_add(struct guard_list *list, unsigned int place)
{
	list->rules[list->count++] = (uint16_t)place;
}

void guard_list(struct guard_policy *policy)
{
	memset(policy->lists, 0, sizeof(policy->lists));
	for (unsigned int i = 0; i < policy->count; i++) {
		const struct guard_rule *rule = &policy->rules[i];

		list_add(&policy->lists[rule->call], i);
		if (rule->call == GUARD_CONNECT || rule->call == GUARD_SEND)
			list_add(&policy->lists[GUARD_CONNECT_DATAGRAM], i);
	}
}
