/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include "cli/view/screens.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "basic/cleanup.h"
#include "basic/text.h"
#include "weir/weir.h"

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

/* An endpoint is not cut further than this: both ends of it are to be recognised. */
#define ENDPOINT_MIN 12

#define SENTENCE_MIN 30 /* of a rule */

#define SORT_KEYS_MAX 20 /* of one screen */

uint64_t json_get_number(const json_t *object, const char *key)
{
	const json_t *value = json_object_get(object, key);

	if (json_is_real(value))
		return json_real_value(value) > 0 ? (uint64_t)json_real_value(value) : 0;
	return json_integer_value(value) > 0 ? (uint64_t)json_integer_value(value) : 0;
}

const char *json_get_text(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));

	return text ? text : "";
}

double json_get_time(const json_t *object, const char *key)
{
	const char *text = json_get_text(object, key);
	struct tm tm = {};
	const char *rest = strptime(text, "%Y-%m-%dT%H:%M:%S", &tm);

	if (!rest)
		return 0;
	return (double)timegm(&tm) + (*rest == '.' ? atof(rest) : 0);
}

void clock_format(const json_t *entry, char *buffer, size_t size)
{
	double seconds = json_get_time(entry, "time");
	time_t whole = (time_t)seconds;
	struct tm parts;

	localtime_r(&whole, &parts);
	snprintf(buffer, size, "%02d:%02d:%02d.%03d", parts.tm_hour, parts.tm_min, parts.tm_sec,
		(int)((seconds - (double)whole) * 1000 + 0.5) % 1000);
}

static void seconds_format(char *buffer, size_t size, double seconds)
{
	duration_format(buffer, size, seconds > 0 ? (uint64_t)(seconds * 1e9) : 0);
}

/* Time since an entry's `last`, or what else it is called. */
static void since_format(
	const json_t *entry, const char *key, const struct cell_context *context, char *buffer, size_t size)
{
	double last = json_get_time(entry, key), idle = context->now - last;

	if (!last)
		return;
	/* Whole seconds: the agent knows it no better than its last scan. */
	if (idle < 1)
		snprintf(buffer, size, "now");
	else
		seconds_format(buffer, size, (double)(uint64_t)idle);
}

static void idle_format(const json_t *entry, const struct cell_context *context, char *buffer, size_t size)
{
	since_format(entry, "last", context, buffer, size);
}

static void amount_format(const json_t *entry, const char *direction, const struct cell_context *context,
	char *buffer, size_t size)
{
	size_format(
		buffer, size, json_get_number(json_object_get(entry, direction), "bytes"), context->units);
}

static void packets_format(const json_t *entry, const char *direction, const struct cell_context *context,
	char *buffer, size_t size)
{
	count_format(
		buffer, size, json_get_number(json_object_get(entry, direction), "packets"), context->units);
}

static void rate_cell(
	const json_t *entry, const char *key, const struct cell_context *context, char *buffer, size_t size)
{
	if (json_object_get(entry, key))
		rate_format(buffer, size, json_get_number(entry, key), context->units);
}

/* ---- flows ---- */

enum {
	FLOW_PROTO,
	FLOW_DIRECTION,
	FLOW_INTERFACE,
	FLOW_SOURCE,
	FLOW_DESTINATION,
	FLOW_OWNER,
	FLOW_PACKETS,
	FLOW_BYTES,
	FLOW_RATE,
	FLOW_DURATION,
	FLOW_IDLE,
	FLOW_STATE,
	FLOW_INFO,
	FLOW_NAME,
};

static const struct table_column flow_columns[] = {
	[FLOW_PROTO] = {"PROTO"},
	[FLOW_DIRECTION] = {"DIR"},
	[FLOW_INTERFACE] = {"INTERFACE", .importance = 5},
	[FLOW_SOURCE] = {"SOURCE", .elastic = ENDPOINT_MIN},
	[FLOW_DESTINATION] = {"DESTINATION", .elastic = ENDPOINT_MIN},
	[FLOW_OWNER] = {"OWNER", .importance = 3, .hide_empty = true},
	[FLOW_PACKETS] = {"PACKETS", ALIGN_RIGHT, .importance = 1},
	[FLOW_BYTES] = {"BYTES", ALIGN_RIGHT},
	[FLOW_RATE] = {"RATE", ALIGN_RIGHT},
	[FLOW_DURATION] = {"DURATION", ALIGN_RIGHT, .importance = 4},
	[FLOW_IDLE] = {"IDLE", ALIGN_RIGHT, .importance = 6},
	[FLOW_STATE] = {"STATE", .importance = 7},
	[FLOW_INFO] = {"INFO", .importance = 2, .hide_empty = true},
	[FLOW_NAME] = {"NAME", .importance = 9, .hide_empty = true},
};

