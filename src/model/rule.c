/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include "model/rule.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "basic/text.h"
#include "model/sentence.h"

#define CONTAINER_DIGITS 64

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

const char *const rule_verbs[] = {[RULE_DENY] = "deny", [RULE_ALLOW] = "allow", NULL};
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
	struct sentence s;
	struct rule rule;
	const char *socket_word, *owner_word, *to_word; /* what said it */
};

#define want(reader, ...) (error_want((reader)->s.error, __VA_ARGS__), -EINVAL)

/* The place of a word in a list, or an error that lists all of it. */
static int choice_read(struct reader *r, const char *const *known, const char *expected, const char *want,
	unsigned int *ret_choice)
{
	const char *word = sentence_take(&r->s), *nearest;

	for (unsigned int i = 0; word && known[i]; i++) {
		if (strcmp(known[i], word) == 0) {
			*ret_choice = i;
			return 0;
		}
	}
	sentence_expected(&r->s, word, expected, want);
	nearest = word ? text_nearest(word, known) : NULL;
	if (nearest)
		return want(r, "did you mean '%s'?", nearest);
	return -EINVAL;
}

static int call_read(struct reader *r)
{
	const char *word = sentence_peek(&r->s);
	unsigned int call = 0;
	int result;

	if (word && strcmp(word, "listen") == 0) {
		sentence_fail(&r->s, word, "the kernel does not ask before a socket listens");
		return want(r, "%s bind: what listens has to be bound", rule_verbs[r->rule.verb]);
	}
	result = choice_read(r, rule_calls, "a call", "create, bind, connect or send", &call);
	r->rule.socket.call = (enum rule_call)call;
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
	const char *word = sentence_take(&r->s);
	uint8_t protocol = 0;

	if (!word || protocol_parse(word, &protocol) < 0)
		return sentence_expected(
			&r->s, word, "a protocol", "a number from 0 to 255, or a name such as tcp");
	r->rule.match.protocol = protocol;
	/* as the protocol's own word, so that it is the same rule */
	for (size_t i = 0; i < COUNT(kinds) && !r->rule.socket.type; i++)
		if (kinds[i].protocol == protocol)
			r->rule.socket.type = kinds[i].type;
	return 0;
}

/* Is the kernel's question one that can be about this socket? */
static int asked_check(struct reader *r)
{
	const struct asked *call = &asked[r->rule.socket.call];
	bool found = r->rule.match.protocol < 0;

	for (const int *protocol = call->protocols; *protocol >= 0 && !found; protocol++)
		found = *protocol == r->rule.match.protocol;
	if (r->rule.socket.call == RULE_CREATE)
		return 0;
	if (found && (r->rule.socket.type != SOCK_RAW || call->raw) &&
		(r->rule.socket.type != SOCK_STREAM || call->stream) &&
		(r->rule.socket.type != SOCK_DGRAM || call->dgram))
		return 0;
	sentence_fail(&r->s, r->socket_word, "the kernel does not ask before a '%s' socket's %s",
		r->socket_word, rule_calls[r->rule.socket.call]);
	return want(r, "%s, or %s create", call->sockets, rule_verbs[r->rule.verb]);
}

/* [SOCKET] */
static int socket_read(struct reader *r)
{
	const char *word = sentence_peek(&r->s), *next;
	const struct kind *kind = word ? kind_find(word) : NULL;
	int result = 0;

	if (word && strcmp(word, "packet") == 0) {
		sentence_fail(&r->s, word, "the kernel asks nobody about packet sockets (AF_PACKET)");
		error_want(r->s.error, "raw: raw IP sockets; packet sockets take CAP_NET_RAW");
		return -EINVAL;
	}
	if (!kind && (!word || strcmp(word, "proto") != 0))
		return 0;
	r->socket_word = word;
	sentence_skip(&r->s, word);
	if (kind) {
		r->rule.socket.type = kind->type;
		r->rule.match.protocol = kind->protocol;
		next = sentence_peek(&r->s);
		if (kind->type == SOCK_RAW && next && strcmp(next, "proto") == 0) {
			sentence_skip(&r->s, next);
			result = protocol_read(r);
		}
	} else {
		result = protocol_read(r);
	}
	r->s.protocol = r->rule.match.protocol;
	if (result == 0 && r->rule.match.protocol == IPPROTO_ICMP)
		result = sentence_family(&r->s, word, 4);
	if (result == 0 && r->rule.match.protocol == IPPROTO_ICMPV6)
		result = sentence_family(&r->s, word, 6);
	return result < 0 ? result : asked_check(r);
}

