/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * The kernel's structs, as far as weir's programs look into them (docs/adr/0003).
 *
 * Only the fields that are read; where they are and how wide is found out when a program is loaded, from the
 * running kernel's BTF (CO-RE).  A field that a kernel may lack, or calls otherwise, is asked for with
 * bpf_core_field_exists().
 */
#ifndef WEIR_BPF_KERNEL_H
#define WEIR_BPF_KERNEL_H

#include <linux/bpf.h>

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

typedef struct {
	int counter;
} atomic_t;

typedef struct {
	__s64 counter;
} atomic64_t;

struct ns_common {
	unsigned int inum;
};

struct fib6_info;

struct net {
	struct ns_common ns;
	__u64 net_cookie;
	struct {
		struct fib6_info *fib6_null_entry; /* what a table that has no route gives */
	} ipv6;
};

typedef struct {
	struct net *net;
} possible_net_t;

/* include/net/sock.h */
struct sock_common {
	union {
		struct {
			__be32 skc_daddr;
			__be32 skc_rcv_saddr;
		};
	};
	union {
		struct {
			__be16 skc_dport;
			__u16 skc_num; /* local port, host byte order */
		};
	};
	unsigned short skc_family;
	volatile unsigned char skc_state;
	int skc_bound_dev_if;
	unsigned long skc_flags;
	possible_net_t skc_net;
	atomic64_t skc_cookie; /* 0: nobody has asked for it */
	struct {
		union {
			__be32 u6_addr32[4];
		} in6_u;
	} skc_v6_daddr, skc_v6_rcv_saddr;
};

struct sock {
	struct sock_common __sk_common;
	__u16 sk_type;
	__u16 sk_protocol;
	int sk_err, sk_err_soft;
	__u32 sk_ack_backlog, sk_max_ack_backlog;
	atomic_t sk_drops;
	unsigned long sk_pacing_rate, sk_max_pacing_rate; /* payload bytes a second; ~0: not paced */
	struct {
		atomic_t rmem_alloc; /* bytes in the receive queue */
	} sk_backlog;
	struct socket *sk_socket; /* NULL: not accepted yet, or closed and not yet over */
};

/* since 6.18 the drops of UDP are counted apart, in one of two places */
struct numa_drop_counters {
	atomic_t drops0, drops1;
};

struct sock___numa {
	struct numa_drop_counters *sk_drop_counters;
};

#define SOCK_DONE 1 /* bit of skc_flags: the other end's FIN was received */

/* include/net/inet_sock.h */
struct inet_sock {
	struct sock sk;
	__be16 inet_sport; /* of a closed socket, too */
};

struct inet_connection_sock {
	struct inet_sock icsk_inet;
	__u8 icsk_ca_state : 5;
};

struct minmax_sample {
	__u32 t, v;
};

struct minmax {
	struct minmax_sample s[3];
};

/* include/linux/tcp.h */
struct tcp_sock {
	struct inet_connection_sock inet_conn;
	__u16 tcp_header_len;
	__u32 segs_in, segs_out, data_segs_in, data_segs_out, write_seq, snd_nxt;
	__u64 bytes_received, bytes_sent, bytes_retrans;
	__u32 total_retrans, rcv_ooopack;
	__u64 tcp_clock_cache; /* CLOCK_MONOTONIC, ns, of the last packet or timer */
	__u32 srtt_us;         /* eighths of a microsecond */
	struct minmax rtt_min;
	__u32 rate_delivered, rate_interval_us, mss_cache, snd_cwnd, snd_wnd, packets_out;
	__u8 chrono_type : 2;
	__u32 chrono_start, chrono_stat[3];
};

struct udp_sock {
	struct inet_sock inet;
};

struct socket {
	struct sock *sk;
};

/* include/linux/netdevice.h */
struct net_device {
	int ifindex;
	possible_net_t nd_net;
};

struct napi_struct {
	struct net_device *dev;
};

struct netdev_queue {
	struct net_device *dev;
};

struct Qdisc {
	struct netdev_queue *dev_queue;
};

/* include/net/neighbour.h */
struct neigh_table {
	int family;
};

struct neighbour {
	struct neigh_table *tbl;
	__u8 nud_state;
	struct net_device *dev;
	__u8 primary_key[0];
};

/* include/net/flow.h, include/net/ip6_fib.h */
struct flowi4 {
	__be32 saddr, daddr;
};

