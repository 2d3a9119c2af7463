/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Rules on sockets: deny, allow. */
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#include "basic/text.h"
#include "model/rule_read.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

const char *const rule_calls[] = {[RULE_CREATE] = "create",
	[RULE_BIND] = "bind",
	[RULE_CONNECT] = "connect",
	[RULE_SEND] = "send",
	NULL};

/* Kinds of sockets that have a word of their own. */
static const struct kind {
	const char *name;
	uint8_t type;
	int protocol;
} kinds[] = {
	{"stream", SOCK_STREAM, -1},
	{"dgram", SOCK_DGRAM, -1},
	{"raw", SOCK_RAW, -1},
	{"tcp", SOCK_STREAM, IPPROTO_TCP},
	{"udp", SOCK_DGRAM, IPPROTO_UDP},
	{"icmp", 0, IPPROTO_ICMP},
	{"icmp6", 0, IPPROTO_ICMPV6},
	{"sctp", 0, IPPROTO_SCTP},
};

/* Which sockets the kernel asks about: all at their creation, these later. */
static const struct asked {
	const char *sockets;
	int protocols[6];
	bool raw, stream, dgram;
} asked[] = {
	[RULE_CREATE] = {NULL, {-1}, true, true, true},
	[RULE_BIND] = {"tcp, udp, stream or dgram", {IPPROTO_TCP, IPPROTO_UDP, IPPROTO_UDPLITE, -1},
		.stream = true, .dgram = true},
	[RULE_CONNECT] = {"tcp, udp, icmp, icmp6, stream or dgram",
		{IPPROTO_TCP, IPPROTO_UDP, IPPROTO_UDPLITE, IPPROTO_ICMP, IPPROTO_ICMPV6, -1}, .stream = true,
		.dgram = true},
	[RULE_SEND] = {"udp or dgram", {IPPROTO_UDP, IPPROTO_UDPLITE, -1}, .dgram = true},
};

struct reader {
	struct sentence *s;
	struct rule *rule;
	const char *socket_word, *owner_word, *to_word; /* what said it */
};

#define want(reader, ...) (error_want((reader)->s->error, __VA_ARGS__), -EINVAL)

/* How a rule on packets goes on. */
static const char *const packet_words[] = {
	"in", "out", "on", "ip", "ip6", "tcp", "udp", "icmp", "icmp6", "from", "to", "port", "host"};

static int call_read(struct reader *r)
{
	const char *word = sentence_peek(r->s);
	unsigned int call = 0;
	int result;

	if (word && strcmp(word, "listen") == 0) {
		sentence_fail(r->s, word, "the kernel does not ask before a socket listens");
		return want(r, "%s bind: what listens has to be bound", rule_verbs[r->rule->verb]);
	}
	result = rule_choice_read(r->s, rule_calls, "a call", "create, bind, connect or send", &call);
	for (size_t i = 0; result < 0 && word && i < COUNT(packet_words); i++)
		if (strcmp(packet_words[i], word) == 0)
			return want(r, "%s create, bind, connect or send; on packets: %s",
				rule_verbs[r->rule->verb], r->rule->verb == RULE_DENY ? "drop" : "accept");
	r->rule->socket.call = (enum rule_call)call;
	return result;
}

/*
 * What kind of socket
 */

static const struct kind *kind_find(const char *name)
{
	for (size_t i = 0; i < COUNT(kinds); i++)
		if (strcmp(kinds[i].name, name) == 0)
			return &kinds[i];
	return NULL;
}

/* proto N|NAME */
static int protocol_read(struct reader *r)
{
	const char *word = sentence_take(r->s);
	uint8_t protocol = 0;

	if (!word || protocol_parse(word, &protocol) < 0)
		return sentence_expected(
			r->s, word, "a protocol", "a number from 0 to 255, or a name such as tcp");
	r->rule->match.protocol = protocol;
	/* as the protocol's own word, so that it is the same rule */
	for (size_t i = 0; i < COUNT(kinds) && !r->rule->socket.type; i++)
		if (kinds[i].protocol == protocol)
			r->rule->socket.type = kinds[i].type;
	return 0;
}

