/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include "model/match.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include "basic/text.h"
#include "model/match_read.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

#define WORDS_MORE_MAX 32 /* of a sentence that has more than a match */

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
	bool in_rules; /* rules know the word */
} foreign_words[] = {
	{"state", "connection states are not recorded by this version", NULL, true},
	{"dscp", "DSCP is not recorded by this version", NULL, true},
	{"matching", "tcpdump expressions are not understood by this version", NULL, true},
	{"not", "'not' is not understood by this version", NULL, true},
	{"or", "'or' is not understood by this version", "several ports go into one list: port 80,443",
		false},
	{"and", "no 'and' is needed", "the words one after the other: all of them have to fit", false},
	{"src", "unknown word 'src'", "from ADDRESS, from port PORT", false},
	{"dst", "unknown word 'dst'", "to ADDRESS, to port PORT", false},
	{"net", "unknown word 'net'", "host PREFIX, from PREFIX or to PREFIX", false},
	{"portrange", "unknown word 'portrange'", "port LOW-HIGH", false},
};

const char *protocol_name(uint8_t protocol)
{
	return value_name(protocols, COUNT(protocols), protocol);
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

/* Notes that `word` says `element`; fails if something did before. */
int match_element_say(struct match_reader *r, enum match_element element, const char *word)
{
	const char *before = r->said[element];

	if (!before) {
		r->said[element] = word;
		return 0;
	}
	if (strcmp(before, word) != 0) {
		sentence_fail(&r->s, word, "'%.64s' contradicts '%.64s'", word, before);
		error_want(r->s.error, "one of the two");
		return -EINVAL;
	}
	sentence_fail(&r->s, word, "a second '%.64s'", word);
	if (element == MATCH_ELEMENT_PORT)
		error_want(r->s.error, "one list: port 80,443");
	else
		error_want(r->s.error, "'%.64s' once", word);
	return -EINVAL;
}

static int fail_icmp_range(struct match_reader *r, const char *word, const char *what)
{
	sentence_fail(&r->s, word, "ICMP %s %.64s is out of range", what, word);
	error_want(r->s.error, "0 to 255%s", *what == 't' ? ", or a name such as echo-request" : "");
	return -EINVAL;
}

/* TYPE, or TYPE/CODE.  -ENOENT: it is no type. */
static int icmp_parse(struct match_reader *r, const char *word, unsigned int *ret_type, int *ret_code)
{
	const char *slash = r->codes ? strchr(word, '/') : NULL;
	char text[32];
	const struct name *types, *type;
	unsigned int code = 0;
	size_t count;
	int result;

	if (slash && (size_t)(slash - word) >= sizeof(text))
		return -ENOENT;
	snprintf(text, sizeof(text), "%.*s", slash ? (int)(slash - word) : (int)sizeof(text), word);
	types = icmp_types(r->match.protocol, &count);
	type = name_find(types, count, text);
	if (type) {
		*ret_type = (unsigned int)type->value;
	} else {
		result = number_parse(text, UINT8_MAX, ret_type);
		if (result < 0)
			return result == -EINVAL ? -ENOENT : fail_icmp_range(r, word, "type");
	}
	if (!slash)
		return 0;
	result = number_parse(slash + 1, UINT8_MAX, &code);
	if (result == -ERANGE)
		return fail_icmp_range(r, slash + 1, "code");
	if (result < 0)
		return sentence_expected(&r->s, slash + 1, "an ICMP code", "0 to 255");
	*ret_code = (int)code;
	return 0;
}

/* The type behind `icmp` or `icmp6`.  -ENOENT, and nothing read: the next word is no type. */
static int icmp_type_read(struct match_reader *r)
{
	const char *word = sentence_peek(&r->s);
	unsigned int type = 0;
	int result = word ? icmp_parse(r, word, &type, &r->icmp_code) : -ENOENT;

	if (result == 0)
		result = match_element_say(r, MATCH_ELEMENT_ICMP_TYPE, word);
	if (result < 0)
		return result;
	sentence_skip(&r->s, word);
	r->match.icmp_type = (int)type;
	return 0;
}

/*
 * One reader for each word of the grammar; the word itself is taken.
 */

static int read_direction(struct match_reader *r, const char *word)
{
	r->match.direction = strcmp(word, "in") == 0 ? MATCH_IN : MATCH_OUT;
	return 0;
}

static int read_interface(struct match_reader *r, const char *word)
{
	const char *name = sentence_take(&r->s);

	(void)word;
	if (!name)
		return sentence_expected(&r->s, NULL, "an interface", "its name, such as eth0");
	if (strlen(name) >= MATCH_INTERFACE_MAX) {
		sentence_fail(&r->s, name, "the interface name '%.64s' is too long", name);
		error_want(r->s.error, "at most %d bytes", MATCH_INTERFACE_MAX - 1);
		return -EINVAL;
	}
	snprintf(r->match.interface, sizeof(r->match.interface), "%s", name);
	return 0;
}

static int read_family(struct match_reader *r, const char *word)
{
	r->match.family = strcmp(word, "ip6") == 0 ? 6 : 4;
	return sentence_family(&r->s, word, r->match.family);
}

static int read_protocol(struct match_reader *r, const char *word)
{
	uint8_t protocol = 0;

	if (strcmp(word, "proto") == 0) {
		word = sentence_take(&r->s);
		if (!word || protocol_parse(word, &protocol) < 0)
			return sentence_expected(
				&r->s, word, "a protocol", "a number from 0 to 255, or a name such as tcp");
	} else {
		protocol_parse(word, &protocol);
	}

	r->match.protocol = r->s.protocol = protocol;
	r->said[MATCH_ELEMENT_PROTOCOL] = word;
	if (protocol == IPPROTO_ICMP)
		return sentence_family(&r->s, word, 4);
	if (protocol == IPPROTO_ICMPV6)
		return sentence_family(&r->s, word, 6);
	return 0;
}

/* `icmp` is the protocol, and the word in front of a type: "icmp", "icmp echo-request" and, where the
 * protocol is said already, "icmp from 192.0.2.1 icmp echo-request". */
static int read_icmp(struct match_reader *r, const char *word)
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
		return match_element_say(r, MATCH_ELEMENT_PROTOCOL, word);
	}

	result = icmp_type_read(r);
	if (result != -ENOENT)
		return result;

	next = sentence_peek(&r->s);
	types = icmp_types(protocol, &count);
	nearest = next ? name_nearest(next, types, count) : NULL;
	if (is_new && r->stage <= MATCH_STAGE_PROTOCOL && !nearest)
		return 0;

	sentence_expected(&r->s, next, "an ICMP type", "0 to 255, or a name such as echo-request");
	if (nearest)
		error_want(r->s.error, "did you mean '%s'?", nearest);
	return -EINVAL;
}

