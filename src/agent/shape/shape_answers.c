// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* Classes as the API tells and changes them (docs/api.md, /v1/shapes). */
#include <errno.h>
#include <event2/buffer.h>
#include <stdlib.h>
#include <string.h>

#include "agent/edit.h"
#include "agent/owner/audit.h"
#include "agent/owner/families.h"
#include "agent/rule/rules.h"
#include "agent/shape/shapes_internal.h"
#include "basic/cleanup.h"
#include "basic/log.h"
#include "basic/text.h"

#define SAMPLE_NS  900000000ULL /* what "the last second" is at least */
#define SERIES_MAX 1000         /* classes with metrics of their own */
#define KNOWN_MAX  64

/* -- what classes did -- */

/* What a class sent: behind a queue what came out of it. */
static void own_count_read(const struct shapes *shapes, uint32_t number, struct engine_shape_count *ret)
{
	const struct shape_live *live = &shapes->live[number];

	engine_shape_count(shapes->agent->engine, number, ret);
	if (live->choice.engine != SHAPE_HTB)
		return;
	ret->sent_packets = live->queue.packets;
	ret->sent_bytes = live->queue.bytes;
	ret->dropped_packets += live->queue.dropped;
	ret->marked_packets += live->queue.marked;
	ret->delayed_packets = live->queue.overlimits;
}

static void count_read(
	const struct shapes *shapes, const struct shape_node *node, struct engine_shape_count *ret)
{
	struct engine_shape_count rest;

	own_count_read(shapes, node->number, ret);
	if (!node->link)
		return;
	/* what belongs to no other class is held by the link's sentence, too */
	own_count_read(shapes, node->entry->rest, &rest);
	ret->dropped_packets += rest.dropped_packets;
	ret->dropped_bytes += rest.dropped_bytes;
	ret->marked_packets += rest.marked_packets;
	ret->delayed_packets += rest.delayed_packets;
	ret->delay_ns += rest.delay_ns;
}

struct queue_reading {
	struct shapes *shapes;
	const struct shape_tree *tree;
};

static const struct shape_node *node_of_minor(const struct queue_reading *reading, uint32_t minor)
{
	const struct shapes *shapes = reading->shapes;

	if (minor < SHAPE_CLASSES_MAX)
		return shape_node_numbered(shapes, minor);
	for (size_t i = 0; i < shapes->plan.count; i++) {
		const struct shape_node *node = &shapes->plan.nodes[i];

		if ((minor == QDISC_ROOT ? node->link : node->rest) &&
			shape_tree_find((void *)reading->tree, 1, node))
			return node;
	}
	return NULL;
}

static void queue_read(void *context, const struct engine_qdisc_count *count)
{
	const struct queue_reading *reading = context;
	bool own = count->minor < QDISC_REST && count->minor & QDISC_OWN;
	const struct shape_node *node =
		node_of_minor(reading, own ? count->minor & ~QDISC_OWN : count->minor);
	struct engine_qdisc_count *queue;

	if (!node)
		return;
	queue = &reading->shapes->live[node->number].queue;
	if (!own) {
		queue->packets = count->packets;
		queue->bytes = count->bytes;
	}
	/* drops, and what waits, are the leaf's */
	queue->dropped = count->dropped;
	queue->marked = count->marked;
	queue->overlimits = count->overlimits;
	queue->backlog_bytes = count->backlog_bytes;
}

static void queues_read(struct shapes *shapes)
{
	for (size_t i = 0; i < shapes->tree_count; i++) {
		struct queue_reading reading = {shapes, &shapes->trees[i]};

		if (shapes->trees[i].engine == SHAPE_HTB && shapes->trees[i].queue)
			engine_qdisc_counts(
				shapes->agent->engine, shapes->trees[i].queue, queue_read, &reading);
	}
}

/* What its engine added to a packet that it held back, on average. */
static uint64_t latency_us(
	const struct shape_node *node, const struct shape_live *live, const struct engine_shape_count *count)
{
	uint64_t packets = count->delayed_packets - live->sampled_delayed;
	uint64_t rate = shape_node_terms(node)->ceiling_bps / 8;

	switch (live->choice.engine) {
	case SHAPE_EDT:
		return packets ? (count->delay_ns - live->sampled_delay_ns) / packets / 1000 : 0;
	case SHAPE_HTB:
		return rate ? live->queue.backlog_bytes * 1000000ULL / rate : 0;
	default:
		return 0;
	}
}

/* Of what was sent in that time, what is beyond the guarantee and so the parent's. */
static uint64_t borrowed_of(const struct shape_node *node, uint64_t bytes, uint64_t took_ns)
{
	uint64_t own =
		(uint64_t)((__uint128_t)(shape_node_terms(node)->guarantee_bps / 8) * took_ns / 1000000000);

	return node->parent == SHAPE_PLAN_NONE || bytes <= own ? 0 : bytes - own;
}

