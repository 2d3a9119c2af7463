/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Drops: packets that the kernel gave up, with its reason and the place in its code.
 *
 * Every drop is counted, by reason and place; some are recorded, so many a second, with what can be read of
 * the packet.  drops = recorded + unrecorded + lost, in drops (not in wire packets: one drop of a GSO packet
 * is one).
 */
#ifndef WEIR_SHARED_DROP_H
#define WEIR_SHARED_DROP_H

#include <linux/types.h>

#define DROP_PLACES_MAX 1024         /* (reason, place) pairs counted apart; the rest in one sum */
#define DROP_RING_BYTES (256 * 1024) /* a multiple of the page size, a power of two */
#define DROP_RATE_MAX   1000000      /* records a second */

/* Key of the map `drop_counts`. */
struct drop_key {
	__u64 location; /* address in the kernel's text, behind the call that dropped */
	__u32 reason;   /* enum skb_drop_reason of the running kernel; upper 16 bits: the subsystem */
	__u32 reserved;
};

/* Its value, one per CPU. */
struct drop_count {
	__u64 packets; /* wire packets: the segments of a GSO packet */
	__u64 bytes;   /* from the first header that is there on: link, else network */
	__u64 last;    /* tick of the last one (jiffies) */
	__u64 window;  /* tick at which the window of the last record ends */
};

/* What tc drops, which is what weir's own rules drop and can be a lot, is counted without a look into a hash
 * table: in the first place where that happens. */
enum drop_tc { DROP_TC_INGRESS, DROP_TC_EGRESS, DROP_TC_COUNT };

struct drop_at_tc {
	struct drop_key key; /* location 0: none yet */
	struct drop_count count;
};

/* The map `drop_stats`, one per CPU. */
struct drop_stats {
	__u64 drops;      /* in our network namespace; a GSO packet is one */
	__u64 recorded;   /* of them */
	__u64 unrecorded; /* more than the rate allows */
	__u64 lost;       /* found no room in the ring */
	__u64 unassigned; /* packets that do not say to which network namespace they belong; not in `drops` */
	struct drop_count other;             /* found no room in `drop_counts` */
	struct drop_at_tc tc[DROP_TC_COUNT]; /* beside `drop_counts`: a place may be in both */
};

/* The map `drop_settings`. */
struct drop_settings {
	__u32 watch;        /* 0: nothing is counted */
	__u32 window_ticks; /* the rate is one of windows, of so many ticks each */
	__u32 allowance;    /* records in a window, by all CPUs */
	__u32 reserve;      /* of them only for a reason and place that had none in this window */
};

/* The map `drop_window`: who writes it, races with the other CPUs; a record more or less is no matter. */
struct drop_window {
	__u64 end; /* its tick: a multiple of window_ticks */
	__u64 used;
};

#define DROP_OUT     0x01 /* was on its way out; else on its way in */
#define DROP_BY_RULE 0x02 /* a rule of weir's dropped it, or the default verdict … */
#define DROP_AT_XDP  0x04 /* … at XDP */

struct drop_record {
	__u64 time_ns; /* CLOCK_MONOTONIC */
	__u64 location;
	__u32 reason;
	__u32 ifindex; /* 0: none */
	__u32 packets;
	__u32 bytes;
	__be32 src[4], dst[4]; /* IPv4 uses [0] */
	__be16 sport, dport;   /* as in a flow's key: FLOW_KIND_* in `kind` says what they mean */
	__u16 vlan;
	__u8 proto;
	__u8 kind;
	__u8 tcp_flags;
	__u8 marks;      /* DROP_* */
	__be16 protocol; /* EtherType; 0: the kernel had not set it */
	__u32 owner;     /* shared/owner.h; OWNER_UNKNOWN also where there is no socket */
	__u32 rule;      /* DROP_BY_RULE: its id; 0: the default verdict */
};

#endif
