// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * The program at XDP: drops what no look at more than the headers is needed for, before the kernel has made a
 * packet of it.
 *
 * The policies here (`policies_xdp`, shared/policy.h) are the first rules of the policies in tc, as far as
 * XDP can decide: drop, and limit.  Where another rule comes first for a packet, that says "defer"; and all
 * that is not dropped goes on to tc, which judges it by the whole policy.  So this program is never needed
 * for what is right, only for what is fast.  Limits alone, since they count, are judged either here or there
 * (bpf/lib/limit.h).
 *
 * What it does not drop goes on in the programs of services, forwarding and steering, where there are some
 * (bpf/lib/chain.h).  So these come behind the rules that XDP decides, and before all others.
 *
 * Most of what is dropped here comes from a source that stands in a set.  So sets are looked at first, with
 * nothing but the source read.
 */
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#define PACKET_CONTEXT                          struct xdp_md
#define packet_load(context, offset, to, bytes) bpf_xdp_load_bytes(context, offset, to, bytes)

#include "bpf/lib/chain.h"
#include "bpf/lib/connection.h"
#include "bpf/lib/decide.h"
#include "bpf/lib/facts_sets.h"
#include "bpf/lib/frame.h"
#include "bpf/lib/limit.h"
#include "bpf/lib/note.h"
#include "bpf/lib/packet.h"
#include "bpf/lib/policy.h"
#include "bpf/lib/set.h"
#include "bpf/lib/tell.h"
#include "bpf/lib/tenant.h"
#include "bpf/lib/trie.h"
#include "shared/owner.h"
#include "shared/shield.h"

#define SHIELD_RULES_MAX 64 /* that fit one packet and do not decide: limits */

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, SHIELD_PLACES);
	__type(key, __u32);
	__type(value, struct shield_ways);
} shield_ways SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct shield_kept);
} shield_kept SEC(".maps");

/* One packet.  In a map: for the room, and since the verifier does not follow what is in there. */
struct shield_work {
	struct packet packet;
	struct policy_facts facts;
	struct policy_cursor cursor;
	struct connection_key key;
	__u32 bytes;  /* of the packet */
	__u32 now;    /* tick */
	__u32 judged; /* limits */
	__u32 split;  /* there is more of it than stands here */
	__u32 drop;
	__u32 rule; /* id of the one that drops it … */
	__u32 over; /* … since it is over its limit */
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct shield_work);
} shield_works SEC(".maps");

struct shield {
	struct xdp_md *context;
	const struct policy_now *in_force;
	struct shield_work *work;
	void *policy;
};

/* -- by the source's sets alone -- */

/* The combination of sets that the source is in; 0: none, or there is no such address. */
packet_inline __u32 shield_source(void *data, void *end, __u32 place)
{
	__be16 ethertype = 0;
	__u32 offset = packet_network(data, end, &ethertype);

	if (!offset)
		return 0;
	if (ethertype == bpf_htons(PACKET_ETH_IPV4)) {
		struct packet_ip4 *ip = data + offset;

		if ((void *)(ip + 1) > end || ip->version_ihl >> 4 != 4)
			return 0;
		return set_find4(place, bpf_ntohl(ip->src));
	}
	if (ethertype == bpf_htons(PACKET_ETH_IPV6)) {
		struct packet_ip6 *ip = data + offset;

		if ((void *)(ip + 1) > end || *(__u8 *)ip >> 4 != 6)
			return 0;
		return set_find6(place, bpf_be64_to_cpu(ip->src[0]), bpf_be64_to_cpu(ip->src[1]));
	}
	return 0;
}

/* Reads the whole packet. */
packet_inline struct shield_work *shield_read(struct xdp_md *context)
{
	struct shield_work *work;
	__u32 zero = 0;

	work = bpf_map_lookup_elem(&shield_works, &zero);
	if (work)
		frame_read(context, &work->packet);
	return work;
}

/* -- connections that go on -- */

