// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * weir sockets: which sockets there are and how they are doing, which were closed, and what happens to them.
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

#define PATH_EVENTS  "/v1/sockets/events"
#define PATH_HISTORY "/v1/sockets/history"

/* -- cells that lists and events share -- */

static void duration_cell(const json_t *entry, const char *key, uint64_t unit_ns, char *buffer, size_t size)
{
	if (json_object_get(entry, key))
		duration_format(buffer, size, json_get_number(entry, key) * unit_ns);
}

static void age_cell(const json_t *entry, char *buffer, size_t size)
{
	if (json_object_get(entry, "age"))
		duration_format(
			buffer, size, (uint64_t)(json_number_value(json_object_get(entry, "age")) * 1e9));
}

static void end_cell(const json_t *entry, const char *address, const char *port, char *buffer, size_t size)
{
	if (json_object_get(entry, address))
		endpoint_format(entry, address, port, buffer, size);
}

static void amount_cell(
	const json_t *entry, const char *direction, enum units units, char *buffer, size_t size)
{
	if (json_object_get(entry, direction))
		size_format(buffer, size, json_get_number(json_object_get(entry, direction), "bytes"), units);
}

/* What only some sockets have to say: "refused, 3 zero windows". */
static void info_format(const json_t *socket, char *buffer, size_t size)
{
	static const struct {
		const char *key, *text, *plural;
	} counts[] = {
		{"retransmits", "retransmitted", ""},
		{"out_of_order", "out of order", ""},
		{"zero_windows", "zero window", "s"},
		{"drops", "drop", "s"},
		{"errors", "error", "s"},
	};
	FILE *out = fmemopen(buffer, size, "w");
	const char *separator = "", *congestion = json_get_text(socket, "congestion");

	if (!out)
		return;
	if (json_object_get(socket, "error")) {
		fputs(json_get_text(socket, "error"), out);
		separator = ", ";
	}
	if (*congestion && strcmp(congestion, "open") != 0) {
		fprintf(out, "%s%s", separator, congestion);
		separator = ", ";
	}
	if (json_object_get(socket, "queue_limit")) {
		fprintf(out, "%squeue %" PRIu64 "/%" PRIu64, separator, json_get_number(socket, "queued"),
			json_get_number(socket, "queue_limit"));
		separator = ", ";
	}
	for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
		uint64_t count = json_get_number(socket, counts[i].key);

		if (!count)
			continue;
		fprintf(out, "%s%" PRIu64 " %s%s", separator, count, counts[i].text,
			count == 1 ? "" : counts[i].plural);
		separator = ", ";
	}
	fclose(out);
}

/* -- the list -- */

enum {
	LIST_PROTO,
	LIST_STATE,
	LIST_LOCAL,
	LIST_REMOTE,
	LIST_OWNER,
	LIST_IN,
	LIST_OUT,
	LIST_RTT,
	LIST_HANDSHAKE,
	LIST_RATE,
	LIST_AGE,
	LIST_INFO,
	LIST_COLUMNS,
};

static const struct table_column list_columns[LIST_COLUMNS] = {
	[LIST_PROTO] = {"PROTO"},
	[LIST_STATE] = {"STATE"},
	[LIST_LOCAL] = {"LOCAL", .elastic = 12},
	[LIST_REMOTE] = {"REMOTE", .elastic = 12, .hide_empty = true},
	[LIST_OWNER] = {"OWNER", .importance = 1},
	[LIST_IN] = {"IN", ALIGN_RIGHT, .importance = 2},
	[LIST_OUT] = {"OUT", ALIGN_RIGHT, .importance = 2},
	[LIST_RTT] = {"RTT", ALIGN_RIGHT, .importance = 3, .hide_empty = true},
	[LIST_HANDSHAKE] = {"HANDSHAKE", ALIGN_RIGHT, .importance = 6, .hide_empty = true},
	[LIST_RATE] = {"DELIVERY", ALIGN_RIGHT, .importance = 7, .hide_empty = true},
	[LIST_AGE] = {"AGE", ALIGN_RIGHT, .importance = 5},
	[LIST_INFO] = {"INFO", .importance = 4, .hide_empty = true},
};

