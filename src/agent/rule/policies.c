// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
#include "agent/rule/policies.h"

#include <errno.h>
#include <event2/buffer.h>
#include <stdlib.h>
#include <string.h>

#include "agent/internal.h"
#include "agent/rule/limited.h"
#include "agent/rule/rules.h"
#include "agent/set/sets.h"
#include "basic/cleanup.h"
#include "compile/policy.h"
#include "engine/policy.h"

#define SERIES_MAX    1000 /* rules with metrics of their own */
#define METER_STEP_NS 500000000ULL
#define METER_AGE_NS  10000000000ULL

/* A policy of 10,000 rules asks for an interface as often. */
static uint32_t name_index(void *context, const char *name)
{
	const struct policies_names *names = context;

	for (size_t i = 0; i < names->count; i++)
		if (strcmp(names->interfaces[i].name, name) == 0)
			return names->interfaces[i].index;
	return 0;
}

static int name_set(void *context, const char *name)
{
	const struct policy_world *sets = &((const struct policies_names *)context)->sets;

	return sets->set(sets->context, name);
}

static const struct port_range *name_ports(void *context, const char *name, size_t *ret_count)
{
	const struct policy_world *sets = &((const struct policies_names *)context)->sets;

	return sets->port_set(sets->context, name, ret_count);
}

static const char *name_set_near(void *context, const char *name)
{
	const struct policy_world *sets = &((const struct policies_names *)context)->sets;

	return sets->set_near(sets->context, name);
}

int policies_names_open(struct agent *agent, struct policies_names *ret_names)
{
	int r = engine_interfaces(agent->engine, &ret_names->interfaces, &ret_names->count);

	if (r < 0)
		return r;
	sets_world(agent, &ret_names->sets);
	ret_names->world = (struct policy_world){
		.context = ret_names,
		.interface = name_index,
		.set = name_set,
		.port_set = name_ports,
		.set_near = name_set_near,
		.combinations = ret_names->sets.combinations,
		.combination_count = ret_names->sets.combination_count,
	};
	return 0;
}

void policies_names_close(struct policies_names *names)
{
	free(names->interfaces);
	*names = (struct policies_names){};
}

/* A policy on its way into the kernel. */
struct policies_work {
	struct agent *agent;
	const struct rule_policy *policy;
	const struct rule_entry **entries; /* those on packets */
	struct policy_source *sources;
	bool *changed; /* to be verified */
	bool *fresh;   /* in no list before: what it counts begins at zero */
	enum policies_verify verify;
	struct verify_result *result;
	size_t count;
	struct policies_names names;
	struct policy_order tc, xdp;
	struct policy_rule_views *tc_views, *xdp_views;
	struct policy_image tc_image, xdp_image;
};

void policies_work_free(struct policies_work *work)
{
	if (!work)
		return;
	free(work->entries);
	free(work->sources);
	free(work->changed);
	free(work->fresh);
	policy_views_close(work->tc_views);
	policy_views_close(work->xdp_views);
	policies_names_close(&work->names);
	policy_image_clear(&work->tc_image);
	policy_image_clear(&work->xdp_image);
	free(work);
}

/* -- what there is -- */

bool policies_present(const struct rule_policy *policy)
{
	return policy->defaults[0] != POLICY_ACCEPT || policy->defaults[1] != POLICY_ACCEPT ||
	       rule_list_count(&policy->list, RULE_ON_PACKETS);
}

bool policies_same(const struct rule_policy *a, const struct rule_policy *b)
{
	return a->defaults[0] == b->defaults[0] && a->defaults[1] == b->defaults[1] && a->log == b->log &&
	       rule_list_same(&a->list, &b->list, RULE_ON_PACKETS);
}

bool policies_name_sets(const struct rule_policy *policy)
{
	for (size_t i = 0; i < policy->list.count; i++)
		if (rule_names_set(&policy->list.slots[i].entry->rule, NULL))
			return true;
	return false;
}

bool policies_name_set(const struct rule_entry *entry, const char *name)
{
	return rule_names_set(&entry->rule, name);
}

static bool rule_tracks(const struct rule *rule)
{
	switch (rule->verb) {
	case RULE_DROP:
	case RULE_REJECT:
	case RULE_REDIRECT:
		return true;
	case RULE_LIMIT:
		return !rule_is_shape(rule) || rule->packet.states;
	default:
		return rule->packet.states;
	}
}

