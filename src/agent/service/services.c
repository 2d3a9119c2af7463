// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
#include "agent/service/services.h"

#include <errno.h>
#include <event2/event.h>
#include <stdlib.h>
#include <string.h>

#include "agent/rule/rules.h"
#include "agent/rule/shields.h"
#include "agent/service/checks.h"
#include "agent/service/services_internal.h"
#include "basic/cleanup.h"
#include "basic/log.h"
#include "engine/balance.h"
#include "engine/nat.h"
#include "engine/policy.h"

#define TIMER_US     250000
#define NEIGHBOURS   64                   /* asked for at a time */
#define NEIGHBOUR_NS (10 * 1000000000ULL) /* each so often */

struct services *services_of(const struct agent *agent)
{
	return module_state(agent, &service_module);
}

static int no_memory(struct error *error)
{
	return error_set(error, -ENOMEM, "out of memory");
}

/* With the first service. */
static int services_make_room(struct services *services, struct error *error)
{
	if (services->live)
		return 0;
	services->live = calloc(SERVICES_MAX, sizeof(*services->live));
	services->backends = calloc(SERVICE_BACKENDS_MAX, sizeof(struct service_backend_live *));
	if (services->live && services->backends)
		return 0;
	free(services->live);
	free(services->backends);
	services->live = NULL;
	services->backends = NULL;
	return no_memory(error);
}

static uint32_t tick_now(const struct agent *agent)
{
	uint64_t tick_ns;
	uint32_t tick = 0;

	engine_clock(agent->engine, &tick, &tick_ns);
	return tick;
}

static uint32_t ticks_of(const struct agent *agent, uint64_t ns)
{
	uint64_t tick_ns = 1;
	uint32_t tick;

	engine_clock(agent->engine, &tick, &tick_ns);
	return (uint32_t)(ns / tick_ns);
}

/* -- what can be -- */

/* Packets leave XDP with the MAC address of the next host in front.  `good`: the last that was seen to do. */
static int hop_interface_check(
	struct services *services, uint32_t index, uint32_t *good, const char *address, struct error *error)
{
	struct engine_interface *interfaces = NULL;
	size_t count = 0;
	int r = index == *good ? 0 : engine_interfaces(services->agent->engine, &interfaces, &count);

	for (size_t i = 0; r == 0 && i < count; i++)
		if (interfaces[i].index == index && !interfaces[i].ethernet) {
			error_set(error, -EINVAL,
				"%s is reached by %s, which has no Ethernet header: services cannot be "
				"delivered that way",
				address, interfaces[i].name);
			r = error_want(error, "a backend behind an Ethernet interface");
		}
	free(interfaces);
	if (r == 0)
		*good = index;
	return r;
}

/* Is the interface one whose packets can be seen before the stack? */
static bool nat_comes_back(const struct agent *agent, const struct engine_hop *hop)
{
	for (size_t i = 0; i < agent->watched_count; i++)
		if (agent->watched[i].index == hop->index)
			return agent->watched[i].ethernet && agent->watched[i].state == WATCH_WATCHED;
	return false;
}

static int hop_check(struct services *services, const struct service_text *text, const struct address *to,
	uint32_t *good, struct error *error)
{
	char address[ADDRESS_TEXT_MAX];
	struct engine_hop hop;
	int r = engine_hop_find(services->agent->engine, to->family, to->bytes, &hop);

	address_print(address, sizeof(address), to);
	if (r < 0) {
		error_set(error, -EINVAL, "there is no route to %s, a backend of service %s", address,
			text->name);
		return error_want(error, "a backend that 'ip route get %s' finds a way to", address);
	}
	if (hop.several) {
		error_set(error, -EINVAL, "%s, a backend of service %s, is not the address of one host",
			address, text->name);
		return error_want(error, "an address that the backend alone has");
	}
	if (hop.local) {
		error_set(error, -EINVAL,
			"%s is an address of this host: it cannot be a backend of service %s", address,
			text->name);
		return error_want(error, "an address of another host");
	}
	r = hop_interface_check(services, hop.index, good, address, error);
	if (r < 0)
		return r;
	if (text->deliver == SERVICE_L2 && hop.gateway) {
		error_set(error, -EINVAL, "%s is behind a gateway: l2 reaches only hosts on the same network",
			address);
		return error_want(error, "deliver ipip or gue");
	}
	if (text->deliver == SERVICE_NAT && !shields_may(services->agent)) {
		error_set(error, -EINVAL, "XDP is off, and nat, which service %s wants, works only there",
			text->name);
		return error_want(error, "deliver ipip, gue or l2, or 'xdp: auto' in the configuration");
	}
	if (text->deliver == SERVICE_NAT && !nat_comes_back(services->agent, &hop)) {
		error_set(error, -EINVAL,
			"the answers of %s, a backend of service %s, come in by an interface that is not "
			"watched: nat "
			"would not see them",
			address, text->name);
		return error_want(error, "that interface among 'interfaces', or deliver ipip");
	}
	if (text->deliver == SERVICE_NAT && !text->has_from && !hop.has_from &&
		!services->agent->config.balance_nat[to->family == 6].first.family) {
		error_set(error, -EINVAL,
			"this host has no address to send from to %s, a backend of service %s", address,
			text->name);
		return error_want(error, "nat from ADDRESS");
	}
	return 0;
}

