/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* weir rules: the list, in the order in which rules are asked. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "cli/ask.h"
#include "cli/cli.h"
#include "cli/view/print.h"

struct rules {
	const struct cli *cli;
	struct weir_client *client;
};

static const struct table_column columns[] = {
	{"ID", ALIGN_RIGHT},
	{"HITS", ALIGN_RIGHT},
	{"LAST HIT", ALIGN_RIGHT},
	{"SOURCE"},
	{"RULE"},
};

static void row_add(struct table *table, const json_t *entry, double now, enum units units)
{
	double last = json_get_time(entry, "last_hit");
	char text[32];

	snprintf(text, sizeof(text), "%" PRIu64, json_get_number(entry, "id"));
	table_add(table, text);
	table_add(table, count_format(text, sizeof(text), json_get_number(entry, "hits"), units));
	if (last > 0)
		table_add(table, duration_format(text, sizeof(text),
					 now > last ? (uint64_t)(now - last) * 1000000000 : 0));
	else
		table_add(table, "-");
	table_add(table, json_get_text(entry, "source"));
	table_add(table, json_get_text(entry, "text"));
}

static int table_print(const struct cli *cli, const json_t *answer, struct error *error)
{
	const struct style *style = style_choose(cli->color);
	const json_t *entry;
	char line[TABLE_LINE_MAX];
	struct timespec now;
	struct table table;
	int r = 0;
	size_t i;

	clock_gettime(CLOCK_REALTIME, &now);
	table_init(&table, columns, sizeof(columns) / sizeof(columns[0]));
	json_array_foreach (json_object_get(answer, "rules"), i, entry)
		row_add(&table, entry, (double)now.tv_sec + (double)now.tv_nsec / 1e9, cli->units);
	if (table.no_memory) {
		r = error_set(error, -ENOMEM, "no memory for the list");
	} else if (!table_rows(&table)) {
		puts("no rules: every call is allowed");
	} else {
		table_fit(&table, 0, NULL);
		printf("%s%s%s\n", style->bold, table_line(&table, TABLE_HEADER, line, sizeof(line)),
			style->reset);
		for (i = 0; i < table_rows(&table); i++)
			puts(table_line(&table, i, line, sizeof(line)));
	}
	if (json_get_number(answer, "unidentified"))
		printf("%s%" PRIu64
		       " calls judged without knowing whose they are: rules with 'by' were passed over%s\n",
			style->dim, json_get_number(answer, "unidentified"), style->reset);
	table_free(&table);
	return r;
}

static int rules_print(void *user, struct error *error)
{
	const struct rules *rules = user;
	_cleanup_json_ json_t *answer = NULL;
	int r;

	r = ask_shown(rules->cli, rules->client, "/v1/rules", NULL, &answer, error);
	if (r < 0 || !answer)
		return r;
	return table_print(rules->cli, answer, error);
}

int cmd_rules(const struct cli *cli)
{
	_cleanup_client_ struct weir_client *client = NULL;
	struct error error;

	if (client_open(cli, &client, &error) < 0)
		return fail(&error);
	return print_repeatedly(cli, rules_print, &(struct rules){.cli = cli, .client = client});
}
