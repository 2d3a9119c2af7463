/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include "model/packet.h"

#include <errno.h>
#include <netinet/in.h>

#include "lib/reference.h"
#include "unit.h"

static struct packet_description described(const char *text)
{
	struct packet_description packet;
	struct error error = {0};

	EXPECT(packet_description_parse(text, &packet, &error) == 0, "%s: %s; %s", text, error.what,
		error.want);
	return packet;
}

/* The Internet checksum over bytes that hold their own is 0. */
static unsigned int sum_of(const uint8_t *bytes, size_t length, uint32_t sum)
{
	for (size_t i = 0; i < length; i++)
		sum += i % 2 ? bytes[i] : (uint32_t)bytes[i] << 8;
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return sum ^ 0xffff;
}

static void frames_are_what_was_described(void **state)
{
	static const char *const cases[] = {
		"in tcp from 198.51.100.7 port 4000 to 10.0.0.1 port 80",
		"out udp from 10.0.0.1 to 192.0.2.1 port 53",
		"in tcp from 2001:db8::1 port 1 to 2001:db8::2 port 65535 flags syn,ack",
		"in udp from 2001:db8::1 port 5 to 2001:db8::2 port 6 dscp ef",
		"in icmp from 10.0.0.1 to 10.0.0.2",
		"in icmp unreachable/3 from 10.0.0.1 to 10.0.0.2",
		"in icmp6 from fe80::1 to fe80::2 vlan 7",
		"in tcp from 10.0.0.1 to 10.0.0.2 port 80 vlan 4095 flags none",
		"in sctp from 10.0.0.1 to 10.0.0.2 port 80",
		"in proto 89 from 10.0.0.1 to 10.0.0.2",
	};

	(void)state;
	FOR_EACH_CASE(text, cases)
	{
		struct packet_description packet = described(*text);
		uint8_t bytes[PACKET_BYTES_MAX];
		size_t length = packet_description_build(&packet, bytes), ip, payload, address;
		struct reference reference;
		uint32_t sum = 0;

		reference_parse(bytes, length, 1, 0, &reference);
		EXPECT(reference.reason == 0, "%s: %d", *text, reference.reason);
		EXPECT(reference.family == packet.family, "%s", *text);
		EXPECT(reference.proto == packet.protocol, "%s", *text);
		EXPECT(memcmp(reference.src, packet.source.bytes, 16) == 0, "%s", *text);
		EXPECT(memcmp(reference.dst, packet.destination.bytes, 16) == 0, "%s", *text);
		EXPECT(!packet.has_ports || (reference.sport == packet.source_port &&
						    reference.dport == packet.destination_port),
			"%s", *text);
		EXPECT(reference.tcp_flags == packet.tcp_flags, "%s", *text);
		EXPECT(reference.vlan_depth == (packet.vlan >= 0), "%s", *text);
		EXPECT(packet.vlan < 0 || reference.vlan == packet.vlan, "%s", *text);

		ip = packet.vlan >= 0 ? 18 : 14;
		payload = ip + (packet.family == 4 ? 20 : 40);
		address = packet.family == 4 ? 4 : 16;
		EXPECT(packet.family == 6 || sum_of(bytes + ip, 20, 0) == 0, "%s", *text);
		if (packet.protocol == IPPROTO_SCTP || packet.protocol == 89)
			continue;
		if (packet.protocol != IPPROTO_ICMP) {
			sum = 0xffff ^ sum_of(bytes + payload - 2 * address, 2 * address, 0);
			sum += packet.protocol + (uint32_t)(length - payload);
		}
		EXPECT(sum_of(bytes + payload, length - payload, sum) == 0, "%s", *text);
	}
}

static void fragments_are_parts(void **state)
{
	static const struct {
		const char *text;
		size_t at; /* of the fragment field, behind Ethernet */
		unsigned int value;
	} cases[] = {
		{"in udp from 10.0.0.1 to 10.0.0.2 port 53 fragment first", 6, 0x2000},
		{"in udp from 10.0.0.1 to 10.0.0.2 fragment later", 6, 8},
		{"in tcp from ::1 to ::2 port 53 fragment first", 42, 1},
		{"in tcp from ::1 to ::2 fragment later", 42, 64},
	};

	(void)state;
	FOR_EACH_CASE(c, cases)
	{
		struct packet_description packet = described(c->text);
		uint8_t bytes[PACKET_BYTES_MAX];
		struct reference reference;
		size_t length = packet_description_build(&packet, bytes);

		reference_parse(bytes, length, 1, 0, &reference);
		EXPECT(reference.reason == 0, "%s", c->text);
		EXPECT((bytes[14 + c->at] << 8 | bytes[15 + c->at]) == (int)c->value, "%s", c->text);
	}
}

