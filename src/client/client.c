/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include "weir/weir.h"

#include <curl/curl.h>
#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "basic/cleanup.h"

#define STREAM_BUFFER_BYTES (256 << 10)
#define TIMEOUT_DEFAULT_S   30
#define TEXT_MAX            512

struct weir_client {
	CURL *curl;
	char socket[sizeof(((struct sockaddr_un *)NULL)->sun_path)];
	unsigned int timeout_s;
	const void *data; /* of the next POST; NULL: none */
	size_t data_length;
	char error[TEXT_MAX];
	char hint[TEXT_MAX];
};

/* An answer's body as it grows; there is always a NUL behind it. */
struct body {
	char *text;
	size_t length, size;
	bool no_memory;
};

static pthread_once_t curl_once = PTHREAD_ONCE_INIT;
static CURLcode curl_ready;

static void curl_begin(void)
{
	curl_ready = curl_global_init(CURL_GLOBAL_NOTHING);
}

const char *weir_version(void)
{
	return WEIR_VERSION;
}

const char *weir_client_socket(const struct weir_client *client)
{
	return client->socket;
}

const char *weir_client_error(const struct weir_client *client)
{
	return client->error;
}

const char *weir_client_hint(const struct weir_client *client)
{
	return client->hint;
}

void weir_client_set_timeout(struct weir_client *client, unsigned int seconds)
{
	client->timeout_s = seconds;
}

void weir_client_set_body(struct weir_client *client, const void *data, size_t length)
{
	client->data = data;
	client->data_length = length;
}

int weir_client_open(const char *run_dir, struct weir_client **ret_client)
{
	struct weir_client *client;
	int length;

	if (!run_dir)
		run_dir = getenv("WEIR_RUN_DIR");
	if (!run_dir || !*run_dir)
		run_dir = WEIR_RUN_DIR_DEFAULT;

	pthread_once(&curl_once, curl_begin);
	if (curl_ready != CURLE_OK)
		return -ENOMEM;

	client = calloc(1, sizeof(*client));
	if (!client)
		return -ENOMEM;
	client->timeout_s = TIMEOUT_DEFAULT_S;

	length = snprintf(client->socket, sizeof(client->socket), "%s/%s", run_dir, WEIR_SOCKET_NAME);
	if (length < 0 || (size_t)length >= sizeof(client->socket)) {
		free(client);
		return -ENAMETOOLONG;
	}

	client->curl = curl_easy_init();
	if (!client->curl) {
		free(client);
		return -ENOMEM;
	}
	*ret_client = client;
	return 0;
}

void weir_client_close(struct weir_client *client)
{
	if (!client)
		return;
	curl_easy_cleanup(client->curl);
	free(client);
}

static int __attribute__((format(printf, 4, 5)))
client_fail(struct weir_client *client, int code, const char *hint, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(client->error, sizeof(client->error), format, args);
	va_end(args);
	snprintf(client->hint, sizeof(client->hint), "%s", hint);
	return code;
}

/* curl says that it could not connect; errno, when curl still has it, says why. */
static int connect_fail(struct weir_client *client)
{
	static const char start[] = "start one with 'weir run'";
	struct stat status;
	long os_errno = 0;
	int code;

	curl_easy_getinfo(client->curl, CURLINFO_OS_ERRNO, &os_errno);
	code = (int)os_errno;
	if (!code)
		code = stat(client->socket, &status) < 0 ? errno : ECONNREFUSED;

	switch (code) {
	case ENOENT:
	case ENOTDIR:
	case ECONNREFUSED:
		return client_fail(client, code == ENOTDIR ? -ENOENT : -code, start,
			"no agent answers on %s: %s", client->socket, strerror(code));
	case EACCES:
	case EPERM:
		return client_fail(client, -EACCES,
			"be root, or a member of the group that 'api.group' names in weir.yaml",
			"the agent's socket %s may not be opened: %s", client->socket, strerror(code));
	default:
		return client_fail(
			client, -code, "", "cannot connect to %s: %s", client->socket, strerror(code));
	}
}

