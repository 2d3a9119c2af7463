/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * What the classes of a path (shared/shape.h) do to a packet.  For tc programs.
 *
 * Every class has its say, from leaf to link: it lets the packet go, later perhaps (EDT), or does not.  One
 * that refuses ends it: what the classes before have counted and taken is put back, so each counts what was
 * sent, and nobody pays for what was not.
 *
 * A policer costs a look at the clock, some 20 ns, three divisions, and the cache lines of what the agent
 * asked for.  Most packets do without: in the line of the bucket stands what the clock said when it was read
 * last for the class, and each CPU reads its clock once a tick.  What the bucket has by that it surely has;
 * and a bucket that may have filled up since is taken to hold a tick's tokens less than its burst.  Where
 * that is not enough the clock is read.  So nothing passes that an exact bucket would not have let pass, but
 * where a tick comes late: then what the delay gives out may pass once more, at most a burst.
 */
#ifndef WEIR_BPF_SHAPE_H
#define WEIR_BPF_SHAPE_H

#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "bpf/lib/bucket.h"
#include "bpf/lib/pace.h"
#include "bpf/lib/shape_maps.h"
#include "shared/shape.h"

#define SHAPE_NS_PER_S 1000000000ULL

/* A class' share may be used up ahead, or saved up, for so long: the control loop looks more often. */
#define SHAPE_SHARE_NS 20000000ULL
/* … or what it saved up be worth. */
#define SHAPE_BURST_MAX (1ULL << 33)
/* More wire bytes than a packet has, one that is still to be cut included. */
#define SHAPE_PACKET_MAX 131072ULL

/* A tick is shorter than a second divided by two to the power of this. */
const volatile __u32 shape_tick_shift = 6;

/* What a CPU may hold of a bucket (shared/shape.h): the burst, shifted so far. */
const volatile __u32 shape_hold_shift = SHAPE_HOLD_NONE;

/* How long what stands in the bucket's line is good for.  A change of the class ends that at once, or, where
 * a packet is just writing it, so late at most. */
#define SHAPE_FRESH_NS (1ULL << 28)

/* The clock, as each CPU read it last: once a tick. */
struct shape_clock {
	__u64 now;
	__u32 tick, reserved;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct shape_clock);
} shape_clocks SEC(".maps");

/* CPU by CPU, SHAPE_CLASSES_MAX each: the agent sets the number of entries. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct shape_count);
} shape_counts SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, SHAPE_CLASSES_MAX);
	__type(key, __u32);
	__type(value, struct shape_hint);
} shape_hints SEC(".maps");

/* A packet on its way through its classes.  No pointers: so that functions that take it are verified each for
 * itself, not again and again for every class of a path. */
struct shape_packet {
	__u32 packets, bytes; /* wire */
	__u32 tick;
	__u32 counts;   /* place of the CPU's counters */
	__u64 now;      /* CLOCK_MONOTONIC, ns; 0: not looked at */
	__u64 before;   /* the same, less than a tick ago */
	__u64 departs;  /* EDT: not before this */
	__u32 priority; /* HTB: leaf; 0: none */
	__u32 redirect; /* HTB, in: where its tree is; 0: nowhere */
	__u32 mark;     /* class that wants it marked; 0: none */
	__u32 delayed;  /* the first class with departure times; 0: none */
	__u32 rule;     /* of the class that refuses it */
	__u8 out;
	__u8 local;  /* TCP of a local socket; 2: not known */
	__u8 paced;  /* some class of its paces */
	__u8 begins; /* TCP sends it without a pause after it: the first packets of a connection */
	__u8 direct; /* the class that is asked has no other below it here */
};

static __always_inline struct shape_count *shape_count_of(const struct shape_packet *p, __u32 number)
{
	__u32 place = p->counts + (number & (SHAPE_CLASSES_MAX - 1));

	return bpf_map_lookup_elem(&shape_counts, &place);
}

static __always_inline __u64 shape_now(struct shape_packet *p)
{
	if (!p->now)
		p->now = bpf_ktime_get_ns();
	return p->now;
}

