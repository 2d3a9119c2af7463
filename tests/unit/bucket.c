/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Token buckets, against a plain model in 128 bits: nothing is rounded there. */
#include "bpf/lib/bucket.h"

#include <errno.h>
#include <pthread.h>

#include "compile/bucket.h"
#include "unit.h"

#define SECOND 1000000000ULL
#define MINUTE (60 * SECOND)
#define HOUR   (60 * MINUTE)
#define DAY    (24 * HOUR)

#define WIDE unsigned __int128

static const struct token_rate rates[] = {
	{1, 1, SECOND},
	{1, 1000000, SECOND},
	{3, 7, SECOND},
	{100, 200, SECOND},
	{997, 1500, SECOND},
	{125000, 65536, SECOND},
	{123456789, 100000, SECOND},
	{999999937, 12345, SECOND},
	{1250000000, 1250000, SECOND},
	{124999999987, 1000000007, SECOND},
	{TOKEN_RATE_MAX, TOKEN_BURST_MAX, SECOND},
	{5, 2, MINUTE},
	{59999999999, 1000000, MINUTE},
	{7, 3, HOUR},
	{TOKEN_RATE_MAX * 3600 - 1, 4096, HOUR},
	{1, 1, DAY},
	{86399999999999, 1 << 20, DAY},
};

/* How many tokens a rate gives in so long: the whole number below. */
static WIDE tokens_in(const struct token_rate *rate, WIDE ns)
{
	WIDE unit = rate->period_ns > 4 * HOUR ? 1000000 : rate->period_ns > 4 * SECOND ? 1000 : 1;

	return ns / unit * rate->rate / (rate->period_ns / unit);
}

/* The same bucket, as one would write it down with numbers that have no end. */
struct model {
	WIDE given, spent; /* tokens since the beginning, which are there from the start on */
};

static bool model_consume(struct model *model, const struct token_rate *rate, WIDE ns, uint64_t cost)
{
	WIDE given = tokens_in(rate, ns) + rate->burst; /* full at the start */

	if (given > model->spent && given - model->spent > rate->burst)
		model->spent = given - rate->burst;
	if (given < model->spent || given - model->spent < (cost < rate->burst ? cost : rate->burst))
		return false;
	model->spent += cost;
	return true;
}

static uint64_t some_time(uint64_t *seed, const struct token_rate *rate)
{
	/* from nothing to a few bursts' worth, mostly short */
	uint64_t ns = (uint64_t)random_next(seed) >> random_below(seed, 32);
	uint64_t fill = (uint64_t)((WIDE)rate->burst * rate->period_ns / rate->rate);

	return random_below(seed, 64) ? ns : (uint64_t)((WIDE)fill * random_below(seed, 3000) / 1000);
}

static void decides_as_numbers_without_end_do(void **state)
{
	uint64_t seed = 0x6275636b65742121;

	(void)state;
	FOR_EACH_CASE(rate, rates)
	for (int start = 0; start < 3; start++) {
		/* soon after a boot, much later, and across the end of 64 bits */
		const uint64_t begin[] = {0, 8640000 * SECOND + 7, UINT64_MAX - 12345};
		struct token_bucket bucket = {};
		struct model model = {};
		struct token_clock clock;
		WIDE ns = 0;

		assert_int_equal(token_clock_start(rate, begin[start], &clock), 0);
		for (int i = 0; i < 20000; i++) {
			uint64_t cost = 1 + (random_next(&seed) >> (8 + random_below(&seed, 24)));
			bool conforms;

			cost = random_below(&seed, 16) ? cost : rate->burst;
			ns += some_time(&seed, rate);
			conforms = token_bucket_consume(&bucket, &clock, cost, begin[start] + (uint64_t)ns);
			EXPECT(conforms == model_consume(&model, rate, ns, cost),
				"%" PRIu64 " tokens in %" PRIu64 " ns, call %d: %" PRIu64,
				(uint64_t)rate->rate, (uint64_t)rate->period_ns, i, cost);
		}
	}
}

