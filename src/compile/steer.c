// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
#include "compile/steer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "compile/policy_internal.h"

_Static_assert(STEER_CPUS_LISTED == STEER_CPUS_MAX, "CPUs are numbered alike");

/* How many sentences by rule each CPU has got. */
struct steer_shares {
	uint16_t taken[STEER_CPUS_MAX];
};

/* The CPUs that a sentence steers to. */
static size_t cpus_choose(const struct steer_input *input, const struct steer_cpus *there,
	struct steer_shares *shares, uint16_t cpus[STEER_CPUS_MAX])
{
	const struct steer_text *text = input->rule->steer;
	size_t count = 0, best = 0;

	for (unsigned int cpu = 0; cpu < STEER_CPUS_MAX; cpu++)
		if (text->cpus[cpu / 64] >> cpu % 64 & 1 && steer_cpus_have(there, cpu))
			cpus[count++] = (uint16_t)cpu;
	if (!text->by_rule || !count)
		return count;
	for (size_t i = 1; i < count; i++)
		if (shares->taken[cpus[i]] < shares->taken[cpus[best]])
			best = i;
	shares->taken[cpus[best]]++;
	cpus[0] = cpus[best];
	return 1;
}

/* All but the policy, behind it. */
static int sentences_write(const struct steer_input *inputs, size_t count, const struct policy_world *world,
	const struct steer_cpus *there, struct policy_image *image, struct error *error)
{
	size_t unit = image->count + 1 + count, lanes = 0;
	struct steer *steers = (struct steer *)(image->units + image->count + 1);
	struct steer_shares shares = {};
	uint16_t cpus[STEER_CPUS_MAX];

	((struct steer_head *)(image->units + image->count))->count = (uint32_t)count;
	for (size_t i = 0; i < count; i++) {
		size_t chosen = cpus_choose(&inputs[i], there, &shares, cpus);

		lanes += chosen;
		if (lanes > STEER_LANES_MAX) {
			error_set(error, -ENOSPC, "the sentences that steer name too many CPUs");
			return error_want(error, "at most %d, all sentences together", STEER_LANES_MAX);
		}
		steers[i] = (struct steer){
			.rule = inputs[i].id,
			.ifindex = world->interface(world->context, inputs[i].rule->match.interface),
			.count = (uint32_t)chosen,
			.cpus = (uint32_t)unit,
		};
		memcpy(image->units + unit, cpus, chosen * sizeof(*cpus));
		unit += (chosen + STEER_CPUS_A_UNIT - 1) / STEER_CPUS_A_UNIT;
	}
	image->count = unit;
	return 0;
}

static int book_write(const struct steer_input *inputs, const struct policy_source *sources, size_t count,
	const struct policy_world *world, const struct steer_cpus *there, struct policy_image *image,
	struct error *error)
{
	const struct policy_order order = {
		.sources = sources,
		.count = count,
		.defaults = {{.counter = POLICY_NO_COUNTER}, {.counter = POLICY_NO_COUNTER}},
		.world = world,
	};
	size_t most = 1 + count + count * (STEER_CPUS_MAX / STEER_CPUS_A_UNIT);
	int r = policy_compile(&order, image, error);

	if (r < 0)
		return r;
	if (most > UNITS_MAX - image->count) {
		error_set(error, -E2BIG, "the sentences that steer need more memory than a book has");
		return error_want(error, "sets in the place of many prefixes");
	}
	return sentences_write(inputs, count, world, there, image, error);
}

int steer_compile(const struct steer_input *inputs, size_t count, const struct policy_world *world,
	const struct steer_cpus *there, struct policy_image *ret_image, struct error *error)
{
	struct policy_image image = {};
	struct policy_source *sources;
	int r;

	if (!count) {
		*ret_image = image;
		return 0;
	}
	sources = calloc(count, sizeof(*sources));
	if (!sources)
		return error_set(error, -ENOMEM, "out of memory");
	for (size_t i = 0; i < count; i++)
		sources[i] = (struct policy_source){
			.rule = inputs[i].rule, .id = inputs[i].id, .counter = POLICY_NO_COUNTER};
	r = book_write(inputs, sources, count, world, there, &image, error);
	free(sources);
	if (r < 0)
		policy_image_clear(&image);
	else
		*ret_image = image;
	return r;
}

const struct steer *steer_sentences(const struct policy_unit *book, size_t count, size_t *ret_count)
{
	const struct policy_header *header = (const struct policy_header *)book;
	const struct steer_head *head;

	if (!book || count < POLICY_HEADER_UNITS || header->units >= count)
		return NULL;
	head = (const struct steer_head *)(book + header->units);
	if (head->count >= count - header->units)
		return NULL;
	*ret_count = head->count;
	return (const struct steer *)(head + 1);
}

unsigned int steer_cpu(const struct policy_unit *book, const struct steer *steer, size_t place)
{
	return ((const uint16_t *)(book + steer->cpus))[place];
}
