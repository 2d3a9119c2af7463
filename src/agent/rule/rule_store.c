// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
#include "agent/rule/rule_store.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "basic/cleanup.h"
#include "basic/log.h"

#define STORE_MAGIC  0x656c7572U /* "rule" */
#define STORE_LAYOUT 1U
#define STORE_BYTES  (64U << 20) /* of a copy, at most */
#define STORE_BOOKS  3U          /* now, before, back */

/* At the beginning of a copy; the entries, then the books follow, each part padded to 8 bytes. */
struct store_head {
	uint32_t magic, layout;
	uint64_t serial; /* written last: the copy is whole */
	uint64_t length; /* of what follows */
	uint64_t checksum;
	uint32_t state; /* may change alone: not in the checksum */
	uint32_t next_id;
	uint32_t entries;
	uint32_t whole;
	uint64_t deadline_ns, changed, places_before;
};

struct store_entry {
	uint32_t id, generation, counter, limit;
	uint64_t ends_ns, pid_start;
	uint32_t length;      /* of the sentence that follows, with the NUL */
	uint16_t class, rest; /* 0: none */
};

struct store_book {
	uint32_t policies; /* that follow */
	uint32_t applied;
};

struct store_policy {
	char name[POLICY_TENANT_MAX];
	uint32_t number, generation;
	uint8_t defaults[2], log, reserved;
	uint32_t interfaces, cgroups; /* texts that follow: length with the NUL, bytes */
	uint32_t rules;               /* store_slots that follow */
};

struct store_slot {
	uint32_t entry; /* its place among the entries */
	uint32_t live;
};

/* -- writing -- */

struct writer {
	size_t used;
	struct rule_store *store;
	struct engine_region *region;
	int error;
};

static void *put(struct writer *writer, const void *data, size_t size)
{
	size_t padded = (size + 7) & ~(size_t)7;
	uint8_t *to;

	if (writer->error == 0 && writer->used + padded > writer->region->size)
		writer->error =
			engine_region_grow(writer->store->engine, writer->region, writer->used + padded);
	if (writer->error < 0)
		return NULL;
	to = (uint8_t *)writer->region->base + writer->used;
	memcpy(to, data, size);
	memset(to + size, 0, padded - size);
	writer->used += padded;
	return to;
}

static void put_text(struct writer *writer, const char *text)
{
	uint32_t length = (uint32_t)strlen(text) + 1;

	put(writer, &length, sizeof(length));
	put(writer, text, length);
}

static uint32_t put_texts(struct writer *writer, char *const *texts)
{
	uint32_t count = 0;

	for (; texts && texts[count]; count++)
		put_text(writer, texts[count]);
	return count;
}

static void put_entry(struct writer *writer, const struct rule_entry *entry)
{
	struct store_entry head = {
		.id = entry->id,
		.generation = entry->generation,
		.counter = entry->counter,
		.limit = entry->limit,
		.ends_ns = entry->ends_ns,
		.pid_start = entry->pid_start,
		.length = entry->length,
		.class = entry->class == RULE_NO_PLACE ? 0 : (uint16_t)entry->class,
		.rest = entry->rest == RULE_NO_PLACE ? 0 : (uint16_t)entry->rest,
	};

	put(writer, &head, sizeof(head));
	put(writer, entry->text, head.length);
}

/* Entries of all books, each once: books mostly have the same ones. */
static uint32_t put_entries(struct writer *writer, const struct rulebook *const books[STORE_BOOKS])
{
	uint64_t writing = ++writer->store->writings;
	uint32_t count = 0;

	for (unsigned int b = 0; b < STORE_BOOKS; b++)
		for (size_t p = 0; p < books[b]->count; p++) {
			const struct rule_list *list = &books[b]->policies[p].list;

			for (size_t i = 0; i < list->count; i++) {
				struct rule_entry *entry = list->slots[i].entry;

				if (entry->written == writing)
					continue;
				entry->written = writing;
				entry->place = count++;
				put_entry(writer, entry);
			}
		}
	return count;
}

