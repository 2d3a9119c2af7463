// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* Packets of services through the real program at XDP: who gets them, and what they look like then. */
#include <arpa/inet.h>
#include <errno.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <cmocka.h>
#include <linux/bpf.h>

#include "lib/services.h"

#define LINES      4096
#define RING_BYTES 65536
#define FRAME_MAX  2048
#define SLOTS      13 /* a prime */

static struct services services;

struct frame {
	uint8_t bytes[FRAME_MAX];
	uint32_t length;
	int verdict;
};

static struct frame frame_hex(const char *text)
{
	struct frame frame = {};

	for (; text[0] && text[1] && frame.length < FRAME_MAX; text += 2) {
		unsigned int byte;

		assert_int_equal(sscanf(text, "%2x", &byte), 1);
		frame.bytes[frame.length++] = (uint8_t)byte;
	}
	return frame;
}

#ifdef SERVICE_IN_TC
/* What becomes of a frame in tc, in the words of XDP. */
static struct frame run(const struct frame *in)
{
	static const uint8_t nobody[6];
	struct frame copy = *in, out = *in;
	LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = copy.bytes, .data_size_in = copy.length,
		.data_out = out.bytes, .data_size_out = sizeof(out.bytes), .repeat = 1);
	int r;

	/* the address of the interface that it comes in by, the loopback: what is for others is not looked at
	 */
	memset(copy.bytes, 0, 6);
	r = bpf_prog_test_run_opts(bpf_program__fd(services.tc->progs.balance_tc), &options);
	if (r == -EINVAL && in->length < 34) {
		/* too short for the kernel to make a packet of it */
		out.verdict = XDP_PASS;
		return out;
	}
	assert_int_equal(r, 0);
	out.length = options.data_size_out;
	out.verdict = options.retval == 7 ? XDP_TX : options.retval == 2 ? XDP_DROP : XDP_PASS;
	if (memcmp(out.bytes, nobody, 6) == 0)
		memcpy(out.bytes, in->bytes, 6);
	if (memcmp(out.bytes + 6, nobody, 6) == 0) /* it goes back */
		memcpy(out.bytes + 6, in->bytes, 6);
	return out;
}
#else
/* What becomes of a frame. */
static struct frame run(const struct frame *in)
{
	struct frame out = {};
	LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = in->bytes, .data_size_in = in->length,
		.data_out = out.bytes, .data_size_out = sizeof(out.bytes), .repeat = 1);

	assert_int_equal(
		bpf_prog_test_run_opts(bpf_program__fd(services.balance->progs.balance), &options), 0);
	out.length = options.data_size_out;
	out.verdict = (int)options.retval;
	return out;
}
#endif

/* -- the vectors of another balancer -- */

enum difference {
	SAME,
	CARRIED, /* IPv4 options are carried */
	STACK, /* a fragment whose first has not come by goes to the stack, and is no service's for certain */
	TOLD,  /* what does not fit is told to its sender */
	OUTER, /* the outer source has the client's bits, whatever connections are told apart by */
	SHORT, /* in tc an error quotes no more than up to the checksum, which may still be to be made */
	GUE_PORT, /* the outer UDP port is mixed otherwise, and the checksum is left out */
};

struct vector_difference {
	const char *set;
	int number;
	enum difference difference;
};

/* All others are the same, byte for byte. */
static const struct vector_difference differences[] = {
	{"base", 12, CARRIED},
	{"base", 13, STACK},
	{"base", 14, STACK},
	{"base", 19, OUTER},
	{"base", 20, OUTER},
	{"base", 33, TOLD},
	{"lpm", 1, GUE_PORT},
	{"lpm", 2, GUE_PORT},
	{"lpm", 3, GUE_PORT},
	{"lpm", 4, GUE_PORT},
	{"lpm", 5, GUE_PORT},
	{"lpm", 6, GUE_PORT},
	{"lpm", 7, GUE_PORT},
	{"lpm", 8, GUE_PORT},
#ifdef SERVICE_IN_TC
	{"toobig", 1, SHORT},
	{"toobig", 2, SHORT},
#endif
};

static enum difference difference_of(const char *set, int number)
{
	for (size_t i = 0; i < sizeof(differences) / sizeof(differences[0]); i++)
		if (strcmp(differences[i].set, set) == 0 && differences[i].number == number)
			return differences[i].difference;
	return SAME;
}

/* The services of the vectors; service n has backend n and ring n. */
static const struct {
	const char *address;
	int proto;
	uint16_t port;
} vector_services[] = {
	{"10.200.1.1", 17, 80},
	{"10.200.1.1", 6, 80},
	{"10.200.1.2", 6, 0},
	{"10.200.1.3", 6, 80},
	{"fc00:1::1", 6, 80},
	{"10.200.1.4", 6, 0},
	{"10.200.1.5", 17, 443},
	{"fc00:1::2", 17, 443},
	{"10.200.1.6", 17, 80},
};

#define VECTOR_SERVICES (sizeof(vector_services) / sizeof(vector_services[0]))

static void vectors_bring(enum service_deliver deliver)
{
	struct service_text texts[VECTOR_SERVICES];
	struct service_input inputs[VECTOR_SERVICES];

	for (uint32_t i = 0; i < VECTOR_SERVICES; i++) {
		uint16_t slots[SLOTS];

		for (int slot = 0; slot < SLOTS; slot++)
			slots[slot] = (uint16_t)(i + 1);
		services_text(&texts[i], "vector", vector_services[i].proto, vector_services[i].address,
			vector_services[i].port, vector_services[i].port, deliver);
		texts[i].mtu = 1500;
		texts[i].gue_port = 9886;
		inputs[i] = (struct service_input){
			.text = &texts[i], .number = i + 1, .rule = i + 1, .ring = i + 1, .slots = SLOTS};
		services_ring(&services, i + 1, slots, SLOTS);
	}
	services_book(&services, 0, inputs, VECTOR_SERVICES);
	services_place(&services, 0);
	services_clear(&services);
}

/* All services get the backend that the expected packet shows, and its source where that is no tunnel's own.
 */
static void vector_backends(const struct frame *expected, bool gue)
{
	char text[INET6_ADDRSTRLEN];
	bool six = expected->bytes[12] == 0x86;

	inet_ntop(six ? AF_INET6 : AF_INET, expected->bytes + (six ? 38 : 30), text, sizeof(text));
	for (uint32_t i = 1; i <= VECTOR_SERVICES; i++) {
		services_backend(&services, i, i, text);
		services.sources[i] = (struct service_source){};
		if (!gue)
			continue;
		if (six)
			memcpy(services.sources[i].address6, expected->bytes + 22, 16);
		else
			memcpy(&services.backends[i].source, expected->bytes + 26, 4);
	}
}

static void blank_port(struct frame *frame)
{
	uint8_t *udp = frame->bytes + (frame->bytes[12] == 0x86 ? 54 : 34);

	memset(udp, 0, 2);
	memset(udp + 6, 0, 2);
}

