// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* unwrap INTERFACE [pass]: takes what comes in out of its tunnels (unwrap.bpf.c), or has a program that does
 * nothing, as long as this runs. */
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <bpf/libbpf.h>

#include "unwrap.skel.h"

int main(int count, char **arguments)
{
	struct unwrap_bpf *skeleton = unwrap_bpf__open_and_load();
	unsigned int interface = count >= 2 ? if_nametoindex(arguments[1]) : 0;
	const struct bpf_program *program;

	if (!skeleton || !interface) {
		fprintf(stderr, "usage: unwrap INTERFACE [pass] (as root)\n");
		return 2;
	}
	program = count == 3 ? skeleton->progs.pass : skeleton->progs.unwrap;
	if (!bpf_program__attach_xdp(program, (int)interface)) {
		perror("unwrap");
		return 2;
	}
	puts("ready");
	fflush(stdout);
	for (;;)
		pause();
}
