/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include "model/shape.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "basic/text.h"
#include "basic/units.h"
#include "model/rule_packet.h"
#include "model/set.h"
#include "model/shape_read.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

_Static_assert(SHAPE_COMMENT_MAX == RULE_COMMENT_MAX, "comments are read in one place");
_Static_assert(SHAPE_NAME_MAX == SET_NAME_MAX, "names are checked in one place");

const char *const shape_priorities[] = {[SHAPE_LOW] = "low",
	[SHAPE_NORMAL] = "normal",
	[SHAPE_HIGH] = "high",
	[SHAPE_INTERACTIVE] = "interactive",
	NULL};

const char *const shape_wishes[] = {[SHAPE_WISH_AUTO] = "auto",
	[SHAPE_WISH_PACING] = "pacing",
	[SHAPE_WISH_HTB] = "htb",
	[SHAPE_WISH_FQ] = "fq",
	[SHAPE_WISH_POLICER] = "policer",
	[SHAPE_WISH_IFB] = "ifb",
	NULL};

const char *const shape_engines[] = {[SHAPE_NONE] = "none",
	[SHAPE_PACING] = "pacing",
	[SHAPE_HTB] = "htb",
	[SHAPE_EDT] = "fq",
	[SHAPE_POLICER] = "policer",
	NULL};

const char *const shape_term_names[] = {[SHAPE_TERM_GUARANTEE] = "guarantee",
	[SHAPE_TERM_CEILING] = "ceiling",
	[SHAPE_TERM_BURST] = "burst",
	[SHAPE_TERM_WEIGHT] = "weight",
	[SHAPE_TERM_PRIORITY] = "priority",
	[SHAPE_TERM_UNDER] = "under",
	[SHAPE_TERM_ENGINE] = "engine",
	NULL};

#define RATE_ANY 8000 /* in place of one that does not matter */

#define want(s, ...) (error_want((s)->error, __VA_ARGS__), -EINVAL)

void shape_terms_init(struct shape_terms *ret_terms)
{
	*ret_terms = (struct shape_terms){.priority = SHAPE_NORMAL};
}

bool shape_terms_equal(const struct shape_terms *a, const struct shape_terms *b)
{
	return a->ceiling_bps == b->ceiling_bps && a->guarantee_bps == b->guarantee_bps &&
	       a->burst == b->burst && a->weight == b->weight && a->priority == b->priority &&
	       a->wish == b->wish && strcmp(a->under, b->under) == 0;
}

/*
 * Rates
 */

/* "10mb/s": what is the unit behind the digits? */
struct unit_guess {
	char scale;  /* k, m, g, t; 0: none */
	bool binary; /* kib, … */
	bool bytes;
	bool either; /* people write it for bits and for bytes */
	bool nothing;
};

static bool unit_guess(const char *unit, struct unit_guess *ret_guess)
{
	static const char *const bytes[] = {
		"b", "b/s", "b/sec", "bps", "byte", "bytes", "byte/s", "bytes/s", "byteps"};
	static const char *const bits[] = {"bits", "bits/s", "bit/sec", "bits/sec", "bitps"};
	struct unit_guess guess = {0};
	const char *rest = unit;

	if (*rest && strchr("kmgtKMGT", *rest))
		guess.scale = (char)(*rest++ | 0x20);
	if (guess.scale && (*rest == 'i' || *rest == 'I') && strncasecmp(rest, "it", 2) != 0) {
		guess.binary = true;
		rest++;
	}
	for (size_t i = 0; i < COUNT(bytes); i++)
		guess.bytes |= strcasecmp(rest, bytes[i]) == 0;
	/* 10mbps; and 10Mb/s, where case makes the difference */
	guess.either = guess.bytes && !guess.binary &&
	               (strcasecmp(rest, "bps") == 0 || (*rest == 'b' && *unit != guess.scale));
	guess.nothing = !*rest;
	*ret_guess = guess;
	if (guess.bytes || (guess.nothing && guess.scale))
		return true;
	for (size_t i = 0; i < COUNT(bits); i++)
		if (strcasecmp(rest, bits[i]) == 0)
			return true;
	return false;
}

