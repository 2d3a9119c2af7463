/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Compiling and translating; what a translation says of packets is tests/bpf/expression.c's. */
#include "compile/expression.h"

#include <errno.h>
#include <linux/bpf.h>
#include <linux/filter.h>

#include "unit.h"

/* NOLINTBEGIN(misc-redundant-expression): parts of an opcode that are 0 are written all the same. */

static void wrong_expressions_are_refused_where_they_are_wrong(void **state)
{
	static const struct {
		const char *text, *what;
		unsigned int column;
	} cases[] = {
		{"tcp portt 5", "syntax error", 5},
		{"ip and udp porrt 53 and tcp", "syntax error", 12},
		{"tcp ?? udp", "syntax error", 5},
		{"tcp and", "syntax error", 8},
		{"tcp port", "syntax error", 9},
		{"(tcp", "syntax error", 5},
		{"tcp)", "syntax error", 4},
		{"tcp[1", "syntax error", 6},
		{"tcp[tcpflags] & tcp-synn != 0", "syntax error", 17},
		{"tcp or (udp and port 53", "syntax error", 24},
		{"host fd00::zz", "syntax error", 6},
		{"host weir-test.invalid and tcp", "unknown host 'weir-test.invalid'", 6},
		{"tcp or host 1.2.3.4.5", "unknown host '1.2.3.4.5'", 13},
		{"port weir-test or udp", "unknown port 'weir-test'", 6},
		{"ip proto weir-test", "unknown ip proto 'weir-test'", 10},
		{"tcp port 99999", "illegal port number 99999 > 65535", 10},
		{"vlan 5000", "VLAN tag 5000 greater than maximum 4095", 6},
		{"net 10.0.0.1/8", "non-network bits set in \"10.0.0.1/8\"", 5},
		{"1 = 2", "expression rejects all packets", 0},
		{"mpls and vlan", "no VLAN match after MPLS", 0},
	};

	(void)state;
	FOR_EACH_CASE(c, cases)
	{
		struct expression expression = {.plain = {.count = 77}};
		struct error error = {0};

		EXPECT(expression_compile(c->text, EXPRESSION_ETHERNET, 96, &expression, &error) == -EINVAL,
			"%s", c->text);
		EXPECT(strstr(error.what, c->what), "%s: %s", c->text, error.what);
		EXPECT(error.column == c->column, "%s: column %u", c->text, error.column);
		EXPECT(expression.plain.count == 77, "%s", c->text);
	}
}

static void an_expression_that_is_too_long_is_refused(void **state)
{
	static char text[EXPRESSION_TEXT_MAX + 1];
	struct expression expression;
	struct error error = {0};

	(void)state;
	memset(text, ' ', sizeof(text) - 1);
	EXPECT(expression_compile(text, EXPRESSION_ETHERNET, 96, &expression, &error) == -EINVAL, "spaces");
	EXPECT(strstr(error.what, "longer than"), "%s", error.what);
	text[EXPRESSION_TEXT_MAX - 1] = '\0';
	EXPECT(expression_compile(text, EXPRESSION_ETHERNET, 96, &expression, &error) == 0, "one less");
	expression_clear(&expression);
}

static void names_of_this_machine_are_known(void **state)
{
	struct expression expression;

	(void)state;
	EXPECT(expression_compile("tcp port https or proto \\udp", EXPRESSION_RAW, 96, &expression, NULL) ==
			0,
		"services and protocols");
	expression_clear(&expression);
}

static void only_what_says_vlan_has_a_program_for_tags_beside_the_packet(void **state)
{
	static const struct {
		const char *text;
		bool tagged;
	} cases[] = {
		{"", false},
		{"tcp port 443", false},
		{"vlan", true},
		{"not vlan 5", true},
		{"tcp or vlan (0x10) and ip6", true},
		{"(vlan and vlan)", true},
	};

	(void)state;
	FOR_EACH_CASE(c, cases)
	{
		struct expression expression;

		EXPECT(expression_compile(c->text, EXPRESSION_ETHERNET, 96, &expression, NULL) == 0, "%s",
			c->text);
		EXPECT((expression.tagged.count > 0) == c->tagged, "%s", c->text);
		expression_clear(&expression);
	}
}

static void the_first_vlan_means_the_tag_beside_the_packet(void **state)
{
	static const uint8_t ip[34] = {[12] = 0x08, [14] = 0x45, [23] = 6};
	static const uint8_t inner[38] = {[12] = 0x81, [15] = 7, [16] = 0x08, [18] = 0x45, [27] = 6};
	static const struct {
		const char *text;
		bool tagged, has_inner, fits;
	} cases[] = {
		{"tcp", true, false, true},
		{"vlan", true, false, true},
		{"vlan", false, false, false},
		{"vlan", false, true, true},
		{"vlan 100", true, false, true},
		{"vlan 101", true, false, false},
		{"vlan 100 and tcp", true, false, true},
		{"vlan 100 and vlan 7", true, true, true},
		{"vlan 100 and vlan 7 and tcp", true, true, true},
		{"vlan 7", true, true, false},
		{"vlan 7", false, true, true},
		{"not vlan", true, false, false},
		{"not vlan", false, false, true},
	};

	(void)state;
	FOR_EACH_CASE(c, cases)
	{
		struct expression_packet packet = {
			.bytes = c->has_inner ? inner : ip,
			.captured = c->has_inner ? sizeof(inner) : sizeof(ip),
			.length = 60,
			.tagged = c->tagged,
			.tag = 0xa064, /* priority 5, VLAN 100 */
		};
		struct expression expression;

		EXPECT(expression_compile(c->text, EXPRESSION_ETHERNET, 96, &expression, NULL) == 0, "%s",
			c->text);
		EXPECT(expression_run(&expression, &packet) == (c->fits ? 96 : 0), "%s", c->text);
		expression_clear(&expression);
	}
}

