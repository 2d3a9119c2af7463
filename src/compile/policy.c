// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * Compiling goes in three steps.  Each rule becomes bits of the rows: one, or several where it says "either
 * end".  Each field then gets its classes: what a bit asks of a field are the places (prefixes, first values)
 * at which it turns from 0 to 1 or back, so one walk over the sorted places makes the rows, each from the one
 * before it, and equal rows are one class.  Rows and tables are written where they will be read: in a memory
 * of the caller's, or in one that is as large as a policy may be, of which only what is written takes room.
 */
#include "compile/policy.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "compile/policy_internal.h"

#define HUGE_FROM  1000 /* bits: their rows are worth pages of 2 MiB */
#define UNIT_WORDS 8
#define ROW_BITS   512 /* of a unit */

int policy_out_of_memory(struct error *error)
{
	return error_set(error, -ENOMEM, "no memory for the policy");
}

static void compiler_clear(struct policy_compiler *compiler)
{
	policy_rule_views_clear(&compiler->views);
	free(compiler->bits);
	free(compiler->scratch);
	free(compiler->turns.turns);
	free(compiler->rows.hashes);
	free(compiler->rows.index);
	if (compiler->units && !compiler->lent)
		munmap(compiler->units, MEMORY_BYTES);
}

/* Room for the largest policy; what is not written takes none. */
static int compiler_map(struct policy_compiler *compiler)
{
	void *memory = mmap(NULL, MEMORY_BYTES, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (memory == MAP_FAILED)
		return policy_out_of_memory(compiler->error);
	if (compiler->bit_count >= HUGE_FROM)
		madvise(memory, MEMORY_BYTES, MADV_HUGEPAGE);
	compiler->units = memory;
	compiler->room = UNITS_MAX;
	return 0;
}

static int compiler_memory(struct policy_compiler *compiler)
{
	int r = compiler->lent ? 0 : compiler_map(compiler);

	if (r)
		return r;
	if (compiler->room < POLICY_HEADER_UNITS)
		return -ENOSPC;
	compiler->header = (struct policy_header *)compiler->units;
	compiler->used = POLICY_HEADER_UNITS;
	return 0;
}

int policy_units_take(struct policy_compiler *compiler, size_t count, uint32_t *ret_unit)
{
	if (count > compiler->room - compiler->used) {
		if (compiler->lent)
			return -ENOSPC;
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

static struct policy_bit *bit_add(struct policy_compiler *compiler)
{
	if (compiler->bit_count == compiler->bit_room) {
		size_t room = compiler->bit_room ? compiler->bit_room * 2 : 256;
		struct policy_bit *grown = realloc(compiler->bits, room * sizeof(*grown));

		if (!grown)
			return NULL;
		compiler->bits = grown;
		compiler->bit_room = room;
	}
	return &compiler->bits[compiler->bit_count++];
}

static void end_ports(struct policy_end *end, size_t place, const struct port_range *ranges, size_t count)
{
	end->of[place] = ranges;
	end->of_count[place] = count;
}

static void bit_end(struct policy_end *end, const struct endpoint *endpoint, int set,
	const struct port_range *port_set, size_t port_set_count)
{
	*end = (struct policy_end){.sets = {set, -1}, .not_set = -1};
	if (endpoint->has_prefix)
		end->in[0] = &endpoint->prefix;
	if (endpoint->port_count)
		end_ports(end, 0, endpoint->ports, endpoint->port_count);
	if (port_set)
		end_ports(end, 1, port_set, port_set_count);
}

static uint32_t bit_asks(const struct policy_bit *bit)
{
	const struct policy_rule_view *view = bit->view;
	uint32_t asks = 0;

	for (unsigned int i = 0; i < 2; i++) {
		const struct policy_end *end = &bit->ends[i];
		const struct prefix *prefix = end->in[0] ? end->in[0] : end->in[1] ? end->in[1] : end->not_in;

		if (prefix)
			asks |= 1U << ((prefix->address.family == 4 ? POLICY_BY_SRC4 : POLICY_BY_SRC6) + i);
		if (end->sets[0] >= 0 || end->sets[1] >= 0 || end->not_set >= 0)
			asks |= 1U << (POLICY_BY_SRC_SETS + i);
		if (end->of[0] || end->of[1] || end->of[2] || end->not_of)
			asks |= 1U << (POLICY_BY_SPORT + i);
	}
	return asks | view->asks;
}

/* One bit, or several that no packet fits two of: with the source that is meant, and with the destination
 * while the source is not. */
static int rule_expand(struct policy_compiler *compiler, const struct policy_rule_view *view)
{
	const struct match *match = &view->rule->match;
	const struct endpoint *either = &match->either;
	bool port_list = either->port_count || view->port_sets[2];
	unsigned int hosts = either->has_prefix || view->sets[2] >= 0 ? 2 : 1, ports = port_list ? 2 : 1;
	const struct port_range *ranges = either->port_count ? either->ports : view->port_sets[2];
	size_t range_count = either->port_count ? either->port_count : view->port_set_counts[2];

	for (unsigned int h = 0; h < hosts; h++)
		for (unsigned int p = 0; p < ports; p++) {
			struct policy_bit *bit = bit_add(compiler);

			if (!bit)
				return -ENOMEM;
			*bit = (struct policy_bit){.view = view};
			for (unsigned int i = 0; i < 2; i++)
				bit_end(&bit->ends[i], i ? &match->to : &match->from, view->sets[i],
					view->port_sets[i], view->port_set_counts[i]);
			bit->ends[h].sets[1] = view->sets[2];
			if (either->has_prefix)
				bit->ends[h].in[1] = &either->prefix;
			if (h) {
				bit->ends[0].not_set = view->sets[2];
				bit->ends[0].not_in = either->has_prefix ? &either->prefix : NULL;
			}
			if (ports == 2)
				end_ports(&bit->ends[p], 2, ranges, range_count);
			if (p) {
				bit->ends[0].not_of = ranges;
				bit->ends[0].not_of_count = range_count;
			}
			bit->asks = bit_asks(bit);
		}
	return 0;
}

static int compiler_expand(
	struct policy_compiler *compiler, const struct policy_order *order, struct error *error)
{
	int r;

	compiler->order = order;
	compiler->error = error;
	r = policy_rule_views_make(&compiler->views, order, error);
	if (r)
		return r;
	for (size_t i = 0; i < compiler->views.count; i++)
		if (rule_expand(compiler, &compiler->views.views[i]))
			return policy_out_of_memory(error);
	if (compiler->bit_count > POLICY_RULES_MAX) {
		error_set(error, -E2BIG, "the rules make %zu comparisons, which is more than %d",
			compiler->bit_count, POLICY_RULES_MAX);
		return error_want(
			error, "fewer rules; 'host' and 'port' for either end count twice, both four times");
	}
	compiler->row_words = (compiler->bit_count + ROW_BITS - 1) / ROW_BITS * UNIT_WORDS;
	compiler->row_units = 1 + compiler->row_words / UNIT_WORDS;
	compiler->scratch = calloc(compiler->row_words ? compiler->row_words : 1, sizeof(*compiler->scratch));
	return compiler->scratch ? 0 : policy_out_of_memory(error);
}

/*
 * The memory
 */

static void rule_write(
	const struct policy_compiler *compiler, const struct policy_bit *bit, struct policy_rule *ret_rule)
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
		.class = source->class,
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

static uint32_t policy_flags(const struct policy_compiler *compiler)
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

static uint32_t policy_fickle(const struct policy_compiler *compiler)
{
	uint32_t fickle = 1U << POLICY_BY_FLAGS | 1U << POLICY_BY_DSCP;

	for (size_t i = 0; i < compiler->views.count; i++)
		if (compiler->views.views[i].fragments)
			fickle |= 1U << POLICY_BY_KIND;
	return fickle;
}

/* What stands in front of the tables. */
static int policy_begin(struct policy_compiler *compiler)
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
	r = policy_units_take(compiler, compiler->bit_count, &header->rules);
	if (r)
		return r;
	for (size_t i = 0; i < compiler->bit_count; i++)
		rule_write(compiler, &compiler->bits[i],
			(struct policy_rule *)(compiler->units + header->rules + i));
	r = policy_units_take(compiler, owners, &unit);
	if (r || !owners)
		return r;
	header->owners = unit;
	memcpy(compiler->units + unit, compiler->views.owners, owners * sizeof(*compiler->units));
	return 0;
}

static int compiler_run(
	struct policy_compiler *compiler, const struct policy_order *order, struct error *error)
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
	for (enum policy_field_name name = 0; name < POLICY_FIELDS && !r; name++)
		if (asked & 1U << name)
			r = policy_field_make(compiler, name);
	return r;
}

static int compile(struct policy_compiler *compiler, const struct policy_order *order,
	struct policy_image *ret_image, struct error *error)
{
	int r = compiler_run(compiler, order, error);

	if (!r) {
		compiler->header->units = (uint32_t)compiler->used;
		*ret_image = (struct policy_image){
			.units = compiler->units,
			.count = compiler->used,
			.expression_count = compiler->views.expression_count,
			.lent = compiler->lent,
		};
		memcpy(ret_image->expressions, compiler->views.expressions, sizeof(ret_image->expressions));
		compiler->units = NULL;
	}
	compiler_clear(compiler);
	return r;
}

int policy_compile(const struct policy_order *order, struct policy_image *ret_image, struct error *error)
{
	struct policy_compiler compiler = {0};

	return compile(&compiler, order, ret_image, error);
}

int policy_compile_in(const struct policy_order *order, struct policy_unit *units, size_t count,
	struct policy_image *ret_image, struct error *error)
{
	struct policy_compiler compiler = {
		.units = units, .room = count < UNITS_MAX ? count : UNITS_MAX, .lent = true};

	return compile(&compiler, order, ret_image, error);
}

void policy_image_clear(struct policy_image *image)
{
	if (image->units && !image->lent)
		munmap(image->units, MEMORY_BYTES);
	*image = (struct policy_image){0};
}
