// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* Compiled policies say of every packet what the rules say, one after the other. */
#include "unit.h"

#include <arpa/inet.h>
#include <errno.h>

#include "bpf/lib/policy.h"
#include "lib/policy.h"

#define AGAIN_UNITS (1U << 18)

struct policy {
	struct policy_image image;
	struct policy_judge *judge;
	struct trie_memory memory;
	const struct policy_header *header;
};

/* `room`: where it is to be compiled; 0: in a memory of its own. */
static void policy_open_in(
	struct policy *policy, const struct policy_order *order, struct policy_unit *room, size_t room_count)
{
	struct error error = {0};
	int r = room_count ? policy_compile_in(order, room, room_count, &policy->image, &error)
	                   : policy_compile(order, &policy->image, &error);

	if (r || policy_judge_open(order, &policy->judge, &error)) {
		error_print(&error, "policy: ", stderr);
		fail();
	}
	policy->memory = (struct trie_memory){policy->image.units, policy->image.count};
	policy->header = (const void *)policy->image.units;
}

static void policy_open(struct policy *policy, const struct policy_order *order)
{
	policy_open_in(policy, order, NULL, 0);
}

static void policy_close(struct policy *policy)
{
	policy_image_clear(&policy->image);
	policy_judge_close(policy->judge);
}

/* The places in the order of the rules that fit, one after the other; the number of rules at the end. */
static size_t next_source(
	struct policy *policy, struct policy_cursor *cursor, const struct policy_facts *facts, size_t count)
{
	uint32_t unit = policy_next(&policy->memory, cursor, facts);

	return unit ? ((const struct policy_rule *)&policy->image.units[unit])->source : count;
}

static void print_facts(const struct policy_facts *facts)
{
	print_error("family %u src %08x dst %08x sport %u dport %u proto %u icmp %x flags %x dscp %u vlan %u "
		    "state %u out %u fragment %u ifindex %u sets %u %u\n",
		facts->family, ntohl(facts->src[0]), ntohl(facts->dst[0]), facts->sport, facts->dport,
		facts->proto, facts->icmp, facts->flags, facts->dscp, facts->vlan, facts->state, facts->out,
		facts->fragment, facts->ifindex, facts->src_sets, facts->dst_sets);
}

static void expect_judged(
	struct policy *policy, const struct policy_order *order, const struct policy_facts *facts)
{
	struct policy_cursor cursor;
	size_t start = 0, found, wanted;
	char text[RULE_TEXT_MAX] = "none", other[RULE_TEXT_MAX] = "none";

	policy_begin(&policy->memory, &cursor, facts);
	do {
		found = next_source(policy, &cursor, facts, order->count);
		wanted = policy_judge(policy->judge, facts, start);
		if (found != wanted) {
			print_facts(facts);
			if (found < order->count)
				rule_print(order->sources[found].rule, text, sizeof(text));
			if (wanted < order->count)
				rule_print(order->sources[wanted].rule, other, sizeof(other));
			fail_msg("rule %zu (%s) instead of %zu (%s)", found, text, wanted, other);
		}
		start = wanted + 1;
	} while (wanted < order->count);
	assert_int_equal(cursor.broken, 0);
}

static void expect_all_judged(const struct policy_order *order, size_t headers_count, uint64_t *state)
{
	struct policy_headers headers;
	struct policy policy;

	policy_open(&policy, order);
	policy_headers_make(&headers, policy.judge, headers_count, state);
	for (size_t i = 0; i < headers.count; i++)
		expect_judged(&policy, order, &headers.facts[i]);
	policy_headers_clear(&headers);
	policy_close(&policy);
}

static void test_random(void **unused)
{
	uint64_t state = 20261121;

	(void)unused;
	for (int round = 0; round < 60; round++) {
		struct policy_rules rules = {0};

		policy_rules_random(&rules, 1 + random_below(&state, round % 4 ? 40 : 700), &state);
		rules.order.xdp = round % 5 == 4;
		expect_all_judged(&rules.order, 2000, &state);
		policy_rules_clear(&rules);
	}
}

