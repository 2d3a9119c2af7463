/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include "cli/filter.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "model/match.h"

int filter_read(const struct cli *cli, char **ret_filter, struct error *error)
{
	struct match match;
	size_t size = 1;
	char *filter, *p;
	int r;

	for (int i = 0; i < cli->word_count; i++)
		size += strlen(cli->words[i]) + 1;
	filter = p = malloc(size);
	if (!filter)
		return error_set(error, -ENOMEM, "no memory");
	*p = '\0';
	for (int i = 0; i < cli->word_count; i++) {
		if (i)
			*p++ = ' ';
		p = stpcpy(p, cli->words[i]);
	}

	r = match_parse(filter, &match, error);
	if (r < 0)
		free(filter);
	else
		*ret_filter = filter;
	return r;
}
