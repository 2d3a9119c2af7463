// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* Captures from their beginning to their end, their interfaces, and what the API says of them. */
#include "agent/capture/captures.h"

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "agent/capture/captures_internal.h"
#include "basic/cleanup.h"
#include "basic/clock.h"
#include "basic/log.h"

#define CAPTURES_MAX   8
#define RINGS_BYTES    (64U << 20) /* of one capture, all CPUs together */
#define RING_BYTES_MAX (32U << 20) /* per CPU */
#define RING_BYTES_MIN (1U << 20)
#define SOCKET_BUFFER  (2 << 20)
#define POLL_MS        20
#define SETTLE_NS      1000000       /* a packet this old is in its ring, whichever CPU it was on */
#define LOOK_NS        1000000000ULL /* interfaces and the clock are looked at so often */
#define STATISTICS_NS  5000000000ULL
#define CLOCK_READS    5
#define CLOCK_APART_NS 1000

const char *const capture_place_names[CAPTURE_PLACES + 1] = {[CAPTURE_TC] = "tc",
	[CAPTURE_XDP] = "xdp",
	[CAPTURE_SOCKET] = "socket",
	[CAPTURE_DROP] = "drop",
	NULL};

/* -- interfaces -- */

static void tell_statistics(struct capture *capture)
{
	for (uint32_t i = 0; i < capture->target_count; i++) {
		const struct capture_target *target = &capture->targets[i];
		uint64_t lost = engine_capture_lost(capture->engine, target->index);
		const struct pcapng_statistics statistics = {
			.interface = i,
			.begin_ns = capture->begin_ns,
			.end_ns = clock_ns(CLOCK_REALTIME),
			.received = target->received - target->begin_received,
			.dropped = target->dropped - target->begin_dropped,
			.accepted = target->taken + lost,
			.lost = lost,
		};

		pcapng_statistics(capture->out, &statistics);
	}
	capture->told_ns = agent_now_ns();
}

static uint64_t lost_of(const struct capture *capture)
{
	uint64_t lost = 0;

	for (size_t i = 0; i < capture->target_count; i++)
		lost += engine_capture_lost(capture->engine, capture->targets[i].index);
	return lost;
}

struct capture_target *capture_target_find(const struct capture *capture, uint32_t index)
{
	for (size_t i = 0; i < capture->target_count; i++)
		if (capture->targets[i].index == index)
			return &capture->targets[i];
	return NULL;
}

static int target_add(struct capture *capture, const struct engine_interface *interface, struct error *error)
{
	struct capture_target *targets =
		reallocarray(capture->targets, capture->target_count + 1, sizeof(struct capture_target));
	struct capture_target target = {.index = interface->index};
	int r;

	if (!targets)
		return error_set(error, -ENOMEM, "out of memory");
	capture->targets = targets;
	target.link = capture->place == CAPTURE_DROP ? PCAPNG_LINK_COOKED
	              : interface->ethernet          ? PCAPNG_LINK_ETHERNET
	                                             : PCAPNG_LINK_RAW;
	/* "ether host …" cannot be said of an interface without Ethernet headers, so that is asked only when
	 * there is one */
	if (target.link == PCAPNG_LINK_RAW && !capture->raw.plain.count) {
		r = expression_compile(capture->text, EXPRESSION_RAW, capture->snaplen, &capture->raw, error);
		if (r < 0)
			return r;
	}
	target.begin_received = target.received = interface->in.packets + interface->out.packets;
	target.begin_dropped = target.dropped = interface->in.dropped + interface->out.dropped;
	r = engine_capture_add(capture->engine, interface, (uint32_t)capture->target_count, error);
	if (r < 0)
		return r;
	capture->targets[capture->target_count++] = target;
	pcapng_interface(
		capture->out, &(struct pcapng_interface){
				      .name = interface->name,
				      .description = engine_capture_hook(capture->engine, interface->index),
				      .filter = capture->text,
				      .link = target.link,
				      .snaplen = capture->snaplen,
			      });
	return 0;
}

static bool is_wanted(const struct capture *capture, const struct engine_interface *interface)
{
	const struct agent *agent = capture->captures->agent;

	if (*capture->only)
		return strcmp(capture->only, interface->name) == 0;
	if (capture->place == CAPTURE_DROP)
		return true;
	for (size_t i = 0; i < agent->watched_count; i++)
		if (agent->watched[i].index == interface->index && agent->watched[i].state == WATCH_WATCHED)
			return true;
	return false;
}