static void list_cell(const json_t *socket, unsigned int column, const struct cell_context *context,
	char *buffer, size_t size)
{
	switch (column) {
	case LIST_PROTO:
		snprintf(buffer, size, "%s", json_get_text(socket, "proto"));
		break;
	case LIST_STATE:
		snprintf(buffer, size, "%s", json_get_text(socket, "state"));
		break;
	case LIST_LOCAL:
		end_cell(socket, "local", "lport", buffer, size);
		break;
	case LIST_REMOTE:
		end_cell(socket, "remote", "rport", buffer, size);
		break;
	case LIST_OWNER:
		owner_format(socket, buffer, size);
		break;
	case LIST_IN:
		amount_cell(socket, "in", context->units, buffer, size);
		break;
	case LIST_OUT:
		amount_cell(socket, "out", context->units, buffer, size);
		break;
	case LIST_RTT:
		duration_cell(socket, "srtt_us", 1000, buffer, size);
		break;
	case LIST_HANDSHAKE:
		duration_cell(socket, "handshake_us", 1000, buffer, size);
		break;
	case LIST_RATE:
		if (json_get_number(socket, "delivery_bps"))
			rate_format(buffer, size, json_get_number(socket, "delivery_bps"), context->units);
		break;
	case LIST_AGE:
		age_cell(socket, buffer, size);
		break;
	case LIST_INFO:
		info_format(socket, buffer, size);
		break;
	}
}

static const struct sort_key list_sorts[] = {
	{"bytes"},
	{"in"},
	{"out"},
	{"packets"},
	{"rate"},
	{"rtt"},
	{"retransmits"},
	{"drops"},
	{"age"},
	{"last"},
	{"local", .ascending = true},
	{"remote", .ascending = true},
	{"lport", .ascending = true},
	{"rport", .ascending = true},
	{NULL},
};

static const struct screen list_screen = {
	.name = "sockets",
	.path = "/v1/sockets",
	.sorts = list_sorts,
	.columns = list_columns,
	.column_count = LIST_COLUMNS,
	.cell = list_cell,
	.nothing = "no sockets",
};

/* -- events -- */

enum {
	EVENT_TIME,
	EVENT_EVENT,
	EVENT_PROTO,
	EVENT_LOCAL,
	EVENT_REMOTE,
	EVENT_OWNER,
	EVENT_INFO,
	EVENT_COLUMNS,
};

static const struct table_column event_columns[EVENT_COLUMNS] = {
	[EVENT_TIME] = {"TIME"},
	[EVENT_EVENT] = {"EVENT"},
	[EVENT_PROTO] = {"PROTO"},
	[EVENT_LOCAL] = {"LOCAL", .elastic = 12},
	[EVENT_REMOTE] = {"REMOTE", .elastic = 12},
	[EVENT_OWNER] = {"OWNER", .importance = 1},
	[EVENT_INFO] = {"INFO", .importance = 2},
};

static const unsigned int event_widths[EVENT_COLUMNS] = {
	[EVENT_TIME] = 12,
	[EVENT_EVENT] = 8,
	[EVENT_PROTO] = 5,
	[EVENT_LOCAL] = 21,
	[EVENT_REMOTE] = 21,
	[EVENT_OWNER] = 18,
};

/* "34ms", "refused after 34ms"; "in 1.2 MB, out 3.4 kB, 2.1s, 3 retransmitted". */
static void event_info(const json_t *event, const struct cell_context *context, char *buffer, size_t size)
{
	const char *name = json_get_text(event, "event");
	char latency[32] = "", in[32] = "", out[32] = "", age[32] = "", info[256] = "";

	if (strcmp(name, "state") == 0) {
		snprintf(buffer, size, "%s -> %s", json_get_text(event, "before"),
			json_get_text(event, "state"));
	} else if (json_object_get(event, "in")) {
		amount_cell(event, "in", context->units, in, sizeof(in));
		amount_cell(event, "out", context->units, out, sizeof(out));
		age_cell(event, age, sizeof(age));
		info_format(event, info, sizeof(info));
		snprintf(buffer, size, "in %s, out %s%s%s%s%s", in, out, *age ? ", " : "", age,
			*info ? ", " : "", info);
	} else if (json_object_get(event, "error")) {
		duration_cell(event, "latency_us", 1000, latency, sizeof(latency));
		snprintf(buffer, size, "%s%s%s", json_get_text(event, "error"), *latency ? " after " : "",
			latency);
	} else {
		duration_cell(event, "latency_us", 1000, buffer, size);
	}
}

