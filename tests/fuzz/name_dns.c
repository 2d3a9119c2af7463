// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* Any bytes as a DNS message: what is told are a name and whole addresses. */
#include <errno.h>
#include <string.h>

#include "fuzz/name.h"

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size)
{
	struct name_answers answers = {};
	int r = name_dns_read(input, size, &answers);

	REQUIRE(r == 0 || r == -EPROTO);
	REQUIRE(answers.count <= NAME_ADDRESSES_MAX);
	REQUIRE(r == -EPROTO ? !answers.name[0] && !answers.count : answers.name[0]);
	name_check(answers.name);
	for (unsigned int i = 0; i < answers.count; i++) {
		REQUIRE(answers.answer[i].address.family == 4 || answers.answer[i].address.family == 6);
		REQUIRE(answers.answer[i].ttl <= INT32_MAX);
	}
	return 0;
}
