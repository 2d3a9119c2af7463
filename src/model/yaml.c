/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include "model/yaml.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "basic/cleanup.h"
#include "basic/stream.h"
#include "basic/text.h"
#include "basic/units.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

#define FIELDS_MAX 32 /* keys of one mapping */

static const char *field_name(const struct yaml_field *field)
{
	const char *dot = strrchr(field->path, '.');

	return dot ? dot + 1 : field->path;
}

/*
 * Errors and where they are
 */

int yaml_fail(struct yaml *y, size_t at, const char *format, ...)
{
	char what[ERROR_TEXT_MAX];
	va_list args;

	va_start(args, format);
	vsnprintf(what, sizeof(what), format, args);
	va_end(args);
	error_set(y->error, -EINVAL, "%s", what);
	error_at(y->error, y->name, y->text, at);
	return -EINVAL;
}

int yaml_fail_memory(struct yaml *y)
{
	return error_set(y->error, -ENOMEM, "out of memory while reading %.128s", y->name);
}

/* Copies what fits of a scalar's text and returns its length.  Piece by piece, because of libfyaml 0.7.12:
 * where a text has many pieces (escapes, folded lines), fy_node_get_scalar() leaks 2 KiB of them, and
 * fy_token_iter_read() returns other bytes. */
static size_t scalar_copy(struct fy_node *node, char *buffer, size_t size)
{
	struct fy_token *token = fy_node_get_scalar_token(node);
	struct fy_token_iter *iterator = token ? fy_token_iter_create(token) : NULL;
	const struct fy_iter_chunk *piece = NULL;
	size_t length = 0, part;

	while (iterator && length < size - 1 && (piece = fy_token_iter_chunk_next(iterator, piece, NULL))) {
		part = piece->len < size - 1 - length ? piece->len : size - 1 - length;
		memcpy(buffer + length, piece->str, part);
		length += part;
	}
	if (iterator)
		fy_token_iter_destroy(iterator);
	buffer[length] = '\0';
	return length;
}

char *yaml_text_take(struct fy_node *value, size_t *ret_length)
{
	struct fy_token *token = fy_node_get_scalar_token(value);
	struct fy_token_iter *iterator = token ? fy_token_iter_create(token) : NULL;
	const struct fy_iter_chunk *piece = NULL;
	size_t length = 0;
	char *text = NULL;
	FILE *out = open_memstream(&text, &length);

	while (iterator && out && (piece = fy_token_iter_chunk_next(iterator, piece, NULL)))
		fwrite(piece->str, 1, piece->len, out);
	if (iterator)
		fy_token_iter_destroy(iterator);
	if (!out || fclose(out) != 0) {
		free(text);
		return NULL;
	}
	*ret_length = length;
	return text;
}

/* One of YAML's plain words for nothing (core schema, YAML 1.2, 10.3.2). */
static bool text_is_null(const char *text)
{
	static const char *const words[] = {"~", "null", "Null", "NULL"};

	for (size_t i = 0; i < COUNT(words); i++) {
		if (strcmp(words[i], text) == 0)
			return true;
	}
	return false;
}

/* Nothing behind the colon, or a word for it. */
bool yaml_is_null(struct fy_node *node)
{
	char text[8];

	if (fy_node_is_null(node))
		return true;
	if (!fy_node_is_scalar(node) || fy_node_get_style(node) != FYNS_PLAIN)
		return false;
	scalar_copy(node, text, sizeof(text));
	return text_is_null(text);
}

const char *yaml_text(struct fy_node *value, char *buffer, size_t size)
{
	size_t length;

	if (yaml_is_null(value) || !fy_node_is_scalar(value) || fy_node_is_alias(value))
		return NULL;
	length = scalar_copy(value, buffer, size);
	/* "\0" in double quotes would end it early, and what fills the buffer may have been cut */
	return strlen(buffer) == length && length < size - 1 ? buffer : NULL;
}