/* Translates with tails of one instruction each; returns what expression_translate() did. */
static int translated(const struct expression *expression, size_t *ret_count, struct error *error)
{
	static const struct bpf_insn leave = {.code = BPF_JMP | BPF_EXIT};
	const struct expression_target target = {
		.match = &leave, .match_count = 1, .no_match = &leave, .no_match_count = 1};
	struct expression_code code;
	int r = expression_translate(expression, &target, &code, error);

	if (r == 0) {
		*ret_count = code.count;
		expression_code_clear(&code);
	}
	return r;
}

static void programs_that_are_none_are_refused(void **state)
{
	static struct {
		struct sock_filter filters[2];
		size_t count;
	} cases[] = {
		{{{0}}, 0}, {{{.code = BPF_LD | BPF_IMM}}, 1},                /* no return */
		{{{.code = 0xffff}, {.code = BPF_RET}}, 2},                   /* nothing that is known */
		{{{.code = BPF_JMP | BPF_JA, .k = 1}, {.code = BPF_RET}}, 2}, /* out of it */
		{{{.code = BPF_JMP | BPF_JA, .k = (__u32)-2}, {.code = BPF_RET}}, 2},   /* before it */
		{{{.code = BPF_JMP | BPF_JEQ, .jt = 1}, {.code = BPF_RET}}, 2},         /* out of it */
		{{{.code = BPF_ST, .k = BPF_MEMWORDS}, {.code = BPF_RET}}, 2},          /* no such slot */
		{{{.code = BPF_ALU | BPF_DIV | BPF_K}, {.code = BPF_RET}}, 2},          /* by zero */
		{{{.code = BPF_ALU | BPF_LSH | BPF_K, .k = 32}, {.code = BPF_RET}}, 2}, /* out of the word */
	};

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		struct expression expression = {.plain = {cases[i].filters, cases[i].count}};
		struct error error = {0};
		size_t count;

		EXPECT(translated(&expression, &count, &error) == -EINVAL, "%zu", i);
		EXPECT(error.what[0], "%zu", i);
	}
}

static void a_translation_has_an_end(void **state)
{
	enum { LOADS = 9000 };
	struct sock_filter *filters = calloc(LOADS + 1, sizeof(*filters));
	struct expression expression = {.plain = {filters, LOADS + 1}};
	struct error error = {0};
	size_t count;

	(void)state;
	assert_non_null(filters);
	for (size_t i = 0; i < LOADS; i++)
		filters[i] = (struct sock_filter){.code = BPF_LD | BPF_IND | BPF_W, .k = (__u32)i};
	filters[LOADS] = (struct sock_filter){.code = BPF_RET | BPF_K, .k = 96};
	EXPECT(translated(&expression, &count, &error) == -E2BIG, "%zu", count);
	EXPECT(strstr(error.what, "too long"), "%s", error.what);
	free(filters);
}

static void loads_share_their_check(void **state)
{
	/* four fields of one header: as many checks as one of them needs */
	static const char *const texts[] = {
		"ip[12:4] = 1", "ip[12:4] = 1 and ip[16:4] = 2 and ip[8] = 3 and ip[9] = 6"};
	size_t counts[2] = {0};

	(void)state;
	for (size_t i = 0; i < COUNT(texts); i++) {
		struct expression expression;
		struct error error = {0};

		EXPECT(expression_compile(texts[i], EXPRESSION_RAW, 96, &expression, &error) == 0, "%s",
			error.what);
		EXPECT(translated(&expression, &counts[i], &error) == 0, "%s", error.what);
		expression_clear(&expression);
	}
	/* a load and a comparison each in the direct copy, a call and a comparison each in the patient one */
	EXPECT(counts[1] - counts[0] <= 3 * (2 + 11), "%zu and %zu instructions", counts[0], counts[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST("wrong expressions are refused where they are wrong",
			wrong_expressions_are_refused_where_they_are_wrong),
		TEST("an expression that is too long is refused", an_expression_that_is_too_long_is_refused),
		TEST("names of this machine's services and protocols are known",
			names_of_this_machine_are_known),
		TEST("only what says vlan has a program for tags beside the packet",
			only_what_says_vlan_has_a_program_for_tags_beside_the_packet),
		TEST("the first vlan means the tag beside the packet",
			the_first_vlan_means_the_tag_beside_the_packet),
		TEST("programs that are none are refused", programs_that_are_none_are_refused),
		TEST("a translation has an end", a_translation_has_an_end),
		TEST("loads share their check", loads_share_their_check),
	};

	return cmocka_run_group_tests_name("expression", tests, NULL, NULL);
}
/* NOLINTEND(misc-redundant-expression) */
