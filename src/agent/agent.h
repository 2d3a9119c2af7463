/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * The agent: one event loop, the only writer of what the datapath is told, the server of the API.
 */
#ifndef WEIR_AGENT_AGENT_H
#define WEIR_AGENT_AGENT_H

#include "basic/error.h"

struct agent_options {
	const char *run_dir;
	const char *config_file; /* NULL: the defaults */
};

/* Runs until it is told to stop: SIGTERM leaves the datapath, SIGINT and POST /v1/down remove it.  Prints its
 * own errors; returns an exit status. */
int agent_main(const struct agent_options *options);

/* Removes the datapath that a killed or stopped agent left.  0 or a negative errno; -ENOENT: nothing was
 * there. */
int agent_down(const char *run_dir, struct error *error);

#endif