/* May this packet be of a connection that was there before? */
static __noinline int shield_may_belong(struct xdp_md *context, __u32 known)
{
	struct shield_work *work = shield_read(context);
	const struct packet *p;
	__u32 zero = 0;

	if (!work || !work->packet.family)
		return 0;
	p = &work->packet;
	if (known) {
		const struct shield_kept *kept = bpf_map_lookup_elem(&shield_kept, &zero);
		__u32 bit = shield_kept_bit(p->src);

		if (kept && !(kept->word[bit >> 6] >> (bit & 63) & 1))
			return 0;
	}
	if (p->fragment == PACKET_FRAGMENT_LATER || p->reason != PARSE_OK ||
		(p->kind & FLOW_KIND_ICMP && !packet_is_echo(p->proto, bpf_ntohs(p->dport) >> 8)))
		return 1;
	__builtin_memset(&work->key, 0, sizeof(work->key));
	connection_key_of(p, &work->key);
	return bpf_map_lookup_elem(&connections, &work->key) != NULL;
}

/* Connections that were there before a change go on against the rules, and which those are, tc knows.  So
 * as long as there may be some, what may be of one is left to tc, which drops it if need be. */
packet_inline int shield_drops(struct xdp_md *context, const struct policy_now *in_force, __u32 now)
{
	int lapsed = decide_lapsed(in_force, now);

	if (__builtin_expect(in_force->kept == POLICY_KEPT_NONE && !lapsed, 1))
		return 1;
	return !shield_may_belong(context, in_force->kept == POLICY_KEPT_KNOWN && !lapsed);
}

/* -- what is told of what is dropped -- */

/* What shield_read() has read. */
static __noinline int shield_told(
	struct xdp_md *context, struct shield_work *work, __u32 rule, __u32 over, __u32 policy)
{
	struct policy_log *record = bpf_ringbuf_reserve(&rule_log, sizeof(*record), 0);
	__u32 bytes;

	if (!record)
		return 0;
	record->time_ns = bpf_ktime_get_ns();
	record->rule = rule;
	record->owner = OWNER_UNKNOWN;
	record->ifindex = context->ingress_ifindex;
	record->length = bpf_xdp_get_buff_len(context);
	record->action = POLICY_DROP;
	record->hook = 0;
	record->out = 0;
	record->state = POLICY_STATE_NONE;
	record->policy = policy;
	record->over = over;
	tell_packet(record, &work->packet);
	bytes = tell_length(record->length - work->packet.l3_offset);
	if (bpf_xdp_load_bytes(context, work->packet.l3_offset, record->bytes, bytes))
		bytes = 0;
	record->captured = bytes;
	bpf_ringbuf_submit(record, 0);
	return 0;
}

/* For the record of the kernel's drop, where the driver has one (bpf/drop.bpf.c). */
packet_inline void shield_note(
	struct xdp_md *context, const struct policy_now *in_force, __u32 rule, __u32 now)
{
	if (in_force->noted)
		note_write((__u64)(void *)(long)context->data, rule, 1, now);
}

static __noinline int shield_read_and_tell(struct xdp_md *context, __u32 rule, __u32 now)
{
	struct shield_work *work = shield_read(context);

	decide_tell_take(now);
	return work ? shield_told(context, work, rule, 0, POLICY_HOST) : 0;
}

/* Of a packet that was dropped for its source's sets, and has not been read. */
packet_inline void shield_tell(
	struct xdp_md *context, const struct policy_now *in_force, __u32 rule, __u32 now)
{
	if (decide_tell_due(in_force, now))
		shield_read_and_tell(context, rule, now);
	shield_note(context, in_force, rule, now);
}

/* -- by the rules -- */

packet_inline int shield_rule_drops(struct shield *shield, const struct policy_rule *rule)
{
	struct shield_work *work = shield->work;
	int verdict;

	decide_count(rule->counter, 1, work->bytes, work->now);
	work->rule = rule->id;
	work->over = rule->action == POLICY_LIMIT;
	if (rule->action == POLICY_DROP)
		return 1;
	work->judged++;
	verdict = limit_judge(rule->limit, &work->facts, 1, work->bytes);
	if (verdict == LIMIT_FULL)
		decide_stat(limited_full);
	return verdict == LIMIT_OVER;
}

