/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * What another program makes of our JSON.  A file of its own: jansson.h and basic/json_write.h use the same
 * names.
 */
#ifndef WEIR_TESTS_JSON_READ_H
#define WEIR_TESTS_JSON_READ_H

#include <stdbool.h>
#include <stddef.h>

bool json_is_valid(const char *text, size_t length);

#endif
