/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* What holds for every name that is told, whoever told it. */
#ifndef WEIR_TESTS_FUZZ_NAME_H
#define WEIR_TESTS_FUZZ_NAME_H

#include <string.h>

#include "agent/flow/name.h"
#include "fuzz/fuzz.h"

static inline void name_check(const char *name)
{
	REQUIRE(strlen(name) < NAME_TEXT_MAX);
	REQUIRE(strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-_.:") == strlen(name));
}

#endif
