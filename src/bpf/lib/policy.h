/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Which rules of a policy (shared/policy.h) fit a packet, one after the other:
 *
 *     policy_begin(memory, cursor, facts);
 *     while ((unit = policy_next(memory, cursor, facts)))
 *             …trie_unit(memory, unit) is the struct policy_rule…
 *
 * Compiles for BPF, where the memory is an array map of units, and for the host (struct trie_memory).  The
 * cursor stands in a map's value: the verifier does not follow what is in there, so it looks at each path
 * once.
 */
#ifndef WEIR_BPF_POLICY_H
#define WEIR_BPF_POLICY_H

#include "bpf/lib/trie.h"
#include "shared/policy.h"

#ifdef __bpf__
#include <bpf/bpf_endian.h>
#define policy_function static __attribute__((noinline))
#define policy_ntohl    bpf_ntohl
#else
#include <arpa/inet.h>
#define policy_function static inline
#define policy_ntohl    ntohl
#endif

struct policy_cursor {
	/* the rows of the packet's classes: units behind their summaries; first those of fields that are the
	 * same for each packet of a flow */
	__u32 rows[POLICY_FIELDS];
	__u32 count, steady;
	__u64 summary[POLICY_SUMMARY_WORDS]; /* words that may have bits and were not looked at yet */
	__u64 bits;                          /* of the word that is looked at */
	__u64 missed;                        /* rules of the word that would fit a packet of the same flow */
	__u32 base;                          /* unit of the rule of the word's bit 0 */
	__u32 rules;
	__u32 found;
	__u32 fickle; /* the next packet of the flow may be decided otherwise */
	__u32 broken; /* the policy could not be read */
	__u32 reserved;
};

/* clang 14 for BPF knows no __builtin_ctzll: de Bruijn's sequence does it. */
#define POLICY_DE_BRUIJN 0x03f79d71b4cb0a89ull
static const volatile __u8 policy_bit_numbers[64] = {0, 1, 48, 2, 57, 49, 28, 3, 61, 58, 50, 42, 38, 29, 17,
	4, 62, 55, 59, 36, 53, 51, 43, 22, 45, 39, 33, 30, 24, 18, 12, 5, 63, 47, 56, 27, 60, 41, 37, 16, 54,
	35, 52, 21, 44, 32, 23, 11, 46, 26, 40, 15, 34, 20, 31, 10, 25, 14, 19, 9, 13, 8, 7, 6};

/* Of the only bit of a word. */
trie_inline __u32 policy_bit_number(__u64 bit)
{
	return policy_bit_numbers[bit * POLICY_DE_BRUIJN >> 58 & 63];
}

trie_inline __u64 policy_high(const __be32 *address)
{
	return (__u64)policy_ntohl(address[0]) << 32 | policy_ntohl(address[1]);
}

/* The class of a value in a field's array; of the last one for those that are greater. */
trie_inline __u32 policy_class(void *memory, const struct policy_field *field, __u32 value)
{
	const struct policy_unit *unit;

	if (value >= field->size)
		value = field->size - 1;
	unit = trie_unit(memory, field->table + (value >> 5));
	return unit ? unit->word[value >> 2 & 7] >> ((value & 3) * 16) & 0xffff : 0;
}

/* The row of a class joins the others. */
trie_inline void policy_row(void *memory, struct policy_cursor *cursor, const struct policy_field *field,
	__u32 class, __u32 row_units, __u32 summaries)
{
	__u32 row = field->rows + (class < field->classes ? class : 0) * row_units, count = cursor->count;
	const struct policy_row *summary = (const void *)trie_unit(memory, row);
	int i;

	if (!summary || count >= POLICY_FIELDS) {
		cursor->broken = 1;
		return;
	}
	cursor->rows[count] = row + 1;
	cursor->count = count + 1;
	if (!summaries)
		return;
#ifdef __bpf__
#pragma clang loop unroll(full)
#endif
	for (i = 0; i < POLICY_SUMMARY_WORDS; i++)
		cursor->summary[i] &= summary->summary[i];
}

/* What the packet has of a field that is an array. */
trie_inline __u32 policy_value(const struct policy_facts *facts, __u32 field)
{
	switch (field) {
	case POLICY_BY_SRC_SETS:
		return facts->src_sets;
	case POLICY_BY_DST_SETS:
		return facts->dst_sets;
	case POLICY_BY_SPORT:
		return facts->sport;
	case POLICY_BY_DPORT:
		return facts->dport;
	case POLICY_BY_PROTO:
		return facts->proto;
	case POLICY_BY_KIND:
		return POLICY_KIND_VALUE((__u32)facts->family, facts->fragment, facts->out);
	case POLICY_BY_INTERFACE:
		return facts->ifindex;
	case POLICY_BY_ICMP:
		return facts->icmp;
	case POLICY_BY_FLAGS:
		return facts->flags;
	case POLICY_BY_DSCP:
		return facts->dscp;
	case POLICY_BY_VLAN:
		return facts->vlan;
	default:
		return facts->state;
	}
}

