/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* The real program of services with books, rings and backends of a test's making: for tests/bpf and bench. */
#ifndef WEIR_TESTS_LIB_SERVICES_H
#define WEIR_TESTS_LIB_SERVICES_H

#include <stddef.h>
#include <stdint.h>

#include "balance.skel.h"
#include "balance_tc.skel.h"
#include "compile/service.h"
#include "nat.skel.h"
#include "shared/flow.h"
#include "shared/policy.h"
#include "shared/service.h"

struct services {
	struct balance_bpf *balance;
	struct nat_bpf *nat; /* NULL: not loaded */
	struct balance_tc_bpf *tc;
	const struct service_answers *answers;
	size_t answer_count;
	unsigned int cpus;
	uint32_t lines4, lines6; /* of the flow cache: per CPU */
	struct flow_set4 *cache4;
	struct flow_set6 *cache6;
	struct flow_rest_set6 *rest6;
	struct flow_stats *stats;
	struct service_backend *backends;
	struct service_source *sources;
	struct service_load *loads;
	struct service_count *counts;
	struct service_lost *losses;
	struct policy_now *now;
};

/* In a network namespace of its own, where nothing is forwarded: what a test says of a backend's next hop
 * then stays.  -1 and a message where programs cannot be loaded. */
int services_open(struct services *services, uint32_t lines, uint32_t ring_bytes);
/* … with so many lines of either family, and room for so many connections that are written down. */
int services_open_large(
	struct services *services, uint32_t lines4, uint32_t lines6, uint32_t ring_bytes, uint32_t flows);
void services_close(struct services *services);
/* The programs of nat behind it, which then send from these addresses and ports: for books that come after
 * it. -1 where they cannot be loaded. */
int services_nat(struct services *services, const struct service_answers *answers, size_t count);
/* The program in tc, with the same tables.  -1 where it cannot be loaded. */
int services_tc(struct services *services);
/* Only those programs of services (bits: 1 << enum service_program) are there. */
void services_programs(const struct services *services, unsigned int places);
/* As if what is remembered beside the lines of flows were too old to hold. */
void services_nat_forget(const struct services *services);
/* As if no packet had ever been seen. */
void services_clear(struct services *services);

/* "10.0.0.1" or "fc00::1/64"; `low` 0: any port; `proto` -1: any. */
void services_text(struct service_text *text, const char *name, int proto, const char *prefix, uint16_t low,
	uint16_t high, enum service_deliver deliver);
/* Brings a book into a place (0, 1); exits where it does not compile. */
void services_book(
	struct services *services, uint32_t place, const struct service_input *inputs, size_t count);
/* Memory of a book or a ring in a place of `outer` (service_books, service_rings), to be written. */
struct policy_unit *services_memory(struct bpf_map *outer, uint32_t place, uint32_t units);
/* From which place services are in force. */
void services_place(struct services *services, uint32_t place);
/* A ring of `slots` slots. */
void services_ring(struct services *services, uint32_t number, const uint16_t *slots, uint32_t count);
/* A backend that is up, whose next hop is known: out by the interface that packets come in by. */
void services_backend(struct services *services, uint32_t number, uint32_t service, const char *address);

/* Sums of all CPUs. */
struct service_count services_count(const struct services *services, uint32_t backend);
struct service_lost services_lost(const struct services *services, uint32_t service);
struct flow_stats services_stats(const struct services *services);

/* The ring that a CPU's records go to. */
int services_records(const struct services *services, unsigned int cpu);

#endif
