/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Services and their backends, as the agent compiles them and the datapath at XDP uses them.
 *
 * A *service* is an address (or prefix), protocol and ports; a *backend* one of the hosts that its packets
 * are delivered to.  All services of one moment stand in a *book*: one memory of 64-byte units, written once
 * and never changed.  There are two places for books (map of maps `service_books`); bit SERVICE_PLACE of
 * policy_now.places says which is in force, so services change at one point with the rules, and going back
 * unless confirmed is the datapath's own.
 *
 * How a packet finds its service: the destination's number in one of the book's tries (shared/trie.h; 0: no
 * service's address, and the packet goes on); then the hash of (number, protocol, port), which has the exact
 * ports; then the number's list of ranges, the narrowest first, which has ranges and "any port".
 *
 * How it finds its backend, in this order:
 *   1. The line of its flow, decision.backend (shared/flow.h), where the backend may still be used.
 *   2. The maps `service_flows` and `service_embryos` (struct service_key): connections that do not stand
 *      where the ring would put them, and all of services that keep each (nat, choices without a ring).  What
 *      is seen for the first time goes into the second, which forgets the oldest, and with its next packet
 * into the first: so floods of beginnings push out each other.  With SERVICE_SOURCE also what a source had
 *      last, for its new connections, where the ring has it elsewhere by now.
 *   3. The ring: the slot of the connection's hash (bpf/lib/service_find.h); TURNS: one after the other.
 *      A packet that begins (SYN; of other protocols the first one) goes where `ring` says.  One that goes on
 *      (TCP without SYN) goes where `before` says, if that is another one: it was there when its connection
 *      began.  Both are written down in 2 where they differ; but nothing of a TCP connection whose backend
 *      is gone: who gets its packets ends it, and its line says so.
 *
 * So what is not written down stands where one ring has it: `ring`, or as long as there is one `before`,
 * which stays the same through further changes, until nobody can be left of the time before the first of
 * them. Without a change in sight a new connection writes nothing but its flow's line.  What is not TCP shows
 * no beginning: the agent writes down what the flow cache knows of it when a ring changes.
 *
 * Rings are immutable: another ring is another memory (map of maps `service_rings`, by number), named by the
 * next book.  Backends (array `service_backends`, by number) are written in place: where a packet is sent
 * (address, next hop, state).
 *
 * Sources: Eisenbud et al., "Maglev" (NSDI 2016); RFC 2003, 2473 (IP in IP), GUE (draft-ietf-intarea-gue),
 * RFC 1191, 8201 (path MTU).
 */
#ifndef WEIR_SHARED_SERVICE_H
#define WEIR_SHARED_SERVICE_H

#include <linux/types.h>

#include "shared/trie.h"

#define SERVICE_PLACE 61 /* bit of policy_now.places: no policy in force has this number */

#define SERVICES_MAX          4096  /* service 0: none */
#define SERVICE_BACKENDS_MAX  16384 /* of all services; backend 0: none */
#define SERVICE_RINGS_MAX     (2 * SERVICES_MAX)
#define SERVICE_RING_SLOTS    65537 /* a prime; the most, and what is made if nothing else is said */
#define SERVICE_RING_UNITS    ((SERVICE_RING_SLOTS * 2 + 63) / 64)
#define SERVICE_RANGES_MAX    16    /* of one address, those of shorter prefixes around it included */
#define SERVICE_BOOK_UNITS    32768 /* of a book: 2 MiB */
#define SERVICE_PROBES        4     /* units of its hash of ports that are looked at */
#define SERVICE_GUE_PORT      6080
#define SERVICE_FLOWS_DEFAULT 1048576
#define SERVICE_EMBRYOS_MAX   65536
#define SERVICE_FRAGMENTS_MAX 16384
#define SERVICE_GENERIC_MAX   4096  /* interfaces */
#define SERVICE_PORT_FIRST    61001 /* of addresses that this host uses, too: above ip_local_port_range */

/* How packets get to a backend. */
enum service_deliver {
	SERVICE_IPIP, /* in a packet of IP around it: 4 in 4, 4 in 6, 6 in 6 */
	SERVICE_GUE,  /* in UDP around it */
	SERVICE_L2,   /* as they are, to the backend's MAC address */
	SERVICE_NAT,  /* source and destination rewritten; answers come back through weir */
	SERVICE_DELIVERS,
};

/* How a new connection chooses among them. */
enum service_choice {
	SERVICE_MAGLEV, /* the ring, by the hash of the connection's ends */
	SERVICE_LEAST,  /* the backend with the fewest connections for its weight */
	SERVICE_TURNS,  /* one after the other, by weight (round robin) */
	SERVICE_CHOICES,
};

#define SERVICE_SOURCE   0x0001 /* the hash is of the source address alone: affinity */
#define SERVICE_KEEP     0x0002 /* each connection is written down: nat, LEAST, TURNS */
#define SERVICE_QUIC     0x0004 /* a connection id that names a backend decides */
#define SERVICE_CLOSED   0x0008 /* without a living backend packets are dropped; else all count as living */
#define SERVICE_NO_FLOWS 0x0010 /* packets are not accounted by flow */
#define SERVICE_MOVED    0x0020 /* `before` differs from `ring` */
#define SERVICE_ANY_PORT 0x0040 /* a backend without a port of its own gets the packet's */
#define SERVICE_KEPT     0x0100 /* connections of it may be written down, without KEEP or MOVED */

/* A service in the book: one unit. */
struct service {
	__u32 number; /* stays as long as its sentence: `service_counts`, 1..SERVICES_MAX-1 */
	__u32 rule;   /* id of the sentence */
	__u16 flags;  /* SERVICE_* */
	__u8 deliver; /* enum service_deliver */
	__u8 choice;  /* enum service_choice */
	__u8 proto;   /* IP protocol; 0: any */
	__u8 reserved0;
	__be16 gue_port;
	__u16 mss;        /* SYNs' MSS is lowered to this; 0: it is not */
	__u16 mtu;        /* largest packet that is delivered; 0: that of the route to the backend */
	__u32 ring;       /* number in `service_rings`; 0: no backend */
	__u32 before;     /* with SERVICE_MOVED: the ring of those that began before; same slots */
	__u32 slots;      /* of both; TURNS: one round of turns */
	__u32 seed;       /* of the hash: the same with every weir that has the same sentence */
	__u32 idle_ticks; /* after which a kept connection without packets is gone */
	__u32 backends;   /* unit of the list of numbers (__u16), 32 a unit: LEAST */
	__u32 backend_count;
	__u32 servers; /* unit of struct service_server, 16 a unit, sorted by id: QUIC */
	__u32 server_count;
	__u32 affinity_ticks; /* after which a source without new connections is forgotten (SOURCE) */
	__u32 reserved1;
};

/* QUIC: which backend a connection id names.  The id's first two bits are 01, the next 16 the server's id:
 * the last 16 bits of the backend's address. */
struct service_server {
	__u16 id;
	__u16 backend;
};

/* Ports of an address: an entry of the book's hash.  A unit of four is a bucket, filled from the first entry
 * on (service 0: free); what finds no room goes to the next one, SERVICE_PROBES of them at most … */
struct service_port {
	__u32 address; /* number that the trie gives */
	__be16 port;
	__u8 proto;
	__u8 reserved;
	__u32 service; /* unit */
	__u32 reserved1;
};

/* … and of its list of ranges, in the order in which they are looked at. */
struct service_range {
	__u16 first, last; /* host byte order; what has no ports: 0 */
	__u8 proto;        /* 0: any */
	__u8 end;          /* the last of the list */
	__u16 reserved;
	__u32 service; /* unit */
	__u32 reserved1;
};

/* An address' number n: unit `addresses` + n / 8, word n % 8: its ranges' unit << 32 | count. */

/* Unit 0. */
struct service_book {
	__u32 generation;
	__u32 count; /* services; 0: nothing is looked at */
	__u32 units;
	__u32 trie4, trie6;       /* units where the tries begin; 0: no address of the family */
	__u32 addresses;          /* unit */
	__u32 ports;              /* unit of the hash */
	__u32 port_mask;          /* its units - 1 */
	__u32 answers4, answers6; /* tries of addresses that nat sends from: 0: none */
	__u8 bits4, bits6;        /* of the tries' roots */
	__u8 answer_bits4, answer_bits6;
	__u16 answer_first, answer_last; /* ports that nat sends from, of all services; host byte order */
	__u32 reserved[4];
};

/* A slot of a ring is the number of a backend (__u16, 32 a unit); 0: none. */

enum service_backend_state {
	SERVICE_BACKEND_NONE, /* no such backend (any more): its connections choose anew */
	SERVICE_BACKEND_UP,
	SERVICE_BACKEND_DRAINING, /* gets no new connections: is in no ring */
	SERVICE_BACKEND_DOWN,     /* … and its connections choose anew */
};

/* KNOWN: interface and MAC addresses are those of the kernel's tables at `checked`.  WAIT: the neighbour is
 * not known yet; the agent has it looked for. */
#define SERVICE_HOP_KNOWN 0x01
#define SERVICE_HOP_WAIT  0x02

/* The value of the map `service_backends`: one cache line for what every packet needs. */
struct service_backend {
	__be32 address[4]; /* IPv4: the first word */
	__be32 source;     /* IPv4 address that tunnels and nat send from; IPv6: in service_sources */
	__be16 port;       /* 0: as it is */
	__u8 family;       /* 4, 6 */
	__u8 state;        /* enum service_backend_state */
	__u32 generation;  /* another for each backend that ever had this number */
	__u32 service;     /* number */
	/* the way there, found out by the datapath (bpf_fib_lookup), looked at again when `checked` is old */
	__u32 checked; /* tick */
	__u32 ifindex;
	__u16 mtu;
	__u8 hop;    /* SERVICE_HOP_* */
	__u8 failed; /* a check has found it down, however it counts: for the next agent */
	__u8 dmac[6], smac[6];
	/* Tick since when the number is this backend's, plus one: what a flow's line says about the number
	 * counts only if the flow's last packet came later (shared/flow.h). */
	__u32 since;
	__u32 reserved1;
};

/* The value of the map `service_loads`, by backend: LEAST.  Apart, since each beginning and end writes it. */
struct service_load {
	__u32 connections; /* now, by beginnings and ends */
	__u32 weight;
};

/* The value of the map `service_sources`, by backend: what its packets are sent from. */
struct service_source {
	__be32 address6[4];  /* of this host, towards the backend */
	__be32 address4;     /* the same */
	__be16 first, last;  /* nat: ports */
	__u32 nat_addresses; /* nat: from so many addresses on, counted up from the above; 1 if nothing is
	                        said */
	__u32 reserved;
};

/* Key of `service_flows` (hash) and `service_embryos` (LRU): a connection as its client sends it.
 * An answer of nat has the backend's packet: source the backend, destination what nat sent from. */
struct service_key {
	__be32 src[4], dst[4]; /* IPv4: the first word, the others 0 */
	__be16 sport, dport;   /* both 0: which backend new connections of this source get (SERVICE_SOURCE) */
	__u8 family, proto;
	__u16 reserved;
};

#define SERVICE_FLOW_ANSWER 0x01 /* nat: of the other direction */
#define SERVICE_FLOW_FIN    0x02 /* the client has ended */
#define SERVICE_FLOW_FIN2   0x04 /* the backend has */
#define SERVICE_FLOW_RST    0x08
#define SERVICE_FLOW_OPEN   0x10 /* both have spoken */
#define SERVICE_FLOW_QUIET  0x20 /* its packets are not accounted by flow */
#define SERVICE_FLOW_SOURCE 0x40 /* of a source, not of a connection */

struct service_flow {
	__u32 last;       /* tick of the last packet, to a second or so */
	__u32 generation; /* of the backend */
	__u16 backend;
	__u8 flags; /* SERVICE_FLOW_* */
	__u8 reserved0;
	__be16 sport, dport; /* nat: what the packet gets */
	__be32 src[4], dst[4];
	/* The way of answers: that of the kernel's tables at `checked`; 0: the way that the client's packets
	 * came by. */
	__u32 checked; /* tick */
	__u32 ifindex; /* 0: not known */
	__u16 mtu, reserved1;
	__u8 dmac[6], smac[6];
};

/* The value of the map `service_fragments` (LRU) by connection_fragment_key: where later fragments go. */
struct service_fragment {
	__u32 seen; /* tick */
	__u16 backend, reserved;
	__be16 sport, dport; /* of the first one: nat finds its connection by them */
};

/* Places of the array `service_programs`: what bpf/balance.bpf.c goes on in (struct service_work of
 * bpf/lib/service_work.h).  Empty: it is not there, and the packet goes on to the one that takes it else:
 * from NAT_QUICK to LONG, from ANSWER_QUICK to ANSWER, from the others to the stack. */
enum service_program {
	SERVICE_PROGRAM_NAT,    /* to a backend: all of struct service_work is known but maybe the backend */
	SERVICE_PROGRAM_ANSWER, /* to an address that nat sends from: nothing is known yet */
	SERVICE_PROGRAM_NAT_QUICK,    /* to a backend: the time, the book and the service are known */
	SERVICE_PROGRAM_ANSWER_QUICK, /* as ANSWER */
	SERVICE_PROGRAM_LONG, /* to a service's address: the time, the book and the address are known */
	SERVICE_PROGRAMS,
};

/* Why a packet of a service was not delivered. */
enum service_loss {
	SERVICE_LOST_NO_BACKEND, /* none is up, and the service fails closed */
	SERVICE_LOST_NO_ROUTE,
	SERVICE_LOST_NO_NEIGHBOUR, /* not yet: it is being looked for */
	SERVICE_LOST_TOO_BIG,      /* the sender was told */
	SERVICE_LOST_NO_PORT,      /* nat: all are in use */
	SERVICE_LOST_NO_ROOM,      /* the table of connections is full */
	SERVICE_LOST_FRAGMENT,     /* its first is not known */
	SERVICE_LOST_HEADER,       /* not readable, or no room in front of it */
	SERVICE_LOST_TTL,
	SERVICE_LOSSES,
};

/* The value of the map `service_counts`: of backend n on a CPU at CPU * SERVICE_BACKENDS_MAX + n. */
struct service_count {
	__u64 packets, bytes;               /* to it, as they came in: wire */
	__u64 answer_packets, answer_bytes; /* nat */
	__u64 connections;                  /* that began: SYNs, first packets of what has no SYN */
	__u64 ended;                        /* FIN of both (nat), of the client, RST, idle */
	__u64 icmp;                         /* errors about its connections */
	__u32 last;                         /* tick */
	__u32 reserved;
};

/* The value of the map `service_losses`: of service n on a CPU at CPU * SERVICES_MAX + n. */
struct service_lost {
	__u64 packets[SERVICE_LOSSES];
	__u64 told;     /* ICMP: too big */
	__u64 answered; /* echo requests to the address */
	__u64 kept;     /* connections written down since their slot had moved */
};

_Static_assert(sizeof(struct service) == sizeof(struct policy_unit), "a service is one unit");
_Static_assert(sizeof(struct service_book) == sizeof(struct policy_unit), "a book begins with one unit");
_Static_assert(sizeof(struct service_port) == 16 && sizeof(struct service_range) == 16, "four a unit");
_Static_assert(sizeof(struct service_backend) == 64, "one cache line");
_Static_assert(sizeof(struct service_count) == 64, "one cache line");
_Static_assert(sizeof(struct service_key) == 40, "no holes in keys");
_Static_assert(sizeof(struct service_flow) == 72, "no holes in values");

#endif
