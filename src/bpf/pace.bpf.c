// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * Queueless pacing: the rate of a class, held by the pacing rates of its TCP sockets.
 *
 * A control loop, on a timer of its own, looks every few milliseconds at the classes that are in use: what
 * they have sent, what each may have of its parent's, and how fast each of their sockets may be
 * (bpf/lib/share.h).  sockops gives each socket its rate once in a round trip.  Nothing waits in a queue:
 * what a socket may not send yet stays in the socket, and what is small and seldom goes past it.
 *
 * All of it works without the agent, which is needed only for sockets that were open already on kernels where
 * the iterator cannot switch the callback on (before 6.13): it looks for them from time to time.
 */
#include "bpf/lib/pace.h"
#include "bpf/lib/shape_maps.h"
#include "bpf/lib/share.h"

#define SOL_SOCKET         1
#define SOL_TCP            6
#define SO_MAX_PACING_RATE 47
#define PACE_CB_FLAGS      1008 /* TCP_BPF_SOCK_OPS_CB_FLAGS, since 6.13 */
#define AF_INET6           10
#define CLOCK_MONOTONIC    1
#define PACE_UNPACED       (~0U)
#define PACE_UNCLAMPED     0x7fffffff

#define PACE_UNPACED_SEGMENTS 10 /* with which TCP begins */

#define PACE_ARRIVALS_MAX 1024 /* of a tick */
#define PACE_TICK_NS      SHARE_TICK_NS
#define PACE_CLASS_NS     10000 /* a tick is longer by this for each class in use */

#define PACE_SLOW       250000  /* bytes a second: slower sockets get a small window */
#define PACE_SLOW_FQ    5000000 /* … and slower ones whose class is SHAPE_CLASS_QUEUED */
#define PACE_ACK_US     10000   /* that answers may be late, beside the round trip and a second packet */
#define PACE_WINDOW_MIN 3       /* two packets, which are answered together, and the next one */
#define PACE_CLOSE      256     /* a rate that differs by less than this part of it stays */

#define ETHERNET_BYTES 14
#define IPV4_BYTES     20
#define IPV6_BYTES     40

/* -- the control loop -- */

/* The classes in use; the loop's alone. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, SHAPE_CLASSES_MAX);
	__type(key, __u32);
	__type(value, __u32);
} pace_list SEC(".maps");

struct pace_loop {
	__u32 count;    /* of the list */
	__u32 releases; /* the iterator puts rates back */
	struct pace_stats stats;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct pace_loop);
} pace_loops SEC(".maps");

struct pace_round {
	struct pace_loop *loop;
	__u64 now;
	__u32 kept;
	__u32 depth; /* of the parents of this pass */
	__u32 deepest;
	__u32 unsettled; /* parents whose level still rises */
};

static __always_inline struct shape_class *class_get(__u32 number)
{
	return bpf_map_lookup_elem(&shape_classes, &number);
}

static __always_inline __u32 list_get(__u32 index)
{
	__u32 *number = bpf_map_lookup_elem(&pace_list, &index);

	return number ? *number : 0;
}

static __always_inline void list_set(__u32 index, __u32 number)
{
	bpf_map_update_elem(&pace_list, &index, &number, 0);
}

/* A class of which the loop knows nothing yet, or that is another now. */
static __always_inline void share_reset(struct shape_share *share, const struct shape_class *class, __u64 now)
{
	share->generation = class->generation;
	share->gain = SHARE_GAIN_ONE;
	share->held[0] = share->held[1] = 0;
	share->epoch += 2; /* who was counted is not */
	share->burst = share->rtt_us = 0;
	share->since_ns = share->epoch_ns = share->used_ns = share->seen_ns = share->passed_ns = now;
	share->rate = share->small = share->other = share->usual = share->potential = share->own_potential =
		0;
	share->corrects = share->other_wants = share->over = share->lacking_us = share->sated =
		share->direct = 0;
	share->epoch_length_ns = share->seen[0] = share->seen[1] = share->own_want = 0;
	share->eager = share->stops = 0;
	share->quiet_ns = share->quiet_bytes = 0;
	share->let = share->due = share->let_due = share->behind = 0;
	share->allowance = share->own_allowance = share->flow_rate = share->other_rate = 0;
}

