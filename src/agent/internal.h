/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* The agent from inside: what its files share. */
#ifndef WEIR_AGENT_INTERNAL_H
#define WEIR_AGENT_INTERNAL_H

#include <errno.h>
#include <event2/event.h>
#include <event2/http.h>
#include <inttypes.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

#include "agent/agent.h"
#include "agent/api/query.h"
#include "agent/api/reply.h"
#include "agent/flow/collect.h"
#include "agent/flow/table.h"
#include "agent/module.h"
#include "basic/error.h"
#include "basic/json_write.h"
#include "engine/engine.h"
#include "model/config.h"
#include "model/match.h"

enum watch_state { WATCH_WATCHED, WATCH_WAITING, WATCH_FAILED };

/* An interface that is wanted. */
struct watched {
	char name[ENGINE_NAME_MAX];
	uint32_t index; /* 0 while waiting */
	enum watch_state state;
	bool ethernet, veth, loopback;
	struct engine_hooks hooks;
	char failure[256];
	struct engine_counters in, out; /* the kernel's, at the last look */
};

enum agent_end { AGENT_RUNS, AGENT_LEAVES, AGENT_REMOVES };

struct agent {
	const struct agent_options *options;
	char run_dir[PATH_MAX];
	char socket_path[PATH_MAX];
	bool made_run_dir;
	int lock;
	struct config config;
	struct engine *engine;
	struct table *table;
	struct collector *collector;
	struct watched *watched;
	size_t watched_count;
	struct event_base *base;
	struct evhttp *api, *metrics;
	struct evhttp_bound_socket *metrics_socket;
	struct event *scan_timer;
	struct event **events; /* everything else the loop waits for */
	size_t event_count;
	uint64_t asked_ns; /* CLOCK_MONOTONIC time of the last request */
	uint64_t started_ns;
	enum agent_end end;
	void *modules[MODULES_MAX]; /* what each module keeps; module.c */
};

/* agent.c */
uint64_t agent_now_ns(void);
int agent_reload(struct agent *agent, struct error *error);
void agent_stop(struct agent *agent, enum agent_end end);
/* Has the table brought up to date for a question, unless it was a moment ago; with that goes the modules'
 * regular work. */
void agent_refresh(struct agent *agent);
/* The table alone: for who is in the middle of a change, where the modules' work has no place. */
void agent_refresh_table(struct agent *agent);

/* Waits for a file descriptor, until the agent ends.  0 or a negative errno. */
int agent_wait_for(struct agent *agent, int fd, event_callback_fn function, void *context);

/* watch.c */
void watch_reconcile(struct agent *agent);
void watch_free(struct agent *agent);

/* api.c */
int api_open(struct agent *agent, struct error *error);
int api_protect(struct agent *agent, struct error *error); /* mode and group of the socket */
int api_listen_metrics(struct agent *agent, struct error *error);
void api_close(struct agent *agent);
/* Answers a request with what the function writes: a list of totals, as its parameters ask for it. */
typedef int totals_function(struct agent *agent, const struct query *query, struct json_write *out);
void reply_totals(
	struct agent *agent, struct evhttp_request *request, enum query_list list, totals_function *function);

/* answer.c */
/* The flows that a query asks for, sorted: indices into the table; the caller frees them. */
int answer_select_flows(
	struct agent *agent, const struct query *query, uint32_t **ret_flows, size_t *ret_count);
void answer_flow(struct agent *agent, struct json_write *out, uint32_t index);
/* What every list ends with: losses, and how full the table is. */
void answer_list_end(struct agent *agent, struct json_write *out);
int answer_hosts(struct agent *agent, const struct query *query, struct json_write *out);
int answer_ports(struct agent *agent, const struct query *query, struct json_write *out);
void answer_interfaces(struct agent *agent, struct json_write *out);
void answer_status(struct agent *agent, struct json_write *out);
bool answer_flow_fits(struct agent *agent, uint32_t flow, const struct match *match);
void answer_counts(struct json_write *out, const char *key, const struct table_counts *counts);
/* Fields that several lists have: a CLOCK_MONOTONIC time, one of CLOCK_REALTIME, an address, "proto",
 * "tcp_flags". */
void answer_time(struct json_write *out, const char *key, uint64_t monotonic_ns);
void answer_wall_time(struct json_write *out, const char *key, uint64_t realtime_ns);
void answer_address(struct json_write *out, const char *key, const struct address *address);
void answer_protocol(struct json_write *out, uint8_t protocol);
void answer_tcp_flags(struct json_write *out, uint8_t flags);
uint64_t answer_wall_ns(uint64_t monotonic_ns); /* CLOCK_REALTIME then */
#define ANSWER_TIME_MAX 64
/* A time as answers have it; returns `buffer`. */
char *answer_time_print(char buffer[static ANSWER_TIME_MAX], uint64_t realtime_ns);
void answer_error(const struct error *error, struct json_write *out);

/* metrics.c */
struct evbuffer;
void metrics_write(struct agent *agent, struct evbuffer *out);
/* Lines of the page: what a metric is; one without labels; one of a label's values. */
void metrics_head(struct evbuffer *out, const char *name, const char *type, const char *help);
void metrics_single(
	struct evbuffer *out, const char *name, const char *type, const char *help, uint64_t value);
void metrics_labelled(
	struct evbuffer *out, const char *name, const char *label, const char *label_value, uint64_t value);
/* A label's value, whatever bytes a name consists of. */
void metrics_escape(char *to, size_t size, const char *from);
size_t memory_of_agent(void); /* resident bytes */
const char *parse_reason_name(enum parse_reason reason);

#endif
