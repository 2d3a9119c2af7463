// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* nat through the real programs at XDP: what packets look like then, which ports they get, and whose answers
 * come back. */
#include <arpa/inet.h>
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

#define FIN 1
#define SYN 2
#define RST 4
#define ACK 16

#define UDPLITE 136
#define DCCP    33
#define GRE     47

#define FIRST 61001

static const char *const clients[] = {"192.0.2.1", "2001:db8:1::1"};
static const char *const services_at[] = {"203.0.113.10", "2001:db8:113::10"};
static const char *const backends_at[] = {"10.0.0.11", "fd00::11"};
static const char *const nats_at[] = {"10.0.0.1", "fd00::1"};

static const uint8_t client_mac[6] = {2, 0, 0, 0, 0, 1};

static struct services services;
static struct service_answers answers[2];

struct frame {
	uint8_t bytes[FRAME_MAX];
	uint32_t length;
	int verdict;
};

/* What a packet is made of. */
struct spec {
	int family;
	uint8_t proto, flags, ttl;
	uint8_t src[16], dst[16];
	uint16_t sport, dport; /* ICMP: identifier, type << 8 | code */
	uint32_t payload;
	uint32_t options; /* bytes behind the header of IPv4, or of an extension header */
	uint32_t tags;
	uint16_t fragment; /* as IPv4 has it: 0x2000 more, offset */
	uint16_t id;
	bool no_checksum;
};

static void put16(uint8_t *at, uint16_t value)
{
	at[0] = (uint8_t)(value >> 8);
	at[1] = (uint8_t)value;
}

static uint16_t get16(const uint8_t *at)
{
	return (uint16_t)(at[0] << 8 | at[1]);
}

/* -- checksums, added up plainly -- */

