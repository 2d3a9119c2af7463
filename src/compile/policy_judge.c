// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* The second opinion about policies, and the packets that it is asked about. */
#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "basic/cleanup.h"
#include "compile/policy.h"
#include "compile/policy_rule.h"

#define BLOCK 64 /* rules that are looked at together */

/* Numbers that AVX2 compares at once; for other CPUs the compiler makes as many steps of it as it takes. */
#define LANES 8
typedef int32_t lanes __attribute__((vector_size(LANES * sizeof(int32_t))));
typedef uint32_t unsigned_lanes __attribute__((vector_size(LANES * sizeof(uint32_t))));

/*
 * What the values of a rule are, roughly: those outside do not fit.  Of addresses the first 64 bits: a word
 * that a prefix has in part is a range, one that it has not is all numbers.
 */
enum bound_name {
	BOUND_SRC_LOW, /* first, since IPv6 rules often have their first word in common */
	BOUND_DST_LOW,
	BOUND_SRC,
	BOUND_DST,
	BOUND_PROTO,
	BOUND_SPORT,
	BOUND_DPORT,
	BOUNDS
};

#define PROTO_NEVER 1024 /* no packet has it */

/* By rule.  A value v is inside if v - first <= span, which CPUs compare as signed numbers only: both are
 * moved by 2^31. */
struct bounds {
	int32_t *first, *span;
};

struct policy_judge {
	const struct policy_order *order;
	struct policy_rule_views views;
	struct bounds bounds[2][BOUNDS]; /* for IPv4 and IPv6 packets */
	struct bounds blocks[2][BOUNDS]; /* by block: around those of its rules */
};

static void bound_set(const struct bounds *bounds, size_t rule, uint32_t first, uint32_t last)
{
	bounds->first[rule] = (int32_t)(first ^ 0x80000000);
	bounds->span[rule] = (int32_t)((last - first) ^ 0x80000000);
}

static void bound_prefix(const struct bounds *bounds, size_t rule, const struct endpoint *endpoint,
	uint8_t family, unsigned int word)
{
	unsigned int length = endpoint->prefix.length;
	uint32_t first, inside;

	if (!endpoint->has_prefix || endpoint->prefix.address.family != family || length <= word * 32) {
		bound_set(bounds, rule, 0, UINT32_MAX);
		return;
	}
	length = length - word * 32 < 32 ? length - word * 32 : 32;
	inside = UINT32_MAX >> (length - 1) >> 1;
	memcpy(&first, endpoint->prefix.address.bytes + word * sizeof(first), sizeof(first));
	first = ntohl(first);
	bound_set(bounds, rule, first, first | inside);
}

static void bound_ports(const struct bounds *bounds, size_t rule, const struct endpoint *endpoint)
{
	uint32_t first = UINT16_MAX, last = 0;

	for (unsigned int i = 0; i < endpoint->port_count; i++) {
		if (endpoint->ports[i].low < first)
			first = endpoint->ports[i].low;
		if (endpoint->ports[i].high > last)
			last = endpoint->ports[i].high;
	}
	if (endpoint->port_count)
		bound_set(bounds, rule, first, last);
	else
		bound_set(bounds, rule, 0, UINT32_MAX);
}

static void judge_bounds(struct policy_judge *judge, size_t rule)
{
	const struct policy_rule_view *view = &judge->views.views[rule];
	const struct match *match = &view->rule->match;

	for (int i = 0; i < 2; i++) {
		const struct bounds *bounds = judge->bounds[i];
		uint8_t family = i ? 6 : 4;

		bound_prefix(&bounds[BOUND_SRC], rule, &match->from, family, 0);
		bound_prefix(&bounds[BOUND_DST], rule, &match->to, family, 0);
		bound_prefix(&bounds[BOUND_SRC_LOW], rule, &match->from, family, 1);
		bound_prefix(&bounds[BOUND_DST_LOW], rule, &match->to, family, 1);
		bound_ports(&bounds[BOUND_SPORT], rule, &match->from);
		bound_ports(&bounds[BOUND_DPORT], rule, &match->to);
		if (view->never || (view->family && view->family != family))
			bound_set(&bounds[BOUND_PROTO], rule, PROTO_NEVER, PROTO_NEVER);
		else if (view->protocol >= 0)
			bound_set(&bounds[BOUND_PROTO], rule, (uint32_t)view->protocol,
				(uint32_t)view->protocol);
		else
			bound_set(&bounds[BOUND_PROTO], rule, 0, PROTO_NEVER - 1);
	}
}

