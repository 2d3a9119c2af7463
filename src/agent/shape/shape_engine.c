// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * Which engine holds a class's rate.
 *
 * A queue (HTB, fq) belongs to an interface, so it is chosen for a whole tree: packets of one class must not
 * be policed by the link while those of another wait for it.  Without one, what leaves is paced, and what
 * comes in is policed.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/shape/shapes_internal.h"
#include "bpf/lib/share.h"

#define INEXACT_SECONDS 3    /* in a row, before a queue is put up */
#define EXACT_SECONDS   30   /* in a row, before it is taken away */
#define UNPACED_PERCENT 10   /* of a class's packets are dropped since they cannot be paced */
#define SOCKETS_MIN     16   /* for so many any leaf has room */
#define SOCKETS_MAX     2048 /* … and for more none */
#define UNPACED_PACKETS 100U /* in a second, before that is looked at */

static const char reason_htb[] = "engine htb was asked for", reason_fq[] = "engine fq was asked for",
		  reason_ifb[] = "engine ifb was asked for", reason_pacing[] = "engine pacing was asked for",
		  reason_policer[] = "engine policer was asked for";

static const char reason_shared[] =
	"fq holds the link; what its classes share is paced, or policed, in front of it";

static const char *const wish_reasons[] = {
	[SHAPE_WISH_PACING] = reason_pacing,
	[SHAPE_WISH_HTB] = reason_htb,
	[SHAPE_WISH_FQ] = reason_fq,
	[SHAPE_WISH_POLICER] = reason_policer,
	[SHAPE_WISH_IFB] = reason_ifb,
};

/* -- what can be asked for -- */

static int refuse(struct error *error, const char *what, const char *want)
{
	error_set(error, -EINVAL, "%s", what);
	return error_want(error, "%s", want);
}

/* Has this kernel what a sentence asks for? */
static int wish_check(struct engine *engine, const struct shape_node *node, struct error *error)
{
	enum shape_wish wish = shape_node_terms(node)->wish;

	if (wish == SHAPE_WISH_FQ && !engine_qdisc_has(engine, "fq"))
		return refuse(error, "this kernel has no qdisc fq", "engine pacing, htb or policer");
	if ((wish == SHAPE_WISH_HTB || wish == SHAPE_WISH_IFB) && !engine_qdisc_has(engine, "htb"))
		return refuse(error, "this kernel has no qdisc htb", "engine pacing, fq or policer");
	return 0;
}

/* What a class asks of its tree; *ret_asked: in words. */
static enum shape_wish node_wish(
	const struct shapes *shapes, const struct shape_node *node, bool *ret_asked, const char **ret_reason)
{
	enum shape_wish wish = shape_node_terms(node)->wish;
	const struct shape_live *live = shapes->live ? &shapes->live[node->number] : NULL;

	*ret_asked = wish != SHAPE_WISH_AUTO;
	*ret_reason = wish_reasons[wish];
	if (wish != SHAPE_WISH_AUTO || !live || !live->queued || live->class.generation != node->entry->id ||
		!node->out || node->in)
		return wish;
	*ret_reason = live->why;
	return engine_qdisc_has(shapes->agent->engine, "htb") ? SHAPE_WISH_HTB : SHAPE_WISH_FQ;
}

static void tree_wish(const struct shapes *shapes, struct shape_tree *tree, const struct shape_node *node)
{
	bool asked;
	const char *reason;
	enum shape_wish wish = node_wish(shapes, node, &asked, &reason);

	if (wish != SHAPE_WISH_HTB && wish != SHAPE_WISH_FQ && wish != SHAPE_WISH_IFB)
		return;
	tree->fresh |= asked && !(shapes->live && shapes->live[node->number].entry == node->entry);
	if (tree->wish != SHAPE_WISH_AUTO && (!asked || tree->asked))
		return;
	tree->wish = wish;
	tree->asked = asked;
	tree->reason = reason;
}

/* -- what there can be -- */

static void tree_refuse(struct shape_tree *tree, const struct error *problem)
{
	snprintf(tree->refusal, sizeof(tree->refusal), "%.159s", problem->what);
	tree->engine = SHAPE_NONE;
}

/* Whether the queue that is wanted can be there. */
static int tree_choose(
	struct engine *engine, struct shape_tree *tree, enum shape_plan_mode mode, struct error *error)
{
	struct engine_qdisc qdisc = {};
	struct error problem = {};
	int r;

	if (tree->wish == SHAPE_WISH_AUTO || !tree->index)
		return 0;
	tree->engine = tree->wish == SHAPE_WISH_FQ ? SHAPE_EDT : SHAPE_HTB;
	if (tree->wish == SHAPE_WISH_IFB)
		return 0;
	r = engine_qdisc_look(engine, tree->index, &qdisc);
	if (r < 0)
		error_set(&problem, r, "cannot ask for the qdisc of %s: %s", tree->interface, strerror(-r));
	else if (qdisc.ours || qdisc.free || (tree->wish == SHAPE_WISH_FQ && strcmp(qdisc.kind, "fq") == 0))
		return 0;
	else
		engine_qdisc_refuse(tree->interface, &qdisc, &problem);
	tree_refuse(tree, &problem);
	if (!tree->fresh || mode == SHAPE_PLAN_KEEP)
		return 0;
	if (error)
		*error = problem;
	return problem.code;
}

