/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include "model/sentence.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "basic/text.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

#define KNOWN_MAX 80 /* words a suggestion is chosen from */

/* What people ask for most, so that it needs no /etc/services (a minimal system or container has none). */
static const struct name services[] = {
	{"ftp", 21},
	{"ssh", 22},
	{"telnet", 23},
	{"smtp", 25},
	{"domain", 53},
	{"dns", 53},
	{"bootps", 67},
	{"bootpc", 68},
	{"tftp", 69},
	{"http", 80},
	{"kerberos", 88},
	{"pop3", 110},
	{"sunrpc", 111},
	{"ntp", 123},
	{"imap", 143},
	{"snmp", 161},
	{"snmp-trap", 162},
	{"bgp", 179},
	{"ldap", 389},
	{"https", 443},
	{"syslog", 514},
	{"submission", 587},
	{"ldaps", 636},
	{"domain-s", 853},
	{"imaps", 993},
	{"pop3s", 995},
	{"openvpn", 1194},
	{"mqtt", 1883},
	{"nfs", 2049},
	{"mysql", 3306},
	{"rdp", 3389},
	{"vxlan", 4789},
	{"sip", 5060},
	{"mdns", 5353},
	{"postgresql", 5432},
	{"redis", 6379},
	{"http-alt", 8080},
	{"wireguard", 51820},
};

const struct name *name_find(const struct name *names, size_t count, const char *name)
{
	for (size_t i = 0; i < count; i++) {
		if (strcmp(names[i].name, name) == 0)
			return &names[i];
	}
	return NULL;
}

const char *value_name(const struct name *names, size_t count, int value)
{
	for (size_t i = 0; i < count; i++) {
		if (names[i].value == value)
			return names[i].name;
	}
	return NULL;
}

int number_parse(const char *text, unsigned int max, unsigned int *ret_number)
{
	unsigned int number = 0;

	if (!text[0] || (text[0] == '0' && text[1]))
		return -EINVAL;
	for (const char *p = text; *p; p++) {
		if (*p < '0' || *p > '9')
			return -EINVAL;
		if (number <= max)
			number = number * 10 + (unsigned int)(*p - '0');
	}
	if (number > max)
		return -ERANGE;
	*ret_number = number;
	return 0;
}

/*
 * Words and errors
 */

