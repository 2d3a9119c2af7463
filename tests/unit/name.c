/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include "agent/flow/name.h"

#include <errno.h>

#include "unit.h"

/* Bytes from hexadecimal digits; returns how many. */
static size_t hex(const char *text, uint8_t *ret_bytes, size_t room)
{
	size_t length = 0;
	unsigned int byte;

	for (; *text; text += 2, length++) {
		assert_true(length < room);
		assert_int_equal(sscanf(text, "%2x", &byte), 1);
		ret_bytes[length] = (uint8_t)byte;
	}
	return length;
}

/* -- names -- */

static void a_name_is_letters_digits_hyphens_underscores(void **state)
{
	static const struct {
		const char *text, *name; /* NULL: refused */
	} cases[] = {
		{"example.com", "example.com"},
		{"WWW.Example.COM.", "www.example.com"},
		{"_sip._tcp.example.com", "_sip._tcp.example.com"},
		{"xn--bcher-kva.example", "xn--bcher-kva.example"},
		{"localhost", "localhost"},
		{"10.1.2.3", "10.1.2.3"},
		{"[2001:DB8::0:1]", "2001:db8::1"},
		{"2001:db8::1", "2001:db8::1"},
		{"", NULL},
		{".", NULL},
		{"a..b", NULL},
		{".a", NULL},
		{"a b", NULL},
		{"a\x1b[2J", NULL},
		{"b\xc3\xbc"
		 "cher.example",
			NULL},
		{"*.example.com", NULL},
		{"a/b", NULL},
		{"[::1", NULL},
		{"[10.0.0.1", NULL},
		{"example.com:80", NULL},
		{"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.example", NULL}, /* 64 */
		{"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.example",
			"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.example"},
	};

	(void)state;
	FOR_EACH_CASE(c, cases)
	{
		char name[NAME_TEXT_MAX] = "untouched";
		bool found = name_text_read(c->text, strlen(c->text), name);

		EXPECT(found == (c->name != NULL), "%s", c->text);
		EXPECT_TEXT(name, c->name ? c->name : "untouched", "%s", c->text);
	}
}

static void a_name_has_at_most_253_bytes(void **state)
{
	char text[300], name[NAME_TEXT_MAX];

	(void)state;
	for (size_t i = 0; i < sizeof(text); i++)
		text[i] = i % 64 == 63 ? '.' : 'a';
	assert_true(name_text_read(text, 253, name));
	assert_int_equal(strlen(name), 253);
	assert_false(name_text_read(text, 254, name));
	assert_false(name_text_read("a\0b", 3, name));
}

/* -- TLS -- */

/* As they came from OpenSSL 3.0 (openssl s_client, without and with a name) and curl 7.88. */
static const char hello_openssl[] =
	"160301013d010001390303bf062bf82aa1127ff55b5e11e6c3b28c409b6e771ff1417622ae1dcf9d6511fd20e5296038"
	"842cc2e51e4ed31f809692569924855a3fdd39cb29a149a0e3eabc13003e130213031301c02cc030009fcca9cca8ccaa"
	"c02bc02f009ec024c028006bc023c0270067c00ac0140039c009c0130033009d009c003d003c0035002f00ff010000b2"
	"00000015001300001073686f702e6578616d706c652e636f6d000b000403000102000a00160014001d0017001e001900"
	"1801000101010201030104002300000016000000170000000d002a0028040305030603080708080809080a080b080408"
	"050806040105010601030303010302040205020602002b0009080304030303020301002d00020101003300260024001d"
	"002091452e3bf7fe2cf5637516dcb66d9f6c6e01d9dd0a1a543ce763effc54fe0635";
