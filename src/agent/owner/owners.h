/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Owners: the processes behind the ids that the datapath writes (shared/owner.h), with the names a person
 * knows.
 */
#ifndef WEIR_AGENT_OWNERS_H
#define WEIR_AGENT_OWNERS_H

#include <stdbool.h>
#include <stdint.h>

#include "agent/api/reply.h"
#include "agent/module.h"
#include "basic/json_write.h"
#include "model/match.h"
#include "model/owner.h"
#include "shared/owner.h"

struct agent;

/* An identity and what it is called.  Strings are never NULL, and empty where there is none. */
struct owner_info {
	struct owner owner;
	const char *user, *group;    /* names; the number as text where there is no name */
	const char *unit;            /* systemd's: "nginx.service" */
	const char *container, *pod; /* id of 64 hexadecimal digits; uid of the pod */
	uint64_t ended_ns;           /* CLOCK_MONOTONIC; 0: lives */
};

/* Who has this id; NULL for ids that are no process, and for one that nothing is known of.  Valid until the
 * event loop's next round. */
const struct owner_info *owner_find(struct agent *agent, uint32_t id);

/* The same without the names: cheap enough to be asked of every flow. */
const struct owner *owner_identity(struct agent *agent, uint32_t id);

/* Writes the field "owner" into an object: {"kind":"process","pid":…} (docs/api.md). */
void owner_write(struct agent *agent, struct json_write *out, uint32_t id);

/* Does the id's owner fit? */
bool owner_fits(struct agent *agent, uint32_t id, const struct owner_match *match);

/* Is there anybody whom this can mean, or was there lately?  0; -ESRCH with a line: no such process, cgroup,
 * unit (not installed either), container or pod.  Users and groups are looked for where they are read; an
 * executable may be in somebody else's file system. */
int owner_expect(struct agent *agent, const struct owner_match *match, struct error *error);

/* Walking over identities: places below the count; NULL: nobody is there. */
uint32_t owner_places(const struct agent *agent);
const struct owner *owner_at(const struct agent *agent, uint32_t place);
/* Where the identity of an id is, and where the latest of the same process is; UINT32_MAX: nowhere. */
uint32_t owner_place(struct agent *agent, uint32_t id);
uint32_t owner_latest(const struct agent *agent, uint32_t place);

/* The number of the identity's series in the metrics (series.h). */
uint32_t *owner_series(struct agent *agent, uint32_t place);

/* The fields of a process, without an object around them. */
void owner_write_process(struct json_write *out, const struct owner_info *info);

extern const struct module owner_module;

/* processes.c */
extern const struct route owner_routes[];
/* The processes of a remote address's or port's flows, as "owners" and "processes": see there. */
struct owner_index;
struct owner_index *owner_index_new(struct agent *agent, bool ports, const struct match *match);
void owner_index_write(
	struct agent *agent, const struct owner_index *index, struct json_write *out, uint32_t total);
void owner_index_free(struct owner_index *index);

#endif
