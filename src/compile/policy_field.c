// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* The classes of each field: where the bits of the rules turn over, in tries of prefixes, tables of values,
 * and combinations of sets. */
#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "basic/cleanup.h"
#include "compile/policy_internal.h"
#include "compile/trie.h"

#define UNIT_VALUES 32 /* classes of values in a unit */

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

static bool turn_add(struct policy_turns *turns, struct policy_turn turn)
{
	if (turns->count == turns->room) {
		size_t room = turns->room ? turns->room * 2 : 1024;
		struct policy_turn *grown = realloc(turns->turns, room * sizeof(*grown));

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
	const struct policy_turn *a = left, *b = right;

	if (a->high != b->high)
		return a->high < b->high ? -1 : 1;
	if (a->low != b->low)
		return a->low < b->low ? -1 : 1;
	return a->length < b->length ? -1 : a->length > b->length;
}

/*
 * Fields of prefixes
 */

static bool turn_prefix(struct policy_turns *turns, const struct prefix *prefix, uint32_t bit)
{
	struct policy_turn turn = {.length = prefix->length, .bit = bit};
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
static bool end_turns(const struct policy_end *end, uint8_t family, uint32_t bit, struct policy_turns *turns,
	bool *ret_root)
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

static bool turn_inside(const struct policy_turn *wide, const struct policy_turn *narrow)
{
	unsigned int length = wide->length;
	uint64_t high = length == 0 ? 0 : length >= 64 ? UINT64_MAX : UINT64_MAX << (64 - length);
	uint64_t low = length <= 64 ? 0 : UINT64_MAX << (128 - length);

	return length <= narrow->length && !((wide->high ^ narrow->high) & high) &&
	       !((wide->low ^ narrow->low) & low);
}

struct above {
	const struct policy_turn *turn;
	uint32_t class;
	uint64_t hash;
};

/* Gives every prefix its class. */
static int prefix_classes(struct policy_compiler *compiler, uint64_t hash)
{
	struct above above[130] = {{0}};
	size_t depth = 0, next;
	struct policy_turn *turns = compiler->turns.turns;
	int r;

	r = policy_rows_intern(compiler, hash, &above[0].class);
	if (r)
		return r;
	above[0].hash = hash;
	for (size_t i = 0; i < compiler->turns.count; i = next) {
		uint32_t class = 0;

		while (depth && !turn_inside(above[depth].turn, &turns[i]))
			depth--;
		hash = above[depth].hash;
		policy_scratch_take(compiler, above[depth].class);
		for (next = i; next < compiler->turns.count && !turn_compare(&turns[next], &turns[i]); next++)
			policy_scratch_turn(compiler, turns[next].bit, &hash);
		r = policy_rows_intern(compiler, hash, &class);
		if (r)
			return r;
		if (class != above[depth].class)
			turns[i].class = class + 1;
		above[++depth] = (struct above){&turns[i], class, hash};
	}
	return 0;
}

static int classes_write(const struct policy_compiler *compiler, struct trie *trie, uint8_t family)
{
	trie_hold(trie);
	for (size_t i = 0; i < compiler->turns.count; i++) {
		const struct policy_turn *turn = &compiler->turns.turns[i];
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

static int field_trie(struct policy_compiler *compiler, struct policy_field *place, uint8_t family)
{
	uint32_t unit = 0, nowhere;
	struct trie *trie;
	int r;

	place->size = trie_root_bits(family, compiler->turns.count);
	r = policy_units_take(compiler, trie_units_root(place->size), &unit);
	if (r)
		return r;
	memset(compiler->units + unit, 0, trie_units_root(place->size) * sizeof(*compiler->units));
	compiler->used = unit; /* the trie says how many it takes */
	r = trie_open(family, place->size, compiler->units + unit, compiler->room - unit, &trie);
	if (!r) {
		r = classes_write(compiler, trie, family);
		place->table = unit;
		if (!r)
			r = policy_units_take(compiler, trie_units(trie), &nowhere);
		trie_close(trie);
	}
	return r == -ENOSPC   ? policy_units_take(compiler, compiler->room + 1, &nowhere)
	       : r == -ENOMEM ? policy_out_of_memory(compiler->error)
	                      : r;
}

static int field_prefixes(struct policy_compiler *compiler, enum policy_field_name name)
{
	uint8_t family = name < POLICY_BY_SRC6 ? 4 : 6;
	unsigned int end = (unsigned int)name & 1;
	uint64_t hash = 0;
	int r;

	policy_rows_begin(compiler, name);
	compiler->turns.count = 0;
	policy_scratch_clear(compiler);
	for (uint32_t i = 0; i < compiler->bit_count; i++) {
		bool root;

		if (!end_turns(&compiler->bits[i].ends[end], family, i, &compiler->turns, &root))
			return policy_out_of_memory(compiler->error);
		if (root)
			policy_scratch_turn(compiler, i, &hash);
	}
	if (compiler->turns.count)
		qsort(compiler->turns.turns, compiler->turns.count, sizeof(struct policy_turn), turn_compare);
	r = prefix_classes(compiler, hash);
	return r ? r : field_trie(compiler, policy_rows_end(compiler), family);
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
	_cleanup_free_ struct port_range *sorted = NULL;

	ret_list->count = 0;
	if (count == 1)
		return ranges_add(ret_list, ports->low, ports->high + 1U);
	sorted = malloc((count ? count : 1) * sizeof(*sorted));
	if (!sorted)
		return false;
	memcpy(sorted, ports, count * sizeof(*sorted));
	qsort(sorted, count, sizeof(*sorted), port_range_compare);
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
static bool end_ranges(struct port_lists *lists, const struct policy_end *end, uint32_t size)
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
static bool turns_sort_values(struct policy_turns *turns, uint32_t size)
{
	uint32_t *places = calloc(size + 1, sizeof(*places));
	struct policy_turn *sorted = calloc(turns->room ? turns->room : 1, sizeof(*sorted));

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
static bool bit_turns(struct policy_compiler *compiler, enum policy_field_name name, uint32_t number,
	uint32_t size, struct port_lists *lists, bool *ret_first)
{
	const struct policy_bit *bit = &compiler->bits[number];
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
			else if (!turn_add(&compiler->turns,
					 (struct policy_turn){.low = range->first, .bit = number}))
				return false;
			if (range->end < size &&
				!turn_add(&compiler->turns,
					(struct policy_turn){.low = range->end, .bit = number}))
				return false;
		}
		return true;
	}
	if (name != POLICY_BY_KIND && name != POLICY_BY_FLAGS && name != POLICY_BY_STATE) {
		uint32_t first, end;

		policy_rule_range(bit->view, name, &first, &end);
		*ret_first = !first && end;
		return first >= end ||
		       ((!first || turn_add(&compiler->turns,
					   (struct policy_turn){.low = first, .bit = number})) &&
			       (end >= size || turn_add(&compiler->turns,
						       (struct policy_turn){.low = end, .bit = number})));
	}
	for (uint32_t value = 0; value < size; value++) {
		bool fits = policy_rule_takes(bit->view, name, value);

		if (!value)
			*ret_first = fits;
		else if (fits != in &&
			 !turn_add(&compiler->turns, (struct policy_turn){.low = value, .bit = number}))
			return false;
		in = fits;
	}
	return true;
}

static uint32_t field_size(const struct policy_compiler *compiler, enum policy_field_name name)
{
	uint32_t size = field_sizes[name];

	if (name == POLICY_BY_INTERFACE)
		for (size_t i = 0; i < compiler->views.count; i++)
			if (compiler->views.views[i].ifindex + 2 > size)
				size = compiler->views.views[i].ifindex + 2;
	return size;
}

static int field_values(struct policy_compiler *compiler, enum policy_field_name name)
{
	struct port_lists lists = {0};
	const struct policy_turn *turn, *end;
	struct policy_field *place;
	uint32_t size = field_size(compiler, name), class = 0;
	uint64_t hash = 0;
	uint16_t *classes;
	bool room = true;
	int r;

	/* the table first: its size is known */
	place = &compiler->header->fields[name];
	place->size = size;
	r = policy_units_take(compiler, ((size_t)size + UNIT_VALUES - 1) / UNIT_VALUES, &place->table);
	if (r)
		return r;
	classes = (uint16_t *)(compiler->units + place->table);
	policy_rows_begin(compiler, name);
	compiler->turns.count = 0;
	policy_scratch_clear(compiler);
	for (uint32_t i = 0; i < compiler->bit_count && room; i++) {
		bool first = false;

		room = bit_turns(compiler, name, i, size, &lists, &first);
		if (first)
			policy_scratch_turn(compiler, i, &hash);
	}
	free(lists.now.ranges);
	free(lists.other.ranges);
	free(lists.result.ranges);
	if (!room || !turns_sort_values(&compiler->turns, size))
		return policy_out_of_memory(compiler->error);
	r = policy_rows_intern(compiler, hash, &class);
	turn = compiler->turns.turns;
	end = turn + compiler->turns.count;
	for (uint32_t value = 0; value < size && !r; value++) {
		if (turn < end && turn->low == value) {
			for (; turn < end && turn->low == value; turn++)
				policy_scratch_turn(compiler, turn->bit, &hash);
			r = policy_rows_intern(compiler, hash, &class);
		}
		classes[value] = (uint16_t) class;
	}
	policy_rows_end(compiler);
	return r;
}

/*
 * Fields of sets
 */

/* The row of a combination of sets. */
static void combination_scratch(struct policy_compiler *compiler, enum policy_field_name name, uint64_t mask)
{
	unsigned int end = name - POLICY_BY_SRC_SETS;
	uint64_t hash = 0; /* nobody looks for it */

	policy_scratch_clear(compiler);
	for (uint32_t i = 0; i < compiler->bit_count; i++) {
		const struct policy_end *wanted = &compiler->bits[i].ends[end];

		if ((wanted->sets[0] < 0 || mask >> wanted->sets[0] & 1) &&
			(wanted->sets[1] < 0 || mask >> wanted->sets[1] & 1) &&
			(wanted->not_set < 0 || !(mask >> wanted->not_set & 1)))
			policy_scratch_turn(compiler, i, &hash);
	}
}

static int field_sets(struct policy_compiler *compiler, enum policy_field_name name)
{
	const struct policy_world *world = compiler->order->world;
	size_t count = world->combination_count ? world->combination_count : 1;
	uint32_t class;
	int r = 0;

	policy_rows_begin(compiler, name);
	for (size_t i = 0; i < count && !r; i++) {
		combination_scratch(compiler, name, world->combination_count ? world->combinations[i] : 0);
		r = policy_rows_add(compiler, &class);
	}
	policy_rows_end(compiler);
	return r;
}

int policy_field_make(struct policy_compiler *compiler, enum policy_field_name name)
{
	if (name <= POLICY_BY_DST6)
		return field_prefixes(compiler, name);
	if (name <= POLICY_BY_DST_SETS)
		return field_sets(compiler, name);
	return field_values(compiler, name);
}
