/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * The kinds of rules, behind rule.h.  Only for the files of this room.
 */
#ifndef WEIR_MODEL_RULE_READ_H
#define WEIR_MODEL_RULE_READ_H

#include "model/match_read.h"
#include "model/rule.h"

/* Read what stands behind the verb; rule->verb is set.  0 or -EINVAL. */
int rule_socket_read(struct sentence *s, struct rule *rule);
int rule_packet_read(struct match_reader *m, struct rule *rule);
int rule_declared_read(struct sentence *s, struct rule *rule);

/* The match of a sentence that goes on behind it: `ends` is asked about each word that comes, and says 1 when
 * something else begins, 0 when not, or fails.  1; 0 where the sentence ends; or -EINVAL. */
typedef int rule_match_ends_function(struct match_reader *m, const char *word);
int rule_match_read(struct match_reader *m, struct rule *rule, rule_match_ends_function *ends);

/* Print all but the comment. */
void rule_socket_put(struct printer *p, const struct rule *rule);
void rule_packet_put(struct printer *p, const struct rule *rule);
void rule_match_put(struct printer *p, const struct rule *rule); /* only the match */
void rule_declared_put(struct printer *p, const struct rule *rule);

bool rule_socket_covers(const struct rule *wide, const struct rule *narrow);
bool rule_packet_covers(const struct rule *wide, const struct rule *narrow);

/* The place of the next word in a list, or an error that lists all of it. */
int rule_choice_read(struct sentence *s, const char *const *known, const char *expected, const char *want,
	unsigned int *ret_choice);
/* What stands between quotes; `word` is the one that was peeked at and begins with one. `noun`: "comment". */
int rule_quoted_read(struct sentence *s, const char *word, const char *noun, char *buffer, size_t size);
/* The comment, which ends the rule. */
int rule_comment_read(struct sentence *s, const char *word, struct rule *rule);
/* OWNER: one that the kernel can judge. */
int rule_owner_read(struct sentence *s, const char *word, struct rule *rule);

/* Does the narrow list of ports lie in the wide one?  Prefix, owner: likewise. */
bool rule_ports_cover(const struct endpoint *wide, const struct endpoint *narrow);
bool rule_prefix_covers(const struct endpoint *wide, const struct endpoint *narrow);
bool rule_owner_covers(const struct rule *wide, const struct rule *narrow);

#endif
