// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * Drops: what the tracepoint kfree_skb tells, for packets of our network namespace.
 *
 * Count first, exactly; then, if the rate allows, read the packet's headers and write a record.  A tracing
 * program cannot load from a packet as one at a hook can, so the headers are copied to a buffer, where the
 * same parser reads them.
 */
#include "shared/drop.h"
#include "bpf/lib/home.h"
#include "bpf/lib/kernel.h"
#include "bpf/lib/live.h"
#include "bpf/lib/note.h"
#include "bpf/lib/owner.h"

#define DROP_HEADERS_MAX 256 /* bytes of the packet that are looked at */

/* The buffer: room behind the headers, so that the verifier need not follow every length. */
struct drop_buffer {
	__u32 length;
	__u32 reserved;
	__u8 data[2 * DROP_HEADERS_MAX];
};

static __always_inline int drop_load(const struct drop_buffer *buffer, __u32 offset, void *to, __u32 bytes)
{
	if (!buffer || offset >= DROP_HEADERS_MAX || offset + bytes > buffer->length)
		return -1;
	__builtin_memcpy(to, buffer->data + offset, bytes);
	return 0;
}

#define PACKET_CONTEXT                          struct drop_buffer
#define packet_load(context, offset, to, bytes) drop_load(context, offset, to, bytes)
#define PACKET_REACH                            (DROP_HEADERS_MAX - 1)

#include "bpf/lib/packet.h"

#define SKB_GSO_TCPV4   (1 << 0)
#define SKB_GSO_TCPV6   (1 << 4)
#define VLAN_ID_MASK    0x0fff
#define SOCKET_ARGUMENT 3 /* of the tracepoint: the socket it was for */

const volatile __u32 has_socket_argument = 0; /* kernels since 6.11; set by the engine */

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(max_entries, DROP_PLACES_MAX);
	__type(key, struct drop_key);
	__type(value, struct drop_count);
} drop_counts SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct drop_stats);
} drop_stats SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct drop_settings);
} drop_settings SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct drop_window);
} drop_window SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct drop_buffer);
} drop_buffer SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, DROP_RING_BYTES);
} drop_ring SEC(".maps");

/* -- counting -- */

struct drop_size {
	__u32 packets, bytes;
};

/* Offset of the first header that is there, from skb->head. */
static __always_inline __u32 drop_start(struct sk_buff *skb)
{
	return skb->mac_header != SKB_HEADER_UNSET ? skb->mac_header
	       : skb->network_header               ? skb->network_header
	                                           : (__u32)(skb->data - skb->head);
}

/* In wire packets and their bytes, as at the hooks (watch.bpf.c); `single`: it is known to be one packet. */
static __always_inline struct drop_size drop_size(struct sk_buff *skb, int single)
{
	struct skb_shared_info *shared = (void *)(skb->head + skb->end);
	__u32 start = drop_start(skb), headers, payload;
	struct drop_size size = {.packets = 1, .bytes = skb->len + (__u32)(skb->data - skb->head) - start};
	__u16 segment = single ? 0 : BPF_CORE_READ(shared, gso_size);
	__u8 offset = 5 << 4;

	if (!segment)
		return size;
	headers = skb->transport_header - start + sizeof(__u64); /* UDP's */
	if (BPF_CORE_READ(shared, gso_type) & (SKB_GSO_TCPV4 | SKB_GSO_TCPV6)) {
		bpf_probe_read_kernel(&offset, sizeof(offset),
			skb->head + skb->transport_header +
				__builtin_offsetof(struct packet_tcp, data_offset));
		headers = skb->transport_header - start + (offset >> 4) * 4;
	}
	if (skb->transport_header == SKB_HEADER_UNSET || headers >= size.bytes)
		return size;
	payload = size.bytes - headers;
	size.packets = (payload + segment - 1) / segment;
	size.bytes += (size.packets - 1) * headers;
	return size;
}

/* Which of those that tc drops is it?  DROP_TC_COUNT: none. */
static __always_inline enum drop_tc drop_tc(__u32 reason)
{
	if (reason == bpf_core_enum_value(enum skb_drop_reason, SKB_DROP_REASON_TC_INGRESS))
		return DROP_TC_INGRESS;
	if (reason == bpf_core_enum_value(enum skb_drop_reason, SKB_DROP_REASON_TC_EGRESS))
		return DROP_TC_EGRESS;
	return DROP_TC_COUNT;
}

