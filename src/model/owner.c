// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
#include "model/owner.h"

#include <ctype.h>
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "basic/text.h"

#define PID_MAX          4194304U    /* PID_MAX_LIMIT of 64-bit kernels */
#define NUMBER_MAX       4294967294U /* (uid_t)-1 is nobody */
#define NAMES_MAX        512         /* names that a suggestion is chosen from */
#define CONTAINER_DIGITS 64
#define CONTAINER_MIN    12 /* digits that docker and podman show */
#define HEXADECIMAL      "0123456789abcdef"

const char *const owner_kinds[] = {"pid", "user", "group", "exe", "cgroup", "unit", "container", "pod", NULL};

uint64_t owner_hash(const char *text, size_t length)
{
	uint64_t hash = OWNER_HASH_BASIS;

	for (size_t i = 0; i < length; i++)
		hash = (hash ^ (unsigned char)text[i]) * OWNER_HASH_PRIME;
	return hash;
}

/*
 * What a cgroup path says
 */

/* The next component of a path: its length, and in *path where it begins; 0 at the end. */
static size_t component_next(const char **path)
{
	*path += strspn(*path, "/");
	return strcspn(*path, "/");
}

static bool is_unit(const char *component, size_t length)
{
	static const char *const suffixes[] = {".service", ".scope", ".socket", ".mount", ".swap"};

	for (size_t i = 0; i < sizeof(suffixes) / sizeof(suffixes[0]); i++) {
		size_t suffix = strlen(suffixes[i]);

		if (length > suffix && memcmp(component + length - suffix, suffixes[i], suffix) == 0)
			return true;
	}
	return false;
}

static void copy_text(char *buffer, size_t size, const char *text, size_t length)
{
	snprintf(buffer, size, "%.*s", (int)length, text);
}

/* The deepest one: of a user's service, not of the user manager above it. */
void owner_unit(const char *cgroup, char *buffer, size_t size)
{
	size_t length;

	copy_text(buffer, size, "", 0);
	for (; (length = component_next(&cgroup)); cgroup += length)
		if (is_unit(cgroup, length))
			copy_text(buffer, size, cgroup, length);
}

/* docker-ID.scope, cri-containerd-ID.scope, crio-ID.scope, libpod-ID.scope, or the id alone (cgroupfs). */
void owner_container(const char *cgroup, char *buffer, size_t size)
{
	size_t length, digits;

	copy_text(buffer, size, "", 0);
	for (; (length = component_next(&cgroup)); cgroup += length)
		for (size_t i = 0; i < length; i += digits ? digits : 1) {
			digits = strspn(cgroup + i, HEXADECIMAL);
			if (digits == CONTAINER_DIGITS)
				copy_text(buffer, size, cgroup + i, digits);
		}
}

/* The uid behind "pod": a UUID, whose dashes systemd's names have as underscores; the 32 digits of a static
 * pod; or the 64 digits of podman.  Returns its length; 0: none. */
static size_t pod_length(const char *text)
{
	size_t length = strspn(text, HEXADECIMAL "-_"), digits = 0;

	for (size_t i = 0; i < length; i++)
		digits += isxdigit((unsigned char)text[i]) != 0;
	return (digits == 32 && (length == 32 || length == 36)) || (digits == 64 && length == 64) ? length
	                                                                                          : 0;
}

void owner_pod(const char *cgroup, char *buffer, size_t size)
{
	static const char *const words[] = {"pod_", "pod"};
	size_t length, uid;

	copy_text(buffer, size, "", 0);
	for (; (length = component_next(&cgroup)); cgroup += length)
		for (size_t i = 0; i < length; i++)
			for (size_t w = 0; w < sizeof(words) / sizeof(words[0]); w++) {
				size_t word = strlen(words[w]);

				if (strncmp(cgroup + i, words[w], word) != 0)
					continue;
				uid = pod_length(cgroup + i + word);
				if (uid)
					copy_text(buffer, size, cgroup + i + word, uid);
			}
	for (char *p = buffer; *p; p++)
		if (*p == '_')
			*p = '-';
}

void owner_cgroup_set(struct owner *owner, const char *path)
{
	char container[OWNER_PATH_MAX];
	const char *begin = path + 1, *end;

	snprintf(owner->cgroup, sizeof(owner->cgroup), "%s", path);
	for (owner->depth = 0; begin[-1] == '/' && *begin && owner->depth < OWNER_DEPTH_MAX;
		begin = end + 1) {
		end = strchrnul(begin, '/');
		owner->path_hash[owner->depth] = owner_hash(path, (size_t)(end - path));
		owner->name_hash[owner->depth] = owner_hash(begin, (size_t)(end - begin));
		owner->depth++;
		if (!*end)
			break;
	}
	owner_container(path, container, sizeof(container));
	if (*container)
		owner->container_hash = owner_hash(container, strlen(container));
}

/*
 * Values
 */

