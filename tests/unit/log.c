/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include "basic/log.h"

#include <errno.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "unit.h"

/* Runs `speak` in a process of its own, with standard error in a file that may pass for the journal; what
 * was written, to be freed. */
static char *heard(void (*speak)(void), bool is_journal)
{
	FILE *file = tmpfile();
	char *text = calloc(1, 8192), stream[64];
	struct stat st;
	int status;
	pid_t pid;

	assert_non_null(file);
	assert_non_null(text);
	assert_int_equal(fstat(fileno(file), &st), 0);
	snprintf(stream, sizeof(stream), "%ju:%ju", (uintmax_t)st.st_dev,
		(uintmax_t)(is_journal ? st.st_ino : 0));

	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		setenv("JOURNAL_STREAM", stream, 1);
		dup2(fileno(file), STDERR_FILENO);
		speak();
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	rewind(file);
	text[fread(text, 1, 8191, file)] = '\0';
	fclose(file);
	return text;
}

static void expect_heard(void (*speak)(void), bool is_journal, const char *wanted)
{
	char *text = heard(speak, is_journal);

	assert_string_equal(text, wanted);
	free(text);
}

static void speak_all(void)
{
	log_set_level(LOG_LEVEL_DEBUG);
	log_error("%d", 1);
	log_warning("%s", "two");
	log_info("ready");
	log_debug("detail");
}

static void a_person_is_told_who_speaks_and_how_bad_it_is(void **state)
{
	(void)state;
	expect_heard(
		speak_all, false, "weir: error: 1\nweir: warning: two\nweir: ready\nweir: debug: detail\n");
}

static void the_journal_gets_priorities(void **state)
{
	(void)state;
	expect_heard(speak_all, true, "<3>1\n<4>two\n<6>ready\n<7>detail\n");
}

static void speak_by_default(void)
{
	log_error("e");
	log_warning("w");
	log_info("i");
	log_debug("d");
}

static void speak_errors_only(void)
{
	log_set_level(LOG_LEVEL_ERROR);
	speak_by_default();
}

static void what_is_below_the_level_is_not_said(void **state)
{
	(void)state;
	expect_heard(speak_by_default, false, "weir: error: e\nweir: warning: w\nweir: i\n");
	expect_heard(speak_errors_only, false, "weir: error: e\n");
}

static void speak_lines(void)
{
	log_info("one\ntwo\033[1m");
}

static void an_event_is_one_line(void **state)
{
	(void)state;
	expect_heard(speak_lines, false, "weir: one?two?[1m\n");
}

static void speak_long(void)
{
	char text[4000];

	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	log_info("%s", text);
}

static void a_long_event_is_cut_and_still_one_line(void **state)
{
	char *text = heard(speak_long, false);

	(void)state;
	assert_true(strlen(text) > 1000 && strlen(text) < 4000);
	assert_ptr_equal(strchr(text, '\n'), text + strlen(text) - 1);
	free(text);
}

static void speak_and_compare_errno(void)
{
	errno = ENOENT;
	log_info("x");
	if (errno != ENOENT)
		_exit(1);
	close(STDERR_FILENO);
	log_info("x");
	if (errno != ENOENT)
		_exit(1);
}

static void errno_survives_a_log_line(void **state)
{
	(void)state;
	expect_heard(speak_and_compare_errno, false, "weir: x\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST("a person is told who speaks and how bad it is",
			a_person_is_told_who_speaks_and_how_bad_it_is),
		TEST("the journal gets priorities", the_journal_gets_priorities),
		TEST("what is below the level is not said", what_is_below_the_level_is_not_said),
		TEST("an event is one line", an_event_is_one_line),
		TEST("a long event is cut and still one line", a_long_event_is_cut_and_still_one_line),
		TEST("errno survives a log line", errno_survives_a_log_line),
	};

	return cmocka_run_group_tests_name("log", tests, NULL, NULL);
}
