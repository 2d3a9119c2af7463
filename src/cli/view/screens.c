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
#include "cli/view/answer.h"
#include "cli/view/screen.h"
#include "weir/weir.h"

#define SORT_KEYS_MAX 20 /* of one screen */

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

const struct screen *const screens[SCREEN_COUNT] = {
	[SCREEN_FLOWS] = &screen_flows,
	[SCREEN_HOSTS] = &screen_hosts,
	[SCREEN_PORTS] = &screen_ports,
	[SCREEN_INTERFACES] = &screen_interfaces,
	[SCREEN_DROPS] = &screen_drops,
	[SCREEN_PROCS] = &screen_procs,
	[SCREEN_OWNERS] = &screen_owners,
	[SCREEN_RULES] = &screen_rules,
};

const struct screen *screen_find(const char *name)
{
	for (unsigned int i = 0; i < SCREEN_COUNT; i++) {
		if (strcmp(screens[i]->name, name) == 0)
			return screens[i];
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
		json_t *rule = rule_default(json_object_get(answer, "default"), directions[i]);

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
