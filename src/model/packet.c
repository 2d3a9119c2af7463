/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include "model/packet.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>

#include "model/rule_read.h"

#define VLAN_BYTES     4
#define IPV4_BYTES     20
#define IPV6_BYTES     40
#define FRAGMENT_BYTES 8

#define TYPE_IPV4 0x0800
#define TYPE_IPV6 0x86dd
#define TYPE_VLAN 0x8100

#define TCP_SYN             0x02
#define SOURCE_PORT_USUAL   40000
#define ICMP4_ECHO_REQUEST  8
#define ICMP6_ECHO_REQUEST  128
#define HOPS                64
#define WINDOW              64240
#define FRAGMENT_LATER_AT   64 /* bytes, where a later fragment begins; a multiple of eight */
#define FRAGMENT_MORE       1
#define FRAGMENT4_MORE      0x2000
#define FRAGMENT_IDENTIFIER 0x7765 /* any */

/*
 * Words
 */

struct reader {
	struct match_reader m;
	struct rule rule; /* the words are a rule's */
};

#define fail(r, word, what, ...)                                                                             \
	(sentence_fail(&(r)->m.s, word, "%s", what), error_want((r)->m.s.error, __VA_ARGS__), -EINVAL)

/* What a rule may say, but no packet has. */
static int foreign_check(struct reader *r)
{
	const struct rule_packet *packet = &r->rule.packet;
	const struct {
		bool said;
		enum match_element element;
		const char *what;
	} foreign[] = {
		{r->m.said[MATCH_ELEMENT_HOST], MATCH_ELEMENT_HOST, "a packet has two ends"},
		{r->m.said[MATCH_ELEMENT_PORT], MATCH_ELEMENT_PORT, "a packet has two ends"},
		{packet->from_set[0] || packet->from_port_set[0], MATCH_ELEMENT_FROM,
			"a packet comes from one address, not from a set"},
		{packet->to_set[0] || packet->to_port_set[0], MATCH_ELEMENT_TO,
			"a packet goes to one address, not to a set"},
		{packet->states, MATCH_ELEMENT_STATE, "the connection table says the state"},
		{packet->mark_mask, MATCH_ELEMENT_MARK, "a packet that comes has no mark yet"},
		{packet->expression[0], MATCH_ELEMENT_EXPRESSION, "an expression is no packet"},
		{r->rule.owner_not, MATCH_ELEMENT_OWNER, "a packet has one owner"},
		{packet->log, MATCH_ELEMENT_LOG, "nothing is logged: the packet is only asked about"},
		{r->rule.for_ns, MATCH_ELEMENT_FOR, "a packet does not last"},
		{packet->fragment == RULE_FRAGMENT_FIRST_OR_LATER, MATCH_ELEMENT_FRAGMENT,
			"which fragment, first or later?"},
	};

	for (size_t i = 0; i < sizeof(foreign) / sizeof(foreign[0]); i++)
		if (foreign[i].said)
			return fail(r, r->m.said[foreign[i].element], foreign[i].what,
				"in tcp from ADDRESS port N to ADDRESS port N, then flags, icmp, dscp, vlan, "
				"fragment first|later, by");
	if (r->rule.comment[0])
		return fail(r, NULL, "a packet has no comment", "only the packet");
	return 0;
}

static int end_check(struct reader *r, enum match_element element, const struct endpoint *end, bool has_ports,
	bool needs_port)
{
	const char *word = r->m.said[element], *name = element == MATCH_ELEMENT_FROM ? "from" : "to";

	if (!word || !end->has_prefix || end->prefix.length != (end->prefix.address.family == 4 ? 32 : 128)) {
		sentence_fail(&r->m.s, word, "expected one address behind '%s'", name);
		error_want(r->m.s.error, "such as 192.0.2.1 or 2001:db8::1");
		return -EINVAL;
	}
	if (end->port_count > 1 || (end->port_count && end->ports[0].low != end->ports[0].high))
		return fail(r, word, "a packet has one port at each end", "%s ADDRESS port N", name);
	if (has_ports && needs_port && !end->port_count)
		return fail(r, word, "expected a port behind 'to'", "to ADDRESS port N");
	return 0;
}

static bool protocol_has_ports(int protocol)
{
	return protocol == IPPROTO_TCP || protocol == IPPROTO_UDP || protocol == IPPROTO_SCTP;
}

