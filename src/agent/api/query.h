/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * What a client asks of a list: which entries, in which order, how many.
 */
#ifndef WEIR_AGENT_QUERY_H
#define WEIR_AGENT_QUERY_H

#include <stdbool.h>
#include <stdint.h>

#include "basic/error.h"
#include "model/match.h"

enum query_list { QUERY_FLOWS, QUERY_HOSTS, QUERY_PORTS, QUERY_DROPS, QUERY_PROCESSES, QUERY_OWNERS };

enum query_sort {
	SORT_BYTES,
	SORT_PACKETS,
	SORT_RATE,
	SORT_FIRST,
	SORT_LAST,
	SORT_DURATION,
	SORT_SRC,
	SORT_DST,
	SORT_SPORT,
	SORT_DPORT,
	SORT_IN,
	SORT_OUT,
	SORT_ADDRESS,
	SORT_FLOWS,
	SORT_REASON,
	SORT_NAME,
	SORT_PID,
	SORT_STARTED,
	SORT_PORT,
};

/* What the owners of traffic are grouped by. */
enum query_group {
	GROUP_PROCESS,
	GROUP_USER,
	GROUP_GROUP,
	GROUP_EXE,
	GROUP_CGROUP,
	GROUP_UNIT,
	GROUP_CONTAINER,
	GROUP_POD,
};
extern const char *const query_groups[]; /* their words, in this order; NULL-terminated */

struct query {
	enum query_group by; /* of QUERY_OWNERS */
	struct match match;
	enum query_sort sort;
	bool ascending;
	uint64_t limit;
};

/* Reads the query part of a URI (percent-encoded, without '?'; NULL or empty: everything).  0 or -EINVAL with
 * `error` telling what is wrong; ret_query untouched on failure. */
int query_parse(enum query_list list, const char *text, struct query *ret_query, struct error *error);

#endif
