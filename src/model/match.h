/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * The part of a sentence that says which packets or flows are meant: the words behind the verb.
 *
 *     match    = [in|out] ["on" interface] [ip|ip6] [protocol] {from ENDPOINT | to ENDPOINT | host HOST |
 *                port PORTS | flags LIST | icmp TYPE | vlan N | fragment | by OWNER}
 *     ENDPOINT = [any | address | prefix] ["port" PORTS]      (at least one of the two)
 *     PORTS    = port | low-high | a,b,c                      (each of a, b, c may be a range or a name)
 *     HOST     = address | prefix                             either end
 *     protocol = tcp | udp | icmp | icmp6 | sctp | gre | esp | ah | proto N|NAME
 *     LIST     = comma-separated fin,syn,rst,psh,ack,urg,ece,cwr (all of them seen)
 *     TYPE     = 0..255 or a name such as echo-request, echo-reply, unreachable
 *     OWNER    = pid N | user NAME | unit NAME | ...          model/owner.h
 *
 * The words stand in this order, those in braces in any; each is said once.  `host` and `port` alone mean
 * either end, as in pcap-filter(7), and each for itself: `host A port 80` fits A's requests to port 80 and A
 * serving it. `icmp` and `icmp6` name the protocol and may be followed by a TYPE at once: `icmp
 * echo-request`.  A match with an address of one family does not match the other family.  `port` without a
 * protocol means any protocol with ports. A match that match_print() wrote parses to the same match.
 */
#ifndef WEIR_MODEL_MATCH_H
#define WEIR_MODEL_MATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "basic/address.h"
#include "basic/error.h"
#include "model/owner.h"

#define MATCH_PORT_RANGES_MAX 16
#define MATCH_TEXT_MAX        1280 /* longest sentence that is read or printed, with the NUL */
#define MATCH_INTERFACE_MAX   16   /* IFNAMSIZ */

struct port_range {
	uint16_t low, high; /* host byte order, low <= high */
};

struct endpoint {
	bool has_prefix;
	struct prefix prefix;
	unsigned int port_count; /* 0: any port */
	struct port_range ports[MATCH_PORT_RANGES_MAX];
};

enum match_direction { MATCH_BOTH, MATCH_IN, MATCH_OUT };

struct match {
	enum match_direction direction;
	char interface[MATCH_INTERFACE_MAX]; /* empty: any */
	uint8_t family;                      /* 4, 6; 0: either */
	int protocol;                        /* IP protocol number; -1: any */
	struct endpoint from, to;
	struct endpoint either; /* host and port, each for itself: one end has to fit */
	uint8_t tcp_flags;      /* all of these bits seen (RFC 9293 order, FIN is bit 0); 0: not asked */
	int icmp_type;          /* -1: not asked */
	int vlan;               /* 0..4095; -1: not asked */
	bool fragment;          /* only fragments that have no ports */
	struct owner_match owner;
};

/* What a match is held against: a flow, whoever keeps it. */
struct match_subject {
	enum match_direction direction; /* MATCH_IN or MATCH_OUT */
	const char *interface;
	uint8_t family;   /* 4 or 6 */
	uint8_t protocol; /* IP protocol number */
	struct address source, destination;
	bool has_ports;
	uint16_t source_port, destination_port; /* host byte order */
	uint8_t tcp_flags;
	int icmp_type; /* -1: none */
	int vlan;      /* -1: untagged */
	bool fragment;
	const struct owner *owner; /* NULL: no process */
};

void match_init(struct match *match); /* matches everything */

/* Reads all of `text`; an empty text matches everything.  0 or -EINVAL with `error` saying what was expected
 * and where (column in the sentence); ret_match untouched on failure. */
int match_parse(const char *text, struct match *ret_match, struct error *error);
/* 0 or -ENOSPC. */
int match_print(const struct match *match, char *buffer, size_t size);
bool match_fits(const struct match *match, const struct match_subject *subject);
/* True if the match asks for nothing but direction, family and addresses: such a match can be answered from
 * per-host totals.  */
bool match_is_address_only(const struct match *match);

/* Names of IP protocols as this grammar writes them; NULL where a number is to be printed. */
const char *protocol_name(uint8_t protocol);
int protocol_parse(const char *text, uint8_t *ret_protocol); /* name or number; 0 or -EINVAL */

#endif
