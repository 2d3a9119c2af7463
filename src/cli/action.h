/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Commands that are a family: `weir shape add`, `weir shape list`.
 */
#ifndef WEIR_CLI_ACTION_H
#define WEIR_CLI_ACTION_H

#include "cli/cli.h"

#define ACTIONS_MAX 16

struct action {
	const char *name;
	int (*run)(const struct cli *cli); /* without the action's own word; an exit status */
	uint64_t options;                  /* OPTION_BITs besides OPTIONS_COMMON and --json */
};

/* Runs the one of `actions` (ends with a name of NULL; ACTIONS_MAX) that the command's first word names.
 * `options`: which of them has which option, for who gave one to another. */
int action_run(const struct cli *cli, const struct action *actions, const char *options);

#endif
