// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
#include "model/alert.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "model/sentence.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static const char wanted[] = "log [rule N], drops above N/s or backend down [SERVICE]";

static const struct name kinds[] = {
	{"log", ALERT_LOG},
	{"drops", ALERT_DROPS},
	{"backend", ALERT_BACKEND},
};

static int end_read(struct sentence *s)
{
	const char *word = sentence_peek(s);

	if (!word)
		return 0;
	sentence_fail(s, word, "unexpected word '%.64s'", word);
	return error_want(s->error, "%s", wanted);
}

static int log_read(struct sentence *s, struct alert_match *match)
{
	const char *word;

	if (!sentence_peek(s))
		return 0;
	if (sentence_take_word(s, "rule", wanted) < 0)
		return -EINVAL;
	word = sentence_take(s);
	if (word && number_parse(word, UINT32_MAX, &match->rule) == 0 && match->rule)
		return 0;
	return sentence_expected(s, word, "the number of a rule", "as 'weir rules' lists it");
}

static int drops_read(struct sentence *s, struct alert_match *match)
{
	char *word, *slash;

	if (sentence_take_word(s, "above", wanted) < 0)
		return -EINVAL;
	word = sentence_take(s);
	slash = word ? strchr(word, '/') : NULL;
	if (slash && strcmp(slash, "/s") == 0)
		*slash = '\0';
	if (word && number_parse(word, UINT32_MAX, &match->above) == 0 && match->above)
		return 0;
	if (slash && !*slash)
		*slash = '/';
	return sentence_expected(s, word, "packets a second", "1/s or more, such as 1000/s");
}

static int backend_read(struct sentence *s, struct alert_match *match)
{
	const char *word;

	if (sentence_take_word(s, "down", wanted) < 0)
		return -EINVAL;
	word = sentence_take(s);
	if (!word)
		return 0;
	if (strlen(word) >= sizeof(match->service))
		return sentence_expected(s, word, "the name of a service", "as 'weir services' lists it");
	snprintf(match->service, sizeof(match->service), "%s", word);
	return 0;
}

int alert_match_parse(const char *text, struct alert_match *ret_match, struct error *error)
{
	static int (*const read[])(struct sentence *, struct alert_match *) = {
		[ALERT_LOG] = log_read,
		[ALERT_DROPS] = drops_read,
		[ALERT_BACKEND] = backend_read,
	};
	struct alert_match match = {};
	const struct name *kind;
	const char *word, *near;
	struct sentence s;

	if (sentence_begin(&s, text, error) < 0)
		return -EINVAL;
	word = sentence_take(&s);
	if (!word)
		return sentence_expected(&s, NULL, "an event", wanted);
	kind = name_find(kinds, COUNT(kinds), word);
	if (!kind) {
		sentence_fail(&s, word, "unknown event '%.64s'", word);
		near = name_nearest(word, kinds, COUNT(kinds));
		return near ? error_want(error, "did you mean '%s'?", near) : error_want(error, "%s", wanted);
	}
	match.kind = kind->value;
	if (read[match.kind](&s, &match) < 0 || end_read(&s) < 0)
		return -EINVAL;
	*ret_match = match;
	return 0;
}

char *alert_match_print(char buffer[static ALERT_MATCH_MAX], const struct alert_match *match)
{
	switch (match->kind) {
	case ALERT_LOG:
		if (match->rule)
			snprintf(buffer, ALERT_MATCH_MAX, "log rule %u", match->rule);
		else
			snprintf(buffer, ALERT_MATCH_MAX, "log");
		break;
	case ALERT_DROPS:
		snprintf(buffer, ALERT_MATCH_MAX, "drops above %u/s", match->above);
		break;
	case ALERT_BACKEND:
		snprintf(buffer, ALERT_MATCH_MAX, "backend down%s%s", *match->service ? " " : "",
			match->service);
		break;
	case ALERT_NONE:
		*buffer = '\0';
		break;
	}
	return buffer;
}

bool alert_fits(const struct alert_match *match, const struct alert *alert)
{
	if (match->kind != alert->kind)
		return false;
	switch (match->kind) {
	case ALERT_LOG:
		return !match->rule || match->rule == alert->rule;
	case ALERT_DROPS:
		return alert->packets > match->above;
	case ALERT_BACKEND:
		return !*match->service || strcmp(match->service, alert->service) == 0;
	case ALERT_NONE:
		break;
	}
	return false;
}
