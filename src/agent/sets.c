// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* Sets: commands, expiry, and what policies are told about them. */
#include "agent/sets.h"

#include <errno.h>
#include <event2/buffer.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/audit.h"
#include "agent/internal.h"
#include "agent/rules.h"
#include "agent/set_build.h"
#include "agent/set_store.h"
#include "basic/cleanup.h"
#include "basic/log.h"
#include "basic/text.h"
#include "basic/units.h"
#include "engine/policy.h"

#define EXPIRED_AT_ONCE 1000  /* in one turn of the loop */
#define FEW             1000  /* entries that are changed one by one, in the tries that are in force */
#define RETIRED_MAX     16384 /* units that wait to be used again */
#define EVERY_SET       UINT64_MAX
#define PROGRESS_NS     250000000

/* What a file was when it was read. */
struct source {
	struct timespec changed;
	off_t size;
	ino_t inode;
};

/* A large change, built by a thread.  While it runs the store is the thread's. */
struct job {
	struct agent *agent;
	pthread_t thread;
	int done; /* eventfd */
	struct event *event, *progress_timer;
	unsigned int set;
	bool skip_bad, cut, replace;
	uint64_t expires_ns;
	char *text, *who;
	size_t length;
	uint64_t began_ns;
	size_t read, built; /* progress: entries */
	size_t bad, before;
	struct set_tries tries;
	struct error error;
	int result;
	struct feed *feed;
};

struct sets {
	struct agent *agent;
	struct set_store *store;
	struct set_tries tries[2]; /* by place */
	struct set_tries next;     /* prepared, not yet in a place */
	bool prepared, next_built;
	uint64_t made; /* sets that a preparation made */
	unsigned int compiled_combinations;
	struct source sources[SET_MAX];
	struct port_range *ports[SET_MAX]; /* as sets_world() tells them */
	size_t port_counts[SET_MAX];
	struct event *timer;
	struct job *job;
};

static struct sets *sets_of(struct agent *agent)
{
	return module_state(agent, &set_module);
}

/* -- what is in force -- */

static unsigned int place_now(struct agent *agent)
{
	struct policy_now now = {};

	return engine_policy_now(agent->engine, &now) == 0 ? now.places >> SET_PLACE & 1 : 0;
}

static uint8_t version_told(const struct sets *sets)
{
	return sets->prepared ? SET_NEXT : SET_NOW;
}

static bool set_exists(const struct sets *sets, unsigned int set)
{
	return set_store_head(sets->store)->slots[set].name[0];
}

/* -- what policies are told -- */

static int world_set(void *context, const char *name)
{
	const struct sets *sets = context;
	int set = set_store_find(sets->store, name);

	return set >= 0 && set_store_head(sets->store)->slots[set].kind != SET_PORTS ? set : -1;
}

static int range_compare(const void *a, const void *b)
{
	const struct port_range *x = a, *y = b;

	return x->low != y->low ? x->low - y->low : x->high - y->high;
}

/* Ranges in order, those that meet made one. */
static void ports_collect(struct sets *sets, unsigned int set)
{
	const struct set_kept *entries = set_store_entries(sets->store);
	uint32_t used = set_store_head(sets->store)->used;
	struct port_range *ranges = NULL;
	size_t count = 0, size = 0, kept = 0;

	free(sets->ports[set]);
	sets->ports[set] = NULL;
	sets->port_counts[set] = 0;
	for (uint32_t i = 0; i < used; i++) {
		struct set_entry entry;

		if (entries[i].family != SET_FAMILY_PORT || entries[i].set != set ||
			!(entries[i].flags & version_told(sets)))
			continue;
		if (count == size) {
			struct port_range *more = realloc(ranges, (size = size * 2 + 16) * sizeof(*ranges));

			if (!more)
				break;
			ranges = more;
		}
		set_store_entry(&entries[i], &entry);
		ranges[count++] = entry.ports;
	}
	if (count)
		qsort(ranges, count, sizeof(*ranges), range_compare);
	for (size_t i = 0; i < count; i++) {
		if (kept && ranges[i].low <= (unsigned int)ranges[kept - 1].high + 1) {
			if (ranges[i].high > ranges[kept - 1].high)
				ranges[kept - 1].high = ranges[i].high;
		} else {
			ranges[kept++] = ranges[i];
		}
	}
	sets->ports[set] = ranges;
	sets->port_counts[set] = kept;
}

static const struct port_range *world_port_set(void *context, const char *name, size_t *ret_count)
{
	static const struct port_range none[1];
	struct sets *sets = context;
	int set = set_store_find(sets->store, name);

	if (set < 0 || set_store_head(sets->store)->slots[set].kind == SET_ADDRESSES)
		return NULL;
	*ret_count = sets->port_counts[set];
	return sets->ports[set] ? sets->ports[set] : none;
}

void sets_world(struct agent *agent, struct policy_world *world)
{
	struct sets *sets = sets_of(agent);
	const struct set_head *head = set_store_head(sets->store);

	for (unsigned int set = 0; set < SET_MAX; set++)
		if (head->slots[set].name[0] && head->slots[set].kind == SET_PORTS && !sets->job)
			ports_collect(sets, set);
	sets->compiled_combinations = __atomic_load_n(&head->combination_count, __ATOMIC_ACQUIRE);
	world->context = sets;
	world->set = world_set;
	world->port_set = world_port_set;
	world->combinations = head->combinations;
	world->combination_count = sets->compiled_combinations;
}

/* A combination that no policy has a row for yet is compiled before a trie names it. */
static int combination_known(void *context, unsigned int combination)
{
	struct sets *sets = context;
	struct error error = {};
	int r;

	if (combination < sets->compiled_combinations)
		return 0;
	r = rules_refresh(sets->agent, &error);
	if (r < 0)
		log_warning("sets: %s", error.what);
	return r;
}

