// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * blast INTERFACE FAMILY FLOWS SOURCES PACKETS RATE
 *
 * Sends UDP packets of FLOWS different flows, in turn, from SOURCES different addresses, RATE a second (0: as
 * fast as it goes), straight to the driver.  Every packet is delivered: when the other side's backlog is
 * full, the same packet is sent again.  Prints the number of packets and of bytes.
 *
 * Packet i belongs to flow f = i mod FLOWS.  Flow f comes from address f mod SOURCES (10.128.0.0 and on, or
 * fd00:80:: and on) and port 1024 + f / SOURCES, and goes to 10.1.0.77 or fd00:1::77, port 9.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/udp.h>
#include <net/if.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define BATCH         64
#define PAYLOAD_BYTES 18 /* makes an IPv4 frame the smallest that Ethernet knows */

struct frame {
	struct ethhdr ethernet;
	union {
		struct {
			struct iphdr ip;
			struct udphdr udp;
			uint8_t payload[PAYLOAD_BYTES];
		} __attribute__((packed)) v4;
		struct {
			struct ipv6hdr ip;
			struct udphdr udp;
			uint8_t payload[PAYLOAD_BYTES];
		} __attribute__((packed)) v6;
	};
} __attribute__((packed));

struct blast {
	unsigned int family, flows, sources;
	size_t frame_bytes;
	struct frame frames[BATCH];
	struct iovec parts[BATCH];
	struct mmsghdr messages[BATCH];
};

static const uint8_t to_mac[ETH_ALEN] = {2, 0, 0, 0, 1, 1}, from_mac[ETH_ALEN] = {2, 0, 0, 0, 1, 2};

static void die(const char *what)
{
	fprintf(stderr, "blast: %s: %s\n", what, strerror(errno));
	exit(1);
}

static uint16_t ip_checksum(const uint8_t *header)
{
	uint32_t sum = 0;

	for (size_t i = 0; i < sizeof(struct iphdr); i += 2)
		sum += (uint32_t)(header[i] << 8 | header[i + 1]);
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return htons((uint16_t)~sum);
}

static void frame_prepare(struct blast *b, struct frame *frame)
{
	struct udphdr udp = {.dest = htons(9), .len = htons(sizeof(struct udphdr) + PAYLOAD_BYTES)};

	memcpy(frame->ethernet.h_dest, to_mac, ETH_ALEN);
	memcpy(frame->ethernet.h_source, from_mac, ETH_ALEN);
	if (b->family == 4) {
		frame->ethernet.h_proto = htons(ETH_P_IP);
		frame->v4.ip = (struct iphdr){.version = 4,
			.ihl = 5,
			.ttl = 64,
			.protocol = IPPROTO_UDP,
			.tot_len = htons(sizeof(frame->v4)),
			.daddr = htonl(0x0a01004d)};
		frame->v4.udp = udp;
	} else {
		frame->ethernet.h_proto = htons(ETH_P_IPV6);
		frame->v6.ip = (struct ipv6hdr){.version = 6,
			.hop_limit = 64,
			.nexthdr = IPPROTO_UDP,
			.payload_len = htons(sizeof(frame->v6) - sizeof(frame->v6.ip))};
		inet_pton(AF_INET6, "fd00:1::77", &frame->v6.ip.daddr);
		inet_pton(AF_INET6, "fd00:80::", &frame->v6.ip.saddr);
		frame->v6.udp = udp;
	}
}

static void frame_set_flow(const struct blast *b, struct frame *frame, unsigned int flow)
{
	uint32_t source = flow % b->sources;
	uint16_t port = htons((uint16_t)(1024 + flow / b->sources));

	if (b->family == 4) {
		frame->v4.ip.saddr = htonl(0x0a800000 + source);
		frame->v4.ip.check = 0;
		frame->v4.ip.check = ip_checksum((const uint8_t *)frame + sizeof(frame->ethernet));
		frame->v4.udp.source = port;
	} else {
		frame->v6.ip.saddr.s6_addr32[3] = htonl(source);
		frame->v6.udp.source = port;
	}
}

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* Sends all of a batch, however often it takes. */
static void batch_send(struct blast *b, int fd, unsigned int count)
{
	unsigned int done = 0;

	while (done < count) {
		int sent = sendmmsg(fd, b->messages + done, count - done, 0);

		if (sent < 0 && errno != ENOBUFS && errno != EAGAIN && errno != EINTR)
			die("sendmmsg");
		if (sent > 0)
			done += (unsigned int)sent;
		else
			sched_yield(); /* let the other side's softirq run */
	}
}

static void wait_until(uint64_t due_ns)
{
	uint64_t now = now_ns();

	if (due_ns > now + 100000) {
		struct timespec pause = {
			(time_t)((due_ns - now) / 1000000000), (long)((due_ns - now) % 1000000000)};

		nanosleep(&pause, NULL);
	}
}

int main(int argc, char **argv)
{
	struct sockaddr_ll address = {.sll_family = AF_PACKET};
	uint64_t packets, rate, started = now_ns();
	struct blast *b;
	int fd, on = 1;

	if (argc != 7) {
		fprintf(stderr, "usage: blast INTERFACE FAMILY FLOWS SOURCES PACKETS RATE\n");
		return 2;
	}
	b = calloc(1, sizeof(*b));
	if (!b)
		die("memory");
	b->family = (unsigned int)strtoul(argv[2], NULL, 10);
	b->flows = (unsigned int)strtoul(argv[3], NULL, 10);
	b->sources = (unsigned int)strtoul(argv[4], NULL, 10);
	packets = strtoull(argv[5], NULL, 10);
	rate = strtoull(argv[6], NULL, 10);
	if ((b->family != 4 && b->family != 6) || !b->flows || !b->sources ||
		1024 + b->flows / b->sources > 65535) {
		fprintf(stderr, "blast: family 4 or 6, at most 64,000 flows a source\n");
		free(b);
		return 2;
	}
	b->frame_bytes =
		sizeof(struct ethhdr) + (b->family == 4 ? sizeof(b->frames->v4) : sizeof(b->frames->v6));

	fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
	if (fd < 0)
		die("socket");
	address.sll_ifindex = (int)if_nametoindex(argv[1]);
	if (!address.sll_ifindex || bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		die(argv[1]);
	if (setsockopt(fd, SOL_PACKET, PACKET_QDISC_BYPASS, &on, sizeof(on)) < 0)
		die("PACKET_QDISC_BYPASS");

	for (unsigned int i = 0; i < BATCH; i++) {
		frame_prepare(b, &b->frames[i]);
		b->parts[i] = (struct iovec){&b->frames[i], b->frame_bytes};
		b->messages[i].msg_hdr.msg_iov = &b->parts[i];
		b->messages[i].msg_hdr.msg_iovlen = 1;
	}
	for (uint64_t sent = 0; sent < packets;) {
		unsigned int count = packets - sent < BATCH ? (unsigned int)(packets - sent) : BATCH;

		for (unsigned int i = 0; i < count; i++)
			frame_set_flow(b, &b->frames[i], (unsigned int)((sent + i) % b->flows));
		batch_send(b, fd, count);
		sent += count;
		if (rate)
			wait_until(started + sent * 1000000000 / rate);
	}
	printf("%" PRIu64 " %" PRIu64 "\n", packets, packets * (uint64_t)b->frame_bytes);
	close(fd);
	free(b);
	return 0;
}
