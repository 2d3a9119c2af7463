// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * From classic BPF to eBPF.  docs/adr/0005 says why it is done so.
 *
 * Classic jumps lead forward (but for `protochain`), so one pass over the program backwards and one forwards
 * tell all that is needed:
 *
 *   need    how many bytes every way from here to a match reads.  A packet that has fewer cannot match, so
 * the first load checks for all that follow.  Where no way leads to a match, need is NEVER, and a jump to
 *           there is a jump to the no-match tail.
 *   have    how many bytes the checks on every way to here have found.
 *   raw     a value that is only compared with constants stays as it stands in the packet, and the constants
 *           are swapped instead.
 *
 * The same for bytes behind X (need_x, have_x), which is how libpcap reads what follows an IPv4 header.
 *
 * Each program is written twice for a packet that may not be contiguous: the direct copy reads it through
 * data and data_end; where a check fails it leaves for the same instruction in the patient copy, which asks
 * the kernel for every load.
 *
 *   r0 scratch, result    r5 direct: data + X (have_x >= 0)
 *   r1 direct: data       r6 context
 *   r2 direct: data_end   r7 A
 *   r3 scratch            r8 X
 *   r4 scratch            r9 the caller's
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "compile/translate.h"

/* Below r10. */
#define STACK_MEMORY(i) (-4 * (short)((i) + 1))
#define STACK_BYTES     (-72) /* what was asked for */
#define STACK_LENGTH    (-76)
#define STACK_INTERFACE (-80)
#define STACK_TAG       (-84)
#define STACK_ROUNDS(i) (-96 - 8 * (short)(i)) /* whole words: the verifier counts along */
_Static_assert(-STACK_ROUNDS(CLASSIC_LOOPS_MAX - 1) <= EXPRESSION_STACK, "the stack that was promised");

enum {
	A = BPF_REG_7,
	X = BPF_REG_8,
	CONTEXT = BPF_REG_6,
	DATA = BPF_REG_1,
	END = BPF_REG_2,
	BEHIND_X = BPF_REG_5
};

static bool is_raw(const struct part *part, uint32_t value)
{
	return value && !part->swapped[look_value_root(part, value - 1)];
}

/* A constant for a comparison with A. */
static uint32_t constant(const struct part *part, size_t at)
{
	const struct sock_filter *filter = &part->program->filters[at];
	uint32_t value = part->facts[at].value, k = filter->k;

	if (!is_raw(part, value))
		return k;
	if (BPF_SIZE(part->program->filters[look_value_root(part, value - 1)].code) == BPF_W)
		return htonl(k);
	if (filter->code == (BPF_JMP | BPF_JEQ | BPF_K) && k > UINT16_MAX)
		return k; /* fits no value of two bytes, raw or not */
	return htons((uint16_t)k);
}

/* From a place of the direct copy into the patient one, if the packet is long enough for it to end well. */
static void leave(struct writer *writer, const struct part *part, size_t at, uint32_t bytes)
{
	emit_label(writer, part_label(part, LABEL_LEAVE, at));
	if (writer->target->context == EXPRESSION_SKB && bytes) {
		emit_load(writer, BPF_W, BPF_REG_3, CONTEXT, offsetof(struct __sk_buff, len));
		if (is_indirect(&part->program->filters[at])) {
			emit(writer, BPF_ALU | BPF_MOV | BPF_X, BPF_REG_4, X, 0, 0);
			emit_add(writer, BPF_REG_4, (int)bytes);
			emit_jump(writer, BPF_JMP | BPF_JGT | BPF_X, BPF_REG_4, BPF_REG_3, 0, LABEL_NO_MATCH);
		} else {
			emit_jump(writer, BPF_JMP | BPF_JLT | BPF_K, BPF_REG_3, 0, bytes, LABEL_NO_MATCH);
		}
	}
	emit_go(writer, part_label(part, LABEL_PATIENT, at));
}

