/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * The live screen: ask, draw, wait for a key or for the next time to ask.
 *
 *     line 0        host, uptime                                     total rates
 *     line 1        loss meter                                       flows in the table
 *     line 2        screens                                          sort key, interval
 *     line 3        the filter, where there is one
 *     ...           the table
 *     last line     keys, a message, or the filter being edited
 */
#include "cli/view/top.h"

#include <ctype.h>
#include <curses.h>
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "basic/clock.h"
#include "cli/ask.h"
#include "cli/view/answer.h"
#include "cli/view/print.h"
#include "cli/view/screens.h"
#include "model/match.h"

#define REQUEST_TIMEOUT_S 2 /* the screen stands still while it asks */
#define INTERVAL_MIN_NS   100000000ULL
#define INTERVAL_MAX_NS   60000000000ULL
#define ONCE_LIMIT_ALL    10
#define ONCE_LIMIT_ONE    20
#define KEY_ESCAPE        27
#define KEY_CONTROL(c)    ((c)&0x1f)

enum { PAIR_GOOD = 1, PAIR_BAD, PAIR_ACCENT };

/* What is drawn how; the same word on every terminal, whatever it can do. */
struct look {
	attr_t good, bad, accent, title, dim;
};

/* The filter while it is being edited. */
struct edit {
	bool active;
	char text[MATCH_TEXT_MAX];
	size_t length, cursor;
	char error[1024];
};

struct top {
	const struct cli *cli;
	struct weir_client *client;
	struct tail *agent;
	struct look look;
	char host[256];

	const struct screen *screen;
	const struct sort_key *sorts[SCREEN_COUNT];
	bool reverse[SCREEN_COUNT];
	unsigned int by; /* place in screen_groups of what owners are grouped by */
	unsigned int widths[SCREEN_COUNT][TABLE_COLUMNS_MAX];
	size_t offset; /* first row shown */
	char filter[MATCH_TEXT_MAX];
	enum units units;
	uint64_t interval_ns;
	struct edit edit;
	bool paused, help, quit;
	bool ask; /* now, not when the time has come */

	json_t *status, *answer;
	const struct screen *answered; /* the screen that `answer` is about */
	struct error error;            /* of the last time we asked */
};

volatile sig_atomic_t top_stop;

static void stop_note(int signal)
{
	(void)signal;
	top_stop = 1;
}

void top_catch_signals(void)
{
	/* No SA_RESTART: a wait is to end. */
	struct sigaction action = {.sa_handler = stop_note};

	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGHUP, &action, NULL);
}

static size_t screen_index(const struct screen *screen)
{
	size_t i = 0;

	while (screens[i] != screen)
		i++;
	return i;
}

/* ---- asking ---- */

static int screen_ask(struct weir_client *client, const struct screen *screen,
	const struct question *question, json_t **ret_answer, struct error *error)
{
	_cleanup_free_ char *query = screen_query(screen, question);

	if (!query)
		return error_set(error, -ENOMEM, "no memory");
	return ask_json(client, "GET", screen->path, query, ret_answer, error);
}

/* How many lines the table has, with its titles. */
static int table_lines(const struct top *top)
{
	int lines = LINES - (top->filter[0] ? 4 : 3) - 1;

	return lines > 1 ? lines : 1;
}

static void top_ask(struct top *top)
{
	size_t i = screen_index(top->screen), rows = (size_t)table_lines(top) - 1;
	struct question question = {
		.filter = top->filter,
		.by = top->screen == screens[SCREEN_OWNERS] ? screen_groups[top->by] : NULL,
		.sort = top->sorts[i],
		.reverse = top->reverse[i],
		.limit = top->offset + rows,
	};
	_cleanup_json_ json_t *status = NULL, *answer = NULL;

	top->ask = false;
	if (ask_json(top->client, "GET", "/v1/status", NULL, &status, &top->error) < 0 ||
		screen_ask(top->client, top->screen, &question, &answer, &top->error) < 0)
		return;
	top->error.code = 0;
	json_decref(top->status);
	json_decref(top->answer);
	top->status = TAKE(status);
	top->answer = TAKE(answer);
	top->answered = top->screen;
}

