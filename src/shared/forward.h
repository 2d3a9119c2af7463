/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * What passes by the stack: forwarding between interfaces, and steering to CPUs, as agent and datapath at XDP
 * know it.
 *
 * The program at XDP hands what it does not drop on to the others (enum chain_program).  Each sentence has a
 * *number*, for its counters and for what it needs of its own, as long as it stands in some book.  Each
 * interface that packets are taken from has a *port* (map `forward_ports`) in each of two places; bit
 * FORWARD_PLACE of policy_now.places says which is in force, so it changes at one point with the rules, and
 * going back unless confirmed is the datapath's own.  What follows interfaces that come and go is written in
 * place.
 *
 * A switch has an LRU table of its own (map of maps `forward_tables`) for what it has learned, and a device
 * map
 * (`forward_members`) with the interfaces that belong to it: to flood, and to see that one still does.
 *
 * Sources: IEEE 802.1D-2004 (7.7 to 7.9, 7.12.6: what a bridge learns, ages, and never forwards), RFC 1812
 * (5.2, 5.3: what a router checks).
 */
#ifndef WEIR_SHARED_FORWARD_H
#define WEIR_SHARED_FORWARD_H

#include <linux/types.h>

/* Who handles packets behind the program at XDP, in this order. */
enum chain_program { CHAIN_BALANCE, CHAIN_FORWARD, CHAIN_STEER, CHAIN_PROGRAMS };

/* Bits of policy_now.places: no policy in force has these numbers. */
#define FORWARD_PLACE 60
#define STEER_PLACE   59

#define FORWARD_NUMBERS   512  /* of sentences in force, waiting, and of before; 0: none */
#define FORWARD_PORTS_MAX 4096 /* of both places */
#define FORWARD_MEMBERS   64   /* interfaces of one switch */
#define FORWARD_MACS_MAX  8192 /* that one switch remembers */
#define FORWARD_AGE_S     300  /* and for how long, IEEE 802.1D, table 7-5 */

enum forward_way { FORWARD_BY_ROUTE, FORWARD_TO, FORWARD_AMONG };

struct forward_key {
	__u32 ifindex;
	__u32 place; /* 0, 1 */
};

/* Where what comes in by an interface goes. */
struct forward_port {
	__u32 rule;   /* id of the sentence */
	__u32 to;     /* TO: interface */
	__u16 number; /* of the sentence */
	__u8 way;     /* enum forward_way */
	__u8 any;     /* targets need not take frames from XDP: the interface has generic XDP */
	__u8 mac[6];  /* the interface's own */
	__u8 veth;    /* native XDP of a veth: checksums may not be finished */
	__u8 reserved;
};

/* Whom a switch has heard, and where: key and value of an inner map of `forward_tables`. */
struct forward_mac {
	__u8 mac[6];
	__u16 vlan; /* id of the outer tag; 0: none */
};

struct forward_place {
	__u32 ifindex;
	__u32 seen; /* tick */
};

/* The value of the map `forward_counts`: of number n on a CPU at CPU * FORWARD_NUMBERS + n. */
struct forward_count {
	__u64 packets, bytes; /* sent on */
	__u64 passed;         /* packets left to the stack */
	__u64 flooded;        /* AMONG: of packets, those to all */
	__u64 filtered;       /* AMONG: dropped, as a switch does: the receiver is where they came from */
	__u64 moved;          /* AMONG: addresses that were seen elsewhere before */
	__u64 lost;           /* of those sent on, that the target did not take */
	__u32 last;           /* tick */
	__u32 reserved;
};

#endif
