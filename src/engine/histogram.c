// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
#include "engine/histogram.h"

void histogram_add(struct trace_histogram *sum, const struct trace_histogram *part)
{
	sum->count += part->count;
	sum->sum += part->sum;
	if (part->max > sum->max)
		sum->max = part->max;
	for (unsigned int i = 0; i < TRACE_BUCKETS; i++)
		sum->buckets[i] += part->buckets[i];
}

/* Within a bucket, samples are taken to be spread evenly. */
uint64_t histogram_percentile(const struct trace_histogram *histogram, double percent)
{
	double rank = percent / 100 * (double)histogram->count, before = 0;

	for (uint32_t i = 0; i < TRACE_BUCKETS; i++) {
		double here = (double)histogram->buckets[i];
		uint64_t low = trace_bucket_low(i), value;

		if (histogram->buckets[i] == 0 || before + here < rank) {
			before += here;
			continue;
		}
		value = low + (uint64_t)((double)(trace_bucket_low(i + 1) - low) * (rank - before) / here);
		return value < histogram->max ? value : histogram->max;
	}
	return histogram->max;
}
