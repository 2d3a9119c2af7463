// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * What bench/shape.py and bench/share.py are made of:
 *
 *     bench-shape stage A B DELAY_MS INTERVAL_MS PORT    a cable between two interfaces that delays each
 * frame bench-shape receive PORT                      takes what connections send, and answers none
 *     bench-shape send ADDRESS PORT FLOWS CONGESTION SECONDS
 *     bench-shape datagrams ADDRESS PORT BITS_PER_SECOND SECONDS
 *     bench-shape answer PORT                       sends back each request
 *     bench-shape ask ADDRESS PORT SECONDS INTERVAL_MS BYTES
 *
 * The stage stands in for netem, which this kind of machine lacks.  Frames pass as the kernel hands them
 * over, not cut into segments (GSO), a thread for each direction, and it counts what they are on a wire:
 * every INTERVAL_MS it writes a line with the time, the bytes, headers included, that have come from A and
 * from B so far, the frames that it lost, and of what came from A the bytes to PORT.  `ask` writes the
 * percentiles of the round trips of its requests, in microseconds.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/ip.h>
#include <linux/virtio_net.h>
#include <net/if.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_S      1000000000ULL
#define FRAME_MAX     (65536 + 256)
#define FRAMES        4096 /* on their way in each direction */
#define MANY          32   /* of them: from there on they are moved in heaps */
#define HEAP_NS       100000
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
	size_t bytes;
	char data[FRAME_MAX];
};

/* One direction, a thread's own. */
struct side {
	int socket, to;
	uint64_t delay_ns;
	struct frame *frames; /* FRAMES of them */
	uint64_t first, next;
	uint16_t port; /* what is sent to it is counted by itself, too; network byte order; 0: nothing */
	_Atomic uint64_t wire_bytes, port_bytes, lost;
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
		setsockopt(side->socket, SOL_PACKET, PACKET_QDISC_BYPASS, &one, sizeof(one)) < 0 ||
		bind(side->socket, (struct sockaddr *)&address, sizeof(address)) < 0)
		return -1;
	return 0;
}

/* Of a frame with a virtio header before it: each segment has headers of its own. */
static uint64_t wire_bytes(const struct frame *frame)
{
	struct virtio_net_hdr header;
	uint64_t bytes = frame->bytes - sizeof(header), payload;

	memcpy(&header, frame->data, sizeof(header));
	if (header.gso_type == VIRTIO_NET_HDR_GSO_NONE || !header.gso_size || bytes <= header.hdr_len)
		return bytes;
	payload = bytes - header.hdr_len;
	return payload + (payload + header.gso_size - 1) / header.gso_size * header.hdr_len;
}

/* To which port of TCP or UDP over IPv4, in network byte order; 0: none. */
static uint16_t port_of(const struct frame *frame)
{
	const char *data = frame->data + sizeof(struct virtio_net_hdr);
	const struct iphdr *ip = (const struct iphdr *)(data + ETH_HLEN);
	uint16_t port;

	if (((const struct ethhdr *)data)->h_proto != htons(ETH_P_IP) ||
		(ip->protocol != IPPROTO_TCP && ip->protocol != IPPROTO_UDP))
		return 0;
	memcpy(&port, (const char *)ip + ip->ihl * 4 + 2, sizeof(port));
	return port;
}

static struct frame *side_frame(const struct side *side, uint64_t number)
{
	return &side->frames[number % FRAMES];
}

static void side_take(struct side *side)
{
	struct mmsghdr messages[BURST] = {0};
	struct iovec rooms[BURST];
	uint64_t room = FRAMES - (side->next - side->first), now;
	char nothing[64];
	int count;

	if (!room) {
		side->lost += recv(side->socket, nothing, sizeof(nothing), 0) >= 0;
		return;
	}
	if (room > BURST)
		room = BURST;
	for (uint64_t i = 0; i < room; i++) {
		rooms[i] = (struct iovec){side_frame(side, side->next + i)->data, FRAME_MAX};
		messages[i].msg_hdr = (struct msghdr){.msg_iov = &rooms[i], .msg_iovlen = 1};
	}
	count = recvmmsg(side->socket, messages, (unsigned int)room, 0, NULL);
	now = now_ns();
	for (int i = 0; i < count; i++) {
		struct frame *frame = side_frame(side, side->next++);

		frame->bytes = messages[i].msg_len;
		frame->leaves_ns = now + side->delay_ns;
		side->wire_bytes += wire_bytes(frame);
		if (side->port && port_of(frame) == side->port)
			side->port_bytes += wire_bytes(frame);
	}
}

/* Hands over what has waited long enough. */
static void side_give(struct side *side)
{
	struct mmsghdr messages[BURST] = {0};
	struct iovec frames[BURST];
	uint64_t now = now_ns();
	unsigned int due = 0;
	int count;

	for (; due < BURST && side->first + due != side->next; due++) {
		struct frame *frame = side_frame(side, side->first + due);

		if (frame->leaves_ns > now)
			break;
		frames[due] = (struct iovec){frame->data, frame->bytes};
		messages[due].msg_hdr = (struct msghdr){.msg_iov = &frames[due], .msg_iovlen = 1};
	}
	if (!due)
		return;
	count = sendmmsg(side->to, messages, due, 0);
	if (count < 0) {
		count = 1; /* the first of them cannot be sent */
		side->lost++;
	}
	side->first += (uint64_t)count;
}

