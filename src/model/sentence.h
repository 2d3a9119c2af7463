/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Reading and printing sentences: what the matches of packets (match.h) and the rules (rule.h) have in
 * common. Only for the files of this room.
 */
#ifndef WEIR_MODEL_SENTENCE_H
#define WEIR_MODEL_SENTENCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "basic/error.h"
#include "model/match.h"
#include "model/owner.h"

/* A sentence that is read word by word. */
struct sentence {
	char *text; /* a copy in which words get a NUL behind them: `room`, or the caller's */
	const char *sentence;
	size_t length;
	size_t offset; /* of the next word to be read */
	struct error *error;

	int protocol;            /* that names of ports are looked up for; -1: any */
	uint8_t family;          /* what the words so far leave possible; 0: either */
	const char *family_word; /* the word that settled it */
	const char *ports_word;  /* the first list of ports */
	char room[MATCH_TEXT_MAX];
};

/* 0, or -EINVAL for a text that is too long.  `text` has to stay, and the sentence where it is. */
int sentence_begin(struct sentence *s, const char *text, struct error *error);
/* One of any length: `room`, of `size` bytes, holds its words, and has to stay, too. */
int sentence_begin_in(struct sentence *s, const char *text, char *room, size_t size, struct error *error);

/* The next word, which stays the next; NULL at the end. */
char *sentence_peek(struct sentence *s);
void sentence_skip(struct sentence *s, const char *word); /* the word that was peeked at */
char *sentence_take(struct sentence *s);                  /* both */

/* Lists whose elements are several words, and end with a comma: "a 1, b 2".  The next word without its comma,
 * and whether a comma stands behind the word that was taken last; if it stands alone, it is taken. */
char *sentence_list_peek(struct sentence *s);
bool sentence_list_goes_on(struct sentence *s);

/* Says where an error is; `word` points into s->text, NULL is the end of the sentence.  -EINVAL. */
int sentence_fail_at(struct sentence *s, const char *word);
#define sentence_fail(s, word, ...) (error_set((s)->error, -EINVAL, __VA_ARGS__), sentence_fail_at(s, word))
/* "expected a port, got 'htps'".  -EINVAL. */
int sentence_expected(struct sentence *s, const char *word, const char *expected, const char *want);
/* Takes the word that has to stand here; `want` is what sentence_expected() gets, if another does.  0 or
 * -EINVAL. */
int sentence_take_word(struct sentence *s, const char *word, const char *want);

/* A word that only fits one family: all of them have to agree. */
int sentence_family(struct sentence *s, const char *word, uint8_t family);
/* PORTS, the word behind `port`. */
int sentence_ports(struct sentence *s, struct endpoint *endpoint);
/* Address or prefix, the word that comes next. */
int sentence_prefix(struct sentence *s, struct endpoint *endpoint, const char *expected, const char *want);
int sentence_endpoint(struct sentence *s, struct endpoint *endpoint);
/* OWNER, behind `by`. */
int sentence_owner(struct sentence *s, struct owner_match *ret_owner);

/* Tables of names. */
struct name {
	const char *name;
	int value;
};
const struct name *name_find(const struct name *names, size_t count, const char *name);
const char *value_name(const struct name *names, size_t count, int value);
const char *name_nearest(const char *word, const struct name *names, size_t count);

/* Decimal digits only, no sign and no leading zero, as all numbers of the grammar.  0, -EINVAL or -ERANGE. */
int number_parse(const char *text, unsigned int max, unsigned int *ret_number);

/* Splits a list at its commas: the next element, and in *list what follows it (NULL: nothing). */
char *list_take(char **list);

struct printer {
	char *buffer;
	size_t size, length;
	bool full;
};

/* Adds text; a format that begins with a space drops it at the start of the sentence. */
__attribute__((format(printf, 2, 3))) void printer_put(struct printer *p, const char *format, ...);
void printer_ports(struct printer *p, const struct endpoint *endpoint);
void printer_endpoint(struct printer *p, const char *word, const struct endpoint *endpoint);
void printer_owner(struct printer *p, const char *word, const struct owner_match *owner);

#endif
