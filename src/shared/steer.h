/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Steering: which CPU goes on with a packet, as the agent writes it and the program at XDP
 * (bpf/steer.bpf.c) reads it.
 *
 * A book is one memory, an array map of 64-byte units: first a policy (shared/policy.h), whose rules are the
 * sentences in their order, then, from unit policy_header.units on, a struct steer_head, a struct steer for
 * each sentence (policy_rule.source is its place), and their CPUs.  Two books stand beside each other; bit
 * STEER_PLACE (shared/forward.h) of policy_now.places says which is in force, so they change at one point
 * with the rules.
 */
#ifndef WEIR_SHARED_STEER_H
#define WEIR_SHARED_STEER_H

#include <linux/types.h>

#include "shared/trie.h"

#define STEER_QUEUE       2048 /* packets that wait for a CPU at most; those of one more sweep are dropped */
#define STEER_LANES_MAX   4096 /* CPUs of all sentences together, each counted where it is named */
#define STEER_CPUS_A_UNIT 32
#define STEER_CPUS_LISTED 1024 /* numbers of CPUs are below this */

/* Each has queues of its own. */
enum steer_kind { STEER_NATIVE, STEER_GENERIC, STEER_KINDS };

struct steer_head {
	__u32 count; /* sentences */
	__u32 reserved[15];
};

struct steer {
	__u32 rule;    /* id */
	__u32 ifindex; /* 0: there is no such interface */
	__u32 count;   /* CPUs that are there; 0: what fits goes on where it came in */
	__u32 cpus;    /* unit of the first; __u16 each, in ascending order */
	__u32 flags;   /* STEER_*; of the interface: the agent changes them in place */
	__u32 reserved[11];
};

#define STEER_READY  0x01 /* it has XDP; else all goes on where it came in */
#define STEER_FINISH 0x02 /* packets may come with checksums that are not finished (bpf/lib/finish.h) */

_Static_assert(sizeof(struct steer_head) == sizeof(struct policy_unit), "a head is one unit");
_Static_assert(sizeof(struct steer) == sizeof(struct policy_unit), "a sentence is one unit");

/* Key of the per-CPU map `steer_counts`; the agent makes the entries. */
struct steer_key {
	__u32 rule, cpu; /* to which it went on */
};

struct steer_count {
	__u64 packets, bytes; /* as they come at XDP */
};

/* By the CPU that did not get them, in the per-CPU map `steer_losses`: packets that were to go to it. */
struct steer_loss {
	__u64 full;    /* its queue was */
	__u64 memory;  /* there was none for their sk_buffs */
	__u64 refused; /* the kernel cannot carry one like it: its headroom, its size */
	__u64 absent;  /* not dropped: the CPU has no queue (any more), so it went on where it came in */
};

#endif