static void blank_source(struct frame *frame)
{
	memset(frame->bytes + 24, 0, 2);
	memset(frame->bytes + 28, 0, 2);
}

/* An ICMP error of the same kind, with the same MTU, from and to the same address, and shorter. */
static void assert_tells(const struct frame *out, const struct frame *expected)
{
	uint32_t icmp = expected->bytes[12] == 0x86 ? 54 : 34, addresses = icmp == 54 ? 32 : 8;

	assert_int_equal(out->verdict, XDP_TX);
	assert_in_range(out->length, icmp + 8 + 28, expected->length);
	assert_memory_equal(out->bytes, expected->bytes, 14);
	assert_memory_equal(out->bytes + icmp - addresses, expected->bytes + icmp - addresses, addresses + 2);
	assert_memory_equal(out->bytes + icmp + 4, expected->bytes + icmp + 4, out->length - icmp - 4);
}

static void vector_check(const char *set, int number, const char *verdict, const struct frame *in,
	struct frame *expected, const char *what)
{
	enum difference difference = difference_of(set, number);
	bool tx = strcmp(verdict, "XDP_TX") == 0, gue = strcmp(set, "lpm") == 0;
	struct frame out;

	vectors_bring(gue ? SERVICE_GUE : SERVICE_IPIP);
	vector_backends(expected, gue);
	out = run(in);
	print_message("# %s %d: %s: %d, %u bytes\n", set, number, what, out.verdict, out.length);
	switch (difference) {
	case CARRIED:
		assert_int_equal(out.verdict, XDP_TX);
		assert_memory_equal(out.bytes + 34, in->bytes + 14, in->length - 14);
		return;
	case STACK:
		assert_int_equal(out.verdict, XDP_PASS);
		assert_memory_equal(out.bytes, in->bytes, in->length);
		return;
	case TOLD:
		assert_int_equal(out.verdict, XDP_TX);
		assert_int_equal(out.bytes[23], 1);
		assert_int_equal(out.bytes[34], 3);
		return;
	case SHORT:
		assert_tells(&out, expected);
		return;
	case GUE_PORT:
		blank_port(&out);
		blank_port(expected);
		break;
	case OUTER:
		blank_source(&out);
		blank_source(expected);
		break;
	case SAME:
		break;
	}
	assert_int_equal(out.verdict, tx ? XDP_TX : strcmp(verdict, "XDP_PASS") == 0 ? XDP_PASS : XDP_DROP);
	assert_int_equal(out.length, expected->length);
	assert_memory_equal(out.bytes, expected->bytes, expected->length);
}

static void the_vectors_of_another_balancer_come_out_the_same_but_for_named_differences(void **state)
{
	const char *path = getenv("WEIR_LB_VECTORS");
	FILE *file = fopen(path ? path : SOURCE_ROOT "/../shared/data/lb-vectors/katran.tsv", "r");
	char line[3 * FRAME_MAX * 2];
	int rows = 0;

	(void)state;
	if (!file) {
		print_message("# the vectors are not here\n");
		skip();
	}
	while (fgets(line, sizeof(line), file)) {
		char *save = NULL, *set = strtok_r(line, "\t", &save), *number = strtok_r(NULL, "\t", &save);
		char *verdict = strtok_r(NULL, "\t", &save), *in_text = strtok_r(NULL, "\t", &save);
		char *out_text = strtok_r(NULL, "\t", &save), *what = strtok_r(NULL, "\t\n", &save);
		struct frame in, expected;

		assert_non_null(what);
		in = frame_hex(in_text);
		expected = frame_hex(out_text);
		vector_check(set, atoi(number), verdict, &in, &expected, what);
		rows++;
	}
	(void)fclose(file);
	assert_int_equal(rows, 46);
}

/* -- packets of our own -- */

#define CLIENT4  "192.168.1.1"
#define SERVICE4 "10.200.1.1"
#define CLIENT6  "2001:db8:1::1"
#define SERVICE6 "fc00:1::1"

#define FIN 1
#define SYN 2
#define RST 4
#define ACK 16

static void put16(uint8_t *at, uint16_t value)
{
	at[0] = (uint8_t)(value >> 8);
	at[1] = (uint8_t)value;
}

static uint16_t get16(const uint8_t *at)
{
	return (uint16_t)(at[0] << 8 | at[1]);
}

