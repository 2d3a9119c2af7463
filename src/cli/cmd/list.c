/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * weir flows, hosts, ports, interfaces, procs: a list each, of the columns that src/cli/view/screens.c gives
 * it.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "cli/ask.h"
#include "cli/cli.h"
#include "cli/filter.h"
#include "cli/view/print.h"
#include "cli/view/screens.h"

struct list {
	const struct cli *cli;
	const struct screen *screen;
	struct weir_client *client;
	char *query;
};

static int list_print(void *user, struct error *error)
{
	const struct list *list = user;
	_cleanup_json_ json_t *answer = NULL;
	int r;

	r = ask_shown(list->cli, list->client, list->screen->path, list->query, &answer, error);
	if (r < 0 || !answer)
		return r;
	return screen_print(list->screen, answer, list->cli->units, style_choose(list->cli->color), error);
}

int cmd_list(const struct cli *cli)
{
	const struct screen *screen = screen_find(cli->command->name);
	struct question question = {.reverse = cli->reverse, .limit = cli->limit};
	_cleanup_client_ struct weir_client *client = NULL;
	_cleanup_free_ char *filter = NULL, *query = NULL;
	struct error error;

	if (filter_read(cli, &filter, &error) < 0)
		return fail_usage(&error);
	if (cli->by) {
		screen = screens[SCREEN_OWNERS];
		question.by = group_find(cli->by, &error);
		if (!question.by)
			return fail_usage(&error);
	}
	if (screen->sorts) {
		question.sort = sort_find(screen, cli->sort, &error);
		if (!question.sort)
			return fail_usage(&error);
	}
	if (client_open(cli, &client, &error) < 0)
		return fail(&error);

	question.filter = filter;
	query = screen_query(screen, &question);
	if (!query) {
		error_set(&error, -ENOMEM, "no memory");
		return fail(&error);
	}
	return print_repeatedly(cli, list_print,
		&(struct list){.cli = cli, .screen = screen, .client = client, .query = query});
}