static int read_from(struct match_reader *r, const char *word)
{
	(void)word;
	return sentence_endpoint(&r->s, &r->match.from);
}

static int read_to(struct match_reader *r, const char *word)
{
	(void)word;
	return sentence_endpoint(&r->s, &r->match.to);
}

static int read_host(struct match_reader *r, const char *word)
{
	(void)word;
	return sentence_prefix(&r->s, &r->match.either, "an address or a prefix",
		"such as 192.0.2.1, 10.0.0.0/8 or 2001:db8::/32");
}

static int read_port(struct match_reader *r, const char *word)
{
	(void)word;
	return sentence_ports(&r->s, &r->match.either);
}

int match_flags_read(struct match_reader *r, char *list, uint8_t *ret_flags)
{
	uint8_t flags = 0;

	while (list) {
		const char *element = list_take(&list);
		const struct name *flag = name_find(tcp_flags, COUNT(tcp_flags), element);

		if (!flag)
			return sentence_expected(
				&r->s, element, "a TCP flag", "fin, syn, rst, psh, ack, urg, ece or cwr");
		flags |= (uint8_t)flag->value;
	}
	*ret_flags = flags;
	return 0;
}

static int read_flags(struct match_reader *r, const char *word)
{
	char *list = sentence_take(&r->s);

	(void)word;
	if (!list)
		return sentence_expected(&r->s, NULL, "TCP flags", "such as syn,ack");
	return match_flags_read(r, list, &r->match.tcp_flags);
}

static int read_vlan(struct match_reader *r, const char *word)
{
	const char *text = sentence_take(&r->s);
	unsigned int vlan;

	(void)word;
	if (!text || number_parse(text, 4095, &vlan) < 0)
		return sentence_expected(&r->s, text, "a VLAN", "a number from 0 to 4095");
	r->match.vlan = (int)vlan;
	return 0;
}

static int read_fragment(struct match_reader *r, const char *word)
{
	(void)word;
	r->match.fragment = true;
	return 0;
}

static int read_owner(struct match_reader *r, const char *word)
{
	(void)word;
	return sentence_owner(&r->s, &r->match.owner);
}

