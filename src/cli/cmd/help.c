/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include <stdio.h>

#include "cli/ask.h"
#include "cli/cli.h"

int cmd_help(const struct cli *cli)
{
	const struct command *command;
	struct error error;

	if (!cli->word_count) {
		command_list_print(stdout);
		return output_end(EXIT_OK);
	}
	command = command_find(cli->words[0], &error);
	if (!command)
		return fail_usage(&error);
	command_help_print(command, stdout);
	return output_end(EXIT_OK);
}
