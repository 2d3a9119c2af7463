// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* Traces: reading what a client asks for, and telling what the kernel measured (docs/api.md). */
#include "agent/probe/traces.h"

#include <event2/buffer.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "agent/internal.h"
#include "agent/owner/owners.h"
#include "basic/cleanup.h"
#include "basic/text.h"
#include "basic/units.h"
#include "engine/histogram.h"
#include "engine/trace.h"

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

#define TRACES_MAX  8
#define TICK_NS     50000000ULL
#define INTERVAL_NS 1000000000ULL /* between two histograms */
#define SHORTEST_NS 100000000ULL
#define LONGEST_NS  (24 * 3600 * 1000000000ULL)
#define NS_PER_US   1000.0

struct traces;

struct trace {
	struct traces *traces;
	unsigned int slot;
	const struct trace_probe *probe;
	struct trace_options options;
	struct engine_trace *kernel;
	struct feed *feed;
	struct event *timer;
	pid_t client;
	uint64_t started_ns, next_ns, interval_ns, for_ns;
	uint64_t told_limited, told_lost;
};

struct traces {
	struct agent *agent;
	struct trace *running[TRACES_MAX];  /* NULL: free */
	uint64_t started, events, left_out; /* of all that were, and are no more */
};

static struct traces *traces_of(struct agent *agent)
{
	return module_state(agent, &trace_module);
}

/* -- words -- */

static const char *const by_words[] = {
	[TRACE_BY_NOTHING] = "nothing",
	[TRACE_BY_OWNER] = "owner",
	[TRACE_BY_INTERFACE] = "interface",
	[TRACE_BY_REMOTE] = "remote",
	[TRACE_BY_CPU] = "cpu",
	NULL,
};

static const uint32_t by_needs[] = {
	[TRACE_BY_OWNER] = TRACE_KNOWS_OWNER,
	[TRACE_BY_INTERFACE] = TRACE_KNOWS_INTERFACE,
	[TRACE_BY_REMOTE] = TRACE_KNOWS_FLOW,
	[TRACE_BY_CPU] = 0,
};

static const char *const unit_words[] = {
	[TRACE_UNIT_NS] = "us",
	[TRACE_UNIT_BYTES] = "bytes",
	[TRACE_UNIT_PACKETS] = "packets",
	[TRACE_UNIT_COUNT] = "count",
};

static void write_value(
	struct json_write *out, const char *key, const struct trace_probe *probe, double value)
{
	if (probe->unit == TRACE_UNIT_NS)
		json_write_real(out, key, value / NS_PER_US, 3);
	else
		json_write_number(out, key, (uint64_t)value);
}

/* -- events -- */

static void write_end(struct json_write *out, const char *address_key, const char *port_key,
	const struct trace_flow *flow, const __be32 words[4], __be16 port)
{
	struct address address = {.family = flow->family};

	memcpy(address.bytes, words, flow->family == 4 ? 4 : 16);
	answer_address(out, address_key, &address);
	if (port)
		json_write_number(out, port_key, ntohs(port));
}

static void write_flow(struct json_write *out, const struct trace_flow *flow)
{
	static const __be32 nobody[4];

	if (flow->family != 4 && flow->family != 6)
		return;
	json_write_number(out, "family", flow->family);
	if (flow->proto)
		answer_protocol(out, flow->proto);
	if (flow->proto || memcmp(flow->src, nobody, sizeof(nobody)) != 0)
		write_end(out, "src", "sport", flow, flow->src, flow->sport);
	write_end(out, "dst", "dport", flow, flow->dst, flow->dport);
}

static void write_interface(struct json_write *out, uint32_t index)
{
	char name[IF_NAMESIZE];

	if (index && if_indextoname(index, name))
		json_write_string(out, "interface", name);
}

static void write_detail(struct json_write *out, const struct trace_probe *probe, int32_t detail)
{
	const char *word;

	switch (probe->detail) {
	case TRACE_DETAIL_NONE:
		break;
	case TRACE_DETAIL_WORD:
		word = detail >= 0 && (unsigned int)detail < probe->word_count ? probe->words[detail] : NULL;
		if (word)
			json_write_string(out, probe->detail_name, word);
		break;
	case TRACE_DETAIL_ERROR:
		if (detail > 0)
			json_write_string(out, probe->detail_name, strerror(detail));
		break;
	case TRACE_DETAIL_NUMBER:
		if (detail >= 0)
			json_write_number(out, probe->detail_name, (uint64_t)detail);
		break;
	}
}

