/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include <netinet/in.h>

#include "model/rule.h"
#include "rules.h"

#define CONTAINER "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static void rules_are_printed_in_one_way(void **state)
{
	static const struct printed_case cases[] = {
		{"drop in tcp to port 80", NULL},
		{"accept in tcp to port 22 from @bastions log",
			"accept in tcp from @bastions to port 22 log"},
		{"limit in udp to port 53 per source to 100/s burst 200", NULL},
		{"drop out by user root to 10.0.0.0/8", "drop out to 10.0.0.0/8 by user root"},
		{"limit in tcp to port 22 per source to 10 connections", NULL},
		{"limit in tcp per destination to 1 connections",
			"limit in tcp per destination to 1 connection"},
		{"reject in tcp to port 25 with reset", NULL},
		{"reject in with prohibited", NULL},
		{"reject with host-unreachable log", NULL},
		{"drop in matching \"tcp[13] == 2\"", NULL},
		{"drop not matching \"icmp\" log", NULL},
		{"count out tcp", NULL},
		{"count", NULL},
		{"log in icmp", NULL},
		{"mark 7 out udp to port 53", NULL},
		{"mark 0x10 in", "mark 16 in"},
		{"mark 1/0xff in mark 0x100/0xff00", "mark 0x1/0xff in mark 0x100/0xff00"},
		{"drop mark 9", NULL},
		{"drop mark 0x2/0xffffffff", "drop mark 2"},
		{"rewrite dscp ef out tcp to port 22", NULL},
		{"rewrite dscp 46 out", "rewrite dscp ef out"},
		{"rewrite dscp 3 dscp cs0", NULL},
		{"rewrite source mac 02:00:00:AA:bb:01 out", "rewrite source mac 02:00:00:aa:bb:01 out"},
		{"rewrite destination mac 02:00:00:00:00:01 on eth0", NULL},
		{"redirect to veth1 in ip6 from 2001:db8::/32", NULL},
		{"mirror to veth1", NULL},
		{"drop in state invalid", NULL},
		{"accept state related,established", "accept state established,related"},
		{"drop in on eth0 ip tcp host 192.0.2.1 port 80 from 10.0.0.0/8 port 1-1023", NULL},
		{"drop from @a port @b to @c port 5,7-9", NULL},
		{"drop host @a", NULL},
		{"drop in tcp port @b host @a", "drop in tcp host @a port @b"},
		{"accept host @a port 80 from 10.0.0.0/8", NULL},
		{"accept host 10.0.0.1 port @b to @c port @d", NULL},
		{"drop from port @b to any port @c", "drop from port @b to port @c"},
		{"drop in to 192.0.2.1 port @web", NULL},
		{"drop in tcp flags syn/syn,ack", NULL},
		{"drop in tcp flags syn/ack", "drop in tcp flags syn/syn,ack"},
		{"drop in tcp flags fin,psh,urg", NULL},
		{"drop in tcp flags none", NULL},
		{"drop in tcp flags none/syn", NULL},
		{"drop in tcp flags syn,rst/syn", "drop in tcp flags syn,rst"},
		{"drop in icmp echo-request", NULL},
		{"drop in icmp unreachable/4", NULL},
		{"drop in icmp 3/1", "drop in icmp unreachable/1"},
		{"drop in icmp6 200/0", NULL},
		{"drop dscp af41", NULL},
		{"drop vlan 5", NULL},
		{"drop untagged", NULL},
		{"drop fragment", NULL},
		{"drop udp to port 53 fragment first", NULL},
		{"drop udp fragment later", NULL},
		{"drop out not by user root", NULL},
		{"drop out by container " CONTAINER, NULL},
		{"accept in tcp for 1h30m \"only now\"", NULL},
		{"drop \"a  b\"", NULL},
		{"limit in to 10mbit", NULL},
		{"limit in to 10000kbit burst 1mb", "limit in to 10mbit burst 1mb"},
		{"limit in to 1gbit/s burst 12500000", "limit in to 1gbit burst 12500kb"},
		{"limit in per source to 1gbit/s burst 12500000", "limit in per source to 1gbit"},
		{"limit in to 9600bit burst 2kb", NULL},
		{"limit in icmp per source/24 to 5/m", "limit in icmp per source/24,128 to 5/m"},
		{"limit in per source/24,64 to 2/h", NULL},
		{"limit in ip6 per source/64 to 1/d burst 3", "limit in ip6 per source/32,64 to 1/d burst 3"},
		{"limit in to 192.0.2.1 port 80 to 100/s burst 100",
			"limit in to 192.0.2.1 port 80 to 100/s"},
		{"limit to 5/s to 10.0.0.0/8 log", "limit to 10.0.0.0/8 to 5/s log"},
	};

	(void)state;
	FOR_EACH_CASE(c, cases)
	{
		expect_printed(c, false);
	}
}

