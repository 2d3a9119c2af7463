/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Owners: which process a socket, and so a flow, belongs to.
 *
 * An identity is one process as it was at one time: after exec, a change of user or a move to another cgroup
 * the same process is another identity, with an id of its own.  Ids count up and are not used again; those
 * below OWNER_FIRST say why there is no process.  A socket carries the id of whoever created, accepted or
 * last used it, in process context (never the current process of a softirq).
 *
 * Everything that rules compare is in the identity as a hash (FNV-1a, 64 bits), so that the kernel can judge
 * the very first call of a process that nobody in user space has heard of yet.
 */
#ifndef WEIR_SHARED_OWNER_H
#define WEIR_SHARED_OWNER_H

#include <linux/types.h>

#include "shared/socket.h"

/* An id with this bit is the owner of the listener: whoever accepts the connection is not known yet. */
#define OWNER_INHERITED 0x80000000

/* ids that are no process */
#define OWNER_UNKNOWN   0 /* a local socket of which nothing was recorded */
#define OWNER_FORWARDED 1 /* no local socket: passes through this host */
#define OWNER_KERNEL    2 /* the kernel itself: answers to pings, resets, its own sockets */
#define OWNER_FIRST     16
/* somebody who has no socket, and is only asked about; no identity gets so far */
#define OWNER_SUPPOSED 0x7fffffff

#define OWNER_COMMAND_MAX 16  /* TASK_COMM_LEN */
#define OWNER_PATH_MAX    256 /* with the NUL; longer paths lose their beginning */
#define OWNER_DEPTH_MAX   12  /* levels of a cgroup path that rules can name */

struct owner_key {
	__u64 start_ns;  /* CLOCK_BOOTTIME of the process' start: tells a pid that was used again */
	__u64 cgroup_id; /* of cgroup v2: the inode of its directory */
	__u32 pid;       /* thread group, as the outermost pid namespace counts */
	__u32 exec;      /* counts execs */
	__u32 uid, gid;  /* effective, as the outermost user namespace counts */
};

/* The value of the map `owners`, and a record of the ring `owner_ring`. */
struct owner {
	struct owner_key key;
	__u64 seen_ns; /* CLOCK_MONOTONIC of its first socket */
	__u32 id;
	__u32 parent;         /* pid of the parent then */
	__u64 exe_hash;       /* of `exe` without the NUL */
	__u64 container_hash; /* of the last 64 hexadecimal digits in a component of the cgroup path; 0: none
	                       */
	__u32 depth;          /* components of the cgroup path, at most OWNER_DEPTH_MAX */
	__u32 ended;          /* in a record: the process has ended; nothing but key and id is set */
	__u64 path_hash[OWNER_DEPTH_MAX]; /* of the path down to each level: "/a", "/a/b", … */
	__u64 name_hash[OWNER_DEPTH_MAX]; /* of each component alone: a unit's name is one of them */
	char command[OWNER_COMMAND_MAX];
	char exe[OWNER_PATH_MAX]; /* of the executable, in the mount namespace's terms; empty: a kernel thread
	                           */
	char cgroup[OWNER_PATH_MAX]; /* path from the root of cgroup v2, beginning with "/" */
};

/* What a rule asks about a process (as "by user guest" does); `struct owner` can answer it. */
enum owner_condition_kind {
	OWNER_CONDITION_ANY,
	/* number; hash[0]: the start of the process in ticks of 10 ms, 0: any; hash[1]: its family + 1, 0: it
	 * alone (shared/family.h) */
	OWNER_CONDITION_PID,
	OWNER_CONDITION_USER,      /* number: effective user id */
	OWNER_CONDITION_GROUP,     /* number: effective group id */
	OWNER_CONDITION_EXE,       /* hash[0]: of the path */
	OWNER_CONDITION_CGROUP,    /* hash[0]: of the path, which has `number` components */
	OWNER_CONDITION_NAME,      /* hash: one of these is a component of the cgroup's path */
	OWNER_CONDITION_CONTAINER, /* hash[0] */
};

#define OWNER_CONDITION_NAMES 4

struct owner_condition {
	__u32 kind;
	__u32 number;
	__u64 hash[OWNER_CONDITION_NAMES]; /* 0: unused */
	__u64 reserved[3];
};

_Static_assert(sizeof(struct owner_condition) == 64, "one unit of a policy");

/* Who has a socket, and the cheap signs that it still is the same one. */
struct owner_claim {
	__u32 id;
	__u32 pid, exec;
	__u32 check;   /* in the CPU's memory of the last one: id ^ pid; tells an entry of two mixed ones */
	__u64 cred;    /* address of the kernel's struct cred: changes with any change of user or group */
	__u64 cgroups; /* address of the css_set: changes with a move to another cgroup */
};

/* What is kept of a socket, from its creation (its handshake or first use where it was accepted) to its end.
 */
struct socket_owner {
	struct socket_life
		life; /* first, so that its address is the entry's: the verifier wants no sums with NULL */
	struct owner_claim claim;
};

struct owner_stats {
	__u64 identities; /* recorded */
	__u64 unreported; /* whose record found no room in the ring; they are in the map `owners` */
	__u64 refused;    /* that found no room in a map */
	__u64 sockets;    /* that were given an owner when they were created or first used */
	__u64 passed;     /* whose owner changed: accepted, or used by another process */
};

#define OWNER_HASH_BASIS 0xcbf29ce484222325ULL /* FNV-1a */
#define OWNER_HASH_PRIME 0x100000001b3ULL

#endif