static void what_is_not_said_is_what_most_packets_have(void **state)
{
	struct packet_description packet = described("in tcp from 10.0.0.1 to 10.0.0.2 port 80");

	(void)state;
	assert_false(packet.out);
	assert_string_equal(packet.interface, "");
	assert_int_equal(packet.source_port, 40000);
	assert_int_equal(packet.tcp_flags, 2);
	assert_int_equal(packet.icmp_type, -1);
	assert_int_equal(packet.vlan, -1);
	assert_int_equal(packet.dscp, 0);
	assert_int_equal(packet.owner.kind, OWNER_ANY);
	packet = described("out on eth0 icmp6 from ::1 to ::2 by user root");
	assert_true(packet.out);
	assert_string_equal(packet.interface, "eth0");
	assert_int_equal(packet.icmp_type, 128);
	assert_int_equal(packet.icmp_code, 0);
	assert_int_equal(packet.owner.kind, OWNER_USER);
	assert_false(packet.source_open);
	packet = described("out by pid 12345 tcp to 192.0.2.1 port 443");
	assert_true(packet.source_open);
	assert_int_equal(packet.family, 4);
	assert_int_equal(packet.source.family, 4);
	assert_int_equal(packet.owner.number, 12345);
	assert_int_equal(packet.protocol, IPPROTO_TCP);
}

static void what_is_no_packet_is_refused(void **state)
{
	static const char *const all =
		"in tcp from ADDRESS port N to ADDRESS port N, then flags, icmp, dscp, "
		"vlan, fragment first|later, by";
	const struct {
		const char *text, *what, *want;
		unsigned int column;
	} cases[] = {
		{"", "a packet comes in or goes out", "in ..., or out ...", 1},
		{"tcp from 10.0.0.1 to 10.0.0.2 port 80", "a packet comes in or goes out",
			"in ..., or out ...", 1},
		{"in from 10.0.0.1 to 10.0.0.2", "expected a protocol",
			"tcp, udp, icmp, ... behind the direction", 29},
		{"in tcp from 10.0.0.0/8 to 10.0.0.2 port 80", "expected one address behind 'from'",
			"such as 192.0.2.1 or 2001:db8::1", 8},
		{"in tcp to 10.0.0.2 port 80", "expected one address behind 'from'",
			"such as 192.0.2.1 or 2001:db8::1", 27},
		{"in tcp from 10.0.0.1 to 10.0.0.2", "expected a port behind 'to'", "to ADDRESS port N", 22},
		{"in tcp from 10.0.0.1 to 10.0.0.2 port 80,81", "a packet has one port at each end",
			"to ADDRESS port N", 22},
		{"in tcp from 10.0.0.1 to ::2 port 80", "'::2' is IPv6, but '10.0.0.1' is IPv4",
			"one family: a match with both never fits", 25},
		{"in tcp host 10.0.0.1", "a packet has two ends", all, 8},
		{"in tcp from @a to 10.0.0.2 port 80", "a packet comes from one address, not from a set", all,
			8},
		{"in tcp from 10.0.0.1 to 10.0.0.2 port 80 state new", "the connection table says the state",
			all, 42},
		{"in tcp from 10.0.0.1 to 10.0.0.2 port 80 \"x\"", "a packet has no comment",
			"only the packet", 45},
		{"in udp from 10.0.0.1 to 10.0.0.2 port 80 flags syn", "'udp' has no TCP flags",
			"tcp in front of it", 42},
		{"in udp from 10.0.0.1 to 10.0.0.2 fragment", "which fragment, first or later?", all, 34},
		{"in udp from 10.0.0.1 to 10.0.0.2 por 80", "unknown word 'por'", "did you mean 'port'?", 34},
	};

	(void)state;
	FOR_EACH_CASE(c, cases)
	{
		struct packet_description packet = {.vlan = 77};
		struct error error = {0};

		EXPECT(packet_description_parse(c->text, &packet, &error) == -EINVAL, "%s", c->text);
		EXPECT_TEXT(error.what, c->what, "%s", c->text);
		EXPECT_TEXT(error.want, c->want, "%s", c->text);
		EXPECT(error.column == c->column, "%s: column %u, wanted %u", c->text, error.column,
			c->column);
		EXPECT(packet.vlan == 77, "%s: changed", c->text);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST("frames are what was described", frames_are_what_was_described),
		TEST("fragments are parts", fragments_are_parts),
		TEST("what is not said is what most packets have",
			what_is_not_said_is_what_most_packets_have),
		TEST("what is no packet is refused", what_is_no_packet_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
