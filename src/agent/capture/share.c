// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
#include "agent/capture/share.h"

#include <errno.h>
#include <event2/buffer.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "basic/cleanup.h"

#define PAGE_BYTES 4096

struct share {
	const struct engine_capture_view *view;
	const uint64_t *written; /* the client's count of blocks */
	uint64_t told;           /* blocks */
	/* By CPU: segments left; and by segment, modulo their number, how many blocks have to be written
	 * before it is free. */
	uint64_t *left, *due;
	struct capture_shared_block block;
	struct capture_run runs[CAPTURE_RUNS_MAX];
};

/* A page that cannot shrink under us. */
static int page_make(void)
{
	_cleanup_close_ int page = memfd_create("weir-capture", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (page < 0 || ftruncate(page, PAGE_BYTES) < 0 ||
		fcntl(page, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
		return -errno;
	return TAKE_FD(page);
}

static int descriptors_send(const char *name, const struct capture_shared_message *message, const int fds[2])
{
	_cleanup_close_ int sender = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	union {
		struct cmsghdr head;
		char space[CMSG_SPACE(2 * sizeof(int))];
	} control = {.head = {
			     .cmsg_len = CMSG_LEN(2 * sizeof(int)),
			     .cmsg_level = SOL_SOCKET,
			     .cmsg_type = SCM_RIGHTS,
		     }};
	struct iovec data = {(void *)message, sizeof(*message)};
	struct msghdr header = {
		.msg_name = &address,
		.msg_iov = &data,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};
	size_t length = strlen(name);

	if (sender < 0)
		return -errno;
	if (!length || length > sizeof(address.sun_path) - 1)
		return -EINVAL;
	memcpy(address.sun_path + 1, name, length);
	header.msg_namelen = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + length);
	memcpy(CMSG_DATA(&control.head), fds, 2 * sizeof(int));
	return sendmsg(sender, &header, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? -errno : 0;
}

int share_open(struct engine_capture *capture, const char *name, struct share **ret_share)
{
	const struct engine_capture_view *view = engine_capture_view(capture);
	const size_t segments = view->cpus * (size_t)view->segments;
	const struct capture_shared_message message = {.memory_bytes = segments * view->segment_bytes};
	_cleanup_close_ int page = page_make();
	struct share *share;
	void *written;
	int r;

	if (page < 0)
		return page;
	share = calloc(1, sizeof(*share));
	if (!share)
		return -ENOMEM;
	share->view = view;
	share->left = calloc(view->cpus, sizeof(uint64_t));
	share->due = calloc(segments, sizeof(uint64_t));
	written = mmap(NULL, PAGE_BYTES, PROT_READ, MAP_SHARED, page, 0);
	share->written = written == MAP_FAILED ? NULL : written;
	r = share->left && share->due && share->written
	            ? descriptors_send(name, &message, (const int[2]){engine_capture_memory(capture), page})
	            : -ENOMEM;
	if (r < 0) {
		share_free(share);
		return r;
	}
	*ret_share = share;
	return 0;
}

void share_free(struct share *share)
{
	if (!share)
		return;
	if (share->written)
		munmap((void *)share->written, PAGE_BYTES);
	free(share->left);
	free(share->due);
	free(share);
}

void share_flush(struct share *share, struct evbuffer *out)
{
	struct capture_shared_block *block = &share->block;
	size_t bytes = sizeof(*block) + block->count * sizeof(struct capture_run);

	if (!block->count)
		return;
	block->type = CAPTURE_BLOCK_SHARED;
	block->bytes = (uint32_t)(bytes + sizeof(block->bytes));
	evbuffer_add(out, block, sizeof(*block));
	evbuffer_add(out, share->runs, bytes - sizeof(*block));
	evbuffer_add(out, &block->bytes, sizeof(block->bytes));
	block->count = block->packets = 0;
	share->told++;
}

void share_run(struct share *share, const void *blocks, size_t bytes, uint32_t packets, struct evbuffer *out)
{
	uint32_t offset = (uint32_t)((const uint8_t *)blocks - share->view->memory);
	struct capture_run *last;

	if (!bytes)
		return;
	last = share->block.count ? &share->runs[share->block.count - 1] : NULL;
	if (last && last->offset + last->bytes == offset) {
		last->bytes += (uint32_t)bytes;
	} else {
		if (share->block.count == CAPTURE_RUNS_MAX)
			share_flush(share, out);
		share->runs[share->block.count++] = (struct capture_run){offset, (uint32_t)bytes};
	}
	share->block.packets += packets;
}

void share_leave(struct share *share, unsigned int cpu, uint64_t segment)
{
	share->due[cpu * (size_t)share->view->segments + segment % share->view->segments] =
		share->told + (share->block.count > 0);
	share->left[cpu] = segment + 1;
}

void share_give_back(struct share *share)
{
	uint64_t written = __atomic_load_n(share->written, __ATOMIC_ACQUIRE);

	for (unsigned int cpu = 0; cpu < share->view->cpus; cpu++) {
		const uint64_t *due = share->due + cpu * (size_t)share->view->segments;
		struct capture_cpu *state = &share->view->states[cpu];
		uint64_t tail = state->tail;

		while (tail < share->left[cpu] && due[tail % share->view->segments] <= written)
			tail++;
		__atomic_store_n(&state->tail, tail, __ATOMIC_RELEASE);
	}
}
