/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * How a line of the flow cache (shared/flow.h) is filled and pushed out.
 *
 * For all programs that account packets: those in tc (bpf/lib/flow.h), and that of services at XDP
 * (bpf/lib/service_line.h).  They run with softirqs off and so never interrupt each other on a CPU.
 */
#ifndef WEIR_BPF_EMIT_H
#define WEIR_BPF_EMIT_H

#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "bpf/lib/line.h"
#include "bpf/lib/packet.h"
#include "shared/flow.h"
#include "shared/owner.h"

const volatile __u32 flow_sets4 = 1; /* sets per CPU, powers of two */
const volatile __u32 flow_sets6 = 1;
const volatile __u64 flow_seed[2] = {}; /* odd; random, so that nobody can aim at one set */
const volatile __u32 flow_ring_bytes = 4096;

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct flow_stats);
} flow_stats SEC(".maps");

struct flow_ring {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
};

/* A ring per CPU: under a flood of new flows one ring's lock would be the bottleneck of the host. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 1);
	__type(key, __u32);
	__array(values, struct flow_ring);
} flow_rings SEC(".maps");

/* What the hook knows of a packet beside its headers. */
struct flow_sight {
	__u32 cpu;
	__u32 ifindex;
	__u32 packets; /* wire packets */
	__u32 bytes;   /* wire bytes of all of them */
	__u32 now;     /* tick */
	__u32 owner;   /* where it was looked for, else OWNER_UNKNOWN */
	__u8 kind;     /* FLOW_KIND_* */
	__u8 origin;
};

/* A full barrier on every architecture: the reader must not see the new tenant under the old serial. */
#define flow_publish(serial, value) __sync_lock_test_and_set(&(serial), (value))

packet_inline __u32 flow_now(void)
{
	return bpf_jiffies64();
}

packet_inline __u64 flow_mix(__u64 hash, __u64 word, __u64 odd)
{
	hash = (hash ^ word) * odd;
	return hash ^ hash >> 32;
}

packet_inline __u64 flow_hash4(__u64 addresses, __u64 ports, __u32 kinds)
{
	return flow_mix(flow_mix(0, addresses, flow_seed[0]), ports ^ (__u64)kinds << 24, flow_seed[1]);
}

/* Never 0, which is the tag of lines whose owner is not clear: no process, or the listener's. */
packet_inline __u8 flow_owner_tag(__u32 owner)
{
	return owner >= OWNER_FIRST && !(owner & OWNER_INHERITED) ? (owner * 0x9e3779b1) >> 24 | 1 : 0;
}

/* Marks as one word: a hit adds to all of them at once, and tests one. */
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define FLOW_MARKS(tcp_flags, origin, names) ((tcp_flags) | (origin) << 8 | (__u32)(names) << 24)
#else
#define FLOW_MARKS(tcp_flags, origin, names) ((__u32)(tcp_flags) << 24 | (origin) << 16 | (names))
#endif
_Static_assert(sizeof(struct flow_marks) == 4, "marks are one word");

/* All of a line but its key and its serial; `rest` is the line itself for IPv4. */
#define flow_fill(line, rest, sight, flags)                                                                  \
	do {                                                                                                 \
		(line)->counts = (struct flow_counts){                                                       \
			.bytes = (sight)->bytes, .packets = (sight)->packets, .last = (sight)->now};         \
		(line)->marks = (struct flow_marks){.tcp_flags = (flags), .origin = (sight)->origin};        \
		(line)->marks.owner_tag = flow_owner_tag((sight)->owner);                                    \
		(rest)->first = (sight)->now;                                                                \
		(rest)->decision = (struct flow_decision){.owner = (sight)->owner};                          \
	} while (0)

/* 0 means empty, so a wrapped counter steps over it. */
packet_inline __u32 flow_next_serial(struct flow_stats *stats)
{
	__u32 serial = stats->serial + 1;

	serial += !serial;
	stats->serial = serial;
	return serial;
}

/* Does the line want to be pushed out before it is counted on?  Its packet counter has 32 bits. */
packet_inline int flow_is_full(const struct flow_counts *counts)
{
	return counts->packets >= 0xf0000000;
}

/* A line's packets are emitted. */
packet_inline void flow_pushed_out(struct flow_stats *stats, const struct flow_counts *counts)
{
	stats->cached -= counts->packets;
	stats->emitted += counts->packets;
	stats->records++;
}