/* A scalar's own place, a list's or mapping's first scalar. */
size_t yaml_at(struct yaml *y, struct fy_node *node, size_t otherwise)
{
	void *iterator = NULL;
	struct fy_node_pair *pair;
	const struct fy_mark *mark;
	struct fy_token *token;
	size_t at;

	switch (node ? fy_node_get_type(node) : FYNT_SCALAR) {
	case FYNT_SEQUENCE:
		node = fy_node_sequence_iterate(node, &iterator);
		return node ? yaml_at(y, node, otherwise) : otherwise;
	case FYNT_MAPPING:
		pair = fy_node_mapping_iterate(node, &iterator);
		return pair ? yaml_at(y, fy_node_pair_key(pair), otherwise) : otherwise;
	case FYNT_SCALAR:
		break;
	}

	token = node ? fy_node_get_scalar_token(node) : NULL;
	mark = token ? fy_token_start_mark(token) : NULL;
	if (!mark)
		return otherwise;
	at = mark->input_pos;
	/* libfyaml's mark stands behind the quote or the alias's star, a person looks at these. */
	if (at && (strchr("\"'", y->text[at - 1]) || fy_node_is_alias(node)))
		at--;
	/* … and that of a text in lines of its own in front of how far these are moved in */
	return at + strspn(y->text + at, " ");
}

/* "flows.table: expected a number, got 'many'" */
int yaml_fail_expected(
	struct yaml *y, const char *path, const char *expected, struct fy_node *value, size_t key_at)
{
	size_t at = yaml_at(y, value, key_at);
	char text[64 + 1];

	if (yaml_is_null(value))
		return yaml_fail(y, at, "%s: expected %s, got nothing", path, expected);
	if (fy_node_is_sequence(value))
		return yaml_fail(y, at, "%s: expected %s, got a list", path, expected);
	if (fy_node_is_mapping(value))
		return yaml_fail(y, at, "%s: expected %s, got a mapping", path, expected);
	if (fy_node_is_alias(value))
		return yaml_fail(y, at, "%s: expected %s, got an alias", path, expected);
	scalar_copy(value, text, sizeof(text));
	return yaml_fail(y, at, "%s: expected %s, got '%s'", path, expected, text);
}

/* Where a place of a text stands in the file, which may have it on several lines; where the file has it
 * otherwise (escapes), its beginning. */
static size_t text_place(const struct yaml *y, size_t at, const char *text, size_t place)
{
	static const char space[] = " \t\r\n";
	size_t begin = at + strspn(y->text + at, space), i = 0, here = begin;

	here += y->text[here] == '"' || y->text[here] == '\'';
	while (i < place && text[i]) {
		if (strchr(space, text[i]) && strchr(space, y->text[here])) {
			i += strspn(text + i, space);
			here += strspn(y->text + here, space);
		} else if (text[i++] != y->text[here++]) {
			return begin;
		}
	}
	return here;
}

int yaml_fail_inside(
	struct yaml *y, const char *path, const char *text, const struct error *problem, size_t at)
{
	size_t column = problem->column ? problem->column - 1 : 0;
	struct error found = *problem;

	yaml_fail(y, text_place(y, at, text, column), "%s: %s", path, found.what);
	if (found.want[0])
		error_want(y->error, "%s", found.want);
	return -EINVAL;
}

/*
 * Numbers: one reader, told by a table what kind
 */

struct yaml_quantity {
	const char *noun;
	int (*parse)(const char *text, uint64_t *ret_value);
	char *(*print)(char *buffer, size_t size, uint64_t value);
	size_t width; /* of the member that it goes to */
};

int yaml_number_parse(const char *text, uint64_t *ret_value)
{
	uint64_t value = 0;
	bool too_large = false;

	if (!*text)
		return -EINVAL;
	for (; *text; text++) {
		if (*text < '0' || *text > '9')
			return -EINVAL;
		if (__builtin_mul_overflow(value, 10, &value) ||
			__builtin_add_overflow(value, (uint64_t)(*text - '0'), &value))
			too_large = true;
	}
	if (too_large)
		return -ERANGE;
	*ret_value = value;
	return 0;
}

static char *number_print(char *buffer, size_t size, uint64_t value)
{
	snprintf(buffer, size, "%" PRIu64, value);
	return buffer;
}

