// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * How many packets a second the program at XDP drops, beside a program that does nothing else than drop:
 * bench-shield RECEIVER_NAMESPACE INTERFACE SENDER_NAMESPACE INTERFACE [SECONDS [MAP]]
 *
 * The sender makes frames in the kernel and redirects them into one end of a veth pair; the other end's
 * program gets them on the same core.  Every case is measured in turn, several times; shown is the median.
 * With MAP, the pinned map of addresses of an xdp-filter that is attached already, that is measured alone.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <linux/if_link.h>
#include <net/if.h>
#include <netpacket/packet.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "compile/policy.h"
#include "compile/trie.h"
#include "generate.h"
#include "generate.skel.h"
#include "model/rule.h"
#include "rounds.h"
#include "shared/policy.h"
#include "shared/set.h"
#include "shared/shield.h"
#include "shield.skel.h"

#define ROUNDS    7
#define CASES_MAX 16
#define BATCH     64
#define PACKET    60
#define MAP_FLAGS (BPF_F_MMAPABLE | (1U << 12)) /* BPF_F_INNER_MAP */
#define CHUNKS    8
#define SECOND_NS 1000000000.0

struct bench_case {
	const char *name;
	uint8_t family;
	uint32_t prefixes; /* of the set; 0: a program that only drops */
	uint32_t sources;  /* different addresses, each of a prefix of its own */
	uint32_t rules;    /* on ports, of which the last fits; 0: one on the set */
	double rate[ROUNDS];
};

static struct bench_case cases[] = {
	{"bare XDP_DROP", 4, 0, 10000, 0, {}},
	{"set of 10,000 prefixes", 4, 10000, 10000, 0, {}},
	{"set of 100,000 prefixes", 4, 100000, 100000, 0, {}},
	{"set of 1,000,000 prefixes", 4, 1000000, 10000, 0, {}},
	{"set of 1,000,000 prefixes", 4, 1000000, 100000, 0, {}},
	{"set of 1,000,000 prefixes", 4, 1000000, 1000000, 0, {}},
	{"IPv6: set of 10,000 prefixes", 6, 10000, 10000, 0, {}},
	{"IPv6: set of 1,000,000 prefixes", 6, 1000000, 100000, 0, {}},
	{"IPv6: set of 1,000,000 prefixes", 6, 1000000, 1000000, 0, {}},
	{"1 rule on a port", 4, 0, 10000, 1, {}},
	{"1,000 rules on ports", 4, 0, 10000, 1000, {}},
};

struct side {
	int namespace;
	unsigned int interface;
	const char *name;
};

static void enter(const struct side *side)
{
	if (setns(side->namespace, CLONE_NEWNET) < 0)
		die("setns", errno);
}

static struct side side_open(const char *namespace, const char *interface)
{
	struct side side = {.name = interface};
	char path[256];

	snprintf(path, sizeof(path), "/run/netns/%s", namespace);
	side.namespace = open(path, O_RDONLY | O_CLOEXEC);
	if (side.namespace < 0)
		die(path, errno);
	enter(&side);
	side.interface = if_nametoindex(interface);
	if (!side.interface)
		die(interface, errno);
	return side;
}

static uint32_t received(const struct side *side)
{
	struct ifaddrs *list;
	uint32_t packets = 0;

	enter(side);
	if (getifaddrs(&list) < 0)
		die("getifaddrs", errno);
	for (const struct ifaddrs *entry = list; entry; entry = entry->ifa_next)
		if (entry->ifa_addr && entry->ifa_addr->sa_family == AF_PACKET &&
			strcmp(entry->ifa_name, side->name) == 0)
			packets = ((const struct rtnl_link_stats *)entry->ifa_data)->rx_packets;
	freeifaddrs(list);
	return packets;
}

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time); /* others may want this core, too */
	return (double)time.tv_sec + (double)time.tv_nsec / SECOND_NS;
}

static struct generate_bpf *generator_open(const struct side *sender, uint32_t sources)
{
	struct generate_bpf *generator = generate_bpf__open();

