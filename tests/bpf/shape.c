// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* Classes in the kernel: what they let go, hold back, drop, mark and count, and how a flow's path is found.
 */
#include <arpa/inet.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <cmocka.h>

#include "basic/clock.h"
#include "compile/bucket.h"
#include "shape.skel.h"
#include "shape_test.skel.h"
#include "shared/flow.h"
#include "shared/policy.h"
#include "shared/shape.h"

#define SECOND 1000000000ULL
#define NEXT   ((uint32_t)-1)
#define DROP   2U
#define CPUS   64
#define IFACE  7
#define SOME   (SHAPE_CLASSES_MAX + 1) /* a path that is not plain */

#define FIRST_COUNTER 200 /* of the rules of shape_judged() */

#define CE 3 /* of the two ECN bits */

static struct shape_bpf *shape;
static struct shape_test_bpf *test;
static struct shape_class *classes;
static struct shape_state *states;
static struct shape_count *counts;
static struct shape_hint *hints;
static struct shape_numbering *numbering;
static unsigned int cpus;

static uint8_t packet4[] = {2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0, 0x45, 0, 0, 50, 0, 0, 0x40, 0, 64, 17,
	0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 0x13, 0x88, 0x01, 0xbb, 0, 30, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
	0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0};

static void *map_memory(const struct bpf_map *map, size_t bytes)
{
	void *where = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, bpf_map__fd(map), 0);

	assert_ptr_not_equal(where, MAP_FAILED);
	return where;
}

static int programs_load(bool holding)
{
	__u32 place;
	int program;

	cpus = (unsigned int)libbpf_num_possible_cpus();
	shape = shape_bpf__open();
	test = shape_test_bpf__open();
	if (!shape || !test)
		return -1;
	shape->rodata->shape_tick_shift = 6;
	if (holding)
		shape->rodata->shape_hold_shift = shape_hold_shift_of(cpus);
	bpf_map__set_max_entries(shape->maps.shape_counts, cpus * SHAPE_CLASSES_MAX);
	bpf_map__set_max_entries(shape->maps.rule_counts, cpus * POLICY_COUNTERS_MAX);
	bpf_map__set_max_entries(shape->maps.flow_cache4, 16);
	if (shape_bpf__load(shape) ||
		bpf_map__reuse_fd(test->maps.shape_asks, bpf_map__fd(shape->maps.shape_asks)) ||
		bpf_map__reuse_fd(test->maps.decide_asks, bpf_map__fd(shape->maps.decide_asks)) ||
		bpf_map__reuse_fd(test->maps.shape_programs, bpf_map__fd(shape->maps.shape_programs)) ||
		shape_test_bpf__load(test)) {
		print_error("the kernel does not load the programs\n");
		return -1;
	}
	place = SHAPE_APPLY;
	program = bpf_program__fd(shape->progs.shape_apply);
	if (bpf_map_update_elem(bpf_map__fd(shape->maps.shape_programs), &place, &program, BPF_ANY))
		return -1;
	place = SHAPE_FIND;
	program = bpf_program__fd(shape->progs.shape_find);
	if (bpf_map_update_elem(bpf_map__fd(shape->maps.shape_programs), &place, &program, BPF_ANY))
		return -1;
	classes = map_memory(shape->maps.shape_classes, SHAPE_CLASSES_MAX * sizeof(*classes));
	states = map_memory(shape->maps.shape_states, SHAPE_CLASSES_MAX * sizeof(*states));
	counts = map_memory(shape->maps.shape_counts, (size_t)cpus * SHAPE_CLASSES_MAX * sizeof(*counts));
	hints = map_memory(shape->maps.shape_hints, SHAPE_CLASSES_MAX * sizeof(*hints));
	numbering = map_memory(shape->maps.shape_numbering, sizeof(*numbering));
	return 0;
}

static int open_programs(void **state)
{
	(void)state;
	return programs_load(false);
}

static int open_holding(void **state)
{
	(void)state;
	return programs_load(true);
}

static int close_programs(void **state)
{
	(void)state;
	shape_test_bpf__destroy(test);
	shape_bpf__destroy(shape);
	return 0;
}

static int forget_all(void **state)
{
	(void)state;
	memset(classes, 0, 1024 * sizeof(*classes));
	memset(states, 0, 1024 * sizeof(*states));
	memset(hints, 0, 1024 * sizeof(*hints));
	for (unsigned int cpu = 0; cpu < cpus; cpu++)
		memset(counts + (size_t)cpu * SHAPE_CLASSES_MAX, 0, 1024 * sizeof(*counts));
	test->bss->out = 1;
	test->bss->packets = 1;
	return 0;
}

/* -- tools -- */

/* As the agent does when a class changes. */
static void forget(unsigned int number)
{
	__atomic_store_n(&states[number].fresh, SHAPE_STALE, __ATOMIC_RELEASE);
	__atomic_fetch_add(&hints[number].recall, SHAPE_RECALL, __ATOMIC_SEQ_CST);
}

