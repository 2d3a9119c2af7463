/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Rules on packets: what stands behind the verb. */
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "basic/text.h"
#include "basic/units.h"
#include "model/rule_packet.h"
#include "model/set.h"
#include "model/shape_read.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

#define SECOND 1000000000ULL

#define LIMIT_PACKETS_MAX     1000000000U    /* a period */
#define LIMIT_BITS_MAX        1000000000000U /* a second */
#define LIMIT_CONNECTIONS_MAX 1000000U
#define LIMIT_BURST_MIN       1514U          /* bytes: a full packet of Ethernet */
#define LIMIT_BURST_MAX       1000000000000U /* packets, bytes */
#define LIMIT_BURST_USUAL_MIN                                                                                \
	131072U /* without `burst`: packets are as large as 64 KiB before they are cut */

#define FOR_MIN SECOND
#define FOR_MAX (3650 * 86400 * SECOND)

/* RFC 2474, 2597, 3246, 5865, 8622 */
static const struct name dscp_names[] = {
	{"cs0", 0},
	{"cs1", 8},
	{"cs2", 16},
	{"cs3", 24},
	{"cs4", 32},
	{"cs5", 40},
	{"cs6", 48},
	{"cs7", 56},
	{"af11", 10},
	{"af12", 12},
	{"af13", 14},
	{"af21", 18},
	{"af22", 20},
	{"af23", 22},
	{"af31", 26},
	{"af32", 28},
	{"af33", 30},
	{"af41", 34},
	{"af42", 36},
	{"af43", 38},
	{"ef", 46},
	{"va", 44},
	{"le", 1},
};

static const struct name states[] = {
	{"new", 1 << POLICY_STATE_NEW},
	{"established", 1 << POLICY_STATE_ESTABLISHED},
	{"related", 1 << POLICY_STATE_RELATED},
	{"invalid", 1 << POLICY_STATE_INVALID},
};

static const struct name reject_answers[] = {
	{"reset", POLICY_REJECT_RESET},
	{"port-unreachable", POLICY_REJECT_PORT},
	{"host-unreachable", POLICY_REJECT_HOST},
	{"prohibited", POLICY_REJECT_PROHIBITED},
};

const struct rate_period rate_periods[] = {
	{"s", SECOND},
	{"m", 60 * SECOND},
	{"h", 3600 * SECOND},
	{"d", 86400 * SECOND},
	{NULL, 0},
};

struct reader {
	struct match_reader *m;
	struct rule *rule;
	struct rule_packet *packet; /* rule's */
	const char *verb;
	const char *rate_word, *burst_word; /* of a limit, understood when both are known */
	bool rate_is_connections;
	const char *class_word;
	struct shape_reader shape;
	const char *reset_word;
	const char *fragment_word;
};

#define want(reader, ...) (error_want((reader)->m->s.error, __VA_ARGS__), -EINVAL)
#define fail(reader, ...) sentence_fail(&(reader)->m->s, __VA_ARGS__)

static char *word_take(struct reader *r)
{
	return sentence_take(&r->m->s);
}

static char *word_peek(struct reader *r)
{
	return sentence_peek(&r->m->s);
}

static int expected(struct reader *r, const char *word, const char *expected, const char *want)
{
	return sentence_expected(&r->m->s, word, expected, want);
}

const char *dscp_name(int dscp)
{
	return value_name(dscp_names, COUNT(dscp_names), dscp);
}

const char *reject_answer_name(enum policy_reject answer)
{
	return value_name(reject_answers, COUNT(reject_answers), (int)answer);
}

void printer_states(struct printer *p, uint8_t set)
{
	const char *separator = "";

	for (size_t i = 0; i < COUNT(states); i++) {
		if (!(set & states[i].value))
			continue;
		printer_put(p, "%s%s", separator, states[i].name);
		separator = ",";
	}
}

/* One of a table's names, or an error that names the nearest or all. */
static int name_read(struct reader *r, const char *word, const struct name *names, size_t count,
	const char *what, const char *all, int *ret_value)
{
	const struct name *name = word ? name_find(names, count, word) : NULL;
	const char *nearest;

	if (name) {
		*ret_value = name->value;
		return 0;
	}
	expected(r, word, what, all);
	nearest = word ? name_nearest(word, names, count) : NULL;
	return nearest ? want(r, "did you mean '%s'?", nearest) : -EINVAL;
}

/*
 * Arguments of verbs
 */

static int dscp_read(struct reader *r, int *ret_dscp)
{
	const char *word = word_take(r);
	unsigned int number = 0;
	int dscp = 0, result = word ? number_parse(word, 63, &number) : -EINVAL;

	if (result == 0) {
		*ret_dscp = (int)number;
		return 0;
	}
	result = name_read(r, word, dscp_names, COUNT(dscp_names), "a DSCP",
		"0 to 63, or a name: cs0 to cs7, af11 to af43, ef, va, le", &dscp);
	if (result == 0)
		*ret_dscp = dscp;
	return result;
}

