// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * Classes (shared/shape.h): finds the path of a flow that was just judged, and does to each packet what the
 * classes of its path ask for.  The entry programs and the one that decides hand packets over by tail calls;
 * so all of this costs nothing, and is not loaded, where there is no class.
 */
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#define PACKET_CONTEXT                          struct __sk_buff
#define packet_load(context, offset, to, bytes) bpf_skb_load_bytes(context, offset, to, bytes)

#include "bpf/lib/cache.h"
#include "bpf/lib/decide.h"
#include "bpf/lib/note.h"
#include "bpf/lib/packet.h"
#include "bpf/lib/shape.h"

#define SHAPE_NEXT (-1) /* TCX_NEXT and TC_ACT_UNSPEC */
#define SHAPE_DROP 2    /* TCX_DROP and TC_ACT_SHOT */

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, SHAPE_PATHS_MAX);
	__type(key, struct shape_path);
	__type(value, __u32);
} shape_path_numbers SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct shape_numbering);
} shape_numbering SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, SHAPE_LINKS_MAX);
	__type(key, __u32);
	__type(value, struct shape_link);
} shape_links SEC(".maps");

/* The path of the last packet that was only asked about. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct shape_path);
} shape_explanation SEC(".maps");

/* Paths that are being put together on this CPU: of a packet, of a question that packets may interrupt. */
enum { SHAPE_OF_PACKET, SHAPE_OF_QUESTION, SHAPE_DRAFTS };

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, SHAPE_DRAFTS);
	__type(key, __u32);
	__type(value, struct shape_path);
} shape_drafts SEC(".maps");

/* -- a packet in its classes -- */

/* Asks a class: 1, it lets the packet go; 0, it does not; 2, there is no such class. */
__attribute__((noinline)) int shape_class_ask(struct __sk_buff *skb, struct shape_packet *p, __u32 number)
{
	struct shape_class *class = bpf_map_lookup_elem(&shape_classes, &number);
	struct shape_state *state = bpf_map_lookup_elem(&shape_states, &number);

	if (!p || !class || !state || !class->generation)
		return 2;
	if (!shape_class_allows(skb, p, class, state, number)) {
		p->rule = class->rule;
		return 0;
	}
	p->paced |= shape_is_paced(class) != 0;
	if (class->engine == SHAPE_EDT && !p->delayed)
		p->delayed = number;
	return 1;
}

/* Puts back what it took from a class. */
__attribute__((noinline)) int shape_class_take_back(
	struct __sk_buff *skb, struct shape_packet *p, __u32 number)
{
	struct shape_class *class = bpf_map_lookup_elem(&shape_classes, &number);
	struct shape_state *state = bpf_map_lookup_elem(&shape_states, &number);
	struct shape_count *count;

	if (!p || !class || !state || !class->generation)
		return 0;
	shape_class_returns(skb, p, class, state);
	count = shape_count_of(p, number);
	if (!count)
		return 0;
	count->sent_packets -= p->packets;
	count->sent_bytes -= p->bytes;
	return 0;
}

/* A packet that the class's own rule led to it. */
static __always_inline void shape_count_plain(struct shape_count *count, const struct shape_packet *p)
{
	count->plain_packets += p->packets;
	count->plain_bytes += p->bytes;
	count->plain_last = p->tick;
}

/* The class in place `end` of the path refuses the packet: those in front of it have not seen it, and those
 * behind it, bits of `plain`, only count it for their rules. */
static __noinline int shape_refuse(
	struct __sk_buff *skb, struct shape_packet *p, const struct shape_path *path, __u32 end, __u32 plain)
{
	struct shape_count *count;
	__u32 i;

#pragma clang loop unroll(disable)
	for (i = 0; i < SHAPE_PATH_MAX; i++) {
		if (i < end) {
			shape_class_take_back(skb, p, path->class[i]);
		} else if (i > end && plain >> i & 1) {
			count = shape_count_of(p, path->class[i]);
			if (count)
				shape_count_plain(count, p);
		}
	}
	note_drop(p->rule, p->packets);
	return SHAPE_DROP;
}

/* Marks it (ECN) for the class that wants it so, if it can be. */
__attribute__((noinline)) int shape_mark(struct __sk_buff *skb, struct shape_packet *p)
{
	struct shape_count *count = p ? shape_count_of(p, p->mark) : (void *)0;

	if (bpf_skb_ecn_set_ce(skb) == 1 && count)
		count->marked_packets += p->packets;
	return 0;
}

