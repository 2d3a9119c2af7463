// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * How many packets a second interfaces take, whatever becomes of them there:
 * bench-rate [r]FLOWS SECONDS ROUNDS {SENDER_NAMESPACE INTERFACE RECEIVER_NAMESPACE INTERFACE}...
 *
 * Frames of UDP to port 9 are made in the kernel and redirected into one end of a veth pair; the other end
 * takes them on the same core.  FLOWS is how many different sources they have.  Pairs take turns, SECONDS
 * each, and who is first rotates: what else goes on on the machine falls on all of them.  Printed is a line
 * for each pair, with a number for each round: of packets for each second of this core's time that went into
 * it (others may want the core, too).  With FLOWS as rN a router can send them on: from 10.1.0.0/16
 * to 10.2.0.2.
 */
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
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "generate.skel.h"

#define BATCH 64
/* Packets a call.  The beginning and the end of a call leave cold what the packets need: with 4,096 they took
 * 80 ns more, and 50 on top of that where 1,024 flows have a line each. */
#define REPEAT    (1U << 15)
#define PAIRS_MAX 8

static void die(const char *what)
{
	fprintf(stderr, "bench-rate: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void enter(const char *namespace)
{
	char path[256];
	int file;

	snprintf(path, sizeof(path), "/run/netns/%s", namespace);
	file = open(path, O_RDONLY | O_CLOEXEC);
	if (file < 0 || setns(file, CLONE_NEWNET) < 0)
		die(path);
	close(file);
}

static uint32_t received(const char *namespace, const char *interface)
{
	struct ifaddrs *list;
	uint32_t packets = 0;

	enter(namespace);
	if (getifaddrs(&list) < 0)
		die("getifaddrs");
	for (const struct ifaddrs *entry = list; entry; entry = entry->ifa_next)
		if (entry->ifa_addr && entry->ifa_addr->sa_family == AF_PACKET &&
			!strcmp(entry->ifa_name, interface))
			packets = ((const struct rtnl_link_stats *)entry->ifa_data)->rx_packets;
	freeifaddrs(list);
	return packets;
}

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
	return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static uint32_t routed; /* packets are such as a router sends on */

/* A veth pair, and what sends into it. */
struct pair {
	const char *sender, *out, *receiver, *in;
	struct generate_bpf *generator;
	double *rates;
};

static void send_once(const struct pair *pair)
{
	uint8_t packet[60] = {2, 0, 0, 0, 1, 1, 2, 0, 0, 0, 1, 2, 8, 0, 0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17, 0,
		0, 0, 0, 0, 0, 10, 1, 0, 1, 0x13, 0x88, 0, 9, 0, 26};
	struct xdp_md context = {.data_end = sizeof(packet)};
	LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = packet, .data_size_in = sizeof(packet),
		.ctx_in = &context, .ctx_size_in = sizeof(context), .repeat = REPEAT,
		.flags = BPF_F_TEST_XDP_LIVE_FRAMES, .batch_size = BATCH);

	if (routed)
		memcpy(packet + 30, (const uint8_t[]){10, 2, 0, 2}, 4);
	if (bpf_prog_test_run_opts(bpf_program__fd(pair->generator->progs.generate), &options) < 0 &&
		errno != EINTR)
		die("generate");
}

static void pair_open(struct pair *pair, uint32_t flows, uint32_t rounds)
{
	enter(pair->sender);
	pair->generator = generate_bpf__open();
	pair->rates = calloc(rounds, sizeof(*pair->rates));
	if (!pair->generator || !pair->rates)
		die("generate_bpf__open");
	pair->generator->rodata->interface = if_nametoindex(pair->out);
	pair->generator->rodata->sources = flows;
	pair->generator->rodata->routed = routed;
	if (generate_bpf__load(pair->generator) < 0)
		die("generate_bpf__load");
}

static double measure(const struct pair *pair, uint32_t flows, double seconds)
{
	uint32_t before;
	double began, ended;

	enter(pair->sender);
	/* what stays the same is not measured: once around, as far as that is soon done */
	for (uint32_t i = 0; i < 1 + (flows < 1 << 17 ? flows : 1 << 17) / REPEAT; i++)
		send_once(pair);
	before = received(pair->receiver, pair->in);
	enter(pair->sender);
	began = now();
	do {
		send_once(pair);
		ended = now();
	} while (ended - began < seconds);
	return (received(pair->receiver, pair->in) - before) / (ended - began);
}

int main(int argc, char **argv)
{
	uint32_t flows, rounds, count = argc > 4 ? (uint32_t)(argc - 4) / 4 : 0;
	struct pair pairs[PAIRS_MAX];
	double seconds;
	cpu_set_t cpu;

	if (!count || argc % 4 || count > PAIRS_MAX) {
		fprintf(stderr, "usage: bench-rate [r]FLOWS SECONDS ROUNDS {NAMESPACE INTERFACE NAMESPACE "
				"INTERFACE}...\n");
		return 2;
	}
	routed = argv[1][0] == 'r';
	flows = (uint32_t)strtoul(argv[1] + routed, NULL, 10);
	seconds = strtod(argv[2], NULL);
	rounds = (uint32_t)strtoul(argv[3], NULL, 10);
	CPU_ZERO(&cpu);
	CPU_SET(sysconf(_SC_NPROCESSORS_ONLN) - 1, &cpu);
	sched_setaffinity(0, sizeof(cpu), &cpu);
	for (uint32_t i = 0; i < count; i++) {
		char **words = argv + 4 + (size_t)i * 4;

		pairs[i] = (struct pair){
			.sender = words[0], .out = words[1], .receiver = words[2], .in = words[3]};
		pair_open(&pairs[i], flows, rounds);
	}
	for (uint32_t turn = 0; turn < rounds; turn++)
		for (uint32_t i = 0; i < count; i++) {
			struct pair *pair = &pairs[(i + turn) % count];

			pair->rates[turn] = measure(pair, flows, seconds);
		}
	for (uint32_t i = 0; i < count; i++) {
		for (uint32_t turn = 0; turn < rounds; turn++)
			printf("%.0f%c", pairs[i].rates[turn], turn + 1 < rounds ? ' ' : '\n');
		free(pairs[i].rates);
		generate_bpf__destroy(pairs[i].generator);
	}
	return 0;
}
