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

#define OPTIONS_LIST                                                                                         \
	(OPTION_BIT(JSON) | OPTION_BIT(SORT) | OPTION_BIT(REVERSE) | OPTION_BIT(LIMIT) | OPTION_BIT(WATCH))

const struct command commands[] = {
	{
		.name = "run",
		.summary = "be the agent, in the foreground",
		.help = "Watches the interfaces of the network namespace it is started in, until it is told "
			"to stop:\n"
			"SIGTERM ends the agent and leaves the datapath counting, SIGINT removes "
			"everything,\n"
			"SIGHUP reads the configuration again.  Prints 'weir: ready' when it is.\n"
			"\n"
			"With --view on a terminal it shows the live screen, and ends, leaving nothing "
			"behind,\n"
			"with 'q' or Ctrl-C.",
		.options = OPTION_BIT(CONFIG) | OPTION_BIT(VIEW),
		.run = cmd_run,
	},
	{
		.name = "down",
		.summary = "remove the datapath and end the agent",
		.help = "Removes programs, hooks, pins and files, and waits until the agent is gone.  Where "
			"no agent\n"
			"answers, it removes what a killed or stopped one has left.",
		.options = OPTION_BIT(JSON),
		.run = cmd_down,
	},
	{
		.name = "reload",
		.summary = "have the agent read its configuration again",
		.help = "The same as SIGHUP, but it says what is wrong with the file.  A file with an error "
			"changes "
			"nothing.",
		.options = OPTION_BIT(JSON),
		.run = cmd_reload,
	},
	{
		.name = "status",
		.summary = "show the agent, the kernel's features, interfaces, memory and losses",
		.options = OPTION_BIT(JSON) | OPTION_BIT(WATCH),
		.run = cmd_status,
	},
	{
		.name = "flows",
		.summary = "list flows",
		.usage = "[MATCH]",
		.help = "MATCH says which, in the words of the sentence grammar (weir(8)):\n"
			"  weir flows tcp to port 443\n"
			"  weir flows in on eth0 from 10.0.0.0/8 --sort rate -n 10\n"
			"\n"
			"Sort keys: bytes, packets, rate, first, last, duration, src, dst, sport, dport.\n"
			"\n"
			"--by process, user, group, exe, cgroup, unit, container or pod sums up who has "
			"moved "
			"how much;\n"
			"then the sort keys are bytes, packets, in, out, rate, flows, name.\n"
			"  weir flows by user www-data\n"
			"  weir flows --by unit",
		.options = OPTIONS_LIST | OPTION_BIT(BY),
		.words = WORDS_FILTER,
		.run = cmd_list,
	},
	{
		.name = "hosts",
		.summary = "list remote addresses with their traffic in both directions",
		.usage = "[MATCH]",
		.help = "Without MATCH, or with one that asks only for direction, family and addresses, "
			"these are totals\n"
			"since the datapath was set up; with any other, the sums of the flows still in the "
			"table.\n"
			"  weir hosts in from 10.0.0.0/8\n"
			"\n"
			"Sort keys: bytes, packets, in, out, rate, address.",
		.options = OPTIONS_LIST,
		.words = WORDS_FILTER,
		.run = cmd_list,
	},
	{
		.name = "ports",
		.summary = "list service ports with their traffic in both directions",
		.usage = "[MATCH]",
		.help = "The service port is the one that answered the SYN; where no SYN was seen, the lower "
			"of the two.\n"
			"  weir ports udp\n"
			"\n"
			"Sort keys: bytes, packets, in, out, rate, flows, port.",
		.options = OPTIONS_LIST,
		.words = WORDS_FILTER,
		.run = cmd_list,
	},
	{
		.name = "procs",
		.summary = "list processes with their traffic in both directions",
		.usage = "[MATCH]",
		.help = "Without MATCH, or with one that asks only who and in which direction, these are "
			"totals, of\n"
			"processes that have ended, too, for a while (owners.keep); with any other, the sums "
			"of the flows\n"
			"still in the table.  What is no process' stands below: what passed through this "
			"host, what the\n"
			"kernel itself sent and received, and connections that nobody has accepted yet.\n"
			"  weir procs by user www-data\n"
			"\n"
			"Sort keys: bytes, packets, in, out, rate, flows, command, pid, started.",
		.options = OPTIONS_LIST,
		.words = WORDS_FILTER,
		.run = cmd_list,
	},
	{
		.name = "interfaces",
		.summary = "list interfaces with hooks and traffic",
		.options = OPTION_BIT(JSON) | OPTION_BIT(WATCH),
		.run = cmd_list,
	},
	{
		.name = "capture",
		.summary = "capture packets, to a file or as lines",
		.usage = "[EXPRESSION] [at tc|xdp|socket|drop] [on INTERFACE] [by OWNER]",
		.help = "EXPRESSION is one of pcap-filter(7), as tcpdump takes it; without one everything is "
			"captured.\n"
			"Only what it lets through, and no more than the snap length of it, is copied out of "
			"the kernel.\n"
			"  weir capture 'tcp port 443 and host 10.0.0.1' -w https.pcapng -s 96\n"
			"  weir capture 'udp port 53' on eth0 -c 10\n"
			"  weir capture -w - | wireshark -k -i -\n"
			"\n"
			"Without --write a line a packet is printed.  SIGINT ends it; losses are told at the "
			"end "
			"and are in\n"
			"the file.",
		.options = OPTION_BIT(JSON) | OPTION_BIT(WRITE) | OPTION_BIT(SNAPLEN) | OPTION_BIT(PACKETS) |
                           OPTION_BIT(BEFORE),
		.words = WORDS_FILTER,
		.run = cmd_capture,
	},
	{
		.name = "sockets",
		.summary = "list TCP and UDP sockets, how they are doing, and what happens to them",
		.usage = "[MATCH]",
		.help = "Sockets that are open now; with --closed, those that were closed last.  --events "
			"shows what\n"
			"happened (create, bind, listen, connect, accept, close, error), --follow what "
			"happens.  In a\n"
			"MATCH a connection is 'in' if the other end made it; then its source is the other "
			"end.\n"
			"  weir sockets tcp to port 443 by user www-data --sort rtt\n"
			"  weir sockets --follow in tcp to port 22\n"
			"\n"
			"Sort keys: bytes, in, out, packets, rate, rtt, retransmits, drops, age, last, "
			"local, "
			"remote, lport, rport.",
		.options = OPTIONS_LIST | OPTION_BIT(FOLLOW) | OPTION_BIT(EVENTS) | OPTION_BIT(CLOSED) |
                           OPTION_BIT(STATES),
		.words = WORDS_FILTER,
		.run = cmd_sockets,
	},
	{
		.name = "audit",
		.summary = "show who connected where, who listened, and who changed the policy",
		.usage = "[MATCH]",
		.help = "The last 1000 entries, or --limit; with --follow, those that come.  Changes of "
			"the policy\n"
			"are shown where there is no MATCH.\n"
			"  weir audit by user www-data to 10.0.0.0/8",
		.options = OPTION_BIT(JSON) | OPTION_BIT(LIMIT) | OPTION_BIT(WATCH) | OPTION_BIT(FOLLOW),
		.words = WORDS_FILTER,
		.run = cmd_audit,
	},
	{
		.name = "drops",
		.summary = "list what the kernel dropped, and why",
		.usage = "[MATCH]",
		.help = "By the kernel's reason, with the place in its code where most of them happened; "
			"then the drops\n"
			"recorded last.  Every drop is counted; so many a second are recorded (drops.rate).  "
			"MATCH\n"
			"says which of the recorded ones are shown:\n"
			"  weir drops udp to port 53 --follow\n"
			"\n"
			"Sort keys: packets, bytes, last, reason.",
		.options = OPTIONS_LIST | OPTION_BIT(FOLLOW),
		.words = WORDS_FILTER,
		.run = cmd_drops,
	},
	{
		.name = "trace",
		.summary = "measure in the kernel: round trips, retransmissions, queues, calls",
		.usage = "[list | PROBE [MATCH]]",
		.help = "PROBE is one of those that 'weir trace list' shows.  Its programs are in the kernel "
			"as "
			"long as the\n"
			"command runs.  Each event is a line, at most 1000 a second on each CPU; with "
			"--histogram the\n"
			"kernel only counts, and a terminal shows the picture of now, anything else the last "
			"one.\n"
			"--by owner, interface, remote or cpu makes a histogram of each.  MATCH narrows: "
			"protocol, from,\n"
			"to, host, port, on INTERFACE, by OWNER, as far as the probe knows them.\n"
			"  weir trace tcp.retransmit\n"
			"  weir trace connect.latency --histogram --for 10s to port 443 by user www-data",
		.options = OPTION_BIT(JSON) | OPTION_BIT(HISTOGRAM) | OPTION_BIT(BY) | OPTION_BIT(INTERVAL) |
                           OPTION_BIT(FOR),
		.words = WORDS_FILTER,
		.run = cmd_trace,
	},
	{
		.name = "deny",
		.summary = "add a rule: who may not create, bind, connect or send",
		.usage = "CALL [SOCKET] [[not] by OWNER] [to ADDRESS] ['\"COMMENT\"']",
		.help = "The call fails with \"Operation not permitted\".  CALL is create, bind, connect or "
			"send "
			"(a datagram);\n"
			"SOCKET is tcp, udp, raw, ... (weir(8)):\n"
			"  weir deny connect by user guest to 10.0.0.0/8\n"
			"  weir deny bind tcp not by unit nginx to port 80,443\n"
			"  weir deny create raw by cgroup /user.slice\n"
			"\n"
			"The first rule that fits a call decides; a call that none fits is allowed.  'weir "
			"rules' "
			"lists\n"
			"them.  What is added here stays until 'weir delete' or 'weir down'.",
		.options = OPTION_BIT(JSON) | OPTION_BIT(BEFORE),
		.words = WORDS_RULE,
		.run = cmd_deny,
	},
	{
		.name = "allow",
		.summary = "add a rule: an exception from the rules behind it",
		.usage = "CALL [SOCKET] [[not] by OWNER] [to ADDRESS] ['\"COMMENT\"']",
		.help = "In the words of 'weir deny'.  An exception stands in front of what it is one from:\n"
			"  weir allow connect by user guest to 10.0.0.53 port 53 --before 1",
		.options = OPTION_BIT(JSON) | OPTION_BIT(BEFORE),
		.words = WORDS_RULE,
		.run = cmd_deny,
	},
	{
		.name = "rules",
		.summary = "list the rules in the order in which they are asked",
		.options = OPTION_BIT(JSON) | OPTION_BIT(WATCH),
		.run = cmd_rules,
	},
	{
		.name = "delete",
		.summary = "take a rule away",
		.usage = "ID",
		.help = "ID is the number that 'weir rules' shows.  A rule of the configuration file is back "
			"when "
			"that is\n"
			"read again.",
		.options = OPTION_BIT(JSON),
		.words = WORDS_ID,
		.run = cmd_delete,
	},
	{
		.name = "connections",
		.summary = "list the connections that rules know, or take some away",
		.usage = "[delete] [state new|established] [stage STAGE] [rule ID] [MATCH]",
		.help = "From who began them to who answered.  They are tracked while there is a rule that "
			"could end one.\n"
			"STAGE is new, answered, open, closing, closed or reset.  'delete' cuts them: what "
			"comes of them\n"
			"afterwards is no connection's (state invalid), but for what may begin a new one.\n"
			"  weir connections state new in tcp to port 443\n"
			"  weir connections delete from 203.0.113.9",
		.options = OPTION_BIT(JSON) | OPTION_BIT(LIMIT) | OPTION_BIT(WATCH),
		.words = WORDS_FILTER,
		.run = cmd_connections,
	},
	{
		.name = "names",
		.summary = "list addresses with the names they go by",
		.help = "As DNS answers said, or as TLS and HTTP requests to them did.  The name learned "
			"last comes first.",
		.options = OPTION_BIT(JSON) | OPTION_BIT(LIMIT) | OPTION_BIT(WATCH),
		.run = cmd_names,
	},
	{
		.name = "metrics",
		.summary = "print metrics as Prometheus text",
		.run = cmd_metrics,
	},
	{
		.name = "top",
		.summary = "show flows, hosts, ports, interfaces, drops and processes live",
		.usage = "[MATCH]",
		.help = "Keys: f, h, p, i, d, o, w or Tab change the screen, s and S the sort key, r the "
			"order,\n"
			"b what owners are summed up by, u the units;\n"
			"/ edits the filter, space pauses, + and - change the interval, ? explains, q "
			"quits.\n"
			"With --once it prints one plain picture: the ten largest of everything, or the "
			"screen that\n"
			"--screen asks for.",
		.options = OPTION_BIT(ONCE) | OPTION_BIT(INTERVAL) | OPTION_BIT(SCREEN) | OPTION_BIT(SORT) |
                           OPTION_BIT(REVERSE) | OPTION_BIT(LIMIT) | OPTION_BIT(BY),
		.words = WORDS_FILTER,
		.run = cmd_top,
	},
	{
		.name = "check",
		.summary = "say whether a configuration file is valid, and where it is not",
		.usage = "FILE",
		.options = OPTION_BIT(JSON),
		.words = WORDS_FILE,
		.run = cmd_check,
	},
	{
		.name = "version",
		.summary = "print the version",
		.options = OPTION_BIT(JSON),
		.run = cmd_version,
	},
	{
		.name = "help",
		.summary = "say what a command does",
		.usage = "[COMMAND]",
		.words = WORDS_COMMAND,
		.run = cmd_help,
	},
	{.name = NULL},
};