static __always_inline void list_add(struct pace_round *round, __u32 number)
{
	if (round->loop->count < SHAPE_CLASSES_MAX) {
		list_set(round->loop->count, number);
		round->loop->count++;
	}
}

/* Takes up a class that came into use, and those above it. */
static long loop_arrive(__u32 index, struct pace_round *round)
{
	struct shape_share *share;
	struct shape_class *class;
	__u32 number, i;

	if (bpf_map_pop_elem(&shape_arrivals, &number))
		return 1;
	list_add(round, number);
	for (i = 0; i < SHAPE_DEPTH_MAX - 1; i++) {
		class = class_get(number);
		if (!class || !class->parent)
			break;
		number = class->parent;
		share = pace_share(number);
		if (!share || __sync_lock_test_and_set(&share->active, 1))
			break;
		list_add(round, number);
	}
	return 0;
}

/* These two are verified each for itself, not with each way through the loop. */
__attribute__((noinline)) int class_quiet(__u32 number, __u64 now)
{
	struct shape_share *share = pace_share(number);

	if (share)
		share->stops = share_stops(share, now);
	return 0;
}

__attribute__((noinline)) int class_stop(__u32 number)
{
	struct shape_share *share = pace_share(number);
	struct shape_class *class = class_get(number);

	if (share && class && share->stops)
		share_stop(share, class);
	return 0;
}

static __always_inline void loop_window(
	struct shape_share *share, const struct shape_class *class, __u32 number, struct pace_round *round)
{
	__u64 ns = round->now - share->since_ns;
	__u64 bytes, held, other, refused, excess, epoch = share_epoch_ns(share);

	if (round->now - share->epoch_ns >= epoch) {
		/* what was counted in this epoch is what there was in the last one */
		share->held[1] = __sync_lock_test_and_set(&share->held[0], 0);
		share->epoch++;
		share->epoch_length_ns = epoch;
		share->epoch_ns = round->now;
		share->burst -= share->burst / 4;
		share->rtt_us -= share->rtt_us / 4;
	}
	share_pass(share, round->now - share->passed_ns);
	share->passed_ns = round->now;
	if (round->now - share->seen_ns >= SHARE_SEEN_NS) {
		share->seen[1] = __sync_lock_test_and_set(&share->seen[0], 0);
		share->seen_ns = round->now;
	}
	share->over = share_is_over(share, ns);
	class_quiet(number, round->now);
	if (ns < share_window_ns(share, class) && !share->stops) {
		if (share_held(share))
			share_want(share, class, share->refused);
		return;
	}
	bytes = __sync_lock_test_and_set(&share->bytes, 0);
	held = __sync_lock_test_and_set(&share->held_bytes, 0);
	other = __sync_lock_test_and_set(&share->other_bytes, 0);
	refused = __sync_lock_test_and_set(&share->refused, 0);
	share->since_ns = round->now;
	if (bytes || refused || share_held(share))
		share->used_ns = round->now;
	excess = share_excess(share, class, other, ns);
	share_queue(share, class, bytes, ns);
	share_measure(share, class, bytes - share_min(excess, bytes), held, other - excess, refused, ns);
	class_stop(number);
}

/* Takes up a class that came to stand above one that is in use: with the next tick. */
static __noinline int loop_raise(__u32 number)
{
	struct shape_share *share = pace_share(number);

	if (!share || __sync_lock_test_and_set(&share->active, 1))
		return 0;
	bpf_map_push_elem(&shape_arrivals, &number, 0);
	return 0;
}