/* What is around the bounds of a block's rules, so that one look says of 64 blocks which to look at: rules of
 * neighbours often stand together. */
static void judge_block(struct policy_judge *judge, int family, int name, size_t block)
{
	const struct bounds *bounds = &judge->bounds[family][name];
	size_t end = (block + 1) * BLOCK < judge->views.count ? (block + 1) * BLOCK : judge->views.count;
	uint32_t first = UINT32_MAX, last = 0;

	for (size_t i = block * BLOCK; i < end; i++) {
		uint32_t low = (uint32_t)bounds->first[i] ^ 0x80000000;
		uint32_t high = low + ((uint32_t)bounds->span[i] ^ 0x80000000);

		first = low < first ? low : first;
		last = high > last ? high : last;
	}
	bound_set(&judge->blocks[family][name], block, first, last);
}

/* Room for whole blocks.  Behind the last number nothing fits. */
static int bounds_room(struct bounds *bounds, size_t count)
{
	size_t room = (count + BLOCK - 1) / BLOCK * BLOCK;
	size_t bytes = (room ? room : BLOCK) * sizeof(*bounds->first);

	bounds->first = aligned_alloc(sizeof(lanes), bytes);
	bounds->span = aligned_alloc(sizeof(lanes), bytes);
	if (!bounds->first || !bounds->span)
		return -ENOMEM;
	for (size_t n = count; n < room; n++)
		bound_set(bounds, n, PROTO_NEVER, PROTO_NEVER);
	return 0;
}

static size_t blocks_of(size_t rules)
{
	return (rules + BLOCK - 1) / BLOCK;
}

static int judge_room(struct policy_judge *judge)
{
	size_t count = judge->views.count;

	for (int i = 0; i < 2; i++)
		for (int k = 0; k < BOUNDS; k++)
			if (bounds_room(&judge->bounds[i][k], count) ||
				bounds_room(&judge->blocks[i][k], blocks_of(count)))
				return -ENOMEM;
	return 0;
}

int policy_judge_open(const struct policy_order *order, struct policy_judge **ret_judge, struct error *error)
{
	struct policy_judge *judge = calloc(1, sizeof(*judge));
	int r;

	if (!judge)
		return error_set(error, -ENOMEM, "no memory for the policy");
	judge->order = order;
	r = policy_rule_views_make(&judge->views, order, error);
	if (!r && judge_room(judge))
		r = error_set(error, -ENOMEM, "no memory for the policy");
	if (r) {
		policy_judge_close(judge);
		return r;
	}
	for (size_t i = 0; i < judge->views.count; i++)
		judge_bounds(judge, i);
	for (int i = 0; i < 2; i++)
		for (int k = 0; k < BOUNDS; k++)
			for (size_t block = 0; block < blocks_of(judge->views.count); block++)
				judge_block(judge, i, k, block);
	*ret_judge = judge;
	return 0;
}

void policy_judge_close(struct policy_judge *judge)
{
	if (!judge)
		return;
	policy_rule_views_clear(&judge->views);
	for (int i = 0; i < 2; i++)
		for (int k = 0; k < BOUNDS; k++) {
			free(judge->bounds[i][k].first);
			free(judge->bounds[i][k].span);
			free(judge->blocks[i][k].first);
			free(judge->blocks[i][k].span);
		}
	free(judge);
}

/*
 * Does a rule fit?
 */

static struct address facts_address(const struct policy_facts *facts, const __be32 *words)
{
	struct address address = {.family = facts->family};

	memcpy(address.bytes, words, facts->family == 4 ? 4 : 16);
	return address;
}

static bool prefix_fits(
	const struct endpoint *endpoint, const struct policy_facts *facts, const __be32 *words)
{
	struct address address;

	if (!endpoint->has_prefix)
		return true;
	if (endpoint->prefix.address.family != facts->family)
		return false;
	address = facts_address(facts, words);
	return prefix_contains(&endpoint->prefix, &address);
}

