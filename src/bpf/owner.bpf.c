// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * Recording owners: in process context, where sockets are created, used and closed.
 *
 * An accepted socket belongs to whoever uses it first, or closes it unused: no hook that every kernel has
 * tells of the accept itself.  So does a socket that was passed to another process or inherited by a child.
 */
#include <linux/bpf.h>
#include <linux/in.h>

#define OWNER_RECORDS

#include "bpf/lib/live.h"
#include "bpf/lib/owner.h"

/* Where sockets are watched, too, the programs of socket.bpf.c do what those do that ask for creation,
 * release, destruction, send and receive, and these are not loaded: an event that runs one program costs half
 * of one that runs two. */
SEC("cgroup/sock_create") int owner_create(struct bpf_sock *sk)
{
	if (bpf_get_netns_cookie(sk) == netns_cookie)
		owner_claim(sk, bpf_get_current_task_btf());
	return 1;
}

/* Whoever closes a socket that nobody has used since it was accepted has accepted it.  Else the last user
 * stays: it may be some child that closes last.  TCP has things to send behind this, and ends in
 * owner_destroy(). */
SEC("cgroup/sock_release") int owner_release(struct bpf_sock *sk)
{
	if (sk->protocol != IPPROTO_TCP)
		owner_forget(sk);
	else if (owner_of(sk) == OWNER_UNKNOWN && bpf_get_netns_cookie(sk) == netns_cookie)
		owner_claim(sk, bpf_get_current_task_btf());
	return 1;
}

SEC("tp_btf/tcp_destroy_sock") int BPF_PROG(owner_destroy, struct sock *sk)
{
	if (live_here() && netns_is_ours(sk))
		owner_forget(sk);
	return 0;
}

SEC("tp_btf/sock_send_length") int BPF_PROG(owner_sent, struct sock *sk)
{
	owner_use(sk, ctx);
	return 0;
}

SEC("tp_btf/sock_recv_length") int BPF_PROG(owner_received, struct sock *sk)
{
	owner_use(sk, ctx);
	return 0;
}

/* Kernels before 6.3 lack those two tracepoints.  Theirs can be asked where functions begin. */
SEC("fentry/inet_sendmsg") int BPF_PROG(owner_inet_sendmsg, struct socket *socket)
{
	if (socket->sk)
		owner_use(socket->sk, ctx);
	return 0;
}

SEC("fentry/inet6_sendmsg") int BPF_PROG(owner_inet6_sendmsg, struct socket *socket)
{
	if (socket->sk)
		owner_use(socket->sk, ctx);
	return 0;
}

SEC("fentry/inet_recvmsg") int BPF_PROG(owner_inet_recvmsg, struct socket *socket)
{
	if (socket->sk)
		owner_use(socket->sk, ctx);
	return 0;
}

SEC("fentry/inet6_recvmsg") int BPF_PROG(owner_inet6_recvmsg, struct socket *socket)
{
	if (socket->sk)
		owner_use(socket->sk, ctx);
	return 0;
}

/* The process has ended: its last thread. */
SEC("tp_btf/sched_process_exit") int BPF_PROG(owner_exit, struct task_struct *task)
{
	struct owner_key key = {};
	struct owner *record;

	if (!live_here() || BPF_CORE_READ(task, signal, live.counter))
		return 0;
	owner_key_of(task, &key);
	if (!bpf_map_lookup_elem(&owner_ids, &key))
		return 0;
	record = bpf_ringbuf_reserve(&owner_ring, sizeof(*record), 0);
	if (!record) {
		owner_count(unreported);
		return 0;
	}
	record->key = key;
	record->ended = 1;
	record->id = 0;
	bpf_ringbuf_submit(record, 0);
	return 0;
}

/* Sockets from before weir began: whoever has one open.  Of several the first, which has the lowest pid. */
SEC("iter/task_file") int owner_find_open(struct bpf_iter__task_file *context)
{
	struct task_struct *task = context->task;
	struct file *file = context->file;
	struct socket *socket;
	struct sock *sk;

	if (!task || !file)
		return 0;
	socket = bpf_sock_from_file(file);
	if (!socket)
		return 0;
	sk = socket->sk;
	if (!sk || !netns_is_ours(sk))
		return 0;
	if (owner_of(sk) == OWNER_UNKNOWN &&
		(sk->__sk_common.skc_family == OWNER_AF_INET || sk->__sk_common.skc_family == OWNER_AF_INET6))
		owner_claim(sk, task);
	return 0;
}

char _license[] SEC("license") = "Dual BSD/GPL";
