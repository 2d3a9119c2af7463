// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* Socket rules (docs/api.md, /v1/rules). */
#include "agent/guards.h"

#include <arpa/inet.h>
#include <errno.h>
#include <event2/buffer.h>
#include <stdlib.h>
#include <string.h>

#include "agent/audit.h"
#include "agent/internal.h"
#include "basic/address.h"
#include "basic/cleanup.h"
#include "basic/log.h"
#include "compile/guard.h"
#include "engine/guard.h"
#include "model/rule.h"
#include "shared/socket.h"

#define LOG_EVERY_NS 1000000000ULL /* a line for one rule's denied calls */
#define WARNINGS_MAX 8             /* of one answer */

_Static_assert(RULES_SOCKET_MAX == GUARD_RULES_MAX, "one limit");

/* A rule; what two lists have in common they share. */
struct entry {
	unsigned int users;
	bool live; /* came through the API */
	struct rule rule;
	struct guard_rule compiled; /* and its id */
	char text[RULE_TEXT_MAX];   /* as rule_print() writes it */
	uint64_t logged_ns;
	uint64_t unlogged; /* denied calls that were reported since, and not logged */
};

struct list {
	struct entry **entries;
	size_t count;
};

struct guards {
	struct agent *agent;
	struct list list;
	uint32_t next_id, generation;
	bool waiting; /* for denied calls */
};

/* -- lists -- */

static void entry_free(struct entry *entry)
{
	if (entry && --entry->users == 0)
		free(entry);
}

static void list_free(struct list *list)
{
	for (size_t i = 0; i < list->count; i++)
		entry_free(list->entries[i]);
	free(list->entries);
	*list = (struct list){};
}

/* Lists have room for one more than the kernel, so that too many can be counted.  False without memory. */
static bool list_begin(struct list *list, struct error *error)
{
	list->entries = calloc(RULES_SOCKET_MAX + 1, sizeof(struct entry *));
	list->count = 0;
	if (!list->entries)
		error_set(error, -ENOMEM, "out of memory");
	return list->entries;
}

static void list_add(struct list *list, struct entry *entry)
{
	entry->users++;
	if (list->count <= RULES_SOCKET_MAX)
		list->entries[list->count++] = entry;
	else
		entry_free(entry);
}

static struct entry *list_find(const struct list *list, uint32_t id)
{
	for (size_t i = 0; i < list->count; i++)
		if (list->entries[i]->compiled.id == id)
			return list->entries[i];
	return NULL;
}

/* -- rules -- */

/* When the process began, in ticks since the host did: its id may be another one's later.  0: not known. */
static int process_start(uint32_t pid, __u64 *ret_ticks)
{
	char path[32], line[1024];
	_cleanup_fclose_ FILE *file = NULL;
	unsigned long long ticks;
	const char *p;

	snprintf(path, sizeof(path), "/proc/%u/stat", pid);
	file = fopen(path, "re");
	if (!file || !fgets(line, sizeof(line), file))
		return -ESRCH;
	p = strrchr(line, ')'); /* the command's name may hold anything */
	if (!p || sscanf(p + 1,
			  " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %llu",
			  &ticks) != 1)
		return -ESRCH;
	*ret_ticks = ticks;
	return 0;
}

/* NULL with `error` set. */
static struct entry *entry_new(const char *text, bool live, struct error *error)
{
	_cleanup_free_ struct entry *entry = calloc(1, sizeof(*entry));
	uint32_t pid;

	if (!entry) {
		error_set(error, -ENOMEM, "out of memory");
		return NULL;
	}
	if (rule_parse(text, &entry->rule, error) < 0)
		return NULL;
	if (rule_print(&entry->rule, entry->text, sizeof(entry->text)) < 0) {
		error_set(error, -EINVAL, "the rule is too long");
		error_want(error, "at most %d bytes", RULE_TEXT_MAX - 1);
		return NULL;
	}
	entry->live = live;
	entry->compiled = guard_compile(&entry->rule);
	pid = entry->rule.match.owner.number;
	if (entry->rule.match.owner.kind == OWNER_PID &&
		process_start(pid, &entry->compiled.owner_hash[0]) < 0) {
		error_set(error, -ESRCH, "there is no process %u", pid);
		error_want(error, "the id of one that runs");
		return NULL;
	}
	return TAKE(entry);
}