/* A memory that had other policies before, and other things before them. */
static void test_again(void **unused)
{
	struct policy_unit *room = malloc(AGAIN_UNITS * sizeof(*room)), behind;
	uint64_t state = 20261122;

	(void)unused;
	assert_non_null(room);
	memset(room, 0xa5, AGAIN_UNITS * sizeof(*room));
	for (int round = 0; round < 40; round++) {
		struct policy_rules rules = {0};
		struct policy_headers headers;
		struct policy_image image = {.count = 4711}, other;
		struct policy policy;
		struct error error = {0};

		policy_rules_random(&rules, 1 + random_below(&state, round % 4 ? 40 : 300), &state);
		rules.order.xdp = round % 5 == 4;
		assert_int_equal(policy_compile(&rules.order, &other, &error), 0);
		assert_true(other.count < AGAIN_UNITS);

		/* just enough, and too little by one; nothing is written behind it */
		behind = room[other.count];
		policy_open_in(&policy, &rules.order, room, other.count);
		assert_int_equal(policy.image.count, other.count);
		assert_memory_equal(&room[other.count], &behind, sizeof(behind));
		policy_headers_make(&headers, policy.judge, 500, &state);
		for (size_t i = 0; i < headers.count; i++)
			expect_judged(&policy, &rules.order, &headers.facts[i]);
		behind = room[other.count - 1];
		assert_int_equal(
			policy_compile_in(&rules.order, room, other.count - 1, &image, &error), -ENOSPC);
		assert_memory_equal(&room[other.count - 1], &behind, sizeof(behind));
		assert_int_equal(image.count, 4711);
		EXPECT_TEXT(error.what, "", "%zu units", other.count - 1);

		policy_headers_clear(&headers);
		policy_close(&policy);
		policy_image_clear(&other);
		policy_rules_clear(&rules);
	}
	free(room);
}

static void test_empty(void **unused)
{
	struct policy_rules rules = {0};
	struct policy_facts facts = {.family = 4};
	struct policy policy;
	struct policy_cursor cursor;

	(void)unused;
	policy_rules_add(&rules, "drop");
	rules.order.count = 0;
	policy_open(&policy, &rules.order);
	policy_begin(&policy.memory, &cursor, &facts);
	assert_int_equal(policy_next(&policy.memory, &cursor, &facts), 0);
	assert_int_equal(policy_judge(policy.judge, &facts, 0), 0);
	policy_close(&policy);
	rules.order.count = 1;
	policy_open(&policy, &rules.order);
	for (facts.family = 0; facts.family <= 6; facts.family += 2)
		if (facts.family != 2)
			expect_judged(&policy, &rules.order, &facts);
	policy_close(&policy);
	policy_rules_clear(&rules);
}

static void classes_are_in_the_rules_that_shape(void **unused)
{
	static const struct {
		const char *rule;
		enum policy_action action;
	} cases[] = {
		{"limit tcp to 10mbit", POLICY_SHAPE},
		{"guarantee tcp 10mbit", POLICY_SHAPE},
		{"assign tcp to bulk", POLICY_SHAPE},
		{"limit tcp to 10/s", POLICY_LIMIT},
		{"limit tcp per source to 10mbit", POLICY_LIMIT},
		{"limit tcp to 10mbit log", POLICY_LIMIT},
	};
	struct policy_facts facts = {.family = 4, .proto = 6, .icmp = 65536, .vlan = 4096};

	(void)unused;
	FOR_EACH_CASE(c, cases)
	{
		const struct policy_rule *rule;
		struct policy_rules rules = {0};
		struct policy_cursor cursor;
		struct policy policy;
		uint32_t unit;

		policy_rules_add(&rules, "shape bulk under eth0"); /* declares: fits nothing */
		policy_rules_add(&rules, c->rule);
		policy_rules_add(&rules, "drop tcp");
		rules.sources[1].class = 4711;
		policy_open(&policy, &rules.order);
		policy_begin(&policy.memory, &cursor, &facts);
		unit = policy_next(&policy.memory, &cursor, &facts);
		EXPECT(unit, "%s", c->rule);
		rule = (const struct policy_rule *)&policy.image.units[unit];
		EXPECT(rule->source == 1 && rule->action == c->action && rule->class == 4711, "%s: %u %u %u",
			c->rule, rule->source, rule->action, rule->class);
		/* and goes on to the next */
		EXPECT(next_source(&policy, &cursor, &facts, 3) == 2, "%s", c->rule);
		policy_close(&policy);
		policy_rules_clear(&rules);
	}
}

