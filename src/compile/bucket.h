/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Clocks of token buckets (shared/bucket.h). */
#ifndef WEIR_COMPILE_BUCKET_H
#define WEIR_COMPILE_BUCKET_H

#include <stdint.h>

#include "shared/bucket.h"

/* 0; -ERANGE: a rate, burst or period that there is none of; ret_clock untouched. */
int token_clock_start(const struct token_rate *rate, uint64_t now_ns, struct token_clock *ret_clock);
/* From `now_ns` on another rate: buckets keep what they have.  Fractions of a token are dropped. */
int token_clock_change(struct token_clock *clock, const struct token_rate *rate, uint64_t now_ns);

#endif
