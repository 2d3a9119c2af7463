// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* Services as the API tells and changes them (docs/api.md, /v1/services). */
#include <errno.h>
#include <event2/buffer.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "agent/edit.h"
#include "agent/owner/audit.h"
#include "agent/rule/rules.h"
#include "agent/rule/shields.h"
#include "agent/service/checks.h"
#include "agent/service/services_internal.h"
#include "basic/cleanup.h"
#include "basic/log.h"
#include "basic/text.h"
#include "compile/policy.h"
#include "model/packet.h"

#define SERIES_MAX   1000 /* backends with metrics of their own */
#define KNOWN_MAX    64
#define LOG_TEXT_MAX 400

#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_ACK 0x10

static const char *const state_words[] = {"gone", "up", "draining", "down"};

static const char *const loss_words[] = {
	[SERVICE_LOST_NO_BACKEND] = "no_backend",
	[SERVICE_LOST_NO_ROUTE] = "no_route",
	[SERVICE_LOST_NO_NEIGHBOUR] = "no_neighbour",
	[SERVICE_LOST_TOO_BIG] = "too_big",
	[SERVICE_LOST_NO_PORT] = "no_port",
	[SERVICE_LOST_NO_ROOM] = "no_room",
	[SERVICE_LOST_FRAGMENT] = "fragment",
	[SERVICE_LOST_HEADER] = "header",
	[SERVICE_LOST_TTL] = "ttl",
};

_Static_assert(sizeof(loss_words) / sizeof(loss_words[0]) == SERVICE_LOSSES, "a word for each loss");

/* -- how fast connections come -- */

void service_answers_sample(struct services *services, uint64_t now_ns)
{
	services->sampled_ns = now_ns;
	for (uint32_t i = 1; i < SERVICE_BACKENDS_MAX; i++) {
		struct service_backend_live *live = services->backends[i];
		struct service_count count;

		if (!live)
			continue;
		engine_service_count(services->agent->engine, i, &count);
		live->samples[live->sample_count++ % SERVICE_SAMPLES] = count.connections;
	}
}

/* New connections since the oldest sample, a minute ago at most, and how long that is. */
static uint64_t connections_lately(const struct services *services, const struct service_backend_live *live,
	uint64_t connections, double *ret_seconds)
{
	unsigned int samples = live->sample_count < SERVICE_SAMPLES ? live->sample_count : SERVICE_SAMPLES;
	uint64_t since = agent_now_ns() - services->sampled_ns;

	if (!samples) {
		*ret_seconds = (double)since / 1e9;
		return connections;
	}
	*ret_seconds = (double)(since + (samples - 1) * SERVICE_SAMPLE_NS) / 1e9;
	return connections - live->samples[(live->sample_count - samples) % SERVICE_SAMPLES];
}

/* -- the list -- */

struct backend_figures {
	struct service_count count;
	uint64_t lately;
	double seconds, wanted;
};

static void ports_write(struct json_write *out, const char *key, const struct service_text *text)
{
	char ports[16];

	if (text->any_port)
		return;
	if (text->ports.low == text->ports.high) {
		json_write_number(out, key, text->ports.low);
		return;
	}
	snprintf(ports, sizeof(ports), "%u-%u", text->ports.low, text->ports.high);
	json_write_string(out, "ports", ports);
}

/* What each backend has done, and the sums.  To be freed; NULL: no memory. */
static struct backend_figures *figures_make(const struct services *services,
	const struct service_plan_entry *entry, struct backend_figures *ret_sum)
{
	const struct service_text *text = entry->text;
	struct backend_figures *figures = calloc(text->backend_count + 1, sizeof(*figures)), sum = {};

	for (size_t i = 0; figures && i < text->backend_count; i++) {
		const struct service_backend_live *live = services->backends[entry->backends[i]];
		struct backend_figures *one = &figures[i];

		if (!live)
			continue;
		engine_service_count(services->agent->engine, entry->backends[i], &one->count);
		one->lately = connections_lately(services, live, one->count.connections, &one->seconds);
		if (live->state == SERVICE_BACKEND_UP)
			one->wanted = text->backends[i].weight;
		sum.count.packets += one->count.packets;
		sum.count.bytes += one->count.bytes;
		sum.count.answer_packets += one->count.answer_packets;
		sum.count.answer_bytes += one->count.answer_bytes;
		sum.count.connections += one->count.connections;
		sum.count.icmp += one->count.icmp;
		sum.lately += one->lately;
		sum.wanted += one->wanted;
		if (one->seconds > sum.seconds)
			sum.seconds = one->seconds;
	}
	*ret_sum = sum;
	return figures;
}

static double ratio(double part, double whole)
{
	return whole > 0 ? part / whole : 0;
}

static void counts_write(struct json_write *out, const struct service_text *text,
	const struct backend_figures *figures, uint32_t connections)
{
	json_write_number(out, "packets", figures->count.packets);
	json_write_number(out, "bytes", figures->count.bytes);
	if (text->deliver == SERVICE_NAT) {
		json_write_number(out, "answer_packets", figures->count.answer_packets);
		json_write_number(out, "answer_bytes", figures->count.answer_bytes);
	}
	json_write_number(out, "connections", connections);
	json_write_number(out, "began", figures->count.connections);
	json_write_real(out, "new_per_second", ratio((double)figures->lately, figures->seconds), 2);
}

