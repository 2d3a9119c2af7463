/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * The flow cache, as the datapath writes it and the agent reads it.
 *
 * Per CPU, four ways a set.  A line is one flow as one CPU saw it: key, counters, and the decision about it
 * (which later parts of weir fill in).  An IPv4 line is one 64-byte cache line; so is the part of an IPv6
 * line that a hit compares and counts, and the rest of it stands in a second array.  Only its own CPU writes
 * a line; the agent reads through a shared mapping.
 *
 * How a reader stays safe: `serial` names the tenant of a line.  It is 0 while the line is empty or being
 * refilled, and different for every filling of one line.  A reader takes the serial, copies the line, and
 * takes the serial again; if it is the same and not 0, key and counters belong together.  Counters of a
 * living line are single aligned words, so they are never torn; packets and bytes may be one packet apart,
 * until the next read.
 *
 * How nothing gets lost between line and record: the record of a line that is pushed out is in the ring
 * before the line's serial changes.  Who sees a new serial will find the old tenant's record in the ring, or
 * it was counted lost.  It is lost only where the new tenant cannot do without a line, for what is decided
 * about it stands there (bpf/lib/flow.h).  What services and XDP send on can: where the ring is full it is
 * the new one's packet that is counted lost, and who was there before keeps the line and what it has counted.
 */
#ifndef WEIR_SHARED_FLOW_H
#define WEIR_SHARED_FLOW_H

#include <linux/types.h>

#include "shared/reason.h"

#define FLOW_WAYS 4

/* Lines per CPU, if the configuration says nothing: 2 MiB of IPv4, 768 KiB of IPv6. */
#define FLOW_LINES4_DEFAULT 32768
#define FLOW_LINES6_DEFAULT 8192

/* Time in the datapath is the kernel's tick counter, jiffies: reading it is one load, where the coarse clock
 * costs as much as all the rest of accounting.  32 bits last 49 days at 1000 Hz. */

/* flow kind: what the addresses and ports of a key mean */
#define FLOW_KIND_OUT      0x01 /* left through the interface; else came in */
#define FLOW_KIND_IPV4     0x02
#define FLOW_KIND_IPV6     0x04 /* neither: not IP, or unreadable; sport = EtherType, dport = parse reason */
#define FLOW_KIND_FRAGMENT 0x08 /* a later fragment: no ports */
#define FLOW_KIND_PORTS    0x10 /* sport and dport are ports */
#define FLOW_KIND_ICMP     0x20 /* sport = echo identifier or 0, dport = type << 8 | code */
#define FLOW_KIND_TAGGED   0x40 /* vlan is a VLAN id */

/* who began: from the SYN, so that the service's side is known */
#define FLOW_ORIGIN_INITIATOR 0x01 /* a SYN without ACK came from src */
#define FLOW_ORIGIN_RESPONDER 0x02 /* a SYN with ACK came from src */
#define FLOW_OWNER_DUE        0x80 /* beside them: whose the flow is, is still to be looked for */

/* what was decided, beside that (bpf/lib/flow.h tells how long it holds) */
#define FLOW_VERDICT_ACCEPT  0x04
#define FLOW_VERDICT_DROP    0x08
#define FLOW_VERDICT_ASK     0x0c /* both: each packet is asked about */
#define FLOW_VERDICT_TRACKED 0x10 /* holds while the connection is established */
#define FLOW_VERDICT_EACH    0x20 /* … which is to be looked at with each packet */
#define FLOW_VERDICT_MASK    0x3c
#define FLOW_DROPPED         0x40 /* the last packet that was asked about was dropped */

struct flow_counts {
	__u64 bytes;   /* wire bytes from the link header on */
	__u32 packets; /* wire packets; the line is pushed out before this wraps */
	__u32 last;    /* tick of the last packet */
};

struct flow_marks {
	__u8 tcp_flags; /* all seen; FIN is bit 0 (RFC 9293) */
	__u8 origin;    /* FLOW_ORIGIN_*, FLOW_OWNER_DUE, FLOW_VERDICT_*, FLOW_DROPPED */
	__u8 owner_tag; /* of decision.owner, which for IPv6 stands elsewhere: another tag is another owner */
	__u8 names;     /* NAME_* (shared/name.h) */
};

/* What was found out and decided about the flow; backend is zero until balancing is built. */
struct flow_decision {
	__u32 rule; /* id of the rule that decided about the last packet that was asked about; 0: none did */
	__u32 counter; /* of that rule, in the map `rule_counts` */
	__u16 class;   /* path (shared/shape.h) of what is not dropped; 0: none */
	__u16 backend; /* for balancing */
	__u32 owner;   /* whose socket it is: an id of shared/owner.h, maybe with OWNER_INHERITED */
};

struct flow_line4 {
	struct flow_counts counts;
	__be32 src, dst;
	__be16 sport, dport;
	__u32 ifindex;
	__u8 proto; /* IP protocol */
	__u8 kind;
	__u16 vlan; /* innermost VLAN id, host byte order */
	struct flow_marks marks;
	__u32 serial;
	__u32 first; /* tick of the first packet */
	struct flow_decision decision;
};

struct flow_line6 {
	struct flow_counts counts;
	__be32 src[4], dst[4];
	__be16 sport, dport;
	__u32 ifindex;
	__u8 proto;
	__u8 kind;
	__u16 vlan;
	struct flow_marks marks;
};

/* What accounting a hit does not touch stands apart, in an array of the same order: so a hit costs IPv6 no
 * more pages and cache lines than IPv4. */
struct flow_rest6 {
	__u32 serial;
	__u32 first;
	struct flow_decision decision;
	__u32 reserved[2];
};

struct flow_set4 {
	struct flow_line4 line[FLOW_WAYS];
};

struct flow_set6 {
	struct flow_line6 line[FLOW_WAYS];
};

struct flow_rest_set6 {
	struct flow_rest6 line[FLOW_WAYS];
};

_Static_assert(sizeof(struct flow_line4) == 64, "an IPv4 flow is one cache line");
_Static_assert(sizeof(struct flow_line6) == 64, "what a hit of an IPv6 flow touches is one, too");
_Static_assert(sizeof(struct flow_rest6) == 32, "and the rest does not straddle two");

/* A record in the ring: a line that was pushed out.  `line` is its index in its CPU's part of the array. */
struct flow_record4 {
	__u32 family; /* 4 */
	__u32 line;
	struct flow_line4 flow;
};

struct flow_record6 {
	__u32 family; /* 6 */
	__u32 line;
	struct flow_line6 flow;
	struct flow_rest6 rest;
};

/*
 * What one CPU counted, in wire packets.  seen = cached + emitted + lost: `seen` is counted where a packet
 * enters, the others where its line is; a reader that finds them unequal came in the middle of a packet and
 * reads again.
 */
struct flow_stats {
	__u64 seen;
	__u64 cached;  /* in lines now */
	__u64 emitted; /* in records that went to the ring */
	__u64 lost;    /* in no flow: the ring was full */
	__u64 lost_bytes;
	__u64 records;                   /* records that went to the ring */
	__u32 serial;                    /* of the line filled last */
	__u32 full;                      /* tick in which the ring had no room last */
	__u64 reasons[PARSE_REASON_MAX]; /* packets per parse_reason but OK */
	__u64 postponed;                 /* looks for an owner that had to wait for a later packet */
	__u32 look_tick, looks;          /* this tick's looks for who receives a packet */
	__u64 reserved1[7];
};

_Static_assert(sizeof(struct flow_stats) == 256, "CPUs do not share cache lines");

#endif
