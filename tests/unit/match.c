/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include "model/match.h"

#include <errno.h>
#include <netinet/in.h>

#include "lib/match.h"
#include "unit.h"

static struct match parsed(const char *text)
{
	struct error error = {0};
	struct match match;

	EXPECT(match_parse(text, &match, &error) == 0, "%s: %s; %s", text, error.what, error.want);
	return match;
}

static void sentences_are_printed_in_one_way(void **state)
{
	static const struct {
		const char *text, *printed;
	} cases[] = {
		{"", ""},
		{"  \t\n ", ""},
		{"in", "in"},
		{"out", "out"},
		{"on eth0", "on eth0"},
		{"on in", "on in"}, /* an interface may have any name */
		{"ip", "ip"},
		{"ip6", "ip6"},
		{"tcp", "tcp"},
		{"udp", "udp"},
		{"icmp", "icmp"},
		{"icmp6", "icmp6"},
		{"sctp", "sctp"},
		{"gre", "gre"},
		{"esp", "esp"},
		{"ah", "ah"},
		{"proto 6", "tcp"},
		{"proto tcp", "tcp"},
		{"proto 0", "proto 0"},
		{"proto 255", "proto 255"},
		{"proto ospf", "proto 89"},
		{"proto ipv6-icmp", "icmp6"},
		{"from 192.0.2.1", "from 192.0.2.1"},
		{"from 192.0.2.1/32", "from 192.0.2.1"},
		{"to 10.0.0.0/8", "to 10.0.0.0/8"},
		{"to 2001:DB8:0::/32", "to 2001:db8::/32"},
		{"from any", ""},
		{"from any to any", ""},
		{"from any port 53", "from port 53"},
		{"from port 53", "from port 53"},
		{"tcp to port https", "tcp to port 443"},
		{"to port 80,443", "to port 80,443"},
		{"to port 1024-65535", "to port 1024-65535"},
		{"to port 80-80", "to port 80"},
		{"to port ssh,domain,dns,8000-8080", "to port 22,53,53,8000-8080"},
		{"to port 0-65535", "to port 0-65535"},
		{"to port snmp-trap", "to port 162"}, /* a name with a dash is no range */
		{"udp to port ntp", "udp to port 123"},
		{"host 10.0.0.1", "host 10.0.0.1"},
		{"port 53", "port 53"},
		{"host 10.0.0.0/8 port 53", "host 10.0.0.0/8 port 53"},
		/* behind `from`, a port would be its own */
		{"from 10.0.0.1 to 10.0.0.2 host 10.0.0.3", "host 10.0.0.3 from 10.0.0.1 to 10.0.0.2"},
		{"to 10.0.0.2 from 10.0.0.1", "from 10.0.0.1 to 10.0.0.2"},
		{"port 53 from 10.0.0.1 port 1-9", "port 53 from 10.0.0.1 port 1-9"},
		{"flags syn", "flags syn"},
		{"flags ack,syn", "flags syn,ack"},
		{"flags cwr,ece,urg,ack,psh,rst,syn,fin", "flags fin,syn,rst,psh,ack,urg,ece,cwr"},
		{"icmp echo-request", "icmp echo-request"},
		{"icmp 8", "icmp echo-request"},
		{"icmp 255", "icmp 255"},
		{"icmp6 128", "icmp6 echo-request"},
		{"icmp6 unreachable", "icmp6 unreachable"},
		{"icmp unreachable from 10.0.0.1", "icmp unreachable from 10.0.0.1"},
		{"icmp from 10.0.0.1 icmp echo-reply", "icmp echo-reply from 10.0.0.1"},
		{"from 10.0.0.1 icmp 8", "icmp echo-request from 10.0.0.1"},
		{"vlan 0", "vlan 0"},
		{"vlan 4095", "vlan 4095"},
		{"fragment", "fragment"},
		{"udp fragment vlan 7 from 10.0.0.1", "udp from 10.0.0.1 vlan 7 fragment"},
		{"in on eth0 ip tcp from 10.0.0.0/8 port 1024-65535 to 192.0.2.1 port https flags syn vlan "
		 "12",
			"in on eth0 ip tcp from 10.0.0.0/8 port 1024-65535 to 192.0.2.1 port 443 flags syn "
			"vlan 12"},
	};

	(void)state;
	FOR_EACH_CASE(c, cases)
	{
		struct match match = parsed(c->text), again;
		char text[MATCH_TEXT_MAX];

		EXPECT(match_print(&match, text, sizeof(text)) == 0, "%s", c->text);
		EXPECT_TEXT(text, c->printed, "%s", c->text);
		again = parsed(text);
		EXPECT(match_equal(&match, &again), "%s", c->text);
	}
}

