/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Owners in sentences: the words behind "by".
 *
 *     OWNER = pid N | user NAME|UID | group NAME|GID | exe PATH | cgroup PATH | unit NAME | container ID |
 * pod UID
 *
 * `cgroup` means the whole subtree, its path begins with "/" (the mount point of cgroup2 in front of it is
 * understood); `unit` without a suffix means ".service"; `container` takes the id or its first twelve or more
 * digits; `exe` is a full path.  Users and groups have to be known, or numbers.
 */
#ifndef WEIR_MODEL_OWNER_H
#define WEIR_MODEL_OWNER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "basic/error.h"
#include "shared/owner.h"

enum owner_kind {
	OWNER_ANY, /* not asked for */
	OWNER_PID,
	OWNER_USER,
	OWNER_GROUP,
	OWNER_EXE,
	OWNER_CGROUP,
	OWNER_UNIT,
	OWNER_CONTAINER,
	OWNER_POD,
};

struct owner_match {
	enum owner_kind kind;
	uint32_t number;           /* pid, uid, gid */
	char text[OWNER_PATH_MAX]; /* path, name or id; of users and groups the name as it was given */
};

/* The kinds' words, in the order of the enum, from OWNER_PID on; NULL-terminated. */
extern const char *const owner_kinds[];

/* Reads a kind ("user") and its value.  0 or -EINVAL with what is wrong in `error` (no place: the caller
 * knows it). */
int owner_match_set(struct owner_match *ret_match, const char *kind, const char *value, struct error *error);
/* "user datauser"; 0 or -ENOSPC. */
int owner_match_print(const struct owner_match *match, char *buffer, size_t size);
bool owner_match_fits(const struct owner_match *match, const struct owner *owner);

/* What a cgroup path says: the unit it belongs to ("nginx.service"), the container (64 hexadecimal digits),
 * the pod (uid).  Writes "" where it says nothing. */
void owner_unit(const char *cgroup, char *buffer, size_t size);
void owner_container(const char *cgroup, char *buffer, size_t size);
void owner_pod(const char *cgroup, char *buffer, size_t size);

/* Writes all that struct owner says of a cgroup's path; `owner` holds nothing of another one. */
void owner_cgroup_set(struct owner *owner, const char *path);

/* FNV-1a of a text, as in struct owner. */
uint64_t owner_hash(const char *text, size_t length);

#endif