/* -- changing a version as a whole -- */

/* Builds the version SET_NEXT where nobody looks. */
static int next_build(struct sets *sets, struct error *error)
{
	int r = set_tries_build(sets->agent->engine, sets->store, SET_NEXT, &sets->next, NULL, error);

	sets->next_built = r == 0;
	return r;
}

/* Brings what was built to the place that is not in force. */
static int next_bring(struct sets *sets, unsigned int place, struct error *error)
{
	int r = 0;

	for (int i = 0; i < 2 && r == 0; i++)
		r = engine_set_memory_bring(
			sets->agent->engine, i ? 6 : 4, place, &sets->next.memory[i], error);
	return r;
}

static void place_empty(struct sets *sets, unsigned int place)
{
	set_tries_close(&sets->tries[place]);
	for (uint8_t family = 4; family <= 6; family += 2)
		engine_set_memory_bring(sets->agent->engine, family, place, NULL, NULL);
}

/* What was switched to becomes the version of now. */
static void next_commit(struct sets *sets, bool pending)
{
	unsigned int place = place_now(sets->agent);

	if (pending && sets->next_built) {
		set_store_copy(sets->store, EVERY_SET, SET_NOW, SET_BEFORE);
		set_store_head(sets->store)->pending = true;
	}
	set_store_copy(sets->store, EVERY_SET, SET_NEXT, SET_NOW);
	set_store_copy(sets->store, EVERY_SET, 0, SET_NEXT);
	if (sets->next_built) {
		set_tries_close(&sets->tries[place]);
		sets->tries[place] = sets->next;
		sets->next = (struct set_tries){};
		sets->next_built = false;
		if (!pending)
			place_empty(sets, !place);
	}
	set_store_head(sets->store)->place = place;
	sets->prepared = false;
	sets->made = 0;
}

/* Switches over to what was built, with the policies as they are. */
static int next_switch(struct sets *sets, bool cut, struct error *error)
{
	struct engine *engine = sets->agent->engine;
	struct policy_now now = {};
	int r;

	if (set_store_head(sets->store)->combination_count > sets->compiled_combinations)
		r = rules_refresh(sets->agent, error);
	else
		r = 0;
	if (r == 0)
		r = next_bring(sets, !place_now(sets->agent), error);
	if (r == 0)
		r = engine_policy_now(engine, &now);
	if (r == 0)
		r = engine_policy_switch(engine, 1ULL << SET_PLACE, now.present, cut, now.tracking, 0, error);
	return r;
}

/* The tries of now have no room, or are not there: they are built anew. */
static int now_rebuild(struct sets *sets, bool cut, struct error *error)
{
	int r;

	set_store_copy(sets->store, EVERY_SET, SET_NOW, SET_NEXT);
	r = next_build(sets, error);
	if (r == 0)
		r = next_switch(sets, cut, error);
	if (r == 0) {
		next_commit(sets, false);
		return 0;
	}
	set_tries_close(&sets->next);
	sets->next_built = false;
	set_store_copy(sets->store, EVERY_SET, 0, SET_NEXT);
	return r;
}

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

static int fail_kind(struct error *error, const char *name, enum set_kind kind)
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
		return fail_kind(error, name, (enum set_kind)kind);
	return 0;
}

/* A change of entries one by one: what is to be done with each. */
struct few {
	struct sets *sets;
	unsigned int set;
	uint64_t expires_ns;
	bool remove;
	bool rebuild; /* the tries have no room */
	size_t changed;
};

static int few_apply(struct few *few, const struct set_entry *entry, struct error *error)
{
	struct sets *sets = few->sets;
	unsigned int place = place_now(sets->agent);
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
	r = (few->remove ? set_tries_remove : set_tries_add)(
		&sets->tries[place], sets->store, few->set, &entry->prefix, combination_known, sets);
	if (r == -EOVERFLOW)
		return error_set(
			error, -E2BIG, "the sets overlap in more than %d ways", SET_COMBINATIONS_MAX - 1);
	few->rebuild |= r < 0;
	return 0;
}

