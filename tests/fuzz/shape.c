// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* A rule, or a declared class, in the first line, a change of it in the second: what is read is printed as
 * what reads as the same, before the change and after; a change that is refused changes nothing. */
#include <stdlib.h>
#include <string.h>

#include "fuzz/fuzz.h"
#include "model/rule.h"

static void terms_check(const struct shape_terms *terms)
{
	const uint64_t rates[] = {terms->ceiling_bps, terms->guarantee_bps};

	for (size_t i = 0; i < sizeof(rates) / sizeof(rates[0]); i++)
		REQUIRE(!rates[i] ||
			(rates[i] >= SHAPE_RATE_MIN && rates[i] <= SHAPE_RATE_MAX && rates[i] % 8 == 0));
	REQUIRE(!terms->ceiling_bps || terms->guarantee_bps <= terms->ceiling_bps);
	REQUIRE(!terms->burst || (terms->ceiling_bps && terms->burst >= SHAPE_BURST_MIN));
	REQUIRE(terms->weight <= SHAPE_WEIGHT_MAX && terms->priority < SHAPE_PRIORITIES);
	REQUIRE(memchr(terms->under, 0, sizeof(terms->under)));
}

static void rule_check(const struct rule *rule)
{
	char text[RULE_TEXT_MAX];
	struct rule again;

	terms_check(&rule->shape);
	if (rule_print(rule, text, sizeof(text)) < 0)
		return; /* "10.0.0.0/8" may be longer than it was; the agent refuses that */
	REQUIRE(rule_parse(text, &again, NULL) == 0);
	REQUIRE(shape_terms_equal(&rule->shape, &again.shape));
	REQUIRE(memcmp(&rule->packet.rate, &again.packet.rate, sizeof(again.packet.rate)) == 0);
	REQUIRE(strcmp(rule->class, again.class) == 0);
	rule_clear(&again);
}

static void declared_check(const char *text)
{
	struct shape_declared declared, again;
	struct error error = {0};
	char printed[SHAPE_TEXT_MAX];

	if (shape_declared_parse(text, &declared, &error) < 0) {
		REQUIRE(error.code < 0 && error.what[0]);
		return;
	}
	terms_check(&declared.terms);
	REQUIRE(declared.terms.under[0] && shape_name_check(declared.name, NULL) == 0);
	REQUIRE(shape_declared_print(&declared, printed, sizeof(printed)) == 0);
	REQUIRE(shape_declared_parse(printed, &again, NULL) == 0);
	REQUIRE(shape_terms_equal(&declared.terms, &again.terms));
	REQUIRE(strcmp(declared.name, again.name) == 0 && strcmp(declared.comment, again.comment) == 0);
	REQUIRE(declared.direction == again.direction);
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size)
{
	char *text = malloc(size + 1), *change;
	struct rule rule, before;
	struct error error = {0};

	if (!text)
		return 0;
	memcpy(text, input, size);
	text[size] = '\0';
	change = strchr(text, '\n');
	if (change)
		*change++ = '\0';
	declared_check(text);
	if (rule_parse(text, &rule, NULL) == 0) {
		rule_check(&rule);
		before = rule;
		if (change && rule_shape_change(&rule, change, &error) == 0)
			rule_check(&rule);
		else if (change)
			REQUIRE(error.code < 0 && error.what[0] &&
				shape_terms_equal(&rule.shape, &before.shape));
		rule_clear(&rule);
	}
	if (change && shape_change_check(change, NULL) == 0)
		REQUIRE(change[strspn(change, " \t\r\n")]);
	free(text);
	return 0;
}
