/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include "model/match.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "basic/text.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

#define KNOWN_MAX 80 /* words a suggestion is chosen from */

struct name {
	const char *name;
	int value;
};

/* Protocols whose names are words of the grammar and of the API: read and printed. */
static const struct name protocols[] = {
	{"tcp", IPPROTO_TCP},
	{"udp", IPPROTO_UDP},
	{"icmp", IPPROTO_ICMP},
	{"icmp6", IPPROTO_ICMPV6},
	{"sctp", IPPROTO_SCTP},
	{"gre", IPPROTO_GRE},
	{"esp", IPPROTO_ESP},
	{"ah", IPPROTO_AH},
};

/* Only read, behind `proto`. */
static const struct name protocol_aliases[] = {
	{"igmp", IPPROTO_IGMP},
	{"ipip", IPPROTO_IPIP},
	{"dccp", IPPROTO_DCCP},
	{"ipv6", IPPROTO_IPV6},
	{"icmpv6", IPPROTO_ICMPV6},
	{"ipv6-icmp", IPPROTO_ICMPV6},
	{"ospf", 89},
	{"pim", IPPROTO_PIM},
	{"vrrp", 112},
	{"l2tp", 115},
	{"udplite", IPPROTO_UDPLITE},
};

/* What people ask for most, so that it needs no /etc/services (a minimal system or container has none). */
static const struct name services[] = {
	{"ftp", 21},
	{"ssh", 22},
	{"telnet", 23},
	{"smtp", 25},
	{"domain", 53},
	{"dns", 53},
	{"bootps", 67},
	{"bootpc", 68},
	{"tftp", 69},
	{"http", 80},
	{"kerberos", 88},
	{"pop3", 110},
	{"sunrpc", 111},
	{"ntp", 123},
	{"imap", 143},
	{"snmp", 161},
	{"snmp-trap", 162},
	{"bgp", 179},
	{"ldap", 389},
	{"https", 443},
	{"syslog", 514},
	{"submission", 587},
	{"ldaps", 636},
	{"domain-s", 853},
	{"imaps", 993},
	{"pop3s", 995},
	{"openvpn", 1194},
	{"mqtt", 1883},
	{"nfs", 2049},
	{"mysql", 3306},
	{"rdp", 3389},
	{"vxlan", 4789},
	{"sip", 5060},
	{"mdns", 5353},
	{"postgresql", 5432},
	{"redis", 6379},
	{"http-alt", 8080},
	{"wireguard", 51820},
};

static const struct name icmp4_types[] = {
	{"echo-reply", 0},
	{"unreachable", 3},
	{"source-quench", 4},
	{"redirect", 5},
	{"echo-request", 8},
	{"router-advertisement", 9},
	{"router-solicitation", 10},
	{"time-exceeded", 11},
	{"parameter-problem", 12},
	{"timestamp-request", 13},
	{"timestamp-reply", 14},
};

static const struct name icmp6_types[] = {
	{"unreachable", 1},
	{"packet-too-big", 2},
	{"time-exceeded", 3},
	{"parameter-problem", 4},
	{"echo-request", 128},
	{"echo-reply", 129},
	{"mld-query", 130},
	{"mld-report", 131},
	{"mld-done", 132},
	{"router-solicitation", 133},
	{"router-advertisement", 134},
	{"neighbor-solicitation", 135},
	{"neighbor-advertisement", 136},
	{"redirect", 137},
	{"mld2-report", 143},
};

static const struct name tcp_flags[] = {
	{"fin", 1 << 0},
	{"syn", 1 << 1},
	{"rst", 1 << 2},
	{"psh", 1 << 3},
	{"ack", 1 << 4},
	{"urg", 1 << 5},
	{"ece", 1 << 6},
	{"cwr", 1 << 7},
};

/* Words that people try and that deserve more than "unknown word". */
static const struct {
	const char *name;
	const char *what;
	const char *want;
} foreign_words[] = {
	{"state", "connection states are not recorded by this version", NULL},
	{"dscp", "DSCP is not recorded by this version", NULL},
	{"matching", "tcpdump expressions are not understood by this version", NULL},
	{"not", "'not' is not understood by this version", NULL},
	{"or", "'or' is not understood by this version", "several ports go into one list: port 80,443"},
	{"and", "no 'and' is needed", "the words one after the other: all of them have to fit"},
	{"src", "unknown word 'src'", "from ADDRESS, from port PORT"},
	{"dst", "unknown word 'dst'", "to ADDRESS, to port PORT"},
	{"net", "unknown word 'net'", "host PREFIX, from PREFIX or to PREFIX"},
	{"portrange", "unknown word 'portrange'", "port LOW-HIGH"},
};