/* Four fields stand in one unit: the first of those, if the policy asks for any of them. */
#define POLICY_FIELDS_A_UNIT 4

trie_inline const struct policy_field *policy_fields(void *memory, __u32 asked, __u32 number)
{
	if (!(asked >> (number / POLICY_FIELDS_A_UNIT * POLICY_FIELDS_A_UNIT) & 15))
		return (void *)0;
	return (const void *)trie_unit(memory, 1 + number / POLICY_FIELDS_A_UNIT);
}

/* A field, if the policy asks for it. */
trie_inline void policy_ask(void *memory, struct policy_cursor *cursor, const struct policy_facts *facts,
	const struct policy_field *field, __u32 asked, __u32 row_units, __u32 number, __u32 summaries)
{
	__u32 class;

	if (!(asked >> number & 1))
		return;
	if (!field) {
		cursor->broken = 1;
		return;
	}
	field += number % POLICY_FIELDS_A_UNIT;
	switch (number) {
	case POLICY_BY_SRC4:
		class = trie_find4(
			TRIE_IN_MAP(memory), field->table, field->size, policy_ntohl(facts->src[0]));
		break;
	case POLICY_BY_DST4:
		class = trie_find4(
			TRIE_IN_MAP(memory), field->table, field->size, policy_ntohl(facts->dst[0]));
		break;
	case POLICY_BY_SRC6:
		class = trie_find6(TRIE_IN_MAP(memory), field->table, field->size, policy_high(facts->src),
			policy_high(facts->src + 2));
		break;
	case POLICY_BY_DST6:
		class = trie_find6(TRIE_IN_MAP(memory), field->table, field->size, policy_high(facts->dst),
			policy_high(facts->dst + 2));
		break;
	case POLICY_BY_SRC_SETS:
	case POLICY_BY_DST_SETS:
		class = policy_value(facts, number);
		break;
	default:
		class = policy_class(memory, field, policy_value(facts, number));
	}
	policy_row(memory, cursor, field, class, row_units, summaries);
}

