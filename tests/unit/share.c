/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* How a class's rate is shared: allowances against plain water-filling, and rates of sockets in a closed
 * loop. */
#include "bpf/lib/share.h"

#include <math.h>
#include <stdlib.h>

#include "unit.h"

#define NODES_MAX    40
#define MBIT         125000ULL
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static uint64_t seed = 1;

static uint32_t up_to(uint32_t limit)
{
	return random_below(&seed, limit);
}

/* -- allowances -- */

struct tree {
	unsigned int count;
	struct shape_class class[NODES_MAX]; /* 0: the root; a parent stands before its children */
	struct shape_share share[NODES_MAX];
	double fair[NODES_MAX]; /* what plain water-filling says */
};

static unsigned int depth_of(const struct tree *tree, unsigned int node)
{
	return node ? 1 + depth_of(tree, tree->class[node].parent) : 0;
}

static bool is_leaf(const struct tree *tree, unsigned int node)
{
	for (unsigned int i = 1; i < tree->count; i++)
		if (tree->class[i].parent == node)
			return false;
	return true;
}

/* What can be guaranteed yet below a parent. */
static uint64_t guarantee_left(const struct tree *tree, unsigned int parent)
{
	uint64_t left = parent ? tree->class[parent].guarantee : tree->class[0].ceiling;

	for (unsigned int i = 1; i < tree->count; i++)
		if (tree->class[i].parent == parent)
			left -= tree->class[i].guarantee;
	return left;
}

static void tree_make(struct tree *tree)
{
	unsigned int count = 2 + up_to(NODES_MAX - 2);

	*tree = (struct tree){.count = 1};
	tree->class[0] = (struct shape_class){
		.ceiling = MBIT + up_to(1000 * (uint32_t)MBIT), .flags = SHAPE_CLASS_CEILING, .weight = 1};
	while (tree->count < count) {
		unsigned int node = tree->count, parent = up_to(node);
		struct shape_class *class = &tree->class[node];
		uint64_t left = guarantee_left(tree, parent);

		if (depth_of(tree, parent) == SHAPE_DEPTH_MAX - 1)
			continue;
		class->parent = parent;
		class->weight = (uint16_t)(1 + up_to(up_to(2) ? 1000 : 4));
		class->priority = (uint8_t)up_to(up_to(2) ? SHAPE_PRIORITIES : 1);
		if (up_to(2) && left)
			class->guarantee = up_to((uint32_t)left);
		if (up_to(3) == 0) {
			class->ceiling = class->guarantee + 1000 + up_to(500 * (uint32_t)MBIT);
			class->flags = SHAPE_CLASS_CEILING;
		}
		tree->count++;
	}
	for (unsigned int i = 0; i < count; i++) {
		tree->share[i].depth = depth_of(tree, i);
		if (is_leaf(tree, i))
			tree->share[i].own_want = share_min(share_ceiling(&tree->class[i]),
				up_to(3) ? up_to(1000 * (uint32_t)MBIT) : SHARE_RATE_MAX);
	}
}

/* As pace.bpf.c does, on all nodes. */
static void tree_share(struct tree *tree)
{
	for (unsigned int i = 0; i < tree->count; i++)
		share_clear(&tree->share[i]);
	for (unsigned int i = tree->count; i-- > 0;) {
		share_sum_up(&tree->share[i], &tree->class[i]);
		if (i)
			share_tell(&tree->share[i], &tree->class[i], &tree -> share[tree->class[i].parent]);
	}
	share_settle_root(&tree->share[0], &tree->class[0], 0);
	for (unsigned int parent = 0; parent < tree->count; parent++) {
		struct shape_share *above = &tree->share[parent];

		if (!above->children)
			continue;
		share_offer(above);
		for (int round = 0; round < SHARE_ROUNDS && above->marginal != SHARE_NO_MARGIN; round++) {
			for (unsigned int i = 1; i < tree->count; i++)
				if (tree->class[i].parent == parent)
					share_take(&tree->share[i], &tree->class[i], above);
			if (share_rise(above))
				break;
		}
		for (unsigned int i = 1; i < tree->count; i++)
			if (tree->class[i].parent == parent)
				share_settle(&tree->share[i], &tree->class[i], above);
	}
}