/* A moment less than a tick ago. */
static __always_inline __u64 shape_before(struct shape_packet *p)
{
	__u32 zero = 0;
	struct shape_clock *clock;

	if (p->before)
		return p->before;
	clock = bpf_map_lookup_elem(&shape_clocks, &zero);
	if (!clock)
		return shape_now(p);
	if (clock->tick != p->tick) {
		clock->now = shape_now(p);
		clock->tick = p->tick;
	}
	p->before = clock->now;
	return p->before;
}

/* So many segments a connection sends unpaced (net/ipv4/tcp_output.c); it retries what is refused. */
#define SHAPE_UNPACED_SEGMENTS 10

static __always_inline int shape_begins(struct __sk_buff *skb, struct bpf_sock *sk)
{
	struct tcp_sock *tcp = bpf_skc_to_tcp_sock(sk);

	/* without data that is new nothing has to wait; this packet's segments count as sent */
	return tcp && tcp->write_seq != tcp->snd_nxt &&
	       tcp->data_segs_out < SHAPE_UNPACED_SEGMENTS + skb->gso_segs;
}

/* Does it come from a TCP socket of this host?  Then the class has other means than to drop it. */
static __always_inline int shape_is_local_tcp(struct __sk_buff *skb, struct shape_packet *p)
{
	struct bpf_sock *sk;

	if (p->local != 2)
		return p->local;
	p->local = 0;
	sk = p->out ? skb->sk : (void *)0;
	if (!sk)
		return 0;
	/* connections at their beginning and after their end are none, but only TCP has such */
	p->local = 1;
	sk = bpf_sk_fullsock(sk);
	if (!sk)
		return 1;
	p->local = sk->protocol == 6 /* IPPROTO_TCP */;
	p->begins = p->local && shape_begins(skb, sk);
	return p->local;
}

/* -- what a CPU holds -- */

/* … of the class, in bytes. */
static __always_inline __u32 shape_held(const struct shape_count *count, __u32 recall)
{
	__u32 held = count->held ^ recall << SHAPE_HOLD_BITS;

	return held >> SHAPE_HOLD_BITS ? 0 : held;
}

static __always_inline void shape_hold(struct shape_count *count, __u32 recall, __u32 bytes)
{
	count->held = recall << SHAPE_HOLD_BITS | bytes;
}

/* May the packet pass by that alone? */
static __always_inline int shape_spends(struct shape_count *count, const struct shape_hint *hint, __u32 bytes)
{
	if (shape_held(count, *(const volatile __u32 *)&hint->recall) < bytes)
		return 0;
	count->held -= bytes;
	return 1;
}

/* Notes that something is taken of what may be recalled, and returns the word by which that is known; 0: not
 * this time.  To be called before it is taken: then who recalls in between has taken what was not held yet.
 */
static __always_inline __u32 shape_lend(struct shape_hint *hint, __u32 was)
{
	if (!(was & SHAPE_LENT) && __sync_val_compare_and_swap(&hint->recall, was, was | SHAPE_LENT) != was)
		return 0;
	return was | SHAPE_LENT;
}

/* Ends what all CPUs hold, and returns what this one held. */
static __always_inline __u32 shape_recall(const struct shape_count *count, struct shape_hint *hint)
{
	__u32 was = *(volatile __u32 *)&hint->recall;

	if (!(was & SHAPE_LENT) ||
		__sync_val_compare_and_swap(&hint->recall, was, was - SHAPE_LENT + SHAPE_RECALL) != was)
		return 0;
	return shape_held(count, was);
}

/* What a CPU may hold of a bucket of this burst, or a little less. */
static __always_inline __u32 shape_hold_of(__u64 burst)
{
	__u64 bytes = burst >> shape_hold_shift;

	if (burst < SHAPE_HOLD_LEAST)
		return 0;
	return bytes >> SHAPE_HOLD_BITS ? (1U << SHAPE_HOLD_BITS) - 1 : bytes;
}