/* What goes to the kernel. */
struct order {
	struct guard_policy policy;
	struct guard_text texts[RULES_SOCKET_MAX];
};

static int order_place(struct guards *guards, struct order *order, const struct list *list, uint32_t next_id,
	struct error *error)
{
	struct guard_policy *policy = &order->policy;

	policy->generation = guards->generation + 1;
	policy->count = (uint32_t)list->count;
	for (size_t i = 0; i < list->count; i++) {
		struct entry *entry = list->entries[i];

		if (!entry->compiled.generation)
			entry->compiled.generation = policy->generation;
		policy->rules[i] = entry->compiled;
		order->texts[i].live = entry->live;
		snprintf(order->texts[i].text, sizeof(order->texts[i].text), "%s", entry->text);
	}
	guard_list(policy);
	return engine_guard_install(guards->agent->engine, policy, order->texts, next_id, error);
}

static void on_ring(evutil_socket_t fd, short what, void *context);

/* The ring comes with the first rule. */
static int denials_wait(struct guards *guards, struct error *error)
{
	int fd = engine_guard_fd(guards->agent->engine), r;

	if (guards->waiting || fd < 0)
		return 0;
	r = agent_wait_for(guards->agent, fd, on_ring, guards);
	guards->waiting = r == 0;
	return r < 0 ? error_set(error, r, "cannot wait for denied calls: %s", strerror(-r)) : 0;
}

/* Puts a list in place of the one before; takes it over.  The list of before stays if this fails. */
static int list_install(struct guards *guards, struct list *list, uint32_t next_id, struct error *error)
{
	struct order *order;
	int r;

	if (list->count > RULES_SOCKET_MAX) {
		error_set(error, -ENOSPC, "too many rules");
		error_want(error, "at most %d", RULES_SOCKET_MAX);
		return -ENOSPC;
	}
	order = calloc(1, sizeof(*order));
	if (!order)
		return error_set(error, -ENOMEM, "out of memory");
	r = order_place(guards, order, list, next_id, error);
	free(order);
	if (r < 0)
		return r;
	list_free(&guards->list);
	guards->list = *list;
	*list = (struct list){};
	guards->generation++;
	guards->next_id = next_id;
	return denials_wait(guards, error);
}

/* -- the rules of the file -- */

/* Live rules among those of the file, where they were: in front of the same rule of the file, or of the next
 * one behind that if it is gone. */
static void lists_merge(const struct list *old, const struct list *file, struct list *result)
{
	const struct entry *anchors[RULES_SOCKET_MAX] = {NULL}, *anchor = NULL; /* NULL: the end */

	for (size_t i = old->count; i-- > 0;) {
		const struct entry *kept =
			old->entries[i]->live ? NULL : list_find(file, old->entries[i]->compiled.id);

		anchor = kept ? kept : anchor;
		anchors[i] = anchor;
	}
	for (size_t f = 0; f <= file->count; f++) {
		struct entry *entry = f < file->count ? file->entries[f] : NULL;

		for (size_t i = 0; i < old->count; i++)
			if (old->entries[i]->live && anchors[i] == entry)
				list_add(result, old->entries[i]);
		if (entry)
			list_add(result, entry);
	}
}

/* Gives a rule of the file the id of the same sentence before, or a new one. */
static void entry_identify(
	struct entry *entry, const struct list *old, const struct list *file, uint32_t *next_id)
{
	for (size_t i = 0; i < old->count; i++) {
		const struct entry *before = old->entries[i];

		if (before->live || strcmp(before->text, entry->text) != 0 ||
			list_find(file, before->compiled.id))
			continue;
		entry->compiled.id = before->compiled.id;
		entry->compiled.generation = before->compiled.generation;
		if (memcmp(&entry->compiled, &before->compiled, sizeof(entry->compiled)) != 0)
			entry->compiled.generation = 0; /* the names in it mean others now */
		return;
	}
	entry->compiled.id = (*next_id)++;
}

static bool file_list(struct guards *guards, struct list *file, uint32_t *next_id, struct error *error)
{
	for (char *const *text = guards->agent->config.rules; text && *text; text++) {
		struct entry *entry = entry_new(*text, false, error);

		if (!entry)
			return false;
		entry_identify(entry, &guards->list, file, next_id);
		list_add(file, entry);
	}
	return true;
}

