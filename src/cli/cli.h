/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * The `weir` command: what a command is, what a person asked it for, and how it ends.
 */
#ifndef WEIR_CLI_CLI_H
#define WEIR_CLI_CLI_H

#include <stdbool.h>
#include <stdint.h>

#include "basic/error.h"
#include "basic/units.h"
#include "cli/view/style.h"

struct weir_client;
struct screen;

/* Exit statuses, as weir(8) promises them. */
enum {
	EXIT_OK = 0,
	EXIT_FAILED = 1,
	EXIT_USAGE = 2,
	EXIT_NO_AGENT = 3,
};

enum cli_option {
	OPTION_RUN_DIR,
	OPTION_JSON,
	OPTION_COLOR,
	OPTION_NO_COLOR,
	OPTION_UNITS,
	OPTION_HELP,
	OPTION_VERSION,
	OPTION_SORT,
	OPTION_REVERSE,
	OPTION_LIMIT,
	OPTION_WATCH,
	OPTION_CONFIG,
	OPTION_VIEW,
	OPTION_ONCE,
	OPTION_INTERVAL,
	OPTION_SCREEN,
	OPTION_FOLLOW,
	OPTION_HISTOGRAM,
	OPTION_BY,
	OPTION_FOR,
	OPTION_BEFORE,
	OPTION_EVENTS,
	OPTION_CLOSED,
	OPTION_STATES,
	OPTION_WRITE,
	OPTION_SNAPLEN,
	OPTION_PACKETS,
	OPTION_CUT,
	OPTION_CONFIRM,
	OPTION_CHECK,
	OPTION_SKIP_BAD,
	OPTION_TENANT,
	OPTION_WHEN,
	OPTION_COUNT,
};

#define OPTION_BIT(name) (1ULL << OPTION_##name)

/* What every command takes, whether it can do something with it or not: scripts and aliases may set them
 * once. */
#define OPTIONS_COMMON                                                                                       \
	(OPTION_BIT(RUN_DIR) | OPTION_BIT(COLOR) | OPTION_BIT(NO_COLOR) | OPTION_BIT(UNITS) |                \
		OPTION_BIT(HELP) | OPTION_BIT(VERSION))

/* What a person asked for. */
struct cli {
	const struct command *command;
	uint64_t given;      /* OPTION_BITs that were on the command line */
	const char *run_dir; /* never NULL once main() has read the command line */
	bool json, reverse, watch, view, once, follow, histogram;
	bool events, closed, states;
	bool cut, check, skip_bad;
	enum color color;
	enum units units;
	const char *sort;
	const char *by; /* what to sum up by */
	const char *config;
	const char *before;          /* a rule's id, or a time */
	const char *confirm;         /* a time; NULL: at once for good */
	const char *tenant;          /* NULL: the host */
	const char *file;            /* --write */
	const char *when;            /* an event; NULL: at once */
	uint64_t snaplen, packets;   /* --snaplen, --count; 0: not given */
	const struct screen *screen; /* --screen; NULL: not asked for */
	uint64_t limit;              /* 0: all */
	uint64_t interval_ns;        /* --watch, --interval */
	uint64_t for_ns;             /* --for; 0: until interrupted */
	char **words;                /* what is neither option nor command, NULL-terminated */
	int word_count;
};

/* What may stand behind a command besides options. */
enum words {
	WORDS_NONE,
	WORDS_FILTER,  /* a sentence */
	WORDS_RULE,    /* a rule behind its verb */
	WORDS_ID,      /* exactly one number or name */
	WORDS_FILE,    /* exactly one file */
	WORDS_PACKET,  /* a packet in words */
	WORDS_OWN,     /* what the command itself looks at */
	WORDS_COMMAND, /* at most one name of a command */
};

struct command {
	const char *name;
	const char *summary; /* one line for the overview */
	const char *usage;   /* what stands behind "weir NAME [OPTION]..." */
	const char *help;    /* the paragraphs of `weir NAME --help` */
	uint64_t options;    /* OPTION_BITs besides OPTIONS_COMMON */
	enum words words;
	int (*run)(const struct cli *cli); /* an exit status */
};

extern const struct command commands[]; /* ends with a name of NULL */

/* NULL with `error` suggesting the nearest. */
const struct command *command_find(const char *name, struct error *error);
void command_list_print(FILE *out);                         /* `weir --help` */
void command_help_print(const struct command *, FILE *out); /* `weir NAME --help` */

/* The commands, one file in cmd/ each. */
int cmd_run(const struct cli *cli);
int cmd_down(const struct cli *cli);
int cmd_reload(const struct cli *cli);
int cmd_status(const struct cli *cli);
int cmd_list(const struct cli *cli);
int cmd_connections(const struct cli *cli);
int cmd_drops(const struct cli *cli);
int cmd_sockets(const struct cli *cli);
int cmd_audit(const struct cli *cli);
int cmd_rule(const struct cli *cli); /* each verb */
int cmd_service(const struct cli *cli);
int cmd_services(const struct cli *cli);
int cmd_backend(const struct cli *cli);
int cmd_forward(const struct cli *cli);
int cmd_forwards(const struct cli *cli);
int cmd_steer(const struct cli *cli);
int cmd_steers(const struct cli *cli);
int cmd_delete(const struct cli *cli);
int cmd_move(const struct cli *cli);
int cmd_flush(const struct cli *cli);
int cmd_explain(const struct cli *cli);
int cmd_log(const struct cli *cli);
int cmd_policy(const struct cli *cli);
int cmd_apply(const struct cli *cli);
int cmd_confirm(const struct cli *cli);
int cmd_rollback(const struct cli *cli);
int cmd_diff(const struct cli *cli);
int cmd_save(const struct cli *cli);
int cmd_set(const struct cli *cli);
int cmd_shape(const struct cli *cli);
int cmd_shapes(const struct cli *cli);
int cmd_change(const struct cli *cli);
int cmd_rules(const struct cli *cli);
int cmd_capture(const struct cli *cli);
int cmd_metrics(const struct cli *cli);
int cmd_names(const struct cli *cli);
int cmd_trace(const struct cli *cli);
int cmd_top(const struct cli *cli);
int cmd_check(const struct cli *cli);
int cmd_version(const struct cli *cli);
int cmd_help(const struct cli *cli);

#endif