static void a_sentence_fills_every_field(void **state)
{
	struct match match = parsed(
		"out on wg0 ip6 tcp from 2001:db8::/32 port 1-2,9 to ::1 host ::2 port 53 flags syn vlan 3");

	(void)state;
	assert_int_equal(match.direction, MATCH_OUT);
	assert_string_equal(match.interface, "wg0");
	assert_int_equal(match.family, 6);
	assert_int_equal(match.protocol, IPPROTO_TCP);
	assert_true(match.from.has_prefix);
	assert_int_equal(match.from.prefix.length, 32);
	assert_int_equal(match.from.port_count, 2);
	assert_int_equal(match.from.ports[0].low, 1);
	assert_int_equal(match.from.ports[0].high, 2);
	assert_int_equal(match.from.ports[1].low, 9);
	assert_int_equal(match.from.ports[1].high, 9);
	assert_true(match.to.has_prefix);
	assert_int_equal(match.to.prefix.length, 128);
	assert_int_equal(match.to.port_count, 0);
	assert_true(match.either.has_prefix);
	assert_int_equal(match.either.port_count, 1);
	assert_int_equal(match.tcp_flags, 2);
	assert_int_equal(match.icmp_type, -1);
	assert_int_equal(match.vlan, 3);
	assert_false(match.fragment);
}

