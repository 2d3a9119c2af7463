// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * Socket rules at the hooks of the root cgroup (shared/guard.h): socket(), bind(), connect() and sending a
 * datagram to an address.  Returning 0 makes the call fail with EPERM.
 *
 * All of these run in the context of the process that calls, so the owner that is judged is who calls now,
 * not who created the socket.
 */
#define OWNER_RECORDS
#include "shared/guard.h"
#include "bpf/lib/condition.h"
#include "bpf/lib/decide.h"
#include "bpf/lib/live.h"
#include "bpf/lib/owner.h"

#define AF_INET  2
#define AF_INET6 10

#define IPPROTO_TCP   6
#define IPPROTO_MPTCP 262

#define SECOND_NS 1000000000

/* Sizes, not types: clang has no definition of a struct that only an inner map names in its BTF. */
struct guard_policy_map {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(struct guard_policy));
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 2); /* by bit GUARD_PLACE of policy_now.places */
	__type(key, __u32);
	__array(values, struct guard_policy_map);
} guard_policies SEC(".maps");

/* The agent makes the entries, so a rule that is gone leaves nothing behind. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, GUARD_HITS_MAX);
	__type(key, __u32);
	__type(value, struct guard_hits);
} guard_hits SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct guard_stats);
} guard_stats SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 64 * 1024);
} guard_ring SEC(".maps");

/* A call, and what came of asking the rules about it. */
struct question {
	const struct guard_policy *policy;
	const struct guard_list *list;    /* of the policy, for this call */
	const struct guard_rule *decided; /* NULL: no rule fits */
	const struct owner *who;          /* NULL: not known */
	__be32 address[4];
	__u16 port; /* host byte order */
	__u16 protocol;
	__u8 call, family, type;
};

static __always_inline int owner_fits(const struct guard_rule *rule, const struct owner *who)
{
	if (rule->owner.kind == OWNER_CONDITION_ANY)
		return 1;
	return who && condition_fits(&rule->owner, who) != rule->owner_not;
}

static __always_inline int address_fits(const struct guard_rule *rule, const struct question *question)
{
	return (question->address[0] & rule->mask[0]) == rule->address[0] &&
	       (question->address[1] & rule->mask[1]) == rule->address[1] &&
	       (question->address[2] & rule->mask[2]) == rule->address[2] &&
	       (question->address[3] & rule->mask[3]) == rule->address[3];
}

static __always_inline int port_fits(const struct guard_rule *rule, __u16 port)
{
	if (!rule->port_count)
		return 1;
	for (__u32 i = 0; i < GUARD_PORTS_MAX; i++) {
		if (i >= rule->port_count)
			return 0;
		if (port >= rule->ports[i].low && port <= rule->ports[i].high)
			return 1;
	}
	return 0;
}

/* Asks one rule; 1 ends the loop. */
static long rule_ask(__u32 place, struct question *question)
{
	__u32 number = question->list->rules[place & (GUARD_RULES_MAX - 1)];
	const struct guard_rule *rule = &question->policy->rules[number & (GUARD_RULES_MAX - 1)];

	/* what decides most often and costs least first */
	if ((rule->family && rule->family != question->family) ||
		(rule->type && rule->type != question->type) ||
		(rule->protocol >= 0 && rule->protocol != question->protocol) ||
		!address_fits(rule, question) || !owner_fits(rule, question->who) ||
		!port_fits(rule, question->port))
		return 0;
	question->decided = rule;
	return 1;
}

static __always_inline struct guard_stats *stats_get(void)
{
	__u32 key = 0;

	return bpf_map_lookup_elem(&guard_stats, &key);
}

/* May this denied call of the rule be reported?  Two CPUs may both begin a second; then a few more are. */
static __always_inline int report_allowed(struct guard_hits *hits, __u64 now)
{
	__u64 second = now / SECOND_NS;

	if (hits->second != second) {
		hits->second = second;
		hits->reported = 0;
	}
	return __sync_fetch_and_add(&hits->reported, 1) < GUARD_REPORTS_MAX;
}

