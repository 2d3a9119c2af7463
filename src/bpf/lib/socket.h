/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * What a socket carries beside its owner (shared/socket.h), for every program that has something to add.
 */
#ifndef WEIR_BPF_SOCKET_H
#define WEIR_BPF_SOCKET_H

#include "bpf/lib/kernel.h"
#include "shared/socket.h"

/* Not cloned: an accepted socket begins a life of its own. */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct socket_life);
} socket_life SEC(".maps");

/* A TCP segment with a window of 0 and without RST passed tc.  `ours`: this host sent it, so this host's
 * buffer is full.  Any kind of socket pointer that the program may give to bpf_sk_storage_get(). */
#define socket_zero_window(sk, ours)                                                                         \
	do {                                                                                                 \
		struct socket_life *life_ = bpf_sk_storage_get(&socket_life, sk, 0, 0);                      \
		if (life_)                                                                                   \
			__sync_fetch_and_add(                                                                \
				(ours) ? &life_->zero_windows_out : &life_->zero_windows_in, 1);             \
	} while (0)

#endif
