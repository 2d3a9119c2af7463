// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
#include "agent/forward/forward_plan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/rule/shields.h"
#include "engine/shield.h"

_Static_assert(FORWARD_MEMBERS >= FORWARD_INTERFACES_MAX, "room for the largest switch");

/* -- interfaces -- */

int forward_look_open(struct agent *agent, bool ready, struct forward_look *ret_look)
{
	struct forward_look look = {.agent = agent, .ready = ready};
	int r = engine_interfaces(agent->engine, &look.interfaces, &look.count);

	if (r < 0)
		return r;
	look.takes = calloc(look.count + 1, sizeof(*look.takes));
	if (!look.takes) {
		free(look.interfaces);
		return -ENOMEM;
	}
	*ret_look = look;
	return 0;
}

void forward_look_close(struct forward_look *look)
{
	free(look->interfaces);
	free(look->takes);
}

/* What a kernel that does not tell can be taken to do: cards, and both ends of a cable. */
static bool kind_takes(const struct engine_interface *interface)
{
	static const char *const kinds[] = {"", "veth", "tun"};

	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (strcmp(kinds[i], interface->kind) == 0)
			return true;
	return false;
}

bool forward_look_takes(struct forward_look *look, size_t interface)
{
	const struct engine_interface *found = &look->interfaces[interface];
	int r;

	if (!found->ethernet || found->loopback)
		return false;
	if (!look->takes[interface]) {
		r = engine_takes_frames(look->agent->engine, found->index);
		look->takes[interface] = r > 0 || (r < 0 && kind_takes(found)) ? 1 : -1;
	}
	return look->takes[interface] > 0;
}

/* look->count: there is none. */
static size_t interface_find(const struct forward_look *look, const char *name)
{
	size_t i = 0;

	while (i < look->count && strcmp(look->interfaces[i].name, name) != 0)
		i++;
	return i;
}

static bool is_watched(const struct forward_look *look, uint32_t index)
{
	const struct agent *agent = look->agent;

	for (size_t i = 0; i < agent->watched_count; i++)
		if (agent->watched[i].index == index && agent->watched[i].state == WATCH_WATCHED)
			return true;
	return !look->ready;
}

/* -- what is missing -- */

#define say(state, ...) snprintf((state)->reason, sizeof((state)->reason), __VA_ARGS__)

/* Packets are taken from there. */
static bool source_is_ready(const struct forward_look *look, const struct engine_interface *interface,
	struct forward_state *state)
{
	struct engine_shield shield;

	if (!is_watched(look, interface->index)) {
		say(state, "%s is not one of weir's interfaces ('interfaces' of the configuration)",
			interface->name);
		return false;
	}
	if (!interface->ethernet || interface->loopback) {
		say(state, "%s has no Ethernet header", interface->name);
		return false;
	}
	engine_shield_query(look->agent->engine, interface->index, &shield);
	if (shield.mode == ENGINE_SHIELD_OFF) {
		const char *failure = shields_failure(look->agent, interface->index);

		say(state, "XDP is not in use on %s: %s", interface->name,
			*failure ? failure : "'xdp' of the configuration says so");
		return false;
	}
	state->generic |= shield.mode == ENGINE_SHIELD_GENERIC;
	return true;
}

/* Packets are sent there.  Generic XDP sends as the stack does. */
static bool target_is_ready(
	struct forward_look *look, size_t interface, bool any, struct forward_state *state)
{
	const struct engine_interface *found = &look->interfaces[interface];

	if (!found->ethernet || found->loopback) {
		say(state, "%s has no Ethernet header", found->name);
		return false;
	}
	if (any || forward_look_takes(look, interface))
		return true;
	if (strcmp(found->kind, "veth") == 0)
		say(state,
			"%s takes no frames from XDP: at its other end GRO has to be on, or a program at XDP",
			found->name);
	else
		say(state,
			"%s takes no frames from XDP (its driver has no such way; 'xdp: generic' needs none)",
			found->name);
	return false;
}

static bool is_generic(const struct forward_look *look, uint32_t index)
{
	struct engine_shield shield;

	engine_shield_query(look->agent->engine, index, &shield);
	return shield.mode == ENGINE_SHIELD_GENERIC;
}

/* Do all that packets come in by have generic XDP?  What is not there has none. */
static bool all_generic(const struct forward_look *look, const struct forward_text *forward)
{
	size_t sources = forward_sources(forward);

	for (size_t i = 0; i < sources; i++) {
		size_t interface = interface_find(look, forward->interfaces[i]);

		if (interface < look->count && !is_generic(look, look->interfaces[interface].index))
			return false;
	}
	return true;
}

/* One of the sentence's interfaces, by its place there. */
static bool interface_is_ready(struct forward_look *look, const struct forward_text *forward, size_t place,
	bool any, struct forward_state *state, size_t *ret_interface)
{
	size_t interface = interface_find(look, forward->interfaces[place]);
	bool target = forward->kind != FORWARD_ROUTE &&
	              (place > 0 || forward->both_ways || forward->kind == FORWARD_SWITCH);

	if (interface == look->count) {
		say(state, "there is no interface %s", forward->interfaces[place]);
		return false;
	}
	*ret_interface = interface;
	if (place < forward_sources(forward) && !source_is_ready(look, &look->interfaces[interface], state))
		return false;
	return !target || target_is_ready(look, interface, any, state);
}

