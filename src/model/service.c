// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
#include "model/service.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "basic/cleanup.h"
#include "basic/text.h"
#include "basic/units.h"
#include "model/rule_read.h"
#include "model/service_read.h"
#include "model/set.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

#define BACKENDS_ROOM   4 /* that a list begins with */
#define SECOND_NS       1000000000ULL
#define AFFINITY_NS_MIN SECOND_NS
#define AFFINITY_NS_MAX (30 * 24 * 3600 * SECOND_NS)
#define MSS_MIN         88 /* the kernel's own least */
#define MSS_MAX         65495
#define MTU_MIN4        576  /* RFC 791 */
#define MTU_MIN6        1280 /* RFC 8200 */
#define MTU_MAX         65535

_Static_assert(SERVICE_COMMENT_MAX == RULE_COMMENT_MAX, "comments are read in one place");
_Static_assert(SERVICE_NAME_MAX == SET_NAME_MAX, "names are checked in one place");

const char *const service_delivers[] = {
	[SERVICE_IPIP] = "ipip", [SERVICE_GUE] = "gue", [SERVICE_L2] = "l2", [SERVICE_NAT] = "nat", NULL};

const char *const service_choices[] = {
	[SERVICE_MAGLEV] = "maglev", [SERVICE_LEAST] = "least", [SERVICE_TURNS] = "turns", NULL};

static const char *const option_names[] = {[SERVICE_OPTION_DELIVER] = "deliver",
	[SERVICE_OPTION_CHOOSE] = "choose",
	[SERVICE_OPTION_AFFINITY] = "affinity",
	[SERVICE_OPTION_QUIC] = "quic",
	[SERVICE_OPTION_MSS] = "mss",
	[SERVICE_OPTION_MTU] = "mtu",
	[SERVICE_OPTION_RING] = "ring",
	[SERVICE_OPTION_CHECK] = "check",
	[SERVICE_OPTION_FAIL] = "fail",
	[SERVICE_OPTION_FLOWS] = "flows",
	NULL};

#define want(s, ...) (error_want((s)->error, __VA_ARGS__), -EINVAL)

static int fail_memory(struct sentence *s)
{
	return error_set(s->error, -ENOMEM, "out of memory");
}

void service_init(struct service_text *service)
{
	*service = (struct service_text){.protocol = -1, .any_port = true};
}

void service_free(struct service_text *service)
{
	if (!service)
		return;
	free(service->backends);
	free(service);
}

struct service_text *service_copy(const struct service_text *service)
{
	struct service_text *copy = malloc(sizeof(*copy));
	size_t count = service->backend_count;

	if (!copy)
		return NULL;
	*copy = *service;
	copy->backends = calloc(count + 1, sizeof(*copy->backends));
	if (!copy->backends) {
		free(copy);
		return NULL;
	}
	if (count)
		memcpy(copy->backends, service->backends, count * sizeof(*copy->backends));
	return copy;
}

/*
 * Values
 */

int service_number_read(
	struct service_reader *r, const char *what, unsigned int min, unsigned int max, unsigned int *ret)
{
	const char *word = sentence_list_peek(r->s);
	unsigned int number = 0;
	int result = word ? number_parse(word, max, &number) : -EINVAL;

	if (result == -EINVAL) {
		sentence_expected(r->s, word, what, NULL);
		return want(r->s, "a number from %u to %u", min, max);
	}
	if (result < 0 || number < min) {
		sentence_fail(r->s, word, "%.64s is too %s", word, result < 0 ? "much" : "little");
		return want(r->s, "%u to %u", min, max);
	}
	sentence_skip(r->s, word);
	*ret = number;
	return 0;
}

int service_duration_read(
	struct service_reader *r, const char *what, uint64_t min, uint64_t max, uint64_t *ret_ns)
{
	const char *word = sentence_take(r->s);
	char low[32], high[32];
	uint64_t ns = 0;
	int result = word ? duration_parse(word, &ns) : -EINVAL;

	if (result == -EINVAL)
		return sentence_expected(r->s, word, what, "such as 500ms, 2s or 5m");
	if (result < 0 || ns < min || ns > max) {
		sentence_fail(
			r->s, word, "%.64s is too %s", word, result == 0 && ns < min ? "short" : "long");
		return want(r->s, "%s to %s", duration_print(low, sizeof(low), min),
			duration_print(high, sizeof(high), max));
	}
	*ret_ns = ns;
	return 0;
}

