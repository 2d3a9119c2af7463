// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * Any expression (of the words there are) or any classic program, over any packet: its translations, run by a
 * small machine that allows no byte outside the packet's contiguous part, the context and the stack, say what
 * the classic program says.
 */
#include <linux/bpf.h>
#include <linux/filter.h>
#include <stdlib.h>
#include <string.h>

#include "compile/classic.h"
#include "compile/expression.h"
#include "fuzz/fuzz.h"

#define PACKET_MAX  160
#define FILTERS_MAX 64
#define STEPS_MAX   100000
#define INTERFACE   3

static const char *const words[] = {"ip", "ip6", "tcp", "udp", "icmp", "icmp6", "arp", "vlan", "mpls", "host",
	"net", "port", "portrange", "src", "dst", "and", "or", "not", "(", ")", "10.0.0.1", "10.0.0.0/8",
	"fd00::1", "fd00::/16", "443", "53", "1-1024", "5", "0", "1", "0xff", "14", "0x800", "[", "]", ":",
	"2", "4", "&", "|", "+", "-", "*", "/", "%", "<<", ">>", "=", "!=", ">", ">=", "<", "len", "ether",
	"proto", "protochain", "6", "17", "less", "greater", "inbound", "outbound", "ifindex", "multicast",
	"broadcast", "tcpflags", "tcp-syn", "tcp[", "ip[", "udp[", "ether["};

struct machine {
	const struct expression_target *target;
	const struct expression_packet *packet;
	const uint8_t *bytes; /* the contiguous part, in memory of its own */
	uint32_t linear;
	uint64_t registers[11];
	uint8_t context[sizeof(struct __sk_buff)];
	uint8_t stack[512];
	bool written[512];
};

static uint64_t bytes_as(const uint8_t *bytes, unsigned int size)
{
	uint64_t value = 0;

	memcpy(&value, bytes, size); /* of a host that begins with the low byte */
	return value;
}

static uint64_t context_read(const struct machine *machine, size_t offset)
{
	uint64_t data = (uint64_t)(uintptr_t)machine->bytes;

	if (machine->target->context == EXPRESSION_XDP) {
		switch (offset) {
		case offsetof(struct xdp_md, data):
			return data;
		case offsetof(struct xdp_md, data_end):
			return data + machine->linear;
		default:
			REQUIRE(offset == offsetof(struct xdp_md, ingress_ifindex));
			return INTERFACE;
		}
	}
	REQUIRE(machine->target->context != EXPRESSION_BUFFER);
	switch (offset) {
	case offsetof(struct __sk_buff, len):
		return machine->packet->length;
	case offsetof(struct __sk_buff, vlan_present):
		return machine->packet->tagged;
	case offsetof(struct __sk_buff, vlan_tci):
		return machine->packet->tagged ? machine->packet->tag : 0;
	case offsetof(struct __sk_buff, ifindex):
		return INTERFACE;
	case offsetof(struct __sk_buff, data):
		REQUIRE(machine->target->context == EXPRESSION_SKB);
		return data;
	default:
		REQUIRE(machine->target->context == EXPRESSION_SKB);
		REQUIRE(offset == offsetof(struct __sk_buff, data_end));
		return data + machine->linear;
	}
}

static unsigned int size_of(uint8_t code)
{
	return BPF_SIZE(code) == BPF_DW ? 8 : BPF_SIZE(code) == BPF_W ? 4 : BPF_SIZE(code) == BPF_H ? 2 : 1;
}

static uint64_t memory_read(const struct machine *machine, uint64_t address, unsigned int size)
{
	uint64_t stack = (uint64_t)(uintptr_t)machine->stack, context = (uint64_t)(uintptr_t)machine->context;
	uint64_t data = (uint64_t)(uintptr_t)machine->bytes;

	if (address >= context && address < context + sizeof(machine->context))
		return context_read(machine, address - context);
	if (address >= stack && address + size <= stack + sizeof(machine->stack)) {
		for (unsigned int i = 0; i < size; i++)
			REQUIRE(machine->written[address - stack + i]);
		return bytes_as(machine->stack + (address - stack), size);
	}
	REQUIRE(address >= data && address + size <= data + machine->linear);
	return bytes_as(machine->bytes + (address - data), size);
}

static void memory_write(struct machine *machine, uint64_t address, uint64_t value, unsigned int size)
{
	uint64_t stack = (uint64_t)(uintptr_t)machine->stack;

	REQUIRE(address >= stack + sizeof(machine->stack) - EXPRESSION_STACK &&
		address + size <= stack + sizeof(machine->stack));
	memcpy(machine->stack + (address - stack), &value, size);
	memset(machine->written + (address - stack), true, size);
}

