// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* The flow cache: what stays, what is pushed out, and that nothing goes uncounted. */
#include <errno.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <bpf/libbpf.h>
#include <cmocka.h>

#include "bpf/harness.h"

#define LINES      64
#define RING_BYTES 65536

static struct harness harness;

static uint8_t packet4[54] = {2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0, 0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6,
	0, 0, 10, 0, 0, 0, 10, 9, 0, 2, 0x13, 0x88, 0x01, 0xbb, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x10, 1, 0, 0,
	0, 0, 0};
static uint8_t packet6[74] = {2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x86, 0xdd, 0x60, 0, 0, 0, 0, 20, 6, 64,
	0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2,
	0x13, 0x88, 0x01, 0xbb, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x10, 1, 0, 0, 0, 0, 0};

static void send(int family, uint16_t flow, const struct harness_context *context)
{
	uint8_t *packet = family == 4 ? packet4 : packet6;
	size_t address = family == 4 ? 28 : 36, size = family == 4 ? sizeof(packet4) : sizeof(packet6);

	packet[address] = (uint8_t)(flow >> 8);
	packet[address + 1] = (uint8_t)flow;
	assert_int_equal(
		harness_run(&harness, harness.watch->progs.watch_ethernet_in, packet, size, context), -1);
}

struct records {
	uint64_t packets, bytes;
	unsigned int count;
};

static int add_record(void *context, void *data, size_t size)
{
	struct records *records = context;
	const struct flow_record4 *record4 = data;
	const struct flow_record6 *record6 = data;
	const struct flow_counts *counts =
		record4->family == 6 ? &record6->flow.counts : &record4->flow.counts;

	if (size < (record4->family == 6 ? sizeof(*record6) : sizeof(*record4)))
		return -EINVAL;
	records->packets += counts->packets;
	records->bytes += counts->bytes;
	records->count++;
	return 0;
}

static struct records read_rings(void)
{
	struct records records = {};

	for (unsigned int cpu = 0; cpu < harness.cpus; cpu++) {
		struct ring_buffer *ring = ring_buffer__new(harness.rings[cpu], add_record, &records, NULL);

		assert_non_null(ring);
		ring_buffer__consume(ring);
		ring_buffer__free(ring);
	}
	return records;
}

static void assert_invariant(void)
{
	struct flow_stats stats = harness_stats(&harness);

	assert_int_equal(stats.seen, stats.cached + stats.emitted + stats.lost);
}

static int setup(void **state)
{
	(void)state;
	read_rings();
	harness_clear(&harness);
	return 0;
}

static void one_line_per_flow(void **state)
{
	(void)state;
	for (int round = 0; round < 5; round++)
		for (uint16_t flow = 0; flow < 4; flow++) {
			send(4, flow, NULL);
			send(6, flow, NULL);
		}
	assert_int_equal(harness_lines(&harness), 8);
	assert_int_equal(harness_stats(&harness).seen, 40);
	assert_int_equal(harness_stats(&harness).emitted, 0);
	assert_invariant();
}

static void counts_add_up(void **state)
{
	struct harness_line line;

	(void)state;
	for (int i = 0; i < 10; i++)
		send(4, 1, NULL);
	send(4, 1, &(struct harness_context){.gso_segs = 3, .gso_size = 1});
	assert_true(harness_last(&harness, &line));
	assert_int_equal(line.counts.packets, 13);
	assert_int_equal(line.counts.bytes, 10 * 54 + 54 + 2 * 54);
	assert_true(line.counts.last >= line.first);
}

static void pushed_out_lines_are_records(void **state)
{
	struct flow_stats stats;
	struct records records;

	(void)state;
	for (uint16_t flow = 0; flow < 400; flow++)
		send(4, flow, NULL);
	for (uint16_t flow = 0; flow < 300; flow++)
		send(6, flow, NULL);
	stats = harness_stats(&harness);
	assert_int_equal(stats.seen, 700);
	assert_true(stats.emitted > 700 - 2 * LINES - 1);
	assert_int_equal(stats.lost, 0);
	assert_invariant();
	records = read_rings();
	assert_int_equal(records.packets, stats.emitted);
	assert_int_equal(records.count, stats.records);
	assert_int_equal(records.packets + stats.cached, 700);
	assert_true(harness_lines(&harness) <= 2 * LINES);
}

static void full_ring_is_counted_as_lost(void **state)
{
	struct flow_stats stats;
	struct records records;

	(void)state;
	for (uint16_t flow = 0; flow < 4000; flow++)
		send(4, flow, NULL); /* nobody reads: 64 KiB take some 800 records */
	stats = harness_stats(&harness);
	assert_true(stats.lost > 0);
	assert_int_equal(stats.lost_bytes, stats.lost * 54);
	assert_invariant();
	records = read_rings();
	assert_int_equal(records.packets, stats.emitted);
	assert_int_equal(stats.cached + records.packets + stats.lost, 4000);
}

