// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
#include "agent/owner/series.h"

#include <event2/buffer.h>
#include <stdlib.h>
#include <string.h>

#include "agent/internal.h"
#include "agent/owner/owners.h"

#define SERIES_MAX  1000 /* metrics.processes cannot be more */
#define USER_MAX    64
#define ESCAPED_MAX (2 * OWNER_PATH_MAX)

/* In the region.  The bytes are those of identities that are forgotten. */
struct series {
	char command[OWNER_COMMAND_MAX];
	char user[USER_MAX];
	char unit[OWNER_PATH_MAX];
	uint64_t in_bytes, out_bytes;
};

struct series_memory {
	uint64_t count;
	struct series series[SERIES_MAX];
};

struct series_list {
	struct engine_region region;
	struct series_memory *memory;
};

/* What an answer is made of. */
struct bytes {
	uint64_t in, out;
};

int series_open(struct agent *agent, struct series_list **ret_list, struct error *error)
{
	struct series_list *list = *ret_list = calloc(1, sizeof(*list));
	int r;

	if (!list)
		return error_set(error, -ENOMEM, "out of memory");
	r = engine_region_open(agent->engine, "series", sizeof(*list->memory), &list->region, error);
	if (r < 0)
		return r;
	r = engine_region_grow(agent->engine, &list->region, sizeof(*list->memory));
	if (r < 0)
		return error_set(error, r, "cannot get memory for series: %s", strerror(-r));
	list->memory = list->region.base;
	return 0;
}

void series_close(struct series_list *list)
{
	if (!list)
		return;
	engine_region_close(&list->region);
	free(list);
}

void series_keep(struct series_list *list, uint32_t number, const struct table_total *total)
{
	if (number == SERIES_NONE || number > list->memory->count)
		return;
	list->memory->series[number - 1].in_bytes += total->in.bytes;
	list->memory->series[number - 1].out_bytes += total->out.bytes;
}

/* The series of an identity; SERIES_OTHER where none is free. */
static uint32_t series_get(struct agent *agent, struct series_list *list, const struct owner *owner)
{
	const struct owner_info *info = owner_find(agent, owner->id);
	struct series_memory *memory = list->memory;
	struct series *series;

	if (!info)
		return SERIES_OTHER;
	for (uint64_t i = 0; i < memory->count; i++) {
		series = &memory->series[i];
		if (strcmp(series->command, owner->command) == 0 && strcmp(series->unit, info->unit) == 0 &&
			strncmp(series->user, info->user, sizeof(series->user) - 1) == 0)
			return (uint32_t)i + 1;
	}
	if (memory->count >= agent->config.metrics_processes || memory->count >= SERIES_MAX)
		return SERIES_OTHER;
	series = &memory->series[memory->count];
	*series = (struct series){};
	snprintf(series->command, sizeof(series->command), "%s", owner->command);
	snprintf(series->unit, sizeof(series->unit), "%s", info->unit);
	snprintf(series->user, sizeof(series->user), "%s", info->user);
	return (uint32_t)++memory->count;
}

struct newcomer {
	uint32_t place;
	uint64_t bytes;
};

static int compare_newcomers(const void *left, const void *right)
{
	const struct newcomer *a = left, *b = right;

	return (b->bytes > a->bytes) - (b->bytes < a->bytes);
}

static const struct table_total *total_at(struct agent *agent, uint32_t place)
{
	const struct owner *owner = owner_at(agent, place);
	uint32_t total = owner ? table_find_owner(agent->table, owner->id) : TABLE_NONE;

	return total == TABLE_NONE ? NULL : table_total(agent->table, TABLE_OWNERS, total);
}

/* Whoever has moved something by now gets his series. */
static void welcome(struct agent *agent, struct series_list *list)
{
	uint32_t places = owner_places(agent);
	struct newcomer *newcomers = malloc((places + 1) * sizeof(*newcomers));
	size_t count = 0;

	for (uint32_t i = 0; newcomers && i < places; i++) {
		const struct table_total *total = total_at(agent, i);

		if (total && total->in.bytes + total->out.bytes && *owner_series(agent, i) == SERIES_NONE)
			newcomers[count++] = (struct newcomer){i, total->in.bytes + total->out.bytes};
	}
	if (count)
		qsort(newcomers, count, sizeof(*newcomers), compare_newcomers);
	for (size_t i = 0; i < count; i++)
		*owner_series(agent, newcomers[i].place) =
			series_get(agent, list, owner_at(agent, newcomers[i].place));
	free(newcomers);
}

static void write_lines(struct evbuffer *out, const char *labels, struct bytes bytes)
{
	evbuffer_add_printf(
		out, "weir_process_bytes_total{%s,direction=\"in\"} %" PRIu64 "\n", labels, bytes.in);
	evbuffer_add_printf(
		out, "weir_process_bytes_total{%s,direction=\"out\"} %" PRIu64 "\n", labels, bytes.out);
}

static void write_series(struct evbuffer *out, const struct series *series, struct bytes bytes)
{
	char command[ESCAPED_MAX], unit[ESCAPED_MAX], user[ESCAPED_MAX], labels[3 * ESCAPED_MAX + 64];

	metrics_escape(command, sizeof(command), series->command);
	metrics_escape(unit, sizeof(unit), series->unit);
	metrics_escape(user, sizeof(user), series->user);
	snprintf(labels, sizeof(labels), "command=\"%s\",unit=\"%s\",user=\"%s\"", command, unit, user);
	write_lines(out, labels, bytes);
}

void series_write(struct agent *agent, struct series_list *list, struct evbuffer *out)
{
	const struct table_total *other_total = table_total(agent->table, TABLE_OWNERS, TABLE_OTHER);
	struct bytes other = {other_total->in.bytes, other_total->out.bytes};
	const struct series_memory *memory = list->memory;
	uint32_t places;
	struct bytes *sums;

	welcome(agent, list);
	sums = calloc(memory->count + 1, sizeof(*sums));
	if (!sums)
		return;
	places = owner_places(agent);
	for (uint32_t i = 0; i < places; i++) {
		const struct table_total *total = total_at(agent, i);
		uint32_t number = total ? *owner_series(agent, i) : SERIES_NONE;

		if (!total)
			continue;
		if (number != SERIES_NONE && number <= memory->count) {
			sums[number - 1].in += total->in.bytes;
			sums[number - 1].out += total->out.bytes;
		} else {
			other.in += total->in.bytes;
			other.out += total->out.bytes;
		}
	}
	metrics_head(out, "weir_process_bytes_total", "counter",
		"Wire bytes of processes, by command, unit and user.");
	for (uint64_t i = 0; i < memory->count; i++) {
		const struct series *series = &memory->series[i];

		/* what the forgotten had is part of the table's own "other" */
		other.in -= series->in_bytes;
		other.out -= series->out_bytes;
		sums[i].in += series->in_bytes;
		sums[i].out += series->out_bytes;
		write_series(out, series, sums[i]);
	}
	write_lines(out, "command=\"other\",unit=\"\",user=\"\"", other);
	free(sums);
}
