// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* Frames through the real program that steers: which CPU, what is counted, and checksums that are finished.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <bpf/bpf.h>
#include <cmocka.h>
#include <linux/bpf.h>

#include "compile/steer.h"
#include "lib/policy.h"
#include "shared/forward.h"
#include "steer.skel.h"

#define FRAME_MAX 2048
#define ETHERNET  14
#define TCP       6
#define UDP       17

static struct steer_bpf *programs;
static unsigned int cpus;

/* -- frames -- */

struct frame {
	uint8_t bytes[FRAME_MAX];
	uint32_t length, transport, check; /* where the transport header and its checksum are */
	uint8_t proto;
	int v6;
};

static uint64_t random_state = 11;

static uint8_t random_byte(void)
{
	random_state ^= random_state >> 12;
	random_state ^= random_state << 25;
	random_state ^= random_state >> 27;
	return (uint8_t)(random_state * 0x2545f4914f6cdd1dULL >> 56);
}

static uint32_t sum_words(const uint8_t *bytes, uint32_t count, uint32_t sum)
{
	for (uint32_t i = 0; i + 1 < count; i += 2)
		sum += (uint32_t)bytes[i] << 8 | bytes[i + 1];
	if (count & 1)
		sum += (uint32_t)bytes[count - 1] << 8;
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

static uint32_t pseudo_sum(const struct frame *frame)
{
	uint32_t addresses = ETHERNET + (frame->v6 ? 8 : 12), bytes = frame->v6 ? 32 : 8;

	return sum_words(frame->bytes + addresses, bytes, frame->proto + (frame->length - frame->transport));
}

static void put16(uint8_t *to, uint32_t value)
{
	to[0] = (uint8_t)(value >> 8);
	to[1] = (uint8_t)value;
}

static uint32_t get16(const uint8_t *from)
{
	return (uint32_t)from[0] << 8 | from[1];
}

/* Random addresses and bytes; its checksum is what a local sender leaves. */
static struct frame frame_make(int v6, uint8_t proto, uint32_t payload)
{
	uint32_t header = proto == TCP ? 20 : 8, network = v6 ? 40 : 20;
	struct frame frame = {.proto = proto, .v6 = v6};
	uint8_t *ip = frame.bytes + ETHERNET;

	frame.transport = ETHERNET + network;
	frame.length = frame.transport + header + payload;
	assert_true(frame.length <= FRAME_MAX);
	for (uint32_t i = 0; i < frame.length; i++)
		frame.bytes[i] = random_byte();
	put16(frame.bytes + 12, v6 ? 0x86dd : 0x0800);
	if (v6) {
		memset(ip, 0, 8);
		ip[0] = 0x60;
		put16(ip + 4, header + payload);
		ip[6] = proto;
	} else {
		ip[0] = 0x45;
		put16(ip + 2, network + header + payload);
		put16(ip + 6, 0);
		ip[9] = proto;
	}
	if (proto == TCP)
		frame.bytes[frame.transport + 12] = 0x50;
	else
		put16(frame.bytes + frame.transport + 4, header + payload);
	frame.check = frame.transport + (proto == TCP ? 16 : 6);
	put16(frame.bytes + frame.check, pseudo_sum(&frame));
	return frame;
}

/* 0xffff: the checksum is right. */
static uint32_t frame_sum(const struct frame *frame)
{
	return sum_words(
		frame->bytes + frame->transport, frame->length - frame->transport, pseudo_sum(frame));
}

static int run(struct frame *frame)
{
	struct frame out = *frame;
	LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = frame->bytes, .data_size_in = frame->length,
		.data_out = out.bytes, .data_size_out = sizeof(out.bytes), .repeat = 1);

	assert_int_equal(bpf_prog_test_run_opts(bpf_program__fd(programs->progs.steer), &options), 0);
	assert_int_equal(options.data_size_out, frame->length);
	*frame = out;
	return (int)options.retval;
}

/* -- books -- */