const struct command *command_find(const char *name, struct error *error)
{
	const char *names[sizeof(commands) / sizeof(commands[0])] = {}, *near;
	unsigned int i;

	for (i = 0; commands[i].name; i++) {
		if (strcmp(commands[i].name, name) == 0)
			return &commands[i];
		names[i] = commands[i].name;
	}
	error_set(error, -EINVAL, "unknown command '%s'", name);
	near = text_nearest(name, names);
	if (near)
		error_want(error, "did you mean '%s'?", near);
	else
		error_want(error, "'weir help' lists them");
	return NULL;
}

void command_list_print(FILE *out)
{
	fputs("usage: weir COMMAND [OPTION]... [WORD]...\n"
	      "\n"
	      "Sees all traffic of this host.\n"
	      "\n",
		out);
	for (const struct command *command = commands; command->name; command++)
		fprintf(out, "  %-12s %s\n", command->name, command->summary);
	fputs("\nOptions of every command:\n", out);
	options_print(OPTIONS_COMMON, out);
	fputs("\n'weir COMMAND --help' says more about one; the manual is weir(8).\n", out);
}

void command_help_print(const struct command *command, FILE *out)
{
	fprintf(out, "usage: weir %s [OPTION]...%s%s\n\n%c%s.\n", command->name, command->usage ? " " : "",
		command->usage ? command->usage : "", command->summary[0] - 'a' + 'A', command->summary + 1);
	if (command->help)
		fprintf(out, "\n%s\n", command->help);
	fputs("\nOptions:\n", out);
	options_print(command->options | OPTIONS_COMMON, out);
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
		return error_want(error, "for example: weir %s connect by user guest to 10.0.0.0/8", name);
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