static __always_inline struct drop_count *drop_entry(
	const struct drop_key *key, struct drop_stats *stats, enum drop_tc tc)
{
	struct drop_count *count, empty = {};
	struct drop_at_tc *place;

	if (tc != DROP_TC_COUNT) {
		place = &stats->tc[tc == DROP_TC_EGRESS];
		if (!place->key.location)
			place->key = *key;
		if (place->key.location == key->location)
			return &place->count;
	}
	count = bpf_map_lookup_elem(&drop_counts, key);
	if (count)
		return count;
	bpf_map_update_elem(&drop_counts, key, &empty, BPF_NOEXIST);
	return bpf_map_lookup_elem(&drop_counts, key);
}

/* -- recording -- */

/* May this drop be recorded?  A flood of one reason leaves the reserve to all others. */
static __always_inline int drop_allowed(const struct drop_settings *settings, struct drop_count *count)
{
	__u32 zero = 0;
	struct drop_window *window = bpf_map_lookup_elem(&drop_window, &zero);
	__u64 end;

	if (!window || !settings->window_ticks)
		return 0;
	end = window->end;
	if (count->last >= end || count->last + settings->window_ticks < end) {
		window->end = end = (count->last / settings->window_ticks + 1) * settings->window_ticks;
		window->used = 0;
	}
	if (window->used >= settings->allowance ||
		(window->used + settings->reserve >= settings->allowance && count->window == end))
		return 0;
	__sync_fetch_and_add(&window->used, 1);
	count->window = end;
	return 1;
}

/* Copies the headers from the network layer on. */
static __always_inline struct drop_buffer *drop_headers(struct sk_buff *skb)
{
	__u32 zero = 0, start = skb->network_header, length;
	struct drop_buffer *buffer = bpf_map_lookup_elem(&drop_buffer, &zero);

	if (!buffer)
		return buffer;
	if (!start)
		start = (__u32)(skb->data - skb->head);
	length = skb->tail - start;
	if (skb->tail < start)
		length = 0;
	if (length > DROP_HEADERS_MAX)
		length = DROP_HEADERS_MAX;
	buffer->length = length;
	if (bpf_probe_read_kernel(buffer->data, length, skb->head + start))
		buffer->length = 0;
	return buffer;
}

static __always_inline __be16 drop_protocol(struct sk_buff *skb, const struct drop_buffer *buffer)
{
	if (skb->protocol || !buffer->length)
		return skb->protocol;
	return buffer->data[0] >> 4 == 4   ? bpf_htons(PACKET_ETH_IPV4)
	       : buffer->data[0] >> 4 == 6 ? bpf_htons(PACKET_ETH_IPV6)
	                                   : 0;
}

/* Whose socket; a full one of no process is one of the kernel's own, unless its process has closed it: its
 * flow still says whose it was. */
#define drop_owner(socket)                                                                                   \
	({                                                                                                   \
		__u32 known_ = owner_of(socket);                                                             \
		__u8 state_ = (socket)->__sk_common.skc_state;                                               \
                                                                                                             \
		known_ ? known_                                                                              \
		: state_ == BPF_TCP_TIME_WAIT || state_ == BPF_TCP_NEW_SYN_RECV || !(socket)->sk_socket      \
			? OWNER_UNKNOWN                                                                      \
			: OWNER_KERNEL;                                                                      \
	})

/* DROP_BY_RULE if it is the drop that was noted, and of how many packets; DROP_AT_XDP: there.  A driver that
 * has made an skb of the frame (veth) drops that, its data beginning where the program at XDP has seen the
 * frame begin. */
static __always_inline __u8 drop_noted(
	struct sk_buff *skb, enum drop_tc tc, __u32 *ret_rule, __u32 *ret_packets)
{
	if (tc != DROP_TC_COUNT)
		return note_take(0, ret_rule, ret_packets) ? DROP_BY_RULE : 0;
	if (skb->skb_iif || skb->mac_header == SKB_HEADER_UNSET)
		return 0;
	return note_take((__u64)skb->head + skb->mac_header, ret_rule, ret_packets)
	               ? DROP_BY_RULE | DROP_AT_XDP
	               : 0;
}

/* Verified apart, not anew behind each way that leads there: that took six times as long. */
packet_function int drop_parse(struct drop_buffer *buffer, __u16 protocol, struct packet *p)
{
	if (!buffer || !p || buffer->length > DROP_HEADERS_MAX)
		return 0;
	packet_parse(buffer, buffer->data, buffer->data + buffer->length, 0, protocol, p);
	return 0;
}

/* The interface that the packet is at, if it is one of ours. */
static __always_inline __u32 drop_interface(struct sk_buff *skb)
{
	struct net_device *dev = skb->dev;

	return dev && dev->nd_net.net->net_cookie == netns_cookie ? dev->ifindex : 0;
}