/* Frames of a test run come in by interface 1, which is eth0 in the tests' world. */
static void steer_by(const char *const *sentences, uint32_t flags, int place)
{
	LIBBPF_OPTS(bpf_map_create_opts, options, .map_flags = BPF_F_MMAPABLE | BPF_F_INNER_MAP);
	const struct steer_cpus there = {.words = {~0ULL}};
	struct steer_input inputs[STEERS_MAX];
	struct policy_rules rules = {};
	struct policy_image image = {};
	struct error error = {0};
	struct steer *steers;
	size_t count = 0;
	int map;

	for (size_t i = 0; sentences[i]; i++)
		policy_rules_add(&rules, sentences[i]);
	for (size_t i = 0; i < rules.count; i++)
		inputs[i] = (struct steer_input){&rules.rules[i], (uint32_t)i + 1};
	assert_int_equal(steer_compile(inputs, rules.count, rules.order.world, &there, &image, &error), 0);
	steers = (struct steer *)steer_sentences(image.units, image.count, &count);
	for (size_t i = 0; i < count; i++)
		steers[i].flags = flags;
	map = bpf_map_create(BPF_MAP_TYPE_ARRAY, "steer_book", 4, sizeof(struct policy_unit),
		(uint32_t)image.count, &options);
	assert_true(map >= 0);
	for (uint32_t i = 0; i < image.count; i++)
		assert_int_equal(bpf_map_update_elem(map, &i, &image.units[i], BPF_ANY), 0);
	assert_int_equal(
		bpf_map_update_elem(bpf_map__fd(programs->maps.steer_books), &place, &map, BPF_ANY), 0);
	policy_image_clear(&image);
	policy_rules_clear(&rules);
}

static void in_force(struct policy_now now)
{
	uint32_t zero = 0;

	assert_int_equal(
		bpf_map_update_elem(bpf_map__fd(programs->maps.policy_now), &zero, &now, BPF_ANY), 0);
}

static void count_from_zero(uint32_t rule, uint32_t cpu)
{
	const struct steer_key key = {rule, cpu};
	struct steer_count *zeros = calloc(cpus, sizeof(*zeros));

	assert_int_equal(
		bpf_map_update_elem(bpf_map__fd(programs->maps.steer_counts), &key, zeros, BPF_ANY), 0);
	free(zeros);
}

static struct steer_count counted(uint32_t rule, uint32_t cpu)
{
	const struct steer_key key = {rule, cpu};
	struct steer_count *counts = calloc(cpus, sizeof(*counts)), sum = {};

	assert_int_equal(bpf_map_lookup_elem(bpf_map__fd(programs->maps.steer_counts), &key, counts), 0);
	for (unsigned int i = 0; i < cpus; i++) {
		sum.packets += counts[i].packets;
		sum.bytes += counts[i].bytes;
	}
	free(counts);
	return sum;
}

static uint64_t absent(uint32_t cpu)
{
	struct steer_loss *losses = calloc(cpus, sizeof(*losses));
	uint64_t sum = 0;

	assert_int_equal(bpf_map_lookup_elem(bpf_map__fd(programs->maps.steer_losses), &cpu, losses), 0);
	for (unsigned int i = 0; i < cpus; i++)
		sum += losses[i].absent;
	free(losses);
	return sum;
}

/* -- tests -- */

static const char *const to_one[] = {"steer in on eth0 to cpus 1", NULL};

static void packets_are_handed_on_and_counted(void **state)
{
	static const char *const sentences[] = {
		"steer in on eth0 udp to cpus 1", "steer in on eth0 tcp to cpus 0", NULL};
	struct frame udp = frame_make(0, UDP, 100), tcp = frame_make(1, TCP, 100);

	(void)state;
	count_from_zero(1, 1);
	count_from_zero(2, 0);
	in_force((struct policy_now){});
	steer_by(sentences, STEER_READY, 0);
	assert_int_equal(run(&udp), XDP_REDIRECT);
	assert_int_equal(run(&udp), XDP_REDIRECT);
	assert_int_equal(run(&tcp), XDP_PASS); /* its CPU is the one that this test runs on */
	assert_int_equal(counted(1, 1).packets, 2);
	assert_int_equal(counted(1, 1).bytes, 2 * udp.length);
	assert_int_equal(counted(2, 0).packets, 1);
	assert_int_equal(counted(2, 0).bytes, tcp.length);
}

static void what_cannot_be_handed_on_goes_on(void **state)
{
	static const char *const to_none[] = {"steer in on eth0 to cpus 63", NULL};
	struct frame frame = frame_make(0, UDP, 10);

	(void)state;
	count_from_zero(1, 1);
	in_force((struct policy_now){});
	steer_by(to_one, 0, 0);
	assert_int_equal(run(&frame), XDP_PASS);
	assert_int_equal(counted(1, 1).packets, 0);
	steer_by(to_none, STEER_READY, 0);
	assert_int_equal(run(&frame), XDP_PASS);
	if (cpus > 63)
		assert_int_equal(absent(63), 1);
}