/* A line's packets are lost: its record found no room. */
packet_inline void flow_lose(struct flow_stats *stats, const struct flow_counts *counts)
{
	stats->cached -= counts->packets;
	stats->lost += counts->packets;
	stats->lost_bytes += counts->bytes;
}

/* Packets that get no line are lost: the record of the flow in its place finds no room. */
packet_inline void flow_refuse(struct flow_stats *stats, __u32 now, __u32 packets, __u32 bytes)
{
	stats->full = now;
	stats->lost += packets;
	stats->lost_bytes += bytes;
}

/* Does a connection that begins go without a line, unless there is a free one?  A flood of such, which is
 * what fills rings, then asks for room once a tick. */
packet_inline int flow_forgoes(const struct flow_stats *stats, __u32 now, int begins)
{
	return begins && stats->full == now;
}

/* The agent sleeps until a quarter of the ring is full, or its own clock wakes it. */
packet_inline __u64 flow_wakeup(void *ring, const struct flow_stats *stats)
{
	if (stats->records % 32)
		return BPF_RB_NO_WAKEUP;
	return bpf_ringbuf_query(ring, BPF_RB_AVAIL_DATA) >= flow_ring_bytes / 4 ? BPF_RB_FORCE_WAKEUP
	                                                                         : BPF_RB_NO_WAKEUP;
}

/* Pushes a line out into the ring.  0: that is full, and nothing has changed. */
packet_inline int flow_push4(struct flow_line4 *line, struct flow_stats *stats, __u32 cpu, __u32 index)
{
	struct flow_record4 *record = NULL;
	void *ring = bpf_map_lookup_elem(&flow_rings, &cpu);

	if (ring)
		record = bpf_ringbuf_reserve(ring, sizeof(*record), 0);
	if (!record)
		return 0;
	flow_pushed_out(stats, &line->counts);
	record->family = 4;
	record->line = index;
	record->flow = *line;
	bpf_ringbuf_submit(record, flow_wakeup(ring, stats));
	return 1;
}

packet_inline int flow_push6(
	struct flow_line6 *line, struct flow_rest6 *rest, struct flow_stats *stats, __u32 cpu, __u32 index)
{
	struct flow_record6 *record = NULL;
	void *ring = bpf_map_lookup_elem(&flow_rings, &cpu);

	if (ring)
		record = bpf_ringbuf_reserve(ring, sizeof(*record), 0);
	if (!record)
		return 0;
	flow_pushed_out(stats, &line->counts);
	record->family = 6;
	record->line = index;
	record->flow = *line;
	record->rest = *rest;
	bpf_ringbuf_submit(record, flow_wakeup(ring, stats));
	return 1;
}

/* The same out of line, which takes a seventh of what a new flow does: for programs whose hits are better off
 * for being smaller. */
static __attribute__((noinline)) int flow_emit4(
	struct flow_line4 *line, struct flow_stats *stats, __u32 cpu, __u32 index)
{
	return line && stats ? flow_push4(line, stats, cpu, index) : 0;
}

static __attribute__((noinline)) int flow_emit6(
	struct flow_line6 *line, struct flow_rest6 *rest, struct flow_stats *stats, __u32 cpu, __u32 index)
{
	return line && rest && stats ? flow_push6(line, rest, stats, cpu, index) : 0;
}

/* An empty way, else the one unused for longest. */
#define FLOW_VICTIM(set, home, now)                                                                          \
	({                                                                                                   \
		__u32 victim_ = (home), age_ = 0;                                                            \
		PACKET_UNROLL                                                                                \
		for (__u32 i_ = 0; i_ < FLOW_WAYS; i_++) {                                                   \
			__u32 way_ = ((home) + i_) % FLOW_WAYS;                                              \
			__u32 idle_ = (now) - (set)->line[way_].counts.last;                                 \
                                                                                                             \
			if (!(set)->line[way_].ifindex) {                                                    \
				victim_ = way_;                                                              \
				break;                                                                       \
			}                                                                                    \
			if (idle_ > age_) {                                                                  \
				age_ = idle_;                                                                \
				victim_ = way_;                                                              \
			}                                                                                    \
		}                                                                                            \
		victim_ % FLOW_WAYS;                                                                         \
	})

#endif