/* PORT or PORT-PORT, the word that comes next. */
static int ports_read(struct service_reader *r, const char *several, struct port_range *ret_range)
{
	struct endpoint endpoint = {};
	const char *word = sentence_peek(r->s);
	int result = sentence_ports(r->s, &endpoint);

	if (result < 0)
		return result;
	if (endpoint.port_count > 1) {
		sentence_fail(r->s, word, "more than one port or range");
		return want(r->s, "%s", several);
	}
	if (!endpoint.ports[0].low) {
		sentence_fail(r->s, word, "port 0 is no port");
		return want(r->s, "1 to 65535");
	}
	*ret_range = endpoint.ports[0];
	return 0;
}

int service_port_read(struct service_reader *r, uint16_t *ret_port)
{
	struct port_range range;
	const char *word = sentence_peek(r->s);
	int result = ports_read(r, "one port", &range);

	if (result < 0)
		return result;
	if (range.low != range.high) {
		sentence_fail(r->s, word, "'%u-%u' are several ports", range.low, range.high);
		return want(r->s, "one port");
	}
	*ret_port = range.low;
	return 0;
}

static bool address_is_of_a_host(const struct address *address)
{
	static const uint8_t zero[16];
	const uint8_t *bytes = address->bytes;

	if (memcmp(bytes, zero, sizeof(zero)) == 0)
		return false;
	if (address->family == 6)
		return bytes[0] != 0xff; /* multicast */
	return bytes[0] != 0 && bytes[0] < 224;
}

static bool address_is_loopback(const struct address *address)
{
	static const uint8_t loopback6[16] = {[15] = 1};

	return address->family == 6 ? memcmp(address->bytes, loopback6, sizeof(loopback6)) == 0
	                            : address->bytes[0] == 127;
}

static bool address_is_link_local(const struct address *address)
{
	return address->family == 6 && address->bytes[0] == 0xfe && (address->bytes[1] & 0xc0) == 0x80;
}

/*
 * Backends
 */

int service_weight_read(struct service_reader *r, uint32_t *ret_weight)
{
	unsigned int weight = 0;
	int result = service_number_read(r, "a weight", 0, SERVICE_WEIGHT_MAX, &weight);

	if (result == 0)
		*ret_weight = weight;
	return result;
}

int service_backend_name_read(
	struct service_reader *r, struct service_backend_text *ret_backend, const char **ret_word)
{
	struct service_backend_text backend = {.weight = 1};
	const char *word = sentence_list_peek(r->s), *port;
	int result = 0;

	if (!word || address_parse(word, &backend.address) < 0) {
		sentence_expected(r->s, word, "a backend", "its address, such as 10.0.0.11");
		return word && strchr(word, '/') ? want(r->s, "one address, without a length") : -EINVAL;
	}
	if (!address_is_of_a_host(&backend.address) || address_is_loopback(&backend.address)) {
		sentence_fail(r->s, word, "%.64s can be no backend's address", word);
		return want(r->s, "the address of another host");
	}
	if (address_is_link_local(&backend.address)) {
		sentence_fail(r->s, word, "%.64s does not say on which link it is", word);
		return want(r->s, "an address of the backend's that a route leads to");
	}
	sentence_skip(r->s, word);
	*ret_word = word;
	port = r->s->sentence[r->s->offset - 1] == ',' ? NULL : sentence_list_peek(r->s);
	if (port && strcmp(port, "port") == 0) {
		sentence_skip(r->s, port);
		sentence_list_peek(r->s); /* a comma behind it is not the port's */
		result = service_port_read(r, &backend.port);
	}
	if (result == 0)
		*ret_backend = backend;
	return result;
}

/* [weight N] [drain], in either order. */
static int backend_terms_read(struct service_reader *r, struct service_backend_text *backend)
{
	bool weighed = false;
	const char *word;
	int result = 0;

	while (result == 0 && !(r->s->offset && r->s->sentence[r->s->offset - 1] == ',') &&
		(word = sentence_list_peek(r->s))) {
		bool weight = strcmp(word, "weight") == 0, drain = strcmp(word, "drain") == 0;

		if (!weight && !drain)
			return 0;
		sentence_skip(r->s, word);
		if (weight ? weighed : backend->drain) {
			sentence_fail(r->s, word, "a second '%s'", word);
			return want(r->s, "'%s' once", word);
		}
		if (weight)
			result = service_weight_read(r, &backend->weight);
		weighed |= weight;
		backend->drain |= drain;
	}
	return result;
}

