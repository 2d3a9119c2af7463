/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include "json_read.h"

#include <jansson.h>

bool json_is_valid(const char *text, size_t length)
{
	json_t *json = json_loadb(text, length, JSON_REJECT_DUPLICATES, NULL);
	bool is_valid = json != NULL;

	json_decref(json);
	return is_valid;
}