static bool book_has(const struct rulebook *book, const struct rule_entry *entry)
{
	const struct rule_list *list = &book->policies[0].list;

	for (size_t i = 0; book->count && i < list->count; i++)
		if (list->slots[i].entry == entry)
			return true;
	return false;
}

/* Only of what is new: what was there before may have lost its routes for a while. */
static int hops_check(struct services *services, const struct service_plan *plan,
	const struct rule_entry **ret_about, struct error *error)
{
	const struct rulebook *now = rules_book(services->agent);
	uint32_t good = 0;
	int r = 0;

	for (size_t i = 0; i < plan->count && r == 0; i++) {
		const struct service_text *text = plan->entries[i].text;

		if (book_has(now, plan->entries[i].entry))
			continue;
		for (size_t j = 0; j < text->backend_count && r == 0; j++)
			r = hop_check(services, text, &text->backends[j].address, &good, error);
		if (r < 0 && ret_about)
			*ret_about = plan->entries[i].entry;
	}
	return r;
}

int services_prepare(struct agent *agent, const struct rulebook *book, bool absent,
	const struct rule_entry **ret_about, struct error *error)
{
	_cleanup_(service_plan_clear) struct service_plan plan = {};
	int r;

	if (service_plan_make(book, &plan) < 0)
		return no_memory(error);
	if (!plan.count)
		return 0;
	r = service_plan_check(&plan, error);
	return r == 0 && !absent ? hops_check(services_of(agent), &plan, ret_about, error) : r;
}

bool services_same(const struct rulebook *a, const struct rulebook *b)
{
	return rulebook_has_same(a, b, RULE_SERVICE);
}

/* -- numbers, and what the kernel knows of backends -- */

static int service_add(struct services *services, struct service_plan_entry *entry, struct error *error)
{
	uint32_t number = 1;

	while (number < SERVICES_MAX && *services->live[number].name)
		number++;
	if (number == SERVICES_MAX)
		return error_set(error, -ENOSPC, "there are %d services already", SERVICES_MAX - 1);
	services->live[number] = (struct service_live){};
	snprintf(services->live[number].name, sizeof(services->live[number].name), "%s", entry->text->name);
	engine_service_lost_clear(services->agent->engine, number);
	entry->number = number;
	return 0;
}

static struct port_range nat_ports(const struct config *config, const struct service_text *text)
{
	return text->from_ports.high ? text->from_ports : config->balance_ports;
}

/* What nat and gue send from: what the sentence says, else what the kernel would. */
static void source_write(struct services *services, const struct service_text *text,
	const struct service_backend_text *backend, uint32_t number)
{
	const struct engine_service_memory *memory = engine_service_memory(services->agent->engine);
	const struct config *config = &services->agent->config;
	const struct config_nat *nat = &config->balance_nat[backend->address.family == 6];
	struct port_range ports = nat_ports(config, text);
	struct service_source source = {
		.nat_addresses = 1, .first = htons(ports.low), .last = htons(ports.high)};
	struct address from = text->from_first;
	struct engine_hop hop;

	if (text->has_from)
		source.nat_addresses = service_nat_addresses(&text->from_first, &text->from_last);
	else if (text->deliver == SERVICE_NAT && nat->first.family) {
		from = nat->first;
		source.nat_addresses = service_nat_addresses(&nat->first, &nat->last);
	} else if ((text->deliver == SERVICE_NAT || text->deliver == SERVICE_GUE) &&
		   engine_hop_find(services->agent->engine, backend->address.family, backend->address.bytes,
			   &hop) == 0 &&
		   hop.has_from) {
		from.family = backend->address.family;
		memcpy(from.bytes, hop.from, sizeof(from.bytes));
	}
	if (from.family == 4)
		memcpy(&source.address4, from.bytes, 4);
	if (from.family == 6)
		memcpy(source.address6, from.bytes, 16);
	memory->sources[number] = source;
	memory->backends[number].source = source.address4;
}

