// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
#include "agent/rule/shields.h"

#include <stdlib.h>
#include <string.h>

#include "agent/forward/steers.h"
#include "agent/internal.h"
#include "agent/rule/rules.h"
#include "basic/log.h"
#include "compile/policy.h"
#include "engine/balance.h"
#include "engine/balance_tc.h"
#include "engine/connection.h"
#include "engine/policy.h"
#include "engine/service.h"
#include "engine/shield.h"

struct shield_place {
	char name[ENGINE_NAME_MAX];
	uint32_t index;
	bool loopback;
	bool wanted; /* by rules, and by the configuration */
	enum config_xdp configured;
	struct engine_shield shield;
	char failure[ERROR_TEXT_MAX]; /* empty: none */
	bool balanced;                /* services are, in tc */
	char unbalanced[ERROR_TEXT_MAX];
};

/* Looking for connections that were there before the rules changed: all of them, some at a time. */
struct shield_search {
	bool runs;
	struct event *timer;
	struct engine_connection_cursor cursor;
	uint32_t since; /* tick of the change */
	uint32_t cut;
	uint64_t found;
	uint64_t ended_ns;
};

struct shields {
	struct agent *agent;
	struct shield_place *places; /* of each watched interface with an Ethernet header */
	size_t count;
	struct shield_search search;
};

#define SEARCH_SLICE    4096
#define SEARCH_PAUSE_US 5000
#define SEARCH_AGAIN_NS (60 * 1000000000ULL) /* they end, one by one */

static const char *const mode_words[] = {"off", "native", "generic"};

static struct shields *shields_of(const struct agent *agent)
{
	return module_state(agent, &shield_module);
}

static enum config_xdp mode_wanted(const struct agent *agent, const struct watched *watched)
{
	const struct config *config = &agent->config;
	enum config_xdp mode = config->xdp;

	for (size_t i = 0; i < config->xdp_interface_count; i++)
		if (strcmp(config->xdp_interfaces[i].name, watched->name) == 0)
			return config->xdp_interfaces[i].mode;
	/* of services it may be said, too */
	if (mode == CONFIG_XDP_AUTO && engine_balance_wanted(agent->engine) &&
		config->balance == CONFIG_BALANCE_XDP)
		mode = CONFIG_XDP_NATIVE;
	if (mode == CONFIG_XDP_AUTO && engine_balance_wanted(agent->engine) &&
		config->balance == CONFIG_BALANCE_GENERIC)
		mode = CONFIG_XDP_GENERIC;
	/* nothing comes in from outside there, and there is no native way */
	return watched->loopback && config->xdp == CONFIG_XDP_AUTO ? CONFIG_XDP_OFF : mode;
}

static const struct shield_place *place_find(const struct shields *shields, uint32_t index)
{
	for (size_t i = 0; i < shields->count; i++)
		if (shields->places[i].index == index)
			return &shields->places[i];
	return NULL;
}

static void place_attach(struct agent *agent, enum config_xdp mode, struct shield_place *place,
	const struct shield_place *before)
{
	struct engine_interface interface = {.index = place->index, .ethernet = true};
	struct error error = {};

	memcpy(interface.name, place->name, sizeof(interface.name));
	if (engine_shield_attach(agent->engine, &interface, mode != CONFIG_XDP_GENERIC,
		    mode != CONFIG_XDP_NATIVE, &place->shield, &error) == 0) {
		if (!before || before->shield.mode != place->shield.mode)
			log_info("XDP (%s) of interface %s is in use", mode_words[place->shield.mode],
				place->name);
		return;
	}
	engine_shield_query(agent->engine, place->index, &place->shield);
	memcpy(place->failure, error.what, sizeof(place->failure));
	if (!before || strcmp(before->failure, place->failure) != 0)
		log_warning("%s", place->failure);
}