static __always_inline void denial_report(const struct question *question, __u32 rule, __u64 now)
{
	struct guard_denial *denial = bpf_ringbuf_reserve(&guard_ring, sizeof(*denial), 0);
	struct guard_stats *stats;

	if (!denial) {
		stats = stats_get();
		if (stats)
			__sync_fetch_and_add(&stats->unreported, 1);
		return;
	}
	*denial = (struct guard_denial){
		.time_ns = now,
		.rule = rule,
		.owner = question->who ? question->who->id : OWNER_UNKNOWN,
		.pid = bpf_get_current_pid_tgid() >> 32,
		.uid = question->who ? question->who->key.uid : (__u32)bpf_get_current_uid_gid(),
		.call = question->call,
		.family = question->family,
		.type = question->type,
		.protocol = question->protocol,
		.port = question->port,
		.address = {question->address[0], question->address[1], question->address[2],
			question->address[3]},
	};
	bpf_get_current_comm(denial->command, sizeof(denial->command));
	bpf_ringbuf_submit(denial, 0);
}

/* Counts what the rule decided; 1: the call may go on. */
static __always_inline int decision_count(const struct question *question)
{
	const struct guard_rule *rule = question->decided;
	__u64 now = bpf_ktime_get_ns();
	struct guard_stats *stats;
	struct guard_hits *hits;
	__u32 id = rule->id;

	hits = bpf_map_lookup_elem(&guard_hits, &id);
	if (hits) {
		__sync_fetch_and_add(&hits->hits, 1);
		hits->last_ns = now;
	}
	if (rule->allow)
		return 1;
	stats = stats_get();
	if (stats)
		__sync_fetch_and_add(&stats->denied, 1);
	if (hits && report_allowed(hits, now))
		denial_report(question, id, now);
	else if (stats)
		__sync_fetch_and_add(&stats->unreported, 1);
	return 0;
}

static __always_inline const struct guard_policy *policy_get(void)
{
	__u32 zero = 0, place;
	const struct policy_now *in_force = bpf_map_lookup_elem(&policy_now, &zero);
	void *map;

	if (!in_force)
		return (void *)0;
	place = decide_place(in_force, GUARD_PLACE, in_force->deadline ? bpf_jiffies64() : 0) & 1;
	map = bpf_map_lookup_elem(&guard_policies, &place);
	return map ? bpf_map_lookup_elem(map, &zero) : (void *)0;
}

/* 1: the call may go on. */
static __always_inline int question_ask(struct question *question)
{
	struct guard_stats *stats;

	if (!question->who) {
		stats = stats_get();
		if (stats)
			__sync_fetch_and_add(&stats->unidentified, 1);
	}
	bpf_loop(question->list->count & (2 * GUARD_RULES_MAX - 1), rule_ask, question, 0);
	return question->decided ? decision_count(question) : 1;
}

/* A multipath socket is a TCP socket to whoever writes rules. */
static __always_inline __u16 protocol_of(__u32 protocol)
{
	return protocol == IPPROTO_MPTCP ? IPPROTO_TCP : protocol;
}

/* 1 for 0, otherwise 0, without a branch: each branch doubles what the verifier has to look at. */
static __always_inline __u32 is_zero(__u32 value)
{
	__u32 zero = ((__u64)value - 1) >> 63;

	asm volatile("" : "+r"(zero));
	return zero;
}

/* An IPv4 address in IPv6's clothes is an IPv4 address. */
static __always_inline void undress(struct question *question)
{
	__be32 *a = question->address;
	__u32 is_ipv4 = is_zero(a[0] | a[1] | (a[2] ^ bpf_htonl(0xffff)));

	question->family = 6 - 2 * is_ipv4;
	a[0] |= a[3] & -is_ipv4;
	a[2] &= is_ipv4 - 1;
	a[3] &= is_ipv4 - 1;
}

/* To connect to no address at all means this host. */
static __always_inline void nowhere_is_here(struct question *question)
{
	__be32 *a = question->address;
	__u32 is_none = is_zero(a[0] | a[1] | a[2] | a[3]), is_ipv4 = is_zero(question->family ^ 4);

	a[0] |= bpf_htonl(0x7f000001) & -(is_none & is_ipv4);
	a[3] |= bpf_htonl(1) & -(is_none & (is_ipv4 ^ 1));
}

/* A function that is verified for itself, once, and not again in each program. */
__noinline __u32 caller_id(int again)
{
	if (again)
		owner_forget_current();
	return owner_current();
}

