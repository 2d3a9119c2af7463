// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
#include "model/forward.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "basic/text.h"
#include "model/forward_read.h"
#include "model/rule_read.h"

const char *const forward_kinds[] = {[FORWARD_ROUTE] = "route",
	[FORWARD_CONNECT] = "connect",
	[FORWARD_SWITCH] = "switch",
	[FORWARD_CHAIN] = "chain",
	NULL};

_Static_assert(FORWARD_COMMENT_MAX == RULE_COMMENT_MAX, "comments are read in one place");

#define want(s, ...) (error_want((s)->error, __VA_ARGS__), -EINVAL)

static int too_long(const struct sentence *s)
{
	if (s->length < FORWARD_TEXT_MAX)
		return 0;
	error_set(s->error, -EINVAL, "the sentence is too long");
	return want(s, "at most %d bytes", FORWARD_TEXT_MAX - 1);
}

static int comment_read(struct sentence *s, char comment[FORWARD_COMMENT_MAX])
{
	const char *word = sentence_peek(s);
	struct rule rule;
	int r;

	if (!word || *word != '"')
		return 0;
	r = rule_comment_read(s, word, &rule);
	if (r == 0)
		memcpy(comment, rule.comment, FORWARD_COMMENT_MAX);
	return r;
}

static int end_read(struct sentence *s, const char *all)
{
	const char *word = sentence_peek(s);

	if (!word)
		return 0;
	sentence_fail(s, word, "unknown word '%.64s'", word);
	return want(s, "%s", all);
}

/*
 * Forwarding
 */

static bool interface_is_there(const struct forward_text *forward, const char *name)
{
	for (size_t i = 0; i < forward->interface_count; i++)
		if (strcmp(forward->interfaces[i], name) == 0)
			return true;
	return false;
}

/* The next word, as one more interface. */
static int interface_read(struct sentence *s, struct forward_text *forward)
{
	const char *word = sentence_list_peek(s);
	size_t length = word ? strlen(word) : 0;

	if (!word || word[strcspn(word, "/:*?[\"@,")] || strcmp(word, ".") == 0 || strcmp(word, "..") == 0)
		return sentence_expected(s, word, "an interface", "the name of one, such as eth0");
	if (length >= MATCH_INTERFACE_MAX) {
		sentence_fail(s, word, "the name '%.64s' is too long", word);
		return want(s, "at most %d bytes", MATCH_INTERFACE_MAX - 1);
	}
	if (interface_is_there(forward, word)) {
		sentence_fail(s, word, "a second '%s'", word);
		return want(s, "each interface once");
	}
	if (forward->interface_count == FORWARD_INTERFACES_MAX) {
		sentence_fail(s, word, "too many interfaces");
		return want(s, "at most %d", FORWARD_INTERFACES_MAX);
	}
	sentence_skip(s, word);
	memcpy(forward->interfaces[forward->interface_count++], word, length + 1);
	return 0;
}

static int interfaces_read(struct sentence *s, struct forward_text *forward)
{
	int r;

	do
		r = interface_read(s, forward);
	while (r == 0 && sentence_list_goes_on(s));
	return r;
}

static int read_route(struct sentence *s, struct forward_text *forward)
{
	forward->kind = FORWARD_ROUTE;
	return sentence_take_word(s, "route", "from eth0 by route");
}

static int read_connect(struct sentence *s, struct forward_text *forward)
{
	const char *word;
	int r = interface_read(s, forward);

	forward->kind = FORWARD_CONNECT;
	word = r == 0 ? sentence_peek(s) : NULL;
	if (!word || strcmp(word, "both") != 0)
		return r;
	sentence_skip(s, word);
	forward->both_ways = true;
	return sentence_take_word(s, "ways", "from eth0 to eth1 both ways");
}

static int read_chain(struct sentence *s, struct forward_text *forward)
{
	int r = interfaces_read(s, forward);

	forward->kind = FORWARD_CHAIN;
	if (r == 0)
		r = sentence_take_word(s, "to", "from eth0 via veth1, veth2 to eth1");
	return r < 0 ? r : interface_read(s, forward);
}

static int read_from(struct sentence *s, struct forward_text *forward)
{
	static const struct {
		const char *word;
		int (*read)(struct sentence *s, struct forward_text *forward);
	} ways[] = {{"by", read_route}, {"to", read_connect}, {"via", read_chain}};
	const char *word;
	int r = interface_read(s, forward);

	if (r < 0)
		return r;
	word = sentence_take(s);
	for (size_t i = 0; word && i < sizeof(ways) / sizeof(ways[0]); i++)
		if (strcmp(ways[i].word, word) == 0)
			return ways[i].read(s, forward);
	return sentence_expected(
		s, word, "where to", "by route, to INTERFACE [both ways], or via INTERFACE to INTERFACE");
}