static const char hello_openssl_unnamed[] =
	"16030101240100012003035ad667e2f60c962ab3f6f4157999f106e7ac61b9477779e81f197b9735daeba02074e39e6f"
	"cfb386f4fc93404c2147dadf0663043ce107f9153b16dd8e65ea022b003e130213031301c02cc030009fcca9cca8ccaa"
	"c02bc02f009ec024c028006bc023c0270067c00ac0140039c009c0130033009d009c003d003c0035002f00ff01000099"
	"000b000403000102000a00160014001d0017001e0019001801000101010201030104002300000016000000170000000d"
	"002a0028040305030603080708080809080a080b080408050806040105010601030303010302040205020602002b0009"
	"080304030303020301002d00020101003300260024001d0020fd9e042a42804176c22b7d866095ed9ae4eda691beae82"
	"77a5fad3333eb4915e";
static const char hello_curl[] =
	"1603010200010001fc0303c0eac6ddd43f771e9d4c7b48fb7477202f524801adfdb9c9acaf6cc276ed7e69207679ae38"
	"4122ebd7c2430e6864fe83e30308fa40a41b25fdbdaf444dc4456a7b003e130213031301c02cc030009fcca9cca8ccaa"
	"c02bc02f009ec024c028006bc023c0270067c00ac0140039c009c0130033009d009c003d003c0035002f00ff01000175"
	"00000014001200000f7777772e6578616d706c652e6f7267000b000403000102000a00160014001d0017001e00190018"
	"010001010102010301040010000e000c02683208687474702f312e31001600000017000000310000000d002a00280403"
	"05030603080708080809080a080b080408050806040105010601030303010302040205020602002b0009080304030303"
	"020301002d00020101003300260024001d0020471bd5672e7a3c13d9c1dac62b9f93805bd55d5059ffb7d4ec6f5ad6e3"
	"f5882f001500ae0000000000000000000000000000000000000000000000000000000000000000000000000000000000"
	"000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
	"000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
	"00000000000000000000000000000000000000000000000000000000000000000000000000";

static void real_client_hellos_tell_their_names(void **state)
{
	static const struct {
		const char *hello, *name;
	} cases[] = {
		{hello_openssl, "shop.example.com"},
		{hello_openssl_unnamed, ""},
		{hello_curl, "www.example.org"},
	};
	uint8_t bytes[1024];
	char name[NAME_TEXT_MAX];

	(void)state;
	FOR_EACH_CASE(c, cases)
	{
		size_t length = hex(c->hello, bytes, sizeof(bytes));

		EXPECT(name_tls_read(bytes, length, name) == 0, "%s", c->name);
		EXPECT_TEXT(name, c->name, "%.20s", c->hello);
	}
}

static void a_hello_that_ends_early_goes_on_or_tells(void **state)
{
	uint8_t bytes[1024];
	size_t length = hex(hello_openssl, bytes, sizeof(bytes));
	const size_t told = 3 * 48 + 25; /* where the name ends */

	(void)state;
	for (size_t i = 1; i < length; i++) {
		char name[NAME_TEXT_MAX] = "untouched";
		int r = name_tls_read(bytes, i, name);

		EXPECT(r == (i < told ? -EAGAIN : 0), "%zu bytes: %d", i, r);
		EXPECT_TEXT(name, i < told ? "untouched" : "shop.example.com", "%zu bytes", i);
	}
}

static size_t put(uint8_t *to, size_t at, size_t bytes, size_t number)
{
	for (size_t i = 0; i < bytes; i++)
		to[at + i] = (uint8_t)(number >> 8 * (bytes - 1 - i));
	return at + bytes;
}