static void retired_reclaim(struct sets *sets)
{
	struct set_tries *tries = &sets->tries[place_now(sets->agent)];
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
static int few_finish(struct few *few, enum set_kind kind, bool cut, struct error *error)
{
	struct sets *sets = few->sets;

	if (!few->changed)
		return 0;
	if (kind == SET_PORTS)
		return rules_refresh(sets->agent, error);
	if (few->rebuild)
		return now_rebuild(sets, cut, error);
	engine_policy_forget(sets->agent->engine, cut);
	retired_reclaim(sets);
	return 0;
}

/* -- expiry -- */

static void on_timer(evutil_socket_t fd, short what, void *context)
{
	struct sets *sets = context;
	struct few addresses = {.sets = sets, .remove = true}, ports = addresses;
	uint64_t now = agent_now_ns();
	struct error error = {};

	(void)fd;
	(void)what;
	if (sets->job)
		return;
	for (int i = 0; i < EXPIRED_AT_ONCE; i++) {
		int64_t index = set_store_expired(sets->store, now);
		struct set_entry entry;
		struct few *few;

		if (index < 0)
			break;
		set_store_entry(&set_store_entries(sets->store)[index], &entry);
		few = entry.kind == SET_PORTS ? &ports : &addresses;
		few->set = set_store_entries(sets->store)[index].set;
		if (few_apply(few, &entry, &error) < 0)
			log_warning("sets: %s", error.what);
	}
	if (few_finish(&addresses, SET_ADDRESSES, false, &error) < 0 ||
		few_finish(&ports, SET_PORTS, false, &error) < 0)
		log_warning("sets: an entry's time is over, and it cannot be taken out: %s", error.what);
}

/* -- answers -- */

static void reply_refusal(struct evhttp_request *request, const struct error *error)
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

static int change_allowed(struct sets *sets, struct error *error)
{
	if (sets->job) {
		error_set(error, -EBUSY, "set '%s' is being loaded",
			set_store_head(sets->store)->slots[sets->job->set].name);
		error_want(error, "a little patience");
		return -EBUSY;
	}
	if (rules_pending(sets->agent, NULL)) {
		error_set(error, -EBUSY, "a policy waits to be confirmed");
		error_want(error, "weir confirm, or weir rollback");
		return -EBUSY;
	}
	return 0;
}

static int fail_unknown(const struct sets *sets, const char *name, struct error *error)
{
	const struct set_head *head = set_store_head(sets->store);
	const char *known[SET_MAX + 1] = {NULL}, *nearest;
	size_t count = 0;

	for (unsigned int set = 0; set < SET_MAX; set++)
		if (head->slots[set].name[0])
			known[count++] = head->slots[set].name;
	nearest = text_nearest(name, known);
	error_set(error, -ENOENT, "there is no set '%.31s'", name);
	if (nearest)
		error_want(error, "did you mean '%s'?", nearest);
	else
		error_want(error, "one that 'weir set list' shows");
	return -ENOENT;
}

/* The parameters of a change. */
struct change_request {
	char *name;
	int set; /* negative: there is none of this name yet */
	uint64_t expires_ns;
	bool cut, skip_bad;
};

static bool flag_read(const char *query, const char *name)
{
	_cleanup_free_ char *value = query_value(query, name);

	return value && strcmp(value, "no") != 0 && strcmp(value, "0") != 0;
}

static int change_read(struct sets *sets, struct evhttp_request *request, const char *const *parameters,
	struct change_request *change, struct error *error)
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
	change->cut = flag_read(query, "cut");
	change->skip_bad = flag_read(query, "skip_bad");
	if (duration) {
		if (duration_parse(duration, &ns) < 0 || ns < 1000000000 ||
			ns > 365ULL * 86400 * 1000000000) {
			error_set(error, -EINVAL, "'%.32s' is no time for an entry to last", duration);
			error_want(error, "1s to 365d, such as 90s, 15m, 1h or 7d");
			return -EINVAL;
		}
		change->expires_ns = agent_now_ns() + ns;
	}
	return change_allowed(sets, error);
}

static int set_make(struct sets *sets, const char *name, bool live, struct error *error)
{
	int set = set_store_make(sets->store, name, live);

	if (set < 0) {
		error_set(error, set, "there are %d sets already", SET_MAX);
		error_want(error, "weir set destroy NAME of one that is not used");
	}
	return set;
}

static char *body_of(struct evhttp_request *request, size_t *ret_length)
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
static int few_change(struct sets *sets, const struct change_request *change, const struct entries *entries,
	bool removes, size_t *ret_changed, struct error *error)
{
	struct few few = {.sets = sets,
		.set = (unsigned int)change->set,
		.expires_ns = change->expires_ns,
		.remove = removes};
	int r = 0;

	for (size_t i = 0; i < entries->count && r == 0; i++)
		r = few_apply(&few, &entries->list[i], error);
	if (r < 0) /* what was done so far holds, and the answer tells */
		log_warning("set %s: %s", change->name, error->what);
	if (few_finish(&few, entries->kind, change->cut, error) < 0)
		r = -EIO;
	*ret_changed = few.changed;
	return r;
}

static void job_start(struct sets *sets, struct evhttp_request *request, const struct change_request *change,
	char *text, size_t length, bool replace);

static size_t lines_of(const char *text, size_t length)
{
	size_t lines = 0;

	for (const char *p = text; p && p < text + length; lines++) {
		p = memchr(p, '\n', (size_t)(text + length - p));
		p = p ? p + 1 : NULL;
	}
	return lines;
}

static void change_reply(struct agent *agent, struct evhttp_request *request, const char *const *parameters,
	const char *what, bool removes)
{
	struct sets *sets = sets_of(agent);
	struct change_request change = {};
	struct entries entries = {};
	_cleanup_free_ char *text = NULL;
	struct json_write json = {};
	struct error error = {};
	size_t length = 0, changed = 0, bad = 0;
	bool made = false;
	int r = change_read(sets, request, parameters, &change, &error);

	if (r == 0 && removes && change.set < 0)
		r = fail_unknown(sets, change.name, &error);
	if (r == 0) {
		text = body_of(request, &length);
		r = text ? 0 : error_set(&error, -ENOMEM, "out of memory");
	}
	if (r == 0 && !removes && lines_of(text, length) > FEW) {
		job_start(sets, request, &change, TAKE(text), length, false);
		free(change.name);
		return;
	}
	if (r == 0)
		r = entries_read(sets, change.name, text, length, change.skip_bad, &entries, &bad, &error);
	if (r == 0 && change.set < 0) {
		change.set = r = set_make(sets, change.name, true, &error);
		made = r >= 0;
	}
	if (r >= 0)
		r = few_change(sets, &change, &entries, removes, &changed, &error);
	if (r < 0) {
		if (made && !set_store_count(sets->store, (unsigned int)change.set))
			set_store_destroy(sets->store, (unsigned int)change.set);
		error.code = r;
		reply_refusal(request, &error);
	} else {
		audit_change(agent, request, "set %s: %zu entries %s", change.name, changed, what);
		write_result(&json, sets, (unsigned int)change.set, what, changed, bad);
		reply_json(request, HTTP_OK, "OK", &json);
		json_write_free(&json);
	}
	entries_free(&entries);
	free(change.name);
}

static void reply_add(struct agent *agent, struct evhttp_request *request)
{
	static const char *const parameters[] = {"name", "for", "cut", "skip_bad", NULL};

	change_reply(agent, request, parameters, "added", false);
}

