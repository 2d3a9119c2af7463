// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
#include "agent/rule/connections.h"

#include <arpa/inet.h>
#include <errno.h>
#include <event2/buffer.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>

#include "agent/internal.h"
#include "agent/owner/owners.h"
#include "agent/rule/rules.h"
#include "basic/cleanup.h"
#include "basic/log.h"
#include "basic/text.h"
#include "engine/connection.h"
#include "engine/policy.h"
#include "engine/socket.h"

#define NS_PER_S      1000000000ULL
#define SLICE_NS      (NS_PER_S / 4) /* between two slices of the sweep */
#define SLICE_MIN     4096           /* entries of a slice; more where the table is large */
#define SLICE_SHARE   64             /* a sweep takes so many slices, unless they are small */
#define RECOUNT_EVERY 40             /* slices of the sweep */
#define RECOUNT_SLICE 16384
#define PART          1024 /* entries of a part of an answer */
#define UDP_GOES_ON_S 30   /* so long ago a UDP flow may have had its last packet */

struct counts {
	uint64_t established, embryos, picked_up;
};

/* Whom a limit counts connections for: how many there are, and how many too many the kernel believes in. */
struct recount {
	struct policy_limit_key key;
	uint32_t believed, found;
	int64_t excess;
};

struct connections {
	struct agent *agent;
	struct event *timer;
	struct engine_connection_cursor cursor;
	struct counts counting, counts;       /* in the sweep that is under way; in the last */
	uint32_t tick;                        /* of the slice */
	struct recount *recounts, *recounted; /* those being made or made last, and the ones before; by key */
	size_t recount_length, recounted_length;
	struct engine_connection_cursor recount_cursor;
	struct event *recount_timer; /* pending: a recount is under way */
	unsigned int slices;         /* since the last one began */
	uint64_t expired, deleted, picked_up, unpicked;
};

static const char *const stages[CONNECTION_STAGES + 1] = {
	[CONNECTION_NEW] = "new",
	[CONNECTION_ANSWERED] = "answered",
	[CONNECTION_OPEN] = "open",
	[CONNECTION_CLOSING] = "closing",
	[CONNECTION_CLOSED] = "closed",
	[CONNECTION_RESET] = "reset",
};

static uint32_t tick_now(struct agent *agent, uint64_t *ret_tick_ns)
{
	uint64_t tick_ns = 1;
	uint32_t tick = 0;

	engine_clock(agent->engine, &tick, &tick_ns); /* cannot fail once it has worked */
	if (ret_tick_ns)
		*ret_tick_ns = tick_ns;
	return tick;
}

/* -- the sweep -- */

/* Takes an entry away unless it has just been refreshed. */
static bool take_away(struct connections *connections, const struct connection_key *key,
	const struct connection *seen, bool embryo)
{
	struct engine *engine = connections->agent->engine;
	struct connection now;

	if (engine_connection_get(engine, key, embryo, &now) < 0 || now.last != seen->last ||
		now.created != seen->created || now.stage != seen->stage)
		return false;
	if (engine_connection_delete(engine, key, embryo) < 0)
		return false;
	engine_connection_uncount(engine, &now);
	return true;
}

static int sweep_entry(
	void *context, const struct connection_key *key, const struct connection *c, bool embryo)
{
	struct connections *connections = context;

	if (engine_connection_is_gone(connections->agent->engine, key, c, connections->tick)) {
		connections->expired += take_away(connections, key, c, embryo);
		return 0;
	}
	if (embryo)
		connections->counting.embryos++;
	else
		connections->counting.established++;
	connections->counting.picked_up += c->flags & CONNECTION_PICKED_UP ? 1 : 0;
	return 0;
}

static void sweep_slice(struct connections *connections)
{
	struct agent *agent = connections->agent;
	uint64_t share = (connections->counts.established + connections->counts.embryos) / SLICE_SHARE;
	int r;

	connections->tick = tick_now(agent, NULL);
	r = engine_connection_walk(agent->engine, &connections->cursor, share > SLICE_MIN ? share : SLICE_MIN,
		sweep_entry, connections);
	if (r == 0)
		return;
	if (r < 0) {
		log_debug("cannot walk the connection table: %s", strerror(-r));
		connections->cursor = (struct engine_connection_cursor){};
	} else {
		connections->counts = connections->counting;
	}
	connections->counting = (struct counts){};
}

