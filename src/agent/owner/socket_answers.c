// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* What is said of sockets: an event, a list, the words in them, and which of them somebody means. */
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>

#include "agent/internal.h"
#include "agent/owner/owners.h"
#include "agent/owner/sockets_internal.h"
#include "basic/cleanup.h"
#include "basic/text.h"
#include "engine/socket.h"

#define SOCKETS_AT_ONCE 256 /* of a long answer */
#define NEW_SYN_RECV    12  /* a connection request, as the kernel counts states */
#define RTT_NONE        0xffffffffU

/* -- words -- */

const char *socket_event_name(unsigned int event)
{
	static const char *const names[SOCKET_EVENT_COUNT] = {
		[SOCKET_PRESENT] = "present",
		[SOCKET_CREATE] = "create",
		[SOCKET_BIND] = "bind",
		[SOCKET_LISTEN] = "listen",
		[SOCKET_CONNECT] = "connect",
		[SOCKET_ACCEPT] = "accept",
		[SOCKET_CLOSE] = "close",
		[SOCKET_ERROR] = "error",
		[SOCKET_STATE] = "state",
		[SOCKET_PROGRESS] = "progress",
	};

	return event < SOCKET_EVENT_COUNT ? names[event] : "?";
}

const char *socket_error_name(int error)
{
	static const struct {
		int error;
		const char *name;
	} names[] = {
		{ECONNREFUSED, "refused"},
		{ETIMEDOUT, "timeout"},
		{ECONNRESET, "reset"},
		{EPIPE, "reset"}, /* after the other end had closed */
		{EHOSTUNREACH, "unreachable"},
		{ENETUNREACH, "unreachable"},
		{ECANCELED, "abandoned"},
	};
	const char *symbol = strerrorname_np(error);

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (names[i].error == error)
			return names[i].name;
	return symbol ? symbol : "?";
}

static const char *state_name(uint8_t protocol, uint8_t state)
{
	static const char *const names[] = {
		[TCP_ESTABLISHED] = "established",
		[TCP_SYN_SENT] = "syn-sent",
		[TCP_SYN_RECV] = "syn-received",
		[TCP_FIN_WAIT1] = "fin-wait-1",
		[TCP_FIN_WAIT2] = "fin-wait-2",
		[TCP_TIME_WAIT] = "time-wait",
		[TCP_CLOSE] = "closed",
		[TCP_CLOSE_WAIT] = "close-wait",
		[TCP_LAST_ACK] = "last-ack",
		[TCP_LISTEN] = "listening",
		[TCP_CLOSING] = "closing",
		[NEW_SYN_RECV] = "syn-received",
	};

	if (protocol == IPPROTO_UDP)
		return state == TCP_ESTABLISHED ? "connected" : "unconnected";
	return state < sizeof(names) / sizeof(names[0]) && names[state] ? names[state] : "?";
}

static const char *congestion_name(uint8_t state)
{
	static const char *const names[] = {"open", "disorder", "cwr", "recovery", "loss"};

	return state < sizeof(names) / sizeof(names[0]) ? names[state] : "?";
}

/* -- writing -- */

static struct address head_address(const struct socket_head *head, const uint32_t words[4])
{
	struct address address = {.family = head->family};

	memcpy(address.bytes, words, head->family == 4 ? 4 : 16);
	return address;
}

void socket_addresses_write(struct json_write *out, const struct socket_head *head)
{
	struct address local = head_address(head, head->local), remote = head_address(head, head->remote);

	json_write_number(out, "family", head->family);
	answer_protocol(out, head->protocol);
	if (head->lport) { /* else it is not bound yet */
		answer_address(out, "local", &local);
		json_write_number(out, "lport", head->lport);
	}
	if (!head->rport)
		return;
	answer_address(out, "remote", &remote);
	json_write_number(out, "rport", head->rport);
}

static void counts_write(struct json_write *out, const char *key, uint64_t packets, uint64_t bytes)
{
	json_write_object_begin(out, key);
	json_write_number(out, "packets", packets);
	json_write_number(out, "bytes", bytes);
	json_write_object_end(out);
}

bool socket_is_connection(const struct socket_record *record)
{
	const struct socket_head *head = &record->head;

	return head->protocol == IPPROTO_TCP && head->state != TCP_LISTEN && head->before != TCP_LISTEN &&
	       head->state != TCP_TIME_WAIT && head->state != NEW_SYN_RECV;
}