/* A ClientHello whose name stands behind `share` bytes of key share, in records of at most `record` bytes. */
static size_t hello_make(uint8_t *to, size_t share, const char *name, size_t record)
{
	uint8_t message[4096] = {1};
	size_t at = 4, length = 0, extensions, count = strlen(name);

	at = put(message, at, 2, 0x303) + 32;
	at = put(message, at, 1, 0);
	at = put(message, put(message, at, 2, 2), 2, 0x1301);
	at = put(message, put(message, at, 1, 1), 1, 0);
	extensions = at;
	at += 2;
	if (share)
		at = put(message, put(message, at, 2, 51), 2, share) + share;
	at = put(message, at, 2, 0);
	at = put(message, at, 2, count + 5);
	at = put(message, at, 2, count + 3);
	at = put(message, at, 1, 0);
	at = put(message, at, 2, count);
	for (size_t i = 0; i < count; i++)
		at = put(message, at, 1, (uint8_t)name[i]);
	put(message, extensions, 2, at - extensions - 2);
	put(message, 1, 3, at - 4);
	for (size_t from = 0; from < at;) {
		size_t part = at - from < record ? at - from : record;

		length = put(to, length, 3, 0x160301);
		length = put(to, length, 2, part);
		memcpy(to + length, message + from, part);
		length += part;
		from += part;
	}
	return length;
}

static void a_hello_may_be_spread_over_records(void **state)
{
	static const size_t records[] = {1, 3, 4, 5, 50, 1000, 4096};
	uint8_t bytes[32768];

	(void)state;
	FOR_EACH_CASE(record, records)
	{
		char name[NAME_TEXT_MAX];
		size_t length = hello_make(bytes, 0, "spread.example", *record);

		EXPECT(name_tls_read(bytes, length, name) == 0, "records of %zu", *record);
		EXPECT_TEXT(name, "spread.example", "records of %zu", *record);
	}
}

static void a_hello_of_two_segments_tells_when_they_are_joined(void **state)
{
	uint8_t bytes[4096];
	char name[NAME_TEXT_MAX] = "";
	size_t length = hello_make(bytes, 1216 + 32, "quantum.example", 4096);

	(void)state;
	assert_int_equal(name_tls_read(bytes, 1200, name), -EAGAIN);
	assert_int_equal(name_tls_read(bytes, length, name), 0);
	assert_string_equal(name, "quantum.example");
}

static void a_name_that_is_none_is_not_told(void **state)
{
	static const char *const names[] = {"", "a\x1b[2Jb", "a b", "..", "\xff\xfe"};
	uint8_t bytes[4096];

	(void)state;
	FOR_EACH_CASE(bad, names)
	{
		char name[NAME_TEXT_MAX] = "untouched";
		size_t length = hello_make(bytes, 0, *bad, 4096);

		EXPECT(name_tls_read(bytes, length, name) == 0, "%s", *bad);
		EXPECT_TEXT(name, "", "%s", *bad);
	}
}

static void what_is_no_client_hello_is_refused(void **state)
{
	static const char *const cases[] = {
		"", "00", "1503010002",     /* an alert */
		"160201000401000000",       /* version 2 */
		"160303000402000000",       /* a ServerHello */
		"1603010000",               /* an empty record */
		"16030100050100000100",     /* ends within its version, and is all there */
		"160301000201001703010001", /* the rest in a record of another kind */
	};
	uint8_t bytes[64];

	(void)state;
	FOR_EACH_CASE(text, cases)
	{
		char name[NAME_TEXT_MAX] = "untouched";
		size_t length = hex(*text, bytes, sizeof(bytes));

		EXPECT(name_tls_read(bytes, length, name) == -EPROTO, "%s", *text);
		EXPECT_TEXT(name, "untouched", "%s", *text);
	}
}

/* -- HTTP -- */