bool policies_tracking(const struct rulebook *book)
{
	for (size_t p = 0; p < book->count; p++) {
		const struct rule_policy *policy = &book->policies[p];

		if (policy->defaults[0] != POLICY_ACCEPT || policy->defaults[1] != POLICY_ACCEPT)
			return true;
		for (size_t i = 0; i < policy->list.count; i++)
			if (rule_tracks(&policy->list.slots[i].entry->rule))
				return true;
	}
	return false;
}

static uint64_t name_mix(uint64_t hash, const struct policies_names *names, const char *name)
{
	return *name ? (hash ^ name_index((void *)names, name)) * 0x100000001b3ULL : hash;
}

uint64_t policies_interfaces(struct agent *agent, const struct rulebook *book)
{
	struct policies_names names = {};
	uint64_t hash = 0xcbf29ce484222325ULL;

	if (engine_interfaces(agent->engine, &names.interfaces, &names.count) < 0)
		return 0;
	for (size_t p = 0; p < book->count; p++) {
		for (char *const *name = book->policies[p].interfaces; name && *name; name++)
			hash = name_mix(hash, &names, *name);
		for (size_t i = 0; i < book->policies[p].list.count; i++) {
			const struct rule *rule = &book->policies[p].list.slots[i].entry->rule;

			hash = name_mix(hash, &names, rule->match.interface);
			hash = name_mix(hash, &names, rule->packet.interface);
		}
	}
	free(names.interfaces);
	return hash;
}

/* -- compiling -- */

static bool rule_names(const struct rule *rule)
{
	return *rule->match.interface || *rule->packet.interface || rule_names_set(rule, NULL);
}

/* Notes behind which rule each one stood; those that are new stood behind themselves. */
static void previous_note(const struct rule_policy *policy, const struct rule_policy *before)
{
	struct rule_entry *previous = NULL;

	for (size_t i = 0; i < policy->list.count; i++)
		policy->list.slots[i].entry->previous = policy->list.slots[i].entry;
	for (size_t i = 0; before && i < before->list.count; i++) {
		struct rule_entry *entry = before->list.slots[i].entry;

		if (!rule_entry_is_on_packets(entry))
			continue;
		entry->previous = previous;
		previous = entry;
	}
}

static bool is_verified(
	const struct rule_entry *entry, const struct rule_entry *previous, enum policies_verify verify)
{
	switch (verify) {
	case POLICIES_NEW:
		return entry->previous != previous;
	case POLICIES_NAMES:
		return rule_names(&entry->rule);
	default:
		return true;
	}
}

static int sources_fill(struct policies_work *work)
{
	const struct rule_list *list = &work->policy->list;
	const struct rule_entry *previous = NULL;
	size_t count = rule_list_count(list, RULE_ON_PACKETS) + 1;

	work->entries = calloc(count, sizeof(struct rule_entry *));
	work->sources = calloc(count, sizeof(*work->sources));
	work->changed = calloc(count, sizeof(*work->changed));
	work->fresh = calloc(count, sizeof(*work->fresh));
	if (!work->entries || !work->sources || !work->changed || !work->fresh)
		return -ENOMEM;
	for (size_t i = 0; i < list->count; i++) {
		const struct rule_entry *entry = list->slots[i].entry;

		if (!rule_entry_is_on_packets(entry))
			continue;
		work->entries[work->count] = entry;
		work->changed[work->count] = is_verified(entry, previous, work->verify);
		/* not one that is in force, and not one that comes back */
		work->fresh[work->count] =
			entry->previous == entry && entry->generation == work->policy->generation;
		previous = entry;
		work->sources[work->count++] = (struct policy_source){
			.rule = &entry->rule,
			.id = entry->id,
			.generation = entry->generation,
			.counter = entry->counter,
			.limit = entry->limit == RULE_NO_PLACE ? 0 : entry->limit,
			.class = list->slots[i].class,
			.pid_start = entry->pid_start,
			.family = entry->family,
		};
	}
	return 0;
}

static void orders_fill(struct policies_work *work)
{
	const struct rule_policy *policy = work->policy;

	work->tc = (struct policy_order){
		.sources = work->sources,
		.count = work->count,
		.generation = policy->generation,
		.world = &work->names.world,
	};
	for (unsigned int out = 0; out < 2; out++)
		work->tc.defaults[out] = (struct policy_default){
			.action = (uint8_t)policy->defaults[out],
			.log = policy->log && policy->defaults[out] != POLICY_ACCEPT,
			.counter = 2 * policy->number + out,
		};
	work->xdp = work->tc;
	work->xdp.xdp = true;
}

