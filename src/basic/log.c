/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include "basic/log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LINE_MAX_BYTES 2048

/* What stands before a line: the journal gets its priority, a person who it is and how bad. */
static const struct {
	const char *name;
	const char *journal;
	const char *person;
} levels[] = {
	[LOG_LEVEL_ERROR] = {"error", "<3>", "weir: error: "},
	[LOG_LEVEL_WARNING] = {"warning", "<4>", "weir: warning: "},
	[LOG_LEVEL_INFO] = {"info", "<6>", "weir: "},
	[LOG_LEVEL_DEBUG] = {"debug", "<7>", "weir: debug: "},
};

static enum log_level log_level = LOG_LEVEL_INFO;

void log_set_level(enum log_level level)
{
	log_level = level;
}

/* systemd names the stream it gave us in JOURNAL_STREAM (systemd.exec(5)); it is inherited by everything we
 * start, so only a match with standard error's own device and inode means the journal. */
static bool stderr_is_journal(void)
{
	const char *stream = getenv("JOURNAL_STREAM");
	uintmax_t device, inode;
	struct stat st;
	char *end;

	if (!stream || fstat(STDERR_FILENO, &st) < 0)
		return false;
	device = strtoumax(stream, &end, 10);
	if (*end != ':')
		return false;
	inode = strtoumax(end + 1, &end, 10);
	return !*end && device == st.st_dev && inode == st.st_ino;
}

__attribute__((format(printf, 2, 0))) static void log_write(
	enum log_level level, const char *format, va_list args)
{
	static int is_journal = -1;
	char line[LINE_MAX_BYTES];
	int saved_errno = errno;
	size_t start, length;
	int n;

	if (level > log_level)
		return;
	if (is_journal < 0)
		is_journal = stderr_is_journal();

	n = snprintf(line, sizeof(line), "%s", is_journal ? levels[level].journal : levels[level].person);
	start = (size_t)n;
	n = vsnprintf(line + start, sizeof(line) - start - 1, format, args);
	if (n < 0)
		n = 0;
	length = start + (size_t)n;
	if (length > sizeof(line) - 2)
		length = sizeof(line) - 2;

	/* One event is one line, whatever names a peer chose. */
	for (size_t i = start; i < length; i++) {
		unsigned char c = (unsigned char)line[i];

		if (c < 0x20 || c == 0x7f)
			line[i] = '?';
	}
	line[length++] = '\n';

	/* One write, so that lines of several processes do not mix; where it fails nobody is left to tell. */
	if (write(STDERR_FILENO, line, length) < 0)
		errno = saved_errno;
	errno = saved_errno;
}

#define LOG_DEFINE(name, level)                                                                              \
	void name(const char *format, ...)                                                                   \
	{                                                                                                    \
		va_list args;                                                                                \
                                                                                                             \
		va_start(args, format);                                                                      \
		log_write(level, format, args);                                                              \
		va_end(args);                                                                                \
	}

LOG_DEFINE(log_error, LOG_LEVEL_ERROR)
LOG_DEFINE(log_warning, LOG_LEVEL_WARNING)
LOG_DEFINE(log_info, LOG_LEVEL_INFO)
LOG_DEFINE(log_debug, LOG_LEVEL_DEBUG)
