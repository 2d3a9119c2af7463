/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Processes in the metrics: a bounded number of series, each of a command, unit and user, that live on when
 * their processes have ended, in a region.
 *
 * Who has moved most when he first appears gets the free ones; the rest is one series, "other", for good.
 */
#ifndef WEIR_AGENT_SERIES_H
#define WEIR_AGENT_SERIES_H

#include <stdint.h>

#include "agent/flow/table.h"
#include "basic/error.h"

struct agent;
struct evbuffer;
struct series_list;

/* Numbers of series; an identity keeps its own. */
#define SERIES_NONE  0 /* not asked yet */
#define SERIES_OTHER UINT32_MAX

int series_open(struct agent *agent, struct series_list **ret_list, struct error *error);
void series_close(struct series_list *list);
/* An identity of this series is forgotten; this is what it had. */
void series_keep(struct series_list *list, uint32_t number, const struct table_total *total);
void series_write(struct agent *agent, struct series_list *list, struct evbuffer *out);

#endif