/* It leaves when its classes say, or when its socket says if that is later. */
__attribute__((noinline)) int shape_delay(struct __sk_buff *skb, struct shape_packet *p)
{
	__u64 wanted = skb->tstamp, departs;
	struct shape_state *state;
	__u32 number;

	if (!p)
		return 0;
	departs = p->departs;
	number = p->delayed;
	state = bpf_map_lookup_elem(&shape_states, &number);
	if ((__s64)(wanted - p->now) < 0)
		wanted = p->now;
	if ((__s64)(departs - wanted) <= 0)
		return 0;
	if (bpf_skb_set_tstamp(skb, departs, BPF_SKB_TSTAMP_DELIVERY_MONO) || !state)
		return 0;
	__sync_fetch_and_add(&state->delayed_packets, p->packets);
	__sync_fetch_and_add(&state->delay_ns, (departs - wanted) * p->packets);
	return 0;
}

static __always_inline void shape_count_rules(
	const struct shape_path *path, const struct shape_packet *p, __u32 now)
{
#pragma clang loop unroll(disable)
	for (__u32 i = 0; i < SHAPE_RULES_MAX; i++)
		if (path->counter[i])
			decide_count(path->counter[i], p->packets, p->bytes, now);
}

/* What becomes of a packet with this path, whose first `passed` classes have let it go.  `plain` is the
 * path's, or 0 where its rules have counted it. */
static __always_inline int shape_pass(struct __sk_buff *skb, struct shape_packet *p,
	const struct shape_path *path, __u32 path_number, __u32 plain, __u32 passed)
{
	struct shape_state *state;
	struct shape_count *count;
	struct shape_hint *hint;
	__u32 i, number, asked;

#pragma clang loop unroll(disable)
	for (i = passed; i < SHAPE_PATH_MAX; i++) {
		number = path->class[i];
		if (!number)
			break;
		count = shape_count_of(p, number);
		hint = bpf_map_lookup_elem(&shape_hints, &number);
		if (!count || !hint)
			continue;
		if (plain >> i & 1)
			shape_count_plain(count, p);
		if (shape_spends(count, hint, p->bytes))
			goto sent;
		state = bpf_map_lookup_elem(&shape_states, &number);
		if (!state)
			continue;
		if (!shape_allows_unread(p, state, count, hint, number)) {
			p->direct = !(path->above >> i & 1);
			asked = shape_class_ask(skb, p, number);
			if (!asked) {
				count->dropped_packets += p->packets;
				count->dropped_bytes += p->bytes;
				return shape_refuse(skb, p, path, i, plain);
			}
			if (asked == 2)
				continue;
		}
	sent:
		count->sent_packets += p->packets;
		count->sent_bytes += p->bytes;
	}
	if (p->paced && p->out)
		pace_packet(skb, path_number, p->bytes);
	if (p->mark)
		shape_mark(skb, p);
	if (p->departs)
		shape_delay(skb, p);
	if (p->priority) {
		skb->priority = p->priority;
		if (p->redirect && !p->out)
			return bpf_redirect(p->redirect, 0);
	}
	return SHAPE_NEXT;
}

/* A packet of a plain path on its way up: the class that is next, and how many have let it go. */
struct shape_climb {
	__u32 class, passed;
};

/* By the counters and states of its classes; 1: all have let it go. */
static __always_inline int shape_climb_unread(struct shape_packet *p, struct shape_climb *climb)
{
	__u32 i, number = climb->class;
	struct shape_count *count;
	struct shape_state *state;
	struct shape_hint *hint;

#pragma clang loop unroll(disable)
	for (i = climb->passed; i < SHAPE_DEPTH_MAX; i++) {
		count = shape_count_of(p, number);
		hint = bpf_map_lookup_elem(&shape_hints, &number);
		state = bpf_map_lookup_elem(&shape_states, &number);
		if (!count || !hint || !state)
			break;
		if (!shape_spends(count, hint, p->bytes) &&
			!shape_allows_unread(p, state, count, hint, number))
			break;
		count->sent_packets += p->packets;
		count->sent_bytes += p->bytes;
		if (!i)
			shape_count_plain(count, p);
		climb->passed = i + 1;
		number = *(volatile __u16 *)&hint->parent;
		if (!number)
			return 1;
	}
	return 0;
}

/* A packet of a plain path, by what this CPU holds of its classes; 1: all have let it go.  That is so of
 * most, so it comes first and by itself: the fewer instructions, the earlier the next packet's memory is
 * asked for. */