	if (!generator)
		die("generate_bpf__open", errno);
	generator->rodata->interface = sender->interface;
	generator->rodata->sources = sources;
	if (generate_bpf__load(generator) < 0)
		die("generate_bpf__load", errno);
	return generator;
}

/* Packets a second that arrive, whatever becomes of them. */
static double measure(const struct side *sender, const struct side *receiver, struct generate_bpf *generator,
	uint8_t family, double seconds)
{
	uint8_t packet[PACKET] = {2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0, 0x45, 0, 0, 46, 0, 0, 0, 0, 64,
		17, 0, 0, 0, 0, 0, 0, 10, 1, 0, 1, 0x13, 0x88, 0, 9, 0, 26};
	struct xdp_md context = {.data_end = PACKET};
	LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = packet, .data_size_in = sizeof(packet),
		.ctx_in = &context, .ctx_size_in = sizeof(context), .repeat = 1 << 17,
		.flags = BPF_F_TEST_XDP_LIVE_FRAMES, .batch_size = BATCH);
	double began, ended;
	uint32_t before;

	if (family == 6) {
		static const uint8_t header[] = {
			0x86, 0xdd, 0x60, 0, 0, 0, 0, 6, 17, 64, 0x20, 0x01, 0x0d, 0xb8};

		memset(packet + 12, 0, sizeof(packet) - 12);
		memcpy(packet + 12, header, sizeof(header));
	}
	for (int warm = 0; warm < 2; warm++) {
		enter(sender);
		if (bpf_prog_test_run_opts(bpf_program__fd(generator->progs.generate), &options) < 0)
			die("generate", errno);
	}
	before = received(receiver);
	enter(sender);
	began = now();
	do {
		if (bpf_prog_test_run_opts(bpf_program__fd(generator->progs.generate), &options) < 0 &&
			errno != EINTR)
			die("generate", errno);
		ended = now();
	} while (ended - began < seconds);
	return (received(receiver) - before) / (ended - began);
}

static struct policy_unit *memory_make(int outer, uint32_t place, uint32_t units)
{
	LIBBPF_OPTS(bpf_map_create_opts, options, .map_flags = MAP_FLAGS);
	int map = bpf_map_create(BPF_MAP_TYPE_ARRAY, "bench", 4, sizeof(struct policy_unit), units, &options);
	struct policy_unit *memory;

	if (map < 0 || bpf_map_update_elem(outer, &place, &map, BPF_ANY) < 0)
		die("map", errno);
	memory = mmap(NULL, (size_t)units * sizeof(*memory), PROT_READ | PROT_WRITE, MAP_SHARED, map, 0);
	if (memory == MAP_FAILED)
		die("mmap", errno);
	close(map);
	return memory;
}

