// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* Packets through the real programs: this packet, this flow, these bytes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "bpf/harness.h"
#include "lib/reference.h"

#define ETH(type)  "020000000002 020000000001 " type " "
#define VLAN(id)   "8100 0" id " "
#define IP4_ADDR   "0a000001 0a000002 "
#define IP4(proto) "4500 0040 0001 0000 40" proto "0000 " IP4_ADDR
#define IP6_ADDR   "fd000000000000000000000000000001 fd000000000000000000000000000002 "
#define IP6(next)  "60000000 0028 " next "40 " IP6_ADDR
#define TCP(flags) "03e8 01bb 00000001 00000002 50" flags " 0064 0000 0000 "
#define UDP        "0035 14e9 0008 0000 "
#define PAD        "00000000 00000000 00000000 00000000 "
#define OPTION8    "01040000 0000 " /* PadN: fills an extension header of 8 bytes */

#define IN  "in"
#define OUT "out"

struct packet_case {
	const char *sentence;
	const char *program; /* in, out, raw-in, raw-out */
	const char *hex;
	struct harness_context context;
	/* what is expected */
	int reason;
	uint8_t kind, proto;
	uint16_t sport, dport, vlan;
	uint8_t tcp_flags, origin;
	uint32_t packets, bytes;
};

#define V4       FLOW_KIND_IPV4
#define V6       FLOW_KIND_IPV6
#define PORTS    FLOW_KIND_PORTS
#define TAGGED   FLOW_KIND_TAGGED
#define FRAGMENT FLOW_KIND_FRAGMENT