static const struct sort_key flow_sorts[] = {
	{"bytes"},
	{"packets"},
	{"rate"},
	{"first"},
	{"last"},
	{"duration"},
	{"src", .ascending = true},
	{"dst", .ascending = true},
	{"sport", .ascending = true},
	{"dport", .ascending = true},
	{NULL},
};

void endpoint_format(
	const json_t *entry, const char *address_key, const char *port_key, char *buffer, size_t size)
{
	const char *address = json_get_text(entry, address_key);
	uint64_t port = json_get_number(entry, port_key);

	if (!port)
		snprintf(buffer, size, "%s", address);
	else
		snprintf(buffer, size, strchr(address, ':') ? "[%s]:%" PRIu64 : "%s:%" PRIu64, address, port);
}

void owner_format(const json_t *entry, char *buffer, size_t size)
{
	const json_t *owner = json_object_get(entry, "owner");

	if (json_object_get(owner, "pid"))
		snprintf(buffer, size, "%s[%" PRIu64 "]", json_get_text(owner, "command"),
			json_get_number(owner, "pid"));
	else
		snprintf(buffer, size, "%s", json_get_text(owner, "kind"));
}

/* What only some flows have to say, in one column. */
static void info_format(const json_t *flow, char *buffer, size_t size)
{
	FILE *out = fmemopen(buffer, size, "w");
	const char *separator = "", *flags = json_get_text(flow, "tcp_flags");

	if (!out)
		return;
	if (strcmp(json_get_text(flow, "verdict"), "drop") == 0) {
		fputs("dropped", out);
		if (json_get_number(flow, "rule"))
			fprintf(out, " by %" PRIu64, json_get_number(flow, "rule"));
		separator = " ";
	}
	if (*flags) {
		fprintf(out, "%s%s", separator, flags);
		separator = " ";
	}
	if (json_object_get(flow, "icmp_type")) {
		fprintf(out, "%stype %" PRIu64 "/%" PRIu64, separator, json_get_number(flow, "icmp_type"),
			json_get_number(flow, "icmp_code"));
		separator = " ";
	}
	if (json_object_get(flow, "icmp_id")) {
		fprintf(out, "%sid %" PRIu64, separator, json_get_number(flow, "icmp_id"));
		separator = " ";
	}
	if (json_is_true(json_object_get(flow, "fragment"))) {
		fprintf(out, "%sfragment", separator);
		separator = " ";
	}
	if (json_object_get(flow, "vlan")) {
		fprintf(out, "%svlan %" PRIu64, separator, json_get_number(flow, "vlan"));
		separator = " ";
	}
	if (json_get_number(flow, "sample_rate") > 1)
		fprintf(out, "%s1/%" PRIu64, separator, json_get_number(flow, "sample_rate"));
	fclose(out);
}

/* "example.com/path"; the protocol where that is all that is known. */
static void app_format(const json_t *app, char *buffer, size_t size)
{
	const char *name = json_get_text(app, "name"), *path = json_get_text(app, "path");

	if (*name || *path)
		snprintf(buffer, size, "%s%s", name, path);
	else
		snprintf(buffer, size, "%s", json_get_text(app, "protocol"));
}

static void flow_cell(const json_t *flow, unsigned int column, const struct cell_context *context,
	char *buffer, size_t size)
{
	switch (column) {
	case FLOW_PROTO:
		snprintf(buffer, size, "%s", json_get_text(flow, "proto"));
		break;
	case FLOW_DIRECTION:
		snprintf(buffer, size, "%s", json_get_text(flow, "direction"));
		break;
	case FLOW_INTERFACE:
		snprintf(buffer, size, "%s", json_get_text(flow, "interface"));
		break;
	case FLOW_SOURCE:
		endpoint_format(flow, "src", "sport", buffer, size);
		break;
	case FLOW_DESTINATION:
		endpoint_format(flow, "dst", "dport", buffer, size);
		break;
	case FLOW_OWNER:
		owner_format(flow, buffer, size);
		break;
	case FLOW_PACKETS:
		count_format(buffer, size, json_get_number(flow, "packets"), context->units);
		break;
	case FLOW_BYTES:
		size_format(buffer, size, json_get_number(flow, "bytes"), context->units);
		break;
	case FLOW_RATE:
		rate_cell(flow, "rate_bps", context, buffer, size);
		break;
	case FLOW_DURATION:
		seconds_format(buffer, size, json_number_value(json_object_get(flow, "duration")));
		break;
	case FLOW_IDLE:
		idle_format(flow, context, buffer, size);
		break;
	case FLOW_STATE:
		snprintf(buffer, size, "%s", json_get_text(flow, "state"));
		break;
	case FLOW_INFO:
		info_format(flow, buffer, size);
		break;
	case FLOW_NAME:
		app_format(json_object_get(flow, "app"), buffer, size);
		break;
	}
}

