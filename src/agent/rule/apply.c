// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
#include "agent/rule/apply.h"

#include <errno.h>
#include <event2/buffer.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "agent/forward/forwards.h"
#include "agent/internal.h"
#include "agent/owner/audit.h"
#include "agent/rule/policies.h"
#include "agent/rule/rules.h"
#include "agent/service/services.h"
#include "agent/set/sets.h"
#include "agent/shape/shape_plan.h"
#include "basic/cleanup.h"
#include "basic/log.h"

#define DIFF_LINES_MAX 100000 /* of one answer */

#define _cleanup_policy_ _cleanup_(policy_text_clear)

/* -- from a text to a book -- */

/* Sentences of a list, behind those of the sections (NULL: a tenant's, it has none), each with its verb.  The
 * array, and as many of its first texts as *ret_made says, are the caller's. */
static char **sentences_make(
	const struct policy_sentences *sections, const struct policy_list *text, size_t *ret_made)
{
	size_t count = 0, made = 0;
	bool whole = true;
	char **sentences;

	for (size_t i = 0; sections && i < POLICY_SECTIONS; i++)
		count += sections[i].count;
	sentences = calloc(count + text->rule_count + 1, sizeof(*sentences));
	for (size_t i = 0; sections && sentences && i < POLICY_SECTIONS; i++)
		for (size_t j = 0; j < sections[i].count && whole; j++, made += whole)
			whole = asprintf(&sentences[made], "%s %s", policy_section_verbs[i],
					sections[i].texts[j]) >= 0;
	if (!whole) {
		for (size_t i = 0; i < made; i++)
			free(sentences[i]);
		free(sentences);
		return NULL;
	}
	for (size_t i = 0; sentences && i < text->rule_count; i++)
		sentences[made + i] = text->rules[i];
	*ret_made = made;
	return sentences;
}

/* What a book is made of: the places of counters and classes, and the book before. */
struct ground {
	struct rule_places *places;
	const struct rulebook *before;
	bool keep; /* the live rules of that one stay */
};

static int sentences_apply(const struct ground *ground, const struct policy_sentences *sections,
	const struct policy_list *text, const struct rule_list *old, struct rule_list *ret_list,
	struct error *error)
{
	size_t made = 0;
	char **sentences = sentences_make(sections, text, &made);
	int r;

	if (!sentences)
		return error_set(error, -ENOMEM, "out of memory");
	r = rule_list_make(ground->places, sentences, old, !ground->keep, ret_list, error);
	for (size_t i = 0; i < made; i++)
		free(sentences[i]);
	free(sentences);
	return r;
}

static int list_apply(const struct ground *ground, const struct policy_sentences *sections,
	const struct policy_list *text, const struct rule_list *old, struct rule_policy *policy,
	struct error *error)
{
	struct rule_list list;
	int r = sentences_apply(ground, sections, text, old, &list, error);

	if (r < 0)
		return r;
	if (ground->keep)
		r = rule_list_merge(&list, old);
	rule_list_clear(&policy->list);
	policy->list = list;
	policy->defaults[0] = text->defaults[0];
	policy->defaults[1] = text->defaults[1];
	policy->log = text->log;
	return r < 0 ? error_set(error, r, "out of memory") : 0;
}

static int tenant_apply(const struct ground *ground, const struct policy_tenant *tenant,
	struct rulebook *book, struct error *error)
{
	static const struct rule_list none;
	const struct rule_policy *before = rulebook_policy(ground->before, tenant->name);
	struct rule_policy *policy;
	int r = rulebook_tenant_add(book, ground->before, tenant->name, &policy, error);

	if (r < 0)
		return r;
	policy->generation = before ? before->generation : 0;
	if (rule_policy_give(policy, tenant->interfaces, tenant->cgroups) < 0)
		return error_set(error, -ENOMEM, "out of memory");
	return list_apply(ground, NULL, &tenant->list, before ? &before->list : &none, policy, error);
}

static int book_make(const struct ground *ground, const struct policy_text *policy, struct rulebook *ret_book,
	struct error *error)
{
	const struct rule_policy *host = &ground->before->policies[0];
	struct rulebook book;
	int r = rulebook_init(&book);

