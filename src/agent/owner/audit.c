// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* The audit trail: two rings in memory that outlives the agent. */
#include "agent/owner/audit.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "agent/internal.h"
#include "agent/owner/guards.h"
#include "agent/owner/owners.h"
#include "agent/owner/sockets.h"
#include "basic/cleanup.h"
#include "basic/log.h"

#define AUDIT_MAGIC   0x7469647561000002ULL
#define CHANGES_ROOM  1024
#define LIMIT_DEFAULT 1000
#define LINES_AT_ONCE 256  /* of a long answer */
#define ACCEPTS       4096 /* accepted connections whose process may still become known; a power of two */

enum audit_kind { AUDIT_CONNECT = 1, AUDIT_ACCEPT, AUDIT_LISTEN, AUDIT_BIND, AUDIT_DENIED, AUDIT_KIND_COUNT };

static const char *const kind_names[AUDIT_KIND_COUNT] = {
	[AUDIT_CONNECT] = "connect",
	[AUDIT_ACCEPT] = "accept",
	[AUDIT_LISTEN] = "listen",
	[AUDIT_BIND] = "bind",
	[AUDIT_DENIED] = "denied",
};

/* In the region, so of fixed size and without pointers; times are CLOCK_REALTIME. */
struct audit_entry {
	uint64_t time_ns;
	uint32_t owner, pid, uid;
	uint32_t error_or_rule; /* errno of a connect; number of the rule that denied */
	uint32_t local[4], remote[4];
	uint16_t lport, rport;
	uint8_t kind, family, protocol;
	uint8_t call; /* that was denied: enum guard_call */
	char command[OWNER_COMMAND_MAX];
};

struct audit_change {
	uint64_t time_ns;
	uint32_t pid, uid; /* pid 0: the agent, by a signal */
	char command[OWNER_COMMAND_MAX];
	char what[224];
};

_Static_assert(sizeof(struct audit_entry) == 80 && sizeof(struct audit_change) == 256, "layout");

/* At the start of the region of changes.  The counts go up for ever; what is written at count % room becomes
 * part of the trail when the count does. */
struct audit_head {
	uint64_t magic;
	uint64_t entries, entries_room;
	uint64_t changes;
};

/* An accepted connection belongs to the listener's process until another uses it: who it was shows at the end
 * at the latest. */
struct audit_accept {
	uint64_t cookie;
	uint64_t place; /* count of the entry */
};

struct audit {
	struct agent *agent;
	struct engine_region changes, entries;
	struct audit_head *head;
	struct feed *feed;
	struct audit_accept accepts[ACCEPTS];
};

struct audit_query {
	struct match match;
	bool everything; /* without a filter */
	uint64_t limit;
};

/* What followers' filters look at: one of the two. */
struct audit_told {
	struct agent *agent;
	const struct audit_entry *entry;
	const struct audit_change *change;
};

static struct audit_entry *entry_at(const struct audit *audit, uint64_t count)
{
	return (struct audit_entry *)audit->entries.base + count % audit->head->entries_room;
}

static struct audit_change *change_at(const struct audit *audit, uint64_t count)
{
	return (struct audit_change *)((char *)audit->changes.base + sizeof(struct audit_change)) +
	       count % CHANGES_ROOM;
}

/* The oldest that is still there. */
static uint64_t oldest(uint64_t count, uint64_t room)
{
	return count > room ? count - room : 0;
}

/* -- writing -- */

static void user_write(struct json_write *out, uint32_t uid)
{
	const struct passwd *user = getpwuid(uid);
	char number[16];

	snprintf(number, sizeof(number), "%u", uid);
	json_write_number(out, "uid", uid);
	json_write_string(out, "user", user ? user->pw_name : number);
}

/* What the trail knows itself of a process that the agent has forgotten. */
static void process_write(struct json_write *out, uint32_t pid, uint32_t uid, const char *command)
{
	char text[OWNER_COMMAND_MAX + 1];

	snprintf(text, sizeof(text), "%.*s", OWNER_COMMAND_MAX, command);
	json_write_object_begin(out, "owner");
	json_write_string(out, "kind", "process");
	json_write_number(out, "pid", pid);
	json_write_string(out, "command", text);
	user_write(out, uid);
	json_write_object_end(out);
}

