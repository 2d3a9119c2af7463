/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include "model/set.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "basic/cleanup.h"

#define LIST_PIECE     65536                  /* bytes of a list that are read at once */
#define ENTRY_TEXT_MAX (2 * ADDRESS_TEXT_MAX) /* longest entry, with the NUL: a range */

/* An entry as it stands in its line, and where the error goes. */
struct reader {
	const char *text;
	size_t length;
	struct error *error;
	size_t bad; /* offset of what is wrong */
};

static bool is_letter(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

int set_name_check(const char *name, struct error *error)
{
	const char *p = name;

	if (is_letter(*p))
		while (is_letter(*p) || is_digit(*p) || *p == '-' || *p == '_')
			p++;
	if (*p || p == name) {
		error_set(error, -EINVAL, "'%.64s' can be no set's name", name);
		error_want(error, "a letter, then letters, digits, '-' and '_'");
		return -EINVAL;
	}
	if (p - name >= SET_NAME_MAX) {
		error_set(error, -EINVAL, "the name '%.64s' is too long", name);
		error_want(error, "at most %d bytes", SET_NAME_MAX - 1);
		return -EINVAL;
	}
	return 0;
}

static int fail_at(struct reader *r, const char *at)
{
	r->bad = (size_t)(at - r->text);
	return -EINVAL;
}

#define fail(reader, at, ...) (error_set((reader)->error, -EINVAL, __VA_ARGS__), fail_at(reader, at))

/* Decimal digits without a leading zero, at most `max`; *end is what follows. */
static bool number_read(const char **p, const char *end, uint32_t max, uint32_t *ret_number)
{
	const char *text = *p;
	uint32_t number = 0;

	while (text < end && is_digit(*text)) {
		number = number * 10 + (uint32_t)(*text++ - '0');
		if (number > max)
			return false;
	}
	if (text == *p || (**p == '0' && text - *p > 1))
		return false;
	*ret_number = number;
	*p = text;
	return true;
}

/* Lists have a million lines of these: without a copy, and without looking at one byte twice. */
static bool address4_read(const char **p, const char *end, struct address *ret_address)
{
	struct address address = {.family = 4};
	uint32_t byte = 0;

	for (int i = 0; i < 4; i++) {
		if (i && (*p == end || *(*p)++ != '.'))
			return false;
		if (!number_read(p, end, 255, &byte))
			return false;
		address.bytes[i] = (uint8_t)byte;
	}
	*ret_address = address;
	return true;
}

static bool address_read(const char **p, const char *end, struct address *ret_address)
{
	const char *text = *p;
	char copy[ADDRESS_TEXT_MAX];
	size_t length = 0;

	if (address4_read(p, end, ret_address))
		return true;
	*p = text;
	while (text + length < end && length < sizeof(copy) - 1 && text[length] != '/' &&
		text[length] != '-') {
		copy[length] = text[length];
		length++;
	}
	copy[length] = '\0';
	if (!memchr(copy, ':', length) || address_parse(copy, ret_address) < 0)
		return false;
	*p = text + length;
	return true;
}

/*
 * Ranges of addresses
 */

static unsigned __int128 address_number(const struct address *address)
{
	unsigned __int128 number = 0;

	for (int i = 0; i < (address->family == 4 ? 4 : 16); i++)
		number = number << 8 | address->bytes[i];
	return number;
}

static struct address number_address(uint8_t family, unsigned __int128 number)
{
	struct address address = {.family = family};

	for (int i = (family == 4 ? 4 : 16) - 1; i >= 0; i--, number >>= 8)
		address.bytes[i] = (uint8_t)number;
	return address;
}

/* The fewest prefixes that make up the range, from low to high. */
static int range_split(
	const struct address *low, const struct address *high, set_entry_function *function, void *context)
{
	unsigned __int128 from = address_number(low), to = address_number(high), behind;
	unsigned int width = low->family == 4 ? 32 : 128, bits;
	struct set_entry entry = {.kind = SET_ADDRESSES};
	int r;

	for (;; from += behind + 1) {
		/* `behind`: all ones in as many bits as can be free */
		for (bits = 0, behind = 0; bits < width; bits++) {
			unsigned __int128 more = behind << 1 | 1;

			if ((from & more) || to - from < more)
				break;
			behind = more;
		}
		entry.prefix.address = number_address(low->family, from);
		entry.prefix.length = (uint8_t)(width - bits);
		r = function(context, &entry);
		if (r || to - from == behind)
			return r;
	}
}

static int range_read(struct reader *r, const char *p, const char *end, const struct address *low,
	set_entry_function *function, void *context)
{
	struct address high;
	const char *text = p;

	if (!address_read(&p, end, &high) || p != end) {
		fail(r, text, "expected an address behind '-', got '%.*s'", (int)(end - text), text);
		error_want(r->error, "a range such as 192.0.2.1-192.0.2.9");
		return -EINVAL;
	}
	if (high.family != low->family) {
		fail(r, text, "a range from one family to the other");
		error_want(r->error, "two addresses of IPv4, or two of IPv6");
		return -EINVAL;
	}
	if (address_compare(low, &high) > 0) {
		fail(r, r->text, "the range %.*s runs backwards", (int)r->length, r->text);
		error_want(r->error, "the lower address first");
		return -EINVAL;
	}
	return range_split(low, &high, function, context);
}

/*
 * Entries
 */

static bool prefix_is_clean(struct prefix *prefix)
{
	bool clean = true;

	for (unsigned int i = 0; i < (prefix->address.family == 4 ? 4 : 16); i++) {
		unsigned int kept = prefix->length > i * 8 ? prefix->length - i * 8 : 0;
		uint8_t behind = kept >= 8 ? 0 : (uint8_t)(0xff >> kept);

		clean = clean && !(prefix->address.bytes[i] & behind);
		prefix->address.bytes[i] &= (uint8_t)~behind;
	}
	return clean;
}

static int prefix_read(struct reader *r, const char *p, const char *end, struct prefix *prefix)
{
	unsigned int width = prefix->address.family == 4 ? 32 : 128;
	const char *text = p;
	uint32_t length = 0;
	char cleared[ADDRESS_TEXT_MAX];

	if (!number_read(&p, end, width, &length) || p != end) {
		fail(r, text, "expected a prefix length, got '%.*s'", (int)(end - text), text);
		error_want(r->error, "0 to %u", width);
		return -EINVAL;
	}
	prefix->length = (uint8_t)length;
	if (prefix_is_clean(prefix))
		return 0;
	fail(r, r->text, "'%.*s' has bits set behind its length", (int)r->length, r->text);
	error_want(r->error, "%s, or the address without a length",
		prefix_print(cleared, sizeof(cleared), prefix));
	return -EINVAL;
}

static int ports_read(struct reader *r, const char *p, const char *end, struct port_range *ret_ports)
{
	const char *text = p;
	uint32_t low = 0, high;

	if (number_read(&p, end, UINT16_MAX, &low)) {
		high = low;
		if (p < end && *p == '-') {
			text = ++p;
			if (!number_read(&p, end, UINT16_MAX, &high))
				p = NULL;
		}
		if (p == end && low <= high) {
			*ret_ports = (struct port_range){(uint16_t)low, (uint16_t)high};
			return 0;
		}
		if (p == end) {
			fail(r, r->text, "the range %u-%u runs backwards", low, high);
			error_want(r->error, "%u-%u", high, low);
			return -EINVAL;
		}
	}
	fail(r, text, "expected a port, got '%.*s'", (int)(end - text), text);
	error_want(r->error, "0 to 65535, or low-high");
	return -EINVAL;
}

static int entry_read(struct reader *r, set_entry_function *function, void *context)
{
	const char *p = r->text, *end = p + r->length;
	struct set_entry entry = {.kind = SET_ADDRESSES};
	int result = 0;

	if (r->length >= ENTRY_TEXT_MAX) {
		fail(r, p, "the entry is too long");
		error_want(r->error, "an address, a prefix, a range, or a port");
		return -EINVAL;
	}
	if (address_read(&p, end, &entry.prefix.address)) {
		if (p < end && *p == '-')
			return range_read(r, p + 1, end, &entry.prefix.address, function, context);
		if (p < end && *p == '/') {
			result = prefix_read(r, p + 1, end, &entry.prefix);
			if (result < 0)
				return result;
			return function(context, &entry);
		}
		if (p == end) {
			entry.prefix.length = entry.prefix.address.family == 4 ? 32 : 128;
			return function(context, &entry);
		}
	} else if (!memchr(r->text, '.', r->length) && !memchr(r->text, ':', r->length) && r->length &&
		   is_digit(*r->text)) {
		entry.kind = SET_PORTS;
		result = ports_read(r, r->text, end, &entry.ports);
		return result < 0 ? result : function(context, &entry);
	}
	fail(r, r->text, "expected an entry of a set, got '%.*s'", (int)r->length, r->text);
	error_want(r->error, "an address, a prefix such as 10.0.0.0/8, a range, or a port");
	return -EINVAL;
}

int set_entry_parse(const char *text, set_entry_function *function, void *context, struct error *error)
{
	struct reader reader = {.text = text, .length = strlen(text), .error = error};
	struct error problem = {0};
	int r;

	reader.error = &problem;
	r = entry_read(&reader, function, context);
	if (problem.code < 0) {
		error_at(&problem, NULL, text, reader.bad);
		if (error)
			*error = problem;
	}
	return r;
}

/*
 * Lists
 */

static bool is_space(char c)
{
	return c == ' ' || c == '\t' || c == '\r';
}

/* A list as far as it was read.  It holds one kind. */
struct list {
	const char *name;
	bool skip_bad;
	set_entry_function *function;
	void *context;
	enum set_kind kind;
	bool mixed;
	size_t lines, bad;
};

static int kind_check(void *context, const struct set_entry *entry)
{
	struct list *list = context;

	if (list->kind == SET_EMPTY)
		list->kind = entry->kind;
	if (list->kind != entry->kind) {
		list->mixed = true;
		return -EINVAL;
	}
	return list->function(list->context, entry);
}

static int fail_line(const char *line, size_t length, size_t bad, size_t number, const char *name,
	const struct error *problem, struct error *error)
{
	char copy[ENTRY_TEXT_MAX + 64];

	if (!error)
		return problem->code;
	snprintf(copy, sizeof(copy), "%.*s", (int)(length < sizeof(copy) ? length : sizeof(copy) - 1), line);
	*error = *problem;
	error_at(error, name, copy, bad < strlen(copy) ? bad : 0);
	error->line = (unsigned int)number;
	return problem->code;
}

/* Whole lines of it. */
static int lines_read(struct list *list, const char *text, size_t length, struct error *error)
{
	const char *end = text + length, *line, *next;

	for (line = text; line < end; line = next) {
		struct error problem = {0};
		struct reader reader = {.error = &problem};
		const char *stop = memchr(line, '\n', (size_t)(end - line)), *from = line, *to;
		int r;

		if (!stop)
			stop = end;
		next = stop + 1;
		list->lines++;
		while (from < stop && is_space(*from))
			from++;
		for (to = from; to < stop && *to != '#' && *to != ';';)
			to++;
		while (to > from && is_space(to[-1]))
			to--;
		if (from == to)
			continue;
		reader.text = from;
		reader.length = (size_t)(to - from);
		r = entry_read(&reader, kind_check, list);
		if (r == 0)
			continue;
		if (list->mixed) {
			error_set(&problem, -EINVAL, "%s in a list of %s",
				list->kind == SET_PORTS ? "an address" : "a port",
				list->kind == SET_PORTS ? "ports" : "addresses");
			error_want(&problem, "one kind in a set; the first entry decides which");
			list->mixed = false;
		} else if (!problem.code) {
			return r; /* the function's own reason */
		}
		list->bad++;
		if (!list->skip_bad)
			return fail_line(line, (size_t)(stop - line), (size_t)(from - line) + reader.bad,
				list->lines, list->name, &problem, error);
	}
	return 0;
}

int set_list_parse(const char *text, size_t length, const char *name, bool skip_bad,
	set_entry_function *function, void *context, size_t *ret_bad, struct error *error)
{
	struct list list = {.name = name, .skip_bad = skip_bad, .function = function, .context = context};
	int r = lines_read(&list, text, length, error);

	if (r == 0 && ret_bad)
		*ret_bad = list.bad;
	return r;
}

/* The end of the last whole line, or of all where nothing follows any more. */
static size_t lines_whole(const char *text, size_t length, bool last)
{
	const char *end = last ? NULL : memrchr(text, '\n', length);

	return last ? length : end ? (size_t)(end - text) + 1 : 0;
}

int set_list_stream(set_list_source *source, void *from, const char *name, bool skip_bad,
	set_entry_function *function, void *context, size_t *ret_bad, struct error *error)
{
	struct list list = {.name = name, .skip_bad = skip_bad, .function = function, .context = context};
	_cleanup_free_ char *text = NULL;
	size_t size = 0, held = 0;
	ssize_t more = 1;
	int r = 0;

	while (more > 0 && r == 0) {
		size_t whole;

		/* a line that is longer than a piece */
		if (held == size) {
			size_t larger = size ? size * 2 : LIST_PIECE;
			char *grown = realloc(text, larger);

			if (!grown)
				return -ENOMEM;
			text = grown;
			size = larger;
		}
		more = source(from, text + held, size - held);
		if (more < 0)
			return (int)more;
		held += (size_t)more;
		whole = lines_whole(text, held, more == 0);
		r = lines_read(&list, text, whole, error);
		held -= whole;
		memmove(text, text + whole, held);
	}
	if (r == 0 && ret_bad)
		*ret_bad = list.bad;
	return r;
}

int set_entry_print(const struct set_entry *entry, char *buffer, size_t size)
{
	char text[ADDRESS_TEXT_MAX];
	int length;

	if (entry->kind == SET_ADDRESSES)
		length = snprintf(buffer, size, "%s", prefix_print(text, sizeof(text), &entry->prefix));
	else if (entry->ports.low == entry->ports.high)
		length = snprintf(buffer, size, "%u", entry->ports.low);
	else
		length = snprintf(buffer, size, "%u-%u", entry->ports.low, entry->ports.high);
	return length < 0 || (size_t)length >= size ? -ENOSPC : 0;
}
