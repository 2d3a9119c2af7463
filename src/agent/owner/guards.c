// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
#include "agent/owner/guards.h"

#include <arpa/inet.h>
#include <errno.h>
#include <event2/buffer.h>
#include <stdlib.h>
#include <string.h>

#include "agent/internal.h"
#include "agent/owner/audit.h"
#include "agent/rule/policies.h"
#include "agent/rule/rules.h"
#include "basic/address.h"
#include "basic/cleanup.h"
#include "basic/log.h"
#include "compile/guard.h"
#include "engine/guard.h"
#include "shared/socket.h"

#define LOG_EVERY_NS 1000000000ULL /* a line for one rule's denied calls */

_Static_assert(RULES_SOCKET_MAX == GUARD_RULES_MAX, "one limit");

struct guards {
	struct agent *agent;
	bool waiting; /* for denied calls */
};

/* -- installing -- */

static void policy_fill(struct guard_policy *policy, const struct rule_list *list)
{
	for (size_t i = 0; i < list->count; i++) {
		const struct rule_entry *entry = list->slots[i].entry;
		struct guard_rule *rule = &policy->rules[policy->count];

		if (!entry->guard)
			continue;
		*rule = *entry->guard;
		rule->id = entry->id;
		rule->generation = entry->generation;
		policy->count++;
	}
	guard_list(policy);
}

static void on_ring(evutil_socket_t fd, short what, void *context);

/* The ring comes with the first rule. */
static int denials_wait(struct guards *guards, struct error *error)
{
	int fd = engine_guard_fd(guards->agent->engine), r;

	if (guards->waiting || fd < 0)
		return 0;
	r = agent_wait_for(guards->agent, fd, on_ring, guards);
	guards->waiting = r == 0;
	return r < 0 ? error_set(error, r, "cannot wait for denied calls: %s", strerror(-r)) : 0;
}

int guards_bring(struct agent *agent, const struct rule_list *list, uint32_t generation, struct error *error)
{
	struct guards *guards = module_state(agent, &guard_module);
	struct guard_policy *policy;
	int r;

	if (rule_list_count(list, RULE_ON_SOCKETS) > RULES_SOCKET_MAX) {
		error_set(error, -ENOSPC, "too many rules");
		error_want(error, "at most %d", RULES_SOCKET_MAX);
		return -ENOSPC;
	}
	policy = calloc(1, sizeof(*policy));
	if (!policy)
		return error_set(error, -ENOMEM, "out of memory");
	policy->generation = generation;
	policy_fill(policy, list);
	r = engine_guard_bring(agent->engine, policy, error);
	free(policy);
	return r < 0 ? r : denials_wait(guards, error);
}

int guards_adopt(struct agent *agent, struct error *error)
{
	return denials_wait(module_state(agent, &guard_module), error);
}

/* -- denied calls -- */

const char *guard_call_name(enum guard_call call)
{
	static const char *const names[GUARD_CALLS] = {
		[GUARD_CREATE] = "create",
		[GUARD_BIND] = "bind",
		[GUARD_CONNECT] = "connect",
		[GUARD_SEND] = "send",
		[GUARD_CONNECT_DATAGRAM] = "connect",
	};

	return call < GUARD_CALLS ? names[call] : "?";
}

static void denial_log(struct guards *guards, const struct guard_denial *denial)
{
	struct rule_entry *entry = rules_entry(guards->agent, denial->rule);
	struct address address = {.family = denial->family};
	char where[ADDRESS_TEXT_MAX + 24] = "", text[ADDRESS_TEXT_MAX];

	if (!entry)
		return;
	if (denial->time_ns - entry->logged_ns < LOG_EVERY_NS) {
		entry->unlogged++;
		return;
	}
	if (denial->call != GUARD_CREATE) {
		memcpy(address.bytes, denial->address, denial->family == 6 ? 16 : 4);
		snprintf(where, sizeof(where), " to %s port %u", address_print(text, sizeof(text), &address),
			denial->port);
	}
	log_info("rule %u denied %.16s (pid %u, uid %u) %s%s; %" PRIu64 " more since the last such line: %s",
		denial->rule, denial->command, denial->pid, denial->uid, guard_call_name(denial->call), where,
		entry->unlogged, entry->text);
	entry->logged_ns = denial->time_ns;
	entry->unlogged = 0;
}