/* "nginx, curl +2": those of an entry's processes that the answer names, and how many more there are. */
static void owners_format(const json_t *entry, char *buffer, size_t size)
{
	const json_t *owners = json_object_get(entry, "owners"), *owner;
	uint64_t named = json_array_size(owners), all = json_get_number(entry, "processes");
	FILE *out = fmemopen(buffer, size, "w");
	size_t i;

	if (!out)
		return;
	json_array_foreach (owners, i, owner)
		fprintf(out, "%s%s", i ? ", " : "", json_get_text(owner, "command"));
	if (all > named)
		fprintf(out, " +%" PRIu64, all - named);
	fclose(out);
}

/* ---- hosts ---- */

enum {
	HOST_ADDRESS,
	HOST_IN,
	HOST_OUT,
	HOST_RATE_IN,
	HOST_RATE_OUT,
	HOST_PACKETS_IN,
	HOST_PACKETS_OUT,
	HOST_IDLE,
	HOST_OWNERS,
	HOST_NAME,
};

static const struct table_column host_columns[] = {
	[HOST_ADDRESS] = {"HOST", .elastic = ENDPOINT_MIN},
	[HOST_IN] = {"IN", ALIGN_RIGHT},
	[HOST_OUT] = {"OUT", ALIGN_RIGHT},
	[HOST_RATE_IN] = {"RATE IN", ALIGN_RIGHT},
	[HOST_RATE_OUT] = {"RATE OUT", ALIGN_RIGHT},
	[HOST_PACKETS_IN] = {"PACKETS IN", ALIGN_RIGHT, .importance = 1},
	[HOST_PACKETS_OUT] = {"PACKETS OUT", ALIGN_RIGHT, .importance = 2},
	[HOST_IDLE] = {"IDLE", ALIGN_RIGHT, .importance = 3},
	[HOST_OWNERS] = {"OWNERS", .importance = 4, .hide_empty = true},
	[HOST_NAME] = {"NAME", .importance = 9, .hide_empty = true},
};

static const struct sort_key host_sorts[] = {
	{"bytes"},
	{"packets"},
	{"in"},
	{"out"},
	{"rate"},
	{"address", .ascending = true},
	{NULL},
};

static void host_cell(const json_t *host, unsigned int column, const struct cell_context *context,
	char *buffer, size_t size)
{
	switch (column) {
	case HOST_ADDRESS:
		/* Only the sum of those without totals of their own has no address. */
		snprintf(buffer, size, "%s",
			json_object_get(host, "address") ? json_get_text(host, "address") : "(others)");
		break;
	case HOST_IN:
		amount_format(host, "in", context, buffer, size);
		break;
	case HOST_OUT:
		amount_format(host, "out", context, buffer, size);
		break;
	case HOST_RATE_IN:
		rate_cell(host, "rate_in_bps", context, buffer, size);
		break;
	case HOST_RATE_OUT:
		rate_cell(host, "rate_out_bps", context, buffer, size);
		break;
	case HOST_PACKETS_IN:
		packets_format(host, "in", context, buffer, size);
		break;
	case HOST_PACKETS_OUT:
		packets_format(host, "out", context, buffer, size);
		break;
	case HOST_IDLE:
		idle_format(host, context, buffer, size);
		break;
	case HOST_OWNERS:
		owners_format(host, buffer, size);
		break;
	case HOST_NAME:
		snprintf(buffer, size, "%s", json_get_text(host, "name"));
		break;
	}
}

/* ---- ports ---- */

enum {
	PORT_PROTO,
	PORT_NUMBER,
	PORT_FLOWS,
	PORT_IN,
	PORT_OUT,
	PORT_RATE_IN,
	PORT_RATE_OUT,
	PORT_PACKETS_IN,
	PORT_PACKETS_OUT,
	PORT_OWNERS,
};

static const struct table_column port_columns[] = {
	[PORT_PROTO] = {"PROTO"},
	[PORT_NUMBER] = {"PORT", ALIGN_RIGHT},
	[PORT_FLOWS] = {"FLOWS", ALIGN_RIGHT},
	[PORT_IN] = {"IN", ALIGN_RIGHT},
	[PORT_OUT] = {"OUT", ALIGN_RIGHT},
	[PORT_RATE_IN] = {"RATE IN", ALIGN_RIGHT},
	[PORT_RATE_OUT] = {"RATE OUT", ALIGN_RIGHT},
	[PORT_PACKETS_IN] = {"PACKETS IN", ALIGN_RIGHT, .importance = 1},
	[PORT_PACKETS_OUT] = {"PACKETS OUT", ALIGN_RIGHT, .importance = 2},
	[PORT_OWNERS] = {"OWNERS", .importance = 3, .hide_empty = true},
};

static const struct sort_key port_sorts[] = {
	{"bytes"},
	{"packets"},
	{"in"},
	{"out"},
	{"rate"},
	{"flows"},
	{"port", .ascending = true},
	{NULL},
};

