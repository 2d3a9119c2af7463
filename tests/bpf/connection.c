// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* The connection table in the kernel: what a packet is to it, what it leaves there, and what it withstands.
 */
#include <arpa/inet.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <cmocka.h>

#include "connection_test.skel.h"
#include "shared/connection.h"
#include "shared/policy.h"

#define FRAME_MAX    512
#define CONNECTIONS  4096
#define EMBRYOS      8192
#define FLOOD        200000
#define TCP_FIN      0x01
#define TCP_SYN      0x02
#define TCP_RST      0x04
#define TCP_ACK      0x10
#define WINDOW       60000
#define UDP          17
#define TCP          6
#define ICMP         1
#define ICMP6        58
#define ECHO         8
#define ECHO_REPLY   0
#define UNREACHABLE  3
#define ECHO6        128
#define ECHO_REPLY6  129
#define UNREACHABLE6 1

static struct connection_test_bpf *skeleton;

/* -- packets -- */

struct frame {
	uint8_t bytes[FRAME_MAX];
	size_t size, l3, l4;
	int family;
};

static void put8(struct frame *frame, unsigned int value)
{
	frame->bytes[frame->size++] = (uint8_t)value;
}

static void put16(struct frame *frame, unsigned int value)
{
	put8(frame, value >> 8);
	put8(frame, value & 0xff);
}

static void put32(struct frame *frame, uint32_t value)
{
	put16(frame, value >> 16);
	put16(frame, value & 0xffff);
}

/* Hosts are numbers: 10.0.0.0 + n, fd00:: + n. */
static void put_host(struct frame *frame, uint32_t host)
{
	if (frame->family == 4) {
		put32(frame, 0x0a000000 + host);
		return;
	}
	put32(frame, 0xfd000000);
	put32(frame, 0);
	put32(frame, 0);
	put32(frame, host);
}

static void put_ip(struct frame *frame, uint8_t proto, uint32_t src, uint32_t dst, uint32_t fragment)
{
	if (frame->family == 4) {
		put16(frame, 0x4500);
		put16(frame, 0); /* length: end() */
		put16(frame, 0x1234);
		put16(frame, fragment);
		put8(frame, 64);
		put8(frame, proto);
		put16(frame, 0);
	} else {
		put32(frame, 0x60000000);
		put16(frame, 0);
		put8(frame, fragment ? 44 : proto);
		put8(frame, 64);
	}
	put_host(frame, src);
	put_host(frame, dst);
	if (frame->family == 6 && fragment) {
		put8(frame, proto);
		put8(frame, 0);
		put16(frame, (fragment & 0x1fff) << 3 | (fragment & 0x2000 ? 1 : 0));
		put32(frame, 0x12345678);
	}
}

static struct frame begin(int family, uint8_t proto, uint32_t src, uint32_t dst, uint32_t fragment)
{
	struct frame frame = {.family = family};

	put32(&frame, 0x02000000);
	put32(&frame, 0x00020200);
	put32(&frame, 0x00000001);
	put16(&frame, family == 4 ? 0x0800 : 0x86dd);
	frame.l3 = frame.size;
	put_ip(&frame, proto, src, dst, fragment);
	frame.l4 = frame.size;
	return frame;
}

static void set_length(struct frame *frame, size_t l3)
{
	size_t length = frame->size - l3 - (frame->family == 4 ? 0 : 40),
	       at = l3 + (frame->family == 4 ? 2 : 4);

	frame->bytes[at] = (uint8_t)(length >> 8);
	frame->bytes[at + 1] = (uint8_t)length;
}

static struct frame udp(int family, uint32_t src, uint16_t sport, uint32_t dst, uint16_t dport)
{
	struct frame frame = begin(family, UDP, src, dst, 0);

	put16(&frame, sport);
	put16(&frame, dport);
	put16(&frame, 12);
	put16(&frame, 0);
	put32(&frame, 0x12345678);
	set_length(&frame, frame.l3);
	return frame;
}

struct tcp {
	uint32_t src, dst;
	uint16_t sport, dport;
	uint32_t seq, ack;
	uint8_t flags;
	uint16_t window;
	uint16_t payload;
};

