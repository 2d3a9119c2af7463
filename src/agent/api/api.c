// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* HTTP on the Unix socket, and the metrics page on a TCP address (docs/api.md). */
#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/listener.h>
#include <grp.h>
#include <netinet/in.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "agent/internal.h"
#include "agent/owner/audit.h"
#include "basic/cleanup.h"
#include "basic/log.h"
#include "basic/text.h"

#define HEADERS_MAX      8192
#define BODY_MAX         65536 /* where the route does not say otherwise */
#define CLIENT_TIMEOUT_S 30    /* a client that neither reads nor writes for so long is gone */
#define FLOWS_AT_ONCE    256   /* of a long answer: the loop has other things to do in between */

/* -- replies -- */

static void reply_text(struct evhttp_request *request, int status, const char *reason, const char *type,
	struct evbuffer *body)
{
	evhttp_add_header(evhttp_request_get_output_headers(request), "Content-Type", type);
	/* an answer that took long to find is not late: its time to be sent begins now */
	event_base_update_cache_time(evhttp_connection_get_base(evhttp_request_get_connection(request)));
	evhttp_send_reply(request, status, reason, body);
}

void reply_json(struct evhttp_request *request, int status, const char *reason, struct json_write *json)
{
	struct evbuffer *body = evbuffer_new();

	json_write_newline(json);
	if (!body || json->error || evbuffer_add(body, json->text, json->length) < 0)
		evhttp_send_error(request, HTTP_INTERNAL, NULL);
	else
		reply_text(request, status, reason, "application/json", body);
	if (body)
		evbuffer_free(body);
}

void reply_error(struct evhttp_request *request, int status, const char *reason, const struct error *error)
{
	struct json_write json = {};

	answer_error(error, &json);
	reply_json(request, status, reason, &json);
	json_write_free(&json);
}

void reply_bad_request(struct evhttp_request *request, const struct error *error)
{
	reply_error(request, HTTP_BADREQUEST, "Bad Request", error);
}

void reply_failure(struct evhttp_request *request, int r)
{
	struct error error = {};

	error_set(&error, r, "%s", r == -ENOMEM ? "out of memory" : strerror(-r));
	reply_error(request, HTTP_INTERNAL, "Internal Server Error", &error);
}

/* A request that libevent could not read has no URI. */
static const char *path_of(struct evhttp_request *request)
{
	const struct evhttp_uri *uri = evhttp_request_get_evhttp_uri(request);

	return uri ? evhttp_uri_get_path(uri) : NULL;
}

const char *query_of(struct evhttp_request *request)
{
	return evhttp_uri_get_query(evhttp_request_get_evhttp_uri(request));
}

/* -- parameters -- */

/* Undoes percent-encoding; to be freed; NULL without memory. */
static char *decode(const char *text, size_t length)
{
	char *encoded = strndup(text, length);
	char *decoded = encoded ? evhttp_uridecode(encoded, 1, NULL) : NULL;

	free(encoded);
	return decoded;
}

/* The next "name=value" of a query; decoded, to be freed by the caller.  False at the end. */
static bool next_parameter(const char **query, char **ret_name, char **ret_value)
{
	size_t length, name;

	while (*query && **query == '&')
		(*query)++;
	if (!*query || !**query)
		return false;
	length = strcspn(*query, "&");
	name = strcspn(*query, "=&");
	*ret_name = decode(*query, name);
	*ret_value = decode(*query + name + (name < length), length - name - (name < length));
	*query += length;
	return true;
}

char *query_value(const char *query, const char *wanted)
{
	char *name, *value;

	while (next_parameter(&query, &name, &value)) {
		bool found = name && strcmp(name, wanted) == 0;

		free(name);
		if (found)
			return value;
		free(value);
	}
	return NULL;
}