static void port_cell(const json_t *port, unsigned int column, const struct cell_context *context,
	char *buffer, size_t size)
{
	bool other = !json_object_get(port, "port");

	switch (column) {
	case PORT_PROTO:
		snprintf(buffer, size, "%s", other ? "(others)" : json_get_text(port, "proto"));
		break;
	case PORT_NUMBER:
		if (!other)
			snprintf(buffer, size, "%" PRIu64, json_get_number(port, "port"));
		break;
	case PORT_FLOWS:
		if (!other)
			count_format(buffer, size, json_get_number(port, "flows"), context->units);
		break;
	case PORT_IN:
		amount_format(port, "in", context, buffer, size);
		break;
	case PORT_OUT:
		amount_format(port, "out", context, buffer, size);
		break;
	case PORT_RATE_IN:
		rate_cell(port, "rate_in_bps", context, buffer, size);
		break;
	case PORT_RATE_OUT:
		rate_cell(port, "rate_out_bps", context, buffer, size);
		break;
	case PORT_PACKETS_IN:
		packets_format(port, "in", context, buffer, size);
		break;
	case PORT_PACKETS_OUT:
		packets_format(port, "out", context, buffer, size);
		break;
	case PORT_OWNERS:
		owners_format(port, buffer, size);
		break;
	}
}

/* ---- interfaces ---- */

enum {
	INTERFACE_NAME,
	INTERFACE_STATE,
	INTERFACE_HOOKS,
	INTERFACE_IN,
	INTERFACE_OUT,
	INTERFACE_RATE_IN,
	INTERFACE_RATE_OUT,
	INTERFACE_PACKETS_IN,
	INTERFACE_PACKETS_OUT,
	INTERFACE_LINK,
	INTERFACE_ERROR,
};

static const struct table_column interface_columns[] = {
	[INTERFACE_NAME] = {"INTERFACE"},
	[INTERFACE_STATE] = {"STATE"},
	[INTERFACE_HOOKS] = {"HOOKS", .importance = 1},
	[INTERFACE_IN] = {"IN", ALIGN_RIGHT},
	[INTERFACE_OUT] = {"OUT", ALIGN_RIGHT},
	[INTERFACE_RATE_IN] = {"RATE IN", ALIGN_RIGHT},
	[INTERFACE_RATE_OUT] = {"RATE OUT", ALIGN_RIGHT},
	[INTERFACE_PACKETS_IN] = {"PACKETS IN", ALIGN_RIGHT, .importance = 2},
	[INTERFACE_PACKETS_OUT] = {"PACKETS OUT", ALIGN_RIGHT, .importance = 3},
	[INTERFACE_LINK] = {"LINK", .importance = 4},
	[INTERFACE_ERROR] = {"ERROR", .elastic = 10, .hide_empty = true},
};

/* "tcx", or what the hooks are attached by where they differ. */
static void hooks_format(const json_t *hooks, char *buffer, size_t size)
{
	const char *kind = "", *other;
	const json_t *hook;
	size_t i, length = 0;

	json_array_foreach (hooks, i, hook) {
		other = json_get_text(hook, "kind");
		if (strcmp(kind, other) == 0)
			continue;
		length += (size_t)snprintf(buffer + length, size - length, "%s%s", length ? " " : "", other);
		if (length >= size)
			return;
		kind = other;
	}
}

static void interface_cell(const json_t *interface, unsigned int column, const struct cell_context *context,
	char *buffer, size_t size)
{
	/* One that is not there has no numbers: nothing is clearer than zeros. */
	bool counts = json_object_get(interface, "in");

	switch (column) {
	case INTERFACE_NAME:
		snprintf(buffer, size, "%s", json_get_text(interface, "name"));
		break;
	case INTERFACE_STATE:
		snprintf(buffer, size, "%s", json_get_text(interface, "state"));
		break;
	case INTERFACE_HOOKS:
		hooks_format(json_object_get(interface, "hooks"), buffer, size);
		break;
	case INTERFACE_IN:
		if (counts)
			amount_format(interface, "in", context, buffer, size);
		break;
	case INTERFACE_OUT:
		if (counts)
			amount_format(interface, "out", context, buffer, size);
		break;
	case INTERFACE_RATE_IN:
		rate_cell(interface, "rate_in_bps", context, buffer, size);
		break;
	case INTERFACE_RATE_OUT:
		rate_cell(interface, "rate_out_bps", context, buffer, size);
		break;
	case INTERFACE_PACKETS_IN:
		if (counts)
			packets_format(interface, "in", context, buffer, size);
		break;
	case INTERFACE_PACKETS_OUT:
		if (counts)
			packets_format(interface, "out", context, buffer, size);
		break;
	case INTERFACE_LINK:
		snprintf(buffer, size, "%s", json_get_text(interface, "link"));
		break;
	case INTERFACE_ERROR:
		snprintf(buffer, size, "%s", json_get_text(interface, "error"));
		break;
	}
}

/* ---- drops ---- */