static void put_tcp(struct frame *frame, const struct tcp *tcp)
{
	put16(frame, tcp->sport);
	put16(frame, tcp->dport);
	put32(frame, tcp->seq);
	put32(frame, tcp->ack);
	put8(frame, 0x50);
	put8(frame, tcp->flags);
	put16(frame, tcp->window ? tcp->window : WINDOW);
	put32(frame, 0);
}

static struct frame tcp_frame(int family, const struct tcp *tcp)
{
	struct frame frame = begin(family, TCP, tcp->src, tcp->dst, 0);

	put_tcp(&frame, tcp);
	for (int i = 0; i < tcp->payload; i++)
		put8(&frame, 'x');
	set_length(&frame, frame.l3);
	return frame;
}

static struct frame icmp(int family, uint32_t src, uint32_t dst, uint8_t type, uint16_t id)
{
	struct frame frame = begin(family, family == 4 ? ICMP : ICMP6, src, dst, 0);

	put8(&frame, type);
	put8(&frame, 0);
	put16(&frame, 0);
	put16(&frame, id);
	put16(&frame, 1);
	set_length(&frame, frame.l3);
	return frame;
}

/* An error from `src` to `dst` about the first `bytes` of `inner` behind its IP header. */
static struct frame icmp_error(uint32_t src, uint32_t dst, const struct frame *inner, size_t bytes)
{
	struct frame frame =
		icmp(inner->family, src, dst, inner->family == 4 ? UNREACHABLE : UNREACHABLE6, 0);

	for (size_t i = inner->l3; i < inner->l4 + bytes && i < inner->size; i++)
		put8(&frame, inner->bytes[i]);
	set_length(&frame, frame.l3);
	return frame;
}

/* -- the table -- */

static int run(const struct bpf_program *program, const struct frame *frame)
{
	LIBBPF_OPTS(
		bpf_test_run_opts, options, .data_in = frame->bytes, .data_size_in = (uint32_t)frame->size);

	assert_int_equal(bpf_prog_test_run_opts(bpf_program__fd(program), &options), 0);
	return (int)options.retval;
}

static int accepted(struct frame frame)
{
	return run(skeleton->progs.connection_accept, &frame);
}

static int dropped(struct frame frame)
{
	return run(skeleton->progs.connection_drop, &frame);
}

static size_t count(const struct bpf_map *map)
{
	struct connection_key key, *before = NULL;
	size_t entries = 0;

	while (bpf_map__get_next_key(map, before, &key, sizeof(key)) == 0) {
		before = &key;
		entries++;
	}
	return entries;
}

static void clear(const struct bpf_map *map, size_t key_size)
{
	uint8_t key[64];

	while (bpf_map__get_next_key(map, NULL, key, key_size) == 0)
		bpf_map__delete_elem(map, key, key_size, 0);
}

static int table_clear(void **state)
{
	(void)state;
	clear(skeleton->maps.connections, sizeof(struct connection_key));
	clear(skeleton->maps.embryos, sizeof(struct connection_key));
	clear(skeleton->maps.fragments, sizeof(struct connection_fragment_key));
	skeleton->bss->rule = 0;
	skeleton->data->now = 1000;
	skeleton->data->followed = 1;
	return 0;
}

/* A handshake of 1, port `port`, with 2, port 80; initial numbers 100 and 500. */
static void handshake(int family, uint16_t port)
{
	struct tcp syn = {1, 2, port, 80, 100, 0, TCP_SYN, 0, 0};
	struct tcp syn_ack = {2, 1, 80, port, 500, 101, TCP_SYN | TCP_ACK, 0, 0};
	struct tcp ack = {1, 2, port, 80, 101, 501, TCP_ACK, 0, 0};

	assert_int_equal(accepted(tcp_frame(family, &syn)), POLICY_STATE_NEW);
	assert_int_equal(accepted(tcp_frame(family, &syn_ack)), POLICY_STATE_ESTABLISHED);
	assert_int_equal(accepted(tcp_frame(family, &ack)), POLICY_STATE_ESTABLISHED);
}

/* -- tests -- */