/* ---- drawing ---- */

static void line_clear(int y)
{
	move(y, 0);
	clrtoeol();
}

/* Text from `x` on, as far as there is room; returns the column behind it. */
static int left_draw(int y, int x, attr_t look, const char *text)
{
	char fitted[TABLE_LINE_MAX];

	if (x >= COLS)
		return x;
	text_fit(fitted, sizeof(fitted), text, (unsigned int)(COLS - x));
	attron(look);
	mvaddstr(y, x, fitted);
	attroff(look);
	return x + (int)text_width(fitted);
}

/* Text on the right, unless it would touch what ends at column `left`. */
static void right_draw(int y, int left, attr_t look, const char *text)
{
	int x = COLS - (int)text_width(text);

	if (x > left + 1)
		left_draw(y, x, look, text);
}

static void rates_sum(const json_t *status, uint64_t *ret_in_bps, uint64_t *ret_out_bps)
{
	const json_t *interfaces = json_object_get(status, "interfaces"), *interface;
	uint64_t in_bps = 0, out_bps = 0;
	size_t i;

	json_array_foreach (interfaces, i, interface) {
		in_bps += json_get_number(interface, "rate_in_bps");
		out_bps += json_get_number(interface, "rate_out_bps");
	}
	*ret_in_bps = in_bps;
	*ret_out_bps = out_bps;
}

static void head_draw(const struct top *top)
{
	char text[512], uptime[32], in[32], out[32];
	uint64_t in_bps, out_bps;
	int left;

	line_clear(0);
	left_draw(0, 0, top->look.accent | A_BOLD, "weir");
	if (!top->status) {
		left_draw(0, 6, A_NORMAL, top->host);
		return;
	}
	snprintf(text, sizeof(text), "%s  up %s", top->host,
		duration_format(uptime, sizeof(uptime), json_get_number(top->status, "uptime") * 1000000000));
	left = left_draw(0, 6, A_NORMAL, text);
	rates_sum(top->status, &in_bps, &out_bps);
	snprintf(text, sizeof(text), "in %s  out %s", rate_format(in, sizeof(in), in_bps, top->units),
		rate_format(out, sizeof(out), out_bps, top->units));
	right_draw(0, left, A_BOLD, text);
}

/* Always there: what is shown is all there is, or it says by how much it is not. */
static void losses_draw(const struct top *top)
{
	const json_t *table = json_object_get(top->status, "table");
	struct losses losses;
	char text[256], flows[64], lost[32], seen[32];
	int left;

	line_clear(1);
	losses_read(top->status, &losses);
	if (!losses.known)
		return;
	losses_print(&losses, top->units, text, sizeof(text));
	if (text_width(text) > (unsigned int)COLS)
		snprintf(text, sizeof(text), "lost %s of %s",
			count_format(lost, sizeof(lost), losses.lost, top->units),
			count_format(seen, sizeof(seen), losses.seen, top->units));
	left = left_draw(1, 0, losses_matter(&losses) ? top->look.bad : top->look.good, text);
	snprintf(flows, sizeof(flows), "%" PRIu64 " flows", json_get_number(table, "flows"));
	right_draw(1, left, A_NORMAL, flows);
}

