/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * weir status: all the agent has to say about itself, in paragraphs; the losses stand last, always.
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/ask.h"
#include "cli/cli.h"
#include "cli/view/print.h"

struct status {
	const struct cli *cli;
	const struct style *style;
	struct weir_client *client;
};

static void __attribute__((format(printf, 3, 4)))
line_print(const struct style *style, const char *name, const char *format, ...)
{
	va_list args;

	printf("%s%-10s%s ", style->bold, name, style->reset);
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	putchar('\n');
}

static void title_print(const struct style *style, const char *title)
{
	printf("\n%s%s%s\n", style->bold, title, style->reset);
}

static void agent_print(const json_t *answer, const struct style *style)
{
	char uptime[32], text[512];
	const char *config = json_get_text(answer, "config");

	line_print(style, "weir", "%s", json_get_text(answer, "version"));
	line_print(style, "agent", "pid %" PRIu64 ", up %s since %s", json_get_number(answer, "pid"),
		duration_format(uptime, sizeof(uptime), json_get_number(answer, "uptime") * 1000000000),
		json_get_text(answer, "started"));
	line_print(style, "datapath", "counting since %s", json_get_text(answer, "datapath_since"));
	line_print(style, "kernel", "%s", json_get_text(answer, "kernel"));
	line_print(style, "config", "%s",
		*config ? text_fit(text, sizeof(text), config, 0) : "built-in settings");
	line_print(style, "run dir", "%s", text_fit(text, sizeof(text), json_get_text(answer, "run_dir"), 0));
	line_print(style, "pins", "%s", text_fit(text, sizeof(text), json_get_text(answer, "pins"), 0));
}

/* A kernel feature, and what it is for or what stands in for it. */
static void features_print(const json_t *answer, const struct style *style)
{
	const json_t *features = json_object_get(answer, "features"), *feature;
	static const struct table_column columns[] = {
		{"KERNEL FEATURE"}, {"FOUND"}, {"FOR"}, {"INSTEAD", .hide_empty = true}};
	char line[TABLE_LINE_MAX];
	struct table table;
	size_t i;

	table_init(&table, columns, sizeof(columns) / sizeof(columns[0]));
	json_array_foreach (features, i, feature) {
		bool found = json_is_true(json_object_get(feature, "found"));

		table_add(&table, json_get_text(feature, "name"));
		table_add(&table, found ? "yes" : "no");
		table_add(&table, json_get_text(feature, "for"));
		table_add(&table, found ? "" : json_get_text(feature, "else"));
	}
	if (table_rows(&table)) {
		table_fit(&table, 0, NULL);
		title_print(style, table_line(&table, TABLE_HEADER, line, sizeof(line)));
		for (i = 0; i < table_rows(&table); i++)
			puts(table_line(&table, i, line, sizeof(line)));
	}
	table_free(&table);
}

static void memory_print(const json_t *answer, enum units units, const struct style *style)
{
	static const struct {
		const char *key, *text;
	} parts[] = {
		{"agent_bytes", "agent"},
		{"cache_bytes", "flow caches"},
		{"ring_bytes", "ring buffers"},
		{"table_bytes", "flow table"},
	};
	const json_t *memory = json_object_get(answer, "memory");
	const char *separator = "";
	char text[256], size[32];
	size_t length = 0;

	text[0] = '\0';
	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		if (!json_object_get(memory, parts[i].key))
			continue;
		length += (size_t)snprintf(text + length, sizeof(text) - length, "%s%s %s", separator,
			parts[i].text,
			size_format(size, sizeof(size), json_get_number(memory, parts[i].key), units));
		separator = ", ";
	}
	line_print(style, "memory", "%s", text);
}

static void table_print(const json_t *answer, enum units units, const struct style *style)
{
	static const char *const ends[] = {"idle", "active", "closed", "pressure"};
	const json_t *table = json_object_get(answer, "table"), *ended = json_object_get(table, "ended");
	static const struct {
		const char *key, *text;
	} merged[] = {
		{"sampled_out", "new flows that were not sampled"},
		{"refused", "there was no room in the table"},
	};
	char packets[32], bytes[32];

	line_print(style, "flows", "%" PRIu64 " of %" PRIu64 " in the table", json_get_number(table, "flows"),
		json_get_number(table, "limit"));
	line_print(style, "hosts", "%" PRIu64 " of %" PRIu64 " with totals of their own",
		json_get_number(table, "hosts"), json_get_number(table, "hosts_limit"));
	if (ended) {
		printf("%s%-10s%s", style->bold, "ended", style->reset);
		for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++)
			printf("%s %s %s", i ? "," : "", ends[i],
				count_format(
					packets, sizeof(packets), json_get_number(ended, ends[i]), units));
		putchar('\n');
	}
	for (size_t i = 0; i < sizeof(merged) / sizeof(merged[0]); i++) {
		const json_t *sum = json_object_get(table, merged[i].key);

		if (!json_get_number(sum, "packets"))
			continue;
		line_print(style, "merged", "%s packets, %s, only in the totals of hosts and ports: %s",
			count_format(packets, sizeof(packets), json_get_number(sum, "packets"), units),
			size_format(bytes, sizeof(bytes), json_get_number(sum, "bytes"), units),
			merged[i].text);
	}
}