enum {
	DROP_REASON,
	DROP_PACKETS,
	DROP_BYTES,
	DROP_IDLE,
	DROP_PLACE,
};

static const struct table_column drop_columns[] = {
	[DROP_REASON] = {"REASON"},
	[DROP_PACKETS] = {"PACKETS", ALIGN_RIGHT},
	[DROP_BYTES] = {"BYTES", ALIGN_RIGHT, .importance = 2},
	[DROP_IDLE] = {"IDLE", ALIGN_RIGHT, .importance = 3},
	[DROP_PLACE] = {"PLACE", .importance = 1, .elastic = 20},
};

static const struct sort_key drop_sorts[] = {
	{"packets"},
	{"bytes"},
	{"last"},
	{"reason", .ascending = true},
	{NULL},
};

/* The place with the most drops, and how many others there are. */
static void places_format(const json_t *places, char *buffer, size_t size)
{
	size_t count = json_array_size(places);
	const char *first = json_get_text(json_array_get(places, 0), "place");

	if (count > 1)
		snprintf(buffer, size, "%s, %zu more", first, count - 1);
	else
		snprintf(buffer, size, "%s", first);
}

static void drop_cell(const json_t *drop, unsigned int column, const struct cell_context *context,
	char *buffer, size_t size)
{
	switch (column) {
	case DROP_REASON:
		snprintf(buffer, size, "%s", json_get_text(drop, "reason"));
		break;
	case DROP_PACKETS:
		count_format(buffer, size, json_get_number(drop, "packets"), context->units);
		break;
	case DROP_BYTES:
		size_format(buffer, size, json_get_number(drop, "bytes"), context->units);
		break;
	case DROP_IDLE:
		idle_format(drop, context, buffer, size);
		break;
	case DROP_PLACE:
		places_format(json_object_get(drop, "places"), buffer, size);
		break;
	}
}

/* ---- processes ---- */

enum {
	PROC_PID,
	PROC_COMMAND,
	PROC_USER,
	PROC_UNIT,
	PROC_IN,
	PROC_OUT,
	PROC_RATE_IN,
	PROC_RATE_OUT,
	PROC_CONNECTIONS,
	PROC_RETRANSMITS,
	PROC_RTT,
	PROC_STATE,
};

static const struct table_column proc_columns[] = {
	[PROC_PID] = {"PID", ALIGN_RIGHT},
	[PROC_COMMAND] = {"COMMAND"},
	[PROC_USER] = {"USER", .importance = 1},
	[PROC_UNIT] = {"UNIT", .elastic = ENDPOINT_MIN, .importance = 3, .hide_empty = true},
	[PROC_IN] = {"IN", ALIGN_RIGHT},
	[PROC_OUT] = {"OUT", ALIGN_RIGHT},
	[PROC_RATE_IN] = {"RATE IN", ALIGN_RIGHT},
	[PROC_RATE_OUT] = {"RATE OUT", ALIGN_RIGHT},
	[PROC_CONNECTIONS] = {"CONNS", ALIGN_RIGHT, .importance = 4, .hide_empty = true},
	[PROC_RETRANSMITS] = {"RETR", ALIGN_RIGHT, .importance = 5, .hide_empty = true},
	[PROC_RTT] = {"RTT", ALIGN_RIGHT, .importance = 6, .hide_empty = true},
	[PROC_STATE] = {"ENDED", ALIGN_RIGHT, .importance = 7, .hide_empty = true},
};

static const struct sort_key proc_sorts[] = {
	{"bytes"},
	{"packets"},
	{"in"},
	{"out"},
	{"rate"},
	{"flows"},
	{"command", .ascending = true},
	{"pid", .ascending = true},
	{"started"},
	{NULL},
};

/* A container says more than the unit that its runtime made for it. */
static void unit_format(const json_t *process, char *buffer, size_t size)
{
	const char *container = json_get_text(process, "container");

	if (*container)
		snprintf(buffer, size, "%.12s", container);
	else
		snprintf(buffer, size, "%s", json_get_text(process, "unit"));
}