static void figures_write(
	const struct sockets *sockets, struct json_write *out, const struct socket_record *record)
{
	if (record->created_ns) {
		answer_time(out, "created", record->created_ns);
		json_write_real(out, "age", (double)(record->head.time_ns - record->created_ns) / 1e9, 3);
	}
	if (record->counts_packets && record->head.state != TCP_LISTEN && record->head.before != TCP_LISTEN) {
		counts_write(out, "in", record->in_packets, record->in_bytes);
		counts_write(out, "out", record->out_packets, record->out_bytes);
	}
	json_write_number(out, "drops", record->drops);
	if (record->head.protocol == IPPROTO_UDP)
		json_write_number(out, "errors", record->errors);
	if (record->head.state == TCP_LISTEN) {
		json_write_number(out, "queued", record->queued);
		json_write_number(out, "queue_limit", record->queue_limit);
	}
	if (!socket_is_connection(record))
		return;
	if (record->established_ns) {
		answer_time(out, "established", record->established_ns);
		json_write_number(out, "handshake_us", record->handshake_us);
	}
	if (record->srtt_us)
		json_write_number(out, "srtt_us", record->srtt_us);
	if (record->rtt_min_us != RTT_NONE)
		json_write_number(out, "min_rtt_us", record->rtt_min_us);
	json_write_number(out, "retransmits", record->retransmits);
	json_write_number(out, "out_of_order", record->out_of_order);
	if (record->has_life) {
		json_write_number(out, "zero_windows", record->zero_windows_in + record->zero_windows_out);
		json_write_number(out, "zero_windows_in", record->zero_windows_in);
		json_write_number(out, "zero_windows_out", record->zero_windows_out);
	}
	json_write_number(out, "peer_limited_ms", record->peer_limited * sockets->tick_ns / 1000000);
	json_write_number(out, "delivery_bps", record->delivery_bps);
	json_write_string(out, "congestion", congestion_name(record->congestion));
	json_write_number(out, "cwnd", record->cwnd);
}

static void socket_write(const struct sockets *sockets, struct json_write *out,
	const struct socket_record *record, bool closed)
{
	json_write_object_begin(out, NULL);
	if (record->head.cookie)
		json_write_number(out, "cookie", record->head.cookie);
	socket_addresses_write(out, &record->head);
	json_write_string(out, "state", state_name(record->head.protocol, record->head.state));
	if (socket_is_connection(record) && (record->established_ns || record->head.accepted))
		json_write_string(out, "direction", record->head.accepted ? "in" : "out");
	owner_write(sockets->agent, out, record->head.owner);
	if (closed) {
		answer_time(out, "closed", record->head.time_ns);
		if (record->head.error)
			json_write_string(out, "error", socket_error_name(record->head.error));
	}
	figures_write(sockets, out, record);
	json_write_object_end(out);
}

static void present_write(
	const struct sockets *sockets, struct json_write *out, const struct socket_record *record)
{
	socket_write(sockets, out, record, false);
}

static void closed_write(
	const struct sockets *sockets, struct json_write *out, const struct socket_record *record)
{
	socket_write(sockets, out, record, true);
}

static bool is_failed_connect(const struct socket_head *head)
{
	return head->event == SOCKET_CLOSE && head->protocol == IPPROTO_TCP && head->before == TCP_SYN_SENT;
}

void socket_event_write(
	const struct sockets *sockets, struct json_write *out, const struct socket_record *record)
{
	const struct socket_head *head = &record->head;
	bool failed = is_failed_connect(head);

	json_write_object_begin(out, NULL);
	answer_time(out, "time", head->time_ns);
	json_write_string(out, "event", socket_event_name(failed ? SOCKET_CONNECT : head->event));
	json_write_number(out, "cookie", head->cookie);
	socket_addresses_write(out, head);
	owner_write(sockets->agent, out, head->owner);
	if (head->event == SOCKET_STATE) {
		json_write_string(out, "before", state_name(head->protocol, head->before));
		json_write_string(out, "state", state_name(head->protocol, head->state));
	}
	if (head->protocol == IPPROTO_TCP &&
		(head->event == SOCKET_CONNECT || head->event == SOCKET_ACCEPT || failed))
		json_write_number(out, "latency_us", head->latency_us);
	if (head->error)
		json_write_string(out, "error", socket_error_name(head->error));
	if ((head->event == SOCKET_CLOSE || head->event == SOCKET_PROGRESS) && !failed)
		figures_write(sockets, out, record);
	json_write_object_end(out);
}

