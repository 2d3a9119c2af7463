// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* The agent's modules, and what is done with all of them. */
#include "agent/capture/captures.h"
#include "agent/flow/names.h"
#include "agent/forward/forwards.h"
#include "agent/forward/steers.h"
#include "agent/internal.h"
#include "agent/owner/audit.h"
#include "agent/owner/families.h"
#include "agent/owner/guards.h"
#include "agent/owner/owners.h"
#include "agent/owner/sockets.h"
#include "agent/probe/drops.h"
#include "agent/probe/traces.h"
#include "agent/rule/apply.h"
#include "agent/rule/connections.h"
#include "agent/rule/explain.h"
#include "agent/rule/limited.h"
#include "agent/rule/logs.h"
#include "agent/rule/rules.h"
#include "agent/rule/shields.h"
#include "agent/service/checks.h"
#include "agent/service/services.h"
#include "agent/set/sets.h"
#include "agent/shape/shapes.h"

const struct module *const modules[] = {
	&owner_module,
	&drop_module,
	&audit_module, /* before those that write to it */
	&sockets_module,
	&guard_module,
	&family_module,
	&set_module, /* before the rules that name sets */
	&limit_module,
	&connections_module, /* before the rules that need it */
	&shape_module,       /* before the rules that make classes */
	&service_module,     /* before the rules that make services */
	&forward_module,
	&steer_module, /* before the rules that steer */
	&rules_module, /* behind guards */
	&check_module, /* behind the rules: its backends are theirs */
	&log_module,
	&apply_module,
	&explain_module,
	&shield_module,
	&name_module,
	&trace_module,
	&capture_module,
	NULL,
};

int modules_open(struct agent *agent, struct error *error)
{
	int r = 0;

	for (size_t i = 0; modules[i] && r == 0; i++)
		if (modules[i]->open)
			r = modules[i]->open(agent, &agent->modules[i], error);
	return r;
}

void modules_close(struct agent *agent)
{
	size_t count = 0;

	while (modules[count])
		count++;
	while (count-- > 0) {
		if (agent->modules[count] && modules[count]->close)
			modules[count]->close(agent->modules[count]);
		agent->modules[count] = NULL;
	}
}

void modules_reload(struct agent *agent)
{
	for (size_t i = 0; modules[i]; i++)
		if (modules[i]->reload && agent->modules[i])
			modules[i]->reload(agent, agent->modules[i]);
}

void modules_tick(struct agent *agent, uint64_t now_ns)
{
	for (size_t i = 0; modules[i]; i++)
		if (modules[i]->tick && agent->modules[i])
			modules[i]->tick(agent, agent->modules[i], now_ns);
}

void modules_status(struct agent *agent, struct json_write *out)
{
	for (size_t i = 0; modules[i]; i++)
		if (modules[i]->status && agent->modules[i])
			modules[i]->status(agent, agent->modules[i], out);
}

void modules_metrics(struct agent *agent, struct evbuffer *out)
{
	for (size_t i = 0; modules[i]; i++)
		if (modules[i]->metrics && agent->modules[i])
			modules[i]->metrics(agent, agent->modules[i], out);
}

void *module_state(const struct agent *agent, const struct module *module)
{
	for (size_t i = 0; modules[i]; i++)
		if (modules[i] == module)
			return agent->modules[i];
	return NULL;
}
