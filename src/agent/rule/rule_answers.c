// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* The API of the list of rules: what is in it, and changes of single rules (docs/api.md, /v1/rules). */
#include <errno.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>

#include "agent/edit.h"
#include "agent/forward/forwards.h"
#include "agent/internal.h"
#include "agent/owner/audit.h"
#include "agent/owner/guards.h"
#include "agent/owner/owners.h"
#include "agent/rule/policies.h"
#include "agent/rule/rules.h"
#include "agent/rule/shields.h"
#include "agent/service/services.h"
#include "basic/cleanup.h"
#include "basic/log.h"
#include "basic/text.h"
#include "basic/units.h"

#define WARNINGS_MAX   8 /* of one answer */
#define CONFIRM_MIN_NS 1000000000ULL
#define CONFIRM_MAX_NS (3600 * 1000000000ULL)

/* -- what the requests ask for -- */

int rules_change_read(const char *query, struct rules_change *ret_change, struct error *error)
{
	_cleanup_free_ char *confirm = query_value(query, "confirm");
	int r = query_flag(query, "cut", &ret_change->cut, error);

	if (r == 0)
		r = query_flag(query, "check", &ret_change->check, error);
	if (r < 0 || !confirm)
		return r;
	r = duration_parse(confirm, &ret_change->confirm_ns);
	if (r == 0 && ret_change->confirm_ns >= CONFIRM_MIN_NS && ret_change->confirm_ns <= CONFIRM_MAX_NS)
		return 0;
	error_set(error, -EINVAL, "'%s' is no time to wait for a confirmation", confirm);
	return error_want(error, "1s to 1h, such as 60s");
}

static const struct rule_slot *nearest_find(const struct rulebook *book, uint64_t id)
{
	const struct rule_slot *near = NULL;
	uint64_t least = UINT64_MAX;

	for (size_t p = 0; p < book->count; p++) {
		const struct rule_list *list = &book->policies[p].list;

		for (size_t i = 0; i < list->count; i++) {
			uint64_t other = list->slots[i].entry->id,
				 away = other > id ? other - id : id - other;

			if (away < least) {
				least = away;
				near = &list->slots[i];
			}
		}
	}
	return near;
}

/* The rule that a parameter names. */
int rules_named(const struct rulebook *book, const char *text, struct rule_policy **ret_policy,
	size_t *ret_place, struct error *error)
{
	const struct rule_slot *near;
	char *end = NULL;
	unsigned long id = text ? strtoul(text, &end, 10) : 0;

	if (!text || *text < '0' || *text > '9' || *end) {
		error_set(error, -EINVAL, "expected the id of a rule, got '%s'", text ? text : "nothing");
		return error_want(error, "a number, as 'weir rules' lists them");
	}
	if (id <= UINT32_MAX && rulebook_find(book, (uint32_t)id, ret_policy, ret_place))
		return 0;
	near = nearest_find(book, id);
	error_set(error, -ENOENT, "there is no rule %s", text);
	if (near)
		return error_want(error, "the nearest is %u: %.200s", near->entry->id, near->entry->text);
	return error_want(error, "there are no rules");
}

int rules_policy_named(
	const struct rulebook *book, const char *query, struct rule_policy **ret_policy, struct error *error)
{
	_cleanup_free_ char *name = query_value(query, "tenant");
	char known[160] = "";
	size_t length = 0;

	*ret_policy = rulebook_policy(book, name ? name : "");
	if (*ret_policy)
		return 0;
	error_set(error, -ENOENT, "there is no tenant '%s'", name);
	for (size_t i = 1; i < book->count && length < sizeof(known); i++)
		length += (size_t)snprintf(known + length, sizeof(known) - length, "%s%s", i > 1 ? ", " : "",
			book->policies[i].name);
	return error_want(error, "%s%s", length ? "one of " : "there are no tenants", known);
}

void reply_refusal(struct evhttp_request *request, const struct error *error)
{
	static const struct {
		int code, status;
		const char *reason;
	} kinds[] = {
		{-ENOENT, HTTP_NOTFOUND, "Not Found"},
		{-EBUSY, 409, "Conflict"},
		{-ESHUTDOWN, HTTP_SERVUNAVAIL, "Service Unavailable"},
		{-ENOMEM, HTTP_INTERNAL, "Internal Server Error"},
	};

	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		if (kinds[i].code == error->code) {
			reply_error(request, kinds[i].status, kinds[i].reason, error);
			return;
		}
	}
	reply_bad_request(request, error);
}

/* -- warnings -- */

static void warn(struct json_write *out, const char *what, const struct rule_entry *entry)
{
	char text[RULE_TEXT_MAX + 64];

	snprintf(text, sizeof(text), "%s rule %u: %s", what, entry->id, entry->text);
	json_write_string(out, NULL, text);
}

