/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* weir shape, weir shapes, weir change: classes of traffic with rates. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/action.h"
#include "cli/ask.h"
#include "cli/cli.h"
#include "cli/filter.h"
#include "cli/view/answer.h"
#include "cli/view/print.h"
#include "cli/view/screens.h"
#include "model/rule.h"
#include "model/shape.h"

#define REASON_IDS_MAX 8 /* named with one reason; the rest is counted */

/*
 * The list
 */

enum {
	COLUMN_ID,
	COLUMN_ENGINE,
	COLUMN_WANTED,
	COLUMN_ACHIEVED,
	COLUMN_SENT,
	COLUMN_DELAYED,
	COLUMN_DROPPED,
	COLUMN_MARKED,
	COLUMN_BORROWED,
	COLUMN_LATENCY,
	COLUMN_CLASS,
	COLUMNS
};

static const struct table_column columns[COLUMNS] = {
	[COLUMN_ID] = {"ID", ALIGN_RIGHT},
	[COLUMN_ENGINE] = {"ENGINE"},
	[COLUMN_WANTED] = {"WANTED", ALIGN_RIGHT},
	[COLUMN_ACHIEVED] = {"ACHIEVED", ALIGN_RIGHT},
	[COLUMN_SENT] = {"SENT", ALIGN_RIGHT},
	[COLUMN_DELAYED] = {"DELAYED", ALIGN_RIGHT, .importance = 3},
	[COLUMN_DROPPED] = {"DROPPED", ALIGN_RIGHT},
	[COLUMN_MARKED] = {"MARKED", ALIGN_RIGHT, .importance = 4},
	[COLUMN_BORROWED] = {"BORROWED", ALIGN_RIGHT, .importance = 2},
	[COLUMN_LATENCY] = {"LATENCY", ALIGN_RIGHT, .importance = 1},
	[COLUMN_CLASS] = {"CLASS"},
};

/* "10.0 Mbit/s"; of a guarantee with a ceiling "400.0 Mbit/s-1.0 Gbit/s"; without "400.0 Mbit/s+". */
static void wanted_print(const json_t *entry, enum units units, char *buffer, size_t size)
{
	uint64_t ceiling = json_get_number(entry, "ceiling_bps"),
		 guarantee = json_get_number(entry, "guarantee_bps");
	char low[32], high[32];

	rate_format(low, sizeof(low), guarantee, units);
	rate_format(high, sizeof(high), ceiling, units);
	if (guarantee)
		snprintf(buffer, size, ceiling ? "%s-%s" : "%s+", low, high);
	else
		snprintf(buffer, size, "%s", ceiling ? high : "-");
}

static void cell_print(const json_t *entry, unsigned int column, const struct cell_context *context,
	char *buffer, size_t size)
{
	static const char *const counts[COLUMNS] = {
		[COLUMN_DELAYED] = "delayed_packets",
		[COLUMN_DROPPED] = "dropped_packets",
		[COLUMN_MARKED] = "marked_packets",
	};
	static const char *const sizes[COLUMNS] = {
		[COLUMN_SENT] = "sent_bytes", [COLUMN_BORROWED] = "borrowed_bytes"};

	switch (column) {
	case COLUMN_ID:
		snprintf(buffer, size, "%" PRIu64, json_get_number(entry, "id"));
		break;
	case COLUMN_ENGINE:
		snprintf(buffer, size, "%s", json_get_text(entry, "engine"));
		break;
	case COLUMN_WANTED:
		wanted_print(entry, context->units, buffer, size);
		break;
	case COLUMN_ACHIEVED:
		rate_format(buffer, size, json_get_number(entry, "achieved_bps"), context->units);
		break;
	case COLUMN_LATENCY:
		if (json_get_number(entry, "latency_us"))
			duration_format(buffer, size, json_get_number(entry, "latency_us") * 1000);
		else
			snprintf(buffer, size, "-");
		break;
	case COLUMN_CLASS:
		snprintf(buffer, size, "%*s%s", (int)json_get_number(entry, "depth") * 2, "",
			json_get_text(entry, "text"));
		break;
	default:
		if (sizes[column])
			size_format(buffer, size, json_get_number(entry, sizes[column]), context->units);
		else
			count_format(buffer, size, json_get_number(entry, counts[column]), context->units);
	}
}

