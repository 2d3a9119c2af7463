/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * What follows from the answers to checks: a backend that is up is down after `fall` failures in a row, one
 * that is down is up after `rise` successes in a row.  Plain code, without the agent.
 */
#ifndef WEIR_AGENT_CHECK_HEALTH_H
#define WEIR_AGENT_CHECK_HEALTH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct check_health {
	bool up;
	uint32_t row; /* answers in a row that speak against `up` */
};

/* One more answer.  true: `up` is another one now. */
bool check_health_take(struct check_health *health, bool passed, uint32_t rise, uint32_t fall);

/* The status of an answer in HTTP (RFC 9112, status-line) that begins with these bytes: 100 to 599; 0: not
 * enough of it yet; -EBADMSG: this is no such answer.  Bytes of a stranger. */
int check_status_read(const char *bytes, size_t size);

#endif