/* Is nothing asked behind a rule of this verb? */
static bool verb_decides(enum rule_verb verb)
{
	switch (verb) {
	case RULE_DENY:
	case RULE_ALLOW:
	case RULE_ACCEPT:
	case RULE_DROP:
	case RULE_REJECT:
	case RULE_REDIRECT:
		return true;
	default:
		return false;
	}
}

/* What names an interface that is not there fits nothing yet. */
static bool is_absent(const struct rule *rule)
{
	const char *const names[] = {rule->match.interface, rule->packet.interface};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (*names[i] && !if_nametoindex(names[i]))
			return true;
	return false;
}

static bool hides(const struct rule_entry *wide, const struct rule_entry *narrow)
{
	return rule_entry_is_on_sockets(wide) == rule_entry_is_on_sockets(narrow) &&
	       verb_decides(wide->rule.verb) && rule_covers(&wide->rule, &narrow->rule) &&
	       !is_absent(&wide->rule);
}

/* Empty: none is near. */
static void interface_nearest(const char *name, char near[static IF_NAMESIZE])
{
	struct if_nameindex *all = if_nameindex();
	_cleanup_free_ const char **known = NULL;
	const char *nearest = NULL;
	size_t count = 0;

	*near = '\0';
	while (all && all[count].if_name)
		count++;
	known = calloc(count + 1, sizeof(*known));
	for (size_t i = 0; known && i < count; i++)
		known[i] = all[i].if_name;
	if (known)
		nearest = text_nearest(name, known);
	if (nearest)
		snprintf(near, IF_NAMESIZE, "%s", nearest);
	if_freenameindex(all);
}

/* A name of an interface that is not there: right, if it comes later, and a mistake else. */
static bool warn_of_interface(struct json_write *out, const struct rule_entry *entry, const char *name)
{
	char text[RULE_TEXT_MAX + 128], near[IF_NAMESIZE];

	if (!name[0] || if_nametoindex(name))
		return false;
	interface_nearest(name, near);
	snprintf(text, sizeof(text),
		*near ? "there is no interface %s: until there is, nothing fits rule %u: %s; did you mean %s?"
		      : "there is no interface %s: until there is, nothing fits rule %u: %s",
		name, entry->id, entry->text, near);
	json_write_string(out, NULL, text);
	return true;
}

/* The same of a unit, a cgroup, a container or a pod. */
static bool warn_of_owner(struct agent *agent, struct json_write *out, const struct rule_entry *entry)
{
	char text[RULE_TEXT_MAX + ERROR_TEXT_MAX];
	struct error error = {};

	if (entry->rule.match.owner.kind == OWNER_PID ||
		owner_expect(agent, &entry->rule.match.owner, &error) == 0)
		return false;
	snprintf(text, sizeof(text), "%s: until there is, nothing fits rule %u: %s", error.what, entry->id,
		entry->text);
	json_write_string(out, NULL, text);
	return true;
}

/* What in this list the rule never sees, and what does not see anything any more because of it. */
static void warnings_write(struct agent *agent, struct json_write *out, const struct rule_list *list,
	const struct rule_entry *entry)
{
	unsigned int count = 0;
	bool before = true;

	count += warn_of_interface(out, entry, entry->rule.match.interface);
	count += warn_of_interface(out, entry, entry->rule.packet.interface);
	count += warn_of_owner(agent, out, entry);
	for (size_t i = 0; i < list->count && count < WARNINGS_MAX; i++) {
		const struct rule_entry *other = list->slots[i].entry;
		bool hidden = other != entry && (before ? hides(other, entry) : hides(entry, other));

		if (other == entry)
			before = false;
		else if (hidden && before && strcmp(other->text, entry->text) == 0)
			warn(out, "it is the same as", other);
		else if (hidden)
			warn(out, before ? "nothing gets past" : "nothing gets past it any more to", other);
		count += hidden;
	}
}

void rules_write_absent(struct agent *agent, struct json_write *out)
{
	const struct rulebook *book = rules_book(agent);
	unsigned int count = 0;

	for (size_t p = 0; p < book->count; p++) {
		const struct rule_list *list = &book->policies[p].list;
		const char *last = "";

		for (size_t i = 0; i < list->count && count < WARNINGS_MAX; i++) {
			const struct rule_entry *entry = list->slots[i].entry;

			count += warn_of_interface(out, entry, entry->rule.packet.interface);
			if (strcmp(entry->rule.match.interface, last) == 0)
				continue; /* lists of one interface's rules ask once */
			last = entry->rule.match.interface;
			count += warn_of_interface(out, entry, last);
		}
	}
}