/* -- the policer -- */

/* May the packet pass, by the bucket's line and this CPU's alone?  0: that does not tell. */
static __always_inline int shape_allows_unread(struct shape_packet *p, struct shape_state *state,
	struct shape_count *count, struct shape_hint *hint, __u32 number)
{
	__u32 recall = *(volatile __u32 *)&hint->recall, fresh = *(volatile __u32 *)&state->fresh;
	__u32 held = shape_held(count, recall), hold;
	__u64 read, cap, mark, spent, gone;
	__s64 left, ago, needed;

	if ((fresh & 3) != SHAPE_METERED && (fresh & 3) != SHAPE_FREE)
		return 0;
	read = *(volatile __u64 *)&state->read;
	ago = (__s64)(shape_before(p) - *(volatile __u64 *)&state->read_ns);
	gone = ago > 0 ? ago : 0; /* another CPU may have looked later */
	read += gone * *(volatile __u32 *)&state->rate >> SHAPE_RATE_SHIFT;
	cap = *(volatile __u64 *)&state->cap;
	mark = *(volatile __u64 *)&state->mark;
	if (gone > SHAPE_FRESH_NS || *(volatile __u32 *)&state->fresh != fresh)
		return 0;
	if ((fresh & 3) == SHAPE_FREE) {
		shape_hold(count, recall, (1U << SHAPE_HOLD_BITS) - 1);
		return 1;
	}
	spent = *(volatile __u64 *)&state->bucket.spent;
	left = (__s64)(read - spent);
	if (left > (__s64)TOKEN_AHEAD)
		return 0;
	if (left > (__s64)cap)
		left = cap;
	needed = p->bytes - held;
	hold = left > (__s64)(cap - (cap >> 2)) ? shape_hold_of(cap) : 0;
	if (left < needed + hold || left - needed - hold < (__s64)mark)
		hold = 0;
	if (hold) {
		recall = shape_lend(hint, recall);
		if (!recall)
			return 0;
	}
	if (left < needed || __sync_val_compare_and_swap(
				     &state->bucket.spent, spent, read - left + needed + hold) != spent)
		return 0;
	if (held | hold)
		shape_hold(count, recall, hold);
	if (left - needed < (__s64)mark)
		p->mark = number;
	return 1;
}

/* Writes down what the next packets need of a class; `read` 0: that it has no rate. */
static __always_inline void shape_remember(
	struct shape_packet *p, const struct shape_class *class, struct shape_state *state, __u64 read)
{
	const struct shape_meter *meter = &class->meters[class->meter & 1];
	__u32 fresh = *(volatile __u32 *)&state->fresh, kind = read ? SHAPE_METERED : SHAPE_FREE;
	__u64 rate = meter->clock.whole * SHAPE_NS_PER_S + meter->clock.part; /* its period is a second */
	__u64 burst = meter->clock.burst, hidden = (rate >> shape_tick_shift) + 16;

	if ((fresh & 3) == SHAPE_WRITTEN ||
		__sync_val_compare_and_swap(&state->fresh, fresh, fresh | SHAPE_WRITTEN) != fresh)
		return;
	if (kind == SHAPE_METERED && burst <= 2 * hidden)
		kind = SHAPE_STALE;
	hidden += (__u64)shape_hold_of(burst) << (shape_hold_shift - SHAPE_HOLD_SHIFT);
	*(volatile __u64 *)&state->read = read;
	*(volatile __u64 *)&state->read_ns = shape_now(p);
	*(volatile __u64 *)&state->cap = burst - hidden;
	*(volatile __u64 *)&state->mark = meter->mark;
	*(volatile __u32 *)&state->rate = (rate << SHAPE_RATE_SHIFT) / SHAPE_NS_PER_S;
	__sync_lock_test_and_set(&state->fresh, ((fresh >> 2) + 1) << 2 | kind);
}