/* What nat sends from. */
static void source_write(const struct services *services, const struct address *backend, uint16_t number,
	struct json_write *out)
{
	const struct engine_service_memory *memory = engine_service_memory(services->agent->engine);
	const struct service_source *source = &memory->sources[number];
	struct address first = {.family = backend->family}, last;
	char text[2 * ADDRESS_TEXT_MAX + 1], end[ADDRESS_TEXT_MAX];
	unsigned int carry = source->nat_addresses ? source->nat_addresses - 1 : 0;

	if (first.family == 4)
		memcpy(first.bytes, &source->address4, 4);
	else
		memcpy(first.bytes, source->address6, 16);
	address_print(text, sizeof(text), &first);
	if (carry) {
		last = first;
		for (int i = first.family == 4 ? 3 : 15; i >= 0 && carry; i--, carry >>= 8) {
			carry += last.bytes[i];
			last.bytes[i] = (uint8_t)carry;
		}
		address_print(end, sizeof(end), &last);
		snprintf(text + strlen(text), sizeof(text) - strlen(text), "-%s", end);
	}
	json_write_string(out, "from", text);
	snprintf(text, sizeof(text), "%u-%u", ntohs(source->first), ntohs(source->last));
	json_write_string(out, "from_ports", text);
}

static void backend_write(const struct services *services, const struct service_plan_entry *entry,
	size_t place, const struct backend_figures *figures, const struct backend_figures *sum,
	struct json_write *out)
{
	const struct service_backend_text *text = &entry->text->backends[place];
	const struct service_backend_live *live = services->backends[entry->backends[place]];
	const struct check_target *target =
		checks_find(services->agent, entry->text->name, &text->address, text->port);
	const struct port_range *ports = &entry->text->ports;
	/* of several ports the packet's */
	uint16_t port = text->port || ports->low == ports->high ? service_backend_port(entry->text, text) : 0;
	enum service_backend_state state = live ? live->state : SERVICE_BACKEND_NONE;

	json_write_object_begin(out, NULL);
	answer_address(out, "address", &text->address);
	if (port)
		json_write_number(out, "port", port);
	if (entry->text->deliver == SERVICE_NAT && live)
		source_write(services, &text->address, entry->backends[place], out);
	json_write_number(out, "weight", text->weight);
	/* what a check found is told also where all count as up since none is */
	json_write_string(out, "state", live && live->down ? "down" : state_words[state]);
	if (live && *live->reason)
		json_write_string(out, "reason", live->reason);
	if (live)
		answer_time(out, "since", live->since_ns);
	if (target)
		check_target_write(target, out);
	counts_write(out, entry->text, figures, live ? live->connections : 0);
	json_write_real(out, "share_wanted", ratio(figures->wanted, sum->wanted), 4);
	json_write_real(out, "share_real", ratio((double)figures->lately, (double)sum->lately), 4);
	json_write_object_end(out);
}

static void lost_write(const struct services *services, uint32_t number, struct json_write *out)
{
	struct service_lost lost;

	engine_service_lost(services->agent->engine, number, &lost);
	json_write_object_begin(out, "lost");
	for (int i = 0; i < SERVICE_LOSSES; i++)
		json_write_number(out, loss_words[i], lost.packets[i]);
	json_write_object_end(out);
	json_write_number(out, "told_too_big", lost.told);
	json_write_number(out, "echo_answered", lost.answered);
	json_write_number(out, "kept", lost.kept);
}

/* nat is at XDP only. */
static const char *hook_of(
	const struct services *services, const char *interface, enum service_deliver deliver)
{
	const char *hook = shields_service_hook(services->agent, interface);

	return deliver == SERVICE_NAT && strcmp(hook, "tc") == 0 ? "none" : hook;
}

static void head_write(
	const struct services *services, const struct service_plan_entry *entry, struct json_write *out)
{
	const struct service_text *text = entry->text;
	char address[ADDRESS_TEXT_MAX];

	json_write_number(out, "id", entry->entry->id);
	json_write_string(out, "text", entry->entry->text);
	json_write_string(out, "name", text->name);
	json_write_string(out, "address", prefix_print(address, sizeof(address), &text->prefix));
	ports_write(out, "port", text);
	if (text->protocol >= 0)
		answer_protocol(out, (uint8_t)text->protocol);
	else
		json_write_string(out, "proto", "any");
	json_write_string(out, "deliver", service_delivers[text->deliver]);
	json_write_string(out, "choice", service_choices[text->choice]);
	if (text->choice == SERVICE_MAGLEV)
		json_write_number(out, "slots", text->slots ? text->slots : SERVICE_RING_SLOTS);
	json_write_string(out, "hook", hook_of(services, "", text->deliver));
	shields_service_write(services->agent, out);
	if (entry->failing)
		json_write_string(out, "failing", text->closed ? "closed" : "open");
}