static int read_among(struct sentence *s, struct forward_text *forward)
{
	int r = interfaces_read(s, forward);

	forward->kind = FORWARD_SWITCH;
	if (r < 0 || forward->interface_count > 1)
		return r;
	sentence_fail(s, NULL, "one interface alone cannot be switched");
	return want(s, "at least two: among eth0, eth1");
}

int forward_read(struct sentence *s, struct forward_text *forward)
{
	static const char *const words[] = {"from", "among", NULL};
	static const char all[] =
		"from INTERFACE by route, from INTERFACE to INTERFACE [both ways], from "
		"INTERFACE via INTERFACE, INTERFACE to INTERFACE, among INTERFACE, INTERFACE";
	unsigned int choice = 0;
	int r = too_long(s);

	if (r == 0)
		r = rule_choice_read(s, words, "what is forwarded", all, &choice);
	if (r == 0)
		r = choice ? read_among(s, forward) : read_from(s, forward);
	if (r == 0)
		r = comment_read(s, forward->comment);
	return r < 0 ? r
	             : end_read(s, forward->kind == FORWARD_CONNECT && !forward->both_ways
					   ? "'both ways', or a \"comment\""
					   : "a \"comment\", or nothing more");
}

int forward_parse(const char *text, struct forward_text *ret_forward, struct error *error)
{
	struct forward_text forward = {};
	struct sentence s;
	int r = sentence_begin(&s, text, error);

	if (r == 0)
		r = forward_read(&s, &forward);
	if (r == 0)
		*ret_forward = forward;
	return r;
}

static void put_list(struct printer *p, const struct forward_text *forward, size_t first, size_t count)
{
	for (size_t i = 0; i < count; i++)
		printer_put(p, "%s %s", i ? "," : "", forward->interfaces[first + i]);
}

void forward_put(struct printer *p, const struct forward_text *forward)
{
	size_t count = forward->interface_count;

	if (forward->kind == FORWARD_SWITCH) {
		printer_put(p, " among");
		put_list(p, forward, 0, count);
	} else {
		printer_put(p, " from %s", forward->interfaces[0]);
	}
	if (forward->kind == FORWARD_ROUTE)
		printer_put(p, " by route");
	if (forward->kind == FORWARD_CHAIN) {
		printer_put(p, " via");
		put_list(p, forward, 1, count - 2);
	}
	if (forward->kind == FORWARD_CONNECT || forward->kind == FORWARD_CHAIN)
		printer_put(p, " to %s", forward->interfaces[count - 1]);
	if (forward->both_ways)
		printer_put(p, " both ways");
	if (forward->comment[0])
		printer_put(p, " \"%s\"", forward->comment);
}

int forward_print(const struct forward_text *forward, char *buffer, size_t size)
{
	struct printer p = {.buffer = buffer, .size = size};

	if (!size)
		return -ENOSPC;
	buffer[0] = '\0';
	forward_put(&p, forward);
	return p.full ? -ENOSPC : 0;
}

size_t forward_sources(const struct forward_text *forward)
{
	switch (forward->kind) {
	case FORWARD_ROUTE:
		return 1;
	case FORWARD_CONNECT:
		return forward->both_ways ? 2 : 1;
	case FORWARD_CHAIN:
		return forward->interface_count - 1;
	default:
		return forward->interface_count;
	}
}

const char *forward_conflict(const struct forward_text *a, const struct forward_text *b)
{
	for (size_t i = 0; i < forward_sources(a); i++)
		for (size_t j = 0; j < forward_sources(b); j++)
			if (strcmp(a->interfaces[i], b->interfaces[j]) == 0)
				return a->interfaces[i];
	return NULL;
}

/*
 * Steering
 */

static int fail_cpus(struct sentence *s, const char *word)
{
	return sentence_expected(s, word, "CPUs", "numbers and ranges with commas, such as 0-3,6");
}

/* N or N-N; `text` is overwritten. */
static int cpus_add(struct sentence *s, char *text, uint64_t *cpus)
{
	char *dash = strchr(text, '-');
	unsigned int low = 0, high = 0;
	int r, q;

	if (dash)
		*dash = '\0';
	r = number_parse(text, STEER_CPUS_MAX - 1, &low);
	q = dash ? number_parse(dash + 1, STEER_CPUS_MAX - 1, &high) : 0;
	if (dash)
		*dash = '-';
	else
		high = low;
	if (r == -EINVAL || q == -EINVAL)
		return fail_cpus(s, text);
	if (r < 0 || q < 0) {
		sentence_fail(s, text, "there is no CPU %.64s", text);
		return want(s, "0 to %d", STEER_CPUS_MAX - 1);
	}
	if (low > high) {
		sentence_fail(s, text, "the range %u-%u runs backwards", low, high);
		return want(s, "%u-%u", high, low);
	}
	for (; low <= high; low++)
		cpus[low / 64] |= 1ULL << low % 64;
	return 0;
}

