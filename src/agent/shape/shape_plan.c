// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
#include "agent/shape/shape_plan.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "basic/cleanup.h"
#include "basic/log.h"
#include "basic/text.h"
#include "basic/units.h"

#define KNOWN_MAX 64 /* names that an error chooses the nearest of */

struct planner {
	struct rulebook *book;
	enum shape_plan_mode mode;
	shape_plan_interface *interface;
	void *context;
	struct shape_plan plan;
	uint32_t *declared; /* places of declared classes, by name */
	size_t declared_count;
	uint32_t *links; /* places of links */
	size_t link_count;
	const struct rule_entry *about; /* what is looked at */
};

static const char *const directions[] = {"comes in", "leaves"};

const struct shape_terms *shape_node_terms(const struct shape_node *node)
{
	static const struct shape_terms none = {.priority = SHAPE_NORMAL};

	return node->rest ? &none : &node->entry->rule.shape;
}

const char *shape_node_name(const struct shape_node *node)
{
	const struct rule *rule = &node->entry->rule;

	if (rule_is_declared(rule))
		return rule->class;
	return node->link || node->rest ? node->interface : node->entry->text;
}

void shape_plan_clear(struct shape_plan *plan)
{
	free(plan->nodes);
	*plan = (struct shape_plan){};
}

/* Is what was found a reason not to go on?  What is in force stays there. */
static int refuse(const struct planner *planner, const struct error *error)
{
	if (planner->mode != SHAPE_PLAN_KEEP)
		return error && error->code ? error->code : -EINVAL;
	log_debug("classes: %s", error ? error->what : "");
	return 0;
}

#define refuse_with(planner, error, ...)                                                                     \
	((void)error_set(error, -EINVAL, __VA_ARGS__), refuse(planner, error))

/* -- which there are -- */

static int node_add(struct planner *planner, const struct shape_node *node)
{
	struct shape_plan *plan = &planner->plan;

	if (plan->count == plan->room) {
		size_t room = plan->room ? 2 * plan->room : 16;
		struct shape_node *nodes = reallocarray(plan->nodes, room, sizeof(*nodes));

		if (!nodes)
			return -ENOMEM;
		plan->nodes = nodes;
		plan->room = room;
	}
	plan->nodes[plan->count++] = *node;
	return 0;
}

/* A limit that everything on an interface fits gives the link its rate. */
static bool rule_is_link(const struct rule *rule)
{
	char text[MATCH_INTERFACE_MAX + 32];
	struct rule all;

	if (rule->verb != RULE_LIMIT || !rule->match.interface[0] || rule->shape.under[0] ||
		rule->match.direction == MATCH_BOTH)
		return false;
	snprintf(text, sizeof(text), "count %s on %s", rule->match.direction == MATCH_OUT ? "out" : "in",
		rule->match.interface);
	return rule_parse(text, &all, NULL) == 0 && rule_covers(rule, &all);
}

static int entry_plan(struct planner *planner, bool host, struct rule_entry *entry, struct error *error)
{
	const struct rule *rule = &entry->rule;
	struct shape_node node = {
		.entry = entry,
		.parent = SHAPE_PLAN_NONE,
		.out = rule->match.direction != MATCH_IN,
		.in = rule->match.direction != MATCH_OUT,
	};
	int r;

	if (!rule_entry_is_class(entry))
		return 0;
	if (!host && rule_is_declared(rule)) {
		error_set(error, -EINVAL, "classes are declared by the host, not by a tenant");
		return error_want(error, "'%.100s' without a tenant", entry->text);
	}
	node.link = rule_is_link(rule);
	r = rule_entry_class(entry, node.link, error);
	if (r < 0)
		return r;
	node.number = (uint16_t)entry->class;
	if (rule->match.interface[0])
		snprintf(node.interface, sizeof(node.interface), "%s", rule->match.interface);
	r = node_add(planner, &node);
	return r < 0 ? error_set(error, r, "out of memory") : 0;
}

