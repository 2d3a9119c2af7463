/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Shaping: classes of traffic with rates, as the agent writes them and the datapath uses them.
 *
 * A *class* is what a sentence gives a rate: `limit`, `guarantee`, or a class that was declared (`shape add`)
 * and is assigned to.  Classes form trees; the root of a tree is a *link*: an interface in one direction,
 * with a rate.  A class below no link stands alone: its ceiling holds on all interfaces together, a guarantee
 * it has none to take from.
 *
 * Rules say to which classes a packet belongs (POLICY_SHAPE, which goes on to the next rule), so it may
 * belong to several, and every ceiling holds.  What a flow belongs to, the ancestors of its classes included,
 * is its *path*: found once, when the flow is judged, kept in flow_decision.class, and one entry of
 * `shape_paths`.
 *
 * Which engine holds a class's rate is the agent's choice (enum shape_engine); a class of SHAPE_PACING has
 * its share of what is not TCP of local sockets policed, so the ceiling holds for all together.
 *
 * Rates are bytes a second and count what the flow cache counts: wire bytes from the link header on.
 */
#ifndef WEIR_SHARED_SHAPE_H
#define WEIR_SHARED_SHAPE_H

#include <linux/types.h>

#include "shared/bucket.h"

#define SHAPE_CLASSES_MAX 16384 /* class 0: none */
#define SHAPE_PATHS_MAX   65536 /* path 0: no class */
#define SHAPE_PATH_MAX    8     /* classes of one path, ancestors included */
#define SHAPE_DEPTH_MAX   4     /* levels of a tree: link, tenant, class, class */
#define SHAPE_RULES_MAX   4     /* rules that give a packet a class; what further ones say is not heard */

enum shape_engine {
	SHAPE_NONE,    /* nothing is held back, all is counted (a class without a rate) */
	SHAPE_PACING,  /* sockets' pacing rate (bpf/pace.bpf.c): no queue */
	SHAPE_HTB,     /* a leaf of the kernel's HTB, chosen by skb->priority */
	SHAPE_EDT,     /* departure times, kept by fq */
	SHAPE_POLICER, /* an exact token bucket */
	SHAPE_ENGINES,
};

/* The higher goes first where a queue or an allowance is given out. */
enum shape_priority {
	SHAPE_LOW,
	SHAPE_NORMAL,
	SHAPE_HIGH,
	SHAPE_INTERACTIVE, /* … and recognises what is: SSH, DNS, small and sparse flows */
	SHAPE_PRIORITIES,
};

#define SHAPE_CLASS_OUT     0x01 /* what leaves; else what comes in */
#define SHAPE_CLASS_LINK    0x02 /* the root of a tree */
#define SHAPE_CLASS_REST    0x04 /* what belongs to no other class of its link */
#define SHAPE_CLASS_CEILING 0x08 /* has a ceiling */

/* A ceiling as the policer uses it: one cache line. */
struct shape_meter {
	struct token_clock clock; /* and the burst */
	__u64 mark;               /* fewer tokens left than this: what is sent is marked (ECN) if it can be */
};

/* The value of the map `shape_classes`: what was asked for.  The agent alone writes it, word by word: what
 * belongs together and changes while packets pass is one word (engine to weight), or made anew in the meter
 * that is not in use before `meter` points at it. */
struct shape_class {
	__u32 generation; /* another for each class that ever had this number; 0: no class */
	__u32 parent;     /* class; 0: none */
	__u32 ifindex;    /* of its link; 0: any */
	__u32 rule;       /* id of the sentence that made it */
	__u32 htb;        /* HTB: handle of its leaf (major << 16 | minor); 0: it has none of its own */
	__u32 redirect;   /* HTB, in: interface (ifb) whose tree that is */
	__u8 engine;      /* enum shape_engine */
	__u8 priority;    /* enum shape_priority */
	__u8 meter;       /* of `meters`: the one in use */
	__u8 reserved;
	__u16 flags;      /* SHAPE_CLASS_* */
	__u16 weight;     /* 1..1000: of siblings' that borrow */
	__u64 ceiling;    /* bytes a second; 0: none */
	__u64 guarantee;  /* bytes a second; 0: none */
	__u64 mark_ns;    /* what waits, or is ahead of its time, so long is marked (ECN) if it can be */
	__u64 horizon_ns; /* EDT: what would have to wait longer is dropped */
	struct shape_meter meters[2];
};

