/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* How a packet is handed over to be judged, or shaped. */
#ifndef WEIR_BPF_CACHE_H
#define WEIR_BPF_CACHE_H

#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "bpf/lib/line.h"
#include "bpf/lib/packet.h"
#include "shared/policy.h"
#include "shared/shape.h"

/* A packet to be judged: what the datapath knows of it, and where its flow's line is. */
struct decide_ask {
	struct packet packet;
	__u32 set, way; /* of the line, in flow_cache4 or flow_cache6 */
	__u32 now;      /* tick */
	__u32 owner;    /* as the flow has it, shared/owner.h */
	__u32 ifindex;
	__u32 packets, bytes; /* wire */
	__u8 held; /* FLOW_VERDICT_*: what was decided before and holds while its connection does */
	__u8 out;
	__u8 phase;   /* expressions have been asked */
	__u8 explain; /* nothing is done, all is told (DECIDE_QUESTION) */
	__u8 slot;    /* enum decide_slot: where this stands */
	__u8 busy;    /* copies of the packet are on their way */
	__u8 reserved[2];
	__u64 expressions; /* bit n: expression n fits */
	__u32 class_count; /* the rules that fit give it so many classes … */
	__u16 classes[SHAPE_RULES_MAX];
	__u32 counters[SHAPE_RULES_MAX]; /* … and these are the rules' counters */
};

enum decide_slot {
	DECIDE_USUAL,
	DECIDE_NESTED,   /* of packets on the way of a copy of another one */
	DECIDE_QUESTION, /* of one that is only asked about, which packets may interrupt */
	DECIDE_SLOTS,
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, DECIDE_SLOTS);
	__type(key, __u32);
	__type(value, struct decide_ask);
} decide_asks SEC(".maps");

/* The packet that is judged on this CPU just now. */
packet_inline struct decide_ask *decide_ask_get(void)
{
	__u32 place = DECIDE_USUAL;
	struct decide_ask *ask = bpf_map_lookup_elem(&decide_asks, &place);

	if (!ask || __builtin_expect(!ask->busy, 1))
		return ask;
	place = DECIDE_NESTED;
	ask = bpf_map_lookup_elem(&decide_asks, &place);
	if (ask)
		ask->slot = DECIDE_NESTED;
	return ask;
}

/* [0]: the program that decides.  Empty: there never was a policy. */
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} decide_programs SEC(".maps");

/* What goes on in a class, by enum shape_program.  Empty: there never was one. */
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, SHAPE_PROGRAMS);
	__type(key, __u32);
	__type(value, __u32);
} shape_programs SEC(".maps");

/* A packet whose path is known. */
struct shape_ask {
	__u32 path;
	__u32 packets, bytes; /* wire */
	__u32 now;            /* tick */
	__u32 out;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct shape_ask);
} shape_asks SEC(".maps");

/* Writes down what the program SHAPE_APPLY is to do; 0: it cannot be asked. */
packet_inline int shape_ask_put(__u32 path, __u32 packets, __u32 bytes, __u32 now, __u32 out)
{
	__u32 zero = 0;
	struct shape_ask *ask = bpf_map_lookup_elem(&shape_asks, &zero);

	if (!ask)
		return 0;
	ask->path = path;
	ask->packets = packets;
	ask->bytes = bytes;
	ask->now = now;
	ask->out = out;
	return 1;
}

#endif