static void put_policy(struct writer *writer, const struct rule_policy *policy)
{
	struct store_policy head = {
		.number = policy->number,
		.generation = policy->generation,
		.defaults = {(uint8_t)policy->defaults[0], (uint8_t)policy->defaults[1]},
		.log = policy->log,
		.rules = (uint32_t)policy->list.count,
	};

	memcpy(head.name, policy->name, sizeof(head.name));
	for (char *const *word = policy->interfaces; word && *word; word++)
		head.interfaces++;
	for (char *const *word = policy->cgroups; word && *word; word++)
		head.cgroups++;
	put(writer, &head, sizeof(head));
	put_texts(writer, policy->interfaces);
	put_texts(writer, policy->cgroups);
	for (size_t i = 0; i < policy->list.count; i++) {
		const struct rule_slot *slot = &policy->list.slots[i];
		struct store_slot stored = {slot->entry->place, slot->live};

		put(writer, &stored, sizeof(stored));
	}
}

static void put_book(struct writer *writer, const struct rulebook *book)
{
	struct store_book head = {(uint32_t)book->count, book->applied};

	put(writer, &head, sizeof(head));
	for (size_t i = 0; i < book->count; i++)
		put_policy(writer, &book->policies[i]);
}

/* FNV-1a over words: all parts are padded to them. */
static uint64_t words_hash(uint64_t hash, const void *data, size_t length)
{
	const uint8_t *bytes = data;
	uint64_t word;

	for (size_t i = 0; i + sizeof(word) <= length; i += sizeof(word)) {
		memcpy(&word, bytes + i, sizeof(word));
		hash = (hash ^ word) * 0x100000001b3ULL;
		hash ^= hash >> 32;
	}
	return hash;
}

/* Of a copy, but for what changes alone. */
static uint64_t checksum(const struct store_head *head, const void *body)
{
	struct store_head fixed = *head;

	fixed.serial = fixed.checksum = 0;
	fixed.state = 0;
	return words_hash(words_hash(0xcbf29ce484222325ULL, &fixed, sizeof(fixed)), body, head->length);
}

static struct store_head *head_of(struct rule_store *store, unsigned int copy)
{
	return store->copies[copy].base;
}

static int copy_write(struct writer *writer, const struct rule_record *record)
{
	const struct rulebook *const books[STORE_BOOKS] = {&record->now, &record->before, &record->back};
	struct store_head head = {
		.magic = STORE_MAGIC,
		.layout = STORE_LAYOUT,
		.state = record->state,
		.next_id = record->next_id,
		.deadline_ns = record->deadline_ns,
		.whole = record->whole,
		.changed = record->changed,
		.places_before = record->places_before,
	};
	const uint8_t *base;

	put(writer, &head, sizeof(head));
	head.entries = put_entries(writer, books);
	for (unsigned int b = 0; b < STORE_BOOKS; b++)
		put_book(writer, books[b]);
	if (writer->error < 0)
		return writer->error;
	base = writer->region->base;
	head.length = writer->used - sizeof(head);
	head.checksum = checksum(&head, base + sizeof(head));
	memcpy(writer->region->base, &head, sizeof(head));
	return 0;
}

int rule_store_write(struct rule_store *store, const struct rule_record *record, struct error *error)
{
	unsigned int older = !store->newer;
	struct writer writer = {.store = store, .region = &store->copies[older]};
	int r;

	if (writer.region->size)
		__atomic_store_n(&head_of(store, older)->serial, 0, __ATOMIC_SEQ_CST);
	r = copy_write(&writer, record);
	if (r == -ENOSPC) {
		error_set(error, -E2BIG, "too much: rules with more than %u bytes in all", STORE_BYTES);
		return error_want(error, "fewer rules, or shorter comments");
	}
	if (r < 0)
		return error_set(error, r, "cannot keep the rules for the next agent: %s", strerror(-r));
	__atomic_store_n(&head_of(store, older)->serial, ++store->serial, __ATOMIC_SEQ_CST);
	store->newer = older;
	return 0;
}

void rule_record_settle(struct rule_record *record)
{
	struct rulebook *forgotten = record->whole ? &record->back : &record->before;

	rulebook_clear(forgotten);
	if (record->whole)
		record->back = record->before;
	record->before = (struct rulebook){};
	record->whole = false;
	record->state = RULES_SETTLED;
}

void rule_store_state(struct rule_store *store, enum rule_state state)
{
	if (store->copies[store->newer].size)
		__atomic_store_n(&head_of(store, store->newer)->state, state, __ATOMIC_SEQ_CST);
}

/* -- reading -- */