static struct shape_class *class_make(
	unsigned int number, enum shape_engine engine, uint64_t ceiling, uint64_t burst)
{
	const struct token_rate rate = {ceiling, burst, SECOND};
	struct shape_class *class = &classes[number];

	*class = (struct shape_class){.generation = 1,
		.rule = 1000 + number,
		.engine = (uint8_t)engine,
		.flags = SHAPE_CLASS_OUT,
		.weight = 1,
		.ceiling = ceiling};
	forget(number);
	if (ceiling)
		assert_int_equal(
			token_clock_start(&rate, clock_ns(CLOCK_MONOTONIC), &class->meters[0].clock), 0);
	return class;
}

static void path_make(uint32_t number, const uint16_t *list, size_t count)
{
	struct shape_path path = {};

	memcpy(path.class, list, count * sizeof(*list));
	assert_int_equal(
		bpf_map_update_elem(bpf_map__fd(shape->maps.shape_paths), &number, &path, BPF_ANY), 0);
}

/* The path of a class whose own rule led to it. */
static void path_plain(uint32_t number, const uint16_t *list, size_t count)
{
	struct shape_path path = {.plain = 1};

	memcpy(path.class, list, count * sizeof(*list));
	assert_int_equal(
		bpf_map_update_elem(bpf_map__fd(shape->maps.shape_paths), &number, &path, BPF_ANY), 0);
}

#define PATH(number, ...)                                                                                    \
	path_make(number, (const uint16_t[]){__VA_ARGS__},                                                   \
		sizeof((uint16_t[]){__VA_ARGS__}) / sizeof(uint16_t))

static struct shape_count count_of(unsigned int number)
{
	struct shape_count sum = {};

	for (unsigned int cpu = 0; cpu < cpus; cpu++) {
		const struct shape_count *count = &counts[(size_t)cpu * SHAPE_CLASSES_MAX + number];

		sum.sent_packets += count->sent_packets;
		sum.sent_bytes += count->sent_bytes;
		sum.dropped_packets += count->dropped_packets;
		sum.dropped_bytes += count->dropped_bytes;
		sum.marked_packets += count->marked_packets;
		sum.plain_packets += count->plain_packets;
		sum.plain_bytes += count->plain_bytes;
	}
	return sum;
}

/* What the datapath gives back of the packet sent last. */
static struct __sk_buff seen;
static uint8_t sent[sizeof(packet4)];

static uint32_t hand_over(uint32_t path, uint32_t bytes, int repeat)
{
	struct __sk_buff skb = {.priority = 3};
	LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = packet4, .data_size_in = sizeof(packet4),
		.data_out = sent, .data_size_out = sizeof(sent), .ctx_in = &skb, .ctx_size_in = sizeof(skb),
		.ctx_out = &seen, .ctx_size_out = sizeof(seen), .repeat = repeat);

	test->bss->path = path;
	test->bss->bytes = bytes;
	assert_int_equal(bpf_prog_test_run_opts(bpf_program__fd(test->progs.shape_hand_over), &options), 0);
	return options.retval;
}

/* -- the policer -- */

static void a_policer_lets_its_burst_pass_and_no_more(void **state)
{
	struct shape_count count;

	(void)state;
	class_make(1, SHAPE_POLICER, 1, 100000); /* a byte a second: nothing comes in while this runs */
	PATH(1, 1);
	hand_over(1, 1000, 50);
	count = count_of(1);
	assert_int_equal(count.sent_packets, 50);
	hand_over(1, 1000, 500);
	count = count_of(1);
	assert_int_equal(count.sent_packets, 100);
	assert_int_equal(count.sent_bytes, 100000);
	assert_int_equal(count.dropped_packets, 450);
	assert_int_equal(count.dropped_bytes, 450000);
	assert_int_equal(hand_over(1, 1000, 1), DROP);
}

static void packets_count_as_on_the_wire(void **state)
{
	struct shape_count count;

	(void)state;
	class_make(1, SHAPE_POLICER, 1, 100000);
	PATH(1, 1);
	test->bss->packets = 40;
	assert_int_equal(hand_over(1, 60000, 1), NEXT);
	assert_int_equal(hand_over(1, 60000, 1), DROP);
	count = count_of(1);
	assert_int_equal(count.sent_packets, 40);
	assert_int_equal(count.sent_bytes, 60000);
	assert_int_equal(count.dropped_packets, 40);
}

struct sender {
	pthread_t thread;
	unsigned int cpu;
	int repeat;
};

static void *send_on_cpu(void *context)
{
	LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = packet4, .data_size_in = sizeof(packet4));
	const struct sender *sender = context;
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(sender->cpu, &set);
	sched_setaffinity(0, sizeof(set), &set);
	options.repeat = sender->repeat;
	bpf_prog_test_run_opts(bpf_program__fd(test->progs.shape_hand_over), &options);
	return NULL;
}

