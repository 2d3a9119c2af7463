/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include "basic/error.h"

#include <errno.h>

#include "basic/text.h"
#include "unit.h"

static void an_error_says_what_is_wrong_and_what_would_be_right(void **state)
{
	struct error error = {0};
	char *text;

	(void)state;
	assert_int_equal(error_set(&error, -EINVAL, "unknown key '%s'", "interface"), -EINVAL);
	assert_int_equal(error_want(&error, "did you mean '%s'?", "interfaces"), -EINVAL);
	text = error_text(&error);
	assert_string_equal(text, "weir: unknown key 'interface'; did you mean 'interfaces'?\n");
	free(text);
}

static void setting_an_error_forgets_the_one_before(void **state)
{
	struct error error = {0};

	(void)state;
	error_set(&error, -EINVAL, "first");
	error_want(&error, "better");
	error_at(&error, "file", "text", 2);
	error_set(&error, -ENOENT, "second");
	assert_int_equal(error.code, -ENOENT);
	assert_string_equal(error.what, "second");
	assert_string_equal(error.want, "");
	assert_string_equal(error.file, "");
	assert_string_equal(error.excerpt, "");
	assert_int_equal(error.line, 0);
	assert_int_equal(error.column, 0);
}

static void an_error_may_be_wrapped_in_its_own_text(void **state)
{
	struct error error = {0};

	(void)state;
	error_set(&error, -EIO, "the disk is full");
	error_set(&error, error.code, "cannot start: %s", error.what);
	assert_string_equal(error.what, "cannot start: the disk is full");
	error_want(&error, "an end of '%s'", error.what);
	assert_string_equal(error.want, "an end of 'cannot start: the disk is full'");
}

static void nobody_has_to_want_to_know(void **state)
{
	(void)state;
	assert_int_equal(error_set(NULL, -EPERM, "no"), -EPERM);
	assert_int_equal(error_want(NULL, "yes"), 0);
	error_at(NULL, "file", "text", 1);
}

static void long_texts_are_cut_not_overrun(void **state)
{
	struct error error = {0};
	char text[3000];

	(void)state;
	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	error_set(&error, -EINVAL, "%s", text);
	error_want(&error, "%s", text);
	error_at(&error, text, text, 2500);
	assert_int_equal(strlen(error.what), sizeof(error.what) - 1);
	assert_int_equal(strlen(error.want), sizeof(error.want) - 1);
	assert_int_equal(strlen(error.file), sizeof(error.file) - 1);
	assert_int_equal(strlen(error.excerpt), sizeof(error.excerpt) - 1);
	assert_int_equal(error.column, 2501);
}

/* The excerpt of a line is read back: where the caret stands. */
static void a_long_line_is_shown_around_the_column(void **state)
{
	static const size_t places[] = {0, 3, 509, 511, 1000, 1023, 1024, 2047, 5000, 131000, 131070};
	static char text[131072];
	struct error error = {0};

	(void)state;
	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		/* characters of two bytes in front of the place, others behind it */
		for (size_t k = 0; k + 1 < places[i]; k += 2)
			memcpy(text + k, "\xc3\xa4", 2);
		if (places[i] % 2)
			text[places[i] - 1] = 'b';
		memset(text + places[i], 'x', sizeof(text) - 1 - places[i]);
		text[places[i]] = 'H';
		text[sizeof(text) - 1] = '\0';
		error_set(&error, -EINVAL, "wrong");
		error_at(&error, NULL, text, places[i]);
		assert_int_equal(error.column, places[i] + 1);
		assert_int_equal(error.excerpt[error.caret - 1], 'H');
		assert_int_equal(strncmp(error.excerpt, "\xe2\x80\xa6", 3) == 0, places[i] > 510);
		assert_true(text_utf8_length(error.excerpt) > 0);
	}
}

static void what_was_put_in_front_is_not_shown(void **state)
{
	static char text[3000] = "service ";
	struct error error = {0};

	(void)state;
	error_set(&error, -EINVAL, "wrong");
	error_at(&error, NULL, "service web tpc", 12);
	error_skip(&error, strlen("service "));
	assert_string_equal(error.excerpt, "web tpc");
	assert_int_equal(error.column, 5);
	assert_int_equal(error.caret, 5);
	memset(text + 8, 'x', sizeof(text) - 9);
	text[2000] = 'H';
	error_at(&error, NULL, text, 2000);
	error_skip(&error, strlen("service "));
	assert_int_equal(error.column, 1993);
	assert_int_equal(error.excerpt[error.caret - 1], 'H');
}

