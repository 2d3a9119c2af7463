/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include "basic/json_write.h"

#include <errno.h>
#include <math.h>

#include "json_read.h"
#include "unit.h"

/* The memory runs out when a test says so (the linker's --wrap). */
static bool memory_is_out;
void *__real_realloc(void *memory, size_t size);
void *__wrap_realloc(void *memory, size_t size);

void *__wrap_realloc(void *memory, size_t size)
{
	return memory_is_out ? NULL : __real_realloc(memory, size);
}

/* The text written so far as a string, to be freed. */
static char *written(const struct json_write *w)
{
	return strndup(w->text ? w->text : "", w->length);
}

static void expect_written(struct json_write *w, const char *wanted)
{
	char *text = written(w);

	assert_int_equal(w->error, 0);
	assert_string_equal(text, wanted);
	free(text);
	json_write_free(w);
}

static void commas_stand_where_they_belong(void **state)
{
	struct json_write w = {0};

	(void)state;
	json_write_object_begin(&w, NULL);
	json_write_number(&w, "a", 1);
	json_write_object_begin(&w, "b");
	json_write_object_end(&w);
	json_write_array_begin(&w, "c");
	json_write_number(&w, NULL, 1);
	json_write_object_begin(&w, NULL);
	json_write_null(&w, "x");
	json_write_boolean(&w, "y", true);
	json_write_object_end(&w);
	json_write_array_begin(&w, NULL);
	json_write_array_end(&w);
	json_write_boolean(&w, NULL, false);
	json_write_array_end(&w);
	json_write_string(&w, "d", NULL);
	json_write_object_end(&w);
	json_write_newline(&w);
	expect_written(&w, "{\"a\":1,\"b\":{},\"c\":[1,{\"x\":null,\"y\":true},[],false],\"d\":null}\n");
}

static void strings_are_escaped(void **state)
{
	static const struct {
		const char *value, *text;
	} cases[] = {
		{"", "\"\""},
		{"plain", "\"plain\""},
		{"say \"hi\"", "\"say \\\"hi\\\"\""},
		{"C:\\", "\"C:\\\\\""},
		{"a/b", "\"a/b\""},
		{"\b\f\n\r\t", "\"\\b\\f\\n\\r\\t\""},
		{"\x01\x1f\x7f", "\"\\u0001\\u001f\\u007f\""},
		{"\033[1m", "\"\\u001b[1m\""},
		{"\xc3\xa4 \xe2\x82\xac \xf0\x9f\x8c\x8a", "\"\xc3\xa4 \xe2\x82\xac \xf0\x9f\x8c\x8a\""},
		{"\xed\x9f\xbf\xee\x80\x80\xf4\x8f\xbf\xbf", "\"\xed\x9f\xbf\xee\x80\x80\xf4\x8f\xbf\xbf\""},
	};

	(void)state;
	FOR_EACH_CASE(c, cases)
	{
		struct json_write w = {0};
		char *text;

		json_write_string(&w, NULL, c->value);
		text = written(&w);
		EXPECT_TEXT(text, c->text, "'%s'", c->value);
		free(text);
		json_write_free(&w);
	}
}

#define FFFD "\xef\xbf\xbd"

static void bytes_that_are_not_utf8_become_the_replacement_character(void **state)
{
	static const struct {
		const char *value, *text;
	} cases[] = {
		{"\x80", "\"" FFFD "\""}, /* a lone continuation byte */
		{"a\xff"
		 "b",
			"\"a" FFFD "b\""},                                   /* never in UTF-8 */
		{"\xc0\xaf", "\"" FFFD FFFD "\""},                           /* overlong '/' */
		{"\xe0\x80\xaf", "\"" FFFD FFFD FFFD "\""},                  /* overlong in three bytes */
		{"\xf0\x80\x80\xaf", "\"" FFFD FFFD FFFD FFFD "\""},         /* overlong in four */
		{"\xed\xa0\x80", "\"" FFFD FFFD FFFD "\""},                  /* a surrogate */
		{"\xf4\x90\x80\x80", "\"" FFFD FFFD FFFD FFFD "\""},         /* behind U+10FFFF */
		{"\xf5\x80", "\"" FFFD FFFD "\""}, {"\xc3", "\"" FFFD "\""}, /* cut short by the end */
		{"\xe2\x82", "\"" FFFD FFFD "\""}, {"\xf0\x9f\x8c", "\"" FFFD FFFD FFFD "\""},
		{"\xc3\"", "\"" FFFD "\\\"\""}, /* cut short by a quote */
	};

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		struct json_write w = {0};
		char *text;

		json_write_string(&w, NULL, cases[i].value);
		text = written(&w);
		EXPECT_TEXT(text, cases[i].text, "number %zu", i);
		free(text);
		json_write_free(&w);
	}
}

static void keys_are_escaped_like_values(void **state)
{
	struct json_write w = {0};

	(void)state;
	json_write_object_begin(&w, NULL);
	json_write_number(&w, "a\"b", 0);
	json_write_object_end(&w);
	expect_written(&w, "{\"a\\\"b\":0}");
}

