// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* Requests that change a set (docs/api.md, POST /v1/sets/…). */
#include <errno.h>
#include <event2/buffer.h>
#include <stdlib.h>
#include <string.h>

#include "agent/owner/audit.h"
#include "agent/rule/rules.h"
#include "agent/set/sets_internal.h"
#include "basic/cleanup.h"
#include "basic/log.h"
#include "basic/text.h"
#include "basic/units.h"
#include "engine/policy.h"

#define FEW         1000  /* entries that are changed one by one, in the tries that are in force */
#define RETIRED_MAX 16384 /* units that wait to be used again */

/* -- changing a few entries -- */

struct entries {
	struct set_entry *list;
	size_t count, size;
	enum set_kind kind;
	bool mixed;
};

static int entries_add(void *context, const struct set_entry *entry)
{
	struct entries *entries = context;

	if (entries->count == entries->size) {
		size_t size = entries->size * 2 + 64;
		struct set_entry *list = realloc(entries->list, size * sizeof(*list));

		if (!list)
			return -ENOMEM;
		entries->list = list;
		entries->size = size;
	}
	entries->mixed |= entries->count && entry->kind != entries->kind;
	entries->kind = entry->kind;
	entries->list[entries->count++] = *entry;
	return 0;
}

static void entries_free(struct entries *entries)
{
	free(entries->list);
}

_Static_assert(SET_NAME_MAX <= 64, "names fit into messages");

int set_fail_kind(struct error *error, const char *name, enum set_kind kind)
{
	error_set(error, -EINVAL, "set '%s' holds %s", name, kind == SET_PORTS ? "ports" : "addresses");
	error_want(error, "%s, or another set", kind == SET_PORTS ? "ports" : "addresses and prefixes");
	return -EINVAL;
}

static int entries_read(const struct sets *sets, const char *name, const char *text, size_t length,
	bool skip_bad, struct entries *ret_entries, size_t *ret_bad, struct error *error)
{
	int set = set_store_find(sets->store, name);
	uint32_t kind = set >= 0 ? set_store_head(sets->store)->slots[set].kind : SET_EMPTY;
	int r = set_list_parse(text, length, name, skip_bad, entries_add, ret_entries, ret_bad, error);

	if (r == -ENOMEM)
		error_set(error, r, "out of memory");
	if (r < 0)
		return r;
	if (ret_entries->mixed)
		return error_set(error, -EINVAL, "a set holds addresses or ports, not both");
	if (ret_entries->count && kind != SET_EMPTY && kind != ret_entries->kind)
		return set_fail_kind(error, name, (enum set_kind)kind);
	return 0;
}

int set_change_entry(struct set_change *few, const struct set_entry *entry, struct error *error)
{
	struct sets *sets = few->sets;
	unsigned int place = sets_place(sets->agent);
	int r;

	r = few->remove ? set_store_remove(sets->store, few->set, entry, SET_NOW)
	                : set_store_put(sets->store, few->set, entry, few->expires_ns, SET_NOW);
	if (r == -ENOSPC)
		return error_set(error, r, "there is no room for more than %d entries", SET_ENTRIES_MAX);
	if (r < 0)
		return error_set(error, r, "cannot keep the entry: %s", strerror(-r));
	few->changed += (size_t)r;
	if (r == 0 || entry->kind == SET_PORTS || few->rebuild)
		return 0;
	if (!sets->tries[place].trie[0]) {
		few->rebuild = true;
		return 0;
	}
	engine_policy_keep(sets->agent->engine);
	r = (few->remove ? set_tries_remove : set_tries_add)(
		&sets->tries[place], sets->store, few->set, &entry->prefix, sets_combination_known, sets);
	if (r == -EOVERFLOW)
		return error_set(
			error, -E2BIG, "the sets overlap in more than %d ways", SET_COMBINATIONS_MAX - 1);
	few->rebuild |= r < 0;
	return 0;
}

static void retired_reclaim(struct sets *sets)
{
	struct set_tries *tries = &sets->tries[sets_place(sets->agent)];
	bool many = false;

	for (int i = 0; i < 2; i++)
		many |= tries->trie[i] && trie_retired(tries->trie[i]) > RETIRED_MAX;
	if (!many)
		return;
	engine_set_wait(sets->agent->engine);
	for (int i = 0; i < 2; i++)
		trie_reclaim(tries->trie[i]);
}

/* Has what was changed one by one decide from now on. */
int set_change_finish(struct set_change *few, enum set_kind kind, bool cut, struct error *error)
{
	struct sets *sets = few->sets;

	if (!few->changed)
		return 0;
	if (kind == SET_PORTS)
		return rules_refresh(sets->agent, error);
	if (few->rebuild)
		return sets_rebuild(sets, cut, error);
	engine_policy_forget(sets->agent->engine, cut);
	retired_reclaim(sets);
	return 0;
}

/* -- answers -- */

