// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* Tries find what a plain list of the same prefixes finds. */
#include "unit.h"

#include <errno.h>
#include <pthread.h>
#include <time.h>

#include "bpf/lib/trie.h"
#include "compile/trie.h"

#define PREFIXES_MAX 320
#define UNITS        (1 << 18)

struct list {
	uint8_t family;
	struct prefix common; /* most are inside */
	uint32_t numbers;     /* how many different ones; 0: any */
	size_t count;
	struct {
		struct prefix prefix;
		uint32_t number;
	} entries[PREFIXES_MAX];
};

static void clear_behind(struct prefix *prefix)
{
	for (unsigned int i = prefix->length; i < 128; i++)
		prefix->address.bytes[i / 8] &= (uint8_t) ~(0x80 >> i % 8);
}

static struct address random_address(uint64_t *state, uint8_t family, const struct list *near)
{
	struct address address = {.family = family};
	unsigned int bytes = family == 4 ? 4 : 16;

	for (unsigned int i = 0; i < bytes; i++)
		address.bytes[i] = (uint8_t)random_next(state);
	/* mostly beside others: what they share, then one bit that differs, then anything */
	if (near->count && random_below(state, 4)) {
		const struct prefix *other =
			&near->entries[random_below(state, (uint32_t)near->count)].prefix;
		unsigned int shared = random_below(state, bytes * 8 + 1);

		for (unsigned int i = 0; i < shared; i++) {
			uint8_t bit = (uint8_t)(0x80 >> i % 8);

			address.bytes[i / 8] = (uint8_t)((address.bytes[i / 8] & ~bit) |
							 (other->address.bytes[i / 8] & bit));
		}
	}
	if (random_below(state, 4))
		for (unsigned int i = 0; i < near->common.length; i++) {
			uint8_t bit = (uint8_t)(0x80 >> i % 8);

			address.bytes[i / 8] = (uint8_t)((address.bytes[i / 8] & ~bit) |
							 (near->common.address.bytes[i / 8] & bit));
		}
	return address;
}

static struct prefix random_prefix(uint64_t *state, const struct list *list)
{
	struct prefix prefix = {.address = random_address(state, list->family, list)};
	unsigned int bits = list->family == 4 ? 32 : 128;

	prefix.length = (uint8_t)(random_below(state, 3) ? bits - random_below(state, bits / 2)
							 : random_below(state, bits + 1));
	clear_behind(&prefix);
	return prefix;
}

static size_t list_find(const struct list *list, const struct prefix *prefix)
{
	for (size_t i = 0; i < list->count; i++)
		if (list->entries[i].prefix.length == prefix->length &&
			!address_compare(&list->entries[i].prefix.address, &prefix->address))
			return i;
	return list->count;
}

static uint32_t list_lookup(const struct list *list, const struct address *address)
{
	int longest = -1;
	uint32_t number = 0;

	for (size_t i = 0; i < list->count; i++)
		if (list->entries[i].prefix.length > longest &&
			prefix_contains(&list->entries[i].prefix, address)) {
			longest = list->entries[i].prefix.length;
			number = list->entries[i].number;
		}
	return number;
}

static void expect_same(
	const struct list *list, const struct policy_unit *units, const struct address *address)
{
	char text[ADDRESS_TEXT_MAX];
	uint32_t found = trie_lookup(units, UNITS, address), wanted = list_lookup(list, address);

	EXPECT(found == wanted, "%s with %zu prefixes: %u, wanted %u",
		address_print(text, sizeof(text), address), list->count, found, wanted);
}

/* Both ends of every prefix, what is beside them, and more. */
static void expect_all(const struct list *list, const struct policy_unit *units, uint64_t *state)
{
	unsigned int bits = list->family == 4 ? 32 : 128;

	for (size_t i = 0; i < list->count; i++) {
		const struct prefix *prefix = &list->entries[i].prefix;
		struct address address = prefix->address;

		expect_same(list, units, &address);
		for (unsigned int b = prefix->length; b < bits; b++)
			address.bytes[b / 8] |= (uint8_t)(0x80 >> b % 8);
		expect_same(list, units, &address);
		if (prefix->length) {
			unsigned int b = prefix->length - 1U;

			address.bytes[b / 8] ^= (uint8_t)(0x80 >> b % 8);
			expect_same(list, units, &address);
		}
	}
	for (int i = 0; i < 300; i++) {
		struct address address = random_address(state, list->family, list);

		expect_same(list, units, &address);
	}
}