static const struct packet_case cases[] = {
	{"a TCP SYN over IPv4 is a flow whose initiator is the source", IN, ETH("0800") IP4("06") TCP("02"),
		{}, PARSE_OK, V4 | PORTS, 6, 1000, 443, 0, 0x02, FLOW_ORIGIN_INITIATOR, 1, 54},
	{"a SYN with ACK comes from the responder", OUT, ETH("0800") IP4("06") TCP("12"), {}, PARSE_OK,
		V4 | PORTS | FLOW_KIND_OUT, 6, 1000, 443, 0, 0x12, FLOW_ORIGIN_RESPONDER, 1, 54},
	{"a segment without SYN says nothing of who began", IN, ETH("0800") IP4("06") TCP("18"), {}, PARSE_OK,
		V4 | PORTS, 6, 1000, 443, 0, 0x18, 0, 1, 54},
	{"UDP over IPv4 has ports", IN, ETH("0800") IP4("11") UDP, {}, PARSE_OK, V4 | PORTS, 17, 53, 5353, 0,
		0, 0, 1, 42},
	{"UDP over IPv6 has ports", IN, ETH("86dd") IP6("11") UDP, {}, PARSE_OK, V6 | PORTS, 17, 53, 5353, 0,
		0, 0, 1, 62},
	{"TCP over IPv6 has ports and flags", OUT, ETH("86dd") IP6("06") TCP("11"), {}, PARSE_OK,
		V6 | PORTS | FLOW_KIND_OUT, 6, 1000, 443, 0, 0x11, 0, 1, 74},
	{"SCTP has ports", IN, ETH("0800") IP4("84") "03e8 01bb 00000001 00000000", {}, PARSE_OK, V4 | PORTS,
		132, 1000, 443, 0, 0, 0, 1, 46},
	{"an echo request carries its identifier", IN, ETH("0800") IP4("01") "0800 0000 0007 0001", {},
		PARSE_OK, V4 | FLOW_KIND_ICMP, 1, 7, 0x0800, 0, 0, 0, 1, 42},
	{"an ICMP error carries type and code alone", IN, ETH("0800") IP4("01") "0304 0000 0000 05dc", {},
		PARSE_OK, V4 | FLOW_KIND_ICMP, 1, 0, 0x0304, 0, 0, 0, 1, 42},
	{"an ICMPv6 echo reply carries its identifier", IN, ETH("86dd") IP6("3a") "8100 0000 0009 0001", {},
		PARSE_OK, V6 | FLOW_KIND_ICMP, 58, 9, 0x8100, 0, 0, 0, 1, 62},
	{"ICMPv6 over IPv4 is not ICMP", IN, ETH("0800") IP4("3a") "8100 0000 0009 0001", {}, PARSE_OK, V4,
		58, 0, 0, 0, 0, 0, 1, 42},
	{"a protocol without ports has none", IN, ETH("0800") IP4("2f") "00000800 00000000", {}, PARSE_OK, V4,
		47, 0, 0, 0, 0, 0, 1, 42},
	{"IPv4 options are stepped over", IN,
		ETH("0800") "4700 0048 0001 0000 4006 0000 " IP4_ADDR "01010101 01010101 " TCP("10"), {},
		PARSE_OK, V4 | PORTS, 6, 1000, 443, 0, 0x10, 0, 1, 62},
	{"a first fragment has ports", IN, ETH("0800") "4500 0040 0001 2000 4011 0000 " IP4_ADDR UDP, {},
		PARSE_OK, V4 | PORTS, 17, 53, 5353, 0, 0, 0, 1, 42},
	{"a later fragment has no ports, whatever its payload looks like", IN,
		ETH("0800") "4500 0040 0001 2001 4011 0000 " IP4_ADDR UDP, {}, PARSE_OK, V4 | FRAGMENT, 17, 0,
		0, 0, 0, 0, 1, 42},
	{"a last fragment has no ports either", IN,
		ETH("0800") "4500 0040 0001 00b9 4006 0000 " IP4_ADDR TCP("02"), {}, PARSE_OK, V4 | FRAGMENT,
		6, 0, 0, 0, 0, 0, 1, 54},
	{"a VLAN tag is part of the flow", IN, ETH(VLAN("064") "0800") IP4("11") UDP, {}, PARSE_OK,
		V4 | PORTS | TAGGED, 17, 53, 5353, 100, 0, 0, 1, 46},
	{"the inner of two tags counts", IN, ETH("88a8 0001" VLAN("064") "0800") IP4("11") UDP, {}, PARSE_OK,
		V4 | PORTS | TAGGED, 17, 53, 5353, 100, 0, 0, 1, 50},
	{"three tags in the data are too many", IN,
		ETH("88a8 0001" VLAN("002") VLAN("003") "0800") IP4("11") UDP, {}, PARSE_VLAN_DEPTH, TAGGED,
		0, 0x8100, PARSE_VLAN_DEPTH, 2, 0, 0, 1, 54},
	{"an IPv6 extension header is stepped over", IN, ETH("86dd") IP6("00") "0600 " OPTION8 TCP("10"), {},
		PARSE_OK, V6 | PORTS, 6, 1000, 443, 0, 0x10, 0, 1, 82},
	{"eight IPv6 extension headers are stepped over", IN,
		ETH("86dd") IP6("00") "3c00 " OPTION8 "3c00 " OPTION8 "3c00 " OPTION8 "3c00 " OPTION8
				      "3c00 " OPTION8 "3c00 " OPTION8 "3c00 " OPTION8 "1100 " OPTION8 UDP,
		{}, PARSE_OK, V6 | PORTS, 17, 53, 5353, 0, 0, 0, 1, 126},
	{"nine IPv6 extension headers are a flow without ports, and counted", IN,
		ETH("86dd") IP6("00") "3c00 " OPTION8 "3c00 " OPTION8 "3c00 " OPTION8 "3c00 " OPTION8
				      "3c00 " OPTION8 "3c00 " OPTION8 "3c00 " OPTION8 "3c00 " OPTION8
				      "1100 " OPTION8 UDP,
		{}, PARSE_EXTENSION_DEPTH, V6, 60, 0, 0, 0, 0, 0, 1, 134},
	{"an authentication header counts its length in four bytes", IN,
		ETH("86dd") IP6("33") "0604 0000 00000000 00000000 000000000000000000000000 " TCP("10"), {},
		PARSE_OK, V6 | PORTS, 6, 1000, 443, 0, 0x10, 0, 1, 98},
	{"a first IPv6 fragment has ports", IN, ETH("86dd") IP6("2c") "1100 0001 00000001 " UDP, {}, PARSE_OK,
		V6 | PORTS, 17, 53, 5353, 0, 0, 0, 1, 70},
	{"a later IPv6 fragment has no ports", IN, ETH("86dd") IP6("2c") "1100 0009 00000001 " UDP, {},
		PARSE_OK, V6 | FRAGMENT, 17, 0, 0, 0, 0, 0, 1, 70},
	{"a later fragment's payload is not walked as an extension header", IN,
		ETH("86dd") IP6("2c") "3c00 0009 00000001 "
				      "1100 " OPTION8 UDP,
		{}, PARSE_OK, V6 | FRAGMENT, 60, 0, 0, 0, 0, 0, 1, 78},
	{"an atomic fragment is whole", IN, ETH("86dd") IP6("2c") "1100 0000 00000001 " UDP, {}, PARSE_OK,
		V6 | PORTS, 17, 53, 5353, 0, 0, 0, 1, 70},
	{"ARP is counted as not IP", IN, ETH("0806") "0001 0800 0604 0001 " PAD PAD, {}, PARSE_NOT_IP, 0, 0,
		0x0806, PARSE_NOT_IP, 0, 0, 0, 1, 54},
	{"IPv4 options that are not there are counted as a short header", IN,
		ETH("0800") "4f00 0040 0001 0000 4011 0000 " IP4_ADDR UDP, {}, PARSE_IP_SHORT, 0, 0, 0x0800,
		PARSE_IP_SHORT, 0, 0, 0, 1, 42},
	{"an IPv4 header length below five is impossible", IN,
		ETH("0800") "4400 0040 0001 0000 4011 0000 " IP4_ADDR UDP, {}, PARSE_IP_LENGTH, 0, 0, 0x0800,
		PARSE_IP_LENGTH, 0, 0, 0, 1, 42},
	{"an IPv4 total length below the header's is impossible", IN,
		ETH("0800") "4500 0010 0001 0000 4011 0000 " IP4_ADDR UDP, {}, PARSE_IP_LENGTH, 0, 0, 0x0800,
		PARSE_IP_LENGTH, 0, 0, 0, 1, 42},
	{"IPv6 under IPv4's EtherType is counted as such", IN, ETH("0800") IP6("11") UDP, {},
		PARSE_IP_VERSION, 0, 0, 0x0800, PARSE_IP_VERSION, 0, 0, 0, 1, 62},
	{"a truncated TCP header leaves a flow without ports", IN, ETH("0800") IP4("06") "03e8 01bb 0000", {},
		PARSE_L4_SHORT, V4, 6, 0, 0, 0, 0, 0, 1, 40},
	{"a TCP header length below five is impossible", IN,
		ETH("0800") IP4("06") "03e8 01bb 00000001 00000002 4002 0064 0000 0000", {}, PARSE_L4_LENGTH,
		V4, 6, 0, 0, 0, 0, 0, 1, 54},
	{"a GRO packet counts as the packets and headers on the wire", IN,
		ETH("0800") IP4("06") TCP("10") PAD PAD, {.gso_segs = 4, .gso_size = 8}, PARSE_OK, V4 | PORTS,
		6, 1000, 443, 0, 0x10, 0, 4, 86 + 3 * 54},
	{"a GSO packet's wire length is the kernel's sum", OUT, ETH("0800") IP4("06") TCP("10") PAD PAD,
		{.gso_segs = 4, .gso_size = 8, .wire_len = 86 + 3 * 54}, PARSE_OK, V4 | PORTS | FLOW_KIND_OUT,
		6, 1000, 443, 0, 0x10, 0, 4, 86 + 3 * 54},
	{"a UDP GSO packet repeats eight bytes of UDP", IN, ETH("0800") IP4("11") UDP PAD PAD,
		{.gso_segs = 2, .gso_size = 16}, PARSE_OK, V4 | PORTS, 17, 53, 5353, 0, 0, 0, 2, 74 + 42},
	{"segments that nobody has counted are worked out", IN, ETH("0800") IP4("06") TCP("10") PAD PAD,
		{.gso_size = 10}, PARSE_OK, V4 | PORTS, 6, 1000, 443, 0, 0x10, 0, 4, 86 + 3 * 54},
	/* without a link header; test runs take the EtherType from bytes 12 and 13, so the sources begin with
         * it, and want an IP header's length behind them */
	{"IPv4 without a link header", "raw-in", "4500 0040 0001 0000 4011 0000 08000001 0a000002 " UDP PAD,
		{}, PARSE_OK, V4 | PORTS, 17, 53, 5353, 0, 0, 0, 1, 44},
	{"IPv6 without a link header", "raw-out",
		"60000000 0028 1140 fd000000 86dd00000000000000000001 fd000000000000000000000000000002 " UDP
			PAD,
		{}, PARSE_OK, V6 | PORTS | FLOW_KIND_OUT, 17, 53, 5353, 0, 0, 0, 1, 64},
};