struct flowi6 {
	struct {
		union {
			__be32 u6_addr32[4];
		} in6_u;
	} daddr, saddr;
};

struct fib6_result {
	struct fib6_info *f6i;
	__u32 fib6_flags;
};

struct fib6_table {
	__u32 tb6_id;
};

/* include/net/dst.h */
struct dst_entry {
	struct net_device *dev;
};

/* include/linux/skbuff.h; offsets count from `head` (NET_SKBUFF_DATA_USES_OFFSET) */
struct sk_buff {
	struct net_device *dev; /* in some queues something else stands here: dev_scratch, rbnode */
	struct sock *sk;
	unsigned long _skb_refdst;
	unsigned int len;
	int skb_iif; /* interface it came in through; 0: made here, or not received yet */
	__be16 vlan_proto;
	__u16 vlan_tci;
	__be16 protocol;
	__u16 transport_header, network_header, mac_header;
	unsigned int tail, end;
	unsigned char *head, *data;
};

struct sk_buff___control {
	char cb[48];
};

/* include/net/tcp.h: in TCP's queues, the control block */
struct tcp_skb_cb {
	__u16 tcp_gso_segs;
};

/* until 6.1 a bit says whether vlan_proto and vlan_tci mean anything; later a vlan_proto of 0 does */
struct sk_buff___bit {
	__u8 vlan_present : 1;
};

struct skb_shared_info {
	unsigned short gso_size, gso_segs;
	unsigned int gso_type;
};

/* include/net/dropreason-core.h; the numbers differ from kernel to kernel */
enum skb_drop_reason {
	SKB_NOT_DROPPED_YET,
	SKB_CONSUMED,
	SKB_DROP_REASON_TC_INGRESS,
	SKB_DROP_REASON_TC_EGRESS,
};

/* include/linux/sched.h */
struct kernfs_node {
	struct kernfs_node *parent;
	const char *name;
	__u64 id;
};

/* since 6.15 the parent is under RCU and called otherwise */
struct kernfs_node___rcu {
	struct kernfs_node *__parent;
};

struct cgroup {
	struct kernfs_node *kn;
	int level;
};

struct css_set {
	struct cgroup *dfl_cgrp;
};

struct qstr {
	__u32 len;
	const unsigned char *name;
};

struct dentry {
	struct dentry *d_parent;
	struct qstr d_name;
};

struct vfsmount {
	struct dentry *mnt_root;
};

struct mount {
	struct mount *mnt_parent;
	struct dentry *mnt_mountpoint;
	struct vfsmount mnt;
};

struct path {
	struct vfsmount *mnt;
	struct dentry *dentry;
};

struct file {
	struct path f_path;
	void *private_data; /* of a socket: its struct socket */
};

struct fdtable {
	struct file **fd;
};

struct files_struct {
	struct fdtable *fdt;
};

struct nsproxy {
	struct net *net_ns;
};

struct mm_struct {
	struct file *exe_file;
};

typedef struct {
	__u32 val;
} kuid_t;

typedef struct {
	__u32 val;
} kgid_t;

struct cred {
	kuid_t euid;
	kgid_t egid;
};

struct signal_struct {
	atomic_t live; /* threads */
};

struct task_struct {
	void *stack; /* NULL: it has ended */
	struct signal_struct *signal;
	int pid, tgid;
	unsigned int flags;
	__u64 start_boottime;
	__u64 self_exec_id;
	struct task_struct *group_leader, *real_parent;
	const struct cred *cred;
	struct css_set *cgroups;
	struct mm_struct *mm;
	struct files_struct *files;
	struct nsproxy *nsproxy;
	char comm[16];
};

struct bpf_iter_meta {
	struct seq_file *seq;
};

struct bpf_iter__task {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
};

struct bpf_iter__tcp {
	struct bpf_iter_meta *meta;
	struct sock_common *sk_common;
};

struct bpf_iter__udp {
	struct bpf_iter_meta *meta;
	struct udp_sock *udp_sk;
};

struct bpf_iter__task_file {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
	__u32 fd;
	struct file *file;
};

/* arch: of the system call that is returning, number and first argument */
struct pt_regs___x86 {
	unsigned long orig_ax, di;
};

struct pt_regs___arm64 {
	__u64 orig_x0;
	int syscallno;
};

#pragma clang attribute pop

#endif
