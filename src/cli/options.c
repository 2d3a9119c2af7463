/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include "cli/options.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "basic/text.h"
#include "cli/view/screens.h"

#define LIMIT_MAX       16777216ULL
#define COUNT_MAX       1000000000000ULL
#define SNAPLEN_MIN     32
#define SNAPLEN_MAX     262144ULL
#define INTERVAL_MIN_NS 100000000ULL
#define CONFIRM_MIN_NS  1000000000ULL
#define INTERVAL_MAX_NS (3600 * 1000000000ULL)

struct option_entry {
	const char *name;
	char letter;          /* 0: none */
	const char *argument; /* NULL: takes none; "[=X]": may take one */
	const char *help;
	/* Where its value goes: at most one of these; none: being given is all. */
	int (*take)(struct cli *cli, const char *value, struct error *error);
	size_t flag; /* offset of a bool in struct cli */
	size_t text; /* offset of a const char * in struct cli */
};

#define TAKE_WITH(function) .take = (function)
#define SET_FLAG(member)    .flag = offsetof(struct cli, member)
#define SET_TEXT(member)    .text = offsetof(struct cli, member)

static int take_run_dir(struct cli *cli, const char *value, struct error *error)
{
	if (!*value) {
		error_set(error, -EINVAL, "--run-dir: the name of the directory is empty");
		return error_want(error, "for example --run-dir /run/weir");
	}
	cli->run_dir = value;
	return 0;
}

static int take_word(const char *option, const char *value, const char *const *known, unsigned int *ret_index,
	struct error *error)
{
	const char *near;

	for (unsigned int i = 0; known[i]; i++) {
		if (strcmp(value, known[i]) == 0) {
			*ret_index = i;
			return 0;
		}
	}
	error_set(error, -EINVAL, "%s: unknown word '%s'", option, value);
	near = text_nearest(value, known);
	if (near)
		return error_want(error, "did you mean '%s'?", near);
	return error_want(error, "%s, %s or %s", known[0], known[1], known[2]);
}

static int take_color(struct cli *cli, const char *value, struct error *error)
{
	static const char *const known[] = {
		[COLOR_AUTO] = "auto", [COLOR_ALWAYS] = "always", [COLOR_NEVER] = "never", NULL};
	unsigned int i = COLOR_ALWAYS;
	int r;

	r = value ? take_word("--color", value, known, &i, error) : 0;
	if (r == 0)
		cli->color = (enum color)i;
	return r;
}

static int take_no_color(struct cli *cli, const char *value, struct error *error)
{
	(void)value;
	(void)error;
	cli->color = COLOR_NEVER;
	return 0;
}

static int take_units(struct cli *cli, const char *value, struct error *error)
{
	static const char *const known[] = {
		[UNITS_SI] = "si", [UNITS_IEC] = "iec", [UNITS_EXACT] = "exact", NULL};
	unsigned int i = 0;
	int r;

	r = take_word("--units", value, known, &i, error);
	if (r == 0)
		cli->units = (enum units)i;
	return r;
}

static int take_limit(struct cli *cli, const char *value, struct error *error)
{
	unsigned long long limit;
	char *end;

	errno = 0;
	limit = strtoull(value, &end, 10);
	if (*value < '0' || *value > '9' || *end || errno || limit < 1 || limit > LIMIT_MAX) {
		error_set(error, -EINVAL, "--limit: '%s' is not a number of entries", value);
		return error_want(error, "a number from 1 to %llu", LIMIT_MAX);
	}
	cli->limit = limit;
	return 0;
}

static int take_number(const char *option, const char *value, uint64_t least, uint64_t most,
	uint64_t *ret_number, struct error *error)
{
	unsigned long long number;
	char *end;

	errno = 0;
	number = strtoull(value, &end, 10);
	if (*value < '0' || *value > '9' || *end || errno || number < least || number > most) {
		error_set(error, -EINVAL, "%s: '%s' is not such a number", option, value);
		return error_want(error, "a number from %" PRIu64 " to %" PRIu64, least, most);
	}
	*ret_number = number;
	return 0;
}

