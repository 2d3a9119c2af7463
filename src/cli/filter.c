/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include "cli/filter.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "model/match.h"

char *words_join(const struct cli *cli, const char *first)
{
	size_t size = strlen(first) + 1;
	char *text, *p;

	for (int i = 0; i < cli->word_count; i++)
		size += strlen(cli->words[i]) + 1;
	text = malloc(size);
	if (!text)
		return NULL;
	p = stpcpy(text, first);
	for (int i = 0; i < cli->word_count; i++) {
		if (p != text)
			*p++ = ' ';
		p = stpcpy(p, cli->words[i]);
	}
	return text;
}

int filter_read(const struct cli *cli, char **ret_filter, struct error *error)
{
	char *filter = words_join(cli, "");
	struct match match;
	int r;

	if (!filter)
		return error_set(error, -ENOMEM, "no memory");
	r = match_parse(filter, &match, error);
	if (r < 0)
		free(filter);
	else
		*ret_filter = filter;
	return r;
}
