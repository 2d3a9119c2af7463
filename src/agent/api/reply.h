/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Answering requests: what every file that serves a path of the API uses.
 *
 * Each module of the agent (module.h) has a table of the paths it serves.
 */
#ifndef WEIR_AGENT_REPLY_H
#define WEIR_AGENT_REPLY_H

#include <event2/http.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "basic/error.h"
#include "basic/json_write.h"

struct agent;

struct route {
	const char *path;            /* NULL ends a table */
	enum evhttp_cmd_type method; /* GET only shows; POST changes, and is for those who may */
	void (*reply)(struct agent *agent, struct evhttp_request *request);
	size_t body_max; /* bytes; 0: as much as most need (docs/api.md).  More is 413, before it is read */
};

#define LIST_BODY_MAX (64 << 20) /* for what takes lists and policies: some million addresses */

/* Each ends the request. */
void reply_json(struct evhttp_request *request, int status, const char *reason, struct json_write *json);
void reply_error(struct evhttp_request *request, int status, const char *reason, const struct error *error);
void reply_bad_request(struct evhttp_request *request, const struct error *error); /* 400 */
void reply_failure(struct evhttp_request *request, int r);         /* 500 of a negative errno */
void reply_done(struct evhttp_request *request, const char *what); /* {"what":true} */

/* Writes the next part of a document; false: that was the last. */
typedef bool reply_part_function(void *context, struct json_write *out);
/* Answers with a long document, part by part: the loop has other things to do in between.  `context` is
 * handed to `release` in the end, however that comes; the agent's modules may be closed by then. */
void reply_parts(struct evhttp_request *request, reply_part_function *function,
	void (*release)(void *context), void *context);

/* A client that has nothing to read for long is not gone; or is, as usual. */
void reply_may_wait(struct evhttp_request *request, bool may);

/* What stands behind the '?', percent-encoded; NULL where there is none. */
const char *query_of(struct evhttp_request *request);
/* The decoded value of one parameter of a query; to be freed; NULL: not there. */
char *query_value(const char *query, const char *wanted);
/* Are all of the query's parameters among these (NULL-terminated), each at most once? 0 or -EINVAL naming the
 * one that is not, and the nearest. */
int query_check(const char *query, const char *const *names, struct error *error);

/* A parameter that is 0 or 1; *ret_flag stays where it is not there.  0 or -EINVAL. */
int query_flag(const char *query, const char *name, bool *ret_flag, struct error *error);

/* Who asks: user id of the process at the other end; -1: not known. */
uid_t request_uid(struct evhttp_request *request);
pid_t request_pid(struct evhttp_request *request);

/*
 * A feed: what happens, told to everybody who follows, a line of JSON an event.
 *
 * Whoever reads too slowly loses lines, not the others; the number lost is told in a line {"lost":n} as soon
 * as there is room again.  An empty line every few seconds says that the feed lives.
 */
struct feed;

/* NULL without memory. */
struct feed *feed_new(struct agent *agent);
void feed_free(struct feed *feed); /* ends every follower's answer; NULL is allowed */
bool feed_has_followers(const struct feed *feed);
/* Calls the function when the last follower has gone; it may free the feed. */
typedef void feed_empty_function(void *context);
void feed_when_empty(struct feed *feed, feed_empty_function *function, void *context);

/* Is this event one the follower asked for?  `context` is the follower's, `event` what was published. */
typedef bool feed_filter_function(const void *context, const void *event);
/* Answers a request with the feed, until its client goes away.  `filter` NULL: everything; `context` is freed
 * with free() in the end. */
void feed_follow(
	struct feed *feed, struct evhttp_request *request, feed_filter_function *filter, void *context);
/* Tells an event, written as one JSON object without a newline.  `event` is what filters look at. */
void feed_publish(struct feed *feed, const void *event, const struct json_write *json);

#endif
