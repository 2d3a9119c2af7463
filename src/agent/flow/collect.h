/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Collecting: from the datapath's lines and records to deltas for the table.
 *
 * A line counts up while its flow lives in it; a record tells its last word.  For each line the table
 * remembers which tenant (serial) it last accounted and how far.  What a scan or a record adds is always the
 * difference to that, so a flow is neither missed nor counted twice however scans, evictions and the agent's
 * death interleave.
 */
#ifndef WEIR_AGENT_COLLECT_H
#define WEIR_AGENT_COLLECT_H

#include <stdint.h>

#include "agent/flow/table.h"
#include "engine/engine.h"

struct collector;

/* Packets by their fate: seen = cached + emitted + lost. */
struct losses {
	uint64_t seen, cached, emitted, lost;
	uint64_t lost_bytes;
	uint64_t records;
	uint64_t postponed; /* looks for a flow's owner */
	uint64_t reasons[PARSE_REASON_MAX];
};

int collector_open(struct engine *engine, struct table *table, struct collector **ret_collector);
void collector_close(struct collector *collector);

/* Reads a bounded number of records of one CPU: what to do when its ring asks for attention. */
void collect_ring(struct collector *collector, unsigned int cpu);
/* Reads everything: all rings, all lines.  Afterwards the table is as the datapath was at some moment in
 * between. */
void collect_all(struct collector *collector);
/* CLOCK_MONOTONIC time of the last collect_all(). */
uint64_t collected_at(const struct collector *collector);

/* Sums the CPUs' counters, each CPU's taken at one moment. */
void collect_losses(const struct engine *engine, struct losses *ret_losses);

#endif
