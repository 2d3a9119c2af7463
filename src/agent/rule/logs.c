// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
#include "agent/rule/logs.h"

#include <arpa/inet.h>
#include <errno.h>
#include <event2/buffer.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>

#include "agent/capture/captures.h"
#include "agent/internal.h"
#include "agent/owner/owners.h"
#include "agent/rule/policies.h"
#include "agent/rule/rules.h"
#include "basic/cleanup.h"
#include "basic/log.h"
#include "engine/policy.h"

#define RECENT_MAX 1024 /* records that are kept */

/* A record, with what may be gone when somebody asks. */
struct recent {
	struct policy_log record;
	char interface[ENGINE_NAME_MAX];
	char policy[POLICY_TENANT_MAX];
	struct rule_entry *entry; /* NULL: the default verdict, or a rule that was gone already */
};

struct logs {
	struct agent *agent;
	struct feed *feed;
	struct recent *recent; /* a ring of RECENT_MAX */
	uint64_t count;        /* records so far; the last RECENT_MAX of them are there */
	bool waiting;          /* for records */
};

/* What a feed's filter looks at. */
struct told {
	struct agent *agent;
	const struct recent *recent;
};

static struct address record_address(const struct policy_log *record, const __be32 words[4])
{
	struct address address = {.family = record->packet.family};

	memcpy(address.bytes, words, address.family == 4 ? 4 : 16);
	return address;
}

static bool has_ports(const struct policy_log *record)
{
	return record->packet.proto == IPPROTO_TCP || record->packet.proto == IPPROTO_UDP ||
	       record->packet.proto == IPPROTO_SCTP;
}

static bool is_icmp(const struct policy_log *record)
{
	return record->packet.proto == (record->packet.family == 4 ? IPPROTO_ICMP : IPPROTO_ICMPV6);
}

/* `context` is a struct match, `event` a struct told. */
static bool recent_fits(const void *context, const void *event)
{
	const struct match *match = context;
	const struct told *told = event;
	const struct policy_log *record = &told->recent->record;
	struct match_subject subject = {
		.direction = record->out ? MATCH_OUT : MATCH_IN,
		.interface = told->recent->interface,
		.family = record->packet.family,
		.protocol = record->packet.proto,
		.source = record_address(record, record->packet.src),
		.destination = record_address(record, record->packet.dst),
		.has_ports = has_ports(record),
		.source_port = ntohs(record->packet.sport),
		.destination_port = ntohs(record->packet.dport),
		.tcp_flags = record->packet.tcp_flags,
		.icmp_type = is_icmp(record) ? ntohs(record->packet.dport) >> 8 : -1,
		.vlan = -1,
	};

	if (match->owner.kind != OWNER_ANY)
		subject.owner = owner_identity(told->agent, record->owner);
	return match_fits(match, &subject);
}

static void packet_write(struct json_write *out, const struct policy_log *record)
{
	struct address src = record_address(record, record->packet.src),
		       dst = record_address(record, record->packet.dst);

	json_write_number(out, "family", record->packet.family);
	answer_protocol(out, record->packet.proto);
	answer_address(out, "src", &src);
	json_write_number(out, "sport", has_ports(record) ? ntohs(record->packet.sport) : 0);
	answer_address(out, "dst", &dst);
	json_write_number(out, "dport", has_ports(record) ? ntohs(record->packet.dport) : 0);
	if (record->packet.proto == IPPROTO_TCP)
		answer_tcp_flags(out, record->packet.tcp_flags);
	if (is_icmp(record)) {
		json_write_number(out, "icmp_type", ntohs(record->packet.dport) >> 8);
		json_write_number(out, "icmp_code", ntohs(record->packet.dport) & 0xff);
	}
}

static void rule_write(struct json_write *out, const struct recent *recent)
{
	if (!recent->record.rule)
		return;
	json_write_object_begin(out, "rule");
	json_write_number(out, "id", recent->record.rule);
	if (recent->entry)
		json_write_string(out, "text", recent->entry->text);
	json_write_object_end(out);
}

