/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include "model/config.h"

#include <errno.h>
#include <fnmatch.h>
#include <inttypes.h>
#include <libfyaml.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "basic/cleanup.h"
#include "basic/text.h"
#include "basic/units.h"
#include "model/rule.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

#define FILE_BYTES_MAX     (1024 * 1024) /* no configuration is near it; a device file given by mistake is */
#define FIELDS_MAX         16            /* keys of one mapping */
#define SCALAR_MAX         256           /* no value is near it either */
#define INTERFACE_NAME_MAX 15            /* IFNAMSIZ without the NUL */

#define MS 1000000ULL
#define S  (1000 * MS)
#define M  (60 * S)
#define H  (60 * M)
#define D  (24 * H)

struct reader {
	const char *text;
	const char *name;
	struct error *error;
	struct config *config;
	size_t change_at; /* the value of api.change */
};

/* One key of the file: how its value is read, and where it goes. */
struct field {
	const char *path; /* with the keys above it: "flows.cache.ipv4" */
	int (*read)(struct reader *r, const struct field *field, struct fy_node *value, size_t key_at);
	const struct field *children; /* of a mapping; ends with a field without path */
	const struct quantity *quantity;
	size_t offset; /* in struct config */
	uint64_t min, max;
	bool power_of_two;
	bool or_zero; /* 0 is allowed too, and means never */
};

static const char *field_name(const struct field *field)
{
	const char *dot = strrchr(field->path, '.');

	return dot ? dot + 1 : field->path;
}

/*
 * Errors and where they are
 */

#define fail(reader, at, ...) (error_set((reader)->error, -EINVAL, __VA_ARGS__), fail_at(reader, at))

static int fail_at(struct reader *r, size_t at)
{
	error_at(r->error, r->name, r->text, at);
	return -EINVAL;
}

