// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * bench-connection: what the connection table costs, in nanoseconds a packet: look and commit, net of the
 * parser and of what makes each packet another one.  Then a flood: SYNs of 10 million sources, while a
 * thousand connections are there.
 *
 * Usage: bench-connection [-c CPU] [-n REPEAT] [-r ROUNDS]
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "connection_bench.skel.h"
#include "rounds.h"
#include "shared/connection.h"
#include "shared/policy.h"

#define CONNECTIONS 1048576
#define EMBRYOS     65536
#define KEPT        1000 /* connections that a flood must not push out */
#define FLOOD       10000000
#define SOURCES     0x0b000000
#define FRAME_BYTES 1054
#define BATCH       1024
#define SLICE       16384 /* of the sweep of a million */

enum { SAME, STREAM, MANY };

struct bench {
	struct connection_bench_bpf *programs;
	struct rounds rounds;
	uint8_t frame[FRAME_BYTES];
};

static void put16(uint8_t *at, uint32_t value)
{
	at[0] = (uint8_t)(value >> 8);
	at[1] = (uint8_t)value;
}

static void put32(uint8_t *at, uint32_t value)
{
	put16(at, value >> 16);
	put16(at + 2, value & 0xffff);
}

static void frame_set(struct bench *bench, uint32_t src, uint32_t sport, uint32_t dst, uint32_t dport,
	uint8_t proto, uint8_t flags, uint32_t seq, uint32_t ack)
{
	uint8_t *ip = bench->frame + 14, *l4 = ip + 20;

	memset(bench->frame, 0, sizeof(bench->frame));
	put16(bench->frame + 12, 0x0800);
	ip[0] = 0x45;
	put16(ip + 2, 40);
	ip[8] = 64;
	ip[9] = proto;
	put32(ip + 12, src);
	put32(ip + 16, dst);
	put16(l4, sport);
	put16(l4 + 2, dport);
	put32(l4 + 4, seq);
	put32(l4 + 8, ack);
	l4[12] = 0x50;
	l4[13] = flags;
	put16(l4 + 14, 60000);
}

static double run(const struct bench *bench, const struct bpf_program *program, uint32_t repeat)
{
	return program_run(program, bench->frame, FRAME_BYTES, repeat);
}

static void states_clear(struct bench *bench)
{
	memset(bench->programs->bss->states, 0, sizeof(bench->programs->bss->states));
}

/* Everything that is measured has to be of this state. */
static void states_check(const struct bench *bench, const char *what, unsigned int wanted)
{
	for (unsigned int state = 0; state < POLICY_STATES; state++)
		if (state != wanted && bench->programs->bss->states[state])
			printf("  (%s: %llu packets were of state %u)\n", what,
				(unsigned long long)bench->programs->bss->states[state], state);
}

static void measure(struct bench *bench, const char *what, unsigned int state)
{
	struct connection_bench_bpf *programs = bench->programs;
	double net[ROUNDS_MAX];

	states_clear(bench);
	for (int round = 0; round < bench->rounds.count; round++) {
		double before = run(bench, programs->progs.bench_plain, bench->rounds.repeat / 4), gross,
		       after;

		gross = run(bench, programs->progs.bench_connection, bench->rounds.repeat);
		after = run(bench, programs->progs.bench_plain, bench->rounds.repeat / 4);
		net[round] = gross - (before + after) / 2;
	}
	printf("%-58s  %7.1f\n", what, rounds_median(net, bench->rounds.count));
	fflush(stdout);
	states_check(bench, what, state);
}

static void connections_fill(
	struct bench *bench, uint32_t count, uint8_t proto, uint16_t sport, uint16_t dport)
{
	struct connection c = {.created = 1, .established = 1, .stage = CONNECTION_OPEN, .first = 1};

	for (uint32_t i = 0; i < count; i++) {
		/* 10.0.0.2, the smaller end, is whom they speak to */
		struct connection_key key = {.address = {{htonl(0x0a000002)}, {htonl(SOURCES + i)}},
			.port = {htons(dport), htons(sport)},
			.family = 4,
			.proto = proto};

		if (bpf_map__update_elem(
			    bench->programs->maps.connections, &key, sizeof(key), &c, sizeof(c), BPF_ANY) < 0)
			die("fill the table", errno);
	}
}

static uint64_t connections_count(const struct bpf_map *map)
{
	struct connection_key key, *before = NULL;
	uint64_t count = 0;

	while (bpf_map__get_next_key(map, before, &key, sizeof(key)) == 0) {
		before = &key;
		count++;
	}
	return count;
}

static double now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

/* Walks the table as the agent's sweep does. */
static void walk(const struct bench *bench)
{
	int map = bpf_map__fd(bench->programs->maps.connections), r;
	struct connection_key *keys = calloc(BATCH, sizeof(*keys));
	struct connection *values = calloc(BATCH, sizeof(*values));
	double begin = now_ms(), slice = begin, longest = 0;
	uint64_t seen = 0, sliced = 0;
	__u32 position = 0, count;

	if (!keys || !values)
		die("memory", ENOMEM);
	do {
		count = BATCH;
		r = bpf_map_lookup_batch(map, seen ? &position : NULL, &position, keys, values, &count, NULL);
		if (r < 0 && errno != ENOENT)
			die("walk", errno);
		seen += count;
		sliced += count;
		if (sliced >= SLICE || r < 0) {
			if (now_ms() - slice > longest)
				longest = now_ms() - slice;
			slice = now_ms();
			sliced = 0;
		}
	} while (r == 0);
	printf("\nwalking %llu connections: %.0f ms, at most %.1f ms in a slice of %u\n",
		(unsigned long long)seen, now_ms() - begin, longest, SLICE);
	free(keys);
	free(values);
}

