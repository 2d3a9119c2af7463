/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* weir drop, weir accept, weir deny, …: one more rule. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "cli/ask.h"
#include "cli/cli.h"
#include "cli/filter.h"
#include "model/rule.h"

int cmd_rule(const struct cli *cli)
{
	_cleanup_free_ char *text = rule_join(cli, cli->command->name), *query = NULL;
	struct error error;
	struct rule rule;

	/* a mistake is shown before anybody is asked */
	if (text && rule_parse(text, &rule, &error) < 0)
		return error.code == -ENOMEM ? fail(&error) : fail_usage(&error);
	if (text)
		rule_clear(&rule);
	query = text ? query_make("text", text, "before", cli->before, "tenant", cli->tenant, "cut",
			       cli->cut ? "1" : NULL, "confirm", cli->confirm, NULL)
	             : NULL;
	return change_made(cli, "/v1/rules/add", query, "rules", "rule");
}
