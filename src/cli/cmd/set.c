/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* weir set: named lists of addresses or ports, which rules may name. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "basic/text.h"
#include "cli/ask.h"
#include "cli/cli.h"
#include "cli/file.h"
#include "cli/filter.h"
#include "cli/lines.h"
#include "cli/view/answer.h"
#include "cli/view/print.h"
#include "cli/view/screens.h"
#include "model/set.h"

#define LIST_BYTES_MAX (256 * 1024 * 1024)

/*
 * Lists
 */

enum { SET_NAME, SET_KIND, SET_ENTRIES, SET_EXPIRING, SET_SOURCE, SET_USED, SET_COLUMNS };

static const struct table_column set_columns[SET_COLUMNS] = {
	[SET_NAME] = {"SET"},
	[SET_KIND] = {"KIND"},
	[SET_ENTRIES] = {"ENTRIES", ALIGN_RIGHT},
	[SET_EXPIRING] = {"EXPIRING", ALIGN_RIGHT, .importance = 1},
	[SET_SOURCE] = {"SOURCE", .importance = 2},
	[SET_USED] = {"USED"},
};

static void set_cell(const json_t *entry, unsigned int column, const struct cell_context *context,
	char *buffer, size_t size)
{
	switch (column) {
	case SET_NAME:
		snprintf(buffer, size, "%s", json_get_text(entry, "name"));
		break;
	case SET_KIND:
		snprintf(buffer, size, "%s", json_get_text(entry, "kind"));
		break;
	case SET_ENTRIES:
		count_format(buffer, size, json_get_number(entry, "entries"), context->units);
		break;
	case SET_EXPIRING:
		count_format(buffer, size, json_get_number(entry, "expiring"), context->units);
		break;
	case SET_SOURCE:
		snprintf(buffer, size, "%s", json_get_text(entry, "source"));
		break;
	case SET_USED:
		snprintf(buffer, size, "%s", json_is_true(json_object_get(entry, "used")) ? "yes" : "no");
		break;
	}
}

static const struct screen set_screen = {
	.name = "sets",
	.path = "/v1/sets",
	.columns = set_columns,
	.column_count = SET_COLUMNS,
	.cell = set_cell,
	.nothing = "no sets",
};

static int sets_list(const struct cli *cli)
{
	const struct style *style = style_choose(cli->color);
	_cleanup_client_ struct weir_client *client = NULL;
	_cleanup_json_ json_t *answer = NULL;
	const json_t *loading;
	struct error error;

	if (client_open(cli, &client, &error) < 0 ||
		ask_shown(cli, client, set_screen.path, NULL, &answer, &error) < 0)
		return fail(&error);
	if (!answer)
		return output_end(EXIT_OK);
	if (screen_table_print(&set_screen, answer, cli->units, style, &error) < 0)
		return fail(&error);
	loading = json_object_get(answer, "loading");
	if (json_is_object(loading))
		printf("\n%s%s is being loaded: %" PRIu64 " read, %" PRIu64 " built%s\n", style->dim,
			json_get_text(loading, "set"), json_get_number(loading, "read"),
			json_get_number(loading, "built"), style->reset);
	return output_end(EXIT_OK);
}

/* One entry a line, so that it can be loaded again. */
static int set_show(const struct cli *cli, const char *name)
{
	_cleanup_client_ struct weir_client *client = NULL;
	_cleanup_free_ char *query = query_make("name", name, NULL);
	_cleanup_json_ json_t *answer = NULL;
	const json_t *entry;
	struct error error;
	size_t i;

	if (!query) {
		error_set(&error, -ENOMEM, "no memory");
		return fail(&error);
	}
	if (client_open(cli, &client, &error) < 0 ||
		ask_shown(cli, client, "/v1/sets/show", query, &answer, &error) < 0)
		return fail(&error);
	json_array_foreach (json_object_get(answer, "entries"), i, entry) {
		char left[32];

		fputs(json_get_text(entry, "entry"), stdout);
		if (json_object_get(entry, "left"))
			printf(" # for %s", duration_format(left, sizeof(left),
						    json_get_number(entry, "left") * 1000000000));
		putchar('\n');
	}
	return output_end(EXIT_OK);
}

