/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Token buckets (bpf/lib/bucket.h has token_bucket_consume()).
 *
 * A bucket is one 64-bit word: the time, in ns of CLOCK_MONOTONIC, up to which its tokens are spent (the
 * virtual scheduling of GCRA, ITU-T I.371).  It is full when that time is `depth_ns` or more ago; to consume
 * moves it on by cost * period / rate; what would move it beyond now does not conform.  One word is changed
 * by one compare-and-swap, so CPUs never lose each other's updates, and a change of rate needs no change of
 * the bucket.
 *
 * Exact to a token over any interval: fractions of a ns are carried in the lowest bits (BUCKET_FRACTION).
 */
#ifndef WEIR_SHARED_BUCKET_H
#define WEIR_SHARED_BUCKET_H

#include <linux/types.h>

struct token_bucket {
	__u64 spent; /* zero-initialised: full */
};

struct token_rate {
	__u64 rate;      /* tokens (bytes, packets) in each period, 1..1.25e11 */
	__u64 burst;     /* tokens, 1..1e12 */
	__u64 period_ns; /* a second, a minute, an hour or a day: 5/m is no whole number a second */
};

#endif
