// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * bench-tracepoint: attaches programs that do nothing to the tracepoints of sockets, says so, and takes them
 * away when its input ends.
 */
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "owner_bench.skel.h"

int main(void)
{
	struct owner_bench_bpf *programs;
	int r;

	libbpf_set_strict_mode(LIBBPF_STRICT_ALL);
	programs = owner_bench_bpf__open_and_load();
	r = programs ? owner_bench_bpf__attach(programs) : -errno;
	if (r < 0) {
		fprintf(stderr, "bench-tracepoint: cannot attach (as root, Linux 6.3 or later?): %s\n",
			strerror(-r));
		owner_bench_bpf__destroy(programs);
		return 1;
	}
	puts("attached");
	fflush(stdout);
	while (getchar() != EOF)
		;
	owner_bench_bpf__destroy(programs);
	return 0;
}