	if (r < 0)
		return error_set(error, r, "out of memory");
	book.policies[0].generation = host->generation;
	book.applied = !ground->keep;
	r = list_apply(ground, policy->sections, &policy->host, &host->list, &book.policies[0], error);
	for (size_t i = 0; i < policy->tenant_count && r == 0; i++)
		r = tenant_apply(ground, &policy->tenants[i], &book, error);
	if (r < 0)
		rulebook_clear(&book);
	else
		*ret_book = book;
	return r;
}

int apply_book(struct agent *agent, const struct policy_text *policy, bool keep, struct rulebook *ret_book,
	struct error *error)
{
	const struct ground ground = {rules_places(agent), rules_book(agent), keep};

	return book_make(&ground, policy, ret_book, error);
}

/* -- without an agent -- */

/* Where the sentence of a list of the book stands in the text; SIZE_MAX: it came from none. */
static size_t sentence_at(const struct policy_text *policy, size_t list, size_t place)
{
	const struct policy_list *text = list ? &policy->tenants[list - 1].list : &policy->host;

	for (size_t i = 0; list == 0 && i < POLICY_SECTIONS; i++) {
		const struct policy_sentences *sentences = &policy->sections[i];

		if (place < sentences->count)
			return sentences->at ? sentences->at[place] : SIZE_MAX;
		place -= sentences->count;
	}
	return text->rules_at && place < text->rule_count ? text->rules_at[place] : SIZE_MAX;
}

static void error_locate(struct error *error, const struct policy_text *policy, const struct rulebook *book,
	const struct rule_entry *about, const char *text, const char *name)
{
	for (size_t p = 0; p < book->count; p++)
		for (size_t i = 0; i < book->policies[p].list.count; i++) {
			size_t at = SIZE_MAX;

			if (book->policies[p].list.slots[i].entry == about)
				at = sentence_at(policy, p, i);
			if (at != SIZE_MAX) {
				error_at(error, name, text, at);
				return;
			}
		}
}

/* `agent` may be NULL: then backends are not looked for. */
static int text_check(struct agent *agent, const struct policy_text *policy, const char *text,
	const char *name, struct error *error)
{
	struct rule_places *places = calloc(1, sizeof(*places));
	struct rulebook none = {}, book = {};
	struct shape_plan plan = {};
	const struct rule_entry *about = NULL;
	int r;

	if (!places || rulebook_init(&none) < 0) {
		free(places);
		error_set(error, -ENOMEM, "out of memory");
		return -ENOMEM;
	}
	r = book_make(&(struct ground){places, &none, false}, policy, &book, error);
	if (r == 0)
		r = shape_plan_make(&book, SHAPE_PLAN_ABSENT, NULL, NULL, &plan, &about, error);
	if (r == 0 && agent)
		r = services_prepare(agent, &book, false, &about, error);
	if (r < 0 && about)
		error_locate(error, policy, &book, about, text, name);
	shape_plan_clear(&plan);
	rulebook_clear(&book);
	rulebook_clear(&none);
	free(places);
	return r;
}

int apply_check(const struct policy_text *policy, const char *text, const char *name, struct error *error)
{
	return text_check(NULL, policy, text, name, error);
}

/* -- from a book to a text -- */

static int list_text(const struct rule_policy *policy, bool saved, struct policy_list *list, size_t *left_out)
{
	list->defaults[0] = policy->defaults[0];
	list->defaults[1] = policy->defaults[1];
	list->log = policy->log;
	list->rules = calloc(policy->list.count + 1, sizeof(*list->rules));
	if (!list->rules)
		return -ENOMEM;
	for (size_t i = 0; i < policy->list.count; i++) {
		const struct rule_entry *entry = policy->list.slots[i].entry;

		if (policy_section_find(rule_verbs[entry->rule.verb]) < POLICY_SECTIONS)
			continue;
		if (saved && entry->ends_ns) {
			(*left_out)++;
			continue;
		}
		list->rules[list->rule_count] = strdup(entry->text);
		if (!list->rules[list->rule_count])
			return -ENOMEM;
		list->rule_count++;
	}
	return 0;
}

