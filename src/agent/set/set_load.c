// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* Large changes of a set: read and built by a thread, beside everything else. */
#include <errno.h>
#include <event2/buffer.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "agent/owner/audit.h"
#include "agent/rule/rules.h"
#include "agent/set/sets_internal.h"
#include "basic/log.h"

#define PROGRESS_NS 250000000

/* A large change, built by a thread.  While it runs the store is the thread's. */
struct set_load {
	struct agent *agent;
	pthread_t thread;
	int done; /* eventfd */
	struct event *event, *progress_timer;
	unsigned int set;
	bool skip_bad, cut, replace;
	uint64_t expires_ns;
	struct evbuffer *list; /* what is left of it; the thread's */
	size_t lines;
	uint64_t began_ns;
	size_t read, built; /* progress: entries */
	size_t bad, before;
	struct set_tries tries;
	struct error error;
	int result;
	struct feed *feed;
};

/* -- loading -- */

struct loading {
	struct set_load *load;
	struct set_store *store;
	enum set_kind kind;
};

static int loading_put(void *context, const struct set_entry *entry)
{
	struct loading *loading = context;
	struct set_load *load = loading->load;
	int r = set_store_put(loading->store, load->set, entry, load->expires_ns, SET_NEXT);

	if (r < 0)
		return r;
	__atomic_store_n(&load->read, load->read + 1, __ATOMIC_RELAXED);
	return 0;
}

/* What was read is not held any longer. */
static ssize_t list_take(void *from, char *buffer, size_t size)
{
	return evbuffer_remove(from, buffer, size);
}

static int load_load(struct set_load *load)
{
	struct sets *sets = sets_of(load->agent);
	struct loading loading = {.load = load, .store = sets->store};
	const struct set_slot *slot = &set_store_head(sets->store)->slots[load->set];
	uint64_t others = EVERY_SET & ~(load->replace ? 1ULL << load->set : 0);
	int r;

	set_store_copy(sets->store, EVERY_SET, 0, SET_NEXT);
	set_store_copy(sets->store, others, SET_NOW, SET_NEXT);
	r = set_list_stream(list_take, load->list, slot->name, load->skip_bad, loading_put, &loading,
		&load->bad, &load->error);
	malloc_trim(0); /* the list came in many small pieces */
	if (r == -ENOSPC)
		error_set(&load->error, r, "there is no room for more than %d entries in all sets",
			SET_ENTRIES_MAX);
	else if (r == -ENOMEM)
		error_set(&load->error, r, "out of memory");
	else if (r == -EINVAL && !load->error.what[0])
		r = set_fail_kind(&load->error, slot->name, (enum set_kind)slot->kind);
	if (r < 0 || slot->kind == SET_PORTS)
		return r;
	return set_tries_build(
		load->agent->engine, sets->store, SET_NEXT, &load->tries, &load->built, &load->error);
}

static void *load_run(void *context)
{
	struct set_load *load = context;
	uint64_t one = 1;

	load->result = load_load(load);
	if (write(load->done, &one, sizeof(one)) < 0)
		log_error("sets: cannot tell that a load is over: %s", strerror(errno));
	return NULL;
}

static void set_load_free(struct set_load *load)
{
	if (load->event)
		event_free(load->event);
	if (load->progress_timer)
		event_free(load->progress_timer);
	if (load->done >= 0)
		close(load->done);
	set_tries_close(&load->tries);
	feed_free(load->feed);
	evbuffer_free(load->list);
	free(load);
	malloc_trim(0);
}

/* Has what was loaded decide. */
static int load_finish(struct sets *sets, struct set_load *load)
{
	enum set_kind kind = (enum set_kind)set_store_head(sets->store)->slots[load->set].kind;
	int r = load->result;

	if (r == 0 && kind == SET_PORTS) {
		sets_next_commit(sets, false);
		return rules_refresh(sets->agent, &load->error);
	}
	if (r == 0) {
		sets->next = load->tries;
		sets->next_built = true;
		load->tries = (struct set_tries){};
	}
	return sets_next_finish(sets, r, load->cut, &load->error);
}

static void on_done(evutil_socket_t fd, short what, void *context)
{
	struct set_load *load = context;
	struct sets *sets = sets_of(load->agent);
	struct set_slot *slot = &set_store_head(sets->store)->slots[load->set];
	struct json_write json = {};
	int r;

	(void)fd;
	(void)what;
	pthread_join(load->thread, NULL);
	sets->load = NULL;
	r = load_finish(sets, load);
	if (r < 0) {
		answer_error(&load->error, &json);
		log_warning("set %s: %s", slot->name, load->error.what);
		if (!set_store_count(sets->store, load->set) && sets->made >> load->set & 1)
			set_store_destroy(sets->store, load->set);
	} else {
		json_write_object_begin(&json, NULL);
		json_write_string(&json, "set", slot->name);
		json_write_number(&json, "entries", set_store_count(sets->store, load->set));
		json_write_number(&json, "read", load->read);
		json_write_number(&json, "bad", load->bad);
		json_write_number(&json, "before", load->before);
		json_write_real(&json, "seconds", (double)(agent_now_ns() - load->began_ns) / 1e9, 3);
		json_write_object_end(&json);
		log_info("set %s: %zu entries", slot->name, set_store_count(sets->store, load->set));
	}
	sets->made &= ~(1ULL << load->set);
	feed_publish(load->feed, NULL, &json);
	json_write_free(&json);
	set_load_free(load);
}