void rules_write_shadows(struct agent *agent, struct json_write *out, const struct verify_result *result)
{
	char text[3 * 256];

	for (size_t i = 0; i < result->shadow_count && i < VERIFY_SHADOWS_MAX; i++) {
		const struct rule_entry *hidden = rules_entry(agent, result->shadows[i].hidden),
					*hiding = rules_entry(agent, result->shadows[i].hiding);

		if (!hidden || !hiding)
			continue;
		snprintf(text, sizeof(text), "nothing gets past rule %u (%.256s) to rule %u: %.256s",
			hiding->id, hiding->text, hidden->id, hidden->text);
		json_write_string(out, NULL, text);
	}
	if (result->shadow_count <= VERIFY_SHADOWS_MAX)
		return;
	snprintf(
		text, sizeof(text), "%zu more rules never decide", result->shadow_count - VERIFY_SHADOWS_MAX);
	json_write_string(out, NULL, text);
}

static void reply_rule(struct agent *agent, struct evhttp_request *request, uint32_t id)
{
	struct json_write json = {};
	struct rule_policy *policy;
	size_t place;

	if (!rulebook_find(rules_book(agent), id, &policy, &place))
		return;
	json_write_object_begin(&json, NULL);
	json_write_array_begin(&json, "rules");
	rule_write_entry(agent, &json, policy, &policy->list.slots[place]);
	json_write_array_end(&json);
	json_write_array_begin(&json, "warnings");
	warnings_write(agent, &json, &policy->list, policy->list.slots[place].entry);
	forwards_write_warnings(agent, &json, policy->list.slots[place].entry);
	services_write_warnings(agent, &json, policy->list.slots[place].entry);
	json_write_array_end(&json);
	rules_write_pending(agent, &json);
	json_write_object_end(&json);
	reply_json(request, HTTP_OK, "OK", &json);
	json_write_free(&json);
}

/* -- single changes -- */

typedef int change_function(struct edit *edit, struct error *error);

/* Makes the change.  0, or a negative errno and nothing has changed. */
static int change_make(
	struct edit *edit, const char *const *parameters, change_function *function, struct error *error)
{
	int r = edit_begin(edit, parameters, error);

	if (r == 0)
		r = function(edit, error);
	return r < 0 ? r : edit_commit(edit, error);
}

static int rule_add(struct edit *edit, struct error *error)
{
	_cleanup_free_ char *before = query_value(query_of(edit->request), "before");
	struct rule_policy *policy = NULL;
	size_t place = SIZE_MAX;
	int r = rules_policy_named(&edit->next, query_of(edit->request), &policy, error);

	if (r == 0)
		r = edit_read_text(edit, "a rule, such as drop in tcp to port 80", error);
	if (r < 0 || !policy)
		return r;
	if (before) {
		struct rule_policy *owner = NULL;

		r = rules_named(&edit->next, before, &owner, &place, error);
		if (r < 0)
			return r;
		if (owner != policy) {
			error_set(error, -EINVAL, "rule %s is in another list", before);
			return error_want(error, "a rule of the same tenant");
		}
	}
	r = edit_make(edit, edit->text, error);
	if (r < 0)
		return r;
	if (policy->number != POLICY_HOST && !rule_entry_is_on_packets(edit->entry)) {
		error_set(error, -EINVAL, "%s the host's",
			rule_entry_is_on_sockets(edit->entry) ? "rules on sockets are" : "that is");
		return error_want(error, "a rule on packets for a tenant");
	}
	return edit_insert(edit, policy, place, true, error);
}

static void reply_add(struct agent *agent, struct evhttp_request *request)
{
	static const char *const names[] = {"text", "before", "tenant", "cut", "confirm", NULL};
	_cleanup_(edit_clear) struct edit edit = {.agent = agent, .request = request};
	struct error error = {};

	if (change_make(&edit, names, rule_add, &error) < 0) {
		reply_refusal(request, &error);
		return;
	}
	log_info("rule %u: %s", edit.entry->id, edit.entry->text);
	audit_change(agent, request, "%s (rule %u)", edit.entry->text, edit.entry->id);
	reply_rule(edit.agent, request, edit.entry->id);
}

/* The rule that ?id= names is meant. */
static int edit_find(struct edit *edit, struct error *error)
{
	_cleanup_free_ char *text = query_value(query_of(edit->request), "id");
	struct rule_policy *policy = NULL;
	size_t place = 0;
	int r = rules_named(&edit->next, text, &policy, &place, error);

	if (r == 0 && policy)
		edit_use(edit, policy, place);
	return r;
}

static int rule_delete(struct edit *edit, struct error *error)
{
	int r = edit_find(edit, error);

	if (r == 0)
		edit_remove(edit);
	return r;
}