static void an_error_names_the_word_and_its_column(void **state)
{
	static const struct {
		const char *text;
		unsigned int column;
		const char *what, *want;
	} cases[] = {
		{"tcp to port htps", 13, "expected a port, got 'htps'",
			"a number, a name such as https, or low-high"},
		{"port", 5, "expected a port, got the end of the sentence",
			"a number, a name such as https, or low-high"},
		{"port 65536", 6, "port 65536 is out of range", "0 to 65535"},
		{"port 1-70000", 8, "port 70000 is out of range", "0 to 65535"},
		{"port 99999999999999999999", 6, "port 99999999999999999999 is out of range", "0 to 65535"},
		{"port 90-80", 6, "the range 90-80 runs backwards", "80-90"},
		{"port 80,,90", 9, "a port is missing in the list",
			"ports with a comma and no space between them: 80,443"},
		{"port 80, 90", 9, "a port is missing in the list",
			"ports with a comma and no space between them: 80,443"},
		{"port 80,x", 9, "expected a port, got 'x'", "a number, a name such as https, or low-high"},
		{"port 0x50", 6, "expected a port, got '0x50'",
			"a number, a name such as https, or low-high"},
		{"port 080", 6, "expected a port, got '080'", "a number, a name such as https, or low-high"},
		{"port -80", 6, "expected a port, got '-80'", "a number, a name such as https, or low-high"},
		{"port 80-", 6, "expected a port, got '80-'", "a number, a name such as https, or low-high"},
		{"port 1-2-3", 6, "expected a port, got '1-2-3'",
			"a number, a name such as https, or low-high"},
		{"port @web", 6, "'@web' is a set, which cannot stand here",
			"ports; sets stand in rules on packets only"},
		{"port 1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17", 45,
			"more than 16 ports and ranges in one list", "fewer, or a range that holds several"},
		{"tpc to port 80", 1, "unknown word 'tpc'", "did you mean 'tcp'?"},
		{"TCP", 1, "unknown word 'TCP'", "did you mean 'tcp'?"},
		{"tcp form 10.0.0.1", 5, "unknown word 'form'", "did you mean 'from'?"},
		{"xyzzy", 1, "unknown word 'xyzzy'",
			"in or out, on INTERFACE, ip or ip6, a protocol, then from, to, host, port, flags, "
			"icmp, "
			"vlan, fragment, by"},
		{"tcp 443", 5, "unknown word '443'", "did you mean 'port 443'?"},
		{"10.0.0.1", 1, "unknown word '10.0.0.1'", "did you mean 'host 10.0.0.1'?"},
		{"in by user no-such-user", 12, "unknown user 'no-such-user'",
			"a user of this host, or a number"},
		{"in by group rot", 13, "unknown group 'rot'", "did you mean 'root'?"},
		{"in by usr root", 7, "unknown kind of owner 'usr'", "did you mean 'user'?"},
		{"by", 3, "expected an owner, got the end of the sentence",
			"pid, user, group, exe, cgroup, unit, container or pod"},
		{"by user", 8, "expected which user, got the end of the sentence", ""},
		{"by pid self", 8, "'self' is not a process id",
			"a number from 1 to 4194304, as ps(1) shows it"},
		{"by uid 0 by pid 1", 4, "unknown kind of owner 'uid'", "did you mean 'pid'?"},
		{"by user root by pid 1", 14, "a second 'by'", "'by' once"},
		{"tcp and port 80", 5, "no 'and' is needed",
			"the words one after the other: all of them have to fit"},
		{"port 80 or port 443", 9, "'or' is not understood by this version",
			"several ports go into one list: port 80,443"},
		{"src 10.0.0.1", 1, "unknown word 'src'", "from ADDRESS, from port PORT"},
		{"@bad", 1, "unknown set '@bad'",
			"in or out, on INTERFACE, ip or ip6, a protocol, then from, to, host, port, flags, "
			"icmp, "
			"vlan, fragment, by"},
		{"from 10.0.0.1,10.0.0.2", 6, "'10.0.0.1,10.0.0.2' is more than one address",
			"one address or prefix; in rules on packets @NAME, a set of several"},
		{"from @bad", 6, "'@bad' is a set, which cannot stand here",
			"an address or prefix; sets stand in rules on packets only"},
		{"from", 5, "expected an address, a prefix, 'any' or 'port', got the end of the sentence",
			"such as 192.0.2.1, 10.0.0.0/8, 2001:db8::/32 or port https"},
		{"from example.com", 6, "expected an address, a prefix, 'any' or 'port', got 'example.com'",
			"such as 192.0.2.1, 10.0.0.0/8, 2001:db8::/32 or port https"},
		{"from to 10.0.0.1", 6, "expected an address, a prefix, 'any' or 'port', got 'to'",
			"such as 192.0.2.1, 10.0.0.0/8, 2001:db8::/32 or port https"},
		{"host any", 6, "expected an address or a prefix, got 'any'",
			"such as 192.0.2.1, 10.0.0.0/8 or 2001:db8::/32"},
		{"from 10.0.0.1/8", 6, "'10.0.0.1/8' has bits set behind its length",
			"10.0.0.0/8, or the address without a length"},
		{"from 10.0.0.0/33", 15, "expected a prefix length, got '33'", "0 to 32"},
		{"from 2001:db8::/129", 17, "expected a prefix length, got '129'", "0 to 128"},
		{"from 10.0.0.0/", 15, "expected a prefix length, got ''", "0 to 32"},
		{"from 10.0.0.1 from 10.0.0.2", 15, "a second 'from'", "'from' once"},
		{"port 80 port 443", 9, "a second 'port'", "one list: port 80,443"},
		{"in out", 4, "'out' contradicts 'in'", "one of the two"},
		{"in in", 4, "a second 'in'", "'in' once"},
		{"tcp udp", 5, "'udp' contradicts 'tcp'", "one of the two"},
		{"tcp icmp", 5, "'icmp' contradicts 'tcp'", "one of the two"},
		{"icmp icmp6", 6, "'icmp6' contradicts 'icmp'", "one of the two"},
		{"ip ip6", 4, "'ip6' contradicts 'ip'", "one of the two"},
		{"tcp in", 5, "'in' comes too late",
			"in or out, then on INTERFACE, then ip or ip6, then a protocol, then the rest"},
		{"from 10.0.0.1 tcp", 15, "'tcp' comes too late",
			"in or out, then on INTERFACE, then ip or ip6, then a protocol, then the rest"},
		{"ip6 from 10.0.0.0/8", 10, "'10.0.0.0/8' is IPv4, but 'ip6' is IPv6",
			"one family: a match with both never fits"},
		{"from 10.0.0.1 to ::1", 18, "'::1' is IPv6, but '10.0.0.1' is IPv4",
			"one family: a match with both never fits"},
		{"icmp from ::1", 11, "'::1' is IPv6, but 'icmp' is IPv4",
			"one family: a match with both never fits"},
		{"ip icmp6", 4, "'icmp6' is IPv6, but 'ip' is IPv4",
			"one family: a match with both never fits"},
		{"icmp to port 80", 14, "'icmp' has no ports", "tcp, udp, sctp, or no protocol"},
		{"proto 47 port 80", 15, "'47' has no ports", "tcp, udp, sctp, or no protocol"},
		{"udp flags syn", 5, "'udp' has no TCP flags", "tcp, or no protocol"},
		{"fragment port 80", 1, "a later fragment has no ports, no flags and no ICMP type",
			"'fragment' without them"},
		{"flags", 6, "expected TCP flags, got the end of the sentence", "such as syn,ack"},
		{"flags syn,foo", 11, "expected a TCP flag, got 'foo'",
			"fin, syn, rst, psh, ack, urg, ece or cwr"},
		{"icmp echo-reqest", 6, "expected an ICMP type, got 'echo-reqest'",
			"did you mean 'echo-request'?"},
		{"icmp 256", 6, "ICMP type 256 is out of range", "0 to 255, or a name such as echo-request"},
		{"from ::1 icmp6", 15, "expected an ICMP type, got the end of the sentence",
			"0 to 255, or a name such as echo-request"},
		{"icmp 8 icmp 0", 13, "'0' contradicts '8'", "one of the two"},
		{"proto", 6, "expected a protocol, got the end of the sentence",
			"a number from 0 to 255, or a name such as tcp"},
		{"proto 256", 7, "expected a protocol, got '256'",
			"a number from 0 to 255, or a name such as tcp"},
		{"vlan 4096", 6, "expected a VLAN, got '4096'", "a number from 0 to 4095"},
		{"vlan", 5, "expected a VLAN, got the end of the sentence", "a number from 0 to 4095"},
		{"on", 3, "expected an interface, got the end of the sentence", "its name, such as eth0"},
		{"on abcdefghijklmnop", 4, "the interface name 'abcdefghijklmnop' is too long",
			"at most 15 bytes"},
		{"tcp\nfrom x", 6, "expected an address, a prefix, 'any' or 'port', got 'x'",
			"such as 192.0.2.1, 10.0.0.0/8, 2001:db8::/32 or port https"},
	};

	(void)state;
	FOR_EACH_CASE(c, cases)
	{
		struct match match = {.vlan = 4711};
		struct error error = {0};

		EXPECT(match_parse(c->text, &match, &error) == -EINVAL, "%s", c->text);
		EXPECT(error.code == -EINVAL, "%s", c->text);
		EXPECT(match.vlan == 4711, "%s: the result was touched", c->text);
		EXPECT_TEXT(error.what, c->what, "%s", c->text);
		EXPECT_TEXT(error.want, c->want, "%s", c->text);
		EXPECT(error.column == c->column, "%s: column %u", c->text, error.column);
		EXPECT(match_parse(c->text, &match, NULL) == -EINVAL, "%s", c->text);
	}
}

