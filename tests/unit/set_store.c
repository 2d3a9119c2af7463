// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* Sets: what the store keeps, and what the tries made of it tell, against plain lists. */
#include "agent/set/set_store.h"

#include <errno.h>

#include "agent/set/set_build.h"
#include "unit.h"

#define REGION_BYTES (sizeof(struct set_head) + 8192 * sizeof(struct set_kept))
#define SETS         5
#define PREFIXES     40
#define CHANGES      4000

/* The engine's memory, as plain memory. */

int engine_region_open(struct engine *engine, const char *name, size_t limit,
	struct engine_region *ret_region, struct error *error)
{
	static void *kept; /* outlives the store */

	(void)engine;
	(void)name;
	(void)limit;
	(void)error;
	if (!kept || !strcmp(name, "new")) {
		free(kept);
		kept = calloc(1, REGION_BYTES);
	}
	assert_non_null(kept);
	*ret_region = (struct engine_region){.base = kept, .limit = REGION_BYTES};
	return 0;
}

int engine_region_grow(struct engine *engine, struct engine_region *region, size_t size)
{
	(void)engine;
	if (size > region->limit)
		return -ENOSPC;
	region->size = region->limit;
	return 0;
}

void engine_region_close(struct engine_region *region)
{
	region->size = 0;
}

#define UNITS_MAX (1U << 16)

int engine_set_memory_grow(struct engine_set_memory *memory, size_t units)
{
	if (units > UNITS_MAX)
		return -ENOSPC;
	memory->count = units;
	return 0;
}

int engine_set_memory_open(
	struct engine *engine, size_t units, struct engine_set_memory *ret_memory, struct error *error)
{
	(void)engine;
	(void)error;
	*ret_memory = (struct engine_set_memory){
		.units = calloc(UNITS_MAX, sizeof(struct policy_unit)), .count = units};
	return ret_memory->units ? 0 : -ENOMEM;
}

void engine_set_memory_close(struct engine_set_memory *memory)
{
	free(memory->units);
	*memory = (struct engine_set_memory){};
}

static struct set_store *open_empty(void)
{
	struct engine_region region;
	struct set_store *store = NULL;
	struct error error = {};

	engine_region_open(NULL, "new", 0, &region, &error);
	assert_int_equal(set_store_open(NULL, &store, &error), 0);
	return store;
}

static struct set_entry entry_of(const char *text)
{
	struct set_entry entry = {.kind = SET_ADDRESSES};

	assert_int_equal(prefix_parse(text, &entry.prefix), 0);
	return entry;
}

/* -- tries against lists -- */

struct plain {
	struct set_entry entries[PREFIXES];
	bool in[SETS][PREFIXES];
};

static uint64_t plain_mask(const struct plain *plain, const struct address *address)
{
	uint64_t mask = 0;

	for (unsigned int set = 0; set < SETS; set++)
		for (unsigned int i = 0; i < PREFIXES; i++)
			if (plain->in[set][i] && prefix_contains(&plain->entries[i].prefix, address))
				mask |= 1ULL << set;
	return mask;
}

/* Few bits differ, so that prefixes contain one another. */
static struct address few_addresses(uint64_t *state)
{
	struct address address = {.family = random_below(state, 2) ? 4 : 6};

	address.bytes[0] = 32;
	address.bytes[1] = (uint8_t)random_below(state, 2);
	address.bytes[2] = (uint8_t)random_below(state, 3);
	address.bytes[address.family == 4 ? 3 : 15] = (uint8_t)random_below(state, 4);
	return address;
}

static void plain_init(struct plain *plain, uint64_t *state)
{
	static const uint8_t lengths[] = {0, 7, 8, 15, 16, 17, 23, 24, 30, 31, 32, 48, 126, 127, 128};

	*plain = (struct plain){};
	for (unsigned int i = 0; i < PREFIXES; i++) {
		struct set_entry *entry = &plain->entries[i];
		unsigned int bits;

		entry->kind = SET_ADDRESSES;
		entry->prefix.address = few_addresses(state);
		bits = entry->prefix.address.family == 4 ? 32 : 128;
		do
			entry->prefix.length = lengths[random_below(state, COUNT(lengths))];
		while (entry->prefix.length > bits);
		for (unsigned int bit = entry->prefix.length; bit < 128; bit++)
			entry->prefix.address.bytes[bit / 8] &= (uint8_t) ~(0x80 >> bit % 8);
	}
}