/* Services need not XDP, where it is not asked for by name: they are slower in tc. */
static void place_balance(struct agent *agent, struct shield_place *place, const struct shield_place *before)
{
	struct engine_interface interface = {.index = place->index, .ethernet = true};
	struct error error = {};

	if (!engine_balance_wanted(agent->engine) || agent->config.balance != CONFIG_BALANCE_AUTO ||
		place->shield.mode || place->loopback) {
		if (!before || before->balanced)
			engine_balance_tc_detach(agent->engine, place->index);
		return;
	}
	memcpy(interface.name, place->name, sizeof(interface.name));
	place->balanced = engine_balance_tc_attach(agent->engine, &interface, &error) == 0;
	if (place->balanced && (!before || !before->balanced))
		log_info("services are balanced in tc of interface %s", place->name);
	if (place->balanced)
		return;
	memcpy(place->unbalanced, error.what, sizeof(place->unbalanced));
	if (!before || strcmp(before->unbalanced, place->unbalanced) != 0)
		log_warning("%s", place->unbalanced);
}

static void place_reconcile(struct agent *agent, const struct shields *shields, const struct watched *watched,
	struct shield_place *place)
{
	const struct shield_place *before = place_find(shields, watched->index);
	enum config_xdp mode = mode_wanted(agent, watched);

	*place = (struct shield_place){
		.index = watched->index, .configured = mode, .loopback = watched->loopback};
	memcpy(place->name, watched->name, sizeof(place->name));
	place->wanted = mode != CONFIG_XDP_OFF && engine_shield_wanted(agent->engine, watched->index);
	/* what the other way did not get is asked for again */
	if (place->wanted && before && before->configured != mode)
		engine_shield_detach(agent->engine, watched->index);
	/* each takes over before the other goes */
	if (place->wanted) {
		place_attach(agent, mode, place, before);
		place_balance(agent, place, before);
	} else {
		place_balance(agent, place, before);
		engine_shield_detach(agent->engine, watched->index);
	}
	engine_service_generic(agent->engine, watched->index, place->shield.mode == ENGINE_SHIELD_GENERIC);
}

static void search_begin(struct shields *shields);

void shields_reconcile(struct agent *agent)
{
	struct shields *shields = shields_of(agent);
	struct engine_interface *interfaces;
	struct shield_place *places;
	size_t count = 0;

	if (!shields)
		return;
	places = calloc(agent->watched_count + 1, sizeof(*places));
	interfaces = calloc(agent->watched_count + 1, sizeof(*interfaces));
	if (places && interfaces) {
		for (size_t i = 0; i < agent->watched_count; i++)
			if (agent->watched[i].state == WATCH_WATCHED && agent->watched[i].ethernet) {
				interfaces[count].index = agent->watched[i].index;
				place_reconcile(agent, shields, &agent->watched[i], &places[count++]);
			}
		engine_shield_forget_gone(agent->engine, interfaces, count);
		engine_balance_tc_forget_gone(agent->engine, interfaces, count);
		free(shields->places);
		shields->places = places;
		shields->count = count;
		places = NULL;
		steers_follow(agent);
	}
	free(places);
	free(interfaces);
	search_begin(shields);
}

/* Is it this policy that judges what comes in by the interface?  The host's does where no tenant's does. */
static bool policy_judges(
	const struct rulebook *book, const struct rule_policy *policy, const char *interface)
{
	for (size_t i = 1; i < book->count; i++)
		for (char *const *name = book->policies[i].interfaces; name && *name; name++)
			if (strcmp(*name, interface) == 0)
				return policy == &book->policies[i];
	return policy == book->policies;
}

const char *shields_hook(struct agent *agent, const struct rule_policy *policy, const struct rule *rule)
{
	const struct shields *shields = shields_of(agent);
	const char *name = rule->match.interface;

	if (shields && policy_xdp_decides(rule))
		for (size_t i = 0; i < shields->count; i++)
			if (shields->places[i].shield.mode &&
				(!*name || strcmp(name, shields->places[i].name) == 0) &&
				policy_judges(rules_book(agent), policy, shields->places[i].name))
				return "xdp";
	return "tc";
}

static const char *place_service_hook(const struct shield_place *place)
{
	if (place->shield.mode == ENGINE_SHIELD_NATIVE)
		return "xdp";
	if (place->shield.mode == ENGINE_SHIELD_GENERIC)
		return "xdp-generic";
	return place->balanced ? "tc" : "none";
}

const char *shields_service_hook(const struct agent *agent, const char *interface)
{
	static const char *const hooks[] = {"xdp", "xdp-generic", "tc"};
	const struct shields *shields = shields_of(agent);

	if (!shields || !engine_balance_wanted(agent->engine))
		return "none";
	for (size_t best = 0; best < sizeof(hooks) / sizeof(hooks[0]); best++)
		for (size_t i = 0; i < shields->count; i++)
			if (strcmp(place_service_hook(&shields->places[i]), hooks[best]) == 0 &&
				(!*interface || strcmp(shields->places[i].name, interface) == 0))
				return hooks[best];
	return "none";
}

