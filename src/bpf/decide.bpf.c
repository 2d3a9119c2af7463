// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * Judges packets by the policies (shared/policy.h): those whose flow nothing was kept about, or nothing that
 * holds for them.  The entry programs (watch.bpf.c) hand them over by a tail call.
 */
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#define PACKET_CONTEXT                          struct __sk_buff
#define packet_load(context, offset, to, bytes) bpf_skb_load_bytes(context, offset, to, bytes)

#include "bpf/lib/limit.h"

#define connection_uncount(limit, whom) limit_connection_end(limit, whom)
#include "bpf/lib/connection.h"

#include "bpf/lib/decision.h"
#include "bpf/lib/gather.h"
#include "bpf/lib/question.h"
#include "bpf/lib/verdict.h"

/* -- the rules -- */

/*
 * The rows of the packet's classes (bpf/lib/policy.h) in the policy that stands in a place: 0.  Or not: it is
 * not the one any more that was `brought` then.
 */
packet_function int decide_rows(
	struct policy_cursor *cursor, const struct policy_facts *facts, __u32 place, __u64 brought)
{
	void *policy = bpf_map_lookup_elem(&policies, &place);
	const struct policy_header *header;

	place = 0;
	header = policy ? bpf_map_lookup_elem(policy, &place) : NULL;
	if (!header || header->brought != brought || !cursor || !facts)
		return -1;
	policy_begin(policy, cursor, facts);
	return 0;
}

packet_inline void decide_mark(struct decision *d, const struct policy_rule *rule)
{
	__u32 mark = (d->work->facts.mark & ~rule->set_mark_mask) | rule->set_mark;

	d->work->facts.mark = mark;
	if (!d->ask->explain)
		d->skb->mark = mark;
}

/* Is the packet over the rule's limit? */
static __noinline int decide_limit(struct decision *d, __u32 place)
{
	struct decide_work *work = d->work;
	struct connection_sight *sight = &work->sight;
	const struct policy_limit *limit = bpf_map_lookup_elem(&rule_limits, &place);
	__u64 key = 0;
	int verdict;

	if (!limit || d->ask->explain)
		return 0;
	if (limit->unit != POLICY_LIMIT_CONNECTIONS) {
		verdict = limit_judge(place, &work->facts, d->ask->packets, d->ask->bytes);
	} else {
		/* only what would be a new connection; a second limit would count it twice */
		if (sight->limit || work->facts.state != POLICY_STATE_NEW ||
			(d->connection && sight->verdict != WINDOW_BEGINS))
			return 0;
		verdict = limit_connection_begin(place, &work->facts, &key);
		if (verdict == LIMIT_WITHIN) {
			sight->limit = place + 1;
			sight->limit_key = key;
		}
	}
	if (verdict == LIMIT_FULL)
		decide_stat(limited_full);
	return verdict == LIMIT_OVER;
}

/* The packet belongs to a class. */
packet_inline void decide_class(struct decide_ask *ask, const struct policy_rule *rule)
{
	__u32 place = ask->class_count;

	if (place >= SHAPE_RULES_MAX || !rule->class)
		return;
	ask->classes[place & (SHAPE_RULES_MAX - 1)] = rule->class;
	ask->counters[place & (SHAPE_RULES_MAX - 1)] = rule->counter;
	ask->class_count = place + 1;
}

/* What a rule does that fits; 1: it decides. */
packet_inline int decide_act(struct decision *d, const struct policy_rule *rule, __u32 unit)
{
	struct decide_work *work = d->work;

	switch (rule->action) {
	case POLICY_LIMIT:
		if (!decide_limit(d, rule->limit))
			break;
		work->over = 1;
		return 1;
	case POLICY_MARK:
		decide_mark(d, rule);
		break;
	case POLICY_MIRROR:
		if (work->mirror_count < DECIDE_MIRRORS_MAX)
			work->mirrors[work->mirror_count++ & (DECIDE_MIRRORS_MAX - 1)] = rule->ifindex;
		break;
	case POLICY_DSCP:
		work->dscp = rule->dscp;
		break;
	case POLICY_MAC:
		work->mac = unit;
		break;
	case POLICY_SHAPE:
		decide_class(d->ask, rule);
		break;
	case POLICY_COUNT:
	case POLICY_LOG:
		break;
	default:
		return 1;
	}
	return 0;
}

