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

#define SHARE_SMOOTH_NS   100000000ULL /* over which what is not held back is averaged */
#define SHARE_PATIENCE_US 500000       /* sockets that were slow have long pauses behind them yet */
#define SHARE_SLOW        4            /* windows in which an error is mended */

#define SHARE_GAIN_ONE 65536
#define SHARE_GAIN_MIN (SHARE_GAIN_ONE / 2)
#define SHARE_GAIN_MAX (SHARE_GAIN_ONE * 64)

#define SHARE_RATE_MAX   (1ULL << 37) /* bytes a second: more than a Tbit/s */
#define SHARE_WANT_MIN   16384        /* bytes a second: of a class in use */
#define SHARE_FLOW_MIN   128          /* bytes a second */
#define SHARE_FLOW_SLOW  8192         /* bytes a second: of a class that gets nothing */
#define SHARE_LEAK       6            /* such classes get no more of the parent's than one part of 2^this */
#define SHARE_BURST_NS   10000000ULL  /* of what is policed */
#define SHARE_NOISE      65536        /* bytes */
#define SHARE_ROUNDS     6
#define SHARE_NO_MARGIN  SHAPE_PRIORITIES
#define SHARE_LEVEL_BITS 16
#define SHARE_HOLDS      8192 /* bytes a second and socket */

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
	return class->flags & SHAPE_CLASS_CEILING && class->ceiling < SHARE_RATE_MAX ? class->ceiling
	                                                                             : SHARE_RATE_MAX;
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
	__u64 rate = share_max(share->allowance, class->guarantee), flow = share->flow_rate;
	__u64 ns = rate ? SHARE_PACKETS * SHARE_PACKET * SHARE_SECOND_NS / rate : SHARE_WINDOW_MAX;

	if (share_held(share) && flow)
		ns = share_max(ns, SHARE_BURSTS * share->burst * SHARE_SECOND_NS / flow);
	return share_min(share_max(ns, SHARE_TICK_NS), SHARE_WINDOW_MAX);
}

/* The integral: in `ns` so many bytes were sent.  Slow beside the round trip, after which only a new rate
 * shows. */
share_inline void share_correct(struct shape_share *share, __u64 bytes, __u64 ns)
{
	__u64 due = share->allowance * (ns / 1000) / 1000000;
	__u64 slow = SHARE_SLOW * (ns / 1000) + 4ULL * share->rtt_us; /* in which an error would be mended */
	__u64 wrong = bytes > due ? share_min(bytes - due, 4 * due) : due - bytes, step;

	if (!due)
		return;
	step = (wrong << 20) / due * (ns / 1000) / slow * share->gain >> 20;
	if (bytes > due)
		share->gain = share->gain > step + SHARE_GAIN_MIN ? share->gain - step : SHARE_GAIN_MIN;
	else if (share->flow_rate < 4 * share->allowance)
		share->gain = share_min(share->gain + step, SHARE_GAIN_MAX);
}

/* What is left for sockets that are held back, and how fast each of them, and what is policed, may be.  Who
 * is the first to be held back begins with all that the class could get: TCP does not send sooner what it
 * once was told to send late. */
share_inline void share_divide(struct shape_share *share)
{
	__u64 held = share_held(share), allowance = held ? share->allowance : share->potential;
	__u64 pool = allowance > share->small ? allowance - share->small : 0;
	__u64 with_others =
		allowance - share_min(allowance, share->small - share_min(share->small, share->other));
	__u64 each;

	/* what is policed counts as one socket, as long as it wants more than that */
	share->other_rate = share_max(with_others / (held + 1), SHARE_FLOW_MIN);
	if (share->other_wants) {
		pool = with_others;
		held++;
	}
	pool = share_max(pool, allowance / 2);
	each = pool / (held ? held : 1) * share->gain / SHARE_GAIN_ONE;
	share->flow_rate = share_max(share_min(each, 4 * allowance), SHARE_FLOW_MIN);
	/* Others have all of it.  A packet that is sent at next to no rate holds up the one behind it for
	 * ever, whatever the rate is then. */
	if (held && 2 * share->allowance < share->potential)
		share->flow_rate = share_max(
			share->flow_rate, share_min(SHARE_FLOW_SLOW, share->potential / share_max(held, 1)));
}

/* What a socket may send that is not held back: as if it were alone.  0: not known. */
share_inline __u64 share_top(const struct shape_class *class, const struct shape_share *share)
{
	if (class->flags & SHAPE_CLASS_CEILING && !class->parent)
		return class->ceiling;
	return share_max(share->potential, class->guarantee);
}

/* What the class could use: all it may get where its sockets are at the limit that it sets, else a little
 * more than it uses.  Bursts make a window fuller than the next: the fullest counts, for a while. */
share_inline void share_want(struct shape_share *share, const struct shape_class *class, __u64 refused)
{
	__u64 held = share_held(share), most = share_ceiling(class), want;

	want = share_max(share->rate + share->rate / 4, SHARE_WANT_MIN);
	if (held)
		want = share_max(share->peak + share->peak / 2, share_max(class->guarantee, SHARE_WANT_MIN));
	if (refused || (held && share->lacking_us < SHARE_PATIENCE_US))
		want = SHARE_RATE_MAX;
	share->want = share_min(want, most);
}

/* Is it more than noise by which more was sent than there is, in a window that is not over yet? */
share_inline int share_is_over(const struct shape_share *share, __u64 ns)
{
	__u64 due = share_max(share->allowance, share->potential) * (ns / 1000) / 1000000;

	return share->bytes > due + due / 4 + SHARE_NOISE;
}

