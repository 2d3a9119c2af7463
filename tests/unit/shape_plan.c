// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* From rules to classes: who stands below whom, which books are refused, what a kept book becomes, and what
 * HTB is told. */
#include "agent/shape/shapes_internal.h"

#include "unit.h"

#define SENTENCES_MAX 24

static struct rule_places places;

static uint32_t interface_of(void *context, const char *name)
{
	(void)context;
	return strcmp(name, "eth0") == 0 ? 2 : strcmp(name, "eth1") == 0 ? 3 : 0;
}

/* An array and how many it has: two arguments. */
#define COUNTED(type, ...) (const type[]){__VA_ARGS__}, sizeof((const type[]){__VA_ARGS__}) / sizeof(type)

static void book_fill(struct rulebook *book, const char *const *texts)
{
	struct error error = {};

	assert_int_equal(rulebook_init(book), 0);
	for (uint32_t id = 1; *texts; texts++, id++) {
		struct rule_entry *entry = rule_entry_new(&places, *texts, &error);

		if (!entry) {
			fail_msg("%s: %s", *texts, error.what);
			return;
		}
		entry->id = id;
		assert_int_equal(rule_list_insert(&book->policies[0].list, SIZE_MAX, entry, false), 0);
	}
}

/* The class of the sentence with this number, counted from 1. */
static const struct shape_node *node_of(const struct shape_plan *plan, uint32_t id)
{
	for (size_t i = 0; i < plan->count; i++)
		if (plan->nodes[i].entry->id == id && !plan->nodes[i].rest)
			return &plan->nodes[i];
	return NULL;
}

/* What each sentence stands below: the number of another, 0. */
static void expect_parents(const char *const *texts, const uint32_t *parents, size_t count)
{
	struct rulebook book;
	struct shape_plan plan;
	struct error error = {};

	book_fill(&book, texts);
	if (shape_plan_make(&book, SHAPE_PLAN_STRICT, interface_of, NULL, &plan, NULL, &error) < 0)
		fail_msg("%s; %s", error.what, error.want);
	for (uint32_t id = 1; id <= count; id++) {
		const struct shape_node *node = node_of(&plan, id);
		uint32_t parent =
			!node || node->parent == SHAPE_PLAN_NONE ? 0 : plan.nodes[node->parent].entry->id;

		if (parent != parents[id - 1])
			fail_msg("'%s' stands below %u, not %u", texts[id - 1], parent, parents[id - 1]);
	}
	shape_plan_clear(&plan);
	rulebook_clear(&book);
}

static void a_class_stands_where_its_sentence_says(void **state)
{
	(void)state;
	/* below the link that the rule names, else below the only one, else alone */
	expect_parents((const char *const[]){"limit out on eth0 to 100mbit",
			       "limit out on eth0 tcp to 10mbit", "limit out by user 0 to 10mbit",
			       "limit in tcp to 10mbit", "limit tcp to 10mbit", "shape bulk under eth0",
			       "shape small under bulk", "guarantee out tcp from port 80 1mbit under small",
			       "assign out udp to bulk", "limit out tcp to 5/s", NULL},
		COUNTED(uint32_t, 0, 1, 1, 0, 0, 1, 6, 7, 0, 0));
	/* several links: what shares must say below which it stands, what only has a ceiling need not */
	expect_parents((const char *const[]){"limit out on eth0 to 100mbit", "limit out on eth1 to 100mbit",
			       "limit in on eth0 to 10mbit", "limit out tcp to 10mbit",
			       "guarantee out udp 1mbit under eth1", "limit in tcp to 1mbit",
			       "limit on eth0 tcp to 1mbit", NULL},
		COUNTED(uint32_t, 0, 0, 0, 0, 2, 3, 0));
	/* an interface without a rate is no parent, but a place */
	expect_parents(
		(const char *const[]){"shape bulk under eth1 ceiling 1mbit", "limit out udp to 1mbit", NULL},
		COUNTED(uint32_t, 0, 0));
}

