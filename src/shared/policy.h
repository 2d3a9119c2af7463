/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Policies: rules on packets, as the agent compiles them and the datapath reads them.
 *
 * A policy is one memory, an array map of 64-byte units, and everything in it is named by the number of its
 * unit. It is written once, verified, put into its place and never changed again, but for one thing: rows of
 * combinations of sets may be added behind `policy_field.classes` (see sets).
 *
 * How a packet is judged.  Each field of the packet (its source address, its destination port, …) is mapped
 * to a class: values that no rule of the policy tells apart share one.  Each class has a row of bits, one bit
 * a rule: does the rule fit packets of this class, as far as this field goes?  The AND of the rows of all
 * fields is the set of rules that fit, and its first bit the first of them.  A summary in front of each row
 * has a bit for each word of the row that is not zero, so that words without a candidate are not read.  What
 * is too odd to be a field (the process, an expression, a masked mark) is a condition of the rule, asked when
 * all else fits.
 *
 * Sources: Lakshman and Stiliadis (bit vectors), Baboescu and Varghese (aggregated bit vectors); prefixes go
 * through the trie of shared/trie.h.
 */
#ifndef WEIR_SHARED_POLICY_H
#define WEIR_SHARED_POLICY_H

#include <linux/types.h>

#include "shared/bucket.h"
#include "shared/trie.h"

#define POLICY_RULES_MAX       16384 /* of one policy */
#define POLICY_ROW_WORDS       (POLICY_RULES_MAX / 64)
#define POLICY_SUMMARY_WORDS   (POLICY_ROW_WORDS / 64)
#define POLICY_OWNERS_MAX      64 /* different owners that the rules of one policy name */
#define POLICY_EXPRESSIONS_MAX 16 /* different expressions */
#define POLICY_COUNTERS_MAX    65536
#define POLICY_LIMITS_MAX      4096
#define POLICY_LIMITED_MAX     262144 /* sources, destinations that limits tell apart: 27 MiB */
#define POLICY_CONNECTED_MAX   65536  /* of them whose connections are counted */

/* Where policies stand: two places each, one in force, the other for the next. */
#define POLICY_HOST   0
#define POLICY_TENANT 1 /* … and up */
#define POLICY_TENANT_END                                                                                    \
	59 /* bits 59 to 63 of policy_now.places: STEER_, FORWARD_, SERVICE_, GUARD_, SET_PLACE */
#define POLICY_NUMBER_MAX 64

/* The fields with classes.  The trie fields' tables are tries; the others' are arrays of __u16, one class for
 * each value, the last one for all values that are greater (and for "none", where the packet has none). */
enum policy_field_name {
	POLICY_BY_SRC4,     /* trie */
	POLICY_BY_DST4,     /* trie */
	POLICY_BY_SRC6,     /* trie */
	POLICY_BY_DST6,     /* trie */
	POLICY_BY_SRC_SETS, /* combination of sets that the source is in: no table here (shared/set.h) */
	POLICY_BY_DST_SETS,
	POLICY_BY_SPORT, /* host byte order; no ports: 65536 */
	POLICY_BY_DPORT,
	POLICY_BY_PROTO,     /* IP protocol; not IP: 256 */
	POLICY_BY_KIND,      /* POLICY_KIND_VALUE(): family, fragment, direction */
	POLICY_BY_INTERFACE, /* its index */
	POLICY_BY_ICMP,      /* type << 8 | code, of the family's ICMP; none: 65536 */
	POLICY_BY_FLAGS,     /* TCP flags; none: 256 */
	POLICY_BY_DSCP,      /* 0..63; none: 64 */
	POLICY_BY_VLAN,      /* id; untagged: 4096 */
	POLICY_BY_STATE,     /* enum policy_state */
	POLICY_FIELDS,
};

/* family: 0 (not IP), 4, 6; fragment: enum packet_fragment; out: 0, 1 */
#define POLICY_KIND_VALUE(family, fragment, out) (((family) / 2 * 3 + (fragment)) * 2 + (out))
#define POLICY_KINDS                             24

/* What the connection table knows about a packet. */
enum policy_state {
	POLICY_STATE_NONE, /* nothing to track: not IP, or nobody asks */
	POLICY_STATE_NEW,
	POLICY_STATE_ESTABLISHED,
	POLICY_STATE_RELATED,
	POLICY_STATE_INVALID,
	POLICY_STATES,
};

struct policy_field {
	__u32 table;   /* unit where the trie, or the array, begins */
	__u32 size;    /* values of the array; bits of the trie's root */
	__u32 rows;    /* unit of class 0's row; 0: no rule asks for this field */
	__u32 classes; /* rows that are there */
};