int shape_rate_guess(struct sentence *s, const char *word)
{
	static const char *const scales[][2] = {{"k", "kilo"}, {"m", "mega"}, {"g", "giga"}, {"t", "tera"}};
	static const char *const binary_scales[] = {"kibi", "mebi", "gibi", "tebi"};
	int digits = (int)strspn(word, "0123456789.");
	struct unit_guess guess;
	char bits[48], text[64], bytes_bits[32] = "";
	const char *name = "";
	uint64_t bytes = 0;

	if (!digits || digits > 32 || !unit_guess(word + digits, &guess))
		return 0;
	snprintf(bits, sizeof(bits), "%.*s%.*sbit", digits, word, guess.scale ? 1 : 0, &guess.scale);
	if (!guess.bytes) {
		if (guess.nothing)
			sentence_fail(s, word, "%.64s of what?", word);
		else
			sentence_fail(s, word, "'%.64s' has an unknown unit", word + digits);
		return want(s, "%s", bits);
	}
	for (size_t i = 0; i < COUNT(scales); i++)
		if (guess.scale == scales[i][0][0])
			name = guess.binary ? binary_scales[i] : scales[i][1];
	snprintf(text, sizeof(text), "%.*s%.*s%sb", digits, word, guess.scale ? 1 : 0, &guess.scale,
		guess.binary ? "i" : "");
	if (size_parse(text, &bytes) == 0 && bytes <= SHAPE_RATE_MAX / 8)
		rate_print(bytes_bits, sizeof(bytes_bits), bytes * 8);
	if (guess.either) {
		sentence_fail(s, word, "'%.64s' may be %sbits or %sbytes a second", word, name, name);
		return bytes_bits[0] ? want(s, "%s, or %s if bytes are meant", bits, bytes_bits)
		                     : want(s, "%s", bits);
	}
	sentence_fail(s, word, "'%.64s' are %sbytes, a rate is bits a second", word, name);
	if (!bytes_bits[0])
		return want(s, "at most 1000gbit");
	return guess.binary ? want(s, "%s", bytes_bits)
	                    : want(s, "%s, or %s if bits are meant", bytes_bits, bits);
}

int shape_rate_parse(struct sentence *s, const char *word, uint64_t *ret_bps)
{
	uint64_t bps = 0;
	int r = word ? rate_parse(word, &bps) : -EINVAL;

	if (r == -EINVAL && word) {
		r = shape_rate_guess(s, word);
		if (r < 0)
			return r;
		r = -EINVAL;
	}
	if (r == -EINVAL)
		return sentence_expected(s, word, "a rate in bits a second", "such as 10mbit or 1gbit");
	if (r == 0 && word[strspn(word, "0123456789.")] == '\0' && bps) {
		sentence_fail(s, word, "%.64s of what?", word);
		return want(s, "%.20smbit, %.20skbit", word, word);
	}
	if (r < 0 || bps > SHAPE_RATE_MAX || bps < SHAPE_RATE_MIN) {
		sentence_fail(s, word, "%.64s is %s", word,
			r < 0 || bps > SHAPE_RATE_MAX ? "too much"
			: bps                         ? "too little"
						      : "nothing");
		return want(s, "8kbit to 1000gbit");
	}
	if (bps % 8) {
		sentence_fail(s, word, "%.64s is no whole number of bytes a second", word);
		return want(s, "%llubit", (unsigned long long)(bps - bps % 8));
	}
	*ret_bps = bps;
	return 0;
}

int shape_burst_parse(struct sentence *s, const char *word, uint64_t *ret_bytes)
{
	uint64_t bytes = 0;
	int r = word ? size_parse(word, &bytes) : -EINVAL;

	if (r == -EINVAL)
		return sentence_expected(s, word, "a burst", "bytes, such as 64kb: the rate is in bits");
	if (r < 0 || bytes > SHAPE_BURST_MAX || bytes < SHAPE_BURST_MIN) {
		sentence_fail(s, word, "the burst %.64s is too %s", word,
			r < 0 || bytes > SHAPE_BURST_MAX ? "large" : "small");
		return want(s, "1514 bytes (one packet) to 1000gb");
	}
	*ret_bytes = bytes;
	return 0;
}

/*
 * Names
 */

