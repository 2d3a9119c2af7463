// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * Many clients of a service, and the servers behind it.
 *
 * crowd serve NAME PORT ADDRESS...
 *   answers to whatever comes over TCP with a page of HTTP that holds NAME (two letters), and to datagrams
 *   with NAME.
 *
 * crowd ask tcp|udp ADDRESS PORT SOURCE...
 *   reads commands, one a line, and prints for each what happened, as an object of JSON in a line:
 *
 *   open N    N connections more, which are held; each asks who is there
 *   ask       each of those that are held asks again, and expects the name that it was told first
 *   short N   N connections, each of which asks once and ends
 *   again     each of those that are held is broken off, and made anew from the same address and port; the
 *             name may be another one then: "moved" counts those, and they stay, with their new name
 *   forget X  ends those that are held and belong to name X
 *
 *   "done": those that were answered, as expected; "by": the same by name; "moved": another name answered;
 *   "reset": the connection was refused, reset or ended; "silent": nothing came for 15 seconds; "of": those
 *   three together, by the name that they were of ("-": none yet); "held": connections that are open.
 *
 * Sources take turns, so that there are as many ports as it takes.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define AT_ONCE    256 /* under way at a time */
#define EVENTS     256
#define SILENT_S   15
#define AGAIN_S    1 /* a datagram is sent again after */
#define NAME_BYTES 3 /* two letters and a newline: what an answer ends with */
#define NAMES      256
#define MORE       4096

static const char question[] = "GET / HTTP/1.1\r\nHost: crowd\r\n\r\n";

static void die(const char *what)
{
	fprintf(stderr, "crowd: %s: %s\n", what, strerror(errno));
	exit(1);
}

union any_address {
	struct sockaddr any;
	struct sockaddr_in ip4;
	struct sockaddr_in6 ip6;
};

static socklen_t address_read(const char *text, uint16_t port, union any_address *ret_address)
{
	memset(ret_address, 0, sizeof(*ret_address));
	if (inet_pton(AF_INET, text, &ret_address->ip4.sin_addr) == 1) {
		ret_address->ip4.sin_family = AF_INET;
		ret_address->ip4.sin_port = htons(port);
		return sizeof(ret_address->ip4);
	}
	if (inet_pton(AF_INET6, text, &ret_address->ip6.sin6_addr) == 1) {
		ret_address->ip6.sin6_family = AF_INET6;
		ret_address->ip6.sin6_port = htons(port);
		return sizeof(ret_address->ip6);
	}
	errno = EINVAL;
	die(text);
	return 0;
}

static void room_for_descriptors(void)
{
	struct rlimit limit;

	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = limit.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
		die("setrlimit");
}

static double clock_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void watch(int epoll, int fd, uint32_t events, uint64_t data)
{
	struct epoll_event event = {.events = events, .data.u64 = data};

	if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) < 0 &&
		(errno != EEXIST || epoll_ctl(epoll, EPOLL_CTL_MOD, fd, &event) < 0))
		die("epoll_ctl");
}

/* -- serving -- */

enum served { SERVED_LISTENER, SERVED_DATAGRAMS, SERVED_CONNECTION };

static void serve_one(int epoll, int fd, enum served what, const char *page, const char *name)
{
	union any_address who;
	socklen_t bytes = sizeof(who);
	char said[2048];
	ssize_t got;
	int taken;

	switch (what) {
	case SERVED_LISTENER:
		while ((taken = accept4(fd, NULL, NULL, SOCK_NONBLOCK)) >= 0)
			watch(epoll, taken, EPOLLIN, (uint64_t)SERVED_CONNECTION << 32 | (uint32_t)taken);
		break;
	case SERVED_DATAGRAMS:
		while (recvfrom(fd, said, sizeof(said), 0, &who.any, &bytes) >= 0) {
			(void)!sendto(fd, name, NAME_BYTES, 0, &who.any, bytes);
			bytes = sizeof(who);
		}
		break;
	case SERVED_CONNECTION:
		got = recv(fd, said, sizeof(said), 0);
		if (got > 0)
			(void)!send(fd, page, strlen(page), MSG_NOSIGNAL);
		else if (got == 0 || errno != EAGAIN)
			close(fd);
		break;
	}
}

