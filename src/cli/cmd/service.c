/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* weir service, weir services, weir backend: what is balanced, and among whom. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/action.h"
#include "cli/ask.h"
#include "cli/cli.h"
#include "cli/filter.h"
#include "cli/view/print.h"
#include "cli/view/screens.h"
#include "model/service.h"

/*
 * The list: each service, and below it its backends
 */

enum {
	COLUMN_ID,
	COLUMN_NAME,
	COLUMN_STATE,
	COLUMN_WEIGHT,
	COLUMN_WANTED,
	COLUMN_REAL,
	COLUMN_CONNECTIONS,
	COLUMN_NEW,
	COLUMN_PACKETS,
	COLUMN_BYTES,
	COLUMN_WHY,
	COLUMNS
};

static const struct table_column columns[COLUMNS] = {
	[COLUMN_ID] = {"ID", ALIGN_RIGHT},
	[COLUMN_NAME] = {"SERVICE"},
	[COLUMN_STATE] = {"STATE"},
	[COLUMN_WEIGHT] = {"WEIGHT", ALIGN_RIGHT, .importance = 2},
	[COLUMN_WANTED] = {"WANTED", ALIGN_RIGHT},
	[COLUMN_REAL] = {"REAL", ALIGN_RIGHT},
	[COLUMN_CONNECTIONS] = {"CONNECTIONS", ALIGN_RIGHT},
	[COLUMN_NEW] = {"NEW/S", ALIGN_RIGHT},
	[COLUMN_PACKETS] = {"PACKETS", ALIGN_RIGHT},
	[COLUMN_BYTES] = {"BYTES", ALIGN_RIGHT},
	[COLUMN_WHY] = {"WHY", .hide_empty = true, .rest = true, .elastic = 20},
};

static bool is_service(const json_t *row)
{
	return json_object_get(row, "name");
}

/* "203.0.113.10", "203.0.113.0/24:443", "[2001:db8::1]:80-90". */
static void place_print(const json_t *row, char *buffer, size_t size)
{
	const char *address = json_get_text(row, "address"), *ports = json_get_text(row, "ports");
	uint64_t port = json_get_number(row, "port");
	bool brackets = strchr(address, ':') && (port || *ports);
	char number[24];

	snprintf(number, sizeof(number), "%" PRIu64, port);
	snprintf(buffer, size, "%s%s%s%s%s", brackets ? "[" : "", address, brackets ? "]" : "",
		port || *ports ? ":" : "", port ? number : ports);
}

static void name_print(const json_t *row, char *buffer, size_t size)
{
	char place[128];

	place_print(row, place, sizeof(place));
	if (is_service(row))
		snprintf(buffer, size, "%s %s %s", json_get_text(row, "name"), json_get_text(row, "proto"),
			place);
	else
		snprintf(buffer, size, "  %s", place);
}

/* "up"; of a service "2 of 3 up". */
static void state_print(const json_t *row, char *buffer, size_t size)
{
	const json_t *backends = json_object_get(row, "backends"), *backend;
	size_t up = 0, i;

	if (!is_service(row)) {
		snprintf(buffer, size, "%s", json_get_text(row, "state"));
		return;
	}
	json_array_foreach (backends, i, backend)
		up += strcmp(json_get_text(backend, "state"), "up") == 0;
	snprintf(buffer, size, "%zu of %zu up", up, json_array_size(backends));
}

/* Why a backend is not up; of a service, how it is delivered. */
static void why_print(const json_t *row, char *buffer, size_t size)
{
	if (!is_service(row))
		snprintf(buffer, size, "%s", json_get_text(row, "reason"));
	else if (*json_get_text(row, "failing"))
		snprintf(buffer, size, "no backend is up: fails %s", json_get_text(row, "failing"));
	else if (strcmp(json_get_text(row, "hook"), "none") == 0)
		snprintf(buffer, size, "not balanced: off, or no interface can");
	else
		snprintf(buffer, size, "%s, %s at %s", json_get_text(row, "deliver"),
			json_get_text(row, "choice"), json_get_text(row, "hook"));
}

static void cell_print(
	const json_t *row, unsigned int column, const struct cell_context *context, char *buffer, size_t size)
{
	static const char *const counts[COLUMNS] = {
		[COLUMN_CONNECTIONS] = "connections", [COLUMN_PACKETS] = "packets"};
	static const char *const shares[COLUMNS] = {
		[COLUMN_WANTED] = "share_wanted", [COLUMN_REAL] = "share_real"};

	*buffer = '\0';
	switch (column) {
	case COLUMN_ID:
		if (is_service(row))
			snprintf(buffer, size, "%" PRIu64, json_get_number(row, "id"));
		break;
	case COLUMN_NAME:
		name_print(row, buffer, size);
		break;
	case COLUMN_STATE:
		state_print(row, buffer, size);
		break;
	case COLUMN_WEIGHT:
		if (!is_service(row))
			snprintf(buffer, size, "%" PRIu64, json_get_number(row, "weight"));
		break;
	case COLUMN_WANTED:
	case COLUMN_REAL:
		if (!is_service(row))
			snprintf(buffer, size, "%.1f%%",
				100 * json_number_value(json_object_get(row, shares[column])));
		break;
	case COLUMN_NEW:
		snprintf(buffer, size, "%.1f", json_number_value(json_object_get(row, "new_per_second")));
		break;
	case COLUMN_BYTES:
		size_format(buffer, size, json_get_number(row, "bytes"), context->units);
		break;
	case COLUMN_WHY:
		why_print(row, buffer, size);
		break;
	default:
		count_format(buffer, size, json_get_number(row, counts[column]), context->units);
		break;
	}
}