/* What the host has in sections of their own, without the verbs in front. */
static int sections_text(const struct rule_list *list, struct policy_text *text)
{
	for (size_t i = 0; i < POLICY_SECTIONS; i++) {
		text->sections[i].texts = calloc(list->count + 1, sizeof(*text->sections[i].texts));
		if (!text->sections[i].texts)
			return -ENOMEM;
	}
	for (size_t i = 0; i < list->count; i++) {
		const struct rule_entry *entry = list->slots[i].entry;
		enum policy_section section = policy_section_find(rule_verbs[entry->rule.verb]);
		struct policy_sentences *sentences;

		if (section == POLICY_SECTIONS)
			continue;
		sentences = &text->sections[section];
		sentences->texts[sentences->count] =
			strdup(entry->text + strlen(policy_section_verbs[section]) + 1);
		if (!sentences->texts[sentences->count])
			return -ENOMEM;
		sentences->count++;
	}
	return 0;
}

static int tenants_text(const struct rulebook *book, bool saved, struct policy_text *text, size_t *left_out)
{
	int r = 0;

	if (book->count < 2)
		return 0;
	text->tenants = calloc(book->count - 1, sizeof(*text->tenants));
	if (!text->tenants)
		return -ENOMEM;
	for (size_t i = 1; i < book->count && r == 0; i++) {
		struct policy_tenant *tenant = &text->tenants[text->tenant_count++];

		memcpy(tenant->name, book->policies[i].name, sizeof(tenant->name));
		tenant->interfaces = words_copy(book->policies[i].interfaces);
		tenant->cgroups = words_copy(book->policies[i].cgroups);
		r = tenant->interfaces && tenant->cgroups ? 0 : -ENOMEM;
		if (r == 0)
			r = list_text(&book->policies[i], saved, &tenant->list, left_out);
	}
	return r;
}

/* The policy in force.  `saved`: without rules that end by themselves, which are counted. */
static int policy_text_make(struct agent *agent, bool saved, struct policy_text *ret_text, size_t *left_out)
{
	const struct rulebook *book = rules_book(agent);
	struct policy_text text;
	int r;

	policy_text_init(&text);
	r = list_text(&book->policies[0], saved, &text.host, left_out);
	if (r == 0)
		r = sections_text(&book->policies[0].list, &text);
	if (r == 0)
		r = tenants_text(book, saved, &text, left_out);
	if (r == 0)
		r = sets_text(agent, &text);
	if (r < 0)
		policy_text_clear(&text);
	else
		*ret_text = text;
	return r;
}

/* The policy as YAML; to be freed. */
static int policy_print(const struct policy_text *policy, char **ret_text, size_t *ret_length)
{
	_cleanup_free_ char *text = NULL;
	size_t length = 0;
	FILE *out = open_memstream(&text, &length);
	int r;

	if (!out)
		return -ENOMEM;
	r = policy_text_print(policy, out);
	if (fclose(out) != 0 && r == 0)
		r = -ENOMEM;
	if (r < 0)
		return r;
	*ret_text = TAKE(text);
	*ret_length = length;
	return 0;
}

/* -- requests -- */

/* The policy in a request's body. */
static int body_read(struct evhttp_request *request, struct policy_text *ret_policy, struct error *error)
{
	struct evbuffer *body = evhttp_request_get_input_buffer(request);
	size_t length = evbuffer_get_length(body);
	const char *text = length ? (const char *)evbuffer_pullup(body, -1) : "";
	_cleanup_free_ char *name = query_value(query_of(request), "name");

	if (!text)
		return error_set(error, -ENOMEM, "out of memory");
	if (!length) {
		error_set(error, -EINVAL, "there is no policy in the request");
		return error_want(error, "YAML in its body, such as rules: [drop in tcp to port 80]");
	}
	return policy_text_read(text, length, name ? name : "policy", ret_policy, error);
}

/* How many rules of one book are in the other, too: the entries that both share.  *ret_changed: how many of
 * the others are rules of that one with other words. */
static size_t rules_shared(const struct rulebook *a, const struct rulebook *b, size_t *ret_changed)
{
	size_t shared = 0, changed = 0;

	for (size_t p = 0; p < b->count; p++)
		for (size_t i = 0; i < b->policies[p].list.count; i++)
			b->policies[p].list.slots[i].entry->previous = NULL;
	for (size_t p = 0; p < a->count; p++)
		for (size_t i = 0; i < a->policies[p].list.count; i++)
			a->policies[p].list.slots[i].entry->previous = a->policies[p].list.slots[i].entry;
	for (size_t p = 0; p < b->count; p++)
		for (size_t i = 0; i < b->policies[p].list.count; i++) {
			const struct rule_entry *entry = b->policies[p].list.slots[i].entry;

			shared += entry->previous != NULL;
			changed += !entry->previous && entry->id; /* who is new has none yet */
		}
	*ret_changed = changed;
	return shared;
}