/* Chunks of the first slot. */
static struct policy_unit *chunks_make(int outer)
{
	LIBBPF_OPTS(bpf_map_create_opts, options, .map_flags = BPF_F_MMAPABLE);
	size_t bytes = SET_CHUNK_UNITS * sizeof(struct policy_unit);
	char *memory = mmap(NULL, CHUNKS * bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (memory == MAP_FAILED)
		die("mmap", errno);
	for (uint32_t i = 0; i < CHUNKS; i++) {
		int map = bpf_map_create(BPF_MAP_TYPE_ARRAY, "bench", 4, sizeof(struct policy_unit),
			SET_CHUNK_UNITS, &options);

		if (map < 0 || bpf_map_update_elem(outer, &i, &map, BPF_ANY) < 0)
			die("map", errno);
		if (mmap(memory + i * bytes, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, map, 0) ==
			MAP_FAILED)
			die("mmap", errno);
		close(map);
	}
	return (struct policy_unit *)memory;
}

/* A set with prefixes around all addresses that the generator makes: /24 to /32, IPv6 /56 to /64. */
static void set_fill(struct shield_bpf *shield, uint8_t family, uint32_t prefixes)
{
	const struct address common = {.family = family, .bytes = {0x20, 0x01, 0x0d, 0xb8}};
	struct address last = common;
	struct trie_shape shape;
	const uint32_t zero = 0;
	struct policy_unit *units =
		chunks_make(bpf_map__fd(family == 4 ? shield->maps.set_trie4 : shield->maps.set_trie6));
	struct set_places places = {};
	struct trie *trie;
	double began = now();

	last.bytes[4] = 0xff;
	shape = trie_shape_for(family, prefixes, &common, &last);
	if (trie_open_as(&shape, units, CHUNKS * SET_CHUNK_UNITS, &trie) < 0)
		die("trie_open_as", errno);
	trie_hold(trie);
	for (uint32_t n = 0; n < prefixes; n++) {
		uint32_t source = generate_source(n);
		struct prefix prefix = {.address.family = family};

		/* of the 32 bits that differ the first 24 to 32; of IPv6 they are the second word */
		prefix.length = (uint8_t)(24 + n % 9);
		source = htonl(source & 0xffffffffU << (32 - prefix.length));
		if (family == 4) {
			memcpy(prefix.address.bytes, &source, 4);
		} else {
			prefix.length = (uint8_t)(prefix.length + 32);
			memcpy(prefix.address.bytes, (const uint8_t[]){0x20, 0x01, 0x0d, 0xb8}, 4);
			memcpy(prefix.address.bytes + 4, &source, 4);
		}
		if (trie_set(trie, &prefix, 1) < 0)
			die("trie_set", errno);
	}
	if (trie_write(trie) < 0)
		die("trie_write", errno);
	fprintf(stderr, "%u prefixes: %.2f s, %.1f MiB\n", prefixes, now() - began,
		trie_units(trie) * 64.0 / 1048576);
	trie_close(trie);
	munmap(units, CHUNKS * SET_CHUNK_UNITS * sizeof(*units));
	(family == 4 ? places.tries4 : places.tries6)[0] =
		SET_TRIE(0, shape.root, family == 6 ? 0x20010db800000000ULL : 0, shape.common.length);
	if (bpf_map_update_elem(bpf_map__fd(shield->maps.set_places), &zero, &places, BPF_ANY) < 0)
		die("set_places", errno);
}

/* The packets' port is 9, the others' are behind it. */
static void rules_fill(struct shield_bpf *shield, uint32_t count)
{
	struct rule *rules = calloc(count, sizeof(*rules));
	struct policy_source *sources = calloc(count, sizeof(*sources));
	const struct policy_world world = {};
	const struct policy_order order = {.sources = sources, .count = count, .world = &world, .xdp = true};
	struct policy_image image;
	struct policy_unit *units;

	if (!rules || !sources)
		die("calloc", errno);
	for (uint32_t i = 0; i < count; i++) {
		char text[64];

		snprintf(text, sizeof(text), "drop in udp to port %u", 8 + count - i);
		if (rule_parse(text, &rules[i], NULL) < 0)
			die(text, errno);
		sources[i] = (struct policy_source){.rule = &rules[i], .id = i + 1, .counter = i};
	}
	if (policy_compile(&order, &image, NULL) < 0)
		die("policy_compile", errno);
	units = memory_make(bpf_map__fd(shield->maps.policies_xdp), 0, (uint32_t)image.count);
	memcpy(units, image.units, image.count * sizeof(*units));
	munmap(units, image.count * sizeof(*units));
	policy_image_clear(&image);
	free(rules);
	free(sources);
}

static struct shield_bpf *shield_make(const struct bench_case *c)
{
	struct shield_bpf *shield = shield_bpf__open();
	const struct policy_now in_force = {.active = 1, .present = 1};
	struct shield_ways *ways = calloc(1, sizeof(*ways));
	uint32_t key = 0;