struct reader {
	const uint8_t *data;
	size_t left;
	struct rule_places *places;
	struct rule_entry **entries; /* NULL: could not be read */
	uint32_t entry_count;
};

/* The next part; NULL: there is no more. */
static const void *get(struct reader *reader, size_t size)
{
	size_t padded = (size + 7) & ~(size_t)7;
	const void *data = reader->data;

	if (size > reader->left || padded > reader->left)
		return NULL;
	reader->data += padded;
	reader->left -= padded;
	return data;
}

static const char *get_text(struct reader *reader, size_t length)
{
	const char *text = length ? get(reader, length) : NULL;

	return text && !text[length - 1] ? text : NULL;
}

static int get_entry(struct reader *reader, struct rule_entry **ret_entry)
{
	const struct store_entry *head = get(reader, sizeof(*head));
	const char *text = head ? get_text(reader, head->length) : NULL;
	struct rule_entry *entry;
	struct error problem = {};

	if (!text)
		return -EBADMSG;
	entry = rule_entry_again(reader->places, text, head->pid_start, &problem);
	if (!entry && problem.code == -ENOMEM)
		return -ENOMEM;
	if (!entry) {
		log_warning("rule %u, '%s': %s; it is gone", head->id, text, problem.what);
		return 0;
	}
	entry->id = head->id;
	entry->generation = head->generation;
	entry->counter = head->counter < POLICY_COUNTERS_MAX ? head->counter : RULE_NO_PLACE;
	entry->limit = head->limit < POLICY_LIMITS_MAX ? head->limit : RULE_NO_PLACE;
	entry->class = head->class && head->class < SHAPE_CLASSES_MAX ? head->class : RULE_NO_PLACE;
	entry->rest = head->rest && head->rest < SHAPE_CLASSES_MAX ? head->rest : RULE_NO_PLACE;
	entry->ends_ns = head->ends_ns;
	rule_entry_keep_places(entry);
	*ret_entry = entry;
	return 0;
}

static int get_texts(struct reader *reader, uint32_t count, char ***ret_texts)
{
	char **texts;

	if (count > POLICY_PLACES_MAX)
		return -EBADMSG;
	texts = calloc(count + 1, sizeof(*texts));
	if (!texts)
		return -ENOMEM;
	*ret_texts = texts;
	for (uint32_t i = 0; i < count; i++) {
		const uint32_t *length = get(reader, sizeof(*length));
		const char *text = length ? get_text(reader, *length) : NULL;

		if (!text)
			return -EBADMSG;
		texts[i] = strdup(text);
		if (!texts[i])
			return -ENOMEM;
	}
	return 0;
}

static int get_slots(struct reader *reader, struct rule_list *list, uint32_t count)
{
	int r = 0;

	for (uint32_t i = 0; i < count && r == 0; i++) {
		const struct store_slot *slot = get(reader, sizeof(*slot));
		struct rule_entry *entry;

		if (!slot || slot->entry >= reader->entry_count)
			return -EBADMSG;
		entry = reader->entries[slot->entry];
		if (!entry)
			continue;
		entry->users++;
		r = rule_list_insert(list, list->count, entry, slot->live);
	}
	return r;
}

static int get_policy(struct reader *reader, struct rule_policy *policy)
{
	const struct store_policy *head = get(reader, sizeof(*head));
	int r;

	if (!head || head->number >= POLICY_NUMBER_MAX || memchr(head->name, 0, sizeof(head->name)) == NULL)
		return -EBADMSG;
	memcpy(policy->name, head->name, sizeof(policy->name));
	policy->number = head->number;
	policy->generation = head->generation;
	policy->defaults[0] = head->defaults[0];
	policy->defaults[1] = head->defaults[1];
	policy->log = head->log;
	r = get_texts(reader, head->interfaces, &policy->interfaces);
	if (r == 0)
		r = get_texts(reader, head->cgroups, &policy->cgroups);
	return r < 0 ? r : get_slots(reader, &policy->list, head->rules);
}

static int get_book(struct reader *reader, struct rulebook *book)
{
	const struct store_book *head = get(reader, sizeof(*head));
	int r = 0;

	if (!head || head->policies > POLICY_NUMBER_MAX)
		return -EBADMSG;
	book->policies = calloc(head->policies + 1, sizeof(*book->policies));
	if (!book->policies)
		return -ENOMEM;
	book->applied = head->applied;
	for (; r == 0 && book->count < head->policies; book->count++)
		r = get_policy(reader, &book->policies[book->count]);
	return r;
}

