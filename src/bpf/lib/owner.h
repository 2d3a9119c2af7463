/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Who: owners of sockets (shared/owner.h says what one is).
 *
 * Programs in process context record: owner_current() tells who the current process is, owner_claim() writes
 * a process into a socket.  Programs in softirq only read what the socket carries: owner_of().  The maps are
 * shared by every object that includes this; an object that records defines OWNER_RECORDS first.
 */
#ifndef WEIR_BPF_OWNER_H
#define WEIR_BPF_OWNER_H

#include "bpf/lib/kernel.h"
#include "shared/owner.h"

/*
 * Who has a socket, by the address of its struct sock: from its creation, or first use where it was accepted,
 * to its end (docs/adr/0006).
 *
 * A table of our own in an array: to find an entry costs a few loads and no call, to make or end one takes no
 * lock.  A socket stands in the set that its address leads to or, where that is full, in one of those behind
 * it.
 */
#define SOCKET_SETS  16384 /* a power of two */
#define SOCKET_WAYS  8
#define SOCKET_REACH 4 /* sets in which a socket may stand */
#define SOCKET_TAKEN 1 /* no key: a way that is being filled */

struct socket_set {
	__u64 key[SOCKET_WAYS]; /* socket_key(); 0: free */
	__u64 spilled;          /* some socket found no room here */
	__u64 reserved[7];
	struct socket_owner owner[SOCKET_WAYS];
};

_Static_assert(sizeof(struct socket_set) == 1024, "keys are one cache line");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE); /* for its alignment: values begin with a page */
	__uint(max_entries, SOCKET_SETS);
	__type(key, __u32);
	__type(value, struct socket_set);
} socket_sets SEC(".maps");

/* [0]: the tick at which a socket changed hands last. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} owner_passed SEC(".maps");

/* The address as a number, which the verifier lets nobody calculate with: its negative. */
static __always_inline __u64 socket_key(const void *sk)
{
	__u64 key = (__u64)sk;

	asm volatile("%0 = -%0" : "+r"(key));
	return key;
}

static __always_inline __u64 socket_hash(__u64 key)
{
	return (key >> 6) * 0x9e3779b97f4a7c15ULL; /* struct sock is aligned to cache lines */
}

static __always_inline struct socket_set *socket_set_at(__u64 hash, __u32 further)
{
	__u32 index = (hash >> 40) + further & (SOCKET_SETS - 1);

	return bpf_map_lookup_elem(&socket_sets, &index);
}

static __always_inline struct socket_owner *socket_in_set(struct socket_set *set, __u64 key, __u64 hash)
{
	__u32 first = (hash >> 32) & (SOCKET_WAYS - 1), i;

	if (__builtin_expect(set->key[first] == key, 1))
		return &set->owner[first];
	_Pragma("clang loop unroll(full)") for (i = 1; i < SOCKET_WAYS; i++)
	{
		__u32 way = first + i & (SOCKET_WAYS - 1);

		if (set->key[way] == key)
			return &set->owner[way];
	}
	return (void *)0;
}

/* Out of line: sets that were full once are rare. */
static __noinline __attribute__((unused)) struct socket_owner *socket_find_further(__u64 key)
{
	__u64 hash = socket_hash(key);
	struct socket_owner *owner;
	struct socket_set *set;
	__u32 i;

	_Pragma("clang loop unroll(disable)") for (i = 1; i < SOCKET_REACH; i++)
	{
		set = socket_set_at(hash, i);
		owner = set ? socket_in_set(set, key, hash) : (void *)0;
		if (owner || !set || !set->spilled)
			return owner;
	}
	return (void *)0;
}

/* What is kept of a socket, in any program and by any kind of pointer, NULL too; NULL: nothing. */
static __always_inline struct socket_owner *socket_find(const void *sk)
{
	__u64 key = socket_key(sk), hash = socket_hash(key);
	struct socket_set *set = socket_set_at(hash, 0);
	struct socket_owner *owner;

	if (!key || !set)
		return (void *)0;
	owner = socket_in_set(set, key, hash);
	return owner || !set->spilled ? owner : socket_find_further(key);
}

/* The owner of a socket; OWNER_UNKNOWN where none is recorded. */
static __always_inline __u32 owner_of(const void *sk)
{
	struct socket_owner *owner = socket_find(sk);

	return owner ? owner->claim.id : OWNER_UNKNOWN;
}

