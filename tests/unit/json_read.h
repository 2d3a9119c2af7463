/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * What another program, libjansson, makes of our JSON.
 */
#ifndef WEIR_TESTS_JSON_READ_H
#define WEIR_TESTS_JSON_READ_H

#include <stdbool.h>
#include <stddef.h>

bool json_is_valid(const char *text, size_t length);

#endif