static void entry_head(const struct audit_entry *entry, struct socket_head *ret_head)
{
	*ret_head = (struct socket_head){
		.owner = entry->owner,
		.family = entry->family,
		.protocol = entry->protocol,
		.lport = entry->lport,
		.rport = entry->rport,
		.accepted = entry->kind == AUDIT_ACCEPT,
		.state = entry->kind == AUDIT_LISTEN ? TCP_LISTEN : 0,
	};
	memcpy(ret_head->local, entry->local, sizeof(ret_head->local));
	memcpy(ret_head->remote, entry->remote, sizeof(ret_head->remote));
}

static void entry_write(struct agent *agent, struct json_write *out, const struct audit_entry *entry)
{
	struct socket_head head;

	entry_head(entry, &head);
	json_write_object_begin(out, NULL);
	answer_wall_time(out, "time", entry->time_ns);
	json_write_string(out, "kind", entry->kind < AUDIT_KIND_COUNT ? kind_names[entry->kind] : "?");
	if (entry->pid && !owner_identity(agent, entry->owner))
		process_write(out, entry->pid, entry->uid, entry->command);
	else
		owner_write(agent, out, entry->owner);
	socket_addresses_write(out, &head);
	if (entry->kind == AUDIT_DENIED) {
		json_write_string(out, "call", guard_call_name(entry->call));
		json_write_number(out, "rule", entry->error_or_rule);
	} else if (entry->error_or_rule) {
		json_write_string(out, "error", socket_error_name((int)entry->error_or_rule));
	}
	json_write_object_end(out);
}

static void change_write(struct json_write *out, const struct audit_change *change)
{
	json_write_object_begin(out, NULL);
	answer_wall_time(out, "time", change->time_ns);
	json_write_string(out, "kind", "change");
	if (change->pid)
		process_write(out, change->pid, change->uid, change->command);
	json_write_string(out, "what", change->what);
	json_write_object_end(out);
}

/* -- taking down -- */

static struct audit *audit_of(const struct agent *agent)
{
	return module_state(agent, &audit_module);
}

static void told_write(const struct audit_told *told, struct json_write *out)
{
	if (told->entry)
		entry_write(told->agent, out, told->entry);
	else
		change_write(out, told->change);
}

static void tell(struct audit *audit, const struct audit_told *told)
{
	struct json_write json = {};

	if (!feed_has_followers(audit->feed))
		return;
	told_write(told, &json);
	feed_publish(audit->feed, told, &json);
	json_write_free(&json);
}

struct audit_who audit_who(struct evhttp_request *request)
{
	struct audit_who who = {};
	pid_t pid = request ? request_pid(request) : 0;
	char path[64];
	FILE *file;

	if (pid <= 0)
		return who;
	who.pid = (uint32_t)pid;
	who.uid = request_uid(request);
	snprintf(path, sizeof(path), "/proc/%d/comm", pid);
	file = fopen(path, "re");
	if (file && fgets(who.command, sizeof(who.command), file))
		who.command[strcspn(who.command, "\n")] = '\0';
	if (file)
		fclose(file);
	return who;
}

static __attribute__((format(printf, 3, 0))) void change_note(
	struct agent *agent, const struct audit_who *who, const char *format, va_list arguments)
{
	struct audit *audit = audit_of(agent);
	struct audit_change *change;

	if (!audit)
		return;
	change = change_at(audit, audit->head->changes);
	*change = (struct audit_change){
		.time_ns = answer_wall_ns(agent_now_ns()), .pid = who->pid, .uid = who->uid};
	memcpy(change->command, who->command, sizeof(change->command));
	vsnprintf(change->what, sizeof(change->what), format, arguments);
	__atomic_store_n(&audit->head->changes, audit->head->changes + 1, __ATOMIC_RELEASE);
	tell(audit, &(struct audit_told){.agent = agent, .change = change});
}

void audit_change_by(struct agent *agent, const struct audit_who *who, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	change_note(agent, who, format, arguments);
	va_end(arguments);
}

void audit_change(struct agent *agent, struct evhttp_request *request, const char *format, ...)
{
	struct audit_who who = audit_who(request);
	va_list arguments;

	va_start(arguments, format);
	change_note(agent, &who, format, arguments);
	va_end(arguments);
}