static void an_error_shows_the_sentence_and_a_caret(void **state)
{
	struct error error = {0};
	struct match match;
	char *text;

	(void)state;
	assert_int_equal(match_parse("tcp to port htps", &match, &error), -EINVAL);
	text = error_text(&error);
	assert_string_equal(text,
		"weir: expected a port, got 'htps'; a number, a name such as https, or low-high\n"
		"  tcp to port htps\n"
		"              ^\n");
	free(text);
}

static void a_sentence_of_any_length_is_read_or_refused(void **state)
{
	char text[MATCH_TEXT_MAX + 1];
	struct error error = {0};
	struct match match;

	(void)state;
	memset(text, ' ', sizeof(text) - 1);
	memcpy(text, "tcp", 3);
	text[MATCH_TEXT_MAX - 1] = '\0';
	assert_int_equal(match_parse(text, &match, &error), 0);
	text[MATCH_TEXT_MAX - 1] = ' ';
	text[MATCH_TEXT_MAX] = '\0';
	assert_int_equal(match_parse(text, &match, &error), -EINVAL);
	assert_string_equal(error.what, "the sentence is too long");
	assert_int_equal(error.column, MATCH_TEXT_MAX);
}

static void a_buffer_that_is_too_small_is_an_error(void **state)
{
	static const char sentence[] = "in tcp to port 443";
	struct match match = parsed(sentence);
	char text[sizeof(sentence)];

	(void)state;
	for (size_t size = 0; size < sizeof(sentence); size++)
		EXPECT(match_print(&match, text, size) == -ENOSPC, "%zu", size);
	assert_int_equal(match_print(&match, text, sizeof(text)), 0);
	assert_string_equal(text, sentence);
}

