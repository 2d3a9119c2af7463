// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* Sets: what is in force, what policies are told about it, what ends by itself. */
#include "agent/set/sets.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "agent/rule/rules.h"
#include "agent/set/sets_internal.h"
#include "basic/cleanup.h"
#include "basic/log.h"
#include "engine/policy.h"

#define EXPIRED_AT_ONCE 1000 /* in one turn of the loop */

struct sets *sets_of(struct agent *agent)
{
	return module_state(agent, &set_module);
}

/* -- what is in force -- */

unsigned int sets_place(struct agent *agent)
{
	struct policy_now now = {};

	return engine_policy_now(agent->engine, &now) == 0 ? now.places >> SET_PLACE & 1 : 0;
}

uint32_t sets_combination(struct agent *agent, const struct address *address)
{
	const struct engine_set_memory *memory =
		&sets_of(agent)->tries[sets_place(agent)].memory[address->family == 6];

	return memory->units ? trie_lookup(memory->units, memory->count, address) : 0;
}

static uint8_t version_told(const struct sets *sets)
{
	return sets->prepared ? SET_NEXT : SET_NOW;
}

bool sets_has(const struct sets *sets, unsigned int set)
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

int set_range_compare(const void *a, const void *b)
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
		qsort(ranges, count, sizeof(*ranges), set_range_compare);
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

static const char *world_set_near(void *context, const char *name)
{
	return set_nearest(context, name);
}

void sets_world(struct agent *agent, struct policy_world *world)
{
	struct sets *sets = sets_of(agent);
	const struct set_head *head = set_store_head(sets->store);

	for (unsigned int set = 0; set < SET_MAX; set++)
		if (head->slots[set].name[0] && head->slots[set].kind == SET_PORTS && !sets->load)
			ports_collect(sets, set);
	sets->compiled_combinations = __atomic_load_n(&head->combination_count, __ATOMIC_ACQUIRE);
	world->context = sets;
	world->set = world_set;
	world->port_set = world_port_set;
	world->set_near = world_set_near;
	world->combinations = head->combinations;
	world->combination_count = sets->compiled_combinations;
}

/* A combination that no policy has a row for yet is compiled before a trie names it. */
int sets_combination_known(void *context, unsigned int combination)
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
void sets_next_commit(struct sets *sets, bool pending)
{
	unsigned int place = sets_place(sets->agent);

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
		r = next_bring(sets, !sets_place(sets->agent), error);
	if (r == 0)
		r = engine_policy_now(engine, &now);
	if (r == 0)
		r = engine_policy_switch(engine, 1ULL << SET_PLACE, now.present, cut, now.tracking, 0, error);
	return r;
}

int sets_next_finish(struct sets *sets, int r, bool cut, struct error *error)
{
	if (r == 0)
		r = next_switch(sets, cut, error);
	if (r == 0) {
		sets_next_commit(sets, false);
		return 0;
	}
	set_tries_close(&sets->next);
	sets->next_built = false;
	set_store_copy(sets->store, EVERY_SET, 0, SET_NEXT);
	return r;
}

/* The tries of now have no room, or are not there: they are built anew. */
int sets_rebuild(struct sets *sets, bool cut, struct error *error)
{
	set_store_copy(sets->store, EVERY_SET, SET_NOW, SET_NEXT);
	return sets_next_finish(sets, next_build(sets, error), cut, error);
}

/* -- sets as such -- */

int sets_make(struct sets *sets, const char *name, bool live, struct error *error)
{
	int set = set_store_make(sets->store, name, live);

	if (set < 0) {
		error_set(error, set, "there are %d sets already", SET_MAX);
		error_want(error, "weir set destroy NAME of one that is not used");
	}
	return set;
}

