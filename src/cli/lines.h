/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Lines out of an answer that comes in parts.
 */
#ifndef WEIR_CLI_LINES_H
#define WEIR_CLI_LINES_H

#include <stddef.h>

struct lines {
	char *text; /* what came of a line so far */
	size_t length, size;
};

/* Called with each line, without its newline; non-zero ends it. */
typedef int line_function(void *user, const char *line, size_t length);

/* 0, what the function returned, or -ENOMEM. */
int lines_feed(struct lines *lines, const char *data, size_t length, line_function *function, void *user);
/* The last line, where no newline is behind it. */
int lines_end(struct lines *lines, line_function *function, void *user);
void lines_free(struct lines *lines);

#endif
