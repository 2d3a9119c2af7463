// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* The list of rules as the API tells it (docs/api.md, GET /v1/rules). */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/forward/forwards.h"
#include "agent/internal.h"
#include "agent/owner/families.h"
#include "agent/owner/guards.h"
#include "agent/rule/limited.h"
#include "agent/rule/policies.h"
#include "agent/rule/rules.h"
#include "agent/rule/shields.h"
#include "basic/cleanup.h"
#include "basic/text.h"
#include "engine/guard.h"
#include "engine/policy.h"

/* A rule with what it is sorted by. */
struct row {
	const struct rule_slot *slot;
	size_t place;
	uint64_t key;
};

struct rule_question {
	enum rule_verb verb; /* RULE_VERBS: all that have no list of their own */
	const struct rule_sort *sort;
	bool ascending;
	uint64_t limit;
};

enum { KEY_PLACE, KEY_PACKETS, KEY_BYTES, KEY_RATE, KEY_LAST };

static const struct rule_sort {
	const char *name;
	bool ascending; /* unless asked otherwise */
} sorts[] = {
	[KEY_PLACE] = {"place", true},
	[KEY_PACKETS] = {"packets", false},
	[KEY_BYTES] = {"bytes", false},
	[KEY_RATE] = {"rate", false},
	[KEY_LAST] = {"last", false},
};

#define SORTS (sizeof(sorts) / sizeof(sorts[0]))

static int sort_read(const char *text, const struct rule_sort **ret_sort, struct error *error)
{
	const char *names[SORTS + 1] = {}, *near;

	for (size_t i = 0; i < SORTS; i++) {
		names[i] = sorts[i].name;
		if (strcmp(sorts[i].name, text) == 0) {
			*ret_sort = &sorts[i];
			return 0;
		}
	}
	error_set(error, -EINVAL, "rules cannot be sorted by '%s'", text);
	near = text_nearest(text, names);
	if (near)
		return error_want(error, "did you mean '%s'?", near);
	return error_want(error, "one of place, packets, bytes, rate, last");
}

static int verb_read(const char *text, enum rule_verb *ret_verb, struct error *error)
{
	const char *near = text_nearest(text, rule_verbs);

	for (unsigned int i = 0; rule_verbs[i]; i++) {
		if (strcmp(rule_verbs[i], text) == 0) {
			*ret_verb = (enum rule_verb)i;
			return 0;
		}
	}
	error_set(error, -EINVAL, "no rule is called '%s'", text);
	if (near)
		return error_want(error, "did you mean '%s'?", near);
	return error_want(error, "a rule's first word, such as drop");
}

static int question_read(const char *query, struct rule_question *ret_question, struct error *error)
{
	_cleanup_free_ char *sort = query_value(query, "sort"), *order = query_value(query, "order"),
			    *limit = query_value(query, "limit"), *verb = query_value(query, "verb");
	struct rule_question question = {.verb = RULE_VERBS, .sort = &sorts[0], .limit = UINT64_MAX};
	int r = sort ? sort_read(sort, &question.sort, error) : 0;

	if (r == 0 && verb)
		r = verb_read(verb, &question.verb, error);
	if (r < 0)
		return r;
	question.ascending = order ? strcmp(order, "ascending") == 0 : question.sort->ascending;
	if (order && !question.ascending && strcmp(order, "descending") != 0) {
		error_set(error, -EINVAL, "unknown order '%s'", order);
		return error_want(error, "ascending or descending");
	}
	if (limit) {
		char *end;

		question.limit = strtoull(limit, &end, 10);
		if (*limit < '0' || *limit > '9' || *end) {
			error_set(error, -EINVAL, "the limit '%s' is not a number", limit);
			return error_want(error, "a whole number");
		}
	}
	*ret_question = question;
	return 0;
}

/* What a rule has counted; of one on sockets, calls. */
static void count_read(
	const struct agent *agent, const struct rule_entry *entry, struct engine_policy_count *ret_count)
{
	struct forward_count sent;
	struct guard_hits hits = {};

	forwards_count(agent, entry, &sent);
	*ret_count = (struct engine_policy_count){.packets = sent.packets, .bytes = sent.bytes};
	if (rule_entry_is_on_packets(entry))
		engine_policy_count(agent->engine, entry->counter, entry->class, ret_count);
	if (!rule_entry_is_on_sockets(entry))
		return;
	engine_guard_hits(agent->engine, entry->id, &hits);
	*ret_count = (struct engine_policy_count){.packets = hits.hits, .last_ns = hits.last_ns};
}

static int row_compare(const void *left, const void *right)
{
	const struct row *a = left, *b = right;

	if (a->key != b->key)
		return a->key < b->key ? -1 : 1;
	return (a->place > b->place) - (a->place < b->place);
}

static int row_compare_down(const void *left, const void *right)
{
	const struct row *a = left, *b = right;

	if (a->key != b->key)
		return a->key > b->key ? -1 : 1;
	return (a->place > b->place) - (a->place < b->place);
}

