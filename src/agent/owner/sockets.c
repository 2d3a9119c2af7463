// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* Events of sockets on their way to whoever follows, and the sockets that there are. */
#include "agent/owner/sockets_internal.h"

#include <event2/buffer.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>

#include "agent/internal.h"
#include "agent/owner/audit.h"
#include "agent/owner/owners.h"
#include "engine/socket.h"

#define PRESENT_MAX    65536 /* sockets of a list */
#define PRESENT_OLD_NS 1000000000ULL
#define LOOK_NS        1000000000ULL /* time between two looks for connections that go on */
#define PROCESS_WAYS   4

struct sockets *sockets_state(const struct agent *agent)
{
	return module_state(agent, &sockets_module);
}

/* -- events -- */

/* A socket of IPv6 that speaks IPv4 (::ffff:0:0/96) has addresses of IPv4. */
static void unmap(struct socket_head *head)
{
	const uint32_t mark = htonl(0xffff);
	bool local = !head->local[0] && !head->local[1] && head->local[2] == mark,
	     remote = !head->remote[0] && !head->remote[1] && head->remote[2] == mark;

	if (head->family != 6 || (!local && !remote))
		return;
	head->family = 4;
	head->local[0] = local ? head->local[3] : 0;
	head->remote[0] = remote ? head->remote[3] : 0;
	memset(head->local + 1, 0, 3 * sizeof(head->local[0]));
	memset(head->remote + 1, 0, 3 * sizeof(head->remote[0]));
}

/* The entry of a process; if it has none and is to be made, it takes the place of the one least used. */
static struct process *process_get(struct sockets *sockets, uint32_t pid, uint64_t start_ns, bool make)
{
	uint64_t hash = (start_ns ^ (uint64_t)pid << 32) * 0x9e3779b97f4a7c15ULL;
	struct process *set = &sockets->processes[(hash >> 40) % (PROCESSES / PROCESS_WAYS) * PROCESS_WAYS];
	struct process *oldest = set;

	for (size_t i = 0; i < PROCESS_WAYS; i++) {
		if (set[i].pid == pid && set[i].start_ns == start_ns) {
			set[i].used = ++sockets->uses;
			return &set[i];
		}
		if (set[i].used < oldest->used)
			oldest = &set[i];
	}
	if (!make)
		return NULL;
	*oldest = (struct process){.pid = pid, .start_ns = start_ns, .used = ++sockets->uses};
	return oldest;
}

static void process_add(struct sockets *sockets, const struct socket_record *record)
{
	const struct owner *owner;
	struct process *process;

	if (!socket_is_connection(record))
		return;
	owner = owner_identity(sockets->agent, record->head.owner);
	if (!owner)
		return;
	process = process_get(sockets, owner->key.pid, owner->key.start_ns, true);
	process->opened++;
	process->retransmits += record->retransmits;
}

static void publish(struct sockets *sockets, const struct socket_record *record)
{
	struct socket_told told = {sockets->agent, record};
	struct json_write json = {};

	if (!feed_has_followers(sockets->feed))
		return;
	socket_event_write(sockets, &json, record);
	feed_publish(sockets->feed, &told, &json);
	json_write_free(&json);
}

/* Whose is it as long as nobody has used it?  Remembers listeners, and asks them. */
static void listener_note(struct sockets *sockets, struct socket_head *head)
{
	uint32_t *listener = &sockets->listeners[head->lport];

	if (head->protocol != IPPROTO_TCP)
		return;
	if (head->state == TCP_LISTEN)
		*listener = head->owner;
	else if (head->accepted && head->owner == OWNER_UNKNOWN && *listener != OWNER_UNKNOWN)
		head->owner = *listener | OWNER_INHERITED;
}

/* Makes a record of the kernel one of ours.  Who made a connection from before weir, nobody has told: where
 * somebody listens, the other end did. */
static void record_complete(struct sockets *sockets, struct socket_record *record)
{
	unmap(&record->head);
	if (socket_is_connection(record) && !record->established_ns && record->head.before != TCP_SYN_SENT &&
		sockets->listeners[record->head.lport] != OWNER_UNKNOWN)
		record->head.accepted = 1;
	listener_note(sockets, &record->head);
}

static void event_take(struct sockets *sockets, const struct socket_record *record)
{
	struct socket_record *place = &sockets->remembered[sockets->count++ % sockets->room];

	*place = *record;
	audit_socket(sockets->agent, &place->head);
	publish(sockets, place);
}

