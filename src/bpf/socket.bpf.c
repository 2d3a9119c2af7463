// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * The socket monitor: what happens to TCP and UDP sockets, and how they are doing (shared/socket.h).
 *
 * A connection costs one look at each change of its state, and a record for each of its ends when it is
 * closed. Everything between, the kernel counts anyway.  UDP, of which the kernel counts nothing, is counted
 * in the socket's life, where the tracepoints behind sendmsg() and recvmsg() are (6.3).
 */
#define OWNER_RECORDS

#include "bpf/lib/socket.h"
#include "bpf/lib/kernel.h"
#include "bpf/lib/live.h"
#include "bpf/lib/owner.h"

#define AF_INET     2
#define AF_INET6    10
#define TCP         6
#define UDP         17
#define SOCK_STREAM 1
#define SOCK_DGRAM  2
#define MSG_PEEK    2

#define ECONNRESET   104
#define ETIMEDOUT    110
#define ECONNREFUSED 111
#define ENETUNREACH  101
#define EHOSTUNREACH 113
#define ECANCELED    125

#define CHRONO_PEER_LIMITED 2 /* TCP_CHRONO_RWND_LIMITED */

#define SOCKET_RING_BYTES (4U << 20)
#define SOCKET_WAKE_EVERY 64 /* records of a CPU */

const volatile __u32 socket_counts_udp = 0; /* the tracepoints of sendmsg() and recvmsg() are there */
const volatile __u32 socket_has_owner =
	0; /* owners are recorded, too: here, so that each event runs one program */

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, SOCKET_RING_BYTES);
} socket_ring SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct socket_stats);
} socket_stats SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} socket_wants SEC(".maps");

static __always_inline struct socket_stats *socket_stats_get(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&socket_stats, &zero);
}

static __always_inline __u32 socket_wanted(void)
{
	__u32 zero = 0, *wants = bpf_map_lookup_elem(&socket_wants, &zero);

	return wants ? *wants : 0;
}

/* The agent reads the ring when somebody asks, and from time to time; it is woken when a quarter is full. How
 * full it is, is looked at now and then only: that line of memory is the agent's, and far away. */
static __always_inline __u64 socket_wake(const struct socket_stats *stats)
{
	return !(stats->records % SOCKET_WAKE_EVERY) &&
	                       bpf_ringbuf_query(&socket_ring, BPF_RB_AVAIL_DATA) > SOCKET_RING_BYTES / 4
	               ? BPF_RB_FORCE_WAKEUP
	               : BPF_RB_NO_WAKEUP;
}

/* Room for a record of this type, counted; NULL: lost, and counted. */
#define socket_reserve(type, stats)                                                                          \
	({                                                                                                   \
		type *record_ = bpf_ringbuf_reserve(&socket_ring, sizeof(type), 0);                          \
                                                                                                             \
		if (record_)                                                                                 \
			(stats)->records++;                                                                  \
		else                                                                                         \
			(stats)->lost++;                                                                     \
		record_;                                                                                     \
	})

/* Who and where; the caller adds what happened.  For pointers that the verifier knows. */
#define socket_head_fill(head, common)                                                                       \
	do {                                                                                                 \
		(head)->time_ns = bpf_ktime_get_ns();                                                        \
		(head)->error = 0;                                                                           \
		(head)->latency_us = 0;                                                                      \
		(head)->lport = (common)->skc_num;                                                           \
		(head)->rport = bpf_ntohs((common)->skc_dport);                                              \
		(head)->state = (head)->before = (common)->skc_state;                                        \
		(head)->accepted = 0;                                                                        \
		__builtin_memset((head)->reserved, 0, sizeof((head)->reserved));                             \
		if ((common)->skc_family == AF_INET6) {                                                      \
			(head)->family = 6;                                                                  \
			socket_copy_address((head)->local, (common)->skc_v6_rcv_saddr.in6_u.u6_addr32);      \
			socket_copy_address((head)->remote, (common)->skc_v6_daddr.in6_u.u6_addr32);         \
		} else {                                                                                     \
			(head)->family = 4;                                                                  \
			(head)->local[0] = (common)->skc_rcv_saddr;                                          \
			(head)->remote[0] = (common)->skc_daddr;                                             \
			(head)->local[1] = (head)->local[2] = (head)->local[3] = 0;                          \
			(head)->remote[1] = (head)->remote[2] = (head)->remote[3] = 0;                       \
		}                                                                                            \
	} while (0)

