// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
#include "agent/forward/forwards.h"

#include <errno.h>
#include <event2/buffer.h>
#include <stdlib.h>
#include <string.h>

#include "agent/forward/forward_plan.h"
#include "agent/internal.h"
#include "agent/rule/rules.h"
#include "agent/rule/shields.h"
#include "basic/cleanup.h"
#include "basic/log.h"
#include "compile/policy.h"
#include "engine/chain.h"
#include "engine/forward.h"
#include "engine/service.h"
#include "engine/shield.h"
#include "model/packet.h"

#define LOOK_NS (2 * 1000000000ULL) /* what a driver takes changes without netlink saying so */

struct forwards {
	struct agent *agent;
	bool ready; /* it is known which interfaces are weir's */
	uint64_t looked_ns;
	struct forward_state states[FORWARD_NUMBERS];
};

static struct forwards *forwards_of(const struct agent *agent)
{
	return module_state(agent, &forward_module);
}

static int no_memory(struct error *error)
{
	return error_set(error, -ENOMEM, "out of memory");
}

/* -- what can be -- */

static int entry_check(const struct rulebook *book, const struct rule_entry *entry, struct error *error)
{
	const struct rule_entry *other;
	size_t place = 0, count = 0;

	while ((other = rulebook_next(book, RULE_FORWARD, &place)) && other != entry) {
		const char *interface = forward_conflict(other->rule.forward, entry->rule.forward);

		count++;
		if (!interface)
			continue;
		error_set(error, -EINVAL, "what comes in on %s is forwarded already: %.160s", interface,
			other->text);
		return error_want(error, "each interface once");
	}
	if (count < FORWARDS_MAX)
		return 0;
	error_set(error, -EINVAL, "too many sentences that forward");
	return error_want(error, "at most %d", FORWARDS_MAX);
}

int forwards_prepare(struct agent *agent, const struct rulebook *book, struct error *error)
{
	const struct rule_entry *entry;
	size_t place = 0;
	int r = 0;

	(void)agent;
	while (r == 0 && (entry = rulebook_next(book, RULE_FORWARD, &place)))
		r = entry_check(book, entry, error);
	return r;
}

uint64_t forwards_changed(const struct rulebook *now, const struct rulebook *next)
{
	return rulebook_has_same(now, next, RULE_FORWARD) ? 0 : 1ULL << FORWARD_PLACE;
}

/* -- numbers -- */

/* 0: it has none. */
static uint32_t number_find(const struct agent *agent, uint32_t rule)
{
	const uint32_t *rules = engine_forward_rules(agent->engine);

	for (uint32_t i = 1; rules && rule && i < FORWARD_NUMBERS; i++)
		if (rules[i] == rule)
			return i;
	return 0;
}

static int number_give(struct forwards *forwards, uint32_t rule, struct error *error)
{
	struct engine *engine = forwards->agent->engine;
	uint32_t *rules = engine_forward_rules(engine), number = 1;

	if (number_find(forwards->agent, rule))
		return 0;
	while (number < FORWARD_NUMBERS && rules[number])
		number++;
	if (number == FORWARD_NUMBERS)
		return error_set(error, -ENOSPC, "too many sentences that forward");
	engine_forward_forget(engine, number);
	engine_forward_count_clear(engine, number);
	forwards->states[number] = (struct forward_state){};
	rules[number] = rule;
	return 0;
}

static int numbers_give(struct forwards *forwards, const struct rulebook *book, struct error *error)
{
	const struct rule_entry *entry;
	size_t place = 0;
	int r = 0;

	while (r == 0 && (entry = rulebook_next(book, RULE_FORWARD, &place)))
		r = number_give(forwards, entry->id, error);
	return r;
}

static bool book_has(const struct rulebook *book, uint32_t rule)
{
	const struct rule_entry *entry;
	size_t place = 0;

	while ((entry = rulebook_next(book, RULE_FORWARD, &place)))
		if (entry->id == rule)
			return true;
	return false;
}

