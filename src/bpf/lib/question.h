/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Questions of the agent: what would become of this packet (explain), and which rules do these facts meet
 * (the check of a policy before it is switched to)?  Answered by what judges packets, and nothing is done. */
#ifndef WEIR_BPF_QUESTION_H
#define WEIR_BPF_QUESTION_H

#include "bpf/lib/decision.h"
#include "bpf/lib/tenant.h"

/* -- one packet -- */

/* What the last packet that was only asked about would have met. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct policy_explanation);
} decide_explanation SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct policy_question);
} decide_question SEC(".maps");

/* Only the agent knows the token of its question. */
packet_inline int decide_is_question(struct __sk_buff *skb)
{
	__u32 zero = 0;
	const struct policy_question *question = bpf_map_lookup_elem(&decide_question, &zero);

	return question && question->token[0] && skb->mark == question->token[0] &&
	       skb->priority == question->token[1];
}

packet_inline struct decide_ask *decide_question_ask(void)
{
	__u32 place = DECIDE_QUESTION;

	return bpf_map_lookup_elem(&decide_asks, &place);
}

static __noinline int decide_explain(struct decision *d, const struct decide_verdict *v, int kept)
{
	struct policy_explanation *e = &d->work->explanation;
	__u32 zero = 0;

	e->rule = v->rule;
	e->action = v->action;
	e->hook = 1;
	e->policy = d->number;
	e->state = d->work->facts.state;
	e->kept = kept;
	e->over = 0;
	e->judged = 1;
	e->passed_count = d->work->passed;
	e->facts = d->work->facts;
	bpf_map_update_elem(&decide_explanation, &zero, e, BPF_ANY);
	return 0;
}

packet_inline int decide_ask_about(struct __sk_buff *skb, int link)
{
	__u32 zero = 0;
	const struct policy_question *question = bpf_map_lookup_elem(&decide_question, &zero);
	struct decide_ask *ask = decide_question_ask();
	struct packet memory = {}, *p = &memory;

	if (!question || !ask)
		return DECIDE_NEXT;
	asm volatile("" : "+r"(p));
	p->reason = packet_parse(
		skb, (void *)(long)skb->data, (void *)(long)skb->data_end, link, question->ethertype, p);
	ask->packet = *p;
	ask->now = bpf_jiffies64();
	ask->owner = question->owner;
	ask->ifindex = question->ifindex;
	ask->packets = 1;
	ask->bytes = skb->len;
	ask->out = question->out;
	ask->held = ask->phase = 0;
	ask->expressions = 0;
	ask->explain = 1;
	ask->slot = DECIDE_QUESTION;
	bpf_tail_call(skb, &decide_programs, 0);
	return DECIDE_NEXT;
}

/* -- a policy -- */

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct policy_check);
} decide_checks SEC(".maps");

/* Not decide_works': packets are judged meanwhile. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct policy_cursor);
} decide_cursor SEC(".maps");

struct decide_check_walk {
	struct policy_check *check;
	struct policy_cursor *cursor;
	void *policy;
};

static long decide_check_step(__u32 index, struct decide_check_walk *walk)
{
	struct policy_check *check = walk->check;
	const struct policy_rule *rule;
	__u32 unit;

	if (index >= POLICY_CHECKS_MAX)
		return 1;
	policy_begin(walk->policy, walk->cursor, &check->facts[index]);
	unit = policy_next(walk->policy, walk->cursor, &check->facts[index]);
	rule = unit ? bpf_map_lookup_elem(walk->policy, &unit) : NULL;
	check->rules[index] = rule ? rule->source : POLICY_NO_RULE;
	return 0;
}

#endif
