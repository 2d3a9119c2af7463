// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* Which interfaces are watched: brings what is attached to what the configuration wants, whenever either
 * changes. */
#include <stdlib.h>
#include <string.h>

#include "agent/forward/forwards.h"
#include "agent/internal.h"
#include "agent/rule/shields.h"
#include "agent/service/checks.h"
#include "basic/cleanup.h"
#include "basic/log.h"

static bool is_wanted(const struct agent *agent, const struct engine_interface *interface)
{
	if (agent->config.interfaces_auto)
		return interface->up && !interface->loopback;
	return config_names_interface(&agent->config, interface->name);
}

static const struct watched *watched_find(const struct agent *agent, const char *name)
{
	for (size_t i = 0; i < agent->watched_count; i++)
		if (strcmp(agent->watched[i].name, name) == 0)
			return &agent->watched[i];
	return NULL;
}

static void attach(struct agent *agent, const struct engine_interface *interface, struct watched *watched)
{
	const struct watched *before = watched_find(agent, interface->name);
	struct error error = {};

	*watched = (struct watched){.index = interface->index,
		.ethernet = interface->ethernet,
		.veth = strcmp(interface->kind, "veth") == 0,
		.loopback = interface->loopback,
		.in = interface->in,
		.out = interface->out};
	memcpy(watched->name, interface->name, sizeof(watched->name));
	table_name_interface(agent->table, interface->index, interface->name);
	if (engine_attach(agent->engine, interface, &watched->hooks, &error) == 0) {
		if (!before || before->state != WATCH_WATCHED || before->index != interface->index)
			log_info("watching interface %s", interface->name);
		return;
	}
	watched->state = WATCH_FAILED;
	memcpy(watched->failure, error.what, sizeof(watched->failure));
	if (!before || before->state != WATCH_FAILED)
		log_warning("%s", error.what);
}

static bool is_pattern(const char *name)
{
	return strpbrk(name, "*?[") != NULL;
}

static void wait_for(struct agent *agent, const char *name, struct watched *watched)
{
	const struct watched *before = watched_find(agent, name);

	*watched = (struct watched){.state = WATCH_WAITING};
	snprintf(watched->name, sizeof(watched->name), "%s", name);
	if (!before || before->state != WATCH_WAITING)
		log_info("interface %s is not there; waiting for it", name);
}

void watch_reconcile(struct agent *agent)
{
	_cleanup_free_ struct engine_interface *interfaces = NULL;
	size_t count, named = 0, used = 0;
	struct watched *watched;

	if (engine_interfaces(agent->engine, &interfaces, &count) < 0) {
		log_warning("cannot list interfaces; trying again with the next change");
		return;
	}
	for (char **name = agent->config.interfaces; name && *name; name++)
		named++;
	watched = calloc(count + named + 1, sizeof(*watched));
	if (!watched)
		return;
	engine_forget_gone(agent->engine, interfaces, count);
	for (size_t i = 0; i < count; i++) {
		if (is_wanted(agent, &interfaces[i]))
			attach(agent, &interfaces[i], &watched[used++]);
		else
			engine_detach(agent->engine, interfaces[i].index);
	}
	for (size_t n = 0; n < named; n++) {
		const char *name = agent->config.interfaces[n];
		bool there = is_pattern(name);

		for (size_t i = 0; i < used && !there; i++)
			there = strcmp(watched[i].name, name) == 0;
		if (!there)
			wait_for(agent, name, &watched[used++]);
	}
	for (size_t i = 0; i < agent->watched_count; i++) {
		bool kept = false;

		for (size_t k = 0; k < used && !kept; k++)
			kept = strcmp(watched[k].name, agent->watched[i].name) == 0;
		if (!kept)
			log_info("no longer watching interface %s", agent->watched[i].name);
	}
	free(agent->watched);
	agent->watched = watched;
	agent->watched_count = used;
	shields_reconcile(agent);
	checks_reconcile(agent);
	forwards_interfaces_changed(agent);
}

void watch_free(struct agent *agent)
{
	free(agent->watched);
	agent->watched = NULL;
	agent->watched_count = 0;
}