static void wrong_rules_say_what_would_be_right_and_where(void **state)
{
	static const char *const terms =
		"in or out, on INTERFACE, ip or ip6, a protocol, then from, to, host, port, flags, icmp, "
		"state, dscp, mark, vlan, untagged, fragment, by, not, matching; log, with, per, burst, for, "
		"guarantee, ceiling, weight, priority, under, engine; "
		"\"a comment\"";
	const struct refused_case cases[] = {
		{"drp in", "expected a rule, got 'drp'", "did you mean 'drop'?", 1},
		{"deny in tcp to port 80", "expected a call, got 'in'",
			"deny create, bind, connect or send; on packets: drop", 6},
		{"drop connect to 10.0.0.1", "'connect' is about sockets, 'drop' about packets",
			"deny connect or allow connect", 6},
		{"drop in tpc", "unknown word 'tpc'", "did you mean 'tcp'?", 9},
		{"drop in xyzzy", "unknown word 'xyzzy'", terms, 9},
		{"drop in stat invalid", "unknown word 'stat'", "did you mean 'state'?", 9},
		{"drop tcp in", "'in' comes too late",
			"in or out, then on INTERFACE, then ip or ip6, then a protocol, then the rest", 10},
		{"drop in out", "'out' contradicts 'in'", "one of the two", 9},
		{"drop in icmp to port 80", "'icmp' has no ports", "tcp, udp, sctp, or no protocol", 22},
		{"drop in icmp to port @web", "'icmp' has no ports", "tcp, udp, sctp, or no protocol", 22},
		{"drop in flags syn", "flags without tcp", "tcp in front of it", 9},
		{"drop in udp flags syn", "'udp' has no TCP flags", "tcp in front of it", 13},
		{"drop in tcp flags sin", "expected a TCP flag, got 'sin'",
			"fin, syn, rst, psh, ack, urg, ece or cwr", 19},
		{"drop udp to port 53 fragment", "a later fragment has no ports, no flags and no ICMP type",
			"'fragment first', or 'fragment' without them", 21},
		{"drop in from @1x", "'1x' can be no set's name",
			"a letter, then letters, digits, '-' and '_'", 14},
		{"drop in from @", "'' can be no set's name", "a letter, then letters, digits, '-' and '_'",
			14},
		{"drop icmp port @web", "'icmp' has no ports", "tcp, udp, sctp, or no protocol", 16},
		{"drop in from @a,@b", "'@a,@b' is more than one set",
			"one set; a rule for each, or a set that has the entries of all", 14},
		{"drop in from @a or @b", "'or' is not understood in rules",
			"a rule for each; a set for several addresses, one list for several ports: port "
			"80,443",
			17},
		{"drop host @a host @b", "a second 'host'", "'host' once", 14},
		{"drop in from not @a", "expected an address, a prefix, a set, 'any' or 'port', got 'not'",
			"all but these: a rule in front of this one that accepts them", 14},
		{"drop in from 10.0.0.1/8", "'10.0.0.1/8' has bits set behind its length",
			"10.0.0.0/8, or the address without a length", 14},
		{"drop ip from ::1", "'::1' is IPv6, but 'ip' is IPv4",
			"one family: a match with both never fits", 14},
		{"drop from 10.0.0.1 to ::1", "'::1' is IPv6, but '10.0.0.1' is IPv4",
			"one family: a match with both never fits", 23},
		{"drop state", "expected states, got the end of the sentence",
			"new, established, related, invalid", 11},
		{"drop state old", "expected a state, got 'old'", "new, established, related or invalid", 12},
		{"drop state invald", "expected a state, got 'invald'", "did you mean 'invalid'?", 12},
		{"drop dscp 64", "expected a DSCP, got '64'",
			"0 to 63, or a name: cs0 to cs7, af11 to af43, ef, va, le", 11},
		{"drop vlan 5 untagged", "'untagged' contradicts 'vlan'", "one of the two", 13},
		{"drop by user root by pid 1", "a second 'by'", "'by' once", 19},
		{"drop not from 10.0.0.1", "expected 'by' or 'matching' behind 'not', got 'from'",
			"not by user NAME, not matching \"EXPRESSION\"; a rule before this one for the rest",
			10},
		{"drop matching tcp", "expected an expression in quotes, got 'tcp'",
			"matching \"tcp[13] == 2\"", 15},
		{"drop matching \"tcp", "the expression has no end", "a quote behind it, too", 15},
		{"drop matching \"tcp\"log", "something stands right behind the quote", "a space", 20},
		{"drop \"a\" log", "something stands behind the comment", "the comment at the end", 10},
		{"drop with reset", "'with' belongs to 'reject'", "reject ..., or a rule without 'with'", 6},
		{"reject in with reset", "only TCP knows a reset",
			"reject ... tcp ... with reset, or with port-unreachable", 16},
		{"reject in udp with rest", "expected an answer, got 'rest'", "did you mean 'reset'?", 20},
		{"log in log", "a second 'log'", "one: the rule logs what fits", 8},
		{"limit in tcp", "a limit without a rate",
			"limit ... to 100/s, to 10mbit or to 10 connections", 13},
		{"limit in to 100", "100 of what?", "100/s (packets), 100mbit or 100 connections", 13},
		{"limit in to 100/x", "expected a period, got 'x'", "s, m, h or d: 100/s", 17},
		{"limit in to 0/s", "0/s is nothing",
			"1/d to 1000000000/s packets, 8kbit to 1000gbit, 1 to 1000000 connections", 13},
		{"limit in to 2000000000/s", "2000000000/s is too much",
			"1/d to 1000000000/s packets, 8kbit to 1000gbit, 1 to 1000000 connections", 13},
		{"limit in per source to 12bit", "12bit is no whole number of bytes a second", "8bit", 24},
		{"limit in to 10mbps", "'10mbps' may be megabits or megabytes a second",
			"10mbit, or 80mbit if bytes are meant", 13},
		{"limit in to 5/s to 6/s", "a second 'to'", "'to' once", 17},
		{"limit in to 10/s burst 64kb", "expected a burst, got '64kb'",
			"a number of packets, such as 200", 24},
		{"limit in to 10mbit burst 100", "the burst 100 is too small",
			"1514 bytes (one packet) to 1000gb", 26},
		{"limit in to 10 connections burst 5", "connections are counted: they have no burst",
			"a rule without 'burst'", 34},
		{"limit in per sorce to 5/s", "expected source or destination behind 'per', got 'sorce'",
			"did you mean 'source'?", 14},
		{"limit in per source/33 to 5/s", "expected a prefix length, got '33'",
			"leading bits that make one: 24, or 24,64 for IPv4 and IPv6", 21},
		{"drop in per source", "'per' belongs to 'limit'", "limit ..., or a rule without 'per'", 9},
		{"drop in to 100/s", "a rate, but 'drop' has none", "limit ... to 100/s", 12},
		{"mark in", "expected a mark, got 'in'", "a number of 32 bits, such as 7 or 0x10, or N/MASK",
			6},
		{"mark 4294967296 in", "expected a mark, got '4294967296'",
			"a number of 32 bits, such as 7 or 0x10, or N/MASK", 6},
		{"mark 3/2 in", "the mark 0x3 has bits outside of its mask 0x2", "0x2/0x2", 6},
		{"mark 3/0 in", "the mask 0 leaves no bit", "the bits that are meant, such as 0xff", 8},
		{"redirect veth1 in", "expected 'to', got 'veth1'", "redirect to INTERFACE ...", 10},
		{"redirect to a-name-that-is-too-long",
			"the interface name 'a-name-that-is-too-long' is too long", "at most 15 bytes", 13},
		{"mirror to veth*", "'veth*' can be no interface's name",
			"the name of one interface, such as eth0", 11},
		{"redirect to eth0 out on eth0", "what leaves by eth0 is there already",
			"another interface to redirect to", 22},
		{"rewrite ttl 5", "expected what to rewrite, got 'ttl'",
			"dscp D, source mac MAC or destination mac MAC", 9},
		{"rewrite source 02:00:00:00:00:01", "expected 'mac', got '02:00:00:00:00:01'",
			"only MAC addresses are rewritten: source mac MAC", 16},
		{"rewrite source mac 02:00:00:00:00", "expected a MAC address, got '02:00:00:00:00'",
			"six bytes, such as 02:00:00:00:00:01", 20},
		{"drop for 1ms", "1ms is too short", "1s to 3650d", 10},
		{"drop for ever", "expected a duration, got 'ever'",
			"how long the rule lasts, such as 10m or 1h", 10},
		{"drop icmp 3/256", "ICMP code 256 is out of range", "0 to 255", 13},
		{"drop icmp 3/x", "expected an ICMP code, got 'x'", "0 to 255", 13},
		{"drop out by container 0123456789ab",
			"a rule cannot go by the beginning of a container's id",
			"all 64 digits of it, or its cgroup", 10},
	};

	(void)state;
	FOR_EACH_CASE(c, cases)
	{
		expect_refused(c);
	}
}