	if (!shield || !ways)
		die("shield_bpf__open", errno);
	bpf_program__set_flags(shield->progs.shield, BPF_F_XDP_HAS_FRAGS); /* as the agent does */
	if (shield_bpf__load(shield) < 0)
		die("shield_bpf__load", errno);
	ways->sets = c->prefixes != 0;
	ways->way[0] = SHIELD_PASS;
	ways->way[1] = SHIELD_COUNTER + 5;
	bpf_map_update_elem(bpf_map__fd(shield->maps.shield_ways), &key, ways, BPF_ANY);
	free(ways);
	if (c->prefixes)
		set_fill(shield, c->family, c->prefixes);
	if (c->rules)
		rules_fill(shield, c->rules);
	bpf_map_update_elem(bpf_map__fd(shield->maps.policy_now), &key, &in_force, BPF_ANY);
	return shield;
}

/* xdp-filter's map of addresses, as far as it has room; of the programs that are attached already. */
static uint32_t filter_fill(const char *path)
{
	const int cpus = libbpf_num_possible_cpus();
	uint64_t *values = calloc((size_t)cpus, sizeof(*values));
	int map = bpf_obj_get(path);
	uint32_t n = 0;

	if (map < 0 || !values)
		die(path, errno);
	for (int cpu = 0; cpu < cpus; cpu++)
		values[cpu] = 1; /* MAP_FLAG_SRC */
	for (; n < 10000; n++) {
		uint32_t source = htonl(generate_source(n));

		if (bpf_map_update_elem(map, &source, values, BPF_ANY) < 0)
			break;
	}
	free(values);
	close(map);
	return n;
}

int main(int argc, char **argv)
{
	enum { COUNT = sizeof(cases) / sizeof(cases[0]) };
	struct shield_bpf *shields[COUNT] = {};
	struct generate_bpf *generators[COUNT];
	struct side sender, receiver;
	double seconds = argc > 5 ? atof(argv[5]) : 0.5, bare;
	cpu_set_t cpu;

	if (argc == 7) {
		receiver = side_open(argv[1], argv[2]);
		sender = side_open(argv[3], argv[4]);
		uint32_t sources = filter_fill(argv[6]);
		double rate[ROUNDS];

		generators[0] = generator_open(&sender, sources);
		for (int round = 0; round < ROUNDS; round++)
			rate[round] = measure(&sender, &receiver, generators[0], 4, seconds);
		bare = rounds_median(rate, ROUNDS);
		printf("%-32s %10u %8.2f %8.1f\n", "xdp-filter, addresses", sources, bare / 1e6, 1e9 / bare);
		return 0;
	}
	if (argc < 5) {
		fprintf(stderr, "usage: bench-shield NAMESPACE INTERFACE NAMESPACE INTERFACE [SECONDS]\n");
		return 2;
	}
	libbpf_set_strict_mode(LIBBPF_STRICT_ALL);
	CPU_ZERO(&cpu);
	CPU_SET(sysconf(_SC_NPROCESSORS_ONLN) - 1, &cpu);
	sched_setaffinity(0, sizeof(cpu), &cpu);
	receiver = side_open(argv[1], argv[2]);
	sender = side_open(argv[3], argv[4]);
	for (int i = 0; i < COUNT; i++) {
		generators[i] = generator_open(&sender, cases[i].sources);
		if (cases[i].prefixes || cases[i].rules)
			shields[i] = shield_make(&cases[i]);
	}
	for (int round = 0; round < ROUNDS; round++)
		for (int i = 0; i < COUNT; i++) {
			struct bpf_program *program =
				shields[i] ? shields[i]->progs.shield : generators[i]->progs.bare_drop;
			int link;

			enter(&receiver);
			link = bpf_link_create(
				bpf_program__fd(program), (int)receiver.interface, BPF_XDP, NULL);
			if (link < 0)
				die("attach", errno);
			cases[i].rate[round] =
				measure(&sender, &receiver, generators[i], cases[i].family, seconds);
			close(link);
		}
	bare = rounds_median(cases[0].rate, ROUNDS);
	printf("%-32s %10s %8s %8s %8s\n", "", "sources", "Mpps", "ns", "of bare");
	for (int i = 0; i < COUNT; i++) {
		double rate = rounds_median(cases[i].rate, ROUNDS);

		printf("%-32s %10u %8.2f %8.1f %8.2f\n", cases[i].name, cases[i].sources, rate / 1e6,
			1e9 / rate, rate / bare);
	}
	return 0;
}