/*
 * Changes
 */

/* How far it is is shown in one line. */
struct change {
	const struct cli *cli;
	const char *name; /* the set */
	bool progress_shown;
};

static void progress_print(void *user, const json_t *line)
{
	struct change *change = user;
	uint64_t done = json_get_number(line, "done"), total = json_get_number(line, "total");
	char text[2][32];

	if (!isatty(STDERR_FILENO))
		return;
	fprintf(stderr, "\r\033[K%s: %s %s of %s", change->name, json_get_text(line, "phase"),
		count_format(text[0], sizeof(text[0]), done, change->cli->units),
		count_format(text[1], sizeof(text[1]), total, change->cli->units));
	change->progress_shown = true;
}

static void result_print(const char *name, const json_t *answer)
{
	static const char *const whole[] = {"created", "flushed", "destroyed"};
	static const struct {
		const char *key, *one, *many;
	} counts[] = {{"added", "added", "added"}, {"removed", "removed", "removed"},
		{"bad", "bad line skipped", "bad lines skipped"}};
	uint64_t entries = json_get_number(answer, "entries"), count;

	for (size_t i = 0; i < sizeof(whole) / sizeof(whole[0]); i++) {
		if (!json_is_true(json_object_get(answer, whole[i])))
			continue;
		printf("%s: %s\n", name, whole[i]);
		return;
	}
	printf("%s: %" PRIu64 " entr%s", name, entries, entries == 1 ? "y" : "ies");
	for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
		count = json_get_number(answer, counts[i].key);
		if (count)
			printf(", %" PRIu64 " %s", count, count == 1 ? counts[i].one : counts[i].many);
	}
	if (json_object_get(answer, "seconds"))
		printf(", %.2f s", json_number_value(json_object_get(answer, "seconds")));
	putchar('\n');
	warnings_print(answer);
}

/* Sends `data` and waits for the result. */
static int set_change(const struct cli *cli, const char *action, const char *name, const char *lasting,
	const char *data, size_t length)
{
	struct change change = {.cli = cli, .name = name};
	_cleanup_client_ struct weir_client *client = NULL;
	_cleanup_free_ char *query = query_make("name", name, "for", lasting, "skip_bad",
		cli->skip_bad ? "1" : NULL, "cut", cli->cut ? "1" : NULL, NULL);
	_cleanup_free_ char *body = NULL;
	_cleanup_json_ json_t *answer = NULL;
	struct error error;
	size_t body_length;
	char path[32];
	int r;

	if (!query) {
		error_set(&error, -ENOMEM, "no memory");
		return fail(&error);
	}
	snprintf(path, sizeof(path), "/v1/sets/%s", action);
	if (client_open(cli, &client, &error) < 0)
		return fail(&error);
	weir_client_set_body(client, data, length);
	r = ask_followed(client, path, query, "phase", progress_print, &change, &body, &body_length, &error);
	if (change.progress_shown)
		fputs("\r\033[K", stderr);
	if (r < 0 || answer_read(body, body_length, &answer, &error) < 0)
		return fail(&error);
	if (cli->json)
		document_print(body, body_length);
	else
		result_print(name, answer);
	return output_end(EXIT_OK);
}

/* `for TIME` at the end of the words: how many words are in front of it. */
static int lasting_take(const struct cli *cli, const char **ret_lasting)
{
	int count = cli->word_count;

	*ret_lasting = NULL;
	if (count < 3 || strcmp(cli->words[count - 2], "for") != 0)
		return count;
	*ret_lasting = cli->words[count - 1];
	return count - 2;
}

static int entry_ignore(void *context, const struct set_entry *entry)
{
	(void)context;
	(void)entry;
	return 0;
}