static void ports_random(uint64_t *seed, struct endpoint *endpoint)
{
	endpoint->port_count = random_below(seed, 4) ? 0 : random_below(seed, MATCH_PORT_RANGES_MAX + 1);
	for (unsigned int i = 0; i < endpoint->port_count; i++) {
		uint16_t a = (uint16_t)random_next(seed),
			 b = random_below(seed, 2) ? a : (uint16_t)random_next(seed);

		endpoint->ports[i] = (struct port_range){a < b ? a : b, a < b ? b : a};
	}
}

static void prefix_random(uint64_t *seed, struct endpoint *endpoint, uint8_t family)
{
	endpoint->has_prefix = random_below(seed, 2);
	if (!endpoint->has_prefix)
		return;
	endpoint->prefix.address.family = family;
	endpoint->prefix.length = (uint8_t)random_below(seed, family == 4 ? 33 : 129);
	for (unsigned int i = 0; i < endpoint->prefix.length; i++)
		endpoint->prefix.address.bytes[i / 8] |= (uint8_t)(random_below(seed, 2) << (7 - i % 8));
}

/* Any match that a sentence can say. */
static struct match match_random(uint64_t *seed)
{
	static const int protocols[] = {-1, IPPROTO_TCP, IPPROTO_UDP, IPPROTO_SCTP, IPPROTO_GRE, IPPROTO_ESP,
		IPPROTO_AH, IPPROTO_ICMP, IPPROTO_ICMPV6, 89, 255, 0};
	uint8_t family = random_below(seed, 2) ? 4 : 6;
	struct match match;
	int protocol;

	match_init(&match);
	match.direction = (enum match_direction)random_below(seed, 3);
	if (random_below(seed, 2))
		snprintf(match.interface, sizeof(match.interface), "%s",
			random_below(seed, 2) ? "eth0" : "a-long-name.123");
	match.protocol = protocol = protocols[random_below(seed, COUNT(protocols))];
	if (protocol == IPPROTO_ICMP)
		family = 4;
	if (protocol == IPPROTO_ICMPV6)
		family = 6;
	if (random_below(seed, 2))
		match.family = family;
	prefix_random(seed, &match.from, family);
	prefix_random(seed, &match.to, family);
	prefix_random(seed, &match.either, family);
	if (random_below(seed, 2))
		match.vlan = (int)random_below(seed, 4096);

