/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Reading and printing what forwards and what steers, behind its verb.  Only for the files of this room.
 */
#ifndef WEIR_MODEL_FORWARD_READ_H
#define WEIR_MODEL_FORWARD_READ_H

#include "model/forward.h"
#include "model/match_read.h"

int forward_read(struct sentence *s, struct forward_text *forward);
int steer_read(struct match_reader *m, struct steer_text *steer);
void forward_put(struct printer *p, const struct forward_text *forward);
void steer_put(struct printer *p, const struct steer_text *steer);

#endif
