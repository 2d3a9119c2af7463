/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * The screens, each by itself: only for the files of this room.
 */
#ifndef WEIR_CLI_VIEW_SCREEN_H
#define WEIR_CLI_VIEW_SCREEN_H

#include "cli/view/screens.h"

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

extern const struct screen screen_flows, screen_hosts, screen_ports, screen_interfaces, screen_drops;
extern const struct screen screen_procs, screen_owners;
extern const struct screen screen_rules;

/* A default verdict that is more than nothing, as a rule that comes behind all others; NULL: it is nothing.
 */
json_t *rule_default(const json_t *defaults, const char *direction);

#endif
