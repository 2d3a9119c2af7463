/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Files as a whole. */
#ifndef WEIR_BASIC_STREAM_H
#define WEIR_BASIC_STREAM_H

#include <stddef.h>
#include <stdio.h>

/* All of a stream, with a NUL behind it; to be freed.  0, or a negative errno; -EFBIG: more than `max` bytes.
 */
int stream_read(FILE *stream, size_t max, char **ret_text, size_t *ret_length);

#endif