/* Asks the next rule that fits; 1 ends the loop. */
static long decide_step(__u32 index, struct decision *d)
{
	struct decide_work *work = d->work;
	__u32 unit = policy_next(d->policy, &work->cursor, &work->facts), id;
	const struct policy_rule *rule;

	if (!unit)
		return 1;
	rule = bpf_map_lookup_elem(d->policy, &unit);
	if (!rule)
		return 1;
	if (rule->action == POLICY_LIMIT && work->judged) {
		work->judged--;
		work->uncached = 1;
		return 0;
	}
	if (decide_act(d, rule, unit)) {
		work->decided = unit;
		return 1;
	}
	/* what belongs to a class is counted with its path */
	if (rule->action != POLICY_SHAPE || rule->flags & POLICY_RULE_LOG)
		work->uncached = 1;
	id = rule->id;
	if (work->passed < POLICY_PASSED_MAX)
		work->explanation.passed[work->passed & (POLICY_PASSED_MAX - 1)] = id;
	work->passed++;
	if (d->ask->explain)
		return 0;
	decide_count(rule->counter, d->ask->packets, d->ask->bytes, d->ask->now);
	/* of a limit's packets, those that are over it are the ones to tell of */
	if ((rule->flags & POLICY_RULE_LOG && rule->action != POLICY_LIMIT) || rule->action == POLICY_LOG)
		decide_log(d, id, rule->action, 0);
	return 0;
}

/* -- the verdict -- */

/* The rule that decided, or the default.  What is not IP is nothing that a default verdict is about: without
 * ARP there would be no way back. */
packet_inline void decide_read(struct decision *d, struct decide_verdict *v)
{
	__u32 unit = d->work->decided;
	const struct policy_rule *rule = !unit ? NULL : bpf_map_lookup_elem(d->policy, &unit);
	const struct packet *p = &d->ask->packet;

	if (rule) {
		v->rule = rule->id;
		v->counter = rule->counter;
		v->action = d->work->over ? POLICY_DROP : rule->action;
		v->log = rule->flags & POLICY_RULE_LOG;
		v->state = rule->flags & POLICY_RULE_STATE;
		v->ifindex = rule->ifindex;
		v->reject = rule->reject;
		return;
	}
	*v = (struct decide_verdict){.action = POLICY_ACCEPT, .counter = POLICY_NO_COUNTER};
	if (p->family || p->ethertype == bpf_htons(PACKET_ETH_IPV4) ||
		p->ethertype == bpf_htons(PACKET_ETH_IPV6)) {
		const struct policy_default *fallback = &d->header->defaults[d->ask->out & 1];

		v->action = fallback->action;
		v->counter = fallback->counter;
		v->log = fallback->log && fallback->action != POLICY_ACCEPT;
	}
}

packet_inline void decide_begin(struct decision *d)
{
	struct decide_work *work = d->work;

	work->decided = work->mac = 0;
	work->dscp = 64;
	work->mirror_count = work->passed = work->over = work->uncached = 0;
	work->judged = d->ask->out ? 0 : limit_judged(d->skb, d->header->generation);
	work->sight.limit = 0;
	work->sight.sort = CONNECTION_SORT_NONE;
	decide_gather(d->ask, d->skb, &work->facts);
}

/*
 * Is something hidden that rules ask about: behind too many extension headers or tags, in the next fragment?
 * A receiver that finds it must not get what a rule about it would have dropped.
 */
packet_inline int decide_is_hidden(const struct decision *d)
{
	__u8 reason = d->ask->packet.reason;

	return d->in_force->tracking && reason != PARSE_OK && reason != PARSE_NOT_IP;
}

/* What the rules say: into work->verdict.  0, or not: the policy is not in its place any more. */
static __noinline int decide_by_rules(struct decision *d)
{
	struct decide_verdict *v = &d->work->verdict;
	int kept;

	facts_sets(&d->work->facts, d->header->asked, decide_place(d->in_force, SET_PLACE, d->ask->now) & 1);
	if (d->header->flags & POLICY_OWNERS)
		decide_owners_of(d);
	if (decide_rows(&d->work->cursor, &d->work->facts, d->place, d->header->brought))
		return -1;
	bpf_loop(POLICY_RULES_MAX, decide_step, d, 0);
	if (d->work->cursor.broken)
		decide_stat(broken);
	decide_read(d, v);
	if (v->action != POLICY_DROP && v->action != POLICY_REJECT && decide_is_hidden(d)) {
		*v = (struct decide_verdict){.action = POLICY_DROP, .counter = POLICY_NO_COUNTER};
		v->log = d->header->defaults[d->ask->out & 1].log;
		d->work->uncached = 1; /* each of them counts */
		if (!d->ask->explain)
			decide_stat(unreadable);
	}
	kept = decide_keeps(d, v);
	if (d->ask->explain)
		return decide_explain(d, v, kept);
	if (kept) {
		*v = (struct decide_verdict){.action = POLICY_ACCEPT, .counter = POLICY_NO_COUNTER};
		decide_stat(kept);
	}
	decide_keep(d->ask, v, decide_bits(d, v));
	decide_count(v->counter, d->ask->packets, d->ask->bytes, d->ask->now);
	if (v->log)
		decide_log(d, v->rule, v->action, 0);
	return 0;
}