static void service_write(
	const struct services *services, const struct service_plan_entry *entry, struct json_write *out)
{
	struct backend_figures sum;
	struct backend_figures *figures = figures_make(services, entry, &sum);
	uint32_t connections = 0;

	if (!figures)
		return;
	for (size_t i = 0; i < entry->text->backend_count; i++)
		if (services->backends[entry->backends[i]])
			connections += services->backends[entry->backends[i]]->connections;
	json_write_object_begin(out, NULL);
	head_write(services, entry, out);
	counts_write(out, entry->text, &sum, connections);
	lost_write(services, entry->number, out);
	json_write_array_begin(out, "backends");
	for (size_t i = 0; i < entry->text->backend_count; i++)
		backend_write(services, entry, i, &figures[i], &sum, out);
	json_write_array_end(out);
	json_write_object_end(out);
	free(figures);
}

/* The services in force, with their numbers. */
static int plan_now(struct services *services, struct service_plan *ret_plan)
{
	int r = service_plan_make(rules_book(services->agent), ret_plan);

	if (r == 0)
		service_plan_number(services, ret_plan);
	return r;
}

static int list_write(struct services *services, uint32_t id, struct json_write *out)
{
	_cleanup_(service_plan_clear) struct service_plan plan = {};
	int r = plan_now(services, &plan);

	if (r < 0)
		return r;
	if (plan.count && services->live) {
		agent_refresh(services->agent);
		service_keep_count(services);
	}
	json_write_array_begin(out, "services");
	for (size_t i = 0; i < plan.count; i++)
		if (plan.entries[i].number && (!id || plan.entries[i].entry->id == id))
			service_write(services, &plan.entries[i], out);
	json_write_array_end(out);
	return 0;
}

static bool has_nat(const struct services *services)
{
	const struct rulebook *book = rules_book(services->agent);
	const struct rule_entry *entry;
	size_t place = 0;

	while ((entry = rulebook_next(book, RULE_SERVICE, &place)))
		if (entry->rule.service->deliver == SERVICE_NAT)
			return true;
	return false;
}

/* -- rules that do not see what services take -- */

static bool ports_meet(const struct endpoint *endpoint, const struct service_text *service)
{
	for (unsigned int i = 0; !service->any_port && i < endpoint->port_count; i++)
		if (endpoint->ports[i].low <= service->ports.high &&
			endpoint->ports[i].high >= service->ports.low)
			return true;
	return service->any_port || !endpoint->port_count;
}

static bool prefixes_meet(const struct endpoint *endpoint, const struct service_text *service)
{
	return !endpoint->has_prefix || prefix_contains(&endpoint->prefix, &service->prefix.address) ||
	       prefix_contains(&service->prefix, &endpoint->prefix.address);
}

/* Is a rule of tc alone about packets of the service?  Only where its words say so: addresses and ports of
 * sets may be any, and owners are of this host's packets. */
static bool rule_is_blind(const struct rule *rule, const struct service_text *service)
{
	const struct match *match = &rule->match;

	if (rule_kind(rule) != RULE_ON_PACKETS || rule->verb == RULE_ACCEPT || rule_is_declared(rule) ||
		policy_xdp_decides(rule) || match->direction == MATCH_OUT || match->owner.kind != OWNER_ANY)
		return false;
	if (*rule->packet.to_set || *rule->packet.to_port_set || *rule->packet.either_set ||
		*rule->packet.either_port_set || !(match->to.has_prefix || match->to.port_count))
		return false;
	if (match->protocol >= 0 && service->protocol >= 0 && match->protocol != service->protocol)
		return false;
	return prefixes_meet(&match->to, service) && ports_meet(&match->to, service);
}

void services_write_warnings(struct agent *agent, struct json_write *out, const struct rule_entry *about)
{
	const struct rule_list *list = &rules_book(agent)->policies[0].list;
	const struct rule_entry *entry;
	size_t place = 0;

	while ((entry = rulebook_next(rules_book(agent), RULE_SERVICE, &place))) {
		const struct service_text *service = entry->rule.service;
		const struct rule_entry *first = NULL;
		char text[RULE_TEXT_MAX + 256];
		size_t count = 0;

		for (size_t i = 0; i < list->count; i++) {
			const struct rule_entry *rule = list->slots[i].entry;

			if ((about && about != entry && about != rule) ||
				!rule_is_blind(&rule->rule, service))
				continue;
			first = first ? first : rule;
			count++;
		}
		if (!first)
			continue;
		snprintf(text, sizeof(text),
			"rule %u (%.160s)%s does not see what service %s takes: only drop and limit without "
			"state, owner, tag and log decide before",
			first->id, first->text, count > 1 ? ", as others," : "", service->name);
		json_write_string(out, NULL, text);
	}
}