static uint32_t sum_of(const uint8_t *bytes, size_t length, uint32_t sum)
{
	for (size_t i = 0; i < length; i++)
		sum += i % 2 ? bytes[i] : (uint32_t)bytes[i] << 8;
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

/* A frame from a client to a service: `payload` bytes behind a transport header of 20 (TCP) or 8. */
static struct frame packet4(uint8_t proto, uint16_t sport, uint16_t dport, uint8_t flags, uint32_t payload)
{
	static const uint8_t link[14] = {2, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 1, 8, 0};
	uint32_t header = proto == IPPROTO_TCP ? 20 : 8;
	struct frame frame = {.length = 34 + header + payload};
	uint8_t *ip = frame.bytes + 14, *l4 = ip + 20;

	memcpy(frame.bytes, link, sizeof(link));
	ip[0] = 0x45;
	put16(ip + 2, (uint16_t)(20 + header + payload));
	put16(ip + 4, 77);
	ip[8] = 64;
	ip[9] = proto;
	inet_pton(AF_INET, CLIENT4, ip + 12);
	inet_pton(AF_INET, SERVICE4, ip + 16);
	put16(ip + 10, (uint16_t)~sum_of(ip, 20, 0));
	put16(l4, sport);
	put16(l4 + 2, dport);
	if (proto == IPPROTO_TCP) {
		l4[12] = 0x50;
		l4[13] = flags;
		put16(l4 + 14, 512);
	} else {
		put16(l4 + 4, (uint16_t)(8 + payload));
	}
	return frame;
}

static struct frame packet6(uint8_t proto, uint16_t sport, uint16_t dport, uint8_t flags, uint32_t payload)
{
	static const uint8_t link[14] = {2, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 1, 0x86, 0xdd};
	uint32_t header = proto == IPPROTO_TCP ? 20 : 8;
	struct frame frame = {.length = 54 + header + payload};
	uint8_t *ip = frame.bytes + 14, *l4 = ip + 40;

	memcpy(frame.bytes, link, sizeof(link));
	ip[0] = 0x60;
	put16(ip + 4, (uint16_t)(header + payload));
	ip[6] = proto;
	ip[7] = 64;
	inet_pton(AF_INET6, CLIENT6, ip + 8);
	inet_pton(AF_INET6, SERVICE6, ip + 24);
	put16(l4, sport);
	put16(l4 + 2, dport);
	if (proto == IPPROTO_TCP) {
		l4[12] = 0x50;
		l4[13] = flags;
		put16(l4 + 14, 512);
	} else {
		put16(l4 + 4, (uint16_t)(8 + payload));
	}
	return frame;
}

static struct frame tcp4(uint16_t sport, uint8_t flags)
{
	return packet4(IPPROTO_TCP, sport, 80, flags, 10);
}

/* The last byte of the outer destination: which backend got it (backend n is 10.0.0.n, fc00::n); 0: none did.
 */
static unsigned int backend_of(const struct frame *out)
{
	if (out->verdict != XDP_TX)
		return 0;
	return out->bytes[12] == 0x86 ? out->bytes[53] : out->bytes[33];
}

static unsigned int backend_for(uint16_t sport, uint8_t flags)
{
	struct frame in = tcp4(sport, flags), out = run(&in);

	return backend_of(&out);
}

#define TCP_SERVICE 1
#define BACKENDS    3

/* One service on TCP and UDP of either family, with backends 1 to 3, whose rings go by `number` of the slot.
 */
static void ring_of(uint32_t number, uint16_t first, uint16_t count)
{
	uint16_t slots[SLOTS];

	for (uint16_t slot = 0; slot < SLOTS; slot++)
		slots[slot] = (uint16_t)(first + slot % count);
	services_ring(&services, number, slots, SLOTS);
}

struct variant {
	uint16_t flags; /* that the agent sets */
	uint32_t ring, before;
	enum service_deliver deliver;
	enum service_choice choice;
	bool closed, affinity, quic, no_flows;
	uint16_t mss, mtu;
};

static void bring(const struct variant *variant, uint32_t place)
{
	static const char *const addresses[] = {SERVICE4, SERVICE6};
	static const uint16_t listed[] = {1, 2, 3};
	/* by the last 16 bits of their addresses */
	static const struct service_server servers[] = {{1, 1}, {2, 2}, {3, 3}};
	struct service_text texts[2];
	struct service_input inputs[2];

	for (int i = 0; i < 2; i++) {
		services_text(&texts[i], "web", -1, addresses[i], 80, 80, variant->deliver);
		texts[i].choice = variant->choice;
		texts[i].closed = variant->closed;
		texts[i].affinity = variant->affinity;
		texts[i].quic = variant->quic;
		texts[i].no_flows = variant->no_flows;
		texts[i].mss = variant->mss;
		texts[i].mtu = variant->mtu;
		inputs[i] = (struct service_input){.text = &texts[i],
			.number = TCP_SERVICE,
			.rule = 7,
			.ring = variant->ring,
			.before = variant->before,
			.slots = SLOTS,
			.kept = variant->flags & SERVICE_KEPT,
			.backends = listed,
			.backend_count = BACKENDS,
			.servers = servers,
			.server_count = BACKENDS};
	}
	services_book(&services, place, inputs, 2);
	services_place(&services, place);
}

/* Rings: 1: backends 1 and 2; 2: backend 3 alone; 3: all three. */
static void begin(const struct variant *variant)
{
	struct service_key key;

	for (uint32_t i = 1; i <= BACKENDS; i++) {
		char address[32];

		snprintf(address, sizeof(address), "10.0.0.%u", i);
		services_backend(&services, i, TCP_SERVICE, address);
		services.sources[i] = (struct service_source){};
	}
	ring_of(1, 1, 2);
	ring_of(2, 3, 1);
	ring_of(3, 1, 3);
	while (bpf_map_get_next_key(bpf_map__fd(services.balance->maps.service_flows), NULL, &key) == 0)
		bpf_map_delete_elem(bpf_map__fd(services.balance->maps.service_flows), &key);
	while (bpf_map_get_next_key(bpf_map__fd(services.balance->maps.service_embryos), NULL, &key) == 0)
		bpf_map_delete_elem(bpf_map__fd(services.balance->maps.service_embryos), &key);
	bring(variant, 0);
	services_clear(&services);
}

static size_t written(const struct bpf_map *map)
{
	struct service_key key, *previous = NULL;
	size_t count = 0;

	for (; bpf_map_get_next_key(bpf_map__fd(map), previous, &key) == 0; previous = &key)
		count++;
	return count;
}

/* -- connections stay -- */

static void an_established_connection_stays_where_it_began_through_any_ring(void **state)
{
	const struct variant before = {.ring = 1}, after = {.ring = 2, .before = 1}, later = {.ring = 2};

	(void)state;
	begin(&before);
	for (uint16_t port = 1000; port < 1100; port++) {
		unsigned int first = backend_for(port, SYN);

		assert_in_range(first, 1, 2);
		assert_int_equal(backend_for(port, ACK), first);
		bring(&after, 1);
		assert_int_equal(backend_for(port, ACK), first);
		bring(&later, 0);
		assert_int_equal(backend_for(port, ACK | FIN), first);
		bring(&before, 1);
	}
}

static void what_the_flow_cache_has_forgotten_goes_where_the_ring_before_says_and_is_written_down(
	void **state)
{
	const struct variant before = {.ring = 1}, after = {.ring = 2, .before = 1},
			     later = {.ring = 2, .flags = SERVICE_KEPT};
	unsigned int first;

	(void)state;
	begin(&before);
	first = backend_for(1000, SYN);
	backend_for(1000, ACK);
	bring(&after, 1);
	services_clear(&services);
	assert_int_equal(backend_for(1000, ACK), first);
	assert_int_equal(services_lost(&services, TCP_SERVICE).kept, 1);
	/* one packet alone might be a flood's: only the next one has it written down for good */
	assert_int_equal(written(services.balance->maps.service_embryos), 1);
	assert_int_equal(written(services.balance->maps.service_flows), 0);
	services_clear(&services);
	assert_int_equal(backend_for(1000, ACK), first);
	assert_int_equal(written(services.balance->maps.service_embryos), 0);
	assert_int_equal(written(services.balance->maps.service_flows), 1);
	bring(&later, 0);
	services_clear(&services);
	assert_int_equal(backend_for(1000, ACK), first);
	assert_int_equal(backend_for(1001, SYN), 3);
}

static void a_beginning_goes_by_the_new_ring_and_is_written_down_only_where_rings_differ(void **state)
{
	const struct variant before = {.ring = 1}, after = {.ring = 3, .before = 1};

	(void)state;
	begin(&before);
	for (uint16_t port = 1000; port < 1100; port++)
		backend_for(port, SYN);
	assert_int_equal(written(services.balance->maps.service_embryos), 0);
	bring(&after, 1);
	services_clear(&services);
	for (uint16_t port = 1000; port < 1100; port++)
		backend_for(port, SYN);
	assert_in_range(written(services.balance->maps.service_embryos), 30, 99);
	assert_int_equal(written(services.balance->maps.service_flows), 0);
	for (uint16_t port = 1000; port < 1100; port++) {
		unsigned int first = backend_for(port, ACK);

		services_clear(&services);
		assert_int_equal(backend_for(port, ACK), first);
	}
	assert_int_equal(written(services.balance->maps.service_embryos), 0);
}

/* Everything begins anew, and with it a connection to `backend`: its port. */
static uint16_t begin_at(const struct variant *variant, uint32_t backend)
{
	uint16_t port = 1000;

	begin(variant);
	while (backend_for(port, SYN) != backend)
		port++;
	return port;
}

static void a_drained_backend_keeps_its_connections_and_one_that_is_down_does_not(void **state)
{
	const struct variant both = {.ring = 1}, other = {.ring = 2};
	uint16_t port;

	(void)state;
	port = begin_at(&both, 1);
	assert_int_equal(backend_for(port, ACK), 1);
	services.backends[1].state = SERVICE_BACKEND_DRAINING;
	bring(&other, 1);
	assert_int_equal(backend_for(port, ACK), 1);
	/* of a connection that lives: a stranger's, as far as anybody knows */
	assert_int_equal(backend_for(port, SYN), 1);
	assert_int_equal(backend_for(port, ACK | FIN), 1);
	assert_int_equal(backend_for(port, SYN), 3);
	services.backends[1].state = SERVICE_BACKEND_UP;
	begin(&both);
	backend_for(port, SYN);
	assert_int_equal(backend_for(port, ACK), 1);
	services.backends[1].state = SERVICE_BACKEND_DOWN;
	bring(&other, 1);
	assert_int_equal(backend_for(port, ACK), 3);
}

static void a_syn_that_comes_again_stays_though_its_backend_drains(void **state)
{
	const struct variant both = {.ring = 1}, other = {.ring = 2};
	uint16_t port;

	(void)state;
	port = begin_at(&both, 1);
	services.backends[1].state = SERVICE_BACKEND_DRAINING;
	bring(&other, 1);
	assert_int_equal(backend_for(port, SYN), 1);
	assert_int_equal(backend_for(port, ACK), 1);
	/* that of another client is a new connection */
	assert_int_equal(backend_for(port + 1000, SYN), 3);
}

static void a_number_that_is_another_backends_now_holds_no_connection(void **state)
{
	const struct variant both = {.ring = 1}, other = {.ring = 2};
	uint16_t port;

	(void)state;
	port = begin_at(&both, 1);
	backend_for(port, ACK);
	bring(&other, 1);
	assert_int_equal(backend_for(port, ACK), 1);
	services.backends[1].service = TCP_SERVICE + 1;
	assert_int_equal(backend_for(port, ACK), 3);
	services.backends[1].service = TCP_SERVICE;
	begin(&both);
	assert_int_equal(backend_for(port, SYN), 1);
	/* the line's last packet came before that */
	services.backends[1].since = services.cache4[0].line[0].counts.last;
	for (size_t i = 0; i < (size_t)services.cpus * LINES / FLOW_WAYS; i++)
		for (int way = 0; way < FLOW_WAYS; way++)
			if (services.cache4[i].line[way].serial)
				services.backends[1].since = services.cache4[i].line[way].counts.last + 1000;
	bring(&other, 1);
	assert_int_equal(backend_for(port, ACK), 3);
}

static void a_syn_that_comes_again_or_amid_a_connection_stays_and_one_behind_its_end_chooses_anew(
	void **state)
{
	const struct variant before = {.ring = 1}, after = {.ring = 2};
	unsigned int first;

	(void)state;
	begin(&before);
	first = backend_for(1000, SYN);
	bring(&after, 1);
	assert_int_equal(backend_for(1000, SYN), first);
	assert_int_equal(backend_for(1000, ACK), first);
	assert_int_equal(backend_for(1000, SYN), first);
	assert_int_equal(backend_for(1000, RST), first);
	assert_int_equal(backend_for(1000, SYN), 3);
}

static void turns_go_round_and_connections_of_turns_are_written_down(void **state)
{
	const struct variant turns = {.ring = 3, .choice = SERVICE_TURNS};
	const uint16_t ends = 1000 + SLOTS * 3;
	unsigned int got[BACKENDS + 1] = {};

	(void)state;
	begin(&turns);
	for (uint16_t port = 1000; port < ends; port++) {
		unsigned int first = backend_for(port, SYN);

		got[first]++;
		assert_int_equal(backend_for(port, ACK), first);
		services_clear(&services);
		assert_int_equal(backend_for(port, ACK), first);
	}
	/* of thirteen slots five are the first one's */
	assert_int_equal(got[1], 15);
	assert_int_equal(got[2], 12);
	assert_int_equal(got[3], 12);
	assert_int_equal(written(services.balance->maps.service_flows), SLOTS * 3);
}

static void least_connections_go_to_who_has_the_fewest_for_its_weight(void **state)
{
	const struct variant least = {.ring = 3, .choice = SERVICE_LEAST};
	unsigned int got[BACKENDS + 1] = {};

	(void)state;
	begin(&least);
	services.loads[1].weight = 2; /* twice the share */
	for (uint16_t port = 1000; port < 1040; port++) {
		got[backend_for(port, SYN)]++;
		backend_for(port, ACK);
	}
	assert_int_equal(got[1], 20);
	assert_int_equal(got[2], 10);
	assert_int_equal(got[3], 10);
	assert_int_equal(services.loads[1].connections, 20);
	for (uint16_t port = 1000; port < 1040; port++)
		backend_for(port, ACK | FIN);
	for (uint32_t i = 1; i <= BACKENDS; i++) {
		assert_int_equal(services.loads[i].connections, 0);
		assert_int_equal(services_count(&services, i).connections, got[i]);
		assert_int_equal(services_count(&services, i).ended, got[i]);
	}
}

static void the_same_source_gets_the_same_backend_where_affinity_is_wanted(void **state)
{
	const struct variant affinity = {.ring = 3, .affinity = true};
	unsigned int first;

	(void)state;
	begin(&affinity);
	first = backend_for(1000, SYN);
	for (uint16_t port = 1001; port < 1100; port++)
		assert_int_equal(backend_for(port, SYN), first);
}

static void a_datagram_whose_line_is_forgotten_stays_where_its_source_gets_another_backend(void **state)
{
	const struct variant kept = {.flags = SERVICE_KEPT, .ring = 3, .affinity = true};
	struct frame in = packet4(IPPROTO_UDP, 1000, 80, 0, 10), out;
	struct service_key source = {.family = 4, .proto = IPPROTO_UDP};
	struct service_flow another = {.flags = SERVICE_FLOW_SOURCE};
	unsigned int first;

	(void)state;
	begin(&kept);
	out = run(&in);
	first = backend_of(&out);
	another.backend = first % BACKENDS + 1;
	another.generation = services.backends[another.backend].generation;
	inet_pton(AF_INET, CLIENT4, source.src);
	inet_pton(AF_INET, SERVICE4, source.dst);
	assert_int_equal(bpf_map_update_elem(bpf_map__fd(services.balance->maps.service_flows), &source,
				 &another, BPF_ANY),
		0);
	services_clear(&services);
	out = run(&in);
	assert_int_equal(backend_of(&out), first);
	in = packet4(IPPROTO_UDP, 1001, 80, 0, 10);
	out = run(&in);
	assert_int_equal(backend_of(&out), another.backend);
}

static void a_connection_id_of_quic_names_the_backend(void **state)
{
	const struct variant quic = {.ring = 1, .quic = true};

	(void)state;
	begin(&quic);
	for (uint16_t server = 1; server <= BACKENDS; server++)
		for (int longer = 0; longer < 2; longer++) {
			struct frame in =
				packet4(IPPROTO_UDP, (uint16_t)(1000 + 2 * server + longer), 80, 0, 40);
			uint8_t *payload = in.bytes + 42;
			struct frame out;

			payload[0] = longer ? 0xc0 : 0x40;
			if (longer) {
				payload[5] = 8;
				payload += 5;
			}
			payload[1] = (uint8_t)(0x40 | server >> 10);
			payload[2] = (uint8_t)(server >> 2);
			payload[3] = (uint8_t)(server << 6);
			out = run(&in);
			assert_int_equal(backend_of(&out), server);
		}
}

/* -- what is not delivered -- */

static void without_a_living_backend_what_fails_open_is_delivered_and_what_fails_closed_is_counted(
	void **state)
{
	const struct variant open = {.ring = 2}, closed = {.ring = 2, .closed = true};

	(void)state;
	begin(&open);
	services.backends[3].state = SERVICE_BACKEND_DOWN;
	assert_int_equal(backend_for(1000, SYN), 3);
	begin(&closed);
	services.backends[3].state = SERVICE_BACKEND_DOWN;
	assert_int_equal(backend_for(1000, SYN), 0);
	assert_int_equal(services_lost(&services, TCP_SERVICE).packets[SERVICE_LOST_NO_BACKEND], 1);
}

static void without_a_way_to_the_backend_packets_are_counted_by_reason(void **state)
{
	const struct variant variant = {.ring = 2};
	struct frame in = tcp4(1000, SYN), out;

	(void)state;
	begin(&variant);
	services.backends[3].hop = 0;
	out = run(&in);
	assert_int_equal(out.verdict, XDP_DROP);
	assert_int_equal(services_lost(&services, TCP_SERVICE).packets[SERVICE_LOST_NO_ROUTE], 1);
}

static void damaged_packets_and_other_ports_go_on_to_the_stack_as_they_came(void **state)
{
	const struct variant variant = {.ring = 1};
	struct frame in = tcp4(1000, ACK), out;

	(void)state;
	begin(&variant);
	for (uint32_t length = 14; length < in.length; length++) {
		struct frame cut = in;

		cut.length = length;
		out = run(&cut);
		assert_int_equal(out.verdict, XDP_PASS);
		assert_int_equal(out.length, length);
		assert_memory_equal(out.bytes, cut.bytes, length);
	}
	for (size_t bit = 0; bit < in.length * 8; bit++) {
		struct frame damaged = in;

		damaged.bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
		out = run(&damaged);
		assert_true(out.verdict == XDP_PASS || out.verdict == XDP_TX);
		if (out.verdict == XDP_PASS)
			assert_memory_equal(out.bytes, damaged.bytes, damaged.length);
	}
	in = packet4(IPPROTO_TCP, 1000, 81, ACK, 10);
	out = run(&in);
	assert_int_equal(out.verdict, XDP_PASS);
	assert_memory_equal(out.bytes, in.bytes, in.length);
}

/* -- how it is delivered -- */

/* What IP carries: the frame without its link header and what was put around it. */
static void assert_carries(const struct frame *out, uint32_t around, const struct frame *in)
{
	assert_int_equal(out->verdict, XDP_TX);
	assert_int_equal(out->length, in->length + around);
	assert_memory_equal(out->bytes + 14 + around, in->bytes + 14, in->length - 14);
}

static void deliveries_carry_the_packet_as_it_came(void **state)
{
	static const struct {
		enum service_deliver deliver;
		bool in6, out6;
		uint32_t around;
	} ways[] = {
		{SERVICE_IPIP, false, false, 20},
		{SERVICE_IPIP, false, true, 40},
		{SERVICE_IPIP, true, true, 40},
		{SERVICE_GUE, false, false, 28},
		{SERVICE_GUE, false, true, 48},
		{SERVICE_GUE, true, true, 48},
		{SERVICE_GUE, true, false, 28},
		{SERVICE_L2, false, false, 0},
		{SERVICE_L2, true, true, 0},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
		const struct variant variant = {.ring = 2, .deliver = ways[i].deliver};
		/* the long way and the short one: a fragment, a whole packet */
		for (int whole = 0; whole < 2; whole++) {
			struct frame in = ways[i].in6 ? packet6(IPPROTO_UDP, 1000, 80, 0, 50)
			                              : packet4(IPPROTO_UDP, 1000, 80, 0, 50);
			struct frame out;

			begin(&variant);
			services_backend(&services, 3, TCP_SERVICE, ways[i].out6 ? "fc00::3" : "10.0.0.3");
			if (!whole && !ways[i].in6)
				in.bytes[20] = 0x20;
			out = run(&in);
			assert_carries(&out, ways[i].around, &in);
			assert_memory_equal(out.bytes, services.backends[3].dmac, 6);
			if (!ways[i].around)
				continue;
			assert_int_equal(get16(out.bytes + 12), ways[i].out6 ? 0x86dd : 0x0800);
			if (!ways[i].out6)
				assert_int_equal(sum_of(out.bytes + 14, 20, 0), 0xffff);
			if (ways[i].deliver == SERVICE_GUE) {
				const uint8_t *udp = out.bytes + (ways[i].out6 ? 54 : 34);

				assert_int_equal(get16(udp + 2), SERVICE_GUE_PORT);
				assert_int_equal(get16(udp + 4), in.length - 14 + 8);
			}
		}
	}
}

static void tags_stay_on_the_link_that_the_packet_came_by(void **state)
{
	const struct variant variant = {.ring = 2};
	struct frame in = tcp4(1000, ACK), tagged = {}, out;

	(void)state;
	begin(&variant);
	for (uint32_t tags = 4; tags <= 8; tags += 4) {
		memcpy(tagged.bytes, in.bytes, 12);
		memcpy(tagged.bytes + 12, tags == 4 ? "\x81\x00\x20\x05" : "\x88\xa8\x20\x05\x81\x00\x00\x07",
			tags);
		memcpy(tagged.bytes + 12 + tags, in.bytes + 12, in.length - 12);
		tagged.length = in.length + tags;
		out = run(&tagged);
#ifdef SERVICE_IN_TC
		/* the kernel takes the first one out before; a second one is left to the stack */
		assert_int_equal(out.verdict, XDP_PASS);
		assert_memory_equal(out.bytes, tagged.bytes, tagged.length);
		continue;
#endif
		assert_int_equal(out.verdict, XDP_TX);
		assert_int_equal(out.length, tagged.length + 20);
		assert_memory_equal(out.bytes + 12, tagged.bytes + 12, tags);
		assert_memory_equal(out.bytes + 14 + tags + 20, in.bytes + 14, in.length - 14);
	}
}

static void fragments_follow_their_first_one(void **state)
{
	const struct variant variant = {.ring = 1};

	(void)state;
	begin(&variant);
	for (uint16_t port = 1000; port < 1020; port++) {
		struct frame first = packet4(IPPROTO_UDP, port, 80, 0, 64), later = first, out;
		unsigned int backend;

		put16(first.bytes + 18, port);
		put16(later.bytes + 18, port);
		first.bytes[20] = 0x20;
		later.bytes[21] = 9;
		out = run(&later);
		assert_int_equal(out.verdict, XDP_PASS);
		out = run(&first);
		backend = backend_of(&out);
		assert_in_range(backend, 1, 2);
		out = run(&later);
		assert_int_equal(backend_of(&out), backend);
		assert_carries(&out, 20, &later);
	}
	assert_int_equal(services_lost(&services, 0).packets[SERVICE_LOST_FRAGMENT], 20);
}

static void errors_go_to_the_backend_of_the_connection_that_they_speak_of(void **state)
{
	const struct variant variant = {.ring = 1};

	(void)state;
	begin(&variant);
	for (uint16_t port = 1000; port < 1020; port++) {
		struct frame quoted = tcp4(port, ACK), error = packet4(IPPROTO_ICMP, 0, 0, 0, 28), out;
		unsigned int backend = backend_for(port, SYN);
		uint8_t *icmp = error.bytes + 34;

		/* from the service to its client */
		memcpy(icmp, (const uint8_t[8]){3, 4, 0, 0, 0, 0, 5, 0}, 8);
		memcpy(icmp + 8, quoted.bytes + 14, 28);
		inet_pton(AF_INET, SERVICE4, icmp + 8 + 12);
		inet_pton(AF_INET, CLIENT4, icmp + 8 + 16);
		put16(icmp + 28, 80);
		put16(icmp + 30, port);
		out = run(&error);
		assert_int_equal(backend_of(&out), backend);
		assert_carries(&out, 20, &error);
	}
	assert_int_equal(services_count(&services, 1).icmp + services_count(&services, 2).icmp, 20);
}

static void who_sends_what_does_not_fit_is_told_how_much_does(void **state)
{
	const struct variant variant = {.ring = 2};
	struct frame in, out;

	(void)state;
	begin(&variant);
	services.backends[3].mtu = 1500;
	in = packet4(IPPROTO_UDP, 1000, 80, 0, 1500 - 28 - 20);
	out = run(&in);
	assert_int_equal(backend_of(&out), 3);
	in = packet4(IPPROTO_UDP, 1000, 80, 0, 1500 - 28 - 19);
	out = run(&in);
	assert_int_equal(out.verdict, XDP_TX);
	assert_memory_equal(out.bytes + 30, in.bytes + 26, 4); /* to its sender */
	assert_int_equal(out.bytes[34], 3);
	assert_int_equal(out.bytes[35], 4);
	assert_int_equal(get16(out.bytes + 40), 1480);
	assert_int_equal(sum_of(out.bytes + 14, 20, 0), 0xffff);
	assert_int_equal(sum_of(out.bytes + 34, out.length - 34, 0), 0xffff);
	in = packet6(IPPROTO_UDP, 1000, 80, 0, 1500 - 48 - 39);
	services_backend(&services, 3, TCP_SERVICE, "fc00::3");
	services.backends[3].mtu = 1500;
	out = run(&in);
	assert_int_equal(out.verdict, XDP_TX);
	assert_int_equal(out.bytes[54], 2);
	assert_int_equal(get16(out.bytes + 60), 1460);
	assert_int_equal(services_lost(&services, TCP_SERVICE).told, 2);
	assert_int_equal(services_lost(&services, TCP_SERVICE).packets[SERVICE_LOST_TOO_BIG], 2);
}

static void the_mss_of_a_syn_is_lowered_and_its_checksum_stays_right(void **state)
{
	const struct variant variant = {.ring = 2, .mss = 1400};
	/* the option first, and behind an odd number of others */
	static const uint8_t options[2][8] = {{2, 4, 5, 0xb4, 1, 1, 1, 0}, {1, 2, 4, 5, 0xb4, 1, 1, 0}};

	(void)state;
	begin(&variant);
	for (int i = 0; i < 2; i++) {
		struct frame in = packet4(IPPROTO_TCP, 1000, 80, SYN, 8), out;
		uint8_t *tcp = in.bytes + 34, *carried;
		uint32_t pseudo = sum_of(in.bytes + 26, 8, 6 + 28);

		tcp[12] = 0x70;
		memcpy(tcp + 20, options[i], 8);
		put16(tcp + 16, (uint16_t)~sum_of(tcp, 28, pseudo));
		out = run(&in);
		assert_int_equal(backend_of(&out), 3);
		carried = out.bytes + 54;
		assert_int_equal(get16(carried + 22 + i), 1400);
		assert_int_equal(sum_of(carried, 28, pseudo), 0xffff);
	}
}

/* -- accounting -- */

static void every_packet_of_a_service_is_accounted_and_none_twice(void **state)
{
	const struct variant variant = {.ring = 1}, off = {.ring = 1, .no_flows = true};
	struct flow_stats stats;
	uint64_t bytes = 0, packets = 0;

	(void)state;
	begin(&variant);
	for (int round = 0; round < 3; round++)
		for (uint16_t port = 1000; port < 1100; port++) {
			struct frame six = packet6(IPPROTO_TCP, port, 80, round ? ACK : SYN, 20);

			assert_in_range(backend_for(port, round ? ACK : SYN), 1, 2);
			assert_in_range(run(&six).verdict, XDP_DROP, XDP_TX);
		}
	stats = services_stats(&services);
	assert_int_equal(stats.seen, 600);
	assert_int_equal(stats.cached + stats.emitted + stats.lost, 600);
	for (size_t i = 0; i < (size_t)services.cpus * LINES / FLOW_WAYS; i++)
		for (int way = 0; way < FLOW_WAYS; way++)
			if (services.cache4[i].line[way].serial) {
				assert_int_equal(services.cache4[i].line[way].decision.rule, 7);
				bytes += services.cache4[i].line[way].counts.bytes;
			}
	assert_int_equal(bytes, 300 * 64);
	begin(&off);
	for (uint16_t port = 1000; port < 1100; port++)
		packets += backend_for(port, ACK) != 0;
	assert_int_equal(packets, 100);
	assert_int_equal(services_stats(&services).seen, 0);
	assert_int_equal(services_count(&services, 1).packets + services_count(&services, 2).packets, 100);
}

/* The same with an option of IPv4: what has some is read the long way. */
static struct frame with_option(const struct frame *in)
{
	struct frame out = {.length = in->length + 4};

	memcpy(out.bytes, in->bytes, 34);
	memset(out.bytes + 34, 1, 4);
	memcpy(out.bytes + 38, in->bytes + 34, in->length - 34);
	out.bytes[14] = 0x46;
	put16(out.bytes + 16, (uint16_t)(out.length - 14));
	return out;
}

static void the_short_way_and_the_long_one_choose_the_same_backend(void **state)
{
	const struct variant variant = {.ring = 3};

	(void)state;
	begin(&variant);
	for (uint16_t port = 1000; port < 1200; port++) {
		struct frame in = packet4(IPPROTO_TCP, port, 80, ACK, 10), longer = with_option(&in), out;
		unsigned int quick;

		services_clear(&services);
		out = run(&in);
		quick = backend_of(&out);
		services_clear(&services);
		out = run(&longer);
		assert_int_equal(backend_of(&out), quick);
	}
}

/* -- records that nobody reads -- */

static int record_take(void *context, void *record, size_t size)
{
	(void)context;
	(void)record;
	(void)size;
	return 0;
}

static void records_read(void)
{
	for (unsigned int cpu = 0; cpu < services.cpus; cpu++) {
		int fd = services_records(&services, cpu);
		struct ring_buffer *ring = ring_buffer__new(fd, record_take, NULL, NULL);

		assert_non_null(ring);
		assert_true(ring_buffer__consume(ring) >= 0);
		ring_buffer__free(ring);
		close(fd);
	}
}

#define CROWD_FIRST 1024 /* ports of connections that begin, and take all lines, and all of the ring */
#define CROWD_LAST  30000
#define LATE        40000

/* All lines are taken, and the ring is full, once they have come. */
static void crowd_comes(void)
{
	for (uint16_t port = CROWD_FIRST; port < CROWD_LAST; port++) {
		struct frame four = tcp4(port, SYN), six = packet6(IPPROTO_TCP, port, 80, SYN, 10);

		run(&four);
		run(&six);
	}
}

/* Some line of IPv4 that is taken. */
static const struct flow_line4 *some_line(void)
{
	for (size_t i = 0; i < (size_t)services.cpus * LINES; i++)
		if (services.cache4[i / FLOW_WAYS].line[i % FLOW_WAYS].serial)
			return &services.cache4[i / FLOW_WAYS].line[i % FLOW_WAYS];
	fail();
	return NULL;
}

/* What all packets of a test make together. */
struct sums {
	struct flow_stats stats;
	uint64_t packets, connections; /* of all backends */
};

static struct sums sums_now(void)
{
	struct sums sums = {.stats = services_stats(&services)};

	for (uint32_t backend = 1; backend <= BACKENDS; backend++) {
		struct service_count count = services_count(&services, backend);

		sums.packets += count.packets;
		sums.connections += count.connections;
	}
	assert_int_equal(sums.stats.seen, sums.stats.cached + sums.stats.emitted + sums.stats.lost);
	return sums;
}

static void where_the_ring_is_full_lines_stay_and_who_is_new_goes_without_to_its_backend(void **state)
{
	const size_t bytes4 = (size_t)services.cpus * LINES * sizeof(struct flow_line4);
	const size_t bytes6 = (size_t)services.cpus * LINES * sizeof(struct flow_rest6);
	const struct variant variant = {.ring = 3};
	void *cache4 = malloc(bytes4), *cache6 = malloc(bytes4), *rest6 = malloc(bytes6);
	uint64_t bytes = 0, packets = 0, connections = 0;
	struct sums before, after;
	unsigned int backends[300];

	(void)state;
	assert_true(cache4 && cache6 && rest6);
	begin(&variant);
	records_read();
	crowd_comes();
	before = sums_now();
	assert_true(before.stats.lost > 0);
	memcpy(cache4, services.cache4, bytes4);
	memcpy(cache6, services.cache6, bytes4);
	memcpy(rest6, services.rest6, bytes6);
	for (uint16_t i = 0; i < 300; i++) {
		const struct frame begins = tcp4(LATE + i, SYN), goes_on = tcp4(LATE + i, ACK);
		const struct frame all[] = {begins, goes_on, with_option(&begins), with_option(&goes_on),
			packet4(IPPROTO_UDP, LATE + i, 80, 0, 10),
			packet6(IPPROTO_TCP, LATE + i, 80, SYN, 10),
			packet6(IPPROTO_TCP, LATE + i, 80, ACK, 10)};

		for (size_t j = 0; j < sizeof(all) / sizeof(all[0]); j++) {
			struct frame out = run(&all[j]);

			assert_in_range(backend_of(&out), 1, BACKENDS);
			if (j == 0)
				backends[i] = backend_of(&out);
			if (j < 4)
				assert_int_equal(backend_of(&out), backends[i]);
			packets++;
			bytes += all[j].length;
		}
		connections += 4; /* SYNs, and what has none */
	}
	after = sums_now();
	assert_int_equal(after.stats.seen - before.stats.seen, packets);
	assert_int_equal(after.stats.lost - before.stats.lost, packets);
	assert_int_equal(after.stats.lost_bytes - before.stats.lost_bytes, bytes);
	assert_int_equal(after.stats.cached, before.stats.cached);
	assert_int_equal(after.stats.emitted, before.stats.emitted);
	assert_int_equal(after.packets - before.packets, packets);
	assert_int_equal(after.connections - before.connections, connections);
	assert_true(memcmp(cache4, services.cache4, bytes4) == 0);
	assert_true(memcmp(cache6, services.cache6, bytes4) == 0);
	assert_true(memcmp(rest6, services.rest6, bytes6) == 0);
	/* who has a line is counted there */
	before = after;
	assert_int_not_equal(backend_for(ntohs(some_line()->sport), ACK), 0);
	after = sums_now();
	assert_int_equal(after.stats.cached - before.stats.cached, 1);
	assert_int_equal(after.stats.lost, before.stats.lost);
	assert_int_equal(some_line()->counts.packets, 2);
	/* with free lines each goes where it went without */
	services_clear(&services);
	for (uint16_t i = 0; i < 300; i++)
		assert_int_equal(backend_for(LATE + i, SYN), backends[i]);
	assert_int_equal(sums_now().stats.cached, 300);
	records_read();
	free(cache4);
	free(cache6);
	free(rest6);
}

/* The tick of the last packet, if a packet with a line comes now. */
static uint32_t tick_now(void)
{
	const struct flow_line4 *line = some_line();

	backend_for(ntohs(line->sport), ACK);
	return line->counts.last;
}

static void a_full_ring_is_not_asked_again_in_its_tick_by_what_begins(void **state)
{
	const struct variant variant = {.ring = 3};
	struct sums before, begun, gone_on;
	uint16_t port = LATE;
	uint32_t tick;

	(void)state;
	begin(&variant);
	crowd_comes();
	records_read();
	/* another tick may begin in between */
	do {
		tick = tick_now();
		for (unsigned int cpu = 0; cpu < services.cpus; cpu++)
			services.stats[cpu].full = tick;
		before = sums_now();
		assert_int_not_equal(backend_for(port++, SYN), 0);
		begun = sums_now();
		assert_int_not_equal(backend_for(port++, ACK), 0);
		gone_on = sums_now();
	} while (tick_now() != tick);
	assert_int_equal(begun.stats.lost - before.stats.lost, 1);
	assert_int_equal(begun.stats.records, before.stats.records);
	assert_int_equal(gone_on.stats.lost, begun.stats.lost);
	assert_int_equal(gone_on.stats.records - begun.stats.records, 1);
	/* in a tick that comes later it is */
	do {
		before = sums_now();
		assert_int_not_equal(backend_for(port++, SYN), 0);
		begun = sums_now();
	} while (begun.stats.records == before.stats.records);
	records_read();
}

#ifdef SERVICE_IN_TC
static void what_stands_for_several_packets_is_accounted_as_so_many(void **state)
{
	const struct variant variant = {.ring = 3, .deliver = SERVICE_L2};
	struct __sk_buff three = {.gso_segs = 3, .gso_size = 100};
	struct frame in = packet4(IPPROTO_TCP, 1000, 80, ACK, 300), out;
	LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = in.bytes, .data_size_in = in.length,
		.data_out = out.bytes, .data_size_out = sizeof(out.bytes), .ctx_in = &three,
		.ctx_size_in = sizeof(three), .repeat = 2);

	(void)state;
	begin(&variant);
	memset(in.bytes, 0, 6);
	assert_int_equal(bpf_prog_test_run_opts(bpf_program__fd(services.tc->progs.balance_tc), &options), 0);
	assert_int_equal(options.retval, 7);
	assert_int_equal(services_stats(&services).seen, 6);
	assert_int_equal(services_stats(&services).cached, 6);
	assert_int_equal(some_line()->counts.packets, 6);
	assert_int_equal(some_line()->counts.bytes, 2 * (354 + 2 * 54));
	assert_int_equal(sums_now().packets, 6);
}
#endif

