// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
#include "agent/shape/shapes.h"

#include <errno.h>
#include <event2/buffer.h>
#include <stdlib.h>
#include <string.h>

#include "agent/rule/rules.h"
#include "agent/shape/shapes_internal.h"
#include "basic/cleanup.h"
#include "basic/log.h"
#include "engine/pace.h"
#include "engine/policy.h"

#define MTU           1514U
#define PACED_BURST   (64U << 10)  /* of what cannot be paced, at least */
#define POLICED_BURST (128U << 10) /* more than a packet of TCP as the stack makes them, at least */
#define MARK_NS       5000000ULL   /* what waits so long is marked … */
#define HORIZON_NS    50000000ULL  /* … and so long dropped … */
#define HORIZON_FULL  10           /* … but not less than so many full packets … */
#define MARK_FULL     2            /* … and so many */
#define GONE          UINT32_MAX   /* index of an interface that is not there: no packet is on it */
#define LOOK_SECONDS  1
#define PACE_US       100000 /* sockets that were open before are looked for so often */

struct shapes *shapes_of(const struct agent *agent)
{
	return module_state(agent, &shape_module);
}

/* -- classes as the kernel has them -- */

static uint64_t share_of(uint64_t rate, uint64_t ns)
{
	return (uint64_t)((__uint128_t)rate * ns / 1000000000);
}

