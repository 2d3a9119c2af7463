/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Where the pins are: a directory in a BPF file system that outlives the agent.
 *
 * The usual one is /sys/fs/bpf.  Where it is not mounted, a run directory gets a bpffs of its own at
 * RUN_DIR/bpf.
 *
 * The trap is mount namespaces: `ip netns exec` gives every command a new one with a fresh /sys, and what is
 * mounted in it vanishes, pins and all, when that command ends.  So the mount is made, and looked for, in the
 * outermost mount namespace among our ancestors' that has the same run directory.  The agent itself stays
 * where it is and works through an open directory.
 *
 * Mounting and unmounting need CAP_SYS_ADMIN, which the agent does not keep.  Where a mount of our own is to
 * be undone at the end, a small keeper process with that one job keeps it.
 */
#ifndef WEIR_ENGINE_PINS_H
#define WEIR_ENGINE_PINS_H

#include <dirent.h>
#include <limits.h>
#include <stdbool.h>
#include <sys/types.h>

#include "basic/error.h"

struct pins {
	int directory;       /* open directory that holds the pins; -1: none */
	char path[PATH_MAX]; /* its name, as a person finds it */
	bool own_mount;      /* a bpffs of ours at RUN_DIR/bpf */
	int keeper;          /* socket to the keeper; -1: none */
	pid_t keeper_pid;
};

/* Opens the directory of the pins.  With `create` it is made where missing; without, -ENOENT says there is
 * none. */
int pins_open(const char *run_dir, bool create, struct pins *ret_pins, struct error *error);
void pins_close(struct pins *pins);
/* Removes every pin, the directory, and a mount of our own. */
int pins_remove(struct pins *pins, struct error *error);

/* Removes one.  A link to an interface or a cgroup is off when this returns, whoever else has it open.  0 or
 * a negative errno. */
int pin_remove(const struct pins *pins, const char *name);

/* A path that bpf(2) takes for the pin `name`. */
const char *pins_path(const struct pins *pins, char buffer[static PATH_MAX], const char *name);

/* The names of the pins that begin with `prefix`: pins_walk_begin(), then pins_walk_next() until it says
 * NULL. What comes up may be removed on the way. */
struct pins_walk {
	DIR *directory; /* NULL: the walk is over */
	const char *prefix;
};
void pins_walk_begin(const struct pins *pins, const char *prefix, struct pins_walk *ret_walk);
const char *pins_walk_next(struct pins_walk *walk);

#endif
