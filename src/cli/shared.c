// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
#include "cli/shared.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "basic/cleanup.h"

/* Nobody can guess the name: the agent may be in another network namespace, where another could have it. */
static int name_make(char *name)
{
	uint64_t number[2];

	if (getrandom(number, sizeof(number), 0) != sizeof(number))
		return -EIO;
	snprintf(name, SHARED_NAME_MAX, "weir-%016llx%016llx", (unsigned long long)number[0],
		(unsigned long long)number[1]);
	return 0;
}

int shared_open(struct shared *ret_shared)
{
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct shared shared = {};
	int r = name_make(shared.name), one = 1;

	if (r < 0)
		return r;
	memcpy(address.sun_path + 1, shared.name, strlen(shared.name));
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &one, sizeof(one)) < 0 ||
		bind(fd, (struct sockaddr *)&address,
			(socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(shared.name))) < 0)
		return -errno;
	shared.socket = TAKE_FD(fd);
	*ret_shared = shared;
	return 0;
}

void shared_close(struct shared *shared)
{
	if (shared->memory)
		munmap((void *)shared->memory, shared->bytes);
	if (shared->written)
		munmap(shared->written, sizeof(*shared->written));
	if (shared->socket >= 0)
		close(shared->socket);
	*shared = (struct shared){.socket = -1};
}

/* Takes the descriptors out of a message: from root, and two of them. */
static int descriptors_read(struct msghdr *header, int fds[2])
{
	struct ucred sender = {.uid = (uid_t)-1};
	size_t count = 0;

	for (struct cmsghdr *control = CMSG_FIRSTHDR(header); control;
		control = CMSG_NXTHDR(header, control)) {
		if (control->cmsg_level != SOL_SOCKET)
			continue;
		if (control->cmsg_type == SCM_CREDENTIALS)
			memcpy(&sender, CMSG_DATA(control), sizeof(sender));
		if (control->cmsg_type == SCM_RIGHTS) {
			count = (control->cmsg_len - CMSG_LEN(0)) / sizeof(int);
			memcpy(fds, CMSG_DATA(control), (count < 2 ? count : 2) * sizeof(int));
		}
	}
	return count == 2 && sender.uid == 0 && !(header->msg_flags & MSG_CTRUNC) ? 0 : -EPROTO;
}

static void descriptors_close(int fds[2])
{
	for (int i = 0; i < 2; i++)
		if (fds[i] >= 0)
			close(TAKE_FD(fds[i]));
}

/* The next message to the socket: 1, or it is nobody's to listen to: 0, or there is none: a negative errno.
 */
static int message_receive(int socket, struct capture_shared_message *message, int fds[2])
{
	union {
		struct cmsghdr head;
		char space[CMSG_SPACE(2 * sizeof(int)) + CMSG_SPACE(sizeof(struct ucred))];
	} control;
	struct iovec data = {message, sizeof(*message)};
	struct msghdr header = {
		.msg_iov = &data,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};
	ssize_t length = recvmsg(socket, &header, MSG_CMSG_CLOEXEC);

	if (length < 0)
		return -errno;
	if (descriptors_read(&header, fds) == 0 && length == (ssize_t)sizeof(*message))
		return 1;
	descriptors_close(fds);
	return 0;
}

/* The agent has sent them before its answer began. */
static int memory_receive(struct shared *shared)
{
	struct capture_shared_message message = {};
	void *memory = MAP_FAILED, *written = MAP_FAILED;
	int fds[2] = {-1, -1}, r = 0;

	while (r == 0)
		r = message_receive(shared->socket, &message, fds);
	if (r > 0) {
		memory = mmap(NULL, message.memory_bytes, PROT_READ, MAP_SHARED, fds[0], 0);
		written = mmap(NULL, sizeof(*shared->written), PROT_READ | PROT_WRITE, MAP_SHARED, fds[1], 0);
		r = memory == MAP_FAILED || written == MAP_FAILED ? -errno : 0;
	}
	shared->memory = memory == MAP_FAILED ? NULL : memory;
	shared->bytes = message.memory_bytes;
	shared->written = written == MAP_FAILED ? NULL : written;
	descriptors_close(fds);
	return r;
}

int shared_read(struct shared *shared, const uint8_t *block, uint32_t bytes, struct iovec *pieces,
	size_t *ret_count, uint32_t *ret_packets)
{
	struct capture_shared_block head;
	int r = shared->memory ? 0 : memory_receive(shared);

	if (r < 0)
		return r;
	if (bytes < sizeof(head) + sizeof(head.bytes))
		return -EPROTO;
	memcpy(&head, block, sizeof(head));
	if (head.count > CAPTURE_RUNS_MAX ||
		bytes != sizeof(head) + head.count * sizeof(struct capture_run) + sizeof(head.bytes))
		return -EPROTO;
	for (size_t i = 0; i < head.count; i++) {
		struct capture_run run;

		memcpy(&run, block + sizeof(head) + i * sizeof(run), sizeof(run));
		if (run.offset > shared->bytes || run.bytes > shared->bytes - run.offset)
			return -EPROTO;
		pieces[i] = (struct iovec){(void *)(shared->memory + run.offset), run.bytes};
	}
	*ret_count = head.count;
	*ret_packets = head.packets;
	return 0;
}

void shared_written(struct shared *shared)
{
	__atomic_store_n(shared->written, *shared->written + 1, __ATOMIC_RELEASE);
}
