/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Links to interfaces, pinned by the interface's index: PREFIX IFINDEX, and what else is in the name.  The
 * pin is the attachment: it goes on when the agent ends, and removing it detaches.
 */
#ifndef WEIR_ENGINE_LINK_H
#define WEIR_ENGINE_LINK_H

#include <limits.h>

#include "engine/engine.h"

struct engine_link {
	const char *name, *path; /* of the pin; removing it is allowed */
	int fd;
	uint32_t meant;   /* the interface that the name says */
	uint32_t index;   /* the one that it is on; 0: that is gone */
	uint32_t program; /* the number of its program; 0 likewise */
};

/* The interface that a link is on; 0 when that is gone (or the link cannot be asked).  `ret_program` gets the
 * program's number. */
uint32_t link_interface(int link, uint32_t *ret_program);

typedef void link_function(struct engine *engine, const struct engine_link *link, void *context);

/* Calls `function` for each pinned link whose name begins with `prefix`. */
void link_each(struct engine *engine, const char *prefix, link_function *function, void *context);

/* Removes those whose interface is none of these, or another one than the name says. */
void link_forget_gone(
	struct engine *engine, const char *prefix, const struct engine_interface *interfaces, size_t count);

bool interface_is_among(const struct engine_interface *interfaces, size_t count, uint32_t index);

#endif
