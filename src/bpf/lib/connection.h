/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Connections: which one a packet belongs to, and what it is to it (shared/connection.h says what stands
 * where).  For tc programs.
 *
 *	sight = { .now = …, .length = skb->len, .followed = … };
 *	known = connection_look(skb, p, &sight);         sight.state is what rules ask for
 *	… the rules decide …
 *	sight.rule = …; sight.policy = …;
 *	connection_commit(p, &sight, known);             only if the packet was accepted
 *
 * The look changes nothing.  Both belong into one function, since no other can return or keep `known`.  A
 * flow whose verdict is kept must come here at least every CONNECTION_REFRESH ticks, or its connection times
 * out; and for each packet of TCP where `followed` says so.
 */
#ifndef WEIR_BPF_CONNECTION_H
#define WEIR_BPF_CONNECTION_H

#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "bpf/lib/packet.h"
#include "bpf/lib/segment.h"
#include "bpf/lib/window.h"
#include "shared/connection.h"
#include "shared/policy.h"

/* Who counts connections says before this header how one that is over is taken off: its limit + 1, or 0, and
 * whom it counts for (bpf/lib/limit.h). */
#ifndef connection_uncount
#define connection_uncount(limit, whom) ((void)(limit), (void)(whom))
#endif

#define CONNECTION_REFRESH      1024 /* ticks */
#define CONNECTION_LAST_SHIFT   7    /* `last` is right to so many ticks, as a power of two */
#define CONNECTION_STREAM_TICKS 1024 /* UDP that goes on for longer than a question and an answer */

/* The agent sets the sizes. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1);
	__type(key, struct connection_key);
	__type(value, struct connection);
} connections SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1);
	__type(key, struct connection_key);
	__type(value, struct connection);
} embryos SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1);
	__type(key, struct connection_fragment_key);
	__type(value, struct connection_fragment);
} fragments SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, CONNECTION_TIMES);
	__type(key, __u32);
	__type(value, __u32);
} connection_times SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct connection_stats);
} connection_stats SEC(".maps");

#define CONNECTION_COUNT(field)                                                                              \
	do {                                                                                                 \
		__u32 zero_ = 0;                                                                             \
		struct connection_stats *stats_ = bpf_map_lookup_elem(&connection_stats, &zero_);            \
                                                                                                             \
		if (stats_)                                                                                  \
			stats_->field++;                                                                     \
	} while (0)

/* What a packet is to the table. */
enum connection_sort {
	CONNECTION_SORT_NONE,     /* not tracked: not IP, neighbour discovery, … */
	CONNECTION_SORT_BAD,      /* cannot be read: invalid */
	CONNECTION_SORT_PACKET,   /* of the connection `key` */
	CONNECTION_SORT_ERROR,    /* ICMP: about the connection `key` */
	CONNECTION_SORT_FRAGMENT, /* a later one */
};

struct connection_sight {
	/* by the caller */
	__u32 now;      /* tick */
	__u32 length;   /* of the packet, from its link header on */
	__u32 followed; /* tick since when each packet of TCP comes here; 0: not each does */
	__u32 rule;     /* for the commit: id of the rule that accepted it; 0: the default */
	__u64 limit_key;
	__u32 limit;
	__u8 policy;
	/* by connection_look() */
	__u8 state;   /* enum policy_state */
	__u8 sort;    /* enum connection_sort */
	__u8 side;    /* of the key: who sent it */
	__u8 verdict; /* enum window_verdict */
	__u8 over;    /* the entry of this key is one that has timed out */
	__u8 reserved[2];
	struct connection_key key;
	struct connection_fragment_key fragment; /* of the fragment, first or later */
	struct window_segment segment;           /* TCP */
};

/* -- whose packet it is -- */

/* ICMP types as the RFCs number them (792, 4443, 4861, 3810) */
enum {
	CONNECTION_ICMP_ECHO_REPLY = 0,
	CONNECTION_ICMP_UNREACHABLE = 3,
	CONNECTION_ICMP_QUENCH = 4,
	CONNECTION_ICMP_REDIRECT = 5,
	CONNECTION_ICMP_ECHO = 8,
	CONNECTION_ICMP_TIME = 11,
	CONNECTION_ICMP_PARAMETER = 12,
	CONNECTION_ICMP6_ERROR_FIRST = 1,
	CONNECTION_ICMP6_ERROR_LAST = 4,
	CONNECTION_ICMP6_ECHO = 128,
	CONNECTION_ICMP6_ECHO_REPLY = 129,
};

