/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* weir forward, weir forwards: what packets of an interface pass by the kernel for.  Sentences are added and
 * deleted as rules are. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/ask.h"
#include "cli/cli.h"
#include "cli/filter.h"
#include "cli/view/print.h"
#include "cli/view/screens.h"
#include "model/rule.h"

enum { COLUMN_ID, COLUMN_STATE, COLUMN_PACKETS, COLUMN_BYTES, COLUMN_LOST, COLUMN_TEXT, COLUMN_WHY, COLUMNS };

static const struct table_column columns[COLUMNS] = {
	[COLUMN_ID] = {"ID", ALIGN_RIGHT},
	[COLUMN_STATE] = {"STATE", .hide_empty = true},
	[COLUMN_PACKETS] = {"PACKETS", ALIGN_RIGHT},
	[COLUMN_BYTES] = {"BYTES", ALIGN_RIGHT},
	[COLUMN_LOST] = {"LOST", ALIGN_RIGHT},
	[COLUMN_TEXT] = {"SENTENCE"},
	[COLUMN_WHY] = {"WHY", .hide_empty = true, .rest = true, .elastic = 20},
};

static void cell_print(const json_t *entry, unsigned int column, const struct cell_context *context,
	char *buffer, size_t size)
{
	static const char *const texts[COLUMNS] = {
		[COLUMN_STATE] = "state", [COLUMN_TEXT] = "text", [COLUMN_WHY] = "reason"};

	if (texts[column])
		snprintf(buffer, size, "%s", json_get_text(entry, texts[column]));
	else if (column == COLUMN_ID)
		snprintf(buffer, size, "%" PRIu64, json_get_number(entry, "id"));
	else if (column == COLUMN_BYTES)
		size_format(buffer, size, json_get_number(entry, "bytes"), context->units);
	else
		count_format(buffer, size, json_get_number(entry, column == COLUMN_LOST ? "lost" : "packets"),
			context->units);
}

static const struct screen screen = {
	.name = "rules",
	.path = "/v1/rules",
	.columns = columns,
	.column_count = COLUMNS,
	.cell = cell_print,
	.nothing = "nothing is forwarded but by the kernel",
};

static int list_print(const struct cli *cli, json_t *answer, struct error *error)
{
	int r = screen_table_print(&screen, answer, cli->units, style_choose(cli->color), error);

	if (r == 0)
		pending_print(answer, style_choose(cli->color));
	return r;
}

int cmd_forwards(const struct cli *cli)
{
	return print_answers(cli, screen.path, "verb=forward", list_print);
}

int cmd_forward(const struct cli *cli)
{
	return cli->word_count ? cmd_rule(cli) : cmd_forwards(cli);
}