static int backend_reserve(struct service_reader *r)
{
	struct service_text *service = r->service;
	size_t room = r->backend_room ? 2 * r->backend_room : BACKENDS_ROOM;
	struct service_backend_text *backends;
	const char **words;

	if (r->backend_room > service->backend_count)
		return 0;
	if (room <= service->backend_count)
		room = service->backend_count + 1;
	backends = reallocarray(service->backends, room, sizeof(*backends));
	if (!backends)
		return fail_memory(r->s);
	service->backends = backends;
	words = reallocarray(r->backend_words, room, sizeof(*words));
	if (!words)
		return fail_memory(r->s);
	for (size_t i = r->backend_room; i < room; i++)
		words[i] = NULL;
	r->backend_words = words;
	r->backend_room = room;
	return 0;
}

int service_backend_read(struct service_reader *r)
{
	struct service_text *service = r->service;
	struct service_backend_text backend;
	const char *word = NULL;
	int result = service_backend_name_read(r, &backend, &word);

	if (result == 0)
		result = backend_terms_read(r, &backend);
	if (result < 0)
		return result;
	if (service->backend_count == SERVICE_OF_BACKENDS_MAX) {
		sentence_fail(r->s, word, "too many backends");
		return want(r->s, "at most %d of one service", SERVICE_OF_BACKENDS_MAX);
	}
	result = backend_reserve(r);
	if (result < 0)
		return result;
	r->backend_words[service->backend_count] = word;
	service->backends[service->backend_count++] = backend;
	return 0;
}

static int backends_read(struct service_reader *r)
{
	const char *word = sentence_take(r->s);
	int result;

	if (!word || strcmp(word, "to") != 0)
		return sentence_expected(
			r->s, word, r->port_word ? "'to'" : "'port' or 'to'", "to BACKEND, BACKEND");
	do
		result = service_backend_read(r);
	while (result == 0 && sentence_list_goes_on(r->s));
	return result;
}

/*
 * Options
 */

int service_addresses_parse(
	const char *text, struct address *ret_first, struct address *ret_last, struct error *error)
{
	char buffer[2 * ADDRESS_TEXT_MAX];
	struct address first, last;
	char *dash;

	snprintf(buffer, sizeof(buffer), "%s", text);
	dash = strchr(buffer, '-');
	if (dash)
		*dash++ = '\0';
	if (strlen(text) >= sizeof(buffer) || address_parse(buffer, &first) < 0 ||
		address_parse(dash ? dash : buffer, &last) < 0) {
		error_set(error, -EINVAL, "expected an address to send from, got '%.64s'", text);
		error_want(error, "one of this host, such as 10.0.0.1, or 10.0.0.1-10.0.0.4");
		return -EINVAL;
	}
	if (first.family != last.family || address_compare(&first, &last) > 0) {
		error_set(error, -EINVAL, "%.64s is no range: %s", text,
			first.family != last.family ? "two families" : "it runs backwards");
		error_want(error, "the lower address first, of one family");
		return -EINVAL;
	}
	if (!address_is_of_a_host(&first) || !address_is_of_a_host(&last)) {
		error_set(error, -EINVAL, "%.64s can be no host's address", text);
		error_want(error, "addresses of this host");
		return -EINVAL;
	}
	if (service_nat_addresses(&first, &last) > SERVICE_NAT_ADDRESSES_MAX) {
		error_set(error, -EINVAL, "%.64s are too many addresses", text);
		error_want(error, "at most %d", SERVICE_NAT_ADDRESSES_MAX);
		return -EINVAL;
	}
	*ret_first = first;
	*ret_last = last;
	return 0;
}

/* ADDRESS or ADDRESS-ADDRESS. */
static int from_read(struct service_reader *r)
{
	struct service_text *service = r->service;
	const char *word = sentence_take(r->s);
	struct error problem = {0};

	if (!word)
		return sentence_expected(r->s, NULL, "an address to send from", "one of this host");
	if (service_addresses_parse(word, &service->from_first, &service->from_last, &problem) < 0) {
		sentence_fail(r->s, word, "%s", problem.what);
		return want(r->s, "%s", problem.want);
	}
	service->has_from = true;
	r->nat_word = word;
	return 0;
}

