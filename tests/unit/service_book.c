// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* Books of services: each packet finds the service that a plain list of the same services names. */
#include "unit.h"

#include <netinet/in.h>

#include "bpf/lib/service_find.h"
#include "compile/service.h"

#define SERVICES 400

struct book {
	struct service_text *texts;
	struct service_input *inputs;
	size_t count;
	struct service_image image;
};

static struct service_text text_make(
	const char *name, int protocol, const char *prefix, unsigned int low, unsigned int high)
{
	struct service_text text = {.protocol = protocol};

	snprintf(text.name, sizeof(text.name), "%s", name);
	assert_int_equal(prefix_parse(prefix, &text.prefix), 0);
	text.any_port = low > high;
	if (!text.any_port)
		text.ports = (struct port_range){(uint16_t)low, (uint16_t)high};
	return text;
}

static void book_make(struct book *book)
{
	struct error error = {};

	book->inputs = calloc(book->count, sizeof(*book->inputs));
	assert_non_null(book->inputs);
	for (size_t i = 0; i < book->count; i++)
		book->inputs[i] = (struct service_input){
			.text = &book->texts[i], .number = (uint32_t)i + 1, .rule = 1000 + (uint32_t)i};
	EXPECT(service_compile(book->inputs, book->count, NULL, 0, 7, &book->image, &error) == 0, "%s",
		error.what);
}

static void book_clear(struct book *book)
{
	free(book->inputs);
	free(book->image.units);
}

static uint32_t book_find(const struct book *book, const char *address, uint8_t proto, uint16_t port)
{
	struct address parsed;
	const struct service *service;

	assert_int_equal(address_parse(address, &parsed), 0);
	service = service_lookup(book->image.units, book->image.count, &parsed, proto, port);
	return service ? service->number : 0;
}

#define ANY 1, 0

static void test_find(void **state)
{
	struct service_text texts[] = {
		text_make("web", IPPROTO_TCP, "203.0.113.10", 443, 443),
		text_make("high", IPPROTO_TCP, "203.0.113.10", 8000, 8999),
		text_make("inner", IPPROTO_TCP, "203.0.113.10", 8100, 8199),
		text_make("net", -1, "203.0.113.0/24", ANY),
		text_make("ssh", IPPROTO_TCP, "203.0.113.0/24", 22, 22),
		text_make("dns", IPPROTO_UDP, "2001:db8::53", 53, 53),
		text_make("six", IPPROTO_UDP, "2001:db8::/32", ANY),
		text_make("all", IPPROTO_UDP, "203.0.113.20", ANY),
		text_make("low", IPPROTO_UDP, "203.0.0.0/16", 53, 53),
	};
	static const struct {
		const char *address;
		uint8_t proto;
		uint16_t port;
		uint32_t number;
	} cases[] = {
		{"203.0.113.10", IPPROTO_TCP, 443, 1},
		{"203.0.113.10", IPPROTO_TCP, 8000, 2},
		{"203.0.113.10", IPPROTO_TCP, 8150, 3},
		{"203.0.113.10", IPPROTO_TCP, 8999, 2},
		/* what its own services leave goes to the prefix around */
		{"203.0.113.10", IPPROTO_TCP, 9000, 4},
		{"203.0.113.10", IPPROTO_TCP, 22, 5},
		{"203.0.113.10", IPPROTO_UDP, 443, 4},
		{"203.0.113.10", IPPROTO_ICMP, 0, 4},
		{"203.0.113.11", IPPROTO_TCP, 22, 5},
		{"203.0.113.11", IPPROTO_TCP, 443, 4},
		{"203.0.113.20", IPPROTO_UDP, 53, 8},
		{"203.0.113.20", IPPROTO_TCP, 22, 5},
		{"203.0.113.20", IPPROTO_GRE, 0, 4},
		/* the longer prefix comes first, though the other names the port */
		{"203.0.113.11", IPPROTO_UDP, 53, 4},
		{"203.0.112.1", IPPROTO_UDP, 53, 9},
		{"203.0.112.1", IPPROTO_UDP, 54, 0},
		{"203.1.0.1", IPPROTO_UDP, 53, 0},
		{"2001:db8::53", IPPROTO_UDP, 53, 6},
		{"2001:db8::53", IPPROTO_UDP, 54, 7},
		{"2001:db8::53", IPPROTO_TCP, 53, 0},
		{"2001:db8:1::1", IPPROTO_UDP, 1, 7},
		{"2001:db9::53", IPPROTO_UDP, 53, 0},
	};
	struct book book = {.texts = texts, .count = COUNT(texts)};

	(void)state;
	book_make(&book);
	FOR_EACH_CASE(c, cases)
	EXPECT(book_find(&book, c->address, c->proto, c->port) == c->number,
		"%s protocol %u port %u is service %u, wanted %u", c->address, c->proto, c->port,
		book_find(&book, c->address, c->proto, c->port), c->number);
	book_clear(&book);
}

