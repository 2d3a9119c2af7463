// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
#include "agent/forward/steers.h"

#include <arpa/inet.h>
#include <errno.h>
#include <event2/buffer.h>
#include <stdlib.h>
#include <string.h>

#include "agent/internal.h"
#include "agent/rule/policies.h"
#include "agent/rule/rules.h"
#include "agent/rule/shields.h"
#include "agent/set/sets.h"
#include "basic/cleanup.h"
#include "basic/log.h"
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wpointer-arith" /* as programs for the kernel have it */
#include "bpf/lib/facts.h"
#pragma GCC diagnostic pop
#include "compile/steer.h"
#include "engine/policy.h"
#include "engine/steer.h"
#include "model/packet.h"
#include "shared/forward.h"

#define SERIES_MAX    1000 /* pairs of sentence and CPU with metrics of their own */
#define CPUS_TEXT_MAX 256

struct steers {
	struct steer_cpus online; /* when a book was made last */
	bool stale;               /* CPUs have come or gone since */
};

static struct steers *steers_of(const struct agent *agent)
{
	return module_state(agent, &steer_module);
}

/* -- which there are -- */

bool steers_same(const struct rulebook *a, const struct rulebook *b)
{
	return rulebook_has_same(a, b, RULE_STEER);
}

bool steers_present(const struct rulebook *book)
{
	size_t place = 0;

	return rulebook_next(book, RULE_STEER, &place) != NULL;
}

bool steers_name_sets(const struct rulebook *book)
{
	const struct rule_entry *entry;
	size_t place = 0;

	while ((entry = rulebook_next(book, RULE_STEER, &place)))
		if (rule_names_set(&entry->rule, NULL))
			return true;
	return false;
}

static int inputs_fill(const struct rulebook *book, struct steer_input inputs[STEERS_MAX], size_t *ret_count,
	struct error *error)
{
	const struct rule_entry *entry;
	size_t place = 0, count = 0;

	while ((entry = rulebook_next(book, RULE_STEER, &place))) {
		if (count == STEERS_MAX) {
			error_set(error, -ENOSPC, "too many sentences that steer");
			return error_want(error, "at most %d; sets, and lists of ports", STEERS_MAX);
		}
		inputs[count++] = (struct steer_input){.rule = &entry->rule, .id = entry->id};
	}
	*ret_count = count;
	return 0;
}

/* -- what can be -- */

/* "0-3,6" */
static const char *cpus_print(const struct steer_cpus *cpus, char text[CPUS_TEXT_MAX])
{
	size_t length = 0;

	*text = '\0';
	for (unsigned int cpu = 0; cpu < STEER_CPUS_MAX && length + 16 < CPUS_TEXT_MAX; cpu++) {
		unsigned int last = cpu;

		if (!steer_cpus_have(cpus, cpu))
			continue;
		while (steer_cpus_have(cpus, last + 1))
			last++;
		length += (size_t)snprintf(
			text + length, CPUS_TEXT_MAX - length, "%s%u", length ? "," : "", cpu);
		if (last > cpu)
			length += (size_t)snprintf(text + length, CPUS_TEXT_MAX - length, "-%u", last);
		cpu = last;
	}
	return text;
}

static int cpus_check(const struct steer_text *text, const struct steer_cpus *online, struct error *error)
{
	char known[CPUS_TEXT_MAX];

	for (unsigned int cpu = 0; cpu < STEER_CPUS_MAX; cpu++) {
		if (!(text->cpus[cpu / 64] >> cpu % 64 & 1) || steer_cpus_have(online, cpu))
			continue;
		error_set(error, -EINVAL, "CPU %u is not there, or not online", cpu);
		return error_want(error, "of those that are: %s", cpus_print(online, known));
	}
	return 0;
}

static bool book_has(const struct rulebook *book, const struct rule_entry *entry)
{
	const struct rule_entry *other;
	size_t place = 0;

	while ((other = rulebook_next(book, RULE_STEER, &place)))
		if (other == entry)
			return true;
	return false;
}

