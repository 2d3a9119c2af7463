/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Runs packets through the real entry programs with BPF_PROG_TEST_RUN and tells what they left in the flow
 * cache. */
#ifndef WEIR_TESTS_BPF_HARNESS_H
#define WEIR_TESTS_BPF_HARNESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shared/flow.h"
#include "watch.skel.h"

struct harness {
	struct watch_bpf *watch;
	unsigned int cpus;
	uint32_t lines; /* per CPU and family */
	struct flow_set4 *cache4;
	struct flow_set6 *cache6;
	struct flow_rest_set6 *rest6;
	struct flow_stats *stats;
	int *rings; /* map per CPU */
};

/* What the kernel knows of a packet beside its bytes. */
struct harness_context {
	uint32_t gso_segs, gso_size, wire_len;
};

/* A line of either family. */
struct harness_line {
	uint8_t src[16], dst[16];
	uint16_t sport, dport, vlan; /* host byte order */
	uint32_t ifindex, serial;
	uint8_t proto, kind;
	struct flow_counts counts;
	struct flow_marks marks;
	uint32_t first;
};

/* -1 and a message where programs cannot be loaded (then a test is to be skipped by that name). */
int harness_open(struct harness *harness, uint32_t lines, uint32_t ring_bytes);
void harness_close(struct harness *harness);
/* As if nothing had ever been seen. */
void harness_clear(struct harness *harness);

#define HARNESS_REFUSED (-1022) /* the kernel takes no such packet for a test run (EINVAL) */

/* Returns the program's verdict, or HARNESS_REFUSED. */
int harness_run(struct harness *harness, const struct bpf_program *program, const uint8_t *packet,
	size_t size, const struct harness_context *context);
/* The line that was filled last; false: there is none. */
bool harness_last(const struct harness *harness, struct harness_line *ret_line);
/* All lines in use. */
size_t harness_lines(const struct harness *harness);
/* Sums the CPUs' counters. */
struct flow_stats harness_stats(const struct harness *harness);

/* Packets from text: hexadecimal digits with any white space between; returns the number of bytes. */
size_t harness_hex(const char *text, uint8_t *ret_packet, size_t room);

#endif