static void tell_event(void *context, const struct trace_record *record)
{
	struct trace *trace = context;
	const struct trace_sample *sample = &record->sample;
	struct json_write json = {};

	json_write_object_begin(&json, NULL);
	answer_time(&json, "time", record->time_ns);
	json_write_string(&json, "probe", trace->probe->name);
	write_value(&json, "value", trace->probe, (double)sample->value);
	json_write_string(&json, "unit", unit_words[trace->probe->unit]);
	write_detail(&json, trace->probe, sample->detail);
	write_flow(&json, &sample->flow);
	write_interface(&json, sample->interface);
	json_write_number(&json, "cpu", record->cpu);
	if (sample->owner != TRACE_NO_OWNER)
		owner_write(trace->traces->agent, &json, sample->owner);
	json_write_object_end(&json);
	feed_publish(trace->feed, NULL, &json);
	json_write_free(&json);
}

/* What was left out since it was last told. */
static void tell_missed(struct trace *trace)
{
	struct json_write json = {};
	struct trace_stats stats;

	if (engine_trace_stats(trace->kernel, &stats) < 0 ||
		(stats.limited == trace->told_limited && stats.lost == trace->told_lost))
		return;
	json_write_object_begin(&json, NULL);
	json_write_object_begin(&json, "missed");
	json_write_number(&json, "limited", stats.limited - trace->told_limited);
	json_write_number(&json, "no_room", stats.lost - trace->told_lost);
	json_write_object_end(&json);
	json_write_object_end(&json);
	feed_publish(trace->feed, NULL, &json);
	json_write_free(&json);
	trace->told_limited = stats.limited;
	trace->told_lost = stats.lost;
}

/* -- histograms -- */

struct histogram_writer {
	struct trace *trace;
	struct json_write json;
};

static void write_key(struct agent *agent, struct json_write *out, const struct trace_key *key)
{
	struct address address = {.family = key->kind == TRACE_KEY_REMOTE4 ? 4 : 6};

	switch (key->kind) {
	case TRACE_KEY_OWNER:
		owner_write(agent, out, key->words[0]);
		break;
	case TRACE_KEY_INTERFACE:
		write_interface(out, key->words[0]);
		break;
	case TRACE_KEY_REMOTE4:
	case TRACE_KEY_REMOTE6:
		memcpy(address.bytes, key->words, address.family == 4 ? 4 : 16);
		answer_address(out, "remote", &address);
		break;
	case TRACE_KEY_CPU:
		json_write_number(out, "cpu", key->words[0]);
		break;
	case TRACE_KEY_OTHER:
		json_write_boolean(out, "other", true);
		break;
	default:
		break;
	}
}

static void write_histogram(
	void *context, const struct trace_key *key, const struct trace_histogram *histogram)
{
	static const struct {
		const char *name;
		double percent;
	} percentiles[] = {{"p50", 50}, {"p90", 90}, {"p99", 99}};
	struct histogram_writer *writer = context;
	struct json_write *out = &writer->json;
	const struct trace_probe *probe = writer->trace->probe;

	if (!histogram->count && key->kind != TRACE_KEY_ALL)
		return;
	json_write_object_begin(out, NULL);
	write_key(writer->trace->traces->agent, out, key);
	json_write_number(out, "count", histogram->count);
	if (histogram->count) {
		double mean = (double)histogram->sum / (double)histogram->count;

		write_value(out, "sum", probe, (double)histogram->sum);
		json_write_real(out, "mean", probe->unit == TRACE_UNIT_NS ? mean / NS_PER_US : mean, 3);
		for (size_t i = 0; i < COUNT_OF(percentiles); i++)
			write_value(out, percentiles[i].name, probe,
				(double)histogram_percentile(histogram, percentiles[i].percent));
		write_value(out, "max", probe, (double)histogram->max);
	}
	json_write_array_begin(out, "buckets");
	for (uint32_t i = 0; i < TRACE_BUCKETS; i++) {
		if (!histogram->buckets[i])
			continue;
		json_write_object_begin(out, NULL);
		write_value(out, "from", probe, (double)trace_bucket_low(i));
		write_value(out, "to", probe, (double)trace_bucket_low(i + 1));
		json_write_number(out, "count", histogram->buckets[i]);
		json_write_object_end(out);
	}
	json_write_array_end(out);
	json_write_object_end(out);
}

