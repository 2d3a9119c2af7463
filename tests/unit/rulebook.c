// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* The books of rules: which entry a sentence gets, where live rules go, and what the next agent finds. */
#include "agent/rule/rulebook.h"

#include <errno.h>

#include "agent/rule/rule_store.h"
#include "unit.h"

#define COPIES      2
#define REGION_SIZE (4U << 20)

/* The engine's memory, as plain memory that outlives the store. */

static uint8_t regions[COPIES][REGION_SIZE] __attribute__((aligned(8)));
static size_t region_room = REGION_SIZE; /* that there is, at most */
static size_t region_sizes[COPIES];

int engine_region_open(struct engine *engine, const char *name, size_t limit,
	struct engine_region *ret_region, struct error *error)
{
	int copy = name[strlen(name) - 1] - 'a';

	(void)engine;
	(void)error;
	*ret_region =
		(struct engine_region){.base = regions[copy], .size = region_sizes[copy], .limit = limit};
	return 0;
}

int engine_region_grow(struct engine *engine, struct engine_region *region, size_t size)
{
	(void)engine;
	if (size > region_room)
		return -ENOSPC;
	region->size = region_room;
	region_sizes[region->base == regions[1]] = region_room;
	return 0;
}

void engine_region_close(struct engine_region *region)
{
	region->base = NULL;
}

static struct rule_places places;

static uint32_t next_id = 1;

/* A list of file rules, or of live ones, in which new rules get ids. */
static struct rule_list list_of(char *const *texts, const struct rule_list *old, bool any)
{
	struct rule_list list;
	struct error error = {};

	if (rule_list_make(&places, texts, old, any, &list, &error) < 0)
		fail_msg("%s", error.what);
	for (size_t i = 0; i < list.count; i++) {
		struct rule_entry *entry = list.slots[i].entry;

		if (!entry->id)
			entry->id = next_id++;
		if (!entry->generation)
			entry->generation = 1;
		assert_int_equal(rule_entry_place(entry, &error), 0);
	}
	return list;
}

static void add_live(struct rule_list *list, size_t place, const char *text)
{
	struct error error = {};
	struct rule_entry *entry = rule_entry_new(&places, text, &error);

	assert_non_null(entry);
	entry->id = next_id++;
	assert_int_equal(rule_list_insert(list, place, entry, true), 0);
}

static void expect_list(const struct rule_list *list, const char *const *texts)
{
	size_t count = 0;

	for (; texts[count]; count++) {
		if (count >= list->count)
			fail_msg("'%s' is missing", texts[count]);
		assert_string_equal(list->slots[count].entry->text, texts[count]);
	}
	assert_int_equal(list->count, count);
}

#define TEXTS(...)             ((char *const *)(const char *const[]){__VA_ARGS__, NULL})
#define EXPECT_LIST(list, ...) expect_list(list, (const char *const[]){__VA_ARGS__, NULL})

static const struct rule_list none;

/* A sentence that stays is the same entry; of two that are alike each is used once. */
static void test_same_sentences(void **state)
{
	struct rule_list a = list_of(TEXTS("drop in", "count in", "drop in", "accept out"), &none, true), b;
	const struct rule_entry *first = a.slots[0].entry, *second = a.slots[2].entry;

	(void)state;
	assert_ptr_not_equal(first, second);
	b = list_of(TEXTS("accept in udp", "drop in", "drop in", "drop in"), &a, true);
	assert_ptr_equal(b.slots[1].entry, first);
	assert_ptr_equal(b.slots[2].entry, second);
	assert_ptr_not_equal(b.slots[3].entry, first);
	assert_ptr_not_equal(b.slots[3].entry, second);
	assert_int_equal(first->users, 2);
	rule_list_clear(&a);
	assert_int_equal(first->users, 1);
	rule_list_clear(&b);
}

/* What is said with other words is the same sentence. */
static void test_other_words(void **state)
{
	struct rule_list a = list_of(TEXTS("drop in tcp to port 80"), &none, true), b;

	(void)state;
	b = list_of(TEXTS("drop  in tcp to any port http"), &a, true);
	assert_ptr_equal(b.slots[0].entry, a.slots[0].entry);
	rule_list_clear(&a);
	rule_list_clear(&b);
}