static void proc_cell(const json_t *process, unsigned int column, const struct cell_context *context,
	char *buffer, size_t size)
{
	double ended = json_get_time(process, "ended");

	switch (column) {
	case PROC_PID:
		if (!context->rest)
			snprintf(buffer, size, "%" PRIu64, json_get_number(process, "pid"));
		break;
	case PROC_COMMAND:
		if (context->rest)
			snprintf(buffer, size, "(%s)", context->rest);
		else
			snprintf(buffer, size, "%s", json_get_text(process, "command"));
		break;
	case PROC_USER:
		snprintf(buffer, size, "%s", json_get_text(process, "user"));
		break;
	case PROC_UNIT:
		unit_format(process, buffer, size);
		break;
	case PROC_IN:
		amount_format(process, "in", context, buffer, size);
		break;
	case PROC_OUT:
		amount_format(process, "out", context, buffer, size);
		break;
	case PROC_RATE_IN:
		rate_cell(process, "rate_in_bps", context, buffer, size);
		break;
	case PROC_RATE_OUT:
		rate_cell(process, "rate_out_bps", context, buffer, size);
		break;
	case PROC_CONNECTIONS:
		if (json_object_get(process, "connections"))
			count_format(buffer, size, json_get_number(process, "connections"), context->units);
		break;
	case PROC_RETRANSMITS:
		if (json_object_get(process, "retransmits"))
			count_format(buffer, size, json_get_number(process, "retransmits"), context->units);
		break;
	case PROC_RTT:
		if (json_object_get(process, "srtt_us"))
			duration_format(buffer, size, json_get_number(process, "srtt_us") * 1000);
		break;
	case PROC_STATE:
		/* Whole seconds, as IDLE. */
		if (ended)
			seconds_format(buffer, size, (double)(int64_t)(context->now - ended));
		break;
	}
}

/* ---- owners: processes by user, unit, … ---- */

enum {
	OWNER_NAME,
	OWNER_PROCESSES,
	OWNER_IN,
	OWNER_OUT,
	OWNER_RATE_IN,
	OWNER_RATE_OUT,
	OWNER_PACKETS_IN,
	OWNER_PACKETS_OUT,
	OWNER_IDLE,
};

static const struct table_column owner_columns[] = {
	[OWNER_NAME] = {"OWNER", .elastic = ENDPOINT_MIN},
	[OWNER_PROCESSES] = {"PROCESSES", ALIGN_RIGHT, .importance = 4},
	[OWNER_IN] = {"IN", ALIGN_RIGHT},
	[OWNER_OUT] = {"OUT", ALIGN_RIGHT},
	[OWNER_RATE_IN] = {"RATE IN", ALIGN_RIGHT},
	[OWNER_RATE_OUT] = {"RATE OUT", ALIGN_RIGHT},
	[OWNER_PACKETS_IN] = {"PACKETS IN", ALIGN_RIGHT, .importance = 1},
	[OWNER_PACKETS_OUT] = {"PACKETS OUT", ALIGN_RIGHT, .importance = 2},
	[OWNER_IDLE] = {"IDLE", ALIGN_RIGHT, .importance = 3},
};

static const struct sort_key owner_sorts[] = {
	{"bytes"},
	{"packets"},
	{"in"},
	{"out"},
	{"rate"},
	{"flows"},
	{"name", .ascending = true},
	{NULL},
};

static void owner_cell(const json_t *owner, unsigned int column, const struct cell_context *context,
	char *buffer, size_t size)
{
	const char *name = json_get_text(owner, "name");

	switch (column) {
	case OWNER_NAME:
		/* Who is in no unit, for example, has no name. */
		if (context->rest)
			snprintf(buffer, size, "(%s)", context->rest);
		else
			snprintf(buffer, size, "%s", *name ? name : "(none)");
		break;
	case OWNER_PROCESSES:
		if (!context->rest)
			count_format(buffer, size, json_get_number(owner, "processes"), context->units);
		break;
	case OWNER_IN:
		amount_format(owner, "in", context, buffer, size);
		break;
	case OWNER_OUT:
		amount_format(owner, "out", context, buffer, size);
		break;
	case OWNER_RATE_IN:
		rate_cell(owner, "rate_in_bps", context, buffer, size);
		break;
	case OWNER_RATE_OUT:
		rate_cell(owner, "rate_out_bps", context, buffer, size);
		break;
	case OWNER_PACKETS_IN:
		packets_format(owner, "in", context, buffer, size);
		break;
	case OWNER_PACKETS_OUT:
		packets_format(owner, "out", context, buffer, size);
		break;
	case OWNER_IDLE:
		idle_format(owner, context, buffer, size);
		break;
	}
}

/* ---- rules ---- */

enum {
	RULE_ID,
	RULE_HOOK,
	RULE_PACKETS,
	RULE_PPS,
	RULE_BYTES,
	RULE_RATE,
	RULE_LAST,
	RULE_SOURCE,
	RULE_SENTENCE,
};

static const struct table_column rule_columns[] = {
	[RULE_ID] = {"ID", ALIGN_RIGHT},
	[RULE_HOOK] = {"HOOK", .importance = 1},
	[RULE_PACKETS] = {"HITS", ALIGN_RIGHT},
	[RULE_PPS] = {"HITS/S", ALIGN_RIGHT},
	[RULE_BYTES] = {"BYTES", ALIGN_RIGHT, .importance = 2},
	[RULE_RATE] = {"RATE", ALIGN_RIGHT, .importance = 3},
	[RULE_LAST] = {"LAST HIT", ALIGN_RIGHT},
	[RULE_SOURCE] = {"SOURCE", .importance = 4},
	[RULE_SENTENCE] = {"RULE", .elastic = SENTENCE_MIN, .rest = true},
};