/* What names mean at the moment, and the CPUs that are there. */
static int book_compile(struct agent *agent, const struct rulebook *book, const struct steer_cpus *online,
	struct policy_image *ret_image, struct error *error)
{
	_cleanup_(policies_names_close) struct policies_names names = {};
	struct steer_input inputs[STEERS_MAX];
	size_t count = 0;
	int r = inputs_fill(book, inputs, &count, error);

	if (r < 0)
		return r;
	r = policies_names_open(agent, &names);
	if (r < 0)
		return error_set(error, r, "cannot compile what is steered: %s", strerror(-r));
	r = steer_compile(inputs, count, &names.world, online, ret_image, error);
	/* what a sentence names is not there: the request is wrong, not its path */
	if (r == -ENOENT && error)
		error->code = r = -EINVAL;
	return r;
}

static int online_read(struct steer_cpus *ret_online, struct error *error)
{
	int r = engine_steer_online(ret_online);

	return r < 0 ? error_set(error, r, "cannot read which CPUs are online: %s", strerror(-r)) : 0;
}

int steers_prepare(struct agent *agent, const struct rulebook *book, bool absent, struct error *error)
{
	_cleanup_(policy_image_clear) struct policy_image image = {};
	const struct rulebook *now = rules_book(agent);
	const struct rule_entry *entry;
	struct steer_cpus online = {};
	size_t place = 0;
	int r;

	if (!steers_present(book))
		return 0;
	r = online_read(&online, error);
	/* what was there before may have lost CPUs */
	while (r == 0 && !absent && (entry = rulebook_next(book, RULE_STEER, &place)))
		if (!book_has(now, entry))
			r = cpus_check(entry->rule.steer, &online, error);
	return r < 0 ? r : book_compile(agent, book, &online, &image, error);
}

int steers_bring(struct agent *agent, const struct rulebook *next, struct error *error)
{
	_cleanup_(policy_image_clear) struct policy_image image = {};
	struct steer_cpus online = {};
	int r;

	if (!steers_present(next) && !engine_steer_used(agent->engine))
		return 0;
	r = online_read(&online, error);
	if (r == 0)
		r = book_compile(agent, next, &online, &image, error);
	if (r == 0)
		r = engine_steer_bring(agent->engine, &image, error);
	if (r < 0)
		return r;
	steers_follow(agent);
	steers_of(agent)->online = online;
	return 0;
}

static uint32_t flags_of(void *context, uint32_t index)
{
	const struct agent *agent = context;
	enum engine_shield_mode mode = shields_mode(agent, index);

	if (mode == ENGINE_SHIELD_GENERIC)
		return STEER_READY;
	for (size_t i = 0; mode == ENGINE_SHIELD_NATIVE && i < agent->watched_count; i++)
		if (agent->watched[i].index == index)
			return STEER_READY | (agent->watched[i].veth ? STEER_FINISH : 0);
	return 0;
}

void steers_follow(struct agent *agent)
{
	if (engine_steer_used(agent->engine))
		engine_steer_follow(agent->engine, flags_of, agent);
}

void steers_settle(struct agent *agent, bool waiting)
{
	struct error problem = {};

	if (!engine_steer_used(agent->engine))
		return;
	if (engine_steer_settle(agent->engine, waiting, &problem) < 0)
		log_warning("%s", problem.what);
	shields_reconcile(agent);
}

/* -- CPUs that come and go -- */

static void steers_renew(struct agent *agent, struct steers *steers)
{
	char text[CPUS_TEXT_MAX];
	struct error problem = {};

	if (rules_check_settled(agent, NULL) < 0)
		return; /* later */
	steers->stale = false;
	if (rules_switch_steers(agent, &problem) < 0)
		log_warning("what is steered goes to the CPUs of before: %s", problem.what);
	else
		log_info("other CPUs are online (%s): what is steered goes to those of them that are named",
			cpus_print(&steers->online, text));
}

static void steers_tick(struct agent *agent, void *state, uint64_t now_ns)
{
	struct steers *steers = state;
	struct steer_cpus online;

	(void)now_ns;
	if (!engine_steer_used(agent->engine) || !steers_present(rules_book(agent)) ||
		engine_steer_online(&online) < 0)
		return;
	steers->stale |= memcmp(&online, &steers->online, sizeof(online)) != 0;
	if (steers->stale)
		steers_renew(agent, steers);
}