struct applied {
	size_t rules, added, removed, changed, kept;
	uint64_t started_ns;
	struct rules_change change;
};

static void applied_write(struct agent *agent, struct json_write *out, const struct applied *applied)
{
	uint64_t deadline;

	json_write_object_begin(out, NULL);
	json_write_boolean(out, "applied", !applied->change.check);
	json_write_number(out, "generation", rules_book(agent)->policies[0].generation);
	json_write_number(out, "rules", applied->rules);
	json_write_number(out, "added", applied->added);
	json_write_number(out, "removed", applied->removed);
	json_write_number(out, "changed", applied->changed);
	json_write_number(out, "kept", applied->kept);
	json_write_number(out, "checked", applied->change.result.checked);
	json_write_real(out, "seconds", (double)(agent_now_ns() - applied->started_ns) / 1e9, 3);
	if (rules_pending(agent, &deadline))
		answer_time(out, "deadline", deadline);
	json_write_array_begin(out, "warnings");
	rules_write_shadows(agent, out, &applied->change.result);
	if (!applied->change.check) {
		rules_write_absent(agent, out);
		forwards_write_warnings(agent, out, NULL);
		services_write_warnings(agent, out, NULL);
	}
	json_write_array_end(out);
	json_write_object_end(out);
}

/* -- requests that take their time -- */

#define PROGRESS_US 250000

/* Who asked, and how they are answered when it is done. */
struct job {
	struct agent *agent;
	struct evhttp_request *request; /* NULL: followed by the feed, or gone */
	struct feed *feed;              /* with progress; NULL: without */
	struct event *progress;
	struct audit_who who;
	bool begun, ended;
	/* of a policy */
	struct policy_text policy;
	char *name;
	struct applied applied;
};

static void job_free(struct job *job)
{
	if (job->request)
		evhttp_connection_set_closecb(evhttp_request_get_connection(job->request), NULL, NULL);
	if (job->progress)
		event_free(job->progress);
	feed_free(job->feed);
	policy_text_clear(&job->policy);
	free(job->name);
	free(job);
}

/* Whoever asked went away: it is done all the same.  As with a list (api.c), a request that libevent has
 * parted from its connection is ours to end. */
static void job_closed(struct evhttp_connection *connection, void *context)
{
	struct job *job = context;
	struct evhttp_request *request = job->request;

	(void)connection;
	job->request = NULL;
	if (!evhttp_request_get_connection(request))
		evhttp_send_reply_end(request);
}

static struct job *job_new(struct agent *agent, struct evhttp_request *request)
{
	struct job *job = calloc(1, sizeof(*job));

	if (!job) {
		reply_failure(request, -ENOMEM);
		return NULL;
	}
	job->agent = agent;
	job->request = request;
	job->who = audit_who(request);
	job->applied.started_ns = agent_now_ns();
	evhttp_connection_set_closecb(evhttp_request_get_connection(request), job_closed, job);
	return job;
}

/* The request, to be answered: nobody waits for its end any more. */
static struct evhttp_request *job_take(struct job *job)
{
	struct evhttp_request *request = job->request;

	if (request)
		evhttp_connection_set_closecb(evhttp_request_get_connection(request), NULL, NULL);
	job->request = NULL;
	return request;
}

/* The answer: a document, or (`error` not NULL) why there is none. */
static void job_answer(struct job *job, struct json_write *json, const struct error *error)
{
	struct evhttp_request *request = job_take(job);

	if (error && job->feed)
		answer_error(error, json);
	if (job->feed)
		feed_publish(job->feed, NULL, json);
	else if (request && error)
		reply_refusal(request, error);
	else if (request)
		reply_json(request, HTTP_OK, "OK", json);
	json_write_free(json);
	job->ended = true;
}

/* Behind the answer: whoever began it frees it, if that is not over yet. */
static void job_release(struct job *job)
{
	if (job->begun)
		job_free(job);
}