/* May the packet pass?  The whole burst may be there, so nobody may hold any of it. */
static __always_inline int shape_police(
	struct shape_packet *p, const struct shape_class *class, struct shape_state *state, __u32 number)
{
	const struct shape_meter *meter = &class->meters[class->meter & 1];
	struct shape_count *count = shape_count_of(p, number);
	struct shape_hint *hint = bpf_map_lookup_elem(&shape_hints, &number);
	__u32 held = count && hint ? shape_recall(count, hint) : 0;
	__u64 now = token_clock_now(&meter->clock, shape_now(p));
	__s64 left;

	held = held < p->bytes ? held : 0;
	if (class->engine == SHAPE_POLICER && !class->htb)
		shape_remember(p, class, state, now);
	if (!token_bucket_take(&state->bucket, &meter->clock, p->bytes - held, now))
		return 0;
	left = (__s64)(now - *(volatile __u64 *)&state->bucket.spent);
	if (left < (__s64)meter->mark)
		p->mark = number;
	return 1;
}

/* -- the share of a class whose sockets are paced -- */

/* So long a class may save up at this rate: the burst that it was given, or some ticks. */
static __always_inline __u64 shape_share_ns(const struct shape_class *class, __u64 rate)
{
	__u64 burst = class->meters[class->meter & 1].clock.burst, ns;

	burst = burst < SHAPE_BURST_MAX ? burst : SHAPE_BURST_MAX;
	ns = burst * SHAPE_NS_PER_S / rate;
	return ns > SHAPE_SHARE_NS ? ns : SHAPE_SHARE_NS;
}

/* The same of what is left in the bucket of its ceiling, which held it until now: bytes, since the rate may
 * be quite another one now. */
static __always_inline __u64 shape_left_ns(struct shape_packet *p, const struct shape_class *class,
	const struct shape_state *state, __u64 rate, __u64 saved)
{
	const struct token_clock *clock = &class->meters[class->meter & 1].clock;
	__s64 left;

	if (!class->ceiling)
		return saved;
	left = token_bucket_left(
		*(const volatile __u64 *)&state->bucket.spent, token_clock_now(clock, shape_now(p)), clock);
	if (left < 0)
		return 0;
	if ((__u64)left > SHAPE_BURST_MAX)
		return saved;
	left = (__u64)left * SHAPE_NS_PER_S / rate;
	return (__u64)left < saved ? (__u64)left : saved;
}

/* What is no TCP of a local socket cannot be paced: it takes from what the control loop gives out.  `place`
 * is 0 where the bucket held it until now. */
static __always_inline int shape_share(struct __sk_buff *skb, struct shape_packet *p,
	const struct shape_class *class, const struct shape_state *state, __u64 *place, __u64 rate,
	__u32 number)
{
	__u64 now = shape_now(p), cost, spent, from, debt, saved;

	rate |= !rate;
	saved = shape_share_ns(class, rate);
	cost = p->bytes * SHAPE_NS_PER_S / rate;
	debt = SHAPE_PACKET_MAX * SHAPE_NS_PER_S / rate;
	debt = debt > 4 * SHAPE_SHARE_NS ? debt : 4 * SHAPE_SHARE_NS;
	spent = *(volatile __u64 *)place;
	from = !spent                                ? now - shape_left_ns(p, class, state, rate, saved)
	       : (__s64)(now - spent) > (__s64)saved ? now - saved
	                                             : spent;
	/* no packet costs so much: from another time, or at a rate that was far lower */
	if ((__s64)(from - now) > (__s64)debt)
		from = now - SHAPE_SHARE_NS;
	/* a packet that alone costs more than may be saved up passes when that is full, and is paid for later
	 */
	if ((__s64)(now - from) < (__s64)(cost < saved ? cost : saved)) {
		pace_refuse(skb, number, p->bytes);
		return 0;
	}
	if (__sync_val_compare_and_swap(place, spent, from + cost) != spent)
		__sync_fetch_and_add(place, cost);
	if ((__s64)(now - from - cost) < (__s64)(SHAPE_SHARE_NS / 4))
		p->mark = number;
	return 1;
}