static int configure(struct guards *guards, struct error *error)
{
	struct list file = {}, list = {};
	uint32_t next_id = guards->next_id;
	int r = -EINVAL;

	if (list_begin(&file, error) && list_begin(&list, error) &&
		file_list(guards, &file, &next_id, error)) {
		lists_merge(&guards->list, &file, &list);
		r = list.count || guards->list.count ? list_install(guards, &list, next_id, error) : 0;
	}
	list_free(&file);
	list_free(&list);
	return r;
}

int guards_configure(struct agent *agent, struct error *error)
{
	return configure(module_state(agent, &guard_module), error);
}

/* -- what an earlier agent left -- */

static struct entry *entry_adopt(struct guards *guards, const struct guard_rule *rule)
{
	struct entry *entry = calloc(1, sizeof(*entry));
	struct guard_text text = {};
	struct error problem = {};

	if (!entry)
		return NULL;
	engine_guard_text(guards->agent->engine, rule->id, &text);
	snprintf(entry->text, sizeof(entry->text), "%s", text.text);
	entry->compiled = *rule;
	entry->live = text.live;
	/* The kernel goes on with the numbers that it has, whatever became of a user's name. */
	if (rule_parse(entry->text, &entry->rule, &problem) < 0)
		log_warning("rule %u, '%s': %s", rule->id, entry->text, problem.what);
	return entry;
}

static bool adopt_all(struct guards *guards, const struct guard_policy *policy)
{
	guards->generation = policy->generation;
	for (unsigned int i = 0; i < policy->count && i < RULES_SOCKET_MAX; i++) {
		struct entry *entry = entry_adopt(guards, &policy->rules[i]);

		if (!entry)
			return false;
		list_add(&guards->list, entry);
	}
	return true;
}

static int adopt(struct guards *guards, struct error *error)
{
	struct guard_policy *policy;
	int r;

	if (!list_begin(&guards->list, error))
		return -ENOMEM;
	policy = malloc(sizeof(*policy));
	if (!policy)
		return error_set(error, -ENOMEM, "out of memory");
	r = engine_guard_read(guards->agent->engine, policy, &guards->next_id);
	if (r == 0 && !adopt_all(guards, policy))
		r = -ENOMEM;
	free(policy);
	return r < 0 ? error_set(error, r, "cannot read the socket rules back: %s", strerror(-r)) : 0;
}

/* -- denied calls -- */

static const struct {
	const char *noun;
	enum socket_event event;
} calls[GUARD_CALLS] = {
	[GUARD_CREATE] = {"create", SOCKET_CREATE},
	[GUARD_BIND] = {"bind", SOCKET_BIND},
	[GUARD_CONNECT] = {"connect", SOCKET_CONNECT},
	[GUARD_SEND] = {"send", SOCKET_CONNECT},
	[GUARD_CONNECT_DATAGRAM] = {"connect", SOCKET_CONNECT},
};

static void denial_log(struct guards *guards, const struct guard_denial *denial)
{
	struct entry *entry = list_find(&guards->list, denial->rule);
	struct address address = {.family = denial->family};
	char where[ADDRESS_TEXT_MAX + 24] = "", text[ADDRESS_TEXT_MAX];

	if (!entry)
		return;
	if (denial->time_ns - entry->logged_ns < LOG_EVERY_NS) {
		entry->unlogged++;
		return;
	}
	if (denial->call != GUARD_CREATE) {
		memcpy(address.bytes, denial->address, denial->family == 6 ? 16 : 4);
		snprintf(where, sizeof(where), " to %s port %u", address_print(text, sizeof(text), &address),
			denial->port);
	}
	log_info("rule %u denied %.16s (pid %u, uid %u) %s%s; %" PRIu64 " more since the last such line: %s",
		denial->rule, denial->command, denial->pid, denial->uid, calls[denial->call].noun, where,
		entry->unlogged, entry->text);
	entry->logged_ns = denial->time_ns;
	entry->unlogged = 0;
}

