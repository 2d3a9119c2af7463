// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* Health checks: the words behind `check`. */
#include <errno.h>
#include <string.h>

#include "basic/text.h"
#include "model/rule_read.h"
#include "model/service_read.h"

#define MS_NS          1000000ULL
#define EVERY_NS_MIN   (100 * MS_NS)
#define EVERY_NS_MAX   (3600000 * MS_NS)
#define TIMEOUT_NS_MIN (10 * MS_NS)
#define TIMES_MAX      100 /* rise, fall */
#define STATUS_MIN     100 /* RFC 9110 */
#define STATUS_MAX     599

const char *const service_checks[] = {[SERVICE_CHECK_NONE] = "none",
	[SERVICE_CHECK_TCP] = "tcp",
	[SERVICE_CHECK_HTTP] = "http",
	[SERVICE_CHECK_HTTPS] = "https",
	[SERVICE_CHECK_UDP] = "udp",
	[SERVICE_CHECK_EXEC] = "exec",
	NULL};

#define want(s, ...) (error_want((s)->error, __VA_ARGS__), -EINVAL)

#define KIND(name)   (1U << SERVICE_CHECK_##name)
#define KINDS_HTTP   (KIND(HTTP) | KIND(HTTPS))
#define KINDS_REMOTE (KINDS_HTTP | KIND(TCP) | KIND(UDP))
#define KINDS_ALL    (KINDS_REMOTE | KIND(EXEC))

/* Text in quotes, or one word. */
static int text_read(struct service_reader *r, const char *noun, char text[SERVICE_CHECK_TEXT_MAX])
{
	const char *word = sentence_peek(r->s);
	size_t length;

	if (!word)
		return sentence_expected(r->s, NULL, noun, "text, in quotes if there are spaces in it");
	if (*word == '"')
		return rule_quoted_read(r->s, word, noun, text, SERVICE_CHECK_TEXT_MAX);
	for (const char *p = word; *p; p += length) {
		length = text_utf8_length(p);
		if (!length || (unsigned char)*p < ' ' || *p == 0x7f || *p == '"')
			return sentence_fail(r->s, p, "%s is text in UTF-8 without quotes in it", noun);
	}
	length = strlen(word);
	if (length >= SERVICE_CHECK_TEXT_MAX) {
		sentence_fail(r->s, word, "%s is too long", noun);
		return want(r->s, "at most %d bytes", SERVICE_CHECK_TEXT_MAX - 1);
	}
	sentence_skip(r->s, word);
	memcpy(text, word, length + 1);
	return 0;
}

static int read_port(struct service_reader *r, struct service_check *check)
{
	return service_port_read(r, &check->port);
}

static int read_direct(struct service_reader *r, struct service_check *check)
{
	(void)r;
	check->direct = true;
	return 0;
}

/* It becomes a part of a request's first line. */
static int read_path(struct service_reader *r, struct service_check *check)
{
	const char *word = sentence_peek(r->s);
	int result = text_read(r, "a path", check->path);

	if (result < 0)
		return result;
	for (const char *p = check->path; *p; p++) {
		if (*p > ' ' && *p < 0x7f && check->path[0] == '/')
			continue;
		sentence_fail(r->s, word, "'%.64s' is no path of a URL", check->path);
		return want(r->s, "one such as /health, other characters as %%20");
	}
	return 0;
}

static int read_host(struct service_reader *r, struct service_check *check)
{
	static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-:[]_";
	const char *word = sentence_peek(r->s);
	int result = text_read(r, "a host's name", check->host);

	if (result < 0 || !check->host[strspn(check->host, allowed)])
		return result;
	sentence_fail(r->s, word, "'%.64s' is no host's name", check->host);
	return want(r->s, "one such as www.example.org");
}

/* N or N-N. */
static int read_status(struct service_reader *r, struct service_check *check)
{
	char *word = sentence_take(r->s), *dash = word ? strchr(word, '-') : NULL;
	unsigned int low = 0, high = 0;

	if (dash)
		*dash = '\0';
	if (!word || number_parse(word, STATUS_MAX, &low) < 0 || low < STATUS_MIN ||
		(dash && number_parse(dash + 1, STATUS_MAX, &high) < 0) || (dash && high < low)) {
		if (dash)
			*dash = '-';
		return sentence_expected(
			r->s, word, "a status", "a number from 100 to 599, or a range such as 200-299");
	}
	check->status_low = (uint16_t)low;
	check->status_high = (uint16_t)(dash ? high : low);
	return 0;
}

static int read_send(struct service_reader *r, struct service_check *check)
{
	return text_read(r, "what is sent", check->send);
}

