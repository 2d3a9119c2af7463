/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include <stdio.h>

#include "cli/ask.h"
#include "cli/cli.h"

int cmd_reload(const struct cli *cli)
{
	_cleanup_client_ struct weir_client *client = NULL;
	_cleanup_free_ char *body = NULL;
	struct error error;
	size_t length;

	if (client_open(cli, &client, &error) < 0 ||
		ask_text(client, "POST", "/v1/reload", NULL, &body, &length, &error) < 0)
		return fail(&error);
	if (cli->json)
		document_print(body, length);
	else
		puts("reloaded");
	return output_end(EXIT_OK);
}