/* -- limits of connections --
 *
 * The datapath counts connections where they begin and end.  It is not told which embryos the kernel pushed
 * out of the LRU, and CPUs may take off more than there is; so all are counted anew from time to time.  What
 * begins or ends meanwhile is the difference once, a mistake is there again: what two recounts agree on is
 * put right.  The slices of one follow each other at once, since what is counted must not change much. */

static int compare_recounts(const void *left, const void *right)
{
	return memcmp(left, right, sizeof(struct policy_limit_key));
}

static struct recount *recount_find(
	struct recount *recounts, size_t length, const struct policy_limit_key *key)
{
	return length ? bsearch(key, recounts, length, sizeof(*recounts), compare_recounts) : NULL;
}

static int recount_entry(
	void *context, const struct connection_key *key, const struct connection *c, bool embryo)
{
	const struct policy_limit_key whom = {.place = c->limit - 1, .whom = c->limit_key};
	struct connections *connections = context;
	struct recount *recount =
		c->limit ? recount_find(connections->recounts, connections->recount_length, &whom) : NULL;

	(void)embryo;
	if (recount && !engine_connection_is_gone(connections->agent->engine, key, c, connections->tick))
		recount->found++;
	return 0;
}

/* The excess that this recount and the one before agree on. */
static int64_t recount_agreed(int64_t excess, int64_t before)
{
	if (excess > 0 && before > 0)
		return excess < before ? excess : before;
	if (excess < 0 && before < 0)
		return excess > before ? excess : before;
	return 0;
}

static void recount_finish(struct connections *connections)
{
	for (size_t i = 0; i < connections->recount_length; i++) {
		struct recount *recount = &connections->recounts[i];
		const struct recount *last =
			recount_find(connections->recounted, connections->recounted_length, &recount->key);
		int64_t agreed;

		recount->excess = (int64_t)recount->believed - recount->found;
		agreed = recount_agreed(recount->excess, last ? last->excess : 0);
		/* nobody any more: the entry is to go */
		if (agreed || (!recount->believed && !recount->found && last && !last->believed))
			engine_connection_recount(connections->agent->engine, &recount->key, -agreed);
		recount->excess -= agreed;
	}
}

static void on_recount(evutil_socket_t fd, short what, void *context)
{
	struct connections *connections = context;
	const struct timeval at_once = {};
	int r;

	(void)fd;
	(void)what;
	connections->tick = tick_now(connections->agent, NULL);
	r = engine_connection_walk(connections->agent->engine, &connections->recount_cursor, RECOUNT_SLICE,
		recount_entry, connections);
	if (r == 0)
		event_add(connections->recount_timer, &at_once);
	else if (r == 1)
		recount_finish(connections);
}

static void recount_begin(struct connections *connections)
{
	_cleanup_free_ struct engine_connection_count *counts = NULL;
	size_t length = 0;

	connections->slices = 0;
	free(connections->recounted);
	connections->recounted = connections->recounts;
	connections->recounted_length = connections->recount_length;
	connections->recounts = NULL;
	connections->recount_length = 0;
	if (engine_connection_counts(connections->agent->engine, &counts, &length) < 0 || !length)
		return;
	connections->recounts = calloc(length, sizeof(*connections->recounts));
	if (!connections->recounts)
		return;
	for (size_t i = 0; i < length; i++)
		connections->recounts[i] =
			(struct recount){.key = counts[i].key, .believed = counts[i].count};
	qsort(connections->recounts, length, sizeof(*connections->recounts), compare_recounts);
	connections->recount_length = length;
	connections->recount_cursor = (struct engine_connection_cursor){};
	on_recount(-1, 0, connections);
}

static void on_timer(evutil_socket_t fd, short what, void *context)
{
	struct connections *connections = context;

	(void)fd;
	(void)what;
	if (!engine_connection_there(connections->agent->engine))
		return;
	sweep_slice(connections);
	if (++connections->slices >= RECOUNT_EVERY &&
		!event_pending(connections->recount_timer, EV_TIMEOUT, NULL))
		recount_begin(connections);
}

