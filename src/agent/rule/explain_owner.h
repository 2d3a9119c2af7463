/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Whose a packet is that is only asked about, where nobody with a socket is known who fits. */
#ifndef WEIR_AGENT_EXPLAIN_OWNER_H
#define WEIR_AGENT_EXPLAIN_OWNER_H

#include "basic/error.h"
#include "model/owner.h"
#include "shared/owner.h"

/* What the rules would know of who is asked about: of a process what /proc tells (an executable that the
 * agent may not see is none), of a user, group, executable, cgroup, unit or container that alone.  Fills all
 * of *ret_owner but its id.  0; -ESRCH with `error` set: there is no such process; -EINVAL: that cannot be
 * said. */
int explain_owner(const struct owner_match *match, struct owner *ret_owner, struct error *error);

#endif