/* An entry has room behind its text that the verifier wants and nobody uses. */
struct owner_entry {
	struct owner owner;
	char slack[OWNER_PATH_MAX];
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, __u32);
	__type(value, struct owner_entry);
} owners SEC(".maps");

/* The identity behind an id; NULL: none, or long gone. */
static __always_inline const struct owner *owner_get(__u32 id)
{
	struct owner_entry *entry;

	id &= ~OWNER_INHERITED;
	if (id < OWNER_FIRST)
		return (void *)0;
	entry = bpf_map_lookup_elem(&owners, &id);
	return entry ? &entry->owner : (void *)0;
}

#ifdef OWNER_RECORDS

#include "bpf/lib/live.h"

#define OWNER_AF_INET       2
#define OWNER_AF_INET6      10
#define OWNER_KERNEL_THREAD 0x00200000 /* PF_KTHREAD */

#define OWNER_PARTS_MAX      32  /* of an executable's path; power of two */
#define OWNER_CGROUPS_MAX    16  /* parts of a cgroup's */
#define OWNER_COMPONENT_MAX  128 /* bytes of one part that are hashed */
#define OWNER_CONTAINER_SIZE 64  /* hexadecimal digits */

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct owner_key);
	__type(value, __u32);
} owner_ids SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20);
} owner_ring SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct owner_stats);
} owner_stats SEC(".maps");

/* [0]: the id given out last. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} owner_last SEC(".maps");

/* Who was asked for last on this CPU: most often the next is the same.  One process may interrupt another in
 * the middle of writing it, so an entry carries a check. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct owner_claim);
} owner_recent SEC(".maps");

/* The task that bpf_get_current_task_btf() told of last on this CPU. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} owner_task SEC(".maps");

const volatile __u32 owner_casts = 0; /* bpf_rdonly_cast() is there (6.2) */

extern void *bpf_rdonly_cast(const void *object, __u32 btf_id) __ksym __weak;

/* What new entries begin as: never written. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct owner_entry);
} owner_blank SEC(".maps");

#define owner_count(field)                                                                                   \
	do {                                                                                                 \
		__u32 zero_ = 0;                                                                             \
		struct owner_stats *stats_ = bpf_map_lookup_elem(&owner_stats, &zero_);                      \
                                                                                                             \
		if (stats_)                                                                                  \
			stats_->field++;                                                                     \
	} while (0)

/* `task` is one that the verifier knows (bpf_get_current_task_btf(), an iterator's): its fields are plain
 * loads. */
static __always_inline void owner_key_of(struct task_struct *task, struct owner_key *key)
{
	const struct cred *cred = task->cred;
	struct css_set *cgroups = task->cgroups;

	key->start_ns = task->group_leader->start_boottime;
	key->pid = task->tgid;
	key->exec = task->self_exec_id;
	if (cgroups)
		key->cgroup_id = cgroups->dfl_cgrp->kn->id;
	if (cred) {
		key->uid = cred->euid.val;
		key->gid = cred->egid.val;
	}
}

/* On the way from an executable up to the root. */
struct owner_walk {
	struct dentry *dentry;
	struct mount *mount;
	__u32 count, total; /* parts, and their bytes */
	struct dentry *parts[OWNER_PARTS_MAX];
	struct owner_entry *entry;
	__u32 used;
};

/* bpf_loop: the verifier sees a step once, not every way to take forty of them. */
static long owner_walk_up(__u32 index, void *context)
{
	struct owner_walk *walk = context;
	struct mount *mount = walk->mount;
	struct dentry *dentry = walk->dentry, *parent = BPF_CORE_READ(dentry, d_parent);

	if (dentry == BPF_CORE_READ(mount, mnt.mnt_root) || dentry == parent) {
		struct mount *above = BPF_CORE_READ(mount, mnt_parent);

		if (above == mount)
			return 1;
		walk->dentry = BPF_CORE_READ(mount, mnt_mountpoint);
		walk->mount = above;
		return 0;
	}
	walk->total += BPF_CORE_READ(dentry, d_name.len) + 1;
	if (walk->total > OWNER_PATH_MAX - 1 || walk->count >= OWNER_PARTS_MAX)
		return 1;
	walk->parts[walk->count++ & (OWNER_PARTS_MAX - 1)] = dentry;
	walk->dentry = parent;
	return 0;
}