/* The first pass: what each class has used.  Those that are in use no more leave the list. */
static long loop_measure(__u32 index, struct pace_round *round)
{
	__u32 number = list_get(index), parent, depth = 0, i;
	struct shape_share *share = pace_share(number);
	struct shape_class *class = class_get(number), *above;

	if (!share || !class)
		return 0;
	if (share->generation != class->generation)
		share_reset(share, class, round->now);
	/* what a link of departure times has is shared out here, too */
	if (!class->generation || (!shape_is_paced(class) && class->engine != SHAPE_EDT) ||
		(!share->children && round->now - share->used_ns > SHARE_IDLE_NS)) {
		struct shape_state *state = bpf_map_lookup_elem(&shape_states, &number);

		/* as long as nobody looks, each is by itself */
		if (state) {
			state->flows = 0;
			state->allowance = 0;
			state->flow_rate = 0;
			state->other_rate = 0;
			state->own_rate = 0;
		}
		share->generation = 0;
		share->active = 0;
		return 0;
	}
	parent = class->parent;
	for (i = 0; i < SHAPE_DEPTH_MAX - 1; i++) {
		above = parent ? class_get(parent) : (void *)0;
		if (!above)
			break;
		loop_raise(parent);
		depth++;
		parent = above->parent;
	}
	share->depth = depth;
	if (depth > round->deepest)
		round->deepest = depth;
	loop_window(share, class, number, round);
	share_clear(share);
	list_set(round->kept, number);
	round->kept++;
	return 0;
}

/* From the leaves up: what each wants. */
static long loop_sum_up(__u32 index, struct pace_round *round)
{
	__u32 number = list_get(index);
	struct shape_share *share = pace_share(number), *parent;
	struct shape_class *class = class_get(number);

	if (!share || !class || share->depth != round->depth)
		return 0;
	share_sum_up(share, class);
	if (!share->depth)
		return 0;
	parent = pace_share(class->parent);
	if (parent)
		share_tell(share, class, parent);
	return 0;
}

/* How long what is sent now would wait for its departure. */
static __always_inline __u64 class_waits_ns(__u32 number, const struct shape_class *class, __u64 now)
{
	struct shape_state *state = bpf_map_lookup_elem(&shape_states, &number);
	__s64 waits = state ? (__s64)(*(volatile __u64 *)&state->departs_ns - now) : 0;

	return class->engine == SHAPE_EDT && waits > 0 ? waits : 0;
}

static long loop_offer(__u32 index, struct pace_round *round)
{
	__u32 number = list_get(index);
	struct shape_share *share = pace_share(number);
	struct shape_class *class = class_get(number);

	if (!share || !class || share->depth != round->depth)
		return 0;
	if (!share->depth)
		share_settle_root(share, class, class_waits_ns(number, class, round->now));
	if (share->children) {
		share_offer(share);
		if (share->marginal != SHARE_NO_MARGIN)
			round->unsettled++;
	}
	return 0;
}

static long loop_take(__u32 index, struct pace_round *round)
{
	__u32 number = list_get(index);
	struct shape_share *share = pace_share(number), *parent;
	struct shape_class *class = class_get(number);

	if (!share || !class || share->depth != round->depth + 1)
		return 0;
	parent = pace_share(class->parent);
	if (parent)
		share_take(share, class, parent);
	return 0;
}

static long loop_rise(__u32 index, struct pace_round *round)
{
	struct shape_share *share = pace_share(list_get(index));

	if (share && share->depth == round->depth && share->children && share->marginal != SHARE_NO_MARGIN &&
		!share_rise(share))
		round->unsettled++;
	return 0;
}

static long loop_settle(__u32 index, struct pace_round *round)
{
	__u32 number = list_get(index);
	struct shape_share *share = pace_share(number), *parent;
	struct shape_class *class = class_get(number), *above;

	if (!share || !class || share->depth != round->depth + 1)
		return 0;
	above = class_get(class->parent);
	parent = pace_share(class->parent);
	/* one that has just come to stand above it has nothing to give yet: it goes on with what it had */
	if (above && parent && above->generation && parent->generation == above->generation)
		share_settle(share, class, parent);
	return 0;
}

/* The last pass: what each socket may have. */
static long loop_publish(__u32 index, struct pace_round *round)
{
	__u32 number = list_get(index);
	struct shape_share *share = pace_share(number);
	struct shape_state *state = bpf_map_lookup_elem(&shape_states, &number);

	struct shape_class *class = class_get(number);

	if (!share || !state || !class)
		return 0;
	share_settle_own(share);
	share_divide(share, class);
	*(volatile __u64 *)&state->flow_rate = share->flow_rate;
	*(volatile __u64 *)&state->own_rate = share->direct ? share->other_rate : 0;
	*(volatile __u64 *)&state->other_rate = share->direct ? share->potential : share->other_rate;
	*(volatile __u64 *)&state->allowance = share->allowance;
	state->flows = share_held(share) + share->below;
	return 0;
}