static bool ports_fit(const struct port_range *ranges, size_t count, uint32_t port)
{
	for (size_t i = 0; i < count; i++)
		if (ranges[i].low <= port && port <= ranges[i].high)
			return true;
	return false;
}

static bool end_fits(
	const struct endpoint *endpoint, const struct policy_facts *facts, const __be32 *words, uint32_t port)
{
	return prefix_fits(endpoint, facts, words) &&
	       (!endpoint->port_count || ports_fit(endpoint->ports, endpoint->port_count, port));
}

static bool either_fits(const struct endpoint *either, const struct policy_facts *facts)
{
	if (either->has_prefix && !prefix_fits(either, facts, facts->src) &&
		!prefix_fits(either, facts, facts->dst))
		return false;
	return !either->port_count || ports_fit(either->ports, either->port_count, facts->sport) ||
	       ports_fit(either->ports, either->port_count, facts->dport);
}

/* -1: whatever is asked for is there. */
static bool set_has(const struct policy_world *world, int set, uint32_t combination)
{
	return set < 0 ||
	       (combination < world->combination_count && world->combinations[combination] >> set & 1);
}

static bool set_fits(const struct policy_judge *judge, const struct policy_rule_view *view, unsigned int end,
	uint32_t combination, uint32_t port)
{
	const struct policy_world *world = judge->order->world;

	return set_has(world, view->sets[end], combination) &&
	       (!view->port_sets[end] || ports_fit(view->port_sets[end], view->port_set_counts[end], port));
}

static bool either_set_fits(const struct policy_judge *judge, const struct policy_rule_view *view,
	const struct policy_facts *facts)
{
	const struct policy_world *world = judge->order->world;
	int set = view->sets[2];

	if (!set_has(world, set, facts->src_sets) && !set_has(world, set, facts->dst_sets))
		return false;
	return !view->port_sets[2] || ports_fit(view->port_sets[2], view->port_set_counts[2], facts->sport) ||
	       ports_fit(view->port_sets[2], view->port_set_counts[2], facts->dport);
}

static bool header_fits(const struct policy_rule_view *view, const struct policy_facts *facts)
{
	const struct match *match = &view->rule->match;
	const struct rule_packet *packet = &view->rule->packet;

	if ((view->family && view->family != facts->family) || !(view->directions & 1U << facts->out) ||
		(match->protocol >= 0 && facts->proto != match->protocol))
		return false;
	if (match->icmp_type >= 0 &&
		(facts->icmp > 0xffff || (int)(facts->icmp >> 8) != match->icmp_type ||
			(packet->icmp_code >= 0 && (int)(facts->icmp & 0xff) != packet->icmp_code)))
		return false;
	if ((match->tcp_flags || packet->flags_mask) &&
		(facts->flags > 0xff || (facts->flags & match->tcp_flags) != match->tcp_flags ||
			(facts->flags & packet->flags_mask) != packet->flags))
		return false;
	if (packet->dscp >= 0 && facts->dscp != packet->dscp)
		return false;
	switch (packet->fragment) {
	case RULE_FRAGMENT_ANY:
		return true;
	case RULE_FRAGMENT_FIRST_OR_LATER:
		return facts->fragment != 0;
	case RULE_FRAGMENT_FIRST:
		return facts->fragment == 1;
	case RULE_FRAGMENT_LATER:
		return facts->fragment == 2;
	}
	return false;
}

/* What XDP does not see. */
static bool rest_fits(const struct policy_rule_view *view, const struct policy_facts *facts)
{
	const struct rule_packet *packet = &view->rule->packet;

	if (view->loose)
		return true;
	if ((packet->states && !(packet->states >> facts->state & 1)) ||
		(view->rule->match.vlan >= 0 && facts->vlan != view->rule->match.vlan) ||
		(packet->untagged && facts->vlan < 4096) || (facts->mark & packet->mark_mask) != packet->mark)
		return false;
	if (view->owner && (facts->owners >> (view->owner - 1) & 1) == view->rule->owner_not)
		return false;
	return !view->expression ||
	       (facts->expressions >> (view->expression - 1) & 1) != packet->expression_not;
}

