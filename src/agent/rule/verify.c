// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
#include "agent/rule/verify.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "basic/cleanup.h"
#include "engine/policy.h"

#define FACTS_AT_ONCE  16384 /* packets of one round */
#define SHARE          256   /* of them that a thread takes at a time */
#define FACTS_FOR_HELP 1024  /* from which on it pays to start threads */
#define HELPERS_MAX    3

enum { TC, XDP, HOOKS };

struct verification {
	struct engine *engine;
	unsigned int number;
	const struct policy_order *orders[HOOKS]; /* [XDP]: NULL where there is none */
	struct policy_judge *judges[HOOKS];
	size_t loose; /* loose_find() */
	struct policy_facts *facts;
	uint32_t *wanted[HOOKS], *got[HOOKS];
	size_t count;
	size_t taken; /* facts that some thread judges or has judged */
	struct verify_result *result;
	struct error *error;
};

static void verification_clear(struct verification *v)
{
	free(v->facts);
	for (int hook = 0; hook < HOOKS; hook++) {
		free(v->wanted[hook]);
		free(v->got[hook]);
		policy_judge_close(v->judges[hook]);
	}
}

/* -- the second opinion: by all CPUs, since it takes the longest -- */

static void facts_judge(struct verification *v, size_t i)
{
	const struct policy_facts *facts = &v->facts[i];
	size_t first = policy_judge(v->judges[TC], facts, 0);

	v->wanted[TC][i] = (uint32_t)first;
	/* For XDP fit the same rules, without those for packets that go out, and more packets fit those that
	 * it does not understand whole. */
	if (v->judges[XDP] && !facts->out)
		v->wanted[XDP][i] =
			(uint32_t)policy_judge(v->judges[XDP], facts, first < v->loose ? first : v->loose);
}

static void *judge_run(void *context)
{
	struct verification *v = context;
	size_t i;

	while ((i = __atomic_fetch_add(&v->taken, SHARE, __ATOMIC_RELAXED)) < v->count)
		for (size_t end = i + SHARE; i < end && i < v->count; i++)
			facts_judge(v, i);
	return NULL;
}

static unsigned int helpers_start(struct verification *v, pthread_t helpers[HELPERS_MAX])
{
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	unsigned int count = 0;
	sigset_t all, before;

	if (v->count < FACTS_FOR_HELP)
		return 0;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	while (count < HELPERS_MAX && count + 1 < cpus &&
		pthread_create(&helpers[count], NULL, judge_run, v) == 0)
		count++;
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return count;
}

/* -- comparing -- */

static void rule_describe(const struct policy_order *order, size_t place, char *buffer, size_t size)
{
	char text[RULE_TEXT_MAX] = "";

	if (place >= order->count) {
		snprintf(buffer, size, "the default verdict");
		return;
	}
	rule_print(order->sources[place].rule, text, sizeof(text));
	snprintf(buffer, size, "rule %u (%.80s)", order->sources[place].id, text);
}

static int facts_compare(const struct verification *v, int hook)
{
	const struct policy_order *order = v->orders[hook];

	for (size_t i = 0; i < v->count; i++) {
		size_t got = v->got[hook][i] == POLICY_NO_RULE ? order->count : v->got[hook][i];
		char got_text[112], wanted_text[112];

		if (got == v->wanted[hook][i] || (hook == XDP && v->facts[i].out))
			continue;
		rule_describe(order, got, got_text, sizeof(got_text));
		rule_describe(order, v->wanted[hook][i], wanted_text, sizeof(wanted_text));
		error_set(v->error, -EUCLEAN, "the policy cannot be verified: %s decides where %s should",
			got_text, wanted_text);
		return error_want(v->error, "nothing has changed; please report this");
	}
	return 0;
}

static int facts_ask(struct verification *v)
{
	int r = 0;

	for (int hook = 0; hook < HOOKS && r == 0; hook++)
		if (v->orders[hook])
			r = engine_policy_check(v->engine, v->number, hook == XDP, v->facts, v->got[hook],
				v->count, v->error);
	return r;
}

/* One round: the kernel is asked while others judge. */
static int facts_check(struct verification *v)
{
	pthread_t helpers[HELPERS_MAX];
	unsigned int count;
	int r;

	v->taken = 0;
	count = helpers_start(v, helpers);
	r = v->count ? facts_ask(v) : 0;
	judge_run(v);
	while (count-- > 0)
		pthread_join(helpers[count], NULL);
	for (int hook = 0; hook < HOOKS && r == 0; hook++) {
		if (!v->orders[hook])
			continue;
		r = facts_compare(v, hook);
		/* somebody may look how far it is */
		__atomic_store_n(&v->result->checked, v->result->checked + v->count, __ATOMIC_RELAXED);
	}
	v->count = 0;
	return r;
}

static int on_edge(void *context, const struct policy_facts *facts)
{
	struct verification *v = context;

	v->facts[v->count++] = *facts;
	return v->count == FACTS_AT_ONCE ? facts_check(v) : 0;
}

static void on_shadow(void *context, size_t hidden, size_t hiding)
{
	const struct verification *v = context;
	const struct policy_source *sources = v->orders[TC]->sources;
	struct verify_result *result = v->result;

	if (result->shadow_count < VERIFY_SHADOWS_MAX)
		result->shadows[result->shadow_count] =
			(struct verify_shadow){sources[hidden].id, sources[hiding].id};
	result->shadow_count++;
}

/* -- the whole -- */

static int verification_open(struct verification *v)
{
	int r = 0;

	v->facts = calloc(FACTS_AT_ONCE, sizeof(*v->facts));
	if (!v->facts)
		return error_set(v->error, -ENOMEM, "out of memory");
	for (int hook = 0; hook < HOOKS && r == 0; hook++) {
		v->wanted[hook] = calloc(FACTS_AT_ONCE, sizeof(uint32_t));
		v->got[hook] = calloc(FACTS_AT_ONCE, sizeof(uint32_t));
		if (!v->wanted[hook] || !v->got[hook])
			return error_set(v->error, -ENOMEM, "out of memory");
		if (v->orders[hook])
			r = policy_judge_open(v->orders[hook], &v->judges[hook], v->error);
	}
	return r;
}

/* The first rule that XDP does not understand whole; the rules' number: none. */
static size_t loose_find(const struct policy_order *order)
{
	size_t i = 0;

	while (i < order->count && policy_xdp_decides(order->sources[i].rule))
		i++;
	return i;
}

static int verification_run(struct verification *v, const bool *changed)
{
	int r = verification_open(v);

	if (r == 0)
		r = policy_edges(v->judges[TC], changed, on_edge, v);
	if (r == 0)
		r = facts_check(v);
	if (r == 0 && !changed)
		policy_shadows(v->judges[TC], on_shadow, v);
	return r;
}

int verify_policy(struct engine *engine, unsigned int number, const struct policy_order *tc,
	const struct policy_order *xdp, const bool *changed, struct verify_result *result,
	struct error *error)
{
	struct verification v = {.engine = engine,
		.number = number,
		.orders = {[TC] = tc, [XDP] = xdp},
		.loose = loose_find(tc),
		.result = result,
		.error = error};
	int r = verification_run(&v, changed);

	verification_clear(&v);
	return r;
}
