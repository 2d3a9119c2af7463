/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include "cli/file.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "basic/cleanup.h"
#include "basic/stream.h"

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
