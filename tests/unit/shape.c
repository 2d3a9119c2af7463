// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* Sentences about rates: limits, guarantees, assigning, declared classes, and changes. */
#include "model/shape.h"

#include <errno.h>
#include <string.h>

#include "model/rule.h"
#include "unit.h"

static struct rule parsed(const char *text)
{
	struct error error = {0};
	struct rule rule = {.verb = RULE_VERBS};

	if (rule_parse(text, &rule, &error) < 0)
		fail_msg("%s: %s; %s", text, error.what, error.want);
	return rule;
}

static void sentences_are_printed_in_one_way(void **state)
{
	static const struct {
		const char *text, *printed; /* NULL: the same */
	} cases[] = {
		{"limit out by pid 12345 to 10mbit", NULL},
		{"limit out by user root to 10mbit burst 1mb", NULL},
		{"limit out on eth0 to 100mbit", NULL},
		{"limit in tcp from 10.0.0.0/8 to 50mbit", NULL},
		{"limit in tcp to 10.0.0.1 to 50mbit", NULL},
		{"limit out to 10mbit engine=htb", "limit out to 10mbit engine htb"},
		{"limit out to 10mbit engine auto priority normal", "limit out to 10mbit"},
		{"limit out engine fq weight 3 to 10mbit under bulk guarantee 1mbit priority low",
			"limit out to 10mbit under bulk guarantee 1mbit weight 3 priority low engine fq"},
		{"limit out to 10mbit under bulk guarantee 1mbit burst 9kb weight 3 priority interactive "
		 "engine ifb "
		 "for 1h \"x\"",
			NULL},
		{"guarantee out by unit api.service 400mbit ceiling 1gbit priority high", NULL},
		{"guarantee out 400mbit to 10.0.0.1 port 80", "guarantee out to 10.0.0.1 port 80 400mbit"},
		{"guarantee out 1000kbit log", "guarantee out 1mbit log"},
		{"assign out tcp from port 80 to bulk", NULL},
		{"assign out to 10.0.0.1 port 80 to bulk", NULL},
		{"assign in to bulk to @servers", "assign in to @servers to bulk"},
		{"assign out to any port 80 to bulk", "assign out to port 80 to bulk"},
		{"assign out to cafe", NULL},
		{"shape bulk under eth0 weight 1 ceiling 200mbit",
			"shape bulk under eth0 ceiling 200mbit weight 1"},
		{"shape bulk out under eth0", "shape bulk under eth0"},
		{"shape a-b_9 in under bulk guarantee 8kbit ceiling 1000gbit \"why: \xc3\xa4\"", NULL},
	};
	char printed[RULE_TEXT_MAX], again[RULE_TEXT_MAX];

	(void)state;
	FOR_EACH_CASE(c, cases)
	{
		struct error error = {0};
		struct rule rule, second;

		EXPECT(rule_parse(c->text, &rule, &error) == 0, "%s: %s", c->text, error.what);
		EXPECT(rule_print(&rule, printed, sizeof(printed)) == 0, "%s", c->text);
		EXPECT_TEXT(printed, c->printed ? c->printed : c->text, "%s", c->text);
		EXPECT(rule_parse(printed, &second, &error) == 0, "%s: %s", printed, error.what);
		EXPECT(rule_print(&second, again, sizeof(again)) == 0, "%s", printed);
		EXPECT_TEXT(again, printed, "%s", c->text);
		EXPECT(shape_terms_equal(&rule.shape, &second.shape), "%s", c->text);
	}
}

