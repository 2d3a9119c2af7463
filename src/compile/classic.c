// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* Classic BPF in user space: is it a program, and what does it say of a packet? */
#include "compile/classic.h"

#include <errno.h>

#define CLASSIC_FILTERS_MAX 65536

/* NOLINTBEGIN(misc-redundant-expression): parts of an opcode that are 0 are written all the same. */
static bool instruction_known(const struct sock_filter *filter)
{
	switch (filter->code) {
	case BPF_LD | BPF_ABS | BPF_B:
	case BPF_LD | BPF_ABS | BPF_H:
	case BPF_LD | BPF_ABS | BPF_W:
	case BPF_LD | BPF_IND | BPF_B:
	case BPF_LD | BPF_IND | BPF_H:
	case BPF_LD | BPF_IND | BPF_W:
	case BPF_LD | BPF_LEN | BPF_W:
	case BPF_LDX | BPF_LEN | BPF_W:
	case BPF_LD | BPF_IMM:
	case BPF_LDX | BPF_IMM:
	case BPF_LDX | BPF_MSH | BPF_B:
	case BPF_MISC | BPF_TAX:
	case BPF_MISC | BPF_TXA:
	case BPF_RET | BPF_K:
	case BPF_RET | BPF_A:
	case BPF_JMP | BPF_JA:
	case BPF_JMP | BPF_JEQ | BPF_K:
	case BPF_JMP | BPF_JEQ | BPF_X:
	case BPF_JMP | BPF_JGT | BPF_K:
	case BPF_JMP | BPF_JGT | BPF_X:
	case BPF_JMP | BPF_JGE | BPF_K:
	case BPF_JMP | BPF_JGE | BPF_X:
	case BPF_JMP | BPF_JSET | BPF_K:
	case BPF_JMP | BPF_JSET | BPF_X:
	case BPF_ALU | BPF_NEG:
	case BPF_ALU | BPF_ADD | BPF_K:
	case BPF_ALU | BPF_ADD | BPF_X:
	case BPF_ALU | BPF_SUB | BPF_K:
	case BPF_ALU | BPF_SUB | BPF_X:
	case BPF_ALU | BPF_MUL | BPF_K:
	case BPF_ALU | BPF_MUL | BPF_X:
	case BPF_ALU | BPF_AND | BPF_K:
	case BPF_ALU | BPF_AND | BPF_X:
	case BPF_ALU | BPF_OR | BPF_K:
	case BPF_ALU | BPF_OR | BPF_X:
	case BPF_ALU | BPF_XOR | BPF_K:
	case BPF_ALU | BPF_XOR | BPF_X:
	case BPF_ALU | BPF_DIV | BPF_X:
	case BPF_ALU | BPF_MOD | BPF_X:
	case BPF_ALU | BPF_LSH | BPF_X:
	case BPF_ALU | BPF_RSH | BPF_X:
		return true;
	case BPF_LD | BPF_MEM:
	case BPF_LDX | BPF_MEM:
	case BPF_ST:
	case BPF_STX:
		return filter->k < BPF_MEMWORDS;
	case BPF_ALU | BPF_DIV | BPF_K:
	case BPF_ALU | BPF_MOD | BPF_K:
		return filter->k != 0;
	case BPF_ALU | BPF_LSH | BPF_K:
	case BPF_ALU | BPF_RSH | BPF_K:
		return filter->k < 32;
	default:
		return false;
	}
}
/* NOLINTEND(misc-redundant-expression) */

int classic_loop(struct classic_loops *loops, size_t head)
{
	size_t i = 0;

	while (i < loops->count && loops->heads[i] != head)
		i++;
	if (i == CLASSIC_LOOPS_MAX)
		return -E2BIG;
	if (i == loops->count)
		loops->heads[loops->count++] = head;
	return (int)i;
}

int classic_check(const struct expression_program *program)
{
	struct classic_loops loops = {0};

	if (program->count < 1 || program->count > CLASSIC_FILTERS_MAX)
		return -EINVAL;
	for (size_t i = 0; i < program->count; i++) {
		const struct sock_filter *filter = &program->filters[i];
		size_t last = i + 1; /* the farthest instruction that may come next */

		if (!instruction_known(filter))
			return -EINVAL;
		if (BPF_CLASS(filter->code) == BPF_RET)
			continue;
		if (filter->code == (BPF_JMP | BPF_JA))
			last = classic_ja_target(filter, i); /* before the program: wraps round */
		else if (BPF_CLASS(filter->code) == BPF_JMP)
			last = i + 1 + (filter->jt > filter->jf ? filter->jt : filter->jf);
		if (last >= program->count)
			return -EINVAL;
		if (classic_jumps_back(filter) && classic_loop(&loops, last) < 0)
			return -E2BIG;
	}
	return 0;
}

static uint32_t bytes_read(const uint8_t *bytes, unsigned int size)
{
	uint32_t value = 0;

	for (unsigned int i = 0; i < size; i++)
		value = value << 8 | bytes[i];
	return value;
}

