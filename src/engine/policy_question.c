// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* Questions to the programs that judge: does a policy decide as expected, what would become of a packet? */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <string.h>
#include <sys/random.h>

#include "engine/policy_internal.h"

int engine_policy_check(struct engine *engine, unsigned int number, bool xdp,
	const struct policy_facts *facts, uint32_t *ret_rules, size_t count, struct error *error)
{
	struct policy_engine *policy = policy_of(engine);
	int r = policy_load(policy, error);

	if (r < 0)
		return r;
	for (size_t done = 0, some; done < count && r == 0; done += some) {
		LIBBPF_OPTS(bpf_test_run_opts, options);

		some = count - done < POLICY_CHECKS_MAX ? count - done : POLICY_CHECKS_MAX;
		policy->check->place = policy_place(policy, number) ^ 1;
		policy->check->xdp = xdp;
		policy->check->count = (__u32)some;
		memcpy(policy->check->facts, facts + done, some * sizeof(*facts));
		r = bpf_prog_test_run_opts(bpf_program__fd(policy->skeleton->progs.decide_check), &options);
		if (r == 0 && options.retval)
			r = -ENOENT;
		if (r == 0)
			memcpy(ret_rules + done, policy->check->rules, some * sizeof(*ret_rules));
	}
	return r < 0 ? error_set(error, r, "the rules cannot be verified: %s", strerror(-r)) : 0;
}

/* What a packet without a link header is. */
static __be16 ethertype_of(const uint8_t *packet)
{
	return htons(packet[0] >> 4 == 6 ? ETH_P_IPV6 : ETH_P_IP);
}

int engine_policy_explain(struct engine *engine, const void *packet, size_t size, bool ethernet,
	uint32_t ifindex, bool out, uint32_t owner, struct policy_explanation *ret_explanation,
	struct error *error)
{
	struct policy_engine *policy = policy_of(engine);
	struct policy_question question = {.ifindex = ifindex, .owner = owner, .out = out};
	static const struct policy_question nothing;
	struct __sk_buff skb = {};
	LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = packet, .data_size_in = (__u32)size, .repeat = 1,
		.ctx_in = &skb, .ctx_size_in = sizeof(skb));
	struct policy_explanation none = {.action = POLICY_ACCEPT, .hook = 1};
	const struct decide_bpf *skeleton;
	__u32 zero = 0;
	int r = policy_load(policy, error);

	if (r < 0)
		return r;
	skeleton = policy->skeleton;
	if (!ethernet)
		question.ethertype = ethertype_of(packet);
	if (getrandom(question.token, sizeof(question.token), 0) != sizeof(question.token))
		return error_set(error, -errno, "cannot get random numbers: %s", strerror(errno));
	question.token[0] |= 1;
	skb.mark = question.token[0];
	skb.priority = question.token[1];
	if (bpf_map_update_elem(bpf_map__fd(skeleton->maps.decide_question), &zero, &question, BPF_ANY) < 0 ||
		bpf_map_update_elem(bpf_map__fd(skeleton->maps.decide_explanation), &zero, &none, BPF_ANY) <
			0)
		r = -errno;
	if (r == 0)
		r = bpf_prog_test_run_opts(bpf_program__fd(ethernet ? skeleton->progs.decide_ask_ethernet
								    : skeleton->progs.decide_ask_raw),
			&options);
	bpf_map_update_elem(bpf_map__fd(skeleton->maps.decide_question), &zero, &nothing, BPF_ANY);
	if (r == 0 && bpf_map_lookup_elem(
			      bpf_map__fd(skeleton->maps.decide_explanation), &zero, ret_explanation) < 0)
		r = -errno;
	return r < 0 ? error_set(error, r, "the rules cannot be asked: %s", strerror(-r)) : 0;
}
