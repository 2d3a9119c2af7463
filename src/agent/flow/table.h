/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * The merged table: what all CPUs' lines and records of one flow add up to, and the totals of hosts, ports,
 * interfaces and owners, which never go backwards.
 *
 * It stands in regions of the engine, so a new agent finds what a killed one knew.  That has to be right to
 * the packet wherever the kill struck: adding a delta changes a dozen counters in several places, and all of
 * them or none must be changed.  So the new values are written to a journal first, and an agent that finds an
 * open journal writes them again.  (A process dies, the memory does not: the order of stores is all that
 * counts.)
 *
 * Owners: what a process sends is its own at once.  Whose the rest is often shows later: what comes in is the
 * receiver's, but a new connection is its listener's until somebody accepts it, and only what goes the other
 * way tells who did.  So that is held back in the flow and charged when it is clear: sum of the owners + held
 * back = sum of the interfaces.
 *
 * Memory is bounded.  When fifteen sixteenths of the budget are in use new flows are sampled by their hash,
 * ever more thinly; what is not kept as a flow still counts in the totals, and is counted as sampled out or
 * refused.
 */
#ifndef WEIR_AGENT_TABLE_H
#define WEIR_AGENT_TABLE_H

#include <stdbool.h>
#include <stdint.h>

#include "basic/error.h"
#include "engine/engine.h"
#include "shared/flow.h"
#include "shared/owner.h"

#define TABLE_NONE UINT32_MAX /* no entry */

struct table_counts {
	uint64_t packets, bytes;
};

/* Bytes at the last tick, and the rate that came out of it. */
struct table_rate {
	uint64_t bytes;
	uint64_t bps;
};

/* A flow's identity, whichever CPU saw it. Addresses and ports as in struct flow_line6; IPv4 uses the first
 * words. */
struct table_key {
	__be32 src[4], dst[4];
	__be16 sport, dport;
	uint32_t ifindex;
	uint8_t proto, kind;
	uint16_t vlan;
};

enum table_state { TABLE_FREE, TABLE_LIVE };

#define TABLE_CLOSING_FLAGS 0x05 /* FIN and RST: a flow that has seen one is closed */

struct table_flow {
	struct table_key key; /* 44 bytes */
	uint32_t next;        /* in the hash chain or the free list */
	struct table_counts counts;
	struct table_rate rate;
	uint64_t first_ns, last_ns;     /* CLOCK_MONOTONIC */
	uint32_t host, port, interface; /* entries of the totals; TABLE_NONE: has none */
	uint8_t state;                  /* enum table_state */
	uint8_t tcp_flags;
	uint8_t origin;       /* FLOW_ORIGIN_* */
	uint8_t sample_shift; /* admitted while one of 2^n new flows was */
	uint32_t owner;       /* the best that is known (shared/owner.h), maybe with OWNER_INHERITED */
	uint32_t owner_total; /* its entry */
	uint32_t reverse;     /* where the flow of the other direction is, or was; TABLE_NONE: nowhere */
	uint32_t next_held;   /* list of those that hold something back */
	struct table_counts held;
	uint32_t rule;    /* that decided about its last packets; 0: a default verdict, or nobody */
	uint8_t verdict;  /* enum table_verdict */
	uint16_t backend; /* that a service sends it to (shared/service.h); 0: none */
};

enum table_verdict { TABLE_NOT_JUDGED, TABLE_ACCEPTED, TABLE_DROPPED };

/* A total of both directions: of a remote address, of a service port, of an interface, of an owner. */
struct table_total {
	union {
		struct {
			__be32 address[4];
			uint8_t family;
		};
		struct {
			uint16_t port; /* host byte order */
			uint8_t proto;
		};
		char name[ENGINE_NAME_MAX];
		uint32_t owner; /* an id of shared/owner.h */
		uint8_t key[20];
	};
	uint32_t next;
	struct table_counts in, out;
	struct table_rate rate_in, rate_out;
	uint64_t first_ns, last_ns;
	uint32_t flows; /* in the table now */
	uint8_t state;
};

