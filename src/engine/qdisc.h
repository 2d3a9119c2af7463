/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Queues of the kernel: trees of HTB, fq, and the interfaces (ifb) through which incoming packets take them.
 *
 * Weir's root qdiscs have a handle of their own (QDISC_HANDLE) and are remembered in the pinned map "qdiscs",
 * so that the next agent, and `weir down`, know them.  Weir puts one only where the kernel's default stands
 * (handle 0, which nobody configured); what somebody else has put there is never touched.
 */
#ifndef WEIR_ENGINE_QDISC_H
#define WEIR_ENGINE_QDISC_H

#include "engine/engine.h"

#define QDISC_HANDLE      0x7765U /* "we": the major number of all that is weir's */
#define QDISC_LEAF(minor) ((uint32_t)QDISC_HANDLE << 16 | (minor))
#define QDISC_ROOT        0xffffU /* minor numbers: the class that all others borrow from */
#define QDISC_REST        0xfffeU /* the leaf of packets that have no class; the qdisc's default */
#define QDISC_OWN         0x4000U /* with a class that has children: the leaf of its own packets */

/* What stands on an interface, where packets leave. */
struct engine_qdisc {
	char kind[ENGINE_NAME_MAX];
	uint32_t handle; /* as the kernel writes it: major << 16 | minor */
	bool ours;
	bool free; /* the kernel's default: weir may put its own there */
};

/* A class of an HTB tree.  Rates in bytes a second. */
struct engine_htb {
	uint32_t minor, parent; /* parent 0: the qdisc itself */
	uint64_t rate, ceiling;
	uint64_t burst; /* bytes; 0: chosen by rate */
	uint32_t weight;
	uint32_t priority; /* 0..7, 0 first */
	uint32_t room;     /* bytes that its leaf has room for at least, if that has no AQM */
	bool leaf;
};

struct engine_qdisc_count {
	uint32_t minor;
	uint64_t packets, bytes;  /* sent */
	uint64_t dropped, marked; /* by its queue; marked: ECN */
	uint64_t overlimits;      /* times that packets had to wait */
	uint32_t backlog_bytes, backlog_packets;
};

/* Has the kernel this kind of qdisc?  Asked once. */
bool engine_qdisc_has(struct engine *engine, const char *kind);
/* 0; -ENODEV: no such interface. */
int engine_qdisc_look(struct engine *engine, uint32_t index, struct engine_qdisc *ret_qdisc);
/* Says why weir does not put its own there: -EEXIST. */
int engine_qdisc_refuse(const char *interface, const struct engine_qdisc *qdisc, struct error *error);

/*
 * Makes the tree of an interface the one that these classes are, parents before their children: classes that
 * are there are changed in place and keep their packets, what is not among these goes.  0; -EEXIST with
 * `error`: somebody else's qdisc stands there; or another negative errno.
 */
int engine_qdisc_htb(struct engine *engine, const struct engine_interface *interface,
	const struct engine_htb *classes, size_t count, struct error *error);
/* Changes one class of a tree that is there. */
int engine_qdisc_htb_change(struct engine *engine, uint32_t index, const struct engine_htb *class);
/* fq, which keeps packets until their departure times.  Errors as above. */
int engine_qdisc_fq(struct engine *engine, const struct engine_interface *interface, struct error *error);
/* Puts the kernel's default where weir's stands.  0 also if none does. */
int engine_qdisc_remove(struct engine *engine, uint32_t index);
/* The interfaces that have one of weir's, or had one when it was last seen. */
size_t engine_qdisc_ours(struct engine *engine, uint32_t *indices, size_t room);

typedef void engine_qdisc_function(void *context, const struct engine_qdisc_count *count);
/* Classes of the interface's HTB tree. */
int engine_qdisc_counts(
	struct engine *engine, uint32_t index, engine_qdisc_function *function, void *context);

/* The interface "weir-INDEX" that stands for what comes in on another; made if it is not there. */
int engine_qdisc_ifb(struct engine *engine, const struct engine_interface *interface, uint32_t *ret_index,
	struct error *error);
int engine_qdisc_ifb_remove(struct engine *engine, uint32_t index); /* of the interface that it stands for */

#endif