/* Makes sure that a direct load can be done.  ret_base and the value are where it is to be read. */
static void direct_check(
	struct writer *writer, struct part *part, size_t at, uint8_t *ret_base, uint32_t *ret_leaves)
{
	const struct sock_filter *filter = &part->program->filters[at];
	const struct fact *fact = &part->facts[at];
	bool buffer = writer->target->context == EXPRESSION_BUFFER, indirect = is_indirect(filter);
	uint32_t end = look_load_end(filter), most = writer->direct_most;
	uint32_t bytes = look_check_bytes(indirect ? fact->need_x : fact->need, end, most);
	uint32_t x_most = buffer ? most - bytes : DIRECT_MAX;
	size_t short_label = buffer ? LABEL_NO_MATCH : part_label(part, LABEL_LEAVE, at);
	uint8_t base = indirect ? BEHIND_X : DATA;

	*ret_base = base;
	*ret_leaves = 0;
	if (indirect ? !fact->no_x && fact->have_x >= end : fact->have >= end)
		return;
	*ret_leaves = bytes;
	if (indirect && (fact->no_x || buffer)) {
		if (fact->x_max > x_most)
			emit_jump(writer, BPF_JMP32 | BPF_JGT | BPF_K, X, 0, x_most, short_label);
		emit_move(writer, BEHIND_X, DATA);
		emit(writer, BPF_ALU64 | BPF_ADD | BPF_X, BEHIND_X, X, 0, 0);
	}
	if (buffer && !indirect) {
		emit_jump(writer, BPF_JMP | BPF_JLT | BPF_K, END, 0, bytes, short_label);
		return;
	}
	emit_move(writer, BPF_REG_3, buffer ? X : base);
	emit_add(writer, BPF_REG_3, (int)bytes);
	emit_jump(writer, BPF_JMP | BPF_JGT | BPF_X, BPF_REG_3, END, 0, short_label);
}

static void direct_load(struct writer *writer, struct part *part, size_t at, uint8_t dst, bool raw)
{
	const struct sock_filter *filter = &part->program->filters[at];
	uint32_t offset = filter->k, leaves;
	uint8_t base;

	direct_check(writer, part, at, &base, &leaves);
	part->facts[at].patient = leaves && writer->target->context != EXPRESSION_BUFFER;
	part->facts[at].leaves = leaves;
	if (offset > INT16_MAX) { /* more than an instruction holds */
		emit_move(writer, BPF_REG_3, base);
		emit_add(writer, BPF_REG_3, (int)offset);
		base = BPF_REG_3;
		offset = 0;
	}
	emit_load(writer, BPF_SIZE(filter->code), dst, base, offset);
	if (!raw)
		emit_swap(writer, dst, BPF_SIZE(filter->code));
}

static void patient_load(struct writer *writer, const struct part *part, size_t at, uint8_t dst, bool raw)
{
	const struct sock_filter *filter = &part->program->filters[at];
	uint8_t size = BPF_SIZE(filter->code);
	bool indirect = is_indirect(filter);

	if (indirect)
		emit_jump(writer, BPF_JMP32 | BPF_JGT | BPF_K, X, 0, CLASSIC_OFFSET_MAX, LABEL_NO_MATCH);
	if (writer->target->context == EXPRESSION_SOCKET) {
		emit(writer, (uint8_t)(BPF_LD | size | (indirect ? BPF_IND : BPF_ABS)), 0, indirect ? X : 0,
			0, (int)filter->k);
		emit(writer, BPF_ALU | BPF_MOV | BPF_X, dst, BPF_REG_0, 0, 0);
		return;
	}
	emit_move(writer, BPF_REG_1, CONTEXT);
	if (indirect) {
		emit_move(writer, BPF_REG_2, X);
		emit_add(writer, BPF_REG_2, (int)filter->k);
	} else {
		emit_set(writer, BPF_REG_2, filter->k);
	}
	emit_move(writer, BPF_REG_3, BPF_REG_10);
	emit_add(writer, BPF_REG_3, STACK_BYTES);
	emit_set(writer, BPF_REG_4, classic_load_size(filter->code));
	emit_call(writer, writer->target->context == EXPRESSION_SKB ? BPF_FUNC_skb_load_bytes
								    : BPF_FUNC_xdp_load_bytes);
	emit_jump(writer, BPF_JMP | BPF_JNE | BPF_K, BPF_REG_0, 0, 0, LABEL_NO_MATCH);
	emit_load(writer, size, dst, BPF_REG_10, STACK_BYTES);
	if (!raw)
		emit_swap(writer, dst, size);
}