static void test_refused(void **state)
{
	static const struct {
		int protocol[2];
		const char *prefix[2];
		unsigned int low[2], high[2];
		const char *what;
	} cases[] = {
		{{6, 6}, {"192.0.2.1", "192.0.2.1"}, {80, 80}, {80, 80},
			"192.0.2.1, port 80 is service a already, so it cannot be b, too"},
		{{6, 6}, {"192.0.2.1", "192.0.2.1"}, {1, 1}, {0, 0},
			"192.0.2.1, any port is service a already, so it cannot be b, too"},
		{{-1, -1}, {"2001:db8::/64", "2001:db8::/64"}, {1, 1}, {0, 0},
			"2001:db8::/64, any port is service a already, so it cannot be b, too"},
		{{6, 6}, {"192.0.2.1", "192.0.2.1"}, {80, 85}, {90, 95},
			"ports 85-95 of service b overlap with ports 80-90 of service a at 192.0.2.1"},
		{{6, 6}, {"192.0.2.1", "192.0.2.1"}, {80, 85}, {90, 88}, NULL},
		{{6, 17}, {"192.0.2.1", "192.0.2.1"}, {80, 80}, {80, 80}, NULL},
		{{6, -1}, {"192.0.2.1", "192.0.2.1"}, {1, 1}, {0, 0}, NULL},
		{{6, 6}, {"192.0.2.1", "192.0.2.0/24"}, {80, 80}, {80, 80}, NULL},
	};

	(void)state;
	FOR_EACH_CASE(c, cases)
	{
		struct service_text texts[2];
		struct service_input inputs[2] = {};
		struct service_image image = {};
		struct error error = {};
		int r;

		for (int i = 0; i < 2; i++) {
			texts[i] =
				text_make(i ? "b" : "a", c->protocol[i], c->prefix[i], c->low[i], c->high[i]);
			inputs[i] = (struct service_input){.text = &texts[i], .number = (uint32_t)i + 1};
		}
		r = service_compile(inputs, 2, NULL, 0, 1, &image, &error);
		EXPECT(r == (c->what ? -EINVAL : 0), "%s %u-%u: %d", c->prefix[1], c->low[1], c->high[1], r);
		if (c->what)
			EXPECT_TEXT(error.what, c->what, "%s", c->prefix[1]);
		free(image.units);
	}
}

/* The longest prefix, then the narrowest range, then the named protocol. */
static uint32_t list_find(const struct service_text *texts, size_t count, const struct address *address,
	uint8_t proto, uint16_t port)
{
	int best_length = -1, best_width = 0;
	bool best_named = false;
	uint32_t best = 0;

	for (size_t i = 0; i < count; i++) {
		const struct service_text *text = &texts[i];
		int width = text->any_port ? 65535 : text->ports.high - text->ports.low;
		bool named = text->protocol >= 0;

		if (!prefix_contains(&text->prefix, address) || (named && text->protocol != proto))
			continue;
		if (!text->any_port && (port < text->ports.low || port > text->ports.high))
			continue;
		if (text->prefix.length < best_length)
			continue;
		if (text->prefix.length == best_length &&
			(width > best_width || (width == best_width && best_named)))
			continue;
		best_length = text->prefix.length;
		best_width = width;
		best_named = named;
		best = (uint32_t)i + 1;
	}
	return best;
}

static struct service_text text_random(uint64_t *state, size_t i)
{
	static const int protocols[] = {IPPROTO_TCP, IPPROTO_UDP, -1};
	bool six = random_below(state, 3) == 0;
	unsigned int bits = six ? 128 : 32, length = bits - random_below(state, 3) * 4;
	unsigned int low = random_below(state, 40), kind = random_below(state, 4);
	struct service_text text = {.protocol = protocols[random_below(state, 3)]};

