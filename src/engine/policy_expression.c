// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* The expressions of policies: a program for each, which the one that decides has asked in a row. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "compile/expression.h"
#include "engine/policy_internal.h"

void policy_programs_close(struct policy_programs *programs)
{
	for (int kind = 0; kind < POLICY_EXPRESSION_KINDS && programs->text; kind++)
		if (programs->fds[kind] >= 0)
			close(programs->fds[kind]);
	free(programs->text);
	*programs = (struct policy_programs){};
}

#define MOVE(to, from)                                                                                       \
	{                                                                                                    \
		.code = BPF_ALU64 | BPF_MOV | BPF_X, .dst_reg = (to), .src_reg = (from)                      \
	}
#define SET(to, value)                                                                                       \
	{                                                                                                    \
		.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = (to), .imm = (value)                         \
	}
#define CALL(function)                                                                                       \
	{                                                                                                    \
		.code = BPF_JMP | BPF_CALL, .imm = (function)                                                \
	}
#define LOAD(size, to, from, place)                                                                          \
	{                                                                                                    \
		.code = BPF_LDX | BPF_MEM | (size), .dst_reg = (to), .src_reg = (from),                      \
		.off = (short)(place)                                                                        \
	}
#define STORE(size, to, place, from)                                                                         \
	{                                                                                                    \
		.code = BPF_STX | BPF_MEM | (size), .dst_reg = (to), .src_reg = (from),                      \
		.off = (short)(place)                                                                        \
	}
#define ADD(to, value)                                                                                       \
	{                                                                                                    \
		.code = BPF_ALU64 | BPF_ADD | BPF_K, .dst_reg = (to), .imm = (value)                         \
	}
/* two instructions; BPF_LD and BPF_IMM are 0 */
#define MAP(to, map)                                                                                         \
	{.code = BPF_DW, .dst_reg = (to), .src_reg = BPF_PSEUDO_MAP_FD, .imm = (map)},                       \
	{                                                                                                    \
	}
/* r0 = the CPU's struct policy_chain, or goes `skip` instructions on behind this */
#define CHAIN(map, skip)                                                                                     \
	MAP(BPF_REG_1, map), {.code = BPF_ST | BPF_MEM | BPF_W, .dst_reg = BPF_REG_10, .off = -4},           \
		MOVE(BPF_REG_2, BPF_REG_10), ADD(BPF_REG_2, -4), CALL(BPF_FUNC_map_lookup_elem),             \
	{                                                                                                    \
		.code = BPF_JMP | BPF_JEQ | BPF_K, .dst_reg = BPF_REG_0, .off = (skip)                       \
	}
#define CHAIN_FIELD(field) __builtin_offsetof(struct policy_chain, field)

#define _cleanup_code_ __attribute__((cleanup(expression_code_clear)))

