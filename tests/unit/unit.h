/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * What every unit test needs.  A test is a sentence about behaviour and mostly a table of cases; EXPECT()
 * and its family say which case went wrong.
 */
#ifndef WEIR_TESTS_UNIT_H
#define WEIR_TESTS_UNIT_H

#include <errno.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "basic/error.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

#define FOR_EACH_CASE(c, cases)                                                                              \
	for (const __typeof__((cases)[0]) *(c) = (cases); (c) < (cases) + COUNT(cases); (c)++)

/* A test whose name is a sentence. */
#define TEST(sentence, function)                                                                             \
	{                                                                                                    \
		.name = (sentence), .test_func = (function)                                                  \
	}

#define EXPECT(condition, ...)                                                                               \
	do {                                                                                                 \
		if (!(condition)) {                                                                          \
			print_error("case: " __VA_ARGS__);                                                   \
			print_error("\n");                                                                   \
			fail_msg("%s", #condition);                                                          \
		}                                                                                            \
	} while (0)

/* Both texts are printed when they differ. */
#define EXPECT_TEXT(got, wanted, ...)                                                                        \
	do {                                                                                                 \
		const char *got_ = (got), *wanted_ = (wanted);                                               \
		if (strcmp(got_, wanted_) != 0) {                                                            \
			print_error("case: " __VA_ARGS__);                                                   \
			print_error("\n");                                                                   \
			fail_msg("got '%s', wanted '%s'", got_, wanted_);                                    \
		}                                                                                            \
	} while (0)

/* The same numbers in every run (xorshift64*): a failure can be repeated. */
static inline uint32_t random_next(uint64_t *state)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return (uint32_t)((*state * 0x2545f4914f6cdd1dULL) >> 32);
}

static inline uint32_t random_below(uint64_t *state, uint32_t limit)
{
	return (uint32_t)(((uint64_t)random_next(state) * limit) >> 32);
}

/* What a person would be shown, to be freed. */
static inline char *error_text(const struct error *error)
{
	char *text = NULL;
	size_t length = 0;
	FILE *stream = open_memstream(&text, &length);

	assert_non_null(stream);
	error_print(error, "weir: ", stream);
	assert_int_equal(fclose(stream), 0);
	return text;
}

/* A file that cannot be read: where in it, and what is said. */
struct misread_case {
	const char *text;
	unsigned int line, column;
	const char *what, *want;
};

static inline void expect_misread(const struct misread_case *c, const struct error *error, const char *file)
{
	EXPECT_TEXT(error->what, c->what, "%s", c->text);
	EXPECT_TEXT(error->want, c->want, "%s", c->text);
	EXPECT(error->line == c->line && error->column == c->column, "%s: %u:%u, wanted %u:%u", c->text,
		error->line, error->column, c->line, c->column);
	EXPECT_TEXT(error->file, file, "%s", c->text);
	EXPECT(error->code == -EINVAL, "%s", c->text);
}

#endif