int query_check(const char *query, const char *const *names, struct error *error)
{
	char *name_taken, *value_taken;
	unsigned int seen = 0;

	while (next_parameter(&query, &name_taken, &value_taken)) {
		_cleanup_free_ char *name = name_taken, *value = value_taken;
		unsigned int i = 0;
		const char *near;

		if (!name || !value)
			return error_set(error, -ENOMEM, "out of memory");
		while (names[i] && strcmp(names[i], name) != 0)
			i++;
		if (!names[i]) {
			near = text_nearest(name, names);
			error_set(error, -EINVAL, "unknown parameter '%s'", name);
			return near ? error_want(error, "did you mean '%s'?", near) : error->code;
		}
		if (seen & 1U << i)
			return error_set(error, -EINVAL, "parameter '%s' is given twice", name);
		seen |= 1U << i;
	}
	return 0;
}

int query_flag(const char *query, const char *name, bool *ret_flag, struct error *error)
{
	_cleanup_free_ char *text = query_value(query, name);

	if (!text)
		return 0;
	if (strcmp(text, "0") != 0 && strcmp(text, "1") != 0) {
		error_set(error, -EINVAL, "parameter '%s': expected 0 or 1, got '%s'", name, text);
		return -EINVAL;
	}
	*ret_flag = *text == '1';
	return 0;
}

/* -- long answers, in parts -- */

struct reply_stream {
	struct evhttp_request *request;
	reply_part_function *function;
	void (*release)(void *context);
	void *context;
	struct json_write json;
	bool ended;
};

static void stream_free(struct reply_stream *stream)
{
	stream->release(stream->context);
	json_write_free(&stream->json);
	free(stream);
}

/* The client went away in the middle.  Where libevent has parted the request from its connection, as it does
 * when the other side closes, nobody but us knows the request any more: ending it frees it. */
static void stream_closed(struct evhttp_connection *connection, void *context)
{
	struct reply_stream *stream = context;
	struct evhttp_request *request = stream->request;

	(void)connection;
	stream_free(stream);
	if (!evhttp_request_get_connection(request))
		evhttp_send_reply_end(request);
}

static void stream_on(struct evhttp_connection *connection, void *context)
{
	struct reply_stream *stream = context;
	struct evbuffer *piece;

	if (stream->ended) {
		struct evhttp_request *request = stream->request;

		evhttp_connection_set_closecb(connection, NULL, NULL);
		stream_free(stream);
		evhttp_send_reply_end(request);
		return;
	}
	/* a part may be empty, but nobody would be told that an empty piece was sent */
	while (!stream->ended && !stream->json.length)
		stream->ended = !stream->function(stream->context, &stream->json) || stream->json.error;
	piece = evbuffer_new();
	if (!piece || stream->json.error || evbuffer_add(piece, stream->json.text, stream->json.length) < 0) {
		/* too late for a status: the missing end of the document tells */
		stream->ended = true;
		stream->json.length = 0;
	}
	json_write_clear(&stream->json);
	if (piece && evbuffer_get_length(piece))
		evhttp_send_reply_chunk_with_cb(stream->request, piece, stream_on, stream);
	else
		stream_on(connection, stream);
	if (piece)
		evbuffer_free(piece);
}

void reply_parts(struct evhttp_request *request, reply_part_function *function,
	void (*release)(void *context), void *context)
{
	struct reply_stream *stream = calloc(1, sizeof(*stream));

	if (!stream) {
		release(context);
		reply_failure(request, -ENOMEM);
		return;
	}
	*stream = (struct reply_stream){
		.request = request, .function = function, .release = release, .context = context};
	evhttp_add_header(evhttp_request_get_output_headers(request), "Content-Type", "application/json");
	evhttp_send_reply_start(request, HTTP_OK, "OK");
	evhttp_connection_set_closecb(evhttp_request_get_connection(request), stream_closed, stream);
	stream_on(evhttp_request_get_connection(request), stream);
}

/* -- flows -- */

struct flow_list {
	struct agent *agent;
	uint32_t *flows;
	size_t count, next;
	bool begun;
};

static void flow_list_free(void *context)
{
	struct flow_list *list = context;

	free(list->flows);
	free(list);
}

