// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * weir trace: the probes, and what one of them measures: events as lines, or histograms.
 */
#include <errno.h>
#include <inttypes.h>
#include <langinfo.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cli/ask.h"
#include "cli/cli.h"
#include "cli/filter.h"
#include "cli/follow.h"
#include "cli/view/answer.h"
#include "cli/view/print.h"
#include "cli/view/screens.h"
#include "cli/view/table.h"

#define PATH_TRACE "/v1/trace"

#define BAR_WIDTH 40 /* columns of the longest bar */

/* -- the list of probes -- */

enum {
	PROBE_NAME,
	PROBE_UNIT,
	PROBE_WHAT,
	PROBE_COLUMNS,
};

static const struct table_column probe_columns[PROBE_COLUMNS] = {
	[PROBE_NAME] = {"PROBE"},
	[PROBE_UNIT] = {"UNIT"},
	[PROBE_WHAT] = {"MEASURES"},
};

static void probe_cell(const json_t *probe, unsigned int column, const struct cell_context *context,
	char *buffer, size_t size)
{
	(void)context;
	switch (column) {
	case PROBE_NAME:
		snprintf(buffer, size, "%s", json_get_text(probe, "name"));
		break;
	case PROBE_UNIT:
		snprintf(buffer, size, "%s", json_get_text(probe, "unit"));
		break;
	case PROBE_WHAT:
		if (json_is_true(json_object_get(probe, "found")))
			snprintf(buffer, size, "%s", json_get_text(probe, "what"));
		else
			snprintf(buffer, size, "cannot be had here: %s", json_get_text(probe, "missing"));
		break;
	}
}

static const struct screen probe_screen = {
	.name = "probes",
	.columns = probe_columns,
	.column_count = PROBE_COLUMNS,
	.cell = probe_cell,
	.nothing = "no probes",
};

static int probes_print(const struct cli *cli)
{
	_cleanup_client_ struct weir_client *client = NULL;
	_cleanup_json_ json_t *answer = NULL;
	struct error error;
	int r = client_open(cli, &client, &error);

	if (r == 0)
		r = ask_shown(cli, client, PATH_TRACE, NULL, &answer, &error);
	if (r == 0 && answer)
		r = screen_table_print(&probe_screen, answer, cli->units, style_choose(cli->color), &error);
	return r < 0 ? fail(&error) : output_end(EXIT_OK);
}

/* -- values -- */

/* A value as its unit has it: "64.0 us", "1.4 kB", "12". */
static void value_format(
	char *buffer, size_t size, const json_t *object, const char *key, const char *unit, enum units units)
{
	const json_t *value = json_object_get(object, key);
	double number = json_number_value(value);

	if (!value)
		snprintf(buffer, size, "-");
	else if (strcmp(unit, "bytes") == 0)
		size_format(buffer, size, (uint64_t)(number + 0.5), units);
	else if (strcmp(unit, "us") == 0 && units != UNITS_EXACT && number >= 1e6)
		snprintf(buffer, size, "%.2f s", number / 1e6);
	else if (strcmp(unit, "us") == 0 && units != UNITS_EXACT && number >= 1e4)
		snprintf(buffer, size, "%.1f ms", number / 1e3);
	else if (strcmp(unit, "us") == 0)
		snprintf(buffer, size, units == UNITS_EXACT ? "%.3f us" : "%.1f us", number);
	else if (json_is_real(value))
		snprintf(buffer, size, "%.1f", number);
	else
		snprintf(buffer, size, "%" PRIu64, (uint64_t)number);
}

/* -- events -- */

struct traced {
	const struct cli *cli;
	bool begun;
	json_t *histograms; /* the last ones that came */
};

/* What only some probes have to say. */
static void detail_format(const json_t *event, char *buffer, size_t size)
{
	static const char *const names[] = {
		"state", "way", "outcome", "error", "softirq", "action", "budget", "batch", "result"};
	size_t used = 0;

	*buffer = '\0';
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]) && used < size; i++) {
		const json_t *value = json_object_get(event, names[i]);

		if (json_is_string(value))
			used += (size_t)snprintf(buffer + used, size - used, "%s%s", used ? ", " : "",
				json_string_value(value));
		else if (json_is_integer(value))
			used += (size_t)snprintf(buffer + used, size - used, "%s%s %" PRIu64,
				used ? ", " : "", names[i], json_get_number(event, names[i]));
	}
}

static void flow_format(const json_t *event, char *buffer, size_t size)
{
	const char *proto = json_get_text(event, "proto");
	char src[80] = "", dst[80] = "";

	*buffer = '\0';
	if (json_object_get(event, "src"))
		endpoint_format(event, "src", "sport", src, sizeof(src));
	if (json_object_get(event, "dst"))
		endpoint_format(event, "dst", "dport", dst, sizeof(dst));
	if (*dst)
		snprintf(buffer, size, "%s%s%s%s> %s", proto, *proto ? " " : "", src, *src ? " " : "", dst);
}