static void owner_set(struct agent *agent, struct audit_entry *entry, uint32_t owner)
{
	const struct owner *identity = owner_identity(agent, owner);

	entry->owner = owner;
	entry->pid = identity ? identity->key.pid : 0;
	entry->uid = identity ? identity->key.uid : 0;
	memset(entry->command, 0, sizeof(entry->command));
	if (identity)
		memcpy(entry->command, identity->command, sizeof(entry->command));
}

static struct audit_accept *accept_of(struct audit *audit, uint64_t cookie)
{
	return &audit->accepts[cookie % ACCEPTS];
}

/* What an entry has besides what is known of any socket. */
struct audit_sort {
	enum audit_kind kind;
	uint32_t error_or_rule;
	enum guard_call call; /* that was denied */
};

static void entry_add(struct audit *audit, const struct socket_head *what, struct audit_sort sort)
{
	struct audit_head *head = audit->head;
	size_t used = (head->entries % head->entries_room + 1) * sizeof(struct audit_entry);
	struct audit_entry *entry;

	if (used > audit->entries.size &&
		engine_region_grow(audit->agent->engine, &audit->entries, used) < 0) {
		log_debug("no memory for the audit trail: it begins again");
		if (!audit->entries.size)
			return;
		head->entries_room = audit->entries.size / sizeof(struct audit_entry);
	}
	entry = entry_at(audit, head->entries);
	*entry = (struct audit_entry){
		.time_ns = answer_wall_ns(what->time_ns),
		.error_or_rule = sort.error_or_rule,
		.lport = what->lport,
		.rport = what->rport,
		.kind = (uint8_t)sort.kind,
		.family = what->family,
		.protocol = what->protocol,
		.call = (uint8_t)sort.call,
	};
	memcpy(entry->local, what->local, sizeof(entry->local));
	memcpy(entry->remote, what->remote, sizeof(entry->remote));
	owner_set(audit->agent, entry, what->owner);
	if (sort.kind == AUDIT_ACCEPT)
		*accept_of(audit, what->cookie) = (struct audit_accept){what->cookie, head->entries};
	__atomic_store_n(&head->entries, head->entries + 1, __ATOMIC_RELEASE);
	tell(audit, &(struct audit_told){.agent = audit->agent, .entry = entry});
}

void audit_denied(struct agent *agent, const struct socket_head *what, enum guard_call call, uint32_t rule)
{
	struct audit *audit = audit_of(agent);

	if (audit)
		entry_add(audit, what, (struct audit_sort){AUDIT_DENIED, rule, call});
}

/* Whose an accepted connection was in the end. */
static void accept_close(struct audit *audit, const struct socket_head *what)
{
	struct audit_accept *known = accept_of(audit, what->cookie);
	struct audit_entry *entry;

	if (known->cookie != what->cookie || !what->cookie)
		return;
	entry = entry_at(audit, known->place);
	if (known->place >= oldest(audit->head->entries, audit->head->entries_room) &&
		entry->owner != what->owner)
		owner_set(audit->agent, entry, what->owner);
	known->cookie = 0;
}

void audit_socket(struct agent *agent, const struct socket_head *what)
{
	struct audit *audit = audit_of(agent);

	if (!audit)
		return;
	switch (what->event) {
	case SOCKET_CONNECT:
		entry_add(audit, what, (struct audit_sort){.kind = AUDIT_CONNECT});
		break;
	case SOCKET_ACCEPT:
		entry_add(audit, what, (struct audit_sort){.kind = AUDIT_ACCEPT});
		break;
	case SOCKET_LISTEN:
		entry_add(audit, what, (struct audit_sort){.kind = AUDIT_LISTEN});
		break;
	case SOCKET_BIND:
		if (what->protocol == IPPROTO_UDP) /* TCP says when it listens */
			entry_add(audit, what, (struct audit_sort){.kind = AUDIT_BIND});
		break;
	case SOCKET_CLOSE:
		if (what->accepted)
			accept_close(audit, what);
		else if (what->before == TCP_SYN_SENT)
			entry_add(audit, what,
				(struct audit_sort){AUDIT_CONNECT, .error_or_rule = (uint32_t)what->error});
		break;
	default:
		break;
	}
}

/* -- answers -- */

static const char *const parameters[] = {"filter", "limit", NULL};

