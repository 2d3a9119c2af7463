// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
#include "engine/pins.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/magic.h>

#include <bpf/bpf.h>

#include "basic/cleanup.h"

#define USUAL_BPFFS   "/sys/fs/bpf"
#define ANCESTORS_MAX 64
#define KEEPER_NAME   "weir-keeper"
#define LINGER_LOOK_S 5

/* What the keeper answers first. */
struct pins_answer {
	int error; /* 0 or negative errno */
	bool own_mount;
	char path[PATH_MAX];
	char failed[PATH_MAX]; /* what could not be done */
};

static bool is_bpffs(const char *path)
{
	struct statfs fs;

	return statfs(path, &fs) == 0 && (unsigned long)fs.f_type == BPF_FS_MAGIC;
}

static pid_t parent_of(pid_t pid)
{
	_cleanup_fclose_ FILE *file = NULL;
	char path[64], line[512];
	const char *rest;
	int parent;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	file = fopen(path, "re");
	if (!file || !fgets(line, sizeof(line), file))
		return 0;
	/* the command's name may hold anything, so look from its closing parenthesis on */
	rest = strrchr(line, ')');
	return rest && sscanf(rest + 1, " %*c %d", &parent) == 1 ? parent : 0;
}

/* Moves this (single-threaded, short-lived or keeper) process to the outermost mount namespace that has our
 * run directory.  Not being allowed to is no error: then the namespace we are in has to do. */
static void enter_outermost_mounts(const char *run_dir)
{
	_cleanup_close_ int own = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
	pid_t chain[ANCESTORS_MAX];
	struct stat here, there;
	int count = 0;

	if (own < 0 || stat(run_dir, &here) < 0)
		return;
	for (pid_t pid = getpid(); pid > 0 && count < ANCESTORS_MAX; pid = parent_of(pid))
		chain[count++] = pid;
	while (count-- > 0) {
		_cleanup_close_ int mounts = -1;
		char path[64];

		snprintf(path, sizeof(path), "/proc/%d/ns/mnt", chain[count]);
		mounts = open(path, O_RDONLY | O_CLOEXEC);
		if (mounts < 0 || setns(mounts, CLONE_NEWNS) < 0)
			continue;
		if (stat(run_dir, &there) == 0 && there.st_dev == here.st_dev && there.st_ino == here.st_ino)
			return;
		if (setns(own, CLONE_NEWNS) < 0)
			_exit(1);
	}
}

/* -- a keeper that lingers -- */

/* Does anybody but the agent, the keeper before and us live in our mount namespace, so that it will stay
 * without us? */
static bool mounts_are_shared(pid_t before)
{
	DIR *directory = opendir("/proc");
	struct dirent *entry;
	struct stat own, other;
	bool shared = false;

	if (!directory || stat("/proc/self/ns/mnt", &own) < 0) {
		if (directory)
			closedir(directory);
		return false;
	}
	while (!shared && (entry = readdir(directory))) {
		pid_t pid = atoi(entry->d_name);
		char path[64];

		if (pid <= 0 || pid == getpid() || pid == getppid() || pid == before)
			continue;
		snprintf(path, sizeof(path), "/proc/%d/ns/mnt", pid);
		shared = stat(path, &other) == 0 && other.st_ino == own.st_ino && other.st_dev == own.st_dev;
	}
	closedir(directory);
	return shared;
}

static void keeper_file(const char *run_dir, char path[static PATH_MAX])
{
	snprintf(path, PATH_MAX, "%s/keeper", run_dir);
}

/* The process that lingers for this run directory; 0: none does. */
static pid_t keeper_find(const char *run_dir)
{
	_cleanup_fclose_ FILE *file = NULL, *name = NULL;
	char path[PATH_MAX], comm[32];
	int pid;

	keeper_file(run_dir, path);
	file = fopen(path, "re");
	if (!file || fscanf(file, "%d", &pid) != 1 || pid <= 0)
		return 0;
	snprintf(path, sizeof(path), "/proc/%d/comm", pid);
	name = fopen(path, "re");
	return name && fscanf(name, "%31s", comm) == 1 && strcmp(comm, KEEPER_NAME) == 0 ? pid : 0;
}

