/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* What the datapath copies of flows' first bytes (shared/name.h). */
#ifndef WEIR_ENGINE_NAME_H
#define WEIR_ENGINE_NAME_H

#include "engine/engine.h"
#include "shared/name.h"

/* Readable when the ring asks for attention: when a quarter of it is full. */
int engine_name_fd(const struct engine *engine);

typedef void engine_name_function(void *context, const struct name_record *record);
/* Reads the ring until it is empty.  A record is whole, with record->bytes bytes of data. */
void engine_name_read(struct engine *engine, engine_name_function *function, void *context);

/* Were the programs loaded with the code for it? */
bool engine_name_possible(const struct engine *engine);
/* So many records a second may each CPU copy from now on; 0: none.  0 or a negative errno. */
int engine_name_limit(struct engine *engine, uint32_t per_second);

/* Sums the CPUs' counters, since the datapath was set up.  0 or a negative errno. */
int engine_name_stats(const struct engine *engine, struct name_stats *ret_stats);

#endif