static int transfer_fail(struct weir_client *client, CURLcode code, const struct body *body)
{
	if (body->no_memory)
		return client_fail(client, -ENOMEM, "ask for less, with a filter or a limit",
			"no memory for the agent's answer (%zu bytes so far)", body->length);

	switch (code) {
	case CURLE_COULDNT_CONNECT:
		return connect_fail(client);
	case CURLE_GOT_NOTHING:
	case CURLE_PARTIAL_FILE:
	case CURLE_RECV_ERROR:
	case CURLE_SEND_ERROR:
		return client_fail(client, -ECONNRESET, "its log says why, when it ended on its own",
			"the agent on %s went away before its answer was complete", client->socket);
	case CURLE_OPERATION_TIMEDOUT:
		return client_fail(client, -ETIMEDOUT, "", "the agent on %s has said nothing for %u s",
			client->socket, client->timeout_s);
	case CURLE_OUT_OF_MEMORY:
		return client_fail(client, -ENOMEM, "", "no memory");
	case CURLE_UNSUPPORTED_PROTOCOL:
	case CURLE_WEIRD_SERVER_REPLY:
		return client_fail(
			client, -EPROTO, "", "what answers on %s does not speak HTTP", client->socket);
	case CURLE_URL_MALFORMAT:
		return client_fail(client, -EINVAL, "", "path or query cannot be part of a request");
	default:
		return client_fail(client, -EIO, "", "asking the agent on %s: %s", client->socket,
			curl_easy_strerror(code));
	}
}

static bool body_reserve(struct body *body, size_t length)
{
	size_t needed = body->length + length + 1, room = body->size ? body->size : 4096;
	char *text;

	if (needed <= body->size)
		return true;
	while (room < needed)
		room *= 2;
	text = realloc(body->text, room);
	if (!text) {
		body->no_memory = true;
		return false;
	}
	body->text = text;
	body->size = room;
	return true;
}

static size_t body_write(char *data, size_t size, size_t count, void *user)
{
	struct body *body = user;
	size_t length = size * count;

	if (!body_reserve(body, length))
		return 0;
	memcpy(body->text + body->length, data, length);
	body->length += length;
	body->text[body->length] = '\0';
	return length;
}

/* A request is written by curl from these; nothing in them may end a line early. */
static bool is_clean(const char *text)
{
	for (; *text; text++) {
		if ((unsigned char)*text <= ' ' || *text == 0x7f || *text == '#')
			return false;
	}
	return true;
}

/* Where the parts of an answer go: a body that is kept whole, or the caller, part by part. */
struct sink {
	struct weir_client *client;
	struct body body;
	weir_part_function *function;
	void *user;
	int stopped; /* what the function returned */
};

static size_t sink_write(char *data, size_t size, size_t count, void *user)
{
	struct sink *sink = user;
	long status = 0;

	curl_easy_getinfo(sink->client->curl, CURLINFO_RESPONSE_CODE, &status);
	if (!sink->function || status != 200)
		return body_write(data, size, count, &sink->body);
	sink->stopped = sink->function(sink->user, data, size * count);
	return sink->stopped ? 0 : size * count;
}

/* curl asks this a few times a second, and whenever a signal interrupts its waiting. */
static int sink_progress(void *user, curl_off_t total, curl_off_t now, curl_off_t up_total, curl_off_t up_now)
{
	struct sink *sink = user;

	(void)total;
	(void)now;
	(void)up_total;
	(void)up_now;
	if (!sink->stopped)
		sink->stopped = sink->function(sink->user, NULL, 0);
	return sink->stopped != 0;
}

/* Without "Expect: 100-continue", with which curl would wait a second for an agent that does not know it. */
static struct curl_slist *headers_make(void)
{
	struct curl_slist *first = curl_slist_append(NULL, "Content-Type: text/plain; charset=utf-8"),
			  *all = first ? curl_slist_append(first, "Expect:") : NULL;

	if (!all)
		curl_slist_free_all(first);
	return all;
}

