/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Which rule dropped a packet: noted by who drops it, for the record of the kernel's drop (drop.bpf.c). */
#ifndef WEIR_BPF_NOTE_H
#define WEIR_BPF_NOTE_H

#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#define NOTE_TICKS 2 /* that it is good for */

struct drop_note {
	__u32 rule; /* id; 0: the default verdict */
	__u32 tick;
	__u32 dropped;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct drop_note);
} drop_notes SEC(".maps");

/* To be called last: what tc drops next on this CPU is this packet. */
static __attribute__((always_inline)) inline void note_drop(__u32 rule)
{
	__u32 zero = 0;
	struct drop_note *note = bpf_map_lookup_elem(&drop_notes, &zero);

	if (!note)
		return;
	note->rule = rule;
	note->tick = bpf_jiffies64();
	note->dropped = 1;
}

/* Was the packet that tc drops just now dropped by us? */
static __attribute__((always_inline)) inline int note_take(__u32 *ret_rule)
{
	__u32 zero = 0;
	struct drop_note *note = bpf_map_lookup_elem(&drop_notes, &zero);

	if (!note || !note->dropped)
		return 0;
	note->dropped = 0;
	*ret_rule = note->rule;
	return (__u32)bpf_jiffies64() - note->tick < NOTE_TICKS;
}

#endif
