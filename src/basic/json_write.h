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

/* libjansson, which the same program reads JSON with, has functions of some of these names.  Without names of
 * their own for the linker, ours would take the place of its own inside the library. */
#define JSON_SYMBOL(name) __asm__("weir_" #name)

void json_object_begin(struct json_write *w, const char *key) JSON_SYMBOL(json_object_begin);
void json_object_end(struct json_write *w) JSON_SYMBOL(json_object_end);
void json_array_begin(struct json_write *w, const char *key) JSON_SYMBOL(json_array_begin);
void json_array_end(struct json_write *w) JSON_SYMBOL(json_array_end);
void json_string(struct json_write *w, const char *key, const char *value)
	JSON_SYMBOL(json_string); /* NULL value: null */
void json_number(struct json_write *w, const char *key, uint64_t value) JSON_SYMBOL(json_number);
void json_real(struct json_write *w, const char *key, double value, int decimals) JSON_SYMBOL(json_real);
void json_boolean(struct json_write *w, const char *key, bool value) JSON_SYMBOL(json_boolean);
void json_null(struct json_write *w, const char *key) JSON_SYMBOL(json_null);
void json_newline(struct json_write *w) JSON_SYMBOL(json_newline);

void json_write_clear(struct json_write *w); /* forgets the text written so far, keeps memory and nesting */
void json_write_free(struct json_write *w);

#endif
