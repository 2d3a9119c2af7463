// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* Limits in the kernel: on several CPUs at once, with the kernel's clock. */
#include <arpa/inet.h>
#include <errno.h>
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
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <cmocka.h>

#include "bpf/limit.h"
#include "compile/bucket.h"
#include "limit_test.skel.h"
#include "shared/policy.h"

#define SECOND      1000000000ULL
#define SOURCES_MAX 4096

static struct limit_test_bpf *skeleton;
static unsigned int cpus;

static int quiet(enum libbpf_print_level level, const char *format, va_list arguments)
{
	(void)level;
	(void)format;
	(void)arguments;
	return 0;
}

static void limit_put(uint32_t place, const struct policy_limit *limit)
{
	struct policy_limit full = *limit;

	assert_int_equal(token_clock_start(&limit->rate, 0, &full.clock), 0);
	assert_int_equal(bpf_map__update_elem(skeleton->maps.rule_limits, &place, sizeof(place), &full,
				 sizeof(full), BPF_ANY),
		0);
}

static struct limit_result results(void)
{
	struct limit_result *each = calloc(cpus, sizeof(*each)), sum = {};
	__u32 key = 0;

	assert_non_null(each);
	assert_int_equal(bpf_map__lookup_elem(skeleton->maps.limit_results, &key, sizeof(key), each,
				 cpus * sizeof(*each), 0),
		0);
	for (unsigned int i = 0; i < cpus; i++) {
		sum.within += each[i].within;
		sum.over += each[i].over;
		sum.full += each[i].full;
		if (each[i].first_from && (!sum.first_from || each[i].first_from < sum.first_from)) {
			sum.first_from = each[i].first_from;
			sum.first_to = each[i].first_to;
		}
		if (each[i].last_from > sum.last_from) {
			sum.last_from = each[i].last_from;
			sum.last_to = each[i].last_to;
		}
	}
	free(each);
	return sum;
}

static int ask(const struct limit_question *question, uint32_t repeat)
{
	LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = question, .data_size_in = sizeof(*question),
		.repeat = (int)repeat);

	assert_int_equal(bpf_prog_test_run_opts(bpf_program__fd(skeleton->progs.limit_ask), &options), 0);
	return (int)options.retval;
}

static int setup(void **state)
{
	struct limit_result *none = calloc(cpus, sizeof(*none));
	__u32 key = 0;

	(void)state;
	assert_non_null(none);
	bpf_map__update_elem(
		skeleton->maps.limit_results, &key, sizeof(key), none, cpus * sizeof(*none), BPF_ANY);
	free(none);
	return 0;
}

struct asker {
	pthread_t thread;
	unsigned int cpu;
	struct limit_question question;
	uint32_t repeat;
};

static void *ask_on_cpu(void *context)
{
	struct asker *asker = context;
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(asker->cpu, &set);
	sched_setaffinity(0, sizeof(set), &set);
	ask(&asker->question, asker->repeat);
	return NULL;
}

/* Every CPU asks for packets of one limit, faster than they may pass. */
static void several_cpus_share_one_exact_limit(void **state)
{
	const struct policy_limit limit = {
		.rate = {200000, 100000, SECOND}, .unit = POLICY_LIMIT_PACKETS, .generation = 1};
	const struct limit_question question = {.place = 1, .packets = 1, .bytes = 60, .family = 4};
	struct asker askers[64] = {};
	unsigned int count = cpus < 64 ? cpus : 64;
	struct limit_result sum;
	uint64_t least, most;

	(void)state;
	limit_put(1, &limit);
	for (unsigned int i = 0; i < count; i++) {
		askers[i] = (struct asker){.cpu = i, .question = question, .repeat = 1000000};
		assert_int_equal(pthread_create(&askers[i].thread, NULL, ask_on_cpu, &askers[i]), 0);
	}
	for (unsigned int i = 0; i < count; i++)
		pthread_join(askers[i].thread, NULL);
	while (ask(&question, 1) == 0)
		;
	sum = results();
	/* that last question was refused: all that was due was given */
	most = 100000 + (sum.last_to - sum.first_from) * 200000 / SECOND + 1;
	least = 100000 + (sum.last_from - sum.first_to) * 200000 / SECOND - 1;
	print_message("%llu of %llu questions within, %llu to %llu were due\n", sum.within,
		sum.within + sum.over, (unsigned long long)least, (unsigned long long)most);
	assert_true(sum.over > 0);
	assert_in_range(sum.within, least, most);
}

static void sources_are_told_apart(void **state)
{
	const struct policy_limit limit = {.rate = {1, 3, 86400 * SECOND},
		.unit = POLICY_LIMIT_PACKETS,
		.per = POLICY_PER_SOURCE,
		.prefix4 = 24,
		.prefix6 = 56,
		.generation = 2};
	struct limit_question question = {.place = 2, .packets = 1, .bytes = 60, .family = 4};

	(void)state;
	limit_put(2, &limit);
	for (uint32_t net = 0; net < 20; net++)
		for (uint32_t host = 0; host < 5; host++) {
			question.src[0] = htonl(0x0a000000 + (net << 8) + host * 50);
			question.dst[0] = htonl(host);
			assert_int_equal(ask(&question, 1), host < 3 ? 0 : 1);
		}
	question.family = 6;
	for (uint32_t net = 0; net < 20; net++)
		for (uint32_t host = 0; host < 5; host++) {
			question.src[0] = htonl(0x20010db8);
			question.src[1] = htonl((net << 8) + host * 50);
			question.src[2] = question.src[3] = htonl(host);
			assert_int_equal(ask(&question, 1), host < 3 ? 0 : 1);
		}
	/* the same place with another generation: another limit */
	limit_put(2, &(struct policy_limit){.rate = limit.rate,
			     .unit = POLICY_LIMIT_PACKETS,
			     .per = POLICY_PER_SOURCE,
			     .prefix4 = 24,
			     .prefix6 = 56,
			     .generation = 3});
	assert_int_equal(ask(&question, 1), 0);
}

