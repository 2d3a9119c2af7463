/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * TCP as a middle box follows it: stages and windows.
 *
 * The four boundaries of Guido van Rooij ("Real Stateful TCP Packet Filtering in IP Filter", 2000), as Linux'
 * nf_conntrack has them by default.  For a packet of A to B:
 *    I    seq  <= highest that B allowed                     nothing beyond the window
 *    II   end  >= what A has sent - B's largest window       nothing too old
 *    III  ack  <= what B has sent                            nothing acknowledged that was not sent
 *    IV   ack  >= what B has sent - A's window               nothing acknowledged too long ago
 *
 * No pointers into packets, no maps, no helpers: this file compiles for BPF and, for the unit tests, for the
 * host.
 *
 * Both ends' packets may be here at once, on two CPUs.  Every word only grows (as sequence numbers do) and is
 * changed by compare-and-swap; so nothing is torn and nothing goes back, without a lock.
 */
#ifndef WEIR_BPF_WINDOW_H
#define WEIR_BPF_WINDOW_H

#include <linux/types.h>

#include "shared/connection.h"

#ifdef __bpf__
#define window_inline static __attribute__((always_inline)) inline
#else
#define window_inline static inline
#endif

#define WINDOW_FIN 0x01
#define WINDOW_SYN 0x02
#define WINDOW_RST 0x04
#define WINDOW_PSH 0x08
#define WINDOW_ACK 0x10
#define WINDOW_URG 0x20

#define WINDOW_SCALE_MAX 14    /* RFC 7323, 2.3 */
#define WINDOW_ACK_OLD   66000 /* IV is at least so wide: what nf_conntrack allows */

/* What a segment says, host byte order. */
struct window_segment {
	__u32 seq, end; /* end: behind its last byte; SYN and FIN count one */
	__u32 ack;
	__u32 sack;   /* the highest that it has, by SACK; else ack */
	__u16 window; /* as it stands there */
	__u8 flags;
	__u8 scale; /* of the option; CONNECTION_SCALE_NONE */
};

enum window_verdict {
	WINDOW_VALID,
	WINDOW_UNCHANGED, /* goes through, but says nothing about the connection: its answer will */
	WINDOW_BEGINS,    /* begins a connection, in place of the one that was there */
	WINDOW_INVALID,
};

window_inline int window_before(__u32 a, __u32 b)
{
	return (__s32)(a - b) < 0;
}

window_inline int window_after(__u32 a, __u32 b)
{
	return (__s32)(b - a) < 0;
}

/* 0 means none. */
window_inline __u32 window_tick(__u32 tick)
{
	return tick ? tick : 1;
}

/* Flags that RFC 9293 knows together: bit n for the flags n, without PSH. */
#define WINDOW_FLAGS_INDEX(flags) (((flags)&7) | ((flags)&0x30) >> 1)
#define WINDOW_FLAGS_BIT(flags)   (1U << WINDOW_FLAGS_INDEX(flags))
#define WINDOW_FLAGS_VALID                                                                                   \
	(WINDOW_FLAGS_BIT(WINDOW_SYN) | WINDOW_FLAGS_BIT(WINDOW_SYN | WINDOW_URG) |                          \
		WINDOW_FLAGS_BIT(WINDOW_SYN | WINDOW_ACK) | WINDOW_FLAGS_BIT(WINDOW_RST) |                   \
		WINDOW_FLAGS_BIT(WINDOW_RST | WINDOW_ACK) | WINDOW_FLAGS_BIT(WINDOW_FIN | WINDOW_ACK) |      \
		WINDOW_FLAGS_BIT(WINDOW_FIN | WINDOW_ACK | WINDOW_URG) | WINDOW_FLAGS_BIT(WINDOW_ACK) |      \
		WINDOW_FLAGS_BIT(WINDOW_ACK | WINDOW_URG))

window_inline int window_flags_are_valid(__u8 flags)
{
	return WINDOW_FLAGS_VALID >> WINDOW_FLAGS_INDEX(flags) & 1;
}

/* Grows a word that others may grow at the same time.  After so many tries somebody else has brought it on
 * each time, and a later packet will do the rest. */
#define WINDOW_TRIES 4

