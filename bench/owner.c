// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * bench-hooks: puts programs on the tracepoints of sockets and the root cgroup's hooks, and takes them away.
 *
 * Each line of its input says which, and is answered when they are attached:
 *
 *     none
 *     empty     programs that do nothing
 *     weir      weir's, as if an agent had loaded them that watches sockets and records owners
 *
 * It belongs to the network namespace that it runs in.
 */
#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <linux/mount.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "owner_bench.skel.h"
#include "socket.skel.h"

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif

#define LINKS_MAX 32

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

static uint64_t netns_cookie(void)
{
	uint64_t cookie = 0;
	socklen_t length = sizeof(cookie);
	int fd = socket(AF_INET, SOCK_DGRAM, 0);

	if (fd >= 0) {
		getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &length);
		close(fd);
	}
	return cookie;
}

/* Weir's programs, those of lists left out; live, as the map `live` is empty. */
static struct socket_bpf *weir_load(void)
{
	struct socket_bpf *weir = socket_bpf__open();
	struct btf *kernel = btf__load_vmlinux_btf();

	if (weir) {
		weir->rodata->netns_cookie = netns_cookie();
		weir->rodata->socket_has_owner = weir->rodata->socket_counts_udp = 1;
		weir->rodata->owner_casts =
			kernel && btf__find_by_name_kind(kernel, "bpf_rdonly_cast", BTF_KIND_FUNC) >= 0;
		bpf_program__set_autoload(weir->progs.socket_list_tcp, false);
		bpf_program__set_autoload(weir->progs.socket_list_udp, false);
		if (socket_bpf__load(weir) < 0) {
			socket_bpf__destroy(weir);
			weir = NULL;
		}
	}
	btf__free(kernel);
	return weir;
}

static size_t attach(const struct bpf_object *object, int root, struct bpf_link *ret_links[LINKS_MAX])
{
	struct bpf_program *program;
	size_t count = 0;

	bpf_object__for_each_program (program, object) {
		if (!bpf_program__autoload(program) || count == LINKS_MAX)
			continue;
		ret_links[count] = bpf_program__type(program) == BPF_PROG_TYPE_CGROUP_SOCK
		                           ? bpf_program__attach_cgroup(program, root)
		                           : bpf_program__attach(program);
		if (!ret_links[count]) {
			fprintf(stderr, "bench-hooks: %s: %s\n", bpf_program__name(program), strerror(errno));
			break;
		}
		count++;
	}
	return count;
}

static int on_record(void *context, void *data, size_t size)
{
	(void)context;
	(void)data;
	(void)size;
	return 0;
}

int main(void)
{
	struct owner_bench_bpf *empty = owner_bench_bpf__open_and_load();
	struct socket_bpf *weir = weir_load();
	struct bpf_link *links[LINKS_MAX];
	struct ring_buffer *ring = NULL;
	int root = root_open();
	size_t count = 0;
	char word[16];

	if (weir)
		ring = ring_buffer__new(bpf_map__fd(weir->maps.socket_ring), on_record, NULL, NULL);
	if (!empty || !ring || root < 0) {
		fprintf(stderr, "bench-hooks: cannot begin (as root, Linux 6.3 or later?): %s\n",
			strerror(errno));
		return 1;
	}
	while (scanf("%15s", word) == 1) {
		while (count > 0)
			bpf_link__destroy(links[--count]);
		ring_buffer__consume(ring);
		if (strcmp(word, "empty") == 0)
			count = attach(empty->obj, root, links);
		else if (strcmp(word, "weir") == 0)
			count = attach(weir->obj, root, links);
		puts(word);
		fflush(stdout);
	}
	while (count > 0)
		bpf_link__destroy(links[--count]);
	ring_buffer__free(ring);
	socket_bpf__destroy(weir);
	owner_bench_bpf__destroy(empty);
	close(root);
	return 0;
}
