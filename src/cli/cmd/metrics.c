/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include "cli/ask.h"
#include "cli/cli.h"

int cmd_metrics(const struct cli *cli)
{
	_cleanup_client_ struct weir_client *client = NULL;
	_cleanup_free_ char *body = NULL;
	struct error error;
	size_t length;

	if (client_open(cli, &client, &error) < 0 ||
		ask_text(client, "GET", "/metrics", NULL, &body, &length, &error) < 0)
		return fail(&error);
	document_print(body, length);
	return output_end(EXIT_OK);
}