static struct harness harness;

static const struct bpf_program *program_of(const char *name)
{
	if (strcmp(name, "in") == 0)
		return harness.watch->progs.watch_ethernet_in;
	if (strcmp(name, "out") == 0)
		return harness.watch->progs.watch_ethernet_out;
	if (strcmp(name, "raw-in") == 0)
		return harness.watch->progs.watch_raw_in;
	return harness.watch->progs.watch_raw_out;
}

static void check_case(void **state)
{
	const struct packet_case *c = *state;
	struct flow_stats stats;
	struct harness_line line;
	uint8_t packet[512];
	size_t size = harness_hex(c->hex, packet, sizeof(packet));

	harness_clear(&harness);
	assert_int_equal(harness_run(&harness, program_of(c->program), packet, size, &c->context), -1);
	assert_true(harness_last(&harness, &line));
	assert_int_equal(harness_lines(&harness), 1);
	assert_int_equal(line.kind, c->kind);
	assert_int_equal(line.proto, c->proto);
	assert_int_equal(line.sport, c->sport);
	assert_int_equal(line.dport, c->dport);
	assert_int_equal(line.vlan, c->vlan);
	assert_int_equal(line.marks.tcp_flags, c->tcp_flags);
	assert_int_equal(line.marks.origin, c->origin);
	assert_int_equal(line.counts.packets, c->packets);
	assert_int_equal(line.counts.bytes, c->bytes);
	stats = harness_stats(&harness);
	assert_int_equal(stats.seen, c->packets);
	assert_int_equal(stats.cached, c->packets);
	if (c->reason != PARSE_OK)
		assert_int_equal(stats.reasons[c->reason], c->packets);
}