static void reply_remove(struct agent *agent, struct evhttp_request *request)
{
	static const char *const parameters[] = {"name", "skip_bad", NULL};

	change_reply(agent, request, parameters, "removed", true);
}

/* -- loading -- */

struct loading {
	struct job *job;
	struct set_store *store;
	enum set_kind kind;
};

static int loading_put(void *context, const struct set_entry *entry)
{
	struct loading *loading = context;
	struct job *job = loading->job;
	int r = set_store_put(loading->store, job->set, entry, job->expires_ns, SET_NEXT);

	if (r < 0)
		return r;
	__atomic_store_n(&job->read, job->read + 1, __ATOMIC_RELAXED);
	return 0;
}

static int job_load(struct job *job)
{
	struct sets *sets = sets_of(job->agent);
	struct loading loading = {.job = job, .store = sets->store};
	const struct set_slot *slot = &set_store_head(sets->store)->slots[job->set];
	uint64_t others = EVERY_SET & ~(job->replace ? 1ULL << job->set : 0);
	int r;

	set_store_copy(sets->store, EVERY_SET, 0, SET_NEXT);
	set_store_copy(sets->store, others, SET_NOW, SET_NEXT);
	r = set_list_parse(job->text, job->length, slot->name, job->skip_bad, loading_put, &loading,
		&job->bad, &job->error);
	if (r == -ENOSPC)
		error_set(&job->error, r, "there is no room for more than %d entries in all sets",
			SET_ENTRIES_MAX);
	else if (r == -ENOMEM)
		error_set(&job->error, r, "out of memory");
	else if (r == -EINVAL && !job->error.what[0])
		r = fail_kind(&job->error, slot->name, (enum set_kind)slot->kind);
	if (r < 0 || slot->kind == SET_PORTS)
		return r;
	return set_tries_build(
		job->agent->engine, sets->store, SET_NEXT, &job->tries, &job->built, &job->error);
}

static void *job_run(void *context)
{
	struct job *job = context;
	uint64_t one = 1;

	job->result = job_load(job);
	if (write(job->done, &one, sizeof(one)) < 0)
		log_error("sets: cannot tell that a load is over: %s", strerror(errno));
	return NULL;
}

static void job_free(struct job *job)
{
	if (job->event)
		event_free(job->event);
	if (job->progress_timer)
		event_free(job->progress_timer);
	if (job->done >= 0)
		close(job->done);
	set_tries_close(&job->tries);
	feed_free(job->feed);
	free(job->text);
	free(job->who);
	free(job);
}

/* Has what was loaded decide. */
static int job_finish(struct sets *sets, struct job *job)
{
	enum set_kind kind = (enum set_kind)set_store_head(sets->store)->slots[job->set].kind;
	int r = job->result;

	if (r == 0 && kind == SET_PORTS) {
		next_commit(sets, false);
		return rules_refresh(sets->agent, &job->error);
	}
	if (r == 0) {
		sets->next = job->tries;
		sets->next_built = true;
		job->tries = (struct set_tries){};
		r = next_switch(sets, job->cut, &job->error);
	}
	if (r == 0) {
		next_commit(sets, false);
		return 0;
	}
	set_tries_close(&sets->next);
	sets->next_built = false;
	set_store_copy(sets->store, EVERY_SET, 0, SET_NEXT);
	return r;
}

static void on_job_done(evutil_socket_t fd, short what, void *context)
{
	struct job *job = context;
	struct sets *sets = sets_of(job->agent);
	struct set_slot *slot = &set_store_head(sets->store)->slots[job->set];
	struct json_write json = {};
	int r;

	(void)fd;
	(void)what;
	pthread_join(job->thread, NULL);
	sets->job = NULL;
	r = job_finish(sets, job);
	if (r < 0) {
		answer_error(&job->error, &json);
		log_warning("set %s: %s", slot->name, job->error.what);
		if (!set_store_count(sets->store, job->set) && sets->made >> job->set & 1)
			set_store_destroy(sets->store, job->set);
	} else {
		json_write_object_begin(&json, NULL);
		json_write_string(&json, "set", slot->name);
		json_write_number(&json, "entries", set_store_count(sets->store, job->set));
		json_write_number(&json, "read", job->read);
		json_write_number(&json, "bad", job->bad);
		json_write_number(&json, "before", job->before);
		json_write_real(&json, "seconds", (double)(agent_now_ns() - job->began_ns) / 1e9, 3);
		json_write_object_end(&json);
		log_info("set %s: %zu entries", slot->name, set_store_count(sets->store, job->set));
	}
	sets->made &= ~(1ULL << job->set);
	feed_publish(job->feed, NULL, &json);
	json_write_free(&json);
	job_free(job);
}

static void on_job_progress(evutil_socket_t fd, short what, void *context)
{
	const struct job *job = context;
	size_t built = __atomic_load_n(&job->built, __ATOMIC_RELAXED);
	struct json_write json = {};

	(void)fd;
	(void)what;
	json_write_object_begin(&json, NULL);
	json_write_string(&json, "phase", built ? "building" : "reading");
	json_write_number(&json, "done", built ? built : __atomic_load_n(&job->read, __ATOMIC_RELAXED));
	json_write_number(&json, "total", lines_of(job->text, job->length));
	json_write_object_end(&json);
	feed_publish(job->feed, NULL, &json);
	json_write_free(&json);
}

static int job_open(struct sets *sets, struct job *job)
{
	const struct timeval interval = {.tv_usec = PROGRESS_NS / 1000};
	sigset_t all, before;
	int r;

	job->done = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	job->feed = feed_new(sets->agent);
	if (job->done < 0 || !job->feed)
		return -ENOMEM;
	job->event = event_new(sets->agent->base, job->done, EV_READ, on_job_done, job);
	job->progress_timer = event_new(sets->agent->base, -1, EV_PERSIST, on_job_progress, job);
	if (!job->event || !job->progress_timer || event_add(job->event, NULL) < 0 ||
		event_add(job->progress_timer, &interval) < 0)
		return -ENOMEM;
	/* signals are the loop's */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	r = pthread_create(&job->thread, NULL, job_run, job);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return -r;
}

