// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * bench-load: what a connection, or a packet, takes over loopback, all of it in one process on one CPU.
 *
 * Each line of its input is answered by a figure:
 *
 *     connections COUNT     connect, accept, close both ends: CPU ns a connection
 *     datagrams COUNT       one UDP datagram of 64 bytes there, then received: CPU ns a datagram
 *     stream COUNT          64 KiB there, then received, over TCP: CPU ns a packet, ACKs included
 *     requests COUNT        100 bytes there, 1000 back, on one TCP connection: CPU ns a request
 *
 * One process on one CPU: no scheduler, no idle times, so that what is added in between is what is seen.  It
 * stands still between two lines, with its sockets: another process comes to lie elsewhere in memory, and
 * that is more than what is looked for.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define STREAM_BYTES 65536

static void die(const char *what)
{
	fprintf(stderr, "bench-load: %s: %s\n", what, strerror(errno));
	exit(1);
}

static uint64_t cpu_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now); /* what others do in between is not ours */
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static struct sockaddr_in loopback(void)
{
	return (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

/* A socket that is bound to some port of its own, and the address of that. */
static int bound(int type, struct sockaddr_in *ret_address)
{
	int fd = socket(AF_INET, type, 0);
	socklen_t length = sizeof(*ret_address);

	*ret_address = loopback();
	if (fd < 0 || bind(fd, (struct sockaddr *)ret_address, length) < 0 ||
		getsockname(fd, (struct sockaddr *)ret_address, &length) < 0)
		die("bind");
	return fd;
}

static double connections_cost(uint64_t count)
{
	/* the end that closes last resets, so that no TIME-WAIT piles up */
	const struct linger reset = {1, 0};
	static struct sockaddr_in address;
	static int listener = -1;
	uint64_t began;

	if (listener < 0) {
		listener = bound(SOCK_STREAM, &address);
		if (listen(listener, 16) < 0)
			die("listen");
	}
	began = cpu_ns();
	for (uint64_t i = 0; i < count; i++) {
		int there = socket(AF_INET, SOCK_STREAM, 0), here;

		if (there < 0 || connect(there, (struct sockaddr *)&address, sizeof(address)) < 0)
			die("connect");
		here = accept(listener, NULL, NULL);
		if (here < 0)
			die("accept");
		setsockopt(there, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
		close(there);
		close(here);
	}
	return (double)(cpu_ns() - began) / (double)count;
}

/* Both ends of a TCP connection.  Not paced, as BBR would be: timers and how many packets TCP puts in one
 * would be what is seen. */
static void connected(int *ret_there, int *ret_here)
{
	struct sockaddr_in address;
	const int yes = 1, room = 4 * STREAM_BYTES; /* all of it fits before somebody reads */
	int listener = bound(SOCK_STREAM, &address), there = socket(AF_INET, SOCK_STREAM, 0), here;

	if (listen(listener, 16) < 0)
		die("listen");
	if (there < 0 || connect(there, (struct sockaddr *)&address, sizeof(address)) < 0)
		die("connect");
	here = accept(listener, NULL, NULL);
	if (here < 0)
		die("accept");
	close(listener);
	setsockopt(there, SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof(room));
	setsockopt(here, SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof(room));
	setsockopt(there, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
	setsockopt(here, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
	if (setsockopt(there, IPPROTO_TCP, TCP_CONGESTION, "reno", 4) < 0 ||
		setsockopt(here, IPPROTO_TCP, TCP_CONGESTION, "reno", 4) < 0)
		die("TCP_CONGESTION");
	*ret_there = there;
	*ret_here = here;
}

static void move(int from, int to, size_t size)
{
	static char payload[STREAM_BYTES];
	size_t left = size;
	ssize_t part;

	if (send(from, payload, size, 0) != (ssize_t)size)
		die("send");
	while (left > 0) {
		part = recv(to, payload, left, 0);
		if (part <= 0)
			die("recv");
		left -= (size_t)part;
	}
}

/* Packets that both ends have sent. */
static uint64_t sent(int there, int here)
{
	struct tcp_info one, other;
	socklen_t length = sizeof(one);

	if (getsockopt(there, IPPROTO_TCP, TCP_INFO, &one, &length) < 0 ||
		getsockopt(here, IPPROTO_TCP, TCP_INFO, &other, &length) < 0)
		die("TCP_INFO");
	return (uint64_t)one.tcpi_segs_out + other.tcpi_segs_out;
}

static double datagrams_cost(uint64_t count)
{
	static int there = -1, here;
	struct sockaddr_in to, from;
	uint64_t began;

	if (there < 0) {
		here = bound(SOCK_DGRAM, &to);
		there = bound(SOCK_DGRAM, &from);
		if (connect(there, (struct sockaddr *)&to, sizeof(to)) < 0)
			die("connect");
	}
	began = cpu_ns();
	for (uint64_t i = 0; i < count; i++)
		move(there, here, 64);
	return (double)(cpu_ns() - began) / (double)count;
}

static double stream_cost(uint64_t count)
{
	static int there = -1, here;
	uint64_t began, before, packets;

	if (there < 0)
		connected(&there, &here);
	before = sent(there, here);
	began = cpu_ns();
	do {
		for (int i = 0; i < 64; i++)
			move(there, here, STREAM_BYTES);
		packets = sent(there, here) - before;
	} while (packets < count);
	return (double)(cpu_ns() - began) / (double)packets;
}

static double requests_cost(uint64_t count)
{
	static int there = -1, here;
	uint64_t began;

	if (there < 0)
		connected(&there, &here);
	began = cpu_ns();
	for (uint64_t i = 0; i < count; i++) {
		move(there, here, 100);
		move(here, there, 1000);
	}
	return (double)(cpu_ns() - began) / (double)count;
}

int main(void)
{
	static const struct {
		const char *name;
		double (*cost)(uint64_t count);
	} loads[] = {{"connections", connections_cost}, {"datagrams", datagrams_cost},
		{"stream", stream_cost}, {"requests", requests_cost}};
	const size_t number = sizeof(loads) / sizeof(loads[0]);
	char line[64], name[16];
	unsigned long count;
	cpu_set_t cpus;
	size_t i;

	CPU_ZERO(&cpus);
	CPU_SET(0, &cpus);
	sched_setaffinity(0, sizeof(cpus), &cpus);
	while (fgets(line, sizeof(line), stdin)) {
		i = number;
		if (sscanf(line, "%15s %lu", name, &count) == 2 && count > 0)
			for (i = 0; i < number && strcmp(name, loads[i].name) != 0; i++)
				;
		if (i == number) {
			fputs("bench-load reads lines: connections|datagrams|stream|requests COUNT\n",
				stderr);
			return 2;
		}
		loads[i].cost(count / 10 + 1); /* warm */
		printf("%.1f\n", loads[i].cost(count));
		fflush(stdout);
	}
	return 0;
}
