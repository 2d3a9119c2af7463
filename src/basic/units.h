/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Numbers with units, read and printed the way people write them.
 *
 * Sizes are bytes: `512`, `64kb`, `1mb`, `2gb` (powers of 1000) and `64kib`, `1mib` (powers of 1024).
 * Rates are bits per second: `10mbit`, `1gbit`, `500kbit`, `9600bit`, also `10mbit/s`.
 * Durations: `250ms`, `30s`, `5m`, `2h`, `1d`, also `us` and `ns`, and sums like `1m30s`, the largest unit
 * first. Letters may be of either case; a fraction (`1.5mb`) is allowed where the result is a whole number of
 * the base unit.  A bare number is bytes, bits per second, or seconds.
 */
#ifndef WEIR_BASIC_UNITS_H
#define WEIR_BASIC_UNITS_H

#include <stddef.h>
#include <stdint.h>

/* Parsers take all of `text`; they return 0, -EINVAL (not a number with such a unit) or -ERANGE (does not
 * fit 64 bits) and leave the result untouched on failure. */
int size_parse(const char *text, uint64_t *ret_bytes);
int rate_parse(const char *text, uint64_t *ret_bps);
int duration_parse(const char *text, uint64_t *ret_ns);

enum units {
	UNITS_SI,    /* 12.3 MB, 98.1 Mbit/s */
	UNITS_IEC,   /* 11.7 MiB */
	UNITS_EXACT, /* 12345678 */
};

/* Formatters write at most `size` bytes with the NUL and return `buffer`. */
char *size_format(char *buffer, size_t size, uint64_t bytes, enum units units);  /* "12.3 MB" */
char *rate_format(char *buffer, size_t size, uint64_t bps, enum units units);    /* "98.1 Mbit/s" */
char *count_format(char *buffer, size_t size, uint64_t count, enum units units); /* "1.2 M" */
char *duration_format(char *buffer, size_t size, uint64_t ns); /* "1m30s", "2d4h", "250ms" */
char *duration_print(char *buffer, size_t size, uint64_t ns);  /* exact, parses back: "90s" -> "1m30s" */
char *rate_print(char *buffer, size_t size, uint64_t bps);     /* exact, parses back: "10mbit" */
char *size_print(char *buffer, size_t size, uint64_t bytes); /* exact, parses back: "1mib", "64kb", "1234" */

#endif