static const struct screen services_screen = {
	.name = "services",
	.path = "/v1/services",
	.columns = columns,
	.column_count = COLUMNS,
	.cell = cell_print,
	.nothing = "no services: nothing is balanced",
};

/* The services with each one's backends behind it.  NULL: no memory. */
static json_t *rows_make(const json_t *answer)
{
	_cleanup_json_ json_t *rows = json_array();
	json_t *service, *backend;
	size_t i, j;

	json_array_foreach (json_object_get(answer, "services"), i, service) {
		json_array_append(rows, service);
		json_array_foreach (json_object_get(service, "backends"), j, backend)
			json_array_append(rows, backend);
	}
	return json_pack("{sO}", "services", rows);
}

/* What was not delivered, and why. */
static void losses_print_of(const json_t *service, enum units units)
{
	const char *reason;
	const json_t *count;
	const char *separator = "lost: ";
	char text[32];

	json_object_foreach ((json_t *)json_object_get(service, "lost"), reason, count) {
		uint64_t packets = (uint64_t)json_integer_value(count);

		if (!packets)
			continue;
		printf("%s%s %s", separator, count_format(text, sizeof(text), packets, units), reason);
		separator = ", ";
	}
	if (*separator == ',')
		putchar('\n');
}

/* "eth1: at tc: XDP is off", of interfaces where something keeps services from XDP. */
static void hooks_print_of(const json_t *service)
{
	const json_t *hook;
	size_t i;

	json_array_foreach (json_object_get(service, "hooks"), i, hook)
		if (*json_get_text(hook, "why"))
			printf("%s: at %s: %s\n", json_get_text(hook, "interface"),
				json_get_text(hook, "hook"), json_get_text(hook, "why"));
}

/* One service: besides the table its sentence, and what it lost. */
static void service_print_one(const struct cli *cli, const json_t *service)
{
	uint64_t slots = json_get_number(service, "slots");

	printf("service %s\n", json_get_text(service, "text") +
				       (strncmp(json_get_text(service, "text"), "service ", 8) == 0 ? 8 : 0));
	printf("delivered by %s, chosen by %s", json_get_text(service, "deliver"),
		json_get_text(service, "choice"));
	if (slots)
		printf(" (%" PRIu64 " slots)", slots);
	if (strcmp(json_get_text(service, "hook"), "none") == 0)
		puts(", but not balanced: balance.hook is off, or no watched interface can");
	else
		printf(", at %s\n", json_get_text(service, "hook"));
	hooks_print_of(service);
	losses_print_of(service, cli->units);
	putchar('\n');
}

/* nat: "sent to 10.0.0.11:443 from 10.0.0.1, ports 61001-65535". */
static void sources_print_of(const json_t *service)
{
	const json_t *backend;
	size_t i;

	json_array_foreach (json_object_get(service, "backends"), i, backend) {
		char place[128];

		if (!*json_get_text(backend, "from"))
			continue;
		place_print(backend, place, sizeof(place));
		printf("sent to %s from %s, ports %s\n", place, json_get_text(backend, "from"),
			json_get_text(backend, "from_ports"));
	}
}

/* "check http of 10.0.0.11:443: passed in 3.2 ms at …; 812 passed, 3 failed". */
static void checks_print_of(const json_t *service)
{
	const json_t *backend;
	size_t i;

	json_array_foreach (json_object_get(service, "backends"), i, backend) {
		const json_t *check = json_object_get(backend, "check");
		char place[128];

		if (!check)
			continue;
		place_print(backend, place, sizeof(place));
		printf("check %s of %s: ", json_get_text(check, "kind"), place);
		if (*json_get_text(check, "result"))
			printf("%s in %.1f ms at %s", json_get_text(check, "result"),
				json_number_value(json_object_get(check, "took_ms")),
				json_get_text(check, "last"));
		else
			printf("none yet");
		printf("; %" PRIu64 " passed, %" PRIu64 " failed\n", json_get_number(check, "passed"),
			json_get_number(check, "failed"));
	}
}

struct services {
	const struct cli *cli;
	struct weir_client *client;
	const char *query; /* NULL: all */
};

