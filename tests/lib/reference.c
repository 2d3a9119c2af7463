// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
#include "lib/reference.h"

#include <stdbool.h>
#include <string.h>

#include "shared/flow.h"

struct cursor {
	const uint8_t *data;
	size_t length, at;
};

static bool has(const struct cursor *c, size_t bytes)
{
	return c->at <= c->length && c->length - c->at >= bytes;
}

static uint8_t byte(const struct cursor *c, size_t offset)
{
	return c->data[c->at + offset];
}

static uint16_t word(const struct cursor *c, size_t offset)
{
	return (uint16_t)(byte(c, offset) << 8 | byte(c, offset + 1));
}

static int read_transport(struct cursor *c, struct reference *r)
{
	r->header_bytes = c->at;
	switch (r->proto) {
	case 6: /* TCP, RFC 9293 */
		if (!has(c, 16))
			return PARSE_L4_SHORT;
		if (byte(c, 12) >> 4 < 5)
			return PARSE_L4_LENGTH;
		r->sport = word(c, 0);
		r->dport = word(c, 2);
		r->tcp_flags = byte(c, 13);
		r->header_bytes += (size_t)(byte(c, 12) >> 4) * 4;
		r->kind |= FLOW_KIND_PORTS;
		return PARSE_OK;
	case 17:  /* UDP, RFC 768 */
	case 136: /* UDP-Lite, RFC 3828 */
	case 33:  /* DCCP, RFC 4340 */
	case 132: /* SCTP, RFC 9260 */
		if (!has(c, 8))
			return PARSE_L4_SHORT;
		r->sport = word(c, 0);
		r->dport = word(c, 2);
		r->header_bytes += r->proto == 17 || r->proto == 136 ? 8 : 12;
		r->kind |= FLOW_KIND_PORTS;
		return PARSE_OK;
	case 1:  /* ICMP, RFC 792 */
	case 58: /* ICMPv6, RFC 4443 */
		if ((r->proto == 1) != (r->family == 4))
			return PARSE_OK;
		if (!has(c, 8))
			return PARSE_L4_SHORT;
		r->dport = word(c, 0);
		if (r->proto == 1 && (byte(c, 0) == 0 || byte(c, 0) == 8))
			r->sport = word(c, 4);
		if (r->proto == 58 && (byte(c, 0) == 128 || byte(c, 0) == 129))
			r->sport = word(c, 4);
		r->header_bytes += 8;
		r->kind |= FLOW_KIND_ICMP;
		return PARSE_OK;
	default:
		return PARSE_OK;
	}
}

/* A first fragment of `room` bytes, without what rules ask of its transport's header (RFC 1858)? */
static bool is_tiny(const struct reference *r, bool first, long room)
{
	return first && room < (r->proto == 6 ? 20 : 8);
}

static int read_later_fragment(struct cursor *c, struct reference *r)
{
	r->header_bytes = c->at;
	r->kind |= FLOW_KIND_FRAGMENT;
	return PARSE_OK;
}

static int read_ipv4(struct cursor *c, struct reference *r)
{
	size_t header;

	if (!has(c, 20))
		return PARSE_IP_SHORT;
	if (byte(c, 0) >> 4 != 4)
		return PARSE_IP_VERSION;
	header = (size_t)(byte(c, 0) & 15) * 4;
	if (header < 20)
		return PARSE_IP_LENGTH;
	if (word(c, 2) != 0 && word(c, 2) < header)
		return PARSE_IP_LENGTH;
	if (!has(c, header))
		return PARSE_IP_SHORT;
	r->family = 4;
	r->kind |= FLOW_KIND_IPV4;
	memcpy(r->src, c->data + c->at + 12, 4);
	memcpy(r->dst, c->data + c->at + 16, 4);
	r->proto = byte(c, 9);
	bool later = (word(c, 6) & 0x1fff) != 0, first = !later && (word(c, 6) & 0x2000);
	long room = (long)word(c, 2) - (long)header;
	c->at += header;
	if (is_tiny(r, first, room)) {
		r->header_bytes = c->at;
		return PARSE_L4_SHORT;
	}
	return later ? read_later_fragment(c, r) : read_transport(c, r);
}

static bool is_extension(uint8_t proto)
{
	static const uint8_t extensions[] = {0, 43, 44, 51, 60, 135, 139, 140};

	return memchr(extensions, proto, sizeof(extensions)) != NULL;
}

static int read_ipv6(struct cursor *c, struct reference *r)
{
	size_t base = c->at;
	bool first = false;
	int headers = 0;

	if (!has(c, 40))
		return PARSE_IP_SHORT;
	if (byte(c, 0) >> 4 != 6)
		return PARSE_IP_VERSION;
	r->family = 6;
	r->kind |= FLOW_KIND_IPV6;
	memcpy(r->src, c->data + base + 8, 16);
	memcpy(r->dst, c->data + base + 24, 16);
	r->proto = byte(c, 6);
	r->header_bytes = base;
	long length = word(c, 4);
	c->at += 40;
	while (is_extension(r->proto)) {
		size_t bytes;
		bool later = false;

		if (headers == 8)
			return PARSE_EXTENSION_DEPTH;
		if (!has(c, 4))
			return PARSE_EXTENSION_SHORT;
		if (r->proto == 44) {
			bytes = 8;
			later = (word(c, 2) & 0xfff8) != 0;
			first = first || (!later && (word(c, 2) & 1));
		} else if (r->proto == 51) {
			bytes = ((size_t)byte(c, 1) + 2) * 4;
		} else {
			bytes = ((size_t)byte(c, 1) + 1) * 8;
		}
		if (!has(c, bytes))
			return PARSE_EXTENSION_SHORT;
		r->proto = byte(c, 0);
		c->at += bytes;
		headers++;
		if (later)
			return read_later_fragment(c, r);
	}
	if (is_tiny(r, first, (long)base + 40 + length - (long)c->at)) {
		r->header_bytes = c->at;
		return PARSE_L4_SHORT;
	}
	return read_transport(c, r);
}

void reference_parse(const uint8_t *data, size_t length, int link, uint16_t ethertype, struct reference *ret)
{
	struct cursor c = {data, length, 0};

	*ret = (struct reference){.reason = PARSE_LINK_SHORT};
	if (link) {
		if (!has(&c, 14))
			return;
		ethertype = word(&c, 12);
		c.at = 14;
		while ((ethertype == 0x8100 || ethertype == 0x88a8) && ret->vlan_depth < 2) {
			ret->ethertype = ethertype;
			if (!has(&c, 4))
				return;
			ret->vlan = word(&c, 0) & 0xfff;
			ret->vlan_depth++;
			ret->kind |= FLOW_KIND_TAGGED;
			ethertype = word(&c, 2);
			c.at += 4;
		}
	}
	ret->ethertype = ethertype;
	ret->header_bytes = c.at;
	if (ethertype == 0x0800)
		ret->reason = read_ipv4(&c, ret);
	else if (ethertype == 0x86dd)
		ret->reason = read_ipv6(&c, ret);
	else
		ret->reason = ethertype == 0x8100 || ethertype == 0x88a8 ? PARSE_VLAN_DEPTH : PARSE_NOT_IP;
}