enum table_pool_name { TABLE_HOSTS, TABLE_PORTS, TABLE_INTERFACES, TABLE_OWNERS, TABLE_POOLS };

#define TABLE_OTHER 0 /* the entry of each pool for what found no entry of its own */

/* What is known of a line of the flow cache: so much of its tenant has been accounted.  Two words, for the
 * journal. */
struct table_line {
	uint32_t serial;
	uint32_t packets;
	uint64_t bytes; /* highest bit: the tenant has left, its record was read */
};

#define TABLE_LINE_LEFT (1ULL << 63)

/* What a line or a record adds. */
struct table_delta {
	struct table_key key;
	struct table_counts counts;
	uint64_t first_ns, last_ns;
	uint8_t tcp_flags, origin;
	uint8_t verdict;             /* enum table_verdict */
	uint32_t rule;               /* that decided */
	uint16_t backend;            /* of a service; 0: none */
	uint32_t owner;              /* maybe with OWNER_INHERITED */
	struct table_line *line;     /* in lines4 or lines6 */
	struct table_line accounted; /* becomes *line */
	unsigned int cpu;
	uint64_t position; /* of the record behind this delta, plus 1; 0: a line */
};

struct table_limits {
	uint32_t flows, hosts, owners;
	uint64_t idle_ns, closed_ns, active_ns;
};

struct table_ended {
	uint64_t idle, active, closed, pressure;
};

struct table;

/* Opens the table on the engine's regions: empty, or as the agent before left it. */
int table_open(struct engine *engine, const struct table_limits *limits, struct table **ret_table,
	struct error *error);
void table_close(struct table *table);
/* New time-outs at once; new sizes as far as the reserved room allows, else with the next start. */
void table_set_limits(struct table *table, const struct table_limits *limits);

/* The accounted lines, one per line of the flow cache in the same order. */
struct table_line *table_lines4(struct table *table);
struct table_line *table_lines6(struct table *table);
/* Was the record at this position of this CPU accounted already (by an agent that was killed right behind
 * that)? */
bool table_has_record(const struct table *table, unsigned int cpu, uint64_t position);

void table_account(struct table *table, const struct table_delta *delta);

/* Tells the name of an interface index.  An interface that comes back under its name goes on with its totals.
 */
uint32_t table_name_interface(struct table *table, uint32_t ifindex, const char *name);

/* Charges what was held back; every second or less often, ages flows and works out rates.  To be called when
 * all lines and records there are have been accounted. */
void table_tick(struct table *table, uint64_t now_ns);

/* Walking: entries below the count; those that are not TABLE_LIVE are to be passed over. */
uint32_t table_flow_count(const struct table *table); /* room used, not flows alive */
const struct table_flow *table_flow(const struct table *table, uint32_t flow);
uint32_t table_total_count(const struct table *table, enum table_pool_name pool);
const struct table_total *table_total(const struct table *table, enum table_pool_name pool, uint32_t total);

/* The flow with this key; TABLE_NONE: there is none. */
uint32_t table_find_flow(struct table *table, const struct table_key *key);
/* Whose flow it is, as far as that is clear now: without OWNER_INHERITED. */
uint32_t table_flow_owner(struct table *table, uint32_t flow);
/* The total of an owner; TABLE_NONE: it has none. */
uint32_t table_find_owner(struct table *table, uint32_t owner);
/* Makes room: what the owner had becomes part of TABLE_OTHER.  False: flows of it are still there. */
bool table_forget_owner(struct table *table, uint32_t owner);

struct table_summary {
	uint32_t flows, flows_limit, hosts, hosts_limit, sample_rate;
	struct table_counts sampled_out, refused;
	struct table_counts held_in, held_out; /* whose owner is not clear yet */
	struct table_ended ended;
	size_t bytes; /* memory of all regions */
};
void table_summarize(const struct table *table, struct table_summary *ret_summary);

#endif