static void tabs_draw(const struct top *top)
{
	size_t shown = screen_index(top->screen);
	const struct sort_key *sort = top->sorts[shown];
	char text[128], interval[32], by[32] = "";
	int x = 0, length;

	line_clear(2);
	for (size_t i = 0; i < SCREEN_COUNT; i++) {
		attr_t look = i == shown ? top->look.accent | A_BOLD | A_REVERSE : A_NORMAL;
		const char letter[] = {screens[i]->letter, '\0'};
		size_t before = strcspn(screens[i]->name, letter);
		char head[32];

		/* Underlined is what to press. */
		snprintf(head, sizeof(head), " %.*s", (int)before, screens[i]->name);
		x = left_draw(2, x, look, head);
		x = left_draw(2, x, look | A_UNDERLINE, letter);
		x = left_draw(2, x, look, screens[i]->name + before + 1);
		if (i == shown)
			left_draw(2, x, look, " ");
	}
	if (top->paused) {
		right_draw(2, x, A_BOLD | A_REVERSE, " paused ");
		return;
	}
	duration_format(interval, sizeof(interval), top->interval_ns);
	if (top->screen == screens[SCREEN_OWNERS])
		snprintf(by, sizeof(by), "each %s ", screen_groups[top->by]);
	if (!sort) {
		snprintf(text, sizeof(text), "every %s", interval);
		right_draw(2, x, A_NORMAL, text);
		return;
	}
	/* the interval is the first to give way */
	length = snprintf(
		text, sizeof(text), "%sby %s%s", by, sort->name, top->reverse[shown] ? ", reversed" : "");
	if (x + length + (int)strlen(interval) + 10 <= COLS)
		snprintf(text + length, sizeof(text) - (size_t)length, ", every %s", interval);
	right_draw(2, x, A_NORMAL, text);
}

static void filter_draw(const struct top *top)
{
	const struct screen *screen = top->screen;
	char title[48];
	int x;

	line_clear(3);
	snprintf(title, sizeof(title),
		screen->sorts && !screen->unfiltered && !screen->summed ? "filter " : "filter (not for %s) ",
		screen->name);
	x = left_draw(3, 0, top->look.dim, title);
	left_draw(3, x, A_BOLD, top->filter);
}

static void table_draw(struct top *top, int y, int lines)
{
	struct table table;
	char line[TABLE_LINE_MAX];
	size_t rows;
	int x;

	for (int i = 0; i < lines; i++)
		line_clear(y + i);
	if (top->answered != top->screen)
		return;

	screen_fill(top->screen, top->answer, top->units, &table);
	rows = table_rows(&table);
	if (top->offset && top->offset >= rows)
		top->offset = rows ? rows - 1 : 0;
	table_fit(&table, (unsigned int)COLS, top->widths[screen_index(top->screen)]);

	for (x = left_draw(y, 0, top->look.title, table_line(&table, TABLE_HEADER, line, sizeof(line)));
		x < COLS;)
		x = left_draw(y, x, top->look.title, " ");
	if (!rows)
		left_draw(y + 1, 0, top->look.dim, top->screen->nothing);
	for (int i = 1; i < lines && top->offset + (size_t)i - 1 < rows; i++)
		left_draw(y + i, 0, A_NORMAL,
			table_line(&table, top->offset + (size_t)i - 1, line, sizeof(line)));
	table_free(&table);
}

static void foot_draw(const struct top *top)
{
	char text[1024], last[512];
	int y = LINES - 1;

	line_clear(y);
	if (error_is_no_agent(&top->error)) {
		snprintf(text, sizeof(text), "no agent; retrying (%s)", top->error.what);
		left_draw(y, 0, top->look.bad, text);
		return;
	}
	if (top->error.code) {
		snprintf(text, sizeof(text), "%s%s%s", top->error.what, top->error.want[0] ? "; " : "",
			top->error.want);
		left_draw(y, 0, top->look.bad, text);
		return;
	}
	if (top->agent) {
		tail_last_line(top->agent, last, sizeof(last));
		if (*last && strcmp(last, "weir: ready") != 0) {
			left_draw(y, 0, A_NORMAL, last);
			return;
		}
	}
	left_draw(y, 0, top->look.dim,
		"/ filter  s sort  r reverse  space pause  u units  + - interval  ? help  q quit");
}

