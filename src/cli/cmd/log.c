/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* weir log: packets that rules logged or dropped; with a sentence, one more rule that logs. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/ask.h"
#include "cli/cli.h"
#include "cli/filter.h"
#include "cli/follow.h"
#include "cli/view/answer.h"
#include "cli/view/print.h"
#include "cli/view/screens.h"

#define PATH_EVENTS "/v1/log/events"

#define OPTIONS_SHOWN (OPTION_BIT(FOLLOW) | OPTION_BIT(LIMIT) | OPTION_BIT(WATCH))

enum {
	LOG_TIME,
	LOG_ACTION,
	LOG_RULE,
	LOG_HOOK,
	LOG_DIRECTION,
	LOG_INTERFACE,
	LOG_PROTO,
	LOG_SOURCE,
	LOG_DESTINATION,
	LOG_FLAGS,
	LOG_BYTES,
	LOG_STATE,
	LOG_OWNER,
	LOG_WHY,
	LOG_COLUMNS,
};

static const struct table_column log_columns[LOG_COLUMNS] = {
	[LOG_TIME] = {"TIME"},
	[LOG_ACTION] = {"ACTION"},
	[LOG_RULE] = {"RULE", ALIGN_RIGHT},
	[LOG_HOOK] = {"HOOK", .importance = 3},
	[LOG_DIRECTION] = {"DIR"},
	[LOG_INTERFACE] = {"INTERFACE", .importance = 2},
	[LOG_PROTO] = {"PROTO"},
	[LOG_SOURCE] = {"SOURCE", .elastic = 12},
	[LOG_DESTINATION] = {"DESTINATION", .elastic = 12},
	[LOG_FLAGS] = {"FLAGS", .importance = 5, .hide_empty = true},
	[LOG_BYTES] = {"BYTES", ALIGN_RIGHT, .importance = 6},
	[LOG_STATE] = {"STATE", .importance = 4, .hide_empty = true},
	[LOG_OWNER] = {"OWNER", .importance = 1, .hide_empty = true},
	[LOG_WHY] = {"WHY"},
};

static const unsigned int log_widths[LOG_COLUMNS] = {
	[LOG_TIME] = 12,
	[LOG_ACTION] = 6,
	[LOG_RULE] = 4,
	[LOG_HOOK] = 4,
	[LOG_DIRECTION] = 3,
	[LOG_INTERFACE] = 9,
	[LOG_PROTO] = 5,
	[LOG_SOURCE] = 21,
	[LOG_DESTINATION] = 21,
	[LOG_FLAGS] = 5,
	[LOG_BYTES] = 8,
	[LOG_STATE] = 11,
	[LOG_OWNER] = 12,
};

/* The rule's sentence; "over its limit: …"; "default verdict". */
static void why_format(const json_t *record, char *buffer, size_t size)
{
	const json_t *rule = json_object_get(record, "rule");
	const char *over = strcmp(json_get_text(record, "reason"), "limit") == 0 ? "over its limit: " : "";

	if (rule)
		snprintf(buffer, size, "%s%s", over, json_get_text(rule, "text"));
	else
		snprintf(buffer, size, "default verdict");
}

static void log_cell(const json_t *record, unsigned int column, const struct cell_context *context,
	char *buffer, size_t size)
{
	static const char *const keys[LOG_COLUMNS] = {
		[LOG_ACTION] = "action",
		[LOG_HOOK] = "hook",
		[LOG_DIRECTION] = "direction",
		[LOG_INTERFACE] = "interface",
		[LOG_PROTO] = "proto",
		[LOG_FLAGS] = "tcp_flags",
		[LOG_STATE] = "state",
	};
	const json_t *rule = json_object_get(record, "rule");

	switch (column) {
	case LOG_TIME:
		clock_format(record, buffer, size);
		break;
	case LOG_RULE:
		if (rule)
			snprintf(buffer, size, "%" PRIu64, json_get_number(rule, "id"));
		else
			snprintf(buffer, size, "-");
		break;
	case LOG_SOURCE:
		endpoint_format(record, "src", "sport", buffer, size);
		break;
	case LOG_DESTINATION:
		endpoint_format(record, "dst", "dport", buffer, size);
		break;
	case LOG_BYTES:
		size_format(buffer, size, json_get_number(record, "length"), context->units);
		break;
	case LOG_OWNER:
		owner_format(record, buffer, size);
		break;
	case LOG_WHY:
		why_format(record, buffer, size);
		break;
	default:
		snprintf(buffer, size, "%s", json_get_text(record, keys[column]));
		break;
	}
}

static const struct sort_key no_sorts[] = {{NULL}};

static const struct screen log_screen = {
	.name = "log",
	.path = "/v1/log",
	.sorts = no_sorts,
	.columns = log_columns,
	.column_count = LOG_COLUMNS,
	.cell = log_cell,
	.nothing = "nothing was logged",
};

struct shown {
	const struct cli *cli;
	struct weir_client *client;
	const char *query;
};

static int log_print(void *user, struct error *error)
{
	const struct shown *shown = user;
	const struct style *style = style_choose(shown->cli->color);
	_cleanup_json_ json_t *answer = NULL;
	int r = ask_shown(shown->cli, shown->client, log_screen.path, shown->query, &answer, error);
	uint64_t unlogged;

	if (r < 0 || !answer)
		return r;
	r = screen_table_print(&log_screen, answer, shown->cli->units, style, error);
	unlogged = json_get_number(answer, "unlogged") + json_get_number(answer, "lost");
	if (r == 0 && unlogged)
		printf("\n%s%" PRIu64 " more packets were only counted: over the log's rate%s\n", style->dim,
			unlogged, style->reset);
	return r;
}

static int record_print(void *user, const json_t *record)
{
	const enum units *units = user;

	screen_line_print(&log_screen, log_widths, record, *units);
	return 0;
}

int cmd_log(const struct cli *cli)
{
	struct question question = {.limit = cli->limit};
	_cleanup_client_ struct weir_client *client = NULL;
	_cleanup_free_ char *filter = NULL, *query = NULL;
	enum units units = cli->units;
	struct error error;

	if (cli->word_count && !(cli->given & OPTIONS_SHOWN))
		return cmd_rule(cli);
	if (cli->given & (OPTION_BIT(BEFORE) | OPTION_BIT(TENANT) | OPTION_BIT(CUT) | OPTION_BIT(CONFIRM))) {
		error_set(&error, -EINVAL, "a rule, or what was logged?");
		error_want(&error,
			"weir log SENTENCE makes a rule; --follow, --limit and --watch show what was logged");
		return fail_usage(&error);
	}
	if (filter_read(cli, &filter, &error) < 0)
		return fail_usage(&error);
	question.filter = filter;
	query = screen_query(&log_screen, &question);
	if (!query) {
		error_set(&error, -ENOMEM, "no memory");
		return fail(&error);
	}
	if (cli->follow)
		return follow(cli, PATH_EVENTS, query, record_print, &units);
	if (client_open(cli, &client, &error) < 0)
		return fail(&error);
	return print_repeatedly(
		cli, log_print, &(struct shown){.cli = cli, .client = client, .query = query});
}
