/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include "cli/filter.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "basic/cleanup.h"
#include "model/match.h"
#include "weir/weir.h"

char *words_join(const struct cli *cli, const char *first)
{
	size_t size = strlen(first) + 1;
	char *text, *p;

	for (int i = 0; i < cli->word_count; i++)
		size += strlen(cli->words[i]) + 1;
	text = malloc(size);
	if (!text)
		return NULL;
	p = stpcpy(text, first);
	for (int i = 0; i < cli->word_count; i++) {
		if (p != text)
			*p++ = ' ';
		p = stpcpy(p, cli->words[i]);
	}
	return text;
}

/* In quotes, where the shell took them away. */
static bool needs_quotes(const struct cli *cli, int i, const char *const *quoting)
{
	if (!i || cli->words[i][0] == '"')
		return false;
	for (; *quoting; quoting++)
		if (strcmp(cli->words[i - 1], *quoting) == 0)
			return true;
	return false;
}

char *sentence_join(const struct cli *cli, const char *first, const char *const *quoting)
{
	char *text = NULL;
	size_t length;
	FILE *out = open_memstream(&text, &length);

	if (!out)
		return NULL;
	fputs(first, out);
	for (int i = 0; i < cli->word_count; i++)
		fprintf(out, needs_quotes(cli, i, quoting) ? "%s\"%s\"" : "%s%s", i || *first ? " " : "",
			cli->words[i]);
	if (fclose(out) == 0)
		return text;
	free(text);
	return NULL;
}

char *rule_join(const struct cli *cli, const char *verb)
{
	static const char *const quoting[] = {"matching", NULL};

	return sentence_join(cli, verb, quoting);
}

char *query_make(const char *key, ...)
{
	char *text = NULL;
	const char *separator = "";
	bool failed = false;
	size_t length;
	FILE *out = open_memstream(&text, &length);
	va_list args;

	if (!out)
		return NULL;
	va_start(args, key);
	for (; key; key = va_arg(args, const char *)) {
		const char *value = va_arg(args, const char *);
		_cleanup_free_ char *escaped = value ? weir_escape(value) : NULL;

		if (!value)
			continue;
		failed |= !escaped;
		fprintf(out, "%s%s=%s", separator, key, escaped ? escaped : "");
		separator = "&";
	}
	va_end(args);
	if (fclose(out) == 0 && !failed)
		return text;
	free(text);
	return NULL;
}

int filter_read(const struct cli *cli, char **ret_filter, struct error *error)
{
	char *filter = words_join(cli, "");
	struct match match;
	int r;

	if (!filter)
		return error_set(error, -ENOMEM, "no memory");
	r = match_parse(filter, &match, error);
	if (r < 0)
		free(filter);
	else
		*ret_filter = filter;
	return r;
}
