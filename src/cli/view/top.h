/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * The live screen.
 */
#ifndef WEIR_CLI_VIEW_TOP_H
#define WEIR_CLI_VIEW_TOP_H

#include <signal.h>

#include "cli/cli.h"
#include "cli/view/tail.h"
#include "weir/weir.h"

/* Set by whoever handles signals: the screen ends as if 'q' was pressed. */
extern volatile sig_atomic_t top_stop;

/* SIGINT, SIGTERM and SIGHUP end the screen rather than the process. */
void top_catch_signals(void);

/* Shows the live screen until the person has enough of it.  `agent` (or NULL) is what the agent in our care
 * says: its last line is shown, and its end is the end of the screen.  0 or a negative errno with `error`
 * set. */
int top_show(const struct cli *cli, struct weir_client *client, const char *filter, struct tail *agent,
	struct error *error);

/* Prints one plain picture. */
int top_print(const struct cli *cli, struct weir_client *client, const char *filter, struct error *error);

#endif
