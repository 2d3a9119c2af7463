/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Reading and printing what forwards and what steers, behind its verb.  Only for the files of this room.
 */
#ifndef WEIR_MODEL_FORWARD_READ_H
#define WEIR_MODEL_FORWARD_READ_H

#include "model/forward.h"
#include "model/rule_read.h"

int forward_read(struct sentence *s, struct forward_text *forward);
int steer_read(struct match_reader *m, struct rule *rule); /* rule->steer is there */
void forward_put(struct printer *p, const struct forward_text *forward);
void steer_put(struct printer *p, const struct rule *rule); /* all but the comment */

#endif
