// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * A plan's classes as a tree of HTB.
 *
 * HTB gives each class its rate, and lends what is left to those that want more.  It lends packet by packet,
 * whatever their lengths, and only among leaves, so lending does not hold weights where packets are long.  So
 * what is to be shared is not left to it: a class's rate is its guarantee and its part of what the parent has
 * left, by priority and weight; only what is idle is lent.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/shape/shapes_internal.h"

#define LEAST  1000U /* bytes a second: HTB knows no 0 */
#define ROUNDS 4     /* of giving out what classes with low ceilings leave */

/* What a full leaf refuses TCP tries again every half second, and fifteen times in a row are the connection's
 * end: so each socket has its place. */
#define SOCKET_BYTES 1514U

/* HTB serves 0 first. */
static const uint32_t priorities[SHAPE_PRIORITIES] = {
	[SHAPE_LOW] = 3, [SHAPE_NORMAL] = 2, [SHAPE_HIGH] = 1, [SHAPE_INTERACTIVE] = 0};

/* What is worked out for a class.  Bytes a second. */
struct part {
	bool in; /* it is of this tree */
	uint64_t rate, ceiling;
	/* as a parent */
	uint64_t left;          /* that no child has yet */
	uint64_t weight, given; /* in this round: of the children that want some of it, and what they got */
};

struct shape_tree *shape_tree_find(struct shape_tree *trees, size_t count, const struct shape_node *node)
{
	for (size_t i = 0; i < count && node->interface[0]; i++)
		if (trees[i].out == node->out && strcmp(trees[i].interface, node->interface) == 0)
			return &trees[i];
	return NULL;
}

static uint64_t weight_of(const struct shape_node *node)
{
	uint32_t weight = shape_node_terms(node)->weight;

	return weight ? weight : 1;
}

static uint64_t ceiling_of(const struct shape_plan *plan, const struct part *parts, size_t place)
{
	const struct shape_node *node = &plan->nodes[place];
	uint64_t own = shape_node_terms(node)->ceiling_bps / 8,
		 above = node->parent == SHAPE_PLAN_NONE ? SHAPE_RATE_MAX / 8 : parts[node->parent].ceiling;

	return own && own < above ? own : above;
}

static bool wants(const struct shape_plan *plan, const struct part *parts, size_t place, uint32_t depth,
	enum shape_priority priority)
{
	const struct shape_node *node = &plan->nodes[place];

	return parts[place].in && node->depth == depth && node->parent != SHAPE_PLAN_NONE &&
	       shape_node_terms(node)->priority == priority && parts[place].rate < parts[place].ceiling;
}

/* One round among the classes of a priority at a depth. */
static void round_give(
	const struct shape_plan *plan, struct part *parts, uint32_t depth, enum shape_priority priority)
{
	for (size_t i = 0; i < plan->count; i++)
		parts[i].weight = parts[i].given = 0;
	for (size_t i = 0; i < plan->count; i++)
		if (wants(plan, parts, i, depth, priority))
			parts[plan->nodes[i].parent].weight += weight_of(&plan->nodes[i]);
	for (size_t i = 0; i < plan->count; i++) {
		struct part *parent;
		uint64_t more;

		if (!wants(plan, parts, i, depth, priority))
			continue;
		parent = &parts[plan->nodes[i].parent];
		more = (uint64_t)((__uint128_t)parent->left * weight_of(&plan->nodes[i]) / parent->weight);
		if (more > parts[i].ceiling - parts[i].rate)
			more = parts[i].ceiling - parts[i].rate;
		parts[i].rate += more;
		parent->given += more;
	}
	for (size_t i = 0; i < plan->count; i++)
		parts[i].left -= parts[i].given;
}