/* A row: this unit, then the bits, word by word. */
struct policy_row {
	__u64 summary[POLICY_SUMMARY_WORDS]; /* bit w: word w of the row is not zero */
	/* The first rule of the row asks for nothing but this field and decides: its number + 1.  So packets
	 * of this class are decided by this one look; only in policies for XDP, and only rows of sources. */
	__u32 alone;
	__u32 reserved[7];
};

/* Flags of a policy. */
#define POLICY_STATEFUL    0x01 /* rules ask for the state: TCP connections are followed packet by packet */
#define POLICY_OWNERS      0x02 /* rules ask whose packet it is */
#define POLICY_EXPRESSIONS 0x04 /* rules have expressions: the facts need them first */
#define POLICY_UNCACHED    0x08 /* no decision may be kept with the flow (expressions look at payload) */

/* Unit 0 and following. */
struct policy_header {
	__u32 generation;
	__u32 count;     /* rules */
	__u32 flags;     /* POLICY_STATEFUL, … */
	__u32 row_units; /* of one row, its summary included: 1 + DIV_ROUND_UP(count, 512) */
	__u32 rules;     /* unit of the first struct policy_rule */
	__u32 owners;    /* unit of the first struct owner_condition, one each; 0: none */
	__u32 owner_count;
	__u32 units; /* in use, of the map's */
	struct policy_default {
		__u8 action; /* ACCEPT, DROP or REJECT, when no rule decides */
		__u8 log;
		__u16 reserved;
		__u32 counter;
	} defaults[2]; /* in, out */
	__u32 asked;   /* bit f: rules ask for field f */
	__u32 fickle;  /* bit f: and it may be another with the next packet of the same flow */
	__u64 brought; /* into the kernel: CLOCK_MONOTONIC, ns, another for each */
	struct policy_field fields[POLICY_FIELDS];
};

#define POLICY_HEADER_UNITS                                                                                  \
	((sizeof(struct policy_header) + sizeof(struct policy_unit) - 1) / sizeof(struct policy_unit))

/* What a rule does.  ACCEPT, DROP and REJECT decide; after all others the next rule that fits has its say. */
enum policy_action {
	POLICY_ACCEPT,
	POLICY_DROP,
	POLICY_REJECT, /* drop, and tell the sender */
	POLICY_COUNT,
	POLICY_LOG,
	POLICY_LIMIT, /* what is over the limit is dropped */
	POLICY_MARK,
	POLICY_REDIRECT, /* decides, too */
	POLICY_MIRROR,
	POLICY_DSCP,  /* rewrite */
	POLICY_MAC,   /* rewrite */
	POLICY_SHAPE, /* the packet belongs to a class (shared/shape.h) */
	POLICY_DEFER, /* XDP only: tc will judge this packet */
	POLICY_ACTIONS,
};

/* How a rejected packet is answered. */
enum policy_reject {
	POLICY_REJECT_DEFAULT, /* TCP: reset; else port unreachable */
	POLICY_REJECT_RESET,
	POLICY_REJECT_PORT,       /* ICMP 3/3, ICMPv6 1/4 */
	POLICY_REJECT_HOST,       /* ICMP 3/1, ICMPv6 1/3 */
	POLICY_REJECT_PROHIBITED, /* ICMP 3/13, ICMPv6 1/1 */
};

/* Flags of a rule. */
#define POLICY_RULE_LOG            0x01 /* a record of each packet (as far as the log's rate allows) */
#define POLICY_RULE_STATE          0x02 /* asks for the state: decides about established connections, too */
#define POLICY_RULE_CONDITIONS     0x04 /* owner, expression or mark have to be asked */
#define POLICY_RULE_OWNER_NOT      0x08
#define POLICY_RULE_EXPRESSION_NOT 0x10
#define POLICY_RULE_MAC_SRC        0x20
#define POLICY_RULE_MAC_DST        0x40
#define POLICY_RULE_FICKLE         0x80 /* asks for what may be another with the flow's next packet */

/* One unit. */
struct policy_rule {
	__u32 id;      /* for ever */
	__u32 counter; /* in the map rule_counts */
	__u8 action;   /* enum policy_action */
	__u8 flags;
	__u8 owner;      /* condition + 1; 0: not asked */
	__u8 expression; /* + 1 */
	__u8 reject;     /* enum policy_reject */
	__u8 dscp;
	__u16 class;                   /* SHAPE (shared/shape.h); 0: none */
	__u32 mark, mark_mask;         /* condition: (mark & mark_mask) == mark; mask 0: not asked */
	__u32 set_mark, set_mark_mask; /* POLICY_MARK: mark = mark & ~mask | set */
	__u32 ifindex;                 /* REDIRECT, MIRROR */
	__u32 limit;                   /* LIMIT: in the map rule_limits */
	__u8 mac_dst[6], mac_src[6];
	__u32 generation; /* of the policy that the rule came with */
	__u32 source;     /* its place in the order that the policy was compiled from */
	__u32 reserved1;
};