static void serve_at(int epoll, const char *text, uint16_t port)
{
	static const struct {
		int type;
		enum served what;
	} kinds[] = {{SOCK_STREAM, SERVED_LISTENER}, {SOCK_DGRAM, SERVED_DATAGRAMS}};

	for (int i = 0; i < 2; i++) {
		union any_address address;
		socklen_t bytes = address_read(text, port, &address);
		int fd = socket(address.any.sa_family, kinds[i].type | SOCK_NONBLOCK, 0), room = 1 << 22;

		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
		setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &(int){1}, sizeof(int));
		setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof(room));
		if (fd < 0 || bind(fd, &address.any, bytes) < 0 ||
			(kinds[i].type == SOCK_STREAM && listen(fd, 65535) < 0))
			die(text);
		watch(epoll, fd, EPOLLIN, (uint64_t)kinds[i].what << 32 | (uint32_t)fd);
	}
}

static _Noreturn void serve(int count, char **arguments)
{
	int epoll = epoll_create1(0);
	struct epoll_event events[EVENTS];
	char page[256], name[NAME_BYTES + 1];

	snprintf(name, sizeof(name), "%.2s\n", arguments[0]);
	snprintf(page, sizeof(page), "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", NAME_BYTES, name);
	for (int i = 2; i < count; i++)
		serve_at(epoll, arguments[i], (uint16_t)atoi(arguments[1]));
	puts("ready");
	fflush(stdout);
	for (;;) {
		int got = epoll_wait(epoll, events, EVENTS, -1);

		for (int i = 0; i < got; i++)
			serve_one(epoll, (int)(uint32_t)events[i].data.u64,
				(enum served)(events[i].data.u64 >> 32), page, name);
	}
}

/* -- asking -- */

enum stage { STAGE_IDLE, STAGE_CONNECTING, STAGE_ASKED };

struct connection {
	int fd;       /* -1: none */
	uint8_t name; /* number; 0: not known yet */
	uint8_t stage;
	uint8_t last[NAME_BYTES];
};

enum fate { FATE_DONE, FATE_MOVED, FATE_RESET, FATE_SILENT, FATES };

static const char *const fate_words[FATES] = {"done", "moved", "reset", "silent"};

struct crowd {
	int epoll, type;
	union any_address to, from[64];
	socklen_t to_bytes;
	unsigned int sources, source_next;
	struct connection *connections;
	uint32_t count, room;
	char names[NAMES][NAME_BYTES];
	unsigned int name_count; /* name 0: none yet */
	/* the command that is under way */
	uint32_t under_way, fates[FATES], by[NAMES], of[NAMES];
	bool once, again;
	double heard; /* when there was an answer last */
};

static uint8_t name_number(struct crowd *crowd, const uint8_t *name)
{
	for (unsigned int i = 1; i < crowd->name_count; i++)
		if (memcmp(crowd->names[i], name, 2) == 0)
			return (uint8_t)i;
	if (crowd->name_count == NAMES)
		return NAMES - 1;
	memcpy(crowd->names[crowd->name_count], name, 2);
	return (uint8_t)crowd->name_count++;
}

static void connection_close(struct connection *connection)
{
	if (connection->fd >= 0)
		close(connection->fd);
	connection->fd = -1;
}

static void connection_end(struct crowd *crowd, struct connection *connection, enum fate fate)
{
	crowd->fates[fate]++;
	crowd->under_way--;
	crowd->heard = clock_now();
	connection->stage = STAGE_IDLE;
	if (fate == FATE_DONE)
		crowd->by[connection->name]++;
	else
		crowd->of[connection->name]++;
	if (crowd->once || fate > FATE_MOVED || (fate == FATE_MOVED && !crowd->again))
		connection_close(connection);
}

static void connection_ask(struct crowd *crowd, struct connection *connection)
{
	connection->stage = STAGE_ASKED;
	memset(connection->last, 0, sizeof(connection->last));
	if (send(connection->fd, question, sizeof(question) - 1, MSG_NOSIGNAL) < 0)
		connection_end(crowd, connection, FATE_RESET);
	else
		watch(crowd->epoll, connection->fd, EPOLLIN, (uint64_t)(connection - crowd->connections));
}

