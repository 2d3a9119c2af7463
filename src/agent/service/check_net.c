// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * Checks by tcp, http and https, and by udp: a connection to the backend, a request, the beginning of an
 * answer.  Certificates are not verified: the question is whether the backend answers, and it is asked by its
 * address.
 */
#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/bufferevent_ssl.h>
#include <netinet/in.h>
#include <openssl/err.h>
#include <string.h>
#include <sys/socket.h>

#include "agent/service/checks_internal.h"
#include "basic/cleanup.h"

#define STATUS_LINE_MAX 64   /* what is looked at of an answer in HTTP */
#define DATAGRAM_MAX    2048 /* … of one in UDP */

/* What a failed call says about the backend. */
static const char *reason_of(int error)
{
	static const struct {
		int error;
		const char *reason;
	} reasons[] = {
		{ECONNREFUSED, "connection refused"},
		{ECONNRESET, "connection reset"},
		{EPIPE, "connection closed"},
		{EHOSTUNREACH, "no route to host"},
		{ENETUNREACH, "network unreachable"},
		{ETIMEDOUT, "connection timed out"},
		{EADDRNOTAVAIL, "no address or port to send from"},
		{EPERM, "this host's rules refuse the check"},
		{EACCES, "this host's rules refuse the check"},
	};

	for (size_t i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++)
		if (reasons[i].error == error)
			return reasons[i].reason;
	return strerror(error);
}

/* A socket that is on its way to the backend.  0; or a positive errno, which says something about the way
 * there; or a negative one: this host could not make it. */