static void destinations_have_bytes(void **state)
{
	const struct policy_limit limit = {.rate = {1, 4000, 86400 * SECOND},
		.unit = POLICY_LIMIT_BYTES,
		.per = POLICY_PER_DESTINATION,
		.prefix4 = 32,
		.prefix6 = 128,
		.generation = 4};
	struct limit_question question = {.place = 3, .packets = 1, .bytes = 1500, .family = 6};

	(void)state;
	limit_put(3, &limit);
	for (uint32_t host = 0; host < 20; host++) {
		question.dst[3] = htonl(host);
		question.bytes = 1500;
		assert_int_equal(ask(&question, 1), 0);
		assert_int_equal(ask(&question, 1), 0);
		assert_int_equal(ask(&question, 1), 1);
		question.bytes = 1001;
		assert_int_equal(ask(&question, 1), 1);
		question.bytes = 1000;
		assert_int_equal(ask(&question, 1), 0);
		question.src[0]++;
		assert_int_equal(ask(&question, 1), 1);
	}
}

static void what_takes_no_room_is_counted(void **state)
{
	const struct policy_limit limit = {.rate = {1, 1, 86400 * SECOND},
		.unit = POLICY_LIMIT_PACKETS,
		.per = POLICY_PER_SOURCE,
		.prefix4 = 32,
		.generation = 5};
	const struct limit_question question = {.place = 4, .packets = 1, .family = 4};
	struct limit_result sum;
	__u32 key = 0;

	(void)state;
	limit_put(4, &limit);
	assert_int_equal(bpf_map__delete_elem(skeleton->maps.limit_sources, &key, sizeof(key), 0), 0);
	ask(&question, 5);
	sum = results();
	assert_int_equal(sum.full, 5);
}

static void connections_are_counted(void **state)
{
	const struct policy_limit limit = {.rate = {.burst = 3},
		.unit = POLICY_LIMIT_CONNECTIONS,
		.per = POLICY_PER_SOURCE,
		.prefix4 = 32,
		.prefix6 = 64,
		.generation = 6};
	struct limit_question question = {.place = 5, .connection = LIMIT_BEGINS, .family = 6};
	cpu_set_t set;

	(void)state;
	CPU_ZERO(&set);
	CPU_SET(0, &set); /* it ends where it began */
	sched_setaffinity(0, sizeof(set), &set);
	assert_int_equal(bpf_map__update_elem(skeleton->maps.rule_limits, &question.place, sizeof(__u32),
				 &limit, sizeof(limit), BPF_ANY),
		0);
	for (uint32_t net = 0; net < 50; net++) {
		question.src[1] = htonl(net);
		question.connection = LIMIT_BEGINS;
		for (uint32_t host = 0; host < 5; host++) {
			question.src[3] = htonl(host);
			assert_int_equal(ask(&question, 1), host < 3 ? 0 : 1);
		}
		question.connection = LIMIT_ENDS;
		ask(&question, 2);
		question.connection = LIMIT_BEGINS;
		assert_int_equal(ask(&question, 1), 0);
		assert_int_equal(ask(&question, 1), 0);
		assert_int_equal(ask(&question, 1), 1);
	}
	question.connection = LIMIT_PACKET;
	assert_int_equal(ask(&question, 1), 0);
}

static int sources_put(void)
{
	__u32 key = 0;
	int map = bpf_map_create(BPF_MAP_TYPE_LRU_HASH, "limit_sources", sizeof(struct policy_limited),
		sizeof(struct token_bucket), SOURCES_MAX, NULL);
	int r = map < 0 ? map
	                : bpf_map__update_elem(skeleton->maps.limit_sources, &key, sizeof(key), &map,
				  sizeof(map), BPF_ANY);

	if (map >= 0)
		close(map);
	return r;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(several_cpus_share_one_exact_limit, setup),
		cmocka_unit_test_setup(sources_are_told_apart, setup),
		cmocka_unit_test_setup(destinations_have_bytes, setup),
		cmocka_unit_test_setup(connections_are_counted, setup),
		cmocka_unit_test_setup(what_takes_no_room_is_counted, setup),
	};
	int r;

	libbpf_set_strict_mode(LIBBPF_STRICT_ALL);
	libbpf_set_print(quiet);
	cpus = (unsigned int)libbpf_num_possible_cpus();
	skeleton = limit_test_bpf__open_and_load();
	if (!skeleton || sources_put() < 0) {
		printf("1..0 # SKIP the programs cannot be loaded\n");
		return 0;
	}
	r = cmocka_run_group_tests(tests, NULL, NULL);
	limit_test_bpf__destroy(skeleton);
	return r;
}
