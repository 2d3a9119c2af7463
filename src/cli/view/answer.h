/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * What stands in an answer of the API, as numbers, texts and the cells of tables.
 */
#ifndef WEIR_CLI_VIEW_ANSWER_H
#define WEIR_CLI_VIEW_ANSWER_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "basic/units.h"

/* What a cell is made from, besides the entry. */
struct cell_context {
	enum units units;
	double now;       /* seconds since 1970, for ages */
	const char *rest; /* the entry is what belongs to none of the list; NULL: it is one of the list */
};

/* "10.0.0.1:80", "[2001:db8::1]:80"; the address alone where the port is 0. */
void endpoint_format(
	const json_t *entry, const char *address_key, const char *port_key, char *buffer, size_t size);
/* The entry's "time" as the local time of day: the same as on the person's clock. */
void clock_format(const json_t *entry, char *buffer, size_t size);
/* The entry's owner: "nginx[812]", or of what kind it is; empty where it has none. */
void owner_format(const json_t *entry, char *buffer, size_t size);

/* Numbers and text of an answer; 0 and "" where the field is absent. */
uint64_t json_get_number(const json_t *object, const char *key);
const char *json_get_text(const json_t *object, const char *key);
/* Seconds since 1970 of an RFC 3339 time as the API writes it; 0: none. */
double json_get_time(const json_t *object, const char *key);

/* Cells of an entry; nothing is written where the entry has nothing to say. */
void seconds_format(char *buffer, size_t size, double seconds);
/* Time since the entry's time `key`; idle_format(): since its "last". */
void since_format(
	const json_t *entry, const char *key, const struct cell_context *context, char *buffer, size_t size);
void idle_format(const json_t *entry, const struct cell_context *context, char *buffer, size_t size);
/* Bytes and packets of the entry's "in" or "out". */
void amount_format(const json_t *entry, const char *direction, const struct cell_context *context,
	char *buffer, size_t size);
void packets_format(const json_t *entry, const char *direction, const struct cell_context *context,
	char *buffer, size_t size);
void rate_cell(
	const json_t *entry, const char *key, const struct cell_context *context, char *buffer, size_t size);
/* "nginx, curl +2": those of an entry's processes that the answer names, and how many more there are. */
void owners_format(const json_t *entry, char *buffer, size_t size);

#endif