static void without_services_nothing_is_touched(void **state)
{
	const struct variant variant = {.ring = 1};
	struct frame in = tcp4(1000, ACK), out;

	(void)state;
	begin(&variant);
	services_book(&services, 1, NULL, 0);
	services_place(&services, 1);
	out = run(&in);
	assert_int_equal(out.verdict, XDP_PASS);
	assert_memory_equal(out.bytes, in.bytes, in.length);
	assert_int_equal(services_stats(&services).seen, 0);
}

static void a_change_that_nobody_confirmed_ends_by_itself(void **state)
{
	const struct variant before = {.ring = 1}, after = {.ring = 2};

	(void)state;
	begin(&before);
	bring(&after, 1);
	services.now->places_before = 0;
	assert_int_equal(backend_for(1000, SYN), 3);
	/* a deadline that has passed, whatever the tick is: it was the last packet's */
	for (size_t i = 0; i < (size_t)services.cpus * LINES / FLOW_WAYS; i++)
		for (int way = 0; way < FLOW_WAYS; way++)
			if (services.cache4[i].line[way].serial)
				services.now->deadline = services.cache4[i].line[way].counts.last;
	assert_in_range(backend_for(1001, SYN), 1, 2);
	services.now->deadline = 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_vectors_of_another_balancer_come_out_the_same_but_for_named_differences),
		cmocka_unit_test(an_established_connection_stays_where_it_began_through_any_ring),
		cmocka_unit_test(
			what_the_flow_cache_has_forgotten_goes_where_the_ring_before_says_and_is_written_down),
		cmocka_unit_test(
			a_beginning_goes_by_the_new_ring_and_is_written_down_only_where_rings_differ),
		cmocka_unit_test(a_drained_backend_keeps_its_connections_and_one_that_is_down_does_not),
		cmocka_unit_test(a_syn_that_comes_again_stays_though_its_backend_drains),
		cmocka_unit_test(a_number_that_is_another_backends_now_holds_no_connection),
		cmocka_unit_test(
			a_syn_that_comes_again_or_amid_a_connection_stays_and_one_behind_its_end_chooses_anew),
		cmocka_unit_test(turns_go_round_and_connections_of_turns_are_written_down),
		cmocka_unit_test(least_connections_go_to_who_has_the_fewest_for_its_weight),
		cmocka_unit_test(the_same_source_gets_the_same_backend_where_affinity_is_wanted),
		cmocka_unit_test(
			a_datagram_whose_line_is_forgotten_stays_where_its_source_gets_another_backend),
		cmocka_unit_test(a_connection_id_of_quic_names_the_backend),
		cmocka_unit_test(
			without_a_living_backend_what_fails_open_is_delivered_and_what_fails_closed_is_counted),
		cmocka_unit_test(without_a_way_to_the_backend_packets_are_counted_by_reason),
		cmocka_unit_test(damaged_packets_and_other_ports_go_on_to_the_stack_as_they_came),
		cmocka_unit_test(deliveries_carry_the_packet_as_it_came),
		cmocka_unit_test(tags_stay_on_the_link_that_the_packet_came_by),
		cmocka_unit_test(fragments_follow_their_first_one),
		cmocka_unit_test(errors_go_to_the_backend_of_the_connection_that_they_speak_of),
		cmocka_unit_test(who_sends_what_does_not_fit_is_told_how_much_does),
		cmocka_unit_test(the_mss_of_a_syn_is_lowered_and_its_checksum_stays_right),
		cmocka_unit_test(every_packet_of_a_service_is_accounted_and_none_twice),
		cmocka_unit_test(the_short_way_and_the_long_one_choose_the_same_backend),
		cmocka_unit_test(
			where_the_ring_is_full_lines_stay_and_who_is_new_goes_without_to_its_backend),
		cmocka_unit_test(a_full_ring_is_not_asked_again_in_its_tick_by_what_begins),
#ifdef SERVICE_IN_TC
		cmocka_unit_test(what_stands_for_several_packets_is_accounted_as_so_many),
#endif
		cmocka_unit_test(without_services_nothing_is_touched),
		cmocka_unit_test(a_change_that_nobody_confirmed_ends_by_itself),
	};
	cpu_set_t cpu;
	int failed;

	/* each CPU has a flow cache of its own */
	CPU_ZERO(&cpu);
	CPU_SET(sched_getcpu(), &cpu);
	sched_setaffinity(0, sizeof(cpu), &cpu);
	if (services_open(&services, LINES, RING_BYTES) < 0)
		return 77;
#ifdef SERVICE_IN_TC
	if (services_tc(&services) < 0)
		return 77;
#endif
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	services_close(&services);
	return failed;
}