static void node_sample(struct shapes *shapes, const struct shape_node *node, uint64_t now_ns)
{
	struct shape_live *live = &shapes->live[node->number];
	uint64_t took = now_ns - live->sampled_ns;
	struct engine_shape_count count;

	if (live->sampled_ns && took < SAMPLE_NS)
		return;
	count_read(shapes, node, &count);
	if (live->sampled_ns && count.sent_bytes >= live->sampled_bytes) {
		live->achieved_bps = (uint64_t)((__uint128_t)(count.sent_bytes - live->sampled_bytes) *
						8000000000U / took);
		live->latency_us = latency_us(node, live, &count);
		live->borrowed_bytes += borrowed_of(node, count.sent_bytes - live->sampled_bytes, took);
	}
	live->sampled_ns = now_ns;
	live->sampled_bytes = count.sent_bytes;
	live->sampled_delayed = count.delayed_packets;
	live->sampled_delay_ns = count.delay_ns;
}

void shape_answers_sample(struct shapes *shapes, uint64_t now_ns)
{
	queues_read(shapes);
	for (size_t i = 0; i < shapes->plan.count; i++)
		node_sample(shapes, &shapes->plan.nodes[i], now_ns);
}

/* -- the list -- */

static void terms_write(struct json_write *out, const struct shape_node *node)
{
	const struct shape_terms *terms = shape_node_terms(node);
	bool guarantee = node->entry->rule.verb == RULE_GUARANTEE;

	json_write_number(out, "rate_bps", guarantee ? terms->guarantee_bps : terms->ceiling_bps);
	if (terms->ceiling_bps)
		json_write_number(out, "ceiling_bps", terms->ceiling_bps);
	if (terms->guarantee_bps)
		json_write_number(out, "guarantee_bps", terms->guarantee_bps);
	json_write_number(out, "weight", terms->weight ? terms->weight : 1);
	json_write_string(out, "priority", shape_priorities[terms->priority]);
}

static void count_write(const struct shapes *shapes, struct json_write *out, const struct shape_node *node)
{
	const struct shape_live *live = &shapes->live[node->number];
	struct shape_state state;
	struct engine_shape_count count;

	engine_shape_state(shapes->agent->engine, node->number, &state);
	count_read(shapes, node, &count);
	json_write_number(out, "achieved_bps", live->achieved_bps);
	json_write_number(out, "allowance_bps", state.allowance * 8);
	json_write_number(out, "flows", state.flows);
	json_write_number(out, "sent_packets", count.sent_packets);
	json_write_number(out, "sent_bytes", count.sent_bytes);
	json_write_number(out, "delayed_packets", count.delayed_packets);
	json_write_number(out, "dropped_packets", count.dropped_packets);
	json_write_number(out, "dropped_bytes", count.dropped_bytes);
	json_write_number(out, "marked_packets", count.marked_packets);
	json_write_number(out, "borrowed_bytes", live->borrowed_bytes);
	json_write_number(out, "latency_us", live->latency_us);
}

static void node_write(const struct shapes *shapes, struct json_write *out, const struct shape_node *node)
{
	static const char *const directions[] = {"in", "out"};
	const struct shape_live *live = &shapes->live[node->number];

	json_write_object_begin(out, NULL);
	json_write_number(out, "id", node->entry->id);
	json_write_string(out, "text", node->entry->text);
	if (rule_is_declared(&node->entry->rule))
		json_write_string(out, "name", node->entry->rule.class);
	if (node->parent != SHAPE_PLAN_NONE)
		json_write_number(out, "parent", shapes->plan.nodes[node->parent].entry->id);
	if (node->interface[0] && live->class.ifindex)
		json_write_string(out, "interface", node->interface);
	if (!node->in || !node->out)
		json_write_string(out, "direction", directions[node->out]);
	if (families_ended(shapes->agent, node->entry))
		json_write_boolean(out, "ended", true);
	json_write_string(out, "engine", shape_engines[live->choice.engine]);
	json_write_string(out, "engine_reason", live->choice.reason);
	terms_write(out, node);
	count_write(shapes, out, node);
	json_write_object_end(out);
}

/* All classes, or the one of a rule. */
static void list_write(struct shapes *shapes, struct json_write *out, uint32_t id)
{
	queues_read(shapes);
	json_write_array_begin(out, "shapes");
	for (size_t i = 0; i < shapes->plan.count; i++) {
		const struct shape_node *node = &shapes->plan.nodes[i];

		if (!node->rest && (!id || node->entry->id == id))
			node_write(shapes, out, node);
	}
	json_write_array_end(out);
}