static bool flow_list_write(void *context, struct json_write *out)
{
	struct flow_list *list = context;
	size_t end = list->next + FLOWS_AT_ONCE < list->count ? list->next + FLOWS_AT_ONCE : list->count;

	if (!list->begun) {
		json_write_object_begin(out, NULL);
		json_write_array_begin(out, "flows");
		list->begun = true;
	}
	for (; list->next < end; list->next++)
		answer_flow(list->agent, out, list->flows[list->next]);
	if (list->next < list->count)
		return true;
	json_write_array_end(out);
	answer_list_end(list->agent, out);
	json_write_object_end(out);
	json_write_newline(out);
	return false;
}

static void reply_flows(struct agent *agent, struct evhttp_request *request)
{
	struct flow_list *list;
	struct error error = {};
	struct query query;
	int r;

	if (query_parse(QUERY_FLOWS, query_of(request), &query, &error) < 0) {
		reply_bad_request(request, &error);
		return;
	}
	list = calloc(1, sizeof(*list));
	if (!list) {
		reply_failure(request, -ENOMEM);
		return;
	}
	list->agent = agent;
	r = answer_select_flows(agent, &query, &list->flows, &list->count);
	if (r < 0) {
		flow_list_free(list);
		reply_failure(request, r);
		return;
	}
	reply_parts(request, flow_list_write, flow_list_free, list);
}

/* -- everything else -- */

void reply_totals(
	struct agent *agent, struct evhttp_request *request, enum query_list list, totals_function *function)
{
	struct json_write json = {};
	struct error error = {};
	struct query query;
	int r = query_parse(list, query_of(request), &query, &error);

	if (r < 0) {
		reply_bad_request(request, &error);
		return;
	}
	r = function(agent, &query, &json);
	if (r < 0)
		reply_failure(request, r);
	else
		reply_json(request, HTTP_OK, "OK", &json);
	json_write_free(&json);
}

static void reply_hosts(struct agent *agent, struct evhttp_request *request)
{
	reply_totals(agent, request, QUERY_HOSTS, answer_hosts);
}

static void reply_ports(struct agent *agent, struct evhttp_request *request)
{
	reply_totals(agent, request, QUERY_PORTS, answer_ports);
}

static void reply_document(struct agent *agent, struct evhttp_request *request,
	void (*function)(struct agent *agent, struct json_write *out))
{
	struct json_write json = {};

	function(agent, &json);
	reply_json(request, HTTP_OK, "OK", &json);
	json_write_free(&json);
}

static void reply_interfaces(struct agent *agent, struct evhttp_request *request)
{
	watch_reconcile(agent); /* for the kernel's counters of now */
	reply_document(agent, request, answer_interfaces);
}

static void reply_status(struct agent *agent, struct evhttp_request *request)
{
	watch_reconcile(agent);
	reply_document(agent, request, answer_status);
}

static void reply_metrics(struct agent *agent, struct evhttp_request *request)
{
	struct evbuffer *body = evbuffer_new();

	if (!body) {
		evhttp_send_error(request, HTTP_INTERNAL, NULL);
		return;
	}
	metrics_write(agent, body);
	reply_text(request, HTTP_OK, "OK", "text/plain; version=0.0.4; charset=utf-8", body);
	evbuffer_free(body);
}

void reply_done(struct evhttp_request *request, const char *what)
{
	struct json_write json = {};

	json_write_object_begin(&json, NULL);
	json_write_boolean(&json, what, true);
	json_write_object_end(&json);
	reply_json(request, HTTP_OK, "OK", &json);
	json_write_free(&json);
}

void reply_may_wait(struct evhttp_request *request, bool may)
{
	static const struct timeval timeout = {CLIENT_TIMEOUT_S, 0};
	struct evhttp_connection *connection = evhttp_request_get_connection(request);

	bufferevent_set_timeouts(
		evhttp_connection_get_bufferevent(connection), may ? NULL : &timeout, may ? NULL : &timeout);
}

static void reply_reload(struct agent *agent, struct evhttp_request *request)
{
	struct error error = {};

	if (agent_reload(agent, &error) < 0) {
		reply_bad_request(request, &error);
	} else {
		audit_change(agent, request, "reload of %s", agent->options->config_file);
		reply_done(request, "reloaded");
	}
}

static void down_replied(struct evhttp_request *request, void *context)
{
	(void)request;
	agent_stop(context, AGENT_REMOVES);
}