static void never_gives_more_than_burst_and_rate(void **state)
{
	enum { CALLS = 1500 };
	static WIDE when[CALLS], sum[CALLS + 1];
	uint64_t seed = 42;

	(void)state;
	FOR_EACH_CASE(rate, rates)
	{
		struct token_bucket bucket = {};
		struct token_clock clock;
		WIDE ns = 0;

		assert_int_equal(token_clock_start(rate, 99, &clock), 0);
		for (int i = 0; i < CALLS; i++) {
			uint64_t cost = 1 + random_below(&seed, rate->burst > 3000 ? 1500 : 1);

			ns += some_time(&seed, rate);
			when[i] = ns;
			sum[i + 1] = sum[i];
			if (token_bucket_consume(&bucket, &clock, cost, 99 + (uint64_t)ns))
				sum[i + 1] += cost;
		}
		/* every interval from one call to another, both included */
		for (int from = 0; from < CALLS; from++)
			for (int to = from; to < CALLS; to++)
				EXPECT((sum[to + 1] - sum[from]) * rate->period_ns <=
						rate->burst * (WIDE)rate->period_ns +
							(when[to] - when[from]) * rate->rate +
							rate->period_ns - 1 +
							rate->rate * 1000000 * (rate->period_ns > 4 * SECOND),
					"%" PRIu64 " tokens in %" PRIu64 " ns: calls %d to %d",
					(uint64_t)rate->rate, (uint64_t)rate->period_ns, from, to);
	}
}

static void gives_all_that_is_due(void **state)
{
	(void)state;
	FOR_EACH_CASE(rate, rates)
	{
		struct token_bucket bucket = {};
		struct token_clock clock;
		uint64_t seed = 5, now = 77;
		WIDE sum = 0;

		if (rate->burst < 10000)
			continue;
		assert_int_equal(token_clock_start(rate, now, &clock), 0);
		for (int i = 0; i < 3000; i++) {
			uint64_t cost = rate->burst / 2;

			/* asks for whatever may be there, in halves, while less than the burst can come */
			if (i)
				now += (uint64_t)((WIDE)rate->burst * rate->period_ns / rate->rate) *
				       random_below(&seed, 900) / 1000;
			for (; cost; cost /= 2)
				while (token_bucket_consume(&bucket, &clock, cost, now))
					sum += cost;
		}
		EXPECT(sum == rate->burst + tokens_in(rate, now - 77), "%" PRIu64 " tokens in %" PRIu64 " ns",
			(uint64_t)rate->rate, (uint64_t)rate->period_ns);
	}
}

static void another_rate_leaves_what_is_there(void **state)
{
	struct token_rate slow = {10, 100, SECOND}, fast = {1000, 500, SECOND}, tight = {10, 20, SECOND};
	struct token_bucket bucket = {};
	struct token_clock clock;

	(void)state;
	assert_int_equal(token_clock_start(&slow, 0, &clock), 0);
	assert_true(token_bucket_consume(&bucket, &clock, 95, SECOND));
	assert_int_equal(token_clock_change(&clock, &fast, SECOND), 0);
	assert_false(token_bucket_consume(&bucket, &clock, 6, SECOND));
	assert_true(token_bucket_consume(&bucket, &clock, 5, SECOND));
	assert_true(token_bucket_consume(&bucket, &clock, 100, SECOND + SECOND / 10));
	assert_false(token_bucket_consume(&bucket, &clock, 1, SECOND + SECOND / 10));
	/* half a second later 500 are there, of which the smaller burst leaves 20 */
	assert_int_equal(token_clock_change(&clock, &tight, 2 * SECOND), 0);
	assert_true(token_bucket_consume(&bucket, &clock, 20, 2 * SECOND));
	assert_false(token_bucket_consume(&bucket, &clock, 1, 2 * SECOND));
	assert_false(token_bucket_consume(&bucket, &clock, 1, 2 * SECOND + SECOND / 10 - 1));
	assert_true(token_bucket_consume(&bucket, &clock, 1, 2 * SECOND + SECOND / 10));
}

static void what_is_more_than_the_burst_is_paid_for_afterwards(void **state)
{
	struct token_rate rate = {1000, 1000, SECOND};
	struct token_bucket bucket = {};
	struct token_clock clock;

	(void)state;
	assert_int_equal(token_clock_start(&rate, 0, &clock), 0);
	assert_true(token_bucket_consume(&bucket, &clock, 5000, 0));
	assert_false(token_bucket_consume(&bucket, &clock, 1, 4 * SECOND));
	assert_true(token_bucket_consume(&bucket, &clock, 1, 4 * SECOND + SECOND / 1000));
	assert_false(token_bucket_consume(&bucket, &clock, 5000, 5 * SECOND));
	assert_true(token_bucket_consume(&bucket, &clock, 5000, 5 * SECOND + SECOND / 1000));
}