static void warnings_write(struct services *services, const struct rule_entry *about, struct json_write *out)
{
	json_write_array_begin(out, "warnings");
	if (services->agent->config.balance == CONFIG_BALANCE_OFF)
		json_write_string(out, NULL, "balance.hook is off: packets of services are not balanced");
	else if (strcmp(shields_service_hook(services->agent, ""), "none") == 0)
		json_write_string(out, NULL,
			"no watched interface can balance: packets of services go on to the stack ('weir "
			"status' "
			"says why)");
	else if (strcmp(shields_service_hook(services->agent, ""), "tc") == 0 && has_nat(services))
		json_write_string(out, NULL,
			"no watched interface has XDP, which nat needs: packets of services with 'deliver "
			"nat' go "
			"on to the stack ('weir status' says why)");
	if (about)
		services_write_warnings(services->agent, out, about);
	json_write_array_end(out);
}

/* -- finding one -- */

static bool slot_is_service(const struct rule_slot *slot)
{
	return rule_kind(&slot->entry->rule) == RULE_ON_SERVICES;
}

static int name_find(const struct rulebook *book, const char *name, struct rule_policy **ret_policy,
	size_t *ret_place, struct error *error)
{
	const struct rule_list *list = &book->policies[0].list;
	const char *names[KNOWN_MAX + 1];
	const char *nearest;
	size_t count = 0;

	for (size_t i = 0; i < list->count; i++) {
		const char *other;

		if (!slot_is_service(&list->slots[i]))
			continue;
		other = list->slots[i].entry->rule.service->name;
		if (strcmp(other, name) == 0) {
			*ret_policy = &book->policies[0];
			*ret_place = i;
			return 0;
		}
		if (count < KNOWN_MAX)
			names[count++] = other;
	}
	names[count] = NULL;
	nearest = text_nearest(name, names);
	error_set(error, -ENOENT, "there is no service '%s'", name);
	return nearest ? error_want(error, "did you mean '%s'?", nearest)
	               : error_want(error, count ? "one of those that 'weir services' lists"
						 : "there are none: 'weir service add' makes one");
}

int services_expect(const struct agent *agent, const char *name, struct error *error)
{
	struct rule_policy *policy;
	size_t place;

	return name_find(rules_book(agent), name, &policy, &place, error);
}

/* The service that ?name= or ?id= says is meant. */
static int edit_find(struct edit *edit, struct error *error)
{
	_cleanup_free_ char *name = query_value(query_of(edit->request), "name"),
			    *id = query_value(query_of(edit->request), "id");
	struct rule_policy *policy = NULL;
	size_t place = 0;
	int r;

	if (!name == !id) {
		error_set(error, -EINVAL,
			name ? "either 'name' or 'id', not both" : "parameter 'name' is missing");
		return error_want(error, "a service's name, such as web");
	}
	r = name ? name_find(&edit->next, name, &policy, &place, error)
	         : rules_named(&edit->next, id, &policy, &place, error);
	if (r < 0 || !policy)
		return r;
	edit_use(edit, policy, place);
	if (slot_is_service(&policy->list.slots[place]))
		return 0;
	error_set(error, -EINVAL, "rule %u is no service: %.150s", edit->entry->id, edit->entry->text);
	return error_want(error, "one of those that 'weir services' lists");
}

/* -- requests -- */

static void reply_services(struct agent *agent, struct evhttp_request *request)
{
	static const char *const names[] = {"name", "id", NULL};
	_cleanup_(edit_clear) struct edit edit = {.agent = agent, .request = request};
	_cleanup_free_ char *name = query_value(query_of(request), "name");
	_cleanup_free_ char *id = query_value(query_of(request), "id");
	struct json_write json = {};
	struct error error = {};
	int r = edit_begin(&edit, names, &error);

	if (r == 0 && (name || id))
		r = edit_find(&edit, &error);
	if (r < 0) {
		reply_refusal(request, &error);
		return;
	}
	json_write_object_begin(&json, NULL);
	r = list_write(services_of(agent), edit.entry ? edit.entry->id : 0, &json);
	json_write_object_end(&json);
	if (r < 0)
		reply_failure(request, r);
	else
		reply_json(request, HTTP_OK, "OK", &json);
	json_write_free(&json);
}

static void reply_changed(struct agent *agent, struct evhttp_request *request, uint32_t id)
{
	struct services *services = services_of(agent);
	struct json_write json = {};

	json_write_object_begin(&json, NULL);
	list_write(services, id, &json);
	warnings_write(services, rules_entry(agent, id), &json);
	rules_write_pending(agent, &json);
	json_write_object_end(&json);
	reply_json(request, HTTP_OK, "OK", &json);
	json_write_free(&json);
}

static int entry_new(struct edit *edit, struct error *error)
{
	_cleanup_free_ char *sentence = NULL;

	if (asprintf(&sentence, "service %s", edit->text) < 0) {
		sentence = NULL;
		return error_set(error, -ENOMEM, "out of memory");
	}
	if (edit_make(edit, sentence, error) < 0) {
		/* the word in front was ours */
		error_skip(error, strlen("service "));
		return error->code;
	}
	return edit_insert(edit, &edit->next.policies[0], SIZE_MAX, true, error);
}

/* A service on its way: with the first one another thread has programs to load. */
struct addition {
	struct agent *agent;
	struct evhttp_request *request; /* NULL: whoever asked went away */
	struct audit_who who;
	struct rule_entry *entry; /* a use of it is ours */
};