static bool is_space(char c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

int sentence_begin_in(struct sentence *s, const char *text, char *room, size_t size, struct error *error)
{
	*s = (struct sentence){
		.text = room, .sentence = text, .length = strlen(text), .error = error, .protocol = -1};
	if (s->length >= size) {
		error_set(error, -EINVAL, "the sentence is too long");
		error_want(error, "at most %zu bytes", size - 1);
		error_at(error, NULL, text, size - 1);
		return -EINVAL;
	}
	memcpy(room, text, s->length + 1);
	return 0;
}

int sentence_begin(struct sentence *s, const char *text, struct error *error)
{
	return sentence_begin_in(s, text, s->room, sizeof(s->room), error);
}

char *sentence_peek(struct sentence *s)
{
	char *word, *end;

	while (is_space(s->text[s->offset]))
		s->offset++;
	word = s->text + s->offset;
	if (s->offset >= s->length)
		return NULL;
	for (end = word; *end && !is_space(*end);)
		end++;
	*end = '\0';
	return word;
}

void sentence_skip(struct sentence *s, const char *word)
{
	s->offset += strlen(word);
	if (s->offset < s->length)
		s->offset++; /* the white space that sentence_peek() made a NUL */
}

char *sentence_take(struct sentence *s)
{
	char *word = sentence_peek(s);

	if (word)
		sentence_skip(s, word);
	return word;
}

/* The white space that sentence_peek() made a NUL is there again. */
static void word_join(struct sentence *s, const char *word)
{
	size_t end = s->offset + strlen(word);

	if (end < s->length)
		s->text[end] = ' ';
}

char *sentence_list_peek(struct sentence *s)
{
	char *word = sentence_peek(s), *comma = word ? strchr(word, ',') : NULL;

	if (!comma || comma == word)
		return word;
	word_join(s, word);
	*comma = '\0';
	return word;
}

bool sentence_list_goes_on(struct sentence *s)
{
	const char *word;

	if (s->offset && s->sentence[s->offset - 1] == ',')
		return true;
	word = sentence_peek(s);
	if (!word || *word != ',')
		return false;
	word_join(s, word);
	s->offset++;
	return true;
}

int sentence_fail_at(struct sentence *s, const char *word)
{
	error_at(s->error, NULL, s->sentence, word ? (size_t)(word - s->text) : s->length);
	return -EINVAL;
}

int sentence_expected(struct sentence *s, const char *word, const char *expected, const char *want)
{
	if (word)
		sentence_fail(s, word, "expected %s, got '%.64s'", expected, word);
	else
		sentence_fail(s, NULL, "expected %s, got the end of the sentence", expected);
	if (want)
		error_want(s->error, "%s", want);
	return -EINVAL;
}

int sentence_take_word(struct sentence *s, const char *word, const char *want)
{
	const char *next = sentence_take(s);
	char expected[32];

	if (next && strcmp(next, word) == 0)
		return 0;
	snprintf(expected, sizeof(expected), "'%s'", word);
	return sentence_expected(s, next, expected, want);
}

static void known_add(const char **known, size_t *count, const struct name *names, size_t names_count)
{
	for (size_t i = 0; i < names_count && *count < KNOWN_MAX; i++)
		known[(*count)++] = names[i].name;
	known[*count] = NULL;
}

const char *name_nearest(const char *word, const struct name *names, size_t names_count)
{
	const char *known[KNOWN_MAX + 1];
	size_t count = 0;

	known_add(known, &count, names, names_count);
	return text_nearest(word, known);
}

static const char *family_text(uint8_t family)
{
	return family == 6 ? "IPv6" : "IPv4";
}

int sentence_family(struct sentence *s, const char *word, uint8_t family)
{
	if (s->family && s->family != family) {
		sentence_fail(s, word, "'%.64s' is %s, but '%.64s' is %s", word, family_text(family),
			s->family_word, family_text(s->family));
		error_want(s->error, "one family: a match with both never fits");
		return -EINVAL;
	}
	if (!s->family) {
		s->family = family;
		s->family_word = word;
	}
	return 0;
}

/*
 * Values
 */

static bool service_find(const char *name, int protocol, unsigned int *ret_port)
{
	const struct name *known = name_find(services, COUNT(services), name);
	struct servent entry, *found = NULL;
	const char *protocol_text = NULL;
	char buffer[1024];

	if (known) {
		*ret_port = (unsigned int)known->value;
		return true;
	}
	if (protocol >= 0)
		protocol_text = protocol_name((uint8_t)protocol);
	if (getservbyname_r(name, protocol_text, &entry, buffer, sizeof(buffer), &found) || !found)
		return false;
	*ret_port = ntohs((uint16_t)entry.s_port);
	return true;
}

/* One number of a port or range. */
static int port_number_read(struct sentence *s, const char *text, unsigned int *ret_port)
{
	int result = number_parse(text, UINT16_MAX, ret_port);

	if (result == -ERANGE) {
		sentence_fail(s, text, "port %.64s is out of range", text);
		error_want(s->error, "0 to 65535");
		return -EINVAL;
	}
	if (result < 0)
		return sentence_expected(s, text, "a port", "a number, a name such as https, or low-high");
	return 0;
}

/* `text`: a port, a name or low-high; overwritten. */
static int port_range_read(struct sentence *s, char *text, struct port_range *ret_range)
{
	unsigned int low = 0, high = 0;
	char *dash;
	int result;

	/* Only what holds a letter is a name: names have dashes too, and "0x50" is none. */
	if (text[strspn(text, "0123456789-")]) {
		if (!service_find(text, s->protocol, &low))
			return sentence_expected(
				s, text, "a port", "a number, a name such as https, or low-high");
		*ret_range = (struct port_range){(uint16_t)low, (uint16_t)low};
		return 0;
	}

	dash = strchr(text, '-');
	if (dash && (dash == text || !dash[1] || strchr(dash + 1, '-')))
		return sentence_expected(s, text, "a port", "a number, a name such as https, or low-high");
	if (dash)
		*dash = '\0';
	result = port_number_read(s, text, &low);
	if (result < 0)
		return result;
	if (!dash) {
		*ret_range = (struct port_range){(uint16_t)low, (uint16_t)low};
		return 0;
	}

	result = port_number_read(s, dash + 1, &high);
	if (result < 0)
		return result;
	if (low > high) {
		sentence_fail(s, text, "the range %u-%u runs backwards", low, high);
		error_want(s->error, "%u-%u", high, low);
		return -EINVAL;
	}
	*ret_range = (struct port_range){(uint16_t)low, (uint16_t)high};
	return 0;
}

char *list_take(char **list)
{
	char *element = *list, *comma = strchr(element, ',');

	if (comma)
		*comma = '\0';
	*list = comma ? comma + 1 : NULL;
	return element;
}

int sentence_ports(struct sentence *s, struct endpoint *endpoint)
{
	char *list = sentence_peek(s);
	int result;

	if (!list)
		return sentence_expected(s, NULL, "a port", "a number, a name such as https, or low-high");
	if (list[0] == '@') {
		sentence_fail(s, list, "'%.64s' is a set, which cannot stand here", list);
		error_want(s->error, "ports; sets stand in rules on packets only");
		return -EINVAL;
	}
	sentence_skip(s, list);
	if (!s->ports_word)
		s->ports_word = list;

	while (list) {
		char *element = list_take(&list);

		if (!*element) {
			sentence_fail(s, element, "a port is missing in the list");
			error_want(s->error, "ports with a comma and no space between them: 80,443");
			return -EINVAL;
		}
		if (endpoint->port_count == MATCH_PORT_RANGES_MAX) {
			sentence_fail(s, element, "more than %d ports and ranges in one list",
				MATCH_PORT_RANGES_MAX);
			error_want(s->error, "fewer, or a range that holds several");
			return -EINVAL;
		}
		result = port_range_read(s, element, &endpoint->ports[endpoint->port_count]);
		if (result < 0)
			return result;
		endpoint->port_count++;
	}
	return 0;
}

/* Why `word` is neither address nor prefix. */
static int fail_prefix(struct sentence *s, const char *word, const char *expected, const char *want)
{
	char buffer[ADDRESS_TEXT_MAX];
	struct address address;
	const char *slash;

	if (!word)
		return sentence_expected(s, NULL, expected, want);
	if (word[0] == '@') {
		sentence_fail(s, word, "'%.64s' is a set, which cannot stand here", word);
		error_want(s->error, "an address or prefix; sets stand in rules on packets only");
		return -EINVAL;
	}

	if (strchr(word, ',')) {
		sentence_fail(s, word, "'%.64s' is more than one address", word);
		error_want(s->error, "one address or prefix; in rules on packets @NAME, a set of several");
		return -EINVAL;
	}
	slash = strchr(word, '/');
	if (slash && (size_t)(slash - word) < sizeof(buffer)) {
		memcpy(buffer, word, (size_t)(slash - word));
		buffer[slash - word] = '\0';
		if (address_parse(buffer, &address) == 0) {
			return sentence_expected(s, slash + 1, "a prefix length",
				address.family == 6 ? "0 to 128" : "0 to 32");
		}
	}
	return sentence_expected(s, word, expected, want);
}

int sentence_prefix(struct sentence *s, struct endpoint *endpoint, const char *expected, const char *want)
{
	char *word = sentence_peek(s), cleared[ADDRESS_TEXT_MAX];
	struct prefix prefix;
	int result;

	result = word ? prefix_parse(word, &prefix) : -EINVAL;
	if (result == -EDOM) {
		prefix_print(cleared, sizeof(cleared), &prefix);
		sentence_fail(s, word, "'%.64s' has bits set behind its length", word);
		error_want(s->error, "%s, or the address without a length", cleared);
		return -EINVAL;
	}
	if (result < 0)
		return fail_prefix(s, word, expected, want);

	sentence_skip(s, word);
	result = sentence_family(s, word, prefix.address.family);
	if (result < 0)
		return result;
	endpoint->has_prefix = true;
	endpoint->prefix = prefix;
	return 0;
}

/* [any | address | prefix] ["port" PORTS] */
int sentence_endpoint(struct sentence *s, struct endpoint *endpoint)
{
	const char *word = sentence_peek(s);
	int result;

	if (!word || strcmp(word, "port") != 0) {
		if (word && strcmp(word, "any") == 0) {
			sentence_skip(s, word);
		} else {
			result = sentence_prefix(s, endpoint, "an address, a prefix, 'any' or 'port'",
				"such as 192.0.2.1, 10.0.0.0/8, 2001:db8::/32 or port https");
			if (result < 0)
				return result;
		}
		word = sentence_peek(s);
		if (!word || strcmp(word, "port") != 0)
			return 0;
	}
	sentence_skip(s, word);
	return sentence_ports(s, endpoint);
}

int sentence_owner(struct sentence *s, struct owner_match *ret_owner)
{
	const char *kind = sentence_take(s), *value = kind ? sentence_take(s) : NULL, *known = NULL;
	int result;

	if (!kind)
		return sentence_expected(
			s, NULL, "an owner", "pid, user, group, exe, cgroup, unit, container or pod");
	for (size_t i = 0; owner_kinds[i] && !known; i++)
		if (strcmp(owner_kinds[i], kind) == 0)
			known = owner_kinds[i];
	if (known && !value) {
		sentence_fail(s, NULL, "expected which %s, got the end of the sentence", kind);
		return -EINVAL;
	}
	result = owner_match_set(ret_owner, kind, value ? value : "", s->error);
	return result < 0 ? sentence_fail_at(s, known ? value : kind) : 0;
}

/*
 * Printing
 */

void printer_put(struct printer *p, const char *format, ...)
{
	va_list args;
	int length;

	if (p->full)
		return;
	if (*format == ' ' && !p->length)
		format++;

	va_start(args, format);
	length = vsnprintf(p->buffer + p->length, p->size - p->length, format, args);
	va_end(args);
	if (length < 0 || (size_t)length >= p->size - p->length) {
		p->full = true;
		return;
	}
	p->length += (size_t)length;
}

void printer_ports(struct printer *p, const struct endpoint *endpoint)
{
	const char *separator = " port ";

	for (unsigned int i = 0; i < endpoint->port_count; i++) {
		const struct port_range *range = &endpoint->ports[i];

		printer_put(p, separator[0] == ' ' ? " port %u" : ",%u", range->low);
		if (range->high != range->low)
			printer_put(p, "-%u", range->high);
		separator = ",";
	}
}

void printer_endpoint(struct printer *p, const char *word, const struct endpoint *endpoint)
{
	char text[ADDRESS_TEXT_MAX];

	if (!endpoint->has_prefix && !endpoint->port_count)
		return;
	printer_put(p, " %s", word);
	if (endpoint->has_prefix)
		printer_put(p, " %s", prefix_print(text, sizeof(text), &endpoint->prefix));
	printer_ports(p, endpoint);
}

void printer_owner(struct printer *p, const char *word, const struct owner_match *owner)
{
	char text[OWNER_PATH_MAX + 16];

	if (owner->kind == OWNER_ANY)
		return;
	owner_match_print(owner, text, sizeof(text));
	printer_put(p, " %s %s", word, text);
}