/* The same by bisection, in floating point. */
static double level_give(const struct tree *tree, unsigned int parent, unsigned int priority, double level)
{
	double sum = 0;

	for (unsigned int i = 1; i < tree->count; i++) {
		double floor = (double)share_min(tree->class[i].guarantee, tree->share[i].want);

		if (tree->class[i].parent == parent && tree->class[i].priority == priority)
			sum += fmin((double)tree->share[i].want - floor, level * tree->class[i].weight);
	}
	return sum;
}

static void tree_fill(struct tree *tree)
{
	tree->fair[0] = (double)tree->class[0].ceiling;
	for (unsigned int parent = 0; parent < tree->count; parent++) {
		double left = tree->fair[parent];

		for (unsigned int i = 1; i < tree->count; i++)
			if (tree->class[i].parent == parent)
				left -= (double)share_min(tree->class[i].guarantee, tree->share[i].want);
		for (unsigned int priority = SHAPE_PRIORITIES; priority-- > 0;) {
			double low = 0, high = 1e13;

			left = fmax(left, 0);
			for (int step = 0; step < 200; step++) {
				double middle = (low + high) / 2;

				if (level_give(tree, parent, priority, middle) > left)
					high = middle;
				else
					low = middle;
			}
			for (unsigned int i = 1; i < tree->count; i++) {
				double floor =
					(double)share_min(tree->class[i].guarantee, tree->share[i].want);

				if (tree->class[i].parent == parent && tree->class[i].priority == priority)
					tree->fair[i] = floor + fmin((double)tree->share[i].want - floor,
									low * tree->class[i].weight);
			}
			left -= level_give(tree, parent, priority, low);
		}
	}
}

static void children_never_get_more_than_their_parent(void **state)
{
	static struct tree tree;

	(void)state;
	for (int turn = 0; turn < 3000; turn++) {
		tree_make(&tree);
		tree_share(&tree);
		for (unsigned int parent = 0; parent < tree.count; parent++) {
			uint64_t sum = 0;

			for (unsigned int i = 1; i < tree.count; i++)
				if (tree.class[i].parent == parent)
					sum += tree.share[i].allowance;
			assert_true(sum <= tree.share[parent].allowance);
		}
	}
}

static void each_gets_its_guarantee_and_none_more_than_it_wants(void **state)
{
	static struct tree tree;

	(void)state;
	for (int turn = 0; turn < 3000; turn++) {
		tree_make(&tree);
		tree_share(&tree);
		for (unsigned int i = 1; i < tree.count; i++) {
			const struct shape_share *share = &tree.share[i];

			assert_true(share->allowance >= share_min(tree.class[i].guarantee, share->want));
			assert_true(share->allowance <= share->want);
		}
	}
}

static void allowances_are_those_of_water_filling(void **state)
{
	static struct tree tree;

	(void)state;
	for (int turn = 0; turn < 3000; turn++) {
		tree_make(&tree);
		tree_share(&tree);
		tree_fill(&tree);
		for (unsigned int i = 0; i < tree.count; i++) {
			double wrong = fabs((double)tree.share[i].allowance - tree.fair[i]);

			/* rounds end when a 4096th is left; that adds up over the levels */
			assert_true(wrong <= (double)tree.class[0].ceiling / 500 + 16);
		}
	}
}

/* -- sockets -- */

struct loop {
	struct shape_class class;
	struct shape_share share;
	unsigned int held;
	double efficiency; /* of what they are let, this much they send */
	double small;      /* bytes a second of sockets that are not held back */
	double others;     /* bytes a second offered of what is policed */
	double sent, sent_others, refused;
};