static void tell_histograms(struct trace *trace, uint64_t now_ns, bool last)
{
	struct histogram_writer writer = {.trace = trace};
	struct json_write *out = &writer.json;
	struct trace_stats stats = {};

	engine_trace_stats(trace->kernel, &stats);
	json_write_object_begin(out, NULL);
	answer_time(out, "time", now_ns);
	json_write_string(out, "probe", trace->probe->name);
	json_write_string(out, "unit", unit_words[trace->probe->unit]);
	json_write_real(out, "seconds", (double)(now_ns - trace->started_ns) / 1e9, 3);
	json_write_array_begin(out, "histograms");
	engine_trace_histograms(trace->kernel, write_histogram, &writer);
	json_write_array_end(out);
	json_write_number(out, "unstarted", stats.unstarted);
	if (last)
		json_write_boolean(out, "last", true);
	json_write_object_end(out);
	feed_publish(trace->feed, NULL, out);
	json_write_free(out);
}

/* -- a trace's life -- */

static void trace_free(struct trace *trace)
{
	struct traces *traces = trace->traces;
	struct trace_stats stats;

	traces->running[trace->slot] = NULL;
	if (trace->kernel && engine_trace_stats(trace->kernel, &stats) == 0) {
		traces->events += stats.emitted;
		traces->left_out += stats.limited + stats.lost;
	}
	engine_trace_close(trace->kernel);
	if (trace->timer)
		event_free(trace->timer);
	feed_free(trace->feed);
	free(trace);
}

static void on_empty(void *context)
{
	trace_free(context);
}

static void on_tick(evutil_socket_t fd, short what, void *context)
{
	struct trace *trace = context;
	uint64_t now_ns = agent_now_ns();
	bool over = trace->for_ns && now_ns - trace->started_ns >= trace->for_ns;

	(void)fd;
	(void)what;
	if (!trace->options.histogram)
		engine_trace_read(trace->kernel, tell_event, trace);
	if (now_ns >= trace->next_ns || over) {
		trace->next_ns = now_ns + trace->interval_ns;
		if (trace->options.histogram)
			tell_histograms(trace, now_ns, over);
		else
			tell_missed(trace);
	}
	if (over)
		trace_free(trace);
}

/* -- what is asked for -- */

static int refuse_filter(struct error *error, const char *what, const struct trace_probe *probe)
{
	error_set(error, -EINVAL, "a trace of %s cannot be narrowed by %s", probe->name, what);
	return error_want(error, "protocol, from, to, host and port where the probe knows the flow, by OWNER "
				 "where it knows the socket, on INTERFACE where it knows that");
}

static void filter_end(struct trace_end *ret, const struct endpoint *end)
{
	ret->has_address = end->has_prefix;
	for (unsigned int bit = 0; end->has_prefix && bit < end->prefix.length; bit++)
		((uint8_t *)ret->mask)[bit / 8] |= (uint8_t)(0x80 >> bit % 8);
	memcpy(ret->address, end->prefix.address.bytes, sizeof(ret->address));
	ret->range_count = end->port_count;
	for (unsigned int i = 0; i < end->port_count; i++)
		ret->ranges[i] = (struct trace_range){end->ports[i].low, end->ports[i].high};
}

_Static_assert(TRACE_RANGES_MAX >= MATCH_PORT_RANGES_MAX, "room for every port of a sentence");

static int filter_owner(struct trace_filter *filter, const struct owner_match *owner,
	const struct trace_probe *probe, struct error *error)
{
	static const uint32_t kinds[] = {
		[OWNER_PID] = TRACE_OWNER_PID,
		[OWNER_USER] = TRACE_OWNER_UID,
		[OWNER_GROUP] = TRACE_OWNER_GID,
		[OWNER_EXE] = TRACE_OWNER_EXE,
		[OWNER_CGROUP] = TRACE_OWNER_CGROUP,
		[OWNER_UNIT] = TRACE_OWNER_UNIT,
		[OWNER_CONTAINER] = TRACE_OWNER_CONTAINER,
		[OWNER_POD] = TRACE_OWNER_ANY,
	};

	if (owner->kind == OWNER_ANY)
		return 0;
	if (!(probe->knows & TRACE_KNOWS_OWNER))
		return refuse_filter(error, "an owner", probe);
	filter->owner_kind = kinds[owner->kind];
	filter->owner_number = owner->number;
	filter->owner_hash = owner_hash(owner->text, strlen(owner->text));
	if (filter->owner_kind == TRACE_OWNER_ANY)
		return refuse_filter(error, "a pod", probe);
	if (owner->kind == OWNER_CONTAINER && strlen(owner->text) != 64) {
		error_set(error, -EINVAL, "a trace compares containers by their whole id");
		return error_want(error, "all of its 64 digits");
	}
	return 0;
}