int shape_name_check(const char *name, struct error *error)
{
	static const char *const reserved[] = {"any", "port", "none"};
	struct error problem = {0};

	if (strlen(name) < SHAPE_NAME_MAX && set_name_check(name, &problem) < 0) {
		error_set(error, -EINVAL, "'%.64s' can be no class's name", name);
		error_want(error, "a letter, then letters, digits, '-' and '_'");
		return -EINVAL;
	}
	if (strlen(name) >= SHAPE_NAME_MAX) {
		error_set(error, -EINVAL, "the name '%.64s' is too long", name);
		error_want(error, "at most %d bytes", SHAPE_NAME_MAX - 1);
		return -EINVAL;
	}
	for (size_t i = 0; i < COUNT(reserved); i++) {
		if (strcmp(reserved[i], name) == 0) {
			error_set(error, -EINVAL, "'%s' is a word of sentences, it can be no class's name",
				name);
			error_want(error, "another name, such as bulk");
			return -EINVAL;
		}
	}
	return 0;
}

int shape_name_parse(struct sentence *s, const char *word, char ret_name[SHAPE_NAME_MAX])
{
	struct error problem = {0};

	if (!word)
		return sentence_expected(s, NULL, "a class's name", "such as bulk");
	if (shape_name_check(word, &problem) < 0) {
		sentence_fail(s, word, "%s", problem.what);
		return want(s, "%s", problem.want);
	}
	snprintf(ret_name, SHAPE_NAME_MAX, "%.31s", word);
	return 0;
}

/* An interface or a class. */
static int under_read(struct shape_reader *r)
{
	const char *word = sentence_take(r->s);
	size_t length = word ? strlen(word) : 0;

	if (!word)
		return sentence_expected(r->s, NULL, "an interface or a class", "such as under eth0");
	if (word[strcspn(word, "/:*?[\"@")] || strcmp(word, ".") == 0 || strcmp(word, "..") == 0) {
		sentence_fail(r->s, word, "'%.64s' can be no interface's name and no class's", word);
		return want(r->s, "the name of one, such as eth0");
	}
	if (length >= SHAPE_NAME_MAX) {
		sentence_fail(r->s, word, "the name '%.64s' is too long", word);
		return want(r->s, "at most %d bytes", SHAPE_NAME_MAX - 1);
	}
	memset(r->terms->under, 0, sizeof(r->terms->under)); /* changes leave nothing behind */
	memcpy(r->terms->under, word, length);
	return 0;
}

/*
 * Terms
 */

enum shape_term shape_term_find(const char *word)
{
	for (size_t i = 0; shape_term_names[i]; i++)
		if (strcmp(shape_term_names[i], word) == 0)
			return (enum shape_term)i;
	return strncmp(word, "engine=", 7) == 0 ? SHAPE_TERM_ENGINE : SHAPE_TERMS;
}

/* Is it taken back? */
static bool none_take(struct shape_reader *r)
{
	const char *word = sentence_peek(r->s);

	if (!r->changes || !word || strcmp(word, "none") != 0)
		return false;
	sentence_skip(r->s, word);
	return true;
}

static int rate_term_read(struct shape_reader *r, uint64_t *rate)
{
	if (!none_take(r))
		return shape_rate_parse(r->s, sentence_take(r->s), rate);
	*rate = 0;
	return 0;
}

static int burst_term_read(struct shape_reader *r)
{
	if (!none_take(r))
		return shape_burst_parse(r->s, sentence_take(r->s), &r->terms->burst);
	r->terms->burst = 0;
	return 0;
}

static int weight_read(struct shape_reader *r)
{
	const char *word = sentence_take(r->s);
	unsigned int weight = 0;
	int result = word ? number_parse(word, SHAPE_WEIGHT_MAX, &weight) : -EINVAL;

	if (result == -EINVAL)
		return sentence_expected(r->s, word, "a weight", "a number from 1 to 1000");
	if (result < 0 || !weight) {
		sentence_fail(
			r->s, word, "the weight %.64s is %s", word, result < 0 ? "too much" : "nothing");
		return want(r->s, "1 to %d", SHAPE_WEIGHT_MAX);
	}
	r->terms->weight = weight;
	return 0;
}

static int choice_find(struct shape_reader *r, const char *word, const char *const *known, const char *what,
	const char *all, unsigned int *ret_choice)
{
	const char *nearest;

	for (unsigned int i = 0; word && known[i]; i++) {
		if (strcmp(known[i], word) == 0) {
			*ret_choice = i;
			return 0;
		}
	}
	sentence_expected(r->s, word, what, all);
	nearest = word ? text_nearest(word, known) : NULL;
	return nearest ? want(r->s, "did you mean '%s'?", nearest) : -EINVAL;
}

static int priority_read(struct shape_reader *r)
{
	unsigned int choice = SHAPE_NORMAL;
	int result = choice_find(r, sentence_take(r->s), shape_priorities, "a priority",
		"low, normal, high or interactive", &choice);

	if (result == 0)
		r->terms->priority = (enum shape_priority)choice;
	return result;
}

