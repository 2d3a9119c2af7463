/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * How a class's rate is shared (shared/shape.h: struct shape_share): pure arithmetic, which compiles for BPF
 * and for the host.  pace.bpf.c runs it every few milliseconds over the classes that are in use.
 *
 * *Allowances*, down a tree.  Each class says what it could use (share_want()).  Of its parent's allowance
 * each child has its guarantee, as far as it wants it; what is left goes to those that want more, the higher
 * priority first, and within one priority by weight, to none more than it wants (weighted max-min,
 * water-filling).  The level of the water is found by Newton's method from below, so that after any number of
 * rounds nobody was given what is not there: children's sum <= parent's allowance, always.
 *
 * *The rate of a socket.*  A class holds some sockets back: those that have more to send and are paced no
 * faster than we let them.  What is not held back (sparse requests, those that the network or the other end
 * limits) uses what it uses; what is left of the allowance is for those held, in equal parts.  That is fed
 * forward, so a socket more or less changes the rate of all others at once.  What is not known that way (a
 * congestion control that stays below its pacing rate, headers, sockets that are stuck) is found by `gain`,
 * the integral of what was sent too much or too little: so the rate in the long run is the allowance,
 * exactly.
 */
#ifndef WEIR_BPF_SHARE_H
#define WEIR_BPF_SHARE_H

#include <linux/types.h>

#include "shared/shape.h"

#define share_inline static __attribute__((always_inline, unused)) inline

#define SHARE_SECOND_NS 1000000000ULL
#define SHARE_PACKET    1514ULL

#define SHARE_TICK_NS    4000000ULL   /* the shortest window … */
#define SHARE_WINDOW_MAX 500000000ULL /* … and the longest */
#define SHARE_BURSTS     4ULL         /* … and that each socket has room for in it */
#define SHARE_PACKETS    64           /* that a window has room for */
#define SHARE_EPOCH_NS   20000000ULL
#define SHARE_EPOCH_MAX  4000000000ULL
#define SHARE_IDLE_NS    1000000000ULL /* without a byte: the class is out of use */

#define SHARE_SMOOTH_NS 100000000ULL /* over which what is not held back is averaged */
#define SHARE_SEEN_NS   100000000ULL /* flows of which something was refused count so long, or twice */
#define SHARE_STOP_NS   50000000ULL  /* who had more to send, and sends nothing so long, has stopped */
#define SHARE_SLOW      4            /* windows in which an error is mended */

#define SHARE_GAIN_ONE 65536
#define SHARE_GAIN_MIN (SHARE_GAIN_ONE / 2)
#define SHARE_GAIN_MAX (SHARE_GAIN_ONE * 64)

#define SHARE_RATE_MAX     (1ULL << 37) /* bytes a second: more than a Tbit/s */
#define SHARE_WANT_MIN     16384        /* bytes a second: of a class in use */
#define SHARE_FLOW_MIN     128          /* bytes a second */
#define SHARE_FLOW_SLOW    8192         /* bytes a second: of a class that gets nothing */
#define SHARE_QUEUED       32           /* this part of a link's rate is left to the fq behind it … */
#define SHARE_QUEUED_HTB   160          /* … of a class's to its leaf of HTB */
#define SHARE_DRAIN_NS     200000000ULL /* in which what waits behind it is to be gone */
#define SHARE_BEHIND_BYTES 65536        /* a leaf has room for so much … */
#define SHARE_BEHIND_NS    20000000ULL  /* … and for what leaves it in this time */
#define SHARE_LEAK         6            /* such classes get no more of the parent's than one part of 2^this */
#define SHARE_BURST_NS     10000000ULL  /* of what is policed */
#define SHARE_NOISE        65536        /* bytes */
#define SHARE_ROUNDS       6
#define SHARE_NO_MARGIN    SHAPE_PRIORITIES
#define SHARE_LEVEL_BITS   16
#define SHARE_HOLDS        8192 /* bytes a second and socket */

share_inline __u64 share_min(__u64 a, __u64 b)
{
	return a < b ? a : b;
}

share_inline __u64 share_max(__u64 a, __u64 b)
{
	return a > b ? a : b;
}

