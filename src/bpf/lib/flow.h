/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Account: the flow cache (shared/flow.h says what a line is and how it is read).
 *
 * A hit touches the CPU's counters and one cache line (two for IPv6).  To keep it at one, a flow's first
 * choice among the four ways comes from its hash; the others are looked at only if another flow lives there.
 *
 * Nothing here is atomic: a CPU's part of the cache is written only by tc programs, which run with softirqs
 * off and so never interrupt each other.  PREEMPT_RT may preempt one by another; the price there is a
 * miscounted packet.
 */
#ifndef WEIR_BPF_FLOW_H
#define WEIR_BPF_FLOW_H

#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "bpf/lib/cache.h"
#include "bpf/lib/decide.h"
#include "bpf/lib/emit.h"
#include "bpf/lib/name.h"
#include "bpf/lib/note.h"
#include "bpf/lib/packet.h"
#include "bpf/lib/seek.h"
#include "shared/flow.h"

/*
 * Is it time to look whose the flow is?  Until that is clear, and at a SYN, every packet that leaves is worth
 * a look into its socket.  Afterwards it is one now and then, unless some socket was passed to another
 * process a moment ago. What comes in shows no socket, and to look for it costs more: now and then has to do.
 */
#define FLOW_SEEK_SHIFT   10 /* ticks, as a power of two */
#define FLOW_PASSED_SHIFT 4  /* of what comes in, while sockets are passed */
#define FLOW_LOOKS_MAX    32 /* a tick and CPU, of what comes in */

packet_inline int flow_seeks(const struct flow_counts *counts, const struct flow_marks *marks,
	const struct flow_sight *sight, __u8 tcp_flags)
{
	__u32 since = counts->last ^ sight->now;

	if (since >> FLOW_SEEK_SHIFT)
		return 1;
	if (sight->kind & FLOW_KIND_OUT)
		return !marks->owner_tag || tcp_flags & PACKET_TCP_SYN || seek_passed(sight->now);
	return marks->origin & FLOW_OWNER_DUE || (since >> FLOW_PASSED_SHIFT && seek_passed(sight->now));
}

/* Have there been as many looks this tick as there may be? */
packet_inline int flow_looks_spent(const struct flow_stats *stats, __u32 now)
{
	return stats->look_tick == now && stats->looks >= FLOW_LOOKS_MAX;
}

/*
 * Looks whose the flow is.  To look for who receives a packet costs more than all the rest of a miss, so
 * under a flood of new flows most have to wait for a later packet of theirs.  Little is lost by that: whose
 * an answer comes from is known from what leaves, and that is whose the question was.
 */
packet_inline void flow_seek(
	PACKET_CONTEXT *context, const struct packet *p, struct flow_sight *sight, struct flow_stats *stats)
{
	int out = sight->kind & FLOW_KIND_OUT;

	if (!out && p->family && !owner_off) {
		if (flow_looks_spent(stats, sight->now)) {
			stats->postponed++;
			sight->origin |= FLOW_OWNER_DUE;
			return;
		}
		if (stats->look_tick != sight->now) {
			stats->look_tick = sight->now;
			stats->looks = 0;
		}
		stats->looks++;
	}
	sight->owner = seek_owner(context, p, out);
}

/*
 * Another owner was seen.  Most often the socket was its listener's until now, or nobody's: then the line
 * becomes the owner's in place, and the agent moves what it has counted.  A socket that one process had and
 * another has now: then the line has to be pushed out, so that each gets its own; that is true.
 */
packet_inline int flow_owner_changes(__u32 *owner, struct flow_marks *marks, __u32 seen)
{
	if (seen == *owner)
		return 0;
	if (seen < OWNER_FIRST) {
		if (*owner == OWNER_UNKNOWN)
			*owner = seen;
		return 0;
	}
	if (*owner >= OWNER_FIRST && !(*owner & OWNER_INHERITED))
		return !(seen & OWNER_INHERITED);
	*owner = seen;
	marks->owner_tag = flow_owner_tag(seen);
	marks->origin &= ~FLOW_VERDICT_MASK; /* rules may ask whose it is */
	return 0;
}

