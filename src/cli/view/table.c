/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include "cli/view/table.h"

#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <wchar.h>
#include <wctype.h>

#include "basic/cleanup.h"
#include "cli/view/style.h"

#define GAP_WIDE   2
#define GAP_NARROW 1

/* The next character of *text, printable: '?' for what is not.  0 at the end. */
static wchar_t character_next(const char **text)
{
	mbstate_t state = {};
	wchar_t c;
	size_t n;

	if (!**text)
		return 0;
	n = mbrtowc(&c, *text, MB_CUR_MAX, &state);
	if (n == 0 || n > MB_CUR_MAX) {
		(*text)++;
		return L'?';
	}
	*text += n;
	return wcwidth(c) > 0 ? c : L'?';
}

unsigned int text_width(const char *text)
{
	unsigned int width = 0;
	wchar_t c;

	while ((c = character_next(&text)))
		width += (unsigned int)wcwidth(c);
	return width;
}

/* Copies up to `width` columns of text, made printable; returns the columns copied. */
static unsigned int text_copy(char *buffer, size_t size, const char *text, unsigned int width)
{
	unsigned int used = 0;
	size_t length = 0;
	wchar_t c;

	while ((c = character_next(&text))) {
		char bytes[MB_LEN_MAX];
		mbstate_t state = {};
		size_t n = wcrtomb(bytes, c, &state);
		unsigned int columns = (unsigned int)wcwidth(c);

		if (n == (size_t)-1 || used + columns > width || length + n >= size)
			break;
		memcpy(buffer + length, bytes, n);
		length += n;
		used += columns;
	}
	buffer[length] = '\0';
	return used;
}

char *text_fit(char *buffer, size_t size, const char *text, unsigned int width)
{
	unsigned int used;
	size_t length;

	if (!width || text_width(text) <= width) {
		text_copy(buffer, size, text, UINT32_MAX);
		return buffer;
	}
	used = text_copy(buffer, size, text, width - 1);
	length = strlen(buffer);
	if (used < width)
		snprintf(buffer + length, size - length, "%s", text_ellipsis());
	return buffer;
}

/* Cuts the middle out: of an address with a port both ends matter. */
static void text_squeeze(char *buffer, size_t size, const char *text, unsigned int width)
{
	unsigned int whole = text_width(text), head = width / 2, tail = width - head - 1, skip;
	const char *rest = text;
	size_t length;

	if (whole <= width || width < 3) {
		text_copy(buffer, size, text, width);
		return;
	}
	text_copy(buffer, size, text, head);
	for (skip = 0; skip < whole - tail;)
		skip += (unsigned int)wcwidth(character_next(&rest));
	length = strlen(buffer);
	snprintf(buffer + length, size - length, "%s", text_ellipsis());
	length = strlen(buffer);
	text_copy(buffer + length, size - length, rest, tail);
}

void table_init(struct table *table, const struct table_column *columns, unsigned int column_count)
{
	*table = (struct table){.columns = columns, .column_count = column_count};
}

void table_free(struct table *table)
{
	for (size_t i = 0; i < table->cell_count; i++)
		free(table->cells[i]);
	free(table->cells);
	*table = (struct table){};
}

size_t table_rows(const struct table *table)
{
	return table->column_count ? table->cell_count / table->column_count : 0;
}

void table_add(struct table *table, const char *text)
{
	size_t size = strlen(text) + 1;
	char *clean;

	if (table->no_memory)
		return;
	if (table->cell_count == table->cell_room) {
		size_t room = table->cell_room ? 2 * table->cell_room : 256;
		char **cells = reallocarray(table->cells, room, sizeof(*cells));

		if (!cells) {
			table->no_memory = true;
			return;
		}
		table->cells = cells;
		table->cell_room = room;
	}
	clean = malloc(size);
	if (!clean) {
		table->no_memory = true;
		return;
	}
	text_copy(clean, size, text, UINT32_MAX);
	table->cells[table->cell_count++] = clean;
}

static unsigned int table_width(const struct table *table)
{
	unsigned int width = 0;

	for (unsigned int i = 0; i < table->column_count; i++) {
		if (table->widths[i])
			width += table->widths[i] + (width ? table->gap : 0);
	}
	return width;
}

