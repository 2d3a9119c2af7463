// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
#include "agent/rule/rulebook.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "basic/cleanup.h"
#include "basic/clock.h"
#include "compile/guard.h"

#define LIST_ROOM 16 /* slots that a list grows by at least */

/* -- places -- */

/* A free bit; it is set.  -ENOSPC: all are. */
static int place_take(uint64_t *bits, uint32_t count, uint32_t *next, uint32_t *ret_place)
{
	for (uint32_t tried = 0; tried < count / 64; tried++) {
		uint32_t word = (*next / 64 + tried) % (count / 64);

		if (bits[word] == UINT64_MAX)
			continue;
		*ret_place = word * 64 + (uint32_t)__builtin_ctzll(~bits[word]);
		bits[word] |= 1ULL << (*ret_place % 64);
		*next = *ret_place;
		return 0;
	}
	return -ENOSPC;
}

static void place_mark(uint64_t *bits, uint32_t place, bool taken)
{
	if (place == RULE_NO_PLACE)
		return;
	if (taken)
		bits[place / 64] |= 1ULL << (place % 64);
	else
		bits[place / 64] &= ~(1ULL << (place % 64));
}

int rule_entry_place(struct rule_entry *entry, struct error *error)
{
	struct rule_places *places = entry->places;

	if (!rule_entry_is_on_packets(entry))
		return 0;
	places->counters[0] = places->counters[1] = UINT64_MAX; /* the default verdicts' */
	if (entry->counter == RULE_NO_PLACE &&
		place_take(places->counters, POLICY_COUNTERS_MAX, &places->next_counter, &entry->counter) < 0)
		return error_set(error, -ENOSPC, "too many rules: there are counters for %d in all lists",
			POLICY_COUNTERS_MAX - RULEBOOK_DEFAULT_COUNTERS);
	if (entry->rule.verb == RULE_LIMIT && !rule_is_shape(&entry->rule) && entry->limit == RULE_NO_PLACE &&
		place_take(places->limits, POLICY_LIMITS_MAX, &places->next_limit, &entry->limit) < 0)
		return error_set(
			error, -ENOSPC, "too many limits: at most %d in all lists", POLICY_LIMITS_MAX);
	return 0;
}

static void places_mark(struct rule_entry *entry, bool taken)
{
	place_mark(entry->places->counters, entry->counter, taken);
	place_mark(entry->places->limits, entry->limit, taken);
	place_mark(entry->places->classes, entry->class, taken);
	place_mark(entry->places->classes, entry->rest, taken);
}

void rule_entry_keep_places(struct rule_entry *entry)
{
	places_mark(entry, true);
}

static int class_take(struct rule_places *places, uint32_t *number, struct error *error)
{
	if (*number != RULE_NO_PLACE)
		return 0;
	places->classes[0] |= 1; /* 0 is none */
	if (place_take(places->classes, SHAPE_CLASSES_MAX, &places->next_class, number) == 0)
		return 0;
	error_set(error, -ENOSPC, "too many classes");
	return error_want(error, "at most %d in all lists", SHAPE_CLASSES_MAX - 1);
}

bool rule_entry_is_class(const struct rule_entry *entry)
{
	return rule_makes_class(&entry->rule);
}

int rule_entry_class(struct rule_entry *entry, bool link, struct error *error)
{
	struct rule_entry *owner = entry->origin ? entry->origin : entry;
	int r = class_take(owner->places, &owner->class, error);

	if (r == 0 && link)
		r = class_take(owner->places, &owner->rest, error);
	entry->class = owner->class;
	entry->rest = owner->rest;
	return r;
}

_Static_assert(RULEBOOK_DEFAULT_COUNTERS == 128, "two words of places are never given to rules");

/* -- entries -- */

int process_start(uint32_t pid, uint64_t *ret_ticks)
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

bool rule_entry_is_on_sockets(const struct rule_entry *entry)
{
	return rule_kind(&entry->rule) == RULE_ON_SOCKETS;
}

bool rule_entry_is_on_packets(const struct rule_entry *entry)
{
	return rule_kind(&entry->rule) == RULE_ON_PACKETS;
}

