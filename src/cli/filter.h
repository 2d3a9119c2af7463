/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * The words of a command line, as one sentence.
 */
#ifndef WEIR_CLI_FILTER_H
#define WEIR_CLI_FILTER_H

#include "cli/cli.h"

/* The words behind `first` (which may be empty), with spaces between them; to be freed.  NULL without memory.
 */
char *words_join(const struct cli *cli, const char *first);

/* Joins the words with spaces and reads them with the grammar, so that a mistake is shown before anybody is
 * asked. 0 with the sentence, to be freed, or a negative errno with `error` set. */
int filter_read(const struct cli *cli, char **ret_filter, struct error *error);

/* The same, in quotes what stands behind one of `quoting` (NULL-terminated), where the shell took them away.
 */
char *sentence_join(const struct cli *cli, const char *first, const char *const *quoting);

/* A rule: the words behind its verb (which may be empty), an expression behind `matching` in quotes.  To be
 * freed; NULL without memory. */
char *rule_join(const struct cli *cli, const char *verb);

/* "key=value&..." of pairs that end with a key of NULL; those with a value of NULL are left out.  To be
 * freed; NULL without memory. */
__attribute__((sentinel)) char *query_make(const char *key, ...);

#endif
