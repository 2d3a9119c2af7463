/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Which rule dropped a packet: noted by who drops it, for the record of the kernel's drop (drop.bpf.c). */
#ifndef WEIR_BPF_NOTE_H
#define WEIR_BPF_NOTE_H

#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#define NOTE_TICKS 2 /* that it is good for */

struct drop_note {
	__u64 frame; /* where it begins, if it was dropped at XDP; 0: in tc */
	__u32 rule;  /* id; 0: the default verdict */
	__u32 tick;
	__u32 packets; /* on the wire; 0: no drop is noted */
	__u32 reserved;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct drop_note);
} drop_notes SEC(".maps");

static __attribute__((always_inline)) inline void note_write(
	__u64 frame, __u32 rule, __u32 packets, __u32 now)
{
	__u32 zero = 0;
	struct drop_note *note = bpf_map_lookup_elem(&drop_notes, &zero);

	if (!note)
		return;
	note->frame = frame;
	note->rule = rule;
	note->tick = now;
	note->packets = packets;
}

/* To be called last: what tc drops next on this CPU is this packet. */
static __attribute__((always_inline)) inline void note_drop(__u32 rule, __u32 packets)
{
	note_write(0, rule, packets, bpf_jiffies64());
}

/* Was the packet that is dropped just now dropped by us?  `frame`: where it begins; 0: tc drops it. */
static __attribute__((always_inline)) inline int note_take(__u64 frame, __u32 *ret_rule, __u32 *ret_packets)
{
	__u32 zero = 0, packets;
	struct drop_note *note = bpf_map_lookup_elem(&drop_notes, &zero);

	packets = note && note->frame == frame ? note->packets : 0;
	if (!packets)
		return 0;
	note->packets = 0;
	if ((__u32)bpf_jiffies64() - note->tick >= NOTE_TICKS)
		return 0;
	*ret_rule = note->rule;
	*ret_packets = packets;
	return 1;
}

#endif