static int filter_read(struct agent *agent, const char *text, const struct trace_probe *probe,
	struct trace_filter *ret_filter, struct error *error)
{
	struct trace_filter filter = {.on = 1, .protocol = -1};
	struct match match;
	bool flow;
	int r = match_parse(text, &match, error);

	if (r < 0)
		return r;
	if (match.direction != MATCH_BOTH)
		return refuse_filter(error, "a direction", probe);
	if (match.tcp_flags)
		return refuse_filter(error, "TCP flags", probe);
	if (match.icmp_type >= 0)
		return refuse_filter(error, "an ICMP type", probe);
	if (match.vlan >= 0)
		return refuse_filter(error, "a VLAN", probe);
	if (match.fragment)
		return refuse_filter(error, "fragments", probe);
	if (match.interface[0]) {
		if (!(probe->knows & TRACE_KNOWS_INTERFACE))
			return refuse_filter(error, "an interface", probe);
		filter.interface = if_nametoindex(match.interface);
		if (!filter.interface)
			return error_set(error, -ENODEV, "there is no interface '%s'", match.interface);
	}
	filter.family = match.family;
	filter.protocol = match.protocol;
	filter_end(&filter.from, &match.from);
	filter_end(&filter.to, &match.to);
	filter_end(&filter.either, &match.either);
	flow = match.family || match.protocol >= 0 || match.from.has_prefix || match.from.port_count ||
	       match.to.has_prefix || match.to.port_count || match.either.has_prefix ||
	       match.either.port_count;
	if (flow && !(probe->knows & TRACE_KNOWS_FLOW))
		return refuse_filter(error, "a flow", probe);
	r = filter_owner(&filter, &match.owner, probe, error);
	if (r == 0)
		r = owner_expect(agent, &match.owner, error);
	if (r < 0)
		return r;
	*ret_filter = filter;
	return 0;
}

static int duration_read(const char *query, const char *name, uint64_t *ret_ns, struct error *error)
{
	_cleanup_free_ char *text = query_value(query, name);
	uint64_t ns;

	if (!text)
		return 0;
	if (duration_parse(text, &ns) < 0 || ns < SHORTEST_NS || ns > LONGEST_NS) {
		error_set(error, -EINVAL, "%s: '%.64s' is not a time to wait", name, text);
		return error_want(error, "100ms to 24h, such as 5s");
	}
	*ret_ns = ns;
	return 0;
}

static int by_read(const char *query, struct trace *trace, struct error *error)
{
	_cleanup_free_ char *text = query_value(query, "by");
	const char *near;

	if (!text)
		return 0;
	if (!trace->options.histogram) {
		error_set(error, -EINVAL, "'by' is for histograms");
		return error_want(error, "histogram=1");
	}
	for (uint32_t by = TRACE_BY_OWNER; by_words[by]; by++) {
		if (strcmp(text, by_words[by]) != 0)
			continue;
		if ((trace->probe->knows & by_needs[by]) != by_needs[by]) {
			error_set(error, -EINVAL, "%s does not know the %s", trace->probe->name, text);
			return error_want(error, "'weir trace list' says what each probe knows");
		}
		trace->options.by = by;
		return 0;
	}
	error_set(error, -EINVAL, "by: unknown word '%.64s'", text);
	near = text_nearest(text, by_words + TRACE_BY_OWNER);
	if (near)
		return error_want(error, "did you mean '%s'?", near);
	return error_want(error, "owner, interface, remote or cpu");
}