/* -- matches -- */

bool socket_fits(struct agent *agent, const struct socket_head *head, const struct match *match)
{
	bool in = head->accepted || head->state == TCP_LISTEN || head->before == TCP_LISTEN;
	struct match_subject subject = {
		.direction = in ? MATCH_IN : MATCH_OUT,
		.interface = "",
		.family = head->family,
		.protocol = head->protocol,
		.has_ports = true,
		.icmp_type = -1,
		.vlan = -1,
	};

	subject.source = head_address(head, in ? head->remote : head->local);
	subject.destination = head_address(head, in ? head->local : head->remote);
	subject.source_port = in ? head->rport : head->lport;
	subject.destination_port = in ? head->lport : head->rport;
	if (match->owner.kind != OWNER_ANY)
		subject.owner = owner_identity(agent, head->owner);
	return match_fits(match, &subject);
}

/* -- answers -- */

static int compare_numbers(uint64_t a, uint64_t b)
{
	return (a > b) - (a < b);
}

#define COMPARE_BY(name, expression)                                                                         \
	static uint64_t key_##name(const struct socket_record *record)                                       \
	{                                                                                                    \
		return expression;                                                                           \
	}

COMPARE_BY(bytes, record->in_bytes + record->out_bytes)
COMPARE_BY(in, record->in_bytes)
COMPARE_BY(out, record->out_bytes)
COMPARE_BY(packets, record->in_packets + record->out_packets)
COMPARE_BY(rate, record->delivery_bps)
COMPARE_BY(rtt, record->srtt_us)
COMPARE_BY(retransmits, record->retransmits)
COMPARE_BY(drops, record->drops)
COMPARE_BY(age, record->created_ns ? record->head.time_ns - record->created_ns : record->head.time_ns)
COMPARE_BY(last, record->head.time_ns)
COMPARE_BY(lport, record->head.lport)
COMPARE_BY(rport, record->head.rport)

static const struct socket_sort {
	const char *name;
	uint64_t (*key)(const struct socket_record *record);
	size_t address; /* where there is no key: offset in struct socket_head */
	bool ascending; /* unless asked otherwise */
} sorts[] = {
	{"bytes", key_bytes},
	{"in", key_in},
	{"out", key_out},
	{"packets", key_packets},
	{"rate", key_rate},
	{"rtt", key_rtt},
	{"retransmits", key_retransmits},
	{"drops", key_drops},
	{"age", key_age},
	{"last", key_last},
	{"local", NULL, offsetof(struct socket_head, local), true},
	{"remote", NULL, offsetof(struct socket_head, remote), true},
	{"lport", key_lport, 0, true},
	{"rport", key_rport, 0, true},
};

#define SORT_COUNT (sizeof(sorts) / sizeof(sorts[0]))

struct socket_query {
	struct match match;
	const struct socket_sort *sort;
	bool ascending, closed, states;
	uint64_t limit;
};

static int compare_records(const void *left, const void *right, void *context)
{
	const struct socket_record *a = *(const struct socket_record *const *)left,
				   *b = *(const struct socket_record *const *)right;
	const struct socket_query *query = context;
	const struct socket_sort *sort = query->sort;
	int result;

	if (sort->key) {
		result = compare_numbers(sort->key(a), sort->key(b));
	} else {
		struct address address_a =
			head_address(&a->head, (const uint32_t *)((const char *)&a->head + sort->address));
		struct address address_b =
			head_address(&b->head, (const uint32_t *)((const char *)&b->head + sort->address));

		result = address_compare(&address_a, &address_b);
	}
	if (!query->ascending)
		result = -result;
	return result ? result : compare_numbers(a->head.cookie, b->head.cookie);
}

static int sort_parse(const char *text, struct socket_query *query, struct error *error)
{
	const char *known[SORT_COUNT + 1] = {}, *near;

	for (size_t i = 0; i < SORT_COUNT; i++) {
		known[i] = sorts[i].name;
		if (strcmp(text, sorts[i].name) == 0) {
			query->sort = &sorts[i];
			query->ascending = sorts[i].ascending;
			return 0;
		}
	}
	error_set(error, -EINVAL, "cannot sort by '%s'", text);
	near = text_nearest(text, known);
	if (near)
		return error_want(error, "did you mean '%s'?", near);
	return error_want(error, "see the list of sort keys in weir(8)");
}