/* One program: sets its bit if the packet fits, and calls the next, or the one that decides. */
static int expression_load(struct policy_engine *policy, const char *text, enum policy_expression_kind kind,
	int *ret_fd, struct error *error)
{
	const struct decide_bpf *skeleton = policy->skeleton;
	int chain = bpf_map__fd(skeleton->maps.decide_chain);
	int expressions = bpf_map__fd(skeleton->maps.decide_expressions);
	int programs = bpf_map__fd(skeleton->maps.decide_programs);
	const struct bpf_insn match[] = {
		CHAIN(chain, 6),
		LOAD(BPF_W, BPF_REG_1, BPF_REG_0, CHAIN_FIELD(number)),
		SET(BPF_REG_2, 1),
		{.code = BPF_ALU64 | BPF_LSH | BPF_X, .dst_reg = BPF_REG_2, .src_reg = BPF_REG_1},
		LOAD(BPF_DW, BPF_REG_1, BPF_REG_0, CHAIN_FIELD(bits)),
		{.code = BPF_ALU64 | BPF_OR | BPF_X, .dst_reg = BPF_REG_1, .src_reg = BPF_REG_2},
		STORE(BPF_DW, BPF_REG_0, CHAIN_FIELD(bits), BPF_REG_1),
	};
	const struct bpf_insn no_match[] = {
		CHAIN(chain, 10),
		LOAD(BPF_W, BPF_REG_1, BPF_REG_0, CHAIN_FIELD(number)),
		ADD(BPF_REG_1, 1),
		STORE(BPF_W, BPF_REG_0, CHAIN_FIELD(number), BPF_REG_1),
		LOAD(BPF_W, BPF_REG_3, BPF_REG_0, CHAIN_FIELD(next)),
		ADD(BPF_REG_3, 1),
		STORE(BPF_W, BPF_REG_0, CHAIN_FIELD(next), BPF_REG_3),
		MOVE(BPF_REG_1, BPF_REG_6),
		MAP(BPF_REG_2, expressions),
		CALL(BPF_FUNC_tail_call),
		MOVE(BPF_REG_1, BPF_REG_6),
		MAP(BPF_REG_2, programs),
		SET(BPF_REG_3, 0),
		CALL(BPF_FUNC_tail_call),
		SET(BPF_REG_0, -1 /* TCX_NEXT, TC_ACT_UNSPEC */),
		{.code = BPF_JMP | BPF_EXIT},
	};
	struct expression_target target = {
		.context = EXPRESSION_SKB,
		.direction = kind & POLICY_EXPRESSION_OUT ? EXPRESSION_OUT : EXPRESSION_IN,
		.match = match,
		.match_count = sizeof(match) / sizeof(match[0]),
		.no_match = no_match,
		.no_match_count = sizeof(no_match) / sizeof(no_match[0]),
	};
	struct bpf_insn never[1 + sizeof(no_match) / sizeof(no_match[0])] = {MOVE(BPF_REG_6, BPF_REG_1)};
	enum expression_link link = kind & POLICY_EXPRESSION_ETHERNET ? EXPRESSION_ETHERNET : EXPRESSION_RAW;
	_cleanup_code_ struct expression_code code = {};
	struct expression expression = {};
	struct error why = {};
	int r = expression_compile(text, link, 1, &expression, &why);

	if (r == 0) {
		r = expression_translate(&expression, &target, &code, error);
		expression_clear(&expression);
		if (r < 0)
			return r;
	} else if (link == EXPRESSION_ETHERNET) {
		*error = why;
		return r;
	}
	/* what asks for a link header fits nothing where there is none */
	memcpy(never + 1, no_match, sizeof(no_match));
	r = bpf_prog_load(BPF_PROG_TYPE_SCHED_CLS, "rule_expression", "Dual BSD/GPL",
		code.count ? code.instructions : never,
		code.count ? code.count : sizeof(never) / sizeof(never[0]), NULL);
	if (r < 0)
		return error_set(
			error, r, "the kernel does not take the program of '%s': %s", text, strerror(-r));
	*ret_fd = r;
	return 0;
}

/* The programs of an expression: those of another policy that has it, too, or new ones. */
static int programs_get(struct policy_engine *policy, const char *text, const struct policy_programs **ret,
	struct error *error)
{
	struct policy_programs *place = &policy->programs[0];
	int r = 0;

	for (size_t i = 0; i < PROGRAMS_MAX; i++) {
		struct policy_programs *programs = &policy->programs[i];

		if (programs->text && strcmp(programs->text, text) == 0) {
			programs->used = policy->brought;
			*ret = programs;
			return 0;
		}
		if (!programs->text || (place->text && programs->used < place->used))
			place = programs;
	}
	policy_programs_close(place);
	place->text = strdup(text);
	if (!place->text)
		return error_set(error, -ENOMEM, "out of memory");
	for (int kind = 0; kind < POLICY_EXPRESSION_KINDS; kind++)
		place->fds[kind] = -1;
	for (int kind = 0; kind < POLICY_EXPRESSION_KINDS && r == 0; kind++)
		r = expression_load(
			policy, text, (enum policy_expression_kind)kind, &place->fds[kind], error);
	if (r < 0) {
		policy_programs_close(place);
		return r;
	}
	place->used = policy->brought;
	*ret = place;
	return 0;
}

int policy_expressions_bring(
	struct policy_engine *policy, __u32 place, const struct policy_image *image, struct error *error)
{
	int map = bpf_map__fd(policy->skeleton->maps.decide_expressions);

	policy->brought++;
	for (size_t i = 0; i < POLICY_EXPRESSIONS_MAX; i++) {
		const struct policy_programs *programs = NULL;
		int r = 0;

		if (i < image->expression_count)
			r = programs_get(policy, image->expressions[i], &programs, error);
		if (r < 0)
			return r;
		for (__u32 kind = 0; kind < POLICY_EXPRESSION_KINDS; kind++) {
			__u32 key = POLICY_EXPRESSION_PLACE(place, kind) + (__u32)i;

			r = programs ? bpf_map_update_elem(map, &key, &programs->fds[kind], BPF_ANY)
			             : bpf_map_delete_elem(map, &key);
			if (r < 0 && programs)
				return error_set(error, -errno, "cannot put an expression into its place: %s",
					strerror(errno));
		}
	}
	return 0;
}