/* So many windows; of each class's round only what a class by itself needs. */
static void loop_run(struct loop *loop, unsigned int windows)
{
	for (unsigned int i = 0; i < windows; i++) {
		struct shape_share *share = &loop->share;
		uint64_t ns = share_window_ns(share, &loop->class);
		double time = (double)ns / 1e9, flows, others, small = loop->small * time;
		double before = (double)share->flow_rate;

		flows = (double)loop->held * before * loop->efficiency * time;
		others = fmin(loop->others, (double)share->other_rate) * time;
		share->held[0] = share->held[1] = (int32_t)loop->held;
		share_pass(share, ns);
		share_queue(share, &loop->class, (uint64_t)(flows + others + small), ns);
		share_measure(share, &loop->class, (uint64_t)(flows + others + small), (uint64_t)flows,
			(uint64_t)others, (uint64_t)(loop->others * time - others), ns);
		share_settle_root(share, &loop->class, 0);
		share_settle_own(share);
		share_divide(share, &loop->class);
		loop->sent += flows + others + small;
		loop->sent_others += others;
		loop->refused += loop->others * time - others;
	}
}

static struct loop loop_of(uint64_t rate, unsigned int held)
{
	struct loop loop = {.held = held, .efficiency = 1};

	loop.class = (struct shape_class){.generation = 1,
		.engine = SHAPE_PACING,
		.ceiling = rate,
		.flags = SHAPE_CLASS_CEILING,
		.weight = 1};
	loop.share.gain = SHARE_GAIN_ONE;
	loop.share.burst = 3028;
	share_settle_root(&loop.share, &loop.class, 0);
	share_settle_own(&loop.share);
	share_divide(&loop.share, &loop.class);
	return loop;
}

static double rate_of(const struct loop *loop)
{
	return loop->efficiency * (double)loop->held * (double)loop->share.flow_rate + loop->small +
	       fmin(loop->others, (double)loop->share.other_rate);
}

static void sockets_together_send_the_rate(void **state)
{
	static const uint64_t rates[] = {MBIT, 10 * MBIT, 100 * MBIT, 1000 * MBIT, 100000 * MBIT};
	static const unsigned int counts[] = {1, 8, 128, 1000};
	static const double efficiencies[] = {0.8, 0.96, 1, 1.05};

	(void)state;
	for (size_t r = 0; r < COUNT(rates); r++)
		for (size_t c = 0; c < COUNT(counts); c++)
			for (size_t e = 0; e < COUNT(efficiencies); e++) {
				struct loop loop = loop_of(rates[r], counts[c]);

				if ((double)rates[r] / counts[c] < SHARE_FLOW_MIN * 2)
					continue;
				loop.efficiency = efficiencies[e];
				loop_run(&loop, 200);
				assert_true(fabs(rate_of(&loop) / (double)rates[r] - 1) < 0.003);
			}
}

static void a_socket_more_or_less_changes_the_rate_of_all_at_once(void **state)
{
	struct loop loop = loop_of(100 * MBIT, 1);

	(void)state;
	loop_run(&loop, 100);
	loop.held = 50;
	loop_run(&loop, 1);
	assert_true(fabs(rate_of(&loop) / (100.0 * MBIT) - 1) < 0.01);
	loop.held = 2;
	loop_run(&loop, 1);
	assert_true(fabs(rate_of(&loop) / (100.0 * MBIT) - 1) < 0.01);
}

static void what_is_small_has_what_it_uses_and_the_rest_is_for_those_held(void **state)
{
	struct loop loop = loop_of(100 * MBIT, 4);

	(void)state;
	loop.small = 30.0 * MBIT;
	loop_run(&loop, 300);
	assert_true(fabs(rate_of(&loop) / (100.0 * MBIT) - 1) < 0.003);
	assert_true(fabs((double)loop.share.flow_rate / (17.5 * MBIT) - 1) < 0.02);
}

static void what_is_policed_counts_as_one_socket(void **state)
{
	struct loop loop = loop_of(100 * MBIT, 3);

	(void)state;
	loop.others = 500.0 * MBIT;
	loop_run(&loop, 300);
	assert_true(fabs((double)loop.share.other_rate / (25.0 * MBIT) - 1) < 0.03);
	assert_true(fabs(rate_of(&loop) / (100.0 * MBIT) - 1) < 0.01);
	/* as long as it wants no more, nothing of it is refused */
	loop.others = 10.0 * MBIT;
	loop_run(&loop, 300);
	loop.refused = 0;
	loop_run(&loop, 300);
	assert_true(loop.refused == 0);
	assert_true(fabs(rate_of(&loop) / (100.0 * MBIT) - 1) < 0.01);
}