static void links_have_a_rest(void **state)
{
	static const char *const texts[] = {"limit out on eth0 to 100mbit", "shape bulk under eth0", NULL};
	struct rulebook book;
	struct shape_plan plan;
	size_t rests = 0;

	(void)state;
	book_fill(&book, texts);
	assert_int_equal(shape_plan_make(&book, SHAPE_PLAN_STRICT, interface_of, NULL, &plan, NULL, NULL), 0);
	assert_int_equal(plan.count, 3);
	for (size_t i = 0; i < plan.count; i++) {
		const struct shape_node *node = &plan.nodes[i];

		rests += node->rest;
		assert_string_equal(node->interface, "eth0");
		assert_int_not_equal(node->number, 0);
		for (size_t k = 0; k < i; k++)
			assert_int_not_equal(plan.nodes[k].number, node->number);
	}
	assert_int_equal(rests, 1);
	assert_int_equal(plan.nodes[0].children, 2);
	shape_plan_clear(&plan);
	rulebook_clear(&book);
}

static void refused_books_say_why(void **state)
{
	static const struct {
		const char *texts[6];
		const char *what;
	} cases[] = {
		{{"limit out on eth0 to 10mbit", "guarantee out tcp 6mbit", "guarantee out udp 5mbit"},
			"the guarantees below eth0 add up to 11mbit, and it has 10mbit"},
		{{"limit out on eth0 to 10mbit", "shape a under eth0", "guarantee out tcp 6mbit under a",
			 "guarantee out udp 5mbit"},
			"the guarantees below eth0 add up to 11mbit, and it has 10mbit"},
		{{"limit out on eth0 to 10mbit", "guarantee out tcp 11mbit"},
			"a guarantee of 11mbit is above the 10mbit of eth0"},
		{{"shape a under b", "shape b under c", "shape c under a"},
			"a loop: 'a' stands below itself"},
		{{"limit out on eth0 to 1gbit", "shape a under eth0", "shape b under a", "shape c under b",
			 "shape d under c"},
			"'d' stands too deep"},
		{{"shape a under eth0", "shape a under eth1"}, "there is a class 'a' already"},
		{{"limit out on eth0 to 1gbit", "limit out on eth0 to 2gbit"},
			"what leaves eth0 has a rate already: limit out on eth0 to 1gbit"},
		{{"shape a under eth7"}, "there is no class and no interface 'eth7'"},
		{{"assign out udp to a"}, "there is no class 'a'"},
		{{"shape a in under eth0", "assign out udp to a"},
			"class 'a' is for what comes in, the rule for what leaves"},
		{{"shape a in under eth0", "shape b under a"},
			"'b' is for what leaves, and stands below a, which is for what comes in"},
		{{"shape a under eth0", "limit out on eth1 tcp to 1mbit under a"},
			"on eth1, but below a, which is on eth0: nothing fits both"},
		{{"guarantee tcp 1mbit"}, "a class that shares has one direction"},
		{{"limit out on eth0 to 1gbit", "limit out on eth1 to 1gbit", "guarantee out tcp 1mbit"},
			"under which link? there are eth0, eth1"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct rulebook book;
		struct shape_plan plan = {};
		struct error error = {};

		book_fill(&book, cases[i].texts);
		assert_true(shape_plan_make(
				    &book, SHAPE_PLAN_STRICT, interface_of, NULL, &plan, NULL, &error) < 0);
		assert_string_equal(error.what, cases[i].what);
		assert_null(plan.nodes);
		/* what is in force stays, whatever it is */
		assert_int_equal(
			shape_plan_make(&book, SHAPE_PLAN_KEEP, interface_of, NULL, &plan, NULL, &error), 0);
		shape_plan_clear(&plan);
		rulebook_clear(&book);
	}
}

static uint32_t seed;

static uint32_t any(uint32_t below)
{
	seed = seed * 1664525 + 1013904223;
	return (seed >> 8) % below;
}

/* A book of classes that stand anywhere, also where they cannot. */
static void book_random(char (*sentences)[96], const char **texts)
{
	size_t count = 1 + any(SENTENCES_MAX - 1);

	for (size_t i = 0; i < count; i++) {
		const char *under[] = {"eth0", "eth1", "a", "b", "c", "d", "e", "eth7"};
		uint32_t mbit = 1 + any(50), name = any(5);

		switch (any(5)) {
		case 0:
			snprintf(sentences[i], 96, "limit %s on eth%u to %umbit", any(2) ? "out" : "in",
				any(2), mbit);
			break;
		case 1:
			snprintf(sentences[i], 96, "guarantee out tcp %umbit under %s", mbit, under[any(8)]);
			break;
		case 2:
			snprintf(sentences[i], 96, "limit%s udp to %umbit", any(2) ? " out" : "", mbit);
			break;
		case 3:
			snprintf(sentences[i], 96, "assign out udp to %c", 'a' + (char)any(5));
			break;
		default:
			snprintf(sentences[i], 96, "shape %s under %s", under[2 + name],
				under[(3 + name + any(7)) % 8]); /* not itself */
			break;
		}
		texts[i] = sentences[i];
	}
	texts[count] = NULL;
}

static void plan_check(const struct shape_plan *plan)
{
	for (size_t i = 0; i < plan->count; i++) {
		const struct shape_node *node = &plan->nodes[i];

		assert_true(node->number > 0 && node->number < SHAPE_CLASSES_MAX);
		if (node->parent == SHAPE_PLAN_NONE)
			continue;
		/* parents come first, so there is no loop */
		assert_true(node->parent < i);
		assert_int_equal(plan->nodes[node->parent].out, node->out);
	}
}

static void every_book_has_a_plan_or_a_reason(void **state)
{
	static char sentences[SENTENCES_MAX][96];
	size_t good = 0, bad = 0;

	(void)state;
	for (uint32_t number = 0; number < 2000; number++) {
		const char *texts[SENTENCES_MAX + 1];
		struct rulebook book;
		struct shape_plan plan = {};
		struct error error = {};
		int r;

		seed = number * 2654435761U;
		book_random(sentences, texts);
		book_fill(&book, texts);
		r = shape_plan_make(&book, SHAPE_PLAN_STRICT, interface_of, NULL, &plan, NULL, &error);
		if (r < 0) {
			assert_int_not_equal(error.what[0], 0);
			bad++;
			assert_int_equal(shape_plan_make(&book, SHAPE_PLAN_KEEP, interface_of, NULL, &plan,
						 NULL, NULL),
				0);
		} else {
			good++;
		}
		plan_check(&plan);
		shape_plan_clear(&plan);
		rulebook_clear(&book);
	}
	assert_true(good > 50 && bad > 50);
}

/* What HTB is told of the class of the sentence with this number, counted from 1. */
static void expect_rates(const char *const *texts, const uint64_t *mbit, size_t mbit_count)
{
	struct shape_tree tree = {.interface = "eth0", .out = true};
	struct engine_htb *classes;
	struct rulebook book;
	struct shape_plan plan;
	size_t count = 0;

	book_fill(&book, texts);
	assert_int_equal(shape_plan_make(&book, SHAPE_PLAN_STRICT, interface_of, NULL, &plan, NULL, NULL), 0);
	assert_int_equal(shape_htb_make(NULL, &plan, &tree, &classes, &count), 0);
	for (uint32_t id = 1; id <= mbit_count; id++) {
		uint64_t rate = 0;

		for (size_t i = 0; i < count; i++)
			if (classes[i].minor == shape_htb_minor(node_of(&plan, id)))
				rate = classes[i].rate;
		if (rate != mbit[id - 1] * 125000)
			fail_msg("'%s' has %lu bytes a second", texts[id - 1], (unsigned long)rate);
	}
	free(classes);
	shape_plan_clear(&plan);
	rulebook_clear(&book);
}

static void htb_is_told_what_each_has_by_right(void **state)
{
	(void)state;
	/* by weight, of what is left after guarantees; the rest of the link weighs one */
	expect_rates(
		(const char *const[]){"limit out on eth0 to 24mbit", "shape tenant under eth0 ceiling 20mbit",
			"shape light under tenant weight 1", "shape heavy under tenant weight 3", NULL},
		COUNTED(uint64_t, 24, 12, 3, 9));
	expect_rates((const char *const[]){"limit out on eth0 to 100mbit", "guarantee out tcp 60mbit",
			     "shape a under eth0 weight 2", NULL},
		COUNTED(uint64_t, 100, 70, 20));
	/* what a low ceiling leaves is for the others */
	expect_rates((const char *const[]){"limit out on eth0 to 30mbit", "shape a under eth0 ceiling 2mbit",
			     "shape b under eth0", NULL},
		COUNTED(uint64_t, 30, 2, 14));
	/* the higher priority first, as far as it may */
	expect_rates((const char *const[]){"limit out on eth0 to 30mbit",
			     "shape a under eth0 priority high ceiling 20mbit", "shape b under eth0 weight 4",
			     NULL},
		COUNTED(uint64_t, 30, 20, 8));
	/* without a link each has what it may */
	expect_rates((const char *const[]){"shape a under eth0 ceiling 20mbit", NULL}, COUNTED(uint64_t, 20));
}

static void htb_check(const struct engine_htb *classes, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		uint64_t sum = 0;

		assert_true(classes[i].rate > 0 && classes[i].rate <= classes[i].ceiling);
		for (size_t k = 0; k < count; k++) {
			assert_true(i == k || classes[i].minor != classes[k].minor);
			if (classes[k].parent != classes[i].minor)
				continue;
			/* HTB wants parents first; and rates of 1000 for nothing */
			assert_true(k > i && !classes[i].leaf);
			assert_true(classes[k].ceiling <= classes[i].ceiling);
			sum += classes[k].rate > 1000 ? classes[k].rate : 0;
		}
		assert_true(sum <= classes[i].rate);
	}
}