static __noinline int loop_divide(struct pace_round *round)
{
	__u32 level, pass, count = round->loop->count;

	for (level = 0; level < SHAPE_DEPTH_MAX; level++) {
		round->depth = SHAPE_DEPTH_MAX - 1 - level;
		if (round->depth <= round->deepest)
			bpf_loop(count, loop_sum_up, round, 0);
	}
	for (level = 0; level < SHAPE_DEPTH_MAX; level++) {
		round->depth = level;
		if (level > round->deepest)
			break;
		round->unsettled = 0;
		bpf_loop(count, loop_offer, round, 0);
		if (level == round->deepest)
			break;
		for (pass = 0; pass < SHARE_ROUNDS && round->unsettled; pass++) {
			round->unsettled = 0;
			bpf_loop(count, loop_take, round, 0);
			bpf_loop(count, loop_rise, round, 0);
		}
		bpf_loop(count, loop_settle, round, 0);
	}
	bpf_loop(count, loop_publish, round, 0);
	return 0;
}

static int loop_tick(void *map, __u32 *key, struct pace_clock *clock)
{
	struct pace_round round = {};
	__u32 zero = 0, waiting;

	round.loop = bpf_map_lookup_elem(&pace_loops, &zero);
	if (!round.loop)
		return 0;
	round.now = bpf_ktime_get_ns();
	bpf_loop(PACE_ARRIVALS_MAX, loop_arrive, &round, 0);
	bpf_loop(round.loop->count, loop_measure, &round, 0);
	round.loop->count = round.kept;
	loop_divide(&round);
	round.loop->stats.ticks++;
	round.loop->stats.classes = round.kept;
	round.loop->stats.tick_ns += bpf_ktime_get_ns() - round.now;
	if (!round.kept) {
		__sync_lock_test_and_set(&clock->running, 0);
		/* one may have come meanwhile, and found the loop running */
		if (bpf_map_peek_elem(&shape_arrivals, &waiting) ||
			__sync_lock_test_and_set(&clock->running, 1))
			return 0;
	}
	bpf_timer_start(&clock->timer, PACE_TICK_NS + (__u64)round.kept * PACE_CLASS_NS, 0);
	return 0;
}

/* Run once by the agent, on nothing: makes the timer, or gives it this program's loop. */
SEC("tc") int pace_start(struct __sk_buff *skb)
{
	__u32 zero = 0;
	struct pace_clock *clock = bpf_map_lookup_elem(&pace_clocks, &zero);

	if (!clock)
		return 1;
	bpf_timer_init(&clock->timer, &pace_clocks, CLOCK_MONOTONIC); /* EBUSY: it is there */
	if (bpf_timer_set_callback(&clock->timer, loop_tick))
		return 1;
	clock->running = 1;
	return bpf_timer_start(&clock->timer, 0, 0) ? 1 : 0;
}

/* -- rates of sockets -- */

struct pace_choice {
	__u64 rate;  /* wire bytes a second */
	__u32 class; /* that says so; 0: none does */
	__u32 any;   /* some class of the path paces */
	__u32 empty; /* the path is not known */
};

/* The lowest rate of the classes of a path.  A class above another has nothing to say, unless that has
 * nothing. */
