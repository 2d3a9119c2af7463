/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * What tc egress tells the control loop of pacing (pace.bpf.c) about each packet.
 *
 * A TCP socket of this host carries its path (socket storage): so sockops, which sees no packet, knows its
 * classes.  The SYN goes through here first, so that holds before the connection is there.  What is accepted
 * inherits it from the listener, by which the SYN+ACK has passed.
 *
 * A class holds a socket back if that has more to send than this packet and is paced no faster than the class
 * lets it.  The packet tells when that begins and when it ends, so the number of those sockets is known at
 * once; what is lost of it (resets, sockets that are stuck) is made good by counting anew in each epoch.
 */
#ifndef WEIR_BPF_PACE_H
#define WEIR_BPF_PACE_H

#include "bpf/lib/kernel.h"
#include "bpf/lib/shape_maps.h"
#include "shared/shape.h"

#define PACE_TCP         6
#define PACE_ESTABLISHED 1 /* TCP_ESTABLISHED */
#define PACE_FRESH       2

/* What a packet tells of its socket. */
enum pace_hold {
	PACE_FREE,  /* has nothing more to send */
	PACE_EAGER, /* has more to send, and something else limits it */
	PACE_HELD,  /* … and sends no slower than we let it */
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, SHAPE_CLASSES_MAX);
	__type(key, __u32);
	__type(value, struct shape_share);
} shape_shares SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC | BPF_F_CLONE);
	__type(key, int);
	__type(value, struct shape_socket);
} shape_sockets SEC(".maps");

/* Classes that came into use, for the control loop to take up. */
struct {
	__uint(type, BPF_MAP_TYPE_QUEUE);
	__uint(max_entries, SHAPE_CLASSES_MAX);
	__uint(value_size, sizeof(__u32));
} shape_arrivals SEC(".maps");

struct pace_clock {
	struct bpf_timer timer;
	__u32 running;
	__u32 uncaught; /* counts sockets that were open already when they got a class */
};

/* [0]: of the control loop. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct pace_clock);
} pace_clocks SEC(".maps");

static __always_inline struct shape_share *pace_share(__u32 number)
{
	return bpf_map_lookup_elem(&shape_shares, &number);
}

/* A socket is held back, or no more. */
static __always_inline void pace_hold(struct shape_share *share, struct shape_socket *socket, __u32 held)
{
	__u32 epoch = *(volatile __u32 *)&share->epoch;

	if (socket->epoch != epoch) {
		socket->counted = socket->epoch + 1 == epoch ? (socket->counted & 1) << 1 : 0;
		socket->epoch = epoch;
	}
	if (held && !(socket->counted & 1)) {
		socket->counted |= 1;
		__sync_fetch_and_add(&share->held[0], 1);
	} else if (!held && socket->counted) {
		if (socket->counted & 1)
			__sync_fetch_and_add(&share->held[0], -1);
		if (socket->counted & 2)
			__sync_fetch_and_add(&share->held[1], -1);
		socket->counted = 0;
	}
}

/* What held it back on its path before does so no more: others there may have that at once. */
static __always_inline void pace_move(struct shape_socket *socket, __u32 path)
{
	struct shape_share *before = socket->counted ? pace_share(socket->class) : (void *)0;

	if (before)
		pace_hold(before, socket, 0);
	socket->class = 0;
	*(volatile __u32 *)&socket->path = path;
}

/* The packet's socket, if it is one that can be paced: of TCP, here.  `held`: it has more to send, and sends
 * no faster than it is let. */