/* 32 bits, decimal or 0x… */
static int mark_number_parse(const char *text, uint32_t *ret_number)
{
	unsigned long long number;
	char *end;

	if (text[0] < '0' || text[0] > '9' || (text[0] == '0' && text[1] && text[1] != 'x') ||
		(text[0] == '0' && text[1] == 'x' && !text[2]))
		return -EINVAL;
	errno = 0;
	number = strtoull(text, &end, text[0] == '0' ? 16 : 10);
	if (*end || errno || number > UINT32_MAX)
		return -EINVAL;
	*ret_number = (uint32_t)number;
	return 0;
}

/* N[/MASK] */
static int mark_read(struct reader *r, uint32_t *ret_mark, uint32_t *ret_mask)
{
	static const char *const numbers = "a number of 32 bits, such as 7 or 0x10, or N/MASK";
	char *word = word_take(r), *slash = word ? strchr(word, '/') : NULL;
	uint32_t mark = 0, mask = UINT32_MAX;

	if (slash)
		*slash = '\0';
	if (!word || mark_number_parse(word, &mark) < 0)
		return expected(r, word, "a mark", numbers);
	if (slash && mark_number_parse(slash + 1, &mask) < 0)
		return expected(r, slash + 1, "a mask", numbers);
	if (!mask) {
		fail(r, slash + 1, "the mask 0 leaves no bit");
		return want(r, "the bits that are meant, such as 0xff");
	}
	if (mark & ~mask) {
		fail(r, word, "the mark 0x%x has bits outside of its mask 0x%x", mark, mask);
		return want(r, "0x%x/0x%x", mark & mask, mask);
	}
	*ret_mark = mark;
	*ret_mask = mask;
	return 0;
}

/* "to" INTERFACE */
static int target_read(struct reader *r)
{
	const char *word = word_take(r);

	if (!word || strcmp(word, "to") != 0) {
		expected(r, word, "'to'", NULL);
		return want(r, "%s to INTERFACE ...", r->verb);
	}
	return rule_interface_read(r->m, r->packet->interface);
}

static int mac_parse(const char *text, uint8_t ret_mac[6])
{
	uint8_t mac[6];

	for (int i = 0; i < 6; i++) {
		unsigned int byte = 0;

		for (int digit = 0; digit < 2; digit++, text++) {
			const char *digits = "0123456789abcdef";
			const char *found = *text ? strchr(digits, *text | 0x20) : NULL;

			if (!found)
				return -EINVAL;
			byte = byte * 16 + (unsigned int)(found - digits);
		}
		if (*text != (i < 5 ? ':' : '\0'))
			return -EINVAL;
		text++;
		mac[i] = (uint8_t)byte;
	}
	memcpy(ret_mac, mac, sizeof(mac));
	return 0;
}

/* dscp D | source mac MAC | destination mac MAC */
static int rewrite_read(struct reader *r)
{
	static const char *const known[] = {"dscp", "source", "destination", NULL};
	const char *word;
	unsigned int what = 0;
	int result = rule_choice_read(
		&r->m->s, known, "what to rewrite", "dscp D, source mac MAC or destination mac MAC", &what);

	if (result < 0)
		return result;
	if (!what)
		return dscp_read(r, &r->packet->set_dscp);
	r->packet->set_mac_src = what == 1;
	r->packet->set_mac_dst = what == 2;
	word = word_take(r);
	if (!word || strcmp(word, "mac") != 0)
		return expected(r, word, "'mac'", "only MAC addresses are rewritten: source mac MAC");
	word = word_take(r);
	if (!word || mac_parse(word, r->packet->mac) < 0)
		return expected(r, word, "a MAC address", "six bytes, such as 02:00:00:00:00:01");
	return 0;
}

static int arguments_read(struct reader *r)
{
	switch (r->rule->verb) {
	case RULE_MARK:
		return mark_read(r, &r->packet->set_mark, &r->packet->set_mark_mask);
	case RULE_REDIRECT:
	case RULE_MIRROR:
		return target_read(r);
	case RULE_REWRITE:
		return rewrite_read(r);
	default:
		return 0;
	}
}

/*
 * Terms, in any order
 */

int rule_interface_read(struct match_reader *m, char ret_name[MATCH_INTERFACE_MAX])
{
	const char *name = sentence_take(&m->s);

	if (!name)
		return sentence_expected(&m->s, NULL, "an interface", "its name, such as eth0");
	/* what the kernel's dev_valid_name() refuses can never appear */
	if (name[strcspn(name, "/:*?[\"@")] || strcmp(name, ".") == 0 || strcmp(name, "..") == 0) {
		sentence_fail(&m->s, name, "'%.64s' can be no interface's name", name);
		error_want(m->s.error, "the name of one interface, such as eth0");
		return -EINVAL;
	}
	if (strlen(name) >= MATCH_INTERFACE_MAX) {
		sentence_fail(&m->s, name, "the interface name '%.64s' is too long", name);
		error_want(m->s.error, "at most %d bytes", MATCH_INTERFACE_MAX - 1);
		return -EINVAL;
	}
	memcpy(ret_name, name, strlen(name) + 1);
	return 0;
}