/* It is done all the same.  As with a list (api.c), a request that libevent has parted from its connection is
 * ours to end. */
static void addition_closed(struct evhttp_connection *connection, void *context)
{
	struct addition *addition = context;
	struct evhttp_request *request = addition->request;

	(void)connection;
	addition->request = NULL;
	if (!evhttp_request_get_connection(request))
		evhttp_send_reply_end(request);
}

static struct addition *addition_new(const struct edit *edit)
{
	struct addition *addition = calloc(1, sizeof(*addition));

	if (!addition)
		return NULL;
	*addition = (struct addition){.agent = edit->agent,
		.request = edit->request,
		.who = audit_who(edit->request),
		.entry = edit->entry};
	addition->entry->users++;
	evhttp_connection_set_closecb(
		evhttp_request_get_connection(edit->request), addition_closed, addition);
	return addition;
}

/* The request, to be answered; NULL: nobody waits. */
static struct evhttp_request *addition_free(struct addition *addition)
{
	struct evhttp_request *request = addition->request;

	if (request)
		evhttp_connection_set_closecb(evhttp_request_get_connection(request), NULL, NULL);
	rule_entry_release(addition->entry);
	free(addition);
	return request;
}

static void on_added(void *context, int r, const struct rules_change *change, const struct error *error)
{
	struct addition *addition = context;
	struct agent *agent = addition->agent;
	uint32_t id = addition->entry->id;
	struct evhttp_request *request;

	if (r == 0 && !change->check) {
		const char *text = addition->entry->text;

		log_info("service (rule %u): %.*s", id, LOG_TEXT_MAX, text);
		audit_change_by(agent, &addition->who, "%s (rule %u)", text, id);
	}
	request = addition_free(addition);
	if (request && r < 0)
		reply_refusal(request, error);
	else if (request)
		reply_changed(agent, request, id);
}

static int add(struct edit *edit, struct error *error)
{
	struct addition *addition = addition_new(edit);
	int r;

	if (!addition)
		return error_set(error, -ENOMEM, "out of memory");
	r = rules_commit_later(edit->agent, &edit->next, &edit->change, on_added, addition, error);
	if (r < 0)
		addition_free(addition);
	return r;
}

static void reply_add(struct agent *agent, struct evhttp_request *request)
{
	static const char *const names[] = {"text", "confirm", "check", NULL};
	_cleanup_(edit_clear) struct edit edit = {.agent = agent, .request = request};
	struct error error = {};
	int r = edit_begin(&edit, names, &error);

	if (r == 0)
		r = edit_read_text(&edit,
			"a service, such as web tcp 203.0.113.10 port 443 to 10.0.0.11, 10.0.0.12", &error);
	if (r == 0)
		r = entry_new(&edit, &error);
	if (r == 0)
		r = add(&edit, &error);
	if (r < 0)
		reply_refusal(request, &error);
}

static void reply_change(struct agent *agent, struct evhttp_request *request)
{
	static const char *const names[] = {"id", "name", "text", "confirm", "check", NULL};
	_cleanup_(edit_clear) struct edit edit = {.agent = agent, .request = request};
	struct error error = {};
	int r = edit_begin(&edit, names, &error);

	if (r == 0)
		r = edit_read_text(&edit, "a change, such as drain 10.0.0.11", &error);
	if (r == 0)
		r = edit_find(&edit, &error);
	if (r == 0)
		r = edit_change(&edit, edit.text, &error);
	if (r == 0)
		r = edit_commit(&edit, &error);
	if (r < 0 || !edit.entry) {
		reply_refusal(request, &error);
		return;
	}
	if (!edit.change.check) {
		log_info("service %s: %.*s", edit.entry->rule.service->name, LOG_TEXT_MAX, edit.text);
		audit_change(agent, request, "service %s: %s (rule %u changed)",
			edit.entry->rule.service->name, edit.text, edit.entry->id);
	}
	reply_changed(agent, request, edit.entry->id);
}

static void reply_delete(struct agent *agent, struct evhttp_request *request)
{
	static const char *const names[] = {"id", "name", "confirm", NULL};
	_cleanup_(edit_clear) struct edit edit = {.agent = agent, .request = request};
	struct error error = {};
	int r = edit_begin(&edit, names, &error);

	if (r == 0)
		r = edit_find(&edit, &error);
	if (r == 0) {
		edit_remove(&edit);
		r = edit_commit(&edit, &error);
	}
	if (r < 0 || !edit.entry) {
		reply_refusal(request, &error);
		return;
	}
	log_info("service %s deleted", edit.entry->rule.service->name);
	audit_change(agent, request, "deleted %s (rule %u)", edit.entry->text, edit.entry->id);
	edit_reply_deleted(&edit);
}

const struct route service_routes[] = {
	{"/v1/services", EVHTTP_REQ_GET, reply_services},
	{"/v1/services/add", EVHTTP_REQ_POST, reply_add, 2 * SERVICE_TEXT_MAX},
	{"/v1/services/change", EVHTTP_REQ_POST, reply_change},
	{"/v1/services/delete", EVHTTP_REQ_POST, reply_delete},
	{NULL},
};

