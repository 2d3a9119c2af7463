/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Sockets: what happens to them, and how they are doing.
 *
 * Most figures of a connection the kernel keeps itself (struct tcp_sock); weir reads them when a socket is
 * closed and when somebody asks for a list.  What the kernel does not keep stands in a struct socket_life,
 * which a socket carries beside its owner (shared/owner.h).
 *
 * A short connection costs one record for each of its ends, when it is closed: connects and accepts are told
 * by the record of the close, unless somebody follows events; those of connections that go on are found by
 * the agent, which looks for them from time to time.
 *
 * Addresses are in network byte order, those of IPv4 in the first word; ports in host byte order.  Times are
 * CLOCK_MONOTONIC in ns; 0: not known.
 */
#ifndef WEIR_SHARED_SOCKET_H
#define WEIR_SHARED_SOCKET_H

#include <linux/types.h>

struct socket_life {
	__u64 created_ns;                                   /* 0: before weir was there */
	__u64 began_ns;                                     /* TCP: SYN sent */
	__u64 established_ns;                               /* UDP: the first datagram to the one peer */
	__u64 in_packets, in_bytes, out_packets, out_bytes; /* UDP: datagrams and their payload */
	__u32 handshake_us;     /* TCP: SYN to SYN-ACK, or SYN-ACK to ACK on the accepting side */
	__u32 zero_windows_in;  /* TCP: times that the other end announced that its buffer is full */
	__u32 zero_windows_out; /* TCP: times that this end did */
	__u32 errors;           /* UDP: reported by ICMP */
	__u32 flags;            /* SOCKET_LIFE_* */
	__u32 open;             /* TCP: its close is still to be told */
};

#define SOCKET_LIFE_ACCEPTED 1 /* TCP: the other end connected */
#define SOCKET_LIFE_TOLD     2 /* a record of its connect or accept was sent */

enum socket_event {
	SOCKET_PRESENT, /* an entry of a list */
	SOCKET_CREATE,
	SOCKET_BIND,
	SOCKET_LISTEN,
	SOCKET_CONNECT, /* TCP: the handshake is over; UDP: the first datagram to the one peer */
	SOCKET_ACCEPT,  /* the handshake is over */
	SOCKET_CLOSE,
	SOCKET_ERROR, /* UDP: ICMP says that it did not arrive */
	SOCKET_STATE,
	SOCKET_PROGRESS, /* a long connection, from time to time */
	SOCKET_EVENT_COUNT,
};

/* The map `socket_wants`: what somebody wants to hear of besides listen, bind and close. */
#define SOCKET_WANTS_ALL    1 /* create, connect, accept, error */
#define SOCKET_WANTS_STATES 2
#define SOCKET_WANTS_NEW    4 /* lists hold only connections that were not told of, and now are */

/* How every record begins; of events without figures it is all. */
struct socket_head {
	__u64 time_ns;
	__u64 cookie; /* names the socket: the kernel's number, or (SOCKET_COOKIE_OURS) one of the record's */
	__u32 owner;  /* shared/owner.h */
	__s32 error;  /* errno, positive; 0: none */
	__u32 latency_us;
	__u32 local[4], remote[4];
	__u16 lport, rport;
	__u8 event;  /* enum socket_event */
	__u8 family; /* 4 or 6 */
	__u8 protocol;
	__u8 state;  /* TCP_ESTABLISHED …, as the kernel counts */
	__u8 before; /* the state before */
	__u8 accepted;
	__u8 reserved[6];
};

/* A socket that ends and never had a number of the kernel's: this bit, the CPU, how many it has closed. */
#define SOCKET_COOKIE_OURS      (1ULL << 52)
#define SOCKET_COOKIE_CPU_SHIFT 40

/* A record of SOCKET_CLOSE, and an entry of a list. */
struct socket_record {
	struct socket_head head;
	__u64 created_ns, established_ns;
	__u64 in_packets, in_bytes;   /* TCP: segments, and payload in order; UDP: datagrams and payload */
	__u64 out_packets, out_bytes; /* TCP: segments, and payload without what was sent again */
	__u64 delivery_bps;           /* TCP: what the path carried, as the kernel estimates it */
	__u32 handshake_us;           /* 0: not known */
	__u32 srtt_us, rtt_min_us;    /* ~0 (rtt_min_us): none was measured */
	__u32 retransmits, out_of_order;
	__u32 zero_windows_in, zero_windows_out;
	__u32 peer_limited; /* ticks that sending waited for the other end's window */
	__u32 cwnd;         /* packets */
	__u32 drops;        /* received, and without room in the socket's buffer */
	__u32 errors;
	__u32 queued, queue_limit; /* of a listener: connections that wait to be accepted */
	__u8 congestion;           /* enum tcp_ca_state */
	__u8 has_life;             /* weir saw it from its creation or first use */
	__u8 counts_packets;       /* in and out are known */
	__u8 told;                 /* its connect or accept had a record of its own */
};

/* Latency buckets: the first holds less than 2 us, each next one twice as much. */
#define SOCKET_LATENCY_BUCKETS 26

/* One per CPU (map `socket_stats`); every one only goes up. */
struct socket_stats {
	__u64 connected, accepted, listened, bound, closed;
	__u64 udp_peers; /* UDP sockets that sent to the peer they are connected with */
	__u64 refused, timed_out, reset, unreachable, abandoned, failed; /* connects that came to nothing */
	__u64 broken;                /* connections that ended with an error */
	__u64 resets_in, resets_out; /* RST segments that belong to a socket */
	__u64 retransmits;           /* packets sent again; a GSO packet counts once */
	__u64 buffer_drops;          /* UDP datagrams that found no room in a socket's buffer */
	__u64 errors;                /* UDP: reported by ICMP */
	__u64 records, lost;         /* handed to the agent; that found no room */
	__u64 missed;                /* events in an interrupt of the program they are for: the kernel
	                                leaves them out, and the engine reads how many */
	__u64 unremembered;          /* sockets without memory for a struct socket_life */
	__u64 latency_us;            /* sum over connects */
	__u64 latency[SOCKET_LATENCY_BUCKETS]; /* of connects */
};

#endif