const struct yaml_quantity yaml_number = {"a number", yaml_number_parse, number_print, sizeof(uint32_t)};
const struct yaml_quantity yaml_size = {"a size", size_parse, size_print, sizeof(uint32_t)};
const struct yaml_quantity yaml_duration = {"a duration", duration_parse, duration_print, sizeof(uint64_t)};

/* "64kib to 64mib, a power of two" */
static int want_range(struct yaml *y, const struct yaml_field *field)
{
	char min[32], max[32];

	field->quantity->print(min, sizeof(min), field->min);
	field->quantity->print(max, sizeof(max), field->max);
	error_want(y->error, "%s to %s%s%s", min, max, field->power_of_two ? ", a power of two" : "",
		field->or_zero ? ", or 0 for never" : "");
	return -EINVAL;
}

static int fail_power_of_two(struct yaml *y, const struct yaml_field *field, uint64_t value, size_t at)
{
	char text[32], below[32], above[32];
	uint64_t power = field->min;

	while (power * 2 < value)
		power *= 2;
	field->quantity->print(text, sizeof(text), value);
	field->quantity->print(below, sizeof(below), power);
	field->quantity->print(above, sizeof(above), power * 2);
	yaml_fail(y, at, "%s: %s is not a power of two", field->path, text);
	error_want(y->error, "%s or %s", below, above);
	return -EINVAL;
}

int yaml_quantity_read(struct yaml *y, const struct yaml_field *field, struct fy_node *value, size_t key_at)
{
	char buffer[YAML_SCALAR_MAX];
	const char *text = yaml_text(value, buffer, sizeof(buffer));
	char *target = (char *)y->target + field->offset;
	size_t at = yaml_at(y, value, key_at);
	uint64_t result = 0;
	uint32_t narrow;
	int error = text ? field->quantity->parse(text, &result) : -EINVAL;

	if (error == -EINVAL) {
		yaml_fail_expected(y, field->path, field->quantity->noun, value, key_at);
		return want_range(y, field);
	}
	if (error == -ERANGE || result > field->max) {
		yaml_fail(y, at, "%s: %.64s is too large", field->path, text);
		return want_range(y, field);
	}
	if (result < field->min && !(field->or_zero && !result)) {
		yaml_fail(y, at, "%s: %.64s is too small", field->path, text);
		return want_range(y, field);
	}
	if (field->power_of_two && (result & (result - 1)))
		return fail_power_of_two(y, field, result, at);

	if (field->quantity->width == sizeof(uint32_t)) {
		narrow = (uint32_t)result; /* every maximum of these fields fits */
		memcpy(target, &narrow, sizeof(narrow));
	} else {
		memcpy(target, &result, sizeof(result));
	}
	return 0;
}

/*
 * Words
 */

int yaml_choice_read(struct yaml *y, const struct yaml_field *field, struct fy_node *value, size_t key_at,
	const char *const *known, unsigned int *ret_choice)
{
	char buffer[YAML_SCALAR_MAX];
	const char *text = yaml_text(value, buffer, sizeof(buffer));
	const char *nearest;
	char want[128] = "";
	size_t length = 0;

	for (unsigned int i = 0; text && known[i]; i++) {
		if (strcmp(known[i], text) == 0) {
			*ret_choice = i;
			return 0;
		}
	}

	for (unsigned int i = 0; known[i] && length < sizeof(want); i++)
		length += (size_t)snprintf(want + length, sizeof(want) - length, "%s%s",
			!i             ? ""
			: known[i + 1] ? ", "
				       : " or ",
			known[i]);
	nearest = text ? text_nearest(text, known) : NULL;
	yaml_fail_expected(y, field->path, want, value, key_at);
	if (nearest)
		error_want(y->error, "did you mean '%s'?", nearest);
	return -EINVAL;
}

int yaml_switch_read(struct yaml *y, const struct yaml_field *field, struct fy_node *value, size_t key_at)
{
	static const char *const known[] = {"off", "on", NULL};
	bool *target = (bool *)((char *)y->target + field->offset);
	unsigned int choice;
	int error = yaml_choice_read(y, field, value, key_at, known, &choice);

	if (error < 0)
		return error;
	*target = choice;
	return 0;
}