/* -- what was there before -- */

static int compare_ends(const __be32 a[4], __be16 a_port, const __be32 b[4], __be16 b_port)
{
	int order = memcmp(a, b, 4 * sizeof(*a));

	return order ? order : memcmp(&a_port, &b_port, sizeof(a_port));
}

/* The key of a connection from one end to the other; returns which of its ends is the first of these. */
static uint8_t key_make(uint8_t family, uint8_t proto, const __be32 src[4], __be16 sport, const __be32 dst[4],
	__be16 dport, struct connection_key *ret_key)
{
	struct connection_key key = {.family = family, .proto = proto};
	uint8_t side = compare_ends(src, sport, dst, dport) > 0;

	memcpy(key.address[side], src, sizeof(key.address[side]));
	memcpy(key.address[!side], dst, sizeof(key.address[!side]));
	key.port[side] = sport;
	key.port[!side] = dport;
	*ret_key = key;
	return side;
}

static void pick_up(
	struct connections *connections, const struct connection_key *key, uint8_t first, uint64_t began_ns)
{
	uint64_t tick_ns, now_ns = agent_now_ns();
	uint32_t tick = tick_now(connections->agent, &tick_ns);
	uint64_t age = now_ns > began_ns ? (now_ns - began_ns) / tick_ns : 0;
	struct connection c = {
		.created = tick - (uint32_t)(age < UINT32_MAX / 4 ? age : UINT32_MAX / 4),
		.last = tick,
		.stage = CONNECTION_OPEN,
		.first = first,
		.flags = CONNECTION_PICKED_UP | CONNECTION_LIBERAL,
	};
	int r;

	c.established = c.created ? c.created : 1;
	r = engine_connection_put(connections->agent->engine, key, &c);
	if (r == 0)
		connections->picked_up++;
	else if (r != -EEXIST)
		connections->unpicked++;
}

/* A flow that has an answer, is not over, and whose like this table keeps. */
static void pick_up_flow(struct connections *connections, uint32_t index, uint64_t now_ns)
{
	const struct table *table = connections->agent->table;
	const struct table_flow *flow = table_flow(table, index), *reverse;
	const struct table_key *key = &flow->key;
	struct connection_key name;
	bool from_src;
	uint8_t side;

	if (flow->state != TABLE_LIVE || flow->reverse == TABLE_NONE || !(key->kind & FLOW_KIND_PORTS))
		return;
	reverse = table_flow(table, flow->reverse);
	if (reverse->state != TABLE_LIVE || reverse->key.sport != key->dport ||
		memcmp(reverse->key.src, key->dst, sizeof(key->dst)) != 0)
		return;
	if (key->proto == IPPROTO_TCP && (flow->tcp_flags | reverse->tcp_flags) & TABLE_CLOSING_FLAGS)
		return;
	if (key->proto != IPPROTO_TCP && now_ns - flow->last_ns > UDP_GOES_ON_S * NS_PER_S)
		return;
	/* who began is known from the SYN, or else is who has the higher port */
	from_src = flow->origin & FLOW_ORIGIN_INITIATOR || reverse->origin & FLOW_ORIGIN_RESPONDER ||
	           (!flow->origin && !reverse->origin && ntohs(key->sport) >= ntohs(key->dport));
	side = key_make(key->kind & FLOW_KIND_IPV4 ? 4 : 6, key->proto, key->src, key->sport, key->dst,
		key->dport, &name);
	pick_up(connections, &name, from_src ? side : !side,
		flow->first_ns < reverse->first_ns ? flow->first_ns : reverse->first_ns);
}

static int pick_up_socket(void *context, const struct socket_record *record)
{
	const struct socket_head *head = &record->head;
	struct connections *connections = context;
	struct connection_key key;
	bool accepted;
	uint8_t side;

	if (head->protocol != IPPROTO_TCP || head->state != TCP_ESTABLISHED)
		return 0;
	/* of a socket of before nobody knows who began: most likely who has the higher port */
	accepted = record->created_ns ? head->accepted : head->lport < head->rport;
	side = key_make(head->family, head->protocol, head->local, htons(head->lport), head->remote,
		htons(head->rport), &key);
	pick_up(connections, &key, accepted ? !side : side, record->created_ns);
	return 0;
}

