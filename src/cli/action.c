// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
#include "cli/action.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "basic/text.h"
#include "cli/ask.h"

/* "add, delete, show or list" */
static void names_join(const char *const *names, char *buffer, size_t size)
{
	size_t used = 0;

	for (size_t i = 0; names[i] && used < size; i++)
		used += (size_t)snprintf(buffer + used, size - used, "%s%s",
			i == 0         ? ""
			: names[i + 1] ? ", "
				       : " or ",
			names[i]);
}

static int action_unknown(const struct cli *cli, const struct action *actions)
{
	const char *known[ACTIONS_MAX + 1] = {NULL}, *near;
	char all[256] = "";
	struct error error;

	for (size_t i = 0; actions[i].name && i < ACTIONS_MAX; i++)
		known[i] = actions[i].name;
	near = text_nearest(cli->words[0], known);
	names_join(known, all, sizeof(all));
	error_set(&error, -EINVAL, "'weir %s' does not know '%s'", cli->command->name, cli->words[0]);
	if (near)
		error_want(&error, "did you mean '%s'?", near);
	else
		error_want(&error, "%s", all);
	return fail_usage(&error);
}

int action_run(const struct cli *cli, const struct action *actions, const char *options)
{
	static const uint64_t all = OPTIONS_COMMON | OPTION_BIT(JSON);
	const struct action *action = actions;
	struct cli rest = *cli;
	struct error error;

	while (action->name && strcmp(action->name, cli->words[0]) != 0)
		action++;
	if (!action->name)
		return action_unknown(cli, actions);
	if (cli->given & ~(all | action->options)) {
		error_set(&error, -EINVAL, "an option that 'weir %s %s' does not have", cli->command->name,
			action->name);
		error_want(&error, "%s", options);
		return fail_usage(&error);
	}
	rest.words++;
	rest.word_count--;
	return action->run(&rest);
}
