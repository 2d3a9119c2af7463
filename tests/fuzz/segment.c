// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* What connections read of packets, compiled for the host: nothing outside of them, and of a packet inside an
 * ICMP error the same that the parser reads of the packet itself. */
#include <stdlib.h>
#include <string.h>

#include "bpf/lib/segment.h"
#include "fuzz/fuzz.h"

static void check_segment(struct packet_memory *memory, const struct packet *p)
{
	struct window_segment s = {};
	uint32_t flags;

	if (p->reason != PARSE_OK || p->proto != PACKET_PROTO_TCP || p->fragment == PACKET_FRAGMENT_LATER)
		return;
	if (segment_read(memory, p, memory->length, &s))
		return;
	flags = !!(s.flags & WINDOW_SYN) + !!(s.flags & WINDOW_FIN);
	REQUIRE(s.end - s.seq - flags <= memory->length - p->header_bytes);
	REQUIRE(!window_before(s.sack, s.ack) || s.sack == s.ack);
	REQUIRE(s.scale == CONNECTION_SCALE_NONE || (s.scale <= WINDOW_SCALE_MAX && s.flags & WINDOW_SYN));
}

static void check_inner(struct packet_memory *memory, const struct packet *p)
{
	struct packet inner = {.family = p->family};
	int r = segment_read_inner(memory, p->l3_offset, &inner);
	uint8_t type = (uint8_t)(ntohs(p->dport) >> 8);

	if (p->reason != PARSE_OK || p->fragment == PACKET_FRAGMENT_LATER ||
		p->l4_offset + 8U > memory->length) {
		/* names nothing, but for TCP of which only the beginning is there */
		REQUIRE(r || p->reason == PARSE_L4_SHORT || p->reason == PARSE_L4_LENGTH ||
			p->reason == PARSE_IP_LENGTH);
		return;
	}
	if (p->kind & FLOW_KIND_ICMP && !packet_is_echo(p->proto, type)) {
		REQUIRE(r);
		return;
	}
	REQUIRE(r == 0);
	REQUIRE(inner.proto == p->proto);
	REQUIRE(memcmp(inner.src, p->src, sizeof(p->src)) == 0);
	REQUIRE(memcmp(inner.dst, p->dst, sizeof(p->dst)) == 0);
	REQUIRE((inner.kind & FLOW_KIND_PORTS) == (p->kind & FLOW_KIND_PORTS));
	REQUIRE(inner.sport == p->sport && inner.dport == p->dport);
}

static void check_fragment(struct packet_memory *memory, const struct packet *p)
{
	struct connection_fragment_key key = {};
	uint32_t place = 0;
	int r = segment_read_fragment(memory, p, &key, &place);

	if (p->reason != PARSE_OK || p->fragment == PACKET_WHOLE)
		return;
	REQUIRE(r == 0 || p->family == 6); /* fragment headers twice are nobody's */
	if (r)
		return;
	REQUIRE(key.family == p->family && key.proto == p->proto);
	REQUIRE((place != 0) == (p->fragment == PACKET_FRAGMENT_LATER));
	REQUIRE(place <= 0xffff && place % 8 == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size)
{
	struct packet_memory memory;
	struct packet packet = {};
	uint8_t *data;

	if (size < 1 || size > 2048)
		return 0;
	/* the first byte says how the packet is met; the rest is the packet, in memory of just its size */
	size--;
	data = malloc(size ? size : 1);
	if (!data)
		return 0;
	memcpy(data, input + 1, size);
	memory = (struct packet_memory){data, (uint32_t)size};
	packet.reason = packet_parse(
		&memory, data, data + size, !(input[0] & 1), htons(input[0] & 2 ? 0x86dd : 0x0800), &packet);
	if (packet.family) {
		check_segment(&memory, &packet);
		check_inner(&memory, &packet);
		check_fragment(&memory, &packet);
	}
	free(data);
	return 0;
}
