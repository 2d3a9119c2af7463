/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* What a verdict leads to: it is kept with the packet's flow, as long as it holds; logged; carried out. */
#ifndef WEIR_BPF_VERDICT_H
#define WEIR_BPF_VERDICT_H

#include "bpf/lib/decision.h"
#include "bpf/lib/limit.h"
#include "bpf/lib/note.h"

/* -- the log -- */

/* `rule` 0: the default verdict.  `told`: the packet is one of those dropped that are told of. */
static __noinline int decide_log(struct decision *d, __u32 rule, __u32 action, __u32 told)
{
	const struct packet *p = &d->ask->packet;
	struct policy_log *record = NULL;
	__u32 bytes;

	if (d->ask->explain)
		return 0;
	if (told || decide_rate_allows(POLICY_RATE_LOG))
		record = bpf_ringbuf_reserve(&rule_log, sizeof(*record), 0);
	if (!record) {
		if (!told)
			decide_stat(unlogged);
		return 0;
	}
	if (!told)
		decide_stat(logged);
	record->time_ns = bpf_ktime_get_ns();
	record->rule = rule;
	record->owner = d->ask->owner;
	record->ifindex = d->ask->ifindex;
	record->length = d->skb->len;
	record->action = action;
	record->hook = 1;
	record->out = d->ask->out;
	record->state = d->work->facts.state;
	record->policy = d->number;
	record->over = d->work->over;
	tell_packet(record, p);
	bytes = tell_length(d->skb->len - p->l3_offset);
	if (bpf_skb_load_bytes(d->skb, p->l3_offset, record->bytes, bytes))
		bytes = 0;
	record->captured = bytes;
	bpf_ringbuf_submit(record, 0);
	return 0;
}

/* Tells of a packet that is dropped, unless its rule has logged it. */
packet_inline void decide_tell(struct decision *d, __u32 rule, __u32 action, __u32 logged)
{
	if (logged || !decide_tell_due(d->in_force, d->ask->now))
		return;
	decide_tell_take(d->ask->now);
	decide_log(d, rule, action, 1);
}

/* -- what is kept -- */

/* Was the packet's connection there before what would end it now?  Then it goes on, unless it was cut. */
packet_inline int decide_keeps(const struct decision *d, const struct decide_verdict *v)
{
	const struct policy_now *in_force = d->in_force;
	__u32 established, since = decide_since(in_force, d->ask->now), cut = in_force->cut;
	__u8 state = d->work->facts.state;

	if ((v->action != POLICY_DROP && v->action != POLICY_REJECT) || v->state || d->work->over)
		return 0;
	if (!d->connection || (state != POLICY_STATE_ESTABLISHED && state != POLICY_STATE_RELATED))
		return 0;
	established = d->connection->established;
	return established && (__s32)(established - since) <= 0 && !(cut && (__s32)(established - cut) <= 0);
}

/* Bits of the flow's line: how long this verdict holds. */
packet_inline __u32 decide_bits(const struct decision *d, const struct decide_verdict *v)
{
	const struct decide_work *work = d->work;
	const struct packet *p = &d->ask->packet;
	__u8 sort = work->sight.sort, state = work->facts.state;
	__u32 owner = d->ask->owner;
	__u32 bits = FLOW_VERDICT_ACCEPT;

	if (work->uncached || work->cursor.fickle || v->log || d->header->flags & POLICY_UNCACHED ||
		(v->action != POLICY_ACCEPT && v->action != POLICY_DROP))
		return FLOW_VERDICT_ASK;
	if ((d->header->flags & POLICY_OWNERS || d->in_force->tenants & POLICY_TENANT_CGROUPS) &&
		(owner == OWNER_UNKNOWN || owner & OWNER_INHERITED))
		return FLOW_VERDICT_ASK;
	if (v->action == POLICY_DROP)
		bits = FLOW_VERDICT_DROP;
	if (!d->in_force->tracking)
		return bits;
	if (state == POLICY_STATE_INVALID || sort == CONNECTION_SORT_ERROR ||
		sort == CONNECTION_SORT_FRAGMENT)
		return FLOW_VERDICT_ASK;
	if (d->header->flags & POLICY_STATEFUL && state != POLICY_STATE_ESTABLISHED &&
		state != POLICY_STATE_NONE)
		return FLOW_VERDICT_ASK;
	/* what is dropped becomes no connection, so only rules on the state could have another opinion later
	 */
	if (v->action == POLICY_DROP && !(d->header->flags & POLICY_STATEFUL))
		return bits;
	if (sort == CONNECTION_SORT_PACKET)
		bits |= FLOW_VERDICT_TRACKED;
	if (sort == CONNECTION_SORT_PACKET && p->proto == PACKET_PROTO_TCP && d->in_force->stateful)
		bits |= FLOW_VERDICT_EACH;
	return bits;
}

packet_inline void decide_keep_in(
	struct flow_marks *marks, struct flow_decision *decision, const struct decide_verdict *v, __u32 bits)
{
	__u32 dropped = v->action == POLICY_DROP || v->action == POLICY_REJECT ? FLOW_DROPPED : 0;

	decision->rule = v->rule;
	decision->counter = v->counter;
	decision->class = 0;
	marks->origin = (marks->origin & ~(FLOW_VERDICT_MASK | FLOW_DROPPED)) | bits | dropped;
}