static void reply_down(struct agent *agent, struct evhttp_request *request)
{
	static const struct timeval patience = {1, 0};

	audit_change(agent, request, "down");
	agent->end = AGENT_REMOVES;
	evhttp_request_set_on_complete_cb(request, down_replied, agent);
	event_base_loopexit(agent->base, &patience); /* should the client not wait for its answer */
	reply_done(request, "down");
}

static const struct route own_routes[] = {
	{"/v1/flows", EVHTTP_REQ_GET, reply_flows},
	{"/v1/hosts", EVHTTP_REQ_GET, reply_hosts},
	{"/v1/ports", EVHTTP_REQ_GET, reply_ports},
	{"/v1/interfaces", EVHTTP_REQ_GET, reply_interfaces},
	{"/v1/status", EVHTTP_REQ_GET, reply_status},
	{"/metrics", EVHTTP_REQ_GET, reply_metrics},
	{"/v1/reload", EVHTTP_REQ_POST, reply_reload},
	{"/v1/down", EVHTTP_REQ_POST, reply_down},
	{NULL},
};

static bool method_fits(const struct route *route, enum evhttp_cmd_type method)
{
	return route->method == method || (route->method == EVHTTP_REQ_GET && method == EVHTTP_REQ_HEAD);
}

/* A path may be served by two methods; the one asked for, or any. */
static const struct route *find_in(const struct route *table, const char *path, enum evhttp_cmd_type method)
{
	const struct route *found = NULL;

	for (; table && table->path; table++)
		if (strcmp(table->path, path) == 0 && (!found || method_fits(table, method)))
			found = table;
	return found;
}

static const struct route *route_find(const char *path, enum evhttp_cmd_type method)
{
	const struct route *route = path ? find_in(own_routes, path, method) : NULL;

	for (size_t i = 0; path && modules[i] && !route; i++)
		route = find_in(modules[i]->routes, path, method);
	return route;
}

static bool is_member(gid_t group, uid_t user)
{
	struct group *entry = getgrgid(group);
	struct passwd *person = getpwuid(user);

	if (!entry || !person)
		return false;
	if (person->pw_gid == group)
		return true;
	for (char **member = entry->gr_mem; *member; member++)
		if (strcmp(*member, person->pw_name) == 0)
			return true;
	return false;
}

static struct bufferevent *stream_of(struct evhttp_request *request)
{
	return evhttp_connection_get_bufferevent(evhttp_request_get_connection(request));
}

static bool stream_peer(struct bufferevent *stream, struct ucred *ret_peer)
{
	socklen_t length = sizeof(*ret_peer);

	return getsockopt(bufferevent_getfd(stream), SOL_SOCKET, SO_PEERCRED, ret_peer, &length) == 0;
}

uid_t request_uid(struct evhttp_request *request)
{
	struct ucred peer;

	return stream_peer(stream_of(request), &peer) ? peer.uid : (uid_t)-1;
}

pid_t request_pid(struct evhttp_request *request)
{
	struct ucred peer;

	return stream_peer(stream_of(request), &peer) ? peer.pid : -1;
}

/* May whoever is at the other end of the Unix socket change anything? */
static bool may_change(struct agent *agent, struct bufferevent *stream)
{
	struct group *group = agent->config.api_group ? getgrnam(agent->config.api_group) : NULL;
	struct ucred peer;

	if (!stream_peer(stream, &peer))
		return false;
	if (peer.uid == 0 || peer.uid == geteuid())
		return true;
	return agent->config.api_group_change && group &&
	       (peer.gid == group->gr_gid || is_member(group->gr_gid, peer.uid));
}

/* -- how much a request may bring -- */

/*
 * A connection takes bodies of BODY_MAX bytes; more it takes for one request at a time, whose first line
 * names a route with lists, from somebody who may use it.  libevent asks nobody between the first line and
 * the body, so on_input() looks at what comes in until it has seen that line; when the request is answered it
 * is there again.
 */

/* For on_input(): libevent hands it one pointer, which is the stream, and does not tell when a stream goes.
 */
static struct agent *served;

