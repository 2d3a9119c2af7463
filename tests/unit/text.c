/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include "basic/text.h"

#include "unit.h"

static void the_nearest_known_word_is_found(void **state)
{
	static const char *const known[] = {
		"interfaces", "flows", "api", "metrics", "log", "tcp", "from", "to", NULL};
	static const struct {
		const char *word, *nearest;
	} cases[] = {
		{"interface", "interfaces"},
		{"intrefaces", "interfaces"}, /* two letters swapped */
		{"inxterfaces", "interfaces"},
		{"inyerfaces", "interfaces"},
		{"ntrfcs", NULL}, /* four left out */
		{"ntrfces", "interfaces"},
		{"flow", "flows"},
		{"FLOWS", "flows"},
		{"form", "from"},
		{"tpc", "tcp"},
		{"tc", "tcp"},
		{"logs", "log"},
		{"ot", NULL}, /* two letters leave no room for a mistake */
		{"t", NULL},
		{"", NULL},
		{"xyzzy", NULL},
		{"api", "api"},
	};

	(void)state;
	FOR_EACH_CASE(c, cases)
	{
		const char *nearest = text_nearest(c->word, known);

		EXPECT_TEXT(nearest ? nearest : "none", c->nearest ? c->nearest : "none", "%s", c->word);
	}
}

static void the_first_of_equally_near_words_is_taken(void **state)
{
	static const char *const known[] = {"abcd", "abce", "abcf", NULL};

	(void)state;
	assert_string_equal(text_nearest("abcx", known), "abcd");
	assert_string_equal(text_nearest("abcf", known), "abcf");
}

static void any_word_may_be_compared_with_any(void **state)
{
	static const char *const none[] = {NULL};
	char word[300], longest[65];
	const char *known[] = {word, longest, NULL};

	(void)state;
	memset(word, 'x', sizeof(word) - 1);
	word[sizeof(word) - 1] = '\0';
	memset(longest, 'y', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = '\0';
	assert_null(text_nearest("word", none));
	assert_null(text_nearest(word, known));
	assert_ptr_equal(text_nearest(longest, known), longest);
	longest[0] = (char)0xe4;
	assert_ptr_equal(text_nearest(longest, known), longest);
}

static void characters_have_one_to_four_bytes(void **state)
{
	static const struct {
		const char *text;
		size_t length;
	} cases[] = {
		{"", 1},
		{"a", 1},
		{"\x7f", 1},
		{"\x80", 0},
		{"\xbf", 0},
		{"\xc1\x80", 0},
		{"\xc2\x80", 2},
		{"\xdf\xbf", 2},
		{"\xdf", 0},
		{"\xe0\x9f\xbf", 0},
		{"\xe0\xa0\x80", 3},
		{"\xed\x9f\xbf", 3},
		{"\xed\xa0\x80", 0},
		{"\xef\xbf\xbf", 3},
		{"\xef\xbf", 0},
		{"\xf0\x8f\xbf\xbf", 0},
		{"\xf0\x90\x80\x80", 4},
		{"\xf4\x8f\xbf\xbf", 4},
		{"\xf4\x90\x80\x80", 0},
		{"\xf4\x8f\xbf", 0},
		{"\xf5\x80\x80\x80", 0},
		{"\xff", 0},
	};

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		EXPECT(text_utf8_length(cases[i].text) == cases[i].length, "number %zu", i);
		EXPECT(!text_is_utf8(cases[i].text) == !cases[i].length, "number %zu", i);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST("the nearest known word is found", the_nearest_known_word_is_found),
		TEST("the first of equally near words is taken", the_first_of_equally_near_words_is_taken),
		TEST("any word may be compared with any", any_word_may_be_compared_with_any),
		TEST("characters have one to four bytes", characters_have_one_to_four_bytes),
	};

	return cmocka_run_group_tests_name("text", tests, NULL, NULL);
}