static void call(struct machine *machine, int helper)
{
	uint64_t *r = machine->registers;

	REQUIRE(r[1] == (uint64_t)(uintptr_t)machine->context);
	if (helper == BPF_FUNC_xdp_get_buff_len) {
		r[0] = machine->packet->length;
	} else {
		REQUIRE(helper == (machine->target->context == EXPRESSION_XDP ? BPF_FUNC_xdp_load_bytes
									      : BPF_FUNC_skb_load_bytes));
		r[0] = 1;
		if (r[2] + r[4] <= machine->packet->captured) {
			for (uint64_t i = 0; i < r[4]; i++)
				memory_write(machine, r[3] + i, machine->packet->bytes[r[2] + i], 1);
			r[0] = 0;
		}
	}
	for (int i = 1; i < 6; i++)
		r[i] = 0xdeadbeefdeadbeefULL;
}

static uint64_t arithmetic(uint8_t code, uint64_t a, uint64_t b)
{
	bool wide = BPF_CLASS(code) == BPF_ALU64;
	uint64_t result;

	if (!wide) {
		a = (uint32_t)a;
		b = (uint32_t)b;
	}
	switch (BPF_OP(code)) {
	case BPF_ADD:
		result = a + b;
		break;
	case BPF_SUB:
		result = a - b;
		break;
	case BPF_MUL:
		result = a * b;
		break;
	case BPF_DIV:
		result = b ? a / b : 0;
		break;
	case BPF_MOD:
		result = b ? a % b : a;
		break;
	case BPF_AND:
		result = a & b;
		break;
	case BPF_OR:
		result = a | b;
		break;
	case BPF_XOR:
		result = a ^ b;
		break;
	case BPF_LSH:
		result = a << (b & (wide ? 63 : 31));
		break;
	case BPF_RSH:
		result = a >> (b & (wide ? 63 : 31));
		break;
	case BPF_NEG:
		result = -a;
		break;
	default:
		REQUIRE(BPF_OP(code) == BPF_MOV);
		result = b;
	}
	return wide ? result : (uint32_t)result;
}

static bool jumps(uint8_t code, uint64_t a, uint64_t b)
{
	if (BPF_CLASS(code) == BPF_JMP32) {
		a = (uint32_t)a;
		b = (uint32_t)b;
	}
	switch (BPF_OP(code)) {
	case BPF_JA:
		return true;
	case BPF_JEQ:
		return a == b;
	case BPF_JNE:
		return a != b;
	case BPF_JGT:
		return a > b;
	case BPF_JGE:
		return a >= b;
	case BPF_JLT:
		return a < b;
	case BPF_JLE:
		return a <= b;
	default:
		REQUIRE(BPF_OP(code) == BPF_JSET);
		return (a & b) != 0;
	}
}

/* LD_ABS and LD_IND; false: the program is left. */
static bool packet_load(struct machine *machine, const struct bpf_insn *code)
{
	uint64_t offset = (uint32_t)code->imm, value = 0;
	unsigned int size = size_of(code->code);

	REQUIRE(machine->target->context == EXPRESSION_SOCKET);
	REQUIRE(machine->registers[6] == (uint64_t)(uintptr_t)machine->context);
	if (BPF_MODE(code->code) == BPF_IND)
		offset += machine->registers[code->src_reg];
	REQUIRE(offset <= INT32_MAX); /* negative ones mean other things to the kernel */
	machine->registers[0] = 0;
	if (offset + size > machine->packet->captured)
		return false;
	for (unsigned int i = 0; i < size; i++)
		value = value << 8 | machine->packet->bytes[offset + i];
	machine->registers[0] = value;
	for (int i = 1; i < 6; i++)
		machine->registers[i] = 0xdeadbeefdeadbeefULL;
	return true;
}

static uint32_t machine_run(struct machine *machine, const struct expression_code *code)
{
	uint64_t *r = machine->registers;

	for (size_t at = 0, steps = 0; steps < STEPS_MAX; at++, steps++) {
		const struct bpf_insn *insn = &code->instructions[at];
		uint64_t constant = (uint64_t)(int64_t)insn->imm, value;

		REQUIRE(at < code->count);
		value = BPF_SRC(insn->code) == BPF_X ? r[insn->src_reg] : constant;
		switch (BPF_CLASS(insn->code)) {
		case BPF_LDX:
			r[insn->dst_reg] = memory_read(machine,
				r[insn->src_reg] + (uint64_t)(int64_t)insn->off, size_of(insn->code));
			break;
		case BPF_ST:
		case BPF_STX:
			memory_write(machine, r[insn->dst_reg] + (uint64_t)(int64_t)insn->off,
				BPF_CLASS(insn->code) == BPF_ST ? constant : r[insn->src_reg],
				size_of(insn->code));
			break;
		case BPF_LD:
			if (!packet_load(machine, insn))
				return 0;
			break;
		case BPF_ALU:
		case BPF_ALU64:
			if (BPF_OP(insn->code) == BPF_END)
				r[insn->dst_reg] = insn->imm == 16
				                           ? __builtin_bswap16((uint16_t)r[insn->dst_reg])
				                           : __builtin_bswap32((uint32_t)r[insn->dst_reg]);
			else
				r[insn->dst_reg] = arithmetic(insn->code, r[insn->dst_reg], value);
			break;
		default: /* BPF_JMP, BPF_JMP32 */
			if (insn->code == (BPF_JMP | BPF_EXIT))
				return (uint32_t)r[0];
			if (insn->code == (BPF_JMP | BPF_CALL))
				call(machine, insn->imm);
			else if (jumps(insn->code, r[insn->dst_reg], value))
				at = (size_t)((long)at + insn->off);
		}
	}
	REQUIRE(!"an end");
	return 0;
}