static void event_cell(const json_t *event, unsigned int column, const struct cell_context *context,
	char *buffer, size_t size)
{
	switch (column) {
	case EVENT_TIME:
		clock_format(event, buffer, size);
		break;
	case EVENT_EVENT:
		snprintf(buffer, size, "%s", json_get_text(event, "event"));
		break;
	case EVENT_PROTO:
		snprintf(buffer, size, "%s", json_get_text(event, "proto"));
		break;
	case EVENT_LOCAL:
		end_cell(event, "local", "lport", buffer, size);
		break;
	case EVENT_REMOTE:
		end_cell(event, "remote", "rport", buffer, size);
		break;
	case EVENT_OWNER:
		owner_format(event, buffer, size);
		break;
	case EVENT_INFO:
		event_info(event, context, buffer, size);
		break;
	}
}

static const struct screen event_screen = {
	.name = "events",
	.path = PATH_HISTORY,
	.columns = event_columns,
	.column_count = EVENT_COLUMNS,
	.cell = event_cell,
	.nothing = "no events",
};

static int event_print(void *user, const json_t *event)
{
	const enum units *units = user;

	screen_line_print(&event_screen, event_widths, event, *units);
	return 0;
}

/* -- the command -- */

struct sockets {
	const struct cli *cli;
	const struct screen *screen;
	struct weir_client *client;
	char *query;
};

static int sockets_print(void *user, struct error *error)
{
	const struct sockets *sockets = user;
	const struct cli *cli = sockets->cli;
	const struct style *style = style_choose(cli->color);
	_cleanup_json_ json_t *answer = NULL;
	uint64_t lost;
	int r;

	r = ask_shown(cli, sockets->client, sockets->screen->path, sockets->query, &answer, error);
	if (r < 0 || !answer)
		return r;
	r = screen_table_print(sockets->screen, answer, cli->units, style, error);
	lost = json_get_number(json_object_get(answer, "losses"), "lost");
	if (r == 0 && lost)
		printf("%s%" PRIu64 " events were lost on their way to the agent%s\n", style->bad, lost,
			style->reset);
	return r;
}

/* Says no to what does not go together. */
static int options_judge(const struct cli *cli, struct error *error)
{
	uint64_t of_lists = OPTION_BIT(SORT) | OPTION_BIT(REVERSE) | OPTION_BIT(CLOSED);
	int modes = cli->follow + cli->events;

	if (modes > 1 || (modes && cli->given & of_lists) ||
		(cli->follow && cli->given & (OPTION_BIT(LIMIT) | OPTION_BIT(WATCH)))) {
		error_set(error, -EINVAL, "--%s shows events, in the order of time",
			cli->follow ? "follow" : "events");
		return error_want(error, cli->follow
						 ? "--follow with nothing but --states and a MATCH"
						 : "--events with --states, --limit, --watch and a MATCH");
	}
	if (cli->states && !modes) {
		error_set(error, -EINVAL, "--states is about events");
		return error_want(error, "--states with --follow or --events");
	}
	return 0;
}

/* The query with one more parameter; NULL without memory. */
static char *query_with(char *query_taken, const char *parameter)
{
	_cleanup_free_ char *query = query_taken;
	char *longer = NULL;

	if (!query || asprintf(&longer, "%s%s%s", query, *query ? "&" : "", parameter) < 0)
		return NULL;
	return longer;
}

int cmd_sockets(const struct cli *cli)
{
	bool events = cli->follow || cli->events;
	struct question question = {.reverse = cli->reverse, .limit = cli->limit};
	_cleanup_client_ struct weir_client *client = NULL;
	_cleanup_free_ char *filter = NULL, *query = NULL;
	enum units units = cli->units;
	struct error error;

	if (options_judge(cli, &error) < 0 || filter_read(cli, &filter, &error) < 0)
		return fail_usage(&error);
	if (!events) {
		question.sort = sort_find(&list_screen, cli->sort, &error);
		if (!question.sort)
			return fail_usage(&error);
	}
	question.filter = filter;
	query = screen_query(&list_screen, &question);
	if (query && cli->closed)
		query = query_with(query, "closed=true");
	if (query && cli->states)
		query = query_with(query, "states=true");
	if (!query) {
		error_set(&error, -ENOMEM, "no memory");
		return fail(&error);
	}
	if (cli->follow)
		return follow(cli, PATH_EVENTS, query, event_print, &units);
	if (client_open(cli, &client, &error) < 0)
		return fail(&error);
	return print_repeatedly(cli, sockets_print,
		&(struct sockets){.cli = cli,
			.screen = events ? &event_screen : &list_screen,
			.client = client,
			.query = query});
}