static int take_snaplen(struct cli *cli, const char *value, struct error *error)
{
	return take_number("--snaplen", value, SNAPLEN_MIN, SNAPLEN_MAX, &cli->snaplen, error);
}

static int take_count(struct cli *cli, const char *value, struct error *error)
{
	return take_number("--count", value, 1, COUNT_MAX, &cli->packets, error);
}

static int take_duration(const char *option, const char *value, uint64_t *ret_ns, struct error *error)
{
	uint64_t ns;

	if (duration_parse(value, &ns) < 0 || ns < INTERVAL_MIN_NS || ns > INTERVAL_MAX_NS) {
		error_set(error, -EINVAL, "%s: '%s' is not a time to wait", option, value);
		return error_want(error, "100ms to 1h: 2, 500ms, 1m30s");
	}
	*ret_ns = ns;
	return 0;
}

static int take_watch(struct cli *cli, const char *value, struct error *error)
{
	cli->watch = true;
	return value ? take_duration("--watch", value, &cli->interval_ns, error) : 0;
}

static int take_interval(struct cli *cli, const char *value, struct error *error)
{
	return take_duration("--interval", value, &cli->interval_ns, error);
}

static int take_for(struct cli *cli, const char *value, struct error *error)
{
	return take_duration("--for", value, &cli->for_ns, error);
}

static int take_confirm(struct cli *cli, const char *value, struct error *error)
{
	uint64_t ns;

	if (duration_parse(value, &ns) < 0 || ns < CONFIRM_MIN_NS || ns > INTERVAL_MAX_NS) {
		error_set(error, -EINVAL, "--confirm: '%s' is not a time to wait", value);
		return error_want(error, "1s to 1h: 60s, 5m");
	}
	cli->confirm = value;
	return 0;
}

static int take_screen(struct cli *cli, const char *value, struct error *error)
{
	const struct screen *screen = screen_find(value);
	const char *near, *names[SCREEN_COUNT + 1] = {};

	if (screen) {
		cli->screen = screen;
		return 0;
	}
	for (unsigned int i = 0; i < SCREEN_COUNT; i++)
		names[i] = screens[i]->name;
	error_set(error, -EINVAL, "--screen: there is no screen '%s'", value);
	near = text_nearest(value, names);
	if (near)
		return error_want(error, "did you mean '%s'?", near);
	return error_want(error, "flows, hosts, ports, interfaces, drops, procs, owners or rules");
}

