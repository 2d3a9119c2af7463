// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* Asks limit_judge() what the packet says, and notes what came of it. */
#include "bpf/lib/limit.h"

#include "bpf/limit.h"

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct limit_result);
} limit_results SEC(".maps");

SEC("xdp") int limit_ask(struct xdp_md *context)
{
	struct limit_question *question = (void *)(long)context->data;
	struct limit_result *result;
	struct policy_facts facts = {};
	__u32 key = 0;
	__u64 before;
	int i, verdict;

	if ((void *)(question + 1) > (void *)(long)context->data_end)
		return -1;
	result = bpf_map_lookup_elem(&limit_results, &key);
	if (!result)
		return -1;
	facts.family = question->family;
	for (i = 0; i < 4; i++) {
		facts.src[i] = question->src[i];
		facts.dst[i] = question->dst[i];
	}
	before = bpf_ktime_get_ns();
	if (question->connection == LIMIT_ENDS) {
		limit_connection_end(question->place + 1, result->whom);
		return 0;
	}
	verdict = question->connection == LIMIT_BEGINS
	                  ? limit_connection_begin(question->place, &facts, &result->whom)
	                  : limit_judge(question->place, &facts, question->packets, question->bytes);
	result->last_from = before;
	result->last_to = bpf_ktime_get_ns();
	if (!result->first_from) {
		result->first_from = before;
		result->first_to = result->last_to;
	}
	if (verdict == LIMIT_WITHIN)
		result->within++;
	else if (verdict == LIMIT_OVER)
		result->over++;
	else
		result->full++;
	return verdict;
}

char _license[] SEC("license") = "Dual BSD/GPL";
