/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * A table of text: cells in, aligned lines out.  The lists print its lines, the live screen draws them.
 *
 * Too wide for the place it gets, a table gives way step by step: narrow gaps, then without its least
 * important columns, one by one, then with the elastic columns cut in the middle.  A column of sentences
 * takes what the others leave.
 */
#ifndef WEIR_CLI_VIEW_TABLE_H
#define WEIR_CLI_VIEW_TABLE_H

#include <stdbool.h>
#include <stddef.h>

#define TABLE_COLUMNS_MAX 16
#define TABLE_LINE_MAX    2048 /* the longest line, in bytes with the NUL; longer ones are cut */

enum table_align { ALIGN_LEFT, ALIGN_RIGHT };

struct table_column {
	const char *title;
	enum table_align align;
	unsigned int importance; /* 0: never left out; the higher, the sooner */
	unsigned int elastic;    /* not 0: may be cut down to this width */
	bool hide_empty;         /* left out when no row has text in it */
	bool rest;               /* elastic: gives way before others go, and is cut at its end */
};

struct table {
	const struct table_column *columns;
	unsigned int column_count;
	char **cells; /* row by row; every cell is printable text of the locale */
	size_t cell_count, cell_room;
	bool no_memory;
	unsigned int widths[TABLE_COLUMNS_MAX]; /* 0: left out */
	unsigned int gap;
};

#define TABLE_HEADER ((size_t)-1)

void table_init(struct table *table, const struct table_column *columns, unsigned int column_count);
void table_free(struct table *table);

/* Adds the next cell, row by row.  What is not printable becomes '?': the names of interfaces are anybody's.
 */
void table_add(struct table *table, const char *text);
size_t table_rows(const struct table *table);

/* Lays the columns out for `width` columns; 0: as wide as it takes.  `widths` (or NULL) holds a width for
 * each column that it does not fall below, and is raised to what the cells need: a live screen that keeps it
 * does not twitch. */
void table_fit(struct table *table, unsigned int width, unsigned int *widths);

/* Writes a row, or the titles for TABLE_HEADER, without trailing spaces; returns `buffer`. */
char *table_line(const struct table *table, size_t row, char *buffer, size_t size);

/* The same for text outside of tables: `text` made printable, cut to `width` columns (0: not cut). */
char *text_fit(char *buffer, size_t size, const char *text, unsigned int width);
unsigned int text_width(const char *text);

#endif
