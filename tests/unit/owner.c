/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include "model/owner.h"

#include <errno.h>

#include "unit.h"

#define ID_A "4f66ad9a0b2e4c4d9e1f5b7c8a9d0e1f2a3b4c5d6e7f8091a2b3c4d5e6f70812"
#define ID_B "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

static void a_cgroup_path_tells_unit_container_and_pod(void **state)
{
	static const struct {
		const char *cgroup, *unit, *container, *pod;
	} cases[] = {
		{"", "", "", ""}, {"/", "", "", ""}, {"/init.scope", "init.scope", "", ""},
		{"/system.slice/nginx.service", "nginx.service", "", ""},
		{"/system.slice/nginx.service/worker", "nginx.service", "", ""},
		{"/system.slice/system-getty.slice/getty@tty1.service", "getty@tty1.service", "", ""},
		{"/system.slice", "", "", ""},
		/* a user's unit, not the manager above it */
		{"/user.slice/user-1000.slice/user@1000.service/app.slice/app-firefox-12.scope",
			"app-firefox-12.scope", "", ""},
		{"/user.slice/user-1000.slice/session-3.scope", "session-3.scope", "", ""},
		{"/.service", "", "", ""}, /* a suffix alone is no name */
		/* docker: systemd and cgroupfs */
		{"/system.slice/docker-" ID_A ".scope", "docker-" ID_A ".scope", ID_A, ""},
		{"/docker/" ID_A, "", ID_A, ""}, {"/docker/" ID_A "/docker/" ID_B, "", ID_B, ""},
		{"/system.slice/docker-" ID_A ".scope/system.slice/cron.service", "cron.service", ID_A, ""},
		/* podman, and a pod of it */
		{"/machine.slice/libpod-" ID_A ".scope/container", "libpod-" ID_A ".scope", ID_A, ""},
		{"/machine.slice/machine-libpod_pod_" ID_B ".slice/libpod-" ID_A ".scope",
			"libpod-" ID_A ".scope", ID_A, ID_B},
		{"/libpod_parent/libpod-" ID_A, "", ID_A, ""},
		/* kubernetes: systemd and cgroupfs, containerd and CRI-O, static pods */
		{"/kubepods.slice/kubepods-burstable.slice/"
		 "kubepods-burstable-pod8f2d1c5e_0b5a_4c58_9a52_3f4a2b1c0d9e.slice/cri-containerd-" ID_A
		 ".scope",
			"cri-containerd-" ID_A ".scope", ID_A, "8f2d1c5e-0b5a-4c58-9a52-3f4a2b1c0d9e"},
		{"/kubepods.slice/kubepods-pod8f2d1c5e_0b5a_4c58_9a52_3f4a2b1c0d9e.slice/crio-" ID_A ".scope",
			"crio-" ID_A ".scope", ID_A, "8f2d1c5e-0b5a-4c58-9a52-3f4a2b1c0d9e"},
		{"/kubepods/besteffort/pod8f2d1c5e-0b5a-4c58-9a52-3f4a2b1c0d9e/" ID_A, "", ID_A,
			"8f2d1c5e-0b5a-4c58-9a52-3f4a2b1c0d9e"},
		{"/kubepods/podc4f2b1a09d8e7f60514233241506a7b8/" ID_A, "", ID_A,
			"c4f2b1a09d8e7f60514233241506a7b8"},
		{"/podium/pod-1/podcast", "", "", ""}, {"/x/" ID_A "0", "", "", ""}, /* 65 digits are no id */
	};
	char text[OWNER_PATH_MAX];

	(void)state;
	FOR_EACH_CASE(c, cases)
	{
		owner_unit(c->cgroup, text, sizeof(text));
		EXPECT_TEXT(text, c->unit, "unit of %s", c->cgroup);
		owner_container(c->cgroup, text, sizeof(text));
		EXPECT_TEXT(text, c->container, "container of %s", c->cgroup);
		owner_pod(c->cgroup, text, sizeof(text));
		EXPECT_TEXT(text, c->pod, "pod of %s", c->cgroup);
	}
}

/* Published values of FNV-1a: what user space writes into a rule is what the kernel works out. */
static void the_hash_is_fnv1a(void **state)
{
	(void)state;
	assert_true(owner_hash("", 0) == 0xcbf29ce484222325ULL);
	assert_true(owner_hash("a", 1) == 0xaf63dc4c8601ec8cULL);
	assert_true(owner_hash("foobar", 6) == 0x85944171f73967e8ULL);
}