static long owner_write_part(__u32 index, void *context)
{
	struct owner_walk *walk = context;
	__u32 used = walk->used & (OWNER_PATH_MAX - 1), length; /* it is less, as the verifier has to see */
	struct dentry *dentry;
	char *text;

	if (!walk->count || !walk->entry)
		return 1;
	walk->count--;
	dentry = walk->parts[walk->count & (OWNER_PARTS_MAX - 1)];
	length = BPF_CORE_READ(dentry, d_name.len) & (OWNER_PATH_MAX - 1);
	text = walk->entry->owner.exe;
	if (used + length > OWNER_PATH_MAX - 2)
		return 1;
	text[used & (OWNER_PATH_MAX - 1)] = '/';
	used++;
	bpf_probe_read_kernel(&text[used & (OWNER_PATH_MAX - 1)], length, BPF_CORE_READ(dentry, d_name.name));
	walk->used = used + length;
	return 0;
}

/* What is asked once for a process is in functions that are not static: the verifier looks at such a one
 * once for all its calls, not behind each way that leads there.  It takes no pointer into the kernel, but an
 * address. */
#define owner_function __attribute__((noinline))

static __always_inline __u64 owner_address(const void *pointer)
{
	return -socket_key(pointer);
}

/* The path of the executable, across mounts, from the leaf up; then written from the top down.  A path that
 * is too long loses its beginning. */
owner_function int owner_read_exe(struct owner_entry *entry, __u64 task)
{
	struct file *file = BPF_CORE_READ((struct task_struct *)task, mm, exe_file);
	struct owner_walk walk = {.entry = entry};

	if (!entry || !file)
		return 0;
	walk.dentry = BPF_CORE_READ(file, f_path.dentry);
	walk.mount = (void *)BPF_CORE_READ(file, f_path.mnt) - bpf_core_field_offset(struct mount, mnt);
	bpf_loop(OWNER_PARTS_MAX + 16, owner_walk_up, &walk, 0);
	bpf_loop(OWNER_PARTS_MAX, owner_write_part, &walk, 0);
	return 0;
}

static __always_inline struct kernfs_node *owner_kernfs_parent(struct kernfs_node *node)
{
	struct kernfs_node___rcu *newer = (void *)node;

	if (bpf_core_field_exists(newer->__parent))
		return (void *)BPF_CORE_READ(newer, __parent);
	return BPF_CORE_READ(node, parent);
}

/* On the way from a cgroup up to the root, and down again. */
struct owner_climb {
	struct kernfs_node *node;
	__u32 count, used;
	const char *parts[OWNER_CGROUPS_MAX];
	struct owner_entry *entry;
};

static long owner_climb_up(__u32 index, void *context)
{
	struct owner_climb *climb = context;
	struct kernfs_node *node = climb->node, *parent = owner_kernfs_parent(node);

	if (!parent || climb->count >= OWNER_CGROUPS_MAX)
		return 1;
	climb->parts[climb->count++ & (OWNER_CGROUPS_MAX - 1)] = BPF_CORE_READ(node, name);
	climb->node = parent;
	return 0;
}

static long owner_climb_down(__u32 index, void *context)
{
	struct owner_climb *climb = context;
	__u32 used = climb->used;
	const char *part;
	char *text;
	long length;

	if (!climb->count || !climb->entry || used > OWNER_PATH_MAX - 2)
		return 1;
	climb->count--;
	part = climb->parts[climb->count & (OWNER_CGROUPS_MAX - 1)];
	text = climb->entry->owner.cgroup;
	text[used & (OWNER_PATH_MAX - 1)] = '/';
	length =
		bpf_probe_read_kernel_str(&text[(used + 1) & (OWNER_PATH_MAX - 1)], OWNER_PATH_MAX - 1, part);
	if (length <= 0 || used + length > OWNER_PATH_MAX - 1) {
		text[used & (OWNER_PATH_MAX - 1)] = '\0';
		return 1;
	}
	climb->used = used + length;
	return 0;
}

owner_function int owner_read_cgroup(struct owner_entry *entry, __u64 task)
{
	struct owner_climb climb = {
		.entry = entry, .node = BPF_CORE_READ((struct task_struct *)task, cgroups, dfl_cgrp, kn)};

	if (!entry || !climb.node)
		return 0;
	bpf_loop(OWNER_CGROUPS_MAX, owner_climb_up, &climb, 0);
	bpf_loop(OWNER_CGROUPS_MAX, owner_climb_down, &climb, 0);
	if (!climb.used)
		entry->owner.cgroup[0] = '/';
	entry->owner.cgroup[OWNER_PATH_MAX - 1] = '\0';
	return 0;
}