/* What is kept with a flow must not hang on what its next packet may have otherwise. */
static void test_fickle(void **unused)
{
	static const struct {
		const char *rules[3];
		bool fickle;
	} cases[] = {
		{{"drop tcp to port 80", "accept"}, false},
		{{"drop tcp to port 80 flags syn", "accept"}, true},
		{{"drop tcp to port 81 flags syn", "accept"}, false},
		{{"drop to port 80", "drop tcp to port 80 flags syn"}, false},
		{{"drop tcp to port 80 flags rst", "drop dscp 9", "accept"}, true},
		{{"drop to port 81 dscp 9", "accept"}, false},
		{{"drop to port 80 fragment first", "accept"}, true},
		{{"drop mark 5", "accept"}, true},
		{{"drop matching \"greater 100\"", "accept"}, true},
	};

	(void)unused;
	FOR_EACH_CASE(c, cases)
	{
		struct policy_facts facts = {.family = 4,
			.proto = 6,
			.sport = 4000,
			.dport = 80,
			.icmp = 65536,
			.flags = 2,
			.vlan = 4096};
		struct policy_rules rules = {0};
		struct policy_cursor cursor;
		struct policy policy;

		for (size_t i = 0; i < 3 && c->rules[i]; i++)
			policy_rules_add(&rules, c->rules[i]);
		policy_open(&policy, &rules.order);
		policy_begin(&policy.memory, &cursor, &facts);
		assert_int_not_equal(policy_next(&policy.memory, &cursor, &facts), 0);
		EXPECT(!!cursor.fickle == c->fickle, "%s", c->rules[0]);
		policy_close(&policy);
		policy_rules_clear(&rules);
	}
}

