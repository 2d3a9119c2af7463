/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Names: the first bytes of a flow, where they may tell what the flow is about.
 *
 * The datapath looks at a flow's first payload from the side that began it, and at what comes from port 53.
 * Payload that begins as a TLS handshake, an HTTP/1 request or the preface of HTTP/2 does, and every DNS
 * answer, is copied up to NAME_DATA_MAX bytes; where the beginning says that it goes on in the next packet,
 * that packet is copied too, and no more.  What is read in it is the agent's say.
 */
#ifndef WEIR_SHARED_NAME_H
#define WEIR_SHARED_NAME_H

#include <linux/types.h>

#define NAME_DATA_MAX 2048

/* flow_marks.names: how far looking has come.  Below NAME_MORE it counts packets without payload. */
#define NAME_MORE 0x40 /* the next payload belongs to what was copied */
#define NAME_DONE 0x80 /* nothing more will be looked at */

/* name_record.flags */
#define NAME_FLAG_SYN  0x01 /* the line has seen the flow's SYN: this is the flow's first payload */
#define NAME_FLAG_MORE 0x02 /* a second part follows, if it is seen by the same CPU */
#define NAME_FLAG_REST 0x04 /* this is the second part */
#define NAME_FLAG_OUT  0x08 /* left through the interface */

/* A record of the ring `name_ring`. */
struct name_record {
	__be32 src[4], dst[4]; /* IPv4 uses the first words */
	__be16 sport, dport;
	__u32 seq;    /* TCP: sequence number of the first byte, host byte order */
	__u32 length; /* of the payload; more than bytes: the copy is cut */
	__u16 bytes;  /* copied */
	__u8 family;  /* 4 or 6 */
	__u8 proto;   /* IP protocol: TCP or UDP */
	__u8 flags;   /* NAME_FLAG_* */
	__u8 reserved[3];
	__u8 data[NAME_DATA_MAX]; /* the record ends behind the bytes that were copied */
};

/* Per CPU. */
struct name_stats {
	__u64 taken;   /* records handed to the agent */
	__u64 lost;    /* that found no room in the ring */
	__u64 limited; /* not copied: too many in this second */
	__u32 second;  /* tick at which the second began */
	__u32 count;   /* records copied in it */
};

#endif