static void recent_write(struct agent *agent, struct json_write *out, const struct recent *recent)
{
	const struct policy_log *record = &recent->record;

	json_write_object_begin(out, NULL);
	answer_time(out, "time", record->time_ns);
	rule_write(out, recent);
	json_write_string(out, "action", policies_action(record->over ? POLICY_DROP : record->action));
	json_write_string(out, "hook", policies_hook(record->hook));
	json_write_string(out, "direction", record->out ? "out" : "in");
	json_write_string(out, "interface", recent->interface);
	if (record->packet.family)
		packet_write(out, record);
	if (record->owner != OWNER_UNKNOWN)
		owner_write(agent, out, record->owner);
	if (policies_state(record->state))
		json_write_string(out, "state", policies_state(record->state));
	json_write_number(out, "length", record->length);
	json_write_string(out, "policy", *recent->policy ? recent->policy : "host");
	json_write_string(out, "reason", !record->rule ? "default" : record->over ? "limit" : "rule");
	json_write_object_end(out);
}

/* "10.0.0.1:443", "[fd00::1]:443", or without a port */
static void end_print(
	char *buffer, size_t size, const struct policy_log *record, const __be32 words[4], __be16 port)
{
	struct address address = record_address(record, words);
	char text[ADDRESS_TEXT_MAX];

	address_print(text, sizeof(text), &address);
	if (!has_ports(record))
		snprintf(buffer, size, "%s", text);
	else
		snprintf(buffer, size, address.family == 6 ? "[%s]:%u" : "%s:%u", text, ntohs(port));
}

/* For captures that wait for it. */
static void record_tell(const struct logs *logs, const struct recent *recent)
{
	const struct policy_log *record = &recent->record;
	char who[32] = "the default verdict", src[ADDRESS_TEXT_MAX + 8], dst[ADDRESS_TEXT_MAX + 8], text[512];
	int length;

	if (record->rule)
		snprintf(who, sizeof(who), "rule %u", record->rule);
	length = snprintf(text, sizeof(text), "%s: %s %s on %s", who,
		policies_action(record->over ? POLICY_DROP : record->action), record->out ? "out" : "in",
		recent->interface);
	if (record->packet.family) {
		end_print(src, sizeof(src), record, record->packet.src, record->packet.sport);
		end_print(dst, sizeof(dst), record, record->packet.dst, record->packet.dport);
		snprintf(text + length, sizeof(text) - (size_t)length, " from %s to %s", src, dst);
	}
	captures_alert(logs->agent, &(struct alert){.kind = ALERT_LOG, .rule = record->rule, .text = text});
}

static void on_record(void *context, const struct policy_log *record)
{
	struct logs *logs = context;
	struct recent *recent = &logs->recent[logs->count++ % RECENT_MAX];
	const struct rule_policy *policy = rulebook_numbered(rules_book(logs->agent), record->policy);
	struct json_write json = {};

	rule_entry_release(recent->entry);
	*recent = (struct recent){.record = *record};
	recent->entry = record->rule ? rules_entry(logs->agent, record->rule) : NULL;
	if (recent->entry)
		recent->entry->users++;
	if (policy)
		memcpy(recent->policy, policy->name, sizeof(recent->policy));
	if (!if_indextoname(record->ifindex, recent->interface))
		snprintf(recent->interface, sizeof(recent->interface), "#%u", record->ifindex);
	if (captures_wait_for(logs->agent, ALERT_LOG))
		record_tell(logs, recent);
	if (!feed_has_followers(logs->feed))
		return;
	recent_write(logs->agent, &json, recent);
	feed_publish(logs->feed, &(struct told){logs->agent, recent}, &json);
	json_write_free(&json);
}

static void on_ring(evutil_socket_t fd, short what, void *context)
{
	struct logs *logs = context;

	(void)fd;
	(void)what;
	engine_policy_log_read(logs->agent->engine, on_record, logs);
}

/* -- answers -- */

static int filter_read(const char *query, struct match *match, struct error *error)
{
	_cleanup_free_ char *filter = query_value(query, "filter");

	return match_parse(filter ? filter : "", match, error);
}

static int limit_read(const char *query, uint64_t *ret_limit, struct error *error)
{
	_cleanup_free_ char *text = query_value(query, "limit");
	char *end = NULL;

	*ret_limit = text ? strtoull(text, &end, 10) : RECENT_MAX;
	if (!text || (*text >= '0' && *text <= '9' && !*end))
		return 0;
	error_set(error, -EINVAL, "parameter 'limit': expected a number, got '%s'", text);
	return error->code;
}

static void stats_write(const struct logs *logs, struct json_write *out)
{
	struct policy_stats stats;

	engine_policy_stats(logs->agent->engine, &stats);
	json_write_number(out, "logged", stats.logged);
	json_write_number(out, "unlogged", stats.unlogged);
}

