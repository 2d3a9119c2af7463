/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include <errno.h>
#include <stdio.h>

#include "agent/rule/apply.h"
#include "cli/ask.h"
#include "cli/cli.h"
#include "cli/file.h"
#include "model/config.h"

static int check_json(const char *file, const struct error *error)
{
	_cleanup_json_ json_t *document = json_pack("{s:s, s:b}", "file", file, "valid", !error);
	json_t *problem;

	if (!document)
		return -ENOMEM;
	if (error) {
		problem = json_pack("{s:s}", "what", error->what);
		if (json_object_set_new(document, "error", problem) < 0)
			return -ENOMEM;
		if (error->want[0])
			json_object_set_new(problem, "want", json_string(error->want));
		if (error->line)
			json_object_set_new(problem, "line", json_integer(error->line));
		if (error->column)
			json_object_set_new(problem, "column", json_integer(error->column));
		if (error->column && error->caret != error->column)
			json_object_set_new(problem, "caret", json_integer(error->caret));
		if (error->excerpt[0])
			json_object_set_new(problem, "text", json_string(error->excerpt));
	}
	if (json_dumpf(document, stdout, JSON_COMPACT) < 0)
		return -EIO;
	putchar('\n');
	return 0;
}

/* All that a start looks at before it asks the kernel. */
static int file_check(const char *file, struct error *error)
{
	_cleanup_free_ char *text = NULL;
	struct config config;
	size_t length = 0;
	int r = file_read(file, CONFIG_BYTES_MAX, &text, &length, error);

	if (r == 0)
		r = config_read_text(text, length, file, &config, error);
	if (r < 0)
		return r;
	r = apply_check(&config.policy, text, file, error);
	config_free(&config);
	return r;
}

int cmd_check(const struct cli *cli)
{
	const char *file = cli->words[0];
	struct error error = {};
	int r = file_check(file, &error);

	if (cli->json) {
		if (check_json(file, r < 0 ? &error : NULL) < 0) {
			error_set(&error, -ENOMEM,
				"cannot write the answer as JSON; the name of the file may not be UTF-8");
			return fail(&error);
		}
	} else if (r < 0) {
		error_print(&error, "weir: ", stderr);
	} else {
		printf("%s: valid\n", file);
	}
	return output_end(r < 0 ? EXIT_FAILED : EXIT_OK);
}