static void a_place_is_a_line_and_a_column(void **state)
{
	static const struct {
		const char *text;
		size_t offset;
		unsigned int line, column;
		const char *excerpt;
	} cases[] = {
		{"", 0, 1, 1, ""}, {"abc", 0, 1, 1, "abc"}, {"abc", 2, 1, 3, "abc"}, {"abc", 3, 1, 4, "abc"},
		{"abc", 99, 1, 4, "abc"}, {"abc\ndef\nghi", 3, 1, 4, "abc"},
		{"abc\ndef\nghi", 4, 2, 1, "def"}, {"abc\ndef\nghi", 10, 3, 3, "ghi"},
		{"abc\r\ndef\r\n", 6, 2, 2, "def"}, {"abc\n\n", 4, 2, 1, ""}, {"abc\n", 4, 2, 1, ""},
		{"\xc3\xa4\xc3\xb6: x", 6, 1, 7, "\xc3\xa4\xc3\xb6: x"}, /* columns are bytes */
	};

	(void)state;
	FOR_EACH_CASE(c, cases)
	{
		struct error error = {0};

		error_set(&error, -EINVAL, "wrong");
		error_at(&error, "weir.yaml", c->text, c->offset);
		EXPECT(error.line == c->line, "'%s' %zu: line %u", c->text, c->offset, error.line);
		EXPECT(error.column == c->column, "'%s' %zu: column %u", c->text, c->offset, error.column);
		EXPECT_TEXT(error.excerpt, c->excerpt, "'%s' %zu", c->text, c->offset);
		assert_string_equal(error.file, "weir.yaml");
	}
}

static void an_error_is_printed_with_its_line_and_a_caret(void **state)
{
	static const struct {
		const char *file, *text;
		size_t offset;
		const char *printed;
	} cases[] = {
		{"weir.yaml", "log: x\nflows: y\n", 14,
			"weir.yaml:2:8: wrong; right\n  flows: y\n         ^\n"},
		{NULL, "tcp to port htps", 12, "weir: wrong; right\n  tcp to port htps\n              ^\n"},
		{NULL, "from", 4, "weir: wrong; right\n  from\n      ^\n"},
		{"weir.yaml", NULL, 0, "weir.yaml: wrong; right\n"},
		{"f", "", 0, "f:1:1: wrong; right\n"},
		/* a tab stays a tab, so that the caret stands right whatever its width is */
		{"f", "a\tb: c", 5, "f:1:6: wrong; right\n  a\tb: c\n   \t   ^\n"},
		/* the caret counts characters, the column bytes */
		{"f", "\xc3\xa4\xe2\x82\xac: c", 7,
			"f:1:8: wrong; right\n  \xc3\xa4\xe2\x82\xac: c\n      ^\n"},
	};

	(void)state;
	FOR_EACH_CASE(c, cases)
	{
		struct error error = {0};
		char *text;

		error_set(&error, -EINVAL, "wrong");
		error_want(&error, "right");
		error_at(&error, c->file, c->text, c->offset);
		text = error_text(&error);
		EXPECT_TEXT(text, c->printed, "'%s' %zu", c->text ? c->text : "", c->offset);
		free(text);
	}
}

static void no_control_character_reaches_the_terminal(void **state)
{
	struct error error = {0};
	char *text;

	(void)state;
	error_set(&error, -EINVAL,
		"unknown '\033[31m\xc2\x9b"
		"1m\x7f\xff'");
	error_at(&error, "a\nb", "x \033]0;evil\007\xff y", 13);
	text = error_text(&error);
	assert_string_equal(text, "a?b:1:14: unknown '?[31m?1m?"
				  "?'\n  x ?]0;evil?"
				  "? y\n               ^\n");
	free(text);
}

static void a_long_line_is_printed_with_its_caret(void **state)
{
	struct error error = {0};
	char line[2000], *text, *excerpt, *carets;

	(void)state;
	memset(line, 'x', sizeof(line) - 1);
	line[sizeof(line) - 1] = '\0';
	line[1500] = 'H';
	error_set(&error, -EINVAL, "wrong");
	error_at(&error, "f", line, 1500);
	text = error_text(&error);
	assert_memory_equal(text, "f:1:1501: wrong\n", 16);
	excerpt = strchr(text, '\n') + 1;
	carets = strchr(excerpt, '\n') + 1;
	/* the ellipsis in front has three bytes and one column */
	assert_int_equal(strcspn(carets, "^"), strcspn(excerpt, "H") - 2);
	assert_int_equal(carets[strcspn(carets, "^")], '^');
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST("an error says what is wrong and what would be right",
			an_error_says_what_is_wrong_and_what_would_be_right),
		TEST("setting an error forgets the one before", setting_an_error_forgets_the_one_before),
		TEST("an error may be wrapped in its own text", an_error_may_be_wrapped_in_its_own_text),
		TEST("nobody has to want to know an error", nobody_has_to_want_to_know),
		TEST("long texts are cut, not overrun", long_texts_are_cut_not_overrun),
		TEST("a long line is shown around the column", a_long_line_is_shown_around_the_column),
		TEST("what was put in front of a line is not shown", what_was_put_in_front_is_not_shown),
		TEST("a place is a line and a column", a_place_is_a_line_and_a_column),
		TEST("an error is printed with its line and a caret",
			an_error_is_printed_with_its_line_and_a_caret),
		TEST("no control character reaches the terminal", no_control_character_reaches_the_terminal),
		TEST("a long line is printed with its caret", a_long_line_is_printed_with_its_caret),
	};

	return cmocka_run_group_tests_name("error", tests, NULL, NULL);
}
