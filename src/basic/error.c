/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include "basic/error.h"

#include <stdarg.h>
#include <stdbool.h>
#include <string.h>

#include "basic/text.h"

int error_set(struct error *error, int code, const char *format, ...)
{
	char what[ERROR_TEXT_MAX];
	va_list args;

	if (!error)
		return code;

	/* By way of a buffer of its own: the arguments may point into the error that is replaced. */
	va_start(args, format);
	vsnprintf(what, sizeof(what), format, args);
	va_end(args);

	*error = (struct error){.code = code};
	memcpy(error->what, what, sizeof(what));
	return code;
}

int error_want(struct error *error, const char *format, ...)
{
	char want[ERROR_TEXT_MAX];
	va_list args;

	if (!error)
		return 0;

	va_start(args, format);
	vsnprintf(want, sizeof(want), format, args);
	va_end(args);

	memcpy(error->want, want, sizeof(want));
	return error->code;
}

/* The line, or as much as there is room for around the column (from 0), with an ellipsis in place of the
 * rest. */
static void excerpt_set(struct error *error, const char *line, size_t length, size_t column)
{
	static const char ellipsis[] = "\xe2\x80\xa6";
	const size_t mark = sizeof(ellipsis) - 1, room = sizeof(error->excerpt) - 1 - mark;
	size_t from = 0;

	if (length > room + mark && column > room / 2) {
		from = column - room / 2;
		if (from + room > length)
			from = length - room;
		/* not amid a character */
		while (from < column && ((unsigned char)line[from] & 0xc0) == 0x80)
			from++;
	}
	snprintf(error->excerpt, sizeof(error->excerpt), "%s%.*s", from ? ellipsis : "", (int)(length - from),
		line + from);
	error->caret = (unsigned int)(column - from + (from ? mark : 0)) + 1;
}

void error_at(struct error *error, const char *file, const char *text, size_t offset)
{
	size_t start = 0, end, length;

	if (!error)
		return;

	snprintf(error->file, sizeof(error->file), "%s", file ? file : "");
	error->line = 0;
	error->column = error->caret = 0;
	error->excerpt[0] = '\0';
	if (!text)
		return;

	length = strlen(text);
	if (offset > length)
		offset = length;

	error->line = 1;
	for (size_t i = 0; i < offset; i++) {
		if (text[i] != '\n')
			continue;
		error->line++;
		start = i + 1;
	}
	error->column = (unsigned int)(offset - start) + 1;

	end = start + strcspn(text + start, "\n");
	if (end > start && text[end - 1] == '\r')
		end--;
	excerpt_set(error, text + start, end - start, offset < end ? offset - start : end - start);
}

void error_skip(struct error *error, size_t bytes)
{
	size_t length = strlen(error->excerpt);

	if (error->column > bytes && error->caret == error->column && length >= bytes) {
		memmove(error->excerpt, error->excerpt + bytes, length - bytes + 1);
		error->caret -= (unsigned int)bytes;
	}
	if (error->column > bytes)
		error->column -= (unsigned int)bytes;
}

/* The bytes of the character at `text`, and whether it may reach a terminal: no control character (one of
 * ISO 6429's 0x80 to 0x9f neither) and nothing that is not UTF-8 may. */
static size_t character_read(const char *text, bool *ret_printable)
{
	unsigned char c = (unsigned char)text[0];
	size_t length = text_utf8_length(text);

	*ret_printable = length > 0 && (c >= 0x20 || c == '\t') && c != 0x7f &&
	                 !(c == 0xc2 && (unsigned char)text[1] < 0xa0);
	return length ? length : 1;
}

static void text_print(const char *text, FILE *out)
{
	bool printable;
	size_t length;

	for (; *text; text += length) {
		length = character_read(text, &printable);
		if (printable)
			fwrite(text, 1, length, out);
		else
			fputc('?', out);
	}
}

/* `column` counts bytes, the eye counts characters. */
static void caret_print(const char *excerpt, unsigned int column, FILE *out)
{
	bool printable;
	size_t length;

	for (size_t i = 0; i + 1 < column; i += length) {
		length = character_read(excerpt + i, &printable);
		fputc(excerpt[i] == '\t' ? '\t' : ' ', out);
	}
	fputs("^\n", out);
}

void error_print(const struct error *error, const char *prefix, FILE *out)
{
	if (error->file[0]) {
		text_print(error->file, out);
		if (error->line)
			fprintf(out, ":%u", error->line);
		if (error->line && error->column)
			fprintf(out, ":%u", error->column);
		fputs(": ", out);
	} else if (prefix) {
		fputs(prefix, out);
	}

	text_print(error->what, out);
	if (error->want[0]) {
		fputs("; ", out);
		text_print(error->want, out);
	}
	fputc('\n', out);

	if (!error->excerpt[0])
		return;
	fputs("  ", out);
	text_print(error->excerpt, out);
	fputc('\n', out);
	if (error->caret && error->caret <= strlen(error->excerpt) + 1) {
		fputs("  ", out);
		caret_print(error->excerpt, error->caret, out);
	}
}
