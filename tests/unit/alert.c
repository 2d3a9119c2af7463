// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* What `weir capture --when` waits for: read, printed, and held against what happens. */
#include "model/alert.h"

#include "unit.h"

static void what_is_printed_reads_as_the_same(void **state)
{
	static const struct {
		const char *text, *printed;
		struct alert_match match;
	} cases[] = {
		{"log", "log", {.kind = ALERT_LOG}},
		{" log  rule 7 ", "log rule 7", {.kind = ALERT_LOG, .rule = 7}},
		{"drops above 1", "drops above 1/s", {.kind = ALERT_DROPS, .above = 1}},
		{"drops above 1000/s", "drops above 1000/s", {.kind = ALERT_DROPS, .above = 1000}},
		{"backend down", "backend down", {.kind = ALERT_BACKEND}},
		{"backend down web", "backend down web", {.kind = ALERT_BACKEND, .service = "web"}},
		{"backend down a-name-of-thirty-one-letters-xy",
			"backend down a-name-of-thirty-one-letters-xy",
			{.kind = ALERT_BACKEND, .service = "a-name-of-thirty-one-letters-xy"}},
	};

	(void)state;
	FOR_EACH_CASE(c, cases)
	{
		struct alert_match match, again;
		char text[ALERT_MATCH_MAX];
		struct error error = {};

		EXPECT(alert_match_parse(c->text, &match, &error) == 0, "'%s': %s", c->text, error.what);
		assert_int_equal(match.kind, c->match.kind);
		assert_int_equal(match.rule, c->match.rule);
		assert_int_equal(match.above, c->match.above);
		assert_string_equal(match.service, c->match.service);
		assert_string_equal(alert_match_print(text, &match), c->printed);
		assert_int_equal(alert_match_parse(text, &again, &error), 0);
		assert_memory_equal(&match, &again, sizeof(match));
	}
}

static void what_is_no_event_says_why_and_where(void **state)
{
	static const struct {
		const char *text, *what, *want;
		unsigned int column;
	} cases[] = {
		{"", "expected an event, got the end of the sentence", "log [rule N], drops", 1},
		{"drop above 3/s", "unknown event 'drop'", "did you mean 'drops'?", 1},
		{"rain", "unknown event 'rain'", "log [rule N], drops above N/s or backend down [SERVICE]",
			1},
		{"log rule", "expected the number of a rule, got the end of the sentence", "as 'weir rules'",
			9},
		{"log rule 0", "expected the number of a rule, got '0'", "as 'weir rules'", 10},
		{"log rule 4294967296", "expected the number of a rule, got '4294967296'", "as 'weir", 10},
		{"log 7", "expected 'rule', got '7'", "log [rule N]", 5},
		{"log rule 7 8", "unexpected word '8'", "log [rule N]", 12},
		{"drops", "expected 'above', got the end of the sentence", "log [rule N]", 6},
		{"drops above 0", "expected packets a second, got '0'", "1/s or more, such as 1000/s", 13},
		{"drops above 0/s", "expected packets a second, got '0/s'", "1/s or more", 13},
		{"drops above -1/s", "expected packets a second, got '-1/s'", "1/s or more", 13},
		{"drops above 5/m", "expected packets a second, got '5/m'", "1/s or more", 13},
		{"drops above 1mbit", "expected packets a second, got '1mbit'", "1/s or more", 13},
		{"drops below 5/s", "expected 'above', got 'below'", "log [rule N]", 7},
		{"backend", "expected 'down', got the end of the sentence", "log [rule N]", 8},
		{"backend up", "expected 'down', got 'up'", "log [rule N]", 9},
		{"backend down a-name-of-thirty-two-letters-wxy", "expected the name of a service, got",
			"as 'weir services'", 14},
	};

	(void)state;
	FOR_EACH_CASE(c, cases)
	{
		struct alert_match match = {.kind = ALERT_LOG, .rule = 99};
		struct error error = {};

		EXPECT(alert_match_parse(c->text, &match, &error) == -EINVAL, "'%s'", c->text);
		EXPECT(strncmp(error.what, c->what, strlen(c->what)) == 0, "'%s': %s", c->text, error.what);
		EXPECT(strncmp(error.want, c->want, strlen(c->want)) == 0, "'%s': %s", c->text, error.want);
		EXPECT(error.column == c->column, "'%s': column %u", c->text, error.column);
		assert_int_equal(match.rule, 99);
	}
}

static void an_alert_fits_what_waits_for_it(void **state)
{
	static const struct {
		const char *match;
		struct alert alert;
		bool fits;
	} cases[] = {
		{"log", {.kind = ALERT_LOG}, true},
		{"log", {.kind = ALERT_LOG, .rule = 3}, true},
		{"log rule 3", {.kind = ALERT_LOG, .rule = 3}, true},
		{"log rule 3", {.kind = ALERT_LOG, .rule = 4}, false},
		{"log rule 3", {.kind = ALERT_LOG}, false},
		{"log", {.kind = ALERT_DROPS, .packets = 1000}, false},
		{"drops above 10/s", {.kind = ALERT_DROPS, .packets = 11}, true},
		{"drops above 10/s", {.kind = ALERT_DROPS, .packets = 10}, false},
		{"drops above 4294967295/s", {.kind = ALERT_DROPS, .packets = 1ULL << 32}, true},
		{"backend down", {.kind = ALERT_BACKEND, .service = "web"}, true},
		{"backend down web", {.kind = ALERT_BACKEND, .service = "web"}, true},
		{"backend down web", {.kind = ALERT_BACKEND, .service = "webs"}, false},
	};

	(void)state;
	FOR_EACH_CASE(c, cases)
	{
		struct alert_match match;
		struct error error = {};

		assert_int_equal(alert_match_parse(c->match, &match, &error), 0);
		EXPECT(alert_fits(&match, &c->alert) == c->fits, "'%s'", c->match);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_printed_reads_as_the_same),
		cmocka_unit_test(what_is_no_event_says_why_and_where),
		cmocka_unit_test(an_alert_fits_what_waits_for_it),
	};

	return cmocka_run_group_tests_name("alert", tests, NULL, NULL);
}