packet_inline int connection_icmp_is_error(__u8 proto, __u8 type)
{
	if (proto == PACKET_PROTO_ICMP6)
		return type >= CONNECTION_ICMP6_ERROR_FIRST && type <= CONNECTION_ICMP6_ERROR_LAST;
	return (type >= CONNECTION_ICMP_UNREACHABLE && type <= CONNECTION_ICMP_REDIRECT) ||
	       type == CONNECTION_ICMP_TIME || type == CONNECTION_ICMP_PARAMETER;
}

/* <0, 0, >0 as src comes before dst */
packet_inline int connection_order(const struct packet *p)
{
	__u64 src, dst;

	if (p->family == 4) {
		src = bpf_ntohl(p->src[0]);
		dst = bpf_ntohl(p->dst[0]);
	} else {
		src = bpf_be64_to_cpu(p->src64[0]);
		dst = bpf_be64_to_cpu(p->dst64[0]);
		if (src == dst) {
			src = bpf_be64_to_cpu(p->src64[1]);
			dst = bpf_be64_to_cpu(p->dst64[1]);
		}
	}
	return src < dst ? -1 : src > dst;
}

/* Fills the key from a packet's ends; returns which end of the key is the packet's source. */
packet_inline __u8 connection_key_of(const struct packet *p, struct connection_key *key)
{
	__be16 sport = p->sport, dport = p->dport;
	int order = connection_order(p);
	__u8 side;

	if (p->kind & FLOW_KIND_ICMP) {
		__u8 type = bpf_ntohs(p->dport) >> 8,
		     ask = p->family == 4 ? CONNECTION_ICMP_ECHO : CONNECTION_ICMP6_ECHO;
		__be16 service = bpf_htons(ask << 8);

		sport = type == ask ? p->sport : service;
		dport = type == ask ? service : p->sport;
	} else if (!(p->kind & FLOW_KIND_PORTS)) {
		sport = dport = 0;
	}
	if (!order)
		order = bpf_ntohs(sport) < bpf_ntohs(dport) ? -1 : bpf_ntohs(sport) > bpf_ntohs(dport);
	side = order > 0;
	key->family = p->family;
	key->proto = p->proto;
	key->port[side] = sport;
	key->port[!side] = dport;
	__builtin_memcpy(key->address[side], p->src, sizeof(p->src));
	__builtin_memcpy(key->address[!side], p->dst, sizeof(p->dst));
	return side;
}

/* -- ICMP -- */

/* An error is about what its receiver has sent. */
packet_inline int connection_is_about(const struct packet *outer, const struct packet *inner)
{
	return outer->dst64[0] == inner->src64[0] &&
	       (outer->family == 4 || outer->dst64[1] == inner->src64[1]);
}

packet_function int connection_sort_icmp(
	PACKET_CONTEXT *context, const struct packet *p, struct connection_sight *sight)
{
	struct packet inner = {};
	__u8 type;

	if (!p || !sight)
		return CONNECTION_SORT_BAD;
	type = bpf_ntohs(p->dport) >> 8;
	if (packet_is_echo(p->proto, type)) {
		sight->side = connection_key_of(p, &sight->key);
		return CONNECTION_SORT_PACKET;
	}
	if (!connection_icmp_is_error(p->proto, type))
		return CONNECTION_SORT_NONE;
	inner.family = p->family;
	if (segment_read_inner(context, p->l4_offset + 8, &inner) || !connection_is_about(p, &inner))
		return CONNECTION_SORT_BAD;
	sight->side = connection_key_of(&inner, &sight->key);
	return CONNECTION_SORT_ERROR;
}

/* -- look -- */

/* A fragment of TCP that would write over a header is nobody's (RFC 1858, RFC 3128). */
packet_function int connection_sort_fragment(
	PACKET_CONTEXT *context, const struct packet *p, struct connection_sight *sight)
{
	__u32 place = 0;

	if (!p || !sight || segment_read_fragment(context, p, &sight->fragment, &place))
		return CONNECTION_SORT_BAD;
	if (p->fragment == PACKET_FRAGMENT_FIRST)
		return CONNECTION_SORT_PACKET;
	return p->proto == PACKET_PROTO_TCP && place < SEGMENT_TCP_BYTES ? CONNECTION_SORT_BAD
	                                                                 : CONNECTION_SORT_FRAGMENT;
}

/* What it is to the table, and whose: fills the sight. */
packet_function int connection_sort(
	PACKET_CONTEXT *context, const struct packet *p, struct connection_sight *sight)
{
	int sort;

	if (!p || !sight)
		return 0;
	sight->sort = CONNECTION_SORT_NONE;
	if (!p->family)
		return 0;
	sight->sort = CONNECTION_SORT_BAD;
	if (p->reason != PARSE_OK)
		return 0;
	if (p->fragment != PACKET_WHOLE) {
		sort = connection_sort_fragment(context, p, sight);
		sight->sort = sort;
		if (sort != CONNECTION_SORT_PACKET)
			return 0;
	}
	if (p->kind & FLOW_KIND_ICMP) {
		sight->sort = connection_sort_icmp(context, p, sight);
		return 0;
	}
	if (p->proto == PACKET_PROTO_TCP && segment_read(context, p, sight->length, &sight->segment))
		return 0;
	sight->side = connection_key_of(p, &sight->key);
	sight->sort = CONNECTION_SORT_PACKET;
	return 0;
}