/* What follows from the sentence alone, and from who runs at the moment, unless it is known who was meant. */
static int entry_complete(struct rule_entry *entry, const uint64_t *pid_start, struct error *error)
{
	const struct owner_match *owner = &entry->rule.match.owner;

	if (pid_start) {
		entry->pid_start = *pid_start;
	} else if (owner->kind == OWNER_PID && process_start(owner->number, &entry->pid_start) < 0) {
		error_set(error, -ESRCH, "there is no process %u", owner->number);
		error_want(error, "the id of one that runs");
		return -ESRCH;
	}
	if (entry->rule.for_ns)
		entry->ends_ns = clock_ns(CLOCK_MONOTONIC) + entry->rule.for_ns;
	if (!rule_entry_is_on_sockets(entry))
		return 0;
	entry->guard = malloc(sizeof(*entry->guard));
	if (!entry->guard)
		return error_set(error, -ENOMEM, "out of memory");
	*entry->guard = guard_compile(&entry->rule);
	if (owner->kind == OWNER_PID)
		entry->guard->owner.hash[0] = entry->pid_start;
	return 0;
}

static struct rule_entry *entry_make(
	struct rule_places *places, const char *text, const uint64_t *pid_start, struct error *error)
{
	struct rule_entry *entry;
	struct rule rule;
	_cleanup_free_ char *printed = NULL;
	size_t length;

	if (rule_parse(text, &rule, error) < 0)
		return NULL;
	printed = rule_text(&rule, error);
	length = printed ? strlen(printed) : 0;
	entry = printed ? calloc(1, sizeof(*entry) + length + 1) : NULL;
	if (!entry) {
		if (printed)
			error_set(error, -ENOMEM, "out of memory");
		rule_clear(&rule);
		return NULL;
	}
	entry->users = 1;
	entry->places = places;
	entry->counter = entry->limit = entry->class = entry->rest = RULE_NO_PLACE;
	entry->rule = rule;
	entry->length = (uint32_t)length + 1;
	memcpy(entry->text, printed, length + 1);
	if (entry_complete(entry, pid_start, error) < 0) {
		rule_entry_release(entry);
		return NULL;
	}
	return entry;
}

struct rule_entry *rule_entry_new(struct rule_places *places, const char *text, struct error *error)
{
	return entry_make(places, text, NULL, error);
}

struct rule_entry *rule_entry_again(
	struct rule_places *places, const char *text, uint64_t pid_start, struct error *error)
{
	return entry_make(places, text, &pid_start, error);
}

void rule_entry_release(struct rule_entry *entry)
{
	if (!entry || --entry->users)
		return;
	if (entry->origin)
		rule_entry_release(entry->origin);
	else
		places_mark(entry, false);
	rule_clear(&entry->rule);
	free(entry->guard);
	free(entry);
}

void rule_entry_share(struct rule_entry *entry, struct rule_entry *origin)
{
	if (origin->origin)
		origin = origin->origin;
	origin->users++;
	entry->origin = origin;
	entry->counter = origin->counter;
	entry->limit = origin->limit;
	entry->class = origin->class;
	entry->rest = origin->rest;
}

struct rule_entry *rule_entry_change(struct rule_entry *entry, const char *change, struct error *error)
{
	_cleanup_free_ char *text = rule_change(&entry->rule, change, error);
	/* it is about the same process, though that may have ended before what it started */
	struct rule_entry *changed =
		text ? rule_entry_again(entry->places, text, entry->pid_start, error) : NULL;

	if (!changed)
		return NULL;
	rule_entry_share(changed, entry);
	changed->id = entry->id;
	changed->generation = entry->generation;
	changed->ends_ns = entry->ends_ns;
	changed->family = entry->family;
	return changed;
}

bool rule_entry_is_same(const struct rule_entry *a, const struct rule_entry *b)
{
	return a == b || (a && b && a->id && a->id == b->id && a->generation == b->generation);
}

/* -- lists -- */