static int family_read(struct reader *r)
{
	const char *word = sentence_peek(&r->s);

	if (!word || (strcmp(word, "ip") != 0 && strcmp(word, "ip6") != 0))
		return 0;
	sentence_skip(&r->s, word);
	r->rule.match.family = word[2] ? 6 : 4;
	return sentence_family(&r->s, word, r->rule.match.family);
}

/*
 * Terms, in any order
 */

static int twice(struct reader *r, const char *word, const char *want)
{
	sentence_fail(&r->s, word, "a second '%.64s'", word);
	return want(r, "%s", want);
}

static int by_read(struct reader *r, const char *word)
{
	int result;

	if (r->owner_word)
		return twice(r, word, "one owner; another rule for another one");
	r->owner_word = word;
	result = sentence_owner(&r->s, &r->rule.match.owner);
	if (result < 0 || r->rule.match.owner.kind != OWNER_CONTAINER ||
		strlen(r->rule.match.owner.text) == CONTAINER_DIGITS)
		return result;
	/* the kernel compares a hash of it */
	sentence_fail(&r->s, word, "a rule cannot go by the beginning of a container's id");
	return want(r, "all %d digits of it, or its cgroup", CONTAINER_DIGITS);
}

static int not_read(struct reader *r, const char *word)
{
	const char *by = sentence_take(&r->s);

	(void)word;
	if (!by || strcmp(by, "by") != 0)
		return sentence_expected(&r->s, by, "'by' behind 'not'", "not by user NAME");
	r->rule.owner_not = true;
	return by_read(r, by);
}

static int to_read(struct reader *r, const char *word)
{
	if (r->to_word)
		return twice(r, word, "one address or prefix; another rule for another one");
	r->to_word = word;
	if (r->rule.socket.call == RULE_CREATE) {
		sentence_fail(&r->s, word, "a socket that is created has no address yet");
		return want(r, "connect, send or bind, or no 'to'");
	}
	return sentence_endpoint(&r->s, &r->rule.match.to);
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
		sentence_fail(&r->s, word, "'%s' comes too late", word);
		return want(r, "the call, then ip or ip6, then the kind of socket, then the rest");
	}
	sentence_fail(&r->s, word, "unknown word '%.64s'", word);
	for (size_t i = 0; i < COUNT(foreign_words); i++)
		if (strcmp(foreign_words[i].name, word) == 0)
			return want(r, "%s", foreign_words[i].want);
	if (nearest)
		return want(r, "did you mean '%s'?", nearest);
	return want(r, "a kind of socket, by OWNER, not by OWNER, to ADDRESS, or \"a comment\"");
}

/* What begins with a quote ends the sentence. */
static int comment_read(struct reader *r, const char *word)
{
	size_t begin = (size_t)(word - r->s.text) + 1, end = begin, bytes;
	const char *sentence = r->s.sentence;

	for (; sentence[end] && sentence[end] != '"'; end += bytes) {
		bytes = text_utf8_length(sentence + end);
		if (!bytes || (unsigned char)sentence[end] < ' ' || sentence[end] == 0x7f) {
			sentence_fail(&r->s, r->s.text + end, "a comment is text in UTF-8, on one line");
			return -EINVAL;
		}
	}
	if (!sentence[end]) {
		sentence_fail(&r->s, word, "the comment has no end");
		return want(r, "a quote behind it, too");
	}
	if (end - begin >= RULE_COMMENT_MAX) {
		sentence_fail(&r->s, word, "the comment is too long");
		return want(r, "at most %d bytes", RULE_COMMENT_MAX - 1);
	}
	if (end == begin) {
		sentence_fail(&r->s, word, "the comment is empty");
		return want(r, "text between the quotes, or no comment");
	}
	memcpy(r->rule.comment, sentence + begin, end - begin);
	end += 1 + strspn(sentence + end + 1, " \t\r\n");
	if (sentence[end]) {
		sentence_fail(&r->s, r->s.text + end, "something stands behind the comment");
		return want(r, "the comment at the end");
	}
	r->s.offset = r->s.length;
	return 0;
}

static int term_read(struct reader *r)
{
	const char *word = sentence_peek(&r->s);

	if (word[0] == '"')
		return comment_read(r, word);
	sentence_skip(&r->s, word);
	for (size_t i = 0; i < COUNT(terms); i++)
		if (strcmp(terms[i].name, word) == 0)
			return terms[i].read(r, word);
	return fail_unknown(r, word);
}