/* Takes `text`.  Answers with a line of progress every quarter of a second, then with the result or an error.
 */
static void job_start(struct sets *sets, struct evhttp_request *request, const struct change_request *change,
	char *text, size_t length, bool replace)
{
	struct job *job = calloc(1, sizeof(*job));
	struct error error = {};
	int set = change->set;

	if (set < 0 && job) {
		set = set_make(sets, change->name, true, &error);
		if (set >= 0)
			sets->made |= 1ULL << set;
	}
	if (!job || set < 0) {
		free(job);
		free(text);
		if (set < 0)
			reply_refusal(request, &error);
		else
			reply_failure(request, -ENOMEM);
		return;
	}
	*job = (struct job){.agent = sets->agent,
		.done = -1,
		.set = (unsigned int)set,
		.cut = change->cut,
		.skip_bad = change->skip_bad,
		.expires_ns = change->expires_ns,
		.replace = replace,
		.text = text,
		.length = length,
		.began_ns = agent_now_ns(),
		.before = set_store_count(sets->store, (unsigned int)set)};
	sets->job = job;
	if (job_open(sets, job) < 0) {
		sets->job = NULL;
		job_free(job);
		reply_failure(request, -ENOMEM);
		return;
	}
	audit_change(sets->agent, request, "set %s: %s a list of %zu bytes", change->name,
		replace ? "loads" : "adds", length);
	feed_follow(job->feed, request, NULL, NULL);
}

static void reply_load(struct agent *agent, struct evhttp_request *request)
{
	static const char *const parameters[] = {"name", "for", "cut", "skip_bad", NULL};
	struct sets *sets = sets_of(agent);
	struct change_request change = {};
	struct error error = {};
	size_t length = 0;
	int r = change_read(sets, request, parameters, &change, &error);
	char *text = r == 0 ? body_of(request, &length) : NULL;

	if (r < 0)
		reply_refusal(request, &error);
	else if (!text)
		reply_failure(request, -ENOMEM);
	else
		job_start(sets, request, &change, text, length, true);
	free(change.name);
}

/* -- sets as such -- */

static void reply_create(struct agent *agent, struct evhttp_request *request)
{
	static const char *const parameters[] = {"name", NULL};
	struct sets *sets = sets_of(agent);
	struct change_request change = {};
	struct error error = {};
	int r = change_read(sets, request, parameters, &change, &error);

	if (r == 0 && change.set >= 0) {
		r = error_set(&error, -EEXIST, "there is a set '%s' already", change.name);
		error_want(&error, "another name, or weir set add %s ENTRY", change.name);
	}
	if (r == 0)
		r = set_make(sets, change.name, true, &error);
	if (r < 0) {
		reply_refusal(request, &error);
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
	struct change_request change = {};
	struct error error = {};
	int r = change_read(sets, request, parameters, &change, &error);

	if (r == 0 && change.set < 0)
		r = fail_unknown(sets, change.name, &error);
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
			                      : now_rebuild(sets, false, &error);
		set_store_head(sets->store)->slots[set].kind = SET_EMPTY;
		if (destroy)
			set_store_destroy(sets->store, set);
		sets->sources[set] = (struct source){};
	}
	if (r < 0) {
		reply_refusal(request, &error);
	} else {
		audit_change(agent, request, "set %s: %s", change.name, destroy ? "destroyed" : "flushed");
		reply_done(request, destroy ? "destroyed" : "flushed");
	}
	free(change.name);
}

static void reply_flush(struct agent *agent, struct evhttp_request *request)
{
	clear_reply(agent, request, false);
}

static void reply_destroy(struct agent *agent, struct evhttp_request *request)
{
	clear_reply(agent, request, true);
}

/* -- lists -- */

static void write_set(struct json_write *out, const struct sets *sets, unsigned int set)
{
	static const char *const kinds[] = {
		[SET_EMPTY] = "empty", [SET_ADDRESSES] = "addresses", [SET_PORTS] = "ports"};
	const struct set_slot *slot = &set_store_head(sets->store)->slots[set];

	json_write_object_begin(out, NULL);
	json_write_string(out, "name", slot->name);
	json_write_string(out, "kind", kinds[slot->kind % 3]);
	json_write_number(out, "entries", set_store_count(sets->store, set));
	json_write_number(out, "expiring", set_store_expiring(sets->store, set));
	json_write_string(out, "source", slot->live ? "live" : "file");
	json_write_boolean(out, "used", rules_name_set(sets->agent, slot->name));
	json_write_object_end(out);
}

static void write_totals(struct json_write *out, const struct sets *sets)
{
	json_write_number(out, "combinations", set_store_head(sets->store)->combination_count - 1);
	json_write_number(out, "memory_bytes",
		set_store_bytes(sets->store) + set_tries_bytes(&sets->tries[0]) +
			set_tries_bytes(&sets->tries[1]));
	if (!sets->job)
		return;
	json_write_object_begin(out, "loading");
	json_write_string(out, "set", set_store_head(sets->store)->slots[sets->job->set].name);
	json_write_number(out, "read", __atomic_load_n(&sets->job->read, __ATOMIC_RELAXED));
	json_write_number(out, "built", __atomic_load_n(&sets->job->built, __ATOMIC_RELAXED));
	json_write_object_end(out);
}

