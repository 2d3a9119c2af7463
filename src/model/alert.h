/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * What happens on the host that somebody may wait for (`weir capture --when`).
 *
 *     when = log [rule N]             a packet stands in the log; of the rule N
 *          | drops above N[/s]        so many packets are dropped in a second, and more
 *          | backend down [SERVICE]   a backend fails its checks; one of this service
 *
 * What alert_match_print() wrote parses to the same.
 */
#ifndef WEIR_MODEL_ALERT_H
#define WEIR_MODEL_ALERT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "basic/error.h"
#include "model/service.h"

enum alert_kind { ALERT_NONE, ALERT_LOG, ALERT_DROPS, ALERT_BACKEND };

#define ALERT_MATCH_MAX 64 /* longest text of a match, with the NUL */

/* What is waited for. */
struct alert_match {
	enum alert_kind kind;
	uint32_t rule;                  /* log; 0: any, and the default verdict */
	uint32_t above;                 /* drops: packets a second, 1 or more */
	char service[SERVICE_NAME_MAX]; /* backend; empty: any */
};

/* What has happened. */
struct alert {
	enum alert_kind kind;
	uint32_t rule;       /* log; 0: the default verdict */
	uint64_t packets;    /* drops: in the last second */
	const char *service; /* backend */
	const char *text;    /* for people: a line without a newline, of any length */
};

/* 0, or -EINVAL with `error` set and *ret_match untouched. */
int alert_match_parse(const char *text, struct alert_match *ret_match, struct error *error);
/* Returns `buffer`. */
char *alert_match_print(char buffer[static ALERT_MATCH_MAX], const struct alert_match *match);

bool alert_fits(const struct alert_match *match, const struct alert *alert);

#endif
