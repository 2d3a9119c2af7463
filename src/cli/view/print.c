/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include "cli/view/print.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cli/ask.h"

void losses_line_print(const struct losses *losses, enum units units, const struct style *style)
{
	char text[256];

	printf("%s%s%s\n", losses_matter(losses) ? style->bad : style->good,
		losses_print(losses, units, text, sizeof(text)), style->reset);
}

int screen_table_print(const struct screen *screen, const json_t *answer, enum units units,
	const struct style *style, struct error *error)
{
	struct table table;
	char line[TABLE_LINE_MAX];
	size_t rows;
	int r = 0;

	screen_fill(screen, answer, units, &table);
	if (table.no_memory) {
		r = error_set(error, -ENOMEM, "no memory for the list");
		goto out;
	}
	rows = table_rows(&table);
	if (!rows) {
		printf("%s\n", screen->nothing);
		goto out;
	}
	table_fit(&table, terminal_width(), NULL);
	printf("%s%s%s\n", style->bold, table_line(&table, TABLE_HEADER, line, sizeof(line)), style->reset);
	for (size_t i = 0; i < rows; i++)
		puts(table_line(&table, i, line, sizeof(line)));
out:
	table_free(&table);
	return r;
}

void screen_line_print(
	const struct screen *screen, const unsigned int *widths, const json_t *entry, enum units units)
{
	struct cell_context context = {.units = units};
	char line[TABLE_LINE_MAX], cell[512], fit[1024];
	size_t length = 0;

	for (unsigned int i = 0; i < screen->column_count && length < sizeof(line); i++) {
		cell[0] = '\0';
		screen->cell(entry, i, &context, cell, sizeof(cell));
		text_fit(fit, sizeof(fit), cell, 0);
		length += (size_t)snprintf(line + length, sizeof(line) - length,
			screen->columns[i].align == ALIGN_RIGHT ? "%*s  " : "%-*s  ", (int)widths[i], fit);
	}
	if (length >= sizeof(line))
		length = sizeof(line) - 1;
	while (length && line[length - 1] == ' ')
		length--;
	printf("%.*s\n", (int)length, line);
}

int screen_print(const struct screen *screen, const json_t *answer, enum units units,
	const struct style *style, struct error *error)
{
	struct losses losses;
	int r;

	r = screen_table_print(screen, answer, units, style, error);
	if (r < 0)
		return r;
	if (strcmp(json_get_text(answer, "source"), "flows") == 0)
		printf("%ssums of the flows still in the table%s\n", style->dim, style->reset);
	losses_read(answer, &losses);
	if (losses_matter(&losses))
		losses_line_print(&losses, units, style);
	return 0;
}

int print_repeatedly(const struct cli *cli, int (*print)(void *user, struct error *error), void *user)
{
	bool clear = cli->watch && !cli->json && isatty(STDOUT_FILENO);
	struct timespec pause = {.tv_sec = (time_t)(cli->interval_ns / 1000000000),
		.tv_nsec = (long)(cli->interval_ns % 1000000000)};
	struct error error;
	int status = EXIT_OK;

	do {
		/* Home and clear to the end of the screen. */
		if (clear)
			fputs("\033[H\033[2J", stdout);
		status = print(user, &error) < 0 ? fail(&error) : EXIT_OK;
		status = output_end(status);
	} while (cli->watch && status == EXIT_OK && nanosleep(&pause, NULL) == 0);
	return status;
}

struct answers {
	const struct cli *cli;
	struct weir_client *client;
	const char *path, *query;
	answer_print *print;
};

static int answer_ask_and_print(void *user, struct error *error)
{
	const struct answers *answers = user;
	_cleanup_json_ json_t *answer = NULL;
	int r = ask_shown(answers->cli, answers->client, answers->path, answers->query, &answer, error);

	return r < 0 || !answer ? r : answers->print(answers->cli, answer, error);
}

int print_answers(const struct cli *cli, const char *path, const char *query, answer_print *print)
{
	_cleanup_client_ struct weir_client *client = NULL;
	struct answers answers = {.cli = cli, .path = path, .query = query, .print = print};
	struct error error;

	if (client_open(cli, &client, &error) < 0)
		return fail(&error);
	answers.client = client;
	return print_repeatedly(cli, answer_ask_and_print, &answers);
}