/* -- which it is -- */

/* Has the class, or one above it, a rate to hold? */
static bool has_rate(const struct shape_plan *plan, const struct shape_node *node)
{
	for (;; node = &plan->nodes[node->parent]) {
		const struct shape_terms *terms = shape_node_terms(node);

		if (terms->ceiling_bps || terms->guarantee_bps)
			return true;
		if (node->parent == SHAPE_PLAN_NONE)
			return false;
	}
}

static struct shape_choice chosen(enum shape_engine engine, const char *reason)
{
	struct shape_choice choice = {.engine = engine};

	snprintf(choice.reason, sizeof(choice.reason), "%s", reason);
	return choice;
}

/* Is a class above it policed because that was asked for?  Then nobody shares that one's rate among sockets.
 */
static bool is_below_policer(const struct shape_plan *plan, const struct shape_node *node)
{
	while (node->parent != SHAPE_PLAN_NONE) {
		node = &plan->nodes[node->parent];
		if (shape_node_terms(node)->wish == SHAPE_WISH_POLICER)
			return true;
	}
	return false;
}

/* What waits in a leaf makes way for nobody: what can wait in its socket does so. */
static struct shape_choice chosen_queue(
	const struct shape_plan *plan, const struct shape_node *node, const struct shape_tree *tree)
{
	struct shape_choice choice = chosen(tree->engine, tree->reason);

	choice.paced = tree->engine == SHAPE_HTB && node->out && !node->in && has_rate(plan, node);
	return choice;
}

static struct shape_choice node_choose(
	const struct shape_plan *plan, const struct shape_node *node, const struct shape_tree *tree)
{
	enum shape_wish wish = shape_node_terms(node)->wish;

	if (wish == SHAPE_WISH_POLICER || wish == SHAPE_WISH_PACING)
		return chosen(wish == SHAPE_WISH_PACING ? SHAPE_PACING : SHAPE_POLICER, wish_reasons[wish]);
	/* fq knows no classes: who shares is held in front of it, and it holds the link */
	if (tree && tree->engine == SHAPE_EDT && node->depth &&
		(node->depth > 1 || plan->nodes[node->parent].children > 1))
		return chosen(SHAPE_PACING, reason_shared);
	/* one that holds on other interfaces, too, is held in front of the queue */
	if (tree && tree->engine != SHAPE_NONE && !(node->anywhere && wish == SHAPE_WISH_AUTO))
		return chosen_queue(plan, node, tree);
	if (!has_rate(plan, node))
		return chosen(SHAPE_NONE, "it has no rate, and stands below none that has");
	if (node->in && node->out)
		return chosen(SHAPE_POLICER, "both directions together: nothing else holds both");
	if (node->in)
		return chosen(SHAPE_POLICER,
			"it comes in; 'engine ifb' makes it wait, where it is on one interface");
	if (is_below_policer(plan, node))
		return chosen(shape_node_terms(node)->ceiling_bps ? SHAPE_POLICER : SHAPE_NONE,
			"what it stands below is policed");
	if (tree && tree->refusal[0])
		return chosen(SHAPE_PACING, tree->refusal);
	return chosen(SHAPE_PACING,
		"it leaves: TCP of this host's sockets is paced and waits nowhere, the rest is policed");
}

void shape_engines_settle(
	const struct shape_plan *plan, struct shape_tree *trees, size_t count, struct shape_choice *choices)
{
	for (size_t i = 0; i < plan->count; i++)
		choices[i] =
			node_choose(plan, &plan->nodes[i], shape_tree_find(trees, count, &plan->nodes[i]));
}

static uint32_t interface_index(const struct engine_interface *interfaces, size_t count, const char *name)
{
	for (size_t i = 0; i < count; i++)
		if (strcmp(interfaces[i].name, name) == 0)
			return interfaces[i].index;
	return 0;
}

static int tree_add(struct shape_tree *trees, size_t *count, const struct shape_node *node,
	const struct engine_interface *interfaces, size_t interface_count, struct error *error)
{
	if (!node->interface[0] || (node->in && node->out) || shape_tree_find(trees, *count, node))
		return 0;
	if (*count == SHAPE_TREES_MAX) {
		error_set(error, -ENOSPC, "classes are on too many interfaces");
		return error_want(error, "at most %d, each direction counted", SHAPE_TREES_MAX);
	}
	trees[*count] = (struct shape_tree){
		.out = node->out, .index = interface_index(interfaces, interface_count, node->interface)};
	snprintf(trees[*count].interface, sizeof(trees[*count].interface), "%s", node->interface);
	trees[*count].queue = node->out ? trees[*count].index : 0;
	(*count)++;
	return 0;
}

static int node_join(const struct shapes *shapes, const struct shape_node *node, enum shape_plan_mode mode,
	struct shape_tree *trees, size_t count, struct error *error)
{
	struct shape_tree *tree = shape_tree_find(trees, count, node);
	int r = mode == SHAPE_PLAN_KEEP ? 0 : wish_check(shapes->agent->engine, node, error);

