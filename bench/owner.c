// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * bench-hooks: attaches programs that do nothing to the tracepoints of sockets and the root cgroup's hooks,
 * says so, and takes them away when its input ends.
 */
#include <bpf/libbpf.h>
#include <errno.h>
#include <linux/mount.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "owner_bench.skel.h"

/* The root of the cgroup hierarchy, wherever it is mounted. */
static int root_open(void)
{
	int context = (int)syscall(__NR_fsopen, "cgroup2", 1 /* FSOPEN_CLOEXEC */), root = -1;

	if (context >= 0 && syscall(__NR_fsconfig, context, FSCONFIG_CMD_CREATE, NULL, NULL, 0) == 0)
		root = (int)syscall(__NR_fsmount, context, 1 /* FSMOUNT_CLOEXEC */, 0);
	if (context >= 0)
		close(context);
	return root;
}

static int attach(struct owner_bench_bpf *programs)
{
	int root = root_open();

	if (root < 0)
		return -errno;
	/* skeletons attach tracepoints by themselves */
	programs->links.bench_sock_create =
		bpf_program__attach_cgroup(programs->progs.bench_sock_create, root);
	programs->links.bench_sock_release =
		bpf_program__attach_cgroup(programs->progs.bench_sock_release, root);
	close(root);
	if (!programs->links.bench_sock_create || !programs->links.bench_sock_release)
		return -errno;
	return owner_bench_bpf__attach(programs);
}

int main(void)
{
	struct owner_bench_bpf *programs;
	int r;

	libbpf_set_strict_mode(LIBBPF_STRICT_ALL);
	programs = owner_bench_bpf__open_and_load();
	r = programs ? attach(programs) : -errno;
	if (r < 0) {
		fprintf(stderr, "bench-hooks: cannot attach (as root, Linux 6.3 or later?): %s\n",
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
