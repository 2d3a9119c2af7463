// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * Capture: writes the packets that an expression let through as pcapng blocks (shared/capture.h).
 *
 * The expression is a program of its own in front, which ends in a tail call to one of these.  Each capture
 * has its own copy of the maps, and a hook of one kind only, so a CPU has one writer at a time.  Every
 * program hands the packet on as if it had not been there.
 */
#include "bpf/lib/home.h"
#include "bpf/lib/kernel.h"

#define PACKET_CONTEXT                          struct __sk_buff
#define packet_load(context, offset, to, bytes) bpf_skb_load_bytes(context, offset, to, bytes)

#include "bpf/lib/seek.h"
#include "shared/capture.h"

#define CAPTURE_NEXT (-1) /* TCX_NEXT and TC_ACT_UNSPEC */

const volatile __u32 capture_snaplen = CAPTURE_SNAPLEN_MAX;
const volatile __u32 capture_fill = 0;         /* a block may begin before this place in a segment */
const volatile __u32 capture_segments_cpu = 0; /* per CPU, a power of two */
const volatile __u32 capture_overwrites = 0;   /* the oldest goes when there is no room */

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__uint(key_size, 4);
	__uint(value_size, 4096);
} capture_segments SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct capture_cpu);
} capture_cpus SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, CAPTURE_INTERFACES);
	__type(key, __u32);
	__type(value, struct capture_interface);
} capture_interfaces SEC(".maps");

/* Whose the connections of late are: looking for the socket of each packet that comes in would cost more than
 * capturing it. */
struct capture_receiver {
	__u64 connection; /* hash; 0: empty */
	__u32 owner;
	__u32 until; /* jiffies */
};

#define CAPTURE_RECEIVERS 1024 /* per CPU, a power of two */
#define CAPTURE_TRUST     25   /* jiffies that an entry holds; a quarter to a tenth of a second */

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, CAPTURE_RECEIVERS);
	__type(key, __u32);
	__type(value, struct capture_receiver);
} capture_receivers SEC(".maps");

/* A reader on another CPU sees stores in the order that the compiler leaves them in (x86). */
#define capture_order() asm volatile("" : : : "memory")

static __always_inline struct capture_segment *capture_segment(__u32 cpu, __u64 number)
{
	__u32 index = cpu * capture_segments_cpu + ((__u32)number & (capture_segments_cpu - 1));

	return bpf_map_lookup_elem(&capture_segments, &index);
}

/* The segment that the next block goes to; NULL: there is no room. */
static __always_inline struct capture_segment *capture_room(struct capture_cpu *state, __u32 cpu)
{
	struct capture_segment *segment = capture_segment(cpu, state->head);

	if (!segment || (__u32)segment->filled < capture_fill)
		return segment;
	if (!capture_overwrites && state->head + 1 - state->tail >= capture_segments_cpu)
		return NULL;
	segment = capture_segment(cpu, state->head + 1);
	if (!segment)
		return NULL;
	segment->filled = 0;
	segment->apart = 0;
	capture_order();
	state->head++;
	return segment;
}

enum capture_hook { CAPTURE_AT_TC, CAPTURE_AT_XDP, CAPTURE_AT_SOCKET };

#define CAPTURE_PIECE  32
#define CAPTURE_PIECES 4

static __always_inline void capture_copy_piece(__u8 *to, const __u8 *from)
{
	for (int i = 0; i < CAPTURE_PIECE; i += 8)
		*(__u64 *)(to + i) = *(const __u64 *)(from + i);
}

/* Copies the packet's first bytes without a call, which would take twice as long; 0, or they are too many or
 * too few, or not in the linear part. */
static __always_inline long capture_copy_linear(struct __sk_buff *skb, __u8 *to, __u32 bytes)
{
	const __u8 *from = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	__u32 last = bytes - CAPTURE_PIECE;

	if (last > CAPTURE_PIECE * (CAPTURE_PIECES - 1))
		return -1;
	for (__u32 i = 0; i < CAPTURE_PIECE * CAPTURE_PIECES; i += CAPTURE_PIECE) {
		if (i >= last)
			break;
		if (from + i + CAPTURE_PIECE > end)
			return -1;
		capture_copy_piece(to + i, from + i);
	}
	/* the last piece ends where the packet does; it may lie over the one before */
	asm volatile("" : "+r"(last));
	if (last > CAPTURE_PIECE * (CAPTURE_PIECES - 1) || from + last + CAPTURE_PIECE > end)
		return -1;
	capture_copy_piece(to + last, from + last);
	return 0;
}

