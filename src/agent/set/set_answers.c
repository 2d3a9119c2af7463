// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* Requests that show sets (docs/api.md, GET /v1/sets). */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/rule/rules.h"
#include "agent/set/sets_internal.h"
#include "basic/cleanup.h"

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

void sets_write_totals(struct json_write *out, const struct sets *sets)
{
	json_write_number(out, "combinations", set_store_head(sets->store)->combination_count - 1);
	json_write_number(out, "memory_bytes",
		set_store_bytes(sets->store) + set_tries_bytes(&sets->tries[0]) +
			set_tries_bytes(&sets->tries[1]));
	if (sets->load)
		set_load_write(out, sets, sets->load);
}

void set_reply_sets(struct agent *agent, struct evhttp_request *request)
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
		if (sets_has(sets, set))
			write_set(&json, sets, set);
	json_write_array_end(&json);
	sets_write_totals(&json, sets);
	json_write_object_end(&json);
	json_write_newline(&json);
	reply_json(request, HTTP_OK, "OK", &json);
	json_write_free(&json);
}

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
		return set_range_compare(&p.ports, &q.ports);
	r = memcmp(x->bytes, y->bytes, sizeof(x->bytes));
	return r ? r : x->length - y->length;
}

static bool listing_part(void *context, struct json_write *out)
{
	struct set_listing *listing = context;
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

void set_listing_free(void *context)
{
	struct set_listing *listing = context;

	free(listing->entries);
	free(listing);
}

struct set_listing *set_listing_new(const struct sets *sets, unsigned int set)
{
	const struct set_kept *entries = set_store_entries(sets->store);
	uint32_t used = set_store_head(sets->store)->used;
	struct set_listing *listing = calloc(1, sizeof(*listing));

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

void set_reply_show(struct agent *agent, struct evhttp_request *request)
{
	static const char *const parameters[] = {"name", NULL};
	struct sets *sets = sets_of(agent);
	const char *query = query_of(request);
	_cleanup_free_ char *name = query_value(query, "name");
	struct set_listing *listing;
	struct error error = {};
	int set;

	if (query_check(query, parameters, &error) < 0) {
		reply_bad_request(request, &error);
		return;
	}
	set = name ? set_store_find(sets->store, name) : -ENOENT;
	if (set < 0) {
		set_fail_unknown(sets, name ? name : "", &error);
		set_refuse(request, &error);
		return;
	}
	if (sets->load) {
		sets_change_allowed(sets, &error);
		set_refuse(request, &error);
		return;
	}
	listing = set_listing_new(sets, (unsigned int)set);
	if (listing)
		reply_parts(request, listing_part, set_listing_free, listing);
	else
		reply_failure(request, -ENOMEM);
}