/* -- answers -- */

static const struct steer *sentence_of(
	const struct agent *agent, uint32_t rule, const struct policy_unit **ret_book)
{
	size_t units = 0, count = 0;
	const struct policy_unit *book = engine_steer_book(agent->engine, false, &units);
	const struct steer *steers = steer_sentences(book, units, &count);

	*ret_book = book;
	for (size_t i = 0; i < count; i++)
		if (steers[i].rule == rule)
			return &steers[i];
	return NULL;
}

/* Why nothing that fits is steered; false: it is. */
static bool sentence_waits(struct agent *agent, const struct rule_entry *entry, const struct steer *steer,
	char reason[ERROR_TEXT_MAX])
{
	const char *name = entry->rule.match.interface;

	if (!steer || !steer->ifindex) {
		snprintf(reason, ERROR_TEXT_MAX, "there is no interface %s", name);
		return true;
	}
	if (!steer->count) {
		snprintf(reason, ERROR_TEXT_MAX, "none of its CPUs is online");
		return true;
	}
	return !shields_reaches(agent, name, reason);
}

static void sentence_write(struct agent *agent, struct json_write *out, const struct rule_entry *entry)
{
	const struct policy_unit *book;
	const struct steer *steer = sentence_of(agent, entry->id, &book);
	char reason[ERROR_TEXT_MAX] = "";
	bool waits = sentence_waits(agent, entry, steer, reason);
	struct steer_count sum = {}, count;

	json_write_object_begin(out, NULL);
	json_write_number(out, "id", entry->id);
	json_write_string(out, "text", entry->text);
	json_write_string(out, "interface", entry->rule.match.interface);
	json_write_string(out, "by", entry->rule.steer->by_rule ? "rule" : "flow");
	json_write_string(out, "state", waits ? "waiting" : "steering");
	if (waits)
		json_write_string(out, "reason", reason);
	json_write_array_begin(out, "cpus");
	for (size_t i = 0; steer && i < steer->count; i++) {
		unsigned int cpu = steer_cpu(book, steer, i);

		engine_steer_count(agent->engine, entry->id, cpu, &count);
		sum.packets += count.packets;
		sum.bytes += count.bytes;
		json_write_object_begin(out, NULL);
		json_write_number(out, "cpu", cpu);
		json_write_number(out, "packets", count.packets);
		json_write_number(out, "bytes", count.bytes);
		json_write_object_end(out);
	}
	json_write_array_end(out);
	json_write_number(out, "packets", sum.packets);
	json_write_number(out, "bytes", sum.bytes);
	json_write_number(out, "generation", entry->generation);
	json_write_object_end(out);
}

/* What all sentences in force have sent to a CPU; false: none names it. */
static bool cpu_count(const struct agent *agent, unsigned int cpu, struct steer_count *ret_sum)
{
	size_t units = 0, count = 0;
	const struct policy_unit *book = engine_steer_book(agent->engine, false, &units);
	const struct steer *steers = steer_sentences(book, units, &count);
	struct steer_count sum = {}, one;
	bool named = false;

	for (size_t i = 0; i < count; i++)
		for (size_t j = 0; j < steers[i].count; j++) {
			if (steer_cpu(book, &steers[i], j) != cpu)
				continue;
			named = true;
			engine_steer_count(agent->engine, steers[i].rule, cpu, &one);
			sum.packets += one.packets;
			sum.bytes += one.bytes;
		}
	*ret_sum = sum;
	return named;
}

static bool loss_is_none(const struct steer_loss *loss)
{
	return !loss->full && !loss->memory && !loss->refused && !loss->absent;
}

static void cpus_write(const struct agent *agent, struct json_write *out)
{
	json_write_array_begin(out, "cpus");
	for (unsigned int cpu = 0; cpu < engine_view(agent->engine)->cpus; cpu++) {
		struct steer_count count;
		struct steer_loss loss;
		bool named = cpu_count(agent, cpu, &count);

		engine_steer_loss(agent->engine, cpu, &loss);
		if (!named && loss_is_none(&loss))
			continue;
		json_write_object_begin(out, NULL);
		json_write_number(out, "cpu", cpu);
		json_write_number(out, "packets", count.packets);
		json_write_number(out, "bytes", count.bytes);
		json_write_number(out, "lost", loss.full + loss.memory + loss.refused);
		json_write_number(out, "full", loss.full);
		json_write_number(out, "memory", loss.memory);
		json_write_number(out, "refused", loss.refused);
		json_write_number(out, "absent", loss.absent);
		json_write_object_end(out);
	}
	json_write_array_end(out);
}

