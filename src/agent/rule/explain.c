// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
#include "agent/rule/explain.h"

#include <errno.h>
#include <string.h>

#include "agent/forward/forwards.h"
#include "agent/forward/steers.h"
#include "agent/internal.h"
#include "agent/owner/owners.h"
#include "agent/rule/explain_owner.h"
#include "agent/rule/policies.h"
#include "agent/rule/rules.h"
#include "agent/rule/shields.h"
#include "agent/service/services.h"
#include "agent/shape/shapes.h"
#include "basic/cleanup.h"
#include "compile/policy.h"
#include "engine/owner.h"
#include "engine/policy.h"
#include "engine/shape.h"
#include "engine/shield.h"
#include "model/packet.h"

#define ETHERNET_BYTES 14

/* -- what is asked -- */

/* NULL with `error` set. */
static const struct watched *interface_find(struct agent *agent, const char *name, struct error *error)
{
	for (size_t i = 0; i < agent->watched_count; i++) {
		const struct watched *watched = &agent->watched[i];

		if (watched->state == WATCH_WATCHED && (!*name || strcmp(watched->name, name) == 0))
			return watched;
	}
	if (*name)
		error_set(error, -EINVAL, "weir is not at interface '%s'", name);
	else
		error_set(error, -EINVAL, "weir is at no interface");
	error_want(error, "one that 'weir interfaces' shows");
	return NULL;
}

/* Whose the packet is: one of those who fit, else somebody of whom no more is known than what fits. */
static int owner_search(
	struct agent *agent, const struct owner_match *match, uint32_t *ret_owner, struct error *error)
{
	struct owner supposed;
	int r;

	*ret_owner = OWNER_UNKNOWN;
	if (match->kind == OWNER_ANY)
		return 0;
	for (uint32_t place = 0; place < owner_places(agent); place++) {
		const struct owner *owner = owner_at(agent, place);

		if (!owner || !owner_match_fits(match, owner))
			continue;
		*ret_owner = owner->id;
		return 0;
	}
	r = explain_owner(match, &supposed, error);
	if (r == 0)
		r = engine_owner_suppose(agent->engine, &supposed, error);
	if (r == 0)
		*ret_owner = OWNER_SUPPOSED;
	return r;
}

/* Without `on`: by the interface that leads to the other end, as this host routes.  None that is watched:
 * any. */
static void interface_suppose(struct agent *agent, struct packet_description *packet)
{
	const struct address *other = packet->out ? &packet->destination : &packet->source;
	uint8_t own[sizeof(other->bytes)];
	uint32_t index = 0;

	if (*packet->interface || engine_route(agent->engine, packet->family, other->bytes, &index, own) < 0)
		return;
	for (size_t i = 0; i < agent->watched_count; i++)
		if (agent->watched[i].index == index && agent->watched[i].state == WATCH_WATCHED)
			memcpy(packet->interface, agent->watched[i].name, sizeof(packet->interface));
}

/* What this host would send it from. */
static int source_find(struct agent *agent, struct packet_description *packet, struct error *error)
{
	char text[ADDRESS_TEXT_MAX];
	uint32_t index = 0;
	int r = engine_route(
		agent->engine, packet->family, packet->destination.bytes, &index, packet->source.bytes);

	if (r < 0) {
		error_set(error, -EINVAL, "this host has no route to %s",
			address_print(text, sizeof(text), &packet->destination));
		return error_want(error, "on INTERFACE, and from ADDRESS");
	}
	return 0;
}

static int explain(struct agent *agent, const char *text, struct policy_explanation *ret_explanation,
	struct packet_description *ret_packet, struct error *error)
{
	const struct watched *interface;
	uint8_t frame[PACKET_BYTES_MAX];
	uint32_t owner = OWNER_UNKNOWN;
	size_t size, skip;
	int r = packet_description_parse(text, ret_packet, error);

	if (r < 0)
		return r;
	if (ret_packet->source_open) {
		r = source_find(agent, ret_packet, error);
		if (r < 0)
			return r;
	}
	interface_suppose(agent, ret_packet);
	interface = interface_find(agent, ret_packet->interface, error);
	if (!interface)
		return error->code;
	r = owner_search(agent, &ret_packet->owner, &owner, error);
	if (r < 0)
		return r;
	size = packet_description_build(ret_packet, frame);
	skip = interface->ethernet ? 0 : ETHERNET_BYTES;
	r = engine_policy_explain(agent->engine, frame + skip, size - skip, interface->ethernet,
		interface->index, ret_packet->out, owner, ret_explanation, error);
	if (owner == OWNER_SUPPOSED)
		engine_owner_suppose(agent->engine, NULL, NULL);
	return r;
}

/* -- why -- */

/* Each function copies one thing that a rule asks for; false: it does not ask for it. */
typedef bool ask_function(struct rule *to, const struct rule *from);