/* Counters and limits of what is new begin at zero. */
static int places_prepare(struct policies_work *work)
{
	struct engine *engine = work->agent->engine;
	int r = 0;

	for (size_t i = 0; i < work->count && r == 0; i++) {
		const struct rule_entry *entry = work->entries[i];
		const struct rule_packet *packet = &entry->rule.packet;

		if (!work->fresh[i])
			continue;
		r = engine_policy_count_clear(engine, entry->counter);
		if (r == 0 && entry->limit != RULE_NO_PLACE)
			r = engine_policy_limit(engine, entry->limit,
				&(struct policy_limit){
					.rate = packet->rate,
					.unit = (uint8_t)packet->unit,
					.per = (uint8_t)packet->per,
					.prefix4 = packet->per_bits4,
					.prefix6 = packet->per_bits6,
					.generation = entry->id,
				});
	}
	return r;
}

static int work_fill(struct policies_work *work, const struct rule_policy *before, struct error *error)
{
	struct engine *engine = work->agent->engine;
	int r;

	previous_note(work->policy, before);
	r = sources_fill(work);
	if (r == 0)
		r = policies_names_open(work->agent, &work->names);
	if (r < 0)
		return error_set(error, r, "cannot compile the rules: %s", strerror(-r));
	orders_fill(work);
	return engine_policy_prepare(engine, error);
}

int policies_work_new(struct agent *agent, const struct rule_policy *policy, const struct rule_policy *before,
	enum policies_verify verify, struct verify_result *result, struct policies_work **ret_work,
	struct error *error)
{
	struct policies_work *work = calloc(1, sizeof(*work));
	int r;

	if (!work)
		return error_set(error, -ENOMEM, "out of memory");
	work->agent = agent;
	work->policy = policy;
	work->verify = verify;
	work->result = result;
	r = work_fill(work, before, error);
	if (r < 0)
		policies_work_free(work);
	else
		*ret_work = work;
	return r;
}

/* Where it will be read, if there is room for it. */
static int image_make(struct policies_work *work, struct policy_order *order,
	struct policy_rule_views **ret_views, struct policy_image *image, struct error *error)
{
	struct engine_policy_room room;
	int r = policy_views_open(order, ret_views, error);

	if (r < 0)
		return r;
	order->views = *ret_views;
	r = engine_policy_room(work->agent->engine, work->policy->number, order->xdp, &room, error);
	if (r < 0)
		return r;
	r = room.units ? policy_compile_in(order, room.units, room.count, image, error) : -ENOSPC;
	return r == -ENOSPC ? policy_compile(order, image, error) : r;
}

int policies_work_run(struct policies_work *work, struct error *error)
{
	struct engine *engine = work->agent->engine;
	int r = image_make(work, &work->tc, &work->tc_views, &work->tc_image, error);

	if (r == 0)
		r = image_make(work, &work->xdp, &work->xdp_views, &work->xdp_image, error);
	if (r == 0)
		r = engine_policy_bring(engine, work->policy->number, &work->tc_image,
			work->xdp_image.count ? &work->xdp_image : NULL, error);
	if (r == 0)
		r = verify_policy(engine, work->policy->number, &work->tc,
			work->xdp_image.count ? &work->xdp : NULL,
			work->verify == POLICIES_ALL ? NULL : work->changed, work->result, error);
	/* what a rule names is not there: the request is wrong, not its path */
	if (r == -ENOENT && error)
		error->code = r = -EINVAL;
	return r;
}

int policies_work_end(struct policies_work *work, struct error *error)
{
	int r = places_prepare(work);

	return r < 0 ? error_set(error, r, "cannot make counters and limits: %s", strerror(-r)) : 0;
}

int policies_bring(struct agent *agent, const struct rule_policy *policy, const struct rule_policy *before,
	enum policies_verify verify, struct verify_result *result, struct error *error)
{
	struct policies_work *work = NULL;
	int r = policies_work_new(agent, policy, before, verify, result, &work, error);

	if (!work)
		return r;
	r = policies_work_run(work, error);
	if (r == 0)
		r = policies_work_end(work, error);
	policies_work_free(work);
	return r;
}

void policies_begin_defaults(
	struct agent *agent, const struct rule_policy *policy, const struct rule_policy *before)
{
	for (unsigned int out = 0; out < 2; out++)
		if (!before || before->defaults[out] != policy->defaults[out])
			engine_policy_count_clear(agent->engine, 2 * policy->number + out);
}