static int backend_add(struct services *services, const struct service_plan_entry *entry, size_t place,
	uint32_t *next, struct error *error)
{
	const struct service_backend_text *text = &entry->text->backends[place];
	const struct engine_service_memory *memory = engine_service_memory(services->agent->engine);
	struct service_backend_live *live;
	struct service_backend *backend;
	uint32_t since;

	while (*next < SERVICE_BACKENDS_MAX && services->backends[*next])
		(*next)++;
	if (*next == SERVICE_BACKENDS_MAX)
		return error_set(error, -ENOSPC, "there are %d backends already", SERVICE_BACKENDS_MAX - 1);
	live = calloc(1, sizeof(*live));
	if (!live)
		return no_memory(error);
	*live = (struct service_backend_live){.service = entry->number,
		.address = text->address,
		.port = text->port,
		.state = SERVICE_BACKEND_UP,
		.since_ns = agent_now_ns()};
	services->backends[*next] = live;
	entry->backends[place] = (uint16_t)*next;
	engine_service_count_clear(services->agent->engine, *next);
	backend = &memory->backends[*next];
	since = tick_now(services->agent) + 1;
	*backend = (struct service_backend){.port = htons(text->port),
		.family = text->address.family,
		.generation = backend->generation + 1,
		.service = entry->number,
		.since = since ? since : 1};
	memcpy(backend->address, text->address.bytes, sizeof(backend->address));
	memory->loads[*next] = (struct service_load){.weight = text->weight};
	source_write(services, entry->text, text, *next);
	engine_neighbour_use(services->agent->engine, text->address.family, text->address.bytes);
	__atomic_store_n(&backend->state, SERVICE_BACKEND_UP, __ATOMIC_RELEASE);
	return 0;
}

static int plan_number(
	struct services *services, struct service_plan *plan, const struct rulebook *now, struct error *error)
{
	uint32_t next = 1;
	int r = 0;

	service_plan_number(services, plan);
	for (size_t i = 0; i < plan->count && r == 0; i++) {
		struct service_plan_entry *entry = &plan->entries[i];

		/* what the sentence says of it may be new */
		for (size_t j = 0; j < entry->text->backend_count && !book_has(now, entry->entry); j++)
			if (entry->backends[j])
				source_write(
					services, entry->text, &entry->text->backends[j], entry->backends[j]);

		if (!entry->number)
			r = service_add(services, entry, error);
		for (size_t j = 0; j < entry->text->backend_count && r == 0; j++)
			if (!entry->backends[j])
				r = backend_add(services, entry, j, &next, error);
	}
	return r;
}

/* -- books -- */

/* What nat sends from: all of its services' addresses. */
static int answers_make(struct services *services, const struct service_plan *plan,
	struct service_answers **ret_answers, size_t *ret_count)
{
	const struct engine_service_memory *memory = engine_service_memory(services->agent->engine);
	const struct config *config = &services->agent->config;
	struct service_answers *answers;
	size_t count = 0, room = 1;