/* Is the flow still to be looked at (name_look())? */
packet_inline int flow_hit(
	struct flow_counts *counts, struct flow_marks *marks, const struct flow_sight *sight, __u8 tcp_flags)
{
	__u32 word = *(__u32 *)marks | FLOW_MARKS(tcp_flags, sight->origin, 0);

	counts->bytes += sight->bytes;
	counts->packets += sight->packets;
	counts->last = sight->now;
	*(__u32 *)marks = word;
	return names_on && !(word & FLOW_MARKS(0, 0, NAME_DONE));
}

/* What becomes of the packet. */
enum flow_fate { FLOW_PASS, FLOW_DROP, FLOW_ASK, FLOW_SHAPE };

#define FLOW_TRACKED_SHIFT 8 /* a tracked flow is looked at anew after so many ticks, as a power of two */

/* What was decided about the flow and still holds; to be asked before the packet is counted. */
packet_inline __u32 flow_held(const struct policy_now *in_force, const struct flow_counts *counts,
	const struct flow_marks *marks, __u32 now)
{
	if (!in_force || (__s32)(counts->last - decide_since(in_force, now)) <= 0)
		return 0;
	return marks->origin & FLOW_VERDICT_MASK;
}

/* Is this packet decided by that alone? */
packet_inline int flow_is_settled(
	const struct policy_now *in_force, __u32 held, __u32 last, __u32 now, __u8 tcp_flags)
{
	__u32 verdict = held & FLOW_VERDICT_ASK;

	if (!verdict || verdict == FLOW_VERDICT_ASK)
		return 0;
	/* who decides tells of it, too */
	if (verdict == FLOW_VERDICT_DROP && in_force && decide_tell_due(in_force, now))
		return 0;
	if (!(held & FLOW_VERDICT_TRACKED))
		return 1;
	return !(held & FLOW_VERDICT_EACH) &&
	       !(tcp_flags & (PACKET_TCP_FIN | PACKET_TCP_SYN | PACKET_TCP_RST)) &&
	       !((last ^ now) >> FLOW_TRACKED_SHIFT);
}

packet_inline enum flow_fate flow_settle(
	const struct flow_sight *sight, __u32 held, const struct flow_decision *decision)
{
	decide_count(decision->counter, sight->packets, sight->bytes, sight->now);
	if (!(held & FLOW_VERDICT_DROP)) {
		if (__builtin_expect(decision->class, 0) &&
			shape_ask_put(decision->class, sight->packets, sight->bytes, sight->now,
				sight->kind & FLOW_KIND_OUT))
			return FLOW_SHAPE;
		return FLOW_PASS;
	}
	note_drop(decision->rule, sight->packets);
	return FLOW_DROP;
}

/* Writes down the question; the caller then asks it (bpf/decide.bpf.c). */
packet_inline enum flow_fate flow_ask(
	const struct packet *p, const struct flow_sight *sight, __u32 set, __u32 way, __u32 owner, __u32 held)
{
	struct decide_ask *ask = decide_ask_get();

	if (!ask)
		return FLOW_PASS;
	ask->packet = *p;
	ask->set = set;
	ask->way = way;
	ask->now = sight->now;
	ask->owner = owner;
	ask->ifindex = sight->ifindex;
	ask->packets = sight->packets;
	ask->bytes = sight->bytes;
	ask->held = held;
	ask->out = sight->kind & FLOW_KIND_OUT;
	ask->phase = 0;
	ask->explain = 0;
	ask->expressions = 0;
	return FLOW_ASK;
}

/* An empty line matches nothing: its key is zero, and no interface has index 0. */
packet_inline enum flow_fate flow_account4(PACKET_CONTEXT *context, struct packet *p,
	struct flow_sight *sight, struct flow_stats *stats, const struct policy_now *in_force)
{
	__u64 addresses = p->src[0] | (__u64)p->dst[0] << 32;
	__u64 ports = p->sport | (__u32)p->dport << 16 | (__u64)sight->ifindex << 32;
	__u32 kinds = p->proto | sight->kind << 8 | (__u32)p->vlan << 16;
	__u64 hash = flow_hash4(addresses, ports, kinds);
	__u32 set_index = hash & (flow_sets4 - 1), home = hash >> 62, way, i;
	__u32 index = sight->cpu * flow_sets4 + set_index, held = 0, settled = 0;
	struct flow_set4 *set = bpf_map_lookup_elem(&flow_cache4, &index);
	struct flow_line4 *line;

