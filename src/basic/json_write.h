/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Writes JSON as a stream: a list of a million flows never stands in memory as a tree.
 *
 * Keys and values are written in order; commas and escapes are the writer's business.  `key` is NULL inside
 * arrays.  When memory runs out the writer stops writing and `error` says so.  Bytes that are not UTF-8 are
 * written as U+FFFD, numbers that are not finite as null.  A struct json_write begins as all zeros.
 */
#ifndef WEIR_BASIC_JSON_WRITE_H
#define WEIR_BASIC_JSON_WRITE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct json_write {
	char *text; /* not NUL-terminated; owned by the writer */
	size_t length, size;
	bool comma; /* the next value needs a comma before it */
	int error;  /* 0 or -ENOMEM */
};

void json_write_object_begin(struct json_write *w, const char *key);
void json_write_object_end(struct json_write *w);
void json_write_array_begin(struct json_write *w, const char *key);
void json_write_array_end(struct json_write *w);
void json_write_string(struct json_write *w, const char *key, const char *value); /* NULL value: null */
void json_write_number(struct json_write *w, const char *key, uint64_t value);
void json_write_real(struct json_write *w, const char *key, double value, int decimals);
void json_write_boolean(struct json_write *w, const char *key, bool value);
void json_write_null(struct json_write *w, const char *key);
void json_write_newline(struct json_write *w);

void json_write_clear(struct json_write *w); /* forgets the text written so far, keeps memory and nesting */
void json_write_free(struct json_write *w);

#endif
