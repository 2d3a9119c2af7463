// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* Rows of a field's classes: written where they will be read, equal ones once. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "compile/policy_internal.h"
#include "shared/trie.h"

#define CLASSES_MAX (TRIE_NUMBER_MAX + 1U)

static uint64_t bit_hash(uint32_t bit)
{
	uint64_t x = (bit + 1) * 0x9e3779b97f4a7c15ULL;

	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ULL;
	x = (x ^ x >> 27) * 0x94d049bb133111ebULL;
	return x ^ x >> 31;
}

void policy_scratch_clear(struct policy_compiler *compiler)
{
	memset(compiler->scratch, 0, compiler->row_words * sizeof(*compiler->scratch));
	memset(compiler->summary, 0, sizeof(compiler->summary));
}

static const struct policy_unit *row_of(const struct policy_compiler *compiler, size_t class)
{
	return &compiler->units[compiler->rows.first + class * compiler->row_units];
}

void policy_scratch_take(struct policy_compiler *compiler, uint32_t class)
{
	const struct policy_unit *row = row_of(compiler, class);

	memcpy(compiler->scratch, row + 1, compiler->row_words * sizeof(*compiler->scratch));
	memcpy(compiler->summary, ((const struct policy_row *)row)->summary, sizeof(compiler->summary));
}

void policy_scratch_turn(struct policy_compiler *compiler, uint32_t bit, uint64_t *hash)
{
	uint32_t word = bit / 64;

	compiler->scratch[word] ^= 1ULL << bit % 64;
	compiler->summary[word / 64] &= ~(1ULL << word % 64);
	compiler->summary[word / 64] |= (__u64)(compiler->scratch[word] != 0) << word % 64;
	*hash ^= bit_hash(bit);
}

/* The first rule of a row, if packets are decided by this field alone: its number + 1. */
static uint32_t row_alone(
	const struct policy_compiler *compiler, enum policy_field_name name, const __u64 *words)
{
	for (size_t i = 0; i < compiler->row_words; i++) {
		const struct policy_bit *bit;
		uint32_t asks;

		if (!words[i])
			continue;
		i = i * 64 + (size_t)__builtin_ctzll(words[i]);
		bit = &compiler->bits[i];
		/* who asks for an IPv4 address asks for IPv4 */
		asks = bit->view->by_family ? bit->asks & ~(1U << POLICY_BY_KIND) : bit->asks;
		return bit->view->action == POLICY_DROP && asks == 1U << name ? (uint32_t)i + 1 : 0;
	}
	return 0;
}

/* Writes the scratch's row. */
static void row_write(
	const struct policy_compiler *compiler, enum policy_field_name name, struct policy_unit *ret_row)
{
	struct policy_row *row = (struct policy_row *)ret_row;
	const __u64 *words = compiler->scratch;

	*row = (struct policy_row){0};
	memcpy(row->summary, compiler->summary, sizeof(row->summary));
	if (compiler->order->xdp &&
		(name == POLICY_BY_SRC4 || name == POLICY_BY_SRC6 || name == POLICY_BY_SRC_SETS))
		row->alone = row_alone(compiler, name, words);
	memcpy(ret_row + 1, words, compiler->row_words * sizeof(*words));
}

void policy_rows_begin(struct policy_compiler *compiler, enum policy_field_name field)
{
	struct policy_rows *rows = &compiler->rows;

	rows->field = field;
	rows->first = (uint32_t)compiler->used;
	rows->count = 0;
	if (rows->index)
		memset(rows->index, 0, rows->index_room * sizeof(*rows->index));
}

static bool rows_grow(struct policy_rows *rows)
{
	size_t room = rows->room ? rows->room * 2 : 1024, index_room = room * 4;
	uint32_t *index = calloc(index_room, sizeof(*index));
	uint64_t *hashes = index ? realloc(rows->hashes, room * sizeof(*hashes)) : NULL;

	if (!hashes) {
		free(index);
		return false;
	}
	rows->hashes = hashes;
	rows->room = room;
	free(rows->index);
	rows->index = index;
	rows->index_room = index_room;
	for (size_t i = 0; i < rows->count; i++) {
		size_t at = hashes[i] & (index_room - 1);

		while (index[at])
			at = (at + 1) & (index_room - 1);
		index[at] = (uint32_t)i + 1;
	}
	return true;
}

int policy_rows_add(struct policy_compiler *compiler, uint32_t *ret_class)
{
	struct policy_rows *rows = &compiler->rows;
	uint32_t unit = 0;
	int r;

	if (rows->count == CLASSES_MAX)
		return error_set(compiler->error, -E2BIG,
			"the rules tell more than %u ranges of addresses or ports apart", CLASSES_MAX);
	r = policy_units_take(compiler, compiler->row_units, &unit);
	if (r)
		return r;
	row_write(compiler, rows->field, compiler->units + unit);
	*ret_class = (uint32_t)rows->count++;
	return 0;
}

int policy_rows_intern(struct policy_compiler *compiler, uint64_t hash, uint32_t *ret_class)
{
	struct policy_rows *rows = &compiler->rows;
	size_t bytes = compiler->row_words * sizeof(__u64), at;
	int r;

	if (rows->count == rows->room && !rows_grow(rows))
		return policy_out_of_memory(compiler->error);
	for (at = hash & (rows->index_room - 1); rows->index[at]; at = (at + 1) & (rows->index_room - 1)) {
		uint32_t class = rows->index[at] - 1;

		if (rows->hashes[class] == hash &&
			!memcmp(row_of(compiler, class) + 1, compiler->scratch, bytes)) {
			*ret_class = class;
			return 0;
		}
	}
	r = policy_rows_add(compiler, ret_class);
	if (r)
		return r;
	rows->hashes[*ret_class] = hash;
	rows->index[at] = *ret_class + 1;
	return 0;
}

struct policy_field *policy_rows_end(struct policy_compiler *compiler)
{
	const struct policy_rows *rows = &compiler->rows;
	struct policy_field *place = &compiler->header->fields[rows->field];

	compiler->header->asked |= 1U << rows->field;
	place->rows = rows->first;
	place->classes = (uint32_t)rows->count;
	return place;
}