static const struct option_entry options[OPTION_COUNT] = {
	[OPTION_RUN_DIR] = {"run-dir", 0, "DIR",
		"where the agent lives (default: $WEIR_RUN_DIR, or /run/weir)", TAKE_WITH(take_run_dir)},
	[OPTION_JSON] = {"json", 0, NULL, "print the agent's JSON document as it came", SET_FLAG(json)},
	[OPTION_COLOR] = {"color", 0, "[=WHEN]",
		"auto, always or never (auto: on a terminal, unless $NO_COLOR)", TAKE_WITH(take_color)},
	[OPTION_NO_COLOR] = {"no-color", 0, NULL, "the same as --color=never", TAKE_WITH(take_no_color)},
	[OPTION_UNITS] = {"units", 0, "UNITS", "si (12.3 MB), iec (11.7 MiB) or exact (12345678)",
		TAKE_WITH(take_units)},
	[OPTION_HELP] = {"help", 'h', NULL, "say what can be said here"},
	[OPTION_VERSION] = {"version", 'V', NULL, "print the version"},
	[OPTION_SORT] = {"sort", 's', "KEY", "what to sort by", SET_TEXT(sort)},
	[OPTION_REVERSE] = {"reverse", 'r', NULL, "sort the other way round", SET_FLAG(reverse)},
	[OPTION_LIMIT] = {"limit", 'n', "N", "at most N entries", TAKE_WITH(take_limit)},
	[OPTION_WATCH] = {"watch", 'w', "[=TIME]", "print again every TIME (default 2s) until interrupted",
		TAKE_WITH(take_watch)},
	[OPTION_CONFIG] = {"config", 'c', "FILE", "the configuration file (default: the built-in settings)",
		SET_TEXT(config)},
	[OPTION_VIEW] = {"view", 0, NULL, "show the live screen; end the agent with it", SET_FLAG(view)},
	[OPTION_ONCE] = {"once", 0, NULL, "print one plain picture and end", SET_FLAG(once)},
	[OPTION_INTERVAL] = {"interval", 'i', "TIME", "time between two pictures (default 1s)",
		TAKE_WITH(take_interval)},
	[OPTION_SCREEN] = {"screen", 0, "SCREEN",
		"begin with flows, hosts, ports, interfaces, drops, procs, owners or rules",
		TAKE_WITH(take_screen)},
	[OPTION_BEFORE] = {"before", 0, "ID|TIME",
		"rules: in front of this one (default: behind all); capture: from so long ago on",
		SET_TEXT(before)},
	[OPTION_FOLLOW] = {"follow", 'f', NULL, "show what happens, as it happens, until interrupted",
		SET_FLAG(follow)},
	[OPTION_HISTOGRAM] = {"histogram", 0, NULL, "sum up: how many had which value", SET_FLAG(histogram)},
	[OPTION_BY] = {"by", 0, "WHAT", "sum up by WHAT", SET_TEXT(by)},
	[OPTION_FOR] = {"for", 0, "TIME", "end after TIME", TAKE_WITH(take_for)},
	[OPTION_EVENTS] = {"events", 0, NULL, "show the events that are remembered", SET_FLAG(events)},
	[OPTION_CLOSED] = {"closed", 0, NULL, "list those that were closed", SET_FLAG(closed)},
	[OPTION_STATES] = {"states", 0, NULL, "show changes of TCP's state, too", SET_FLAG(states)},
	[OPTION_CUT] = {"cut", 0, NULL, "connections that were there before do not go on against the rules",
		SET_FLAG(cut)},
	[OPTION_CONFIRM] = {"confirm", 0, "TIME", "go back after TIME, unless 'weir confirm' comes",
		TAKE_WITH(take_confirm)},
	[OPTION_CHECK] = {"check", 0, NULL, "only say whether it could be done", SET_FLAG(check)},
	[OPTION_SKIP_BAD] = {"skip-bad", 0, NULL, "go on behind bad lines, and count them",
		SET_FLAG(skip_bad)},
	[OPTION_TENANT] = {"tenant", 0, "NAME", "the rules of this tenant", SET_TEXT(tenant)},
	[OPTION_WRITE] = {"write", 'w', "FILE", "to a pcapng file; '-': to standard output", SET_TEXT(file)},
	[OPTION_SNAPLEN] = {"snaplen", 's', "BYTES", "so many bytes of a packet at most (default: 262144)",
		TAKE_WITH(take_snaplen)},
	[OPTION_WHEN] = {"when", 0, "EVENT", "wait until this happens", SET_TEXT(when)},
	[OPTION_PACKETS] = {"count", 'c', "N", "end after N packets", TAKE_WITH(take_count)},
};

static bool option_argument_optional(const struct option_entry *entry)
{
	return entry->argument && entry->argument[0] == '[';
}

/* Does this command take it?  Before a command is known: any does. */
static bool option_is_meant(const struct cli *cli, int i)
{
	return !cli->command || ((cli->command->options | OPTIONS_COMMON) & 1ULL << i);
}

/* The option with this letter; some letters mean another option for another command.  -1: none. */
static int option_by_letter(const struct cli *cli, int letter)
{
	int found = -1;

	for (int i = 0; i < OPTION_COUNT; i++)
		if (options[i].letter && options[i].letter == letter &&
			(found < 0 || (option_is_meant(cli, i) && !option_is_meant(cli, found))))
			found = i;
	return found;
}

static int option_take(
	struct cli *cli, const struct option_entry *entry, const char *value, struct error *error)
{
	if (entry->take)
		return entry->take(cli, value, error);
	if (entry->flag)
		*(bool *)((char *)cli + entry->flag) = true;
	if (entry->text)
		*(const char **)((char *)cli + entry->text) = value;
	return 0;
}