static void test_udp(void **state)
{
	(void)state;
	for (int family = 4; family <= 6; family += 2) {
		table_clear(NULL);
		assert_int_equal(accepted(udp(family, 1, 4000, 2, 53)), POLICY_STATE_NEW);
		assert_int_equal(accepted(udp(family, 1, 4000, 2, 53)), POLICY_STATE_NEW);
		assert_int_equal(count(skeleton->maps.embryos), 1);
		assert_int_equal(count(skeleton->maps.connections), 0);
		assert_int_equal(accepted(udp(family, 2, 53, 1, 4000)), POLICY_STATE_ESTABLISHED);
		assert_int_equal(count(skeleton->maps.embryos), 0);
		assert_int_equal(count(skeleton->maps.connections), 1);
		assert_int_equal(accepted(udp(family, 1, 4000, 2, 53)), POLICY_STATE_ESTABLISHED);
		assert_int_equal(accepted(udp(family, 1, 4001, 2, 53)), POLICY_STATE_NEW);
		assert_int_equal(accepted(udp(family, 2, 53, 1, 4002)), POLICY_STATE_NEW);
	}
}

static void test_dropped(void **state)
{
	struct tcp syn = {1, 2, 4000, 80, 100, 0, TCP_SYN, 0, 0};

	(void)state;
	assert_int_equal(dropped(udp(4, 1, 4000, 2, 53)), POLICY_STATE_NEW);
	assert_int_equal(dropped(tcp_frame(6, &syn)), POLICY_STATE_NEW);
	assert_int_equal(dropped(icmp(4, 1, 2, ECHO, 7)), POLICY_STATE_NEW);
	assert_int_equal(count(skeleton->maps.embryos), 0);
	assert_int_equal(accepted(udp(4, 1, 4000, 2, 53)), POLICY_STATE_NEW);
	assert_int_equal(dropped(udp(4, 2, 53, 1, 4000)), POLICY_STATE_ESTABLISHED);
	assert_int_equal(count(skeleton->maps.connections), 0);
}

static void test_tcp(void **state)
{
	(void)state;
	for (int family = 4; family <= 6; family += 2) {
		struct tcp data = {1, 2, 4000, 80, 101, 501, TCP_ACK, 0, 100};
		struct tcp far = {1, 2, 4000, 80, 101 + 70000, 501, TCP_ACK, 0, 100};
		struct tcp other = {1, 2, 4001, 80, 101, 501, TCP_ACK, 0, 100};
		struct tcp reset = {2, 1, 80, 4000, 777, 0, TCP_RST, 0, 0};
		struct frame padded;

		table_clear(NULL);
		skeleton->bss->rule = 42;
		handshake(family, 4000);
		assert_int_equal(count(skeleton->maps.embryos), 0);
		assert_int_equal(count(skeleton->maps.connections), 1);
		assert_int_equal(accepted(tcp_frame(family, &data)), POLICY_STATE_ESTABLISHED);
		assert_int_equal(accepted(tcp_frame(family, &far)), POLICY_STATE_INVALID);
		assert_int_equal(accepted(tcp_frame(family, &other)), POLICY_STATE_INVALID);
		assert_int_equal(count(skeleton->maps.connections), 1);
		assert_int_equal(count(skeleton->maps.embryos), 0);
		assert_int_equal(
			accepted(tcp_frame(family, &reset)), POLICY_STATE_ESTABLISHED); /* challenged */
		reset.seq = 700000;
		assert_int_equal(accepted(tcp_frame(family, &reset)), POLICY_STATE_INVALID);
		data.seq += 100;
		assert_int_equal(accepted(tcp_frame(family, &data)), POLICY_STATE_ESTABLISHED);
		/* what fills a frame up to 60 bytes is no data */
		data.payload = 0;
		data.seq += 100;
		padded = tcp_frame(family, &data);
		for (int i = 0; i < 40; i++)
			put8(&padded, 0);
		assert_int_equal(accepted(padded), POLICY_STATE_ESTABLISHED);
		/* a header that says more than there is */
		padded.bytes[padded.l3 + (family == 4 ? 2 : 4)] = 8;
		assert_int_equal(accepted(padded), POLICY_STATE_INVALID);
		reset.seq = 501;
		assert_int_equal(accepted(tcp_frame(family, &reset)), POLICY_STATE_ESTABLISHED);
		assert_int_equal(accepted(tcp_frame(family, &reset)), POLICY_STATE_ESTABLISHED);
		/* and again with the same ports */
		handshake(family, 4000);
		assert_int_equal(count(skeleton->maps.connections), 1);
	}
}

