/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include "basic/address.h"

#include <errno.h>

#include "unit.h"

static void addresses_are_printed_as_rfc5952_says(void **state)
{
	static const struct {
		const char *text, *printed;
	} cases[] = {
		{"0.0.0.0", "0.0.0.0"},
		{"192.0.2.1", "192.0.2.1"},
		{"255.255.255.255", "255.255.255.255"},
		{"::", "::"},
		{"::1", "::1"},
		{"1::", "1::"},
		{"0:0:0:0:0:0:0:1", "::1"},
		/* 4.1: no leading zeros */
		{"2001:0db8:0000:0000:0000:0000:0000:0001", "2001:db8::1"},
		/* 4.2.1: as short as possible */
		{"2001:db8:0:0:0:0:2:1", "2001:db8::2:1"},
		{"2001:db8::0:1", "2001:db8::1"},
		/* 4.2.2: one group alone is not shortened */
		{"2001:db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1"},
		{"2001:db8::1:1:1:1:1", "2001:db8:0:1:1:1:1:1"},
		/* 4.2.3: the longest run, the first of equals */
		{"2001:0:0:1:0:0:0:1", "2001:0:0:1::1"},
		{"2001:db8:0:0:1:0:0:1", "2001:db8::1:0:0:1"},
		{"0:0:1:0:0:1:0:0", "::1:0:0:1:0:0"},
		{"1:0:0:0:0:0:0:0", "1::"},
		{"1:2:3:4:5:6:0:0", "1:2:3:4:5:6::"},
		{"0:2:3:4:5:6:7:8", "0:2:3:4:5:6:7:8"},
		{"1:2:3:4:5:6:7:0", "1:2:3:4:5:6:7:0"},
		/* 4.3: lower case */
		{"2001:DB8::ABCD", "2001:db8::abcd"},
		/* 5: mixed notation for IPv4-mapped addresses, and only for those */
		{"::ffff:192.0.2.1", "::ffff:192.0.2.1"},
		{"::ffff:c000:201", "::ffff:192.0.2.1"},
		{"::1:2", "::1:2"},
		{"::1.2.3.4", "::102:304"},
		{"64:ff9b::192.0.2.33", "64:ff9b::c000:221"},
		{"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"},
	};

	(void)state;
	FOR_EACH_CASE(c, cases)
	{
		struct address address;
		char text[ADDRESS_TEXT_MAX];

		EXPECT(address_parse(c->text, &address) == 0, "%s", c->text);
		EXPECT_TEXT(address_print(text, sizeof(text), &address), c->printed, "%s", c->text);
	}
}

static void what_is_no_address_is_refused_and_leaves_the_result_alone(void **state)
{
	static const char *const cases[] = {"", " ", "1", "1.2.3", "1.2.3.4.5", "256.0.0.1", "01.2.3.4",
		"0x1.2.3.4", "1.2.3.4 ", " 1.2.3.4", "1.2.3.4/8", "localhost", ":", ":::", "1:2:3:4:5:6:7",
		"1:2:3:4:5:6:7:8:9", "1::2::3", "12345::", "::g", "fe80::1%eth0", "[::1]", "::1.2.3",
		"-1.2.3.4"};

	(void)state;
	FOR_EACH_CASE(text, cases)
	{
		struct address address = {.family = 99};

		EXPECT(address_parse(*text, &address) == -EINVAL, "'%s'", *text);
		EXPECT(address.family == 99, "'%s'", *text);
	}
}