static int entries_plan(struct planner *planner, struct error *error)
{
	int r = 0;

	for (size_t p = 0; p < planner->book->count && r == 0; p++) {
		const struct rule_list *list = &planner->book->policies[p].list;

		for (size_t i = 0; i < list->count && r == 0; i++) {
			planner->about = list->slots[i].entry;
			r = entry_plan(planner, p == 0, list->slots[i].entry, error);
		}
	}
	return r;
}

/* -- names -- */

static int compare_names(const void *a, const void *b, void *context)
{
	const struct shape_node *nodes = context;

	return strcmp(
		nodes[*(const uint32_t *)a].entry->rule.class, nodes[*(const uint32_t *)b].entry->rule.class);
}

static int names_collect(struct planner *planner, struct error *error)
{
	const struct shape_node *nodes = planner->plan.nodes;
	size_t count = planner->plan.count;

	planner->declared = calloc(count + 1, sizeof(*planner->declared));
	planner->links = calloc(count + 1, sizeof(*planner->links));
	if (!planner->declared || !planner->links)
		return error_set(error, -ENOMEM, "out of memory");
	for (size_t i = 0; i < count; i++) {
		if (rule_is_declared(&nodes[i].entry->rule))
			planner->declared[planner->declared_count++] = (uint32_t)i;
		if (nodes[i].link)
			planner->links[planner->link_count++] = (uint32_t)i;
	}
	qsort_r(planner->declared, planner->declared_count, sizeof(*planner->declared), compare_names,
		(void *)nodes);
	return 0;
}