/* What each word allows, but no call can be. */
static int contradictions_check(struct reader *r)
{
	int protocol = r->rule.match.protocol;

	if (!r->s.ports_word || (protocol != IPPROTO_ICMP && protocol != IPPROTO_ICMPV6))
		return 0;
	sentence_fail(&r->s, r->s.ports_word, "'%s' has no ports", r->socket_word);
	return want(r, "tcp, udp, or no protocol");
}

int rule_parse(const char *text, struct rule *ret_rule, struct error *error)
{
	struct reader reader = {.rule = {.match = {.protocol = -1, .icmp_type = -1, .vlan = -1}}};
	unsigned int verb = 0;
	int r = sentence_begin(&reader.s, text, error);

	if (r == 0 && reader.s.length >= RULE_TEXT_MAX) {
		error_set(error, -EINVAL, "the rule is too long");
		error_want(error, "at most %d bytes", RULE_TEXT_MAX - 1);
		return -EINVAL;
	}
	if (r == 0)
		r = choice_read(&reader, rule_verbs, "a rule", "deny or allow", &verb);
	reader.rule.verb = (enum rule_verb)verb;
	if (r == 0)
		r = call_read(&reader);
	if (r == 0)
		r = family_read(&reader);
	if (r == 0)
		r = socket_read(&reader);
	while (r == 0 && sentence_peek(&reader.s))
		r = term_read(&reader);
	if (r == 0)
		r = contradictions_check(&reader);
	if (r < 0)
		return r;
	*ret_rule = reader.rule;
	return 0;
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

int rule_print(const struct rule *rule, char *buffer, size_t size)
{
	struct printer p = {.buffer = buffer, .size = size};

	if (!size)
		return -ENOSPC;
	buffer[0] = '\0';
	printer_put(&p, "%s %s", rule_verbs[rule->verb], rule_calls[rule->socket.call]);
	if (rule->match.family)
		printer_put(&p, " %s", rule->match.family == 6 ? "ip6" : "ip");
	socket_put(&p, rule);
	printer_owner(&p, rule->owner_not ? "not by" : "by", &rule->match.owner);
	printer_endpoint(&p, "to", &rule->match.to);
	if (rule->comment[0])
		printer_put(&p, " \"%s\"", rule->comment);
	return p.full ? -ENOSPC : 0;
}

/*
 * Which rule hides which
 */

static uint8_t family_of(const struct rule *rule)
{
	return rule->match.to.has_prefix ? rule->match.to.prefix.address.family : rule->match.family;
}

static bool ports_cover(const struct endpoint *wide, const struct endpoint *narrow)
{
	if (!wide->port_count)
		return true;
	for (unsigned int n = 0; n < narrow->port_count; n++) {
		bool found = false;

		for (unsigned int w = 0; w < wide->port_count && !found; w++)
			found = wide->ports[w].low <= narrow->ports[n].low &&
			        wide->ports[w].high >= narrow->ports[n].high;
		if (!found)
			return false;
	}
	return narrow->port_count;
}

static bool prefix_covers(const struct endpoint *wide, const struct endpoint *narrow)
{
	return !wide->has_prefix || (narrow->has_prefix && narrow->prefix.length >= wide->prefix.length &&
					    prefix_contains(&wide->prefix, &narrow->prefix.address));
}

/* Is it the same owner, or a cgroup above the other one? */
static bool owner_covers(const struct rule *wide, const struct rule *narrow)
{
	const struct owner_match *w = &wide->match.owner, *n = &narrow->match.owner;
	size_t length = strlen(w->text);

	if (w->kind == OWNER_ANY)
		return true;
	if (w->kind != n->kind || wide->owner_not != narrow->owner_not)
		return false;
	if (w->kind == OWNER_PID || w->kind == OWNER_USER || w->kind == OWNER_GROUP)
		return w->number == n->number;
	if (strcmp(w->text, n->text) == 0)
		return true;
	return w->kind == OWNER_CGROUP && !wide->owner_not && strncmp(w->text, n->text, length) == 0 &&
	       n->text[length] == '/';
}

bool rule_covers(const struct rule *wide, const struct rule *narrow)
{
	return wide->socket.call == narrow->socket.call &&
	       (!family_of(wide) || family_of(wide) == family_of(narrow)) &&
	       (!wide->socket.type || wide->socket.type == narrow->socket.type) &&
	       (wide->match.protocol < 0 || wide->match.protocol == narrow->match.protocol) &&
	       owner_covers(wide, narrow) && prefix_covers(&wide->match.to, &narrow->match.to) &&
	       ports_cover(&wide->match.to, &narrow->match.to);
}