/* An identity as the kernel would record it. */
static struct owner owner_at(const char *cgroup)
{
	struct owner owner = {.key = {.pid = 77, .uid = 33, .gid = 34}, .id = OWNER_FIRST};
	const char *end = cgroup;

	snprintf(owner.cgroup, sizeof(owner.cgroup), "%s", cgroup);
	snprintf(owner.exe, sizeof(owner.exe), "/usr/sbin/nginx");
	while (*end && owner.depth < OWNER_DEPTH_MAX) {
		const char *name = end + 1;

		end = name + strcspn(name, "/");
		owner.path_hash[owner.depth] = owner_hash(cgroup, (size_t)(end - cgroup));
		owner.name_hash[owner.depth++] = owner_hash(name, (size_t)(end - name));
	}
	return owner;
}

static void an_owner_fits_what_is_said_of_it(void **state)
{
	static const char nginx[] = "/system.slice/nginx.service/worker", docker[] = "/docker/" ID_A,
			  pod[] = "/kubepods/podc4f2b1a09d8e7f60514233241506a7b8/" ID_A, none[] = "";
	static const struct {
		const char *kind, *value, *cgroup;
		bool fits;
	} cases[] = {
		{"pid", "77", nginx, true},
		{"pid", "7", nginx, false},
		{"user", "33", nginx, true},
		{"user", "34", nginx, false},
		{"user", "root", nginx, false},
		{"group", "34", nginx, true},
		{"group", "33", nginx, false},
		{"exe", "/usr/sbin/nginx", nginx, true},
		{"exe", "/usr/sbin/ngin", nginx, false},
		{"cgroup", "/system.slice", nginx, true},
		{"cgroup", "/system.slice/nginx.service", nginx, true},
		{"cgroup", "/sys/fs/cgroup/system.slice/", nginx, true},
		{"cgroup", "/sys/fs/cgroup/unified/system.slice", nginx, true},
		{"cgroup", "/system.slice/nginx", nginx, false}, /* no mere beginning of a name */
		{"cgroup", "/nginx.service", nginx, false},
		{"cgroup", "/system.slice/nginx.service/worker/deeper", nginx, false},
		{"cgroup", "/system.slice", none, false},
		{"unit", "nginx", nginx, true},
		{"unit", "nginx.service", nginx, true},
		{"unit", "system.slice", nginx, true},
		{"unit", "nginx.socket", nginx, false},
		{"unit", "worker", nginx, false},
		{"container", ID_A, docker, true},
		{"container", "4f66ad9a0b2e", docker, true},
		{"container", "4f66ad9a0b2f", docker, false},
		{"container", "4f66ad9a0b2e", nginx, false},
		{"pod", "c4f2b1a09d8e7f60514233241506a7b8", pod, true},
		{"pod", "c4f2b1a09d8e7f60514233241506a7b9", pod, false},
	};

	(void)state;
	FOR_EACH_CASE(c, cases)
	{
		struct owner owner = owner_at(c->cgroup);
		struct owner_match match;
		struct error error = {};

		EXPECT(owner_match_set(&match, c->kind, c->value, &error) == 0, "%s %s: %s", c->kind,
			c->value, error.what);
		EXPECT(owner_match_fits(&match, &owner) == c->fits, "%s %s", c->kind, c->value);
	}
}

static void owners_are_printed_in_one_way(void **state)
{
	static const struct {
		const char *kind, *value, *printed;
	} cases[] = {
		{"user", "root", "user root"},
		{"user", "0", "user 0"},
		{"unit", "nginx", "unit nginx.service"},
		{"unit", "dbus.socket", "unit dbus.socket"},
		{"unit", "user-1000.slice", "unit user-1000.slice"},
		{"unit", "getty@tty1", "unit getty@tty1.service"},
		{"cgroup", "/sys/fs/cgroup/a//b/", "cgroup /a/b"},
		{"cgroup", "/sys/fs/cgroups", "cgroup /sys/fs/cgroups"},
		{"pod", "8f2d1c5e_0b5a_4c58_9a52_3f4a2b1c0d9e", "pod 8f2d1c5e-0b5a-4c58-9a52-3f4a2b1c0d9e"},
	};
	char text[OWNER_PATH_MAX + 16];

	(void)state;
	FOR_EACH_CASE(c, cases)
	{
		struct owner_match match;

		assert_int_equal(owner_match_set(&match, c->kind, c->value, NULL), 0);
		assert_int_equal(owner_match_print(&match, text, sizeof(text)), 0);
		EXPECT_TEXT(text, c->printed, "%s %s", c->kind, c->value);
		assert_int_equal(owner_match_print(&match, text, strlen(c->printed)), -ENOSPC);
	}
}

