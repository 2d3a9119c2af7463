/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include "cli/file.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "basic/cleanup.h"

static int stream_read(FILE *stream, size_t max, char **ret_text, size_t *ret_length)
{
	_cleanup_free_ char *text = NULL;
	size_t length = 0, room = 65536;

	for (;; room *= 2) {
		char *more = realloc(text, room + 1);

		if (!more)
			return -ENOMEM;
		text = more;
		length += fread(text + length, 1, room - length, stream);
		if (ferror(stream))
			return -errno;
		if (length > max)
			return -EFBIG;
		if (length < room)
			break;
	}
	text[length] = '\0';
	*ret_text = TAKE(text);
	*ret_length = length;
	return 0;
}

int file_read(const char *file, size_t max, char **ret_text, size_t *ret_length, struct error *error)
{
	_cleanup_fclose_ FILE *opened = strcmp(file, "-") == 0 ? NULL : fopen(file, "re");
	FILE *stream = opened ? opened : strcmp(file, "-") == 0 ? stdin : NULL;
	int r = stream ? stream_read(stream, max, ret_text, ret_length) : -errno;

	if (r < 0) {
		/* not -ENOENT, which would be an agent that is not there */
		error_set(error, -EIO, "cannot be read: %s", strerror(-r));
		error_at(error, file, NULL, 0);
	}
	return r;
}
