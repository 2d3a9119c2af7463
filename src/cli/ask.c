/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include "cli/ask.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "cli/lines.h"
#include "cli/view/answer.h"

int client_open(const struct cli *cli, struct weir_client **ret_client, struct error *error)
{
	int r = weir_client_open(cli->run_dir, ret_client);

	if (r == -ENAMETOOLONG) {
		error_set(error, r, "the path of the socket in '%s' is too long", cli->run_dir);
		return error_want(error, "a run directory of at most 97 bytes");
	}
	if (r < 0)
		return error_set(error, r, "no memory");
	return 0;
}

int answer_read(const char *body, size_t length, json_t **ret_answer, struct error *error)
{
	json_error_t problem;
	json_t *answer = json_loadb(body, length, 0, &problem);

	if (!answer)
		return error_set(error, -EPROTO, "the agent's answer is not JSON: %s", problem.text);
	*ret_answer = answer;
	return 0;
}

bool answer_refused(const json_t *answer, struct error *error)
{
	/* {"error":{"what":…,"want":…,"text":…,"column":…}}, see docs/api.md. */
	const json_t *refusal = json_object_get(answer, "error");

	if (!refusal)
		return false;
	error_set(error, -EREMOTEIO, "%s", json_get_text(refusal, "what"));
	error_want(error, "%s", json_get_text(refusal, "want"));
	if (!error)
		return true;
	snprintf(error->file, sizeof(error->file), "%s", json_get_text(refusal, "file"));
	snprintf(error->excerpt, sizeof(error->excerpt), "%s", json_get_text(refusal, "text"));
	error->line = (unsigned int)json_get_number(refusal, "line");
	error->column = error->caret = (unsigned int)json_get_number(refusal, "column");
	if (json_object_get(refusal, "caret"))
		error->caret = (unsigned int)json_get_number(refusal, "caret");
	return true;
}

static int refusal_read(int status, const char *body, size_t length, struct error *error)
{
	_cleanup_json_ json_t *answer = NULL;

	if (answer_read(body, length, &answer, NULL) < 0 || !answer_refused(answer, error))
		return error_set(error, -EREMOTEIO, "the agent answered with HTTP status %d", status);
	return -EREMOTEIO;
}

int ask_text(struct weir_client *client, const char *method, const char *path, const char *query,
	char **ret_body, size_t *ret_length, struct error *error)
{
	_cleanup_free_ char *body = NULL;
	size_t length;
	int status, r;

	r = weir_request(client, method, path, query, &status, &body, &length);
	if (r < 0) {
		error_set(error, r, "%s", weir_client_error(client));
		return error_want(error, "%s", weir_client_hint(client));
	}
	if (status != 200)
		return refusal_read(status, body, length, error);
	*ret_body = TAKE(body);
	if (ret_length)
		*ret_length = length;
	return 0;
}

int ask_stream(struct weir_client *client, const char *method, const char *path, const char *query,
	weir_part_function *function, void *user, struct error *error)
{
	_cleanup_free_ char *body = NULL;
	size_t length;
	int status, r;

	r = weir_stream(client, method, path, query, function, user, &status, &body, &length);
	if (r < 0) {
		error_set(error, r, "%s", weir_client_error(client));
		return error_want(error, "%s", weir_client_hint(client));
	}
	return r == 0 && status != 200 ? refusal_read(status, body, length, error) : r;
}

/* An answer as it comes: progress, then the result, each a line. */
struct followed {
	const char *key;
	ask_progress_function *progress;
	void *user;
	struct lines lines;
	char *result;
	size_t length;
};

static int followed_line(void *user, const char *text, size_t length)
{
	struct followed *followed = user;
	_cleanup_json_ json_t *line = length ? json_loadb(text, length, 0, NULL) : NULL;

	if (line && json_object_get(line, followed->key))
		followed->progress(followed->user, line);
	if (!line || json_object_get(line, followed->key))
		return 0;
	free(followed->result);
	followed->result = strndup(text, length);
	followed->length = length;
	return followed->result ? 0 : -ENOMEM;
}

static int followed_part(void *user, const char *data, size_t length)
{
	struct followed *followed = user;

	return data ? lines_feed(&followed->lines, data, length, followed_line, followed) : 0;
}

static int followed_check(const struct followed *followed, struct error *error)
{
	_cleanup_json_ json_t *answer = NULL;
	int r;

	if (!followed->result)
		return error_set(error, -EPROTO, "the agent's answer says nothing");
	r = answer_read(followed->result, followed->length, &answer, error);
	return r == 0 && answer_refused(answer, error) ? error->code : r;
}

int ask_followed(struct weir_client *client, const char *path, const char *query, const char *key,
	ask_progress_function *progress, void *user, char **ret_body, size_t *ret_length, struct error *error)
{
	struct followed followed = {.key = key, .progress = progress, .user = user};
	int r = ask_stream(client, "POST", path, query, followed_part, &followed, error);

	if (r == 0)
		r = lines_end(&followed.lines, followed_line, &followed);
	if (r == 0)
		r = followed_check(&followed, error);
	lines_free(&followed.lines);
	if (r < 0) {
		free(followed.result);
		return r;
	}
	*ret_body = followed.result;
	*ret_length = followed.length;
	return 0;
}

