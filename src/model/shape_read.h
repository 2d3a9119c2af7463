/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * What rules and declared classes say of rates: reading and printing.  Only for the files of this room.
 */
#ifndef WEIR_MODEL_SHAPE_READ_H
#define WEIR_MODEL_SHAPE_READ_H

#include "model/sentence.h"
#include "model/shape.h"

enum shape_term {
	SHAPE_TERM_GUARANTEE,
	SHAPE_TERM_CEILING,
	SHAPE_TERM_BURST,
	SHAPE_TERM_WEIGHT,
	SHAPE_TERM_PRIORITY,
	SHAPE_TERM_UNDER,
	SHAPE_TERM_ENGINE,
	SHAPE_TERMS,
};

struct shape_reader {
	struct sentence *s;
	struct shape_terms *terms;
	const char *said[SHAPE_TERMS]; /* the word that said it */
	bool changes;                  /* "none" takes back what was said of guarantee, ceiling, burst */
};

/* "guarantee", "ceiling", …; NULL-terminated, in the order of the enum. */
extern const char *const shape_term_names[];

/* Which term a word begins ("engine=htb", too); SHAPE_TERMS: none. */
enum shape_term shape_term_find(const char *word);
/* Reads the term whose first word was peeked at.  0 or -EINVAL. */
int shape_term_read(struct shape_reader *r, const char *word);
/* What each term allows, but they do not together.  0 or -EINVAL. */
int shape_terms_check(struct shape_reader *r);

/* A rate of a class, in bits a second: the word that was taken (NULL: the end).  0 or -EINVAL. */
int shape_rate_parse(struct sentence *s, const char *word, uint64_t *ret_bps);
/* If a word that is no rate is one in other units: says which, and what it would be in bits.  -EINVAL; 0: it
 * is nothing that is understood. */
int shape_rate_guess(struct sentence *s, const char *word);
/* A burst, in bytes. */
int shape_burst_parse(struct sentence *s, const char *word, uint64_t *ret_bytes);
/* A class's name, the word that was taken. */
int shape_name_parse(struct sentence *s, const char *word, char ret_name[SHAPE_NAME_MAX]);

/* Prints all that was said but what `skip` has a bit for. */
void shape_terms_put(struct printer *p, const struct shape_terms *terms, unsigned int skip);

#endif
