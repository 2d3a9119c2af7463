/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Translation of expressions from inside (compile/translate.c): what its files share. */
#ifndef WEIR_COMPILE_TRANSLATE_H
#define WEIR_COMPILE_TRANSLATE_H

#include <linux/bpf.h>

#include "compile/classic.h"

#define NEVER UINT32_MAX

/* Packet pointers: constant offset and X are at most this each (the verifier's limit is 0xffff for the sum,
 * an instruction's offset has 15 bits). */
#define DIRECT_MAX 0x7fff
/* How a copy of a program reads the packet. */
enum way { DIRECT, PATIENT };

struct fact {
	bool reached, patient; /* in the direct copy, in the patient one */
	bool live_a, live_x;   /* read before written, from here on */
	bool no_x;             /* BEHIND_X is not set */
	uint16_t stored;       /* slots of M[] written on every way to here */
	uint32_t need, need_x, have, have_x;
	uint32_t x_max;
	uint32_t leaves; /* bytes that the direct load checks for; 0: no check */
	uint32_t
		value; /* what A is: the instruction that made it, + 1; 0: the 0 of the start, or not known */
};

/* One program under translation. */
struct part {
	const struct expression_program *program;
	struct fact *facts;
	uint32_t *
		values; /* by the instruction that made it: another value that it has to be like, or itself */
	bool *swapped;  /* of those that are themselves: it cannot stay raw */
	struct classic_loops loops;
	bool has_loop, is_tagged;
	size_t labels; /* the first of this program's */
};

struct fixup {
	size_t at, label;
};

struct writer {
	const struct expression_target *target;
	uint32_t direct_most; /* bytes that direct loads reach */
	uint32_t result;      /* of most returns that match */
	struct bpf_insn *code;
	struct fixup *fixups;
	size_t count, room, fixup_count, fixup_room;
	size_t *labels, label_count; /* where each stands, + 1 */
	bool *wanted;                /* labels that are jumped to */
	int failure;
};

enum { LABEL_RESULT, LABEL_MATCH, LABEL_NO_MATCH, LABEL_TAGGED, LABELS };
enum { LABEL_DIRECT, LABEL_PATIENT, LABEL_LEAVE, LABELS_EACH };

#define NOWHERE SIZE_MAX

static inline size_t part_label(const struct part *part, int kind, size_t at)
{
	return part->labels + (size_t)kind * part->program->count + at;
}

static inline bool is_absolute(const struct sock_filter *filter)
{
	return filter->code == (BPF_LDX | BPF_MSH | BPF_B) ||
	       (BPF_CLASS(filter->code) == BPF_LD && BPF_MODE(filter->code) == BPF_ABS);
}

static inline bool is_indirect(const struct sock_filter *filter)
{
	return BPF_CLASS(filter->code) == BPF_LD && BPF_MODE(filter->code) == BPF_IND;
}

/* A question about what stands beside the packet. */
static inline bool is_beside(const struct sock_filter *filter)
{
	return BPF_CLASS(filter->code) == BPF_LD && BPF_MODE(filter->code) == BPF_ABS &&
	       (filter->k == CLASSIC_TYPE || filter->k == CLASSIC_INTERFACE || filter->k == CLASSIC_TAG ||
		       filter->k == CLASSIC_TAG_PRESENT);
}

static inline bool reads_packet(const struct sock_filter *filter)
{
	return (is_absolute(filter) && !is_beside(filter)) || is_indirect(filter);
}

/* translate_code.c: instructions are written one behind the other.  What fails is in writer->failure. */
void emit_one(struct writer *writer, struct bpf_insn instruction);
void emit(struct writer *writer, uint8_t code, uint8_t dst, uint8_t src, short offset, int immediate);
void emit_move(struct writer *writer, uint8_t dst, uint8_t src);
void emit_set(struct writer *writer, uint8_t dst, uint32_t value);
void emit_add(struct writer *writer, uint8_t dst, int value);
void emit_load(struct writer *writer, uint8_t size, uint8_t dst, uint8_t src, long offset);
void emit_store(struct writer *writer, short offset, uint8_t src);
void emit_call(struct writer *writer, int helper);
/* A jump to a label; code JA: always. */
void emit_jump(
	struct writer *writer, uint8_t code, uint8_t dst, uint8_t src, uint32_t immediate, size_t label);
void emit_go(struct writer *writer, size_t label);
void emit_label(struct writer *writer, size_t label);
/* From network byte order in memory to a number. */
void emit_swap(struct writer *writer, uint8_t dst, uint8_t size);
/* Jumps lead to the labels now. */
void emit_fix_jumps(struct writer *writer);

/* translate_look.c: what is known about a program before it is written. */
/* Bytes from where the load counts (the packet's begin or X) to its end. */
uint32_t look_load_end(const struct sock_filter *filter);
/* Where a jump to `at` ends: past jumps that only lead on, and at a tail for a return that is one.
 * ret_label is the tail's label, for which NOWHERE is returned. */
size_t look_follow(const struct part *part, uint32_t result, size_t at, size_t *ret_label);
/* Backwards: need, need_x, liveness.  `limit` is the longest packet. */
void look_back(const struct part *part, uint32_t limit);
uint32_t look_value_root(const struct part *part, uint32_t value);
/* How many bytes a load checks for: all that the ways behind it need, if that can be. */
uint32_t look_check_bytes(uint32_t need, uint32_t end, uint32_t most);
/* Forwards, the direct copy: what is reached and known.  Of a program with a loop only what is reached.
 * Returns whether a jump back reached something new. */
bool look_forward(const struct part *part, const struct writer *writer);
/* Of a program whose places in the patient copy that the direct one leaves for are marked: the rest of it. */
void look_patient(const struct part *part, const struct writer *writer);

#endif