/* @NAME, the next word. */
static int set_read(struct reader *r, const char *word, char ret_name[SET_NAME_MAX])
{
	struct error problem = {0};

	sentence_skip(&r->m->s, word);
	if (strchr(word, ',')) {
		fail(r, word, "'%.64s' is more than one set", word);
		return want(r, "one set; a rule for each, or a set that has the entries of all");
	}
	if (set_name_check(word + 1, &problem) < 0) {
		fail(r, word, "%s", problem.what);
		return want(r, "%s", problem.want);
	}
	memcpy(ret_name, word + 1, strlen(word + 1) + 1);
	return 0;
}

static bool next_is(struct reader *r, const char *word)
{
	const char *next = word_peek(r);

	return next && strcmp(next, word) == 0;
}

static int end_ports_read(struct reader *r, struct endpoint *end, char *port_set)
{
	const char *word = word_peek(r);

	if (!word || word[0] != '@')
		return sentence_ports(&r->m->s, end);
	if (!r->m->s.ports_word)
		r->m->s.ports_word = word;
	return set_read(r, word, port_set);
}

/* [any | ADDRESS | PREFIX | @SET] ["port" (PORTS | @SET)] */
static int end_read(struct reader *r, struct endpoint *end, char *set, char *port_set)
{
	/* behind the 'to' of a limit there may stand what it is limited to */
	bool rate = r->rule->verb == RULE_LIMIT && end == &r->m->match.to;
	const char *word = word_peek(r);
	int result = 0;

	if (word && word[0] == '@')
		result = set_read(r, word, set);
	else if (word && strcmp(word, "any") == 0)
		sentence_skip(&r->m->s, word);
	else if (word && strcmp(word, "not") == 0)
		result = expected(r, word, "an address, a prefix, a set, 'any' or 'port'",
			"all but these: a rule in front of this one that accepts them");
	else if (!word || strcmp(word, "port") != 0)
		result = sentence_prefix(&r->m->s, end,
			rate ? "a rate, an address, a prefix, a set, 'any' or 'port'"
			     : "an address, a prefix, a set, 'any' or 'port'",
			rate ? "such as 10mbit, 100/s, 192.0.2.1, 10.0.0.0/8, 2001:db8::/32, @NAME or port "
			       "https"
			     : "such as 192.0.2.1, 10.0.0.0/8, 2001:db8::/32, @NAME or port https");
	if (result < 0 || !next_is(r, "port"))
		return result;
	sentence_skip(&r->m->s, "port");
	return end_ports_read(r, end, port_set);
}

/* Of either end: @SET here, all else as in a match. */
static int host_read(struct reader *r, const char *word)
{
	const char *next = word_peek(r);
	int result = match_element_say(r->m, MATCH_ELEMENT_HOST, word);

	if (result < 0 || (next && next[0] == '@'))
		return result < 0 ? result : set_read(r, next, r->packet->either_set);
	return sentence_prefix(&r->m->s, &r->m->match.either, "an address, a prefix or a set",
		"such as 192.0.2.1, 10.0.0.0/8, 2001:db8::/32 or @NAME");
}

static int port_read(struct reader *r, const char *word)
{
	int result = match_element_say(r->m, MATCH_ELEMENT_PORT, word);

	return result < 0 ? result : end_ports_read(r, &r->m->match.either, r->packet->either_port_set);
}

static int from_read(struct reader *r, const char *word)
{
	int result = match_element_say(r->m, MATCH_ELEMENT_FROM, word);

	return result < 0 ? result
	                  : end_read(r, &r->m->match.from, r->packet->from_set, r->packet->from_port_set);
}