#define ASK(name, condition, ...)                                                                            \
	static bool ask_##name(struct rule *to, const struct rule *from)                                     \
	{                                                                                                    \
		if (!(condition))                                                                            \
			return false;                                                                        \
		__VA_ARGS__;                                                                                 \
		return true;                                                                                 \
	}

static bool endpoint_asks(const struct endpoint *endpoint)
{
	return endpoint->has_prefix || endpoint->port_count;
}

ASK(direction, from->match.direction != MATCH_BOTH, to->match.direction = from->match.direction)
ASK(interface, *from->match.interface,
	memcpy(to->match.interface, from->match.interface, sizeof(to->match.interface)))
ASK(family, from->match.family, to->match.family = from->match.family)
ASK(protocol, from->match.protocol >= 0, to->match.protocol = from->match.protocol;
	to->match.icmp_type = from->match.icmp_type; to->packet.icmp_code = from->packet.icmp_code)
ASK(from, endpoint_asks(&from->match.from) || *from->packet.from_set || *from->packet.from_port_set,
	to->match.from = from->match.from;
	memcpy(to->packet.from_set, from->packet.from_set, sizeof(to->packet.from_set));
	memcpy(to->packet.from_port_set, from->packet.from_port_set, sizeof(to->packet.from_port_set)))
ASK(to, endpoint_asks(&from->match.to) || *from->packet.to_set || *from->packet.to_port_set,
	to->match.to = from->match.to;
	memcpy(to->packet.to_set, from->packet.to_set, sizeof(to->packet.to_set));
	memcpy(to->packet.to_port_set, from->packet.to_port_set, sizeof(to->packet.to_port_set)))
ASK(either, endpoint_asks(&from->match.either) || *from->packet.either_set || *from->packet.either_port_set,
	to->match.either = from->match.either;
	memcpy(to->packet.either_set, from->packet.either_set, sizeof(to->packet.either_set));
	memcpy(to->packet.either_port_set, from->packet.either_port_set, sizeof(to->packet.either_port_set)))
ASK(flags, from->packet.flags_mask, to->packet.flags = from->packet.flags;
	to->packet.flags_mask = from->packet.flags_mask)
ASK(state, from->packet.states, to->packet.states = from->packet.states)
ASK(dscp, from->packet.dscp >= 0, to->packet.dscp = from->packet.dscp)
ASK(vlan, from->match.vlan >= 0 || from->packet.untagged, to->match.vlan = from->match.vlan;
	to->packet.untagged = from->packet.untagged)
ASK(fragment, from->packet.fragment, to->packet.fragment = from->packet.fragment)
ASK(mark, from->packet.mark_mask, to->packet.mark = from->packet.mark;
	to->packet.mark_mask = from->packet.mark_mask)
ASK(owner, from->match.owner.kind != OWNER_ANY, to->match.owner = from->match.owner;
	to->owner_not = from->owner_not)
ASK(expression, *from->packet.expression,
	memcpy(to->packet.expression, from->packet.expression, sizeof(to->packet.expression));
	to->packet.expression_not = from->packet.expression_not)

static ask_function *const asks[] = {
	ask_direction,
	ask_interface,
	ask_family,
	ask_protocol,
	ask_from,
	ask_to,
	ask_either,
	ask_flags,
	ask_state,
	ask_dscp,
	ask_vlan,
	ask_fragment,
	ask_mark,
	ask_owner,
	ask_expression,
};

/* What the rule asked for, and the packet has: the rule's words, one condition each. */
static void why_write(struct json_write *out, const struct rule *rule)
{
	static const char verb[] = "accept ";
	char text[RULE_TEXT_MAX];
	struct rule blank;

	json_write_array_begin(out, "why");
	for (size_t i = 0; i < sizeof(asks) / sizeof(asks[0]); i++) {
		if (rule_parse("accept", &blank, NULL) < 0 || !asks[i](&blank, rule))
			continue;
		if (rule_print(&blank, text, sizeof(text)) == 0 && strlen(text) > strlen(verb))
			json_write_string(out, NULL, text + strlen(verb));
	}
	json_write_array_end(out);
}

/* -- the answer -- */

static bool path_has(const uint32_t *ids, size_t count, uint32_t id)
{
	for (size_t i = 0; i < count; i++)
		if (ids[i] == id)
			return true;
	return false;
}

/* What the packet belongs to, if it goes on: each sentence once (a link's is that of its rest, too). */
static void classes_write(
	struct agent *agent, struct json_write *out, const struct policy_explanation *explanation)
{
	struct shape_class_info class;
	uint32_t ids[SHAPE_PATH_MAX];
	struct shape_path path;
	size_t count = 0;