static bool source_is_open(const struct reader *r)
{
	return !r->m.said[MATCH_ELEMENT_FROM] && r->rule.match.direction == MATCH_OUT;
}

static int whole_check(struct reader *r)
{
	const struct match *match = &r->rule.match;
	bool has_ports =
		protocol_has_ports(match->protocol) && r->rule.packet.fragment != RULE_FRAGMENT_LATER;
	int result = foreign_check(r);

	if (result == 0 && match->direction == MATCH_BOTH)
		return fail(r, r->m.s.text, "a packet comes in or goes out", "in ..., or out ...");
	if (result == 0 && match->protocol < 0)
		return fail(r, NULL, "expected a protocol", "tcp, udp, icmp, ... behind the direction");
	if (result == 0 && !source_is_open(r))
		result = end_check(r, MATCH_ELEMENT_FROM, &match->from, has_ports, false);
	if (result == 0)
		result = end_check(r, MATCH_ELEMENT_TO, &match->to, has_ports, true);
	return result;
}

int packet_description_parse(const char *text, struct packet_description *ret_packet, struct error *error)
{
	struct reader r = {.m = {.codes = true, .icmp_code = -1},
		.rule = {.verb = RULE_COUNT, .packet = {.icmp_code = -1, .dscp = -1, .set_dscp = -1}}};
	struct rule_packet *words = &r.rule.packet;
	const struct match *match = &r.rule.match;
	struct packet_description packet;
	int result = sentence_begin(&r.m.s, text, error);

	match_init(&r.rule.match);
	if (result == 0)
		result = rule_packet_read(&r.m, &r.rule);
	if (result == 0)
		result = whole_check(&r);
	if (result < 0)
		return result;

	packet = (struct packet_description){
		.out = match->direction == MATCH_OUT,
		.family = match->to.prefix.address.family,
		.protocol = (uint8_t)match->protocol,
		.source = match->from.prefix.address,
		.source_open = source_is_open(&r),
		.destination = match->to.prefix.address,
		.has_ports = protocol_has_ports(match->protocol) && words->fragment != RULE_FRAGMENT_LATER,
		.icmp_type = -1,
		.icmp_code = -1,
		.vlan = match->vlan,
		.dscp = words->dscp < 0 ? 0 : words->dscp,
		.fragment = words->fragment,
		.owner = match->owner,
	};
	if (packet.source_open)
		packet.source.family = packet.family;
	memcpy(packet.interface, match->interface, sizeof(packet.interface));
	if (packet.has_ports) {
		packet.source_port = match->from.port_count ? match->from.ports[0].low : SOURCE_PORT_USUAL;
		packet.destination_port = match->to.ports[0].low;
	}
	if (packet.protocol == IPPROTO_TCP)
		packet.tcp_flags = words->flags_mask ? words->flags : TCP_SYN;
	if (packet.protocol == IPPROTO_ICMP || packet.protocol == IPPROTO_ICMPV6) {
		packet.icmp_type = match->icmp_type >= 0             ? match->icmp_type
		                   : packet.protocol == IPPROTO_ICMP ? ICMP4_ECHO_REQUEST
		                                                     : ICMP6_ECHO_REQUEST;
		packet.icmp_code = words->icmp_code < 0 ? 0 : words->icmp_code;
	}
	*ret_packet = packet;
	return 0;
}

/*
 * Bytes
 */

static void put16(uint8_t *p, unsigned int value)
{
	p[0] = (uint8_t)(value >> 8);
	p[1] = (uint8_t)value;
}

static uint32_t sum16(uint32_t sum, const uint8_t *bytes, size_t length)
{
	for (size_t i = 0; i < length; i++)
		sum += i % 2 ? bytes[i] : (uint32_t)bytes[i] << 8;
	return sum;
}

static uint16_t sum_finish(uint32_t sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	sum += sum >> 16;
	return (uint16_t)~sum;
}

/* The header behind IP; returns its length. */
static size_t transport_build(const struct packet_description *packet, uint8_t *p)
{
	memset(p, 0, 20);
	if (packet->fragment == RULE_FRAGMENT_LATER)
		return FRAGMENT_BYTES;
	switch (packet->protocol) {
	case IPPROTO_TCP:
		put16(p, packet->source_port);
		put16(p + 2, packet->destination_port);
		p[12] = 5 << 4; /* words of the header */
		p[13] = packet->tcp_flags;
		put16(p + 14, WINDOW);
		return 20;
	case IPPROTO_UDP:
		put16(p, packet->source_port);
		put16(p + 2, packet->destination_port);
		put16(p + 4, 8);
		return 8;
	case IPPROTO_SCTP:
		put16(p, packet->source_port);
		put16(p + 2, packet->destination_port);
		return 12;
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6:
		p[0] = (uint8_t)packet->icmp_type;
		p[1] = (uint8_t)packet->icmp_code;
		return 8;
	default:
		return 8;
	}
}