static void numbers_free(struct forwards *forwards, const struct rulebook *now, const struct rulebook *before)
{
	uint32_t *rules = engine_forward_rules(forwards->agent->engine);
	bool waited = false;

	for (uint32_t i = 1; rules && i < FORWARD_NUMBERS; i++) {
		if (!rules[i] || book_has(now, rules[i]) || book_has(before, rules[i]))
			continue;
		/* packets of the place before may be on their way */
		if (!waited)
			engine_service_wait();
		waited = true;
		engine_forward_forget(forwards->agent->engine, i);
		rules[i] = 0;
	}
}

/* -- ports -- */

/* The interfaces whose XDP these books want. */
static int wants_write(
	struct forwards *forwards, const struct rulebook *const books[2], const struct forward_look *look)
{
	struct agent *agent = forwards->agent;
	uint32_t *indexes = calloc(look->count + 1, sizeof(*indexes));
	size_t count = 0;
	int r;

	if (!indexes)
		return -ENOMEM;
	for (size_t i = 0; i < look->count; i++)
		for (size_t b = 0; b < 2; b++) {
			const struct rule_entry *entry;
			size_t place = 0;
			bool wanted = false;

			while (!wanted && (entry = rulebook_next(books[b], RULE_FORWARD, &place)))
				wanted = forward_plan_names(entry->rule.forward, look->interfaces[i].name);
			if (wanted) {
				indexes[count++] = look->interfaces[i].index;
				break;
			}
		}
	r = engine_chain_want(agent->engine, CHAIN_FORWARD, indexes, count);
	free(indexes);
	return r;
}

static void state_set(struct forwards *forwards, const struct rule_entry *entry, uint32_t number,
	const struct forward_state *state)
{
	struct forward_state *before = &forwards->states[number];

	if (before->known && before->active == state->active && strcmp(before->reason, state->reason) == 0)
		return;
	if (forwards->ready)
		log_info("rule %u %s%s%s: %s", entry->id, state->active ? "forwards" : "waits",
			*state->reason ? ": " : "", state->reason, entry->text);
	*before = *state;
	before->known = forwards->ready;
}

/* Writes the ports of a book into the place that is in force, or the other one. */
static int ports_write(struct forwards *forwards, const struct rulebook *book, bool other,
	struct forward_look *look, struct error *error)
{
	struct engine *engine = forwards->agent->engine;
	struct forward_plan plan = {};
	const struct rule_entry *entry;
	size_t place = 0;
	int r = 0;

	while (r == 0 && (entry = rulebook_next(book, RULE_FORWARD, &place))) {
		uint32_t number = number_find(forwards->agent, entry->id);
		struct forward_sentence sentence = {.entry = entry, .number = (uint16_t)number};

		r = forward_plan_add(&plan, look, &sentence, error);
		if (r == 0 && entry->rule.forward->kind == FORWARD_SWITCH)
			r = engine_forward_switch(
				engine, number, sentence.members, sentence.member_count, error);
		if (r == 0)
			state_set(forwards, entry, number, &sentence.state);
	}
	if (r == 0)
		r = engine_forward_ports(engine, other, plan.ports, plan.count, error);
	free(plan.ports);
	return r;
}

static bool book_routes(const struct rulebook *book)
{
	const struct rule_entry *entry;
	size_t place = 0;

	while ((entry = rulebook_next(book, RULE_FORWARD, &place)))
		if (entry->rule.forward->kind == FORWARD_ROUTE)
			return true;
	return false;
}

/* Where routes may lead. */
static int targets_write(struct forwards *forwards, const struct rulebook *const books[2],
	struct forward_look *look, struct error *error)
{
	uint32_t *indexes;
	size_t count = 0;
	int r;