static void what_was_said_is_in_the_rule(void **state)
{
	struct rule rule =
		parsed("limit in udp from @a port @b to port 53 per source/24,56 to 90/m burst 7 log");

	(void)state;
	assert_int_equal(rule.verb, RULE_LIMIT);
	assert_int_equal(rule.match.direction, MATCH_IN);
	assert_int_equal(rule.match.protocol, IPPROTO_UDP);
	assert_string_equal(rule.packet.from_set, "a");
	assert_string_equal(rule.packet.from_port_set, "b");
	assert_int_equal(rule.match.to.ports[0].low, 53);
	assert_int_equal(rule.packet.unit, POLICY_LIMIT_PACKETS);
	assert_int_equal(rule.packet.rate.rate, 90);
	assert_int_equal(rule.packet.rate.burst, 7);
	assert_true(rule.packet.rate.period_ns == 60000000000ULL);
	assert_int_equal(rule.packet.per, POLICY_PER_SOURCE);
	assert_int_equal(rule.packet.per_bits4, 24);
	assert_int_equal(rule.packet.per_bits6, 56);
	assert_true(rule.packet.log);

	rule = parsed("limit to 8mbit");
	assert_int_equal(rule.packet.unit, POLICY_LIMIT_BYTES);
	assert_int_equal(rule.packet.rate.rate, 1000000);
	assert_int_equal(rule.packet.rate.burst, 131072);
	assert_true(rule.packet.rate.period_ns == 1000000000ULL);
	assert_int_equal(rule.packet.per, POLICY_PER_RULE);

	rule = parsed("limit per destination to 10 connections");
	assert_int_equal(rule.packet.unit, POLICY_LIMIT_CONNECTIONS);
	assert_int_equal(rule.packet.rate.burst, 10);
	assert_int_equal(rule.packet.rate.rate, 0);
	assert_int_equal(rule.packet.per_bits4, 32);
	assert_int_equal(rule.packet.per_bits6, 128);

	rule = parsed("drop tcp flags syn/ack,rst state new,invalid mark 5/7 dscp 9 for 2s");
	assert_int_equal(rule.packet.flags, 0x02);
	assert_int_equal(rule.packet.flags_mask, 0x16);
	assert_int_equal(rule.packet.states, 1 << POLICY_STATE_NEW | 1 << POLICY_STATE_INVALID);
	assert_int_equal(rule.packet.mark, 5);
	assert_int_equal(rule.packet.mark_mask, 7);
	assert_int_equal(rule.packet.dscp, 9);
	assert_int_equal(rule.packet.icmp_code, -1);
	assert_int_equal(rule.packet.set_dscp, -1);
	assert_true(rule.for_ns == 2000000000ULL);

	rule = parsed("drop tcp flags none");
	assert_int_equal(rule.packet.flags, 0);
	assert_int_equal(rule.packet.flags_mask, 0xff);
}