static void warnings_write(const struct shapes *shapes, struct json_write *out)
{
	json_write_array_begin(out, "warnings");
	if (shapes->plan.lonely[0])
		json_write_string(out, NULL, shapes->plan.lonely);
	for (size_t i = 0; i < shapes->tree_count; i++)
		if (shapes->trees[i].refusal[0])
			json_write_string(out, NULL, shapes->trees[i].refusal);
	json_write_array_end(out);
}

static void reply_shapes(struct agent *agent, struct evhttp_request *request)
{
	static const char *const names[] = {NULL};
	struct shapes *shapes = shapes_of(agent);
	struct json_write json = {};
	struct error error = {};

	if (query_check(query_of(request), names, &error) < 0) {
		reply_bad_request(request, &error);
		return;
	}
	json_write_object_begin(&json, NULL);
	list_write(shapes, &json, 0);
	warnings_write(shapes, &json);
	rules_write_pending(agent, &json);
	json_write_object_end(&json);
	reply_json(request, HTTP_OK, "OK", &json);
	json_write_free(&json);
}

/* -- changes -- */

static int refuse_unknown(const struct rulebook *book, const char *name, struct error *error)
{
	const char *known[KNOWN_MAX + 1] = {}, *near;
	const struct rule_entry *service;
	size_t count = 0, place = 0;

	for (size_t i = 0; i < book->policies[0].list.count && count < KNOWN_MAX; i++) {
		const struct rule *rule = &book->policies[0].list.slots[i].entry->rule;

		if (rule_is_declared(rule))
			known[count++] = rule->class;
	}
	near = text_nearest(name, known);
	error_set(error, -ENOENT, "there is no class '%s'", name);
	while ((service = rulebook_next(book, RULE_SERVICE, &place)))
		if (strcmp(service->rule.service->name, name) == 0)
			return error_want(error, "'weir service delete %s' takes the service away", name);
	if (near)
		return error_want(error, "did you mean '%s'?", near);
	return error_want(error, "'weir shapes' lists those there are");
}

static bool named_find(const struct rule_policy *policy, const char *name, size_t *ret_place)
{
	for (size_t place = 0; place < policy->list.count; place++) {
		const struct rule *rule = &policy->list.slots[place].entry->rule;

		if (rule_is_declared(rule) && strcmp(rule->class, name) == 0) {
			*ret_place = place;
			return true;
		}
	}
	return false;
}

/* The class that ?id= or ?name= says is meant. */
static int edit_find(struct edit *edit, struct error *error)
{
	_cleanup_free_ char *id = query_value(query_of(edit->request), "id"),
			    *name = query_value(query_of(edit->request), "name");
	struct rule_policy *policy = &edit->next.policies[0];
	size_t place;
	int r = 0;

	if (!id == !name) {
		error_set(error, -EINVAL, "which class?");
		return error_want(error, "either id=NUMBER or name=NAME");
	}
	if (name && !named_find(policy, name, &place))
		return refuse_unknown(&edit->next, name, error);
	if (id)
		r = rules_named(&edit->next, id, &policy, &place, error);
	if (r < 0)
		return r;
	edit_use(edit, policy, place);
	if (rule_entry_is_class(edit->entry))
		return 0;
	error_set(error, -EINVAL, "rule %u gives nothing a rate: %.150s", edit->entry->id, edit->entry->text);
	return error_want(
		error, "a limit in bits, a guarantee or a declared class, as 'weir shapes' lists them");
}

static void reply_changed(struct agent *agent, struct evhttp_request *request, uint32_t id)
{
	struct shapes *shapes = shapes_of(agent);
	struct json_write json = {};

	json_write_object_begin(&json, NULL);
	list_write(shapes, &json, id);
	warnings_write(shapes, &json);
	rules_write_pending(agent, &json);
	json_write_object_end(&json);
	reply_json(request, HTTP_OK, "OK", &json);
	json_write_free(&json);
}

/* The rule `shape SENTENCE`. */
static int declared_new(struct edit *edit, struct error *error)
{
	struct shape_declared declared;
	char text[RULE_TEXT_MAX];
	int r = shape_declared_parse(edit->text, &declared, error);

	if (r < 0)
		return r;
	if ((size_t)snprintf(text, sizeof(text), "shape %s", edit->text) >= sizeof(text)) {
		error_set(error, -EINVAL, "the sentence is too long");
		return error_want(error, "at most %d bytes", SHAPE_TEXT_MAX - 1);
	}
	r = edit_make(edit, text, error);
	return r < 0 ? r : edit_insert(edit, &edit->next.policies[0], SIZE_MAX, true, error);
}

