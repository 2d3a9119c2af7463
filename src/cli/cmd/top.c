/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include "cli/view/top.h"

#include <errno.h>
#include <unistd.h>

#include "cli/ask.h"
#include "cli/cli.h"
#include "cli/filter.h"
#include "cli/view/screens.h"

int cmd_top(const struct cli *cli)
{
	const struct screen *screen = cli->screen ? cli->screen : screens[SCREEN_FLOWS];
	_cleanup_client_ struct weir_client *client = NULL;
	_cleanup_free_ char *filter = NULL;
	struct error error;

	if (filter_read(cli, &filter, &error) < 0)
		return fail_usage(&error);
	if (cli->by && !group_find(cli->by, &error))
		return fail_usage(&error);
	if (cli->by && !cli->screen)
		screen = screens[SCREEN_OWNERS];
	if (cli->sort && !screen->sorts) {
		error_set(&error, -EINVAL, "%s have one order", screen->name);
		return fail_usage(&error);
	}
	if (cli->sort && !sort_find(screen, cli->sort, &error))
		return fail_usage(&error);
	if (!cli->once && (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO))) {
		error_set(&error, -ENOTTY, "the live screen needs a terminal");
		error_want(&error, "'weir top --once' prints one picture anywhere");
		return fail_usage(&error);
	}

	if (client_open(cli, &client, &error) < 0)
		return fail(&error);
	if (cli->once)
		return top_print(cli, client, filter, &error) < 0 ? fail(&error) : output_end(EXIT_OK);

	top_catch_signals();
	return top_show(cli, client, filter, NULL, &error) < 0 ? fail(&error) : EXIT_OK;
}