/* All CPUs send, faster than they may. */
static void send_on_all(uint32_t path, uint32_t bytes, int repeat)
{
	unsigned int count = cpus < CPUS ? cpus : CPUS;
	struct sender senders[CPUS];

	test->bss->path = path;
	test->bss->bytes = bytes;
	for (unsigned int i = 0; i < count; i++) {
		senders[i] = (struct sender){.cpu = i, .repeat = repeat};
		assert_int_equal(pthread_create(&senders[i].thread, NULL, send_on_cpu, &senders[i]), 0);
	}
	for (unsigned int i = 0; i < count; i++)
		pthread_join(senders[i].thread, NULL);
}

#define RATE  50000000ULL
#define BURST 500000000ULL /* ten seconds: nothing is lost while no sender gets a CPU */
#define SIZE  1000U
#define FIRST 100000 /* packets sent at once: room for what comes in until all senders are there */

/* All CPUs send at once: never more passes than the burst and what came in; and all of that but `hidden`. */
static void send_and_compare(unsigned int number, uint64_t hidden)
{
	unsigned int used = cpus < CPUS ? cpus : CPUS;
	uint64_t before, began, ended, least, most;
	struct shape_count count;

	class_make(number, SHAPE_POLICER, RATE, BURST);
	before = clock_ns(CLOCK_MONOTONIC);
	hand_over(1, SIZE, FIRST);
	began = clock_ns(CLOCK_MONOTONIC);
	send_on_all(1, SIZE, 1500000);
	/* what came in last is fetched */
	do {
		ended = clock_ns(CLOCK_MONOTONIC);
	} while (hand_over(1, SIZE, 1) == NEXT);
	most = BURST + (clock_ns(CLOCK_MONOTONIC) - before) * RATE / SECOND + 1;
	least = BURST - hidden + (ended - began) * RATE / SECOND - SIZE;
	count = count_of(number);
	print_message("%llu bytes, %llu to %llu were due\n", (unsigned long long)count.sent_bytes,
		(unsigned long long)least, (unsigned long long)most);
	assert_true(count.dropped_packets > 0);
	assert_true(count.sent_packets + count.dropped_packets >= (uint64_t)used * 1500000);
	assert_int_equal(count.sent_bytes, count.sent_packets * SIZE);
	assert_int_equal(count.dropped_bytes, count.dropped_packets * SIZE);
	assert_in_range(count.sent_bytes, least, most);
}

/* A tick may hide a part of the burst. */
static void the_rate_is_exact_on_several_cpus(void **state)
{
	(void)state;
	PATH(1, 1);
	send_and_compare(1, RATE >> 6);
}

/* And what CPUs hold. */
static void what_cpus_hold_is_part_of_the_burst(void **state)
{
	(void)state;
	PATH(1, 1);
	send_and_compare(1, (RATE >> 6) + (2ULL * cpus << SHAPE_HOLD_BITS));
}

/* The same of a class two levels above the one that packets belong to, which counts what that lets pass. */
static void a_link_is_as_exact_as_a_class_alone(void **state)
{
	struct shape_count leaf;

	(void)state;
	class_make(1, SHAPE_POLICER, 2 * RATE, 2 * BURST);
	class_make(2, SHAPE_NONE, 0, 0);
	hints[1].parent = 2;
	hints[2].parent = 3;
	path_plain(1, (const uint16_t[]){1, 2, 3}, 3);
	send_and_compare(3, (RATE >> 6) + (2ULL * cpus << SHAPE_HOLD_BITS));
	leaf = count_of(1);
	assert_int_equal(leaf.sent_bytes, count_of(3).sent_bytes);
	assert_int_equal(count_of(2).sent_bytes, count_of(3).sent_bytes);
	assert_int_equal(leaf.dropped_packets, 0);
	assert_int_equal(leaf.plain_packets, count_of(3).sent_packets + count_of(3).dropped_packets);
}

static uint32_t held_bytes(unsigned int number)
{
	uint32_t bytes = 0;

	for (unsigned int cpu = 0; cpu < cpus; cpu++)
		bytes +=
			counts[(size_t)cpu * SHAPE_CLASSES_MAX + number].held & ((1U << SHAPE_HOLD_BITS) - 1);
	return bytes;
}

static void a_hold_ends_when_the_class_changes(void **state)
{
	cpu_set_t before, set;

	(void)state;
	CPU_ZERO(&set);
	CPU_SET((unsigned int)sched_getcpu(), &set);
	assert_int_equal(sched_getaffinity(0, sizeof(before), &before), 0);
	assert_int_equal(sched_setaffinity(0, sizeof(set), &set), 0);
	class_make(1, SHAPE_POLICER, 1, 64000000);
	PATH(1, 1);
	hand_over(1, 100, 3);
	assert_true(held_bytes(1) >= 100);
	/* while it lasts the bucket is not asked */
	states[1].bucket.spent += 64000000;
	assert_int_equal(hand_over(1, 100, 1), NEXT);
	assert_true(held_bytes(1) >= 100);
	forget(1);
	assert_int_equal(hand_over(1, 100, 1), DROP);
	assert_int_equal(sched_setaffinity(0, sizeof(before), &before), 0);
}