static const struct word {
	const char *name;
	enum match_stage stage;
	enum match_element element;
	int (*read)(struct match_reader *r, const char *word);
} words[] = {
	{"in", MATCH_STAGE_DIRECTION, MATCH_ELEMENT_DIRECTION, read_direction},
	{"out", MATCH_STAGE_DIRECTION, MATCH_ELEMENT_DIRECTION, read_direction},
	{"on", MATCH_STAGE_INTERFACE, MATCH_ELEMENT_INTERFACE, read_interface},
	{"ip", MATCH_STAGE_FAMILY, MATCH_ELEMENT_FAMILY, read_family},
	{"ip6", MATCH_STAGE_FAMILY, MATCH_ELEMENT_FAMILY, read_family},
	{"tcp", MATCH_STAGE_PROTOCOL, MATCH_ELEMENT_PROTOCOL, read_protocol},
	{"udp", MATCH_STAGE_PROTOCOL, MATCH_ELEMENT_PROTOCOL, read_protocol},
	{"sctp", MATCH_STAGE_PROTOCOL, MATCH_ELEMENT_PROTOCOL, read_protocol},
	{"gre", MATCH_STAGE_PROTOCOL, MATCH_ELEMENT_PROTOCOL, read_protocol},
	{"esp", MATCH_STAGE_PROTOCOL, MATCH_ELEMENT_PROTOCOL, read_protocol},
	{"ah", MATCH_STAGE_PROTOCOL, MATCH_ELEMENT_PROTOCOL, read_protocol},
	{"proto", MATCH_STAGE_PROTOCOL, MATCH_ELEMENT_PROTOCOL, read_protocol},
	{"icmp", MATCH_STAGE_TERMS, MATCH_ELEMENT_COUNT, read_icmp}, /* these two watch over themselves */
	{"icmp6", MATCH_STAGE_TERMS, MATCH_ELEMENT_COUNT, read_icmp},
	{"from", MATCH_STAGE_TERMS, MATCH_ELEMENT_FROM, read_from},
	{"to", MATCH_STAGE_TERMS, MATCH_ELEMENT_TO, read_to},
	{"host", MATCH_STAGE_TERMS, MATCH_ELEMENT_HOST, read_host},
	{"port", MATCH_STAGE_TERMS, MATCH_ELEMENT_PORT, read_port},
	{"flags", MATCH_STAGE_TERMS, MATCH_ELEMENT_FLAGS, read_flags},
	{"vlan", MATCH_STAGE_TERMS, MATCH_ELEMENT_VLAN, read_vlan},
	{"fragment", MATCH_STAGE_TERMS, MATCH_ELEMENT_FRAGMENT, read_fragment},
	{"by", MATCH_STAGE_TERMS, MATCH_ELEMENT_OWNER, read_owner},
};

/* A word that the grammar does not have: what was meant? */
static int fail_unknown(struct match_reader *r, const struct match_words *more, const char *word)
{
	const char *known[COUNT(words) + WORDS_MORE_MAX + 1] = {NULL}, *nearest;
	size_t count = 0;
	struct prefix prefix;
	unsigned int number;
	int result;

	for (size_t i = 0; i < COUNT(foreign_words); i++) {
		if ((more && foreign_words[i].in_rules) || strcmp(foreign_words[i].name, word) != 0)
			continue;
		sentence_fail(&r->s, word, "%s", foreign_words[i].what);
		if (foreign_words[i].want)
			error_want(r->s.error, "%s", foreign_words[i].want);
		return -EINVAL;
	}

	for (size_t i = 0; i < COUNT(words); i++)
		known[count++] = words[i].name;
	for (size_t i = 0; more && more->names[i] && count < COUNT(known) - 1; i++)
		known[count++] = more->names[i];
	nearest = text_nearest(word, known);
	result = prefix_parse(word, &prefix);

	if (word[0] == '@')
		sentence_fail(&r->s, word, "unknown set '%.64s'", word);
	else
		sentence_fail(&r->s, word, "unknown word '%.64s'", word);
	if (nearest)
		error_want(r->s.error, "did you mean '%s'?", nearest);
	else if (number_parse(word, UINT16_MAX, &number) == 0)
		error_want(r->s.error, "did you mean 'port %u'?", number);
	else if (result == 0 || result == -EDOM)
		error_want(r->s.error, "did you mean 'host %.64s'?", word);
	else
		error_want(r->s.error, "%s",
			more ? more->all
			     : "in or out, on INTERFACE, ip or ip6, a protocol, then from, to, host, port, "
			       "flags, icmp, vlan, fragment, by");
	return -EINVAL;
}

