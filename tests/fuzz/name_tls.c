// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* Any bytes as the beginning of a TLS stream: more of them never turn a name into another. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/name.h"

#define REQUIRE(condition)                                                                                   \
	do {                                                                                                 \
		if (!(condition)) {                                                                          \
			fprintf(stderr, "name_tls: %s\n", #condition);                                       \
			abort();                                                                             \
		}                                                                                            \
	} while (0)

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size);

static void name_check(const char *name)
{
	REQUIRE(strlen(name) < NAME_TEXT_MAX);
	REQUIRE(strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-_.:") == strlen(name));
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size)
{
	char name[NAME_TEXT_MAX] = "", longer[NAME_TEXT_MAX] = "";
	int r = name_tls_read(input, size, name);

	REQUIRE(r == 0 || r == -EAGAIN || r == -EPROTO);
	if (r == 0) {
		name_check(name);
	} else {
		REQUIRE(!name[0]);
	}
	/* a beginning that tells a name tells the same one as the whole */
	if (size && name_tls_read(input, size - 1, longer) == 0 && longer[0] && r == 0)
		REQUIRE(strcmp(name, longer) == 0);
	return 0;
}