	for (size_t i = 0; i < plan->count; i++)
		room += plan->entries[i].text->backend_count;
	answers = calloc(room, sizeof(*answers));
	if (!answers)
		return -ENOMEM;
	for (size_t i = 0; i < plan->count; i++) {
		const struct service_plan_entry *entry = &plan->entries[i];
		const struct port_range ports = nat_ports(config, entry->text);
		const struct config_nat *nat;

		if (entry->text->deliver != SERVICE_NAT)
			continue;
		nat = entry->text->has_from
		              ? &(struct config_nat){entry->text->from_first, entry->text->from_last}
		              : &config->balance_nat[entry->text->prefix.address.family == 6];
		if (nat->first.family) {
			answers[count++] = (struct service_answers){nat->first, nat->last, ports};
			continue;
		}
		for (size_t j = 0; j < entry->text->backend_count; j++) {
			const struct service_source *source = &memory->sources[entry->backends[j]];
			struct address *first = &answers[count].first;

			first->family = entry->text->backends[j].address.family;
			if (first->family == 4)
				memcpy(first->bytes, &source->address4, 4);
			else
				memcpy(first->bytes, source->address6, 16);
			answers[count].last = *first;
			answers[count].ports = ports;
			count++;
		}
	}
	*ret_answers = answers;
	*ret_count = count;
	return 0;
}

static int book_bring(struct services *services, const struct service_plan *plan,
	struct service_input *inputs, struct error *error)
{
	struct service_answers *answers = NULL;
	struct engine *engine = services->agent->engine;
	const struct service_book *now = (const struct service_book *)engine_service_book(engine, false);
	struct service_image image = {};
	size_t answer_count = 0;
	int r = service_rings_bring(services, plan, inputs, error);

	if (r == 0 && answers_make(services, plan, &answers, &answer_count) < 0)
		r = no_memory(error);
	for (size_t i = 0; i < plan->count; i++) {
		const struct service_plan_entry *entry = &plan->entries[i];

		inputs[i].text = entry->text;
		inputs[i].number = entry->number;
		inputs[i].rule = entry->entry->id;
		inputs[i].idle_ticks = ticks_of(services->agent, service_idle_ns(entry->text));
		inputs[i].affinity_ticks = ticks_of(services->agent, service_affinity_ns(entry->text));
	}
	if (r == 0)
		r = service_compile(inputs, plan->count, answers, answer_count, now ? now->generation + 1 : 1,
			&image, error);
	if (r == 0)
		r = engine_service_bring(engine, &image, error);
	free(answers);
	free(image.units);
	return r;
}

/* Connections in the kernel's memory: as many as the configuration says when there was none before. */
static uint32_t flows_wanted(const struct agent *agent)
{
	return agent->config.balance_flows;
}

static bool plan_has_nat(const struct service_plan *plan)
{
	for (size_t i = 0; i < plan->count; i++)
		if (plan->entries[i].text->deliver == SERVICE_NAT)
			return true;
	return false;
}

struct engine_balance_load *services_load(struct agent *agent, const struct rulebook *book)
{
	const struct rule_entry *entry;
	bool some = false, nat = false;
	size_t place = 0;

	while ((entry = rulebook_next(book, RULE_SERVICE, &place))) {
		some = true;
		nat |= entry->rule.service->deliver == SERVICE_NAT;
	}
	return some && agent->config.balance != CONFIG_BALANCE_OFF
	               ? engine_balance_load_new(
				 agent->engine, flows_wanted(agent), nat, shields_need_tc(agent))
	               : NULL;
}

int services_bring(
	struct agent *agent, const struct rulebook *now, const struct rulebook *next, struct error *error)
{
	_cleanup_(service_plan_clear) struct service_plan plan = {};
	struct services *services = services_of(agent);
	struct service_input *inputs;
	int r = service_plan_make(next, &plan);

	if (r < 0)
		return no_memory(error);
	if (!plan.count && !engine_service_used(agent->engine))
		return 0;
	inputs = calloc(plan.count + 1, sizeof(*inputs));
	if (!inputs)
		return no_memory(error);
	r = services_make_room(services, error);
	if (r == 0)
		r = engine_service_prepare(agent->engine, flows_wanted(agent), error);
	if (r == 0 && plan.count && agent->config.balance != CONFIG_BALANCE_OFF)
		r = engine_balance_want(agent->engine, true, error);
	if (r == 0 && plan_has_nat(&plan) && engine_balance_wanted(agent->engine))
		r = engine_nat_load(agent->engine, error);
	if (r == 0) {
		engine_service_wait();
		r = plan_number(services, &plan, now, error);
	}
	if (r == 0)
		r = book_bring(services, &plan, inputs, error);
	if (r == 0 && services->scan_due)
		service_keep_scan(services, false, true);
	for (size_t i = 0; i < plan.count; i++) {
		free((void *)inputs[i].backends);
		free((void *)inputs[i].servers);
	}
	free(inputs);
	return r;
}

