/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Flows, and what they are summed up by: hosts, ports, interfaces; and drops. */
#include "cli/view/screen.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "cli/view/answer.h"

/* An endpoint is not cut further than this: both ends of it are to be recognised. */
#define ENDPOINT_MIN 12

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

const struct screen screen_flows = {
	"flows", "/v1/flows", 'f', flow_sorts, flow_columns, COUNT_OF(flow_columns), flow_cell, "no flows"};

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

const struct screen screen_hosts = {
	"hosts", "/v1/hosts", 'h', host_sorts, host_columns, COUNT_OF(host_columns), host_cell, "no hosts"};

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

const struct screen screen_ports = {
	"ports", "/v1/ports", 'p', port_sorts, port_columns, COUNT_OF(port_columns), port_cell, "no ports"};

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

const struct screen screen_interfaces = {"interfaces", "/v1/interfaces", 'i', NULL, interface_columns,
	COUNT_OF(interface_columns), interface_cell, "no interfaces"};

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

const struct screen screen_drops = {"drops", "/v1/drops", 'd', drop_sorts, drop_columns,
	COUNT_OF(drop_columns), drop_cell, "no drops", .summed = true};