/* The next rule that fits: 1 ends the search. */
static long shield_step(__u32 index, struct shield *shield)
{
	__u32 unit = policy_next(shield->policy, &shield->work->cursor, &shield->work->facts);
	const struct policy_rule *rule = unit ? (const void *)trie_unit(shield->policy, unit) : NULL;

	if (!rule || (rule->action != POLICY_DROP && rule->action != POLICY_LIMIT))
		return 1;
	if (rule->action == POLICY_DROP &&
		!shield_drops(shield->context, shield->in_force, shield->work->now))
		return 1;
	/* several buffers may be several packets on the wire, which only tc can tell */
	if (rule->action == POLICY_LIMIT && shield->work->split)
		return 1;
	if (rule->action == POLICY_LIMIT && !shield->work->judged && limit_note_begin(shield->context))
		return 1;
	if (!shield_rule_drops(shield, rule))
		return 0;
	shield->work->drop = 1;
	return 1;
}

static __noinline int shield_ask(
	struct xdp_md *context, const struct policy_now *in_force, void *policy, __u32 number)
{
	const struct policy_header *header = (const void *)trie_unit(policy, 0);
	struct shield_work *work = shield_read(context);
	struct shield shield = {.context = context, .in_force = in_force, .policy = policy, .work = work};
	__u32 generation;
	struct packet *p;

	if (!work || !header)
		return XDP_PASS;
	generation = header->generation;
	p = &work->packet;
	work->bytes = bpf_xdp_get_buff_len(context);
	work->split = work->bytes > context->data_end - context->data;
	/* its headers are not all here; in tc they are */
	if (p->reason != PARSE_OK && work->split)
		return XDP_PASS;
	facts_read(p, context->ingress_ifindex, 0, &work->facts);
	facts_sets(&work->facts, header->asked, in_force->places >> SET_PLACE & 1);
	work->now = bpf_jiffies64();
	work->judged = work->drop = 0;
	policy_begin(policy, &work->cursor, &work->facts);
	bpf_loop(SHIELD_RULES_MAX, shield_step, &shield, 0);
	if (work->judged && !work->drop)
		limit_note_end(context, generation, work->judged);
	if (!work->drop)
		return XDP_PASS;
	if (decide_tell_due(in_force, work->now)) {
		decide_tell_take(work->now);
		shield_told(context, work, work->rule, work->over, number);
	}
	shield_note(context, in_force, work->rule, work->now);
	return XDP_DROP;
}

packet_inline int shield_judge(struct xdp_md *context)
{
	void *data = (void *)(long)context->data, *end = (void *)(long)context->data_end;
	const struct policy_now *in_force = decide_in_force();
	const struct shield_ways *ways;
	__u32 now, place, combination, way, number;
	void *policy;

	if (!in_force)
		return XDP_PASS;
	now = bpf_jiffies64();
	number = POLICY_HOST;
	if (__builtin_expect(in_force->tenants != 0, 0))
		number = tenant_of_interface(context->ingress_ifindex, decide_lapsed(in_force, now));
	place = decide_place(in_force, number, now);
	if (number == POLICY_HOST) {
		/* the packet may be for a tenant's process: only tc knows */
		if (in_force->tenants & POLICY_TENANT_CGROUPS)
			return XDP_PASS;
		ways = bpf_map_lookup_elem(&shield_ways, &place);
		if (ways && ways->sets) {
			combination = shield_source(data, end, in_force->places >> SET_PLACE & 1);
			way = ways->way[combination & (SET_COMBINATIONS_MAX - 1)];
			if (way == SHIELD_PASS)
				return XDP_PASS;
			if (way >= SHIELD_COUNTER) {
				if (!shield_drops(context, in_force, now))
					return XDP_PASS;
				decide_count(way - SHIELD_COUNTER, 1, bpf_xdp_get_buff_len(context), now);
				if (in_force->noted || decide_tell_due(in_force, now))
					shield_tell(context, in_force,
						ways->rule[combination & (SET_COMBINATIONS_MAX - 1)], now);
				return XDP_DROP;
			}
		}
	}
	policy = bpf_map_lookup_elem(&policies_xdp, &place);
	return policy ? shield_ask(context, in_force, policy, number) : XDP_PASS;
}

SEC("xdp") int shield(struct xdp_md *context)
{
	int verdict = shield_judge(context);

	return verdict == XDP_PASS ? chain_pass(context, CHAIN_BALANCE) : verdict;
}

char _license[] SEC("license") = "Dual BSD/GPL";