	if (r == 0 && tree)
		tree_wish(shapes, tree, node);
	return r;
}

int shape_engines_choose(struct shapes *shapes, const struct shape_plan *plan, enum shape_plan_mode mode,
	struct shape_tree *trees, size_t *ret_trees, struct shape_choice *choices, struct error *error)
{
	struct engine *engine = shapes->agent->engine;
	struct engine_interface *interfaces = NULL;
	size_t interface_count = 0, count = 0;
	int r = engine_interfaces(engine, &interfaces, &interface_count);

	if (r < 0)
		return error_set(error, r, "cannot ask for the interfaces: %s", strerror(-r));
	for (size_t i = 0; i < plan->count && r == 0; i++)
		r = tree_add(trees, &count, &plan->nodes[i], interfaces, interface_count, error);
	free(interfaces);
	for (size_t i = 0; i < plan->count && r == 0; i++)
		r = node_join(shapes, &plan->nodes[i], mode, trees, count, error);
	for (size_t i = 0; i < count && r == 0; i++)
		r = tree_choose(engine, &trees[i], mode, error);
	if (r == 0)
		shape_engines_settle(plan, trees, count, choices);
	*ret_trees = count;
	return r;
}

/* -- whether it does -- */

/* What the class has dropped of what it saw in the last second, though it is no link: in percent. */
static unsigned int dropped_percent(const struct shapes *shapes, uint16_t number, struct shape_live *live)
{
	struct engine_shape_count count;
	uint64_t sent, dropped;

	engine_shape_count(shapes->agent->engine, number, &count);
	sent = count.sent_packets - live->sampled_sent;
	dropped = count.dropped_packets - live->sampled_dropped;
	live->sampled_sent = count.sent_packets;
	live->sampled_dropped = count.dropped_packets;
	return sent + dropped < UNPACED_PACKETS ? 0 : (unsigned int)(100 * dropped / (sent + dropped));
}

/* How many sockets share the class?  Can so many be paced to its rate? */
static bool is_paced_well(const struct shapes *shapes, const struct shape_node *node, struct shape_live *live)
{
	uint64_t rate = shape_node_terms(node)->ceiling_bps / 8;
	unsigned int dropped = dropped_percent(shapes, node->number, live);
	struct shape_state state;

	/* nobody counts sockets that wait in a queue: as long as there is much, there may be many */
	if (live->queued && live->choice.engine != SHAPE_PACING)
		return live->achieved_bps < shape_node_terms(node)->ceiling_bps / 2;
	if (dropped >= UNPACED_PERCENT) {
		live->why = "much of it cannot be paced: it waits instead of being policed";
		return false;
	}
	engine_shape_state(shapes->agent->engine, node->number, &state);
	live->why = "too many sockets for its rate: pacing would not be exact";
	/* far too many are not to be watched for long */
	if (rate && !shape_pacing_holds(4 * rate, state.flows))
		live->inexact = INEXACT_SECONDS;
	return !rate || shape_pacing_holds(rate, state.flows);
}

/* True: another engine from now on. */
static bool node_measure(const struct shapes *shapes, const struct shape_node *node, struct shape_live *live)
{
	const char *before = live->why;
	bool well = is_paced_well(shapes, node, live);

	if (live->queued)
		live->why = before;
	live->inexact = well ? 0 : live->inexact + 1;
	live->exact = well ? live->exact + 1 : 0;
	if (!live->queued && live->inexact >= INEXACT_SECONDS) {
		live->queued = true;
		return true;
	}
	if (live->queued && live->exact >= EXACT_SECONDS) {
		live->queued = false;
		return true;
	}
	return false;
}

/* How many sockets send through a leaf of HTB: true, it needs another length. */
static bool leaf_measure(const struct shapes *shapes, const struct shape_node *node, struct shape_live *live)
{
	struct shape_state state;
	uint32_t before = live->sockets, wanted;

	if (!live->choice.paced) {
		live->sockets = 0;
		return false;
	}
	engine_shape_state(shapes->agent->engine, node->number, &state);
	wanted = state.flows < SOCKETS_MAX ? state.flows : SOCKETS_MAX;
	if (wanted <= SOCKETS_MIN)
		wanted = 0;
	if (wanted > before || wanted < before / 4)
		live->sockets = wanted + wanted / 8;
	return live->sockets != before;
}

bool shape_engines_measure(struct shapes *shapes)
{
	bool changed = false;

	for (size_t i = 0; i < shapes->plan.count; i++) {
		const struct shape_node *node = &shapes->plan.nodes[i];
		struct shape_live *live = &shapes->live[node->number];
		bool pacing = live->choice.engine == SHAPE_PACING || live->queued;

		changed |= leaf_measure(shapes, node, live);
		/* only where a queue could take it over */
		if (pacing && node->interface[0] && !node->anywhere && !node->in && !node->rest &&
			shape_node_terms(node)->wish == SHAPE_WISH_AUTO)
			changed |= node_measure(shapes, node, live);
	}
	return changed;
}
