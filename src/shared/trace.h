/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Traces: what a probe of the kernel measures, as single events or as a histogram.
 *
 * A probe gives samples: a value (nanoseconds, bytes, packets, or 1 where it only counts), and, as far as the
 * place it is attached to knows them, the flow, the owner of the socket and the interface.  Each trace has
 * programs and maps of its own; its options are constants to them.
 */
#ifndef WEIR_SHARED_TRACE_H
#define WEIR_SHARED_TRACE_H

#include <linux/types.h>

/* Buckets: 0 to 3 have one each, from there on every octave has four, up to 2^44 (five hours in ns); the last
 * one takes all above. */
#define TRACE_OCTAVE_BITS 2
#define TRACE_BUCKETS     172

#define TRACE_KEYS_MAX          128  /* histograms of one trace; what has no room goes to "other" */
#define TRACE_STARTS_MAX        8192 /* of things that have begun and not ended */
#define TRACE_EVENTS_PER_SECOND 1000 /* per CPU; the rest is counted */
#define TRACE_RING_BYTES        (1U << 19)
#define TRACE_RANGES_MAX        16

#define TRACE_NO_OWNER 0xffffffffU /* no socket is known where the sample was taken */

struct trace_flow {
	__be32 src[4], dst[4]; /* of a socket: here and there; IPv4 uses [0] */
	__be16 sport, dport;
	__u8 family; /* 4, 6; 0: not known */
	__u8 proto;
	__u16 reserved;
} __attribute__((aligned(8)));

struct trace_sample {
	__u64 value;
	struct trace_flow flow;
	__u32 owner; /* shared/owner.h, or TRACE_NO_OWNER */
	__u32 interface;
	__s32 detail;   /* what it is, the probe's entry in engine/trace.c says */
	__u32 incoming; /* a packet that comes in: the remote end is src */
};

/* An event in the ring. */
struct trace_record {
	__u64 time_ns; /* CLOCK_MONOTONIC */
	struct trace_sample sample;
	__u32 cpu, reserved;
};

enum trace_by { TRACE_BY_NOTHING, TRACE_BY_OWNER, TRACE_BY_INTERFACE, TRACE_BY_REMOTE, TRACE_BY_CPU };

/* Whose histogram. */
enum trace_key_kind {
	TRACE_KEY_ALL,
	TRACE_KEY_OTHER, /* of those that found no room */
	TRACE_KEY_OWNER,
	TRACE_KEY_INTERFACE,
	TRACE_KEY_REMOTE4,
	TRACE_KEY_REMOTE6,
	TRACE_KEY_CPU,
};

struct trace_key {
	__u32 kind;
	__u32 words[4]; /* id, index, CPU: [0]; an address in network byte order */
};

struct trace_histogram {
	__u64 count, sum, max;
	__u64 buckets[TRACE_BUCKETS];
};

struct trace_range {
	__u16 low, high; /* host byte order */
};

struct trace_end {
	__be32 address[4], mask[4];
	__u32 has_address;
	__u32 range_count; /* 0: any port */
	struct trace_range ranges[TRACE_RANGES_MAX];
};

enum trace_owner_kind {
	TRACE_OWNER_ANY,
	TRACE_OWNER_PID,
	TRACE_OWNER_UID,
	TRACE_OWNER_GID,
	TRACE_OWNER_EXE,
	TRACE_OWNER_CGROUP, /* a level of the path */
	TRACE_OWNER_UNIT,   /* a component of the path */
	TRACE_OWNER_CONTAINER,
};

/* What a trace is narrowed to. */
struct trace_filter {
	__u32 on, family, interface;
	__s32 protocol; /* -1: any */
	__u32 owner_kind, owner_number;
	__u64 owner_hash;
	struct trace_end from, to, either;
};

struct trace_options {
	__u32 histogram, by;
	__u32 syscall_accept, syscall_accept4; /* their numbers here */
	struct trace_filter filter;
};

/* Per CPU. */
struct trace_stats {
	__u64 samples;   /* that fit the filter */
	__u64 emitted;   /* as events */
	__u64 limited;   /* events above TRACE_EVENTS_PER_SECOND */
	__u64 lost;      /* events that found no room in the ring */
	__u64 unstarted; /* ends whose beginning was not kept */
	__u64 second, in_second;
};

/* The bucket of a value.  `value` has at most 64 bits; there is no instruction for its highest one in BPF. */
static inline __u32 trace_bucket(__u64 value)
{
	__u64 rest = value;
	__u32 octave = 0, bucket;

	if (value < 1U << TRACE_OCTAVE_BITS)
		return (__u32)value;
	if (rest >> 32) {
		octave += 32;
		rest >>= 32;
	}
	if (rest >> 16) {
		octave += 16;
		rest >>= 16;
	}
	if (rest >> 8) {
		octave += 8;
		rest >>= 8;
	}
	if (rest >> 4) {
		octave += 4;
		rest >>= 4;
	}
	if (rest >> 2) {
		octave += 2;
		rest >>= 2;
	}
	octave += rest >> 1;
	bucket = ((octave - TRACE_OCTAVE_BITS + 1) << TRACE_OCTAVE_BITS) +
	         ((value >> (octave - TRACE_OCTAVE_BITS)) & ((1U << TRACE_OCTAVE_BITS) - 1));
	return bucket < TRACE_BUCKETS ? bucket : TRACE_BUCKETS - 1;
}

/* The lowest value of a bucket. */
static inline __u64 trace_bucket_low(__u32 bucket)
{
	__u32 octave = bucket >> TRACE_OCTAVE_BITS;

	if (bucket < 1U << TRACE_OCTAVE_BITS)
		return bucket;
	return (__u64)((1U << TRACE_OCTAVE_BITS) + (bucket & ((1U << TRACE_OCTAVE_BITS) - 1)))
	       << (octave - 1);
}

#endif