static int boolean_parse(const char *name, const char *text, bool *ret_value, struct error *error)
{
	if (strcmp(text, "true") == 0 || strcmp(text, "false") == 0) {
		*ret_value = *text == 't';
		return 0;
	}
	error_set(error, -EINVAL, "%s: expected true or false, got '%s'", name, text);
	return error_want(error, "%s=true", name);
}

static int limit_parse(const char *text, uint64_t *ret_limit, struct error *error)
{
	char *end;

	errno = 0;
	*ret_limit = strtoull(text, &end, 10);
	if (*text >= '0' && *text <= '9' && !*end && !errno)
		return 0;
	error_set(error, -EINVAL, "the limit '%s' is not a number", text);
	return error_want(error, "a whole number");
}

/* Lists and feeds have parameters of their own. */
static int query_read(struct evhttp_request *request, const char *const *parameters,
	struct socket_query *ret_query, struct error *error)
{
	struct socket_query query = {.sort = &sorts[0], .limit = UINT64_MAX};
	const char *text = query_of(request);
	int r = query_check(text, parameters, error);

	match_init(&query.match);
	for (size_t i = 0; parameters[i] && r == 0; i++) {
		_cleanup_free_ char *value = query_value(text, parameters[i]);

		if (!value)
			continue;
		if (strcmp(parameters[i], "filter") == 0) {
			r = match_parse(value, &query.match, error);
		} else if (strcmp(parameters[i], "sort") == 0) {
			r = sort_parse(value, &query, error);
		} else if (strcmp(parameters[i], "limit") == 0) {
			r = limit_parse(value, &query.limit, error);
		} else if (strcmp(parameters[i], "closed") == 0) {
			r = boolean_parse("closed", value, &query.closed, error);
		} else if (strcmp(parameters[i], "states") == 0) {
			r = boolean_parse("states", value, &query.states, error);
		} else if (strcmp(value, "ascending") == 0 || strcmp(value, "descending") == 0) {
			query.ascending = *value == 'a'; /* order stands behind sort */
		} else {
			error_set(error, -EINVAL, "unknown order '%s'", value);
			r = error_want(error, "ascending or descending");
		}
	}
	if (r < 0)
		return r;
	*ret_query = query;
	return 0;
}

static void losses_write(struct sockets *sockets, struct json_write *out)
{
	struct socket_stats stats;

	engine_socket_stats(sockets->agent->engine, &stats);
	json_write_object_begin(out, "losses");
	json_write_number(out, "records", stats.records);
	json_write_number(out, "lost", stats.lost);
	json_write_number(out, "missed", stats.missed);
	json_write_number(out, "unremembered", stats.unremembered);
	json_write_number(out, "unlisted", sockets->unlisted);
	json_write_object_end(out);
}

/* A list on its way out: copies, because what is present or remembered changes meanwhile. */
struct socket_list {
	struct sockets *sockets;
	const char *name; /* of the list in the document */
	void (*write)(
		const struct sockets *sockets, struct json_write *out, const struct socket_record *record);
	bool begun;
	size_t next, count;
	struct socket_record records[];
};

static bool list_write(void *context, struct json_write *out)
{
	struct socket_list *list = context;
	size_t end = list->next + SOCKETS_AT_ONCE < list->count ? list->next + SOCKETS_AT_ONCE : list->count;

	if (!list->begun) {
		json_write_object_begin(out, NULL);
		json_write_array_begin(out, list->name);
		list->begun = true;
	}
	for (; list->next < end; list->next++) {
		list->write(list->sockets, out, &list->records[list->next]);
		json_write_newline(out);
	}
	if (list->next < list->count)
		return true;
	json_write_array_end(out);
	losses_write(list->sockets, out);
	json_write_object_end(out);
	json_write_newline(out);
	return false;
}

/* The list of these; NULL without memory. */
static struct socket_list *list_new(
	struct sockets *sockets, const char *name, const struct socket_record *const *records, size_t count)
{
	struct socket_list *list = malloc(sizeof(*list) + count * sizeof(list->records[0]));

	if (!list)
		return NULL;
	*list = (struct socket_list){
		.sockets = sockets, .name = name, .write = socket_event_write, .count = count};
	for (size_t i = 0; i < count; i++)
		list->records[i] = *records[i];
	return list;
}