packet_inline int connection_is_gone(const struct connection *c, __u8 proto, __u32 now)
{
	__u32 index = connection_times_of(proto, c->stage), *ticks;

	ticks = bpf_map_lookup_elem(&connection_times, &index);
	return ticks && *ticks && (__s32)(now - c->last) > (__s32)*ticks;
}

packet_inline __u8 connection_state_new(const struct packet *p, struct connection_sight *sight)
{
	__u8 type = bpf_ntohs(p->dport) >> 8;

	sight->verdict = WINDOW_BEGINS;
	if (p->proto == PACKET_PROTO_TCP &&
		((sight->segment.flags & (WINDOW_SYN | WINDOW_ACK)) != WINDOW_SYN ||
			!window_flags_are_valid(sight->segment.flags)))
		return POLICY_STATE_INVALID;
	if (p->kind & FLOW_KIND_ICMP &&
		(type == CONNECTION_ICMP_ECHO_REPLY || type == CONNECTION_ICMP6_ECHO_REPLY))
		return POLICY_STATE_INVALID;
	return POLICY_STATE_NEW;
}

/* The state of a packet whose connection was looked for.  `c` NULL: there is none. */
packet_function int connection_judge(
	const struct packet *p, struct connection_sight *sight, const struct connection *c)
{
	if (!p || !sight)
		return POLICY_STATE_INVALID;
	if (sight->sort == CONNECTION_SORT_ERROR)
		return c ? POLICY_STATE_RELATED : POLICY_STATE_INVALID;
	if (!c)
		return connection_state_new(p, sight);
	sight->verdict = WINDOW_VALID;
	if (p->proto == PACKET_PROTO_TCP)
		sight->verdict = window_judge(c, sight->side & 1, &sight->segment, sight->followed);
	if (sight->verdict == WINDOW_INVALID)
		return POLICY_STATE_INVALID;
	if (sight->verdict == WINDOW_BEGINS)
		return POLICY_STATE_NEW;
	return c->stage == CONNECTION_NEW && sight->side == c->first ? POLICY_STATE_NEW
	                                                             : POLICY_STATE_ESTABLISHED;
}

packet_function int connection_look_fragment(struct connection_sight *sight)
{
	struct connection_fragment *fragment;
	struct connection_fragment_key key;

	if (!sight)
		return POLICY_STATE_NONE;
	key = sight->fragment; /* no key for Linux 6.1 where it stands */
	fragment = bpf_map_lookup_elem(&fragments, &key);
	if (fragment && sight->now - fragment->seen <= CONNECTION_FRAGMENT_TICKS)
		return fragment->state;
	CONNECTION_COUNT(fragments);
	return POLICY_STATE_NONE;
}

packet_inline struct connection *connection_look(
	PACKET_CONTEXT *context, const struct packet *p, struct connection_sight *sight)
{
	struct connection *c = NULL;

	connection_sort(context, p, sight);
	if (sight->sort == CONNECTION_SORT_PACKET || sight->sort == CONNECTION_SORT_ERROR) {
		c = bpf_map_lookup_elem(&connections, &sight->key);
		if (!c)
			c = bpf_map_lookup_elem(&embryos, &sight->key);
		sight->over = c && connection_is_gone(c, sight->key.proto, sight->now);
		if (sight->over)
			c = NULL;
		sight->state = connection_judge(p, sight, c);
	} else if (sight->sort == CONNECTION_SORT_FRAGMENT) {
		sight->state = connection_look_fragment(sight);
	} else {
		sight->state = sight->sort == CONNECTION_SORT_BAD ? POLICY_STATE_INVALID : POLICY_STATE_NONE;
	}
	if (__builtin_expect(sight->state == POLICY_STATE_INVALID, 0))
		CONNECTION_COUNT(invalid);
	return c;
}

/* -- commit -- */

/* It is over, or makes room for another: counts no more, once. */
packet_inline void connection_end(struct connection *c)
{
	__u32 limit = c->limit;

	if (limit && __sync_val_compare_and_swap(&c->limit, limit, 0) == limit)
		connection_uncount(limit, c->limit_key);
}

