/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* weir drop, weir accept, weir deny, …: one more rule. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "cli/ask.h"
#include "cli/cli.h"
#include "cli/filter.h"
#include "cli/view/screens.h"
#include "model/rule.h"

int cmd_rule(const struct cli *cli)
{
	_cleanup_free_ char *text = rule_join(cli, cli->command->name), *query = NULL;
	_cleanup_json_ json_t *answer = NULL;
	const json_t *entry;
	struct error error;
	struct rule rule;
	size_t i;

	/* a mistake is shown before anybody is asked */
	if (text && rule_parse(text, &rule, &error) < 0)
		return fail_usage(&error);
	query = text ? query_make("text", text, "before", cli->before, "tenant", cli->tenant, "cut",
			       cli->cut ? "1" : NULL, "confirm", cli->confirm, NULL)
	             : NULL;
	if (!query) {
		error_set(&error, -ENOMEM, "no memory");
		return fail(&error);
	}
	if (ask_change(cli, "/v1/rules/add", query, NULL, 0, &answer, &error) < 0)
		return fail(&error);
	if (answer) {
		json_array_foreach (json_object_get(answer, "rules"), i, entry)
			printf("rule %" PRIu64 ": %s\n", json_get_number(entry, "id"),
				json_get_text(entry, "text"));
		confirm_print(cli);
		warnings_print(answer);
	}
	return output_end(EXIT_OK);
}