static int list_reserve(struct rule_list *list, size_t size)
{
	struct rule_slot *slots;

	if (size <= list->size)
		return 0;
	if (size < list->size + list->size / 2)
		size = list->size + list->size / 2;
	if (size < LIST_ROOM)
		size = LIST_ROOM;
	slots = reallocarray(list->slots, size, sizeof(*slots));
	if (!slots)
		return -ENOMEM;
	list->slots = slots;
	list->size = size;
	return 0;
}

int rule_list_insert(struct rule_list *list, size_t place, struct rule_entry *entry, bool live)
{
	if (list_reserve(list, list->count + 1) < 0) {
		rule_entry_release(entry);
		return -ENOMEM;
	}
	if (place > list->count)
		place = list->count;
	memmove(&list->slots[place + 1], &list->slots[place], (list->count - place) * sizeof(*list->slots));
	list->slots[place] = (struct rule_slot){entry, live, 0};
	list->count++;
	return 0;
}

void rule_list_remove(struct rule_list *list, size_t place)
{
	rule_entry_release(list->slots[place].entry);
	list->count--;
	memmove(&list->slots[place], &list->slots[place + 1], (list->count - place) * sizeof(*list->slots));
}

void rule_list_clear(struct rule_list *list)
{
	for (size_t i = 0; i < list->count; i++)
		rule_entry_release(list->slots[i].entry);
	free(list->slots);
	*list = (struct rule_list){};
}

static int list_copy(const struct rule_list *list, struct rule_list *ret_list)
{
	struct rule_list copy = {};

	if (list_reserve(&copy, list->count) < 0)
		return -ENOMEM;
	for (size_t i = 0; i < list->count; i++) {
		list->slots[i].entry->users++;
		copy.slots[i] = list->slots[i];
	}
	copy.count = list->count;
	*ret_list = copy;
	return 0;
}

bool rule_list_alike(const struct rule_list *a, const struct rule_list *b)
{
	if (a->count != b->count)
		return false;
	for (size_t i = 0; i < a->count; i++)
		if (!rule_entry_is_same(a->slots[i].entry, b->slots[i].entry) ||
			a->slots[i].live != b->slots[i].live)
			return false;
	return true;
}

size_t rule_list_count(const struct rule_list *list, enum rule_kind kind)
{
	size_t count = 0;

	for (size_t i = 0; i < list->count; i++)
		count += rule_kind(&list->slots[i].entry->rule) == kind;
	return count;
}

/* The next rule of a kind from *place on, which moves behind it; NULL at the end. */
static const struct rule_slot *list_next(const struct rule_list *list, enum rule_kind kind, size_t *place)
{
	while (*place < list->count) {
		const struct rule_slot *slot = &list->slots[(*place)++];

		if (rule_kind(&slot->entry->rule) == kind)
			return slot;
	}
	return NULL;
}

bool rule_list_same(const struct rule_list *a, const struct rule_list *b, enum rule_kind kind)
{
	size_t i = 0, j = 0;
	const struct rule_slot *x, *y;

	do {
		x = list_next(a, kind, &i);
		y = list_next(b, kind, &j);
		if (!x != !y || (x && (!rule_entry_is_same(x->entry, y->entry) || x->class != y->class)))
			return false;
	} while (x);
	return true;
}

bool rule_list_identical(const struct rule_list *a, const struct rule_list *b)
{
	if (a->count != b->count)
		return false;
	for (size_t i = 0; i < a->count; i++)
		if (a->slots[i].entry != b->slots[i].entry || a->slots[i].live != b->slots[i].live)
			return false;
	return true;
}

/* -- lists out of sentences -- */

/* The slots of a list by their sentences: chains of places + 1, the first of each sentence first. */
struct finder {
	const struct rule_list *list;
	bool any; /* those made by commands, too */
	uint32_t mask;
	uint32_t *heads, *next;
};

static void finder_clear(struct finder *finder)
{
	free(finder->heads);
	free(finder->next);
}

static uint32_t text_hash(const char *text)
{
	uint64_t hash = owner_hash(text, strlen(text));

	return (uint32_t)(hash ^ hash >> 32);
}