window_inline void window_raise(__u32 *word, __u32 value)
{
	__u32 old = *(volatile __u32 *)word, found;
	int i;

	for (i = 0; i < WINDOW_TRIES; i++) {
		if (!window_after(value, old))
			return;
		found = __sync_val_compare_and_swap(word, old, value);
		if (found == old)
			return;
		old = found;
	}
}

/* May this sight's windows be judged strictly? */
window_inline int window_is_followed(const struct connection *c, __u32 followed)
{
	return followed && c->followed && window_after(c->followed, followed);
}

/* The four boundaries. */
window_inline int window_fits(const struct connection_side *sender, const struct connection_side *receiver,
	const struct window_segment *s)
{
	__u32 old = sender->max_window > WINDOW_ACK_OLD ? sender->max_window : WINDOW_ACK_OLD;
	__u32 ack = s->ack, sack = s->sack;

	if (!(receiver->flags & CONNECTION_SIDE_SEEN))
		return 1;
	/* without ACK, and in resets of old stacks that leave it 0, there is nothing to judge */
	if (!(s->flags & WINDOW_ACK) || (s->flags & WINDOW_RST && !ack))
		sack = receiver->end;
	if (!(sender->flags & CONNECTION_SIDE_SEEN))
		return !window_after(sack, receiver->end);
	return !window_after(s->seq, sender->max_end) &&
	       !window_before(s->end, sender->end - receiver->max_window) &&
	       !window_after(sack, receiver->end) && !window_before(sack, receiver->end - old);
}

/* Does it answer the other end's SYN? */
window_inline int window_answers(const struct connection_side *sender, const struct connection_side *receiver,
	const struct window_segment *s)
{
	/* until it acknowledges anything, `acked` of an end is the other's initial number */
	return s->flags & WINDOW_ACK && window_after(s->ack, sender->acked) &&
	       !window_after(s->ack, receiver->end);
}

window_inline enum window_verdict window_judge_syn(const struct connection *c, __u32 side)
{
	switch (c->stage) {
	case CONNECTION_NEW: /* again, or both ends at once */
		return WINDOW_VALID;
	case CONNECTION_CLOSED:
	case CONNECTION_RESET:
		return WINDOW_BEGINS;
	default:
		/* an end that has begun anew, or somebody who guesses: the other end's answer tells */
		return side == c->first || c->flags & CONNECTION_LIBERAL ? WINDOW_UNCHANGED : WINDOW_INVALID;
	}
}

window_inline enum window_verdict window_judge_syn_ack(
	const struct connection *c, __u32 side, const struct window_segment *s, int strict)
{
	const struct connection_side *sender = &c->sides[side & 1], *receiver = &c->sides[!side];

	if (c->stage == CONNECTION_NEW) {
		if (!(receiver->flags & CONNECTION_SIDE_SYN) || !window_answers(sender, receiver, s))
			return WINDOW_INVALID;
		return WINDOW_VALID;
	}
	if (c->flags & CONNECTION_CHALLENGED && s->ack == c->challenge)
		return WINDOW_VALID; /* both ends are ahead of us */
	if (side == c->first &&
		!(sender->flags & CONNECTION_SIDE_SYN && receiver->flags & CONNECTION_SIDE_SYN))
		return WINDOW_INVALID;
	return !strict || window_fits(sender, receiver, s) ? WINDOW_UNCHANGED : WINDOW_INVALID;
}

window_inline enum window_verdict window_judge_reset(
	const struct connection *c, __u32 side, const struct window_segment *s, int followed)
{
	const struct connection_side *sender = &c->sides[side & 1], *receiver = &c->sides[!side];

	if (c->stage == CONNECTION_NEW) {
		if (c->flags & CONNECTION_CHALLENGED && s->seq == c->challenge)
			return WINDOW_UNCHANGED; /* meant for what the other end still has */
		if (side == c->first)
			return s->seq == sender->end ? WINDOW_VALID : WINDOW_INVALID;
		return window_answers(sender, receiver, s) ? WINDOW_VALID : WINDOW_INVALID;
	}
	if (c->stage == CONNECTION_RESET || c->stage == CONNECTION_CLOSED || !followed)
		return WINDOW_VALID;
	if (receiver->flags & CONNECTION_SIDE_ACKED && window_before(s->seq, receiver->acked))
		return WINDOW_INVALID;
	if (!(c->flags & CONNECTION_LIBERAL) && !window_fits(sender, receiver, s))
		return WINDOW_INVALID;
	/* exact, or behind all that was sent; else the receiver asks back (RFC 5961, 3), and goes on */
	if (!(receiver->flags & CONNECTION_SIDE_ACKED) || s->seq == receiver->acked || s->seq == sender->end)
		return WINDOW_VALID;
	return WINDOW_UNCHANGED;
}