static void what_is_policed_has_a_part_for_each_flow(void **state)
{
	struct loop loop = loop_of(100 * MBIT, 3);

	(void)state;
	loop.share.seen[0] = 0x8000000000010001;
	loop.share.seen[1] = 0x0000000000030001; /* five in all, of which two were seen twice */
	loop.share.seen[1] |= 1ULL << 40;
	loop.others = 500.0 * MBIT;
	loop_run(&loop, 300);
	assert_true(fabs((double)loop.share.other_rate / (62.5 * MBIT) - 1) < 0.03);
	assert_true(fabs(rate_of(&loop) / (100.0 * MBIT) - 1) < 0.01);
}

static void without_tcp_the_rest_has_all_and_no_more(void **state)
{
	struct loop loop = loop_of(10 * MBIT, 0);

	(void)state;
	loop.others = 100.0 * MBIT;
	loop_run(&loop, 100);
	assert_true(loop.share.other_rate == 10 * MBIT);
}

static void sockets_that_send_nothing_leave_their_part_to_the_others(void **state)
{
	struct loop loop = loop_of(100 * MBIT, 100);

	(void)state;
	loop.efficiency = 0.05; /* 95 of 100 are stuck */
	loop_run(&loop, 1000);
	assert_true(fabs(rate_of(&loop) / (100.0 * MBIT) - 1) < 0.003);
}

/* -- classes beside each other, in a closed loop -- */

struct beside {
	struct tree tree;        /* a link and classes that are no parents; 0: the link itself */
	double wants[NODES_MAX]; /* bytes a second that each would send if nobody held it back */
	unsigned int sockets[NODES_MAX];
	double sends[NODES_MAX];
	double left[NODES_MAX], bytes[NODES_MAX]; /* of the window: ns, and what has not come whole yet */
};

static void beside_add(struct beside *beside, uint64_t guarantee, unsigned int sockets, double wants)
{
	struct tree *tree = &beside->tree;
	unsigned int node = tree->count++;

	tree->class[node] =
		(struct shape_class){.guarantee = guarantee, .weight = 1, .priority = SHAPE_NORMAL};
	if (!node) {
		tree->class[0].ceiling = 24 * MBIT;
		tree->class[0].flags = SHAPE_CLASS_CEILING;
	}
	tree->share[node] = (struct shape_share){.gain = SHARE_GAIN_ONE, .burst = 4542, .depth = !!node};
	beside->sockets[node] = sockets;
	beside->wants[node] = wants;
}

/* Ticks; a class's sockets have more to send if they want more than they are let. */
static void beside_run(struct beside *beside, double seconds)
{
	struct tree *tree = &beside->tree;
	double *left = beside->left, *bytes = beside->bytes;

	for (unsigned int tick = 0; tick * (SHARE_TICK_NS / 1e9) < seconds; tick++) {
		for (unsigned int i = 0; i < tree->count; i++) {
			struct shape_share *share = &tree->share[i];
			uint64_t ns = share_window_ns(share, &tree->class[i]);
			double let = (double)share->flow_rate * beside->sockets[i];
			uint64_t whole;

			beside->sends[i] = fmin(let, beside->wants[i]);
			bytes[i] += beside->sends[i] * SHARE_TICK_NS / 1e9;
			share->held[0] = beside->sockets[i] ? (int32_t)beside->sockets[i] : 0;
			left[i] += SHARE_TICK_NS;
			share_pass(share, SHARE_TICK_NS);
			if (left[i] < (double)ns) {
				if (share_held(share))
					share_want(share, &tree->class[i], 0);
				continue;
			}
			whole = (uint64_t)(bytes[i] / share->burst) * share->burst;
			share_measure(share, &tree->class[i], whole, whole, 0, 0, (uint64_t)left[i]);
			bytes[i] -= (double)whole;
			left[i] = 0;
		}
		tree_share(tree);
		for (unsigned int i = 0; i < tree->count; i++) {
			share_settle_own(&tree->share[i]);
			share_divide(&tree->share[i], &tree->class[i]);
			tree->share[i].epoch_length_ns = share_epoch_ns(&tree->share[i]);
		}
	}
}