struct owner_hashing {
	struct owner_entry *entry;
	__u64 path, name,
		run; /* hashes: of all so far, of this component, of the hexadecimal digits just seen */
	__u32 digits, depth;
};

static __always_inline __u64 owner_hash_byte(__u64 hash, __u8 byte)
{
	return (hash ^ byte) * OWNER_HASH_PRIME;
}

/* As many hexadecimal digits as a container's id has, and no more. */
static __always_inline void owner_hash_digits_end(struct owner_hashing *hashing)
{
	if (hashing->digits == OWNER_CONTAINER_SIZE)
		hashing->entry->owner.container_hash = hashing->run;
	hashing->digits = 0;
}

static __always_inline void owner_hash_component_end(struct owner_hashing *hashing)
{
	owner_hash_digits_end(hashing);
	if (hashing->depth < OWNER_DEPTH_MAX) {
		hashing->entry->owner.path_hash[hashing->depth] = hashing->path;
		hashing->entry->owner.name_hash[hashing->depth] = hashing->name;
		hashing->depth++;
	}
}

static long owner_hash_cgroup_byte(__u32 index, void *context)
{
	struct owner_hashing *hashing = context;
	__u8 byte;

	if (!hashing->entry || index >= OWNER_PATH_MAX)
		return 1;
	byte = hashing->entry->owner.cgroup[index];
	if (index && (!byte || byte == '/'))
		owner_hash_component_end(hashing);
	if (!byte)
		return 1;
	hashing->path = owner_hash_byte(hashing->path, byte);
	if (byte == '/') {
		hashing->name = OWNER_HASH_BASIS;
		return 0;
	}
	hashing->name = owner_hash_byte(hashing->name, byte);
	if ((byte >= '0' && byte <= '9') || (byte >= 'a' && byte <= 'f')) {
		if (!hashing->digits)
			hashing->run = OWNER_HASH_BASIS;
		hashing->run = owner_hash_byte(hashing->run, byte);
		hashing->digits++;
	} else {
		owner_hash_digits_end(hashing);
	}
	return 0;
}

static long owner_hash_exe_byte(__u32 index, void *context)
{
	struct owner_hashing *hashing = context;
	__u8 byte;

	if (!hashing->entry || index >= OWNER_PATH_MAX)
		return 1;
	byte = hashing->entry->owner.exe[index];
	if (!byte)
		return 1;
	hashing->path = owner_hash_byte(hashing->path, byte);
	return 0;
}

owner_function int owner_hash(struct owner_entry *entry)
{
	struct owner_hashing hashing = {.entry = entry, .path = OWNER_HASH_BASIS};

	if (!entry)
		return 0;
	/* 0, as depth is in a new entry.  Linux 6.1 goes through a step once, with what it knows in front of
	 * the loop, and takes out what then seems never to happen: it is not to know these. */
	hashing.digits = hashing.depth = entry->owner.depth;
	bpf_loop(OWNER_PATH_MAX, owner_hash_exe_byte, &hashing, 0);
	entry->owner.exe_hash = hashing.path;
	hashing.path = OWNER_HASH_BASIS;
	bpf_loop(OWNER_PATH_MAX, owner_hash_cgroup_byte, &hashing, 0);
	entry->owner.depth = hashing.depth;
	return 0;
}

/* Records an identity that was not known.  Its entry is complete before its id can be found. */
static __noinline __u32 owner_record(struct owner_key *key, struct task_struct *task)
{
	struct owner_entry *blank, *entry;
	__u32 zero = 0, id, *last, *known;
	const char *leader;
	long unreported;

	if (!key)
		return OWNER_UNKNOWN;
	last = bpf_map_lookup_elem(&owner_last, &zero);
	blank = bpf_map_lookup_elem(&owner_blank, &zero);
	if (!last || !blank)
		return OWNER_UNKNOWN;
	id = __sync_fetch_and_add(last, 1) + OWNER_FIRST;
	if (bpf_map_update_elem(&owners, &id, blank, BPF_NOEXIST)) {
		owner_count(refused);
		return OWNER_UNKNOWN;
	}
	entry = bpf_map_lookup_elem(&owners, &id);
	if (!entry)
		return OWNER_UNKNOWN;
	entry->owner.key = *key;
	entry->owner.id = id;
	entry->owner.seen_ns = bpf_ktime_get_ns();
	entry->owner.parent = BPF_CORE_READ(task, real_parent, tgid);
	leader = (void *)BPF_CORE_READ(task, group_leader);
	bpf_probe_read_kernel_str(entry->owner.command, sizeof(entry->owner.command),
		leader + bpf_core_field_offset(struct task_struct, comm));
	owner_read_exe(entry, owner_address(task));
	owner_read_cgroup(entry, owner_address(task));
	owner_hash(entry);
	if (bpf_map_update_elem(&owner_ids, key, &id, BPF_NOEXIST)) {
		/* another thread of the process was faster */
		bpf_map_delete_elem(&owners, &id);
		known = bpf_map_lookup_elem(&owner_ids, key);
		return known ? *known : OWNER_UNKNOWN;
	}
	owner_count(identities);
	unreported = bpf_ringbuf_output(&owner_ring, &entry->owner, sizeof(entry->owner), 0);
	if (unreported)
		owner_count(unreported);
	return id;
}