/* Loads what stands beside the packet. */
static void beside_load(struct writer *writer, const struct part *part, uint32_t what)
{
	bool out = writer->target->direction == EXPRESSION_OUT;

	if (what == CLASSIC_TYPE) {
		emit_set(writer, A, out ? CLASSIC_OUTGOING : 0);
		return;
	}
	if (what == CLASSIC_TAG_PRESENT && part->is_tagged) {
		emit_set(writer, A, 1);
		return;
	}
	switch (writer->target->context) {
	case EXPRESSION_SKB:
	case EXPRESSION_SOCKET:
		emit_load(writer, BPF_W, A, CONTEXT,
			what == CLASSIC_INTERFACE ? offsetof(struct __sk_buff, ifindex)
			: what == CLASSIC_TAG     ? offsetof(struct __sk_buff, vlan_tci)
						  : offsetof(struct __sk_buff, vlan_present));
		return;
	case EXPRESSION_XDP:
		if (what == CLASSIC_INTERFACE)
			emit_load(writer, BPF_W, A, CONTEXT, offsetof(struct xdp_md, ingress_ifindex));
		else
			emit_set(writer, A, 0);
		return;
	case EXPRESSION_BUFFER:
		emit_load(writer, BPF_W, A, BPF_REG_10,
			what == CLASSIC_INTERFACE ? STACK_INTERFACE : STACK_TAG);
		if (what == CLASSIC_TAG)
			emit(writer, BPF_ALU | BPF_AND | BPF_K, A, 0, 0, UINT16_MAX);
		else if (what == CLASSIC_TAG_PRESENT)
			emit(writer, BPF_ALU | BPF_RSH | BPF_K, A, 0, 0, 16);
	}
}

static void length_load(struct writer *writer, uint8_t dst)
{
	enum expression_context context = writer->target->context;

	if (context == EXPRESSION_SKB || context == EXPRESSION_SOCKET)
		emit_load(writer, BPF_W, dst, CONTEXT, offsetof(struct __sk_buff, len));
	else
		emit_load(writer, BPF_W, dst, BPF_REG_10, STACK_LENGTH);
}

static void translate_load(struct writer *writer, struct part *part, enum way way, size_t at)
{
	const struct sock_filter *filter = &part->program->filters[at];
	uint8_t dst = BPF_CLASS(filter->code) == BPF_LD ? A : X;
	bool raw = dst == A && is_raw(part, (uint32_t)at + 1);

	if (is_beside(filter)) {
		beside_load(writer, part, filter->k);
		return;
	}
	switch (BPF_MODE(filter->code)) {
	case BPF_IMM:
		emit_set(writer, dst, filter->k);
		return;
	case BPF_LEN:
		length_load(writer, dst);
		return;
	case BPF_MEM:
		emit_load(writer, BPF_W, dst, BPF_REG_10, STACK_MEMORY(filter->k));
		return;
	default:
		if (way == DIRECT)
			direct_load(writer, part, at, dst, raw);
		else
			patient_load(writer, part, at, dst, raw);
	}
	if (BPF_MODE(filter->code) == BPF_MSH) {
		emit(writer, BPF_ALU | BPF_AND | BPF_K, X, 0, 0, 0xf);
		emit(writer, BPF_ALU | BPF_LSH | BPF_K, X, 0, 0, 2);
	}
}

