/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* What the tests of all kinds of rules ask of a table of cases. */
#ifndef WEIR_TESTS_RULES_H
#define WEIR_TESTS_RULES_H

#include <errno.h>

#include "model/rule.h"
#include "unit.h"

struct printed_case {
	const char *text, *printed; /* NULL: as it was read */
};

struct refused_case {
	const char *text, *what, *want;
	unsigned int column;
};

struct covers_case {
	const char *wide, *narrow;
	bool covers;
};

static inline struct rule parsed(const char *text)
{
	struct error error = {0};
	struct rule rule;

	EXPECT(rule_parse(text, &rule, &error) == 0, "%s: %s; %s", text, error.what, error.want);
	return rule;
}

/* What is printed is read as the same rule again. */
static inline void expect_printed(const struct printed_case *c, bool on_sockets)
{
	char printed[RULE_TEXT_MAX];
	struct rule rule = parsed(c->text), again;

	EXPECT(rule_print(&rule, printed, sizeof(printed)) == 0, "%s", c->text);
	EXPECT_TEXT(printed, c->printed ? c->printed : c->text, "%s", c->text);
	again = parsed(printed);
	EXPECT(rule_covers(&rule, &again) && rule_covers(&again, &rule), "%s", c->text);
	EXPECT_TEXT(again.comment, rule.comment, "%s", c->text);
	EXPECT(rule_is_on_sockets(&rule) == on_sockets, "%s", c->text);
}

static inline void expect_refused(const struct refused_case *c)
{
	struct error error = {0};
	struct rule rule = {.verb = RULE_MIRROR, .socket = {.call = RULE_SEND}};

	EXPECT(rule_parse(c->text, &rule, &error) == -EINVAL, "%s", c->text);
	EXPECT_TEXT(error.what, c->what, "%s", c->text);
	EXPECT_TEXT(error.want, c->want, "%s", c->text);
	EXPECT(error.column == c->column, "%s: column %u, wanted %u", c->text, error.column, c->column);
	EXPECT(rule.verb == RULE_MIRROR && rule.socket.call == RULE_SEND, "%s: changed", c->text);
	EXPECT(rule_parse(c->text, &rule, NULL) == -EINVAL, "%s: without an error to fill", c->text);
}

static inline void expect_covers(const struct covers_case *c)
{
	struct rule wide = parsed(c->wide), narrow = parsed(c->narrow);

	EXPECT(rule_covers(&wide, &narrow) == c->covers, "%s / %s", c->wide, c->narrow);
}

#endif