static void what_was_said_is_in_the_terms(void **state)
{
	struct rule rule = parsed("limit out to 8mbit");

	(void)state;
	assert_true(rule_is_shape(&rule));
	assert_int_equal(rule.shape.ceiling_bps, 8000000);
	assert_int_equal(rule.shape.burst, 0);
	assert_int_equal(rule.shape.priority, SHAPE_NORMAL);
	assert_int_equal(rule.packet.rate.rate, 1000000);

	rule = parsed("guarantee out 400mbit ceiling 1gbit burst 64kb weight 7 priority high engine pacing "
		      "under x");
	assert_true(rule_is_shape(&rule));
	assert_int_equal(rule.shape.guarantee_bps, 400000000);
	assert_int_equal(rule.shape.ceiling_bps, 1000000000);
	assert_int_equal(rule.shape.burst, 64000);
	assert_int_equal(rule.shape.weight, 7);
	assert_int_equal(rule.shape.priority, SHAPE_HIGH);
	assert_int_equal(rule.shape.wish, SHAPE_WISH_PACING);
	assert_string_equal(rule.shape.under, "x");

	rule = parsed("assign out to 10.0.0.1 to bulk");
	assert_true(rule_is_shape(&rule));
	assert_string_equal(rule.class, "bulk");
	assert_true(rule.match.to.has_prefix);

	rule = parsed("shape bulk in under eth0");
	assert_true(rule_is_declared(&rule));
	assert_false(rule_is_shape(&rule));
	assert_string_equal(rule.class, "bulk");
	assert_int_equal(rule.match.direction, MATCH_IN);
	assert_string_equal(rule.shape.under, "eth0");

	/* each packet is asked about */
	rule = parsed("limit in per source to 10mbit");
	assert_false(rule_is_shape(&rule));
	rule = parsed("limit in to 10mbit log");
	assert_false(rule_is_shape(&rule));
	rule = parsed("limit in to 10/s");
	assert_false(rule_is_shape(&rule));
	rule = parsed("limit in to 10 connections");
	assert_false(rule_is_shape(&rule));
}