static double beside_sum(const struct beside *beside)
{
	double sum = 0;

	for (unsigned int i = 0; i < beside->tree.count; i++)
		sum += beside->sends[i];
	return sum / MBIT;
}

static void what_a_class_does_not_use_is_lent_and_given_back(void **state)
{
	static struct beside beside;

	(void)state;
	beside = (struct beside){0};
	beside_add(&beside, 0, 0, 0);
	beside_add(&beside, 12 * MBIT, 1, 12.3 * MBIT);
	beside_add(&beside, 0, 32, 1000 * MBIT);
	beside_run(&beside, 2);
	for (int turn = 0; turn < 20; turn++) {
		/* something else than the class holds its socket back, as it has a backlog all the same */
		beside.wants[1] = 12.3 * MBIT;
		beside_run(&beside, 0.3);
		assert_true(beside_sum(&beside) > 0.97 * 24);
		beside.wants[1] = 2.0 * MBIT;
		beside_run(&beside, 0.3);
		assert_true(beside_sum(&beside) > 0.97 * 24);
		assert_true(beside_sum(&beside) < 1.02 * 24);
		beside.wants[1] = 1000.0 * MBIT;
		beside_run(&beside, 0.2);
		assert_true(beside.sends[1] > 17 * MBIT);
		beside_run(&beside, 0.2);
		assert_true(fabs(beside_sum(&beside) / 24 - 1) < 0.02);
	}
}

static void idle_bandwidth_is_lent_and_given_back_at_once(void **state)
{
	static struct beside beside;

	(void)state;
	beside = (struct beside){0};
	beside_add(&beside, 0, 0, 0);
	beside_add(&beside, 12 * MBIT, 4, 1000 * MBIT);
	beside_add(&beside, 0, 32, 1000 * MBIT);
	beside_run(&beside, 2);
	for (int turn = 0; turn < 20; turn++) {
		beside.sockets[1] = 0;
		beside_run(&beside, 0.2);
		assert_true(beside.sends[2] > 0.95 * 24 * MBIT);
		beside.sockets[1] = 4;
		beside_run(&beside, 0.2);
		assert_true(beside.sends[1] > 17 * MBIT);
	}
}

static void who_stops_is_known_before_the_window_ends(void **state)
{
	const struct shape_class class = {.generation = 1, .guarantee = 62500, .weight = 1};
	struct shape_share share = {.held = {1, 1}, .bytes = 3028, .usual = 62500, .rate = 62500};
	uint64_t now = 1000000000;

	(void)state;
	/* who holds sockets back has not stopped, however long nothing comes */
	assert_false(share_stops(&share, now));
	now += 10 * SHARE_STOP_NS;
	assert_false(share_stops(&share, now));
	/* who has sent it all may go on at once: a pause is no end */
	share.held[0] = share.held[1] = 0;
	now += SHARE_STOP_NS - 1;
	assert_false(share_stops(&share, now));
	share.bytes += 1514;
	assert_false(share_stops(&share, now));
	assert_false(share_stops(&share, now + SHARE_STOP_NS - 1));
	assert_true(share_stops(&share, now + SHARE_STOP_NS));
	share_stop(&share, &class);
	assert_int_equal(share.own_want, SHARE_WANT_MIN);
	/* once; and what never wanted more than it got is told by its windows alone */
	assert_false(share_stops(&share, now + 20 * SHARE_STOP_NS));
}

static void what_a_parent_sends_itself_is_not_its_childrens(void **state)
{
	static struct beside beside;

	(void)state;
	beside = (struct beside){0};
	beside_add(&beside, 0, 3, 1000 * MBIT);
	beside_add(&beside, 0, 5, 1000 * MBIT);
	beside_add(&beside, 6 * MBIT, 5, 1000 * MBIT);
	beside_run(&beside, 2);
	assert_true(fabs(beside_sum(&beside) / 24 - 1) < 0.01);
	/* as a child without a guarantee, of weight 1: of 18 beyond the guarantee a third each */
	assert_true(fabs(beside.sends[0] / (6.0 * MBIT) - 1) < 0.02);
	assert_true(fabs(beside.sends[2] / (12.0 * MBIT) - 1) < 0.02);
	beside.sockets[0] = 0;
	beside_run(&beside, 1);
	assert_true(fabs(beside_sum(&beside) / 24 - 1) < 0.01);
}