static void missed_print(const json_t *missed)
{
	if (json_get_number(missed, "limited"))
		fprintf(stderr, "weir: %" PRIu64 " events left out: too many a second\n",
			json_get_number(missed, "limited"));
	if (json_get_number(missed, "no_room"))
		fprintf(stderr, "weir: %" PRIu64 " events lost: no room in the ring\n",
			json_get_number(missed, "no_room"));
}

static int event_print(void *user, const json_t *event)
{
	struct traced *traced = user;
	char time[32], value[48], flow[192], owner[128] = "", detail[128], line[768], fit[1024];

	if (json_object_get(event, "missed")) {
		missed_print(json_object_get(event, "missed"));
		return 0;
	}
	if (!traced->begun)
		printf("%-12s  %12s  %-9s  %-46s  %-20s  %s\n", "TIME", "VALUE", "INTERFACE", "FLOW", "OWNER",
			"DETAIL");
	traced->begun = true;
	clock_format(event, time, sizeof(time));
	value_format(value, sizeof(value), event, "value", json_get_text(event, "unit"), traced->cli->units);
	flow_format(event, flow, sizeof(flow));
	owner_format(event, owner, sizeof(owner));
	detail_format(event, detail, sizeof(detail));
	snprintf(line, sizeof(line), "%-12s  %12s  %-9s  %-46s  %-20s  %s", time, value,
		json_get_text(event, "interface"), flow, owner, detail);
	text_fit(fit, sizeof(fit), line, 0);
	for (size_t end = strlen(fit); end > 0 && fit[end - 1] == ' '; end--)
		fit[end - 1] = '\0';
	puts(fit);
	return 0;
}

/* -- histograms -- */

enum {
	HISTOGRAM_KEY,
	HISTOGRAM_COUNT,
	HISTOGRAM_MEAN,
	HISTOGRAM_P50,
	HISTOGRAM_P90,
	HISTOGRAM_P99,
	HISTOGRAM_MAX,
	HISTOGRAM_COLUMNS,
};

static const struct table_column histogram_columns[HISTOGRAM_COLUMNS] = {
	[HISTOGRAM_KEY] = {"WHOSE", .elastic = 12, .hide_empty = true},
	[HISTOGRAM_COUNT] = {"COUNT", ALIGN_RIGHT},
	[HISTOGRAM_MEAN] = {"MEAN", ALIGN_RIGHT},
	[HISTOGRAM_P50] = {"P50", ALIGN_RIGHT},
	[HISTOGRAM_P90] = {"P90", ALIGN_RIGHT},
	[HISTOGRAM_P99] = {"P99", ALIGN_RIGHT},
	[HISTOGRAM_MAX] = {"MAX", ALIGN_RIGHT},
};

static void key_format(const json_t *histogram, char *buffer, size_t size)
{
	const json_t *cpu = json_object_get(histogram, "cpu");

	*buffer = '\0';
	if (json_object_get(histogram, "owner"))
		owner_format(histogram, buffer, size);
	else if (json_is_true(json_object_get(histogram, "other")))
		snprintf(buffer, size, "other");
	else if (cpu)
		snprintf(buffer, size, "cpu %" PRIu64, json_get_number(histogram, "cpu"));
	else
		snprintf(buffer, size, "%s%s", json_get_text(histogram, "interface"),
			json_get_text(histogram, "remote"));
}

static int table_print(
	const json_t *histograms, const char *unit, enum units units, const struct style *style)
{
	static const char *const keys[] = {[HISTOGRAM_MEAN] = "mean",
		[HISTOGRAM_P50] = "p50",
		[HISTOGRAM_P90] = "p90",
		[HISTOGRAM_P99] = "p99",
		[HISTOGRAM_MAX] = "max"};
	struct table table;
	char text[256], line[TABLE_LINE_MAX];
	const json_t *histogram;
	size_t i;

	table_init(&table, histogram_columns, HISTOGRAM_COLUMNS);
	json_array_foreach (histograms, i, histogram) {
		key_format(histogram, text, sizeof(text));
		table_add(&table, text);
		count_format(text, sizeof(text), json_get_number(histogram, "count"), units);
		table_add(&table, text);
		for (unsigned int column = HISTOGRAM_MEAN; column < HISTOGRAM_COLUMNS; column++) {
			value_format(text, sizeof(text), histogram, keys[column], unit, units);
			table_add(&table, text);
		}
	}
	if (!table.no_memory) {
		table_fit(&table, terminal_width(), NULL);
		printf("%s%s%s\n", style->bold, table_line(&table, TABLE_HEADER, line, sizeof(line)),
			style->reset);
		for (i = 0; i < table_rows(&table); i++)
			puts(table_line(&table, i, line, sizeof(line)));
	}
	table_free(&table);
	return 0;
}

static void bar_print(uint64_t count, uint64_t most)
{
	static const char *const eighths[] = {"", "\xe2\x96\x8f", "\xe2\x96\x8e", "\xe2\x96\x8d",
		"\xe2\x96\x8c", "\xe2\x96\x8b", "\xe2\x96\x8a", "\xe2\x96\x89"};
	bool blocks = strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
	unsigned int parts = (unsigned int)((double)count / (double)most * BAR_WIDTH * 8 + 0.5);

	for (unsigned int i = 0; i < parts / 8; i++)
		fputs(blocks ? "\xe2\x96\x88" : "#", stdout);
	if (blocks)
		fputs(eighths[parts % 8], stdout);
	else if (parts < 8)
		fputs("#", stdout);
}

