/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* weir policy, apply, confirm, rollback, diff, save: all rules at once. */
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/ask.h"
#include "cli/cli.h"
#include "cli/file.h"
#include "cli/filter.h"
#include "cli/view/answer.h"
#include "cli/view/style.h"
#include "model/policy.h"

int cmd_policy(const struct cli *cli)
{
	_cleanup_client_ struct weir_client *client = NULL;
	_cleanup_free_ char *body = NULL;
	struct error error;
	size_t length;

	if (client_open(cli, &client, &error) < 0 ||
		ask_text(client, "GET", "/v1/policy", NULL, &body, &length, &error) < 0)
		return fail(&error);
	fwrite(body, 1, length, stdout);
	return output_end(EXIT_OK);
}

/* The text of a policy, and the name that relative names in it are beside. */
struct document {
	char *text;
	size_t length;
	char *name;
};

static void document_clear(struct document *document)
{
	free(document->text);
	free(document->name);
}

/* Reads it, and looks whether it is one, so that a mistake is shown before anybody is asked.  An exit status.
 */
static int document_read(const char *file, struct document *document)
{
	const char *name = strcmp(file, "-") == 0 ? "standard input" : file;
	struct policy_text policy;
	struct error error;

	if (file_read(file, POLICY_FILE_BYTES_MAX, &document->text, &document->length, &error) < 0)
		return fail(&error);
	if (policy_text_read(document->text, document->length, name, &policy, &error) < 0)
		return fail(&error);
	policy_text_clear(&policy);
	document->name = name == file ? realpath(file, NULL) : strdup(name);
	if (!document->name) /* a pipe */
		document->name = strdup(name);
	if (!document->name) {
		error_set(&error, -ENOMEM, "no memory");
		return fail(&error);
	}
	return EXIT_OK;
}

static void applied_print(const struct cli *cli, const json_t *answer)
{
	uint64_t changed = json_get_number(answer, "changed");
	char changes[40] = "";

	if (changed)
		snprintf(changes, sizeof(changes), ", %" PRIu64 " changed", changed);
	printf("%s: %" PRIu64 " rule%s (%" PRIu64 " new, %" PRIu64 " gone%s, %" PRIu64 " as before), %" PRIu64
	       " packets checked, %.3f s\n",
		json_is_true(json_object_get(answer, "applied")) ? "applied" : "can be applied",
		json_get_number(answer, "rules"), json_get_number(answer, "rules") == 1 ? "" : "s",
		json_get_number(answer, "added"), json_get_number(answer, "removed"), changes,
		json_get_number(answer, "kept"), json_get_number(answer, "checked"),
		json_number_value(json_object_get(answer, "seconds")));
	if (!cli->check)
		confirm_print(cli);
	warnings_print(answer);
}

/* What takes longer than a second says how far it is. */
static void progress_print(void *user, const json_t *line)
{
	const json_t *applying = json_object_get(line, "applying");
	double seconds = json_number_value(json_object_get(applying, "seconds"));
	const struct cli *cli = user;
	char checked[32];

	if (seconds >= 1 && isatty(STDERR_FILENO))
		fprintf(stderr, "\r\033[K%" PRIu64 " rules: %s packets checked, %.0f s",
			json_get_number(applying, "rules"),
			count_format(
				checked, sizeof(checked), json_get_number(applying, "checked"), cli->units),
			seconds);
}

int cmd_apply(const struct cli *cli)
{
	_cleanup_(document_clear) struct document document = {};
	_cleanup_client_ struct weir_client *client = NULL;
	_cleanup_free_ char *query = NULL, *body = NULL;
	_cleanup_json_ json_t *answer = NULL;
	struct error error;
	size_t length;
	int status = document_read(cli->words[0], &document), r;

	if (status != EXIT_OK)
		return status;
	query = query_make("name", document.name, "confirm", cli->confirm, "cut", cli->cut ? "1" : NULL,
		"check", cli->check ? "1" : NULL, "progress", "1", NULL);
	if (!query) {
		error_set(&error, -ENOMEM, "no memory");
		return fail(&error);
	}
	if (client_open(cli, &client, &error) < 0)
		return fail(&error);
	weir_client_set_body(client, document.text, document.length);
	r = ask_followed(
		client, "/v1/policy", query, "applying", progress_print, (void *)cli, &body, &length, &error);
	if (isatty(STDERR_FILENO))
		fputs("\r\033[K", stderr);
	if (r < 0 || answer_read(body, length, &answer, &error) < 0)
		return fail(&error);
	if (cli->json)
		document_print(body, length);
	else
		applied_print(cli, answer);
	return output_end(EXIT_OK);
}

static void diff_print(const struct cli *cli, const json_t *answer)
{
	const struct style *style = style_choose(cli->color);
	const json_t *entry;
	size_t i;

	json_array_foreach (json_object_get(answer, "diff"), i, entry) {
		const char *sign = json_get_text(entry, "sign"), *tenant = json_get_text(entry, "tenant");

		printf("%s%s %s%s%s%s\n",
			*sign == '-'   ? style->bad
			: *sign == '+' ? style->good
				       : "",
			sign, tenant, *tenant ? ": " : "", json_get_text(entry, "text"), style->reset);
	}
	if (!i)
		puts("no difference");
}

int cmd_diff(const struct cli *cli)
{
	_cleanup_(document_clear) struct document document = {};
	_cleanup_free_ char *query = NULL;
	_cleanup_json_ json_t *answer = NULL;
	struct error error;
	int status = document_read(cli->words[0], &document);

	if (status != EXIT_OK)
		return status;
	query = query_make("name", document.name, NULL);
	if (!query) {
		error_set(&error, -ENOMEM, "no memory");
		return fail(&error);
	}
	if (ask_change(cli, "/v1/policy/diff", query, document.text, document.length, &answer, &error) < 0)
		return fail(&error);
	if (answer)
		diff_print(cli, answer);
	return output_end(EXIT_OK);
}

int cmd_confirm(const struct cli *cli)
{
	_cleanup_json_ json_t *answer = NULL;
	struct error error;

	if (ask_change(cli, "/v1/policy/confirm", NULL, NULL, 0, &answer, &error) < 0)
		return fail(&error);
	if (answer)
		puts("confirmed");
	return output_end(EXIT_OK);
}

int cmd_rollback(const struct cli *cli)
{
	_cleanup_json_ json_t *answer = NULL;
	struct error error;

	if (ask_change(cli, "/v1/policy/rollback", NULL, NULL, 0, &answer, &error) < 0)
		return fail(&error);
	if (answer)
		printf("back to the policy before: %" PRIu64 " rule%s\n", json_get_number(answer, "rules"),
			json_get_number(answer, "rules") == 1 ? "" : "s");
	return output_end(EXIT_OK);
}

int cmd_save(const struct cli *cli)
{
	_cleanup_json_ json_t *answer = NULL;
	struct error error;
	uint64_t left_out;

	if (ask_change(cli, "/v1/policy/save", NULL, NULL, 0, &answer, &error) < 0)
		return fail(&error);
	if (!answer)
		return output_end(EXIT_OK);
	left_out = json_get_number(answer, "left_out");
	printf("saved %" PRIu64 " rule%s in %s\n", json_get_number(answer, "rules"),
		json_get_number(answer, "rules") == 1 ? "" : "s", json_get_text(answer, "saved"));
	if (left_out)
		printf("%" PRIu64 " left out: they end by themselves\n", left_out);
	return output_end(EXIT_OK);
}