static __always_inline void path_choose(__u32 number, __u32 held, struct pace_choice *choice)
{
	struct shape_path *path = bpf_map_lookup_elem(&shape_paths, &number);
	__u32 i, silent = 0;
	__u64 above = ~0ULL;

	choice->rate = ~0ULL;
	choice->empty = !path || !path->class[0];
	if (!path)
		return;
	for (i = 0; i < SHAPE_PATH_MAX; i++) {
		__u32 place = path->class[i];
		struct shape_class *class = class_get(place);
		struct shape_share *share = pace_share(place);
		__u64 rate, top;

		if (!place || !class || !share)
			break;
		if (!shape_is_paced(class) || !class->generation)
			continue;
		if (path->above >> i & 1) {
			if (class->ceiling && class->ceiling < above)
				above = class->ceiling;
			continue;
		}
		choice->any = 1;
		top = share_top(class, share);
		rate = share->generation == class->generation ? share->flow_rate : 0;
		if (!rate || (!held && rate < top))
			rate = top;
		if (!rate) {
			silent = place;
		} else if (rate < choice->rate) {
			choice->rate = rate;
			choice->class = place;
		}
	}
	if (silent && above < choice->rate) {
		choice->rate = above;
		choice->class = silent;
	}
}

/* Wire bytes a second as payload. */
static __always_inline __u64 payload_rate(
	__u64 rate, const struct tcp_sock *tcp, const struct shape_socket *socket)
{
	__u64 header = socket->header, mss = tcp->mss_cache;

	if (!header)
		header = ETHERNET_BYTES + tcp->tcp_header_len +
		         (tcp->inet_conn.icsk_inet.sk.__sk_common.skc_family == AF_INET6 ? IPV6_BYTES
											 : IPV4_BYTES);
	if (rate > SHARE_RATE_MAX)
		return rate;
	return rate * mss / (mss + header);
}

/* A window that keeps a slow socket from sending all it may in one go; 0: it need not.  At short round trips
 * TCP sends 64 KB at a time, whatever its rate.  Where that all waits in one queue, others behind it
 * have round trips as long as that takes, and those whose own windows are small send too little. */
static __always_inline __u32 window_for(__u64 rate, __u32 number, const struct tcp_sock *tcp)
{
	const struct shape_class *class = class_get(number);
	__u64 mss = tcp->mss_cache | !tcp->mss_cache;

	if (rate >= (class && class->flags & SHAPE_CLASS_QUEUED ? PACE_SLOW_FQ : PACE_SLOW))
		return 0;
	return PACE_WINDOW_MIN + rate * (PACE_ACK_US + (tcp->srtt_us >> 3)) / (mss * 1000000);
}

/* Gives a socket its rate, in a program of any type that may set options; `to` is what they are set on. */
#define pace_set(to, tcp, socket)                                                                            \
	do {                                                                                                 \
		struct pace_plan plan_ = {};                                                                 \
                                                                                                             \
		pace_plan_make(&plan_, tcp, socket);                                                         \
		if (plan_.set_rate && !bpf_setsockopt(to, SOL_SOCKET, SO_MAX_PACING_RATE, &plan_.rate,       \
					      sizeof(plan_.rate)))                                           \
			(socket)->rate = plan_.paced ? plan_.rate : 0;                                       \
		if (plan_.set_clamp && !bpf_setsockopt(to, SOL_TCP, TCP_BPF_SNDCWND_CLAMP, &plan_.clamp,     \
					       sizeof(plan_.clamp)))                                         \
			(socket)->clamp = plan_.clamp == PACE_UNCLAMPED ? 0 : plan_.clamp;                   \
	} while (0)

struct pace_plan {
	__u32 rate;
	__u32 clamp;
	__u8 set_rate, set_clamp, paced;
};

static __always_inline __u32 differs(__u32 a, __u32 b)
{
	return (a > b ? a - b : b - a) > b / PACE_CLOSE;
}

static __always_inline void pace_plan_make(
	struct pace_plan *plan, const struct tcp_sock *tcp, struct shape_socket *socket)
{
	__u64 most = tcp->inet_conn.icsk_inet.sk.sk_max_pacing_rate, rate;
	__u32 now = most < PACE_UNPACED ? most : PACE_UNPACED, held = tcp->write_seq != tcp->snd_nxt, clamp;
	struct pace_choice choice = {};