/* add, remove: entries are words. */
static int set_words(const struct cli *cli, const char *action)
{
	const char *lasting;
	int count = lasting_take(cli, &lasting), status;
	char *list = NULL;
	size_t length;
	FILE *out;
	struct error error;

	if (count < 3) {
		error_set(&error, -EINVAL, "which entries?");
		error_want(&error, "for example: weir set %s %s 203.0.113.0/24", action, cli->words[1]);
		return fail_usage(&error);
	}
	for (int i = 2; i < count; i++)
		if (set_entry_parse(cli->words[i], entry_ignore, NULL, &error) < 0)
			return fail_usage(&error);
	out = open_memstream(&list, &length);
	for (int i = 2; out && i < count; i++)
		fprintf(out, "%s\n", cli->words[i]);
	if (!out || fclose(out) != 0) {
		free(list);
		error_set(&error, -ENOMEM, "no memory");
		return fail(&error);
	}
	status = set_change(cli, action, cli->words[1], lasting, list, length);
	free(list);
	return status;
}

static int set_load(const struct cli *cli, const char *action)
{
	const char *lasting;
	int count = lasting_take(cli, &lasting);
	_cleanup_free_ char *list = NULL;
	struct error error;
	size_t length;

	if (count != 3) {
		error_set(&error, -EINVAL, "which file?");
		error_want(&error, "for example: weir set load %s /etc/weir/list.netset", cli->words[1]);
		return fail_usage(&error);
	}
	if (file_read(cli->words[2], LIST_BYTES_MAX, &list, &length, &error) < 0)
		return fail(&error);
	/* a mistake is shown with its line, and nothing is sent */
	if (!cli->skip_bad &&
		set_list_parse(list, length, cli->words[2], false, entry_ignore, NULL, NULL, &error) < 0)
		return fail(&error);
	return set_change(cli, action, cli->words[1], lasting, list, length);
}

static int set_whole(const struct cli *cli, const char *action)
{
	return set_change(cli, action, cli->words[1], NULL, NULL, 0);
}

static const struct action {
	const char *name;
	int (*run)(const struct cli *cli, const char *action);
	bool takes_more; /* than the set's name */
} actions[] = {
	{"add", set_words, true},
	{"remove", set_words, true},
	{"load", set_load, true},
	{"create", set_whole, false},
	{"flush", set_whole, false},
	{"destroy", set_whole, false},
};

#define ACTIONS (sizeof(actions) / sizeof(actions[0]))

static int fail_action(const char *word)
{
	const char *known[ACTIONS + 3] = {"list", "show"}, *near;
	struct error error;

	for (size_t i = 0; i < ACTIONS; i++)
		known[i + 2] = actions[i].name;
	near = text_nearest(word, known);
	error_set(&error, -EINVAL, "'weir set' does not know '%s'", word);
	if (near)
		error_want(&error, "did you mean '%s'?", near);
	else
		error_want(&error, "list, show, add, remove, load, create, flush or destroy");
	return fail_usage(&error);
}

static int fail_words(const char *action)
{
	struct error error;

	error_set(&error, -EINVAL, "'weir set %s' takes the name of one set", action);
	error_want(&error, "for example: weir set %s blocklist", action);
	return fail_usage(&error);
}

int cmd_set(const struct cli *cli)
{
	const char *word = cli->word_count ? cli->words[0] : "list";
	struct error error;

	if (strcmp(word, "list") == 0 && cli->word_count <= 1)
		return sets_list(cli);
	for (size_t i = 0; i < ACTIONS; i++) {
		if (strcmp(actions[i].name, word) != 0)
			continue;
		if (cli->word_count < 2 || (cli->word_count > 2 && !actions[i].takes_more))
			return fail_words(word);
		if (set_name_check(cli->words[1], &error) < 0)
			return fail_usage(&error);
		return actions[i].run(cli, word);
	}
	if (strcmp(word, "show") != 0)
		return fail_action(word);
	return cli->word_count == 2 ? set_show(cli, cli->words[1]) : fail_words(word);
}
