/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include "basic/json_write.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "basic/text.h"

#define SIZE_FIRST   4096
#define DECIMALS_MAX 9

/* Room for `more` bytes behind the text; NULL (and the error kept) when there is none. */
static char *room_get(struct json_write *w, size_t more)
{
	size_t size = w->size ? w->size : SIZE_FIRST;
	char *text;

	if (w->error)
		return NULL;
	if (w->text && w->size - w->length >= more)
		return w->text + w->length;

	while (size - w->length < more) {
		if (size > SIZE_MAX / 2) {
			w->error = -ENOMEM;
			return NULL;
		}
		size *= 2;
	}
	text = realloc(w->text, size);
	if (!text) {
		w->error = -ENOMEM;
		return NULL;
	}
	w->text = text;
	w->size = size;
	return w->text + w->length;
}

static void bytes_put(struct json_write *w, const char *bytes, size_t count)
{
	char *room = room_get(w, count);

	if (!room)
		return;
	memcpy(room, bytes, count);
	w->length += count;
}

/* The escape of one byte that may not stand in a JSON string as it is. */
static void escape_put(struct json_write *w, unsigned char c)
{
	static const char letters[] = {['\b'] = 'b',
		['\t'] = 't',
		['\n'] = 'n',
		['\f'] = 'f',
		['\r'] = 'r',
		['"'] = '"',
		['\\'] = '\\'};
	char escape[8];
	int length;

	if (c < sizeof(letters) && letters[c])
		length = snprintf(escape, sizeof(escape), "\\%c", letters[c]);
	else
		length = snprintf(escape, sizeof(escape), "\\u%04x", c);
	bytes_put(w, escape, (size_t)length);
}

static void quoted_put(struct json_write *w, const char *value)
{
	const unsigned char *s = (const unsigned char *)value, *plain = s;

	bytes_put(w, "\"", 1);
	while (*s) {
		bool escaped = *s < 0x20 || *s == '"' || *s == '\\' || *s == 0x7f;
		size_t length = text_utf8_length((const char *)s);

		if (!escaped && length) {
			s += length;
			continue;
		}
		bytes_put(w, (const char *)plain, (size_t)(s - plain));
		if (escaped)
			escape_put(w, *s);
		else
			bytes_put(w, "\xef\xbf\xbd", 3); /* U+FFFD: the reader gets valid UTF-8, always */
		plain = ++s;
	}
	bytes_put(w, (const char *)plain, (size_t)(s - plain));
	bytes_put(w, "\"", 1);
}

static void value_begin(struct json_write *w, const char *key)
{
	if (w->comma)
		bytes_put(w, ",", 1);
	w->comma = true;
	if (key) {
		quoted_put(w, key);
		bytes_put(w, ":", 1);
	}
}

void json_write_object_begin(struct json_write *w, const char *key)
{
	value_begin(w, key);
	bytes_put(w, "{", 1);
	w->comma = false;
}

void json_write_object_end(struct json_write *w)
{
	bytes_put(w, "}", 1);
	w->comma = true;
}

void json_write_array_begin(struct json_write *w, const char *key)
{
	value_begin(w, key);
	bytes_put(w, "[", 1);
	w->comma = false;
}

void json_write_array_end(struct json_write *w)
{
	bytes_put(w, "]", 1);
	w->comma = true;
}

void json_write_string(struct json_write *w, const char *key, const char *value)
{
	if (!value) {
		json_write_null(w, key);
		return;
	}
	value_begin(w, key);
	quoted_put(w, value);
}

void json_write_number(struct json_write *w, const char *key, uint64_t value)
{
	char text[24];
	int length = snprintf(text, sizeof(text), "%" PRIu64, value);

	value_begin(w, key);
	bytes_put(w, text, (size_t)length);
}

/* Not by "%.*f": a program that called setlocale(3) would write a decimal comma. */
void json_write_real(struct json_write *w, const char *key, double value, int decimals)
{
	uint64_t whole, fraction, scale = 1;
	char text[64];
	int length;

	if (!isfinite(value)) {
		json_write_null(w, key); /* JSON has neither infinity nor NaN */
		return;
	}
	value_begin(w, key);

	if (value >= 1e15 || value <= -1e15) {
		char large[320]; /* the largest double has 309 digits */

		length = snprintf(large, sizeof(large), "%.0f", value);
		bytes_put(w, large, (size_t)length);
		return;
	}

	decimals = decimals < 0 ? 0 : decimals > DECIMALS_MAX ? DECIMALS_MAX : decimals;
	for (int i = 0; i < decimals; i++)
		scale *= 10;

	whole = (uint64_t)(value < 0 ? -value : value);
	fraction = (uint64_t)(((value < 0 ? -value : value) - (double)whole) * (double)scale + 0.5);
	if (fraction >= scale) {
		whole++;
		fraction -= scale;
	}
	length = snprintf(
		text, sizeof(text), "%s%" PRIu64, value < 0 && (whole || fraction) ? "-" : "", whole);
	bytes_put(w, text, (size_t)length);
	if (decimals) {
		length = snprintf(text, sizeof(text), ".%0*" PRIu64, decimals, fraction);
		bytes_put(w, text, (size_t)length);
	}
}

void json_write_boolean(struct json_write *w, const char *key, bool value)
{
	value_begin(w, key);
	bytes_put(w, value ? "true" : "false", value ? 4 : 5);
}

void json_write_null(struct json_write *w, const char *key)
{
	value_begin(w, key);
	bytes_put(w, "null", 4);
}

void json_write_newline(struct json_write *w)
{
	bytes_put(w, "\n", 1);
}

void json_write_clear(struct json_write *w)
{
	w->length = 0;
}

void json_write_free(struct json_write *w)
{
	free(w->text);
	*w = (struct json_write){0};
}