	if (!explanation->judged || explanation->action != POLICY_ACCEPT ||
		engine_shape_explained(agent->engine, &path) < 0)
		return;
	for (size_t i = 0; i < SHAPE_PATH_MAX && path.class[i]; i++) {
		if (!shapes_class(agent, path.class[i], &class) || path_has(ids, count, class.id))
			continue;
		if (!count)
			json_write_array_begin(out, "classes");
		ids[count++] = class.id;
		json_write_object_begin(out, NULL);
		json_write_number(out, "id", class.id);
		json_write_string(out, "text", class.text);
		json_write_string(out, "engine", class.engine);
		json_write_string(out, "engine_reason", class.reason);
		json_write_object_end(out);
	}
	if (count)
		json_write_array_end(out);
}

/* A service takes the packet at this hook, or it is forwarded: of the rules in front of it those that XDP
 * decides alone are asked. */
static void taken_write(struct agent *agent, struct json_write *out,
	const struct policy_explanation *explanation, const char *hook, bool delivered)
{
	json_write_string(out, "verdict", policies_action(delivered ? POLICY_ACCEPT : POLICY_DROP));
	json_write_string(out, "hook", hook);
	json_write_string(out, "policy", "host");
	json_write_array_begin(out, "passed");
	for (uint32_t i = 0; i < explanation->passed_count; i++) {
		const struct rule_entry *entry = rules_entry(agent, explanation->passed[i]);

		if (entry && policy_xdp_decides(&entry->rule))
			rules_write_name(agent, out, NULL, explanation->passed[i]);
	}
	json_write_array_end(out);
	if (explanation->rule && explanation->action != POLICY_ACCEPT)
		rules_write_name(agent, out, "unasked", explanation->rule);
}

static void explanation_write(struct agent *agent, struct json_write *out, const char *text,
	const struct packet_description *packet, const struct policy_explanation *explanation)
{
	const struct rule_policy *policy = rulebook_numbered(rules_book(agent), explanation->policy);
	const struct rule_entry *entry = rules_entry(agent, explanation->rule);
	bool shielded = shields_drop(agent, &explanation->facts, explanation->rule), delivered = false;
	const char *taken = NULL;

	json_write_object_begin(out, NULL);
	json_write_string(out, "packet", text);
	/* what would be dropped in XDP is so in front of a service in tc, too */
	if (!explanation->rule || engine_shield_rule(agent->engine, &explanation->facts) != explanation->rule)
		taken = services_explain(agent, packet, out, &delivered);
	if (!taken && !shielded && forwards_explain(agent, packet, out)) {
		taken = "xdp";
		delivered = true;
	}
	if (taken) {
		taken_write(agent, out, explanation, taken, delivered);
		if (policy)
			json_write_number(out, "generation", policy->generation);
		json_write_object_end(out);
		return;
	}
	json_write_string(out, "verdict", policies_action(explanation->action));
	if (explanation->rule)
		rules_write_name(agent, out, "rule", explanation->rule);
	json_write_string(out, "hook", shielded ? "xdp" : policies_hook(explanation->hook));
	json_write_string(out, "policy", policy && *policy->name ? policy->name : "host");
	if (policies_state(explanation->state))
		json_write_string(out, "state", policies_state(explanation->state));
	if (entry)
		why_write(out, &entry->rule);
	json_write_array_begin(out, "passed");
	for (uint32_t i = 0; i < explanation->passed_count; i++)
		rules_write_name(agent, out, NULL, explanation->passed[i]);
	json_write_array_end(out);
	classes_write(agent, out, explanation);
	if (!shielded)
		steers_explain(agent, packet, out);
	if (policy)
		json_write_number(out, "generation", policy->generation);
	json_write_object_end(out);
}

static void reply_explain(struct agent *agent, struct evhttp_request *request)
{
	static const char *const names[] = {"packet", NULL};
	_cleanup_free_ char *text = query_value(query_of(request), "packet");
	struct policy_explanation explanation = {};
	struct packet_description packet;
	struct json_write json = {};
	struct error error = {};
	int r = query_check(query_of(request), names, &error);

	if (r == 0 && !text) {
		error_set(&error, -EINVAL, "parameter 'packet' is missing");
		r = error_want(&error, "a packet, such as in tcp from 198.51.100.7 to 10.0.0.1 port 80");
	}
	if (r == 0)
		r = explain(agent, text, &explanation, &packet, &error);
	if (r < 0) {
		reply_refusal(request, &error);
		return;
	}
	explanation_write(agent, &json, text, &packet, &explanation);
	reply_json(request, HTTP_OK, "OK", &json);
	json_write_free(&json);
}

static const struct route routes[] = {
	{"/v1/explain", EVHTTP_REQ_GET, reply_explain},
	{NULL},
};

const struct module explain_module = {
	.name = "explain",
	.routes = routes,
};
