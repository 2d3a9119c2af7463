// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
#include "agent/rule/rules.h"

#include <errno.h>
#include <event2/buffer.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

#include "agent/forward/forwards.h"
#include "agent/forward/steers.h"
#include "agent/internal.h"
#include "agent/owner/audit.h"
#include "agent/owner/families.h"
#include "agent/owner/guards.h"
#include "agent/rule/apply.h"
#include "agent/rule/connections.h"
#include "agent/rule/logs.h"
#include "agent/rule/policies.h"
#include "agent/rule/rule_store.h"
#include "agent/rule/shields.h"
#include "agent/service/services.h"
#include "agent/set/sets.h"
#include "agent/shape/shapes.h"
#include "basic/cleanup.h"
#include "basic/log.h"
#include "basic/units.h"
#include "engine/balance.h"
#include "engine/guard.h"
#include "engine/policy.h"
#include "shared/forward.h"
#include "shared/service.h"

#define ENDED_STAYS_NS 10000000000ULL /* a rule about processes that have all ended */
#define LARGE_RULES    1000           /* from which on a change is another thread's work for a while */

struct rules {
	struct agent *agent;
	struct rule_store store;
	struct rule_places places;
	struct rule_record record;
	uint32_t generation;    /* of the newest change */
	uint64_t interfaces;    /* that the rules' names mean */
	bool tenants;           /* there were some */
	bool tracking;          /* rules in force can end a connection, or ask about one */
	bool stale;             /* names in rules mean something else than when they were compiled */
	struct event *timer;    /* for the next rule that ends, or the deadline */
	struct commit *running; /* a change that another thread compiles and verifies; NULL: none */
};

static struct rules *rules_of(const struct agent *agent)
{
	return module_state(agent, &rules_module);
}

const struct rulebook *rules_book(const struct agent *agent)
{
	return &rules_of(agent)->record.now;
}

const struct rulebook *rules_book_before(const struct agent *agent)
{
	const struct rule_record *record = &rules_of(agent)->record;

	return record->state == RULES_PENDING && record->before.count ? &record->before : NULL;
}

struct rule_places *rules_places(struct agent *agent)
{
	return &rules_of(agent)->places;
}

bool rules_pending(const struct agent *agent, uint64_t *ret_deadline_ns)
{
	const struct rule_record *record = &rules_of(agent)->record;

	if (record->state != RULES_PENDING)
		return false;
	if (ret_deadline_ns)
		*ret_deadline_ns = record->deadline_ns;
	return true;
}

bool rules_busy(const struct agent *agent)
{
	const struct rules *rules = rules_of(agent);

	return rules && rules->running;
}

struct rule_entry *rules_entry(const struct agent *agent, uint32_t id)
{
	struct rule_policy *policy;
	size_t place;

	return rulebook_find(rules_book(agent), id, &policy, &place) ? policy->list.slots[place].entry : NULL;
}

void rules_write_name(const struct agent *agent, struct json_write *out, const char *key, uint32_t id)
{
	const struct rule_entry *entry = rules_entry(agent, id);

	json_write_object_begin(out, key);
	json_write_number(out, "id", id);
	if (entry)
		json_write_string(out, "text", entry->text);
	json_write_object_end(out);
}

/* -- when something happens by itself -- */

/* The earliest end of a rule; 0: none ends. */
static uint64_t end_next(const struct rulebook *book)
{
	uint64_t next = 0;

	for (size_t p = 0; p < book->count; p++) {
		const struct rule_list *list = &book->policies[p].list;

		for (size_t i = 0; i < list->count; i++) {
			uint64_t ends = list->slots[i].entry->ends_ns;

			if (ends && (!next || ends < next))
				next = ends;
		}
	}
	return next;
}

static void timer_set(struct rules *rules)
{
	const struct rule_record *record = &rules->record;
	uint64_t next = record->state == RULES_PENDING ? record->deadline_ns : end_next(&record->now);
	uint64_t now = agent_now_ns(), wait_ns = next > now ? next - now : 0;
	/* the datapath counts in ticks: it is to be first */
	struct timeval wait = {
		(time_t)(wait_ns / 1000000000), (suseconds_t)(wait_ns % 1000000000 / 1000 + 20000)};

	if (!next) {
		event_del(rules->timer);
		return;
	}
	wait.tv_sec += wait.tv_usec / 1000000;
	wait.tv_usec %= 1000000;
	event_add(rules->timer, &wait);
}

/* -- changes -- */

/* The counters of calls of rules that are in no book any more go. */
static void ids_collect(const struct rulebook *book, uint32_t *ids, size_t *count)
{
	for (size_t i = 0; book->count && i < book->policies[0].list.count; i++)
		if (book->policies[0].list.slots[i].entry->guard)
			ids[(*count)++] = book->policies[0].list.slots[i].entry->id;
}

