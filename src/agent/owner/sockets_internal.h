/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * What the two files of the socket monitor share: sockets.c keeps what happened and what there is,
 * socket_answers.c writes it, for whoever asks or follows.
 */
#ifndef WEIR_AGENT_SOCKETS_INTERNAL_H
#define WEIR_AGENT_SOCKETS_INTERNAL_H

#include <stddef.h>

#include "agent/api/reply.h"
#include "agent/owner/sockets.h"

struct event;

#define PROCESSES 4096 /* with totals of closed connections; a power of two */

/* What the closed connections of a process add up to. */
struct process {
	uint32_t pid;
	uint64_t start_ns;
	uint64_t opened, retransmits;
	uint64_t used; /* place in the order of use */
};

struct sockets {
	struct agent *agent;
	struct feed *feed;
	struct event *hurry; /* reads the ring often, while somebody follows */
	struct socket_record *remembered;
	size_t room;
	uint64_t count; /* of all that were remembered; the last `room` are there */
	struct socket_record *present;
	size_t present_count, present_room;
	uint64_t present_ns, unlisted;
	uint64_t made, looked_ns; /* how many connections there had been when new ones were looked for */
	uint64_t progress_ns;
	uint64_t tick_ns;
	uint32_t listeners[65536]; /* owners by port: whose an accepted connection is that nobody has used */
	struct process processes[PROCESSES];
	uint64_t uses;
};

/* What filters of followers look at. */
struct socket_told {
	struct agent *agent;
	const struct socket_record *record;
};

/* sockets.c */
struct sockets *sockets_state(const struct agent *agent); /* NULL before the module is open */
/* Reads the sockets that there are, unless that was done less than `old_ns` ago.  0 or a negative errno. */
int sockets_read_present(struct sockets *sockets, uint64_t old_ns);
/* The remembered one of this place in time, oldest first; NULL behind the last. */
const struct socket_record *sockets_remembered_at(const struct sockets *sockets, size_t index);

/* socket_answers.c */
extern const struct route sockets_routes[];
/* Is it a connection, not a listener nor what is left of one? */
bool socket_is_connection(const struct socket_record *record);
void socket_event_write(
	const struct sockets *sockets, struct json_write *out, const struct socket_record *record);

#endif
