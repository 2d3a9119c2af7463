// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
#include "engine/reason.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define ENUM_SUFFIX "drop_reason"
#define CORE_PREFIX "SKB_DROP_REASON_"
#define REASONS_MAX 4096 /* no kernel is near it */

static bool is_reasons(const struct btf *btf, const struct btf_type *type)
{
	const char *name = btf__name_by_offset(btf, type->name_off);
	size_t length = name ? strlen(name) : 0, suffix = strlen(ENUM_SUFFIX);

	return btf_is_enum(type) && length >= suffix && strcmp(name + length - suffix, ENUM_SUFFIX) == 0;
}

static int reason_add(struct reasons *reasons, uint32_t value, const char *name)
{
	size_t prefix = strlen(CORE_PREFIX);
	struct reason *more;

	if (!name || reasons->count == REASONS_MAX || reasons_find(reasons, value))
		return 0;
	if (strncmp(name, CORE_PREFIX, prefix) == 0)
		name += prefix;
	more = reallocarray(reasons->reasons, reasons->count + 1, sizeof(*more));
	if (!more)
		return -ENOMEM;
	reasons->reasons = more;
	more += reasons->count;
	*more = (struct reason){value, strdup(name)};
	if (!more->name)
		return -ENOMEM;
	reasons->count++;
	return 0;
}

int reasons_add(struct reasons *reasons, const struct btf *btf, uint32_t first)
{
	uint32_t end = btf__type_cnt(btf);

	for (uint32_t id = first; id < end; id++) {
		const struct btf_type *type = btf__type_by_id(btf, id);
		const struct btf_enum *value = btf_enum(type);

		if (!is_reasons(btf, type))
			continue;
		for (unsigned int i = 0; i < btf_vlen(type); i++, value++) {
			int r = reason_add(
				reasons, (uint32_t)value->val, btf__name_by_offset(btf, value->name_off));

			if (r < 0)
				return r;
		}
	}
	return 0;
}

void reasons_free(struct reasons *reasons)
{
	for (size_t i = 0; i < reasons->count; i++)
		free(reasons->reasons[i].name);
	free(reasons->reasons);
	*reasons = (struct reasons){};
}

const char *reasons_find(const struct reasons *reasons, uint32_t value)
{
	for (size_t i = 0; i < reasons->count; i++)
		if (reasons->reasons[i].value == value)
			return reasons->reasons[i].name;
	return NULL;
}