/* Captures on what is wanted and not captured on yet; reads the counters of the others. */
static int look_at_interfaces(struct capture *capture, struct error *error)
{
	_cleanup_free_ struct engine_interface *interfaces = NULL;
	size_t count = 0;
	int r = engine_interfaces(capture->captures->agent->engine, &interfaces, &count);

	if (r < 0)
		return error_set(error, r, "cannot list the interfaces: %s", strerror(-r));
	for (size_t i = 0; i < count && r == 0; i++) {
		const struct engine_interface *interface = &interfaces[i];
		struct capture_target *target = capture_target_find(capture, interface->index);

		if (target) {
			target->received = interface->in.packets + interface->out.packets;
			target->dropped = interface->in.dropped + interface->out.dropped;
		} else if (is_wanted(capture, interface)) {
			r = target_add(capture, interface, error);
		}
	}
	return r;
}

void capture_set_clock(const struct engine_capture_view *view)
{
	uint64_t took_ns = UINT64_MAX;
	int64_t apart_ns = 0;

	/* whoever reads two clocks may be interrupted between them */
	for (int i = 0; i < CLOCK_READS; i++) {
		uint64_t before_ns = clock_ns(CLOCK_MONOTONIC), real_ns = clock_ns(CLOCK_REALTIME);
		uint64_t between_ns = clock_ns(CLOCK_MONOTONIC) - before_ns;

		if (between_ns < took_ns) {
			took_ns = between_ns;
			apart_ns = (int64_t)(real_ns - before_ns - between_ns / 2);
		}
	}
	/* what is no further apart than reading them takes has not been set, and packets stay in order */
	for (unsigned int cpu = 0; cpu < view->cpus; cpu++)
		if (llabs(view->states[cpu].clock_ns - apart_ns) > CLOCK_APART_NS + (int64_t)took_ns)
			view->states[cpu].clock_ns = apart_ns;
}

/* -- beginning and end -- */

/* While a capture runs. */
static void poll_as_needed(struct captures *captures)
{
	static const struct timeval poll = {0, POLL_MS * 1000};
	bool runs = false;

	for (const struct capture *capture = captures->first; capture; capture = capture->next)
		runs |= capture->state != CAPTURE_WAITS;
	if (!runs)
		event_del(captures->timer);
	else if (!event_pending(captures->timer, EV_TIMEOUT, NULL))
		event_add(captures->timer, &poll);
}

static void capture_free(struct capture *capture)
{
	struct captures *captures = capture->captures;

	for (struct capture **place = &captures->first; *place; place = &(*place)->next) {
		if (*place == capture) {
			*place = capture->next;
			captures->packets += capture->taken;
			captures->lost += lost_of(capture);
			break;
		}
	}
	poll_as_needed(captures);
	if (capture->gone)
		event_free(capture->gone);
	share_free(capture->share);
	engine_capture_close(capture->engine);
	expression_clear(&capture->ethernet);
	expression_clear(&capture->raw);
	free(capture->text);
	free(capture->event);
	free(capture->id);
	free(capture->share_with);
	free(capture->targets);
	free(capture->scratch);
	free(capture->cursors);
	free(capture->processes);
	free(capture->chunk);
	if (capture->out)
		evbuffer_free(capture->out);
	free(capture);
}

/* As with a list whose reader goes away (api.c): a request that libevent has parted from its connection is
 * ours to end. */
static void on_closed(struct evhttp_connection *connection, void *context)
{
	struct capture *capture = context;
	struct evhttp_request *request = capture->request;

	(void)connection;
	capture_free(capture);
	if (!evhttp_request_get_connection(request))
		evhttp_send_reply_end(request);
}

/* libevent does not listen while it answers, and one that waits says nothing. */
static void on_gone(evutil_socket_t fd, short what, void *context)
{
	struct capture *capture = context;

	(void)fd;
	(void)what;
	evhttp_connection_free(evhttp_request_get_connection(capture->request)); /* on_closed() */
}

/* Ends a capture as a person wants it to end: with its statistics. */
static void capture_end(struct capture *capture)
{
	struct evhttp_request *request = capture->request;
	struct evhttp_connection *connection = evhttp_request_get_connection(request);

	if (capture->state == CAPTURE_RUNS) {
		look_at_interfaces(capture, NULL);
		tell_statistics(capture);
	}
	capture_send(capture);
	if (connection)
		evhttp_connection_set_closecb(connection, NULL, NULL);
	capture_free(capture);
	evhttp_send_reply_end(request);
}