static void reply_steers(struct agent *agent, struct evhttp_request *request)
{
	static const char *const names[] = {NULL};
	const struct rule_entry *entry;
	struct json_write json = {};
	struct error error = {};
	size_t place = 0;

	if (query_check(query_of(request), names, &error) < 0) {
		reply_bad_request(request, &error);
		return;
	}
	json_write_object_begin(&json, NULL);
	json_write_array_begin(&json, "steers");
	while ((entry = rulebook_next(rules_book(agent), RULE_STEER, &place)))
		sentence_write(agent, &json, entry);
	json_write_array_end(&json);
	cpus_write(agent, &json);
	json_write_number(&json, "queue", STEER_QUEUE);
	json_write_boolean(&json, "losses_known",
		!engine_steer_used(agent->engine) || engine_steer_losses_known(agent->engine));
	rules_write_pending(agent, &json);
	json_write_object_end(&json);
	reply_json(request, HTTP_OK, "OK", &json);
	json_write_free(&json);
}

static const struct route steer_routes[] = {
	{"/v1/steers", EVHTTP_REQ_GET, reply_steers},
	{NULL},
};

/* -- explaining -- */

/* As the program at XDP reads it. */
static void packet_read(const struct packet_description *from, struct packet *to)
{
	const bool later = from->fragment == RULE_FRAGMENT_LATER;

	*to = (struct packet){.ethertype = htons(from->family == 6 ? PACKET_ETH_IPV6 : PACKET_ETH_IPV4),
		.family = from->family,
		.proto = from->protocol,
		.fragment = from->fragment == RULE_FRAGMENT_FIRST ? PACKET_FRAGMENT_FIRST
	                    : later                               ? PACKET_FRAGMENT_LATER
	                                                          : PACKET_WHOLE,
		.tos = (uint8_t)(from->dscp << 2)};
	memcpy(to->src, from->source.bytes, sizeof(to->src));
	memcpy(to->dst, from->destination.bytes, sizeof(to->dst));
	if (from->vlan >= 0) {
		to->vlan = (uint16_t)from->vlan;
		to->vlan_depth = 1;
	}
	if (from->has_ports && !later) {
		to->kind = FLOW_KIND_PORTS;
		to->sport = htons(from->source_port);
		to->dport = htons(from->destination_port);
		to->tcp_flags = from->tcp_flags;
	} else if (from->icmp_type >= 0 && !later) {
		to->kind = FLOW_KIND_ICMP;
		to->dport = htons((uint16_t)(from->icmp_type << 8 | from->icmp_code));
	}
}

static uint32_t index_of(const struct agent *agent, const char *interface)
{
	for (size_t i = 0; i < agent->watched_count; i++)
		if (agent->watched[i].state == WATCH_WATCHED &&
			(!*interface || strcmp(agent->watched[i].name, interface) == 0))
			return agent->watched[i].index;
	return 0;
}

void steers_explain(struct agent *agent, const struct packet_description *packet, struct json_write *out)
{
	const struct rule_entry *entry;
	struct policy_facts facts = {};
	struct packet read;
	unsigned int cpu = 0;

	if (packet->out || !engine_steer_used(agent->engine))
		return;
	packet_read(packet, &read);
	facts_read(&read, index_of(agent, packet->interface), 0, &facts);
	facts.src_sets = sets_combination(agent, &packet->source);
	facts.dst_sets = sets_combination(agent, &packet->destination);
	entry = rules_entry(agent, engine_steer_rule(agent->engine, &read, &facts, &cpu));
	if (!entry)
		return;
	json_write_object_begin(out, "steer");
	json_write_number(out, "id", entry->id);
	json_write_string(out, "text", entry->text);
	json_write_number(out, "cpu", cpu);
	json_write_object_end(out);
}