static const struct sort_key rule_sorts[] = {
	{"place", .ascending = true},
	{"packets"},
	{"bytes"},
	{"rate"},
	{"last"},
	{NULL},
};

static void rule_cell(const json_t *rule, unsigned int column, const struct cell_context *context,
	char *buffer, size_t size)
{
	bool calls = json_object_get(rule, "hits");
	const char *rate = calls ? "rate_hits" : "rate_pps";

	switch (column) {
	case RULE_ID:
		if (json_object_get(rule, "id"))
			snprintf(buffer, size, "%" PRIu64, json_get_number(rule, "id"));
		break;
	case RULE_HOOK:
		snprintf(buffer, size, "%s", json_get_text(rule, "hook"));
		break;
	case RULE_PACKETS:
		count_format(buffer, size, json_get_number(rule, calls ? "hits" : "packets"), context->units);
		break;
	case RULE_PPS:
		if (json_object_get(rule, rate))
			count_format(buffer, size, json_get_number(rule, rate), context->units);
		break;
	case RULE_BYTES:
		if (!calls)
			size_format(buffer, size, json_get_number(rule, "bytes"), context->units);
		break;
	case RULE_RATE:
		rate_cell(rule, "rate_bps", context, buffer, size);
		break;
	case RULE_LAST:
		since_format(rule, "last_hit", context, buffer, size);
		break;
	case RULE_SOURCE:
		snprintf(buffer, size, "%s", json_get_text(rule, "source"));
		break;
	case RULE_SENTENCE:
		snprintf(buffer, size, "%s", json_get_text(rule, "text"));
		break;
	}
}

/* A default verdict that is more than nothing, as a rule that comes behind all others. */
static json_t *default_rule(const json_t *defaults, const char *direction)
{
	const json_t *entry = json_object_get(defaults, direction);
	const char *verdict = json_get_text(entry, "verdict");
	json_t *rule;
	char text[64];

	if (!entry || strcmp(verdict, "accept") == 0)
		return NULL;
	rule = json_copy((json_t *)entry);
	snprintf(text, sizeof(text), "%s %s%s", verdict, direction,
		json_is_true(json_object_get(defaults, "log")) ? " log" : "");
	json_object_set_new(rule, "text", json_string(text));
	json_object_set_new(rule, "hook", json_string("tc"));
	json_object_set_new(rule, "source", json_string("default"));
	return rule;
}

const char *const screen_groups[] = {
	"process", "user", "group", "exe", "cgroup", "unit", "container", "pod", NULL};

const char *group_find(const char *name, struct error *error)
{
	const char *near = text_nearest(name, screen_groups);

	for (size_t i = 0; screen_groups[i]; i++)
		if (strcmp(screen_groups[i], name) == 0)
			return screen_groups[i];
	error_set(error, -EINVAL, "traffic cannot be summed up by '%s'", name);
	if (near)
		error_want(error, "did you mean '%s'?", near);
	else
		error_want(error, "one of process, user, group, exe, cgroup, unit, container, pod");
	return NULL;
}

const struct screen screens[SCREEN_COUNT] = {
	[SCREEN_FLOWS] = {"flows", "/v1/flows", 'f', flow_sorts, flow_columns, COUNT_OF(flow_columns),
		flow_cell, "no flows"},
	[SCREEN_HOSTS] = {"hosts", "/v1/hosts", 'h', host_sorts, host_columns, COUNT_OF(host_columns),
		host_cell, "no hosts"},
	[SCREEN_PORTS] = {"ports", "/v1/ports", 'p', port_sorts, port_columns, COUNT_OF(port_columns),
		port_cell, "no ports"},
	[SCREEN_INTERFACES] = {"interfaces", "/v1/interfaces", 'i', NULL, interface_columns,
		COUNT_OF(interface_columns), interface_cell, "no interfaces"},
	[SCREEN_DROPS] = {"drops", "/v1/drops", 'd', drop_sorts, drop_columns, COUNT_OF(drop_columns),
		drop_cell, "no drops"},
	[SCREEN_PROCS] = {"procs", "/v1/processes", 'o', proc_sorts, proc_columns, COUNT_OF(proc_columns),
		proc_cell, "no processes", .list = "processes"},
	[SCREEN_OWNERS] = {"owners", "/v1/owners", 'w', owner_sorts, owner_columns, COUNT_OF(owner_columns),
		owner_cell, "no owners"},
	[SCREEN_RULES] = {"rules", "/v1/rules", 'l', rule_sorts, rule_columns, COUNT_OF(rule_columns),
		rule_cell, "no rules: every packet is accepted, every call is allowed", .unfiltered = true},
};

const struct screen *screen_find(const char *name)
{
	for (unsigned int i = 0; i < SCREEN_COUNT; i++) {
		if (strcmp(screens[i].name, name) == 0)
			return &screens[i];
	}
	return NULL;
}