/* Is the kernel's question one that can be about this socket? */
static int asked_check(struct reader *r)
{
	const struct asked *call = &asked[r->rule->socket.call];
	bool found = r->rule->match.protocol < 0;

	for (const int *protocol = call->protocols; *protocol >= 0 && !found; protocol++)
		found = *protocol == r->rule->match.protocol;
	if (r->rule->socket.call == RULE_CREATE)
		return 0;
	if (found && (r->rule->socket.type != SOCK_RAW || call->raw) &&
		(r->rule->socket.type != SOCK_STREAM || call->stream) &&
		(r->rule->socket.type != SOCK_DGRAM || call->dgram))
		return 0;
	sentence_fail(r->s, r->socket_word, "the kernel does not ask before a '%s' socket's %s",
		r->socket_word, rule_calls[r->rule->socket.call]);
	return want(r, "%s, or %s create", call->sockets, rule_verbs[r->rule->verb]);
}

/* [SOCKET] */
static int socket_read(struct reader *r)
{
	const char *word = sentence_peek(r->s), *next;
	const struct kind *kind = word ? kind_find(word) : NULL;
	int result = 0;

	if (word && strcmp(word, "packet") == 0) {
		sentence_fail(r->s, word, "the kernel asks nobody about packet sockets (AF_PACKET)");
		error_want(r->s->error, "raw: raw IP sockets; packet sockets take CAP_NET_RAW");
		return -EINVAL;
	}
	if (!kind && (!word || strcmp(word, "proto") != 0))
		return 0;
	r->socket_word = word;
	sentence_skip(r->s, word);
	if (kind) {
		r->rule->socket.type = kind->type;
		r->rule->match.protocol = kind->protocol;
		next = sentence_peek(r->s);
		if (kind->type == SOCK_RAW && next && strcmp(next, "proto") == 0) {
			sentence_skip(r->s, next);
			result = protocol_read(r);
		}
	} else {
		result = protocol_read(r);
	}
	r->s->protocol = r->rule->match.protocol;
	if (result == 0 && r->rule->match.protocol == IPPROTO_ICMP)
		result = sentence_family(r->s, word, 4);
	if (result == 0 && r->rule->match.protocol == IPPROTO_ICMPV6)
		result = sentence_family(r->s, word, 6);
	return result < 0 ? result : asked_check(r);
}

static int family_read(struct reader *r)
{
	const char *word = sentence_peek(r->s);

	if (!word || (strcmp(word, "ip") != 0 && strcmp(word, "ip6") != 0))
		return 0;
	sentence_skip(r->s, word);
	r->rule->match.family = word[2] ? 6 : 4;
	return sentence_family(r->s, word, r->rule->match.family);
}

/*
 * Terms, in any order
 */

static int twice(struct reader *r, const char *word, const char *want)
{
	sentence_fail(r->s, word, "a second '%.64s'", word);
	return want(r, "%s", want);
}

static int by_read(struct reader *r, const char *word)
{
	if (r->owner_word)
		return twice(r, word, "one owner; another rule for another one");
	r->owner_word = word;
	return rule_owner_read(r->s, word, r->rule);
}

static int not_read(struct reader *r, const char *word)
{
	const char *by = sentence_take(r->s);

	(void)word;
	if (!by || strcmp(by, "by") != 0)
		return sentence_expected(r->s, by, "'by' behind 'not'", "not by user NAME");
	r->rule->owner_not = true;
	return by_read(r, by);
}

static int to_read(struct reader *r, const char *word)
{
	if (r->to_word)
		return twice(r, word, "one address or prefix; another rule for another one");
	r->to_word = word;
	if (r->rule->socket.call == RULE_CREATE) {
		sentence_fail(r->s, word, "a socket that is created has no address yet");
		return want(r, "connect, send or bind, or no 'to'");
	}
	return sentence_endpoint(r->s, &r->rule->match.to);
}

static const struct term {
	const char *name;
	int (*read)(struct reader *r, const char *word);
} terms[] = {
	{"by", by_read},
	{"not", not_read},
	{"to", to_read},
};

/* Words of other sentences. */
static const struct {
	const char *name, *want;
} foreign_words[] = {
	{"from", "did you mean 'to'?  It is the address that is bound, connected or sent to"},
	{"on", "did you mean 'to'?  It is the address that is bound, connected or sent to"},
	{"at", "did you mean 'to'?  It is the address that is bound, connected or sent to"},
	{"port", "did you mean 'to port'?"},
	{"host", "did you mean 'to'?"},
};