static __always_inline int shape_climb_held(const struct shape_ask *ask, struct shape_climb *climb)
{
	__u32 base = bpf_get_smp_processor_id() * SHAPE_CLASSES_MAX, packets = ask->packets, i, place;
	__u32 bytes = ask->bytes, number = climb->class;
	struct shape_count *count;
	struct shape_hint *hint;

	PACKET_UNROLL
	for (i = 0; i < SHAPE_DEPTH_MAX; i++) {
		place = base + (number & (SHAPE_CLASSES_MAX - 1));
		count = bpf_map_lookup_elem(&shape_counts, &place);
		hint = bpf_map_lookup_elem(&shape_hints, &number);
		if (!count || !hint || !shape_spends(count, hint, bytes))
			break;
		count->sent_packets += packets;
		count->sent_bytes += bytes;
		if (!i) {
			count->plain_packets += packets;
			count->plain_bytes += bytes;
			count->plain_last = ask->now;
		}
		number = *(volatile __u16 *)&hint->parent;
		if (!number)
			return 1;
	}
	climb->class = number;
	climb->passed = i;
	return 0;
}

SEC("tc") int shape_apply(struct __sk_buff *skb)
{
	__u32 zero = 0, number;
	const struct shape_ask *ask = bpf_map_lookup_elem(&shape_asks, &zero);
	const struct shape_path *path;
	struct shape_climb climb = {};
	struct shape_packet p;

	if (!ask || !ask->path)
		return SHAPE_NEXT;
	number = climb.class = ask->path;
	if (number < SHAPE_CLASSES_MAX && shape_climb_held(ask, &climb))
		return SHAPE_NEXT;
	p = (struct shape_packet){.packets = ask->packets,
		.bytes = ask->bytes,
		.tick = ask->now,
		.counts = bpf_get_smp_processor_id() * SHAPE_CLASSES_MAX,
		.out = ask->out != 0,
		.local = 2};
	if (number < SHAPE_CLASSES_MAX && shape_climb_unread(&p, &climb)) {
		if (p.mark)
			shape_mark(skb, &p);
		return SHAPE_NEXT;
	}
	path = bpf_map_lookup_elem(&shape_paths, &number);
	if (!path)
		return SHAPE_NEXT;
	shape_count_rules(path, &p, ask->now);
	return shape_pass(skb, &p, path, number, path->plain, climb.passed);
}

/* -- the path of a flow -- */

/* Adds a class that is not there yet; a path that is full stays as it is. */
__attribute__((noinline)) int shape_path_add(struct shape_path *path, __u32 number)
{
	__u32 i;

	if (!path)
		return 0;
#pragma clang loop unroll(disable)
	for (i = 0; i < SHAPE_PATH_MAX; i++) {
		if (path->class[i] == number)
			return 0;
		if (!path->class[i]) {
			path->class[i] = number;
			return 0;
		}
	}
	return 0;
}

/* Adds a class and those above it; returns whether it stands below the link of this interface.  One that
 * belongs to another interface, or to the other direction, is not meant. */
__attribute__((noinline)) int shape_path_climb(
	struct shape_path *path, __u32 number, __u32 ifindex, __u32 out)
{
	const struct shape_class *class;
	int below = 0;
	__u32 i;

	if (!path)
		return 0;
#pragma clang loop unroll(disable)
	for (i = 0; i < SHAPE_DEPTH_MAX; i++) {
		class = bpf_map_lookup_elem(&shape_classes, &number);
		if (!number || !class || !class->generation)
			break;
		if ((class->ifindex && class->ifindex != ifindex) ||
			(!(class->flags & SHAPE_CLASS_BOTH) && !(class->flags & SHAPE_CLASS_OUT) != !out))
			break;
		below |= i && class->flags & SHAPE_CLASS_LINK;
		shape_path_add(path, number);
		number = class->parent;
	}
	return below;
}

/* Notes which of its classes stand above others, and which count for the rules that led here. */
__attribute__((noinline)) int shape_path_note(struct shape_path *path)
{
	const struct shape_class *class;
	const struct shape_state *state;
	__u32 i, j, number, own;

	if (!path)
		return 0;
#pragma clang loop unroll(disable)
	for (i = 0; i < SHAPE_PATH_MAX; i++) {
		number = path->class[i];
		class = bpf_map_lookup_elem(&shape_classes, &number);
		if (!number || !class)
			break;
#pragma clang loop unroll(disable)
		for (j = 0; j < SHAPE_PATH_MAX; j++)
			if (class->parent && path->class[j] == class->parent)
				path->above |= 1U << j;
		state = bpf_map_lookup_elem(&shape_states, &number);
		own = state ? *(const volatile __u32 *)&state->counter : 0;
#pragma clang loop unroll(disable)
		for (j = 0; j < SHAPE_RULES_MAX; j++) {
			if (!own || path->counter[j] != own || path->plain >> i & 1)
				continue;
			path->counter[j] = 0;
			path->plain |= 1U << i;
		}
	}
	return 0;
}

