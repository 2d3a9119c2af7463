// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
#include "agent/api/query.h"

#include <errno.h>
#include <event2/http.h>
#include <event2/keyvalq_struct.h>
#include <stdlib.h>
#include <string.h>

#include "basic/text.h"

struct sort_key {
	const char *name;
	enum query_sort sort;
	bool ascending; /* unless asked otherwise */
};

static const struct sort_key flow_sorts[] = {
	{"bytes", SORT_BYTES, false},
	{"packets", SORT_PACKETS, false},
	{"rate", SORT_RATE, false},
	{"first", SORT_FIRST, false},
	{"last", SORT_LAST, false},
	{"duration", SORT_DURATION, false},
	{"src", SORT_SRC, true},
	{"dst", SORT_DST, true},
	{"sport", SORT_SPORT, true},
	{"dport", SORT_DPORT, true},
	{},
};

static const struct sort_key host_sorts[] = {
	{"bytes", SORT_BYTES, false},
	{"packets", SORT_PACKETS, false},
	{"in", SORT_IN, false},
	{"out", SORT_OUT, false},
	{"rate", SORT_RATE, false},
	{"address", SORT_ADDRESS, true},
	{},
};

static const struct sort_key port_sorts[] = {
	{"bytes", SORT_BYTES, false},
	{"packets", SORT_PACKETS, false},
	{"in", SORT_IN, false},
	{"out", SORT_OUT, false},
	{"rate", SORT_RATE, false},
	{"flows", SORT_FLOWS, false},
	{"port", SORT_PORT, true},
	{},
};

static const struct sort_key process_sorts[] = {
	{"bytes", SORT_BYTES, false},
	{"packets", SORT_PACKETS, false},
	{"in", SORT_IN, false},
	{"out", SORT_OUT, false},
	{"rate", SORT_RATE, false},
	{"flows", SORT_FLOWS, false},
	{"command", SORT_NAME, true},
	{"pid", SORT_PID, true},
	{"started", SORT_STARTED, false},
	{},
};

static const struct sort_key owner_sorts[] = {
	{"bytes", SORT_BYTES, false},
	{"packets", SORT_PACKETS, false},
	{"in", SORT_IN, false},
	{"out", SORT_OUT, false},
	{"rate", SORT_RATE, false},
	{"flows", SORT_FLOWS, false},
	{"name", SORT_NAME, true},
	{},
};

static const struct sort_key drop_sorts[] = {
	{"packets", SORT_PACKETS, false},
	{"bytes", SORT_BYTES, false},
	{"last", SORT_LAST, false},
	{"reason", SORT_REASON, true},
	{},
};

static const struct sort_key *const sort_keys[] = {
	[QUERY_FLOWS] = flow_sorts,
	[QUERY_HOSTS] = host_sorts,
	[QUERY_PORTS] = port_sorts,
	[QUERY_DROPS] = drop_sorts,
	[QUERY_PROCESSES] = process_sorts,
	[QUERY_OWNERS] = owner_sorts,
};

static int parse_sort(
	const struct sort_key *sorts, const char *value, struct query *query, struct error *error)
{
	const char *known[16] = {};
	size_t count = 0;
	const char *near;

	for (; sorts->name; sorts++) {
		if (strcmp(sorts->name, value) == 0) {
			query->sort = sorts->sort;
			query->ascending = sorts->ascending;
			return 0;
		}
		known[count++] = sorts->name;
	}
	error_set(error, -EINVAL, "cannot sort by '%s'", value);
	near = text_nearest(value, known);
	if (near)
		return error_want(error, "did you mean '%s'?", near);
	return error_want(error, "see the list of sort keys in weir(8)");
}

static int parse_limit(const char *value, struct query *query, struct error *error)
{
	char *end;

	errno = 0;
	query->limit = strtoull(value, &end, 10);
	if (*value >= '0' && *value <= '9' && !*end && !errno)
		return 0;
	error_set(error, -EINVAL, "the limit '%s' is not a number", value);
	return error_want(error, "a whole number");
}

const char *const query_groups[] = {
	[GROUP_PROCESS] = "process",
	[GROUP_USER] = "user",
	[GROUP_GROUP] = "group",
	[GROUP_EXE] = "exe",
	[GROUP_CGROUP] = "cgroup",
	[GROUP_UNIT] = "unit",
	[GROUP_CONTAINER] = "container",
	[GROUP_POD] = "pod",
	NULL,
};

static int parse_group(const char *value, struct query *query, struct error *error)
{
	const char *near = text_nearest(value, query_groups);

	for (int i = 0; query_groups[i]; i++)
		if (strcmp(query_groups[i], value) == 0) {
			query->by = (enum query_group)i;
			return 0;
		}
	error_set(error, -EINVAL, "cannot group by '%s'", value);
	if (near)
		return error_want(error, "did you mean '%s'?", near);
	return error_want(error, "process, user, group, exe, cgroup, unit, container or pod");
}

static int parse_parameters(
	enum query_list list, struct evkeyvalq *parameters, struct query *query, struct error *error)
{
	const struct sort_key *sorts = sort_keys[list];
	const char *order = NULL;
	int r = 0;

	for (struct evkeyval *pair = parameters->tqh_first; pair && r == 0; pair = pair->next.tqe_next) {
		if (strcmp(pair->key, "filter") == 0) {
			r = match_parse(pair->value, &query->match, error);
		} else if (strcmp(pair->key, "sort") == 0) {
			r = parse_sort(sorts, pair->value, query, error);
		} else if (strcmp(pair->key, "limit") == 0) {
			r = parse_limit(pair->value, query, error);
		} else if (strcmp(pair->key, "order") == 0) {
			order = pair->value;
		} else if (strcmp(pair->key, "by") == 0 && list == QUERY_OWNERS) {
			r = parse_group(pair->value, query, error);
		} else {
			error_set(error, -EINVAL, "unknown parameter '%s'", pair->key);
			r = error_want(
				error, "%sfilter, sort, order or limit", list == QUERY_OWNERS ? "by, " : "");
		}
	}
	if (r < 0 || !order)
		return r;
	query->ascending = strcmp(order, "ascending") == 0;
	if (query->ascending || strcmp(order, "descending") == 0)
		return 0;
	error_set(error, -EINVAL, "unknown order '%s'", order);
	return error_want(error, "ascending or descending");
}

int query_parse(enum query_list list, const char *text, struct query *ret_query, struct error *error)
{
	struct query query = {.sort = sort_keys[list]->sort, .limit = UINT64_MAX};
	struct evkeyvalq parameters = {};
	int r = 0;

	match_init(&query.match);
	if (text && *text) {
		if (evhttp_parse_query_str(text, &parameters) < 0) {
			error_set(error, -EINVAL, "malformed query string");
			return error_want(error, "NAME=VALUE&..., percent-encoded");
		}
		r = parse_parameters(list, &parameters, &query, error);
		evhttp_clear_headers(&parameters);
	}
	if (r == 0)
		*ret_query = query;
	return r;
}
