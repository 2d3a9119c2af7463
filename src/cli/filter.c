/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include "cli/filter.h"

#include <errno.h>
#include <string.h>

#include "basic/cleanup.h"
#include "model/match.h"

int filter_read(const struct cli *cli, char **ret_filter, struct error *error)
{
	_cleanup_free_ char *filter = NULL;
	struct match match;
	size_t size = 1;
	char *p;
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
		return r;
	*ret_filter = TAKE(filter);
	return 0;
}
