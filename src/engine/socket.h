/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Sockets as the kernel tells of them (shared/socket.h): reading what bpf/socket.bpf.c writes. */
#ifndef WEIR_ENGINE_SOCKET_H
#define WEIR_ENGINE_SOCKET_H

#include "engine/engine.h"
#include "shared/socket.h"

/* Readable when the ring fills; it does not tell of every record. */
int engine_socket_fd(struct engine *engine);

/* Gets an event: a whole struct socket_record where the event is SOCKET_CLOSE (`record` is then not NULL). */
typedef void engine_socket_function(
	void *context, const struct socket_head *head, const struct socket_record *record);
/* Reads what there is. */
void engine_socket_read(struct engine *engine, engine_socket_function *function, void *context);

/* Gets a socket that is there; a non-zero result ends the list. */
typedef int engine_socket_list_function(void *context, const struct socket_record *record);
/* All TCP and UDP sockets of the network namespace, with their figures of now; `new`: only connections whose
 * connect or accept was not told yet, each once.  0 or a negative errno. */
int engine_socket_list(struct engine *engine, bool new, engine_socket_list_function *function, void *context);

/* Are all events wanted, and changes of state, too? */
void engine_socket_want(struct engine *engine, bool all, bool states);
/* Sums over all CPUs, since the datapath was set up. */
void engine_socket_stats(struct engine *engine, struct socket_stats *ret_stats);
/* Does this kernel tell how much a UDP socket sends and receives? */
bool engine_socket_counts_udp(struct engine *engine);

#endif
