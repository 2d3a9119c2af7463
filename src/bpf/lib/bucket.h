/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Token buckets (shared/bucket.h): compiles for BPF and for the host.
 *
 * The time is the caller's: bpf_ktime_get_ns().  It costs 20 ns, the coarse clock 14, and that one moves by
 * ticks: it would let through the tokens of a whole tick at once, or lose what of them is more than the
 * burst.
 */
#ifndef WEIR_BPF_BUCKET_H
#define WEIR_BPF_BUCKET_H

#include <linux/types.h>

#include "shared/bucket.h"

#define TOKEN_TRIES 8 /* compare-and-swaps that other CPUs may win */

/* Tokens that were given out up to now.  Products and sums may wrap; differences of moments do not. */
static __attribute__((always_inline)) inline __u64 token_clock_now(
	const struct token_clock *clock, __u64 now_ns)
{
	__u64 units = now_ns - clock->since_ns;

	if (clock->unit_ns > 1)
		units /= clock->unit_ns;
	if (!clock->part)
		return clock->base + units * clock->whole;
	return clock->base + units * clock->whole + units / clock->period * clock->part +
	       units % clock->period * clock->part / clock->period;
}

/* Tokens in a bucket; negative: spent ahead. */
static __attribute__((always_inline)) inline __s64 token_bucket_left(
	__u64 spent, __u64 now, const struct token_clock *clock)
{
	__s64 left = (__s64)(now - spent);

	return left > (__s64)clock->burst || left < -(__s64)TOKEN_AHEAD ? (__s64)clock->burst : left;
}

/* Takes `cost` tokens: 1.  Or leaves all as it is: 0, they are not there.  `now` is token_clock_now(). */
static __attribute__((always_inline)) inline int token_bucket_take(
	struct token_bucket *bucket, const struct token_clock *clock, __u64 cost, __u64 now)
{
	__u64 needed = cost < clock->burst ? cost : clock->burst;
	__u64 spent;
	int i;

	for (i = 0; i < TOKEN_TRIES; i++) {
		__s64 left;

		spent = *(volatile __u64 *)&bucket->spent;
		left = token_bucket_left(spent, now, clock);
		if (left < (__s64)needed)
			return 0;
		if (__sync_val_compare_and_swap(&bucket->spent, spent, now - (__u64)left + cost) == spent)
			return 1;
	}
	/* So many others were faster that the bucket is in use, and its word means what it says: take first,
	 * give back what was not there.  Who asks in between may be refused, but nobody is given too much. */
	spent = __sync_fetch_and_add(&bucket->spent, cost);
	if ((__s64)(now - spent) >= (__s64)needed)
		return 1;
	__sync_fetch_and_sub(&bucket->spent, cost);
	return 0;
}

static __attribute__((always_inline)) inline int token_bucket_consume(
	struct token_bucket *bucket, const struct token_clock *clock, __u64 cost, __u64 now_ns)
{
	return token_bucket_take(bucket, clock, cost, token_clock_now(clock, now_ns));
}

/* Gives back what was taken for something that did not happen after all. */
static __attribute__((always_inline)) inline void token_bucket_give(struct token_bucket *bucket, __u64 cost)
{
	__sync_fetch_and_sub(&bucket->spent, cost);
}

#endif