static void test_rule(void **state)
{
	struct connection_key key;
	struct connection c;

	(void)state;
	skeleton->bss->rule = 42;
	accepted(udp(4, 9, 4000, 2, 53));
	skeleton->bss->rule = 43;
	accepted(udp(4, 2, 53, 9, 4000));
	assert_int_equal(bpf_map__get_next_key(skeleton->maps.connections, NULL, &key, sizeof(key)), 0);
	assert_int_equal(
		bpf_map__lookup_elem(skeleton->maps.connections, &key, sizeof(key), &c, sizeof(c), 0), 0);
	assert_int_equal(c.rule, 42);
	assert_int_equal(c.created, 1000);
	assert_int_equal(c.established, 1000);
	/* the smaller end first */
	assert_int_equal(key.address[0][0], htonl(0x0a000002));
	assert_int_equal(key.port[0], htons(53));
	assert_int_equal(key.address[1][0], htonl(0x0a000009));
	assert_int_equal(c.first, 1);
}

static void test_echo(void **state)
{
	(void)state;
	for (int family = 4; family <= 6; family += 2) {
		uint8_t ask = family == 4 ? ECHO : ECHO6, reply = family == 4 ? ECHO_REPLY : ECHO_REPLY6;

		table_clear(NULL);
		assert_int_equal(accepted(icmp(family, 1, 2, reply, 7)), POLICY_STATE_INVALID);
		assert_int_equal(accepted(icmp(family, 1, 2, ask, 7)), POLICY_STATE_NEW);
		/* the other end asks, too, with the same number */
		assert_int_equal(accepted(icmp(family, 2, 1, ask, 7)), POLICY_STATE_NEW);
		assert_int_equal(accepted(icmp(family, 2, 1, reply, 8)), POLICY_STATE_INVALID);
		assert_int_equal(accepted(icmp(family, 2, 1, reply, 7)), POLICY_STATE_ESTABLISHED);
		assert_int_equal(accepted(icmp(family, 1, 2, ask, 7)), POLICY_STATE_ESTABLISHED);
		/* of one address with itself, as on lo */
		assert_int_equal(accepted(icmp(family, 3, 3, reply, 9)), POLICY_STATE_INVALID);
		assert_int_equal(accepted(icmp(family, 3, 3, ask, 9)), POLICY_STATE_NEW);
		assert_int_equal(accepted(icmp(family, 3, 3, reply, 9)), POLICY_STATE_ESTABLISHED);
	}
}

static void test_errors(void **state)
{
	(void)state;
	for (int family = 4; family <= 6; family += 2) {
		struct frame question = udp(family, 1, 4000, 2, 53), other = udp(family, 1, 4001, 2, 53);
		struct frame echo = icmp(family, 1, 2, family == 4 ? ECHO : ECHO6, 7), error;
		struct tcp syn = {1, 2, 4000, 80, 100, 0, TCP_SYN, 0, 0};
		struct frame tcp = tcp_frame(family, &syn);

		table_clear(NULL);
		accepted(question);
		accepted(tcp);
		accepted(echo);
		/* from a router on the way */
		assert_int_equal(accepted(icmp_error(99, 1, &question, 8)), POLICY_STATE_RELATED);
		assert_int_equal(accepted(icmp_error(2, 1, &tcp, 8)), POLICY_STATE_RELATED);
		assert_int_equal(accepted(icmp_error(2, 1, &echo, 8)), POLICY_STATE_RELATED);
		/* ports inside are what counts */
		assert_int_equal(accepted(icmp_error(2, 1, &other, 8)), POLICY_STATE_INVALID);
		/* not to whom has sent the packet inside */
		assert_int_equal(accepted(icmp_error(2, 3, &question, 8)), POLICY_STATE_INVALID);
		assert_int_equal(accepted(icmp_error(1, 2, &question, 8)), POLICY_STATE_INVALID);
		/* too little of it */
		assert_int_equal(accepted(icmp_error(2, 1, &question, 7)), POLICY_STATE_INVALID);
		/* about an error */
		error = icmp_error(2, 1, &question, 8);
		assert_int_equal(accepted(icmp_error(1, 2, &error, 28)), POLICY_STATE_INVALID);
		/* it makes no connection */
		assert_int_equal(count(skeleton->maps.connections), 0);
		assert_int_equal(count(skeleton->maps.embryos), 3);
	}
}