static void translate_arithmetic(struct writer *writer, const struct part *part, size_t at)
{
	const struct sock_filter *filter = &part->program->filters[at];
	uint8_t operation = BPF_OP(filter->code);

	if (operation == BPF_NEG) {
		emit(writer, BPF_ALU | BPF_NEG, A, 0, 0, 0);
		return;
	}
	if (BPF_SRC(filter->code) == BPF_K) {
		emit(writer, (uint8_t)filter->code, A, 0, 0, (int)constant(part, at));
		return;
	}
	if (operation == BPF_DIV || operation == BPF_MOD)
		emit_jump(writer, BPF_JMP32 | BPF_JEQ | BPF_K, X, 0, 0, LABEL_NO_MATCH);
	if (operation == BPF_LSH || operation == BPF_RSH) {
		/* shifted out: eBPF would shift by the rest of X / 32 */
		emit(writer, BPF_JMP32 | BPF_JLE | BPF_K, X, 0, 2, 31);
		emit_set(writer, A, 0);
		emit(writer, BPF_JMP | BPF_JA, 0, 0, 1, 0);
	}
	emit(writer, (uint8_t)filter->code, A, X, 0, 0);
}

/* Goes on at the classic instruction `to`, which may be the one that is written next. */
static void go_on(struct writer *writer, const struct part *part, enum way way, size_t to, size_t following)
{
	size_t label, at = look_follow(part, writer->result, to, &label);

	if (at == NOWHERE)
		emit_go(writer, label);
	else if (at != following)
		emit_go(writer, part_label(part, way == DIRECT ? LABEL_DIRECT : LABEL_PATIENT, at));
}

static void translate_jump(
	struct writer *writer, const struct part *part, enum way way, size_t at, size_t following)
{
	const struct sock_filter *filter = &part->program->filters[at];
	int kind = way == DIRECT ? LABEL_DIRECT : LABEL_PATIENT;
	uint8_t comparison = BPF_OP(filter->code), source = BPF_SRC(filter->code);
	size_t yes_label, no_label, yes, no;
	uint32_t k = source == BPF_K ? constant(part, at) : 0;

	if (comparison == BPF_JA && !classic_jumps_back(filter)) {
		go_on(writer, part, way, classic_ja_target(filter, at), following);
		return;
	}
	if (comparison == BPF_JA) {
		size_t head = classic_ja_target(filter, at);
		struct classic_loops loops = part->loops;
		short rounds = STACK_ROUNDS(classic_loop(&loops, head));

		yes = look_follow(part, writer->result, head, &yes_label);
		if (yes != NOWHERE)
			yes_label = part_label(part, kind, yes);
		emit_load(writer, BPF_DW, BPF_REG_3, BPF_REG_10, rounds);
		emit_add(writer, BPF_REG_3, 1);
		emit(writer, BPF_STX | BPF_MEM | BPF_DW, BPF_REG_10, BPF_REG_3, rounds, 0);
		/* Linux 6.1 takes loops that a condition closes, no others. */
		emit_jump(writer, BPF_JMP | BPF_JLE | BPF_K, BPF_REG_3, 0, EXPRESSION_CHAIN_MAX, yes_label);
		emit_go(writer, LABEL_NO_MATCH);
		return;
	}
	yes = look_follow(part, writer->result, at + 1 + filter->jt, &yes_label);
	no = look_follow(part, writer->result, at + 1 + filter->jf, &no_label);
	if (yes != NOWHERE)
		yes_label = part_label(part, kind, yes);
	if (no != NOWHERE)
		no_label = part_label(part, kind, no);

	if (yes_label == no_label) {
		go_on(writer, part, way, at + 1 + filter->jt, following);
		return;
	}
	if (yes != NOWHERE && yes == following) {
		static const uint8_t opposites[] = {
			[BPF_JEQ >> 4] = BPF_JNE, [BPF_JGT >> 4] = BPF_JLE, [BPF_JGE >> 4] = BPF_JLT};

		if (comparison != BPF_JSET) {
			emit_jump(writer, BPF_JMP32 | source | opposites[comparison >> 4], A,
				source == BPF_X ? X : 0, k, no_label);
			return;
		}
		emit(writer, BPF_JMP32 | BPF_JSET | source, A, source == BPF_X ? X : 0, 1, (int)k);
		emit_go(writer, no_label);
		return;
	}
	emit_jump(writer, BPF_JMP32 | source | comparison, A, source == BPF_X ? X : 0, k, yes_label);
	go_on(writer, part, way, at + 1 + filter->jf, following);
}