enum shape_kind {
	SHAPE_BULK,
	SHAPE_BRIEF, /* interactive, as long as it is small or sparse */
	SHAPE_TALK,  /* interactive, and stays that */
};

/* Is the packet's flow small or sparse?  The packet itself is counted already. */
static __noinline enum shape_kind shape_brief(const struct decide_ask *ask)
{
	__u32 set = ask->set, way = ask->way % FLOW_WAYS, first;
	const struct flow_rest_set6 *rest;
	const struct flow_set6 *set6;
	const struct flow_set4 *set4;
	__u64 bytes;

	if (ask->explain) /* a flow's first packet */
		return SHAPE_BRIEF;
	if (ask->packet.family != 6) {
		set4 = bpf_map_lookup_elem(&flow_cache4, &set);
		if (!set4)
			return SHAPE_BULK;
		bytes = set4->line[way].counts.bytes;
		first = set4->line[way].first;
	} else {
		set6 = bpf_map_lookup_elem(&flow_cache6, &set);
		rest = bpf_map_lookup_elem(&flow_rest6, &set);
		if (!set6 || !rest)
			return SHAPE_BULK;
		bytes = set6->line[way].counts.bytes;
		first = rest->line[way].first;
	}
	return bytes <= SHAPE_SMALL_BYTES +
	                               ((__u64)(ask->now - first) * SHAPE_SPARSE_BYTES >> shape_tick_shift)
	               ? SHAPE_BRIEF
	               : SHAPE_BULK;
}

static __always_inline int shape_port_talks(__be16 port, __u8 proto)
{
	return port == bpf_htons(53) || (proto == PACKET_PROTO_TCP && port == bpf_htons(22)) ||
	       (proto == PACKET_PROTO_TCP && port == bpf_htons(853));
}

static __always_inline enum shape_kind shape_kind(const struct decide_ask *ask)
{
	const struct packet *p = &ask->packet;

	if ((p->proto == PACKET_PROTO_TCP || p->proto == PACKET_PROTO_UDP) &&
		(shape_port_talks(p->sport, p->proto) || shape_port_talks(p->dport, p->proto)))
		return SHAPE_TALK;
	return shape_brief(ask);
}

/* Puts together what the rules said and what the link asks for.  1: that holds for this packet alone. */
static __always_inline int shape_path_make(const struct decide_ask *ask, struct shape_path *path)
{
	enum shape_kind kind = SHAPE_BULK;
	__u32 key = SHAPE_LINK_KEY(ask->ifindex, ask->out != 0), i, out = ask->out != 0;
	const struct shape_link *link;
	int below = 0;

	__builtin_memset(path, 0, sizeof(*path));
	/* what is not IP would be missed by IP */
	if (!ask->packet.family)
		return 0;
#pragma clang loop unroll(disable)
	for (i = 0; i < SHAPE_RULES_MAX; i++) {
		if (i >= ask->class_count)
			break;
		if (ask->counters[i] < POLICY_COUNTERS_MAX)
			path->counter[i] = ask->counters[i];
		below |= shape_path_climb(path, ask->classes[i], ask->ifindex, out);
	}
	link = bpf_map_lookup_elem(&shape_links, &key);
	if (link && !below && link->interactive)
		kind = shape_kind(ask);
	if (kind != SHAPE_BULK)
		shape_path_climb(path, link->interactive, ask->ifindex, out);
	else if (link && !below && link->rest)
		shape_path_climb(path, link->rest, ask->ifindex, out);
	if (link)
		shape_path_climb(path, link->class, ask->ifindex, out);
	shape_path_note(path);
	return kind == SHAPE_BRIEF;
}

/* Is it a class and all that stands above it, and no more? */
static __always_inline int shape_path_is_whole(const struct shape_path *path)
{
	const struct shape_hint *hint;
	__u32 i, number, parent;

#pragma clang loop unroll(disable)
	for (i = 0; i < SHAPE_DEPTH_MAX; i++) {
		number = path->class[i];
		hint = bpf_map_lookup_elem(&shape_hints, &number);
		parent = hint ? *(const volatile __u16 *)&hint->parent : 0;
		if (path->class[i + 1] != parent)
			return 0;
		if (!parent)
			return 1;
	}
	return 0;
}

