// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * What bench/shape.py is made of:
 *
 *     bench-shape stage A B DELAY_MS INTERVAL_MS    a cable between two interfaces that delays each frame
 *     bench-shape receive PORT                      takes what connections send, and answers none
 *     bench-shape send ADDRESS PORT FLOWS CONGESTION SECONDS
 *     bench-shape datagrams ADDRESS PORT BITS_PER_SECOND SECONDS
 *     bench-shape answer PORT                       sends back each request
 *     bench-shape ask ADDRESS PORT SECONDS INTERVAL_MS BYTES
 *
 * The stage stands in for netem, which this kind of machine lacks.  Frames pass as the kernel hands them
 * over, not cut into segments (GSO), and it counts what they are on a wire: every INTERVAL_MS it writes a
 * line with the time and the bytes, headers included, that have come from A and from B so far.  `ask` writes
 * the percentiles of the round trips of its requests, in microseconds.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/virtio_net.h>
#include <net/if.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_S      1000000000ULL
#define FRAME_MAX     (65536 + 256)
#define FRAMES        4096 /* on their way in each direction */
#define BURST         64
#define BUFFER_BYTES  (64 << 20)
#define FLOWS_MAX     1024
#define ROUNDTRIP_MAX 1000000

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

static int fail(const char *what)
{
	fprintf(stderr, "bench-shape: %s: %s\n", what, strerror(errno));
	return 1;
}

/* -- the stage -- */

struct frame {
	uint64_t leaves_ns;
	ssize_t bytes;
	char data[FRAME_MAX];
};

struct side {
	int socket;
	struct frame *frames; /* FRAMES of them */
	uint64_t first, next;
	uint64_t wire_bytes, lost;
};

static int side_open(struct side *side, const char *interface)
{
	struct sockaddr_ll address = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL)};
	int one = 1, bytes = BUFFER_BYTES;

	side->frames = calloc(FRAMES, sizeof(*side->frames));
	if (!side->frames)
		return -1;
	address.sll_ifindex = (int)if_nametoindex(interface);
	side->socket = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK, htons(ETH_P_ALL));
	if (side->socket < 0 || !address.sll_ifindex ||
		setsockopt(side->socket, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof(bytes)) < 0 ||
		setsockopt(side->socket, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof(bytes)) < 0 ||
		setsockopt(side->socket, SOL_PACKET, PACKET_VNET_HDR, &one, sizeof(one)) < 0 ||
		setsockopt(side->socket, SOL_PACKET, PACKET_IGNORE_OUTGOING, &one, sizeof(one)) < 0 ||
		bind(side->socket, (struct sockaddr *)&address, sizeof(address)) < 0)
		return -1;
	return 0;
}

/* Of a frame with a virtio header before it: each segment has headers of its own. */
static uint64_t wire_bytes(const struct frame *frame)
{
	struct virtio_net_hdr header;
	uint64_t bytes = (uint64_t)frame->bytes - sizeof(header), payload;

	memcpy(&header, frame->data, sizeof(header));
	if (header.gso_type == VIRTIO_NET_HDR_GSO_NONE || !header.gso_size || bytes <= header.hdr_len)
		return bytes;
	payload = bytes - header.hdr_len;
	return payload + (payload + header.gso_size - 1) / header.gso_size * header.hdr_len;
}

static void side_take(struct side *side, uint64_t delay_ns)
{
	char nothing[64];

	for (int i = 0; i < BURST; i++) {
		struct frame *frame = &side->frames[side->next % FRAMES];

		if (side->next - side->first == FRAMES) {
			if (recv(side->socket, nothing, sizeof(nothing), 0) < 0)
				return;
			side->lost++;
			continue;
		}
		frame->bytes = recv(side->socket, frame->data, sizeof(frame->data), 0);
		if (frame->bytes <= (ssize_t)sizeof(struct virtio_net_hdr))
			return;
		frame->leaves_ns = now_ns() + delay_ns;
		side->wire_bytes += wire_bytes(frame);
		side->next++;
	}
}

/* Hands over what has waited long enough; when the next has, 0: none waits. */
static uint64_t side_give(struct side *side, int to)
{
	uint64_t now = now_ns();

	while (side->first != side->next && side->frames[side->first % FRAMES].leaves_ns <= now) {
		struct frame *frame = &side->frames[side->first++ % FRAMES];

		if (send(to, frame->data, (size_t)frame->bytes, 0) < 0)
			side->lost++;
	}
	return side->first == side->next ? 0 : side->frames[side->first % FRAMES].leaves_ns;
}