/* A class with other rates is the class that there was, one that is about other packets is not; who has the
 * very sentence comes first. */
static void test_changed_classes(void **state)
{
	struct rule_list a = list_of(TEXTS("limit out udp to 1mbit", "limit out udp to 2mbit",
					     "shape bulk under eth0 weight 1", "guarantee out tcp 3mbit",
					     "limit out tcp to 5/s"),
				 &none, true),
			 b;

	(void)state;
	b = list_of(
		TEXTS("guarantee out tcp 4mbit priority high", "limit out udp to 3mbit burst 64kb",
			"limit out udp to 1mbit", "shape bulk under eth1 weight 1", "limit out tcp to 6/s"),
		&a, true);
	assert_ptr_not_equal(b.slots[0].entry, a.slots[3].entry);
	assert_int_equal(b.slots[0].entry->id, a.slots[3].entry->id);
	assert_int_equal(b.slots[0].entry->counter, a.slots[3].entry->counter);
	assert_true(rule_entry_is_same(b.slots[0].entry, a.slots[3].entry));
	assert_int_equal(b.slots[1].entry->id, a.slots[1].entry->id);
	assert_ptr_equal(b.slots[2].entry, a.slots[0].entry);
	assert_int_not_equal(b.slots[3].entry->id, a.slots[2].entry->id);
	assert_int_not_equal(b.slots[4].entry->id, a.slots[4].entry->id);
	rule_list_clear(&a);
	/* its places are there as long as somebody has them */
	assert_int_not_equal(b.slots[0].entry->counter, RULE_NO_PLACE);
	rule_list_clear(&b);
}

/* Only rules of files are looked for when live ones stay. */
static void test_live_apart(void **state)
{
	struct rule_list a = list_of(TEXTS("drop in"), &none, true), b;

	(void)state;
	add_live(&a, 0, "count in");
	b = list_of(TEXTS("count in"), &a, false);
	assert_ptr_not_equal(b.slots[0].entry, a.slots[0].entry);
	rule_list_clear(&b);
	b = list_of(TEXTS("count in"), &a, true);
	assert_ptr_equal(b.slots[0].entry, a.slots[0].entry);
	assert_false(b.slots[0].live);
	rule_list_clear(&a);
	rule_list_clear(&b);
}

/* Live rules stay in front of the rule they stood in front of, or of the next that is left. */
static void test_merge(void **state)
{
	struct rule_list old = list_of(TEXTS("drop in tcp", "drop in udp", "drop in icmp"), &none, true),
			 list;

	(void)state;
	add_live(&old, 0, "count in tcp");
	add_live(&old, 2, "count in udp");
	add_live(&old, 3, "count out udp");
	add_live(&old, 6, "count out");
	list = list_of(TEXTS("drop in icmp", "drop out", "drop in tcp"), &old, false);
	assert_int_equal(rule_list_merge(&list, &old), 0);
	EXPECT_LIST(&list, "count in udp", "count out udp", "drop in icmp", "drop out", "count in tcp",
		"drop in tcp", "count out");
	assert_true(list.slots[0].live);
	assert_false(list.slots[2].live);
	rule_list_clear(&list);
	list = list_of(TEXTS(NULL), &old, false);
	assert_int_equal(rule_list_merge(&list, &old), 0);
	EXPECT_LIST(&list, "count in tcp", "count in udp", "count out udp", "count out");
	rule_list_clear(&list);
	rule_list_clear(&old);
}

/* Kinds are compared apart from each other. */
static void test_kinds(void **state)
{
	struct rule_list a = list_of(TEXTS("drop in", "deny bind", "count in"), &none, true), b, c;

	(void)state;
	b = list_of(TEXTS("deny bind", "drop in", "count in"), &a, true);
	c = list_of(TEXTS("count in", "deny bind", "drop in"), &a, true);
	assert_true(rule_list_same(&a, &b, RULE_ON_PACKETS));
	assert_true(rule_list_same(&a, &b, RULE_ON_SOCKETS));
	assert_false(rule_list_identical(&a, &b));
	assert_false(rule_list_same(&a, &c, RULE_ON_PACKETS));
	assert_true(rule_list_same(&a, &c, RULE_ON_SOCKETS));
	assert_int_equal(rule_list_count(&a, RULE_ON_SOCKETS), 1);
	rule_list_clear(&a);
	rule_list_clear(&b);
	rule_list_clear(&c);
}