static int trace_read_query(const char *query, struct trace *trace, struct error *error)
{
	static const char *const names[] = {"probe", "histogram", "by", "interval", "for", "filter", NULL};
	_cleanup_free_ char *probe = NULL, *histogram = NULL, *filter = NULL;
	int r = query_check(query, names, error);

	if (r < 0)
		return r;
	probe = query_value(query, "probe");
	histogram = query_value(query, "histogram");
	filter = query_value(query, "filter");
	if (!probe) {
		error_set(error, -EINVAL, "no probe is named");
		return error_want(error, "probe=tcp.rtt, or another one of GET /v1/trace");
	}
	trace->probe = engine_trace_find(probe, error);
	if (!trace->probe)
		return error->code;
	if (histogram && strcmp(histogram, "1") != 0 && strcmp(histogram, "0") != 0) {
		error_set(error, -EINVAL, "histogram: '%.64s' is neither 0 nor 1", histogram);
		return error_want(error, "histogram=1");
	}
	trace->options.histogram = histogram && *histogram == '1';
	r = by_read(query, trace, error);
	if (r == 0)
		r = duration_read(query, "interval", &trace->interval_ns, error);
	if (r == 0)
		r = duration_read(query, "for", &trace->for_ns, error);
	if (r == 0 && filter && *filter)
		r = filter_read(trace->traces->agent, filter, trace->probe, &trace->options.filter, error);
	return r;
}

/* -- replies -- */

static int trace_start(struct agent *agent, struct trace *trace, struct error *error)
{
	static const struct timeval tick = {0, TICK_NS / 1000};

	trace->feed = feed_new(agent);
	trace->timer = event_new(agent->base, -1, EV_PERSIST, on_tick, trace);
	if (!trace->feed || !trace->timer || event_add(trace->timer, &tick) < 0)
		return error_set(error, -ENOMEM, "out of memory");
	trace->started_ns = agent_now_ns();
	trace->next_ns = trace->started_ns + trace->interval_ns;
	return engine_trace_open(agent->engine, trace->probe, &trace->options, &trace->kernel, error);
}

static void reply_refusal(struct evhttp_request *request, const struct error *error)
{
	if (error->code == -ENOMEM)
		reply_failure(request, error->code);
	else
		reply_bad_request(request, error);
}

static void reply_start(struct agent *agent, struct evhttp_request *request)
{
	struct traces *traces = traces_of(agent);
	struct trace *trace = calloc(1, sizeof(*trace));
	struct error error = {};

	if (!trace) {
		reply_failure(request, -ENOMEM);
		return;
	}
	*trace = (struct trace){.traces = traces, .interval_ns = INTERVAL_NS, .client = request_pid(request)};
	if (trace_read_query(query_of(request), trace, &error) < 0) {
		reply_refusal(request, &error);
		free(trace);
		return;
	}
	while (trace->slot < TRACES_MAX && traces->running[trace->slot])
		trace->slot++;
	if (trace->slot == TRACES_MAX) {
		error_set(&error, -EBUSY, "%d traces are running already", TRACES_MAX);
		error_want(&error, "end one of them; 'weir status' lists them");
		reply_error(request, HTTP_SERVUNAVAIL, "Service Unavailable", &error);
		free(trace);
		return;
	}
	traces->running[trace->slot] = trace;
	if (trace_start(agent, trace, &error) < 0) {
		reply_refusal(request, &error);
		trace_free(trace);
		return;
	}
	traces->started++;
	feed_when_empty(trace->feed, on_empty, trace);
	feed_follow(trace->feed, request, NULL, NULL);
	if (!feed_has_followers(trace->feed)) /* there was no memory for it */
		trace_free(trace);
}

static void write_knows(struct json_write *out, uint32_t knows)
{
	static const struct {
		uint32_t bit;
		const char *word;
	} words[] = {{TRACE_KNOWS_FLOW, "flow"}, {TRACE_KNOWS_OWNER, "owner"},
		{TRACE_KNOWS_INTERFACE, "interface"}};

	json_write_array_begin(out, "knows");
	for (size_t i = 0; i < COUNT_OF(words); i++)
		if (knows & words[i].bit)
			json_write_string(out, NULL, words[i].word);
	json_write_array_end(out);
}