	if (!random_below(seed, 4)) {
		match.fragment = true;
		if (random_below(seed, 4) == 0) {
			static const char *const owners[][2] = {{"pid", "4194304"}, {"user", "root"},
				{"group", "4294967294"}, {"exe", "/usr/sbin/nginx"},
				{"cgroup", "/system.slice/nginx.service"}, {"unit", "nginx.service"},
				{"container", "0123456789ab"},
				{"pod", "8f2d1c5e-0b5a-4c58-9a52-3f4a2b1c0d9e"}};
			size_t kind = random_below(seed, COUNT(owners));

			assert_int_equal(
				owner_match_set(&match.owner, owners[kind][0], owners[kind][1], NULL), 0);
		}
		return match;
	}
	if ((protocol == IPPROTO_ICMP || protocol == IPPROTO_ICMPV6) && random_below(seed, 2))
		match.icmp_type = (int)random_below(seed, 256);
	if (protocol == -1 || protocol == IPPROTO_TCP)
		match.tcp_flags = random_below(seed, 2) ? (uint8_t)random_next(seed) : 0;
	if (protocol == -1 || protocol == IPPROTO_TCP || protocol == IPPROTO_UDP ||
		protocol == IPPROTO_SCTP) {
		ports_random(seed, &match.from);
		ports_random(seed, &match.to);
		ports_random(seed, &match.either);
	}
	return match;
}

static void random_matches_come_back_from_their_sentence(void **state)
{
	uint64_t seed = 11;

	(void)state;
	for (int i = 0; i < 50000; i++) {
		struct match match = match_random(&seed), again;
		char text[MATCH_TEXT_MAX], text_again[MATCH_TEXT_MAX];

		EXPECT(match_print(&match, text, sizeof(text)) == 0, "number %d", i);
		again = parsed(text);
		EXPECT(match_equal(&match, &again), "%s", text);
		EXPECT(match_print(&again, text_again, sizeof(text_again)) == 0, "%s", text);
		EXPECT_TEXT(text_again, text, "printed twice");
	}
}

static void the_longest_sentence_fits(void **state)
{
	struct match match;
	char text[MATCH_TEXT_MAX];

	(void)state;
	match_init(&match);
	match.direction = MATCH_OUT;
	memset(match.interface, 'x', sizeof(match.interface) - 1);
	match.family = 6;
	match.protocol = IPPROTO_SCTP;
	match.vlan = 4095;
	match.either.has_prefix = true;
	match.either.prefix.length = 127;
	match.either.prefix.address.family = 6;
	memset(match.either.prefix.address.bytes, 0xdd, 15);
	match.either.prefix.address.bytes[15] = 0xdc;
	match.either.port_count = MATCH_PORT_RANGES_MAX;
	for (unsigned int i = 0; i < MATCH_PORT_RANGES_MAX; i++)
		match.either.ports[i] = (struct port_range){10000, 65535};
	match.from = match.to = match.either;
	match.owner.kind = OWNER_CONTAINER; /* the longest word */
	memset(match.owner.text, 'a', sizeof(match.owner.text) - 1);
	assert_int_equal(match_print(&match, text, sizeof(text)), 0);
	assert_true(strlen(text) > 900);
	match.owner.kind = OWNER_EXE;
	match.owner.text[0] = '/';
	assert_int_equal(match_print(&match, text, sizeof(text)), 0);
	match = parsed(text);
	assert_int_equal(match.to.port_count, MATCH_PORT_RANGES_MAX);
}

/* A flow as a test writes it. */
struct flow {
	const char *name;
	enum match_direction direction;
	const char *interface;
	uint8_t protocol;
	const char *source, *destination;
	uint16_t source_port, destination_port;
	uint8_t tcp_flags;
	int icmp_type, vlan;
	bool fragment;
	const struct owner *owner;
};

static const struct owner nginx = {.key = {.pid = 42, .uid = 33, .gid = 33}, .id = OWNER_FIRST};

static const struct flow web = {"web", MATCH_IN, "eth0", IPPROTO_TCP, "10.0.0.2", "192.0.2.1", 40112, 443,
	0x12, .icmp_type = -1, .vlan = -1, .owner = &nginx};
static const struct flow dns = {"dns", MATCH_OUT, "wg0", IPPROTO_UDP, "2001:db8::1", "2001:db8:1::53", 53, 53,
	0, .icmp_type = -1, .vlan = 12};
