// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
#include "agent/rule/explain_owner.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "agent/rule/rulebook.h"
#include "basic/cleanup.h"
#include "shared/family.h"

#define CONTAINER_DIGITS 64

static void exe_fill(struct owner *owner, const char *path)
{
	snprintf(owner->exe, sizeof(owner->exe), "%s", path);
	owner->exe_hash = owner_hash(owner->exe, strlen(owner->exe));
}

/* Takes what it knows of a file of /proc with a line for each thing. */
static void lines_read(const char *path, struct owner *owner)
{
	_cleanup_fclose_ FILE *file = fopen(path, "re");
	char line[1024];

	while (file && fgets(line, sizeof(line), file)) {
		line[strcspn(line, "\n")] = '\0';
		if (strncmp(line, "0::/", 4) == 0)
			owner_cgroup_set(owner, line + 3);
		else if (sscanf(line, "Uid: %*u %u", &owner->key.uid) != 1)
			(void)sscanf(line, "Gid: %*u %u", &owner->key.gid);
	}
}

static int process_fill(uint32_t pid, struct owner *owner, struct error *error)
{
	char path[64], exe[OWNER_PATH_MAX];
	uint64_t ticks;
	ssize_t length;

	if (process_start(pid, &ticks) < 0) {
		error_set(error, -ESRCH, "there is no process %u", pid);
		error_want(error, "the id of one that runs");
		return -ESRCH;
	}
	owner->key.pid = pid;
	owner->key.start_ns = ticks * FAMILY_TICK_NS;
	snprintf(path, sizeof(path), "/proc/%u/status", pid);
	lines_read(path, owner);
	snprintf(path, sizeof(path), "/proc/%u/cgroup", pid);
	lines_read(path, owner);
	snprintf(path, sizeof(path), "/proc/%u/exe", pid);
	length = readlink(path, exe, sizeof(exe) - 1);
	if (length > 0) {
		exe[length] = '\0';
		exe_fill(owner, exe);
	}
	return 0;
}

int explain_owner(const struct owner_match *match, struct owner *ret_owner, struct error *error)
{
	struct owner owner = {.key = {.uid = UINT32_MAX, .gid = UINT32_MAX}};
	char text[OWNER_PATH_MAX + 32];
	int r = 0;

	switch (match->kind) {
	case OWNER_PID:
		r = process_fill(match->number, &owner, error);
		break;
	case OWNER_USER:
		owner.key.uid = match->number;
		break;
	case OWNER_GROUP:
		owner.key.gid = match->number;
		break;
	case OWNER_EXE:
		exe_fill(&owner, match->text);
		break;
	case OWNER_CGROUP:
		owner_cgroup_set(&owner, match->text);
		break;
	case OWNER_UNIT:
		owner.depth = 1;
		owner.name_hash[0] = owner_hash(match->text, strlen(match->text));
		break;
	default:
		if (match->kind == OWNER_CONTAINER && strlen(match->text) == CONTAINER_DIGITS) {
			owner.container_hash = owner_hash(match->text, CONTAINER_DIGITS);
			break;
		}
		owner_match_print(match, text, sizeof(text));
		error_set(error, -EINVAL, "no process with a socket is known that is %s", text);
		error_want(error, "the owner of a socket, as 'weir procs' shows them");
		r = -EINVAL;
	}
	if (r == 0)
		*ret_owner = owner;
	return r;
}