static __always_inline void socket_copy_address(__u32 *to, const __be32 *from)
{
	to[0] = from[0];
	to[1] = from[1];
	to[2] = from[2];
	to[3] = from[3];
}

static __always_inline int socket_is_ours(const struct sock *sk)
{
	return sk->__sk_common.skc_net.net->net_cookie == netns_cookie;
}

/* The life of a socket that weir sees for the first time begins empty. */
static __always_inline struct socket_life *socket_life_make(struct sock *sk)
{
	struct socket_owner *entry = socket_find_or_make(sk);
	struct socket_stats *stats;

	if (entry)
		return &entry->life;
	stats = socket_stats_get();
	if (stats)
		stats->unremembered++;
	return (void *)0;
}

/* An event without figures; the socket's own state is still the one before. */
static __always_inline void socket_tell(
	struct sock *sk, struct socket_stats *stats, __u8 event, __u8 state, __u32 latency_us, __u32 error)
{
	struct socket_head *head = socket_reserve(struct socket_head, stats);
	struct tcp_sock *tp;

	if (!head)
		return;
	socket_head_fill(head, &sk->__sk_common);
	head->cookie = bpf_get_socket_cookie(sk);
	head->owner = owner_of(sk);
	head->event = event;
	head->state = state;
	head->protocol = sk->sk_protocol;
	head->latency_us = latency_us;
	head->error = error;
	tp = event == SOCKET_STATE && state == BPF_TCP_CLOSE ? bpf_skc_to_tcp_sock(sk) : (void *)0;
	if (tp) /* its port has been given back */
		head->lport = bpf_ntohs(tp->inet_conn.icsk_inet.inet_sport);
	bpf_ringbuf_submit(head, socket_wake(stats));
}

static __always_inline __u32 socket_drops(const struct sock *sk)
{
	const struct sock___numa *numa = (const void *)sk;

	if (bpf_core_field_exists(numa->sk_drop_counters)) {
		const struct numa_drop_counters *drops = BPF_CORE_READ(numa, sk_drop_counters);

		if (drops)
			return BPF_CORE_READ(drops, drops0.counter) + BPF_CORE_READ(drops, drops1.counter);
	}
	return BPF_CORE_READ(sk, sk_drops.counter);
}

/* Figures that TCP keeps.  Payload is what the application sent and what came in order: FIN counts one for
 * bytes_received, and what was sent again counts in bytes_sent. */
static __always_inline void socket_figures_tcp(struct socket_record *record, const struct tcp_sock *tp)
{
	const struct sock *sk = &tp->inet_conn.icsk_inet.sk;
	__u32 interval_us = tp->rate_interval_us, chrono;

	record->in_packets = tp->segs_in;
	record->in_bytes = tp->bytes_received - (sk->__sk_common.skc_flags >> SOCK_DONE & 1);
	record->out_packets = tp->segs_out;
	record->out_bytes = tp->bytes_sent - tp->bytes_retrans;
	record->srtt_us = tp->srtt_us >> 3;
	record->rtt_min_us = tp->rtt_min.s[0].v;
	record->retransmits = tp->total_retrans;
	record->out_of_order = tp->rcv_ooopack;
	record->delivery_bps =
		interval_us ? (__u64)tp->rate_delivered * tp->mss_cache * 8 * 1000000 / interval_us : 0;
	record->cwnd = tp->snd_cwnd;
	record->congestion = BPF_CORE_READ_BITFIELD(&tp->inet_conn, icsk_ca_state);
	chrono = tp->chrono_stat[CHRONO_PEER_LIMITED - 1];
	if (BPF_CORE_READ_BITFIELD(tp, chrono_type) == CHRONO_PEER_LIMITED)
		chrono += (__u32)bpf_jiffies64() - tp->chrono_start;
	record->peer_limited = chrono;
}