/* Places are given once, never those of default verdicts, and are free again with the rule. */
static void test_places(void **state)
{
	static struct rule_entry *entries[POLICY_LIMITS_MAX];
	static uint8_t taken[POLICY_COUNTERS_MAX];
	struct error error = {};
	struct rule_entry *more;

	(void)state;
	for (size_t i = 0; i < POLICY_LIMITS_MAX; i++) {
		entries[i] = rule_entry_new(&places, "limit in udp to 5/s", &error);
		assert_int_equal(rule_entry_place(entries[i], &error), 0);
		assert_true(entries[i]->counter >= RULEBOOK_DEFAULT_COUNTERS);
		assert_int_equal(taken[entries[i]->counter]++, 0);
	}
	more = rule_entry_new(&places, "limit in udp to 5/s", &error);
	assert_int_equal(rule_entry_place(more, &error), -ENOSPC);
	assert_non_null(strstr(error.what, "4096"));
	rule_entry_release(entries[77]);
	assert_int_equal(rule_entry_place(more, &error), 0);
	rule_entry_release(more);
	for (size_t i = 0; i < POLICY_LIMITS_MAX; i++)
		if (i != 77)
			rule_entry_release(entries[i]);
	for (size_t i = 2; i < POLICY_COUNTERS_MAX / 64; i++)
		assert_int_equal(places.counters[i], 0);
}

/* -- the store -- */

static struct rulebook book_of(char *const *texts, const struct rulebook *old)
{
	struct rulebook book;

	assert_int_equal(rulebook_init(&book), 0);
	book.policies[0].list = list_of(texts, old ? &old->policies[0].list : &none, true);
	return book;
}

static void tenant_add(struct rulebook *book, const char *name, char *const *texts)
{
	struct rule_policy *policy;
	struct error error = {};

	assert_int_equal(rulebook_tenant_add(book, book, name, &policy, &error), 0);
	policy->list = list_of(texts, &none, true);
	policy->defaults[0] = POLICY_DROP;
	policy->log = true;
	policy->generation = 9;
	assert_int_equal(rule_policy_give(policy, TEXTS("eth0", "eth1"), TEXTS("/a.slice")), 0);
}

static void record_clear(struct rule_record *record)
{
	rulebook_clear(&record->now);
	rulebook_clear(&record->before);
	rulebook_clear(&record->back);
}

static struct rule_record read_back(bool *ret_found)
{
	struct rule_record record = {};
	struct rule_store store;
	struct error error = {};

	assert_int_equal(rule_store_open(NULL, &store, &error), 0);
	assert_int_equal(rule_store_read(&store, &places, &record, ret_found, &error), 0);
	rule_store_close(&store);
	return record;
}

/* What was written is what the next agent reads, entries that books share included. */
static void test_store(void **state)
{
	struct rule_record record = {.state = RULES_PENDING,
				   .next_id = 99,
				   .deadline_ns = 12345,
				   .changed = 5},
			   read;
	struct rule_store store;
	struct error error = {};
	struct rule_policy *web;
	bool found;

	(void)state;
	memset(regions, 0, sizeof(regions));
	memset(region_sizes, 0, sizeof(region_sizes));
	read = read_back(&found);
	assert_false(found);
	record.before = book_of(TEXTS("drop in tcp", "deny bind"), NULL);
	record.now = book_of(TEXTS("count in \"what\"", "drop in tcp"), &record.before);
	record.now.policies[0].list.slots[0].live = true;
	record.now.applied = true;
	tenant_add(&record.now, "web", TEXTS("drop in tcp"));
	assert_int_equal(rule_store_open(NULL, &store, &error), 0);
	assert_int_equal(rule_store_write(&store, &record, &error), 0);
	read = read_back(&found);
	assert_true(found);
	assert_int_equal(read.state, RULES_PENDING);
	assert_int_equal(read.next_id, 99);
	assert_int_equal(read.deadline_ns, 12345);
	assert_int_equal(read.changed, 5);
	assert_true(read.now.applied);
	EXPECT_LIST(&read.now.policies[0].list, "count in \"what\"", "drop in tcp");
	EXPECT_LIST(&read.before.policies[0].list, "drop in tcp", "deny bind");
	assert_int_equal(read.back.count, 0);
	assert_true(read.now.policies[0].list.slots[0].live);
	assert_ptr_equal(
		read.now.policies[0].list.slots[1].entry, read.before.policies[0].list.slots[0].entry);
	assert_int_equal(
		read.now.policies[0].list.slots[0].entry->id, record.now.policies[0].list.slots[0].entry->id);
	assert_int_equal(read.now.policies[0].list.slots[0].entry->counter,
		record.now.policies[0].list.slots[0].entry->counter);
	web = rulebook_policy(&read.now, "web");
	assert_non_null(web);
	assert_true(rule_policy_has_same(web, rulebook_policy(&record.now, "web")));
	assert_int_equal(web->defaults[0], POLICY_DROP);
	assert_int_equal(web->generation, 9);
	record_clear(&read);
	rule_store_state(&store, RULES_CONFIRMING);
	read = read_back(&found);
	assert_int_equal(read.state, RULES_CONFIRMING);
	record_clear(&read);
	record_clear(&record);
	rule_store_close(&store);
}