static void line_is_pushed_out_before_it_wraps(void **state)
{
	const struct harness_context huge = {.gso_segs = 65535, .gso_size = 1};
	struct flow_stats stats;
	struct records records;
	uint64_t sent = 0;

	(void)state;
	/* bring the line near the end of its 32 bits by hand, then step over it */
	send(4, 1, NULL);
	for (size_t i = 0; i < (size_t)harness.cpus * LINES; i++) {
		struct flow_line4 *line = &harness.cache4[i / FLOW_WAYS].line[i % FLOW_WAYS];

		if (!line->serial)
			continue;
		line->counts.packets = 0xf0000000 - 65535;
		harness.stats[i / LINES].cached = harness.stats[i / LINES].seen = line->counts.packets;
	}
	sent = 0xf0000000ULL - 65535;
	for (int i = 0; i < 3; i++, sent += 65535)
		send(4, 1, &huge);
	stats = harness_stats(&harness);
	assert_int_equal(stats.seen, sent);
	assert_int_equal(stats.records, 1);
	assert_invariant();
	records = read_rings();
	assert_int_equal(records.packets, stats.emitted);
	assert_int_equal(stats.cached, sent - stats.emitted);
	assert_int_equal(harness_lines(&harness), 1);
}

static void serials_differ(void **state)
{
	uint32_t serials[200] = {};
	struct harness_line line;

	(void)state;
	for (uint16_t flow = 0; flow < 200; flow++) {
		send(4, flow, NULL);
		assert_true(harness_last(&harness, &line));
		serials[flow] = line.serial;
		assert_true(flow == 0 || serials[flow] == serials[flow - 1] + 1);
	}
}

static void serial_steps_over_zero(void **state)
{
	(void)state;
	for (unsigned int cpu = 0; cpu < harness.cpus; cpu++)
		harness.stats[cpu].serial = UINT32_MAX;
	send(4, 1, NULL);
	assert_int_equal(harness_lines(&harness), 1);
}

/* What a packet of this flow leaves where nothing was before. */
static struct harness_line line_alone(const uint8_t *packet, size_t size)
{
	struct harness_line line;

	harness_clear(&harness);
	harness_run(&harness, harness.watch->progs.watch_ethernet_in, packet, size, NULL);
	assert_true(harness_last(&harness, &line));
	return line;
}

static bool line_is_of(const struct harness_line *a, const struct harness_line *b)
{
	return !memcmp(a->src, b->src, sizeof(a->src)) && !memcmp(a->dst, b->dst, sizeof(a->dst)) &&
	       a->sport == b->sport && a->dport == b->dport && a->vlan == b->vlan && a->proto == b->proto &&
	       a->kind == b->kind;
}

/* Packets of known flows go a short way (bpf/lib/quick.h), the first of a flow never does.  Both have to find
 * the same flow in the same bytes. */
static void damaged_packets_find_their_flow(void **state)
{
	uint32_t random = 1, others = 0;

	(void)state;
	for (int round = 0; round < 20000; round++) {
		uint8_t sound[sizeof(packet4) + 20] = {}, packet[sizeof(sound)];
		struct harness_line line, known;
		bool same;

		memcpy(sound, packet4, sizeof(packet4));
		sound[23] = round & 1 ? 6 : 17;
		memcpy(packet, sound, sizeof(packet));
		for (int damage = 0; damage <= round % 3; damage++) {
			random = random * 1664525 + 1013904223;
			packet[12 + (random >> 8) % 42] ^= (uint8_t)(1 << (random >> 29));
		}
		line = line_alone(packet, sizeof(packet));
		known = line_alone(sound, sizeof(sound));
		same = line_is_of(&line, &known);
		others += !same;
		for (int i = 0; i < 2; i++)
			harness_run(
				&harness, harness.watch->progs.watch_ethernet_in, sound, sizeof(sound), NULL);
		harness_run(&harness, harness.watch->progs.watch_ethernet_in, packet, sizeof(packet), NULL);
		assert_int_equal(harness_lines(&harness), same ? 1 : 2);
		assert_true(harness_last(&harness, &known));
		assert_true(line_is_of(&known, &line));
		assert_int_equal(known.counts.packets, same ? 4 : 1);
		assert_int_equal(known.marks.tcp_flags & line.marks.tcp_flags, line.marks.tcp_flags);
		assert_invariant();
	}
	assert_in_range(others, 1, 19999);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		{"a flow has one line, whichever packet of it comes", one_line_per_flow, setup, NULL, NULL},
		{"counts of a line add up in wire packets and wire bytes", counts_add_up, setup, NULL, NULL},
		{"lines that are pushed out arrive as records, to the packet", pushed_out_lines_are_records,
			setup, NULL, NULL},
		{"records that find the ring full are counted as lost", full_ring_is_counted_as_lost, setup,
			NULL, NULL},
		{"a line is pushed out before its packet counter wraps", line_is_pushed_out_before_it_wraps,
			setup, NULL, NULL},
		{"every filling of a line has the next serial", serials_differ, setup, NULL, NULL},
		{"damaged packets find their flow, or another, whatever was there before",
			damaged_packets_find_their_flow, setup, NULL, NULL},
		{"a wrapped serial is never 0, which means empty", serial_steps_over_zero, setup, NULL, NULL},
	};
	cpu_set_t cpu;
	int r;

	/* one CPU's part of the cache is what is looked at */
	CPU_ZERO(&cpu);
	CPU_SET(0, &cpu);
	sched_setaffinity(0, sizeof(cpu), &cpu);
	if (harness_open(&harness, LINES, RING_BYTES) < 0)
		return 1;
	r = _cmocka_run_group_tests("cache", tests, sizeof(tests) / sizeof(tests[0]), NULL, NULL);
	harness_close(&harness);
	return r;
}