static int compare_ids(const void *a, const void *b)
{
	const struct rule_entry *x = *(const struct rule_entry *const *)a,
				*y = *(const struct rule_entry *const *)b;

	return x->id < y->id ? -1 : x->id > y->id;
}

/* Entries of one id are one rule with other rates: they have the places of the first. */
static int entries_share(struct reader *reader)
{
	struct rule_entry **sorted = calloc(reader->entry_count + 1, sizeof(struct rule_entry *));
	size_t count = 0;

	if (!sorted)
		return -ENOMEM;
	for (uint32_t i = 0; i < reader->entry_count; i++)
		if (reader->entries[i])
			sorted[count++] = reader->entries[i];
	qsort(sorted, count, sizeof(struct rule_entry *), compare_ids);
	for (size_t i = 1; i < count; i++)
		if (sorted[i]->id == sorted[i - 1]->id)
			rule_entry_share(sorted[i], sorted[i - 1]);
	free(sorted);
	return 0;
}

static int record_read(struct reader *reader, const struct store_head *head, struct rule_record *record)
{
	int r = 0;

	record->state = (enum rule_state)head->state;
	record->next_id = head->next_id;
	record->deadline_ns = head->deadline_ns;
	record->whole = head->whole;
	record->changed = head->changed;
	record->places_before = head->places_before;
	reader->entries = calloc(head->entries + 1, sizeof(struct rule_entry *));
	if (!reader->entries)
		return -ENOMEM;
	for (; r == 0 && reader->entry_count < head->entries; reader->entry_count++)
		r = get_entry(reader, &reader->entries[reader->entry_count]);
	if (r == 0)
		r = entries_share(reader);
	if (r == 0)
		r = get_book(reader, &record->now);
	if (r == 0)
		r = get_book(reader, &record->before);
	if (r == 0)
		r = get_book(reader, &record->back);
	for (uint32_t i = 0; i < reader->entry_count; i++)
		rule_entry_release(reader->entries[i]);
	free(reader->entries);
	return r == 0 && !record->now.count ? -EBADMSG : r;
}

static bool copy_is_whole(const struct engine_region *copy)
{
	const struct store_head *head = copy->base;

	return copy->size > sizeof(*head) && head->magic == STORE_MAGIC && head->layout == STORE_LAYOUT &&
	       head->serial && head->length <= copy->size - sizeof(*head) &&
	       checksum(head, head + 1) == head->checksum;
}

int rule_store_read(struct rule_store *store, struct rule_places *places, struct rule_record *ret_record,
	bool *ret_found, struct error *error)
{
	struct rule_record record = {};
	const struct store_head *head = NULL;
	struct reader reader = {.places = places};
	int r;

	for (unsigned int copy = 0; copy < 2; copy++) {
		if (!copy_is_whole(&store->copies[copy]) ||
			(head && head_of(store, copy)->serial < head->serial))
			continue;
		head = head_of(store, copy);
		store->newer = copy;
		store->serial = head->serial;
	}
	*ret_found = head;
	if (!head)
		return 0;
	reader.data = (const uint8_t *)(head + 1);
	reader.left = head->length;
	r = record_read(&reader, head, &record);
	if (r < 0) {
		rulebook_clear(&record.now);
		rulebook_clear(&record.before);
		rulebook_clear(&record.back);
		return error_set(
			error, r, "cannot read the rules that the last agent kept: %s", strerror(-r));
	}
	if (record.state == RULES_SETTLED)
		rule_record_settle(&record);
	*ret_record = record;
	return 0;
}

int rule_store_open(struct engine *engine, struct rule_store *ret_store, struct error *error)
{
	struct rule_store store = {.engine = engine};
	int r = engine_region_open(engine, "rules_a", STORE_BYTES, &store.copies[0], error);

	if (r < 0)
		return r;
	r = engine_region_open(engine, "rules_b", STORE_BYTES, &store.copies[1], error);
	if (r < 0) {
		engine_region_close(&store.copies[0]);
		return r;
	}
	*ret_store = store;
	return 0;
}

void rule_store_close(struct rule_store *store)
{
	engine_region_close(&store->copies[0]);
	engine_region_close(&store->copies[1]);
}