uint32_t service_nat_addresses(const struct address *first, const struct address *last)
{
	size_t bytes = first->family == 6 ? 16 : 4;
	uint64_t count = 0;

	for (size_t i = 0; i < bytes; i++) {
		/* the difference so far; it is not less than nothing, since `last` is not below `first` */
		count = count * 256 + last->bytes[i] - first->bytes[i];
		if (count > 1ULL << 32)
			return UINT32_MAX;
	}
	return count >= UINT32_MAX ? UINT32_MAX : (uint32_t)count + 1;
}

static int nat_read(struct service_reader *r)
{
	struct service_text *service = r->service;
	const char *word;
	int result = 0;

	while (result == 0 && (word = sentence_peek(r->s))) {
		bool from = strcmp(word, "from") == 0;

		if (!from && strcmp(word, "ports") != 0)
			return 0;
		sentence_skip(r->s, word);
		if (from ? service->has_from : service->from_ports.high) {
			sentence_fail(r->s, word, "a second '%s'", word);
			return want(r->s, "'%s' once", word);
		}
		result = from ? from_read(r) : ports_read(r, "one range", &service->from_ports);
	}
	return result;
}

static int read_deliver(struct service_reader *r)
{
	unsigned int choice = SERVICE_IPIP;
	const char *word;
	unsigned int port = 0;
	int result =
		rule_choice_read(r->s, service_delivers, "a way to deliver", "ipip, gue, l2 or nat", &choice);

	if (result < 0)
		return result;
	r->service->deliver = (enum service_deliver)choice;
	if (choice == SERVICE_NAT)
		return nat_read(r);
	word = choice == SERVICE_GUE ? sentence_peek(r->s) : NULL;
	if (!word || strcmp(word, "port") != 0)
		return 0;
	sentence_skip(r->s, word);
	result = service_number_read(r, "a UDP port", 1, UINT16_MAX, &port);
	r->service->gue_port = port == SERVICE_GUE_PORT ? 0 : (uint16_t)port;
	return result;
}

static int read_choose(struct service_reader *r)
{
	unsigned int choice = SERVICE_MAGLEV;
	int result =
		rule_choice_read(r->s, service_choices, "a way to choose", "maglev, least or turns", &choice);

	r->service->choice = (enum service_choice)choice;
	return result;
}

static int read_affinity(struct service_reader *r)
{
	static const char *const kinds[] = {"source", NULL};
	unsigned int choice = 0;
	const char *word;
	int result = rule_choice_read(
		r->s, kinds, "what the same backend is for", "affinity source [for DURATION]", &choice);

	if (result < 0)
		return result;
	r->service->affinity = true;
	word = sentence_peek(r->s);
	if (!word || strcmp(word, "for") != 0)
		return 0;
	sentence_skip(r->s, word);
	return service_duration_read(
		r, "a duration", AFFINITY_NS_MIN, AFFINITY_NS_MAX, &r->service->affinity_ns);
}

static int read_quic(struct service_reader *r)
{
	r->service->quic = true;
	return 0;
}

static int read_mss(struct service_reader *r)
{
	unsigned int mss = 0;
	int result = service_number_read(r, "a segment size", MSS_MIN, MSS_MAX, &mss);

	r->service->mss = (uint16_t)mss;
	return result;
}

static int read_mtu(struct service_reader *r)
{
	unsigned int mtu = 0, min = r->service->prefix.address.family == 6 ? MTU_MIN6 : MTU_MIN4;
	int result = service_number_read(r, "a packet size", min, MTU_MAX, &mtu);

	r->service->mtu = (uint16_t)mtu;
	return result;
}

static bool is_prime(unsigned int number)
{
	for (unsigned int i = 2; i * i <= number; i++)
		if (number % i == 0)
			return false;
	return number > 1;
}

static int read_ring(struct service_reader *r)
{
	const char *word = sentence_peek(r->s);
	unsigned int slots = 0, above;
	int result = service_number_read(r, "a number of slots", 2, SERVICE_RING_SLOTS, &slots);

	if (result < 0)
		return result;
	if (!is_prime(slots)) {
		for (above = slots + 1; !is_prime(above);)
			above++;
		for (slots--; !is_prime(slots);)
			slots--;
		sentence_fail(r->s, word, "%.64s is no prime", word);
		return want(r->s, "ring %u or ring %u", slots, above);
	}
	r->service->slots = slots;
	return 0;
}

static int read_fail(struct service_reader *r)
{
	static const char *const ways[] = {"open", "closed", NULL};
	unsigned int choice = 0;
	int result = rule_choice_read(r->s, ways, "what happens when no backend is up",
		"open (all count as up) or closed (packets are dropped)", &choice);

	r->service->closed = choice == 1;
	return result;
}