static void pacing_holds_what_is_not_too_little_for_each(void **state)
{
	(void)state;
	assert_true(shape_pacing_holds(MBIT, 1));
	assert_true(shape_pacing_holds(MBIT, 8));
	assert_false(shape_pacing_holds(MBIT, 128));
	assert_true(shape_pacing_holds(100 * MBIT, 128));
}

/* In front of HTB sockets send a 160th less than it lets out, and what waits there is gone soon. */
static void what_waits_in_a_leaf_goes(void **state)
{
	static const uint64_t rates[] = {MBIT, 10 * MBIT, 100 * MBIT, 1000 * MBIT};

	(void)state;
	for (size_t r = 0; r < COUNT(rates); r++) {
		struct loop loop = loop_of(rates[r], 8);

		loop.class.engine = SHAPE_HTB;
		loop.class.flags |= SHAPE_CLASS_PACED;
		loop.share.behind = SHARE_BEHIND_BYTES;
		loop_run(&loop, 1);
		assert_true(rate_of(&loop) < 0.95 * (double)rates[r]);
		loop_run(&loop, 200);
		assert_true(loop.share.behind < 3028);
		assert_true(fabs(rate_of(&loop) / (double)rates[r] - 159.0 / 160) < 0.003);
	}
	/* too slow to be paced exactly: a quarter more than there is, for the leaf to hold */
	struct loop many = loop_of(MBIT, 128);

	many.class.engine = SHAPE_HTB;
	loop_run(&many, 20);
	assert_true(rate_of(&many) >= 0.5 * 1.24 * MBIT && many.share.flow_rate < SHARE_HOLDS);
}

/* What waits for its departure makes way in 200 ms, with half of the link left at least. */
static void what_waits_for_its_departure_makes_way(void **state)
{
	static const struct {
		uint64_t waits_ns;
		double part;
	} cases[] = {
		{0, 31.0 / 32}, {1000000, 31.0 / 32}, {50000000, 0.75}, {100000000, 0.5}, {900000000, 0.5}};
	struct loop loop = loop_of(10 * MBIT, 1);

	(void)state;
	loop.class.engine = SHAPE_EDT;
	for (size_t i = 0; i < COUNT(cases); i++) {
		share_settle_root(&loop.share, &loop.class, cases[i].waits_ns);
		assert_true(fabs((double)loop.share.allowance / (10.0 * MBIT) - cases[i].part) < 0.002);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(children_never_get_more_than_their_parent),
		cmocka_unit_test(each_gets_its_guarantee_and_none_more_than_it_wants),
		cmocka_unit_test(allowances_are_those_of_water_filling),
		cmocka_unit_test(sockets_together_send_the_rate),
		cmocka_unit_test(a_socket_more_or_less_changes_the_rate_of_all_at_once),
		cmocka_unit_test(what_is_small_has_what_it_uses_and_the_rest_is_for_those_held),
		cmocka_unit_test(what_is_policed_counts_as_one_socket),
		cmocka_unit_test(what_is_policed_has_a_part_for_each_flow),
		cmocka_unit_test(without_tcp_the_rest_has_all_and_no_more),
		cmocka_unit_test(sockets_that_send_nothing_leave_their_part_to_the_others),
		cmocka_unit_test(what_a_class_does_not_use_is_lent_and_given_back),
		cmocka_unit_test(idle_bandwidth_is_lent_and_given_back_at_once),
		cmocka_unit_test(who_stops_is_known_before_the_window_ends),
		cmocka_unit_test(what_a_parent_sends_itself_is_not_its_childrens),
		cmocka_unit_test(what_waits_in_a_leaf_goes),
		cmocka_unit_test(what_waits_for_its_departure_makes_way),
		cmocka_unit_test(pacing_holds_what_is_not_too_little_for_each),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
