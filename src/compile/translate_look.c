// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* What a translation has to know beforehand: one pass over the program backwards, one forwards (translate.c).
 */
#include <stdlib.h>

#include "compile/translate.h"

uint32_t look_load_end(const struct sock_filter *filter)
{
	return filter->k + classic_load_size(filter->code);
}

/* The instructions that may come next: 0, 1 or 2. */
static unsigned int successors(const struct part *part, size_t at, size_t ret_next[2])
{
	const struct sock_filter *filter = &part->program->filters[at];

	if (BPF_CLASS(filter->code) == BPF_RET)
		return 0;
	if (BPF_CLASS(filter->code) != BPF_JMP) {
		ret_next[0] = at + 1;
		return 1;
	}
	if (BPF_OP(filter->code) == BPF_JA) {
		ret_next[0] = classic_ja_target(filter, at);
		return 1;
	}
	ret_next[0] = at + 1 + filter->jt;
	ret_next[1] = at + 1 + filter->jf;
	return ret_next[0] == ret_next[1] ? 1 : 2;
}

static bool writes_a(const struct sock_filter *filter)
{
	return BPF_CLASS(filter->code) == BPF_LD || BPF_CLASS(filter->code) == BPF_ALU ||
	       filter->code == (BPF_MISC | BPF_TXA);
}

static bool reads_a(const struct sock_filter *filter)
{
	return BPF_CLASS(filter->code) == BPF_ALU || BPF_CLASS(filter->code) == BPF_ST ||
	       (BPF_CLASS(filter->code) == BPF_JMP && BPF_OP(filter->code) != BPF_JA) ||
	       filter->code == (BPF_MISC | BPF_TAX) || filter->code == (BPF_RET | BPF_A);
}

static bool writes_x(const struct sock_filter *filter)
{
	return BPF_CLASS(filter->code) == BPF_LDX || filter->code == (BPF_MISC | BPF_TAX);
}

static bool reads_x(const struct sock_filter *filter)
{
	__u16 class = BPF_CLASS(filter->code);

	return class == BPF_STX || filter->code == (BPF_MISC | BPF_TXA) || is_indirect(filter) ||
	       ((class == BPF_ALU || (class == BPF_JMP && BPF_OP(filter->code) != BPF_JA)) &&
		       BPF_SRC(filter->code) == BPF_X && filter->code != (BPF_ALU | BPF_NEG));
}

static uint32_t larger(uint32_t a, uint32_t b)
{
	return a > b ? a : b;
}

static uint32_t smaller(uint32_t a, uint32_t b)
{
	return a < b ? a : b;
}

size_t look_follow(const struct part *part, uint32_t result, size_t at, size_t *ret_label)
{
	const struct sock_filter *filter = &part->program->filters[at];

	while (filter->code == (BPF_JMP | BPF_JA) && !classic_jumps_back(filter)) {
		at = classic_ja_target(filter, at);
		filter = &part->program->filters[at];
	}
	if (part->facts[at].need == NEVER || (filter->code == (BPF_RET | BPF_K) && !filter->k))
		*ret_label = LABEL_NO_MATCH;
	else if (filter->code == (BPF_RET | BPF_K) && filter->k == result)
		*ret_label = LABEL_RESULT;
	else
		return at;
	return NOWHERE;
}

void look_back(const struct part *part, uint32_t limit)
{
	for (size_t i = part->program->count; i-- > 0;) {
		const struct sock_filter *filter = &part->program->filters[i];
		struct fact *fact = &part->facts[i];
		size_t next[2];
		unsigned int count = successors(part, i, next);

		fact->need = fact->need_x = part->has_loop ? 0 : NEVER;
		fact->live_a = fact->live_x = part->has_loop;
		for (unsigned int j = 0; j < count && !part->has_loop; j++) {
			const struct fact *after = &part->facts[next[j]];

			fact->need = smaller(fact->need, after->need);
			fact->need_x = smaller(fact->need_x, after->need_x);
			fact->live_a |= after->live_a;
			fact->live_x |= after->live_x;
		}
		if (BPF_CLASS(filter->code) == BPF_RET && (BPF_RVAL(filter->code) == BPF_A || filter->k))
			fact->need = fact->need_x = 0;
		fact->live_a = (fact->live_a && !writes_a(filter)) || reads_a(filter);
		fact->live_x = (fact->live_x && !writes_x(filter)) || reads_x(filter);
		if (writes_x(filter) && fact->need != NEVER)
			fact->need_x = 0;
		if (!reads_packet(filter) || fact->need == NEVER)
			continue;
		if (filter->k > CLASSIC_OFFSET_MAX || look_load_end(filter) > limit) {
			fact->need = fact->need_x = NEVER;
			continue;
		}
		fact->need = larger(fact->need, look_load_end(filter)); /* X is not negative */
		if (is_indirect(filter))
			fact->need_x = larger(fact->need_x, look_load_end(filter));
	}
}

uint32_t look_value_root(const struct part *part, uint32_t value)
{
	while (part->values[value] != value)
		value = part->values[value] = part->values[part->values[value]];
	return value;
}