/* What rules are sorted by. */
static uint64_t key_read(
	const struct agent *agent, const struct rule_sort *sort, struct rule_entry *entry, size_t place)
{
	struct engine_policy_count count = {};

	if (sort == &sorts[KEY_PLACE])
		return place;
	count_read(agent, entry, &count);
	if (sort == &sorts[KEY_PACKETS])
		return count.packets;
	if (sort == &sorts[KEY_BYTES])
		return count.bytes;
	if (sort == &sorts[KEY_LAST])
		return count.last_ns;
	policies_meter(&entry->meter, &count);
	return entry->meter.known ? entry->meter.pps : 0;
}

/* Classes, services (GET /v1/shapes, /v1/services), what forwards and what steers have lists of their own. */
static bool is_asked(const struct rule *rule, const struct rule_question *question)
{
	if (question->verb != RULE_VERBS)
		return rule->verb == question->verb;
	return policy_section_find(rule_verbs[rule->verb]) == POLICY_SECTIONS;
}

static size_t rows_fill(const struct agent *agent, const struct rule_list *list,
	const struct rule_question *question, struct row *rows)
{
	size_t count = 0;

	for (size_t i = 0; i < list->count; i++)
		if (is_asked(&list->slots[i].entry->rule, question))
			rows[count++] = (struct row){.slot = &list->slots[i],
				.place = i,
				.key = key_read(agent, question->sort, list->slots[i].entry, i)};
	qsort(rows, count, sizeof(*rows), question->ascending ? row_compare : row_compare_down);
	return count;
}

static int rows_write(struct agent *agent, struct json_write *out, const struct rule_policy *policy,
	const struct rule_question *question)
{
	const struct rule_list *list = &policy->list;
	_cleanup_free_ struct row *rows = calloc(list->count + 1, sizeof(*rows));
	size_t count;

	if (!rows)
		return -ENOMEM;
	count = rows_fill(agent, list, question, rows);
	json_write_array_begin(out, "rules");
	for (size_t i = 0; i < count && i < question->limit; i++)
		rule_write_entry(agent, out, policy, rows[i].slot);
	json_write_array_end(out);
	return 0;
}

void rule_write_entry(struct agent *agent, struct json_write *out, const struct rule_policy *policy,
	const struct rule_slot *slot)
{
	struct rule_entry *entry = slot->entry;

	json_write_object_begin(out, NULL);
	json_write_number(out, "id", entry->id);
	json_write_string(out, "text", entry->text);
	json_write_string(out, "verdict", rule_verbs[entry->rule.verb]);
	if (rule_entry_is_on_sockets(entry))
		json_write_string(out, "hook", "socket");
	if (rule_entry_is_on_packets(entry))
		json_write_string(out, "hook", shields_hook(agent, policy, &entry->rule));
	json_write_string(out, "source", slot->live ? "api" : "file");
	if (rule_entry_is_on_sockets(entry))
		guards_write_entry(agent, out, entry);
	if (rule_entry_is_on_packets(entry))
		policies_write_entry(agent, out, entry);
	if (entry->rule.verb == RULE_FORWARD)
		forwards_write_entry(agent, out, entry);
	limits_write_entry(agent, out, entry);
	if (entry->ends_ns)
		answer_time(out, "ends", entry->ends_ns);
	if (families_ended(agent, entry))
		json_write_boolean(out, "ended", true);
	json_write_number(out, "generation", entry->generation);
	json_write_object_end(out);
}

void rules_write_pending(const struct agent *agent, struct json_write *out)
{
	uint64_t now = agent_now_ns(), deadline;

	if (!rules_pending(agent, &deadline))
		return;
	json_write_object_begin(out, "pending");
	answer_time(out, "deadline", deadline);
	json_write_real(out, "seconds", deadline > now ? (double)(deadline - now) / 1e9 : 0, 3);
	json_write_object_end(out);
}

void reply_rule_list(struct agent *agent, struct evhttp_request *request)
{
	static const char *const names[] = {"tenant", "verb", "sort", "order", "limit", NULL};
	const char *query = query_of(request);
	struct rule_question question = {};
	struct rule_policy *policy;
	struct json_write json = {};
	struct error error = {};
	int r;

	if (query_check(query, names, &error) < 0 || question_read(query, &question, &error) < 0 ||
		rules_policy_named(rules_book(agent), query, &policy, &error) < 0) {
		reply_refusal(request, &error);
		return;
	}
	json_write_object_begin(&json, NULL);
	r = rows_write(agent, &json, policy, &question);
	policies_write_defaults(agent, &json, policy);
	json_write_number(&json, "generation", policy->generation);
	json_write_boolean(&json, "applied", rules_book(agent)->applied);
	rules_write_pending(agent, &json);
	guards_write_stats(agent, &json);
	json_write_object_end(&json);
	if (r < 0)
		reply_failure(request, r);
	else
		reply_json(request, HTTP_OK, "OK", &json);
	json_write_free(&json);
}
