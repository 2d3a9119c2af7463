// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * Sends frames at a rate: bench-capture IFINDEX CPU RATE SECONDS BYTES.  Rate 0: as fast as it goes.
 * Prints the frames sent, the seconds it took, and the seconds of CPU time it took.
 */
#include <arpa/inet.h>
#include <linux/ip.h>
#include <linux/udp.h>
#include <net/ethernet.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "capture_bench.skel.h"

#define FRAME_MAX 1500
#define COPIES    64  /* as in capture.bpf.c */
#define RUNS_MAX  128 /* between two looks at the clock */

static double clock_seconds(clockid_t clock)
{
	struct timespec time;

	clock_gettime(clock, &time);
	return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

static double now(void)
{
	return clock_seconds(CLOCK_MONOTONIC);
}

/* UDP to the discard port. */
static void frame_make(uint8_t *frame, size_t bytes)
{
	struct ether_header ethernet = {.ether_dhost = {2, 0, 0, 0, 9, 9},
		.ether_shost = {2, 0, 0, 0, 1, 2},
		.ether_type = htons(0x0800)};
	struct iphdr ip = {.version = 4,
		.ihl = 5,
		.ttl = 64,
		.protocol = 17,
		.tot_len = htons((uint16_t)(bytes - sizeof(ethernet))),
		.saddr = htonl(0x0a010002),
		.daddr = htonl(0x0a010001)};
	struct udphdr udp = {.source = htons(4000),
		.dest = htons(9),
		.len = htons((uint16_t)(bytes - sizeof(ethernet) - sizeof(ip)))};

	memset(frame, 0, bytes);
	memcpy(frame, &ethernet, sizeof(ethernet));
	memcpy(frame + sizeof(ethernet), &ip, sizeof(ip));
	memcpy(frame + sizeof(ethernet) + sizeof(ip), &udp, sizeof(udp));
}

int main(int argc, char **argv)
{
	uint32_t bytes = argc == 6 ? (uint32_t)atoi(argv[5]) : 0;
	struct capture_bench_bpf *skeleton;
	uint8_t frame[FRAME_MAX];
	double rate, begin, cpu, end, sent = 0;
	cpu_set_t cpus;

	if (bytes < 64 || bytes > FRAME_MAX) {
		fprintf(stderr, "usage: %s IFINDEX CPU RATE SECONDS BYTES\n", argv[0]);
		return 2;
	}
	CPU_ZERO(&cpus);
	CPU_SET((size_t)atoi(argv[2]), &cpus);
	sched_setaffinity(0, sizeof(cpus), &cpus);
	skeleton = capture_bench_bpf__open();
	if (!skeleton)
		return 1;
	skeleton->rodata->source_interface = (uint32_t)atoi(argv[1]);
	if (capture_bench_bpf__load(skeleton) < 0)
		return 1;
	frame_make(frame, bytes);
	rate = atof(argv[3]);
	begin = now();
	cpu = clock_seconds(CLOCK_PROCESS_CPUTIME_ID);
	end = begin + atof(argv[4]);
	while (now() < end) {
		double due = rate > 0 ? (rate * (now() - begin) - sent) / COPIES : RUNS_MAX;
		LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = frame, .data_size_in = bytes);

		if (due < 1) {
			struct timespec pause = {.tv_nsec = 20000};

			nanosleep(&pause, NULL);
			continue;
		}
		options.repeat = due > RUNS_MAX ? RUNS_MAX : (int)due;
		if (bpf_prog_test_run_opts(bpf_program__fd(skeleton->progs.source_send), &options) < 0) {
			perror("bench-capture");
			return 1;
		}
		sent += (double)options.repeat * COPIES;
	}
	printf("%.0f %.6f %.6f\n", sent, now() - begin, clock_seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu);
	capture_bench_bpf__destroy(skeleton);
	return 0;
}