void set_refuse(struct evhttp_request *request, const struct error *error)
{
	int r = error->code;

	if (r == -ENOENT)
		reply_error(request, HTTP_NOTFOUND, "Not Found", error);
	else if (r == -EBUSY)
		reply_error(request, 409, "Conflict", error);
	else
		reply_error(request, r == -ENOMEM ? HTTP_INTERNAL : HTTP_BADREQUEST,
			r == -ENOMEM ? "Internal Server Error" : "Bad Request", error);
}

const char *set_nearest(const struct sets *sets, const char *name)
{
	const struct set_head *head = set_store_head(sets->store);
	const char *known[SET_MAX + 1] = {NULL};
	size_t count = 0;

	for (unsigned int set = 0; set < SET_MAX; set++)
		if (head->slots[set].name[0])
			known[count++] = head->slots[set].name;
	return text_nearest(name, known);
}

int set_fail_unknown(const struct sets *sets, const char *name, struct error *error)
{
	const char *nearest = set_nearest(sets, name);

	error_set(error, -ENOENT, "there is no set '%.31s'", name);
	if (nearest)
		error_want(error, "did you mean '%s'?", nearest);
	else
		error_want(error, "one that 'weir set list' shows");
	return -ENOENT;
}

int set_request_read(struct sets *sets, struct evhttp_request *request, const char *const *parameters,
	struct set_request *change, struct error *error)
{
	const char *query = query_of(request);
	_cleanup_free_ char *duration = query_value(query, "for");
	uint64_t ns = 0;
	int r = query_check(query, parameters, error);

	if (r < 0)
		return r;
	change->name = query_value(query, "name");
	if (!change->name) {
		error_set(error, -EINVAL, "which set?");
		error_want(error, "name=NAME");
		return -EINVAL;
	}
	r = set_name_check(change->name, error);
	if (r < 0)
		return r;
	change->set = set_store_find(sets->store, change->name);
	r = query_flag(query, "cut", &change->cut, error);
	if (r == 0)
		r = query_flag(query, "skip_bad", &change->skip_bad, error);
	if (r < 0)
		return r;
	if (duration) {
		if (duration_parse(duration, &ns) < 0 || ns < 1000000000 ||
			ns > 365ULL * 86400 * 1000000000) {
			error_set(error, -EINVAL, "'%.32s' is no time for an entry to last", duration);
			error_want(error, "1s to 365d, such as 90s, 15m, 1h or 7d");
			return -EINVAL;
		}
		change->expires_ns = agent_now_ns() + ns;
	}
	return sets_change_allowed(sets, error);
}

char *set_request_body(struct evhttp_request *request, size_t *ret_length)
{
	struct evbuffer *body = evhttp_request_get_input_buffer(request);
	size_t length = evbuffer_get_length(body);
	char *text = malloc(length + 1);

	if (!text)
		return NULL;
	evbuffer_copyout(body, text, length);
	text[length] = '\0';
	*ret_length = length;
	return text;
}

static void write_result(struct json_write *json, const struct sets *sets, unsigned int set, const char *what,
	size_t changed, size_t bad)
{
	json_write_object_begin(json, NULL);
	json_write_string(json, "set", set_store_head(sets->store)->slots[set].name);
	json_write_number(json, "entries", set_store_count(sets->store, set));
	json_write_number(json, what, changed);
	json_write_number(json, "bad", bad);
	json_write_object_end(json);
}

/* Adds or removes the entries of the request's body, one by one. */
static int few_change(struct sets *sets, const struct set_request *change, const struct entries *entries,
	bool removes, size_t *ret_changed, struct error *error)
{
	struct set_change few = {.sets = sets,
		.set = (unsigned int)change->set,
		.expires_ns = change->expires_ns,
		.remove = removes};
	int r = 0;

	for (size_t i = 0; i < entries->count && r == 0; i++)
		r = set_change_entry(&few, &entries->list[i], error);
	if (r < 0) /* what was done so far holds, and the answer tells */
		log_warning("set %s: %s", change->name, error->what);
	if (set_change_finish(&few, entries->kind, change->cut, error) < 0)
		r = -EIO;
	*ret_changed = few.changed;
	return r;
}

size_t set_request_lines(struct evbuffer *body)
{
	struct evbuffer_iovec piece;
	struct evbuffer_ptr at;
	size_t lines = 0;
	bool ended = true;

	evbuffer_ptr_set(body, &at, 0, EVBUFFER_PTR_SET);
	while (evbuffer_peek(body, -1, &at, &piece, 1) > 0 && piece.iov_len) {
		const char *p = piece.iov_base, *end = p + piece.iov_len;

		ended = end[-1] == '\n';
		for (p = memchr(p, '\n', piece.iov_len); p; p = memchr(p, '\n', (size_t)(end - p))) {
			lines++;
			p++;
		}
		evbuffer_ptr_set(body, &at, piece.iov_len, EVBUFFER_PTR_ADD);
	}
	return lines + !ended;
}