void connections_pick_up(struct agent *agent)
{
	struct connections *connections = module_state(agent, &connections_module);
	uint64_t now_ns;
	int r;

	agent_refresh_table(agent);
	now_ns = agent_now_ns();
	for (uint32_t i = 0; i < table_flow_count(agent->table); i++)
		pick_up_flow(connections, i, now_ns);
	r = engine_socket_list(agent->engine, false, pick_up_socket, connections);
	if (r < 0)
		log_debug("cannot list the sockets: %s", strerror(-r));
}

/* -- questions -- */

struct question {
	struct connections *connections;
	struct engine_connection_cursor cursor;
	struct match match;
	struct connection_key *flows; /* those that fit, where only flows know; sorted */
	size_t flow_count;
	bool by_flow;
	int state;    /* -1: not asked; 0: new, 1: established */
	int stage;    /* -1: not asked */
	int64_t rule; /* -1: not asked */
	uint64_t limit, found;
	bool begun, removes;
	struct json_write *out;
};

static void question_free(void *context)
{
	struct question *question = context;

	free(question->flows);
	free(question);
}

/* Does the sentence ask what a connection does not know, and its flows do? */
static bool match_needs_flows(const struct match *match)
{
	return match->direction != MATCH_BOTH || match->interface[0] || match->owner.kind != OWNER_ANY ||
	       match->tcp_flags || match->vlan >= 0 || match->fragment || match->icmp_type >= 0;
}

static int compare_keys(const void *left, const void *right)
{
	return memcmp(left, right, sizeof(struct connection_key));
}

/* Echoes have a key of their own (shared/connection.h). */
static bool flow_key(const struct table_key *key, struct connection_key *ret_key)
{
	uint8_t family = key->kind & FLOW_KIND_IPV4 ? 4 : 6, type = (uint8_t)(ntohs(key->dport) >> 8);
	uint8_t ask = family == 4 ? 8 : 128;
	bool asks = type == ask;
	__be16 service = htons((uint16_t)(ask << 8)), sport = key->sport, dport = key->dport;

	if (key->kind & FLOW_KIND_ICMP) {
		if (!asks && type != (family == 4 ? 0 : 129))
			return false;
		sport = asks ? key->sport : service;
		dport = asks ? service : key->sport;
	}
	key_make(family, key->proto, key->src, sport, key->dst, dport, ret_key);
	return true;
}

static int question_ask_flows(struct question *question)
{
	struct agent *agent = question->connections->agent;
	uint32_t count = table_flow_count(agent->table);

	question->by_flow = true;
	question->flows = malloc((count + 1) * sizeof(*question->flows));
	if (!question->flows)
		return -ENOMEM;
	for (uint32_t i = 0; i < count; i++)
		if (answer_flow_fits(agent, i, &question->match) &&
			flow_key(&table_flow(agent->table, i)->key, &question->flows[question->flow_count]))
			question->flow_count++;
	qsort(question->flows, question->flow_count, sizeof(*question->flows), compare_keys);
	return 0;
}

static struct address end_address(const struct connection_key *key, unsigned int end)
{
	struct address address = {.family = key->family};

	memcpy(address.bytes, key->address[end], key->family == 4 ? 4 : 16);
	return address;
}

static bool is_echo(const struct connection_key *key)
{
	return key->proto == (key->family == 4 ? IPPROTO_ICMP : IPPROTO_ICMPV6);
}

static bool has_ports(const struct connection_key *key)
{
	return (key->port[0] || key->port[1]) && !is_echo(key);
}

static bool question_fits(
	const struct question *question, const struct connection_key *key, const struct connection *c)
{
	unsigned int first = c->first & 1;
	struct match_subject subject = {
		.direction = MATCH_OUT,
		.interface = "",
		.family = key->family,
		.protocol = key->proto,
		.source = end_address(key, first),
		.destination = end_address(key, !first),
		.has_ports = has_ports(key),
		.source_port = ntohs(key->port[first]),
		.destination_port = ntohs(key->port[!first]),
		.icmp_type = -1,
		.vlan = -1,
	};

	if (question->state >= 0 && question->state != (c->established != 0))
		return false;
	if (question->stage >= 0 && question->stage != c->stage)
		return false;
	if (question->rule >= 0 && question->rule != c->rule)
		return false;
	if (question->by_flow)
		return bsearch(key, question->flows, question->flow_count, sizeof(*key), compare_keys);
	return match_fits(&question->match, &subject);
}

