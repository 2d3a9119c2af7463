/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * The parser again, written plainly: one byte after the other, every rule where the standard has it, no
 * thought of speed and nothing shared with src/bpf/lib/packet.h but the numbers of reasons and kinds.  What
 * the two say about any bytes has to be the same.
 */
#ifndef WEIR_TESTS_REFERENCE_H
#define WEIR_TESTS_REFERENCE_H

#include <stddef.h>
#include <stdint.h>

struct reference {
	int reason; /* enum parse_reason */
	uint8_t family, proto, kind, tcp_flags, vlan_depth;
	uint8_t src[16], dst[16];
	uint16_t sport, dport; /* host byte order; ICMP as in shared/flow.h */
	uint16_t ethertype;    /* host byte order */
	uint16_t vlan;
	size_t header_bytes;
};

/* With `link` an Ethernet header comes first; without, `ethertype` (host byte order) says what the bytes are.
 */
void reference_parse(const uint8_t *data, size_t length, int link, uint16_t ethertype, struct reference *ret);

#endif
