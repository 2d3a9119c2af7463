/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include "cli/view/style.h"

#include <langinfo.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

static const struct style style_none = {"", "", "", "", ""};
static const struct style style_ansi = {"\033[1m", "\033[2m", "\033[32m", "\033[1;31m", "\033[0m"};

bool style_is_plain(enum color color)
{
	const char *no_color = getenv("NO_COLOR"); /* https://no-color.org: present and not empty */

	return color == COLOR_NEVER || (color == COLOR_AUTO && no_color && *no_color);
}

const struct style *style_choose(enum color color)
{
	const char *term = getenv("TERM");

	if (color == COLOR_ALWAYS)
		return &style_ansi;
	if (style_is_plain(color) || !isatty(STDOUT_FILENO) || !term || strcmp(term, "dumb") == 0)
		return &style_none;
	return &style_ansi;
}

unsigned int terminal_width(void)
{
	struct winsize size;

	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) < 0)
		return 0;
	return size.ws_col;
}

const char *text_ellipsis(void)
{
	return strcmp(nl_langinfo(CODESET), "UTF-8") == 0 ? "\xe2\x80\xa6" : "~";
}