static void keeper_register(const char *run_dir)
{
	_cleanup_fclose_ FILE *file = NULL;
	char path[PATH_MAX];

	keeper_file(run_dir, path);
	file = fopen(path, "we");
	if (file)
		fprintf(file, "%d\n", getpid());
}

/* Holds the mount namespace until another agent's keeper takes over, or the run directory is gone. */
static void __attribute__((noreturn)) linger(const char *run_dir)
{
	setsid();
	unshare(CLONE_NEWNET); /* or we would hold the network namespace, too */
	while (keeper_find(run_dir) == getpid())
		sleep(LINGER_LOOK_S);
	_exit(0);
}

/* "/run/weir" names the directory "run-weir": one below the usual bpffs for each run directory. */
static void usual_path(const char *run_dir, char path[static PATH_MAX])
{
	size_t length = (size_t)snprintf(path, PATH_MAX, "%s/weir/", USUAL_BPFFS);

	for (const char *c = run_dir + (*run_dir == '/'); *c && length < PATH_MAX - 4; c++) {
		if (*c == '/')
			path[length++] = '-';
		else if (*c == '-' || *c == '.' || *c == '%') /* bpffs takes no dots; '-' stays unambiguous */
			length += (size_t)snprintf(
				path + length, PATH_MAX - length, "%%%02x", (unsigned char)*c);
		else
			path[length++] = *c;
	}
	path[length] = '\0';
}

static int fail(struct pins_answer *answer, const char *what, const char *path)
{
	answer->error = -errno;
	snprintf(answer->failed, sizeof(answer->failed), "%s %s", what, path);
	return answer->error;
}

/* Finds or makes the directory; the answer says which. */
static int locate(const char *run_dir, bool create, struct pins_answer *answer)
{
	char usual[PATH_MAX], parent[] = USUAL_BPFFS "/weir";
	struct stat status;

	snprintf(answer->path, sizeof(answer->path), "%s/bpf", run_dir);
	usual_path(run_dir, usual);
	if (is_bpffs(answer->path)) {
		answer->own_mount = true;
		return 0;
	}
	if (stat(usual, &status) == 0 && is_bpffs(usual)) {
		snprintf(answer->path, sizeof(answer->path), "%s", usual);
		return 0;
	}
	if (!create) {
		answer->error = -ENOENT;
		return -ENOENT;
	}
	if (is_bpffs(USUAL_BPFFS)) {
		snprintf(answer->path, sizeof(answer->path), "%s", usual);
		if (mkdir(parent, 0700) < 0 && errno != EEXIST)
			return fail(answer, "make directory", parent);
		if (mkdir(usual, 0700) < 0)
			return fail(answer, "make directory", usual);
		return 0;
	}
	if (mkdir(answer->path, 0700) < 0 && errno != EEXIST)
		return fail(answer, "make directory", answer->path);
	if (mount("bpf", answer->path, "bpf", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=0700") < 0) {
		fail(answer, "mount a BPF file system on", answer->path);
		rmdir(answer->path);
		return answer->error;
	}
	answer->own_mount = true;
	return 0;
}

static int send_answer(int socket, const struct pins_answer *answer, int directory)
{
	struct iovec part = {(void *)answer, sizeof(*answer)};
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(int))];
	} control = {};
	struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};

	if (directory >= 0) {
		control.header = (struct cmsghdr){CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS};
		memcpy(CMSG_DATA(&control.header), &directory, sizeof(int));
		message.msg_control = &control;
		message.msg_controllen = sizeof(control);
	}
	return sendmsg(socket, &message, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

static int receive_answer(int socket, struct pins_answer *answer, int *ret_directory)
{
	struct iovec part = {answer, sizeof(*answer)};
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(int))];
	} control = {};
	struct msghdr message = {.msg_iov = &part,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control)};
	struct cmsghdr *header;

	if (recvmsg(socket, &message, MSG_CMSG_CLOEXEC | MSG_WAITALL) != sizeof(*answer))
		return -EIO;
	header = CMSG_FIRSTHDR(&message);
	if (header && header->cmsg_type == SCM_RIGHTS)
		memcpy(ret_directory, CMSG_DATA(header), sizeof(int));
	return 0;
}