static void level_give(const struct shape_plan *plan, struct part *parts, uint32_t depth)
{
	for (size_t i = 0; i < plan->count; i++) {
		const struct shape_node *node = &plan->nodes[i];
		uint64_t guarantee = shape_node_promise(node) / 8;

		if (!parts[i].in || node->depth != depth)
			continue;
		parts[i].rate = node->link ? parts[i].ceiling : guarantee;
		parts[i].left = 0;
		if (node->parent != SHAPE_PLAN_NONE) {
			struct part *parent = &parts[node->parent];

			parent->left -= guarantee < parent->left ? guarantee : parent->left;
		}
	}
	for (unsigned int priority = SHAPE_PRIORITIES; priority-- > 0;)
		for (unsigned int round = 0; round < ROUNDS; round++)
			round_give(plan, parts, depth, priority);
	for (size_t i = 0; i < plan->count; i++)
		if (parts[i].in && plan->nodes[i].depth == depth) {
			/* nothing to have a part of: what it may */
			if (plan->nodes[i].parent == SHAPE_PLAN_NONE && !plan->nodes[i].link &&
				shape_node_terms(&plan->nodes[i])->ceiling_bps)
				parts[i].rate = parts[i].ceiling;
			parts[i].left = parts[i].rate;
		}
}

static struct engine_htb class_of(const struct shape_live *live, const struct shape_plan *plan,
	const struct shape_node *node, const struct part *part)
{
	const struct shape_terms *terms = shape_node_terms(node);
	const struct shape_node *parent = node->parent == SHAPE_PLAN_NONE ? NULL : &plan->nodes[node->parent];
	struct engine_htb class = {
		.minor = shape_htb_minor(node),
		.rate = part->rate > LEAST ? part->rate : LEAST,
		.ceiling = part->ceiling,
		.burst = terms->burst,
		.weight = (uint32_t)weight_of(node),
		.priority = priorities[terms->priority],
		.room = live ? live[node->number].sockets * SOCKET_BYTES : 0,
		.leaf = !node->link && !node->children,
	};

	if (!node->link)
		class.parent = parent ? shape_htb_minor(parent) : QDISC_ROOT;
	return class;
}

/* Nobody has said how much the interface can do. */
static size_t root_put(struct engine_htb *classes)
{
	const uint64_t most = SHAPE_RATE_MAX / 8;

	classes[0] = (struct engine_htb){.minor = QDISC_ROOT, .rate = most, .ceiling = most};
	classes[1] = (struct engine_htb){.minor = QDISC_REST,
		.parent = QDISC_ROOT,
		.rate = LEAST,
		.ceiling = most,
		.priority = priorities[SHAPE_NORMAL],
		.leaf = true};
	return 2;
}

static size_t classes_put(const struct shape_live *live, const struct shape_plan *plan,
	const struct part *parts, bool link, struct engine_htb *classes)
{
	size_t count = link ? 0 : root_put(classes);

	for (size_t i = 0; i < plan->count; i++) {
		struct engine_htb class;

		if (!parts[i].in)
			continue;
		class = class_of(live, plan, &plan->nodes[i], &parts[i]);
		classes[count++] = class;
		if (class.leaf || plan->nodes[i].link)
			continue;
		/* its own packets, beside its children */
		class.parent = class.minor;
		class.minor |= QDISC_OWN;
		class.rate = LEAST;
		class.leaf = true;
		classes[count++] = class;
	}
	return count;
}

int shape_htb_make(const struct shape_live *live, const struct shape_plan *plan, struct shape_tree *tree,
	struct engine_htb **ret_classes, size_t *ret_count)
{
	struct engine_htb *classes = calloc(2 * plan->count + 2, sizeof(*classes));
	struct part *parts = calloc(plan->count + 1, sizeof(*parts));
	bool link = false;

	if (!classes || !parts) {
		free(classes);
		free(parts);
		return -ENOMEM;
	}
	for (size_t i = 0; i < plan->count; i++) {
		const struct shape_node *node = &plan->nodes[i];

		parts[i].in = !(node->in && node->out) && shape_tree_find(tree, 1, node);
		parts[i].ceiling = ceiling_of(plan, parts, i);
		link |= parts[i].in && node->link;
	}
	for (uint32_t depth = 0; depth < SHAPE_DEPTH_MAX; depth++)
		level_give(plan, parts, depth);
	*ret_count = classes_put(live, plan, parts, link, classes);
	*ret_classes = classes;
	free(parts);
	return 0;
}
