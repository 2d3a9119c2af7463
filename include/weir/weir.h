/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * libweir: speaks to a weir agent of this host.
 *
 *     struct weir_client *client;
 *     char *body;
 *     int status, r;
 *
 *     if (weir_client_open(NULL, &client) < 0)
 *             return 1;
 *     r = weir_request(client, "GET", "/v1/hosts", "sort=rate&limit=10", &status, &body, NULL);
 *     if (r < 0)
 *             fprintf(stderr, "%s\n", weir_client_error(client));
 *     else
 *             puts(body);             // JSON, as docs/api.md describes it
 *     free(body);
 *     weir_client_close(client);
 *
 * Functions return 0 or a negative errno and leave their results untouched on failure; weir_request() alone
 * sets *ret_body to NULL then, so that free() is right in every case.  A client belongs to one thread at a
 * time; different clients do not disturb each other.  No function prints, and none changes signal handlers.
 *
 * What is declared here stays as it is from version 0.1 on; later versions only add.
 */
#ifndef WEIR_WEIR_H
#define WEIR_WEIR_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

#define WEIR_RUN_DIR_DEFAULT "/run/weir"
#define WEIR_SOCKET_NAME     "weir.sock" /* the agent's socket in its run directory */

struct weir_client;

/* The version of the library: "0.1.0". */
const char *weir_version(void);

/*
 * Makes a client of the agent whose run directory this is; NULL: $WEIR_RUN_DIR, or WEIR_RUN_DIR_DEFAULT where
 * that is unset or empty.  Does not speak to the agent yet, so a client may be made before its agent and
 * outlives it.
 *
 *     -ENAMETOOLONG  the path of the socket would be longer than the 107 bytes that Linux allows
 *     -ENOMEM
 */
int weir_client_open(const char *run_dir, struct weir_client **ret_client);

/* Ends a client.  NULL is allowed. */
void weir_client_close(struct weir_client *client);

/* The path of the agent's socket.  Belongs to the client. */
const char *weir_client_socket(const struct weir_client *client);

/*
 * How long to wait when the agent says nothing at all: for an answer to begin, and between its parts.  An
 * answer that keeps coming may take as long as it likes.  The default is 30 seconds; 0 waits for ever.
 */
void weir_client_set_timeout(struct weir_client *client, unsigned int seconds);

/*
 * Asks the agent and waits for its whole answer.
 *
 * `method` is "GET" or "POST", `path` begins with a slash, `query` is what stands behind the question mark,
 * already percent-encoded (weir_escape()), or NULL.
 *
 * 0 means that the agent answered, whatever it said: *ret_status is the HTTP status (200, or 4xx and 5xx with
 * a JSON body that describes the error), *ret_body the body with a NUL behind it, to be freed with free(),
 * *ret_length its length without the NUL.  ret_length may be NULL.
 *
 *     -ENOENT        no agent: there is no socket
 *     -ECONNREFUSED  no agent: the socket is stale, the agent that made it has ended
 *     -EACCES        the socket may not be opened by this user
 *     -ECONNRESET    the agent went away before its answer was complete
 *     -ETIMEDOUT     the agent said nothing for the time of weir_client_set_timeout()
 *     -EPROTO        what answered does not speak HTTP
 *     -EINVAL        method, path or query cannot be part of a request
 *     -ENOMEM
 *
 * Others are possible.  weir_client_error() and weir_client_hint() say it in words.
 */
int weir_request(struct weir_client *client, const char *method, const char *path, const char *query,
	int *ret_status, char **ret_body, size_t *ret_length);

/*
 * The same for an answer that is to be used while it comes, such as one that does not end (a `follow` of
 * docs/api.md).
 *
 * `function` is called with each part, and several times a second with `data` NULL; a value other than 0 ends
 * the request, and is what weir_stream() returns then (make it positive, to tell it from errors).  An answer
 * with another status than 200 is not streamed: it is in *ret_body as with weir_request(), and *ret_body is
 * an empty text otherwise.
 */
typedef int weir_part_function(void *user, const char *data, size_t length);
int weir_stream(struct weir_client *client, const char *method, const char *path, const char *query,
	weir_part_function *function, void *user, int *ret_status, char **ret_body, size_t *ret_length);

/*
 * The body of the next request that is made, if that is a POST; without this it is empty.  `data` stays the
 * caller's, and has to be there until the request has ended.
 */
void weir_client_set_body(struct weir_client *client, const void *data, size_t length);

/* Why the last weir_request() failed, without a full stop or a newline: "no agent answers on
 * /run/weir/weir.sock: Connection refused".  Empty after a request that was answered.  Belongs to the client,
 * until its next request. */
const char *weir_client_error(const struct weir_client *client);

/* What to do about it: "start one with 'weir run'".  Empty where nothing is known to help. */
const char *weir_client_hint(const struct weir_client *client);

/* `text` percent-encoded, for a value of a query; to be freed with free().  NULL without memory. */
char *weir_escape(const char *text);

#ifdef __cplusplus
}
#endif

#endif
