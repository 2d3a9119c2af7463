/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * The last of what another process says: kept while the live screen has the terminal.
 */
#ifndef WEIR_CLI_VIEW_TAIL_H
#define WEIR_CLI_VIEW_TAIL_H

#include <stdbool.h>
#include <stddef.h>

#define TAIL_SIZE 16384

struct tail {
	int fd;               /* does not block */
	bool ended;           /* there will be no more */
	char text[TAIL_SIZE]; /* NUL-terminated; the oldest lines go first */
	size_t length;
};

/* Reads what there is. */
void tail_read(struct tail *tail);

/* The last complete line, without its newline; "" where there is none. */
void tail_last_line(const struct tail *tail, char *buffer, size_t size);

#endif