static void wrong_sentences_say_what_would_be_right(void **state)
{
	static const char *const rates = "8kbit to 1000gbit";
	static const char *const names = "a letter, then letters, digits, '-' and '_'";
	static const struct {
		const char *text, *what, *want;
		unsigned int column;
	} cases[] = {
		{"limit out to 10mb/s", "'10mb/s' are megabytes, a rate is bits a second",
			"80mbit, or 10mbit if bits are meant", 14},
		{"limit out to 10MB", "'10MB' are megabytes, a rate is bits a second",
			"80mbit, or 10mbit if bits are meant", 14},
		{"limit out to 10Mb/s", "'10Mb/s' may be megabits or megabytes a second",
			"10mbit, or 80mbit if bytes are meant", 14},
		{"limit out to 10mbps", "'10mbps' may be megabits or megabytes a second",
			"10mbit, or 80mbit if bytes are meant", 14},
		{"limit out to 1.5gib/s", "'1.5gib/s' are gibibytes, a rate is bits a second",
			"12884901888bit", 14},
		{"limit out to 900tb/s", "'900tb/s' are terabytes, a rate is bits a second",
			"at most 1000gbit", 14},
		{"limit out to 10m", "10m of what?", "10mbit", 14},
		{"limit out to 10mbits", "'mbits' has an unknown unit", "10mbit", 14},
		{"limit out to 10xyz", "expected a rate, got '10xyz'",
			"packets, such as 100/s or 5/m, or bits: 10mbit", 14},
		{"limit out to 0", "0 is nothing",
			"1/d to 1000000000/s packets, 8kbit to 1000gbit, 1 to 1000000 connections", 14},
		{"limit out per source to 0", "0 is nothing",
			"1/d to 1000000000/s packets, 8bit to 1000gbit, 1 to 1000000 connections", 25},
		{"limit out to 10 mbit", "10 of what?", "10mbit, in one word", 14},
		{"limit out to 0mbit", "0mbit is nothing", rates, 14},
		{"limit out to 1bit", "1bit is too little", rates, 14},
		{"limit out to 9999tbit", "9999tbit is too much", rates, 14},
		{"limit out to 8001bit", "8001bit is no whole number of bytes a second", "8000bit", 14},
		{"guarantee out 1kbit", "1kbit is too little", rates, 15},
		{"guarantee out 10kb/s", "'10kb/s' are kilobytes, a rate is bits a second",
			"80kbit, or 10kbit if bits are meant", 15},
		{"limit out to 10mbit burst 100", "the burst 100 is too small",
			"1514 bytes (one packet) to 1000gb", 27},
		{"limit out to 10mbit burst 64kbit", "expected a burst, got '64kbit'",
			"bytes, such as 64kb: the rate is in bits", 27},
		{"limit out to 10mbit weight 0", "the weight 0 is nothing", "1 to 1000", 28},
		{"limit out to 10mbit weight 1001", "the weight 1001 is too much", "1 to 1000", 28},
		{"limit out to 10mbit weight x", "expected a weight, got 'x'", "a number from 1 to 1000", 28},
		{"limit out to 10mbit weight 1 weight 2", "a second 'weight'", "'weight' once", 30},
		{"limit out to 10mbit priority hgih", "expected a priority, got 'hgih'",
			"did you mean 'high'?", 30},
		{"limit out to 10mbit priority 7", "expected a priority, got '7'",
			"low, normal, high or interactive", 30},
		{"limit out to 10mbit engine htp", "expected an engine, got 'htp'", "did you mean 'htb'?",
			28},
		{"limit out to 10mbit engine=cake", "expected an engine, got 'cake'",
			"auto, pacing, htb, fq, policer or ifb", 28},
		{"limit out to 10mbit guarantee 20mbit",
			"the guarantee, 20mbit, is above the ceiling, 10mbit",
			"at most 10mbit guaranteed, or a ceiling of 20mbit", 21},
		{"limit out to 10mbit ceiling 20mbit", "the ceiling of a limit stands behind 'to'",
			"limit ... to RATE", 21},
		{"limit out to 10mbit under a/b", "'a/b' can be no interface's name and no class's",
			"the name of one, such as eth0", 27},
		{"limit out to 10mbit weihgt 3", "unknown word 'weihgt'", "did you mean 'weight'?", 21},
		{"limit out per source to 10mbit weight 3",
			"'weight' belongs to classes, and 'per' asks about each packet",
			"a rule without 'per'", 32},
		{"limit out to 10mbit log weight 3",
			"'weight' belongs to classes, and 'log' asks about each packet",
			"a rule without 'log'", 25},
		{"limit out to 10/s weight 3", "'weight' belongs to classes, limits in bits a second",
			"a rule without 'weight'", 19},
		{"guarantee out 20mbit ceiling 10mbit", "the guarantee, 20mbit, is above the ceiling, 10mbit",
			"at most 10mbit guaranteed, or a ceiling of 20mbit", 15},
		{"guarantee out to 20mbit", "'to' is in front of the rate of a limit", "guarantee ... 20mbit",
			18},
		{"guarantee out", "a guarantee without a rate", "guarantee ... 400mbit", 14},
		{"guarantee out 20mbit 30mbit", "a second rate", "guarantee ... RATE ceiling RATE", 22},
		{"guarantee out 100", "100 of what?", "100mbit, 100kbit", 15},
		{"guarantee out 20mbit guarantee 30mbit", "'guarantee' a second time",
			"guarantee ... RATE, then ceiling, weight, ...", 22},
		{"guarantee out 20mbit burst 10kb", "a burst, but no ceiling that it belongs to",
			"ceiling RATE burst SIZE", 22},
		{"assign out", "assigned to which class?", "assign ... to CLASS; 'weir shapes' lists them",
			11},
		{"assign out to 10.0.0.1", "assigned to which class?",
			"assign ... to CLASS; 'weir shapes' lists them", 23},
		{"assign out to 7", "'7' can be no class's name", names, 15},
		{"assign out to a to b", "a second class", "one: assign it to another with another rule", 17},
		{"assign out to bulk weight 3",
			"'weight' is said of the class, not of what is assigned to it",
			"weir shape add, or weir change", 20},
		{"drop out weight 3", "'weight' belongs to classes, 'drop' makes none",
			"limit ... to RATE, or guarantee ... RATE", 10},
		{"shape", "expected a class's name, got the end of the sentence", "such as bulk", 6},
		{"shape 7 under eth0", "'7' can be no class's name", names, 7},
		{"shape any under eth0", "'any' is a word of sentences, it can be no class's name",
			"another name, such as bulk", 7},
		{"shape abcdefghijklmnopqrstuvwxyzabcdef under eth0",
			"the name 'abcdefghijklmnopqrstuvwxyzabcdef' is too long", "at most 31 bytes", 7},
		{"shape bulk", "the class 'bulk' stands below nothing",
			"bulk under INTERFACE, or under another class", 11},
		{"shape bulk under bulk", "the class 'bulk' below itself", "an interface, or another class",
			12},
		{"shape bulk under eth0 to 1mbit", "unknown word 'to'",
			"in or out, under INTERFACE or CLASS, guarantee, ceiling, burst, weight, priority, "
			"engine; \"a comment\"",
			23},
	};

	(void)state;
	FOR_EACH_CASE(c, cases)
	{
		struct rule rule = {.verb = RULE_MIRROR};
		struct error error = {0};

		EXPECT(rule_parse(c->text, &rule, &error) == -EINVAL, "%s", c->text);
		EXPECT_TEXT(error.what, c->what, "%s", c->text);
		EXPECT_TEXT(error.want, c->want, "%s", c->text);
		EXPECT(error.column == c->column, "%s: column %u, wanted %u", c->text, error.column,
			c->column);
		EXPECT(rule.verb == RULE_MIRROR, "%s: changed", c->text);
		EXPECT(rule_parse(c->text, &rule, NULL) == -EINVAL, "%s: without an error to fill", c->text);
	}
}