/* Who is this task? */
static __noinline __u32 owner_of_task(struct task_struct *task)
{
	struct owner_key key = {};
	__u32 *known;

	owner_key_of(task, &key);
	known = bpf_map_lookup_elem(&owner_ids, &key);
	return known ? *known : owner_record(&key, task);
}

/* Has the current process recorded anew: its entry in `owners` was pushed out. */
static __always_inline void owner_forget_current(void)
{
	struct owner_key key = {};

	owner_key_of(bpf_get_current_task_btf(), &key);
	bpf_map_delete_elem(&owner_ids, &key);
}

/* Who is calling?  Process context only. */
static __always_inline __u32 owner_current(void)
{
	return owner_of_task(bpf_get_current_task_btf());
}

/* Is it still the process that claimed the socket? */
static __always_inline int owner_is_current(const struct owner_claim *claim, struct task_struct *task)
{
	return claim->pid == (__u32)task->tgid && claim->exec == (__u32)task->self_exec_id &&
	       claim->cred == (__u64)task->cred && claim->cgroups == (__u64)task->cgroups;
}

static __always_inline __u32 owner_check(const struct owner_claim *claim)
{
	return claim->id ^ claim->pid;
}

/* Who this task is, as a claim says it. */
static __always_inline void owner_identify(struct task_struct *task, struct owner_claim *claim)
{
	struct owner_claim *recent;
	__u32 zero = 0;

	recent = bpf_map_lookup_elem(&owner_recent, &zero);
	if (!recent)
		return;
	*claim = *recent;
	if (claim->id && claim->check == owner_check(claim) && owner_is_current(claim, task))
		return;
	claim->id = owner_of_task(task);
	claim->pid = task->tgid;
	claim->exec = task->self_exec_id;
	claim->cred = (__u64)task->cred;
	claim->cgroups = (__u64)task->cgroups;
	claim->check = owner_check(claim);
	*recent = *claim;
}

/* Flows have to be looked at closely for a while (bpf/lib/flow.h). */
static __always_inline void owner_passes(void)
{
	__u32 zero = 0, *passed = bpf_map_lookup_elem(&owner_passed, &zero);

	owner_count(passed);
	if (passed)
		*passed = bpf_jiffies64();
}

/* Takes an empty place of a set for a key to come; SOCKET_WAYS: none is empty. */
owner_function __u32 socket_take(__u64 hash, __u32 further)
{
	struct socket_set *set = socket_set_at(hash, further);
	__u32 n;

	if (!set)
		return SOCKET_WAYS;
	_Pragma("clang loop unroll(disable)") for (n = 0; n < SOCKET_WAYS; n++)
	{
		__u32 way = (hash >> 32) + n & (SOCKET_WAYS - 1);

		if (!set->key[way] && !__sync_val_compare_and_swap(&set->key[way], 0, SOCKET_TAKEN))
			return way;
	}
	return SOCKET_WAYS;
}

/* An empty entry for a socket that has none; NULL: no room.  Two at once for the same socket may both make
 * one; then the first stays in use, and both end with the socket. */
static __noinline __attribute__((unused)) struct socket_owner *socket_make(__u64 key)
{
	__u64 hash = socket_hash(key);
	struct socket_set *set;
	__u32 i, way;

	_Pragma("clang loop unroll(disable)") for (i = 0; i < SOCKET_REACH; i++)
	{
		set = socket_set_at(hash, i);
		if (!set)
			return (void *)0;
		way = socket_take(hash, i);
		if (way < SOCKET_WAYS) {
			__builtin_memset(&set->owner[way], 0, sizeof(set->owner[way]));
			__sync_lock_test_and_set(&set->key[way], key);
			return &set->owner[way];
		}
		set->spilled = 1;
	}
	return (void *)0;
}