/* -- explaining -- */

/* What the datapath would find, in its order (shared/service.h). */
struct explained {
	struct services *services;
	const struct service *service;
	struct service_key key;
	bool begins; /* a connection, as far as the packet tells */
	uint32_t slot, backend;
	const char *why;
};

static void key_of(const struct packet_description *packet, struct service_key *ret_key)
{
	*ret_key = (struct service_key){.family = packet->family, .proto = packet->protocol};
	memcpy(ret_key->src, packet->source.bytes, sizeof(ret_key->src));
	memcpy(ret_key->dst, packet->destination.bytes, sizeof(ret_key->dst));
	if (packet->has_ports) {
		ret_key->sport = htons(packet->source_port);
		ret_key->dport = htons(packet->destination_port);
	}
}

static const struct service_backend *backend_of(
	const struct explained *explained, uint32_t number, bool begins)
{
	const struct service_backend *backend = &engine_service_memory(explained->services->agent->engine)
	                                                 ->backends[number % SERVICE_BACKENDS_MAX];

	return backend->service == explained->service->number &&
	                       (backend->state == SERVICE_BACKEND_UP ||
				       (backend->state == SERVICE_BACKEND_DRAINING && !begins))
	               ? backend
	               : NULL;
}

/* What the flow's line says. */
static bool line_explain(struct explained *explained)
{
	bool syn = explained->begins && explained->key.proto == IPPROTO_TCP;
	const struct service_backend *backend;
	struct service_line line;

	if (!service_keep_find(explained->services, &explained->key, &line))
		return false;
	backend = backend_of(explained, line.backend, syn && line.tcp_flags == TCP_SYN);
	if (!backend || (int32_t)(line.last - backend->since) <= 0 ||
		(syn && (line.tcp_flags & (TCP_FIN | TCP_RST) || !(line.tcp_flags & (TCP_SYN | TCP_ACK)))))
		return false;
	explained->backend = line.backend;
	explained->why = "the flow is known, and goes there";
	return true;
}

static bool flow_explain(
	struct explained *explained, const struct service_key *key, bool begins, const char *why)
{
	struct engine *engine = explained->services->agent->engine;
	const struct service_backend *backend;
	struct service_flow flow;

	if (engine_service_flow_get(engine, key, &flow) < 0 &&
		engine_service_embryo_get(engine, key, &flow) < 0)
		return false;
	backend = backend_of(explained, flow.backend, begins);
	if (!backend || backend->generation != flow.generation)
		return false;
	if (explained->begins && flow.flags & (SERVICE_FLOW_FIN | SERVICE_FLOW_RST))
		return false;
	explained->backend = flow.backend;
	explained->why = why;
	return true;
}

/* What is written down of the connection, or of its source. */
static bool kept_explain(struct explained *explained)
{
	uint16_t flags = explained->service->flags;
	struct service_key source = explained->key;

	if (!(flags & (SERVICE_KEEP | SERVICE_MOVED | SERVICE_KEPT)))
		return false;
	if (flow_explain(explained, &explained->key, false, "the connection is written down"))
		return true;
	source.sport = source.dport = 0;
	return explained->begins && flags & SERVICE_SOURCE &&
	       flow_explain(explained, &source, true, "its source had this backend before");
}

static void ring_explain(struct explained *explained)
{
	const struct service *service = explained->service;
	struct engine *engine = explained->services->agent->engine;
	const uint16_t *ring = engine_service_ring(engine, service->ring), *before = NULL;

	if (service->flags & SERVICE_MOVED)
		before = engine_service_ring(engine, service->before);
	explained->backend = ring ? ring[explained->slot] : 0;
	if (!explained->backend) {
		explained->why = "no backend gets new connections";
	} else if (!before || before[explained->slot] == explained->backend) {
		explained->why = "the ring says so";
	} else if (explained->begins || !backend_of(explained, before[explained->slot], false)) {
		explained->why = "a new connection goes where the ring says; the slot has moved, and older "
				 "ones stay";
	} else {
		explained->backend = before[explained->slot];
		explained->why = "the ring of before says so: the connection began before its slot moved";
	}
}

/* As the datapath has it at this moment (service_choose_least()): the next connection may be before this one.
 */
static void least_explain(struct explained *explained)
{
	const struct service *service = explained->service;
	struct engine *engine = explained->services->agent->engine;
	const struct service_load *loads = engine_service_memory(engine)->loads;
	const uint16_t *listed = (const uint16_t *)&engine_service_book(engine, false)[service->backends];
	uint64_t least = 0;

	explained->why = "no backend gets new connections";
	for (uint32_t i = 0; i < service->backend_count; i++) {
		const struct service_load *load = &loads[listed[i] % SERVICE_BACKENDS_MAX];
		uint64_t load_of;

		if (!load->weight || !backend_of(explained, listed[i], true))
			continue;
		load_of = (((uint64_t)load->connections + 1) << 32) / load->weight;
		if (explained->backend && load_of >= least)
			continue;
		least = load_of;
		explained->backend = listed[i];
		explained->why = "it has the fewest connections for its weight now";
	}
}

