/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include "basic/units.h"

#include <errno.h>

#include "unit.h"

struct parse_case {
	const char *text;
	int result;
	uint64_t value;
};

#define MS 1000000ULL
#define S  1000000000ULL

static void expect_parsed(
	int (*parse)(const char *text, uint64_t *ret_value), const struct parse_case *cases, size_t count)
{
	for (const struct parse_case *c = cases; c < cases + count; c++) {
		uint64_t value = 4711;

		EXPECT(parse(c->text, &value) == c->result, "'%s'", c->text);
		EXPECT(value == (c->result ? 4711 : c->value), "'%s': %" PRIu64, c->text, value);
	}
}

static void sizes_are_read_exactly(void **state)
{
	static const struct parse_case cases[] = {
		{"0", 0, 0},
		{"512", 0, 512},
		{"512b", 0, 512},
		{"64kb", 0, 64000},
		{"64kib", 0, 65536},
		{"64KiB", 0, 65536},
		{"1mb", 0, 1000000},
		{"1MB", 0, 1000000},
		{"1mib", 0, 1048576},
		{"2gb", 0, 2000000000},
		{"2gib", 0, 2147483648},
		{"3tb", 0, 3000000000000},
		{"3tib", 0, 3298534883328},
		{"1.5mb", 0, 1500000},
		{"1.5kib", 0, 1536},
		{"0.5kib", 0, 512},
		{"1.000", 0, 1},
		{"1.50000000000000000000000000mb", 0, 1500000},
		{"0.0009765625kib", 0, 1},
		{"0.000000001gb", 0, 1},
		{"007kb", 0, 7000},
		{"18446744073709551615", 0, UINT64_MAX},
		{"18446744073709551.615kb", 0, UINT64_MAX},
		{"16777215tib", 0, 16777215ULL << 40},
		{"18446744073709551616", -ERANGE, 0},
		{"16777216tib", -ERANGE, 0},
		{"18446744073709551.616kb", -ERANGE, 0},
		{"99999999999999999999999999999999gb", -ERANGE, 0},
		{"", -EINVAL, 0},
		{" 1", -EINVAL, 0},
		{"1 ", -EINVAL, 0},
		{"1 kb", -EINVAL, 0},
		{"kb", -EINVAL, 0},
		{"-1", -EINVAL, 0},
		{"+1", -EINVAL, 0},
		{".5mb", -EINVAL, 0},
		{"1.", -EINVAL, 0},
		{"1.kb", -EINVAL, 0},
		{"1.5", -EINVAL, 0},      /* half a byte */
		{"1.0001kb", -EINVAL, 0}, /* a tenth of one */
		{"0.3kib", -EINVAL, 0},
		{"1,5mb", -EINVAL, 0},
		{"0x10", -EINVAL, 0},
		{"1e3", -EINVAL, 0},
		{"1k", -EINVAL, 0},
		{"1mbit", -EINVAL, 0},
		{"1kbkb", -EINVAL, 0},
		{"99999999999999999999999999999999parsec", -EINVAL, 0},
	};

	(void)state;
	expect_parsed(size_parse, cases, COUNT(cases));
}

static void rates_are_read_exactly(void **state)
{
	static const struct parse_case cases[] = {
		{"0", 0, 0},
		{"9600", 0, 9600},
		{"9600bit", 0, 9600},
		{"9600bit/s", 0, 9600},
		{"500kbit", 0, 500000},
		{"10mbit", 0, 10000000},
		{"10Mbit/s", 0, 10000000},
		{"10MBIT/S", 0, 10000000},
		{"1gbit", 0, 1000000000},
		{"2.5gbit/s", 0, 2500000000},
		{"1tbit", 0, 1000000000000},
		{"18446744.073709551615tbit", 0, UINT64_MAX},
		{"18446744.073709551616tbit", -ERANGE, 0},
		{"", -EINVAL, 0},
		{"/s", -EINVAL, 0},
		{"9600/s", -EINVAL, 0},
		{"10mb", -EINVAL, 0},
		{"10mbps", -EINVAL, 0},
		{"10mbit/", -EINVAL, 0},
		{"10mbit/m", -EINVAL, 0},
		{"10mbit/s/s", -EINVAL, 0},
		{"0.5bit", -EINVAL, 0},
	};

	(void)state;
	expect_parsed(rate_parse, cases, COUNT(cases));
}