static void reply_delete(struct agent *agent, struct evhttp_request *request)
{
	static const char *const names[] = {"id", "cut", "confirm", NULL};
	_cleanup_(edit_clear) struct edit edit = {.agent = agent, .request = request};
	struct error error = {};

	if (change_make(&edit, names, rule_delete, &error) < 0) {
		reply_refusal(request, &error);
		return;
	}
	log_info("rule %u deleted: %s", edit.entry->id, edit.entry->text);
	audit_change(agent, request, "deleted rule %u: %s", edit.entry->id, edit.entry->text);
	edit_reply_deleted(&edit);
}

/* Where a rule that moves goes to, in the list that it has left. */
static int move_place(const struct edit *edit, size_t *ret_place, struct error *error)
{
	_cleanup_free_ char *before = query_value(query_of(edit->request), "before"),
			    *after = query_value(query_of(edit->request), "after");
	struct rule_policy *policy = NULL;
	int r;

	*ret_place = SIZE_MAX;
	if (!before && !after)
		return 0;
	if (before && after) {
		error_set(error, -EINVAL, "both 'before' and 'after'");
		return error_want(error, "one of the two");
	}
	r = rules_named(&edit->next, before ? before : after, &policy, ret_place, error);
	if (r < 0)
		return r;
	if (policy != edit->policy) {
		error_set(error, -EINVAL, "rule %s is in another list", before ? before : after);
		return error_want(error, "a rule of the same tenant");
	}
	*ret_place += after != NULL;
	return 0;
}

static int rule_move(struct edit *edit, struct error *error)
{
	size_t to = 0;
	int r = edit_find(edit, error);

	if (r == 0)
		r = move_place(edit, &to, error);
	if (r < 0 || to == edit->place)
		return r;
	edit_remove(edit);
	return edit_insert(
		edit, edit->policy, to == SIZE_MAX ? to : to - (to > edit->place), edit->was_live, error);
}

static void reply_move(struct agent *agent, struct evhttp_request *request)
{
	static const char *const names[] = {"id", "before", "after", "cut", "confirm", NULL};
	_cleanup_(edit_clear) struct edit edit = {.agent = agent, .request = request};
	struct error error = {};

	if (change_make(&edit, names, rule_move, &error) < 0) {
		reply_refusal(request, &error);
		return;
	}
	log_info("rule %u moved: %s", edit.entry->id, edit.entry->text);
	audit_change(agent, request, "moved rule %u: %s", edit.entry->id, edit.entry->text);
	reply_rule(edit.agent, request, edit.entry->id);
}

static int rule_flush(struct edit *edit, struct error *error)
{
	int r = rules_policy_named(&edit->next, query_of(edit->request), &edit->policy, error);
	struct rule_list *list;

	if (r < 0)
		return r;
	list = &edit->policy->list;
	edit->was_live = true;
	/* what rules are to a person: services and what forwards or steers are no filter, and stay */
	for (size_t i = list->count; i-- > 0;) {
		enum rule_kind kind = rule_kind(&list->slots[i].entry->rule);

		if (kind == RULE_ON_SERVICES || kind == RULE_ON_FORWARDING)
			continue;
		edit->was_live &= list->slots[i].live;
		edit->count++;
		rule_list_remove(list, i);
	}
	return 0;
}

static void reply_flush(struct agent *agent, struct evhttp_request *request)
{
	static const char *const names[] = {"tenant", "cut", "confirm", NULL};
	_cleanup_(edit_clear) struct edit edit = {.agent = agent, .request = request};
	struct json_write json = {};
	struct error error = {};

	if (change_make(&edit, names, rule_flush, &error) < 0) {
		reply_refusal(request, &error);
		return;
	}
	log_info("all rules deleted (%zu)", edit.count);
	audit_change(agent, request, "deleted all rules (%zu)", edit.count);
	json_write_object_begin(&json, NULL);
	json_write_number(&json, "deleted", edit.count);
	json_write_array_begin(&json, "warnings");
	edit_warn_of_file(&edit, &json,
		"the configuration file has some of them: they will be back when the file is read again");
	json_write_array_end(&json);
	rules_write_pending(edit.agent, &json);
	json_write_object_end(&json);
	reply_json(request, HTTP_OK, "OK", &json);
	json_write_free(&json);
}

const struct route rule_routes[] = {
	{"/v1/rules", EVHTTP_REQ_GET, reply_rule_list},
	{"/v1/rules/add", EVHTTP_REQ_POST, reply_add},
	{"/v1/rules/delete", EVHTTP_REQ_POST, reply_delete},
	{"/v1/rules/move", EVHTTP_REQ_POST, reply_move},
	{"/v1/rules/flush", EVHTTP_REQ_POST, reply_flush},
	{NULL},
};