_Static_assert(sizeof(struct policy_row) == sizeof(struct policy_unit), "a row begins with one unit");
_Static_assert(sizeof(struct policy_rule) == sizeof(struct policy_unit), "a rule is one unit");

/* Connections that were there before `since` go on against the rules: does XDP have to look for them? */
enum policy_kept {
	POLICY_KEPT_NONE,  /* there are none */
	POLICY_KEPT_SOME,  /* there may be: in the connection table */
	POLICY_KEPT_KNOWN, /* … and their addresses are known (shared/shield.h) */
};

/*
 * The one word that says what is in force: the only entry of the map `policy_now`.
 *
 * `since` is a tick: a decision that was kept with a flow holds if the flow's last packet before came later
 * than that.  Whoever changes anything that decides (a policy, a set, a tenant) puts the new thing in its
 * place first, then sets `since` to the tick of now plus one.  So packets of these two ticks are judged anew
 * each, and no kept decision is older than what it was made from.
 */
#define POLICY_TENANT_INTERFACES 0x01
#define POLICY_TENANT_CGROUPS    0x02

struct policy_now {
	__u32 since;
	__u32 active; /* some policy is there; else nobody is judged */
	__u32 cut; /* connections that were made up to this tick do not go on against the rules; 0: all do */
	__u32 tracking; /* connections are noted (active, and a rule that could end one) */
	__u32 deadline; /* tick at which `places` become `places_before`, unless confirmed; 0: none */
	__u32 tenants;  /* POLICY_TENANT_*: look up whose the packet is */
	/* tick since when each packet of TCP comes to the connection table, since a policy in force asks for
	 * the state; 0: not each does.  It is connection_sight.followed; switched on, it is the tick of now
	 * plus one. */
	__u32 stateful;
	__u32 kept;   /* enum policy_kept */
	__u64 places; /* bit n: which of its two places policy n is in force from */
	__u64 places_before;
	__u64 present; /* bit n: there is a policy n; for the agent: the datapath finds its place empty */
	__u64 present_before;
	/* Of dropped packets some are told of, whether their rule logs or not: one each `tell_gap` ticks (0:
	 * none), POLICY_TELL_BURST at once after a time without.  The datapath writes `tell_next`. */
	__u32 tell_gap, tell_next;
	__u32 noted; /* the program at XDP notes what it drops, for the records of the kernel's drops */
	__u32 reserved;
};

#define POLICY_TELL_BURST 16

/* The value of the map `rule_counts`: of counter n on a CPU at CPU * POLICY_COUNTERS_MAX + n. */
struct rule_count {
	__u64 packets; /* wire packets */
	__u64 bytes;   /* wire bytes */
	__u32 last;    /* tick */
	__u32 reserved;
};

#define POLICY_NO_COUNTER 0xffffffff

/* A limit: the value of the map `rule_limits`. */
enum policy_limit_unit { POLICY_LIMIT_PACKETS, POLICY_LIMIT_BYTES, POLICY_LIMIT_CONNECTIONS };
enum policy_limit_per { POLICY_PER_RULE, POLICY_PER_SOURCE, POLICY_PER_DESTINATION };

struct policy_limit {
	struct token_rate rate; /* packets or bytes; CONNECTIONS: `burst` is how many at a time */
	__u8 unit, per;
	__u8 prefix4, prefix6;    /* PER_SOURCE, PER_DESTINATION: leading bits that make one; 32, 128 */
	__u32 generation;         /* buckets of other generations begin anew */
	struct token_clock clock; /* made of `rate` by engine_policy_limit() */
};

/* A source or destination: the key of the map in `limit_sources`. */
struct policy_limited {
	__u32 place, generation;
	__be32 address[4]; /* its leading bits; IPv4: the first word */
	__u8 family;
	__u8 reserved[3];
};

/* Whose connections are counted: the key of the map `limit_connections`; the value is how many (__u32). */
struct policy_limit_key {
	__u32 place, reserved;
	__u64 whom; /* struct connection has it as limit_key */
};

/* What rules compare: everything about one packet, in host byte order unless it says otherwise. */
struct policy_facts {
	__be32 src[4], dst[4]; /* IPv4: the first; the others 0 */
	__u32 ifindex;
	__u32 sport, dport; /* none: 65536 */
	__u32 icmp;         /* none: 65536 */
	__u32 mark;
	__u16 flags; /* none: 256 */
	__u16 proto; /* none: 256 */
	__u16 vlan;  /* none: 4096 */
	__u8 dscp;   /* none: 64 */
	__u8 family; /* 4, 6, 0 */
	__u8 fragment;
	__u8 out;
	__u8 state; /* enum policy_state */
	__u8 reserved;
	__u32 src_sets, dst_sets; /* combinations (shared/set.h) */
	__u64 owners;             /* bit n: owner condition n holds */
	__u64 expressions;        /* bit n: expression n fits */
};

