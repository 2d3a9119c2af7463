/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* The compiler of policies from inside: what its files share. */
#ifndef WEIR_COMPILE_POLICY_INTERNAL_H
#define WEIR_COMPILE_POLICY_INTERNAL_H

#include "compile/policy.h"
#include "compile/policy_rule.h"

#define MEMORY_BYTES ((size_t)128 << 20)
#define UNITS_MAX    (MEMORY_BYTES / sizeof(struct policy_unit))

/* What an end of a bit is asked for. */
struct policy_end {
	const struct prefix *in[2];     /* both; NULL: any */
	const struct prefix *not_in;    /* NULL: none */
	const struct port_range *of[3]; /* in each of these lists; NULL: any */
	size_t of_count[3];
	const struct port_range *not_of;
	size_t not_of_count;
	int sets[2]; /* numbers, in both; -1: any */
	int not_set; /* -1: none */
};

struct policy_bit {
	const struct policy_rule_view *view;
	struct policy_end ends[2]; /* source, destination */
	uint32_t asks;             /* a bit for each field */
};

/* A place at which a bit of a field turns over. */
struct policy_turn {
	uint64_t high,
		low; /* the prefix from its highest bit on, IPv4 in the highest 32; or: low: the value */
	uint32_t length;
	uint32_t bit;
	uint32_t class; /* of a prefix, where it is not the one around: + 1 */
};

struct policy_turns {
	struct policy_turn *turns;
	size_t count, room;
};

/* The classes of a field. */
struct policy_rows {
	enum policy_field_name field;
	uint32_t first; /* unit of class 0's row */
	size_t count, room;
	uint64_t *hashes;
	uint32_t *index; /* by hash: class + 1 */
	size_t index_room;
};

struct policy_compiler {
	const struct policy_order *order;
	struct error *error;
	struct policy_rule_views views;
	struct policy_bit *bits;
	size_t bit_count, bit_room;
	size_t row_words; /* without the summary: whole units */
	size_t row_units; /* with it */
	__u64 *scratch;
	__u64 summary[POLICY_SUMMARY_WORDS]; /* of the scratch's row */
	struct policy_turns turns;
	struct policy_rows rows; /* of the field that is being made */
	struct policy_unit *units;
	size_t used, room;
	bool lent;                    /* they are the caller's */
	struct policy_header *header; /* the first units */
};

/* policy.c */
int policy_out_of_memory(struct error *error);
/* So many units at the end of what is used; -E2BIG: there are none. */
int policy_units_take(struct policy_compiler *compiler, size_t count, uint32_t *ret_unit);

/* policy_row.c */
/* No bits. */
void policy_scratch_clear(struct policy_compiler *compiler);
/* The row of a class. */
void policy_scratch_take(struct policy_compiler *compiler, uint32_t class);
/* Turns a bit of the scratch's row over, and the row's hash with it. */
void policy_scratch_turn(struct policy_compiler *compiler, uint32_t bit, uint64_t *hash);
void policy_rows_begin(struct policy_compiler *compiler, enum policy_field_name field);
/* One more class, with the scratch's row. */
int policy_rows_add(struct policy_compiler *compiler, uint32_t *ret_class);
/* The class whose row is the scratch's.  0, -ENOMEM or -E2BIG. */
int policy_rows_intern(struct policy_compiler *compiler, uint64_t hash, uint32_t *ret_class);
/* The rows are complete. */
struct policy_field *policy_rows_end(struct policy_compiler *compiler);

/* policy_field.c */
/* Makes the classes of a field, their rows, and the trie or table that a packet's class is looked up in. */
int policy_field_make(struct policy_compiler *compiler, enum policy_field_name name);

#endif
