// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * weir audit: who connected where, who listened, who was denied, and which policy changed by whom.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cli/ask.h"
#include "cli/cli.h"
#include "cli/filter.h"
#include "cli/follow.h"
#include "cli/view/answer.h"
#include "cli/view/print.h"
#include "cli/view/screens.h"

#define PATH_EVENTS "/v1/audit/events"

enum {
	AUDIT_TIME,
	AUDIT_KIND,
	AUDIT_OWNER,
	AUDIT_USER,
	AUDIT_PROTO,
	AUDIT_LOCAL,
	AUDIT_REMOTE,
	AUDIT_INFO,
	AUDIT_COLUMNS,
};

static const struct table_column audit_columns[AUDIT_COLUMNS] = {
	[AUDIT_TIME] = {"TIME"},
	[AUDIT_KIND] = {"KIND"},
	[AUDIT_OWNER] = {"OWNER"},
	[AUDIT_USER] = {"USER", .importance = 2},
	[AUDIT_PROTO] = {"PROTO", .importance = 1},
	[AUDIT_LOCAL] = {"LOCAL", .elastic = 12, .importance = 3},
	[AUDIT_REMOTE] = {"REMOTE", .elastic = 12},
	[AUDIT_INFO] = {"INFO", .hide_empty = true},
};

static const unsigned int audit_widths[AUDIT_COLUMNS] = {
	[AUDIT_TIME] = 19,
	[AUDIT_KIND] = 7,
	[AUDIT_OWNER] = 18,
	[AUDIT_USER] = 8,
	[AUDIT_PROTO] = 5,
	[AUDIT_LOCAL] = 21,
	[AUDIT_REMOTE] = 21,
};

/* A trail reaches back for days: with the date, without milliseconds. */
static void date_format(const json_t *entry, char *buffer, size_t size)
{
	time_t seconds = (time_t)json_get_time(entry, "time");
	struct tm parts;

	localtime_r(&seconds, &parts);
	strftime(buffer, size, "%Y-%m-%d %H:%M:%S", &parts);
}

static void audit_info(const json_t *entry, char *buffer, size_t size)
{
	if (json_object_get(entry, "what"))
		snprintf(buffer, size, "%s", json_get_text(entry, "what"));
	else if (json_object_get(entry, "rule"))
		snprintf(buffer, size, "%s, by rule %" PRIu64, json_get_text(entry, "call"),
			json_get_number(entry, "rule"));
	else
		snprintf(buffer, size, "%s", json_get_text(entry, "error"));
}

static void audit_cell(const json_t *entry, unsigned int column, const struct cell_context *context,
	char *buffer, size_t size)
{
	(void)context;
	switch (column) {
	case AUDIT_TIME:
		date_format(entry, buffer, size);
		break;
	case AUDIT_KIND:
		snprintf(buffer, size, "%s", json_get_text(entry, "kind"));
		break;
	case AUDIT_OWNER:
		owner_format(entry, buffer, size);
		break;
	case AUDIT_USER:
		snprintf(buffer, size, "%s", json_get_text(json_object_get(entry, "owner"), "user"));
		break;
	case AUDIT_PROTO:
		snprintf(buffer, size, "%s", json_get_text(entry, "proto"));
		break;
	case AUDIT_LOCAL:
		if (json_object_get(entry, "local"))
			endpoint_format(entry, "local", "lport", buffer, size);
		break;
	case AUDIT_REMOTE:
		if (json_object_get(entry, "remote"))
			endpoint_format(entry, "remote", "rport", buffer, size);
		break;
	case AUDIT_INFO:
		audit_info(entry, buffer, size);
		break;
	}
}

static const struct sort_key no_sorts[] = {{NULL}};

static const struct screen audit_screen = {
	.name = "audit",
	.path = "/v1/audit",
	.sorts = no_sorts,
	.columns = audit_columns,
	.column_count = AUDIT_COLUMNS,
	.cell = audit_cell,
	.nothing = "nothing in the trail",
};

struct audit {
	const struct cli *cli;
	struct weir_client *client;
	char *query;
};

static int audit_print(void *user, struct error *error)
{
	const struct audit *audit = user;
	const struct cli *cli = audit->cli;
	const struct style *style = style_choose(cli->color);
	_cleanup_json_ json_t *answer = NULL;
	int r;

	r = ask_shown(cli, audit->client, audit_screen.path, audit->query, &answer, error);
	if (r < 0 || !answer)
		return r;
	r = screen_table_print(&audit_screen, answer, cli->units, style, error);
	if (r == 0 && json_get_number(answer, "lost"))
		printf("%s%" PRIu64 " events were lost on their way to the agent%s\n", style->bad,
			json_get_number(answer, "lost"), style->reset);
	return r;
}

static int entry_print(void *user, const json_t *entry)
{
	const enum units *units = user;

	screen_line_print(&audit_screen, audit_widths, entry, *units);
	return 0;
}

int cmd_audit(const struct cli *cli)
{
	struct question question = {.limit = cli->limit};
	_cleanup_client_ struct weir_client *client = NULL;
	_cleanup_free_ char *filter = NULL, *query = NULL;
	enum units units = cli->units;
	struct error error;

	if (filter_read(cli, &filter, &error) < 0)
		return fail_usage(&error);
	if (cli->follow && cli->given & OPTION_BIT(LIMIT)) {
		error_set(&error, -EINVAL, "--follow shows what happens from now on");
		error_want(&error, "--follow without --limit");
		return fail_usage(&error);
	}
	question.filter = filter;
	query = screen_query(&audit_screen, &question);
	if (!query) {
		error_set(&error, -ENOMEM, "no memory");
		return fail(&error);
	}
	if (cli->follow)
		return follow(cli, PATH_EVENTS, query, entry_print, &units);
	if (client_open(cli, &client, &error) < 0)
		return fail(&error);
	return print_repeatedly(
		cli, audit_print, &(struct audit){.cli = cli, .client = client, .query = query});
}
