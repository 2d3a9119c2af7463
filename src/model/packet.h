/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * One packet in words, and as bytes: what `weir explain` asks about.
 *
 *     packet = (in|out) ["on" interface] [ip|ip6] protocol ["from" address ["port" N]] "to" address ["port"
 * N] {flags LIST | icmp TYPE[/CODE] | dscp D | vlan N | fragment [first|later] | by OWNER}
 *
 * The words are those of rules (rule.h), with one value each.  What is not said is what most such packets
 * have: what goes out comes from this host, TCP is a SYN, ICMP an echo request, a source port is 40000, no
 * VLAN, DSCP 0, no fragment.
 */
#ifndef WEIR_MODEL_PACKET_H
#define WEIR_MODEL_PACKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "basic/address.h"
#include "basic/error.h"
#include "model/rule.h"

#define PACKET_BYTES_MAX 128

struct packet_description {
	bool out;
	char interface[MATCH_INTERFACE_MAX]; /* empty: any that the policy is in force on */
	uint8_t family, protocol;
	struct address source, destination;
	bool source_open; /* it goes out, and `from` was not said: the source is the unspecified address */
	bool has_ports;
	uint16_t source_port, destination_port; /* host byte order */
	uint8_t tcp_flags;
	int icmp_type, icmp_code; /* -1: not ICMP */
	int vlan;                 /* -1: untagged */
	int dscp;
	enum rule_fragment fragment; /* ANY: none */
	struct owner_match owner;
};

/* 0 or -EINVAL with what was expected, and where. */
int packet_description_parse(const char *text, struct packet_description *ret_packet, struct error *error);

/* The Ethernet frame: right lengths and checksums, no payload; a later fragment has eight bytes of something.
 * Returns its length, at most PACKET_BYTES_MAX. */
size_t packet_description_build(const struct packet_description *packet, uint8_t buffer[PACKET_BYTES_MAX]);

#endif
