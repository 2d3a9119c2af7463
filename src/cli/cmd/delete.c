/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* weir delete: a rule less. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "cli/ask.h"
#include "cli/cli.h"
#include "cli/view/screens.h"

int cmd_delete(const struct cli *cli)
{
	_cleanup_free_ char *id = weir_escape(cli->words[0]), *query = NULL, *body = NULL;
	_cleanup_client_ struct weir_client *client = NULL;
	_cleanup_json_ json_t *answer = NULL;
	const json_t *entry, *warning;
	struct error error;
	size_t length, i;

	if (!id || asprintf(&query, "id=%s", id) < 0) {
		query = NULL;
		error_set(&error, -ENOMEM, "no memory");
		return fail(&error);
	}
	if (client_open(cli, &client, &error) < 0 ||
		ask_text(client, "POST", "/v1/rules/delete", query, &body, &length, &error) < 0 ||
		answer_read(body, length, &answer, &error) < 0)
		return fail(&error);
	if (cli->json) {
		document_print(body, length);
		return output_end(EXIT_OK);
	}
	json_array_foreach (json_object_get(answer, "deleted"), i, entry)
		printf("deleted rule %" PRIu64 ": %s\n", json_get_number(entry, "id"),
			json_get_text(entry, "text"));
	json_array_foreach (json_object_get(answer, "warnings"), i, warning)
		fprintf(stderr, "weir: warning: %s\n", json_string_value(warning));
	return output_end(EXIT_OK);
}