/* Bytes a second. */
share_inline __u64 share_rate(__u64 bytes, __u64 ns)
{
	ns /= 1000;
	return ns ? bytes * 1000000 / ns : 0;
}

/* What a class may use at most, as far as it itself says. */
share_inline __u64 share_ceiling(const struct shape_class *class)
{
	__u64 ceiling = class->ceiling;

	if (!(class->flags & SHAPE_CLASS_CEILING) || ceiling >= SHARE_RATE_MAX)
		return SHARE_RATE_MAX;
	return ceiling;
}

/* The same in front of a queue of HTB, which else would never be empty again: less by a little, and by what
 * waits there. */
share_inline __u64 share_most(const struct shape_share *share, const struct shape_class *class)
{
	__u64 ceiling = share_ceiling(class), less;

	if (class->engine != SHAPE_HTB || ceiling == SHARE_RATE_MAX)
		return ceiling;
	less = ceiling / SHARE_QUEUED_HTB + share->behind * (SHARE_SECOND_NS / SHARE_DRAIN_NS);
	return ceiling - share_min(less, ceiling / 2);
}

/* In `ns` so much went into the queue of HTB, and what it may went out: that is what waits there, as far as
 * it can be known here. */
share_inline void share_queue(
	struct shape_share *share, const struct shape_class *class, __u64 bytes, __u64 ns)
{
	__u64 out, most;

	if (class->engine != SHAPE_HTB || !class->ceiling) {
		share->behind = 0;
		return;
	}
	out = class->ceiling * (ns / 1000) / 1000000;
	most = SHARE_BEHIND_BYTES + class->ceiling / (SHARE_SECOND_NS / SHARE_BEHIND_NS);
	share->behind += bytes;
	share->behind = share_min(share->behind - share_min(share->behind, out), most);
}

/* -- measuring -- */

/* In an epoch each socket that is held back has sent something, also one whose pause was measured by an
 * earlier rate. */
share_inline __u64 share_epoch_ns(const struct shape_share *share)
{
	__u64 burst = share->burst ? share->burst : 2 * SHARE_PACKET, before = share->epoch_length_ns;
	__u64 ns = share->flow_rate ? 2 * burst * SHARE_SECOND_NS / share->flow_rate : 0;

	ns = share_max(ns, before - before / 4);
	return share_min(share_max(ns, SHARE_EPOCH_NS), SHARE_EPOCH_MAX);
}

/* Sockets that the class holds back. */
share_inline __u64 share_held(const struct shape_share *share)
{
	__s32 held = share->held[0] > share->held[1] ? share->held[0] : share->held[1];

	return held > 0 ? (__u64)held : 0;
}

/* A window is so long that its packets can be told from noise, and that each socket held back has sent some:
 * they may all send at once. */
share_inline __u64 share_window_ns(const struct shape_share *share, const struct shape_class *class)
{
	__u64 rate = share_max(share->own_allowance, class->guarantee), flow = share->flow_rate;
	__u64 ns = rate ? SHARE_PACKETS * SHARE_PACKET * SHARE_SECOND_NS / rate : SHARE_WINDOW_MAX;

	if (share_held(share) && flow)
		ns = share_max(ns, SHARE_BURSTS * share->burst * SHARE_SECOND_NS / flow);
	return share_min(share_max(ns, SHARE_TICK_NS), SHARE_WINDOW_MAX);
}

/* The integral: in `ns` so many bytes were sent, of which sockets that are not held back sent `surprise` more
 * than was known when the others got their rates; that is in their rates by now.  Slow beside the round trip,
 * after which only a new rate shows. */
share_inline void share_correct(struct shape_share *share, __u64 bytes, __s64 surprise, __u64 ns)
{
	__u64 due = share->due;
	__u64 slow = SHARE_SLOW * (ns / 1000) + 4ULL * share->rtt_us; /* in which an error would be mended */
	__u64 wrong, step;

	if (!due)
		return;
	bytes = surprise > 0 ? bytes - share_min(bytes, (__u64)surprise) : bytes + (__u64)-surprise;
	wrong = bytes > due ? share_min(bytes - due, 4 * due) : due - bytes;
	step = (wrong << 20) / due * (ns / 1000) / slow * share->gain >> 20;
	if (bytes > due)
		share->gain = share->gain > step + SHARE_GAIN_MIN ? share->gain - step : SHARE_GAIN_MIN;
	else if (share->flow_rate < 4 * share->own_allowance)
		share->gain = share_min(share->gain + step, SHARE_GAIN_MAX);
}