static int number_read(const char *text, uint32_t max, uint32_t *ret_number)
{
	uint64_t number = 0;

	if (!*text)
		return -EINVAL;
	for (; *text; text++) {
		if (*text < '0' || *text > '9')
			return -EINVAL;
		if (number <= max)
			number = number * 10 + (uint64_t)(*text - '0');
	}
	if (number > max)
		return -ERANGE;
	*ret_number = (uint32_t)number;
	return 0;
}

static int pid_read(struct owner_match *match, const char *value, struct error *error)
{
	if (number_read(value, PID_MAX, &match->number) == 0 && match->number)
		return 0;
	error_set(error, -EINVAL, "'%.64s' is not a process id", value);
	error_want(error, "a number from 1 to %u, as ps(1) shows it", PID_MAX);
	return -EINVAL;
}

static bool user_find(const char *name, uint32_t *ret_number)
{
	struct passwd entry, *found = NULL;
	char buffer[4096];

	if (getpwnam_r(name, &entry, buffer, sizeof(buffer), &found) || !found)
		return false;
	*ret_number = found->pw_uid;
	return true;
}

static bool group_find(const char *name, uint32_t *ret_number)
{
	struct group entry, *found = NULL;
	char buffer[65536]; /* groups have members */

	if (getgrnam_r(name, &entry, buffer, sizeof(buffer), &found) || !found)
		return false;
	*ret_number = found->gr_gid;
	return true;
}

static const char *user_next(void)
{
	struct passwd *entry = getpwent();

	return entry ? entry->pw_name : NULL;
}

static const char *group_next(void)
{
	struct group *entry = getgrent();

	return entry ? entry->gr_name : NULL;
}

/* Users and groups: the same, from two databases. */
struct principal {
	const char *noun;
	bool (*find)(const char *name, uint32_t *ret_number);
	void (*begin)(void);
	const char *(*next)(void);
	void (*end)(void);
};

static const struct principal user_principal = {"user", user_find, setpwent, user_next, endpwent};
static const struct principal group_principal = {"group", group_find, setgrent, group_next, endgrent};

static void want_nearest(const struct principal *principal, const char *value, struct error *error)
{
	char *names[NAMES_MAX + 1] = {};
	const char *name, *near;
	size_t count = 0;

	principal->begin();
	while (count < NAMES_MAX && (name = principal->next()) && (names[count] = strdup(name)))
		count++;
	principal->end();
	near = text_nearest(value, (const char *const *)names);
	if (near)
		error_want(error, "did you mean '%s'?", near);
	else
		error_want(error, "a %s of this host, or a number", principal->noun);
	while (count > 0)
		free(names[--count]);
}

static int principal_read(
	struct owner_match *match, const char *value, const struct principal *principal, struct error *error)
{
	if (number_read(value, NUMBER_MAX, &match->number) == 0 || principal->find(value, &match->number))
		return 0;
	error_set(error, -EINVAL, "unknown %s '%.64s'", principal->noun, value);
	want_nearest(principal, value, error);
	return -EINVAL;
}

static int user_read(struct owner_match *match, const char *value, struct error *error)
{
	return principal_read(match, value, &user_principal, error);
}

static int group_read(struct owner_match *match, const char *value, struct error *error)
{
	return principal_read(match, value, &group_principal, error);
}

static int exe_read(struct owner_match *match, const char *value, struct error *error)
{
	(void)match;
	if (value[0] == '/' && value[1])
		return 0;
	error_set(error, -EINVAL, "'%.64s' is not the path of an executable", value);
	error_want(error, "its whole path, such as /usr/sbin/nginx");
	return -EINVAL;
}

static int cgroup_read(struct owner_match *match, const char *value, struct error *error)
{
	static const char *const mounts[] = {"/sys/fs/cgroup/unified", "/sys/fs/cgroup"};
	unsigned int depth = 0;
	const char *path = value;
	size_t length, used = 0;

	if (value[0] != '/') {
		error_set(error, -EINVAL, "'%.64s' is not the path of a cgroup", value);
		error_want(error, "a path that begins with '/', such as /system.slice");
		return -EINVAL;
	}
	match->text[0] = '\0';
	for (; (length = component_next(&path)); path += length)
		used += (size_t)snprintf(
			match->text + used, sizeof(match->text) - used, "/%.*s", (int)length, path);
	/* as often as it stands there, so that what is printed is read as the same */
	for (size_t i = 0; i < sizeof(mounts) / sizeof(mounts[0]); i++) {
		length = strlen(mounts[i]);
		if (strncmp(match->text, mounts[i], length) == 0 &&
			(!match->text[length] || match->text[length] == '/')) {
			memmove(match->text, match->text + length, strlen(match->text + length) + 1);
			i = (size_t)-1;
		}
	}
	for (const char *slash = match->text; *slash; slash++)
		depth += *slash == '/';
	if (!depth) {
		error_set(error, -EINVAL, "every process is in the root of all cgroups");
		error_want(error, "a cgroup below it, such as /system.slice");
		return -EINVAL;
	}
	if (depth > OWNER_DEPTH_MAX) {
		error_set(error, -EINVAL, "the cgroup '%.64s...' is too deep", value);
		error_want(error, "at most %d levels", OWNER_DEPTH_MAX);
		return -EINVAL;
	}
	return 0;
}

