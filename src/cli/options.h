/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * The options of the command line: one table, whichever command they are for.
 */
#ifndef WEIR_CLI_OPTIONS_H
#define WEIR_CLI_OPTIONS_H

#include <stdio.h>

#include "cli/cli.h"

/* Reads options from argv[1] on into `cli`.  With `stop_at_word` it ends before the first word that is no
 * option, otherwise options and words may mix and the words are moved behind the options.  0 with the index
 * of the first word, or -EINVAL with `error` set. */
int options_read(
	struct cli *cli, int argc, char **argv, bool stop_at_word, int *ret_words, struct error *error);

/* Were only options given that this command takes?  0 or -EINVAL with `error` set. */
int options_check(const struct cli *cli, struct error *error);

/* One line for each option of `mask`. */
void options_print(uint64_t mask, FILE *out);

#endif