/* What sockets that are not held back have sent in a window beyond what was known of them. */
share_inline __s64 share_surprise(const struct shape_share *share, __u64 small, __u64 other, __u64 ns)
{
	__u64 known = share->small;

	if (share->other_wants) {
		known -= share_min(known, share->other);
		small -= share_min(small, other);
	}
	/* those held back have their half anyway: no more than that was known */
	if (known > share->own_allowance / 2)
		return 0;
	return (__s64)(small * (ns / 1000) / 1000000) - (__s64)(known * (ns / 1000) / 1000000);
}

/* So much time has gone by: counts what there was in it. */
share_inline void share_pass(struct shape_share *share, __u64 ns)
{
	share->due += share->own_allowance * (ns / 1000) / 1000000;
	share->let_due += share->let * (ns / 1000) / 1000000;
}

/* What is left for sockets that are held back, and how fast each of them, and what is policed, may be.  Who
 * is the first to be held back begins with all that the class could get: TCP does not send sooner what it
 * once was told to send late.  Who has left a part to others may begin to use it again: that tells. */
share_inline void share_divide(struct shape_share *share, const struct shape_class *class)
{
	__u64 held = share_held(share), others = share->other_wants;
	__u64 allowance = held ? share->own_allowance : share->own_potential;
	__u64 pool, with_others, each;

	if (held && share->sated)
		allowance = share_max(
			allowance, share_min(share->own_potential, share->usual + share->usual / 4));
	share->let = allowance;
	pool = allowance > share->small ? allowance - share->small : 0;
	with_others = allowance - share_min(allowance, share->small - share_min(share->small, share->other));
	/* what is policed counts as so many sockets as want more than that */
	share->other_rate =
		share_max(with_others / (held + share_max(others, 1)) * share_max(others, 1), SHARE_FLOW_MIN);
	if (others) {
		pool = with_others;
		held += others;
	}
	pool = share_max(pool, allowance / 2);
	each = pool / (held ? held : 1) * share->gain / SHARE_GAIN_ONE;
	share->flow_rate = share_max(share_min(each, 4 * allowance), SHARE_FLOW_MIN);
	/* so slow that pacing would not be exact: the queue is */
	if (class->engine == SHAPE_HTB)
		share->flow_rate = share_max(
			share->flow_rate, share_min(SHARE_HOLDS, 5 * allowance / share_max(4 * held, 1)));
	/* Others have all of it.  A packet that is sent at next to no rate holds up the one behind it for
	 * ever, whatever the rate is then. */
	if (held && 2 * share->own_allowance < share->own_potential)
		share->flow_rate = share_max(share->flow_rate,
			share_min(SHARE_FLOW_SLOW, share->own_potential / share_max(held, 1)));
}

/* What a socket may send that is not held back: as if it were alone.  0: not known. */
share_inline __u64 share_top(const struct shape_class *class, const struct shape_share *share)
{
	if (class->flags & SHAPE_CLASS_CEILING && !class->parent)
		return class->ceiling;
	return share_max(share->own_potential, class->guarantee);
}

/* What the class could use: all it may get where its sockets are at the limit that it sets, else what it
 * uses. */
share_inline void share_want(struct shape_share *share, const struct shape_class *class, __u64 refused)
{
	__u64 held = share_held(share), want = share->usual + share->usual / 64;

	if (!held) /* what stops, stops at once */
		want = share_min(want, 2 * share->rate);
	if (refused || (held && !share->sated))
		want = SHARE_RATE_MAX;
	want = share_max(want, SHARE_WANT_MIN);
	share->own_want = share_min(want, share_most(share, class));
}

/* Is it more than noise by which more was sent than there is, in a window that is not over yet? */
share_inline int share_is_over(const struct shape_share *share, __u64 ns)
{
	__u64 due = share_max(share->own_allowance, share->own_potential) * (ns / 1000) / 1000000;

	return share->bytes > due + due / 4 + SHARE_NOISE;
}