/* The words of the grammar stand in this order; those behind the protocol in any. */
enum stage { STAGE_DIRECTION, STAGE_INTERFACE, STAGE_FAMILY, STAGE_PROTOCOL, STAGE_TERMS };

/* What a sentence says at most once. */
enum element {
	ELEMENT_DIRECTION,
	ELEMENT_INTERFACE,
	ELEMENT_FAMILY,
	ELEMENT_PROTOCOL,
	ELEMENT_FROM,
	ELEMENT_TO,
	ELEMENT_HOST,
	ELEMENT_PORT,
	ELEMENT_FLAGS,
	ELEMENT_ICMP_TYPE,
	ELEMENT_VLAN,
	ELEMENT_FRAGMENT,
	ELEMENT_OWNER,
	ELEMENT_COUNT,
};

struct reader {
	char text[MATCH_TEXT_MAX]; /* a copy of the sentence in which words get a NUL behind them */
	const char *sentence;
	size_t length;
	size_t offset; /* of the next word to be read */
	struct error *error;

	struct match match;
	enum stage stage;
	const char *said[ELEMENT_COUNT]; /* the word that said it first */
	uint8_t family;                  /* what the words so far leave possible; 0: either */
	const char *family_word;         /* the word that settled it */
	const char *ports_word;          /* the first list of ports */
};

static const struct name *name_find(const struct name *names, size_t count, const char *name)
{
	for (size_t i = 0; i < count; i++) {
		if (strcmp(names[i].name, name) == 0)
			return &names[i];
	}
	return NULL;
}

static const char *value_name(const struct name *names, size_t count, int value)
{
	for (size_t i = 0; i < count; i++) {
		if (names[i].value == value)
			return names[i].name;
	}
	return NULL;
}

const char *protocol_name(uint8_t protocol)
{
	return value_name(protocols, COUNT(protocols), protocol);
}

/* Decimal digits only, no sign and no leading zero, as all numbers of the grammar. */
static int number_parse(const char *text, unsigned int max, unsigned int *ret_number)
{
	unsigned int number = 0;

	if (!text[0] || (text[0] == '0' && text[1]))
		return -EINVAL;
	for (const char *p = text; *p; p++) {
		if (*p < '0' || *p > '9')
			return -EINVAL;
		if (number <= max)
			number = number * 10 + (unsigned int)(*p - '0');
	}
	if (number > max)
		return -ERANGE;
	*ret_number = number;
	return 0;
}

int protocol_parse(const char *text, uint8_t *ret_protocol)
{
	const struct name *name = name_find(protocols, COUNT(protocols), text);
	unsigned int number;

	if (!name)
		name = name_find(protocol_aliases, COUNT(protocol_aliases), text);
	if (name)
		number = (unsigned int)name->value;
	else if (number_parse(text, UINT8_MAX, &number) < 0)
		return -EINVAL;

	*ret_protocol = (uint8_t)number;
	return 0;
}

static const struct name *icmp_types(int protocol, size_t *ret_count)
{
	*ret_count = protocol == IPPROTO_ICMPV6 ? COUNT(icmp6_types) : COUNT(icmp4_types);
	return protocol == IPPROTO_ICMPV6 ? icmp6_types : icmp4_types;
}

/*
 * Words and errors
 */

