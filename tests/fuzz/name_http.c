// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* Any bytes as the beginning of an HTTP stream: what is told is printable. */
#include <errno.h>
#include <string.h>

#include "fuzz/name.h"

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size)
{
	struct name_request request = {};
	int r = name_http_read(input, size, &request);

	REQUIRE(r == 0 || r == -EAGAIN || r == -EPROTO);
	name_check(request.name);
	REQUIRE(strlen(request.path) < NAME_PATH_MAX);
	for (const char *c = request.path; *c; c++)
		REQUIRE(*c > 0x20 && *c < 0x7f && *c != 0x3f && *c != 0x23);
	if (r == -EPROTO)
		REQUIRE(!request.name[0] && !request.path[0] && !request.h2c);
	return 0;
}