/* A window is over, `ns` long: takes what was counted. */
share_inline void share_measure(struct shape_share *share, const struct shape_class *class, __u64 bytes,
	__u64 held_bytes, __u64 other_bytes, __u64 refused, __u64 ns)
{
	__u64 rate = share_rate(bytes, ns), small = share_rate(bytes - share_min(bytes, held_bytes), ns);
	__u64 other = share_rate(other_bytes, ns), held = share_held(share);
	__u64 parts =
		ns >= SHARE_SMOOTH_NS ? 16 : 1 + ns * 16 / SHARE_SMOOTH_NS; /* of 16: how much of it is new */

	share->rate = rate;
	share->peak = share_max(rate, share->peak - share->peak / 8);
	if (!held || share->peak >= share->allowance - share->allowance / 5)
		share->lacking_us = 0;
	else
		share->lacking_us = share_min(share->lacking_us + ns / 1000, SHARE_SECOND_NS / 1000);
	share->other_wants = refused != 0;
	share->small = (share->small * (16 - share_min(parts, 15)) + small * share_min(parts, 15)) / 16;
	share->other = (share->other * (16 - share_min(parts, 15)) + other * share_min(parts, 15)) / 16;
	/* those that begin send their first ten packets as they like: that is not to be made good by others;
	 * nor what is not sent because all was another rate a moment ago */
	if (share->corrects &&
		(held > share->corrects ? held - share->corrects : share->corrects - held) <= held / 8 &&
		(!share->lacking_us || share->lacking_us > SHARE_PATIENCE_US / 2))
		share_correct(share, bytes, ns);
	share->corrects = held;
	if (!held && share->gain > SHARE_GAIN_ONE)
		share->gain -= (share->gain - SHARE_GAIN_ONE) / 8;
	share_want(share, class, refused);
}

/* -- allowances: a round, for all classes of a tree -- */

/* First, for each class from the leaves up. */
share_inline void share_clear(struct shape_share *share)
{
	__u32 i;

	share->floors = 0;
	share->left = share->level = share->given = share->unsated = 0;
	share->children = 0;
	for (i = 0; i < SHAPE_PRIORITIES; i++) {
		share->wants[i] = 0;
		share->weights[i] = 0;
	}
}

/* What a class with children wants is what they want. */
share_inline void share_sum_up(struct shape_share *share, const struct shape_class *class)
{
	__u64 want = share->floors;
	__u32 i;

	if (!share->children)
		return;
	for (i = 0; i < SHAPE_PRIORITIES; i++)
		want += share->wants[i];
	share->want = share_min(want, share_ceiling(class));
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

share_inline __u64 share_extra(const struct shape_share *share, const struct shape_class *class,
	const struct shape_share *parent, __u64 *ret_fair)
{
	__u64 more = share->want - share->floor;
	__u32 priority = share_priority(class);

	*ret_fair = ~0ULL;
	if (parent->marginal == SHARE_NO_MARGIN || priority > parent->marginal)
		return more;
	if (priority < parent->marginal)
		return 0;
	*ret_fair = parent->level * share_weight(class) >> SHARE_LEVEL_BITS;
	return share_min(more, *ret_fair);
}

/* A round of water-filling: each child of the marginal priority says what it takes at this level … */
share_inline void share_take(
	const struct shape_share *share, const struct shape_class *class, struct shape_share *parent)
{
	__u64 fair, extra = share_extra(share, class, parent, &fair);

	if (share_priority(class) != parent->marginal)
		return;
	parent->given += extra;
	if (share->want - share->floor > fair)
		parent->unsated += share_weight(class);
}

/* … and the level rises by what is left.  1: it has settled. */
share_inline int share_rise(struct shape_share *parent)
{
	/* each child's part was rounded down, by less than 1 */
	__u64 rest = parent->left - share_min(parent->given + parent->children, parent->left);
	int settled = !parent->unsated || rest <= parent->left >> 12;

	if (!settled)
		parent->level += (rest << SHARE_LEVEL_BITS) / parent->unsated;
	parent->given = parent->unsated = 0;
	return settled;
}

/* Last: the child's allowance. */
share_inline void share_settle(
	struct shape_share *share, const struct shape_class *class, const struct shape_share *parent)
{
	__u64 fair, floor = share->floor;

	if (parent->floors > parent->allowance) /* more was promised than there is */
		floor = parent->allowance * 1024 / (parent->floors / 1024 + 1) * (floor / 1024) / 1024;
	share->allowance = floor + share_extra(share, class, parent, &fair);
	/* what would be there for it if it wanted all */
	share->potential = share_max(share->allowance, share_min(class->guarantee, parent->allowance));
	if (parent->marginal == SHARE_NO_MARGIN || share_priority(class) > parent->marginal)
		share->potential += parent->left;
	else if (fair != ~0ULL)
		share->potential = share_max(share->potential, floor + fair);
	/* … which the parent would then want as well */
	share->potential += parent->potential - share_min(parent->potential, parent->allowance);
	share->potential = share_max(share->potential, parent->allowance >> SHARE_LEAK);
	share->potential = share_min(share->potential, share_min(parent->potential, share_ceiling(class)));
}

/* A class without a parent has what it may have. */
share_inline void share_settle_root(struct shape_share *share, const struct shape_class *class)
{
	share->allowance = class->flags & SHAPE_CLASS_CEILING ? class->ceiling : share->want;
	share->potential = share->allowance;
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
