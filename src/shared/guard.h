/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Socket rules: who may create, bind, connect and send, judged at the call.
 *
 * The agent compiles its rules into one struct guard_policy, fills a map with it and puts that map into the
 * place of `guard_policies` that is not in force; bit GUARD_PLACE of policy_now.places (shared/policy.h) says
 * which is, so socket rules and rules on packets change, and go back, at one point.  A call is judged by the
 * old policy or by the new one, never by parts of both.  An empty place means that there are no rules.  The
 * first rule that fits decides; without one the call goes on.
 */
#ifndef WEIR_SHARED_GUARD_H
#define WEIR_SHARED_GUARD_H

#include <linux/types.h>

#include "shared/owner.h"

#define GUARD_PLACE       62   /* bit of policy_now.places: no policy in force has this number */
#define GUARD_RULES_MAX   1024 /* a power of two, so that the verifier believes a masked index */
#define GUARD_PORTS_MAX   16   /* ranges of one rule */
#define GUARD_HITS_MAX    4096 /* rules that were, too, as long as there is a way back to them */
#define GUARD_REPORTS_MAX 16   /* denied calls reported for one rule in a second; all of them are counted */

/* The calls that are asked about, as lists of the rules that judge them. */
enum guard_call {
	GUARD_CREATE, /* socket(), also of raw sockets */
	GUARD_BIND,
	GUARD_CONNECT,
	GUARD_SEND, /* a datagram with an address of its own */
	/* connect() of a datagram socket: nobody is asked again when it sends, so rules for sending judge it
	   too */
	GUARD_CONNECT_DATAGRAM,
	GUARD_CALLS,
};

struct guard_ports {
	__u16 low, high; /* host byte order */
};

struct guard_rule {
	__u32 id;         /* of one rule, for ever */
	__u32 generation; /* of the policy that it came with */
	__u8 allow;
	__u8 call;      /* enum guard_call: as the sentence says it */
	__u8 family;    /* 4, 6; 0: either */
	__u8 type;      /* SOCK_STREAM, ...; 0: any */
	__s16 protocol; /* -1: any */
	__u8 owner_not; /* everybody else is meant */
	__u8 reserved;
	__be32 address[4], mask[4]; /* IPv4: the first of the four */
	__u32 port_count;           /* 0: any port */
	__u32 reserved1;
	struct owner_condition owner;
	struct guard_ports ports[GUARD_PORTS_MAX];
};

struct guard_list {
	__u32 count;
	__u16 rules[GUARD_RULES_MAX]; /* their places in the policy, in the order in which they are asked */
};

struct guard_policy {
	__u32 generation;
	__u32 count;
	struct guard_list lists[GUARD_CALLS];
	struct guard_rule rules[GUARD_RULES_MAX];
};

/* What the map `guard_hits` keeps by id: calls that the rule decided. */
struct guard_hits {
	__u64 hits;
	__u64 last_ns; /* CLOCK_MONOTONIC */
	__u64 second;  /* in which `reported` counts */
	__u64 reported;
};

struct guard_stats {
	__u64 denied;       /* calls, by rules that are there or not any more */
	__u64 unreported;   /* of them: without a record in the ring, being too many */
	__u64 unidentified; /* calls judged without knowing who calls: rules with "by" were passed over */
};

/* A record of `guard_ring`: a call that was denied. */
struct guard_denial {
	__u64 time_ns; /* CLOCK_MONOTONIC */
	__u32 rule;    /* its id */
	__u32 owner;   /* shared/owner.h */
	__u32 pid, uid;
	__u8 call;   /* enum guard_call */
	__u8 family; /* 4, 6 */
	__u8 type;   /* SOCK_STREAM, ... */
	__u8 reserved;
	__u16 protocol;
	__u16 port; /* host byte order */
	__be32 address[4];
	char command[16];
};

#endif
