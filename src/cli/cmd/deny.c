/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* weir deny, weir allow: one more rule. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "cli/ask.h"
#include "cli/cli.h"
#include "cli/filter.h"
#include "cli/view/screens.h"
#include "model/rule.h"

static void answer_print(const json_t *answer)
{
	const json_t *entry, *warning;
	size_t i;

	json_array_foreach (json_object_get(answer, "rules"), i, entry)
		printf("rule %" PRIu64 ": %s\n", json_get_number(entry, "id"), json_get_text(entry, "text"));
	json_array_foreach (json_object_get(answer, "warnings"), i, warning)
		fprintf(stderr, "weir: warning: %s\n", json_string_value(warning));
}

/* The query for a rule, to be freed. */
static char *query_make(const char *text, const char *before)
{
	_cleanup_free_ char *rule = weir_escape(text), *place = before ? weir_escape(before) : NULL;
	char *query;

	if (!rule || (before && !place))
		return NULL;
	return asprintf(&query, place ? "text=%s&before=%s" : "text=%s", rule, place) < 0 ? NULL : query;
}

int cmd_deny(const struct cli *cli)
{
	_cleanup_free_ char *text = words_join(cli, cli->command->name), *query = NULL, *body = NULL;
	_cleanup_client_ struct weir_client *client = NULL;
	_cleanup_json_ json_t *answer = NULL;
	struct rule rule;
	struct error error;
	size_t length;

	/* a mistake is shown before anybody is asked */
	if (text && rule_parse(text, &rule, &error) < 0)
		return fail_usage(&error);
	query = text ? query_make(text, cli->before) : NULL;
	if (!query) {
		error_set(&error, -ENOMEM, "no memory");
		return fail(&error);
	}
	if (client_open(cli, &client, &error) < 0 ||
		ask_text(client, "POST", "/v1/rules/add", query, &body, &length, &error) < 0 ||
		answer_read(body, length, &answer, &error) < 0)
		return fail(&error);
	if (cli->json)
		document_print(body, length);
	else
		answer_print(answer);
	return output_end(EXIT_OK);
}