static int engine_read(struct shape_reader *r, const char *value)
{
	unsigned int choice = SHAPE_WISH_AUTO;
	int result = choice_find(
		r, value, shape_wishes, "an engine", "auto, pacing, htb, fq, policer or ifb", &choice);

	if (result == 0)
		r->terms->wish = (enum shape_wish)choice;
	return result;
}

int shape_term_read(struct shape_reader *r, const char *word)
{
	enum shape_term term = shape_term_find(word);

	sentence_skip(r->s, word);
	if (r->said[term]) {
		sentence_fail(r->s, word, "a second '%s'", shape_term_names[term]);
		return want(r->s, "'%s' once", shape_term_names[term]);
	}
	r->said[term] = word;
	switch (term) {
	case SHAPE_TERM_GUARANTEE:
		return rate_term_read(r, &r->terms->guarantee_bps);
	case SHAPE_TERM_CEILING:
		return rate_term_read(r, &r->terms->ceiling_bps);
	case SHAPE_TERM_BURST:
		return burst_term_read(r);
	case SHAPE_TERM_WEIGHT:
		return weight_read(r);
	case SHAPE_TERM_PRIORITY:
		return priority_read(r);
	case SHAPE_TERM_UNDER:
		return under_read(r);
	default:
		return engine_read(r, word[6] == '=' ? word + 7 : sentence_take(r->s));
	}
}

int shape_terms_check(struct shape_reader *r)
{
	const struct shape_terms *terms = r->terms;
	char ceiling[32], guarantee[32];

	if (terms->ceiling_bps && terms->guarantee_bps > terms->ceiling_bps) {
		rate_print(ceiling, sizeof(ceiling), terms->ceiling_bps);
		rate_print(guarantee, sizeof(guarantee), terms->guarantee_bps);
		sentence_fail(r->s,
			r->said[SHAPE_TERM_GUARANTEE] ? r->said[SHAPE_TERM_GUARANTEE]
						      : r->said[SHAPE_TERM_CEILING],
			"the guarantee, %s, is above the ceiling, %s", guarantee, ceiling);
		return want(r->s, "at most %s guaranteed, or a ceiling of %s", ceiling, guarantee);
	}
	if (terms->burst && !terms->ceiling_bps) {
		sentence_fail(r->s, r->said[SHAPE_TERM_BURST], "a burst, but no ceiling that it belongs to");
		return want(r->s, "ceiling RATE burst SIZE");
	}
	return 0;
}

static void rate_put(struct printer *p, const char *name, uint64_t bps)
{
	char text[32];

	if (bps)
		printer_put(p, " %s %s", name, rate_print(text, sizeof(text), bps));
}

void shape_terms_put(struct printer *p, const struct shape_terms *terms, unsigned int skip)
{
	char text[32];

	if (!(skip & 1U << SHAPE_TERM_UNDER) && terms->under[0])
		printer_put(p, " under %s", terms->under);
	if (!(skip & 1U << SHAPE_TERM_GUARANTEE))
		rate_put(p, "guarantee", terms->guarantee_bps);
	if (!(skip & 1U << SHAPE_TERM_CEILING))
		rate_put(p, "ceiling", terms->ceiling_bps);
	if (terms->burst)
		printer_put(p, " burst %s", size_print(text, sizeof(text), terms->burst));
	if (terms->weight)
		printer_put(p, " weight %u", terms->weight);
	if (terms->priority != SHAPE_NORMAL)
		printer_put(p, " priority %s", shape_priorities[terms->priority]);
	if (terms->wish != SHAPE_WISH_AUTO)
		printer_put(p, " engine %s", shape_wishes[terms->wish]);
}

/*
 * Declared classes
 */

static int fail_term(struct sentence *s, const char *word, const char *all)
{
	const char *nearest = text_nearest(word, shape_term_names);

	sentence_fail(s, word, "unknown word '%.64s'", word);
	return nearest ? want(s, "did you mean '%s'?", nearest) : want(s, "%s", all);
}

static int comment_read(struct sentence *s, const char *word, char comment[SHAPE_COMMENT_MAX])
{
	struct rule rule;
	int r = rule_comment_read(s, word, &rule);

	if (r == 0)
		memcpy(comment, rule.comment, SHAPE_COMMENT_MAX);
	return r;
}

