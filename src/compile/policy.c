// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * Compiling goes in three steps.  Each rule becomes bits of the rows: one, or several where it says "either
 * end".  Each field then gets its classes: what a bit asks of a field are the places (prefixes, first values)
 * at which it turns from 0 to 1 or back, so one walk over the sorted places makes the rows, each from the one
 * before it, and equal rows are one class.  Rows and tables are written where they will be read, in a memory
 * that is as large as a policy may be; only what is written takes room.
 */
#include "compile/policy.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "basic/cleanup.h"
#include "compile/policy_rule.h"
#include "compile/trie.h"

#define MEMORY_BYTES ((size_t)128 << 20)
#define UNITS_MAX    (MEMORY_BYTES / sizeof(struct policy_unit))
#define HUGE_FROM    1000 /* bits: their rows are worth pages of 2 MiB */
#define CLASSES_MAX  (TRIE_NUMBER_MAX + 1U)
#define SPARE        64 /* rows for combinations of sets that come up later */
#define UNIT_WORDS   8
#define ROW_BITS     512 /* of a unit */
#define UNIT_VALUES  32  /* classes of values in a unit */

/* What an end of a bit is asked for. */
struct end {
	const struct prefix *in[2];     /* both; NULL: any */
	const struct prefix *not_in;    /* NULL: none */
	const struct port_range *of[3]; /* in each of these lists; NULL: any */
	size_t of_count[3];
	const struct port_range *not_of;
	size_t not_of_count;
	int set; /* number; -1: none */
};

struct bit {
	const struct policy_rule_view *view;
	struct end ends[2]; /* source, destination */
	uint32_t asks;      /* a bit for each field */
};

/* A place at which a bit of a field turns over. */
struct turn {
	uint64_t high,
		low; /* the prefix from its highest bit on, IPv4 in the highest 32; or: low: the value */
	uint32_t length;
	uint32_t bit;
	uint32_t class; /* of a prefix, where it is not the one around: + 1 */
};

struct turns {
	struct turn *turns;
	size_t count, room;
};

/* The classes of a field. */
struct rows {
	enum policy_field_name field;
	uint32_t first; /* unit of class 0's row */
	size_t count, room;
	uint64_t *hashes;
	uint32_t *index; /* by hash: class + 1 */
	size_t index_room;
};

struct compiler {
	const struct policy_order *order;
	struct error *error;
	struct policy_rule_views views;
	struct bit *bits;
	size_t bit_count, bit_room;
	size_t row_words; /* without the summary: whole units */
	size_t row_units; /* with it */
	__u64 *scratch;
	struct turns turns;
	struct rows rows; /* of the field that is being made */
	struct policy_unit *units;
	size_t used;
	struct policy_header *header; /* the first units */
};

/* How many values a field that is an array has, "none" included; interfaces: as many as are named. */
static const uint32_t field_sizes[POLICY_FIELDS] = {
	[POLICY_BY_SPORT] = 65537,
	[POLICY_BY_DPORT] = 65537,
	[POLICY_BY_PROTO] = 257,
	[POLICY_BY_KIND] = POLICY_KINDS,
	[POLICY_BY_ICMP] = 65537,
	[POLICY_BY_FLAGS] = 257,
	[POLICY_BY_DSCP] = 65,
	[POLICY_BY_VLAN] = 4097,
	[POLICY_BY_STATE] = POLICY_STATES,
};

static int out_of_memory(struct error *error)
{
	return error_set(error, -ENOMEM, "no memory for the policy");
}

static void compiler_clear(struct compiler *compiler)
{
	policy_rule_views_clear(&compiler->views);
	free(compiler->bits);
	free(compiler->scratch);
	free(compiler->turns.turns);
	free(compiler->rows.hashes);
	free(compiler->rows.index);
	if (compiler->units)
		munmap(compiler->units, MEMORY_BYTES);
}