share_inline __u32 share_bits(__u64 bits)
{
	bits -= bits >> 1 & 0x5555555555555555ULL;
	bits = (bits & 0x3333333333333333ULL) + (bits >> 2 & 0x3333333333333333ULL);
	bits = (bits + (bits >> 4)) & 0x0f0f0f0f0f0f0f0fULL;
	return bits * 0x0101010101010101ULL >> 56;
}

/* For how long has it used less than it got?  Who was slow has long pauses behind him yet, and a window shows
 * only then what he does.  Once it was long enough the class wants what it uses, until it uses most of what
 * it was let beyond that, or does not get what it uses. */
share_inline void share_lack(struct shape_share *share, __u64 rate, __u64 refused, __u64 ns)
{
	__u64 let = share_rate(share->let_due, ns), part = let / (share->sated ? 8 : 16);

	if (refused || (!share_held(share) && rate < let / 8) || rate >= let - part ||
		share->usual >= let - part ||
		(share->sated && share->own_allowance < share->own_want - share->own_want / 64))
		share->lacking_us = 0;
	else
		share->lacking_us = share_min(share->lacking_us + ns / 1000, SHARE_EPOCH_MAX / 500);
	if (!share->lacking_us || share->alone)
		share->sated = 0;
	else if (share->lacking_us >= 2 * (ns + share->epoch_length_ns) / 1000 + 8ULL * share->rtt_us)
		share->sated = 1;
}

share_inline __u64 share_smooth(__u64 before, __u64 now, __u64 ns)
{
	__u64 parts =
		ns >= SHARE_SMOOTH_NS ? 15 : 1 + ns * 14 / SHARE_SMOOTH_NS; /* of 16: how much of it is new */

	return (before * (16 - parts) + now * parts) / 16;
}

/* What a queue cannot let go was not sent: of what nobody paces the class's sockets leave a half to it. */
share_inline __u64 share_excess(
	const struct shape_share *share, const struct shape_class *class, __u64 other_bytes, __u64 ns)
{
	__u64 most = share->own_allowance * (ns / 1000) / 2000000;

	return class->engine == SHAPE_HTB && other_bytes > most ? other_bytes - most : 0;
}

/* A window is over, `ns` long: takes what was counted. */
share_inline void share_measure(struct shape_share *share, const struct shape_class *class, __u64 bytes,
	__u64 held_bytes, __u64 other_bytes, __u64 refused, __u64 ns)
{
	__u64 rate = share_rate(bytes, ns), small = share_rate(bytes - share_min(bytes, held_bytes), ns);
	__u64 other = share_rate(other_bytes, ns), held = share_held(share);
	__s64 surprise = share_surprise(share, small, other, ns);

	share->rate = rate;
	share->usual = share_smooth(share->usual, rate, ns);
	share_lack(share, rate, refused, ns);
	share->other_wants = share_bits(share->seen[0] | share->seen[1]);
	if (refused && !share->other_wants)
		share->other_wants = 1;
	share->small = share_smooth(share->small, small, ns);
	share->other = share_smooth(share->other, other, ns);
	/* those that begin send their first ten packets as they like: that is not to be made good by others;
	 * nor what is not sent because all was another rate a moment ago, or since nobody wants to */
	if (share->corrects &&
		(held > share->corrects ? held - share->corrects : share->corrects - held) <= held / 8 &&
		(!share->lacking_us || share->alone))
		share_correct(share, bytes, surprise, ns);
	else if (share->lacking_us &&
		 share->gain < SHARE_GAIN_ONE) /* not what keeps them from sending more */
		share->gain += (SHARE_GAIN_ONE - share->gain) / 2;
	share->due = share->let_due = 0;
	share->corrects = held;
	if (!held && share->gain > SHARE_GAIN_ONE)
		share->gain -= (share->gain - SHARE_GAIN_ONE) / 8;
	share_want(share, class, refused);
}

/* Have the class's sockets, which had more to send, sent all of it?  A slow class's window is too long to
 * wait for that. */