/* The connect or accept of a connection that has not told of it. */
static void connection_tell(struct sockets *sockets, const struct socket_record *record)
{
	struct socket_record begin = {.head = record->head};

	begin.head.time_ns = record->established_ns;
	begin.head.event = record->head.accepted ? SOCKET_ACCEPT : SOCKET_CONNECT;
	begin.head.latency_us = record->handshake_us;
	begin.head.error = 0;
	begin.head.state = TCP_ESTABLISHED;
	begin.head.before = record->head.accepted ? TCP_SYN_RECV : TCP_SYN_SENT;
	event_take(sockets, &begin);
}

static void on_event(void *context, const struct socket_head *head, const struct socket_record *record)
{
	struct sockets *sockets = context;
	struct socket_record copy = {};

	if (record)
		copy = *record;
	else
		copy.head = *head;
	record_complete(sockets, &copy);
	if (record) {
		process_add(sockets, &copy);
		if (copy.established_ns && !copy.told)
			connection_tell(sockets, &copy);
	}
	event_take(sockets, &copy);
}

static int on_new(void *context, const struct socket_record *record)
{
	struct socket_record copy = *record;

	record_complete(context, &copy);
	connection_tell(context, &copy);
	return 0;
}

/* Connections that were made, and go on: nothing told of them yet. */
static void find_new(struct sockets *sockets)
{
	struct socket_stats stats;

	sockets->looked_ns = agent_now_ns();
	engine_socket_stats(sockets->agent->engine, &stats);
	if (stats.connected + stats.accepted + stats.udp_peers == sockets->made)
		return;
	sockets->made = stats.connected + stats.accepted + stats.udp_peers;
	engine_socket_list(sockets->agent->engine, true, on_new, sockets);
}

void sockets_refresh(struct agent *agent)
{
	struct sockets *sockets = sockets_state(agent);

	if (!sockets)
		return;
	engine_socket_read(agent->engine, on_event, sockets);
	find_new(sockets);
}

static void on_ring(evutil_socket_t fd, short what, void *context)
{
	struct sockets *sockets = context;

	(void)fd;
	(void)what;
	engine_socket_read(sockets->agent->engine, on_event, sockets);
}

static void wants_tell(struct sockets *sockets)
{
	bool followed = feed_has_followers(sockets->feed);

	engine_socket_want(sockets->agent->engine, followed || audit_is_followed(sockets->agent), followed);
}

static void on_hurry(evutil_socket_t fd, short what, void *context)
{
	struct sockets *sockets = context;

	on_ring(fd, what, context);
	if (agent_now_ns() - sockets->looked_ns >= LOOK_NS)
		find_new(sockets);
	wants_tell(sockets);
	if (!feed_has_followers(sockets->feed) && !audit_is_followed(sockets->agent))
		event_del(sockets->hurry);
}

void sockets_hurry(struct agent *agent)
{
	static const struct timeval often = {0, 100000};
	struct sockets *sockets = sockets_state(agent);

	if (!sockets)
		return;
	wants_tell(sockets);
	event_add(sockets->hurry, &often);
}

uint64_t sockets_lost(struct agent *agent)
{
	struct socket_stats stats;

	engine_socket_stats(agent->engine, &stats);
	return stats.lost;
}

/* -- what is there -- */

static int on_present(void *context, const struct socket_record *record)
{
	struct sockets *sockets = context;
	size_t room = sockets->present_room ? 2 * sockets->present_room : 256;
	struct socket_record *place;

	if (sockets->present_count == sockets->present_room) {
		place = room > PRESENT_MAX ? NULL : reallocarray(sockets->present, room, sizeof(*place));
		if (!place) {
			sockets->unlisted++;
			return 0;
		}
		sockets->present = place;
		sockets->present_room = room;
	}
	place = &sockets->present[sockets->present_count++];
	*place = *record;
	record_complete(sockets, place);
	return 0;
}

int sockets_read_present(struct sockets *sockets, uint64_t old_ns)
{
	uint64_t now_ns = agent_now_ns();

	if (sockets->present_ns && now_ns - sockets->present_ns < old_ns)
		return 0;
	sockets->present_count = 0;
	sockets->unlisted = 0;
	sockets->present_ns = now_ns;
	return engine_socket_list(sockets->agent->engine, false, on_present, sockets);
}

bool sockets_of_process(
	struct agent *agent, uint32_t pid, uint64_t start_ns, struct socket_totals *ret_totals)
{
	struct sockets *sockets = sockets_state(agent);
	struct socket_totals totals = {};
	const struct process *process;
	uint64_t rtt_us = 0, rtts = 0;