static void on_progress(evutil_socket_t fd, short what, void *context)
{
	const struct set_load *load = context;
	size_t built = __atomic_load_n(&load->built, __ATOMIC_RELAXED);
	struct json_write json = {};

	(void)fd;
	(void)what;
	json_write_object_begin(&json, NULL);
	json_write_string(&json, "phase", built ? "building" : "reading");
	json_write_number(&json, "done", built ? built : __atomic_load_n(&load->read, __ATOMIC_RELAXED));
	json_write_number(&json, "total", load->lines);
	json_write_object_end(&json);
	feed_publish(load->feed, NULL, &json);
	json_write_free(&json);
}

static int load_open(struct sets *sets, struct set_load *load)
{
	const struct timeval interval = {.tv_usec = PROGRESS_NS / 1000};
	sigset_t all, before;
	int r;

	load->done = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	load->feed = feed_new(sets->agent);
	if (load->done < 0 || !load->feed)
		return -ENOMEM;
	load->event = event_new(sets->agent->base, load->done, EV_READ, on_done, load);
	load->progress_timer = event_new(sets->agent->base, -1, EV_PERSIST, on_progress, load);
	if (!load->event || !load->progress_timer || event_add(load->event, NULL) < 0 ||
		event_add(load->progress_timer, &interval) < 0)
		return -ENOMEM;
	/* signals are the loop's */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	r = pthread_create(&load->thread, NULL, load_run, load);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return -r;
}

/* Takes the request's body.  Answers with a line of progress every quarter of a second, then with the result
 * or an error.
 */
void set_load_start(
	struct sets *sets, struct evhttp_request *request, const struct set_request *change, bool replace)
{
	struct evbuffer *body = evhttp_request_get_input_buffer(request), *list = evbuffer_new();
	size_t length = evbuffer_get_length(body);
	struct set_load *load = calloc(1, sizeof(*load));
	struct error error = {};
	int set = change->set;

	if (set < 0 && load && list) {
		set = sets_make(sets, change->name, true, &error);
		if (set >= 0)
			sets->made |= 1ULL << set;
	}
	if (!load || !list || set < 0) {
		free(load);
		if (list)
			evbuffer_free(list);
		if (error.code)
			set_refuse(request, &error);
		else
			reply_failure(request, -ENOMEM);
		return;
	}
	*load = (struct set_load){.agent = sets->agent,
		.done = -1,
		.set = (unsigned int)set,
		.cut = change->cut,
		.skip_bad = change->skip_bad,
		.expires_ns = change->expires_ns,
		.replace = replace,
		.list = list,
		.lines = set_request_lines(body),
		.began_ns = agent_now_ns(),
		.before = set_store_count(sets->store, (unsigned int)set)};
	evbuffer_add_buffer(list, body);
	sets->load = load;
	if (load_open(sets, load) < 0) {
		sets->load = NULL;
		set_load_free(load);
		reply_failure(request, -ENOMEM);
		return;
	}
	audit_change(sets->agent, request, "set %s: %s a list of %zu bytes", change->name,
		replace ? "loads" : "adds", length);
	feed_follow(load->feed, request, NULL, NULL);
}

void set_reply_load(struct agent *agent, struct evhttp_request *request)
{
	static const char *const parameters[] = {"name", "for", "cut", "skip_bad", NULL};
	struct sets *sets = sets_of(agent);
	struct set_request change = {};
	struct error error = {};

	if (set_request_read(sets, request, parameters, &change, &error) < 0)
		set_refuse(request, &error);
	else
		set_load_start(sets, request, &change, true);
	free(change.name);
}

void set_load_stop(struct set_load *load)
{
	pthread_join(load->thread, NULL);
	set_load_free(load);
}

const char *set_load_name(const struct sets *sets, const struct set_load *load)
{
	return set_store_head(sets->store)->slots[load->set].name;
}

void set_load_write(struct json_write *out, const struct sets *sets, const struct set_load *load)
{
	json_write_object_begin(out, "loading");
	json_write_string(out, "set", set_load_name(sets, load));
	json_write_number(out, "read", __atomic_load_n(&load->read, __ATOMIC_RELAXED));
	json_write_number(out, "built", __atomic_load_n(&load->built, __ATOMIC_RELAXED));
	json_write_object_end(out);
}