	if (!book_routes(books[0]) && !book_routes(books[1]))
		return 0;
	indexes = calloc(look->count + 1, sizeof(*indexes));
	if (!indexes)
		return no_memory(error);
	for (size_t i = 0; i < look->count && count < FORWARD_PORTS_MAX; i++)
		if (forward_look_takes(look, i))
			indexes[count++] = look->interfaces[i].index;
	r = engine_forward_targets(forwards->agent->engine, indexes, count, error);
	free(indexes);
	return r;
}

static int look_begin(struct forwards *forwards, struct forward_look *ret_look, struct error *error)
{
	int r = forward_look_open(forwards->agent, forwards->ready, ret_look);

	return r < 0 ? error_set(error, r, "cannot list the interfaces: %s", strerror(-r)) : 0;
}

int forwards_bring(
	struct agent *agent, const struct rulebook *now, const struct rulebook *next, struct error *error)
{
	_cleanup_(forward_look_close) struct forward_look look = {};
	const struct rulebook *const books[2] = {now, next};
	struct forwards *forwards = forwards_of(agent);
	size_t place = 0;
	bool some = rulebook_next(next, RULE_FORWARD, &place);
	int r = 0;

	if (!some && !engine_forward_wanted(agent->engine))
		return 0;
	if (some)
		r = engine_forward_want(agent->engine, true, error);
	if (r == 0)
		r = look_begin(forwards, &look, error);
	if (r == 0 && wants_write(forwards, books, &look) < 0)
		r = no_memory(error);
	if (r < 0)
		return r;
	shields_reconcile(agent); /* how XDP is used there is known from now on */
	engine_service_wait();
	r = numbers_give(forwards, next, error);
	if (r == 0)
		r = targets_write(forwards, books, &look, error);
	return r == 0 ? ports_write(forwards, next, true, &look, error) : r;
}

/* What is in force, and what would be if nobody confirms, with the interfaces of now. */
static void follow(struct forwards *forwards, const struct rulebook *now, const struct rulebook *before)
{
	_cleanup_(forward_look_close) struct forward_look look = {};
	const struct rulebook *const books[2] = {now, before};
	struct error problem = {};
	int r = look_begin(forwards, &look, &problem);

	if (r == 0 && wants_write(forwards, books, &look) < 0)
		r = no_memory(&problem);
	if (r == 0) {
		shields_reconcile(forwards->agent);
		r = targets_write(forwards, books, &look, &problem);
	}
	if (r == 0 && before)
		r = ports_write(forwards, before, true, &look, &problem);
	if (r == 0)
		r = ports_write(forwards, now, false, &look, &problem);
	if (r < 0)
		log_warning("forwarding is as it was before: %s", problem.what);
	forwards->looked_ns = agent_now_ns();
}

void forwards_settle(struct agent *agent, const struct rulebook *now, const struct rulebook *before)
{
	struct forwards *forwards = forwards_of(agent);
	size_t i = 0, j = 0;
	struct error problem = {};

	if (!engine_forward_wanted(agent->engine))
		return;
	if (numbers_give(forwards, now, &problem) < 0 || numbers_give(forwards, before, &problem) < 0) {
		log_warning("%s", problem.what);
		return;
	}
	follow(forwards, now, before);
	numbers_free(forwards, now, before);
	if (rulebook_next(now, RULE_FORWARD, &i) || rulebook_next(before, RULE_FORWARD, &j))
		return;
	engine_forward_want(agent->engine, false, NULL);
	engine_chain_want(agent->engine, CHAIN_FORWARD, NULL, 0);
	shields_reconcile(agent);
}

void forwards_interfaces_changed(struct agent *agent)
{
	struct forwards *forwards = forwards_of(agent);

	if (!forwards)
		return;
	forwards->ready = true;
	if (engine_forward_wanted(agent->engine))
		follow(forwards, rules_book(agent), rules_book_before(agent));
}

/* -- what is said about them -- */