/* Those that fit, sorted. */
static int records_select(struct sockets *sockets, struct socket_query *query, struct socket_list **ret_list)
{
	size_t room = query->closed ? sockets->room : sockets->present_count, count = 0;
	_cleanup_free_ const struct socket_record **records =
		calloc(room + 1, sizeof(struct socket_record *));

	if (!records)
		return -ENOMEM;
	for (size_t i = 0; i < room; i++) {
		const struct socket_record *record =
			query->closed ? sockets_remembered_at(sockets, i) : &sockets->present[i];

		if (!record)
			break;
		if (query->closed && record->head.event != SOCKET_CLOSE)
			continue;
		if (socket_fits(sockets->agent, &record->head, &query->match))
			records[count++] = record;
	}
	qsort_r(records, count, sizeof(struct socket_record *), compare_records, query);
	*ret_list = list_new(sockets, "sockets", records, count < query->limit ? count : query->limit);
	if (!*ret_list)
		return -ENOMEM;
	(*ret_list)->write = query->closed ? closed_write : present_write;
	return 0;
}

static void reply_sockets(struct agent *agent, struct evhttp_request *request)
{
	static const char *const parameters[] = {"filter", "sort", "order", "limit", "closed", NULL};
	struct sockets *sockets = sockets_state(agent);
	struct socket_list *list = NULL;
	struct socket_query query;
	struct error error = {};
	int r;

	if (query_read(request, parameters, &query, &error) < 0) {
		reply_bad_request(request, &error);
		return;
	}
	sockets_refresh(agent);
	r = query.closed ? 0 : sockets_read_present(sockets, 0);
	if (r == 0)
		r = records_select(sockets, &query, &list);
	if (r < 0)
		reply_failure(request, r);
	else
		reply_parts(request, list_write, free, list);
}

static bool wish_fits(const void *context, const void *event)
{
	const struct socket_query *query = context;
	const struct socket_told *told = event;

	if (told->record->head.event == SOCKET_STATE && !query->states)
		return false;
	return socket_fits(told->agent, &told->record->head, &query->match);
}

static void reply_events(struct agent *agent, struct evhttp_request *request)
{
	static const char *const parameters[] = {"filter", "states", NULL};
	struct sockets *sockets = sockets_state(agent);
	struct socket_query *query = malloc(sizeof(*query));
	struct error error = {};

	if (!query) {
		reply_failure(request, -ENOMEM);
		return;
	}
	if (query_read(request, parameters, query, &error) < 0) {
		free(query);
		reply_bad_request(request, &error);
		return;
	}
	sockets_refresh(agent); /* what was before is not news */
	feed_follow(sockets->feed, request, wish_fits, query);
	sockets_hurry(agent);
}

/* The last `limit` that are remembered and fit, in the order of time, as the feed told them. */
static struct socket_list *history_select(struct sockets *sockets, const struct socket_query *query)
{
	const struct socket_record **records = calloc(sockets->room, sizeof(struct socket_record *));
	const struct socket_record *record;
	struct socket_list *list;
	size_t count = 0, first;

	if (!records)
		return NULL;
	for (size_t i = 0; (record = sockets_remembered_at(sockets, i)); i++)
		if (wish_fits(query, &(struct socket_told){sockets->agent, record}))
			records[count++] = record;
	first = count > query->limit ? count - query->limit : 0;
	list = list_new(sockets, "events", records + first, count - first);
	free(records);
	return list;
}

static void reply_history(struct agent *agent, struct evhttp_request *request)
{
	static const char *const parameters[] = {"filter", "limit", "states", NULL};
	struct sockets *sockets = sockets_state(agent);
	struct socket_list *list;
	struct socket_query query;
	struct error error = {};

	if (query_read(request, parameters, &query, &error) < 0) {
		reply_bad_request(request, &error);
		return;
	}
	sockets_refresh(agent);
	list = history_select(sockets, &query);
	if (list)
		reply_parts(request, list_write, free, list);
	else
		reply_failure(request, -ENOMEM);
}

const struct route sockets_routes[] = {
	{"/v1/sockets", EVHTTP_REQ_GET, reply_sockets},
	{"/v1/sockets/events", EVHTTP_REQ_GET, reply_events},
	{"/v1/sockets/history", EVHTTP_REQ_GET, reply_history},
	{NULL},
};
