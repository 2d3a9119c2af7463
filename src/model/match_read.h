/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Reading matches word by word, for the sentences that have more words (rule_packet.c).  Only for the files
 * of this room.
 */
#ifndef WEIR_MODEL_MATCH_READ_H
#define WEIR_MODEL_MATCH_READ_H

#include "model/match.h"
#include "model/sentence.h"

/* The words of the grammar stand in this order; those behind the protocol in any. */
enum match_stage {
	MATCH_STAGE_DIRECTION,
	MATCH_STAGE_INTERFACE,
	MATCH_STAGE_FAMILY,
	MATCH_STAGE_PROTOCOL,
	MATCH_STAGE_TERMS
};

/* What a sentence says at most once. */
enum match_element {
	MATCH_ELEMENT_DIRECTION,
	MATCH_ELEMENT_INTERFACE,
	MATCH_ELEMENT_FAMILY,
	MATCH_ELEMENT_PROTOCOL,
	MATCH_ELEMENT_FROM,
	MATCH_ELEMENT_TO,
	MATCH_ELEMENT_HOST,
	MATCH_ELEMENT_PORT,
	MATCH_ELEMENT_FLAGS,
	MATCH_ELEMENT_ICMP_TYPE,
	MATCH_ELEMENT_VLAN,
	MATCH_ELEMENT_FRAGMENT,
	MATCH_ELEMENT_OWNER,
	/* of rules only */
	MATCH_ELEMENT_STATE,
	MATCH_ELEMENT_DSCP,
	MATCH_ELEMENT_MARK,
	MATCH_ELEMENT_EXPRESSION,
	MATCH_ELEMENT_LOG,
	MATCH_ELEMENT_WITH,
	MATCH_ELEMENT_RATE,
	MATCH_ELEMENT_BURST,
	MATCH_ELEMENT_PER,
	MATCH_ELEMENT_FOR,
	MATCH_ELEMENT_COUNT,
};

struct match_reader {
	struct sentence s;
	struct match match;
	enum match_stage stage;
	const char *said[MATCH_ELEMENT_COUNT]; /* the word that said it first */
	bool codes;                            /* ICMP types may have a code: TYPE/CODE */
	int icmp_code;                         /* -1: not asked */
};

/* Words of the caller's own sentence, for suggestions. */
struct match_words {
	const char *const *names; /* NULL-terminated */
	const char *all;          /* "in or out, on INTERFACE, …": everything that may stand there */
};

/* Notes that `word` says `element`; fails if something did before. */
int match_element_say(struct match_reader *r, enum match_element element, const char *word);
/* Reads the next word and what belongs to it.  `more` may be NULL. */
int match_word_read(struct match_reader *r, const struct match_words *more);
/* What each word allows, but no packet can be. */
int match_contradictions_check(struct match_reader *r);

/* A comma-separated list of flags. */
int match_flags_read(struct match_reader *r, char *list, uint8_t *ret_flags);
void printer_flags(struct printer *p, uint8_t flags); /* "syn,ack" */
/* " tcp", " icmp echo-request", " icmp 3/1". */
void printer_protocol(struct printer *p, const struct match *match, int icmp_code);

#endif