/* -- answers -- */

static void connection_write(struct agent *agent, struct json_write *out, const struct connection_key *key,
	const struct connection *c)
{
	unsigned int first = c->first & 1;
	struct address src = end_address(key, first), dst = end_address(key, !first);
	uint64_t tick_ns, now_ns = agent_now_ns();
	uint32_t tick = tick_now(agent, &tick_ns);

	json_write_object_begin(out, NULL);
	json_write_number(out, "family", key->family);
	answer_protocol(out, key->proto);
	answer_address(out, "src", &src);
	json_write_number(out, "sport", has_ports(key) ? ntohs(key->port[first]) : 0);
	answer_address(out, "dst", &dst);
	json_write_number(out, "dport", has_ports(key) ? ntohs(key->port[!first]) : 0);
	if (is_echo(key))
		json_write_number(out, "icmp_id", ntohs(key->port[first]));
	json_write_string(out, "state", c->established ? "established" : "new");
	json_write_string(out, "stage", stages[c->stage % CONNECTION_STAGES]);
	answer_time(out, "created", now_ns - (uint64_t)(tick - c->created) * tick_ns);
	if (c->established)
		answer_time(out, "established", now_ns - (uint64_t)(tick - c->established) * tick_ns);
	answer_time(out, "last", now_ns - (uint64_t)(tick - c->last) * tick_ns);
	rules_write_name(agent, out, "rule", c->rule);
	json_write_boolean(out, "picked_up", c->flags & CONNECTION_PICKED_UP);
	json_write_object_end(out);
	json_write_newline(out);
}

static int question_entry(
	void *context, const struct connection_key *key, const struct connection *c, bool embryo)
{
	struct question *question = context;
	struct connections *connections = question->connections;

	if (question->found >= question->limit)
		return -ECANCELED;
	if (engine_connection_is_gone(connections->agent->engine, key, c, connections->tick) ||
		!question_fits(question, key, c))
		return 0;
	if (!question->removes) {
		connection_write(connections->agent, question->out, key, c);
		question->found++;
	} else if (engine_connection_delete(connections->agent->engine, key, embryo) == 0) {
		engine_connection_uncount(connections->agent->engine, c);
		connections->deleted++;
		question->found++;
	}
	return 0;
}

static void stats_write(struct connections *connections, struct json_write *out)
{
	struct engine_connection_settings settings;
	struct connection_stats stats;

	engine_connection_settings(connections->agent->engine, &settings);
	engine_connection_stats(connections->agent->engine, &stats);
	json_write_number(out, "established", connections->counts.established);
	json_write_number(out, "established_limit", settings.connections);
	json_write_number(out, "new", connections->counts.embryos);
	json_write_number(out, "new_limit", settings.embryos);
	json_write_number(out, "began", stats.created);
	json_write_number(out, "answered", stats.established);
	json_write_number(out, "reset", stats.reset);
	json_write_number(out, "closed", stats.closed);
	json_write_number(out, "expired", connections->expired);
	json_write_number(out, "deleted", connections->deleted);
	json_write_number(out, "picked_up", connections->picked_up);
	json_write_number(out, "refused", stats.refused + connections->unpicked);
	json_write_number(out, "invalid", stats.invalid);
	json_write_number(out, "related", stats.related);
	json_write_number(out, "fragments", stats.fragments);
}

static bool question_part(void *context, struct json_write *out)
{
	struct question *question = context;
	struct connections *connections = question->connections;
	struct agent *agent = connections->agent;
	int r;

	if (!question->begun) {
		json_write_object_begin(out, NULL);
		if (!question->removes)
			json_write_array_begin(out, "connections");
		question->begun = true;
	}
	question->out = out;
	connections->tick = tick_now(agent, NULL);
	r = engine_connection_walk(agent->engine, &question->cursor, PART, question_entry, question);
	if (r == 0) {
		json_write_newline(out); /* a part without a fit gives way, too */
		return true;
	}
	if (r < 0 && r != -ECANCELED)
		out->error = r; /* the end of the document is missing: that tells */
	if (question->removes) {
		/* what was decided about their flows holds no more */
		engine_policy_forget(agent->engine, false);
		json_write_number(out, "deleted", question->found);
	} else {
		json_write_array_end(out);
		stats_write(connections, out);
		answer_list_end(agent, out);
	}
	json_write_object_end(out);
	json_write_newline(out);
	return false;
}