static uint32_t declared_find(const struct planner *planner, const char *name)
{
	size_t low = 0, high = planner->declared_count;

	while (low < high) {
		size_t middle = (low + high) / 2;
		const struct shape_node *node = &planner->plan.nodes[planner->declared[middle]];
		int order = strcmp(node->entry->rule.class, name);

		if (order == 0)
			return planner->declared[middle];
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return SHAPE_PLAN_NONE;
}

static uint32_t link_find(const struct planner *planner, const char *name, bool out)
{
	for (size_t i = 0; i < planner->link_count; i++) {
		const struct shape_node *node = &planner->plan.nodes[planner->links[i]];

		if (node->out == out && strcmp(node->interface, name) == 0)
			return planner->links[i];
	}
	return SHAPE_PLAN_NONE;
}

/* Each name, and each link, once. */
static int names_check(struct planner *planner, struct error *error)
{
	const struct shape_node *nodes = planner->plan.nodes;

	for (size_t i = 1; i < planner->declared_count; i++) {
		uint32_t one = planner->declared[i - 1], other = planner->declared[i];
		const char *name = nodes[other].entry->rule.class;

		if (strcmp(name, nodes[one].entry->rule.class) != 0)
			continue;
		planner->about = nodes[one > other ? one : other].entry;
		error_set(error, -EEXIST, "there is a class '%s' already", name);
		error_want(error, "another name, or 'weir change' of the one that is there");
		return refuse(planner, error);
	}
	for (size_t i = 0; i < planner->link_count; i++) {
		const struct shape_node *link = &nodes[planner->links[i]];
		uint32_t first = link_find(planner, link->interface, link->out);

		if (first == planner->links[i])
			continue;
		planner->about = link->entry;
		error_set(error, -EEXIST, "what %s %s has a rate already: %.120s", directions[link->out],
			link->interface, nodes[first].entry->text);
		error_want(error, "'weir change' of that one, or 'weir delete' first");
		return refuse(planner, error);
	}
	return 0;
}

/* A name is one thing: `under eth0` is to mean the same tomorrow. */
static int interfaces_check(const struct planner *planner, struct error *error)
{
	for (size_t i = 0; i < planner->declared_count && planner->mode == SHAPE_PLAN_STRICT; i++) {
		const char *name = planner->plan.nodes[planner->declared[i]].entry->rule.class;

		if (planner->plan.nodes[planner->declared[i]].entry->generation ||
			!planner->interface(planner->context, name))
			continue;
		error_set(error, -EINVAL, "'%s' is an interface", name);
		error_want(error, "another name for the class");
		return refuse(planner, error);
	}
	return 0;
}

static int refuse_unknown(
	const struct planner *planner, const char *name, const struct rule_entry *entry, struct error *error)
{
	const char *known[KNOWN_MAX + 1] = {}, *near;
	size_t count = 0;

	for (size_t i = 0; i < planner->declared_count && count < KNOWN_MAX; i++)
		known[count++] = planner->plan.nodes[planner->declared[i]].entry->rule.class;
	for (size_t i = 0; i < planner->link_count && count < KNOWN_MAX; i++)
		known[count++] = planner->plan.nodes[planner->links[i]].interface;
	near = text_nearest(name, known);
	if (entry->generation) { /* a rule in force: what it names is to go */
		error_set(error, -EINVAL, "'%s' is still what rule %u names: %.120s", name, entry->id,
			entry->text);
		error_want(error, "'weir delete %u' first", entry->id);
		return refuse(planner, error);
	}
	if (entry->rule.verb == RULE_ASSIGN)
		error_set(error, -EINVAL, "there is no class '%s'", name);
	else
		error_set(error, -EINVAL, "there is no class and no interface '%s'", name);
	if (near)
		error_want(error, "did you mean '%s'?", near);
	else
		error_want(error, "'weir shape add %s under INTERFACE' makes one", name);
	return refuse(planner, error);
}

/* -- below which they stand -- */

/* A sentence that says more than a ceiling asks for something to share. */
static bool wants_parent(const struct shape_node *node)
{
	const struct shape_terms *terms = shape_node_terms(node);

	return terms->guarantee_bps || terms->weight || rule_is_declared(&node->entry->rule);
}

static int under_find(struct planner *planner, struct shape_node *node, struct error *error)
{
	const char *under = node->entry->rule.shape.under;

	node->parent = declared_find(planner, under);
	if (node->parent != SHAPE_PLAN_NONE)
		return 0;
	node->parent = link_find(planner, under, node->out);
	if (node->parent == SHAPE_PLAN_NONE && planner->mode == SHAPE_PLAN_STRICT &&
		!planner->interface(planner->context, under))
		return refuse_unknown(planner, under, node->entry, error);
	if (node->interface[0] && strcmp(node->interface, under) != 0)
		return refuse_with(
			planner, error, "on %s, but under %s: nothing fits both", node->interface, under);
	snprintf(node->interface, sizeof(node->interface), "%.15s", under);
	return 0;
}

/* Below the only link there is. */
static int only_find(struct planner *planner, struct shape_node *node, struct error *error)
{
	char names[160] = "";
	size_t length = 0, count = 0;

	for (size_t i = 0; i < planner->link_count; i++) {
		const struct shape_node *link = &planner->plan.nodes[planner->links[i]];

		if (link->out != node->out)
			continue;
		count++;
		node->parent = planner->links[i];
		if (length < sizeof(names))
			length += (size_t)snprintf(names + length, sizeof(names) - length, "%s%s",
				length ? ", " : "", link->interface);
	}
	/* a ceiling holds wherever packets leave; what is shared is the link's */
	node->anywhere = !wants_parent(node);
	if (count < 2)
		return 0;
	node->parent = SHAPE_PLAN_NONE;
	if (!wants_parent(node))
		return 0;
	if (node->entry->generation) { /* it has been there longer than the other link */
		error_set(error, -EINVAL, "rule %u would not know its link, of %s: %.120s", node->entry->id,
			names, node->entry->text);
		error_want(error, "first 'weir change %u under INTERFACE'", node->entry->id);
	} else {
		error_set(error, -EINVAL, "under which link? there are %s", names);
		error_want(error, "under INTERFACE at the end of the sentence");
	}
	return refuse(planner, error);
}

static int parent_find(struct planner *planner, struct shape_node *node, struct error *error)
{
	const struct rule *rule = &node->entry->rule;

	if (node->link)
		return 0;
	if (node->in && node->out) {
		if (!rule->shape.under[0] && !wants_parent(node))
			return 0;
		error_set(error, -EINVAL, "a class that shares has one direction");
		error_want(error, "%s out ... or %s in ...", rule_verbs[rule->verb], rule_verbs[rule->verb]);
		return refuse(planner, error);
	}
	if (rule->shape.under[0])
		return under_find(planner, node, error);
	if (node->interface[0]) {
		node->parent = link_find(planner, node->interface, node->out);
		return 0;
	}
	return only_find(planner, node, error);
}

static int parents_find(struct planner *planner, struct error *error)
{
	int r = 0;

	for (size_t i = 0; i < planner->plan.count && r == 0; i++) {
		planner->about = planner->plan.nodes[i].entry;
		r = parent_find(planner, &planner->plan.nodes[i], error);
	}
	return r;
}

/* What a class has of those above it: how deep it stands, and on which interface. */
static int node_climb(struct planner *planner, uint32_t place, struct error *error)
{
	struct shape_node *nodes = planner->plan.nodes, *node = &nodes[place];
	uint32_t depth = 0, at = node->parent;

	planner->about = node->entry;
	for (; at != SHAPE_PLAN_NONE && depth < SHAPE_DEPTH_MAX; at = nodes[at].parent, depth++) {
		if (at != place)
			continue;
		error_set(error, -ELOOP, "a loop: '%s' stands below itself", shape_node_name(node));
		error_want(error, "another class or an interface behind 'under'");
		node->parent = SHAPE_PLAN_NONE;
		return refuse(planner, error);
	}
	if (depth >= SHAPE_DEPTH_MAX) {
		/* below a loop, or too deep */
		error_set(error, -ELOOP, "'%.100s' stands too deep", shape_node_name(node));
		error_want(error, "at most %d levels: an interface, and three of classes", SHAPE_DEPTH_MAX);
		node->parent = SHAPE_PLAN_NONE;
		return refuse(planner, error);
	}
	node->depth = depth;
	return 0;
}

static int node_join(struct planner *planner, struct shape_node *node, struct error *error)
{
	struct shape_node *nodes = planner->plan.nodes, *parent = &nodes[node->parent], *root = parent;

	planner->about = node->entry;
	while (root->parent != SHAPE_PLAN_NONE)
		root = &nodes[root->parent];
	if (parent->out != node->out || parent->in != node->in) {
		error_set(error, -EINVAL, "'%.80s' is for what %s, and stands below %s, which is for what %s",
			shape_node_name(node), directions[node->out], shape_node_name(parent),
			directions[parent->out]);
		node->parent = SHAPE_PLAN_NONE;
		return refuse(planner, error);
	}
	if (node->interface[0] && root->interface[0] && strcmp(node->interface, root->interface) != 0) {
		error_set(error, -EINVAL, "on %s, but below %s, which is on %s: nothing fits both",
			node->interface, shape_node_name(parent), root->interface);
		node->parent = SHAPE_PLAN_NONE;
		return refuse(planner, error);
	}
	if (!node->interface[0])
		snprintf(node->interface, sizeof(node->interface), "%s", root->interface);
	parent->children++;
	return 0;
}

static int tree_make(struct planner *planner, struct error *error)
{
	struct shape_plan *plan = &planner->plan;
	int r = 0;

	for (uint32_t i = 0; i < plan->count && r == 0; i++)
		r = node_climb(planner, i, error);
	/* interfaces come from above: the highest first */
	for (uint32_t depth = 1; depth < SHAPE_DEPTH_MAX && r == 0; depth++)
		for (size_t i = 0; i < plan->count && r == 0; i++)
			if (plan->nodes[i].depth == depth && plan->nodes[i].parent != SHAPE_PLAN_NONE)
				r = node_join(planner, &plan->nodes[i], error);
	return r;
}

/* -- what they ask to be held by -- */

static bool wish_queues(enum shape_wish wish)
{
	return wish == SHAPE_WISH_HTB || wish == SHAPE_WISH_FQ || wish == SHAPE_WISH_IFB;
}

/* Does what a sentence asks for make sense at all? */
static int wish_check(const struct planner *planner, const struct shape_node *node, struct error *error)
{
	enum shape_wish wish = shape_node_terms(node)->wish;

	if ((wish == SHAPE_WISH_HTB || wish == SHAPE_WISH_FQ || wish == SHAPE_WISH_PACING) && node->in) {
		error_set(error, -EINVAL, "pacing, htb and fq hold what leaves");
		error_want(error, "%s", node->out ? "limit out ..." : "engine policer, or engine ifb");
		return refuse(planner, error);
	}
	if (wish == SHAPE_WISH_IFB && node->out) {
		error_set(error, -EINVAL, "engine ifb queues what comes in");
		error_want(error, "%s", node->in ? "limit in ..." : "engine htb for what leaves");
		return refuse(planner, error);
	}
	if (!wish_queues(wish) || node->interface[0])
		return 0;
	/* It may be another sentence than the one that comes: a second link takes the first one from who
	 * named none. */
	error_set(error, -EINVAL,
		"a queue belongs to an interface, and this class would be on all of them: %.120s",
		node->entry->text);
	error_want(error, "on INTERFACE, or under INTERFACE");
	return refuse(planner, error);
}

/* One queue on an interface: what leaves it waits in htb or in fq. */
static int queues_check(struct planner *planner, const struct shape_node *node,
	const struct shape_node **queues, size_t *count, struct error *error)
{
	enum shape_wish wish = shape_node_terms(node)->wish;

	if (!wish_queues(wish) || !node->interface[0])
		return 0;
	for (size_t i = 0; i < *count; i++) {
		if (queues[i]->out != node->out || strcmp(queues[i]->interface, node->interface) != 0)
			continue;
		if (shape_node_terms(queues[i])->wish == wish)
			return 0;
		error_set(error, -EINVAL, "%s has one queue, and both htb and fq are asked for",
			node->interface);
		error_want(error, "the same engine for all classes on it");
		return refuse(planner, error);
	}
	if (*count < SHAPE_TREES_MAX)
		queues[(*count)++] = node;
	return 0;
}

static int wishes_check(struct planner *planner, struct error *error)
{
	const struct shape_node *queues[SHAPE_TREES_MAX] = {};
	size_t count = 0;
	int r = 0;

	for (size_t i = 0; i < planner->plan.count && r == 0; i++) {
		const struct shape_node *node = &planner->plan.nodes[i];

		planner->about = node->entry;
		r = wish_check(planner, node, error);
		if (r == 0)
			r = queues_check(planner, node, queues, &count, error);
	}
	return r;
}

/* -- whether the sums are right -- */

static int guarantee_check(struct planner *planner, const struct shape_node *node, struct error *error)
{
	const struct shape_terms *terms = shape_node_terms(node);
	const struct shape_node *parent = &planner->plan.nodes[node->parent];
	uint64_t ceiling = shape_node_terms(parent)->ceiling_bps;
	char wanted[32], there[32];

	if (!ceiling || terms->guarantee_bps <= ceiling)
		return 0;
	planner->about = node->entry;
	error_set(error, -EINVAL, "a guarantee of %s is above the %s of %.80s",
		rate_print(wanted, sizeof(wanted), terms->guarantee_bps),
		rate_print(there, sizeof(there), ceiling), shape_node_name(parent));
	error_want(error, "at most that");
	return refuse(planner, error);
}

static int sum_check(struct planner *planner, const struct shape_node *node, struct error *error)
{
	const struct shape_terms *terms = shape_node_terms(node);
	uint64_t has = terms->guarantee_bps ? terms->guarantee_bps : terms->ceiling_bps;
	char wanted[32], there[32];

	if (!has || node->promised_bps <= has)
		return 0;
	planner->about = node->entry;
	error_set(error, -EINVAL, "the guarantees below %.80s add up to %s, and it has %s",
		shape_node_name(node), rate_print(wanted, sizeof(wanted), node->promised_bps),
		rate_print(there, sizeof(there), has));
	error_want(error, "less for one of them, or more for %.80s", shape_node_name(node));
	return refuse(planner, error);
}

uint64_t shape_node_promise(const struct shape_node *node)
{
	uint64_t own = shape_node_terms(node)->guarantee_bps;

	return own > node->promised_bps ? own : node->promised_bps;
}

/* What is promised below a class without a guarantee is promised by those above. */
static void promises_add(struct shape_plan *plan)
{
	for (uint32_t depth = SHAPE_DEPTH_MAX; depth-- > 1;)
		for (size_t i = 0; i < plan->count; i++)
			if (plan->nodes[i].depth == depth && plan->nodes[i].parent != SHAPE_PLAN_NONE)
				plan->nodes[plan->nodes[i].parent].promised_bps +=
					shape_node_promise(&plan->nodes[i]);
}

static int sums_check(struct planner *planner, struct error *error)
{
	const struct shape_node *nodes = planner->plan.nodes;
	int r = 0;

	promises_add(&planner->plan);
	for (size_t i = 0; i < planner->plan.count && r == 0; i++)
		if (nodes[i].parent != SHAPE_PLAN_NONE)
			r = guarantee_check(planner, &nodes[i], error);
	for (size_t i = 0; i < planner->plan.count && r == 0; i++)
		r = sum_check(planner, &nodes[i], error);
	return r;
}

/* -- the rules -- */

static int assign_find(const struct planner *planner, const struct rule_entry *entry, uint16_t *ret_class,
	struct error *error)
{
	const struct rule *rule = &entry->rule;
	uint32_t place = declared_find(planner, rule->class);
	const struct shape_node *node;

	*ret_class = 0;
	if (place == SHAPE_PLAN_NONE)
		return refuse_unknown(planner, rule->class, entry, error);
	node = &planner->plan.nodes[place];
	*ret_class = node->number;
	if ((rule->match.direction == MATCH_OUT && !node->out) ||
		(rule->match.direction == MATCH_IN && !node->in)) {
		error_set(error, -EINVAL, "class '%s' is for what %s, the rule for what %s", rule->class,
			directions[node->out], directions[!node->out]);
		return refuse(planner, error);
	}
	if (rule->match.interface[0] && node->interface[0] &&
		strcmp(rule->match.interface, node->interface) != 0)
		return refuse_with(planner, error, "class '%s' is on %s, the rule on %s", rule->class,
			node->interface, rule->match.interface);
	return 0;
}

static int slot_tell(const struct planner *planner, struct rule_slot *slot, struct error *error)
{
	const struct rule_entry *entry = slot->entry;

	slot->class = 0;
	if (entry->rule.verb == RULE_ASSIGN)
		return assign_find(planner, entry, &slot->class, error);
	if (rule_entry_is_class(entry) && !rule_is_declared(&entry->rule))
		slot->class = (uint16_t)entry->class;
	return 0;
}

static int slots_tell(struct planner *planner, struct error *error)
{
	int r = 0;

	for (size_t p = 0; p < planner->book->count && r == 0; p++) {
		struct rule_list *list = &planner->book->policies[p].list;

		for (size_t i = 0; i < list->count && r == 0; i++) {
			planner->about = list->slots[i].entry;
			r = slot_tell(planner, &list->slots[i], error);
		}
	}
	return r;
}

/* -- the plan -- */

/* What belongs to no other class of a link. */
static int rests_add(struct planner *planner)
{
	size_t count = planner->plan.count;
	int r = 0;

	for (size_t i = 0; i < count && r == 0; i++) {
		struct shape_node rest = planner->plan.nodes[i];

		if (!rest.link)
			continue;
		rest.link = false;
		rest.rest = true;
		rest.number = (uint16_t)rest.entry->rest;
		rest.parent = (uint32_t)i;
		rest.depth = 1;
		rest.children = 0;
		rest.promised_bps = 0;
		planner->plan.nodes[i].children++;
		r = node_add(planner, &rest);
	}
	return r;
}

static void lonely_note(struct shape_plan *plan)
{
	for (size_t i = 0; i < plan->count; i++) {
		const struct shape_node *node = &plan->nodes[i];
		const struct shape_terms *terms = shape_node_terms(node);
		bool on = node->interface[0];

		if (node->parent != SHAPE_PLAN_NONE || node->link ||
			!(terms->guarantee_bps || terms->weight || terms->priority == SHAPE_INTERACTIVE))
			continue;
		snprintf(plan->lonely, sizeof(plan->lonely),
			"'%.100s' has nothing to take its share of: 'weir limit %s on %s to RATE' gives %s a "
			"rate",
			shape_node_name(node), node->out ? "out" : "in", on ? node->interface : "INTERFACE",
			on ? node->interface : "an interface");
		return;
	}
}

/* Parents before their children: a stable order by depth. */
static int nodes_sort(struct shape_plan *plan)
{
	struct shape_node *sorted = calloc(plan->count + 1, sizeof(*sorted));
	uint32_t *places = calloc(plan->count + 1, sizeof(*places));
	uint32_t count = 0;

	if (!sorted || !places) {
		free(sorted);
		free(places);
		return -ENOMEM;
	}
	for (uint32_t depth = 0; depth < SHAPE_DEPTH_MAX; depth++)
		for (size_t i = 0; i < plan->count; i++)
			if (plan->nodes[i].depth == depth) {
				places[i] = count;
				sorted[count++] = plan->nodes[i];
			}
	for (uint32_t i = 0; i < count; i++)
		if (sorted[i].parent != SHAPE_PLAN_NONE)
			sorted[i].parent = places[sorted[i].parent];
	free(plan->nodes);
	free(places);
	plan->nodes = sorted;
	plan->count = count;
	plan->room = count + 1;
	return 0;
}

int shape_plan_make(struct rulebook *book, enum shape_plan_mode mode, shape_plan_interface *interface,
	void *context, struct shape_plan *ret_plan, const struct rule_entry **ret_about, struct error *error)
{
	struct planner planner = {.book = book, .mode = mode, .interface = interface, .context = context};
	static int (*const steps[])(struct planner *, struct error *) = {
		entries_plan, names_collect, parents_find, tree_make, wishes_check, sums_check, slots_tell};
	struct error problem = {};
	int r = 0;

	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]) && r == 0; i++) {
		r = steps[i](&planner, &problem);
		if (r == 0 && steps[i] == names_collect)
			r = names_check(&planner, &problem);
		if (r == 0 && steps[i] == names_collect)
			r = interfaces_check(&planner, &problem);
	}
	if (r == 0 && (rests_add(&planner) < 0 || nodes_sort(&planner.plan) < 0))
		r = error_set(&problem, -ENOMEM, "out of memory");
	free(planner.declared);
	free(planner.links);
	if (r < 0) {
		shape_plan_clear(&planner.plan);
		if (ret_about)
			*ret_about = planner.about;
		if (error)
			*error = problem;
		return r;
	}
	lonely_note(&planner.plan);
	*ret_plan = planner.plan;
	return 0;
}
