/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * weir capture: packets to a file, to a pipe, or as lines.
 *
 * What the agent sends is pcapng already; a file gets its blocks as they come.  Where agent and command share
 * memory, most of them are only named, and go from that memory to the file.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "basic/clock.h"
#include "basic/text.h"
#include "basic/units.h"
#include "cli/ask.h"
#include "cli/cli.h"
#include "cli/follow.h"
#include "cli/pcapng.h"
#include "cli/shared.h"
#include "cli/view/packet.h"
#include "cli/view/table.h"

#define STOP        1 /* ends the stream */
#define PIECES_MAX  CAPTURE_RUNS_MAX
#define PROGRESS_NS 1000000000ULL
#define NAME_NS     50000000

/* A capture as it comes in. */
struct capture {
	const struct cli *cli;
	char *id; /* the agent's name for it */
	/* to a file */
	int file;         /* -1: lines */
	bool made, cut;   /* the file is new; it can be cut */
	bool begun, full; /* there is something for it; no more fits */
	bool each;        /* it is one for each event: its name is to be made of the time */
	char name[PATH_MAX];
	struct error unopened; /* of such a file */
	int failure;           /* why writing failed: errno */
	uint64_t kept;         /* bytes of whole blocks in the file */
	struct shared shared;
	struct iovec pieces[PIECES_MAX]; /* whole blocks that are to be written */
	size_t piece_count;
	/* as lines */
	struct json_write json;
	/* both */
	struct pcapng_reader reader;
	struct pcapng_interface *interfaces;
	uint64_t *accepted, *lost; /* by interface, as last told */
	size_t interface_count;
	struct pcapng_process *processes;
	size_t process_count;
	uint64_t packets;
	uint32_t packets_waiting; /* in the pieces */
	uint64_t shown_ns;
	int trouble; /* with the agent's answer: a negative errno */
	bool ending;
	/* --when: the answer has begun; what was waited for has happened */
	bool waiting, happened;
};

/* -- the sentence -- */

/* What stands behind the expression, each at most once. */
enum clause { CLAUSE_AT, CLAUSE_ON, CLAUSE_BY, CLAUSES };

static const char *const clause_words[CLAUSES + 1] = {"at", "on", "by", NULL};

struct sentence {
	char *text;       /* all words, cut up */
	char *expression; /* in it, as the others */
	char *values[CLAUSES];
};

static enum clause clause_find(const char *word, size_t length)
{
	enum clause clause = 0;

	while (clause < CLAUSES &&
		(strlen(clause_words[clause]) != length || strncmp(word, clause_words[clause], length) != 0))
		clause++;
	return clause;
}

static int clause_fail(struct error *error, const char *text, const char *place)
{
	static const char want[] = "[EXPRESSION] [at xdp|tc|socket|drop] [on INTERFACE] [by OWNER]";

	error_at(error, "", text, (size_t)(place - text));
	return error_want(error, "%s", want);
}

/* The words with a space between two; to be freed; NULL without memory. */
static char *words_join(const struct cli *cli)
{
	size_t size = 1;
	char *text, *place;

	for (int i = 0; i < cli->word_count; i++)
		size += strlen(cli->words[i]) + 1;
	text = place = calloc(1, size);
	for (int i = 0; text && i < cli->word_count; i++)
		place = stpcpy(stpcpy(place, i ? " " : ""), cli->words[i]);
	return text;
}