int ask_json(struct weir_client *client, const char *method, const char *path, const char *query,
	json_t **ret_answer, struct error *error)
{
	_cleanup_free_ char *body = NULL;
	size_t length = 0;
	int r;

	r = ask_text(client, method, path, query, &body, &length, error);
	if (r < 0)
		return r;
	return answer_read(body, length, ret_answer, error);
}

/* For --json the answer is printed as it came: then there is none to be shown. */
static int answer_take(
	const struct cli *cli, const char *body, size_t length, json_t **ret_answer, struct error *error)
{
	if (!cli->json)
		return answer_read(body, length, ret_answer, error);
	document_print(body, length);
	*ret_answer = NULL;
	return 0;
}

int ask_shown(const struct cli *cli, struct weir_client *client, const char *path, const char *query,
	json_t **ret_answer, struct error *error)
{
	_cleanup_free_ char *body = NULL;
	size_t length = 0;
	int r;

	r = ask_text(client, "GET", path, query, &body, &length, error);
	if (r < 0)
		return r;
	return answer_take(cli, body, length, ret_answer, error);
}

int ask_change(const struct cli *cli, const char *path, const char *query, const char *data,
	size_t data_length, json_t **ret_answer, struct error *error)
{
	_cleanup_client_ struct weir_client *client = NULL;
	_cleanup_free_ char *body = NULL;
	size_t length = 0;
	int r = client_open(cli, &client, error);

	if (r < 0)
		return r;
	weir_client_set_body(client, data, data_length);
	r = ask_text(client, "POST", path, query, &body, &length, error);
	if (r < 0)
		return r;
	return answer_take(cli, body, length, ret_answer, error);
}

void warnings_print(const json_t *answer)
{
	const json_t *warning;
	size_t i;

	json_array_foreach (json_object_get(answer, "warnings"), i, warning)
		fprintf(stderr, "weir: warning: %s\n", json_string_value(warning));
}

void confirm_print(const struct cli *cli)
{
	size_t length = cli->confirm ? strlen(cli->confirm) : 0;

	/* a number alone is seconds */
	if (length)
		printf("goes back in %s%s, unless 'weir confirm' comes\n", cli->confirm,
			cli->confirm[length - 1] >= '0' && cli->confirm[length - 1] <= '9' ? "s" : "");
}

void pending_print(const json_t *answer, const struct style *style)
{
	const json_t *pending = json_object_get(answer, "pending");

	if (pending)
		printf("%sgoes back in %.0f s, unless 'weir confirm' comes%s\n", style->bad,
			json_number_value(json_object_get(pending, "seconds")), style->reset);
}

int change_made(const struct cli *cli, const char *path, const char *query, const char *key, const char *said)
{
	return change_made_with(cli, path, query, NULL, key, said);
}

int change_made_with(const struct cli *cli, const char *path, const char *query, const char *text,
	const char *key, const char *said)
{
	_cleanup_json_ json_t *answer = NULL;
	const json_t *list, *entry;
	struct error error;
	size_t i;

	if (!query) {
		error_set(&error, -ENOMEM, "no memory");
		return fail(&error);
	}
	if (ask_change(cli, path, query, text, text ? strlen(text) : 0, &answer, &error) < 0)
		return fail(&error);
	if (!answer)
		return output_end(EXIT_OK);
	list = json_object_get(answer, key);
	if (json_is_integer(list))
		printf("%s: %" JSON_INTEGER_FORMAT "\n", said, json_integer_value(list));
	json_array_foreach (list, i, entry)
		printf("%s %" PRIu64 ": %s\n", said, json_get_number(entry, "id"),
			json_get_text(entry, "text"));
	confirm_print(cli);
	warnings_print(answer);
	return output_end(EXIT_OK);
}

bool error_is_no_agent(const struct error *error)
{
	return error->code == -ENOENT || error->code == -ECONNREFUSED;
}

int fail(const struct error *error)
{
	error_print(error, "weir: ", stderr);
	return error_is_no_agent(error) ? EXIT_NO_AGENT : EXIT_FAILED;
}

int fail_usage(const struct error *error)
{
	error_print(error, "weir: ", stderr);
	return EXIT_USAGE;
}

int output_end(int status)
{
	struct error error;

	if (fflush(stdout) == 0 && !ferror(stdout))
		return status;
	error_set(&error, -EIO, "writing to standard output: %s", strerror(errno));
	return status == EXIT_OK ? fail(&error) : status;
}

void document_print(const char *body, size_t length)
{
	fwrite(body, 1, length, stdout);
	if (!length || body[length - 1] != '\n')
		putchar('\n');
}