static uint64_t most(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

/* What a bucket holds when no packet came for long.  The rest of a link has the link's. */
static uint64_t burst_of(
	const struct shape_plan *plan, const struct shape_node *node, enum shape_engine engine)
{
	const struct shape_terms *terms = shape_node_terms(node->rest ? &plan->nodes[node->parent] : node);
	uint64_t rate = terms->ceiling_bps / 8;

	if (terms->burst)
		return terms->burst;
	switch (engine) {
	case SHAPE_POLICER: /* TCP behind it needs a round trip's worth */
		return most(share_of(rate, 100000000), POLICED_BURST);
	case SHAPE_EDT:
		return most(share_of(rate, 1000000), 2ULL * MTU);
	default:
		return most(share_of(rate, 10000000), PACED_BURST);
	}
}

static uint64_t time_of(uint64_t bytes, uint64_t rate)
{
	return rate ? (uint64_t)((__uint128_t)bytes * 1000000000 / rate) : 0;
}

static uint32_t htb_leaf(const struct shape_node *node)
{
	if (node->link)
		return 0;
	return QDISC_LEAF(shape_htb_minor(node) | (node->children ? QDISC_OWN : 0));
}

static void class_fill(const struct shape_plan *plan, const struct shape_node *node,
	const struct shape_tree *tree, const struct shape_choice *choice, struct shape_class *class,
	uint64_t *ret_burst)
{
	const struct shape_terms *terms = shape_node_terms(node);
	bool everywhere = !node->interface[0] ||
	                  (node->anywhere && choice->engine != SHAPE_HTB && choice->engine != SHAPE_EDT);
	uint64_t burst = burst_of(plan, node, choice->engine), rate = terms->ceiling_bps / 8;
	bool queued = tree && tree->engine == SHAPE_EDT && choice->engine == SHAPE_PACING;

	*class = (struct shape_class){
		.generation = node->entry->id,
		.parent = node->parent == SHAPE_PLAN_NONE ? 0 : plan->nodes[node->parent].number,
		.ifindex = everywhere            ? 0
	                   : tree && tree->index ? tree->index
	                                         : GONE,
		.rule = node->entry->id,
		.engine = (uint8_t)choice->engine,
		.priority = (uint8_t)terms->priority,
		.flags = (uint16_t)((node->out ? SHAPE_CLASS_OUT : 0) | (node->link ? SHAPE_CLASS_LINK : 0) |
				    (node->rest ? SHAPE_CLASS_REST : 0) |
				    (node->out && node->in ? SHAPE_CLASS_BOTH : 0) |
				    (rate ? SHAPE_CLASS_CEILING : 0) |
				    (choice->paced ? SHAPE_CLASS_PACED : 0) |
				    (queued ? SHAPE_CLASS_QUEUED : 0)),
		.weight = (uint16_t)(terms->weight ? terms->weight : 1),
		.ceiling = rate,
		.guarantee = terms->guarantee_bps / 8,
		.mark_ns = choice->engine == SHAPE_POLICER ? time_of(burst, rate) / 4 * 3
	                                                   : most(MARK_NS, time_of(MARK_FULL * MTU, rate)),
		/* what is shared out is held in front of the link: there it waits, and nobody pays for others
	         */
		.horizon_ns = node->children > 1 ? 0 : most(HORIZON_NS, time_of(HORIZON_FULL * MTU, rate)),
	};
	if (tree && tree->engine == SHAPE_HTB && tree->queue) {
		class->htb = htb_leaf(node);
		class->redirect = tree->out ? 0 : tree->queue;
	}
	*ret_burst = burst;
}

/* Where a flow's packets stand is found once: has that changed? */
static bool moves(const struct shape_class *before, const struct shape_class *class)
{
	const uint16_t place = SHAPE_CLASS_OUT | SHAPE_CLASS_LINK | SHAPE_CLASS_REST | SHAPE_CLASS_BOTH;

	return before->generation == class->generation &&
	       (before->parent != class->parent || before->ifindex != class->ifindex ||
		       (before->flags & place) != (class->flags & place));
}

/* Of the sentence, if it is a rule: packets that it brings here need no other. */
static uint32_t counter_of(const struct shape_node *node)
{
	return node->rest || node->entry->class != node->number || node->entry->counter == RULE_NO_PLACE
	               ? 0
	               : node->entry->counter;
}

static int class_bring(struct shapes *shapes, const struct shape_plan *plan, const struct shape_node *node,
	const struct shape_tree *tree, const struct shape_choice *choice, struct error *error)
{
	struct shape_live *live = &shapes->live[node->number];
	struct shape_class class;
	uint64_t burst;
	int r;

	class_fill(plan, node, tree, choice, &class, &burst);
	if (!live->there || live->class.generation != class.generation)
		*live = (struct shape_live){};
	live->entry = node->entry;
	if (live->there && memcmp(&live->class, &class, sizeof(class)) == 0 && live->burst == burst) {
		live->choice = *choice;
		return 0;
	}
	r = engine_shape_class_set(shapes->agent->engine, node->number, &class, burst, error);
	if (r < 0)
		return r;
	engine_shape_counter_set(shapes->agent->engine, node->number, counter_of(node));
	shapes->forget |= live->there && moves(&live->class, &class);
	live->there = true;
	live->class = class;
	live->burst = burst;
	live->choice = *choice;
	return 0;
}

/* -- queues -- */

static struct shape_queue *queue_find(struct shapes *shapes, uint32_t index)
{
	for (size_t i = 0; i < SHAPE_TREES_MAX; i++)
		if (shapes->queues[i].index == index)
			return &shapes->queues[i];
	return NULL;
}

static void queue_forget(struct shape_queue *queue)
{
	free(queue->classes);
	*queue = (struct shape_queue){};
}

/* Have both the same classes, at the same places? */
static bool queue_has(const struct shape_queue *queue, const struct engine_htb *classes, size_t count)
{
	if (queue->count != count)
		return false;
	for (size_t i = 0; i < count; i++)
		if (queue->classes[i].minor != classes[i].minor ||
			queue->classes[i].parent != classes[i].parent ||
			queue->classes[i].leaf != classes[i].leaf)
			return false;
	return true;
}

static bool htb_same(const struct engine_htb *a, const struct engine_htb *b)
{
	return a->rate == b->rate && a->ceiling == b->ceiling && a->burst == b->burst &&
	       a->weight == b->weight && a->priority == b->priority && a->room == b->room;
}

/* Only those that have other rates. */
static int queue_change(struct engine *engine, const struct shape_queue *queue,
	const struct engine_htb *classes, size_t count)
{
	int r = 0;

	for (size_t i = 0; i < count && r == 0; i++)
		if (!htb_same(&queue->classes[i], &classes[i]))
			r = engine_qdisc_htb_change(engine, queue->index, &classes[i]);
	return r;
}

/* Makes the tree what it is to be; takes the classes over. */
static int htb_bring(struct shapes *shapes, const struct engine_interface *interface,
	struct engine_htb *classes, size_t count, struct error *error)
{
	struct engine *engine = shapes->agent->engine;
	struct shape_queue *queue = queue_find(shapes, interface->index);
	struct engine_qdisc qdisc = {};
	bool there = queue && engine_qdisc_look(engine, interface->index, &qdisc) == 0 && qdisc.ours &&
	             strcmp(qdisc.kind, "htb") == 0 && queue_has(queue, classes, count);
	int r = there ? queue_change(engine, queue, classes, count) : -ENOENT;

	if (r < 0)
		r = engine_qdisc_htb(engine, interface, classes, count, error);
	if (queue)
		queue_forget(queue);
	else
		queue = queue_find(shapes, 0);
	if (r < 0 || !queue) {
		free(classes);
		return r;
	}
	*queue = (struct shape_queue){interface->index, classes, count};
	return 0;
}

static int queue_bring(
	struct shapes *shapes, const struct shape_plan *plan, struct shape_tree *tree, struct error *error)
{
	struct engine *engine = shapes->agent->engine;
	struct engine_interface interface = {.index = tree->index};
	struct engine_htb *classes = NULL;
	struct engine_qdisc qdisc;
	size_t count = 0;
	int r = 0;

	snprintf(interface.name, sizeof(interface.name), "%s", tree->interface);
	if (tree->engine == SHAPE_EDT) {
		/* somebody else's fq keeps to departure times as ours does */
		if (engine_qdisc_look(engine, tree->index, &qdisc) == 0 && !qdisc.ours &&
			strcmp(qdisc.kind, "fq") == 0)
			return 0;
		return engine_qdisc_fq(engine, &interface, error);
	}
	if (!tree->out) {
		r = engine_qdisc_ifb(engine, &interface, &tree->queue, error);
		if (r < 0)
			return r;
		interface.index = tree->queue;
		snprintf(interface.name, sizeof(interface.name), "weir-%u", tree->index);
	}
	r = shape_htb_make(shapes->live, plan, tree, &classes, &count);
	if (r < 0)
		return error_set(error, r, "out of memory");
	return htb_bring(shapes, &interface, classes, count, error);
}

/* A queue that cannot be made is one that there is not: what it was for is paced and policed. */
static int queues_bring(struct shapes *shapes, const struct shape_plan *plan, struct shape_tree *trees,
	size_t count, enum shape_plan_mode mode, struct error *error)
{
	for (size_t i = 0; i < count; i++) {
		struct error problem = {};
		int r = trees[i].engine == SHAPE_NONE ? 0 : queue_bring(shapes, plan, &trees[i], &problem);

		if (r >= 0)
			continue;
		if (trees[i].fresh && mode != SHAPE_PLAN_KEEP) {
			if (error)
				*error = problem;
			return r;
		}
		log_warning("%s", problem.what);
		snprintf(trees[i].refusal, sizeof(trees[i].refusal), "%.159s", problem.what);
		trees[i].engine = SHAPE_NONE;
		trees[i].wish = SHAPE_WISH_AUTO;
		trees[i].queue = 0;
	}
	return 0;
}

static bool is_queued(const struct shape_tree *trees, size_t count, uint32_t index, bool out)
{
	for (size_t i = 0; i < count; i++)
		if (trees[i].index == index && trees[i].out == out && trees[i].engine != SHAPE_NONE)
			return true;
	return false;
}

/* Takes away the queues of interfaces that need none any more. */
static void queues_sweep(struct shapes *shapes)
{
	struct engine *engine = shapes->agent->engine;
	uint32_t indices[1024];
	size_t count = engine_qdisc_ours(engine, indices, sizeof(indices) / sizeof(indices[0]));

	for (size_t i = 0; i < count; i++) {
		bool ifb = false;

		for (size_t k = 0; k < shapes->tree_count; k++)
			ifb |= !shapes->trees[k].out && shapes->trees[k].queue == indices[i];
		if (!ifb && !is_queued(shapes->trees, shapes->tree_count, indices[i], true)) {
			struct shape_queue *queue = queue_find(shapes, indices[i]);

			if (queue)
				queue_forget(queue);
			engine_qdisc_remove(engine, indices[i]);
		}
		if (!is_queued(shapes->trees, shapes->tree_count, indices[i], false))
			engine_qdisc_ifb_remove(engine, indices[i]);
	}
}

/* -- links -- */

/* The class for what is interactive on a link, of those that were declared: the first; 0: there is none. */
static uint16_t interactive_of(const struct shape_plan *plan, const struct shape_node *link)
{
	for (size_t i = 0; i < plan->count; i++) {
		const struct shape_node *node = &plan->nodes[i];

		if (rule_is_declared(&node->entry->rule) && node->parent != SHAPE_PLAN_NONE &&
			plan->nodes[node->parent].number == link->number &&
			shape_node_terms(node)->priority == SHAPE_INTERACTIVE)
			return node->number;
	}
	return 0;
}

static int link_bring(struct shapes *shapes, const struct shape_plan *plan, const struct shape_node *node,
	const struct shape_tree *tree, struct error *error)
{
	struct engine *engine = shapes->agent->engine;
	struct shape_link link = {.class = node->number,
				  .rest = (uint16_t)node->entry->rest,
				  .interactive = interactive_of(plan, node)},
			  there;

	if (!tree || !tree->index)
		return 0;
	if (engine_shape_link(engine, tree->index, node->out, &there) == 0 &&
		memcmp(&there, &link, sizeof(link)) == 0)
		return 0;
	shapes->forget = true;
	return engine_shape_link_set(engine, tree->index, node->out, &link, error);
}

static void link_sweep(void *context, uint32_t ifindex, bool out, const struct shape_link *link)
{
	struct shapes *shapes = context;

	for (size_t i = 0; i < shapes->plan.count; i++) {
		const struct shape_node *node = &shapes->plan.nodes[i];
		const struct shape_tree *tree = shape_tree_find(shapes->trees, shapes->tree_count, node);

		if (node->link && node->number == link->class && node->out == out && tree &&
			tree->index == ifindex)
			return;
	}
	engine_shape_link_set(shapes->agent->engine, ifindex, out, NULL, NULL);
	shapes->forget = true;
}

/* -- all of them -- */

/* The interfaces that there are at the moment. */
struct interfaces {
	struct engine_interface *list;
	size_t count;
};

static uint32_t index_of(void *context, const char *name)
{
	const struct interfaces *interfaces = context;

	for (size_t i = 0; i < interfaces->count; i++)
		if (strcmp(interfaces->list[i].name, name) == 0)
			return interfaces->list[i].index;
	return 0;
}

/* A plan with what holds each of its classes. */
struct draft {
	struct shape_plan plan;
	struct shape_tree trees[SHAPE_TREES_MAX];
	size_t tree_count;
	struct shape_choice *choices;
};

static void draft_clear(struct draft *draft)
{
	shape_plan_clear(&draft->plan);
	free(draft->choices);
	free(draft);
}

static int draft_make(struct shapes *shapes, struct rulebook *book, enum shape_plan_mode mode,
	struct draft **ret_draft, struct error *error)
{
	struct draft *draft = calloc(1, sizeof(*draft));
	struct interfaces interfaces = {};
	int r;

	if (!draft || engine_interfaces(shapes->agent->engine, &interfaces.list, &interfaces.count) < 0) {
		free(draft);
		return error_set(error, -ENOMEM, "out of memory");
	}
	r = shape_plan_make(book, mode, index_of, &interfaces, &draft->plan, NULL, error);
	free(interfaces.list);
	if (r == 0) {
		draft->choices = calloc(draft->plan.count + 1, sizeof(*draft->choices));
		r = draft->choices ? 0 : error_set(error, -ENOMEM, "out of memory");
	}
	if (r == 0 && draft->plan.count)
		r = shape_engines_choose(
			shapes, &draft->plan, mode, draft->trees, &draft->tree_count, draft->choices, error);
	if (r < 0) {
		draft_clear(draft);
		return r;
	}
	*ret_draft = draft;
	return 0;
}

int shapes_prepare(struct agent *agent, struct rulebook *book, enum shape_plan_mode mode, struct error *error)
{
	struct draft *draft = NULL;
	int r = draft_make(shapes_of(agent), book, mode, &draft, error);

	if (draft)
		draft_clear(draft);
	return r;
}

static bool draft_paces(const struct draft *draft)
{
	for (size_t i = 0; i < draft->plan.count; i++)
		if (draft->choices[i].engine == SHAPE_PACING || draft->choices[i].paced)
			return true;
	return false;
}

/* Before the first class paces.  Where that cannot be, what was to be paced is policed. */
static void pace_bring(struct shapes *shapes, struct draft *draft)
{
	struct error problem = {};

	if (!draft_paces(draft))
		return;
	if (!shapes->paceless[0] && engine_pace_start(shapes->agent->engine, &problem) < 0) {
		log_warning("sockets cannot be paced: %s", problem.what);
		snprintf(shapes->paceless, sizeof(shapes->paceless), "pacing is not possible: %.130s",
			problem.what);
	}
	for (size_t i = 0; i < draft->plan.count && shapes->paceless[0]; i++) {
		struct shape_choice *choice = &draft->choices[i];

		choice->paced = false;
		if (choice->engine != SHAPE_PACING)
			continue;
		choice->engine = SHAPE_POLICER;
		memcpy(choice->reason, shapes->paceless, sizeof(choice->reason));
	}
	for (size_t i = 0; i < draft->plan.count; i++) {
		struct shape_choice *choice = &draft->choices[i];
		size_t used = strlen(choice->reason);

		if (choice->paced)
			snprintf(choice->reason + used, sizeof(choice->reason) - used,
				"; TCP of this host's sockets is paced in front of it");
	}
}

/* When the last one has gone sockets get back what rates they had. */
static void pace_settle(struct shapes *shapes)
{
	const struct timeval wait = {0, PACE_US};
	bool paces = false;

	for (size_t i = 0; i < shapes->plan.count && shapes->live && !paces; i++) {
		const struct shape_choice *choice = &shapes->live[shapes->plan.nodes[i].number].choice;

		paces = choice->engine == SHAPE_PACING || choice->paced;
	}
	if (paces)
		event_add(shapes->pace_timer, &wait);
	else
		event_del(shapes->pace_timer);
	if (shapes->paces && !paces)
		engine_pace_stop(shapes->agent->engine);
	shapes->paces = paces;
}

static void on_pace_timer(evutil_socket_t fd, short what, void *context)
{
	struct shapes *shapes = context;

	(void)fd;
	(void)what;
	engine_pace_tick(shapes->agent->engine);
}

static int draft_bring(
	struct shapes *shapes, struct draft *draft, enum shape_plan_mode mode, struct error *error)
{
	const struct shape_plan *plan = &draft->plan;
	int r = 0;

	if (plan->count && !shapes->live) {
		shapes->live = calloc(SHAPE_CLASSES_MAX, sizeof(*shapes->live));
		if (!shapes->live)
			return error_set(error, -ENOMEM, "out of memory");
	}
	/* queues first: a class that names a leaf finds it */
	r = queues_bring(shapes, plan, draft->trees, draft->tree_count, mode, error);
	if (r == 0) /* some may not have come about */
		shape_engines_settle(plan, draft->trees, draft->tree_count, draft->choices);
	if (r == 0)
		pace_bring(shapes, draft);
	for (size_t i = 0; i < plan->count && shapes->live && r == 0; i++) {
		const struct shape_node *node = &plan->nodes[i];
		const struct shape_tree *tree = shape_tree_find(draft->trees, draft->tree_count, node);

		r = class_bring(shapes, plan, node, tree, &draft->choices[i], error);
		if (r == 0 && node->link)
			r = link_bring(shapes, plan, node, tree, error);
	}
	return r;
}

static void settle(struct shapes *shapes);

int shapes_bring(struct agent *agent, struct rulebook *book, struct error *error)
{
	struct shapes *shapes = shapes_of(agent);
	struct draft *draft = NULL;
	int r = draft_make(shapes, book, SHAPE_PLAN_ABSENT, &draft, error);

	if (!draft)
		return r;
	r = draft_bring(shapes, draft, SHAPE_PLAN_ABSENT, error);
	draft_clear(draft);
	/* some of it may be there: what is in force is to be all that is */
	if (r < 0 && shapes->book)
		settle(shapes);
	if (r < 0)
		queues_sweep(shapes);
	return r;
}

static void classes_keep(const struct rulebook *book, bool *kept)
{
	for (size_t p = 0; book && p < book->count; p++)
		for (size_t i = 0; i < book->policies[p].list.count; i++) {
			const struct rule_entry *entry = book->policies[p].list.slots[i].entry;

			if (entry->class != RULE_NO_PLACE)
				kept[entry->class] = true;
			if (entry->rest != RULE_NO_PLACE)
				kept[entry->rest] = true;
		}
}

/* Classes that no rule in force makes any more, of an earlier agent's time, too. */
static void classes_sweep(struct shapes *shapes)
{
	struct engine *engine = shapes->agent->engine;
	bool *kept = calloc(SHAPE_CLASSES_MAX, sizeof(*kept));

	if (!kept)
		return;
	for (size_t i = 0; i < shapes->plan.count; i++)
		kept[shapes->plan.nodes[i].number] = true;
	classes_keep(shapes->before, kept);
	for (uint32_t i = 1; i < SHAPE_CLASSES_MAX; i++) {
		struct shape_class class;

		if (kept[i] || (shapes->swept && !(shapes->live && shapes->live[i].there)))
			continue;
		if (engine_shape_class(engine, i, &class) == 0)
			engine_shape_class_clear(engine, i);
		if (shapes->live)
			shapes->live[i] = (struct shape_live){};
	}
	shapes->swept = true;
	free(kept);
}

static void timer_set(struct shapes *shapes)
{
	const struct timeval wait = {LOOK_SECONDS, 0};

	if (!shapes->plan.count)
		event_del(shapes->timer);
	else if (!event_pending(shapes->timer, EV_TIMEOUT, NULL))
		event_add(shapes->timer, &wait);
}

static void settle(struct shapes *shapes)
{
	struct engine *engine = shapes->agent->engine;
	struct error problem = {};
	struct draft *draft = NULL;

	if (draft_make(shapes, shapes->book, SHAPE_PLAN_KEEP, &draft, &problem) < 0 || !draft) {
		log_warning("classes: %s", problem.what);
		return;
	}
	if (draft_bring(shapes, draft, SHAPE_PLAN_KEEP, &problem) < 0)
		log_warning("classes: %s", problem.what);
	shape_plan_clear(&shapes->plan);
	shapes->plan = draft->plan;
	draft->plan = (struct shape_plan){};
	for (size_t i = 0; i < shapes->plan.count && shapes->live; i++)
		shapes->live[shapes->plan.nodes[i].number].place = (uint32_t)i;
	memcpy(shapes->trees, draft->trees, sizeof(shapes->trees));
	shapes->tree_count = draft->tree_count;
	draft_clear(draft);
	if (!engine_shape_used(engine))
		return;
	pace_settle(shapes);
	engine_shape_links(engine, link_sweep, shapes);
	classes_sweep(shapes);
	queues_sweep(shapes);
	if (shapes->forget)
		engine_policy_forget(engine, false);
	shapes->forget = false;
	timer_set(shapes);
}

void shapes_settle(struct agent *agent, struct rulebook *now, const struct rulebook *before)
{
	struct shapes *shapes = shapes_of(agent);

	shapes->book = now;
	shapes->before = before;
	settle(shapes);
}

void shapes_interfaces_changed(struct agent *agent)
{
	struct shapes *shapes = shapes_of(agent);

	if (shapes && shapes->book && shapes->plan.count)
		settle(shapes);
}

static void on_timer(evutil_socket_t fd, short what, void *context)
{
	struct shapes *shapes = context;

	(void)fd;
	(void)what;
	shape_answers_sample(shapes, agent_now_ns());
	if (shape_engines_measure(shapes))
		settle(shapes);
	engine_shape_sweep(shapes->agent->engine);
	timer_set(shapes);
}

const struct shape_node *shape_node_numbered(const struct shapes *shapes, uint32_t number)
{
	const struct shape_node *node;

	if (!shapes->live || number >= SHAPE_CLASSES_MAX || shapes->live[number].place >= shapes->plan.count)
		return NULL;
	node = &shapes->plan.nodes[shapes->live[number].place];
	return node->number == number ? node : NULL;
}

bool shapes_class(const struct agent *agent, uint16_t number, struct shape_class_info *ret_info)
{
	const struct shapes *shapes = shapes_of(agent);
	const struct shape_node *node = shape_node_numbered(shapes, number);
	const struct shape_terms *terms;

	if (!node)
		return false;
	terms = shape_node_terms(node);
	*ret_info = (struct shape_class_info){
		.id = node->entry->id,
		.name = shape_node_name(node),
		.text = node->entry->text,
		.engine = shape_engines[shapes->live[number].choice.engine],
		.reason = shapes->live[number].choice.reason,
		.rate_bps =
			node->entry->rule.verb == RULE_GUARANTEE ? terms->guarantee_bps : terms->ceiling_bps,
	};
	return true;
}

static void shapes_close(void *state)
{
	struct shapes *shapes = state;

	if (shapes->timer)
		event_free(shapes->timer);
	if (shapes->pace_timer)
		event_free(shapes->pace_timer);
	shape_plan_clear(&shapes->plan);
	for (size_t i = 0; i < SHAPE_TREES_MAX; i++)
		queue_forget(&shapes->queues[i]);
	free(shapes->live);
	free(shapes);
}

static int shapes_open(struct agent *agent, void **ret_state, struct error *error)
{
	struct shapes *shapes = calloc(1, sizeof(*shapes));

	if (!shapes)
		return error_set(error, -ENOMEM, "out of memory");
	shapes->agent = agent;
	shapes->paces = true; /* an earlier agent may have left some that do */
	*ret_state = shapes;
	shapes->timer = evtimer_new(agent->base, on_timer, shapes);
	shapes->pace_timer = event_new(agent->base, -1, EV_PERSIST, on_pace_timer, shapes);
	return shapes->timer && shapes->pace_timer ? 0 : error_set(error, -ENOMEM, "out of memory");
}

static void shapes_status(struct agent *agent, void *state, struct json_write *out)
{
	const struct shapes *shapes = state;
	struct engine_shape_stats stats = {};
	size_t by_engine[SHAPE_ENGINES] = {};

	for (size_t i = 0; i < shapes->plan.count; i++)
		if (!shapes->plan.nodes[i].rest)
			by_engine[shapes->live[shapes->plan.nodes[i].number].choice.engine]++;
	engine_shape_stats(agent->engine, &stats);
	json_write_object_begin(out, "shapes");
	json_write_object_begin(out, "classes");
	for (unsigned int i = 0; i < SHAPE_ENGINES; i++)
		json_write_number(out, shape_engines[i], by_engine[i]);
	json_write_object_end(out);
	json_write_number(out, "paths", stats.paths);
	json_write_number(out, "paths_limit", stats.paths_max);
	json_write_number(out, "paths_full", stats.paths_full);
	json_write_array_begin(out, "queues");
	for (size_t i = 0; i < shapes->tree_count; i++) {
		const struct shape_tree *tree = &shapes->trees[i];

		if (tree->engine == SHAPE_NONE)
			continue;
		json_write_object_begin(out, NULL);
		json_write_string(out, "interface", tree->interface);
		json_write_string(out, "direction", tree->out ? "out" : "in");
		json_write_string(out, "engine", shape_engines[tree->engine]);
		json_write_object_end(out);
	}
	json_write_array_end(out);
	json_write_object_end(out);
}

static void shapes_metrics(struct agent *agent, void *state, struct evbuffer *out)
{
	(void)agent;
	shape_answers_metrics(state, out);
}

const struct module shape_module = {
	.name = "shape",
	.open = shapes_open,
	.close = shapes_close,
	.status = shapes_status,
	.metrics = shapes_metrics,
	.routes = shape_routes,
};
