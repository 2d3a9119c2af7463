/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Checks of backends that go the way of the packets (bpf/check.bpf.c), as the agent and the datapath at tc
 * know them.
 *
 * The agent's socket is connected to the backend's own address.  Behind all others at tc egress such a packet
 * is given the service's address, and the header around it that balance would make; before all others at tc
 * ingress the answer, which comes from the service's address, is given the backend's.
 */
#ifndef WEIR_SHARED_CHECK_H
#define WEIR_SHARED_CHECK_H

#include <linux/types.h>

#define CHECK_WAYS_MAX 256 /* entries at a time: at most two a check */

/* The key of the map `check_ways`: this host's end, as it is on the wire. */
struct check_key {
	__be32 local[4]; /* IPv4: the first word, the others 0 */
	__be16 port;
	__u8 family, proto;
};

/* Its value, the same for both directions. */
struct check_way {
	/* as the socket has them … */
	__be32 local[4], remote[4];
	/* … and as the backend sees them, in what is around it: `family` */
	__be32 from[4], to[4];
	__u32 backend;     /* number: `service_backends` */
	__be16 port;       /* of the backend, and of the service: only nat could change it */
	__be16 local_port; /* the same for both */
	__be16 gue_port;
	__u8 deliver;       /* enum service_deliver */
	__u8 family;        /* of the service: 4, 6 */
	__u8 socket_family; /* of the backend */
	__u8 reserved[3];
	__u32 sent, answered; /* packets */
};

_Static_assert(sizeof(struct check_key) == 20, "no holes in keys");

#endif