static void change_reply(struct agent *agent, struct evhttp_request *request, const char *const *parameters,
	const char *what, bool removes)
{
	struct sets *sets = sets_of(agent);
	struct set_request change = {};
	struct entries entries = {};
	_cleanup_free_ char *text = NULL;
	struct json_write json = {};
	struct error error = {};
	size_t length = 0, changed = 0, bad = 0;
	bool made = false;
	int r = set_request_read(sets, request, parameters, &change, &error);

	if (r == 0 && removes && change.set < 0)
		r = set_fail_unknown(sets, change.name, &error);
	if (r == 0 && !removes && set_request_lines(evhttp_request_get_input_buffer(request)) > FEW) {
		set_load_start(sets, request, &change, false);
		free(change.name);
		return;
	}
	if (r == 0) {
		text = set_request_body(request, &length);
		r = text ? 0 : error_set(&error, -ENOMEM, "out of memory");
	}
	if (r == 0)
		r = entries_read(sets, change.name, text, length, change.skip_bad, &entries, &bad, &error);
	if (r == 0 && change.set < 0) {
		change.set = r = sets_make(sets, change.name, true, &error);
		made = r >= 0;
	}
	if (r >= 0)
		r = few_change(sets, &change, &entries, removes, &changed, &error);
	if (r < 0) {
		if (made && !set_store_count(sets->store, (unsigned int)change.set))
			set_store_destroy(sets->store, (unsigned int)change.set);
		error.code = r;
		set_refuse(request, &error);
	} else {
		audit_change(agent, request, "set %s: %zu entries %s", change.name, changed, what);
		write_result(&json, sets, (unsigned int)change.set, what, changed, bad);
		reply_json(request, HTTP_OK, "OK", &json);
		json_write_free(&json);
	}
	entries_free(&entries);
	free(change.name);
}

void set_reply_add(struct agent *agent, struct evhttp_request *request)
{
	static const char *const parameters[] = {"name", "for", "cut", "skip_bad", NULL};

	change_reply(agent, request, parameters, "added", false);
}

void set_reply_remove(struct agent *agent, struct evhttp_request *request)
{
	static const char *const parameters[] = {"name", "skip_bad", NULL};

	change_reply(agent, request, parameters, "removed", true);
}

/* -- sets as such -- */

void set_reply_create(struct agent *agent, struct evhttp_request *request)
{
	static const char *const parameters[] = {"name", NULL};
	struct sets *sets = sets_of(agent);
	struct set_request change = {};
	struct error error = {};
	int r = set_request_read(sets, request, parameters, &change, &error);

	if (r == 0 && change.set >= 0) {
		r = error_set(&error, -EEXIST, "there is a set '%s' already", change.name);
		error_want(&error, "another name, or weir set add %s ENTRY", change.name);
	}
	if (r == 0)
		r = sets_make(sets, change.name, true, &error);
	if (r < 0) {
		set_refuse(request, &error);
	} else {
		audit_change(agent, request, "set %s: created", change.name);
		reply_done(request, "created");
	}
	free(change.name);
}

/* Empties a set, and with `destroy` takes it away. */
static void clear_reply(struct agent *agent, struct evhttp_request *request, bool destroy)
{
	static const char *const parameters[] = {"name", NULL};
	struct sets *sets = sets_of(agent);
	struct set_request change = {};
	struct error error = {};
	int r = set_request_read(sets, request, parameters, &change, &error);

	if (r == 0 && change.set < 0)
		r = set_fail_unknown(sets, change.name, &error);
	if (r == 0 && destroy && rules_name_set(agent, change.name)) {
		r = error_set(&error, -EBUSY, "rules name the set '%s'", change.name);
		error_want(&error, "weir set flush %s, or first weir delete of these rules", change.name);
	}
	if (r == 0) {
		unsigned int set = (unsigned int)change.set;
		enum set_kind kind = (enum set_kind)set_store_head(sets->store)->slots[set].kind;
		bool filled = set_store_count(sets->store, set) > 0;

		set_store_copy(sets->store, 1ULL << set, 0, SET_NOW);
		if (filled)
			r = kind == SET_PORTS ? rules_refresh(agent, &error)
			                      : sets_rebuild(sets, false, &error);
		set_store_head(sets->store)->slots[set].kind = SET_EMPTY;
		if (destroy)
			set_store_destroy(sets->store, set);
		sets->sources[set] = (struct set_source){};
	}
	if (r < 0) {
		set_refuse(request, &error);
	} else {
		audit_change(agent, request, "set %s: %s", change.name, destroy ? "destroyed" : "flushed");
		reply_done(request, destroy ? "destroyed" : "flushed");
	}
	free(change.name);
}

void set_reply_flush(struct agent *agent, struct evhttp_request *request)
{
	clear_reply(agent, request, false);
}

void set_reply_destroy(struct agent *agent, struct evhttp_request *request)
{
	clear_reply(agent, request, true);
}
