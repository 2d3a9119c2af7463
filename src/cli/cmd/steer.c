/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* weir steer, weir steers: which CPUs go on with what comes in.  Sentences are added and deleted as rules
 * are. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "cli/ask.h"
#include "cli/cli.h"
#include "cli/filter.h"
#include "cli/view/print.h"
#include "cli/view/screens.h"

enum { COLUMN_ID, COLUMN_STATE, COLUMN_PACKETS, COLUMN_BYTES, COLUMN_TEXT, COLUMN_CPUS, COLUMN_WHY, COLUMNS };

static const struct table_column columns[COLUMNS] = {
	[COLUMN_ID] = {"ID", ALIGN_RIGHT},
	[COLUMN_STATE] = {"STATE"},
	[COLUMN_PACKETS] = {"PACKETS", ALIGN_RIGHT},
	[COLUMN_BYTES] = {"BYTES", ALIGN_RIGHT},
	[COLUMN_TEXT] = {"SENTENCE"},
	[COLUMN_CPUS] = {"CPU:PACKETS", .hide_empty = true, .rest = true, .elastic = 20},
	[COLUMN_WHY] = {"WHY", .hide_empty = true, .rest = true, .elastic = 20},
};

/* "0:1,204 1:1,180" */
static void lanes_print(const json_t *entry, const struct cell_context *context, char *buffer, size_t size)
{
	const json_t *lane;
	size_t i, length = 0;

	*buffer = '\0';
	json_array_foreach (json_object_get(entry, "cpus"), i, lane) {
		char count[32];

		count_format(count, sizeof(count), json_get_number(lane, "packets"), context->units);
		length += (size_t)snprintf(buffer + length, size - length, "%s%" PRIu64 ":%s", i ? " " : "",
			json_get_number(lane, "cpu"), count);
		if (length >= size)
			return;
	}
}

static void cell_print(const json_t *entry, unsigned int column, const struct cell_context *context,
	char *buffer, size_t size)
{
	static const char *const texts[COLUMNS] = {
		[COLUMN_STATE] = "state", [COLUMN_TEXT] = "text", [COLUMN_WHY] = "reason"};

	if (texts[column])
		snprintf(buffer, size, "%s", json_get_text(entry, texts[column]));
	else if (column == COLUMN_ID)
		snprintf(buffer, size, "%" PRIu64, json_get_number(entry, "id"));
	else if (column == COLUMN_CPUS)
		lanes_print(entry, context, buffer, size);
	else if (column == COLUMN_BYTES)
		size_format(buffer, size, json_get_number(entry, "bytes"), context->units);
	else
		count_format(buffer, size, json_get_number(entry, "packets"), context->units);
}

static const struct screen screen_sentences = {
	.name = "steers",
	.path = "/v1/steers",
	.columns = columns,
	.column_count = COLUMNS,
	.cell = cell_print,
	.nothing = "nothing is steered: the interfaces' queues decide about CPUs",
};

enum { CPU_NUMBER, CPU_PACKETS, CPU_BYTES, CPU_LOST, CPU_FULL, CPU_MEMORY, CPU_REFUSED, CPU_COLUMNS };

static const struct table_column cpu_columns[CPU_COLUMNS] = {
	[CPU_NUMBER] = {"CPU", ALIGN_RIGHT},
	[CPU_PACKETS] = {"PACKETS", ALIGN_RIGHT},
	[CPU_BYTES] = {"BYTES", ALIGN_RIGHT},
	[CPU_LOST] = {"LOST", ALIGN_RIGHT},
	[CPU_FULL] = {"QUEUE FULL", ALIGN_RIGHT, .hide_empty = true},
	[CPU_MEMORY] = {"NO MEMORY", ALIGN_RIGHT, .hide_empty = true},
	[CPU_REFUSED] = {"REFUSED", ALIGN_RIGHT, .hide_empty = true},
};

static void cpu_cell_print(const json_t *entry, unsigned int column, const struct cell_context *context,
	char *buffer, size_t size)
{
	static const char *const keys[CPU_COLUMNS] = {
		"cpu", "packets", "bytes", "lost", "full", "memory", "refused"};
	uint64_t number = json_get_number(entry, keys[column]);

	*buffer = '\0';
	if (column == CPU_NUMBER)
		snprintf(buffer, size, "%" PRIu64, number);
	else if (column == CPU_BYTES)
		size_format(buffer, size, number, context->units);
	else if (column <= CPU_LOST || number)
		count_format(buffer, size, number, context->units);
}

static const struct screen screen_cpus = {
	.name = "cpus",
	.path = "/v1/steers",
	.columns = cpu_columns,
	.column_count = CPU_COLUMNS,
	.cell = cpu_cell_print,
	.nothing = "",
};

static int list_print(const struct cli *cli, json_t *answer, struct error *error)
{
	int r = screen_table_print(&screen_sentences, answer, cli->units, style_choose(cli->color), error);

	if (r == 0 && json_array_size(json_object_get(answer, "cpus"))) {
		putchar('\n');
		r = screen_table_print(&screen_cpus, answer, cli->units, style_choose(cli->color), error);
	}
	if (r == 0 && json_is_false(json_object_get(answer, "losses_known")))
		printf("This kernel does not tell of all packets that are dropped on their way to a CPU.\n");
	if (r == 0)
		pending_print(answer, style_choose(cli->color));
	return r;
}

int cmd_steers(const struct cli *cli)
{
	return print_answers(cli, screen_sentences.path, NULL, list_print);
}

int cmd_steer(const struct cli *cli)
{
	return cli->word_count ? cmd_rule(cli) : cmd_steers(cli);
}
