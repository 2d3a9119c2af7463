// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * Steering at XDP (shared/steer.h): the first sentence that fits a packet says which CPU goes on with it.
 *
 * The last program of the chain: what is dropped, balanced or forwarded does not come here.  What is steered
 * goes into the stack on its CPU, and is accounted and judged at tc there, as if it had come in there.  A
 * packet whose CPU is the one that it came in on simply goes on.
 *
 * The queue of a CPU is bounded; what does not fit is dropped by the kernel, which tells the programs below.
 */
#define PACKET_CONTEXT                          struct xdp_md
#define packet_load(context, offset, to, bytes) bpf_xdp_load_bytes(context, offset, to, bytes)

#include "bpf/lib/kernel.h"
#include "bpf/lib/live.h"

#include "bpf/lib/decide.h"
#include "bpf/lib/facts_sets.h"
#include "bpf/lib/finish.h"
#include "bpf/lib/frame.h"
#include "bpf/lib/memory.h"
#include "bpf/lib/packet.h"
#include "bpf/lib/policy.h"
#include "bpf/lib/steer.h"
#include "shared/forward.h"
#include "shared/steer.h"

#define STEER_NONE   0xffffffff
#define STEER_ENOSPC 28

const volatile __u64 steer_seed = 0; /* set by the engine */

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 2);
	__type(key, __u32);
	__array(values, struct unit_memory);
} steer_books SEC(".maps");

/* The agent sets the number of entries: the CPUs that may be there. */
struct {
	__uint(type, BPF_MAP_TYPE_CPUMAP);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct bpf_cpumap_val);
} steer_cpus SEC(".maps");

/* Twice: while a change waits for its confirmation both books have theirs. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(max_entries, 2 * STEER_LANES_MAX);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct steer_key);
	__type(value, struct steer_count);
} steer_counts SEC(".maps");

/* As many entries as `steer_cpus`. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct steer_loss);
} steer_losses SEC(".maps");

/* The ids of `steer_cpus`, for native and for generic XDP: tracing programs may not name such a map. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, STEER_KINDS);
	__type(key, __u32);
	__type(value, __u32);
} steer_cpus_id SEC(".maps");

/* One packet.  In a map: for the room, and since the verifier does not follow what is in there. */
struct steer_work {
	struct packet packet;
	struct policy_facts facts;
	struct policy_cursor cursor;
	struct finish finish;
	__u32 cpu;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct steer_work);
} steer_works SEC(".maps");

/* One of the fields of struct steer_loss. */
#define steer_lose(to_cpu, field, count)                                                                     \
	do {                                                                                                 \
		__u32 cpu_ = to_cpu;                                                                         \
		struct steer_loss *loss_ = bpf_map_lookup_elem(&steer_losses, &cpu_);                        \
                                                                                                             \
		if (loss_)                                                                                   \
			loss_->field += count;                                                               \
	} while (0)

/* -- the packet -- */

static __always_inline struct steer_work *steer_read(struct xdp_md *context)
{
	struct steer_work *work;
	__u32 zero = 0;

	work = bpf_map_lookup_elem(&steer_works, &zero);
	if (!work)
		return NULL;
	frame_read(context, &work->packet);
	facts_read(&work->packet, context->ingress_ifindex, 0, &work->facts);
	return work;
}

static __always_inline __u32 steer_cpu_at(void *book, const struct steer *steer, __u32 lane)
{
	const struct policy_unit *unit = trie_unit(book, steer->cpus + lane / STEER_CPUS_A_UNIT);

	lane %= STEER_CPUS_A_UNIT;
	return unit ? unit->word[lane / 4 & 7] >> (lane % 4 * 16) & 0xffff : STEER_NONE;
}