/* Copies from a packet; 0, or it is not as long as that. */
static __always_inline long capture_copy(
	void *context, enum capture_hook hook, __u32 offset, void *to, __u32 bytes)
{
	if (hook == CAPTURE_AT_XDP)
		return bpf_xdp_load_bytes(context, offset, to, bytes);
	return bpf_skb_load_bytes(context, offset, to, bytes);
}

struct capture_packet {
	__u32 ifindex;
	__u32 length; /* as the file tells it */
	__u32 held;   /* so much of it can be copied */
	__u32 tag;    /* beside the packet: TPID and TCI in network byte order; 0: none */
	__u32 flags;  /* CAPTURE_FLAG_* */
	__u32 owner;  /* 0: none */
};

/* A block that is being written. */
struct capture_writer {
	struct capture_segment *segment;
	struct capture_block *block;
	__u8 *data;
	__u32 captured; /* bytes at `data` */
	__u64 filled, now;
};

/* Begins a block of the packet; 0, or there is nothing to do. */
static __always_inline int capture_begin(const struct capture_packet *packet, struct capture_writer *writer)
{
	__u32 cpu = bpf_get_smp_processor_id(), used, last;
	struct capture_cpu *state = bpf_map_lookup_elem(&capture_cpus, &cpu);
	struct capture_interface *interface = NULL;
	struct capture_segment *segment;
	struct capture_block *block;
	__u64 now;

	if (!state)
		return -1;
	segment = capture_room(state, cpu);
	if (!segment || state->ifindex != packet->ifindex) {
		interface = bpf_map_lookup_elem(&capture_interfaces, &packet->ifindex);
		if (!interface)
			return -1;
		if (!segment) {
			__sync_fetch_and_add(&interface->lost, 1);
			return -1;
		}
		state->ifindex = packet->ifindex;
		state->interface = interface->number;
	}
	writer->filled = segment->filled;
	used = writer->filled;
	if (used >= capture_fill)
		return -1;
	now = bpf_ktime_get_ns() + state->clock_ns;
	if (!packet->held)
		return -1;
	/* The place of the last byte: what is one more is not 0, which Linux 6.1 does not learn otherwise. */
	last = packet->held - 1;
	asm volatile("" : "+r"(last)); /* a register of its own, so that the verifier sees its bounds */
	if (last >= capture_snaplen)
		last = capture_snaplen - 1;
	block = (void *)segment->data + used;
	block->type = CAPTURE_BLOCK_PACKET;
	block->interface = state->interface;
	block->time_high = now >> 32;
	block->time_low = now;
	block->captured = last + 1;
	block->length = packet->length;
	writer->segment = segment;
	writer->now = now;
	writer->block = block;
	writer->data = (void *)(block + 1);
	writer->captured = last + 1;
	*(__u32 *)(writer->data + (last & ~3U)) = 0; /* the padding */
	return 0;
}

/* Behind the packet: what is known of it. */
static __always_inline struct capture_option *capture_options(
	const struct capture_writer *writer, const struct capture_packet *packet)
{
	struct capture_option *option = (void *)writer->data + ((writer->captured + 3) & ~3U);

	*option++ = (struct capture_option){CAPTURE_OPTION_FLAGS, 4, packet->flags};
	if (packet->owner)
		*option++ = (struct capture_option){CAPTURE_OPTION_PROCESS, 4, packet->owner};
	return option;
}

static __always_inline void capture_end(const struct capture_writer *writer,
	const struct capture_packet *packet, struct capture_option *option)
{
	__u32 bytes = (void *)(option + 1) - (void *)writer->block;
	struct capture_segment *segment = writer->segment;

	*(__u32 *)option = 0; /* end of options */
	option->value = bytes;
	writer->block->bytes = bytes;
	if (!writer->filled)
		segment->interface = writer->block->interface;
	segment->apart += packet->owner || segment->interface != writer->block->interface;
	segment->last_ns = writer->now;
	capture_order();
	*(volatile __u64 *)&segment->filled = writer->filled + bytes + CAPTURE_ONE_PACKET;
}