static void denial_audit(struct guards *guards, const struct guard_denial *denial)
{
	struct socket_head head = {
		.time_ns = denial->time_ns,
		.owner = denial->owner,
		.family = denial->family,
		.protocol = (uint8_t)denial->protocol,
	};

	if (denial->call == GUARD_BIND) {
		memcpy(head.local, denial->address, sizeof(head.local));
		head.lport = denial->port;
	} else {
		memcpy(head.remote, denial->address, sizeof(head.remote));
		head.rport = denial->port;
	}
	audit_denied(guards->agent, &head, denial->call, denial->rule);
}

static void on_denial(void *context, const struct guard_denial *denial)
{
	if (denial->call >= GUARD_CALLS)
		return;
	denial_log(context, denial);
	denial_audit(context, denial);
}

static void on_ring(evutil_socket_t fd, short what, void *context)
{
	struct guards *guards = context;

	(void)fd;
	(void)what;
	engine_guard_denials(guards->agent->engine, on_denial, guards);
}

/* -- what is said about them -- */

void guards_write_entry(const struct agent *agent, struct json_write *out, struct rule_entry *entry)
{
	struct guard_hits hits = {};

	engine_guard_hits(agent->engine, entry->id, &hits);
	policies_meter(&entry->meter, &(struct engine_policy_count){.packets = hits.hits});
	json_write_string(out, "call", rule_calls[entry->rule.socket.call]);
	json_write_number(out, "hits", hits.hits);
	if (entry->meter.known)
		json_write_number(out, "rate_hits", entry->meter.pps);
	if (hits.last_ns)
		answer_time(out, "last_hit", hits.last_ns);
}

void guards_write_stats(const struct agent *agent, struct json_write *out)
{
	struct guard_stats stats;

	engine_guard_stats(agent->engine, &stats);
	json_write_number(out, "denied", stats.denied);
	json_write_number(out, "unreported", stats.unreported);
	json_write_number(out, "unidentified", stats.unidentified);
}

static void guards_metrics(struct agent *agent, void *state, struct evbuffer *out)
{
	const struct rule_list *list = &rules_book(agent)->policies[0].list;
	struct guard_stats stats;

	(void)state;
	engine_guard_stats(agent->engine, &stats);
	metrics_head(out, "weir_rule_hits_total", "counter", "Calls that a socket rule decided, by its id.");
	for (size_t i = 0; i < list->count; i++) {
		const struct rule_entry *entry = list->slots[i].entry;
		struct guard_hits hits = {};

		if (!entry->guard)
			continue;
		engine_guard_hits(agent->engine, entry->id, &hits);
		evbuffer_add_printf(out, "weir_rule_hits_total{rule=\"%u\"} %" PRIu64 "\n", entry->id,
			(uint64_t)hits.hits);
	}
	metrics_single(
		out, "weir_denied_calls_total", "counter", "Calls that socket rules denied.", stats.denied);
	metrics_single(out, "weir_denied_calls_unreported_total", "counter",
		"Denied calls that are counted only: too many for the log and the audit trail.",
		stats.unreported);
	metrics_single(out, "weir_unidentified_calls_total", "counter",
		"Calls judged without knowing the process: rules with 'by' were passed over.",
		stats.unidentified);
}

/* -- the module -- */

static int guards_open(struct agent *agent, void **ret_state, struct error *error)
{
	struct guards *guards = calloc(1, sizeof(*guards));

	if (!guards)
		return error_set(error, -ENOMEM, "out of memory");
	guards->agent = agent;
	*ret_state = guards;
	return denials_wait(guards, error);
}

const struct module guard_module = {
	.name = "guard",
	.open = guards_open,
	.close = free,
	.metrics = guards_metrics,
};