static void denial_audit(struct guards *guards, const struct guard_denial *denial)
{
	struct socket_head head = {
		.time_ns = denial->time_ns,
		.owner = denial->owner,
		.error = EPERM,
		.event = (uint8_t)calls[denial->call].event,
		.family = denial->family,
		.protocol = (uint8_t)denial->protocol,
	};

	if (denial->call == GUARD_BIND) {
		memcpy(head.local, denial->address, sizeof(head.local));
		head.lport = denial->port;
	} else {
		memcpy(head.remote, denial->address, sizeof(head.remote));
		head.rport = denial->port;
	}
	audit_denied(guards->agent, &head, denial->rule);
}

static void on_denial(void *context, const struct guard_denial *denial)
{
	if (denial->call >= GUARD_CALLS)
		return;
	denial_log(context, denial);
	denial_audit(context, denial);
}

static void on_ring(evutil_socket_t fd, short what, void *context)
{
	struct guards *guards = context;

	(void)fd;
	(void)what;
	engine_guard_denials(guards->agent->engine, on_denial, guards);
}

/* -- the API -- */

static void entry_write(const struct guards *guards, struct json_write *out, const struct entry *entry)
{
	struct guard_hits hits = {};

	engine_guard_hits(guards->agent->engine, entry->compiled.id, &hits);
	json_write_object_begin(out, NULL);
	json_write_number(out, "id", entry->compiled.id);
	json_write_string(out, "text", entry->text);
	json_write_string(out, "verdict", rule_verbs[!!entry->compiled.allow]);
	json_write_string(out, "hook", rule_calls[entry->compiled.call]);
	json_write_string(out, "source", entry->live ? "api" : "file");
	json_write_number(out, "hits", hits.hits);
	if (hits.last_ns)
		answer_time(out, "last_hit", hits.last_ns);
	json_write_number(out, "generation", entry->compiled.generation);
	json_write_object_end(out);
}

static void stats_write(const struct guards *guards, struct json_write *out)
{
	struct guard_stats stats;

	engine_guard_stats(guards->agent->engine, &stats);
	json_write_number(out, "generation", guards->generation);
	json_write_number(out, "denied", stats.denied);
	json_write_number(out, "unreported", stats.unreported);
	json_write_number(out, "unidentified", stats.unidentified);
}

static void reply_rules(struct agent *agent, struct evhttp_request *request)
{
	static const char *const names[] = {NULL};
	struct guards *guards = module_state(agent, &guard_module);
	struct json_write json = {};
	struct error error = {};

	if (query_check(query_of(request), names, &error) < 0) {
		reply_bad_request(request, &error);
		return;
	}
	json_write_object_begin(&json, NULL);
	json_write_array_begin(&json, "rules");
	for (size_t i = 0; i < guards->list.count; i++)
		entry_write(guards, &json, guards->list.entries[i]);
	json_write_array_end(&json);
	stats_write(guards, &json);
	json_write_object_end(&json);
	reply_json(request, HTTP_OK, "OK", &json);
	json_write_free(&json);
}

static void warn(struct json_write *out, const char *what, const struct entry *entry)
{
	char text[RULE_TEXT_MAX + 64];

	snprintf(text, sizeof(text), "%s rule %u: %s", what, entry->compiled.id, entry->text);
	json_write_string(out, NULL, text);
}

/* What in this list the rule never sees, and what does not see anything any more because of it. */
static void warnings_write(struct json_write *out, const struct list *list, const struct entry *entry)
{
	unsigned int count = 0;
	bool before = true;

	for (size_t i = 0; i < list->count && count < WARNINGS_MAX; i++) {
		const struct entry *other = list->entries[i];
		bool hides = other != entry && (before ? rule_covers(&other->rule, &entry->rule)
						       : rule_covers(&entry->rule, &other->rule));

		if (other == entry)
			before = false;
		else if (hides && before && strcmp(other->text, entry->text) == 0)
			warn(out, "it is the same as", other);
		else if (hides)
			warn(out, before ? "nothing gets past" : "nothing gets past it any more to", other);
		count += hides;
	}
}

static const struct entry *nearest_find(const struct list *list, uint64_t id)
{
	const struct entry *near = NULL;
	uint64_t least = UINT64_MAX;

	for (size_t i = 0; i < list->count; i++) {
		uint64_t other = list->entries[i]->compiled.id, away = other > id ? other - id : id - other;

		if (away < least) {
			least = away;
			near = list->entries[i];
		}
	}
	return near;
}

