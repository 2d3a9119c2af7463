// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* Is there anybody whom a sentence means? */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "agent/internal.h"
#include "agent/owner/owners.h"
#include "agent/rule/rulebook.h"
#include "engine/engine.h"

#define CGROUPS_MAX 20000 /* that are looked at: behind them nobody says that there is none */

/* On the way through all cgroups. */
struct walk {
	const struct owner_match *match;
	DIR *levels[OWNER_DEPTH_MAX + 1];
	size_t lengths[OWNER_DEPTH_MAX + 1]; /* of the path of each level */
	char path[OWNER_PATH_MAX];
	unsigned int depth, seen;
};

static bool cgroup_fits(const struct walk *walk)
{
	struct owner owner = {};

	owner_cgroup_set(&owner, walk->path);
	return owner_match_fits(walk->match, &owner);
}

static bool level_open(struct walk *walk, int at, const char *name, unsigned int depth)
{
	int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	walk->levels[depth] = fd < 0 ? NULL : fdopendir(fd);
	walk->lengths[depth] = strlen(walk->path);
	walk->depth = depth;
	if (fd >= 0 && !walk->levels[depth])
		close(fd);
	return walk->levels[depth];
}

/* Looks at what stands behind the last one, and below it the next time.  True: it fits, or nobody can say
 * that nothing would. */
static bool walk_step(struct walk *walk, const struct dirent *entry)
{
	size_t length = walk->lengths[walk->depth], room = sizeof(walk->path) - length;

	if ((size_t)snprintf(walk->path + length, room, "/%s", entry->d_name) >= room ||
		walk->depth == OWNER_DEPTH_MAX || ++walk->seen == CGROUPS_MAX || cgroup_fits(walk))
		return true;
	/* one that has gone meanwhile is not looked into */
	if (!level_open(walk, dirfd(walk->levels[walk->depth]), entry->d_name, walk->depth + 1))
		walk->depth--;
	return false;
}

static bool cgroup_is_there(int root, const struct owner_match *match)
{
	struct walk walk = {.match = match};
	bool found = root < 0 || !level_open(&walk, root, ".", 0);

	while (!found) {
		const struct dirent *entry = readdir(walk.levels[walk.depth]);

		if (entry && (entry->d_type != DT_DIR || entry->d_name[0] == '.'))
			continue;
		if (entry) {
			found = walk_step(&walk, entry);
			continue;
		}
		closedir(walk.levels[walk.depth]);
		walk.levels[walk.depth] = NULL;
		if (!walk.depth)
			break;
		walk.depth--;
	}
	for (unsigned int i = 0; i <= OWNER_DEPTH_MAX; i++)
		if (walk.levels[i])
			closedir(walk.levels[i]);
	return found;
}

/* A unit that does not run may be started any time. */
static bool unit_is_installed(const char *name)
{
	static const char *const places[] = {"/etc/systemd/system", "/run/systemd/system",
		"/run/systemd/transient", "/run/systemd/generator", "/usr/local/lib/systemd/system",
		"/usr/lib/systemd/system", "/lib/systemd/system"};
	const char *instance = strchr(name, '@'), *suffix = strrchr(name, '.');
	char path[OWNER_PATH_MAX + 64];

	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		snprintf(path, sizeof(path), "%s/%s", places[i], name);
		if (access(path, F_OK) == 0)
			return true;
		if (!instance || !suffix || suffix < instance)
			continue;
		snprintf(
			path, sizeof(path), "%s/%.*s%s", places[i], (int)(instance + 1 - name), name, suffix);
		if (access(path, F_OK) == 0)
			return true;
	}
	return false;
}

static bool is_known(struct agent *agent, const struct owner_match *match)
{
	for (uint32_t place = 0; place < owner_places(agent); place++) {
		const struct owner *owner = owner_at(agent, place);

		if (owner && owner_match_fits(match, owner))
			return true;
	}
	return false;
}

int owner_expect(struct agent *agent, const struct owner_match *match, struct error *error)
{
	uint64_t start;

	switch (match->kind) {
	case OWNER_PID:
		if (is_known(agent, match) || process_start(match->number, &start) == 0)
			return 0;
		error_set(error, -ESRCH, "there is no process %u", match->number);
		return error_want(error, "the id of one that runs");
	case OWNER_CGROUP:
	case OWNER_UNIT:
	case OWNER_CONTAINER:
	case OWNER_POD:
		if (is_known(agent, match) || cgroup_is_there(engine_cgroup_root(agent->engine), match) ||
			(match->kind == OWNER_UNIT && unit_is_installed(match->text)))
			return 0;
		error_set(error, -ESRCH, "there is no %s %s", owner_kinds[match->kind - OWNER_PID],
			match->text);
		return error_want(
			error, match->kind == OWNER_UNIT ? "one that runs or is installed" : "one that runs");
	default:
		return 0;
	}
}