static void reply_sets(struct agent *agent, struct evhttp_request *request)
{
	static const char *const parameters[] = {NULL};
	const struct sets *sets = sets_of(agent);
	struct json_write json = {};
	struct error error = {};

	if (query_check(query_of(request), parameters, &error) < 0) {
		reply_bad_request(request, &error);
		return;
	}
	json_write_object_begin(&json, NULL);
	json_write_array_begin(&json, "sets");
	for (unsigned int set = 0; set < SET_MAX; set++)
		if (set_exists(sets, set))
			write_set(&json, sets, set);
	json_write_array_end(&json);
	write_totals(&json, sets);
	json_write_object_end(&json);
	json_write_newline(&json);
	reply_json(request, HTTP_OK, "OK", &json);
	json_write_free(&json);
}

/* The entries of one set as they were when it was asked for. */
struct listing {
	struct set_kept *entries;
	size_t count, next;
	char name[SET_NAME_MAX];
	uint64_t now_ns;
};

#define LISTING_PART 1000 /* entries at once */

static int listing_compare(const void *a, const void *b)
{
	const struct set_kept *x = a, *y = b;
	struct set_entry p, q;
	int r;

	if (x->family != y->family)
		return x->family - y->family;
	set_store_entry(x, &p);
	set_store_entry(y, &q);
	if (x->family == SET_FAMILY_PORT)
		return range_compare(&p.ports, &q.ports);
	r = memcmp(x->bytes, y->bytes, sizeof(x->bytes));
	return r ? r : x->length - y->length;
}

static bool listing_part(void *context, struct json_write *out)
{
	struct listing *listing = context;
	size_t end =
		listing->next + LISTING_PART < listing->count ? listing->next + LISTING_PART : listing->count;

	if (listing->next == 0) {
		json_write_object_begin(out, NULL);
		json_write_string(out, "set", listing->name);
		json_write_array_begin(out, "entries");
	}
	for (; listing->next < end; listing->next++) {
		const struct set_kept *kept = &listing->entries[listing->next];
		struct set_entry entry;
		char text[ADDRESS_TEXT_MAX];

		set_store_entry(kept, &entry);
		set_entry_print(&entry, text, sizeof(text));
		json_write_object_begin(out, NULL);
		json_write_string(out, "entry", text);
		if (kept->expires_ns) {
			answer_time(out, "expires", kept->expires_ns);
			json_write_number(out, "left",
				kept->expires_ns > listing->now_ns
					? (kept->expires_ns - listing->now_ns) / 1000000000
					: 0);
		}
		json_write_object_end(out);
	}
	if (listing->next < listing->count)
		return true;
	json_write_array_end(out);
	json_write_object_end(out);
	json_write_newline(out);
	return false;
}

static void listing_free(void *context)
{
	struct listing *listing = context;

	free(listing->entries);
	free(listing);
}

static struct listing *listing_new(const struct sets *sets, unsigned int set)
{
	const struct set_kept *entries = set_store_entries(sets->store);
	uint32_t used = set_store_head(sets->store)->used;
	struct listing *listing = calloc(1, sizeof(*listing));

	if (!listing)
		return NULL;
	listing->entries = malloc((set_store_count(sets->store, set) + 1) * sizeof(*listing->entries));
	if (!listing->entries) {
		free(listing);
		return NULL;
	}
	for (uint32_t i = 0; i < used && listing->count < set_store_count(sets->store, set); i++)
		if (entries[i].family && entries[i].set == set && entries[i].flags & SET_NOW)
			listing->entries[listing->count++] = entries[i];
	qsort(listing->entries, listing->count, sizeof(*listing->entries), listing_compare);
	memcpy(listing->name, set_store_head(sets->store)->slots[set].name, sizeof(listing->name));
	listing->now_ns = agent_now_ns();
	return listing;
}

static void reply_show(struct agent *agent, struct evhttp_request *request)
{
	static const char *const parameters[] = {"name", NULL};
	struct sets *sets = sets_of(agent);
	const char *query = query_of(request);
	_cleanup_free_ char *name = query_value(query, "name");
	struct listing *listing;
	struct error error = {};
	int set;

	if (query_check(query, parameters, &error) < 0) {
		reply_bad_request(request, &error);
		return;
	}
	set = name ? set_store_find(sets->store, name) : -ENOENT;
	if (set < 0) {
		fail_unknown(sets, name ? name : "", &error);
		reply_refusal(request, &error);
		return;
	}
	if (sets->job) {
		change_allowed(sets, &error);
		reply_refusal(request, &error);
		return;
	}
	listing = listing_new(sets, (unsigned int)set);
	if (listing)
		reply_parts(request, listing_part, listing_free, listing);
	else
		reply_failure(request, -ENOMEM);
}

/* -- whole policies -- */

/* Reads what a policy says about one set into the version SET_NEXT.  1: it is the file that was read before.
 */
static int text_read(struct sets *sets, const struct policy_set *from, unsigned int set, struct error *error)
{
	_cleanup_fclose_ FILE *file = NULL;
	_cleanup_free_ char *text = NULL;
	const char *list = from->entries;
	struct entries entries = {};
	size_t length = from->length;
	struct source source = {};
	struct stat status;
	int r;

	if (from->file) {
		file = fopen(from->file, "re");
		if (!file || fstat(fileno(file), &status) < 0)
			return error_set(error, -errno, "set '%s': cannot read %s: %s", from->name,
				from->file, strerror(errno));
		source = (struct source){status.st_mtim, status.st_size, status.st_ino};
		if (memcmp(&source, &sets->sources[set], sizeof(source)) == 0)
			return 1;
		if (status.st_size > POLICY_FILE_BYTES_MAX)
			return error_set(error, -EFBIG, "set '%s': %s is larger than %d MiB", from->name,
				from->file, POLICY_FILE_BYTES_MAX >> 20);
		length = (size_t)status.st_size;
		text = malloc(length + 1);
		if (!text)
			return error_set(error, -ENOMEM, "out of memory");
		length = fread(text, 1, length, file);
		list = text;
	}
	r = set_list_parse(list, length, from->file ? from->file : from->name, false, entries_add, &entries,
		NULL, error);
	if (r == 0 && entries.mixed)
		r = error_set(error, -EINVAL, "set '%s' has addresses and ports", from->name);
	set_store_copy(sets->store, 1ULL << set, 0, SET_NEXT);
	for (size_t i = 0; i < entries.count && r == 0; i++) {
		r = set_store_put(sets->store, set, &entries.list[i], 0, SET_NEXT);
		if (r < 0)
			r = error_set(error, r, "set '%s': %s", from->name,
				r == -EINVAL ? "it holds the other kind: addresses, or ports" : strerror(-r));
		else
			r = 0;
	}
	entries_free(&entries);
	if (r == 0)
		sets->sources[set] = source;
	return r;
}

