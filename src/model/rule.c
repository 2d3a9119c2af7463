/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include "model/rule.h"

#include <errno.h>
#include <string.h>

#include "basic/text.h"
#include "model/rule_read.h"

#define CONTAINER_DIGITS 64

const char *const rule_verbs[] = {[RULE_DENY] = "deny",
	[RULE_ALLOW] = "allow",
	[RULE_ACCEPT] = "accept",
	[RULE_DROP] = "drop",
	[RULE_REJECT] = "reject",
	[RULE_LIMIT] = "limit",
	[RULE_GUARANTEE] = "guarantee",
	[RULE_ASSIGN] = "assign",
	[RULE_SHAPE] = "shape",
	[RULE_COUNT] = "count",
	[RULE_LOG] = "log",
	[RULE_MARK] = "mark",
	[RULE_REDIRECT] = "redirect",
	[RULE_MIRROR] = "mirror",
	[RULE_REWRITE] = "rewrite",
	NULL};

#define want(s, ...) (error_want((s)->error, __VA_ARGS__), -EINVAL)

bool rule_is_on_sockets(const struct rule *rule)
{
	return rule->verb <= RULE_ALLOW;
}

bool rule_is_shape(const struct rule *rule)
{
	const struct rule_packet *packet = &rule->packet;

	return rule->verb == RULE_GUARANTEE || rule->verb == RULE_ASSIGN ||
	       (rule->verb == RULE_LIMIT && packet->unit == POLICY_LIMIT_BYTES &&
		       packet->per == POLICY_PER_RULE && !packet->log);
}

bool rule_is_declared(const struct rule *rule)
{
	return rule->verb == RULE_SHAPE;
}

int rule_choice_read(struct sentence *s, const char *const *known, const char *expected, const char *want,
	unsigned int *ret_choice)
{
	const char *word = sentence_take(s), *nearest;

	for (unsigned int i = 0; word && known[i]; i++) {
		if (strcmp(known[i], word) == 0) {
			*ret_choice = i;
			return 0;
		}
	}
	sentence_expected(s, word, expected, want);
	nearest = word ? text_nearest(word, known) : NULL;
	if (nearest)
		return want(s, "did you mean '%s'?", nearest);
	return -EINVAL;
}

int rule_quoted_read(struct sentence *s, const char *word, const char *noun, char *buffer, size_t size)
{
	/* in the sentence as it was: in the copy, words have got their ends */
	size_t begin = (size_t)(word - s->text) + 1, end = begin, bytes;
	const char *sentence = s->sentence;

	for (; sentence[end] && sentence[end] != '"'; end += bytes) {
		bytes = text_utf8_length(sentence + end);
		if (!bytes || (unsigned char)sentence[end] < ' ' || sentence[end] == 0x7f)
			return sentence_fail(s, s->text + end, "%s is text in UTF-8, on one line", noun);
	}
	if (!sentence[end]) {
		sentence_fail(s, word, "%s has no end", noun);
		return want(s, "a quote behind it, too");
	}
	if (end - begin >= size) {
		sentence_fail(s, word, "%s is too long", noun);
		return want(s, "at most %zu bytes", size - 1);
	}
	if (end == begin) {
		sentence_fail(s, word, "%s is empty", noun);
		return want(s, "text between the quotes");
	}
	if (sentence[end + 1] && !strchr(" \t\r\n", sentence[end + 1])) {
		sentence_fail(s, s->text + end + 1, "something stands right behind the quote");
		return want(s, "a space");
	}
	memcpy(buffer, sentence + begin, end - begin);
	buffer[end - begin] = '\0';
	s->offset = end + 1;
	if (s->offset < s->length)
		s->offset++; /* the space, which may have become a NUL */
	return 0;
}

int rule_comment_read(struct sentence *s, const char *word, struct rule *rule)
{
	const char *behind;
	int r = rule_quoted_read(s, word, "the comment", rule->comment, sizeof(rule->comment));

	if (r < 0)
		return r;
	behind = sentence_peek(s);
	if (behind) {
		sentence_fail(s, behind, "something stands behind the comment");
		return want(s, "the comment at the end");
	}
	return 0;
}

int rule_owner_read(struct sentence *s, const char *word, struct rule *rule)
{
	int r = sentence_owner(s, &rule->match.owner);

	if (r < 0 || rule->match.owner.kind != OWNER_CONTAINER ||
		strlen(rule->match.owner.text) == CONTAINER_DIGITS)
		return r;
	/* the kernel compares a hash of it */
	sentence_fail(s, word, "a rule cannot go by the beginning of a container's id");
	return want(s, "all %d digits of it, or its cgroup", CONTAINER_DIGITS);
}

int rule_parse(const char *text, struct rule *ret_rule, struct error *error)
{
	struct match_reader reader = {.codes = true, .icmp_code = -1};
	struct rule rule = {.packet = {.icmp_code = -1, .dscp = -1, .set_dscp = -1}};
	unsigned int verb = 0;
	int r = sentence_begin(&reader.s, text, error);

	match_init(&rule.match);
	shape_terms_init(&rule.shape);
	if (r == 0 && reader.s.length >= RULE_TEXT_MAX) {
		error_set(error, -EINVAL, "the rule is too long");
		error_want(error, "at most %d bytes", RULE_TEXT_MAX - 1);
		return -EINVAL;
	}
	if (r == 0)
		r = rule_choice_read(&reader.s, rule_verbs, "a rule",
			"accept, drop, reject, limit, guarantee, assign, count, log, mark, redirect, mirror "
			"or rewrite; deny or allow for sockets",
			&verb);
	if (r < 0)
		return r;
	rule.verb = (enum rule_verb)verb;
	if (rule_is_on_sockets(&rule))
		r = rule_socket_read(&reader.s, &rule);
	else if (rule_is_declared(&rule))
		r = rule_declared_read(&reader.s, &rule);
	else
		r = rule_packet_read(&reader, &rule);
	if (r < 0)
		return r;
	*ret_rule = rule;
	return 0;
}

int rule_print(const struct rule *rule, char *buffer, size_t size)
{
	struct printer p = {.buffer = buffer, .size = size};

	if (!size)
		return -ENOSPC;
	buffer[0] = '\0';
	printer_put(&p, "%s", rule_verbs[rule->verb]);
	if (rule_is_on_sockets(rule))
		rule_socket_put(&p, rule);
	else if (rule_is_declared(rule))
		rule_declared_put(&p, rule);
	else
		rule_packet_put(&p, rule);
	if (rule->comment[0])
		printer_put(&p, " \"%s\"", rule->comment);
	return p.full ? -ENOSPC : 0;
}

/*
 * Which rule hides which
 */

bool rule_ports_cover(const struct endpoint *wide, const struct endpoint *narrow)
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

bool rule_prefix_covers(const struct endpoint *wide, const struct endpoint *narrow)
{
	return !wide->has_prefix || (narrow->has_prefix && narrow->prefix.length >= wide->prefix.length &&
					    prefix_contains(&wide->prefix, &narrow->prefix.address));
}

/* Is it the same owner, or a cgroup above the other one? */
bool rule_owner_covers(const struct rule *wide, const struct rule *narrow)
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
	if (rule_is_on_sockets(wide) != rule_is_on_sockets(narrow))
		return false;
	if (rule_is_declared(wide) || rule_is_declared(narrow))
		return rule_is_declared(wide) && rule_is_declared(narrow) &&
		       strcmp(wide->class, narrow->class) == 0;
	return rule_is_on_sockets(wide) ? rule_socket_covers(wide, narrow) : rule_packet_covers(wide, narrow);
}