/* Cuts sentence->text, of which `whole` is a copy for messages. */
static int sentence_cut(struct sentence *sentence, const char *whole, struct error *error)
{
	sentence->expression = sentence->text;
	for (char *place = sentence->text; *place;) {
		size_t spaces = strspn(place, " \t\n"), length = strcspn(place + spaces, " \t\n");
		char *word = place + spaces, *value;
		enum clause clause = clause_find(word, length);

		if (clause == CLAUSES || !length) {
			place = word + length;
			continue;
		}
		value = word + length + strspn(word + length, " \t\n");
		if (!*value || sentence->values[clause]) {
			error_set(error, -EINVAL,
				*value ? "'%s' stands there twice" : "'%s' needs a word behind it",
				clause_words[clause]);
			return clause_fail(error, whole, whole + (word - sentence->text));
		}
		sentence->values[clause] = value;
		*word = '\0';
		if (word > sentence->text)
			word[-1] = '\0';
		/* the value: up to the next of these words */
		place = value + strcspn(value, " \t\n");
	}
	/* no space behind a value, and one word only but for an owner */
	for (enum clause clause = 0; clause < CLAUSES; clause++) {
		char *value = sentence->values[clause], *end = value ? value + strlen(value) : NULL;

		while (value && end > value && strchr(" \t\n", end[-1]))
			*--end = '\0';
		if (!value || clause == CLAUSE_BY || !strpbrk(value, " \t\n"))
			continue;
		value += strcspn(value, " \t\n");
		error_set(error, -EINVAL, "unexpected word behind '%s'", clause_words[clause]);
		return clause_fail(error, whole, whole + (value + strspn(value, " \t\n") - sentence->text));
	}
	return 0;
}

/* Cuts the words into the expression and its clauses: the first `at`, `on` or `by` ends the expression, in
 * which none of them is a word. */
static int sentence_read(const struct cli *cli, struct sentence *ret_sentence, struct error *error)
{
	struct sentence sentence = {.text = words_join(cli)};
	char *whole = sentence.text ? strdup(sentence.text) : NULL;
	int r;

	r = whole ? sentence_cut(&sentence, whole, error) : error_set(error, -ENOMEM, "no memory");
	free(whole);
	if (r < 0) {
		free(sentence.text);
		return r;
	}
	*ret_sentence = sentence;
	return 0;
}

/* -- the question -- */

/* What was given, be it empty: the agent says what is wrong with it. */
static void query_add_given(FILE *query, const char *name, const char *value)
{
	_cleanup_free_ char *escaped = value ? weir_escape(value) : NULL;

	if (escaped)
		fprintf(query, "%s%s=%s", ftell(query) ? "&" : "", name, escaped);
}

static void query_add(FILE *query, const char *name, const char *value)
{
	if (value && *value)
		query_add_given(query, name, value);
}

static void query_add_number(FILE *query, const char *name, uint64_t value)
{
	if (value)
		fprintf(query, "%s%s=%" PRIu64, ftell(query) ? "&" : "", name, value);
}

static char *query_make(
	const struct cli *cli, const struct sentence *sentence, const char *id, const char *shared)
{
	char *text = NULL, duration[32];
	size_t size;
	FILE *query = open_memstream(&text, &size);

	if (!query)
		return NULL;
	query_add(query, "expression", sentence->expression);
	query_add(query, "at", sentence->values[CLAUSE_AT]);
	query_add(query, "interface", sentence->values[CLAUSE_ON]);
	query_add(query, "owner", sentence->values[CLAUSE_BY]);
	query_add_number(query, "snaplen", cli->snaplen);
	query_add_number(query, "count", cli->packets);
	query_add_given(query, "before", cli->before);
	query_add_given(query, "when", cli->when);
	if (cli->for_ns)
		query_add(query, "for", duration_print(duration, sizeof(duration), cli->for_ns));
	query_add(query, "id", id);
	query_add(query, "share", shared);
	return fclose(query) == 0 ? text : NULL;
}

/* -- the answer -- */

static uint64_t lost_of(const struct capture *capture)
{
	uint64_t lost = 0;

	for (size_t i = 0; i < capture->interface_count; i++)
		lost += capture->lost[i];
	return lost;
}

static uint64_t matched_of(const struct capture *capture)
{
	uint64_t accepted = 0;

	for (size_t i = 0; i < capture->interface_count; i++)
		accepted += capture->accepted[i];
	return accepted > capture->packets ? accepted : capture->packets;
}

static int on_interface(struct capture *capture, const uint8_t *block, uint32_t bytes)
{
	size_t count = capture->interface_count + 1;
	struct pcapng_interface *interfaces =
		reallocarray(capture->interfaces, count, sizeof(struct pcapng_interface));
	uint64_t *accepted, *lost;

	if (!interfaces)
		return -ENOMEM;
	capture->interfaces = interfaces;
	accepted = reallocarray(capture->accepted, count, sizeof(uint64_t));
	if (!accepted)
		return -ENOMEM;
	capture->accepted = accepted;
	lost = reallocarray(capture->lost, count, sizeof(uint64_t));
	if (!lost)
		return -ENOMEM;
	capture->lost = lost;
	if (pcapng_interface_read(block, bytes, &interfaces[count - 1]) < 0)
		return -EPROTO;
	accepted[count - 1] = lost[count - 1] = 0;
	capture->interface_count = count;
	return 0;
}

