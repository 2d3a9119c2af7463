/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Books of services (shared/service.h): one memory of units, ready for the kernel.
 *
 * Of services whose addresses contain one another the longest prefix decides first, then the narrowest range
 * of ports: what no service of the longer prefix takes goes to those of the shorter ones.
 */
#ifndef WEIR_COMPILE_SERVICE_H
#define WEIR_COMPILE_SERVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "basic/address.h"
#include "basic/error.h"
#include "model/service.h"
#include "shared/service.h"

/* A service, and what the agent has found for it. */
struct service_input {
	const struct service_text *text;
	uint32_t number, rule;
	uint32_t ring, before;    /* numbers of rings; `before` 0: none */
	uint32_t slots;           /* of both */
	bool kept;                /* connections of it may be written down (SERVICE_KEPT) */
	const uint16_t *backends; /* LEAST: numbers of those that may be chosen */
	size_t backend_count;
	const struct service_server *servers; /* QUIC: sorted by id */
	size_t server_count;
	uint32_t idle_ticks, affinity_ticks;
};

/* Addresses that nat sends from, and their ports. */
struct service_answers {
	struct address first, last;
	struct port_range ports;
};

struct service_image {
	struct policy_unit *units; /* to be freed */
	size_t count;              /* at most SERVICE_BOOK_UNITS */
};

/* 0; -EINVAL with `error` naming two services that have the same address, protocol and ports; -ENOSPC,
 * -ENOMEM.  The inputs are not kept. */
int service_compile(const struct service_input *services, size_t count, const struct service_answers *answers,
	size_t answer_count, uint32_t generation, struct service_image *ret_image, struct error *error);

/* The seed of a service's hash: of its address, protocol and ports. */
uint32_t service_seed(const struct service_text *text);
/* SERVICE_* that follow from the sentence. */
uint16_t service_flags(const struct service_text *text);

/* Of the book in `units`: the service of a destination, NULL: none has it. `port` in host byte order. */
const struct service *service_lookup(const struct policy_unit *units, size_t count,
	const struct address *address, uint8_t proto, uint16_t port);
/* The slot of a connection from `source`. */
uint32_t service_slot_of(const struct service *service, const struct address *source, uint16_t source_port,
	const struct address *destination, uint16_t port, uint8_t proto);

#endif