/* What the section's comment says. */
static char *section_comment(const struct capture *capture)
{
	char time[ANSWER_TIME_MAX], when[ALERT_MATCH_MAX], *text;
	int length;

	if (!capture->when.kind)
		return NULL;
	length = capture->event ? asprintf(&text, "%s %s", answer_time_print(time, capture->event_ns),
					  capture->event)
	                        : asprintf(&text, "waiting for: %s", alert_match_print(when, &capture->when));
	return length < 0 ? NULL : text;
}

static void section_begin(struct capture *capture)
{
	_cleanup_free_ char *comment = section_comment(capture);

	pcapng_section(capture->out, comment ? comment : "");
}

/* Attaches it, and begins the file. */
static int capture_start(struct capture *capture, struct error *error)
{
	int r;

	capture->state = CAPTURE_RUNS;
	capture->begin_ns = clock_ns(CLOCK_REALTIME);
	capture->looked_ns = capture->told_ns = agent_now_ns();
	capture_set_clock(capture->view);
	if (capture->for_ns)
		capture->end_ns = (capture->event ? capture->event_ns : capture->begin_ns) + capture->for_ns;
	section_begin(capture);
	if (capture->place == CAPTURE_DROP && !*capture->only) {
		r = target_add(capture, &(struct engine_interface){.name = "none"}, error);
		if (r < 0)
			return r;
	}
	r = look_at_interfaces(capture, error);
	if (!capture->before_ns)
		return r;
	capture->from_ns = clock_ns(CLOCK_REALTIME);
	if (capture->event)
		capture->before_ns += capture->from_ns - capture->event_ns;
	return r;
}

/* What it has waited for has happened. */
static void capture_wake(struct capture *capture)
{
	struct error error = {};

	event_free(capture->gone);
	capture->gone = NULL;
	reply_may_wait(capture->request, false);
	if (capture_start(capture, &error) == 0)
		return;
	log_warning("a capture that has waited cannot begin: %s", error.what);
	capture->done = true;
}

/* Has everything up to its end been taken? */
static bool capture_is_over(const struct capture *capture)
{
	for (unsigned int cpu = 0; cpu < capture->view->cpus; cpu++)
		if (capture->cursors[cpu].block && capture->cursors[cpu].time_ns <= capture->end_ns)
			return false;
	return true;
}

static void capture_take_new(struct capture *capture)
{
	uint64_t until_ns = clock_ns(CLOCK_REALTIME) - SETTLE_NS;
	bool last = capture->end_ns && until_ns >= capture->end_ns;

	if (capture_backlog(capture) >= BACKLOG_MAX)
		return;
	capture_take(capture, last ? capture->end_ns : until_ns);
	capture->done |= last && capture_is_over(capture);
}

static void capture_go_on(struct capture *capture)
{
	uint64_t now_ns = agent_now_ns();

	if (now_ns - capture->looked_ns >= LOOK_NS) {
		capture->looked_ns = now_ns;
		capture_set_clock(capture->view);
		look_at_interfaces(capture, NULL);
	}
	/* only now: what happened before the capture began has come into the rings since */
	if (capture->before_ns)
		capture_past_tell(capture);
	capture->before_ns = 0;
	if (capture->share)
		share_give_back(capture->share);
	capture_take_new(capture);
	if (capture->done) {
		capture_end(capture);
		return;
	}
	if (now_ns - capture->told_ns >= STATISTICS_NS) {
		look_at_interfaces(capture, NULL);
		tell_statistics(capture);
	}
	capture_send(capture);
}

static void on_poll(evutil_socket_t fd, short what, void *context)
{
	struct captures *captures = context;

	(void)fd;
	(void)what;
	for (struct capture *capture = captures->first, *next; capture; capture = next) {
		next = capture->next;
		/* what was kept is read with the next look, when all of it is there */
		if (capture->state == CAPTURE_ALERTED)
			capture_wake(capture);
		else if (capture->state == CAPTURE_RUNS)
			capture_go_on(capture);
	}
	poll_as_needed(captures);
}

static uint32_t ring_bytes(unsigned int cpus)
{
	uint32_t bytes = RINGS_BYTES / cpus;

	return bytes < RING_BYTES_MIN ? RING_BYTES_MIN : bytes > RING_BYTES_MAX ? RING_BYTES_MAX : bytes;
}