static void test_xdp(void **unused)
{
	static const struct {
		const char *rules[3];
		const char *action; /* of the first that fits a packet from 10.0.0.1 to port 80 */
		bool alone;         /* its source alone tells */
	} cases[] = {
		{{"drop from 10.0.0.0/8"}, "drop", true},
		{{"drop in from 10.0.0.0/8"}, "drop", true},
		{{"drop in from @s0"}, "drop", true},
		{{"drop out from 10.0.0.0/8"}, NULL, false},
		{{"drop in from 10.0.0.0/8 to port 80"}, "drop", false},
		{{"accept in from 10.0.0.0/8", "drop"}, "defer", false},
		{{"drop", "accept in from 10.0.0.0/8"}, "drop", false},
		{{"accept in from 10.0.0.0/8", "accept"}, NULL, false},
		{{"accept in state established", "drop in from 10.0.0.0/8"}, "defer", false},
		{{"drop in from 10.0.0.0/8 log"}, NULL, false},
		{{"drop in from 10.0.0.0/8 vlan 7", "drop in"}, "defer", false},
		{{"drop in by user root", "drop in"}, "defer", false},
		{{"limit in from 10.0.0.0/8 to 10/s"}, "limit", false},
		{{"limit in from 10.0.0.0/8 per source to 10mbit"}, "limit", false},
		{{"limit in from 10.0.0.0/8 to 10mbit"}, NULL, false}, /* a class: tc's */
		{{"limit in from 10.0.0.0/8 to 10mbit", "drop in"}, "defer", false},
		{{"guarantee in to port 80 10mbit", "drop in"}, "defer", false},
		{{"shape bulk in under eth0", "drop in"}, "drop", false},
		{{"accept in from 10.1.0.0/16", "drop in from 10.0.0.0/8"}, "drop", true},
		{{"count in to port 80", "drop in from 10.0.0.0/8"}, "defer", false},
		{{"count in to port 81", "drop in from 10.0.0.0/8"}, "drop", false},
	};
	static const char *const actions[POLICY_ACTIONS] = {
		[POLICY_DROP] = "drop", [POLICY_LIMIT] = "limit", [POLICY_DEFER] = "defer"};

	(void)unused;
	FOR_EACH_CASE(c, cases)
	{
		struct policy_facts facts = {.family = 4,
			.proto = 6,
			.src = {htonl(0x0a000001)},
			.sport = 4000,
			.dport = 80,
			.icmp = 65536,
			.flags = 2,
			.vlan = 4096,
			.src_sets = 1};
		struct policy_rules rules = {0};
		struct policy_cursor cursor;
		struct policy policy;
		uint32_t unit, alone = 0;

		for (size_t i = 0; i < 3 && c->rules[i]; i++)
			policy_rules_add(&rules, c->rules[i]);
		rules.order.xdp = true;
		policy_open(&policy, &rules.order);
		policy_begin(&policy.memory, &cursor, &facts);
		unit = policy_next(&policy.memory, &cursor, &facts);
		EXPECT(!unit == !c->action, "%s: %u", c->rules[0], unit);
		if (unit) {
			const struct policy_rule *rule = (const void *)&policy.image.units[unit];

			EXPECT_TEXT(actions[rule->action], c->action, "%s", c->rules[0]);
		}
		for (uint32_t i = 0; i < cursor.count; i++)
			if (!alone)
				alone = ((const struct policy_row *)&policy.image.units[cursor.rows[i] - 1])
				                ->alone;
		EXPECT(!!alone == c->alone, "%s", c->rules[0]);
		if (alone)
			assert_int_equal(policy.header->rules + alone - 1, unit);
		policy_close(&policy);
		policy_rules_clear(&rules);
	}
}

static void test_refused(void **unused)
{
	static const struct {
		const char *rule, *what;
		int code;
	} cases[] = {
		{"drop from @gone", "there is no set '@gone' of addresses", -ENOENT},
		{"drop to port @gone", "there is no set '@gone' of ports", -ENOENT},
	};

	(void)unused;
	FOR_EACH_CASE(c, cases)
	{
		struct policy_rules rules = {0};
		struct policy_image image = {.count = 4711};
		struct error error = {0};

		policy_rules_add(&rules, "accept tcp");
		policy_rules_add(&rules, c->rule);
		assert_int_equal(policy_compile(&rules.order, &image, &error), c->code);
		EXPECT_TEXT(error.what, c->what, "%s", c->rule);
		assert_int_equal(image.count, 4711);
		policy_rules_clear(&rules);
	}
}

static void test_too_large(void **unused)
{
	struct policy_rules rules = {0};
	struct policy_image image;
	struct error error = {0};

	(void)unused;
	/* both ends of both make four */
	for (int i = 0; i < POLICY_RULES_MAX / 4 + 1; i++)
		policy_rules_add(&rules, "drop tcp host 10.0.0.1 port 80");
	assert_int_equal(policy_compile(&rules.order, &image, &error), -E2BIG);
	rules.order.count--;
	assert_int_equal(policy_compile(&rules.order, &image, &error), 0);
	policy_image_clear(&image);
	policy_rules_clear(&rules);

	for (int i = 0; i <= POLICY_OWNERS_MAX; i++) {
		char text[64];

		snprintf(text, sizeof(text), "drop out by user %d", i);
		policy_rules_add(&rules, text);
	}
	assert_int_equal(policy_compile(&rules.order, &image, &error), -E2BIG);
	rules.order.count--;
	assert_int_equal(policy_compile(&rules.order, &image, &error), 0);
	assert_int_equal(((const struct policy_header *)image.units)->owner_count, POLICY_OWNERS_MAX);
	policy_image_clear(&image);
	policy_rules_clear(&rules);
}