static void wide_rules_cover_narrow_ones(void **state)
{
	static const struct covers_case cases[] = {
		{"drop host @a", "drop in host @a", true},
		{"drop host @a", "drop from @a", true},
		{"drop host @a", "drop udp to @a port 53", true},
		{"drop from @a", "drop host @a", false},
		{"drop host @a", "drop host @b", false},
		{"drop port @a", "drop tcp from port @a", true},
		{"drop from port @a", "drop port @a", false},
		{"drop", "accept in on eth0 ip tcp from @a to 10.0.0.1 port 5 flags syn log", true},
		{"drop", "deny connect", false},
		{"drop in", "drop", false},
		{"drop in", "drop out", false},
		{"drop on eth0", "drop", false},
		{"drop on eth0", "drop on eth1", false},
		{"drop ip", "drop from 10.0.0.0/8", true},
		{"drop ip", "drop icmp", true},
		{"drop ip6", "drop icmp", false},
		{"drop ip", "drop host 10.0.0.0/8", true},
		{"drop tcp", "drop tcp to port 80", true},
		{"drop to port 80", "drop tcp to port 80", true},
		{"drop tcp to port 80", "drop to port 80", false},
		{"drop host 10.0.0.0/8", "drop from 10.1.0.0/16", true},
		{"drop host 10.0.0.0/8", "drop to 10.1.0.0/16", true},
		{"drop from 10.0.0.0/8", "drop host 10.1.0.0/16", false},
		{"drop port 80", "drop from port 80", true},
		{"drop port 80", "drop from port 80-81", false},
		{"drop from @a", "drop from @a port 80", true},
		{"drop from @a", "drop from @b", false},
		{"drop from @a", "drop from 10.0.0.1", false},
		{"drop from 0.0.0.0/0", "drop from @a", false},
		{"drop to port @a", "drop to port @a", true},
		{"drop to port @a", "drop to port 80", false},
		{"drop tcp flags syn", "drop tcp flags syn,ack", true},
		{"drop tcp flags syn/syn,ack", "drop tcp flags syn,ack", false},
		{"drop tcp flags syn/syn,ack", "drop tcp flags syn/syn,ack,rst", true},
		{"drop tcp flags none/ack", "drop tcp flags syn", false},
		{"drop icmp 3", "drop icmp 3/1", true},
		{"drop icmp 3/1", "drop icmp 3", false},
		{"drop state new,established", "drop state new", true},
		{"drop state new", "drop state new,established", false},
		{"drop state new", "drop", false},
		{"drop fragment", "drop fragment first", true},
		{"drop fragment later", "drop fragment", false},
		{"drop fragment", "drop", false},
		{"drop mark 1/1", "drop mark 3", true},
		{"drop mark 1/1", "drop mark 2", false},
		{"drop dscp ef", "drop dscp 46 vlan 3", true},
		{"drop untagged", "drop vlan 3", false},
		{"drop by user 0", "drop by user root", true},
		{"drop by user 0", "drop not by user root", false},
		{"drop matching \"tcp\"", "drop matching \"tcp\" log", true},
		{"drop matching \"tcp\"", "drop not matching \"tcp\"", false},
	};

	(void)state;
	FOR_EACH_CASE(c, cases)
	{
		expect_covers(c);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST("rules are printed in one way", rules_are_printed_in_one_way),
		TEST("wrong rules say what would be right and where",
			wrong_rules_say_what_would_be_right_and_where),
		TEST("what was said is in the rule", what_was_said_is_in_the_rule),
		TEST("wide rules cover narrow ones", wide_rules_cover_narrow_ones),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
