// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* Rings of consistent hashing against the paper's definition (Eisenbud et al., NSDI 2016, 3.4 and 5.3). */
#include "unit.h"

#include "compile/maglev.h"
#include "shared/service.h"

#define SLOTS SERVICE_RING_SLOTS

static struct maglev_backend *backends_make(size_t count, uint32_t (*weight)(size_t i))
{
	struct maglev_backend *backends = calloc(count, sizeof(*backends));

	assert_non_null(backends);
	for (size_t i = 0; i < count; i++)
		backends[i] = (struct maglev_backend){
			.address = {.family = 4, .bytes = {10, 0, (uint8_t)(i >> 8), (uint8_t)i}},
			.number = (uint16_t)(i + 1),
			.weight = weight ? weight(i) : 1,
		};
	return backends;
}

static uint16_t *ring_make(const struct maglev_backend *backends, size_t count, uint32_t slots)
{
	uint16_t *ring = calloc(slots, sizeof(*ring));

	assert_non_null(ring);
	assert_int_equal(maglev_fill(backends, count, ring, slots), 0);
	return ring;
}

static void ring_count(const uint16_t *ring, uint32_t slots, uint32_t *ret_counts, size_t count)
{
	memset(ret_counts, 0, (count + 1) * sizeof(*ret_counts));
	for (uint32_t i = 0; i < slots; i++) {
		assert_in_range(ring[i], 1, count);
		ret_counts[ring[i]]++;
	}
}

static uint32_t weight_uneven(size_t i)
{
	return i % 7 ? (uint32_t)(i % 7) : 65535;
}

static uint32_t weight_rising(size_t i)
{
	return (uint32_t)i + 1;
}

static const struct {
	const char *name;
	size_t count;
	uint32_t slots;
	uint32_t (*weight)(size_t i);
} rings[] = {
	{"one backend", 1, SLOTS, NULL},
	{"three", 3, SLOTS, NULL},
	{"a hundred", 100, SLOTS, NULL},
	{"a thousand", 1000, SLOTS, NULL},
	{"a small ring", 3, 7, NULL},
	{"the smallest", 2, 2, NULL},
	{"1, 2, 3, …", 12, SLOTS, weight_rising},
	{"weights of 65535 and of a few", 21, SLOTS, weight_uneven},
	{"a thousand weights", 1000, SLOTS, weight_rising},
};

static void test_balance(void **state)
{
	(void)state;
	FOR_EACH_CASE(c, rings)
	{
		struct maglev_backend *backends = backends_make(c->count, c->weight);
		uint16_t *ring = ring_make(backends, c->count, c->slots);
		uint32_t *counts = calloc(c->count + 1, sizeof(*counts));
		uint64_t weights = 0;

		assert_non_null(counts);
		for (size_t i = 0; i < c->count; i++)
			weights += backends[i].weight;
		ring_count(ring, c->slots, counts, c->count);
		for (size_t i = 0; i < c->count; i++) {
			double wanted = (double)c->slots * backends[i].weight / (double)weights;

			EXPECT(counts[i + 1] > wanted - 1.5 && counts[i + 1] < wanted + 1.5,
				"%s: backend %zu has %u slots, its share is %.2f", c->name, i, counts[i + 1],
				wanted);
		}
		free(counts);
		free(ring);
		free(backends);
	}
}

/* The paper's algorithm word for word, for equal weights: the order of turns is that of `order`. */
static void reference_fill(const uint32_t *offset, const uint32_t *skip, const uint16_t *number, size_t count,
	uint16_t *ring, uint32_t slots)
{
	uint32_t *next = calloc(count, sizeof(*next)), filled = 0;

	assert_non_null(next);
	memset(ring, 0, slots * sizeof(*ring));
	for (;;)
		for (size_t i = 0; i < count; i++) {
			uint32_t slot;

			do
				slot = (uint32_t)((offset[i] + (uint64_t)next[i]++ * skip[i]) % slots);
			while (ring[slot]);
			ring[slot] = number[i];
			if (++filled == slots) {
				free(next);
				return;
			}
		}
}