static __always_inline void drop_record(struct sk_buff *skb, struct sock *sk, struct sock *rx_sk,
	const struct drop_key *key, struct drop_size size, struct drop_stats *stats, __u32 ifindex,
	__u32 rule, __u8 mark)
{
	struct drop_buffer *buffer = drop_headers(skb);
	struct drop_record *record;
	struct packet packet = {}, *p = &packet;
	int i;

	record = buffer ? bpf_ringbuf_reserve(&drop_ring, sizeof(*record), 0) : (void *)0;
	if (!record) {
		stats->lost++;
		return;
	}
	stats->recorded++;
	__builtin_memset(record, 0, sizeof(*record));
	record->time_ns = bpf_ktime_get_ns();
	record->location = key->location;
	record->reason = key->reason;
	record->packets = size.packets;
	record->bytes = size.bytes;
	record->protocol = drop_protocol(skb, buffer);
	drop_parse(buffer, record->protocol, p);
	for (i = 0; i < 4; i++) {
		record->src[i] = p->src[i];
		record->dst[i] = p->dst[i];
	}
	record->sport = p->sport;
	record->dport = p->dport;
	record->proto = p->proto;
	record->kind = p->kind;
	record->tcp_flags = p->tcp_flags;
	record->vlan = p->vlan;
	if (skb_is_tagged(skb)) {
		record->vlan = skb->vlan_tci & VLAN_ID_MASK;
		record->kind |= FLOW_KIND_TAGGED;
	}
	record->ifindex = ifindex;
	if (!rx_sk && !(mark & DROP_AT_XDP) && skb_goes_out(skb, ifindex)) {
		record->marks |= DROP_OUT;
		record->kind |= FLOW_KIND_OUT;
	}
	if (!ifindex)
		record->ifindex = skb->skb_iif;
	if (rx_sk)
		record->owner = drop_owner(rx_sk);
	else if (sk && home_of_socket(sk) == HOME_HERE)
		record->owner = drop_owner(sk);
	else if (skb->skb_iif && record->marks & DROP_OUT)
		record->owner = OWNER_FORWARDED;
	record->marks |= mark;
	record->rule = rule;
	bpf_ringbuf_submit(record, 0);
}

SEC("tp_btf/kfree_skb") int drop_kfree_skb(__u64 *context)
{
	struct sk_buff *skb = (void *)context[0];
	struct sock *rx_sk = (void *)0, *sk = skb->sk;
	struct drop_key key = {.location = context[1], .reason = context[2]};
	struct drop_settings *settings;
	struct drop_stats *stats;
	struct drop_count *count;
	struct drop_size size;
	enum drop_tc tc;
	enum home home;
	__u32 zero = 0, rule = 0, packets = 0, ifindex;
	__u8 mark;

	/* most are no drops: that comes first */
	if (key.reason == bpf_core_enum_value(enum skb_drop_reason, SKB_NOT_DROPPED_YET))
		return 0;
	if (bpf_core_enum_value_exists(enum skb_drop_reason, SKB_CONSUMED) &&
		key.reason == bpf_core_enum_value(enum skb_drop_reason, SKB_CONSUMED))
		return 0;
	if (!live_here())
		return 0;
	settings = bpf_map_lookup_elem(&drop_settings, &zero);
	stats = bpf_map_lookup_elem(&drop_stats, &zero);
	if (!settings || !stats || !settings->watch)
		return 0;
	if (has_socket_argument)
		rx_sk = (void *)context[SOCKET_ARGUMENT];
	home = rx_sk ? home_of_socket(rx_sk) : home_of(skb, sk);
	if (home != HOME_HERE) {
		stats->unassigned += home == HOME_UNASSIGNED;
		return 0;
	}

	/* Here, not where it is used: the kernel searches all its types for each way on which its verifier
	 * meets such a pointer, which takes as long as a thousand instructions. */
	ifindex = drop_interface(skb);
	tc = drop_tc(key.reason);
	mark = drop_noted(skb, tc, &rule, &packets);
	size = drop_size(skb, tc != DROP_TC_COUNT && packets == 1);
	count = drop_entry(&key, stats, tc);
	if (!count)
		count = &stats->other;
	count->packets += size.packets;
	count->bytes += size.bytes;
	count->last = bpf_jiffies64();
	stats->drops++;
	if (drop_allowed(settings, count))
		drop_record(skb, sk, rx_sk, &key, size, stats, ifindex, rule, mark);
	else
		stats->unrecorded++;
	return 0;
}

char _license[] SEC("license") = "Dual BSD/GPL";