/* With the pseudo header, where the protocol has one (RFC 9293, 768, 4443). */
static void transport_sum(const struct packet_description *packet, uint8_t *p, size_t length)
{
	size_t bytes = packet->family == 4 ? 4 : 16, at;
	uint32_t sum = 0;
	uint16_t result;

	if (packet->fragment)
		return; /* nothing to be said of a part */
	switch (packet->protocol) {
	case IPPROTO_TCP:
		at = 16;
		break;
	case IPPROTO_UDP:
		at = 6;
		break;
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6:
		at = 2;
		break;
	default:
		return;
	}
	if (packet->protocol != IPPROTO_ICMP) {
		sum = sum16(sum, packet->source.bytes, bytes);
		sum = sum16(sum, packet->destination.bytes, bytes);
		sum += packet->protocol + (uint32_t)length;
	}
	result = sum_finish(sum16(sum, p, length));
	put16(p + at, result ? result : 0xffff);
}

/* Returns the length of the IP header and what belongs to it; the total is known to be `length` more. */
static size_t ipv4_build(const struct packet_description *packet, uint8_t *p, size_t length)
{
	unsigned int fragment = packet->fragment == RULE_FRAGMENT_FIRST ? FRAGMENT4_MORE
	                        : packet->fragment                      ? FRAGMENT_LATER_AT / 8
	                                                                : 0;

	memset(p, 0, IPV4_BYTES);
	p[0] = 0x45;
	p[1] = (uint8_t)(packet->dscp << 2);
	put16(p + 2, (unsigned int)(IPV4_BYTES + length));
	put16(p + 4, packet->fragment ? FRAGMENT_IDENTIFIER : 0);
	put16(p + 6, fragment);
	p[8] = HOPS;
	p[9] = packet->protocol;
	memcpy(p + 12, packet->source.bytes, 4);
	memcpy(p + 16, packet->destination.bytes, 4);
	put16(p + 10, sum_finish(sum16(0, p, IPV4_BYTES)));
	return IPV4_BYTES;
}

static size_t ipv6_build(const struct packet_description *packet, uint8_t *p, size_t length)
{
	size_t extra = packet->fragment ? FRAGMENT_BYTES : 0;

	memset(p, 0, IPV6_BYTES + FRAGMENT_BYTES);
	put16(p, 0x6000 | (unsigned int)packet->dscp << 6);
	put16(p + 4, (unsigned int)(extra + length));
	p[6] = extra ? IPPROTO_FRAGMENT : packet->protocol;
	p[7] = HOPS;
	memcpy(p + 8, packet->source.bytes, 16);
	memcpy(p + 24, packet->destination.bytes, 16);
	if (extra) {
		p += IPV6_BYTES;
		p[0] = packet->protocol;
		put16(p + 2, packet->fragment == RULE_FRAGMENT_FIRST ? FRAGMENT_MORE : FRAGMENT_LATER_AT);
		put16(p + 6, FRAGMENT_IDENTIFIER);
	}
	return IPV6_BYTES + extra;
}

size_t packet_description_build(const struct packet_description *packet, uint8_t buffer[PACKET_BYTES_MAX])
{
	static const uint8_t macs[12] = {2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1};
	uint8_t transport[20], *p = buffer + sizeof(macs);
	size_t length = transport_build(packet, transport);

	transport_sum(packet, transport, length);
	memcpy(buffer, macs, sizeof(macs));
	if (packet->vlan >= 0) {
		put16(p, TYPE_VLAN);
		put16(p + 2, (unsigned int)packet->vlan);
		p += VLAN_BYTES;
	}
	put16(p, packet->family == 4 ? TYPE_IPV4 : TYPE_IPV6);
	p += 2;
	p += packet->family == 4 ? ipv4_build(packet, p, length) : ipv6_build(packet, p, length);
	memcpy(p, transport, length);
	return (size_t)(p - buffer) + length;
}
