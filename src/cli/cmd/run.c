/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * weir run: the agent in this process, or with --view in a child, under the live screen.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/agent.h"
#include "cli/ask.h"
#include "cli/cli.h"
#include "cli/view/tail.h"
#include "cli/view/top.h"

static const char ready_line[] = "weir: ready\n"; /* the agent's word on standard output */

/* The child: the agent, saying into the pipe what it has to say. */
static void __attribute__((noreturn)) agent_child(const struct agent_options *options, pid_t parent, int out)
{
	int nothing = open("/dev/null", O_RDONLY | O_CLOEXEC);

	/* Ctrl-C is for the screen; it passes it on when the terminal is in order again. */
	setpgid(0, 0);
	/* A screen that is killed takes its agent along: nothing is left behind. */
	prctl(PR_SET_PDEATHSIG, SIGINT);
	if (getppid() != parent)
		_exit(EXIT_FAILED);
	if (nothing < 0 || dup2(nothing, STDIN_FILENO) < 0 || dup2(out, STDOUT_FILENO) < 0 ||
		dup2(out, STDERR_FILENO) < 0)
		_exit(EXIT_FAILED);
	setvbuf(stdout, NULL, _IOLBF, 0);
	exit(agent_main(options));
}

/* Waits for the ready line; false when the agent ended or the person wants to. */
static bool agent_wait_ready(struct tail *said)
{
	struct pollfd ready = {.fd = said->fd, .events = POLLIN};

	while (!top_stop && !said->ended && !strstr(said->text, ready_line)) {
		if (poll(&ready, 1, -1) > 0)
			tail_read(said);
	}
	return !top_stop && !said->ended;
}

/* Tells the agent to remove everything, and waits for its exit status. */
static int agent_end(pid_t agent, struct tail *said)
{
	struct pollfd more = {.fd = said->fd, .events = POLLIN};
	int status;

	kill(agent, SIGINT);
	/* To its last word: a full pipe would hold it up. */
	while (!said->ended) {
		if (poll(&more, 1, -1) > 0)
			tail_read(said);
	}
	while (waitpid(agent, &status, 0) < 0) {
		if (errno != EINTR)
			return EXIT_FAILED;
	}
	if (WIFEXITED(status))
		return WEXITSTATUS(status);
	fprintf(stderr, "weir: the agent was ended by signal %d (%s)\n", WTERMSIG(status),
		strsignal(WTERMSIG(status)));
	return EXIT_FAILED;
}

static int run_viewed(const struct cli *cli, const struct agent_options *options)
{
	_cleanup_client_ struct weir_client *client = NULL;
	struct tail said = {.fd = -1};
	pid_t parent = getpid(), agent;
	struct error error = {};
	int pipe_fds[2], status;

	if (pipe2(pipe_fds, O_CLOEXEC) < 0) {
		error_set(&error, -errno, "pipe: %s", strerror(errno));
		return fail(&error);
	}
	agent = fork();
	if (agent < 0) {
		error_set(&error, -errno, "fork: %s", strerror(errno));
		close(pipe_fds[0]);
		close(pipe_fds[1]);
		return fail(&error);
	}
	if (agent == 0)
		agent_child(options, parent, pipe_fds[1]);
	close(pipe_fds[1]);
	said.fd = pipe_fds[0];
	fcntl(said.fd, F_SETFL, O_NONBLOCK);

	top_catch_signals();
	if (agent_wait_ready(&said) && client_open(cli, &client, &error) == 0)
		top_show(cli, client, NULL, &said, &error);

	status = agent_end(agent, &said);
	close(said.fd);
	if (error.code)
		return fail(&error);
	if (status != EXIT_OK) {
		fwrite(said.text, 1, said.length, stderr);
		return status;
	}
	puts("weir: ended; nothing is left behind");
	return output_end(EXIT_OK);
}

int cmd_run(const struct cli *cli)
{
	struct agent_options options = {.run_dir = cli->run_dir, .config_file = cli->config};

	if (cli->view && isatty(STDIN_FILENO) && isatty(STDOUT_FILENO))
		return run_viewed(cli, &options);
	return agent_main(&options);
}
