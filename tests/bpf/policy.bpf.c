// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* Judges facts from a map, one a run: for the differential test and for bench/classify. */
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "bpf/lib/memory.h"
#include "bpf/lib/policy.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 1);
	__type(key, __u32);
	__array(values, struct unit_memory);
} policies SEC(".maps");

struct header {
	struct policy_facts facts;
	__u32 unit;   /* of the first rule that fits */
	__u32 fits;   /* how many do */
	__u32 fickle; /* after the first */
	__u32 broken;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct header);
} headers SEC(".maps");

struct work {
	struct policy_cursor cursor;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct work);
} works SEC(".maps");

const volatile __u32 header_mask = 0;
__u32 turn;

static __always_inline struct header *header_next(void)
{
	__u32 key = turn++ & header_mask;

	return bpf_map_lookup_elem(&headers, &key);
}

/* What all of this costs without the policy. */
SEC("tc") int judge_nothing(struct __sk_buff *skb)
{
	struct header *header = header_next();
	__u32 zero = 0;
	struct work *work = bpf_map_lookup_elem(&works, &zero);
	void *memory = bpf_map_lookup_elem(&policies, &zero);

	if (!header || !work || !memory)
		return 1;
	header->unit =
		header->facts.src[0] ^ header->facts.dst[0] ^ header->facts.sport ^ header->facts.dport;
	return 0;
}

SEC("tc") int judge(struct __sk_buff *skb)
{
	struct header *header = header_next();
	__u32 zero = 0;
	struct work *work = bpf_map_lookup_elem(&works, &zero);
	void *memory = bpf_map_lookup_elem(&policies, &zero);

	if (!header || !work || !memory)
		return 1;
	policy_begin(memory, &work->cursor, &header->facts);
	header->unit = policy_next(memory, &work->cursor, &header->facts);
	return 0;
}

/* Every rule that fits. */
SEC("tc") int judge_all(struct __sk_buff *skb)
{
	struct header *header = header_next();
	__u32 zero = 0, i;
	struct work *work = bpf_map_lookup_elem(&works, &zero);
	void *memory = bpf_map_lookup_elem(&policies, &zero);

	if (!header || !work || !memory)
		return 1;
	header->fits = 0;
	policy_begin(memory, &work->cursor, &header->facts);
	for (i = 0; i < 40; i++) {
		__u32 unit = policy_next(memory, &work->cursor, &header->facts);

		if (!i) {
			header->unit = unit;
			header->fickle = work->cursor.fickle;
		}
		if (!unit)
			break;
		header->fits++;
	}
	header->broken = work->cursor.broken;
	return 0;
}

char _license[] SEC("license") = "Dual BSD/GPL";
