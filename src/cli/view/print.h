/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Plain output: one picture on standard output, or one after the other.
 */
#ifndef WEIR_CLI_VIEW_PRINT_H
#define WEIR_CLI_VIEW_PRINT_H

#include <jansson.h>

#include "cli/cli.h"
#include "cli/view/screens.h"

/* Prints an answer as a table, what has to be known about it, and the losses where they matter. */
int screen_print(const struct screen *screen, const json_t *answer, enum units units,
	const struct style *style, struct error *error);

/* The table alone. */
int screen_table_print(const struct screen *screen, const json_t *answer, enum units units,
	const struct style *style, struct error *error);

/* One entry as a line, for feeds: `widths` says how wide each column is at least; the last one may be any. */
void screen_line_print(
	const struct screen *screen, const unsigned int *widths, const json_t *entry, enum units units);

void losses_line_print(const struct losses *losses, enum units units, const struct style *style);

/* Calls `print` once, or for --watch until it fails: a terminal is cleared in between, anything else grows.
 * Returns the exit status. */
int print_repeatedly(const struct cli *cli, int (*print)(void *user, struct error *error), void *user);

/* The same for a command that asks the agent for one thing (`query` may be NULL) and prints what it answers;
 * with --json that is printed as it came, and `print` not called. */
typedef int answer_print(const struct cli *cli, json_t *answer, struct error *error);
int print_answers(const struct cli *cli, const char *path, const char *query, answer_print *print);

#endif
