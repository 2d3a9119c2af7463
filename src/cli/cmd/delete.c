/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* weir delete, weir move, weir flush: the list of rules, changed. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/ask.h"
#include "cli/cli.h"
#include "cli/filter.h"
#include "model/shape.h"

/* ID of a rule, or NAME of a class. */
int cmd_delete(const struct cli *cli)
{
	const char *which = cli->words[0];
	bool by_id = which[strspn(which, "0123456789")] == '\0';
	_cleanup_free_ char *query = NULL;
	struct error error;

	if (!by_id && shape_name_check(which, &error) < 0) {
		error_set(&error, -EINVAL, "'%.64s' is neither the number of a rule nor the name of a class",
			which);
		error_want(&error, "for example: weir delete 3, weir delete bulk");
		return fail_usage(&error);
	}
	query = query_make(
		by_id ? "id" : "name", which, "cut", cli->cut ? "1" : NULL, "confirm", cli->confirm, NULL);
	return change_made(cli, by_id ? "/v1/rules/delete" : "/v1/shapes/delete", query, "deleted",
		by_id ? "deleted rule" : "deleted class");
}

int cmd_flush(const struct cli *cli)
{
	_cleanup_free_ char *query = query_make(
		"tenant", cli->tenant, "cut", cli->cut ? "1" : NULL, "confirm", cli->confirm, NULL);

	return change_made(cli, "/v1/rules/flush", query, "deleted", "rules deleted");
}

/* ID before|after ID, or ID last. */
int cmd_move(const struct cli *cli)
{
	const char *where = cli->word_count > 1 ? cli->words[1] : "",
		   *other = cli->word_count > 2 ? cli->words[2] : NULL;
	bool before = strcmp(where, "before") == 0, after = strcmp(where, "after") == 0,
	     last = strcmp(where, "last") == 0;
	_cleanup_free_ char *query = NULL;
	struct error error;

	if (cli->word_count != (last ? 2 : 3) || !(before || after || last)) {
		error_set(&error, -EINVAL, "which rule, and where to?");
		error_want(
			&error, "for example: weir move 3 before 1, weir move 3 after 7, weir move 3 last");
		return fail_usage(&error);
	}
	query = query_make("id", cli->words[0], "before", before ? other : NULL, "after",
		after ? other : NULL, "cut", cli->cut ? "1" : NULL, "confirm", cli->confirm, NULL);
	return change_made(cli, "/v1/rules/move", query, "rules", "moved rule");
}