void shields_service_write(const struct agent *agent, struct json_write *out)
{
	const struct shields *shields = shields_of(agent);

	json_write_array_begin(out, "hooks");
	for (size_t i = 0; shields && engine_balance_wanted(agent->engine) && i < shields->count; i++) {
		const struct shield_place *place = &shields->places[i];

		/* what comes in by lo is the host's own, unless XDP is asked for there */
		if (place->loopback && !place->shield.mode && !*place->failure)
			continue;
		json_write_object_begin(out, NULL);
		json_write_string(out, "interface", place->name);
		json_write_string(out, "hook", place_service_hook(place));
		if (*place->unbalanced)
			json_write_string(out, "why", place->unbalanced);
		else if (*place->failure)
			json_write_string(out, "why", place->failure);
		else if (!place->shield.mode && place->configured == CONFIG_XDP_OFF)
			json_write_string(out, "why", "XDP is off");
		json_write_object_end(out);
	}
	json_write_array_end(out);
}

bool shields_need_tc(const struct agent *agent)
{
	if (agent->config.balance != CONFIG_BALANCE_AUTO)
		return false;
	for (size_t i = 0; i < agent->watched_count; i++)
		if (agent->watched[i].ethernet && !agent->watched[i].loopback &&
			(mode_wanted(agent, &agent->watched[i]) == CONFIG_XDP_OFF ||
				*shields_failure(agent, agent->watched[i].index)))
			return true;
	return false;
}

bool shields_may(const struct agent *agent)
{
	for (size_t i = 0; i < agent->watched_count; i++)
		if (agent->watched[i].ethernet && !agent->watched[i].loopback &&
			mode_wanted(agent, &agent->watched[i]) != CONFIG_XDP_OFF)
			return true;
	return agent->config.xdp != CONFIG_XDP_OFF;
}

const char *shields_failure(const struct agent *agent, uint32_t index)
{
	const struct shields *shields = shields_of(agent);
	const struct shield_place *place = shields ? place_find(shields, index) : NULL;

	return place ? place->failure : "";
}

bool shields_reaches(const struct agent *agent, const char *interface, char reason[ERROR_TEXT_MAX])
{
	const struct shields *shields = shields_of(agent);
	const struct shield_place *place = NULL;

	for (size_t i = 0; shields && i < shields->count; i++)
		if (strcmp(shields->places[i].name, interface) == 0)
			place = &shields->places[i];
	if (place && place->shield.mode)
		return true;
	if (place && *place->failure)
		memcpy(reason, place->failure, ERROR_TEXT_MAX);
	else if (place && place->configured == CONFIG_XDP_OFF)
		snprintf(reason, ERROR_TEXT_MAX, "XDP of %s is off", interface);
	else
		snprintf(reason, ERROR_TEXT_MAX, "%s is not watched, or has no Ethernet header", interface);
	return false;
}

enum engine_shield_mode shields_mode(const struct agent *agent, uint32_t index)
{
	const struct shields *shields = shields_of(agent);
	const struct shield_place *place = shields ? place_find(shields, index) : NULL;

	return place ? place->shield.mode : ENGINE_SHIELD_OFF;
}

bool shields_drop(const struct agent *agent, const struct policy_facts *facts, uint32_t rule)
{
	const struct shields *shields = shields_of(agent);
	const struct shield_place *place = shields ? place_find(shields, facts->ifindex) : NULL;

	return place && place->shield.mode && rule && engine_shield_rule(agent->engine, facts) == rule;
}

/* -- connections that go on -- */

static int search_look(
	void *context, const struct connection_key *key, const struct connection *c, bool embryo)
{
	struct shields *shields = context;
	const struct shield_search *search = &shields->search;

	if (embryo || !c->established || (int32_t)(c->established - search->since) > 0 ||
		(search->cut && (int32_t)(c->established - search->cut) <= 0))
		return 0;
	shields->search.found++;
	for (int i = 0; i < 2; i++)
		engine_shield_kept_add(shields->agent->engine, key->address[i]);
	return 0;
}

