/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include "basic/text.h"

#include <ctype.h>
#include <stdbool.h>
#include <string.h>

#define WORD_MAX     64 /* no known word is near this length, so a longer one is near to none */
#define DISTANCE_MAX 3

static size_t min_of(size_t a, size_t b)
{
	return a < b ? a : b;
}

static bool letter_equal(char a, char b)
{
	return tolower((unsigned char)a) == tolower((unsigned char)b);
}

/* How many letters were left out, added, mistaken or swapped with their neighbour (Damerau-Levenshtein, in
 * the variant that edits no letter twice).  Case is no mistake.  Both words are shorter than WORD_MAX. */
static size_t word_distance(const char *a, size_t a_length, const char *b, size_t b_length)
{
	size_t rows[3][WORD_MAX + 1];
	size_t *before = rows[0], *last = rows[1], *row = rows[2];

	for (size_t j = 0; j <= b_length; j++)
		last[j] = j;

	for (size_t i = 1; i <= a_length; i++) {
		size_t *oldest = before;

		row[0] = i;
		for (size_t j = 1; j <= b_length; j++) {
			bool equal = letter_equal(a[i - 1], b[j - 1]);

			row[j] = min_of(min_of(last[j], row[j - 1]) + 1, last[j - 1] + !equal);
			if (i > 1 && j > 1 && letter_equal(a[i - 1], b[j - 2]) &&
				letter_equal(a[i - 2], b[j - 1]))
				row[j] = min_of(row[j], before[j - 2] + 1);
		}
		before = last;
		last = row;
		row = oldest;
	}
	return last[b_length];
}

const char *text_nearest(const char *word, const char *const *known)
{
	size_t length = strlen(word), best_distance = DISTANCE_MAX + 1;
	const char *best = NULL;

	if (length > WORD_MAX)
		return NULL;

	for (; *known; known++) {
		size_t known_length = strlen(*known), longer, distance;

		if (known_length > WORD_MAX)
			continue;
		longer = known_length > length ? known_length : length;
		distance = word_distance(word, length, *known, known_length);
		if (distance <= longer / 3 && distance < best_distance) {
			best = *known;
			best_distance = distance;
		}
	}
	return best;
}

size_t text_utf8_length(const char *text)
{
	const unsigned char *s = (const unsigned char *)text;
	unsigned char low = 0x80, high = 0xbf;
	size_t length;

	if (s[0] < 0x80)
		return 1;
	if (s[0] >= 0xc2 && s[0] <= 0xdf)
		length = 2;
	else if ((s[0] & 0xf0) == 0xe0)
		length = 3;
	else if (s[0] >= 0xf0 && s[0] <= 0xf4)
		length = 4;
	else
		return 0;

	if (s[0] == 0xe0)
		low = 0xa0;
	else if (s[0] == 0xed)
		high = 0x9f;
	else if (s[0] == 0xf0)
		low = 0x90;
	else if (s[0] == 0xf4)
		high = 0x8f;

	/* The NUL at the end is no continuation byte, so this never reads behind it. */
	if (s[1] < low || s[1] > high)
		return 0;
	for (size_t i = 2; i < length; i++) {
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	}
	return length;
}

bool text_is_utf8(const char *text)
{
	size_t bytes = 0;

	for (; *text && (bytes = text_utf8_length(text)); text += bytes)
		;
	return !*text;
}