static void send_from(unsigned int cpu, uint32_t bytes, int repeat)
{
	struct sender sender = {.cpu = cpu, .repeat = repeat};

	test->bss->path = 1;
	test->bss->bytes = bytes;
	assert_int_equal(pthread_create(&sender.thread, NULL, send_on_cpu, &sender), 0);
	pthread_join(sender.thread, NULL);
}

/* What one CPU holds is not there once more when another finds the whole burst. */
static void a_hold_ends_when_another_cpu_finds_the_bucket_full(void **state)
{
	const uint64_t burst = 6400000;
	struct shape_count count;
	uint64_t sent_before;

	(void)state;
	if (cpus < 2) {
		skip();
		return;
	}
	class_make(1, SHAPE_POLICER, 1, burst);
	PATH(1, 1);
	send_from(0, 100, 1);
	send_from(0, 100, 1);
	assert_true(counts[1].held & ((1U << SHAPE_HOLD_BITS) - 1));
	/* as if time had passed that fills it */
	states[1].bucket.spent -= burst;
	send_from(1, 1000, (int)(burst / 1000) + 100);
	count = count_of(1);
	assert_in_range(count.sent_bytes, burst - (2ULL * cpus << SHAPE_HOLD_BITS), burst + 200);
	sent_before = count.sent_packets;
	send_from(0, 1000, 10);
	count = count_of(1);
	assert_int_equal(count.sent_packets, sent_before);
}

static void nothing_is_held_of_a_small_burst(void **state)
{
	(void)state;
	class_make(1, SHAPE_POLICER, 1, SHAPE_HOLD_LEAST - 1);
	PATH(1, 1);
	hand_over(1, 100, 3);
	assert_int_equal(held_bytes(1), 0);
	assert_int_equal(count_of(1).sent_packets, 3);
}

/* The rate changes while all CPUs send: what each rate gives out passes, and the burst once. */
static void a_change_of_rate_loses_and_gives_nothing(void **state)
{
	static const uint64_t rates[] = {RATE, 4 * RATE, RATE / 8, 2 * RATE};
	uint64_t since, now, due = BURST, least;
	struct shape_class *class = class_make(1, SHAPE_POLICER, rates[0], BURST);
	struct shape_count count;

	(void)state;
	PATH(1, 1);
	since = clock_ns(CLOCK_MONOTONIC);
	hand_over(1, SIZE, FIRST);
	for (size_t i = 0; i < sizeof(rates) / sizeof(rates[0]); i++) {
		const struct token_rate rate = {rates[i], BURST, SECOND};
		struct shape_meter meter = class->meters[class->meter];

		now = clock_ns(CLOCK_MONOTONIC);
		due += i ? (now - since) * rates[i - 1] / SECOND : 0;
		since = i ? now : since;
		assert_int_equal(token_clock_change(&meter.clock, &rate, now), 0);
		class->meters[class->meter ^ 1] = meter;
		class->ceiling = rates[i];
		__atomic_store_n(&class->meter, class->meter ^ 1, __ATOMIC_RELEASE);
		forget(1);
		send_on_all(1, SIZE, 400000);
	}
	while (hand_over(1, SIZE, 1) == NEXT)
		;
	now = clock_ns(CLOCK_MONOTONIC);
	due += (now - since) * rates[3] / SECOND + 4;
	count = count_of(1);
	least = due - (4 * RATE >> 6) - 2 * SIZE;
	print_message("%llu bytes of %llu\n", (unsigned long long)count.sent_bytes, (unsigned long long)due);
	assert_true(count.dropped_packets > 0);
	assert_in_range(count.sent_bytes, least, due);
}

/* -- several classes -- */

/* 1 to 3, of which the one in the middle has no ceiling and the link the lowest. */
static void three_levels_make(void)
{
	class_make(1, SHAPE_POLICER, 1, 90000);
	class_make(2, SHAPE_NONE, 0, 0);
	class_make(3, SHAPE_POLICER, 1, 40000);
}

static void every_ceiling_of_a_path_holds(void **state)
{
	struct shape_count leaf, link;

	(void)state;
	three_levels_make();
	PATH(SOME, 1, 2, 3);
	hand_over(SOME, 1000, 100);
	leaf = count_of(1);
	link = count_of(3);
	assert_int_equal(link.sent_packets, 40);
	assert_int_equal(link.dropped_packets, 60);
	/* what the link refused, the classes below did not send, nor pay for */
	assert_int_equal(leaf.sent_packets, 40);
	assert_int_equal(leaf.sent_bytes, 40000);
	assert_int_equal(leaf.dropped_packets, 0);
	assert_int_equal(count_of(2).sent_packets, 40);
	class_make(3, SHAPE_NONE, 0, 0);
	hand_over(SOME, 1000, 100);
	leaf = count_of(1);
	assert_int_equal(leaf.sent_packets, 90);
	assert_int_equal(leaf.dropped_packets, 50);
	/* and the link knows nothing of what a class below it refused */
	assert_int_equal(count_of(3).sent_packets, 90);
}