static void on_progress(evutil_socket_t fd, short what, void *context)
{
	const struct job *job = context;
	struct json_write json = {};

	(void)fd;
	(void)what;
	json_write_object_begin(&json, NULL);
	rules_write_running(job->agent, &json);
	json_write_object_end(&json);
	feed_publish(job->feed, NULL, &json);
	json_write_free(&json);
}

/* Tells how far it is, if somebody asked for that. */
static void progress_start(struct job *job)
{
	const struct timeval interval = {.tv_usec = PROGRESS_US};
	struct evhttp_request *request;

	job->feed = feed_new(job->agent);
	job->progress = event_new(job->agent->base, -1, EV_PERSIST, on_progress, job);
	if (!job->feed || !job->progress || event_add(job->progress, &interval) < 0) {
		feed_free(job->feed);
		job->feed = NULL; /* the result alone */
		return;
	}
	request = job_take(job);
	if (request)
		feed_follow(job->feed, request, NULL, NULL);
}

/* It goes on by itself (`r` 0), or was refused at once. */
static void job_begin(struct job *job, int r, bool progress, const struct error *error)
{
	struct json_write json = {};

	if (r < 0)
		job_answer(job, &json, error);
	job->begun = true;
	if (job->ended)
		job_release(job);
	else if (progress && job->request)
		progress_start(job);
}

static void applied_answer(struct job *job, const struct rules_change *change)
{
	struct applied *applied = &job->applied;
	struct json_write json = {};

	applied->change = *change;
	if (!change->check) {
		log_info("policy %s applied: %zu rules, %zu new, %zu changed, %zu gone",
			job->name ? job->name : "", applied->rules, applied->added, applied->changed,
			applied->removed);
		audit_change_by(job->agent, &job->who,
			"applied %.120s: %zu rules, %zu new, %zu changed, %zu gone",
			job->name ? job->name : "a policy", applied->rules, applied->added, applied->changed,
			applied->removed);
	}
	applied_write(job->agent, &json, applied);
	job_answer(job, &json, NULL);
}

static void on_applied(void *context, int r, const struct rules_change *change, const struct error *error)
{
	struct job *job = context;
	struct json_write json = {};

	if (r < 0)
		job_answer(job, &json, error);
	else
		applied_answer(job, change);
	job_release(job);
}

/* An error that is about a sentence of the file says where that stands. */
static void refusal_locate(struct job *job, const char *query, struct error *error)
{
	struct evbuffer *body = evhttp_request_get_input_buffer(job->request);
	size_t length = evbuffer_get_length(body);
	const char *sent = length ? (const char *)evbuffer_pullup(body, -1) : NULL;
	char *text = sent ? strndup(sent, length) : NULL; /* with a NUL behind it */
	_cleanup_free_ char *name = query_value(query, "name");
	struct error found = {};

	if (text && !error->line &&
		text_check(job->agent, &job->policy, text, name ? name : "policy", &found) < 0 &&
		strcmp(found.what, error->what) == 0)
		*error = found;
	free(text);
}

static int apply(struct job *job, const char *query, bool *ret_progress, struct error *error)
{
	static const char *const names[] = {"name", "confirm", "cut", "check", "progress", NULL};
	struct applied *applied = &job->applied;
	struct agent *agent = job->agent;
	struct rulebook book = {};
	size_t before = rulebook_rules(rules_book(agent));
	int r = query_check(query, names, error);

	if (r == 0)
		r = query_flag(query, "progress", ret_progress, error);
	if (r == 0)
		r = rules_change_read(query, &applied->change, error);
	if (r == 0)
		r = rules_check_settled(agent, error);
	if (r == 0)
		r = body_read(job->request, &job->policy, error);
	if (r == 0)
		r = apply_book(agent, &job->policy, false, &book, error);
	if (r < 0)
		return r;
	job->name = query_value(query, "name");
	applied->change.whole = applied->change.all = true;
	applied->change.sets = &job->policy;
	applied->rules = rulebook_rules(&book);
	applied->kept = rules_shared(rules_book(agent), &book, &applied->changed);
	applied->added = applied->rules - applied->kept - applied->changed;
	applied->removed = before - applied->kept - applied->changed;
	r = rules_commit_later(agent, &book, &applied->change, on_applied, job, error);
	if (r < 0)
		refusal_locate(job, query, error);
	return r;
}

