// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* weir connections: those that the rules know, who began them and how far they are; and taking some away. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/ask.h"
#include "cli/cli.h"
#include "cli/filter.h"
#include "cli/view/answer.h"
#include "cli/view/print.h"
#include "cli/view/screens.h"

#define PATH_DELETE "/v1/connections/delete"

enum {
	CONNECTION_PROTO,
	CONNECTION_SOURCE,
	CONNECTION_DESTINATION,
	CONNECTION_STATE,
	CONNECTION_STAGE,
	CONNECTION_RULE,
	CONNECTION_AGE,
	CONNECTION_IDLE,
	CONNECTION_COLUMNS,
};

static const struct table_column columns[CONNECTION_COLUMNS] = {
	[CONNECTION_PROTO] = {"PROTO"},
	[CONNECTION_SOURCE] = {"SOURCE", .elastic = 12},
	[CONNECTION_DESTINATION] = {"DESTINATION", .elastic = 12},
	[CONNECTION_STATE] = {"STATE"},
	[CONNECTION_STAGE] = {"STAGE", .importance = 1},
	[CONNECTION_RULE] = {"RULE", ALIGN_RIGHT, .importance = 2},
	[CONNECTION_AGE] = {"AGE", ALIGN_RIGHT, .importance = 3},
	[CONNECTION_IDLE] = {"IDLE", ALIGN_RIGHT, .importance = 4},
};

static void since_cell(const json_t *entry, const char *key, double now, char *buffer, size_t size)
{
	double seconds = now - json_get_time(entry, key);

	duration_format(buffer, size, seconds > 0 ? (uint64_t)seconds * 1000000000 : 0);
}

static void connection_cell(const json_t *entry, unsigned int column, const struct cell_context *context,
	char *buffer, size_t size)
{
	uint64_t rule = json_get_number(json_object_get(entry, "rule"), "id");

	switch (column) {
	case CONNECTION_PROTO:
		snprintf(buffer, size, "%s", json_get_text(entry, "proto"));
		break;
	case CONNECTION_SOURCE:
		endpoint_format(entry, "src", "sport", buffer, size);
		break;
	case CONNECTION_DESTINATION:
		endpoint_format(entry, "dst", "dport", buffer, size);
		break;
	case CONNECTION_STATE:
		snprintf(buffer, size, "%s", json_get_text(entry, "state"));
		break;
	case CONNECTION_STAGE:
		snprintf(buffer, size, "%s", json_get_text(entry, "stage"));
		break;
	case CONNECTION_RULE:
		if (rule)
			snprintf(buffer, size, "%" PRIu64, rule);
		else
			snprintf(buffer, size,
				json_is_true(json_object_get(entry, "picked_up")) ? "-" : "default");
		break;
	case CONNECTION_AGE:
		since_cell(entry, "created", context->now, buffer, size);
		break;
	case CONNECTION_IDLE:
		since_cell(entry, "last", context->now, buffer, size);
		break;
	}
}

static const struct screen screen = {
	.name = "connections",
	.path = "/v1/connections",
	.columns = columns,
	.column_count = CONNECTION_COLUMNS,
	.cell = connection_cell,
	.nothing = "no connections",
};

/* What the words ask for. */
struct wanted {
	const struct cli *cli;
	struct weir_client *client;
	const char *state, *stage, *rule; /* NULL: not asked */
	char *filter;
	char *query;
};

/* Takes one of "state STATE", "stage STAGE", "rule ID" off the words; false: there is none. */
static bool wanted_take(const struct cli *cli, int at, struct wanted *wanted)
{
	const struct {
		const char *word;
		const char **place;
	} parts[] = {{"state", &wanted->state}, {"stage", &wanted->stage}, {"rule", &wanted->rule}};

	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]) && at + 1 < cli->word_count; i++)
		if (strcmp(cli->words[at], parts[i].word) == 0) {
			*parts[i].place = cli->words[at + 1];
			return true;
		}
	return false;
}