static int query_read(struct evhttp_request *request, struct audit_query *ret_query, struct error *error)
{
	struct audit_query query = {.limit = LIMIT_DEFAULT};
	const char *text = query_of(request);
	_cleanup_free_ char *filter = NULL, *limit = NULL;
	int r = query_check(text, parameters, error);
	char *end;

	if (r < 0)
		return r;
	match_init(&query.match);
	filter = query_value(text, "filter");
	query.everything = !filter || !*filter;
	if (filter)
		r = match_parse(filter, &query.match, error);
	limit = query_value(text, "limit");
	if (r == 0 && limit) {
		errno = 0;
		query.limit = strtoull(limit, &end, 10);
		if (*limit < '0' || *limit > '9' || *end || errno) {
			error_set(error, -EINVAL, "the limit '%s' is not a number", limit);
			r = error_want(error, "a whole number");
		}
	}
	if (r < 0)
		return r;
	*ret_query = query;
	return 0;
}

/* Changes are about no packets: only who asks for everything is told. */
static bool told_fits(const void *context, const void *event)
{
	const struct audit_query *query = context;
	const struct audit_told *told = event;
	struct socket_head head;

	if (!told->entry)
		return query->everything;
	entry_head(told->entry, &head);
	return socket_fits(told->agent, &head, &query->match);
}

/* Goes back in time through both rings until `limit` fit; returns how many, and where each ring begins. */
static uint64_t select_back(
	const struct audit *audit, const struct audit_query *query, uint64_t *ret_entry, uint64_t *ret_change)
{
	uint64_t entry = audit->head->entries, change = audit->head->changes, found = 0;
	uint64_t first_entry = oldest(entry, audit->head->entries_room),
		 first_change = oldest(change, CHANGES_ROOM);

	while (found < query->limit && (entry > first_entry || change > first_change)) {
		struct audit_told told = {.agent = audit->agent};

		if (change > first_change &&
			(entry == first_entry ||
				change_at(audit, change - 1)->time_ns >= entry_at(audit, entry - 1)->time_ns))
			told.change = change_at(audit, --change);
		else
			told.entry = entry_at(audit, --entry);
		found += told_fits(query, &told);
	}
	*ret_entry = entry;
	*ret_change = change;
	return found;
}

/* An answer on its way out. */
struct audit_list {
	struct audit *audit;
	struct audit_query query;
	uint64_t entry, change, left; /* where it goes on, and how many are to come */
	bool begun;
};

/* The next in the order of time; false: there is none. */
static bool list_next(struct audit_list *list, struct audit_told *ret_told)
{
	const struct audit *audit = list->audit;
	uint64_t first_entry = oldest(audit->head->entries, audit->head->entries_room),
		 first_change = oldest(audit->head->changes, CHANGES_ROOM);

	/* what was pushed out since the last part */
	if (list->entry < first_entry)
		list->entry = first_entry;
	if (list->change < first_change)
		list->change = first_change;
	*ret_told = (struct audit_told){.agent = audit->agent};
	if (list->change < audit->head->changes &&
		(list->entry == audit->head->entries ||
			change_at(audit, list->change)->time_ns < entry_at(audit, list->entry)->time_ns))
		ret_told->change = change_at(audit, list->change++);
	else if (list->entry < audit->head->entries)
		ret_told->entry = entry_at(audit, list->entry++);
	return ret_told->change || ret_told->entry;
}

static bool list_write(void *context, struct json_write *out)
{
	struct audit_list *list = context;
	const struct audit *audit = list->audit;
	struct audit_told told;

	if (!list->begun) {
		json_write_object_begin(out, NULL);
		json_write_array_begin(out, "audit");
		list->begun = true;
	}
	for (unsigned int i = 0; i < LINES_AT_ONCE && list->left; i++) {
		if (!list_next(list, &told)) {
			list->left = 0;
			break;
		}
		if (!told_fits(&list->query, &told))
			continue;
		told_write(&told, out);
		json_write_newline(out);
		list->left--;
	}
	if (list->left)
		return true;
	json_write_array_end(out);
	json_write_number(out, "lost", sockets_lost(audit->agent));
	json_write_number(out, "forgotten",
		oldest(audit->head->entries, audit->head->entries_room) +
			oldest(audit->head->changes, CHANGES_ROOM));
	json_write_object_end(out);
	json_write_newline(out);
	return false;
}

