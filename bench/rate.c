// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * How many packets a second an interface takes, whatever becomes of them there:
 * bench-rate SENDER_NAMESPACE INTERFACE RECEIVER_NAMESPACE INTERFACE FLOWS SECONDS
 *
 * Frames of UDP to port 9 are made in the kernel and redirected into one end of a veth pair; the other end
 * takes them on the same core.  FLOWS is how many different sources they have.  Printed is one number, of
 * packets for each second of this core's time that went into it (others may want the core, too).
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

int main(int argc, char **argv)
{
	uint8_t packet[60] = {2, 0, 0, 0, 1, 1, 2, 0, 0, 0, 1, 2, 8, 0, 0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17, 0,
		0, 0, 0, 0, 0, 10, 1, 0, 1, 0x13, 0x88, 0, 9, 0, 26};
	struct xdp_md context = {.data_end = sizeof(packet)};
	LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = packet, .data_size_in = sizeof(packet),
		.ctx_in = &context, .ctx_size_in = sizeof(context), .repeat = 1 << 12,
		.flags = BPF_F_TEST_XDP_LIVE_FRAMES, .batch_size = BATCH);
	struct generate_bpf *generator;
	double began, ended, seconds;
	uint32_t before, flows;
	cpu_set_t cpu;

	if (argc != 7) {
		fprintf(stderr, "usage: bench-rate NAMESPACE INTERFACE NAMESPACE INTERFACE FLOWS SECONDS\n");
		return 2;
	}
	flows = (uint32_t)strtoul(argv[5], NULL, 10);
	seconds = strtod(argv[6], NULL);
	CPU_ZERO(&cpu);
	CPU_SET(sysconf(_SC_NPROCESSORS_ONLN) - 1, &cpu);
	sched_setaffinity(0, sizeof(cpu), &cpu);
	enter(argv[1]);
	generator = generate_bpf__open();
	if (!generator)
		die("generate_bpf__open");
	generator->rodata->interface = if_nametoindex(argv[2]);
	generator->rodata->sources = flows;
	if (generate_bpf__load(generator) < 0)
		die("generate_bpf__load");
	/* what stays the same is not measured: once around, as far as that is soon done */
	for (uint32_t i = 0; i < 2 + (flows < 1 << 17 ? flows : 1 << 17) / (uint32_t)options.repeat; i++)
		if (bpf_prog_test_run_opts(bpf_program__fd(generator->progs.generate), &options) < 0 &&
			errno != EINTR)
			die("generate");
	before = received(argv[3], argv[4]);
	enter(argv[1]);
	began = now();
	do {
		if (bpf_prog_test_run_opts(bpf_program__fd(generator->progs.generate), &options) < 0 &&
			errno != EINTR)
			die("generate");
		ended = now();
	} while (ended - began < seconds);
	printf("%.0f\n", (received(argv[3], argv[4]) - before) / (ended - began));
	generate_bpf__destroy(generator);
	return 0;
}