/* What is this segment of the end `side` to this connection?  Changes nothing.  `followed`: a tick, since
 * when each packet was shown; 0: they are not. */
window_inline enum window_verdict window_judge(
	const struct connection *c, __u32 side, const struct window_segment *s, __u32 followed)
{
	const struct connection_side *sender = &c->sides[side & 1], *receiver = &c->sides[!side];
	int known = window_is_followed(c, followed), strict = known && !(c->flags & CONNECTION_LIBERAL);

	if (!window_flags_are_valid(s->flags))
		return WINDOW_INVALID;
	if (s->flags & WINDOW_RST)
		return window_judge_reset(c, side, s, known);
	if (s->flags & WINDOW_SYN)
		return s->flags & WINDOW_ACK ? window_judge_syn_ack(c, side, s, strict)
		                             : window_judge_syn(c, side);
	if (c->stage == CONNECTION_NEW) {
		/* the other end still has an old connection, and says so */
		if (side != c->first && !(s->flags & WINDOW_FIN))
			return WINDOW_UNCHANGED;
		/* both ends at once: this acknowledges the other's SYN */
		if (receiver->flags & CONNECTION_SIDE_SYN && sender->flags & CONNECTION_SIDE_SYN &&
			window_answers(sender, receiver, s))
			return WINDOW_VALID;
		return WINDOW_INVALID;
	}
	return !strict || window_fits(sender, receiver, s) ? WINDOW_VALID : WINDOW_INVALID;
}

/* A connection that begins with this segment. */
window_inline void window_begin_side(struct connection *c, __u32 side, const struct window_segment *s)
{
	struct connection_side *sender = &c->sides[side & 1], *receiver = &c->sides[!side];

	sender->end = sender->max_end = s->end;
	sender->max_window = s->window ? s->window : 1;
	sender->scale = s->scale;
	sender->flags = CONNECTION_SIDE_SYN | CONNECTION_SIDE_SEEN;
	if (!(receiver->flags & CONNECTION_SIDE_SYN))
		receiver->acked = s->seq;
	else
		sender->max_end += receiver->max_window; /* its SYN has allowed that much */
}

/* Learns about both ends from a segment that was judged valid. */
window_inline void window_learn(struct connection *c, __u32 side, const struct window_segment *s)
{
	struct connection_side *sender = &c->sides[side & 1], *receiver = &c->sides[!side];
	__u32 window = s->window, largest;

	/* both have to want it (RFC 7323, 2.2) */
	if (!(s->flags & WINDOW_SYN) && sender->scale <= WINDOW_SCALE_MAX &&
		receiver->scale <= WINDOW_SCALE_MAX)
		window <<= sender->scale;
	if (!(sender->flags & CONNECTION_SIDE_SEEN)) {
		sender->end = s->end;
		sender->max_end = s->end + window;
		sender->max_window = window ? window : 1;
		sender->flags |= CONNECTION_SIDE_SEEN;
	}
	largest = window + (s->sack - s->ack);
	if (largest > sender->max_window)
		sender->max_window = largest;
	/* what the receiver takes beyond its window it must have room for */
	if (receiver->flags & CONNECTION_SIDE_SEEN && window_after(s->end, sender->max_end))
		receiver->max_window += s->end - sender->max_end;
	window_raise(&sender->end, s->end);
	if (!(s->flags & WINDOW_ACK))
		return;
	if (sender->flags & CONNECTION_SIDE_ACKED) {
		window_raise(&sender->acked, s->ack);
	} else {
		sender->acked = s->ack;
		sender->flags |= CONNECTION_SIDE_ACKED;
	}
	if (!(receiver->flags & CONNECTION_SIDE_SEEN)) {
		/* nothing of that end yet: it has sent at least this */
		receiver->end = receiver->max_end = s->sack;
		return;
	}
	if (c->flags & CONNECTION_LIBERAL)
		window_raise(&receiver->end, s->sack);
	window_raise(&receiver->max_end, s->sack + window + !window);
}

