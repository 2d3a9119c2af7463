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
	SHAPE_INTERACTIVE, /* … and a class that was declared gets what is recognised as that */
	SHAPE_PRIORITIES,
};

#define SHAPE_CLASS_OUT     0x01 /* what leaves; else what comes in */
#define SHAPE_CLASS_LINK    0x02 /* the root of a tree */
#define SHAPE_CLASS_REST    0x04 /* what belongs to no other class of its link */
#define SHAPE_CLASS_CEILING 0x08 /* has a ceiling */
#define SHAPE_CLASS_BOTH    0x10 /* what leaves and what comes in, together */
#define SHAPE_CLASS_PACED   0x20 /* HTB: sockets are paced in front of its leaf, to a little less */
#define SHAPE_CLASS_QUEUED  0x40 /* PACING: all of its link waits in one queue of departure times */

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
	__u32 htb; /* handle of its leaf of HTB (major << 16 | minor), behind any engine; 0: it has none */
	__u32 redirect; /* HTB, in: interface (ifb) whose tree that is */
	__u8 engine;    /* enum shape_engine */
	__u8 priority;  /* enum shape_priority */
	__u8 meter;     /* of `meters`: the one in use */
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
 * exchanged whole; all CPUs write.  What every packet touches. */
struct shape_state {
	struct token_bucket bucket; /* of the ceiling */
	/* what was found out when the ceiling's clock was read last, for packets that need not read it */
	__u64 read;       /* token_clock_now() … */
	__u64 read_ns;    /* … at that moment */
	__u64 cap;        /* what the bucket may be taken to hold without a look at the clock */
	__u64 mark;       /* as in the meter */
	__u32 rate;       /* tokens in 2^SHAPE_RATE_SHIFT ns, rounded down */
	__u32 fresh;      /* enum shape_fresh, and above it a number that changes with each reading */
	__u64 departs_ns; /* EDT: when the last packet leaves */
	__u64 share;      /* PACING: of other_rate: ns, spent up to */
	/* PACING: bytes a second, of the control loop */
	__u64 allowance;  /* what it may use now, borrowed included; 0: not told */
	__u64 flow_rate;  /* each socket that it holds back */
	__u64 other_rate; /* what is no TCP of a local socket, all of it together; 0: not told */
	__u64 own_share,
		own_rate; /* the same of what is in none of its children; 0: it is no parent of others */
	__u32 flows;      /* sockets that it and those below it hold back */
	__u32 counter;    /* of the rule that makes it, in rule_counts; the agent writes it.  0: none does */
	/* EDT: packets sent later than asked for, and by how much in sum */
	__u64 delayed_packets, delay_ns;
};

/* What may be done with a packet by struct shape_state alone. */
enum shape_fresh {
	SHAPE_STALE,   /* nothing: look at the class */
	SHAPE_METERED, /* take it from the bucket */
	SHAPE_FREE,    /* let it go: the class has no rate */
	SHAPE_WRITTEN, /* nothing: it is being written */
};

#define SHAPE_RATE_SHIFT 24

/*
 * From a bucket that is nearly full a CPU takes more than a packet needs, and lets the next ones pass by that
 * alone, without a step that all CPUs have to see.  What all hold together is at most a sixteenth of
 * the burst (SHAPE_HOLD_SHIFT), and so much less the bucket is taken to hold meanwhile: a class never passes
 * more than its burst and its rate.  Small bursts are not divided.  Of a class without a rate a CPU holds
 * what there is room for, which saves it the look at the class.
 *
 * Who reads the clock, and so may find the whole burst in the bucket, recalls what is held before:
 * shape_hint.recall becomes another, and struct shape_count has what stood there when its bytes were taken.
 * So a packet that passes by what its CPU holds touches the line of its counters and that hint, which stands
 * close to those of other classes and seldom changes, and not the class's state.
 */
#define SHAPE_HOLD_SHIFT 4
#define SHAPE_HOLD_LEAST 131072U /* bytes of burst */
#define SHAPE_HOLD_BITS  16      /* of the bytes */
#define SHAPE_HOLD_NONE  63      /* a shift that leaves none */

/* The value of the map `shape_hints`: what a packet needs of a class that lets it pass at once. */
struct shape_hint {
	__u32 recall; /* how often, shifted by one; and whether anything was taken since (SHAPE_LENT) */
	__u16 parent; /* as in struct shape_class, which packets need not look at for that */
	__u16 reserved;
};

