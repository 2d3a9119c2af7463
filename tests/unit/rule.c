/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include "model/rule.h"

#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "compile/guard.h"
#include "rules.h"

#define CONTAINER "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static void rules_are_printed_in_one_way(void **state)
{
	static const struct printed_case cases[] = {
		{"deny connect", "deny connect"},
		{"  deny\tcreate\n raw ", "deny create raw"},
		{"allow bind", "allow bind"},
		{"deny connect by user 1000 to 10.0.0.0/8", "deny connect by user 1000 to 10.0.0.0/8"},
		{"deny connect to 10.0.0.0/8 by user root", "deny connect by user root to 10.0.0.0/8"},
		{"deny connect tcp to any port https", "deny connect tcp to port 443"},
		{"deny connect to any", "deny connect"},
		{"deny connect to 192.0.2.1/32 port 80,443,8000-8080",
			"deny connect to 192.0.2.1 port 80,443,8000-8080"},
		{"deny connect ip6 to 2001:DB8:0::/32", "deny connect ip6 to 2001:db8::/32"},
		{"deny connect ip udp", "deny connect ip udp"},
		{"deny bind stream not by unit nginx to port 1-1023",
			"deny bind stream not by unit nginx.service to port 1-1023"},
		{"deny send dgram by group 0 to ::1", "deny send dgram by group 0 to ::1"},
		{"deny create dgram", "deny create dgram"},
		{"deny create raw proto 1", "deny create raw proto icmp"},
		{"deny create raw proto 89", "deny create raw proto 89"},
		{"deny create proto tcp", "deny create tcp"},
		{"deny create proto 17", "deny create udp"},
		{"deny create proto 1", "deny create icmp"},
		{"deny create icmp6", "deny create icmp6"},
		{"deny create sctp", "deny create sctp"},
		{"deny create proto 132", "deny create sctp"},
		{"deny create proto gre", "deny create proto gre"},
		{"deny create proto 200", "deny create proto 200"},
		{"deny connect proto udplite", "deny connect proto 136"},
		{"deny connect icmp to 192.0.2.1", "deny connect icmp to 192.0.2.1"},
		{"deny create by exe /usr/bin/curl", "deny create by exe /usr/bin/curl"},
		{"deny create by cgroup /sys/fs/cgroup/a/b/", "deny create by cgroup /a/b"},
		{"deny create by container " CONTAINER, "deny create by container " CONTAINER},
		{"deny create by pid 1", "deny create by pid 1"},
		{"deny connect \"no more of it\"", "deny connect \"no more of it\""},
		{"deny connect by user 0 \"a\"  ", "deny connect by user 0 \"a\""},
		{"deny connect \"  \xc3\xa4  by user x\"", "deny connect \"  \xc3\xa4  by user x\""},
	};

	(void)state;
	FOR_EACH_CASE(c, cases)
	{
		expect_printed(c, true);
	}
}

