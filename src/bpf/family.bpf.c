// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* Who belongs to which family (shared/family.h): noted where processes begin and end. */
#include <linux/bpf.h>

#include "bpf/lib/family.h"
#include "bpf/lib/live.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct family_state);
} family_state SEC(".maps");

/* Of each family, for the agent. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, FAMILIES_MAX);
	__type(key, __u32);
	__type(value, struct family_process);
} family_roots SEC(".maps");

static __always_inline struct family_state *family_state_get(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&family_state, &zero);
}

static __always_inline void family_process_of(struct task_struct *task, struct family_process *process)
{
	process->start = BPF_CORE_READ(task, group_leader, start_boottime) / FAMILY_TICK_NS;
	process->pid = BPF_CORE_READ(task, tgid);
	process->reserved = 0;
}

/* The child does not run yet, so it has no socket before it is noted. */
SEC("tp_btf/sched_process_fork")
int BPF_PROG(family_fork, struct task_struct *parent, struct task_struct *child)
{
	struct family_process process = {};
	struct family_state *state = family_state_get();
	const struct family_set *parents;
	struct family_set set;
	__u64 any = 0;

	if (!state || !live_here() || child->pid != child->tgid)
		return 0;
	family_process_of(parent, &process);
	parents = bpf_map_lookup_elem(&family_members, &process);
	if (!parents)
		return 0;
#pragma clang loop unroll(full)
	for (__u32 i = 0; i < FAMILY_WORDS; i++) {
		set.word[i] = parents->word[i] & state->alive.word[i];
		any |= set.word[i];
	}
	if (!any)
		return 0;
	family_process_of(child, &process);
	if (bpf_map_update_elem(&family_members, &process, &set, BPF_ANY))
		__sync_fetch_and_add(&state->full, 1);
	return 0;
}

/* The last thread of a process: its sockets may outlive it. */
SEC("tp_btf/sched_process_exit") int BPF_PROG(family_exit, struct task_struct *task)
{
	struct family_process process = {};
	struct family_set *set;

	if (!live_here() || BPF_CORE_READ(task, signal, live.counter))
		return 0;
	family_process_of(task, &process);
	set = bpf_map_lookup_elem(&family_members, &process);
	if (!set)
		return 0;
	bpf_map_update_elem(&family_ended, &process, set, BPF_ANY);
	bpf_map_delete_elem(&family_members, &process);
	return 0;
}

/* Processes that were there before: each belongs to its parent's families.  To be run until nobody joins: a
 * parent may come behind its child. */
SEC("iter/task") int family_find(struct bpf_iter__task *context)
{
	struct task_struct *task = context->task;
	struct family_state *state = family_state_get();
	struct family_process process = {};
	const struct family_set *parents;
	struct family_set set, *known;
	__u64 more = 0;

	if (!task || !state || task->pid != task->tgid || !BPF_CORE_READ(task, signal, live.counter))
		return 0;
	family_process_of(task, &process);
	if (process.pid == state->root.pid && process.start == state->root.start)
		state->root_found = 1;
	process = (struct family_process){};
	family_process_of(BPF_CORE_READ(task, real_parent), &process);
	parents = bpf_map_lookup_elem(&family_members, &process);
	if (!parents)
		return 0;
	set = *parents;
	family_process_of(task, &process);
	known = bpf_map_lookup_elem(&family_members, &process);
#pragma clang loop unroll(full)
	for (__u32 i = 0; i < FAMILY_WORDS; i++) {
		set.word[i] &= state->alive.word[i];
		more |= set.word[i] & ~(known ? known->word[i] : 0);
	}
	if (!more)
		return 0;
#pragma clang loop unroll(full)
	for (__u32 i = 0; i < FAMILY_WORDS; i++)
		set.word[i] |= known ? known->word[i] : 0;
	if (bpf_map_update_elem(&family_members, &process, &set, BPF_ANY))
		__sync_fetch_and_add(&state->full, 1);
	else
		__sync_fetch_and_add(&state->joined, 1);
	return 0;
}

char _license[] SEC("license") = "Dual BSD/GPL";