/* -- in force -- */

static const char *const state_words[] = {"gone", "up", "draining", "down"};

/* The kernel, and whoever asks, see this state from now on. */
static void backend_state_set(struct services *services, const struct service_plan_entry *entry, size_t place)
{
	const struct engine_service_memory *memory = engine_service_memory(services->agent->engine);
	uint32_t number = entry->backends[place];
	struct service_backend_live *live = services->backends[number];
	enum service_backend_state state = service_plan_state(services, entry, place);
	char address[ADDRESS_TEXT_MAX];

	memory->loads[number].weight = entry->text->backends[place].weight;
	memory->backends[number].failed = live->down;
	if (live->state != state) {
		live->state = state;
		live->since_ns = agent_now_ns();
		log_info("service %s: backend %s is %s%s", entry->text->name,
			address_print(address, sizeof(address), &live->address), state_words[state],
			state == SERVICE_BACKEND_UP && live->down ? ", since none is" : "");
	}
	if (memory->backends[number].state != state)
		__atomic_store_n(&memory->backends[number].state, (uint8_t)state, __ATOMIC_RELEASE);
}

static void failing_tell(struct services *services, const struct service_plan_entry *entry)
{
	struct service_live *live = &services->live[entry->number];

	if (live->failing == entry->failing)
		return;
	live->failing = entry->failing;
	if (!live->failing)
		log_info("service %s has a backend again that is up", entry->text->name);
	else if (entry->text->closed)
		log_warning("service %s has no backend that is up: it fails closed, its packets are dropped",
			entry->text->name);
	else
		log_warning("service %s has no backend that is up: it fails open, all count as up",
			entry->text->name);
}

static void states_set(struct services *services, const struct service_plan *plan)
{
	for (size_t i = 0; i < plan->count; i++) {
		const struct service_plan_entry *entry = &plan->entries[i];

		for (size_t j = 0; j < entry->text->backend_count; j++)
			if (entry->backends[j])
				backend_state_set(services, entry, j);
		failing_tell(services, entry);
	}
}

struct used {
	uint8_t services[SERVICES_MAX], backends[SERVICE_BACKENDS_MAX];
};

static void used_note(struct used *used, const struct service_plan *plan)
{
	for (size_t i = 0; i < plan->count; i++) {
		used->services[plan->entries[i].number] = 1;
		for (size_t j = 0; j < plan->entries[i].text->backend_count; j++)
			used->backends[plan->entries[i].backends[j]] = 1;
	}
}

/* What no book has any more: connections of such backends choose anew. */
static void unused_free(
	struct services *services, const struct service_plan *now, const struct service_plan *before)
{
	const struct engine_service_memory *memory = engine_service_memory(services->agent->engine);
	struct used *used = calloc(1, sizeof(*used));

	if (!used)
		return; /* the next change takes them away */
	used_note(used, now);
	used_note(used, before);
	for (uint32_t i = 1; i < SERVICE_BACKENDS_MAX; i++)
		if (services->backends[i] && !used->backends[i]) {
			__atomic_store_n(&memory->backends[i].state, SERVICE_BACKEND_NONE, __ATOMIC_RELEASE);
			free(services->backends[i]);
			services->backends[i] = NULL;
		}
	for (uint32_t i = 1; i < SERVICES_MAX; i++)
		if (*services->live[i].name && !used->services[i])
			services->live[i] = (struct service_live){};
	free(used);
}

/* -- what an earlier agent left -- */

static void backends_adopt(struct services *services)
{
	const struct engine_service_memory *memory = engine_service_memory(services->agent->engine);

	for (uint32_t i = 1; services->backends && i < SERVICE_BACKENDS_MAX; i++) {
		const struct service_backend *backend = &memory->backends[i];
		struct service_backend_live *live;

		if (backend->state == SERVICE_BACKEND_NONE)
			continue;
		live = calloc(1, sizeof(*live));
		if (!live)
			return;
		*live = (struct service_backend_live){.service = backend->service,
			.address = {.family = backend->family},
			.port = ntohs(backend->port),
			.down = backend->failed,
			.state = backend->state,
			.since_ns = agent_now_ns()};
		memcpy(live->address.bytes, backend->address, sizeof(live->address.bytes));
		if (live->down)
			snprintf(live->reason, sizeof(live->reason), "it was down when the agent started");
		services->backends[i] = live;
	}
}

