/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include "cli/view/tail.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Makes room by forgetting the first lines, or all where a line is that long. */
static void tail_forget(struct tail *tail)
{
	char *half = tail->text + tail->length / 2, *newline = strchr(half, '\n');
	size_t gone = newline ? (size_t)(newline + 1 - tail->text) : tail->length;

	memmove(tail->text, tail->text + gone, tail->length - gone + 1);
	tail->length -= gone;
}

void tail_read(struct tail *tail)
{
	ssize_t n;

	while (!tail->ended) {
		if (tail->length == sizeof(tail->text) - 1)
			tail_forget(tail);
		n = read(tail->fd, tail->text + tail->length, sizeof(tail->text) - 1 - tail->length);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return;
		if (n <= 0) {
			tail->ended = true;
			return;
		}
		/* strchr() and strstr() are to see all of it. */
		for (ssize_t i = 0; i < n; i++) {
			if (!tail->text[tail->length + (size_t)i])
				tail->text[tail->length + (size_t)i] = '?';
		}
		tail->length += (size_t)n;
		tail->text[tail->length] = '\0';
	}
}

void tail_last_line(const struct tail *tail, char *buffer, size_t size)
{
	size_t end = tail->length, start;

	while (end && tail->text[end - 1] != '\n')
		end--;
	if (end)
		end--;
	for (start = end; start && tail->text[start - 1] != '\n';)
		start--;
	snprintf(buffer, size, "%.*s", (int)(end - start), tail->text + start);
}