/* -- whose policy it is -- */

static size_t tenants_fill(const struct rule_policy *policy, const struct policies_names *names,
	struct engine_policy_tenant *tenants)
{
	size_t count = 0;

	for (char *const *name = policy->interfaces; name && *name; name++) {
		uint32_t index = name_index((void *)names, *name);

		if (index)
			tenants[count++] =
				(struct engine_policy_tenant){.ifindex = index, .number = policy->number};
	}
	for (char *const *path = policy->cgroups; path && *path; path++)
		tenants[count++] = (struct engine_policy_tenant){
			.cgroup = owner_hash(*path, strlen(*path)), .number = policy->number};
	return count;
}

static int tenants_give(struct agent *agent, const struct rulebook *book, bool waiting,
	struct engine_policy_tenant *tenants, struct error *error)
{
	struct policies_names names = {};
	size_t count = 0;

	if (engine_interfaces(agent->engine, &names.interfaces, &names.count) < 0)
		return error_set(error, -ENOMEM, "out of memory");
	for (size_t i = 1; i < book->count; i++)
		count += tenants_fill(&book->policies[i], &names, tenants + count);
	free(names.interfaces);
	return engine_policy_tenants(agent->engine, tenants, count, waiting, error);
}

int policies_assign(struct agent *agent, const struct rulebook *book, bool waiting, struct error *error)
{
	struct engine_policy_tenant *tenants = calloc(book->count * 2 * POLICY_PLACES_MAX, sizeof(*tenants));
	int r;

	if (!tenants)
		return error_set(error, -ENOMEM, "out of memory");
	r = tenants_give(agent, book, waiting, tenants, error);
	free(tenants);
	return r;
}

/* -- what is said about them -- */

static const char *word(const char *const *words, size_t count, unsigned int number, const char *other)
{
	return number < count && words[number] ? words[number] : other;
}

#define WORD(words, number, other) word(words, sizeof(words) / sizeof((words)[0]), number, other)

const char *policies_action(unsigned int action)
{
	static const char *const words[POLICY_ACTIONS] = {
		[POLICY_ACCEPT] = "accept",
		[POLICY_DROP] = "drop",
		[POLICY_REJECT] = "reject",
		[POLICY_COUNT] = "count",
		[POLICY_LOG] = "log",
		[POLICY_LIMIT] = "limit",
		[POLICY_MARK] = "mark",
		[POLICY_REDIRECT] = "redirect",
		[POLICY_MIRROR] = "mirror",
		[POLICY_DSCP] = "rewrite",
		[POLICY_MAC] = "rewrite",
		[POLICY_SHAPE] = "shape",
		[POLICY_DEFER] = "defer",
	};

	return WORD(words, action, "unknown");
}

const char *policies_hook(unsigned int hook)
{
	static const char *const words[] = {"xdp", "tc"};

	return WORD(words, hook, "unknown");
}

const char *policies_state(unsigned int state)
{
	static const char *const words[POLICY_STATES] = {
		[POLICY_STATE_NEW] = "new",
		[POLICY_STATE_ESTABLISHED] = "established",
		[POLICY_STATE_RELATED] = "related",
		[POLICY_STATE_INVALID] = "invalid",
	};

	return WORD(words, state, NULL);
}

void policies_meter(struct rule_meter *meter, const struct engine_policy_count *count)
{
	uint64_t now = agent_now_ns(), age = now - meter->at_ns;

	if (meter->at_ns && age < METER_STEP_NS)
		return;
	/* what counts less than before began anew */
	meter->known = meter->at_ns && age <= METER_AGE_NS && count->packets >= meter->packets;
	if (meter->known) {
		double seconds = (double)age / 1e9;

		meter->pps = (uint64_t)((double)(count->packets - meter->packets) / seconds);
		meter->bps = (uint64_t)((double)(count->bytes - meter->bytes) * 8 / seconds);
	}
	meter->packets = count->packets;
	meter->bytes = count->bytes;
	meter->at_ns = now;
}

static void count_write(const struct agent *agent, struct json_write *out, uint32_t counter, uint32_t class,
	struct rule_meter *meter)
{
	struct engine_policy_count count = {};

	engine_policy_count(agent->engine, counter, class, &count);
	policies_meter(meter, &count);
	json_write_number(out, "packets", count.packets);
	json_write_number(out, "bytes", count.bytes);
	if (meter->known) {
		json_write_number(out, "rate_pps", meter->pps);
		json_write_number(out, "rate_bps", meter->bps);
	}
	if (count.last_ns)
		answer_time(out, "last_hit", count.last_ns);
}

