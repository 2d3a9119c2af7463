/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Asking the agent, with what goes wrong in a struct error whichever side it went wrong on.
 */
#ifndef WEIR_CLI_ASK_H
#define WEIR_CLI_ASK_H

#include <jansson.h>

#include "basic/cleanup.h"
#include "cli/cli.h"
#include "weir/weir.h"

static inline void cleanup_client(struct weir_client **client)
{
	weir_client_close(*client);
}

static inline void cleanup_json(json_t **json)
{
	json_decref(*json);
}

#define _cleanup_client_ _cleanup_(cleanup_client)
#define _cleanup_json_   _cleanup_(cleanup_json)

/* 0 or a negative errno with `error` set. */
int client_open(const struct cli *cli, struct weir_client **ret_client, struct error *error);

/* The body of a 200, with a NUL behind it.  0, -EREMOTEIO when the agent refused (`error` then holds its
 * words), or what weir_request() returns.  `ret_length` may be NULL. */
int ask_text(struct weir_client *client, const char *method, const char *path, const char *query,
	char **ret_body, size_t *ret_length, struct error *error);

/* The same, read as JSON. */
int ask_json(struct weir_client *client, const char *method, const char *path, const char *query,
	json_t **ret_answer, struct error *error);

/* What a command that only shows asks: with --json the answer is printed as it came and *ret_answer NULL,
 * else it is read.  0 or a negative errno as above. */
int ask_shown(const struct cli *cli, struct weir_client *client, const char *path, const char *query,
	json_t **ret_answer, struct error *error);

/* What a command that changes something asks, with what is in `data` (may be NULL): as ask_shown(). */
int ask_change(const struct cli *cli, const char *path, const char *query, const char *data,
	size_t data_length, json_t **ret_answer, struct error *error);

/* Each of an answer's `warnings`, on standard error. */
void warnings_print(const json_t *answer);
/* What becomes of a change that was made with --confirm. */
void confirm_print(const struct cli *cli);

/* That the answer's rules go back, if they do. */
void pending_print(const json_t *answer, const struct style *style);

/* A change, and what came of it: each entry of the answer's `key` behind `said`, or where `key` holds a
 * number that.  `query` may be NULL: no memory.  The exit status. */
int change_made(
	const struct cli *cli, const char *path, const char *query, const char *key, const char *said);
/* The same with `text` as the body of the request: what is too long for a query. */
int change_made_with(const struct cli *cli, const char *path, const char *query, const char *text,
	const char *key, const char *said);

/* Hands the parts of a 200 to `function` as they come (weir_stream()).  0 at the end of the answer, what the
 * function returned if it ended it, or a negative errno as above. */
int ask_stream(struct weir_client *client, const char *method, const char *path, const char *query,
	weir_part_function *function, void *user, struct error *error);

/* The same with an answer that tells how far it is: lines that have `key` go to `progress`, the last other
 * one is the answer; a refusal there is one, too.  To be freed. */
typedef void ask_progress_function(void *user, const json_t *line);
int ask_followed(struct weir_client *client, const char *path, const char *query, const char *key,
	ask_progress_function *progress, void *user, char **ret_body, size_t *ret_length,
	struct error *error);

/* JSON text to JSON. */
int answer_read(const char *body, size_t length, json_t **ret_answer, struct error *error);

/* Is the answer, or the last line of a feed, a refusal?  Then its words are in `error`. */
bool answer_refused(const json_t *answer, struct error *error);

/* Did it fail because nothing answers? */
bool error_is_no_agent(const struct error *error);

/* Prints an error on standard error and returns the exit status that goes with it. */
int fail(const struct error *error);
int fail_usage(const struct error *error);

/* Flushes standard output; a full disk or a broken pipe is not success. */
int output_end(int status);

/* Prints a document as it came, ending with a newline. */
void document_print(const char *body, size_t length);

#endif