static void durations_are_read_exactly(void **state)
{
	static const struct parse_case cases[] = {
		{"0", 0, 0},
		{"30", 0, 30 * S},
		{"0.25", 0, 250 * MS},
		{"1ns", 0, 1},
		{"7us", 0, 7000},
		{"250ms", 0, 250 * MS},
		{"30s", 0, 30 * S},
		{"5m", 0, 300 * S},
		{"5M", 0, 300 * S},
		{"2h", 0, 7200 * S},
		{"1d", 0, 86400 * S},
		{"1.5h", 0, 5400 * S},
		{"1.5s", 0, 1500 * MS},
		{"0.000000001s", 0, 1},
		{"1m30s", 0, 90 * S},
		{"1d2h3m4s5ms6us7ns", 0, 93784 * S + 5 * MS + 6007},
		{"1h0.5s", 0, 3600 * S + 500 * MS},
		{"18446744073709551615ns", 0, UINT64_MAX},
		{"18446744073s709551615ns", 0, UINT64_MAX},
		{"18446744073s709551616ns", -ERANGE, 0},
		{"213504d", -ERANGE, 0},
		{"99999999999999999999999d1s", -ERANGE, 0},
		{"", -EINVAL, 0},
		{"s", -EINVAL, 0},
		{"1w", -EINVAL, 0},
		{"5 s", -EINVAL, 0},
		{"30s1m", -EINVAL, 0}, /* the largest first */
		{"5s5s", -EINVAL, 0},  /* each once */
		{"1m30", -EINVAL, 0},  /* of what? */
		{"1m30s ", -EINVAL, 0},
		{"-5s", -EINVAL, 0},
		{"0.5ns", -EINVAL, 0},
		{"1..5s", -EINVAL, 0},
		{"99999999999999999999999d1x", -EINVAL, 0},
	};

	(void)state;
	expect_parsed(duration_parse, cases, COUNT(cases));
}

static void amounts_are_rounded_to_one_decimal(void **state)
{
	static const struct {
		char *(*format)(char *buffer, size_t size, uint64_t value, enum units units);
		uint64_t value;
		enum units units;
		const char *text;
	} cases[] = {
		{size_format, 0, UNITS_SI, "0 B"},
		{size_format, 999, UNITS_SI, "999 B"},
		{size_format, 1000, UNITS_SI, "1.0 kB"},
		{size_format, 12345678, UNITS_SI, "12.3 MB"},
		{size_format, 12350000, UNITS_SI, "12.4 MB"},
		{size_format, 999949, UNITS_SI, "999.9 kB"},
		{size_format, 999950, UNITS_SI, "1.0 MB"}, /* not 1000.0 kB */
		{size_format, UINT64_MAX, UNITS_SI, "18.4 EB"},
		{size_format, 1023, UNITS_IEC, "1023 B"},
		{size_format, 1024, UNITS_IEC, "1.0 KiB"},
		{size_format, 12345678, UNITS_IEC, "11.8 MiB"},
		{size_format, 1048575, UNITS_IEC, "1.0 MiB"},
		{size_format, UINT64_MAX, UNITS_IEC, "16.0 EiB"},
		{size_format, 12345678, UNITS_EXACT, "12345678"},
		{rate_format, 0, UNITS_SI, "0 bit/s"},
		{rate_format, 98123456, UNITS_SI, "98.1 Mbit/s"},
		{rate_format, 98123456, UNITS_IEC, "93.6 Mibit/s"},
		{rate_format, 98123456, UNITS_EXACT, "98123456"},
		{count_format, 0, UNITS_SI, "0"},
		{count_format, 999, UNITS_SI, "999"},
		{count_format, 1234567, UNITS_SI, "1.2 M"},
		{count_format, 1234567, UNITS_IEC, "1.2 Mi"},
		{count_format, UINT64_MAX, UNITS_EXACT, "18446744073709551615"},
	};

	(void)state;
	FOR_EACH_CASE(c, cases)
	{
		char text[32];

		EXPECT_TEXT(c->format(text, sizeof(text), c->value, c->units), c->text, "%" PRIu64, c->value);
	}
}

