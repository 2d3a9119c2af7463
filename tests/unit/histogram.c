/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Buckets of histograms, and what is worked out from them. */
#include "engine/histogram.h"

#include "unit.h"

static void every_value_is_in_the_bucket_that_says_so(void **state)
{
	(void)state;
	for (uint32_t i = 0; i + 1 < TRACE_BUCKETS; i++) {
		uint64_t low = trace_bucket_low(i), next = trace_bucket_low(i + 1);

		assert_true(next > low);
		assert_int_equal(trace_bucket(low), i);
		assert_int_equal(trace_bucket(next - 1), i);
		assert_int_equal(trace_bucket(next), i + 1);
		/* a quarter of its lowest value wide at most, or one */
		assert_true(next - low == 1 || (next - low) * 4 <= low);
	}
	assert_int_equal(trace_bucket(UINT64_MAX), TRACE_BUCKETS - 1);
	assert_true(trace_bucket_low(TRACE_BUCKETS - 1) > 3600 * 1000000000ULL);
}

static void percentiles_are_near(void **state)
{
	struct trace_histogram part = {}, sum = {};

	(void)state;
	assert_int_equal(histogram_percentile(&sum, 50), 0);
	for (uint64_t value = 1; value <= 10000; value++) {
		part.count++;
		part.sum += value;
		part.max = value;
		part.buckets[trace_bucket(value)]++;
	}
	histogram_add(&sum, &part);
	histogram_add(&sum, &part);
	assert_int_equal(sum.count, 20000);
	assert_int_equal(sum.sum, 2 * part.sum);
	assert_int_equal(sum.max, 10000);
	for (unsigned int percent = 1; percent <= 100; percent++) {
		uint64_t value = histogram_percentile(&sum, percent), right = percent * 100;

		assert_in_range(value, right * 4 / 5, right * 5 / 4);
	}
	assert_int_equal(histogram_percentile(&sum, 100), 10000);
}

static void one_value_is_every_percentile(void **state)
{
	struct trace_histogram histogram = {.count = 1, .sum = 77, .max = 77};

	(void)state;
	histogram.buckets[trace_bucket(77)] = 1;
	for (unsigned int percent = 1; percent <= 100; percent++)
		assert_in_range(
			histogram_percentile(&histogram, percent), trace_bucket_low(trace_bucket(77)), 77);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_value_is_in_the_bucket_that_says_so),
		cmocka_unit_test(percentiles_are_near),
		cmocka_unit_test(one_value_is_every_percentile),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