	if (!set)
		return FLOW_PASS;
	PACKET_UNROLL
	for (i = 0; i < FLOW_WAYS; i++) {
		way = (home + i) % FLOW_WAYS;
		line = &set->line[way];
		if (*(__u64 *)&line->src != addresses || *(__u64 *)&line->sport != ports ||
			*(__u32 *)&line->proto != kinds)
			continue;
		if (flow_is_full(&line->counts))
			goto push_out;
		if (flow_seeks(&line->counts, &line->marks, sight, p->tcp_flags)) {
			line->marks.origin &= ~FLOW_OWNER_DUE;
			flow_seek(context, p, sight, stats);
			if (flow_owner_changes(&line->decision.owner, &line->marks, sight->owner))
				goto push_out;
		}
		held = flow_held(in_force, &line->counts, &line->marks, sight->now);
		settled = flow_is_settled(in_force, held, line->counts.last, sight->now, p->tcp_flags);
		if (flow_hit(&line->counts, &line->marks, sight, p->tcp_flags))
			goto look;
		goto counted;
	}

	flow_seek(context, p, sight, stats);
	way = FLOW_VICTIM(set, home, sight->now);
	line = &set->line[way];
	if (line->serial) {
	push_out:
		if (!flow_emit4(line, stats, sight->cpu, set_index * FLOW_WAYS + way))
			flow_lose(stats, &line->counts);
		flow_publish(line->serial, 0);
	}
	*(__u64 *)&line->src = addresses;
	*(__u64 *)&line->sport = ports;
	*(__u32 *)&line->proto = kinds;
	flow_fill(line, line, sight, p->tcp_flags);
	flow_publish(line->serial, flow_next_serial(stats));
look:
	if (names_on && name_is_due(context, p, &line->marks))
		name_look(context, p, &line->marks, sight->kind & FLOW_KIND_OUT);
counted:
	stats->cached += sight->packets;
	if (!in_force)
		return FLOW_PASS;
	if (settled)
		return flow_settle(sight, held, &line->decision);
	return flow_ask(p, sight, index, way, line->decision.owner, held);
}

packet_inline enum flow_fate flow_account6(PACKET_CONTEXT *context, struct packet *p,
	struct flow_sight *sight, struct flow_stats *stats, const struct policy_now *in_force)
{
	const __u64 *src = p->src64, *dst = p->dst64;
	__u64 ports = p->sport | (__u32)p->dport << 16 | (__u64)sight->ifindex << 32;
	__u32 kinds = p->proto | sight->kind << 8 | (__u32)p->vlan << 16;
	__u64 hash = flow_mix(flow_mix(src[0], src[1], flow_seed[0]), dst[0], flow_seed[1]);
	__u32 set_index, home, way, index, i, held = 0, settled = 0;
	struct flow_set6 *set;
	struct flow_rest_set6 *rest_set;
	struct flow_line6 *line;
	struct flow_rest6 *rest;