	snprintf(text.name, sizeof(text.name), "s%zu", i);
	text.prefix = (struct prefix){{.family = six ? 6 : 4, .bytes = {192, 0, 2}}, (uint8_t)length};
	text.prefix.address.bytes[bits / 8 - 1] =
		(uint8_t)(random_below(state, 64) & (0xffU << (bits - length)));
	if (kind == 1 && text.protocol != IPPROTO_TCP)
		kind = 2;
	if (kind == 1)
		low &= 15;
	text.any_port = kind == 0 || text.protocol < 0;
	if (!text.any_port)
		text.ports = (struct port_range){(uint16_t)low, (uint16_t)(kind == 1 ? low | 7 : low)};
	if (kind == 1)
		text.ports.low &= 0xfff8;
	return text;
}

static void test_random(void **state)
{
	uint64_t random = 4711;

	(void)state;
	for (int round = 0; round < 20; round++) {
		struct service_text texts[SERVICES];
		struct service_input inputs[SERVICES];
		struct book book = {.texts = texts};
		struct error error = {};

		/* one after the other, as far as they go together */
		for (size_t i = 0; i < SERVICES; i++) {
			bool same = false;

			texts[book.count] = text_random(&random, i);
			for (size_t j = 0; j < book.count && !same; j++)
				same = texts[j].protocol == texts[book.count].protocol &&
				       texts[j].any_port == texts[book.count].any_port &&
				       texts[j].ports.low == texts[book.count].ports.low &&
				       texts[j].ports.high == texts[book.count].ports.high &&
				       texts[j].prefix.length == texts[book.count].prefix.length &&
				       !address_compare(
					       &texts[j].prefix.address, &texts[book.count].prefix.address);
			if (same)
				continue;
			book.count++;
		}
		for (size_t i = 0; i < book.count; i++)
			inputs[i] = (struct service_input){.text = &texts[i], .number = (uint32_t)i + 1};
		EXPECT(service_compile(inputs, book.count, NULL, 0, 1, &book.image, &error) == 0, "%s",
			error.what);
		for (int i = 0; i < 20000; i++) {
			struct service_text like = text_random(&random, 0);
			uint8_t proto = random_below(&random, 2) ? IPPROTO_TCP : IPPROTO_UDP;
			uint16_t port = (uint16_t)random_below(&random, 44);
			const struct service *found;
			char text[ADDRESS_TEXT_MAX];
			uint32_t wanted = list_find(texts, book.count, &like.prefix.address, proto, port);

			found = service_lookup(
				book.image.units, book.image.count, &like.prefix.address, proto, port);
			EXPECT((found ? found->number : 0) == wanted, "%s protocol %u port %u: %u, wanted %u",
				address_print(text, sizeof(text), &like.prefix.address), proto, port,
				found ? found->number : 0, wanted);
		}
		free(book.image.units);
	}
}

static void test_many(void **state)
{
	struct service_text *texts = calloc(SERVICES_MAX - 1, sizeof(*texts));
	struct book book = {.texts = texts, .count = SERVICES_MAX - 1};
	uint64_t random = 99;

	(void)state;
	assert_non_null(texts);
	for (size_t i = 0; i < book.count; i++) {
		texts[i] = text_make("s", IPPROTO_TCP, i & 1 ? "2001:db8::" : "10.0.0.0", 443, 443);
		for (int j = 4; j < 16 && i & 1; j++)
			texts[i].prefix.address.bytes[j] = (uint8_t)random_next(&random);
		for (int j = 1; j < 4 && !(i & 1); j++)
			texts[i].prefix.address.bytes[j] = (uint8_t)random_next(&random);
	}
	book_make(&book);
	print_message("# %zu services take %zu KiB\n", book.count, book.image.count * 64 / 1024);
	for (size_t i = 0; i < book.count; i++) {
		const struct service *found = service_lookup(
			book.image.units, book.image.count, &texts[i].prefix.address, IPPROTO_TCP, 443);

		EXPECT(found && found->number == i + 1 && found->rule == 1000 + i, "service %zu", i + 1);
	}
	book_clear(&book);
	free(texts);
}

