/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * What forwards packets between interfaces, and what steers them to CPUs, as plain data.
 *
 *     rule    = forward from IF by route                     by the kernel's routes and neighbours
 *             | forward from IF to IF [both ways]            cross-connect: all that comes in
 *             | forward among IF, IF {, IF}                  a switch: by MAC addresses, learned
 *             | forward from IF via IF {, IF} to IF          a chain: out of one, in by the same, to the next
 *             | steer in on IF [MATCH] to cpus CPUS [by flow | by rule]
 *             ["comment"]                                    at the end of each
 *     MATCH   = that of rules (rule.h), as far as it stands in the packet: addresses, ports, sets, protocol,
 *               flags, icmp, dscp, fragment
 *     CPUS    = N | N-N | A,B,…                              0-3,6
 *
 * `by flow` (what is meant if nothing is said): the packets of a flow, both directions, stay on one of the
 * CPUs; `by rule`: all packets that fit are on one of them, another for each rule as far as there are enough.
 */
#ifndef WEIR_MODEL_FORWARD_H
#define WEIR_MODEL_FORWARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "basic/error.h"
#include "model/match.h"

#define FORWARD_INTERFACES_MAX 32 /* of one sentence */
#define FORWARD_COMMENT_MAX    128
#define FORWARD_TEXT_MAX       1024 /* longest sentence, with the NUL; of steering, too */
#define FORWARDS_MAX           256
#define STEERS_MAX             64
#define STEER_CPUS_MAX         1024

enum forward_kind {
	FORWARD_ROUTE,
	FORWARD_CONNECT,
	FORWARD_SWITCH,
	FORWARD_CHAIN,
	FORWARD_KINDS,
};

struct forward_text {
	enum forward_kind kind;
	/* ROUTE: the one that packets come in by; CONNECT: from, to; SWITCH: all of them, in the order of the
	 * sentence; CHAIN: from, those between, to. */
	char interfaces[FORWARD_INTERFACES_MAX][MATCH_INTERFACE_MAX];
	size_t interface_count;
	bool both_ways; /* CONNECT */
	char comment[FORWARD_COMMENT_MAX];
};

/* What a rule that steers has besides its match: direction MATCH_IN, an interface, no owner. */
struct steer_text {
	uint64_t cpus[STEER_CPUS_MAX / 64];
	bool by_rule;
};

/* "route", "connect", "switch", "chain"; NULL-terminated, in the order of the enum. */
extern const char *const forward_kinds[];

/* Reads all of `text`, without the word `forward`.  0 or -EINVAL with `error` saying what was expected and
 * where; the result untouched on failure.  Sentences that steer are read as rules are (rule_parse()). */
int forward_parse(const char *text, struct forward_text *ret_forward, struct error *error);
/* What parses to the same.  0 or -ENOSPC. */
int forward_print(const struct forward_text *forward, char *buffer, size_t size);
/* How many of its interfaces packets are taken from: the first ones. */
size_t forward_sources(const struct forward_text *forward);
/* The first interface that both take packets from: there can be but one of the two.  NULL: none. */
const char *forward_conflict(const struct forward_text *a, const struct forward_text *b);

#endif
