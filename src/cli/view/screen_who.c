/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Who moves it: processes, and what they are summed up by. */
#include "cli/view/screen.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "cli/view/answer.h"

#define UNIT_MIN 12 /* of its name, to be recognised by */

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
	[PROC_UNIT] = {"UNIT", .elastic = UNIT_MIN, .importance = 3, .hide_empty = true},
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

const struct screen screen_procs = {"procs", "/v1/processes", 'o', proc_sorts, proc_columns,
	COUNT_OF(proc_columns), proc_cell, "no processes", .list = "processes"};

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
	[OWNER_NAME] = {"OWNER", .elastic = UNIT_MIN},
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

const struct screen screen_owners = {"owners", "/v1/owners", 'w', owner_sorts, owner_columns,
	COUNT_OF(owner_columns), owner_cell, "no owners"};
