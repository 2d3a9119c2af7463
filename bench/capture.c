// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * Sends frames at a given rate, as the kernel sends what XDP redirects: bench-capture IFINDEX RATE SECONDS BYTES.
 * Prints the frames sent and the seconds it took.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/ip.h>
#include <linux/udp.h>
#include <net/ethernet.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "capture_bench.skel.h"

#define FRAME_MAX 1500
#define PIECES    1000 /* a second */
#define FLOWS     64

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

static void wait_until(double when)
{
	struct timespec time = {.tv_sec = (time_t)when};

	time.tv_nsec = (long)((when - (double)time.tv_sec) * 1e9);
	clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &time, NULL);
}

/* UDP to the discard port of a host that is not there: whoever gets it drops it at once. */
static void frame_make(uint8_t *frame, size_t bytes)
{
	struct ether_header ethernet = {
		.ether_dhost = {2, 0, 0, 0, 9, 9}, .ether_shost = {2, 0, 0, 0, 1, 2}, .ether_type = htons(0x0800)};
	struct iphdr ip = {.version = 4,
		.ihl = 5,
		.ttl = 64,
		.protocol = 17,
		.tot_len = htons((uint16_t)(bytes - sizeof(ethernet))),
		.saddr = htonl(0x0a010002),
		.daddr = htonl(0x0a010001)};
	struct udphdr udp = {
		.dest = htons(9), .len = htons((uint16_t)(bytes - sizeof(ethernet) - sizeof(ip)))};
	uint32_t sum = 0;

	for (size_t i = 0; i < sizeof(ip) / 2; i++)
		sum += ((uint16_t *)&ip)[i];
	sum = (sum & 0xffff) + (sum >> 16);
	ip.check = (uint16_t)~(sum + (sum >> 16));
	memset(frame, 0, bytes);
	memcpy(frame, &ethernet, sizeof(ethernet));
	memcpy(frame + sizeof(ethernet), &ip, sizeof(ip));
	memcpy(frame + sizeof(ethernet) + sizeof(ip), &udp, sizeof(udp));
}

int main(int argc, char **argv)
{
	uint32_t bytes = argc == 5 ? (uint32_t)atoi(argv[4]) : 0;
	struct capture_bench_bpf *skeleton;
	uint8_t frame[FRAME_MAX];
	struct xdp_md context = {.data_end = bytes};
	double rate, begin, end, due = 0, sent = 0;

	if (bytes < 64 || bytes > FRAME_MAX) {
		fprintf(stderr, "usage: %s IFINDEX RATE SECONDS BYTES\n", argv[0]);
		return 2;
	}
	skeleton = capture_bench_bpf__open();
	if (!skeleton)
		return 1;
	skeleton->rodata->source_interface = (uint32_t)atoi(argv[1]);
	skeleton->rodata->source_flows = FLOWS;
	if (capture_bench_bpf__load(skeleton) < 0)
		return 1;
	frame_make(frame, bytes);
	rate = atof(argv[2]);
	begin = now();
	end = begin + atof(argv[3]);
	for (double piece = 1; now() < end; piece++) {
		LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = frame, .data_size_in = bytes, .ctx_in = &context,
			.ctx_size_in = sizeof(context), .flags = BPF_F_TEST_XDP_LIVE_FRAMES);

		due = rate * (now() - begin);
		if (due - sent >= 64) {
			/* what a stall left behind is not caught up with at once */
			options.repeat = due - sent > rate / 50 ? (int)(rate / 50) + 1 : (int)(due - sent);
			if (bpf_prog_test_run_opts(bpf_program__fd(skeleton->progs.source_send), &options) < 0) {
				perror("bench-capture");
				return 1;
			}
			sent += options.repeat;
		}
		wait_until(begin + piece / PIECES);
	}
	printf("%.0f %.6f\n", sent, now() - begin);
	capture_bench_bpf__destroy(skeleton);
	return 0;
}
