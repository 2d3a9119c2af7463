/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * One error, as a person is told it.
 *
 * Library code fills a struct error and returns its negative errno; only the code that talks to the
 * person (src/cli, the agent's main, the API) prints it.  "What is wrong" and "what would be right"
 * are kept apart so that every output (text, JSON) can show both.
 */
#ifndef WEIR_BASIC_ERROR_H
#define WEIR_BASIC_ERROR_H

#include <stddef.h>
#include <stdio.h>

#define ERROR_TEXT_MAX 256

struct error {
	int code;                  /* negative errno, 0 while nothing is wrong */
	char what[ERROR_TEXT_MAX]; /* what is wrong: "unknown key 'interface'" */
	char want[ERROR_TEXT_MAX]; /* what would be right: "did you mean 'flows'?"; empty when not known */
	char file[ERROR_TEXT_MAX]; /* file name as the person gave it; empty when the text has no file */
	unsigned int line;         /* 1-based, 0: not known */
	unsigned int column;       /* 1-based, in bytes, 0: not known */
	char excerpt[1024]; /* that line or sentence, or the part of it around the column; empty when not
	                       known */
	unsigned int caret; /* the column in `excerpt`, 0: not known */
};

/* Fills code and what (and clears the rest); returns code, so that callers can `return error_set(...)`.
 * `error` may be NULL: then only code is returned. */
int error_set(struct error *error, int code, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* Adds what would be right to an error that was set. Returns error's code (0 for NULL). */
int error_want(struct error *error, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Says where: a column in a text.  The excerpt is the line of `text` that holds `offset`. */
void error_at(struct error *error, const char *file, const char *text, size_t offset);

/* The first bytes of the line are not the person's: the excerpt and what counts in it go on without them. */
void error_skip(struct error *error, size_t bytes);

/* Prints "file:line:col: what; want" and, where there is an excerpt, the line and a caret under the
 * column (tabs kept, so that the caret stands right).  `prefix` ("weir: ") comes first when there is no
 * file.  No colour, always ends with a newline. */
void error_print(const struct error *error, const char *prefix, FILE *out);

#endif