static bool beside_read(const struct expression_packet *packet, uint32_t offset, uint32_t *ret_value)
{
	switch (offset) {
	case CLASSIC_TYPE:
		*ret_value = packet->direction == EXPRESSION_OUT ? CLASSIC_OUTGOING : 0;
		return true;
	case CLASSIC_INTERFACE:
		*ret_value = packet->ifindex;
		return true;
	case CLASSIC_TAG:
		*ret_value = packet->tagged ? packet->tag : 0;
		return true;
	case CLASSIC_TAG_PRESENT:
		*ret_value = packet->tagged;
		return true;
	default:
		return false;
	}
}

static bool packet_read(
	const struct expression_packet *packet, uint64_t offset, unsigned int size, uint32_t *ret_value)
{
	if (offset >= CLASSIC_BESIDE && offset <= UINT32_MAX)
		return beside_read(packet, (uint32_t)offset, ret_value);
	if (offset + size > packet->captured)
		return false;
	*ret_value = bytes_read(packet->bytes + offset, size);
	return true;
}

/* false: division by zero. */
static bool arithmetic(__u16 operation, uint32_t *a, uint32_t b)
{
	switch (operation) {
	case BPF_ADD:
		*a += b;
		return true;
	case BPF_SUB:
		*a -= b;
		return true;
	case BPF_MUL:
		*a *= b;
		return true;
	case BPF_AND:
		*a &= b;
		return true;
	case BPF_OR:
		*a |= b;
		return true;
	case BPF_XOR:
		*a ^= b;
		return true;
	case BPF_LSH:
		*a = b < 32 ? *a << b : 0;
		return true;
	case BPF_RSH:
		*a = b < 32 ? *a >> b : 0;
		return true;
	case BPF_NEG:
		*a = -*a;
		return true;
	case BPF_DIV:
		*a = b ? *a / b : 0;
		return b != 0;
	default: /* BPF_MOD */
		*a = b ? *a % b : 0;
		return b != 0;
	}
}

static bool compare(__u16 comparison, uint32_t a, uint32_t b)
{
	switch (comparison) {
	case BPF_JEQ:
		return a == b;
	case BPF_JGT:
		return a > b;
	case BPF_JGE:
		return a >= b;
	default: /* BPF_JSET */
		return (a & b) != 0;
	}
}

uint32_t expression_run(const struct expression *expression, const struct expression_packet *packet)
{
	const struct expression_program *program =
		packet->tagged && expression->tagged.count ? &expression->tagged : &expression->plain;
	uint32_t a = 0, x = 0, memory[BPF_MEMWORDS] = {0};
	unsigned int rounds[CLASSIC_LOOPS_MAX] = {0};
	struct classic_loops loops = {0};

	for (size_t i = 0; i < program->count; i++) {
		const struct sock_filter *filter = &program->filters[i];
		uint32_t operand = BPF_SRC(filter->code) == BPF_X ? x : filter->k;
		uint32_t *target = BPF_CLASS(filter->code) == BPF_LDX ? &x : &a;

		switch (BPF_CLASS(filter->code)) {
		case BPF_LD:
		case BPF_LDX:
			switch (BPF_MODE(filter->code)) {
			case BPF_IMM:
				*target = filter->k;
				break;
			case BPF_LEN:
				*target = packet->length;
				break;
			case BPF_MEM:
				*target = memory[filter->k];
				break;
			case BPF_MSH:
				if (filter->k > CLASSIC_OFFSET_MAX || !packet_read(packet, filter->k, 1, &x))
					return 0;
				x = (x & 0xf) << 2;
				break;
			case BPF_ABS:
				if (!packet_read(packet, filter->k, classic_load_size(filter->code), &a))
					return 0;
				break;
			default: /* BPF_IND */
				if ((uint64_t)x + filter->k > CLASSIC_OFFSET_MAX ||
					!packet_read(packet, (uint64_t)x + filter->k,
						classic_load_size(filter->code), &a))
					return 0;
			}
			break;
		case BPF_ST:
			memory[filter->k] = a;
			break;
		case BPF_STX:
			memory[filter->k] = x;
			break;
		case BPF_ALU:
			if (!arithmetic(BPF_OP(filter->code), &a, operand))
				return 0;
			break;
		case BPF_JMP:
			if (BPF_OP(filter->code) == BPF_JA) {
				if (classic_jumps_back(filter)) {
					int loop = classic_loop(&loops, classic_ja_target(filter, i));

					if (loop < 0 || ++rounds[loop] > EXPRESSION_CHAIN_MAX)
						return 0;
				}
				i = classic_ja_target(filter, i) - 1;
			} else {
				i += compare(BPF_OP(filter->code), a, operand) ? filter->jt : filter->jf;
			}
			break;
		case BPF_RET:
			return BPF_RVAL(filter->code) == BPF_A ? a : filter->k;
		default: /* BPF_MISC */
			if (BPF_MISCOP(filter->code) == BPF_TAX)
				x = a;
			else
				a = x;
		}
	}
	return 0;
}