/* Killed while it is written, and with any byte of it changed, the older copy is what counts. */
static void test_torn(void **state)
{
	struct rule_record first = {.next_id = 1}, second = {.next_id = 2}, read;
	struct rule_store store;
	struct error error = {};
	size_t changed = 0;
	bool found;

	(void)state;
	memset(regions, 0, sizeof(regions));
	memset(region_sizes, 0, sizeof(region_sizes));
	first.now = book_of(TEXTS("drop in tcp"), NULL);
	second.now = book_of(TEXTS("drop in udp", "count in"), NULL);
	assert_int_equal(rule_store_open(NULL, &store, &error), 0);
	assert_int_equal(rule_store_write(&store, &first, &error), 0);
	assert_int_equal(rule_store_write(&store, &second, &error), 0);
	for (size_t i = 0; i < 200; i++) {
		uint8_t *byte = &regions[store.newer][i];

		*byte ^= 0x55;
		read = read_back(&found);
		assert_true(found);
		changed += read.next_id == 2;
		if (read.next_id == 1)
			EXPECT_LIST(&read.now.policies[0].list, "drop in tcp");
		else
			EXPECT_LIST(&read.now.policies[0].list, "drop in udp", "count in");
		record_clear(&read);
		*byte ^= 0x55;
	}
	/* but for the serial number, which may be any, and the state, which changes alone */
	assert_in_range(changed, 1, 12);
	record_clear(&first);
	record_clear(&second);
	rule_store_close(&store);
}

/* What does not fit is refused, and what was there stays. */
static void test_too_much(void **state)
{
	struct rule_record first = {.next_id = 1}, second = {.next_id = 2}, read;
	struct rule_store store;
	struct error error = {};
	bool found;

	(void)state;
	memset(regions, 0, sizeof(regions));
	memset(region_sizes, 0, sizeof(region_sizes));
	region_room = 512;
	first.now = book_of(TEXTS("drop in tcp"), NULL);
	second.now = book_of(TEXTS("drop in tcp", "drop in udp", "count in", "count out", "accept in",
				     "accept out", "drop in icmp", "drop out icmp", "drop out udp"),
		NULL);
	assert_int_equal(rule_store_open(NULL, &store, &error), 0);
	assert_int_equal(rule_store_write(&store, &first, &error), 0);
	assert_int_equal(rule_store_write(&store, &second, &error), -E2BIG);
	read = read_back(&found);
	assert_true(found);
	EXPECT_LIST(&read.now.policies[0].list, "drop in tcp");
	region_room = REGION_SIZE;
	record_clear(&read);
	record_clear(&first);
	record_clear(&second);
	rule_store_close(&store);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_same_sentences),
		cmocka_unit_test(test_other_words),
		cmocka_unit_test(test_changed_classes),
		cmocka_unit_test(test_live_apart),
		cmocka_unit_test(test_merge),
		cmocka_unit_test(test_kinds),
		cmocka_unit_test(test_places),
		cmocka_unit_test(test_store),
		cmocka_unit_test(test_torn),
		cmocka_unit_test(test_too_much),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
