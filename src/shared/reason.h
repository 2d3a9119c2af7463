/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Why a packet could not be read as far as its ports.  One list: the datapath counts by it, the agent names
 * by it, the manual explains it.
 */
#ifndef WEIR_SHARED_REASON_H
#define WEIR_SHARED_REASON_H

/* X(identifier, name, explanation) */
#define PARSE_REASONS(X)                                                                                     \
	X(OK, "ok", "read to the ports, or to where this protocol has none")                                 \
	X(NOT_IP, "not-ip", "neither IPv4 nor IPv6 (ARP, LLDP, ...)")                                        \
	X(LINK_SHORT, "link-short", "ends inside the link header")                                           \
	X(VLAN_DEPTH, "vlan-depth", "more than two VLAN tags")                                               \
	X(IP_SHORT, "ip-short", "ends inside the IP header")                                                 \
	X(IP_VERSION, "ip-version", "IP version differs from the link header's protocol")                    \
	X(IP_LENGTH, "ip-length", "IP header length or total length is impossible")                          \
	X(EXTENSION_SHORT, "extension-short", "ends inside an IPv6 extension header")                        \
	X(EXTENSION_DEPTH, "extension-depth", "more than eight IPv6 extension headers")                      \
	X(L4_SHORT, "l4-short", "ends inside the transport header")                                          \
	X(L4_LENGTH, "l4-length", "TCP header length is impossible")

#define PARSE_REASON_ENUM(identifier, name, explanation) PARSE_##identifier,
enum parse_reason { PARSE_REASONS(PARSE_REASON_ENUM) PARSE_REASON_COUNT };
#undef PARSE_REASON_ENUM

#define PARSE_REASON_MAX 16 /* a power of two, so that the verifier believes a masked index */
_Static_assert((int)PARSE_REASON_COUNT <= PARSE_REASON_MAX, "every reason has a counter");

#endif