#define SHAPE_LENT   1U
#define SHAPE_RECALL 2U /* one more */

/* What a burst is divided by, as a shift, for what one of `cpus` may hold. */
static inline __attribute__((always_inline, unused)) __u32 shape_hold_shift_of(__u32 cpus)
{
	__u32 shift = SHAPE_HOLD_SHIFT;

	while (1ULL << (shift - SHAPE_HOLD_SHIFT) < cpus)
		shift++;
	return shift;
}

/* What the control loop of pacing knows of a class (bpf/lib/share.h): the value of the map `shape_shares`.
 * Rates are wire bytes a second. */
struct shape_share {
	/* counted by packets, on all CPUs, since the window began */
	__u64 bytes;       /* that left … */
	__u64 held_bytes;  /* … of sockets that this class holds back */
	__u64 other_bytes; /* … of what is no TCP of a local socket: policed at other_rate */
	__u64 refused;     /* bytes of those that were dropped */
	__u64 seen[2];     /* flows of those, a bit each by their hash: since lately, and before */
	__u32 epoch;       /* by which sockets are counted: each once in an epoch */
	__s32 held[2];     /* sockets held back, in this epoch and in the last one */
	__u32 burst;       /* longest packet of a socket that is held back */
	__u32 rtt_us;      /* longest round trip of those */
	__u32 active;      /* is in the control loop's list */
	__u32 generation;  /* of the class that all this is of */
	/* of the control loop alone */
	__u32 over;                  /* more was sent than there is: whoever has more to send is held back */
	__u32 lacking_us;            /* so long the class has not used what it got */
	__u32 sated;                 /* … and that was long enough: it wants no more than it uses */
	__u32 alone;                 /* nobody else wants what it does not use */
	__u32 corrects;              /* sockets held back in the last window */
	__u32 other_wants;           /* flows of which something was refused lately: so many sockets' parts */
	__u32 gain;                  /* in 1/65536: what held sockets' rates are corrected by */
	__u32 eager;                 /* it held sockets back, and has not been seen to stop since */
	__u32 stops;                 /* that is seen now */
	__u64 quiet_ns, quiet_bytes; /* since then it holds none, and `bytes` is this */
	__u64 since_ns, epoch_ns, used_ns,
		seen_ns; /* when the window began, the epoch; something was sent last */
	__u64 epoch_length_ns;
	__u64 rate, usual, small,
		other; /* of all, and smoothed: of all, of sockets not held back, of others */
	__u64 allowance, flow_rate, other_rate; /* as in shape_state */
	__u64 potential;                        /* what the class would get if it wanted all */
	/* the same of what is in none of its children (it has none: all), and by what its sockets' rates are
	 */
	__u64 own_allowance, own_potential, let;
	__u64 due, let_due; /* bytes of both since the window began … */
	__u64 passed_ns;    /* … up to this moment */
	__u64 behind;       /* bytes that wait in the class's leaf of HTB */
	/* the round of allowances: of the class … */
	__u64 want, floor; /* what it could use; of that, what is its own by right */
	__u64 wanted;      /* by all that share its allowance */
	__u64 own_want;    /* … of what is in none of its children */
	__u32 below;       /* sockets held back by classes below it */
	__u32 direct;      /* has children, and sends what is in none of them: as a child more */
	__u32 depth;       /* 0: has no parent */
	/* … and as a parent, of its children */
	__u32 marginal; /* the priority that gets a part of what it wants */
	__u32 children;
	__u64 floors, wants[SHAPE_PRIORITIES], weights[SHAPE_PRIORITIES]; /* sums */
	__u64 left, level, given, unsated;
};

/* The value of the socket storage `shape_sockets`. */
struct shape_socket {
	__u32 path;
	__u32 caught;     /* its rate is set at each round trip; else the agent has to look for it */
	__u32 class;      /* that holds it back; 0: none */
	__u32 generation; /* of the class */
	__u32 epoch;      /* in which it was counted last … */
	__u32 counted;    /* … as held back, bit 0: in this epoch, bit 1: in the one before */
	__u32 rate;       /* that was set last, payload bytes a second; 0: none */
	__u32 own_rate;   /* the application's; ~0: none */
	__u32 header;     /* bytes of headers of a packet on the wire, from the link header on; 0: not seen */
	__u32 clamp;      /* of the congestion window, that was set last; 0: none */
	__u32 spread;     /* its packets were moved away from those of others */
	__u32 fresh;      /* round trips for which it may keep its path without a packet that has one */
};