/* The number of a plain path; 0: it is none. */
static __always_inline __u32 shape_path_plain(const struct shape_path *path)
{
	const __u64 *words = (const __u64 *)path, *known;
	__u32 number = path->class[0];

	known = bpf_map_lookup_elem(&shape_paths, &number);
	if (!known || number >= SHAPE_CLASSES_MAX || path->plain != 1 || path->counter[0] ||
		path->counter[1] || path->counter[2] || path->counter[3] || !shape_path_is_whole(path))
		return 0;
	/* two CPUs at once write the same */
	if ((known[0] != words[0] || known[3] != words[3]) &&
		bpf_map_update_elem(&shape_paths, &number, path, BPF_ANY))
		return 0;
	return number;
}

/* The number of a path; 0: there is none left. */
static __noinline __u32 shape_path_number(const struct shape_path *path)
{
	struct shape_numbering *numbering;
	__u32 zero = 0, *known, number, half;

	numbering = bpf_map_lookup_elem(&shape_numbering, &zero);
	if (!numbering || !path)
		return 0;
	number = shape_path_plain(path);
	if (number)
		return number;
	half = numbering->half & 1;
	known = bpf_map_lookup_elem(&shape_path_numbers, path);
	if (known && *known >= SHAPE_CLASSES_MAX && SHAPE_HALF_OF(*known) == half)
		return *known;
	if (numbering->made >= SHAPE_HALF - 1)
		return 0;
	number = __sync_fetch_and_add(&numbering->made, 1) + 1; /* 0 is none */
	if (number >= SHAPE_HALF)
		return 0;
	number += SHAPE_CLASSES_MAX + half * SHAPE_HALF;
	/* two CPUs at once: each uses its own number, the later stays */
	if (bpf_map_update_elem(&shape_paths, &number, path, BPF_ANY) ||
		bpf_map_update_elem(&shape_path_numbers, path, &number, BPF_ANY))
		return 0;
	return number;
}

/* Keeps the path with the flow; with none, each packet is asked about. */
static __noinline int shape_path_keep(const struct decide_ask *ask, __u32 number)
{
	__u32 set = ask->set, way = ask->way % FLOW_WAYS;
	struct flow_decision *decision;
	struct flow_rest_set6 *rest;
	struct flow_marks *marks;
	struct flow_set6 *set6;
	struct flow_set4 *set4;

	if (ask->packet.family != 6) {
		set4 = bpf_map_lookup_elem(&flow_cache4, &set);
		if (!set4)
			return 0;
		marks = &set4->line[way].marks;
		decision = &set4->line[way].decision;
	} else {
		set6 = bpf_map_lookup_elem(&flow_cache6, &set);
		rest = bpf_map_lookup_elem(&flow_rest6, &set);
		if (!set6 || !rest)
			return 0;
		marks = &set6->line[way].marks;
		decision = &rest->line[way].decision;
	}
	decision->class = number;
	if (!number)
		marks->origin = (marks->origin & ~FLOW_VERDICT_MASK) | FLOW_VERDICT_ASK;
	return 0;
}

SEC("tc") int shape_find(struct __sk_buff *skb)
{
	const struct decide_ask *ask = decide_ask_get();
	__u32 draft = SHAPE_OF_PACKET, zero = 0, number;
	struct shape_packet p = {.local = 2};
	struct shape_path *path = bpf_map_lookup_elem(&shape_drafts, &draft);
	struct shape_numbering *numbering;
	int once;

	if (!ask || !path)
		return SHAPE_NEXT;
	once = shape_path_make(ask, path);
	if (!path->class[0])
		return SHAPE_NEXT;
	number = shape_path_number(path);
	if (!number) {
		numbering = bpf_map_lookup_elem(&shape_numbering, &zero);
		if (numbering)
			__sync_fetch_and_add(&numbering->full, ask->packets);
	}
	shape_path_keep(ask, once ? 0 : number);
	p.packets = ask->packets;
	p.bytes = ask->bytes;
	p.tick = ask->now;
	p.out = ask->out != 0;
	p.counts = bpf_get_smp_processor_id() * SHAPE_CLASSES_MAX;
	return shape_pass(skb, &p, path, number, 0, 0);
}

SEC("tc") int shape_explain(struct __sk_buff *skb)
{
	__u32 question = DECIDE_QUESTION, draft = SHAPE_OF_QUESTION, zero = 0;
	const struct decide_ask *ask = bpf_map_lookup_elem(&decide_asks, &question);
	struct shape_path *path = bpf_map_lookup_elem(&shape_drafts, &draft);

	if (!ask || !path)
		return SHAPE_NEXT;
	shape_path_make(ask, path);
	bpf_map_update_elem(&shape_explanation, &zero, path, BPF_ANY);
	return SHAPE_NEXT;
}

char _license[] SEC("license") = "Dual BSD/GPL";