static int read_flows(struct service_reader *r)
{
	static const char *const ways[] = {"on", "off", NULL};
	unsigned int choice = 0;
	int result = rule_choice_read(r->s, ways, "on or off", NULL, &choice);

	r->service->no_flows = choice == 1;
	return result;
}

static int (*const option_reads[SERVICE_OPTIONS])(struct service_reader *r) = {
	[SERVICE_OPTION_DELIVER] = read_deliver,
	[SERVICE_OPTION_CHOOSE] = read_choose,
	[SERVICE_OPTION_AFFINITY] = read_affinity,
	[SERVICE_OPTION_QUIC] = read_quic,
	[SERVICE_OPTION_MSS] = read_mss,
	[SERVICE_OPTION_MTU] = read_mtu,
	[SERVICE_OPTION_RING] = read_ring,
	[SERVICE_OPTION_CHECK] = service_check_read,
	[SERVICE_OPTION_FAIL] = read_fail,
	[SERVICE_OPTION_FLOWS] = read_flows,
};

static int fail_option(struct service_reader *r, const char *word)
{
	const char *nearest = text_nearest(word, option_names);
	struct address address;

	if (address_parse(word, &address) == 0) {
		sentence_fail(r->s, word, "no comma stands in front of %.64s", word);
		return want(r->s, "backends with commas between them: 10.0.0.11, 10.0.0.12");
	}
	sentence_fail(r->s, word, "unknown word '%.64s'", word);
	if (strcmp(word, "weight") == 0 || strcmp(word, "drain") == 0)
		return want(r->s, "'%s' right behind its backend", word);
	if (strcmp(word, "from") == 0 || strcmp(word, "ports") == 0)
		return want(r->s, "'%s' right behind 'deliver nat'", word);
	if (service_check_has_word(word))
		return want(r->s, "'%s' behind 'check'", word);
	if (nearest)
		return want(r->s, "did you mean '%s'?", nearest);
	return want(r->s, "deliver, choose, affinity, quic, mss, mtu, ring, check, fail, flows; a comma and "
			  "another backend; \"a comment\"");
}

static int comment_read(struct service_reader *r, const char *word)
{
	struct service_text *service = r->service;
	int result = rule_quoted_read(r->s, word, "the comment", service->comment, sizeof(service->comment));

	if (result < 0)
		return result;
	word = sentence_peek(r->s);
	if (!word)
		return 0;
	sentence_fail(r->s, word, "something stands behind the comment");
	return want(r->s, "the comment at the end");
}

static int option_read(struct service_reader *r, const char *word)
{
	size_t option = 0;

	if (*word == '"')
		return comment_read(r, word);
	while (option_names[option] && strcmp(option_names[option], word) != 0)
		option++;
	if (!option_names[option])
		return fail_option(r, word);
	if (r->said[option]) {
		sentence_fail(r->s, word, "a second '%s'", word);
		return want(r->s, "'%s' once", word);
	}
	sentence_skip(r->s, word);
	r->said[option] = word;
	return option_reads[option](r);
}

/*
 * The sentence
 */

static const char *const protocol_words[] = {
	"tcp", "udp", "sctp", "icmp", "icmp6", "gre", "esp", "ah", "proto", NULL};

static bool is_protocol_word(const char *word)
{
	for (size_t i = 0; protocol_words[i]; i++)
		if (strcmp(protocol_words[i], word) == 0)
			return true;
	return false;
}

int service_name_check(const char *name, struct error *error)
{
	struct error problem = {0};

	if (is_protocol_word(name) || strcmp(name, "to") == 0 || strcmp(name, "port") == 0) {
		error_set(error, -EINVAL, "'%s' is a word of sentences, it can be no service's name", name);
		error_want(error, "another name, such as web");
		return -EINVAL;
	}
	if (strlen(name) >= SERVICE_NAME_MAX) {
		error_set(error, -EINVAL, "the name '%.64s' is too long", name);
		error_want(error, "at most %d bytes", SERVICE_NAME_MAX - 1);
		return -EINVAL;
	}
	if (set_name_check(name, &problem) < 0) {
		error_set(error, -EINVAL, "'%.64s' can be no service's name", name);
		error_want(error, "a letter, then letters, digits, '-' and '_'");
		return -EINVAL;
	}
	return 0;
}

