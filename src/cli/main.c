/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include <errno.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>

#include "basic/text.h"
#include "cli/ask.h"
#include "cli/cli.h"
#include "cli/options.h"
#include "weir/weir.h"

#define WATCH_DEFAULT_NS 2000000000ULL
#define TOP_DEFAULT_NS   1000000000ULL

/* A rule that begins with this verb. */
static const char *rule_example(const char *verb)
{
	static const char *const examples[] = {
		"deny connect by user guest to 10.0.0.0/8",
		"allow connect by user guest to 10.0.0.53 port 53",
		"accept in tcp to port 22 from 192.0.2.0/24",
		"reject in tcp to port 25 with reset",
		"limit in udp to port 53 per source to 100/s",
		"guarantee out by unit api.service 400mbit",
		"assign out tcp from port 80 to bulk",
		"count out tcp",
		"mark 7 out udp to port 53",
		"redirect to veth1 in tcp to port 8080",
		"mirror to veth1 in on eth0",
		"rewrite dscp ef out tcp to port 22",
	};
	size_t length = strlen(verb);

	for (size_t i = 0; i < sizeof(examples) / sizeof(examples[0]); i++)
		if (strncmp(examples[i], verb, length) == 0 && examples[i][length] == ' ')
			return examples[i];
	return "drop in tcp to port 80";
}

/* How many words a command takes. */
static int words_check(const struct cli *cli, struct error *error)
{
	const char *name = cli->command->name;

	switch (cli->command->words) {
	case WORDS_NONE:
		if (!cli->word_count)
			return 0;
		error_set(
			error, -EINVAL, "'weir %s' does not know what to do with '%s'", name, cli->words[0]);
		return error_want(error, "'weir %s' takes only options", name);
	case WORDS_RULE:
		if (cli->word_count)
			return 0;
		error_set(error, -EINVAL, "'weir %s' of what?", name);
		return error_want(error, "for example: weir %s", rule_example(name));
	case WORDS_PACKET:
		if (cli->word_count)
			return 0;
		error_set(error, -EINVAL, "'weir %s' of what?", name);
		return error_want(
			error, "for example: weir %s in tcp from 198.51.100.7 to 10.0.0.1 port 80", name);
	case WORDS_ID:
		if (cli->word_count == 1)
			return 0;
		error_set(error, -EINVAL, "'weir %s' takes one id, not %d", name, cli->word_count);
		return error_want(error, "for example: weir %s 3", name);
	case WORDS_FILE:
		if (cli->word_count == 1)
			return 0;
		error_set(error, -EINVAL, "'weir %s' takes one file, not %d", name, cli->word_count);
		return error_want(error, "for example: weir %s /etc/weir/weir.yaml", name);
	case WORDS_COMMAND:
		if (cli->word_count <= 1)
			return 0;
		error_set(error, -EINVAL, "'weir %s' takes one command, not %d", name, cli->word_count);
		return error_want(error, "'weir help' lists them");
	case WORDS_FILTER:
	case WORDS_OWN:
		return 0;
	}
	return 0;
}

int main(int argc, char **argv)
{
	const char *run_dir = getenv("WEIR_RUN_DIR");
	struct cli cli = {.run_dir = run_dir && *run_dir ? run_dir : WEIR_RUN_DIR_DEFAULT};
	struct error error;
	int first;

	/* Not LC_NUMERIC: a decimal comma would make the output another language for scripts. */
	setlocale(LC_CTYPE, "");

	if (options_read(&cli, argc, argv, true, &first, &error) < 0)
		return fail_usage(&error);
	if (first == argc) {
		if (cli.given & OPTION_BIT(VERSION))
			return cmd_version(&cli);
		command_list_print(cli.given & OPTION_BIT(HELP) ? stdout : stderr);
		return cli.given & OPTION_BIT(HELP) ? output_end(EXIT_OK) : EXIT_USAGE;
	}

	cli.command = command_find(argv[first], &error);
	if (!cli.command)
		return fail_usage(&error);
	argc -= first;
	argv += first;
	if (options_read(&cli, argc, argv, false, &first, &error) < 0)
		return fail_usage(&error);
	if (cli.given & OPTION_BIT(HELP)) {
		command_help_print(cli.command, stdout);
		return output_end(EXIT_OK);
	}
	if (cli.given & OPTION_BIT(VERSION))
		return cmd_version(&cli);

	cli.words = argv + first;
	cli.word_count = argc - first;
	if (!cli.interval_ns)
		cli.interval_ns = cli.watch ? WATCH_DEFAULT_NS : TOP_DEFAULT_NS;
	if (options_check(&cli, &error) < 0 || words_check(&cli, &error) < 0)
		return fail_usage(&error);
	return cli.command->run(&cli);
}