static void a_plain_path_is_its_class_and_all_above(void **state)
{
	struct shape_count leaf, link;

	(void)state;
	three_levels_make();
	hints[1].parent = 2;
	hints[2].parent = 3;
	path_plain(1, (const uint16_t[]){1, 2, 3}, 3);
	hand_over(1, 1000, 100);
	leaf = count_of(1);
	link = count_of(3);
	assert_int_equal(link.sent_packets, 40);
	assert_int_equal(link.dropped_packets, 60);
	assert_int_equal(leaf.sent_packets, 40);
	assert_int_equal(leaf.dropped_packets, 0);
	assert_int_equal(count_of(2).sent_packets, 40);
	/* the leaf's rule has led all of them here */
	assert_int_equal(leaf.plain_packets, 100);
	assert_int_equal(leaf.plain_bytes, 100000);
	assert_int_equal(link.plain_packets, 0);
	class_make(3, SHAPE_NONE, 0, 0);
	hand_over(1, 1000, 100);
	leaf = count_of(1);
	assert_int_equal(leaf.sent_packets, 90);
	assert_int_equal(leaf.dropped_packets, 50);
	assert_int_equal(leaf.plain_packets, 200);
	assert_int_equal(count_of(3).sent_packets, 90);
	/* a class that the path's own state cannot answer for, on the way up */
	class_make(1, SHAPE_NONE, 0, 0);
	class_make(2, SHAPE_HTB, 0, 0)->htb = 0x10002;
	hand_over(1, 1000, 10);
	assert_int_equal(seen.priority, 0x10002);
	assert_int_equal(count_of(1).sent_packets, 100);
	assert_int_equal(count_of(2).sent_packets, 100);
	assert_int_equal(count_of(3).sent_packets, 100);
	assert_int_equal(count_of(1).plain_packets, 210);
}

static void a_class_that_is_gone_does_nothing(void **state)
{
	(void)state;
	class_make(1, SHAPE_POLICER, 1, 1000);
	class_make(2, SHAPE_NONE, 0, 0);
	PATH(SOME, 1, 2);
	hand_over(SOME, 1000, 2);
	assert_int_equal(count_of(1).dropped_packets, 1);
	classes[1].generation = 0;
	forget(1);
	assert_int_equal(hand_over(SOME, 1000, 10), NEXT);
	assert_int_equal(count_of(1).dropped_packets, 1);
	assert_int_equal(count_of(2).sent_packets, 11);
	assert_int_equal(hand_over(0, 1000, 1), NEXT);
}

/* -- marks -- */

static void ecn_is_marked_before_anything_is_dropped(void **state)
{
	struct shape_class *class = class_make(1, SHAPE_POLICER, 1, 100000);

	(void)state;
	class->meters[0].mark = 40000;
	PATH(1, 1);
	packet4[15] = 2; /* ECT(0) */
	hand_over(1, 10000, 6);
	assert_int_equal(sent[15] & CE, 2);
	assert_int_equal(count_of(1).marked_packets, 0);
	hand_over(1, 10000, 1);
	assert_int_equal(sent[15] & CE, CE);
	assert_int_equal(count_of(1).marked_packets, 1);
	packet4[15] = 0; /* not capable */
	hand_over(1, 10000, 1);
	assert_int_equal(sent[15] & CE, 0);
	assert_int_equal(count_of(1).marked_packets, 1);
	assert_int_equal(count_of(1).dropped_packets, 0);
}

/* -- departure times -- */

static void departures_are_as_far_apart_as_the_rate_says(void **state)
{
	struct shape_class *class = class_make(1, SHAPE_EDT, 1000000, 1);
	uint64_t first, before = clock_ns(CLOCK_MONOTONIC), now;

	(void)state;
	class->horizon_ns = 100000000;
	class->mark_ns = 50000000;
	PATH(1, 1);
	packet4[15] = 2;
	assert_int_equal(hand_over(1, 1000, 1), NEXT);
	first = states[1].departs_ns; /* when the next may leave */
	for (int i = 1; i < 40; i++) {
		assert_int_equal(hand_over(1, 1000, 1), NEXT);
		/* the clock has not overtaken it: a millisecond each */
		if (states[1].departs_ns == first + (uint64_t)i * 1000000)
			continue;
		now = clock_ns(CLOCK_MONOTONIC);
		assert_true(now - before > (uint64_t)i * 1000000);
		first = states[1].departs_ns - (uint64_t)i * 1000000;
	}
	assert_int_equal(count_of(1).sent_packets, 40);
	assert_true(states[1].delayed_packets > 0);
	assert_true(seen.tstamp > before);
	/* the next would have to wait longer than the horizon */
	while (hand_over(1, 1000, 1) == NEXT)
		;
	assert_true(states[1].departs_ns - clock_ns(CLOCK_MONOTONIC) <= class->horizon_ns + 1000000);
	assert_true(count_of(1).marked_packets > 0);
	assert_int_equal(count_of(1).dropped_packets, 1);
	packet4[15] = 0;
}