/* The path of a key of this name, wherever it stands; NULL: there is none. */
static const char *path_find(const struct yaml_field *fields, const char *name)
{
	const char *path = NULL;

	for (; fields->path && !path; fields++) {
		if (strcmp(field_name(fields), name) == 0)
			path = fields->path;
		else if (fields->children)
			path = path_find(fields->children, name);
	}
	return path;
}

static int fail_unknown(struct yaml *y, const struct yaml_field *mapping, const char *key, size_t at)
{
	const char *known[FIELDS_MAX + 1] = {NULL}, *nearest, *elsewhere;
	char all[256] = "";
	size_t count = 0, length = 0;

	for (const struct yaml_field *field = mapping->children; field->path && count < FIELDS_MAX; field++) {
		known[count++] = field_name(field);
		if (length < sizeof(all))
			length += (size_t)snprintf(all + length, sizeof(all) - length, "%s%s",
				length ? ", " : "", field_name(field));
	}
	nearest = text_nearest(key, known);
	elsewhere = path_find(y->root->children, key);

	if (mapping == y->root)
		yaml_fail(y, at, "unknown key '%.64s'", key);
	else
		yaml_fail(y, at, "unknown key '%.64s' in %s", key, mapping->path);
	if (elsewhere)
		error_want(y->error, "did you mean '%s'?", elsewhere);
	else if (nearest)
		error_want(y->error, "did you mean '%s'?", nearest);
	else
		error_want(y->error, count == 1 ? "%s" : "one of %s", all);
	return -EINVAL;
}

static unsigned int line_of(const struct yaml *y, size_t at)
{
	unsigned int line = 1;

	for (size_t i = 0; i < at; i++)
		line += y->text[i] == '\n';
	return line;
}

int yaml_mapping_read(struct yaml *y, const struct yaml_field *mapping, struct fy_node *value, size_t key_at)
{
	bool seen[FIELDS_MAX] = {false};
	size_t seen_at[FIELDS_MAX] = {0};
	struct fy_node_pair *pair;
	void *iterator = NULL;
	int error;

	/* "flows:" with all its keys commented out is an empty mapping. */
	if (yaml_is_null(value))
		return 0;
	if (!fy_node_is_mapping(value)) {
		yaml_fail_expected(y, mapping->path, "keys with values", value, key_at);
		error_want(y->error, "such as %s: ...", field_name(&mapping->children[0]));
		return -EINVAL;
	}

	while ((pair = fy_node_mapping_iterate(value, &iterator))) {
		char buffer[YAML_SCALAR_MAX];
		const char *key = yaml_text(fy_node_pair_key(pair), buffer, sizeof(buffer));
		size_t at = yaml_at(y, fy_node_pair_key(pair), key_at), i;

		if (!key) {
			yaml_fail_expected(y, mapping->path, "a key", fy_node_pair_key(pair), key_at);
			error_want(y->error, "such as %s: ...", field_name(&mapping->children[0]));
			return -EINVAL;
		}
		for (i = 0; mapping->children[i].path; i++) {
			if (strcmp(field_name(&mapping->children[i]), key) == 0)
				break;
		}
		if (!mapping->children[i].path)
			return fail_unknown(y, mapping, key, at);
		if (seen[i]) {
			yaml_fail(y, at, "a second key '%s'", mapping->children[i].path);
			error_want(
				y->error, "each key once; the first is in line %u", line_of(y, seen_at[i]));
			return -EINVAL;
		}
		seen[i] = true;
		seen_at[i] = at;

		error = mapping->children[i].read(y, &mapping->children[i], fy_node_pair_value(pair), at);
		if (error < 0)
			return error;
	}
	return 0;
}

/*
 * Values as text
 */

