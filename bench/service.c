// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * Nanoseconds that a packet of a service takes in the program at XDP: bench-service [--against PROGRAM]
 * [ROUNDS [PACKETS [LINES [WORD]]]]; LINES 0: as the configuration has them if it says nothing
 *
 * One service address of either family, 100 backends, Maglev.  A program around the measured one restores the
 * packet before each run and takes the next flow (bench/service.bpf.c); what it takes with a program that
 * does nothing is measured in the same round and subtracted.  Shown are the median and the least of all
 * rounds.
 *
 * The flow cache has the lines that it has with every user who says nothing: 32,768 a CPU for IPv4 (2 MiB),
 * 8,192 for IPv6.  LINES are those of either family.
 *
 * Flows come in a fixed order, again and again.  With far fewer flows than lines each packet finds its line
 * (a SYN, too: that of a connection that was there).  With 65,536 and the usual lines nearly none does: it
 * chooses its backend anew, pushes another's line out and fills it.  So does what is shown there as
 * established, and a SYN shows what a new connection takes.  "anew" is the share of packets that took a
 * line.  A thread on another CPU reads the rings of records, as the agent does; "lost" is the share of
 * packets that were counted so, since it did not keep up and a ring was full.
 *
 * --against measures another balancer beside weir: a loaded program of XDP, by its id or the path it is
 * pinned at, called as weir's is, by tail call.  In each round both get the same packets, each after as many
 * to warm up, now one first, now the other.  Whoever loads it makes it serve 10.200.1.1 (TCP and UDP) and
 * fc00:1::1 (TCP) with as many backends on the ports below that are to be compared.  Cases where it does not
 * what weir does (passes a service's packet on to the stack, or keeps one that is no service's) have no
 * figure.  Before the first round it has seen each flow once, in another order; a balancer that remembers
 * only so many connections a second is to be loaded without that bound if those are to be established.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <bpf/bpf.h>

#include "compile/maglev.h"
#include "lib/services.h"
#include "service_bench.skel.h"

#define RING_BYTES (1U << 20)
#define BACKENDS   100
#define ROUNDS_MAX 99
#define FLOWS      (1U << 22) /* that may be written down */
#define FRAME      74

/* The order in which flows come; and that in which another balancer first sees them, lest what it remembers
 * lies in memory as they come. */
#define FACTOR       2654435761U
#define FACTOR_FIRST 2246822519U

enum packet_kind {
	PACKET_TCP4,
	PACKET_SYN4,
	PACKET_UDP4,
	PACKET_TCP6,
	PACKET_OTHER4,
	PACKET_OTHER6,
	PACKET_KINDS
};

struct bench_case {
	const char *name;
	enum packet_kind kind;
	uint32_t flows;
	uint16_t port; /* which service: deliver, and whether flows are accounted */
	struct service_bench_bpf *around, *bare, *other; /* NULL: nothing to compare */
	double ns[ROUNDS_MAX], other_ns[ROUNDS_MAX];
	uint64_t packets, anew, lost; /* of all rounds */
};

#define PORT_IPIP     80
#define PORT_NO_FLOWS 81
#define PORT_GUE      82
#define PORT_L2       83
#define PORT_NAT      84
#define PORT_NAT_ANY  85 /* nat, without accounts by flow */