static void test_error_behind_extensions(void **state)
{
	struct frame question = udp(6, 1, 4000, 2, 53), inner = begin(6, 60, 1, 2, 0);

	(void)state;
	accepted(question);
	/* destination options, twice */
	put32(&inner, 0x3c000104);
	put32(&inner, 0);
	put32(&inner, 0x11000104);
	put32(&inner, 0);
	put16(&inner, 4000);
	put16(&inner, 53);
	put32(&inner, 0x00080000);
	set_length(&inner, inner.l3);
	assert_int_equal(accepted(icmp_error(2, 1, &inner, 64)), POLICY_STATE_RELATED);
	assert_int_equal(accepted(icmp_error(2, 1, &inner, 20)), POLICY_STATE_INVALID);
}

static void test_untracked(void **state)
{
	static const uint8_t types[] = {130, 131, 132, 133, 134, 135, 136, 137, 143};
	struct frame arp = begin(4, 0, 1, 2, 0);

	(void)state;
	for (size_t i = 0; i < sizeof(types); i++)
		assert_int_equal(accepted(icmp(6, 1, 2, types[i], 0)), POLICY_STATE_NONE);
	assert_int_equal(accepted(icmp(4, 1, 2, 9, 0)), POLICY_STATE_NONE);
	arp.bytes[13] = 0x06;
	assert_int_equal(accepted(arp), POLICY_STATE_NONE);
}

static void test_fragments(void **state)
{
	(void)state;
	for (int family = 4; family <= 6; family += 2) {
		struct frame first = begin(family, UDP, 1, 2, 0x2000), later = begin(family, UDP, 1, 2, 2);
		struct frame stranger = begin(family, UDP, 3, 2, 2), cut = begin(family, TCP, 1, 2, 0x2000);
		struct frame over = begin(family, TCP, 1, 2, 1);

		put16(&first, 4000);
		put16(&first, 53);
		put32(&first, 0x00180000);
		put32(&first, 0);
		put32(&first, 0);
		set_length(&first, first.l3);
		/* looks like a header, and is none */
		put16(&later, 53);
		put16(&later, 4000);
		put32(&later, 0x00080000);
		set_length(&later, later.l3);
		put32(&stranger, 0);
		put32(&stranger, 0);
		set_length(&stranger, stranger.l3);
		table_clear(NULL);
		assert_int_equal(accepted(later), POLICY_STATE_NONE);
		assert_int_equal(dropped(first), POLICY_STATE_NEW);
		assert_int_equal(accepted(later), POLICY_STATE_NONE);
		assert_int_equal(accepted(first), POLICY_STATE_NEW);
		assert_int_equal(accepted(later), POLICY_STATE_NEW);
		assert_int_equal(accepted(udp(family, 2, 53, 1, 4000)), POLICY_STATE_ESTABLISHED);
		assert_int_equal(accepted(first), POLICY_STATE_ESTABLISHED);
		assert_int_equal(accepted(later), POLICY_STATE_ESTABLISHED);
		assert_int_equal(accepted(stranger), POLICY_STATE_NONE);
		/* remembered no longer than its receiver would wait for it */
		skeleton->data->now += CONNECTION_FRAGMENT_TICKS + 1;
		assert_int_equal(accepted(later), POLICY_STATE_NONE);
		/* ends inside the header, and writes over it */
		put32(&cut, 0x0fa00050);
		put32(&cut, 1);
		set_length(&cut, cut.l3);
		assert_int_equal(accepted(cut), POLICY_STATE_INVALID);
		put32(&over, 0x00000000);
		put32(&over, 0x50020000);
		set_length(&over, over.l3);
		assert_int_equal(accepted(over), POLICY_STATE_INVALID);
	}
}

static void times_set(uint8_t proto, uint8_t stage, uint32_t ticks)
{
	__u32 index = connection_times_of(proto, stage);

	assert_int_equal(bpf_map__update_elem(skeleton->maps.connection_times, &index, sizeof(index), &ticks,
				 sizeof(ticks), BPF_ANY),
		0);
}

