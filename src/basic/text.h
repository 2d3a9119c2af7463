/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Words: which known word did the person mean?  And the bytes they are written in.
 */
#ifndef WEIR_BASIC_TEXT_H
#define WEIR_BASIC_TEXT_H

#include <stdbool.h>
#include <stddef.h>

/* The word of the NULL-terminated list `known` nearest to `word` (Damerau-Levenshtein without regard to case,
 * at most a third of the longer one's length and at most 3 away); NULL when none is near. */
const char *text_nearest(const char *word, const char *const *known);

/* How many bytes the UTF-8 character at the start of `text` has (RFC 3629: no overlong form, no surrogate);
 * 0: there is none.  1 for the NUL at the end. */
size_t text_utf8_length(const char *text);
bool text_is_utf8(const char *text); /* all of it */

#endif