/* One classic instruction; `following` is the one that is written next, NOWHERE after the last. */
static void translate_one(struct writer *writer, struct part *part, enum way way, size_t at, size_t following)
{
	const struct sock_filter *filter = &part->program->filters[at];

	switch (BPF_CLASS(filter->code)) {
	case BPF_LD:
	case BPF_LDX:
		if (way == DIRECT && reads_packet(filter) && look_load_end(filter) > writer->direct_most) {
			part->facts[at].patient = true;
			emit_go(writer, part_label(part, LABEL_PATIENT, at));
			return;
		}
		translate_load(writer, part, way, at);
		break;
	case BPF_ST:
		emit_store(writer, STACK_MEMORY(filter->k), A);
		break;
	case BPF_STX:
		emit_store(writer, STACK_MEMORY(filter->k), X);
		break;
	case BPF_ALU:
		translate_arithmetic(writer, part, at);
		break;
	case BPF_JMP:
		translate_jump(writer, part, way, at, following);
		return;
	case BPF_RET:
		if (BPF_RVAL(filter->code) == BPF_A) {
			emit(writer, BPF_ALU | BPF_MOV | BPF_X, BPF_REG_0, A, 0, 0);
			emit_jump(writer, BPF_JMP32 | BPF_JEQ | BPF_K, BPF_REG_0, 0, 0, LABEL_NO_MATCH);
		} else {
			emit_set(writer, BPF_REG_0, filter->k);
		}
		emit_go(writer, LABEL_MATCH);
		return;
	default: /* BPF_MISC */
		if (BPF_MISCOP(filter->code) == BPF_TAX)
			emit(writer, BPF_ALU | BPF_MOV | BPF_X, X, A, 0, 0);
		else
			emit(writer, BPF_ALU | BPF_MOV | BPF_X, A, X, 0, 0);
	}
	go_on(writer, part, way, at + 1, following);
}

static void translate_copy(struct writer *writer, struct part *part, enum way way)
{
	size_t following = 0, count = part->program->count;

	for (size_t i = 0; i < count; i = following) {
		const struct fact *facts = part->facts;

		following = i + 1;
		while (following < count &&
			!(way == DIRECT ? facts[following].reached : facts[following].patient))
			following++;
		if (!(way == DIRECT ? facts[i].reached : facts[i].patient))
			continue;
		emit_label(writer, part_label(part, way == DIRECT ? LABEL_DIRECT : LABEL_PATIENT, i));
		translate_one(writer, part, way, i, following < count ? following : NOWHERE);
	}
}

/* Registers and memory that are read before they are written are 0. */
static void translate_start(struct writer *writer, const struct part *part, size_t first)
{
	uint16_t unset = 0;

	for (size_t i = 0; i < part->program->count; i++) {
		const struct sock_filter *filter = &part->program->filters[i];

		if ((BPF_CLASS(filter->code) == BPF_LD || BPF_CLASS(filter->code) == BPF_LDX) &&
			BPF_MODE(filter->code) == BPF_MEM)
			unset |= (uint16_t)(1U << filter->k & ~part->facts[i].stored);
	}
	for (int i = 0; i < BPF_MEMWORDS; i++)
		if (unset & 1U << i)
			emit(writer, BPF_ST | BPF_MEM | BPF_W, BPF_REG_10, 0, STACK_MEMORY(i), 0);
	for (size_t i = 0; i < part->loops.count; i++)
		emit(writer, BPF_ST | BPF_MEM | BPF_DW, BPF_REG_10, 0, STACK_ROUNDS(i), 0);
	if (part->facts[first].live_a)
		emit_set(writer, A, 0);
	if (part->facts[first].live_x)
		emit_set(writer, X, 0);
}

static void translate_part(struct writer *writer, struct part *part)
{
	enum expression_context context = writer->target->context;
	size_t label, first = look_follow(part, writer->result, 0, &label);

	if (first == NOWHERE) {
		emit_go(writer, label);
		return;
	}
	part->facts[first].reached = true;
	part->facts[first].no_x = true;
	part->facts[first].x_max = 0;
	if (part->has_loop)
		part->facts[first].x_max = UINT32_MAX;
	while (look_forward(part, writer))
		;
	translate_start(writer, part, first);
	/* A loop that is also entered in its middle, from a direct copy, is none that Linux 6.1 takes. */
	if (context == EXPRESSION_SOCKET || (part->has_loop && context != EXPRESSION_BUFFER)) {
		part->facts[first].patient = true;
	} else {
		translate_copy(writer, part, DIRECT);
		for (size_t i = 0; i < part->program->count; i++)
			if (writer->wanted[part_label(part, LABEL_LEAVE, i)])
				leave(writer, part, i, part->facts[i].leaves);
	}
	look_patient(part, writer);
	translate_copy(writer, part, PATIENT);
}