/* Stages go on, never back. */
window_inline void window_advance(struct connection *c, __u8 stage)
{
	if (c->stage < stage)
		c->stage = stage;
}

window_inline int window_is_closed(const struct connection *c)
{
	return c->sides[0].flags & c->sides[1].flags & CONNECTION_SIDE_FIN &&
	       !window_before(c->sides[0].acked, c->sides[1].end) &&
	       !window_before(c->sides[1].acked, c->sides[0].end);
}

/* Windows were not looked at for a while: what they were says nothing any more. */
window_inline void window_forget(struct connection *c)
{
	c->flags |= CONNECTION_LIBERAL;
	c->sides[0].flags &= ~(CONNECTION_SIDE_SEEN | CONNECTION_SIDE_ACKED);
	c->sides[1].flags &= ~(CONNECTION_SIDE_SEEN | CONNECTION_SIDE_ACKED);
}

/* Notes a segment with the connection, after it was judged (and accepted). */
window_inline void window_note(struct connection *c, __u32 side, const struct window_segment *s,
	enum window_verdict verdict, __u32 now, __u32 followed)
{
	struct connection_side *sender = &c->sides[side & 1];

	if (verdict == WINDOW_UNCHANGED) {
		if (s->flags & WINDOW_RST || (s->flags & WINDOW_SYN && s->flags & WINDOW_ACK))
			return;
		if (s->flags & WINDOW_SYN && s->end == sender->end)
			return; /* the same SYN again */
		c->challenge = s->flags & WINDOW_SYN ? s->end : s->ack;
		c->flags |= CONNECTION_CHALLENGED;
		return;
	}
	if (s->flags & WINDOW_RST) {
		sender->flags |= CONNECTION_SIDE_RST;
		window_advance(c, CONNECTION_RESET);
		return;
	}
	if (c->stage == CONNECTION_NEW && s->flags & WINDOW_SYN)
		window_begin_side(c, side, s);
	if (c->stage != CONNECTION_NEW && s->flags & WINDOW_SYN) {
		/* the answer to a SYN in the middle: both ends have begun anew */
		c->stage = CONNECTION_ANSWERED;
		c->first = !side;
		c->flags = (c->flags & ~CONNECTION_CHALLENGED) | CONNECTION_LIBERAL;
		c->sides[0].flags = c->sides[1].flags = 0;
	}
	if (followed && !window_is_followed(c, followed)) {
		if (c->stage != CONNECTION_NEW)
			window_forget(c);
		c->followed = window_tick(now);
	}
	window_learn(c, side, s);
	if (s->flags & WINDOW_FIN)
		sender->flags |= CONNECTION_SIDE_FIN;

	if (c->stage == CONNECTION_NEW) {
		if (s->flags & WINDOW_ACK)
			window_advance(c, s->flags & WINDOW_SYN ? CONNECTION_ANSWERED : CONNECTION_OPEN);
	} else if (c->stage == CONNECTION_ANSWERED && !(s->flags & WINDOW_SYN)) {
		if (side == c->first || c->flags & CONNECTION_LIBERAL)
			window_advance(c, CONNECTION_OPEN);
	}
	/* somebody who did not see its windows has pretended to end it */
	if (c->stage == CONNECTION_RESET && sender->flags & CONNECTION_SIDE_RST &&
		!window_is_followed(c, followed)) {
		sender->flags &= ~CONNECTION_SIDE_RST;
		c->stage = CONNECTION_OPEN;
	}
	if ((c->sides[0].flags | c->sides[1].flags) & CONNECTION_SIDE_FIN) {
		window_advance(c, CONNECTION_CLOSING);
		if (window_is_closed(c))
			window_advance(c, CONNECTION_CLOSED);
	}
}

#endif