/* The names of a book's services, by the sentences that they were made of. */
static void names_adopt(
	struct services *services, const struct policy_unit *units, const struct rulebook *book)
{
	const struct service_book *head = (const struct service_book *)units;

	for (uint32_t i = 1; services->live && head && book && book->count && i <= head->count; i++) {
		const struct service *service = (const struct service *)&units[i];
		struct service_live *live = &services->live[service->number % SERVICES_MAX];
		struct rule_policy *policy;
		size_t place;
		const struct rule *rule;

		if (*live->name || !rulebook_find(book, service->rule, &policy, &place))
			continue;
		rule = &policy->list.slots[place].entry->rule;
		if (rule_kind(rule) != RULE_ON_SERVICES)
			continue;
		snprintf(live->name, sizeof(live->name), "%s", rule->service->name);
		live->kept = service->flags & SERVICE_KEPT;
		if (service->before)
			live->before_ends_ns = agent_now_ns() + service_idle_ns(rule->service);
	}
}

static void adopt(struct services *services, const struct rulebook *now, const struct rulebook *before)
{
	struct engine *engine = services->agent->engine;
	struct error problem = {};

	services->adopted = true;
	if (!engine_service_used(engine))
		return;
	if (services_make_room(services, &problem) < 0) {
		log_warning("services: %s", problem.what);
		return;
	}
	backends_adopt(services);
	for (int other = 0; other < 2; other++) {
		names_adopt(services, engine_service_book(engine, other), now);
		names_adopt(services, engine_service_book(engine, other), before);
	}
	services->stale = true;
}

void services_settle(struct agent *agent, const struct rulebook *now, const struct rulebook *before)
{
	_cleanup_(service_plan_clear) struct service_plan plan = {}, plan_before = {};
	struct services *services = services_of(agent);

	if (!services->adopted)
		adopt(services, now, before);
	if (!services->live || service_plan_make(now, &plan) < 0 ||
		service_plan_make(before, &plan_before) < 0)
		return;
	service_plan_number(services, &plan);
	service_plan_number(services, &plan_before);
	unused_free(services, &plan, &plan_before);
	states_set(services, &plan);
	if (services->scan_due)
		service_keep_scan(services, false, false);
	if (!plan.count && !plan_before.count && engine_balance_wanted(agent->engine))
		engine_balance_want(agent->engine, false, NULL);
	shields_reconcile(agent);
	checks_follow(agent, now);
}

/* While a change waits for its confirmation there can be no other book. */
static void rings_patch(struct services *services)
{
	_cleanup_(service_plan_clear) struct service_plan plan = {};

	if (!services->patch_due || service_plan_make(rules_book(services->agent), &plan) < 0)
		return;
	services->patch_due = false;
	service_plan_number(services, &plan);
	service_rings_patch(services, &plan);
}

/* Another book of the same sentences: health has changed, or a ring of before is not needed any more. */
static void services_renew(struct services *services)
{
	struct agent *agent = services->agent;
	struct error problem = {};
	int r = rules_check_settled(agent, NULL);

	if (!engine_service_used(agent->engine)) {
		services->stale = false;
		return;
	}
	if (r < 0) {
		/* later; until then nobody is sent to who is down */
		rings_patch(services);
		return;
	}
	services->stale = false;
	r = services_bring(agent, rules_book(agent), rules_book(agent), &problem);
	if (r == 0)
		r = rules_switch_services(agent, &problem);
	if (r < 0)
		log_warning("services are as they were before: %s", problem.what);
	else
		services_settle(agent, rules_book(agent), NULL);
}

/* -- health -- */

static uint32_t backend_find(
	const struct services *services, const char *service, const struct address *address, uint16_t port)
{
	for (uint32_t i = 1; services->backends && i < SERVICE_BACKENDS_MAX; i++) {
		const struct service_backend_live *live = services->backends[i];

		if (live && live->port == port && address_compare(&live->address, address) == 0 &&
			strcmp(services->live[live->service].name, service) == 0)
			return i;
	}
	return 0;
}

uint32_t services_backend_number(
	const struct agent *agent, const char *service, const struct address *address, uint16_t port)
{
	const struct services *services = services_of(agent);

	return services ? backend_find(services, service, address, port) : 0;
}