static int parse_word(
	const char *key, const char *value, const char *const *words, int *ret_index, struct error *error)
{
	const char *near = text_nearest(value, words);

	for (int i = 0; words[i]; i++)
		if (strcmp(words[i], value) == 0) {
			*ret_index = i;
			return 0;
		}
	error_set(error, -EINVAL, "there is no %s '%s' of connections", key, value);
	if (near)
		return error_want(error, "did you mean '%s'?", near);
	return error_want(
		error, words[2] ? "new, answered, open, closing, closed or reset" : "new or established");
}

static int parse_number(
	const char *key, const char *value, uint64_t max, uint64_t *ret_number, struct error *error)
{
	unsigned long long number;
	char *end;

	errno = 0;
	number = strtoull(value, &end, 10);
	if (*value >= '0' && *value <= '9' && !*end && !errno && number <= max) {
		*ret_number = number;
		return 0;
	}
	error_set(error, -EINVAL, "the %s '%s' is not a number", key, value);
	return error_want(error, "a whole number");
}

static int question_parse(struct question *question, const char *query, struct error *error)
{
	static const char *const parameters[] = {"filter", "state", "stage", "rule", "limit", NULL};
	static const char *const states[] = {"new", "established", NULL};
	_cleanup_free_ char *filter = query_value(query, "filter"), *state = query_value(query, "state");
	_cleanup_free_ char *stage = query_value(query, "stage"), *rule = query_value(query, "rule");
	_cleanup_free_ char *limit = query_value(query, "limit");
	uint64_t id = 0;
	int r = query_check(query, parameters, error);

	if (r == 0 && question->removes && !filter && !state && !stage && !rule) {
		error_set(error, -EINVAL, "which connections?");
		return error_want(error, "a match such as 'tcp to port 22', a state, a stage or a rule");
	}
	if (r == 0)
		r = match_parse(filter ? filter : "", &question->match, error);
	if (r == 0 && state)
		r = parse_word("state", state, states, &question->state, error);
	if (r == 0 && stage)
		r = parse_word("stage", stage, stages, &question->stage, error);
	if (r == 0 && rule) {
		r = parse_number("rule", rule, UINT32_MAX, &id, error);
		question->rule = (int64_t)id;
	}
	if (r == 0 && limit)
		r = parse_number("limit", limit, UINT64_MAX, &question->limit, error);
	return r;
}

static void reply_question(struct agent *agent, struct evhttp_request *request, bool removes)
{
	struct question *question = malloc(sizeof(*question));
	struct error error = {};

	if (!question) {
		reply_failure(request, -ENOMEM);
		return;
	}
	*question = (struct question){
		.connections = module_state(agent, &connections_module),
		.state = -1,
		.stage = -1,
		.rule = -1,
		.limit = UINT64_MAX,
		.removes = removes,
	};
	if (question_parse(question, query_of(request), &error) < 0) {
		question_free(question);
		reply_bad_request(request, &error);
		return;
	}
	if (match_needs_flows(&question->match)) {
		agent_refresh(agent);
		if (question_ask_flows(question) < 0) {
			question_free(question);
			reply_failure(request, -ENOMEM);
			return;
		}
	}
	reply_parts(request, question_part, question_free, question);
}

static void reply_connections(struct agent *agent, struct evhttp_request *request)
{
	reply_question(agent, request, false);
}

static void reply_delete(struct agent *agent, struct evhttp_request *request)
{
	reply_question(agent, request, true);
}

static void connections_status(struct agent *agent, void *state, struct json_write *out)
{
	(void)agent;
	json_write_object_begin(out, "connections");
	stats_write(state, out);
	json_write_object_end(out);
}