static void random_change(struct trie *trie, struct list *list, uint64_t *state, uint32_t removals)
{
	struct prefix prefix;
	size_t at;

	if (list->count && (list->count == PREFIXES_MAX || random_below(state, 10) < removals)) {
		at = random_below(state, (uint32_t)list->count);
		assert_int_equal(trie_remove(trie, &list->entries[at].prefix), 0);
		assert_int_equal(trie_remove(trie, &list->entries[at].prefix), -ENOENT);
		list->entries[at] = list->entries[--list->count];
		return;
	}
	prefix = random_prefix(state, list);
	at = list_find(list, &prefix);
	list->entries[at].prefix = prefix;
	list->entries[at].number = list->numbers            ? 1 + random_below(state, list->numbers)
	                           : random_below(state, 3) ? random_below(state, 4)
	                                                    : random_below(state, 65536);
	list->count += at == list->count;
	assert_int_equal(trie_set(trie, &prefix, list->entries[at].number), 0);
}

static const struct trie_shape shapes[] = {
	{4, 8, {.length = 0}},
	{4, 16, {.length = 0}},
	{4, 18, {.length = 0}},
	{4, 8 | TRIE_WIDE, {.length = 0}},
	{4, 16 | TRIE_WIDE, {.length = 0}},
	{6, 8, {.length = 0}},
	{6, 16, {.length = 0}},
	{6, 8 | TRIE_WIDE, {.length = 0}},
	{6, 8, {{6, {0x20}}, 3}},
	{6, 8 | TRIE_WIDE, {{6, {0x20, 0x01, 0x0d, 0xb8}}, 32}},
	{6, 16 | TRIE_WIDE, {{6, {0x80}}, 1}},
	{6, 16, {{6, {0x20, 0x01, 0x0d, 0xb8}}, 29}},
};

static void test_same_as_list(void **unused)
{
	struct policy_unit *units = calloc(UNITS, sizeof(*units));
	uint64_t state = 4711;

	(void)unused;
	assert_non_null(units);
	FOR_EACH_CASE(shape, shapes)
	for (int round = 0; round < 6; round++) {
		struct list list = {
			.family = shape->family, .common = shape->common, .numbers = (uint32_t)round / 2};
		struct trie *trie;

		memset(units, 0, UNITS * sizeof(*units));
		assert_int_equal(trie_open_as(shape, units, UNITS, &trie), 0);
		for (int step = 0; step < 9; step++) {
			bool held = random_below(&state, 2);

			if (held)
				trie_hold(trie);
			for (int i = 0; i < (round & 1 ? 100 : 7); i++)
				random_change(trie, &list, &state, step < 6 ? 2 : 9);
			if (held)
				assert_int_equal(trie_write(trie), 0);
			expect_all(&list, units, &state);
			assert_int_equal(trie_count(trie), list.count);
			trie_reclaim(trie);
		}
		while (list.count)
			random_change(trie, &list, &state, 10);
		expect_all(&list, units, &state);
		trie_close(trie);
	}
	free(units);
}

static int more(void *context, size_t *unit_count)
{
	size_t *times = context;

	if (*unit_count == UNITS)
		return -ENOSPC;
	*unit_count += *unit_count + 40 < UNITS ? 40 : UNITS - *unit_count;
	++*times;
	return 0;
}

static void test_growth(void **unused)
{
	struct policy_unit *units = calloc(UNITS, sizeof(*units));
	uint64_t state = 77;

	(void)unused;
	assert_non_null(units);
	FOR_EACH_CASE(shape, shapes)
	{
		struct list list = {.family = shape->family, .common = shape->common};
		struct trie *trie;
		size_t times = 0;

		memset(units, 0, UNITS * sizeof(*units));
		assert_int_equal(trie_open_as(shape, units, trie_units_root(shape->root), &trie), 0);
		trie_grow_by(trie, more, &times);
		trie_hold(trie);
		for (int i = 0; i < 200; i++)
			random_change(trie, &list, &state, 0);
		assert_int_equal(trie_write(trie), 0);
		expect_all(&list, units, &state);
		for (int i = 0; i < 200; i++)
			random_change(trie, &list, &state, 2);
		expect_all(&list, units, &state);
		assert_in_range(times, 2, UNITS / 40);
		trie_close(trie);
	}
	free(units);
}