static bool uses(const struct part *part, bool (*use)(const struct sock_filter *filter))
{
	for (size_t i = 0; i < part->program->count; i++)
		if (use(&part->program->filters[i]))
			return true;
	return false;
}

static bool asks_length(const struct sock_filter *filter)
{
	return (BPF_CLASS(filter->code) == BPF_LD || BPF_CLASS(filter->code) == BPF_LDX) &&
	       BPF_MODE(filter->code) == BPF_LEN;
}

/* What every program needs from its context, and the choice between the two. */
static void translate_entry(struct writer *writer, const struct part *parts, size_t count)
{
	bool length = uses(&parts[0], asks_length) || (count > 1 && uses(&parts[1], asks_length));
	bool beside = uses(&parts[0], is_beside) || (count > 1 && uses(&parts[1], is_beside));

	switch (writer->target->context) {
	case EXPRESSION_SKB:
	case EXPRESSION_SOCKET:
		emit_move(writer, CONTEXT, BPF_REG_1);
		if (count > 1) {
			emit_load(
				writer, BPF_W, BPF_REG_3, CONTEXT, offsetof(struct __sk_buff, vlan_present));
			emit_jump(writer, BPF_JMP | BPF_JNE | BPF_K, BPF_REG_3, 0, 0, LABEL_TAGGED);
		}
		break;
	case EXPRESSION_XDP:
		emit_move(writer, CONTEXT, BPF_REG_1);
		if (length) {
			emit_call(writer, BPF_FUNC_xdp_get_buff_len);
			emit_store(writer, STACK_LENGTH, BPF_REG_0);
		}
		break;
	case EXPRESSION_BUFFER:
		if (length)
			emit_store(writer, STACK_LENGTH, BPF_REG_3);
		if (beside) {
			emit_store(writer, STACK_INTERFACE, BPF_REG_5);
			emit_store(writer, STACK_TAG, BPF_REG_4);
		}
		if (count > 1)
			emit_jump(writer, BPF_JMP | BPF_JNE | BPF_K, BPF_REG_4, 0, 0, LABEL_TAGGED);
	}
}

static void translate_pointers(struct writer *writer)
{
	if (writer->target->context == EXPRESSION_SKB) {
		emit_load(writer, BPF_W, DATA, CONTEXT, offsetof(struct __sk_buff, data));
		emit_load(writer, BPF_W, END, CONTEXT, offsetof(struct __sk_buff, data_end));
	} else if (writer->target->context == EXPRESSION_XDP) {
		emit_load(writer, BPF_W, DATA, CONTEXT, offsetof(struct xdp_md, data));
		emit_load(writer, BPF_W, END, CONTEXT, offsetof(struct xdp_md, data_end));
	}
}

static void translate_tails(struct writer *writer)
{
	const struct expression_target *target = writer->target;
	bool matches = writer->wanted[LABEL_RESULT] || writer->wanted[LABEL_MATCH];
	bool goes_on = matches && (target->match_count == 0 || target->match[target->match_count - 1].code !=
								       (BPF_JMP | BPF_EXIT));

	emit_label(writer, LABEL_RESULT);
	if (writer->wanted[LABEL_RESULT])
		emit_set(writer, BPF_REG_0, writer->result);
	emit_label(writer, LABEL_MATCH);
	for (size_t i = 0; matches && i < target->match_count; i++)
		emit_one(writer, target->match[i]);
	/* The verifier takes no instruction that nothing leads to. */
	emit_label(writer, LABEL_NO_MATCH);
	if (!writer->wanted[LABEL_NO_MATCH] && !goes_on)
		return;
	emit_set(writer, BPF_REG_0, 0);
	for (size_t i = 0; i < target->no_match_count; i++)
		emit_one(writer, target->no_match[i]);
}

