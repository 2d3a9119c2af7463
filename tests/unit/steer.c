// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* Books of what is steered, and the hash by which flows are shared among CPUs. */
#include "unit.h"

#include <arpa/inet.h>

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wpointer-arith" /* as programs for the kernel have it */
#include "bpf/lib/facts.h"
#include "bpf/lib/policy.h"
#include "bpf/lib/steer.h"
#pragma GCC diagnostic pop
#include "compile/steer.h"
#include "lib/policy.h"

struct book {
	struct policy_rules rules;
	struct policy_image image;
};

static int book_make(struct book *book, const char *const *sentences, uint64_t there, struct error *error)
{
	const struct steer_cpus cpus = {.words = {there}};
	struct steer_input inputs[STEERS_MAX];

	*book = (struct book){};
	for (size_t i = 0; sentences[i]; i++)
		policy_rules_add(&book->rules, sentences[i]);
	for (size_t i = 0; i < book->rules.count; i++)
		inputs[i] = (struct steer_input){&book->rules.rules[i], (uint32_t)i + 100};
	return steer_compile(inputs, book->rules.count, book->rules.order.world, &cpus, &book->image, error);
}

static void book_open(struct book *book, const char *const *sentences, uint64_t there)
{
	struct error error = {0};

	if (book_make(book, sentences, there, &error) < 0) {
		error_print(&error, "steer: ", stderr);
		fail();
	}
}

static void book_close(struct book *book)
{
	policy_image_clear(&book->image);
	policy_rules_clear(&book->rules);
}

static const struct steer *sentence(const struct book *book, size_t place)
{
	size_t count = 0;
	const struct steer *steers = steer_sentences(book->image.units, book->image.count, &count);

	assert_non_null(steers);
	assert_int_equal(count, book->rules.count);
	return &steers[place];
}

/* "0,1,3" */
static const char *cpus_of(const struct book *book, size_t place)
{
	static char text[8192];
	const struct steer *steer = sentence(book, place);
	size_t length = 0;

	*text = '\0';
	for (size_t i = 0; i < steer->count; i++)
		length += (size_t)snprintf(text + length, sizeof(text) - length, "%s%u", i ? "," : "",
			steer_cpu(book->image.units, steer, i));
	return text;
}

static void sentences_get_their_cpus(void **state)
{
	static const char *const sentences[] = {
		"steer in on eth0 to cpus 0-3,9",
		"steer in on eth1 udp to cpus 1-2 by rule",
		"steer in on eth2 tcp to cpus 2,5 by rule",
		"steer in on eth1 tcp to cpus 1-2 by rule",
		"steer in on eth3 to cpus 1-2 by rule",
		"steer in on nosuch to cpus 7",
		"steer in on eth0 to cpus 40-60",
		NULL,
	};
	/* by rule: of those with the fewest the first; 9 and 40 to 60 are not there */
	static const char *const wanted[] = {"0,1,2,3", "1", "2", "1", "2", "7", ""};
	struct book book;

	(void)state;
	book_open(&book, sentences, 0xff);
	for (size_t i = 0; i < COUNT(wanted); i++) {
		EXPECT_TEXT(cpus_of(&book, i), wanted[i], "%s", sentences[i]);
		assert_int_equal(sentence(&book, i)->rule, i + 100);
		assert_int_equal(sentence(&book, i)->flags, 0);
	}
	assert_int_equal(sentence(&book, 0)->ifindex, 1);
	assert_int_equal(sentence(&book, 5)->ifindex, 0);
	book_close(&book);
}

static void nothing_steered_is_no_book(void **state)
{
	static const char *const none[] = {NULL};
	struct book book;
	size_t count;

	(void)state;
	book_open(&book, none, 1);
	assert_int_equal(book.image.count, 0);
	assert_null(steer_sentences(book.image.units, book.image.count, &count));
	book_close(&book);
}