/* evhttp's own callbacks on a stream have its connection as their argument. */
static struct evhttp_connection *connection_of(struct bufferevent *stream)
{
	void *connection = NULL;

	bufferevent_getcb(stream, NULL, NULL, NULL, &connection);
	return connection;
}

static void on_input(struct evbuffer *input, const struct evbuffer_cb_info *info, void *context)
{
	static const char method[] = "POST ";
	struct bufferevent *stream = context;
	char line[64] = ""; /* longer than the method and the path of any route with lists */
	ssize_t length = evbuffer_copyout(input, line, sizeof(line) - 1);
	char *path = line + sizeof(method) - 1;
	const struct route *route;

	(void)info;
	if (length < (ssize_t)sizeof(line) - 1 && !line[strcspn(line, "\r\n")])
		return; /* there is more to come */
	evbuffer_remove_cb(input, on_input, stream);
	path[strcspn(path, " ?\r\n")] = '\0';
	route = strncmp(line, method, sizeof(method) - 1) == 0 ? route_find(path, EVHTTP_REQ_POST) : NULL;
	if (route && route->body_max && may_change(served, stream))
		evhttp_connection_set_max_body_size(connection_of(stream), (ev_ssize_t)route->body_max);
}

static struct bufferevent *stream_new(struct event_base *base, void *context)
{
	struct bufferevent *stream = bufferevent_socket_new(base, -1, 0);

	(void)context;
	if (stream && !evbuffer_add_cb(bufferevent_get_input(stream), on_input, stream)) {
		bufferevent_free(stream);
		return NULL; /* evhttp makes one of its own, which takes no lists */
	}
	return stream;
}

static void on_answered(struct evhttp_request *request, void *context)
{
	struct bufferevent *stream = stream_of(request);

	(void)context;
	evhttp_connection_set_max_body_size(evhttp_request_get_connection(request), BODY_MAX);
	if (evbuffer_add_cb(bufferevent_get_input(stream), on_input, stream))
		on_input(bufferevent_get_input(stream), NULL, stream); /* the next request may be there */
}

static void on_request(struct evhttp_request *request, void *context)
{
	struct agent *agent = context;
	const char *path = path_of(request);
	enum evhttp_cmd_type method = evhttp_request_get_command(request);
	const struct route *route = route_find(path, method);
	struct error error = {};

	evhttp_request_set_on_complete_cb(request, on_answered, NULL);
	if (!route) {
		error_set(&error, -ENOENT, "there is no %s", path ? path : "such path");
		error_want(&error, "one of the paths in docs/api.md, such as /v1/status");
		reply_error(request, HTTP_NOTFOUND, "Not Found", &error);
	} else if (!method_fits(route, method)) {
		const char *allowed = route->method == EVHTTP_REQ_GET ? "GET" : "POST";

		error_set(&error, -EINVAL, "wrong method for %s", route->path);
		error_want(&error, "%s", allowed);
		evhttp_add_header(evhttp_request_get_output_headers(request), "Allow", allowed);
		reply_error(request, HTTP_BADMETHOD, "Method Not Allowed", &error);
	} else if (route->method == EVHTTP_REQ_POST && !may_change(agent, stream_of(request))) {
		error_set(&error, -EACCES, "not allowed to change anything");
		error_want(&error, "root, or api.change: group for the members of api.group");
		reply_error(request, 403, "Forbidden", &error);
	} else {
		if (route->method == EVHTTP_REQ_GET)
			agent_refresh(agent);
		route->reply(agent, request);
	}
}

/* The TCP listener shows the metrics and nothing else. */
static void on_metrics_request(struct evhttp_request *request, void *context)
{
	const char *path = path_of(request);

	if (!path || strcmp(path, "/metrics") != 0) {
		evhttp_send_error(request, HTTP_NOTFOUND, NULL);
		return;
	}
	agent_refresh(context);
	reply_metrics(context, request);
}

/* -- sockets -- */

static struct evhttp *http_new(struct agent *agent, void (*function)(struct evhttp_request *, void *))
{
	struct evhttp *http = evhttp_new(agent->base);