static void test_no_unit_is_lost(void **unused)
{
	struct policy_unit *units = calloc(UNITS, sizeof(*units));
	uint64_t state = 99;

	(void)unused;
	assert_non_null(units);
	FOR_EACH_CASE(shape, shapes)
	{
		struct list list = {.family = shape->family, .common = shape->common};
		struct trie *trie;
		size_t most = 0;

		memset(units, 0, UNITS * sizeof(*units));
		assert_int_equal(trie_open_as(shape, units, UNITS, &trie), 0);
		for (int round = 0; round < 10; round++) {
			/* what is kept back between two changes is no part of it: short prefixes change a
			 * root's worth of units */
			while (list.count < PREFIXES_MAX) {
				random_change(trie, &list, &state, 0);
				trie_reclaim(trie);
			}
			while (list.count) {
				random_change(trie, &list, &state, 10);
				trie_reclaim(trie);
			}
			assert_int_equal(trie_retired(trie), 0);
			if (round == 5)
				most = trie_units(trie);
		}
		EXPECT(trie_units(trie) <= most + most / 4, "root %u: %zu units, then %zu", shape->root, most,
			trie_units(trie));
		trie_close(trie);
	}
	free(units);
}

static void test_full(void **unused)
{
	size_t room = TRIE_ROOT + TRIE_ROOT_UNITS(8) + 40;
	struct policy_unit *units = calloc(room, sizeof(*units)), *before = calloc(room, sizeof(*before));
	struct list list = {.family = 6};
	uint64_t state = 5;
	struct trie *trie;
	size_t refused = 0;

	(void)unused;
	assert_non_null(units);
	assert_non_null(before);
	assert_int_equal(trie_open(6, 16, units, room, &trie), -ENOSPC);
	assert_int_equal(trie_open(6, 18, units, room, &trie), -EINVAL);
	assert_int_equal(trie_open(6, 8, units, room, &trie), 0);
	while (refused < 40) {
		struct prefix prefix = random_prefix(&state, &list);
		size_t at = list_find(&list, &prefix);
		int r = trie_set(trie, &prefix, 7);

		if (r) {
			uint32_t number;

			assert_int_equal(r, -ENOSPC);
			if (at == list.count)
				assert_int_equal(trie_get(trie, &prefix, &number), -ENOENT);
			refused++;
		} else {
			list.entries[at].prefix = prefix;
			list.entries[at].number = 7;
			list.count += at == list.count;
		}
		for (size_t i = 0; i < list.count; i++)
			assert_int_equal(trie_lookup(units, room, &list.entries[i].prefix.address),
				list_lookup(&list, &list.entries[i].prefix.address));
		trie_reclaim(trie);
		if (list.count == PREFIXES_MAX)
			break;
	}
	EXPECT(refused == 40, "%zu were refused", refused);
	trie_close(trie);
	free(units);
	free(before);
}

struct reader {
	const struct policy_unit *units;
	struct address inside[2], outside;
	uint64_t rounds, wrong;
	bool end;
};

static void *read_on(void *context)
{
	struct reader *reader = context;

	while (!__atomic_load_n(&reader->end, __ATOMIC_ACQUIRE)) {
		for (int i = 0; i < 2; i++)
			reader->wrong += trie_lookup(reader->units, UNITS, &reader->inside[i]) != 1;
		reader->wrong += trie_lookup(reader->units, UNITS, &reader->outside) != 0;
		__atomic_add_fetch(&reader->rounds, 1, __ATOMIC_RELEASE);
	}
	return NULL;
}