static void connections_metrics(struct agent *agent, void *state, struct evbuffer *out)
{
	struct engine_connection_settings settings;
	struct connections *connections = state;
	struct connection_stats stats;

	engine_connection_settings(agent->engine, &settings);
	engine_connection_stats(agent->engine, &stats);
	metrics_head(out, "weir_connections", "gauge", "Connections in the table, at its last sweep.");
	metrics_labelled(out, "weir_connections", "state", "established", connections->counts.established);
	metrics_labelled(out, "weir_connections", "state", "new", connections->counts.embryos);
	metrics_head(out, "weir_connections_limit", "gauge", "Room for connections.");
	metrics_labelled(out, "weir_connections_limit", "state", "established", settings.connections);
	metrics_labelled(out, "weir_connections_limit", "state", "new", settings.embryos);
	metrics_head(out, "weir_connection_events_total", "counter", "What happened to connections.");
	metrics_labelled(out, "weir_connection_events_total", "event", "began", stats.created);
	metrics_labelled(out, "weir_connection_events_total", "event", "answered", stats.established);
	metrics_labelled(out, "weir_connection_events_total", "event", "reset", stats.reset);
	metrics_labelled(out, "weir_connection_events_total", "event", "closed", stats.closed);
	metrics_labelled(out, "weir_connection_events_total", "event", "expired", connections->expired);
	metrics_labelled(out, "weir_connection_events_total", "event", "deleted", connections->deleted);
	metrics_labelled(out, "weir_connection_events_total", "event", "picked_up", connections->picked_up);
	metrics_labelled(out, "weir_connection_events_total", "event", "refused",
		stats.refused + connections->unpicked);
	metrics_single(out, "weir_connection_invalid_packets_total", "counter",
		"Packets that no connection explains.", stats.invalid);
	metrics_single(out, "weir_connection_related_packets_total", "counter",
		"ICMP errors about a connection that is there.", stats.related);
	metrics_single(out, "weir_connection_unknown_fragments_total", "counter",
		"Later fragments whose first one was not seen.", stats.fragments);
}

/* -- the module -- */

static int settings_apply(struct agent *agent, struct error *error)
{
	struct engine_connection_settings settings = {
		.connections = agent->config.connections_table,
		.embryos = agent->config.connections_embryonic,
	};

	_Static_assert(sizeof(settings.ns) == sizeof(agent->config.connections_ns), "the same times");
	memcpy(settings.ns, agent->config.connections_ns, sizeof(settings.ns));
	return engine_connection_set(agent->engine, &settings, error);
}

static void connections_reload(struct agent *agent, void *state)
{
	struct error error = {};

	(void)state;
	if (settings_apply(agent, &error) < 0)
		log_warning("%s", error.what);
}

static void connections_close(void *state)
{
	struct connections *connections = state;

	if (connections->timer)
		event_free(connections->timer);
	if (connections->recount_timer)
		event_free(connections->recount_timer);
	free(connections->recounts);
	free(connections->recounted);
	free(connections);
}

static int connections_open(struct agent *agent, void **ret_state, struct error *error)
{
	const struct timeval interval = {.tv_usec = SLICE_NS / 1000};
	struct connections *connections = calloc(1, sizeof(*connections));
	int r;

	if (!connections)
		return error_set(error, -ENOMEM, "out of memory");
	connections->agent = agent;
	r = settings_apply(agent, error);
	if (r == 0) {
		connections->timer = event_new(agent->base, -1, EV_PERSIST, on_timer, connections);
		connections->recount_timer = evtimer_new(agent->base, on_recount, connections);
		if (!connections->timer || !connections->recount_timer ||
			event_add(connections->timer, &interval) < 0)
			r = error_set(error, -ENOMEM, "out of memory");
	}
	if (r < 0) {
		connections_close(connections);
		return r;
	}
	*ret_state = connections;
	return 0;
}

static const struct route connections_routes[] = {
	{"/v1/connections", EVHTTP_REQ_GET, reply_connections},
	{"/v1/connections/delete", EVHTTP_REQ_POST, reply_delete},
	{NULL},
};

const struct module connections_module = {
	.name = "connections",
	.open = connections_open,
	.close = connections_close,
	.reload = connections_reload,
	.status = connections_status,
	.metrics = connections_metrics,
	.routes = connections_routes,
};
