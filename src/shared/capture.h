/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Captured packets on their way from the kernel to the agent.
 *
 * Each CPU has a ring of segments.  The programs write whole pcapng blocks (Enhanced Packet Block, its number
 * for the interface and its time as a file has them) into the segment of now, one behind the other.  `filled`
 * grows when a block is complete, so that a reader may take what is there at any time; a block that begins
 * before `capture_fill` may reach behind it, where a segment has room for the largest one.  Byte order is the
 * host's.
 *
 * What stands in front of the blocks says of all of them what a reader wants to know of each: to look into
 * the memory that another CPU has just written costs more than anything else it does.
 */
#ifndef WEIR_SHARED_CAPTURE_H
#define WEIR_SHARED_CAPTURE_H

#include <linux/types.h>

#define CAPTURE_SNAPLEN_MIN 32
#define CAPTURE_SNAPLEN_MAX 262144 /* as tcpdump's */
#define CAPTURE_INTERFACES  1024   /* of one capture */

struct capture_segment {
	__u64 filled;  /* bytes of `data`, and packets in it << 32: written at once, behind all the others */
	__u64 last_ns; /* time of the last packet */
	__u32 interface; /* of the first packet, its number in the file */
	__u32 apart;     /* packets of another interface, or with a process */
	__u8 data[];
};

#define CAPTURE_ONE_PACKET (1ULL << 32) /* in `filled` */

/* What programs and reader tell each other, a CPU each. */
struct capture_cpu {
	/* the programs' */
	__u64 head;      /* segments begun, without the first: the one of now is `head` modulo their number */
	__u32 ifindex;   /* of the last packet, */
	__u32 interface; /* and its number in the file */
	__u64 reserved[6];
	/* the reader's */
	__u64 tail;     /* segments given back */
	__s64 clock_ns; /* to add to CLOCK_MONOTONIC for what stands in the file */
	__u64 reserved2[6];
};

/* By ifindex. */
struct capture_interface {
	__u32 number; /* in the file */
	__u32 reserved;
	__u64 lost; /* packets that found no room */
};

/* pcapng, as far as programs write it: https://www.ietf.org/archive/id/draft-ietf-opsawg-pcapng-03.html */
struct capture_block {
	__u32 type, bytes;
	__u32 interface;
	__u32 time_high, time_low; /* ns since 1970 */
	__u32 captured, length;
};

struct capture_option {
	__u16 code, bytes;
	__u32 value;
};

#define CAPTURE_BLOCK_PACKET 6
#define CAPTURE_OPTION_FLAGS 2
#define CAPTURE_OPTION_PROCESS                                                                               \
	0x8001 /* number of an Apple process event block; programs write the owner's id */

/* Of a dropped packet; the agent makes a comment of it. */
struct capture_drop_option {
	__u16 code, bytes;
	__u32 reason;
	__u32 location_high, location_low; /* address in the kernel's code */
};

#define CAPTURE_OPTION_DROP 0xcafe /* never in a file */

/* What dropped packets begin with: LINKTYPE_LINUX_SLL2, in network byte order. */
struct capture_cooked {
	__be16 protocol, reserved;
	__be32 ifindex;
	__be16 type;    /* ARPHRD_* */
	__u8 direction; /* PACKET_HOST, PACKET_OUTGOING */
	__u8 address_bytes;
	__u8 address[8]; /* of the sender */
};

#define CAPTURE_COOKED_ETHERNET 1
#define CAPTURE_COOKED_NONE     0xfffe
#define CAPTURE_COOKED_OUT      4

#define CAPTURE_FLAG_IN  1 /* of CAPTURE_OPTION_FLAGS */
#define CAPTURE_FLAG_OUT 2

/*
 * Whoever writes a file on this host need not be sent the packets: the agent shares the segments with it, and
 * its answer has a block of this kind where packets belong that lie there (docs/api.md).
 */
#define CAPTURE_BLOCK_SHARED 0x80007765U /* of a local use */
#define CAPTURE_RUNS_MAX     1024        /* of one block; no more than IOV_MAX */

struct capture_run {
	__u32 offset, bytes; /* whole blocks, in the memory of the segments */
};

struct capture_shared_block {
	__u32 type, bytes;
	__u32 packets;
	__u32 count; /* of runs, which follow; behind the last the block's length again */
};

/* With the descriptors of the segments and of a page whose first eight bytes count, from 0, the blocks of
 * this kind that have been written out: what they name may be written over then. */
struct capture_shared_message {
	__u64 memory_bytes;
};

/* A block besides its packet: head, padding, options, end of options, length. */
#define CAPTURE_BLOCK_EXTRA 96

#endif