static void translation_check(const struct expression *expression, const struct expression_packet *packet,
	enum expression_context context, uint32_t linear)
{
	static const struct bpf_insn leave = {.code = BPF_JMP | BPF_EXIT};
	const struct expression_target target = {
		.context = context,
		.direction = packet->direction,
		.buffer_bytes = PACKET_MAX,
		.match = &leave,
		.match_count = 1,
		.no_match = &leave,
		.no_match_count = 1,
	};
	struct machine machine = {.target = &target, .packet = packet, .linear = linear};
	uint64_t *r = machine.registers;
	struct expression_code code;
	uint8_t *bytes;

	REQUIRE(expression_translate(expression, &target, &code, NULL) == 0);
	if (context == EXPRESSION_BUFFER)
		machine.linear = PACKET_MAX;
	bytes = calloc(1, machine.linear ? machine.linear : 1);
	REQUIRE(bytes);
	memcpy(bytes, packet->bytes, linear < packet->captured ? linear : packet->captured);
	machine.bytes = bytes;
	r[9] = 0x1234;
	r[10] = (uint64_t)(uintptr_t)(machine.stack + sizeof(machine.stack));
	r[1] = (uint64_t)(uintptr_t)machine.context;
	if (context == EXPRESSION_BUFFER) {
		r[1] = (uint64_t)(uintptr_t)bytes;
		r[2] = packet->captured;
		r[3] = packet->length;
		r[4] = packet->tagged ? 1U << 16 | packet->tag : 0;
		r[5] = packet->ifindex;
		r[6] = (uint64_t)(uintptr_t)machine.context;
	}
	REQUIRE(machine_run(&machine, &code) == expression_run(expression, packet));
	REQUIRE(r[9] == 0x1234 && r[6] == (uint64_t)(uintptr_t)machine.context);
	free(bytes);
	expression_code_clear(&code);
}

static void packet_check(
	const struct expression *expression, struct expression_packet packet, uint32_t linear)
{
	if (linear > packet.captured)
		linear = packet.captured;
	translation_check(expression, &packet, EXPRESSION_SKB, packet.captured);
	translation_check(expression, &packet, EXPRESSION_SKB, linear);
	translation_check(expression, &packet, EXPRESSION_SOCKET, packet.captured);
	translation_check(expression, &packet, EXPRESSION_BUFFER, packet.captured);
	packet.tagged = false;
	translation_check(expression, &packet, EXPRESSION_XDP, packet.captured);
	translation_check(expression, &packet, EXPRESSION_XDP, linear);
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size)
{
	struct sock_filter filters[FILTERS_MAX];
	struct expression expression = {0};
	struct expression_packet packet = {.ifindex = INTERFACE, .tag = 0x2005};
	char text[1024] = "";
	size_t length, used;
	uint8_t linear;

	if (size < 4)
		return 0;
	linear = input[1];
	packet.tagged = input[0] & 1;
	packet.direction = input[0] & 2 ? EXPRESSION_OUT : EXPRESSION_IN;
	length = input[2] < PACKET_MAX ? input[2] : PACKET_MAX;
	if (length > size - 3)
		length = size - 3;
	packet.bytes = input + 3;
	packet.captured = packet.length = (uint32_t)length;
	used = 3 + length;
	if (input[0] & 4) {
		for (; used < size && strlen(text) < sizeof(text) - 24; used++) {
			strcat(text, words[input[used] % (sizeof(words) / sizeof(words[0]))]);
			strcat(text, input[used] & 0x80 ? "" : " ");
		}
		if (expression_compile(text, input[0] & 8 ? EXPRESSION_RAW : EXPRESSION_ETHERNET, 96,
			    &expression, NULL) < 0)
			return 0;
		packet_check(&expression, packet, linear);
		expression_clear(&expression);
		return 0;
	}
	while (used + 8 <= size && expression.plain.count < FILTERS_MAX) {
		struct sock_filter *filter = &filters[expression.plain.count++];

		memcpy(filter, input + used, 8);
		filter->code &= 0xff;
		used += 8;
	}
	expression.plain.filters = filters;
	if (classic_check(&expression.plain) == 0)
		packet_check(&expression, packet, linear);
	return 0;
}