/* -- HTB -- */

static void htb_leaves_are_chosen_by_priority(void **state)
{
	(void)state;
	class_make(1, SHAPE_HTB, 0, 0);
	class_make(2, SHAPE_HTB, 0, 0)->htb = 0x10002;
	class_make(3, SHAPE_HTB, 0, 0)->htb = 0x10003;
	PATH(SOME, 1, 2, 3);
	assert_int_equal(hand_over(SOME, 1000, 1), NEXT);
	assert_int_equal(seen.priority, 0x10002); /* the first on the way up that has a leaf */
	assert_int_equal(count_of(1).sent_packets, 1);
	assert_int_equal(count_of(3).sent_packets, 1);
	class_make(2, SHAPE_NONE, 0, 0);
	class_make(3, SHAPE_NONE, 0, 0);
	hand_over(SOME, 1000, 1);
	assert_int_equal(seen.priority, 3); /* as it was */
}

/* -- paths -- */

static uint32_t find(uint32_t ifindex, bool out, uint32_t way, const uint16_t *list, size_t count)
{
	LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = packet4, .data_size_in = sizeof(packet4));

	test->bss->ifindex = ifindex;
	test->bss->out = out;
	test->bss->way = way;
	test->bss->bytes = 1000;
	test->bss->class_count = (uint32_t)count;
	memcpy(test->bss->class_list, list, count * sizeof(*list));
	assert_int_equal(bpf_prog_test_run_opts(bpf_program__fd(test->progs.shape_judged), &options), 0);
	return options.retval;
}

#define FIND(ifindex, out, way, ...)                                                                         \
	find(ifindex, out, way, (const uint16_t[]){__VA_ARGS__},                                             \
		sizeof((uint16_t[]){__VA_ARGS__}) / sizeof(uint16_t))

static struct flow_line4 line(uint32_t way)
{
	struct flow_set4 set;
	uint32_t place = 1;

	assert_int_equal(bpf_map_lookup_elem(bpf_map__fd(shape->maps.flow_cache4), &place, &set), 0);
	return set.line[way];
}

static void expect_path(uint32_t number, const uint16_t *list, size_t count)
{
	struct shape_path path;

	assert_int_equal(bpf_map_lookup_elem(bpf_map__fd(shape->maps.shape_paths), &number, &path), 0);
	for (size_t i = 0; i < SHAPE_PATH_MAX; i++)
		assert_int_equal(path.class[i], i < count ? list[i] : 0);
}

#define EXPECT_PATH(number, ...)                                                                             \
	expect_path(number, (const uint16_t[]){__VA_ARGS__},                                                 \
		sizeof((uint16_t[]){__VA_ARGS__}) / sizeof(uint16_t))

static void tree_make(void)
{
	const struct shape_link link = {.class = 10, .rest = 11};
	uint32_t key = SHAPE_LINK_KEY(IFACE, 1);

	/* 10: the link; 11: its rest; 12 below it; 13 below that; 20: stands alone; 21: comes in; 22:
	 * elsewhere */
	for (unsigned int number = 10; number < 23; number++)
		class_make(number, SHAPE_NONE, 0, 0);
	for (unsigned int number = 10; number < 14; number++)
		classes[number].ifindex = IFACE;
	classes[10].flags |= SHAPE_CLASS_LINK;
	classes[11].flags |= SHAPE_CLASS_REST;
	classes[11].parent = 10;
	classes[12].parent = 10;
	classes[13].parent = 12;
	for (unsigned int number = 10; number < 23; number++)
		hints[number].parent = (uint16_t)classes[number].parent;
	classes[21].flags = 0;
	classes[22].ifindex = IFACE + 1;
	assert_int_equal(bpf_map_update_elem(bpf_map__fd(shape->maps.shape_links), &key, &link, BPF_ANY), 0);
}

static void paths_go_up_to_the_link(void **state)
{
	(void)state;
	tree_make();
	FIND(IFACE, true, 0, 13);
	EXPECT_PATH(line(0).decision.class, 13, 12, 10);
	FIND(IFACE, true, 1, 20, 13);
	EXPECT_PATH(line(1).decision.class, 20, 13, 12, 10);
	/* nothing of the link's but what is its rest */
	FIND(IFACE, true, 2, 20);
	EXPECT_PATH(line(2).decision.class, 20, 11, 10);
	FIND(IFACE, true, 3, 10);
	EXPECT_PATH(line(3).decision.class, 10, 11);
	/* what comes in, or goes elsewhere, is not meant */
	FIND(IFACE, true, 0, 21, 22, 12);
	EXPECT_PATH(line(0).decision.class, 12, 10);
	FIND(IFACE, false, 0, 21, 12, 20);
	EXPECT_PATH(line(0).decision.class, 21);
	FIND(IFACE + 1, true, 0, 13, 22);
	EXPECT_PATH(line(0).decision.class, 22);
	/* a packet counts where it was found, too */
	assert_int_equal(count_of(10).sent_packets, 5);
	assert_int_equal(count_of(13).sent_packets, 2);
	assert_int_equal(count_of(21).sent_packets, 1);
}