/* Numbers with a unit, or in front of "connections": no address looks like it. */
static bool rate_looks(struct reader *r)
{
	const char *word = word_peek(r), *unit;

	if (!word || word[0] < '0' || word[0] > '9')
		return false;
	unit = word + strspn(word, "0123456789.");
	if (*unit == '/')
		return unit[1] && strspn(unit + 1, "0123456789") != strlen(unit + 1);
	if (*unit)
		return strspn(unit, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ/") == strlen(unit);
	return !strchr(word, '.');
}

/* "10 mbit": a number, and its unit behind a space? */
static int rate_apart(struct reader *r, const char *next)
{
	char joined[64];
	uint64_t bits;

	if (r->rate_word[strspn(r->rate_word, "0123456789.")])
		return 0;
	snprintf(joined, sizeof(joined), "%.20s%.20s", r->rate_word, next);
	if (rate_parse(joined, &bits) < 0)
		return 0;
	fail(r, r->rate_word, "%.20s of what?", r->rate_word);
	return want(r, "%s, in one word", joined);
}

static int rate_take(struct reader *r, const char *word)
{
	int result = match_element_say(r->m, MATCH_ELEMENT_RATE, word);
	const char *next;

	if (result < 0)
		return result;
	r->rate_word = word_take(r);
	if (r->rule->verb == RULE_GUARANTEE) {
		fail(r, r->rate_word, "'to' is in front of the rate of a limit");
		return want(r, "guarantee ... %.32s", r->rate_word);
	}
	if (r->rule->verb != RULE_LIMIT) {
		fail(r, r->rate_word, "a rate, but '%s' has none", r->verb);
		return want(r, "limit ... to %.32s", r->rate_word);
	}
	next = word_peek(r);
	if (!next || (strcmp(next, "connections") != 0 && strcmp(next, "connection") != 0))
		return next ? rate_apart(r, next) : 0;
	r->rate_is_connections = true;
	sentence_skip(&r->m->s, next);
	return 0;
}

/* Behind the `to` of an assign: what could be no end of a packet. */
static bool class_looks(struct reader *r)
{
	const char *word = word_peek(r);

	return word && strcmp(word, "any") != 0 && strcmp(word, "port") != 0 &&
	       (word[0] < '0' || word[0] > '9') && !word[strcspn(word, ":/@")];
}

static int class_take(struct reader *r, const char *word)
{
	if (r->class_word) {
		fail(r, word, "a second class");
		return want(r, "one: assign it to another with another rule");
	}
	r->class_word = word_take(r);
	return shape_name_parse(&r->m->s, r->class_word, r->rule->class);
}

static int to_read(struct reader *r, const char *word)
{
	int result;

	if (r->rule->verb == RULE_ASSIGN && (class_looks(r) || rate_looks(r)))
		return class_take(r, word);
	if (rate_looks(r))
		return rate_take(r, word);
	result = match_element_say(r->m, MATCH_ELEMENT_TO, word);
	return result < 0 ? result : end_read(r, &r->m->match.to, r->packet->to_set, r->packet->to_port_set);
}

/* LIST[/LIST] */
static int flags_read(struct reader *r, const char *word)
{
	int result = match_element_say(r->m, MATCH_ELEMENT_FLAGS, word);
	char *list = word_take(r), *others = list ? strchr(list, '/') : NULL;
	uint8_t flags = 0, mask = 0;
	bool none;

	if (result < 0)
		return result;
	if (!list)
		return expected(r, NULL, "TCP flags", "such as syn, or syn/syn,ack: SYN without ACK");
	if (others)
		*others++ = '\0';
	none = strcmp(list, "none") == 0;
	if (!none)
		result = match_flags_read(r->m, list, &flags);
	if (result == 0 && others)
		result = match_flags_read(r->m, others, &mask);
	if (result < 0)
		return result;
	r->packet->flags = flags;
	r->packet->flags_mask = none && !others ? UINT8_MAX : flags | mask;
	return 0;
}

static int fragment_read(struct reader *r, const char *word)
{
	int result = match_element_say(r->m, MATCH_ELEMENT_FRAGMENT, word);
	static const struct {
		const char *name;
		enum rule_fragment value;
	} which[] = {{"first", RULE_FRAGMENT_FIRST}, {"later", RULE_FRAGMENT_LATER}};

	r->fragment_word = word;
	r->packet->fragment = RULE_FRAGMENT_FIRST_OR_LATER;
	for (size_t i = 0; result == 0 && i < COUNT(which); i++) {
		if (next_is(r, which[i].name)) {
			sentence_skip(&r->m->s, which[i].name);
			r->packet->fragment = which[i].value;
		}
	}
	return result;
}

static int state_read(struct reader *r, const char *word)
{
	int result = match_element_say(r->m, MATCH_ELEMENT_STATE, word), state = 0;
	char *list = word_take(r);

	if (result == 0 && !list)
		return expected(r, NULL, "states", "new, established, related, invalid");
	while (result == 0 && list) {
		result = name_read(r, list_take(&list), states, COUNT(states), "a state",
			"new, established, related or invalid", &state);
		r->packet->states |= (uint8_t)state;
	}
	return result;
}

static int dscp_term_read(struct reader *r, const char *word)
{
	int result = match_element_say(r->m, MATCH_ELEMENT_DSCP, word);

	return result < 0 ? result : dscp_read(r, &r->packet->dscp);
}

static int mark_term_read(struct reader *r, const char *word)
{
	int result = match_element_say(r->m, MATCH_ELEMENT_MARK, word);

	return result < 0 ? result : mark_read(r, &r->packet->mark, &r->packet->mark_mask);
}

static int untagged_read(struct reader *r, const char *word)
{
	r->packet->untagged = true;
	return match_element_say(r->m, MATCH_ELEMENT_VLAN, word);
}

static int by_read(struct reader *r, const char *word)
{
	int result = match_element_say(r->m, MATCH_ELEMENT_OWNER, word);

	return result < 0 ? result : rule_owner_read(&r->m->s, word, r->rule);
}

static int matching_read(struct reader *r, const char *word)
{
	int result = match_element_say(r->m, MATCH_ELEMENT_EXPRESSION, word);
	const char *next = word_peek(r);

	if (result < 0)
		return result;
	if (!next || next[0] != '"')
		return expected(r, next, "an expression in quotes", "matching \"tcp[13] == 2\"");
	return rule_quoted_read(
		&r->m->s, next, "the expression", r->packet->expression, sizeof(r->packet->expression));
}

static int not_read(struct reader *r, const char *word)
{
	const char *next = word_take(r);

	(void)word;
	if (next && strcmp(next, "by") == 0) {
		r->rule->owner_not = true;
		return by_read(r, next);
	}
	if (next && strcmp(next, "matching") == 0) {
		r->packet->expression_not = true;
		return matching_read(r, next);
	}
	return expected(r, next, "'by' or 'matching' behind 'not'",
		"not by user NAME, not matching \"EXPRESSION\"; a rule before this one for the rest");
}

/*
 * Options
 */

static int verb_need(struct reader *r, enum rule_verb verb, const char *word)
{
	if (r->rule->verb == verb)
		return 0;
	fail(r, word, "'%s' belongs to '%s'", word, rule_verbs[verb]);
	return want(r, "%s ..., or a rule without '%s'", rule_verbs[verb], word);
}

static int log_read(struct reader *r, const char *word)
{
	if (r->rule->verb == RULE_LOG) {
		fail(r, word, "a second 'log'");
		return want(r, "one: the rule logs what fits");
	}
	r->packet->log = true;
	return match_element_say(r->m, MATCH_ELEMENT_LOG, word);
}

static int with_read(struct reader *r, const char *word)
{
	int result = verb_need(r, RULE_REJECT, word), answer = 0;
	const char *name;

	if (result == 0)
		result = match_element_say(r->m, MATCH_ELEMENT_WITH, word);
	if (result < 0)
		return result;
	name = word_take(r);
	result = name_read(r, name, reject_answers, COUNT(reject_answers), "an answer",
		"reset, port-unreachable, host-unreachable or prohibited", &answer);
	r->packet->reject = (enum policy_reject)answer;
	if (answer == POLICY_REJECT_RESET)
		r->reset_word = name;
	return result;
}

static int burst_read(struct reader *r, const char *word)
{
	int result = verb_need(r, RULE_LIMIT, word);

	if (result == 0)
		result = match_element_say(r->m, MATCH_ELEMENT_BURST, word);
	if (result < 0)
		return result;
	r->burst_word = word_take(r);
	if (!r->burst_word)
		return expected(r, NULL, "a burst", "packets (200), or bytes (64kb) for a rate in bits");
	return 0;
}

/* BITS[,BITS6] */
static int bits_read(struct reader *r, char *text)
{
	static const char *const wanted = "leading bits that make one: 24, or 24,64 for IPv4 and IPv6";
	char *comma = strchr(text, ',');
	unsigned int bits4 = 32, bits6 = 128;
	bool alone6 = !comma && r->m->s.family == 6;

	if (comma)
		*comma++ = '\0';
	if (number_parse(text, alone6 ? 128 : 32, alone6 ? &bits6 : &bits4) < 0 || !bits4 || !bits6)
		return expected(r, text, "a prefix length", wanted);
	if (comma && (number_parse(comma, 128, &bits6) < 0 || !bits6))
		return expected(r, comma, "a prefix length", wanted);
	r->packet->per_bits4 = (uint8_t)bits4;
	r->packet->per_bits6 = (uint8_t)bits6;
	return 0;
}

static int per_read(struct reader *r, const char *word)
{
	static const char *const known[] = {"source", "destination", NULL};
	int result = verb_need(r, RULE_LIMIT, word);
	char *name, *slash;
	const char *nearest;

	if (result == 0)
		result = match_element_say(r->m, MATCH_ELEMENT_PER, word);
	if (result < 0)
		return result;
	name = word_take(r);
	slash = name ? strchr(name, '/') : NULL;
	if (slash)
		*slash++ = '\0';
	r->packet->per_bits4 = 32;
	r->packet->per_bits6 = 128;
	if (name && strcmp(name, known[0]) == 0) {
		r->packet->per = POLICY_PER_SOURCE;
	} else if (name && strcmp(name, known[1]) == 0) {
		r->packet->per = POLICY_PER_DESTINATION;
	} else {
		expected(r, name, "source or destination behind 'per'", NULL);
		nearest = name ? text_nearest(name, known) : NULL;
		return nearest ? want(r, "did you mean '%s'?", nearest) : -EINVAL;
	}
	return slash ? bits_read(r, slash) : 0;
}

static int for_read(struct reader *r, const char *word)
{
	int result = match_element_say(r->m, MATCH_ELEMENT_FOR, word);
	const char *text = word_take(r);
	uint64_t time = 0;

	if (result < 0)
		return result;
	if (!text || duration_parse(text, &time) < 0)
		return expected(r, text, "a duration", "how long the rule lasts, such as 10m or 1h");
	if (time < FOR_MIN || time > FOR_MAX) {
		fail(r, text, "%.64s is too %s", text, time < FOR_MIN ? "short" : "long");
		return want(r, "1s to 3650d");
	}
	r->rule->for_ns = time;
	return 0;
}

/*
 * What classes have
 */

/* Words that limits and guarantees have in common with declared classes; `word` was peeked at. */
static int shape_word_read(struct reader *r, const char *word)
{
	static const struct {
		enum rule_verb verb;
		enum shape_term term;
		const char *what, *want;
	} own[] = {
		{RULE_LIMIT, SHAPE_TERM_CEILING, "the ceiling of a limit stands behind 'to'",
			"limit ... to RATE"},
		{RULE_GUARANTEE, SHAPE_TERM_GUARANTEE, "'guarantee' a second time",
			"guarantee ... RATE, then ceiling, weight, ..."},
	};
	enum shape_term term = shape_term_find(word);

	if (r->rule->verb == RULE_ASSIGN) {
		fail(r, word, "'%s' is said of the class, not of what is assigned to it",
			shape_term_names[term]);
		return want(r, "weir shape add, or weir change");
	}
	if (r->rule->verb != RULE_LIMIT && r->rule->verb != RULE_GUARANTEE) {
		fail(r, word, "'%s' belongs to classes, '%s' makes none", shape_term_names[term], r->verb);
		return want(r, "limit ... to RATE, or guarantee ... RATE");
	}
	for (size_t i = 0; i < COUNT(own); i++) {
		if (own[i].verb == r->rule->verb && own[i].term == term) {
			fail(r, word, "%s", own[i].what);
			return want(r, "%s", own[i].want);
		}
	}
	r->m->stage = MATCH_STAGE_TERMS;
	return shape_term_read(&r->shape, word);
}

static int guarantee_read(struct reader *r)
{
	const char *word = word_take(r);
	int result = match_element_say(r->m, MATCH_ELEMENT_RATE, word);

	if (result < 0) {
		fail(r, word, "a second rate");
		return want(r, "guarantee ... RATE ceiling RATE");
	}
	r->m->stage = MATCH_STAGE_TERMS;
	r->rate_word = word;
	return shape_rate_parse(&r->m->s, word, &r->rule->shape.guarantee_bps);
}

static int guarantee_finish(struct reader *r)
{
	if (!r->rate_word) {
		fail(r, NULL, "a guarantee without a rate");
		return want(r, "guarantee ... 400mbit");
	}
	if (!r->shape.said[SHAPE_TERM_GUARANTEE])
		r->shape.said[SHAPE_TERM_GUARANTEE] = r->rate_word;
	return shape_terms_check(&r->shape);
}

static int assign_finish(struct reader *r)
{
	if (r->class_word)
		return 0;
	fail(r, NULL, "assigned to which class?");
	return want(r, "assign ... to CLASS; 'weir shapes' lists them");
}

static const struct term {
	const char *name;
	int (*read)(struct reader *r, const char *word);
} terms[] = {
	{"from", from_read},
	{"to", to_read},
	{"host", host_read},
	{"port", port_read},
	{"flags", flags_read},
	{"fragment", fragment_read},
	{"state", state_read},
	{"dscp", dscp_term_read},
	{"mark", mark_term_read},
	{"untagged", untagged_read},
	{"by", by_read},
	{"not", not_read},
	{"matching", matching_read},
	{"log", log_read},
	{"with", with_read},
	{"burst", burst_read},
	{"per", per_read},
	{"for", for_read},
};

static int term_read(struct reader *r)
{
	static const char *const names[] = {"state", "dscp", "mark", "untagged", "not", "matching", "log",
		"with", "burst", "per", "for", "guarantee", "ceiling", "weight", "priority", "under",
		"engine", NULL};
	static const struct match_words more = {names,
		"in or out, on INTERFACE, ip or ip6, a protocol, then "
		"from, to, host, port, flags, icmp, state, "
		"dscp, mark, vlan, untagged, fragment, by, not, "
		"matching; log, with, per, burst, for, guarantee, ceiling, "
		"weight, priority, under, engine; \"a comment\""};
	const char *word = word_peek(r);
	int result;

	if (word[0] == '"')
		return rule_comment_read(&r->m->s, word, r->rule);
	for (size_t i = 0; i < COUNT(terms); i++) {
		if (strcmp(terms[i].name, word) != 0 ||
			(terms[i].read == burst_read &&
				(r->rule->verb == RULE_GUARANTEE || r->rule->verb == RULE_ASSIGN)))
			continue;
		sentence_skip(&r->m->s, word);
		/* the owner may stand in front of the protocol: out by user backup tcp ... */
		if (terms[i].read != by_read && terms[i].read != not_read)
			r->m->stage = MATCH_STAGE_TERMS;
		return terms[i].read(r, word);
	}
	/* `burst` of a limit, above, may be of packets */
	if (shape_term_find(word) != SHAPE_TERMS)
		return shape_word_read(r, word);
	if (r->rule->verb == RULE_GUARANTEE && rate_looks(r))
		return guarantee_read(r);
	if (strcmp(word, "or") == 0) {
		fail(r, word, "'or' is not understood in rules");
		return want(r, "a rule for each; a set for several addresses, one list for several ports: "
			       "port 80,443");
	}
	for (size_t i = 0; rule_calls[i]; i++) {
		if (strcmp(rule_calls[i], word) != 0)
			continue;
		fail(r, word, "'%s' is about sockets, '%s' about packets", word, r->verb);
		return want(r, "deny %s or allow %s", word, word);
	}
	if (strcmp(word, "on") == 0 && r->m->stage <= MATCH_STAGE_INTERFACE) {
		result = match_element_say(r->m, MATCH_ELEMENT_INTERFACE, word);
		if (result < 0)
			return result;
		sentence_skip(&r->m->s, word);
		r->m->stage = MATCH_STAGE_INTERFACE;
		return rule_interface_read(r->m, r->m->match.interface);
	}
	return match_word_read(r->m, &more);
}

/*
 * Limits
 */

uint64_t rule_burst_usual(const struct rule_packet *packet)
{
	uint64_t tenth = packet->rate.rate / 10;

	if (packet->unit == POLICY_LIMIT_PACKETS)
		return packet->rate.rate;
	return tenth > LIMIT_BURST_USUAL_MIN ? tenth : LIMIT_BURST_USUAL_MIN;
}

/* A limit of bits is a class, unless each packet is asked about. */
static bool limit_is_of_each(const struct reader *r)
{
	return r->m->said[MATCH_ELEMENT_PER] || r->m->said[MATCH_ELEMENT_LOG];
}

static int fail_rate(struct reader *r, const char *word, const char *what)
{
	fail(r, word, "%.64s is %s", word, what);
	return want(r, "1/d to 1000000000/s packets, %s to 1000gbit, 1 to %u connections",
		limit_is_of_each(r) ? "8bit" : "8kbit", LIMIT_CONNECTIONS_MAX);
}

/* N/s, N/m, N/h, N/d */
static int packet_rate_parse(struct reader *r, const char *text, const char *slash)
{
	const struct rate_period *period = rate_periods;
	unsigned int number = 0;
	char digits[24];
	int result;

	while (period->name && strcmp(period->name, slash + 1) != 0)
		period++;
	if (!period->name)
		return expected(r, slash + 1, "a period", "s, m, h or d: 100/s");
	snprintf(digits, sizeof(digits), "%.*s", (int)(slash - text), text);
	result = number_parse(digits, LIMIT_PACKETS_MAX, &number);
	if (result == -EINVAL)
		return expected(r, text, "a rate", "packets, such as 100/s or 5/m, or bits: 10mbit");
	if (result < 0 || !number)
		return fail_rate(r, text, result < 0 ? "too much" : "nothing");
	r->packet->unit = POLICY_LIMIT_PACKETS;
	r->packet->rate.rate = number;
	r->packet->rate.period_ns = period->ns;
	return 0;
}

static int bit_rate_parse(struct reader *r, const char *text)
{
	uint64_t bits = 0;
	int result = rate_parse(text, &bits);

	if (result == -EINVAL) {
		result = shape_rate_guess(&r->m->s, text);
		return result < 0 ? result
		                  : expected(r, text, "a rate",
					    "packets, such as 100/s or 5/m, or bits: 10mbit");
	}
	if (!limit_is_of_each(r)) {
		result = shape_rate_parse(&r->m->s, text, &bits);
		if (result < 0)
			return result;
	}
	if (result < 0 || bits > LIMIT_BITS_MAX || bits < 8)
		return fail_rate(r, text, bits < 8 && result == 0 ? "too little" : "too much");
	if (bits % 8) {
		fail(r, text, "%.64s is no whole number of bytes a second", text);
		return want(r, "%llubit", (unsigned long long)(bits - bits % 8));
	}
	r->packet->unit = POLICY_LIMIT_BYTES;
	r->packet->rate.rate = bits / 8;
	r->packet->rate.period_ns = SECOND;
	return 0;
}

static int connections_parse(struct reader *r, const char *text)
{
	unsigned int number = 0;
	int result = number_parse(text, LIMIT_CONNECTIONS_MAX, &number);

	if (result == -EINVAL)
		return expected(r, text, "a number of connections", "such as 10 connections");
	if (result < 0 || !number)
		return fail_rate(r, text, result < 0 ? "too much" : "nothing");
	if (r->burst_word) {
		fail(r, r->burst_word, "connections are counted: they have no burst");
		return want(r, "a rule without 'burst'");
	}
	r->packet->unit = POLICY_LIMIT_CONNECTIONS;
	r->packet->rate.burst = number;
	return 0;
}

static int burst_parse(struct reader *r, const char *text)
{
	bool bytes = r->packet->unit == POLICY_LIMIT_BYTES, large;
	uint64_t burst = 0;
	unsigned int packets = 0;
	int result = bytes ? size_parse(text, &burst) : number_parse(text, LIMIT_PACKETS_MAX, &packets);

	if (!bytes)
		burst = packets;
	if (result == -EINVAL)
		return expected(r, text, "a burst",
			bytes ? "bytes, such as 64kb: the rate is in bits"
			      : "a number of packets, such as 200");
	large = result < 0 || burst > LIMIT_BURST_MAX;
	if (large || burst < (bytes ? LIMIT_BURST_MIN : 1)) {
		fail(r, text, "the burst %.64s is too %s", text, large ? "large" : "small");
		return want(r, bytes ? "1514 bytes (one packet) to 1000gb" : "1 to 1000000000 packets");
	}
	r->packet->rate.burst = burst;
	return 0;
}

/* What makes a limit a class, or why it is none and may not have what classes have. */
static int limit_shape_finish(struct reader *r)
{
	const char *log = r->m->said[MATCH_ELEMENT_LOG], *per = r->m->said[MATCH_ELEMENT_PER];
	struct shape_terms *shape = &r->rule->shape;
	const char *word = NULL;

	if (rule_is_shape(r->rule)) {
		int result = shape_rate_parse(&r->m->s, r->rate_word, &shape->ceiling_bps);

		shape->burst = r->burst_word ? r->packet->rate.burst : 0;
		return result < 0 ? result : shape_terms_check(&r->shape);
	}
	for (size_t i = 0; i < SHAPE_TERMS && !word; i++)
		word = r->shape.said[i];
	if (!word)
		return 0;
	if (r->packet->unit != POLICY_LIMIT_BYTES) {
		fail(r, word, "'%.20s' belongs to classes, limits in bits a second", word);
		return want(r, "a rule without '%.20s'", word);
	}
	fail(r, word, "'%.20s' belongs to classes, and '%s' asks about each packet", word, per ? per : log);
	return want(r, "a rule without '%s'", per ? per : log);
}

static int limit_rate_finish(struct reader *r)
{
	const char *text = r->rate_word, *slash = text ? strchr(text, '/') : NULL;
	int result;

	if (!text) {
		fail(r, NULL, "a limit without a rate");
		return want(r, "limit ... to 100/s, to 10mbit or to 10 connections");
	}
	if (r->rate_is_connections)
		return connections_parse(r, text);
	if (text[strspn(text, "0123456789")] == '\0') {
		if (!text[strspn(text, "0")])
			return fail_rate(r, text, "nothing");
		fail(r, text, "%.64s of what?", text);
		return want(r, "%.20s/s (packets), %.20smbit or %.20s connections", text, text, text);
	}
	/* "10mbit/s" is of bits */
	result = slash && text[strspn(text, "0123456789")] == '/' ? packet_rate_parse(r, text, slash)
	                                                          : bit_rate_parse(r, text);
	if (result < 0)
		return result;
	r->packet->rate.burst = rule_burst_usual(r->packet);
	return r->burst_word ? burst_parse(r, r->burst_word) : 0;
}

static int limit_finish(struct reader *r)
{
	int result = limit_rate_finish(r);

	return result < 0 ? result : limit_shape_finish(r);
}

/*
 * What each word allows, but no packet can be
 */

static int contradictions_check(struct reader *r)
{
	const struct match *match = &r->m->match;
	const char *protocol = r->m->said[MATCH_ELEMENT_PROTOCOL];
	int result = match_contradictions_check(r->m);
	bool later = r->packet->fragment == RULE_FRAGMENT_FIRST_OR_LATER ||
	             r->packet->fragment == RULE_FRAGMENT_LATER;

	if (result < 0)
		return result;
	if (r->packet->flags_mask && match->protocol != IPPROTO_TCP) {
		if (protocol)
			fail(r, r->m->said[MATCH_ELEMENT_FLAGS], "'%.64s' has no TCP flags", protocol);
		else
			fail(r, r->m->said[MATCH_ELEMENT_FLAGS], "flags without tcp");
		return want(r, "tcp in front of it");
	}
	if (r->reset_word && match->protocol != IPPROTO_TCP) {
		fail(r, r->reset_word, "only TCP knows a reset");
		return want(r, "reject ... tcp ... with reset, or with port-unreachable");
	}
	if (later && (r->m->s.ports_word || r->packet->flags_mask || match->icmp_type >= 0)) {
		fail(r, r->fragment_word, "a later fragment has no ports, no flags and no ICMP type");
		return want(r, "'fragment first', or 'fragment' without them");
	}
	if (r->rule->verb == RULE_REDIRECT && match->interface[0] &&
		strcmp(match->interface, r->packet->interface) == 0 && match->direction == MATCH_OUT) {
		fail(r, r->m->said[MATCH_ELEMENT_INTERFACE], "what leaves by %s is there already",
			match->interface);
		return want(r, "another interface to redirect to");
	}
	return 0;
}

int rule_packet_read(struct match_reader *m, struct rule *rule)
{
	struct reader reader = {
		.m = m, .rule = rule, .packet = &rule->packet, .verb = rule_verbs[rule->verb]};
	struct owner_match *owner = &rule->match.owner;
	int r;

	reader.shape = (struct shape_reader){.s = &m->s, .terms = &rule->shape};
	r = arguments_read(&reader);
	match_init(&m->match);
	while (r == 0 && word_peek(&reader))
		r = term_read(&reader);
	if (r == 0 && rule->verb == RULE_LIMIT)
		r = limit_finish(&reader);
	if (r == 0 && rule->verb == RULE_GUARANTEE)
		r = guarantee_finish(&reader);
	if (r == 0 && rule->verb == RULE_ASSIGN)
		r = assign_finish(&reader);
	if (r == 0)
		r = contradictions_check(&reader);
	if (r < 0)
		return r;
	m->match.owner = *owner;
	rule->match = m->match;
	rule->packet.icmp_code = m->icmp_code;
	return 0;
}

int rule_match_read(struct match_reader *m, struct rule *rule, rule_match_ends_function *ends)
{
	struct reader reader = {
		.m = m, .rule = rule, .packet = &rule->packet, .verb = rule_verbs[rule->verb]};
	const char *word;
	int end = 0, r = 0;

	reader.shape = (struct shape_reader){.s = &m->s, .terms = &rule->shape};
	match_init(&m->match);
	while (r == 0 && (word = word_peek(&reader))) {
		end = ends(m, word);
		if (end)
			break;
		r = term_read(&reader);
	}
	if (r < 0 || end < 0)
		return r < 0 ? r : end;
	r = contradictions_check(&reader);
	if (r < 0)
		return r;
	rule->match = m->match;
	rule->packet.icmp_code = m->icmp_code;
	return end;
}
