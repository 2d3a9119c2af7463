// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * weir drops: what the kernel dropped, by reason, and the drops recorded last; or each as it is recorded.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "cli/ask.h"
#include "cli/cli.h"
#include "cli/filter.h"
#include "cli/follow.h"
#include "cli/view/answer.h"
#include "cli/view/print.h"
#include "cli/view/screens.h"

#define PATH_EVENTS  "/v1/drops/events"
#define RECENT_SHOWN 20 /* unless --limit says otherwise */

struct drops {
	const struct cli *cli;
	struct weir_client *client;
	char *query;
};

/* -- recorded drops: one line each -- */

enum {
	RECENT_TIME,
	RECENT_REASON,
	RECENT_RULE,
	RECENT_DIRECTION,
	RECENT_INTERFACE,
	RECENT_PROTO,
	RECENT_SOURCE,
	RECENT_DESTINATION,
	RECENT_BYTES,
	RECENT_OWNER,
	RECENT_PLACE,
	RECENT_COLUMNS,
};

static const struct table_column recent_columns[RECENT_COLUMNS] = {
	[RECENT_TIME] = {"TIME"},
	[RECENT_REASON] = {"REASON"},
	[RECENT_RULE] = {"RULE", ALIGN_RIGHT, .hide_empty = true},
	[RECENT_DIRECTION] = {"DIR", .importance = 2},
	[RECENT_INTERFACE] = {"INTERFACE", .importance = 3},
	[RECENT_PROTO] = {"PROTO"},
	[RECENT_SOURCE] = {"SOURCE", .elastic = 12},
	[RECENT_DESTINATION] = {"DESTINATION", .elastic = 12},
	[RECENT_BYTES] = {"BYTES", ALIGN_RIGHT, .importance = 4},
	[RECENT_OWNER] = {"OWNER", .importance = 1, .hide_empty = true},
	[RECENT_PLACE] = {"PLACE", .importance = 5},
};

/* How wide they are where lines come one by one. */
static const unsigned int recent_widths[RECENT_COLUMNS] = {
	[RECENT_TIME] = 12,
	[RECENT_REASON] = 20,
	[RECENT_RULE] = 7,
	[RECENT_DIRECTION] = 3,
	[RECENT_INTERFACE] = 9,
	[RECENT_PROTO] = 5,
	[RECENT_SOURCE] = 22,
	[RECENT_DESTINATION] = 22,
	[RECENT_BYTES] = 8,
	[RECENT_OWNER] = 12,
};

/* Which rule of weir's dropped it: nothing, where it was not weir. */
static void rule_format(const json_t *drop, char *buffer, size_t size)
{
	uint64_t rule = json_get_number(drop, "rule");

	if (!json_object_get(drop, "rule"))
		buffer[0] = '\0';
	else if (rule)
		snprintf(buffer, size, "%" PRIu64, rule);
	else
		snprintf(buffer, size, "default");
}

static void recent_cell(const json_t *drop, unsigned int column, const struct cell_context *context,
	char *buffer, size_t size)
{
	switch (column) {
	case RECENT_TIME:
		clock_format(drop, buffer, size);
		break;
	case RECENT_REASON:
		snprintf(buffer, size, "%s", json_get_text(drop, "reason"));
		break;
	case RECENT_RULE:
		rule_format(drop, buffer, size);
		break;
	case RECENT_DIRECTION:
		snprintf(buffer, size, "%s", json_get_text(drop, "direction"));
		break;
	case RECENT_INTERFACE:
		snprintf(buffer, size, "%s", json_get_text(drop, "interface"));
		break;
	case RECENT_PROTO:
		snprintf(buffer, size, "%s",
			json_get_text(drop, json_object_get(drop, "proto") ? "proto" : "ethertype"));
		break;
	case RECENT_SOURCE:
		endpoint_format(drop, "src", "sport", buffer, size);
		break;
	case RECENT_DESTINATION:
		endpoint_format(drop, "dst", "dport", buffer, size);
		break;
	case RECENT_BYTES:
		size_format(buffer, size, json_get_number(drop, "bytes"), context->units);
		break;
	case RECENT_OWNER:
		owner_format(drop, buffer, size);
		break;
	case RECENT_PLACE:
		snprintf(buffer, size, "%s", json_get_text(drop, "place"));
		break;
	}
}