static void value_join(const struct part *part, uint32_t a, uint32_t b)
{
	const struct sock_filter *filters = part->program->filters;

	a = look_value_root(part, a);
	b = look_value_root(part, b);
	if (a == b)
		return;
	part->values[b] = a;
	part->swapped[a] |= part->swapped[b] || BPF_SIZE(filters[a].code) != BPF_SIZE(filters[b].code);
}

/* Compared with a constant, or masked with one: raw values can be, too. */
static bool takes_raw(const struct sock_filter *filter)
{
	return filter->code == (BPF_JMP | BPF_JEQ | BPF_K) || filter->code == (BPF_JMP | BPF_JSET | BPF_K) ||
	       filter->code == (BPF_ALU | BPF_AND | BPF_K);
}

/* What is known after one instruction is known before the next, unless another way there knows less. */
static void fact_merge(const struct part *part, struct fact *next, const struct fact *after)
{
	if (!next->reached) {
		next->reached = true;
		next->no_x = after->no_x;
		next->stored = after->stored;
		next->have = after->have;
		next->have_x = after->have_x;
		next->x_max = after->x_max;
		next->value = next->live_a ? after->value : 0;
		return;
	}
	next->no_x |= after->no_x;
	next->stored &= after->stored;
	next->have = smaller(next->have, after->have);
	next->have_x = smaller(next->have_x, after->have_x);
	next->x_max = larger(next->x_max, after->x_max);
	if (!next->live_a || !after->value)
		return;
	if (next->value)
		value_join(part, next->value - 1, after->value - 1);
	else
		next->value = after->value;
}

uint32_t look_check_bytes(uint32_t need, uint32_t end, uint32_t most)
{
	return need > most ? end : need;
}

/* What one instruction adds to what is known. */
static void fact_step(const struct part *part, size_t at, struct fact *fact, bool pointers, uint32_t most)
{
	const struct sock_filter *filter = &part->program->filters[at];

	if (fact->value && reads_a(filter) && !takes_raw(filter))
		part->swapped[look_value_root(part, fact->value - 1)] = true;
	if (reads_packet(filter) && is_absolute(filter) && fact->have < look_load_end(filter))
		fact->have = look_check_bytes(fact->need, look_load_end(filter), most);
	if (is_indirect(filter)) {
		if (fact->no_x || fact->have_x < look_load_end(filter))
			fact->have_x = look_check_bytes(fact->need_x, look_load_end(filter), most);
		fact->no_x = false;
		if (pointers)
			fact->x_max = smaller(fact->x_max, DIRECT_MAX);
	}
	/* Where A cannot equal X, Linux 6.1 looks at the way on which it does all the same, with any X. */
	if (BPF_CLASS(filter->code) == BPF_JMP && reads_x(filter))
		fact->x_max = UINT32_MAX;
	if (writes_x(filter)) {
		fact->no_x = true;
		fact->have_x = 0;
		fact->x_max = UINT32_MAX;
		if (filter->code == (BPF_LDX | BPF_IMM))
			fact->x_max = filter->k;
		else if (filter->code == (BPF_LDX | BPF_MSH | BPF_B))
			fact->x_max = 0xf << 2;
	}
	if (writes_a(filter) && filter->code != (BPF_ALU | BPF_AND | BPF_K)) {
		fact->value = (uint32_t)at + 1;
		if (!reads_packet(filter) || BPF_SIZE(filter->code) == BPF_B)
			part->swapped[look_value_root(part, (uint32_t)at)] = true;
	}
	if (BPF_CLASS(filter->code) == BPF_ST || BPF_CLASS(filter->code) == BPF_STX)
		fact->stored |= (uint16_t)(1U << filter->k);
}

bool look_forward(const struct part *part, const struct writer *writer)
{
	bool pointers = writer->target->context != EXPRESSION_BUFFER;
	uint32_t most = writer->direct_most;
	size_t label, next[2];
	unsigned int count;
	bool again = false;

	for (size_t i = 0; i < part->program->count; i++) {
		const struct sock_filter *filter = &part->program->filters[i];
		struct fact after = part->facts[i];

		/* What cannot be read directly goes on in the patient copy. */
		if (!after.reached || (reads_packet(filter) && look_load_end(filter) > most))
			continue;
		fact_step(part, i, &after, pointers, most);
		if (part->has_loop)
			after = (struct fact){.no_x = true, .x_max = UINT32_MAX};
		count = successors(part, i, next);
		for (unsigned int j = 0; j < count; j++) {
			size_t to = look_follow(part, writer->result, next[j], &label);

			if (to == NOWHERE)
				continue;
			again |= to <= i && !part->facts[to].reached;
			fact_merge(part, &part->facts[to], &after);
		}
	}
	return again;
}

void look_patient(const struct part *part, const struct writer *writer)
{
	size_t label, next[2];
	bool again; /* a jump back reached something new */

	do {
		again = false;
		for (size_t i = 0; i < part->program->count; i++) {
			unsigned int count = part->facts[i].patient ? successors(part, i, next) : 0;

			for (unsigned int j = 0; j < count; j++) {
				size_t to = look_follow(part, writer->result, next[j], &label);

				if (to == NOWHERE || part->facts[to].patient)
					continue;
				part->facts[to].patient = true;
				again |= to <= i;
			}
		}
	} while (again);
}