/* Is there an entry that only one of the versions has? */
static bool versions_differ(const struct sets *sets)
{
	const struct set_kept *entries = set_store_entries(sets->store);
	uint32_t used = set_store_head(sets->store)->used;

	for (uint32_t i = 0; i < used; i++)
		if (entries[i].family && !(entries[i].flags & SET_NOW) != !(entries[i].flags & SET_NEXT))
			return true;
	return false;
}

int sets_prepare(struct agent *agent, const struct policy_text *policy, struct error *error)
{
	struct sets *sets = sets_of(agent);
	int r = sets->job ? change_allowed(sets, error) : 0;

	if (r < 0)
		return r;
	sets->prepared = true;
	set_store_copy(sets->store, EVERY_SET, SET_NOW, SET_NEXT);
	for (size_t i = 0; i < policy->set_count && r >= 0; i++) {
		int set = set_store_find(sets->store, policy->sets[i].name);

		if (set < 0) {
			set = set_make(sets, policy->sets[i].name, false, error);
			if (set >= 0)
				sets->made |= 1ULL << set;
		}
		r = set < 0 ? set : text_read(sets, &policy->sets[i], (unsigned int)set, error);
	}
	if (r >= 0 && versions_differ(sets)) {
		r = next_build(sets, error);
		if (r == 0)
			r = next_bring(sets, !place_now(agent), error);
	}
	if (r < 0) {
		sets_discard(agent);
		return r;
	}
	return 0;
}

bool sets_prepared(struct agent *agent)
{
	return sets_of(agent)->next_built;
}

void sets_discard(struct agent *agent)
{
	struct sets *sets = sets_of(agent);

	set_store_copy(sets->store, EVERY_SET, 0, SET_NEXT);
	for (unsigned int set = 0; set < SET_MAX; set++) {
		if (sets->made >> set & 1)
			set_store_destroy(sets->store, set);
		sets->sources[set] = (struct source){};
	}
	if (sets->next_built) {
		set_tries_close(&sets->next);
		place_empty(sets, !place_now(agent));
	}
	sets->made = 0;
	sets->next_built = false;
	sets->prepared = false;
}

void sets_commit(struct agent *agent, bool pending)
{
	next_commit(sets_of(agent), pending);
}

void sets_confirm(struct agent *agent)
{
	struct sets *sets = sets_of(agent);

	if (!set_store_head(sets->store)->pending)
		return;
	set_store_head(sets->store)->pending = false;
	set_store_copy(sets->store, EVERY_SET, 0, SET_BEFORE);
	if (sets->tries[place_now(agent)].trie[0])
		place_empty(sets, !place_now(agent));
}

/* The version of before is the one of now again, in the place where the datapath looks. */
static int before_restore(struct sets *sets, struct error *error)
{
	unsigned int place = place_now(sets->agent);
	int r = 0;

	set_store_copy(sets->store, EVERY_SET, SET_BEFORE, SET_NOW);
	set_store_copy(sets->store, EVERY_SET, 0, SET_BEFORE);
	set_store_head(sets->store)->pending = false;
	set_store_head(sets->store)->place = place;
	memset(sets->sources, 0, sizeof(sets->sources));
	if (!sets->tries[place].trie[0]) {
		/* an agent before us had built them */
		r = set_tries_build(
			sets->agent->engine, sets->store, SET_NOW, &sets->tries[place], NULL, error);
		for (int i = 0; i < 2 && r == 0; i++)
			r = engine_set_memory_bring(
				sets->agent->engine, i ? 6 : 4, place, &sets->tries[place].memory[i], error);
	}
	place_empty(sets, !place);
	return r;
}

void sets_rollback(struct agent *agent)
{
	struct sets *sets = sets_of(agent);
	struct error error = {};

	if (set_store_head(sets->store)->pending && before_restore(sets, &error) < 0)
		log_error("sets: %s", error.what);
}

int sets_text(struct agent *agent, struct policy_text *policy)
{
	const struct sets *sets = sets_of(agent);
	const struct set_head *head = set_store_head(sets->store);

	for (unsigned int set = 0; set < SET_MAX; set++) {
		struct policy_set *more, *to;
		struct listing *listing;
		char *text = NULL;
		size_t length = 0;
		FILE *out;

		if (!head->slots[set].name[0])
			continue;
		more = realloc(policy->sets, (policy->set_count + 1) * sizeof(*more));
		if (!more)
			return -ENOMEM;
		policy->sets = more;
		listing = listing_new(sets, set);
		out = listing ? open_memstream(&text, &length) : NULL;
		for (size_t i = 0; out && i < listing->count; i++) {
			char line[ADDRESS_TEXT_MAX];
			struct set_entry entry;

			/* an entry that ends does not outlive this boot */
			if (listing->entries[i].expires_ns)
				continue;
			set_store_entry(&listing->entries[i], &entry);
			set_entry_print(&entry, line, sizeof(line));
			fprintf(out, "%s\n", line);
		}
		if (listing)
			listing_free(listing);
		if (!out || fclose(out) != 0)
			return -ENOMEM;
		to = &policy->sets[policy->set_count++];
		*to = (struct policy_set){.entries = text, .length = length};
		memcpy(to->name, head->slots[set].name, sizeof(to->name));
	}
	return 0;
}

