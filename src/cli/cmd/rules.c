/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* weir rules: the list, in the order in which rules are asked. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cli/ask.h"
#include "cli/cli.h"
#include "cli/filter.h"
#include "cli/view/answer.h"
#include "cli/view/print.h"
#include "cli/view/screens.h"

struct rules {
	const struct cli *cli;
	struct weir_client *client;
	const char *query;
};

static const struct table_column columns[] = {
	{"ID", ALIGN_RIGHT},
	{"HOOK"},
	{"HITS", ALIGN_RIGHT},
	{"BYTES", ALIGN_RIGHT},
	{"LAST HIT", ALIGN_RIGHT},
	{"SOURCE"},
	{"RULE"},
};

static void age_add(struct table *table, const json_t *entry, double now)
{
	double last = json_get_time(entry, "last_hit");
	char text[32];

	table_add(table, last > 0 ? duration_format(text, sizeof(text),
					    now > last ? (uint64_t)(now - last) * 1000000000 : 0)
				  : "-");
}

static void row_add(struct table *table, const json_t *entry, double now, enum units units)
{
	bool calls = json_object_get(entry, "hits");
	char text[32];

	snprintf(text, sizeof(text), "%" PRIu64, json_get_number(entry, "id"));
	table_add(table, text);
	table_add(table, json_get_text(entry, "hook"));
	table_add(table,
		count_format(text, sizeof(text), json_get_number(entry, calls ? "hits" : "packets"), units));
	table_add(
		table, calls ? "-" : size_format(text, sizeof(text), json_get_number(entry, "bytes"), units));
	age_add(table, entry, now);
	table_add(table, json_get_text(entry, "source"));
	table_add(table, json_get_text(entry, "text"));
}

/* What becomes of packets that no rule decides, as rows where it is more than nothing. */
static void default_add(
	struct table *table, const json_t *defaults, const char *direction, double now, enum units units)
{
	const json_t *entry = json_object_get(defaults, direction);
	char text[64];

	if (!entry || strcmp(json_get_text(entry, "verdict"), "accept") == 0)
		return;
	table_add(table, "-");
	table_add(table, "tc");
	table_add(table, count_format(text, sizeof(text), json_get_number(entry, "packets"), units));
	table_add(table, size_format(text, sizeof(text), json_get_number(entry, "bytes"), units));
	age_add(table, entry, now);
	table_add(table, "default");
	snprintf(text, sizeof(text), "%s %s%s", json_get_text(entry, "verdict"), direction,
		json_is_true(json_object_get(defaults, "log")) ? " log" : "");
	table_add(table, text);
}

static int table_print(const struct cli *cli, const json_t *answer, struct error *error)
{
	const json_t *entry, *defaults = json_object_get(answer, "default");
	const struct style *style = style_choose(cli->color);
	char line[TABLE_LINE_MAX];
	struct timespec now;
	struct table table;
	double seconds;
	int r = 0;
	size_t i;

	clock_gettime(CLOCK_REALTIME, &now);
	seconds = (double)now.tv_sec + (double)now.tv_nsec / 1e9;
	table_init(&table, columns, sizeof(columns) / sizeof(columns[0]));
	json_array_foreach (json_object_get(answer, "rules"), i, entry)
		row_add(&table, entry, seconds, cli->units);
	default_add(&table, defaults, "in", seconds, cli->units);
	default_add(&table, defaults, "out", seconds, cli->units);
	if (table.no_memory) {
		r = error_set(error, -ENOMEM, "no memory for the list");
	} else if (!table_rows(&table)) {
		puts("no rules: every packet is accepted, every call is allowed");
	} else {
		table_fit(&table, 0, NULL);
		printf("%s%s%s\n", style->bold, table_line(&table, TABLE_HEADER, line, sizeof(line)),
			style->reset);
		for (i = 0; i < table_rows(&table); i++)
			puts(table_line(&table, i, line, sizeof(line)));
	}
	pending_print(answer, style);
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

	r = ask_shown(rules->cli, rules->client, "/v1/rules", rules->query, &answer, error);
	if (r < 0 || !answer)
		return r;
	return table_print(rules->cli, answer, error);
}

int cmd_rules(const struct cli *cli)
{
	_cleanup_client_ struct weir_client *client = NULL;
	_cleanup_free_ char *tenant = query_make("tenant", cli->tenant, NULL), *shown = NULL, *query = NULL;
	const struct screen *screen = screens[SCREEN_RULES];
	struct question question = {.reverse = cli->reverse, .limit = cli->limit};
	struct error error;

	if (cli->sort || cli->reverse)
		question.sort = sort_find(screen, cli->sort, &error);
	if (cli->sort && !question.sort)
		return fail_usage(&error);
	shown = screen_query(screen, &question);
	if (!tenant || !shown ||
		asprintf(&query, "%s%s%s", tenant, *tenant && *shown ? "&" : "", shown) < 0) {
		error_set(&error, -ENOMEM, "no memory");
		return fail(&error);
	}
	if (client_open(cli, &client, &error) < 0)
		return fail(&error);
	return print_repeatedly(
		cli, rules_print, &(struct rules){.cli = cli, .client = client, .query = query});
}