static int order_compare(const void *left, const void *right)
{
	const struct maglev_order *a = left, *b = right;

	return a->name < b->name ? -1 : a->name > b->name;
}

static void test_paper(void **state)
{
	/* the figure of the paper: offsets 3, 0, 3 and skips 4, 2, 1 */
	static const uint32_t offset[] = {3, 0, 3}, skip[] = {4, 2, 1};
	static const uint16_t number[] = {1, 2, 3}, wanted[] = {2, 1, 2, 1, 3, 3, 1};
	uint16_t figure[7];

	(void)state;
	reference_fill(offset, skip, number, 3, figure, 7);
	assert_memory_equal(figure, wanted, sizeof(wanted));
	FOR_EACH_CASE(c, rings)
	{
		struct maglev_backend *backends = backends_make(c->count, NULL);
		uint16_t *ring = ring_make(backends, c->count, c->slots), *reference = calloc(c->slots, 2);
		struct maglev_order *orders = calloc(c->count, sizeof(*orders));
		uint32_t *offsets = calloc(c->count, 4), *skips = calloc(c->count, 4);
		uint16_t *numbers = calloc(c->count, 2);

		assert_true(reference && orders && offsets && skips && numbers);
		for (size_t i = 0; i < c->count; i++)
			orders[i] = maglev_order(&backends[i], c->slots);
		qsort(orders, c->count, sizeof(*orders), order_compare);
		for (size_t i = 0; i < c->count; i++) {
			offsets[i] = orders[i].offset;
			skips[i] = orders[i].skip;
			for (size_t j = 0; j < c->count; j++)
				if (maglev_order(&backends[j], c->slots).name == orders[i].name)
					numbers[i] = backends[j].number;
		}
		reference_fill(offsets, skips, numbers, c->count, reference, c->slots);
		EXPECT(memcmp(ring, reference, c->slots * sizeof(*ring)) == 0, "%s", c->name);
		free(numbers);
		free(skips);
		free(offsets);
		free(orders);
		free(reference);
		free(ring);
		free(backends);
	}
}

static uint32_t moved(const uint16_t *a, const uint16_t *b, uint32_t slots, uint16_t but)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < slots; i++)
		count += a[i] != b[i] && a[i] != but;
	return count;
}

static void test_disruption(void **state)
{
	static const struct {
		const char *name;
		size_t count;
		uint32_t (*weight)(size_t i);
		double percent; /* of slots that belong to others and move all the same */
	} cases[] = {
		{"three", 3, NULL, 1},
		{"ten", 10, NULL, 1},
		{"a hundred", 100, NULL, 1},
		{"ten weights", 10, weight_rising, 1},
		{"a hundred weights", 100, weight_rising, 1},
	};

	(void)state;
	FOR_EACH_CASE(c, cases)
	{
		struct maglev_backend *backends = backends_make(c->count, c->weight);
		uint16_t *ring = ring_make(backends, c->count, SLOTS);

		for (size_t gone = 0; gone < c->count; gone += c->count / 3 ? c->count / 3 : 1) {
			uint32_t weight = backends[gone].weight, others;
			uint16_t *without;

			backends[gone].weight = 0;
			without = ring_make(backends, c->count, SLOTS);
			others = moved(ring, without, SLOTS, backends[gone].number);
			print_message("# %s: without %zu %.3f %% of the slots of others move\n", c->name,
				gone, 100.0 * others / SLOTS);
			EXPECT(others <= c->percent / 100 * SLOTS, "%s without %zu: %u slots of others moved",
				c->name, gone, others);
			backends[gone].weight = weight;
			free(without);
		}
		free(ring);
		free(backends);
	}
}

static void test_order(void **state)
{
	struct maglev_backend *backends = backends_make(50, weight_uneven);
	uint16_t *ring = ring_make(backends, 50, SLOTS), *turned;

	(void)state;
	/* the same backends in another order, with other numbers: another weir */
	for (size_t i = 0; i < 25; i++) {
		struct maglev_backend backend = backends[i];

		backends[i] = backends[49 - i];
		backends[49 - i] = backend;
	}
	for (size_t i = 0; i < 50; i++)
		backends[i].number = (uint16_t)(1000 + i);
	turned = ring_make(backends, 50, SLOTS);
	for (uint32_t i = 0; i < SLOTS; i++)
		EXPECT(turned[i] == 1000 + 49 - (ring[i] - 1), "slot %u", i);
	free(turned);
	free(ring);
	free(backends);
}