/* The rule that a parameter names; NULL with `error` set. */
static struct entry *entry_named(const struct guards *guards, const char *text, struct error *error)
{
	const struct entry *near;
	struct entry *entry;
	char *end = NULL;
	unsigned long id = text ? strtoul(text, &end, 10) : 0;

	if (!text || *text < '0' || *text > '9' || *end) {
		error_set(error, -EINVAL, "expected the id of a rule, got '%s'", text ? text : "nothing");
		error_want(error, "a number, as 'weir rules' lists them");
		return NULL;
	}
	entry = id <= UINT32_MAX ? list_find(&guards->list, (uint32_t)id) : NULL;
	if (entry)
		return entry;
	near = nearest_find(&guards->list, id);
	error_set(error, -ENOENT, "there is no rule %s", text);
	if (near)
		error_want(error, "the nearest is %u: %.200s", near->compiled.id, near->text);
	else
		error_want(error, "there are no rules");
	return NULL;
}

static void reply_refusal(struct evhttp_request *request, const struct error *error)
{
	if (error->code == -ENOENT)
		reply_error(request, HTTP_NOTFOUND, "Not Found", error);
	else if (error->code == -ENOMEM)
		reply_error(request, HTTP_INTERNAL, "Internal Server Error", error);
	else
		reply_bad_request(request, error);
}

/* Adds the rule in front of `before`, or at the end (NULL).  NULL with `error` set. */
static struct entry *entry_add(
	struct guards *guards, const char *text, const struct entry *before, struct error *error)
{
	struct entry *entry = entry_new(text, true, error);
	struct list list = {};
	bool done = false;

	if (!entry)
		return NULL;
	entry->users++; /* by us */
	entry->compiled.id = guards->next_id;
	if (list_begin(&list, error)) {
		for (size_t i = 0; i < guards->list.count; i++) {
			if (before && guards->list.entries[i] == before)
				list_add(&list, entry);
			list_add(&list, guards->list.entries[i]);
		}
		if (!before)
			list_add(&list, entry);
		done = list_install(guards, &list, guards->next_id + 1, error) == 0;
	}
	list_free(&list);
	if (done) {
		entry->users--; /* the list has it */
		return entry;
	}
	entry_free(entry);
	return NULL;
}

/* The rule that a request wants to have; NULL with `error` set. */
static struct entry *entry_wanted(struct guards *guards, const char *query, struct error *error)
{
	static const char *const names[] = {"text", "before", NULL};
	_cleanup_free_ char *text = query_value(query, "text"), *place = query_value(query, "before");
	const struct entry *before = NULL;

	if (query_check(query, names, error) < 0)
		return NULL;
	if (!text) {
		error_set(error, -EINVAL, "parameter 'text' is missing");
		error_want(error, "a rule, such as deny connect by user guest to 10.0.0.0/8");
		return NULL;
	}
	if (place) {
		before = entry_named(guards, place, error);
		if (!before)
			return NULL;
	}
	return entry_add(guards, text, before, error);
}

static void reply_add(struct agent *agent, struct evhttp_request *request)
{
	struct guards *guards = module_state(agent, &guard_module);
	struct json_write json = {};
	struct error error = {};
	const struct entry *entry = entry_wanted(guards, query_of(request), &error);

	if (!entry) {
		reply_refusal(request, &error);
		return;
	}
	log_info("rule %u: %s", entry->compiled.id, entry->text);
	audit_change(agent, request, "%s (rule %u)", entry->text, entry->compiled.id);
	json_write_object_begin(&json, NULL);
	json_write_array_begin(&json, "rules");
	entry_write(guards, &json, entry);
	json_write_array_end(&json);
	json_write_array_begin(&json, "warnings");
	warnings_write(&json, &guards->list, entry);
	json_write_array_end(&json);
	json_write_object_end(&json);
	reply_json(request, HTTP_OK, "OK", &json);
	json_write_free(&json);
}

static int entry_delete(struct guards *guards, const struct entry *entry, struct error *error)
{
	struct list list = {};
	int r;

	if (!list_begin(&list, error))
		return -ENOMEM;
	for (size_t i = 0; i < guards->list.count; i++)
		if (guards->list.entries[i] != entry)
			list_add(&list, guards->list.entries[i]);
	r = list_install(guards, &list, guards->next_id, error);
	list_free(&list);
	return r;
}