share_inline int share_stops(struct shape_share *share, __u64 now)
{
	__u64 bytes = share->bytes;

	if (share_held(share))
		share->eager = 1;
	if (share_held(share) || !share->eager || bytes != share->quiet_bytes) {
		share->quiet_ns = now;
		share->quiet_bytes = bytes;
		return 0;
	}
	return now - share->quiet_ns >= SHARE_STOP_NS;
}

/* What it used is over. */
share_inline void share_stop(struct shape_share *share, const struct shape_class *class)
{
	share->eager = 0;
	share->rate = share->usual = 0;
	share_want(share, class, 0);
}

/* -- allowances: a round, for all classes of a tree -- */

/* First, for each class from the leaves up. */
share_inline void share_clear(struct shape_share *share)
{
	__u32 i;

	share->floors = 0;
	share->left = share->level = share->given = share->unsated = 0;
	share->children = share->below = 0;
	for (i = 0; i < SHAPE_PRIORITIES; i++) {
		share->wants[i] = 0;
		share->weights[i] = 0;
	}
}

/* What a class with children wants is what they want, and what it sends itself: that is as a child of normal
 * priority and of weight 1. */
share_inline void share_sum_up(struct shape_share *share, const struct shape_class *class)
{
	__u64 want = share->floors;
	__u32 i;

	share->direct = 0;
	if (!share->children) {
		share->want = share->own_want;
		return;
	}
	share->direct = share->usual || share_held(share) || share->other_wants;
	if (share->direct) {
		share->wants[SHAPE_NORMAL] += share->own_want;
		share->weights[SHAPE_NORMAL]++;
		share->children++;
	}
	for (i = 0; i < SHAPE_PRIORITIES; i++)
		want += share->wants[i];
	share->wanted = want;
	share->want = share_min(want, share_most(share, class));
}

share_inline __u32 share_priority(const struct shape_class *class)
{
	return class->priority < SHAPE_PRIORITIES ? class->priority : SHAPE_PRIORITIES - 1;
}

share_inline __u64 share_weight(const struct shape_class *class)
{
	return class->weight ? class->weight : 1;
}

/* Tells the parent. */
share_inline void share_tell(
	struct shape_share *share, const struct shape_class *class, struct shape_share *parent)
{
	__u32 priority = share_priority(class), i;

	share->floor = share_min(class->guarantee, share->want);
	parent->floors += share->floor;
	parent->children++;
	parent->below += share->below + (__u32)share_held(share);
	for (i = 0; i < SHAPE_PRIORITIES; i++) {
		if (i != priority)
			continue;
		parent->wants[i] += share->want - share->floor;
		if (share->want > share->floor)
			parent->weights[i] += share_weight(class);
	}
}

/* Then down: a parent, whose own allowance is known, divides it.  Guarantees come first. */
share_inline void share_offer(struct shape_share *parent)
{
	__u64 left = parent->allowance - share_min(parent->floors, parent->allowance);
	__u32 i;

	parent->marginal = SHARE_NO_MARGIN;
	for (i = SHAPE_PRIORITIES; i-- > 0;) {
		if (parent->marginal != SHARE_NO_MARGIN)
			continue;
		if (parent->wants[i] <= left) {
			left -= parent->wants[i];
			continue;
		}
		parent->marginal = i;
		parent->level = (left << SHARE_LEVEL_BITS) / share_max(parent->weights[i], 1);
	}
	parent->left = left;
	parent->given = parent->unsated = 0;
}

/* Of what is left beyond guarantees: how much gets who wants so much `more`? */
share_inline __u64 share_extra(
	__u64 more, __u32 priority, __u64 weight, const struct shape_share *parent, __u64 *ret_fair)
{
	*ret_fair = ~0ULL;
	if (parent->marginal == SHARE_NO_MARGIN || priority > parent->marginal)
		return more;
	if (priority < parent->marginal)
		return 0;
	*ret_fair = parent->level * weight >> SHARE_LEVEL_BITS;
	return share_min(more, *ret_fair);
}

/* A round of water-filling: who is of the marginal priority says what he takes at this level … */
share_inline void share_ask(__u64 more, __u32 priority, __u64 weight, struct shape_share *parent)
{
	__u64 fair, extra = share_extra(more, priority, weight, parent, &fair);

	if (priority != parent->marginal)
		return;
	parent->given += extra;
	if (more > fair)
		parent->unsated += weight;
}