static void any_bytes_make_json_that_others_can_read(void **state)
{
	uint64_t seed = 7;

	(void)state;
	for (int i = 0; i < 5000; i++) {
		struct json_write w = {0};
		char value[40];
		uint32_t length = random_below(&seed, sizeof(value));

		for (uint32_t j = 0; j < length; j++)
			value[j] = (char)(random_below(&seed, 255) + 1);
		value[length] = '\0';
		json_write_array_begin(&w, NULL);
		json_write_string(&w, NULL, value);
		json_write_null(&w, NULL);
		json_write_real(&w, NULL, i / 7.0, 3);
		json_write_array_end(&w);
		EXPECT(json_is_valid(w.text, w.length), "%.*s", (int)w.length, w.text);
		json_write_free(&w);
	}
}

static void numbers_are_exact(void **state)
{
	struct json_write w = {0};

	(void)state;
	json_write_array_begin(&w, NULL);
	json_write_number(&w, NULL, 0);
	json_write_number(&w, NULL, UINT64_MAX);
	json_write_array_end(&w);
	expect_written(&w, "[0,18446744073709551615]");
}

static void reals_have_the_decimals_they_were_asked_for(void **state)
{
	static const struct {
		double value;
		int decimals;
		const char *text;
	} cases[] = {
		{0, 3, "0.000"},
		{1.878, 3, "1.878"},
		{1.8785, 2, "1.88"},
		{0.9996, 3, "1.000"},
		{0.05, 1, "0.1"},
		{2.5, 0, "3"},
		{-1.5, 1, "-1.5"},
		{-0.0001, 3, "0.000"},
		{-0.0, 1, "0.0"},
		{123456789.25, 2, "123456789.25"},
		{999999999999999.0, 3, "999999999999999.000"},
		{1e18, 3, "1000000000000000000"},
		{-1e18, 3, "-1000000000000000000"},
		{1.5, -4, "2"},
		{0.123456789, 99, "0.123456789"},
		{HUGE_VAL, 3, "null"},
		{-HUGE_VAL, 3, "null"},
	};

	(void)state;
	FOR_EACH_CASE(c, cases)
	{
		struct json_write w = {0};
		char *text;

		json_write_real(&w, NULL, c->value, c->decimals);
		text = written(&w);
		EXPECT_TEXT(text, c->text, "%g, %d decimals", c->value, c->decimals);
		free(text);
		json_write_free(&w);
	}
}

static void not_a_number_is_null(void **state)
{
	struct json_write w = {0};

	(void)state;
	json_write_real(&w, NULL, nan(""), 3);
	expect_written(&w, "null");
}

static void the_largest_double_fits(void **state)
{
	struct json_write w = {0};

	(void)state;
	json_write_real(&w, NULL, -1.7976931348623157e308, 3);
	assert_int_equal(w.error, 0);
	assert_int_equal(w.length, 310);
	json_write_free(&w);
}

static void clearing_keeps_the_place_in_the_document(void **state)
{
	struct json_write w = {0};

	(void)state;
	json_write_array_begin(&w, NULL);
	json_write_number(&w, NULL, 1);
	json_write_clear(&w);
	assert_int_equal(w.length, 0);
	json_write_number(&w, NULL, 2);
	json_write_array_end(&w);
	expect_written(&w, ",2]");
}

static void a_million_numbers_fit(void **state)
{
	struct json_write w = {0};

	(void)state;
	json_write_array_begin(&w, NULL);
	for (int i = 0; i < 1000000; i++)
		json_write_number(&w, NULL, 7);
	json_write_array_end(&w);
	assert_int_equal(w.error, 0);
	assert_int_equal(w.length, 2000001);
	json_write_free(&w);
}

static void without_memory_writing_stops_and_says_so(void **state)
{
	struct json_write w = {0};
	size_t length;

	(void)state;
	json_write_array_begin(&w, NULL);
	json_write_string(&w, NULL, "kept");
	memory_is_out = true;
	for (int i = 0; i < 10000; i++)
		json_write_string(&w, NULL, "lost");
	memory_is_out = false;
	assert_int_equal(w.error, -ENOMEM);
	length = w.length;
	json_write_string(&w, NULL, "too late");
	assert_int_equal(w.length, length);
	assert_memory_equal(w.text, "[\"kept\",\"lost\"", 14);
	json_write_free(&w);
	assert_int_equal(w.error, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST("commas stand where they belong", commas_stand_where_they_belong),
		TEST("strings are escaped", strings_are_escaped),
		TEST("bytes that are not UTF-8 become U+FFFD",
			bytes_that_are_not_utf8_become_the_replacement_character),
		TEST("keys are escaped like values", keys_are_escaped_like_values),
		TEST("any bytes make JSON that others can read", any_bytes_make_json_that_others_can_read),
		TEST("numbers are exact", numbers_are_exact),
		TEST("reals have the decimals they were asked for",
			reals_have_the_decimals_they_were_asked_for),
		TEST("not a number is null", not_a_number_is_null),
		TEST("the largest double fits", the_largest_double_fits),
		TEST("clearing keeps the place in the document", clearing_keeps_the_place_in_the_document),
		TEST("a million numbers fit", a_million_numbers_fit),
		TEST("without memory writing stops and says so", without_memory_writing_stops_and_says_so),
	};

	return cmocka_run_group_tests_name("json_write", tests, NULL, NULL);
}