/* -- status and metrics -- */

static void steers_status(struct agent *agent, void *state, struct json_write *out)
{
	const struct rule_entry *entry;
	struct steer_loss loss;
	uint64_t count = 0, waiting = 0, lost = 0;
	size_t place = 0;

	(void)state;
	while ((entry = rulebook_next(rules_book(agent), RULE_STEER, &place))) {
		const struct policy_unit *book;
		char reason[ERROR_TEXT_MAX];

		count++;
		waiting += sentence_waits(agent, entry, sentence_of(agent, entry->id, &book), reason);
	}
	for (unsigned int cpu = 0; cpu < engine_view(agent->engine)->cpus; cpu++) {
		engine_steer_loss(agent->engine, cpu, &loss);
		lost += loss.full + loss.memory + loss.refused;
	}
	json_write_object_begin(out, "steers");
	json_write_number(out, "count", count);
	json_write_number(out, "waiting", waiting);
	json_write_number(out, "lost", lost);
	json_write_object_end(out);
}

static void lane_metrics(struct agent *agent, struct evbuffer *out, const char *name, bool bytes)
{
	size_t units = 0, count = 0, written = 0;
	const struct policy_unit *book = engine_steer_book(agent->engine, false, &units);
	const struct steer *steers = steer_sentences(book, units, &count);

	for (size_t i = 0; i < count; i++)
		for (size_t j = 0; j < steers[i].count && written < SERIES_MAX; j++, written++) {
			unsigned int cpu = steer_cpu(book, &steers[i], j);
			struct steer_count sum;

			engine_steer_count(agent->engine, steers[i].rule, cpu, &sum);
			evbuffer_add_printf(out, "%s{rule=\"%u\",cpu=\"%u\"} %" PRIu64 "\n", name,
				steers[i].rule, cpu, (uint64_t)(bytes ? sum.bytes : sum.packets));
		}
}

static void loss_metrics(struct agent *agent, struct evbuffer *out)
{
	static const struct {
		const char *word;
		size_t offset;
	} kinds[] = {
		{"full", offsetof(struct steer_loss, full)},
		{"memory", offsetof(struct steer_loss, memory)},
		{"refused", offsetof(struct steer_loss, refused)},
	};

	for (unsigned int cpu = 0; cpu < engine_view(agent->engine)->cpus; cpu++) {
		struct steer_loss loss;
		uint64_t value;

		engine_steer_loss(agent->engine, cpu, &loss);
		for (size_t i = 0; !loss_is_none(&loss) && i < sizeof(kinds) / sizeof(kinds[0]); i++) {
			memcpy(&value, (const char *)&loss + kinds[i].offset, sizeof(value));
			evbuffer_add_printf(out,
				"weir_steer_lost_packets_total{cpu=\"%u\",why=\"%s\"} %" PRIu64 "\n", cpu,
				kinds[i].word, value);
		}
	}
}

static void steers_metrics(struct agent *agent, void *state, struct evbuffer *out)
{
	(void)state;
	if (!engine_steer_used(agent->engine))
		return;
	metrics_head(out, "weir_steer_packets_total", "counter", "Packets steered, as they come at XDP.");
	lane_metrics(agent, out, "weir_steer_packets_total", false);
	metrics_head(out, "weir_steer_bytes_total", "counter", "Their bytes.");
	lane_metrics(agent, out, "weir_steer_bytes_total", true);
	metrics_head(
		out, "weir_steer_lost_packets_total", "counter", "Packets dropped on their way to a CPU.");
	loss_metrics(agent, out);
}

/* -- the module -- */

static void steers_close(void *state)
{
	free(state);
}

static int steers_open(struct agent *agent, void **ret_state, struct error *error)
{
	struct steers *steers = calloc(1, sizeof(*steers));

	(void)agent;
	*ret_state = steers;
	if (!steers)
		return error_set(error, -ENOMEM, "out of memory");
	engine_steer_online(&steers->online);
	return 0;
}

const struct module steer_module = {
	.name = "steer",
	.open = steers_open,
	.close = steers_close,
	.tick = steers_tick,
	.status = steers_status,
	.metrics = steers_metrics,
	.routes = steer_routes,
};
