/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * The connection table: what needs to know both directions.
 *
 * Two maps with one key and one value: `connections`, a hash for those that both ends have spoken on, out of
 * which nothing is pushed, and `embryos`, an LRU hash for those that only one end has.  So whoever sends
 * first packets without end fills the second only.  A connection moves to the first with the answer.
 *
 * The datapath makes, follows and refreshes connections (bpf/lib/connection.h); the agent takes away those
 * that have timed out (each state has its time) and, when tracking begins, puts in those that its flow table
 * knows.  Times are ticks.
 *
 * A packet that is dropped changes nothing here: first the state is looked at, then the rules decide, and
 * what was accepted is committed.
 *
 * Sources: RFC 9293 (states), Guido van Rooij, "Real Stateful TCP Packet Filtering" (windows), the
 * documentation of Linux' nf_conntrack (defaults of time-outs).
 */
#ifndef WEIR_SHARED_CONNECTION_H
#define WEIR_SHARED_CONNECTION_H

#include <linux/types.h>

/* The two ends, the smaller first (by address, then port, as big-endian bytes compare), so that both
 * directions have one key. */
struct connection_key {
	__be32 address[2][4]; /* IPv4: the first word of each */
	__be16 port[2];       /* ICMP echo: the identifier, twice; others without ports: 0 */
	__u8 family, proto;
	__u16 zone; /* 0; room for networks with the same addresses */
};

/* States of TCP as a middle box sees them; UDP, ICMP and the rest only know the first and REPLIED. */
enum connection_stage {
	CONNECTION_NEW,      /* TCP: SYN seen.  Others: one direction only */
	CONNECTION_ANSWERED, /* TCP: SYN-ACK seen.  Others: both directions */
	CONNECTION_OPEN,     /* TCP: the handshake is over */
	CONNECTION_CLOSING,  /* FIN of one side */
	CONNECTION_CLOSED,   /* FIN of both, acknowledged or not */
	CONNECTION_RESET,
	CONNECTION_STAGES,
};

/* What one end has sent, host byte order. */
struct connection_side {
	__u32 end;        /* highest sequence number + length sent */
	__u32 max_end;    /* highest that the other end has allowed: ack + window */
	__u32 max_window; /* largest window it has announced, scaled */
	__u8 scale;       /* window scale option, from its SYN; CONNECTION_SCALE_UNKNOWN: picked up later */
	__u8 flags;       /* CONNECTION_SIDE_* */
	__u16 reserved;
};

#define CONNECTION_SCALE_NONE 0xff
#define CONNECTION_SIDE_SACK  0x01
#define CONNECTION_SIDE_FIN   0x02
#define CONNECTION_SIDE_SEEN  0x04 /* end and window are known */

#define CONNECTION_PICKED_UP 0x01 /* was there before it was tracked: windows are learnt */
#define CONNECTION_LOOSE     0x02 /* windows were not followed for a while (no rule asked): learn them anew */

struct connection {
	__u32 created;     /* tick */
	__u32 established; /* tick of the answer (accepted by the rules); 0: none yet */
	__u32 last;        /* tick of the last packet, to a second or so */
	__u8 stage;        /* enum connection_stage */
	__u8 first;        /* which end of the key began: 0, 1 */
	__u8 flags;
	__u8 policy;                     /* that accepted it */
	__u32 rule;                      /* id of the rule that accepted the first packet; 0: the default */
	__u32 limit;                     /* counted by this limit + 1; 0: none */
	struct connection_side sides[2]; /* in the order of the key's ends */
	__u64 limit_key;                 /* whom it counts for */
};

/* Seconds, by stage: the map `connection_times`, indexed by connection_times_of(). */
enum connection_family {
	CONNECTION_TCP,
	CONNECTION_UDP,
	CONNECTION_ICMP,
	CONNECTION_OTHER,
	CONNECTION_FAMILIES
};
struct connection_times {
	__u32 seconds[CONNECTION_FAMILIES][CONNECTION_STAGES];
};

struct connection_stats {
	__u64 created, established, ended;
	__u64 refused; /* answered, but there was no room: goes on as an embryo */
	__u64 invalid; /* packets */
	__u64 related;
	__u64 expired; /* by the agent */
	__u64 picked_up;
};

#endif