static bool is_space(char c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* The next word, which stays the next; NULL at the end. */
static char *word_peek(struct reader *r)
{
	char *word, *end;

	while (is_space(r->text[r->offset]))
		r->offset++;
	word = r->text + r->offset;
	if (r->offset >= r->length)
		return NULL;
	for (end = word; *end && !is_space(*end);)
		end++;
	*end = '\0';
	return word;
}

static void word_skip(struct reader *r, const char *word)
{
	r->offset += strlen(word);
	if (r->offset < r->length)
		r->offset++; /* the white space that word_peek() made a NUL */
}

static char *word_take(struct reader *r)
{
	char *word = word_peek(r);

	if (word)
		word_skip(r, word);
	return word;
}

/* Says where: `word` points into r->text; NULL is the end of the sentence. */
static int fail_at(struct reader *r, const char *word)
{
	error_at(r->error, NULL, r->sentence, word ? (size_t)(word - r->text) : r->length);
	return -EINVAL;
}

#define fail(reader, word, ...) (error_set((reader)->error, -EINVAL, __VA_ARGS__), fail_at(reader, word))

/* "expected a port, got 'htps'" */
static int fail_expected(struct reader *r, const char *word, const char *expected, const char *want)
{
	if (word)
		fail(r, word, "expected %s, got '%.64s'", expected, word);
	else
		fail(r, NULL, "expected %s, got the end of the sentence", expected);
	if (want)
		error_want(r->error, "%s", want);
	return -EINVAL;
}

static void known_add(const char **known, size_t *count, const struct name *names, size_t names_count)
{
	for (size_t i = 0; i < names_count && *count < KNOWN_MAX; i++)
		known[(*count)++] = names[i].name;
	known[*count] = NULL;
}

static const char *name_nearest(const char *word, const struct name *names, size_t names_count)
{
	const char *known[KNOWN_MAX + 1];
	size_t count = 0;

	known_add(known, &count, names, names_count);
	return text_nearest(word, known);
}

static const char *family_text(uint8_t family)
{
	return family == 6 ? "IPv6" : "IPv4";
}

/* A word that only fits one family: all of them have to agree. */
static int family_settle(struct reader *r, const char *word, uint8_t family)
{
	if (r->family && r->family != family) {
		fail(r, word, "'%.64s' is %s, but '%.64s' is %s", word, family_text(family), r->family_word,
			family_text(r->family));
		error_want(r->error, "one family: a match with both never fits");
		return -EINVAL;
	}
	if (!r->family) {
		r->family = family;
		r->family_word = word;
	}
	return 0;
}

/* Notes that `word` says `element`; fails if something did before. */
static int element_say(struct reader *r, enum element element, const char *word)
{
	const char *before = r->said[element];

	if (!before) {
		r->said[element] = word;
		return 0;
	}
	if (strcmp(before, word) != 0) {
		fail(r, word, "'%.64s' contradicts '%.64s'", word, before);
		error_want(r->error, "one of the two");
		return -EINVAL;
	}
	fail(r, word, "a second '%.64s'", word);
	if (element == ELEMENT_PORT)
		error_want(r->error, "one list: port 80,443");
	else
		error_want(r->error, "'%.64s' once", word);
	return -EINVAL;
}

/*
 * Values
 */

static bool service_find(const char *name, int protocol, unsigned int *ret_port)
{
	const struct name *known = name_find(services, COUNT(services), name);
	struct servent entry, *found = NULL;
	const char *protocol_text = NULL;
	char buffer[1024];

	if (known) {
		*ret_port = (unsigned int)known->value;
		return true;
	}
	if (protocol >= 0)
		protocol_text = protocol_name((uint8_t)protocol);
	if (getservbyname_r(name, protocol_text, &entry, buffer, sizeof(buffer), &found) || !found)
		return false;
	*ret_port = ntohs((uint16_t)entry.s_port);
	return true;
}

/* One number of a port or range. */
static int port_number_read(struct reader *r, const char *text, unsigned int *ret_port)
{
	int result = number_parse(text, UINT16_MAX, ret_port);

	if (result == -ERANGE) {
		fail(r, text, "port %.64s is out of range", text);
		error_want(r->error, "0 to 65535");
		return -EINVAL;
	}
	if (result < 0)
		return fail_expected(r, text, "a port", "a number, a name such as https, or low-high");
	return 0;
}

/* `text`: a port, a name or low-high; overwritten. */
static int port_range_read(struct reader *r, char *text, struct port_range *ret_range)
{
	unsigned int low = 0, high = 0;
	char *dash;
	int result;

	/* Only what holds a letter is a name: names have dashes too, and "0x50" is none. */
	if (text[strspn(text, "0123456789-")]) {
		if (!service_find(text, r->match.protocol, &low))
			return fail_expected(
				r, text, "a port", "a number, a name such as https, or low-high");
		*ret_range = (struct port_range){(uint16_t)low, (uint16_t)low};
		return 0;
	}

	dash = strchr(text, '-');
	if (dash && (dash == text || !dash[1] || strchr(dash + 1, '-')))
		return fail_expected(r, text, "a port", "a number, a name such as https, or low-high");
	if (dash)
		*dash = '\0';
	result = port_number_read(r, text, &low);
	if (result < 0)
		return result;
	if (!dash) {
		*ret_range = (struct port_range){(uint16_t)low, (uint16_t)low};
		return 0;
	}

	result = port_number_read(r, dash + 1, &high);
	if (result < 0)
		return result;
	if (low > high) {
		fail(r, text, "the range %u-%u runs backwards", low, high);
		error_want(r->error, "%u-%u", high, low);
		return -EINVAL;
	}
	*ret_range = (struct port_range){(uint16_t)low, (uint16_t)high};
	return 0;
}

/* Splits a list at its commas: the next element, and in *list what follows it (NULL: nothing). */
static char *list_take(char **list)
{
	char *element = *list, *comma = strchr(element, ',');

	if (comma)
		*comma = '\0';
	*list = comma ? comma + 1 : NULL;
	return element;
}

/* PORTS, the word behind `port`. */
static int ports_read(struct reader *r, struct endpoint *endpoint)
{
	char *list = word_peek(r);
	int result;

	if (!list)
		return fail_expected(r, NULL, "a port", "a number, a name such as https, or low-high");
	if (list[0] == '@') {
		fail(r, list, "unknown set '%.64s'", list);
		error_want(r->error, "ports: this version has no sets");
		return -EINVAL;
	}
	word_skip(r, list);
	if (!r->ports_word)
		r->ports_word = list;

	while (list) {
		char *element = list_take(&list);

		if (!*element) {
			fail(r, element, "a port is missing in the list");
			error_want(r->error, "ports with a comma and no space between them: 80,443");
			return -EINVAL;
		}
		if (endpoint->port_count == MATCH_PORT_RANGES_MAX) {
			fail(r, element, "more than %d ports and ranges in one list", MATCH_PORT_RANGES_MAX);
			error_want(r->error, "fewer, or a range that holds several");
			return -EINVAL;
		}
		result = port_range_read(r, element, &endpoint->ports[endpoint->port_count]);
		if (result < 0)
			return result;
		endpoint->port_count++;
	}
	return 0;
}

/* Why `word` is neither address nor prefix. */
static int fail_prefix(struct reader *r, const char *word, const char *expected, const char *want)
{
	char buffer[ADDRESS_TEXT_MAX];
	struct address address;
	const char *slash;

	if (!word)
		return fail_expected(r, NULL, expected, want);
	if (word[0] == '@') {
		fail(r, word, "unknown set '%.64s'", word);
		error_want(r->error, "an address or prefix: this version has no sets");
		return -EINVAL;
	}

	slash = strchr(word, '/');
	if (slash && (size_t)(slash - word) < sizeof(buffer)) {
		memcpy(buffer, word, (size_t)(slash - word));
		buffer[slash - word] = '\0';
		if (address_parse(buffer, &address) == 0) {
			return fail_expected(r, slash + 1, "a prefix length",
				address.family == 6 ? "0 to 128" : "0 to 32");
		}
	}
	return fail_expected(r, word, expected, want);
}

/* Address or prefix, the word that comes next. */
static int prefix_read(struct reader *r, struct endpoint *endpoint, const char *expected, const char *want)
{
	char *word = word_peek(r), cleared[ADDRESS_TEXT_MAX];
	struct prefix prefix;
	int result;

	result = word ? prefix_parse(word, &prefix) : -EINVAL;
	if (result == -EDOM) {
		prefix_print(cleared, sizeof(cleared), &prefix);
		fail(r, word, "'%.64s' has bits set behind its length", word);
		error_want(r->error, "%s, or the address without a length", cleared);
		return -EINVAL;
	}
	if (result < 0)
		return fail_prefix(r, word, expected, want);

	word_skip(r, word);
	result = family_settle(r, word, prefix.address.family);
	if (result < 0)
		return result;
	endpoint->has_prefix = true;
	endpoint->prefix = prefix;
	return 0;
}

/* [any | address | prefix] ["port" PORTS] */
static int endpoint_read(struct reader *r, struct endpoint *endpoint)
{
	const char *word = word_peek(r);
	int result;

	if (!word || strcmp(word, "port") != 0) {
		if (word && strcmp(word, "any") == 0) {
			word_skip(r, word);
		} else {
			result = prefix_read(r, endpoint, "an address, a prefix, 'any' or 'port'",
				"such as 192.0.2.1, 10.0.0.0/8, 2001:db8::/32 or port https");
			if (result < 0)
				return result;
		}
		word = word_peek(r);
		if (!word || strcmp(word, "port") != 0)
			return 0;
	}
	word_skip(r, word);
	return ports_read(r, endpoint);
}

/* The type behind `icmp` or `icmp6`.  -ENOENT, and nothing read: the next word is no type. */
static int icmp_type_read(struct reader *r)
{
	const struct name *types, *type;
	const char *word = word_peek(r);
	unsigned int number;
	size_t count;
	int result;

	if (!word)
		return -ENOENT;
	types = icmp_types(r->match.protocol, &count);
	type = name_find(types, count, word);
	if (type) {
		number = (unsigned int)type->value;
	} else {
		result = number_parse(word, UINT8_MAX, &number);
		if (result == -EINVAL)
			return -ENOENT;
		if (result < 0) {
			fail(r, word, "ICMP type %.64s is out of range", word);
			error_want(r->error, "0 to 255, or a name such as echo-request");
			return -EINVAL;
		}
	}
	result = element_say(r, ELEMENT_ICMP_TYPE, word);
	if (result < 0)
		return result;
	word_skip(r, word);
	r->match.icmp_type = (int)number;
	return 0;
}

/*
 * One reader for each word of the grammar; the word itself is taken.
 */

static int read_direction(struct reader *r, const char *word)
{
	r->match.direction = strcmp(word, "in") == 0 ? MATCH_IN : MATCH_OUT;
	return 0;
}

static int read_interface(struct reader *r, const char *word)
{
	const char *name = word_take(r);

	(void)word;
	if (!name)
		return fail_expected(r, NULL, "an interface", "its name, such as eth0");
	if (strlen(name) >= MATCH_INTERFACE_MAX) {
		fail(r, name, "the interface name '%.64s' is too long", name);
		error_want(r->error, "at most %d bytes", MATCH_INTERFACE_MAX - 1);
		return -EINVAL;
	}
	snprintf(r->match.interface, sizeof(r->match.interface), "%s", name);
	return 0;
}

static int read_family(struct reader *r, const char *word)
{
	r->match.family = strcmp(word, "ip6") == 0 ? 6 : 4;
	return family_settle(r, word, r->match.family);
}

static int read_protocol(struct reader *r, const char *word)
{
	uint8_t protocol = 0;

	if (strcmp(word, "proto") == 0) {
		word = word_take(r);
		if (!word || protocol_parse(word, &protocol) < 0)
			return fail_expected(
				r, word, "a protocol", "a number from 0 to 255, or a name such as tcp");
	} else {
		protocol_parse(word, &protocol);
	}

	r->match.protocol = protocol;
	r->said[ELEMENT_PROTOCOL] = word;
	if (protocol == IPPROTO_ICMP)
		return family_settle(r, word, 4);
	if (protocol == IPPROTO_ICMPV6)
		return family_settle(r, word, 6);
	return 0;
}

/* `icmp` is the protocol, and the word in front of a type: "icmp", "icmp echo-request" and, where the
 * protocol is said already, "icmp from 192.0.2.1 icmp echo-request". */
static int read_icmp(struct reader *r, const char *word)
{
	bool is_new = r->match.protocol < 0;
	uint8_t protocol = 0;
	const struct name *types;
	const char *nearest, *next;
	size_t count;
	int result;

	protocol_parse(word, &protocol);
	if (is_new) {
		result = read_protocol(r, word);
		if (result < 0)
			return result;
	} else if (r->match.protocol != protocol) {
		return element_say(r, ELEMENT_PROTOCOL, word);
	}

	result = icmp_type_read(r);
	if (result != -ENOENT)
		return result;

	next = word_peek(r);
	types = icmp_types(protocol, &count);
	nearest = next ? name_nearest(next, types, count) : NULL;
	if (is_new && r->stage <= STAGE_PROTOCOL && !nearest)
		return 0;

	fail_expected(r, next, "an ICMP type", "0 to 255, or a name such as echo-request");
	if (nearest)
		error_want(r->error, "did you mean '%s'?", nearest);
	return -EINVAL;
}

static int read_from(struct reader *r, const char *word)
{
	(void)word;
	return endpoint_read(r, &r->match.from);
}

static int read_to(struct reader *r, const char *word)
{
	(void)word;
	return endpoint_read(r, &r->match.to);
}

static int read_host(struct reader *r, const char *word)
{
	(void)word;
	return prefix_read(r, &r->match.either, "an address or a prefix",
		"such as 192.0.2.1, 10.0.0.0/8 or 2001:db8::/32");
}

static int read_port(struct reader *r, const char *word)
{
	(void)word;
	return ports_read(r, &r->match.either);
}

static int read_flags(struct reader *r, const char *word)
{
	char *list = word_take(r);

	(void)word;
	if (!list)
		return fail_expected(r, NULL, "TCP flags", "such as syn,ack");
	while (list) {
		const char *element = list_take(&list);
		const struct name *flag = name_find(tcp_flags, COUNT(tcp_flags), element);

		if (!flag)
			return fail_expected(
				r, element, "a TCP flag", "fin, syn, rst, psh, ack, urg, ece or cwr");
		r->match.tcp_flags |= (uint8_t)flag->value;
	}
	return 0;
}

static int read_vlan(struct reader *r, const char *word)
{
	const char *text = word_take(r);
	unsigned int vlan;

	(void)word;
	if (!text || number_parse(text, 4095, &vlan) < 0)
		return fail_expected(r, text, "a VLAN", "a number from 0 to 4095");
	r->match.vlan = (int)vlan;
	return 0;
}

static int read_fragment(struct reader *r, const char *word)
{
	(void)word;
	r->match.fragment = true;
	return 0;
}

static int read_owner(struct reader *r, const char *word)
{
	const char *kind = word_take(r), *value = kind ? word_take(r) : NULL, *known = NULL;
	int result;

	(void)word;
	if (!kind)
		return fail_expected(
			r, NULL, "an owner", "pid, user, group, exe, cgroup, unit, container or pod");
	for (size_t i = 0; owner_kinds[i] && !known; i++)
		if (strcmp(owner_kinds[i], kind) == 0)
			known = owner_kinds[i];
	if (known && !value) {
		fail(r, NULL, "expected which %s, got the end of the sentence", kind);
		return -EINVAL;
	}
	result = owner_match_set(&r->match.owner, kind, value ? value : "", r->error);
	return result < 0 ? fail_at(r, known ? value : kind) : 0;
}

static const struct word {
	const char *name;
	enum stage stage;
	enum element element;
	int (*read)(struct reader *r, const char *word);
} words[] = {
	{"in", STAGE_DIRECTION, ELEMENT_DIRECTION, read_direction},
	{"out", STAGE_DIRECTION, ELEMENT_DIRECTION, read_direction},
	{"on", STAGE_INTERFACE, ELEMENT_INTERFACE, read_interface},
	{"ip", STAGE_FAMILY, ELEMENT_FAMILY, read_family},
	{"ip6", STAGE_FAMILY, ELEMENT_FAMILY, read_family},
	{"tcp", STAGE_PROTOCOL, ELEMENT_PROTOCOL, read_protocol},
	{"udp", STAGE_PROTOCOL, ELEMENT_PROTOCOL, read_protocol},
	{"sctp", STAGE_PROTOCOL, ELEMENT_PROTOCOL, read_protocol},
	{"gre", STAGE_PROTOCOL, ELEMENT_PROTOCOL, read_protocol},
	{"esp", STAGE_PROTOCOL, ELEMENT_PROTOCOL, read_protocol},
	{"ah", STAGE_PROTOCOL, ELEMENT_PROTOCOL, read_protocol},
	{"proto", STAGE_PROTOCOL, ELEMENT_PROTOCOL, read_protocol},
	{"icmp", STAGE_TERMS, ELEMENT_COUNT, read_icmp}, /* these two watch over themselves */
	{"icmp6", STAGE_TERMS, ELEMENT_COUNT, read_icmp},
	{"from", STAGE_TERMS, ELEMENT_FROM, read_from},
	{"to", STAGE_TERMS, ELEMENT_TO, read_to},
	{"host", STAGE_TERMS, ELEMENT_HOST, read_host},
	{"port", STAGE_TERMS, ELEMENT_PORT, read_port},
	{"flags", STAGE_TERMS, ELEMENT_FLAGS, read_flags},
	{"vlan", STAGE_TERMS, ELEMENT_VLAN, read_vlan},
	{"fragment", STAGE_TERMS, ELEMENT_FRAGMENT, read_fragment},
	{"by", STAGE_TERMS, ELEMENT_OWNER, read_owner},
};

/* A word that the grammar does not have: what was meant? */
static int fail_unknown(struct reader *r, const char *word)
{
	const char *known[COUNT(words) + 1] = {NULL}, *nearest;
	struct prefix prefix;
	unsigned int number;
	int result;

	for (size_t i = 0; i < COUNT(foreign_words); i++) {
		if (strcmp(foreign_words[i].name, word) != 0)
			continue;
		fail(r, word, "%s", foreign_words[i].what);
		if (foreign_words[i].want)
			error_want(r->error, "%s", foreign_words[i].want);
		return -EINVAL;
	}

	for (size_t i = 0; i < COUNT(words); i++)
		known[i] = words[i].name;
	nearest = text_nearest(word, known);
	result = prefix_parse(word, &prefix);

	if (word[0] == '@')
		fail(r, word, "unknown set '%.64s'", word);
	else
		fail(r, word, "unknown word '%.64s'", word);
	if (nearest)
		error_want(r->error, "did you mean '%s'?", nearest);
	else if (number_parse(word, UINT16_MAX, &number) == 0)
		error_want(r->error, "did you mean 'port %u'?", number);
	else if (result == 0 || result == -EDOM)
		error_want(r->error, "did you mean 'host %.64s'?", word);
	else
		error_want(r->error,
			"in or out, on INTERFACE, ip or ip6, a protocol, then from, to, host, port, "
			"flags, icmp, vlan, fragment, by");
	return -EINVAL;
}

static int word_read(struct reader *r)
{
	const char *text = word_take(r);
	const struct word *word = NULL;
	int result;

	for (size_t i = 0; i < COUNT(words) && !word; i++) {
		if (strcmp(words[i].name, text) == 0)
			word = &words[i];
	}
	if (!word)
		return fail_unknown(r, text);

	if (word->element != ELEMENT_COUNT) {
		result = element_say(r, word->element, text);
		if (result < 0)
			return result;
	}
	if (word->stage < r->stage) {
		fail(r, text, "'%s' comes too late", text);
		error_want(r->error,
			"in or out, then on INTERFACE, then ip or ip6, then a protocol, then the rest");
		return -EINVAL;
	}
	result = word->read(r, text);
	if (result < 0)
		return result;
	r->stage = word->stage;
	return 0;
}

/* What each word allows, but no packet can be. */
static int contradictions_check(struct reader *r)
{
	const struct match *match = &r->match;
	int protocol = match->protocol;
	const char *name = r->said[ELEMENT_PROTOCOL];

	if (r->ports_word && protocol >= 0 && protocol != IPPROTO_TCP && protocol != IPPROTO_UDP &&
		protocol != IPPROTO_SCTP) {
		fail(r, r->ports_word, "'%.64s' has no ports", name);
		error_want(r->error, "tcp, udp, sctp, or no protocol");
		return -EINVAL;
	}
	if (match->tcp_flags && protocol >= 0 && protocol != IPPROTO_TCP) {
		fail(r, r->said[ELEMENT_FLAGS], "'%.64s' has no TCP flags", name);
		error_want(r->error, "tcp, or no protocol");
		return -EINVAL;
	}
	if (match->fragment && (r->ports_word || match->tcp_flags || match->icmp_type >= 0)) {
		fail(r, r->said[ELEMENT_FRAGMENT],
			"a later fragment has no ports, no flags and no ICMP type");
		error_want(r->error, "'fragment' without them");
		return -EINVAL;
	}
	return 0;
}

void match_init(struct match *match)
{
	*match = (struct match){.protocol = -1, .icmp_type = -1, .vlan = -1};
}

int match_parse(const char *text, struct match *ret_match, struct error *error)
{
	struct reader reader = {.sentence = text, .length = strlen(text), .error = error};
	int r;

	match_init(&reader.match);
	if (reader.length >= sizeof(reader.text)) {
		error_set(error, -EINVAL, "the sentence is too long");
		error_want(error, "at most %d bytes", MATCH_TEXT_MAX - 1);
		error_at(error, NULL, text, MATCH_TEXT_MAX - 1);
		return -EINVAL;
	}
	memcpy(reader.text, text, reader.length + 1);

	while (word_peek(&reader)) {
		r = word_read(&reader);
		if (r < 0)
			return r;
	}
	r = contradictions_check(&reader);
	if (r < 0)
		return r;

	*ret_match = reader.match;
	return 0;
}

/*
 * Printing
 */

struct printer {
	char *buffer;
	size_t size, length;
	bool full;
};

/* Adds text; a format that begins with a space drops it at the start of the sentence. */
__attribute__((format(printf, 2, 3))) static void put(struct printer *p, const char *format, ...)
{
	va_list args;
	int length;

	if (p->full)
		return;
	if (*format == ' ' && !p->length)
		format++;

	va_start(args, format);
	length = vsnprintf(p->buffer + p->length, p->size - p->length, format, args);
	va_end(args);
	if (length < 0 || (size_t)length >= p->size - p->length) {
		p->full = true;
		return;
	}
	p->length += (size_t)length;
}

static void ports_put(struct printer *p, const struct endpoint *endpoint)
{
	const char *separator = " port ";

	for (unsigned int i = 0; i < endpoint->port_count; i++) {
		const struct port_range *range = &endpoint->ports[i];

		put(p, separator[0] == ' ' ? " port %u" : ",%u", range->low);
		if (range->high != range->low)
			put(p, "-%u", range->high);
		separator = ",";
	}
}

static void endpoint_put(struct printer *p, const char *word, const struct endpoint *endpoint)
{
	char text[ADDRESS_TEXT_MAX];

	if (!endpoint->has_prefix && !endpoint->port_count)
		return;
	put(p, " %s", word);
	if (endpoint->has_prefix)
		put(p, " %s", prefix_print(text, sizeof(text), &endpoint->prefix));
	ports_put(p, endpoint);
}

static void protocol_put(struct printer *p, const struct match *match)
{
	const char *name;
	size_t count;

	if (match->protocol >= 0) {
		name = protocol_name((uint8_t)match->protocol);
		if (name)
			put(p, " %s", name);
		else
			put(p, " proto %d", match->protocol);
	}
	if (match->icmp_type >= 0) {
		const struct name *types = icmp_types(match->protocol, &count);

		name = value_name(types, count, match->icmp_type);
		if (name)
			put(p, " %s", name);
		else
			put(p, " %d", match->icmp_type);
	}
}

static void flags_put(struct printer *p, uint8_t flags)
{
	bool first = true;

	for (size_t i = 0; i < COUNT(tcp_flags); i++) {
		if (!(flags & tcp_flags[i].value))
			continue;
		if (first)
			put(p, " flags %s", tcp_flags[i].name);
		else
			put(p, ",%s", tcp_flags[i].name);
		first = false;
	}
}

int match_print(const struct match *match, char *buffer, size_t size)
{
	struct printer p = {.buffer = buffer, .size = size};
	char text[ADDRESS_TEXT_MAX], owner[OWNER_PATH_MAX + 16];

	if (!size)
		return -ENOSPC;
	buffer[0] = '\0';

	if (match->direction != MATCH_BOTH)
		put(&p, " %s", match->direction == MATCH_IN ? "in" : "out");
	if (match->interface[0])
		put(&p, " on %s", match->interface);
	if (match->family)
		put(&p, " %s", match->family == 6 ? "ip6" : "ip");
	protocol_put(&p, match);

	/* `host` and `port` first: behind `from` or `to`, the port would be theirs. */
	if (match->either.has_prefix)
		put(&p, " host %s", prefix_print(text, sizeof(text), &match->either.prefix));
	ports_put(&p, &match->either);
	endpoint_put(&p, "from", &match->from);
	endpoint_put(&p, "to", &match->to);

	flags_put(&p, match->tcp_flags);
	if (match->vlan >= 0)
		put(&p, " vlan %d", match->vlan);
	if (match->fragment)
		put(&p, " fragment");
	if (match->owner.kind != OWNER_ANY) {
		owner_match_print(&match->owner, owner, sizeof(owner));
		put(&p, " by %s", owner);
	}
	return p.full ? -ENOSPC : 0;
}

/*
 * Matching: runs over every flow of the table at each query, so what is cheap and often decides comes first.
 */

static bool port_fits(const struct endpoint *endpoint, uint16_t port)
{
	for (unsigned int i = 0; i < endpoint->port_count; i++) {
		if (port >= endpoint->ports[i].low && port <= endpoint->ports[i].high)
			return true;
	}
	return false;
}

static bool ports_fit(const struct match *match, const struct match_subject *subject)
{
	if (!match->from.port_count && !match->to.port_count && !match->either.port_count)
		return true;
	if (!subject->has_ports)
		return false;
	if (match->from.port_count && !port_fits(&match->from, subject->source_port))
		return false;
	if (match->to.port_count && !port_fits(&match->to, subject->destination_port))
		return false;
	return !match->either.port_count || port_fits(&match->either, subject->source_port) ||
	       port_fits(&match->either, subject->destination_port);
}

static bool addresses_fit(const struct match *match, const struct match_subject *subject)
{
	if (match->from.has_prefix && !prefix_contains(&match->from.prefix, &subject->source))
		return false;
	if (match->to.has_prefix && !prefix_contains(&match->to.prefix, &subject->destination))
		return false;
	return !match->either.has_prefix || prefix_contains(&match->either.prefix, &subject->source) ||
	       prefix_contains(&match->either.prefix, &subject->destination);
}

bool match_fits(const struct match *match, const struct match_subject *subject)
{
	if (match->direction != MATCH_BOTH && match->direction != subject->direction)
		return false;
	if (match->family && match->family != subject->family)
		return false;
	if (match->protocol >= 0 && match->protocol != subject->protocol)
		return false;
	if (match->tcp_flags & ~subject->tcp_flags)
		return false;
	if (match->icmp_type >= 0 && match->icmp_type != subject->icmp_type)
		return false;
	if (match->vlan >= 0 && match->vlan != subject->vlan)
		return false;
	if (match->fragment && !subject->fragment)
		return false;
	if (!ports_fit(match, subject) || !addresses_fit(match, subject))
		return false;
	if (match->interface[0] && strcmp(match->interface, subject->interface) != 0)
		return false;
	return match->owner.kind == OWNER_ANY ||
	       (subject->owner && owner_match_fits(&match->owner, subject->owner));
}

bool match_is_address_only(const struct match *match)
{
	return !match->interface[0] && match->protocol < 0 && !match->from.port_count &&
	       !match->to.port_count && !match->either.port_count && !match->tcp_flags &&
	       match->icmp_type < 0 && match->vlan < 0 && !match->fragment && match->owner.kind == OWNER_ANY;
}