static void books_change_at_one_point(void **state)
{
	static const char *const nobody[] = {"steer in on eth5 to cpus 1", NULL};
	const uint64_t bit = 1ULL << STEER_PLACE;
	struct frame frame = frame_make(0, UDP, 10);

	(void)state;
	count_from_zero(1, 1);
	steer_by(nobody, STEER_READY, 0);
	steer_by(to_one, STEER_READY, 1);
	in_force((struct policy_now){});
	assert_int_equal(run(&frame), XDP_PASS);
	in_force((struct policy_now){.places = bit});
	assert_int_equal(run(&frame), XDP_REDIRECT);
	/* a deadline that has passed, and one that has not */
	in_force((struct policy_now){.places = bit, .deadline = 1});
	assert_int_equal(run(&frame), XDP_PASS);
	in_force((struct policy_now){.places_before = bit, .deadline = 1});
	assert_int_equal(run(&frame), XDP_REDIRECT);
}

static void checksums_are_finished(void **state)
{
	static const uint32_t payloads[] = {
		0, 1, 2, 3, 4, 17, 100, 483, 484, 485, 492, 493, 1000, 1003, 1448};

	(void)state;
	count_from_zero(1, 1);
	in_force((struct policy_now){});
	steer_by(to_one, STEER_READY | STEER_FINISH, 0);
	for (int v6 = 0; v6 < 2; v6++)
		for (size_t i = 0; i < sizeof(payloads) / sizeof(payloads[0]); i++)
			for (int udp = 0; udp < 2; udp++) {
				struct frame frame = frame_make(v6, udp ? UDP : TCP, payloads[i]), before;

				assert_int_equal(run(&frame), XDP_REDIRECT);
				assert_int_equal(frame_sum(&frame), 0xffff);
				assert_true(!udp || get16(frame.bytes + frame.check));
				/* finished, it stays as it is */
				before = frame;
				assert_int_equal(run(&frame), XDP_REDIRECT);
				assert_memory_equal(frame.bytes, before.bytes, frame.length);
			}
}

static void what_is_right_or_wrong_stays(void **state)
{
	(void)state;
	in_force((struct policy_now){});
	steer_by(to_one, STEER_READY | STEER_FINISH, 0);
	for (int i = 0; i < 100; i++) {
		struct frame frame = frame_make(i & 1, i & 2 ? UDP : TCP, 200), before;
		uint8_t *word = frame.bytes + frame.length - 2;

		/* one that is right, and has the sum of the pseudo-header as its checksum, by chance */
		put16(word, 0);
		put16(word, 0xffff - frame_sum(&frame));
		assert_int_equal(frame_sum(&frame), 0xffff);
		before = frame;
		assert_int_equal(run(&frame), XDP_REDIRECT);
		assert_memory_equal(frame.bytes, before.bytes, frame.length);
		/* and one that is wrong: it is not for us to mend */
		put16(frame.bytes + frame.check, get16(frame.bytes + frame.check) ^ 0x1010);
		before = frame;
		assert_int_equal(run(&frame), XDP_REDIRECT);
		assert_memory_equal(frame.bytes, before.bytes, frame.length);
	}
}

static int open_programs(void **state)
{
	const struct bpf_cpumap_val queue = {.qsize = 64};
	uint32_t one = 1;
	cpu_set_t here;

	(void)state;
	libbpf_set_strict_mode(LIBBPF_STRICT_ALL);
	cpus = (unsigned int)libbpf_num_possible_cpus();
	programs = steer_bpf__open();
	if (!programs || cpus < 2) {
		print_message("steer: no program, or one CPU\n");
		return -1;
	}
	bpf_map__set_max_entries(programs->maps.steer_cpus, cpus);
	bpf_map__set_max_entries(programs->maps.steer_losses, cpus);
	if (steer_bpf__load(programs)) {
		print_message("steer: programs cannot be loaded: %s\n", strerror(errno));
		return -1;
	}
	CPU_ZERO(&here);
	CPU_SET(0, &here);
	if (sched_setaffinity(0, sizeof(here), &here))
		return -1;
	return bpf_map_update_elem(bpf_map__fd(programs->maps.steer_cpus), &one, &queue, BPF_ANY);
}

static int close_programs(void **state)
{
	(void)state;
	steer_bpf__destroy(programs);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		{"packets are handed on to the CPU of the first sentence that fits, and counted",
			packets_are_handed_on_and_counted, NULL, NULL, NULL},
		{"what cannot be handed on goes on where it came in", what_cannot_be_handed_on_goes_on, NULL,
			NULL, NULL},
		{"books change at one point, and go back at the deadline", books_change_at_one_point, NULL,
			NULL, NULL},
		{"checksums that are not finished are", checksums_are_finished, NULL, NULL, NULL},
		{"checksums that are right, or wrong, stay as they are", what_is_right_or_wrong_stays, NULL,
			NULL, NULL},
	};

	return cmocka_run_group_tests(tests, open_programs, close_programs);
}
