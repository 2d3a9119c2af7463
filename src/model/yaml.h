/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Reading YAML by tables of keys: what the configuration (config.c) and policies (policy.c) have in common.
 * Only for the files of this room.
 */
#ifndef WEIR_MODEL_YAML_H
#define WEIR_MODEL_YAML_H

#include <libfyaml.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "basic/error.h"

#define YAML_SCALAR_MAX 256 /* no single value is near it */

struct yaml {
	const char *text; /* all of it, with a NUL behind it */
	const char *name; /* of the file, for errors */
	struct error *error;
	const struct yaml_field *root; /* the mapping that the file is */
	void *target;                  /* the struct that the offsets of fields are in */
	int (*finish)(struct yaml *y); /* what only shows when all of it is read; may be NULL */
};

struct yaml_quantity;

/* One key of the file: how its value is read, and where it goes. */
struct yaml_field {
	const char *path; /* with the keys above it: "flows.cache.ipv4" */
	int (*read)(struct yaml *y, const struct yaml_field *field, struct fy_node *value, size_t key_at);
	const struct yaml_field *children; /* of a mapping; ends with a field without path */
	const struct yaml_quantity *quantity;
	size_t offset; /* in *yaml.target */
	uint64_t min, max;
	bool power_of_two;
	bool or_zero; /* 0 is allowed too, and means never */
};

/* Kinds of numbers: uint32_t, uint32_t, uint64_t ns. */
extern const struct yaml_quantity yaml_number, yaml_size, yaml_duration;

/* Readers for tables. */
int yaml_mapping_read(struct yaml *y, const struct yaml_field *mapping, struct fy_node *value, size_t key_at);
int yaml_quantity_read(struct yaml *y, const struct yaml_field *field, struct fy_node *value, size_t key_at);
int yaml_switch_read(
	struct yaml *y, const struct yaml_field *field, struct fy_node *value, size_t key_at); /* bool */
/* The place of the value in the NULL-terminated list `known`, or an error that names all of them. */
int yaml_choice_read(struct yaml *y, const struct yaml_field *field, struct fy_node *value, size_t key_at,
	const char *const *known, unsigned int *ret_choice);

/* Errors: -EINVAL, with the place `at` in the text. */
__attribute__((format(printf, 3, 4))) int yaml_fail(struct yaml *y, size_t at, const char *format, ...);
int yaml_fail_memory(struct yaml *y);
/* "flows.table: expected a number, got 'many'" */
int yaml_fail_expected(
	struct yaml *y, const char *path, const char *expected, struct fy_node *value, size_t key_at);
/* What is wrong with a sentence or a word of its own grammar, at its place in the file. */
int yaml_fail_inside(
	struct yaml *y, const char *path, const char *text, const struct error *problem, size_t at);

bool yaml_is_null(struct fy_node *node);
/* The text of a scalar, in `buffer`; NULL (and nothing said yet) where the value is none. */
const char *yaml_text(struct fy_node *value, char *buffer, size_t size);
/* All of a scalar's text, to be freed; NULL: no memory. */
char *yaml_text_take(struct fy_node *value, size_t *ret_length);
/* Where a value begins in the text; `otherwise` for what has no place (nothing behind the colon). */
size_t yaml_at(struct yaml *y, struct fy_node *node, size_t otherwise);

/* Writes the text so that it reads as the same: as it stands where YAML allows that, or else in double
 * quotes, with escapes for what they need.  `in_list`: inside [] or {}, where a comma ends a plain value.
 * UTF-8 only: YAML has no word for other bytes. */
void yaml_scalar_print(FILE *out, const char *text, bool in_list);

/* Decimal digits only.  0, -EINVAL or -ERANGE. */
int yaml_number_parse(const char *text, uint64_t *ret_value);

/* The path of a file that is named in this one: a relative one begins where this file is.  To be freed. */
char *yaml_path_beside(const struct yaml *y, const char *path);

void yaml_list_free(char ***list); /* NULL-terminated */

/* Reads the text, all of it, by y->root.  `y` has all but the text, which is copied. */
int yaml_read(struct yaml *y, const char *text, size_t length);
/* The whole file; not by its size, so that a pipe can be read too.  -EFBIG: more than `max`. */
int yaml_file_read(const char *file, size_t max, char **ret_text, size_t *ret_length, struct error *error);

#endif
