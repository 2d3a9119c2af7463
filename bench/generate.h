/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Source addresses of generated packets: the same in the program and in whoever fills sets with them. */
#ifndef WEIR_BENCH_GENERATE_H
#define WEIR_BENCH_GENERATE_H

#include <linux/types.h>

/* The n-th address: each step can be undone, so all are different, and they are anywhere (Appleby,
 * MurmurHash3). IPv6: the second word, behind 2001:db8. */
static inline __u32 generate_source(__u32 n)
{
	n ^= n >> 16;
	n *= 0x85ebca6b;
	n ^= n >> 13;
	n *= 0xc2b2ae35;
	n ^= n >> 16;
	return n;
}

#endif