/* Who is calling: NULL where that cannot be known. */
static __always_inline const struct owner *caller_get(void)
{
	const struct owner *who = owner_get(caller_id(0));

	return who ? who : owner_get(caller_id(1));
}

/* These two are functions of their own so that their frames and those of finding out the owner never stand on
 * the stack together. */
static __noinline int create_ask(
	struct bpf_sock *ctx, const struct guard_policy *policy, const struct owner *who)
{
	struct question question = {.policy = policy, .who = who, .call = GUARD_CREATE};

	if (!policy)
		return 1;
	question.list = &policy->lists[GUARD_CREATE];
	question.family = ctx->family == AF_INET6 ? 6 : 4;
	question.type = ctx->type;
	question.protocol = protocol_of(ctx->protocol);
	return question_ask(&question);
}

static __noinline int address_ask(struct bpf_sock_addr *ctx, const struct guard_policy *policy,
	const struct owner *who, __u32 call, int ip6)
{
	struct question question = {.policy = policy, .who = who, .call = call, .family = 4};

	if (!policy || call >= GUARD_CALLS)
		return 1;
	question.list = &policy->lists[call];
	question.type = ctx->type;
	question.protocol = protocol_of(ctx->protocol);
	question.port = bpf_ntohs((__u16)ctx->user_port);
	if (ip6) {
		question.address[0] = ctx->user_ip6[0];
		question.address[1] = ctx->user_ip6[1];
		question.address[2] = ctx->user_ip6[2];
		question.address[3] = ctx->user_ip6[3];
		undress(&question);
	} else {
		question.address[0] = ctx->user_ip4;
	}
	if (call != GUARD_BIND)
		nowhere_is_here(&question);
	return question_ask(&question);
}

/* The policy, if it has rules for this call in our network namespace; NULL otherwise. */
#define policy_for(ctx, call)                                                                                \
	({                                                                                                   \
		const struct guard_policy *policy_ = policy_get();                                           \
		policy_ && policy_->lists[call].count &&bpf_get_netns_cookie(ctx) == netns_cookie            \
			? policy_                                                                            \
			: (void *)0;                                                                         \
	})

static __always_inline int address_judge(struct bpf_sock_addr *ctx, __u32 call, int ip6)
{
	const struct guard_policy *policy = policy_for(ctx, call);

	return policy ? address_ask(ctx, policy, caller_get(), call, ip6) : 1;
}

static __always_inline int connect_judge(struct bpf_sock_addr *ctx, int ip6)
{
	__u32 type = ctx->type;
	__u32 is_datagram = type >> 1 & ~type & 1; /* type == SOCK_DGRAM, which is 2, without a branch */

	asm volatile("" : "+r"(is_datagram));
	is_datagram &= 1;
	return address_judge(
		ctx, GUARD_CONNECT + (GUARD_CONNECT_DATAGRAM - GUARD_CONNECT) * is_datagram, ip6);
}

SEC("cgroup/sock_create")
int guard_create(struct bpf_sock *ctx)
{
	const struct guard_policy *policy = policy_for(ctx, GUARD_CREATE);

	return policy ? create_ask(ctx, policy, caller_get()) : 1;
}

SEC("cgroup/bind4")
int guard_bind4(struct bpf_sock_addr *ctx)
{
	return address_judge(ctx, GUARD_BIND, 0);
}

SEC("cgroup/bind6")
int guard_bind6(struct bpf_sock_addr *ctx)
{
	return address_judge(ctx, GUARD_BIND, 1);
}

SEC("cgroup/connect4")
int guard_connect4(struct bpf_sock_addr *ctx)
{
	return connect_judge(ctx, 0);
}

SEC("cgroup/connect6")
int guard_connect6(struct bpf_sock_addr *ctx)
{
	return connect_judge(ctx, 1);
}

SEC("cgroup/sendmsg4")
int guard_send4(struct bpf_sock_addr *ctx)
{
	return address_judge(ctx, GUARD_SEND, 0);
}

SEC("cgroup/sendmsg6")
int guard_send6(struct bpf_sock_addr *ctx)
{
	return address_judge(ctx, GUARD_SEND, 1);
}

char _license[] SEC("license") = "Dual BSD/GPL";
