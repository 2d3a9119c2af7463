// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * bench-load: one figure for what a connection, or a packet, takes over loopback, all of it in one process on
 * one CPU.
 *
 *     bench-load connections COUNT     connect, accept, close both ends: CPU ns a connection
 *     bench-load packets COUNT         one UDP datagram of 64 bytes there, then received: CPU ns a datagram
 *
 * One process on one CPU: no scheduler, no idle times, so that what is added in between is what is seen.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

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

static void connections(uint64_t count)
{
	/* the end that closes last resets, so that no TIME-WAIT piles up */
	const struct linger reset = {1, 0};
	struct sockaddr_in address;
	int listener = bound(SOCK_STREAM, &address);

	if (listen(listener, 16) < 0)
		die("listen");
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
	close(listener);
}

static void packets(uint64_t count)
{
	struct sockaddr_in to, from;
	int here = bound(SOCK_DGRAM, &to), there = bound(SOCK_DGRAM, &from);
	char payload[64] = {};

	if (connect(there, (struct sockaddr *)&to, sizeof(to)) < 0)
		die("connect");
	for (uint64_t i = 0; i < count; i++)
		if (send(there, payload, sizeof(payload), 0) != (ssize_t)sizeof(payload) ||
			recv(here, payload, sizeof(payload), 0) != (ssize_t)sizeof(payload))
			die("send");
	close(here);
	close(there);
}

int main(int argc, char **argv)
{
	void (*load)(uint64_t count) = argc == 3 && strcmp(argv[1], "connections") == 0 ? connections
	                               : argc == 3 && strcmp(argv[1], "packets") == 0   ? packets
	                                                                                : NULL;
	uint64_t count = argc == 3 ? strtoull(argv[2], NULL, 10) : 0, began;
	cpu_set_t cpus;

	if (!load || !count) {
		fputs("usage: bench-load connections|packets COUNT\n", stderr);
		return 2;
	}
	CPU_ZERO(&cpus);
	CPU_SET(0, &cpus);
	sched_setaffinity(0, sizeof(cpus), &cpus);
	load(count / 10 + 1); /* warm */
	began = cpu_ns();
	load(count);
	printf("%.1f\n", (double)(cpu_ns() - began) / (double)count);
	return 0;
}