void forwards_count(
	const struct agent *agent, const struct rule_entry *entry, struct forward_count *ret_count)
{
	uint32_t number = entry->rule.verb == RULE_FORWARD ? number_find(agent, entry->id) : 0;

	*ret_count = (struct forward_count){};
	if (number)
		engine_forward_count(agent->engine, number, ret_count);
}

static const struct forward_state *state_of(const struct agent *agent, uint32_t number)
{
	return &forwards_of(agent)->states[number];
}

void forwards_write_entry(const struct agent *agent, struct json_write *out, const struct rule_entry *entry)
{
	uint32_t number = number_find(agent, entry->id);
	const struct forward_state *state = state_of(agent, number);
	struct forward_count count = {};

	forwards_count(agent, entry, &count);
	json_write_string(out, "kind", forward_kinds[entry->rule.forward->kind]);
	json_write_string(out, "hook", state->generic ? "xdp-generic" : "xdp");
	json_write_string(out, "state", state->active ? "active" : "waiting");
	if (*state->reason)
		json_write_string(out, "reason", state->reason);
	json_write_number(out, "packets", count.packets);
	json_write_number(out, "bytes", count.bytes);
	json_write_number(out, "lost", count.lost);
	json_write_number(out, "passed", count.passed);
	if (entry->rule.forward->kind != FORWARD_SWITCH)
		return;
	json_write_number(out, "flooded", count.flooded);
	json_write_number(out, "filtered", count.filtered);
	json_write_number(out, "moved", count.moved);
	json_write_number(out, "heard", engine_forward_heard(agent->engine, number));
}

/* By route goes what is for one other host. */
static bool route_takes(const struct agent *agent, const struct packet_description *packet)
{
	struct engine_hop hop;

	return packet->family && packet->vlan < 0 &&
	       engine_hop_find(agent->engine, packet->family, packet->destination.bytes, &hop) == 0 &&
	       !hop.local && !hop.several;
}

bool forwards_explain(
	const struct agent *agent, const struct packet_description *packet, struct json_write *out)
{
	const struct rule_entry *entry;
	size_t place = 0;

	while (!packet->out && (entry = rulebook_next(rules_book(agent), RULE_FORWARD, &place))) {
		const struct forward_text *forward = entry->rule.forward;
		bool fits = false;

		for (size_t i = 0; i < forward_sources(forward); i++)
			fits |= strcmp(forward->interfaces[i], packet->interface) == 0;
		if (!fits || !state_of(agent, number_find(agent, entry->id))->active)
			continue;
		if (forward->kind == FORWARD_ROUTE && !route_takes(agent, packet))
			return false;
		rules_write_name(agent, out, "forward", entry->id);
		return true;
	}
	return false;
}

/* Does a rule judge packets that come in by this interface, in tc alone? */
static bool rule_is_blind(const struct rule *rule, const char *interface)
{
	if (rule_kind(rule) != RULE_ON_PACKETS || policy_xdp_decides(rule))
		return false;
	if (rule->match.direction == MATCH_OUT)
		return false;
	return !*rule->match.interface || strcmp(rule->match.interface, interface) == 0;
}

static void blind_write(struct json_write *out, const struct rule_list *list, const struct rule_entry *entry,
	const struct rule_entry *about)
{
	const struct forward_text *forward = entry->rule.forward;
	const struct rule_entry *first = NULL;
	const char *interface = NULL;
	char text[RULE_TEXT_MAX + 256];
	size_t count = 0;

	for (size_t i = 0; i < list->count; i++) {
		const struct rule_entry *rule = list->slots[i].entry;

		if (about && about != entry && about != rule)
			continue;
		for (size_t j = 0; j < forward_sources(forward); j++) {
			if (!rule_is_blind(&rule->rule, forward->interfaces[j]))
				continue;
			interface = first ? interface : forward->interfaces[j];
			first = first ? first : rule;
			count++;
			break;
		}
	}
	if (!first)
		return;
	snprintf(text, sizeof(text),
		"rule %u (%.160s)%s does not see what rule %u takes from %s: only drop and limit decide at "
		"XDP",
		first->id, first->text, count > 1 ? ", as others," : "", entry->id, interface);
	json_write_string(out, NULL, text);
}