static void reply_apply(struct agent *agent, struct evhttp_request *request)
{
	struct job *job = job_new(agent, request);
	struct error error = {};
	bool progress = false;

	if (job)
		job_begin(job, apply(job, query_of(request), &progress, &error), progress, &error);
}

static void reply_policy(struct agent *agent, struct evhttp_request *request)
{
	static const char *const names[] = {NULL};
	_cleanup_policy_ struct policy_text policy = {};
	_cleanup_free_ char *text = NULL;
	struct evbuffer *body;
	struct error error = {};
	size_t length = 0, left_out = 0;
	int r;

	if (query_check(query_of(request), names, &error) < 0) {
		reply_bad_request(request, &error);
		return;
	}
	r = policy_text_make(agent, false, &policy, &left_out);
	if (r == 0)
		r = policy_print(&policy, &text, &length);
	body = r == 0 ? evbuffer_new() : NULL;
	if (body && evbuffer_add(body, text, length) == 0) {
		evhttp_add_header(
			evhttp_request_get_output_headers(request), "Content-Type", "application/yaml");
		evhttp_send_reply(request, HTTP_OK, "OK", body);
	} else {
		reply_failure(request, r < 0 ? r : -ENOMEM);
	}
	if (body)
		evbuffer_free(body);
}

static void reply_confirm(struct agent *agent, struct evhttp_request *request)
{
	struct error error = {};

	if (rules_confirm(agent, &error) < 0) {
		reply_error(request, 409, "Conflict", &error);
		return;
	}
	log_info("the change is confirmed");
	audit_change(agent, request, "confirmed the change");
	reply_done(request, "confirmed");
}

static void on_rolled_back(void *context, int r, const struct rules_change *change, const struct error *error)
{
	struct job *job = context;
	struct json_write json = {};

	(void)change;
	if (r == 0) {
		log_info("back to the rules before");
		audit_change_by(job->agent, &job->who, "went back to the rules before");
		json_write_object_begin(&json, NULL);
		json_write_boolean(&json, "rolled_back", true);
		json_write_number(&json, "generation", rules_book(job->agent)->policies[0].generation);
		json_write_number(&json, "rules", rulebook_rules(rules_book(job->agent)));
		json_write_object_end(&json);
	}
	job_answer(job, &json, r < 0 ? error : NULL);
	job_release(job);
}

static void reply_rollback(struct agent *agent, struct evhttp_request *request)
{
	struct error error = {};
	struct job *job;

	if (!rules_can_roll_back(agent, &error)) {
		reply_error(request, 409, "Conflict", &error);
		return;
	}
	job = job_new(agent, request);
	if (job)
		job_begin(job, rules_rollback(agent, on_rolled_back, job, &error), false, &error);
}

/* -- differences -- */

struct diff {
	struct json_write *out;
	size_t lines;
};

static int diff_line(void *context, char sign, const char *tenant, const char *text)
{
	struct diff *diff = context;

	json_write_object_begin(diff->out, NULL);
	json_write_string(diff->out, "sign", (const char[]){sign, 0});
	json_write_string(diff->out, "tenant", tenant);
	json_write_string(diff->out, "text", text);
	json_write_object_end(diff->out);
	return ++diff->lines == DIFF_LINES_MAX;
}

static void reply_diff(struct agent *agent, struct evhttp_request *request)
{
	static const char *const names[] = {"name", NULL};
	_cleanup_policy_ struct policy_text now = {}, policy = {};
	struct json_write json = {};
	struct diff diff = {.out = &json};
	struct error error = {};
	size_t left_out = 0;
	int r = query_check(query_of(request), names, &error);

	if (r == 0)
		r = body_read(request, &policy, &error);
	if (r < 0) {
		reply_bad_request(request, &error);
		return;
	}
	r = policy_text_make(agent, false, &now, &left_out);
	json_write_object_begin(&json, NULL);
	json_write_array_begin(&json, "diff");
	if (r == 0)
		r = policy_text_diff(&now, &policy, diff_line, &diff);
	json_write_array_end(&json);
	json_write_object_end(&json);
	if (r < 0)
		reply_failure(request, r);
	else
		reply_json(request, HTTP_OK, "OK", &json);
	json_write_free(&json);
}

