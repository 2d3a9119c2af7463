/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include "model/rule.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "basic/cleanup.h"
#include "basic/text.h"
#include "model/forward_read.h"
#include "model/rule_read.h"
#include "model/service_read.h"

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
	[RULE_SERVICE] = "service",
	[RULE_FORWARD] = "forward",
	[RULE_STEER] = "steer",
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

enum rule_kind rule_kind(const struct rule *rule)
{
	switch (rule->verb) {
	case RULE_DENY:
	case RULE_ALLOW:
		return RULE_ON_SOCKETS;
	case RULE_SERVICE:
		return RULE_ON_SERVICES;
	case RULE_FORWARD:
	case RULE_STEER:
		return RULE_ON_FORWARDING;
	default:
		return RULE_ON_PACKETS;
	}
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

bool rule_makes_class(const struct rule *rule)
{
	return rule_is_declared(rule) || (rule_is_shape(rule) && rule->verb != RULE_ASSIGN);
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

void rule_clear(struct rule *rule)
{
	service_free(rule->service);
	free(rule->forward);
	free(rule->steer);
	rule->service = NULL;
	rule->forward = NULL;
	rule->steer = NULL;
}

static int fail_memory(struct error *error)
{
	return error_set(error, -ENOMEM, "out of memory");
}

/* Only services may be long. */
static int length_check(const struct sentence *s, const struct rule *rule)
{
	if (rule->verb == RULE_SERVICE || s->length < RULE_TEXT_MAX)
		return 0;
	error_set(s->error, -EINVAL, "the rule is too long");
	return want(s, "at most %d bytes", RULE_TEXT_MAX - 1);
}

static int forward_take(struct sentence *s, struct rule *rule)
{
	rule->forward = calloc(1, sizeof(*rule->forward));
	return rule->forward ? forward_read(s, rule->forward) : fail_memory(s->error);
}

static int steer_take(struct match_reader *m, struct rule *rule)
{
	rule->steer = calloc(1, sizeof(*rule->steer));
	return rule->steer ? steer_read(m, rule) : fail_memory(m->s.error);
}

static int verb_read(struct match_reader *m, struct rule *rule)
{
	switch (rule->verb) {
	case RULE_DENY:
	case RULE_ALLOW:
		return rule_socket_read(&m->s, rule);
	case RULE_SHAPE:
		return rule_declared_read(&m->s, rule);
	case RULE_SERVICE:
		return service_read(&m->s, &rule->service);
	case RULE_FORWARD:
		return forward_take(&m->s, rule);
	case RULE_STEER:
		return steer_take(m, rule);
	default:
		return rule_packet_read(m, rule);
	}
}

static int rule_read(struct match_reader *m, struct rule *rule)
{
	unsigned int verb = 0;
	int r = rule_choice_read(&m->s, rule_verbs, "a rule",
		"accept, drop, reject, limit, guarantee, assign, count, log, mark, redirect, mirror or "
		"rewrite; deny or allow for sockets",
		&verb);

	rule->verb = (enum rule_verb)verb;
	if (r == 0)
		r = length_check(&m->s, rule);
	return r < 0 ? r : verb_read(m, rule);
}

int rule_parse(const char *text, struct rule *ret_rule, struct error *error)
{
	struct match_reader reader = {.codes = true, .icmp_code = -1};
	struct rule rule = {.packet = {.icmp_code = -1, .dscp = -1, .set_dscp = -1}};
	_cleanup_free_ char *room = NULL;
	size_t length = strlen(text);
	int r;

	match_init(&rule.match);
	shape_terms_init(&rule.shape);
	if (length >= RULE_TEXT_MAX) {
		room = malloc(SERVICE_TEXT_MAX);
		if (!room)
			return fail_memory(error);
	}
	r = room ? sentence_begin_in(&reader.s, text, room, SERVICE_TEXT_MAX, error)
	         : sentence_begin(&reader.s, text, error);
	if (r == 0)
		r = rule_read(&reader, &rule);
	if (r < 0) {
		rule_clear(&rule);
		return r;
	}
	*ret_rule = rule;
	return 0;
}

static void service_put(struct printer *p, const struct service_text *service)
{
	_cleanup_free_ char *text = service_print(service);

	if (text)
		printer_put(p, " %s", text);
	p->full |= !text;
}

static void verb_put(struct printer *p, const struct rule *rule)
{
	switch (rule->verb) {
	case RULE_DENY:
	case RULE_ALLOW:
		rule_socket_put(p, rule);
		break;
	case RULE_SHAPE:
		rule_declared_put(p, rule);
		break;
	case RULE_SERVICE:
		service_put(p, rule->service);
		break;
	case RULE_FORWARD:
		forward_put(p, rule->forward);
		break;
	case RULE_STEER:
		steer_put(p, rule);
		break;
	default:
		rule_packet_put(p, rule);
		break;
	}
}

int rule_print(const struct rule *rule, char *buffer, size_t size)
{
	struct printer p = {.buffer = buffer, .size = size};

	if (!size)
		return -ENOSPC;
	buffer[0] = '\0';
	printer_put(&p, "%s", rule_verbs[rule->verb]);
	verb_put(&p, rule);
	if (rule->comment[0])
		printer_put(&p, " \"%s\"", rule->comment);
	return p.full ? -ENOSPC : 0;
}

char *rule_text(const struct rule *rule, struct error *error)
{
	size_t size = rule->verb == RULE_SERVICE ? SERVICE_TEXT_MAX : RULE_TEXT_MAX;
	char *buffer = malloc(size), *text;

	if (!buffer) {
		fail_memory(error);
		return NULL;
	}
	if (rule_print(rule, buffer, size) < 0) {
		free(buffer);
		error_set(error, -EINVAL, "the rule is too long");
		error_want(error, "at most %zu bytes", size - 1);
		return NULL;
	}
	text = realloc(buffer, strlen(buffer) + 1);
	return text ? text : buffer;
}

char *rule_change(const struct rule *rule, const char *text, struct error *error)
{
	struct rule changed = *rule;
	char *result = NULL;

	if (rule->verb != RULE_SERVICE)
		return rule_shape_change(&changed, text, error) < 0 ? NULL : rule_text(&changed, error);
	if (service_change(rule->service, text, &changed.service, error) < 0)
		return NULL;
	result = rule_text(&changed, error);
	service_free(changed.service);
	return result;
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
	if (rule_kind(wide) != rule_kind(narrow))
		return false;
	if (rule_kind(wide) == RULE_ON_SERVICES)
		return strcmp(wide->service->name, narrow->service->name) == 0;
	if (rule_kind(wide) == RULE_ON_FORWARDING)
		return false;
	if (rule_is_declared(wide) || rule_is_declared(narrow))
		return rule_is_declared(wide) && rule_is_declared(narrow) &&
		       strcmp(wide->class, narrow->class) == 0;
	return rule_is_on_sockets(wide) ? rule_socket_covers(wide, narrow) : rule_packet_covers(wide, narrow);
}