static int finder_make(struct finder *finder, const struct rule_list *list, bool any)
{
	uint32_t size = 16;

	while (size < list->count)
		size *= 2;
	*finder = (struct finder){.list = list,
		.any = any,
		.mask = size - 1,
		.heads = calloc(size, sizeof(*finder->heads)),
		.next = calloc(list->count + 1, sizeof(*finder->next))};
	if (!finder->heads || !finder->next)
		return -ENOMEM;
	for (size_t i = list->count; i-- > 0;) {
		uint32_t *head = &finder->heads[text_hash(list->slots[i].entry->text) & finder->mask];

		if (list->slots[i].live && !any)
			continue;
		finder->next[i] = *head;
		*head = (uint32_t)i + 1;
	}
	return 0;
}

/* Takes the first slot with this sentence out of the chains; NULL: there is none. */
static struct rule_entry *finder_take(struct finder *finder, const char *text)
{
	uint32_t *link = &finder->heads[text_hash(text) & finder->mask];

	for (; *link; link = &finder->next[*link - 1]) {
		struct rule_entry *entry = finder->list->slots[*link - 1].entry;

		if (strcmp(entry->text, text) == 0) {
			*link = finder->next[*link - 1];
			return entry;
		}
	}
	return NULL;
}

/* A service of another sentence is the same service if its name is: it keeps its id.  Names are each there
 * once. */
static void service_keep_id(const struct finder *finder, struct rule_entry *entry)
{
	for (size_t i = 0; i < finder->list->count && rule_kind(&entry->rule) == RULE_ON_SERVICES; i++) {
		const struct rule_slot *slot = &finder->list->slots[i];

		if ((slot->live && !finder->any) || rule_kind(&slot->entry->rule) != RULE_ON_SERVICES ||
			strcmp(slot->entry->rule.service->name, entry->rule.service->name) != 0)
			continue;
		rule_entry_share(entry, slot->entry);
		entry->id = slot->entry->id;
		return;
	}
}

/* Does the sentence still mean what it meant: is a user's name still the same number's? */
static bool entry_means(const struct rule_entry *entry, const struct rule_entry *now)
{
	return entry->rule.match.owner.number == now->rule.match.owner.number &&
	       entry->pid_start == now->pid_start;
}

/* -- classes that stay, with other rates -- */

/* A class by what does not change with its rates. */
struct class_name {
	char *text;
	size_t place;
	struct rule_entry *entry;
};

static int compare_class_names(const void *a, const void *b)
{
	const struct class_name *x = a, *y = b;
	int r = strcmp(x->text, y->text);

	return r ? r : (x->place > y->place) - (x->place < y->place);
}

static int class_name_add(struct class_name *names, size_t *count, size_t place, struct rule_entry *entry)
{
	char *text = rule_class_text(&entry->rule);

	if (!text)
		return -ENOMEM;
	names[*count] = (struct class_name){text, place, entry};
	++*count;
	return 0;
}

/* Those of the old list that no sentence has taken. */
static int classes_left(const struct finder *finder, struct class_name *names, size_t *count)
{
	for (uint32_t chain = 0; chain <= finder->mask; chain++)
		for (uint32_t at = finder->heads[chain]; at; at = finder->next[at - 1]) {
			struct rule_entry *entry = finder->list->slots[at - 1].entry;

			if (rule_entry_is_class(entry) && class_name_add(names, count, at, entry) < 0)
				return -ENOMEM;
		}
	return 0;
}

static int classes_new(const struct rule_list *list, struct class_name *names, size_t *count)
{
	for (size_t i = 0; i < list->count; i++) {
		struct rule_entry *entry = list->slots[i].entry;

		if (!entry->id && rule_entry_is_class(entry) && class_name_add(names, count, i, entry) < 0)
			return -ENOMEM;
	}
	return 0;
}

/* As rule_entry_change() does. */
static void entry_become(struct rule_entry *entry, struct rule_entry *before)
{
	rule_entry_share(entry, before);
	entry->id = before->id;
	entry->generation = before->generation;
	entry->ends_ns = before->ends_ns;
	entry->family = before->family;
}

static void class_names_free(struct class_name *names, size_t count)
{
	for (size_t i = 0; i < count; i++)
		free(names[i].text);
	free(names);
}