static void test_times(void **state)
{
	(void)state;
	times_set(UDP, CONNECTION_NEW, 300);
	times_set(UDP, CONNECTION_ANSWERED, 500);
	times_set(UDP, CONNECTION_OPEN, 9000);
	accepted(udp(4, 1, 4000, 2, 53));
	skeleton->data->now += 301;
	assert_int_equal(accepted(udp(4, 2, 53, 1, 4000)), POLICY_STATE_NEW);
	accepted(udp(4, 1, 4000, 2, 53));
	skeleton->data->now += 500;
	assert_int_equal(accepted(udp(4, 1, 4000, 2, 53)), POLICY_STATE_ESTABLISHED);
	skeleton->data->now += 500;
	assert_int_equal(accepted(udp(4, 2, 53, 1, 4000)), POLICY_STATE_ESTABLISHED);
	/* it goes on: no question and answer any more */
	skeleton->data->now += 500;
	assert_int_equal(accepted(udp(4, 2, 53, 1, 4000)), POLICY_STATE_ESTABLISHED);
	skeleton->data->now += 9000;
	assert_int_equal(accepted(udp(4, 2, 53, 1, 4000)), POLICY_STATE_ESTABLISHED);
	skeleton->data->now += 9200;
	assert_int_equal(accepted(udp(4, 2, 53, 1, 4000)), POLICY_STATE_NEW);
	assert_int_equal(count(skeleton->maps.connections), 0);
	times_set(UDP, CONNECTION_NEW, 0);
	times_set(UDP, CONNECTION_ANSWERED, 0);
	times_set(UDP, CONNECTION_OPEN, 0);
}

static void test_flood(void **state)
{
	struct tcp answered = {1, 2, 9999, 80, 100, 0, TCP_SYN, 0, 0};
	struct tcp answer = {2, 1, 80, 9999, 500, 101, TCP_SYN | TCP_ACK, 0, 0};

	(void)state;
	for (uint16_t port = 1000; port < 2000; port++)
		handshake(4, port);
	for (uint32_t i = 0; i < FLOOD; i++) {
		struct tcp syn = {1000 + i, 2, (uint16_t)(1024 + i % 60000), 80, i, 0, TCP_SYN, 0, 0};

		assert_int_equal(accepted(tcp_frame(4, &syn)), POLICY_STATE_NEW);
		if (i == FLOOD / 2)
			assert_int_equal(accepted(tcp_frame(4, &answered)), POLICY_STATE_NEW);
		if (i == FLOOD / 2 + EMBRYOS / 2)
			assert_int_equal(accepted(tcp_frame(4, &answer)), POLICY_STATE_ESTABLISHED);
	}
	assert_int_equal(count(skeleton->maps.connections), 1001);
	assert_true(count(skeleton->maps.embryos) <= EMBRYOS);
	for (uint16_t port = 1000; port < 2000; port++) {
		struct tcp data = {1, 2, port, 80, 101, 501, TCP_ACK, 0, 100};

		assert_int_equal(accepted(tcp_frame(4, &data)), POLICY_STATE_ESTABLISHED);
	}
}

static void test_full(void **state)
{
	size_t cpus = (size_t)libbpf_num_possible_cpus();
	struct connection_stats *each = calloc(cpus, sizeof(*each));
	uint64_t refused = 0;
	__u32 key = 0;

	(void)state;
	for (uint32_t i = 0; i < CONNECTIONS + 100; i++) {
		accepted(udp(4, 1000 + i, 4000, 2, 53));
		accepted(udp(4, 2, 53, 1000 + i, 4000));
		/* whether there was room or not */
		assert_int_equal(accepted(udp(4, 1000 + i, 4000, 2, 53)), POLICY_STATE_ESTABLISHED);
	}
	assert_int_equal(count(skeleton->maps.connections), CONNECTIONS);
	assert_non_null(each);
	assert_int_equal(bpf_map__lookup_elem(skeleton->maps.connection_stats, &key, sizeof(key), each,
				 cpus * sizeof(*each), 0),
		0);
	for (size_t i = 0; i < cpus; i++)
		refused += each[i].refused;
	free(each);
	assert_int_equal(refused, 100);
}

/* -- both directions at once -- */

#define STREAM_PACKETS 50000
#define STREAM_BYTES   100

