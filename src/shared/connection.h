/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * The connection table: what needs to know both directions.
 *
 * Two maps with one key and one value: `connections`, a hash for those that both ends have spoken on, out of
 * which nothing is pushed, and `embryos`, an LRU hash for those that only one end has.  So whoever sends
 * first packets without end fills the second only.  A connection moves to the first with the answer.
 *
 * The datapath makes, follows and refreshes connections (bpf/lib/connection.h); the agent takes away those
 * that have timed out (each stage has its time; to the datapath they are gone at that moment) and, when
 * tracking begins, puts in those that its flow table knows.  Times are ticks.
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
	/* ICMP echo: the identifier at the end that asks, the type of the request (8, 128) at the other; so
	 * two ends that ask each other have two connections.  Others without ports: 0 */
	__be16 port[2];
	__u8 family, proto;
	__u16 zone; /* 0; room for networks with the same addresses */
};

/* Stages of TCP as a middle box sees them. */
enum connection_stage {
	CONNECTION_NEW,      /* TCP: SYN seen.  Others: one direction only */
	CONNECTION_ANSWERED, /* TCP: SYN-ACK seen.  Others: both directions */
	CONNECTION_OPEN, /* TCP: the handshake is over.  UDP: goes on for more than a question and an answer
	                  */
	CONNECTION_CLOSING, /* FIN of one side, or of both but not acknowledged yet */
	CONNECTION_CLOSED,  /* FIN of both, acknowledged */
	CONNECTION_RESET,
	CONNECTION_STAGES,
};

/* What one end has sent, host byte order. */
struct connection_side {
	__u32 end;        /* highest sequence number + length sent */
	__u32 max_end;    /* highest that the other end has allowed: ack + window */
	__u32 max_window; /* largest window it has announced, scaled */
	__u32 acked;      /* highest acknowledgement it has sent */
	__u8 scale;       /* window scale option, from its SYN; CONNECTION_SCALE_NONE */
	__u8 flags;       /* CONNECTION_SIDE_* */
	__u16 reserved;
};

#define CONNECTION_SCALE_NONE 0xff
#define CONNECTION_SIDE_SYN   0x01
#define CONNECTION_SIDE_FIN   0x02
#define CONNECTION_SIDE_RST   0x04
#define CONNECTION_SIDE_SEEN  0x08 /* end and window are known */
#define CONNECTION_SIDE_ACKED 0x10 /* acked is known */

#define CONNECTION_PICKED_UP 0x01 /* was there before it was tracked */
#define CONNECTION_LIBERAL                                                                                   \
	0x02 /* its windows are not known for sure: out of them is not invalid, but for RST */
#define CONNECTION_CHALLENGED 0x04 /* `challenge` is set */

struct connection {
	__u32 created;     /* tick */
	__u32 established; /* tick of the answer (accepted by the rules); 0: none yet */
	__u32 last;        /* tick of the last packet, to a second or so */
	__u32 followed;    /* tick since when each packet's windows were looked at; 0: they are not */
	__u8 stage;        /* enum connection_stage */
	__u8 first;        /* which end of the key began: 0, 1 */
	__u8 flags;        /* CONNECTION_PICKED_UP, … */
	__u8 policy;       /* that accepted it */
	__u32 rule;        /* id of the rule that accepted the first packet; 0: the default */
	__u32 limit;       /* counted by this limit + 1; 0: none */
	/* What answers a packet that was let through without effect: a SYN in the middle (its end) may be
	 * answered by a SYN-ACK, an ACK to a SYN by a RST with this sequence number (RFC 9293, 3.10.7.4). */
	__u32 challenge;
	struct connection_side sides[2]; /* in the order of the key's ends */
	__u64 limit_key;                 /* whom it counts for */
};

_Static_assert(sizeof(struct connection_key) == 40, "no holes in keys");
_Static_assert(sizeof(struct connection) == 80, "no holes in values");

/* The map `connection_times`: ticks by protocol and stage, 0: for ever. */
enum connection_family {
	CONNECTION_TCP,
	CONNECTION_UDP,
	CONNECTION_ICMP,
	CONNECTION_OTHER,
	CONNECTION_FAMILIES,
};

#define CONNECTION_TIMES 32 /* a power of two with room for every pair */

static inline __u32 connection_times_of(__u8 proto, __u8 stage)
{
	__u32 family = proto == 6                    ? CONNECTION_TCP
	               : proto == 17 || proto == 136 ? CONNECTION_UDP
	               : proto == 1 || proto == 58   ? CONNECTION_ICMP
	                                             : CONNECTION_OTHER;

	return (family * CONNECTION_STAGES + stage) % CONNECTION_TIMES;
}

/*
 * Later fragments have no ports: they take the state of the packet that they belong to, while its first
 * fragment is remembered (the LRU map `fragments`).
 */
#define CONNECTION_FRAGMENT_TICKS 16384 /* as long: at least 16 s; a number may then be another packet's */

struct connection_fragment_key {
	__be32 src[4], dst[4];
	__be32 id; /* IPv4: 16 bits */
	__u8 family, proto;
	__u16 zone;
};

struct connection_fragment {
	__u32 seen;  /* tick */
	__u32 state; /* enum policy_state */
};

/* The per-CPU map `connection_stats`. */
struct connection_stats {
	__u64 created;     /* embryos */
	__u64 established; /* answered */
	__u64 refused;     /* answered, but there was no room: goes on as an embryo */
	__u64 invalid;     /* packets */
	__u64 related;     /* packets */
	__u64 reset;       /* connections */
	__u64 closed;      /* connections, by FIN of both ends */
	__u64 fragments;   /* later fragments whose first is not known */
};

#endif