/* The value of the map `shape_states`: what the datapath found out and keeps.  In words that only grow or are
 * exchanged whole; all CPUs write. */
struct shape_state {
	/* what every packet touches */
	struct token_bucket bucket; /* of the ceiling */
	__u64 read;                 /* the ceiling's clock (token_clock_now()) as it was read last … */
	__u32 tick;                 /* … in this tick */
	__u32 active;               /* is in the control loop's list */
	__u64 share;                /* of the allowance, for what cannot be paced: ns, spent up to */
	__u64 departs_ns;           /* EDT: when the last packet leaves */
	__u64 allowance;            /* bytes a second: what it may use now, borrowed included; 0: not told */
	__u64 flow_rate;            /* PACING: bytes a second each of its flows may send at most */
	__u64 window_bytes;         /* since the control loop last looked: wire bytes … */
	/* what the control loop touches (bpf/lib/share.h) */
	__u64 window_flows; /* … and flows that sent something */
	__u64 flows;        /* that were active in the last window */
	__u64 control[14];
};

/* The value of the map `shape_counts`, of class n on a CPU at CPU * SHAPE_CLASSES_MAX + n. */
struct shape_count {
	__u64 sent_packets, sent_bytes; /* wire */
	__u64 dropped_packets, dropped_bytes;
	__u64 marked_packets;            /* ECN */
	__u64 delayed_packets, delay_ns; /* EDT: sent later than asked for, and by how much in sum */
	__u64 borrowed_bytes;            /* of those sent: beyond the guarantee, of the parent's */
};

_Static_assert(sizeof(struct shape_meter) == 64, "one cache line");
_Static_assert(sizeof(struct shape_class) == 192, "whole cache lines");
_Static_assert(sizeof(struct shape_state) == 192, "whole cache lines");
_Static_assert(sizeof(struct shape_count) == 64, "one cache line");

/* The value of the map `shape_paths` (an array); the key of `shape_path_numbers`, whose value is the path. */
struct shape_path {
	__u16 class[SHAPE_PATH_MAX];    /* from leaf to link, then the next chain's; 0: the end */
	__u32 counter[SHAPE_RULES_MAX]; /* of the rules that led here (rule_counts); 0: the end */
};

/*
 * Paths are numbered in two halves, one in use for new ones.  When it is nearly full the agent empties the
 * other (which nothing refers to since the last time), makes that the one in use, and lets no kept decision
 * hold: each flow is asked about again and gets a number of the new half.
 */
#define SHAPE_HALF (SHAPE_PATHS_MAX / 2)

/* The only value of the map `shape_numbering`. */
struct shape_numbering {
	__u32 half; /* 0, 1: in use */
	__u32 made; /* paths numbered in it; may count beyond what there is */
	__u64 full; /* packets of flows that got no number: each of them is asked about */
};

/* A link: the value of the map `shape_links`, whose key is SHAPE_LINK_KEY(). */
struct shape_link {
	__u16 class; /* its root */
	__u16 rest;  /* for what no rule gives a class on it; 0: none */
};

/* The programs of shape.bpf.c in the map `shape_programs`, by what is known of a packet. */
enum shape_program {
	SHAPE_APPLY,   /* its path, in struct shape_ask */
	SHAPE_FIND,    /* the classes that rules gave it, in struct decide_ask */
	SHAPE_EXPLAIN, /* the same, and it is only asked about */
	SHAPE_PROGRAMS,
};

#define SHAPE_LINK_KEY(ifindex, out) ((ifindex) << 1 | (out))
#define SHAPE_LINKS_MAX              4096

#endif