void policies_write_entry(const struct agent *agent, struct json_write *out, struct rule_entry *entry)
{
	count_write(agent, out, entry->counter, entry->class, &entry->meter);
}

void policies_write_defaults(const struct agent *agent, struct json_write *out, struct rule_policy *policy)
{
	static const char *const directions[] = {"in", "out"};

	json_write_object_begin(out, "default");
	for (unsigned int i = 0; i < 2; i++) {
		json_write_object_begin(out, directions[i]);
		json_write_string(out, "verdict", policy_verdicts[policy->defaults[i]]);
		count_write(agent, out, 2 * policy->number + i, RULE_NO_PLACE, &policy->meters[i]);
		json_write_object_end(out);
	}
	json_write_boolean(out, "log", policy->log);
	json_write_object_end(out);
}

/* What a metric is of a counter. */
typedef uint64_t count_function(const struct engine_policy_count *count);

static uint64_t count_packets(const struct engine_policy_count *count)
{
	return count->packets;
}

static uint64_t count_bytes(const struct engine_policy_count *count)
{
	return count->bytes;
}

static void series_write(
	const struct agent *agent, struct evbuffer *out, const char *name, count_function *function)
{
	const struct rule_policy *host = &rules_book(agent)->policies[0];
	uint64_t other = 0;
	size_t written = 0;

	for (size_t i = 0; i < host->list.count; i++) {
		const struct rule_entry *entry = host->list.slots[i].entry;
		struct engine_policy_count count = {};

		if (!rule_entry_is_on_packets(entry))
			continue;
		engine_policy_count(agent->engine, entry->counter, entry->class, &count);
		if (written++ < SERIES_MAX)
			evbuffer_add_printf(
				out, "%s{rule=\"%u\"} %" PRIu64 "\n", name, entry->id, function(&count));
		else
			other += function(&count);
	}
	if (written > SERIES_MAX)
		evbuffer_add_printf(out, "%s{rule=\"other\"} %" PRIu64 "\n", name, other);
	for (unsigned int i = 0; i < 2; i++) {
		struct engine_policy_count count = {};

		engine_policy_count(agent->engine, i, RULE_NO_PLACE, &count);
		evbuffer_add_printf(out, "%s{rule=\"default-%s\"} %" PRIu64 "\n", name, i ? "out" : "in",
			function(&count));
	}
}

void policies_write_metrics(const struct agent *agent, struct evbuffer *out)
{
	struct policy_stats stats;

	metrics_head(out, "weir_rule_packets_total", "counter",
		"Packets that a rule on packets fitted, by its id; the host's list.");
	series_write(agent, out, "weir_rule_packets_total", count_packets);
	metrics_head(out, "weir_rule_bytes_total", "counter", "Their bytes.");
	series_write(agent, out, "weir_rule_bytes_total", count_bytes);
	engine_policy_stats(agent->engine, &stats);
	metrics_head(
		out, "weir_rejects_total", "counter", "Rejected packets, by whether the sender was told.");
	metrics_labelled(out, "weir_rejects_total", "answer", "sent", stats.rejected);
	metrics_labelled(out, "weir_rejects_total", "answer", "none", stats.unanswered);
	metrics_single(out, "weir_kept_packets_total", "counter",
		"Packets judged that went on against the rules: their connections were there before.",
		stats.kept);
	metrics_single(out, "weir_limits_full_packets_total", "counter",
		"Packets of sources or destinations for which a limit had no room.", stats.limited_full);
	metrics_single(out, "weir_broken_policy_packets_total", "counter",
		"Packets whose policy could not be read to its end.", stats.broken);
	metrics_single(out, "weir_unreadable_packets_total", "counter",
		"Packets that were dropped since what rules ask about could not be read.", stats.unreadable);
}

void policies_write_stats(const struct agent *agent, struct json_write *out)
{
	struct policy_stats stats;

	engine_policy_stats(agent->engine, &stats);
	json_write_number(out, "logged", stats.logged);
	json_write_number(out, "unlogged", stats.unlogged);
	json_write_number(out, "rejected", stats.rejected);
	json_write_number(out, "unanswered", stats.unanswered);
	json_write_number(out, "kept", stats.kept);
	json_write_number(out, "limited_full", stats.limited_full);
	limits_write_stats(agent, out);
	json_write_number(out, "broken", stats.broken);
	json_write_number(out, "unreadable", stats.unreadable);
}