static void equal_paths_share_a_number(void **state)
{
	uint32_t number, other;

	(void)state;
	tree_make();
	FIND(IFACE, true, 0, 13);
	FIND(IFACE, true, 1, 13);
	FIND(IFACE, true, 2, 12);
	number = line(0).decision.class;
	other = line(2).decision.class;
	assert_true(number != 0);
	assert_int_equal(line(1).decision.class, number);
	assert_int_not_equal(other, number);
	/* the other half in use: numbers of this one are not given out any more */
	numbering->half ^= 1;
	numbering->made = 0;
	FIND(IFACE, true, 0, 13);
	assert_int_not_equal(SHAPE_HALF_OF(line(0).decision.class), SHAPE_HALF_OF(number));
	EXPECT_PATH(line(0).decision.class, 13, 12, 10);
}

static struct rule_count rule_count_of(uint32_t counter)
{
	struct rule_count sum = {};

	for (uint32_t cpu = 0; cpu < cpus; cpu++) {
		struct rule_count count;
		uint32_t place = cpu * POLICY_COUNTERS_MAX + counter;

		assert_int_equal(
			bpf_map_lookup_elem(bpf_map__fd(shape->maps.rule_counts), &place, &count), 0);
		sum.packets += count.packets;
		sum.bytes += count.bytes;
	}
	return sum;
}

static void a_class_alone_counts_for_its_rule(void **state)
{
	struct rule_count rule;
	struct shape_count count;

	(void)state;
	tree_make();
	class_make(20, SHAPE_POLICER, 1, 100000);
	/* by a rule that is not its own, by two of them, and beside another class: none of those is plain */
	FIND(IFACE + 1, true, 0, 20);
	assert_true(line(0).decision.class >= SHAPE_CLASSES_MAX);
	states[20].counter = FIRST_COUNTER;
	FIND(IFACE + 1, true, 0, 20, 20);
	assert_true(line(0).decision.class >= SHAPE_CLASSES_MAX);
	FIND(IFACE, true, 0, 20);
	assert_true(line(0).decision.class >= SHAPE_CLASSES_MAX);
	FIND(IFACE + 1, true, 0, 20);
	assert_int_equal(line(0).decision.class, 20);
	EXPECT_PATH(20, 20);
	rule = rule_count_of(FIRST_COUNTER);
	/* four packets have been judged, which their rules counted; these are the rule's, one way or another
	 */
	hand_over(20, 1000, 200);
	count = count_of(20);
	assert_int_equal(count.sent_packets, 100);
	assert_int_equal(count.dropped_packets, 104);
	assert_true(count.plain_packets > 0);
	assert_int_equal(count.plain_bytes, 1000 * count.plain_packets);
	assert_int_equal(rule_count_of(FIRST_COUNTER).packets - rule.packets + count.plain_packets, 200);
	/* another counter of the rule, in a policy to come: what was kept holds as it was, what is new does
	 * not */
	states[20].counter = FIRST_COUNTER + 7;
	FIND(IFACE + 1, true, 0, 20);
	assert_true(line(0).decision.class >= SHAPE_CLASSES_MAX);
}

static void a_class_below_others_counts_for_its_rule(void **state)
{
	struct rule_count first, second;

	(void)state;
	tree_make();
	states[13].counter = FIRST_COUNTER;
	states[20].counter = FIRST_COUNTER + 1;
	FIND(IFACE, true, 0, 13);
	assert_int_equal(line(0).decision.class, 13);
	EXPECT_PATH(13, 13, 12, 10);
	/* its classes move, and flows are asked about anew */
	classes[13].parent = 10;
	hints[13].parent = 10;
	FIND(IFACE, true, 0, 13);
	assert_int_equal(line(0).decision.class, 13);
	EXPECT_PATH(13, 13, 10);
	/* one of those above is not meant here */
	classes[10].ifindex = IFACE + 1;
	FIND(IFACE, true, 1, 13);
	assert_true(line(1).decision.class >= SHAPE_CLASSES_MAX);
	classes[10].ifindex = IFACE;
	/* two rules, each of which led to its class: no other counter is needed */
	first = rule_count_of(FIRST_COUNTER);
	second = rule_count_of(FIRST_COUNTER + 1);
	FIND(IFACE, true, 2, 13, 20);
	assert_true(line(2).decision.class >= SHAPE_CLASSES_MAX);
	EXPECT_PATH(line(2).decision.class, 13, 10, 20);
	hand_over(line(2).decision.class, 1000, 10);
	assert_int_equal(count_of(13).plain_packets, 10);
	assert_int_equal(count_of(20).plain_packets, 10);
	assert_int_equal(count_of(10).plain_packets, 0);
	/* what a class in front of it refuses counts for the rule, too */
	class_make(13, SHAPE_POLICER, 1, 1000);
	hand_over(line(2).decision.class, 1000, 10);
	assert_int_equal(count_of(13).dropped_packets, 9);
	assert_int_equal(count_of(13).plain_packets, 20);
	assert_int_equal(count_of(20).plain_packets, 20);
	assert_int_equal(count_of(20).sent_packets, 12);
	assert_int_equal(rule_count_of(FIRST_COUNTER).packets, first.packets);
	assert_int_equal(rule_count_of(FIRST_COUNTER + 1).packets, second.packets);
	/* a third one, that is no class's own */
	FIND(IFACE, true, 3, 13, 20, 12);
	hand_over(line(3).decision.class, 1000, 10);
	assert_int_equal(rule_count_of(FIRST_COUNTER + 2).packets, 10);
	assert_int_equal(count_of(20).plain_packets, 30);
}