static int read_expect(struct service_reader *r, struct service_check *check)
{
	return text_read(r, "what is expected", check->expect);
}

static int read_every(struct service_reader *r, struct service_check *check)
{
	return service_duration_read(r, "a duration", EVERY_NS_MIN, EVERY_NS_MAX, &check->every_ns);
}

static int read_timeout(struct service_reader *r, struct service_check *check)
{
	return service_duration_read(r, "a duration", TIMEOUT_NS_MIN, EVERY_NS_MAX, &check->timeout_ns);
}

static int read_rise(struct service_reader *r, struct service_check *check)
{
	return service_number_read(r, "how often", 1, TIMES_MAX, &check->rise);
}

static int read_fall(struct service_reader *r, struct service_check *check)
{
	return service_number_read(r, "how often", 1, TIMES_MAX, &check->fall);
}

static const struct check_word {
	const char *name;
	unsigned int kinds; /* of checks that have it */
	int (*read)(struct service_reader *r, struct service_check *check);
} words[] = {
	{"port", KINDS_REMOTE, read_port},
	{"direct", KINDS_REMOTE, read_direct},
	{"path", KINDS_HTTP, read_path},
	{"host", KINDS_HTTP, read_host},
	{"status", KINDS_HTTP, read_status},
	{"send", KIND(UDP), read_send},
	{"expect", KIND(UDP), read_expect},
	{"every", KINDS_ALL, read_every},
	{"timeout", KINDS_ALL, read_timeout},
	{"rise", KINDS_ALL, read_rise},
	{"fall", KINDS_ALL, read_fall},
};

#define WORDS (sizeof(words) / sizeof(words[0]))

static const struct check_word *word_find(const char *name)
{
	for (size_t i = 0; i < WORDS; i++)
		if (strcmp(words[i].name, name) == 0)
			return &words[i];
	return NULL;
}

bool service_check_has_word(const char *word)
{
	return word_find(word);
}

static int fail_kind(struct service_reader *r, const char *word, const struct check_word *wrong)
{
	char kinds[64] = "";
	size_t length = 0;

	for (unsigned int i = SERVICE_CHECK_TCP; i < SERVICE_CHECKS; i++)
		if (wrong->kinds & 1U << i)
			length += (size_t)snprintf(kinds + length, sizeof(kinds) - length, "%s%s",
				length ? ", " : "", service_checks[i]);
	sentence_fail(r->s, word, "a check by %s has no '%s'", service_checks[r->service->check.kind], word);
	return want(r->s, "'%s' with %s", word, kinds);
}

static int check_verify(struct service_reader *r, const char *timeout_word)
{
	struct service_check *check = &r->service->check;

	if (!check->timeout_ns)
		check->timeout_ns = check->every_ns < SERVICE_CHECK_TIMEOUT_NS ? check->every_ns
		                                                               : SERVICE_CHECK_TIMEOUT_NS;
	if (check->timeout_ns <= check->every_ns)
		return 0;
	sentence_fail(r->s, timeout_word, "a check would begin before the last one has ended");
	return want(r->s, "a timeout of at most 'every'");
}

int service_check_read(struct service_reader *r)
{
	struct service_check *check = &r->service->check;
	const char *said[WORDS] = {NULL}, *word;
	const struct check_word *known;
	unsigned int kind = 0;
	int result = rule_choice_read(r->s, service_checks + SERVICE_CHECK_TCP, "a kind of check",
		"tcp, http, https, udp or exec", &kind);

	if (result < 0)
		return result;
	*check = (struct service_check){.kind = SERVICE_CHECK_TCP + kind,
		.every_ns = SERVICE_CHECK_EVERY_NS,
		.rise = SERVICE_CHECK_RISE,
		.fall = SERVICE_CHECK_FALL};
	if (1U << check->kind & KINDS_HTTP) {
		check->path[0] = '/';
		check->status_low = SERVICE_CHECK_STATUS_LOW;
		check->status_high = SERVICE_CHECK_STATUS_HIGH;
	}
	if (check->kind == SERVICE_CHECK_EXEC)
		result = text_read(r, "a command", check->command);
	while (result == 0 && (word = sentence_peek(r->s)) && (known = word_find(word))) {
		sentence_skip(r->s, word);
		if (!(known->kinds & 1U << check->kind))
			return fail_kind(r, word, known);
		if (said[known - words]) {
			sentence_fail(r->s, word, "a second '%s'", word);
			return want(r->s, "'%s' once", word);
		}
		said[known - words] = word;
		result = known->read(r, check);
	}
	return result < 0 ? result : check_verify(r, said[word_find("timeout") - words]);
}