static int cpus_read(struct sentence *s, uint64_t *cpus)
{
	char *list = sentence_take(s);
	int r = 0;

	if (!list)
		return fail_cpus(s, NULL);
	while (r == 0 && list) {
		char *element = list_take(&list);

		if (*element)
			r = cpus_add(s, element, cpus);
		else
			r = fail_cpus(s, element);
	}
	return r;
}

/* Does "to cpus" come next?  Then it is taken. */
static bool cpus_come(struct sentence *s, const char *word)
{
	static const char space[] = " \t\r\n";
	const char *behind;

	if (strcmp(word, "to") != 0)
		return false;
	behind = s->sentence + (word - s->text) + strlen(word);
	behind += strspn(behind, space);
	if (strcspn(behind, space) != strlen("cpus") || strncmp(behind, "cpus", strlen("cpus")) != 0)
		return false;
	sentence_skip(s, word);
	sentence_take(s);
	return true;
}

/* Before the match goes on: is it said what could not be seen where packets are steered? */
static int steer_word_check(struct match_reader *m, const char *word)
{
	static const char stands[] = "what stands in the packet, then to cpus LIST [by flow|rule]";
	static const struct {
		const char *words[8];
		const char *what;
	} refused[] = {
		{{"by", "not"}, "whose a packet is, is not known where it is steered"},
		{{"vlan", "untagged"}, "the tag of a VLAN may stand beside the packet where it is steered"},
		{{"state", "mark", "matching", "log", "with", "per", "burst"}, NULL},
		{{"for"}, "a sentence that steers does not end by itself"},
	};

	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++)
		for (const char *const *known = refused[i].words; *known; known++)
			if (strcmp(*known, word) == 0) {
				if (refused[i].what)
					sentence_fail(&m->s, word, "%s", refused[i].what);
				else
					sentence_fail(
						&m->s, word, "packets are not steered by '%.64s'", word);
				return want(&m->s, "%s", stands);
			}
	return 0;
}

/* 0: the match goes on with this word, 1: it ends before it (and "to cpus" is taken), or -EINVAL. */
static int steer_match_ends(struct match_reader *m, const char *word)
{
	return cpus_come(&m->s, word) ? 1 : steer_word_check(m, word);
}

static int steer_place_check(struct match_reader *m, const struct match *match)
{
	if (match->direction == MATCH_IN && match->interface[0])
		return 0;
	sentence_fail(&m->s, m->said[MATCH_ELEMENT_DIRECTION],
		match->direction == MATCH_OUT ? "what leaves is not steered"
					      : "where packets come in is not said");
	return want(&m->s, "in on INTERFACE …");
}

static int by_read(struct sentence *s, bool *ret_by_rule)
{
	static const char *const ways[] = {"flow", "rule", NULL};
	const char *word = sentence_peek(s);
	unsigned int choice = 0;
	int r;

	if (!word || strcmp(word, "by") != 0)
		return 0;
	sentence_skip(s, word);
	r = rule_choice_read(s, ways, "how the CPUs are shared", "by flow or by rule", &choice);
	*ret_by_rule = choice == 1;
	return r;
}

int steer_read(struct match_reader *m, struct rule *rule)
{
	const char *word;
	int r = too_long(&m->s);

	if (r == 0)
		r = rule_match_read(m, rule, steer_match_ends);
	if (r == 0)
		return sentence_expected(&m->s, NULL, "'to cpus'", "to cpus 0-3, for example");
	if (r > 0)
		r = steer_place_check(m, &rule->match);
	if (r == 0)
		r = cpus_read(&m->s, rule->steer->cpus);
	if (r == 0)
		r = by_read(&m->s, &rule->steer->by_rule);
	word = r == 0 ? sentence_peek(&m->s) : NULL;
	if (word && *word == '"')
		r = rule_comment_read(&m->s, word, rule);
	return r < 0 ? r : end_read(&m->s, "by flow or by rule; a \"comment\"");
}

static bool cpu_is_in(const uint64_t *cpus, unsigned int cpu)
{
	return cpu < STEER_CPUS_MAX && cpus[cpu / 64] >> cpu % 64 & 1;
}

void steer_put(struct printer *p, const struct rule *rule)
{
	const struct steer_text *steer = rule->steer;
	const char *separator = " to cpus ";

	rule_match_put(p, rule);
	for (unsigned int cpu = 0; cpu < STEER_CPUS_MAX; cpu++) {
		unsigned int last = cpu;

		if (!cpu_is_in(steer->cpus, cpu))
			continue;
		while (cpu_is_in(steer->cpus, last + 1))
			last++;
		printer_put(p, "%s%u", separator, cpu);
		if (last > cpu)
			printer_put(p, "-%u", last);
		cpu = last;
		separator = ",";
	}
	if (steer->by_rule)
		printer_put(p, " by rule");
}