static const struct flow ping = {
	"ping", MATCH_IN, "eth0", IPPROTO_ICMP, "10.0.0.2", "192.0.2.1", 0, 0, 0, .icmp_type = 8, .vlan = -1};
static const struct flow rest = {"rest", MATCH_IN, "eth0", IPPROTO_UDP, "10.0.0.2", "192.0.2.1", 0, 0, 0,
	.icmp_type = -1, .vlan = -1, .fragment = true};

static struct match_subject subject_of(const struct flow *flow)
{
	struct match_subject subject = {
		.direction = flow->direction,
		.interface = flow->interface,
		.protocol = flow->protocol,
		.has_ports = flow->protocol != IPPROTO_ICMP && !flow->fragment,
		.source_port = flow->source_port,
		.destination_port = flow->destination_port,
		.tcp_flags = flow->tcp_flags,
		.icmp_type = flow->icmp_type,
		.vlan = flow->vlan,
		.fragment = flow->fragment,
		.owner = flow->owner,
	};

	assert_int_equal(address_parse(flow->source, &subject.source), 0);
	assert_int_equal(address_parse(flow->destination, &subject.destination), 0);
	subject.family = subject.source.family;
	return subject;
}

static void a_match_fits_what_it_says(void **state)
{
	static const struct {
		const char *text;
		const struct flow *flow;
		bool fits;
	} cases[] = {
		{"", &web, true},
		{"", &rest, true},
		{"in", &web, true},
		{"in", &dns, false},
		{"out", &dns, true},
		{"on eth0", &web, true},
		{"on eth", &web, false},
		{"on wg0", &web, false},
		{"ip", &web, true},
		{"ip", &dns, false},
		{"ip6", &dns, true},
		{"tcp", &web, true},
		{"tcp", &dns, false},
		{"proto 17", &dns, true},
		{"from 10.0.0.0/8", &web, true},
		{"from 10.0.0.0/8", &dns, false}, /* the other family */
		{"from ::/0", &web, false},
		{"from 0.0.0.0/0", &web, true},
		{"from 192.0.2.1", &web, false},
		{"to 192.0.2.1", &web, true},
		{"from any to any", &dns, true},
		{"from 2001:db8::/48 to 2001:db8:1::/48", &dns, true},
		{"host 192.0.2.1", &web, true},
		{"host 10.0.0.2", &web, true},
		{"host 10.0.0.3", &web, false},
		{"to port 443", &web, true},
		{"to port https", &web, true},
		{"from port 443", &web, false},
		{"port 443", &web, true},
		{"port 40112", &web, true},
		{"port 80", &web, false},
		{"to port 1-442,444-65535", &web, false},
		{"to port 1-442,443,500", &web, true},
		{"from port 53 to port 53", &dns, true},
		{"port 53", &ping, false}, /* no ports at all */
		{"port 0-65535", &ping, false},
		{"port 0-65535", &rest, false},
		/* each for itself: the host need not be the end with the port */
		{"host 10.0.0.2 port 443", &web, true},
		{"host 192.0.2.1 port 443", &web, true},
		{"from 10.0.0.2 port 443", &web, false},
		{"flags syn", &web, true},
		{"flags syn,ack", &web, true},
		{"flags syn,fin", &web, false},
		{"flags syn", &dns, false},
		{"icmp", &ping, true},
		{"icmp echo-request", &ping, true},
		{"icmp echo-reply", &ping, false},
		{"icmp", &web, false},
		{"vlan 12", &dns, true},
		{"vlan 13", &dns, false},
		{"vlan 0", &web, false},
		{"fragment", &rest, true},
		{"fragment", &web, false},
		{"by pid 42", &web, true},
		{"by pid 43", &web, false},
		{"tcp by user 33 port 443", &web, true},
		{"by user 0", &dns, false}, /* nobody's */
		{"udp", &rest, true},
		{"in on eth0 ip tcp from 10.0.0.0/8 to 192.0.2.1 port 443 flags syn", &web, true},
		{"in on eth0 ip tcp from 10.0.0.0/8 to 192.0.2.1 port 444 flags syn", &web, false},
	};

	(void)state;
	FOR_EACH_CASE(c, cases)
	{
		struct match match = parsed(c->text);
		struct match_subject subject = subject_of(c->flow);

		EXPECT(match_fits(&match, &subject) == c->fits, "'%s' on %s", c->text, c->flow->name);
	}
}