share_inline void share_take(
	const struct shape_share *share, const struct shape_class *class, struct shape_share *parent)
{
	share_ask(share->want - share->floor, share_priority(class), share_weight(class), parent);
}

/* … and the level rises by what is left.  1: it has settled. */
share_inline int share_rise(struct shape_share *parent)
{
	__u64 rest;
	int settled;

	if (parent->direct)
		share_ask(parent->own_want, SHAPE_NORMAL, 1, parent);
	/* each child's part was rounded down, by less than 1 */
	rest = parent->left - share_min(parent->given + parent->children, parent->left);
	settled = !parent->unsated || rest <= parent->left >> 12;
	if (!settled)
		parent->level += (rest << SHARE_LEVEL_BITS) / parent->unsated;
	parent->given = parent->unsated = 0;
	return settled;
}

/* What would be there beyond `floor`, which got `all` in sum, if all of it were wanted. */
share_inline __u64 share_potential(
	const struct shape_share *parent, __u64 all, __u64 floor, __u32 priority, __u64 fair)
{
	__u64 potential = share_max(all, floor);

	if (parent->marginal == SHARE_NO_MARGIN || priority > parent->marginal)
		potential += parent->left;
	else if (fair != ~0ULL)
		potential = share_max(potential, floor + fair);
	/* … which the parent would then want as well */
	potential += parent->potential - share_min(parent->potential, parent->allowance);
	potential = share_max(potential, parent->allowance >> SHARE_LEAK);
	return share_min(potential, parent->potential);
}

/* Last: the child's allowance. */
share_inline void share_settle(
	struct shape_share *share, const struct shape_class *class, const struct shape_share *parent)
{
	__u64 fair, floor = share->floor, potential;

	if (parent->floors > parent->allowance) /* more was promised than there is */
		floor = parent->allowance * 1024 / (parent->floors / 1024 + 1) * (floor / 1024) / 1024;
	share->allowance = floor + share_extra(share->want - share->floor, share_priority(class),
					   share_weight(class), parent, &fair);
	potential = share_max(share->allowance, share_min(class->guarantee, parent->allowance));
	potential = share_potential(parent, potential, floor, share_priority(class), fair);
	share->potential = share_min(potential, share_most(share, class));
	share->alone = parent->alone && parent->wanted - share->want <= parent->potential / 16;
}

/* And what of an allowance is for what is in none of the class's children. */
share_inline void share_settle_own(struct shape_share *share)
{
	__u64 fair;

	if (!share->direct) {
		share->own_allowance = share->allowance;
		share->own_potential = share->potential;
		return;
	}
	share->own_allowance = share_extra(share->own_want, SHAPE_NORMAL, 1, share, &fair);
	share->own_potential = share_potential(share, share->own_allowance, 0, SHAPE_NORMAL, fair);
	share->alone = share->alone && share->wanted - share->own_want <= share->potential / 16;
}

/* A class without a parent has what it may have.  `waits_ns`: so long what is sent now would wait behind it
 * (EDT). */
share_inline void share_settle_root(
	struct shape_share *share, const struct shape_class *class, __u64 waits_ns)
{
	__u64 most;

	share->allowance = class->flags & SHAPE_CLASS_CEILING ? share_most(share, class) : share->want;
	if (class->engine == SHAPE_EDT) {
		most = share->allowance - share->allowance / SHARE_QUEUED;
		share->allowance -= share->allowance / 1024 *
		                    (1024 * share_min(waits_ns, SHARE_DRAIN_NS / 2) / SHARE_DRAIN_NS);
		share->allowance = share_min(share->allowance, most);
	}
	share->potential = share->allowance;
	share->alone = 1;
}

/* -- which engine -- */

/* Can pacing hold this rate (bytes a second) among so many sockets?  Each sends whole packets, the first ten
 * of them unpaced and at least one at a time: where those are more than some seconds' worth, a queue must
 * hold them. */
share_inline int shape_pacing_holds(__u64 rate, __u64 flows)
{
	return rate >= share_max(flows, 1) * SHARE_HOLDS;
}

#endif