static void test_weight_scale(void **state)
{
	struct maglev_backend *backends = backends_make(10, weight_rising);
	uint16_t *ring = ring_make(backends, 10, SLOTS), *scaled;

	(void)state;
	for (size_t i = 0; i < 10; i++)
		backends[i].weight *= 100;
	scaled = ring_make(backends, 10, SLOTS);
	assert_memory_equal(ring, scaled, SLOTS * sizeof(*ring));
	free(scaled);
	free(ring);
	free(backends);
}

static void test_none(void **state)
{
	struct maglev_backend *backends = backends_make(2, NULL);
	uint16_t ring[7];

	(void)state;
	backends[0].weight = backends[1].weight = 0;
	for (size_t count = 0; count <= 2; count++) {
		memset(ring, 0xff, sizeof(ring));
		assert_int_equal(maglev_fill(backends, count, ring, 7), 0);
		for (size_t i = 0; i < COUNT(ring); i++)
			assert_int_equal(ring[i], 0);
	}
	free(backends);
}

static void test_ports(void **state)
{
	struct maglev_backend *backends = backends_make(2, NULL);
	uint16_t *ring, *other;

	(void)state;
	/* two backends of one address are told apart by their ports */
	backends[1].address = backends[0].address;
	backends[0].port = 80;
	backends[1].port = 81;
	ring = ring_make(backends, 2, SLOTS);
	backends[1].port = 82;
	other = ring_make(backends, 2, SLOTS);
	EXPECT(memcmp(ring, other, SLOTS * sizeof(*ring)) != 0, "another port is another backend");
	free(other);
	free(ring);
	free(backends);
}

static void test_turns(void **state)
{
	static const struct {
		uint32_t weights[4];
		uint32_t round, longest; /* turns of the heaviest in a row, also over the round's end */
	} cases[] = {
		{{1, 1, 1, 1}, 4, 1},
		{{2, 1, 0, 0}, 3, 2},
		{{300, 100, 100, 0}, 5, 2},
		{{65535, 65534, 1, 0}, SLOTS, 2},
	};

	(void)state;
	FOR_EACH_CASE(c, cases)
	{
		struct maglev_backend *backends = backends_make(4, NULL);
		uint16_t *turns;
		uint32_t count, counts[5] = {}, row = 0, longest = 0;
		uint64_t weights = 0;

		for (int i = 0; i < 4; i++) {
			backends[i].weight = c->weights[i];
			weights += c->weights[i];
		}
		assert_int_equal(maglev_turns(backends, 4, SLOTS, &turns, &count), 0);
		EXPECT(count == c->round, "%u: a round is %u", c->weights[0], count);
		for (uint32_t i = 0; i < 2 * count; i++) {
			row = turns[i % count] == 1 ? row + 1 : 0;
			longest = row > longest ? row : longest;
			counts[turns[i % count]]++;
		}
		EXPECT(longest <= c->longest, "%u: %u in a row", c->weights[0], longest);
		for (int i = 0; i < 4; i++) {
			double wanted = 2.0 * count * c->weights[i] / (double)weights;

			EXPECT(counts[i + 1] >= wanted - 2 && counts[i + 1] <= wanted + 2, "%u: %d has %u",
				c->weights[0], i, counts[i + 1]);
		}
		free(turns);
		free(backends);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST("each backend has the slots that its weight says", test_balance),
		TEST("with equal weights the ring is the paper's", test_paper),
		TEST("where one backend goes, the others keep their slots but for one in a hundred",
			test_disruption),
		TEST("the ring does not depend on the order or the numbers of the backends", test_order),
		TEST("only the ratio of weights counts", test_weight_scale),
		TEST("turns follow the weights, and none has all of its turns in a row", test_turns),
		TEST("without any weight all slots are empty", test_none),
		TEST("the same address with another port is another backend", test_ports),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
