// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
#include "cli/follow.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "basic/clock.h"
#include "cli/lines.h"
#include "cli/view/answer.h"

#define FOLLOW_ENOUGH 1
#define PATIENCE_NS   1000000000ULL

static volatile sig_atomic_t interrupted;

struct followed {
	const struct cli *cli;
	follow_function *function;
	void *user;
	struct lines lines;
};

/* The first asks for an end in order.  Whoever asks again later is impatient; two at once are one person's:
 * timeout(1) sends one to its command and one to its group. */
static void on_signal(int number)
{
	static uint64_t asked_ns;
	uint64_t now_ns = clock_ns(CLOCK_MONOTONIC);

	if (!interrupted) {
		asked_ns = now_ns;
		interrupted = 1;
	} else if (now_ns - asked_ns >= PATIENCE_NS) {
		signal(number, SIG_DFL);
		raise(number);
	}
}

void follow_catch_signals(void)
{
	struct sigaction action = {.sa_handler = on_signal};

	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
}

bool follow_interrupted(void)
{
	return interrupted;
}

static int line_show(void *user, const char *line, size_t length)
{
	struct followed *followed = user;
	_cleanup_json_ json_t *event = NULL;
	int r = 0;

	if (!length) /* the agent lives */
		return 0;
	if (followed->cli->json) {
		fwrite(line, 1, length, stdout);
		putchar('\n');
	} else {
		event = json_loadb(line, length, 0, NULL);
		if (event && json_object_get(event, "lost"))
			fprintf(stderr, "weir: %" PRIu64 " events were lost: this reader is too slow\n",
				json_get_number(event, "lost"));
		else if (event)
			r = followed->function(followed->user, event);
	}
	return r ? r : fflush(stdout) == 0 ? 0 : FOLLOW_ENOUGH;
}

static int part_read(void *user, const char *data, size_t length)
{
	struct followed *followed = user;

	if (interrupted)
		return FOLLOW_ENOUGH;
	if (!data)
		return 0;
	return lines_feed(&followed->lines, data, length, line_show, followed);
}

static int follow_by(const struct cli *cli, const char *method, const char *path, const char *query,
	follow_function *function, void *user)
{
	struct followed followed = {.cli = cli, .function = function, .user = user};
	_cleanup_client_ struct weir_client *client = NULL;
	struct error error;
	int r;

	if (client_open(cli, &client, &error) < 0)
		return fail(&error);
	follow_catch_signals();
	r = ask_stream(client, method, path, query, part_read, &followed, &error);
	lines_free(&followed.lines);
	if (r > 0 || (r < 0 && interrupted))
		return output_end(EXIT_OK);
	return r < 0 ? fail(&error) : output_end(EXIT_OK);
}

int follow(const struct cli *cli, const char *path, const char *query, follow_function *function, void *user)
{
	return follow_by(cli, "GET", path, query, function, user);
}

int follow_post(
	const struct cli *cli, const char *path, const char *query, follow_function *function, void *user)
{
	return follow_by(cli, "POST", path, query, function, user);
}
