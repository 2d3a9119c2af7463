/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Captures from inside: what their files share. */
#ifndef WEIR_AGENT_CAPTURES_INTERNAL_H
#define WEIR_AGENT_CAPTURES_INTERNAL_H

#include "agent/capture/captures.h"
#include "agent/capture/pcapng.h"
#include "agent/capture/share.h"
#include "agent/internal.h"
#include "agent/owner/owners.h"
#include "compile/expression.h"
#include "engine/capture.h"
#include "model/alert.h"

#define BACKLOG_MAX (8U << 20) /* bytes that wait for a client before packets stay in the rings */

/* An interface of a capture, in the order of its number in the file. */
struct capture_target {
	uint32_t index;
	enum pcapng_link link;
	uint64_t taken; /* packets of it that the client got */
	/* the kernel's counters, when it came in and at the last look */
	uint64_t begin_received, begin_dropped, received, dropped;
};

/* Where a CPU's ring is read. */
struct capture_cursor {
	uint64_t segment; /* counted from the first */
	uint32_t offset;
	uint32_t packets;            /* of the segment, in front of `offset` */
	struct capture_block *block; /* NULL: nothing new */
	uint64_t time_ns;
};

/* What is known of an owner's id. */
struct capture_process {
	uint32_t id;     /* 0: an empty place of the table */
	uint32_t number; /* in the file; UINT32_MAX: nothing is known of it */
	bool fits;       /* the capture is of it */
};

/* One that waits has its programs loaded, and they are nowhere attached. */
enum capture_state { CAPTURE_RUNS, CAPTURE_WAITS, CAPTURE_ALERTED };

struct capture {
	struct captures *captures;
	struct capture *next;
	struct evhttp_request *request;
	struct engine_capture *engine;
	const struct engine_capture_view *view;
	enum capture_place place;
	struct expression ethernet, raw;
	uint8_t *scratch;   /* a packet, as an expression wants to see it */
	uint64_t from_ns;   /* earlier packets are none of this capture's */
	uint64_t before_ns; /* but for those kept of so long before; 0: none, or done */
	uint64_t for_ns;    /* it ends so long behind its beginning, or the event; 0: when it is told to */
	uint64_t end_ns;    /* then: CLOCK_REALTIME; 0: open */
	struct alert_match when; /* kind ALERT_NONE: it does not wait */
	enum capture_state state;
	uint64_t event_ns; /* CLOCK_REALTIME */
	char *event;       /* what happened, for people */
	struct event *gone;
	char *text; /* the expression */
	char *id;
	char *share_with;           /* name of the client's socket; NULL: it wants the packets sent */
	char only[ENGINE_NAME_MAX]; /* the one interface; empty: all that are watched */
	struct owner_match owner;   /* kind OWNER_ANY: whoever it is */
	struct capture_process
		*processes; /* by hash of their ids; twice as many places as there may be entries */
	uint32_t process_places, process_count, processes_told;
	uint32_t snaplen;
	uint64_t limit; /* packets; 0: no end */
	uint64_t taken, lost;
	struct capture_target *targets;
	size_t target_count;
	struct capture_cursor *cursors;
	uint64_t begin_ns, looked_ns, told_ns; /* CLOCK_REALTIME; the others CLOCK_MONOTONIC */
	bool done;
	/* what goes out with the next piece */
	struct share *share; /* NULL: the client gets the packets themselves */
	struct evbuffer *out;
	uint8_t *chunk;
	size_t chunk_used;
};

/* The last packets, always kept (capture.before). */
struct capture_past {
	struct engine_capture *engine; /* NULL: off */
	uint32_t bytes, snaplen;       /* as configured when it was opened */
	uint32_t *interfaces;          /* their indices, by the number in the blocks */
	uint32_t count;
};

#define CAPTURE_LOOKS 10 /* at the drops, a second */

struct captures {
	struct agent *agent;
	struct capture_past past;
	struct capture *first;
	struct event *timer;       /* while one runs */
	struct event *drops_timer; /* while one waits for drops */
	uint64_t drops[CAPTURE_LOOKS];
	uint64_t drops_count;                    /* looks so far; the last CAPTURE_LOOKS of them are there */
	uint64_t captures, packets, bytes, lost; /* of those that have ended, too */
};

/* What stands behind the packet in a block that a program wrote; NULL: it does not. */
struct capture_block_tail {
	struct capture_option *flags, *process;
	struct capture_drop_option *drop;
};

extern const char *const capture_place_names[CAPTURE_PLACES + 1];

/* captures.c */
struct capture_target *capture_target_find(const struct capture *capture, uint32_t index);
/* Tells the programs what CLOCK_REALTIME is ahead of CLOCK_MONOTONIC: somebody may have set it. */
void capture_set_clock(const struct engine_capture_view *view);

/* capture_take.c */
/* Takes what the rings hold up to a time, in the order of time. */
void capture_take(struct capture *capture, uint64_t until_ns);
/* Hands on to the client what was taken. */
void capture_send(struct capture *capture);
/* Bytes that wait for the client. */
size_t capture_backlog(const struct capture *capture);
uint64_t capture_block_time(const struct capture_block *block);
struct capture_block_tail capture_block_tail(struct capture_block *block);
/* Writes a block anew: cut to a length, with its process' number in the file, or none, and with a comment. */
void capture_rewrite(struct capture *capture, const struct capture_block *block, uint32_t interface,
	const struct capture_block_tail *tail, const struct capture_process *process, const char *comment);
/* Does the expression fit a packet that no program has asked?  What the kernel held beside the packet is
 * taken out of it again. */
bool capture_expression_fits(struct capture *capture, const struct capture_block *block,
	enum pcapng_link link, uint32_t ifindex, bool out);
/* Is the packet wanted, as far as owners go?  *ret_process NULL: nothing is known of one. */
bool capture_owner_wanted(struct capture *capture, const struct capture_block_tail *tail,
	const struct capture_process **ret_process);
void capture_count(struct capture *capture, uint32_t interface, uint32_t packets);

/* capture_past.c */
/* Opens, closes, or opens anew what the configuration says. */
void capture_past_follow_config(struct captures *captures);
/* Begins to keep packets of the interfaces that are watched by now. */
int capture_past_watch(struct captures *captures, struct error *error);
/* Writes out what was kept of the time before a capture, as far as it is wanted. */
void capture_past_tell(struct capture *capture);
void capture_past_close(struct capture_past *past);

/* capture_alert.c */
/* Looks at what captures wait for, as long as some do. */
int capture_alert_open(struct captures *captures);
void capture_alert_close(struct captures *captures);
/* Another capture waits. */
void capture_alert_wait(struct capture *capture);
/* Can what is waited for happen at all?  0 or a negative errno. */
int capture_alert_check(const struct capture *capture, struct error *error);

/* capture_query.c */
/* What the capture is to be of, out of the request's parameters. */
int capture_query_read(struct capture *capture, const char *query, struct error *error);

#endif