static void too_many_cpus_are_refused(void **state)
{
	struct policy_rules rules = {};
	struct steer_input inputs[STEERS_MAX];
	struct steer_cpus all;
	struct policy_image image = {};
	struct error error = {0};

	(void)state;
	memset(&all, 0xff, sizeof(all));
	for (size_t i = 0; i < STEER_LANES_MAX / STEER_CPUS_MAX + 1; i++)
		policy_rules_add(&rules, "steer in on eth0 to cpus 0-1023");
	for (size_t i = 0; i < rules.count; i++)
		inputs[i] = (struct steer_input){&rules.rules[i], (uint32_t)i + 1};
	assert_int_equal(
		steer_compile(inputs, rules.count, rules.order.world, &all, &image, &error), -ENOSPC);
	assert_string_equal(error.what, "the sentences that steer name too many CPUs");
	assert_int_equal(steer_compile(inputs, rules.count - 1, rules.order.world, &all, &image, &error), 0);
	assert_int_equal(image.count, ((const struct policy_header *)image.units)->units + 1 + rules.count -
					      1 + (rules.count - 1) * (STEER_CPUS_MAX / STEER_CPUS_A_UNIT));
	policy_image_clear(&image);
	policy_rules_clear(&rules);
}

/* The sentence that a packet finds; -1: none. */
static int found(struct book *book, const struct packet *p, uint32_t ifindex)
{
	struct trie_memory memory = {book->image.units, book->image.count};
	struct policy_cursor cursor;
	struct policy_facts facts;
	uint32_t unit;

	facts_read(p, ifindex, 0, &facts);
	policy_begin(&memory, &cursor, &facts);
	unit = policy_next(&memory, &cursor, &facts);
	return unit ? (int)((const struct policy_rule *)&book->image.units[unit])->source : -1;
}

static struct packet packet_of(
	uint8_t proto, const char *from, uint16_t sport, const char *to, uint16_t dport)
{
	int v6 = strchr(from, ':') != NULL;
	struct packet p = {.family = v6 ? 6 : 4,
		.proto = proto,
		.sport = htons(sport),
		.dport = htons(dport),
		.ethertype = htons(v6 ? PACKET_ETH_IPV6 : PACKET_ETH_IPV4)};

	assert_int_equal(inet_pton(v6 ? AF_INET6 : AF_INET, from, p.src), 1);
	assert_int_equal(inet_pton(v6 ? AF_INET6 : AF_INET, to, p.dst), 1);
	if (proto == PACKET_PROTO_TCP || proto == PACKET_PROTO_UDP)
		p.kind = FLOW_KIND_PORTS;
	return p;
}

static void the_first_sentence_that_fits_decides(void **state)
{
	static const char *const sentences[] = {
		"steer in on eth0 udp from 10.0.0.0/8 to port 53,5353 to cpus 0",
		"steer in on eth0 udp to cpus 1",
		"steer in on eth0 tcp flags syn/syn,ack to cpus 2",
		"steer in on eth1 ip6 to cpus 3",
		"steer in on eth0 dscp ef to cpus 1",
		NULL,
	};
	struct packet p = packet_of(PACKET_PROTO_UDP, "10.1.2.3", 4000, "192.0.2.1", 53);
	struct book book;

	(void)state;
	book_open(&book, sentences, 0xf);
	assert_int_equal(found(&book, &p, 1), 0);
	assert_int_equal(found(&book, &p, 2), -1);
	p.dport = htons(54);
	assert_int_equal(found(&book, &p, 1), 1);
	p = packet_of(PACKET_PROTO_TCP, "10.1.2.3", 4000, "192.0.2.1", 53);
	assert_int_equal(found(&book, &p, 1), -1);
	p.tcp_flags = PACKET_TCP_SYN;
	assert_int_equal(found(&book, &p, 1), 2);
	p.tcp_flags |= PACKET_TCP_ACK;
	assert_int_equal(found(&book, &p, 1), -1);
	p.tos = 46 << 2;
	assert_int_equal(found(&book, &p, 1), 4);
	p = packet_of(PACKET_PROTO_TCP, "2001:db8::1", 1, "2001:db8::2", 2);
	assert_int_equal(found(&book, &p, 2), 3);
	assert_int_equal(found(&book, &p, 1), -1);
	book_close(&book);
}