static uint32_t stream_sent = 101, stream_acked = 101; /* past the table */

static void *stream_send(void *context)
{
	unsigned int *invalid = context;

	for (int i = 0; i < STREAM_PACKETS; i++) {
		uint32_t seq = __atomic_load_n(&stream_sent, __ATOMIC_ACQUIRE);
		struct tcp data = {1, 2, 4000, 80, seq, 501, TCP_ACK, 0, STREAM_BYTES};

		while (seq + STREAM_BYTES - __atomic_load_n(&stream_acked, __ATOMIC_ACQUIRE) > WINDOW)
			sched_yield();
		*invalid += accepted(tcp_frame(4, &data)) != POLICY_STATE_ESTABLISHED;
		__atomic_store_n(&stream_sent, seq + STREAM_BYTES, __ATOMIC_RELEASE);
	}
	return NULL;
}

static void *stream_answer(void *context)
{
	unsigned int *invalid = context;
	uint32_t acked = 0;

	while (acked < 101 + STREAM_PACKETS * STREAM_BYTES) {
		struct tcp ack = {2, 1, 80, 4000, 501, 0, TCP_ACK, 0, 0};

		acked = ack.ack = __atomic_load_n(&stream_sent, __ATOMIC_ACQUIRE);
		*invalid += accepted(tcp_frame(4, &ack)) != POLICY_STATE_ESTABLISHED;
		__atomic_store_n(&stream_acked, acked, __ATOMIC_RELEASE);
	}
	return NULL;
}

static void test_at_once(void **state)
{
	unsigned int invalid[2] = {};
	pthread_t threads[2];

	(void)state;
	handshake(4, 4000);
	assert_int_equal(pthread_create(&threads[0], NULL, stream_send, &invalid[0]), 0);
	assert_int_equal(pthread_create(&threads[1], NULL, stream_answer, &invalid[1]), 0);
	pthread_join(threads[0], NULL);
	pthread_join(threads[1], NULL);
	assert_int_equal(invalid[0], 0);
	assert_int_equal(invalid[1], 0);
}

static int quiet(enum libbpf_print_level level, const char *format, va_list arguments)
{
	(void)level;
	(void)format;
	(void)arguments;
	return 0;
}

int main(void)
{
#define TEST(sentence, function)                                                                             \
	{                                                                                                    \
		.name = (sentence), .test_func = (function), .setup_func = table_clear                       \
	}
	const struct CMUnitTest tests[] = {
		TEST("a datagram and its answer make a connection, of either family", test_udp),
		TEST("a packet that is not accepted leaves nothing", test_dropped),
		TEST("TCP is followed from SYN to RST; what is out of the window is invalid", test_tcp),
		TEST("a connection knows its rule, its times and who began", test_rule),
		TEST("echoes belong to who asked", test_echo),
		TEST("an ICMP error is related to the connection of the packet inside, to its sender",
			test_errors),
		TEST("the packet inside is found behind extension headers", test_error_behind_extensions),
		TEST("neighbour discovery, multicast listeners and ARP have no state", test_untracked),
		TEST("later fragments have the state of the first; those that write over headers are invalid",
			test_fragments),
		TEST("a connection without packets is gone when its time has passed", test_times),
		TEST("a flood of SYNs pushes out no established connection", test_flood),
		TEST("a full table goes on with embryos, and counts that", test_full),
		TEST("both directions at once, on two CPUs, are never invalid", test_at_once),
	};
	int r;

	libbpf_set_strict_mode(LIBBPF_STRICT_ALL);
	libbpf_set_print(quiet);
	skeleton = connection_test_bpf__open();
	if (skeleton) {
		bpf_map__set_max_entries(skeleton->maps.connections, CONNECTIONS);
		bpf_map__set_max_entries(skeleton->maps.embryos, EMBRYOS);
		bpf_map__set_max_entries(skeleton->maps.fragments, 256);
	}
	if (!skeleton || connection_test_bpf__load(skeleton) < 0) {
		printf("1..0 # SKIP the program cannot be loaded (root, CAP_BPF and CAP_NET_ADMIN are "
		       "needed)\n");
		return 0;
	}
	r = cmocka_run_group_tests(tests, NULL, NULL);
	connection_test_bpf__destroy(skeleton);
	return r;
}