static void search_sleep(struct shield_search *search)
{
	const struct timeval pause = {.tv_usec = SEARCH_PAUSE_US};

	evtimer_add(search->timer, &pause);
}

static void search_go_on(evutil_socket_t fd, short what, void *context)
{
	struct shields *shields = context;
	struct shield_search *search = &shields->search;
	struct engine *engine = shields->agent->engine;
	int r = engine_connection_walk(engine, &search->cursor, SEARCH_SLICE, search_look, shields);

	(void)fd;
	(void)what;
	if (r == 0) {
		search_sleep(search);
		return;
	}
	search->runs = false;
	search->ended_ns = agent_now_ns();
	if (r > 0)
		engine_policy_kept(
			engine, search->since, search->found ? POLICY_KEPT_KNOWN : POLICY_KEPT_NONE);
}

/* Anew after each change; now and then, since connections end. */
static void search_begin(struct shields *shields)
{
	struct shield_search *search = &shields->search;
	struct engine *engine = shields->agent->engine;
	struct policy_now now;

	if (!engine_shield_loaded(engine) || !engine_connection_there(engine) ||
		engine_policy_now(engine, &now) < 0 || now.kept == POLICY_KEPT_NONE || now.deadline)
		return;
	if (search->since == now.since &&
		(search->runs || (now.kept == POLICY_KEPT_KNOWN &&
					 agent_now_ns() - search->ended_ns < SEARCH_AGAIN_NS)))
		return;
	engine_policy_kept(engine, now.since, POLICY_KEPT_SOME);
	engine_shield_kept_clear(engine);
	search->runs = true;
	search->cursor = (struct engine_connection_cursor){};
	search->since = now.since;
	search->cut = now.cut;
	search->found = 0;
	search_sleep(search);
}

/* -- the module -- */

static int shields_open(struct agent *agent, void **ret_state, struct error *error)
{
	struct shields *shields = calloc(1, sizeof(*shields));

	*ret_state = shields;
	if (!shields)
		return error_set(error, -ENOMEM, "out of memory");
	shields->agent = agent;
	shields->search.timer = evtimer_new(agent->base, search_go_on, shields);
	return shields->search.timer ? 0 : error_set(error, -ENOMEM, "out of memory");
}

static void shields_close(void *state)
{
	struct shields *shields = state;

	if (shields->search.timer)
		event_free(shields->search.timer);
	free(shields->places);
	free(shields);
}

static void shields_reload(struct agent *agent, void *state)
{
	(void)state;
	shields_reconcile(agent);
}

/* A change that was not confirmed ends by itself. */
static void shields_tick(struct agent *agent, void *state, uint64_t now_ns)
{
	(void)state;
	(void)now_ns;
	shields_reconcile(agent);
}

static void shields_status(struct agent *agent, void *state, struct json_write *out)
{
	const struct shields *shields = state;

	(void)agent;
	json_write_array_begin(out, "xdp");
	for (size_t i = 0; i < shields->count; i++) {
		const struct shield_place *place = &shields->places[i];

		json_write_object_begin(out, NULL);
		json_write_string(out, "interface", place->name);
		json_write_boolean(out, "wanted", place->wanted);
		json_write_string(out, "mode", mode_words[place->shield.mode]);
		if (place->shield.program)
			json_write_number(out, "program", place->shield.program);
		if (*place->failure)
			json_write_string(out, "failure", place->failure);
		json_write_object_end(out);
	}
	json_write_array_end(out);
}

static void shields_metrics(struct agent *agent, void *state, struct evbuffer *out)
{
	const struct shields *shields = state;
	uint64_t counts[sizeof(mode_words) / sizeof(mode_words[0])] = {};

	(void)agent;
	for (size_t i = 0; i < shields->count; i++)
		counts[shields->places[i].shield.mode]++;
	metrics_head(out, "weir_xdp_interfaces", "gauge", "Watched interfaces by how XDP is used there.");
	for (size_t i = 0; i < sizeof(mode_words) / sizeof(mode_words[0]); i++)
		metrics_labelled(out, "weir_xdp_interfaces", "mode", mode_words[i], counts[i]);
}

const struct module shield_module = {
	.name = "shield",
	.open = shields_open,
	.close = shields_close,
	.reload = shields_reload,
	.tick = shields_tick,
	.status = shields_status,
	.metrics = shields_metrics,
};