/* Until something has come or is to leave. */
static void side_wait(const struct side *side)
{
	struct pollfd ready = {side->socket, POLLIN, 0};
	struct timespec pause = {1, 0};

	/* to wake for each frame is what fills two cores at a Gbit/s */
	if (side->next - side->first > MANY) {
		pause = (struct timespec){0, HEAP_NS};
		nanosleep(&pause, NULL);
		return;
	}
	if (side->first != side->next) {
		uint64_t leaves = side_frame(side, side->first)->leaves_ns, now = now_ns();

		if (leaves <= now)
			return;
		pause = (struct timespec){
			(time_t)((leaves - now) / NS_PER_S), (long)((leaves - now) % NS_PER_S)};
	}
	ppoll(&ready, 1, &pause, NULL);
}

static void *side_run(void *data)
{
	struct side *side = data;

	for (;;) {
		side_take(side);
		side_give(side);
		side_wait(side);
	}
	return NULL;
}

/* What it had no room for, in its buffer and in the kernel's. */
static uint64_t side_lost(struct side *side)
{
	struct tpacket_stats stats;
	socklen_t length = sizeof(stats);

	/* the kernel begins anew with each question */
	if (getsockopt(side->socket, SOL_PACKET, PACKET_STATISTICS, &stats, &length) == 0)
		side->lost += stats.tp_drops;
	return side->lost;
}

static int stage(char **arguments)
{
	uint64_t delay_ns = (uint64_t)(atof(arguments[2]) * 1e6),
		 step = strtoull(arguments[3], NULL, 10) * 1000000;
	static struct side sides[2];
	uint64_t says = now_ns();
	pthread_t thread;

	sides[0].port = htons((uint16_t)atoi(arguments[4]));
	if (side_open(&sides[0], arguments[0]) < 0 || side_open(&sides[1], arguments[1]) < 0 ||
		prctl(PR_SET_TIMERSLACK, 1) < 0)
		return fail("cannot open the interfaces");
	for (int i = 0; i < 2; i++) {
		sides[i].to = sides[!i].socket;
		sides[i].delay_ns = delay_ns;
		errno = pthread_create(&thread, NULL, side_run, &sides[i]);
		if (errno)
			return fail("cannot run");
	}
	for (;; says += step) {
		struct timespec next = {(time_t)(says / NS_PER_S), (long)(says % NS_PER_S)};

		clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &next, NULL);
		printf("%.6f %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", (double)now_ns() / 1e9,
			sides[0].wire_bytes, sides[1].wire_bytes, side_lost(&sides[0]) + side_lost(&sides[1]),
			sides[0].port_bytes);
		fflush(stdout);
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

/* Waits for one of many at a price that does not grow with their number, as poll()'s does. */
static int watch(int set, int stream, uint32_t events)
{
	struct epoll_event event = {.events = events, .data.fd = stream};

	return epoll_ctl(set, EPOLL_CTL_ADD, stream, &event);
}

static int receive(char **arguments)
{
	static struct epoll_event ready[BURST];
	static char data[1 << 18];
	int listener = listen_on(arguments[0]), set = epoll_create1(0), count, enough = 32768;

	if (listener < 0 || set < 0 || watch(set, listener, EPOLLIN) < 0)
		return fail("cannot listen");
	while ((count = epoll_wait(set, ready, BURST, -1)) >= 0) {
		for (int i = 0; i < count; i++) {
			int stream = ready[i].data.fd;

			if (stream != listener) {
				if (recv(stream, data, sizeof(data), MSG_TRUNC) <= 0)
					close(stream);
				continue;
			}
			stream = accept(listener, NULL, NULL);
			/* woken once for many packets: each is answered all the same */
			if (stream < 0 || watch(set, stream, EPOLLIN) < 0 ||
				setsockopt(stream, SOL_SOCKET, SO_RCVLOWAT, &enough, sizeof(enough)) < 0)
				return fail("accept");
		}
	}
	return fail("epoll_wait");
}

static int send_streams(char **arguments)
{
	static struct epoll_event ready[BURST];
	static int streams[FLOWS_MAX];
	static char data[1 << 17];
	int flows = atoi(arguments[2]), set = epoll_create1(0);
	uint64_t end = now_ns() + (uint64_t)(atof(arguments[4]) * 1e9);

	if (flows < 1 || flows > FLOWS_MAX)
		return fail("flows");
	for (int i = 0; i < flows; i++) {
		streams[i] = connect_to(arguments[0], arguments[1], arguments[3], SOCK_NONBLOCK);
		if (streams[i] < 0 || watch(set, streams[i], EPOLLOUT) < 0)
			return fail("cannot connect");
	}
	while (now_ns() < end) {
		int count = epoll_wait(set, ready, BURST, 100);

		if (count < 0)
			return fail("epoll_wait");
		for (int i = 0; i < count; i++)
			if (send(ready[i].data.fd, data, sizeof(data), MSG_DONTWAIT) < 0 && errno != EAGAIN)
				return fail("send");
	}
	for (int i = 0; i < flows; i++) {
		/* what is still there is not sent: the next round begins with nothing on its way */
		struct linger now = {1, 0};

		setsockopt(streams[i], SOL_SOCKET, SO_LINGER, &now, sizeof(now));
		close(streams[i]);
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
		{"stage", "A B DELAY_MS INTERVAL_MS PORT", 5, stage},
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
