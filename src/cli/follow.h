/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Following a feed of the agent: a line of JSON an event, until somebody has enough.
 */
#ifndef WEIR_CLI_FOLLOW_H
#define WEIR_CLI_FOLLOW_H

#include <jansson.h>

#include "cli/ask.h"

/* Prints one event as a line of text on standard output.  0, or non-zero to end. */
typedef int follow_function(void *user, const json_t *event);

/* Asks for a feed and shows it until SIGINT, SIGTERM, a closed pipe or the agent's end; with --json the lines
 * as they are, else through `function`.  Lines that were lost are told on standard error.  Returns the exit
 * status: being interrupted is success. */
int follow(const struct cli *cli, const char *path, const char *query, follow_function *function, void *user);

/* The same for one that has to be started: by POST. */
int follow_post(
	const struct cli *cli, const char *path, const char *query, follow_function *function, void *user);

/* Set by SIGINT and SIGTERM once follow_catch_signals() was called. */
bool follow_interrupted(void);
void follow_catch_signals(void);

#endif