/* The filter under way: its mistake above it, the cursor where it was made. */
static void edit_draw(const struct top *top)
{
	static const char prompt[] = "filter: ";
	const struct edit *edit = &top->edit;
	int y = LINES - 1, room = COLS - (int)strlen(prompt) - 1;
	size_t skip = room > 0 && edit->cursor > (size_t)room ? edit->cursor - (size_t)room : 0;

	if (edit->error[0] && y > 0) {
		line_clear(y - 1);
		left_draw(y - 1, 0, top->look.bad, edit->error);
	}
	line_clear(y);
	left_draw(y, 0, A_BOLD, prompt);
	left_draw(y, (int)strlen(prompt), A_NORMAL, edit->text + skip);
	move(y, (int)(strlen(prompt) + edit->cursor - skip));
}

static void help_draw(const struct top *top)
{
	static const char *const lines[] = {
		"f h p i d, Tab flows, hosts, ports, interfaces, drops",
		"o w l          processes, owners, rules",
		"b              owners by process, user, group, exe, cgroup, unit, ...",
		"s S            next, previous sort key",
		"r              the other order",
		"/              filter: tcp to port 443, in from 10.0.0.0/8",
		"               Enter takes it, Escape does not, Ctrl-U empties it",
		"space          pause, go on",
		"u              units: 12.3 MB, 11.7 MiB, 12345678",
		"+ -            ask less, more often",
		"up down        scroll; also PgUp, PgDn, Home",
		"?              this",
		"q, Ctrl-C      quit",
		"",
		"seen = cached + emitted + lost, in packets: 'lost' is to stay 0.",
		"",
		"Any key goes back.",
	};
	const int count = (int)(sizeof(lines) / sizeof(lines[0])), width = 68;
	int y = (LINES - count - 2) / 2, x = (COLS - width) / 2;

	if (y < 0)
		y = 0;
	if (x < 0)
		x = 0;
	for (int i = 0; i < count + 2 && y + i < LINES; i++) {
		const char *text = i == 0 || i == count + 1 ? "" : lines[i - 1];
		char line[80];

		snprintf(line, sizeof(line), "  %-*s", width - 2, text);
		left_draw(y + i, x, top->look.title, line);
	}
}

static void top_draw(struct top *top)
{
	int y = top->filter[0] ? 4 : 3;

	curs_set(0);
	head_draw(top);
	losses_draw(top);
	tabs_draw(top);
	if (top->filter[0])
		filter_draw(top);
	table_draw(top, y, table_lines(top));
	foot_draw(top);
	if (top->help)
		help_draw(top);
	if (top->edit.active) {
		edit_draw(top);
		curs_set(1);
	}
	refresh();
}

/* ---- keys ---- */

static void screen_change(struct top *top, const struct screen *screen)
{
	top->screen = screen;
	top->offset = 0;
	top->ask = true;
}

static void sort_change(struct top *top, int step)
{
	const struct sort_key **sort = &top->sorts[screen_index(top->screen)];
	int count = 0, here;

	if (!top->screen->sorts || !top->screen->sorts->name)
		return;
	while (top->screen->sorts[count].name)
		count++;
	here = (int)(*sort - top->screen->sorts);
	*sort = &top->screen->sorts[(here + step + count) % count];
	top->offset = 0;
	top->ask = true;
}

/* The next step of a ladder; between two steps stands only what --interval put there. */
static void interval_change(struct top *top, bool longer)
{
	static const uint64_t steps_ms[] = {100, 200, 500, 1000, 2000, 5000, 10000, 20000, 30000, 60000};
	const size_t count = sizeof(steps_ms) / sizeof(steps_ms[0]);
	uint64_t best = top->interval_ns;

	for (size_t i = 0; i < count; i++) {
		uint64_t step = steps_ms[longer ? i : count - 1 - i] * 1000000;

		if (longer ? step > top->interval_ns : step < top->interval_ns) {
			best = step;
			break;
		}
	}
	top->interval_ns = best;
}

static void scroll_by(struct top *top, int rows)
{
	if (rows < 0 && top->offset < (size_t)-rows)
		top->offset = 0;
	else
		top->offset += (size_t)(ssize_t)rows;
	top->ask = true;
}

