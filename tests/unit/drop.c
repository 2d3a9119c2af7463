/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* The names of what the kernel drops for, and where: reasons from BTF, places from kallsyms. */
#include <bpf/btf.h>
#include <stdlib.h>
#include <string.h>

#include "engine/reason.h"
#include "engine/symbol.h"

#include "unit.h"

static struct symbols *symbols_of(const char *text)
{
	struct symbols *symbols = NULL;
	FILE *file = tmpfile();

	assert_non_null(file);
	fputs(text, file);
	rewind(file);
	assert_int_equal(symbols_open(file, &symbols), 0);
	return symbols;
}

static void a_place_is_the_function_that_called(void **state)
{
	struct symbols *symbols = symbols_of("ffffffff81000000 T _stext\n"
					     "ffffffff81000500 d some_data\n"
					     "ffffffff81000210 T __pfx_udp_rcv\n"
					     "ffffffff81000220 T udp_rcv\n"
					     "ffffffff81000220 t udp_rcv_alias\n"
					     "ffffffff81000100 t kfree.part.0\n"
					     "not a line of it\n"
					     "ffffffffc0001000 t nft_do_chain\t[nf_tables]\n"
					     "ffffffff81000400 W weak");
	static const struct {
		uint64_t address;
		const char *place;
	} cases[] = {
		{0xffffffff81000105, "kfree.part.0+0x5"},
		{0xffffffff81000220,
			"kfree.part.0+0x120"}, /* a call at the very end of the function before */
		{0xffffffff81000221, "udp_rcv+0x1"},
		{0xffffffff810003ff, "udp_rcv+0x1df"},
		{0xffffffff81000510, "weak+0x110"},
		{0xffffffffc00010a4, "nft_do_chain+0xa4 [nf_tables]"},
		{0xffffffff81000001, "_stext+0x1"},
		{0xffffffff81000000, "unknown"},
		{0xffffffffc0ffffff, "unknown"}, /* far behind the last one */
		{0, "unknown"},
	};

	(void)state;
	FOR_EACH_CASE(c, cases)
	{
		char place[160];

		EXPECT_TEXT(symbols_place(symbols, c->address, place, sizeof(place)), c->place, "%#llx",
			(unsigned long long)c->address);
	}
	symbols_free(symbols);
}

static void hidden_symbols_name_nothing(void **state)
{
	static const char *const texts[] = {"0000000000000000 T _stext\n0000000000000000 t udp_rcv\n", "\n"};
	char place[160];

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		struct symbols *symbols = symbols_of(texts[i]);

		assert_string_equal(
			symbols_place(symbols, 0xffffffff81000105, place, sizeof(place)), "unknown");
		symbols_free(symbols);
	}
}

/* Twenty thousand, so that memory grows while it is read. */
static void many_symbols_are_found_each(void **state)
{
	size_t size = 0;
	char *text = NULL, place[160], wanted[160];
	FILE *out = open_memstream(&text, &size);
	struct symbols *symbols;

	(void)state;
	for (unsigned int i = 20000; i > 0; i--)
		fprintf(out, "%016llx t function_%u\n", 0xffffffff81000000ULL + i * 16ULL, i);
	fclose(out);
	symbols = symbols_of(text);
	for (unsigned int i = 1; i <= 20000; i++) {
		symbols_place(symbols, 0xffffffff81000000ULL + i * 16ULL + 7, place, sizeof(place));
		snprintf(wanted, sizeof(wanted), "function_%u+0x7", i);
		assert_string_equal(place, wanted);
	}
	symbols_free(symbols);
	free(text);
}

static void reasons_are_those_of_every_drop_reason_enum(void **state)
{
	struct btf *kernel = btf__new_empty(), *module;
	struct reasons reasons = {};

	(void)state;
	assert_non_null(kernel);
	assert_true(btf__add_enum(kernel, "skb_drop_reason", 4) > 0);
	assert_int_equal(btf__add_enum_value(kernel, "SKB_NOT_DROPPED_YET", 0), 0);
	assert_int_equal(btf__add_enum_value(kernel, "SKB_DROP_REASON_NO_SOCKET", 3), 0);
	assert_true(btf__add_enum(kernel, "colour", 4) > 0);
	assert_int_equal(btf__add_enum_value(kernel, "RED", 4), 0);
	assert_true(btf__add_enum(kernel, "", 4) > 0);
	assert_int_equal(btf__add_enum_value(kernel, "BLUE", 5), 0);
	module = btf__new_empty_split(kernel);
	assert_non_null(module);
	assert_true(btf__add_enum(module, "ovs_drop_reason", 4) > 0);
	assert_int_equal(btf__add_enum_value(module, "OVS_DROP_EXPLICIT", 0x20002), 0);

	assert_int_equal(reasons_add(&reasons, kernel, 1), 0);
	assert_null(reasons_find(&reasons, 0x20002));
	assert_int_equal(reasons_add(&reasons, module, btf__type_cnt(kernel)), 0);
	assert_int_equal(reasons_add(&reasons, kernel, 1), 0); /* the same again adds nothing */
	assert_int_equal(reasons.count, 3);
	assert_string_equal(reasons_find(&reasons, 3), "NO_SOCKET");
	assert_string_equal(reasons_find(&reasons, 0x20002), "OVS_DROP_EXPLICIT");
	assert_null(reasons_find(&reasons, 4));
	assert_null(reasons_find(&reasons, 5));
	reasons_free(&reasons);
	btf__free(module);
	btf__free(kernel);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST("a place is the function that called", a_place_is_the_function_that_called),
		TEST("hidden symbols name nothing", hidden_symbols_name_nothing),
		TEST("many symbols are found each", many_symbols_are_found_each),
		TEST("reasons are those of every drop reason enum",
			reasons_are_those_of_every_drop_reason_enum),
	};

	return cmocka_run_group_tests_name("drop", tests, NULL, NULL);
}