static bool rule_fits(const struct policy_judge *judge, const struct policy_rule_view *view,
	const struct policy_facts *facts)
{
	const struct match *match = &view->rule->match;

	return !view->never && header_fits(view, facts) &&
	       end_fits(&match->from, facts, facts->src, facts->sport) &&
	       end_fits(&match->to, facts, facts->dst, facts->dport) && either_fits(&match->either, facts) &&
	       set_fits(judge, view, 0, facts->src_sets, facts->sport) &&
	       set_fits(judge, view, 1, facts->dst_sets, facts->dport) &&
	       either_set_fits(judge, view, facts) && (!view->ifindex || view->ifindex == facts->ifindex) &&
	       rest_fits(view, facts);
}

/* Rules of a block (or blocks, of 64 of them) that may fit, a bit each: as many comparisons at once as the
 * CPU can. */
static inline __attribute__((always_inline)) uint64_t block_look(
	const struct bounds bounds[BOUNDS], size_t block, const uint32_t values[BOUNDS], bool ip6)
{
	lanes out[BLOCK / LANES] = {0};
	uint64_t mask = 0;

	for (int k = 0; k < BOUNDS; k++) {
		const unsigned_lanes *first = (const unsigned_lanes *)(bounds[k].first + block);
		const lanes *span = (const lanes *)(bounds[k].span + block);
		uint32_t value = values[k];
		int32_t none = -1;
		lanes all = {-1, -1, -1, -1, -1, -1, -1, -1};

		if (!ip6 && (k == BOUND_SRC_LOW || k == BOUND_DST_LOW))
			continue;
		for (int i = 0; i < BLOCK / LANES; i++) {
			out[i] |= (lanes)((lanes)(value - first[i]) > span[i]);
			all &= out[i];
		}
		for (int i = 0; i < LANES; i++)
			none &= all[i];
		if (none == -1)
			return 0;
	}
	for (int i = 0; i < BLOCK; i++)
		mask |= (uint64_t)!out[i / LANES][i % LANES] << i;
	return mask;
}

/* The first view of views[start..end) that `fits`; `end`: none. */
typedef bool fit_function(const struct policy_judge *judge, size_t rule, const void *what);

static inline __attribute__((always_inline)) size_t views_search(const struct policy_judge *judge,
	const struct policy_facts *facts, size_t start, size_t end, fit_function *fits, const void *what)
{
	const uint32_t values[BOUNDS] = {
		[BOUND_SRC] = ntohl(facts->src[0]),
		[BOUND_DST] = ntohl(facts->dst[0]),
		[BOUND_SRC_LOW] = ntohl(facts->src[1]),
		[BOUND_DST_LOW] = ntohl(facts->dst[1]),
		[BOUND_PROTO] = facts->proto,
		[BOUND_SPORT] = facts->sport,
		[BOUND_DPORT] = facts->dport,
	};
	bool ip6 = facts->family == 6;

	if (!facts->family) {
		for (size_t i = start; i < end; i++)
			if (fits(judge, i, what))
				return i;
		return end;
	}
	for (size_t group = start / BLOCK / BLOCK * BLOCK; group * BLOCK < end; group += BLOCK) {
		uint64_t blocks = block_look(judge->blocks[ip6], group, values, ip6);

		if (group < start / BLOCK)
			blocks &= UINT64_MAX << (start / BLOCK - group);
		for (; blocks; blocks &= blocks - 1) {
			size_t block = (group + (size_t)__builtin_ctzll(blocks)) * BLOCK;
			uint64_t mask = block_look(judge->bounds[ip6], block, values, ip6);

			if (block < start)
				mask &= UINT64_MAX << (start - block);
			for (; mask; mask &= mask - 1) {
				size_t i = block + (size_t)__builtin_ctzll(mask);

				if (i >= end || fits(judge, i, what))
					return i < end ? i : end;
			}
		}
	}
	return end;
}

#ifdef __x86_64__
__attribute__((target("avx2"))) static size_t views_search_avx2(const struct policy_judge *judge,
	const struct policy_facts *facts, size_t start, size_t end, fit_function *fits, const void *what)
{
	return views_search(judge, facts, start, end, fits, what);
}
#endif

static size_t judge_search(const struct policy_judge *judge, const struct policy_facts *facts, size_t start,
	size_t end, fit_function *fits, const void *what)
{
#ifdef __x86_64__
	if (__builtin_cpu_supports("avx2"))
		return views_search_avx2(judge, facts, start, end, fits, what);
#endif
	return views_search(judge, facts, start, end, fits, what);
}