static int stage(char **arguments)
{
	uint64_t delay_ns = (uint64_t)(atof(arguments[2]) * 1e6),
		 step = strtoull(arguments[3], NULL, 10) * 1000000;
	static struct side sides[2];
	int timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
	uint64_t says = now_ns();

	if (timer < 0 || side_open(&sides[0], arguments[0]) < 0 || side_open(&sides[1], arguments[1]) < 0)
		return fail("cannot open the interfaces");
	for (;;) {
		struct pollfd ready[] = {
			{sides[0].socket, POLLIN, 0}, {sides[1].socket, POLLIN, 0}, {timer, POLLIN, 0}};
		struct itimerspec when = {0};
		uint64_t next = says, expired;

		for (int i = 0; i < 2; i++) {
			uint64_t leaves;

			side_take(&sides[i], delay_ns);
			leaves = side_give(&sides[i], sides[!i].socket);
			if (leaves && leaves < next)
				next = leaves;
		}
		if (now_ns() >= says) {
			printf("%.6f %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", (double)now_ns() / 1e9,
				sides[0].wire_bytes, sides[1].wire_bytes, sides[0].lost + sides[1].lost);
			fflush(stdout);
			says += step;
		}
		when.it_value.tv_sec = (time_t)(next / NS_PER_S);
		when.it_value.tv_nsec = (long)(next % NS_PER_S);
		timerfd_settime(timer, TFD_TIMER_ABSTIME, &when, NULL);
		poll(ready, 3, 1000);
		if (read(timer, &expired, sizeof(expired)) < 0 && errno != EAGAIN)
			return fail("timer");
	}
}

/* -- both ends -- */

static int address_read(
	const char *address, const char *port, struct sockaddr_storage *ret, socklen_t *ret_length)
{
	struct sockaddr_in6 *six = (struct sockaddr_in6 *)ret;
	struct sockaddr_in *four = (struct sockaddr_in *)ret;

	memset(ret, 0, sizeof(*ret));
	if (inet_pton(AF_INET, address, &four->sin_addr) == 1) {
		four->sin_family = AF_INET;
		four->sin_port = htons((uint16_t)atoi(port));
		*ret_length = sizeof(*four);
	} else {
		if (inet_pton(AF_INET6, address, &six->sin6_addr) != 1)
			return -1;
		six->sin6_family = AF_INET6;
		six->sin6_port = htons((uint16_t)atoi(port));
		*ret_length = sizeof(*six);
	}
	return 0;
}

static int listen_on(const char *port)
{
	int listener = socket(AF_INET6, SOCK_STREAM, 0), one = 1, zero = 0;
	struct sockaddr_storage address;
	socklen_t length;

	if (listener < 0 || address_read("::", port, &address, &length) < 0)
		return -1;
	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	setsockopt(listener, IPPROTO_IPV6, IPV6_V6ONLY, &zero, sizeof(zero));
	if (bind(listener, (struct sockaddr *)&address, length) < 0 || listen(listener, FLOWS_MAX) < 0)
		return -1;
	return listener;
}

static int connect_to(const char *host, const char *port, const char *congestion, int flags)
{
	struct sockaddr_storage address;
	socklen_t length;
	int stream = -1;

	if (address_read(host, port, &address, &length) == 0)
		stream = socket(address.ss_family, SOCK_STREAM | flags, 0);
	if (stream < 0 ||
		(congestion && setsockopt(stream, IPPROTO_TCP, TCP_CONGESTION, congestion,
				       (socklen_t)strlen(congestion)) < 0) ||
		(connect(stream, (struct sockaddr *)&address, length) < 0 && errno != EINPROGRESS))
		return -1;
	return stream;
}

static int receive(char **arguments)
{
	static struct pollfd ready[FLOWS_MAX + 1];
	static char data[1 << 18];
	nfds_t count = 1;

	ready[0] = (struct pollfd){listen_on(arguments[0]), POLLIN, 0};
	if (ready[0].fd < 0)
		return fail("cannot listen");
	while (poll(ready, count, -1) >= 0) {
		for (nfds_t i = count; i-- > 1;) {
			if (!ready[i].revents || recv(ready[i].fd, data, sizeof(data), MSG_TRUNC) > 0)
				continue;
			close(ready[i].fd);
			ready[i] = ready[--count];
		}
		if (ready[0].revents && count <= FLOWS_MAX)
			ready[count++] = (struct pollfd){accept(ready[0].fd, NULL, NULL), POLLIN, 0};
	}
	return fail("poll");
}