static void backend_explain(struct explained *explained, const struct packet_description *packet)
{
	const struct service *service = explained->service;

	key_of(packet, &explained->key);
	explained->begins =
		packet->protocol != IPPROTO_TCP || (packet->tcp_flags & (TCP_SYN | TCP_ACK)) == TCP_SYN;
	explained->slot = service_slot_of(service, &packet->source,
		packet->has_ports ? packet->source_port : 0, &packet->destination,
		packet->has_ports ? packet->destination_port : 0, packet->protocol);
	if (line_explain(explained) || kept_explain(explained))
		return;
	if (!explained->begins || service->choice == SERVICE_MAGLEV)
		ring_explain(explained);
	else if (service->choice == SERVICE_LEAST)
		least_explain(explained);
	else
		explained->why = service->slots ? "new connections go to the backends in turn"
		                                : "no backend gets new connections";
}

const char *services_explain(struct agent *agent, const struct packet_description *packet,
	struct json_write *out, bool *ret_delivered)
{
	struct services *services = services_of(agent);
	const struct policy_unit *book = engine_service_book(agent->engine, false);
	const struct service_book *head = (const struct service_book *)book;
	struct explained explained = {.services = services};
	const struct service_backend_live *live;
	const char *hook;

	if (!head || !head->count || !services->live || packet->out || !packet->family)
		return NULL;
	explained.service = service_lookup(book, head->units, &packet->destination, packet->protocol,
		packet->has_ports ? packet->destination_port : 0);
	if (!explained.service)
		return NULL;
	backend_explain(&explained, packet);
	live = services->backends[explained.backend % SERVICE_BACKENDS_MAX];
	json_write_object_begin(out, "service");
	json_write_number(out, "id", explained.service->rule);
	json_write_string(out, "name", services->live[explained.service->number % SERVICES_MAX].name);
	json_write_string(out, "deliver", service_delivers[explained.service->deliver]);
	if (explained.service->choice == SERVICE_MAGLEV)
		json_write_number(out, "slot", explained.slot);
	if (live) {
		answer_address(out, "backend", &live->address);
		json_write_string(out, "state", live->down ? "down" : state_words[live->state]);
	}
	hook = hook_of(services, packet->interface, explained.service->deliver);
	json_write_string(out, "hook", hook);
	json_write_string(out, "why", explained.why);
	json_write_string(out, "asked", "the agent, in the datapath's memory and with its code");
	json_write_object_end(out);
	/* the next in turn is known to the datapath alone */
	*ret_delivered = live || (explained.begins && explained.service->choice == SERVICE_TURNS &&
					 explained.service->slots);
	return strcmp(hook, "none") == 0 ? NULL : hook;
}

/* -- status and metrics -- */

void service_answers_status(struct services *services, struct json_write *out)
{
	_cleanup_(service_plan_clear) struct service_plan plan = {};
	size_t backends = 0, down = 0, failing = 0;

	if (plan_now(services, &plan) < 0)
		return;
	for (size_t i = 0; i < plan.count; i++) {
		backends += plan.entries[i].text->backend_count;
		failing += plan.entries[i].failing;
		for (size_t j = 0; services->backends && j < plan.entries[i].text->backend_count; j++) {
			const struct service_backend_live *live =
				services->backends[plan.entries[i].backends[j]];

			down += live && live->down;
		}
	}
	json_write_object_begin(out, "services");
	json_write_number(out, "count", plan.count);
	json_write_string(out, "hook", plan.count ? shields_service_hook(services->agent, "") : "none");
	json_write_number(out, "backends", backends);
	json_write_number(out, "backends_down", down);
	json_write_number(out, "failing", failing);
	json_write_number(out, "kept", services->kept);
	json_write_number(out, "kept_max", engine_service_flow_room(services->agent->engine));
	json_write_number(out, "kept_written", services->kept_written);
	json_write_number(out, "kept_refused", services->kept_refused);
	json_write_number(out, "kept_ended", services->kept_ended);
	json_write_object_end(out);
}

/* What a metric is of a backend. */
static const struct backend_metric {
	const char *name, *help, *type;
	size_t offset; /* in struct service_count */
} backend_metrics[] = {
	{"weir_service_packets_total", "Wire packets sent to a backend.", "counter",
		offsetof(struct service_count, packets)},
	{"weir_service_bytes_total", "Their bytes on the wire, as they came in.", "counter",
		offsetof(struct service_count, bytes)},
	{"weir_service_answer_packets_total", "nat: packets that came back from a backend.", "counter",
		offsetof(struct service_count, answer_packets)},
	{"weir_service_answer_bytes_total", "nat: their bytes.", "counter",
		offsetof(struct service_count, answer_bytes)},
	{"weir_service_connections_total", "Connections that began at a backend.", "counter",
		offsetof(struct service_count, connections)},
	{"weir_service_icmp_total", "ICMP errors about a backend's connections that it was sent.", "counter",
		offsetof(struct service_count, icmp)},
};