/* What every cell needs. */
static void table_measure(struct table *table, unsigned int *widths)
{
	for (unsigned int i = 0; i < table->column_count; i++) {
		const struct table_column *column = &table->columns[i];
		unsigned int width = 0;

		for (size_t j = i; j < table->cell_count; j += table->column_count) {
			unsigned int cell = text_width(table->cells[j]);

			if (cell > width)
				width = cell;
		}
		if (widths && widths[i] > width)
			width = widths[i];
		if (widths)
			widths[i] = width;
		if (!width && column->hide_empty) {
			table->widths[i] = 0;
			continue;
		}
		table->widths[i] =
			width > strlen(column->title) ? width : (unsigned int)strlen(column->title);
	}
}

/* Leaves the least important column out; false when only those remain that must stay. */
static bool table_drop(struct table *table)
{
	unsigned int least = table->column_count;

	for (unsigned int i = 0; i < table->column_count; i++) {
		if (!table->widths[i] || !table->columns[i].importance)
			continue;
		if (least == table->column_count ||
			table->columns[i].importance > table->columns[least].importance)
			least = i;
	}
	if (least == table->column_count)
		return false;
	table->widths[least] = 0;
	return true;
}

/* Takes a column from the widest elastic one; false when none can give. */
static bool table_squeeze(struct table *table)
{
	unsigned int widest = table->column_count;

	for (unsigned int i = 0; i < table->column_count; i++) {
		if (!table->columns[i].elastic || table->widths[i] <= table->columns[i].elastic)
			continue;
		if (widest == table->column_count || table->widths[i] > table->widths[widest])
			widest = i;
	}
	if (widest == table->column_count)
		return false;
	table->widths[widest]--;
	return true;
}

/* Takes back in what was left out, the most important first, where it still fits. */
static void table_refill(struct table *table, unsigned int width, const unsigned int *wanted)
{
	for (;;) {
		unsigned int best = table->column_count;

		for (unsigned int i = 0; i < table->column_count; i++) {
			if (table->widths[i] || !wanted[i] ||
				table_width(table) + table->gap + wanted[i] > width)
				continue;
			if (best == table->column_count ||
				table->columns[i].importance < table->columns[best].importance)
				best = i;
		}
		if (best == table->column_count)
			return;
		table->widths[best] = wanted[best];
	}
}

static void rests_shrink(struct table *table)
{
	for (unsigned int i = 0; i < table->column_count; i++)
		if (table->columns[i].rest && table->widths[i] > table->columns[i].elastic)
			table->widths[i] = table->columns[i].elastic;
}

static void rests_grow(struct table *table, unsigned int width, const unsigned int *wanted)
{
	for (unsigned int i = 0; i < table->column_count; i++) {
		unsigned int used = table_width(table), room = used < width ? width - used : 0;

		if (!table->columns[i].rest || !table->widths[i])
			continue;
		table->widths[i] += wanted[i] - table->widths[i] < room ? wanted[i] - table->widths[i] : room;
	}
}

void table_fit(struct table *table, unsigned int width, unsigned int *widths)
{
	unsigned int wanted[TABLE_COLUMNS_MAX];

	table->gap = GAP_WIDE;
	table_measure(table, widths);
	if (!width || table_width(table) <= width)
		return;

	table->gap = GAP_NARROW;
	memcpy(wanted, table->widths, sizeof(wanted));
	rests_shrink(table);
	while (table_width(table) > width && table_drop(table))
		;
	while (table_width(table) > width && table_squeeze(table))
		;
	table_refill(table, width, wanted);
	rests_grow(table, width, wanted);

	table->gap = GAP_WIDE;
	if (table_width(table) > width)
		table->gap = GAP_NARROW;
}

char *table_line(const struct table *table, size_t row, char *buffer, size_t size)
{
	size_t length = 0;
	bool first = true;

	buffer[0] = '\0';
	for (unsigned int i = 0; i < table->column_count; i++) {
		const struct table_column *column = &table->columns[i];
		unsigned int width = table->widths[i], pad, used;
		const char *text;
		char cell[TABLE_LINE_MAX];

		if (!width)
			continue;
		text = row == TABLE_HEADER ? column->title : table->cells[row * table->column_count + i];
		if (column->rest)
			text_fit(cell, sizeof(cell), text, width);
		else
			text_squeeze(cell, sizeof(cell), text, width);
		used = text_width(cell);
		pad = used < width ? width - used : 0;

		if (length + pad + strlen(cell) + pad + table->gap >= size)
			break;
		length += (size_t)snprintf(buffer + length, size - length, "%*s%*s%s%*s",
			first ? 0 : (int)table->gap, "", column->align == ALIGN_RIGHT ? (int)pad : 0, "",
			cell, column->align == ALIGN_LEFT ? (int)pad : 0, "");
		first = false;
	}
	while (length && buffer[length - 1] == ' ')
		buffer[--length] = '\0';
	return buffer;
}