static void requests_tell_host_and_path(void **state)
{
	static const struct {
		const char *text;
		int result;
		const char *name, *path;
	} cases[] = {
		{"GET /a/b.html?secret=1 HTTP/1.1\r\nHost: www.example.org:60721\r\nUser-Agent: "
		 "curl/7.88.1\r\n\r\n",
			0, "www.example.org", "/a/b.html"},
		{"GET / HTTP/1.0\r\n\r\n", 0, "", "/"},
		{"POST /form HTTP/1.1\nhost:Example.COM\n\nbody", 0, "example.com", "/form"},
		{"HEAD /x#part HTTP/1.1\r\nA: b\r\nHOST: \t a.example \t\r\n", 0, "a.example", "/x"},
		{"GET http://user:word@proxied.example:3128/p?q HTTP/1.1\r\nHost: other.example\r\n\r\n", 0,
			"proxied.example", "/p"},
		{"GET http://proxied.example HTTP/1.1\r\n\r\n", 0, "proxied.example", "/"},
		{"GET http://proxied.example?q HTTP/1.1\r\n\r\n", 0, "proxied.example", "/"},
		{"GET / HTTP/1.1\r\nHost: [2001:db8::1]:8080\r\n\r\n", 0, "2001:db8::1", "/"},
		{"GET / HTTP/1.1\r\nHost: 192.0.2.1:8080\r\n\r\n", 0, "192.0.2.1", "/"},
		{"CONNECT tunnel.example:443 HTTP/1.1\r\nHost: tunnel.example:443\r\n\r\n", 0,
			"tunnel.example", ""},
		{"OPTIONS * HTTP/1.1\r\nHost: a.example\r\n\r\n", 0, "a.example", "*"},
		{"PROPFIND /dav HTTP/1.1\r\nHost: a.example\r\n\r\n", 0, "a.example", "/dav"},
		/* bytes that are in no URI */
		{"GET /\xc3\xa4\x1b[2J HTTP/1.1\r\nHost: a.example\r\n\r\n", 0, "a.example", "/%C3%A4%1B[2J"},
		/* names that are none */
		{"GET /x HTTP/1.1\r\nHost: a\x1b[2J\r\n\r\n", 0, "", "/x"},
		{"GET /x HTTP/1.1\r\nHost:\r\n\r\n", 0, "", "/x"},
		/* a field of another name */
		{"GET /x HTTP/1.1\r\nX-Host: b.example\r\nHosted: c.example\r\n\r\n", 0, "", "/x"},
		/* the head goes on */
		{"GET /x HTTP/1.1\r\n", -EAGAIN, "", "/x"},
		{"GET /x HTTP/1.1\r\nHost: a.exam", -EAGAIN, "", "/x"},
		{"GET /x HTT", -EAGAIN, "", "/x"},
		{"GET /x", -EAGAIN, "", "/x"},
		{"GET ", -EAGAIN, "", ""},
	};

	(void)state;
	FOR_EACH_CASE(c, cases)
	{
		struct name_request request = {.name = "before", .path = "before"};
		int r = name_http_read((const uint8_t *)c->text, strlen(c->text), &request);

		EXPECT(r == c->result, "%s: %d", c->text, r);
		EXPECT(!request.h2c, "%s", c->text);
		EXPECT_TEXT(request.name, c->name, "%s", c->text);
		EXPECT_TEXT(request.path, c->path, "%s", c->text);
	}
}

static void what_is_no_request_is_refused(void **state)
{
	static const char *const cases[] = {
		"",
		" / HTTP/1.1\r\n",
		"get / HTTP/1.1\r\n",
		"GETTINGLONGERANDLONGER / HTTP/1.1\r\n",
		"G\x80T / HTTP/1.1\r\n",
		"OPTIONS rtsp://a.example RTSP/1.0\r\n\r\n",
		"GET / HTTP/2.0\r\n\r\n",
		"GET /\r\n",
		"HTTP/1.1 200 OK\r\n",
	};

	(void)state;
	FOR_EACH_CASE(text, cases)
	{
		struct name_request request = {.name = "untouched"};

		EXPECT(name_http_read((const uint8_t *)*text, strlen(*text), &request) == -EPROTO, "%s",
			*text);
		EXPECT_TEXT(request.name, "untouched", "%s", *text);
	}
}

static void http2_without_tls_is_known_by_its_preface(void **state)
{
	static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\x12\4";
	struct name_request request = {};

	(void)state;
	assert_int_equal(name_http_read((const uint8_t *)preface, sizeof(preface) - 1, &request), 0);
	assert_true(request.h2c);
	assert_string_equal(request.name, "");
}