/* A sentence that makes the class that another one made, with other rates, is that one changed. */
static int classes_keep(const struct finder *finder, const struct rule_list *list)
{
	struct class_name *old = calloc(finder->list->count + 1, sizeof(*old));
	struct class_name *new = calloc(list->count + 1, sizeof(*new));
	size_t old_count = 0, new_count = 0, i = 0, j = 0;
	int r = old && new ? classes_left(finder, old, &old_count) : -ENOMEM;

	if (r == 0 && old_count)
		r = classes_new(list, new, &new_count);
	if (r == 0 && new_count) {
		qsort(old, old_count, sizeof(*old), compare_class_names);
		qsort(new, new_count, sizeof(*new), compare_class_names);
	}
	while (r == 0 && i < old_count && j < new_count) {
		int order = strcmp(old[i].text, new[j].text);

		if (order == 0 && entry_means(old[i].entry, new[j].entry))
			entry_become(new[j].entry, old[i].entry);
		i += order <= 0;
		j += order >= 0;
	}
	class_names_free(old, old_count);
	class_names_free(new, new_count);
	return r;
}

/* An entry for a sentence, with a use for the caller. */
static struct rule_entry *entry_for(
	struct rule_places *places, const char *text, struct finder *finder, struct error *error)
{
	struct rule_entry *before = finder_take(finder, text), *entry;

	if (before && before->rule.match.owner.kind == OWNER_ANY) {
		before->users++;
		return before;
	}
	entry = rule_entry_new(places, text, error);
	if (!entry)
		return NULL;
	if (!before)
		before = finder_take(finder, entry->text); /* it may have been said with other words */
	if (!before) {
		service_keep_id(finder, entry);
		return entry;
	}
	if (entry_means(before, entry)) {
		before->users++;
		rule_entry_release(entry);
		return before;
	}
	return entry; /* the name in it means somebody else now */
}

static int list_make(struct rule_places *places, char *const *texts, struct finder *finder,
	struct rule_list *list, struct error *error)
{
	for (; texts && *texts; texts++) {
		struct rule_entry *entry = entry_for(places, *texts, finder, error);

		if (!entry)
			return error && error->code ? error->code : -EINVAL;
		if (rule_list_insert(list, list->count, entry, false) < 0)
			return error_set(error, -ENOMEM, "out of memory");
	}
	return classes_keep(finder, list) < 0 ? error_set(error, -ENOMEM, "out of memory") : 0;
}

int rule_list_make(struct rule_places *places, char *const *texts, const struct rule_list *old, bool any,
	struct rule_list *ret_list, struct error *error)
{
	struct finder finder = {};
	struct rule_list list = {};
	int r = finder_make(&finder, old, any);

	r = r < 0 ? error_set(error, r, "out of memory") : list_make(places, texts, &finder, &list, error);
	finder_clear(&finder);
	if (r < 0)
		rule_list_clear(&list);
	else
		*ret_list = list;
	return r;
}

/* The place behind which each entry's id is searched: ids in ascending order. */
static int compare_ids(const void *a, const void *b)
{
	const struct rule_slot *x = *(const struct rule_slot *const *)a,
			       *y = *(const struct rule_slot *const *)b;

	return x->entry->id < y->entry->id ? -1 : x->entry->id > y->entry->id;
}

/* For each live rule of `old` the place in `list` of the rule that it stands in front of; its count: the end.
 */
static int anchors_find(const struct rule_list *list, const struct rule_list *old, size_t *anchors)
{
	_cleanup_free_ const struct rule_slot **sorted = calloc(list->count + 1, sizeof(struct rule_slot *));
	size_t anchor = list->count;

	if (!sorted)
		return -ENOMEM;
	for (size_t i = 0; i < list->count; i++)
		sorted[i] = &list->slots[i];
	qsort(sorted, list->count, sizeof(struct rule_slot *), compare_ids);
	for (size_t i = old->count; i-- > 0;) {
		const struct rule_slot *slot = &old->slots[i], **found = NULL;

		if (!slot->live)
			found = bsearch(&slot, sorted, list->count, sizeof(struct rule_slot *), compare_ids);
		if (found)
			anchor = (size_t)(*found - list->slots);
		anchors[i] = anchor;
	}
	return 0;
}