static int name_read(struct service_reader *r)
{
	const char *word = sentence_take(r->s);
	struct error problem = {0};

	if (!word)
		return sentence_expected(
			r->s, NULL, "a service's name", "such as web tcp 203.0.113.10 port 443 to 10.0.0.11");
	if (service_name_check(word, &problem) < 0) {
		sentence_fail(r->s, word, "%s", problem.what);
		return want(r->s, "%s", problem.want);
	}
	r->name_word = word;
	memcpy(r->service->name, word, strlen(word) + 1);
	return 0;
}

static int protocol_read(struct service_reader *r)
{
	const char *word = sentence_peek(r->s);
	uint8_t protocol = 0;

	if (!word || !is_protocol_word(word))
		return 0;
	sentence_skip(r->s, word);
	if (strcmp(word, "proto") == 0)
		word = sentence_take(r->s);
	if (!word || protocol_parse(word, &protocol) < 0)
		return sentence_expected(
			r->s, word, "a protocol", "a number from 0 to 255, or a name such as tcp");
	if (!protocol) {
		sentence_fail(r->s, word, "protocol 0 is no protocol's");
		return want(r->s, "1 to 255, or no protocol for all of them");
	}
	r->service->protocol = r->s->protocol = protocol;
	return 0;
}

static int fail_address(struct service_reader *r, const char *word)
{
	const char *nearest = word && strspn(word, "abcdefghijklmnopqrstuvwxyz6") == strlen(word)
	                              ? text_nearest(word, protocol_words)
	                              : NULL;

	if (nearest && r->service->protocol < 0) {
		sentence_expected(r->s, word, "a protocol or an address", NULL);
		return want(r->s, "did you mean '%s'?", nearest);
	}
	return 1;
}

static int address_read(struct service_reader *r)
{
	struct service_text *service = r->service;
	struct endpoint endpoint = {};
	const char *word = sentence_peek(r->s);
	int result = fail_address(r, word);

	if (result == 1)
		result = sentence_prefix(r->s, &endpoint,
			service->protocol < 0 ? "a protocol or an address" : "the service's address",
			"such as tcp 203.0.113.10, or 2001:db8::/64");
	if (result < 0)
		return result;
	service->prefix = endpoint.prefix;
	if (endpoint.prefix.length && (!address_is_of_a_host(&endpoint.prefix.address) ||
					      address_is_loopback(&endpoint.prefix.address))) {
		sentence_fail(r->s, word, "%.64s can be no service's address", word);
		return want(r->s, "an address that packets are sent to, such as 203.0.113.10");
	}
	return 0;
}

static bool has_ports(int protocol)
{
	return protocol < 0 || protocol == IPPROTO_TCP || protocol == IPPROTO_UDP || protocol == IPPROTO_SCTP;
}

static int port_read(struct service_reader *r)
{
	struct service_text *service = r->service;
	const char *word = sentence_peek(r->s);
	char name[16];
	int result;

	if (!word || strcmp(word, "port") != 0)
		return 0;
	r->port_word = word;
	if (!has_ports(service->protocol)) {
		snprintf(name, sizeof(name), "%d", service->protocol);
		sentence_fail(r->s, word, "protocol %s has no ports",
			protocol_name((uint8_t)service->protocol) ? protocol_name((uint8_t)service->protocol)
								  : name);
		return want(r->s, "tcp, udp or sctp; or no port");
	}
	sentence_skip(r->s, word);
	result = ports_read(r, "one port or range: a service for each", &service->ports);
	service->any_port = result < 0;
	return result;
}

void service_settle(struct service_text *service)
{
	for (size_t i = 0; !service->any_port && i < service->backend_count; i++)
		if (service->ports.low == service->ports.high &&
			service->backends[i].port == service->ports.low)
			service->backends[i].port = 0;
}

static int sentence_read(struct service_reader *r)
{
	static int (*const parts[])(struct service_reader * r) = {
		name_read, protocol_read, address_read, port_read, backends_read};
	const char *word;
	int result = 0;

	for (size_t i = 0; result == 0 && i < COUNT(parts); i++)
		result = parts[i](r);
	while (result == 0 && (word = sentence_peek(r->s)))
		result = option_read(r, word);
	if (result == 0)
		result = service_verify(r);
	if (result == 0)
		service_settle(r->service);
	return result;
}