static __always_inline void socket_figures_life(struct socket_record *record, const struct socket_life *life)
{
	record->has_life = 1;
	record->created_ns = life->created_ns;
	record->established_ns = life->established_ns;
	record->handshake_us = life->handshake_us;
	record->zero_windows_in = life->zero_windows_in;
	record->zero_windows_out = life->zero_windows_out;
	record->errors = life->errors;
	record->head.accepted = life->flags & SOCKET_LIFE_ACCEPTED;
	record->told = !!(life->flags & SOCKET_LIFE_TOLD);
}

static __always_inline void socket_figures_udp(struct socket_record *record, const struct socket_life *life)
{
	record->in_packets = life->in_packets;
	record->in_bytes = life->in_bytes;
	record->out_packets = life->out_packets;
	record->out_bytes = life->out_bytes;
	record->counts_packets = socket_counts_udp;
}

/* -- TCP -- */

static __always_inline __u32 socket_log2(__u32 value)
{
	__u32 log = 0;

	if (value >> 16) {
		log += 16;
		value >>= 16;
	}
	if (value >> 8) {
		log += 8;
		value >>= 8;
	}
	if (value >> 4) {
		log += 4;
		value >>= 4;
	}
	if (value >> 2) {
		log += 2;
		value >>= 2;
	}
	return log + (value >> 1);
}

static __always_inline void socket_connected(
	struct sock *sk, struct socket_life *life, __u64 now, struct socket_stats *stats, __u32 wants)
{
	__u32 bucket;

	life->established_ns = now;
	life->handshake_us = (now - life->began_ns) / 1000;
	bucket = socket_log2(life->handshake_us);
	if (bucket >= SOCKET_LATENCY_BUCKETS)
		bucket = SOCKET_LATENCY_BUCKETS - 1;
	stats->connected++;
	stats->latency_us += life->handshake_us;
	stats->latency[bucket]++;
	if (wants & SOCKET_WANTS_ALL) {
		life->flags |= SOCKET_LIFE_TOLD;
		socket_tell(sk, stats, SOCKET_CONNECT, BPF_TCP_ESTABLISHED, life->handshake_us, 0);
	}
}

/* The handshake is over.  Of an accept is not told now: whose it is shows when somebody uses it. */
static __always_inline void socket_established(
	struct sock *sk, int before, struct socket_stats *stats, __u32 wants)
{
	struct socket_owner *entry = socket_find_or_make(sk);
	struct tcp_sock *tp = bpf_skc_to_tcp_sock(sk);

	if (before == BPF_TCP_SYN_RECV && !(entry && entry->life.began_ns))
		stats->accepted++; /* else it was opened from both sides at once */
	if (!entry || !tp) {
		stats->unremembered += !entry;
		return;
	}
	/* of the packet that ended the handshake: TCP has just looked at the clock */
	if (before == BPF_TCP_SYN_SENT || entry->life.began_ns) {
		socket_connected(sk, &entry->life, tp->tcp_clock_cache, stats, wants);
	} else if (before == BPF_TCP_SYN_RECV) {
		entry->life.established_ns = entry->life.created_ns = tp->tcp_clock_cache;
		entry->life.handshake_us = tp->srtt_us >> 3;
		entry->life.flags = SOCKET_LIFE_ACCEPTED;
	}
	entry->life.open = 1;
}

static __always_inline __u32 socket_count_failure(struct socket_stats *stats, __u32 error)
{
	switch (error) {
	case ECONNREFUSED:
		stats->refused++;
		break;
	case ETIMEDOUT:
		stats->timed_out++;
		break;
	case ECONNRESET:
		stats->reset++;
		break;
	case ENETUNREACH:
	case EHOSTUNREACH:
		stats->unreachable++;
		break;
	case 0:
		/* the application closed it, or connected anew */
		stats->abandoned++;
		return ECANCELED;
	default:
		stats->failed++;
	}
	return error;
}

/* The number of a socket that ends.  Most have none, and to have the kernel make one costs as much as the
 * record. Nobody was told of such a socket, so a number of our own does, which is none of the kernel's. */