/* Writes the verdict into the flow's line.  Between the entry program and here nobody else was on this CPU,
 * so it is the same flow's still. */
static __noinline int decide_keep(const struct decide_ask *ask, const struct decide_verdict *v, __u32 bits)
{
	__u32 set = ask->set, way = ask->way % FLOW_WAYS;
	struct flow_rest_set6 *rest;
	struct flow_set6 *set6;
	struct flow_set4 *set4;

	if (ask->packet.family != 6) {
		set4 = bpf_map_lookup_elem(&flow_cache4, &set);
		if (set4)
			decide_keep_in(&set4->line[way].marks, &set4->line[way].decision, v, bits);
		return 0;
	}
	set6 = bpf_map_lookup_elem(&flow_cache6, &set);
	rest = bpf_map_lookup_elem(&flow_rest6, &set);
	if (set6 && rest)
		decide_keep_in(&set6->line[way].marks, &rest->line[way].decision, v, bits);
	return 0;
}

/* -- what becomes of the packet -- */

static __noinline int decide_reject(struct decision *d, __u32 how)
{
	int answered = 0, r = DECIDE_DROP;

	if (decide_rate_allows(POLICY_RATE_REJECT))
		r = act_reject(d->skb, &d->ask->packet, how, d->ask->out, &answered);
	if (answered)
		decide_stat(rejected);
	else
		decide_stat(unanswered);
	return r;
}

/* Copies are of the packet as it came.  On their way they may be judged, on this CPU; not mirrored again. */
static __noinline int decide_mirror(struct decision *d)
{
	__u32 count = d->work->mirror_count;

	if (d->ask->slot != DECIDE_USUAL)
		return 0;
	d->ask->busy = 1;
	for (__u32 i = 0; i < DECIDE_MIRRORS_MAX; i++)
		if (i < count)
			bpf_clone_redirect(d->skb, d->work->mirrors[i], 0);
	d->ask->busy = 0;
	return 0;
}

packet_inline void decide_rewrite(struct decision *d)
{
	__u32 unit = d->work->mac;
	const struct policy_rule *rule;

	if (d->work->dscp < 64)
		act_dscp(d->skb, &d->ask->packet, d->work->dscp);
	rule = !unit ? NULL : bpf_map_lookup_elem(d->policy, &unit);
	if (rule)
		act_mac(d->skb, &d->ask->packet, rule);
}

/* The packet goes on: its connection hears of it. */
packet_inline void decide_commit(struct decision *d, __u32 rule)
{
	if (!d->in_force->tracking)
		return;
	d->work->sight.rule = rule;
	d->work->sight.policy = d->number;
	connection_commit(&d->ask->packet, &d->work->sight, d->connection);
}

packet_inline int decide_carry_out(struct decision *d)
{
	struct decide_work *work = d->work;
	struct decide_verdict *v = &work->verdict;
	__u32 action = v->action, rule = v->rule, ifindex = v->ifindex;
	int verdict = DECIDE_NEXT;

	if (action == POLICY_DROP || action == POLICY_REJECT) {
		if (work->sight.limit)
			limit_connection_end(work->sight.limit, work->sight.limit_key);
	} else {
		decide_commit(d, rule);
	}
	if (work->mirror_count)
		decide_mirror(d);
	if (action == POLICY_DROP || action == POLICY_REJECT)
		decide_tell(d, rule, action, v->log);
	if (action == POLICY_REJECT)
		verdict = decide_reject(d, v->reject);
	else if (action == POLICY_DROP)
		verdict = DECIDE_DROP;
	else
		decide_rewrite(d);
	if (action == POLICY_REDIRECT)
		return bpf_redirect(ifindex, 0);
	if (verdict == DECIDE_DROP)
		note_drop(rule, d->ask->packets);
	return verdict;
}

/* -- what was kept -- */

/* What was decided about the flow before holds, since its connection does. */
packet_inline int decide_held(struct decision *d)
{
	struct decide_ask *ask = d->ask;
	__u32 set = ask->set, way = ask->way % FLOW_WAYS, rule = 0, counter = POLICY_NO_COUNTER, path = 0;
	struct flow_rest_set6 *rest;
	struct flow_set4 *set4;

	if (ask->packet.family != 6) {
		set4 = bpf_map_lookup_elem(&flow_cache4, &set);
		if (set4) {
			path = set4->line[way].decision.class;
			rule = set4->line[way].decision.rule;
			counter = set4->line[way].decision.counter;
		}
	} else {
		rest = bpf_map_lookup_elem(&flow_rest6, &set);
		if (rest) {
			path = rest->line[way].decision.class;
			rule = rest->line[way].decision.rule;
			counter = rest->line[way].decision.counter;
		}
	}
	decide_count(counter, ask->packets, ask->bytes, ask->now);
	if (ask->held & FLOW_VERDICT_DROP) {
		decide_tell(d, rule, POLICY_DROP, 0);
		note_drop(rule, ask->packets);
		return DECIDE_DROP;
	}
	decide_commit(d, rule);
	shape_ask_put(path, ask->packets, ask->bytes, ask->now, ask->out);
	return DECIDE_NEXT;
}

#endif