static int on_process(struct capture *capture, const uint8_t *block, uint32_t bytes)
{
	struct pcapng_process *processes =
		reallocarray(capture->processes, capture->process_count + 1, sizeof(struct pcapng_process));

	if (!processes)
		return -ENOMEM;
	capture->processes = processes;
	if (pcapng_process_read(block, bytes, &processes[capture->process_count]) < 0)
		return -EPROTO;
	capture->process_count++;
	return 0;
}

static void on_statistics(struct capture *capture, const uint8_t *block, uint32_t bytes)
{
	struct pcapng_statistics statistics;

	if (pcapng_statistics_read(block, bytes, &statistics) == 0 &&
		statistics.interface < capture->interface_count) {
		capture->accepted[statistics.interface] = statistics.accepted;
		capture->lost[statistics.interface] = statistics.lost;
	}
	/* of a file that is cut, the end that was meant for it, where there is room for all of it */
	if (!capture->full)
		return;
	if (pwrite(capture->file, block, bytes, (off_t)capture->kept) == (ssize_t)bytes)
		capture->kept += bytes;
	else if (ftruncate(capture->file, (off_t)capture->kept) < 0)
		capture->failure = errno;
}

static int packet_show(struct capture *capture, const uint8_t *block, uint32_t bytes)
{
	struct packet_origin origin = {.interface = "?"};
	struct pcapng_packet packet;

	if (pcapng_packet_read(block, bytes, &packet) < 0)
		return -EPROTO;
	if (packet.interface < capture->interface_count) {
		origin.interface = capture->interfaces[packet.interface].name;
		origin.link = capture->interfaces[packet.interface].link;
	}
	if (packet.process < capture->process_count)
		origin.process = &capture->processes[packet.process];
	if (!capture->cli->json) {
		packet_print(&packet, &origin, stdout);
		return 0;
	}
	packet_write(&packet, &origin, &capture->json);
	fwrite(capture->json.text, 1, capture->json.length, stdout);
	json_write_clear(&capture->json);
	capture->json.comma = false;
	return 0;
}

static int look_at_block(struct capture *capture, uint32_t type, const uint8_t *block, uint32_t bytes)
{
	switch (type) {
	case PCAPNG_PACKET:
		return capture->file < 0 ? packet_show(capture, block, bytes) : 0;
	case PCAPNG_STATISTICS:
		on_statistics(capture, block, bytes);
		return 0;
	case PCAPNG_INTERFACE:
		return on_interface(capture, block, bytes);
	case PCAPNG_PROCESS:
		return on_process(capture, block, bytes);
	default:
		return 0;
	}
}

/* Asks the agent to send what it has and to end. */
static void ask_end(struct capture *capture)
{
	_cleanup_client_ struct weir_client *client = NULL;
	_cleanup_free_ char *body = NULL, *query = NULL;
	struct error error;

	if (capture->ending)
		return;
	capture->ending = true;
	if (asprintf(&query, "id=%s", capture->id) < 0)
		query = NULL;
	else if (client_open(capture->cli, &client, &error) == 0)
		ask_text(client, "POST", "/v1/capture/end", query, &body, NULL, &error);
}

/* -- the file -- */

static int file_open(struct capture *capture, const char *name, struct error *error)
{
	struct stat status;

	if (strcmp(name, "-") == 0) {
		if (isatty(STDOUT_FILENO)) {
			error_set(error, -EINVAL, "pcapng is not for a terminal");
			return error_want(error, "a pipe: weir capture -w - | wireshark -k -i -");
		}
		capture->file = STDOUT_FILENO;
		return 0;
	}
	/* what is in it stays until there is something to put in its place */
	capture->file = open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	capture->made = capture->file >= 0;
	if (capture->file < 0 && errno == EEXIST)
		capture->file = open(name, O_WRONLY | O_CLOEXEC);
	if (capture->file < 0)
		return error_set(error, -EIO, "cannot write %s: %s", name, strerror(errno));
	capture->cut = fstat(capture->file, &status) == 0 && S_ISREG(status.st_mode);
	return 0;
}

