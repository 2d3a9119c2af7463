/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Words: which known word did the person mean?
 */
#ifndef WEIR_BASIC_TEXT_H
#define WEIR_BASIC_TEXT_H

#include <stddef.h>

/* The word of the NULL-terminated list `known` nearest to `word` (Damerau-Levenshtein without regard to case,
 * at most a third of the longer one's length and at most 3 away); NULL when none is near. */
const char *text_nearest(const char *word, const char *const *known);

#endif