void forwards_write_warnings(struct agent *agent, struct json_write *out, const struct rule_entry *about)
{
	const struct rulebook *book = rules_book(agent);
	const struct rule_entry *entry;
	size_t place = 0;

	while ((entry = rulebook_next(book, RULE_FORWARD, &place))) {
		const struct forward_state *state = state_of(agent, number_find(agent, entry->id));
		char text[RULE_TEXT_MAX + 256];

		if (about && about != entry && about->rule.verb == RULE_FORWARD)
			continue;
		if (*state->reason && (!about || about == entry)) {
			snprintf(text, sizeof(text), "%s: rule %u %s: %s", state->reason, entry->id,
				state->active ? "does less than it says" : "waits", entry->text);
			json_write_string(out, NULL, text);
		}
		blind_write(out, &book->policies[0].list, entry, about);
	}
}

/* -- the module -- */

static int forwards_open(struct agent *agent, void **ret_state, struct error *error)
{
	struct forwards *forwards = calloc(1, sizeof(*forwards));

	if (!forwards)
		return no_memory(error);
	forwards->agent = agent;
	*ret_state = forwards;
	return 0;
}

static void forwards_tick(struct agent *agent, void *state, uint64_t now_ns)
{
	struct forwards *forwards = state;

	if (!forwards->ready || !engine_forward_wanted(agent->engine) ||
		now_ns - forwards->looked_ns < LOOK_NS)
		return;
	follow(forwards, rules_book(agent), rules_book_before(agent));
}

static void forwards_status(struct agent *agent, void *state, struct json_write *out)
{
	size_t place = 0, active = 0, waiting = 0;
	const struct rule_entry *entry;

	(void)state;
	while ((entry = rulebook_next(rules_book(agent), RULE_FORWARD, &place)))
		if (state_of(agent, number_find(agent, entry->id))->active)
			active++;
		else
			waiting++;
	json_write_object_begin(out, "forwarding");
	json_write_number(out, "active", active);
	json_write_number(out, "waiting", waiting);
	json_write_object_end(out);
}

static void forwards_metrics(struct agent *agent, void *state, struct evbuffer *out)
{
	static const struct {
		const char *name, *help;
		size_t offset;
	} counters[] = {
		{"weir_forward_packets_total", "Packets that a sentence has sent on, by its rule's id.",
			offsetof(struct forward_count, packets)},
		{"weir_forward_bytes_total", "Bytes of these packets.",
			offsetof(struct forward_count, bytes)},
		{"weir_forward_lost_total", "Packets sent on that the interface there did not take.",
			offsetof(struct forward_count, lost)},
		{"weir_forward_passed_total", "Packets left to the stack.",
			offsetof(struct forward_count, passed)},
		{"weir_forward_flooded_total", "Packets that a switch has sent to all.",
			offsetof(struct forward_count, flooded)},
		{"weir_forward_filtered_total", "Packets for who is where they came from.",
			offsetof(struct forward_count, filtered)},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(counters) / sizeof(counters[0]); i++) {
		const struct rule_entry *entry;
		size_t place = 0;

		metrics_head(out, counters[i].name, "counter", counters[i].help);
		while ((entry = rulebook_next(rules_book(agent), RULE_FORWARD, &place))) {
			struct forward_count count;

			forwards_count(agent, entry, &count);
			evbuffer_add_printf(out, "%s{rule=\"%u\"} %" PRIu64 "\n", counters[i].name, entry->id,
				*(const uint64_t *)((const char *)&count + counters[i].offset));
		}
	}
}

const struct module forward_module = {
	.name = "forward",
	.open = forwards_open,
	.close = free,
	.tick = forwards_tick,
	.status = forwards_status,
	.metrics = forwards_metrics,
};
