/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * How text looks on the terminal: emphasis for plain output, width, characters that may be used.
 */
#ifndef WEIR_CLI_VIEW_STYLE_H
#define WEIR_CLI_VIEW_STYLE_H

#include <stdbool.h>

enum color { COLOR_AUTO, COLOR_ALWAYS, COLOR_NEVER };

/* Escape sequences, or empty strings where there are to be none. */
struct style {
	const char *bold, *dim, *good, *bad, *reset;
};

/* NO_COLOR, TERM=dumb, a pipe: no escape sequence at all, unless they were asked for. */
const struct style *style_choose(enum color color);

/* NO_COLOR or asked not to. */
bool style_is_plain(enum color color);

/* Columns of the terminal on standard output; 0 where it is none. */
unsigned int terminal_width(void);

/* What stands for text that was cut out: one column wide in any case. */
const char *text_ellipsis(void);

#endif
