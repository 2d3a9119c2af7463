// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* Answers that do not end: a line an event (reply.h). */
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <stdlib.h>

#include "agent/internal.h"

#define BACKLOG_MAX (4U << 20) /* bytes that wait for a follower before lines are lost */

struct follower {
	struct feed *feed;
	struct follower *next;
	struct evhttp_request *request;
	feed_filter_function *filter;
	void *context;
	struct event *gone;
	uint64_t lost;
};

struct feed {
	struct follower *followers;
	struct event *pulse;
	feed_empty_function *empty;
	void *empty_context;
};

static void unlink_follower(struct follower *follower)
{
	struct follower **place = &follower->feed->followers;

	while (*place != follower)
		place = &(*place)->next;
	*place = follower->next;
}

static void follower_free(struct follower *follower)
{
	if (follower->gone)
		event_free(follower->gone);
	free(follower->context);
	free(follower);
}

/* As with a list whose reader goes away (api.c): a request that libevent has parted from its connection is
 * ours to end. */
static void follower_closed(struct evhttp_connection *connection, void *context)
{
	struct follower *follower = context;
	struct evhttp_request *request = follower->request;
	struct feed *feed = follower->feed;

	(void)connection;
	unlink_follower(follower);
	follower_free(follower);
	if (!evhttp_request_get_connection(request))
		evhttp_send_reply_end(request);
	if (!feed->followers && feed->empty)
		feed->empty(feed->empty_context);
}

/* libevent does not listen while it answers: it would notice only when it writes. */
static void on_gone(evutil_socket_t fd, short what, void *context)
{
	struct follower *follower = context;

	(void)fd;
	(void)what;
	evhttp_connection_free(evhttp_request_get_connection(follower->request)); /* follower_closed() */
}

static void send_text(struct follower *follower, const char *text, size_t length)
{
	struct evbuffer *piece = evbuffer_new();

	if (piece && evbuffer_add(piece, text, length) == 0)
		evhttp_send_reply_chunk(follower->request, piece);
	if (piece)
		evbuffer_free(piece);
}

static size_t backlog_of(const struct follower *follower)
{
	struct evhttp_connection *connection = evhttp_request_get_connection(follower->request);

	if (!connection)
		return BACKLOG_MAX;
	return evbuffer_get_length(bufferevent_get_output(evhttp_connection_get_bufferevent(connection)));
}

static void on_pulse(evutil_socket_t fd, short what, void *context)
{
	struct feed *feed = context;

	(void)fd;
	(void)what;
	for (struct follower *follower = feed->followers; follower; follower = follower->next)
		if (backlog_of(follower) == 0)
			send_text(follower, "\n", 1);
}

struct feed *feed_new(struct agent *agent)
{
	static const struct timeval pulse = {5, 0};
	struct feed *feed = calloc(1, sizeof(*feed));

	if (!feed)
		return NULL;
	feed->pulse = event_new(agent->base, -1, EV_PERSIST, on_pulse, feed);
	if (!feed->pulse || event_add(feed->pulse, &pulse) < 0) {
		feed_free(feed);
		return NULL;
	}
	return feed;
}

void feed_free(struct feed *feed)
{
	if (!feed)
		return;
	while (feed->followers) {
		struct follower *follower = feed->followers;
		struct evhttp_request *request = follower->request;
		struct evhttp_connection *connection = evhttp_request_get_connection(request);

		if (connection)
			evhttp_connection_set_closecb(connection, NULL, NULL);
		feed->followers = follower->next;
		follower_free(follower);
		evhttp_send_reply_end(request);
	}
	if (feed->pulse)
		event_free(feed->pulse);
	free(feed);
}

void feed_when_empty(struct feed *feed, feed_empty_function *function, void *context)
{
	feed->empty = function;
	feed->empty_context = context;
}

bool feed_has_followers(const struct feed *feed)
{
	return feed->followers;
}

void feed_follow(
	struct feed *feed, struct evhttp_request *request, feed_filter_function *filter, void *context)
{
	struct evhttp_connection *connection = evhttp_request_get_connection(request);
	struct follower *follower = calloc(1, sizeof(*follower));

	if (!follower) {
		free(context);
		reply_failure(request, -ENOMEM);
		return;
	}
	*follower = (struct follower){.feed = feed,
		.next = feed->followers,
		.request = request,
		.filter = filter,
		.context = context};
	feed->followers = follower;
	follower->gone = event_new(evhttp_connection_get_base(connection),
		bufferevent_getfd(evhttp_connection_get_bufferevent(connection)), EV_CLOSED, on_gone,
		follower);
	if (follower->gone)
		event_add(follower->gone, NULL);
	evhttp_add_header(evhttp_request_get_output_headers(request), "Content-Type", "application/x-ndjson");
	evhttp_connection_set_closecb(connection, follower_closed, follower);
	evhttp_send_reply_start(request, HTTP_OK, "OK");
	send_text(follower, "\n", 1); /* the headers leave now, so that the client knows that it listens */
}

void feed_publish(struct feed *feed, const void *event, const struct json_write *json)
{
	for (struct follower *follower = feed->followers, *next; follower; follower = next) {
		struct evbuffer *line;

		next = follower->next;
		if (follower->filter && !follower->filter(follower->context, event))
			continue;
		if (json->error || backlog_of(follower) >= BACKLOG_MAX || !(line = evbuffer_new())) {
			follower->lost++;
			continue;
		}
		if (follower->lost) {
			evbuffer_add_printf(line, "{\"lost\":%" PRIu64 "}\n", follower->lost);
			follower->lost = 0;
		}
		evbuffer_add(line, json->text, json->length);
		evbuffer_add(line, "\n", 1);
		evhttp_send_reply_chunk(follower->request, line);
		evbuffer_free(line);
	}
}
