// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
#include "compile/policy_rule.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "compile/guard.h"

static const enum policy_action verb_actions[RULE_VERBS] = {
	[RULE_ACCEPT] = POLICY_ACCEPT,
	[RULE_DROP] = POLICY_DROP,
	[RULE_REJECT] = POLICY_REJECT,
	[RULE_LIMIT] = POLICY_LIMIT,
	[RULE_GUARANTEE] = POLICY_SHAPE,
	[RULE_ASSIGN] = POLICY_SHAPE,
	[RULE_SHAPE] = POLICY_SHAPE,
	[RULE_STEER] = POLICY_ACCEPT, /* of a book of its own: the first that fits decides */
	[RULE_COUNT] = POLICY_COUNT,
	[RULE_LOG] = POLICY_LOG,
	[RULE_MARK] = POLICY_MARK,
	[RULE_REDIRECT] = POLICY_REDIRECT,
	[RULE_MIRROR] = POLICY_MIRROR,
	[RULE_REWRITE] = POLICY_MAC,
};

bool policy_xdp_decides(const struct rule *rule)
{
	const struct rule_packet *packet = &rule->packet;

	if (rule->verb != RULE_DROP && (rule->verb != RULE_LIMIT || packet->unit == POLICY_LIMIT_CONNECTIONS))
		return false;
	/* the classes of a packet are found in tc, all of them */
	if (rule_is_shape(rule))
		return false;
	/* the tag of a VLAN may stand beside the packet, where XDP does not see it */
	return rule->match.direction != MATCH_OUT && !packet->states && rule->match.owner.kind == OWNER_ANY &&
	       !packet->expression[0] && !packet->mark_mask && !packet->log && rule->match.vlan < 0 &&
	       !packet->untagged;
}

static uint8_t rule_family(const struct match *match, bool *ret_never)
{
	const struct endpoint *const ends[] = {&match->from, &match->to, &match->either};
	uint8_t family = match->family;

	for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
		if (!ends[i]->has_prefix)
			continue;
		if (family && family != ends[i]->prefix.address.family)
			*ret_never = true;
		family = ends[i]->prefix.address.family;
	}
	return family;
}

static int owner_number(struct policy_rule_views *views, const struct policy_source *source,
	uint8_t *ret_number, struct error *error)
{
	struct owner_condition condition = owner_condition_compile(&source->rule->match.owner);
	size_t i;

	if (condition.kind == OWNER_CONDITION_PID) {
		condition.hash[0] = source->pid_start;
		condition.hash[1] = source->family;
	}
	for (i = 0; i < views->owner_count; i++)
		if (!memcmp(&views->owners[i], &condition, sizeof(condition)))
			break;
	if (i == POLICY_OWNERS_MAX) {
		error_set(error, -E2BIG, "the rules name more than %d different owners", POLICY_OWNERS_MAX);
		return error_want(error, "one owner for several: a user, a cgroup");
	}
	views->owners[i] = condition;
	if (i == views->owner_count)
		views->owner_count++;
	*ret_number = (uint8_t)(i + 1);
	return 0;
}

static int expression_number(
	struct policy_rule_views *views, const char *text, uint8_t *ret_number, struct error *error)
{
	size_t i;

	for (i = 0; i < views->expression_count; i++)
		if (!strcmp(views->expressions[i], text))
			break;
	if (i == POLICY_EXPRESSIONS_MAX) {
		error_set(error, -E2BIG, "the rules have more than %d different expressions",
			POLICY_EXPRESSIONS_MAX);
		return error_want(error, "one expression with 'or'; what sentences can say without one");
	}
	views->expressions[i] = text;
	if (i == views->expression_count)
		views->expression_count++;
	*ret_number = (uint8_t)(i + 1);
	return 0;
}

/* There is no set of the kind; of the other one? */
static int set_refuse(const struct policy_rule_view *view, const struct policy_world *world, const char *name,
	bool addresses, struct error *error)
{
	const char *near = world->set_near ? world->set_near(world->context, name) : NULL;
	char text[RULE_TEXT_MAX] = "";
	size_t count;

	rule_print(view->rule, text, sizeof(text));
	error_set(error, -ENOENT, "there is no set '@%s' of %s", name, addresses ? "addresses" : "ports");
	if (addresses && world->port_set(world->context, name, &count))
		return error_want(error, "it is a set of ports: port @%s", name);
	if (!addresses && world->set(world->context, name) >= 0)
		return error_want(error, "it is a set of addresses: without 'port'");
	if (near)
		return error_want(error, "'%.160s' names it; did you mean '@%s'?", text, near);
	return error_want(error, "'%.160s' names it; 'weir set add %s ...' makes it", text, name);
}