/* The name of a file for an event of now. */
static int file_name(const char *pattern, char name[static PATH_MAX])
{
	time_t now = time(NULL);
	struct tm parts;

	/* where a pattern may be of any kind, the compiler cannot check it */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
	return localtime_r(&now, &parts) && strftime(name, PATH_MAX, pattern, &parts) ? 0 : -ENAMETOOLONG;
#pragma GCC diagnostic pop
}

/* The files of events come later: can there be any? */
static int file_look_ahead(struct capture *capture, struct error *error)
{
	char *slash;
	int r = file_name(capture->cli->file, capture->name);

	if (r < 0)
		return error_set(error, r, "cannot write %s: %s", capture->cli->file, strerror(-r));
	slash = strrchr(capture->name, '/');
	if (slash)
		slash[slash == capture->name] = '\0';
	if (access(slash ? capture->name : ".", W_OK) < 0)
		return error_set(error, -EIO, "cannot write into %s: %s", slash ? capture->name : ".",
			strerror(errno));
	return 0;
}

static int file_prepare(struct capture *capture, struct error *error)
{
	const char *name = capture->cli->file;

	if (!name)
		return 0;
	if (capture->each)
		return file_look_ahead(capture, error);
	if (strlen(name) >= sizeof(capture->name))
		return error_set(error, -ENAMETOOLONG, "cannot write %s: %s", name, strerror(ENAMETOOLONG));
	snprintf(capture->name, sizeof(capture->name), "%s", name);
	return file_open(capture, name, error);
}

/* There is something to put into it.  0, or STOP with capture->unopened. */
static int file_begin(struct capture *capture)
{
	if (capture->each) {
		file_name(capture->cli->file, capture->name);
		if (file_open(capture, capture->name, &capture->unopened) < 0)
			return STOP;
	}
	capture->begun = true;
	if (capture->cut && ftruncate(capture->file, 0) < 0)
		capture->cut = false;
	return 0;
}

/* -- to a file -- */

/* Of pieces of which only so many bytes could be written: counts the packets that are whole. */
static void count_whole(struct capture *capture, size_t written)
{
	for (size_t i = 0; i < capture->piece_count; i++) {
		const uint8_t *block = capture->pieces[i].iov_base, *end = block + capture->pieces[i].iov_len;
		uint32_t head[2]; /* type and length */

		for (; block < end; block += head[1]) {
			if (end - block < (ptrdiff_t)sizeof(head))
				return;
			memcpy(head, block, sizeof(head));
			if (!head[1] || head[1] > written)
				return;
			written -= head[1];
			capture->kept += head[1];
			capture->packets += head[0] == PCAPNG_PACKET;
		}
	}
}

/* No more fits: what is behind the last whole block is cut off, and the agent is asked for the end. */
static int file_full(struct capture *capture)
{
	capture->full = true;
	if (!capture->cut || ftruncate(capture->file, (off_t)capture->kept) < 0)
		return STOP;
	ask_end(capture);
	return 0;
}

/* Writes the pieces, in which there are so many packets. */
static int pieces_write(struct capture *capture, uint32_t packets)
{
	struct iovec rest[PIECES_MAX], *next = rest;
	size_t count = capture->piece_count, written = 0, left = 0;

	if (!count)
		return 0;
	memcpy(rest, capture->pieces, count * sizeof(rest[0]));
	for (size_t i = 0; i < count; i++)
		left += rest[i].iov_len;
	while (left && !capture->failure) {
		ssize_t n = writev(capture->file, next, (int)count);
		size_t gone = n > 0 ? (size_t)n : 0;

		if (n < 0 && errno != EINTR)
			capture->failure = errno;
		written += gone;
		left -= gone;
		while (count && gone >= next->iov_len) {
			gone -= next->iov_len;
			next++;
			count--;
		}
		if (count) {
			next->iov_base = (uint8_t *)next->iov_base + gone;
			next->iov_len -= gone;
		}
	}
	if (left) {
		count_whole(capture, written);
	} else {
		capture->kept += written;
		capture->packets += packets;
	}
	capture->piece_count = 0;
	return left ? file_full(capture) : 0;
}

