/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Packets that a client writes from the kernel's segments itself, so that nobody has to send them.
 *
 * The client, root as we are, gets the segments' memory, and a page of its own to count in.  What is told
 * here are runs of blocks in that memory, in the order of the file; their segments are given back when the
 * client's count says that it has written them.  What the client counts is only ever compared.
 */
#ifndef WEIR_AGENT_SHARE_H
#define WEIR_AGENT_SHARE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/capture.h"

struct evbuffer;
struct share;

/* Sends the descriptors to the client's datagram socket, which has this name in the abstract namespace.
 * 0 or a negative errno: where that socket is of another network namespace, say. */
int share_open(struct engine_capture *capture, const char *name, struct share **ret_share);
void share_free(struct share *share);

/* The client is to write these blocks, which hold so many packets, next. */
void share_run(struct share *share, const void *blocks, size_t bytes, uint32_t packets, struct evbuffer *out);
/* Tells what has not been told yet; to be called before anything else goes to `out`. */
void share_flush(struct share *share, struct evbuffer *out);

/* The CPU's segment has been told to its end; they come in order. */
void share_leave(struct share *share, unsigned int cpu, uint64_t segment);
/* Gives back the segments that have been written. */
void share_give_back(struct share *share);

#endif
