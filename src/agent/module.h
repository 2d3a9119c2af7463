/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * A module of the agent: what belongs to one word (owner, socket, drop, …), behind one door.
 *
 * It keeps its state to itself, opens after the engine, the table and the event loop, waits for its own file
 * descriptors (agent_wait_for()), and serves its own paths of the API (`routes`).  The order of the table in
 * module.c is the order of opening: a module may use those before it.
 */
#ifndef WEIR_AGENT_MODULE_H
#define WEIR_AGENT_MODULE_H

#include <stdint.h>

#include "basic/error.h"
#include "basic/json_write.h"

struct agent;
struct evbuffer;
struct route;

#define MODULES_MAX 24

/* Functions that a module has no use for are NULL. */
struct module {
	const char *name;
	int (*open)(struct agent *agent, void **ret_state, struct error *error);
	void (*close)(void *state);
	void (*reload)(struct agent *agent, void *state); /* the configuration is a new one */
	/* Every collection (seconds), after the flows were brought up to date. */
	void (*tick)(struct agent *agent, void *state, uint64_t now_ns);
	void (*status)(
		struct agent *agent, void *state, struct json_write *out); /* a field of GET /v1/status */
	void (*metrics)(struct agent *agent, void *state, struct evbuffer *out); /* lines of GET /metrics */
	const struct route *routes; /* ends with a path of NULL */
};

extern const struct module *const modules[]; /* ends with NULL */

int modules_open(struct agent *agent, struct error *error);
void modules_close(struct agent *agent);
void modules_reload(struct agent *agent);
void modules_tick(struct agent *agent, uint64_t now_ns);
void modules_status(struct agent *agent, struct json_write *out);
void modules_metrics(struct agent *agent, struct evbuffer *out);
/* What the module keeps; NULL while it is not open. */
void *module_state(const struct agent *agent, const struct module *module);

#endif