static void check_tries(const struct plain *plain, const struct set_store *store,
	const struct set_tries *tries, uint64_t *state, unsigned int change)
{
	for (int i = 0; i < 8; i++) {
		struct address address = few_addresses(state);
		const struct engine_set_memory *memory = &tries->memory[address.family == 6];
		uint32_t number = trie_lookup(memory->units, memory->count, &address);
		uint64_t got = set_store_head(store)->combinations[number],
			 wanted = plain_mask(plain, &address);
		char text[ADDRESS_TEXT_MAX];

		EXPECT(got == wanted, "change %u, %s: sets %#" PRIx64 ", wanted %#" PRIx64, change,
			address_print(text, sizeof(text), &address), got, wanted);
	}
}

static int nobody_waits(void *context, unsigned int combination)
{
	(void)context;
	(void)combination;
	return 0;
}

static void what_the_tries_tell_is_what_the_sets_have(void **test_state)
{
	struct set_store *store = open_empty();
	struct set_tries tries = {};
	uint64_t state = 77;
	struct error error = {};
	struct plain plain;

	(void)test_state;
	plain_init(&plain, &state);
	for (unsigned int set = 0; set < SETS; set++) {
		char name[2] = {(char)('a' + set), 0};

		assert_int_equal(set_store_make(store, name, true), set);
	}
	assert_int_equal(set_tries_build(NULL, store, SET_NOW, &tries, NULL, &error), 0);
	for (unsigned int change = 0; change < CHANGES; change++) {
		unsigned int set = random_below(&state, SETS), i = random_below(&state, PREFIXES);
		const struct set_entry *entry = &plain.entries[i];
		bool had = set_store_has(store, set, entry, SET_NOW);
		int r = 0;

		if (random_below(&state, 2)) {
			assert_int_equal(set_store_put(store, set, entry, 0, SET_NOW), !had);
			if (!had)
				r = set_tries_add(&tries, store, set, &entry->prefix, nobody_waits, NULL);
		} else {
			assert_int_equal(set_store_remove(store, set, entry, SET_NOW), had);
			if (had)
				r = set_tries_remove(&tries, store, set, &entry->prefix, nobody_waits, NULL);
		}
		for (unsigned int other = 0; other < PREFIXES;
			other++) /* the same prefix may be there twice */
			plain.in[set][other] = set_store_has(store, set, &plain.entries[other], SET_NOW);
		/* no room, or a moment ago the last reader went: what an agent does then */
		if (r == -ENOSPC || change % 1000 == 999) {
			set_tries_close(&tries);
			r = set_tries_build(NULL, store, SET_NOW, &tries, NULL, &error);
		}
		assert_int_equal(r, 0);
		for (int family = 0; family < 2; family++)
			trie_reclaim(tries.trie[family]);
		check_tries(&plain, store, &tries, &state, change);
	}
	set_tries_close(&tries);
	set_store_close(store);
}

/* -- the store -- */

static void entries_end_in_the_order_of_their_times(void **test_state)
{
	static const char *const texts[] = {"10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"};
	static const uint64_t times[] = {400, 100, 300, 0};
	struct set_store *store = open_empty();
	struct set_entry entry;

	(void)test_state;
	assert_int_equal(set_store_make(store, "a", true), 0);
	for (unsigned int i = 0; i < COUNT(texts); i++) {
		entry = entry_of(texts[i]);
		assert_int_equal(set_store_put(store, 0, &entry, times[i], SET_NOW), 1);
	}
	/* a new time counts, also a shorter one, and one that ends no more */
	entry = entry_of("10.0.0.3");
	assert_int_equal(set_store_put(store, 0, &entry, 50, SET_NOW), 0);
	entry = entry_of("10.0.0.1");
	assert_int_equal(set_store_put(store, 0, &entry, 0, SET_NOW), 0);
	assert_int_equal(set_store_count(store, 0), 4);
	assert_int_equal(set_store_expiring(store, 0), 2);

	assert_int_equal(set_store_expired(store, 49), -ENOENT);
	assert_int_equal(set_store_expired(store, 1000), 2);
	assert_int_equal(set_store_expired(store, 99), -ENOENT);
	assert_int_equal(set_store_expired(store, 1000), 1);
	assert_int_equal(set_store_expired(store, 1000), -ENOENT);
	set_store_close(store);
}