static void a_time_that_went_back_gives_nothing(void **state)
{
	struct token_rate rate = {1000, 10, SECOND};
	struct token_bucket bucket = {};
	struct token_clock clock;

	(void)state;
	assert_int_equal(token_clock_start(&rate, 0, &clock), 0);
	assert_true(token_bucket_consume(&bucket, &clock, 10, 5 * SECOND));
	assert_false(token_bucket_consume(&bucket, &clock, 1, 4 * SECOND));
	assert_false(token_bucket_consume(&bucket, &clock, 1, 5 * SECOND));
	assert_true(token_bucket_consume(&bucket, &clock, 1, 5 * SECOND + SECOND / 1000));
}

static void rates_without_sense_are_refused(void **state)
{
	static const struct token_rate wrong[] = {
		{0, 1, SECOND},
		{1, 0, SECOND},
		{1, 1, 0},
		{TOKEN_RATE_MAX + 1, 1, SECOND},
		{1, TOKEN_BURST_MAX + 1, SECOND},
		{1, 1, DAY + 1},
		{UINT64_MAX, 1, DAY},
	};

	(void)state;
	FOR_EACH_CASE(rate, wrong)
	{
		struct token_clock clock = {.period = 17}, before = clock;

		assert_int_equal(token_clock_start(rate, 0, &clock), -ERANGE);
		assert_int_equal(token_clock_change(&clock, rate, 0), -ERANGE);
		assert_memory_equal(&clock, &before, sizeof(clock));
	}
}

/* Several threads at one bucket; the time is one for all, and goes on while they ask. */
struct shared {
	struct token_bucket bucket;
	struct token_clock clock;
	uint64_t now;
	uint64_t end;
};

struct asker {
	pthread_t thread;
	struct shared *shared;
	uint64_t cost, sum;
};

static void *ask(void *context)
{
	struct asker *asker = context;
	struct shared *shared = asker->shared;
	uint64_t now;

	while ((now = __atomic_add_fetch(&shared->now, 1, __ATOMIC_SEQ_CST)) < shared->end)
		if (token_bucket_consume(&shared->bucket, &shared->clock, asker->cost, now))
			asker->sum += asker->cost;
	return NULL;
}

static void threads_at_once_lose_nothing(void **state)
{
	/* more than they can ask for is never there, so the bucket is not full again until the end */
	const struct token_rate rate = {3000000007, 1000, SECOND};
	enum { THREADS = 6 };
	struct asker askers[THREADS];
	struct shared shared = {.end = 400000};
	WIDE sum = 0;

	(void)state;
	assert_int_equal(token_clock_start(&rate, 0, &shared.clock), 0);
	assert_true(token_bucket_consume(&shared.bucket, &shared.clock, sum = rate.burst, 0));
	for (unsigned int i = 0; i < THREADS; i++) {
		askers[i] = (struct asker){.shared = &shared, .cost = 17 + 10 * i};
		assert_int_equal(pthread_create(&askers[i].thread, NULL, ask, &askers[i]), 0);
	}
	for (unsigned int i = 0; i < THREADS; i++) {
		pthread_join(askers[i].thread, NULL);
		sum += askers[i].sum;
	}
	while (token_bucket_consume(&shared.bucket, &shared.clock, 1, shared.end))
		sum++;
	assert_true(sum == rate.burst + tokens_in(&rate, shared.end));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST("a bucket decides as numbers without end do", decides_as_numbers_without_end_do),
		TEST("no interval gets more than burst and rate", never_gives_more_than_burst_and_rate),
		TEST("who always asks gets every token", gives_all_that_is_due),
		TEST("another rate leaves what is there", another_rate_leaves_what_is_there),
		TEST("what is more than the burst is paid for afterwards",
			what_is_more_than_the_burst_is_paid_for_afterwards),
		TEST("a time that went back gives nothing", a_time_that_went_back_gives_nothing),
		TEST("rates without sense are refused", rates_without_sense_are_refused),
		TEST("threads at once lose nothing", threads_at_once_lose_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