typedef uint64_t backend_value(const struct services *services, uint32_t number, const void *context);

static uint64_t value_counted(const struct services *services, uint32_t number, const void *context)
{
	const struct backend_metric *metric = context;
	struct service_count count;
	uint64_t value;

	engine_service_count(services->agent->engine, number, &count);
	memcpy(&value, (const char *)&count + metric->offset, sizeof(value));
	return value;
}

static uint64_t value_up(const struct services *services, uint32_t number, const void *context)
{
	(void)context;
	return services->backends[number]->state == SERVICE_BACKEND_UP && !services->backends[number]->down;
}

static uint64_t value_connections(const struct services *services, uint32_t number, const void *context)
{
	(void)context;
	return services->backends[number]->connections;
}

static const struct check_target *target_of(const struct services *services, uint32_t number)
{
	const struct service_backend_live *live = services->backends[number];

	return checks_find(services->agent, services->live[live->service].name, &live->address, live->port);
}

static uint64_t value_passed(const struct services *services, uint32_t number, const void *context)
{
	const struct check_target *target = target_of(services, number);

	(void)context;
	return target ? check_target_passed(target) : 0;
}

static uint64_t value_failed(const struct services *services, uint32_t number, const void *context)
{
	const struct check_target *target = target_of(services, number);

	(void)context;
	return target ? check_target_failed(target) : 0;
}

/* A line for each backend, as long as there are not too many; the rest is "other". */
static void backends_write(const struct services *services, const struct service_plan *plan, const char *name,
	backend_value *function, const void *context, struct evbuffer *out)
{
	uint64_t other = 0;
	size_t written = 0;

	for (size_t i = 0; i < plan->count; i++)
		for (size_t j = 0; j < plan->entries[i].text->backend_count; j++) {
			uint32_t number = plan->entries[i].backends[j];
			const struct service_backend_live *live = services->backends[number];
			char address[ADDRESS_TEXT_MAX];
			uint64_t value;

			if (!live)
				continue;
			value = function(services, number, context);
			if (written++ >= SERIES_MAX) {
				other += value;
				continue;
			}
			evbuffer_add_printf(out,
				"%s{service=\"%s\",backend=\"%s\",port=\"%u\"} %" PRIu64 "\n", name,
				plan->entries[i].text->name,
				address_print(address, sizeof(address), &live->address),
				service_backend_port(
					plan->entries[i].text, &plan->entries[i].text->backends[j]),
				value);
		}
	if (written > SERIES_MAX)
		evbuffer_add_printf(
			out, "%s{service=\"other\",backend=\"other\",port=\"0\"} %" PRIu64 "\n", name, other);
}

static void losses_write(
	const struct services *services, const struct service_plan *plan, struct evbuffer *out)
{
	struct service_lost sum = {};

	for (size_t i = 0; i < plan->count; i++) {
		struct service_lost lost;

		engine_service_lost(services->agent->engine, plan->entries[i].number, &lost);
		for (int j = 0; j < SERVICE_LOSSES; j++)
			sum.packets[j] += lost.packets[j];
	}
	metrics_head(out, "weir_service_lost_packets_total", "counter",
		"Packets of services in force that were not delivered.");
	for (int i = 0; i < SERVICE_LOSSES; i++)
		metrics_labelled(
			out, "weir_service_lost_packets_total", "reason", loss_words[i], sum.packets[i]);
}

void service_answers_metrics(struct services *services, struct evbuffer *out)
{
	_cleanup_(service_plan_clear) struct service_plan plan = {};

	if (plan_now(services, &plan) < 0)
		return;
	metrics_single(out, "weir_services", "gauge", "Services in force.", plan.count);
	metrics_single(out, "weir_service_kept", "gauge", "Connections of services that are written down.",
		services->kept);
	metrics_single(out, "weir_service_kept_refused_total", "counter",
		"Connections that were not written down when their ring changed: there was no room.",
		services->kept_refused);
	if (!services->live)
		return;
	service_keep_count(services);
	for (size_t i = 0; i < sizeof(backend_metrics) / sizeof(backend_metrics[0]); i++) {
		const struct backend_metric *metric = &backend_metrics[i];

		metrics_head(out, metric->name, metric->type, metric->help);
		backends_write(services, &plan, metric->name, value_counted, metric, out);
	}
	metrics_head(out, "weir_service_backend_up", "gauge", "1: the backend gets new connections.");
	backends_write(services, &plan, "weir_service_backend_up", value_up, NULL, out);
	metrics_head(
		out, "weir_service_connections", "gauge", "Connections at a backend, as flows show them.");
	backends_write(services, &plan, "weir_service_connections", value_connections, NULL, out);
	metrics_head(out, "weir_service_check_passed_total", "counter", "Checks that a backend has passed.");
	backends_write(services, &plan, "weir_service_check_passed_total", value_passed, NULL, out);
	metrics_head(out, "weir_service_check_failed_total", "counter", "Checks that a backend has failed.");
	backends_write(services, &plan, "weir_service_check_failed_total", value_failed, NULL, out);
	losses_write(services, &plan, out);
}