static int unit_read(struct owner_match *match, const char *value, struct error *error)
{
	static const char slice[] = ".slice";
	size_t length = strlen(value), suffix = strlen(slice);
	bool is_slice = length > suffix && strcmp(value + length - suffix, slice) == 0;

	if (!length || strchr(value, '/')) {
		error_set(error, -EINVAL, "'%.64s' is not the name of a unit", value);
		error_want(error, "such as nginx, nginx.service or user-1000.slice");
		return -EINVAL;
	}
	if (!is_slice && !is_unit(value, length) &&
		(size_t)snprintf(match->text, sizeof(match->text), "%s.service", value) >=
			sizeof(match->text))
		return error_set(error, -EINVAL, "the unit's name '%.64s...' is too long", value);
	return 0;
}

static int container_read(struct owner_match *match, const char *value, struct error *error)
{
	size_t digits = strspn(value, HEXADECIMAL);

	(void)match;
	if (!value[digits] && digits >= CONTAINER_MIN && digits <= CONTAINER_DIGITS)
		return 0;
	error_set(error, -EINVAL, "'%.64s' is not the id of a container", value);
	error_want(error, "%d to %d hexadecimal digits of it", CONTAINER_MIN, CONTAINER_DIGITS);
	return -EINVAL;
}

static int pod_read(struct owner_match *match, const char *value, struct error *error)
{
	size_t length = pod_length(value);

	if (length && !value[length]) {
		for (char *p = match->text; *p; p++)
			if (*p == '_')
				*p = '-';
		return 0;
	}
	error_set(error, -EINVAL, "'%.64s' is not the uid of a pod", value);
	error_want(error, "such as 8f2d1c5e-0b5a-4c58-9a52-3f4a2b1c0d9e");
	return -EINVAL;
}

/* In the order of enum owner_kind, from OWNER_PID on.  `text` holds the value already. */
static int (*const readers[])(struct owner_match *match, const char *value, struct error *error) = {
	pid_read, user_read, group_read, exe_read, cgroup_read, unit_read, container_read, pod_read};

int owner_match_set(struct owner_match *ret_match, const char *kind, const char *value, struct error *error)
{
	struct owner_match match = {.kind = OWNER_PID};
	const char *near;
	size_t i = 0;
	int r;

	while (owner_kinds[i] && strcmp(owner_kinds[i], kind) != 0)
		i++;
	if (!owner_kinds[i]) {
		error_set(error, -EINVAL, "unknown kind of owner '%.64s'", kind);
		near = text_nearest(kind, owner_kinds);
		if (near)
			error_want(error, "did you mean '%s'?", near);
		else
			error_want(error, "pid, user, group, exe, cgroup, unit, container or pod");
		return -EINVAL;
	}
	if (strlen(value) >= sizeof(match.text)) {
		error_set(error, -EINVAL, "the %s '%.64s...' is too long", kind, value);
		error_want(error, "at most %zu bytes", sizeof(match.text) - 1);
		return -EINVAL;
	}
	match.kind = (enum owner_kind)(OWNER_PID + i);
	snprintf(match.text, sizeof(match.text), "%s", value);
	r = readers[i](&match, value, error);
	if (r == 0)
		*ret_match = match;
	return r;
}

int owner_match_print(const struct owner_match *match, char *buffer, size_t size)
{
	int length = snprintf(buffer, size, "%s %s", owner_kinds[match->kind - OWNER_PID], match->text);

	return length >= 0 && (size_t)length < size ? 0 : -ENOSPC;
}

static bool cgroup_fits(const char *path, const struct owner *owner)
{
	uint32_t depth = 0;

	for (const char *p = path; *p; p++)
		depth += *p == '/';
	return depth && depth <= owner->depth && depth <= OWNER_DEPTH_MAX &&
	       owner->path_hash[depth - 1] == owner_hash(path, strlen(path));
}

static bool unit_fits(const char *name, const struct owner *owner)
{
	uint64_t hash = owner_hash(name, strlen(name));

	for (uint32_t i = 0; i < owner->depth && i < OWNER_DEPTH_MAX; i++)
		if (owner->name_hash[i] == hash)
			return true;
	return false;
}

bool owner_match_fits(const struct owner_match *match, const struct owner *owner)
{
	char name[OWNER_PATH_MAX];

	switch (match->kind) {
	case OWNER_ANY:
		return true;
	case OWNER_PID:
		return owner->key.pid == match->number;
	case OWNER_USER:
		return owner->key.uid == match->number;
	case OWNER_GROUP:
		return owner->key.gid == match->number;
	case OWNER_EXE:
		return strcmp(owner->exe, match->text) == 0;
	case OWNER_CGROUP:
		return cgroup_fits(match->text, owner);
	case OWNER_UNIT:
		return unit_fits(match->text, owner);
	case OWNER_CONTAINER:
		owner_container(owner->cgroup, name, sizeof(name));
		return strncmp(name, match->text, strlen(match->text)) == 0;
	case OWNER_POD:
		owner_pod(owner->cgroup, name, sizeof(name));
		return strcmp(name, match->text) == 0;
	}
	return false;
}