static void deleted_write(struct json_write *out, const struct entry *entry)
{
	json_write_object_begin(out, NULL);
	json_write_array_begin(out, "deleted");
	json_write_object_begin(out, NULL);
	json_write_number(out, "id", entry->compiled.id);
	json_write_string(out, "text", entry->text);
	json_write_object_end(out);
	json_write_array_end(out);
	json_write_array_begin(out, "warnings");
	if (!entry->live)
		json_write_string(out, NULL,
			"the configuration file has it: it will be back when the file is read again");
	json_write_array_end(out);
	json_write_object_end(out);
}

static void reply_delete(struct agent *agent, struct evhttp_request *request)
{
	static const char *const names[] = {"id", NULL};
	struct guards *guards = module_state(agent, &guard_module);
	const char *query = query_of(request);
	_cleanup_free_ char *text = query_value(query, "id");
	struct json_write json = {};
	struct error error = {};
	struct entry *entry =
		query_check(query, names, &error) < 0 ? NULL : entry_named(guards, text, &error);

	if (entry)
		entry->users++; /* for what is said about it */
	if (!entry || entry_delete(guards, entry, &error) < 0) {
		reply_refusal(request, &error);
	} else {
		log_info("rule %u deleted: %s", entry->compiled.id, entry->text);
		audit_change(agent, request, "deleted rule %u: %s", entry->compiled.id, entry->text);
		deleted_write(&json, entry);
		reply_json(request, HTTP_OK, "OK", &json);
		json_write_free(&json);
	}
	entry_free(entry);
}

/* -- the module -- */

static void guards_close(void *state)
{
	struct guards *guards = state;

	list_free(&guards->list);
	free(guards);
}

static int guards_open(struct agent *agent, void **ret_state, struct error *error)
{
	struct guards *guards = calloc(1, sizeof(*guards));
	int r;

	if (!guards)
		return error_set(error, -ENOMEM, "out of memory");
	guards->agent = agent;
	*ret_state = guards;
	r = adopt(guards, error);
	if (r == 0)
		r = denials_wait(guards, error);
	return r < 0 ? r : configure(guards, error);
}

static void guards_status(struct agent *agent, void *state, struct json_write *out)
{
	const struct guards *guards = state;

	(void)agent;
	json_write_object_begin(out, "rules");
	json_write_number(out, "count", guards->list.count);
	stats_write(guards, out);
	json_write_object_end(out);
}

static void guards_metrics(struct agent *agent, void *state, struct evbuffer *out)
{
	const struct guards *guards = state;
	struct guard_stats stats;

	engine_guard_stats(agent->engine, &stats);
	metrics_single(out, "weir_rules", "gauge", "Socket rules.", guards->list.count);
	metrics_head(out, "weir_rule_hits_total", "counter", "Calls that a socket rule decided, by its id.");
	for (size_t i = 0; i < guards->list.count; i++) {
		uint32_t id = guards->list.entries[i]->compiled.id;
		struct guard_hits hits = {};

		engine_guard_hits(agent->engine, id, &hits);
		evbuffer_add_printf(
			out, "weir_rule_hits_total{rule=\"%u\"} %" PRIu64 "\n", id, (uint64_t)hits.hits);
	}
	metrics_single(
		out, "weir_denied_calls_total", "counter", "Calls that socket rules denied.", stats.denied);
	metrics_single(out, "weir_denied_calls_unreported_total", "counter",
		"Denied calls that are counted only: too many for the log and the audit trail.",
		stats.unreported);
	metrics_single(out, "weir_unidentified_calls_total", "counter",
		"Calls judged without knowing the process: rules with 'by' were passed over.",
		stats.unidentified);
}

static const struct route routes[] = {
	{"/v1/rules", EVHTTP_REQ_GET, reply_rules},
	{"/v1/rules/add", EVHTTP_REQ_POST, reply_add},
	{"/v1/rules/delete", EVHTTP_REQ_POST, reply_delete},
	{NULL},
};

const struct module guard_module = {
	.name = "rules",
	.open = guards_open,
	.close = guards_close,
	.status = guards_status,
	.metrics = guards_metrics,
	.routes = routes,
};