static int send_streams(char **arguments)
{
	static struct pollfd ready[FLOWS_MAX];
	static char data[1 << 17];
	int flows = atoi(arguments[2]);
	uint64_t end = now_ns() + (uint64_t)(atof(arguments[4]) * 1e9);

	if (flows < 1 || flows > FLOWS_MAX)
		return fail("flows");
	for (int i = 0; i < flows; i++) {
		ready[i] = (struct pollfd){
			connect_to(arguments[0], arguments[1], arguments[3], SOCK_NONBLOCK), POLLOUT, 0};
		if (ready[i].fd < 0)
			return fail("cannot connect");
	}
	while (now_ns() < end) {
		if (poll(ready, (nfds_t)flows, 100) < 0)
			return fail("poll");
		for (int i = 0; i < flows; i++)
			if (ready[i].revents && send(ready[i].fd, data, sizeof(data), MSG_DONTWAIT) < 0 &&
				errno != EAGAIN)
				return fail("send");
	}
	for (int i = 0; i < flows; i++) {
		/* what is still there is not sent: the next round begins with nothing on its way */
		struct linger now = {1, 0};

		setsockopt(ready[i].fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
		close(ready[i].fd);
	}
	return 0;
}

static int send_datagrams(char **arguments)
{
	double bytes_per_ns = atof(arguments[2]) / 8e9;
	uint64_t begin = now_ns(), end = begin + (uint64_t)(atof(arguments[3]) * 1e9), sent = 0;
	static const char data[1472];
	struct sockaddr_storage address;
	socklen_t length;
	int datagrams = -1;

	if (address_read(arguments[0], arguments[1], &address, &length) == 0)
		datagrams = socket(address.ss_family, SOCK_DGRAM, 0);
	if (datagrams < 0 || connect(datagrams, (struct sockaddr *)&address, length) < 0)
		return fail("cannot send");
	for (uint64_t now = begin; now < end; now = now_ns()) {
		struct timespec pause = {0, 1000000};

		while ((double)sent < (double)(now - begin) * bytes_per_ns) {
			/* refused, dropped: offered all the same */
			if (send(datagrams, data, sizeof(data), 0) < 0 && errno != ECONNREFUSED &&
				errno != EPERM && errno != ENOBUFS)
				return fail("send");
			sent += sizeof(data) + 42;
		}
		nanosleep(&pause, NULL);
	}
	return 0;
}

static int answer(char **arguments)
{
	int listener = listen_on(arguments[0]), one = 1;
	static char data[1 << 16];

	signal(SIGCHLD, SIG_IGN);
	if (listener < 0)
		return fail("cannot listen");
	for (;;) {
		int stream = accept(listener, NULL, NULL);
		ssize_t bytes;

		if (stream < 0)
			return fail("accept");
		if (fork() != 0) {
			close(stream);
			continue;
		}
		close(listener);
		setsockopt(stream, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
		while ((bytes = recv(stream, data, sizeof(data), 0)) > 0)
			if (send(stream, data, (size_t)bytes, MSG_NOSIGNAL) < 0)
				break;
		_exit(0);
	}
}

static int compare_times(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static int ask(char **arguments)
{
	static uint64_t times[ROUNDTRIP_MAX];
	uint64_t end;
	int stream = connect_to(arguments[0], arguments[1], NULL, 0), one = 1;
	long interval_ns = (long)(atof(arguments[3]) * 1e6);
	size_t bytes = (size_t)atoi(arguments[4]), count = 0, middle, high;
	static char data[1 << 16];

	if (stream < 0 || bytes > sizeof(data))
		return fail("cannot ask");
	setsockopt(stream, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	end = now_ns() + (uint64_t)(atof(arguments[2]) * 1e9);
	while (now_ns() < end && count < ROUNDTRIP_MAX) {
		struct timespec pause = {interval_ns / (long)NS_PER_S, interval_ns % (long)NS_PER_S};
		uint64_t begin = now_ns();
		ssize_t got = 1;
		size_t all = 0;

		if (send(stream, data, bytes, MSG_NOSIGNAL) != (ssize_t)bytes)
			return fail("send");
		for (; all < bytes && got > 0; all += (size_t)got)
			got = recv(stream, data, sizeof(data), 0);
		if (got <= 0)
			return fail("recv");
		times[count++] = now_ns() - begin;
		nanosleep(&pause, NULL);
	}
	if (!count)
		return fail("nothing was answered");
	middle = count / 2;
	high = count * 99 / 100;
	qsort(times, count, sizeof(*times), compare_times);
	printf("%zu %.0f %.0f %.0f\n", count, (double)times[middle] / 1e3, (double)times[high] / 1e3,
		(double)times[count - 1] / 1e3);
	return 0;
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name, *arguments;
		int count;
		int (*function)(char **arguments);
	} commands[] = {
		{"stage", "A B DELAY_MS INTERVAL_MS", 4, stage},
		{"receive", "PORT", 1, receive},
		{"send", "ADDRESS PORT FLOWS CONGESTION SECONDS", 5, send_streams},
		{"datagrams", "ADDRESS PORT BITS_PER_SECOND SECONDS", 4, send_datagrams},
		{"answer", "PORT", 1, answer},
		{"ask", "ADDRESS PORT SECONDS INTERVAL_MS BYTES", 5, ask},
	};

	signal(SIGPIPE, SIG_IGN);
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		if (argc == commands[i].count + 2 && strcmp(argv[1], commands[i].name) == 0)
			return commands[i].function(argv + 2);
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		fprintf(stderr, "usage: bench-shape %s %s\n", commands[i].name, commands[i].arguments);
	return 2;
}