/* A record of the ring `rule_log`. */
#define POLICY_LOG_BYTES 128 /* of the packet, from its network header on */
struct policy_log {
	__u64 time_ns; /* CLOCK_MONOTONIC */
	__u32 rule;    /* id; 0: the default verdict */
	__u32 owner;   /* shared/owner.h */
	__u32 ifindex;
	__u32 length; /* of the packet */
	__u8 action;  /* enum policy_action */
	__u8 hook;    /* 0 XDP, 1 tc */
	__u8 out;
	__u8 state;
	__u8 policy; /* number */
	__u8 over;   /* dropped: over its limit */
	__u16 captured;
	struct {
		__be32 src[4], dst[4];
		__be16 sport, dport;
		__u8 family, proto, tcp_flags, reserved;
	} packet;
	__u8 bytes[POLICY_LOG_BYTES];
};

/* What was decided about a packet, and why. */
#define POLICY_PASSED_MAX 8
struct policy_explanation {
	__u32 rule;  /* id; 0: the default verdict, or no policy */
	__u8 action; /* enum policy_action */
	__u8 hook;   /* 0 XDP, 1 tc */
	__u8 policy; /* number */
	__u8 state;  /* enum policy_state */
	__u8 kept;   /* would be dropped, but belongs to a connection that was there before the rule */
	__u8 over;   /* dropped: over its limit */
	__u8 judged; /* there is a policy */
	__u8 reserved;
	__u32 passed_count;
	__u32 passed[POLICY_PASSED_MAX]; /* ids of rules that fitted and went on (count, log, …); the first */
	struct policy_facts facts;
};

/*
 * Expressions: small programs that run one after the other before the rules are asked, each leaving a bit.
 * The first of a policy stands in `decide_expressions` at POLICY_EXPRESSION_PLACE(), the others behind it.
 */
enum policy_expression_kind {
	POLICY_EXPRESSION_OUT = 1,
	POLICY_EXPRESSION_ETHERNET = 2,
	POLICY_EXPRESSION_KINDS = 4
};
#define POLICY_EXPRESSION_PLACE(place, kind)                                                                 \
	(((place)*POLICY_EXPRESSION_KINDS + (kind)) * POLICY_EXPRESSIONS_MAX)

/* The value of the per-CPU map `decide_chain`. */
struct policy_chain {
	__u64 bits;   /* of the expressions that fit */
	__u32 number; /* of the one that is asked now */
	__u32 next;   /* the place of the one behind it */
};

/* Whose an interface or a cgroup is: the value of the maps `tenant_interfaces` (key: its index) and
 * `tenant_cgroups` (key: hash of its path, as in struct owner). */
struct policy_grant {
	__u16 number;
	__u16 before; /* if a change that waits for its confirmation does not get it */
};

/* What is done so many times a second at most: the values of the map `decide_rates`. */
enum policy_rate_name { POLICY_RATE_LOG, POLICY_RATE_REJECT, POLICY_RATES };
struct policy_rate {
	struct token_clock clock;
	struct token_bucket bucket;
};

/* The only value of the map `decide_question`: a packet that is only asked about, beside its bytes. */
struct policy_question {
	/* What the packet has as its mark and priority, random: so nobody else's packet is taken for it.  0:
	 * nothing is asked. */
	__u32 token[2];
	__u32 ifindex, owner;
	__u32 out;
	__be16 ethertype; /* of one that begins with its network header; 0: a link header comes first */
	__u16 reserved;
};

/* The only value of the map `decide_checks`: facts to be judged by a policy that need not be in force. */
#define POLICY_CHECKS_MAX 1024
#define POLICY_NO_RULE    0xffffffff
struct policy_check {
	__u32 place, xdp, count, reserved;
	struct policy_facts facts[POLICY_CHECKS_MAX];
	__u32 rules[POLICY_CHECKS_MAX]; /* the first that fits, by its place in the order; POLICY_NO_RULE */
};

struct policy_stats {
	__u64 logged;
	__u64 unlogged;   /* packets without a record: over the log's rate, or no room in the ring */
	__u64 rejected;   /* answered */
	__u64 unanswered; /* rejects without an answer: over the rate, or of a kind that is not answered */
	__u64 kept; /* connections (packets judged) that went on against the rules, since they were there
	               before */
	__u64 limited_full; /* packets of sources for which a limit had no room */
	__u64 broken;       /* policies that could not be read: the packet was accepted */
	__u64 unreadable;   /* packets dropped, since what rules ask about could not be read */
};

#endif
