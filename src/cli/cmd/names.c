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

static int names_print(const struct cli *cli, json_t *answer, struct error *error)
{
	if (json_is_false(json_object_get(json_object_get(answer, "table"), "on"))) {
		puts("names are switched off (weir.yaml: names)");
		return 0;
	}
	return screen_table_print(&screen, answer, cli->units, style_choose(cli->color), error);
}

int cmd_names(const struct cli *cli)
{
	char query[32] = "";

	if (cli->limit)
		snprintf(query, sizeof(query), "limit=%" PRIu64, cli->limit);
	return print_answers(cli, screen.path, query, names_print);
}