static void swap(struct packet *p)
{
	struct packet other = *p;

	memcpy(p->src, other.dst, sizeof(p->src));
	memcpy(p->dst, other.src, sizeof(p->dst));
	p->sport = other.dport;
	p->dport = other.sport;
}

static void both_directions_have_one_hash(void **state)
{
	uint64_t random = 7;

	(void)state;
	for (int i = 0; i < 1000; i++) {
		struct packet p = packet_of(i % 2 ? PACKET_PROTO_TCP : PACKET_PROTO_UDP, "0.0.0.0",
			(uint16_t)random_next(&random), "0.0.0.0", (uint16_t)random_next(&random));
		uint32_t hash;

		for (int j = 0; j < (i % 4 < 2 ? 1 : 4); j++) {
			p.src[j] = random_next(&random);
			p.dst[j] = random_next(&random);
		}
		hash = steer_hash(&p, 42);
		swap(&p);
		EXPECT(steer_hash(&p, 42) == hash, "pair %d", i);
		p.fragment = PACKET_FRAGMENT_FIRST;
		hash = steer_hash(&p, 42);
		p.fragment = PACKET_FRAGMENT_LATER;
		p.kind = FLOW_KIND_FRAGMENT;
		p.sport = p.dport = 0;
		EXPECT(steer_hash(&p, 42) == hash, "fragments of pair %d", i);
		swap(&p);
		EXPECT(steer_hash(&p, 42) == hash, "fragments of the other direction, pair %d", i);
	}
}

/* What differs in one thing alone. */
static void flows_are_spread_evenly(void **state)
{
	enum { FLOWS = 64000, CPUS = 7 };
	static const char *const kinds[] = {"source ports", "sources", "both ends", "sources of IPv6"};

	(void)state;
	for (size_t kind = 0; kind < COUNT(kinds); kind++) {
		uint32_t counts[CPUS] = {};

		for (uint32_t i = 0; i < FLOWS; i++) {
			struct packet p = packet_of(PACKET_PROTO_TCP, kind == 3 ? "2001:db8::" : "10.0.0.0",
				1024, kind == 3 ? "2001:db8::1" : "192.0.2.1", 443);

			if (kind == 0)
				p.sport = htons((uint16_t)(1024 + i));
			if (kind == 1 || kind == 2)
				p.src[0] = htonl(0x0a000000 + i);
			if (kind == 2)
				p.dst[0] = htonl(0x0a000000 + i);
			if (kind == 3)
				p.src[3] = htonl(i);
			counts[steer_lane(steer_hash(&p, 0x0123456789abcdef), CPUS)]++;
		}
		/* six standard deviations of what chance would do */
		for (int cpu = 0; cpu < CPUS; cpu++)
			EXPECT(counts[cpu] > FLOWS / CPUS - 6 * 89 && counts[cpu] < FLOWS / CPUS + 6 * 89,
				"%s: CPU %d got %u of %d", kinds[kind], cpu, counts[cpu], FLOWS);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST("sentences get those of their CPUs that are there; by rule, one each",
			sentences_get_their_cpus),
		TEST("nothing steered is no book", nothing_steered_is_no_book),
		TEST("more CPUs than a book has room for are refused", too_many_cpus_are_refused),
		TEST("the first sentence that fits decides", the_first_sentence_that_fits_decides),
		TEST("both directions, and all fragments, have one hash", both_directions_have_one_hash),
		TEST("flows that differ in one thing are spread evenly", flows_are_spread_evenly),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