static bool is_on(const struct audit *audit, struct evhttp_request *request)
{
	struct error error = {};

	if (audit)
		return true;
	error_set(&error, -ENOENT, "there is no audit trail");
	error_want(&error, "audit.entries above 0 in the configuration, and a new start");
	reply_bad_request(request, &error);
	return false;
}

static void reply_audit(struct agent *agent, struct evhttp_request *request)
{
	struct audit *audit = audit_of(agent);
	struct audit_list *list;
	struct error error = {};

	if (!is_on(audit, request))
		return;
	list = calloc(1, sizeof(*list));
	if (!list) {
		reply_failure(request, -ENOMEM);
		return;
	}
	list->audit = audit;
	if (query_read(request, &list->query, &error) < 0) {
		free(list);
		reply_bad_request(request, &error);
		return;
	}
	sockets_refresh(agent);
	list->left = select_back(audit, &list->query, &list->entry, &list->change);
	reply_parts(request, list_write, free, list);
}

static void reply_events(struct agent *agent, struct evhttp_request *request)
{
	struct audit *audit = audit_of(agent);
	struct audit_query *query;
	struct error error = {};

	if (!is_on(audit, request))
		return;
	query = malloc(sizeof(*query));
	if (!query) {
		reply_failure(request, -ENOMEM);
		return;
	}
	if (query_read(request, query, &error) < 0) {
		free(query);
		reply_bad_request(request, &error);
		return;
	}
	sockets_refresh(agent);
	feed_follow(audit->feed, request, told_fits, query);
	sockets_hurry(agent);
}

bool audit_is_followed(const struct agent *agent)
{
	const struct audit *audit = audit_of(agent);

	return audit && feed_has_followers(audit->feed);
}

/* -- the module -- */

static void audit_close(void *state)
{
	struct audit *audit = state;

	feed_free(audit->feed);
	engine_region_close(&audit->entries);
	engine_region_close(&audit->changes);
	free(audit);
}

static int audit_open(struct agent *agent, void **ret_state, struct error *error)
{
	size_t size = (CHANGES_ROOM + 1) * sizeof(struct audit_change);
	struct audit *audit;
	int r;

	if (!agent->config.audit_entries)
		return 0;
	audit = calloc(1, sizeof(*audit));
	if (!audit)
		return error_set(error, -ENOMEM, "out of memory");
	*ret_state = audit;
	audit->agent = agent;
	r = engine_region_open(agent->engine, "changes", size, &audit->changes, error);
	if (r < 0)
		return r;
	r = engine_region_grow(agent->engine, &audit->changes, size);
	if (r < 0)
		return error_set(error, r, "no memory for the audit trail: %s", strerror(-r));
	audit->head = audit->changes.base;
	if (audit->head->magic != AUDIT_MAGIC)
		*audit->head = (struct audit_head){
			.magic = AUDIT_MAGIC, .entries_room = agent->config.audit_entries};
	if (audit->head->entries_room != agent->config.audit_entries)
		log_warning("a new number in audit.entries takes effect after 'weir down' and a new start");
	r = engine_region_open(agent->engine, "audit", audit->head->entries_room * sizeof(struct audit_entry),
		&audit->entries, error);
	if (r < 0)
		return r;
	audit->feed = feed_new(agent);
	return audit->feed ? 0 : error_set(error, -ENOMEM, "out of memory");
}

static void audit_status(struct agent *agent, void *state, struct json_write *out)
{
	const struct audit *audit = state;

	(void)agent;
	json_write_object_begin(out, "audit");
	json_write_number(out, "entries",
		audit->head->entries < audit->head->entries_room ? audit->head->entries
								 : audit->head->entries_room);
	json_write_number(out, "limit", audit->head->entries_room);
	json_write_number(
		out, "changes", audit->head->changes < CHANGES_ROOM ? audit->head->changes : CHANGES_ROOM);
	json_write_number(out, "bytes", audit->entries.size + audit->changes.size);
	json_write_object_end(out);
}

static const struct route audit_routes[] = {
	{"/v1/audit", EVHTTP_REQ_GET, reply_audit},
	{"/v1/audit/events", EVHTTP_REQ_GET, reply_events},
	{NULL},
};

const struct module audit_module = {
	.name = "audit",
	.open = audit_open,
	.close = audit_close,
	.status = audit_status,
	.routes = audit_routes,
};