int service_read(struct sentence *s, struct service_text **ret_service)
{
	struct service_text *service = malloc(sizeof(*service));
	struct service_reader reader = {.s = s, .service = service};
	int r;

	if (!service)
		return fail_memory(s);
	service_init(service);
	r = sentence_read(&reader);
	free(reader.backend_words);
	if (r < 0)
		service_free(service);
	else
		*ret_service = service;
	return r;
}

int service_parse(const char *text, struct service_text **ret_service, struct error *error)
{
	_cleanup_free_ char *room = malloc(SERVICE_TEXT_MAX);
	struct sentence s;
	int r;

	if (!room)
		return error_set(error, -ENOMEM, "out of memory");
	r = sentence_begin_in(&s, text, room, SERVICE_TEXT_MAX, error);
	return r < 0 ? r : service_read(&s, ret_service);
}

/*
 * What does not go together
 */

static int verify_fail_family(struct service_reader *r, size_t i)
{
	const struct service_text *service = r->service;
	bool six = service->backends[i].address.family == 6;
	char text[ADDRESS_TEXT_MAX];
	const char *word = r->backend_words ? r->backend_words[i] : NULL;

	address_print(text, sizeof(text), &service->backends[i].address);
	if (service->deliver == SERVICE_IPIP || service->deliver == SERVICE_GUE) {
		sentence_fail(r->s, word, "%s is IPv4, but %s does not carry IPv6 in IPv4", text,
			service_delivers[service->deliver]);
		return want(r->s, "the backend's IPv6 address");
	}
	sentence_fail(r->s, word, "%s is IPv%d, but the service IPv%d, and %s does not change that", text,
		six ? 6 : 4, six ? 4 : 6, service_delivers[service->deliver]);
	return six ? want(r->s, "the backend's IPv4 address, or deliver ipip")
	           : want(r->s, "the backend's IPv6 address");
}

static int verify_backend(struct service_reader *r, size_t i)
{
	const struct service_text *service = r->service;
	const struct service_backend_text *backend = &service->backends[i];
	const char *word = r->backend_words ? r->backend_words[i] : NULL;
	uint8_t family = service->prefix.address.family;
	bool tunnel = service->deliver == SERVICE_IPIP || service->deliver == SERVICE_GUE;
	bool changes = backend->port && (service->any_port || service->ports.low != service->ports.high ||
						service->ports.low != backend->port);
	char text[ADDRESS_TEXT_MAX];

	address_print(text, sizeof(text), &backend->address);
	if (backend->address.family != family && !(tunnel && family == 4))
		return verify_fail_family(r, i);
	if (service->prefix.length == (family == 6 ? 128 : 32) &&
		address_compare(&backend->address, &service->prefix.address) == 0) {
		sentence_fail(r->s, word, "%s is the service's own address", text);
		return want(r->s, "an address that the backend alone has");
	}
	if (backend->port && !has_ports(service->protocol)) {
		sentence_fail(r->s, word, "%s port %u, but the protocol has no ports", text, backend->port);
		return want(r->s, "the backend without a port");
	}
	if (changes && service->deliver != SERVICE_NAT) {
		sentence_fail(r->s, word, "%s port %u, but %s delivers packets with the port they have", text,
			backend->port, service_delivers[service->deliver]);
		return want(r->s, "no port, or deliver nat");
	}
	return 0;
}

struct backend_place {
	const struct service_backend_text *backend;
	uint16_t port; /* the service's where it says none */
	size_t index;
};

static int place_compare(const void *a, const void *b)
{
	const struct backend_place *x = a, *y = b;
	int r = address_compare(&x->backend->address, &y->backend->address);

	if (r == 0)
		r = (int)x->port - (int)y->port;
	return r ? r : (x->index > y->index) - (x->index < y->index);
}

static int verify_alike(struct service_reader *r)
{
	const struct service_text *service = r->service;
	uint16_t port =
		!service->any_port && service->ports.low == service->ports.high ? service->ports.low : 0;
	_cleanup_free_ struct backend_place *places = calloc(service->backend_count + 1, sizeof(*places));
	char text[ADDRESS_TEXT_MAX];

	if (!places)
		return fail_memory(r->s);
	for (size_t i = 0; i < service->backend_count; i++)
		places[i] = (struct backend_place){&service->backends[i],
			service->backends[i].port ? service->backends[i].port : port, i};
	qsort(places, service->backend_count, sizeof(*places), place_compare);
	for (size_t i = 1; i < service->backend_count; i++) {
		const struct backend_place *this = &places[i];

		if (address_compare(&this->backend->address, &this[-1].backend->address) != 0 ||
			this->port != this[-1].port)
			continue;
		sentence_fail(r->s, r->backend_words ? r->backend_words[this->index] : NULL,
			"a second backend %s", address_print(text, sizeof(text), &this->backend->address));
		return want(r->s, "each backend once; 'weight' gives it more");
	}
	return 0;
}

