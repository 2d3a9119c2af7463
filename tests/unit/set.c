/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include "model/set.h"

#include <errno.h>

#include "unit.h"

/* All entries in one text, with spaces. */
struct collected {
	char text[1024];
	size_t count, fail_at;
};

static int collect(void *context, const struct set_entry *entry)
{
	struct collected *all = context;
	char text[ADDRESS_TEXT_MAX];

	if (all->fail_at && all->count + 1 == all->fail_at)
		return 42;
	assert_int_equal(set_entry_print(entry, text, sizeof(text)), 0);
	if (all->count++)
		strncat(all->text, " ", sizeof(all->text) - strlen(all->text) - 1);
	strncat(all->text, text, sizeof(all->text) - strlen(all->text) - 1);
	return 0;
}

static void entries_are_prefixes_or_ports(void **state)
{
	static const struct {
		const char *text, *entries;
	} cases[] = {
		{"192.0.2.1", "192.0.2.1"},
		{"192.0.2.1/32", "192.0.2.1"},
		{"10.0.0.0/8", "10.0.0.0/8"},
		{"0.0.0.0/0", "0.0.0.0/0"},
		{"2001:DB8::/32", "2001:db8::/32"},
		{"::ffff:1.2.3.4", "::ffff:1.2.3.4"},
		{"::/0", "::/0"},
		{"80", "80"},
		{"0", "0"},
		{"8000-8080", "8000-8080"},
		{"7-7", "7"},
		{"10.0.0.1-10.0.0.1", "10.0.0.1"},
		{"10.0.0.0-10.0.0.255", "10.0.0.0/24"},
		{"10.0.0.1-10.0.0.6", "10.0.0.1 10.0.0.2/31 10.0.0.4/31 10.0.0.6"},
		{"0.0.0.0-255.255.255.255", "0.0.0.0/0"},
		{"255.255.255.254-255.255.255.255", "255.255.255.254/31"},
		{"::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "::/0"},
		{"2001:db8::1-2001:db8::3", "2001:db8::1 2001:db8::2/127"},
	};

	(void)state;
	FOR_EACH_CASE(c, cases)
	{
		struct collected all = {};
		struct error error = {};

		EXPECT(set_entry_parse(c->text, collect, &all, &error) == 0, "%s: %s", c->text, error.what);
		EXPECT_TEXT(all.text, c->entries, "%s", c->text);
	}
}

static void wrong_entries_say_what_would_be_right_and_where(void **state)
{
	static const char *const entry = "an address, a prefix such as 10.0.0.0/8, a range, or a port";
	const struct {
		const char *text, *what, *want;
		unsigned int column;
	} cases[] = {
		{"", "expected an entry of a set, got ''", entry, 1},
		{"example.com", "expected an entry of a set, got 'example.com'", entry, 1},
		{"10.0.0", "expected an entry of a set, got '10.0.0'", entry, 1},
		{"10.0.0.256", "expected an entry of a set, got '10.0.0.256'", entry, 1},
		{"10.0.0.01", "expected an entry of a set, got '10.0.0.01'", entry, 1},
		{"10.0.0.1x", "expected an entry of a set, got '10.0.0.1x'", entry, 1},
		{"1::2::3", "expected an entry of a set, got '1::2::3'", entry, 1},
		{"10.0.0.0/33", "expected a prefix length, got '33'", "0 to 32", 10},
		{"10.0.0.0/", "expected a prefix length, got ''", "0 to 32", 10},
		{"::/129", "expected a prefix length, got '129'", "0 to 128", 4},
		{"10.0.0.1/8", "'10.0.0.1/8' has bits set behind its length",
			"10.0.0.0/8, or the address without a length", 1},
		{"10.0.0.2-10.0.0.1", "the range 10.0.0.2-10.0.0.1 runs backwards", "the lower address first",
			1},
		{"10.0.0.2-::1", "a range from one family to the other",
			"two addresses of IPv4, or two of IPv6", 10},
		{"10.0.0.2-", "expected an address behind '-', got ''", "a range such as 192.0.2.1-192.0.2.9",
			10},
		{"65536", "expected a port, got '65536'", "0 to 65535, or low-high", 1},
		{"80-", "expected a port, got ''", "0 to 65535, or low-high", 4},
		{"90-80", "the range 90-80 runs backwards", "80-90", 1},
		{"80x", "expected a port, got '80x'", "0 to 65535, or low-high", 1},
	};

	(void)state;
	FOR_EACH_CASE(c, cases)
	{
		struct collected all = {};
		struct error error = {};

		EXPECT(set_entry_parse(c->text, collect, &all, &error) == -EINVAL, "%s", c->text);
		EXPECT_TEXT(error.what, c->what, "%s", c->text);
		EXPECT_TEXT(error.want, c->want, "%s", c->text);
		EXPECT(error.column == c->column, "%s: column %u, wanted %u", c->text, error.column,
			c->column);
		EXPECT(!all.count, "%s: something was added", c->text);
		EXPECT(set_entry_parse(c->text, collect, &all, NULL) == -EINVAL, "%s", c->text);
	}
}

static void lists_have_comments_and_blank_lines(void **state)
{
	static const char list[] = "# a netset\n\n10.0.0.0/8 # private\n  192.0.2.1\t; SBL1\r\n;\n::1";
	struct collected all = {};
	struct error error = {};
	size_t bad = 7;

	(void)state;
	assert_int_equal(
		set_list_parse(list, sizeof(list) - 1, "list", false, collect, &all, &bad, &error), 0);
	assert_string_equal(all.text, "10.0.0.0/8 192.0.2.1 ::1");
	assert_int_equal(bad, 0);
	assert_int_equal(set_list_parse("", 0, "list", false, collect, &all, NULL, &error), 0);
	assert_int_equal(all.count, 3);
}

static void bad_lines_end_a_list_or_are_counted(void **state)
{
	static const char list[] = "10.0.0.0/8\n\n  10.0.0.300\n443\n::1\n";
	struct collected all = {};
	struct error error = {};
	size_t bad = 7;

	(void)state;
	assert_int_equal(
		set_list_parse(list, sizeof(list) - 1, "bad.txt", false, collect, &all, &bad, &error),
		-EINVAL);
	assert_string_equal(error.what, "expected an entry of a set, got '10.0.0.300'");
	assert_string_equal(error.file, "bad.txt");
	assert_int_equal(error.line, 3);
	assert_int_equal(error.column, 3);
	assert_string_equal(error.excerpt, "  10.0.0.300");
	assert_int_equal(bad, 7);

	all = (struct collected){};
	assert_int_equal(
		set_list_parse(list, sizeof(list) - 1, "bad.txt", true, collect, &all, &bad, &error), 0);
	assert_string_equal(all.text, "10.0.0.0/8 ::1");
	assert_int_equal(bad, 2);

	assert_int_equal(
		set_list_parse("10.0.0.1\n80\n", 12, "mixed", false, collect, &all, &bad, &error), -EINVAL);
	assert_string_equal(error.what, "a port in a list of addresses");
	assert_int_equal(error.line, 2);
}

/* Gives so many bytes at once, then fails if it is told to. */
struct dripping {
	const char *text;
	size_t length, step;
	int failure;
};

static ssize_t drip(void *from, char *buffer, size_t size)
{
	struct dripping *source = from;
	size_t length = source->step < source->length ? source->step : source->length;

	if (!source->length)
		return source->failure;
	length = length < size ? length : size;
	memcpy(buffer, source->text, length);
	source->text += length;
	source->length -= length;
	return (ssize_t)length;
}

static void lists_may_come_in_pieces(void **state)
{
	static const char list[] = "10.0.0.0/8 # private\n\n192.0.2.1\n  10.0.0.300\r\n::1";
	static const char long_end[] = "\n10.0.0.1\n10.0.0.2x";
	const size_t long_length = 200000;
	char *text = malloc(long_length + sizeof(long_end));
	struct error error = {};
	size_t bad = 7;

	(void)state;
	assert_non_null(text);
	for (size_t step = 1; step <= sizeof(list); step++) {
		struct dripping source = {list, sizeof(list) - 1, step, 0};
		struct collected all = {};

		assert_int_equal(
			set_list_stream(drip, &source, "list", true, collect, &all, &bad, &error), 0);
		assert_string_equal(all.text, "10.0.0.0/8 192.0.2.1 ::1");
		assert_int_equal(bad, 1);

		source = (struct dripping){list, sizeof(list) - 1, step, 0};
		all = (struct collected){};
		error = (struct error){};
		assert_int_equal(
			set_list_stream(drip, &source, "list", false, collect, &all, NULL, &error), -EINVAL);
		assert_string_equal(all.text, "10.0.0.0/8 192.0.2.1");
		assert_int_equal(error.line, 4);
		assert_int_equal(error.column, 3);

		source = (struct dripping){list, 10, step, -EIO};
		assert_int_equal(
			set_list_stream(drip, &source, "list", false, collect, &all, NULL, &error), -EIO);
	}
	/* a line that is longer than any piece */
	memset(text, '#', long_length);
	memcpy(text + long_length, long_end, sizeof(long_end));
	{
		struct dripping source = {text, strlen(text), SIZE_MAX, 0};
		struct collected all = {};

		assert_int_equal(
			set_list_stream(drip, &source, "list", false, collect, &all, NULL, &error), -EINVAL);
		assert_string_equal(all.text, "10.0.0.1");
		assert_int_equal(error.line, 3);
	}
	free(text);
}

static void what_the_caller_says_ends_a_list(void **state)
{
	struct collected all = {.fail_at = 2};
	struct error error = {};

	(void)state;
	assert_int_equal(set_list_parse("1\n2\n3\n", 6, "list", true, collect, &all, NULL, &error), 42);
	assert_int_equal(all.count, 1);
	all = (struct collected){.fail_at = 3};
	assert_int_equal(set_entry_parse("10.0.0.1-10.0.0.6", collect, &all, &error), 42);
	assert_int_equal(all.count, 2);
}

static void names_are_plain(void **state)
{
	static const char *const good[] = {"a", "blocklist", "Web-2_x", "abcdefghijklmnopqrstuvwxyz01234"};
	static const char *const bad[] = {
		"", "1a", "-a", "a b", "a.b", "\xc3\xa4", "abcdefghijklmnopqrstuvwxyz012345"};
	struct error error = {};

	(void)state;
	FOR_EACH_CASE(name, good)
	{
		EXPECT(set_name_check(*name, &error) == 0, "%s", *name);
	}
	FOR_EACH_CASE(name, bad)
	{
		EXPECT(set_name_check(*name, &error) == -EINVAL, "%s", *name);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST("entries are prefixes or ports", entries_are_prefixes_or_ports),
		TEST("wrong entries say what would be right and where",
			wrong_entries_say_what_would_be_right_and_where),
		TEST("lists have comments and blank lines", lists_have_comments_and_blank_lines),
		TEST("bad lines end a list or are counted", bad_lines_end_a_list_or_are_counted),
		TEST("lists may come in pieces", lists_may_come_in_pieces),
		TEST("what the caller says ends a list", what_the_caller_says_ends_a_list),
		TEST("names are plain", names_are_plain),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
