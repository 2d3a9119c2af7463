// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* Any bytes as the beginning of a backend's answer: what a part of it says, all of it says, too. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/service/check_health.h"
#include "fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size)
{
	int all = check_status_read((const char *)input, size);

	REQUIRE(all == 0 || all == -EBADMSG || (all >= 100 && all <= 599));
	for (size_t part = 0; part < size && part < 32; part++) {
		char *bytes = malloc(part + 1);
		int status;

		REQUIRE(bytes);
		memcpy(bytes, input, part);
		status = check_status_read(bytes, part);
		free(bytes);
		REQUIRE(status == 0 || status == all);
	}
	return 0;
}