static struct bench_case cases[] = {
	{.name = "room for 20 bytes and XDP_TX alone", .kind = PACKET_TCP4, .flows = 1024},
	{.name = "not a service's address", .kind = PACKET_OTHER4, .flows = 1024, .port = PORT_IPIP},
	{.name = "not a service's address, IPv6", .kind = PACKET_OTHER6, .flows = 1024, .port = PORT_IPIP},
	{.name = "TCP established", .kind = PACKET_TCP4, .flows = 1, .port = PORT_IPIP},
	{.name = "TCP established", .kind = PACKET_TCP4, .flows = 1024, .port = PORT_IPIP},
	{.name = "TCP established", .kind = PACKET_TCP4, .flows = 65536, .port = PORT_IPIP},
	{.name = "TCP established", .kind = PACKET_TCP4, .flows = 1048576, .port = PORT_IPIP},
	{.name = "TCP established, flows off", .kind = PACKET_TCP4, .flows = 1, .port = PORT_NO_FLOWS},
	{.name = "TCP established, flows off", .kind = PACKET_TCP4, .flows = 1024, .port = PORT_NO_FLOWS},
	{.name = "TCP established, flows off", .kind = PACKET_TCP4, .flows = 65536, .port = PORT_NO_FLOWS},
	{.name = "TCP established, flows off", .kind = PACKET_TCP4, .flows = 1048576, .port = PORT_NO_FLOWS},
	{.name = "TCP established, gue", .kind = PACKET_TCP4, .flows = 1024, .port = PORT_GUE},
	{.name = "TCP established, l2", .kind = PACKET_TCP4, .flows = 1024, .port = PORT_L2},
	{.name = "TCP new (SYN)", .kind = PACKET_SYN4, .flows = 65536, .port = PORT_IPIP},
	{.name = "TCP new (SYN)", .kind = PACKET_SYN4, .flows = 1048576, .port = PORT_IPIP},
	{.name = "TCP new (SYN), flows off", .kind = PACKET_SYN4, .flows = 65536, .port = PORT_NO_FLOWS},
	{.name = "TCP new (SYN), flows off", .kind = PACKET_SYN4, .flows = 1048576, .port = PORT_NO_FLOWS},
	{.name = "TCP established, nat", .kind = PACKET_TCP4, .flows = 1, .port = PORT_NAT},
	{.name = "TCP established, nat", .kind = PACKET_TCP4, .flows = 1024, .port = PORT_NAT},
	{.name = "TCP established, nat", .kind = PACKET_TCP4, .flows = 65536, .port = PORT_NAT},
	{.name = "TCP established, nat", .kind = PACKET_TCP4, .flows = 1048576, .port = PORT_NAT},
	{.name = "TCP established, nat, flows off", .kind = PACKET_TCP4, .flows = 1024, .port = PORT_NAT_ANY},
	{.name = "TCP established, nat, IPv6", .kind = PACKET_TCP6, .flows = 1024, .port = PORT_NAT},
	{.name = "TCP new (SYN), nat", .kind = PACKET_SYN4, .flows = 1048576, .port = PORT_NAT},
	{.name = "UDP, nat", .kind = PACKET_UDP4, .flows = 1024, .port = PORT_NAT},
	{.name = "UDP", .kind = PACKET_UDP4, .flows = 1, .port = PORT_IPIP},
	{.name = "UDP", .kind = PACKET_UDP4, .flows = 1024, .port = PORT_IPIP},
	{.name = "TCP established, IPv6", .kind = PACKET_TCP6, .flows = 1, .port = PORT_IPIP},
	{.name = "TCP established, IPv6", .kind = PACKET_TCP6, .flows = 1024, .port = PORT_IPIP},
	{.name = "TCP established, IPv6", .kind = PACKET_TCP6, .flows = 65536, .port = PORT_IPIP},
	{.name = "TCP established, IPv6", .kind = PACKET_TCP6, .flows = 1048576, .port = PORT_IPIP},
	{.name = "TCP established, IPv6, flows off", .kind = PACKET_TCP6, .flows = 1, .port = PORT_NO_FLOWS},
	{.name = "TCP established, IPv6, flows off",
		.kind = PACKET_TCP6,
		.flows = 1024,
		.port = PORT_NO_FLOWS},
	{.name = "TCP established, IPv6, flows off",
		.kind = PACKET_TCP6,
		.flows = 65536,
		.port = PORT_NO_FLOWS},
	{.name = "TCP established, IPv6, flows off",
		.kind = PACKET_TCP6,
		.flows = 1048576,
		.port = PORT_NO_FLOWS},
};

#define CASES (sizeof(cases) / sizeof(cases[0]))