static int capture_begin(struct capture *capture, const char *query, struct error *error)
{
	struct agent *agent = capture->captures->agent;
	struct engine_capture_options options;
	size_t count = 0;
	int r;

	for (struct capture *other = capture->captures->first; other; other = other->next)
		count++;
	if (count >= CAPTURES_MAX) {
		error_set(error, -EBUSY, "%zu captures are at work already", count);
		return error_want(error, "end one of them first");
	}
	r = capture_query_read(capture, query, error);
	if (r != 0)
		return r;
	options = (struct engine_capture_options){
		.place = capture->place,
		.snaplen = capture->snaplen,
		.ring_bytes = ring_bytes(engine_view(agent->engine)->cpus),
		.ethernet = *capture->text ? &capture->ethernet : NULL,
		.raw = *capture->text ? &capture->raw : NULL,
	};
	r = engine_capture_open(agent->engine, &options, &capture->engine, error);
	if (r < 0)
		return r;
	capture->view = engine_capture_view(capture->engine);
	capture->cursors = calloc(capture->view->cpus, sizeof(struct capture_cursor));
	capture->out = evbuffer_new();
	capture->scratch = malloc(capture->snaplen + 16);
	if (!capture->cursors || !capture->out || !capture->scratch)
		return error_set(error, -ENOMEM, "out of memory");
	/* of dropped packets each block is written anew; and who could write to the memory is to be trusted
	 */
	if (capture->share_with && capture->place != CAPTURE_DROP && request_uid(capture->request) == 0) {
		r = share_open(capture->engine, capture->share_with, &capture->share);
		if (r < 0)
			log_debug("sharing a capture with its client: %s", strerror(-r));
	}
	if (!capture->when.kind)
		return capture_start(capture, error);
	section_begin(capture);
	return 0;
}

/* It waits until captures_alert(), or until its client goes away. */
static int capture_wait(struct capture *capture, struct bufferevent *stream, struct error *error)
{
	capture->gone = event_new(
		capture->captures->agent->base, bufferevent_getfd(stream), EV_CLOSED, on_gone, capture);
	if (!capture->gone || event_add(capture->gone, NULL) < 0)
		return error_set(error, -ENOMEM, "out of memory");
	reply_may_wait(capture->request, true);
	capture_alert_wait(capture);
	return 0;
}

static void reply_capture(struct agent *agent, struct evhttp_request *request)
{
	struct captures *captures = module_state(agent, &capture_module);
	struct capture *capture = calloc(1, sizeof(*capture));
	struct evhttp_connection *connection = evhttp_request_get_connection(request);
	struct bufferevent *stream = evhttp_connection_get_bufferevent(connection);
	struct error error = {};
	int size = SOCKET_BUFFER, r;

	if (!capture) {
		reply_failure(request, -ENOMEM);
		return;
	}
	capture->captures = captures;
	capture->request = request;
	r = capture_begin(capture, query_of(request), &error);
	if (r == 0) {
		capture->next = captures->first;
		captures->first = capture;
	}
	if (r == 0 && capture->when.kind)
		r = capture_wait(capture, stream, &error);
	if (r < 0) {
		capture_free(capture);
		reply_bad_request(request, &error);
		return;
	}
	captures->captures++;
	poll_as_needed(captures);
	evhttp_add_header(evhttp_request_get_output_headers(request), "Content-Type", "application/x-pcapng");
	evhttp_connection_set_closecb(connection, on_closed, capture);
	bufferevent_set_max_single_write(stream, BACKLOG_MAX);
	setsockopt(bufferevent_getfd(stream), SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size));
	evhttp_send_reply_start(request, HTTP_OK, "OK");
	capture_send(capture); /* the headers leave now, so that the client knows that it is there */
}

static void reply_end(struct agent *agent, struct evhttp_request *request)
{
	static const char *const names[] = {"id", NULL};
	struct captures *captures = module_state(agent, &capture_module);
	_cleanup_free_ char *id = query_value(query_of(request), "id");
	struct error error = {};

	if (query_check(query_of(request), names, &error) < 0) {
		reply_bad_request(request, &error);
		return;
	}
	for (struct capture *capture = captures->first; capture; capture = capture->next) {
		if (!id || !capture->id || strcmp(id, capture->id) != 0)
			continue;
		capture_take(capture, UINT64_MAX);
		capture_end(capture);
		reply_done(request, "ended");
		return;
	}
	error_set(&error, -ENOENT, "there is no capture with the id '%s'", id ? id : "");
	reply_error(request, HTTP_NOTFOUND, "Not Found", &error);
}