/* Nothing of the agent's stays open here but the socket: a keeper may outlive it. */
static void detach_from_agent(int socket)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	for (int fd = 0; fd <= 2; fd++)
		dup2(null, fd);
	close_range(3, (unsigned int)socket - 1, 0);
	close_range((unsigned int)socket + 1, ~0U, 0);
	signal(SIGINT, SIG_IGN);
	signal(SIGTERM, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	prctl(PR_SET_NAME, KEEPER_NAME);
}

/* Goes to where the pins are or are to be; returns the keeper that lingered there. */
static pid_t enter_mounts(const char *run_dir)
{
	pid_t before = keeper_find(run_dir);
	char path[64];

	if (before > 0) {
		_cleanup_close_ int mounts = -1;

		snprintf(path, sizeof(path), "/proc/%d/ns/mnt", before);
		mounts = open(path, O_RDONLY | O_CLOEXEC);
		if (mounts >= 0 && setns(mounts, CLONE_NEWNS) == 0)
			return before;
	}
	enter_outermost_mounts(run_dir);
	return 0;
}

static int remove_place(const struct pins_answer *answer)
{
	int result = 0;

	if (answer->own_mount && umount2(answer->path, MNT_DETACH | UMOUNT_NOFOLLOW) < 0)
		result = errno;
	if (rmdir(answer->path) < 0 && !result)
		result = errno;
	if (!answer->own_mount)
		rmdir(USUAL_BPFFS "/weir"); /* stays while other agents have theirs in it */
	return result;
}

/*
 * The keeper: answers where the pins are, and then waits to be told to take the mount away.  The agent's end,
 * however it comes, closes the socket.  Then the keeper ends too, mount untouched; unless the mount namespace
 * would end with it.
 */
static void __attribute__((noreturn)) keep(int socket, const char *run_dir, bool create)
{
	struct pins_answer answer = {};
	char command, path[PATH_MAX];
	int directory = -1;
	bool lingers;
	pid_t before;

	detach_from_agent(socket);
	before = enter_mounts(run_dir);
	if (locate(run_dir, create, &answer) == 0) {
		directory = open(answer.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (directory < 0)
			fail(&answer, "open", answer.path);
	}
	lingers = !answer.error && answer.own_mount && !mounts_are_shared(before);
	keeper_file(run_dir, path);
	if (lingers)
		keeper_register(run_dir);
	else
		unlink(path);
	if (before > 0)
		kill(before, SIGKILL);
	if (send_answer(socket, &answer, directory) < 0 || answer.error || chdir("/") < 0)
		_exit(0);
	close(directory);
	if (read(socket, &command, 1) == 1) {
		int result = remove_place(&answer);

		unlink(path);
		if (write(socket, &result, sizeof(result)) < 0)
			_exit(1);
		_exit(0);
	}
	if (lingers)
		linger(run_dir);
	_exit(0);
}

int pins_open(const char *run_dir, bool create, struct pins *ret_pins, struct error *error)
{
	struct pins pins = {.directory = -1, .keeper = -1};
	struct pins_answer answer;
	int sockets[2], r;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets) < 0)
		return error_set(error, -errno, "cannot make a socket pair: %s", strerror(errno));
	fflush(NULL);
	pins.keeper_pid = fork();
	if (pins.keeper_pid < 0) {
		r = -errno;
		close(sockets[0]);
		close(sockets[1]);
		return error_set(error, r, "cannot fork: %s", strerror(-r));
	}
	if (pins.keeper_pid == 0) {
		close(sockets[0]);
		keep(sockets[1], run_dir, create);
	}
	close(sockets[1]);
	pins.keeper = sockets[0];
	r = receive_answer(pins.keeper, &answer, &pins.directory);
	if (r == 0)
		r = answer.error;
	if (r < 0) {
		pins_close(&pins);
		if (r == -ENOENT && !create)
			return r;
		error_set(error, r, "cannot %s: %s", r == -EIO ? "find a place for pins" : answer.failed,
			strerror(-r));
		if (r == -EPERM || r == -EACCES)
			error_want(error, "run as root (CAP_SYS_ADMIN is needed to mount a BPF file system)");
		return r;
	}
	pins.own_mount = answer.own_mount;
	snprintf(pins.path, sizeof(pins.path), "%s", answer.path);
	*ret_pins = pins;
	return 0;
}