static void without_a_number_each_packet_is_asked_about(void **state)
{
	uint64_t full;

	(void)state;
	tree_make();
	class_make(20, SHAPE_POLICER, 1, 2000);
	FIND(IFACE, true, 0, 20);
	assert_int_not_equal(line(0).decision.class, 0);
	numbering->made = SHAPE_HALF;
	full = numbering->full;
	assert_int_equal(FIND(IFACE, true, 1, 20, 13), NEXT);
	assert_int_equal(line(1).decision.class, 0);
	assert_int_equal(line(1).marks.origin & FLOW_VERDICT_ASK, FLOW_VERDICT_ASK);
	assert_int_equal(numbering->full, full + 1);
	/* and its classes have their say all the same */
	assert_int_equal(FIND(IFACE, true, 1, 20, 13), DROP);
	assert_int_equal(count_of(13).sent_packets, 1);
	assert_int_equal(count_of(20).dropped_packets, 1);
	numbering->made = 0;
	numbering->half ^= 1;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(a_policer_lets_its_burst_pass_and_no_more, forget_all),
		cmocka_unit_test_setup(packets_count_as_on_the_wire, forget_all),
		cmocka_unit_test_setup(the_rate_is_exact_on_several_cpus, forget_all),
		cmocka_unit_test_setup(a_change_of_rate_loses_and_gives_nothing, forget_all),
		cmocka_unit_test_setup(every_ceiling_of_a_path_holds, forget_all),
		cmocka_unit_test_setup(a_plain_path_is_its_class_and_all_above, forget_all),
		cmocka_unit_test_setup(a_class_that_is_gone_does_nothing, forget_all),
		cmocka_unit_test_setup(ecn_is_marked_before_anything_is_dropped, forget_all),
		cmocka_unit_test_setup(departures_are_as_far_apart_as_the_rate_says, forget_all),
		cmocka_unit_test_setup(htb_leaves_are_chosen_by_priority, forget_all),
		cmocka_unit_test_setup(paths_go_up_to_the_link, forget_all),
		cmocka_unit_test_setup(equal_paths_share_a_number, forget_all),
		cmocka_unit_test_setup(a_class_alone_counts_for_its_rule, forget_all),
		cmocka_unit_test_setup(a_class_below_others_counts_for_its_rule, forget_all),
		cmocka_unit_test_setup(without_a_number_each_packet_is_asked_about, forget_all),
	};
	const struct CMUnitTest holding[] = {
		cmocka_unit_test_setup(a_policer_lets_its_burst_pass_and_no_more, forget_all),
		cmocka_unit_test_setup(what_cpus_hold_is_part_of_the_burst, forget_all),
		cmocka_unit_test_setup(a_link_is_as_exact_as_a_class_alone, forget_all),
		cmocka_unit_test_setup(a_hold_ends_when_the_class_changes, forget_all),
		cmocka_unit_test_setup(a_hold_ends_when_another_cpu_finds_the_bucket_full, forget_all),
		cmocka_unit_test_setup(nothing_is_held_of_a_small_burst, forget_all),
		cmocka_unit_test_setup(every_ceiling_of_a_path_holds, forget_all),
		cmocka_unit_test_setup(a_plain_path_is_its_class_and_all_above, forget_all),
		cmocka_unit_test_setup(a_class_that_is_gone_does_nothing, forget_all),
		cmocka_unit_test_setup(ecn_is_marked_before_anything_is_dropped, forget_all),
	};
	int failed;

	libbpf_set_strict_mode(LIBBPF_STRICT_ALL);
	failed = cmocka_run_group_tests(tests, open_programs, close_programs);
	return failed + cmocka_run_group_tests(holding, open_holding, close_programs);
}