static bool fit_facts(const struct policy_judge *judge, size_t rule, const void *what)
{
	return rule_fits(judge, &judge->views.views[rule], what);
}

/* Views are those of all rules, or for XDP of some: the first one of a rule from `start` on. */
static size_t view_from(const struct policy_judge *judge, size_t start)
{
	size_t low = 0, high = judge->views.count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (judge->views.views[middle].source < start)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

size_t policy_judge(const struct policy_judge *judge, const struct policy_facts *facts, size_t start)
{
	size_t i = start ? view_from(judge, start) : 0;

	i = judge_search(judge, facts, i, judge->views.count, fit_facts, facts);
	return i < judge->views.count ? judge->views.views[i].source : judge->order->count;
}

/*
 * Edges
 */

struct edges {
	const struct policy_judge *judge;
	policy_edge_function *function;
	void *context;
	const struct policy_rule_view *view;
	struct policy_facts base; /* a packet that fits the rule, as far as words can say */
	int result;
};

static void edge(struct edges *edges, struct policy_facts facts)
{
	if (edges->result)
		return;
	/* addresses belong to packets of IP, and the lowest words of IPv4's are nothing */
	for (int i = facts.family == 4 ? 1 : facts.family ? 4 : 0; i < 4; i++)
		facts.src[i] = facts.dst[i] = 0;
	edges->result = edges->function(edges->context, &facts);
}

static void set_address(__be32 *words, const struct prefix *prefix, bool last)
{
	uint8_t bytes[16];

	memcpy(bytes, prefix->address.bytes, sizeof(bytes));
	for (unsigned int i = prefix->length; last && i < 128; i++)
		bytes[i / 8] |= (uint8_t)(0x80 >> i % 8);
	memcpy(words, bytes, sizeof(bytes));
}

/* The address before the first one, or behind the last. */
static void step_address(__be32 *words, bool up)
{
	uint8_t bytes[16];

	memcpy(bytes, words, sizeof(bytes));
	for (int i = 15; i >= 0; i--)
		if (up ? ++bytes[i] != 0 : bytes[i]-- != 0)
			break;
	memcpy(words, bytes, sizeof(bytes));
}

static void edges_prefix(struct edges *edges, const struct endpoint *endpoint, unsigned int end)
{
	if (!endpoint->has_prefix)
		return;
	for (int last = 0; last < 2; last++) {
		struct policy_facts facts = edges->base;
		__be32 *words = end ? facts.dst : facts.src;

		set_address(words, &endpoint->prefix, last);
		edge(edges, facts);
		if (endpoint->prefix.address.family == 4) {
			*words = htonl(last ? ntohl(*words) + 1 : ntohl(*words) - 1);
		} else {
			step_address(words, last);
		}
		edge(edges, facts);
	}
}

#define PORT_EDGES_MAX 64 /* ranges of one list: of longer ones the first and the last */

static void edges_ports(struct edges *edges, const struct port_range *ranges, size_t count, unsigned int end)
{
	for (size_t i = 0; i < count; i++) {
		const uint32_t ports[] = {
			ranges[i].low, ranges[i].high, ranges[i].low - 1U, ranges[i].high + 1U, 65536};

		if (i == PORT_EDGES_MAX / 2 && count > PORT_EDGES_MAX)
			i = count - PORT_EDGES_MAX / 2;
		for (size_t k = 0; k < sizeof(ports) / sizeof(ports[0]); k++) {
			struct policy_facts facts = edges->base;

			/* before port 0 there is none */
			*(end ? &facts.dport : &facts.sport) = ports[k] > 65536 ? 65536 : ports[k];
			edge(edges, facts);
		}
	}
}

static void edges_end(struct edges *edges, const struct endpoint *endpoint, unsigned int end)
{
	edges_prefix(edges, endpoint, end);
	edges_ports(edges, endpoint->ports, endpoint->port_count, end);
}

#define COMBINATION_EDGES_MAX 64

/* `which`: the list of an end, or (2) of either. */
static void edges_sets(struct edges *edges, unsigned int which, unsigned int end)
{
	const struct policy_world *world = edges->judge->order->world;

	for (uint32_t i = 0;
		edges->view->sets[which] >= 0 && i < world->combination_count && i < COMBINATION_EDGES_MAX;
		i++) {
		struct policy_facts facts = edges->base;

		*(end ? &facts.dst_sets : &facts.src_sets) = i;
		edge(edges, facts);
	}
	edges_ports(edges, edges->view->port_sets[which], edges->view->port_set_counts[which], end);
}

#define EDGES_OF(edges, field, ...)                                                                          \
	do {                                                                                                 \
		const uint32_t values_[] = {__VA_ARGS__};                                                    \
                                                                                                             \
		for (size_t i_ = 0; i_ < sizeof(values_) / sizeof(values_[0]); i_++) {                       \
			struct policy_facts facts_ = (edges)->base;                                          \
                                                                                                             \
			facts_.field = (__typeof__(facts_.field))values_[i_];                                \
			edge((edges), facts_);                                                               \
		}                                                                                            \
	} while (0)

static void edges_values(struct edges *edges)
{
	const struct policy_rule_view *view = edges->view;
	const struct match *match = &view->rule->match;
	const struct rule_packet *packet = &view->rule->packet;

	if (view->protocol >= 0)
		EDGES_OF(edges, proto, ((uint32_t)view->protocol - 1) & 0xff,
			((uint32_t)view->protocol + 1) & 0xff, 256);
	if (match->icmp_type >= 0)
		EDGES_OF(edges, icmp, edges->base.icmp + 1, (edges->base.icmp - 1) & 0x1ffff,
			(uint32_t)match->icmp_type << 8 | 0xff,
			((uint32_t)match->icmp_type + 1) << 8 & 0xffff, 65536);
	if (match->tcp_flags || packet->flags_mask) {
		uint32_t mask = match->tcp_flags | packet->flags_mask;

		for (uint32_t bit = 1; bit < 256; bit <<= 1)
			if (mask & bit)
				EDGES_OF(edges, flags, edges->base.flags ^ bit);
		EDGES_OF(edges, flags, edges->base.flags | (~mask & 0xff), 256);
	}
	if (packet->dscp >= 0)
		EDGES_OF(edges, dscp, ((uint32_t)packet->dscp - 1) & 63, ((uint32_t)packet->dscp + 1) & 63,
			64);
	if (match->vlan >= 0)
		EDGES_OF(edges, vlan, ((uint32_t)match->vlan - 1) & 0xfff,
			((uint32_t)match->vlan + 1) & 0xfff, 4096);
	if (packet->untagged)
		EDGES_OF(edges, vlan, 0, 4095);
	if (view->fragments)
		EDGES_OF(edges, fragment, 0, 1, 2);
	if (packet->states)
		EDGES_OF(edges, state, 0, 1, 2, 3, 4);
	if (view->ifindex)
		EDGES_OF(edges, ifindex, view->ifindex - 1, view->ifindex + 1);
	if (packet->mark_mask)
		EDGES_OF(edges, mark, packet->mark ^ packet->mark_mask, packet->mark | ~packet->mark_mask, 0);
	EDGES_OF(edges, out, 0, 1);
}

static void edges_conditions(struct edges *edges)
{
	struct policy_facts facts = edges->base;

	if (edges->view->owner) {
		facts.owners ^= 1ULL << (edges->view->owner - 1);
		edge(edges, facts);
	}
	if (edges->view->expression) {
		facts = edges->base;
		facts.expressions ^= 1ULL << (edges->view->expression - 1);
		edge(edges, facts);
	}
}

static uint32_t combination_with(const struct policy_world *world, int set)
{
	for (uint32_t i = 0; set >= 0 && i < world->combination_count; i++)
		if (world->combinations[i] >> set & 1)
			return i;
	return 0;
}

static uint32_t first_port(const struct endpoint *endpoint, const struct port_range *set, uint32_t otherwise)
{
	return endpoint->port_count ? endpoint->ports[0].low : set ? set->low : otherwise;
}

/* A packet that fits a rule, of a family. */
static struct policy_facts fitting(
	const struct policy_judge *judge, const struct policy_rule_view *view, uint8_t family)
{
	const struct match *match = &view->rule->match;
	const struct rule_packet *packet = &view->rule->packet;
	const struct endpoint *source = match->from.has_prefix ? &match->from : &match->either;
	struct policy_facts facts = {
		.family = family,
		.out = view->directions == 2,
		.proto = view->protocol >= 0 ? (uint16_t)view->protocol : IPPROTO_TCP,
		.sport = first_port(&match->from, view->port_sets[0], 40000),
		.dport = first_port(
			&match->to, view->port_sets[1], first_port(&match->either, view->port_sets[2], 4711)),
		.icmp = 65536,
		.flags = 256,
		.vlan = match->vlan >= 0 ? (uint16_t)match->vlan : 4096,
		.dscp = packet->dscp >= 0 ? (uint8_t)packet->dscp : 0,
		.ifindex = view->ifindex ? view->ifindex : 1,
		.mark = packet->mark,
		.src_sets = combination_with(
			judge->order->world, view->sets[0] >= 0 ? view->sets[0] : view->sets[2]),
		.dst_sets = combination_with(judge->order->world, view->sets[1]),
	};

	if (match->icmp_type >= 0)
		facts.icmp = (uint32_t)match->icmp_type << 8 |
		             (packet->icmp_code < 0 ? 0 : (uint32_t)packet->icmp_code);
	if (facts.proto == IPPROTO_TCP)
		facts.flags = match->tcp_flags | packet->flags;
	if (packet->fragment != RULE_FRAGMENT_ANY)
		facts.fragment = packet->fragment == RULE_FRAGMENT_LATER ? 2 : 1;
	if (packet->states)
		facts.state = (uint8_t)__builtin_ctz(packet->states);
	if (view->owner && !view->rule->owner_not)
		facts.owners = 1ULL << (view->owner - 1);
	if (view->expression && !packet->expression_not)
		facts.expressions = 1ULL << (view->expression - 1);
	facts.src[0] = htonl(0x0a000001);
	facts.dst[0] = htonl(0xc0000201);
	if (source->has_prefix)
		set_address(facts.src, &source->prefix, false);
	if (match->to.has_prefix)
		set_address(facts.dst, &match->to.prefix, false);
	return facts;
}

static void edges_rule(struct edges *edges)
{
	const struct match *match = &edges->view->rule->match;

	edge(edges, edges->base);
	edges_end(edges, &match->from, 0);
	edges_end(edges, &match->to, 1);
	for (unsigned int end = 0; end < 2; end++) {
		edges_end(edges, &match->either, end);
		edges_sets(edges, end, end);
		edges_sets(edges, 2, end);
	}
	edges_values(edges);
	edges_conditions(edges);
}

int policy_edges(
	const struct policy_judge *judge, const bool *changed, policy_edge_function *function, void *context)
{
	static const uint8_t families[] = {4, 6, 0};
	struct edges edges = {.judge = judge, .function = function, .context = context};

	for (size_t i = 0; i < judge->views.count && !edges.result; i++) {
		edges.view = &judge->views.views[i];
		if (changed && !changed[edges.view->source])
			continue;
		for (size_t k = 0; k < sizeof(families); k++) {
			if (edges.view->family && edges.view->family != families[k])
				continue;
			edges.base = fitting(judge, edges.view, families[k]);
			if (families[k])
				edges_rule(&edges);
			else
				edge(&edges, edges.base);
		}
	}
	return edges.result;
}

/*
 * Shadows
 */

static bool covers(const struct policy_judge *judge, size_t rule, const void *what)
{
	const struct policy_rule_view *wide = &judge->views.views[rule], *narrow = what;

	return (wide->action == POLICY_ACCEPT || wide->action == POLICY_DROP ||
		       wide->action == POLICY_REJECT || wide->action == POLICY_REDIRECT) &&
	       !wide->never && rule_covers(wide->rule, narrow->rule);
}

void policy_shadows(const struct policy_judge *judge, policy_shadow_function *function, void *context)
{
	for (size_t i = 1; i < judge->views.count; i++) {
		const struct policy_rule_view *view = &judge->views.views[i];
		struct policy_facts facts = fitting(judge, view, view->family ? view->family : 4);
		size_t hiding = judge_search(judge, &facts, 0, i, covers, view);

		if (hiding < i)
			function(context, view->source, judge->views.views[hiding].source);
	}
}