static void a_new_match_fits_everything(void **state)
{
	static const struct flow *const flows[] = {&web, &dns, &ping, &rest};
	struct match match;

	(void)state;
	match_init(&match);
	FOR_EACH_CASE(flow, flows)
	{
		struct match_subject subject = subject_of(*flow);

		EXPECT(match_fits(&match, &subject), "%s", (*flow)->name);
	}
}

static void totals_can_answer_what_asks_for_addresses_only(void **state)
{
	static const struct {
		const char *text;
		bool address_only;
	} cases[] = {
		{"", true},
		{"in", true},
		{"ip6", true},
		{"in ip from 10.0.0.0/8 to 192.0.2.1", true},
		{"host 10.0.0.1", true},
		{"from any", true},
		{"on eth0", false},
		{"tcp", false},
		{"proto 0", false},
		{"port 53", false},
		{"from port 53", false},
		{"to 10.0.0.1 port 53", false},
		{"flags fin", false},
		{"icmp echo-reply", false},
		{"vlan 0", false},
		{"fragment", false},
		{"by user root", false},
	};

	(void)state;
	FOR_EACH_CASE(c, cases)
	{
		struct match match = parsed(c->text);

		EXPECT(match_is_address_only(&match) == c->address_only, "%s", c->text);
	}
}

static void protocols_have_names_and_numbers(void **state)
{
	static const struct {
		const char *text;
		int number;
	} cases[] = {
		{"tcp", 6},
		{"udp", 17},
		{"icmp", 1},
		{"icmp6", 58},
		{"sctp", 132},
		{"gre", 47},
		{"esp", 50},
		{"ah", 51},
		{"icmpv6", 58},
		{"vrrp", 112},
		{"0", 0},
		{"255", 255},
		{"256", -1},
		{"", -1},
		{"-1", -1},
		{"06", -1},
		{"TCP", -1},
		{"tcpp", -1},
		{"4294967302", -1},
	};

	(void)state;
	FOR_EACH_CASE(c, cases)
	{
		uint8_t protocol = 77;
		int result = protocol_parse(c->text, &protocol);

		EXPECT(result == (c->number < 0 ? -EINVAL : 0), "'%s'", c->text);
		EXPECT(protocol == (c->number < 0 ? 77 : c->number), "'%s'", c->text);
	}
	for (unsigned int number = 0; number < 256; number++) {
		const char *name = protocol_name((uint8_t)number);
		uint8_t protocol;

		if (name)
			EXPECT(protocol_parse(name, &protocol) == 0 && protocol == number, "%s", name);
	}
	assert_null(protocol_name(0));
	assert_string_equal(protocol_name(58), "icmp6");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST("sentences are printed in one way", sentences_are_printed_in_one_way),
		TEST("a sentence fills every field", a_sentence_fills_every_field),
		TEST("an error names the word and its column", an_error_names_the_word_and_its_column),
		TEST("an error shows the sentence and a caret", an_error_shows_the_sentence_and_a_caret),
		TEST("a sentence of any length is read or refused",
			a_sentence_of_any_length_is_read_or_refused),
		TEST("a buffer that is too small is an error", a_buffer_that_is_too_small_is_an_error),
		TEST("random matches come back from their sentence",
			random_matches_come_back_from_their_sentence),
		TEST("the longest sentence fits", the_longest_sentence_fits),
		TEST("a match fits what it says", a_match_fits_what_it_says),
		TEST("a new match fits everything", a_new_match_fits_everything),
		TEST("totals can answer what asks for addresses only",
			totals_can_answer_what_asks_for_addresses_only),
		TEST("protocols have names and numbers", protocols_have_names_and_numbers),
	};

	return cmocka_run_group_tests_name("match", tests, NULL, NULL);
}