static void readers(uint32_t root)
{
	const struct trie_shape shape = {.family = 4, .root = root};
	static const char *const kept[] = {"10.1.0.0/17", "10.1.128.64/27"};
	struct reader reader = {.units = calloc(UNITS, sizeof(struct policy_unit))};
	struct prefix prefix, others = {.address.family = 4};
	uint64_t state = 17, changes = 0;
	struct trie *trie;
	pthread_t thread;

	assert_non_null(reader.units);
	assert_int_equal(trie_open_as(&shape, (struct policy_unit *)reader.units, UNITS, &trie), 0);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(prefix_parse(kept[i], &prefix), 0);
		assert_int_equal(trie_set(trie, &prefix, 1), 0);
	}
	assert_int_equal(address_parse("10.1.1.1", &reader.inside[0]), 0);
	assert_int_equal(address_parse("10.1.128.65", &reader.inside[1]), 0);
	assert_int_equal(address_parse("10.1.128.63", &reader.outside), 0);
	assert_int_equal(pthread_create(&thread, NULL, read_on, &reader), 0);
	for (int round = 0; round < 200; round++) {
		uint64_t seen;

		/* in the same slot of the root: addresses above those that are read, one by one */
		for (int i = 0; i < 100; i++) {
			others.address.bytes[0] = 10;
			others.address.bytes[1] = 1;
			others.address.bytes[2] = (uint8_t)(129 + random_below(&state, 60));
			others.address.bytes[3] = (uint8_t)random_next(&state);
			others.length = 32;
			if (trie_remove(trie, &others))
				assert_int_equal(trie_set(trie, &others, random_below(&state, 3)), 0);
			changes++;
		}
		/* until the reader has begun anew */
		seen = __atomic_load_n(&reader.rounds, __ATOMIC_ACQUIRE);
		while (__atomic_load_n(&reader.rounds, __ATOMIC_ACQUIRE) < seen + 2)
			;
		trie_reclaim(trie);
	}
	__atomic_store_n(&reader.end, true, __ATOMIC_RELEASE);
	assert_int_equal(pthread_join(thread, NULL), 0);
	EXPECT(!reader.wrong, "%" PRIu64 " of %" PRIu64 " readings", reader.wrong, reader.rounds);
	trie_close(trie);
	free((void *)reader.units);
}

static void test_readers(void **unused)
{
	(void)unused;
	readers(16);
	readers(16 | TRIE_WIDE);
}

/* In a wide root: 14 prefixes of a half stand beside their entry, and get there again when there is nobody
 * left who reads what was there. */
static void test_home(void **unused)
{
	const struct trie_shape shape = {.family = 4, .root = 16 | TRIE_WIDE};
	struct policy_unit *units = calloc(UNITS, sizeof(*units));
	struct list list = {.family = 4};
	const __u64 *entry;
	uint64_t state = 3;
	struct trie *trie;

	(void)unused;
	assert_non_null(units);
	entry = units[TRIE_ROOT + 0x0a01].word;
	assert_int_equal(trie_open_as(&shape, units, UNITS, &trie), 0);
	for (uint8_t i = 0; i < 32; i++) {
		/* 10.1.0.0/24, 10.1.128.0/24, 10.1.1.0/24 … */
		struct prefix prefix = {{4, {10, 1, (uint8_t)(i / 2 + i % 2 * 128)}}, 24};

		if (i == 20) /* the second in its place since the last time nobody read */
			trie_reclaim(trie);
		assert_int_equal(trie_set(trie, &prefix, 1), 0);
		list.entries[list.count].prefix = prefix;
		list.entries[list.count++].number = 1;
		EXPECT(TRIE_IS_HOME(*entry) == (i == 1 || i == 20), "prefix %u: %" PRIx64, i,
			(uint64_t)*entry);
		EXPECT(TRIE_KIND(*entry) == (i ? TRIE_PACK : TRIE_ONE), "prefix %u: %" PRIx64, i,
			(uint64_t)*entry);
		expect_all(&list, units, &state);
	}
	trie_reclaim(trie);
	for (uint8_t i = 32; i-- > 0;) {
		assert_int_equal(trie_remove(trie, &list.entries[i].prefix), 0);
		list.count--;
		trie_reclaim(trie);
		/* with i left, 14 of each half have room */
		EXPECT(i > 28 || i < 2 || TRIE_IS_HOME(*entry) || i % 2, "%u left: %" PRIx64, i,
			(uint64_t)*entry);
		expect_all(&list, units, &state);
	}
	assert_int_equal(trie_retired(trie), 0);
	trie_close(trie);
	free(units);
}