/* What the control loop did. */
struct pace_stats {
	__u64 ticks, tick_ns; /* and how long they took in sum */
	__u64 classes;        /* in use */
	__u64 followed;       /* grows by each socket that only the agent's visits re-rate */
};

/* The value of the map `shape_counts`, of class n on a CPU at CPU * SHAPE_CLASSES_MAX + n. */
struct shape_count {
	__u64 sent_packets, sent_bytes; /* wire */
	/* packets that its rule led here, dropped ones too, and that stand in no other counter of the rule */
	__u64 plain_packets, plain_bytes;
	__u64 dropped_packets, dropped_bytes;
	__u64 marked_packets; /* ECN */
	__u32 plain_last;     /* tick of the last of those */
	__u32 held;           /* recall << SHAPE_HOLD_BITS | bytes: what this CPU took in advance */
};

_Static_assert(sizeof(struct shape_meter) == 64, "one cache line");
_Static_assert(sizeof(struct shape_class) == 192, "whole cache lines");
_Static_assert(sizeof(struct shape_state) == 128, "one cache line");
_Static_assert(sizeof(struct shape_count) == 64, "one cache line");

/* The value of the map `shape_paths` (an array); the key of `shape_path_numbers`, whose value is the path. */
struct shape_path {
	__u16 class[SHAPE_PATH_MAX]; /* from leaf to link, then the next chain's; 0: the end */
	/* of the rules that led here (rule_counts); 0: none, or a class's own, which counts for it (`plain`)
	 */
	__u16 counter[SHAPE_RULES_MAX];
	__u8 above; /* bits: of `class`, those that stand above another one here, which speaks for them */
	__u8 plain; /* bits: of `class`, those whose own rules led here */
	__u16 reserved[3];
};

_Static_assert(sizeof(struct shape_path) == 32, "does not straddle two cache lines");

/*
 * What is interactive: SSH, DNS, and flows that are small or sparse, which is those that have sent no more
 * than so many bytes and so many more for each second that they are old.  A flow that is interactive only as
 * long as it is small keeps no path: each of its packets, few as they are, is asked about.  Each CPU knows
 * what it has seen of a flow.
 */
#define SHAPE_SMALL_BYTES  32768U
#define SHAPE_SPARSE_BYTES 16384U /* a second */

/*
 * A class that its own rule led to counts for the rule as well: who reads the rule's counter adds that.  So
 * packets need not touch that counter's line.  The path that is such a class and all that stands above it has
 * the class's number: it is *plain*, and its packets find their way up by the hints of the classes.
 *
 * All others are numbered from SHAPE_CLASSES_MAX on in two halves, one in use for new ones.  When it is
 * nearly full the agent empties the other (which nothing refers to since the last time), makes that the one
 * in use, and lets no kept decision hold: each flow is asked about again and gets a number of the new half.
 */
#define SHAPE_HALF            ((SHAPE_PATHS_MAX - SHAPE_CLASSES_MAX) / 2)
#define SHAPE_HALF_OF(number) (((number)-SHAPE_CLASSES_MAX) / SHAPE_HALF)

/* Does the control loop give sockets their rates by this class? */
static inline __attribute__((always_inline, unused)) int shape_is_paced(const struct shape_class *class)
{
	return class->engine == SHAPE_PACING || class->flags & SHAPE_CLASS_PACED;
}

/* The only value of the map `shape_numbering`. */
struct shape_numbering {
	__u32 half; /* 0, 1: in use */
	__u32 made; /* paths numbered in it; may count beyond what there is */
	__u64 full; /* packets of flows that got no number: each of them is asked about */
};

/* A link: the value of the map `shape_links`, whose key is SHAPE_LINK_KEY(). */
struct shape_link {
	__u16 class;       /* its root */
	__u16 rest;        /* for what no rule gives a class on it; 0: none */
	__u16 interactive; /* … and for what of that is interactive; 0: none */
	__u16 reserved;
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