static void buckets_print(const json_t *histogram, const char *unit, enum units units)
{
	const json_t *buckets = json_object_get(histogram, "buckets"), *bucket;
	uint64_t most = 1;
	double end = -1;
	size_t i;

	json_array_foreach (buckets, i, bucket)
		if (json_get_number(bucket, "count") > most)
			most = json_get_number(bucket, "count");
	json_array_foreach (buckets, i, bucket) {
		char from[48], to[48], count[32];

		if (end >= 0 && json_number_value(json_object_get(bucket, "from")) > end)
			printf("%12s\n", "...");
		end = json_number_value(json_object_get(bucket, "to"));
		value_format(from, sizeof(from), bucket, "from", unit, units);
		value_format(to, sizeof(to), bucket, "to", unit, units);
		printf("%12s to %-12s %8s  ", from, to,
			count_format(count, sizeof(count), json_get_number(bucket, "count"), units));
		bar_print(json_get_number(bucket, "count"), most);
		putchar('\n');
	}
}

static void histograms_print(const json_t *document, const struct cli *cli)
{
	const json_t *histograms = json_object_get(document, "histograms");
	const char *unit = json_get_text(document, "unit");

	printf("%s, %.1f s\n", json_get_text(document, "probe"),
		json_number_value(json_object_get(document, "seconds")));
	if (!json_array_size(histograms)) {
		puts("nothing yet");
		return;
	}
	table_print(histograms, unit, cli->units, style_choose(cli->color));
	if (json_array_size(histograms) == 1 && json_get_number(json_array_get(histograms, 0), "count")) {
		putchar('\n');
		buckets_print(json_array_get(histograms, 0), unit, cli->units);
	}
	if (json_get_number(document, "unstarted"))
		printf("%" PRIu64 " had begun before the trace did, or found no room\n",
			json_get_number(document, "unstarted"));
}

/* A terminal shows each one in the place of the last; anything else gets the last one. */
static int histogram_take(void *user, const json_t *document)
{
	struct traced *traced = user;

	if (isatty(STDOUT_FILENO)) {
		fputs("\033[H\033[2J", stdout);
		histograms_print(document, traced->cli);
	}
	json_decref(traced->histograms);
	traced->histograms = json_deep_copy(document);
	return 0;
}

/* -- the command -- */

static int parameter_add(FILE *out, const char *name, const char *value)
{
	_cleanup_free_ char *escaped = value ? weir_escape(value) : NULL;

	if (!value)
		return 0;
	return escaped ? fprintf(out, "&%s=%s", name, escaped) : -ENOMEM;
}

static char *trace_query(const struct cli *cli, const char *filter)
{
	_cleanup_free_ char *probe = weir_escape(cli->words[0]);
	char *query = NULL, text[32];
	size_t length;
	FILE *out = probe ? open_memstream(&query, &length) : NULL;
	bool bad;

	if (!out)
		return NULL;
	bad = fprintf(out, "probe=%s", probe) < 0;
	if (cli->histogram)
		bad = parameter_add(out, "histogram", "1") < 0 || bad;
	bad = parameter_add(out, "by", cli->by) < 0 || bad;
	if (cli->given & OPTION_BIT(INTERVAL))
		bad = parameter_add(out, "interval", duration_print(text, sizeof(text), cli->interval_ns)) <
		              0 ||
		      bad;
	if (cli->for_ns)
		bad = parameter_add(out, "for", duration_print(text, sizeof(text), cli->for_ns)) < 0 || bad;
	if (*filter)
		bad = parameter_add(out, "filter", filter) < 0 || bad;
	bad = fclose(out) != 0 || bad;
	if (!bad)
		return query;
	free(query);
	return NULL;
}

int cmd_trace(const struct cli *cli)
{
	struct cli rest = *cli;
	struct traced traced = {.cli = cli};
	_cleanup_free_ char *filter = NULL, *query = NULL;
	struct error error;
	int status;

	if (!cli->word_count || (cli->word_count == 1 && strcmp(cli->words[0], "list") == 0))
		return probes_print(cli);
	if (cli->by && !cli->histogram) {
		error_set(&error, -EINVAL, "--by says whose histograms to make");
		error_want(&error, "--histogram --by %s", cli->by);
		return fail_usage(&error);
	}
	rest.words++;
	rest.word_count--;
	if (filter_read(&rest, &filter, &error) < 0)
		return fail_usage(&error);
	query = trace_query(cli, filter);
	if (!query) {
		error_set(&error, -ENOMEM, "no memory");
		return fail(&error);
	}
	status = follow_post(cli, PATH_TRACE, query, cli->histogram ? histogram_take : event_print, &traced);
	if (traced.histograms && !isatty(STDOUT_FILENO))
		histograms_print(traced.histograms, cli);
	json_decref(traced.histograms);
	return output_end(status);
}