static void a_long_path_is_cut(void **state)
{
	static const char begin[] = {'G', 'E', 'T', ' ', '/'};
	char text[4096];
	struct name_request request;

	(void)state;
	memset(text, 'a', sizeof(text));
	memcpy(text, begin, sizeof(begin));
	assert_int_equal(name_http_read((const uint8_t *)text, sizeof(text), &request), -EAGAIN);
	assert_in_range(strlen(request.path), NAME_PATH_MAX - 4, NAME_PATH_MAX - 1);
	/* and never within an encoded byte */
	memset(text + 5, 0x80, sizeof(text) - 5);
	assert_int_equal(name_http_read((const uint8_t *)text, sizeof(text), &request), -EAGAIN);
	assert_int_equal((strlen(request.path) - 1) % 3, 0);
}

/* -- DNS -- */

/* A message being put together. */
struct dns {
	uint8_t bytes[4096];
	size_t length;
};

static void dns_number(struct dns *dns, size_t bytes, size_t number)
{
	dns->length = put(dns->bytes, dns->length, bytes, number);
}

/* "a.b" as labels; "@n" ends with a pointer to offset n. */
static void dns_name(struct dns *dns, const char *name)
{
	while (*name && *name != '@') {
		size_t label = strcspn(name, ".@");

		dns_number(dns, 1, label);
		memcpy(dns->bytes + dns->length, name, label);
		dns->length += label;
		name += label;
		name += *name == '.';
	}
	if (*name == '@')
		dns_number(dns, 2, 0xc000 | strtoul(name + 1, NULL, 10));
	else
		dns_number(dns, 1, 0);
}

static struct dns dns_begin(const char *question, size_t answers)
{
	struct dns dns = {};

	dns_number(&dns, 2, 0x1234);
	dns_number(&dns, 2, 0x8180);
	dns_number(&dns, 2, 1);
	dns_number(&dns, 2, answers);
	dns_number(&dns, 4, 1); /* one record of EDNS */
	dns_name(&dns, question);
	dns_number(&dns, 2, 1);
	dns_number(&dns, 2, 1);
	return dns;
}

static void dns_record(struct dns *dns, const char *owner, size_t type, size_t ttl, size_t bytes)
{
	dns_name(dns, owner);
	dns_number(dns, 2, type);
	dns_number(dns, 2, 1);
	dns_number(dns, 4, ttl);
	dns_number(dns, 2, bytes);
}

static void dns_a(struct dns *dns, const char *owner, size_t ttl, uint32_t address)
{
	dns_record(dns, owner, 1, ttl, 4);
	dns_number(dns, 4, address);
}

static void dns_alias(struct dns *dns, const char *owner, size_t ttl, const char *target)
{
	size_t at;

	dns_record(dns, owner, 5, ttl, 0);
	at = dns->length;
	dns_name(dns, target);
	put(dns->bytes, at - 2, 2, dns->length - at);
}

static void dns_edns(struct dns *dns)
{
	dns_name(dns, "");
	dns_number(dns, 2, 41);
	dns_number(dns, 2, 1232);
	dns_number(dns, 4, 0);
	dns_number(dns, 2, 0);
}

#define EXPECT_ANSWER(answers, i, text_, ttl_)                                                               \
	do {                                                                                                 \
		char buffer_[ADDRESS_TEXT_MAX];                                                              \
                                                                                                             \
		assert_true((answers)->count > (i));                                                         \
		assert_string_equal(                                                                         \
			address_print(buffer_, sizeof(buffer_), &(answers)->answer[i].address), text_);      \
		assert_int_equal((answers)->answer[i].ttl, ttl_);                                            \
	} while (0)