static uint32_t sum_of(const uint8_t *bytes, size_t length, uint32_t sum)
{
	for (size_t i = 0; i < length; i++)
		sum += i % 2 ? bytes[i] : (uint32_t)bytes[i] << 8;
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

static uint32_t pseudo_of(int family, const uint8_t *ip, uint8_t proto, uint32_t bytes)
{
	return sum_of(family == 4 ? ip + 12 : ip + 8, family == 4 ? 8 : 32, proto + bytes);
}

static size_t checksum_at(uint8_t proto)
{
	return proto == IPPROTO_TCP                               ? 16
	       : proto == IPPROTO_ICMP || proto == IPPROTO_ICMPV6 ? 2
	       : proto == GRE                                     ? 0
	                                                          : 6;
}

/* The checksum that the transport header at `l4` has to have. */
static uint16_t checksum_of(int family, const uint8_t *ip, uint8_t proto, uint8_t *l4, uint32_t bytes)
{
	uint8_t *at = l4 + checksum_at(proto);
	uint16_t had = get16(at), sum;

	put16(at, 0);
	sum = (uint16_t)~sum_of(l4, bytes, proto == IPPROTO_ICMP ? 0 : pseudo_of(family, ip, proto, bytes));
	put16(at, had);
	return proto == IPPROTO_UDP && !sum ? 0xffff : sum;
}

/* -- frames -- */

static uint32_t l4_bytes(uint8_t proto)
{
	return proto == IPPROTO_TCP ? 20 : proto == DCCP ? 16 : 8;
}

static uint32_t l3_at(const struct frame *frame)
{
	uint32_t at = 12;

	while (get16(frame->bytes + at) == 0x8100)
		at += 4;
	return at + 2;
}

static uint32_t l4_at(const struct frame *frame)
{
	uint32_t at = l3_at(frame);
	const uint8_t *ip = frame->bytes + at;

	if (ip[0] >> 4 == 4)
		return at + (ip[0] & 15U) * 4;
	return at + 40 + (ip[6] == IPPROTO_DSTOPTS ? 8U + ip[41] * 8U : ip[6] == 44 ? 8 : 0);
}

static void fill(uint8_t *at, uint32_t bytes)
{
	for (uint32_t i = 0; i < bytes; i++)
		at[i] = (uint8_t)rand();
}

static struct frame frame_of(const struct spec *spec)
{
	struct frame frame = {};
	bool six = spec->family == 6;
	uint32_t header = spec->proto == GRE ? 0 : l4_bytes(spec->proto), at = 12, l3;
	uint8_t *ip, *l4;

	frame.bytes[0] = 2;
	memcpy(frame.bytes + 6, client_mac, 6);
	for (uint32_t i = 0; i < spec->tags; i++, at += 4) {
		put16(frame.bytes + at, 0x8100);
		put16(frame.bytes + at + 2, (uint16_t)(7 + i));
	}
	put16(frame.bytes + at, six ? 0x86dd : 0x800);
	l3 = at + 2;
	ip = frame.bytes + l3;
	l4 = ip + (six ? 40 : 20) + spec->options;
	frame.length = (uint32_t)(l4 - frame.bytes) + header + spec->payload;
	if (six) {
		ip[0] = 0x60;
		put16(ip + 4, (uint16_t)(spec->options + header + spec->payload));
		ip[6] = spec->options ? IPPROTO_DSTOPTS : spec->proto;
		ip[7] = spec->ttl;
		memcpy(ip + 8, spec->src, 16);
		memcpy(ip + 24, spec->dst, 16);
		if (spec->options) {
			ip[40] = spec->proto;
			ip[41] = (uint8_t)(spec->options / 8 - 1);
			ip[42] = 1; /* PadN */
			ip[43] = (uint8_t)(spec->options - 4);
		}
		if (spec->fragment) {
			ip[6] = 44;
			ip[41] = 0;
			put16(ip + 42, (uint16_t)((spec->fragment & 0x1fff) << 3 | spec->fragment >> 13));
			put16(ip + 44, 0);
			put16(ip + 46, spec->id);
		}
	} else {
		ip[0] = (uint8_t)(0x45 + spec->options / 4);
		put16(ip + 2, (uint16_t)(20 + spec->options + header + spec->payload));
		put16(ip + 4, spec->id);
		put16(ip + 6, spec->fragment);
		ip[8] = spec->ttl;
		ip[9] = spec->proto;
		memcpy(ip + 12, spec->src, 4);
		memcpy(ip + 16, spec->dst, 4);
		memset(ip + 20, 1, spec->options);
		put16(ip + 10, (uint16_t)~sum_of(ip, 20 + spec->options, 0));
	}
	fill(l4, header + spec->payload);
	if (spec->fragment & 0x1fff)
		return frame;
	switch (spec->proto) {
	case IPPROTO_TCP:
		l4[12] = 0x50;
		l4[13] = spec->flags;
		break;
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6:
		put16(l4, spec->dport);
		put16(l4 + 4, spec->sport);
		break;
	case IPPROTO_UDP:
		put16(l4 + 4, (uint16_t)(8 + spec->payload));
		break;
	default:
		break;
	}
	if (spec->proto != GRE && spec->proto != IPPROTO_ICMP && spec->proto != IPPROTO_ICMPV6) {
		put16(l4, spec->sport);
		put16(l4 + 2, spec->dport);
	}
	if (spec->no_checksum)
		put16(l4 + 6, 0);
	else if (spec->proto != GRE)
		put16(l4 + checksum_at(spec->proto),
			checksum_of(spec->family, ip, spec->proto, l4, header + spec->payload));
	return frame;
}

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

/* What a packet says. */
static struct spec spec_of(const struct frame *frame)
{
	uint32_t l3 = l3_at(frame), l4 = l4_at(frame);
	const uint8_t *ip = frame->bytes + l3, *transport = frame->bytes + l4;
	bool six = ip[0] >> 4 == 6;
	struct spec spec = {.family = six ? 6 : 4, .ttl = six ? ip[7] : ip[8]};

	spec.proto = !six ? ip[9] : ip[6] == IPPROTO_DSTOPTS || ip[6] == 44 ? ip[40] : ip[6];
	memcpy(spec.src, six ? ip + 8 : ip + 12, six ? 16 : 4);
	memcpy(spec.dst, six ? ip + 24 : ip + 16, six ? 16 : 4);
	if (spec.proto == GRE)
		return spec;
	spec.sport = get16(transport);
	spec.dport = get16(transport + 2);
	if (spec.proto == IPPROTO_ICMP || spec.proto == IPPROTO_ICMPV6) {
		spec.dport = get16(transport);
		spec.sport = get16(transport + 4);
	}
	return spec;
}

static void assert_address(const uint8_t *got, int family, const char *wanted)
{
	uint8_t bytes[16] = {};

	inet_pton(family == 4 ? AF_INET : AF_INET6, wanted, bytes);
	assert_memory_equal(got, bytes, family == 4 ? 4 : 16);
}

/* All checksums are those that adding up the packet gives. */
static void assert_whole(struct frame *frame, bool no_checksum)
{
	uint32_t l3 = l3_at(frame), l4 = l4_at(frame);
	uint8_t *ip = frame->bytes + l3;
	struct spec spec = spec_of(frame);

	if (spec.family == 4)
		assert_int_equal(sum_of(ip, l4 - l3, 0), 0xffff);
	if (spec.proto == GRE)
		return;
	assert_int_equal(get16(frame->bytes + l4 + checksum_at(spec.proto)),
		no_checksum
			? 0
			: checksum_of(spec.family, ip, spec.proto, frame->bytes + l4, frame->length - l4));
}

/* Nothing but what nat is there to change has changed. */
static void assert_carried(const struct frame *in, const struct frame *out)
{
	uint32_t skip = spec_of(in).proto == GRE ? 0 : l4_bytes(spec_of(in).proto), at = l4_at(in);

	assert_int_equal(in->length, out->length);
	assert_int_equal(at, l4_at(out));
	assert_memory_equal(in->bytes + 12, out->bytes + 12, l3_at(in) - 12);
	assert_memory_equal(in->bytes + at + skip, out->bytes + at + skip, in->length - at - skip);
	assert_int_equal(spec_of(in).ttl, spec_of(out).ttl + 1);
}

/* -- services -- */

struct variant {
	uint16_t first, last;  /* ports; 0: all */
	uint32_t addresses;    /* 0: one */
	uint16_t backend_port; /* 0: as it is */
	uint16_t mss;
	bool quiet, affinity;
};

static void forget(const struct bpf_map *map)
{
	struct service_key key;

	while (bpf_map_get_next_key(bpf_map__fd(map), NULL, &key) == 0)
		bpf_map_delete_elem(bpf_map__fd(map), &key);
}

/* A service of any protocol and port of either family, with one backend each. */
static void begin(const struct variant *variant)
{
	struct service_text texts[2];
	struct service_input inputs[2];
	uint16_t slots[SLOTS];

	for (uint16_t i = 0; i < 2; i++) {
		struct service_source *source = &services.sources[i + 1];
		struct address nat;

		assert_int_equal(address_parse(nats_at[i], &nat), 0);
		services_backend(&services, i + 1U, i + 1U, backends_at[i]);
		services.backends[i + 1].port = htons(variant->backend_port);
		*source = (struct service_source){
			.first = htons(variant->first ? variant->first : FIRST),
			.last = htons(variant->last ? variant->last : UINT16_MAX),
			.nat_addresses = variant->addresses ? variant->addresses : 1,
		};
		memcpy(i ? source->address6 : &source->address4, nat.bytes, i ? 16 : 4);
		answers[i].first = answers[i].last = nat;
		answers[i].last.bytes[i ? 15 : 3] =
			(uint8_t)(nat.bytes[i ? 15 : 3] + source->nat_addresses - 1);
		answers[i].ports = (struct port_range){ntohs(source->first), ntohs(source->last)};
		for (int slot = 0; slot < SLOTS; slot++)
			slots[slot] = (uint16_t)(i + 1);
		services_ring(&services, i + 1U, slots, SLOTS);
		services_text(&texts[i], "any", -1, services_at[i], 0, 0, SERVICE_NAT);
		texts[i].mss = variant->mss;
		texts[i].no_flows = variant->quiet;
		texts[i].affinity = variant->affinity;
		inputs[i] = (struct service_input){
			.text = &texts[i], .number = i + 1U, .rule = i + 1U, .ring = i + 1U, .slots = SLOTS};
	}
	services_book(&services, 0, inputs, 2);
	services_place(&services, 0);
	forget(services.balance->maps.service_flows);
	forget(services.balance->maps.service_embryos);
	services_clear(&services);
}

static struct spec from_client(int family, uint8_t proto, uint16_t sport, uint16_t dport)
{
	struct spec spec = {.family = family,
		.proto = proto,
		.flags = ACK,
		.ttl = 64,
		.sport = sport,
		.dport = dport,
		.payload = 10};
	int kind = family == 4 ? AF_INET : AF_INET6;

	inet_pton(kind, clients[family == 6], spec.src);
	inet_pton(kind, services_at[family == 6], spec.dst);
	return spec;
}

/* What the backend says to what it got. */
static struct spec answer_to(const struct frame *got)
{
	struct spec spec = spec_of(got), answer = spec;

	memcpy(answer.src, spec.dst, 16);
	memcpy(answer.dst, spec.src, 16);
	if (spec.proto == IPPROTO_ICMP || spec.proto == IPPROTO_ICMPV6) {
		answer.dport = spec.proto == IPPROTO_ICMP ? 0 : 129 << 8;
	} else {
		answer.sport = spec.dport;
		answer.dport = spec.sport;
	}
	answer.ttl = 64;
	answer.flags = ACK;
	return answer;
}

static struct frame send_of(const struct spec *spec)
{
	struct frame in = frame_of(spec);

	return run(&in);
}

/* -- what packets look like -- */

static const uint8_t protos[] = {IPPROTO_TCP, IPPROTO_UDP, UDPLITE, DCCP, IPPROTO_ICMP, GRE};

static struct spec random_spec(void)
{
	int family = rand() % 2 ? 6 : 4;
	uint8_t proto = protos[(size_t)rand() % sizeof(protos)];
	struct spec spec =
		from_client(family, proto, (uint16_t)(1 + rand() % 65535), (uint16_t)(1 + rand() % 65535));

	fill(spec.src + (family == 4 ? 1 : 8), family == 4 ? 3 : 8);
	spec.payload = 4 + (uint32_t)rand() % 1200;
	spec.ttl = (uint8_t)(2 + rand() % 254);
	spec.options = rand() % 4 ? 0 : 8 * (1U + (uint32_t)rand() % 3);
	if (proto == IPPROTO_ICMP) {
		spec.proto = family == 4 ? IPPROTO_ICMP : IPPROTO_ICMPV6;
		spec.dport = family == 4 ? 8 << 8 : 128 << 8;
	}
	spec.no_checksum = proto == IPPROTO_UDP && rand() % 4 == 0;
	return spec;
}

static void checksums_are_what_adding_up_the_packet_gives_in_both_directions(void **state)
{
	const struct variant variant = {.backend_port = 8080};

	(void)state;
	begin(&variant);
	for (int i = 0; i < 20000; i++) {
		struct spec spec = random_spec(), got, answer;
		bool six = spec.family == 6,
		     icmp = spec.proto == IPPROTO_ICMP || spec.proto == IPPROTO_ICMPV6;
		struct frame in = frame_of(&spec), out = run(&in);

		/* what has no ports has the address alone, and another client may have it */
		if (spec.proto == GRE) {
			forget(services.balance->maps.service_embryos);
			out = run(&in);
		}
		assert_int_equal(out.verdict, XDP_TX);
		assert_carried(&in, &out);
		assert_whole(&out, spec.no_checksum);
		got = spec_of(&out);
		assert_address(got.src, spec.family, nats_at[six]);
		assert_address(got.dst, spec.family, backends_at[six]);
		if (spec.proto != GRE) {
			assert_in_range(got.sport, FIRST, 65535);
			assert_int_equal(got.dport, icmp ? spec.dport : 8080);
		}
		answer = answer_to(&out);
		answer.payload = 4 + (uint32_t)rand() % 1200;
		answer.no_checksum = spec.no_checksum;
		in = frame_of(&answer);
		out = run(&in);
		assert_int_equal(out.verdict, XDP_TX);
		assert_carried(&in, &out);
		assert_whole(&out, spec.no_checksum);
		got = spec_of(&out);
		assert_address(got.src, spec.family, services_at[six]);
		assert_memory_equal(got.dst, spec.src, six ? 16 : 4);
		if (spec.proto != GRE) {
			assert_int_equal(icmp ? got.sport : got.dport, spec.sport);
			assert_int_equal(icmp ? got.dport : got.sport, icmp ? answer.dport : spec.dport);
		}
		/* MAC addresses: back to where the client's packets came from */
		assert_memory_equal(out.bytes, client_mac, 6);
	}
}

/* A checksum of which there is only the sum of the pseudo header. */
static void leave_to_card(struct frame *frame)
{
	uint32_t l3 = l3_at(frame), l4 = l4_at(frame);
	struct spec spec = spec_of(frame);

	put16(frame->bytes + l4 + checksum_at(spec.proto),
		(uint16_t)pseudo_of(spec.family, frame->bytes + l3, spec.proto, frame->length - l4));
}

static void generic_set(bool generic)
{
	__u32 lo = 1, yes = 1;
	int map = bpf_map__fd(services.balance->maps.service_generic);

	if (generic)
		assert_int_equal(bpf_map_update_elem(map, &lo, &yes, BPF_ANY), 0);
	else
		bpf_map_delete_elem(map, &lo);
}

static struct spec random_offloaded(void)
{
	struct spec spec = random_spec();

	spec.proto = rand() % 2 ? IPPROTO_TCP : IPPROTO_UDP;
	spec.no_checksum = false;
	spec.dport = 80;
	return spec;
}

static void a_checksum_that_was_left_to_a_card_is_made_whole(void **state)
{
	const struct variant variant = {};

	(void)state;
	begin(&variant);
	for (int i = 0; i < 4000; i++) {
		struct spec spec = random_offloaded();
		struct frame in = frame_of(&spec), out;

		leave_to_card(&in);
		out = run(&in);
		assert_int_equal(out.verdict, XDP_TX);
		assert_carried(&in, &out);
		assert_whole(&out, false);
		spec = answer_to(&out);
		spec.payload = 4 + (uint32_t)rand() % 1200;
		in = frame_of(&spec);
		leave_to_card(&in);
		out = run(&in);
		assert_int_equal(out.verdict, XDP_TX);
		assert_whole(&out, false);
	}
}

static void where_the_kernel_makes_it_the_sum_of_the_pseudo_header_is_kept_right(void **state)
{
	const struct variant variant = {.mss = 1000};

	(void)state;
	begin(&variant);
	generic_set(true);
	for (int i = 0; i < 1000; i++) {
		struct spec spec = random_offloaded();
		struct frame in, out, wanted;

		spec.flags = rand() % 2 ? SYN : ACK;
		in = frame_of(&spec);
		leave_to_card(&in);
		out = run(&in);
		assert_int_equal(out.verdict, XDP_TX);
		wanted = out;
		leave_to_card(&wanted);
		assert_memory_equal(out.bytes, wanted.bytes, out.length);
	}
	generic_set(false);
}

static void a_whole_checksum_that_looks_as_if_it_was_left_to_a_card_stays_right(void **state)
{
	const struct variant variant = {};

	(void)state;
	begin(&variant);
	for (int i = 0; i < 1000; i++) {
		struct spec spec = random_offloaded();
		struct frame in, out;
		uint32_t l4, word;
		uint16_t pseudo;

		spec.payload = 2 + 2 * ((uint32_t)rand() % 500);
		in = frame_of(&spec);
		l4 = l4_at(&in);
		word = in.length - 2;
		pseudo = (uint16_t)pseudo_of(spec.family, in.bytes + l3_at(&in), spec.proto, in.length - l4);
		/* the last word makes up for the difference */
		put16(in.bytes + l4 + checksum_at(spec.proto), pseudo);
		put16(in.bytes + word, 0);
		put16(in.bytes + word, (uint16_t)~sum_of(in.bytes + l4, in.length - l4, pseudo));
		assert_whole(&in, false);
		generic_set(i % 2);
		out = run(&in);
		assert_int_equal(out.verdict, XDP_TX);
		assert_whole(&out, false);
	}
	generic_set(false);
}

static void a_checksum_that_is_wrong_stays_wrong(void **state)
{
	const struct variant variant = {};
	struct spec spec = from_client(4, IPPROTO_TCP, 1000, 80);
	struct frame in = frame_of(&spec), out;

	(void)state;
	begin(&variant);
	in.bytes[in.length - 1] ^= 1;
	out = run(&in);
	assert_int_equal(out.verdict, XDP_TX);
	assert_int_not_equal(get16(out.bytes + 50),
		checksum_of(4, out.bytes + 14, IPPROTO_TCP, out.bytes + 34, out.length - 34));
}

/* -- errors -- */

/* An error of somebody on the way about a packet, of which it quotes so many bytes. */
static struct frame error_about(const struct frame *packet, const char *from, uint32_t quoted)
{
	struct spec about = spec_of(packet), spec = {.family = about.family, .ttl = 64};
	bool six = spec.family == 6;
	uint32_t l3 = l3_at(packet), at = 14 + (six ? 40 : 20);
	struct frame frame;

	spec.proto = six ? IPPROTO_ICMPV6 : IPPROTO_ICMP;
	spec.dport = six ? 2 << 8 : 3 << 8 | 4;
	spec.sport = 0;
	inet_pton(six ? AF_INET6 : AF_INET, from, spec.src);
	memcpy(spec.dst, about.src, 16);
	if (quoted > packet->length - l3)
		quoted = packet->length - l3;
	spec.payload = quoted;
	frame = frame_of(&spec);
	memcpy(frame.bytes + at + 8, packet->bytes + l3, quoted);
	put16(frame.bytes + at + 4, 0);
	put16(frame.bytes + at + 6, 1400);
	put16(frame.bytes + at + 2,
		checksum_of(spec.family, frame.bytes + 14, spec.proto, frame.bytes + at, frame.length - at));
	return frame;
}

/* The quoted packet as a frame of its own. */
static struct frame quoted_in(const struct frame *error)
{
	uint32_t at = l4_at(error) + 8;
	struct frame frame = {.length = error->length - at + 14};

	memcpy(frame.bytes + 14, error->bytes + at, error->length - at);
	put16(frame.bytes + 12, frame.bytes[14] >> 4 == 6 ? 0x86dd : 0x800);
	return frame;
}

static void errors_speak_to_each_side_of_the_packet_that_it_sent(void **state)
{
	static const char *const routers[] = {"198.51.100.1", "2001:db8:ff::1"};
	const struct variant variant = {.backend_port = 8080};

	(void)state;
	begin(&variant);
	for (int i = 0; i < 4000; i++) {
		struct spec spec = random_spec(), answer;
		uint32_t quote = rand() % 2 ? 28U + (spec.family == 6 ? 20U : 0U) + spec.options : 1300;
		bool six = spec.family == 6;
		struct frame in, out, error, quoted, back;

		if (spec.proto == GRE)
			continue;
		in = frame_of(&spec);
		out = run(&in);
		assert_int_equal(out.verdict, XDP_TX);
		/* from behind weir, about what it has sent to the backend */
		error = error_about(&out, backends_at[six], quote);
		error = run(&error);
		assert_int_equal(error.verdict, XDP_TX);
		assert_whole(&error, false);
		assert_address(spec_of(&error).src, spec.family, services_at[six]);
		assert_memory_equal(spec_of(&error).dst, spec.src, six ? 16 : 4);
		quoted = quoted_in(&error);
		/* what the client sent, but for the hop that the packet has come since */
		in.bytes[14 + (six ? 7 : 8)]--;
		if (!six) {
			put16(in.bytes + 24, 0);
			put16(in.bytes + 24, (uint16_t)~sum_of(in.bytes + 14, l4_at(&in) - 14, 0));
		}
		assert_memory_equal(quoted.bytes + 14, in.bytes + 14, quoted.length - 14);
		/* from beyond weir, about what it has sent to the client */
		answer = answer_to(&out);
		answer.payload = 4 + (uint32_t)rand() % 1200;
		in = frame_of(&answer);
		back = run(&in);
		assert_int_equal(back.verdict, XDP_TX);
		error = error_about(&back, routers[six], quote);
		error = run(&error);
		assert_int_equal(error.verdict, XDP_TX);
		assert_whole(&error, false);
		assert_address(spec_of(&error).src, spec.family, nats_at[six]);
		assert_address(spec_of(&error).dst, spec.family, backends_at[six]);
		quoted = quoted_in(&error);
		in.bytes[14 + (six ? 7 : 8)]--;
		if (!six) {
			put16(in.bytes + 24, 0);
			put16(in.bytes + 24, (uint16_t)~sum_of(in.bytes + 14, l4_at(&in) - 14, 0));
		}
		assert_memory_equal(quoted.bytes + 14, in.bytes + 14, quoted.length - 14);
	}
	assert_int_equal(services_lost(&services, 1).packets[SERVICE_LOST_HEADER], 0);
}

static void an_error_about_nothing_that_goes_through_here_is_the_hosts(void **state)
{
	const struct variant variant = {};
	struct spec spec = from_client(4, IPPROTO_TCP, 1000, 80);
	struct frame packet, error, out;

	(void)state;
	begin(&variant);
	inet_pton(AF_INET, nats_at[0], spec.src);
	inet_pton(AF_INET, backends_at[0], spec.dst);
	packet = frame_of(&spec);
	error = error_about(&packet, backends_at[0], 28);
	out = run(&error);
	assert_int_equal(out.verdict, XDP_PASS);
	assert_memory_equal(out.bytes, error.bytes, error.length);
}

/* -- whose -- */

static void what_comes_for_a_port_of_nobody_goes_to_the_host_as_it_came(void **state)
{
	const struct variant variant = {};
	struct spec spec;

	(void)state;
	begin(&variant);
	for (int family = 4; family <= 6; family += 2)
		for (int i = 0; i < 3; i++) {
			static const uint16_t ports[] = {22, FIRST, 65535};
			struct frame in, out;

			spec = from_client(family, IPPROTO_TCP, 8080, ports[i]);
			inet_pton(family == 4 ? AF_INET : AF_INET6, nats_at[family == 6], spec.dst);
			in = frame_of(&spec);
			out = run(&in);
			assert_int_equal(out.verdict, XDP_PASS);
			assert_memory_equal(out.bytes, in.bytes, in.length);
			spec.proto = family == 4 ? IPPROTO_ICMP : IPPROTO_ICMPV6;
			spec.dport = family == 4 ? 8 << 8 : 128 << 8;
			spec.sport = ports[i];
			in = frame_of(&spec);
			out = run(&in);
			assert_int_equal(out.verdict, XDP_PASS);
		}
}

static uint16_t port_for(uint16_t sport, uint8_t flags, int *ret_verdict)
{
	struct spec spec = from_client(4, IPPROTO_TCP, sport, 80);
	struct frame out;

	spec.flags = flags;
	out = send_of(&spec);
	*ret_verdict = out.verdict;
	return spec_of(&out).sport;
}

static size_t written(const struct bpf_map *map)
{
	struct service_key key, *previous = NULL;
	size_t count = 0;

	for (; bpf_map_get_next_key(bpf_map__fd(map), previous, &key) == 0; previous = &key)
		count++;
	return count;
}

/* As if so many seconds had gone by since an entry was touched. */
static void age(const struct bpf_map *map, uint32_t seconds)
{
	struct service_key key, *previous = NULL;

	for (; bpf_map_get_next_key(bpf_map__fd(map), previous, &key) == 0; previous = &key) {
		struct service_flow flow;

		assert_int_equal(bpf_map_lookup_elem(bpf_map__fd(map), &key, &flow), 0);
		flow.last -= seconds * services.nat->rodata->service_second;
		assert_int_equal(bpf_map_update_elem(bpf_map__fd(map), &key, &flow, BPF_EXIST), 0);
	}
	services_nat_forget(&services);
}

/* A connection of which both have spoken: its port. */
static uint16_t establish(uint16_t sport)
{
	struct spec spec = from_client(4, IPPROTO_TCP, sport, 80), answer;
	struct frame out;

	spec.flags = SYN;
	out = send_of(&spec);
	assert_int_equal(out.verdict, XDP_TX);
	answer = answer_to(&out);
	answer.flags = SYN | ACK;
	assert_int_equal(send_of(&answer).verdict, XDP_TX);
	spec.flags = ACK;
	out = send_of(&spec);
	assert_int_equal(out.verdict, XDP_TX);
	return spec_of(&out).sport;
}

static void send_both(uint16_t sport, uint8_t from_client_flags, uint8_t from_backend_flags)
{
	struct spec spec = from_client(4, IPPROTO_TCP, sport, 80), answer;
	struct frame out;

	spec.flags = from_client_flags;
	out = send_of(&spec);
	assert_int_equal(out.verdict, XDP_TX);
	if (!from_backend_flags)
		return;
	answer = answer_to(&out);
	answer.flags = from_backend_flags;
	assert_int_equal(send_of(&answer).verdict, XDP_TX);
}

static void each_connection_has_a_port_of_its_own_and_keeps_it(void **state)
{
	const struct variant variant = {};
	static uint8_t taken[65536];
	static uint16_t ports[2000];
	int verdict;

	(void)state;
	begin(&variant);
	memset(taken, 0, sizeof(taken));
	for (uint16_t i = 0; i < 2000; i++) {
		ports[i] = i % 2 ? establish((uint16_t)(1000 + i))
		                 : port_for((uint16_t)(1000 + i), SYN, &verdict);
		assert_in_range(ports[i], FIRST, 65535);
		assert_int_equal(taken[ports[i]]++, 0);
	}
	for (uint16_t i = 0; i < 2000; i++)
		assert_int_equal(port_for((uint16_t)(1000 + i), i % 2 ? ACK : SYN, &verdict), ports[i]);
	assert_int_equal(written(services.balance->maps.service_flows), 2000);
	assert_int_equal(written(services.balance->maps.service_embryos), 2000);
	assert_int_equal(services_count(&services, 1).connections, 2000);
}

static void all_ports_of_all_addresses_are_used_and_then_beginnings_are_refused(void **state)
{
	const struct variant variant = {.first = 62000, .last = 62003, .addresses = 3};
	uint16_t sport = 1000;
	int verdict, seen[3][4] = {};

	(void)state;
	begin(&variant);
	for (; sport < 1012; sport++) {
		struct spec spec = from_client(4, IPPROTO_TCP, sport, 80), got;
		struct frame out;

		establish(sport);
		out = send_of(&spec);
		got = spec_of(&out);
		assert_in_range(got.src[3], 1, 3);
		assert_in_range(got.sport, 62000, 62003);
		assert_int_equal(seen[got.src[3] - 1][got.sport - 62000]++, 0);
	}
	port_for(sport, SYN, &verdict);
	assert_int_equal(verdict, XDP_DROP);
	assert_int_equal(services_lost(&services, 1).packets[SERVICE_LOST_NO_PORT], 1);
	/* another backend's are others */
	services.backends[1].address[0] = htonl(0x0a00000c);
	services.backends[1].generation++;
	port_for(sport, SYN, &verdict);
	assert_int_equal(verdict, XDP_TX);
}

static void a_port_is_free_again_when_its_connection_is_over_and_not_before(void **state)
{
	const struct variant variant = {.first = 62000, .last = 62000};
	const struct bpf_map *flows = services.balance->maps.service_flows;
	int verdict;

	(void)state;
	begin(&variant);
	/* ended by one of them, who still gets what the other sends */
	establish(1000);
	send_both(1000, FIN | ACK, ACK);
	age(flows, 59);
	port_for(1001, SYN, &verdict);
	assert_int_equal(verdict, XDP_DROP);
	/* … for as long as is said of TIME_WAIT */
	age(flows, 2);
	port_for(1001, SYN, &verdict);
	assert_int_equal(verdict, XDP_TX);
	assert_int_equal(services_count(&services, 1).ended, 1);
	/* by both: a second later, since there is no other port */
	begin(&variant);
	establish(1000);
	send_both(1000, FIN | ACK, FIN | ACK);
	age(flows, (uint32_t)-60); /* however long it takes from here to the next line */
	port_for(1001, SYN, &verdict);
	assert_int_equal(verdict, XDP_DROP);
	age(flows, 62);
	assert_int_equal(establish(1001), 62000);
	/* torn down */
	begin(&variant);
	establish(1000);
	send_both(1000, ACK, RST);
	port_for(1001, SYN, &verdict);
	assert_int_equal(verdict, XDP_DROP);
	age(flows, 3);
	assert_int_equal(establish(1001), 62000);
	/* idle */
	age(flows, 7200);
	port_for(1002, SYN, &verdict);
	assert_int_equal(verdict, XDP_DROP);
	age(flows, 601);
	assert_int_equal(establish(1002), 62000);
	assert_int_equal(written(flows), 2);
	/* one half goes on: the other does not time out */
	age(flows, 7801);
	send_both(1002, ACK, 0);
	port_for(1003, SYN, &verdict);
	assert_int_equal(verdict, XDP_DROP);
}

static void a_port_of_what_has_ended_is_taken_when_no_other_is_left(void **state)
{
	const struct variant variant = {.first = 62000, .last = 62015};
	uint16_t ended;
	int verdict;

	(void)state;
	begin(&variant);
	ended = establish(1000);
	send_both(1000, FIN | ACK, FIN | ACK);
	age(services.balance->maps.service_flows, 59);
	for (uint16_t i = 1; i < 16; i++)
		assert_int_not_equal(establish((uint16_t)(1000 + i)), ended);
	assert_int_equal(establish(2000), ended);
	port_for(2001, SYN, &verdict);
	assert_int_equal(verdict, XDP_DROP);
	for (uint16_t i = 1; i < 16; i++)
		send_both((uint16_t)(1000 + i), ACK, ACK);
}

static void a_client_that_begins_anew_on_its_port_keeps_that_of_nat(void **state)
{
	const struct variant variant = {};
	uint16_t first;
	int verdict;

	(void)state;
	begin(&variant);
	first = establish(1000);
	send_both(1000, FIN | ACK, FIN | ACK);
	assert_int_equal(port_for(1000, SYN, &verdict), first);
	/* and its end is not what counts any more */
	age(services.balance->maps.service_flows, 100);
	assert_int_equal(port_for(1000, ACK, &verdict), first);
	assert_int_equal(services_count(&services, 1).connections, 2);
}

static void a_flood_of_beginnings_pushes_out_nothing_that_is_established(void **state)
{
	const struct variant variant = {.first = 1024, .last = 65535, .addresses = 4};
	uint16_t port;
	int verdict;

	(void)state;
	begin(&variant);
	port = establish(1000);
	for (uint32_t i = 0; i < 100000; i++) {
		struct spec spec = from_client(4, IPPROTO_TCP, (uint16_t)i, 80);

		spec.src[0] = 11;
		spec.src[1] = (uint8_t)(i >> 16);
		spec.flags = SYN;
		assert_int_equal(send_of(&spec).verdict, XDP_TX);
	}
	assert_int_equal(port_for(1000, ACK, &verdict), port);
	assert_int_equal(verdict, XDP_TX);
	send_both(1000, ACK, ACK);
}

static void a_flood_of_beginnings_does_not_keep_the_ports(void **state)
{
	const struct variant variant = {.first = 62000, .last = 62007};
	int verdict;

	(void)state;
	begin(&variant);
	for (uint16_t i = 0; i < 8; i++)
		port_for((uint16_t)(1000 + i), SYN, &verdict);
	port_for(2000, SYN, &verdict);
	assert_int_equal(verdict, XDP_DROP);
	age(services.balance->maps.service_embryos, 2);
	establish(2000);
	assert_int_equal(verdict, XDP_DROP);
	assert_int_equal(written(services.balance->maps.service_flows), 2);
}

static void a_beginning_whose_half_was_pushed_out_gets_both_again(void **state)
{
	const struct variant variant = {};
	struct spec spec = from_client(4, IPPROTO_UDP, 1000, 53), answer;
	struct service_key key, *previous = NULL;
	struct frame out;

	(void)state;
	begin(&variant);
	out = send_of(&spec);
	for (; bpf_map_get_next_key(bpf_map__fd(services.balance->maps.service_embryos), previous, &key) == 0;
		previous = &key)
		if (key.sport == htons(53))
			break;
	assert_int_equal(bpf_map_delete_elem(bpf_map__fd(services.balance->maps.service_embryos), &key), 0);
	answer = answer_to(&out);
	assert_int_equal(send_of(&answer).verdict, XDP_PASS);
	out = send_of(&spec);
	answer = answer_to(&out);
	assert_int_equal(send_of(&answer).verdict, XDP_TX);
}

static void of_a_backend_that_is_gone_nothing_is_kept(void **state)
{
	const struct variant variant = {};
	uint16_t port;
	int verdict;

	(void)state;
	begin(&variant);
	establish(1000);
	services.backends[1].generation++;
	port_for(1000, ACK, &verdict);
	assert_int_equal(verdict, XDP_TX);
	assert_int_equal(written(services.balance->maps.service_flows), 0);
	/* drained it keeps what it has, and what is about to be answered */
	establish(1001);
	port = port_for(1002, SYN, &verdict);
	services.backends[1].state = SERVICE_BACKEND_DRAINING;
	port_for(1001, ACK, &verdict);
	assert_int_equal(verdict, XDP_TX);
	assert_int_equal(written(services.balance->maps.service_flows), 2);
	assert_int_equal(port_for(1002, SYN, &verdict), port);
	assert_int_equal(verdict, XDP_TX);
}

/* -- others -- */

static void fragments_follow_their_first_one_in_both_directions(void **state)
{
	const struct variant variant = {.backend_port = 8080};

	(void)state;
	begin(&variant);
	for (int family = 4; family <= 6; family += 2) {
		struct spec spec = from_client(family, IPPROTO_UDP, 1000, 53), later, answer;
		struct frame in, out;

		for (int direction = 0; direction < 2; direction++) {
			spec.fragment = 0x2000;
			spec.id = (uint16_t)(77 + direction);
			spec.options = family == 6 ? 8 : 0;
			spec.payload = 64;
			in = frame_of(&spec);
			out = run(&in);
			assert_int_equal(out.verdict, XDP_TX);
			answer = answer_to(&out);
			later = spec;
			later.fragment = 9;
			in = frame_of(&later);
			out = run(&in);
			assert_int_equal(out.verdict, XDP_TX);
			assert_int_equal(in.length, out.length);
			assert_memory_equal(
				in.bytes + l4_at(&in), out.bytes + l4_at(&in), in.length - l4_at(&in));
			assert_address(spec_of(&out).dst, family,
				direction ? clients[family == 6] : backends_at[family == 6]);
			assert_address(spec_of(&out).src, family,
				direction ? services_at[family == 6] : nats_at[family == 6]);
			if (family == 4)
				assert_int_equal(sum_of(out.bytes + 14, 20, 0), 0xffff);
			later.id = 99;
			in = frame_of(&later);
			assert_int_equal(run(&in).verdict, XDP_PASS);
			spec = answer;
		}
	}
}

/* An error about `in`, to whom it came from, that quotes as much as is said. */
static void assert_exceeded(const struct frame *in, struct frame *out, uint32_t quoted)
{
	struct spec about = spec_of(in), got = spec_of(out);
	uint32_t l4 = l4_at(out), bytes = out->length - l4;

	assert_int_equal(out->verdict, XDP_TX);
	assert_memory_equal(out->bytes, in->bytes + 6, 6);
	assert_memory_equal(got.dst, about.src, 16);
	assert_memory_equal(got.src, about.dst, 16);
	assert_int_equal(got.ttl, 64);
	assert_int_equal(get16(out->bytes + l4), about.family == 6 ? 0x300 : 0xb00);
	assert_int_equal(bytes, 8 + quoted);
	assert_memory_equal(out->bytes + l4 + 8, in->bytes + l3_at(in), quoted);
	assert_whole(out, false);
}

static void who_sends_what_has_come_too_far_is_told(void **state)
{
	const struct variant variant = {};
	static const uint32_t payloads[] = {0, 55, 1000};

	(void)state;
	for (int round = 0; round < 2 * 3; round++) {
		int six = round & 1;
		uint32_t payload = payloads[round / 2], least = six ? 48 : 28, most = six ? 248 : 84;
		struct spec spec = from_client(six ? 6 : 4, IPPROTO_UDP, 1000, 53), answer;
		uint32_t header = (six ? 40 : 20) + 8, quoted = header + payload >= most ? most : least;
		struct frame in, out, error;

		begin(&variant);
		spec.payload = payload;
		spec.ttl = 1;
		in = frame_of(&spec);
		out = run(&in);
		assert_exceeded(&in, &out, quoted);
		assert_int_equal(written(services.balance->maps.service_embryos), 0);
		spec.ttl = 2;
		out = send_of(&spec);
		assert_int_equal(out.verdict, XDP_TX);
		assert_int_equal(spec_of(&out).ttl, 1);
		/* errors are not answered */
		answer = answer_to(&out);
		error = error_about(&out, services_at[six], header);
		error.bytes[l3_at(&error) + (six ? 7 : 8)] = 1;
		assert_int_equal(run(&error).verdict, XDP_DROP);
		/* an answer's sender is told, too */
		answer.payload = payload;
		answer.ttl = 1;
		in = frame_of(&answer);
		out = run(&in);
		assert_exceeded(&in, &out, quoted);
		assert_int_equal(services_lost(&services, 1 + (uint32_t)six).packets[SERVICE_LOST_TTL], 3);
		assert_int_equal(services_lost(&services, 1 + (uint32_t)six).told, 0);
	}
}

static void tags_stay_on_the_link_and_clients_behind_them_need_a_route(void **state)
{
	const struct variant variant = {};
	struct spec spec = from_client(4, IPPROTO_UDP, 1000, 53), answer;
	struct frame in, out;

	(void)state;
	begin(&variant);
	spec.tags = 1;
	in = frame_of(&spec);
	out = run(&in);
	assert_int_equal(out.verdict, XDP_TX);
	assert_carried(&in, &out);
	assert_whole(&out, false);
	answer = answer_to(&out);
	assert_int_equal(send_of(&answer).verdict, XDP_DROP);
	assert_int_equal(services_lost(&services, 1).packets[SERVICE_LOST_NO_ROUTE], 1);
}

static void both_directions_are_counted_and_accounted_by_flow_if_wanted(void **state)
{
	(void)state;
	for (int quiet = 0; quiet < 2; quiet++) {
		const struct variant variant = {.quiet = quiet};
		struct service_count count;
		struct flow_stats stats;

		begin(&variant);
		establish(1000);
		send_both(1000, ACK, ACK);
		count = services_count(&services, 1);
		stats = services_stats(&services);
		assert_int_equal(count.packets, 3);
		assert_int_equal(count.answer_packets, 2);
		assert_int_equal(count.connections, 1);
		assert_int_equal(stats.seen, quiet ? 0 : 5);
		assert_int_equal(stats.seen, stats.cached + stats.emitted + stats.lost);
	}
}

static void affinity_is_written_down_for_clients_that_are_there(void **state)
{
	const struct variant variant = {.affinity = true};
	int verdict;

	(void)state;
	begin(&variant);
	port_for(1000, SYN, &verdict);
	assert_int_equal(written(services.balance->maps.service_flows), 0);
	establish(1001);
	assert_int_equal(written(services.balance->maps.service_flows), 3);
	establish(1002);
	assert_int_equal(written(services.balance->maps.service_flows), 5);
}

/* -- the quick way and the long one -- */

#define QUICK (1U << SERVICE_PROGRAM_NAT_QUICK | 1U << SERVICE_PROGRAM_ANSWER_QUICK)
#define TRIES 1000 /* of what depends on ticks */

/* A packet of a connection that goes on, of all kinds that there are. */
static struct frame random_frame(struct spec spec)
{
	static const uint8_t flags[] = {ACK, ACK | 8, ACK | 0x20, 0, ACK | 0x40};
	struct frame frame;

	spec.payload = (uint32_t)rand() % 1200;
	spec.ttl = (uint8_t)(2 + rand() % 254);
	spec.flags = flags[(size_t)rand() % sizeof(flags)];
	spec.options = rand() % 8 ? 0 : 8;
	spec.no_checksum = spec.proto == IPPROTO_UDP && rand() % 4 == 0;
	frame = frame_of(&spec);
	if (rand() % 16 == 0 && !spec.no_checksum)
		leave_to_card(&frame);
	return frame;
}

static void assert_same(const struct frame *got, const struct frame *wanted)
{
	assert_int_equal(got->verdict, wanted->verdict);
	assert_int_equal(got->length, wanted->length);
	assert_memory_equal(got->bytes, wanted->bytes, wanted->length);
}

#define SAME_PACKETS 4000

static struct frame same_in[SAME_PACKETS], same_first[SAME_PACKETS], same_again[SAME_PACKETS];

/* Packets of connections that both hosts have spoken in. */
static void same_make(void)
{
	struct spec spec, answer;
	struct frame out;

	for (int i = 0; i < SAME_PACKETS; i++) {
		if (i % 8 == 0) {
			do
				spec = random_spec();
			while (spec.proto != IPPROTO_TCP && spec.proto != IPPROTO_UDP);
			spec.options = 0;
			out = send_of(&spec);
			assert_int_equal(out.verdict, XDP_TX);
			answer = answer_to(&out);
			assert_int_equal(send_of(&answer).verdict, XDP_TX);
			assert_int_equal(send_of(&spec).verdict, XDP_TX);
		}
		same_in[i] = random_frame(i % 2 ? answer : spec);
		same_first[i] = run(&same_in[i]);
		same_again[i] = run(&same_in[i]);
	}
}

/* Of both backends together. */
static struct service_count same_counts(void)
{
	struct service_count sum = services_count(&services, 1), other = services_count(&services, 2);

	sum.packets += other.packets;
	sum.bytes += other.bytes;
	sum.answer_packets += other.answer_packets;
	sum.answer_bytes += other.answer_bytes;
	return sum;
}

static void the_quick_way_makes_the_same_of_a_packet_as_the_long_one(void **state)
{
	(void)state;
	for (int quiet = 0; quiet < 2; quiet++) {
		const struct variant variant = {.backend_port = 8080, .quiet = quiet};
		struct service_count begun, before, after;
		struct flow_stats stats;

		begin(&variant);
		begun = same_counts();
		same_make();
		before = same_counts();
		services_programs(&services, ~QUICK);
		for (int i = 0; i < SAME_PACKETS; i++) {
			struct frame out = run(&same_in[i]);

			assert_same(&same_first[i], &out);
			assert_same(&same_again[i], &out);
		}
		services_programs(&services, ~0U);
		after = same_counts();
		/* two packets and an answer make a connection; then each was sent twice, and once */
		before.packets -= begun.packets + 2 * SAME_PACKETS / 8;
		before.answer_packets -= begun.answer_packets + SAME_PACKETS / 8;
		assert_int_equal(before.packets, 2 * (after.packets - before.packets - 2 * SAME_PACKETS / 8));
		assert_int_equal(before.answer_packets,
			2 * (after.answer_packets - before.answer_packets - SAME_PACKETS / 8));
		stats = services_stats(&services);
		assert_int_equal(stats.seen, stats.cached + stats.emitted + stats.lost);
	}
}

/* Is the packet sent to where it should, and without the long way?  That leaves the packet as it read it. */
static bool goes_quickly(const struct frame *in)
{
	const struct bpf_map *map = services.balance->maps.service_works;
	static uint8_t works[256 * 1024];
	uint32_t zero = 0, bytes = (bpf_map__value_size(map) + 7) / 8 * 8;
	struct frame out;

	assert_true(bytes * services.cpus <= sizeof(works));
	memset(works, 0, sizeof(works));
	assert_int_equal(bpf_map_update_elem(bpf_map__fd(map), &zero, works, BPF_ANY), 0);
	out = run(in);
	assert_int_equal(bpf_map_lookup_elem(bpf_map__fd(map), &zero, works), 0);
	for (uint32_t cpu = 0; cpu < services.cpus; cpu++)
		for (uint32_t i = 0; i < 32; i++)
			if (works[cpu * bytes + i])
				return false;
	return out.verdict == XDP_TX;
}

static void what_most_packets_are_needs_no_long_way(void **state)
{
	static const uint8_t quick_protos[] = {IPPROTO_TCP, IPPROTO_UDP};

	(void)state;
	for (int i = 0; i < 8; i++) {
		const struct variant variant = {.quiet = i & 1};
		uint8_t proto = quick_protos[i >> 1 & 1];
		int family = i & 4 ? 6 : 4, tries;
		struct spec spec = from_client(family, proto, 1000, 80), answer;
		struct frame in, back, out;

		begin(&variant);
		spec.payload = 100;
		in = frame_of(&spec);
		/* the first has no port yet */
		assert_false(goes_quickly(&in));
		out = run(&in);
		answer = answer_to(&out);
		answer.payload = 100;
		back = frame_of(&answer);
		/* neither has it stayed: the client has not spoken again */
		assert_false(goes_quickly(&back));
		assert_false(goes_quickly(&in));
		/* the way to the backend is looked at again every few ticks */
		for (tries = 0; tries < TRIES && !goes_quickly(&in); tries++)
			run(&in);
		assert_in_range(tries, 0, TRIES - 1);
		assert_true(goes_quickly(&back));
		/* nothing is known of it any more, but what is remembered beside the line */
		for (tries = 0; tries < TRIES; tries++) {
			forget(services.balance->maps.service_flows);
			if (variant.quiet || goes_quickly(&in))
				break;
			forget(services.balance->maps.service_embryos);
			out = run(&in);
			answer = answer_to(&out);
			assert_int_equal(send_of(&answer).verdict, XDP_TX);
			run(&in);
			run(&in);
		}
		assert_in_range(tries, 0, TRIES - 1);
		services_nat_forget(&services);
		assert_false(goes_quickly(&in));
	}
}

static void what_ends_or_begins_goes_the_long_way(void **state)
{
	static const uint8_t flags[] = {SYN, FIN | ACK, RST, SYN | ACK};
	const struct variant variant = {};

	(void)state;
	begin(&variant);
	establish(1000);
	send_both(1000, ACK, ACK);
	for (size_t i = 0; i < sizeof(flags); i++) {
		struct spec spec = from_client(4, IPPROTO_TCP, 1000, 80);
		struct frame in;

		spec.flags = flags[i];
		in = frame_of(&spec);
		assert_false(goes_quickly(&in));
	}
}

/* Another backend has the number: the connection begins anew, with a port of its own. */
static void what_was_remembered_of_the_connection_before_is_forgotten(void **state)
{
	const struct variant variant = {};
	uint16_t port;
	int verdict;

	(void)state;
	begin(&variant);
	establish(1000);
	send_both(1000, ACK, ACK);
	services.backends[1].generation++;
	port = port_for(1000, SYN, &verdict);
	assert_int_equal(verdict, XDP_TX);
	assert_int_equal(port_for(1000, ACK, &verdict), port);
	assert_int_equal(port_for(1000, ACK, &verdict), port);
}

#define BESIDES 500 /* connections with lines; and as many without */

/* All lines but those of packets that came are somebody else's, and used after these were. */
static void strangers_come(void)
{
	uint32_t last = 0;

	for (size_t i = 0; i < (size_t)services.cpus * LINES; i++) {
		struct flow_line4 *line = &services.cache4[i / FLOW_WAYS].line[i % FLOW_WAYS];

		if (line->serial && (!last || (int32_t)(line->counts.last - last) > 0))
			last = line->counts.last;
	}
	for (size_t i = 0; i < (size_t)services.cpus * LINES; i++) {
		struct flow_line4 *line = &services.cache4[i / FLOW_WAYS].line[i % FLOW_WAYS];

		if (line->serial) {
			line->counts.last = last - 1000;
			continue;
		}
		line->serial = line->ifindex = UINT32_MAX;
		line->counts.last = last;
	}
}

/* A packet of the client gets this port, and the answer comes to the client's. */
static void assert_gets(uint16_t sport, uint16_t port)
{
	struct spec spec = from_client(4, IPPROTO_TCP, sport, 80), answer;
	struct frame out = send_of(&spec);

	assert_int_equal(out.verdict, XDP_TX);
	assert_int_equal(spec_of(&out).sport, port);
	answer = answer_to(&out);
	out = send_of(&answer);
	assert_int_equal(out.verdict, XDP_TX);
	assert_int_equal(spec_of(&out).dport, sport);
}

static void what_gets_no_line_since_the_ring_is_full_leaves_what_is_beside_that_of_others(void **state)
{
	const struct variant variant = {};
	uint16_t got[2 * BESIDES];
	struct flow_stats before, after;
	unsigned int cpu = (unsigned int)sched_getcpu();
	int ring = services_records(&services, cpu);

	(void)state;
	begin(&variant);
	for (uint16_t i = 0; i < BESIDES; i++)
		got[i] = establish(1000 + i);
	strangers_come();
	/* none is as good as a full one */
	assert_int_equal(bpf_map_delete_elem(bpf_map__fd(services.balance->maps.flow_rings), &cpu), 0);
	before = services_stats(&services);
	for (uint16_t i = BESIDES; i < 2 * BESIDES; i++) {
		got[i] = establish(1000 + i);
		assert_gets(1000 + i, got[i]);
	}
	after = services_stats(&services);
	assert_int_equal(after.seen - before.seen, 5 * BESIDES);
	assert_int_equal(after.lost - before.lost, 5 * BESIDES);
	for (int round = 0; round < 2; round++)
		for (uint16_t i = 0; i < 2 * BESIDES; i++)
			assert_gets(1000 + i, got[i]);
	after = services_stats(&services);
	assert_int_equal(after.seen, after.cached + after.emitted + after.lost);
	assert_int_equal(
		bpf_map_update_elem(bpf_map__fd(services.balance->maps.flow_rings), &cpu, &ring, BPF_ANY), 0);
	close(ring);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(checksums_are_what_adding_up_the_packet_gives_in_both_directions),
		cmocka_unit_test(a_checksum_that_was_left_to_a_card_is_made_whole),
		cmocka_unit_test(where_the_kernel_makes_it_the_sum_of_the_pseudo_header_is_kept_right),
		cmocka_unit_test(a_whole_checksum_that_looks_as_if_it_was_left_to_a_card_stays_right),
		cmocka_unit_test(a_checksum_that_is_wrong_stays_wrong),
		cmocka_unit_test(errors_speak_to_each_side_of_the_packet_that_it_sent),
		cmocka_unit_test(an_error_about_nothing_that_goes_through_here_is_the_hosts),
		cmocka_unit_test(what_comes_for_a_port_of_nobody_goes_to_the_host_as_it_came),
		cmocka_unit_test(each_connection_has_a_port_of_its_own_and_keeps_it),
		cmocka_unit_test(all_ports_of_all_addresses_are_used_and_then_beginnings_are_refused),
		cmocka_unit_test(a_port_is_free_again_when_its_connection_is_over_and_not_before),
		cmocka_unit_test(a_port_of_what_has_ended_is_taken_when_no_other_is_left),
		cmocka_unit_test(a_client_that_begins_anew_on_its_port_keeps_that_of_nat),
		cmocka_unit_test(a_flood_of_beginnings_pushes_out_nothing_that_is_established),
		cmocka_unit_test(a_flood_of_beginnings_does_not_keep_the_ports),
		cmocka_unit_test(a_beginning_whose_half_was_pushed_out_gets_both_again),
		cmocka_unit_test(of_a_backend_that_is_gone_nothing_is_kept),
		cmocka_unit_test(fragments_follow_their_first_one_in_both_directions),
		cmocka_unit_test(who_sends_what_has_come_too_far_is_told),
		cmocka_unit_test(tags_stay_on_the_link_and_clients_behind_them_need_a_route),
		cmocka_unit_test(both_directions_are_counted_and_accounted_by_flow_if_wanted),
		cmocka_unit_test(affinity_is_written_down_for_clients_that_are_there),
		cmocka_unit_test(the_quick_way_makes_the_same_of_a_packet_as_the_long_one),
		cmocka_unit_test(what_most_packets_are_needs_no_long_way),
		cmocka_unit_test(what_ends_or_begins_goes_the_long_way),
		cmocka_unit_test(what_was_remembered_of_the_connection_before_is_forgotten),
		cmocka_unit_test(
			what_gets_no_line_since_the_ring_is_full_leaves_what_is_beside_that_of_others),
	};
	cpu_set_t cpu;
	int failed;

	CPU_ZERO(&cpu);
	CPU_SET(sched_getcpu(), &cpu);
	sched_setaffinity(0, sizeof(cpu), &cpu);
	srand(1);
	if (services_open(&services, LINES, RING_BYTES) < 0 || services_nat(&services, answers, 2) < 0)
		return 77;
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	services_close(&services);
	return failed;
}