static void reply_log(struct agent *agent, struct evhttp_request *request)
{
	static const char *const names[] = {"filter", "limit", NULL};
	struct logs *logs = module_state(agent, &log_module);
	uint64_t kept, limit = 0;
	const char *query = query_of(request);
	struct json_write json = {};
	struct error error = {};
	struct match match;

	if (query_check(query, names, &error) < 0 || filter_read(query, &match, &error) < 0 ||
		limit_read(query, &limit, &error) < 0) {
		reply_bad_request(request, &error);
		return;
	}
	engine_policy_log_read(agent->engine, on_record, logs);
	kept = logs->count < RECENT_MAX ? logs->count : RECENT_MAX;
	json_write_object_begin(&json, NULL);
	json_write_array_begin(&json, "log");
	for (uint64_t i = 1; i <= kept && limit; i++) {
		const struct recent *recent = &logs->recent[(logs->count - i) % RECENT_MAX];

		if (!recent_fits(&match, &(struct told){agent, recent}))
			continue;
		recent_write(agent, &json, recent);
		json_write_newline(&json);
		limit--;
	}
	json_write_array_end(&json);
	stats_write(logs, &json);
	json_write_object_end(&json);
	reply_json(request, HTTP_OK, "OK", &json);
	json_write_free(&json);
}

static void reply_events(struct agent *agent, struct evhttp_request *request)
{
	static const char *const names[] = {"filter", NULL};
	struct logs *logs = module_state(agent, &log_module);
	struct match *match = malloc(sizeof(*match));
	struct error error = {};

	if (!match) {
		reply_failure(request, -ENOMEM);
		return;
	}
	if (query_check(query_of(request), names, &error) < 0 ||
		filter_read(query_of(request), match, &error) < 0) {
		free(match);
		reply_bad_request(request, &error);
		return;
	}
	feed_follow(logs->feed, request, recent_fits, match);
}

/* -- the module -- */

int logs_wait(struct agent *agent, struct error *error)
{
	struct logs *logs = module_state(agent, &log_module);
	int fd = engine_policy_log_fd(agent->engine), r;

	if (!logs || logs->waiting || fd < 0)
		return 0;
	r = engine_policy_log_rate(agent->engine, agent->config.log_packets, agent->config.log_drops);
	if (r == 0)
		r = agent_wait_for(agent, fd, on_ring, logs);
	logs->waiting = r == 0;
	return r < 0 ? error_set(error, r, "cannot wait for logged packets: %s", strerror(-r)) : 0;
}

static void logs_reload(struct agent *agent, void *state)
{
	const struct logs *logs = state;
	int r = logs->waiting ? engine_policy_log_rate(
					agent->engine, agent->config.log_packets, agent->config.log_drops)
	                      : 0;

	if (r < 0)
		log_warning("cannot change how many packets are logged: %s", strerror(-r));
}

/* In front of the rules: their entries are used here. */
static void logs_close(void *state)
{
	struct logs *logs = state;

	feed_free(logs->feed);
	for (size_t i = 0; logs->recent && i < RECENT_MAX; i++)
		rule_entry_release(logs->recent[i].entry);
	free(logs->recent);
	free(logs);
}

static int logs_open(struct agent *agent, void **ret_state, struct error *error)
{
	struct logs *logs = calloc(1, sizeof(*logs));

	if (!logs)
		return error_set(error, -ENOMEM, "out of memory");
	*ret_state = logs;
	logs->agent = agent;
	logs->feed = feed_new(agent);
	logs->recent = calloc(RECENT_MAX, sizeof(*logs->recent));
	if (!logs->feed || !logs->recent)
		return error_set(error, -ENOMEM, "out of memory");
	return logs_wait(agent, error);
}

static void logs_metrics(struct agent *agent, void *state, struct evbuffer *out)
{
	struct policy_stats stats;

	(void)state;
	engine_policy_stats(agent->engine, &stats);
	metrics_head(out, "weir_log_packets_total", "counter",
		"Packets that were to be logged: recorded, and too many for the log's rate or its ring.");
	metrics_labelled(out, "weir_log_packets_total", "fate", "logged", stats.logged);
	metrics_labelled(out, "weir_log_packets_total", "fate", "unlogged", stats.unlogged);
}

static const struct route routes[] = {
	{"/v1/log", EVHTTP_REQ_GET, reply_log},
	{"/v1/log/events", EVHTTP_REQ_GET, reply_events},
	{NULL},
};

const struct module log_module = {
	.name = "log",
	.open = logs_open,
	.close = logs_close,
	.reload = logs_reload,
	.metrics = logs_metrics,
	.routes = routes,
};
