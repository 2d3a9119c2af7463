// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
#include "basic/stream.h"

#include <errno.h>
#include <stdlib.h>

#include "basic/cleanup.h"

int stream_read(FILE *stream, size_t max, char **ret_text, size_t *ret_length)
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