static int fail_memory(struct reader *r)
{
	return error_set(r->error, -ENOMEM, "out of memory while reading %.128s", r->name);
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

/* Nothing behind the colon, or one of YAML's plain words for it (core schema, YAML 1.2, 10.3.2). */
static bool node_is_null(struct fy_node *node)
{
	static const char *const words[] = {"~", "null", "Null", "NULL"};
	char text[8];

	if (fy_node_is_null(node))
		return true;
	if (!fy_node_is_scalar(node) || fy_node_get_style(node) != FYNS_PLAIN)
		return false;
	scalar_copy(node, text, sizeof(text));
	for (size_t i = 0; i < COUNT(words); i++) {
		if (strcmp(words[i], text) == 0)
			return true;
	}
	return false;
}

/* The text of a scalar, in `buffer`; NULL (and nothing said yet) where the value is none. */
static const char *scalar_long(struct fy_node *value, char *buffer, size_t size)
{
	size_t length;

	if (node_is_null(value) || !fy_node_is_scalar(value) || fy_node_is_alias(value))
		return NULL;
	length = scalar_copy(value, buffer, size);
	/* "\0" in double quotes would end it early, and what fills the buffer may have been cut */
	return strlen(buffer) == length && length < size - 1 ? buffer : NULL;
}

static const char *scalar_text(struct fy_node *value, char buffer[SCALAR_MAX])
{
	return scalar_long(value, buffer, SCALAR_MAX);
}

/* Where a value begins in the text: a scalar's own place, a list's or mapping's first scalar; `otherwise` for
 * what has none (nothing behind the colon). */
static size_t node_at(struct reader *r, struct fy_node *node, size_t otherwise)
{
	void *iterator = NULL;
	struct fy_node_pair *pair;
	const struct fy_mark *mark;
	struct fy_token *token;
	size_t at;

	switch (node ? fy_node_get_type(node) : FYNT_SCALAR) {
	case FYNT_SEQUENCE:
		node = fy_node_sequence_iterate(node, &iterator);
		return node ? node_at(r, node, otherwise) : otherwise;
	case FYNT_MAPPING:
		pair = fy_node_mapping_iterate(node, &iterator);
		return pair ? node_at(r, fy_node_pair_key(pair), otherwise) : otherwise;
	case FYNT_SCALAR:
		break;
	}

	token = node ? fy_node_get_scalar_token(node) : NULL;
	mark = token ? fy_token_start_mark(token) : NULL;
	if (!mark)
		return otherwise;
	at = mark->input_pos;
	/* libfyaml's mark stands behind the quote or the alias's star, a person looks at these. */
	if (at && (strchr("\"'", r->text[at - 1]) || fy_node_is_alias(node)))
		at--;
	return at;
}

/* "flows.table: expected a number, got 'many'" */
static int fail_expected(
	struct reader *r, const char *path, const char *expected, struct fy_node *value, size_t key_at)
{
	size_t at = node_at(r, value, key_at);
	char text[64 + 1];

	if (node_is_null(value))
		return fail(r, at, "%s: expected %s, got nothing", path, expected);
	if (fy_node_is_sequence(value))
		return fail(r, at, "%s: expected %s, got a list", path, expected);
	if (fy_node_is_mapping(value))
		return fail(r, at, "%s: expected %s, got a mapping", path, expected);
	if (fy_node_is_alias(value))
		return fail(r, at, "%s: expected %s, got an alias", path, expected);
	scalar_copy(value, text, sizeof(text));
	return fail(r, at, "%s: expected %s, got '%s'", path, expected, text);
}

/*
 * Numbers: one reader, told by a table what kind
 */

struct quantity {
	const char *noun;
	int (*parse)(const char *text, uint64_t *ret_value);
	char *(*print)(char *buffer, size_t size, uint64_t value);
	size_t width; /* of the member of struct config */
};

static int number_parse(const char *text, uint64_t *ret_value)
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

static const struct quantity number = {"a number", number_parse, number_print, sizeof(uint32_t)};
static const struct quantity size = {"a size", size_parse, size_print, sizeof(uint32_t)};
static const struct quantity duration = {"a duration", duration_parse, duration_print, sizeof(uint64_t)};

/* "64kib to 64mib, a power of two" */
static int want_range(struct reader *r, const struct field *field)
{
	char min[32], max[32];

	field->quantity->print(min, sizeof(min), field->min);
	field->quantity->print(max, sizeof(max), field->max);
	error_want(r->error, "%s to %s%s%s", min, max, field->power_of_two ? ", a power of two" : "",
		field->or_zero ? ", or 0 for never" : "");
	return -EINVAL;
}

static int fail_power_of_two(struct reader *r, const struct field *field, uint64_t value, size_t at)
{
	char text[32], below[32], above[32];
	uint64_t power = field->min;

	while (power * 2 < value)
		power *= 2;
	field->quantity->print(text, sizeof(text), value);
	field->quantity->print(below, sizeof(below), power);
	field->quantity->print(above, sizeof(above), power * 2);
	fail(r, at, "%s: %s is not a power of two", field->path, text);
	error_want(r->error, "%s or %s", below, above);
	return -EINVAL;
}

static int read_quantity(struct reader *r, const struct field *field, struct fy_node *value, size_t key_at)
{
	char buffer[SCALAR_MAX];
	const char *text = scalar_text(value, buffer);
	char *target = (char *)r->config + field->offset;
	size_t at = node_at(r, value, key_at);
	uint64_t result = 0;
	uint32_t narrow;
	int error = text ? field->quantity->parse(text, &result) : -EINVAL;

	if (error == -EINVAL) {
		fail_expected(r, field->path, field->quantity->noun, value, key_at);
		return want_range(r, field);
	}
	if (error == -ERANGE || result > field->max) {
		fail(r, at, "%s: %.64s is too large", field->path, text);
		return want_range(r, field);
	}
	if (result < field->min && !(field->or_zero && !result)) {
		fail(r, at, "%s: %.64s is too small", field->path, text);
		return want_range(r, field);
	}
	if (field->power_of_two && (result & (result - 1)))
		return fail_power_of_two(r, field, result, at);

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

/* The place of the value in the NULL-terminated list `known`, or an error that names all of them. */
static int read_choice(struct reader *r, const struct field *field, struct fy_node *value, size_t key_at,
	const char *const *known, unsigned int *ret_choice)
{
	char buffer[SCALAR_MAX];
	const char *text = scalar_text(value, buffer);
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
	fail_expected(r, field->path, want, value, key_at);
	if (nearest)
		error_want(r->error, "did you mean '%s'?", nearest);
	return -EINVAL;
}

static int read_log(struct reader *r, const struct field *field, struct fy_node *value, size_t key_at)
{
	static const char *const known[] = {[LOG_LEVEL_ERROR] = "error",
		[LOG_LEVEL_WARNING] = "warning",
		[LOG_LEVEL_INFO] = "info",
		[LOG_LEVEL_DEBUG] = "debug",
		NULL};
	unsigned int choice;
	int error = read_choice(r, field, value, key_at, known, &choice);

	if (error < 0)
		return error;
	r->config->log_level = (enum log_level)choice;
	return 0;
}

static int read_switch(struct reader *r, const struct field *field, struct fy_node *value, size_t key_at)
{
	static const char *const known[] = {"off", "on", NULL};
	bool *target = (bool *)((char *)r->config + field->offset);
	unsigned int choice;
	int error = read_choice(r, field, value, key_at, known, &choice);

	if (error < 0)
		return error;
	*target = choice;
	return 0;
}

static int read_change(struct reader *r, const struct field *field, struct fy_node *value, size_t key_at)
{
	static const char *const known[] = {"root", "group", NULL};
	unsigned int choice;
	int error = read_choice(r, field, value, key_at, known, &choice);

	if (error < 0)
		return error;
	r->config->api_group_change = choice == 1;
	r->change_at = node_at(r, value, key_at);
	return 0;
}

static int read_mode(struct reader *r, const struct field *field, struct fy_node *value, size_t key_at)
{
	char buffer[SCALAR_MAX];
	const char *text = scalar_text(value, buffer);
	size_t length = text ? strlen(text) : 0;

	if (length < 3 || length > 4 || strspn(text, "01234567") != length ||
		(length == 4 && text[0] != '0')) {
		fail_expected(r, field->path, "a file mode", value, key_at);
		error_want(r->error, "three octal digits behind a zero, such as \"0660\"");
		return -EINVAL;
	}
	r->config->api_mode = (mode_t)strtoul(text, NULL, 8);
	return 0;
}

static int read_group(struct reader *r, const struct field *field, struct fy_node *value, size_t key_at)
{
	char buffer[SCALAR_MAX];
	const char *text = scalar_text(value, buffer);

	if (!text || !*text || text[strcspn(text, " \t\r\n:")]) {
		fail_expected(r, field->path, "the name of a group", value, key_at);
		error_want(r->error, "one that getent group lists");
		return -EINVAL;
	}
	free(r->config->api_group);
	r->config->api_group = strdup(text);
	return r->config->api_group ? 0 : fail_memory(r);
}

/*
 * metrics.listen: off, PORT, ADDRESS:PORT, [ADDRESS6]:PORT
 */

/* [ADDRESS:]PORT.  -EINVAL: malformed; -ERANGE: no such port; -EDESTADDRREQ: IPv6 without brackets. */
static int listen_parse(const char *text, struct address *ret_address, uint16_t *ret_port)
{
	struct address address = {.family = 4, .bytes = {127, 0, 0, 1}};
	const char *colon = strrchr(text, ':'), *port = colon ? colon + 1 : text;
	char host[ADDRESS_TEXT_MAX + 2];
	uint64_t number_of_port = 0;
	bool brackets;
	int error;

	if (colon) {
		size_t length = (size_t)(colon - text);

		if (length < 2 || length >= sizeof(host))
			return -EINVAL;
		brackets = text[0] == '[' && colon[-1] == ']';
		snprintf(host, sizeof(host), "%.*s", (int)(brackets ? length - 2 : length), text + brackets);
		error = address_parse(host, &address);
		if (!brackets && (error ? strchr(host, ':') != NULL : address.family == 6))
			return -EDESTADDRREQ;
		if (error < 0 || brackets != (address.family == 6))
			return -EINVAL;
	}

	if (number_parse(port, &number_of_port) == -EINVAL)
		return -EINVAL;
	if (number_of_port < 1 || number_of_port > UINT16_MAX)
		return -ERANGE;
	*ret_address = address;
	*ret_port = (uint16_t)number_of_port;
	return 0;
}

static int read_listen(struct reader *r, const struct field *field, struct fy_node *value, size_t key_at)
{
	struct config *config = r->config;
	char buffer[SCALAR_MAX];
	const char *text = scalar_text(value, buffer);
	int error;

	if (text && strcmp(text, "off") == 0) {
		config->metrics_on = false;
		return 0;
	}
	error = text ? listen_parse(text, &config->metrics_address, &config->metrics_port) : -EINVAL;
	switch (error) {
	case 0:
		config->metrics_on = true;
		return 0;
	case -ERANGE:
		fail(r, node_at(r, value, key_at), "%s: the port of '%.64s' is out of range", field->path,
			text);
		error_want(r->error, "1 to 65535");
		break;
	case -EDESTADDRREQ:
		fail_expected(r, field->path, "an address and a port", value, key_at);
		error_want(r->error, "an IPv6 address stands in brackets: \"[2001:db8::1]:9100\"");
		break;
	default:
		fail_expected(r, field->path, "off or where to listen", value, key_at);
		error_want(r->error, "off, a PORT on 127.0.0.1, ADDRESS:PORT, or \"[ADDRESS6]:PORT\"");
	}
	return -EINVAL;
}

/*
 * interfaces: auto or a list
 */

static void names_free(char ***names)
{
	for (char **name = *names; name && *name; name++)
		free(*name);
	free(*names);
	*names = NULL;
}

/* One name or pattern of the list; `names` holds those before it. */
static int interface_check(struct reader *r, const char *text, char **names, size_t at)
{
	bool is_pattern = text[strcspn(text, "*?[")] != '\0';

	if (strcmp(text, "auto") == 0) {
		fail(r, at, "interfaces: 'auto' in a list");
		error_want(r->error, "interfaces: auto");
		return -EINVAL;
	}
	/* What the kernel's dev_valid_name() refuses can never appear. */
	if (!*text || text[strcspn(text, "/: \t\r\n")] || strcmp(text, ".") == 0 || strcmp(text, "..") == 0) {
		fail(r, at, "interfaces: '%.64s' can be no interface's name", text);
		error_want(r->error, "a name such as eth0, or a pattern such as \"veth*\"");
		return -EINVAL;
	}
	if (!is_pattern && strlen(text) > INTERFACE_NAME_MAX) {
		fail(r, at, "interfaces: the name '%.64s' is too long", text);
		error_want(r->error, "at most %d bytes", INTERFACE_NAME_MAX);
		return -EINVAL;
	}
	for (; *names; names++) {
		if (strcmp(*names, text) == 0) {
			fail(r, at, "interfaces: a second '%.64s'", text);
			error_want(r->error, "each name once");
			return -EINVAL;
		}
	}
	return 0;
}

static int read_interfaces(struct reader *r, const struct field *field, struct fy_node *value, size_t key_at)
{
	char buffer[SCALAR_MAX];
	const char *word = scalar_text(value, buffer);
	char **names;
	struct fy_node *item;
	void *iterator = NULL;
	size_t count = 0;
	int error;

	if (word && strcmp(word, "auto") == 0) {
		r->config->interfaces_auto = true;
		return 0;
	}
	if (!value || !fy_node_is_sequence(value)) {
		fail_expected(r, field->path, "auto or a list", value, key_at);
		if (word && *word)
			error_want(r->error, "[%.64s]", word);
		else
			error_want(r->error, "auto, or names and patterns such as [eth0, \"veth*\"]");
		return -EINVAL;
	}
	if (fy_node_sequence_is_empty(value)) {
		fail(r, key_at, "interfaces: the list is empty");
		error_want(r->error, "auto, or at least one name or pattern");
		return -EINVAL;
	}

	/* One more than the items: the end of the list, at every moment. */
	names_free(&r->config->interfaces);
	names = calloc((size_t)fy_node_sequence_item_count(value) + 1, sizeof(*names));
	r->config->interfaces = names;
	if (!names)
		return fail_memory(r);

	while ((item = fy_node_sequence_iterate(value, &iterator))) {
		const char *name = scalar_text(item, buffer); /* `word` is not needed any more */

		if (!name) {
			fail_expected(r, field->path, "an interface's name", item, key_at);
			error_want(r->error, "a name such as eth0, or a pattern such as \"veth*\"");
			return -EINVAL;
		}
		error = interface_check(r, name, names, node_at(r, item, key_at));
		if (error < 0)
			return error;
		names[count] = strdup(name);
		if (!names[count++])
			return fail_memory(r);
	}
	r->config->interfaces_auto = false;
	return 0;
}

/*
 * rules: a list of sentences
 */

/* A sentence's error, where it is in the file.  A sentence that the file has otherwise than it reads
 * (escapes, several lines) begins where it begins. */
static int fail_rule(struct reader *r, const char *text, const struct error *problem, size_t at)
{
	size_t column = problem->column ? problem->column - 1 : 0,
	       quote = r->text[at] == '"' || r->text[at] == '\'';
	struct error found = *problem;

	if (strncmp(r->text + at + quote, text, strlen(text)) == 0)
		at += quote + column;
	fail(r, at, "rules: %s", found.what);
	if (found.want[0])
		error_want(r->error, "%s", found.want);
	return -EINVAL;
}

static int read_rules(struct reader *r, const struct field *field, struct fy_node *value, size_t key_at)
{
	char buffer[RULE_TEXT_MAX + 2];
	struct fy_node *item;
	void *iterator = NULL;
	size_t count = 0;
	char **rules;

	if (node_is_null(value)) /* all commented out */
		return 0;
	if (!fy_node_is_sequence(value)) {
		fail_expected(r, field->path, "a list of rules", value, key_at);
		error_want(r->error, "- deny connect by user guest to 10.0.0.0/8");
		return -EINVAL;
	}
	if (fy_node_sequence_item_count(value) > RULES_MAX) {
		fail(r, key_at, "rules: %d are too many", fy_node_sequence_item_count(value));
		error_want(r->error, "at most %d", RULES_MAX);
		return -EINVAL;
	}
	names_free(&r->config->rules);
	rules = calloc((size_t)fy_node_sequence_item_count(value) + 1, sizeof(*rules));
	r->config->rules = rules;
	if (!rules)
		return fail_memory(r);

	while ((item = fy_node_sequence_iterate(value, &iterator))) {
		const char *text = scalar_long(item, buffer, sizeof(buffer));
		struct error problem = {};
		struct rule rule;

		if (!text) {
			fail_expected(r, field->path, "a rule", item, key_at);
			error_want(r->error,
				"a sentence of at most %d bytes, in quotes if a ': ' or ' #' is in it",
				RULE_TEXT_MAX - 1);
			return -EINVAL;
		}
		if (rule_parse(text, &rule, &problem) < 0)
			return fail_rule(r, text, &problem, node_at(r, item, key_at));
		if (rule.match.owner.kind == OWNER_PID) {
			fail(r, node_at(r, item, key_at), "rules: a process' id is another one's tomorrow");
			error_want(r->error,
				"exe, unit, cgroup or user; or 'weir deny' for a process that runs");
			return -EINVAL;
		}
		rules[count] = strdup(text);
		if (!rules[count++])
			return fail_memory(r);
	}
	return 0;
}

/*
 * Mappings: the tables of keys
 */

static int read_mapping(struct reader *r, const struct field *mapping, struct fy_node *value, size_t key_at);

static const struct field cache_fields[] = {
	{.path = "flows.cache.ipv4",
		.read = read_quantity,
		.quantity = &number,
		.offset = offsetof(struct config, cache4_lines),
		.min = 64,
		.max = 4194304,
		.power_of_two = true},
	{.path = "flows.cache.ipv6",
		.read = read_quantity,
		.quantity = &number,
		.offset = offsetof(struct config, cache6_lines),
		.min = 64,
		.max = 4194304,
		.power_of_two = true},
	{NULL},
};

static const struct field flows_fields[] = {
	{.path = "flows.cache", .read = read_mapping, .children = cache_fields},
	{.path = "flows.table",
		.read = read_quantity,
		.quantity = &number,
		.offset = offsetof(struct config, table_flows),
		.min = 1024,
		.max = 16777216},
	{.path = "flows.hosts",
		.read = read_quantity,
		.quantity = &number,
		.offset = offsetof(struct config, table_hosts),
		.min = 64,
		.max = 1048576},
	{.path = "flows.ring",
		.read = read_quantity,
		.quantity = &size,
		.offset = offsetof(struct config, ring_bytes),
		.min = 65536,
		.max = 67108864,
		.power_of_two = true},
	{.path = "flows.scan",
		.read = read_quantity,
		.quantity = &duration,
		.offset = offsetof(struct config, scan_ns),
		.min = 100 * MS,
		.max = M},
	{.path = "flows.idle",
		.read = read_quantity,
		.quantity = &duration,
		.offset = offsetof(struct config, idle_ns),
		.min = S,
		.max = D},
	{.path = "flows.closed",
		.read = read_quantity,
		.quantity = &duration,
		.offset = offsetof(struct config, closed_ns),
		.min = S,
		.max = H},
	{.path = "flows.active",
		.read = read_quantity,
		.quantity = &duration,
		.offset = offsetof(struct config, active_ns),
		.min = 10 * S,
		.max = 7 * D,
		.or_zero = true},
	{NULL},
};

static const struct field api_fields[] = {
	{.path = "api.mode", .read = read_mode},
	{.path = "api.group", .read = read_group},
	{.path = "api.change", .read = read_change},
	{NULL},
};

static const struct field metrics_fields[] = {
	{.path = "metrics.listen", .read = read_listen},
	{.path = "metrics.processes",
		.read = read_quantity,
		.quantity = &number,
		.offset = offsetof(struct config, metrics_processes),
		.max = 1000},
	{NULL},
};

static const struct field owners_fields[] = {
	{.path = "owners.enabled", .read = read_switch, .offset = offsetof(struct config, owners_enabled)},
	{.path = "owners.table",
		.read = read_quantity,
		.quantity = &number,
		.offset = offsetof(struct config, owners_table),
		.min = 256,
		.max = 1048576},
	{.path = "owners.keep",
		.read = read_quantity,
		.quantity = &duration,
		.offset = offsetof(struct config, owners_keep_ns),
		.min = S,
		.max = 7 * D},
	{NULL},
};

static const struct field sockets_fields[] = {
	{.path = "sockets.enabled", .read = read_switch, .offset = offsetof(struct config, sockets_enabled)},
	{.path = "sockets.interval",
		.read = read_quantity,
		.quantity = &duration,
		.offset = offsetof(struct config, sockets_interval_ns),
		.min = S,
		.max = H,
		.or_zero = true},
	{.path = "sockets.remembered",
		.read = read_quantity,
		.quantity = &number,
		.offset = offsetof(struct config, sockets_remembered),
		.min = 64,
		.max = 1048576},
	{NULL},
};

static const struct field audit_fields[] = {
	{.path = "audit.entries",
		.read = read_quantity,
		.quantity = &number,
		.offset = offsetof(struct config, audit_entries),
		.min = 1024,
		.max = 16777216,
		.or_zero = true},
	{NULL},
};

static const struct field drops_fields[] = {
	{.path = "drops.enabled", .read = read_switch, .offset = offsetof(struct config, drops_enabled)},
	{.path = "drops.rate",
		.read = read_quantity,
		.quantity = &number,
		.offset = offsetof(struct config, drops_rate),
		.max = 1000000},
	{NULL},
};

static const struct field names_fields[] = {
	{.path = "names.enabled", .read = read_switch, .offset = offsetof(struct config, names_on)},
	{.path = "names.table",
		.read = read_quantity,
		.quantity = &number,
		.offset = offsetof(struct config, names_table),
		.min = 64,
		.max = 1048576},
	{NULL},
};

/* off, or a size. */
static int read_before(struct reader *r, const struct field *field, struct fy_node *value, size_t key_at)
{
	char buffer[SCALAR_MAX];
	const char *text = scalar_text(value, buffer);

	if (!text || strcmp(text, "off") != 0)
		return read_quantity(r, field, value, key_at);
	r->config->capture_before = 0;
	return 0;
}

static const struct field capture_fields[] = {
	{.path = "capture.before",
		.read = read_before,
		.quantity = &size,
		.offset = offsetof(struct config, capture_before),
		.min = 1000000,
		.max = 1000000000},
	{.path = "capture.snaplen",
		.read = read_quantity,
		.quantity = &number,
		.offset = offsetof(struct config, capture_snaplen),
		.min = 32,
		.max = 262144},
	{NULL},
};

/* off, on, or settings. */
static int read_names(struct reader *r, const struct field *field, struct fy_node *value, size_t key_at)
{
	return (fy_node_is_mapping(value) ? read_mapping : read_switch)(r, field, value, key_at);
}

static const struct field root_fields[] = {
	{.path = "interfaces", .read = read_interfaces},
	{.path = "flows", .read = read_mapping, .children = flows_fields},
	{.path = "api", .read = read_mapping, .children = api_fields},
	{.path = "metrics", .read = read_mapping, .children = metrics_fields},
	{.path = "owners", .read = read_mapping, .children = owners_fields},
	{.path = "sockets", .read = read_mapping, .children = sockets_fields},
	{.path = "audit", .read = read_mapping, .children = audit_fields},
	{.path = "drops", .read = read_mapping, .children = drops_fields},
	{.path = "capture", .read = read_mapping, .children = capture_fields},
	{.path = "rules", .read = read_rules},
	{.path = "names",
		.read = read_names,
		.children = names_fields,
		.offset = offsetof(struct config, names_on)},
	{.path = "log", .read = read_log},
	{NULL},
};

static const struct field root = {.path = "the file", .read = read_mapping, .children = root_fields};

/* The path of a key of this name, wherever it stands; NULL: there is none. */
static const char *path_find(const struct field *fields, const char *name)
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

static int fail_unknown(struct reader *r, const struct field *mapping, const char *key, size_t at)
{
	const char *known[FIELDS_MAX + 1] = {NULL}, *nearest, *elsewhere;
	char all[128] = "";
	size_t count = 0, length = 0;

	for (const struct field *field = mapping->children; field->path && count < FIELDS_MAX; field++) {
		known[count++] = field_name(field);
		if (length < sizeof(all))
			length += (size_t)snprintf(all + length, sizeof(all) - length, "%s%s",
				length ? ", " : "", field_name(field));
	}
	nearest = text_nearest(key, known);
	elsewhere = path_find(root_fields, key);

	if (mapping == &root)
		fail(r, at, "unknown key '%.64s'", key);
	else
		fail(r, at, "unknown key '%.64s' in %s", key, mapping->path);
	if (elsewhere)
		error_want(r->error, "did you mean '%s'?", elsewhere);
	else if (nearest)
		error_want(r->error, "did you mean '%s'?", nearest);
	else
		error_want(r->error, count == 1 ? "%s" : "one of %s", all);
	return -EINVAL;
}

static unsigned int line_of(const char *text, size_t at)
{
	unsigned int line = 1;

	for (size_t i = 0; i < at; i++)
		line += text[i] == '\n';
	return line;
}

static int read_mapping(struct reader *r, const struct field *mapping, struct fy_node *value, size_t key_at)
{
	bool seen[FIELDS_MAX] = {false};
	size_t seen_at[FIELDS_MAX] = {0};
	struct fy_node_pair *pair;
	void *iterator = NULL;
	int error;

	/* "flows:" with all its keys commented out is an empty mapping. */
	if (node_is_null(value))
		return 0;
	if (!fy_node_is_mapping(value)) {
		fail_expected(r, mapping->path, "keys with values", value, key_at);
		error_want(r->error, "such as %s: ...", field_name(&mapping->children[0]));
		return -EINVAL;
	}

	while ((pair = fy_node_mapping_iterate(value, &iterator))) {
		char buffer[SCALAR_MAX];
		const char *key = scalar_text(fy_node_pair_key(pair), buffer);
		size_t at = node_at(r, fy_node_pair_key(pair), key_at), i;

		if (!key) {
			fail_expected(r, mapping->path, "a key", fy_node_pair_key(pair), key_at);
			error_want(r->error, "such as %s: ...", field_name(&mapping->children[0]));
			return -EINVAL;
		}
		for (i = 0; mapping->children[i].path; i++) {
			if (strcmp(field_name(&mapping->children[i]), key) == 0)
				break;
		}
		if (!mapping->children[i].path)
			return fail_unknown(r, mapping, key, at);
		if (seen[i]) {
			fail(r, at, "a second key '%s'", mapping->children[i].path);
			error_want(r->error, "each key once; the first is in line %u",
				line_of(r->text, seen_at[i]));
			return -EINVAL;
		}
		seen[i] = true;
		seen_at[i] = at;

		error = mapping->children[i].read(r, &mapping->children[i], fy_node_pair_value(pair), at);
		if (error < 0)
			return error;
	}
	return 0;
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

static int fail_syntax(struct reader *r, struct fy_diag *diag, const struct diag_output *output)
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

	fail(r, at, "not YAML: %s", message);
	want = syntax_want(message);
	if (want)
		error_want(r->error, "%s", want);
	return -EINVAL;
}

/* libfyaml ends a value silently at the first byte that is not UTF-8: what it cannot say is said here. */
static int bytes_check(struct reader *r, size_t length)
{
	for (size_t i = 0; i < length;) {
		unsigned char c = (unsigned char)r->text[i];
		size_t bytes = text_utf8_length(r->text + i);

		if (!bytes) {
			fail(r, i, "the byte 0x%02x is not UTF-8", c);
			error_want(r->error, "a file in UTF-8");
			return -EINVAL;
		}
		if ((c < 0x20 && c != '\t' && c != '\n' && c != '\r') || c == 0x7f) {
			fail(r, i, "a control character, 0x%02x", c);
			error_want(r->error, "text");
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
static size_t document_at(struct reader *r, struct fy_document *document)
{
	return node_at(r, fy_document_root(document), strlen(r->text));
}

static int document_read(struct reader *r, struct fy_parser *parser, bool *ret_found)
{
	struct fy_document *document = fy_parse_load_document(parser);
	int error = 0;

	*ret_found = document != NULL;
	if (!document)
		return 0;
	error = read_mapping(r, &root, fy_document_root(document), 0);
	fy_parse_document_destroy(parser, document);
	if (error < 0)
		return error;

	document = fy_parse_load_document(parser);
	if (!document)
		return 0;
	error = fail(r, document_at(r, document), "a second document");
	error_want(r->error, "one document: no '---' or '...' in between");
	fy_parse_document_destroy(parser, document);
	return error;
}

static int yaml_read(struct reader *r, size_t length)
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
		return fail_memory(r);
	fy_diag_set_collect_errors(diag, true);

	/* Duplicate keys are let through, because read_mapping() says more about them. */
	parse_config.flags = FYPCF_ALLOW_DUPLICATE_KEYS | FYPCF_JSON_NONE;
	parse_config.diag = diag;
	parser = fy_parser_create(&parse_config);
	if (!parser || fy_parser_set_string(parser, r->text, length) < 0)
		return fail_memory(r);

	error = document_read(r, parser, &found);
	if (error < 0)
		return error;
	return fy_parser_get_stream_error(parser) ? fail_syntax(r, diag, &output) : 0;
}

/*
 * The configuration
 */

int config_init(struct config *ret_config)
{
	*ret_config = (struct config){
		.interfaces_auto = true,
		.cache4_lines = 32768,
		.cache6_lines = 8192,
		.table_flows = 131072,
		.table_hosts = 65536,
		.ring_bytes = 1024 * 1024,
		.scan_ns = 5 * S,
		.idle_ns = 2 * M,
		.closed_ns = M,
		.active_ns = 30 * M,
		.api_mode = 0660,
		.metrics_address = {.family = 4, .bytes = {127, 0, 0, 1}},
		.metrics_processes = 50,
		.owners_table = 16384,
		.owners_keep_ns = 10 * M,
		.sockets_interval_ns = M,
		.sockets_remembered = 8192,
		.audit_entries = 65536,
		.owners_enabled = true,
		.sockets_enabled = true,
		.drops_enabled = true,
		.drops_rate = 1000,
		.names_on = true,
		.names_table = 16384,
		.capture_snaplen = 96,
		.log_level = LOG_LEVEL_INFO,
	};
	return 0;
}

void config_free(struct config *config)
{
	names_free(&config->interfaces);
	names_free(&config->rules);
	free(config->api_group);
	*config = (struct config){0};
}

/* Reads r->text; what only shows when all of it is known is checked last. */
static int text_read(struct reader *r, size_t length)
{
	int error = config_init(r->config);

	if (error < 0)
		return error;
	error = bytes_check(r, length);
	if (error < 0)
		return error;
	error = yaml_read(r, length);
	if (error < 0)
		return error;

	if (r->config->api_group_change && !r->config->api_group) {
		fail(r, r->change_at, "api.change: no group is named whose members may change");
		error_want(r->error, "api.group: NAME, or change: root");
		return -EINVAL;
	}
	return 0;
}

int config_read_text(
	const char *text, size_t length, const char *name, struct config *ret_config, struct error *error)
{
	struct config config = {0};
	struct reader reader = {.name = name, .error = error, .config = &config};
	char *copy = malloc(length + 1);
	int r;

	/* A copy with a NUL behind it: places in the text are looked up by functions that stop there. */
	if (!copy)
		return fail_memory(&reader);
	if (length)
		memcpy(copy, text, length);
	copy[length] = '\0';

	reader.text = copy;
	r = text_read(&reader, length);
	free(copy);
	if (r < 0) {
		config_free(&config);
		return r;
	}
	*ret_config = config;
	return 0;
}

/* The whole file; not by its size, so that a pipe (`weir check <(…)`) can be read too. */
static int file_read(const char *file, char **ret_text, size_t *ret_length)
{
	_cleanup_fclose_ FILE *stream = fopen(file, "re");
	_cleanup_free_ char *text = NULL;
	size_t length;

	if (!stream)
		return -errno;
	text = malloc(FILE_BYTES_MAX + 1);
	if (!text)
		return -ENOMEM;
	length = fread(text, 1, FILE_BYTES_MAX + 1, stream);
	if (ferror(stream))
		return -errno;
	if (length > FILE_BYTES_MAX)
		return -EFBIG;
	*ret_text = TAKE(text);
	*ret_length = length;
	return 0;
}

int config_read_file(const char *file, struct config *ret_config, struct error *error)
{
	_cleanup_free_ char *text = NULL;
	size_t length = 0;
	int r = file_read(file, &text, &length);

	if (r < 0) {
		error_set(error, r, "cannot be read: %s", strerror(-r));
		error_at(error, file, NULL, 0);
		return r;
	}
	return config_read_text(text, length, file, ret_config, error);
}

bool config_names_interface(const struct config *config, const char *name)
{
	for (char **pattern = config->interfaces; pattern && *pattern; pattern++) {
		if (fnmatch(*pattern, name, 0) == 0)
			return true;
	}
	return false;
}