/* -- saving -- */

/* Where the policy is kept for the next start. */
int apply_save_path(struct agent *agent, char *buffer, size_t size, struct error *error)
{
	const char *configured = agent->config.policy_file, *file = agent->options->config_file, *slash;
	int length;

	if (!configured && !file) {
		error_set(error, -ENOENT, "there is no file for the policy");
		return error_want(error, "an agent with a configuration file ('weir run --config FILE')");
	}
	slash = file ? strrchr(file, '/') : NULL;
	if (!configured)
		configured = "policy.yaml";
	if (*configured == '/' || !slash)
		length = snprintf(buffer, size, "%s", configured);
	else
		length = snprintf(buffer, size, "%.*s/%s", (int)(slash - file), file, configured);
	if (length < 0 || (size_t)length >= size)
		return error_set(error, -ENAMETOOLONG, "the name of the policy's file is too long");
	return 0;
}

/* Whole or not at all: a file beside it takes its place. */
static int file_write(const char *path, const char *text, size_t length)
{
	char temporary[PATH_MAX + 8];
	int fd, r = 0;

	snprintf(temporary, sizeof(temporary), "%s.new", path);
	fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return -errno;
	for (size_t done = 0; done < length && r == 0;) {
		ssize_t n = write(fd, text + done, length - done);

		if (n < 0)
			r = -errno;
		else
			done += (size_t)n;
	}
	if (r == 0 && fsync(fd) < 0)
		r = -errno;
	if (close(fd) < 0 && r == 0)
		r = -errno;
	if (r == 0 && rename(temporary, path) < 0)
		r = -errno;
	if (r < 0)
		unlink(temporary);
	return r;
}

static int policy_write(struct agent *agent, const char *path, size_t *left_out)
{
	struct policy_text policy = {};
	char *text = NULL;
	size_t length = 0;
	int r = policy_text_make(agent, true, &policy, left_out);

	if (r == 0)
		r = policy_print(&policy, &text, &length);
	if (r == 0)
		r = file_write(path, text, length);
	policy_text_clear(&policy);
	free(text);
	return r;
}

static int save(struct agent *agent, char *path, size_t size, size_t *ret_rules, size_t *left_out,
	struct error *error)
{
	int r = apply_save_path(agent, path, size, error);

	if (r < 0)
		return r;
	r = rules_check_settled(agent, error);
	if (r < 0)
		return r;
	r = policy_write(agent, path, left_out);
	if (r < 0)
		return error_set(error, r, "cannot write %s: %s", path, strerror(-r));
	*ret_rules = rulebook_rules(rules_book(agent)) - *left_out;
	rules_saved(agent);
	return 0;
}

static void reply_save(struct agent *agent, struct evhttp_request *request)
{
	static const char *const names[] = {NULL};
	struct json_write json = {};
	struct error error = {};
	char path[PATH_MAX];
	size_t rules = 0, left_out = 0;
	int r = query_check(query_of(request), names, &error);

	if (r == 0)
		r = save(agent, path, sizeof(path), &rules, &left_out, &error);
	if (r < 0) {
		reply_refusal(request, &error);
		return;
	}
	log_info("policy saved in %s", path);
	audit_change(agent, request, "saved the policy in %.150s: %zu rules", path, rules);
	json_write_object_begin(&json, NULL);
	json_write_string(&json, "saved", path);
	json_write_number(&json, "rules", rules);
	json_write_number(&json, "left_out", left_out);
	json_write_object_end(&json);
	reply_json(request, HTTP_OK, "OK", &json);
	json_write_free(&json);
}

static const struct route routes[] = {
	{"/v1/policy", EVHTTP_REQ_GET, reply_policy},
	{"/v1/policy", EVHTTP_REQ_POST, reply_apply, LIST_BODY_MAX},
	{"/v1/policy/confirm", EVHTTP_REQ_POST, reply_confirm},
	{"/v1/policy/rollback", EVHTTP_REQ_POST, reply_rollback},
	{"/v1/policy/diff", EVHTTP_REQ_POST, reply_diff, LIST_BODY_MAX},
	{"/v1/policy/save", EVHTTP_REQ_POST, reply_save},
	{NULL},
};

const struct module apply_module = {
	.name = "apply",
	.routes = routes,
};