/* -- the module -- */

static void sets_status(struct agent *agent, void *state, struct json_write *out)
{
	const struct sets *sets = state;
	size_t count = 0, entries = 0;

	(void)agent;
	for (unsigned int set = 0; set < SET_MAX; set++) {
		count += set_exists(sets, set);
		entries += set_store_count(sets->store, set);
	}
	json_write_object_begin(out, "sets");
	json_write_number(out, "sets", count);
	json_write_number(out, "entries", entries);
	write_totals(out, sets);
	json_write_object_end(out);
}

static void sets_metrics(struct agent *agent, void *state, struct evbuffer *out)
{
	const struct sets *sets = state;

	(void)agent;
	metrics_head(out, "weir_set_entries", "gauge", "Entries of a set.");
	for (unsigned int set = 0; set < SET_MAX; set++)
		if (set_exists(sets, set))
			metrics_labelled(out, "weir_set_entries", "set",
				set_store_head(sets->store)->slots[set].name,
				set_store_count(sets->store, set));
	metrics_single(out, "weir_set_memory_bytes", "gauge", "Memory of all sets.",
		set_store_bytes(sets->store) + set_tries_bytes(&sets->tries[0]) +
			set_tries_bytes(&sets->tries[1]));
}

static void sets_close(void *state)
{
	struct sets *sets = state;

	if (sets->job) {
		pthread_join(sets->job->thread, NULL);
		job_free(sets->job);
	}
	if (sets->timer)
		event_free(sets->timer);
	for (int place = 0; place < 2; place++)
		set_tries_close(&sets->tries[place]);
	set_tries_close(&sets->next);
	for (unsigned int set = 0; set < SET_MAX; set++)
		free(sets->ports[set]);
	set_store_close(sets->store);
	free(sets);
}

/* An agent may have been killed at any point.  In which place the datapath looks tells how far it had come.
 */
static int versions_adopt(struct sets *sets, const struct policy_now *now, struct error *error)
{
	struct set_head *head = set_store_head(sets->store);
	unsigned int place = now->places >> SET_PLACE & 1;
	int r = 0;

	if (head->pending && place != head->place) {
		r = before_restore(sets, error);
	} else if (head->pending && !now->deadline) {
		head->pending = false;
		set_store_copy(sets->store, EVERY_SET, 0, SET_BEFORE);
	} else if (!head->pending && place != head->place) {
		/* switched, and nobody was left to say so */
		if (now->deadline) {
			set_store_copy(sets->store, EVERY_SET, SET_NOW, SET_BEFORE);
			head->pending = true;
		}
		set_store_copy(sets->store, EVERY_SET, SET_NEXT, SET_NOW);
	}
	set_store_copy(sets->store, EVERY_SET, 0, SET_NEXT);
	head->place = place;
	return r;
}

/* Builds again what an agent before us had, in the place that is in force. */
static int sets_adopt(struct sets *sets, struct error *error)
{
	const struct set_head *head = set_store_head(sets->store);
	struct engine *engine = sets->agent->engine;
	struct policy_now now = {};
	bool any = false;
	int r = engine_policy_now(engine, &now);

	if (r < 0)
		return error_set(error, r, "cannot read which policy is in force: %s", strerror(-r));
	r = versions_adopt(sets, &now, error);
	for (unsigned int set = 0; set < SET_MAX; set++)
		any |= set_store_count(sets->store, set) && head->slots[set].kind == SET_ADDRESSES;
	if (r < 0 || !any || sets->tries[head->place].trie[0])
		return r;
	r = set_tries_build(engine, sets->store, SET_NOW, &sets->tries[head->place], NULL, error);
	for (int i = 0; i < 2 && r == 0; i++)
		r = engine_set_memory_bring(
			engine, i ? 6 : 4, head->place, &sets->tries[head->place].memory[i], error);
	return r;
}

static int sets_open(struct agent *agent, void **ret_state, struct error *error)
{
	const struct timeval second = {.tv_sec = 1};
	struct sets *sets = calloc(1, sizeof(*sets));
	int r;

	if (!sets)
		return error_set(error, -ENOMEM, "out of memory");
	*ret_state = sets;
	sets->agent = agent;
	r = set_store_open(agent->engine, &sets->store, error);
	if (r == 0)
		r = sets_adopt(sets, error);
	if (r < 0)
		return r;
	sets->timer = event_new(agent->base, -1, EV_PERSIST, on_timer, sets);
	if (!sets->timer || event_add(sets->timer, &second) < 0)
		return error_set(error, -ENOMEM, "out of memory");
	return 0;
}

static const struct route sets_routes[] = {
	{"/v1/sets", EVHTTP_REQ_GET, reply_sets},
	{"/v1/sets/show", EVHTTP_REQ_GET, reply_show},
	{"/v1/sets/create", EVHTTP_REQ_POST, reply_create},
	{"/v1/sets/add", EVHTTP_REQ_POST, reply_add},
	{"/v1/sets/remove", EVHTTP_REQ_POST, reply_remove},
	{"/v1/sets/load", EVHTTP_REQ_POST, reply_load},
	{"/v1/sets/flush", EVHTTP_REQ_POST, reply_flush},
	{"/v1/sets/destroy", EVHTTP_REQ_POST, reply_destroy},
	{NULL},
};

const struct module set_module = {
	.name = "set",
	.open = sets_open,
	.close = sets_close,
	.status = sets_status,
	.metrics = sets_metrics,
	.routes = sets_routes,
};