	if (!sockets || sockets_read_present(sockets, PRESENT_OLD_NS) < 0)
		return false;
	for (size_t i = 0; i < sockets->present_count; i++) {
		const struct socket_record *record = &sockets->present[i];
		const struct owner *owner;

		if (!socket_is_connection(record) || record->head.state == TCP_CLOSE)
			continue;
		owner = owner_identity(agent, record->head.owner);
		if (!owner || owner->key.pid != pid || owner->key.start_ns != start_ns)
			continue;
		totals.connections++;
		totals.retransmits += record->retransmits;
		rtt_us += record->srtt_us;
		rtts += record->srtt_us != 0;
	}
	totals.opened = totals.connections;
	totals.srtt_us = rtts ? (uint32_t)(rtt_us / rtts) : 0;
	process = process_get(sockets, pid, start_ns, false);
	if (process) {
		totals.opened += process->opened;
		totals.retransmits += process->retransmits;
	}
	*ret_totals = totals;
	return process || totals.connections;
}

static void progress(struct sockets *sockets, uint64_t now_ns)
{
	uint64_t interval_ns = sockets->agent->config.sockets_interval_ns;

	if (!interval_ns || now_ns - sockets->progress_ns < interval_ns)
		return;
	sockets->progress_ns = now_ns;
	if (!feed_has_followers(sockets->feed) || sockets_read_present(sockets, PRESENT_OLD_NS) < 0)
		return;
	for (size_t i = 0; i < sockets->present_count; i++) {
		struct socket_record record = sockets->present[i];

		if (!socket_is_connection(&record) ||
			record.head.time_ns - record.established_ns < interval_ns)
			continue;
		record.head.event = SOCKET_PROGRESS;
		publish(sockets, &record);
	}
}

const struct socket_record *sockets_remembered_at(const struct sockets *sockets, size_t index)
{
	uint64_t first = sockets->count > sockets->room ? sockets->count - sockets->room : 0;

	return first + index < sockets->count ? &sockets->remembered[(first + index) % sockets->room] : NULL;
}

/* -- the module -- */

static void sockets_close(void *state)
{
	struct sockets *sockets = state;

	feed_free(sockets->feed);
	if (sockets->hurry)
		event_free(sockets->hurry);
	free(sockets->remembered);
	free(sockets->present);
	free(sockets);
}

static int sockets_open(struct agent *agent, void **ret_state, struct error *error)
{
	struct sockets *sockets = *ret_state = calloc(1, sizeof(*sockets));
	uint32_t tick;
	int r;

	if (!sockets)
		return error_set(error, -ENOMEM, "out of memory");
	sockets->agent = agent;
	sockets->progress_ns = agent_now_ns();
	sockets->room = agent->config.sockets_remembered;
	sockets->remembered = calloc(sockets->room, sizeof(*sockets->remembered));
	sockets->feed = feed_new(agent);
	sockets->hurry = event_new(agent->base, -1, EV_PERSIST, on_hurry, sockets);
	if (!sockets->remembered || !sockets->feed || !sockets->hurry)
		return error_set(error, -ENOMEM, "out of memory");
	r = engine_clock(agent->engine, &tick, &sockets->tick_ns);
	if (r == 0)
		r = agent_wait_for(agent, engine_socket_fd(agent->engine), on_ring, sockets);
	if (r == 0)
		r = sockets_read_present(sockets, 0); /* listeners from before */
	return r < 0 ? error_set(error, r, "cannot follow sockets: %s", strerror(-r)) : 0;
}

static void sockets_tick(struct agent *agent, void *state, uint64_t now_ns)
{
	struct sockets *sockets = state;

	engine_socket_read(agent->engine, on_event, sockets);
	if (now_ns - sockets->looked_ns >= LOOK_NS)
		find_new(sockets);
	progress(sockets, now_ns);
}

static void sockets_reload(struct agent *agent, void *state)
{
	struct sockets *sockets = state;
	size_t room = agent->config.sockets_remembered;
	struct socket_record *remembered, *all;
	const struct socket_record *record;
	uint64_t count = 0;

	if (room == sockets->room)
		return;
	all = calloc(room, sizeof(*all));
	if (!all)
		return;
	for (size_t i = 0; (record = sockets_remembered_at(sockets, i)); i++)
		all[count++ % room] = *record;
	remembered = sockets->remembered;
	sockets->remembered = all;
	sockets->room = room;
	sockets->count = count;
	free(remembered);
}

