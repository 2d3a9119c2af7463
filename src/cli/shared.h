/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Packets that lie in memory which the agent shares with us: they go from there to the file (docs/api.md).
 */
#ifndef WEIR_CLI_SHARED_H
#define WEIR_CLI_SHARED_H

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "shared/capture.h"

#define SHARED_NAME_MAX 48

struct shared {
	char name[SHARED_NAME_MAX]; /* what the agent is told */
	int socket;                 /* -1: nothing is shared */
	const uint8_t *memory;      /* NULL: the agent has not sent it yet */
	size_t bytes;
	uint64_t *written; /* blocks; the agent reads it */
};

/* Makes the socket that the agent sends descriptors to.  0 or a negative errno. */
int shared_open(struct shared *ret_shared);
void shared_close(struct shared *shared);

/* The pieces of a PCAPNG_SHARED block, CAPTURE_RUNS_MAX at most; they stay until shared_written().  0 or a
 * negative errno: what the agent says is wrong, or its memory cannot be had. */
int shared_read(struct shared *shared, const uint8_t *block, uint32_t bytes, struct iovec *pieces,
	size_t *ret_count, uint32_t *ret_packets);
/* The pieces of the last block are not needed any more. */
void shared_written(struct shared *shared);

#endif
