/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Token buckets (bpf/lib/bucket.h has token_bucket_consume(), compile/bucket.h what makes a clock).
 *
 * Time is counted in tokens: a clock says how many tokens a rate has given out up to now, a whole number,
 * rounded down from the exact one.  A bucket is one 64-bit word: the moment of that time up to which its
 * tokens are spent (virtual scheduling, GCRA, ITU-T I.371).  What is between that moment and now is there,
 * but never more than the burst; to consume moves the moment on by the cost.
 *
 * So nothing is ever rounded twice: whatever happens in an interval of length d, at most burst + rate * d
 * tokens (the next whole number) conform, and a bucket that is asked for more gets all of them but for less
 * than one.  Sole exception: what alone is more than the burst conforms if the bucket is full, and is paid
 * for afterwards.
 *
 * One word is changed by one compare-and-swap, so CPUs never lose each other's updates.  A change of rate
 * goes on with the same time, so a bucket keeps what it has (of a smaller burst: no more than that).
 */
#ifndef WEIR_SHARED_BUCKET_H
#define WEIR_SHARED_BUCKET_H

#include <linux/types.h>

struct token_bucket {
	__u64 spent; /* zero-initialised: full */
};

#define TOKEN_RATE_MAX  125000000000ULL  /* a second: 1 Tbit/s in bytes */
#define TOKEN_BURST_MAX 1000000000000ULL /* tokens */

struct token_rate {
	__u64 rate;      /* tokens (bytes, packets) in each period, 1..TOKEN_RATE_MAX a second */
	__u64 burst;     /* tokens, 1..TOKEN_BURST_MAX */
	__u64 period_ns; /* a second, a minute, an hour or a day: 5/m is no whole number a second */
};

/* A rate as the datapath uses it: at `since_ns` it was `base`, and since then `whole + part / period` tokens
 * came in each unit of time. */
struct token_clock {
	__u64 since_ns; /* CLOCK_MONOTONIC */
	__u64 base;     /* tokens */
	__u64 whole;
	__u64 part;    /* < period */
	__u64 period;  /* units of time: at most 2^32, so that a product of two of them has room */
	__u64 unit_ns; /* 1; in rates of more than 4 s: a microsecond, a millisecond */
	__u64 burst;
};

#define TOKEN_BASE  (1ULL << 62) /* of a new clock: a bucket of 0 is full for the next 2^62 tokens */
#define TOKEN_AHEAD (1ULL << 40) /* tokens: a bucket spent so far ahead of now is not spent but forgotten */

#endif