static __always_inline void capture_write(
	void *context, enum capture_hook hook, const struct capture_packet *packet)
{
	struct capture_writer writer;
	__u32 rest;

	if (capture_begin(packet, &writer))
		return;
	if (!packet->tag) {
		if ((hook != CAPTURE_AT_TC || capture_copy_linear(context, writer.data, writer.captured)) &&
			capture_copy(context, hook, 0, writer.data, writer.captured))
			return;
	} else {
		if (capture_copy(context, hook, 0, writer.data, 12))
			return;
		*(__u32 *)(writer.data + 12) = packet->tag;
		rest = writer.captured - 17; /* one less, and a register of its own, as in capture_begin() */
		asm volatile("" : "+r"(rest));
		if (rest < capture_snaplen && capture_copy(context, hook, 12, writer.data + 16, rest + 1))
			return;
	}
	capture_end(&writer, packet, capture_options(&writer, packet));
}

static __always_inline int capture_skb(
	struct __sk_buff *skb, enum capture_hook hook, __u32 flags, __u32 owner)
{
	struct capture_packet packet = {
		.ifindex = skb->ifindex,
		.length = skb->len,
		.flags = flags,
		.owner = owner,
	};

	if (skb->vlan_present) {
		packet.tag = (__u16)skb->vlan_proto | (__u32)bpf_htons(skb->vlan_tci) << 16;
		packet.length += 4;
	}
	packet.held = packet.length;
	capture_write(skb, hook, &packet);
	return CAPTURE_NEXT;
}

/* An id of a process, or 0. */
static __always_inline __u32 capture_process(__u32 owner)
{
	owner &= ~OWNER_INHERITED;
	return owner < OWNER_FIRST ? 0 : owner;
}

/* Who receives it?  0: nobody, or not known. */
static __noinline __u32 capture_find_receiver(struct __sk_buff *skb, int ethernet)
{
	struct packet memory = {}, *p = &memory;
	struct capture_receiver *receiver;
	__u32 index, owner, now = bpf_jiffies64();
	__u64 hash;

	if (owner_off)
		return 0;
	asm volatile("" : "+r"(p)); /* in memory, as in watch.bpf.c */
	p->reason = packet_parse(
		skb, (void *)(long)skb->data, (void *)(long)skb->data_end, ethernet, skb->protocol, p);
	if (p->reason != PARSE_OK || !(p->kind & FLOW_KIND_PORTS) || p->kind & FLOW_KIND_FRAGMENT)
		return 0;
	hash = (p->src64[0] ^ p->sport) * 0x9e3779b97f4a7c15ULL;
	hash = (hash ^ hash >> 32 ^ p->src64[1]) * 0x9e3779b97f4a7c15ULL;
	hash = (hash ^ hash >> 32 ^ p->dst64[0] ^ (__u64)p->dport << 48) * 0x9e3779b97f4a7c15ULL;
	hash = (hash ^ hash >> 32 ^ p->dst64[1] ^ p->proto) * 0x9e3779b97f4a7c15ULL | 1;
	index = hash >> 32 & (CAPTURE_RECEIVERS - 1);
	receiver = bpf_map_lookup_elem(&capture_receivers, &index);
	if (!receiver)
		return 0;
	if (receiver->connection == hash && (__s32)(receiver->until - now) > 0)
		return receiver->owner;
	owner = seek_receiver(skb, p);
	/* whoever will accept a connection is known soon */
	if (owner & OWNER_INHERITED)
		return capture_process(owner);
	owner = capture_process(owner);
	*receiver = (struct capture_receiver){hash, owner, now + CAPTURE_TRUST};
	return owner;
}

SEC("tc") int capture_tc_in(struct __sk_buff *skb)
{
	return capture_skb(skb, CAPTURE_AT_TC, CAPTURE_FLAG_IN, capture_find_receiver(skb, 1));
}

SEC("tc") int capture_tc_in_raw(struct __sk_buff *skb)
{
	return capture_skb(skb, CAPTURE_AT_TC, CAPTURE_FLAG_IN, capture_find_receiver(skb, 0));
}

SEC("tc") int capture_tc_out(struct __sk_buff *skb)
{
	struct bpf_sock *sk = skb->sk;

	return capture_skb(
		skb, CAPTURE_AT_TC, CAPTURE_FLAG_OUT, sk && !owner_off ? capture_process(owner_of(sk)) : 0);
}

/* The socket is only a hook: nothing goes through it. */
SEC("socket") int capture_socket(struct __sk_buff *skb)
{
	capture_skb(skb, CAPTURE_AT_SOCKET,
		skb->pkt_type == 4 /* PACKET_OUTGOING */ ? CAPTURE_FLAG_OUT : CAPTURE_FLAG_IN, 0);
	return 0;
}

