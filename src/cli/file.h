/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Files that are sent to the agent.
 */
#ifndef WEIR_CLI_FILE_H
#define WEIR_CLI_FILE_H

#include <stddef.h>

#include "basic/error.h"

/* All of a file ("-": standard input), with a NUL behind it; to be freed.  0 or a negative errno with
 * `error` set; -EFBIG: more than `max` bytes. */
int file_read(const char *file, size_t max, char **ret_text, size_t *ret_length, struct error *error);

#endif