/* "=NAME": that alone; "=NAME FLOWS": with so many flows alone; else all whose names have it. */
static bool is_asked(const struct bench_case *c, const char *word)
{
	char name[64];

	snprintf(name, sizeof(name), "=%s %u", c->name, c->flows);
	if (!strcmp(name, word))
		return true;
	return *word == '=' ? !strcmp(c->name, word + 1) : strstr(c->name, word) != NULL;
}

static void die(const char *what)
{
	fprintf(stderr, "bench-service: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void packet_make(const struct bench_case *c, uint8_t packet[static FRAME])
{
	static const uint8_t mac[12] = {2, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 1};
	bool six = c->kind == PACKET_TCP6 || c->kind == PACKET_OTHER6, udp = c->kind == PACKET_UDP4;
	uint8_t *l4 = packet + (six ? 54 : 34), proto = udp ? 17 : 6;

	memset(packet, 0, FRAME);
	memcpy(packet, mac, sizeof(mac));
	if (six) {
		memcpy(packet + 12, (const uint8_t[]){0x86, 0xdd, 0x60, 0, 0, 0, 0, 20, proto, 64}, 10);
		inet_pton(AF_INET6, "2001:db8:1::1", packet + 22);
		inet_pton(AF_INET6, c->kind == PACKET_OTHER6 ? "2001:db8:2::9" : "fc00:1::1", packet + 38);
	} else {
		memcpy(packet + 12, (const uint8_t[]){8, 0, 0x45, 0, 0, FRAME - 14, 0, 1, 0x40, 0, 64, proto},
			12);
		inet_pton(AF_INET, c->kind == PACKET_OTHER4 ? "10.200.9.1" : "10.200.1.1", packet + 30);
	}
	/* connections of no other case */
	memcpy(l4, (const uint8_t[]){0x7a, (uint8_t)(c - cases), 0, (uint8_t)c->port}, 4);
	if (udp)
		memcpy(l4 + 4, (const uint8_t[]){0, FRAME - 34}, 2);
	else
		memcpy(l4 + 12, (const uint8_t[]){0x50, c->kind == PACKET_SYN4 ? 2 : 0x10, 2, 0}, 4);
}

static void measured_set(const struct service_bench_bpf *around, int fd)
{
	__u32 zero = 0;

	if (bpf_map_update_elem(bpf_map__fd(around->maps.measured), &zero, &fd, BPF_ANY) < 0)
		die("measured");
}

/* `fd` -1: around what passes all. */
static struct service_bench_bpf *around_make(const struct bench_case *c, int fd, uint32_t factor)
{
	struct service_bench_bpf *around = service_bench_bpf__open();
	uint8_t packet[FRAME];

	packet_make(c, packet);
	if (!around)
		die("open");
	around->rodata->packet_bytes = FRAME;
	around->rodata->family = c->kind == PACKET_TCP6 || c->kind == PACKET_OTHER6 ? 6 : 4;
	around->rodata->flow_mask = c->flows - 1;
	around->rodata->factor = factor;
	memcpy((void *)around->rodata->headers, packet, sizeof(around->rodata->headers));
	if (service_bench_bpf__load(around) < 0)
		die("load");
	measured_set(around, fd < 0 ? bpf_program__fd(around->progs.bare_pass) : fd);
	return around;
}

/* Nanoseconds of one run. */
static double run(const struct bench_case *c, const struct service_bench_bpf *around, uint32_t packets,
	uint32_t *ret_verdict)
{
	uint8_t packet[FRAME], out[256];
	LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = packet, .data_size_in = FRAME, .data_out = out,
		.data_size_out = sizeof(out), .repeat = (int)packets);

	packet_make(c, packet);
	if (bpf_prog_test_run_opts(bpf_program__fd(around->progs.restore), &options) < 0)
		die("test run");
	*ret_verdict = options.retval;
	return options.duration;
}

static double measure(const struct bench_case *c, const struct service_bench_bpf *around, uint32_t packets)
{
	uint32_t verdict;
	double ns = run(c, around, packets, &verdict);

	if (verdict == XDP_ABORTED || verdict == XDP_DROP) {
		fprintf(stderr, "bench-service: %s: verdict %u\n", c->name, verdict);
		exit(1);
	}
	return ns;
}

static double measure_warm(
	const struct bench_case *c, const struct service_bench_bpf *around, uint32_t packets, uint32_t before)
{
	measure(c, around, before);
	return measure(c, around, packets);
}

/* A program that somebody else has loaded: by its id, or where it is pinned. */
static int program_find(const char *what)
{
	int fd = what[strspn(what, "0123456789")] ? bpf_obj_get(what)
	                                          : bpf_prog_get_fd_by_id((uint32_t)strtoul(what, NULL, 10));

	if (fd < 0)
		die(what);
	return fd;
}

/* NULL: it does something else with such packets. */
static struct service_bench_bpf *other_make(const struct bench_case *c, int fd)
{
	const bool sent = c->kind != PACKET_OTHER4 && c->kind != PACKET_OTHER6;
	struct service_bench_bpf *first = around_make(c, fd, FACTOR_FIRST);
	uint32_t verdict;
	bool same;

	run(c, first, 1, &verdict);
	same = sent ? verdict == XDP_TX || verdict == XDP_REDIRECT : verdict == XDP_PASS;
	if (same)
		measure(c, first, c->flows);
	service_bench_bpf__destroy(first);
	return same ? around_make(c, fd, FACTOR) : NULL;
}

static const uint16_t ports[] = {PORT_IPIP, PORT_NO_FLOWS, PORT_GUE, PORT_L2, PORT_NAT, PORT_NAT_ANY};

#define SERVICES (3 * sizeof(ports) / sizeof(ports[0]))

/* From 64 addresses: a million connections to 100 backends. */
static struct service_answers answers[2];

static void nat_make(struct services *services, uint32_t number, bool six)
{
	struct service_source *source = &services->sources[number];

	*source =
		(struct service_source){.first = htons(1024), .last = htons(UINT16_MAX), .nat_addresses = 64};
	memcpy(six ? source->address6 : &source->address4, answers[six].first.bytes, six ? 16 : 4);
}

static void answers_make(void)
{
	static const char *const texts[2][2] = {{"10.0.3.0", "10.0.3.63"}, {"fc00:3::", "fc00:3::3f"}};

	for (int i = 0; i < 2; i++) {
		address_parse(texts[i][0], &answers[i].first);
		address_parse(texts[i][1], &answers[i].last);
		answers[i].ports = (struct port_range){1024, UINT16_MAX};
	}
}

static void services_make(struct services *services)
{
	static uint16_t slots[SERVICE_RING_SLOTS];
	struct maglev_backend backends[BACKENDS];
	struct service_text texts[SERVICES];
	struct service_input inputs[SERVICES];
	size_t count = 0;

	for (uint32_t service = 1; service <= SERVICES; service++) {
		const bool six = (service - 1) % 3 == 2, udp = (service - 1) % 3 == 1;
		uint16_t port = ports[(service - 1) / 3];
		struct service_text *text = &texts[count];

		for (uint32_t i = 0; i < BACKENDS; i++) {
			uint32_t number = service * BACKENDS + i;
			char address[64];

			snprintf(address, sizeof(address), six ? "fc00:2::%x" : "10.0.2.%u", i + 1);
			services_backend(services, number, service, address);
			nat_make(services, number, six);
			backends[i] = (struct maglev_backend){.number = (uint16_t)number, .weight = 1};
			address_parse(address, &backends[i].address);
		}
		if (maglev_fill(backends, BACKENDS, slots, SERVICE_RING_SLOTS) < 0)
			die("maglev_fill");
		services_ring(services, service, slots, SERVICE_RING_SLOTS);
		services_text(text, "bench", udp ? 17 : 6, six ? "fc00:1::1" : "10.200.1.1", port, port,
			port == PORT_GUE   ? SERVICE_GUE
			: port == PORT_L2  ? SERVICE_L2
			: port >= PORT_NAT ? SERVICE_NAT
					   : SERVICE_IPIP);
		text->no_flows = port == PORT_NO_FLOWS || port == PORT_NAT_ANY;
		inputs[count++] = (struct service_input){.text = text,
			.number = service,
			.rule = service,
			.ring = service,
			.slots = SERVICE_RING_SLOTS};
	}
	services_book(services, 0, inputs, count);
	services_place(services, 0);
}

#define ESTABLISHED_AT_ONCE 8192U /* of those that have begun, and may push out each other */

/* Both entries of each connection to where they stand once both hosts have spoken. */
static void embryos_move(const struct services *services)
{
	int from = bpf_map__fd(services->balance->maps.service_embryos);
	int to = bpf_map__fd(services->balance->maps.service_flows);
	static struct service_key keys[4 * ESTABLISHED_AT_ONCE];
	static struct service_flow flows[4 * ESTABLISHED_AT_ONCE];
	__u32 count = sizeof(keys) / sizeof(keys[0]);
	LIBBPF_OPTS(bpf_map_batch_opts, options);
	__u32 place;

	/* ENOENT: that was all */
	if (bpf_map_lookup_and_delete_batch(from, NULL, &place, keys, flows, &count, &options) < 0 &&
		errno != ENOENT)
		die("embryos");
	if (count && bpf_map_update_batch(to, keys, flows, &count, &options) < 0)
		die("establish");
}

static void establish(const struct services *services, const struct bench_case *c)
{
	for (uint32_t done = 0; done < c->flows; done += ESTABLISHED_AT_ONCE) {
		uint32_t packets = c->flows < ESTABLISHED_AT_ONCE ? c->flows : ESTABLISHED_AT_ONCE;

		measure(c, c->around, packets);
		embryos_move(services);
	}
}

static int record_ignore(void *context, void *record, size_t size)
{
	(void)context;
	(void)record;
	(void)size;
	return 0;
}

static void *records_read(void *rings)
{
	/* sleep as the agent does: the datapath wakes us when a quarter of a ring is full */
	while (ring_buffer__poll(rings, 100) >= 0)
		ring_buffer__consume(rings);
	return NULL;
}

/* Begins to read the rings; the thread ends with the process. */
static void records_begin(const struct services *services)
{
	struct ring_buffer *rings = NULL;
	pthread_attr_t attributes;
	pthread_t thread;
	cpu_set_t cpu;

	for (__u32 i = 0; i < services->cpus; i++) {
		int fd = services_records(services, i);

		if (rings)
			ring_buffer__add(rings, fd, record_ignore, NULL);
		else
			rings = ring_buffer__new(fd, record_ignore, NULL, NULL);
		if (!rings)
			die("ring");
	}
	CPU_ZERO(&cpu);
	CPU_SET(0, &cpu);
	pthread_attr_init(&attributes);
	pthread_attr_setaffinity_np(&attributes, sizeof(cpu), &cpu);
	if (pthread_create(&thread, &attributes, records_read, rings))
		die("thread");
	pthread_attr_destroy(&attributes);
}

static int compare(const void *a, const void *b)
{
	double left = *(const double *)a, right = *(const double *)b;

	return left < right ? -1 : left > right;
}

/* The program alone, once the lines are as its packets leave them; and what becomes of them. */
static double measure_lines(
	const struct services *services, struct bench_case *c, uint32_t packets, uint32_t before)
{
	struct flow_stats begin, end;
	double ns;

	measure(c, c->around, before);
	begin = services_stats(services);
	ns = measure(c, c->around, packets);
	end = services_stats(services);
	c->packets += packets;
	c->anew += end.serial - begin.serial;
	c->lost += end.lost - begin.lost;
	return ns;
}

/* Both programs in turns, and what is around them. */
static void measure_round(const struct services *services, struct bench_case *c, int round, uint32_t packets)
{
	uint32_t lines = services->lines4 > services->lines6 ? services->lines4 : services->lines6;
	uint32_t before = c->flows < 2 * lines ? c->flows : 2 * lines;
	double bare;

	if (before < packets / 4)
		before = packets / 4;
	if (c->other && round % 2)
		c->other_ns[round] = measure_warm(c, c->other, packets, before);
	c->ns[round] = measure_lines(services, c, packets, before);
	if (c->other && round % 2 == 0)
		c->other_ns[round] = measure_warm(c, c->other, packets, before);
	bare = measure(c, c->bare, packets);
	c->ns[round] -= bare;
	c->other_ns[round] -= bare;
}

static void show(struct bench_case *c, int rounds)
{
	double median, other;

	qsort(c->ns, (size_t)rounds, sizeof(double), compare);
	median = c->ns[rounds / 2];
	printf("%-34s %9u %8.1f %8.1f %6.1f%% %6.1f%%", c->name, c->flows, median, c->ns[0],
		100 * (double)c->anew / (double)c->packets, 100 * (double)c->lost / (double)c->packets);
	if (c->other) {
		qsort(c->other_ns, (size_t)rounds, sizeof(double), compare);
		other = c->other_ns[rounds / 2];
		printf(" %8.1f %8.1f %8.2f", other, c->other_ns[0], median / other);
	}
	printf("\n");
}

int main(int argc, char **argv)
{
	const bool beside = argc > 2 && !strcmp(argv[1], "--against");
	const int first = beside ? 3 : 1;
	int rounds = argc > first ? atoi(argv[first]) : 7;
	uint32_t packets = argc > first + 1 ? (uint32_t)atoi(argv[first + 1]) : 1048576;
	uint32_t lines = argc > first + 2 ? (uint32_t)atoi(argv[first + 2]) : 0;
	const char *only = argc > first + 3 ? argv[first + 3] : "";
	int other = beside ? program_find(argv[2]) : -1;
	struct services services;
	cpu_set_t cpu;

	if (rounds < 1 || rounds > ROUNDS_MAX || !packets || lines & (lines - 1)) {
		fprintf(stderr,
			"usage: bench-service [--against PROGRAM] [ROUNDS [PACKETS [LINES [WORD]]]]\n");
		return 2;
	}
	CPU_ZERO(&cpu);
	CPU_SET(sysconf(_SC_NPROCESSORS_ONLN) - 1, &cpu);
	sched_setaffinity(0, sizeof(cpu), &cpu);
	answers_make();
	if (services_open_large(&services, lines ? lines : FLOW_LINES4_DEFAULT,
		    lines ? lines : FLOW_LINES6_DEFAULT, RING_BYTES, FLOWS) < 0 ||
		services_nat(&services, answers, 2) < 0)
		return 1;
	services_make(&services);
	records_begin(&services);
	for (size_t i = 0; i < CASES; i++) {
		struct bench_case *c = &cases[i];

		c->around = around_make(
			c, c->port ? bpf_program__fd(services.balance->progs.balance) : -1, FACTOR);
		c->bare = around_make(c, -1, FACTOR);
		if (!c->port)
			measured_set(c->around, bpf_program__fd(c->around->progs.bare_room20));
		if (c->port >= PORT_NAT && c->kind != PACKET_SYN4 && is_asked(c, only))
			establish(&services, c);
		if (c->port && beside && is_asked(c, only))
			c->other = other_make(c, other);
	}
	for (int round = 0; round < rounds; round++)
		for (size_t i = 0; i < CASES; i++)
			if (is_asked(&cases[i], only))
				measure_round(&services, &cases[i], round, packets);
	printf("lines of the flow cache per CPU: %u for IPv4, %u for IPv6\n", services.lines4,
		services.lines6);
	printf("%-34s %9s %8s %8s %7s %7s", "", "flows", "ns", "least", "anew", "lost");
	if (beside)
		printf(" %8s %8s %8s", "other", "least", "of other");
	printf("\n");
	for (size_t i = 0; i < CASES; i++)
		if (is_asked(&cases[i], only))
			show(&cases[i], rounds);
	services_close(&services);
	return 0;
}
