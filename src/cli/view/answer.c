/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include "cli/view/answer.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

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

void seconds_format(char *buffer, size_t size, double seconds)
{
	duration_format(buffer, size, seconds > 0 ? (uint64_t)(seconds * 1e9) : 0);
}

void since_format(
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

void idle_format(const json_t *entry, const struct cell_context *context, char *buffer, size_t size)
{
	since_format(entry, "last", context, buffer, size);
}

void amount_format(const json_t *entry, const char *direction, const struct cell_context *context,
	char *buffer, size_t size)
{
	size_format(
		buffer, size, json_get_number(json_object_get(entry, direction), "bytes"), context->units);
}

void packets_format(const json_t *entry, const char *direction, const struct cell_context *context,
	char *buffer, size_t size)
{
	count_format(
		buffer, size, json_get_number(json_object_get(entry, direction), "packets"), context->units);
}

void rate_cell(
	const json_t *entry, const char *key, const struct cell_context *context, char *buffer, size_t size)
{
	if (json_object_get(entry, key))
		rate_format(buffer, size, json_get_number(entry, key), context->units);
}

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

void owners_format(const json_t *entry, char *buffer, size_t size)
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
