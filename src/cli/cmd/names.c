// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* weir names: which name an address goes by, the one learned last first. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "cli/ask.h"
#include "cli/cli.h"
#include "cli/view/answer.h"
#include "cli/view/print.h"
#include "cli/view/screens.h"

enum { NAME_ADDRESS, NAME_NAME, NAME_SOURCE, NAME_TTL, NAME_AGE, NAME_COLUMNS };

static const struct table_column columns[NAME_COLUMNS] = {
	[NAME_ADDRESS] = {"ADDRESS", .elastic = 12},
	[NAME_NAME] = {"NAME", .elastic = 12},
	[NAME_SOURCE] = {"SOURCE"},
	[NAME_TTL] = {"TTL", ALIGN_RIGHT, .importance = 1},
	[NAME_AGE] = {"AGE", ALIGN_RIGHT, .importance = 2},
};

static void seconds_cell(const json_t *entry, const char *key, char *buffer, size_t size)
{
	duration_format(buffer, size, json_get_number(entry, key) * 1000000000);
}

static void name_cell(const json_t *entry, unsigned int column, const struct cell_context *context,
	char *buffer, size_t size)
{
	(void)context;
	switch (column) {
	case NAME_ADDRESS:
		snprintf(buffer, size, "%s", json_get_text(entry, "address"));
		break;
	case NAME_NAME:
		snprintf(buffer, size, "%s", json_get_text(entry, "name"));
		break;
	case NAME_SOURCE:
		snprintf(buffer, size, "%s", json_get_text(entry, "source"));
		break;
	case NAME_TTL:
		seconds_cell(entry, "ttl", buffer, size);
		break;
	case NAME_AGE:
		seconds_cell(entry, "age", buffer, size);
		break;
	}
}

static const struct screen screen = {
	.name = "names",
	.path = "/v1/names",
	.columns = columns,
	.column_count = NAME_COLUMNS,
	.cell = name_cell,
	.nothing = "no names",
};

struct names {
	const struct cli *cli;
	struct weir_client *client;
	char query[32];
};

static int names_print(void *user, struct error *error)
{
	const struct names *names = user;
	_cleanup_json_ json_t *answer = NULL;
	int r = ask_shown(names->cli, names->client, screen.path, names->query, &answer, error);

	if (r < 0 || !answer)
		return r;
	if (json_is_false(json_object_get(json_object_get(answer, "table"), "on"))) {
		puts("names are switched off (weir.yaml: names)");
		return 0;
	}
	return screen_table_print(&screen, answer, names->cli->units, style_choose(names->cli->color), error);
}

int cmd_names(const struct cli *cli)
{
	_cleanup_client_ struct weir_client *client = NULL;
	struct names names = {.cli = cli};
	struct error error;

	if (client_open(cli, &client, &error) < 0)
		return fail(&error);
	names.client = client;
	if (cli->limit)
		snprintf(names.query, sizeof(names.query), "limit=%" PRIu64, cli->limit);
	return print_repeatedly(cli, names_print, &names);
}
