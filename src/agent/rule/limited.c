// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
#include "agent/rule/limited.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/internal.h"
#include "engine/policy.h"

#define PAUSE_US 5000          /* between two slices */
#define REST_NS  2000000000ULL /* between two counts */

/* A limit, by its place. */
struct place {
	uint32_t generation; /* of the rule whose sources were counted last; 0: none */
	uint32_t limited;
	uint64_t made, pushed_out;
};

struct limits {
	struct agent *agent;
	struct event *timer;
	struct engine_limit_cursor cursor;
	struct place *places, *next; /* what is known, and the count that runs; POLICY_LIMITS_MAX each */
	uint64_t *made;              /* when it began */
	uint64_t made_sum, ended_ns;
	uint64_t gone; /* pushed out of limits that are there no more */
	bool runs, known;
};

static struct limits *limits_of(const struct agent *agent)
{
	return module_state(agent, &limit_module);
}

/* Places are given to new rules: the youngest is whose they are. */
static void limited_note(void *context, const struct policy_limited *limited)
{
	struct limits *limits = context;
	struct place *place;

	if (limited->place >= POLICY_LIMITS_MAX)
		return;
	place = &limits->next[limited->place];
	if ((int32_t)(limited->generation - place->generation) < 0)
		return;
	if (limited->generation != place->generation) {
		place->generation = limited->generation;
		place->limited = 0;
	}
	place->limited++;
}

static void count_end(struct limits *limits)
{
	struct place *done = limits->next;

	for (uint32_t i = 0; i < POLICY_LIMITS_MAX; i++) {
		struct place *now = &done[i];
		const struct place *before = &limits->places[i];

		now->made = limits->made[i];
		/* all of them may have been pushed out */
		if (!now->generation && now->made >= before->made)
			now->generation = before->generation;
		/* what began while this was counted may be here, and not among those that were made */
		now->pushed_out = now->made > now->limited ? now->made - now->limited : 0;
		if (now->generation != before->generation || now->made < before->made)
			limits->gone += before->pushed_out;
		else if (now->pushed_out < before->pushed_out)
			now->pushed_out = before->pushed_out;
	}
	limits->next = limits->places;
	limits->places = done;
	limits->runs = false;
	limits->known = true;
	limits->ended_ns = agent_now_ns();
}

static void pause_begin(const struct limits *limits)
{
	const struct timeval pause = {.tv_usec = PAUSE_US};

	evtimer_add(limits->timer, &pause);
}

static void count_go_on(evutil_socket_t fd, short what, void *context)
{
	struct limits *limits = context;
	int r = engine_limit_walk(limits->agent->engine, &limits->cursor, limited_note, limits);

	(void)fd;
	(void)what;
	if (r == 0)
		pause_begin(limits);
	else if (r > 0)
		count_end(limits);
	else
		limits->runs = false; /* begun anew with the next tick */
}

static void limits_tick(struct agent *agent, void *state, uint64_t now_ns)
{
	struct limits *limits = state;
	uint64_t sum = 0;

	if (limits->runs || now_ns - limits->ended_ns < REST_NS || !engine_limit_sources(agent->engine) ||
		engine_limit_made(agent->engine, limits->made) < 0)
		return;
	for (uint32_t i = 0; i < POLICY_LIMITS_MAX; i++)
		sum += limits->made[i];
	if (limits->known && sum == limits->made_sum)
		return; /* as it was */
	limits->made_sum = sum;
	limits->runs = true;
	limits->cursor = (struct engine_limit_cursor){};
	memset(limits->next, 0, POLICY_LIMITS_MAX * sizeof(*limits->next));
	pause_begin(limits);
}

void limits_write_entry(const struct agent *agent, struct json_write *out, const struct rule_entry *entry)
{
	const struct limits *limits = limits_of(agent);
	const struct rule_packet *packet = &entry->rule.packet;
	const struct place *place;

	if (entry->limit >= POLICY_LIMITS_MAX || packet->per == POLICY_PER_RULE ||
		packet->unit == POLICY_LIMIT_CONNECTIONS)
		return;
	place = &limits->places[entry->limit];
	json_write_number(out, "limited", place->generation == entry->id ? place->limited : 0);
	json_write_number(out, "pushed_out", place->generation == entry->id ? place->pushed_out : 0);
}

static void sums_make(const struct limits *limits, uint64_t *ret_limited, uint64_t *ret_pushed_out)
{
	uint64_t limited = 0, pushed_out = limits->gone;

	for (uint32_t i = 0; i < POLICY_LIMITS_MAX; i++) {
		limited += limits->places[i].limited;
		pushed_out += limits->places[i].pushed_out;
	}
	*ret_limited = limited;
	*ret_pushed_out = pushed_out;
}

void limits_write_stats(const struct agent *agent, struct json_write *out)
{
	uint64_t limited, pushed_out;

	sums_make(limits_of(agent), &limited, &pushed_out);
	json_write_number(out, "limited", limited);
	json_write_number(out, "limited_room", POLICY_LIMITED_MAX);
	json_write_number(out, "limited_pushed_out", pushed_out);
}

static void limits_close(void *state)
{
	struct limits *limits = state;

	if (limits->timer)
		event_free(limits->timer);
	free(limits->places);
	free(limits->next);
	free(limits->made);
	free(limits);
}

static int limits_open(struct agent *agent, void **ret_state, struct error *error)
{
	struct limits *limits = calloc(1, sizeof(*limits));

	if (!limits)
		return error_set(error, -ENOMEM, "out of memory");
	*ret_state = limits;
	limits->agent = agent;
	limits->places = calloc(POLICY_LIMITS_MAX, sizeof(*limits->places));
	limits->next = calloc(POLICY_LIMITS_MAX, sizeof(*limits->next));
	limits->made = calloc(POLICY_LIMITS_MAX, sizeof(*limits->made));
	limits->timer = evtimer_new(agent->base, count_go_on, limits);
	if (!limits->places || !limits->next || !limits->made || !limits->timer)
		return error_set(error, -ENOMEM, "out of memory");
	return 0;
}

static void limits_metrics(struct agent *agent, void *state, struct evbuffer *out)
{
	uint64_t limited, pushed_out;

	(void)agent;
	sums_make(state, &limited, &pushed_out);
	metrics_single(out, "weir_limited", "gauge",
		"Sources and destinations that limits tell apart; there is room for 262144.", limited);
	metrics_single(out, "weir_limited_pushed_out_total", "counter",
		"Sources and destinations that made room for others, and begin anew when they come back.",
		pushed_out);
}

const struct module limit_module = {
	.name = "limit",
	.open = limits_open,
	.close = limits_close,
	.tick = limits_tick,
	.metrics = limits_metrics,
};