/* NULL without memory. */
static char *wanted_query(const struct wanted *wanted)
{
	const struct {
		const char *key, *value;
	} parts[] = {
		{"filter", wanted->filter && *wanted->filter ? wanted->filter : NULL},
		{"state", wanted->state},
		{"stage", wanted->stage},
		{"rule", wanted->rule},
	};
	char *query = NULL;
	size_t length;
	FILE *out = open_memstream(&query, &length);
	bool whole = out;

	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]) && whole; i++) {
		_cleanup_free_ char *value = parts[i].value ? weir_escape(parts[i].value) : NULL;

		if (parts[i].value)
			whole = value &&
			        fprintf(out, "%s%s=%s", ftell(out) ? "&" : "", parts[i].key, value) > 0;
	}
	if (whole && wanted->cli->limit)
		fprintf(out, "%slimit=%" PRIu64, ftell(out) ? "&" : "", wanted->cli->limit);
	if (out && fclose(out) < 0)
		whole = false;
	if (whole)
		return query;
	free(query);
	return NULL;
}

static int connections_print(void *user, struct error *error)
{
	const struct wanted *wanted = user;
	const struct cli *cli = wanted->cli;
	const struct style *style = style_choose(cli->color);
	_cleanup_json_ json_t *answer = NULL;
	char established[32], limit[32], embryos[32];
	int r = ask_shown(cli, wanted->client, screen.path, wanted->query, &answer, error);

	if (r < 0 || !answer)
		return r;
	r = screen_table_print(&screen, answer, cli->units, style, error);
	if (r < 0)
		return r;
	printf("\n%s%s established of at most %s, %s new%s\n", style->dim,
		count_format(
			established, sizeof(established), json_get_number(answer, "established"), cli->units),
		count_format(limit, sizeof(limit), json_get_number(answer, "established_limit"), cli->units),
		count_format(embryos, sizeof(embryos), json_get_number(answer, "new"), cli->units),
		style->reset);
	return 0;
}

static int connections_delete(const struct wanted *wanted)
{
	_cleanup_free_ char *body = NULL;
	_cleanup_json_ json_t *answer = NULL;
	struct error error;
	uint64_t deleted;
	size_t length;

	if (ask_text(wanted->client, "POST", PATH_DELETE, wanted->query, &body, &length, &error) < 0 ||
		answer_read(body, length, &answer, &error) < 0)
		return fail(&error);
	deleted = json_get_number(answer, "deleted");
	if (wanted->cli->json)
		document_print(body, length);
	else
		printf("deleted %" PRIu64 " connection%s\n", deleted, deleted == 1 ? "" : "s");
	return output_end(EXIT_OK);
}

int cmd_connections(const struct cli *cli)
{
	bool removes = cli->word_count && strcmp(cli->words[0], "delete") == 0;
	_cleanup_client_ struct weir_client *client = NULL;
	_cleanup_free_ char *filter = NULL, *query = NULL;
	struct wanted wanted = {.cli = cli};
	struct cli rest = *cli;
	struct error error;
	int first = removes;

	while (wanted_take(cli, first, &wanted))
		first += 2;
	rest.words += first;
	rest.word_count -= first;
	if (filter_read(&rest, &filter, &error) < 0)
		return fail_usage(&error);
	if (removes && cli->word_count < 2) {
		error_set(&error, -EINVAL, "which connections?");
		error_want(&error, "weir connections delete MATCH, such as 'tcp to port 22'");
		return fail_usage(&error);
	}
	wanted.filter = filter;
	query = wanted.query = wanted_query(&wanted);
	if (!query) {
		error_set(&error, -ENOMEM, "no memory");
		return fail(&error);
	}
	if (client_open(cli, &client, &error) < 0)
		return fail(&error);
	wanted.client = client;
	if (removes)
		return connections_delete(&wanted);
	return print_repeatedly(cli, connections_print, &wanted);
}