static void widths_forget(struct top *top)
{
	memset(top->widths, 0, sizeof(top->widths));
}

static void edit_begin(struct top *top)
{
	struct edit *edit = &top->edit;

	*edit = (struct edit){.active = true};
	snprintf(edit->text, sizeof(edit->text), "%s", top->filter);
	edit->length = edit->cursor = strlen(edit->text);
}

static void edit_end(struct top *top)
{
	struct edit *edit = &top->edit;
	struct match match;
	struct error error;

	if (match_parse(edit->text, &match, &error) < 0) {
		snprintf(edit->error, sizeof(edit->error), "%s%s%s", error.what, error.want[0] ? "; " : "",
			error.want);
		if (error.column && error.column - 1 <= edit->length)
			edit->cursor = error.column - 1;
		return;
	}
	snprintf(top->filter, sizeof(top->filter), "%s", edit->text);
	edit->active = false;
	top->offset = 0;
	top->ask = true;
}

static void edit_delete(struct edit *edit, size_t at)
{
	if (at >= edit->length)
		return;
	memmove(edit->text + at, edit->text + at + 1, edit->length - at);
	edit->length--;
	edit->cursor = at;
}

static void edit_insert(struct edit *edit, char c)
{
	if (edit->length + 1 >= sizeof(edit->text))
		return;
	memmove(edit->text + edit->cursor + 1, edit->text + edit->cursor, edit->length - edit->cursor + 1);
	edit->text[edit->cursor++] = c;
	edit->length++;
}

static void edit_key(struct top *top, int key)
{
	struct edit *edit = &top->edit;

	if (key != '\r' && key != '\n' && key != KEY_ENTER)
		edit->error[0] = '\0';
	switch (key) {
	case '\r':
	case '\n':
	case KEY_ENTER:
		edit_end(top);
		break;
	case KEY_ESCAPE:
		edit->active = false;
		break;
	case KEY_BACKSPACE:
	case KEY_CONTROL('h'):
	case 127:
		if (edit->cursor)
			edit_delete(edit, edit->cursor - 1);
		break;
	case KEY_DC:
		edit_delete(edit, edit->cursor);
		break;
	case KEY_LEFT:
		if (edit->cursor)
			edit->cursor--;
		break;
	case KEY_RIGHT:
		if (edit->cursor < edit->length)
			edit->cursor++;
		break;
	case KEY_HOME:
	case KEY_CONTROL('a'):
		edit->cursor = 0;
		break;
	case KEY_END:
	case KEY_CONTROL('e'):
		edit->cursor = edit->length;
		break;
	case KEY_CONTROL('u'):
		edit->text[0] = '\0';
		edit->length = edit->cursor = 0;
		break;
	default:
		if (key < 128 && isprint(key))
			edit_insert(edit, (char)key);
		break;
	}
}

static void top_key(struct top *top, int key)
{
	if (key == KEY_RESIZE) {
		widths_forget(top);
		top->ask = true;
		clear();
		return;
	}
	if (top->edit.active) {
		edit_key(top, key);
		return;
	}
	if (top->help) {
		top->help = false;
		return;
	}
	for (size_t i = 0; i < SCREEN_COUNT; i++) {
		if (key == screens[i]->letter)
			screen_change(top, screens[i]);
	}
	switch (key) {
	case '\t':
		screen_change(top, screens[(screen_index(top->screen) + 1) % SCREEN_COUNT]);
		break;
	case KEY_BTAB:
		screen_change(top, screens[(screen_index(top->screen) + SCREEN_COUNT - 1) % SCREEN_COUNT]);
		break;
	case 's':
		sort_change(top, 1);
		break;
	case 'S':
		sort_change(top, -1);
		break;
	case 'r':
		top->reverse[screen_index(top->screen)] ^= true;
		top->ask = true;
		break;
	case '/':
		edit_begin(top);
		break;
	case 'b':
		top->by = screen_groups[top->by + 1] ? top->by + 1 : 0;
		screen_change(top, screens[SCREEN_OWNERS]);
		break;
	case ' ':
		top->paused = !top->paused;
		break;
	case 'u':
		top->units = (enum units)((top->units + 1) % (UNITS_EXACT + 1));
		widths_forget(top);
		break;
	case '+':
	case '=':
		interval_change(top, true);
		break;
	case '-':
		interval_change(top, false);
		break;
	case KEY_UP:
		scroll_by(top, -1);
		break;
	case KEY_DOWN:
		scroll_by(top, 1);
		break;
	case KEY_PPAGE:
		scroll_by(top, 1 - table_lines(top));
		break;
	case KEY_NPAGE:
		scroll_by(top, table_lines(top) - 1);
		break;
	case KEY_HOME:
		top->offset = 0;
		top->ask = true;
		break;
	case '?':
		top->help = true;
		break;
	case 'q':
		top->quit = true;
		break;
	}
}