static void an_error_says_what_would_be_right(void **state)
{
	static const struct {
		const char *kind, *value, *what, *want;
	} cases[] = {
		{"usr", "root", "unknown kind of owner 'usr'", "did you mean 'user'?"},
		{"xyzzy", "root", "unknown kind of owner 'xyzzy'",
			"pid, user, group, exe, cgroup, unit, container or pod"},
		{"pid", "0", "'0' is not a process id", "a number from 1 to 4194304, as ps(1) shows it"},
		{"pid", "4194305", "'4194305' is not a process id",
			"a number from 1 to 4194304, as ps(1) shows it"},
		{"pid", "12x", "'12x' is not a process id", "a number from 1 to 4194304, as ps(1) shows it"},
		{"user", "rooot", "unknown user 'rooot'", "did you mean 'root'?"},
		{"user", "4294967295", "unknown user '4294967295'", "a user of this host, or a number"},
		{"group", "no-such-group", "unknown group 'no-such-group'",
			"a group of this host, or a number"},
		{"exe", "nginx", "'nginx' is not the path of an executable",
			"its whole path, such as /usr/sbin/nginx"},
		{"cgroup", "system.slice", "'system.slice' is not the path of a cgroup",
			"a path that begins with '/', such as /system.slice"},
		{"cgroup", "/sys/fs/cgroup", "every process is in the root of all cgroups",
			"a cgroup below it, such as /system.slice"},
		{"cgroup", "/1/2/3/4/5/6/7/8/9/a/b/c/d",
			"the cgroup '/1/2/3/4/5/6/7/8/9/a/b/c/d...' is too deep", "at most 12 levels"},
		{"unit", "a/b", "'a/b' is not the name of a unit",
			"such as nginx, nginx.service or user-1000.slice"},
		{"container", "web", "'web' is not the id of a container",
			"12 to 64 hexadecimal digits of it"},
		{"container", "4f66ad9a0b2", "'4f66ad9a0b2' is not the id of a container",
			"12 to 64 hexadecimal digits of it"},
		{"pod", "web-1", "'web-1' is not the uid of a pod",
			"such as 8f2d1c5e-0b5a-4c58-9a52-3f4a2b1c0d9e"},
	};

	(void)state;
	FOR_EACH_CASE(c, cases)
	{
		struct owner_match match = {.kind = OWNER_POD, .number = 9};
		struct error error = {};

		EXPECT(owner_match_set(&match, c->kind, c->value, &error) == -EINVAL, "%s %s", c->kind,
			c->value);
		EXPECT_TEXT(error.what, c->what, "%s %s", c->kind, c->value);
		EXPECT_TEXT(error.want, c->want, "%s %s", c->kind, c->value);
		EXPECT(match.kind == OWNER_POD && match.number == 9, "%s %s", c->kind, c->value);
	}
}

static void a_value_of_any_length_is_read_or_refused(void **state)
{
	char value[2 * OWNER_PATH_MAX];

	(void)state;
	for (size_t kind = 0; owner_kinds[kind]; kind++)
		for (size_t length = 0; length < sizeof(value); length++) {
			struct owner_match match = {};
			struct error error = {};
			int r;

			memset(value, 'a', length);
			value[length] = '\0';
			if (length && (strcmp(owner_kinds[kind], "exe") == 0 ||
					      strcmp(owner_kinds[kind], "cgroup") == 0))
				value[0] = '/';
			r = owner_match_set(&match, owner_kinds[kind], value, &error);
			EXPECT(r == 0 || (r == -EINVAL && error.what[0]), "%s, %zu bytes", owner_kinds[kind],
				length);
			EXPECT(r < 0 || strlen(match.text) < sizeof(match.text), "%s, %zu bytes",
				owner_kinds[kind], length);
			EXPECT(length < sizeof(match.text) || r < 0, "%s, %zu bytes", owner_kinds[kind],
				length);
		}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST("a cgroup path tells unit, container and pod",
			a_cgroup_path_tells_unit_container_and_pod),
		TEST("the hash is FNV-1a", the_hash_is_fnv1a),
		TEST("an owner fits what is said of it", an_owner_fits_what_is_said_of_it),
		TEST("owners are printed in one way", owners_are_printed_in_one_way),
		TEST("an error says what would be right", an_error_says_what_would_be_right),
		TEST("a value of any length is read or refused", a_value_of_any_length_is_read_or_refused),
	};

	return cmocka_run_group_tests_name("owner", tests, NULL, NULL);
}
