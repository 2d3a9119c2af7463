/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Families: the processes that rules name by their id (`by pid N`), with all that they start, and what those
 * start.
 *
 * Each process that rules name is the root of a family, and each family has a number.  A process belongs to
 * the families that its parent belonged to when it began; what becomes of the parent later changes nothing.
 * While there are families, and only then, the datapath notes each process that begins in one.
 */
#ifndef WEIR_SHARED_FAMILY_H
#define WEIR_SHARED_FAMILY_H

#include <linux/types.h>

#define FAMILIES_MAX       256 /* at a time */
#define FAMILY_WORDS       (FAMILIES_MAX / 64)
#define FAMILY_MEMBERS_MAX 65536       /* processes that live, of all families */
#define FAMILY_ENDED_MAX   4096        /* that have ended, whose sockets may still send */
#define FAMILY_TICK_NS     10000000ULL /* of /proc/PID/stat: USER_HZ is 100 everywhere */

/* A process, for ever. */
struct family_process {
	__u64 start; /* CLOCK_BOOTTIME of its start in FAMILY_TICK_NS */
	__u32 pid;   /* thread group, as the outermost pid namespace counts */
	__u32 reserved;
};

/* The value of the maps `family_members` and `family_ended`, by struct family_process: bit n: it belongs to
 * family n. */
struct family_set {
	__u64 word[FAMILY_WORDS];
};

/* The only value of the map `family_state`. */
struct family_state {
	struct family_set alive; /* families that there are: whoever begins belongs to no other */
	__u64 full;              /* processes that began in a family and found no room */
	/* of the search for processes that were there before (iter/task) */
	struct family_process root; /* whom to look for */
	__u32 root_found;
	__u32 joined; /* processes that were found to belong to more families than noted */
};

#endif