/* What is kept of a socket, from now on where it was nothing; NULL: no room. */
static __always_inline struct socket_owner *socket_find_or_make(const void *sk)
{
	struct socket_owner *owner = socket_find(sk);

	return owner ? owner : socket_make(socket_key(sk));
}

/* The socket has ended. */
static __noinline __attribute__((unused)) int socket_end(__u64 key)
{
	__u64 hash = socket_hash(key);
	struct socket_set *set;
	__u32 i, way;

	_Pragma("clang loop unroll(disable)") for (i = 0; i < SOCKET_REACH; i++)
	{
		set = socket_set_at(hash, i);
		if (!set)
			return 0;
		_Pragma("clang loop unroll(full)") for (way = 0; way < SOCKET_WAYS; way++)
		{
			if (set->key[way] == key)
				set->key[way] = 0;
		}
		if (!set->spilled)
			return 0;
	}
	return 0;
}

/* A task (as above) has the socket of this entry. */
static __always_inline void owner_give(struct socket_owner *entry, struct task_struct *task)
{
	struct owner_claim claim = {};

	owner_identify(task, &claim);
	if (!entry->claim.id)
		owner_count(sockets);
	else if (entry->claim.id != claim.id)
		owner_passes();
	entry->claim = claim;
}

/* A task has this socket; returns what is kept of it, NULL: no room. */
static __always_inline struct socket_owner *owner_claim(const void *sk, struct task_struct *task)
{
	struct socket_owner *entry = socket_find_or_make(sk);

	if (entry)
		owner_give(entry, task);
	else
		owner_count(refused);
	return entry;
}

/* The socket has ended. */
static __always_inline void owner_forget(const void *sk)
{
	socket_end(socket_key(sk));
}

static __always_inline int owner_is_inet(const struct sock *sk)
{
	return sk->__sk_common.skc_family == OWNER_AF_INET || sk->__sk_common.skc_family == OWNER_AF_INET6;
}

#define OWNER_STACK_SIZE 16384 /* of a task in the kernel, at least */

/*
 * Does the process that claimed a socket run, as far as can be told without a call?
 *
 * The helper that gives the current task is a call, which costs more than all the rest.  What a tracing
 * program is given (`context`) lies on the stack of the task that runs; so if the task that the helper told
 * of last on this CPU has that stack, it is the one.  It may have ended: then it has no stack, or is another
 * by now, with one of its own.  A pointer that was cast may be read whatever became of the task.
 */
static __always_inline int owner_is_known_current(const struct owner_claim *claim, const void *context)
{
	__u32 zero = 0;
	__u64 *last = bpf_map_lookup_elem(&owner_task, &zero);
	struct task_struct *task;

	if (!last)
		return 0;
	task = bpf_rdonly_cast((void *)*last, bpf_core_type_id_kernel(struct task_struct));
	return owner_address(context) - owner_address(task->stack) < OWNER_STACK_SIZE &&
	       owner_is_current(claim, task);
}

/* The rest of owner_use(), out of line, so that the usual way is short. */
static __noinline __attribute__((unused)) struct socket_owner *owner_use_asking(
	struct sock *sk, struct socket_owner *entry)
{
	struct task_struct *task = bpf_get_current_task_btf();
	__u32 zero = 0;
	__u64 *last = owner_casts ? bpf_map_lookup_elem(&owner_task, &zero) : (void *)0;

	if (last)
		*last = owner_address(task);
	if (entry && owner_is_current(&entry->claim, task))
		return entry;
	/* sockets of other families pass here, too, and nobody tells when they end */
	if (!netns_is_ours(sk) || !owner_is_inet(sk) || task->flags & OWNER_KERNEL_THREAD || !live_here())
		return entry;
	return owner_claim(sk, task);
}

/* The current process uses a socket: it is its from now on.  `context` is the program's.  Returns what is
 * kept of the socket; NULL: it is not ours. */
static __always_inline struct socket_owner *owner_use(struct sock *sk, const void *context)
{
	struct socket_owner *entry = socket_find(sk);

	if (owner_casts && entry && owner_is_known_current(&entry->claim, context))
		return entry;
	return owner_use_asking(sk, entry);
}

#endif

#endif