static int fail_unknown(struct reader *r, const char *word)
{
	const char *known[COUNT(terms) + COUNT(kinds) + 4] = {"proto", "ip", "ip6"}, *nearest;
	size_t count = 3;

	for (size_t i = 0; i < COUNT(terms); i++)
		known[count++] = terms[i].name;
	for (size_t i = 0; i < COUNT(kinds); i++)
		known[count++] = kinds[i].name;
	nearest = text_nearest(word, known);
	for (size_t i = 0; i < count; i++) {
		if (strcmp(known[i], word) != 0)
			continue;
		sentence_fail(r->s, word, "'%s' comes too late", word);
		return want(r, "the call, then ip or ip6, then the kind of socket, then the rest");
	}
	sentence_fail(r->s, word, "unknown word '%.64s'", word);
	for (size_t i = 0; i < COUNT(foreign_words); i++)
		if (strcmp(foreign_words[i].name, word) == 0)
			return want(r, "%s", foreign_words[i].want);
	if (nearest)
		return want(r, "did you mean '%s'?", nearest);
	return want(r, "a kind of socket, by OWNER, not by OWNER, to ADDRESS, or \"a comment\"");
}

static int term_read(struct reader *r)
{
	const char *word = sentence_peek(r->s);

	if (word[0] == '"')
		return rule_comment_read(r->s, word, r->rule);
	sentence_skip(r->s, word);
	for (size_t i = 0; i < COUNT(terms); i++)
		if (strcmp(terms[i].name, word) == 0)
			return terms[i].read(r, word);
	return fail_unknown(r, word);
}

/* What each word allows, but no call can be. */
static int contradictions_check(struct reader *r)
{
	int protocol = r->rule->match.protocol;

	if (!r->s->ports_word || (protocol != IPPROTO_ICMP && protocol != IPPROTO_ICMPV6))
		return 0;
	sentence_fail(r->s, r->s->ports_word, "'%s' has no ports", r->socket_word);
	return want(r, "tcp, udp, or no protocol");
}

int rule_socket_read(struct sentence *s, struct rule *rule)
{
	struct reader reader = {.s = s, .rule = rule};
	int r = call_read(&reader);

	if (r == 0)
		r = family_read(&reader);
	if (r == 0)
		r = socket_read(&reader);
	while (r == 0 && sentence_peek(s))
		r = term_read(&reader);
	return r == 0 ? contradictions_check(&reader) : r;
}

/*
 * Printing
 */

static void socket_put(struct printer *p, const struct rule *rule)
{
	const char *name;

	for (size_t i = 0; i < COUNT(kinds); i++)
		if (kinds[i].type == rule->socket.type && kinds[i].protocol == rule->match.protocol) {
			printer_put(p, " %s", kinds[i].name);
			return;
		}
	if (rule->socket.type == SOCK_RAW)
		printer_put(p, " raw");
	name = rule->match.protocol >= 0 ? protocol_name((uint8_t)rule->match.protocol) : NULL;
	if (name)
		printer_put(p, " proto %s", name);
	else if (rule->match.protocol >= 0)
		printer_put(p, " proto %d", rule->match.protocol);
}

void rule_socket_put(struct printer *p, const struct rule *rule)
{
	printer_put(p, " %s", rule_calls[rule->socket.call]);
	if (rule->match.family)
		printer_put(p, " %s", rule->match.family == 6 ? "ip6" : "ip");
	socket_put(p, rule);
	printer_owner(p, rule->owner_not ? "not by" : "by", &rule->match.owner);
	printer_endpoint(p, "to", &rule->match.to);
}

static uint8_t family_of(const struct rule *rule)
{
	return rule->match.to.has_prefix ? rule->match.to.prefix.address.family : rule->match.family;
}

bool rule_socket_covers(const struct rule *wide, const struct rule *narrow)
{
	return wide->socket.call == narrow->socket.call &&
	       (!family_of(wide) || family_of(wide) == family_of(narrow)) &&
	       (!wide->socket.type || wide->socket.type == narrow->socket.type) &&
	       (wide->match.protocol < 0 || wide->match.protocol == narrow->match.protocol) &&
	       rule_owner_covers(wide, narrow) && rule_prefix_covers(&wide->match.to, &narrow->match.to) &&
	       rule_ports_cover(&wide->match.to, &narrow->match.to);
}
