// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
#include "agent/owner/families.h"

#include "agent/api/reply.h"
#include "agent/internal.h"
#include "basic/log.h"
#include "engine/family.h"

int families_join(struct agent *agent, struct rule_entry *entry, struct error *error)
{
	const struct owner_match *owner = &entry->rule.match.owner;
	unsigned int family;
	int r;

	if (owner->kind != OWNER_PID || entry->family)
		return 0;
	r = engine_family_get(agent->engine, owner->number, entry->pid_start, &family, error);
	if (r < 0)
		return r;
	entry->family = family + 1;
	if (entry->guard)
		entry->guard->owner.hash[1] = entry->family;
	return 0;
}

static void for_each_entry(
	const struct rulebook *book, void (*function)(void *context, struct rule_entry *entry), void *context)
{
	for (size_t p = 0; p < book->count; p++)
		for (size_t i = 0; i < book->policies[p].list.count; i++)
			function(context, book->policies[p].list.slots[i].entry);
}

static void entry_adopt(void *context, struct rule_entry *entry)
{
	struct error problem = {};

	if (families_join(context, entry, &problem) < 0)
		log_info("rule %u: %s: %s", entry->id, problem.what, entry->text);
}

void families_adopt(struct agent *agent, const struct rulebook *book)
{
	for_each_entry(book, entry_adopt, agent);
}

static void entry_use(void *context, struct rule_entry *entry)
{
	struct family_set *used = context;

	if (entry->family)
		used->word[(entry->family - 1) / 64] |= 1ULL << ((entry->family - 1) % 64);
}

void families_sweep(struct agent *agent, const struct rulebook *const *books, size_t count)
{
	struct family_set used = {};

	for (size_t i = 0; i < count; i++)
		for_each_entry(books[i], entry_use, &used);
	engine_family_sweep(agent->engine, &used);
}

bool families_ended(struct agent *agent, const struct rule_entry *entry)
{
	struct family_set living;

	if (entry->rule.match.owner.kind != OWNER_PID)
		return false;
	if (!entry->family)
		return true;
	engine_family_living(agent->engine, &living);
	return !(living.word[(entry->family - 1) / 64] >> ((entry->family - 1) % 64) & 1);
}

static void families_status(struct agent *agent, void *state, struct json_write *out)
{
	struct engine_family_stats stats;

	(void)state;
	engine_family_stats(agent->engine, &stats);
	json_write_object_begin(out, "families");
	json_write_number(out, "families", stats.families);
	json_write_number(out, "families_max", stats.families_max);
	json_write_number(out, "processes", stats.members);
	json_write_number(out, "processes_max", stats.members_max);
	json_write_number(out, "lost", stats.full);
	json_write_object_end(out);
}

static void families_metrics(struct agent *agent, void *state, struct evbuffer *out)
{
	struct engine_family_stats stats;

	(void)state;
	engine_family_stats(agent->engine, &stats);
	metrics_single(out, "weir_family_processes", "gauge",
		"Processes that live and that rules name by their id, or that such started.", stats.members);
	metrics_single(out, "weir_family_lost_total", "counter",
		"Processes that such started and that found no room: no rule by pid is about them.",
		stats.full);
}

static int families_open(struct agent *agent, void **ret_state, struct error *error)
{
	(void)error;
	*ret_state = agent; /* all there is, is in the kernel */
	return 0;
}

const struct module family_module = {
	.name = "family",
	.open = families_open,
	.status = families_status,
	.metrics = families_metrics,
};