const struct sort_key *sort_find(const struct screen *screen, const char *name, struct error *error)
{
	const char *names[SORT_KEYS_MAX + 1] = {}, *near;
	char all[128] = "";
	unsigned int count = 0;

	if (!name)
		return screen->sorts;
	for (const struct sort_key *key = screen->sorts; key->name && count < SORT_KEYS_MAX; key++) {
		size_t length = strlen(all);

		if (strcmp(key->name, name) == 0)
			return key;
		names[count++] = key->name;
		snprintf(all + length, sizeof(all) - length, "%s%s", length ? ", " : "", key->name);
	}
	error_set(error, -EINVAL, "%s cannot be sorted by '%s'", screen->name, name);
	near = text_nearest(name, names);
	if (near)
		error_want(error, "did you mean '%s'?", near);
	else
		error_want(error, "one of %s", all);
	return NULL;
}

char *screen_query(const struct screen *screen, const struct question *question)
{
	_cleanup_free_ char *filter = NULL, *query = NULL;
	size_t length;
	FILE *out;

	if (!screen->sorts)
		return strdup("");
	if (question->filter && *question->filter && !screen->unfiltered) {
		filter = weir_escape(question->filter);
		if (!filter)
			return NULL;
	}
	out = open_memstream(&query, &length);
	if (!out)
		return NULL;
	if (filter)
		fprintf(out, "&filter=%s", filter);
	if (question->sort)
		fprintf(out, "&sort=%s&order=%s", question->sort->name,
			question->sort->ascending != question->reverse ? "ascending" : "descending");
	if (question->by)
		fprintf(out, "&by=%s", question->by);
	if (question->limit)
		fprintf(out, "&limit=%" PRIu64, question->limit);
	if (fclose(out) < 0)
		return NULL;
	return length ? strdup(query + 1) : TAKE(query);
}

static void screen_add(const struct screen *screen, const json_t *entry, const struct cell_context *context,
	struct table *table)
{
	char cell[TABLE_LINE_MAX];

	for (unsigned int i = 0; i < screen->column_count; i++) {
		cell[0] = '\0';
		screen->cell(entry, i, context, cell, sizeof(cell));
		table_add(table, cell);
	}
}

void screen_fill(const struct screen *screen, const json_t *answer, enum units units, struct table *ret_table)
{
	static const char *const rests[] = {"other", "forwarded", "kernel", "unknown", "undecided"};
	static const char *const directions[] = {"in", "out"};
	const json_t *list = json_object_get(answer, screen->list ? screen->list : screen->name), *entry;
	struct cell_context context = {.units = units};
	struct timespec now;
	size_t i;

	clock_gettime(CLOCK_REALTIME, &now);
	context.now = (double)now.tv_sec + (double)now.tv_nsec / 1e9;

	table_init(ret_table, screen->columns, screen->column_count);
	json_array_foreach (list, i, entry)
		screen_add(screen, entry, &context, ret_table);

	for (i = 0; i < COUNT_OF(rests); i++) {
		entry = json_object_get(answer, rests[i]);
		context.rest = rests[i];
		if (json_get_number(json_object_get(entry, "in"), "packets") ||
			json_get_number(json_object_get(entry, "out"), "packets"))
			screen_add(screen, entry, &context, ret_table);
	}
	context.rest = NULL;
	for (i = 0; i < COUNT_OF(directions); i++) {
		json_t *rule = default_rule(json_object_get(answer, "default"), directions[i]);

		if (rule)
			screen_add(screen, rule, &context, ret_table);
		json_decref(rule);
	}
}

void losses_read(const json_t *answer, struct losses *ret_losses)
{
	const json_t *losses = json_object_get(answer, "losses");
	uint64_t sample_rate = json_get_number(json_object_get(answer, "table"), "sample_rate");

	*ret_losses = (struct losses){
		.known = losses != NULL,
		.seen = json_get_number(losses, "seen"),
		.cached = json_get_number(losses, "cached"),
		.emitted = json_get_number(losses, "emitted"),
		.lost = json_get_number(losses, "lost"),
		.sample_rate = sample_rate ? sample_rate : 1,
	};
}

bool losses_matter(const struct losses *losses)
{
	return losses->lost > 0 || losses->sample_rate > 1;
}

char *losses_print(const struct losses *losses, enum units units, char *buffer, size_t size)
{
	char seen[32], cached[32], emitted[32], lost[32], sampling[64] = "";

	if (losses->sample_rate > 1)
		snprintf(
			sampling, sizeof(sampling), ", 1 of %" PRIu64 " new flows kept", losses->sample_rate);
	snprintf(buffer, size, "seen %s = cached %s + emitted %s + lost %s%s",
		count_format(seen, sizeof(seen), losses->seen, units),
		count_format(cached, sizeof(cached), losses->cached, units),
		count_format(emitted, sizeof(emitted), losses->emitted, units),
		count_format(lost, sizeof(lost), losses->lost, units), sampling);
	return buffer;
}