static const struct screen recent_screen = {
	.name = "recent",
	.columns = recent_columns,
	.column_count = RECENT_COLUMNS,
	.cell = recent_cell,
	.nothing = "none recorded",
};

static int drop_print(void *user, const json_t *drop)
{
	const enum units *units = user;

	screen_line_print(&recent_screen, recent_widths, drop, *units);
	return 0;
}

/* -- the list -- */

static void sampling_print(const json_t *answer, const struct cli *cli, const struct style *style)
{
	uint64_t unrecorded = json_get_number(answer, "unrecorded"), lost = json_get_number(answer, "lost");
	char records[32], rest[32];

	if (json_is_false(json_object_get(answer, "enabled")))
		printf("\n%sdrops are not counted: drops.enabled is off%s\n", style->bad, style->reset);
	if (unrecorded + lost)
		printf("\n%s%s recorded, %s only counted%s\n", style->dim,
			count_format(
				records, sizeof(records), json_get_number(answer, "records"), cli->units),
			count_format(rest, sizeof(rest), unrecorded + lost, cli->units), style->reset);
	if (json_get_number(answer, "missed"))
		printf("%s%s drops were missed%s\n", style->bad,
			count_format(rest, sizeof(rest), json_get_number(answer, "missed"), cli->units),
			style->reset);
}

static void recent_cut(json_t *answer, uint64_t limit)
{
	json_t *recent = json_object_get(answer, "recent");

	while (json_array_size(recent) > limit)
		json_array_remove(recent, json_array_size(recent) - 1);
}

static int drops_print(void *user, struct error *error)
{
	const struct drops *drops = user;
	const struct cli *cli = drops->cli;
	const struct style *style = style_choose(cli->color);
	_cleanup_json_ json_t *answer = NULL;
	int r;

	r = ask_shown(cli, drops->client, screens[SCREEN_DROPS]->path, drops->query, &answer, error);
	if (r < 0 || !answer)
		return r;
	r = screen_table_print(screens[SCREEN_DROPS], answer, cli->units, style, error);
	if (r < 0)
		return r;
	if (!cli->limit)
		recent_cut(answer, RECENT_SHOWN);
	if (json_array_size(json_object_get(answer, "recent"))) {
		putchar('\n');
		r = screen_table_print(&recent_screen, answer, cli->units, style, error);
	}
	if (r == 0)
		sampling_print(answer, cli, style);
	return r;
}

static int drops_follow(const struct cli *cli, const char *filter)
{
	_cleanup_free_ char *query = NULL;
	struct question question = {.filter = filter};
	enum units units = cli->units;
	struct error error;

	if (cli->given & (OPTION_BIT(SORT) | OPTION_BIT(REVERSE) | OPTION_BIT(LIMIT) | OPTION_BIT(WATCH))) {
		error_set(&error, -EINVAL, "--follow shows drops as they are recorded");
		error_want(&error, "--follow without --sort, --reverse, --limit and --watch");
		return fail_usage(&error);
	}
	query = screen_query(screens[SCREEN_DROPS], &question);
	if (!query) {
		error_set(&error, -ENOMEM, "no memory");
		return fail(&error);
	}
	return follow(cli, PATH_EVENTS, query, drop_print, &units);
}

int cmd_drops(const struct cli *cli)
{
	const struct screen *screen = screens[SCREEN_DROPS];
	struct question question = {.reverse = cli->reverse, .limit = cli->limit};
	_cleanup_client_ struct weir_client *client = NULL;
	_cleanup_free_ char *filter = NULL, *query = NULL;
	struct error error;

	if (filter_read(cli, &filter, &error) < 0)
		return fail_usage(&error);
	if (cli->follow)
		return drops_follow(cli, filter);
	question.filter = filter;
	question.sort = sort_find(screen, cli->sort, &error);
	if (!question.sort)
		return fail_usage(&error);
	if (client_open(cli, &client, &error) < 0)
		return fail(&error);
	query = screen_query(screen, &question);
	if (!query) {
		error_set(&error, -ENOMEM, "no memory");
		return fail(&error);
	}
	return print_repeatedly(
		cli, drops_print, &(struct drops){.cli = cli, .client = client, .query = query});
}