/* Without a FIN, so that its port is free at once. */
static void connection_break(struct connection *connection, union any_address *ret_from)
{
	socklen_t bytes = sizeof(*ret_from);

	getsockname(connection->fd, &ret_from->any, &bytes);
	setsockopt(
		connection->fd, SOL_SOCKET, SO_LINGER, &(struct linger){.l_onoff = 1}, sizeof(struct linger));
	connection_close(connection);
}

static void connection_open(struct crowd *crowd, struct connection *connection)
{
	union any_address from = crowd->from[crowd->source_next++ % crowd->sources];
	const uint8_t name = connection->name;

	if (crowd->again)
		connection_break(connection, &from);
	*connection = (struct connection){.stage = STAGE_CONNECTING, .name = name};
	connection->fd = socket(crowd->to.any.sa_family, crowd->type | SOCK_NONBLOCK, 0);
	if (connection->fd < 0)
		die("socket");
	if (crowd->again)
		setsockopt(connection->fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
	else if (crowd->type == SOCK_STREAM)
		setsockopt(connection->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &(int){1}, sizeof(int));
	if (bind(connection->fd, &from.any, crowd->to_bytes) < 0)
		die("bind");
	if (connect(connection->fd, &crowd->to.any, crowd->to_bytes) < 0 && errno != EINPROGRESS)
		connection_end(crowd, connection, FATE_RESET);
	else
		watch(crowd->epoll, connection->fd, EPOLLOUT, (uint64_t)(connection - crowd->connections));
}

static void connection_answered(struct crowd *crowd, struct connection *connection)
{
	uint8_t name = name_number(crowd, connection->last);

	if (!connection->name)
		connection->name = name;
	if (connection->name == name) {
		connection_end(crowd, connection, FATE_DONE);
		return;
	}
	connection_end(crowd, connection, FATE_MOVED);
	if (crowd->again)
		connection->name = name;
}

static void connection_hear(struct crowd *crowd, struct connection *connection)
{
	uint8_t said[2048];
	ssize_t got = recv(connection->fd, said, sizeof(said), 0);

	if (got < 0 && errno == EAGAIN)
		return;
	if (got <= 0) {
		connection_end(crowd, connection, FATE_RESET);
		return;
	}
	for (ssize_t i = got > NAME_BYTES ? got - NAME_BYTES : 0; i < got; i++) {
		memmove(connection->last, connection->last + 1, NAME_BYTES - 1);
		connection->last[NAME_BYTES - 1] = said[i];
	}
	if (connection->last[NAME_BYTES - 1] == '\n' && connection->last[NAME_BYTES - 2] >= '0')
		connection_answered(crowd, connection);
}

static void on_event(struct crowd *crowd, struct connection *connection, uint32_t events)
{
	switch (connection->stage) {
	case STAGE_CONNECTING:
		if (events & (EPOLLERR | EPOLLHUP))
			connection_end(crowd, connection, FATE_RESET);
		else
			connection_ask(crowd, connection);
		break;
	case STAGE_ASKED:
		connection_hear(crowd, connection);
		break;
	default: /* ended while nobody asked: whoever asks next finds it out */
		epoll_ctl(crowd->epoll, EPOLL_CTL_DEL, connection->fd, NULL);
	}
}

/* Those that are under way and have not been answered for long. */
static void remind(struct crowd *crowd, uint32_t first, uint32_t end)
{
	bool silent = clock_now() - crowd->heard > SILENT_S;

	for (uint32_t i = first; i < end; i++) {
		struct connection *connection = &crowd->connections[i];

		if (connection->fd < 0 || connection->stage == STAGE_IDLE)
			continue;
		if (silent)
			connection_end(crowd, connection, FATE_SILENT);
		else if (crowd->type == SOCK_DGRAM)
			connection_ask(crowd, connection);
	}
}

/* Connections first..end-1: opened, or asked again. */
static void all_of(struct crowd *crowd, uint32_t first, uint32_t end, bool open)
{
	struct epoll_event events[EVENTS];
	uint32_t next = first;

	crowd->heard = clock_now();
	while (next < end || crowd->under_way) {
		int got;

		while (next < end && crowd->under_way < AT_ONCE) {
			struct connection *connection = &crowd->connections[next++];

			if ((!open || crowd->again) && connection->fd < 0)
				continue;
			crowd->under_way++;
			if (open)
				connection_open(crowd, connection);
			else
				connection_ask(crowd, connection);
		}
		if (!crowd->under_way)
			continue;
		got = epoll_wait(crowd->epoll, events, EVENTS, AGAIN_S * 1000);
		for (int i = 0; i < got; i++)
			on_event(crowd, &crowd->connections[events[i].data.u64], events[i].events);
		if (!got)
			remind(crowd, first, next);
	}
}

static void room_make(struct crowd *crowd, uint32_t more)
{
	if (crowd->count + more > crowd->room) {
		crowd->room = crowd->count + more + MORE;
		crowd->connections = realloc(crowd->connections, crowd->room * sizeof(*crowd->connections));
		if (!crowd->connections)
			die("realloc");
	}
	for (uint32_t i = crowd->count; i < crowd->count + more; i++)
		crowd->connections[i] = (struct connection){.fd = -1};
}

static void forget(struct crowd *crowd, const char *name)
{
	for (uint32_t i = 0; i < crowd->count; i++)
		if (memcmp(crowd->names[crowd->connections[i].name], name, 2) == 0)
			connection_close(&crowd->connections[i]);
}

static void print_by(const struct crowd *crowd, const char *word, const uint32_t *by)
{
	const char *comma = "";

	printf(", \"%s\": {", word);
	for (unsigned int i = 0; i < crowd->name_count; i++)
		if (by[i]) {
			printf("%s\"%.2s\": %u", comma, i ? crowd->names[i] : "-", by[i]);
			comma = ", ";
		}
	putchar('}');
}

static void print_result(const struct crowd *crowd, double seconds)
{
	uint32_t held = 0;

	for (uint32_t i = 0; i < crowd->count; i++)
		held += crowd->connections[i].fd >= 0;
	printf("{\"seconds\": %.2f, \"held\": %u", seconds, held);
	for (int i = 0; i < FATES; i++)
		printf(", \"%s\": %u", fate_words[i], crowd->fates[i]);
	print_by(crowd, "by", crowd->by);
	print_by(crowd, "of", crowd->of);
	puts("}");
	fflush(stdout);
}

static void obey(struct crowd *crowd, const char *verb, const char *object)
{
	uint32_t number = (uint32_t)strtoul(object, NULL, 10), first = crowd->count;
	double began = clock_now();

	memset(crowd->fates, 0, sizeof(crowd->fates));
	memset(crowd->by, 0, sizeof(crowd->by));
	memset(crowd->of, 0, sizeof(crowd->of));
	crowd->once = strcmp(verb, "short") == 0;
	crowd->again = strcmp(verb, "again") == 0;
	if (crowd->once || strcmp(verb, "open") == 0) {
		room_make(crowd, number);
		crowd->count += number;
		all_of(crowd, first, crowd->count, true);
		if (crowd->once)
			crowd->count = first;
	} else if (crowd->again || strcmp(verb, "ask") == 0) {
		all_of(crowd, 0, crowd->count, crowd->again);
	} else if (strcmp(verb, "forget") == 0) {
		forget(crowd, object);
	} else {
		errno = EINVAL;
		die(verb);
	}
	print_result(crowd, clock_now() - began);
}

static int ask(int count, char **arguments)
{
	static struct crowd crowd;
	char line[128], verb[32], object[32];

	crowd.epoll = epoll_create1(0);
	crowd.type = strcmp(arguments[0], "udp") == 0 ? SOCK_DGRAM : SOCK_STREAM;
	crowd.to_bytes = address_read(arguments[1], (uint16_t)atoi(arguments[2]), &crowd.to);
	crowd.name_count = 1;
	for (int i = 3; i < count && crowd.sources < sizeof(crowd.from) / sizeof(crowd.from[0]); i++)
		address_read(arguments[i], 0, &crowd.from[crowd.sources++]);
	while (fgets(line, sizeof(line), stdin)) {
		*object = '\0';
		if (sscanf(line, "%31s %31s", verb, object) >= 1)
			obey(&crowd, verb, object);
	}
	return 0;
}

int main(int count, char **arguments)
{
	if (count < 5) {
		fputs("usage: crowd serve NAME PORT ADDRESS... | crowd ask tcp|udp ADDRESS PORT SOURCE...\n",
			stderr);
		return 2;
	}
	room_for_descriptors();
	if (strcmp(arguments[1], "serve") == 0)
		serve(count - 2, arguments + 2);
	return ask(count - 2, arguments + 2);
}
