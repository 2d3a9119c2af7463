/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Rules, those on packets and those on sockets. */
#include "cli/view/screen.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "cli/view/answer.h"

#define SENTENCE_MIN 30 /* of a rule */

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

const struct screen screen_rules = {"rules", "/v1/rules", 'l', rule_sorts, rule_columns,
	COUNT_OF(rule_columns), rule_cell, "no rules: every packet is accepted, every call is allowed",
	.unfiltered = true};

json_t *rule_default(const json_t *defaults, const char *direction)
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