void pins_close(struct pins *pins)
{
	if (pins->directory >= 0)
		close(pins->directory);
	if (pins->keeper >= 0) {
		close(pins->keeper);
		waitpid(pins->keeper_pid, NULL, WNOHANG); /* it may linger */
	}
	pins->directory = pins->keeper = -1;
}

int pin_remove(const struct pins *pins, const char *name)
{
	char path[PATH_MAX];
	_cleanup_close_ int fd = bpf_obj_get(pins_path(pins, path, name));

	/* A worker of the kernel lets go of a removed pin's link, some time later: on a busy machine that may
	 * be seconds.  What is no link, or cannot be taken off like this (tracing), says so, and is left to
	 * that. */
	if (fd >= 0)
		(void)bpf_link_detach(fd);
	return unlinkat(pins->directory, name, 0) < 0 ? -errno : 0;
}

int pins_remove(struct pins *pins, struct error *error)
{
	int result = 0, copy = dup(pins->directory), r = 0, taken;
	DIR *directory = copy < 0 ? NULL : fdopendir(copy);
	struct dirent *entry;

	if (!directory) {
		r = error_set(error, -errno, "cannot read %s: %s", pins->path, strerror(errno));
		if (copy >= 0)
			close(copy);
	}
	while (directory && (entry = readdir(directory))) {
		/* a fresh bpffs brings maps.debug and progs.debug; ours have no dots */
		if (strchr(entry->d_name, '.'))
			continue;
		taken = pin_remove(pins, entry->d_name);
		if (taken < 0)
			r = error_set(error, taken, "cannot remove %s/%s: %s", pins->path, entry->d_name,
				strerror(-taken));
	}
	if (directory)
		closedir(directory);
	close(pins->directory);
	pins->directory = -1;
	if (write(pins->keeper, "u", 1) != 1 ||
		read(pins->keeper, &result, sizeof(result)) != (ssize_t)sizeof(result))
		result = EIO;
	waitpid(pins->keeper_pid, NULL, 0);
	if (result && r == 0)
		r = error_set(error, -result, "cannot remove %s: %s", pins->path, strerror(result));
	pins_close(pins);
	return r;
}

const char *pins_path(const struct pins *pins, char buffer[static PATH_MAX], const char *name)
{
	snprintf(buffer, PATH_MAX, "/proc/self/fd/%d/%s", pins->directory, name);
	return buffer;
}

void pins_walk_begin(const struct pins *pins, const char *prefix, struct pins_walk *ret_walk)
{
	int copy = openat(pins->directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	*ret_walk = (struct pins_walk){.directory = copy < 0 ? NULL : fdopendir(copy), .prefix = prefix};
	if (!ret_walk->directory && copy >= 0)
		close(copy);
}

const char *pins_walk_next(struct pins_walk *walk)
{
	const struct dirent *entry;

	if (!walk->directory)
		return NULL;
	while ((entry = readdir(walk->directory)))
		if (strncmp(entry->d_name, walk->prefix, strlen(walk->prefix)) == 0)
			return entry->d_name;
	closedir(walk->directory);
	walk->directory = NULL;
	return NULL;
}