static void wrong_rules_say_what_would_be_right_and_where(void **state)
{
	static const struct refused_case cases[] = {
		{"", "expected a rule, got the end of the sentence",
			"accept, drop, reject, limit, guarantee, assign, count, log, mark, redirect, mirror "
			"or rewrite; deny or "
			"allow for sockets",
			1},
		{"dany connect", "expected a rule, got 'dany'", "did you mean 'deny'?", 1},
		{"deny", "expected a call, got the end of the sentence", "create, bind, connect or send", 5},
		{"deny conect", "expected a call, got 'conect'", "did you mean 'connect'?", 6},
		{"deny listen", "the kernel does not ask before a socket listens",
			"deny bind: what listens has to be bound", 6},
		{"deny create packet", "the kernel asks nobody about packet sockets (AF_PACKET)",
			"raw: raw IP sockets; packet sockets take CAP_NET_RAW", 13},
		{"deny create to 10.0.0.0/8", "a socket that is created has no address yet",
			"connect, send or bind, or no 'to'", 13},
		{"deny connect raw", "the kernel does not ask before a 'raw' socket's connect",
			"tcp, udp, icmp, icmp6, stream or dgram, or deny create", 14},
		{"deny send tcp", "the kernel does not ask before a 'tcp' socket's send",
			"udp or dgram, or deny create", 11},
		{"deny bind icmp", "the kernel does not ask before a 'icmp' socket's bind",
			"tcp, udp, stream or dgram, or deny create", 11},
		{"deny connect proto 89", "the kernel does not ask before a 'proto' socket's connect",
			"tcp, udp, icmp, icmp6, stream or dgram, or deny create", 14},
		{"deny connect from 10.0.0.0/8", "unknown word 'from'",
			"did you mean 'to'?  It is the address that is bound, connected or sent to", 14},
		{"deny bind port 80", "unknown word 'port'", "did you mean 'to port'?", 11},
		{"deny connect tpc", "unknown word 'tpc'", "did you mean 'tcp'?", 14},
		{"deny connect by user 0 tcp", "'tcp' comes too late",
			"the call, then ip or ip6, then the kind of socket, then the rest", 24},
		{"deny connect by user 0 by user 1", "a second 'by'",
			"one owner; another rule for another one", 24},
		{"deny connect to ::1 to ::2", "a second 'to'",
			"one address or prefix; another rule for another one", 21},
		{"deny connect not to ::1", "expected 'by' behind 'not', got 'to'", "not by user NAME", 18},
		{"deny connect by user no-such-user-here", "unknown user 'no-such-user-here'",
			"a user of this host, or a number", 22},
		{"deny connect by usr root", "unknown kind of owner 'usr'", "did you mean 'user'?", 17},
		{"deny connect by container 0123456789ab",
			"a rule cannot go by the beginning of a container's id",
			"all 64 digits of it, or its cgroup", 14},
		{"deny connect ip to ::1", "'::1' is IPv6, but 'ip' is IPv4",
			"one family: a match with both never fits", 20},
		{"deny create icmp6 \"x", "the comment has no end", "a quote behind it, too", 19},
		{"deny connect icmp to port 80", "'icmp' has no ports", "tcp, udp, or no protocol", 27},
		{"deny connect icmp6 to 10.0.0.1", "'10.0.0.1' is IPv4, but 'icmp6' is IPv6",
			"one family: a match with both never fits", 23},
		{"deny connect to 10.0.0.1/8", "'10.0.0.1/8' has bits set behind its length",
			"10.0.0.0/8, or the address without a length", 17},
		{"deny connect \"\"", "the comment is empty", "text between the quotes", 14},
		{"deny connect \"a\" by user 0", "something stands behind the comment",
			"the comment at the end", 18},
		{"deny connect \"a\tb\"", "the comment is text in UTF-8, on one line", "", 16},
		{"deny connect \"\xff\"", "the comment is text in UTF-8, on one line", "", 15},
	};

	(void)state;
	FOR_EACH_CASE(c, cases)
	{
		expect_refused(c);
	}
}

static void too_long_rules_are_refused(void **state)
{
	char text[RULE_TEXT_MAX + 64], comment[RULE_COMMENT_MAX + 1] = "";
	struct error error = {0};
	struct rule rule;

	(void)state;
	memset(comment, 'x', RULE_COMMENT_MAX);
	snprintf(text, sizeof(text), "deny connect \"%s\"", comment);
	EXPECT(rule_parse(text, &rule, &error) == -EINVAL, "a long comment");
	EXPECT_TEXT(error.want, "at most 127 bytes", "a long comment");
	memset(text, ' ', sizeof(text) - 1);
	memcpy(text, "deny connect", 12);
	text[sizeof(text) - 1] = '\0';
	EXPECT(rule_parse(text, &rule, &error) == -EINVAL, "a long rule");
	EXPECT_TEXT(error.what, "the rule is too long", "a long rule");
}

static void wide_rules_cover_narrow_ones(void **state)
{
	static const struct covers_case cases[] = {
		{"deny connect", "allow connect tcp by user 0 to ::1 port 80 \"x\"", true},
		{"deny connect", "deny bind", false},
		{"deny connect tcp", "deny connect", false},
		{"deny connect stream", "deny connect tcp", true},
		{"deny connect ip", "deny connect to 10.0.0.0/8", true},
		{"deny connect ip6", "deny connect to 10.0.0.0/8", false},
		{"deny connect ip", "deny connect to ::1", false},
		{"deny connect to 10.0.0.0/8", "deny connect ip", false},
		{"deny connect to 10.0.0.0/8", "deny connect to 10.1.0.0/16 port 80", true},
		{"deny connect to 10.1.0.0/16", "deny connect to 10.0.0.0/8", false},
		{"deny connect to 10.0.0.0/8", "deny connect to 11.0.0.1", false},
		{"deny connect to 0.0.0.0/0", "deny connect to ::1", false},
		{"deny connect to port 1-1023", "deny connect to port 80,443", true},
		{"deny connect to port 1-1023", "deny connect to port 80,8080", false},
		{"deny connect to port 1-1023", "deny connect", false},
		{"deny connect to port 80", "deny connect to 10.0.0.1 port 80", true},
		{"deny connect by user 0", "deny connect by user root", true},
		{"deny connect by user 0", "deny connect by user 1", false},
		{"deny connect by user 0", "deny connect by group 0", false},
		{"deny connect by user 0", "deny connect not by user 0", false},
		{"deny connect by user 0", "deny connect", false},
		{"deny connect by cgroup /a", "deny connect by cgroup /a/b", true},
		{"deny connect by cgroup /a", "deny connect by cgroup /ab", false},
		{"deny connect by cgroup /a/b", "deny connect by cgroup /a", false},
		{"deny connect not by cgroup /a", "deny connect not by cgroup /a/b", false},
		{"deny connect by unit nginx", "deny connect by unit nginx.service", true},
	};

	(void)state;
	FOR_EACH_CASE(c, cases)
	{
		expect_covers(c);
	}
}