static void names_print(const json_t *answer, enum units units, const struct style *style)
{
	const json_t *names = json_object_get(answer, "names"), *records = json_object_get(names, "records");
	uint64_t lost = json_get_number(records, "lost") + json_get_number(records, "limited");
	char count[32], lost_text[64] = "";

	if (!names)
		return;
	if (json_is_false(json_object_get(names, "on"))) {
		line_print(style, "names", "off");
		return;
	}
	if (lost)
		snprintf(lost_text, sizeof(lost_text), "; %s beginnings of flows not read",
			count_format(count, sizeof(count), lost, units));
	line_print(style, "names", "%" PRIu64 " addresses and %" PRIu64 " flows, of %" PRIu64 " each%s",
		json_get_number(names, "addresses"), json_get_number(names, "flows"),
		json_get_number(names, "limit"), lost_text);
}

struct part {
	const char *key, *text;
};

/* ", 5 recorded, 1 lost" of those that are not 0; the list ends with a key of NULL. */
static void parts_format(
	const json_t *object, const struct part *parts, enum units units, char *text, size_t size)
{
	size_t length = strlen(text);
	char count[32];

	for (; parts->key; parts++) {
		uint64_t number = json_get_number(object, parts->key);

		if (number && length < size)
			length += (size_t)snprintf(text + length, size - length, ", %s %s",
				count_format(count, sizeof(count), number, units), parts->text);
	}
}

static void drops_print(const json_t *answer, enum units units, const struct style *style)
{
	static const struct part parts[] = {
		{"records", "recorded"},
		{"unrecorded", "only counted"},
		{"lost", "lost as records"},
		{"missed", "missed"},
		{"unassigned", "of no known network namespace"},
		{NULL},
	};
	const json_t *drops = json_object_get(answer, "drops");
	char text[256], count[32];

	if (!drops)
		return;
	if (json_is_false(json_object_get(drops, "enabled"))) {
		line_print(style, "drops", "off");
		return;
	}
	snprintf(text, sizeof(text), "%s packets",
		count_format(count, sizeof(count), json_get_number(drops, "packets"), units));
	parts_format(drops, parts, units, text, sizeof(text));
	line_print(style, "drops", "%s", text);
}

static void connections_print(const json_t *answer, enum units units, const struct style *style)
{
	static const struct part parts[] = {
		{"new", "new"},
		{"refused", "without room"},
		{"invalid", "invalid packets"},
		{NULL},
	};
	const json_t *connections = json_object_get(answer, "connections");
	char text[256], count[32], limit[32];

	/* nobody has asked for them yet */
	if (!json_get_number(connections, "began") && !json_get_number(connections, "picked_up"))
		return;
	snprintf(text, sizeof(text), "%s connections of %s",
		count_format(count, sizeof(count), json_get_number(connections, "established"), units),
		count_format(limit, sizeof(limit), json_get_number(connections, "established_limit"), units));
	parts_format(connections, parts, units, text, sizeof(text));
	line_print(style, "tracked", "%s", text);
}

/* Rules of all kinds, and what is not as a person may think: what was not told, not tracked, not looked at.
 */
static void rules_print(const json_t *answer, enum units units, const struct style *style)
{
	static const struct part parts[] = {
		{"denied", "calls denied"},
		{"unidentified", "calls of unknown processes"},
		{"rejected", "packets rejected"},
		{"unanswered", "without an answer"},
		{"kept", "let through for connections of before"},
		{"logged", "logged"},
		{"unlogged", "over the log's rate"},
		{"limited_pushed_out", "sources pushed out of limits"},
		{"limited_full", "packets without room in a limit"},
		{"unreadable", "unreadable packets dropped"},
		{"broken", "packets past a broken policy"},
		{},
	};
	const json_t *rules = json_object_get(answer, "rules"), *pending = json_object_get(rules, "pending");
	size_t tenants = json_array_size(json_object_get(rules, "tenants"));
	char text[512], count[32], of[48] = "";

	if (!json_get_number(rules, "generation"))
		return;
	if (tenants)
		snprintf(of, sizeof(of), " of the host and %zu tenant%s", tenants, tenants == 1 ? "" : "s");
	snprintf(text, sizeof(text), "%s%s",
		count_format(count, sizeof(count), json_get_number(rules, "count"), units), of);
	parts_format(rules, parts, units, text, sizeof(text));
	line_print(style, "rules", "%s", text);
	if (pending)
		line_print(style, "", "%sgoes back in %.0f s, unless 'weir confirm' comes%s", style->bad,
			json_number_value(json_object_get(pending, "seconds")), style->reset);
}

/* Sentences that forward. */
static void forwarding_print(const json_t *answer, enum units units, const struct style *style)
{
	const json_t *forwarding = json_object_get(answer, "forwarding");
	uint64_t active = json_get_number(forwarding, "active"),
		 waiting = json_get_number(forwarding, "waiting");
	char text[32], other[32];

	if (active || waiting)
		line_print(style, "forward", "%s active, %s waiting",
			count_format(text, sizeof(text), active, units),
			count_format(other, sizeof(other), waiting, units));
}