static const struct screen shapes_screen = {
	.name = "shapes",
	.path = "/v1/shapes",
	.columns = columns,
	.column_count = COLUMNS,
	.cell = cell_print,
	.nothing = "no classes: nothing is shaped",
};

/* A class and the one above it, for the tree. */
struct node {
	uint64_t id, parent;
	json_t *entry;
	size_t index;
	bool taken;
};

struct tree {
	struct node *nodes; /* by parent, then in their order */
	size_t count;
	json_t *list; /* what is made of them */
};

static int node_compare(const void *a, const void *b)
{
	const struct node *x = a, *y = b;

	if (x->parent != y->parent)
		return x->parent < y->parent ? -1 : 1;
	return (x->index > y->index) - (x->index < y->index);
}

/* The first that stands below `parent`. */
static size_t children_find(const struct tree *tree, uint64_t parent)
{
	size_t low = 0, high = tree->count;

	while (low < high) {
		size_t middle = (low + high) / 2;

		if (tree->nodes[middle].parent < parent)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static void node_add(struct tree *tree, struct node *node, int depth)
{
	node->taken = true;
	json_object_set_new(node->entry, "depth", json_integer(depth));
	json_array_append(tree->list, node->entry);
	if (!node->id || depth >= SHAPE_DEPTH_MAX)
		return;
	for (size_t i = children_find(tree, node->id); i < tree->count && tree->nodes[i].parent == node->id;
		i++)
		if (!tree->nodes[i].taken)
			node_add(tree, &tree->nodes[i], depth + 1);
}

/* The answer with each class behind the one it stands below. */
static json_t *tree_make(json_t *answer)
{
	json_t *list = json_object_get(answer, "shapes"), *sorted = json_object(), *entry;
	struct tree tree = {
		.nodes = calloc(json_array_size(list) + 1, sizeof(*tree.nodes)), .list = json_array()};
	size_t i;

	if (!sorted || !tree.nodes || !tree.list) {
		json_decref(sorted);
		json_decref(tree.list);
		free(tree.nodes);
		return NULL;
	}
	json_array_foreach (list, i, entry)
		tree.nodes[tree.count++] = (struct node){
			json_get_number(entry, "id"), json_get_number(entry, "parent"), entry, i, false};
	qsort(tree.nodes, tree.count, sizeof(*tree.nodes), node_compare);
	for (i = 0; i < tree.count; i++)
		if (!tree.nodes[i].parent)
			node_add(&tree, &tree.nodes[i], 0);
	/* nothing is left out, whatever its parent is */
	for (i = 0; i < tree.count; i++)
		if (!tree.nodes[i].taken)
			node_add(&tree, &tree.nodes[i], 0);
	free(tree.nodes);
	json_object_set_new(sorted, "shapes", tree.list);
	return sorted;
}

/* Each engine with why it was chosen, and for which classes. */
static void reasons_print(const json_t *list, const struct style *style)
{
	_cleanup_json_ json_t *reasons = json_object();
	const json_t *entry;
	const char *text;
	json_t *ids;
	char key[512];
	size_t i;

	json_array_foreach (list, i, entry) {
		if (!*json_get_text(entry, "engine_reason"))
			continue;
		snprintf(key, sizeof(key), "%s: %s", json_get_text(entry, "engine"),
			json_get_text(entry, "engine_reason"));
		if (!json_object_get(reasons, key))
			json_object_set_new(reasons, key, json_array());
		json_array_append(json_object_get(reasons, key), json_object_get(entry, "id"));
	}
	json_object_foreach (reasons, text, ids) {
		size_t count = json_array_size(ids);

		printf("%s%s (", style->dim, text);
		for (i = 0; i < count && i < REASON_IDS_MAX; i++)
			printf("%s%" JSON_INTEGER_FORMAT, i ? ", " : "",
				json_integer_value(json_array_get(ids, i)));
		if (count > REASON_IDS_MAX)
			printf(" and %zu more", count - REASON_IDS_MAX);
		printf(")%s\n", style->reset);
	}
}

static int shapes_print(const struct cli *cli, json_t *answer, struct error *error)
{
	const struct style *style = style_choose(cli->color);
	_cleanup_json_ json_t *tree = NULL;
	const json_t *warning;
	size_t i;
	int r;

	tree = tree_make(answer);
	if (!tree)
		return error_set(error, -ENOMEM, "no memory for the list");
	r = screen_table_print(&shapes_screen, tree, cli->units, style, error);
	if (r < 0)
		return r;
	reasons_print(json_object_get(tree, "shapes"), style);
	json_array_foreach (json_object_get(answer, "warnings"), i, warning)
		printf("%s%s%s\n", style->bad, json_string_value(warning), style->reset);
	pending_print(answer, style);
	return 0;
}

int cmd_shapes(const struct cli *cli)
{
	return print_answers(cli, shapes_screen.path, NULL, shapes_print);
}

/*
 * Changes
 */

/* The words behind the action are in `cli`. */
static int shape_add(const struct cli *cli)
{
	_cleanup_free_ char *text = words_join(cli, ""), *query = NULL;
	struct shape_declared declared;
	struct error error;

	/* a mistake is shown before anybody is asked */
	if (text && shape_declared_parse(text, &declared, &error) < 0)
		return fail_usage(&error);
	query = text ? query_make("text", text, "confirm", cli->confirm, NULL) : NULL;
	return change_made(cli, "/v1/shapes/add", query, "shapes", "class");
}

static int shape_delete(const struct cli *cli)
{
	_cleanup_free_ char *query = NULL;
	struct error error;

	if (cli->word_count != 1) {
		error_set(&error, -EINVAL, "'weir shape delete' takes the name of one class");
		error_want(&error, "for example: weir shape delete bulk");
		return fail_usage(&error);
	}
	if (shape_name_check(cli->words[0], &error) < 0)
		return fail_usage(&error);
	query = query_make("name", cli->words[0], "confirm", cli->confirm, NULL);
	return change_made(cli, "/v1/shapes/delete", query, "deleted", "deleted class");
}

/* A rule as any other. */
static int shape_assign(const struct cli *cli)
{
	struct cli rule = *cli;

	rule.command = command_find(rule_verbs[RULE_ASSIGN], NULL);
	return cmd_rule(&rule);
}

static const struct action actions[] = {
	{"add", shape_add, OPTION_BIT(CONFIRM)},
	{"assign", shape_assign,
		OPTION_BIT(CONFIRM) | OPTION_BIT(CUT) | OPTION_BIT(BEFORE) | OPTION_BIT(TENANT)},
	{"delete", shape_delete, OPTION_BIT(CONFIRM)},
	{"list", cmd_shapes, OPTION_BIT(WATCH)},
	{NULL},
};

int cmd_shape(const struct cli *cli)
{
	if (!cli->word_count)
		return cmd_shapes(cli);
	return action_run(cli, actions, "--before, --cut and --tenant belong to 'weir shape assign'");
}

/* ID or NAME, then what changes. */
int cmd_change(const struct cli *cli)
{
	_cleanup_free_ char *text = NULL, *query = NULL;
	struct cli rest = *cli;
	const char *which = cli->word_count ? cli->words[0] : "";
	bool by_id = which[strspn(which, "0123456789")] == '\0';
	struct error error;

	if (cli->word_count < 2) {
		error_set(&error, -EINVAL, "which class, and what changes?");
		error_want(&error, "for example: weir change 4 to 20mbit");
		return fail_usage(&error);
	}
	if (!by_id && shape_name_check(which, &error) < 0)
		return fail_usage(&error);
	rest.words++;
	rest.word_count--;
	text = words_join(&rest, "");
	if (text && shape_change_check(text, &error) < 0)
		return fail_usage(&error);
	query = text ? query_make("id", by_id ? which : NULL, "name", by_id ? NULL : which, "text", text,
			       "confirm", cli->confirm, NULL)
	             : NULL;
	return change_made(cli, "/v1/shapes/change", query, "shapes", "class");
}