static int live_compare(const void *a, const void *b, void *context)
{
	const size_t *anchors = context, x = *(const size_t *)a, y = *(const size_t *)b;

	if (anchors[x] != anchors[y])
		return anchors[x] < anchors[y] ? -1 : 1;
	return x < y ? -1 : x > y;
}

/* Places in `old` of its live rules, in the order in which they come into the new list. */
static size_t live_order(const struct rule_list *old, size_t *anchors, size_t *places)
{
	size_t count = 0;

	for (size_t i = 0; i < old->count; i++)
		if (old->slots[i].live)
			places[count++] = i;
	qsort_r(places, count, sizeof(*places), live_compare, anchors);
	return count;
}

/* `places` of `old` come in front of those places of `list` that `anchors` says. */
static int list_merge(struct rule_list *list, const struct rule_list *old, size_t *anchors, size_t *places)
{
	struct rule_list merged = {};
	size_t live, next = 0;

	if (anchors_find(list, old, anchors) < 0)
		return -ENOMEM;
	live = live_order(old, anchors, places);
	if (list_reserve(&merged, list->count + live + 1) < 0 || !merged.slots)
		return -ENOMEM;
	for (size_t i = 0; i <= list->count; i++) {
		for (; next < live && anchors[places[next]] == i; next++) {
			old->slots[places[next]].entry->users++;
			merged.slots[merged.count++] = old->slots[places[next]];
		}
		if (i < list->count)
			merged.slots[merged.count++] = list->slots[i];
	}
	free(list->slots);
	*list = merged;
	return 0;
}

int rule_list_merge(struct rule_list *list, const struct rule_list *old)
{
	size_t *anchors = calloc(old->count + 1, sizeof(*anchors));
	size_t *places = calloc(old->count + 1, sizeof(*places));
	int r = anchors && places ? list_merge(list, old, anchors, places) : -ENOMEM;

	free(anchors);
	free(places);
	return r;
}

/* -- books -- */

static void words_free(char **words)
{
	for (char **word = words; word && *word; word++)
		free(*word);
	free(words);
}

static void policy_clear(struct rule_policy *policy)
{
	rule_list_clear(&policy->list);
	words_free(policy->interfaces);
	words_free(policy->cgroups);
}

void rulebook_clear(struct rulebook *book)
{
	for (size_t i = 0; i < book->count; i++)
		policy_clear(&book->policies[i]);
	free(book->policies);
	*book = (struct rulebook){};
}

int rulebook_init(struct rulebook *ret_book)
{
	*ret_book = (struct rulebook){.policies = calloc(1, sizeof(struct rule_policy))};
	if (!ret_book->policies)
		return -ENOMEM;
	ret_book->count = 1;
	return 0;
}

char **words_copy(char *const *words)
{
	size_t count = 0;
	char **copy;

	while (words && words[count])
		count++;
	copy = calloc(count + 1, sizeof(*copy));
	for (size_t i = 0; copy && i < count; i++) {
		copy[i] = strdup(words[i]);
		if (!copy[i]) {
			words_free(copy);
			return NULL;
		}
	}
	return copy;
}

int rule_policy_give(struct rule_policy *policy, char *const *interfaces, char *const *cgroups)
{
	char **names = words_copy(interfaces), **paths = words_copy(cgroups);

	if (!names || !paths) {
		words_free(names);
		words_free(paths);
		return -ENOMEM;
	}
	words_free(policy->interfaces);
	words_free(policy->cgroups);
	policy->interfaces = names;
	policy->cgroups = paths;
	return 0;
}

static bool words_same(char *const *a, char *const *b)
{
	static char *const none[] = {NULL};

	a = a ? a : none;
	b = b ? b : none;
	for (; *a && *b; a++, b++)
		if (strcmp(*a, *b) != 0)
			return false;
	return *a == *b;
}

bool rule_policy_has_same(const struct rule_policy *a, const struct rule_policy *b)
{
	return words_same(a->interfaces, b->interfaces) && words_same(a->cgroups, b->cgroups);
}