static CURLcode transfer(struct weir_client *client, bool post, const char *url, struct sink *sink)
{
	struct curl_slist *headers = NULL;
	CURL *curl = client->curl;
	long timeout = client->timeout_s;
	CURLcode code;

	/* Forgets the options of the last request, not its connection. */
	curl_easy_reset(curl);
	if (curl_easy_setopt(curl, CURLOPT_UNIX_SOCKET_PATH, client->socket) != CURLE_OK ||
		curl_easy_setopt(curl, CURLOPT_URL, url) != CURLE_OK)
		return CURLE_OUT_OF_MEMORY;
	curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, sink_write);
	curl_easy_setopt(curl, CURLOPT_WRITEDATA, sink);
	curl_easy_setopt(curl, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	curl_easy_setopt(curl, CURLOPT_PATH_AS_IS, 1L);
	/* The signal handlers are the caller's. */
	curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
	/* http_proxy in the environment is about another kind of place. */
	curl_easy_setopt(curl, CURLOPT_PROXY, "");
	if (timeout) {
		curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, timeout);
		curl_easy_setopt(curl, CURLOPT_LOW_SPEED_LIMIT, 1L);
		curl_easy_setopt(curl, CURLOPT_LOW_SPEED_TIME, timeout);
	}
	if (sink->function) {
		curl_easy_setopt(curl, CURLOPT_BUFFERSIZE, (long)STREAM_BUFFER_BYTES);
		curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
		curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, sink_progress);
		curl_easy_setopt(curl, CURLOPT_XFERINFODATA, sink);
	}
	if (post) {
		curl_easy_setopt(curl, CURLOPT_POST, 1L);
		curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)client->data_length);
		curl_easy_setopt(curl, CURLOPT_POSTFIELDS, client->data ? client->data : "");
	}
	if (post && client->data) {
		headers = headers_make();
		if (!headers)
			return CURLE_OUT_OF_MEMORY;
		curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
	}
	code = curl_easy_perform(curl);
	curl_slist_free_all(headers);
	return code;
}

static int request(struct weir_client *client, const char *method, const char *path, const char *query,
	struct sink *sink, int *ret_status)
{
	_cleanup_free_ char *url = NULL;
	long status = 0;
	bool post = strcmp(method, "POST") == 0;
	CURLcode code;

	client->error[0] = '\0';
	client->hint[0] = '\0';

	if (!post && strcmp(method, "GET") != 0)
		return client_fail(client, -EINVAL, "GET or POST", "method '%s' is not known", method);
	if (*path != '/' || !is_clean(path) || (query && !is_clean(query)))
		return client_fail(client, -EINVAL, "percent-encode it with weir_escape()",
			"path or query cannot be part of a request");
	if (asprintf(&url, "http://weir%s%s%s", path, query && *query ? "?" : "", query ? query : "") < 0) {
		url = NULL;
		return client_fail(client, -ENOMEM, "", "no memory");
	}

	/* An empty body is a body. */
	if (body_reserve(&sink->body, 0)) {
		sink->body.text[0] = '\0';
		code = transfer(client, post, url, sink);
	} else {
		code = CURLE_OUT_OF_MEMORY;
	}
	weir_client_set_body(client, NULL, 0);
	curl_easy_getinfo(client->curl, CURLINFO_RESPONSE_CODE, &status);
	*ret_status = (int)status;
	if (sink->stopped)
		return sink->stopped;
	return code == CURLE_OK ? 0 : transfer_fail(client, code, &sink->body);
}

static int answer_take(struct sink *sink, int r, char **ret_body, size_t *ret_length)
{
	if (r != 0) {
		free(sink->body.text);
		return r;
	}
	*ret_body = sink->body.text;
	if (ret_length)
		*ret_length = sink->body.length;
	return 0;
}

int weir_request(struct weir_client *client, const char *method, const char *path, const char *query,
	int *ret_status, char **ret_body, size_t *ret_length)
{
	struct sink sink = {.client = client};
	int status = 0, r;

	*ret_body = NULL;
	r = request(client, method, path, query, &sink, &status);
	if (r == 0)
		*ret_status = status;
	return answer_take(&sink, r, ret_body, ret_length);
}

int weir_stream(struct weir_client *client, const char *method, const char *path, const char *query,
	weir_part_function *function, void *user, int *ret_status, char **ret_body, size_t *ret_length)
{
	struct sink sink = {.client = client, .function = function, .user = user};
	int status = 0, r;

	*ret_body = NULL;
	r = request(client, method, path, query, &sink, &status);
	if (r == 0)
		*ret_status = status;
	return answer_take(&sink, r, ret_body, ret_length);
}

char *weir_escape(const char *text)
{
	static const char hex[] = "0123456789ABCDEF";
	static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~";
	size_t length = strlen(text);
	char *escaped, *p;

	if (length > (SIZE_MAX - 1) / 3)
		return NULL;
	p = escaped = malloc(3 * length + 1);
	if (!escaped)
		return NULL;
	for (; *text; text++) {
		unsigned char c = (unsigned char)*text;

		if (strchr(plain, c)) {
			*p++ = (char)c;
		} else {
			*p++ = '%';
			*p++ = hex[c >> 4];
			*p++ = hex[c & 15];
		}
	}
	*p = '\0';
	return escaped;
}