static __always_inline struct shape_socket *pace_socket(struct __sk_buff *skb, __u32 path, __u32 *ret_held)
{
	struct bpf_sock *sk = skb->sk;
	struct shape_socket *socket;
	struct tcp_sock *tcp;
	__u32 zero = 0;

	*ret_held = 0;
	if (!sk)
		return (void *)0;
	sk = bpf_sk_fullsock(sk);
	if (!sk) {
		/* SYN+ACK: what it will be, it takes from the listener */
		sk = skb->sk;
		sk = sk ? bpf_get_listener_sock(sk) : sk;
		if (!sk)
			return (void *)0;
		socket = bpf_sk_storage_get(&shape_sockets, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
		if (socket)
			socket->path = path;
		return socket;
	}
	if (sk->protocol != PACE_TCP)
		return (void *)0;
	socket = bpf_sk_storage_get(&shape_sockets, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!socket)
		return (void *)0;
	if (socket->path != path)
		pace_move(socket, path);
	*(volatile __u32 *)&socket->fresh = PACE_FRESH;
	if (skb->gso_segs > 1 && !socket->header)
		socket->header = (skb->wire_len - skb->len) / (skb->gso_segs - 1);
	if (!socket->rate) {
		struct pace_clock *clock = bpf_map_lookup_elem(&pace_clocks, &zero);

		/* sockops sees those that begin: this one began before */
		if (!socket->caught && clock && sk->state == PACE_ESTABLISHED)
			__sync_fetch_and_add(&clock->uncaught, 1);
		return socket;
	}
	tcp = bpf_skc_to_tcp_sock(sk);
	if (tcp) {
		__u64 most = tcp->inet_conn.icsk_inet.sk.sk_max_pacing_rate;

		if (tcp->write_seq - tcp->snd_nxt > skb->len)
			*ret_held = tcp->inet_conn.icsk_inet.sk.sk_pacing_rate >= most - most / 4
			                    ? PACE_HELD
			                    : PACE_EAGER;
	}
	return socket;
}

/* Has the control loop look after a class. */
static __noinline __attribute__((unused)) int pace_begin(__u32 number)
{
	struct shape_share *share = pace_share(number);
	__u32 zero = 0;
	struct pace_clock *clock;

	if (!share || __sync_lock_test_and_set(&share->active, 1))
		return 0;
	bpf_map_push_elem(&shape_arrivals, &number, 0);
	clock = bpf_map_lookup_elem(&pace_clocks, &zero);
	if (clock && !__sync_lock_test_and_set(&clock->running, 1))
		bpf_timer_start(&clock->timer, 0, 0);
	return 0;
}

/* Charges a class, the lowest of its chain.  Functions like this one are verified each for itself. */
__attribute__((noinline)) int pace_charge(__u32 number, struct shape_socket *socket, __u32 held, __u32 bytes)
{
	struct shape_share *share = pace_share(number);

	if (!share)
		return 0;
	if (!*(volatile __u32 *)&share->active)
		pace_begin(number);
	__sync_fetch_and_add(&share->bytes, bytes);
	if (!socket) {
		__sync_fetch_and_add(&share->other_bytes, bytes);
		return 0;
	}
	if (socket->class != number)
		return 0;
	held = held == PACE_HELD || (held == PACE_EAGER && *(volatile __u32 *)&share->over);
	pace_hold(share, socket, held);
	if (held) {
		__sync_fetch_and_add(&share->held_bytes, bytes);
		if (bytes > share->burst)
			share->burst = bytes;
	}
	return 0;
}

/* A packet of this many wire bytes leaves, all of whose classes let it go. */
__attribute__((noinline)) int pace_packet(struct __sk_buff *skb, __u32 number, __u32 bytes)
{
	struct shape_path *path = bpf_map_lookup_elem(&shape_paths, &number);
	__u32 i, place, held = 0;
	struct shape_socket *socket;
	struct shape_class *class;

	if (!path)
		return 0;
	socket = pace_socket(skb, number, &held);
#pragma clang loop unroll(disable)
	for (i = 0; i < SHAPE_PATH_MAX; i++) {
		place = path->class[i];
		class = bpf_map_lookup_elem(&shape_classes, &place);
		if (!place || !class)
			break;
		if (shape_is_paced(class) && !(path->above >> i & 1))
			pace_charge(place, socket, held, bytes);
	}
	return 0;
}

/* A packet was dropped that was no TCP of a local socket. */
static __always_inline void pace_refuse(struct __sk_buff *skb, __u32 number, __u32 bytes)
{
	struct shape_share *share = pace_share(number);
	__u64 bit = 1ULL << (bpf_get_hash_recalc(skb) & 63);

	if (!share)
		return;
	__sync_fetch_and_add(&share->refused, bytes);
	/* of two CPUs one may lose its bit, until its flow's next packet is refused */
	if (!(share->seen[0] & bit))
		share->seen[0] |= bit;
}

#endif
