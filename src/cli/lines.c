/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include "cli/lines.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int lines_feed(struct lines *lines, const char *data, size_t length, line_function *function, void *user)
{
	const char *line, *end;
	int r;

	if (lines->length + length > lines->size) {
		char *room = realloc(lines->text, (lines->length + length) * 2);

		if (!room)
			return -ENOMEM;
		lines->text = room;
		lines->size = (lines->length + length) * 2;
	}
	memcpy(lines->text + lines->length, data, length);
	lines->length += length;
	line = lines->text;
	while ((end = memchr(line, '\n', lines->length - (size_t)(line - lines->text)))) {
		r = function(user, line, (size_t)(end - line));
		if (r)
			return r;
		line = end + 1;
	}
	lines->length -= (size_t)(line - lines->text);
	memmove(lines->text, line, lines->length);
	return 0;
}

int lines_end(struct lines *lines, line_function *function, void *user)
{
	return lines->length ? function(user, lines->text, lines->length) : 0;
}

void lines_free(struct lines *lines)
{
	free(lines->text);
	*lines = (struct lines){};
}