static void an_answer_tells_the_addresses_of_the_name_asked_for(void **state)
{
	struct dns dns = dns_begin("WWW.Example.com", 3);
	struct name_answers answers;

	(void)state;
	dns_a(&dns, "@12", 300, 0xc0000201);
	dns_record(&dns, "www.example.com", 28, 60, 16);
	dns_number(&dns, 4, 0x20010db8);
	dns_number(&dns, 8, 0);
	dns_number(&dns, 4, 1);
	dns_a(&dns, "other.example", 300, 0xc0000202); /* nobody asked for that */
	dns_edns(&dns);
	assert_int_equal(name_dns_read(dns.bytes, dns.length, &answers), 0);
	assert_string_equal(answers.name, "www.example.com");
	assert_int_equal(answers.count, 2);
	EXPECT_ANSWER(&answers, 0, "192.0.2.1", 300);
	EXPECT_ANSWER(&answers, 1, "2001:db8::1", 60);
}

static void aliases_lead_to_the_name_asked_for_in_any_order(void **state)
{
	(void)state;
	for (int order = 0; order < 2; order++) {
		struct dns dns = dns_begin("www.example.com", 4);
		struct name_answers answers;

		if (order)
			dns_a(&dns, "edge.cdn.example", 300, 0xc6336401);
		dns_alias(&dns, "@12", 3600, "www.cdn.example");
		dns_alias(&dns, "WWW.cdn.example", 20, "edge.cdn.example");
		if (!order)
			dns_a(&dns, "edge.cdn.example", 300, 0xc6336401);
		dns_a(&dns, "EDGE.CDN.EXAMPLE", 300, 0xc6336402);
		dns_edns(&dns);
		assert_int_equal(name_dns_read(dns.bytes, dns.length, &answers), 0);
		assert_string_equal(answers.name, "www.example.com");
		assert_int_equal(answers.count, 2);
		EXPECT_ANSWER(&answers, 0, "198.51.100.1", 20);
		EXPECT_ANSWER(&answers, 1, "198.51.100.2", 20);
	}
}

static void aliases_in_a_circle_lead_nowhere(void **state)
{
	struct dns dns = dns_begin("a.example", 2);
	struct name_answers answers;

	(void)state;
	dns_alias(&dns, "a.example", 1, "b.example");
	dns_alias(&dns, "b.example", 1, "a.example");
	assert_int_equal(name_dns_read(dns.bytes, dns.length, &answers), 0);
	assert_int_equal(answers.count, 0);
}

static void pointers_lead_backwards_only(void **state)
{
	static const struct {
		const char *owner;
		unsigned int count; /* of answers that are told */
	} cases[] = {
		{"@12", 1}, {"www@16", 1}, /* example.com */
		{"@33", 0},                /* itself */
		{"www@33", 0},             /* in a circle */
		{"@40", 0},                /* forward */
		{"@16383", 0},             /* outside */
		{"@0", 0},                 /* into the header: no such name */
	};

	(void)state;
	FOR_EACH_CASE(c, cases)
	{
		struct dns dns = dns_begin("www.example.com", 1);
		struct name_answers answers;

		assert_int_equal(dns.length, 33);
		dns_a(&dns, c->owner, 1, 0xc0000201);
		EXPECT(name_dns_read(dns.bytes, dns.length, &answers) == 0, "%s", c->owner);
		EXPECT(answers.count == c->count, "%s: %u", c->owner, answers.count);
	}
}

static void a_message_that_ends_early_tells_what_is_there(void **state)
{
	struct dns dns = dns_begin("www.example.com", 2);
	struct name_answers answers;
	size_t first, question = dns.length;

	(void)state;
	dns_a(&dns, "@12", 1, 0xc0000201);
	first = dns.length;
	dns_a(&dns, "@12", 1, 0xc0000202);
	for (size_t i = 0; i <= dns.length; i++) {
		int r = name_dns_read(dns.bytes, i, &answers);

		EXPECT(r == (i < question ? -EPROTO : 0), "%zu bytes: %d", i, r);
		if (r == 0)
			EXPECT(answers.count == (i < first ? 0U : i < dns.length ? 1U : 2U), "%zu bytes", i);
	}
}

