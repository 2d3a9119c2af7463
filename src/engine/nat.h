/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * The programs of nat (bpf/nat.bpf.c) behind that of services (engine/balance.h).
 *
 * They are loaded with the first service that is delivered so, stand in the pinned array `service_programs`,
 * and work on when the agent is gone.
 */
#ifndef WEIR_ENGINE_NAT_H
#define WEIR_ENGINE_NAT_H

#include "basic/error.h"
#include "engine/engine.h"

extern const struct engine_part nat_part;

/* Loads them where they are not, and puts them into their places; behind engine_balance_want().  0, or a
 * negative errno with `error`. */
int engine_nat_load(struct engine *engine, struct error *error);
/* Generic XDP has come into use: if nat is loaded, its programs for that are, too. */
int engine_nat_renew(struct engine *engine, struct error *error);

#endif