static int part_open(struct part *part, const struct expression_program *program, struct writer *writer)
{
	int r = classic_check(program);

	if (r < 0)
		return r;
	*part = (struct part){.program = program, .labels = writer->label_count};
	writer->label_count += LABELS_EACH * program->count;
	part->facts = calloc(program->count, sizeof(*part->facts));
	part->values = calloc(program->count, sizeof(*part->values));
	part->swapped = calloc(program->count, sizeof(*part->swapped));
	if (!part->facts || !part->values || !part->swapped)
		return -ENOMEM;
	for (size_t i = 0; i < program->count; i++) {
		const struct sock_filter *filter = &program->filters[i];

		part->values[i] = (uint32_t)i;
		part->swapped[i] = writer->target->context == EXPRESSION_SOCKET;
		if (classic_jumps_back(filter)) {
			classic_loop(&part->loops, classic_ja_target(filter, i));
			part->has_loop = true;
		}
		if (!writer->result && filter->code == (BPF_RET | BPF_K))
			writer->result = filter->k;
	}
	for (size_t i = 0; part->has_loop && i < program->count; i++)
		part->swapped[i] = true;
	look_back(part, writer->target->context == EXPRESSION_BUFFER ? writer->target->buffer_bytes
								     : CLASSIC_OFFSET_MAX + 4);
	return 0;
}

static void part_close(struct part *part)
{
	free(part->facts);
	free(part->values);
	free(part->swapped);
}

static int write_all(struct writer *writer, struct part parts[2], size_t count)
{
	writer->labels = calloc(writer->label_count, sizeof(*writer->labels));
	writer->wanted = calloc(writer->label_count, sizeof(*writer->wanted));
	if (!writer->labels || !writer->wanted)
		return -ENOMEM;
	translate_entry(writer, parts, count);
	for (size_t i = 0; i < count; i++) {
		if (i == 1)
			emit_label(writer, LABEL_TAGGED);
		translate_pointers(writer);
		translate_part(writer, &parts[i]);
	}
	translate_tails(writer);
	emit_fix_jumps(writer);
	return writer->failure;
}

int expression_translate(const struct expression *expression, const struct expression_target *target,
	struct expression_code *ret_code, struct error *error)
{
	bool buffer = target->context == EXPRESSION_BUFFER;
	struct writer writer = {
		.target = target,
		.direct_most = buffer ? target->buffer_bytes : DIRECT_MAX,
		.label_count = LABELS,
	};
	/* A driver takes the tag out of a packet after XDP. */
	size_t count = expression->tagged.count && target->context != EXPRESSION_XDP ? 2 : 1;
	struct part parts[2] = {0};
	int r;

	if (buffer && (target->buffer_bytes < 1 || target->buffer_bytes > UINT16_MAX))
		return error_set(error, -EINVAL, "a buffer of %u bytes", target->buffer_bytes);
	r = part_open(&parts[0], &expression->plain, &writer);
	if (r == 0 && count > 1)
		r = part_open(&parts[1], &expression->tagged, &writer);
	parts[1].is_tagged = true;
	if (r == 0)
		r = write_all(&writer, parts, count);
	part_close(&parts[0]);
	part_close(&parts[1]);
	free(writer.fixups);
	free(writer.labels);
	free(writer.wanted);
	if (r == 0) {
		*ret_code = (struct expression_code){.instructions = writer.code, .count = writer.count};
		return 0;
	}
	free(writer.code);
	if (r == -E2BIG) {
		error_set(error, r, "the expression is too long for the kernel");
		return error_want(error, "say less: at most %d instructions and %d protochain",
			EXPRESSION_CODE_MAX, CLASSIC_LOOPS_MAX);
	}
	return error_set(error, r,
		r == -ENOMEM ? "no memory to translate the expression" : "not a program that libpcap writes");
}

void expression_code_clear(struct expression_code *code)
{
	free(code->instructions);
	*code = (struct expression_code){0};
}