/* Finds the rows of the packet's classes. */
policy_function int policy_begin(void *memory, struct policy_cursor *cursor, const struct policy_facts *facts)
{
	const struct policy_header *header = (const void *)trie_unit(memory, 0);
	const struct policy_field *fields, *others;
	__u32 asked, fickle, row_units;
	int i;

	cursor->count = 0;
	cursor->bits = 0;
	cursor->missed = 0;
	cursor->found = 0;
	cursor->fickle = 0;
	cursor->broken = 0;
	for (i = 0; i < POLICY_SUMMARY_WORDS; i++)
		cursor->summary[i] = 0;
	if (!header) {
		cursor->broken = 1;
		return 0;
	}
	if (!header->count)
		return 0;
	asked = header->asked;
	fickle = header->fickle;
	row_units = header->row_units;
	cursor->rules = header->rules;
	/* each word there is */
	for (i = 0; i < POLICY_SUMMARY_WORDS; i++) {
		__u32 words = (row_units - 1) * 8, before = i * 64;

		if (words > before)
			cursor->summary[i] =
				words - before >= 64 ? ~0ull : (1ull << ((words - before) & 63)) - 1;
	}
#define POLICY_ASK(fields, asked, name, summaries)                                                           \
	policy_ask(memory, cursor, facts, fields, asked, row_units, POLICY_BY_##name, summaries)
	fields = policy_fields(memory, asked, POLICY_BY_SRC4);
	if (facts->family == 4) {
		POLICY_ASK(fields, asked, SRC4, 1);
		POLICY_ASK(fields, asked, DST4, 1);
	} else if (facts->family == 6) {
		POLICY_ASK(fields, asked, SRC6, 1);
		POLICY_ASK(fields, asked, DST6, 1);
	}
	fields = policy_fields(memory, asked, POLICY_BY_SRC_SETS);
	POLICY_ASK(fields, asked, SRC_SETS, 1);
	POLICY_ASK(fields, asked, DST_SETS, 1);
	POLICY_ASK(fields, asked, DPORT, 1);
	POLICY_ASK(fields, asked, SPORT, 1);
	/* those that may be others with the flow's next packet come last */
	fields = policy_fields(memory, asked, POLICY_BY_FLAGS);
	POLICY_ASK(fields, asked, STATE, 1);
	POLICY_ASK(fields, asked, VLAN, 1);
	others = policy_fields(memory, asked, POLICY_BY_PROTO);
	POLICY_ASK(others, asked, PROTO, 1);
	POLICY_ASK(others, asked, INTERFACE, 1);
	POLICY_ASK(others, asked, ICMP, 1);
	POLICY_ASK(others, asked & ~fickle, KIND, 1);
	cursor->steady = cursor->count;
	/* a rule of these that does not fit may fit the flow's next packet: its word is looked at */
	POLICY_ASK(others, asked & fickle, KIND, 0);
	POLICY_ASK(fields, asked, FLAGS, 0);
	POLICY_ASK(fields, asked, DSCP, 0);
	if (cursor->broken)
		for (i = 0; i < POLICY_SUMMARY_WORDS; i++)
			cursor->summary[i] = 0;
	return 0;
}

/* Do the conditions of a rule hold, too? */
trie_inline int policy_conditions_hold(const struct policy_rule *rule, const struct policy_facts *facts)
{
	if (!(rule->flags & POLICY_RULE_CONDITIONS))
		return 1;
	if (rule->owner &&
		(facts->owners >> ((rule->owner - 1) & 63) & 1) == !!(rule->flags & POLICY_RULE_OWNER_NOT))
		return 0;
	if (rule->expression && (facts->expressions >> ((rule->expression - 1) & 63) & 1) ==
					!!(rule->flags & POLICY_RULE_EXPRESSION_NOT))
		return 0;
	return (facts->mark & rule->mark_mask) == rule->mark;
}

/* Goes on to the next word that may have bits: 0, or 1 where there is none. */
trie_inline int policy_word(void *memory, struct policy_cursor *cursor)
{
	__u32 word, i;
	__u64 bit, bits = ~0ull, steady;

#ifdef __bpf__
#pragma clang loop unroll(full)
#endif
	for (i = 0; i < POLICY_SUMMARY_WORDS - 1; i++)
		if (cursor->summary[i])
			break;
	bit = cursor->summary[i & (POLICY_SUMMARY_WORDS - 1)];
	bit &= -bit;
	if (!bit)
		return 1;
	cursor->summary[i & (POLICY_SUMMARY_WORDS - 1)] ^= bit;
	word = i * 64 + policy_bit_number(bit);
	cursor->base = cursor->rules + word * 64;
	steady = bits;
#ifdef __bpf__
#pragma clang loop unroll(full)
#endif
	for (i = 0; i < POLICY_FIELDS; i++) {
		const struct policy_unit *unit;

		if (i >= cursor->count)
			break;
		if (i == cursor->steady)
			steady = bits;
		unit = trie_unit(memory, cursor->rows[i] + (word >> 3));
		if (!unit) {
			cursor->broken = 1;
			return 1;
		}
		bits &= unit->word[word & 7];
		if (!bits && i < cursor->steady)
			break;
	}
	if (i <= cursor->steady)
		steady = bits;
	cursor->bits = bits;
	cursor->missed = steady & ~bits;
	return 0;
}

/* One step: 1 where the search ends. */
trie_inline int policy_step(void *memory, struct policy_cursor *cursor, const struct policy_facts *facts)
{
	const struct policy_rule *rule;
	__u64 bit = cursor->bits;
	__u32 unit;

	if (!bit) {
		cursor->fickle |= cursor->missed != 0;
		return policy_word(memory, cursor);
	}
	bit &= -bit;
	cursor->bits ^= bit;
	cursor->fickle |= (cursor->missed & (bit - 1)) != 0;
	unit = cursor->base + policy_bit_number(bit);
	rule = (const void *)trie_unit(memory, unit);
	if (!rule) {
		cursor->broken = 1;
		return 1;
	}
	cursor->fickle |= rule->flags & POLICY_RULE_FICKLE;
	if (!policy_conditions_hold(rule, facts))
		return 0;
	cursor->found = unit;
	return 1;
}

#define POLICY_STEPS_MAX (POLICY_RULES_MAX + POLICY_ROW_WORDS + 1)

#ifdef __bpf__
struct policy_search {
	void *memory;
	struct policy_cursor *cursor;
	const struct policy_facts *facts;
};

static long policy_search_step(__u32 index, struct policy_search *search)
{
	return policy_step(search->memory, search->cursor, search->facts);
}
#endif

/* The unit of the next rule that fits; 0: no more. */
policy_function __u32 policy_next(
	void *memory, struct policy_cursor *cursor, const struct policy_facts *facts)
{
	cursor->found = 0;
#ifdef __bpf__
	{
		struct policy_search search = {memory, cursor, facts};

		bpf_loop(POLICY_STEPS_MAX, policy_search_step, &search, 0);
	}
#else
	while (!policy_step(memory, cursor, facts))
		;
#endif
	return cursor->found;
}

#endif