static void reply_list(struct agent *agent, struct evhttp_request *request)
{
	size_t count;
	const struct trace_probe *probes = engine_trace_probes(&count);
	struct json_write json = {};
	struct error error = {};
	char missing[ERROR_TEXT_MAX];
	const char *last;

	if (query_check(query_of(request), (const char *const[]){NULL}, &error) < 0) {
		reply_bad_request(request, &error);
		return;
	}
	json_write_object_begin(&json, NULL);
	json_write_array_begin(&json, "probes");
	for (size_t i = 0; i < count; i++) {
		bool found = engine_trace_has(agent->engine, &probes[i], missing, sizeof(missing));

		json_write_object_begin(&json, NULL);
		json_write_string(&json, "name", probes[i].name);
		json_write_string(&json, "what", probes[i].what);
		json_write_string(&json, "unit", unit_words[probes[i].unit]);
		json_write_array_begin(&json, "attach");
		last = "";
		for (unsigned int j = 0; j < TRACE_PROGRAMS_MAX && probes[i].programs[j]; j++) {
			const char *place = engine_trace_place(&probes[i], j);

			if (strcmp(place, last) != 0)
				json_write_string(&json, NULL, place);
			last = place;
		}
		json_write_array_end(&json);
		write_knows(&json, probes[i].knows);
		json_write_boolean(&json, "found", found);
		if (!found)
			json_write_string(&json, "missing", missing);
		json_write_object_end(&json);
	}
	json_write_array_end(&json);
	json_write_object_end(&json);
	reply_json(request, HTTP_OK, "OK", &json);
	json_write_free(&json);
}

/* -- the module -- */

static int traces_open(struct agent *agent, void **ret_state, struct error *error)
{
	struct traces *traces = *ret_state = calloc(1, sizeof(*traces));

	if (!traces)
		return error_set(error, -ENOMEM, "out of memory");
	traces->agent = agent;
	return 0;
}

static void traces_close(void *state)
{
	struct traces *traces = state;

	for (unsigned int i = 0; i < TRACES_MAX; i++)
		if (traces->running[i])
			trace_free(traces->running[i]);
	free(traces);
}

static void write_running(struct json_write *out, const struct trace *trace)
{
	struct trace_stats stats = {};

	engine_trace_stats(trace->kernel, &stats);
	json_write_object_begin(out, NULL);
	json_write_string(out, "probe", trace->probe->name);
	json_write_boolean(out, "histogram", trace->options.histogram);
	answer_time(out, "since", trace->started_ns);
	if (trace->client > 0)
		json_write_number(out, "client", (uint64_t)trace->client);
	json_write_number(out, "samples", stats.samples);
	json_write_number(out, "left_out", stats.limited + stats.lost);
	json_write_object_end(out);
}

static void traces_status(struct agent *agent, void *state, struct json_write *out)
{
	const struct traces *traces = state;

	(void)agent;
	json_write_array_begin(out, "traces");
	for (unsigned int i = 0; i < TRACES_MAX; i++)
		if (traces->running[i])
			write_running(out, traces->running[i]);
	json_write_array_end(out);
}

static void write_metric(
	struct evbuffer *out, const char *name, const char *type, const char *help, uint64_t value)
{
	evbuffer_add_printf(
		out, "# HELP %s %s\n# TYPE %s %s\n%s %" PRIu64 "\n", name, help, name, type, name, value);
}

static void traces_metrics(struct agent *agent, void *state, struct evbuffer *out)
{
	const struct traces *traces = state;
	uint64_t events = traces->events, left_out = traces->left_out, count = 0;

	(void)agent;
	for (unsigned int i = 0; i < TRACES_MAX; i++) {
		struct trace_stats stats = {};

		if (!traces->running[i])
			continue;
		engine_trace_stats(traces->running[i]->kernel, &stats);
		events += stats.emitted;
		left_out += stats.limited + stats.lost;
		count++;
	}
	write_metric(out, "weir_traces", "gauge", "Traces that are running.", count);
	write_metric(
		out, "weir_traces_started_total", "counter", "Traces that were started.", traces->started);
	write_metric(out, "weir_trace_events_total", "counter", "Events that traces told.", events);
	write_metric(out, "weir_trace_events_left_out_total", "counter",
		"Events above the rate of a trace, or without room in its ring.", left_out);
}

static const struct route trace_routes[] = {
	{"/v1/trace", EVHTTP_REQ_GET, reply_list},
	{"/v1/trace", EVHTTP_REQ_POST, reply_start},
	{NULL},
};

const struct module trace_module = {
	.name = "trace",
	.open = traces_open,
	.close = traces_close,
	.status = traces_status,
	.metrics = traces_metrics,
	.routes = trace_routes,
};