/* -- the module -- */

static void captures_close(void *state)
{
	struct captures *captures = state;

	for (struct capture *capture = captures->first, *next; capture; capture = next) {
		next = capture->next;
		capture_take(capture, UINT64_MAX);
		capture_end(capture);
	}
	capture_past_close(&captures->past);
	capture_alert_close(captures);
	if (captures->timer)
		event_free(captures->timer);
	free(captures);
}

static void captures_reload(struct agent *agent, void *state)
{
	(void)agent;
	capture_past_follow_config(state);
}

static void captures_tick(struct agent *agent, void *state, uint64_t now_ns)
{
	struct captures *captures = state;
	struct error error = {};

	(void)agent;
	(void)now_ns;
	if (!captures->past.engine)
		return;
	capture_set_clock(engine_capture_view(captures->past.engine));
	if (capture_past_watch(captures, &error) < 0)
		log_debug("capture.before: %s", error.what);
}

static int captures_open(struct agent *agent, void **ret_state, struct error *error)
{
	struct captures *captures = calloc(1, sizeof(*captures));

	if (!captures)
		return error_set(error, -ENOMEM, "out of memory");
	captures->agent = agent;
	captures->timer = event_new(agent->base, -1, EV_PERSIST, on_poll, captures);
	if (!captures->timer || capture_alert_open(captures) < 0) {
		captures_close(captures);
		return error_set(error, -ENOMEM, "out of memory");
	}
	capture_past_follow_config(captures);
	*ret_state = captures;
	return 0;
}

static void captures_status(struct agent *agent, void *state, struct json_write *out)
{
	const struct captures *captures = state;
	char when[ALERT_MATCH_MAX];

	(void)agent;
	json_write_array_begin(out, "captures");
	for (const struct capture *capture = captures->first; capture; capture = capture->next) {
		json_write_object_begin(out, NULL);
		json_write_string(out, "at", capture_place_names[capture->place]);
		json_write_string(out, "expression", capture->text);
		json_write_number(out, "packets", capture->taken);
		json_write_number(out, "lost", lost_of(capture));
		json_write_boolean(out, "shared", capture->share);
		if (capture->when.kind) {
			json_write_string(out, "when", alert_match_print(when, &capture->when));
			json_write_boolean(out, "waiting", capture->state == CAPTURE_WAITS);
		}
		json_write_object_end(out);
	}
	json_write_array_end(out);
}

static void captures_metrics(struct agent *agent, void *state, struct evbuffer *out)
{
	const struct captures *captures = state;
	uint64_t running = 0, packets = captures->packets, lost = captures->lost;

	(void)agent;
	for (const struct capture *capture = captures->first; capture; capture = capture->next) {
		running++;
		packets += capture->taken;
		lost += lost_of(capture);
	}
	evbuffer_add_printf(out,
		"# HELP weir_captures Captures at work.\n# TYPE weir_captures gauge\nweir_captures %" PRIu64
		"\n"
		"# HELP weir_captures_total Captures begun.\n# TYPE weir_captures_total counter\n"
		"weir_captures_total %" PRIu64 "\n"
		"# HELP weir_capture_packets_total Packets handed to whoever captured.\n"
		"# TYPE weir_capture_packets_total counter\nweir_capture_packets_total %" PRIu64 "\n"
		"# HELP weir_capture_bytes_total Bytes of pcapng handed to whoever captured.\n"
		"# TYPE weir_capture_bytes_total counter\nweir_capture_bytes_total %" PRIu64 "\n"
		"# HELP weir_capture_lost_total Packets that were to be captured and found no room.\n"
		"# TYPE weir_capture_lost_total counter\nweir_capture_lost_total %" PRIu64 "\n",
		running, captures->captures, packets, captures->bytes, lost);
}

static const struct route routes[] = {
	{"/v1/capture", EVHTTP_REQ_POST, reply_capture},
	{"/v1/capture/end", EVHTTP_REQ_POST, reply_end},
	{NULL},
};

const struct module capture_module = {
	.name = "capture",
	.open = captures_open,
	.close = captures_close,
	.reload = captures_reload,
	.tick = captures_tick,
	.status = captures_status,
	.metrics = captures_metrics,
	.routes = routes,
};