int sets_change_allowed(struct sets *sets, struct error *error)
{
	if (sets->load) {
		error_set(error, -EBUSY, "set '%s' is being loaded", set_load_name(sets, sets->load));
		error_want(error, "a little patience");
		return -EBUSY;
	}
	if (rules_busy(sets->agent)) {
		error_set(error, -EBUSY, "a policy is being put in place");
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

/* -- expiry -- */

static void on_timer(evutil_socket_t fd, short what, void *context)
{
	struct sets *sets = context;
	struct set_change addresses = {.sets = sets, .remove = true}, ports = addresses;
	uint64_t now = agent_now_ns();
	struct error error = {};

	(void)fd;
	(void)what;
	if (sets->load || rules_busy(sets->agent))
		return;
	for (int i = 0; i < EXPIRED_AT_ONCE; i++) {
		int64_t index = set_store_expired(sets->store, now);
		struct set_entry entry;
		struct set_change *few;

		if (index < 0)
			break;
		set_store_entry(&set_store_entries(sets->store)[index], &entry);
		few = entry.kind == SET_PORTS ? &ports : &addresses;
		few->set = set_store_entries(sets->store)[index].set;
		if (set_change_entry(few, &entry, &error) < 0)
			log_warning("sets: %s", error.what);
	}
	if (set_change_finish(&addresses, SET_ADDRESSES, false, &error) < 0 ||
		set_change_finish(&ports, SET_PORTS, false, &error) < 0)
		log_warning("sets: an entry's time is over, and it cannot be taken out: %s", error.what);
}

/* -- whole policies -- */

struct reading {
	struct sets *sets;
	unsigned int set;
	int failure;
};

static int text_put(void *context, const struct set_entry *entry)
{
	struct reading *reading = context;
	int r = set_store_put(reading->sets->store, reading->set, entry, 0, SET_NEXT);

	reading->failure = r < 0 ? r : 0;
	return reading->failure;
}

static ssize_t file_take(void *from, char *buffer, size_t size)
{
	size_t length = fread(buffer, 1, size, from);

	return length || !ferror((FILE *)from) ? (ssize_t)length : -EIO;
}

/* Reads what a policy says about one set into the version SET_NEXT.  1: it is the file that was read before.
 */
static int text_read(struct sets *sets, const struct policy_set *from, unsigned int set, struct error *error)
{
	_cleanup_fclose_ FILE *file = NULL;
	struct reading reading = {.sets = sets, .set = set};
	struct set_source source = {};
	struct stat status;
	int r;

	if (from->file) {
		/* a pipe would keep the agent waiting */
		if (stat(from->file, &status) == 0 && !S_ISREG(status.st_mode)) {
			error_set(error, -EINVAL, "set '%s': %s is no regular file", from->name, from->file);
			return error_want(error, "a file with one entry a line");
		}
		file = fopen(from->file, "re");
		if (!file || fstat(fileno(file), &status) < 0)
			return error_set(error, -errno, "set '%s': cannot read %s: %s", from->name,
				from->file, strerror(errno));
		source = (struct set_source){status.st_mtim, status.st_size, status.st_ino};
		if (memcmp(&source, &sets->sources[set], sizeof(source)) == 0)
			return 1;
		if (status.st_size > POLICY_FILE_BYTES_MAX)
			return error_set(error, -EFBIG, "set '%s': %s is larger than %d MiB", from->name,
				from->file, POLICY_FILE_BYTES_MAX >> 20);
	}
	set_store_copy(sets->store, 1ULL << set, 0, SET_NEXT);
	r = file ? set_list_stream(file_take, file, from->file, false, text_put, &reading, NULL, error)
	         : set_list_parse(
			   from->entries, from->length, from->name, false, text_put, &reading, NULL, error);
	if (r == -EIO)
		error_set(error, r, "set '%s': cannot read %s", from->name, from->file);
	if (r == -ENOMEM)
		error_set(error, r, "out of memory");
	if (reading.failure)
		r = error_set(error, reading.failure, "set '%s': %s", from->name,
			reading.failure == -EINVAL ? "it holds the other kind: addresses, or ports"
						   : strerror(-reading.failure));
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
	int r = sets->load ? sets_change_allowed(sets, error) : 0;

	if (r < 0)
		return r;
	sets->prepared = true;
	set_store_copy(sets->store, EVERY_SET, SET_NOW, SET_NEXT);
	for (size_t i = 0; i < policy->set_count && r >= 0; i++) {
		int set = set_store_find(sets->store, policy->sets[i].name);

		if (set < 0) {
			set = sets_make(sets, policy->sets[i].name, false, error);
			if (set >= 0)
				sets->made |= 1ULL << set;
		}
		r = set < 0 ? set : text_read(sets, &policy->sets[i], (unsigned int)set, error);
	}
	if (r >= 0 && versions_differ(sets)) {
		r = next_build(sets, error);
		if (r == 0)
			r = next_bring(sets, !sets_place(agent), error);
	}
	if (r < 0) {
		sets_discard(agent);
		return r;
	}
	return 0;
}

bool sets_loading(struct agent *agent)
{
	return sets_of(agent)->load;
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
		sets->sources[set] = (struct set_source){};
	}
	if (sets->next_built) {
		set_tries_close(&sets->next);
		place_empty(sets, !sets_place(agent));
	}
	sets->made = 0;
	sets->next_built = false;
	sets->prepared = false;
}

void sets_commit(struct agent *agent, bool pending)
{
	sets_next_commit(sets_of(agent), pending);
}

void sets_confirm(struct agent *agent)
{
	struct sets *sets = sets_of(agent);

	if (!set_store_head(sets->store)->pending)
		return;
	set_store_head(sets->store)->pending = false;
	set_store_copy(sets->store, EVERY_SET, 0, SET_BEFORE);
	if (sets->tries[sets_place(agent)].trie[0])
		place_empty(sets, !sets_place(agent));
}

/* The version of before is the one of now again, in the place where the datapath looks. */
static int before_restore(struct sets *sets, struct error *error)
{
	unsigned int place = sets_place(sets->agent);
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
		struct set_listing *listing;
		char *text = NULL;
		size_t length = 0;
		FILE *out;

		if (!head->slots[set].name[0])
			continue;
		more = realloc(policy->sets, (policy->set_count + 1) * sizeof(*more));
		if (!more)
			return -ENOMEM;
		policy->sets = more;
		listing = set_listing_new(sets, set);
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
			set_listing_free(listing);
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
		count += sets_has(sets, set);
		entries += set_store_count(sets->store, set);
	}
	json_write_object_begin(out, "sets");
	json_write_number(out, "sets", count);
	json_write_number(out, "entries", entries);
	sets_write_totals(out, sets);
	json_write_object_end(out);
}

static void sets_metrics(struct agent *agent, void *state, struct evbuffer *out)
{
	const struct sets *sets = state;

	(void)agent;
	metrics_head(out, "weir_set_entries", "gauge", "Entries of a set.");
	for (unsigned int set = 0; set < SET_MAX; set++)
		if (sets_has(sets, set))
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

	if (sets->load) {
		set_load_stop(sets->load);
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
	{"/v1/sets", EVHTTP_REQ_GET, set_reply_sets},
	{"/v1/sets/show", EVHTTP_REQ_GET, set_reply_show},
	{"/v1/sets/create", EVHTTP_REQ_POST, set_reply_create},
	{"/v1/sets/add", EVHTTP_REQ_POST, set_reply_add, LIST_BODY_MAX},
	{"/v1/sets/remove", EVHTTP_REQ_POST, set_reply_remove, LIST_BODY_MAX},
	{"/v1/sets/load", EVHTTP_REQ_POST, set_reply_load, LIST_BODY_MAX},
	{"/v1/sets/flush", EVHTTP_REQ_POST, set_reply_flush},
	{"/v1/sets/destroy", EVHTTP_REQ_POST, set_reply_destroy},
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