static void prefixes_are_read_and_printed(void **state)
{
	static const struct {
		const char *text, *printed;
		uint8_t family, length;
	} cases[] = {
		{"10.0.0.0/8", "10.0.0.0/8", 4, 8},
		{"0.0.0.0/0", "0.0.0.0/0", 4, 0},
		{"192.0.2.1", "192.0.2.1", 4, 32},
		{"192.0.2.1/32", "192.0.2.1", 4, 32},
		{"192.0.2.128/25", "192.0.2.128/25", 4, 25},
		{"::/0", "::/0", 6, 0},
		{"2001:db8::/32", "2001:db8::/32", 6, 32},
		{"2001:DB8:0::/33", "2001:db8::/33", 6, 33},
		{"2001:db8::1", "2001:db8::1", 6, 128},
		{"2001:db8::1/128", "2001:db8::1", 6, 128},
		{"fe80::/10", "fe80::/10", 6, 10},
	};

	(void)state;
	FOR_EACH_CASE(c, cases)
	{
		struct prefix prefix;
		char text[ADDRESS_TEXT_MAX];

		EXPECT(prefix_parse(c->text, &prefix) == 0, "%s", c->text);
		EXPECT(prefix.address.family == c->family, "%s", c->text);
		EXPECT(prefix.length == c->length, "%s", c->text);
		EXPECT_TEXT(prefix_print(text, sizeof(text), &prefix), c->printed, "%s", c->text);
	}
}

static void a_prefix_with_host_bits_is_refused_and_the_cleared_one_offered(void **state)
{
	static const struct {
		const char *text, *cleared;
	} cases[] = {
		{"10.0.0.1/8", "10.0.0.0/8"},
		{"10.255.255.255/31", "10.255.255.254/31"},
		{"10.0.0.1/0", "0.0.0.0/0"},
		{"192.0.2.129/25", "192.0.2.128/25"},
		{"2001:db8::1/64", "2001:db8::/64"},
		{"2001:db8:8000::/32", "2001:db8::/32"},
		{"::1/127", "::/127"},
	};

	(void)state;
	FOR_EACH_CASE(c, cases)
	{
		struct prefix prefix;
		char text[ADDRESS_TEXT_MAX];

		EXPECT(prefix_parse(c->text, &prefix) == -EDOM, "%s", c->text);
		EXPECT_TEXT(prefix_print(text, sizeof(text), &prefix), c->cleared, "%s", c->text);
	}
}

static void what_is_no_prefix_is_refused(void **state)
{
	static const char *const cases[] = {"", "/", "/8", "10.0.0.0/", "10.0.0.0/33", "10.0.0.0/08",
		"10.0.0.0/-1", "10.0.0.0/+8", "10.0.0.0/8 ", "10.0.0.0/8/8", "10.0.0.0/255.0.0.0", "10/8",
		"::/129", "::/0128", "::/4294967296", "2001:db8::/x",
		"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa/8"};

	(void)state;
	FOR_EACH_CASE(text, cases)
	{
		struct prefix prefix = {.length = 99};

		EXPECT(prefix_parse(*text, &prefix) == -EINVAL, "'%s'", *text);
		EXPECT(prefix.length == 99, "'%s'", *text);
	}
}

static void a_prefix_contains_its_addresses_and_no_others(void **state)
{
	static const struct {
		const char *prefix, *address;
		bool contains;
	} cases[] = {
		{"0.0.0.0/0", "255.255.255.255", true},
		{"0.0.0.0/0", "::", false},
		{"::/0", "0.0.0.0", false},
		{"10.0.0.0/8", "10.255.255.255", true},
		{"10.0.0.0/8", "11.0.0.0", false},
		{"10.0.0.0/9", "10.127.255.255", true},
		{"10.0.0.0/9", "10.128.0.0", false},
		{"192.0.2.4/30", "192.0.2.7", true},
		{"192.0.2.4/30", "192.0.2.8", false},
		{"192.0.2.4/30", "192.0.2.3", false},
		{"192.0.2.1", "192.0.2.1", true},
		{"192.0.2.1", "192.0.2.0", false},
		{"2001:db8::/33", "2001:db8:7fff:ffff::", true},
		{"2001:db8::/33", "2001:db8:8000::", false},
		{"::1", "::1", true},
		{"::1", "::", false},
		{"::ffff:10.0.0.0/104", "::ffff:10.1.2.3", true},
		{"10.0.0.0/8", "::ffff:10.1.2.3", false},
	};

	(void)state;
	FOR_EACH_CASE(c, cases)
	{
		struct prefix prefix;
		struct address address;

		assert_int_equal(prefix_parse(c->prefix, &prefix), 0);
		assert_int_equal(address_parse(c->address, &address), 0);
		EXPECT(prefix_contains(&prefix, &address) == c->contains, "%s in %s", c->address, c->prefix);
	}
}