static int services_print(void *user, struct error *error)
{
	const struct services *services = user;
	const struct style *style = style_choose(services->cli->color);
	_cleanup_json_ json_t *answer = NULL, *rows = NULL;
	const json_t *warning;
	size_t i;
	int r = ask_shown(
		services->cli, services->client, services_screen.path, services->query, &answer, error);

	if (r < 0 || !answer)
		return r;
	rows = rows_make(answer);
	if (!rows)
		return error_set(error, -ENOMEM, "no memory for the list");
	if (services->query)
		service_print_one(services->cli, json_array_get(json_object_get(answer, "services"), 0));
	r = screen_table_print(&services_screen, rows, services->cli->units, style, error);
	if (r < 0)
		return r;
	if (services->query) {
		sources_print_of(json_array_get(json_object_get(answer, "services"), 0));
		checks_print_of(json_array_get(json_object_get(answer, "services"), 0));
	}
	json_array_foreach (json_object_get(answer, "warnings"), i, warning)
		printf("%s%s%s\n", style->bad, json_string_value(warning), style->reset);
	pending_print(answer, style);
	return 0;
}

static int services_show(const struct cli *cli, const char *query)
{
	_cleanup_client_ struct weir_client *client = NULL;
	struct services services = {.cli = cli, .query = query};
	struct error error;

	if (client_open(cli, &client, &error) < 0)
		return fail(&error);
	services.client = client;
	return print_repeatedly(cli, services_print, &services);
}

int cmd_services(const struct cli *cli)
{
	return services_show(cli, NULL);
}

/*
 * Changes
 */

/* Text that the shell may have taken the quotes from. */
static const char *const quoting[] = {"exec", "path", "send", "expect", NULL};

static int service_add(const struct cli *cli)
{
	_cleanup_free_ char *text = sentence_join(cli, "", quoting), *query = NULL;
	struct service_text *service = NULL;
	struct error error;

	/* a mistake is shown before anybody is asked */
	if (text && service_parse(text, &service, &error) < 0)
		return error.code == -ENOMEM ? fail(&error) : fail_usage(&error);
	service_free(service);
	query = text ? query_make("confirm", cli->confirm, NULL) : NULL;
	return change_made_with(cli, "/v1/services/add", query, text, "services", "service");
}

/* NAME, and nothing else. */
static int name_read(const struct cli *cli, const char *action, struct error *error)
{
	if (cli->word_count != 1) {
		error_set(error, -EINVAL, "'weir service %s' takes the name of one service", action);
		return error_want(error, "for example: weir service %s web", action);
	}
	return service_name_check(cli->words[0], error);
}

static int service_delete(const struct cli *cli)
{
	_cleanup_free_ char *query = NULL;
	struct error error;

	if (name_read(cli, "delete", &error) < 0)
		return fail_usage(&error);
	query = query_make("name", cli->words[0], "confirm", cli->confirm, NULL);
	return change_made(cli, "/v1/services/delete", query, "deleted", "deleted service");
}

static int service_show(const struct cli *cli)
{
	_cleanup_free_ char *query = NULL;
	struct error error;

	if (name_read(cli, "show", &error) < 0)
		return fail_usage(&error);
	query = query_make("name", cli->words[0], NULL);
	if (query)
		return services_show(cli, query);
	error_set(&error, -ENOMEM, "no memory");
	return fail(&error);
}

static const struct action actions[] = {
	{"add", service_add, OPTION_BIT(CONFIRM)},
	{"delete", service_delete, OPTION_BIT(CONFIRM)},
	{"show", service_show, OPTION_BIT(WATCH)},
	{"list", cmd_services, OPTION_BIT(WATCH)},
	{NULL},
};

int cmd_service(const struct cli *cli)
{
	if (!cli->word_count)
		return cmd_services(cli);
	return action_run(
		cli, actions, "--confirm belongs to 'add' and 'delete', --watch to 'show' and 'list'");
}

/* "drain web 10.0.0.11": the action, the service, the rest of the change. */
int cmd_backend(const struct cli *cli)
{
	_cleanup_free_ char *text = NULL, *query = NULL;
	struct cli rest = *cli;
	struct error error;

	if (cli->word_count < 3) {
		error_set(&error, -EINVAL, "what becomes of which backend of which service?");
		error_want(&error, "for example: weir backend drain web 10.0.0.11");
		return fail_usage(&error);
	}
	if (service_name_check(cli->words[1], &error) < 0)
		return fail_usage(&error);
	rest.words += 2;
	rest.word_count -= 2;
	text = words_join(&rest, cli->words[0]);
	if (text && service_change_check(text, &error) < 0)
		return fail_usage(&error);
	query = text ? query_make("name", cli->words[1], "text", text, "confirm", cli->confirm, NULL) : NULL;
	return change_made(cli, "/v1/services/change", query, "services", "service");
}
