/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * The rules that XDP decides, asked in tc about packets of services: where no program is at XDP, services
 * come behind the same rules as elsewhere, and before all others.
 *
 * Unlike bpf/shield.bpf.c this need not leave to anybody what may be of a connection from before a change:
 * connections of services are in no table of those.
 */
#ifndef WEIR_BPF_SERVICE_RULES_H
#define WEIR_BPF_SERVICE_RULES_H

#include "bpf/lib/decide.h"
#include "bpf/lib/facts_sets.h"
#include "bpf/lib/limit.h"
#include "bpf/lib/note.h"
#include "bpf/lib/policy.h"
#include "bpf/lib/service_work.h"
#include "bpf/lib/tell.h"
#include "bpf/lib/tenant.h"
#include "bpf/lib/trie.h"
#include "shared/owner.h"

#define SERVICE_RULES_MAX 64 /* that fit one packet and do not decide: limits */

/* In a map: for the room, and since the verifier does not follow what is in there. */
struct service_rules {
	struct policy_facts facts;
	struct policy_cursor cursor;
	__u32 packets, bytes; /* on the wire */
	__u32 now;            /* tick */
	__u32 drop;
	__u32 rule; /* id of the one that drops it … */
	__u32 over; /* … since it is over its limit */
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct service_rules);
} service_rules SEC(".maps");

struct service_asked {
	struct service_rules *rules;
	void *policy;
};

packet_inline int service_rule_drops(struct service_rules *rules, const struct policy_rule *rule)
{
	int verdict;

	decide_count(rule->counter, rules->packets, rules->bytes, rules->now);
	rules->rule = rule->id;
	rules->over = rule->action == POLICY_LIMIT;
	if (rule->action == POLICY_DROP)
		return 1;
	verdict = limit_judge(rule->limit, &rules->facts, rules->packets, rules->bytes);
	if (verdict == LIMIT_FULL)
		decide_stat(limited_full);
	return verdict == LIMIT_OVER;
}

/* The next rule that fits: 1 ends the search. */
static long service_rules_step(__u32 index, struct service_asked *asked)
{
	struct service_rules *rules = asked->rules;
	__u32 unit = policy_next(asked->policy, &rules->cursor, &rules->facts);
	const struct policy_rule *rule = unit ? (const void *)trie_unit(asked->policy, unit) : (void *)0;

	if (!rule || (rule->action != POLICY_DROP && rule->action != POLICY_LIMIT))
		return 1;
	if (!service_rule_drops(rules, rule))
		return 0;
	rules->drop = 1;
	return 1;
}

packet_inline void service_rules_tell(struct __sk_buff *skb, const struct service_work *work,
	const struct service_rules *rules, __u32 policy)
{
	struct policy_log *record = bpf_ringbuf_reserve(&rule_log, sizeof(*record), 0);
	__u32 bytes;

	if (!record)
		return;
	record->time_ns = bpf_ktime_get_ns();
	record->rule = rules->rule;
	record->owner = OWNER_UNKNOWN;
	record->ifindex = skb->ifindex;
	record->length = skb->len;
	record->action = POLICY_DROP;
	record->hook = 0;
	record->out = 0;
	record->state = POLICY_STATE_NONE;
	record->policy = policy;
	record->over = rules->over;
	tell_packet(record, &work->packet);
	bytes = tell_length(record->length - work->packet.l3_offset);
	if (bpf_skb_load_bytes(skb, work->packet.l3_offset, record->bytes, bytes))
		bytes = 0;
	record->captured = bytes;
	bpf_ringbuf_submit(record, 0);
}

/* Does a rule drop the packet?  All that is to be counted and told of it then is. */
static __noinline int service_ruled_out(struct __sk_buff *skb)
{
	const struct policy_now *in_force = decide_in_force();
	struct service_work *work = service_work();
	struct service_asked asked = {};
	const struct policy_header *header;
	struct service_rules *rules;
	__u32 zero = 0, place, number;

	asked.rules = rules = bpf_map_lookup_elem(&service_rules, &zero);
	if (!in_force || !work || !rules)
		return 0;
	number = tenant_of_interface(skb->ifindex, decide_lapsed(in_force, work->now));
	/* the packet may be for a tenant's process */
	if (number == POLICY_HOST && in_force->tenants & POLICY_TENANT_CGROUPS)
		return 0;
	place = decide_place(in_force, number, work->now);
	asked.policy = bpf_map_lookup_elem(&policies_xdp, &place);
	header = asked.policy ? (const void *)trie_unit(asked.policy, 0) : (void *)0;
	if (!header)
		return 0;
	rules->packets = work->packets;
	rules->bytes = work->bytes;
	rules->now = work->now;
	rules->drop = 0;
	facts_read(&work->packet, skb->ifindex, 0, &rules->facts);
	facts_sets(&rules->facts, header->asked, in_force->places >> SET_PLACE & 1);
	policy_begin(asked.policy, &rules->cursor, &rules->facts);
	bpf_loop(SERVICE_RULES_MAX, service_rules_step, &asked, 0);
	if (!rules->drop)
		return 0;
	if (decide_tell_due(in_force, work->now)) {
		decide_tell_take(work->now);
		service_rules_tell(skb, work, rules, number);
	}
	note_drop(rules->rule, rules->packets);
	return 1;
}

#endif