static int connect_begin(struct check_run *run, int type)
{
	const struct check_target *target = run->target;
	struct sockaddr_storage to = {};
	struct sockaddr_in *to4 = (struct sockaddr_in *)&to;
	struct sockaddr_in6 *to6 = (struct sockaddr_in6 *)&to;
	bool four = target->address.family == 4;
	int r;

	if (four) {
		to4->sin_family = AF_INET;
		to4->sin_port = htons(target->to_port);
		memcpy(&to4->sin_addr, target->address.bytes, 4);
	} else {
		to6->sin6_family = AF_INET6;
		to6->sin6_port = htons(target->to_port);
		memcpy(&to6->sin6_addr, target->address.bytes, 16);
	}
	run->fd = socket(to.ss_family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (run->fd < 0)
		return -errno;
	r = check_way_begin(run, type == SOCK_STREAM ? IPPROTO_TCP : IPPROTO_UDP);
	if (r)
		return r;
	if (connect(run->fd, (struct sockaddr *)&to, four ? sizeof(*to4) : sizeof(*to6)) < 0 &&
		errno != EINPROGRESS)
		return errno;
	return 0;
}

static int wait_for(struct check_run *run, short what, event_callback_fn function)
{
	run->ready = event_new(run->checks->agent->base, run->fd, what, function, run);
	return run->ready && event_add(run->ready, NULL) == 0 ? 0 : -ENOMEM;
}

/* -- http and https -- */

static void on_answer(struct bufferevent *stream, void *context)
{
	struct check_run *run = context;
	const struct service_check *check = check_of(run->target);
	char bytes[STATUS_LINE_MAX];
	ev_ssize_t size = evbuffer_copyout(bufferevent_get_input(stream), bytes, sizeof(bytes));
	int status = check_status_read(bytes, size < 0 ? 0 : (size_t)size);

	if (status < 0)
		check_run_end(run, false, "the answer is not HTTP");
	else if (status)
		check_run_end(
			run, status >= check->status_low && status <= check->status_high, "HTTP %d", status);
}

static void on_stream(struct bufferevent *stream, short what, void *context)
{
	struct check_run *run = context;
	unsigned long tls;
	int error = EVUTIL_SOCKET_ERROR();
	const char *why;

	if (what & BEV_EVENT_CONNECTED)
		return;
	tls = check_of(run->target)->kind == SERVICE_CHECK_HTTPS ? bufferevent_get_openssl_error(stream) : 0;
	why = tls ? ERR_reason_error_string(tls) : NULL;
	if (why)
		check_run_end(run, false, "TLS: %s", why);
	else if (what & BEV_EVENT_EOF || !error)
		check_run_end(run, false, "connection closed without an answer");
	else
		check_run_end(run, false, "%s", reason_of(error));
}

/* The host's name that the backend is asked for. */
static void request_write(const struct check_run *run, struct evbuffer *out)
{
	const struct service_text *service = check_service(run->target);
	char address[ADDRESS_TEXT_MAX];
	bool six = service->prefix.address.family == 6;

	evbuffer_add_printf(out, "GET %s HTTP/1.1\r\nHost: ", service->check.path);
	if (*service->check.host)
		evbuffer_add_printf(out, "%s", service->check.host);
	else
		evbuffer_add_printf(out, "%s%s%s", six ? "[" : "",
			address_print(address, sizeof(address), &service->prefix.address), six ? "]" : "");
	evbuffer_add_printf(out, "\r\nUser-Agent: weir\r\nAccept: */*\r\nConnection: close\r\n\r\n");
}

static int tls_begin(struct check_run *run)
{
	struct checks *checks = run->checks;
	const char *host = check_of(run->target)->host;
	struct address address;

	if (!checks->tls) {
		checks->tls = SSL_CTX_new(TLS_client_method());
		if (!checks->tls)
			return -ENOMEM;
		SSL_CTX_set_verify(checks->tls, SSL_VERIFY_NONE, NULL);
	}
	run->ssl = SSL_new(checks->tls);
	if (!run->ssl)
		return -ENOMEM;
	/* RFC 6066: names, no addresses */
	if (*host && address_parse(host, &address) < 0 && !SSL_set_tlsext_host_name(run->ssl, host))
		return -ENOMEM;
	run->stream = bufferevent_openssl_socket_new(
		checks->agent->base, run->fd, run->ssl, BUFFEREVENT_SSL_CONNECTING, BEV_OPT_CLOSE_ON_FREE);
	if (!run->stream)
		return -ENOMEM;
	run->ssl = NULL;
	/* many servers close without a goodbye */
	bufferevent_openssl_set_allow_dirty_shutdown(run->stream, 1);
	return 0;
}

static int request_begin(struct check_run *run)
{
	int r = 0;

	event_free(run->ready);
	run->ready = NULL;
	if (check_of(run->target)->kind == SERVICE_CHECK_HTTPS)
		r = tls_begin(run);
	else
		run->stream =
			bufferevent_socket_new(run->checks->agent->base, run->fd, BEV_OPT_CLOSE_ON_FREE);
	if (!run->stream)
		return r < 0 ? r : -ENOMEM;
	run->fd = -1;
	bufferevent_setcb(run->stream, on_answer, NULL, on_stream, run);
	/* no more than that is read of what a stranger sends */
	bufferevent_setwatermark(run->stream, EV_READ, 0, STATUS_LINE_MAX);
	request_write(run, bufferevent_get_output(run->stream));
	return bufferevent_enable(run->stream, EV_READ | EV_WRITE) == 0 ? 0 : -ENOMEM;
}

/* -- tcp -- */

static void on_connected(evutil_socket_t fd, short what, void *context)
{
	struct check_run *run = context;
	int error = 0;
	socklen_t size = sizeof(error);

	(void)what;
	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0)
		error = errno;
	if (error)
		check_run_end(run, false, "%s", reason_of(error));
	else if (check_of(run->target)->kind == SERVICE_CHECK_TCP)
		check_run_end(run, true, "connected");
	else if (request_begin(run) < 0)
		check_run_end(run, false, "no memory for a request");
}

int check_tcp_begin(struct check_run *run)
{
	int r = connect_begin(run, SOCK_STREAM);

	if (r > 0) {
		check_run_end(run, false, "%s", reason_of(r));
		return 0;
	}
	return r < 0 ? r : wait_for(run, EV_WRITE, on_connected);
}

/* -- udp -- */

static void on_datagram(evutil_socket_t fd, short what, void *context)
{
	struct check_run *run = context;
	const char *expect = check_of(run->target)->expect;
	char bytes[DATAGRAM_MAX];
	ssize_t size = recv(fd, bytes, sizeof(bytes), 0);

	(void)what;
	if (size < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (size < 0)
		check_run_end(
			run, false, "%s", errno == ECONNREFUSED ? "port unreachable" : reason_of(errno));
	else if (*expect && !memmem(bytes, (size_t)size, expect, strlen(expect)))
		check_run_end(run, false, "another answer than expected");
	else
		check_run_end(run, true, "answered");
}

int check_udp_begin(struct check_run *run)
{
	const char *text = check_of(run->target)->send;
	int r = connect_begin(run, SOCK_DGRAM);

	if (r == 0 && send(run->fd, text, strlen(text), 0) < 0)
		r = errno;
	if (r > 0) {
		check_run_end(run, false, "%s", reason_of(r));
		return 0;
	}
	return r < 0 ? r : wait_for(run, EV_READ | EV_PERSIST, on_datagram);
}