static void sockets_status(struct agent *agent, void *state, struct json_write *out)
{
	const struct sockets *sockets = state;
	struct socket_stats stats;

	engine_socket_stats(agent->engine, &stats);
	json_write_object_begin(out, "sockets");
	json_write_number(out, "records", stats.records);
	json_write_number(out, "lost", stats.lost);
	json_write_number(out, "missed", stats.missed);
	json_write_number(out, "unremembered", stats.unremembered);
	json_write_number(out, "remembered", sockets->count < sockets->room ? sockets->count : sockets->room);
	json_write_number(out, "limit", sockets->room);
	json_write_boolean(out, "counts_udp", engine_socket_counts_udp(agent->engine));
	json_write_object_end(out);
}

static void write_latency(const struct socket_stats *stats, struct evbuffer *out)
{
	static const char name[] = "weir_socket_connect_seconds";
	uint64_t sum = 0;

	metrics_head(out, name, "histogram", "Time from SYN to SYN-ACK of connections that were made.");
	for (unsigned int i = 0; i < SOCKET_LATENCY_BUCKETS; i++) {
		sum += stats->latency[i];
		if (i < SOCKET_LATENCY_BUCKETS - 1)
			evbuffer_add_printf(out, "%s_bucket{le=\"%.9g\"} %" PRIu64 "\n", name,
				(double)(2ULL << i) / 1e6, sum);
	}
	evbuffer_add_printf(out, "%s_bucket{le=\"+Inf\"} %" PRIu64 "\n", name, sum);
	evbuffer_add_printf(out, "%s_sum %.6f\n", name, (double)stats->latency_us / 1e6);
	evbuffer_add_printf(out, "%s_count %" PRIu64 "\n", name, sum);
}

static void sockets_metrics(struct agent *agent, void *state, struct evbuffer *out)
{
	struct socket_stats stats;

	(void)state;
	engine_socket_stats(agent->engine, &stats);
	metrics_head(out, "weir_socket_connects_total", "counter", "TCP connects, by how they ended.");
	metrics_labelled(out, "weir_socket_connects_total", "result", "established", stats.connected);
	metrics_labelled(out, "weir_socket_connects_total", "result", "refused", stats.refused);
	metrics_labelled(out, "weir_socket_connects_total", "result", "timeout", stats.timed_out);
	metrics_labelled(out, "weir_socket_connects_total", "result", "reset", stats.reset);
	metrics_labelled(out, "weir_socket_connects_total", "result", "unreachable", stats.unreachable);
	metrics_labelled(out, "weir_socket_connects_total", "result", "abandoned", stats.abandoned);
	metrics_labelled(out, "weir_socket_connects_total", "result", "failed", stats.failed);
	write_latency(&stats, out);
	metrics_single(
		out, "weir_socket_accepts_total", "counter", "TCP connections that came in.", stats.accepted);
	metrics_single(out, "weir_socket_listens_total", "counter", "TCP sockets that began to listen.",
		stats.listened);
	metrics_single(out, "weir_socket_binds_total", "counter", "TCP and UDP sockets that were bound.",
		stats.bound);
	metrics_single(out, "weir_socket_closes_total", "counter", "TCP and UDP sockets that were closed.",
		stats.closed);
	metrics_single(out, "weir_socket_broken_total", "counter",
		"TCP connections that ended with an error.", stats.broken);
	metrics_head(out, "weir_socket_resets_total", "counter", "TCP resets that belong to a socket.");
	metrics_labelled(out, "weir_socket_resets_total", "direction", "in", stats.resets_in);
	metrics_labelled(out, "weir_socket_resets_total", "direction", "out", stats.resets_out);
	metrics_single(out, "weir_socket_retransmits_total", "counter",
		"TCP packets that were sent again; a GSO packet counts once.", stats.retransmits);
	metrics_single(out, "weir_socket_buffer_drops_total", "counter",
		"UDP datagrams that found no room in a socket's buffer.", stats.buffer_drops);
	metrics_single(out, "weir_socket_errors_total", "counter",
		"Errors that ICMP reported to UDP sockets.", stats.errors);
	metrics_single(
		out, "weir_socket_records_total", "counter", "Records handed to the agent.", stats.records);
	metrics_single(
		out, "weir_socket_records_lost_total", "counter", "Records that found no room.", stats.lost);
	metrics_single(out, "weir_socket_events_missed_total", "counter",
		"Events that the kernel did not tell, because they interrupted another one.", stats.missed);
}

const struct module sockets_module = {
	.name = "sockets",
	.open = sockets_open,
	.close = sockets_close,
	.reload = sockets_reload,
	.tick = sockets_tick,
	.status = sockets_status,
	.metrics = sockets_metrics,
	.routes = sockets_routes,
};
