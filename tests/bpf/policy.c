// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * The kernel judges packets as the rules say, one after the other: 131,072 packets for each policy.
 * ClassBench's filters are those of ../shared/data/classbench, or of the directory in CLASSBENCH.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <glob.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lib/policy.h"
#include "policy_test.skel.h"

#define HEADERS   (1U << 17)
#define FITS_MOST 40 /* rules that judge_all looks for */

struct header {
	struct policy_facts facts;
	uint32_t unit, fits, fickle, broken;
};

static struct policy_test_bpf *skeleton;
static struct header *headers;

static int open_skeleton(void **unused)
{
	(void)unused;
	skeleton = policy_test_bpf__open();
	assert_non_null(skeleton);
	skeleton->rodata->header_mask = HEADERS - 1;
	bpf_map__set_max_entries(skeleton->maps.headers, HEADERS);
	if (policy_test_bpf__load(skeleton)) {
		print_error("the kernel does not load the programs\n");
		return -1;
	}
	headers = mmap(NULL, HEADERS * sizeof(*headers), PROT_READ | PROT_WRITE, MAP_SHARED,
		bpf_map__fd(skeleton->maps.headers), 0);
	return headers == MAP_FAILED ? -1 : 0;
}

static int close_skeleton(void **unused)
{
	(void)unused;
	munmap(headers, HEADERS * sizeof(*headers));
	policy_test_bpf__destroy(skeleton);
	return 0;
}

static void bring(const struct policy_image *image)
{
	LIBBPF_OPTS(bpf_map_create_opts, options, .map_flags = BPF_F_INNER_MAP | BPF_F_MMAPABLE);
	int map = bpf_map_create(BPF_MAP_TYPE_ARRAY, "policy", sizeof(uint32_t), sizeof(struct policy_unit),
		(uint32_t)image->count, &options);
	size_t bytes = image->count * sizeof(struct policy_unit);
	uint32_t zero = 0;
	void *memory;

	assert_true(map >= 0);
	memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, map, 0);
	assert_ptr_not_equal(memory, MAP_FAILED);
	memcpy(memory, image->units, bytes);
	munmap(memory, bytes);
	assert_int_equal(bpf_map_update_elem(bpf_map__fd(skeleton->maps.policies), &zero, &map, 0), 0);
	close(map);
}

static void run(const struct bpf_program *program)
{
	char packet[64] = {0};
	LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = packet, .data_size_in = sizeof(packet),
		.repeat = HEADERS);

	skeleton->bss->turn = 0;
	assert_int_equal(bpf_prog_test_run_opts(bpf_program__fd(program), &options), 0);
	assert_int_equal(options.retval, 0);
}

static void expect_judged(const struct policy_rules *rules, const char *name, bool every, uint64_t *state)
{
	struct policy_headers made;
	struct policy_judge *judge = NULL;
	struct policy_image image;
	struct error error = {0};
	size_t wrong = 0, hits = 0;

	if (policy_compile(&rules->order, &image, &error) ||
		policy_judge_open(&rules->order, &judge, &error)) {
		error_print(&error, name, stderr);
		fail();
	}
	bring(&image);
	policy_headers_make(&made, judge, HEADERS, state);
	for (size_t i = 0; i < HEADERS; i++)
		headers[i] = (struct header){.facts = made.facts[i]};
	run(every ? skeleton->progs.judge_all : skeleton->progs.judge);
	for (size_t i = 0; i < HEADERS; i++) {
		size_t wanted = policy_judge(judge, &headers[i].facts, 0), found = rules->count, fits = 0;

		if (headers[i].unit)
			found = ((const struct policy_rule *)&image.units[headers[i].unit])->source;
		hits += found < rules->count;
		for (size_t at = wanted; every && at < rules->count && fits < FITS_MOST; fits++)
			at = policy_judge(judge, &headers[i].facts, at + 1);
		if (found == wanted && headers[i].fits == fits && !headers[i].broken)
			continue;
		if (!wrong++)
			print_error("%s: packet %zu: rule %zu instead of %zu, %u fit instead of %zu\n", name,
				i, found, wanted, headers[i].fits, fits);
	}
	print_message("%s: %zu rules, %.1f MiB, %u packets, %zu fit a rule, %zu are judged wrongly\n", name,
		rules->count, (double)image.count * sizeof(*image.units) / 1048576, HEADERS, hits, wrong);
	assert_int_equal(wrong, 0);
	assert_true(hits > 0 || rules->count < 10);
	policy_headers_clear(&made);
	policy_judge_close(judge);
	policy_image_clear(&image);
}

static void test_random(void **unused)
{
	static const size_t counts[] = {1, 10, 40, 300, 3000};
	uint64_t state = 4711;

	(void)unused;
	for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++)
		for (int xdp = 0; xdp < 2; xdp++) {
			struct policy_rules rules = {0};
			char name[64];

			if (xdp)
				policy_rules_add(&rules, "count in dscp 1");
			policy_rules_random(&rules, counts[i], &state);
			if (xdp)
				policy_rules_add(&rules, "drop in to 10.0.0.0/9");
			rules.order.xdp = xdp;
			snprintf(name, sizeof(name), "%zu rules of every kind%s", counts[i],
				xdp ? " in XDP" : "");
			expect_judged(&rules, name, counts[i] <= FITS_MOST, &state);
			policy_rules_clear(&rules);
		}
}

static void test_classbench(void **unused)
{
	const char *place = getenv("CLASSBENCH");
	uint64_t state = 4712;
	char pattern[512];
	glob_t found = {0};

	(void)unused;
	snprintf(pattern, sizeof(pattern), "%s/*_1*k",
		place ? place : SOURCE_ROOT "/../shared/data/classbench");
	if (glob(pattern, 0, NULL, &found)) {
		print_message("there is no %s\n", pattern);
		skip();
	}
	for (size_t i = 0; i < found.gl_pathc; i++)
		for (unsigned int flags = 0; flags < 4; flags++) {
			struct policy_rules rules = {0};
			char name[64];

			/* addresses alone, and with flags, in turn for IPv4 and IPv6 */
			if (flags != (i & 1 ? 1 : 0) && flags != (i & 1 ? 2 : 3))
				continue;
			assert_int_equal(
				policy_rules_classbench(&rules, found.gl_pathv[i], SIZE_MAX, flags), 0);
			snprintf(name, sizeof(name), "%s, IPv%d%s", strrchr(found.gl_pathv[i], '/') + 1,
				flags & CLASSBENCH_IPV6 ? 6 : 4, flags & CLASSBENCH_FLAGS ? ", flags" : "");
			expect_judged(&rules, name, false, &state);
			policy_rules_clear(&rules);
		}
	globfree(&found);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		{.name = "rules of every kind decide in the kernel as they say", .test_func = test_random},
		{.name = "ClassBench's filters decide in the kernel as they say",
			.test_func = test_classbench},
	};

	libbpf_set_print(NULL);
	return cmocka_run_group_tests_name("policy", tests, open_skeleton, close_skeleton);
}