static int direction_read(struct sentence *s, enum match_direction *ret_direction)
{
	const char *word = sentence_peek(s);
	bool in = word && strcmp(word, "in") == 0;

	*ret_direction = in ? MATCH_IN : MATCH_OUT;
	if (in || (word && strcmp(word, "out") == 0))
		sentence_skip(s, word);
	return 0;
}

static int declared_read(struct sentence *s, struct shape_declared *declared)
{
	struct shape_reader reader = {.s = s, .terms = &declared->terms};
	const char *word = sentence_take(s);
	int r = shape_name_parse(s, word, declared->name);

	if (r == 0)
		r = direction_read(s, &declared->direction);
	while (r == 0 && (word = sentence_peek(s))) {
		if (word[0] == '"')
			r = comment_read(s, word, declared->comment);
		else if (shape_term_find(word) != SHAPE_TERMS)
			r = shape_term_read(&reader, word);
		else
			r = fail_term(s, word,
				"in or out, under INTERFACE or CLASS, guarantee, ceiling, burst, weight, "
				"priority, engine; \"a comment\"");
	}
	if (r == 0 && !declared->terms.under[0]) {
		sentence_fail(s, NULL, "the class '%s' stands below nothing", declared->name);
		return want(s, "%s under INTERFACE, or under another class", declared->name);
	}
	if (r == 0 && strcmp(declared->terms.under, declared->name) == 0) {
		sentence_fail(
			s, reader.said[SHAPE_TERM_UNDER], "the class '%s' below itself", declared->name);
		return want(s, "an interface, or another class");
	}
	return r < 0 ? r : shape_terms_check(&reader);
}

int shape_declared_parse(const char *text, struct shape_declared *ret_declared, struct error *error)
{
	struct shape_declared declared = {0};
	struct sentence s;
	int r = sentence_begin(&s, text, error);

	if (r == 0 && s.length >= SHAPE_TEXT_MAX) {
		error_set(error, -EINVAL, "the sentence is too long");
		error_want(error, "at most %d bytes", SHAPE_TEXT_MAX - 1);
		return -EINVAL;
	}
	shape_terms_init(&declared.terms);
	if (r == 0)
		r = declared_read(&s, &declared);
	if (r < 0)
		return r;
	*ret_declared = declared;
	return 0;
}

static void declared_put(struct printer *p, const struct shape_declared *declared)
{
	printer_put(p, " %s", declared->name);
	if (declared->direction == MATCH_IN)
		printer_put(p, " in");
	shape_terms_put(p, &declared->terms, 0);
}

int shape_declared_print(const struct shape_declared *declared, char *buffer, size_t size)
{
	struct printer p = {.buffer = buffer, .size = size};

	if (!size)
		return -ENOSPC;
	buffer[0] = '\0';
	declared_put(&p, declared);
	if (declared->comment[0])
		printer_put(&p, " \"%s\"", declared->comment);
	return p.full ? -ENOSPC : 0;
}

/* As a rule. */
int rule_declared_read(struct sentence *s, struct rule *rule)
{
	struct shape_declared declared = {0};
	int r;

	shape_terms_init(&declared.terms);
	r = declared_read(s, &declared);
	if (r < 0)
		return r;
	memcpy(rule->class, declared.name, sizeof(rule->class));
	memcpy(rule->comment, declared.comment, sizeof(rule->comment));
	rule->match.direction = declared.direction;
	rule->shape = declared.terms;
	return 0;
}

void rule_declared_put(struct printer *p, const struct rule *rule)
{
	struct shape_declared declared = {.direction = rule->match.direction, .terms = rule->shape};

	memcpy(declared.name, rule->class, sizeof(declared.name));
	declared_put(p, &declared);
}

/*
 * Changes
 */