static void durations_are_shortened_to_what_matters(void **state)
{
	static const struct {
		uint64_t ns;
		const char *text;
	} cases[] = {
		{0, "0s"},
		{999, "999ns"},
		{1500, "1us"},
		{250 * MS, "250ms"},
		{S - 1, "999ms"},
		{S, "1s"},
		{1878 * MS, "1.8s"},
		{59 * S + 999 * MS, "59.9s"},
		{60 * S, "1m"},
		{90 * S, "1m30s"},
		{3600 * S + 59 * S, "1h"},
		{2 * 86400 * S + 4 * 3600 * S + 5 * S, "2d4h"},
		{UINT64_MAX, "213503d23h"},
	};

	(void)state;
	FOR_EACH_CASE(c, cases)
	{
		char text[32];

		EXPECT_TEXT(duration_format(text, sizeof(text), c->ns), c->text, "%" PRIu64, c->ns);
	}
}

static void exact_texts_are_the_short_ones(void **state)
{
	static const struct {
		char *(*print)(char *buffer, size_t size, uint64_t value);
		uint64_t value;
		const char *text;
	} cases[] = {
		{duration_print, 0, "0s"},
		{duration_print, 90 * S, "1m30s"},
		{duration_print, 86400 * S, "1d"},
		{duration_print, 250 * MS, "250ms"},
		{duration_print, UINT64_MAX, "213503d23h34m33s709ms551us615ns"},
		{size_print, 0, "0"},
		{size_print, 1234, "1234"},
		{size_print, 64000, "64kb"},
		{size_print, 65536, "64kib"},
		{size_print, 1048576, "1mib"},
		{size_print, 3000000000, "3gb"},
		{size_print, 1ULL << 40, "1tib"},
		{size_print, UINT64_MAX, "18446744073709551615"},
	};

	(void)state;
	FOR_EACH_CASE(c, cases)
	{
		char text[64];

		EXPECT_TEXT(c->print(text, sizeof(text), c->value), c->text, "%" PRIu64, c->value);
	}
}

static void exact_texts_come_back_as_the_same_number(void **state)
{
	uint64_t seed = 3;

	(void)state;
	for (int i = 0; i < 100000; i++) {
		uint64_t value = (uint64_t)random_next(&seed) << 32 | random_next(&seed), again = ~value;
		char text[64];

		value >>= random_below(&seed, 64);
		if (random_below(&seed, 2))
			value = value / 1000000 * 1000000;
		duration_print(text, sizeof(text), value);
		EXPECT(duration_parse(text, &again) == 0 && again == value, "%s", text);
		size_print(text, sizeof(text), value);
		EXPECT(size_parse(text, &again) == 0 && again == value, "%s", text);
		rate_format(text, sizeof(text), value, UNITS_EXACT);
		EXPECT(rate_parse(text, &again) == 0 && again == value, "%s", text);
	}
}

static void a_short_buffer_is_never_overrun(void **state)
{
	char text[4];

	(void)state;
	assert_string_equal(size_format(text, sizeof(text), 12345678, UNITS_SI), "12.");
	assert_string_equal(count_format(text, sizeof(text), 12345678, UNITS_EXACT), "123");
	assert_string_equal(duration_format(text, sizeof(text), 90 * S), "1m3");
	assert_string_equal(duration_print(text, sizeof(text), 90 * S), "1m3");
	assert_string_equal(size_print(text, sizeof(text), 12345678), "123");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST("sizes are read exactly or refused", sizes_are_read_exactly),
		TEST("rates are read exactly or refused", rates_are_read_exactly),
		TEST("durations are read exactly or refused", durations_are_read_exactly),
		TEST("amounts are rounded to one decimal", amounts_are_rounded_to_one_decimal),
		TEST("durations are shortened to what matters", durations_are_shortened_to_what_matters),
		TEST("exact texts are the short ones", exact_texts_are_the_short_ones),
		TEST("exact texts come back as the same number", exact_texts_come_back_as_the_same_number),
		TEST("a short buffer is never overrun", a_short_buffer_is_never_overrun),
	};

	return cmocka_run_group_tests_name("units", tests, NULL, NULL);
}
