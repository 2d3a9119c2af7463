// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * Checks by a command: `sh -c COMMAND`, as the agent's user and without any capability, for the agent has
 * none to hand on, without its descriptors, in a process group of its own.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/service/checks_internal.h"
#include "basic/cleanup.h"

void check_exec_kill(const struct check_run *run)
{
	kill(-run->pid, SIGKILL);
}

static void on_exit_seen(evutil_socket_t fd, short what, void *context)
{
	struct check_run *run = context;
	siginfo_t info = {};

	(void)what;
	/* what it has started goes, too, while its number is still its own */
	check_exec_kill(run);
	if (waitid((idtype_t)P_PIDFD, (id_t)fd, &info, WEXITED | WNOHANG) < 0 || !info.si_pid) {
		check_run_end(run, false, "its end was not seen");
		return;
	}
	if (info.si_code == CLD_EXITED)
		check_run_end(run, info.si_status == 0, "exit status %d", info.si_status);
	else
		check_run_end(run, false, "ended by signal %d", info.si_status);
}

/* What a command gets of ours: nothing. */
static int spawn_prepare(posix_spawn_file_actions_t *actions, posix_spawnattr_t *attributes)
{
	sigset_t all, none;
	int r = 0;

	sigfillset(&all);
	sigemptyset(&none);
	for (int fd = 0; fd < 3 && r == 0; fd++)
		r = posix_spawn_file_actions_addopen(actions, fd, "/dev/null", fd ? O_WRONLY : O_RDONLY, 0);
	if (r == 0)
		r = posix_spawn_file_actions_addclosefrom_np(actions, 3);
	if (r == 0)
		r = posix_spawn_file_actions_addchdir_np(actions, "/");
	if (r == 0)
		r = posix_spawnattr_setpgroup(attributes, 0);
	if (r == 0)
		r = posix_spawnattr_setsigdefault(attributes, &all);
	if (r == 0)
		r = posix_spawnattr_setsigmask(attributes, &none);
	if (r == 0)
		r = posix_spawnattr_setflags(
			attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK);
	return -r;
}

static int spawn(struct check_run *run, char *const arguments[], char *const environment[])
{
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attributes;
	int r = posix_spawn_file_actions_init(&actions);

	if (r)
		return -r;
	r = posix_spawnattr_init(&attributes);
	if (r == 0) {
		r = -spawn_prepare(&actions, &attributes);
		if (r == 0)
			r = posix_spawn(&run->pid, "/bin/sh", &actions, &attributes, arguments, environment);
		posix_spawnattr_destroy(&attributes);
	}
	posix_spawn_file_actions_destroy(&actions);
	if (r)
		run->pid = 0;
	return -r;
}

int check_exec_begin(struct check_run *run)
{
	const struct check_target *target = run->target;
	const struct service_text *service = check_service(target);
	char name[SERVICE_NAME_MAX + 16], backend[ADDRESS_TEXT_MAX + 16], to[ADDRESS_TEXT_MAX + 32], port[32],
		address[ADDRESS_TEXT_MAX];
	char command[SERVICE_CHECK_TEXT_MAX];
	char path[] = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
	char shell[] = "sh", dash[] = "-c";
	char *arguments[] = {shell, dash, command, NULL};
	char *environment[] = {path, name, to, backend, port, NULL};
	int r;

	snprintf(command, sizeof(command), "%s", service->check.command);
	snprintf(name, sizeof(name), "WEIR_SERVICE=%s", service->name);
	snprintf(to, sizeof(to), "WEIR_SERVICE_ADDRESS=%s",
		address_print(address, sizeof(address), &service->prefix.address));
	snprintf(backend, sizeof(backend), "WEIR_BACKEND=%s",
		address_print(address, sizeof(address), &target->address));
	if (target->to_port)
		snprintf(port, sizeof(port), "WEIR_PORT=%u", target->to_port);
	else
		snprintf(port, sizeof(port), "WEIR_PORT=");
	r = spawn(run, arguments, environment);
	if (r < 0)
		return r;
	setpriority(PRIO_PROCESS, (id_t)run->pid, 0); /* ours is higher */
	run->fd = (int)syscall(SYS_pidfd_open, run->pid, 0);
	if (run->fd >= 0)
		run->ready = event_new(run->checks->agent->base, run->fd, EV_READ, on_exit_seen, run);
	if (run->ready && event_add(run->ready, NULL) == 0)
		return 0;
	/* rare, and it is killed: waiting for it takes no time to speak of */
	check_exec_kill(run);
	waitpid(run->pid, NULL, 0);
	return -ENOMEM;
}
