// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * Judges packets by the policies (shared/policy.h): those whose flow nothing was kept about, or nothing that
 * holds for them.  The entry programs (watch.bpf.c) hand them over by a tail call.
 */
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#define PACKET_CONTEXT                          struct __sk_buff
#define packet_load(context, offset, to, bytes) bpf_skb_load_bytes(context, offset, to, bytes)

#include "bpf/lib/act.h"
#include "bpf/lib/bucket.h"
#include "bpf/lib/cache.h"
#include "bpf/lib/condition.h"
#include "bpf/lib/decide.h"
#include "bpf/lib/limit.h"

#define connection_uncount(limit, whom) limit_connection_end(limit, whom)
#include "bpf/lib/connection.h"

#include "bpf/lib/note.h"
#include "bpf/lib/packet.h"
#include "bpf/lib/policy.h"
#include "bpf/lib/seek.h"
#include "bpf/lib/set.h"

#define DECIDE_NEXT ACT_NEXT
#define DECIDE_DROP ACT_DROP

#define DECIDE_MIRRORS_MAX 4 /* of one packet */

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 2 * POLICY_NUMBER_MAX);
	__type(key, __u32);
	__array(values, struct policy_memory);
} policies SEC(".maps");

/* For the shield's program, in the same places. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 2 * POLICY_NUMBER_MAX);
	__type(key, __u32);
	__array(values, struct policy_memory);
} policies_xdp SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20);
} rule_log SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, POLICY_RATES);
	__type(key, __u32);
	__type(value, struct policy_rate);
} decide_rates SEC(".maps");

/* Which owner conditions of a policy fit a process. */
struct decide_owner_key {
	__u64 brought; /* tells the policy */
	__u32 owner, reserved;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, struct decide_owner_key);
	__type(value, __u64);
} decide_owners SEC(".maps");

/* Whose policy: by interface, or by a level of the owner's cgroup path. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 4096);
	__type(key, __u32);
	__type(value, struct policy_grant);
} tenant_interfaces SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 4096);
	__type(key, __u64);
	__type(value, struct policy_grant);
} tenant_cgroups SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, POLICY_EXPRESSION_PLACE(2 * POLICY_NUMBER_MAX, 0));
	__type(key, __u32);
	__type(value, __u32);
} decide_expressions SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct policy_chain);
} decide_chain SEC(".maps");

struct decide_verdict {
	__u32 rule, counter;
	__u32 action;
	__u32 log;
	__u32 ifindex; /* REDIRECT */
	__u32 reject;  /* enum policy_reject */
	__u32 state;   /* the rule asks for the state */
};

/*
 * What is found out about one packet.  In a map, not on the stack: for the room, and since a verifier that
 * looks at a loop's body once must not take for certain what that wrote.
 */
struct decide_work {
	struct policy_facts facts;
	struct connection_sight sight;
	struct policy_cursor cursor;
	__u32 decided; /* unit of the rule; 0: none */
	__u32 mac;     /* the same, of the last that rewrites addresses */
	__u32 dscp;    /* 64: not rewritten */
	__u32 mirror_count, mirrors[DECIDE_MIRRORS_MAX];
	__u32 passed;   /* rules that fitted and went on */
	__u32 over;     /* its limit was reached: dropped */
	__u32 judged;   /* limits that are still to come and were judged at XDP */
	__u32 uncached; /* the next packet is to be asked about again */
	struct decide_verdict verdict;
	struct policy_explanation explanation;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, DECIDE_SLOTS);
	__type(key, __u32);
	__type(value, struct decide_work);
} decide_works SEC(".maps");

/* Pointers to what belongs to one packet. */
struct decision {
	struct __sk_buff *skb;
	struct decide_ask *ask;
	struct decide_work *work;
	const struct policy_now *in_force;
	void *policy; /* the memory */
	const struct policy_header *header;
	struct connection *connection; /* NULL: none */
	__u32 number, place;
};

/* What the last packet that was only asked about would have met. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct policy_explanation);
} decide_explanation SEC(".maps");

packet_inline int decide_rate_allows(__u32 which)
{
	struct policy_rate *rate = bpf_map_lookup_elem(&decide_rates, &which);

	return rate && token_bucket_consume(&rate->bucket, &rate->clock, 1, bpf_ktime_get_ns());
}

/* -- facts -- */