/* ---- the loop ---- */

static void top_wait(struct top *top, uint64_t until_ns)
{
	struct pollfd fds[2] = {
		{.fd = STDIN_FILENO, .events = POLLIN},
		{.fd = top->agent ? top->agent->fd : -1, .events = POLLIN},
	};
	uint64_t now = clock_ns(CLOCK_MONOTONIC);
	int timeout_ms = until_ns > now ? (int)((until_ns - now) / 1000000) + 1 : 0;

	/* A signal between the caller's look at top_stop and here is seen at the next interval: a second at
	 * most. */
	if (poll(fds, 2, timeout_ms) < 0)
		return;
	if (fds[0].revents & (POLLHUP | POLLERR | POLLNVAL))
		top->quit = true;
	if (fds[1].revents)
		tail_read(top->agent);
}

static void top_loop(struct top *top)
{
	uint64_t next = 0;

	top->ask = true;
	while (!top->quit && !top_stop && !(top->agent && top->agent->ended)) {
		uint64_t now = clock_ns(CLOCK_MONOTONIC);
		int key;

		if (top->ask || now >= next) {
			if (top->ask || !top->paused)
				top_ask(top);
			next = clock_ns(CLOCK_MONOTONIC) + top->interval_ns;
		}
		top_draw(top);
		top_wait(top, next);
		/* ERR is "no key" here, or a terminal that is gone: then poll() says so. */
		while (!top->quit && (key = getch()) != ERR)
			top_key(top, key);
	}
}

static struct look look_choose(const struct cli *cli)
{
	if (style_is_plain(cli->color) || !has_colors())
		return (struct look){.bad = A_REVERSE, .title = A_REVERSE};
	start_color();
	use_default_colors();
	init_pair(PAIR_GOOD, COLOR_GREEN, -1);
	init_pair(PAIR_BAD, COLOR_RED, -1);
	init_pair(PAIR_ACCENT, COLOR_CYAN, -1);
	return (struct look){
		.good = (attr_t)COLOR_PAIR(PAIR_GOOD),
		.bad = (attr_t)COLOR_PAIR(PAIR_BAD) | A_BOLD,
		.accent = (attr_t)COLOR_PAIR(PAIR_ACCENT),
		.title = A_REVERSE,
		.dim = A_DIM,
	};
}

/* What owners are grouped by at first: users, unless --by says otherwise. */
static unsigned int group_place(const struct cli *cli)
{
	const char *by = cli->by ? cli->by : "user";
	unsigned int place = 0;

	while (screen_groups[place + 1] && strcmp(screen_groups[place], by) != 0)
		place++;
	return place;
}

static void sorts_choose(const struct cli *cli, const struct sort_key **sorts)
{
	for (size_t i = 0; i < SCREEN_COUNT; i++) {
		if (!screens[i]->sorts)
			continue;
		/* The key was checked for the screen it was given for; others take it where they have it. */
		sorts[i] = sort_find(screens[i], cli->sort, NULL);
		if (!sorts[i])
			sorts[i] = screens[i]->sorts;
	}
}