SEC("xdp.frags") int capture_xdp(struct xdp_md *xdp)
{
	struct capture_packet packet = {
		.ifindex = xdp->ingress_ifindex,
		.length = bpf_xdp_get_buff_len(xdp),
		.flags = CAPTURE_FLAG_IN,
	};

	packet.held = packet.length;
	capture_write(xdp, CAPTURE_AT_XDP, &packet);
	return XDP_PASS;
}

/* -- dropped packets -- */

const volatile __u32 has_socket_argument = 0; /* of the tracepoint: the socket it was for; since 6.11 */

#define CAPTURE_SOCKET_ARGUMENT 3

/* LINKTYPE_LINUX_SLL2: what may have lost its link header still says where it was. */
static __always_inline void capture_cook(struct sk_buff *skb, int ifindex, __u32 start, int out, __u8 *data)
{
	struct capture_cooked cooked = {
		.protocol = skb->protocol,
		.ifindex = bpf_htonl(ifindex),
		.type = bpf_htons(CAPTURE_COOKED_NONE),
		.direction = out ? CAPTURE_COOKED_OUT : 0,
	};

	if (skb->mac_header != SKB_HEADER_UNSET && start - skb->mac_header >= 14) {
		cooked.type = bpf_htons(CAPTURE_COOKED_ETHERNET);
		cooked.address_bytes = 6;
		bpf_probe_read_kernel(cooked.address, 6, skb->head + skb->mac_header + 6);
	}
	__builtin_memcpy(data, &cooked, sizeof(cooked));
}

SEC("tp_btf/kfree_skb") int capture_drop(__u64 *context)
{
	struct sk_buff *skb = (void *)context[0];
	struct sock *sk = skb->sk, *rx_sk = NULL;
	struct net_device *dev = skb->dev;
	struct capture_packet packet = {};
	struct capture_drop_option *drop;
	struct capture_writer writer;
	__u32 start = skb->network_header, held, reason = context[2];
	int out;

	if (reason == bpf_core_enum_value(enum skb_drop_reason, SKB_NOT_DROPPED_YET) ||
		(bpf_core_enum_value_exists(enum skb_drop_reason, SKB_CONSUMED) &&
			reason == bpf_core_enum_value(enum skb_drop_reason, SKB_CONSUMED)))
		return 0;
	if (has_socket_argument)
		rx_sk = (void *)context[CAPTURE_SOCKET_ARGUMENT];
	if ((rx_sk ? home_of_socket(rx_sk) : home_of(skb, sk)) != HOME_HERE)
		return 0;
	if (dev && dev->nd_net.net->net_cookie == netns_cookie)
		packet.ifindex = dev->ifindex;
	out = !rx_sk && skb_goes_out(skb, packet.ifindex);
	if (!packet.ifindex)
		packet.ifindex = skb->skb_iif;
	packet.flags = out ? CAPTURE_FLAG_OUT : CAPTURE_FLAG_IN;
	if (!owner_off && rx_sk)
		packet.owner = capture_process(owner_of(rx_sk));
	else if (!owner_off && sk && home_of_socket(sk) == HOME_HERE)
		packet.owner = capture_process(owner_of(sk));
	if (!start)
		start = (__u32)(skb->data - skb->head);
	/* what lies outside the linear part is not copied */
	held = skb->tail > start ? skb->tail - start : 0;
	packet.held = held + sizeof(struct capture_cooked);
	packet.length = skb->len + (__u32)(skb->data - skb->head) - start + sizeof(struct capture_cooked);
	if (packet.length < packet.held)
		packet.held = packet.length;
	if (capture_begin(&packet, &writer))
		return 0;
	held = writer.captured - sizeof(struct capture_cooked);
	if (writer.captured < sizeof(struct capture_cooked) || held > capture_snaplen)
		return 0;
	capture_cook(skb, packet.ifindex, start, out, writer.data);
	if (bpf_probe_read_kernel(writer.data + sizeof(struct capture_cooked), held, skb->head + start))
		return 0;
	drop = (void *)capture_options(&writer, &packet);
	*drop = (struct capture_drop_option){.code = CAPTURE_OPTION_DROP,
		.bytes = 12,
		.reason = reason,
		.location_high = context[1] >> 32,
		.location_low = context[1]};
	capture_end(&writer, &packet, (void *)(drop + 1));
	return 0;
}

char _license[] SEC("license") = "Dual BSD/GPL";