	if (!http)
		return NULL;
	evhttp_set_max_headers_size(http, HEADERS_MAX);
	evhttp_set_max_body_size(http, BODY_MAX);
	evhttp_set_timeout(http, CLIENT_TIMEOUT_S);
	evhttp_set_gencb(http, function, agent);
	return http;
}

int api_protect(struct agent *agent, struct error *error)
{
	gid_t group = getegid();

	if (agent->config.api_group) {
		struct group *entry = getgrnam(agent->config.api_group);

		if (!entry) {
			error_set(error, -ENOENT, "there is no group '%s'", agent->config.api_group);
			return error_want(error, "an existing group in api.group");
		}
		group = entry->gr_gid;
	}
	if (chown(agent->socket_path, (uid_t)-1, group) < 0 ||
		chmod(agent->socket_path, agent->config.api_mode) < 0)
		return error_set(error, -errno, "cannot set mode and group of %s: %s", agent->socket_path,
			strerror(errno));
	return 0;
}

/* A socket that nobody answers on is what a killed agent left; we hold the lock, so there is no other agent.
 */
static int remove_stale(struct agent *agent, struct error *error)
{
	struct stat status;

	if (lstat(agent->socket_path, &status) < 0)
		return 0;
	if (!S_ISSOCK(status.st_mode)) {
		error_set(error, -EEXIST, "%s is in the way and is not a socket", agent->socket_path);
		return error_want(error, "remove it, or use another --run-dir");
	}
	if (unlink(agent->socket_path) < 0)
		return error_set(error, -errno, "cannot remove the stale socket %s: %s", agent->socket_path,
			strerror(errno));
	return 0;
}

int api_open(struct agent *agent, struct error *error)
{
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct evconnlistener *listener;
	mode_t mask;
	int r = remove_stale(agent, error);

	if (r < 0)
		return r;
	snprintf(address.sun_path, sizeof(address.sun_path), "%.100s", agent->socket_path);
	mask = umask(0177); /* nobody else before mode and group are set */
	r = fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ? -errno : 0;
	umask(mask);
	if (r < 0)
		return error_set(error, r, "cannot make socket %s: %s", agent->socket_path, strerror(-r));
	r = api_protect(agent, error);
	if (r < 0) {
		unlink(agent->socket_path);
		return r;
	}
	agent->api = http_new(agent, on_request);
	if (agent->api)
		evhttp_set_bevcb(agent->api, stream_new, NULL);
	served = agent;
	listener = agent->api
	                   ? evconnlistener_new(agent->base, NULL, NULL, LEV_OPT_CLOSE_ON_FREE, SOMAXCONN, fd)
	                   : NULL;
	if (!listener || !evhttp_bind_listener(agent->api, listener))
		return error_set(error, -ENOMEM, "cannot listen on %s", agent->socket_path);
	TAKE_FD(fd);
	return 0;
}

int api_listen_metrics(struct agent *agent, struct error *error)
{
	char text[ADDRESS_TEXT_MAX];
	struct evhttp_bound_socket *bound = NULL;
	const struct config *config = &agent->config;

	if (agent->metrics_socket) {
		evhttp_del_accept_socket(agent->metrics, agent->metrics_socket);
		agent->metrics_socket = NULL;
	}
	if (!config->metrics_on)
		return 0;
	if (!agent->metrics)
		agent->metrics = http_new(agent, on_metrics_request);
	address_print(text, sizeof(text), &config->metrics_address);
	if (agent->metrics)
		bound = evhttp_bind_socket_with_handle(agent->metrics, text, config->metrics_port);
	if (!bound) {
		error_set(error, errno ? -errno : -EADDRNOTAVAIL, "cannot serve metrics on %s port %u: %s",
			text, config->metrics_port, strerror(errno));
		return error_want(error, "another address or port in metrics.listen");
	}
	agent->metrics_socket = bound;
	return 0;
}

void api_close(struct agent *agent)
{
	if (agent->api) {
		evhttp_free(agent->api);
		unlink(agent->socket_path);
	}
	if (agent->metrics)
		evhttp_free(agent->metrics);
	agent->api = agent->metrics = NULL;
}
