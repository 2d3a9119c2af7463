// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* The instructions of a translation, and the labels that they jump to. */
#include <errno.h>
#include <stdlib.h>

#include "compile/translate.h"

static bool grow(void **array, size_t *room, size_t count, size_t size)
{
	size_t wanted = *room ? *room * 2 : 256;
	void *bigger;

	if (count < *room)
		return true;
	bigger = reallocarray(*array, wanted, size);
	if (!bigger)
		return false;
	*array = bigger;
	*room = wanted;
	return true;
}

void emit_one(struct writer *writer, struct bpf_insn instruction)
{
	if (writer->failure)
		return;
	if (!grow((void **)&writer->code, &writer->room, writer->count, sizeof(*writer->code))) {
		writer->failure = -ENOMEM;
		return;
	}
	writer->code[writer->count++] = instruction;
}

void emit(struct writer *writer, uint8_t code, uint8_t dst, uint8_t src, short offset, int immediate)
{
	if (writer->count >= EXPRESSION_CODE_MAX)
		writer->failure = writer->failure ? writer->failure : -E2BIG;
	emit_one(writer,
		(struct bpf_insn){
			.code = code, .dst_reg = dst, .src_reg = src, .off = offset, .imm = immediate});
}

void emit_move(struct writer *writer, uint8_t dst, uint8_t src)
{
	emit(writer, BPF_ALU64 | BPF_MOV | BPF_X, dst, src, 0, 0);
}

void emit_set(struct writer *writer, uint8_t dst, uint32_t value)
{
	emit(writer, BPF_ALU | BPF_MOV | BPF_K, dst, 0, 0, (int)value);
}

void emit_add(struct writer *writer, uint8_t dst, int value)
{
	/* NOLINTNEXTLINE(misc-redundant-expression): both are 0, and are written all the same */
	emit(writer, BPF_ALU64 | BPF_ADD | BPF_K, dst, 0, 0, value);
}

void emit_load(struct writer *writer, uint8_t size, uint8_t dst, uint8_t src, long offset)
{
	emit(writer, BPF_LDX | BPF_MEM | size, dst, src, (short)offset, 0);
}

void emit_store(struct writer *writer, short offset, uint8_t src)
{
	emit(writer, BPF_STX | BPF_MEM | BPF_W, BPF_REG_10, src, offset, 0);
}

void emit_call(struct writer *writer, int helper)
{
	emit(writer, BPF_JMP | BPF_CALL, 0, 0, 0, helper);
}

void emit_jump(
	struct writer *writer, uint8_t code, uint8_t dst, uint8_t src, uint32_t immediate, size_t label)
{
	if (!writer->failure && !grow((void **)&writer->fixups, &writer->fixup_room, writer->fixup_count,
					sizeof(*writer->fixups)))
		writer->failure = -ENOMEM;
	if (writer->failure)
		return;
	writer->fixups[writer->fixup_count++] = (struct fixup){writer->count, label};
	writer->wanted[label] = true;
	emit(writer, code, dst, src, 0, (int)immediate);
}

void emit_go(struct writer *writer, size_t label)
{
	emit_jump(writer, BPF_JMP | BPF_JA, 0, 0, 0, label);
}

void emit_label(struct writer *writer, size_t label)
{
	writer->labels[label] = writer->count + 1;
}

void emit_swap(struct writer *writer, uint8_t dst, uint8_t size)
{
	if (size != BPF_B)
		emit(writer, BPF_ALU | BPF_END | BPF_TO_BE, dst, 0, 0, size == BPF_H ? 16 : 32);
}

void emit_fix_jumps(struct writer *writer)
{
	for (size_t i = 0; i < writer->fixup_count && !writer->failure; i++) {
		const struct fixup *fixup = &writer->fixups[i];
		long distance = (long)writer->labels[fixup->label] - (long)fixup->at - 2;

		if (!writer->labels[fixup->label])
			writer->failure = -EINVAL; /* nothing stands there */
		else if (distance < INT16_MIN || distance > INT16_MAX)
			writer->failure = -E2BIG;
		else
			writer->code[fixup->at].off = (short)distance;
	}
}