static int policy_copy(const struct rule_policy *policy, struct rule_policy *ret_policy)
{
	struct rule_policy copy = *policy;

	copy.list = (struct rule_list){};
	copy.interfaces = copy.cgroups = NULL;
	if (rule_policy_give(&copy, policy->interfaces, policy->cgroups) < 0 ||
		list_copy(&policy->list, &copy.list) < 0) {
		policy_clear(&copy);
		return -ENOMEM;
	}
	*ret_policy = copy;
	return 0;
}

int rulebook_copy(const struct rulebook *book, struct rulebook *ret_book)
{
	struct rulebook copy = {
		.policies = calloc(book->count, sizeof(struct rule_policy)), .applied = book->applied};

	if (!copy.policies)
		return -ENOMEM;
	for (; copy.count < book->count; copy.count++) {
		if (policy_copy(&book->policies[copy.count], &copy.policies[copy.count]) < 0) {
			rulebook_clear(&copy);
			return -ENOMEM;
		}
	}
	*ret_book = copy;
	return 0;
}

struct rule_policy *rulebook_policy(const struct rulebook *book, const char *name)
{
	for (size_t i = 0; i < book->count; i++)
		if (strcmp(book->policies[i].name, name) == 0)
			return &book->policies[i];
	return NULL;
}

struct rule_policy *rulebook_numbered(const struct rulebook *book, unsigned int number)
{
	for (size_t i = 0; i < book->count; i++)
		if (book->policies[i].number == number)
			return &book->policies[i];
	return NULL;
}

int rulebook_tenant_add(struct rulebook *book, const struct rulebook *other, const char *name,
	struct rule_policy **ret_policy, struct error *error)
{
	const struct rule_policy *before = rulebook_policy(other, name);
	unsigned int number = POLICY_TENANT;
	struct rule_policy *policies;

	while (number < POLICY_TENANT_END &&
		(rulebook_numbered(book, number) || rulebook_numbered(other, number)))
		number++;
	if (before)
		number = before->number;
	if (number == POLICY_TENANT_END) {
		error_set(error, -ENOSPC, "too many tenants");
		return error_want(error, "at most %d, those that go included", POLICY_TENANTS_MAX);
	}
	policies = reallocarray(book->policies, book->count + 1, sizeof(*policies));
	if (!policies)
		return error_set(error, -ENOMEM, "out of memory");
	book->policies = policies;
	policies[book->count] = (struct rule_policy){.number = number};
	snprintf(policies[book->count].name, sizeof(policies->name), "%s", name);
	*ret_policy = &policies[book->count++];
	return 0;
}

bool rulebook_find(
	const struct rulebook *book, uint32_t id, struct rule_policy **ret_policy, size_t *ret_place)
{
	for (size_t p = 0; p < book->count; p++) {
		const struct rule_list *list = &book->policies[p].list;

		for (size_t i = 0; i < list->count; i++) {
			if (list->slots[i].entry->id != id)
				continue;
			*ret_policy = &book->policies[p];
			*ret_place = i;
			return true;
		}
	}
	return false;
}

size_t rulebook_rules(const struct rulebook *book)
{
	size_t count = 0;

	for (size_t i = 0; i < book->count; i++)
		count += book->policies[i].list.count;
	return count;
}

struct rule_entry *rulebook_next(const struct rulebook *book, enum rule_verb verb, size_t *place)
{
	const struct rule_list *list = book && book->count ? &book->policies[0].list : NULL;

	while (list && *place < list->count) {
		struct rule_entry *entry = list->slots[(*place)++].entry;

		if (entry->rule.verb == verb)
			return entry;
	}
	return NULL;
}

bool rulebook_has_same(const struct rulebook *a, const struct rulebook *b, enum rule_verb verb)
{
	const struct rule_entry *one, *other;
	size_t i = 0, j = 0;

	do {
		one = rulebook_next(a, verb, &i);
		other = rulebook_next(b, verb, &j);
		if (!one != !other || (one && one != other &&
					      (one->id != other->id || strcmp(one->text, other->text) != 0)))
			return false;
	} while (one);
	return true;
}
