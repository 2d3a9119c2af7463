// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* Any bytes as the beginning of a TLS stream: more of them never turn a name into another. */
#include <errno.h>
#include <string.h>

#include "fuzz/name.h"

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