static int verify_nat(struct service_reader *r)
{
	const struct service_text *service = r->service;
	const char *name = service->protocol >= 0 ? protocol_name((uint8_t)service->protocol) : NULL;
	bool carried = service->protocol < 0 || service->protocol == IPPROTO_TCP ||
	               service->protocol == IPPROTO_UDP || service->protocol == IPPROTO_ICMP ||
	               service->protocol == IPPROTO_ICMPV6;

	if (service->deliver != SERVICE_NAT)
		return 0;
	if (!carried) {
		sentence_fail(r->s, r->said[SERVICE_OPTION_DELIVER], "nat does not carry %s%s",
			name ? name : "that", name ? "" : " protocol");
		return want(r->s, "tcp, udp, icmp; or deliver ipip");
	}
	if (service->has_from && service->from_first.family != service->prefix.address.family) {
		sentence_fail(r->s, r->nat_word, "addresses of another family than the service's");
		return want(r->s, "IPv%d", service->prefix.address.family);
	}
	return 0;
}

/* Where a check connects to. */
static int verify_check(struct service_reader *r)
{
	const struct service_text *service = r->service;
	const struct service_check *check = &service->check;
	const char *word = r->said[SERVICE_OPTION_CHECK];

	if (check->kind == SERVICE_CHECK_NONE || check->kind == SERVICE_CHECK_EXEC || check->port ||
		(!service->any_port && service->ports.low == service->ports.high))
		return 0;
	for (size_t i = 0; i < service->backend_count; i++) {
		if (service->backends[i].port)
			continue;
		sentence_fail(r->s, word, "the service has %s port, so it is not clear which one is checked",
			service->any_port ? "any" : "more than one");
		return want(r->s, "check %s port N", service_checks[check->kind]);
	}
	return 0;
}

static int verify_options(struct service_reader *r)
{
	const struct service_text *service = r->service;
	size_t count = service->backend_count;

	if (service->quic && service->protocol != IPPROTO_UDP) {
		sentence_fail(r->s, r->said[SERVICE_OPTION_QUIC], "quic is UDP's");
		return want(r->s, "%s udp …", service->name);
	}
	if (service->mss && service->protocol >= 0 && service->protocol != IPPROTO_TCP) {
		sentence_fail(r->s, r->said[SERVICE_OPTION_MSS], "mss is TCP's");
		return want(r->s, "%s tcp …, or no mss", service->name);
	}
	if (service->slots && service->choice != SERVICE_MAGLEV) {
		sentence_fail(r->s, r->said[SERVICE_OPTION_RING], "'choose %s' has no ring",
			service_choices[service->choice]);
		return want(r->s, "choose maglev, or no ring");
	}
	if (service->slots && service->slots < count) {
		sentence_fail(r->s, r->said[SERVICE_OPTION_RING],
			"a ring of %u slots is too small for %zu backends", service->slots, count);
		return want(r->s, "a prime from %zu to %d", count, SERVICE_RING_SLOTS);
	}
	return 0;
}

int service_verify(struct service_reader *r)
{
	int result = 0;

	for (size_t i = 0; result == 0 && i < r->service->backend_count; i++)
		result = verify_backend(r, i);
	if (result == 0)
		result = verify_alike(r);
	if (result == 0)
		result = verify_nat(r);
	if (result == 0)
		result = verify_options(r);
	return result < 0 ? result : verify_check(r);
}

bool service_conflicts(const struct service_text *a, const struct service_text *b)
{
	const struct port_range *x = &a->ports, *y = &b->ports;
	bool inside;

	if (a->prefix.length != b->prefix.length || a->protocol != b->protocol ||
		address_compare(&a->prefix.address, &b->prefix.address) != 0)
		return false;
	if (a->any_port || b->any_port)
		return a->any_port && b->any_port;
	if (x->high < y->low || y->high < x->low)
		return false;
	/* the narrower of two ranges, one of which holds the other, comes first */
	inside = (x->low >= y->low && x->high <= y->high) || (y->low >= x->low && y->high <= x->high);
	return !inside || (x->low == y->low && x->high == y->high);
}