/* What does not begin with what is common is found all the same, and what is around it, too. */
static void test_common(void **unused)
{
	static const struct {
		const char *prefix;
		uint32_t number;
	} steps[] = {
		{"2001:db8:1::/48", 1}, {"2a00::/16", 2},       /* outside */
		{"2001:db8::/31", 3},                           /* around: all of the root */
		{"::/0", 4},                                    /* around everything */
		{"2001:db8::/32", 5},                           /* the common bits alone */
		{"2001:db8:2::1/128", 6}, {"2001:db9::/32", 7}, /* beside */
	};
	struct trie_shape shape;
	struct policy_unit *units = calloc(UNITS, sizeof(*units));
	struct list list = {.family = 6};
	struct address low, high;
	uint64_t state = 8;
	struct trie *trie;

	(void)unused;
	assert_non_null(units);
	assert_int_equal(address_parse("2001:db8::1", &low), 0);
	assert_int_equal(address_parse("2001:db8:ffff::1", &high), 0);
	shape = trie_shape_for(6, 1000000, &low, &high);
	assert_int_equal(shape.common.length, 32);
	assert_int_equal(shape.root, TRIE_ROOT_MIDDLE | TRIE_WIDE);
	assert_int_equal(trie_shape_for(6, 10, &low, &high).common.length, 0);
	assert_int_equal(trie_shape_for(4, 1000000, NULL, NULL).common.length, 0);
	assert_int_equal(trie_open_as(&shape, units, UNITS, &trie), 0);
	FOR_EACH_CASE(step, steps)
	{
		struct prefix prefix;

		assert_int_equal(prefix_parse(step->prefix, &prefix), 0);
		assert_int_equal(trie_set(trie, &prefix, step->number), 0);
		list.entries[list.count].prefix = prefix;
		list.entries[list.count++].number = step->number;
		expect_all(&list, units, &state);
	}
	while (list.count) {
		assert_int_equal(trie_remove(trie, &list.entries[0].prefix), 0);
		list.entries[0] = list.entries[--list.count];
		expect_all(&list, units, &state);
		trie_reclaim(trie);
	}
	trie_close(trie);
	free(units);
}

struct seen {
	struct list *list;
	struct trie *trie;
	size_t count;
	struct prefix last;
};

static int see(void *context, const struct prefix *prefix, uint32_t number)
{
	struct seen *seen = context;
	size_t at = list_find(seen->list, prefix);
	int order = seen->count ? address_compare(&seen->last.address, &prefix->address) : -1;

	assert_true(at < seen->list->count);
	assert_int_equal(seen->list->entries[at].number, number);
	assert_true(order < 0 || (!order && seen->last.length < prefix->length));
	seen->last = *prefix;
	seen->count++;
	seen->list->entries[at].number = number ^ 1;
	return trie_set(seen->trie, prefix, number ^ 1);
}

static bool inside(const struct prefix *wide, const struct prefix *narrow)
{
	return narrow->length >= wide->length && prefix_contains(wide, &narrow->address);
}

static void test_walk(void **unused)
{
	struct policy_unit *units = calloc(UNITS, sizeof(*units));
	uint64_t state = 23;

	(void)unused;
	assert_non_null(units);
	FOR_EACH_CASE(shape, shapes)
	{
		struct list list = {.family = shape->family, .common = shape->common};
		struct trie *trie;

		memset(units, 0, UNITS * sizeof(*units));
		assert_int_equal(trie_open_as(shape, units, UNITS, &trie), 0);
		while (list.count < 200)
			random_change(trie, &list, &state, 0);
		for (int i = 0; i < 12; i++) {
			struct prefix prefix = i ? random_prefix(&state, &list)
			                         : (struct prefix){.address.family = shape->family};
			struct seen seen = {.list = &list, .trie = trie};
			size_t wanted = 0;
			int longest = -1;
			uint32_t cover = 0, found = 0;

			for (size_t k = 0; k < list.count; k++) {
				const struct prefix *other = &list.entries[k].prefix;

				wanted += inside(&prefix, other);
				if (other->length > longest && other->length < prefix.length &&
					inside(other, &prefix)) {
					longest = other->length;
					cover = list.entries[k].number;
				}
			}
			assert_int_equal(trie_cover(trie, &prefix, &found), longest < 0 ? -ENOENT : 0);
			if (longest >= 0)
				assert_int_equal(found, cover);
			assert_int_equal(trie_walk(trie, &prefix, see, &seen), 0);
			assert_int_equal(seen.count, wanted);
			expect_all(&list, units, &state);
			trie_reclaim(trie);
		}
		trie_close(trie);
	}
	free(units);
}

#define CROWD 20000 /* more than it takes for a node of 256 entries to become one of 65536 */

/* Prefix i of a crowd in 2001:db8::/32; no two are the same. */
static struct prefix crowd_prefix(uint32_t i)
{
	const uint32_t mixed = i * 2654435761U;
	struct prefix prefix = {.address = {.family = 6, .bytes = {0x20, 0x01, 0x0d, 0xb8}},
		.length = (uint8_t)(i % 4 ? 64 : 72)};

	for (int byte = 0; byte < 4; byte++)
		prefix.address.bytes[4 + byte] = (uint8_t)(mixed >> (24 - 8 * byte));
	return prefix;
}