static int view_sets(struct policy_rule_view *view, const struct policy_world *world, struct error *error)
{
	const struct rule_packet *packet = &view->rule->packet;
	const char *const addresses[] = {packet->from_set, packet->to_set, packet->either_set};
	const char *const ports[] = {packet->from_port_set, packet->to_port_set, packet->either_port_set};

	for (size_t i = 0; i < 3; i++) {
		view->sets[i] = -1;
		if (addresses[i][0]) {
			view->sets[i] = world->set(world->context, addresses[i]);
			if (view->sets[i] < 0)
				return set_refuse(view, world, addresses[i], true, error);
		}
		if (ports[i][0]) {
			view->port_sets[i] =
				world->port_set(world->context, ports[i], &view->port_set_counts[i]);
			if (!view->port_sets[i])
				return set_refuse(view, world, ports[i], false, error);
		}
	}
	return 0;
}

static void view_interfaces(struct policy_rule_view *view, const struct policy_world *world)
{
	const struct rule *rule = view->rule;

	if (rule->match.interface[0]) {
		view->ifindex = world->interface(world->context, rule->match.interface);
		view->asks |= 1U << POLICY_BY_INTERFACE;
		view->never |= !view->ifindex;
	}
	if (rule->verb == RULE_REDIRECT || rule->verb == RULE_MIRROR) {
		view->target = world->interface(world->context, rule->packet.interface);
		view->never |= !view->target;
	}
}

/* What XDP does not see is asked by others only. */
static int view_conditions(struct policy_rule_views *views, struct policy_rule_view *view,
	const struct policy_source *source, struct error *error)
{
	const struct rule_packet *packet = &view->rule->packet;
	int r = 0;

	if (packet->states)
		view->asks |= 1U << POLICY_BY_STATE;
	if (view->rule->match.vlan >= 0 || packet->untagged)
		view->asks |= 1U << POLICY_BY_VLAN;
	if (view->rule->match.owner.kind != OWNER_ANY)
		r = owner_number(views, source, &view->owner, error);
	if (!r && packet->expression[0])
		r = expression_number(views, packet->expression, &view->expression, error);
	view->mark = packet->mark;
	view->mark_mask = packet->mark_mask;
	if (view->mark_mask || view->expression)
		view->fickle = true;
	return r;
}

static int view_make(
	struct policy_rule_views *views, const struct policy_order *order, size_t number, struct error *error)
{
	struct policy_rule_view *view = &views->views[views->count];
	const struct policy_source *source = &order->sources[number];
	const struct rule *rule = source->rule;
	const struct match *match = &rule->match;
	int r;

	*view = (struct policy_rule_view){
		.rule = rule,
		.source = (uint32_t)number,
		.action = verb_actions[rule->verb],
		.directions = match->direction == MATCH_IN    ? 1
	                      : match->direction == MATCH_OUT ? 2
	                                                      : 3,
		.protocol = match->protocol,
		.fragments = rule->packet.fragment != RULE_FRAGMENT_ANY,
	};
	view->family = rule_family(match, &view->never);
	if (rule_is_shape(rule))
		view->action = POLICY_SHAPE;
	view->never |= rule_is_declared(rule);
	if (rule->verb == RULE_REWRITE && rule->packet.set_dscp >= 0)
		view->action = POLICY_DSCP;
	if (order->xdp) {
		view->directions = 3;
		view->loose = !policy_xdp_decides(rule);
		if (view->loose)
			view->action = POLICY_DEFER;
	}
	r = view_sets(view, order->world, error);
	if (!r && !view->loose)
		r = view_conditions(views, view, source, error);
	if (r)
		return r;
	view_interfaces(view, order->world);
	if (match->protocol >= 0)
		view->asks |= 1U << POLICY_BY_PROTO;
	if (match->icmp_type >= 0)
		view->asks |= 1U << POLICY_BY_ICMP;
	if (match->tcp_flags || rule->packet.flags_mask)
		view->asks |= 1U << POLICY_BY_FLAGS;
	if (rule->packet.dscp >= 0)
		view->asks |= 1U << POLICY_BY_DSCP;
	if (view->fragments || (view->asks & (1U << POLICY_BY_FLAGS | 1U << POLICY_BY_DSCP)))
		view->fickle = true;
	view->by_family =
		view->family && !match->family && view->directions == 3 && !view->fragments && !view->never;
	if (view->family || view->directions != 3 || view->fragments || view->never)
		view->asks |= 1U << POLICY_BY_KIND;
	views->count++;
	return 0;
}

