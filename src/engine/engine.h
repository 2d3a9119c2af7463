/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * The engine: the only code that knows libbpf, netlink and pins.
 *
 * It loads the datapath or adopts the one that is pinned, attaches it to interfaces, and lends the agent what
 * the datapath writes: the flow cache, the counters, the rings.  Memory that must outlive the agent (its
 * totals) it lends as regions, which are pinned maps too.  Nothing here decides anything: which interfaces,
 * which sizes is the agent's say.
 *
 * Everything belongs to the network namespace the process is in, and to one run directory.
 */
#ifndef WEIR_ENGINE_ENGINE_H
#define WEIR_ENGINE_ENGINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "basic/error.h"
#include "shared/flow.h"

struct engine;

#define ENGINE_NAME_MAX 16 /* IFNAMSIZ; net/if.h and linux/if.h do not go together */

struct engine_sizes {
	uint32_t cache4_lines, cache6_lines; /* per CPU, powers of two, >= FLOW_WAYS */
	uint32_t ring_bytes;                 /* per CPU, power of two, >= a page */
	uint32_t owners;                     /* identities of processes */
};

/* What the datapath looks at besides flows.  What it does not costs nothing. */
struct engine_watch {
	bool owners;  /* whose sockets and flows are */
	bool sockets; /* what happens to them */
	bool names;   /* flows' first bytes (engine/name.h) */
	bool drops;   /* what the kernel drops (engine/drop.h); may change later */
};

/*
 * Loads the datapath, or adopts the one that an earlier agent left in this run directory: then its sizes
 * hold, and its programs are replaced by this build's without a gap.  Errors name what is missing
 * (privileges, kernel features, another version's datapath).
 */
int engine_open(const char *run_dir, const struct engine_sizes *sizes, const struct engine_watch *watch,
	struct engine **ret_engine, struct error *error);
/* Lets go; the datapath works on. */
void engine_close(struct engine *engine);
/* Takes everything away: hooks, programs, maps, pins, a bpffs of our own.  Other people's qdiscs and filters
 * stay. Frees the engine whatever happens. */
int engine_remove(struct engine *engine, struct error *error);
/* The same for a datapath whose agent is gone, without loading anything.  *ret_found says whether one was
 * there. */
int engine_remove_left(const char *run_dir, bool *ret_found, struct error *error);

bool engine_adopted(const struct engine *engine);
const char *engine_pins(const struct engine *engine); /* path of the pins, as a person finds them */
/* The root of cgroup v2 as a directory, where weir itself sees it; negative: no program is attached there. */
int engine_cgroup_root(const struct engine *engine);
const struct engine_sizes *engine_sizes(const struct engine *engine);
/* CLOCK_MONOTONIC time at which the datapath was loaded, in ns. */
uint64_t engine_since(const struct engine *engine);
size_t engine_map_bytes(const struct engine *engine); /* flow cache; rings are apart */

/* The datapath's clock: the tick of now, and the length of a tick. */
int engine_clock(const struct engine *engine, uint32_t *ret_tick, uint64_t *ret_tick_ns);

/* What the datapath writes, mapped.  Valid until engine_close(). */
struct engine_view {
	unsigned int cpus; /* possible CPUs; each part below is one part per CPU, one after the other */
	uint32_t sets4, sets6;
	const struct flow_set4 *cache4;
	const struct flow_set6 *cache6;
	const struct flow_rest_set6 *rest6; /* in the order of cache6 */
	const struct flow_stats *stats;
};
const struct engine_view *engine_view(const struct engine *engine);

/* Rings, one per CPU.  The file descriptor is readable when the datapath asks for attention. */
int engine_ring_fd(const struct engine *engine, unsigned int cpu);
/* `record` is a struct flow_record4 or flow_record6, `position` its place in the endless stream of the CPU's
 * records.  Returning non-zero ends the reading behind this record.
 */
typedef int engine_record_function(
	void *context, unsigned int cpu, uint64_t position, const void *record, size_t size);
/* Reads the CPU's ring until it is empty or the function says stop.  A record is off the ring when the
 * function has returned; killed inside it, the next agent gets the same record, at the same position, again.
 */
void engine_ring_read(
	struct engine *engine, unsigned int cpu, engine_record_function *function, void *context);

/*
 * A region: zeroed memory that outlives the agent and is there again, at some address, in the next one.  It
 * grows in steps up to the size it was opened for; it never moves.
 */
struct engine_region {
	void *base;
	size_t size;  /* usable bytes now */
	size_t limit; /* usable bytes at most */
	char name[16];
};
int engine_region_open(struct engine *engine, const char *name, size_t limit,
	struct engine_region *ret_region, struct error *error);
int engine_region_grow(struct engine *engine, struct engine_region *region, size_t size); /* 0 or -errno */

void engine_region_close(struct engine_region *region); /* unmaps; the memory stays */

/* One probed kernel feature and what its absence means. */
struct engine_feature {
	const char *name;
	const char *purpose;     /* what weir uses it for */
	const char *replacement; /* what is done without it; NULL: weir needs it */
	bool found;
};
const struct engine_feature *engine_features(const struct engine *engine, size_t *ret_count);

/* Interfaces, as netlink tells. */
struct engine_counters {
	uint64_t packets, bytes, dropped;
};
struct engine_interface {
	uint32_t index;
	char name[ENGINE_NAME_MAX];
	bool up, loopback;
	bool ethernet; /* packets start with an Ethernet header */
	uint8_t mac[6];
	char kind[ENGINE_NAME_MAX]; /* "veth", "bridge", …; empty: a card */
	struct engine_counters in, out;
};
/* The interfaces of this network namespace; the array is the caller's to free. */
int engine_interfaces(struct engine *engine, struct engine_interface **ret_interfaces, size_t *ret_count);

/* How this host would send to an address (4 or 16 bytes, network byte order): the interface, and the address
 * that it would send from.  0, -ENETUNREACH or -ENOMEM. */
int engine_route(
	struct engine *engine, uint8_t family, const uint8_t *to, uint32_t *ret_index, uint8_t *ret_from);
/* Readable when interfaces may have changed. */
int engine_interface_fd(const struct engine *engine);
void engine_interface_drain(struct engine *engine);

enum engine_hook_kind { ENGINE_HOOK_NONE, ENGINE_HOOK_TCX, ENGINE_HOOK_CLSACT };
struct engine_hooks {
	enum engine_hook_kind kind;
	uint32_t program_in, program_out; /* ids */
};
/* Attaches both directions, or neither.  Attaching what is attached already succeeds and tells the hooks. */
int engine_attach(struct engine *engine, const struct engine_interface *interface,
	struct engine_hooks *ret_hooks, struct error *error);
int engine_detach(struct engine *engine, uint32_t index);
/* Lets go of interfaces that are not among these any more: deleted, or moved to another network namespace
 * (where a pinned link would go on counting). */
void engine_forget_gone(struct engine *engine, const struct engine_interface *interfaces, size_t count);

#endif