static int compare_ids(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

static void hits_sweep(struct rules *rules)
{
	const struct rule_record *record = &rules->record;
	const struct rulebook *books[] = {&record->now, &record->before, &record->back};
	size_t count = 0, room = 1;
	uint32_t *ids;

	if (!engine_guard_used(rules->agent->engine))
		return;
	for (size_t i = 0; i < sizeof(books) / sizeof(books[0]); i++)
		room += rulebook_rules(books[i]);
	ids = calloc(room, sizeof(*ids));
	for (size_t i = 0; ids && i < sizeof(books) / sizeof(books[0]); i++)
		ids_collect(books[i], ids, &count);
	if (ids) {
		qsort(ids, count, sizeof(*ids), compare_ids);
		engine_guard_sweep(rules->agent->engine, ids, count);
	}
	free(ids);
}

/* What is new in a book gets its number, its generation and its places. */
static int list_number(struct agent *agent, struct rule_policy *policy, uint32_t generation,
	uint32_t *next_id, struct error *error)
{
	int r = 0;

	for (size_t i = 0; i < policy->list.count && r == 0; i++) {
		struct rule_entry *entry = policy->list.slots[i].entry;

		if (!entry->id)
			entry->id = (*next_id)++;
		if (!entry->generation)
			entry->generation = generation;
		r = families_join(agent, entry, error);
		if (r == 0)
			r = rule_entry_place(entry, error);
	}
	return r;
}

/* The policies that are not as they were get the new generation. */
static int book_number(struct rules *rules, struct rulebook *next, uint32_t *next_id, struct error *error)
{
	int r = 0;

	for (size_t i = 0; i < next->count && r == 0; i++) {
		struct rule_policy *policy = &next->policies[i];
		const struct rule_policy *before = rulebook_numbered(&rules->record.now, policy->number);

		if (policy->list.count > RULES_MAX) {
			error_set(error, -ENOSPC, "too many rules: %zu", policy->list.count);
			return error_want(error, "at most %d in a list", RULES_MAX);
		}
		if (before && policies_same(before, policy) && rule_list_alike(&before->list, &policy->list))
			continue;
		policy->generation = rules->generation + 1;
		r = list_number(rules->agent, policy, policy->generation, next_id, error);
	}
	return r;
}

/* A change on its way, as the datapath sees it. */
struct step {
	uint64_t changed; /* policies that switch over */
	uint64_t present; /* that are there afterwards */
	bool cut;
	bool tracking;
	uint64_t deadline_ns;
};

static int sockets_bring(
	struct rules *rules, const struct rulebook *next, struct step *step, struct error *error)
{
	const struct rule_policy *host = &next->policies[0];

	if (rule_list_same(&rules->record.now.policies[0].list, &host->list, RULE_ON_SOCKETS))
		return 0;
	step->changed |= 1ULL << GUARD_PLACE;
	return guards_bring(rules->agent, &host->list, host->generation, error);
}

/*
 * A change on its way: begun, brought beside what is in force and verified (by another thread, if it is
 * large), ended by the switch.
 */
struct commit {
	struct rules *rules;
	struct rulebook *next;
	struct rules_change *change;
	struct step step;
	struct policies_work *works[POLICY_NUMBER_MAX]; /* of policies that are not as they were */
	size_t work_count;
	uint32_t first_id;

	/* of one that another thread works on */
	struct rulebook book;
	struct rules_change own;
	rules_done_function *function;
	void *context;
	pthread_t thread;
	struct engine_balance_load *load; /* what its services need; NULL: nothing */
	int done;                         /* eventfd */
	struct event *event;
	int result;
	struct error error;
	uint64_t began_ns;
};

/* Says what is to be brought to its place beside what is in force. */
static int step_prepare(struct commit *commit, struct error *error)
{
	struct rules *rules = commit->rules;
	const struct rulebook *next = commit->next;
	struct rules_change *change = commit->change;
	struct step *step = &commit->step;
	const struct rulebook *now = &rules->record.now;
	enum policies_verify verify = change->all ? POLICIES_ALL : POLICIES_NEW;
	bool sets = change->sets && sets_prepared(rules->agent);
	int r = sockets_bring(rules, next, step, error);

	if (!services_same(now, next))
		step->changed |= 1ULL << SERVICE_PLACE;
	step->changed |= forwards_changed(now, next);
	if (!steers_same(now, next) || (sets && steers_name_sets(next)))
		step->changed |= 1ULL << STEER_PLACE;
	if (sets)
		step->changed |= 1ULL << SET_PLACE;
	for (size_t i = 0; i < next->count && r == 0; i++) {
		const struct rule_policy *policy = &next->policies[i],
					 *before = rulebook_numbered(now, policy->number);
		bool present = policies_present(policy);

		step->present |= (uint64_t)present << policy->number;
		if (before && policies_same(before, policy) && !(sets && policies_name_sets(policy)))
			continue;
		if (present)
			r = policies_work_new(rules->agent, policy, before, verify, &change->result,
				&commit->works[commit->work_count], error);
		commit->work_count += r == 0 && present;
		if (present || (before && policies_present(before)))
			step->changed |= 1ULL << policy->number;
	}
	for (size_t i = 0; i < now->count; i++)
		if (!rulebook_numbered(next, now->policies[i].number) && policies_present(&now->policies[i]))
			step->changed |= 1ULL << now->policies[i].number;
	step->tracking = policies_tracking(next);
	step->cut = change->cut;
	return r;
}

/* Nothing to switch: there was no policy for packets, and there is none. */
static bool step_is_empty(const struct step *step)
{
	return !step->changed && !step->deadline_ns && !step->cut;
}

static int step_switch(struct rules *rules, const struct step *step, struct error *error)
{
	const struct rule_record *record = &rules->record;
	bool begins = step->tracking && !rules->tracking;
	int r;

	if (step_is_empty(step))
		return 0;
	if (begins)
		connections_pick_up(rules->agent);
	r = engine_policy_switch(rules->agent->engine, step->changed, step->present, step->cut,
		step->tracking, step->deadline_ns, error);
	if (r < 0)
		return r;
	for (size_t i = 0; i < record->now.count; i++)
		policies_begin_defaults(rules->agent, &record->now.policies[i],
			rulebook_numbered(&record->before, record->now.policies[i].number));
	rules->tracking = step->tracking;
	shields_reconcile(rules->agent);
	if (begins)
		connections_pick_up(rules->agent); /* what has begun meanwhile */
	return 0;
}

/* Interfaces and cgroups of tenants; `waiting`: those of before, too. */
static void tenants_assign(struct rules *rules, bool waiting)
{
	struct error problem = {};

	if (rules->record.now.count < 2 && !rules->tenants)
		return;
	rules->tenants = true;
	if (policies_assign(rules->agent, &rules->record.now, waiting, &problem) < 0)
		log_warning("tenants: %s", problem.what);
}

static int places_read(struct rules *rules, uint64_t *ret_places)
{
	struct policy_now now;
	int r = engine_policy_now(rules->agent->engine, &now);

	if (r == 0)
		*ret_places = now.places;
	return r;
}

static int works_run(struct commit *commit, struct error *error)
{
	int r = 0;

	for (size_t i = 0; i < commit->work_count && r == 0; i++)
		r = policies_work_run(commit->works[i], error);
	return r;
}

/* From record->now to `next`; on failure all is as it was. */
static int book_switch(struct commit *commit, struct error *error)
{
	struct rules *rules = commit->rules;
	struct rule_record *record = &rules->record;
	struct rules_change *change = commit->change;
	struct rulebook *next = commit->next;
	struct step *step = &commit->step;
	int r = 0;

	for (size_t i = 0; i < commit->work_count && r == 0; i++)
		r = policies_work_end(commit->works[i], error);
	if (r < 0)
		return r;
	if (change->confirm_ns)
		step->deadline_ns = agent_now_ns() + change->confirm_ns;
	record->before = record->now;
	record->now = *next;
	record->state = RULES_SWITCHING;
	record->deadline_ns = step->deadline_ns;
	record->whole = change->whole;
	record->changed = step->changed;
	r = places_read(rules, &record->places_before);
	if (r == 0)
		r = rule_store_write(&rules->store, record, error);
	if (r == 0)
		r = shapes_bring(rules->agent, &record->now, error);
	if (r == 0 && step->changed >> SERVICE_PLACE & 1)
		r = services_bring(rules->agent, &record->before, &record->now, error);
	if (r == 0 && step->changed >> FORWARD_PLACE & 1)
		r = forwards_bring(rules->agent, &record->before, &record->now, error);
	if (r == 0 && step->changed >> STEER_PLACE & 1)
		r = steers_bring(rules->agent, &record->now, error);
	if (r == 0)
		r = step_switch(rules, step, error);
	if (r < 0) {
		*next = record->now;
		record->now = record->before;
		record->before = (struct rulebook){};
		record->state = RULES_SETTLED;
		rule_store_write(&rules->store, record, NULL);
		shapes_settle(rules->agent, &record->now, NULL);
		services_settle(rules->agent, &record->now, NULL);
		forwards_settle(rules->agent, &record->now, NULL);
		steers_settle(rules->agent, false);
		return r;
	}
	*next = (struct rulebook){};
	return 0;
}

/* What is kept for the next agent is what there is. */
static void record_write(struct rules *rules)
{
	struct error problem = {};

	if (rule_store_write(&rules->store, &rules->record, &problem) < 0)
		log_warning("%s", problem.what);
}

/* The change is made for good, and the next agent knows it. */
static void book_settle(struct rules *rules)
{
	struct rule_record *record = &rules->record;
	const struct rulebook *const books[] = {&record->now, &record->back};

	rules->interfaces = policies_interfaces(rules->agent, &record->now);
	hits_sweep(rules);
	families_sweep(rules->agent, books, sizeof(books) / sizeof(books[0]));
	timer_set(rules);
	tenants_assign(rules, false);
	shapes_settle(rules->agent, &record->now, NULL);
	services_settle(rules->agent, &record->now, NULL);
	forwards_settle(rules->agent, &record->now, NULL);
	steers_settle(rules->agent, false);
}

/* A change that was written down on its way: that it is made is a word. */
static void change_settle(struct rules *rules)
{
	rule_record_settle(&rules->record);
	rule_store_state(&rules->store, RULES_SETTLED);
	book_settle(rules);
}

static int check_settled(const struct rules *rules, struct error *error)
{
	if (rules->running) {
		error_set(error, -EBUSY, "a policy is being put in place");
		return error_want(error, "a little patience: 'weir status' says how far it is");
	}
	if (rules->record.state != RULES_PENDING)
		return 0;
	error_set(error, -EBUSY, "a change waits for its confirmation");
	return error_want(error, "'weir confirm' or 'weir rollback' first");
}

/* The sets that come with a change go the same way. */
static int sets_bring(struct rules *rules, const struct rules_change *change, struct error *error)
{
	int r = change->sets ? sets_prepare(rules->agent, change->sets, error) : 0;

	/* a file that is not there: the policy is wrong, not the request's path */
	if (r == -ENOENT && error)
		error->code = r = -EINVAL;
	return r;
}

/* Nothing of it stays. */
static void commit_discard(struct commit *commit)
{
	commit->rules->record.next_id = commit->first_id;
	if (commit->change->sets)
		sets_discard(commit->rules->agent);
}

static void works_free(struct commit *commit)
{
	while (commit->work_count)
		policies_work_free(commit->works[--commit->work_count]);
}

static int commit_begin(struct commit *commit, struct error *error)
{
	struct rules *rules = commit->rules;
	int r = check_settled(rules, error);

	commit->first_id = rules->record.next_id;
	if (r == 0)
		r = sets_bring(rules, commit->change, error);
	if (r < 0)
		return r;
	r = shapes_prepare(rules->agent, commit->next,
		commit->change->absent ? SHAPE_PLAN_ABSENT : SHAPE_PLAN_STRICT, error);
	if (r == 0)
		r = services_prepare(rules->agent, commit->next, commit->change->absent, NULL, error);
	if (r == 0)
		r = forwards_prepare(rules->agent, commit->next, error);
	if (r == 0)
		r = steers_prepare(rules->agent, commit->next, commit->change->absent, error);
	if (r == 0)
		r = book_number(rules, commit->next, &rules->record.next_id, error);
	if (r == 0)
		r = step_prepare(commit, error);
	if (r < 0) {
		works_free(commit);
		commit_discard(commit);
	}
	return r;
}

/* `r`: what came of bringing it to its place. */
static int commit_end(struct commit *commit, int r, struct error *error)
{
	struct rules *rules = commit->rules;
	const struct rules_change *change = commit->change;

	if (r == 0 && !change->check)
		r = book_switch(commit, error);
	works_free(commit);
	if (r < 0 || change->check) {
		commit_discard(commit);
		return r;
	}
	rules->generation++;
	if (change->sets)
		sets_commit(rules->agent, change->confirm_ns);
	if (change->confirm_ns) {
		rules->record.state = RULES_PENDING;
		rule_store_state(&rules->store, RULES_PENDING);
		timer_set(rules);
		tenants_assign(rules, true);
		shapes_settle(rules->agent, &rules->record.now, &rules->record.before);
		services_settle(rules->agent, &rules->record.now, &rules->record.before);
		forwards_settle(rules->agent, &rules->record.now, &rules->record.before);
		steers_settle(rules->agent, true);
	} else {
		change_settle(rules);
	}
	return logs_wait(rules->agent, error);
}

static int commit_now(
	struct rules *rules, struct rulebook *next, struct rules_change *change, struct error *error)
{
	struct commit commit = {.rules = rules, .next = next, .change = change};
	int r = commit_begin(&commit, error);

	return r < 0 ? r : commit_end(&commit, works_run(&commit, error), error);
}

/* -- large ones -- */

static void commit_free(struct commit *commit)
{
	if (commit->event)
		event_free(commit->event);
	if (commit->done >= 0)
		close(commit->done);
	rulebook_clear(&commit->book);
	free(commit);
}

static void *commit_run(void *context)
{
	struct commit *commit = context;
	uint64_t one = 1;

	commit->result = commit->load ? engine_balance_load_run(commit->load, &commit->error) : 0;
	if (commit->result == 0)
		commit->result = works_run(commit, &commit->error);
	if (write(commit->done, &one, sizeof(one)) < 0)
		log_error("rules: cannot tell that a policy is ready: %s", strerror(errno));
	return NULL;
}

static void commit_report(struct commit *commit, int r)
{
	commit->function(commit->context, r, &commit->own, &commit->error);
	commit_free(commit);
}

static void commit_join(struct commit *commit)
{
	struct error problem = {};
	int r;

	pthread_join(commit->thread, NULL);
	commit->rules->running = NULL;
	r = engine_balance_load_end(commit->load, &problem);
	commit->load = NULL;
	if (commit->result == 0 && r < 0) {
		commit->result = r;
		commit->error = problem;
	}
}

static void on_ready(evutil_socket_t fd, short what, void *context)
{
	struct commit *commit = context;

	(void)fd;
	(void)what;
	commit_join(commit);
	commit_report(commit, commit_end(commit, commit->result, &commit->error));
}

static int thread_start(struct commit *commit)
{
	sigset_t all, before;
	int r;

	commit->done = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (commit->done < 0)
		return -errno;
	commit->event = event_new(commit->rules->agent->base, commit->done, EV_READ, on_ready, commit);
	if (!commit->event || event_add(commit->event, NULL) < 0)
		return -ENOMEM;
	/* signals are the loop's */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	r = pthread_create(&commit->thread, NULL, commit_run, commit);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return -r;
}

int rules_commit_later(struct agent *agent, struct rulebook *next, const struct rules_change *change,
	rules_done_function *function, void *context, struct error *error)
{
	struct commit *commit = calloc(1, sizeof(*commit));
	int r;

	if (!commit) {
		rulebook_clear(next);
		error_set(error, -ENOMEM, "out of memory");
		return -ENOMEM;
	}
	*commit = (struct commit){.rules = rules_of(agent),
		.book = *next,
		.own = *change,
		.function = function,
		.context = context,
		.done = -1,
		.began_ns = agent_now_ns()};
	*next = (struct rulebook){};
	commit->next = &commit->book;
	commit->change = &commit->own;
	r = sets_loading(agent) ? error_set(error, -EBUSY, "a set is being loaded")
	                        : commit_begin(commit, error);
	if (r < 0) {
		commit_free(commit);
		return r;
	}
	commit->load = commit->own.check ? NULL : services_load(agent, &commit->book);
	if ((rulebook_rules(&commit->book) >= LARGE_RULES || commit->load) && thread_start(commit) == 0) {
		commit->rules->running = commit;
		return 0;
	}
	engine_balance_load_end(commit->load, NULL);
	commit_report(commit, commit_end(commit, works_run(commit, &commit->error), &commit->error));
	return 0;
}

/* The agent ends: nothing has changed. */
static void running_stop(struct rules *rules)
{
	struct commit *commit = rules->running;

	if (!commit)
		return;
	commit_join(commit);
	works_free(commit);
	commit_discard(commit);
	error_set(&commit->error, -ESHUTDOWN, "the agent has ended");
	commit_report(commit, -ESHUTDOWN);
}

void rules_write_running(const struct agent *agent, struct json_write *out)
{
	const struct rules *rules = rules_of(agent);
	const struct commit *commit = rules->running;

	if (!commit)
		return;
	json_write_object_begin(out, "applying");
	json_write_number(out, "rules", rulebook_rules(&commit->book));
	json_write_number(out, "checked", __atomic_load_n(&commit->own.result.checked, __ATOMIC_RELAXED));
	json_write_real(out, "seconds", (double)(agent_now_ns() - commit->began_ns) / 1e9, 3);
	json_write_object_end(out);
}

/* -- confirming, and going back -- */

/* The change that waited is undone in the kernel: what was before is in force again. */
static void book_return(struct rules *rules)
{
	struct rule_record *record = &rules->record;
	struct rulebook gone = record->now;

	record->now = record->before;
	record->before = (struct rulebook){};
	record->whole = false;
	rulebook_clear(&gone);
	rules->tracking = policies_tracking(&record->now);
	sets_rollback(rules->agent);
	rule_record_settle(record);
	record_write(rules);
	book_settle(rules);
}

int rules_confirm(struct agent *agent, struct error *error)
{
	struct rules *rules = rules_of(agent);
	int r;

	if (rules->record.state != RULES_PENDING) {
		error_set(error, -ENOENT, "no change waits for its confirmation");
		return error_want(error, "'weir apply FILE --confirm 60s' makes one that does");
	}
	rule_store_state(&rules->store, RULES_CONFIRMING);
	r = engine_policy_confirm(agent->engine, error);
	if (r < 0) {
		book_return(rules); /* it was too late */
		return r;
	}
	sets_confirm(rules->agent);
	change_settle(rules);
	return 0;
}

static int pending_undo(struct rules *rules, struct error *error)
{
	int r;

	rule_store_state(&rules->store, RULES_RETURNING);
	r = engine_policy_rollback(rules->agent->engine, error);
	if (r < 0)
		rule_store_state(&rules->store, RULES_PENDING);
	else
		book_return(rules);
	shields_reconcile(rules->agent);
	return r;
}

bool rules_can_roll_back(const struct agent *agent, struct error *error)
{
	const struct rule_record *record = &rules_of(agent)->record;

	if (record->state == RULES_PENDING || record->back.count)
		return true;
	error_set(error, -ENOENT, "there is nothing to go back to");
	error_want(error, "after 'weir apply' there is: the policy before");
	return false;
}

/* Of one to the policy before: whom to tell. */
struct rollback {
	struct rules *rules;
	rules_done_function *function;
	void *context;
};

static void on_returned(void *context, int r, const struct rules_change *change, const struct error *error)
{
	struct rollback *rollback = context;
	struct rules *rules = rollback->rules;

	if (r == 0) {
		rulebook_clear(&rules->record.back);
		record_write(rules);
		book_settle(rules);
	}
	rollback->function(rollback->context, r, change, error);
	free(rollback);
}

int rules_rollback(struct agent *agent, rules_done_function *function, void *context, struct error *error)
{
	struct rules *rules = rules_of(agent);
	const struct rules_change change = {.all = true};
	struct rollback *rollback;
	struct rulebook next = {};
	int r;

	if (rules->record.state == RULES_PENDING) {
		r = pending_undo(rules, error);
		if (r == 0)
			function(context, 0, &change, error);
		return r;
	}
	rollback = malloc(sizeof(*rollback));
	if (!rollback || rulebook_copy(&rules->record.back, &next) < 0) {
		free(rollback);
		return error_set(error, -ENOMEM, "out of memory");
	}
	*rollback = (struct rollback){rules, function, context};
	r = rules_commit_later(agent, &next, &change, on_returned, rollback, error);
	if (r < 0)
		free(rollback);
	return r;
}

int rules_check_settled(const struct agent *agent, struct error *error)
{
	return check_settled(rules_of(agent), error);
}

/* The deadline has passed. */
static void lapse(struct rules *rules)
{
	struct error problem = {};

	log_warning("the change was not confirmed: the rules before it are in force again");
	audit_change(rules->agent, NULL, "the change was not confirmed: back to the rules before it");
	if (engine_policy_rollback(rules->agent->engine, &problem) < 0 && problem.code != -ENOENT)
		log_warning("%s", problem.what);
	book_return(rules);
}

int rules_commit(struct agent *agent, struct rulebook *next, struct rules_change *change, struct error *error)
{
	int r = commit_now(rules_of(agent), next, change, error);

	rulebook_clear(next);
	return r;
}

/* -- the configuration -- */

/* Is the book that the configuration makes the one in force? */
static bool book_same(const struct rulebook *a, const struct rulebook *b)
{
	if (a->count != b->count || a->applied != b->applied)
		return false;
	for (size_t i = 0; i < a->count; i++) {
		const struct rule_policy *other = rulebook_policy(b, a->policies[i].name);

		if (!other || !policies_same(&a->policies[i], other) ||
			!rule_list_identical(&a->policies[i].list, &other->list) ||
			!rule_policy_has_same(&a->policies[i], other))
			return false;
	}
	return true;
}

/* The sections of the configuration file, or what `weir save` has written instead. */
static int configured_policy(
	struct agent *agent, struct policy_text *ret_text, bool *ret_saved, struct error *error)
{
	char path[PATH_MAX];

	*ret_saved = apply_save_path(agent, path, sizeof(path), NULL) == 0 && access(path, F_OK) == 0;
	if (!*ret_saved)
		return 0;
	if (agent->config.policy.host.rule_count || agent->config.policy.tenant_count)
		log_info("the rules are those of %s, not those of the configuration file", path);
	return policy_text_read_file(path, ret_text, error);
}

static int configure(struct rules *rules, struct error *error)
{
	struct agent *agent = rules->agent;
	struct policy_text text = {};
	bool saved;
	const struct policy_text *policy;
	struct rules_change change = {.absent = true};
	struct rulebook next = {};
	int r = configured_policy(agent, &text, &saved, error);

	if (r < 0)
		return r;
	policy = saved ? &text : &agent->config.policy;
	r = apply_book(agent, policy, true, &next, error);
	change.sets = policy->set_count ? policy : NULL;
	if (r == 0 && (change.sets || !book_same(&next, &rules->record.now)))
		r = commit_now(rules, &next, &change, error);
	rulebook_clear(&next);
	policy_text_clear(&text);
	return r;
}

int rules_configure(struct agent *agent, struct error *error)
{
	return configure(rules_of(agent), error);
}

/* -- names that mean something else now -- */

bool rules_name_set(const struct agent *agent, const char *name)
{
	const struct rule_record *record = &rules_of(agent)->record;
	const struct rulebook *books[] = {&record->now, &record->before, &record->back};

	for (size_t b = 0; b < sizeof(books) / sizeof(books[0]); b++)
		for (size_t p = 0; p < books[b]->count; p++)
			for (size_t i = 0; i < books[b]->policies[p].list.count; i++)
				if (policies_name_set(books[b]->policies[p].list.slots[i].entry, name))
					return true;
	return false;
}

int rules_refresh(struct agent *agent, struct error *error)
{
	struct rules *rules = rules_of(agent);
	struct rule_record *record = &rules->record;
	uint64_t changed = 0, present;
	struct verify_result result = {};
	int r = check_settled(rules, error);

	rules->stale = true;
	for (size_t i = 0; i < record->now.count && r == 0; i++) {
		const struct rule_policy *policy = &record->now.policies[i];

		if (!policies_present(policy))
			continue;
		r = policies_bring(agent, policy, policy, POLICIES_NAMES, &result, error);
		changed |= 1ULL << policy->number;
	}
	present = changed;
	if (r == 0 && steers_present(&record->now)) {
		r = steers_bring(agent, &record->now, error);
		changed |= 1ULL << STEER_PLACE;
	}
	if (r == 0 && changed)
		r = engine_policy_switch(
			agent->engine, changed, present, false, policies_tracking(&record->now), 0, error);
	if (r == 0)
		steers_settle(agent, false);
	rules->stale = r < 0;
	rules->interfaces = policies_interfaces(agent, &record->now);
	tenants_assign(rules, record->state == RULES_PENDING);
	return r;
}

int rules_switch_services(struct agent *agent, struct error *error)
{
	const struct rules *rules = rules_of(agent);
	struct policy_now now = {};
	int r = check_settled(rules, error);

	if (r == 0)
		r = engine_policy_now(agent->engine, &now);
	return r < 0 ? r
	             : engine_policy_switch(agent->engine, 1ULL << SERVICE_PLACE, now.present, false,
			       rules->tracking, 0, error);
}

int rules_switch_steers(struct agent *agent, struct error *error)
{
	const struct rules *rules = rules_of(agent);
	struct policy_now now = {};
	int r = check_settled(rules, error);

	if (r == 0)
		r = steers_bring(agent, &rules->record.now, error);
	if (r == 0)
		r = engine_policy_now(agent->engine, &now);
	if (r == 0)
		r = engine_policy_switch(
			agent->engine, 1ULL << STEER_PLACE, now.present, false, rules->tracking, 0, error);
	if (r == 0)
		steers_settle(agent, false);
	return r;
}

void rules_interfaces_changed(struct agent *agent)
{
	struct rules *rules = rules_of(agent);

	if (rules && policies_interfaces(agent, &rules->record.now) != rules->interfaces)
		rules_refresh(agent, NULL);
}

void rules_saved(struct agent *agent)
{
	struct rules *rules = rules_of(agent);
	struct rulebook *now = &rules->record.now;

	for (size_t p = 0; p < now->count; p++)
		for (size_t i = 0; i < now->policies[p].list.count; i++)
			now->policies[p].list.slots[i].live = now->policies[p].list.slots[i].entry->ends_ns;
	now->applied = false;
	record_write(rules);
	book_settle(rules);
}

/* -- rules that end -- */

/* Its time is over, or those whom it is about have ended. */
static bool entry_is_over(const struct rule_entry *entry, uint64_t now)
{
	return (entry->ends_ns && entry->ends_ns <= now) ||
	       (entry->ended_ns && now - entry->ended_ns >= ENDED_STAYS_NS);
}

static bool list_expire(struct rule_list *list, uint64_t now)
{
	size_t kept = 0;
	bool some = false;

	for (size_t i = 0; i < list->count; i++) {
		struct rule_slot slot = list->slots[i];

		if (entry_is_over(slot.entry, now)) {
			some = true;
			rule_entry_release(slot.entry);
		} else {
			list->slots[kept++] = slot;
		}
	}
	list->count = kept;
	return some;
}

static void tell_ended(struct agent *agent, const struct rulebook *book, uint64_t now)
{
	for (size_t p = 0; p < book->count; p++)
		for (size_t i = 0; i < book->policies[p].list.count; i++) {
			const struct rule_entry *entry = book->policies[p].list.slots[i].entry;

			if (!entry_is_over(entry, now))
				continue;
			log_info("rule %u has ended: %s", entry->id, entry->text);
			audit_change(agent, NULL, "rule %u has ended: %s", entry->id, entry->text);
		}
}

/* Takes away what is over; false: nothing is. */
static bool expire(struct rules *rules)
{
	struct rules_change change = {};
	struct error problem = {};
	struct rulebook before = {}, next = {};
	uint64_t now = agent_now_ns();
	bool some = false;

	if (rulebook_copy(&rules->record.now, &before) == 0 && rulebook_copy(&before, &next) == 0)
		for (size_t i = 0; i < next.count; i++)
			some |= list_expire(&next.policies[i].list, now);
	if (some && commit_now(rules, &next, &change, &problem) == 0)
		tell_ended(rules->agent, &before, now);
	else if (some)
		log_warning("rules that have ended cannot be taken away: %s", problem.what);
	rulebook_clear(&next);
	rulebook_clear(&before);
	return some;
}

/* Rules about processes: that none of them lives is told for a moment, then the rule goes. */
static void families_look(struct rules *rules, uint64_t now)
{
	const struct rulebook *book = &rules->record.now;
	bool some = false;

	for (size_t p = 0; p < book->count; p++)
		for (size_t i = 0; i < book->policies[p].list.count; i++) {
			struct rule_entry *entry = book->policies[p].list.slots[i].entry;

			if (!families_ended(rules->agent, entry))
				entry->ended_ns = 0;
			else if (!entry->ended_ns)
				entry->ended_ns = now;
			else
				some |= entry_is_over(entry, now);
		}
	if (some)
		expire(rules);
}

static void on_timer(evutil_socket_t fd, short what, void *context)
{
	struct rules *rules = context;

	(void)fd;
	(void)what;
	if (rules->running) {
		event_add(rules->timer, &(struct timeval){.tv_sec = 1});
		return;
	}
	if (rules->record.state == RULES_PENDING) {
		lapse(rules);
		return;
	}
	if (!expire(rules))
		timer_set(rules);
}

static void rules_tick(struct agent *agent, void *state, uint64_t now_ns)
{
	struct rules *rules = state;
	struct error problem = {};

	if (!rules->running && rules->record.state == RULES_SETTLED)
		families_look(rules, now_ns);
	if (!rules->running)
		engine_policy_rest(agent->engine);
	if (rules->stale && !rules->running && rules->record.state != RULES_PENDING &&
		rules_refresh(rules->agent, &problem) < 0)
		log_warning("the rules are as they were compiled before: %s", problem.what);
}

/* -- the module -- */

/* Which book is in force, of an agent that was killed in the middle of a change? */
static bool before_holds(struct rules *rules, const struct policy_now *now)
{
	const struct rule_record *record = &rules->record;

	if (!record->before.count)
		return false;
	if (record->changed)
		return ((now->places ^ record->places_before) & record->changed) == 0;
	return record->state == RULES_PENDING && agent_now_ns() >= record->deadline_ns;
}

/* Ends what an earlier agent had begun. */
static void change_finish(struct rules *rules)
{
	struct rule_record *record = &rules->record;
	struct engine *engine = rules->agent->engine;
	struct policy_now now = {};
	struct rulebook gone;

	if (record->state == RULES_CONFIRMING)
		engine_policy_confirm(engine, NULL);
	if (record->state == RULES_RETURNING)
		engine_policy_rollback(engine, NULL);
	engine_policy_now(engine, &now);
	if (now.deadline) {
		record->state = RULES_PENDING;
		return;
	}
	if (record->state != RULES_SETTLED && before_holds(rules, &now)) {
		log_info("a change was not confirmed: the rules before it are in force again");
		gone = record->now;
		record->now = record->before;
		record->before = gone;
		record->whole = false;
	}
	if (record->state == RULES_SETTLED)
		return;
	/* places change from now on: the next agent could not tell by them any more */
	rule_record_settle(record);
	record_write(rules);
}

/* What an earlier agent left is what is in force. */
static int adopt(struct rules *rules, struct error *error)
{
	struct rule_record *record = &rules->record;
	bool found = false;
	int r = rule_store_read(&rules->store, &rules->places, record, &found, error);

	if (r < 0)
		return r;
	if (!found)
		return rulebook_init(&record->now) < 0 ? error_set(error, -ENOMEM, "out of memory") : 0;
	for (size_t i = 0; i < record->now.count; i++)
		if (record->now.policies[i].generation > rules->generation)
			rules->generation = record->now.policies[i].generation;
	families_adopt(rules->agent, &record->now);
	families_adopt(rules->agent, &record->before);
	families_adopt(rules->agent, &record->back);
	change_finish(rules);
	rules->tracking = policies_tracking(&record->now);
	rules->tenants = record->now.count > 1;
	rules->stale = true; /* interfaces may have changed since */
	return engine_guard_used(rules->agent->engine) ? guards_adopt(rules->agent, error) : 0;
}

static void rules_close(void *state)
{
	struct rules *rules = state;

	running_stop(rules);
	if (rules->timer)
		event_free(rules->timer);
	rulebook_clear(&rules->record.now);
	rulebook_clear(&rules->record.before);
	rulebook_clear(&rules->record.back);
	rule_store_close(&rules->store);
	free(rules);
}

static int rules_open(struct agent *agent, void **ret_state, struct error *error)
{
	struct rules *rules = calloc(1, sizeof(*rules));
	int r;

	if (!rules)
		return error_set(error, -ENOMEM, "out of memory");
	rules->agent = agent;
	rules->record.next_id = 1;
	*ret_state = rules;
	rules->timer = evtimer_new(agent->base, on_timer, rules);
	if (!rules->timer)
		return error_set(error, -ENOMEM, "out of memory");
	r = rule_store_open(agent->engine, &rules->store, error);
	if (r == 0)
		r = adopt(rules, error);
	if (r < 0)
		return r;
	hits_sweep(rules);
	timer_set(rules);
	shapes_settle(agent, &rules->record.now, rules->record.before.count ? &rules->record.before : NULL);
	services_settle(agent, &rules->record.now, rules->record.before.count ? &rules->record.before : NULL);
	forwards_settle(agent, &rules->record.now, rules->record.before.count ? &rules->record.before : NULL);
	steers_settle(agent, rules->record.before.count);
	/* a change that waits, and a policy that was applied, go before those of the file */
	if (rules->record.state == RULES_PENDING || rules->record.now.applied)
		return 0;
	return configure(rules, error);
}

static void tenants_write(const struct rulebook *book, struct json_write *out)
{
	json_write_array_begin(out, "tenants");
	for (size_t i = 1; i < book->count; i++) {
		json_write_object_begin(out, NULL);
		json_write_string(out, "name", book->policies[i].name);
		json_write_number(out, "rules", book->policies[i].list.count);
		json_write_number(out, "generation", book->policies[i].generation);
		json_write_object_end(out);
	}
	json_write_array_end(out);
}

static void rules_status(struct agent *agent, void *state, struct json_write *out)
{
	const struct rules *rules = state;
	const struct rulebook *book = &rules->record.now;

	json_write_object_begin(out, "rules");
	json_write_number(out, "count", rulebook_rules(book));
	json_write_number(out, "generation", book->policies[0].generation);
	json_write_boolean(out, "applied", book->applied);
	tenants_write(book, out);
	rules_write_pending(agent, out);
	rules_write_running(agent, out);
	guards_write_stats(agent, out);
	policies_write_stats(agent, out);
	json_write_object_end(out);
}

static void rules_metrics(struct agent *agent, void *state, struct evbuffer *out)
{
	const struct rules *rules = state;

	metrics_single(out, "weir_rules", "gauge", "Rules of all lists.", rulebook_rules(&rules->record.now));
	policies_write_metrics(agent, out);
}

const struct module rules_module = {
	.name = "rules",
	.open = rules_open,
	.close = rules_close,
	.tick = rules_tick,
	.status = rules_status,
	.metrics = rules_metrics,
	.routes = rule_routes,
};