/* Reads all of a change; `to` is the rate that "to RATE" sets. */
static int change_read(struct shape_reader *r, uint64_t *to)
{
	const char *word, *to_word = NULL;
	int result = 0;

	r->changes = true;
	if (!sentence_peek(r->s)) {
		sentence_fail(r->s, NULL, "nothing is changed");
		return want(r->s, "to RATE, guarantee, ceiling, burst, weight, priority, under or engine");
	}
	while (result == 0 && (word = sentence_peek(r->s))) {
		if (strcmp(word, "to") == 0 && !to_word) {
			to_word = word;
			sentence_skip(r->s, word);
			result = shape_rate_parse(r->s, sentence_take(r->s), to);
		} else if (strcmp(word, "to") == 0) {
			sentence_fail(r->s, word, "a second 'to'");
			result = want(r->s, "'to' once");
		} else if (shape_term_find(word) != SHAPE_TERMS) {
			result = shape_term_read(r, word);
		} else {
			result = fail_term(r->s, word,
				"to RATE, guarantee, ceiling, burst, weight, priority, under or engine");
		}
	}
	/* the two would say the same */
	for (size_t i = SHAPE_TERM_GUARANTEE; result == 0 && to_word && i <= SHAPE_TERM_CEILING; i++) {
		uint64_t *const rates[] = {&r->terms->guarantee_bps, &r->terms->ceiling_bps};

		if (to != rates[i] || !r->said[i])
			continue;
		sentence_fail(r->s, r->said[i], "'to' says what '%s' says", shape_term_names[i]);
		return want(r->s, "one of the two");
	}
	return result;
}

static int terms_change(
	struct shape_terms *terms, const char *text, bool to_is_guarantee, struct error *error)
{
	struct shape_terms changed = *terms;
	struct sentence s;
	struct shape_reader reader = {.s = &s, .terms = &changed};
	int r = sentence_begin(&s, text, error);

	if (r == 0)
		r = change_read(&reader, to_is_guarantee ? &changed.guarantee_bps : &changed.ceiling_bps);
	if (r == 0)
		r = shape_terms_check(&reader);
	if (r < 0)
		return r;
	*terms = changed;
	return 0;
}

/* The class stays what it is about, and below another. */
static int changed_check(const struct rule *rule, const struct shape_terms *terms, struct error *error)
{
	uint64_t rate = rule->verb == RULE_GUARANTEE ? terms->guarantee_bps : terms->ceiling_bps;

	if (rule->verb != RULE_SHAPE && !rate) {
		error_set(error, -EINVAL, "a %s without a rate", rule_verbs[rule->verb]);
		error_want(error, "a rate, or delete the rule");
		return -EINVAL;
	}
	if (rule->verb == RULE_SHAPE && strcmp(terms->under, rule->class) == 0) {
		error_set(error, -EINVAL, "the class '%s' below itself", rule->class);
		error_want(error, "an interface, or another class");
		return -EINVAL;
	}
	return 0;
}

int rule_shape_change(struct rule *rule, const char *text, struct error *error)
{
	struct shape_terms terms = rule->shape;
	bool limits = rule->verb == RULE_LIMIT, assigns = rule->verb == RULE_ASSIGN;
	int r;

	if (assigns || !(rule_is_shape(rule) || rule_is_declared(rule))) {
		error_set(error, -EINVAL, "'%s' makes no class%s", rule_verbs[rule->verb],
			assigns  ? ", it assigns to one"
			: limits ? " with packets, connections, 'per' or 'log'"
				 : "");
		error_want(error, "%s", assigns ? "change the class" : "delete the rule, and add another");
		return -EINVAL;
	}
	r = terms_change(&terms, text, rule->verb == RULE_GUARANTEE, error);
	if (r == 0)
		r = changed_check(rule, &terms, error);
	if (r < 0)
		return r;
	rule->shape = terms;
	if (limits) {
		rule->packet.rate.rate = terms.ceiling_bps / 8;
		rule->packet.rate.burst = terms.burst ? terms.burst : rule_burst_usual(&rule->packet);
	}
	return 0;
}

char *rule_class_text(const struct rule *rule)
{
	struct rule plain = *rule;

	if (!rule_makes_class(rule))
		return NULL;
	shape_terms_init(&plain.shape);
	memcpy(plain.shape.under, rule->shape.under, sizeof(plain.shape.under));
	if (rule->verb == RULE_GUARANTEE)
		plain.shape.guarantee_bps = RATE_ANY;
	if (rule->verb == RULE_LIMIT) {
		plain.shape.ceiling_bps = RATE_ANY;
		plain.packet.rate.rate = RATE_ANY / 8;
		plain.packet.rate.burst = rule_burst_usual(&plain.packet);
	}
	return rule_text(&plain, NULL);
}

int shape_change_check(const char *text, struct error *error)
{
	struct shape_terms terms;
	struct sentence s;
	struct shape_reader reader = {.s = &s, .terms = &terms};
	uint64_t to = 0;
	int r = sentence_begin(&s, text, error);

	shape_terms_init(&terms);
	return r < 0 ? r : change_read(&reader, &to);
}