/* Notes what a packet of an old or a new connection says. */
packet_function int connection_note(struct connection *c, const struct connection_sight *sight)
{
	__u8 side, stage;

	if (!c || !sight)
		return 0;
	side = sight->side & 1;
	stage = c->stage;
	if ((sight->now ^ c->last) >> CONNECTION_LAST_SHIFT)
		c->last = sight->now;
	if (sight->key.proto == PACKET_PROTO_TCP) {
		window_note(c, side, &sight->segment, sight->verdict, sight->now, sight->followed);
		if (c->stage == stage)
			return 0;
		if (c->stage == CONNECTION_RESET)
			CONNECTION_COUNT(reset);
		if (c->stage == CONNECTION_CLOSED)
			CONNECTION_COUNT(closed);
		if (c->stage == CONNECTION_RESET || c->stage == CONNECTION_CLOSED)
			connection_end(c);
		return 0;
	}
	if (c->stage == CONNECTION_NEW && side != c->first)
		c->stage = CONNECTION_ANSWERED;
	if (c->stage == CONNECTION_ANSWERED &&
		connection_times_of(sight->key.proto, 0) / CONNECTION_STAGES == CONNECTION_UDP &&
		sight->now - c->created > CONNECTION_STREAM_TICKS)
		c->stage = CONNECTION_OPEN;
	return 0;
}

/* What stands under the key of a connection that begins, and is over. */
packet_function int connection_give_way(struct connection_sight *sight)
{
	struct connection_key key;
	struct connection *c;

	if (!sight)
		return 0;
	key = sight->key; /* as above */
	c = bpf_map_lookup_elem(&embryos, &key);
	if (c)
		connection_end(c);
	c = bpf_map_lookup_elem(&connections, &key);
	if (c) {
		connection_end(c);
		bpf_map_delete_elem(&connections, &key);
	}
	return 0;
}

packet_function int connection_begin(struct connection_sight *sight, int replaces)
{
	struct connection fresh = {};
	struct connection_key key;

	if (!sight)
		return 0;
	key = sight->key;
	fresh.created = fresh.last = sight->now;
	fresh.followed = sight->followed ? window_tick(sight->now) : 0;
	fresh.first = sight->side & 1;
	fresh.rule = sight->rule;
	fresh.policy = sight->policy;
	fresh.limit = sight->limit;
	fresh.limit_key = sight->limit_key;
	sight->verdict = WINDOW_VALID;
	connection_note(&fresh, sight);
	if (replaces)
		connection_give_way(sight);
	if (bpf_map_update_elem(&embryos, &key, &fresh, BPF_ANY)) {
		connection_uncount(sight->limit, sight->limit_key);
		return 0;
	}
	CONNECTION_COUNT(created);
	return 0;
}

/* The answer has come: from among the embryos into the table. */
packet_function int connection_establish(struct connection_sight *sight, struct connection *embryo)
{
	struct connection_key key;
	struct connection c;
	long r;

	if (!sight || !embryo)
		return 0;
	key = sight->key;
	c = *embryo;
	connection_note(&c, sight);
	c.established = window_tick(sight->now);
	r = bpf_map_update_elem(&connections, &key, &c, BPF_NOEXIST);
	if (!r) {
		bpf_map_delete_elem(&embryos, &key);
		CONNECTION_COUNT(established);
		return 0;
	}
	connection_note(embryo, sight);
	embryo->established = c.established;
	CONNECTION_COUNT(refused);
	return 0;
}

packet_function int connection_commit_fragment(struct connection_sight *sight)
{
	struct connection_fragment fragment = {};
	struct connection_fragment_key key;

	if (!sight)
		return 0;
	key = sight->fragment;
	fragment.seen = sight->now;
	fragment.state = sight->state;
	bpf_map_update_elem(&fragments, &key, &fragment, BPF_ANY);
	return 0;
}

/* What an accepted packet is to its connection; `c` from connection_look(). */
packet_function int connection_commit(
	const struct packet *p, struct connection_sight *sight, struct connection *c)
{
	if (!p || !sight)
		return 0;
	if (sight->state == POLICY_STATE_RELATED)
		CONNECTION_COUNT(related);
	if (sight->sort != CONNECTION_SORT_PACKET)
		return 0;
	if (p->fragment == PACKET_FRAGMENT_FIRST)
		connection_commit_fragment(sight);
	if (sight->state == POLICY_STATE_INVALID)
		return 0; /* a rule wants it to pass: it does, and says nothing */
	if (!c || sight->verdict == WINDOW_BEGINS)
		return connection_begin(sight, c || sight->over);
	/* how much TCP has sent is not known where the rest is in later fragments */
	if (p->fragment != PACKET_WHOLE)
		c->flags |= CONNECTION_LIBERAL;
	if (!c->established && sight->side != c->first && sight->verdict == WINDOW_VALID)
		return connection_establish(sight, c);
	connection_note(c, sight);
	return 0;
}

#endif
