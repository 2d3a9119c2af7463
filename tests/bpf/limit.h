/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* What the test and its program (limit.bpf.c) tell each other. */
#ifndef WEIR_TESTS_BPF_LIMIT_H
#define WEIR_TESTS_BPF_LIMIT_H

#include <linux/types.h>

enum { LIMIT_PACKET, LIMIT_BEGINS, LIMIT_ENDS };

/* A packet, or a connection. */
struct limit_question {
	__u32 place, packets, bytes, family, connection;
	__be32 src[4], dst[4];
};

/* Of one CPU. */
struct limit_result {
	__u64 within, over, full;
	__u64 first_from, first_to; /* when the first question was asked: not before, not after */
	__u64 whom;                 /* the last connection is counted for */
	__u64 last_from, last_to;
};

#endif