/* A value that YAML takes as it stands. */
static bool text_is_plain(const char *text, bool in_list)
{
	const char *p = text;

	if (!((*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') || *p == '/') || text_is_null(text))
		return false;
	for (; *p; p++) {
		if (*p < ' ' || *p > '~' || strchr("[]{}#", *p) || (*p == ',' && (in_list || !p[1])) ||
			(*p == ':' && (!p[1] || p[1] == ' ')) || (*p == ' ' && !p[1]))
			return false;
	}
	return true;
}

static uint32_t character_of(const char *text, size_t bytes)
{
	uint32_t character = (unsigned char)text[0];

	if (bytes > 1)
		character &= 0x7fU >> bytes;
	for (size_t i = 1; i < bytes; i++)
		character = character << 6 | ((unsigned char)text[i] & 0x3f);
	return character;
}

/* What the file may hold as it is (c-printable, YAML 1.2, 5.1) and no reader takes for the end of a line. */
static bool is_printable(uint32_t c)
{
	return (c >= 0x20 && c <= 0x7e) ||
	       (c >= 0xa0 && c <= 0xfffd && c != 0x2028 && c != 0x2029 && c != 0xfeff) || c >= 0x10000;
}

void yaml_scalar_print(FILE *out, const char *text, bool in_list)
{
	size_t bytes;

	if (text_is_plain(text, in_list)) {
		fputs(text, out);
		return;
	}
	fputc('"', out);
	for (; *text && (bytes = text_utf8_length(text)); text += bytes) {
		uint32_t c = character_of(text, bytes);

		if (c == '"' || c == '\\')
			fprintf(out, "\\%c", (int)c);
		else if (c == '\n' || c == '\t')
			fputs(c == '\n' ? "\\n" : "\\t", out);
		else if (is_printable(c))
			fwrite(text, 1, bytes, out);
		else
			fprintf(out, c <= 0xff ? "\\x%02" PRIx32 : "\\u%04" PRIx32, c);
	}
	fputc('"', out);
}

/*
 * YAML
 */

/* What libfyaml prints instead of collecting, which it does for a few errors that have no place. */
struct diag_output {
	char text[200];
};

static void diag_output(struct fy_diag *diag, void *user, const char *text, size_t length)
{
	struct diag_output *output = user;

	(void)diag;
	if (!output->text[0])
		snprintf(output->text, sizeof(output->text), "%.*s", (int)strcspn(text, "\n"), text);
	(void)length;
}

/* libfyaml says what is wrong; where that is short of what would be right, this is. */
static const char *syntax_want(const char *message)
{
	static const struct {
		const char *part, *want;
	} wants[] = {
		{"tab character", "spaces"},
		{"closing bracket", "a list ends with ']'"},
		{"closing brace", "a mapping ends with '}'"},
		{"closing quote", "a text ends with the quote it began with"},
		{"missing comma", "a comma between two values, or the closing bracket"},
		{"plain scalar cannot start", "the value in quotes"},
		{"multiline plain key", "keys of one mapping in one column"},
		{"nested block mapping", "one key a line, or the value in quotes"},
		{"invalid value after mapping", "KEY: VALUE"},
	};

	for (size_t i = 0; i < COUNT(wants); i++) {
		if (strstr(message, wants[i].part))
			return wants[i].want;
	}
	return NULL;
}

static int fail_syntax(struct yaml *y, struct fy_diag *diag, const struct diag_output *output)
{
	const char *message = output->text[0] ? output->text : "malformed", *want;
	const struct fy_mark *mark = NULL;
	struct fy_diag_error *first;
	void *iterator = NULL;
	size_t at = 0;

	first = fy_diag_errors_iterate(diag, &iterator);
	if (first) {
		message = first->msg;
		mark = first->fyt ? fy_token_start_mark(first->fyt) : NULL;
	}
	if (mark)
		at = mark->input_pos;
	if (at && strstr(message, "closing quote")) /* its mark stands behind the opening one */
		at--;

	yaml_fail(y, at, "not YAML: %s", message);
	want = syntax_want(message);
	if (want)
		error_want(y->error, "%s", want);
	return -EINVAL;
}

/* libfyaml ends a value silently at the first byte that is not UTF-8: what it cannot say is said here. */
static int bytes_check(struct yaml *y, size_t length)
{
	for (size_t i = 0; i < length;) {
		unsigned char c = (unsigned char)y->text[i];
		size_t bytes = text_utf8_length(y->text + i);

		if (!bytes) {
			yaml_fail(y, i, "the byte 0x%02x is not UTF-8", c);
			error_want(y->error, "a file in UTF-8");
			return -EINVAL;
		}
		if ((c < 0x20 && c != '\t' && c != '\n' && c != '\r') || c == 0x7f) {
			yaml_fail(y, i, "a control character, 0x%02x", c);
			error_want(y->error, "text");
			return -EINVAL;
		}
		i += bytes;
	}
	return 0;
}

static void diag_destroy(struct fy_diag **diag)
{
	if (*diag)
		fy_diag_destroy(*diag);
}

static void parser_destroy(struct fy_parser **parser)
{
	if (*parser)
		fy_parser_destroy(*parser);
}

/* The second of two documents: where does it begin? */
static size_t document_at(struct yaml *y, struct fy_document *document)
{
	return yaml_at(y, fy_document_root(document), strlen(y->text));
}

static int document_read(struct yaml *y, struct fy_parser *parser, bool *ret_found)
{
	struct fy_document *document = fy_parse_load_document(parser);
	int error = 0;

	*ret_found = document != NULL;
	if (!document)
		return 0;
	error = yaml_mapping_read(y, y->root, fy_document_root(document), 0);
	fy_parse_document_destroy(parser, document);
	if (error < 0)
		return error;

	document = fy_parse_load_document(parser);
	if (!document)
		return 0;
	error = yaml_fail(y, document_at(y, document), "a second document");
	error_want(y->error, "one document: no '---' or '...' in between");
	fy_parse_document_destroy(parser, document);
	return error;
}

static int document_parse(struct yaml *y, size_t length)
{
	struct diag_output output = {""};
	struct fy_diag_cfg diag_config;
	_cleanup_(diag_destroy) struct fy_diag *diag = NULL;
	_cleanup_(parser_destroy) struct fy_parser *parser = NULL;
	struct fy_parse_cfg parse_config = {0};
	bool found;
	int error;

	fy_diag_cfg_default(&diag_config);
	diag_config.fp = NULL;
	diag_config.output_fn = diag_output;
	diag_config.user = &output;
	diag_config.level = FYET_ERROR;
	diag_config.colorize = false;
	diag_config.show_type = false;
	diag = fy_diag_create(&diag_config);
	if (!diag)
		return yaml_fail_memory(y);
	fy_diag_set_collect_errors(diag, true);

	/* Duplicate keys are let through, because yaml_mapping_read() says more about them. */
	parse_config.flags = FYPCF_ALLOW_DUPLICATE_KEYS | FYPCF_JSON_NONE;
	parse_config.diag = diag;
	parser = fy_parser_create(&parse_config);
	if (!parser || fy_parser_set_string(parser, y->text, length) < 0)
		return yaml_fail_memory(y);

	error = document_read(y, parser, &found);
	if (error < 0)
		return error;
	return fy_parser_get_stream_error(parser) ? fail_syntax(y, diag, &output) : 0;
}

int yaml_read(struct yaml *y, const char *text, size_t length)
{
	/* A copy with a NUL behind it: places in the text are looked up by functions that stop there. */
	_cleanup_free_ char *copy = malloc(length + 1);
	int r;

	if (!copy)
		return yaml_fail_memory(y);
	if (length)
		memcpy(copy, text, length);
	copy[length] = '\0';
	y->text = copy;
	r = bytes_check(y, length);
	if (r == 0)
		r = document_parse(y, length);
	if (r == 0 && y->finish)
		r = y->finish(y);
	y->text = NULL;
	return r;
}

int yaml_file_read(const char *file, size_t max, char **ret_text, size_t *ret_length, struct error *error)
{
	_cleanup_fclose_ FILE *stream = fopen(file, "re");
	int r = stream ? stream_read(stream, max, ret_text, ret_length) : -errno;

	if (r < 0) {
		error_set(error, r, "cannot be read: %s", strerror(-r));
		error_at(error, file, NULL, 0);
	}
	return r;
}

void yaml_list_free(char ***list)
{
	for (char **item = *list; item && *item; item++)
		free(*item);
	free(*list);
	*list = NULL;
}

char *yaml_path_beside(const struct yaml *y, const char *path)
{
	const char *slash = path[0] == '/' ? NULL : strrchr(y->name, '/');
	char *result;

	if (!slash)
		return strdup(path);
	return asprintf(&result, "%.*s%s", (int)(slash - y->name) + 1, y->name, path) < 0 ? NULL : result;
}
