/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* What is found out about a packet before the rules are asked: what they compare, whose policy it is, which
 * expressions it fits, the state of its connection. */
#ifndef WEIR_BPF_GATHER_H
#define WEIR_BPF_GATHER_H

#include "bpf/lib/condition.h"
#include "bpf/lib/decision.h"
#include "bpf/lib/facts_sets.h"
#include "bpf/lib/seek.h"
#include "bpf/lib/tenant.h"

/* -- facts -- */

packet_inline void decide_gather(
	const struct decide_ask *ask, struct __sk_buff *skb, struct policy_facts *facts)
{
	facts_read(&ask->packet, ask->ifindex, ask->out, facts);
	facts->mark = ask->explain ? 0 : skb->mark;
	facts->expressions = ask->expressions;
}

struct decide_owner_walk {
	void *policy;
	const struct owner *who;
	struct decide_work *work;
	__u32 first;
};

static long decide_owner_step(__u32 index, struct decide_owner_walk *walk)
{
	__u32 unit = walk->first + index;
	const struct owner_condition *condition = bpf_map_lookup_elem(walk->policy, &unit);

	if (!condition)
		return 1;
	if (condition_fits(condition, walk->who))
		walk->work->facts.owners |= 1ULL << (index & 63);
	return 0;
}

/* The bits of the conditions that the packet's owner fits.  Nobody knows whose it is: none. */
static __noinline int decide_owners_of(struct decision *d)
{
	struct decide_owner_key key = {.brought = d->header->brought};
	struct decide_owner_walk walk = {.policy = d->policy, .work = d->work, .first = d->header->owners};
	__u64 *known, owners;

	/* the flow's may not have been looked for yet, or be the listener's */
	if (!d->ask->explain && (d->ask->owner == OWNER_UNKNOWN || d->ask->owner & OWNER_INHERITED))
		d->ask->owner = seek_owner(d->skb, &d->ask->packet, d->ask->out);
	key.owner = d->ask->owner & ~OWNER_INHERITED;
	known = bpf_map_lookup_elem(&decide_owners, &key);
	/* who is only supposed is another one each time */
	if (known && key.owner != OWNER_SUPPOSED) {
		d->work->facts.owners = *known;
		return 0;
	}
	walk.who = owner_get(d->ask->owner);
	if (!walk.who)
		return 0;
	bpf_loop(d->header->owner_count & (2 * POLICY_OWNERS_MAX - 1), decide_owner_step, &walk, 0);
	owners = d->work->facts.owners;
	if (key.owner == OWNER_SUPPOSED)
		return 0;
	bpf_map_update_elem(&decide_owners, &key, &owners, BPF_ANY);
	return 0;
}

/* -- whose policy -- */

/* By the owner's cgroup: the deepest level that belongs to a tenant. */
static __noinline __u32 decide_cgroup_tenant(__u32 owner, int lapsed)
{
	const struct owner *who = owner_get(owner);
	__u32 number = POLICY_HOST, i;

	if (!who)
		return number;
	for (i = 0; i < OWNER_DEPTH_MAX; i++) {
		__u64 hash = who->path_hash[i];
		const struct policy_grant *tenant;

		if (!hash)
			break;
		tenant = bpf_map_lookup_elem(&tenant_cgroups, &hash);
		if (!tenant)
			continue;
		number = lapsed ? tenant->before : tenant->number;
	}
	return number;
}

packet_inline __u32 decide_number(const struct decide_ask *ask, const struct policy_now *in_force)
{
	int lapsed = decide_lapsed(in_force, ask->now);
	__u32 number;

	if (!in_force->tenants)
		return POLICY_HOST;
	number = tenant_of_interface(ask->ifindex, lapsed);
	if (number != POLICY_HOST)
		return number;
	return in_force->tenants & POLICY_TENANT_CGROUPS ? decide_cgroup_tenant(ask->owner, lapsed)
	                                                 : POLICY_HOST;
}

/* -- expressions -- */

/* Has the expressions asked, if they were not yet; they come back here (engine/policy_expression.c). */
packet_inline void decide_expressions_ask(struct decision *d, __u32 place)
{
	struct decide_ask *ask = d->ask;
	__u32 zero = 0, kind = ask->out & POLICY_EXPRESSION_OUT;
	struct policy_chain *chain = bpf_map_lookup_elem(&decide_chain, &zero);

	if (!chain)
		return;
	if (ask->phase) {
		ask->expressions = chain->bits;
		return;
	}
	ask->phase = 1;
	if (ask->packet.l3_offset)
		kind |= POLICY_EXPRESSION_ETHERNET;
	chain->bits = 0;
	chain->number = 0;
	chain->next = POLICY_EXPRESSION_PLACE(place, kind);
	bpf_tail_call(d->skb, &decide_expressions, chain->next);
}

/* -- the connection -- */

packet_inline void decide_look(struct decision *d)
{
	struct connection_sight *sight = &d->work->sight;

	d->connection = NULL;
	if (!d->in_force->tracking)
		return;
	sight->now = d->ask->now;
	sight->length = d->skb->len;
	/* nobody knows the sequence numbers of a packet that is only asked about */
	sight->followed = d->ask->explain ? 0 : d->in_force->stateful;
	d->connection = connection_look(d->skb, &d->ask->packet, sight);
	d->work->facts.state = sight->state;
}

#endif