struct shadow {
	size_t hidden, hiding, count;
};

static void see_shadow(void *context, size_t hidden, size_t hiding)
{
	struct shadow *shadow = context;

	if (!shadow->count++)
		*shadow = (struct shadow){hidden, hiding, 1};
}

static void test_shadows(void **unused)
{
	static const struct {
		const char *rules[4];
		size_t hidden, hiding; /* counted from 1; 0: none */
	} cases[] = {
		{{"drop tcp to port 80", "accept udp", "accept tcp to port 80 from 10.0.0.1"}, 3, 1},
		{{"count tcp to port 80", "accept tcp to port 80"}, 0, 0},
		{{"drop in tcp to port 80", "accept tcp to port 80"}, 0, 0},
		{{"drop from 10.0.0.0/8", "accept ip6", "drop tcp from 10.1.2.0/24 flags syn"}, 3, 1},
		{{"drop from 2001:db8::/32", "accept udp from 2001:db8::1 to port 53"}, 2, 1},
		{{"accept", "drop from @s1"}, 2, 1},
		{{"limit udp to 5/s", "drop udp"}, 0, 0},
		{{"limit udp to 5mbit", "drop udp"}, 0, 0},
		{{"accept udp", "assign udp to bulk"}, 2, 1},
		{{"shape bulk under eth0", "accept", "shape a under eth0"}, 0, 0},
		{{"drop on gone", "drop on eth0"}, 0, 0},
		{{"drop port 80", "accept to port 80"}, 2, 1},
	};

	(void)unused;
	FOR_EACH_CASE(c, cases)
	{
		struct policy_rules rules = {0};
		struct shadow shadow = {0};
		struct policy policy;

		for (size_t i = 0; i < 4 && c->rules[i]; i++)
			policy_rules_add(&rules, c->rules[i]);
		policy_open(&policy, &rules.order);
		policy_shadows(policy.judge, see_shadow, &shadow);
		EXPECT(shadow.count == (c->hidden > 0) &&
				(!c->hidden ||
					(shadow.hidden == c->hidden - 1 && shadow.hiding == c->hiding - 1)),
			"%s: %zu by %zu (%zu)", c->rules[0], shadow.hidden, shadow.hiding, shadow.count);
		policy_close(&policy);
		policy_rules_clear(&rules);
	}
}

static void test_classbench(void **unused)
{
	static const char *const names[] = {"acl1_1k", "fw1_1k", "ipc1_1k"};
	const char *place = getenv("CLASSBENCH");
	uint64_t state = 11;

	(void)unused;
	for (size_t i = 0; i < COUNT(names); i++)
		for (unsigned int flags = 0; flags < 4; flags++) {
			struct policy_rules rules = {0};
			char path[512];

			snprintf(path, sizeof(path), "%s/%s",
				place ? place : SOURCE_ROOT "/../shared/data/classbench", names[i]);
			if (policy_rules_classbench(&rules, path, SIZE_MAX, flags)) {
				print_message("there is no %s\n", path);
				skip();
			}
			assert_true(rules.count > 700);
			expect_all_judged(&rules.order, 5000, &state);
			policy_rules_clear(&rules);
		}
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		TEST("rules of every kind decide as they say", test_random),
		TEST("a memory that had another policy before takes one as a new one does", test_again),
		TEST("no rule decides nothing", test_empty),
		TEST("classes are in the rules that shape", classes_are_in_the_rules_that_shape),
		TEST("what may change within a flow is not kept with it", test_fickle),
		TEST("XDP decides what it can and defers the rest", test_xdp),
		TEST("sets that are not there are refused", test_refused),
		TEST("policies that are too large are refused", test_too_large),
		TEST("rules that can never decide are found, and those that hide them", test_shadows),
		TEST("ClassBench's filters decide as they say", test_classbench),
	};

	return cmocka_run_group_tests_name("policy", tests, NULL, NULL);
}