static void a_time_given_again_and_again_takes_no_more_memory(void **test_state)
{
	struct set_store *store = open_empty();
	struct set_entry entry = entry_of("10.0.0.1");
	size_t before;

	(void)test_state;
	assert_int_equal(set_store_make(store, "a", true), 0);
	assert_int_equal(set_store_put(store, 0, &entry, 1, SET_NOW), 1);
	before = set_store_bytes(store);
	for (uint64_t time = 2; time < 100000; time++)
		assert_int_equal(set_store_put(store, 0, &entry, time, SET_NOW), 0);
	EXPECT(set_store_bytes(store) <= before + 65536, "%zu bytes, then %zu", before,
		set_store_bytes(store));
	set_store_close(store);
}

static void the_next_agent_finds_what_was_there(void **test_state)
{
	struct set_store *store = open_empty();
	struct set_entry entry;
	struct error error = {};

	(void)test_state;
	assert_int_equal(set_store_make(store, "a", true), 0);
	assert_int_equal(set_store_make(store, "b", false), 1);
	for (unsigned int i = 0; i < 1000; i++) {
		char text[ADDRESS_TEXT_MAX];

		snprintf(text, sizeof(text), "10.0.%u.%u", i / 256, i % 256);
		entry = entry_of(text);
		assert_int_equal(set_store_put(store, i % 2, &entry, i % 10 ? 0 : i, SET_NOW), 1);
	}
	entry = entry_of("10.0.0.4");
	assert_int_equal(set_store_remove(store, 0, &entry, SET_NOW), 1);
	assert_int_equal(set_store_combination(store, 3), 1);
	set_store_close(store);

	assert_int_equal(set_store_open(NULL, &store, &error), 0);
	assert_int_equal(set_store_find(store, "b"), 1);
	assert_int_equal(set_store_count(store, 0), 499);
	assert_int_equal(set_store_count(store, 1), 500);
	assert_int_equal(set_store_expiring(store, 0), 99);
	assert_false(set_store_has(store, 0, &entry, SET_NOW));
	assert_int_equal(set_store_combination(store, 3), 1);
	assert_int_equal(set_store_combination(store, 1), 2);
	/* the freed place is used again */
	assert_int_equal(set_store_put(store, 0, &entry, 0, SET_NOW), 1);
	assert_int_equal(set_store_head(store)->used, 1000);
	set_store_close(store);
}

static void a_version_comes_and_goes_as_a_whole(void **test_state)
{
	struct set_store *store = open_empty();
	struct set_entry one = entry_of("10.0.0.1"), two = entry_of("10.0.0.2");

	(void)test_state;
	assert_int_equal(set_store_make(store, "a", true), 0);
	assert_int_equal(set_store_put(store, 0, &one, 0, SET_NOW), 1);
	assert_int_equal(set_store_put(store, 0, &two, 0, SET_NEXT), 1);
	assert_int_equal(set_store_count(store, 0), 1);
	set_store_copy(store, 1, SET_NOW, SET_BEFORE);
	set_store_copy(store, 1, SET_NEXT, SET_NOW);
	set_store_copy(store, 1, 0, SET_NEXT);
	assert_false(set_store_has(store, 0, &one, SET_NOW));
	assert_true(set_store_has(store, 0, &two, SET_NOW));
	set_store_copy(store, 1, SET_BEFORE, SET_NOW);
	set_store_copy(store, 1, 0, SET_BEFORE);
	assert_true(set_store_has(store, 0, &one, SET_NOW));
	assert_false(set_store_has(store, 0, &two, SET_NOW | SET_BEFORE | SET_NEXT));
	assert_int_equal(set_store_count(store, 0), 1);
	set_store_close(store);
}

static void a_set_holds_one_kind(void **test_state)
{
	struct set_store *store = open_empty();
	struct set_entry address = entry_of("10.0.0.1"),
			 ports = {.kind = SET_PORTS, .ports = {.low = 22, .high = 23}};

	(void)test_state;
	assert_int_equal(set_store_make(store, "a", true), 0);
	assert_int_equal(set_store_put(store, 0, &ports, 0, SET_NOW), 1);
	assert_int_equal(set_store_put(store, 0, &address, 0, SET_NOW), -EINVAL);
	set_store_close(store);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST("what the tries tell is what the sets have", what_the_tries_tell_is_what_the_sets_have),
		TEST("entries end in the order of their times", entries_end_in_the_order_of_their_times),
		TEST("a time given again and again takes no more memory",
			a_time_given_again_and_again_takes_no_more_memory),
		TEST("the next agent finds what was there", the_next_agent_finds_what_was_there),
		TEST("a version comes and goes as a whole", a_version_comes_and_goes_as_a_whole),
		TEST("a set holds one kind", a_set_holds_one_kind),
	};

	return cmocka_run_group_tests_name("sets", tests, NULL, NULL);
}