/* Zeroes, room for the largest policy; what is not written takes none. */
static int compiler_memory(struct compiler *compiler)
{
	void *memory = mmap(NULL, MEMORY_BYTES, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (memory == MAP_FAILED)
		return out_of_memory(compiler->error);
	if (compiler->bit_count >= HUGE_FROM)
		madvise(memory, MEMORY_BYTES, MADV_HUGEPAGE);
	compiler->units = memory;
	compiler->header = memory;
	compiler->used = POLICY_HEADER_UNITS;
	return 0;
}

/* So many units at the end of what is used; -E2BIG: there are none. */
static int units_take(struct compiler *compiler, size_t count, uint32_t *ret_unit)
{
	if (count > UNITS_MAX - compiler->used) {
		error_set(compiler->error, -E2BIG,
			"the rules tell more addresses and ports apart than a policy has memory for (%zu "
			"MiB)",
			MEMORY_BYTES >> 20);
		return error_want(compiler->error, "fewer rules, or sets in the place of many prefixes");
	}
	*ret_unit = (uint32_t)compiler->used;
	compiler->used += count;
	return 0;
}

/*
 * Rules become bits
 */

static struct bit *bit_add(struct compiler *compiler)
{
	if (compiler->bit_count == compiler->bit_room) {
		size_t room = compiler->bit_room ? compiler->bit_room * 2 : 256;
		struct bit *grown = realloc(compiler->bits, room * sizeof(*grown));

		if (!grown)
			return NULL;
		compiler->bits = grown;
		compiler->bit_room = room;
	}
	return &compiler->bits[compiler->bit_count++];
}

static void end_ports(struct end *end, size_t place, const struct port_range *ranges, size_t count)
{
	end->of[place] = ranges;
	end->of_count[place] = count;
}

static void bit_end(struct end *end, const struct endpoint *endpoint, int set,
	const struct port_range *port_set, size_t port_set_count)
{
	*end = (struct end){.set = set};
	if (endpoint->has_prefix)
		end->in[0] = &endpoint->prefix;
	if (endpoint->port_count)
		end_ports(end, 0, endpoint->ports, endpoint->port_count);
	if (port_set)
		end_ports(end, 1, port_set, port_set_count);
}

static uint32_t bit_asks(const struct bit *bit)
{
	const struct policy_rule_view *view = bit->view;
	uint32_t asks = 0;

	for (unsigned int i = 0; i < 2; i++) {
		const struct end *end = &bit->ends[i];
		const struct prefix *prefix = end->in[0] ? end->in[0] : end->in[1] ? end->in[1] : end->not_in;

		if (prefix)
			asks |= 1U << ((prefix->address.family == 4 ? POLICY_BY_SRC4 : POLICY_BY_SRC6) + i);
		if (end->set >= 0)
			asks |= 1U << (POLICY_BY_SRC_SETS + i);
		if (end->of[0] || end->of[1] || end->of[2] || end->not_of)
			asks |= 1U << (POLICY_BY_SPORT + i);
	}
	return asks | view->asks;
}

/* One bit, or several that no packet fits two of: with the source that is meant, and with the destination
 * while the source is not. */
static int rule_expand(struct compiler *compiler, const struct policy_rule_view *view)
{
	const struct match *match = &view->rule->match;
	unsigned int hosts = match->either.has_prefix ? 2 : 1, ports = match->either.port_count ? 2 : 1;

	for (unsigned int h = 0; h < hosts; h++)
		for (unsigned int p = 0; p < ports; p++) {
			struct bit *bit = bit_add(compiler);

			if (!bit)
				return -ENOMEM;
			*bit = (struct bit){.view = view};
			for (unsigned int i = 0; i < 2; i++)
				bit_end(&bit->ends[i], i ? &match->to : &match->from, view->sets[i],
					view->port_sets[i], view->port_set_counts[i]);
			if (hosts == 2) {
				bit->ends[h].in[1] = &match->either.prefix;
				if (h)
					bit->ends[0].not_in = &match->either.prefix;
			}
			if (ports == 2) {
				end_ports(&bit->ends[p], 2, match->either.ports, match->either.port_count);
				if (p) {
					bit->ends[0].not_of = match->either.ports;
					bit->ends[0].not_of_count = match->either.port_count;
				}
			}
			bit->asks = bit_asks(bit);
		}
	return 0;
}

static int compiler_expand(struct compiler *compiler, const struct policy_order *order, struct error *error)
{
	int r;

	compiler->order = order;
	compiler->error = error;
	r = policy_rule_views_make(&compiler->views, order, error);
	if (r)
		return r;
	for (size_t i = 0; i < compiler->views.count; i++)
		if (rule_expand(compiler, &compiler->views.views[i]))
			return out_of_memory(error);
	if (compiler->bit_count > POLICY_RULES_MAX) {
		error_set(error, -E2BIG, "the rules make %zu comparisons, which is more than %d",
			compiler->bit_count, POLICY_RULES_MAX);
		return error_want(
			error, "fewer rules; 'host' and 'port' for either end count twice, both four times");
	}
	compiler->row_words = (compiler->bit_count + ROW_BITS - 1) / ROW_BITS * UNIT_WORDS;
	compiler->row_units = 1 + compiler->row_words / UNIT_WORDS;
	compiler->scratch = calloc(compiler->row_words ? compiler->row_words : 1, sizeof(*compiler->scratch));
	return compiler->scratch ? 0 : out_of_memory(error);
}

/*
 * Rows
 */

static uint64_t bit_hash(uint32_t bit)
{
	uint64_t x = (bit + 1) * 0x9e3779b97f4a7c15ULL;

	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ULL;
	x = (x ^ x >> 27) * 0x94d049bb133111ebULL;
	return x ^ x >> 31;
}

static void scratch_turn(struct compiler *compiler, uint32_t bit, uint64_t *hash)
{
	compiler->scratch[bit / 64] ^= 1ULL << bit % 64;
	*hash ^= bit_hash(bit);
}

static __u64 *row_words(const struct compiler *compiler, size_t class)
{
	return compiler->units[compiler->rows.first + class * compiler->row_units + 1].word;
}

/* The first rule of a row, if packets are decided by this field alone: its number + 1. */
static uint32_t row_alone(const struct compiler *compiler, enum policy_field_name name, const __u64 *words)
{
	for (size_t i = 0; i < compiler->row_words; i++) {
		const struct bit *bit;
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
	const struct compiler *compiler, enum policy_field_name name, struct policy_unit *ret_row)
{
	struct policy_row *row = (struct policy_row *)ret_row;
	const __u64 *words = compiler->scratch;

	*row = (struct policy_row){0};
	for (size_t i = 0; i < compiler->row_words; i++)
		row->summary[i / 64] |= (__u64)(words[i] != 0) << i % 64;
	if (compiler->order->xdp &&
		(name == POLICY_BY_SRC4 || name == POLICY_BY_SRC6 || name == POLICY_BY_SRC_SETS))
		row->alone = row_alone(compiler, name, words);
	memcpy(ret_row + 1, words, compiler->row_words * sizeof(*words));
}

static void rows_begin(struct compiler *compiler, enum policy_field_name field)
{
	struct rows *rows = &compiler->rows;

	rows->field = field;
	rows->first = (uint32_t)compiler->used;
	rows->count = 0;
	if (rows->index)
		memset(rows->index, 0, rows->index_room * sizeof(*rows->index));
}

static bool rows_grow(struct rows *rows)
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

/* One more class, with the scratch's row. */
static int rows_add(struct compiler *compiler, uint32_t *ret_class)
{
	struct rows *rows = &compiler->rows;
	uint32_t unit = 0;
	int r;

	if (rows->count == CLASSES_MAX)
		return error_set(compiler->error, -E2BIG,
			"the rules tell more than %u ranges of addresses or ports apart", CLASSES_MAX);
	r = units_take(compiler, compiler->row_units, &unit);
	if (r)
		return r;
	row_write(compiler, rows->field, compiler->units + unit);
	*ret_class = (uint32_t)rows->count++;
	return 0;
}

/* The class whose row is the scratch's.  0, -ENOMEM or -E2BIG. */
static int rows_intern(struct compiler *compiler, uint64_t hash, uint32_t *ret_class)
{
	struct rows *rows = &compiler->rows;
	size_t bytes = compiler->row_words * sizeof(__u64), at;
	int r;

	if (rows->count == rows->room && !rows_grow(rows))
		return out_of_memory(compiler->error);
	for (at = hash & (rows->index_room - 1); rows->index[at]; at = (at + 1) & (rows->index_room - 1)) {
		uint32_t class = rows->index[at] - 1;

		if (rows->hashes[class] == hash &&
			!memcmp(row_words(compiler, class), compiler->scratch, bytes)) {
			*ret_class = class;
			return 0;
		}
	}
	r = rows_add(compiler, ret_class);
	if (r)
		return r;
	rows->hashes[*ret_class] = hash;
	rows->index[at] = *ret_class + 1;
	return 0;
}

/* The rows are complete. */
static struct policy_field *rows_end(struct compiler *compiler)
{
	const struct rows *rows = &compiler->rows;
	struct policy_field *place = &compiler->header->fields[rows->field];

	compiler->header->asked |= 1U << rows->field;
	place->rows = rows->first;
	place->classes = (uint32_t)rows->count;
	return place;
}

static bool turn_add(struct turns *turns, struct turn turn)
{
	if (turns->count == turns->room) {
		size_t room = turns->room ? turns->room * 2 : 1024;
		struct turn *grown = realloc(turns->turns, room * sizeof(*grown));

		if (!grown)
			return false;
		memset(grown + turns->count, 0, (room - turns->count) * sizeof(*grown));
		turns->turns = grown;
		turns->room = room;
	}
	turns->turns[turns->count++] = turn;
	return true;
}

/* By address, the shorter prefix first. */
static int turn_compare(const void *left, const void *right)
{
	const struct turn *a = left, *b = right;

	if (a->high != b->high)
		return a->high < b->high ? -1 : 1;
	if (a->low != b->low)
		return a->low < b->low ? -1 : 1;
	return a->length < b->length ? -1 : a->length > b->length;
}

/*
 * Fields of prefixes
 */

static bool turn_prefix(struct turns *turns, const struct prefix *prefix, uint32_t bit)
{
	struct turn turn = {.length = prefix->length, .bit = bit};
	uint32_t words[4];

	memcpy(words, prefix->address.bytes, sizeof(words));
	turn.high = (uint64_t)ntohl(words[0]) << 32 | ntohl(words[1]);
	turn.low = (uint64_t)ntohl(words[2]) << 32 | ntohl(words[3]);
	return turn_add(turns, turn);
}

static bool prefix_within(const struct prefix *wide, const struct prefix *narrow)
{
	return wide->address.family == narrow->address.family && wide->length <= narrow->length &&
	       prefix_contains(wide, &narrow->address);
}

/* Where a bit turns over in the trie of a family; *ret_root: what it is outside of all prefixes. */
static bool end_turns(
	const struct end *end, uint8_t family, uint32_t bit, struct turns *turns, bool *ret_root)
{
	const struct prefix *in = end->in[0] ? end->in[0] : end->in[1], *not_in = end->not_in;

	*ret_root = false;
	if (end->in[0] && end->in[1]) {
		if (prefix_within(end->in[0], end->in[1]))
			in = end->in[1];
		else if (!prefix_within(end->in[1], end->in[0]))
			return true;
	}
	if (not_in && not_in->address.family != family)
		not_in = NULL;
	if (!in) {
		if (not_in && !not_in->length)
			return true;
		*ret_root = true;
		return !not_in || turn_prefix(turns, not_in, bit);
	}
	if (in->address.family != family || (not_in && prefix_within(not_in, in)))
		return true;
	if (!turn_prefix(turns, in, bit))
		return false;
	return !not_in || !prefix_within(in, not_in) || turn_prefix(turns, not_in, bit);
}

static bool turn_inside(const struct turn *wide, const struct turn *narrow)
{
	unsigned int length = wide->length;
	uint64_t high = length == 0 ? 0 : length >= 64 ? UINT64_MAX : UINT64_MAX << (64 - length);
	uint64_t low = length <= 64 ? 0 : UINT64_MAX << (128 - length);

	return length <= narrow->length && !((wide->high ^ narrow->high) & high) &&
	       !((wide->low ^ narrow->low) & low);
}

struct above {
	const struct turn *turn;
	uint32_t class;
	uint64_t hash;
};

/* Gives every prefix its class. */
static int prefix_classes(struct compiler *compiler, uint64_t hash)
{
	struct above above[130] = {{0}};
	size_t depth = 0, bytes = compiler->row_words * sizeof(__u64), next;
	struct turn *turns = compiler->turns.turns;
	int r;

	r = rows_intern(compiler, hash, &above[0].class);
	if (r)
		return r;
	above[0].hash = hash;
	for (size_t i = 0; i < compiler->turns.count; i = next) {
		uint32_t class = 0;

		while (depth && !turn_inside(above[depth].turn, &turns[i]))
			depth--;
		hash = above[depth].hash;
		memcpy(compiler->scratch, row_words(compiler, above[depth].class), bytes);
		for (next = i; next < compiler->turns.count && !turn_compare(&turns[next], &turns[i]); next++)
			scratch_turn(compiler, turns[next].bit, &hash);
		r = rows_intern(compiler, hash, &class);
		if (r)
			return r;
		if (class != above[depth].class)
			turns[i].class = class + 1;
		above[++depth] = (struct above){&turns[i], class, hash};
	}
	return 0;
}

static int classes_write(const struct compiler *compiler, struct trie *trie, uint8_t family)
{
	trie_hold(trie);
	for (size_t i = 0; i < compiler->turns.count; i++) {
		const struct turn *turn = &compiler->turns.turns[i];
		uint32_t words[4] = {htonl((uint32_t)(turn->high >> 32)), htonl((uint32_t)turn->high),
			htonl((uint32_t)(turn->low >> 32)), htonl((uint32_t)turn->low)};
		struct prefix prefix = {.address.family = family, .length = (uint8_t)turn->length};

		if (!turn->class)
			continue;
		memcpy(prefix.address.bytes, words, sizeof(words));
		if (trie_set(trie, &prefix, turn->class - 1))
			return -ENOMEM;
	}
	return trie_write(trie);
}

static int field_trie(struct compiler *compiler, struct policy_field *place, uint8_t family)
{
	uint32_t unit = 0, nowhere;
	struct trie *trie;
	int r;

	place->size = trie_root_bits(family, compiler->turns.count);
	r = units_take(compiler, 0, &unit);
	if (!r)
		r = trie_open(family, place->size, compiler->units + unit, UNITS_MAX - unit, &trie);
	if (!r) {
		r = classes_write(compiler, trie, family);
		place->table = unit;
		if (!r)
			r = units_take(compiler, trie_units(trie), &nowhere);
		trie_close(trie);
	}
	return r == -ENOSPC   ? units_take(compiler, UNITS_MAX, &nowhere)
	       : r == -ENOMEM ? out_of_memory(compiler->error)
	                      : r;
}

static int field_prefixes(struct compiler *compiler, enum policy_field_name name)
{
	uint8_t family = name < POLICY_BY_SRC6 ? 4 : 6;
	unsigned int end = (unsigned int)name & 1;
	uint64_t hash = 0;
	int r;

	rows_begin(compiler, name);
	compiler->turns.count = 0;
	memset(compiler->scratch, 0, compiler->row_words * sizeof(__u64));
	for (uint32_t i = 0; i < compiler->bit_count; i++) {
		bool root;

		if (!end_turns(&compiler->bits[i].ends[end], family, i, &compiler->turns, &root))
			return out_of_memory(compiler->error);
		if (root)
			scratch_turn(compiler, i, &hash);
	}
	if (compiler->turns.count)
		qsort(compiler->turns.turns, compiler->turns.count, sizeof(struct turn), turn_compare);
	r = prefix_classes(compiler, hash);
	return r ? r : field_trie(compiler, rows_end(compiler), family);
}

/*
 * Fields of values
 */

/* Ranges [first, end), in ascending order and apart. */
struct value_range {
	uint32_t first, end;
};

struct value_ranges {
	struct value_range *ranges;
	size_t count, room;
};

static bool ranges_add(struct value_ranges *list, uint32_t first, uint32_t end)
{
	if (list->count && list->ranges[list->count - 1].end >= first) {
		if (list->ranges[list->count - 1].end < end)
			list->ranges[list->count - 1].end = end;
		return true;
	}
	if (list->count == list->room) {
		size_t room = list->room ? list->room * 2 : 16;
		struct value_range *grown = realloc(list->ranges, room * sizeof(*grown));

		if (!grown)
			return false;
		list->ranges = grown;
		list->room = room;
	}
	list->ranges[list->count++] = (struct value_range){first, end};
	return true;
}

static int port_range_compare(const void *left, const void *right)
{
	const struct port_range *a = left, *b = right;

	return a->low < b->low ? -1 : a->low > b->low;
}

static bool ranges_of_ports(struct value_ranges *ret_list, const struct port_range *ports, size_t count)
{
	_cleanup_free_ struct port_range *sorted = malloc((count ? count : 1) * sizeof(*sorted));

	if (!sorted)
		return false;
	memcpy(sorted, ports, count * sizeof(*sorted));
	qsort(sorted, count, sizeof(*sorted), port_range_compare);
	ret_list->count = 0;
	for (size_t i = 0; i < count; i++)
		if (!ranges_add(ret_list, sorted[i].low, sorted[i].high + 1U))
			return false;
	return true;
}

/* What is in both lists; or in the first and not in the second. */
static bool ranges_combine(struct value_ranges *ret_list, const struct value_ranges *a,
	const struct value_ranges *b, bool without, uint32_t size)
{
	uint32_t position = 0;
	size_t i = 0, k = 0;

	ret_list->count = 0;
	while (position < size) {
		uint32_t end = size;
		bool in_a, in_b;

		while (i < a->count && a->ranges[i].end <= position)
			i++;
		while (k < b->count && b->ranges[k].end <= position)
			k++;
		in_a = i < a->count && a->ranges[i].first <= position;
		in_b = k < b->count && b->ranges[k].first <= position;
		if (i < a->count)
			end = in_a ? a->ranges[i].end : a->ranges[i].first;
		if (k < b->count) {
			uint32_t next = in_b ? b->ranges[k].end : b->ranges[k].first;

			if (next < end)
				end = next;
		}
		if (in_a && in_b != without && !ranges_add(ret_list, position, end))
			return false;
		position = end;
	}
	return true;
}

struct port_lists {
	struct value_ranges now, other, result;
};

static bool ranges_narrow(
	struct port_lists *lists, const struct port_range *ports, size_t count, bool without, uint32_t size)
{
	struct value_ranges swapped;

	if (!ports)
		return true;
	if (!ranges_of_ports(&lists->other, ports, count) ||
		!ranges_combine(&lists->result, &lists->now, &lists->other, without, size))
		return false;
	swapped = lists->now;
	lists->now = lists->result;
	lists->result = swapped;
	return true;
}

/* The ports of an end, in lists->now. */
static bool end_ranges(struct port_lists *lists, const struct end *end, uint32_t size)
{
	lists->now.count = 0;
	if (!ranges_add(&lists->now, 0, size))
		return false;
	for (size_t i = 0; i < 3; i++)
		if (!ranges_narrow(lists, end->of[i], end->of_count[i], false, size))
			return false;
	return ranges_narrow(lists, end->not_of, end->not_of_count, true, size);
}

/* By value: there are few of them. */
static bool turns_sort_values(struct turns *turns, uint32_t size)
{
	uint32_t *places = calloc(size + 1, sizeof(*places));
	struct turn *sorted = calloc(turns->room ? turns->room : 1, sizeof(*sorted));

	if (!places || !sorted) {
		free(places);
		free(sorted);
		return false;
	}
	for (size_t i = 0; i < turns->count; i++)
		places[turns->turns[i].low + 1]++;
	for (uint32_t value = 0; value < size; value++)
		places[value + 1] += places[value];
	for (size_t i = 0; i < turns->count; i++)
		sorted[places[turns->turns[i].low]++] = turns->turns[i];
	free(places);
	free(turns->turns);
	turns->turns = sorted;
	return true;
}

/* Where a bit turns over in a field of ports, or of other values; *ret_first: what it is for value 0. */
static bool bit_turns(struct compiler *compiler, enum policy_field_name name, uint32_t number, uint32_t size,
	struct port_lists *lists, bool *ret_first)
{
	const struct bit *bit = &compiler->bits[number];
	bool in = false;

	if (!(bit->asks & 1U << name)) {
		*ret_first = true;
		return true;
	}
	*ret_first = false;
	if (name == POLICY_BY_SPORT || name == POLICY_BY_DPORT) {
		if (!end_ranges(lists, &bit->ends[name - POLICY_BY_SPORT], size))
			return false;
		for (size_t i = 0; i < lists->now.count; i++) {
			const struct value_range *range = &lists->now.ranges[i];

			if (!range->first)
				*ret_first = true;
			else if (!turn_add(
					 &compiler->turns, (struct turn){.low = range->first, .bit = number}))
				return false;
			if (range->end < size &&
				!turn_add(&compiler->turns, (struct turn){.low = range->end, .bit = number}))
				return false;
		}
		return true;
	}
	if (name != POLICY_BY_KIND && name != POLICY_BY_FLAGS && name != POLICY_BY_STATE) {
		uint32_t first, end;

		policy_rule_range(bit->view, name, &first, &end);
		*ret_first = !first && end;
		return first >= end ||
		       ((!first || turn_add(&compiler->turns, (struct turn){.low = first, .bit = number})) &&
			       (end >= size ||
				       turn_add(&compiler->turns, (struct turn){.low = end, .bit = number})));
	}
	for (uint32_t value = 0; value < size; value++) {
		bool fits = policy_rule_takes(bit->view, name, value);

		if (!value)
			*ret_first = fits;
		else if (fits != in &&
			 !turn_add(&compiler->turns, (struct turn){.low = value, .bit = number}))
			return false;
		in = fits;
	}
	return true;
}

static uint32_t field_size(const struct compiler *compiler, enum policy_field_name name)
{
	uint32_t size = field_sizes[name];

	if (name == POLICY_BY_INTERFACE)
		for (size_t i = 0; i < compiler->views.count; i++)
			if (compiler->views.views[i].ifindex + 2 > size)
				size = compiler->views.views[i].ifindex + 2;
	return size;
}

static int field_values(struct compiler *compiler, enum policy_field_name name)
{
	struct port_lists lists = {0};
	const struct turn *turn, *end;
	struct policy_field *place;
	uint32_t size = field_size(compiler, name), class = 0;
	uint64_t hash = 0;
	uint16_t *classes;
	bool room = true;
	int r;

	/* the table first: its size is known */
	place = &compiler->header->fields[name];
	place->size = size;
	r = units_take(compiler, ((size_t)size + UNIT_VALUES - 1) / UNIT_VALUES, &place->table);
	if (r)
		return r;
	classes = (uint16_t *)(compiler->units + place->table);
	rows_begin(compiler, name);
	compiler->turns.count = 0;
	memset(compiler->scratch, 0, compiler->row_words * sizeof(__u64));
	for (uint32_t i = 0; i < compiler->bit_count && room; i++) {
		bool first = false;

		room = bit_turns(compiler, name, i, size, &lists, &first);
		if (first)
			scratch_turn(compiler, i, &hash);
	}
	free(lists.now.ranges);
	free(lists.other.ranges);
	free(lists.result.ranges);
	if (!room || !turns_sort_values(&compiler->turns, size))
		return out_of_memory(compiler->error);
	r = rows_intern(compiler, hash, &class);
	turn = compiler->turns.turns;
	end = turn + compiler->turns.count;
	for (uint32_t value = 0; value < size && !r; value++) {
		if (turn < end && turn->low == value) {
			for (; turn < end && turn->low == value; turn++)
				scratch_turn(compiler, turn->bit, &hash);
			r = rows_intern(compiler, hash, &class);
		}
		classes[value] = (uint16_t) class;
	}
	rows_end(compiler);
	return r;
}

/*
 * Fields of sets
 */

static void combination_scratch(struct compiler *compiler, enum policy_field_name name, uint64_t mask)
{
	unsigned int end = name - POLICY_BY_SRC_SETS;

	memset(compiler->scratch, 0, compiler->row_words * sizeof(__u64));
	for (size_t i = 0; i < compiler->bit_count; i++) {
		int set = compiler->bits[i].ends[end].set;

		if (set < 0 || mask >> set & 1)
			compiler->scratch[i / 64] |= 1ULL << i % 64;
	}
}

static int field_sets(struct compiler *compiler, enum policy_field_name name)
{
	const struct policy_world *world = compiler->order->world;
	size_t count = world->combination_count ? world->combination_count : 1;
	uint32_t class;
	int r = 0;

	rows_begin(compiler, name);
	for (size_t i = 0; i < count && !r; i++) {
		combination_scratch(compiler, name, world->combination_count ? world->combinations[i] : 0);
		r = rows_add(compiler, &class);
	}
	rows_end(compiler);
	return r ? r : units_take(compiler, SPARE * compiler->row_units, &class);
}

/*
 * The memory
 */

static void rule_write(const struct compiler *compiler, const struct bit *bit, struct policy_rule *ret_rule)
{
	const struct policy_rule_view *view = bit->view;
	const struct policy_source *source = &compiler->order->sources[view->source];
	const struct rule_packet *packet = &view->rule->packet;
	struct policy_rule rule = {
		.id = source->id,
		.counter = source->counter,
		.action = view->action,
		.owner = view->owner,
		.expression = view->expression,
		.reject = packet->reject,
		.mark = view->mark,
		.mark_mask = view->mark_mask,
		.set_mark = packet->set_mark,
		.set_mark_mask = packet->set_mark_mask,
		.ifindex = view->target,
		.limit = source->limit,
		.generation = source->generation,
		.source = view->source,
		.dscp = packet->set_dscp < 0 ? 0 : (uint8_t)packet->set_dscp,
	};

	if (packet->log)
		rule.flags |= POLICY_RULE_LOG;
	if (view->asks & 1U << POLICY_BY_STATE)
		rule.flags |= POLICY_RULE_STATE;
	if (view->owner || view->expression || view->mark_mask)
		rule.flags |= POLICY_RULE_CONDITIONS;
	if (view->rule->owner_not)
		rule.flags |= POLICY_RULE_OWNER_NOT;
	if (packet->expression_not)
		rule.flags |= POLICY_RULE_EXPRESSION_NOT;
	if (packet->set_mac_src) {
		rule.flags |= POLICY_RULE_MAC_SRC;
		memcpy(rule.mac_src, packet->mac, sizeof(rule.mac_src));
	}
	if (packet->set_mac_dst) {
		rule.flags |= POLICY_RULE_MAC_DST;
		memcpy(rule.mac_dst, packet->mac, sizeof(rule.mac_dst));
	}
	if (view->fickle)
		rule.flags |= POLICY_RULE_FICKLE;
	*ret_rule = rule;
}

static uint32_t policy_flags(const struct compiler *compiler)
{
	uint32_t flags = 0;

	for (size_t i = 0; i < compiler->views.count; i++) {
		const struct policy_rule_view *view = &compiler->views.views[i];

		if (view->asks & 1U << POLICY_BY_STATE)
			flags |= POLICY_STATEFUL;
		if (view->owner)
			flags |= POLICY_OWNERS;
		if (view->expression)
			flags |= POLICY_EXPRESSIONS | POLICY_UNCACHED;
	}
	return flags;
}

static uint32_t policy_fickle(const struct compiler *compiler)
{
	uint32_t fickle = 1U << POLICY_BY_FLAGS | 1U << POLICY_BY_DSCP;

	for (size_t i = 0; i < compiler->views.count; i++)
		if (compiler->views.views[i].fragments)
			fickle |= 1U << POLICY_BY_KIND;
	return fickle;
}

/* What stands in front of the tables. */
static int policy_begin(struct compiler *compiler)
{
	const struct policy_order *order = compiler->order;
	size_t owners = compiler->views.owner_count;
	struct policy_header *header;
	uint32_t unit = 0;
	int r = compiler_memory(compiler);

	if (r)
		return r;
	header = compiler->header;
	*header = (struct policy_header){
		.generation = order->generation,
		.count = (uint32_t)compiler->bit_count,
		.flags = policy_flags(compiler),
		.row_units = (uint32_t)compiler->row_units,
		.owner_count = (uint32_t)owners,
		.fickle = policy_fickle(compiler),
	};
	for (int i = 0; i < 2; i++) {
		header->defaults[i] = order->defaults[i];
		if (order->xdp)
			header->defaults[i] = (struct policy_default){
				.action = POLICY_ACCEPT, .counter = POLICY_NO_COUNTER};
	}
	r = units_take(compiler, compiler->bit_count, &header->rules);
	if (r)
		return r;
	for (size_t i = 0; i < compiler->bit_count; i++)
		rule_write(compiler, &compiler->bits[i],
			(struct policy_rule *)(compiler->units + header->rules + i));
	r = units_take(compiler, owners, &unit);
	if (r || !owners)
		return r;
	header->owners = unit;
	memcpy(compiler->units + unit, compiler->views.owners, owners * sizeof(*compiler->units));
	return 0;
}

static int compiler_run(struct compiler *compiler, const struct policy_order *order, struct error *error)
{
	uint32_t asked = 0;
	int r;

	r = compiler_expand(compiler, order, error);
	if (!r)
		r = policy_begin(compiler);
	for (size_t i = 0; i < compiler->bit_count; i++)
		asked |= compiler->bits[i].asks;
	/* one field at least: its rows say how many rules there are */
	if (compiler->bit_count && !asked)
		asked = 1U << POLICY_BY_KIND;
	for (enum policy_field_name name = 0; name < POLICY_FIELDS && !r; name++) {
		if (!(asked & 1U << name))
			continue;
		if (name <= POLICY_BY_DST6)
			r = field_prefixes(compiler, name);
		else if (name <= POLICY_BY_DST_SETS)
			r = field_sets(compiler, name);
		else
			r = field_values(compiler, name);
	}
	return r;
}

int policy_compile(const struct policy_order *order, struct policy_image *ret_image, struct error *error)
{
	struct compiler compiler = {0};
	int r = compiler_run(&compiler, order, error);

	if (!r) {
		compiler.header->units = (uint32_t)compiler.used;
		*ret_image = (struct policy_image){
			.units = compiler.units,
			.count = compiler.used,
			.spare = SPARE,
			.expression_count = compiler.views.expression_count,
		};
		memcpy(ret_image->expressions, compiler.views.expressions, sizeof(ret_image->expressions));
		compiler.units = NULL;
	}
	compiler_clear(&compiler);
	return r;
}

void policy_image_clear(struct policy_image *image)
{
	if (image->units)
		munmap(image->units, MEMORY_BYTES);
	*image = (struct policy_image){0};
}

int policy_combination_row(const struct policy_order *order, enum policy_field_name field, uint64_t mask,
	struct policy_unit *ret_row, struct error *error)
{
	struct compiler compiler = {0};
	int r = compiler_expand(&compiler, order, error);

	if (!r) {
		combination_scratch(&compiler, field, mask);
		row_write(&compiler, field, ret_row);
	}
	compiler_clear(&compiler);
	return r;
}