/* -- ports -- */

bool forward_plan_names(const struct forward_text *forward, const char *name)
{
	/* a card may need its program to take frames, so where packets are sent counts, too */
	for (size_t i = 0; i < forward->interface_count; i++)
		if (strcmp(forward->interfaces[i], name) == 0)
			return true;
	return false;
}

static int port_add(struct forward_plan *plan, const struct forward_look *look,
	const struct forward_sentence *sentence, size_t from, size_t to)
{
	static const enum forward_way ways[] = {
		[FORWARD_ROUTE] = FORWARD_BY_ROUTE,
		[FORWARD_CONNECT] = FORWARD_TO,
		[FORWARD_SWITCH] = FORWARD_AMONG,
		[FORWARD_CHAIN] = FORWARD_TO,
	};
	struct engine_forward_port *ports = reallocarray(plan->ports, plan->count + 1, sizeof(*plan->ports));
	const struct engine_interface *interface = &look->interfaces[from];
	bool generic = is_generic(look, interface->index);

	if (!ports)
		return -ENOMEM;
	plan->ports = ports;
	ports[plan->count] = (struct engine_forward_port){
		.index = interface->index,
		.port = {.rule = sentence->entry->id,
			.to = to < look->count ? look->interfaces[to].index : 0,
			.number = sentence->number,
			.way = (uint8_t)ways[sentence->entry->rule.forward->kind],
			.any = generic,
			.veth = !generic && strcmp(interface->kind, "veth") == 0},
	};
	memcpy(ports[plan->count++].port.mac, interface->mac, sizeof(interface->mac));
	return 0;
}

/* All that have to be there are: one after the other sends to the next. */
static int row_add(struct forward_plan *plan, struct forward_look *look, struct forward_sentence *sentence,
	const size_t *interfaces)
{
	const struct forward_text *forward = sentence->entry->rule.forward;
	size_t count = forward->interface_count, sources = forward_sources(forward);
	int r = 0;

	for (size_t i = 0; i < sources && r == 0; i++)
		r = port_add(plan, look, sentence, interfaces[i],
			forward->kind == FORWARD_ROUTE ? look->count : interfaces[i + 1 < count ? i + 1 : 0]);
	return r;
}

static int switch_add(struct forward_plan *plan, struct forward_look *look, struct forward_sentence *sentence,
	const size_t *interfaces, size_t count)
{
	int r = 0;

	for (size_t i = 0; i < count && r == 0; i++) {
		sentence->members[sentence->member_count++] = look->interfaces[interfaces[i]].index;
		r = port_add(plan, look, sentence, interfaces[i], look->count);
	}
	return r;
}

/* 1, 0, or -1: nobody says. */
static int forwarding_read(int family, const char *name)
{
	char path[96];
	FILE *file;
	int first;

	snprintf(path, sizeof(path), "/proc/sys/net/ipv%d/conf/%s/forwarding", family, name);
	file = fopen(path, "re");
	first = file ? fgetc(file) : EOF;
	if (file)
		fclose(file);
	return first == EOF ? -1 : first != '0';
}

/* What does not keep it from working, but is to be known. */
static void doubts_say(
	const struct forward_look *look, const struct forward_text *forward, struct forward_state *state)
{
	if (*state->reason)
		return;
	if (forward->kind == FORWARD_ROUTE && forwarding_read(4, forward->interfaces[0]) == 0 &&
		forwarding_read(6, forward->interfaces[0]) <= 0) {
		say(state, "the kernel is not told to forward (net.ipv4.ip_forward, "
			   "net.ipv6.conf.all.forwarding)");
		return;
	}
	for (size_t i = 0; i < forward->interface_count; i++) {
		size_t interface = interface_find(look, forward->interfaces[i]);

		if (interface == look->count || look->interfaces[interface].up)
			continue;
		say(state, "%s is down", forward->interfaces[i]);
		return;
	}
}

int forward_plan_add(struct forward_plan *plan, struct forward_look *look, struct forward_sentence *sentence,
	struct error *error)
{
	const struct forward_text *forward = sentence->entry->rule.forward;
	size_t interfaces[FORWARD_INTERFACES_MAX] = {}, count = 0,
	       needed = forward->kind == FORWARD_SWITCH ? 2 : forward->interface_count;
	struct forward_state problem = {};
	bool any = all_generic(look, forward);
	int r = 0;

	for (size_t i = 0; i < forward->interface_count; i++) {
		if (interface_is_ready(look, forward, i, any, &problem, &interfaces[count]))
			count++;
		else if (!*sentence->state.reason)
			memcpy(sentence->state.reason, problem.reason, sizeof(problem.reason));
	}
	sentence->state.generic = problem.generic;
	sentence->state.active = count >= needed;
	if (sentence->state.active) {
		r = forward->kind == FORWARD_SWITCH ? switch_add(plan, look, sentence, interfaces, count)
		                                    : row_add(plan, look, sentence, interfaces);
		doubts_say(look, forward, &sentence->state);
	}
	return r < 0 ? error_set(error, r, "out of memory") : 0;
}