/* Writes the blocks of this part that are still to be written. */
static int blocks_flush(struct capture *capture)
{
	uint32_t packets = capture->packets_waiting;

	capture->packets_waiting = 0;
	return pieces_write(capture, packets);
}

static int block_keep(struct capture *capture, uint32_t type, const uint8_t *block, uint32_t bytes)
{
	struct iovec *last = capture->pieces + capture->piece_count - 1;
	int r;

	if (capture->piece_count && (uint8_t *)last->iov_base + last->iov_len == block) {
		last->iov_len += bytes;
	} else {
		r = capture->piece_count == PIECES_MAX ? blocks_flush(capture) : 0;
		if (r || capture->full)
			return r;
		capture->pieces[capture->piece_count++] = (struct iovec){(void *)block, bytes};
	}
	capture->packets_waiting += type == PCAPNG_PACKET;
	/* what the reader holds does not stay there */
	return block == capture->reader.held ? blocks_flush(capture) : 0;
}

static int shared_keep(struct capture *capture, const uint8_t *block, uint32_t bytes)
{
	uint32_t packets = 0;
	int r = blocks_flush(capture);

	if (r)
		return r;
	r = shared_read(&capture->shared, block, bytes, capture->pieces, &capture->piece_count, &packets);
	if (r < 0)
		return r;
	if (capture->full)
		capture->piece_count = 0;
	r = pieces_write(capture, packets);
	shared_written(&capture->shared);
	return r;
}

/* With --when there are two: what is waited for, and what has happened.  The file begins with the second. */
static int on_section(struct capture *capture, const uint8_t *block, uint32_t bytes)
{
	struct pcapng_section section;
	char text[sizeof(section.comment)];

	if (pcapng_section_read(block, bytes, &section) < 0)
		return -EPROTO;
	fprintf(stderr, "%s\n", text_fit(text, sizeof(text), section.comment, 0));
	capture->happened = capture->waiting;
	capture->waiting = true;
	return capture->happened ? file_begin(capture) : 0;
}

static int on_block(void *user, uint32_t type, const uint8_t *block, uint32_t bytes)
{
	struct capture *capture = user;
	int r = 0;

	if (type == CAPTURE_BLOCK_SHARED)
		return shared_keep(capture, block, bytes);
	if (type == PCAPNG_SECTION && capture->cli->when) {
		r = on_section(capture, block, bytes);
		if (r || !capture->happened)
			return r;
	}
	if (capture->file < 0)
		capture->packets += type == PCAPNG_PACKET;
	else if (!capture->full)
		r = block_keep(capture, type, block, bytes);
	return r ? r : look_at_block(capture, type, block, bytes);
}

static void show_progress(struct capture *capture)
{
	char count[32];
	uint64_t now_ns;

	if (capture->file < 0 || !isatty(STDERR_FILENO))
		return;
	now_ns = clock_ns(CLOCK_MONOTONIC);
	if (now_ns - capture->shown_ns < PROGRESS_NS)
		return;
	capture->shown_ns = now_ns;
	fprintf(stderr, "\r%s packets captured, %" PRIu64 " lost ",
		count_format(count, sizeof(count), capture->packets, UNITS_EXACT), lost_of(capture));
}

static int on_part(void *user, const char *data, size_t length)
{
	struct capture *capture = user;
	int r = 0, s;

	if (follow_interrupted())
		ask_end(capture);
	if (data && !capture->begun && !capture->cli->when)
		file_begin(capture);
	if (data) {
		r = pcapng_read(&capture->reader, data, length, on_block, capture);
		s = blocks_flush(capture);
		if (!r)
			r = s;
	}
	if (r < 0)
		capture->trouble = r;
	if (r)
		return r;
	show_progress(capture);
	return capture->file >= 0 || fflush(stdout) == 0 ? 0 : STOP;
}