	hash = flow_mix(flow_mix(hash, dst[1], flow_seed[0]), ports ^ (__u64)kinds << 24, flow_seed[1]);
	set_index = hash & (flow_sets6 - 1);
	home = hash >> 62;
	index = sight->cpu * flow_sets6 + set_index;
	set = bpf_map_lookup_elem(&flow_cache6, &index);
	if (!set)
		return FLOW_PASS;
	PACKET_UNROLL
	for (i = 0; i < FLOW_WAYS; i++) {
		__u64 *line_src, *line_dst;

		way = (home + i) % FLOW_WAYS;
		line = &set->line[way];
		line_src = (__u64 *)line->src;
		line_dst = (__u64 *)line->dst;
		if (line_src[1] != src[1] || line_dst[1] != dst[1] || *(__u64 *)&line->sport != ports ||
			line_src[0] != src[0] || line_dst[0] != dst[0] || *(__u32 *)&line->proto != kinds)
			continue;
		if (flow_is_full(&line->counts))
			goto push_out;
		if (flow_seeks(&line->counts, &line->marks, sight, p->tcp_flags)) {
			__u8 due = line->marks.origin & FLOW_OWNER_DUE;

			line->marks.origin &= ~FLOW_OWNER_DUE;
			flow_seek(context, p, sight, stats);
			if (due || (sight->owner >= OWNER_FIRST &&
					   flow_owner_tag(sight->owner) != line->marks.owner_tag)) {
				rest_set = bpf_map_lookup_elem(&flow_rest6, &index);
				if (rest_set && flow_owner_changes(&rest_set->line[way].decision.owner,
							&line->marks, sight->owner))
					goto push_out;
			}
		}
		held = flow_held(in_force, &line->counts, &line->marks, sight->now);
		settled = flow_is_settled(in_force, held, line->counts.last, sight->now, p->tcp_flags);
		if (flow_hit(&line->counts, &line->marks, sight, p->tcp_flags))
			goto look;
		goto counted;
	}

	flow_seek(context, p, sight, stats);
	way = FLOW_VICTIM(set, home, sight->now);
push_out:
	rest_set = bpf_map_lookup_elem(&flow_rest6, &index);
	if (!rest_set)
		return FLOW_PASS;
	line = &set->line[way];
	rest = &rest_set->line[way];
	if (rest->serial) {
		if (!flow_emit6(line, rest, stats, sight->cpu, set_index * FLOW_WAYS + way))
			flow_lose(stats, &line->counts);
		flow_publish(rest->serial, 0);
	}
	*(__u64 *)&line->src[0] = src[0];
	*(__u64 *)&line->src[2] = src[1];
	*(__u64 *)&line->dst[0] = dst[0];
	*(__u64 *)&line->dst[2] = dst[1];
	*(__u64 *)&line->sport = ports;
	*(__u32 *)&line->proto = kinds;
	flow_fill(line, rest, sight, p->tcp_flags);
	flow_publish(rest->serial, flow_next_serial(stats));
look:
	if (names_on && name_is_due(context, p, &line->marks))
		name_look(context, p, &line->marks, sight->kind & FLOW_KIND_OUT);
counted:
	stats->cached += sight->packets;
	if (!in_force)
		return FLOW_PASS;
	rest_set = bpf_map_lookup_elem(&flow_rest6, &index);
	if (!rest_set)
		return FLOW_PASS;
	rest = &rest_set->line[way % FLOW_WAYS];
	if (settled)
		return flow_settle(sight, held, &rest->decision);
	return flow_ask(p, sight, index, way, rest->decision.owner, held);
}

packet_inline enum flow_fate flow_account(PACKET_CONTEXT *context, struct packet *p, __u32 ifindex, int out,
	__u32 packets, __u32 bytes, const struct policy_now *in_force)
{
	struct flow_sight sight = {
		.cpu = bpf_get_smp_processor_id(),
		.ifindex = ifindex,
		.packets = packets,
		.bytes = bytes,
		.now = flow_now(),
		.kind = p->kind | (out ? FLOW_KIND_OUT : 0),
	};
	struct flow_stats *stats = bpf_map_lookup_elem(&flow_stats, &sight.cpu);

	if (!stats)
		return FLOW_PASS;
	stats->seen += packets;
	if (__builtin_expect(p->reason != PARSE_OK, 0)) {
		__u32 reason = p->reason;

		asm volatile("" : "+r"(reason)); /* or the compiler knows better and drops the mask */
		stats->reasons[reason & (PARSE_REASON_MAX - 1)] += packets;
	}
	if (p->tcp_flags & 2)
		sight.origin = p->tcp_flags & 16 ? FLOW_ORIGIN_RESPONDER : FLOW_ORIGIN_INITIATOR;

	if (p->family == 6)
		return flow_account6(context, p, &sight, stats, in_force);
	if (!p->family) {
		p->src[0] = p->dst[0] = 0;
		p->proto = 0;
		p->sport = p->ethertype;
		p->dport = bpf_htons(p->reason);
	}
	return flow_account4(context, p, &sight, stats, in_force);
}

#endif