static void addresses_are_ordered_with_ipv4_first(void **state)
{
	static const char *const ascending[] = {
		"0.0.0.0", "9.255.255.255", "10.0.0.0", "255.255.255.255", "::", "::1", "1::", "ffff::"};

	(void)state;
	for (size_t i = 0; i < COUNT(ascending); i++) {
		for (size_t j = 0; j < COUNT(ascending); j++) {
			struct address a, b;
			int order;

			assert_int_equal(address_parse(ascending[i], &a), 0);
			assert_int_equal(address_parse(ascending[j], &b), 0);
			order = address_compare(&a, &b);
			EXPECT((order < 0) == (i < j) && (order > 0) == (i > j), "%s, %s", ascending[i],
				ascending[j]);
		}
	}
}

static void random_addresses_and_prefixes_come_back_from_their_text(void **state)
{
	uint64_t seed = 1;

	(void)state;
	for (int i = 0; i < 50000; i++) {
		struct prefix prefix = {.address.family = random_below(&seed, 2) ? 4 : 6}, again;
		unsigned int bytes = prefix.address.family == 4 ? 4 : 16;
		struct address address = {.family = prefix.address.family}, address_again;
		char text[ADDRESS_TEXT_MAX];

		/* Many zeros, so that runs of them are common. */
		for (unsigned int j = 0; j < bytes; j++)
			address.bytes[j] = random_below(&seed, 3) ? 0 : (uint8_t)random_next(&seed);
		address_print(text, sizeof(text), &address);
		EXPECT(address_parse(text, &address_again) == 0, "%s", text);
		EXPECT(address_compare(&address, &address_again) == 0, "%s", text);

		prefix.length = (uint8_t)random_below(&seed, bytes * 8 + 1);
		for (unsigned int j = 0; j < prefix.length; j++)
			prefix.address.bytes[j / 8] |= (uint8_t)(random_below(&seed, 2) << (7 - j % 8));
		prefix_print(text, sizeof(text), &prefix);
		EXPECT(prefix_parse(text, &again) == 0, "%s", text);
		EXPECT(again.length == prefix.length, "%s", text);
		EXPECT(address_compare(&prefix.address, &again.address) == 0, "%s", text);
		EXPECT(prefix_contains(&prefix, &again.address), "%s", text);
	}
}

static void a_short_buffer_is_never_overrun(void **state)
{
	struct prefix prefix;
	char text[8];

	(void)state;
	assert_int_equal(prefix_parse("2001:db8:1:2::/64", &prefix), 0);
	assert_string_equal(prefix_print(text, sizeof(text), &prefix), "2001:db");
	assert_string_equal(address_print(text, 1, &prefix.address), "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST("addresses are printed as RFC 5952 says", addresses_are_printed_as_rfc5952_says),
		TEST("what is no address is refused and leaves the result alone",
			what_is_no_address_is_refused_and_leaves_the_result_alone),
		TEST("prefixes are read and printed", prefixes_are_read_and_printed),
		TEST("a prefix with host bits is refused and the cleared one offered",
			a_prefix_with_host_bits_is_refused_and_the_cleared_one_offered),
		TEST("what is no prefix is refused", what_is_no_prefix_is_refused),
		TEST("a prefix contains its addresses and no others",
			a_prefix_contains_its_addresses_and_no_others),
		TEST("addresses are ordered, IPv4 first", addresses_are_ordered_with_ipv4_first),
		TEST("random addresses and prefixes come back from their text",
			random_addresses_and_prefixes_come_back_from_their_text),
		TEST("a short buffer is never overrun", a_short_buffer_is_never_overrun),
	};

	return cmocka_run_group_tests_name("address", tests, NULL, NULL);
}