	/* what is not ours is the application's */
	if (!socket->rate || now != socket->rate)
		socket->own_rate = now;
	path_choose(socket->path, held, &choice);
	if (socket->path && choice.empty)
		return; /* the next packet knows better */
	if (!choice.any || !choice.class) {
		socket->class = 0;
		plan->rate = socket->own_rate;
		plan->set_rate = socket->rate != 0;
		plan->clamp = PACE_UNCLAMPED;
		plan->set_clamp = socket->clamp != 0;
		return;
	}
	rate = payload_rate(choice.rate, tcp, socket);
	rate = share_max(share_min(rate, PACE_UNPACED - 1), SHARE_FLOW_MIN);
	plan->paced = 1;
	socket->class = choice.class;
	if (rate >= socket->own_rate) {
		rate = socket->own_rate;
		socket->class = 0;
	}
	/* many that began together would send together for ever: one gap of each is longer or shorter */
	if (held && !socket->spread && tcp->data_segs_out > PACE_UNPACED_SEGMENTS) {
		socket->spread = 1;
		rate = rate * 256 / (128 + (bpf_get_prandom_u32() & 255));
	}
	plan->rate = rate;
	plan->set_rate = differs(plan->rate, socket->rate);
	clamp = window_for(rate, choice.class, tcp);
	plan->clamp = clamp ? clamp : PACE_UNCLAMPED;
	plan->set_clamp = clamp != socket->clamp;
}

SEC("sockops") int pace_socket_event(struct bpf_sock_ops *event)
{
	struct shape_socket *socket;
	struct shape_share *share;
	struct bpf_sock *sk;
	struct tcp_sock *tcp;
	__u32 window;

	if (event->op != BPF_SOCK_OPS_RTT_CB && event->op != BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB &&
		event->op != BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB)
		return 1;
	sk = event->sk;
	if (!sk)
		return 1;
	socket = bpf_sk_storage_get(&shape_sockets, sk, 0, 0);
	if (!socket)
		return 1;
	tcp = bpf_skc_to_tcp_sock(sk);
	if (!tcp)
		return 1;
	if (!socket->caught) {
		socket->caught = 1;
		bpf_sock_ops_cb_flags_set(event, event->bpf_sock_ops_cb_flags | BPF_SOCK_OPS_RTT_CB_FLAG);
	}
	/* In each round trip something was sent: if no packet has told of a path, it has none any more. */
	if (event->op == BPF_SOCK_OPS_RTT_CB) {
		if (socket->fresh)
			socket->fresh--;
		else
			socket->path = 0;
	}
	pace_set(event, tcp, socket);
	/* the window it begins with, before the first data; later only the congestion control makes it less
	 */
	if (event->op != BPF_SOCK_OPS_RTT_CB && socket->clamp && socket->clamp < tcp->snd_cwnd) {
		window = socket->clamp;
		bpf_setsockopt(event, SOL_TCP, TCP_BPF_IW, &window, sizeof(window));
	}
	share = socket->class ? pace_share(socket->class) : (void *)0;
	if (share && share->rtt_us < tcp->srtt_us >> 3)
		share->rtt_us = tcp->srtt_us >> 3;
	return 1;
}

/* Sockets that were open before their class was there, and all others: by the agent. */
SEC("iter/tcp") int pace_find(struct bpf_iter__tcp *context)
{
	struct sock_common *common = context->sk_common;
	struct shape_socket *socket;
	struct tcp_sock *tcp;
	__u32 flags = BPF_SOCK_OPS_RTT_CB_FLAG, zero = 0;
	struct pace_loop *loop = bpf_map_lookup_elem(&pace_loops, &zero);

	tcp = common ? bpf_skc_to_tcp_sock(common) : (void *)0;
	if (!tcp || !loop)
		return 0;
	socket = bpf_sk_storage_get(&shape_sockets, tcp, 0, 0);
	if (!socket)
		return 0;
	if (loop->releases)
		socket->path = 0;
	pace_set(tcp, tcp, socket);
	if (loop->releases) {
		socket->caught = 0;
		return 0;
	}
	if (!socket->caught && !bpf_setsockopt(tcp, SOL_TCP, PACE_CB_FLAGS, &flags, sizeof(flags)))
		socket->caught = 1;
	if (!socket->caught)
		loop->stats.followed++;
	return 0;
}

char _license[] SEC("license") = "Dual BSD/GPL";
