/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include <errno.h>
#include <stdio.h>
#include <time.h>

#include "agent/agent.h"
#include "cli/ask.h"
#include "cli/cli.h"

#define WAIT_STEP_MS 20
#define WAIT_MAX_MS  30000

/* The agent takes its socket away last, so a socket that does not answer means that all is gone. */
static int agent_wait_gone(const struct cli *cli, struct error *error)
{
	const struct timespec step = {.tv_nsec = WAIT_STEP_MS * 1000000L};

	for (unsigned int waited = 0; waited < WAIT_MAX_MS; waited += WAIT_STEP_MS) {
		/* A client of its own each time: a kept connection would be served to the very end. */
		_cleanup_client_ struct weir_client *client = NULL;
		_cleanup_free_ char *body = NULL;
		int status, r;

		r = client_open(cli, &client, error);
		if (r < 0)
			return r;
		weir_client_set_timeout(client, 1);
		r = weir_request(client, "GET", "/v1/status", NULL, &status, &body, NULL);
		if (r == -ENOENT || r == -ECONNREFUSED)
			return 0;
		nanosleep(&step, NULL);
	}
	return error_set(error, -ETIMEDOUT, "the agent was told to end, but still answers after %d s",
		WAIT_MAX_MS / 1000);
}

static void down_print(const struct cli *cli, bool agent, bool datapath)
{
	if (cli->json)
		printf("{\"down\":true,\"agent\":%s,\"datapath\":%s}\n", agent ? "true" : "false",
			datapath ? "true" : "false");
	else if (agent)
		puts("down: the agent has removed its datapath and ended");
	else if (datapath)
		puts("down: no agent was running; the datapath that one had left is removed");
	else
		printf("down: nothing was running on %s\n", cli->run_dir);
}

int cmd_down(const struct cli *cli)
{
	_cleanup_client_ struct weir_client *client = NULL;
	_cleanup_free_ char *body = NULL;
	struct error error;
	int r;

	if (client_open(cli, &client, &error) < 0)
		return fail(&error);
	r = ask_text(client, "POST", "/v1/down", NULL, &body, NULL, &error);
	if (r < 0 && error_is_no_agent(&error)) {
		r = agent_down(cli->run_dir, &error);
		if (r < 0 && r != -ENOENT) {
			/* Whatever its number, this is not "no agent": that one is known already. */
			error_print(&error, "weir: ", stderr);
			return EXIT_FAILED;
		}
		down_print(cli, false, r == 0);
		return output_end(EXIT_OK);
	}
	/* An agent that ends may not get its answer out any more; whether it is gone is what counts. */
	if ((r < 0 && r != -ECONNRESET) || agent_wait_gone(cli, &error) < 0)
		return fail(&error);
	down_print(cli, true, true);
	return output_end(EXIT_OK);
}