packet_inline void decide_gather(
	const struct decide_ask *ask, struct __sk_buff *skb, struct policy_facts *facts)
{
	const struct packet *p = &ask->packet;
	int ports = p->kind & FLOW_KIND_PORTS;

	for (int i = 0; i < 4; i++) {
		facts->src[i] = p->src[i];
		facts->dst[i] = p->dst[i];
	}
	facts->ifindex = ask->ifindex;
	facts->sport = ports ? bpf_ntohs(p->sport) : 65536;
	facts->dport = ports ? bpf_ntohs(p->dport) : 65536;
	facts->icmp = p->kind & FLOW_KIND_ICMP ? bpf_ntohs(p->dport) : 65536;
	facts->mark = ask->explain ? 0 : skb->mark;
	facts->flags = ports && p->proto == PACKET_PROTO_TCP ? p->tcp_flags : 256;
	facts->proto = p->family ? p->proto : 256;
	facts->vlan = p->vlan_depth ? p->vlan : 4096;
	facts->dscp = p->family ? p->tos >> 2 : 64;
	facts->family = p->family;
	facts->fragment = p->fragment;
	facts->out = ask->out;
	facts->state = POLICY_STATE_NONE;
	facts->owners = 0;
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
	if (known) {
		d->work->facts.owners = *known;
		return 0;
	}
	walk.who = owner_get(d->ask->owner);
	if (!walk.who)
		return 0;
	bpf_loop(d->header->owner_count & (2 * POLICY_OWNERS_MAX - 1), decide_owner_step, &walk, 0);
	owners = d->work->facts.owners;
	bpf_map_update_elem(&decide_owners, &key, &owners, BPF_ANY);
	return 0;
}

/* -- sets -- */

packet_inline __u32 decide_set_of4(void *memory, const __be32 *address)
{
	return trie_find4(memory, 0, trie_bits(memory), bpf_ntohl(address[0]));
}

packet_inline __u32 decide_set_of6(void *memory, const __be32 *address)
{
	return trie_find6(memory, 0, trie_bits(memory), policy_high(address), policy_high(address + 2));
}

/* Which combinations of sets the addresses are in, if that is asked for.  As the search below, a function
 * that is verified by itself: what its callers know would have the verifier go through it again and again. */
packet_function int decide_sets_of(struct policy_facts *facts, __u32 asked, __u32 place)
{
	void *memory;

	if (!facts)
		return 0;
	facts->src_sets = facts->dst_sets = 0;
	if (facts->family == 4) {
		memory = bpf_map_lookup_elem(&set_trie4, &place);
		if (memory && asked & 1 << POLICY_BY_SRC_SETS)
			facts->src_sets = decide_set_of4(memory, facts->src);
		if (memory && asked & 1 << POLICY_BY_DST_SETS)
			facts->dst_sets = decide_set_of4(memory, facts->dst);
	} else if (facts->family == 6) {
		memory = bpf_map_lookup_elem(&set_trie6, &place);
		if (memory && asked & 1 << POLICY_BY_SRC_SETS)
			facts->src_sets = decide_set_of6(memory, facts->src);
		if (memory && asked & 1 << POLICY_BY_DST_SETS)
			facts->dst_sets = decide_set_of6(memory, facts->dst);
	}
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
	const struct policy_grant *tenant;
	__u32 ifindex = ask->ifindex;

	if (!in_force->tenants)
		return POLICY_HOST;
	tenant = bpf_map_lookup_elem(&tenant_interfaces, &ifindex);
	if (tenant && (lapsed ? tenant->before : tenant->number))
		return lapsed ? tenant->before : tenant->number;
	return in_force->tenants & POLICY_TENANT_CGROUPS ? decide_cgroup_tenant(ask->owner, lapsed)
	                                                 : POLICY_HOST;
}

/* -- the log -- */

