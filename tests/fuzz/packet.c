// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* The datapath's parser, compiled for the host, against the plain reference: every answer has to be the same.
 */
#include <stdlib.h>
#include <string.h>

#include "bpf/lib/packet.h"
#include "fuzz/fuzz.h"
#include "lib/reference.h"

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size)
{
	struct packet_memory memory;
	struct packet packet = {};
	struct reference reference;
	uint8_t *data;
	int link;
	uint16_t ethertype;

	if (size < 1 || size > 2048)
		return 0;
	/* the first byte says how the packet is met; the rest is the packet, in memory of just its size */
	link = !(input[0] & 1);
	ethertype = input[0] & 2 ? 0x86dd : 0x0800;
	size--;
	data = malloc(size ? size : 1);
	if (!data)
		return 0;
	memcpy(data, input + 1, size);
	memory = (struct packet_memory){data, (uint32_t)size};
	packet.reason = packet_parse(&memory, data, data + size, link, htons(ethertype), &packet);
	reference_parse(data, size, link, ethertype, &reference);

	REQUIRE(packet.reason == reference.reason);
	REQUIRE(packet.family == reference.family);
	REQUIRE(packet.kind == reference.kind);
	REQUIRE(packet.vlan_depth == reference.vlan_depth);
	REQUIRE(packet.vlan == reference.vlan);
	REQUIRE(packet.tcp_flags == reference.tcp_flags);
	REQUIRE(packet.header_bytes == reference.header_bytes);
	REQUIRE(ntohs(packet.sport) == reference.sport);
	REQUIRE(ntohs(packet.dport) == reference.dport);
	REQUIRE(ntohs(packet.ethertype) == reference.ethertype);
	REQUIRE(!packet.family || packet.proto == reference.proto);
	REQUIRE(memcmp(packet.src, reference.src, 16) == 0);
	REQUIRE(memcmp(packet.dst, reference.dst, 16) == 0);
	free(data);
	return 0;
}