static int file_end(struct capture *capture, struct error *error)
{
	const char *name = capture->name;

	if (capture->unopened.code) {
		*error = capture->unopened;
		return error->code;
	}
	if (capture->file < 0)
		return 0;
	if (!capture->failure && capture->file != STDOUT_FILENO && close(capture->file) < 0)
		capture->failure = errno;
	if (capture->made && !capture->begun)
		unlink(name);
	if (!capture->failure)
		return 0;
	error_set(error, -EIO, "writing %s: %s", strcmp(name, "-") == 0 ? "standard output" : name,
		strerror(capture->failure));
	if (capture->cut)
		error_want(
			error, "the %" PRIu64 " packets captured before are in the file", capture->packets);
	return error->code;
}

static void capture_free(struct capture *capture)
{
	pcapng_reader_free(&capture->reader);
	shared_close(&capture->shared);
	json_write_free(&capture->json);
	free(capture->interfaces);
	free(capture->accepted);
	free(capture->lost);
	free(capture->processes);
	free(capture->id);
}

static char *id_make(void)
{
	struct timespec now;
	char *id;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return asprintf(&id, "%d-%lld%09ld", (int)getpid(), (long long)now.tv_sec, now.tv_nsec) < 0 ? NULL
	                                                                                            : id;
}

static int capture_run(
	struct capture *capture, const struct cli *cli, const struct sentence *sentence, struct error *error)
{
	_cleanup_client_ struct weir_client *client = NULL;
	_cleanup_free_ char *query = NULL;
	struct error end_error = {};
	int r, end;

	capture->id = id_make();
	/* without, the agent sends the packets themselves */
	if (cli->file && shared_open(&capture->shared) < 0)
		capture->shared = (struct shared){.socket = -1};
	query = capture->id ? query_make(cli, sentence, capture->id, capture->shared.name) : NULL;
	if (!query)
		return error_set(error, -ENOMEM, "no memory");
	r = client_open(cli, &client, error);
	if (r == 0)
		r = file_prepare(capture, error);
	if (r < 0)
		return r;
	/* what is waited for may take its time */
	if (cli->when)
		weir_client_set_timeout(client, 0);
	r = ask_stream(client, "POST", "/v1/capture", query, on_part, capture, error);
	if (capture->trouble)
		r = error_set(error, capture->trouble, "what the agent sends cannot be used: %s",
			strerror(-capture->trouble));
	if (capture->shown_ns)
		putc('\n', stderr);
	end = file_end(capture, &end_error);
	if (end < 0) {
		*error = end_error;
		return end;
	}
	return r;
}

/* One capture, and what came of it. */
static int capture_once(
	const struct cli *cli, const struct sentence *sentence, struct capture *capture, struct error *error)
{
	int r = capture_run(capture, cli, sentence, error);

	if (capture->interface_count)
		fprintf(stderr, "%" PRIu64 " packets captured, %" PRIu64 " matched, %" PRIu64 " lost\n",
			capture->packets, matched_of(capture), lost_of(capture));
	capture_free(capture);
	return r;
}

/* Waits until a file would have another name: what is in this one stays. */
static void name_wait(const char *pattern, const char *name)
{
	static const struct timespec moment = {.tv_nsec = NAME_NS};
	char next[PATH_MAX];

	while (!follow_interrupted() && file_name(pattern, next) == 0 && strcmp(name, next) == 0)
		nanosleep(&moment, NULL);
}

static int capture_all(const struct cli *cli, const struct sentence *sentence, struct error *error)
{
	struct capture capture;
	int r;

	do {
		capture = (struct capture){
			.cli = cli,
			.file = -1,
			.each = cli->when && cli->file && strchr(cli->file, '%'),
			.shared = {.socket = -1},
		};
		if (capture.each && !cli->for_ns && !cli->packets) {
			error_set(error, -EINVAL, "with a file for each event a capture needs an end");
			return error_want(error, "--for TIME or --count N");
		}
		r = capture_once(cli, sentence, &capture, error);
		if (r == 0 && capture.each && capture.happened)
			name_wait(cli->file, capture.name);
	} while (r == 0 && capture.each && capture.happened && !follow_interrupted());
	return r;
}

int cmd_capture(const struct cli *cli)
{
	struct sentence sentence = {};
	struct error error = {};
	int r;

	if (sentence_read(cli, &sentence, &error) < 0)
		return fail_usage(&error);
	follow_catch_signals();
	r = capture_all(cli, &sentence, &error);
	free(sentence.text);
	return r < 0 ? fail(&error) : output_end(EXIT_OK);
}