/* Nobody's rules are about it. */
static __noinline int decide_nothing(struct decide_ask *ask)
{
	const struct decide_verdict nobody = {.action = POLICY_ACCEPT, .counter = POLICY_NO_COUNTER};

	if (!ask->explain)
		decide_keep(ask, &nobody, FLOW_VERDICT_ACCEPT);
	return DECIDE_NEXT;
}

/* The packet goes on; but not where it goes through classes before. */
packet_inline int decide_pass(const struct decision *d)
{
	if (d->ask->explain)
		bpf_tail_call(d->skb, &shape_programs, SHAPE_EXPLAIN);
	bpf_tail_call(d->skb, &shape_programs, SHAPE_FIND);
	return DECIDE_NEXT;
}

SEC("tc") int decide(struct __sk_buff *skb)
{
	struct decision d = {.skb = skb, .in_force = decide_in_force()};
	__u32 zero = 0, place;
	int verdict;

	d.ask = decide_is_question(skb) ? decide_question_ask() : decide_ask_get();
	if (!d.ask || !d.in_force)
		return DECIDE_NEXT;
	place = d.ask->slot;
	d.work = bpf_map_lookup_elem(&decide_works, &place);
	if (!d.work)
		return DECIDE_NEXT;
	d.ask->class_count = 0;
	d.number = decide_number(d.ask, d.in_force);
	place = d.place = decide_place(d.in_force, d.number, d.ask->now);
	d.policy = bpf_map_lookup_elem(&policies, &place);
	if (!d.policy) {
		decide_nothing(d.ask);
		return decide_pass(&d);
	}
	d.header = bpf_map_lookup_elem(d.policy, &zero);
	if (!d.header) {
		decide_stat(broken);
		return DECIDE_NEXT;
	}
	if (d.header->flags & POLICY_EXPRESSIONS)
		decide_expressions_ask(&d, place);
	decide_begin(&d);
	decide_look(&d);
	if (d.ask->held & FLOW_VERDICT_TRACKED && d.work->facts.state == POLICY_STATE_ESTABLISHED) {
		verdict = decide_held(&d);
		if (verdict == DECIDE_NEXT)
			bpf_tail_call(skb, &shape_programs, SHAPE_APPLY);
		return verdict;
	}
	if (decide_by_rules(&d)) {
		/* another place is in force meanwhile */
		d.ask->phase = 0;
		bpf_tail_call(skb, &decide_programs, 0);
		decide_stat(broken);
		return DECIDE_NEXT;
	}
	verdict = d.ask->explain ? DECIDE_NEXT : decide_carry_out(&d);
	return verdict == DECIDE_NEXT ? decide_pass(&d) : verdict;
}

/* -- asking -- */

SEC("tc") int decide_ask_ethernet(struct __sk_buff *skb)
{
	return decide_ask_about(skb, 1);
}

SEC("tc") int decide_ask_raw(struct __sk_buff *skb)
{
	return decide_ask_about(skb, 0);
}

SEC("raw_tp") int decide_check(void *context)
{
	struct decide_check_walk walk;
	__u32 zero = 0, place;

	walk.check = bpf_map_lookup_elem(&decide_checks, &zero);
	walk.cursor = bpf_map_lookup_elem(&decide_cursor, &zero);
	if (!walk.check || !walk.cursor)
		return 1;
	place = walk.check->place;
	walk.policy = walk.check->xdp ? bpf_map_lookup_elem(&policies_xdp, &place)
	                              : bpf_map_lookup_elem(&policies, &place);
	if (!walk.policy)
		return 1;
	bpf_loop(walk.check->count, decide_check_step, &walk, 0);
	return 0;
}

char _license[] SEC("license") = "Dual BSD/GPL";