static void compiled_rules_hold_what_the_kernel_compares(void **state)
{
	static const uint8_t address[] = {10, 128, 0, 0}, mask[] = {255, 128, 0, 0};
	struct rule rule = parsed("allow bind tcp by cgroup /a/b/c to 10.128.0.0/9 port 80,8000-8080");
	struct guard_rule compiled = guard_compile(&rule);

	(void)state;
	assert_int_equal(compiled.allow, 1);
	assert_int_equal(compiled.call, GUARD_BIND);
	assert_int_equal(compiled.family, 4);
	assert_int_equal(compiled.type, SOCK_STREAM);
	assert_int_equal(compiled.protocol, IPPROTO_TCP);
	assert_memory_equal(compiled.address, address, 4);
	assert_memory_equal(compiled.mask, mask, 4);
	assert_int_equal(compiled.mask[1], 0);
	assert_int_equal(compiled.port_count, 2);
	assert_int_equal(compiled.ports[1].low, 8000);
	assert_int_equal(compiled.ports[1].high, 8080);
	assert_int_equal(compiled.owner.kind, OWNER_CONDITION_CGROUP);
	assert_int_equal(compiled.owner.number, 3);
	assert_true(compiled.owner.hash[0] == owner_hash("/a/b/c", 6));

	rule = parsed("deny connect not by user 7 to 2001:db8::/33");
	compiled = guard_compile(&rule);
	assert_int_equal(compiled.allow, 0);
	assert_int_equal(compiled.family, 6);
	assert_int_equal(compiled.protocol, -1);
	assert_int_equal(compiled.owner.kind, OWNER_CONDITION_USER);
	assert_int_equal(compiled.owner_not, 1);
	assert_int_equal(compiled.owner.number, 7);
	assert_memory_equal(compiled.mask, "\xff\xff\xff\xff\x80\0\0\0\0\0\0\0\0\0\0\0", 16);

	rule = parsed("deny connect by pod 8f2d1c5e-0b5a-4c58-9a52-3f4a2b1c0d9e");
	compiled = guard_compile(&rule);
	assert_int_equal(compiled.owner.kind, OWNER_CONDITION_NAME);
	for (int i = 0; i < OWNER_CONDITION_NAMES; i++)
		assert_true(compiled.owner.hash[i] != 0);
	assert_true(compiled.owner.hash[1] ==
		    owner_hash("kubepods-burstable-pod8f2d1c5e_0b5a_4c58_9a52_3f4a2b1c0d9e.slice", 64));
}

static void rules_stand_in_the_lists_of_the_calls_they_judge(void **state)
{
	static const char *const texts[] = {
		"deny send", "deny create", "allow connect", "deny bind", "deny connect"};
	struct guard_policy *policy = calloc(1, sizeof(*policy));

	(void)state;
	assert_non_null(policy);
	for (size_t i = 0; i < COUNT(texts); i++) {
		struct rule rule = parsed(texts[i]);

		policy->rules[policy->count++] = guard_compile(&rule);
	}
	guard_list(policy);
	assert_int_equal(policy->lists[GUARD_CREATE].count, 1);
	assert_int_equal(policy->lists[GUARD_CREATE].rules[0], 1);
	assert_int_equal(policy->lists[GUARD_BIND].count, 1);
	assert_int_equal(policy->lists[GUARD_BIND].rules[0], 3);
	assert_int_equal(policy->lists[GUARD_CONNECT].count, 2);
	assert_int_equal(policy->lists[GUARD_CONNECT].rules[0], 2);
	assert_int_equal(policy->lists[GUARD_CONNECT].rules[1], 4);
	assert_int_equal(policy->lists[GUARD_SEND].count, 1);
	assert_int_equal(policy->lists[GUARD_CONNECT_DATAGRAM].count, 3);
	assert_int_equal(policy->lists[GUARD_CONNECT_DATAGRAM].rules[0], 0);
	assert_int_equal(policy->lists[GUARD_CONNECT_DATAGRAM].rules[2], 4);
	free(policy);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST("rules are printed in one way", rules_are_printed_in_one_way),
		TEST("wrong rules say what would be right and where",
			wrong_rules_say_what_would_be_right_and_where),
		TEST("too long rules are refused", too_long_rules_are_refused),
		TEST("wide rules cover narrow ones", wide_rules_cover_narrow_ones),
		TEST("compiled rules hold what the kernel compares",
			compiled_rules_hold_what_the_kernel_compares),
		TEST("rules stand in the lists of the calls they judge",
			rules_stand_in_the_lists_of_the_calls_they_judge),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