static void open_programs(struct bench *bench)
{
	int r;

	bench->programs = connection_bench_bpf__open();
	if (!bench->programs)
		die("open", errno);
	bpf_map__set_max_entries(bench->programs->maps.connections, 2 * CONNECTIONS);
	bpf_map__set_max_entries(bench->programs->maps.embryos, EMBRYOS);
	bpf_map__set_max_entries(bench->programs->maps.fragments, 64);
	r = connection_bench_bpf__load(bench->programs);
	if (r < 0)
		die("load the bench's programs", r);
}

static void measure_stream(struct bench *bench)
{
	const struct bpf_program *program = bench->programs->progs.bench_connection;

	bench->programs->bss->counter = 0;
	bench->programs->bss->mode = SAME;
	frame_set(bench, SOURCES, 4000, 0x0a000002, 80, 6, 0x02, 100, 0);
	run(bench, program, 1);
	frame_set(bench, 0x0a000002, 80, SOURCES, 4000, 6, 0x12, 500, 101);
	run(bench, program, 1);
	frame_set(bench, SOURCES, 4000, 0x0a000002, 80, 6, 0x10, 101, 501);
	run(bench, program, 1);
	measure(bench, "TCP, followed: the same acknowledgement again", POLICY_STATE_ESTABLISHED);
}

/* Every run begins where the last one ended, so a stream is one run. */
static void measure_turns(struct bench *bench)
{
	double net[ROUNDS_MAX];

	for (int round = 0; round < bench->rounds.count; round++) {
		const struct bpf_program *program = bench->programs->progs.bench_connection;
		uint32_t port = 5000 + (uint32_t)round;
		double plain, gross;

		bench->programs->bss->mode = SAME;
		frame_set(bench, SOURCES, port, 0x0a000002, 80, 6, 0x02, 100, 0);
		run(bench, program, 1);
		frame_set(bench, 0x0a000002, 80, SOURCES, port, 6, 0x12, 500, 101);
		run(bench, program, 1);
		bench->programs->bss->mode = STREAM;
		/* what comes before the first data */
		frame_set(bench, 0x0a000002, 80, SOURCES, port, 6, 0x10, 501, 101);
		bench->programs->bss->counter = 0;
		states_clear(bench);
		gross = run(bench, program, bench->rounds.repeat);
		states_check(bench, "turns", POLICY_STATE_ESTABLISHED);
		bench->programs->bss->counter = 0;
		plain = run(bench, bench->programs->progs.bench_plain, bench->rounds.repeat);
		net[round] = gross - plain;
	}
	printf("%-58s  %7.1f\n", "TCP, followed: data and its acknowledgement by turns",
		rounds_median(net, bench->rounds.count));
}

static void measure_many(struct bench *bench)
{
	static const uint32_t counts[] = {1, 1024, 65536, CONNECTIONS};

	for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
		char what[64];

		connections_fill(bench, counts[i], 17, 4000, 53);
		frame_set(bench, SOURCES, 4000, 0x0a000002, 53, 17, 0, 0, 0);
		bench->programs->bss->mode = MANY;
		bench->programs->bss->mask = counts[i] - 1;
		run(bench, bench->programs->progs.bench_connection, counts[i]);
		snprintf(what, sizeof(what), "UDP, established, one of %u", counts[i]);
		measure(bench, what, POLICY_STATE_ESTABLISHED);
	}
}

static void measure_new(struct bench *bench)
{
	frame_set(bench, SOURCES, 4000, 0x0a000002, 80, 6, 0x02, 100, 0);
	bench->programs->bss->mode = MANY;
	bench->programs->bss->mask = 0xffffff;
	measure(bench, "TCP, a SYN from another source each time", POLICY_STATE_NEW);
}

static void flood(struct bench *bench)
{
	uint64_t kept;
	double ns;

	connections_fill(bench, KEPT, 6, 4000, 80);
	frame_set(bench, SOURCES, 4001, 0x0a000002, 80, 6, 0x02, 100, 0);
	bench->programs->bss->mode = MANY;
	bench->programs->bss->mask = 0xffffffff;
	ns = run(bench, bench->programs->progs.bench_connection, FLOOD);
	kept = connections_count(bench->programs->maps.connections);
	printf("\nSYNs of %u sources at %.0f ns: %llu of %u established connections are there, %llu "
	       "embryos\n",
		FLOOD, ns, (unsigned long long)kept, KEPT,
		(unsigned long long)connections_count(bench->programs->maps.embryos));
}

int main(int argc, char **argv)
{
	struct bench bench = {.rounds = {.cpu = 1, .count = 11, .repeat = 1000000}};

	rounds_read(argc, argv, &bench.rounds, NULL, NULL);
	printf("the connection table: net ns per packet, median of %d rounds of %u packets; CPU %d\n\n",
		bench.rounds.count, bench.rounds.repeat, bench.rounds.cpu);
	open_programs(&bench);
	measure_stream(&bench);
	measure_turns(&bench);
	measure_many(&bench);
	measure_new(&bench);
	walk(&bench);
	connection_bench_bpf__destroy(bench.programs);
	open_programs(&bench);
	flood(&bench);
	connection_bench_bpf__destroy(bench.programs);
	return 0;
}
