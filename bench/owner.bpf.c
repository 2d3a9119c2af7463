// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* Programs that do nothing, at the hooks that a connection and a datagram pass: what those cost alone. */
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#define NOTHING(tracepoint)                                                                                  \
	SEC("tp_btf/" #tracepoint) int bench_##tracepoint(void *context)                                     \
	{                                                                                                    \
		return 0;                                                                                    \
	}

NOTHING(inet_sock_set_state)
NOTHING(tcp_destroy_sock)
NOTHING(inet_sk_error_report)
NOTHING(tcp_receive_reset)
NOTHING(tcp_send_reset)
NOTHING(sock_send_length)
NOTHING(sock_recv_length)

SEC("cgroup/sock_create") int bench_sock_create(void *context)
{
	return 1;
}

SEC("cgroup/sock_release") int bench_sock_release(void *context)
{
	return 1;
}

char _license[] SEC("license") = "Dual BSD/GPL";