static void a_change_changes_what_it_names(void **state)
{
	static const struct {
		const char *text, *change, *printed;
	} cases[] = {
		{"limit out to 10mbit", "to 20mbit", "limit out to 20mbit"},
		{"limit out to 10mbit burst 9kb", "to 20mbit burst none weight 3 guarantee 5mbit",
			"limit out to 20mbit guarantee 5mbit weight 3"},
		{"limit out to 10mbit priority high", "priority normal under tenant",
			"limit out to 10mbit under tenant"},
		{"limit out to 10mbit", "ceiling 20mbit", "limit out to 20mbit"},
		{"guarantee out 20mbit", "to 30mbit ceiling 1gbit", "guarantee out 30mbit ceiling 1gbit"},
		{"guarantee out 20mbit ceiling 1gbit", "ceiling none", "guarantee out 20mbit"},
		{"shape bulk under eth0 weight 1", "to 200mbit engine=htb",
			"shape bulk under eth0 ceiling 200mbit weight 1 engine htb"},
		{"shape bulk in under eth0 guarantee 1mbit \"x\"", "guarantee none under a",
			"shape bulk in under a \"x\""},
	};
	char printed[RULE_TEXT_MAX];

	(void)state;
	FOR_EACH_CASE(c, cases)
	{
		struct rule rule = parsed(c->text), said = parsed(c->printed);
		struct error error = {0};

		EXPECT(shape_change_check(c->change, &error) == 0, "%s: %s", c->change, error.what);
		EXPECT(rule_shape_change(&rule, c->change, &error) == 0, "%s: %s", c->change, error.what);
		EXPECT(rule_print(&rule, printed, sizeof(printed)) == 0, "%s", c->text);
		EXPECT_TEXT(printed, c->printed, "%s, %s", c->text, c->change);
		EXPECT(shape_terms_equal(&rule.shape, &said.shape), "%s", c->change);
		EXPECT(memcmp(&rule.packet.rate, &said.packet.rate, sizeof(rule.packet.rate)) == 0, "%s",
			c->change);
	}
}