/* The sentence that fits, in the map's memory: its CPU in work->cpu; NULL: none does. */
static __noinline const struct steer *steer_find(struct xdp_md *context, void *book, __u32 set_place)
{
	const struct policy_header *header = (const void *)trie_unit(book, 0);
	struct steer_work *work = steer_read(context);
	const struct policy_rule *rule;
	const struct steer *steer;
	__u32 unit, table;

	if (!header || !work)
		return NULL;
	table = header->units;
	facts_sets(&work->facts, header->asked, set_place);
	policy_begin(book, &work->cursor, &work->facts);
	unit = policy_next(book, &work->cursor, &work->facts);
	rule = unit ? (const void *)trie_unit(book, unit) : NULL;
	if (!rule)
		return NULL;
	steer = (const void *)trie_unit(book, table + 1 + rule->source);
	if (!steer || !steer->count)
		return NULL;
	work->cpu =
		steer_cpu_at(book, steer, steer_lane(steer_hash(&work->packet, steer_seed), steer->count));
	return steer;
}

static __always_inline void steer_count(__u32 rule, __u32 cpu, __u32 bytes)
{
	const struct steer_key key = {.rule = rule, .cpu = cpu};
	struct steer_count *count = bpf_map_lookup_elem(&steer_counts, &key);

	if (!count)
		return;
	count->packets++;
	count->bytes += bytes;
}

SEC("xdp") int steer(struct xdp_md *context)
{
	__u32 zero = 0, place, cpu, now = bpf_jiffies64(), bytes = bpf_xdp_get_buff_len(context);
	const struct policy_now *in_force = bpf_map_lookup_elem(&policy_now, &zero);
	const struct steer *steer;
	struct steer_work *work;
	int verdict = XDP_PASS;
	__u64 places;
	void *book;

	if (!in_force)
		return XDP_PASS;
	places = decide_lapsed(in_force, now) ? in_force->places_before : in_force->places;
	place = places >> STEER_PLACE & 1;
	book = bpf_map_lookup_elem(&steer_books, &place);
	if (!book)
		return XDP_PASS;
	steer = steer_find(context, book, places >> SET_PLACE & 1);
	work = bpf_map_lookup_elem(&steer_works, &zero);
	if (!steer || !work || !(steer->flags & STEER_READY))
		return XDP_PASS;
	cpu = work->cpu;
	if (cpu != bpf_get_smp_processor_id()) {
		if (steer->flags & STEER_FINISH)
			finish_packet(context, &work->packet, &work->finish);
		verdict = bpf_redirect_map(&steer_cpus, cpu, XDP_PASS);
		if (verdict != XDP_REDIRECT) {
			steer_lose(cpu, absent, 1);
			return XDP_PASS;
		}
	}
	steer_count(steer->rule, cpu, bytes);
	return verdict;
}

/* -- what the kernel drops on the way -- */

static __always_inline int steer_is_ours(__u32 map_id)
{
	__u32 native = STEER_NATIVE, generic = STEER_GENERIC;
	const __u32 *one = bpf_map_lookup_elem(&steer_cpus_id, &native);
	const __u32 *other = bpf_map_lookup_elem(&steer_cpus_id, &generic);

	return one && other && (*one == map_id || *other == map_id) && live_here();
}

SEC("tp_btf/xdp_cpumap_enqueue")
int BPF_PROG(steer_enqueue, int map_id, unsigned int processed, unsigned int drops, int to_cpu)
{
	if (drops && steer_is_ours(map_id))
		steer_lose(to_cpu, full, drops);
	return 0;
}

SEC("tp_btf/xdp_cpumap_kthread")
int BPF_PROG(steer_kthread, int map_id, unsigned int processed, unsigned int drops)
{
	if (drops && steer_is_ours(map_id))
		steer_lose(bpf_get_smp_processor_id(), memory, drops);
	return 0;
}

SEC("tp_btf/xdp_redirect_err")
int BPF_PROG(steer_refuse, const void *device, const void *program, const void *target, int error,
	__u32 map_type, __u32 map_id, __u32 index)
{
	/* of a full queue steer_enqueue() hears, in generic mode, too */
	if (error != -STEER_ENOSPC && map_type == BPF_MAP_TYPE_CPUMAP && steer_is_ours(map_id))
		steer_lose(index, refused, 1);
	return 0;
}

char _license[] SEC("license") = "Dual BSD/GPL";