int policy_rule_views_make(
	struct policy_rule_views *views, const struct policy_order *order, struct error *error)
{
	size_t end = order->count;
	int r;

	if (order->views) {
		*views = *order->views;
		views->lent = true;
		return 0;
	}
	/* nothing behind the last rule that XDP decides changes what it does */
	while (order->xdp && end && !policy_xdp_decides(order->sources[end - 1].rule))
		end--;
	views->views = calloc(end ? end : 1, sizeof(*views->views));
	if (!views->views)
		return error_set(error, -ENOMEM, "no memory for the policy");
	for (size_t i = 0; i < end; i++) {
		if (order->xdp && order->sources[i].rule->match.direction == MATCH_OUT)
			continue;
		r = view_make(views, order, i, error);
		if (r)
			return r;
	}
	return 0;
}

void policy_rule_views_clear(struct policy_rule_views *views)
{
	if (!views->lent)
		free(views->views);
	views->views = NULL;
	views->count = 0;
}

int policy_views_open(
	const struct policy_order *order, struct policy_rule_views **ret_views, struct error *error)
{
	struct policy_rule_views *views = calloc(1, sizeof(*views));
	int r = views ? policy_rule_views_make(views, order, error)
	              : error_set(error, -ENOMEM, "no memory for the policy");

	if (r)
		policy_views_close(views);
	else
		*ret_views = views;
	return r;
}

void policy_views_close(struct policy_rule_views *views)
{
	if (views)
		policy_rule_views_clear(views);
	free(views);
}

void policy_rule_range(const struct policy_rule_view *view, enum policy_field_name field, uint32_t *ret_first,
	uint32_t *ret_end)
{
	const struct rule_packet *packet = &view->rule->packet;
	uint32_t first, count = 1;

	switch (field) {
	case POLICY_BY_ICMP:
		first = (uint32_t)view->rule->match.icmp_type << 8;
		if (packet->icmp_code < 0)
			count = 256;
		else
			first |= (uint32_t)packet->icmp_code;
		break;
	case POLICY_BY_VLAN:
		first = packet->untagged ? 4096 : (uint32_t)view->rule->match.vlan;
		break;
	case POLICY_BY_PROTO:
		first = (uint32_t)view->protocol;
		break;
	case POLICY_BY_DSCP:
		first = (uint32_t)packet->dscp;
		break;
	default:
		/* an interface that is not there has no packets */
		first = view->ifindex;
		count = first != 0;
	}
	*ret_first = first;
	*ret_end = first + count;
}

static bool kind_taken(const struct policy_rule_view *view, uint32_t kind)
{
	static const uint8_t families[] = {0, 0, 4, 6}; /* kinds count by two: 0, 4 and 6 are 0, 2 and 3 */
	unsigned int out = kind % 2, fragment = kind / 2 % 3, family = families[kind / 6];
	enum rule_fragment wanted = view->rule->packet.fragment;

	if (view->never || !(view->directions & 1U << out) || (view->family && view->family != family))
		return false;
	return wanted == RULE_FRAGMENT_ANY || (wanted == RULE_FRAGMENT_FIRST_OR_LATER && fragment) ||
	       (wanted == RULE_FRAGMENT_FIRST && fragment == 1) ||
	       (wanted == RULE_FRAGMENT_LATER && fragment == 2);
}

bool policy_rule_takes(const struct policy_rule_view *view, enum policy_field_name field, uint32_t value)
{
	const struct rule_packet *packet = &view->rule->packet;

	switch (field) {
	case POLICY_BY_KIND:
		return kind_taken(view, value);
	case POLICY_BY_FLAGS:
		return value < 256 && (value & view->rule->match.tcp_flags) == view->rule->match.tcp_flags &&
		       (value & packet->flags_mask) == packet->flags;
	default:
		return packet->states >> value & 1;
	}
}