int top_show(const struct cli *cli, struct weir_client *client, const char *filter, struct tail *agent,
	struct error *error)
{
	struct top top = {
		.cli = cli,
		.client = client,
		.agent = agent,
		.screen = cli->screen ? cli->screen : screens[SCREEN_FLOWS],
		.units = cli->units,
		.interval_ns = cli->interval_ns,
	};
	const char *term = getenv("TERM");
	SCREEN *terminal;

	if (cli->by && !cli->screen)
		top.screen = screens[SCREEN_OWNERS];
	top.by = group_place(cli);
	gethostname(top.host, sizeof(top.host) - 1);
	snprintf(top.filter, sizeof(top.filter), "%s", filter ? filter : "");
	sorts_choose(cli, top.sorts);
	for (size_t i = 0; i < SCREEN_COUNT; i++)
		top.reverse[i] = cli->reverse;
	weir_client_set_timeout(client, REQUEST_TIMEOUT_S);

	terminal = newterm(NULL, stdout, stdin);
	if (!terminal) {
		error_set(error, -ENOTTY, "the terminal type '%s' is not known here", term ? term : "");
		return error_want(error, "set TERM, or use 'weir top --once'");
	}
	set_escdelay(25);
	cbreak();
	noecho();
	nonl();
	keypad(stdscr, true);
	nodelay(stdscr, true);
	top.look = look_choose(cli);

	top_loop(&top);

	endwin();
	delscreen(terminal);
	json_decref(top.status);
	json_decref(top.answer);
	return 0;
}

/* ---- one plain picture ---- */

static int once_screen_print(const struct cli *cli, struct weir_client *client, const struct screen *screen,
	const struct question *question, const struct style *style, struct error *error)
{
	_cleanup_json_ json_t *answer = NULL;
	int r;

	r = screen_ask(client, screen, question, &answer, error);
	if (r < 0)
		return r;
	printf("\n%s%s%s%s%s%s%s\n", style->bold, screen->name, question->by ? ", each " : "",
		question->by ? question->by : "", question->sort ? " by " : "",
		question->sort ? question->sort->name : "", style->reset);
	return screen_table_print(screen, answer, cli->units, style, error);
}

int top_print(const struct cli *cli, struct weir_client *client, const char *filter, struct error *error)
{
	const struct style *style = style_choose(cli->color);
	const struct screen *screen = cli->by && !cli->screen ? screens[SCREEN_OWNERS] : cli->screen;
	const struct sort_key *sorts[SCREEN_COUNT] = {};
	_cleanup_json_ json_t *status = NULL;
	char host[256] = "", uptime[32], in[32], out[32];
	uint64_t in_bps, out_bps;
	struct losses losses;
	int r;

	r = ask_json(client, "GET", "/v1/status", NULL, &status, error);
	if (r < 0)
		return r;
	gethostname(host, sizeof(host) - 1);
	rates_sum(status, &in_bps, &out_bps);
	printf("weir  %s  up %s  in %s  out %s\n", host,
		duration_format(uptime, sizeof(uptime), json_get_number(status, "uptime") * 1000000000),
		rate_format(in, sizeof(in), in_bps, cli->units),
		rate_format(out, sizeof(out), out_bps, cli->units));
	losses_read(status, &losses);
	losses_line_print(&losses, cli->units, style);

	sorts_choose(cli, sorts);
	for (size_t i = 0; i < SCREEN_COUNT; i++) {
		struct question question = {.filter = filter,
			.sort = sorts[i],
			.reverse = cli->reverse,
			.by = i == SCREEN_OWNERS ? screen_groups[group_place(cli)] : NULL,
			.limit = screen ? ONCE_LIMIT_ONE : ONCE_LIMIT_ALL};

		if (screen && screen != screens[i])
			continue;
		if (cli->limit)
			question.limit = cli->limit;
		r = once_screen_print(cli, client, screens[i], &question, style, error);
		if (r < 0)
			return r;
	}
	return 0;
}