/* A packet of a class whose sockets are paced. */
static __always_inline int shape_pace(struct __sk_buff *skb, struct shape_packet *p,
	const struct shape_class *class, struct shape_state *state, __u32 number)
{
	__u64 own = state->own_rate;

	if (shape_is_local_tcp(skb, p)) {
		if (!p->begins || !class->ceiling || shape_police(p, class, state, number))
			return 1;
		return 0;
	}
	if (!state->other_rate) {
		/* what is saved up meanwhile is in the bucket */
		if (state->share)
			*(volatile __u64 *)&state->share = 0;
		return !class->ceiling || shape_police(p, class, state, number);
	}
	if (p->direct && own && !shape_share(skb, p, class, state, &state->own_share, own, number))
		return 0;
	return shape_share(skb, p, class, state, &state->share, state->other_rate, number);
}

/* -- departure times -- */

#define SHAPE_TRIES 8

/* When may it leave?  0: so late that it had better not. */
static __always_inline int shape_depart(
	struct shape_packet *p, const struct shape_class *class, struct shape_state *state, __u32 number)
{
	__u64 now = shape_now(p), ceiling = class->ceiling, cost, burst_ns, last, from;
	int i;

	cost = p->bytes * SHAPE_NS_PER_S / (ceiling | !ceiling);
	burst_ns = class->meters[class->meter & 1].clock.burst * SHAPE_NS_PER_S / (ceiling | !ceiling);
	for (i = 0; i < SHAPE_TRIES; i++) {
		last = *(volatile __u64 *)&state->departs_ns;
		from = (__s64)(now - last) > (__s64)burst_ns ? now - burst_ns : last;
		if (class->horizon_ns && (__s64)(from - now) > (__s64) class->horizon_ns)
			return 0;
		if (__sync_val_compare_and_swap(&state->departs_ns, last, from + cost) == last)
			break;
	}
	if (i == SHAPE_TRIES)
		from = __sync_fetch_and_add(&state->departs_ns, cost);
	if (class->mark_ns && (__s64)(from - now) > (__s64) class->mark_ns)
		p->mark = number;
	if ((__s64)(from - p->departs) > 0)
		p->departs = from;
	return 1;
}

/* -- a class -- */

/* Is it let go by this class? */
static __always_inline int shape_class_allows(struct __sk_buff *skb, struct shape_packet *p,
	const struct shape_class *class, struct shape_state *state, __u32 number)
{
	/* a leaf of its own, whatever holds it in front of that */
	if (class->htb && !p->priority) {
		p->priority = class->htb;
		p->redirect = class->redirect;
	}
	switch (class->engine) {
	case SHAPE_NONE:
		if (!class->htb)
			shape_remember(p, class, state, 0);
		return 1;
	case SHAPE_POLICER:
		return !class->ceiling || shape_police(p, class, state, number);
	case SHAPE_PACING:
		return shape_pace(skb, p, class, state, number);
	case SHAPE_EDT:
		return !class->ceiling || shape_depart(p, class, state, number);
	default:
		return 1;
	}
}

/* Puts back what it has taken from this class. */
static __always_inline void shape_class_returns(struct __sk_buff *skb, struct shape_packet *p,
	const struct shape_class *class, struct shape_state *state)
{
	int local = class->engine == SHAPE_PACING && shape_is_local_tcp(skb, p);

	if (class->engine == SHAPE_PACING && !local && state->other_rate) {
		__sync_fetch_and_sub(&state->share, p->bytes * SHAPE_NS_PER_S / state->other_rate);
		return;
	}
	if (!class->ceiling)
		return;
	if (class->engine == SHAPE_POLICER || (class->engine == SHAPE_PACING && (!local || p->begins)))
		token_bucket_give(&state->bucket, p->bytes);
	else if (class->engine == SHAPE_EDT)
		__sync_fetch_and_sub(&state->departs_ns, p->bytes * SHAPE_NS_PER_S / class->ceiling);
}

#endif