static __always_inline __u64 socket_last_cookie(const struct sock *sk, __u64 closed)
{
	__u64 cookie = sk->__sk_common.skc_cookie.counter;

	return cookie ? cookie
	              : SOCKET_COOKIE_OURS | (__u64)bpf_get_smp_processor_id() << SOCKET_COOKIE_CPU_SHIFT |
	                        (closed & (1ULL << SOCKET_COOKIE_CPU_SHIFT) - 1);
}

static __always_inline void socket_closed(struct sock *sk, int before, struct socket_stats *stats)
{
	struct tcp_sock *tp = bpf_skc_to_tcp_sock(sk);
	struct socket_owner *keeper = socket_find(sk);
	struct socket_record *record;
	struct socket_life *life;
	__u32 error = sk->sk_err;
	__u64 closed;

	/* given up, but ICMP had said why it would not work */
	if (before == BPF_TCP_SYN_SENT && !error)
		error = sk->sk_err_soft;
	if (before == BPF_TCP_SYN_SENT)
		error = socket_count_failure(stats, error);
	else if (before != BPF_TCP_LISTEN && error)
		stats->broken++;
	closed = ++stats->closed;
	if (keeper)
		keeper->life.open = 0;
	if (!tp)
		return;
	record = socket_reserve(struct socket_record, stats);
	if (!record)
		return;
	/* from a member on, so that the compiler sees that it is aligned: words, not bytes */
	__builtin_memset(&record->created_ns, 0, sizeof(*record) - sizeof(record->head));
	socket_head_fill(&record->head, &sk->__sk_common);
	record->head.cookie = socket_last_cookie(sk, closed);
	record->head.owner = OWNER_UNKNOWN;
	record->head.event = SOCKET_CLOSE;
	record->head.state = BPF_TCP_CLOSE;
	record->head.before = before;
	record->head.protocol = TCP;
	record->head.error = error;
	/* its port has been given back */
	record->head.lport = bpf_ntohs(tp->inet_conn.icsk_inet.inet_sport);
	record->counts_packets = 1;
	socket_figures_tcp(record, tp);
	if (keeper) {
		life = &keeper->life;
		record->head.owner = keeper->claim.id;
		socket_figures_life(record, life);
		if (before == BPF_TCP_SYN_SENT)
			record->head.latency_us = (record->head.time_ns - life->began_ns) / 1000;
	}
	bpf_ringbuf_submit(record, socket_wake(stats));
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(socket_state, struct sock *sk, int before, int state)
{
	struct socket_stats *stats;
	struct socket_life *life;
	__u32 wants = socket_wanted();

	/* between ESTABLISHED and CLOSE there is a lot to skip */
	if (state != BPF_TCP_ESTABLISHED && state != BPF_TCP_CLOSE && state != BPF_TCP_SYN_SENT &&
		state != BPF_TCP_LISTEN && !(wants & SOCKET_WANTS_STATES))
		return 0;
	if (sk->sk_protocol != TCP || !live_here() || !socket_is_ours(sk))
		return 0;
	stats = socket_stats_get();
	if (!stats)
		return 0;
	if (wants & SOCKET_WANTS_STATES)
		socket_tell(sk, stats, SOCKET_STATE, state, 0, 0);
	switch (state) {
	case BPF_TCP_SYN_SENT:
		life = socket_life_make(sk);
		if (!life)
			break;
		life->began_ns = bpf_ktime_get_ns();
		life->established_ns = 0;
		life->handshake_us = life->zero_windows_in = life->zero_windows_out = life->flags = 0;
		life->open = 1;
		break;
	case BPF_TCP_ESTABLISHED:
		socket_established(sk, before, stats, wants);
		break;
	case BPF_TCP_LISTEN:
		stats->listened++;
		life = socket_life_of(sk);
		if (life)
			life->open = 1;
		socket_tell(sk, stats, SOCKET_LISTEN, state, 0, 0);
		break;
	case BPF_TCP_CLOSE:
		if (before != BPF_TCP_CLOSE && before != BPF_TCP_SYN_RECV)
			socket_closed(sk, before, stats);
		break;
	}
	return 0;
}

#define SOCKET_COUNT(sk, field)                                                                              \
	do {                                                                                                 \
		struct socket_stats *stats_;                                                                 \
                                                                                                             \
		if (!(sk) || !live_here() || !socket_is_ours(sk))                                            \
			return 0;                                                                            \
		stats_ = socket_stats_get();                                                                 \
		if (stats_)                                                                                  \
			stats_->field++;                                                                     \
	} while (0)

SEC("tp_btf/tcp_retransmit_skb")
int BPF_PROG(socket_retransmit, struct sock *sk)
{
	SOCKET_COUNT(sk, retransmits);
	return 0;
}

SEC("tp_btf/tcp_receive_reset")
int BPF_PROG(socket_reset_in, struct sock *sk)
{
	SOCKET_COUNT(sk, resets_in);
	return 0;
}

/* Without a socket it is the answer to a packet for a closed port. */
SEC("tp_btf/tcp_send_reset")
int BPF_PROG(socket_reset_out, struct sock *sk)
{
	SOCKET_COUNT(sk, resets_out);
	return 0;
}

/* -- UDP -- */

SEC("tp_btf/udp_fail_queue_rcv_skb")
int BPF_PROG(socket_full, int error, struct sock *sk)
{
	SOCKET_COUNT(sk, buffer_drops);
	return 0;
}

SEC("tp_btf/inet_sk_error_report")
int BPF_PROG(socket_error, struct sock *sk)
{
	struct socket_stats *stats;
	struct socket_life *life;

	/* what TCP has to say it says when it closes */
	if (sk->sk_protocol != UDP || !live_here() || !socket_is_ours(sk))
		return 0;
	stats = socket_stats_get();
	life = socket_life_make(sk);
	if (life)
		__sync_fetch_and_add(&life->errors, 1);
	if (stats) {
		stats->errors++;
		if (socket_wanted() & SOCKET_WANTS_ALL)
			socket_tell(sk, stats, SOCKET_ERROR, sk->__sk_common.skc_state, 0, sk->sk_err);
	}
	return 0;
}

/* What is kept of a socket that the current process uses; NULL: it is not ours. */
static __always_inline struct socket_owner *socket_use(struct sock *sk, const void *context)
{
	return socket_has_owner ? owner_use(sk, context) : socket_find(sk);
}

SEC("tp_btf/sock_send_length")
int BPF_PROG(socket_sent, struct sock *sk, int length)
{
	struct socket_owner *entry = socket_use(sk, ctx);
	struct socket_life *life;
	struct socket_stats *stats;

	if (!entry || sk->sk_protocol != UDP || length < 0 || !live_here())
		return 0;
	life = &entry->life;
	__sync_fetch_and_add(&life->out_packets, 1);
	__sync_fetch_and_add(&life->out_bytes, length);
	if (life->established_ns || !sk->__sk_common.skc_dport)
		return 0;
	life->established_ns = bpf_ktime_get_ns();
	stats = socket_stats_get();
	if (!stats)
		return 0;
	stats->udp_peers++;
	if (socket_wanted() & SOCKET_WANTS_ALL) {
		life->flags |= SOCKET_LIFE_TOLD;
		socket_tell(sk, stats, SOCKET_CONNECT, BPF_TCP_ESTABLISHED, 0, 0);
	}
	return 0;
}

SEC("tp_btf/sock_recv_length")
int BPF_PROG(socket_received, struct sock *sk, int length, int flags)
{
	struct socket_owner *entry = socket_use(sk, ctx);

	if (!entry || sk->sk_protocol != UDP || length < 0 || flags & MSG_PEEK || !live_here())
		return 0;
	__sync_fetch_and_add(&entry->life.in_packets, 1);
	__sync_fetch_and_add(&entry->life.in_bytes, length);
	return 0;
}

/* -- calls: the context is the socket, but the verifier does not let it be used as one -- */

static __always_inline void socket_head_read(struct socket_head *head, const struct sock *sk)
{
	__builtin_memset(head, 0, sizeof(*head));
	head->time_ns = bpf_ktime_get_ns();
	head->family = BPF_CORE_READ(sk, __sk_common.skc_family) == AF_INET6 ? 6 : 4;
	head->lport = BPF_CORE_READ(sk, __sk_common.skc_num);
	head->rport = bpf_ntohs(BPF_CORE_READ(sk, __sk_common.skc_dport));
	head->protocol = BPF_CORE_READ(sk, sk_protocol);
	head->state = head->before = BPF_CORE_READ(sk, __sk_common.skc_state);
	if (head->family == 6) {
		bpf_core_read(head->local, sizeof(head->local), &sk->__sk_common.skc_v6_rcv_saddr);
		bpf_core_read(head->remote, sizeof(head->remote), &sk->__sk_common.skc_v6_daddr);
	} else {
		bpf_core_read(head->local, sizeof(head->local[0]), &sk->__sk_common.skc_rcv_saddr);
		bpf_core_read(head->remote, sizeof(head->remote[0]), &sk->__sk_common.skc_daddr);
	}
}

static __always_inline void socket_call(struct bpf_sock *ctx, struct socket_stats *stats, __u8 event)
{
	struct socket_head *head = socket_reserve(struct socket_head, stats);

	if (!head)
		return;
	socket_head_read(head, (const void *)ctx);
	head->cookie = bpf_get_socket_cookie(ctx);
	head->owner = owner_of(ctx);
	head->event = event;
	bpf_ringbuf_submit(head, socket_wake(stats));
}

static __always_inline int socket_is_watched(struct bpf_sock *ctx)
{
	return (ctx->protocol == TCP || ctx->protocol == UDP) && bpf_get_netns_cookie(ctx) == netns_cookie;
}

SEC("cgroup/sock_create")
int socket_create(struct bpf_sock *ctx)
{
	struct socket_stats *stats;
	struct socket_owner *entry;

	if (bpf_get_netns_cookie(ctx) != netns_cookie)
		return 1;
	entry = socket_find_or_make(ctx);
	if (entry) {
		/* what another one left here whose end nobody told */
		__builtin_memset(entry, 0, sizeof(*entry));
		entry->life.created_ns = bpf_ktime_get_coarse_ns();
		if (socket_has_owner)
			owner_give(entry, bpf_get_current_task_btf());
	} else if (socket_has_owner) {
		owner_count(refused);
	}
	if (ctx->protocol != TCP && ctx->protocol != UDP)
		return 1;
	stats = socket_stats_get();
	if (!stats)
		return 1;
	stats->unremembered += !entry;
	if (socket_wanted() & SOCKET_WANTS_ALL)
		socket_call(ctx, stats, SOCKET_CREATE);
	return 1;
}

static __always_inline int socket_bound(struct bpf_sock *ctx)
{
	struct socket_stats *stats;

	if (!socket_is_watched(ctx))
		return 1;
	stats = socket_stats_get();
	if (stats) {
		stats->bound++;
		socket_call(ctx, stats, SOCKET_BIND);
	}
	return 1;
}

SEC("cgroup/post_bind4")
int socket_bind4(struct bpf_sock *ctx)
{
	return socket_bound(ctx);
}

SEC("cgroup/post_bind6")
int socket_bind6(struct bpf_sock *ctx)
{
	return socket_bound(ctx);
}

static __always_inline void socket_closed_udp(
	struct bpf_sock *ctx, const struct socket_owner *entry, struct socket_stats *stats)
{
	const struct sock *sk = (const void *)ctx;
	struct socket_record *record;

	stats->closed++;
	record = socket_reserve(struct socket_record, stats);
	if (!record)
		return;
	__builtin_memset(record, 0, sizeof(*record));
	socket_head_read(&record->head, sk);
	record->head.cookie = bpf_get_socket_cookie(ctx);
	record->head.event = SOCKET_CLOSE;
	record->drops = socket_drops(sk);
	if (entry) {
		record->head.owner = entry->claim.id;
		socket_figures_life(record, &entry->life);
		socket_figures_udp(record, &entry->life);
	}
	bpf_ringbuf_submit(record, socket_wake(stats));
}

/*
 * Whoever closes a socket that nobody has used since it was accepted has accepted it.  Else the last user
 * stays: it may be some child that closes last.  TCP has things to send behind this, tells of its close by
 * its state, and ends in socket_destroy(); all others end here.
 */
SEC("cgroup/sock_release")
int socket_release(struct bpf_sock *ctx)
{
	struct socket_stats *stats;
	struct socket_owner *entry;

	/* what has an entry is ours */
	entry = socket_find(ctx);
	if (!entry && bpf_get_netns_cookie(ctx) != netns_cookie)
		return 1;
	if (socket_has_owner && !(entry && entry->claim.id))
		entry = owner_claim(ctx, bpf_get_current_task_btf());
	if (ctx->protocol == TCP)
		return 1;
	if (ctx->protocol == UDP) {
		stats = socket_stats_get();
		if (stats)
			socket_closed_udp(ctx, entry, stats);
	}
	owner_forget(ctx);
	return 1;
}

SEC("tp_btf/tcp_destroy_sock")
int BPF_PROG(socket_destroy, struct sock *sk)
{
	struct socket_stats *stats;
	struct socket_life *life;

	if (!live_here() || !socket_is_ours(sk))
		return 0;
	life = socket_life_of(sk);
	/* its change of state interrupted another one, which the kernel does not tell the same program of */
	if (life && life->open) {
		stats = socket_stats_get();
		if (stats)
			socket_closed(sk,
				life->established_ns ? BPF_TCP_ESTABLISHED
				: life->began_ns     ? BPF_TCP_SYN_SENT
						     : BPF_TCP_LISTEN,
				stats);
	}
	owner_forget(sk);
	return 0;
}

/* -- lists -- */

/* Is it to be in the list that is asked for? */
static __always_inline int socket_is_listed(const struct socket_life *life, __u8 state)
{
	if (!(socket_wanted() & SOCKET_WANTS_NEW))
		return 1;
	return life && life->established_ns && !(life->flags & SOCKET_LIFE_TOLD) && state != BPF_TCP_LISTEN;
}

/* What finds no room in the answer is asked for again. */
static __always_inline void socket_list(
	struct bpf_iter_meta *meta, struct socket_record *record, struct socket_life *life)
{
	if (!bpf_seq_write(meta->seq, record, sizeof(*record)) && life && socket_wanted() & SOCKET_WANTS_NEW)
		life->flags |= SOCKET_LIFE_TOLD;
}

SEC("iter/tcp")
int socket_list_tcp(struct bpf_iter__tcp *ctx)
{
	struct sock_common *common = ctx->sk_common;
	struct socket_record record = {};
	struct socket_life *life = NULL;
	struct tcp_sock *tp;
	struct sock *sk;

	if (!common)
		return 0;
	/* none for a connection request, nor for TIME_WAIT */
	tp = bpf_skc_to_tcp_sock(common);
	sk = (struct sock *)tp;
	if (sk)
		life = socket_life_of(sk);
	socket_head_fill(&record.head, common);
	if (!socket_is_listed(life, record.head.state))
		return 0;
	record.head.protocol = TCP;
	if (tp) {
		record.head.cookie = bpf_get_socket_cookie(sk);
		record.head.owner = owner_of(sk);
		record.counts_packets = 1;
		if (life)
			socket_figures_life(&record, life);
		if (record.head.state == BPF_TCP_LISTEN) {
			record.queued = sk->sk_ack_backlog;
			record.queue_limit = sk->sk_max_ack_backlog;
		} else {
			socket_figures_tcp(&record, tp);
		}
		record.drops = socket_drops(sk);
	}
	socket_list(ctx->meta, &record, life);
	return 0;
}

SEC("iter/udp")
int socket_list_udp(struct bpf_iter__udp *ctx)
{
	struct sock *sk = (struct sock *)ctx->udp_sk;
	struct socket_record record = {};
	struct socket_life *life;

	if (!sk)
		return 0;
	life = socket_life_of(sk);
	socket_head_fill(&record.head, &sk->__sk_common);
	if (!socket_is_listed(life, record.head.state))
		return 0;
	record.head.protocol = sk->sk_protocol;
	record.head.cookie = bpf_get_socket_cookie(sk);
	record.head.owner = owner_of(sk);
	record.drops = socket_drops(sk);
	if (life) {
		socket_figures_life(&record, life);
		socket_figures_udp(&record, life);
	}
	socket_list(ctx->meta, &record, life);
	return 0;
}

char _license[] SEC("license") = "Dual BSD/GPL";
