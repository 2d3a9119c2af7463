// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * flood INTERFACE MAC ADDRESS PORT syn|ack|udp PACKETS SOURCES
 *
 * Sends PACKETS packets to an IPv4 address and port, straight to the driver, as fast as it goes, from SOURCES
 * different ends (address and port), one after the other, each as often as the others; each run has its own.
 * Their TCP and UDP checksums are wrong: whoever they are delivered to drops them, and what is in between has
 * all the work. Prints the number of packets.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/ip.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define BATCH 64
#define MIX   2654435761U /* spreads numbers over 32 bits, each once */

struct frame {
	struct ether_header link;
	struct iphdr ip;
	union {
		struct tcphdr tcp;
		struct udphdr udp;
	};
	uint8_t rest[6]; /* makes it the smallest that Ethernet knows */
} __attribute__((packed));

static void die(const char *what)
{
	fprintf(stderr, "flood: %s: %s\n", what, strerror(errno));
	exit(1);
}

static uint16_t checksum(const void *bytes, size_t count)
{
	const uint8_t *byte = bytes;
	uint32_t sum = 0;

	for (size_t i = 0; i + 1 < count; i += 2)
		sum += (uint32_t)(byte[i] << 8 | byte[i + 1]);
	sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t) ~(sum + (sum >> 16));
}

static int packets_open(const char *interface)
{
	int fd = socket(AF_PACKET, SOCK_RAW, 0);
	struct sockaddr_ll here = {.sll_family = AF_PACKET, .sll_ifindex = (int)if_nametoindex(interface)};

	if (fd < 0 || !here.sll_ifindex || bind(fd, (struct sockaddr *)&here, sizeof(here)) < 0 ||
		setsockopt(fd, SOL_PACKET, PACKET_QDISC_BYPASS, &(int){1}, sizeof(int)) < 0)
		die(interface);
	return fd;
}

static struct frame frame_make(char **arguments)
{
	struct frame frame = {.link = {.ether_shost = {2, 0, 0, 0, 9, 9}, .ether_type = htons(ETH_P_IP)},
		.ip = {.version = 4, .ihl = 5, .ttl = 64}};
	uint8_t *to = frame.link.ether_dhost;
	uint16_t port = htons((uint16_t)atoi(arguments[4]));

	if (sscanf(arguments[2], "%hhx:%hhx:%hhx:%hhx:%hhx:%hhx", &to[0], &to[1], &to[2], &to[3], &to[4],
		    &to[5]) != 6 ||
		inet_pton(AF_INET, arguments[3], &frame.ip.daddr) != 1) {
		errno = EINVAL;
		die("MAC or ADDRESS");
	}
	frame.ip.tot_len = htons(sizeof(frame) - sizeof(frame.link));
	if (strcmp(arguments[5], "udp") == 0) {
		frame.ip.protocol = IPPROTO_UDP;
		frame.udp.dest = port;
		frame.udp.len = htons(sizeof(frame) - sizeof(frame.link) - sizeof(frame.ip));
		frame.udp.check = htons(1);
	} else {
		frame.ip.protocol = IPPROTO_TCP;
		frame.tcp.dest = port;
		frame.tcp.doff = 5;
		frame.tcp.syn = strcmp(arguments[5], "syn") == 0;
		frame.tcp.ack = !frame.tcp.syn;
		frame.tcp.window = htons(65535);
		frame.tcp.check = htons(1);
	}
	return frame;
}

static void frame_from(struct frame *frame, uint32_t end)
{
	uint32_t mixed = end * MIX;

	/* 16.0.0.0 and on: nobody's here */
	frame->ip.saddr = htonl(0x10000000 | mixed >> 5);
	frame->tcp.source = htons((uint16_t)(1024 + mixed % 60000));
	frame->ip.check = 0;
	frame->ip.check = htons(checksum(&frame->ip, sizeof(frame->ip)));
}

int main(int count, char **arguments)
{
	static struct frame frames[BATCH];
	static struct iovec parts[BATCH];
	static struct mmsghdr messages[BATCH];
	const uint32_t first = (uint32_t)getpid() << 20;
	unsigned long packets, sources, sent = 0;
	int fd;

	if (count != 8) {
		fputs("usage: flood INTERFACE MAC ADDRESS PORT syn|ack|udp PACKETS SOURCES\n", stderr);
		return 2;
	}
	fd = packets_open(arguments[1]);
	packets = strtoul(arguments[6], NULL, 10);
	sources = strtoul(arguments[7], NULL, 10);
	for (int i = 0; i < BATCH; i++) {
		frames[i] = frame_make(arguments);
		parts[i] = (struct iovec){&frames[i], sizeof(frames[i])};
		messages[i].msg_hdr.msg_iov = &parts[i];
		messages[i].msg_hdr.msg_iovlen = 1;
	}
	while (sent < packets) {
		unsigned int wanted = packets - sent < BATCH ? (unsigned int)(packets - sent) : BATCH;
		int got;

		for (unsigned int i = 0; i < wanted; i++)
			frame_from(&frames[i], first + (uint32_t)((sent + i) % sources));
		got = sendmmsg(fd, messages, wanted, 0);
		if (got < 0 && errno != ENOBUFS && errno != EAGAIN)
			die("sendmmsg");
		if (got <= 0)
			sched_yield();
		else
			sent += (unsigned int)got;
	}
	printf("%lu\n", sent);
	return 0;
}