int match_word_read(struct match_reader *r, const struct match_words *more)
{
	const char *text = sentence_take(&r->s);
	const struct word *word = NULL;
	int result;

	for (size_t i = 0; i < COUNT(words) && !word; i++) {
		if (strcmp(words[i].name, text) == 0)
			word = &words[i];
	}
	if (!word)
		return fail_unknown(r, more, text);

	if (word->element != MATCH_ELEMENT_COUNT) {
		result = match_element_say(r, word->element, text);
		if (result < 0)
			return result;
	}
	if (word->stage < r->stage) {
		sentence_fail(&r->s, text, "'%s' comes too late", text);
		error_want(r->s.error,
			"in or out, then on INTERFACE, then ip or ip6, then a protocol, then the rest");
		return -EINVAL;
	}
	result = word->read(r, text);
	if (result < 0)
		return result;
	r->stage = word->stage;
	return 0;
}

int match_contradictions_check(struct match_reader *r)
{
	const struct match *match = &r->match;
	int protocol = match->protocol;
	const char *name = r->said[MATCH_ELEMENT_PROTOCOL];

	if (r->s.ports_word && protocol >= 0 && protocol != IPPROTO_TCP && protocol != IPPROTO_UDP &&
		protocol != IPPROTO_SCTP) {
		sentence_fail(&r->s, r->s.ports_word, "'%.64s' has no ports", name);
		error_want(r->s.error, "tcp, udp, sctp, or no protocol");
		return -EINVAL;
	}
	if (match->tcp_flags && protocol >= 0 && protocol != IPPROTO_TCP) {
		sentence_fail(&r->s, r->said[MATCH_ELEMENT_FLAGS], "'%.64s' has no TCP flags", name);
		error_want(r->s.error, "tcp, or no protocol");
		return -EINVAL;
	}
	if (match->fragment && (r->s.ports_word || match->tcp_flags || match->icmp_type >= 0)) {
		sentence_fail(&r->s, r->said[MATCH_ELEMENT_FRAGMENT],
			"a later fragment has no ports, no flags and no ICMP type");
		error_want(r->s.error, "'fragment' without them");
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
	struct match_reader reader = {.icmp_code = -1};
	int r = sentence_begin(&reader.s, text, error);

	match_init(&reader.match);
	while (r == 0 && sentence_peek(&reader.s))
		r = match_word_read(&reader, NULL);
	if (r == 0)
		r = match_contradictions_check(&reader);
	if (r < 0)
		return r;
	*ret_match = reader.match;
	return 0;
}

/*
 * Printing
 */

void printer_protocol(struct printer *p, const struct match *match, int icmp_code)
{
	const char *name;
	size_t count;

	if (match->protocol >= 0) {
		name = protocol_name((uint8_t)match->protocol);
		if (name)
			printer_put(p, " %s", name);
		else
			printer_put(p, " proto %d", match->protocol);
	}
	if (match->icmp_type >= 0) {
		const struct name *types = icmp_types(match->protocol, &count);

		name = value_name(types, count, match->icmp_type);
		if (name)
			printer_put(p, " %s", name);
		else
			printer_put(p, " %d", match->icmp_type);
		if (icmp_code >= 0)
			printer_put(p, "/%d", icmp_code);
	}
}

void printer_flags(struct printer *p, uint8_t flags)
{
	const char *separator = "";

	for (size_t i = 0; i < COUNT(tcp_flags); i++) {
		if (!(flags & tcp_flags[i].value))
			continue;
		printer_put(p, "%s%s", separator, tcp_flags[i].name);
		separator = ",";
	}
}

int match_print(const struct match *match, char *buffer, size_t size)
{
	struct printer p = {.buffer = buffer, .size = size};
	char text[ADDRESS_TEXT_MAX];

	if (!size)
		return -ENOSPC;
	buffer[0] = '\0';

	if (match->direction != MATCH_BOTH)
		printer_put(&p, " %s", match->direction == MATCH_IN ? "in" : "out");
	if (match->interface[0])
		printer_put(&p, " on %s", match->interface);
	if (match->family)
		printer_put(&p, " %s", match->family == 6 ? "ip6" : "ip");
	printer_protocol(&p, match, -1);

	/* `host` and `port` first: behind `from` or `to`, the port would be theirs. */
	if (match->either.has_prefix)
		printer_put(&p, " host %s", prefix_print(text, sizeof(text), &match->either.prefix));
	printer_ports(&p, &match->either);
	printer_endpoint(&p, "from", &match->from);
	printer_endpoint(&p, "to", &match->to);

	if (match->tcp_flags) {
		printer_put(&p, " flags ");
		printer_flags(&p, match->tcp_flags);
	}
	if (match->vlan >= 0)
		printer_put(&p, " vlan %d", match->vlan);
	if (match->fragment)
		printer_put(&p, " fragment");
	printer_owner(&p, "by", &match->owner);
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
