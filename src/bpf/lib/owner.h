/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Who: owners of sockets (shared/owner.h says what one is).
 *
 * Programs in process context record (owner_current(), owner_claim()); programs in softirq only read what the
 * socket carries (owner_of()).  The maps are shared by every object that includes this.
 */
#ifndef WEIR_BPF_OWNER_H
#define WEIR_BPF_OWNER_H

#include "bpf/lib/kernel.h"
#include "shared/owner.h"

/* Accepted sockets inherit from their listener (clone), until somebody accepts them. */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC | BPF_F_CLONE);
	__type(key, int);
	__type(value, struct socket_owner);
} socket_owners SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct owner_key);
	__type(value, __u32);
} owner_ids SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, __u32);
	__type(value, struct owner);
} owners SEC(".maps");

/* The owner of a socket: any kind of pointer that bpf_sk_storage_get() takes in the program that asks. */
#define owner_of(sk)                                                                                         \
	({                                                                                                   \
		struct socket_owner *owner_ = bpf_sk_storage_get(&socket_owners, sk, 0, 0);                  \
		owner_ ? owner_->id : OWNER_UNKNOWN;                                                         \
	})

/* The identity behind an id; NULL: none, or long gone. */
static __always_inline const struct owner *owner_get(__u32 id)
{
	return id >= OWNER_FIRST ? bpf_map_lookup_elem(&owners, &id) : (void *)0;
}

#endif