static void no_tree_promises_more_than_it_has(void **state)
{
	static char sentences[SENTENCES_MAX][96];
	size_t checked = 0;

	(void)state;
	for (uint32_t number = 0; number < 20000; number++) {
		struct shape_tree tree = {.interface = "eth0", .out = true};
		const char *texts[SENTENCES_MAX + 1];
		struct engine_htb *classes;
		struct rulebook book;
		struct shape_plan plan = {};
		size_t count = 0;

		seed = number * 2654435761U;
		book_random(sentences, texts);
		book_fill(&book, texts);
		if (shape_plan_make(&book, SHAPE_PLAN_STRICT, interface_of, NULL, &plan, NULL, NULL) == 0) {
			assert_int_equal(shape_htb_make(NULL, &plan, &tree, &classes, &count), 0);
			htb_check(classes, count);
			checked += count > 2; /* more than what every tree has */
			free(classes);
		}
		shape_plan_clear(&plan);
		rulebook_clear(&book);
	}
	assert_true(checked > 50);
}

/* A rule with other rates is the same rule: its places are free when the last of both is gone. */
static void a_change_of_rate_keeps_the_class(void **state)
{
	static const char *const texts[] = {"limit out on eth0 to 100mbit", NULL};
	struct rulebook book;
	struct shape_plan plan;
	struct rule_entry *before, *after, *other;
	struct error error = {};
	uint32_t class, rest;

	(void)state;
	book_fill(&book, texts);
	before = book.policies[0].list.slots[0].entry;
	assert_int_equal(shape_plan_make(&book, SHAPE_PLAN_STRICT, interface_of, NULL, &plan, NULL, NULL), 0);
	shape_plan_clear(&plan);
	after = rule_entry_change(before, "to 20mbit", &error);
	assert_non_null(after);
	assert_string_equal(after->text, "limit out on eth0 to 20mbit");
	assert_true(rule_entry_is_same(before, after));
	class = before->class;
	rest = before->rest;
	assert_int_equal(after->class, class);
	assert_int_equal(after->rest, rest);
	rulebook_clear(&book); /* the first is gone */
	other = rule_entry_new(&places, "limit out on eth0 to 1mbit", &error);
	assert_int_equal(rule_entry_class(other, true, &error), 0);
	assert_true(
		other->class != class && other->class != rest && other->rest != class && other->rest != rest);
	rule_entry_release(other);
	rule_entry_release(after);
	for (size_t i = 0; i < SHAPE_CLASSES_MAX / 64; i++)
		assert_int_equal(places.classes[i], i == 0); /* 0 is none's */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_class_stands_where_its_sentence_says),
		cmocka_unit_test(links_have_a_rest),
		cmocka_unit_test(refused_books_say_why),
		cmocka_unit_test(every_book_has_a_plan_or_a_reason),
		cmocka_unit_test(htb_is_told_what_each_has_by_right),
		cmocka_unit_test(no_tree_promises_more_than_it_has),
		cmocka_unit_test(a_change_of_rate_keeps_the_class),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
