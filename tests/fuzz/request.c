// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * Bytes from a client: first as the query part of a URI, then as a raw HTTP request to a server like the
 * agent's, over a real socket.
 */
#include <event2/buffer.h>
#include <event2/event.h>
#include <event2/http.h>
#include <event2/listener.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "agent/api/query.h"
#include "fuzz/fuzz.h"

static struct event_base *base;
static struct sockaddr_un address = {.sun_family = AF_UNIX};

/* What is accepted is sane; what is refused says why. */
static void check_query(enum query_list list, const char *text)
{
	struct query query = {.sort = (enum query_sort) - 1};
	struct error error = {};
	int r = query_parse(list, text, &query, &error);

	if (r == 0 ? query.sort > SORT_PORT : !*error.what || query.sort != (enum query_sort) - 1)
		abort();
}

static void on_request(struct evhttp_request *request, void *context)
{
	struct evbuffer *body = evbuffer_new();

	(void)context;
	if (evhttp_request_get_evhttp_uri(request))
		check_query(QUERY_FLOWS, evhttp_uri_get_query(evhttp_request_get_evhttp_uri(request)));
	evhttp_send_reply(request, HTTP_OK, "OK", body);
	evbuffer_free(body);
}

static void quiet(int severity, const char *message)
{
	(void)severity;
	(void)message;
}

static void serve(void)
{
	struct evhttp *http;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	event_set_log_callback(quiet);
	base = event_base_new();
	http = evhttp_new(base);
	evhttp_set_max_headers_size(http, 8192);
	evhttp_set_max_body_size(http, 65536);
	evhttp_set_gencb(http, on_request, NULL);
	/* an abstract name: no file, and none that another fuzzer has */
	snprintf(address.sun_path + 1, sizeof(address.sun_path) - 1, "weir-fuzz-%d", getpid());
	if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
		!evhttp_bind_listener(
			http, evconnlistener_new(base, NULL, NULL, LEV_OPT_CLOSE_ON_FREE, 16, fd)))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size)
{
	char *text = malloc(size + 1);
	int client;

	if (!text)
		return 0;
	memcpy(text, input, size);
	text[size] = '\0';
	check_query(QUERY_FLOWS, text);
	check_query(QUERY_HOSTS, text);
	check_query(QUERY_PORTS, text);
	check_query(QUERY_DROPS, text);
	free(text);

	if (!base)
		serve();
	client = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (client < 0 || connect(client, (struct sockaddr *)&address, sizeof(address)) < 0)
		abort();
	if (send(client, input, size, MSG_NOSIGNAL) >= 0)
		shutdown(client, SHUT_WR);
	for (int turns = 0; turns < 4; turns++)
		event_base_loop(base, EVLOOP_NONBLOCK);
	close(client);
	for (int turns = 0; turns < 4; turns++)
		event_base_loop(base, EVLOOP_NONBLOCK);
	return 0;
}