static void test_ranges_full(void **state)
{
	struct service_text texts[SERVICE_RANGES_MAX + 1];
	struct service_input inputs[SERVICE_RANGES_MAX + 1] = {};
	struct service_image image = {};
	struct error error = {};

	(void)state;
	for (unsigned int i = 0; i < COUNT(texts); i++) {
		texts[i] = text_make("r", IPPROTO_TCP, "192.0.2.1", 100 * i, 100 * i + 50);
		inputs[i] = (struct service_input){.text = &texts[i], .number = i + 1};
	}
	assert_int_equal(service_compile(inputs, SERVICE_RANGES_MAX, NULL, 0, 1, &image, &error), 0);
	free(image.units);
	assert_int_equal(service_compile(inputs, COUNT(texts), NULL, 0, 1, &image, &error), -EINVAL);
	EXPECT_TEXT(
		error.what, "192.0.2.1 has more than 16 ranges of ports (of service r, and others)", "17");
}

static void test_answers(void **state)
{
	struct service_text text = text_make("n", IPPROTO_TCP, "192.0.2.1", 80, 80);
	struct service_input input = {.text = &text, .number = 1};
	struct service_answers answers[2];
	struct service_image image = {};
	struct error error = {};
	struct trie_memory memory;
	const struct service_book *book;

	(void)state;
	assert_int_equal(address_parse("10.0.0.3", &answers[0].first), 0);
	assert_int_equal(address_parse("10.0.1.9", &answers[0].last), 0);
	assert_int_equal(address_parse("2001:db8::fff", &answers[1].first), 0);
	assert_int_equal(address_parse("2001:db8::1001", &answers[1].last), 0);
	assert_int_equal(service_compile(&input, 1, answers, 2, 1, &image, &error), 0);
	memory = (struct trie_memory){image.units, image.count};
	book = (const void *)image.units;
	for (uint32_t i = 0; i < 0x300; i++)
		EXPECT(trie_find4(TRIE_IN_MAP(&memory), book->answers4, book->answer_bits4, 0x0a000000 + i) ==
				(i >= 3 && i <= 0x109),
			"10.0.%u.%u", i >> 8, i & 255);
	for (uint64_t i = 0xffd; i < 0x1004; i++)
		EXPECT(trie_find6(TRIE_IN_MAP(&memory), book->answers6, book->answer_bits6,
			       0x20010db800000000ULL, i) == (i >= 0xfff && i <= 0x1001),
			"2001:db8::%" PRIx64, i);
	free(image.units);
}

static void test_hash(void **state)
{
	struct service_text text = text_make("web", IPPROTO_TCP, "203.0.113.10", 443, 443);
	struct service_input input = {.text = &text, .number = 1, .slots = SERVICE_RING_SLOTS};
	struct service_image image = {};
	struct error error = {};
	const struct service *service;
	struct address source, destination;
	enum { BINS = 64, ROUNDS = 200000 };
	const double mean = (double)ROUNDS / BINS;
	uint32_t counts[BINS] = {};

	(void)state;
	assert_int_equal(service_compile(&input, 1, NULL, 0, 1, &image, &error), 0);
	assert_int_equal(address_parse("203.0.113.10", &destination), 0);
	assert_int_equal(address_parse("192.0.2.1", &source), 0);
	service = service_lookup(image.units, image.count, &destination, IPPROTO_TCP, 443);
	assert_non_null(service);
	/* clients of one network, ports one after the other: the slots are even all the same */
	for (uint32_t i = 0; i < ROUNDS; i++) {
		uint32_t slot;

		source.bytes[3] = (uint8_t)(i >> 14);
		slot = service_slot_of(
			service, &source, (uint16_t)(1024 + (i & 0x3fff)), &destination, 443, IPPROTO_TCP);
		assert_in_range(slot, 0, SERVICE_RING_SLOTS - 1);
		counts[slot * BINS / SERVICE_RING_SLOTS]++;
	}
	for (int i = 0; i < BINS; i++)
		EXPECT(counts[i] > 0.92 * mean && counts[i] < 1.08 * mean, "bin %d: %u of %d", i, counts[i],
			ROUNDS / BINS);
	free(image.units);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST("an address, protocol and port finds its service", test_find),
		TEST("two services at one place are refused", test_refused),
		TEST("a book finds what a plain list of its services names", test_random),
		TEST("as many services as there may be fit a book", test_many),
		TEST("more ranges than an address may have are refused", test_ranges_full),
		TEST("addresses that nat sends from are found, and no others", test_answers),
		TEST("connections are spread evenly over the slots", test_hash),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