/* `rule` NULL: the default verdict. */
static __noinline int decide_log(struct decision *d, __u32 rule, __u32 action)
{
	const struct packet *p = &d->ask->packet;
	struct policy_log *record = NULL;
	__u32 bytes = d->skb->len - p->l3_offset;

	if (d->ask->explain)
		return 0;
	if (decide_rate_allows(POLICY_RATE_LOG))
		record = bpf_ringbuf_reserve(&rule_log, sizeof(*record), 0);
	if (!record) {
		decide_stat(unlogged);
		return 0;
	}
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
	for (int i = 0; i < 4; i++) {
		record->packet.src[i] = p->src[i];
		record->packet.dst[i] = p->dst[i];
	}
	record->packet.sport = p->sport;
	record->packet.dport = p->dport;
	record->packet.family = p->family;
	record->packet.proto = p->proto;
	record->packet.tcp_flags = p->tcp_flags;
	record->packet.reserved = p->kind;
	if (bytes > POLICY_LOG_BYTES)
		bytes = POLICY_LOG_BYTES;
	bytes--; /* none are as many as there cannot be then */
	asm volatile("" : "+r"(bytes));
	bytes = (bytes & (POLICY_LOG_BYTES - 1)) + 1;
	if (bpf_skb_load_bytes(d->skb, p->l3_offset, record->bytes, bytes))
		bytes = 0;
	record->captured = bytes;
	bpf_ringbuf_submit(record, 0);
	return 0;
}

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
		decide_log(d, id, rule->action);
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
	if (action == POLICY_REJECT)
		verdict = decide_reject(d, v->reject);
	else if (action == POLICY_DROP)
		verdict = DECIDE_DROP;
	else
		decide_rewrite(d);
	if (action == POLICY_REDIRECT)
		return bpf_redirect(ifindex, 0);
	if (verdict == DECIDE_DROP)
		note_drop(rule);
	return verdict;
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

/* Has the expressions asked, if they were not yet; they come back here (engine/policy.c). */
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

/* What was decided about the flow before holds, since its connection does. */
packet_inline int decide_held(struct decision *d)
{
	struct decide_ask *ask = d->ask;
	__u32 set = ask->set, way = ask->way % FLOW_WAYS, rule = 0, counter = POLICY_NO_COUNTER;
	struct flow_rest_set6 *rest;
	struct flow_set4 *set4;

	if (ask->packet.family != 6) {
		set4 = bpf_map_lookup_elem(&flow_cache4, &set);
		if (set4) {
			rule = set4->line[way].decision.rule;
			counter = set4->line[way].decision.counter;
		}
	} else {
		rest = bpf_map_lookup_elem(&flow_rest6, &set);
		if (rest) {
			rule = rest->line[way].decision.rule;
			counter = rest->line[way].decision.counter;
		}
	}
	decide_count(counter, ask->packets, ask->bytes, ask->now);
	if (ask->held & FLOW_VERDICT_DROP) {
		note_drop(rule);
		return DECIDE_DROP;
	}
	decide_commit(d, rule);
	return DECIDE_NEXT;
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

	decide_sets_of(
		&d->work->facts, d->header->asked, decide_place(d->in_force, SET_PLACE, d->ask->now) & 1);
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
		decide_log(d, v->rule, v->action);
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

SEC("tc") int decide(struct __sk_buff *skb)
{
	struct decision d = {.skb = skb, .in_force = decide_in_force()};
	__u32 zero = 0, place;

	d.ask = decide_is_question(skb) ? decide_question_ask() : decide_ask_get();
	if (!d.ask || !d.in_force)
		return DECIDE_NEXT;
	place = d.ask->slot;
	d.work = bpf_map_lookup_elem(&decide_works, &place);
	if (!d.work)
		return DECIDE_NEXT;
	d.number = decide_number(d.ask, d.in_force);
	place = d.place = decide_place(d.in_force, d.number, d.ask->now);
	d.policy = bpf_map_lookup_elem(&policies, &place);
	if (!d.policy)
		return decide_nothing(d.ask);
	d.header = bpf_map_lookup_elem(d.policy, &zero);
	if (!d.header) {
		decide_stat(broken);
		return DECIDE_NEXT;
	}
	if (d.header->flags & POLICY_EXPRESSIONS)
		decide_expressions_ask(&d, place);
	decide_begin(&d);
	decide_look(&d);
	if (d.ask->held & FLOW_VERDICT_TRACKED && d.work->facts.state == POLICY_STATE_ESTABLISHED)
		return decide_held(&d);
	if (decide_by_rules(&d)) {
		/* another place is in force meanwhile */
		d.ask->phase = 0;
		bpf_tail_call(skb, &decide_programs, 0);
		decide_stat(broken);
		return DECIDE_NEXT;
	}
	if (d.ask->explain)
		return DECIDE_NEXT;
	return decide_carry_out(&d);
}

/* -- asking -- */

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

SEC("tc") int decide_ask_ethernet(struct __sk_buff *skb)
{
	return decide_ask_about(skb, 1);
}

SEC("tc") int decide_ask_raw(struct __sk_buff *skb)
{
	return decide_ask_about(skb, 0);
}

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
