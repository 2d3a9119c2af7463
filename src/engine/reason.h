/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * The kernel's reasons for drops by name, as its BTF has them.
 *
 * The lower 16 bits of a reason count within a subsystem, which the upper 16 bits name.  The core's reasons
 * are enum skb_drop_reason; a subsystem's stand in an enum of their own ("ovs_drop_reason"), often in a
 * module's BTF.  Every enum whose name ends in "drop_reason" is one.
 */
#ifndef WEIR_ENGINE_REASON_H
#define WEIR_ENGINE_REASON_H

#include <bpf/btf.h>
#include <stddef.h>
#include <stdint.h>

struct reason {
	uint32_t value;
	char *name;
};

struct reasons {
	struct reason *reasons;
	size_t count;
};

/* Adds those of the types from `first` on.  0 or -ENOMEM. */
int reasons_add(struct reasons *reasons, const struct btf *btf, uint32_t first);
void reasons_free(struct reasons *reasons);
const char *reasons_find(const struct reasons *reasons, uint32_t value); /* NULL: not known */

#endif