static void reply_add(struct agent *agent, struct evhttp_request *request)
{
	static const char *const names[] = {"text", "confirm", NULL};
	_cleanup_(edit_clear) struct edit edit = {.agent = agent, .request = request};
	struct error error = {};
	int r = edit_begin(&edit, names, &error);

	if (r == 0)
		r = edit_read_text(&edit, "a class, such as bulk under eth0 ceiling 200mbit", &error);
	if (r == 0)
		r = declared_new(&edit, &error);
	if (r == 0)
		r = edit_commit(&edit, &error);
	if (r < 0 || !edit.entry) {
		reply_refusal(request, &error);
		return;
	}
	log_info("class %u: %s", edit.entry->id, edit.entry->text);
	audit_change(agent, request, "%s (class %u)", edit.entry->text, edit.entry->id);
	reply_changed(agent, request, edit.entry->id);
}

static void reply_change(struct agent *agent, struct evhttp_request *request)
{
	static const char *const names[] = {"id", "name", "text", "confirm", NULL};
	_cleanup_(edit_clear) struct edit edit = {.agent = agent, .request = request};
	struct error error = {};
	const struct rule_entry *changed;
	int r = edit_begin(&edit, names, &error);

	if (r == 0)
		r = edit_read_text(&edit, "a change, such as to 20mbit", &error);
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
	changed = rules_entry(agent, edit.entry->id);
	if (changed) {
		log_info("class %u is now: %s", changed->id, changed->text);
		audit_change(agent, request, "%s (class %u changed)", changed->text, changed->id);
	}
	reply_changed(agent, request, edit.entry->id);
}

static void reply_delete(struct agent *agent, struct evhttp_request *request)
{
	static const char *const names[] = {"id", "name", "cut", "confirm", NULL};
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
	log_info("class %u deleted: %s", edit.entry->id, edit.entry->text);
	audit_change(agent, request, "deleted class %u: %s", edit.entry->id, edit.entry->text);
	edit_reply_deleted(&edit);
}

const struct route shape_routes[] = {
	{"/v1/shapes", EVHTTP_REQ_GET, reply_shapes},
	{"/v1/shapes/add", EVHTTP_REQ_POST, reply_add},
	{"/v1/shapes/change", EVHTTP_REQ_POST, reply_change},
	{"/v1/shapes/delete", EVHTTP_REQ_POST, reply_delete},
	{NULL},
};

/* -- metrics -- */

/* What a metric is of a class. */
static const struct shape_metric {
	const char *name, *help;
	size_t offset; /* in struct engine_shape_count */
} metrics[] = {
	{"weir_shape_sent_packets_total", "Wire packets that a class let go, by the id of its sentence.",
		offsetof(struct engine_shape_count, sent_packets)},
	{"weir_shape_sent_bytes_total", "Their bytes on the wire.",
		offsetof(struct engine_shape_count, sent_bytes)},
	{"weir_shape_dropped_packets_total", "Wire packets that a class dropped.",
		offsetof(struct engine_shape_count, dropped_packets)},
	{"weir_shape_marked_packets_total", "Wire packets that a class marked (ECN).",
		offsetof(struct engine_shape_count, marked_packets)},
	{"weir_shape_delayed_packets_total", "Wire packets that a class held back.",
		offsetof(struct engine_shape_count, delayed_packets)},
};

static void metric_write(struct shapes *shapes, struct evbuffer *out, const struct shape_metric *metric)
{
	uint64_t other = 0;
	size_t written = 0;

	metrics_head(out, metric->name, "counter", metric->help);
	for (size_t i = 0; i < shapes->plan.count; i++) {
		const struct shape_node *node = &shapes->plan.nodes[i];
		struct engine_shape_count count;
		uint64_t value;

		if (node->rest)
			continue;
		count_read(shapes, node, &count);
		memcpy(&value, (const char *)&count + metric->offset, sizeof(value));
		if (written++ < SERIES_MAX)
			evbuffer_add_printf(
				out, "%s{class=\"%u\"} %" PRIu64 "\n", metric->name, node->entry->id, value);
		else
			other += value;
	}
	if (written > SERIES_MAX)
		evbuffer_add_printf(out, "%s{class=\"other\"} %" PRIu64 "\n", metric->name, other);
}

void shape_answers_metrics(struct shapes *shapes, struct evbuffer *out)
{
	struct engine_shape_stats stats = {};
	size_t count = 0;

	for (size_t i = 0; i < shapes->plan.count; i++)
		count += !shapes->plan.nodes[i].rest;
	engine_shape_stats(shapes->agent->engine, &stats);
	metrics_single(out, "weir_shapes", "gauge", "Classes that sentences give a rate.", count);
	metrics_single(out, "weir_shape_paths", "gauge", "Different lists of classes that flows belong to.",
		stats.paths);
	metrics_single(out, "weir_shape_paths_full_packets_total", "counter",
		"Packets of flows whose list of classes got no number: each is asked about.",
		stats.paths_full);
	queues_read(shapes);
	for (size_t i = 0; i < sizeof(metrics) / sizeof(metrics[0]); i++)
		metric_write(shapes, out, &metrics[i]);
}