static void expect_crowd(const struct policy_unit *units, uint32_t count)
{
	for (uint32_t i = 0; i < CROWD; i++) {
		const struct prefix prefix = crowd_prefix(i);
		const uint32_t found = trie_lookup(units, UNITS, &prefix.address);

		EXPECT(found == (i < count ? 1 + i % 5 : 0), "%u of %u: %u", i, count, found);
	}
}

static bool crowd_is_wide(const struct policy_unit *units)
{
	const uint64_t entry = units[TRIE_ROOT + (0x2001 >> 3)].word[0x2001 & 7];

	return TRIE_KIND(entry) == TRIE_SKIP &&
	       TRIE_KIND(((const struct trie_skip *)&units[(uint32_t)entry])->inside) == TRIE_NODE16;
}

static void test_crowd(void **unused)
{
	struct policy_unit *units = calloc(UNITS, sizeof(*units));
	struct trie *trie;

	(void)unused;
	assert_non_null(units);
	for (int held = 0; held < 2; held++) {
		memset(units, 0, UNITS * sizeof(*units));
		assert_int_equal(trie_open(6, TRIE_ROOT_MIDDLE, units, UNITS, &trie), 0);
		if (held)
			trie_hold(trie);
		for (uint32_t i = 0; i < CROWD; i++) {
			const struct prefix prefix = crowd_prefix(i);

			assert_int_equal(trie_set(trie, &prefix, 1 + i % 5), 0);
			if (!held && i == CROWD / 4) {
				assert_false(crowd_is_wide(units));
				expect_crowd(units, i + 1);
			}
			trie_reclaim(trie);
		}
		if (held)
			assert_int_equal(trie_write(trie), 0);
		assert_true(crowd_is_wide(units));
		expect_crowd(units, CROWD);
		for (uint32_t i = CROWD; i-- > 0;) {
			const struct prefix prefix = crowd_prefix(i);

			assert_int_equal(trie_remove(trie, &prefix), 0);
			trie_reclaim(trie);
			if (i == CROWD / 2)
				expect_crowd(units, i);
		}
		expect_crowd(units, 0);
		assert_int_equal(trie_retired(trie), 0);
		trie_close(trie);
	}
	free(units);
}

static void million(uint8_t family, size_t most_bytes)
{
	const struct address low = {.family = family, .bytes = {0x20}};
	const struct address high = {.family = family, .bytes = {0x3f}};
	const struct trie_shape shape = trie_shape_for(family, 1000000, &low, &high);
	size_t room = most_bytes / sizeof(struct policy_unit);
	struct policy_unit *units = calloc(room, sizeof(*units));
	uint64_t state = 31;
	struct trie *trie;

	assert_non_null(units);
	assert_int_equal(trie_open_as(&shape, units, room, &trie), 0);
	trie_hold(trie);
	while (trie_count(trie) < 1000000) {
		struct prefix prefix = {.address.family = family};

		for (int i = 0; i < (family == 4 ? 4 : 16); i++)
			prefix.address.bytes[i] = (uint8_t)random_next(&state);
		if (family == 6)
			prefix.address.bytes[0] = (uint8_t)(0x20 | (prefix.address.bytes[0] & 0x1f));
		prefix.length = (uint8_t)(family == 4 ? 24 + random_below(&state, 9)
						      : 32 + 8 * random_below(&state, 13));
		clear_behind(&prefix);
		assert_int_equal(trie_set(trie, &prefix, 1), 0);
	}
	assert_int_equal(trie_write(trie), 0);
	trie_close(trie);
	free(units);
}

static void test_million(void **unused)
{
	(void)unused;
	million(4, 6 << 20);
	million(6, 150 << 20);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		TEST("a trie finds what a list finds, whatever is added and removed", test_same_as_list),
		TEST("a trie for which there is no room asks for more", test_growth),
		TEST("units that fall out of use are used again", test_no_unit_is_lost),
		TEST("a prefix for which there is no room changes nothing", test_full),
		TEST("whoever reads meanwhile sees what was or what will be", test_readers),
		TEST("a wide root has prefixes beside its entries, as long as nobody reads what was there",
			test_home),
		TEST("what does not begin with what most prefixes have in common is found, too", test_common),
		TEST("walks find every prefix inside another, in order", test_walk),
		TEST("many prefixes that begin alike are found at once, whether they came together or not",
			test_crowd),
		TEST("a million prefixes have room", test_million),
	};

	return cmocka_run_group_tests_name("trie", tests, NULL, NULL);
}