static void an_answer_with_very_many_addresses_tells_some(void **state)
{
	struct dns dns = dns_begin("many.example", 65535);
	struct name_answers answers;

	(void)state;
	for (uint32_t i = 0; i < 200; i++)
		dns_a(&dns, "@12", 1, 0x0a000000 + i);
	assert_int_equal(name_dns_read(dns.bytes, dns.length, &answers), 0);
	assert_int_equal(answers.count, NAME_ADDRESSES_MAX);
	EXPECT_ANSWER(&answers, NAME_ADDRESSES_MAX - 1, "10.0.0.31", 1);
}

static void what_is_no_answer_is_refused(void **state)
{
	static const struct {
		size_t offset;
		uint8_t byte;
		const char *what;
	} cases[] = {
		{2, 0x01, "a question"},
		{2, 0xa8, "a notification"},
		{3, 0x83, "no such name"},
		{5, 0, "without a question"},
		{5, 2, "with two questions"},
		{32, 3, "class chaos"},
		{13, ' ', "a name with a space"},
		{12, 0xc0, "a pointer in the question"},
	};
	struct name_answers answers = {.name = "untouched"};

	(void)state;
	FOR_EACH_CASE(c, cases)
	{
		struct dns dns = dns_begin("www.example.com", 1);

		dns_a(&dns, "@12", 1, 0xc0000201);
		dns.bytes[c->offset] = c->byte;
		EXPECT(name_dns_read(dns.bytes, dns.length, &answers) == -EPROTO, "%s", c->what);
		EXPECT_TEXT(answers.name, "untouched", "%s", c->what);
	}
}

static void a_ttl_beyond_31_bits_is_none(void **state)
{
	struct dns dns = dns_begin("www.example.com", 1);
	struct name_answers answers;

	(void)state;
	dns_a(&dns, "@12", 0x80000000, 0xc0000201);
	assert_int_equal(name_dns_read(dns.bytes, dns.length, &answers), 0);
	EXPECT_ANSWER(&answers, 0, "192.0.2.1", 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST("a name is letters, digits, hyphens, underscores",
			a_name_is_letters_digits_hyphens_underscores),
		TEST("a name has at most 253 bytes", a_name_has_at_most_253_bytes),
		TEST("real ClientHellos tell their names", real_client_hellos_tell_their_names),
		TEST("a ClientHello that ends early goes on, or tells",
			a_hello_that_ends_early_goes_on_or_tells),
		TEST("a ClientHello may be spread over records", a_hello_may_be_spread_over_records),
		TEST("a ClientHello of two segments tells when they are joined",
			a_hello_of_two_segments_tells_when_they_are_joined),
		TEST("a name that is none is not told", a_name_that_is_none_is_not_told),
		TEST("what is no ClientHello is refused", what_is_no_client_hello_is_refused),
		TEST("requests tell host and path", requests_tell_host_and_path),
		TEST("what is no request is refused", what_is_no_request_is_refused),
		TEST("HTTP/2 without TLS is known by its preface", http2_without_tls_is_known_by_its_preface),
		TEST("a long path is cut", a_long_path_is_cut),
		TEST("an answer tells the addresses of the name asked for",
			an_answer_tells_the_addresses_of_the_name_asked_for),
		TEST("aliases lead to the name asked for, in any order",
			aliases_lead_to_the_name_asked_for_in_any_order),
		TEST("aliases in a circle lead nowhere", aliases_in_a_circle_lead_nowhere),
		TEST("pointers lead backwards only", pointers_lead_backwards_only),
		TEST("a message that ends early tells what is there",
			a_message_that_ends_early_tells_what_is_there),
		TEST("an answer with very many addresses tells some",
			an_answer_with_very_many_addresses_tells_some),
		TEST("what is no answer is refused", what_is_no_answer_is_refused),
		TEST("a TTL beyond 31 bits is none", a_ttl_beyond_31_bits_is_none),
	};

	return cmocka_run_group_tests_name("name", tests, NULL, NULL);
}