/* What getopt_long() refused, in words. */
static int option_refuse(char **argv, int found, struct error *error)
{
	const char *word = argv[optind - 1], *names[OPTION_COUNT + 1] = {}, *near;
	char known[32];

	if (found == ':')
		return error_set(error, -EINVAL, "option '%s' needs a value", word);
	if (optopt >= '0' && optopt <= '9') {
		/* getopt has not gone on to the next word yet if there are more letters in this one */
		if (word[0] != '-' || word[1] != optopt)
			word = argv[optind];
		error_set(error, -EINVAL, "'%.64s' is below zero, and no option", word);
		return error_want(error, "numbers, rates and sizes without a sign, such as %.63s", word + 1);
	}
	if (optopt && optopt < 128 && strncmp(word, "--", 2) != 0) {
		error_set(error, -EINVAL, "unknown option '-%c'", optopt);
		return error_want(error, "'weir help' lists commands, 'weir COMMAND --help' their options");
	}
	if (optopt)
		return error_set(
			error, -EINVAL, "option '%.*s' takes no value", (int)strcspn(word, "="), word);

	for (unsigned int i = 0; i < OPTION_COUNT; i++)
		names[i] = options[i].name;
	snprintf(known, sizeof(known), "%.*s", (int)strcspn(word + 2, "="), word + 2);
	error_set(error, -EINVAL, "unknown option '%s'", word);
	near = text_nearest(known, names);
	if (near)
		return error_want(error, "did you mean '--%s'?", near);
	return error_want(error, "'weir help' lists commands, 'weir COMMAND --help' their options");
}

int options_read(
	struct cli *cli, int argc, char **argv, bool stop_at_word, int *ret_words, struct error *error)
{
	struct option long_options[OPTION_COUNT + 1] = {};
	char letters[3 * OPTION_COUNT + 3], *p = letters;
	int found, r;

	if (stop_at_word)
		*p++ = '+';
	*p++ = ':';
	for (int i = 0; i < OPTION_COUNT; i++) {
		const struct option_entry *entry = &options[i];
		bool optional = option_argument_optional(entry);

		long_options[i] = (struct option){.name = entry->name,
			.has_arg = !entry->argument ? no_argument
		                   : optional       ? optional_argument
		                                    : required_argument,
			.val = 256 + i};
		if (!entry->letter || option_by_letter(cli, entry->letter) != i)
			continue;
		*p++ = entry->letter;
		if (entry->argument)
			*p++ = ':';
		if (optional)
			*p++ = ':';
	}
	*p = '\0';

	opterr = 0;
	optind = 0; /* not 1: glibc then forgets what it knew of an earlier argv */
	while ((found = getopt_long(argc, argv, letters, long_options, NULL)) != -1) {
		int i = found - 256;

		if (found == '?' || found == ':')
			return option_refuse(argv, found, error);
		if (found < 256)
			i = option_by_letter(cli, found);
		cli->given |= 1ULL << i;
		r = option_take(cli, &options[i], optarg, error);
		if (r < 0)
			return r;
	}
	*ret_words = optind;
	return 0;
}

int options_check(const struct cli *cli, struct error *error)
{
	uint64_t wrong = cli->given & ~(cli->command->options | OPTIONS_COMMON);

	for (int i = 0; i < OPTION_COUNT; i++) {
		if (!(wrong & 1ULL << i))
			continue;
		error_set(error, -EINVAL, "option '--%s' is not for 'weir %s'", options[i].name,
			cli->command->name);
		return error_want(error, "'weir %s --help' lists what is", cli->command->name);
	}
	return 0;
}

void options_print(uint64_t mask, FILE *out)
{
	for (int i = 0; i < OPTION_COUNT; i++) {
		const struct option_entry *entry = &options[i];
		char text[64];

		if (!(mask & 1ULL << i))
			continue;
		snprintf(text, sizeof(text), "--%s%s%s", entry->name,
			entry->argument && !option_argument_optional(entry) ? " " : "",
			entry->argument ? entry->argument : "");
		if (entry->letter)
			fprintf(out, "  -%c, %-18s %s\n", entry->letter, text, entry->help);
		else
			fprintf(out, "      %-18s %s\n", text, entry->help);
	}
}