static uint64_t random_state = 88172645463325252ULL;

static uint32_t random_number(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return (uint32_t)(random_state >> 32);
}

/* The packets of the table, mutated: the verifier's view of the parser and the plain reference agree on every
 * one. */
static void differential(void **state)
{
	int ran = 0, verdict;

	(void)state;
	for (int round = 0; ran < 20000 && round < 40000; round++) {
		const struct packet_case *c = &cases[random_number() % (sizeof(cases) / sizeof(cases[0]))];
		struct reference reference;
		struct harness_line line = {};
		uint8_t packet[512];
		size_t size = harness_hex(c->hex, packet, sizeof(packet));

		if (*c->program == 'r')
			continue;
		for (uint32_t changes = random_number() % 4; changes > 0; changes--)
			packet[12 + random_number() % (size - 12)] = (uint8_t)random_number();
		if (random_number() % 4 == 0)
			size = 15 + random_number() % (size - 14);
		harness_clear(&harness);
		verdict = harness_run(&harness, harness.watch->progs.watch_ethernet_in, packet, size, NULL);
		if (verdict == HARNESS_REFUSED && size < 54)
			continue; /* test runs take no packet that is shorter than its IP header; tests/fuzz
			             does */
		assert_int_equal(verdict, -1);
		ran++;
		assert_true(harness_last(&harness, &line));
		reference_parse(packet, size, 1, 0, &reference);
		assert_int_equal(line.kind, reference.kind);
		assert_int_equal(line.vlan, reference.vlan);
		if (!reference.family) {
			assert_int_equal(line.sport, reference.ethertype);
			assert_int_equal(line.dport, reference.reason);
			continue;
		}
		assert_int_equal(line.proto, reference.proto);
		assert_int_equal(line.sport, reference.sport);
		assert_int_equal(line.dport, reference.dport);
		assert_int_equal(line.marks.tcp_flags, reference.tcp_flags);
		assert_memory_equal(line.src, reference.src, 16);
		assert_memory_equal(line.dst, reference.dst, 16);
	}
	assert_int_equal(ran, 20000);
}

int main(void)
{
	struct CMUnitTest tests[sizeof(cases) / sizeof(cases[0]) + 1];
	size_t count = 0;
	int r;

	for (; count < sizeof(cases) / sizeof(cases[0]); count++)
		tests[count] = (struct CMUnitTest){
			cases[count].sentence, check_case, NULL, NULL, (void *)&cases[count]};
	tests[count++] = (struct CMUnitTest){"program and plain reference agree on 20,000 mutated packets",
		differential, NULL, NULL, NULL};
	if (harness_open(&harness, 64, 4096) < 0)
		return 1;
	r = _cmocka_run_group_tests("packet", tests, count, NULL, NULL);
	harness_close(&harness);
	return r;
}