/* Classes by what holds them, and the queues that are there for it. */
static void shapes_print(const json_t *answer, enum units units, const struct style *style)
{
	static const struct part parts[] = {
		{"pacing", "paced"},
		{"htb", "in HTB"},
		{"fq", "in fq"},
		{"policer", "policed"},
		{"none", "only counted"},
		{},
	};
	const json_t *shapes = json_object_get(answer, "shapes"),
		     *classes = json_object_get(shapes, "classes"), *queue;
	uint64_t full = json_get_number(shapes, "paths_full"), count = 0;
	char text[512], number[32];
	size_t i;

	for (const struct part *part = parts; part->key; part++)
		count += json_get_number(classes, part->key);
	if (!count)
		return;
	count_format(text, sizeof(text), count, units);
	parts_format(classes, parts, units, text, sizeof(text));
	line_print(style, "classes", "%s", text);
	json_array_foreach (json_object_get(shapes, "queues"), i, queue)
		line_print(style, "", "a queue of %s for what %s %s", json_get_text(queue, "engine"),
			strcmp(json_get_text(queue, "direction"), "in") == 0 ? "comes in on" : "leaves",
			json_get_text(queue, "interface"));
	if (full)
		line_print(style, "", "%s%s packets of flows whose classes got no number%s", style->bad,
			count_format(number, sizeof(number), full, units), style->reset);
}

/* Interfaces whose packets rules decide about at XDP, or could. */
static void xdp_print(const json_t *answer, const struct style *style)
{
	const json_t *place;
	bool first = true;
	size_t i;

	json_array_foreach (json_object_get(answer, "xdp"), i, place) {
		const char *failure = json_get_text(place, "failure");

		if (!json_is_true(json_object_get(place, "wanted")))
			continue;
		line_print(style, first ? "xdp" : "", "%s %s%s%s", json_get_text(place, "interface"),
			json_get_text(place, "mode"), *failure ? ": " : "", failure);
		first = false;
	}
}

/* One a line: there are eight at most, and each has somebody who may be asked. */
static void traces_print(const json_t *answer, enum units units, const struct style *style)
{
	const json_t *trace;
	char samples[32];
	size_t i;

	json_array_foreach (json_object_get(answer, "traces"), i, trace)
		line_print(style, i ? "" : "traces", "%s, %s samples, for process %" PRIu64,
			json_get_text(trace, "probe"),
			count_format(samples, sizeof(samples), json_get_number(trace, "samples"), units),
			json_get_number(trace, "client"));
}

static void parse_print(const json_t *answer, enum units units, const struct style *style)
{
	const json_t *reasons = json_object_get(answer, "parse"), *reason;
	bool title = false;
	char count[32];
	size_t i;

	json_array_foreach (reasons, i, reason) {
		uint64_t packets = json_get_number(reason, "packets");

		if (!packets)
			continue;
		if (!title)
			title_print(style, "PACKETS NOT READ TO THEIR PORTS");
		title = true;
		printf("%-20s %10s\n", json_get_text(reason, "reason"),
			count_format(count, sizeof(count), packets, units));
	}
}

static int status_print(void *user, struct error *error)
{
	const struct status *status = user;
	const struct style *style = status->style;
	enum units units = status->cli->units;
	_cleanup_json_ json_t *answer = NULL;
	struct losses losses;
	char bytes[32];
	int r;

	r = ask_shown(status->cli, status->client, "/v1/status", NULL, &answer, error);
	if (r < 0 || !answer)
		return r;

	agent_print(answer, style);
	memory_print(answer, units, style);
	table_print(answer, units, style);
	names_print(answer, units, style);
	drops_print(answer, units, style);
	rules_print(answer, units, style);
	shapes_print(answer, units, style);
	forwarding_print(answer, units, style);
	connections_print(answer, units, style);
	xdp_print(answer, style);
	traces_print(answer, units, style);
	features_print(answer, style);
	putchar('\n');
	r = screen_table_print(screens[SCREEN_INTERFACES], answer, units, style, error);
	if (r < 0)
		return r;
	parse_print(answer, units, style);

	/* To the last packet: here somebody may want to add them up. */
	putchar('\n');
	losses_read(answer, &losses);
	if (json_get_number(answer, "lost_bytes"))
		printf("%s%s in packets that were lost as flows%s\n", style->bad,
			size_format(bytes, sizeof(bytes), json_get_number(answer, "lost_bytes"), units),
			style->reset);
	losses_line_print(&losses, UNITS_EXACT, style);
	return 0;
}

int cmd_status(const struct cli *cli)
{
	_cleanup_client_ struct weir_client *client = NULL;
	struct error error;

	if (client_open(cli, &client, &error) < 0)
		return fail(&error);
	return print_repeatedly(cli, status_print,
		&(struct status){.cli = cli, .style = style_choose(cli->color), .client = client});
}