bool services_backend_down(
	const struct agent *agent, const char *service, const struct address *address, uint16_t port)
{
	uint32_t number = services_backend_number(agent, service, address, port);

	return number && services_of(agent)->backends[number]->down;
}

void services_backend_health(struct agent *agent, const char *service, const struct address *address,
	uint16_t port, bool up, const char *reason)
{
	_cleanup_(service_plan_clear) struct service_plan plan = {};
	struct services *services = services_of(agent);
	uint32_t number = backend_find(services, service, address, port);
	struct service_backend_live *live;

	if (!number)
		return;
	live = services->backends[number];
	snprintf(live->reason, sizeof(live->reason), "%s", reason);
	if (live->down == !up)
		return;
	live->down = !up;
	services->stale = services->patch_due = true;
	/* the kernel at once; the ring with the next turn of the timer, for several together */
	if (service_plan_make(rules_book(agent), &plan) < 0)
		return;
	service_plan_number(services, &plan);
	states_set(services, &plan);
}

/* -- now and then -- */

/* The kernel forgets neighbours that only XDP sends to, unless they are asked for. */
static void neighbours_keep(struct services *services, uint64_t now_ns)
{
	const struct engine_service_memory *memory = engine_service_memory(services->agent->engine);
	unsigned int asked = 0;

	for (uint32_t seen = 0; seen < SERVICE_BACKENDS_MAX && asked < NEIGHBOURS; seen++) {
		uint32_t number = services->neighbour_next++ % SERVICE_BACKENDS_MAX;
		struct service_backend_live *live = services->backends[number];

		if (!live || (now_ns - live->used_ns < NEIGHBOUR_NS &&
				     !(memory->backends[number].hop & SERVICE_HOP_WAIT)))
			continue;
		live->used_ns = now_ns;
		asked++;
		engine_neighbour_use(services->agent->engine, live->address.family, live->address.bytes);
	}
}

/* Rings of before that nobody needs any more: who is still known is written down first. */
static void befores_end(struct services *services, uint64_t now_ns)
{
	bool some = false;

	for (uint32_t i = 1; i < SERVICES_MAX; i++) {
		struct service_live *live = &services->live[i];

		if (!live->before_ends_ns || live->before_ends_ns > now_ns)
			continue;
		live->before_ends_ns = 0;
		some = true;
	}
	if (!some)
		return;
	service_keep_scan(services, true, false);
	services->stale = true;
}

static void on_timer(evutil_socket_t fd, short what, void *context)
{
	struct services *services = context;
	uint64_t now_ns = agent_now_ns();

	(void)fd;
	(void)what;
	if (!services->live || !engine_service_used(services->agent->engine))
		return;
	befores_end(services, now_ns);
	if (services->stale)
		services_renew(services);
	service_keep_sweep(services);
	neighbours_keep(services, now_ns);
	if (now_ns - services->sampled_ns >= SERVICE_SAMPLE_NS)
		service_answers_sample(services, now_ns);
}

/* -- the module -- */

static void services_close(void *state)
{
	struct services *services = state;

	if (services->timer)
		event_free(services->timer);
	for (uint32_t i = 0; services->backends && i < SERVICE_BACKENDS_MAX; i++)
		free(services->backends[i]);
	free(services->backends);
	free(services->live);
	free(services);
}

static int services_open(struct agent *agent, void **ret_state, struct error *error)
{
	const struct timeval every = {.tv_usec = TIMER_US};
	struct services *services = calloc(1, sizeof(*services));

	if (!services)
		return no_memory(error);
	*ret_state = services;
	services->agent = agent;
	services->timer = event_new(agent->base, -1, EV_PERSIST, on_timer, services);
	return services->timer && event_add(services->timer, &every) == 0 ? 0 : no_memory(error);
}

static void services_status(struct agent *agent, void *state, struct json_write *out)
{
	(void)agent;
	service_answers_status(state, out);
}

static void services_metrics(struct agent *agent, void *state, struct evbuffer *out)
{
	(void)agent;
	service_answers_metrics(state, out);
}

const struct module service_module = {
	.name = "service",
	.open = services_open,
	.close = services_close,
	.status = services_status,
	.metrics = services_metrics,
	.routes = service_routes,
};