static void a_wrong_change_changes_nothing(void **state)
{
	static const char *const words =
		"to RATE, guarantee, ceiling, burst, weight, priority, under or engine";
	static const struct {
		const char *text, *change, *what, *want;
		unsigned int column;
	} cases[] = {
		{"limit out to 10mbit", "", "nothing is changed", words, 1},
		{"limit out to 10mbit", "20mbit", "unknown word '20mbit'", words, 1},
		{"limit out to 10mbit", "wieght 3", "unknown word 'wieght'", "did you mean 'weight'?", 1},
		{"limit out to 10mbit", "to 10mb/s", "'10mb/s' are megabytes, a rate is bits a second",
			"80mbit, or 10mbit if bits are meant", 4},
		{"limit out to 10mbit", "to 1mbit to 2mbit", "a second 'to'", "'to' once", 10},
		{"limit out to 10mbit", "to 20mbit ceiling 3mbit", "'to' says what 'ceiling' says",
			"one of the two", 11},
		{"limit out to 10mbit", "ceiling none", "a limit without a rate",
			"a rate, or delete the rule", 0},
		{"guarantee out 20mbit", "guarantee none", "a guarantee without a rate",
			"a rate, or delete the rule", 0},
		{"guarantee out 20mbit ceiling 1gbit", "ceiling 10mbit",
			"the guarantee, 20mbit, is above the ceiling, 10mbit",
			"at most 10mbit guaranteed, or a ceiling of 20mbit", 1},
		{"shape bulk under eth0", "under bulk", "the class 'bulk' below itself",
			"an interface, or another class", 0},
		{"assign to bulk", "to 1mbit", "'assign' makes no class, it assigns to one",
			"change the class", 0},
		{"limit to 10/s", "to 1mbit",
			"'limit' makes no class with packets, connections, 'per' or 'log'",
			"delete the rule, and add another", 0},
		{"drop out", "to 1mbit", "'drop' makes no class", "delete the rule, and add another", 0},
	};

	char printed[RULE_TEXT_MAX];

	(void)state;
	FOR_EACH_CASE(c, cases)
	{
		struct rule rule = parsed(c->text), before = rule;
		struct error error = {0};

		EXPECT(rule_shape_change(&rule, c->change, &error) == -EINVAL, "%s", c->change);
		EXPECT_TEXT(error.what, c->what, "%s", c->change);
		EXPECT_TEXT(error.want, c->want, "%s", c->change);
		EXPECT(error.column == c->column, "%s: column %u", c->change, error.column);
		EXPECT(shape_terms_equal(&rule.shape, &before.shape), "%s: changed", c->change);
		EXPECT(rule_print(&rule, printed, sizeof(printed)) == 0, "%s", c->change);
		EXPECT_TEXT(printed, c->text, "%s", c->change);
		EXPECT(rule_shape_change(&rule, c->change, NULL) == -EINVAL, "%s", c->change);
	}
}

static void a_declared_class_is_read_and_printed_alone(void **state)
{
	struct shape_declared declared = {.name = "untouched"};
	struct error error = {0};
	char printed[SHAPE_TEXT_MAX], small[8];

	(void)state;
	assert_int_equal(
		shape_declared_parse("bulk under eth0 weight 1 ceiling 200mbit", &declared, &error), 0);
	assert_string_equal(declared.name, "bulk");
	assert_int_equal(declared.direction, MATCH_OUT);
	assert_int_equal(declared.terms.ceiling_bps, 200000000);
	assert_int_equal(declared.terms.weight, 1);
	assert_int_equal(shape_declared_print(&declared, printed, sizeof(printed)), 0);
	assert_string_equal(printed, "bulk under eth0 ceiling 200mbit weight 1");
	assert_int_equal(shape_declared_print(&declared, small, sizeof(small)), -ENOSPC);

	assert_int_equal(shape_declared_parse("other under", &declared, &error), -EINVAL);
	assert_string_equal(error.what, "expected an interface or a class, got the end of the sentence");
	assert_string_equal(declared.name, "bulk");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST("sentences are printed in one way", sentences_are_printed_in_one_way),
		TEST("what was said is in the terms", what_was_said_is_in_the_terms),
		TEST("wrong sentences say what would be right", wrong_sentences_say_what_would_be_right),
		TEST("a change changes what it names", a_change_changes_what_it_names),
		TEST("a wrong change changes nothing", a_wrong_change_changes_nothing),
		TEST("a declared class is read and printed alone",
			a_declared_class_is_read_and_printed_alone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
