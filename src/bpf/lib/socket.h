/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * What a socket carries beside its owner (shared/socket.h), for every program that has something to add.
 */
#ifndef WEIR_BPF_SOCKET_H
#define WEIR_BPF_SOCKET_H

#include "bpf/lib/kernel.h"
#include "bpf/lib/owner.h"
#include "shared/socket.h"

/* The life of a socket, by any kind of pointer; NULL: it has none. */
static __always_inline struct socket_life *socket_life_of(const void *sk)
{
	struct socket_owner *entry = socket_find(sk);

	return entry ? &entry->life : (void *)0;
}

/* A TCP segment with a window of 0 and without RST passed tc.  `ours`: this host sent it, so this host's
 * buffer is full. */
#define socket_zero_window(sk, ours)                                                                         \
	do {                                                                                                 \
		struct socket_life *life_ = socket_life_of(sk);                                              \
                                                                                                             \
		if (life_)                                                                                   \
			__sync_fetch_and_add(                                                                \
				(ours) ? &life_->zero_windows_out : &life_->zero_windows_in, 1);             \
	} while (0)

#endif
